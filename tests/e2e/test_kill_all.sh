#!/bin/bash
# All nodes die by SIGKILL under load: nothing acknowledged is lost.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3
wfs mkdir /wfs/load
for round in 1 2 3; do
	wfs mkdir /wfs/load/$round
	wfs_start "$E2E_HELPERS/ackload" write /wfs/load/$round "$E2E_TMP/ack" 4
	load=$!
	wait_until 60 sh -c "[ \$(grep -c = '$E2E_TMP/ack.0') -ge 60 ]"
	kill_nodes 0 1 2
	kill -9 $load 2>/dev/null || :
	wait $load || :
	ctl cluster start >/dev/null
	wfs "$E2E_HELPERS/ackload" verify /wfs/load/$round "$E2E_TMP/ack" 4 || fail "lost"
	expect 0 ctl fsck
done

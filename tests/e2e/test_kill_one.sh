#!/bin/bash
# One node dies by SIGKILL under load and comes back: nothing is lost.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3 --timeout 4
wfs mkdir /wfs/load
wfs_start "$E2E_HELPERS/ackload" write /wfs/load "$E2E_TMP/ack" 4 20
load=$!
wait_until 60 sh -c "[ \$(grep -c = '$E2E_TMP/ack.0') -ge 60 ]"
kill_nodes 2
ctl node start 2 >/dev/null
wait $load || :
wfs "$E2E_HELPERS/ackload" verify /wfs/load "$E2E_TMP/ack" 4 || fail "lost"
expect 0 ctl fsck

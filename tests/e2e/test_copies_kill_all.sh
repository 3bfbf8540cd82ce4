#!/bin/bash
# All nodes die by SIGKILL at once, at a random moment under a load, and are started again:
# nothing acknowledged is lost, on any copy. In every other round the load is not killed
# with them: it rides through the restart without an error.
#   test_copies_kill_all.sh [ROUNDS]      3, or CHAOS_ROUNDS; 50 with CHAOS_LONG=1
# limit: 1800
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/chaos.sh"

rounds=${1:-${CHAOS_ROUNDS:-${long:+50}}}
own_cluster --nodes 3 --size 512M --copies 2 --lease 2 --timeout 30
wait_healthy 20
wfs mkdir /wfs/load
acknowledged()
{
	cat "$E2E_TMP"/ack.? 2>/dev/null | grep -c = || :
}
kill_all()
{
	local pids_now
	pids_now=$(cat "$WFS_CLUSTER"/node?/wfsd.pid)
	kill -9 $pids_now
	[ $1 = ride ] || kill -9 $load 2>/dev/null || :
	wait_until 10 sh -c "! kill -0 $(echo $pids_now | sed 's/ / 2>\/dev\/null || kill -0 /g')"
}
RANDOM=${CHAOS_SEED:-$$}
echo "seed ${CHAOS_SEED:-$$}"
for round in $(seq "${rounds:-3}"); do
	rm -f "$E2E_TMP"/ack.?
	wfs mkdir /wfs/load/$round
	on $((round % 3)) "$E2E_HELPERS/ackload" write /wfs/load/$round "$E2E_TMP/ack" 4 \
		>"$E2E_TMP/ackload.log"
	load=$!
	wait_until 60 sh -c "[ \$(cat '$E2E_TMP'/ack.? | grep -c =) -ge 20 ]"
	sleep $((RANDOM % 2)).$((RANDOM % 10))$((RANDOM % 10))
	[ $((round % 2)) = 0 ] || {
		kill_all ride
		ctl cluster start >/dev/null
		was=$(acknowledged)
		wait_until 30 sh -c "[ \$(cat '$E2E_TMP'/ack.? | grep -c =) -ge $((was + 20)) ] ||
			! kill -0 $load"
		kill -0 $load || fail "the load ended: $(cat "$E2E_TMP/ackload.log")"
		! grep -hB 1 '!' "$E2E_TMP"/ack.? || fail "an error"
		sleep 0.$((RANDOM % 10))$((RANDOM % 10))
	}
	kill_all dead
	wait $load 2>/dev/null || :
	ctl cluster start >/dev/null
	ctl run --node $(((round + 1) % 3)) -- "$E2E_HELPERS/ackload" verify \
		/wfs/load/$round "$E2E_TMP/ack" 4 || fail "lost in round $round"
	wait_healthy 60
	expect 0 ctl fsck
	out=
	wfs rm -rf /wfs/load/$round
	# What is removed is kept for 10 s after a restart, since programs may have it open.
	[ $((round % 8)) != 0 ] || wait_until 60 purged
done

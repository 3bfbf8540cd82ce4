#!/bin/bash
# A node is stopped (SIGSTOP) under load for longer than its lease, and goes on: it believes
# that it still leads. It acknowledges nothing that is lost, and no read is stale: registers
# are written on one host and read on the others, the stopped one among them, and each
# value is held against what was acknowledged before the read began (register.c).
#   CHAOS_LONG=1: for 30 s instead of 9, each node, and for times about the lease's.
# limit: 900
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/chaos.sh"

# The cluster must not end with a stopped process.
frozen=
thaw()
{
	[ -z "$frozen" ] || kill -CONT "$frozen" 2>/dev/null || :
}
# stop_node NODE SECONDS
stop_node()
{
	load_start $((($1 + 1) % 3)) $((($1 + 2) % 3))
	# On the stopped node's host: a reader, and writes that are verified.
	on "$1" "$E2E_HELPERS/register" read $top "$board" "$stop" far
	wfs mkdir $top/ack
	on "$1" "$E2E_HELPERS/ackload" write $top/ack "$mine/ack" 2 >"$mine/ackload"
	ackload=$!
	wait_until 30 sh -c "[ \$(cat '$mine'/ack.? | grep -c =) -ge 20 ]"
	frozen=$(pid_of "$1")
	kill -STOP "$frozen"
	sleep "$2"
	pause_limit 8000
	kill -CONT "$frozen"
	frozen=
	# What the reader on its host sees is current at once, or it has ended with an error.
	load_moves 30
	wait_healthy 60
	was=$(cat "$mine"/ack.? | grep -c =)
	wait_until 30 sh -c "[ \$(cat '$mine'/ack.? | grep -c =) -ge $((was + 20)) ]"
	! grep -h '!' "$mine"/ack.? || fail "an error of ackload"
	kill -9 $ackload
	wait $ackload || :
	pids=${pids% "$ackload"}
	ctl run --node "$1" -- "$E2E_HELPERS/ackload" verify $top/ack "$mine/ack" 2 ||
		fail "lost"
	load_stop "$1" $((($1 + 1) % 3))
	expect 0 ctl fsck
}

chaos_cluster --copies 2 --timeout 60
trap 'thaw; own_cluster_end' EXIT
if [ -z "$long" ]; then
	stop_node 1 9
else
	for node in 0 1 2; do
		stop_node $node 30
	done
	for seconds in 1 2 2.4 2.6 3 4 4.9 5.1 5.6 6; do
		stop_node 1 $seconds
	done
fi

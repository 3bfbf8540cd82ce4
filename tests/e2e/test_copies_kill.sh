#!/bin/bash
# SIGKILL of nodes under a load of unmodified programs: none meets an error, and none is
# held up for 8 s with the default lease. The programs' own node is started again within
# 2 s, and they ride through it; one that has none stays dead until others serve its
# buckets, and with three copies two of them, one after the other.
#   CHAOS_LONG=1: each node in turn, with two copies and with three
# limit: 600
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/chaos.sh"

# victim NODE: dies and stays away until the others have taken over.
victim()
{
	load_start $((($1 + 1) % 3)) $((($1 + 2) % 3))
	kill_nodes "$1"
	wait_left "$1" 20
	load_moves 20
	pause_limit 8000
	ctl node start "$1" >/dev/null
	wait_healthy 60
	load_moves 20
	load_stop $((($1 + 1) % 3)) "$1"
	expect 0 ctl fsck
}
# own_host NODE PAUSE: the node of half of the programs.
own_host()
{
	load_start "$1" $((($1 + 1) % 3))
	kill -9 "$(pid_of "$1")"
	sleep "$2"
	ctl node start "$1" >/dev/null
	load_moves 30
	wait_healthy 60
	pause_limit 8000
	load_stop "$1"
	expect 0 ctl fsck
}

chaos_cluster --copies 2 --timeout 30
own_host 0 1.5
[ -z "$long" ] || for node in 0 1 2; do
	victim $node
	own_host $node 0
	own_host $node 1
done
ctl cluster stop >/dev/null
ctl cluster destroy --force >/dev/null

chaos_cluster --copies 3 --timeout 30
load_start 0 0
kill_nodes 2
wait_left 2 20
load_moves 20
kill_nodes 1
wait_left 1 20
load_moves 20
pause_limit 8000
ctl cluster start >/dev/null
wait_healthy 60
load_moves 20
load_stop 0 1 2
expect 0 ctl fsck
[ -z "$long" ] || for node in 0 1 2; do
	victim $node
	own_host $node 1
done

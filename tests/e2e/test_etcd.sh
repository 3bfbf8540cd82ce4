#!/bin/bash
# The map in etcd: made, started, one member killed and nothing seen of it, stopped, started.
# limit: 240
. "$(dirname "$0")/lib.sh"

etcd_pid()
{
	cut -d' ' -f1 "$WFS_CLUSTER/node$1/etcd.pid"
}
etcd_runs()
{
	[ -e "/proc/$(etcd_pid "$1")/exe" ] && [ "$(cat "/proc/$(etcd_pid "$1")/comm")" = etcd ]
}

own_cluster --nodes 3 --timeout 5 --map etcd
[ ! -e "$WFS_CLUSTER/map.json" ] || fail "a map in a file too"
expect 0 ctl cluster status
expect 0 ctl node list --no-header -o id,state,lease_s
grep -q '^ *2 *up *[0-9]' <<<"$out" || fail "no lease"
wfs mkdir /wfs/d
for i in 1 2 3 4 5 6 7 8; do
	wfs sh -c "echo $i >/wfs/d/$i"
done
expect 0 ctl fs create scratch
expect 0 ctl run --fs scratch -- touch /wfs/there

# Any member dies under load: no call fails, and its wfsd starts it again.
wfs mkdir /wfs/load
wfs_start "$E2E_HELPERS/ackload" write /wfs/load "$E2E_TMP/ack" 2 15
load=$!
wait_until 60 sh -c "[ \$(grep -c = '$E2E_TMP/ack.0') -ge 20 ]"
for node in 0 1 2; do
	old=$(etcd_pid $node)
	kill -9 "$old"
	for i in 1 2 3 4 5 6 7 8 9 10; do
		expect 0 wfs cat "/wfs/d/$((i % 8 + 1))"
		sleep 0.2
	done
	wait_until 20 sh -c "[ \"\$(cut -d' ' -f1 $WFS_CLUSTER/node$node/etcd.pid)\" != $old ]"
	wait_until 20 etcd_runs $node
done
wait $load || fail "a call failed"
wfs "$E2E_HELPERS/ackload" verify /wfs/load "$E2E_TMP/ack" 2 || fail "lost"

# A wfsd that is killed leaves its member, and finds it again.
old=$(etcd_pid 1)
kill_nodes 1
etcd_runs 1 || fail "etcd died with its wfsd"
expect 0 ctl node start 1
[ "$(etcd_pid 1)" = "$old" ] || fail "not adopted"
wait_until 20 "$E2E_BIN/wfsctl" run -- cat /wfs/d/1 /wfs/d/2 /wfs/d/3 /wfs/d/4

# A clean stop of one ends its member, of all ends all; then all is there again, at once.
expect 0 ctl node stop 2
[ ! -e "$WFS_CLUSTER/node2/etcd.pid" ] || fail "etcd of node 2 runs on"
expect 0 ctl node list
expect 0 ctl node start 2
expect 0 ctl cluster stop
for node in 0 1 2; do
	[ ! -e "$WFS_CLUSTER/node$node/etcd.pid" ] || fail "etcd of node $node runs on"
done
expect 2 ctl cluster status
says "cluster start"
began=$(now_ms)
expect 0 ctl cluster start
[ $(($(now_ms) - began)) -lt 15000 ] || fail "slow start"
wait_until 20 "$E2E_BIN/wfsctl" run -- cat /wfs/d/1 /wfs/d/2 /wfs/d/3 /wfs/d/4
[ "$(wfs cat /wfs/d/7)" = 7 ] || fail "lost"
expect 0 ctl fsck
expect 0 ctl cluster stop
expect 0 ctl cluster destroy --force
[ ! -e "$WFS_CLUSTER/node0" ] || fail "not destroyed"

#!/bin/bash
# fsck --compare finds a key that one copy has otherwise; rebuild --limit is kept; commands
# that need copies are refused without.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 2 --copies 2 --lease 2
wfs sh -c 'mkdir /wfs/d && echo y >/wfs/d/count && head -c 3M /dev/urandom >/wfs/d/large'
count=$(wfs stat -c %i /wfs/d/count)
expect 0 ctl fsck --compare
says "0 errors"
ctl cluster stop >/dev/null
damage "$WFS_CLUSTER/node1/index0" "$count" <<-'END'
	import struct, sys
	from rocks import Index, inode_key
	index = Index(sys.argv[1])
	count = inode_key(int(sys.argv[2]))
	v = index.get(count)
	struct.pack_into("<I", v, 8, 3)
	index.put(count, v)
	index.close()
END
ctl cluster start >/dev/null
expect 0 ctl rebuild --wait --timeout 30
expect 1 ctl fsck --compare
says copies-differ "type 'I'"

expect 0 ctl rebuild --limit 7 --json
says '"limit_mib_s": 7' '"whole": true'
expect 2 ctl rebuild --limit much
expect 1 ctl node drain 0
says "node add"
expect 1 ctl node remove 1
says "drain 1"
expect 2 ctl node drain 7
expect 1 ctl node replace 1
says "stop"

# The only copy in sync: not without --force.
ctl node stop 1 >/dev/null
wait_until 20 sh -c "'$E2E_BIN/wfsctl' status --json | grep -q '\"buckets_reduced\": 256'"
kill_nodes 0
expect 1 ctl node remove 0
says "only copy" "256 buckets" --force
expect 1 ctl node replace 0
says "only copy" --force
expect 0 ctl cluster start
expect 0 ctl rebuild --wait --timeout 30
ctl cluster stop >/dev/null

WFS_CLUSTER=$E2E_TMP/one
ctl cluster create --nodes 1 --size 160M >/dev/null
for command in "node add" "node drain 0" "node remove 0" "node replace 0" rebuild; do
	expect 2 ctl $command
	says copies
done

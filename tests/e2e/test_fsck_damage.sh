#!/bin/bash
# fsck finds an inode that is gone and a link count that is wrong.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs sh -c 'mkdir /wfs/d && echo x >/wfs/d/gone && echo y >/wfs/d/count'
gone=$(wfs stat -c %i /wfs/d/gone)
count=$(wfs stat -c %i /wfs/d/count)
expect 0 ctl fsck
ctl cluster stop >/dev/null
damage "$WFS_CLUSTER/node0/index0" "$gone" "$count" <<-'END'
	import struct, sys
	from rocks import Index, inode_key
	index = Index(sys.argv[1])
	gone, count = inode_key(int(sys.argv[2])), inode_key(int(sys.argv[3]))
	index.get(gone)
	index.delete(gone)
	v = index.get(count)
	assert struct.unpack_from("<I", v, 8)[0] == 1
	struct.pack_into("<I", v, 8, 3)
	index.put(count, v)
	index.close()
END
ctl cluster start >/dev/null
expect 1 ctl fsck
says dangling-name gone main:/d nlink main:/d/count DAMAGED
expect 1 ctl fsck --json
printf '%s' "$out" | $E2E_PYTHON -m json.tool >/dev/null || fail "not JSON"
ctl cluster stop >/dev/null
expect 2 ctl fsck

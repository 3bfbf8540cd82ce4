#!/bin/bash
# A full cluster says ENOSPC; what is there stays, deletes work, space comes back.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs sh -c 'echo kept >/wfs/kept; mkdir /wfs/d /wfs/d/1 /wfs/d/2 /wfs/d/3 /wfs/d/4'
expect 1 ctl run -- dd if=/dev/zero of=/wfs/big bs=1M count=400
says "No space left"
[ "$(wfs cat /wfs/kept)" = kept ] || fail "kept"
expect 1 ctl run -- dd if=/dev/zero of=/wfs/small bs=4k count=10000
wfs rm -r /wfs/d
wfs rm /wfs/big
wait_until 30 "$E2E_BIN/wfsctl" run -- dd if=/dev/zero of=/wfs/again bs=1M count=40
wfs cmp -n $((40 << 20)) /wfs/again /dev/zero
expect 0 ctl fsck

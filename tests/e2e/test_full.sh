#!/bin/bash
# A full cluster says ENOSPC; what is there stays, deletes work, space comes back.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs sh -c 'echo kept >/wfs/kept'
expect 1 ctl run -- dd if=/dev/zero of=/wfs/big bs=1M count=400
says "No space left"
[ "$(wfs cat /wfs/kept)" = kept ] || fail "kept"
wfs rm /wfs/big
wait_until 30 "$E2E_BIN/wfsctl" run -- dd if=/dev/zero of=/wfs/again bs=1M count=40
wfs cmp -n $((40 << 20)) /wfs/again /dev/zero
expect 0 ctl fsck

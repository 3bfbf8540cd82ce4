#!/bin/bash
# A second filesystem has its own root and survives a restart.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 2
wfs sh -c 'echo main >/wfs/f'
expect 0 ctl fs create other
ctl run --fs other -- sh -c '[ -z "$(ls -A /wfs)" ] && echo other >/wfs/f'
expect 1 ctl fs create other
ctl cluster stop >/dev/null
ctl cluster start >/dev/null
[ "$(ctl run --fs other -- cat /wfs/f)" = other ] || fail "other"
[ "$(wfs cat /wfs/f)" = main ] || fail "main"
[ "$(ctl run --node 1 --fs other -- cat /wfs/f)" = other ] || fail "node 1"
expect 0 ctl fsck

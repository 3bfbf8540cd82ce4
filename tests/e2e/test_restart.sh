#!/bin/bash
# A clean stop and start keeps everything; running programs go on.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 2
tree_make "$E2E_TMP/tree"
wfs cp -a "$E2E_TMP/tree" /wfs/
ctl cluster stop >/dev/null
expect 1 ctl run -- true
ctl cluster start >/dev/null
wfs diff -r --no-dereference --exclude=fifo "$E2E_TMP/tree" /wfs/tree || fail "not the same"
expect 0 ctl fsck
says clean

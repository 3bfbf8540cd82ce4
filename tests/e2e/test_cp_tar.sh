#!/bin/bash
# A tree copied in by cp -a, packed by tar, synced by rsync, is the same tree.
. "$(dirname "$0")/lib.sh"

work_dir
tree_make "$E2E_TMP/tree"
wfs cp -a "$E2E_TMP/tree" "$work/"
wfs diff -r --no-dereference --exclude=fifo "$E2E_TMP/tree" "$work/tree" || fail "diff after cp -a"
[ -z "$(wfs rsync -aniH --delete "$E2E_TMP/tree/" "$work/tree/")" ] ||
	fail "attributes differ: $(wfs rsync -aniH --delete "$E2E_TMP/tree/" "$work/tree/" | head)"
wfs mkdir "$work/tar"
wfs sh -c "tar cf - -C $work tree | tar xf - -C $work/tar"
wfs diff -r --no-dereference --exclude=fifo "$E2E_TMP/tree" "$work/tar/tree" || fail "diff after tar"
wfs rsync -aH "$E2E_TMP/tree/" "$work/synced/"
[ -z "$(wfs rsync -aiH "$E2E_TMP/tree/" "$work/synced/")" ] || fail "second rsync copies"
wfs cp -a "$work/tree" "$E2E_TMP/back"
diff -r --no-dereference --exclude=fifo "$E2E_TMP/tree" "$E2E_TMP/back" || fail "diff after copying out"
wfs rm -r "$work/tree" "$work/tar"
[ "$(wfs ls "$work")" = synced ] || fail "rm -r left something"

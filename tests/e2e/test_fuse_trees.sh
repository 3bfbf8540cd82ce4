#!/bin/bash
# Real programs on the mount: cp -a, tar, rsync, find, git; the same tree by another node's
# mount and under the shim.
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

fuse_mount 0 1
a=$E2E_TMP/m0/$name b=$E2E_TMP/m1/$name
mkdir "$a"
tree_make "$E2E_TMP/tree"
list()
{
	(cd "$1" && find . -printf '%P %y %m %s %l %n %T@\n' | grep -v '^ d\|^[^ ]* d ' | sort)
}
cp -a "$E2E_TMP/tree" "$a/copy"
list "$E2E_TMP/tree" >"$E2E_TMP/want"
for place in "$a" "$b"; do
	diff -r --no-dereference --exclude fifo "$E2E_TMP/tree" "$place/copy" || fail "$place"
	list "$place/copy" | cmp - "$E2E_TMP/want" || fail "$place: attributes"
done
wfs sh -c "cd /wfs/$name/copy && find . -printf '%P %y %m %s %l %n %T@\n'" |
	grep -v '^ d\|^[^ ]* d ' | sort | cmp - "$E2E_TMP/want" || fail "shim: attributes"

tar -C "$a" -cf - copy | tar -C "$b" -xf - --one-top-level=tar
diff -r --no-dereference --exclude fifo "$E2E_TMP/tree" "$a/tar/copy" || fail "tar"
rsync -a "$b/tar/copy/" "$a/rsync/"
expect 0 rsync -an --itemize-changes "$a/rsync/" "$b/copy/"
[ -z "$(grep -v '/$' <<<"$out")" ] || fail "rsync finds differences"

git init -q "$E2E_TMP/repo"
cp -r "$(dirname "$0")" "$E2E_TMP/repo/e2e"
git -C "$E2E_TMP/repo" add -A
git -C "$E2E_TMP/repo" -c user.name=x -c user.email=x commit -qm one
git clone -q --no-local "$E2E_TMP/repo" "$a/git"
git -C "$b/git" fsck --strict
git -C "$b/git" gc -q
git -C "$a/git" status --porcelain >"$E2E_TMP/status"
[ ! -s "$E2E_TMP/status" ] || fail "git status: $(cat "$E2E_TMP/status")"
git -C "$a/git" fsck --strict

rm -r "$b/git" "$b/copy" "$b/tar" "$b/rsync"
[ -z "$(ls -A "$a")" ] || fail "not empty"
expect 0 ctl fsck

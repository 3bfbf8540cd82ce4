#!/bin/bash
# grep -r, find and du see in WFS what they see outside.
. "$(dirname "$0")/lib.sh"

work_dir
tree_make "$E2E_TMP/tree"
wfs cp -a "$E2E_TMP/tree" "$work/"
(cd "$E2E_TMP/tree" && grep -rlsa --devices=skip a . | sort) >"$E2E_TMP/a"
wfs sh -c "cd $work/tree && grep -rlsa --devices=skip a ." | sort >"$E2E_TMP/b"
cmp "$E2E_TMP/a" "$E2E_TMP/b" || fail "grep -r"
(cd "$E2E_TMP/tree" && find . -printf '%p %y %m %s %n %T@\n' | grep -v ' d ' | sort) >"$E2E_TMP/a"
wfs sh -c "cd $work/tree && find . -printf '%p %y %m %s %n %T@\n'" | grep -v ' d ' | sort >"$E2E_TMP/b"
diff "$E2E_TMP/a" "$E2E_TMP/b" || fail "find -printf"
[ "$(find "$E2E_TMP/tree" -type d -printf x | wc -c)" = \
	"$(wfs find "$work/tree" -type d -printf x | wc -c)" ] || fail "find -type d"
wfs sh -c "cd $work && touch -d @2000000000 mark && touch -d @2000000001 tree/f1new"
[ "$(wfs find "$work/tree" -newer "$work/mark" -type f)" = "$work/tree/f1new" ] ||
	fail "find -newer"

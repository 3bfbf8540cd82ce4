#!/bin/bash
# Another user is held to the permissions.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || { echo "not root: skipped"; exit 0; }
chmod 755 "$E2E_TMP/.." "$E2E_TMP"
work_dir
wfs sh -c "umask 022; echo secret >$work/secret; chmod 600 $work/secret; echo open >$work/open
	mkdir -m 1777 $work/tmp; echo x >$work/tmp/root"
other="setpriv --reuid 65534 --regid 65534 --clear-groups"
[ "$($other "$E2E_BIN/wfsctl" run -- cat "$work/open")" = open ] || fail "read"
expect 1 $other "$E2E_BIN/wfsctl" run -- cat "$work/secret"
says "Permission denied"
expect 1 $other "$E2E_BIN/wfsctl" run -- touch "$work/new"
says "Permission denied"
$other "$E2E_BIN/wfsctl" run -- touch "$work/tmp/mine"
[ "$(wfs stat -c %u "$work/tmp/mine")" = 65534 ] || fail "owner"
expect 1 $other "$E2E_BIN/wfsctl" run -- rm -f "$work/tmp/root"
says "not permitted"

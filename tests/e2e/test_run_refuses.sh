#!/bin/bash
# wfsctl run refuses what the shim cannot be loaded into.
. "$(dirname "$0")/lib.sh"

echo 'int main(void) { return 0; }' >"$E2E_TMP/s.c"
gcc -static -o "$E2E_TMP/static" "$E2E_TMP/s.c"
expect 1 ctl run -- "$E2E_TMP/static"
says static
printf '#!%s\n' "$E2E_TMP/static" >"$E2E_TMP/script"
chmod +x "$E2E_TMP/script"
expect 1 ctl run -- "$E2E_TMP/script"
says static
gcc -o "$E2E_TMP/go" "$E2E_TMP/s.c"
objcopy --add-section .go.buildinfo="$E2E_TMP/s.c" "$E2E_TMP/go"
expect 1 ctl run -- "$E2E_TMP/go"
says Go
if [ "$(id -u)" = 0 ]; then
	gcc -o "$E2E_TMP/suid" "$E2E_TMP/s.c"
	chown 65534 "$E2E_TMP/suid"
	chmod u+s "$E2E_TMP/suid"
	expect 1 ctl run -- "$E2E_TMP/suid"
	says rights
fi
LD_PRELOAD=libc.so.6 expect 0 ctl run -- sh -c 'echo $LD_PRELOAD'
case $out in
libc.so.6:*libwfs_preload.so) ;;
*) fail "own preload" ;;
esac

#!/bin/bash
# Programs that cannot be preloaded work on the mount, and lie there; wfsctl run names it as
# the way out before it starts anything.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

m=$E2E_TMP/m0
a=$m/$name
gcc -static -O1 -o "$E2E_TMP/static" "$(dirname "$0")/rawcalls.c"
printf '#! %s -x\n' "$E2E_TMP/static" >"$E2E_TMP/script"
printf '#!/usr/bin/env -S A=1 %s\n' "$E2E_TMP/static" >"$E2E_TMP/env"
chmod +x "$E2E_TMP/script" "$E2E_TMP/env"
work_dir
wfs cp "$E2E_TMP/static" "/wfs/$name/static"
# Not mounted yet.
for program in "$E2E_TMP/static" "$E2E_TMP/script" "$E2E_TMP/env" "/wfs/$name/static"; do
	expect 1 ctl run -- "$program" "$E2E_TMP"
	says "a static program" "wfsctl mount"
	one_line
done
expect 1 ctl run --mount "$m" -- "$E2E_TMP/static"
says "wfsctl mount $m"

fuse_mount 0
expect 1 ctl run --mount "$m" -- "$a/static"
says "is mounted on $m"
mkdir "$a/dir"
"$E2E_TMP/static" "$a/dir"
# The program lies there itself, and so do scripts and what runs them.
"$a/static" "$a/dir"
cp /bin/sh "$a/sh"
printf '#!%s\n%s %s && echo "ran $0 $1"\n' "$a/sh" "$a/static" "$a/dir" >"$a/script"
chmod 755 "$a/script"
[ "$("$a/script" one)" = "ran $a/script one" ] || fail "script"
"$a/sh" -c 'read x' < <(sleep 1) &
wait_until 5 sh -c "! dd if=/dev/null of='$a/sh' conv=notrunc status=none"
wait $! || :
cat >"$a/plug.c" <<-'END'
	int plug(void) { return 42; }
END
gcc -shared -fPIC -o "$a/plug.so" "$a/plug.c"
$E2E_PYTHON -c 'import ctypes, sys; assert ctypes.CDLL(sys.argv[1]).plug() == 42' "$a/plug.so"
# A program that is replaced while it runs goes on as it was.
cp /bin/sleep "$a/sleep"
"$a/sleep" 1 &
mv "$a/sh" "$a/sleep"
wait $! || fail "replaced"
# In a root of its own, as a container has it.
mkdir -p "$a/root/tmp"
cp "$E2E_TMP/static" "$a/root/program"
chroot "$a/root" /program /tmp || fail "chroot"
unshare --mount --pid --fork "$a/static" "$a/dir" || fail "other namespaces"
# A user in another pid namespace still has his groups.
chmod 755 "$E2E_TMP/.." "$E2E_TMP"
chgrp 2001 "$a/dir"
chmod 770 "$a/dir"
unshare --pid --fork --mount-proc setpriv --reuid 1001 --regid 1001 --groups 2001 -- \
	"$a/static" "$a/dir" || fail "groups in another pid namespace"

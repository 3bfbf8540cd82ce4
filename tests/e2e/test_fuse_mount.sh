#!/bin/bash
# wfsctl mount, umount, mounts; a mount whose daemon died; all the ways to unmount.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

m=$E2E_TMP/m0
expect 1 ctl umount "$m"
says "no WFS is mounted"
expect 2 ctl mount "$E2E_TMP/no/parent"
says "no such file"
expect 2 ctl mount --fs nothing "$m"
says "no such filesystem"
expect 2 setpriv --reuid 65534 --clear-groups "$E2E_BIN/wfsctl" mount "$m"
says root
expect 2 "$E2E_BIN/wfs-fuse" "$E2E_TMP"
says "--socket"
expect 2 "$E2E_BIN/wfs-fuse" --socket "$E2E_TMP/none" "$E2E_TMP"
says "no wfsd"
expect 0 "$E2E_BIN/wfs-fuse" --help
says "wfsctl mount" Example
mkdir "$E2E_TMP/file.d"
touch "$E2E_TMP/file"
expect 1 ctl mount "$E2E_TMP/file"
says "not a directory"

fuse_mount 0
out=$(ctl mounts --no-header | grep "$m ")
says "$m" main up
ctl mounts --json | $E2E_PYTHON -c '
import json, sys
mine = [x for x in json.load(sys.stdin) if x["mountpoint"] == sys.argv[1]]
assert mine == [{"mountpoint": sys.argv[1], "filesystem": "main", "state": "up"}], mine
' "$m"
expect 0 ctl mount "$m"
says "already mounted"
findmnt -n -o FSTYPE,SOURCE "$m" | grep -q 'fuse.wfs *wfs:main' || fail "findmnt"
[ "$(stat -f -c %S "$m")" = 4096 ] || fail "statfs"

mkdir "$m/$name"
echo one >"$m/$name/a"
exec 9<"$m/$name/a"
expect 1 ctl umount "$m"
says "in use" "--force"
expect 0 ctl umount --force "$m"
[ "$(cat <&9)" = one ] || fail "what was open stays readable"
expect 1 cat "$m/$name/a"
exec 9<&-
wait_until 10 sh -c "! pgrep -f 'wfs-fuse .* $m\$'"

# Its daemon dies: everybody is told, and it can be mounted again.
fuse_mount 0
[ "$(cat "$m/$name/a")" = one ] || fail "mounted again"
exec 9<"$m/$name/a"
kill -9 "$(fuse_pid "$m")"
wait_until 10 sh -c "! stat '$m'"
expect 1 stat "$m"
says "not connected"
expect 1 cat <&9
says "not connected"
out=$(ctl mounts)
says dead
expect 0 ctl mount "$m"
says "anew"
[ "$(cat "$m/$name/a")" = one ] || fail "repaired"
exec 9<&-

# SIGTERM takes it away and loses nothing, not even what is only in a mapping.
$E2E_PYTHON - "$m/$name/mapped" "$(fuse_pid "$m")" <<-'END'
	import mmap, os, signal, sys, time
	fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
	os.ftruncate(fd, 8192)
	p = mmap.mmap(fd, 8192)
	p[4090:4096] = b"mapped"
	os.kill(int(sys.argv[2]), signal.SIGTERM)
	while os.path.ismount(os.path.dirname(os.path.dirname(sys.argv[1]))):
	    time.sleep(0.02)
	os._exit(0)
END
wait_until 10 sh -c "! pgrep -f 'wfs-fuse .* $m\$'"
! mountpoint -q "$m" || fail "still mounted"
[ "$(wfs dd if=/wfs/$name/mapped bs=1 skip=4090 count=6 status=none)" = mapped ] ||
	fail "a mapping was not written back"

for how in "umount" "fusermount3 -u" "$E2E_BIN/wfsctl umount"; do
	ctl mount "$m" >/dev/null
	pid=$(fuse_pid "$m")
	[ "$(cat "$m/$name/a")" = one ] || fail "$how: content"
	$how "$m" >/dev/null
	wait_until 10 sh -c "! kill -0 $pid"
	! mountpoint -q "$m" || fail "$how: still mounted"
done

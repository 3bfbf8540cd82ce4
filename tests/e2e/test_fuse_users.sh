#!/bin/bash
# Many users on one mount: each is who he is, with all his groups; the owner of the files
# decides, not attributes that the kernel has seen before.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

fuse_mount 0 1
chmod 755 "$E2E_TMP/.." "$E2E_TMP"
a=$E2E_TMP/m0/$name b=$E2E_TMP/m1/$name
mkdir -m 755 "$a"
as()
{
	local ids="--reuid $1 --regid $2" groups=--clear-groups
	[ -z "$3" ] || groups="--groups $3"
	shift 3
	setpriv $ids $groups -- "$@"
}
umask 022
echo secret >"$a/secret"
chmod 600 "$a/secret"
echo shared >"$a/shared"
chgrp 2001 "$a/shared"
chmod 664 "$a/shared"
expect 1 as 1001 1001 "" cat "$a/secret"
says "Permission denied"
expect 2 as 1001 1001 "" sh -c "echo x >>$a/shared"
says "Permission denied"
expect 1 as 1001 1001 "" touch "$a/new"
says "Permission denied"
# By a supplementary group, by the first and by the last of many.
as 1001 1001 2001 sh -c "echo by-group >>$a/shared"
as 1001 2001 "" sh -c "echo by-gid >>$b/shared"
as 1001 1001 "$(seq -s, 3000 3060),2001" sh -c "echo by-many >>$a/shared"
[ "$(cat "$b/shared")" = $'shared\nby-group\nby-gid\nby-many' ] || fail "groups"
# A group may also take away.
chmod 604 "$a/shared"
as 1001 1001 "" cat "$a/shared" >/dev/null
expect 1 as 1001 1001 2001 cat "$a/shared"
says "Permission denied"

# What changes elsewhere holds at once, also on the way to a file, and for access(2).
mkdir -m 755 "$a/way"
echo x >"$a/way/x"
as 1001 1001 "" test -r "$a/way/x" || fail "access"
chmod 700 "$b/way"
expect 1 as 1001 1001 "" cat "$a/way/x"
expect 1 as 1001 1001 "" test -r "$a/way/x"
chmod 755 "$b/way"
chmod 640 "$b/way/x"
expect 1 as 1001 1001 "" test -r "$a/way/x"
expect 0 as 1001 1001 "" test -e "$a/way/x"
as 1001 1001 0 cat "$a/way/x" >/dev/null

# Ownership of what is made; setgid directories; sticky ones.
mkdir -m 1777 "$a/tmp"
as 1001 1002 "" sh -c "umask 027; echo mine >$a/tmp/mine; mkdir $a/tmp/d; ln -s x $a/tmp/l;
	mkfifo $a/tmp/p"
for f in mine d l p; do
	[ "$(stat -c %u:%g "$b/tmp/$f")" = 1001:1002 ] || fail "owner of $f"
done
[ "$(stat -c %a "$b/tmp/mine"):$(stat -c %a "$b/tmp/d")" = 640:750 ] || fail "umask"
expect 1 as 1003 1003 "" rm -f "$a/tmp/mine"
says "not permitted"
expect 1 as 1003 1003 "" mv "$a/tmp/mine" "$a/tmp/theirs"
as 1001 1001 "" mv "$a/tmp/mine" "$a/tmp/still"
mkdir "$a/team"
chgrp 2002 "$a/team"
chmod 2775 "$a/team"
as 1001 1001 2002 sh -c "touch $a/team/f; mkdir $a/team/d"
[ "$(stat -c %g "$a/team/f" "$a/team/d" | tr '\n' ' ')" = "2002 2002 " ] || fail "setgid"
[ "$(stat -c %a "$a/team/d")" = 2755 ] || fail "setgid is handed on"
expect 1 as 1001 1001 2002 chown 1003 "$a/team/f"
as 1001 1001 2002,2003 chgrp 2003 "$a/team/f"
expect 1 as 1001 1001 2002 chgrp 2004 "$a/team/f"
expect 1 as 1003 1003 "" chmod 777 "$a/team/f"
expect 1 as 1003 1003 2003 touch -d 2001-01-01 "$a/team/f"
expect 1 as 1001 1001 "" mknod "$a/team/null" c 1 3

# Device nodes are names only; programs that change their rights work.
mknod -m 666 "$a/null" c 1 3
expect 2 as 1001 1001 "" sh -c "echo gone >$a/null"
says "Permission denied"
cp /usr/bin/id "$a/id"
chown 1005:1006 "$a/id"
chmod 6755 "$a/id"
[ "$(as 1001 1001 "" "$a/id" -u)" = 1005 ] || fail "setuid program"
[ "$(as 1001 1001 "" "$a/id" -g)" = 1006 ] || fail "setgid program"
expect 1 ctl run --mount "$E2E_TMP/m0" -- "$a/id"
says "changes its rights" "is mounted"
# Writing takes the bits away, unless root writes.
chmod 6777 "$a/id"
as 1001 1001 "" sh -c "echo >>$a/id"
[ "$(stat -c %a "$b/id")" = 777 ] || fail "setuid survived a write"
cp /usr/bin/id "$a/run"
chmod 711 "$a/run"
[ "$(as 1001 1001 "" "$a/run" -u)" = 1001 ] || fail "a program that may only be executed"
expect 1 as 1001 1001 "" cat "$a/run"
chmod 744 "$a/run"
expect 126 as 1001 1001 "" sh -c "$a/run"
as 1001 1001 "" cat "$a/run" >/dev/null

# An open descriptor stays what it was when it was opened.
$E2E_PYTHON - "$a/secret" <<-'END'
	import os, sys
	top = os.path.dirname(sys.argv[1])
	fd, d = os.open(sys.argv[1], os.O_RDWR), os.open(top, os.O_RDONLY)
	os.chmod(top, 0o700)
	os.setgroups([]); os.setgid(1001); os.setuid(1001)
	assert os.pread(fd, 100, 0) == b"secret\n"
	assert os.pwrite(fd, b"S", 0) == 1
	assert "secret" in os.listdir(d)
	try:
	    os.open("secret", os.O_RDONLY, dir_fd=d)
	    assert False
	except PermissionError:
	    pass
END
chmod 755 "$a"

#!/bin/bash
# The shim and the mount at one path, and the mounts of two nodes: what one has done the others
# see when its call returns, and appending is atomic between all of them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

fuse_mount 0 1
# Under the shim, WFS is where node 0's mount is.
shim()
{
	"$E2E_BIN/wfsctl" run --node 2 --mount "$E2E_TMP/m0" -- "$@"
}
a=$E2E_TMP/m0/$name b=$E2E_TMP/m1/$name
mkdir "$a"
cat >"$E2E_TMP/turns.py" <<-'END'
	# Two programs take turns: whoever's turn it is checks what the other did, and does more.
	import mmap, os, sys
	me, top, turns, r, w = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 0, 1
	def mine(n): return n % 2 == me
	body = lambda n: (b"%06d" % n) * (200 + n % 3000)
	fd = None
	for n in range(turns):
	    if mine(n):
	        if fd is None:
	            fd = os.open(f"{top}/f", os.O_RDWR | os.O_CREAT, 0o644)
	        os.ftruncate(fd, 0)
	        os.pwrite(fd, body(n), n * 7)
	        os.mkdir(f"{top}/d{n}")
	        open(f"{top}/d{n}/x", "w").write(str(n))
	        os.rename(f"{top}/d{n}/x", f"{top}/d{n}/y")
	        os.symlink(str(n), f"{top}/d{n}/link")
	        os.chmod(f"{top}/f", 0o600 + n % 64)
	        if n:
	            os.unlink(f"{top}/d{n-1}/y")
	            os.unlink(f"{top}/d{n-1}/link")
	            os.rmdir(f"{top}/d{n-1}")
	        os.write(w, b"x")
	        continue
	    assert os.read(r, 1) == b"x"
	    if fd is None:
	        fd = os.open(f"{top}/f", os.O_RDWR)
	    want = bytes(n * 7) + body(n)
	    assert os.fstat(fd).st_size == len(want)
	    assert os.lseek(fd, 0, os.SEEK_END) == len(want)
	    assert os.pread(fd, 1 << 20, 0) == want, n
	    assert open(f"{top}/f", "rb").read() == want, n
	    m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
	    assert m[:] == want, n
	    m.close()
	    assert os.stat(f"{top}/f").st_mode & 0o777 == 0o600 + n % 64
	    assert sorted(x for x in os.listdir(top) if x[0] == "d") == [f"d{n}"], n
	    assert sorted(os.listdir(f"{top}/d{n}")) == ["link", "y"]
	    assert os.readlink(f"{top}/d{n}/link") == str(n)
	    assert open(f"{top}/d{n}/y").read() == str(n)
	    assert not os.path.exists(f"{top}/d{n}/x") and not os.path.exists(f"{top}/d{n-1}")
END
turns()
{
	mkfifo "$E2E_TMP/there" "$E2E_TMP/back"
	($1 $E2E_PYTHON "$E2E_TMP/turns.py" 0 "$2" 60 >"$E2E_TMP/there" <"$E2E_TMP/back") &
	local pid=$!
	$3 $E2E_PYTHON "$E2E_TMP/turns.py" 1 "$4" 60 <"$E2E_TMP/there" >"$E2E_TMP/back" ||
		fail "$5: the second"
	wait $pid || fail "$5: the first"
	rm -r "$E2E_TMP/there" "$E2E_TMP/back" "$a"/*
}
turns "" "$a" "" "$b" "two mounts"
turns shim "$a" "" "$a" "shim and mount at one path"
turns "" "$b" shim "$a" "mount and shim"

cat >"$E2E_TMP/log.py" <<-'END'
	import os, sys
	fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
	for n in range(300):
	    line = b"%s %d %s\n" % (sys.argv[2].encode(), n, b"-" * (n * 37 % 9000))
	    assert os.write(fd, line) == len(line)
END
pids=
shim $E2E_PYTHON "$E2E_TMP/log.py" "$a/log" shim & pids="$pids $!"
$E2E_PYTHON "$E2E_TMP/log.py" "$a/log" a & pids="$pids $!"
$E2E_PYTHON "$E2E_TMP/log.py" "$a/log" a2 & pids="$pids $!"
$E2E_PYTHON "$E2E_TMP/log.py" "$b/log" b & pids="$pids $!"
for pid in $pids; do
	wait $pid || fail "append"
done
$E2E_PYTHON - "$b/log" <<-'END'
	import sys
	seen = {}
	for line in open(sys.argv[1], "rb"):
	    who, n, rest = line.split(b" ")
	    n = int(n)
	    assert n == seen.get(who, 0), line
	    assert rest == b"-" * (n * 37 % 9000) + b"\n", line
	    seen[who] = n + 1
	assert seen == {b"shim": 300, b"a": 300, b"a2": 300, b"b": 300}, seen
END
expect 0 ctl fsck

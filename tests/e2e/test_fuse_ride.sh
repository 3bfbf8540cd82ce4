#!/bin/bash
# The wfsd of a mount is killed and started again under its programs: they see a pause, or,
# when it is gone for longer than a call may take, an error until it is back.
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

own_cluster --nodes 3 --timeout 5
fuse_mount 0
a=$E2E_TMP/m0
stop=$E2E_TMP/stop
mkdir "$a/d"
cat >"$E2E_TMP/work.py" <<-'END'
	# Keeps a file without a name in mind, and makes and removes others.
	import os, random, sys
	top, stop, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
	r = random.Random(seed)
	want = bytearray(r.randbytes(3_000_000))
	fd = os.open(f"{top}/w{seed}", os.O_RDWR | os.O_CREAT, 0o600)
	os.pwrite(fd, want, 0)
	os.unlink(f"{top}/w{seed}")
	d = f"{top}/d{seed}"
	os.mkdir(d)
	log = os.open(f"{top}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
	open(f"{stop}.ready.{seed}", "w")
	n = 0
	while not os.path.exists(stop) or n < 30:
	    at, size = r.randrange(len(want)), r.randrange(1, 100000)
	    piece = r.randbytes(size)[:len(want) - at]
	    assert os.pwrite(fd, piece, at) == len(piece)
	    want[at:at + len(piece)] = piece
	    at = r.randrange(len(want))
	    assert os.pread(fd, size, at) == want[at:at + size], at
	    open(f"{d}/{n}", "w").write(str(n))
	    os.rename(f"{d}/{n}", f"{d}/x{n}")
	    if n >= 5:
	        os.unlink(f"{d}/x{n - 5}")
	    assert os.write(log, b"%d %d\n" % (seed, n)) > 0
	    n += 1
	assert sorted(os.listdir(d)) == sorted(f"x{i}" for i in range(n - 5, n))
	assert os.pread(fd, len(want), 0) == want and os.fstat(fd).st_nlink == 0
	lines = [int(l.split()[1]) for l in open(f"{top}/log") if l.startswith(f"{seed} ")]
	assert lines == list(range(n)), (len(lines), n)
END
pids=
for i in 1 2 3; do
	$E2E_PYTHON "$E2E_TMP/work.py" "$a" "$stop" $i &
	pids="$pids $!"
	wait_until 60 test -e "$stop.ready.$i"
done
grown()
{
	[ "$(wc -l <"$a/log")" -gt $((size + 30)) ]
}
for pause in 0 0.3 1; do
	size=$(wc -l <"$a/log")
	wait_until 60 grown
	kill -9 "$(pid_of 0)"
	sleep $pause
	ctl node start 0 >/dev/null
done
size=$(wc -l <"$a/log")
wait_until 60 grown
ctl node stop 0 >/dev/null
ctl node start 0 >/dev/null
size=$(wc -l <"$a/log")
wait_until 60 grown
touch "$stop"
for pid in $pids; do
	wait $pid || fail "a program saw an error"
done

# Away for long: calls end in time with EIO, all of them, and are well again with wfsd.
echo kept >"$a/kept"
exec 8<"$a/kept"
kill_nodes 0
for i in $(seq 60); do
	timeout 15 cat "$a/kept" >/dev/null 2>&1 &
done
began=$(now_ms)
expect 1 timeout 15 cat "$a/kept"
says "Input/output error"
[ $(($(now_ms) - began)) -lt 8000 ] || fail "took too long to fail"
wait
began=$(now_ms)
expect 1 timeout 15 cat "$a/kept"
[ $(($(now_ms) - began)) -lt 1000 ] || fail "took too long to fail again"
ctl node start 0 >/dev/null
[ "$(cat "$a/kept")" = kept ] || fail "after a long time"
[ "$(cat <&8)" = kept ] || fail "what was open after a long time"
exec 8<&-
expect 0 ctl fsck

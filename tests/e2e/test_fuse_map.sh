#!/bin/bash
# Mappings on the mount: shared between programs, written back, and read anew when others
# have changed the file; sqlite's write-ahead log, which is such a mapping.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

fuse_mount 0 1
a=$E2E_TMP/m0/$name b=$E2E_TMP/m1/$name
mkdir "$a"
$E2E_PYTHON - "$a" "$b" <<-'END'
	import mmap, os, random, sys
	a, b = sys.argv[1:]
	r = random.Random(1)
	body = bytearray(r.randbytes(3_000_000))
	open(a + "/f", "wb").write(body)
	fa, fb = os.open(a + "/f", os.O_RDWR), os.open(b + "/f", os.O_RDWR)
	m = mmap.mmap(fa, len(body))
	assert m[:] == body
	# Another process of the same mount sees what is stored there at once, and the other way.
	rd, wr = os.pipe()
	if os.fork() == 0:
	    own = mmap.mmap(os.open(a + "/f", os.O_RDWR), len(body))
	    own[1000:1010] = b"from child"
	    os.write(wr, b"x")
	    while own[2000:2006] != b"parent":
	        pass
	    os._exit(0)
	assert os.read(rd, 1) == b"x"
	assert m[1000:1010] == b"from child"
	m[2000:2006] = b"parent"
	assert os.wait()[1] == 0
	body[1000:1010], body[2000:2006] = b"from child", b"parent"
	# read() and write() on the same mount agree with the mapping, without a word.
	m[1_500_000:1_500_004] = b"here"
	assert os.pread(fa, 4, 1_500_000) == b"here"
	os.pwrite(fa, b"there", 1_500_002)
	assert m[1_500_000:1_500_007] == b"hethere"
	body[1_500_000:1_500_007] = b"hethere"
	# msync, and the other mount sees it; munmap, fsync and close, too.
	m.flush()
	assert os.pread(fb, len(body), 0) == body
	m[5:9] = b"unma"; body[5:9] = b"unma"
	m.close()
	assert os.pread(fb, 4, 5) == b"unma"
	m = mmap.mmap(fa, len(body))
	m[2_999_990:] = b"0123456789"; body[2_999_990:] = b"0123456789"
	os.fsync(fa)
	assert os.pread(fb, len(body), 0) == body
	# What another node writes: a new mapping has it, and the old one after a stat.
	os.pwrite(fb, b"elsewhere", 100); body[100:109] = b"elsewhere"
	assert mmap.mmap(fa, 4096)[100:109] == b"elsewhere"
	os.pwrite(fb, b"ELSEWHERE", 2_000_000); body[2_000_000:2_000_009] = b"ELSEWHERE"
	os.fstat(fa)
	assert m[:] == body
	# A writer that dies without a word.
	if os.fork() == 0:
	    m[7000:7005] = b"dying"
	    os.kill(os.getpid(), 9)
	os.wait()
	body[7000:7005] = b"dying"
	assert m[:] == body
	m.close()
	# Private mappings change nothing.
	p = mmap.mmap(fa, len(body), flags=mmap.MAP_PRIVATE)
	p[0:3] = b"xxx"
	assert p[3:] == body[3:]
	assert os.pread(fb, len(body), 0) == body
	# Past the end there is nothing, and what a mapping put there is not kept.
	os.ftruncate(fa, 4096)
	m = mmap.mmap(fa, 4096)
	os.ftruncate(fa, 10)
	m[:20] = b"01234567890123456789"
	m.close()
	assert os.pread(fb, 100, 0) == b"0123456789"
	os.ftruncate(fa, 30)
	assert os.pread(fb, 100, 0) == b"0123456789" + bytes(20)
	# Append-only descriptors, and a mapping of the same file.
	fd = os.open(a + "/log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
	os.write(fd, b"a" * 5000)
	m = mmap.mmap(fd, 5000)
	m[10:13] = b"MMM"
	os.write(fd, b"b")
	m.flush()
	got = os.pread(os.open(b + "/log", os.O_RDONLY), 9999, 0)
	assert got == b"a" * 10 + b"MMM" + b"a" * 4987 + b"b"
END

cat >"$E2E_TMP/bank.py" <<-'END'
	import random, sqlite3, sys
	r = random.Random(int(sys.argv[2]))
	db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
	assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
	for i in range(150):
	    n, (x, y) = r.randrange(1000), r.sample(range(50), 2)
	    db.execute("begin immediate")
	    db.execute("update t set v = v + ? where k = ?", (n, x))
	    db.execute("update t set v = v - ? where k = ?", (n, y))
	    db.execute("insert into log values (?, ?)", (int(sys.argv[2]), i))
	    db.execute("commit")
	    assert db.execute("select sum(v) from t").fetchone() == (0,)
END
sqlite3 "$a/db" "pragma journal_mode=wal; create table t (k integer primary key, v integer);
	create table log (who integer, n integer);
	with recursive c(k) as (select 0 union all select k + 1 from c where k < 49)
	insert into t select k, 0 from c;" >/dev/null
pids=
for i in 1 2 3; do
	$E2E_PYTHON "$E2E_TMP/bank.py" "$a/db" $i &
	pids="$pids $!"
done
for pid in $pids; do
	wait $pid || fail "sqlite"
done
[ "$(sqlite3 "$a/db" 'select count(*), (select sum(v) from t) from log')" = "450|0" ] || fail "rows"
# Then by the other node.
out=$(sqlite3 "$b/db" 'pragma integrity_check; select count(*), (select sum(v) from t) from log')
[ "$out" = $'ok\n450|0' ] || fail "by the other node"
$E2E_PYTHON "$E2E_TMP/bank.py" "$b/db" 4
[ "$(sqlite3 "$a/db" 'select count(*) from log')" = 600 ] || fail "back again"

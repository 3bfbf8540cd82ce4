#!/bin/bash
# The wfsd of the programs' own host is killed and started again under them, several times:
# they see a pause, and no error. Their files lie in twelve directories, on all six shards.
# limit: 240
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3 --shards-per-node 2
wfs mkdir /wfs/d
for i in $(seq 12); do
	wfs mkdir /wfs/d/$i
done
on_host()
{
	(exec "$E2E_BIN/wfsctl" run --node 0 -- "$@") &
	pids="$pids $!"
}
stop=$E2E_TMP/stop
pids=

# Files are copied and compared, in every directory.
cat >"$E2E_TMP/copy.py" <<-'END'
	import hashlib, os, random, sys
	stop = sys.argv[1]
	r = random.Random(3)
	rounds = 0
	while not os.path.exists(stop) or rounds < 24:
	    rounds += 1
	    d = f"/wfs/d/{rounds % 12 + 1}"
	    body = r.randbytes(r.choice([100, 5000, 300000, 3000000]))
	    with open(d + "/from", "wb") as f:
	        f.write(body)
	    with open(d + "/from", "rb") as a, open(d + "/to", "wb") as b:
	        while piece := a.read(100000):
	            b.write(piece)
	    with open(d + "/to", "rb") as f:
	        assert f.read() == body, d
	    assert os.stat(d + "/to").st_size == len(body)
END
# Rows of a table whose sum is always zero.
cat >"$E2E_TMP/sqlite.py" <<-'END'
	import os, random, sqlite3, sys
	stop = sys.argv[1]
	r = random.Random(5)
	db = sqlite3.connect("/wfs/d/5/db", timeout=60, isolation_level=None)
	db.execute("pragma journal_mode=persist")
	db.execute("create table t (k integer primary key, v integer)")
	db.executemany("insert into t values (?, 0)", [(k,) for k in range(50)])
	count = 0
	while not os.path.exists(stop) or count < 50:
	    n = r.randrange(1000)
	    a, b = r.sample(range(50), 2)
	    db.execute("begin immediate")
	    db.execute("update t set v = v + ? where k = ?", (n, a))
	    db.execute("update t set v = v - ? where k = ?", (n, b))
	    db.execute("commit")
	    count += 1
	    assert db.execute("select sum(v) from t").fetchone() == (0,)
	assert db.execute("pragma integrity_check").fetchone() == ("ok",)
END
# Two of these write to one log.
cat >"$E2E_TMP/log.py" <<-'END'
	import os, sys
	stop, who = sys.argv[1:]
	fd = os.open("/wfs/d/7/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
	n = 0
	while not os.path.exists(stop) or n < 100:
	    line = b"%s %d\n" % (who.encode(), n)
	    assert os.write(fd, line) == len(line)
	    n += 1
	open(f"{stop}.{who}", "w").write(str(n))
END
# Threads that each keep a file in mind, the half of them without a name.
cat >"$E2E_TMP/threads.py" <<-'END'
	import os, random, sys, threading
	stop = sys.argv[1]
	errors = []
	def run(i):
	    try:
	        r = random.Random(i)
	        name = f"/wfs/d/{i + 1}/thread"
	        size = 3_000_000 if i % 3 == 0 else 40_000
	        want = bytearray(r.randbytes(size))
	        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
	        os.pwrite(fd, want, 0)
	        if i % 2:
	            os.unlink(name)
	        open(f"{stop}.ready.{i}", "w")
	        count = 0
	        while not os.path.exists(stop) or count < 20:
	            count += 1
	            at, n = r.randrange(size), r.randrange(1, 20000)
	            if r.random() < 0.5:
	                piece = r.randbytes(n)[:size - at]
	                assert os.pwrite(fd, piece, at) == len(piece)
	                want[at:at + len(piece)] = piece
	            else:
	                assert os.pread(fd, n, at) == want[at:at + n], (name, at, n)
	            assert os.fstat(fd).st_size == size
	        assert os.pread(fd, size, 0) == want, name
	        assert os.fstat(fd).st_nlink == (0 if i % 2 else 1)
	    except BaseException as e:
	        errors.append((i, repr(e)))
	threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
	for t in threads: t.start()
	for t in threads: t.join()
	print(errors, file=sys.stderr) if errors else None
	sys.exit(1 if errors else 0)
END
# Each command a process of its own: some begin while there is no wfsd.
cat >"$E2E_TMP/commands.sh" <<-'END'
	echo one >/wfs/d/9/word
	while [ ! -e "$1" ]; do
		[ "$(cat /wfs/d/9/word)" = one ] || exit 1
		ls -l /wfs/d >/dev/null || exit 1
	done
END

on_host $E2E_PYTHON "$E2E_TMP/threads.py" "$stop"
for i in 0 1 2 3 4 5 6 7; do
	wait_until 60 test -e "$stop.ready.$i"
done
on_host $E2E_PYTHON "$E2E_TMP/copy.py" "$stop"
on_host $E2E_PYTHON "$E2E_TMP/sqlite.py" "$stop"
on_host $E2E_PYTHON "$E2E_TMP/log.py" "$stop" a
on_host $E2E_PYTHON "$E2E_TMP/log.py" "$stop" b
on_host sh "$E2E_TMP/commands.sh" "$stop"

grown()
{
	[ "$(wfs stat -c %s /wfs/d/7/log)" -gt $((size + 500)) ]
}
wait_until 60 wfs test -e /wfs/d/7/log
for pause in 0 0.3 1 0.1; do
	size=$(wfs stat -c %s /wfs/d/7/log)
	wait_until 60 grown
	kill -9 "$(pid_of 0)"
	sleep $pause
	ctl node start 0 >/dev/null
done
# One in good order.
size=$(wfs stat -c %s /wfs/d/7/log)
wait_until 60 grown
ctl node stop 0 >/dev/null
ctl node start 0 >/dev/null
size=$(wfs stat -c %s /wfs/d/7/log)
wait_until 60 grown
touch "$stop"
for pid in $pids; do
	wait $pid || fail "a program saw an error"
done

for who in a b; do
	wfs grep "^$who " /wfs/d/7/log | uniq >"$E2E_TMP/log.$who"
	seq 0 $(($(cat "$stop.$who") - 1)) | sed "s/^/$who /" | cmp - "$E2E_TMP/log.$who" ||
		fail "the log has not all that $who wrote"
done
expect 0 ctl fsck

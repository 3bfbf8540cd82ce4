# Sourced after lib.sh by the tests that break nodes under a load of several programs.
#
# A load is started by load_start WRITER READER...: programs on these nodes' hosts that run
# until load_stop, which sees that none met an error, and that what they made is whole.
# While it runs, load_moves waits until each of them has got on, and pause_limit sees how
# long the longest pause was.
# CHAOS_LONG=1 (make chaos) asks for the long variants.
long=${CHAOS_LONG:-}
pids=
loads=0

chaos_cluster()
{
	own_cluster --nodes 3 --size 384M "$@"
	wait_healthy 20
	[ -e "$E2E_TMP/tree" ] || small_tree "$E2E_TMP/tree"
}
small_tree()
{
	$E2E_PYTHON - "$1" <<-'EOF'
		import os, random, sys
		r = random.Random(9)
		for d in range(8):
		    at = os.path.join(sys.argv[1], f"d{d}", "sub" if d % 2 else "")
		    os.makedirs(at)
		    for f in range(5):
		        with open(os.path.join(at, f"f{f}"), "wb") as out:
		            out.write(r.randbytes(r.choice([0, 100, 4097, 20000])))
		    os.symlink("f0", os.path.join(at, "link"))
		with open(os.path.join(sys.argv[1], "large"), "wb") as out:
		    out.write(r.randbytes(3_000_001))
	EOF
}
# healthy: all nodes are up, and all buckets have their copies.
healthy()
{
	{ ctl status --json 2>/dev/null || :; } | $E2E_PYTHON -c '
import json, sys
s = json.load(sys.stdin)
sys.exit(not (s["health"] == "healthy" and s["buckets_reduced"] == 0 and
	s["buckets_away"] == 0))'
}
# left_by NODE: it leads no bucket, and none is out of reach.
left_by()
{
	{ ctl status --json 2>/dev/null || :; } | $E2E_PYTHON -c '
import json, sys
s = json.load(sys.stdin)
n = {x["id"]: x for x in s["nodes"]}
sys.exit(not (s["buckets_away"] == 0 and n[int(sys.argv[1])]["primary_buckets"] == 0))' "$1"
}
# purged: nothing that was removed is kept any more, as it is for 10 s after a restart.
purged()
{
	! grep -q unlinked <<<"$(ctl fsck)"
}
wait_healthy()
{
	local end=$(($(now_ms) + $1 * 1000))
	until healthy; do
		[ "$(now_ms)" -lt $end ] || fail "not healthy after $1 s: $(ctl status)"
		sleep 0.1
	done
}
wait_left()
{
	local end=$(($(now_ms) + $2 * 1000))
	until left_by "$1"; do
		[ "$(now_ms)" -lt $end ] || fail "buckets stay on node $1: $(ctl status)"
		sleep 0.1
	done
}
# on NODE COMMAND...: in the background, a part of the load.
on()
{
	local node=$1
	shift
	(exec "$E2E_BIN/wfsctl" run --node "$node" -- "$@") &
	pids="$pids $!"
}
programs_write()
{
	# A tree is copied and compared, again and again.
	cat >"$E2E_TMP/copy.sh" <<-'EOF'
		n=0
		while [ ! -e "$3" ]; do
			cp -a "$1" "$2/copy" || exit 1
			diff -r --no-dereference "$1" "$2/copy" || exit 1
			rm -r "$2/copy" || exit 1
			n=$((n + 1))
			echo $n >"$4"
		done
		cp -a "$1" "$2/copy"
	EOF
	# Rows whose sum is always zero; every commit is noted outside.
	cat >"$E2E_TMP/sqlite.py" <<-'EOF'
		import os, random, sqlite3, sys
		path, stop, progress = sys.argv[1:]
		r = random.Random(5)
		db = sqlite3.connect(path, timeout=60, isolation_level=None)
		db.execute("create table t (k integer primary key, v integer)")
		db.execute("create table done (n integer)")
		db.executemany("insert into t values (?, 0)", [(k,) for k in range(50)])
		n = 0
		while not os.path.exists(stop):
		    n += 1
		    amount, (a, b) = r.randrange(1000), r.sample(range(50), 2)
		    db.execute("begin immediate")
		    db.execute("update t set v = v + ? where k = ?", (amount, a))
		    db.execute("update t set v = v - ? where k = ?", (amount, b))
		    db.execute("insert into done values (?)", (n,))
		    db.execute("commit")
		    with open(progress, "w") as f:
		        f.write(f"{n}\n")
		    assert db.execute("select sum(v) from t").fetchone() == (0,)
	EOF
	cat >"$E2E_TMP/git.sh" <<-'EOF'
		export HOME=$1 GIT_CONFIG_NOSYSTEM=1
		git init -q -b main "$1/git" && cd "$1/git" || exit 1
		git config user.name t && git config user.email t@localhost || exit 1
		git config gc.auto 0 || exit 1
		n=0
		while [ ! -e "$2" ]; do
			mkdir -p d$((n % 5)) || exit 1
			echo $n >d$((n % 5))/f$((n % 31)) || exit 1
			git add -A && git commit -q -m $n || exit 1
			n=$((n + 1))
			echo $n >"$3"
		done
	EOF
}
# load_start NODE_A NODE_B
load_start()
{
	local i

	loads=$((loads + 1))
	top=/wfs/load$loads
	mine=$E2E_TMP/load$loads
	stop=$mine/stop
	mkdir "$mine"
	[ -e "$E2E_TMP/git.sh" ] || programs_write
	wfs sh -e -c 'mkdir $0 && for i in 0 1 2 3 4 5 6 7 8 9 10 11; do mkdir $0/$i; done' \
		$top
	board=$mine/board
	on "$1" "$E2E_HELPERS/register" write $top "$board" "$stop"
	wait_until 30 sh -c "[ \"\$('$E2E_HELPERS/register' rounds '$board')\" -ge 12 ]"
	on "$2" "$E2E_HELPERS/register" read $top "$board" "$stop"
	on "$1" sh "$E2E_TMP/copy.sh" "$E2E_TMP/tree" $top/1 "$stop" "$mine/copy.n"
	on "$2" $E2E_PYTHON "$E2E_TMP/sqlite.py" $top/2/db "$stop" "$mine/sqlite.n"
	on "$1" sh "$E2E_TMP/git.sh" $top/3 "$stop" "$mine/git.n"
	load_moves 60
}
progress_of()
{
	local n
	n=$(cat "$mine/$1.n" 2>/dev/null) || :
	echo "${n:-0}"
}
load_alive()
{
	local pid
	for pid in $pids; do
		kill -0 $pid 2>/dev/null || fail "a program of the load has ended"
	done
}
# load_moves SECONDS: until each program has done something more.
load_moves()
{
	local what was end=$(($(now_ms) + $1 * 1000))

	for what in copy sqlite git; do
		was=$(progress_of $what)
		until [ "$(progress_of $what)" -gt "$was" ]; do
			load_alive
			[ "$(now_ms)" -lt $end ] || fail "$what stands still: $(ctl status)"
			sleep 0.1
		done
	done
}
pause_forget()
{
	"$E2E_HELPERS/register" reset "$board"
}
# pause_limit MS: no longer pause was seen.
pause_limit()
{
	local gap
	gap=$("$E2E_HELPERS/register" gap "$board")
	echo "longest pause: $gap ms"
	[ "$gap" -le "$1" ] || fail "a pause of $gap ms"
}
# The load ends, and all it left is looked at from each host.
load_stop()
{
	local pid node n

	touch "$stop"
	for pid in $pids; do
		wait $pid || fail "a program met an error"
	done
	pids=
	for node; do
		ctl run --node "$node" -- diff -r --no-dereference "$E2E_TMP/tree" \
			$top/1/copy || fail "the copied tree differs"
		n=$(progress_of sqlite)
		out=$(ctl run --node "$node" -- $E2E_PYTHON -c '
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("pragma integrity_check").fetchone()[0],
	*db.execute("select count(*), max(n) from done").fetchone(),
	db.execute("select sum(v) from t").fetchone()[0])' $top/2/db)
		[ "$out" = "ok $n $n 0" ] || fail "sqlite, of $n"
		n=$(progress_of git)
		out=$(ctl run --node "$node" -- env GIT_CONFIG_NOSYSTEM=1 HOME=$top/3 sh -c \
			"cd $top/3/git && git fsck --strict 2>&1 && git status --porcelain &&
			git rev-list --count HEAD")
		[ "$out" = "$n" ] || fail "git, of $n"
	done
	wfs rm -rf $top
}

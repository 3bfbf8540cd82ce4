# Sourced by every test_*.sh, which tests/e2e/run starts with:
#   E2E_BIN      wfsd, wfsctl          E2E_HELPERS  programs built from tests/e2e/*.c
#   E2E_TMP      a fresh directory     E2E_PYTHON   python3
#   WFS_CLUSTER  the shared cluster of three nodes
# A test passes if it exits with 0. It works in $work of the shared cluster, or makes its
# own with own_cluster, and may do there what it likes.
set -eu -o pipefail
export LC_ALL=C

name=$(basename "$0" .sh)
work=/wfs/$name
out=

fail()
{
	echo "FAIL: $*" >&2
	[ -z "$out" ] || printf 'output: %s\n' "$out" >&2
	exit 1
}
ctl()
{
	"$E2E_BIN/wfsctl" "$@"
}
# A program in WFS.
wfs()
{
	"$E2E_BIN/wfsctl" run -- "$@"
}
# The same, in the background; its pid is $!.
wfs_start()
{
	(exec "$E2E_BIN/wfsctl" run -- "$@") &
}
# expect CODE COMMAND...: run it, all output into $out, and see its exit code.
expect()
{
	local want=$1 code=0
	shift
	out=$("$@" 2>&1) || code=$?
	[ $code = "$want" ] || fail "$*: exit code $code, not $want"
}
one_line()
{
	[ "$(printf '%s\n' "$out" | wc -l)" = 1 ] || fail "more than one line"
}
# says TEXT...: $out has each of them, in any case.
says()
{
	local text
	for text; do
		grep -qiF -- "$text" <<<"$out" || fail "does not say '$text'"
	done
}
work_dir()
{
	wfs mkdir "$work"
}
own_cluster()
{
	export WFS_CLUSTER=$E2E_TMP/c
	ctl cluster create --size 160M "$@" >"$E2E_TMP/create.log" 2>&1 ||
		fail "create: $(cat "$E2E_TMP/create.log")"
	trap own_cluster_end EXIT
	ctl cluster start >"$E2E_TMP/start.log" 2>&1 ||
		fail "start: $(cat "$E2E_TMP/start.log")"
}
own_cluster_end()
{
	local status=$?
	ctl cluster stop --force --timeout 10 >/dev/null 2>&1 || :
	[ $status = 0 ] || tail -n 5 "$WFS_CLUSTER"/node*/wfsd.log >&2
}
pid_of()
{
	cat "$WFS_CLUSTER/node$1/wfsd.pid"
}
kill_nodes()
{
	local node
	for node; do
		kill -9 "$(pid_of "$node")"
	done
	for node; do
		wait_until 10 sh -c "! '$E2E_BIN/wfsctl' node list --no-header -o id,state |
			grep -q '^ *$node *up'"
	done
}
now_ms()
{
	echo $(($(date +%s%N) / 1000000))
}
# wait_until SECONDS COMMAND...: until it succeeds.
wait_until()
{
	local end=$(($(now_ms) + $1 * 1000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(now_ms)" -lt $end ] || fail "waited too long for: $*"
		sleep 0.05
	done
}
# damage ARG...: a Python program, which comes in, with what rocks.py has.
damage()
{
	PYTHONPATH=$(dirname "$0") $E2E_PYTHON -B - "$@"
}
# A small tree with what trees have: holes, links, odd names, depth.
tree_make()
{
	$E2E_PYTHON - "$1" <<-'END'
		import os, random, sys
		top = sys.argv[1]
		r = random.Random(7)
		os.mkdir(top)
		dirs = [top]
		for i in range(40):
		    d = os.path.join(r.choice(dirs[-6:]), f"dir {i}")
		    os.mkdir(d, r.choice([0o755, 0o700, 0o711]))
		    dirs.append(d)
		for i in range(400):
		    p = os.path.join(r.choice(dirs), f"file-{i}-\u00e9" if i % 9 == 0 else f"f{i}")
		    with open(p, "wb") as f:
		        f.write(r.randbytes(r.choice([0, 1, 100, 4095, 4096, 4097, 20000])))
		    os.chmod(p, r.choice([0o644, 0o600, 0o755]))
		    os.utime(p, (1e9 + i, 1.1e9 + i))
		with open(os.path.join(top, "large"), "wb") as f:
		    f.write(r.randbytes(5_000_001))
		with open(os.path.join(top, "sparse"), "wb") as f:
		    f.seek(3_000_000); f.write(b"end")
		os.symlink("large", os.path.join(top, "link"))
		os.symlink("../nowhere", os.path.join(top, "dangling"))
		os.link(os.path.join(top, "large"), os.path.join(top, "hard"))
		os.mkfifo(os.path.join(top, "fifo"))
		os.mkdir(os.path.join(top, "empty"))
	END
}

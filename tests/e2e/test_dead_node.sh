#!/bin/bash
# A dead node: what needs it fails in time, the rest works, SIGINT ends a wait, and work goes on when it is back.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3 --timeout 3
# A file on each node: its inode's bucket is the top 16 bits of its number.
wfs $E2E_PYTHON - "$WFS_CLUSTER/map.json" >"$E2E_TMP/where" <<-'END'
	import os
	for i in range(40):
	    d = f"/wfs/d{i}"
	    os.mkdir(d)
	    with open(d + "/f", "w") as f: f.write("x" * 100)
	    print(d, os.stat(d + "/f").st_ino >> 48)
END
on() # a directory whose bucket is on node $1: buckets are dealt out in turn
{
	awk -v n="$1" '$2 % 3 == n { print $1; exit }' "$E2E_TMP/where"
}
here=$(on 0) there=$(on 2)
[ "$here" ] && [ "$there" ] || fail "no directory on some node: $(cat "$E2E_TMP/where")"
# A program that runs on: one line for each try.
cat >"$E2E_TMP/loop.py" <<-'END'
	import sys, time
	while True:
	    try:
	        with open(sys.argv[1]) as f: f.read()
	        print("ok", flush=True)
	    except OSError as e:
	        print(e.errno, flush=True)
	    time.sleep(0.1)
END
wfs_start $E2E_PYTHON "$E2E_TMP/loop.py" "$there/f" >"$E2E_TMP/loop"
loop=$!
trap 'kill -9 $loop 2>/dev/null; own_cluster_end' EXIT
wait_until 10 grep -q ok "$E2E_TMP/loop"
kill_nodes 2
began=$(now_ms)
expect 1 ctl run --node 0 -- cat "$there/f"
took=$(($(now_ms) - began))
says "error" || says "timed out"
[ $took -lt 6000 ] || fail "failed only after $took ms"
began=$(now_ms)
[ "$(ctl run --node 0 -- cat "$here/f" | wc -c)" = 100 ] || fail "the rest"
[ $(($(now_ms) - began)) -lt 1500 ] || fail "the rest is slow: $(($(now_ms) - began)) ms"
# Dies of SIGINT while it waits. Background children of a script ignore SIGINT: reset it.
$E2E_PYTHON - "$E2E_BIN/wfsctl" "$there/f" <<-'END'
	import signal, subprocess, sys, time
	p = subprocess.Popen([sys.argv[1], "run", "--node", "0", "--", "cat", sys.argv[2]],
	    stderr=subprocess.DEVNULL,
	    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
	time.sleep(0.3)
	if p.poll() is not None:
	    sys.exit(0)  # failed at once, which is as good
	began = time.time()
	p.send_signal(signal.SIGINT)
	p.wait(5)
	took = time.time() - began
	assert p.returncode == -signal.SIGINT, p.returncode
	assert took < 0.5, took
END
ctl node start 2 >/dev/null
tail -n 1 "$E2E_TMP/loop" | grep -q . # it lives
: >"$E2E_TMP/mark"
lines=$(wc -l <"$E2E_TMP/loop")
wait_until 15 sh -c "tail -n +$((lines + 1)) '$E2E_TMP/loop' | grep -q ok"
kill -0 $loop || fail "the program had to be restarted"
expect 0 ctl status
says healthy

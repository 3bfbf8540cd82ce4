#!/bin/bash
# Files that are open and have no name outlive the death of the node that serves them.
# limit: 90
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3 --copies 2 --lease 2
cat >"$E2E_TMP/hold.py" <<'END'
import os, time
files = []
for i in range(30):
    os.makedirs(f"/wfs/d{i}")
    f = open(f"/wfs/d{i}/file", "w+b")
    f.write(b"x" * 5000 * (i + 1))
    f.flush()
    os.unlink(f"/wfs/d{i}/file")
    files.append(f)
print("holding", flush=True)
while not os.path.exists("/wfs/go-on"):
    time.sleep(0.2)
for i, f in enumerate(files):
    f.seek(0)
    assert f.read() == b"x" * 5000 * (i + 1), i
END
wfs_start "$E2E_PYTHON" "$E2E_TMP/hold.py" >"$E2E_TMP/said"
program=$!
wait_until 20 grep -q holding "$E2E_TMP/said"
kill_nodes 1
# Longer than a new primary waits before it lets orphans go.
sleep 16
wfs touch /wfs/go-on
wait $program || fail "a file that was open is gone"
expect 0 ctl node start 1
wait_until 30 sh -c "'$E2E_BIN/wfsctl' status | grep -q '^health *healthy'"
# Now nobody holds them: they go, and so does what they used.
wait_until 40 sh -c "'$E2E_BIN/wfsctl' fsck --json | grep -q '\"inodes\": 32'"
expect 0 ctl fsck

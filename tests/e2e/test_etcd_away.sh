#!/bin/bash
# All members of etcd silent for longer than a lease: nodes stop serving, and a program
# waits; when etcd is back it goes on, and nothing is lost. With two copies of everything.
# limit: 120
# by name only
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 3 --copies 2 --map etcd
cat >"$E2E_TMP/count.py" <<'END'
import os, sys, time
fd = os.open("/wfs/counter", os.O_RDWR | os.O_CREAT, 0o644)
end, last, gap = time.time() + 20, time.time(), 0
count = 0
while time.time() < end:
    count += 1
    os.pwrite(fd, b"%08d" % count, 0)
    assert int(os.pread(fd, 8, 0)) == count
    gap, last = max(gap, time.time() - last), time.time()
    time.sleep(0.01)
print(f"{gap:.1f} {count}")
END
wfs true
wfs_start "$E2E_PYTHON" "$E2E_TMP/count.py" >"$E2E_TMP/counted"
program=$!
sleep 2
members=$(cut -d' ' -f1 "$WFS_CLUSTER"/node*/etcd.pid)
kill -STOP $members
sleep 9
kill -CONT $members
wait $program || fail "the program saw an error"
read -r gap count <"$E2E_TMP/counted"
# It was served for a while without etcd, and not for ever.
awk "BEGIN { exit !($gap > 3 && $gap < 12) }" || fail "a pause of $gap s"
[ "$(wfs cat /wfs/counter)" = "$(printf %08d "$count")" ] || fail "not the last count"
wait_until 20 sh -c "'$E2E_BIN/wfsctl' status | grep -q '^health *healthy'"
expect 0 ctl fsck

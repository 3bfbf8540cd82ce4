#!/bin/bash
# One node of three has a small device, and is full long before the others: programs get
# ENOSPC or go on, nothing acknowledged is lost, even when that node dies then, deletes
# work, and when there is room again all have their copies.
# limit: 300
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/chaos.sh"

export WFS_CLUSTER=$E2E_TMP/c
devices=
for size in 96 256 256; do
	device=$E2E_TMP/device.$(wc -w <<<"$devices")
	dd if=/dev/zero of="$device" bs=1M count=$size conv=fsync status=none
	devices="$devices --device $device"
done
ctl cluster create --nodes 3 --copies 2 --timeout 30 $devices >/dev/null
trap own_cluster_end EXIT
ctl cluster start >/dev/null
wait_healthy 20
wfs mkdir /wfs/kept /wfs/fill
wfs sh -c 'for i in $(seq 40); do echo $i >/wfs/kept/$i; done'

# Whole files are written until there is no room; those that were are remembered.
cat >"$E2E_TMP/fill.py" <<-'EOF'
	import errno, hashlib, os, random, sys
	top, done = sys.argv[1:]
	r = random.Random(11)
	refused = 0
	for d in range(24):
	    os.mkdir(f"{top}/{d}")
	for n in range(400):
	    body = r.randbytes(r.choice([300_000, 1_900_000]))
	    path = f"{top}/{n % 24}/{n}"
	    try:
	        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
	        try:
	            at = 0
	            while at < len(body):
	                at += os.write(fd, body[at:])
	            os.fsync(fd)
	        finally:
	            os.close(fd)
	        with open(done, "a") as f:
	            f.write(f"{n} {hashlib.sha256(body).hexdigest()}\n")
	    except OSError as e:
	        if e.errno != errno.ENOSPC:
	            raise
	        refused += 1
	        if refused == 20:
	            break
	print(refused)
EOF
cat >"$E2E_TMP/check.py" <<-'EOF'
	import hashlib, sys
	top, done = sys.argv[1:]
	for line in open(done):
	    n, digest = line.split()
	    with open(f"{top}/{int(n) % 24}/{n}", "rb") as f:
	        assert hashlib.sha256(f.read()).hexdigest() == digest, n
EOF
refused=$(ctl run --node 1 -- $E2E_PYTHON "$E2E_TMP/fill.py" /wfs/fill "$E2E_TMP/done") ||
	fail "an error that is not ENOSPC"
[ "$refused" = 20 ] || fail "no ENOSPC, but $refused times"
for node in 0 1 2; do
	ctl run --node $node -- $E2E_PYTHON "$E2E_TMP/check.py" /wfs/fill "$E2E_TMP/done" ||
		fail "lost"
done
[ "$(ctl node list --no-header -o state | grep -c up)" = 3 ] || fail "a node is down"

# The full node dies: what it held is elsewhere, too, and it comes back.
kill_nodes 0
wait_left 0 20
ctl run --node 1 -- $E2E_PYTHON "$E2E_TMP/check.py" /wfs/fill "$E2E_TMP/done" ||
	fail "lost"
ctl node start 0 >/dev/null

wfs rm -r /wfs/fill
wfs mkdir /wfs/again
load()
{
	wfs dd if=/dev/zero of=/wfs/again/big bs=1M count=30
}
wait_until 30 load
[ "$(wfs sh -c 'cat /wfs/kept/* | sort -n | tail -n 1')" = 40 ] || fail "kept"
wait_healthy 60
wait_until 60 purged
expect 0 ctl fsck

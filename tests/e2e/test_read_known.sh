#!/bin/bash
# A file open on one node is cut and made longer on another: its reader sees that at once,
# also in a file too large to name each of its chunks. Its other reads cost one request.
. "$(dirname "$0")/lib.sh"

work_dir
cat >"$E2E_TMP/reader.py" <<'END'
import json, os, subprocess, sys

MIB = 1 << 20
path, ctl = sys.argv[1:]
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

def truncate(size):
    subprocess.run([ctl, "run", "--node", "1", "--", "truncate", "-s", str(size), path],
                   check=True)

def requests():
    status = subprocess.run([ctl, "status", "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(status.stdout)["requests"]

def read(at, size, want):
    got = os.pread(fd, size, at)
    assert got == want, (at, size, len(got), len(want))

data = os.urandom(12 * MIB)
assert os.pwrite(fd, data, 0) == len(data)
before = requests()
for i in range(1000):
    at = MIB + i * 10007
    read(at, 4096, data[at:at + 4096])
cost = requests() - before
assert 1000 <= cost < 1300, cost

for cut in 7 * MIB + 5000, 3 * MIB, 2 * MIB - 1:
    truncate(cut)
    for chunk in range(1, 12):
        read(chunk * MIB, 100, data[chunk * MIB:min(chunk * MIB + 100, cut)])
    read(cut - 10, 20, data[cut - 10:cut])
    truncate(12 * MIB)
    read(cut - 10, 20, data[cut - 10:cut] + bytes(10))
    data = data[:cut] + bytes(12 * MIB - cut)
    for chunk in range(1, 12):
        read(chunk * MIB, 1000, data[chunk * MIB:chunk * MIB + 1000])

GIB = 1 << 30
truncate(100 * GIB)
for at in 2 * GIB, 50 * GIB:
    assert os.pwrite(fd, b"far", at) == 3
    read(at, 4, b"far\0")
truncate(5 * MIB)
for at in 2 * GIB, 3 * GIB, 50 * GIB, 60 * GIB, 5 * MIB:
    read(at, 100, b"")
truncate(100 * GIB)
for at in 2 * GIB, 3 * GIB, 50 * GIB, 60 * GIB, 5 * MIB:
    read(at, 10, bytes(10))
END
wfs $E2E_PYTHON "$E2E_TMP/reader.py" "$work/f" "$E2E_BIN/wfsctl"

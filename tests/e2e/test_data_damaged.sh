#!/bin/bash
# A flipped bit in file data is an error, never wrong data.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs $E2E_PYTHON -c "open('/wfs/f', 'wb').write(b'NeedleInData' * 1000)"
ctl cluster stop >/dev/null
$E2E_PYTHON - "$WFS_CLUSTER/node0/device" <<-'END'
	import mmap, sys
	f = open(sys.argv[1], "r+b")
	m = mmap.mmap(f.fileno(), 0)
	at = m.find(b"NeedleInData" * 100)
	assert at >= 0
	while at >= 0:
	    m[at + 50] ^= 1
	    at = m.find(b"NeedleInData" * 100, at + 100000)
	m.flush()
END
ctl cluster start >/dev/null
expect 1 ctl run -- cat /wfs/f
says "error"
wfs ls -l /wfs/f >/dev/null || fail "ls"
expect 0 ctl status

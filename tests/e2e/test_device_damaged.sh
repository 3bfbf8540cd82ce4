#!/bin/bash
# A device whose superblocks are damaged is refused in one line, exit code 2.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
wfs sh -c 'echo x >/wfs/f'
ctl cluster stop >/dev/null
device=$WFS_CLUSTER/node0/device
flip() # one byte at $1
{
	$E2E_PYTHON -c "
import sys
f = open('$device', 'r+b'); f.seek($1, 2 if $1 < 0 else 0)
at = f.tell(); b = f.read(1); f.seek(at); f.write(bytes([b[0] ^ 1]))"
}
flip 100
ctl cluster start >/dev/null || fail "one damaged copy of two must do"
[ "$(wfs cat /wfs/f)" = x ] || fail "contents"
ctl cluster stop >/dev/null
flip 100
flip -3000
expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf"
one_line

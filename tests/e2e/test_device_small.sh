#!/bin/bash
# A device that is too small is refused in one line, exit code 2.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
ctl cluster stop >/dev/null
rm "$WFS_CLUSTER/node0/device"
head -c 65536 /dev/zero >"$WFS_CLUSTER/node0/device"
expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf" --format --force
one_line
says small
rm "$WFS_CLUSTER/node0/device"
expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf"
one_line
says "$WFS_CLUSTER/node0/device"

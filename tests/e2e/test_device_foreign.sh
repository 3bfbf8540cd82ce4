#!/bin/bash
# A device that holds something else is refused in one line, exit code 2.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
ctl cluster stop >/dev/null
device=$WFS_CLUSTER/node0/device
cp --sparse=never "$device" "$E2E_TMP/keep"
mkfs.ext4 -q -F "$device"
expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf"
one_line
says device
expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf" --format
says force
expect 2 ctl cluster start

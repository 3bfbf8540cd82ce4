#!/bin/bash
# A device in use is refused in one line, exit code 2.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
sed "s,^pidfile = .*,pidfile = $E2E_TMP/pid," "$WFS_CLUSTER/node0/wfsd.conf" >"$E2E_TMP/conf"
expect 2 "$E2E_BIN/wfsd" --config "$E2E_TMP/conf"
one_line
expect 2 "$E2E_BIN/wfsd" --config "$E2E_TMP/conf" --format --force
one_line
says use
expect 0 ctl status

#!/bin/bash
# A damaged or missing cluster map: one line, exit code 2, from wfsd and wfsctl.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
ctl cluster stop >/dev/null
cp "$WFS_CLUSTER/map.json" "$E2E_TMP/map"
for text in '' '{' '{"epoch": 1}' 'null'; do
	printf '%s' "$text" >"$WFS_CLUSTER/map.json"
	expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf"
	one_line
	expect 2 ctl status
	one_line
done
cp "$E2E_TMP/map" "$WFS_CLUSTER/map.json"
expect 0 ctl cluster start

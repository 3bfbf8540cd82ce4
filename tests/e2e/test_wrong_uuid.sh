#!/bin/bash
# A device of another cluster is refused in one line, exit code 2.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
ctl cluster stop >/dev/null
$E2E_PYTHON - "$WFS_CLUSTER/map.json" <<-'END'
	import re, sys
	text = open(sys.argv[1]).read()
	new = re.sub(r'("uuid"\s*:\s*")([0-9a-f]{8})', lambda m: m[1] + "12345678", text)
	assert new != text
	open(sys.argv[1], "w").write(new)
END
expect 2 "$E2E_BIN/wfsd" --config "$WFS_CLUSTER/node0/wfsd.conf"
one_line
says cluster

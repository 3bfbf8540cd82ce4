#!/bin/bash
# Every --json is valid JSON; -o, --no-header and --raw do what they say.
. "$(dirname "$0")/lib.sh"

for command in "cluster status" status node "node list" fs "fs list" df fsck \
	"cluster status -o id,state"; do
	ctl $command --json >"$E2E_TMP/json" || fail "$command"
	$E2E_PYTHON -m json.tool "$E2E_TMP/json" >/dev/null || fail "$command: not JSON"
done
[ "$(ctl node list -o id --no-header | tr -d ' \n')" = 012 ] || fail "-o id"
ctl status --json | $E2E_PYTHON -c '
import json, sys
s = json.load(sys.stdin)
assert s["health"] == "healthy" and s["nodes_up"] == 3 and len(s["nodes"]) == 3, s
assert all(n["pid"] > 1 and n["size_bytes"] > 0 and n["memory_bytes"] > 0 for n in s["nodes"])
assert s["inodes"] == sum(n["inodes"] for n in s["nodes"]) > 0'
ctl df --raw --no-header | grep -q '[0-9]\{7,\}' || fail "--raw"
! ctl status | grep -q "$(printf '\033')" || fail "colour into a pipe"

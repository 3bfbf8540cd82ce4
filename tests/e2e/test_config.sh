#!/bin/bash
# A wrong configuration line: file and line in one line, exit code 2.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 1
ctl cluster stop >/dev/null
conf=$WFS_CLUSTER/node0/wfsd.conf
try() # sed script, what it must say
{
	sed "$1" "$conf" >"$E2E_TMP/conf"
	expect 2 "$E2E_BIN/wfsd" --config "$E2E_TMP/conf"
	one_line
	says "$2"
}
line=$(grep -n '^id = ' "$conf" | cut -d: -f1)
try 's/^id = .*/idd = 0/' idd
says "$line"
try 's/^id = .*/id = many/' many
try 's/^id = .*/id = 7/' 7
try 's/^device = .*//' device
try 's/^\[shard 0\]/[shards]/' shards
try 's,^map = .*,map = /nonexistent/map.json,' /nonexistent/map.json
expect 2 "$E2E_BIN/wfsd" --config /nonexistent
one_line
says /nonexistent
expect 2 "$E2E_BIN/wfsd"
expect 2 "$E2E_BIN/wfsd" --bogus
expect 0 "$E2E_BIN/wfsd" --help
says --config
expect 0 "$E2E_BIN/wfsd" --version

#!/bin/bash
# With copies: each bucket has members on different nodes; a node that is killed loses its
# buckets to others when its lease has expired, one that is stopped at once; a quick
# restart changes nothing; status tells all of it; destroy leaves nothing behind.
. "$(dirname "$0")/lib.sh"

expect 2 ctl cluster create --cluster "$E2E_TMP/x" --copies 4
expect 2 ctl cluster create --cluster "$E2E_TMP/x" --copies 3 --nodes 2
says copies nodes

own_cluster --copies 2 --lease 2
# ask EXPRESSION: what it is over the status s, its nodes by id n, and the map m
ask()
{
	ctl status --json >"$E2E_TMP/status" || :
	$E2E_PYTHON - "$1" "$E2E_TMP/status" "$WFS_CLUSTER/map.json" <<-'END'
		import json, sys
		s = json.load(open(sys.argv[2]))
		m = json.load(open(sys.argv[3]))
		n = {x["id"]: x for x in s["nodes"]}
		sys.exit(not eval(sys.argv[1]))
	END
}
must()
{
	ask "$1" || fail "not: $1; $(cat "$E2E_TMP/status")"
}
must 's["copies"] == 2 and s["lease_ms"] == 2000'
wait_until 10 ask 'all(b[0] == 2 for b in m["buckets"])'
wait_until 10 ask 'all(0 < x["lease_s"] <= 2 and x["in_map"] == "in" for x in s["nodes"])'
must 'all(len(b[2]) == 1 and b[2][0] != b[1] for b in m["buckets"])'
must 's["buckets_reduced"] == 0 and s["buckets_away"] == 0'
must 'all(x["device"].strip("0-") and x["incarnation"].strip("0") for x in m["shards"])'
ctl status | grep -q "copies    2" || fail "status does not say copies"
[ "$(ctl node list -o in_map --no-header | sort -u | tr -d ' \n')" = in ] || fail "in_map"

# Killed and started again at once: the same members, and new epochs where it leads.
kill_nodes 1
ctl node start 1
wait_until 20 ask 'all(b[0] == 2 + (b[1] == 1) for b in m["buckets"])'
must 's["buckets_reduced"] == 0 and n[1]["primary_buckets"] > 0'

# Killed and gone: not before the lease has expired, then soon.
kill_nodes 2
wait_until 20 ask 'n[2]["primary_buckets"] == 0 and n[2]["backup_buckets"] == 0'
must 'n[2]["lease_s"] == 0 and s["buckets_reduced"] > 0 and s["buckets_away"] == 0'
must 's["health"] == "degraded"'
ctl node start 2
wait_until 20 ask 'n[2]["lease_s"] > 0'

# Stopped: the lease is given back, and what has another copy goes to it.
ctl node stop 1
wait_until 20 ask 'all(len(b[2]) == 0 for b in m["buckets"] if b[1] == 1)'
must 'n[1]["lease_s"] is None'

ctl cluster stop
ctl cluster destroy --force
[ ! -e "$WFS_CLUSTER" ] || fail "left: $(ls "$WFS_CLUSTER")"

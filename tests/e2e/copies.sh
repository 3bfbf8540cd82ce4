# Sourced by test_copies_*.sh after lib.sh: a checked load, and questions about copies.
#
# buckets EXPRESSION: what it is over m, the map; members, sets of nodes by bucket; and
# held, the number of buckets by node.
buckets()
{
	$E2E_PYTHON - "$1" "$WFS_CLUSTER/map.json" <<-'END'
		import collections, json, sys
		m = json.load(open(sys.argv[2]))
		node = [s["node"] for s in m["shards"]]
		members = [{node[s] for s in [b[1]] + b[2]} for b in m["buckets"]]
		held = collections.Counter(n for s in members for n in s)
		sys.exit(not eval(sys.argv[1]))
	END
}
buckets_must()
{
	buckets "$1" || fail "not: $1; $(ctl rebuild 2>&1 | head -3)"
}
# buckets_wait SECONDS EXPRESSION
buckets_wait()
{
	local end=$(($(now_ms) + $1 * 1000))
	until buckets "$2"; do
		[ "$(now_ms)" -lt $end ] || {
			ctl rebuild >&2 || :
			grep -h "warn\|error" "$WFS_CLUSTER"/node*/wfsd.log | tail -n 5 >&2
			fail "waited too long for: $2"
		}
		sleep 0.2
	done
}
# load_start SECONDS: it ends with 0 if no call failed.
load_start()
{
	wfs mkdir -p /wfs/load
	wfs_start "$E2E_HELPERS/ackload" write /wfs/load "$E2E_TMP/ack" 3 "$1"
	load=$!
	wait_until 60 sh -c "[ \$(grep -c = '$E2E_TMP/ack.0') -ge 30 ]"
}
# load_goes_on: something was acknowledged from now on.
load_goes_on()
{
	local lines
	lines=$(wc -l <"$E2E_TMP/ack.0")
	wait_until 30 sh -c "[ \$(wc -l <'$E2E_TMP/ack.0') -gt $((lines + 4)) ]"
}
load_end()
{
	wait $load || fail "a program got an error: $(grep -h '^!' "$E2E_TMP"/ack.* | head -3)"
	load_verify
}
load_verify()
{
	wfs "$E2E_HELPERS/ackload" verify /wfs/load "$E2E_TMP/ack" 3 || fail "lost"
	# Files that were unlinked open are purged for some seconds, under fsck's hands.
	for i in 1 2 3 4 5; do
		! out=$(ctl fsck --compare 2>&1) || break
		[ $i -lt 5 ] || fail "fsck"
		sleep 3
	done
	! grep -q "copies-differ\|not-compared" <<<"$out" || fail "copies differ"
}
whole()
{
	expect 0 ctl rebuild --wait --timeout 60
}

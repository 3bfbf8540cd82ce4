#!/bin/bash
# A fourth node is added while programs write: it takes its share, no program gets an error.
# Then one is drained: it holds nothing, and is removed. What was moved away is deleted.
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/copies.sh"

own_cluster --copies 2 --lease 2 --rebuild-after 30
load_start 30
expect 0 ctl node add --size 160M
says "node 3"
whole
buckets_must 'held[3] >= 1 and max(held.values()) <= 1.25 * 512 / 4'
load_goes_on

expect 1 ctl node remove 2
says "drain 2"
expect 0 ctl node drain 2 --timeout 60
says empty
buckets_must 'held[2] == 0'
load_goes_on
expect 0 ctl node undrain 2
whole
buckets_must 'held[2] > 64'
expect 0 ctl node drain 2 --no-wait --json
buckets_wait 60 'held[2] == 0'
live()
{
	ctl status --json | $E2E_PYTHON -c 'import json, sys
n = {x["id"]: x for x in json.load(sys.stdin)["nodes"]}
sys.exit(not (n[2]["live_bytes"] or 0) < 1 << 20)'
}
wait_until 30 live
expect 0 ctl node remove 2
says removed
load_goes_on
whole
load_end
expect 0 ctl status
says "3 of 3 nodes up"
expect 2 ctl node start 2
says removed
expect 0 ctl cluster stop
expect 0 ctl cluster start
load_verify

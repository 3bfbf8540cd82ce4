#!/bin/bash
# Three copies: two of four nodes are lost for good, one after the other, while programs write;
# then redundancy is as high as two nodes allow, and two new nodes make it whole again.
# limit: 300
# by name only
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/copies.sh"

own_cluster --nodes 4 --copies 3 --lease 2 --rebuild-after 3
load_start 30
expect 1 ctl node remove 3
says drain
kill_nodes 3
rm "$WFS_CLUSTER/node3/device"
expect 0 ctl node remove 3 --force
whole
buckets_must 'all(s == {0, 1, 2} for s in members)'
load_goes_on
expect 1 ctl node drain 2
says "node add"
kill_nodes 2
rm "$WFS_CLUSTER/node2/device"
buckets_wait 40 'all(s == {0, 1} for s in members)'
load_goes_on
expect 1 ctl rebuild --wait --timeout 60
says "add"
expect 0 ctl node add --size 160M
expect 0 ctl rebuild --limit 200
whole
buckets_must 'all(s == {0, 1, 4} for s in members)'
load_end

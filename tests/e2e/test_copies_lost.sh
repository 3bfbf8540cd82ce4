#!/bin/bash
# A node of three is killed and its device removed while programs write: they see a pause, no
# error; after --rebuild-after all data has two copies on the other two; nothing is lost. The
# node with an empty device fills up again.
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/copies.sh"

own_cluster --copies 2 --lease 2 --rebuild-after 3
load_start 25
kill_nodes 2
rm -r "$WFS_CLUSTER/node2/device"
buckets_wait 30 'held[2] == 0'
expect 1 ctl status
says "have fewer"
load_goes_on
buckets_wait 40 'all(s == {0, 1} for s in members)'
whole
says "all 256 buckets have 2 copies"
load_end

# Its index without its device is refused, and so is a replace while others need it.
expect 2 ctl node start 2
expect 1 ctl node replace 2 </dev/null
says --force
expect 0 ctl node replace 2 --force --size 160M
whole
buckets_must 'held[2] >= 128 and min(held.values()) >= 128'
expect 0 ctl status
says healthy
# Now the first one: what it had is on the new device, too.
kill_nodes 1
expect 1 ctl node remove 1
says --force
buckets_wait 30 'held[1] == 0'
load_verify

#!/bin/bash
# node stop and start; status says degraded; destroy asks.
. "$(dirname "$0")/lib.sh"

own_cluster --nodes 2
expect 0 ctl node stop 1
expect 0 ctl node list --no-header -o id,state
says "1  down"
expect 1 ctl status
says degraded
expect 0 ctl node start 1
expect 0 ctl node start 1
says already
expect 0 ctl status
expect 1 ctl cluster destroy --force
says stop
expect 0 ctl cluster stop
expect 0 ctl cluster stop
expect 1 ctl cluster destroy
says --force
[ -e "$WFS_CLUSTER/map.json" ] || fail "destroyed without asking"
expect 0 ctl cluster destroy --force
[ ! -e "$WFS_CLUSTER" ] || fail "something is left: $(ls "$WFS_CLUSTER")"

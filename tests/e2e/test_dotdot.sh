#!/bin/bash
# ".." at the root leads out of the mount, and in again by the mount's own name.
. "$(dirname "$0")/lib.sh"

work_dir
wfs sh -c "echo inside >$work/f"
[ "$(wfs cat "/wfs/..$work/f")" = inside ] || fail "out and in again"
[ "$(wfs sh -c "cd $work && cat ../../wfs/${work#/wfs/}/f")" = inside ] || fail "relative"
[ "$(wfs sh -c 'cd /wfs && ls -d ../etc/passwd')" = ../etc/passwd ] || fail "out"
[ "$(wfs sh -c 'ls -d /wfs/../wfs')" = /wfs/../wfs ] || fail "the root"

#!/bin/bash
# Several writers append to one file through different nodes; no line is lost.
. "$(dirname "$0")/lib.sh"

work_dir
pids=
for i in 0 1 2; do
	(exec "$E2E_BIN/wfsctl" run --node $i -- sh -c \
		"for n in \$(seq 200); do echo $i \$n; done >>$work/all") &
	pids="$pids $!"
done
for pid in $pids; do
	wait $pid || fail "writer"
done
for i in 0 1 2; do
	[ "$(wfs grep -c "^$i " "$work/all")" = 200 ] || fail "writer $i lost lines"
done

#!/bin/bash
# What one node's programs write, the others' read at once.
. "$(dirname "$0")/lib.sh"

work_dir
for i in 0 1 2; do
	ctl run --node $i -- sh -c "echo from $i >$work/f$i && mkdir $work/d$i"
	for j in 0 1 2; do
		[ "$(ctl run --node $j -- cat "$work/f$i")" = "from $i" ] || fail "$i to $j"
	done
done
ctl run --node 1 -- mv "$work/f0" "$work/d2/moved"
[ "$(ctl run --node 2 -- cat "$work/d2/moved")" = 'from 0' ] || fail "moved"
expect 1 ctl run --node 0 -- cat "$work/f0"

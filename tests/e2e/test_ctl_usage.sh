#!/bin/bash
# wfsctl: help on every level, exit codes, errors in one line.
. "$(dirname "$0")/lib.sh"

expect 2 ctl
for level in "" cluster "cluster status" "cluster create" "cluster start" "cluster stop" \
	"cluster destroy" node "node list" "node start" fs "fs create" status df run fsck; do
	expect 0 ctl $level --help
	says Usage: Example
done
expect 0 ctl --version
for wrong in bogus "cluster bogus" "cluster status --bogus" "cluster status extra" \
	"node start" "node start 77" "node stop x" "node list -o nothing" "run" \
	"cluster create --nodes 0" "cluster create --size x" "cluster create --buckets 3" \
	"cluster create a/b" "fs create" "fs create a/b" "run --mount wfs -- true" \
	"run --fs nosuch -- true" "--cluster /nonexistent status" "cluster create --nodes"; do
	expect 2 ctl $wrong
	says wfsctl:
	one_line
done
expect 2 ctl cluster create
says already
expect 1 ctl run -- /nonexistent/program
says /nonexistent/program
expect 3 ctl run -- sh -c 'exit 3'

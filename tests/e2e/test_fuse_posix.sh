#!/bin/bash
# The posix_* programs on the mount.
# limit: 240
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/fuse.sh"

fuse_mount 0
mkdir "$E2E_TMP/m0/$name"
for program in "$E2E_HELPERS"/posix_*; do
	case $program in *.*) continue ;; esac
	expect 0 timeout 60 "$program" "$E2E_TMP/m0/$name"
	[ -z "$out" ] || fail "$program"
done

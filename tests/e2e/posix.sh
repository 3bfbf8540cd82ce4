#!/bin/bash
# Run the posix_* programs on a local directory, the control, and, when WFS_SOCKET is in
# the environment, on WFS under the shim: posix.sh HELPERS LIBRARY [NAME...]
set -u
helpers=${1:?directory of the helpers}
library=${2:?libwfs_preload.so}
shift 2
mount=${WFS_MOUNT:-/wfs}
local=$(mktemp -d /tmp/wfs-posix-XXXXXX) || exit 2
trap 'rm -rf "$local"' EXIT
failed=0
run()
{
	local where=$1 program=$2 output code=0
	shift 2
	output=$(timeout 60 env "$@" 2>&1) || code=$?
	[ $code = 0 ] && [ -z "$output" ] && return
	echo "FAIL $where $program (exit code $code)"
	printf '%s\n' "$output" | head -20 | sed 's/^/     /'
	failed=1
}
programs=("$@")
[ $# -gt 0 ] || programs=($(cd "$helpers" && ls | grep '^posix_[a-z]*$'))
work=$mount/posix.$$
[ -z "${WFS_SOCKET:-}" ] || LD_PRELOAD=$library mkdir "$work" || exit 1
for program in "${programs[@]}"; do
	run local "$program" -u WFS_SOCKET "$helpers/$program" "$local"
	[ -z "${WFS_SOCKET:-}" ] ||
		run wfs "$program" LD_PRELOAD="$library" "$helpers/$program" "$work"
done
[ -z "${WFS_SOCKET:-}" ] || LD_PRELOAD=$library rm -rf "$work" || failed=1
exit $failed

# Sourced after lib.sh by the tests of the mount: skips where there is no FUSE, or no root.
#   fuse_mount NODE   mounts by that node on $E2E_TMP/m<NODE>, and unmounts in the end
if [ "$(id -u)" != 0 ] || [ ! -e /dev/fuse ]; then
	echo "no root, or no /dev/fuse: skipped"
	exit 0
fi
mounts=

fuse_mount()
{
	local node
	for node; do
		ctl mount --node "$node" "$E2E_TMP/m$node" >"$E2E_TMP/mount.log" 2>&1 ||
			fail "mount: $(cat "$E2E_TMP/mount.log")"
		mounts="$mounts $E2E_TMP/m$node"
	done
	trap fuse_end EXIT
}
fuse_end()
{
	local status=$? m
	cd /
	for m in $mounts; do
		ctl umount --force "$m" >/dev/null 2>&1 || :
	done
	[ $status = 0 ] || tail -n 5 "$WFS_CLUSTER/wfs-fuse.log" >&2
	[ "$WFS_CLUSTER" != "$E2E_TMP/c" ] || own_cluster_end
	exit $status
}
# The pid of the wfs-fuse of a mount.
fuse_pid()
{
	pgrep -f "wfs-fuse .* $1\$"
}

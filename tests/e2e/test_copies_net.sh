#!/bin/bash
# Nodes that cannot reach each other for a while, each in a network namespace of its own
# behind a bridge. A cable is pulled with the map out of reach, too: the node stops to
# serve, and the others go on without it. Or packets are lost in one direction only, with
# the map in reach. Under load on the other side; afterwards everything is verified.
#   CHAOS_LONG=1: each node, for 15 s, and loss in each direction, too
# limit: 900
# by name only
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/chaos.sh"

net=wfs$$
bridge=$net-br
nets_remove()
{
	local n
	for n in 0 1 2; do
		ip netns del $net-$n 2>/dev/null || :
	done
	ip link del $bridge 2>/dev/null || :
}
nets_make()
{
	local n
	ip link add $bridge type bridge && ip link set $bridge up || return 1
	for n in 0 1 2; do
		ip netns add $net-$n &&
			ip link add $net-$n type veth peer name eth0 netns $net-$n &&
			ip link set $net-$n master $bridge && ip link set $net-$n up &&
			ip -n $net-$n addr add 10.99.7.$((n + 1))/24 dev eth0 &&
			ip -n $net-$n link set eth0 up &&
			ip -n $net-$n link set lo up || return 1
	done
}
if ! out=$(nets_make 2>&1) || ! command -v nft >/dev/null; then
	nets_remove
	echo "SKIP copies_net: needs root, ip netns, veth and nft: $out"
	exit 0
fi
end()
{
	own_cluster_end
	nets_remove
}

# A node's view of the cluster directory is its own, so that the map can be taken away
# from it: an empty directory over it, in which only the node's own part is left.
in_net()
{
	ip netns exec $net-$1 "${@:2}"
}
map_away()
{
	local empty=$E2E_TMP/empty

	mkdir -p $empty/node{0,1,2}
	nsenter -t "$(pid_of "$1")" -m sh -e -c '
		mount --bind $1/node$3 $2/node$3
		mount --rbind $2 $1' sh "$WFS_CLUSTER" $empty "$1"
}
map_back()
{
	nsenter -t "$(pid_of "$1")" -m sh -e -c '
		umount -R $1
		umount $2/node$3' sh "$WFS_CLUSTER" "$E2E_TMP/empty" "$1"
}
load_on_others()
{
	load_start $((($1 + 1) % 3)) $((($1 + 2) % 3))
}
healed()
{
	wait_healthy 60
	load_moves 60
	load_stop "$@"
	expect 0 ctl fsck
}
# cable NODE SECONDS
cable()
{
	load_on_others "$1"
	map_away "$1"
	ip link set $net-"$1" down
	sleep "$2"
	pause_limit 8000
	ip link set $net-"$1" up
	map_back "$1"
	healed 0 1 2
}
# one_way FROM TO SECONDS: what FROM sends to TO does not arrive.
one_way()
{
	local third=$((3 - $1 - $2))

	load_start $third $third
	in_net "$2" nft -f - <<-EOF
		table ip chaos {
			chain in {
				type filter hook input priority 0;
				ip saddr 10.99.7.$(($1 + 1)) drop
			}
		}
	EOF
	sleep "$3"
	in_net "$2" nft delete table ip chaos
	healed 0 1 2
}

export WFS_CLUSTER=$E2E_TMP/c
trap end EXIT
ctl cluster create --size 256M --nodes 3 --copies 2 --timeout 60 \
	--hosts 10.99.7.1,10.99.7.2,10.99.7.3 >/dev/null
for node in 0 1 2; do
	in_net $node "$E2E_BIN/wfsctl" node start $node >/dev/null &
done
wait
wait_healthy 20
small_tree "$E2E_TMP/tree"

if [ -z "$long" ]; then
	cable 1 8
else
	for node in 0 1 2; do
		cable $node 15
		one_way $node $(((node + 1) % 3)) 15
		one_way $(((node + 1) % 3)) $node 15
	done
fi

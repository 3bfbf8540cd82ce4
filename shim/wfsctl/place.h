/*
 * Where a cluster of this machine keeps its map: <dir>/map.json, or in etcd, and then
 * <dir>/map.etcd says where, in lines "key = value". Members of etcd that the nodes run
 * themselves are "own"; their data is in <dir>/node<N>/etcd.
 */
#ifndef WFS_WFSCTL_PLACE_H
#define WFS_WFSCTL_PLACE_H

#include <limits.h>

#include "core/cluster/etcd_member.h"
#include "core/cluster/map_store.h"
#include "shim/wfsctl/ctl.h"

#define PLACE_MEMBERS_MAX 3u

struct place {
	bool is_etcd;
	bool is_own;
	char name[64]; /* of the cluster; etcd only */
	char map[PATH_MAX + 16];
	char ca[PATH_MAX];
	char cert[PATH_MAX];
	char key[PATH_MAX];
	char user[128];
	char password_file[PATH_MAX];
};

/* Exit codes, after complaining. */
int place_read(const struct ctl *ctl, struct place *place);
int place_write(const struct ctl *ctl, const struct place *place);
int place_open(const struct place *place, struct map_store **store_out);

/* The nodes of this machine, by their directories: etcd may be away. */
unsigned place_ids(const struct ctl *ctl, uint32_t *ids);

/* What the member of node `id` is; strings in static buffers, for one use at a time.
 * port: of the first; each has two. */
struct place_member {
	struct etcd_member_options opt;
	char name[32], data[PATH_MAX + 64], client_url[64], peer_url[64];
	char cluster[64 * PLACE_MEMBERS_MAX];
	char pidfile[PATH_MAX + 64], log[PATH_MAX + 64];
};
void place_member(const struct ctl *ctl, unsigned port, unsigned count, uint32_t id,
	struct place_member *m);
/* End the own members of these nodes, all at the same time. */
void place_members_stop(const struct ctl *ctl, const uint32_t *ids, unsigned count);

#endif

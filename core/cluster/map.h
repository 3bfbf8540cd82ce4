/*
 * The cluster map: which nodes and shards there are, which shard owns which bucket,
 * which filesystems exist. A value, versioned by its epoch; never changed in place. Where
 * it is kept: core/cluster/map_store.h. Who changes it while a cluster runs: keeper.h.
 *
 * Copies. A bucket's primary and its backups are its in-sync members: each holds
 * everything that was acknowledged, so each may become primary. A change of primary, or a
 * restart of it, raises the bucket's epoch; members come and go without. The targets say
 * where the bucket should be, the preferred primary first; data moves until the members
 * are the targets. While a bucket moves it has one member more than copies.
 */
#ifndef WFS_CLUSTER_MAP_H
#define WFS_CLUSTER_MAP_H

#include "core/base/types.h"

#define MAP_NODES_MAX       1024u
#define MAP_SHARDS_MAX      4096u
#define MAP_FILESYSTEMS_MAX 256u
#define MAP_FSNAME_MAX      63u
#define MAP_HOST_MAX        63u
#define MAP_COPIES_MAX      3u
#define MAP_DOMAIN_MAX      31u

#define MAP_LEASE_MS_DEFAULT        5000u
#define MAP_REBUILD_AFTER_S_DEFAULT 60u

enum map_node_state {
	MAP_NODE_IN,
	MAP_NODE_DRAINING, /* serves, but its buckets go elsewhere */
	MAP_NODE_LOST,     /* excluded for good; holds nothing any more */
};

struct map_node {
	uint32_t id;
	char host[MAP_HOST_MAX + 1];
	char socket[108]; /* path of its Unix socket, for programs on its host */
	char domain[MAP_DOMAIN_MAX + 1]; /* what fails together; default "node<id>" */
	enum map_node_state state;
};

struct map_shard {      /* its position is its shard number in the cluster */
	uint32_t node;  /* id */
	uint32_t index; /* within the node */
	uint16_t port;
	uint8_t device_uuid[16]; /* all zero: not yet known */
	uint64_t incarnation;    /* of the wfsd process that serves it; 0: none yet */
};

struct map_bucket { /* shard numbers */
	uint32_t epoch;
	uint32_t primary;
	uint32_t backup_count; /* at most copies */
	uint32_t backups[MAP_COPIES_MAX];
	uint32_t target_count; /* at most copies; 0: not planned */
	uint32_t targets[MAP_COPIES_MAX];
};

struct map_filesystem {
	uint32_t fsid;
	char name[MAP_FSNAME_MAX + 1];
	ino_id root;
};

struct map {
	uint64_t epoch;
	uint8_t uuid[16];
	char name[64];
	char provider[32]; /* libfabric: "net" or "tcp;ofi_rxm" */
	uint32_t timeout_ms;
	uint32_t copies; /* of every bucket: 1 to MAP_COPIES_MAX */
	uint32_t lease_ms;
	uint32_t rebuild_after_s; /* a node dead this long is planned out */
	uint32_t rebuild_mib_s;   /* copied by each shard at most; 0: see progress.c */
	uint32_t node_count;
	uint32_t shard_count;
	uint32_t bucket_count; /* power of two */
	uint32_t filesystem_count;
	struct map_node *nodes;
	struct map_shard *shards;
	struct map_bucket *buckets;
	struct map_filesystem *filesystems;
};

/* Memory for the given counts, zeroed but for copies 1 and the defaults of lease_ms and
 * rebuild_after_s; NULL when short. map_free takes NULL. */
struct map *map_new(uint32_t node_count, uint32_t shard_count, uint32_t bucket_count,
	uint32_t filesystem_count);
void map_free(struct map *map);
/* A copy with room for more, zeroed, at the end of each array; counts include it. */
struct map *map_copy(const struct map *map, uint32_t more_nodes, uint32_t more_shards,
	uint32_t more_filesystems);
/*
 * Place the buckets of a new cluster: targets, and the same as primary and backups, at
 * epoch 1. No two shards differ by more than one in members, nor in primaries, where the
 * failure domains allow it; copies of a bucket are in different domains where there are
 * enough, and never on one node unless the map has fewer nodes than copies; the backups
 * of one shard's buckets are spread over all others. -ENOMEM.
 */
int map_place(struct map *map);
/*
 * Plan the targets again after shards went out or came in: shard_out[shard] must hold no
 * target. Moves as little as it can; balanced: no shard is above 1.25 times the mean
 * where that can be. With too few nodes left, buckets get fewer targets than copies. The
 * same map and shard_out give the same plan. -ENOMEM; -ENOSPC: no shard is left.
 */
int map_plan(struct map *map, const bool *shard_out);
/* How many targets map_plan can give a bucket, and in how many different domains. */
uint32_t map_plan_copies(
	const struct map *map, const bool *shard_out, uint32_t *domains_out);
/* Is this shard a primary or in-sync backup (map_bucket_has_backup: a backup) of it? */
bool map_bucket_has(const struct map_bucket *bucket, uint32_t shard);
bool map_bucket_has_backup(const struct map_bucket *bucket, uint32_t shard);
const struct map_node *map_node_find(const struct map *map, uint32_t id);
uint64_t map_cluster_tag(const struct map *map); /* first 8 bytes of the uuid */

/* JSON text, and back. Parsing validates everything: -EUCLEAN, with the reason. */
char *map_to_json(const struct map *map); /* free() it; NULL when memory is short */
int map_from_json(const char *text, size_t size_bytes, struct map **map_out, char *reason,
	size_t reason_size);

#endif

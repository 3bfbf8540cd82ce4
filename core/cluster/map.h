/*
 * The cluster map: which nodes and shards there are, which shard owns which bucket,
 * which filesystems exist. A value, versioned by its epoch; never changed in place.
 *
 * Kept by a map store behind a small ops table. Embedded: one JSON file, replaced by
 * rename under a lock, for clusters whose nodes share one machine.
 */
#ifndef WFS_CLUSTER_MAP_H
#define WFS_CLUSTER_MAP_H

#include "core/base/types.h"

#define MAP_NODES_MAX       1024u
#define MAP_SHARDS_MAX      4096u
#define MAP_FILESYSTEMS_MAX 256u
#define MAP_FSNAME_MAX      63u

struct map_node {
	uint32_t id;
	char host[64];
	char socket[108]; /* path of its Unix socket, for programs on its host */
};

struct map_shard { /* its position is its shard number in the cluster */
	uint32_t node;  /* id */
	uint32_t index; /* within the node */
	uint16_t port;
};

struct map_bucket {
	uint32_t epoch;
	uint32_t primary; /* shard number */
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
	uint32_t node_count;
	uint32_t shard_count;
	uint32_t bucket_count; /* power of two */
	uint32_t filesystem_count;
	struct map_node *nodes;
	struct map_shard *shards;
	struct map_bucket *buckets;
	struct map_filesystem *filesystems;
};

/* Memory for the given counts, zeroed; NULL when short. map_free takes NULL. */
struct map *map_new(uint32_t node_count, uint32_t shard_count, uint32_t bucket_count,
	uint32_t filesystem_count);
void map_free(struct map *map);
struct map *map_copy(const struct map *map, uint32_t more_filesystems);
/* Spread buckets evenly over the shards: no two shards differ by more than one. */
void map_place(struct map *map);
const struct map_node *map_node_find(const struct map *map, uint32_t id);
uint64_t map_cluster_tag(const struct map *map); /* first 8 bytes of the uuid */

/* JSON text, and back. Parsing validates everything: -EUCLEAN, with the reason. */
char *map_to_json(const struct map *map); /* free() it; NULL when memory is short */
int map_from_json(const char *text, size_t size_bytes, struct map **map_out,
	char *reason, size_t reason_size);

struct map_store;
struct map_store_ops {
	int (*load)(struct map_store *store, struct map **map_out);
	/* -EAGAIN: the stored epoch is not map->epoch - 1. */
	int (*save)(struct map_store *store, const struct map *map);
	void (*close)(struct map_store *store);
};
struct map_store {
	const struct map_store_ops *ops;
	char reason[256]; /* of the last failure, for the operator */
};
/* The embedded store: file `path`. */
int map_store_file_open(const char *path, struct map_store **store_out);

#endif

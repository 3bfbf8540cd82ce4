/*
 * The cluster map as a value: making, copying, looking into it.
 *
 * A map is one allocation: the struct, then its four arrays. So it is freed in one go and
 * a half-made map cannot exist.
 */
#include "core/cluster/map.h"

#include <string.h>

#include "core/base/mem.h"

static size_t align16(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

struct map *map_new(uint32_t node_count, uint32_t shard_count, uint32_t bucket_count,
	uint32_t filesystem_count)
{
	size_t nodes_at = align16(sizeof(struct map));
	size_t shards_at = nodes_at + align16(node_count * sizeof(struct map_node));
	size_t buckets_at = shards_at + align16(shard_count * sizeof(struct map_shard));
	size_t fs_at = buckets_at + align16(bucket_count * sizeof(struct map_bucket));
	uint8_t *p = mem_zalloc(
		fs_at + align16(filesystem_count * sizeof(struct map_filesystem)));
	struct map *map = (struct map *)p;

	if (!map)
		return NULL;
	map->node_count = node_count;
	map->shard_count = shard_count;
	map->bucket_count = bucket_count;
	map->filesystem_count = filesystem_count;
	map->copies = 1;
	map->lease_ms = MAP_LEASE_MS_DEFAULT;
	map->rebuild_after_s = MAP_REBUILD_AFTER_S_DEFAULT;
	map->nodes = (struct map_node *)(p + nodes_at);
	map->shards = (struct map_shard *)(p + shards_at);
	map->buckets = (struct map_bucket *)(p + buckets_at);
	map->filesystems = (struct map_filesystem *)(p + fs_at);
	return map;
}

void map_free(struct map *map)
{
	mem_free(map);
}

struct map *map_copy(const struct map *map, uint32_t more_nodes, uint32_t more_shards,
	uint32_t more_filesystems)
{
	struct map *copy =
		map_new(map->node_count + more_nodes, map->shard_count + more_shards,
			map->bucket_count, map->filesystem_count + more_filesystems);

	if (!copy)
		return NULL;
	copy->epoch = map->epoch;
	copy->timeout_ms = map->timeout_ms;
	copy->copies = map->copies;
	copy->lease_ms = map->lease_ms;
	copy->rebuild_after_s = map->rebuild_after_s;
	copy->rebuild_mib_s = map->rebuild_mib_s;
	memcpy(copy->uuid, map->uuid, sizeof(copy->uuid));
	memcpy(copy->name, map->name, sizeof(copy->name));
	memcpy(copy->provider, map->provider, sizeof(copy->provider));
	memcpy(copy->nodes, map->nodes, map->node_count * sizeof(*map->nodes));
	memcpy(copy->shards, map->shards, map->shard_count * sizeof(*map->shards));
	memcpy(copy->buckets, map->buckets, map->bucket_count * sizeof(*map->buckets));
	memcpy(copy->filesystems, map->filesystems,
		map->filesystem_count * sizeof(*map->filesystems));
	return copy;
}

bool map_bucket_has_backup(const struct map_bucket *bucket, uint32_t shard)
{
	for (uint32_t i = 0; i < bucket->backup_count; i++)
		if (bucket->backups[i] == shard)
			return true;
	return false;
}

bool map_bucket_has(const struct map_bucket *bucket, uint32_t shard)
{
	return bucket->primary == shard || map_bucket_has_backup(bucket, shard);
}

const struct map_node *map_node_find(const struct map *map, uint32_t id)
{
	for (uint32_t i = 0; i < map->node_count; i++)
		if (map->nodes[i].id == id)
			return &map->nodes[i];
	return NULL;
}

uint64_t map_cluster_tag(const struct map *map)
{
	uint64_t tag;

	memcpy(&tag, map->uuid, sizeof(tag));
	return tag;
}

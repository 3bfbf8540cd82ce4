/* libFuzzer: a cluster map's text. What is accepted must survive writing and reading. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/cluster/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char reason[128];
	struct map *map;
	struct map *again;
	char *text;

	if (map_from_json((const char *)data, size, &map, reason, sizeof(reason)) != 0)
		return 0;
	if (map->copies < 1 || map->copies > MAP_COPIES_MAX)
		abort();
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];

		if (b->primary >= map->shard_count || b->epoch < 1 ||
			b->backup_count > map->copies || b->target_count > map->copies ||
			map_bucket_has_backup(b, b->primary))
			abort();
		for (uint32_t k = 0; k < b->backup_count; k++)
			if (b->backups[k] >= map->shard_count)
				abort();
		for (uint32_t k = 0; k < b->target_count; k++)
			if (b->targets[k] >= map->shard_count)
				abort();
	}
	text = map_to_json(map);
	if (!text ||
		map_from_json(text, strlen(text), &again, reason, sizeof(reason)) != 0)
		abort();
	map_free(again);
	map_free(map);
	free(text);
	return 0;
}

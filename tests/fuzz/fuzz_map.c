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
	for (uint32_t i = 0; i < map->bucket_count; i++)
		if (map->buckets[i].primary >= map->shard_count)
			abort();
	text = map_to_json(map);
	if (!text ||
		map_from_json(text, strlen(text), &again, reason, sizeof(reason)) != 0)
		abort();
	map_free(again);
	map_free(map);
	free(text);
	return 0;
}

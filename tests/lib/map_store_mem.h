/*
 * A map store in memory, for tests that own time: one struct mem_maps is what all nodes
 * share, each opens a handle of its own. Its clock is the env's.
 */
#ifndef WFS_TESTS_MAP_STORE_MEM_H
#define WFS_TESTS_MAP_STORE_MEM_H

#include "core/base/env.h"
#include "core/cluster/map_store.h"

struct mem_lease {
	uint32_t node;
	uint64_t incarnation;
	uint64_t expiry_us;
};

struct mem_maps {
	struct env *env;
	struct map *map;
	struct mem_lease leases[32];
	uint32_t lease_count;
	bool forgets; /* expired leases, as a store may */
	uint32_t saves;
};

struct map_store_mem {
	struct map_store store;
	struct mem_maps *maps;
	bool away;         /* this node cannot reach it */
	bool lose_answers; /* saves happen, and answer -EIO */
	/* Called once, before the next save takes effect. */
	void (*before_save)(void *ctx);
	void *ctx;
};

void mem_maps_init(struct mem_maps *maps, struct env *env, const struct map *map);
void mem_maps_release(struct mem_maps *maps);
void map_store_mem_init(struct map_store_mem *store, struct mem_maps *maps);

#endif

/* The map store in memory. */
#include "tests/lib/map_store_mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/list.h"

static struct map_store_mem *mem_of(struct map_store *store)
{
	return container_of(store, struct map_store_mem, store);
}

static bool away(struct map_store *store)
{
	if (!mem_of(store)->away)
		return false;
	snprintf(store->reason, sizeof(store->reason), "the store is away");
	return true;
}

static int mem_load(struct map_store *store, uint64_t known_epoch, struct map **map_out)
{
	struct mem_maps *maps = mem_of(store)->maps;

	if (away(store))
		return -EIO;
	*map_out = known_epoch && maps->map->epoch <= known_epoch
			   ? NULL
			   : map_copy(maps->map, 0, 0, 0);
	return 0;
}

static int mem_save(struct map_store *store, const struct map *map)
{
	struct map_store_mem *mem = mem_of(store);
	struct mem_maps *maps = mem->maps;
	void (*before)(void *) = mem->before_save;

	mem->before_save = NULL;
	if (before)
		before(mem->ctx);
	if (away(store))
		return -EIO;
	if (map->epoch != maps->map->epoch + 1)
		return -EAGAIN;
	map_free(maps->map);
	maps->map = map_copy(map, 0, 0, 0);
	maps->saves++;
	return mem->lose_answers ? -EIO : 0;
}

static struct mem_lease *lease_of(struct mem_maps *maps, uint32_t node)
{
	for (uint32_t i = 0; i < maps->lease_count; i++)
		if (maps->leases[i].node == node)
			return &maps->leases[i];
	return NULL;
}

static int mem_renew(
	struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ttl_ms)
{
	struct mem_maps *maps = mem_of(store)->maps;
	struct mem_lease *lease = lease_of(maps, node);
	uint64_t now_us = env_now_us(maps->env);

	if (away(store))
		return -EIO;
	if (!lease)
		lease = &maps->leases[maps->lease_count++];
	else if (lease->incarnation != incarnation && lease->expiry_us > now_us)
		return -EBUSY;
	*lease = (struct mem_lease){node, incarnation, now_us + ttl_ms * 1000ull};
	return 0;
}

static int mem_release(struct map_store *store, uint32_t node, uint64_t incarnation)
{
	struct mem_maps *maps = mem_of(store)->maps;
	struct mem_lease *lease = lease_of(maps, node);

	if (away(store))
		return -EIO;
	if (lease && lease->incarnation == incarnation)
		*lease = maps->leases[--maps->lease_count];
	return 0;
}

static int mem_leases(struct map_store *store, struct map_lease *leases, uint32_t max,
	uint32_t *count_out)
{
	struct mem_maps *maps = mem_of(store)->maps;
	uint64_t now_us = env_now_us(maps->env);
	uint32_t count = 0;

	if (away(store))
		return -EIO;
	for (uint32_t i = 0; i < maps->lease_count; i++) {
		const struct mem_lease *l = &maps->leases[i];
		bool expired = l->expiry_us <= now_us;

		if (expired && maps->forgets)
			continue;
		if (count == max)
			return -ENOSPC;
		leases[count++] = (struct map_lease){.node = l->node,
			.incarnation = l->incarnation,
			.remaining_ms =
				expired ? 0
					: (uint32_t)((l->expiry_us - now_us + 999) /
						     1000)};
	}
	*count_out = count;
	return 0;
}

static int mem_wait(struct map_store *store, uint64_t known_epoch, uint32_t timeout_ms)
{
	(void)known_epoch;
	(void)timeout_ms;
	return away(store) ? -EIO : 0;
}

static void mem_close(struct map_store *store)
{
	(void)store;
}

void mem_maps_init(struct mem_maps *maps, struct env *env, const struct map *map)
{
	*maps = (struct mem_maps){.env = env, .map = map_copy(map, 0, 0, 0)};
}

void mem_maps_release(struct mem_maps *maps)
{
	map_free(maps->map);
	maps->map = NULL;
}

void map_store_mem_init(struct map_store_mem *store, struct mem_maps *maps)
{
	static const struct map_store_ops ops = {
		.load = mem_load,
		.save = mem_save,
		.renew = mem_renew,
		.release = mem_release,
		.leases = mem_leases,
		.wait = mem_wait,
		.close = mem_close,
	};

	*store = (struct map_store_mem){.store.ops = &ops, .maps = maps};
}

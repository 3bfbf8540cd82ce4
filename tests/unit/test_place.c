/* Where new directories go: the choice by itself, and trees copied into a whole cluster. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/mem.h"
#include "core/shard/place.h"
#include "tests/lib/world.h"

#define SHARDS 3u

static uint32_t fills[SHARDS];

static uint32_t fill_of(void *ctx, uint32_t shard)
{
	(void)ctx;
	cr_assert_lt(shard, SHARDS);
	return fills[shard];
}

static struct map *map_of(uint32_t shards, uint32_t buckets)
{
	struct map *map = map_new(1, shards, buckets, 0);

	cr_assert(map);
	map->epoch = 1;
	map_place(map);
	return map;
}

/* `count` directories below a root in bucket 0: how many each shard and bucket got. */
static void spread(uint32_t start, uint32_t count, uint32_t *shards, uint32_t *buckets)
{
	struct map *map = map_of(SHARDS, 256);
	struct place *p;

	memset(shards, 0, SHARDS * sizeof(*shards));
	memset(buckets, 0, 256 * sizeof(*buckets));
	cr_assert_eq(place_new(start, &p), 0);
	for (uint32_t i = 0; i < count; i++) {
		uint16_t bucket = place_pick(p, map, 0, fill_of, NULL);

		cr_assert_lt(bucket, 256);
		cr_assert_neq(bucket, 0, "in its parent's bucket");
		buckets[bucket]++;
		shards[map->buckets[bucket].primary]++;
	}
	place_free(p);
	map_free(map);
	cr_assert_eq(mem_live_count(), 0);
}

static uint32_t range(const uint32_t *n, uint32_t count)
{
	uint32_t min = n[0], max = n[0];

	for (uint32_t i = 1; i < count; i++) {
		min = n[i] < min ? n[i] : min;
		max = n[i] > max ? n[i] : max;
	}
	return max - min;
}

static void fills_set(uint32_t a, uint32_t b, uint32_t c)
{
	fills[0] = a;
	fills[1] = b;
	fills[2] = c;
}

Test(place, equal_shards_get_equal_shares)
{
	static const uint32_t levels[] = {0, 1, 1u << 20, UINT32_MAX};
	uint32_t shards[SHARDS], buckets[256];

	for (uint32_t i = 0; i < 4; i++) {
		fills_set(levels[i], levels[i], levels[i]);
		for (uint32_t start = 0; start < 1000; start += 37) {
			spread(start, 300, shards, buckets);
			cr_assert_leq(range(shards, SHARDS), 2);
			/* And within a shard the buckets come in turn. */
			cr_assert_leq(range(buckets + 1, 255), 1);
		}
	}
}

Test(place, another_start_begins_elsewhere)
{
	uint32_t shards[SHARDS], buckets[256], seen[SHARDS] = {0};

	fills_set(0, 0, 0);
	for (uint32_t start = 0; start < 30; start++) {
		spread(start, 1, shards, buckets);
		for (uint32_t i = 0; i < SHARDS; i++)
			seen[i] += shards[i];
	}
	cr_assert_leq(range(seen, SHARDS), 2);
}

Test(place, a_fuller_shard_gets_fewer_but_some)
{
	uint32_t shards[SHARDS], buckets[256];

	for (uint32_t bit = 0; bit <= 30; bit += 6) {
		uint32_t unit = 1u << bit;

		fills_set(unit, 2 * unit, unit);
		spread(unit, 300, shards, buckets);
		cr_assert_lt(shards[1], 50, "%u", shards[1]);
		cr_assert_gt(shards[1], 5, "%u", shards[1]);
		cr_assert_leq(abs((int)shards[0] - (int)shards[2]), 2);
	}
	/* A little fuller: a little fewer. */
	fills_set(1000000, 1050000, 1000000);
	spread(0, 300, shards, buckets);
	cr_assert_lt(shards[1], 95);
	cr_assert_gt(shards[1], 70);
	/* Extremes are bounded. */
	fills_set(UINT32_MAX, UINT32_MAX, 1);
	spread(0, 300, shards, buckets);
	cr_assert_geq(shards[0], 15);
	cr_assert_geq(shards[1], 15);
}

/* As long as a shard says nothing, it is neither preferred nor shunned. */
Test(place, the_unknown_count_as_the_mean)
{
	uint32_t shards[SHARDS], buckets[256];

	fills_set(5000000, 0, 5000000);
	spread(0, 300, shards, buckets);
	cr_assert_leq(range(shards, SHARDS), 2);
	fills_set(5000000, 0, 0);
	spread(0, 300, shards, buckets);
	cr_assert_leq(range(shards, SHARDS), 2);
}

/* Many mkdirs before anybody's fill is heard of again. */
Test(place, a_burst_spreads_in_small_groups_too)
{
	struct map *map = map_of(SHARDS, 256);
	uint32_t got[SHARDS] = {0};
	struct place *p;

	fills_set(900, 1000, 1100);
	cr_assert_eq(place_new(5, &p), 0);
	for (uint32_t i = 0; i < 12; i++)
		got[map->buckets[place_pick(p, map, 0, fill_of, NULL)].primary]++;
	for (uint32_t i = 0; i < SHARDS; i++)
		cr_assert_geq(got[i], 2, "shard %u: %u of 12", i, got[i]);
	cr_assert(got[0] > got[2]);
	place_free(p);
	map_free(map);
}

Test(place, few_buckets)
{
	struct place *p;
	struct map *map = map_of(1, 1);

	cr_assert_eq(place_new(77, &p), 0);
	/* There is no other than the parent's. */
	cr_assert_eq(place_pick(p, map, 0, NULL, NULL), 0);
	map_free(map);
	place_free(p);
	/* More shards than buckets, and a shard whose only bucket is the parent's. */
	map = map_of(3, 2);
	cr_assert_eq(place_new(77, &p), 0);
	for (uint32_t i = 0; i < 10; i++) {
		cr_assert_eq(place_pick(p, map, 0, fill_of, NULL), 1);
		cr_assert_eq(place_pick(p, map, 1, fill_of, NULL), 0);
	}
	map_free(map);
	place_free(p);
	/* Another map: buckets have moved. */
	map = map_of(2, 4);
	cr_assert_eq(place_new(0, &p), 0);
	place_pick(p, map, 0, NULL, NULL);
	map->epoch++;
	for (uint32_t b = 0; b < 4; b++)
		map->buckets[b].primary = 1;
	for (uint32_t i = 0; i < 10; i++)
		cr_assert_neq(place_pick(p, map, 3, NULL, NULL), 3);
	map_free(map);
	place_free(p);
}

/* --- a whole cluster --- */

static struct world world, *w = &world;

static uint64_t inodes_of(uint32_t shard)
{
	return meta_inode_count(w->shards[shard].shard->meta);
}

/* The largest shard's part of all inodes, in 1/1000. */
static unsigned largest_share(void)
{
	uint64_t total = 0, max = 0;

	for (uint32_t i = 0; i < w->shard_count; i++) {
		uint64_t n = inodes_of(i);

		total += n;
		max = n > max ? n : max;
	}
	return (unsigned)(1000 * max / total);
}

static void start(uint64_t seed)
{
	world_init(w, &(struct world_options){
		.shard_count = SHARDS, .bucket_count = 64, .seed = seed});
}

static void end(void)
{
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left", mem_live_count());
}

Test(place, directories_alone_spread_evenly)
{
	char path[32];

	start(1);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(path, sizeof(path), "/%u", i);
		cr_assert_eq(w_mkdir(w, path, 0755), 0);
	}
	for (uint32_t i = 0; i < SHARDS; i++) {
		cr_assert_geq(inodes_of(i), 98, "%llu", (unsigned long long)inodes_of(i));
		cr_assert_leq(inodes_of(i), 103, "%llu",
			(unsigned long long)inodes_of(i));
	}
	end();
}

/* Directories of 1 to 600 files, most of them small, below each other at random. */
static void tree_copy(void)
{
	enum { DIRS = 60 };
	char dirs[DIRS + 1][128] = {""}, path[192];

	for (unsigned d = 1; d <= DIRS; d++) {
		uint64_t part = world_random(w) % 1000;
		unsigned files = 1 + (unsigned)(part * part * part * 600 / 1000000000);
		unsigned above = (unsigned)(world_random(w) % d);

		if (strlen(dirs[above]) > 100)
			above = 0;
		snprintf(dirs[d], sizeof(dirs[d]), "%.100s/d%u", dirs[above], d);
		cr_assert_eq(w_mkdir(w, dirs[d], 0755), 0);
		for (unsigned f = 0; f < files; f++) {
			snprintf(path, sizeof(path), "%s/%u", dirs[d], f);
			cr_assert_eq(w_create(w, path, 0644, NULL), 0);
		}
	}
}

Test(place, a_lumpy_tree_comes_out_even)
{
	unsigned worst = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		unsigned share;

		start(seed);
		tree_copy();
		share = largest_share();
		if (getenv("WORLD_LOG"))
			fprintf(stderr, "seed %u: largest %u, of %u\n", (unsigned)seed, share,
				(unsigned)(inodes_of(0) + inodes_of(1) + inodes_of(2)));
		cr_assert_leq(share, 400, "seed %u: a shard has %u/1000 of the inodes",
			(unsigned)seed, share);
		worst = share > worst ? share : worst;
		end();
	}
	cr_assert_geq(worst, 334); /* it was a tree at all */
}

/*
 * Placement of new directories: smooth weighted round robin over the shards, then the
 * chosen shard's buckets in turn.
 *
 * A directory's files live with it, so a few big directories that happen to meet make
 * their shard fuller than the rest. Hence a shard's weight falls as its fill rises above
 * the mean, and rises as it falls below:
 *
 *   weight = clamp(1 + 4 * (mean - fill) / mean, 1/4, 4)
 *
 * Weights, not "the emptiest": what the others say of themselves is as old as their last
 * reply, and a burst of mkdirs must still go to all of them. Each pick adds to every
 * shard's credit its weight, takes the one with the most, and takes from it what all were
 * given; so over n picks of constant weights each shard has its share to within one.
 *
 * A shard that told nothing yet, or whose node died, has the weight 1: it must not look
 * attractive for being silent.
 */
#include "core/shard/place.h"

#include <errno.h>

#include "core/base/mem.h"

#define WEIGHT_ONE 256
#define WEIGHT_MIN (WEIGHT_ONE / 4)
#define WEIGHT_MAX (WEIGHT_ONE * 4)
#define BIAS       4

struct place_shard {
	int64_t credit;
	uint32_t cursor; /* its next bucket is the first at or after this */
	uint32_t bucket_count;
	uint32_t fill;
};

struct place {
	uint32_t start;
	uint64_t map_epoch; /* bucket counts are of this map; 0: none yet */
	struct place_shard shards[MAP_SHARDS_MAX];
};

int place_new(uint32_t start, struct place **place_out)
{
	struct place *p = mem_zalloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->start = start;
	for (uint32_t i = 0; i < MAP_SHARDS_MAX; i++)
		p->shards[i].cursor = start;
	*place_out = p;
	return 0;
}

void place_free(struct place *p)
{
	mem_free(p);
}

static void buckets_count(struct place *p, const struct map *map)
{
	if (p->map_epoch == map->epoch)
		return;
	for (uint32_t i = 0; i < map->shard_count; i++)
		p->shards[i].bucket_count = 0;
	for (uint32_t b = 0; b < map->bucket_count; b++)
		p->shards[map->buckets[b].primary].bucket_count++;
	p->map_epoch = map->epoch;
}

/* Asks all for their fill; the mean of those that are known, or 0. */
static uint32_t fills_mean(struct place *p, const struct map *map, place_fill_fn *fill_of,
	void *ctx)
{
	uint64_t sum = 0;
	uint32_t known = 0;

	for (uint32_t i = 0; i < map->shard_count; i++) {
		struct place_shard *ps = &p->shards[i];

		ps->fill = fill_of && ps->bucket_count ? fill_of(ctx, i) : 0;
		sum += ps->fill;
		known += ps->fill > 0;
	}
	return known ? (uint32_t)(sum / known) : 0;
}

static int64_t weight_of(uint32_t fill, uint32_t mean)
{
	int64_t weight = WEIGHT_ONE;

	if (fill && mean)
		weight += BIAS * WEIGHT_ONE * ((int64_t)mean - fill) / mean;
	if (weight < WEIGHT_MIN)
		return WEIGHT_MIN;
	return weight > WEIGHT_MAX ? WEIGHT_MAX : weight;
}

/* The shard whose turn it is, or UINT32_MAX when none has a bucket to offer. */
static uint32_t shard_pick(struct place *p, const struct map *map, uint16_t avoid,
	uint32_t mean)
{
	uint32_t best = UINT32_MAX;
	int64_t given = 0;

	for (uint32_t n = 0; n < map->shard_count; n++) {
		uint32_t i = (p->start + n) % map->shard_count;
		struct place_shard *ps = &p->shards[i];
		int64_t weight = weight_of(ps->fill, mean);

		if (ps->bucket_count <= (map->buckets[avoid].primary == i))
			continue;
		ps->credit += weight;
		given += weight;
		if (best == UINT32_MAX || ps->credit > p->shards[best].credit)
			best = i;
	}
	if (best != UINT32_MAX)
		p->shards[best].credit -= given;
	return best;
}

uint16_t place_pick(struct place *p, const struct map *map, uint16_t avoid,
	place_fill_fn *fill_of, void *ctx)
{
	uint32_t shard, bucket;

	buckets_count(p, map);
	shard = shard_pick(p, map, avoid, fills_mean(p, map, fill_of, ctx));
	if (shard == UINT32_MAX)
		return avoid;
	bucket = p->shards[shard].cursor & (map->bucket_count - 1);
	while (map->buckets[bucket].primary != shard || bucket == avoid)
		bucket = (bucket + 1) & (map->bucket_count - 1);
	p->shards[shard].cursor = bucket + 1;
	return (uint16_t)bucket;
}

/*
 * Where a new directory goes. Its files will live in its bucket, so this decides how full
 * the shards become; see place.c for how.
 */
#ifndef WFS_SHARD_PLACE_H
#define WFS_SHARD_PLACE_H

#include "core/cluster/map.h"

struct place;

/*
 * How full a shard is, as a fraction of 2^32 and never 0; 0: not known, which is taken for
 * as full as the others.
 */
typedef uint32_t place_fill_fn(void *ctx, uint32_t shard);

/* start: any number, which shard and bucket come first. -ENOMEM. */
int place_new(uint32_t start, struct place **place_out);
void place_free(struct place *p);
/*
 * The bucket for the next directory; not `avoid`, its parent's, unless there is no other.
 * fill_of NULL: nothing is known.
 */
uint16_t place_pick(struct place *p, const struct map *map, uint16_t avoid,
	place_fill_fn *fill_of, void *ctx);

#endif

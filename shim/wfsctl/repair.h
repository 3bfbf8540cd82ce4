/*
 * How far the buckets are from where they should be: what the map says, and what the
 * shards that lead them say.
 */
#ifndef WFS_WFSCTL_REPAIR_H
#define WFS_WFSCTL_REPAIR_H

#include "net/wire.h"
#include "shim/wfsctl/local.h"

struct repair_sum {
	uint32_t reduced;  /* buckets with fewer members than copies */
	uint32_t moving;   /* whose members are not their targets, for whatever reason */
	uint32_t short_of; /* that cannot have enough copies: too few nodes */
	bool unplanned; /* nodes came or went, and the keepers have yet to plan for it */
	uint64_t copying;
	uint64_t waiting;
	uint64_t done_bytes;
	uint64_t total_bytes;
	uint64_t rate; /* bytes a second */
};

void repair_sum_map(struct repair_sum *sum, const struct local *local);
/* Nothing is to be done. */
bool repair_is_whole(const struct repair_sum *sum);
void repair_sum_shard(struct repair_sum *sum, const struct wire_shard_stats *stats);
/* Seconds until all is copied; negative: not known. */
double repair_seconds_left(const struct repair_sum *sum);

#endif

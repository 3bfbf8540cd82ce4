/*
 * Buckets that went elsewhere: what is left of them here is deleted, so that room is free
 * where data has moved away.
 *
 * Only what nobody can come back for goes. A bucket of which the map makes us neither
 * member nor target is not touched before CLEAR_US and two leases have passed. Then,
 * while our node's lease is valid, our map is younger than half a lease; so if the bucket
 * had become ours again, by a map that was saved before that, we would know. If it became
 * so later, its primary has sent a JOIN since, which changes the stream's number: then we
 * leave it alone.
 *
 * It is deleted as for a copy (bucket_wipe): by records of epoch 0, which say that what
 * is here is not whole.
 */
#include "core/shard/member.h"

#include <errno.h>

#define CLEAR_US 5000000u

static bool bucket_gone(const struct shard *s, uint16_t bucket)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];

	if (s->buckets[bucket].role != ROLE_NONE || map_bucket_has(mb, s->number))
		return false;
	for (uint32_t i = 0; i < mb->target_count; i++)
		if (mb->targets[i] == s->number)
			return false;
	return true;
}

static bool clear_may(const struct shard *s, uint16_t bucket, uint64_t now)
{
	const struct bucket_state *b = &s->buckets[bucket];

	return bucket_gone(s, bucket) && b->gone_us && b->stream == b->gone_stream &&
	       now < s->lease_until_us &&
	       now - b->gone_us > CLEAR_US + 2000ull * s->map->lease_ms;
}

static void clear_end(struct exec *x, int status)
{
	struct shard *s = x->s;

	s->clearing = false;
	if (status == 0) {
		s->buckets[x->bucket].cleared = true;
		member_soon(s);
	}
	exec_finish_now(x, status);
}

static void cleared_last(struct store_record *r, int status)
{
	clear_end(container_of(r, struct exec, record), status);
}

static void cleared_part(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);

	if (status)
		clear_end(x, status);
	else
		exec_again(x);
}

static void clear_start(struct exec *x)
{
	struct shard *s = x->s;
	uint16_t bucket = x->bucket;
	int rc = -EREMCHG;

	if (clear_may(s, bucket, env_now_us(s->env)))
		rc = bucket_wipe(x, bucket, s->lsn[bucket], cleared_part, cleared_last);
	if (rc < 0 && rc != -EINPROGRESS)
		clear_end(x, rc);
}

static void clear_begin(struct shard *s, uint16_t bucket)
{
	static const struct op_desc op = {.start = clear_start, .member = true};
	struct exec *x = exec_new(s, NULL);

	if (!x)
		return;
	s->clearing = true;
	x->op = &op;
	x->bucket = bucket;
	exec_start(x);
}

/* One bucket at a time. */
bool clear_poll(struct shard *s, uint64_t now)
{
	bool work = s->clearing;

	for (uint32_t i = 0; i < s->map->bucket_count; i++) {
		struct bucket_state *b = &s->buckets[i];

		if (!bucket_gone(s, (uint16_t)i)) {
			b->gone_us = 0;
			continue;
		}
		if (b->gone_us == 0 || b->stream != b->gone_stream) {
			b->gone_us = now;
			b->gone_stream = b->stream;
			b->cleared = s->lsn[i] == 0;
		}
		if (b->cleared)
			continue;
		work = true;
		if (!s->clearing && clear_may(s, (uint16_t)i, now))
			clear_begin(s, (uint16_t)i);
	}
	return work;
}

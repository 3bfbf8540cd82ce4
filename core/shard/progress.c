/*
 * How far repair is, and how fast it may be.
 *
 * With a limit (the map's rebuild_mib_s) a shard sends so much in copies and no more.
 * Without one, a shard that serves programs copies for half of the time at most: after a
 * unit has taken some time, as much passes before the next is sent. A shard that nobody
 * asks anything copies as fast as it can. Records are never held back: only units of
 * copies are.
 */
#include "core/shard/member.h"

#include <errno.h>
#include <string.h>

#include "net/wire.h"

#define SERVING_US   100000u /* a request is that recent: it serves */
#define PAUSE_MAX_US 50000u
#define LOOK_US      50000u
#define RATE_US      1000000u

/* --- pace --- */

bool copy_may(struct shard *s, uint64_t now)
{
	uint64_t at = s->copy_from_us;

	if (now >= at)
		return true;
	if (at > now + LOOK_US)
		at = now + LOOK_US;
	if (s->member_us > at)
		s->member_us = at;
	return false;
}

void copy_sent(struct stream *st, uint32_t size_bytes, uint64_t now)
{
	struct shard *s = st->s;
	uint64_t rate = (uint64_t)s->map->rebuild_mib_s << 20;

	st->unit_us = now;
	if (rate == 0)
		return;
	if (s->copy_from_us < now)
		s->copy_from_us = now;
	s->copy_from_us += size_bytes * 1000000ull / rate;
}

void copy_arrived(struct stream *st, uint32_t size_bytes, uint64_t now)
{
	struct shard *s = st->s;
	uint64_t took = now - st->unit_us;

	st->copied_bytes += size_bytes;
	s->copied_bytes += size_bytes;
	if (s->map->rebuild_mib_s || now - s->served_us >= SERVING_US)
		return;
	if (took > PAUSE_MAX_US)
		took = PAUSE_MAX_US;
	if (s->copy_from_us < now + took)
		s->copy_from_us = now + took;
}

void copy_rate_update(struct shard *s, uint64_t now)
{
	if (now - s->rate_us < RATE_US)
		return;
	s->copy_rate = (s->copied_bytes - s->rate_bytes) * 1000000 / (now - s->rate_us);
	s->rate_bytes = s->copied_bytes;
	s->rate_us = now;
}

/* --- what is told --- */

struct progress {
	struct shard *s;
	struct wire_repair *records; /* room for `max`; NULL: only the sums */
	uint32_t max;
	uint32_t count;
	uint32_t copying;
	uint64_t done_bytes;
	uint64_t total_bytes;
};

static enum wire_repair_stage stage_of(const struct stream *st)
{
	if (st && st->stage == STREAM_COPYING)
		return REPAIR_COPYING;
	return st && st->stage == STREAM_LIVE ? REPAIR_CATCHING_UP : REPAIR_WAITING;
}

static void repair_add(struct progress *p, uint16_t bucket, uint32_t to)
{
	const struct stream *st = stream_find(&p->s->buckets[bucket], to);
	enum wire_repair_stage stage = stage_of(st);
	struct bucket_stats stats = {0};
	uint64_t done = 0;

	if (meta_bucket_stats(p->s->meta, bucket, &stats))
		stats.data_bytes = 0;
	if (stage == REPAIR_CATCHING_UP)
		done = stats.data_bytes;
	else if (stage == REPAIR_COPYING)
		done = st->copied_bytes;
	if (done > stats.data_bytes)
		done = stats.data_bytes;
	p->copying += stage == REPAIR_COPYING;
	p->done_bytes += done;
	p->total_bytes += stats.data_bytes;
	if (p->count++ < p->max)
		p->records[p->count - 1] = (struct wire_repair){
			.bucket = le16_put(bucket),
			.stage = (uint8_t)stage,
			.to = le32_put(to),
			.done_bytes = le64_put(done),
			.total_bytes = le64_put(stats.data_bytes),
		};
}

/* Every target of ours that is no member yet. */
static void progress_gather(struct progress *p)
{
	struct shard *s = p->s;

	for (uint32_t i = 0; !s->alone && i < s->map->bucket_count; i++) {
		const struct map_bucket *mb = &s->map->buckets[i];

		if (s->buckets[i].role < ROLE_PRIMARY)
			continue;
		for (uint32_t k = 0; k < mb->target_count; k++)
			if (!map_bucket_has(mb, mb->targets[k]))
				repair_add(p, (uint16_t)i, mb->targets[k]);
	}
}

void progress_put(struct shard *s, struct wire_shard_stats *out)
{
	struct progress p = {.s = s};

	progress_gather(&p);
	copy_rate_update(s, env_now_us(s->env));
	out->copying = le32_put(p.copying);
	out->waiting = le32_put(p.count - p.copying);
	out->copied_bytes = le64_put(s->copied_bytes);
	out->copy_rate = le64_put(s->copy_rate);
	out->copy_done_bytes = le64_put(p.done_bytes);
	out->copy_total_bytes = le64_put(p.total_bytes);
}

int op_repairs(struct exec *x, struct meta_call *c)
{
	struct progress p = {.s = x->s};
	struct wire_repairs *reply = x->req->reply;

	(void)c;
	p.records = x->req->reply_data;
	p.max = x->req->reply_data_max / (uint32_t)sizeof(*p.records);
	progress_gather(&p);
	if (p.count < p.max)
		p.max = p.count;
	*reply = (struct wire_repairs){.count = le32_put(p.count)};
	x->req->reply_size = sizeof(*reply);
	x->req->reply_data_size = p.max * (uint32_t)sizeof(*p.records);
	return 0;
}

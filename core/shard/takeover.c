/*
 * Roles: becoming and ceasing to be the primary of a bucket, and bringing its members to
 * where the map wants them.
 *
 * As primary: every target that is no member yet gets a stream, by which it catches up
 * from the history, or by a copy where that does not reach or where it has what was never
 * acknowledged; then it is proposed as a member. When all targets are members, others are
 * proposed to leave, and the bucket goes to its preferred primary. Buckets with the
 * fewest members are repaired first, a few at a time.
 */
#include "core/shard/member.h"

#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/mutate.h"
#include "core/shard/txn.h"
#include "meta/schema.h"

#define COPYING_MAX    4u  /* buckets copied at a time */
#define LEARNERS_MAX   16u /* streams to shards that are no members yet */
#define LEAVING_MAX    8u
#define PROPOSE_US     1000000u
#define POLL_US        50000u
#define POLL_IDLE_US   1000000u

struct epoch_start { /* 'H': where the bucket's last epochs began */
	le32 epoch;
	le32 zero;
	le64 lsn;
};

static uint32_t primary_of(const struct shard *s, uint16_t bucket)
{
	return s->map->buckets[bucket].primary;
}

void member_soon(struct shard *s)
{
	s->member_us = 0;
}

/* At most once a second about a stream. */
static void stream_propose(struct stream *st, enum proposal_kind kind, uint64_t now)
{
	struct shard *s = st->s;
	uint64_t lease_us = (uint64_t)s->map->lease_ms * 1000;
	struct proposal p = {.kind = kind,
		.bucket = st->bucket,
		.epoch = s->buckets[st->bucket].epoch,
		.shard = st->shard};

	if (now < st->propose_us || !s->propose)
		return;
	st->propose_us = now + PROPOSE_US;
	if (kind == PROPOSE_ADMIT) {
		/* Before we hear that it is a member somebody may rely on it. */
		p.until_us = now + lease_us / 4;
		st->counts_until_us = p.until_us + lease_us;
		memcpy(p.device_uuid, st->device_uuid, sizeof(p.device_uuid));
	}
	s->propose(s->ctx, &p);
}

struct stream *stream_find(const struct bucket_state *b, uint32_t shard)
{
	for (uint32_t i = 0; i < b->stream_count; i++)
		if (b->streams[i]->shard == shard)
			return b->streams[i];
	return NULL;
}

/* --- epochs --- */

static int epochs_load(struct shard *s, uint16_t bucket, struct epoch_start *starts,
	uint32_t *count_out)
{
	struct meta_key key;
	struct buf value;
	int rc;

	meta_key_prefix(&key, bucket, 'H');
	buf_init(&value);
	*count_out = 0;
	rc = kv_get(s->kv, key.bytes, key.size, &value);
	if (rc == 0 && value.size_bytes <= EPOCHS_KEPT * sizeof(*starts) &&
		value.size_bytes % sizeof(*starts) == 0) {
		memcpy(starts, value.data, value.size_bytes);
		*count_out = (uint32_t)(value.size_bytes / sizeof(*starts));
	} else if (rc == 0) {
		rc = -EUCLEAN;
	}
	buf_release(&value);
	return rc == -ENOENT ? 0 : rc;
}

/* Whether a member whose last record is (epoch, lsn) has nothing that we have not. */
static bool epochs_prefix(struct shard *s, uint16_t bucket, uint32_t epoch, uint64_t lsn)
{
	struct epoch_start starts[EPOCHS_KEPT];
	uint32_t count;

	if (lsn == 0)
		return true;
	if (MUTATED(SKIP_PREFIX) && lsn <= s->lsn[bucket])
		return true;
	if (epoch == 0 || lsn > s->lsn[bucket] || epochs_load(s, bucket, starts, &count) < 0)
		return false;
	if (count == 0 || epoch < le32_get(starts[0].epoch))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (le32_get(starts[i].epoch) > epoch)
			return lsn < le64_get(starts[i].lsn);
	return true;
}

static void epochs_put(struct shard *s, uint16_t bucket)
{
	struct epoch_start starts[EPOCHS_KEPT + 1];
	struct meta_key key;
	uint32_t count, first;

	if (epochs_load(s, bucket, starts, &count) < 0)
		count = 0;
	starts[count++] = (struct epoch_start){.epoch = le32_put(s->buckets[bucket].epoch),
		.lsn = le64_put(s->lsn[bucket] + 1)};
	first = count > EPOCHS_KEPT ? 1 : 0;
	meta_key_prefix(&key, bucket, 'H');
	batch_put(&s->batch, key.bytes, key.size, starts + first,
		(count - first) * sizeof(*starts));
}

bool bucket_whole(const struct shard *s, uint16_t bucket)
{
	const struct bucket_state *b = &s->buckets[bucket];

	return b->role == ROLE_PRIMARY || b->role == ROLE_LEAVING ||
	       (b->role == ROLE_BACKUP && (b->record_epoch || s->lsn[bucket] == 0));
}

/* --- losing a bucket --- */

static void streams_close(struct shard *s, uint16_t bucket)
{
	struct bucket_state *b = &s->buckets[bucket];

	while (b->stream_count)
		stream_close(b->streams[0]);
}

void bucket_depose(struct shard *s, uint16_t bucket, uint32_t epoch)
{
	struct bucket_state *b = &s->buckets[bucket];
	bool served = b->role == ROLE_PRIMARY || b->role == ROLE_LEAVING;

	if (served)
		opens_keep(s, bucket);
	b->role = ROLE_NONE;
	b->epoch = epoch;
	b->stream = b->wipe_stream = 0;
	b->opening = false;
	streams_close(s, bucket);
	if (!served)
		return;
	txn_bucket_gone(s, bucket);
	commits_fail(s, bucket);
	meta_owner_changed(s->meta);
	meta_bucket_close(s->meta, bucket);
}

/* --- taking a bucket --- */

static void bucket_took(struct store_record *r, int status)
{
	exec_finish_now(container_of(r, struct exec, record), status);
}

/* The first record of the epoch; from then on the bucket is served. */
static void bucket_open_start(struct exec *x)
{
	struct shard *s = x->s;
	struct bucket_state *b = &s->buckets[x->bucket];
	uint16_t bucket = x->bucket;
	int rc;

	if (b->role != ROLE_TAKING || b->epoch != x->record_epoch) {
		exec_finish_now(x, -EREMCHG);
		return;
	}
	rc = exec_begin(x, bucket, 0, true);
	if (rc == -EINPROGRESS)
		return;
	if (rc == 0) {
		batch_reset(&s->batch);
		epochs_put(s, bucket);
		b->role = ROLE_PRIMARY;
		rc = exec_commit(x, bucket_took);
	}
	b->opening = false;
	if (rc < 0) {
		b->role = ROLE_TAKING;
		exec_finish_now(x, rc);
		return;
	}
	rc = txn_bucket_ours(s, bucket);
	meta_owner_changed(s->meta);
	if (rc < 0)
		log_error("bucket=%u taken, but its transactions cannot be: %s", bucket,
			strerror(-rc));
	opens_begin(s, bucket);
	s->rerun_parked = true;
	purge_kick(s);
	member_soon(s);
}

static void bucket_open(struct shard *s, uint16_t bucket)
{
	static const struct op_desc op = {.start = bucket_open_start, .member = true};
	struct bucket_state *b = &s->buckets[bucket];
	struct exec *x;

	if (b->opening)
		return;
	x = exec_new(s, NULL);
	if (!x)
		return;
	b->opening = true;
	x->op = &op;
	x->bucket = bucket;
	x->record_epoch = b->epoch;
	exec_start(x);
}

/* What JOIN said of a member decides how it goes on. */
static void stream_decide(struct stream *st, uint32_t *copying)
{
	struct shard *s = st->s;

	if (MUTATED(SKIP_TAILS) && st->backup && st->join_lsn > s->lsn[st->bucket])
		st->join_lsn = s->lsn[st->bucket];
	if (st->backup) {
		/* It had acknowledged more than it has now? Then it is no member any more. */
		if (st->join_lsn < st->acked || !stream_resume(st, st->join_lsn))
			st->failed = true;
		return;
	}
	if (epochs_prefix(s, st->bucket, st->join_epoch, st->join_lsn) &&
		(st->join_epoch || st->join_lsn == 0) && stream_resume(st, st->join_lsn))
		return;
	if (*copying < COPYING_MAX) {
		++*copying;
		log_info("bucket=%u copy to shard=%u", st->bucket, st->shard);
		stream_copy(st);
	}
}

static void taking_step(struct shard *s, uint16_t bucket, uint64_t now)
{
	struct bucket_state *b = &s->buckets[bucket];
	uint32_t copying = COPYING_MAX;
	bool ready = true;

	for (uint32_t i = 0; i < b->stream_count; i++)
		if (b->streams[i]->backup && b->streams[i]->stage == STREAM_JOINING)
			return;
	for (uint32_t i = 0; i < b->stream_count; i++) {
		struct stream *st = b->streams[i];

		if (st->backup && st->stage == STREAM_JOINED &&
			st->join_lsn > s->lsn[bucket] && !MUTATED(SKIP_TAILS)) {
			/* It has the tail that we lack. */
			stream_propose(st, PROPOSE_HANDOVER, now);
			return;
		}
	}
	for (uint32_t i = 0; i < b->stream_count; i++) {
		struct stream *st = b->streams[i];

		if (!st->backup)
			continue;
		if (st->stage == STREAM_JOINED)
			stream_decide(st, &copying);
		if (st->failed || st->stage != STREAM_LIVE || st->acked < s->lsn[bucket])
			ready = false;
	}
	if (ready)
		bucket_open(s, bucket);
}

/* --- repair --- */

static bool bucket_targets(const struct map_bucket *mb, uint32_t shard)
{
	for (uint32_t i = 0; i < mb->target_count; i++)
		if (mb->targets[i] == shard)
			return true;
	return false;
}

static bool stream_even(const struct stream *st)
{
	return st->stage == STREAM_LIVE && !st->failed &&
	       st->acked == st->s->lsn[st->bucket];
}

struct repair {
	uint64_t now;
	uint32_t copying;
	uint32_t learners;
	uint32_t leaving;
	bool work;
};

/* A stream that does not get on: a backup is evicted, others try again. */
static void stream_check(struct stream *st, struct repair *r)
{
	uint64_t patience_us = (uint64_t)st->s->map->lease_ms * 1000;
	bool stuck = st->failing_us && r->now - st->failing_us > patience_us;

	if (st->backup && (st->failed || stuck))
		stream_propose(st, PROPOSE_EVICT, r->now);
	else if (st->failed)
		stream_rejoin(st);
}

static void learners_open(struct shard *s, uint16_t bucket, struct repair *r)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];
	struct bucket_state *b = &s->buckets[bucket];

	for (uint32_t i = 0; i < mb->target_count; i++) {
		uint32_t shard = mb->targets[i];

		if (shard == s->number || stream_find(b, shard))
			continue;
		r->work = true;
		if (r->learners >= LEARNERS_MAX || !stream_open(s, bucket, shard, false))
			continue;
		r->learners++;
	}
}

/* All targets are members and even: who else is there may go. */
static void extras_leave(struct shard *s, uint16_t bucket, struct repair *r)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];
	struct bucket_state *b = &s->buckets[bucket];

	if (mb->target_count == 0)
		return;
	for (uint32_t i = 0; i < mb->target_count; i++) {
		struct stream *st = stream_find(b, mb->targets[i]);

		if (mb->targets[i] != s->number && !(st && st->backup && stream_even(st)))
			return;
	}
	for (uint32_t i = 0; i < b->stream_count; i++) {
		struct stream *st = b->streams[i];

		if (st->backup && !bucket_targets(mb, st->shard)) {
			stream_propose(st, PROPOSE_EVICT, r->now);
			r->work = true;
		}
	}
	if (mb->targets[0] == s->number)
		return;
	r->work = true;
	if (r->leaving >= LEAVING_MAX)
		return;
	r->leaving++;
	b->role = ROLE_LEAVING;
	b->handover = mb->targets[0];
	b->proposed = false;
}

/* What we know of it is of the device that it is on now. */
static bool device_is(const struct stream *st)
{
	static const uint8_t none[16];
	const uint8_t *now = st->s->map->shards[st->shard].device_uuid;

	return memcmp(now, none, 16) == 0 || memcmp(now, st->device_uuid, 16) == 0;
}

static void serving_step(struct shard *s, uint16_t bucket, struct repair *r)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];
	struct bucket_state *b = &s->buckets[bucket];

	for (uint32_t i = 0; i < b->stream_count; i++) {
		struct stream *st = b->streams[i];

		if (!st->backup && !bucket_targets(mb, st->shard) &&
			st->counts_until_us <= r->now) {
			stream_close(st);
			i--;
			continue;
		}
		if (st->stage == STREAM_JOINED)
			stream_decide(st, &r->copying);
		stream_poll(st, r->now);
		stream_check(st, r);
		if (st->stage != STREAM_LIVE || st->failing_us || st->failed || !st->backup)
			r->work = true;
		if (!st->backup && (stream_even(st) || MUTATED(ADMIT_EARLY))) {
			if (device_is(st))
				stream_propose(st, PROPOSE_ADMIT, r->now);
			else
				stream_rejoin(st);
		}
	}
	learners_open(s, bucket, r);
	extras_leave(s, bucket, r);
}

/* Everything acknowledged or under way is with the successor: now it may be told. */
static void leaving_step(struct shard *s, uint16_t bucket, uint64_t now)
{
	struct bucket_state *b = &s->buckets[bucket];
	struct stream *to = stream_find(b, b->handover);

	for (uint32_t i = 0; i < b->stream_count; i++)
		stream_poll(b->streams[i], now);
	if (!b->proposed && !(to && to->backup && !to->failed && !to->failing_us)) {
		b->role = ROLE_PRIMARY;
		s->rerun_parked = true;
		return;
	}
	for (uint32_t i = 0; i < b->stream_count; i++)
		if (b->streams[i]->backup && !stream_even(b->streams[i]))
			return;
	if (!to)
		return;
	b->proposed = true;
	stream_propose(to, PROPOSE_HANDOVER, now);
}

static void bucket_step(struct shard *s, uint16_t bucket, struct repair *r)
{
	struct bucket_state *b = &s->buckets[bucket];

	if (!list_empty(&b->early))
		early_expire(s, bucket, r->now);
	if (b->grace_until_us && b->grace_until_us <= r->now) {
		b->grace_until_us = 0;
		purge_kick(s);
	}
	switch (b->role) {
	case ROLE_TAKING:
		r->work = true;
		for (uint32_t i = 0; i < b->stream_count; i++) {
			stream_poll(b->streams[i], r->now);
			stream_check(b->streams[i], r);
		}
		taking_step(s, bucket, r->now);
		break;
	case ROLE_PRIMARY: serving_step(s, bucket, r); break;
	case ROLE_LEAVING:
		r->work = true;
		leaving_step(s, bucket, r->now);
		break;
	default: break;
	}
	if (!list_empty(&b->early))
		r->work = true;
}

void member_news(struct shard *s, uint16_t bucket)
{
	struct bucket_state *b = &s->buckets[bucket];

	if (s->closing)
		return;
	if (b->role == ROLE_TAKING)
		taking_step(s, bucket, env_now_us(s->env));
	else if (b->role == ROLE_LEAVING)
		leaving_step(s, bucket, env_now_us(s->env));
	else
		for (uint32_t i = 0; i < b->stream_count; i++)
			if (!b->streams[i]->backup ||
				b->streams[i]->stage != STREAM_LIVE ||
				b->streams[i]->failed)
				member_soon(s);
}

void member_poll(struct shard *s, uint64_t now, uint64_t *next_us)
{
	struct repair r = {.now = now};

	if (s->alone)
		return;
	copy_rate_update(s, now);
	if (now < s->member_us) {
		soon(next_us, now, s->member_us);
		return;
	}
	s->member_us = UINT64_MAX;
	for (uint32_t i = 0; i < s->map->bucket_count; i++) {
		struct bucket_state *b = &s->buckets[i];

		r.leaving += b->role == ROLE_LEAVING;
		for (uint32_t k = 0; k < b->stream_count; k++) {
			r.learners += !b->streams[k]->backup;
			r.copying += b->streams[k]->stage == STREAM_COPYING;
		}
	}
	/* Those with the fewest members first. */
	for (uint32_t members = 0; members < MAP_COPIES_MAX + 1; members++)
		for (uint32_t i = 0; i < s->map->bucket_count; i++)
			if (s->map->buckets[i].backup_count == members)
				bucket_step(s, (uint16_t)i, &r);
	clear_poll(s, now);
	commits_advance(s); /* who was to become a member and did not is waited for no more */
	if (s->member_us == UINT64_MAX)
		s->member_us = now + (r.work ? POLL_US : POLL_IDLE_US);
	soon(next_us, now, s->member_us);
}

/* --- the map --- */

/* We are primary, of the same epoch as before: the members may have changed. */
static void members_update(struct shard *s, uint16_t bucket)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];
	struct bucket_state *b = &s->buckets[bucket];

	for (uint32_t i = 0; i < b->stream_count; i++) {
		struct stream *st = b->streams[i];
		bool backup = map_bucket_has_backup(mb, st->shard);

		if (st->backup && !backup) {
			stream_close(st);
			i--;
			continue;
		}
		if (backup && !st->backup) {
			log_info("bucket=%u shard=%u is in sync", bucket, st->shard);
			st->propose_us = 0;
		}
		st->backup = backup;
	}
	for (uint32_t i = 0; i < mb->backup_count; i++)
		if (!stream_find(b, mb->backups[i]))
			stream_open(s, bucket, mb->backups[i], true);
	if (b->role == ROLE_LEAVING && !map_bucket_has_backup(mb, b->handover)) {
		b->role = ROLE_PRIMARY;
		s->rerun_parked = true;
	}
}

static void bucket_map(struct shard *s, uint16_t bucket)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];
	struct bucket_state *b = &s->buckets[bucket];

	if (mb->epoch < b->epoch)
		return;
	if (primary_of(s, bucket) != s->number) {
		if (mb->epoch > b->epoch || b->role >= ROLE_TAKING)
			bucket_depose(s, bucket, mb->epoch);
		b->role = map_bucket_has(mb, s->number) ? ROLE_BACKUP : ROLE_NONE;
		return;
	}
	if (mb->epoch == b->epoch) {
		if (b->role >= ROLE_TAKING)
			members_update(s, bucket);
		return;
	}
	bucket_depose(s, bucket, mb->epoch);
	b->role = ROLE_TAKING;
	members_update(s, bucket);
}

void member_map(struct shard *s)
{
	if (s->alone)
		return;
	for (uint32_t i = 0; i < s->map->bucket_count; i++)
		bucket_map(s, (uint16_t)i);
	commits_advance(s);
	member_soon(s);
}

/* --- life --- */

int positions_load(struct shard *s)
{
	struct buf value;
	int rc = 0;

	buf_init(&value);
	for (uint32_t b = 0; b < s->map->bucket_count && rc == 0; b++) {
		uint8_t key[4] = {0x01, 0, 0, 'A'};
		struct bucket_position at;

		if (s->alone && !shard_owns(s, (uint16_t)b))
			continue;
		be16_write(key + 1, (uint16_t)b);
		buf_reset(&value);
		rc = kv_get(s->kv, key, sizeof(key), &value);
		if (rc == -ENOENT) {
			rc = 0;
			continue;
		}
		if (rc == 0 && value.size_bytes != sizeof(at))
			rc = -EUCLEAN;
		if (rc == 0) {
			memcpy(&at, value.data, sizeof(at));
			s->lsn[b] = le64_get(at.lsn);
			s->buckets[b].record_epoch = le32_get(at.epoch);
		}
	}
	buf_release(&value);
	return rc;
}

int member_new(struct shard *s, const struct shard_options *opt)
{
	list_init(&s->commits);
	list_init(&s->history);
	list_init(&s->history_buffers);
	s->propose = opt->propose;
	s->buckets = mem_zalloc(sizeof(*s->buckets) * s->map->bucket_count);
	if (!s->buckets)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->map->bucket_count; i++) {
		const struct map_bucket *mb = &s->map->buckets[i];
		struct bucket_state *b = &s->buckets[i];

		list_init(&b->history);
		list_init(&b->early);
		b->epoch = mb->epoch - (MUTATED(KEEP_EPOCH_AT_RESTART) ? 1 : 0);
		if (s->alone)
			b->role = mb->primary == s->number ? ROLE_PRIMARY : ROLE_NONE;
		else if (map_bucket_has_backup(mb, s->number))
			b->role = ROLE_BACKUP;
		/* A primary that was restarted waits for the epoch after this one. */
	}
	return 0;
}

void member_free(struct shard *s)
{
	if (!s->buckets)
		return;
	for (uint32_t i = 0; i < s->map->bucket_count; i++)
		streams_close(s, (uint16_t)i);
	history_free_all(s);
	mem_free(s->buckets);
}

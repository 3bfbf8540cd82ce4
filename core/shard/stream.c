/*
 * A stream: what the primary of a bucket sends to one other member.
 *
 *   JOINING -> JOINED -> LIVE                 records, STREAM_WINDOW at a time
 *                  `---> COPYING -> LIVE      wipe, then units and records by turns, whole
 *
 * Messages may overtake each other and be lost; the other side puts records in order by
 * lsn and takes each once, so after a failure the stream simply goes back to the first
 * that was not acknowledged. A unit of a copy shows the bucket as of unit_lsn: later
 * records are held back until it has arrived.
 */
#include "core/shard/member.h"

#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"

#define RETRY_US      20000u
#define JOIN_RETRY_US 500000u

static const struct cred root_cred;

/* One message of a stream, with the blocks that go with it. */
struct parcel {
	struct rpc_call call;
	struct stream *st;
	struct shipment *sh; /* a record; NULL: of a copy */
	struct wire_replicate head;
	const void *ops;
	uint8_t *memory;     /* blocks read from the store; what JOIN's answer brings */
	uint32_t *crcs;
	struct store_read *reads;
	uint32_t pending;
	int error;
};

/* --- parcels --- */

static void parcel_free(struct parcel *p)
{
	shipment_release(p->st->s, p->sh);
	mem_free(p->memory);
	mem_free(p->crcs);
	mem_free(p->reads);
	mem_free(p);
}

static void stream_gone(struct stream *st)
{
	if (st->copy) {
		batch_release(&st->copy->ops);
		mem_free(st->copy);
	}
	mem_free(st);
}

/* Later, from the first record that is not acknowledged. */
static void stream_back(struct stream *st)
{
	uint64_t now = env_now_us(st->s->env);

	st->next = st->acked + 1;
	st->retry_us = now + RETRY_US;
	if (st->failing_us == 0)
		st->failing_us = now;
	member_soon(st->s);
}

static void unit_acked(struct stream *st, const struct parcel *p)
{
	unsigned kind = p->head.kind;

	st->unit_out = false;
	copy_arrived(st, le32_get(p->head.block_count) * WFS_BLOCK_SIZE,
		env_now_us(st->s->env));
	if (kind == REPLICATE_WIPE) {
		st->wiping = false;
		st->acked = st->unit_lsn;
		st->next = st->acked + 1;
	} else if (kind == REPLICATE_WHOLE) {
		st->stage = STREAM_LIVE;
		batch_release(&st->copy->ops);
		mem_free(st->copy);
		st->copy = NULL;
	}
}

static void parcel_acked(struct stream *st, const struct parcel *p)
{
	st->failing_us = 0;
	if (!p->sh)
		unit_acked(st, p);
	else if (le64_get(p->head.lsn) > st->acked)
		st->acked = le64_get(p->head.lsn);
}

static void parcel_refused(struct stream *st, const struct parcel *p, int status)
{
	stream_back(st);
	/* It does not know of the stream (any more), or the copy has to begin again. */
	if (status == -EUNATCH || !p->sh)
		stream_rejoin(st);
}

static void parcel_ended(struct parcel *p, int status)
{
	struct stream *st = p->st;
	struct shard *s = st->s;
	uint16_t bucket = st->bucket;

	st->in_flight--;
	if (st->closed) {
		parcel_free(p);
		if (st->in_flight == 0)
			stream_gone(st);
		return;
	}
	if (le32_get(p->head.stream) != st->number)
		status = status ? status : -ESTALE; /* of before the last JOIN */
	else if (status == 0)
		parcel_acked(st, p);
	else
		parcel_refused(st, p, status);
	parcel_free(p);
	if (status == 0)
		stream_pump(st);
	commits_advance(s);
	member_news(s, bucket);
}

static void parcel_sent(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	parcel_ended(container_of(call, struct parcel, call), status);
}

static void parcel_post(struct parcel *p)
{
	struct stream *st = p->st;
	struct shard *s = st->s;
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
	uint32_t ops_size = le32_get(p->head.ops_size);
	const void *data = p->sh && p->sh->data ? p->sh->data : p->memory;
	uint32_t data_size = le32_get(p->head.block_count) * WFS_BLOCK_SIZE;
	uint32_t body_size = sizeof(p->head);

	if (p->head.flags & REPLICATE_OPS_IN_DATA) {
		data = p->ops;
		data_size = ops_size;
	} else {
		memcpy(body + body_size, p->ops, ops_size);
		body_size += ops_size;
	}
	memcpy(body, &p->head, sizeof(p->head));
	p->call = (struct rpc_call){
		.op = OP_REPLICATE,
		.bucket = (uint16_t)st->shard,
		.flags = HEAD_TO_SHARD,
		.timeout_ms = s->map->lease_ms / 2,
		.cred = &root_cred,
		.body = body,
		.body_size = body_size,
		.data = data,
		.data_size = data_size,
		.done = parcel_sent,
	};
	s->send(s->ctx, &p->call);
}

/* --- blocks --- */

/* The blocks of a record are freed since, or damaged: it cannot be told any more, nor can
 * those before it. Who needs it has to have a copy. */
static void record_gone(struct parcel *p)
{
	history_cut(p->st->s, p->st->bucket, p->sh->lsn);
	if (le32_get(p->head.stream) == p->st->number)
		p->st->failed = true;
}

static void parcel_read(struct store_read *r, int status)
{
	struct parcel *p = r->ctx;

	if (status < 0)
		p->error = status;
	if (--p->pending > 0)
		return;
	if (p->error && p->sh && !p->st->closed)
		record_gone(p);
	if (p->error || p->st->closed)
		parcel_ended(p, p->error ? p->error : -ECANCELED);
	else
		parcel_post(p);
}

/* Have the blocks read, each run of ids at once, and the parcel posted then. */
static int parcel_fetch(struct parcel *p, const uint64_t *ids, uint32_t count)
{
	struct store_read guard = {.ctx = p};
	uint32_t n = 0;

	p->memory = mem_aligned(WFS_BLOCK_SIZE, (size_t)count * WFS_BLOCK_SIZE);
	p->crcs = mem_alloc(count * sizeof(*p->crcs));
	p->reads = mem_zalloc(count * sizeof(*p->reads));
	if (!p->memory || !p->crcs || !p->reads)
		return -ENOMEM;
	if (meta_ops_crcs(p->ops, le32_get(p->head.ops_size), p->crcs, count))
		return -EUCLEAN;
	p->pending = 1;
	for (uint32_t i = 0, run; i < count; i += run) {
		struct store_read *r = &p->reads[n++];

		for (run = 1; i + run < count && ids[i + run] == ids[i] + run;)
			run++;
		*r = (struct store_read){
			.id = ids[i],
			.block_count = run,
			.crcs = p->crcs + i,
			.data = p->memory + (size_t)i * WFS_BLOCK_SIZE,
			.done = parcel_read,
			.ctx = p,
		};
		p->pending++;
		store_read(p->st->s->store, r);
	}
	parcel_read(&guard, 0);
	return 0;
}

static struct parcel *parcel_new(struct stream *st, unsigned kind, uint64_t lsn)
{
	struct parcel *p = mem_zalloc(sizeof(*p));

	if (!p)
		return NULL;
	p->st = st;
	p->head.bucket = le16_put(st->bucket);
	p->head.kind = (uint8_t)kind;
	p->head.epoch = le32_put(st->epoch);
	p->head.stream = le32_put(st->number);
	p->head.lsn = le64_put(lsn);
	p->ops = "";
	return p;
}

/* ids NULL: the blocks are in memory, or there are none. */
static int parcel_go(struct parcel *p, const void *ops, uint32_t ops_size,
	uint32_t block_count, const uint64_t *ids)
{
	int rc = 0;

	p->ops = ops;
	p->head.ops_size = le32_put(ops_size);
	p->head.block_count = le32_put(block_count);
	if (ops_size > REPLICATE_BODY_OPS_MAX) {
		if (block_count || ops_size > WIRE_DATA_MAX)
			rc = -E2BIG;
		p->head.flags = REPLICATE_OPS_IN_DATA;
	}
	p->st->in_flight++;
	if (rc == 0 && ids)
		rc = parcel_fetch(p, ids, block_count);
	else if (rc == 0)
		parcel_post(p);
	if (rc < 0) {
		p->st->in_flight--;
		parcel_free(p);
	}
	return rc;
}

/* --- records --- */

static int record_send(struct stream *st, struct shipment *sh)
{
	struct parcel *p = parcel_new(st, REPLICATE_RECORD, sh->lsn);
	uint64_t ids[WFS_CHUNK_BLOCKS];
	bool fetch = sh->block_count && !sh->data;

	if (!p)
		return -ENOMEM;
	p->sh = sh;
	sh->refs++;
	p->head.record_epoch = le32_put(sh->epoch);
	for (uint32_t i = 0; fetch && i < sh->block_count; i++)
		ids[i] = sh->id + i;
	return parcel_go(p, sh->ops, sh->ops_size, sh->block_count, fetch ? ids : NULL);
}

/* --- copies --- */

static int unit_send(struct stream *st)
{
	struct shard *s = st->s;
	struct meta_copy *copy = st->copy;
	unsigned kind = REPLICATE_UNIT;
	struct parcel *p;
	int rc;

	if (st->wiping)
		kind = REPLICATE_WIPE;
	else if (copy->end)
		kind = REPLICATE_WHOLE;
	batch_reset(&copy->ops);
	copy->block_count = 0;
	if (kind == REPLICATE_UNIT) {
		rc = meta_bucket_copy(s->meta, st->bucket, copy);
		if (rc < 0)
			return rc;
	}
	st->unit_lsn = s->lsn[st->bucket];
	p = parcel_new(st, kind, st->unit_lsn);
	if (!p)
		return -ENOMEM;
	p->head.record_epoch = le32_put(s->buckets[st->bucket].record_epoch);
	st->unit_out = true;
	copy_sent(st, copy->block_count * WFS_BLOCK_SIZE, env_now_us(s->env));
	return parcel_go(p, copy->ops.bytes.data ? (void *)copy->ops.bytes.data : "",
		(uint32_t)copy->ops.bytes.size_bytes, copy->block_count,
		copy->block_count ? copy->ids : NULL);
}

void stream_copy(struct stream *st)
{
	if (!st->copy) {
		st->copy = mem_zalloc(sizeof(*st->copy));
		if (!st->copy) {
			stream_back(st);
			return;
		}
		batch_init(&st->copy->ops);
	}
	st->copy->from_size = 0;
	st->copied_bytes = 0;
	st->copy->end = false;
	st->stage = STREAM_COPYING;
	st->wiping = true;
	st->unit_out = false;
	st->failed = false;
	st->acked = st->s->lsn[st->bucket];
	st->next = st->acked + 1;
	stream_pump(st);
}

/* --- the stream --- */

void stream_pump(struct stream *st)
{
	struct shard *s = st->s;
	uint64_t last = s->lsn[st->bucket];
	int rc = 0;

	if (st->closed || st->failed || st->stage < STREAM_LIVE ||
		env_now_us(s->env) < st->retry_us)
		return;
	if (st->unit_out)
		last = st->unit_lsn;
	while (rc == 0 && !st->failed && st->next <= last &&
		st->in_flight < STREAM_WINDOW) {
		struct shipment *sh = history_find(s, st->bucket, st->next);

		if (!sh) {
			st->failed = true;
			member_soon(s);
			return;
		}
		st->next++; /* before: it may fail at once, and go back */
		rc = record_send(st, sh);
		if (st->failed || env_now_us(s->env) < st->retry_us)
			return; /* it has ended already, and badly */
	}
	if (rc == 0 && !st->failed && st->stage == STREAM_COPYING && !st->unit_out &&
		st->next > last && copy_may(s, env_now_us(s->env)))
		rc = unit_send(st);
	if (rc < 0)
		stream_back(st);
}

bool stream_resume(struct stream *st, uint64_t lsn)
{
	if (lsn > st->s->lsn[st->bucket] || !history_reaches(st->s, st->bucket, lsn))
		return false;
	st->stage = STREAM_LIVE;
	st->acked = lsn;
	st->next = lsn + 1;
	st->failed = false;
	stream_pump(st);
	return true;
}

static void joined(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct parcel *p = container_of(call, struct parcel, call);
	const struct wire_join_reply *jr = reply;
	struct stream *st = p->st;

	st->in_flight--;
	if (st->closed) {
		parcel_free(p);
		if (st->in_flight == 0)
			stream_gone(st);
		return;
	}
	if (status == 0 && reply_size == sizeof(*jr)) {
		opens_hear(st->s, st->bucket, jr, (const void *)p->memory, reply_data_size);
		st->failing_us = 0;
		st->stage = STREAM_JOINED;
		st->join_lsn = le64_get(jr->lsn);
		st->join_epoch = le32_get(jr->record_epoch);
		memcpy(st->device_uuid, jr->device_uuid, sizeof(st->device_uuid));
	} else {
		stream_back(st);
		st->retry_us += JOIN_RETRY_US - RETRY_US;
	}
	parcel_free(p);
	member_news(st->s, st->bucket);
}

static void stream_join(struct stream *st)
{
	struct shard *s = st->s;
	struct wire_join body = {.bucket = le16_put(st->bucket),
		.epoch = le32_put(st->epoch),
		.stream = le32_put(++s->stream_number)};
	struct parcel *p = parcel_new(st, REPLICATE_RECORD, 0);

	st->number = le32_get(body.stream);
	if (p)
		p->memory = mem_aligned(WFS_BLOCK_SIZE, OPENS_SIZE_MAX);
	if (!p || !p->memory) {
		mem_free(p);
		stream_back(st);
		return;
	}
	st->in_flight++;
	p->call = (struct rpc_call){
		.op = OP_JOIN,
		.bucket = (uint16_t)st->shard,
		.flags = HEAD_TO_SHARD,
		.timeout_ms = s->map->lease_ms / 4,
		.cred = &root_cred,
		.body = &body,
		.body_size = sizeof(body),
		.reply_data = p->memory,
		.reply_data_max = OPENS_SIZE_MAX,
		.done = joined,
	};
	s->send(s->ctx, &p->call);
}

void stream_poll(struct stream *st, uint64_t now)
{
	if (st->closed || now < st->retry_us)
		return;
	if (st->stage == STREAM_JOINING && st->in_flight == 0)
		stream_join(st);
	else if (st->stage >= STREAM_LIVE)
		stream_pump(st);
}

void stream_rejoin(struct stream *st)
{
	st->stage = STREAM_JOINING;
	st->failed = false;
	st->unit_out = false;
	member_soon(st->s);
}

struct stream *stream_open(struct shard *s, uint16_t bucket, uint32_t shard, bool backup)
{
	struct bucket_state *b = &s->buckets[bucket];
	struct stream *st;

	if (b->stream_count == STREAMS_MAX)
		return NULL;
	st = mem_zalloc(sizeof(*st));
	if (!st)
		return NULL;
	st->s = s;
	st->bucket = bucket;
	st->shard = shard;
	st->epoch = b->epoch;
	st->backup = backup;
	b->streams[b->stream_count++] = st;
	stream_poll(st, env_now_us(s->env));
	return st;
}

void stream_close(struct stream *st)
{
	struct bucket_state *b = &st->s->buckets[st->bucket];

	for (uint32_t i = 0; i < b->stream_count; i++)
		if (b->streams[i] == st)
			b->streams[i--] = b->streams[--b->stream_count];
	st->closed = true;
	if (st->in_flight == 0)
		stream_gone(st);
}

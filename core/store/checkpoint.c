/*
 * Checkpoints.
 *
 *   IDLE  -checkpoint_start->  HOLD   store_begin says -EAGAIN, groups drain
 *   HOLD  -checkpoint_mark->   FLUSH  bitmaps and mark are in the index, flush begun;
 *                                     writers go on
 *   FLUSH -checkpoint_finish-> IDLE   the log up to the mark is no longer needed
 *   HOLD, FLUSH -checkpoint_give_up-> IDLE   an error; tried again later
 *
 * The hold lasts one or two log writes. The mark is one key, written last in memory but
 * flushed together with everything else, so the index on disk is always the exact state
 * after `sequence`: replay begins there and never meets an effect it has itself.
 *
 * Segments that are FULL without live blocks at the mark become DYING, and free when the
 * flush is done: before that, recovery from the older mark may still read them.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/store/store_impl.h"

#define CHUNK_BYTES (1u << 20)

static void bitmap_key(uint64_t seq, uint8_t key[10])
{
	key[0] = 0;
	key[1] = 'B';
	be64_write(key + 2, seq);
}

static int bitmap_put(
	struct store *s, struct segment *g, struct batch *b, struct buf *value)
{
	const uint64_t *words = segment_bitmap(s, g);
	struct bitmap_disk head = {
		.physical = le32_put(segment_index(s, g)),
		.kind = le32_put(g->kind),
		.live_count = le32_put(g->live_count),
	};
	uint8_t key[10];
	uint8_t *bits;

	buf_reset(value);
	buf_append(value, &head, sizeof(head));
	bits = buf_extend(value, (s->segment_blocks + 7) / 8);
	if (!bits)
		return -ENOMEM;
	for (uint32_t i = 0; i < (s->segment_blocks + 7) / 8; i++)
		bits[i] = (uint8_t)(words[i / 8] >> (i % 8 * 8));
	bitmap_key(g->seq, key);
	batch_put(b, key, sizeof(key), value->data, value->size_bytes);
	return batch_error(b);
}

static int chunk_apply(struct store *s, struct batch *b, size_t at_least_bytes)
{
	int rc = batch_error(b);

	if (!rc && b->bytes.size_bytes > at_least_bytes)
		rc = kv_apply(s->kv, b);
	else if (!rc)
		return 0;
	batch_reset(b);
	return rc;
}

/* Bring the bitmaps in the index up to date; choose who dies. `saved` errs on the side
 * of true: a bitmap left behind would give a dead segment its blocks back. */
static int bitmaps_mark(struct store *s, struct batch *b, struct buf *value)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < s->super.segment_count; i++) {
		struct segment *g = &s->segments[i];
		uint8_t key[10];

		if (g->state == SEGMENT_FULL && g->live_count == 0)
			segment_set_state(s, g, SEGMENT_DYING);
		if (g->live_count == 0 && g->saved) {
			bitmap_key(g->seq, key);
			batch_del(b, key, sizeof(key));
		} else if (g->live_count > 0 && g->dirty) {
			g->saved = true;
			rc = bitmap_put(s, g, b, value);
		}
		if (!rc)
			rc = chunk_apply(s, b, CHUNK_BYTES);
	}
	return rc;
}

static void mark_put(struct store *s, struct batch *b)
{
	struct checkpoint_mark mark = {
		.incarnation = s->super.incarnation,
		.sequence = s->durable_sequence,
		.next_segment_seq = s->next_segment_seq,
	};
	struct checkpoint_disk disk;
	uint8_t key[2] = {0, 'A'};

	memcpy(mark.device_uuid, s->super.device_uuid, 16);
	for (int i = 0; i < STREAM_COUNT; i++) {
		if (!s->open[i])
			continue;
		mark.open[i].segment_seq = s->open[i]->seq;
		mark.open[i].physical = segment_index(s, s->open[i]);
		mark.open[i].block = s->open[i]->pos;
	}
	checkpoint_encode(&mark, &disk);
	batch_put(b, key, sizeof(key), &disk, sizeof(disk));
}

static int mark_apply(struct store *s)
{
	struct batch b;
	struct buf value;
	int rc;

	batch_init(&b);
	buf_init(&value);
	rc = bitmaps_mark(s, &b, &value);
	if (!rc) {
		mark_put(s, &b);
		rc = chunk_apply(s, &b, 0);
	}
	if (!rc)
		rc = kv_flush_begin(s->kv);
	for (uint32_t i = 0; !rc && i < s->super.segment_count; i++)
		s->segments[i].dirty = false;
	batch_release(&b);
	buf_release(&value);
	return rc;
}

static void checkpoint_reply(struct store *s, int status)
{
	struct checkpoint *c = &s->checkpoint;
	void (*done)(void *ctx, int status) = c->done;

	if (!done)
		return;
	c->done = NULL;
	done(c->ctx, status);
}

/* Segments that were to die live on, dirty, until the next try. */
static void dying_revert(struct store *s)
{
	for (uint32_t i = 0; i < s->super.segment_count; i++)
		if (s->segments[i].state == SEGMENT_DYING)
			segment_set_state(s, &s->segments[i], SEGMENT_FULL);
}

static void checkpoint_end(struct store *s, int status)
{
	struct checkpoint *c = &s->checkpoint;
	bool late = c->done_late;

	c->state = CHECKPOINT_IDLE;
	c->done_late = false;
	c->wanted = late;
	if (!late)
		checkpoint_reply(s, status);
}

static void checkpoint_give_up(struct store *s, int status)
{
	dying_revert(s);
	s->checkpoint.retry_at_us = env_now_us(s->env) + STORE_RETRY_US;
	checkpoint_end(s, status);
}

static int checkpoint_mark(struct store *s)
{
	struct checkpoint *c = &s->checkpoint;
	int rc;

	assert(s->durable_sequence == s->next_sequence - 1);
	rc = mark_apply(s);
	if (rc)
		return rc;
	c->mark_batch_bytes = c->batch_bytes;
	c->mark_log_bytes = c->log_bytes;
	c->state = CHECKPOINT_FLUSH;
	return 0;
}

static void checkpoint_finish(struct store *s)
{
	struct checkpoint *c = &s->checkpoint;

	for (uint32_t i = 0; i < s->super.segment_count; i++)
		if (s->segments[i].state == SEGMENT_DYING)
			segment_free(s, &s->segments[i]);
	c->batch_bytes -= c->mark_batch_bytes;
	c->log_bytes -= c->mark_log_bytes;
	s->stats.checkpoint_count++;
	checkpoint_end(s, 0);
}

static bool checkpoint_due(const struct store *s)
{
	const struct checkpoint *c = &s->checkpoint;
	uint32_t target = cleaner_target(s);

	if (c->wanted || c->batch_bytes >= STORE_CHECKPOINT_BATCH_BYTES ||
		c->log_bytes >= c->log_limit_bytes)
		return true;
	if (s->dead_count == 0 || s->free_count >= target)
		return false;
	return s->free_count <= STORE_KEEP_WRITE + 1 || s->dead_count >= target / 2;
}

void checkpoint_poll(struct store *s)
{
	struct checkpoint *c = &s->checkpoint;
	int rc;

	if (c->state == CHECKPOINT_IDLE && checkpoint_due(s) &&
		(c->wanted || env_now_us(s->env) >= c->retry_at_us)) {
		c->wanted = false;
		c->state = CHECKPOINT_HOLD;
		commit_poll(s);
	}
	if (c->state == CHECKPOINT_HOLD && !s->error && commit_quiet(s)) {
		rc = checkpoint_mark(s);
		if (rc)
			checkpoint_give_up(s, rc);
	}
	if (c->state == CHECKPOINT_FLUSH) {
		rc = kv_flush_done(s->kv);
		if (rc == 0)
			checkpoint_finish(s);
		else if (rc != -EINPROGRESS)
			checkpoint_give_up(s, rc);
	}
}

uint64_t checkpoint_delay_us(const struct store *s)
{
	const struct checkpoint *c = &s->checkpoint;
	uint64_t now_us = env_now_us(s->env);

	if (c->state == CHECKPOINT_FLUSH)
		return STORE_FLUSH_POLL_US;
	if (c->state == CHECKPOINT_HOLD || !checkpoint_due(s))
		return UINT64_MAX;
	return c->wanted || now_us >= c->retry_at_us ? 0 : c->retry_at_us - now_us;
}

void checkpoint_cancel(struct store *s, int status)
{
	if (s->checkpoint.state == CHECKPOINT_FLUSH)
		dying_revert(s);
	s->checkpoint.state = CHECKPOINT_IDLE;
	s->checkpoint.wanted = s->checkpoint.done_late = false;
	checkpoint_reply(s, status);
}

int checkpoint_sync(struct store *s)
{
	int rc = checkpoint_mark(s);

	if (rc)
		return rc;
	while ((rc = kv_flush_done(s->kv)) == -EINPROGRESS)
		poll(NULL, 0, 1);
	if (!rc)
		checkpoint_finish(s);
	return rc;
}

int store_checkpoint(struct store *s, void (*done)(void *ctx, int status), void *ctx)
{
	struct checkpoint *c = &s->checkpoint;

	if (s->error)
		return s->error;
	if (c->done)
		return -EBUSY;
	c->done = done;
	c->ctx = ctx;
	if (c->state == CHECKPOINT_FLUSH)
		c->done_late = true;
	else if (c->state == CHECKPOINT_IDLE)
		c->wanted = true;
	return 0;
}

/*
 * Recovery.
 *
 *  1. The mark (index key 'A') says up to which sequence the index is complete, which
 *     incarnation wrote it, and where its open segments stood; bitmaps are loaded.
 *  2. Headers of all segments without a bitmap are read. Those of the mark's incarnation
 *     and not older than its next_segment_seq were opened after the mark: with the
 *     segments open at the mark they hold all commits that may follow it.
 *  3. Each is walked from commit to commit. Where the chain ends, the rest of the segment
 *     is searched for heads as well: they say what had been acknowledged.
 *  4. The commits are replayed in order of sequence up to the first that is missing or
 *     torn. Commits that a later head proves durable must all be there, else the device
 *     lost what it had promised: -EUCLEAN. The others are checked to the last data block.
 *  5. A checkpoint makes the result the new beginning. Nothing is written to the log
 *     before that, so a crash during recovery changes nothing; and nothing older can be
 *     mistaken for new later on, as it has another incarnation.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

#define HEADER_READS  32u
#define WINDOW_BLOCKS 256u
#define WINDOW_SHORT  8u /* after a long commit only the next head is wanted */

struct found { /* a commit after the mark */
	uint64_t sequence;
	uint64_t durable_sequence;
	uint64_t segment_seq;
	uint32_t physical;
	uint32_t block;
};

struct place_to_walk {
	uint64_t seq;
	uint32_t kind;
	uint32_t block; /* 0: nothing */
};

struct header_read {
	struct recovery *recovery;
	struct device_io io;
	uint32_t physical;
	uint8_t *block;
	bool busy;
};

struct recovery {
	struct store *s;
	const struct store_options *opt;
	struct store_refusal *refusal;
	struct checkpoint_mark mark;
	bool have_mark;
	struct place_to_walk *walks; /* per physical segment */
	struct buf found;
	uint64_t seq_max;
	uint64_t incarnation_max;
	uint32_t busy_count;
	int status;
	uint8_t *memory; /* window, payload and header buffers */
	struct header_read headers[HEADER_READS];
	uint32_t window_physical;
	uint32_t window_pos;
	uint32_t window_count;
};

static int read_blocks(
	struct recovery *r, uint32_t physical, uint32_t block, void *data, uint32_t count)
{
	struct store *s = r->s;
	struct device_io io = {
		.op = DEVICE_READ,
		.data = data,
		.size_bytes = count * WFS_BLOCK_SIZE,
		.offset_bytes = segment_offset(s, &s->segments[physical], block),
	};

	return store_io_sync(s->dev, s->env, s->pump, s->pump_ctx, &io);
}

/* --- 1: the index ------------------------------------------------------------------- */

static int mark_load(struct recovery *r)
{
	static const uint8_t key[2] = {0, 'A'};
	struct store *s = r->s;
	int rc;

	buf_reset(&s->scratch);
	rc = kv_get(s->kv, key, sizeof(key), &s->scratch);
	if (!rc)
		rc = buf_error(&s->scratch);
	if (rc == -ENOENT)
		return 0;
	if (!rc)
		rc = checkpoint_decode(s->scratch.data, s->scratch.size_bytes, &r->mark);
	if (rc == -EUCLEAN)
		refuse(r->refusal, "the checkpoint mark in the index is damaged");
	if (rc)
		return rc;
	r->have_mark = true;
	if (memcmp(r->mark.device_uuid, s->super.device_uuid, 16) != 0) {
		refuse(r->refusal, "the index belongs to another device");
		return -EUCLEAN;
	}
	if (r->mark.incarnation >= s->super.incarnation) {
		refuse(r->refusal, "the device is older than its index");
		return -EUCLEAN;
	}
	return 0;
}

static int bitmap_load(
	struct recovery *r, uint64_t seq, const uint8_t *value, size_t size_bytes)
{
	struct store *s = r->s;
	uint32_t bytes = (s->segment_blocks + 7) / 8;
	const uint8_t *bits = value + sizeof(struct bitmap_disk);
	struct bitmap_disk head;
	struct segment *g;

	if (size_bytes != sizeof(head) + bytes || seq == 0 ||
		seq >= r->mark.next_segment_seq)
		return -EUCLEAN;
	memcpy(&head, value, sizeof(head));
	if (le32_get(head.physical) >= s->super.segment_count ||
		le32_get(head.zero) != 0 || bits[0] & 1)
		return -EUCLEAN;
	g = &s->segments[le32_get(head.physical)];
	if (g->seq != 0)
		return -EUCLEAN;
	segment_assign(s, g, seq, le32_get(head.kind));
	segment_set_state(s, g, SEGMENT_OPEN);
	for (uint32_t i = 0; i < s->segment_blocks; i++)
		if (bits[i / 8] >> (i % 8) & 1)
			place_set(s, place_make(seq, i));
	segment_set_state(s, g, SEGMENT_FULL);
	g->saved = true;
	g->dirty = false;
	return g->live_count == le32_get(head.live_count) ? 0 : -EUCLEAN;
}

static int bitmaps_load(struct recovery *r)
{
	static const uint8_t prefix[2] = {0, 'B'};
	struct kv_iter *it;
	int rc = kv_iter_open(r->s->kv, &it);

	if (rc)
		return rc;
	for (it->ops->seek(it, prefix, 2); !rc && it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, value_size;
		const uint8_t *key = it->ops->key(it, &key_size);
		const uint8_t *value;

		if (key_size < 2 || memcmp(key, prefix, 2) != 0)
			break;
		value = it->ops->value(it, &value_size);
		rc = key_size == 10
			     ? bitmap_load(r, be64_read(key + 2), value, value_size)
			     : -EUCLEAN;
	}
	if (rc == -EUCLEAN)
		refuse(r->refusal, "a segment bitmap in the index is damaged");
	if (!rc)
		rc = it->ops->error(it);
	it->ops->close(it);
	return rc;
}

/* --- 2: segment headers ------------------------------------------------------------- */

/* Header and first commit head say the same; either may be damaged or torn off. */
static void header_seen(struct recovery *r, uint32_t physical, const uint8_t *blocks)
{
	const struct checkpoint_mark *m = &r->mark;
	const uint8_t *uuid = r->s->super.device_uuid;
	struct segment_head h;
	struct commit_head c;

	if (segment_head_decode(blocks, WFS_BLOCK_SIZE, &h) != 0) {
		if (commit_head_decode(blocks + WFS_BLOCK_SIZE, WFS_BLOCK_SIZE, &c) != 0)
			return;
		h = (struct segment_head){.incarnation = c.incarnation,
			.segment_seq = c.segment_seq,
			.physical = c.physical,
			.kind = c.kind};
		memcpy(h.device_uuid, c.device_uuid, 16);
	}
	if (memcmp(h.device_uuid, uuid, 16) != 0 || h.physical != physical)
		return;
	if (h.segment_seq > r->seq_max)
		r->seq_max = h.segment_seq;
	if (h.incarnation > r->incarnation_max)
		r->incarnation_max = h.incarnation;
	if (r->have_mark && h.incarnation == m->incarnation &&
		h.segment_seq >= m->next_segment_seq)
		r->walks[physical] = (struct place_to_walk){h.segment_seq, h.kind, 1};
}

static void header_done(struct device_io *io, int status)
{
	struct header_read *h = container_of(io, struct header_read, io);
	struct recovery *r = h->recovery;

	h->busy = false;
	r->busy_count--;
	if (status == 0)
		header_seen(r, h->physical, h->block);
	else if (r->status == 0)
		r->status = status;
}

/* False when the device takes no more now. */
static bool header_submit(struct recovery *r, struct header_read *h, uint32_t physical)
{
	struct store *s = r->s;
	int rc;

	h->recovery = r;
	h->physical = physical;
	h->io = (struct device_io){
		.op = DEVICE_READ,
		.data = h->block,
		.size_bytes = 2 * WFS_BLOCK_SIZE,
		.offset_bytes = segment_offset(s, &s->segments[physical], 0),
		.done = header_done,
	};
	rc = device_submit(s->dev, &h->io);
	if (rc == -EAGAIN)
		return false;
	if (rc) {
		r->status = rc;
		return true;
	}
	h->busy = true;
	r->busy_count++;
	return true;
}

/* Submit what there is room for; returns the next segment to look at. */
static uint32_t headers_fill(struct recovery *r, uint32_t next)
{
	struct store *s = r->s;

	for (uint32_t i = 0; i < HEADER_READS && r->status == 0; i++) {
		while (next < s->super.segment_count && s->segments[next].seq != 0)
			next++;
		if (next == s->super.segment_count)
			break;
		if (r->headers[i].busy)
			continue;
		if (!header_submit(r, &r->headers[i], next))
			break;
		next++;
	}
	return next;
}

static int headers_scan(struct recovery *r)
{
	struct store *s = r->s;
	uint64_t start_us = env_now_us(s->env);
	uint32_t next = 0;

	while (r->busy_count > 0 || (next < s->super.segment_count && r->status == 0)) {
		uint32_t before = next;

		next = headers_fill(r, next);
		if (next > before)
			start_us = env_now_us(s->env);
		if (next == s->super.segment_count && r->busy_count == 0)
			break;
		if (env_now_us(s->env) - start_us > STORE_IO_TIMEOUT_US)
			return -ETIMEDOUT;
		s->pump(s->pump_ctx);
	}
	return r->status;
}

static int headers_judge(struct recovery *r)
{
	struct store *s = r->s;

	if (!r->have_mark && r->seq_max > 0) {
		refuse(r->refusal, "the device holds data but its index is missing");
		return -EUCLEAN;
	}
	if (r->have_mark && r->incarnation_max > r->mark.incarnation) {
		refuse(r->refusal, "the index is older than the device");
		return -EUCLEAN;
	}
	for (int i = 0; r->have_mark && i < 2; i++) {
		uint32_t physical = r->mark.open[i].physical;
		uint32_t block = r->mark.open[i].block;

		if (r->mark.open[i].segment_seq == 0)
			continue;
		if (physical >= s->super.segment_count || block < 1 ||
			block > s->segment_blocks) {
			refuse(r->refusal, "the checkpoint mark in the index is damaged");
			return -EUCLEAN;
		}
		r->walks[physical] = (struct place_to_walk){r->mark.open[i].segment_seq,
			i == STREAM_LOG ? FORMAT_KIND_LOG : FORMAT_KIND_CLEANER, block};
	}
	return 0;
}

/* --- 3: walking --------------------------------------------------------------------- */

static int window_block(struct recovery *r, uint32_t physical, uint32_t block,
	uint32_t ahead, const uint8_t **block_out)
{
	uint32_t count = r->s->segment_blocks - block;
	int rc;

	if (r->window_physical != physical || block < r->window_pos ||
		block >= r->window_pos + r->window_count) {
		if (count > ahead)
			count = ahead;
		r->window_count = 0;
		rc = read_blocks(r, physical, block, r->memory, count);
		if (rc)
			return rc;
		r->window_physical = physical;
		r->window_pos = block;
		r->window_count = count;
	}
	*block_out = r->memory + (size_t)(block - r->window_pos) * WFS_BLOCK_SIZE;
	return 0;
}

static bool head_valid(const struct recovery *r, uint32_t physical, uint32_t block,
	const uint8_t *bytes, struct commit_head *head)
{
	return commit_head_decode(bytes, WFS_BLOCK_SIZE, head) == 0 &&
	       memcmp(head->device_uuid, r->s->super.device_uuid, 16) == 0 &&
	       head->segment_seq == r->walks[physical].seq && head->block == block &&
	       head->physical == physical && head->incarnation == r->mark.incarnation &&
	       head->data_count + head->overflow_count < r->s->segment_blocks - block;
}

static int walk_segment(struct recovery *r, uint32_t physical)
{
	const struct place_to_walk *w = &r->walks[physical];
	uint32_t block = w->block;
	uint32_t ahead = WINDOW_SHORT;
	bool chain = true;
	int rc = 0;

	while (!rc && block < r->s->segment_blocks) {
		struct commit_head head;
		const uint8_t *bytes;
		struct found f;

		rc = window_block(r, physical, block, ahead, &bytes);
		if (rc)
			return rc;
		if (!head_valid(r, physical, block, bytes, &head)) {
			chain = false;
			ahead = WINDOW_BLOCKS;
			block++;
			continue;
		}
		f = (struct found){
			head.sequence, head.durable_sequence, w->seq, physical, block};
		if (head.sequence > r->mark.sequence)
			buf_append(&r->found, &f, sizeof(f));
		if (chain) {
			uint32_t blocks = 1 + head.data_count + head.overflow_count;

			ahead = blocks > WINDOW_SHORT ? WINDOW_SHORT : WINDOW_BLOCKS;
			block += blocks;
		} else {
			block++;
		}
	}
	return rc ? rc : buf_error(&r->found);
}

/* --- 4: replay ---------------------------------------------------------------------- */

static int found_compare(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;

	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

/* The commit's segment in the table. */
static int replay_segment(struct recovery *r, const struct found *f)
{
	struct store *s = r->s;
	struct segment *g = segment_find(s, f->segment_seq);

	if (g)
		return segment_index(s, g) == f->physical ? 0 : -EUCLEAN;
	g = &s->segments[f->physical];
	if (g->seq != 0)
		return -EUCLEAN;
	segment_assign(s, g, f->segment_seq, r->walks[f->physical].kind);
	segment_set_state(s, g, SEGMENT_FULL);
	return 0;
}

static int replay_record(struct recovery *r, const struct record_view *v)
{
	struct store *s = r->s;
	struct segment *g = segment_find(s, v->id >> 16);

	if (v->type == FORMAT_RECORD_MOVES)
		return moves_apply(s, v->bytes, v->size_bytes);
	if (v->block_count > 0 &&
		(!g || v->block_count > s->segment_blocks ||
			place_block(v->id) > s->segment_blocks - v->block_count))
		return -EUCLEAN;
	for (uint32_t i = 0; i < v->block_count; i++)
		if (place_live(s, v->id + i))
			return -EUCLEAN;
	s->stats.replayed_records++;
	if (r->opt->replayed)
		r->opt->replayed(r->opt->replayed_ctx,
			&(struct store_replayed){
				.bucket = v->bucket,
				.bucket_epoch = v->bucket_epoch,
				.lsn = v->lsn,
				.id = v->id,
				.block_count = v->block_count,
				.batch = v->bytes,
				.batch_size_bytes = v->size_bytes,
			});
	return record_apply(s, v->id, v->block_count, v->bytes, v->size_bytes);
}

static int commit_data_check(struct recovery *r, const struct found *f,
	const struct commit_head *head, const void *payload)
{
	for (uint32_t i = 0; i < head->data_count; i++) {
		const uint8_t *bytes;
		int rc = window_block(
			r, f->physical, f->block + 1 + i, WINDOW_BLOCKS, &bytes);

		if (rc)
			return rc;
		if (crc32c(bytes, WFS_BLOCK_SIZE) != payload_crc_get(payload, i))
			return -EUCLEAN;
	}
	return 0;
}

/* Read and check: 0, -EUCLEAN torn or damaged, or an error. */
static int commit_load(struct recovery *r, const struct found *f, bool check_data,
	struct commit_head *head, uint8_t *payload)
{
	const uint8_t *bytes;
	int rc = window_block(r, f->physical, f->block, WINDOW_SHORT, &bytes);

	if (rc)
		return rc;
	if (commit_head_decode(bytes, WFS_BLOCK_SIZE, head) != 0)
		return -EUCLEAN;
	if (head->overflow_count)
		rc = read_blocks(r, f->physical, f->block + 1 + head->data_count, payload,
			head->overflow_count);
	else
		memcpy(payload,
			((const struct commit_disk *)(const void *)bytes)->payload,
			FORMAT_INLINE_MAX);
	if (!rc)
		rc = payload_check(head, payload, head->payload_size_bytes);
	if (!rc && check_data)
		rc = commit_data_check(r, f, head, payload);
	return rc;
}

static int commit_replay(struct recovery *r, const struct found *f,
	const struct commit_head *head, const uint8_t *payload)
{
	uint32_t offset = payload_records(head);
	struct record_view v;
	int rc = replay_segment(r, f);

	while (!rc && payload_next(payload, head->payload_size_bytes, &offset, &v) == 1)
		rc = replay_record(r, &v);
	if (rc == -EUCLEAN)
		refuse(r->refusal,
			"commit %llu in segment %u at offset %llu contradicts the index",
			(unsigned long long)f->sequence, f->physical,
			(unsigned long long)segment_offset(
				r->s, &r->s->segments[f->physical], f->block));
	return rc;
}

static int replay_refuse(
	struct recovery *r, uint64_t sequence, uint64_t durable, const struct found *bad)
{
	struct store *s = r->s;

	if (bad)
		refuse(r->refusal,
			"commit %llu was acknowledged (up to %llu) and is damaged: "
			"segment %u, "
			"offset %llu",
			(unsigned long long)sequence, (unsigned long long)durable,
			bad->physical,
			(unsigned long long)segment_offset(
				s, &s->segments[bad->physical], bad->block));
	else
		refuse(r->refusal,
			"commit %llu was acknowledged (up to %llu) and is missing from "
			"the log",
			(unsigned long long)sequence, (unsigned long long)durable);
	return -EUCLEAN;
}

static int replay(struct recovery *r, uint8_t *payload)
{
	struct found *f = (void *)r->found.data;
	size_t count = r->found.size_bytes / sizeof(*f);
	uint64_t next = r->mark.sequence + 1;
	const struct found *bad = NULL;
	uint64_t durable = r->mark.sequence;

	if (count)
		qsort(f, count, sizeof(*f), found_compare);
	for (size_t i = 0; i < count; i++)
		if (f[i].durable_sequence > durable)
			durable = f[i].durable_sequence;
	for (size_t i = 0; i < count && f[i].sequence == next; i++) {
		struct commit_head head;
		int rc = commit_load(r, &f[i], next > durable, &head, payload);

		if (rc == -EUCLEAN) {
			bad = &f[i];
			break;
		}
		if (!rc)
			rc = commit_replay(r, &f[i], &head, payload);
		if (rc)
			return rc;
		next++;
	}
	if (next <= durable)
		return replay_refuse(r, next, durable, bad);
	r->s->next_sequence = next;
	r->s->durable_sequence = next - 1;
	return 0;
}

/* --- all of it ---------------------------------------------------------------------- */

static int device_flush(struct store *s)
{
	struct device_io io = {.op = DEVICE_FLUSH};

	return store_io_sync(s->dev, s->env, s->pump, s->pump_ctx, &io);
}

static int recovery_steps(struct recovery *r, uint8_t *payload)
{
	struct store *s = r->s;
	int rc = mark_load(r);

	if (!rc && r->have_mark)
		rc = bitmaps_load(r);
	if (!rc)
		rc = headers_scan(r);
	if (!rc)
		rc = headers_judge(r);
	for (uint32_t i = 0; !rc && i < s->super.segment_count; i++)
		if (r->walks[i].block)
			rc = walk_segment(r, i);
	if (!rc)
		rc = replay(r, payload);
	if (rc)
		return rc;
	s->next_segment_seq = r->have_mark ? r->mark.next_segment_seq : 1;
	if (r->seq_max >= s->next_segment_seq)
		s->next_segment_seq = r->seq_max + 1;
	rc = device_flush(s);
	return rc ? rc : checkpoint_sync(s);
}

int recovery_run(struct store *s, const struct store_options *opt,
	struct store_refusal *refusal)
{
	struct recovery *r = mem_zalloc(sizeof(*r));
	size_t payload_blocks = s->segment_blocks;
	size_t blocks = WINDOW_BLOCKS + 2 * HEADER_READS + payload_blocks;
	int rc = -ENOMEM;

	if (!r)
		return -ENOMEM;
	r->s = s;
	r->opt = opt;
	r->refusal = refusal;
	r->window_physical = STORE_NONE;
	buf_init(&r->found);
	r->walks = mem_zalloc(s->super.segment_count * sizeof(*r->walks));
	r->memory = mem_aligned(WFS_BLOCK_SIZE, blocks * WFS_BLOCK_SIZE);
	if (r->walks && r->memory) {
		for (uint32_t i = 0; i < HEADER_READS; i++)
			r->headers[i].block =
				r->memory +
				(size_t)(WINDOW_BLOCKS + 2 * i) * WFS_BLOCK_SIZE;
		rc = recovery_steps(
			r, r->memory + (size_t)(WINDOW_BLOCKS + 2 * HEADER_READS) *
					       WFS_BLOCK_SIZE);
	}
	if (rc == -ETIMEDOUT) /* the device may still write to our memory */
		return -EIO;
	mem_free(r->walks);
	mem_free(r->memory);
	buf_release(&r->found);
	mem_free(r);
	return rc;
}

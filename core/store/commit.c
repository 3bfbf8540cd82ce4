/*
 * Group commit.
 *
 *   store_begin     hands out blocks at the end of the open group (opening one)
 *   store_commit    applies the record to the index, adds its bytes to the group
 *   commit_poll     seals the open group and submits, in order, while slots are free
 *   group_written   the device is done; group_ack tells everybody, strictly in order
 *
 * A group's place is fixed when it opens, so ids are known before the data is there. What
 * is not known is how many record bytes will come. store_begin therefore makes sure that
 * the longest batch fits either behind the data of the open group or into a next group,
 * for which a buffer and a segment must be free: then store_commit never lacks room. A
 * batch that goes to the next group leaves its data blocks in the one before; as groups
 * replay in order, nothing special follows from that.
 *
 * Memory of a group: segment header block, head block, data blocks, staging for records.
 * At seal the records move down behind the crc table and the last data block, or into
 * the head; the whole is then one write.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

#define RECORD_HEAD ((uint32_t)sizeof(struct record_disk))

static size_t group_memory_bytes(const struct store *s)
{
	size_t staging = (size_t)s->record_max + format_pad8(4 * s->group_data_max);

	staging = (staging + 2 * WFS_BLOCK_SIZE) / WFS_BLOCK_SIZE * WFS_BLOCK_SIZE;
	return (size_t)(2 + s->group_data_max) * WFS_BLOCK_SIZE + staging;
}

int group_init(struct store *s)
{
	uint32_t room = (s->segment_blocks - 2) * WFS_BLOCK_SIZE;
	size_t group_bytes;
	size_t buffers_bytes = (size_t)STORE_BUFFER_COUNT * WFS_CHUNK_SIZE;

	s->group_data_max = STORE_GROUP_DATA;
	if (s->group_data_max > s->segment_blocks - 2)
		s->group_data_max = s->segment_blocks - 2;
	s->record_max = room - RECORD_HEAD;
	if (s->record_max > STORE_RECORD_MAX)
		s->record_max = STORE_RECORD_MAX;
	s->batch_max = s->super.segment_size_bytes / 4;
	if (s->batch_max > BATCH_SIZE_MAX)
		s->batch_max = BATCH_SIZE_MAX;
	group_bytes = group_memory_bytes(s);
	s->arena_size_bytes = group_bytes * (STORE_GROUP_COUNT + 1) + buffers_bytes;
	s->arena = mem_aligned(STORE_ARENA_ALIGN, s->arena_size_bytes);
	if (!s->arena)
		return -ENOMEM;
	for (uint32_t i = 0; i <= STORE_GROUP_COUNT; i++) {
		struct group *g = &s->groups[i];

		g->store = s;
		g->memory = s->arena + i * group_bytes;
		g->staging = g->memory + (size_t)(2 + s->group_data_max) * WFS_BLOCK_SIZE;
		list_init(&g->link);
		list_init(&g->records);
	}
	for (uint32_t i = 0; i < STORE_BUFFER_COUNT; i++)
		s->buffers[i] = s->arena + group_bytes * (STORE_GROUP_COUNT + 1) +
				(size_t)i * WFS_CHUNK_SIZE;
	s->buffer_count = STORE_BUFFER_COUNT;
	if (s->dev->ops->register_memory)
		s->dev->ops->register_memory(s->dev, s->arena, s->arena_size_bytes);
	return 0;
}

void group_release(struct store *s)
{
	mem_free(s->arena);
}

uint8_t *group_data(const struct group *g, uint32_t data_index)
{
	return g->memory + (size_t)(2 + data_index) * WFS_BLOCK_SIZE;
}

/* --- a group ------------------------------------------------------------------------ */

static uint32_t group_payload(uint32_t data_count, uint32_t record_bytes)
{
	return format_pad8(4 * data_count) + record_bytes;
}

static uint32_t group_blocks(uint32_t data_count, uint32_t record_bytes)
{
	return 1 + data_count + format_overflow(group_payload(data_count, record_bytes));
}

bool group_fits(const struct group *g, uint32_t data_count, uint32_t record_bytes)
{
	uint32_t data = g->data_count + data_count;
	uint32_t bytes = g->record_bytes + record_bytes;

	return data <= g->store->group_data_max && bytes <= g->store->record_max &&
	       group_blocks(data, bytes) <= g->limit;
}

static struct group *group_find_free(struct store *s, enum store_stream stream)
{
	if (stream == STREAM_CLEANER) {
		struct group *g = &s->groups[STORE_GROUP_COUNT];

		return g->state == GROUP_FREE ? g : NULL;
	}
	for (uint32_t i = 0; i < STORE_GROUP_COUNT; i++)
		if (s->groups[i].state == GROUP_FREE)
			return &s->groups[i];
	return NULL;
}

/* NULL: no buffer, or no segment with `need` blocks. */
struct group *group_open(
	struct store *s, enum store_stream stream, uint32_t need, uint32_t keep)
{
	struct group *g = group_find_free(s, stream);
	struct segment *segment = s->open[stream];

	if (!g)
		return NULL;
	if (!segment || s->segment_blocks - segment->pos < need) {
		if (segment_advance(s, stream, keep) != 0)
			return NULL;
		segment = s->open[stream];
	}
	g->state = GROUP_OPEN;
	g->stream = stream;
	g->segment = segment;
	g->segment_seq = segment->seq;
	g->pos = segment->pos;
	g->limit = s->segment_blocks - segment->pos;
	g->data_count = g->record_count = g->record_bytes = 0;
	return g;
}

/* Forget an open group; its place is taken by the next one. */
void group_drop(struct group *g)
{
	assert(g->state == GROUP_OPEN && list_empty(&g->records));
	g->state = GROUP_FREE;
}

void group_append(struct group *g, const struct record_view *r)
{
	uint32_t padded = format_pad8(r->size_bytes);
	uint8_t *at = g->staging + g->record_bytes;

	assert(group_fits(g, 0, RECORD_HEAD + padded));
	record_encode(r, at);
	memcpy(at + RECORD_HEAD, r->bytes, r->size_bytes);
	memset(at + RECORD_HEAD + r->size_bytes, 0, padded - r->size_bytes);
	g->record_bytes += RECORD_HEAD + padded;
	g->record_count++;
}

static void group_build_payload(struct group *g)
{
	uint32_t table = format_pad8(4 * g->data_count);
	uint32_t size = table + g->record_bytes;
	uint32_t overflow = format_overflow(size);
	struct commit_disk *head = (void *)(g->memory + WFS_BLOCK_SIZE);
	uint8_t *payload = overflow ? group_data(g, g->data_count) : head->payload;
	size_t room = overflow ? (size_t)overflow * WFS_BLOCK_SIZE : FORMAT_INLINE_MAX;

	memmove(payload + table, g->staging, g->record_bytes);
	memset(payload, 0, table);
	for (uint32_t i = 0; i < g->data_count; i++) {
		le32 crc = le32_put(crc32c(group_data(g, i), WFS_BLOCK_SIZE));

		memcpy(payload + (size_t)i * 4, &crc, sizeof(crc));
	}
	memset(payload + size, 0, room - size);
	if (overflow)
		memset(head->payload, 0, FORMAT_INLINE_MAX);
	g->payload_bytes = size;
}

/* Close the group to new records and give it its sequence; empty ones stay open. */
void group_seal(struct group *g)
{
	struct store *s = g->store;

	assert(g->state == GROUP_OPEN);
	if (g->data_count == 0 && g->record_count == 0)
		return;
	group_build_payload(g);
	g->sequence = s->next_sequence++;
	g->segment->pos = g->pos + group_blocks(g->data_count, g->record_bytes);
	assert(g->segment->pos <= s->segment_blocks);
	g->state = GROUP_SEALED;
	list_push_back(&s->queue, &g->link);
	if (s->open_group == g)
		s->open_group = NULL;
}

/* --- acknowledging ------------------------------------------------------------------ */

static void records_done(struct list *records, int status)
{
	while (!list_empty(records)) {
		struct store_record *r = list_first(records, struct store_record, link);

		list_remove(&r->link);
		r->done(r, status);
	}
}

static void barriers_done(struct store *s, uint64_t sequence, int status)
{
	while (!list_empty(&s->barriers)) {
		struct store_barrier *b =
			list_first(&s->barriers, struct store_barrier, link);

		if (b->sequence > sequence)
			return;
		list_remove(&b->link);
		b->done(b, status);
	}
}

static void group_ack(struct store *s)
{
	struct list ready;

	list_init(&ready);
	while (!list_empty(&s->queue)) {
		struct group *g = list_first(&s->queue, struct group, link);

		if (g->state != GROUP_DONE)
			break;
		list_remove(&g->link);
		list_splice_back(&ready, &g->records);
		s->durable_sequence = g->sequence;
		g->state = GROUP_FREE;
	}
	records_done(&ready, 0);
	barriers_done(s, s->durable_sequence, 0);
}

/* Tell all who wait; groups in flight keep their memory until the device is done. */
void commit_cancel(struct store *s, int status)
{
	struct list all;

	list_init(&all);
	for (uint32_t i = 0; i <= STORE_GROUP_COUNT; i++) {
		struct group *g = &s->groups[i];

		if (g->state == GROUP_FREE)
			continue;
		list_remove(&g->link);
		if (g->state != GROUP_FLYING)
			g->state = GROUP_FREE;
	}
	/* In the order of the records: sequences first, the open group last. */
	for (;;) {
		struct group *first = NULL;

		for (uint32_t i = 0; i <= STORE_GROUP_COUNT; i++) {
			struct group *g = &s->groups[i];

			if (!list_empty(&g->records) &&
				(!first || g->sequence < first->sequence))
				first = g;
		}
		if (!first)
			break;
		list_splice_back(&all, &first->records);
	}
	s->open_group = NULL;
	list_init(&s->queue);
	records_done(&all, status);
	barriers_done(s, UINT64_MAX, status);
}

void store_fail(struct store *s, int status)
{
	if (s->error)
		return;
	s->error = -EIO;
	log_error("store failed node=%u shard=%u error=%d durable_sequence=%llu",
		s->super.node, s->super.shard, status,
		(unsigned long long)s->durable_sequence);
	commit_cancel(s, -EIO);
	checkpoint_cancel(s, -EIO);
	read_cancel(s, -EIO);
}

static void group_written(struct device_io *io, int status)
{
	struct group *g = container_of(io, struct group, io);
	struct store *s = g->store;

	assert(g->state == GROUP_FLYING);
	s->flight_count--;
	s->io_count--;
	if (s->error) {
		g->state = GROUP_FREE;
		return;
	}
	if (status) {
		list_remove(&g->link);
		g->state = GROUP_SEALED;
		store_fail(s, status);
		return;
	}
	g->state = GROUP_DONE;
	group_ack(s);
}

/* --- submitting --------------------------------------------------------------------- */

static void group_encode(struct group *g)
{
	struct store *s = g->store;
	uint32_t overflow = format_overflow(g->payload_bytes);
	struct commit_disk *disk = (void *)(g->memory + WFS_BLOCK_SIZE);
	const uint8_t *payload = overflow ? group_data(g, g->data_count) : disk->payload;
	struct commit_head head = {
		.incarnation = s->super.incarnation,
		.sequence = g->sequence,
		.durable_sequence = s->durable_sequence,
		.segment_seq = g->segment_seq,
		.block = g->pos,
		.physical = segment_index(s, g->segment),
		.kind = g->segment->kind,
		.data_count = g->data_count,
		.overflow_count = overflow,
		.record_count = g->record_count,
		.payload_size_bytes = g->payload_bytes,
		.payload_crc = crc32c(payload, g->payload_bytes),
	};

	memcpy(head.device_uuid, s->super.device_uuid, 16);
	commit_head_encode(&head, disk);
}

/* False when the device takes no more now. */
static bool group_submit(struct group *g)
{
	struct store *s = g->store;
	bool first = g->pos == 1;
	uint32_t blocks = group_blocks(g->data_count, g->record_bytes) + first;
	int rc;

	group_encode(g);
	if (first) {
		struct segment_head head = {
			.incarnation = s->super.incarnation,
			.segment_seq = g->segment_seq,
			.physical = segment_index(s, g->segment),
			.kind = g->segment->kind,
		};

		memcpy(head.device_uuid, s->super.device_uuid, 16);
		segment_head_encode(&head, g->memory);
	}
	g->io = (struct device_io){
		.op = DEVICE_WRITE,
		.durable = true,
		.data = g->memory + (first ? 0 : WFS_BLOCK_SIZE),
		.size_bytes = blocks * WFS_BLOCK_SIZE,
		.offset_bytes = segment_offset(s, g->segment, g->pos - first),
		.done = group_written,
	};
	rc = device_submit(s->dev, &g->io);
	if (rc == -EAGAIN)
		return false;
	if (rc) {
		store_fail(s, rc);
		return true;
	}
	g->state = GROUP_FLYING;
	s->flight_count++;
	s->io_count++;
	s->stats.commit_count++;
	s->stats.device_bytes += g->io.size_bytes;
	s->checkpoint.log_bytes += g->io.size_bytes;
	return true;
}

static struct group *queue_next(struct store *s)
{
	list_for_each(it, tmp, &s->queue)
	{
		struct group *g = container_of(it, struct group, link);

		if (g->state == GROUP_SEALED)
			return g;
	}
	return NULL;
}

void commit_poll(struct store *s)
{
	while (!s->error && s->flight_count < STORE_FLIGHT_MAX) {
		struct group *g = queue_next(s);
		struct group *open = s->open_group;

		if (!g && open && open->record_count > 0 &&
			(s->flight_count == 0 || s->checkpoint.state == CHECKPOINT_HOLD ||
				open->data_count * WFS_BLOCK_SIZE + open->record_bytes >=
					STORE_GATHER_BYTES)) {
			group_seal(open);
			g = open;
		}
		if (!g || !group_submit(g))
			return;
	}
}

void store_kick(struct store *s)
{
	const struct group *g = s->open_group;

	if (g && g->record_count > 0 && s->flight_count < STORE_FLIGHT_MAX &&
		g->data_count * WFS_BLOCK_SIZE >= STORE_GATHER_BYTES)
		commit_poll(s);
}

/* All that was committed is durable. */
bool commit_quiet(const struct store *s)
{
	return list_empty(&s->queue) &&
	       (!s->open_group || s->open_group->record_count == 0);
}

/* --- the caller's side -------------------------------------------------------------- */

static int begin_space(const struct store *s, const struct store_record *r)
{
	uint64_t limit = r->deletes ? s->capacity_hard_blocks : s->capacity_blocks;

	if (r->deletes && r->block_count == 0)
		return 0;
	return s->live_blocks + (r->block_count ? r->block_count : 1) > limit ? -ENOSPC
									      : 0;
}

/* See the top comment: the batch of a record begun in g will find room. */
static bool begin_sure(
	struct store *s, struct group *g, uint32_t block_count, uint32_t keep)
{
	uint32_t bytes = RECORD_HEAD + format_pad8(s->batch_max);
	uint32_t end;

	if (group_fits(g, block_count, bytes))
		return true;
	if (!group_find_free(s, STREAM_LOG))
		return false;
	end = g->pos + group_blocks(g->data_count + block_count, g->record_bytes);
	return s->free_count > keep ||
	       s->segment_blocks - end >= 1 + format_overflow(bytes);
}

static int begin_group(struct store *s, struct store_record *r)
{
	uint32_t keep = r->deletes ? STORE_KEEP_DELETE : STORE_KEEP_WRITE;
	struct group *g = s->open_group;

	if (g && !group_fits(g, r->block_count, RECORD_HEAD)) {
		if (g->data_count || g->record_count)
			group_seal(g);
		else
			group_drop(g);
		s->open_group = g = NULL;
	}
	if (!g)
		g = s->open_group = group_open(
			s, STREAM_LOG, group_blocks(r->block_count, RECORD_HEAD), keep);
	if (!g || !begin_sure(s, g, r->block_count, keep))
		return -EAGAIN;
	return 0;
}

int store_begin(struct store *s, struct store_record *r)
{
	struct group *g;
	int rc;

	assert(!s->begun && r->block_count <= WFS_CHUNK_BLOCKS);
	if (s->error)
		return s->error;
	if (r->block_count > s->group_data_max)
		return -E2BIG;
	rc = begin_space(s, r);
	if (!rc)
		rc = s->checkpoint.state == CHECKPOINT_HOLD ? -EAGAIN : begin_group(s, r);
	if (rc == -EAGAIN)
		s->room_wanted = true;
	if (rc)
		return rc;
	g = s->open_group;
	r->id = place_make(g->segment_seq, g->pos + 1 + g->data_count);
	r->data = group_data(g, g->data_count);
	g->data_count += r->block_count;
	s->begun = true;
	return 0;
}

void store_abort(struct store *s, struct store_record *r)
{
	assert(s->begun);
	s->begun = false;
	if (s->open_group)
		s->open_group->data_count -= r->block_count;
}

/* The group for the bytes of r: the open one, or the next. */
static struct group *commit_group(struct store *s, uint32_t bytes)
{
	struct group *g = s->open_group;

	if (group_fits(g, 0, bytes))
		return g;
	if (g->data_count || g->record_count)
		group_seal(g);
	else
		group_drop(g);
	g = group_open(s, STREAM_LOG, group_blocks(0, bytes), STORE_KEEP_DELETE);
	s->open_group = g;
	return g;
}

int store_commit(struct store *s, struct store_record *r, const struct batch *batch)
{
	uint32_t size = (uint32_t)batch->bytes.size_bytes;
	uint32_t bytes = RECORD_HEAD + format_pad8(size);
	struct group *g;
	int rc = s->error ? s->error : batch_error(batch);

	assert(s->begun);
	if (!rc && batch->bytes.size_bytes > s->batch_max)
		rc = -E2BIG;
	if (!rc)
		rc = record_apply(s, r->id, r->block_count, batch->bytes.data, size);
	if (rc) {
		store_abort(s, r);
		return rc;
	}
	s->begun = false;
	read_cache_fill(s, r->id, r->data, r->block_count);
	g = commit_group(s, bytes);
	assert(g);
	group_append(g, &(struct record_view){
				.type = FORMAT_RECORD_BATCH,
				.bucket = r->bucket,
				.bucket_epoch = r->bucket_epoch,
				.block_count = r->block_count,
				.lsn = r->lsn,
				.id = r->block_count ? r->id : 0,
				.bytes = batch->bytes.data,
				.size_bytes = size,
			});
	r->sequence = g->sequence = s->next_sequence;
	list_push_back(&g->records, &r->link);
	s->checkpoint.batch_bytes += size;
	s->stats.user_bytes += size + (uint64_t)r->block_count * WFS_BLOCK_SIZE;
	s->stats.record_count++;
	return 0;
}

void store_on_room(struct store *s, void (*room)(void *ctx), void *ctx)
{
	s->room = room;
	s->room_ctx = ctx;
}

/* Call the owner back when a store_begin that was refused might now succeed. */
void commit_room(struct store *s)
{
	struct group *g = s->open_group;

	if (!s->room_wanted || s->error || s->checkpoint.state == CHECKPOINT_HOLD)
		return;
	if (!group_find_free(s, STREAM_LOG) && !(g && begin_sure(s, g, 0, UINT32_MAX)))
		return;
	if (s->free_count <= STORE_KEEP_DELETE)
		return;
	s->room_wanted = false;
	if (s->room)
		s->room(s->room_ctx);
}

void store_barrier(struct store *s, struct store_barrier *b)
{
	b->sequence = store_committed_sequence(s);
	if (s->error || s->durable_sequence >= b->sequence) {
		list_init(&b->link);
		b->done(b, s->error);
		return;
	}
	list_push_back(&s->barriers, &b->link);
}

uint64_t store_durable_sequence(const struct store *s)
{
	return s->durable_sequence;
}

uint64_t store_committed_sequence(const struct store *s)
{
	bool open = s->open_group && s->open_group->record_count > 0;

	return open ? s->next_sequence : s->next_sequence - 1;
}

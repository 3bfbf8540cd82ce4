/*
 * The last records of every bucket with several members: a backup that was away for a
 * moment, or a new primary's backups, get what they miss from here. Blocks are kept until
 * they were sent for the first time, in buffers that are used again; after that the store
 * is asked for them (whose crcs tell if they are gone).
 */
#include "core/shard/member.h"

#include <errno.h>
#include <string.h>

#include "core/base/mem.h"

#define HISTORY_BYTES_MAX (16u << 20)
#define DATA_BYTES_MAX    (32u << 20)
#define NOTED_MAX         16384u
#define BUFFER_SMALL_BLOCKS 16u
#define BUFFERS_KEPT      32u

/* What recovery found, until there is a shard. */
struct shard_history {
	struct list shipments;
	uint32_t count;
};

/* --- buffers for blocks --- */

struct buffer {
	struct list link;
};

static uint8_t *buffer_take(struct shard *s, uint32_t block_count)
{
	struct list *spare = &s->history_buffers;
	uint8_t *data;

	if (block_count <= BUFFER_SMALL_BLOCKS)
		return mem_alloc((size_t)block_count * WFS_BLOCK_SIZE);
	if (list_empty(spare))
		return mem_aligned(WFS_BLOCK_SIZE, WFS_CHUNK_SIZE);
	data = (uint8_t *)list_first(spare, struct buffer, link);
	list_remove((struct list *)(void *)data);
	s->history_buffer_count--;
	return data;
}

static void buffer_give(struct shard *s, uint8_t *data, uint32_t block_count)
{
	if (block_count <= BUFFER_SMALL_BLOCKS || s->closing ||
		s->history_buffer_count >= BUFFERS_KEPT) {
		mem_free(data);
		return;
	}
	list_push_front(&s->history_buffers, &((struct buffer *)(void *)data)->link);
	s->history_buffer_count++;
}

static size_t data_bytes(const struct shipment *sh)
{
	return (size_t)sh->block_count * WFS_BLOCK_SIZE;
}

static void data_drop(struct shard *s, struct shipment *sh)
{
	if (!sh->data)
		return;
	s->history_data_bytes -= data_bytes(sh);
	buffer_give(s, sh->data, sh->block_count);
	sh->data = NULL;
}

/* --- shipments --- */

void shipment_release(struct shard *s, struct shipment *sh)
{
	if (!sh || --sh->refs > 1)
		return;
	data_drop(s, sh);
	if (sh->refs == 0)
		mem_free(sh);
}

static struct shipment *shipment_new(uint16_t bucket, uint32_t epoch, uint64_t lsn,
	const void *batch, size_t batch_size_bytes)
{
	struct shipment *sh = NULL;
	struct batch ops;

	batch_init(&ops);
	if (meta_record_say(batch, batch_size_bytes, &ops) == 0)
		sh = mem_alloc(sizeof(*sh) + ops.bytes.size_bytes);
	if (sh) {
		*sh = (struct shipment){.refs = 1,
			.bucket = bucket,
			.epoch = epoch,
			.lsn = lsn,
			.ops_size = (uint32_t)ops.bytes.size_bytes};
		if (ops.bytes.size_bytes)
			memcpy(sh->ops, ops.bytes.data, ops.bytes.size_bytes);
		list_init(&sh->link);
		list_init(&sh->all_link);
	}
	batch_release(&ops);
	return sh;
}

static void shipment_drop(struct shard *s, struct shipment *sh)
{
	list_remove(&sh->link);
	list_remove(&sh->all_link);
	s->history_bytes -= sizeof(*sh) + sh->ops_size;
	shipment_release(s, sh);
}

static void history_push(struct shard *s, struct shipment *sh)
{
	list_push_back(&s->buckets[sh->bucket].history, &sh->link);
	list_push_back(&s->history, &sh->all_link);
	s->history_bytes += sizeof(*sh) + sh->ops_size;
	while (s->history_bytes > HISTORY_BYTES_MAX)
		shipment_drop(s, list_first(&s->history, struct shipment, all_link));
}

void history_forget(struct shard *s, uint16_t bucket)
{
	struct list *history = &s->buckets[bucket].history;

	while (!list_empty(history))
		shipment_drop(s, list_first(history, struct shipment, link));
}

void history_cut(struct shard *s, uint16_t bucket, uint64_t lsn)
{
	struct list *history = &s->buckets[bucket].history;

	while (!list_empty(history)) {
		struct shipment *sh = list_first(history, struct shipment, link);

		if (sh->lsn > lsn)
			return;
		shipment_drop(s, sh);
	}
}

static uint64_t history_last(const struct bucket_state *b)
{
	return list_empty(&b->history)
		       ? 0
		       : container_of(b->history.prev, struct shipment, link)->lsn;
}

void history_add(struct shard *s, uint16_t bucket, uint32_t epoch, uint64_t lsn,
	const struct store_record *r, const void *batch, size_t batch_size_bytes,
	bool with_data)
{
	struct bucket_state *b = &s->buckets[bucket];
	struct shipment *sh = shipment_new(bucket, epoch, lsn, batch, batch_size_bytes);

	if (!list_empty(&b->history) && history_last(b) + 1 != lsn)
		history_forget(s, bucket);
	if (!sh) {
		history_forget(s, bucket);
		return;
	}
	sh->id = r->id;
	sh->block_count = r->block_count;
	if (sh->block_count && with_data && s->history_data_bytes < DATA_BYTES_MAX)
		sh->data = buffer_take(s, sh->block_count);
	if (sh->data) {
		memcpy(sh->data, r->data, data_bytes(sh));
		s->history_data_bytes += data_bytes(sh);
	}
	history_push(s, sh);
}

struct shipment *history_find(struct shard *s, uint16_t bucket, uint64_t lsn)
{
	struct list *history = &s->buckets[bucket].history;

	for (struct list *it = history->prev; it != history; it = it->prev) {
		struct shipment *sh = container_of(it, struct shipment, link);

		if (sh->lsn == lsn)
			return sh;
		if (sh->lsn < lsn)
			break;
	}
	return NULL;
}

/* Whether all records after lsn are there. */
bool history_reaches(struct shard *s, uint16_t bucket, uint64_t lsn)
{
	return lsn == s->lsn[bucket] || history_find(s, bucket, lsn + 1) != NULL;
}

void history_free_all(struct shard *s)
{
	while (!list_empty(&s->history))
		shipment_drop(s, list_first(&s->history, struct shipment, all_link));
	while (!list_empty(&s->history_buffers)) {
		struct list *spare = s->history_buffers.next;

		list_remove(spare);
		mem_free(spare);
	}
}

/* --- recovery --- */

struct shard_history *shard_history_new(void)
{
	struct shard_history *h = mem_zalloc(sizeof(*h));

	if (h)
		list_init(&h->shipments);
	return h;
}

void shard_history_free(struct shard_history *h)
{
	if (!h)
		return;
	while (!list_empty(&h->shipments)) {
		struct shipment *sh = list_first(&h->shipments, struct shipment, all_link);

		list_remove(&sh->all_link);
		mem_free(sh);
	}
	mem_free(h);
}

void shard_history_note(void *history, const struct store_replayed *r)
{
	struct shard_history *h = history;
	struct shipment *sh = shipment_new(
		r->bucket, r->bucket_epoch, r->lsn, r->batch, r->batch_size_bytes);

	if (!sh)
		return;
	sh->id = r->id;
	sh->block_count = r->block_count;
	list_push_back(&h->shipments, &sh->all_link);
	if (++h->count > NOTED_MAX) {
		sh = list_first(&h->shipments, struct shipment, all_link);
		list_remove(&sh->all_link);
		mem_free(sh);
		h->count--;
	}
}

/* Only what leads up to a bucket's last record, without gaps, is of use. */
void history_take(struct shard *s, struct shard_history *h)
{
	while (!list_empty(&h->shipments)) {
		struct shipment *sh = list_first(&h->shipments, struct shipment, all_link);
		struct bucket_state *b;

		list_remove(&sh->all_link);
		if (sh->bucket >= s->map->bucket_count) {
			mem_free(sh);
			continue;
		}
		b = &s->buckets[sh->bucket];
		if (sh->epoch == 0 || history_last(b) + 1 != sh->lsn)
			history_forget(s, sh->bucket);
		/* A copy came in; what ends it says nothing, and is no record. */
		if (sh->epoch == 0 || (list_empty(&b->history) && sh->ops_size == 0)) {
			mem_free(sh);
			continue;
		}
		history_push(s, sh);
	}
	for (uint32_t i = 0; i < s->map->bucket_count; i++)
		if (history_last(&s->buckets[i]) != s->lsn[i])
			history_forget(s, (uint16_t)i);
}

/*
 * Reading blocks.
 *
 * A read takes one op from a bounded pool, or waits in line for one. Its ids become
 * places; runs of consecutive places are read by up to STORE_READ_IOS device reads at a
 * time, blocks that are still in a group buffer are copied from there, and so are blocks
 * of small records written not long ago, from a cache: a place is never written twice in
 * the same life of its segment, and its name never used again, so nothing in that cache
 * can be out of date. When all is in,
 * every block is checked against the crc that the index holds. On a mismatch the whole is
 * done again, from the resolution of ids on: the cleaner may have moved a block and its
 * old place been written anew in between.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

static void read_step(struct read_op *op);
static void read_start(struct store *s, struct store_read *r);

int read_init(struct store *s)
{
	list_init(&s->read_free);
	s->read_wait_tail = &s->read_wait;
	s->read_ops = mem_zalloc(STORE_READ_OPS * sizeof(*s->read_ops));
	s->cache_places = mem_zalloc(STORE_CACHE_BLOCKS * sizeof(*s->cache_places));
	s->cache_data = mem_aligned(WFS_BLOCK_SIZE, STORE_CACHE_BLOCKS * WFS_BLOCK_SIZE);
	if (!s->read_ops || !s->cache_places || !s->cache_data)
		return -ENOMEM;
	for (uint32_t i = 0; i < STORE_READ_OPS; i++) {
		struct read_op *op = &s->read_ops[i];

		op->store = s;
		for (uint32_t k = 0; k < STORE_READ_IOS; k++)
			op->ios[k].op = op;
		list_push_back(&s->read_free, &op->link);
	}
	return 0;
}

void read_release(struct store *s)
{
	mem_free(s->read_ops);
	mem_free(s->cache_places);
	mem_free(s->cache_data);
}

void *store_buffer_get(struct store *s)
{
	return s->buffer_count ? s->buffers[--s->buffer_count] : NULL;
}

void store_buffer_put(struct store *s, void *buffer)
{
	assert(s->buffer_count < STORE_BUFFER_COUNT);
	s->buffers[s->buffer_count++] = buffer;
}

/* --- one op ------------------------------------------------------------------------- */

static void read_end(struct read_op *op, int status)
{
	struct store *s = op->store;
	struct store_read *r = op->read;
	struct store_read *next;

	op->read = NULL;
	list_push_back(&s->read_free, &op->link);
	r->priv = NULL;
	if (status == 0) {
		s->stats.read_count++;
		s->stats.read_bytes += (uint64_t)r->block_count * WFS_BLOCK_SIZE;
	}
	r->done(r, status);
	next = s->read_wait;
	if (!next || list_empty(&s->read_free))
		return;
	s->read_wait = next->priv;
	if (!s->read_wait)
		s->read_wait_tail = &s->read_wait;
	read_start(s, next);
}

static uint32_t read_check(const struct store_read *r)
{
	const uint8_t *data = r->data;
	uint32_t i = 0;

	while (i < r->block_count &&
		crc32c(data + (size_t)i * WFS_BLOCK_SIZE, WFS_BLOCK_SIZE) == r->crcs[i])
		i++;
	return i;
}

static void read_verify(struct read_op *op)
{
	struct store *s = op->store;
	struct store_read *r = op->read;
	uint32_t bad = op->status ? 0 : read_check(r);
	struct segment *g;

	if (op->status || bad == r->block_count) {
		read_end(op, op->status);
		return;
	}
	if (!op->again) {
		op->again = true;
		op->next = 0;
		op->status = forward_resolve_range(s, r->id, r->block_count, op->place);
		read_step(op);
		return;
	}
	s->stats.crc_error_count++;
	g = segment_find(s, op->place[bad] >> 16);
	log_error("store crc mismatch id=%llx segment=%u offset=%llu",
		(unsigned long long)(r->id + bad), g ? segment_index(s, g) : STORE_NONE,
		g ? (unsigned long long)segment_offset(s, g, place_block(op->place[bad]))
		  : 0);
	read_end(op, -EUCLEAN);
}

static void read_io_done(struct device_io *io, int status)
{
	struct read_io *ri = container_of(io, struct read_io, io);
	struct read_op *op = ri->op;

	ri->busy = false;
	op->busy_count--;
	op->store->io_count--;
	if (op->status == 0)
		op->status = op->store->error ? op->store->error : status;
	read_step(op);
}

static uint32_t cache_slot(uint64_t place)
{
	return (uint32_t)((place * 0x9e3779b97f4a7c15u) >> 40) % STORE_CACHE_BLOCKS;
}

void read_cache_fill(
	struct store *s, uint64_t place, const void *data, uint32_t block_count)
{
	for (uint32_t i = 0; i < block_count && block_count <= STORE_CACHE_RECORD; i++) {
		uint32_t slot = cache_slot(place + i);

		s->cache_places[slot] = place + i;
		memcpy(s->cache_data + (size_t)slot * WFS_BLOCK_SIZE,
			(const uint8_t *)data + (size_t)i * WFS_BLOCK_SIZE,
			WFS_BLOCK_SIZE);
	}
}

/* The block when it is in memory: in a group buffer on its way out, or in the cache. */
static const uint8_t *read_pending(const struct store *s, uint64_t place)
{
	for (uint32_t i = 0; i <= STORE_GROUP_COUNT; i++) {
		const struct group *g = &s->groups[i];
		uint64_t first = place_make(g->segment_seq, g->pos + 1);

		if (g->state != GROUP_FREE && place >= first &&
			place - first < g->data_count)
			return group_data(g, (uint32_t)(place - first));
	}
	if (s->cache_places[cache_slot(place)] == place)
		return s->cache_data + (size_t)cache_slot(place) * WFS_BLOCK_SIZE;
	return NULL;
}

static struct read_io *read_io_free(struct read_op *op)
{
	for (uint32_t i = 0; i < STORE_READ_IOS; i++)
		if (!op->ios[i].busy)
			return &op->ios[i];
	return NULL;
}

/* False when the device takes no more now. */
static bool read_submit(struct read_op *op, struct read_io *ri, uint32_t count)
{
	struct store *s = op->store;
	uint64_t place = op->place[op->next];
	const struct segment *g = segment_find(s, place >> 16);
	int rc;

	if (!g) { /* freed since it was resolved */
		op->status = -ESTALE;
		return true;
	}
	ri->io = (struct device_io){
		.op = DEVICE_READ,
		.data = (uint8_t *)op->read->data + (size_t)op->next * WFS_BLOCK_SIZE,
		.size_bytes = count * WFS_BLOCK_SIZE,
		.offset_bytes = segment_offset(s, g, place_block(place)),
		.done = read_io_done,
	};
	rc = device_submit(s->dev, &ri->io);
	if (rc == -EAGAIN)
		return false;
	op->next += count;
	if (rc) {
		op->status = rc;
		return true;
	}
	ri->busy = true;
	op->busy_count++;
	s->io_count++;
	return true;
}

static void read_step(struct read_op *op)
{
	struct store_read *r = op->read;

	while (op->status == 0 && op->next < r->block_count) {
		const uint8_t *pending = read_pending(op->store, op->place[op->next]);
		struct read_io *ri;
		uint32_t n = 1;

		if (pending) {
			memcpy((uint8_t *)r->data + (size_t)op->next * WFS_BLOCK_SIZE,
				pending, WFS_BLOCK_SIZE);
			op->next++;
			continue;
		}
		ri = read_io_free(op);
		if (!ri)
			return;
		while (op->next + n < r->block_count &&
			op->place[op->next + n] == op->place[op->next] + n &&
			!read_pending(op->store, op->place[op->next + n]))
			n++;
		if (!read_submit(op, ri, n)) {
			if (op->busy_count == 0)
				list_push_back(&op->store->read_stalled, &op->link);
			return;
		}
	}
	if (op->busy_count == 0)
		read_verify(op);
}

static void read_start(struct store *s, struct store_read *r)
{
	struct read_op *op = list_first(&s->read_free, struct read_op, link);

	list_remove(&op->link);
	op->read = r;
	op->next = 0;
	op->again = false;
	r->priv = op;
	op->status = s->error
			     ? s->error
			     : forward_resolve_range(s, r->id, r->block_count, op->place);
	read_step(op);
}

void store_read(struct store *s, struct store_read *r)
{
	assert(r->block_count >= 1 && r->block_count <= WFS_CHUNK_BLOCKS);
	assert((uintptr_t)r->data % WFS_BLOCK_SIZE == 0);
	r->priv = NULL;
	if (!list_empty(&s->read_free) && !s->read_wait) {
		read_start(s, r);
		return;
	}
	*s->read_wait_tail = r;
	s->read_wait_tail = (struct store_read **)&r->priv;
}

bool read_poll(struct store *s)
{
	struct list stalled;

	list_init(&stalled);
	list_splice_back(&stalled, &s->read_stalled);
	while (!list_empty(&stalled)) {
		struct read_op *op = list_first(&stalled, struct read_op, link);

		list_remove(&op->link);
		read_step(op);
	}
	return !list_empty(&s->read_stalled);
}

/* Reads in line end here; those on the device when it answers. */
void read_cancel(struct store *s, int status)
{
	while (!list_empty(&s->read_stalled)) {
		struct read_op *op = list_first(&s->read_stalled, struct read_op, link);

		list_remove(&op->link);
		op->status = status;
		read_step(op);
	}
	while (s->read_wait) {
		struct store_read *r = s->read_wait;

		s->read_wait = r->priv;
		if (!s->read_wait)
			s->read_wait_tail = &s->read_wait;
		r->priv = NULL;
		r->done(r, status);
	}
}

void read_abandon(struct store *s, int status)
{
	for (uint32_t i = 0; i < STORE_READ_OPS; i++)
		if (s->read_ops[i].read)
			read_end(&s->read_ops[i], status);
}

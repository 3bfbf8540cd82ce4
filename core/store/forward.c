/*
 * Where blocks are, and what a record does.
 *
 * A block whose live bit is set at its place of birth is there. Any other was moved by
 * the cleaner, and the index says where to, in pages of 64 consecutive ids, so that one
 * exact get answers for a whole run and nothing has to be held in memory for blocks
 * nobody asks for.
 *
 * record_apply and moves_apply are the only ways by which index and bitmaps change. Both
 * are used at run time and again at replay, so the log need not say what follows from
 * the state before: which forwarding entry a freed block has. Both first compute the
 * page changes in a forward_set, then apply all to the index in one batch, then turn
 * bits, which cannot fail.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/store/store_impl.h"

static void forward_key(uint64_t base, uint8_t key[10])
{
	key[0] = 0;
	key[1] = 'F';
	be64_write(key + 2, base);
}

static void set_reset(struct forward_set *f)
{
	f->count = 0;
	memset(f->buckets, 0xff, sizeof(f->buckets));
}

void forward_release(struct store *s)
{
	mem_free(s->forward.pages);
	s->forward.pages = NULL;
}

static uint32_t set_bucket(uint64_t base)
{
	return (uint32_t)((base / FORMAT_FORWARD_BLOCKS * 0x9e3779b97f4a7c15u) >> 32) %
	       FORWARD_BUCKETS;
}

static int page_load(struct store *s, uint64_t base, uint64_t *place)
{
	uint8_t key[10];
	int rc;

	forward_key(base, key);
	buf_reset(&s->scratch);
	rc = kv_get(s->kv, key, sizeof(key), &s->scratch);
	if (rc == 0)
		rc = buf_error(&s->scratch);
	if (rc == -ENOENT) {
		memset(place, 0, FORMAT_FORWARD_BLOCKS * sizeof(*place));
		return 0;
	}
	if (rc)
		return rc;
	return forward_decode(s->scratch.data, s->scratch.size_bytes, place);
}

/* The page of `id` in the set, loaded when new. The pointer holds until the next call. */
static int set_page(struct store *s, uint64_t id, struct forward_page **page_out)
{
	struct forward_set *f = &s->forward;
	uint64_t base = id / FORMAT_FORWARD_BLOCKS * FORMAT_FORWARD_BLOCKS;
	uint32_t *bucket = &f->buckets[set_bucket(base)];
	struct forward_page *page;
	int rc;

	for (uint32_t i = *bucket; i != STORE_NONE; i = f->pages[i].hash_next) {
		if (f->pages[i].base == base) {
			*page_out = &f->pages[i];
			return 0;
		}
	}
	if (f->count == f->capacity) {
		uint32_t capacity = f->capacity ? f->capacity * 2 : 64;
		void *pages = mem_realloc(f->pages, capacity * sizeof(*f->pages));

		if (!pages)
			return -ENOMEM;
		f->pages = pages;
		f->capacity = capacity;
	}
	page = &f->pages[f->count];
	rc = page_load(s, base, page->place);
	if (rc)
		return rc;
	page->base = base;
	page->dirty = false;
	page->hash_next = *bucket;
	*bucket = f->count++;
	*page_out = page;
	return 0;
}

/* Add the changed pages to a batch of index changes. */
static void set_emit(const struct forward_set *f, struct batch *b)
{
	uint8_t value[FORMAT_FORWARD_BLOCKS * sizeof(struct forward_disk)];
	uint8_t key[10];

	for (uint32_t i = 0; i < f->count; i++) {
		size_t size;

		if (!f->pages[i].dirty)
			continue;
		forward_key(f->pages[i].base, key);
		size = forward_encode(f->pages[i].place, value);
		if (size)
			batch_put(b, key, sizeof(key), value, size);
		else
			batch_del(b, key, sizeof(key));
	}
}

/* --- finding ------------------------------------------------------------------------ */

int forward_resolve_range(
	struct store *s, uint64_t id, uint32_t count, uint64_t *place_out)
{
	uint64_t page[FORMAT_FORWARD_BLOCKS];
	uint64_t base = 0;
	bool loaded = false;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t block = id + i;
		int rc;

		if (place_live(s, block)) {
			place_out[i] = block;
			continue;
		}
		if (!loaded || block - base >= FORMAT_FORWARD_BLOCKS) {
			base = block / FORMAT_FORWARD_BLOCKS * FORMAT_FORWARD_BLOCKS;
			rc = page_load(s, base, page);
			if (rc)
				return rc;
			loaded = true;
		}
		place_out[i] = page[block - base];
		if (place_out[i] == 0 || !place_live(s, place_out[i]))
			return -ESTALE;
	}
	return 0;
}

int forward_resolve(struct store *s, uint64_t id, uint64_t *place_out)
{
	return forward_resolve_range(s, id, 1, place_out);
}

bool store_block_live(struct store *s, uint64_t id)
{
	uint64_t place;

	return forward_resolve(s, id, &place) == 0;
}

/* --- applying a batch --------------------------------------------------------------- */

typedef int (*free_visit)(struct store *s, uint64_t id);

static int frees_walk(
	struct store *s, const void *bytes, size_t size_bytes, free_visit visit)
{
	size_t offset = 0;
	struct batch_entry e;
	int rc;

	while ((rc = batch_next(bytes, size_bytes, &offset, &e)) == 1) {
		uint64_t id;
		le32 count;

		if (e.type != BATCH_FREE)
			continue;
		id = be64_read(e.key);
		memcpy(&count, e.value, sizeof(count));
		for (uint32_t i = 0; i < le32_get(count); i++) {
			rc = visit(s, id + i);
			if (rc)
				return rc;
		}
	}
	return rc;
}

/* Load the pages of moved blocks and take the freed ones out. */
static int free_prepare(struct store *s, uint64_t id)
{
	struct forward_page *page;
	uint32_t at = (uint32_t)(id % FORMAT_FORWARD_BLOCKS);
	int rc;

	if (place_live(s, id))
		return 0;
	rc = set_page(s, id, &page);
	if (rc || page->place[at] == 0)
		return rc;
	page->dirty = true;
	/* The top bit marks it as freed until free_finish turns the live bit. */
	page->place[at] |= (uint64_t)1 << 63;
	return 0;
}

static int free_finish(struct store *s, uint64_t id)
{
	if (place_live(s, id))
		place_clear(s, id);
	return 0;
}

/* Split what free_prepare marked into new page contents and places to clear. */
static int set_take_freed(struct forward_set *f, struct buf *places)
{
	for (uint32_t i = 0; i < f->count; i++) {
		for (uint32_t k = 0; k < FORMAT_FORWARD_BLOCKS; k++) {
			uint64_t *place = &f->pages[i].place[k];

			if (!(*place >> 63))
				continue;
			*place &= ~((uint64_t)1 << 63);
			buf_append(places, place, sizeof(*place));
			*place = 0;
		}
	}
	return buf_error(places);
}

static int apply_with_pages(struct store *s, const void *bytes, size_t size_bytes)
{
	struct batch all;
	struct buf places;
	int rc;

	batch_init(&all);
	buf_init(&places);
	rc = set_take_freed(&s->forward, &places);
	if (rc)
		goto out;
	batch_append(&all, bytes, size_bytes);
	set_emit(&s->forward, &all);
	rc = batch_error(&all);
	if (!rc)
		rc = kv_apply(s->kv, &all);
	if (rc)
		goto out;
	for (size_t at = 0; at < places.size_bytes; at += 8) {
		uint64_t place;

		memcpy(&place, places.data + at, 8);
		if (place_live(s, place))
			place_clear(s, place);
	}
out:
	batch_release(&all);
	buf_release(&places);
	return rc;
}

int record_apply(struct store *s, uint64_t id, uint32_t block_count, const void *bytes,
	size_t size_bytes)
{
	int rc;

	for (uint32_t i = 0; i < block_count; i++)
		place_set(s, id + i);
	set_reset(&s->forward);
	rc = frees_walk(s, bytes, size_bytes, free_prepare);
	if (!rc && s->forward.count > 0)
		rc = apply_with_pages(s, bytes, size_bytes);
	else if (!rc && size_bytes > 0)
		rc = kv_apply_bytes(s->kv, bytes, size_bytes);
	if (rc) {
		for (uint32_t i = 0; i < block_count; i++)
			place_clear(s, id + i);
		return rc;
	}
	(void)frees_walk(s, bytes, size_bytes, free_finish);
	return 0;
}

/* --- applying moves ----------------------------------------------------------------- */

static int move_prepare(struct store *s, const struct format_move *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		uint64_t id = m->id + i;
		struct forward_page *page;
		uint64_t *place;
		int rc;

		if (!place_live(s, m->from + i) || place_live(s, m->to + i))
			return -EUCLEAN;
		rc = set_page(s, id, &page);
		if (rc)
			return rc;
		place = &page->place[id % FORMAT_FORWARD_BLOCKS];
		if (m->from + i != (*place ? *place : id))
			return -EUCLEAN;
		*place = m->to + i;
		page->dirty = true;
	}
	return 0;
}

static void move_finish(struct store *s, const struct format_move *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		place_clear(s, m->from + i);
		place_set(s, m->to + i);
	}
}

int moves_apply(struct store *s, const void *bytes, size_t size_bytes)
{
	const uint8_t *p = bytes;
	struct format_move m;
	struct batch b;
	int rc = 0;

	set_reset(&s->forward);
	batch_init(&b);
	for (size_t at = 0; !rc && at < size_bytes; at += sizeof(struct move_disk)) {
		move_decode(p + at, &m);
		rc = move_prepare(s, &m);
	}
	if (!rc) {
		set_emit(&s->forward, &b);
		rc = batch_error(&b);
	}
	if (!rc)
		rc = kv_apply(s->kv, &b);
	for (size_t at = 0; !rc && at < size_bytes; at += sizeof(struct move_disk)) {
		move_decode(p + at, &m);
		move_finish(s, &m);
	}
	batch_release(&b);
	return rc;
}

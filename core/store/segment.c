/*
 * The table of segments and the live bitmaps.
 *
 * All of it is allocated at open: a struct per segment, one bit per block (32 MiB of
 * memory per TiB), and a chained hash from segment_seq to segment. Counts of free and of
 * dead segments (FULL, nothing live) are kept in one place, segment_count_state, so that
 * the questions "is there room" and "is a checkpoint worth it" cost nothing.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/store/store_impl.h"

uint32_t segment_usable(const struct store *s)
{
	uint32_t groups = s->segment_blocks / STORE_GROUP_DATA + 1;

	return s->segment_blocks - 2 - 6 * groups;
}

int segment_table_init(struct store *s)
{
	uint32_t count = s->super.segment_count;
	uint32_t reserve = count / 10 > 8 ? count / 10 : 8;
	uint32_t buckets = 16;

	while (buckets < count)
		buckets *= 2;
	s->segment_blocks = s->super.segment_size_bytes / WFS_BLOCK_SIZE;
	s->words_per_segment = (s->segment_blocks + 63) / 64;
	s->capacity_blocks = (uint64_t)(count - reserve) * segment_usable(s);
	s->capacity_hard_blocks = (uint64_t)(count - 7) * segment_usable(s);
	s->segments = mem_zalloc(count * sizeof(*s->segments));
	s->bitmaps = mem_zalloc((size_t)count * s->words_per_segment * 8);
	s->hash = mem_alloc(buckets * sizeof(*s->hash));
	if (!s->segments || !s->bitmaps || !s->hash)
		return -ENOMEM;
	s->hash_mask = buckets - 1;
	memset(s->hash, 0xff, buckets * sizeof(*s->hash));
	s->free_count = count;
	s->next_segment_seq = 1;
	return 0;
}

void segment_table_release(struct store *s)
{
	mem_free(s->segments);
	mem_free(s->bitmaps);
	mem_free(s->hash);
}

uint32_t segment_index(const struct store *s, const struct segment *g)
{
	return (uint32_t)(g - s->segments);
}

uint64_t segment_offset(const struct store *s, const struct segment *g, uint32_t block)
{
	return s->super.area_offset_bytes +
	       (uint64_t)segment_index(s, g) * s->super.segment_size_bytes +
	       (uint64_t)block * WFS_BLOCK_SIZE;
}

struct segment *segment_find(const struct store *s, uint64_t seq)
{
	uint32_t i = s->hash[seq & s->hash_mask];

	while (i != STORE_NONE && s->segments[i].seq != seq)
		i = s->segments[i].hash_next;
	return i == STORE_NONE ? NULL : &s->segments[i];
}

uint64_t *segment_bitmap(const struct store *s, const struct segment *g)
{
	return s->bitmaps + (size_t)segment_index(s, g) * s->words_per_segment;
}

static void segment_count_state(struct store *s, const struct segment *g, int by)
{
	if (g->state == SEGMENT_FREE)
		s->free_count += by;
	else if (g->state == SEGMENT_DYING)
		s->dying_count += by;
	else if (g->state == SEGMENT_FULL && g->live_count == 0)
		s->dead_count += by;
}

void segment_set_state(struct store *s, struct segment *g, enum segment_state state)
{
	segment_count_state(s, g, -1);
	g->state = state;
	segment_count_state(s, g, 1);
}

/* Give a free segment a new life; the caller sets its state. */
void segment_assign(struct store *s, struct segment *g, uint64_t seq, uint32_t kind)
{
	uint32_t *bucket = &s->hash[seq & s->hash_mask];

	assert(g->state == SEGMENT_FREE && g->seq == 0 && g->live_count == 0);
	if (g->discard) {
		g->discard = false;
		s->discard_count--;
	}
	g->seq = seq;
	g->kind = (uint8_t)kind;
	g->pos = 1;
	g->dirty = g->saved = g->bad = false;
	g->hash_next = *bucket;
	*bucket = segment_index(s, g);
}

void segment_free(struct store *s, struct segment *g)
{
	uint32_t *at = &s->hash[g->seq & s->hash_mask];

	assert(g->live_count == 0);
	while (*at != segment_index(s, g))
		at = &s->segments[*at].hash_next;
	*at = g->hash_next;
	g->seq = 0;
	g->dirty = g->saved = false;
	g->discard = true;
	s->discard_count++;
	segment_set_state(s, g, SEGMENT_FREE);
}

int segment_advance(struct store *s, enum store_stream stream, uint32_t keep)
{
	uint32_t count = s->super.segment_count;
	struct segment *g;

	if (s->free_count <= keep)
		return -EAGAIN;
	while (s->segments[s->free_hint].state != SEGMENT_FREE)
		s->free_hint = (s->free_hint + 1) % count;
	g = &s->segments[s->free_hint];
	s->free_hint = (s->free_hint + 1) % count;
	if (s->open[stream])
		segment_set_state(s, s->open[stream], SEGMENT_FULL);
	segment_assign(s, g, s->next_segment_seq++,
		stream == STREAM_LOG ? FORMAT_KIND_LOG : FORMAT_KIND_CLEANER);
	segment_set_state(s, g, SEGMENT_OPEN);
	s->open[stream] = g;
	return 0;
}

bool place_live(const struct store *s, uint64_t place)
{
	const struct segment *g = segment_find(s, place >> 16);
	uint32_t block = place_block(place);

	return g && place >> 16 != 0 && block < s->segment_blocks &&
	       segment_bitmap(s, g)[block / 64] >> (block % 64) & 1;
}

void place_set(struct store *s, uint64_t place)
{
	struct segment *g = segment_find(s, place >> 16);
	uint32_t block = place_block(place);

	assert(g && block < s->segment_blocks && !place_live(s, place));
	segment_count_state(s, g, -1);
	segment_bitmap(s, g)[block / 64] |= (uint64_t)1 << (block % 64);
	g->live_count++;
	segment_count_state(s, g, 1);
	g->dirty = true;
	s->live_blocks++;
}

void place_clear(struct store *s, uint64_t place)
{
	struct segment *g = segment_find(s, place >> 16);
	uint32_t block = place_block(place);

	assert(place_live(s, place));
	segment_count_state(s, g, -1);
	segment_bitmap(s, g)[block / 64] &= ~((uint64_t)1 << (block % 64));
	g->live_count--;
	segment_count_state(s, g, 1);
	g->dirty = true;
	s->live_blocks--;
}

void segment_discard_one(struct store *s)
{
	uint32_t count = s->super.segment_count;

	for (uint32_t n = 0; s->discard_count > 0 && n < 64; n++) {
		struct segment *g = &s->segments[s->discard_hint];

		s->discard_hint = (s->discard_hint + 1) % count;
		if (!g->discard)
			continue;
		g->discard = false;
		s->discard_count--;
		(void)device_discard(
			s->dev, segment_offset(s, g, 0), s->super.segment_size_bytes);
		return;
	}
}

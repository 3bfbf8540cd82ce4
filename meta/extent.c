/*
 * Where the blocks of a chunk are: 'E' keys, and a cache of the chunks used last.
 *
 * A cached chunk is an array with one cell per block, as long as its highest block
 * needs: the block's id (0: a hole), its crc, and the block at which the stored extent
 * begins that holds it. Each stored extent is one E key; a change rewrites those it cuts:
 *
 *          |--- left ---|======= cut =======|--- right ---|
 *   old:   s............b...................e
 *   puts:  s..b (shorter)   b..e (new ids)   e.. (shorter, new key)
 *   dels:  every old start in [b, e) that no put replaces
 *
 * A write whose ids follow those of the extent before it lengthens that one, up to
 * EXTENT_MERGE_MAX blocks: more would make small appends rewrite long crc lists.
 *
 * The cache runs ahead of the kv by the one batch being built. If building fails here,
 * the chunk is dropped; if the batch is not committed, meta_batch_dropped drops all.
 */
#include <assert.h>
#include <errno.h>

#include "core/base/mem.h"
#include "meta/meta_impl.h"

#define EXTENT_MERGE_MAX 64u
#define CELLS_MIN        4u

struct cell {
	uint64_t id;
	uint32_t crc;
	uint32_t start;
};

struct chunk {
	struct list lru;
	struct chunk *next; /* in its head's chain */
	ino_id ino;
	uint64_t index;
	uint32_t cell_count;
	struct cell *cells; /* blocks beyond are holes */
};

/* --- the cache --- */

static struct chunk **chunk_head(struct meta *m, ino_id ino, uint64_t index)
{
	uint64_t h = (ino ^ index * 0xff51afd7ed558ccdu) * 0x9e3779b97f4a7c15u;

	return &m->chunk_heads[(h >> 40) % CHUNK_HEADS];
}

static struct chunk *chunk_find(struct meta *m, ino_id ino, uint64_t index)
{
	struct chunk *ch = *chunk_head(m, ino, index);

	while (ch && (ch->ino != ino || ch->index != index))
		ch = ch->next;
	return ch;
}

bool chunk_cached(struct meta *m, ino_id ino, uint64_t index)
{
	return chunk_find(m, ino, index) != NULL;
}

static void chunk_drop(struct meta *m, struct chunk *ch)
{
	struct chunk **link = chunk_head(m, ch->ino, ch->index);

	while (*link != ch)
		link = &(*link)->next;
	*link = ch->next;
	list_remove(&ch->lru);
	m->chunk_count--;
	mem_free(ch->cells);
	mem_free(ch);
}

void chunk_cache_drop_all(struct meta *m)
{
	while (!list_empty(&m->chunk_lru))
		chunk_drop(m, list_first(&m->chunk_lru, struct chunk, lru));
}

static struct chunk *chunk_add(struct meta *m, ino_id ino, uint64_t index)
{
	struct chunk **head = chunk_head(m, ino, index);
	struct chunk *ch = mem_zalloc(sizeof(*ch));

	if (!ch)
		return NULL;
	if (m->chunk_count >= CHUNK_CACHE_MAX)
		chunk_drop(m, container_of(m->chunk_lru.prev, struct chunk, lru));
	ch->ino = ino;
	ch->index = index;
	ch->next = *head;
	*head = ch;
	list_push_front(&m->chunk_lru, &ch->lru);
	m->chunk_count++;
	return ch;
}

void chunk_cache_fresh(struct meta *m, ino_id ino)
{
	if (!chunk_find(m, ino, 0))
		chunk_add(m, ino, 0);
}

/* Cells for blocks below `end`. */
static int chunk_grow(struct chunk *ch, uint32_t end)
{
	uint32_t count = ch->cell_count ? ch->cell_count : CELLS_MIN;
	struct cell *cells;

	if (end <= ch->cell_count)
		return 0;
	while (count < end)
		count *= 2;
	cells = mem_realloc(ch->cells, count * sizeof(*cells));
	if (!cells)
		return -ENOMEM;
	memset(cells + ch->cell_count, 0, (count - ch->cell_count) * sizeof(*cells));
	ch->cells = cells;
	ch->cell_count = count;
	return 0;
}

static void cells_set(struct chunk *ch, uint32_t block, uint32_t block_count, uint64_t id,
	uint32_t start)
{
	for (uint32_t i = 0; i < block_count; i++) {
		ch->cells[block + i].id = id + i;
		ch->cells[block + i].start = start;
	}
}

static int chunk_load_extent(struct chunk *ch, const void *key, size_t key_size,
	const void *value, size_t value_size)
{
	uint32_t block, block_count;
	uint64_t id;
	int rc;

	if (meta_key_extent_parse(key, key_size, &block) ||
		extent_decode(value, value_size, block, &id, &block_count))
		return -EUCLEAN;
	rc = chunk_grow(ch, block + block_count);
	if (rc)
		return rc;
	if (ch->cells[block].id) /* overlaps the one before */
		return -EUCLEAN;
	cells_set(ch, block, block_count, id, block);
	for (uint32_t i = 0; i < block_count; i++) {
		le32 crc;

		memcpy(&crc,
			(const uint8_t *)value + sizeof(struct extent_value) +
				i * sizeof(crc),
			sizeof(crc));
		ch->cells[block + i].crc = le32_get(crc);
	}
	return 0;
}

static int chunk_load(struct meta *m, uint16_t bucket, struct chunk *ch)
{
	struct meta_key prefix;
	struct kv_iter *it;
	int rc = kv_iter_open(m->kv, &it);

	if (rc)
		return rc;
	meta_key_prefix(&prefix, bucket, 'E');
	meta_key_u64(&prefix, ch->ino);
	meta_key_u64(&prefix, ch->index);
	it->ops->seek(it, prefix.bytes, prefix.size);
	for (; rc == 0 && it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, value_size;
		const void *key = it->ops->key(it, &key_size);
		const void *value = it->ops->value(it, &value_size);

		if (!key_has_prefix(key, key_size, &prefix))
			break;
		rc = chunk_load_extent(ch, key, key_size, value, value_size);
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	return rc == -EUCLEAN ? meta_damaged("extent", bucket, ch->ino) : rc;
}

static int chunk_get(struct meta *m, uint16_t bucket, ino_id ino, uint64_t index,
	struct chunk **chunk_out)
{
	struct chunk *ch = chunk_find(m, ino, index);
	int rc;

	if (ch) {
		list_remove(&ch->lru);
		list_push_front(&m->chunk_lru, &ch->lru);
		*chunk_out = ch;
		return 0;
	}
	ch = chunk_add(m, ino, index);
	if (!ch)
		return -ENOMEM;
	rc = chunk_load(m, bucket, ch);
	if (rc) {
		chunk_drop(m, ch);
		return rc;
	}
	*chunk_out = ch;
	return 0;
}

/* --- reading --- */

static uint64_t cell_id(const struct chunk *ch, uint32_t block)
{
	return block < ch->cell_count ? ch->cells[block].id : 0;
}

/* Whether the block goes on where the one before it ends, on the device or as a hole. */
static bool cell_continues(const struct chunk *ch, uint32_t block)
{
	uint64_t before = cell_id(ch, block - 1), id = cell_id(ch, block);

	return before ? id == before + 1 : id == 0;
}

int meta_extent_map(struct meta *m, uint16_t bucket, ino_id ino, uint64_t chunk,
	uint32_t block, uint32_t block_count, struct extent *extents, uint32_t *count_out,
	uint32_t *crcs)
{
	uint32_t end = block + block_count, count = 0, crc_count = 0;
	struct chunk *ch;
	int rc;

	if (block >= WFS_CHUNK_BLOCKS || block_count > WFS_CHUNK_BLOCKS - block)
		return -EINVAL;
	rc = chunk_get(m, bucket, ino, chunk, &ch);
	if (rc)
		return rc;
	for (uint32_t b = block; b < end; b++) {
		uint64_t id = cell_id(ch, b);

		if (b == block || !cell_continues(ch, b))
			extents[count++] = (struct extent){
				.block = b, .id = id, .crc_index = crc_count};
		extents[count - 1].block_count++;
		if (id)
			crcs[crc_count++] = ch->cells[b].crc;
	}
	*count_out = count;
	return 0;
}

/* --- changing --- */

struct cut {
	struct meta *m;
	struct batch *batch;
	struct chunk *ch;
	uint16_t bucket;
	uint32_t block; /* [block, end) gets new ids, or becomes a hole */
	uint32_t end;
	int64_t block_delta;
};

static void extent_put(struct cut *cut, uint32_t start, uint32_t end)
{
	const struct cell *cells = cut->ch->cells;
	uint8_t value[sizeof(struct extent_value) + WFS_CHUNK_BLOCKS * sizeof(le32)];
	struct extent_value head;
	struct meta_key key;

	extent_encode(cells[start].id, end - start, &head);
	memcpy(value, &head, sizeof(head));
	for (uint32_t b = start; b < end; b++) {
		le32 crc = le32_put(cells[b].crc);

		memcpy(value + sizeof(head) + (b - start) * sizeof(crc), &crc,
			sizeof(crc));
	}
	meta_key_extent(&key, cut->bucket, cut->ch->ino, cut->ch->index, start);
	batch_put(cut->batch, key.bytes, key.size, value,
		sizeof(head) + (end - start) * sizeof(le32));
}

static void extent_del(struct cut *cut, uint32_t start)
{
	struct meta_key key;

	meta_key_extent(&key, cut->bucket, cut->ch->ino, cut->ch->index, start);
	batch_del(cut->batch, key.bytes, key.size);
}

/* Free what the cut replaces, and drop the keys that begin in it, save `kept`. */
static void cut_old(struct cut *cut, uint32_t kept)
{
	const struct chunk *ch = cut->ch;
	uint32_t end = cut->end < ch->cell_count ? cut->end : ch->cell_count;
	uint32_t run = 0;

	for (uint32_t b = cut->block; b < end; b += run) {
		run = 1;
		if (!ch->cells[b].id)
			continue;
		while (b + run < end && cell_continues(ch, b + run))
			run++;
		batch_free_blocks(cut->batch, ch->cells[b].id, run);
		cut->block_delta -= run;
	}
	for (uint32_t b = cut->block; b < end; b++)
		if (ch->cells[b].id && ch->cells[b].start == b && b != kept)
			extent_del(cut, b);
}

/* What an extent keeps on either side of the cut. */
static void cut_sides(struct cut *cut)
{
	struct chunk *ch = cut->ch;
	uint32_t start, right = cut->end;

	if (right < ch->cell_count && ch->cells[right].id &&
		ch->cells[right].start < right) {
		start = ch->cells[right].start;
		while (right < ch->cell_count && ch->cells[right].id &&
			ch->cells[right].start == start)
			ch->cells[right++].start = cut->end;
		extent_put(cut, cut->end, right);
	}
	if (cut->block < ch->cell_count && ch->cells[cut->block].id &&
		ch->cells[cut->block].start < cut->block)
		extent_put(cut, ch->cells[cut->block].start, cut->block);
}

static int cut_account(struct cut *cut)
{
	struct bucket_header *header;
	int rc;

	if (cut->block_delta == 0)
		return 0;
	rc = header_get(cut->m, cut->bucket, &header);
	if (rc)
		return rc;
	header->data_bytes += (uint64_t)(cut->block_delta * (int64_t)WFS_BLOCK_SIZE);
	header_put(cut->m, cut->batch, cut->bucket);
	return 0;
}

/* The start of the extent that a write at cut->block with `id` lengthens, or the block.
 */
static uint32_t cut_merge_start(const struct cut *cut, uint64_t id)
{
	const struct cell *before;

	if (cut->block == 0 || cell_id(cut->ch, cut->block - 1) + 1 != id || id == 1)
		return cut->block;
	before = &cut->ch->cells[cut->block - 1];
	if (cut->end - before->start > EXTENT_MERGE_MAX)
		return cut->block;
	return before->start;
}

/* Say the change again in terms that the other members understand. */
static void cut_note(struct cut *cut, uint64_t id, const uint32_t *crcs)
{
	uint32_t count = cut->end - cut->block;
	le32 values[WFS_CHUNK_BLOCKS];
	uint8_t key[EXTENT_NOTE_SIZE];

	extent_note_encode(&(struct extent_note){
				   .ino = cut->ch->ino,
				   .chunk = cut->ch->index,
				   .id = id,
				   .block = cut->block,
				   .block_count = count,
			   },
		key);
	for (uint32_t i = 0; crcs && i < count; i++)
		values[i] = le32_put(crcs[i]);
	batch_note(cut->batch, key, sizeof(key), values, crcs ? count * sizeof(le32) : 0);
}

static bool cut_is_hole(const struct cut *cut)
{
	for (uint32_t b = cut->block; b < cut->end && b < cut->ch->cell_count; b++)
		if (cut->ch->cells[b].id)
			return false;
	return true;
}

static int cut_finish(struct cut *cut, int rc)
{
	if (rc == 0)
		rc = cut_account(cut);
	if (rc == 0)
		rc = batch_error(cut->batch);
	if (rc)
		meta_batch_dropped(cut->m);
	return rc;
}

int meta_extent_write(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t block, uint32_t block_count, uint64_t id,
	const uint32_t *crcs)
{
	struct cut cut = {.m = m,
		.batch = batch,
		.bucket = bucket,
		.block = block,
		.end = block + block_count,
		.block_delta = block_count};
	uint32_t start;
	int rc;

	if (block >= WFS_CHUNK_BLOCKS || block_count > WFS_CHUNK_BLOCKS - block ||
		block_count == 0 || id == 0)
		return -EINVAL;
	rc = chunk_get(m, bucket, ino, chunk, &cut.ch);
	if (rc)
		return rc;
	rc = chunk_grow(cut.ch, cut.end);
	if (rc)
		return rc;
	cut_note(&cut, id, crcs);
	start = cut_merge_start(&cut, id);
	cut_old(&cut, start);
	cut_sides(&cut);
	cells_set(cut.ch, block, block_count, id, start);
	for (uint32_t i = 0; i < block_count; i++)
		cut.ch->cells[block + i].crc = crcs[i];
	extent_put(&cut, start, cut.end);
	return cut_finish(&cut, 0);
}

int meta_extent_punch(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t block, uint32_t block_count)
{
	struct cut cut = {.m = m,
		.batch = batch,
		.bucket = bucket,
		.block = block,
		.end = block + block_count};
	int rc;

	if (block >= WFS_CHUNK_BLOCKS || block_count > WFS_CHUNK_BLOCKS - block)
		return -EINVAL;
	rc = chunk_get(m, bucket, ino, chunk, &cut.ch);
	if (rc || cut_is_hole(&cut))
		return rc;
	cut_note(&cut, 0, NULL);
	cut_old(&cut, UINT32_MAX);
	cut_sides(&cut);
	for (uint32_t b = block; b < cut.end && b < cut.ch->cell_count; b++)
		cut.ch->cells[b] = (struct cell){0};
	return cut_finish(&cut, 0);
}

/* --- generations --- */

static int chunk_generation(struct meta *m, const struct meta_key *key, uint16_t bucket,
	uint32_t *generation_out)
{
	int rc;

	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key->bytes, key->size, &m->scratch);
	if (rc == -ENOENT) {
		*generation_out = 0;
		return 0;
	}
	if (rc)
		return rc;
	if (chunk_decode(m->scratch.data, m->scratch.size_bytes, generation_out))
		return meta_damaged("chunk", bucket, 0);
	return 0;
}

int meta_chunk_check(
	struct meta *m, uint16_t bucket, ino_id ino, uint64_t chunk, uint32_t generation)
{
	struct meta_key key;
	uint32_t oldest;
	int rc;

	if (generation == UINT32_MAX)
		return 0;
	meta_key_chunk(&key, bucket, ino, chunk);
	rc = chunk_generation(m, &key, bucket, &oldest);
	if (rc)
		return rc;
	return generation < oldest ? -ESTALE : 0;
}

int meta_chunk_mark(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t generation)
{
	struct chunk_value value;
	struct meta_key key;
	uint32_t oldest;
	int rc;

	if (generation == 0 || generation == UINT32_MAX)
		return 0;
	meta_key_chunk(&key, bucket, ino, chunk);
	rc = chunk_generation(m, &key, bucket, &oldest);
	if (rc || oldest >= generation)
		return rc;
	chunk_encode(generation, &value);
	batch_put(batch, key.bytes, key.size, &value, sizeof(value));
	return batch_error(batch);
}

int meta_chunk_purge(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t keep_bytes, uint32_t generation, bool forget)
{
	uint32_t keep_blocks = (keep_bytes + WFS_BLOCK_SIZE - 1) / WFS_BLOCK_SIZE, oldest;
	struct chunk_value value;
	struct meta_key key;
	int rc;

	if (keep_bytes > WFS_CHUNK_SIZE)
		return -EINVAL;
	meta_key_chunk(&key, bucket, ino, chunk);
	rc = chunk_generation(m, &key, bucket, &oldest);
	if (rc)
		return rc;
	if (forget) {
		batch_del(batch, key.bytes, key.size);
	} else if (generation > oldest) {
		chunk_encode(generation, &value);
		batch_put(batch, key.bytes, key.size, &value, sizeof(value));
	}
	if (keep_blocks == WFS_CHUNK_BLOCKS)
		return batch_error(batch);
	return meta_extent_punch(m, batch, bucket, ino, chunk, keep_blocks,
		WFS_CHUNK_BLOCKS - keep_blocks);
}

int meta_chunk_next(
	struct meta *m, uint16_t bucket, ino_id ino, uint64_t from, uint64_t *chunk_out)
{
	struct meta_key prefix, start;
	struct kv_iter *it;
	int rc = kv_iter_open(m->kv, &it);

	if (rc)
		return rc;
	meta_key_prefix(&prefix, bucket, 'E');
	meta_key_u64(&prefix, ino);
	start = prefix;
	meta_key_u64(&start, from);
	it->ops->seek(it, start.bytes, start.size);
	rc = -ENOENT;
	if (it->ops->valid(it)) {
		size_t size;
		const uint8_t *key = it->ops->key(it, &size);

		if (key_has_prefix(key, size, &prefix) && size >= start.size) {
			*chunk_out = be64_read(key + prefix.size);
			rc = 0;
		}
	} else if (it->ops->error(it)) {
		rc = it->ops->error(it);
	}
	it->ops->close(it);
	return rc;
}

/*
 * The copies of a bucket say the same: the keys that travel are equal byte for byte, and
 * the extents, whose ids are each store's own, name blocks of equal crcs.
 */
#include "tests/lib/world.h"
#include "tests/lib/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/schema.h"

#define SEED ((unsigned long long)w->seed)

struct cell {
	ino_id ino;
	uint64_t chunk;
	uint32_t block;
	uint32_t crc;
};

static void each_key(struct world_shard *ws, uint16_t bucket,
	void (*fn)(void *ctx, const uint8_t *key, size_t key_size, const uint8_t *value,
		size_t value_size),
	void *ctx)
{
	struct meta_key prefix;
	struct kv_iter *it;

	meta_key_prefix(&prefix, bucket, 0);
	check_eq(kv_iter_open(ws->kv, &it), 0);
	for (it->ops->seek(it, prefix.bytes, 3); it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, value_size;
		const uint8_t *key = it->ops->key(it, &key_size);
		const uint8_t *value = it->ops->value(it, &value_size);

		if (key_size < META_PREFIX_SIZE || memcmp(key, prefix.bytes, 3) != 0)
			break;
		fn(ctx, key, key_size, value, value_size);
	}
	it->ops->close(it);
}

struct bucket_copy {
	struct buf keys;
	struct buf cells;
};

static void copy_key(void *ctx, const uint8_t *key, size_t key_size, const uint8_t *value,
	size_t value_size)
{
	struct bucket_copy *copy = ctx;
	uint32_t sizes[2] = {(uint32_t)key_size, (uint32_t)value_size};
	uint32_t block, count;
	uint64_t id;

	if (key[3] == 'A')
		return;
	if (key[3] != 'E') {
		buf_append(&copy->keys, sizes, sizeof(sizes));
		buf_append(&copy->keys, key, key_size);
		if (value_size)
			buf_append(&copy->keys, value, value_size);
		return;
	}
	check_eq(meta_key_extent_parse(key, key_size, &block), 0);
	check_eq(extent_decode(value, value_size, block, &id, &count), 0);
	for (uint32_t i = 0; i < count; i++) {
		struct cell cell = {.ino = be64_read(key + META_PREFIX_SIZE),
			.chunk = be64_read(key + META_PREFIX_SIZE + 8),
			.block = block + i};

		memcpy(&cell.crc, value + sizeof(struct extent_value) + 4 * i, 4);
		buf_append(&copy->cells, &cell, sizeof(cell));
	}
}

static void bucket_read(struct world *w, uint32_t shard, uint16_t bucket,
	struct bucket_copy *copy)
{
	buf_init(&copy->keys);
	buf_init(&copy->cells);
	each_key(&w->shards[shard], bucket, copy_key, copy);
}

static void record_hex(char *text, size_t room, const uint8_t *bytes, size_t size)
{
	text[0] = 0;
	for (size_t i = 0; i < size && 2 * i + 3 < room; i++)
		snprintf(text + 2 * i, room - 2 * i, "%02x", bytes[i]);
}

static void keys_differ(struct world *w, uint16_t bucket, const uint8_t *a, size_t a_size,
	const uint8_t *b, size_t b_size)
{
	char x[512], y[512];

	record_hex(x, sizeof(x), a, a_size);
	record_hex(y, sizeof(y), b, b_size);
	check(false, "bucket %u: its copies differ at keys of type %c / %c, seed %llu\n%s\n%s",
		bucket, a[3], b[3], SEED, x, y);
}

static void first_difference(struct world *w, uint16_t bucket, const struct bucket_copy *a,
	const struct bucket_copy *b)
{
	size_t at = 0;

	while (at + 8 <= a->keys.size_bytes && at + 8 <= b->keys.size_bytes) {
		uint32_t x[2], y[2];

		memcpy(x, (uint8_t *)a->keys.data + at, 8);
		memcpy(y, (uint8_t *)b->keys.data + at, 8);
		if (memcmp(x, y, 8) != 0 || memcmp((uint8_t *)a->keys.data + at + 8,
						    (uint8_t *)b->keys.data + at + 8,
						    x[0] + x[1]) != 0)
			keys_differ(w, bucket, (uint8_t *)a->keys.data + at + 8,
				x[0] + x[1], (uint8_t *)b->keys.data + at + 8,
				y[0] + y[1]);
		at += 8 + x[0] + x[1];
	}
	check(false, "bucket %u: one copy has more keys, seed %llu", bucket, SEED);
}

static void copies_compare(struct world *w, uint16_t bucket, uint32_t first,
	uint32_t second)
{
	struct bucket_copy a, b;

	bucket_read(w, first, bucket, &a);
	bucket_read(w, second, bucket, &b);
	check_eq(w->shards[first].shard->lsn[bucket],
		w->shards[second].shard->lsn[bucket], "lsn of bucket %u, seed %llu", bucket,
		SEED);
	if (a.keys.size_bytes != b.keys.size_bytes ||
		(a.keys.size_bytes &&
			memcmp(a.keys.data, b.keys.data, a.keys.size_bytes) != 0))
		first_difference(w, bucket, &a, &b);
	check_eq(a.cells.size_bytes, b.cells.size_bytes,
		"bucket %u: copies of different size, seed %llu", bucket, SEED);
	check(!a.cells.size_bytes ||
			memcmp(a.cells.data, b.cells.data, a.cells.size_bytes) == 0,
		"bucket %u: the blocks of its copies differ, seed %llu", bucket, SEED);
	buf_release(&a.keys);
	buf_release(&a.cells);
	buf_release(&b.keys);
	buf_release(&b.cells);
}

struct block_count {
	struct world_shard *ws;
	uint64_t count;
};

static void count_blocks(void *ctx, const uint8_t *key, size_t key_size,
	const uint8_t *value, size_t value_size)
{
	struct block_count *bc = ctx;
	uint32_t block, count;
	uint64_t id;

	if (key[3] != 'E')
		return;
	check_eq(meta_key_extent_parse(key, key_size, &block), 0);
	check_eq(extent_decode(value, value_size, block, &id, &count), 0);
	bc->count += count;
	for (uint32_t i = 0; i < count; i++)
		check(store_block_live(bc->ws->store, id + i), "block is not in use");
}

void world_copies_check(struct world *w)
{
	for (uint32_t i = 0; i < w->map->bucket_count; i++) {
		const struct map_bucket *mb = &w->map->buckets[i];

		for (uint32_t k = 0; k < mb->backup_count; k++)
			copies_compare(w, (uint16_t)i, mb->primary, mb->backups[k]);
	}
	for (uint32_t s = 0; s < w->shard_count; s++) {
		struct block_count bc = {.ws = &w->shards[s]};
		struct store_stats st;

		for (uint32_t i = 0; i < w->map->bucket_count; i++)
			each_key(bc.ws, (uint16_t)i, count_blocks, &bc);
		store_stats(bc.ws->store, &st);
		check_eq(st.live_bytes, bc.count * WFS_BLOCK_SIZE,
			"shard %u: %llu blocks live, %llu named, seed %llu", s,
			(unsigned long long)st.live_bytes / WFS_BLOCK_SIZE,
			(unsigned long long)bc.count, SEED);
	}
}

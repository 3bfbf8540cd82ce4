/*
 * The calls of users, and the cache in front of every map.
 *
 * The cache holds copies of single keys, present or known to be absent; it is written
 * through and never ahead of the map: kv_apply first applies, then refreshes the keys it
 * already holds. When the map refused a batch, or memory is short for a copy, the keys
 * concerned are dropped, so that the next get asks the map again. Iterators do not look
 * here: the map underneath is complete at all times.
 *
 * Layout: a fixed array of entries, chained by index from a power-of-two table of heads.
 * Eviction is a clock over the array: a hit sets the entry's mark, the hand clears marks
 * until it finds one that is clear.
 */
#include "core/kv/kv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"

#define CACHE_VALUE_MAX 4096u
#define CACHE_NIL       UINT32_MAX
#define CACHE_SEED      0x6b76u

struct cache_entry {
	uint64_t hash;
	uint8_t *bytes; /* key, then value */
	uint32_t capacity_bytes;
	uint32_t value_size;
	uint32_t next_index;
	uint16_t key_size; /* 0: the entry is free */
	bool present;
	bool marked;
};

struct kv_cache {
	struct cache_entry *entries;
	uint32_t *heads;
	uint32_t entry_count;
	uint32_t head_mask;
	uint32_t hand_index;
};

static void cache_free(struct kv_cache *cache)
{
	if (!cache)
		return;
	for (uint32_t i = 0; cache->entries && i < cache->entry_count; i++)
		mem_free(cache->entries[i].bytes);
	mem_free(cache->entries);
	mem_free(cache->heads);
	mem_free(cache);
}

int kv_cache_enable(struct kv *kv, uint32_t entries)
{
	struct kv_cache *cache;
	uint32_t head_count = 1;

	assert(!kv->cache && entries > 0 && entries < UINT32_MAX / 4);
	cache = mem_zalloc(sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	while (head_count < entries)
		head_count *= 2;
	cache->entry_count = entries;
	cache->head_mask = head_count - 1;
	cache->entries = mem_zalloc(entries * sizeof(*cache->entries));
	cache->heads = mem_alloc(head_count * sizeof(*cache->heads));
	if (!cache->entries || !cache->heads) {
		cache_free(cache);
		return -ENOMEM;
	}
	memset(cache->heads, 0xff, head_count * sizeof(*cache->heads));
	kv->cache = cache;
	return 0;
}

static struct cache_entry *cache_find(struct kv_cache *cache, uint64_t hash,
	const void *key, size_t key_size)
{
	uint32_t index = cache->heads[hash & cache->head_mask];

	while (index != CACHE_NIL) {
		struct cache_entry *e = &cache->entries[index];

		if (e->hash == hash && e->key_size == key_size &&
			memcmp(e->bytes, key, key_size) == 0)
			return e;
		index = e->next_index;
	}
	return NULL;
}

static void cache_drop(struct kv_cache *cache, struct cache_entry *e)
{
	uint32_t index = (uint32_t)(e - cache->entries);
	uint32_t *link = &cache->heads[e->hash & cache->head_mask];

	while (*link != index)
		link = &cache->entries[*link].next_index;
	*link = e->next_index;
	e->key_size = 0;
}

static struct cache_entry *cache_evict(struct kv_cache *cache)
{
	for (;;) {
		struct cache_entry *e = &cache->entries[cache->hand_index];

		cache->hand_index = (cache->hand_index + 1) % cache->entry_count;
		if (e->key_size == 0)
			return e;
		if (!e->marked) {
			cache_drop(cache, e);
			return e;
		}
		e->marked = false;
	}
}

static bool entry_reserve(struct cache_entry *e, size_t size_bytes)
{
	uint8_t *bytes;

	/* A reused entry also gives up memory that is far too large for its new key. */
	if (e->capacity_bytes >= size_bytes && e->capacity_bytes <= 8 * size_bytes + 64)
		return true;
	bytes = mem_realloc(e->bytes, size_bytes);
	if (!bytes)
		return false;
	e->bytes = bytes;
	e->capacity_bytes = (uint32_t)size_bytes;
	return true;
}

/* value NULL: the key is known to be absent. */
static void cache_insert(struct kv_cache *cache, uint64_t hash, const void *key,
	size_t key_size, const void *value, size_t value_size)
{
	struct cache_entry *e;
	uint32_t *head = &cache->heads[hash & cache->head_mask];

	if (value_size > CACHE_VALUE_MAX || key_size > BATCH_KEY_MAX)
		return;
	e = cache_evict(cache);
	if (!entry_reserve(e, key_size + value_size))
		return;
	memcpy(e->bytes, key, key_size);
	if (value_size)
		memcpy(e->bytes + key_size, value, value_size);
	e->hash = hash;
	e->key_size = (uint16_t)key_size;
	e->value_size = (uint32_t)value_size;
	e->present = value != NULL;
	e->marked = false;
	e->next_index = *head;
	*head = (uint32_t)(e - cache->entries);
}

static void cache_refresh(struct kv_cache *cache, struct cache_entry *e,
	const struct batch_entry *entry)
{
	if (entry->type == BATCH_DEL) {
		e->present = false;
		e->value_size = 0;
		return;
	}
	if (entry->value_size > CACHE_VALUE_MAX ||
		!entry_reserve(e, e->key_size + entry->value_size)) {
		cache_drop(cache, e);
		return;
	}
	memcpy(e->bytes + e->key_size, entry->value, entry->value_size);
	e->value_size = entry->value_size;
	e->present = true;
}

static void cache_note_batch(struct kv_cache *cache, const void *bytes, size_t size_bytes,
	bool applied)
{
	struct batch_entry entry;
	size_t offset = 0;

	while (batch_next(bytes, size_bytes, &offset, &entry) > 0) {
		struct cache_entry *e;

		if (entry.type != BATCH_PUT && entry.type != BATCH_DEL)
			continue;
		e = cache_find(cache, hash64(entry.key, entry.key_size, CACHE_SEED),
			entry.key, entry.key_size);
		if (e && applied)
			cache_refresh(cache, e, &entry);
		else if (e)
			cache_drop(cache, e);
	}
}

static int kv_get_cached(struct kv *kv, const void *key, size_t key_size, struct buf *out)
{
	uint64_t hash = hash64(key, key_size, CACHE_SEED);
	struct cache_entry *e = cache_find(kv->cache, hash, key, key_size);
	size_t start = out->size_bytes;
	int rc;

	if (e) {
		e->marked = true;
		if (!e->present)
			return -ENOENT;
		buf_append(out, e->bytes + e->key_size, e->value_size);
		return buf_error(out);
	}
	rc = kv->ops->get(kv, key, key_size, out);
	if (rc == -ENOENT)
		cache_insert(kv->cache, hash, key, key_size, NULL, 0);
	else if (rc == 0)
		/* An empty value may sit in a buffer without memory: any pointer does. */
		cache_insert(kv->cache, hash, key, key_size,
			out->data ? out->data + start : key, out->size_bytes - start);
	return rc;
}

int kv_get(struct kv *kv, const void *key, size_t key_size, struct buf *out)
{
	assert(key_size >= 1 && key_size <= BATCH_KEY_MAX);
	if (buf_error(out))
		return buf_error(out);
	if (kv->cache)
		return kv_get_cached(kv, key, key_size, out);
	return kv->ops->get(kv, key, key_size, out);
}

int kv_apply(struct kv *kv, const struct batch *batch)
{
	if (batch_error(batch))
		return batch_error(batch);
	return kv_apply_bytes(kv, batch->bytes.data, batch->bytes.size_bytes);
}

int kv_apply_bytes(struct kv *kv, const void *bytes, size_t size_bytes)
{
	int rc = kv->ops->apply(kv, bytes, size_bytes);

	if (kv->cache)
		cache_note_batch(kv->cache, bytes, size_bytes, rc == 0);
	return rc;
}

int kv_iter_open(struct kv *kv, struct kv_iter **iter_out)
{
	return kv->ops->iter_open(kv, iter_out);
}

int kv_flush_begin(struct kv *kv)
{
	return kv->ops->flush_begin(kv);
}

int kv_flush_done(struct kv *kv)
{
	return kv->ops->flush_done(kv);
}

uint64_t kv_size_bytes(struct kv *kv)
{
	return kv->ops->size_bytes(kv);
}

void kv_close(struct kv *kv)
{
	if (!kv)
		return;
	cache_free(kv->cache);
	kv->cache = NULL;
	kv->ops->close(kv);
}

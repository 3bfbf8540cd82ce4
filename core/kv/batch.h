/*
 * A batch: the body of one record. It lists what the record changes, in order:
 * puts and deletes of index keys, and blocks of the log that nobody names any more. The
 * encoded bytes are what the log stores and what replay applies again.
 *
 * Encoding, one entry after the other, all integers little-endian, no padding:
 *
 *   u8 type | u8 zero | le16 key_size | le32 value_size | key | value
 *
 *   type 1 PUT    key, value
 *   type 2 DEL    key, no value
 *   type 3 FREE   key = be64 block id, value = le32 block count (see core/store/store.h)
 *   type 4 NOTE   nothing to the index: the other entries said again for whoever reads the
 *                 record, in terms that hold elsewhere too (meta/schema.h)
 *
 * Bounds: key 1..1024 bytes, value at most 1 MiB, a batch at most BATCH_SIZE_MAX.
 * Memory errors are sticky, as in core/base/buf.h, and so is -E2BIG: a batch would have
 * grown over its bound. Not locked.
 */
#ifndef WFS_KV_BATCH_H
#define WFS_KV_BATCH_H

#include <stdbool.h>

#include "core/base/buf.h"

#define BATCH_KEY_MAX   1024u
#define BATCH_VALUE_MAX (1u << 20)
#define BATCH_SIZE_MAX  (2u << 20)

enum batch_type { BATCH_PUT = 1, BATCH_DEL = 2, BATCH_FREE = 3, BATCH_NOTE = 4 };

struct batch {
	struct buf bytes;
	uint32_t count; /* entries */
};

struct batch_entry {
	enum batch_type type;
	const uint8_t *key;
	uint32_t key_size;
	const uint8_t *value;
	uint32_t value_size;
};

void batch_init(struct batch *b);
void batch_release(struct batch *b);
void batch_reset(struct batch *b);
void batch_put(struct batch *b, const void *key, size_t key_size, const void *value,
	size_t value_size);
void batch_del(struct batch *b, const void *key, size_t key_size);
void batch_free_blocks(struct batch *b, uint64_t id, uint32_t count);
void batch_note(struct batch *b, const void *key, size_t key_size, const void *value,
	size_t value_size);
/* Add all entries of valid encoded bytes (an intent that is now committed). */
void batch_append(struct batch *b, const void *bytes, size_t size_bytes);

static inline int batch_error(const struct batch *b)
{
	return buf_error(&b->bytes);
}

/*
 * Walk encoded bytes: *offset starts at 0. Returns 1 and the entry, 0 at the end, or
 * -EUCLEAN when the bytes are not a batch. Pure; fuzzed.
 */
int batch_next(const void *bytes, size_t size_bytes, size_t *offset,
	struct batch_entry *entry_out);
/* 0 when the whole of the bytes is a well-formed batch, else -EUCLEAN. */
int batch_validate(const void *bytes, size_t size_bytes);

#endif

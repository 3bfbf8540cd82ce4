/*
 * The encoder and the one decoder of batches. batch.h is the format's specification.
 *
 * batch_next is the edge: it believes nothing, so everything behind it (both maps, the
 * cache, replay) may walk entries without checking again.
 */
#include "core/kv/batch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/le.h"

struct batch_header {
	uint8_t type;
	uint8_t zero;
	le16 key_size;
	le32 value_size;
};
_Static_assert(sizeof(struct batch_header) == 8, "format");

#define FREE_KEY_SIZE   8u
#define FREE_VALUE_SIZE 4u

void batch_init(struct batch *b)
{
	buf_init(&b->bytes);
	b->count = 0;
}

void batch_release(struct batch *b)
{
	buf_release(&b->bytes);
	b->count = 0;
}

void batch_reset(struct batch *b)
{
	buf_reset(&b->bytes);
	b->count = 0;
}

static bool batch_has_room(struct batch *b, size_t size_bytes)
{
	if (buf_error(&b->bytes))
		return false;
	if (b->bytes.size_bytes + size_bytes <= BATCH_SIZE_MAX)
		return true;
	b->bytes.error = -E2BIG;
	return false;
}

static void batch_add(struct batch *b, enum batch_type type, const void *key,
	size_t key_size, const void *value, size_t value_size)
{
	struct batch_header header = {
		.type = (uint8_t)type,
		.key_size = le16_put((uint16_t)key_size),
		.value_size = le32_put((uint32_t)value_size),
	};
	uint8_t *p;

	assert(key_size >= 1 && key_size <= BATCH_KEY_MAX);
	assert(value_size <= BATCH_VALUE_MAX);
	if (!batch_has_room(b, sizeof(header) + key_size + value_size))
		return;
	p = buf_extend(&b->bytes, sizeof(header) + key_size + value_size);
	if (!p)
		return;
	memcpy(p, &header, sizeof(header));
	memcpy(p + sizeof(header), key, key_size);
	if (value_size)
		memcpy(p + sizeof(header) + key_size, value, value_size);
	b->count++;
}

void batch_put(struct batch *b, const void *key, size_t key_size, const void *value,
	size_t value_size)
{
	batch_add(b, BATCH_PUT, key, key_size, value, value_size);
}

void batch_del(struct batch *b, const void *key, size_t key_size)
{
	batch_add(b, BATCH_DEL, key, key_size, NULL, 0);
}

void batch_free_blocks(struct batch *b, uint64_t id, uint32_t count)
{
	uint8_t key[FREE_KEY_SIZE];
	le32 value = le32_put(count);

	be64_write(key, id);
	batch_add(b, BATCH_FREE, key, sizeof(key), &value, sizeof(value));
}

void batch_note(struct batch *b, const void *key, size_t key_size, const void *value,
	size_t value_size)
{
	batch_add(b, BATCH_NOTE, key, key_size, value, value_size);
}

void batch_append(struct batch *b, const void *bytes, size_t size_bytes)
{
	struct batch_entry entry;
	size_t offset = 0;
	uint32_t count = 0;
	int rc;

	while ((rc = batch_next(bytes, size_bytes, &offset, &entry)) > 0)
		count++;
	assert(rc == 0);
	if (!batch_has_room(b, size_bytes))
		return;
	buf_append(&b->bytes, bytes, size_bytes);
	if (!buf_error(&b->bytes))
		b->count += count;
}

static bool entry_in_bounds(const struct batch_header *header)
{
	uint32_t key_size = le16_get(header->key_size);
	uint32_t value_size = le32_get(header->value_size);

	if (header->zero || key_size < 1 || key_size > BATCH_KEY_MAX)
		return false;
	switch (header->type) {
	case BATCH_PUT:
	case BATCH_NOTE:
		return value_size <= BATCH_VALUE_MAX;
	case BATCH_DEL:
		return value_size == 0;
	case BATCH_FREE:
		return key_size == FREE_KEY_SIZE && value_size == FREE_VALUE_SIZE;
	default:
		return false;
	}
}

int batch_next(const void *bytes, size_t size_bytes, size_t *offset,
	struct batch_entry *entry_out)
{
	struct batch_header header;
	const uint8_t *p;
	size_t left_bytes, body_bytes;

	assert(*offset <= size_bytes);
	left_bytes = size_bytes - *offset;
	if (left_bytes == 0)
		return 0;
	if (left_bytes < sizeof(header))
		return -EUCLEAN;
	p = (const uint8_t *)bytes + *offset;
	memcpy(&header, p, sizeof(header));
	if (!entry_in_bounds(&header))
		return -EUCLEAN;
	body_bytes = (size_t)le16_get(header.key_size) + le32_get(header.value_size);
	if (left_bytes - sizeof(header) < body_bytes)
		return -EUCLEAN;
	entry_out->type = (enum batch_type)header.type;
	entry_out->key = p + sizeof(header);
	entry_out->key_size = le16_get(header.key_size);
	entry_out->value = entry_out->key + entry_out->key_size;
	entry_out->value_size = le32_get(header.value_size);
	*offset += sizeof(header) + body_bytes;
	return 1;
}

int batch_validate(const void *bytes, size_t size_bytes)
{
	struct batch_entry entry;
	size_t offset = 0;
	int rc;

	if (size_bytes > BATCH_SIZE_MAX)
		return -EUCLEAN;
	while ((rc = batch_next(bytes, size_bytes, &offset, &entry)) > 0)
		continue;
	return rc;
}

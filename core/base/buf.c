/* A growable byte buffer. */
#include "core/base/buf.h"

#include <errno.h>
#include <string.h>

#include "core/base/mem.h"

void buf_init(struct buf *b)
{
	*b = (struct buf){0};
}

void buf_release(struct buf *b)
{
	mem_free(b->data);
	buf_init(b);
}

void buf_reset(struct buf *b)
{
	b->size_bytes = 0;
	b->error = 0;
}

void *buf_extend(struct buf *b, size_t size_bytes)
{
	void *at;

	if (b->error)
		return NULL;
	if (b->capacity_bytes - b->size_bytes < size_bytes) {
		size_t capacity = b->capacity_bytes ? b->capacity_bytes : 256;
		uint8_t *data;

		while (capacity - b->size_bytes < size_bytes)
			capacity *= 2;
		data = mem_realloc(b->data, capacity);
		if (!data) {
			b->error = -ENOMEM;
			return NULL;
		}
		b->data = data;
		b->capacity_bytes = capacity;
	}
	at = b->data + b->size_bytes;
	b->size_bytes += size_bytes;
	return at;
}

void buf_append(struct buf *b, const void *data, size_t size_bytes)
{
	void *at = size_bytes ? buf_extend(b, size_bytes) : NULL;

	if (at)
		memcpy(at, data, size_bytes);
}

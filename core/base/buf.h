/*
 * A growable byte buffer. Allocation failure is sticky: buf_append on a failed buffer
 * does nothing, and buf_error() says -ENOMEM once at the end. Not locked.
 */
#ifndef WFS_BASE_BUF_H
#define WFS_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t size_bytes;
	size_t capacity_bytes;
	int error; /* 0 or -ENOMEM */
};

void buf_init(struct buf *b);
void buf_release(struct buf *b);
void buf_reset(struct buf *b); /* empties, keeps memory, forgets the error */
void buf_append(struct buf *b, const void *data, size_t size_bytes);
/* Room for size_bytes more, counted in at once; NULL when memory is short. */
void *buf_extend(struct buf *b, size_t size_bytes);

static inline int buf_error(const struct buf *b)
{
	return b->error;
}

#endif

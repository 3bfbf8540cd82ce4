/*
 * What the operations on file data share: the chunk and bytes they are about, the edges
 * they read first, and the chunk they own meanwhile. core/shard/data.c draws it.
 */
#ifndef WFS_SHARD_DATA_H
#define WFS_SHARD_DATA_H

#include "core/shard/shard_impl.h"

struct edge {
	struct store_read read;
	uint32_t crc;
	uint8_t *data; /* one block; NULL: zeros */
};

struct io_map {
	struct extent extents[2 * WFS_CHUNK_BLOCKS + 1];
	struct store_read reads[WFS_CHUNK_BLOCKS];
	uint32_t crcs[WFS_CHUNK_BLOCKS];
	uint32_t count;
};

struct io {
	struct exec *x;
	ino_id ino;
	uint64_t chunk;
	uint32_t begin; /* bytes within the chunk */
	uint32_t end;
	uint32_t generation;
	uint32_t epoch; /* of the bucket, when what is loaded was looked up */
	bool owner;  /* in s->chunks */
	bool append;
	bool hole;   /* READ: no block of it is stored */
	int error;
	unsigned pending;
	unsigned tries;
	bool mended; /* it was tried */
	uint64_t size_bytes; /* of the file, as seen at the start */
	void (*ready)(struct exec *x);
	struct edge head;
	struct edge tail;
	/* READ */
	struct io_map *map;
	uint8_t *buffer;
	/* SETATTR */
	struct meta_set set;
	struct wire_walk_reply *walk;
	struct exec *partner; /* of a write: the record of the inode's bucket */
};

static inline uint32_t block_of(uint32_t byte)
{
	return byte / WFS_BLOCK_SIZE;
}

/* x->io, fresh or (when the exec starts over) emptied. */
int io_new(struct exec *x);
/* An error that may mean "wait": park, or answer. */
void io_end(struct exec *x, int rc);
/* Whether another exec owns the chunk: then wait in s->chunk_waiters. */
bool chunk_busy(const struct exec *x);
void chunk_release(struct exec *x);
/* Own the chunk, read the blocks at io->begin and io->end as asked, then ready(). */
void edges_load(struct exec *x, bool head, bool tail, void (*ready)(struct exec *));

#endif

/*
 * File data: a range is cut at chunk borders, and each piece goes to the bucket of its
 * chunk, up to CLIENT_WINDOW pieces at a time, first to last.
 *
 * The size of a file is its inode's business, and chunk 0 lives with the inode, so a piece
 * of chunk 0 settles both; others may have met the inode's owner by chance and say so
 * (WIRE_IO_INODE_DONE). Where that cannot be hoped for, a message for the inode, the side
 * call, goes along with the pieces: a getattr for a read, OP_EXTEND with the end of the
 * whole range for a write. What is not settled at the end is asked for then.
 *
 * A read below the size that the file is known to have needs no side call, so that one hot
 * file's readers do not all ask one node. Its pieces carry the generation of which that
 * size is known: there the file has only grown since, and a truncate has marked every
 * chunk that it cut before it returned to its caller; such a chunk answers -ESTALE. Only
 * where a piece is all hole the inode is asked afterwards, for the file may be gone; and
 * always beyond WIRE_CHUNKS_NAMED, where holes are not marked.
 *
 * A read returns zeros for holes, and never more than the smallest size that any of its
 * answers knew of: then its bytes were all there at one moment.
 *
 * All carry the generation of the file; after a truncate an old one is refused with
 * -ESTALE, and the whole is done again under the new. A read that is overtaken again and
 * again in the end takes what comes, with the size of that time. A write that fails in the
 * middle returns what was written before the first failure; pieces after it may have been
 * written all the same, and the size may cover them.
 *
 * Nobody holds one slot and waits for another: only the first slot of a range is waited
 * for, the window grows as far as slots are free.
 */
#include <errno.h>

#include "core/base/hash.h"
#include "shim/client/data.h"
#include "shim/client/internal.h"

#define IO_SIZE_MAX 0x7ffff000u
#define RETRIES     16

struct piece {
	int slot;
	struct call call;
	uint64_t offset;
	uint32_t length;
};

struct io {
	struct client *c;
	struct client_file *f;
	bool is_write;
	uint8_t *in;        /* reads */
	const uint8_t *out; /* writes */
	uint64_t offset;
	size_t size;
	uint32_t generation;
	/* Pieces under way, oldest at head. */
	struct piece window[CLIENT_WINDOW];
	unsigned head;
	unsigned count;
	uint64_t next;      /* offset of the next piece */
	struct piece side;
	bool side_busy;
	/* What is known. */
	int error;          /* of the first piece that failed, or of the side call */
	uint64_t good_end;  /* all before it succeeded */
	uint64_t known;     /* reads: the file was at least so long in this generation */
	bool hole;          /* reads: of some piece nothing is stored */
	bool size_known;
	uint64_t file_size; /* reads */
	uint64_t extended;  /* writes: the inode knows of this end */
};

/* --- pieces ------------------------------------------------------------------------- */

static int piece_submit(struct io *io, struct piece *p, uint16_t op, const void *body,
	uint32_t body_size)
{
	p->call.op = op;
	p->call.body_size = body_size;
	memcpy(slot_body(io->c, p->slot), body, body_size);
	slot_submit(io->c, p->slot, &p->call);
	return 0;
}

/* -EAGAIN: no slot now, though pieces are under way. */
static int piece_start(struct io *io)
{
	struct piece *p = &io->window[(io->head + io->count) % CLIENT_WINDOW];
	uint64_t end = io->offset + io->size;
	uint64_t chunk = io->next / WFS_CHUNK_SIZE;
	uint64_t chunk_end = (chunk + 1) * WFS_CHUNK_SIZE;
	struct wire_io body;
	int slot = slot_take(io->c, io->count == 0 && !io->side_busy);

	if (slot < 0)
		return slot == SLOT_NONE && (io->count || io->side_busy) ? -EAGAIN : slot;
	*p = (struct piece){.slot = slot, .offset = io->next};
	p->length = (uint32_t)((end < chunk_end ? end : chunk_end) - io->next);
	p->call.target = chunk_bucket(io->f->ino, chunk, io->c->bucket_count);
	body = (struct wire_io){
		.ino = le64_put(io->f->ino),
		.offset = le64_put(p->offset),
		.length = le32_put(p->length),
		.generation = le32_put(io->generation),
	};
	if (io->is_write) {
		p->call.data_size = p->length;
		memcpy(slot_data(io->c, slot), io->out + (io->next - io->offset), p->length);
	} else {
		p->call.data_max = p->length;
	}
	io->next += p->length;
	io->count++;
	return piece_submit(io, p, io->is_write ? OP_WRITE : OP_READ, &body, sizeof(body));
}

static void size_learn(struct io *io, uint64_t size)
{
	if (!io->size_known || size < io->file_size)
		io->file_size = size;
	io->size_known = true;
}

static void inode_done(struct io *io, const struct wire_io_reply *reply, uint64_t end)
{
	if (!(le32_get(reply->flags) & WIRE_IO_INODE_DONE))
		return;
	client_file_learn(io->f, le32_get(reply->generation), le64_get(reply->size));
	if (!io->is_write)
		size_learn(io, le64_get(reply->size));
	else if (end > io->extended)
		io->extended = end;
}

/* The bytes of a piece that came; the rest of it is a hole, or past the end: what the
 * caller's buffer has there stays, as far as we know the end. */
static void piece_take(struct io *io, const struct piece *p, uint32_t got)
{
	uint8_t *to = io->in + (p->offset - io->offset);
	uint32_t length = p->length;

	memcpy(to, slot_data(io->c, p->slot), got);
	if (io->size_known && p->offset + length > io->file_size)
		length = io->file_size > p->offset ? (uint32_t)(io->file_size - p->offset)
						   : 0;
	if (got < length)
		memset(to + got, 0, length - got);
}

/* Wait for the oldest piece. */
static void piece_finish(struct io *io)
{
	struct piece *p = &io->window[io->head];
	struct wire_io_reply reply = {0};
	uint32_t length = 0;
	bool lost;
	int rc = slot_wait(io->c, p->slot, &p->call, &lost);

	io->head = (io->head + 1) % CLIENT_WINDOW;
	io->count--;
	if (!rc) {
		memcpy(&reply, io->c->scratch[p->slot].reply, sizeof(reply));
		length = io->is_write ? le32_get(reply.length) : p->call.reply_data_size;
		if (length > p->length)
			rc = -EPROTO;
	}
	if (!rc && io->error == 0) {
		inode_done(io, &reply, p->offset + (io->is_write ? length : p->length));
		if (!io->is_write) {
			piece_take(io, p, length);
			length = p->length;
			if (le32_get(reply.flags) & WIRE_IO_HOLE)
				io->hole = true;
		}
		io->good_end = p->offset + length;
		if (length < p->length)
			rc = -ENOSPC;
	}
	if (rc && io->error == 0)
		io->error = rc;
	if (!lost)
		slot_release(io->c, p->slot);
}

/* --- the side call ------------------------------------------------------------------ */

static int side_start(struct io *io)
{
	struct piece *p = &io->side;
	uint64_t end = io->offset + io->size;
	int slot = slot_take(io->c, true);

	if (slot < 0)
		return slot;
	*p = (struct piece){.slot = slot};
	p->call.target = ino_bucket(io->f->ino);
	io->side_busy = true;
	if (io->is_write) {
		struct wire_io body = {
			.ino = le64_put(io->f->ino),
			.offset = le64_put(end),
			.generation = le32_put(io->generation),
		};

		return piece_submit(io, p, OP_EXTEND, &body, sizeof(body));
	} else {
		struct wire_walk body = {
			.path = {.start = le64_put(io->f->ino), .mode = WIRE_NOFOLLOW},
		};

		return piece_submit(io, p, OP_WALK, &body, sizeof(body));
	}
}

static int side_attr(struct io *io)
{
	struct wire_walk_reply reply;

	memcpy(&reply, io->c->scratch[io->side.slot].reply, sizeof(reply));
	if (reply.end != WIRE_DONE || !(reply.flags & WIRE_WALK_HAS_ATTR))
		return -EPROTO;
	client_file_learn(
		io->f, le32_get(reply.attr.generation), le64_get(reply.attr.size));
	size_learn(io, le64_get(reply.attr.size));
	return 0;
}

static void side_finish(struct io *io)
{
	struct piece *p = &io->side;
	bool lost;
	int rc = slot_wait(io->c, p->slot, &p->call, &lost);

	io->side_busy = false;
	if (!rc && io->is_write) {
		struct wire_io_reply reply;

		memcpy(&reply, io->c->scratch[p->slot].reply, sizeof(reply));
		inode_done(io, &reply, io->offset + io->size);
		io->extended = io->offset + io->size;
	} else if (!rc) {
		rc = side_attr(io);
	} else if (rc == -EINPROGRESS) {
		/* A long cut is under way: refresh waits for it. */
		rc = -ESTALE;
	}
	/* A write whose end the inode does not know of has not happened. */
	if (rc && (io->error == 0 || rc == -ESTALE))
		io->error = rc;
	if (rc && io->is_write)
		io->good_end = io->offset;
	if (!lost)
		slot_release(io->c, p->slot);
}

static bool same_owner(const struct client *c, uint16_t a, uint16_t b)
{
	return a < c->owner_count && b < c->owner_count && c->owners[a] == c->owners[b];
}

/* Reads: whether the pieces themselves tell if the file is no longer as long as known. */
static bool size_proved(const struct io *io)
{
	uint64_t end = io->offset + io->size;

	return !io->is_write && end <= io->known && !io->hole &&
	       end <= WIRE_CHUNKS_NAMED(io->c->bucket_count) * WFS_CHUNK_SIZE;
}

/* Whether the inode has to be asked, and not by one of the pieces. */
static bool side_wanted(const struct io *io, enum data_mode mode)
{
	uint64_t end = io->offset + io->size;

	if (mode == DATA_EXTENDED || io->c->shard_count == 1 || size_proved(io))
		return false;
	/* One chunk, and its owner has the inode too: it settles both. */
	if (io->offset / WFS_CHUNK_SIZE == (end - 1) / WFS_CHUNK_SIZE &&
		same_owner(io->c, ino_bucket(io->f->ino),
			chunk_bucket(io->f->ino, io->offset / WFS_CHUNK_SIZE,
				io->c->bucket_count)))
		return false;
	return io->is_write ? end > WFS_CHUNK_SIZE : io->offset >= WFS_CHUNK_SIZE;
}

/* --- the whole ---------------------------------------------------------------------- */

static void io_run(struct io *io, enum data_mode mode)
{
	uint64_t end = io->offset + io->size;
	int rc = 0;

	io->next = io->offset;
	io->good_end = io->offset;
	if (side_wanted(io, mode))
		io->error = side_start(io);
	while (io->error == 0 && io->next < end) {
		if (io->size_known && io->next >= io->file_size && io->next > io->offset)
			break;
		rc = io->count < CLIENT_WINDOW ? piece_start(io) : -EAGAIN;
		if (rc == 0)
			continue;
		if (rc != -EAGAIN)
			io->error = rc;
		else if (io->count)
			piece_finish(io);
		else
			side_finish(io);
	}
	while (io->count)
		piece_finish(io);
	if (io->side_busy)
		side_finish(io);
	if (io->error == -ENOTCONN || io->error == -ESTALE || mode == DATA_EXTENDED)
		return;
	/* A write that broke off is extended as far as it came. */
	if (io->is_write) {
		if (io->extended >= io->good_end)
			return;
		io->size = (size_t)(io->good_end - io->offset);
	} else {
		if (!io->size_known && size_proved(io))
			size_learn(io, io->known);
		if (io->size_known || io->error)
			return;
	}
	rc = side_start(io);
	if (rc)
		io->error = rc;
	else
		side_finish(io);
}

/* New generation, if the file is still there. */
static int refresh(struct io *io)
{
	struct client_attr attr;
	int rc = client_getattr(io->c, io->f->ino, &attr);

	if (!rc)
		client_file_learn(io->f, attr.generation, attr.size_bytes);
	return rc;
}

ssize_t data_write(struct client *c, struct client_file *f, const void *data, size_t size,
	uint64_t offset, enum data_mode mode)
{
	int rc = 0;

	for (int i = 0; i < RETRIES; i++) {
		struct io io = {.c = c, .f = f, .is_write = true, .out = data,
			.offset = offset, .size = size,
			.generation = atomic_load(&f->generation)};

		io_run(&io, mode);
		if (io.error != -ESTALE)
			return io.good_end > offset ? (ssize_t)(io.good_end - offset) : io.error;
		rc = mode == DATA_EXTENDED ? -ESTALE : refresh(&io);
		if (rc)
			return rc;
	}
	return -EIO;
}

ssize_t client_write(struct client *c, struct client_file *f, const void *data,
	size_t size, uint64_t offset)
{
	if (size > IO_SIZE_MAX)
		size = IO_SIZE_MAX;
	if (size == 0)
		return client_check(c);
	if (offset >= WFS_FILE_SIZE_MAX)
		return -EFBIG;
	if (size > WFS_FILE_SIZE_MAX - offset)
		size = (size_t)(WFS_FILE_SIZE_MAX - offset);
	return data_write(c, f, data, size, offset, DATA_PLAIN);
}

ssize_t client_read(struct client *c, struct client_file *f, void *data, size_t size,
	uint64_t offset)
{
	int rc = 0;

	if (size > IO_SIZE_MAX)
		size = IO_SIZE_MAX;
	if (size == 0 || offset >= WFS_FILE_SIZE_MAX)
		return client_check(c);
	if (size > WFS_FILE_SIZE_MAX - offset)
		size = (size_t)(WFS_FILE_SIZE_MAX - offset);
	for (int i = 0; i < RETRIES; i++) {
		struct io io = {
			.c = c, .f = f, .in = data, .offset = offset, .size = size};
		uint64_t end;

		io.known = file_known(f, &io.generation);
		if (i >= RETRIES / 2) {
			io.known = 0;
			io.generation = UINT32_MAX;
		}

		io_run(&io, DATA_PLAIN);
		if (io.error == -ESTALE) {
			rc = refresh(&io);
			if (rc)
				return rc;
			continue;
		}
		if (!io.size_known)
			return io.error ? io.error : -EPROTO;
		end = io.good_end < io.file_size ? io.good_end : io.file_size;
		if (io.error && end <= offset && io.file_size > offset)
			return io.error;
		return end > offset ? (ssize_t)(end - offset) : 0;
	}
	return -EIO;
}

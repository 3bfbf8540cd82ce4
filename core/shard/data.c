/*
 * File data: READ and WRITE. (Cutting files short is core/shard/cut.c.)
 *
 * Data is stored in whole 4 KiB blocks. A change that begins or ends inside a block
 * reads that block first (an "edge", at most two of them), and from then until its
 * record is committed the exec owns its chunk: others that would change it wait.
 *
 *   *_start -> chunk busy? wait
 *           -> edge_load for each edge -> io_ready -> commit function -> record
 *
 * A read of a chunk whose inode is elsewhere says what the chunk holds under the caller's
 * generation, and how long the file is the caller must know (net/wire.h, struct wire_io).
 *
 * A read maps the blocks to extents, reads each, lets the store verify every block, and
 * copies to the caller last: memory shared with a program is never trusted to stay as
 * it is.
 */
#include "core/shard/data.h"
#include "core/shard/member.h"
#include "core/shard/reply.h"

#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/hash.h"
#include "core/base/mem.h"

static uint32_t block_count_of(const struct io *io)
{
	return block_of(io->end + WFS_BLOCK_SIZE - 1) - block_of(io->begin);
}

static bool inode_here(const struct exec *x)
{
	return shard_owns(x->s, ino_bucket(x->io->ino));
}

/* --- the chunk an exec owns while it reads edges --- */

bool chunk_busy(const struct exec *x)
{
	const struct list *head = &x->s->chunks;

	for (const struct list *it = head->next; it != head; it = it->next) {
		const struct io *other = container_of(it, struct exec, link)->io;

		if (other->ino == x->io->ino && other->chunk == x->io->chunk)
			return true;
	}
	return false;
}

static void chunk_own(struct exec *x)
{
	x->io->owner = true;
	list_remove(&x->link);
	list_push_back(&x->s->chunks, &x->link);
}

void chunk_release(struct exec *x)
{
	if (!x->io->owner)
		return;
	x->io->owner = false;
	list_remove(&x->link);
	x->s->rerun_chunks = true;
}

static void io_reset(struct io *io)
{
	mem_free(io->head.data);
	mem_free(io->tail.data);
	io->head.data = NULL;
	io->tail.data = NULL;
	io->error = 0;
}

void io_free(struct io *io)
{
	struct shard *s = io->x->s;

	chunk_release(io->x);
	io_reset(io);
	if (io->buffer) {
		if (s->store)
			store_buffer_put(s->store, io->buffer);
		s->rerun_buffers = true;
	}
	mem_free(io->map);
	mem_free(io);
}

int io_new(struct exec *x)
{
	if (x->io) {
		io_reset(x->io);
		return 0;
	}
	x->io = mem_zalloc(sizeof(*x->io));
	if (!x->io)
		return -ENOMEM;
	x->io->x = x;
	return 0;
}

/* Errors of a data operation that may mean "wait": park, or answer. */
void io_end(struct exec *x, int rc)
{
	if (rc == -EINPROGRESS) {
		chunk_release(x);
		exec_park(x);
		return;
	}
	exec_finish(x, rc);
}

/* --- edges --- */

static void io_step(struct exec *x)
{
	struct io *io = x->io;

	if (--io->pending > 0)
		return;
	if (x->s->buckets[x->req->bucket].epoch != io->epoch) {
		exec_finish(x, -EREMCHG); /* it was away, and the edges are of before */
		return;
	}
	if (!io->error) {
		io->ready(x);
		return;
	}
	if (io->error == -EIO) {
		uint32_t first = block_of(io->begin), last = block_of(io->end);

		/* Either edge; what lies between is written anew anyhow. */
		if (mend_park(x, first, last < WFS_CHUNK_BLOCKS ? last - first + 1
								  : last - first))
			return;
	}
	exec_finish(x, io->error);
}

static void edge_done(struct store_read *r, int status)
{
	struct exec *x = r->ctx;

	if (status < 0)
		x->io->error = status == -ENOMEM ? -ENOMEM : -EIO;
	io_step(x);
}

/* Bring in block `block` of the chunk, unless it is a hole. */
static int edge_load(struct exec *x, struct edge *e, uint32_t block)
{
	struct extent extents[3];
	uint32_t count;
	int rc = meta_extent_map(x->s->meta, x->req->bucket, x->io->ino, x->io->chunk,
		block, 1, extents, &count, &e->crc);

	if (rc < 0 || count == 0 || extents[0].id == 0)
		return rc;
	e->data = mem_aligned(WFS_BLOCK_SIZE, WFS_BLOCK_SIZE);
	if (!e->data)
		return -ENOMEM;
	e->read = (struct store_read){
		.id = extents[0].id,
		.block_count = 1,
		.crcs = &e->crc,
		.data = e->data,
		.done = edge_done,
		.ctx = x,
	};
	x->io->pending++;
	store_read(x->s->store, &e->read);
	return 0;
}

/* Load head and tail edges as asked, then go on with ready(). */
void edges_load(struct exec *x, bool head, bool tail, void (*ready)(struct exec *))
{
	struct io *io = x->io;
	int rc = 0;

	io->ready = ready;
	io->pending = 1;
	io->epoch = x->s->buckets[x->req->bucket].epoch;
	chunk_own(x);
	if (head)
		rc = edge_load(x, &io->head, block_of(io->begin));
	if (rc == 0 && tail)
		rc = edge_load(x, &io->tail, block_of(io->end));
	if (rc < 0)
		io->error = rc;
	io_step(x);
}

/* --- READ --- */

static void read_reply(struct exec *x)
{
	struct io *io = x->io;
	struct wire_io_reply *reply = x->req->reply;
	uint32_t length = io->end - io->begin;
	uint32_t hole = io->hole ? WIRE_IO_HOLE : 0;

	if (length > 0)
		memcpy(x->req->reply_data, io->buffer + io->begin % WFS_BLOCK_SIZE, length);
	*reply = (struct wire_io_reply){
		.size = le64_put(io->size_bytes),
		.length = le32_put(length),
		.flags = le32_put(inode_here(x) ? WIRE_IO_INODE_DONE : hole),
		.generation = le32_put(io->generation),
	};
	x->req->reply_size = sizeof(*reply);
	x->req->reply_data_size = length;
	x->s->read_bytes += length;
	exec_finish(x, 0);
}

static void read_ready(struct exec *x)
{
	read_reply(x);
}

static void read_part_done(struct store_read *r, int status)
{
	struct exec *x = r->ctx;
	struct io *io = x->io;

	if (status < 0)
		io->error = status;
	if (--io->pending > 0)
		return;
	if (!io->error) {
		io->ready(x);
	} else if ((io->error == -ESTALE || io->error == -EUCLEAN) && io->tries < 3) {
		/* Overwritten or cut, and reused while we read, perhaps: look again. */
		io->tries++;
		exec_start(x);
	} else if (io->error == -ENOMEM || !mend_park(x, block_of(io->begin),
						   block_count_of(io))) {
		exec_finish(x, io->error == -ENOMEM ? -ENOMEM : -EIO);
	}
}

static void read_map(struct exec *x)
{
	struct io *io = x->io;
	uint32_t first = block_of(io->begin), count = block_count_of(io);
	struct io_map *map = io->map;
	/* The guard keeps the last completion for us. */
	struct store_read guard = {.ctx = x};
	int rc = meta_extent_map(x->s->meta, x->req->bucket, io->ino, io->chunk, first,
		count, map->extents, &map->count, map->crcs);

	if (rc < 0) {
		io_end(x, rc);
		return;
	}
	io->pending = 1;
	io->hole = true;
	for (uint32_t i = 0, n = 0; i < map->count; i++) {
		const struct extent *e = &map->extents[i];
		uint8_t *at = io->buffer + (size_t)(e->block - first) * WFS_BLOCK_SIZE;

		if (e->id == 0) {
			memset(at, 0, (size_t)e->block_count * WFS_BLOCK_SIZE);
			continue;
		}
		io->hole = false;
		map->reads[n] = (struct store_read){
			.id = e->id,
			.block_count = e->block_count,
			.crcs = map->crcs + e->crc_index,
			.data = at,
			.done = read_part_done,
			.ctx = x,
		};
		io->pending++;
		store_read(x->s->store, &map->reads[n++]);
	}
	read_part_done(&guard, 0);
}

/* The common fields of a READ or WRITE. */
static int io_parse(struct exec *x)
{
	const struct wire_io *wi = x->req->body;
	uint64_t offset = le64_get(wi->offset);
	int rc = io_new(x);

	if (rc < 0)
		return rc;
	x->io->ino = le64_get(wi->ino);
	x->io->chunk = offset / WFS_CHUNK_SIZE;
	x->io->begin = (uint32_t)(offset % WFS_CHUNK_SIZE);
	x->io->end = x->io->begin + le32_get(wi->length);
	x->io->generation = le32_get(wi->generation);
	x->io->append = le32_get(wi->flags) & WIRE_IO_APPEND;
	if (chunk_bucket(x->io->ino, x->io->chunk, x->s->map->bucket_count) !=
		x->req->bucket)
		return -EINVAL;
	return 0;
}

static int read_clamp(struct exec *x)
{
	struct io *io = x->io;
	uint64_t from = io->chunk * WFS_CHUNK_SIZE + io->begin;
	struct attr attr;
	int rc;

	if (io->end - io->begin > x->req->reply_data_max)
		return -EINVAL;
	if (!inode_here(x))
		return meta_chunk_check(x->s->meta, x->req->bucket, io->ino, io->chunk,
			io->generation);
	rc = meta_getattr(x->s->meta, io->ino, &attr);
	if (rc < 0)
		return rc;
	if (!S_ISREG(attr.mode))
		return S_ISDIR(attr.mode) ? -EISDIR : -EINVAL;
	io->size_bytes = attr.size_bytes;
	io->generation = attr.generation;
	if (from >= attr.size_bytes)
		io->end = io->begin;
	else if (attr.size_bytes - from < io->end - io->begin)
		io->end = io->begin + (uint32_t)(attr.size_bytes - from);
	return 0;
}

static void read_go(struct exec *x)
{
	x->io->ready = read_ready;
	if (x->io->begin == x->io->end) {
		read_reply(x);
		return;
	}
	if (!x->io->buffer)
		x->io->buffer = store_buffer_get(x->s->store);
	if (!x->io->buffer) {
		exec_wait(x, &x->s->buffers);
		return;
	}
	if (!x->io->map)
		x->io->map = mem_alloc(sizeof(*x->io->map));
	if (!x->io->map) {
		exec_finish(x, -ENOMEM);
		return;
	}
	read_map(x);
}

void read_start(struct exec *x)
{
	int rc = io_parse(x);

	if (rc == 0)
		rc = read_clamp(x);
	if (rc < 0)
		io_end(x, rc);
	else
		read_go(x);
}

/* For another member: what is stored, whatever the inode says. */
void blocks_start(struct exec *x)
{
	const struct wire_io *wi = x->req->body;
	uint64_t ino = le64_get(wi->ino), offset = le64_get(wi->offset);
	uint32_t buckets = x->s->map->bucket_count;
	int rc = ino_bucket(ino) < buckets ? 0 : -EINVAL;

	if (rc == 0) {
		x->req->bucket = chunk_bucket(ino, offset / WFS_CHUNK_SIZE, buckets);
		rc = io_parse(x);
	}
	if (rc == 0 && (x->io->begin % WFS_BLOCK_SIZE || x->io->end % WFS_BLOCK_SIZE ||
			       x->io->end - x->io->begin > x->req->reply_data_max))
		rc = -EINVAL;
	if (rc < 0)
		exec_finish(x, rc);
	else
		read_go(x);
}

/* --- WRITE --- */

/* The inode's side, as far as it is ours: is the write of this generation, and where. */
static int write_check(struct exec *x)
{
	struct io *io = x->io;
	struct attr attr;
	int rc;

	if (!inode_here(x))
		return meta_chunk_check(x->s->meta, x->req->bucket, io->ino, io->chunk,
			io->generation);
	rc = meta_getattr(x->s->meta, io->ino, &attr);
	if (rc < 0)
		return rc;
	if (!S_ISREG(attr.mode))
		return -EINVAL;
	if (attr.generation != io->generation)
		return -ESTALE;
	io->size_bytes = attr.size_bytes;
	if (io->append) {
		uint32_t length = io->end - io->begin;

		if (attr.size_bytes + length > WFS_CHUNK_SIZE)
			return -EFBIG;
		io->begin = (uint32_t)attr.size_bytes;
		io->end = io->begin + length;
	}
	return 0;
}

static void write_fill(struct exec *x, uint32_t *crcs)
{
	struct io *io = x->io;
	uint8_t *to = x->record.data;
	uint32_t head = io->begin % WFS_BLOCK_SIZE;
	uint32_t tail = io->end % WFS_BLOCK_SIZE;
	uint32_t count = x->record.block_count;

	if (head) {
		if (io->head.data)
			memcpy(to, io->head.data, WFS_BLOCK_SIZE);
		else
			memset(to, 0, WFS_BLOCK_SIZE);
	}
	if (tail && !(head && count == 1)) {
		uint8_t *last = to + (size_t)(count - 1) * WFS_BLOCK_SIZE;

		if (io->tail.data)
			memcpy(last, io->tail.data, WFS_BLOCK_SIZE);
		else
			memset(last, 0, WFS_BLOCK_SIZE);
	}
	memcpy(to + head, x->req->data, io->end - io->begin);
	for (uint32_t i = 0; i < count; i++)
		crcs[i] = crc32c(to + (size_t)i * WFS_BLOCK_SIZE, WFS_BLOCK_SIZE);
}

static void write_reply(struct exec *x, bool inode_done, uint64_t size_bytes)
{
	struct io *io = x->io;
	struct wire_io_reply *reply = x->req->reply;

	*reply = (struct wire_io_reply){
		.offset = le64_put(io->chunk * WFS_CHUNK_SIZE + io->begin),
		.size = le64_put(inode_done ? size_bytes : 0),
		.length = le32_put(io->end - io->begin),
		.flags = le32_put(inode_done ? WIRE_IO_INODE_DONE : 0),
		.generation = le32_put(io->generation),
	};
	x->req->reply_size = sizeof(*reply);
}

static void write_committed(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);

	/* The partner's record comes after this one, and answers for both. */
	if (x->io->partner) {
		x->status = status;
		return;
	}
	exec_finish_now(x, status);
}

static void partner_committed(struct store_record *r, int status)
{
	struct exec *partner = container_of(r, struct exec, record);
	struct exec *x = partner->partner;

	exec_finish_now(partner, status);
	exec_finish_now(x, status ? status : x->status);
}

/*
 * The inode lives here too, but in another bucket: its record goes right after the
 * data's. When there is no room for it just now, the caller sends OP_EXTEND itself.
 */
static bool write_extend_other(struct exec *x, struct attr *attr_out)
{
	struct shard *s = x->s;
	struct io *io = x->io;
	struct exec *p = exec_new(s, NULL);
	struct meta_call c;
	int rc;

	if (!p)
		return false;
	p->partner = x;
	p->bucket = ino_bucket(io->ino);
	p->record = (struct store_record){.bucket = p->bucket};
	rc = store_begin(s->store, &p->record);
	if (rc == 0) {
		p->begun = true;
		shard_call_init(s, &x->req->cred, &c);
		rc = meta_extend(s->meta, &c, io->ino, io->generation,
			io->chunk * WFS_CHUNK_SIZE + io->end, attr_out);
		if (rc < 0)
			meta_batch_dropped(s->meta);
		else
			rc = exec_commit(p, partner_committed);
	}
	if (rc < 0) {
		exec_finish_now(p, rc);
		return false;
	}
	io->partner = p;
	return true;
}

static void write_commit(struct exec *x)
{
	struct shard *s = x->s;
	struct io *io = x->io;
	uint32_t crcs[WFS_CHUNK_BLOCKS];
	struct meta_call c;
	struct attr attr = {0};
	bool same_bucket = ino_bucket(io->ino) == x->req->bucket;
	bool here = inode_here(x);
	int rc = exec_begin(x, x->req->bucket, block_count_of(io), false);

	if (rc == -EINPROGRESS) {
		/* Waits for room now, and will start over. */
		io->owner = false;
		s->rerun_chunks = true;
		return;
	}
	if (rc < 0) {
		exec_finish(x, rc);
		return;
	}
	write_fill(x, crcs);
	shard_call_init(s, &x->req->cred, &c);
	rc = meta_extent_write(s->meta, c.batch, x->req->bucket, io->ino, io->chunk,
		block_of(io->begin), x->record.block_count, x->record.id, crcs);
	if (rc == 0 && io->chunk > 0)
		rc = meta_chunk_mark(s->meta, c.batch, x->req->bucket, io->ino, io->chunk,
			io->generation);
	if (rc == 0 && same_bucket)
		rc = meta_extend(s->meta, &c, io->ino, io->generation,
			io->chunk * WFS_CHUNK_SIZE + io->end, &attr);
	if (rc < 0) {
		meta_batch_dropped(s->meta);
		io_end(x, rc);
		return;
	}
	write_reply(x, same_bucket, attr.size_bytes);
	rc = exec_commit(x, write_committed);
	if (rc < 0) {
		exec_finish(x, rc);
		return;
	}
	chunk_release(x);
	s->write_bytes += io->end - io->begin;
	if (here && !same_bucket && write_extend_other(x, &attr))
		write_reply(x, true, attr.size_bytes);
}

static void write_ready(struct exec *x)
{
	uint32_t begin = x->io->begin;
	int rc = write_check(x);

	if (rc == 0 && x->io->begin != begin) {
		/* The file grew while the edge was read. */
		chunk_release(x);
		exec_start(x);
		return;
	}
	if (rc < 0)
		io_end(x, rc);
	else
		write_commit(x);
}

void write_start(struct exec *x)
{
	struct io *io;
	bool head, tail;
	int rc = io_parse(x);

	if (rc == 0 && x->io->end - x->io->begin != x->req->data_size)
		rc = -EINVAL;
	if (rc == 0 && x->io->begin == x->io->end)
		rc = -EINVAL;
	if (rc == 0 && chunk_busy(x)) {
		exec_wait(x, &x->s->chunk_waiters);
		return;
	}
	if (rc == 0)
		rc = reply_recall(x, x->req->bucket);
	if (rc > 0) {
		exec_finish(x, 0);
		return;
	}
	if (rc == 0)
		rc = write_check(x);
	if (rc < 0) {
		io_end(x, rc);
		return;
	}
	io = x->io;
	head = io->begin % WFS_BLOCK_SIZE != 0;
	tail = io->end % WFS_BLOCK_SIZE != 0;
	/* One block holds both edges; and past the end of the file there are only zeros, but
	 * for what another writer put there who has yet to tell an inode elsewhere. */
	if (head && block_of(io->end) == block_of(io->begin))
		tail = false;
	if (tail && ino_bucket(io->ino) == x->req->bucket &&
		io->chunk * WFS_CHUNK_SIZE + io->end >= io->size_bytes)
		tail = false;
	if (!head && tail && block_of(io->begin) == block_of(io->end))
		head = false;
	if (head || tail)
		edges_load(x, head, tail, write_ready);
	else
		write_commit(x);
}

/* --- the inode's side of writes done elsewhere --- */

static void inode_reply(struct exec *x, const struct attr *attr, uint64_t offset,
	uint32_t length)
{
	struct wire_io_reply *reply = x->req->reply;

	*reply = (struct wire_io_reply){
		.offset = le64_put(offset),
		.size = le64_put(attr->size_bytes),
		.length = le32_put(length),
		.flags = le32_put(WIRE_IO_INODE_DONE),
		.generation = le32_put(attr->generation),
	};
	x->req->reply_size = sizeof(*reply);
}

int op_extend(struct exec *x, struct meta_call *c)
{
	const struct wire_io *wi = x->req->body;
	struct attr attr;
	int rc;

	if (ino_bucket(le64_get(wi->ino)) != x->req->bucket)
		return -EINVAL;
	rc = meta_extend(x->s->meta, c, le64_get(wi->ino), le32_get(wi->generation),
		le64_get(wi->offset), &attr);
	if (rc == 0)
		inode_reply(x, &attr, le64_get(wi->offset), 0);
	return rc;
}

int op_append(struct exec *x, struct meta_call *c)
{
	const struct wire_io *wi = x->req->body;
	struct attr attr;
	uint64_t offset;
	int rc;

	if (ino_bucket(le64_get(wi->ino)) != x->req->bucket)
		return -EINVAL;
	rc = reply_recall(x, x->bucket);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = meta_append(x->s->meta, c, le64_get(wi->ino), le32_get(wi->length), &offset,
		&attr);
	if (rc == 0)
		inode_reply(x, &attr, offset, le32_get(wi->length));
	return rc;
}

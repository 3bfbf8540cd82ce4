/*
 * Cutting files short (and growing them): SETATTR with a size, and CHUNK_PURGE, by which
 * a cut or deletion reaches the chunks in other buckets. The block that a cut leaves half
 * is written again with zeros behind the cut, in the same record.
 */
#include "core/shard/data.h"

#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/hash.h"

/* The block that a cut leaves half: its id is new, its tail is zeros. */
static int cut_edge(struct exec *x)
{
	struct io *io = x->io;
	uint32_t crc;

	if (x->record.block_count == 0)
		return 0;
	memcpy(x->record.data, io->tail.data, WFS_BLOCK_SIZE);
	memset((uint8_t *)x->record.data + io->end % WFS_BLOCK_SIZE, 0,
		WFS_BLOCK_SIZE - io->end % WFS_BLOCK_SIZE);
	crc = crc32c(x->record.data, WFS_BLOCK_SIZE);
	return meta_extent_write(x->s->meta, &x->s->batch, x->record.bucket, io->ino,
		io->chunk, block_of(io->end), 1, x->record.id, &crc);
}

static void cut_committed(struct store_record *r, int status)
{
	exec_finish_now(container_of(r, struct exec, record), status);
}

static void cut_conclude(struct exec *x, int rc)
{
	struct shard *s = x->s;

	if (rc < 0) {
		meta_batch_dropped(s->meta);
		batch_reset(&s->batch);
		io_end(x, rc);
		return;
	}
	if (s->batch.count == 0) {
		exec_finish(x, 0);
		return;
	}
	rc = exec_commit(x, cut_committed);
	if (rc < 0)
		exec_finish(x, rc);
	else
		chunk_release(x);
}

/* True when begun; else x waits or has been answered. */
static bool cut_begin(struct exec *x, bool deletes)
{
	int rc = exec_begin(x, x->req->bucket, x->io->tail.data ? 1 : 0, deletes);

	if (rc == 0)
		return true;
	if (rc == -EINPROGRESS) {
		x->io->owner = false;
		x->s->rerun_chunks = true;
	} else {
		exec_finish(x, rc);
	}
	return false;
}

/*
 * The new generation is not told before the purge is done: a write that bears it may
 * reach a chunk before the purge does, and would be purged. With the old one it is
 * refused there or here, and its writer asks again, which waits for the purge. So does
 * whoever cut the file: until then the chunks tell readers of what was before.
 */
void cut_reply(struct exec *x, const struct attr *attr, bool purging)
{
	struct attr told = *attr;

	if (purging)
		told.generation--;
	path_reply(x, &told, purging ? WIRE_WALK_PURGING : 0);
}

static void setattr_ready(struct exec *x)
{
	struct shard *s = x->s;
	struct io *io = x->io;
	struct meta_call c;
	struct attr attr;
	bool purge = false;
	int rc;

	rc = meta_getattr(s->meta, io->ino, &attr);
	if (rc == 0 && attr.generation != io->generation) {
		/* Cut by another while the edge was read: that is no longer what is there. */
		chunk_release(x);
		exec_start(x);
		return;
	}
	if (rc < 0) {
		io_end(x, rc);
		return;
	}
	if (!cut_begin(x, io->set.size_bytes < io->size_bytes))
		return;
	shard_call_init(s, &x->req->cred, &c);
	rc = meta_setattr(s->meta, &c, io->ino, &io->set, &attr, &purge);
	if (rc == 0)
		rc = cut_edge(x);
	if (rc == 0) {
		cut_reply(x, &attr, purge);
		if (purge)
			purge_kick(s);
	}
	cut_conclude(x, rc);
}

static void setattr_plain(struct exec *x)
{
	struct meta_call c;
	int rc = exec_begin(x, x->req->bucket, 0, false);

	if (rc == -EINPROGRESS)
		return;
	if (rc < 0 && rc != -ENOSPC) {
		exec_finish(x, rc);
		return;
	}
	shard_call_init(x->s, &x->req->cred, &c);
	exec_conclude(x, op_setattr_plain(x, &c));
}

/* The walk of a SETATTR with a size; 1 to go on. */
static int setattr_walk(struct exec *x)
{
	const struct wire_setattr *ws = x->req->body;
	struct meta_call c;
	struct attr attr;
	struct walk w;
	struct io *io;
	int rc = io_new(x);

	if (rc < 0)
		return rc;
	shard_call_init(x->s, &x->req->cred, &c);
	rc = path_walk(x, &c, (enum walk_mode)ws->path.mode, &w);
	if (rc <= 0)
		return rc;
	/* The walk may have ended in another bucket of this shard: so does the record. */
	x->req->bucket = ino_bucket(w.ino);
	rc = meta_getattr(x->s->meta, w.ino, &attr);
	if (rc < 0)
		return rc;
	io = x->io;
	io->ino = w.ino;
	io->chunk = 0;
	io->size_bytes = attr.size_bytes;
	io->generation = attr.generation;
	io->set = (struct meta_set){
		.mask = le32_get(ws->mask),
		.mode = le32_get(ws->mode),
		.uid = le32_get(ws->uid),
		.gid = le32_get(ws->gid),
		.size_bytes = le64_get(ws->size),
		.atime_ns = (int64_t)le64_get(ws->atime_ns),
		.mtime_ns = (int64_t)le64_get(ws->mtime_ns),
		.by_fd = le32_get(ws->by_fd) != 0,
	};
	return 1;
}

void setattr_start(struct exec *x)
{
	const struct wire_setattr *ws = x->req->body;
	bool edge;
	int rc;

	if (!(le32_get(ws->mask) & SET_SIZE)) {
		setattr_plain(x);
		return;
	}
	rc = setattr_walk(x);
	if (rc <= 0) {
		io_end(x, rc);
		return;
	}
	if (chunk_busy(x)) {
		exec_wait(x, &x->s->chunk_waiters);
		return;
	}
	/* Past chunk 0 the purge job zeroes the edge. */
	edge = x->io->set.size_bytes < x->io->size_bytes &&
	       x->io->set.size_bytes < WFS_CHUNK_SIZE &&
	       x->io->set.size_bytes % WFS_BLOCK_SIZE != 0;
	x->io->begin = 0;
	x->io->end = edge ? (uint32_t)x->io->set.size_bytes : 0;
	edges_load(x, false, edge, setattr_ready);
}

static void chunk_purge_ready(struct exec *x)
{
	const struct wire_purge *wp = x->req->body;
	uint32_t generation = le32_get(wp->generation);
	struct meta_call c;
	int rc = 0;

	/* A chunk that has seen this purge may hold new data: a late one does nothing. */
	if (!wp->forget && generation > 0)
		rc = meta_chunk_check(x->s->meta, x->req->bucket, x->io->ino, x->io->chunk,
			generation - 1);
	if (rc < 0) {
		exec_finish(x, rc == -ESTALE ? 0 : rc);
		return;
	}
	if (!cut_begin(x, true))
		return;
	shard_call_init(x->s, &x->req->cred, &c);
	rc = meta_chunk_purge(x->s->meta, c.batch, x->req->bucket, x->io->ino, x->io->chunk,
		le32_get(wp->keep_bytes), generation, wp->forget);
	if (rc == 0)
		rc = cut_edge(x);
	cut_conclude(x, rc);
}

void chunk_purge_start(struct exec *x)
{
	const struct wire_purge *wp = x->req->body;
	struct wire_purge_reply *reply = x->req->reply;
	uint32_t keep = le32_get(wp->keep_bytes);
	int rc = io_new(x);

	if (rc < 0) {
		exec_finish(x, rc);
		return;
	}
	x->io->ino = le64_get(wp->ino);
	x->io->chunk = le64_get(wp->chunk);
	*reply = (struct wire_purge_reply){0};
	x->req->reply_size = sizeof(*reply);
	if (wp->find) {
		rc = meta_chunk_next(x->s->meta, x->req->bucket, x->io->ino, x->io->chunk,
			&x->io->chunk);
		if (rc < 0) {
			exec_finish(x, rc == -ENOENT ? 0 : rc);
			return;
		}
		reply->next = le64_put(x->io->chunk + 1);
	}
	if (keep >= WFS_CHUNK_SIZE ||
		chunk_bucket(x->io->ino, x->io->chunk, x->s->map->bucket_count) !=
			x->req->bucket) {
		exec_finish(x, -EINVAL);
		return;
	}
	if (chunk_busy(x)) {
		exec_wait(x, &x->s->chunk_waiters);
		return;
	}
	x->io->begin = 0;
	x->io->end = keep;
	edges_load(x, false, keep % WFS_BLOCK_SIZE != 0, chunk_purge_ready);
}

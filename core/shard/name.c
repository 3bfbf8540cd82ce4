/*
 * Plain operations: those that look at or change one bucket and never wait.
 *
 * A path operation walks first. When the walk ends on another shard, at a symlink or
 * above the root, the reply says so and nothing is done: the caller goes on from there.
 */
#include "core/shard/reply.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

void wire_attr_put(struct wire_attr *out, const struct attr *attr)
{
	*out = (struct wire_attr){
		.ino = le64_put(attr->ino),
		.mode = le32_put(attr->mode),
		.nlink = le32_put(attr->nlink),
		.uid = le32_put(attr->uid),
		.gid = le32_put(attr->gid),
		.rdev = le64_put(attr->rdev),
		.size = le64_put(attr->size_bytes),
		.blocks_512 = le64_put(attr->blocks_512),
		.atime_ns = le64_put((uint64_t)attr->atime_ns),
		.mtime_ns = le64_put((uint64_t)attr->mtime_ns),
		.ctime_ns = le64_put((uint64_t)attr->ctime_ns),
		.btime_ns = le64_put((uint64_t)attr->btime_ns),
		.generation = le32_put(attr->generation),
		.fsid = le32_put(attr->fsid),
		.parent = le64_put(attr->parent),
		.entries = le64_put(attr->entries),
	};
}

void wire_attr_take(const struct wire_attr *in, struct attr *attr_out)
{
	*attr_out = (struct attr){
		.ino = le64_get(in->ino),
		.mode = le32_get(in->mode),
		.nlink = le32_get(in->nlink),
		.uid = le32_get(in->uid),
		.gid = le32_get(in->gid),
		.rdev = le64_get(in->rdev),
		.size_bytes = le64_get(in->size),
		.blocks_512 = le64_get(in->blocks_512),
		.atime_ns = (int64_t)le64_get(in->atime_ns),
		.mtime_ns = (int64_t)le64_get(in->mtime_ns),
		.ctime_ns = (int64_t)le64_get(in->ctime_ns),
		.btime_ns = (int64_t)le64_get(in->btime_ns),
		.generation = le32_get(in->generation),
		.fsid = le32_get(in->fsid),
		.parent = le64_get(in->parent),
		.entries = le64_get(in->entries),
	};
}

/* --- paths --- */

const char *path_of(const struct exec *x, size_t fixed_size, size_t *size_out)
{
	const struct wire_path *wp = x->req->body;

	*size_out = le16_get(wp->path_size);
	return (const char *)x->req->body + fixed_size;
}

const char *extra_of(const struct exec *x, size_t fixed_size, size_t *size_out)
{
	const struct wire_path *wp = x->req->body;

	*size_out = le16_get(wp->extra_size);
	return (const char *)x->req->body + fixed_size + le16_get(wp->path_size);
}

/* Every path operation's fixed part, by op; the path follows it. */
static size_t fixed_size_of(uint16_t op)
{
	switch (op) {
	case OP_OPEN: return sizeof(struct wire_open);
	case OP_SETATTR: return sizeof(struct wire_setattr);
	case OP_MKNOD:
	case OP_MKDIR: return sizeof(struct wire_mknod);
	case OP_LINK: return sizeof(struct wire_link);
	case OP_GETXATTR:
	case OP_SETXATTR:
	case OP_LISTXATTR:
	case OP_REMOVEXATTR: return sizeof(struct wire_xattr);
	default: return sizeof(struct wire_path);
	}
}

static void walk_reply(struct exec *x, const struct walk *w)
{
	struct wire_walk_reply *reply = x->req->reply;

	*reply = (struct wire_walk_reply){
		.end = (uint8_t)w->end,
		.flags = w->must_be_dir ? WIRE_WALK_MUST_BE_DIR : 0,
		.consumed = le32_put(w->consumed),
		.ino = le64_put(w->ino),
		.name_at = le32_put(w->name_at),
		.name_size = le32_put(w->name_size),
	};
	x->req->reply_size = sizeof(*reply);
	if (w->end == WALK_SYMLINK) {
		reply->target_size = le16_put((uint16_t)w->target_size);
		memcpy(reply + 1, w->target, w->target_size);
		x->req->reply_size += w->target_size;
	}
}

/* An open that was carried out before: the file counts as open here as well. */
static int open_again(struct exec *x, int recalled)
{
	const struct wire_walk_reply *reply = x->req->reply;
	struct attr attr;
	int rc = 0;

	if (recalled < 0)
		return recalled;
	if (x->req->op != OP_OPEN || !(reply->flags & WIRE_WALK_HAS_ATTR))
		return 0;
	wire_attr_take(&reply->attr, &attr);
	if (S_ISREG(attr.mode))
		rc = open_table_add(x->s->opens, x->req->session, attr.ino);
	if (rc == 0)
		x->opened = S_ISREG(attr.mode) ? attr.ino : 0;
	return rc;
}

int path_walk(struct exec *x, const struct meta_call *c, enum walk_mode mode,
	struct walk *w)
{
	const struct wire_path *wp = x->req->body;
	size_t size;
	const char *path = path_of(x, fixed_size_of(x->req->op), &size);
	int rc, recalled;

	memset(w, 0, offsetof(struct walk, target));
	if (size == 0 && mode == WALK_NOFOLLOW) {
		/* The object itself, whatever it is. */
		w->end = WALK_DONE;
		w->ino = le64_get(wp->start);
		x->bucket = ino_bucket(w->ino);
		if (!shard_owns(x->s, x->bucket))
			return -EREMCHG;
		recalled = reply_recall(x, x->bucket);
		if (recalled)
			return open_again(x, recalled);
		walk_reply(x, w);
		return 1;
	}
	rc = meta_walk(x->s->meta, c, le64_get(wp->start), path, size, mode, w);
	if (rc < 0)
		return rc;
	if (w->end == WALK_DONE)
		x->bucket = ino_bucket(w->ino);
	recalled = w->end == WALK_DONE ? reply_recall(x, x->bucket) : 0;
	if (recalled)
		return open_again(x, recalled);
	walk_reply(x, w);
	return w->end == WALK_DONE;
}

void path_reply(struct exec *x, const struct attr *attr, unsigned flags)
{
	struct wire_walk_reply *reply = x->req->reply;

	reply->flags |= (uint8_t)(flags | WIRE_WALK_HAS_ATTR);
	reply->ino = le64_put(attr->ino);
	wire_attr_put(&reply->attr, attr);
}

/* The object of a path operation is known by number only, on another shard. */
static int path_moved(struct exec *x, ino_id ino)
{
	size_t size;
	struct walk w = {.end = WALK_MOVED, .ino = ino};

	(void)path_of(x, fixed_size_of(x->req->op), &size);
	w.consumed = (uint32_t)size;
	walk_reply(x, &w);
	return 0;
}

static enum walk_mode wire_mode(const struct exec *x)
{
	return (enum walk_mode)((const struct wire_path *)x->req->body)->mode;
}

/* What has to be permitted on the object. */
static int wire_want(const struct exec *x)
{
	return ((const struct wire_path *)x->req->body)->want;
}

int op_ping(struct exec *x, struct meta_call *c)
{
	(void)x;
	(void)c;
	return 0;
}

int op_walk(struct exec *x, struct meta_call *c)
{
	struct walk w;
	struct attr attr;
	int rc = path_walk(x, c, wire_mode(x), &w);

	if (rc <= 0)
		return rc;
	rc = meta_getattr(x->s->meta, w.ino, &attr);
	if (rc < 0)
		return rc;
	if (w.must_be_dir && wire_mode(x) != WALK_PARENT && !S_ISDIR(attr.mode))
		return -ENOTDIR;
	rc = perm_check(&attr, c->cred, wire_want(x));
	if (rc < 0)
		return rc;
	path_reply(x, &attr, 0);
	return 0;
}

/* --- open --- */

/* From now on, not from when it is durable: it may lose its name in between. */
static int open_count(struct exec *x, ino_id ino)
{
	int rc = open_table_add(x->s->opens, x->req->session, ino);

	if (rc == 0)
		x->opened = ino;
	return rc;
}

static int open_inode(struct exec *x, struct meta_call *c, ino_id ino, int flags,
	bool must_be_dir)
{
	struct shard *s = x->s;
	struct attr attr;
	bool purge = false;
	int rc = meta_getattr(s->meta, ino, &attr);

	if (rc < 0)
		return rc;
	if ((must_be_dir || (flags & O_DIRECTORY)) && !S_ISDIR(attr.mode))
		return -ENOTDIR;
	if (S_ISLNK(attr.mode) && !(flags & O_PATH))
		return -ELOOP;
	if (flags & O_PATH)
		rc = perm_check(&attr, c->cred, wire_want(x));
	else
		rc = meta_open(s->meta, c, ino, flags & O_ACCMODE, &attr);
	if (rc < 0)
		return rc;
	if ((flags & O_TRUNC) && !(flags & O_PATH) && S_ISREG(attr.mode)) {
		struct meta_set set = {.mask = SET_SIZE, .by_fd = true};

		/* O_RDONLY|O_TRUNC asks for write permission all the same. */
		if ((flags & O_ACCMODE) == O_RDONLY)
			set.by_fd = false;
		rc = meta_setattr(s->meta, c, ino, &set, &attr, &purge);
		if (rc < 0)
			return rc;
		if (purge)
			purge_kick(s);
	}
	cut_reply(x, &attr, purge);
	return S_ISREG(attr.mode) ? open_count(x, ino) : 0;
}

static int open_create(struct exec *x, struct meta_call *c, int flags)
{
	const struct wire_open *wo = x->req->body;
	size_t size;
	const char *path = path_of(x, sizeof(*wo), &size);
	struct walk w;
	struct attr attr;
	ino_id ino = 0;
	uint8_t type = 0;
	bool created = false;
	int rc = path_walk(x, c, WALK_PARENT, &w);

	if (rc <= 0)
		return rc == -EINVAL || rc == -ENOTEMPTY ? -EISDIR : rc;
	if (w.must_be_dir)
		return -EISDIR;
	rc = meta_entry(x->s->meta, w.ino, path + w.name_at, w.name_size, &ino, &type);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == -ENOENT) {
		rc = meta_create(x->s->meta, c, w.ino, path + w.name_at, w.name_size,
			S_IFREG | (le32_get(wo->mode) & 07777), 0, true, &attr, &created);
		if (rc < 0)
			return rc;
		path_reply(x, &attr, WIRE_WALK_CREATED);
		return open_count(x, attr.ino);
	}
	if (flags & O_EXCL)
		return -EEXIST;
	if (type == DT_DIR)
		return -EISDIR;
	if (type == DT_LNK && !(flags & O_NOFOLLOW)) {
		rc = path_walk(x, c, WALK_FOLLOW, &w);
		if (rc <= 0)
			return rc;
		ino = w.ino;
	}
	if (!shard_owns(x->s, ino_bucket(ino)))
		return path_moved(x, ino);
	x->bucket = ino_bucket(ino);
	rc = reply_recall(x, x->bucket);
	if (rc)
		return open_again(x, rc);
	return open_inode(x, c, ino, flags, false);
}

int op_open(struct exec *x, struct meta_call *c)
{
	const struct wire_open *wo = x->req->body;
	int flags = (int)le32_get(wo->flags);
	size_t size;
	struct walk w;
	int rc;

	(void)path_of(x, sizeof(*wo), &size);
	if ((flags & O_CREAT) && size > 0)
		return open_create(x, c, flags);
	rc = path_walk(x, c, wire_mode(x), &w);
	if (rc <= 0)
		return rc;
	return open_inode(x, c, w.ino, flags, w.must_be_dir);
}

int op_reopen(struct exec *x, struct meta_call *c)
{
	const struct wire_reopen *wr = x->req->body;
	ino_id ino = le64_get(wr->ino);
	struct attr attr;
	int rc = meta_getattr(x->s->meta, ino, &attr);

	(void)c;
	if (rc < 0)
		return rc;
	if (!S_ISREG(attr.mode))
		return -EINVAL;
	return open_table_raise(x->s->opens, x->req->session, ino, le32_get(wr->count));
}

int op_close(struct exec *x, struct meta_call *c)
{
	ino_id ino = le64_get(((const struct wire_ino *)x->req->body)->ino);
	struct attr attr;

	(void)c;
	if (!open_table_remove(x->s->opens, x->req->session, ino))
		return 0;
	/* Only a file without a name waits for this. */
	if (meta_getattr(x->s->meta, ino, &attr) != 0 || attr.nlink == 0)
		purge_kick(x->s);
	return 0;
}

/* --- attributes --- */

int op_setattr_plain(struct exec *x, struct meta_call *c)
{
	const struct wire_setattr *ws = x->req->body;
	struct meta_set set = {
		.mask = le32_get(ws->mask),
		.mode = le32_get(ws->mode),
		.uid = le32_get(ws->uid),
		.gid = le32_get(ws->gid),
		.atime_ns = (int64_t)le64_get(ws->atime_ns),
		.mtime_ns = (int64_t)le64_get(ws->mtime_ns),
		.by_fd = le32_get(ws->by_fd) != 0,
	};
	bool purge = false;
	struct attr attr;
	struct walk w;
	int rc = path_walk(x, c, wire_mode(x), &w);

	if (rc <= 0)
		return rc;
	rc = meta_setattr(x->s->meta, c, w.ino, &set, &attr, &purge);
	if (rc < 0)
		return rc;
	path_reply(x, &attr, 0);
	return 0;
}

int op_readlink(struct exec *x, struct meta_call *c)
{
	struct walk w;
	struct attr attr;
	struct buf target;
	struct wire_walk_reply *reply = x->req->reply;
	int rc = path_walk(x, c, WALK_NOFOLLOW, &w);

	if (rc <= 0)
		return rc;
	rc = meta_getattr(x->s->meta, w.ino, &attr);
	if (rc < 0)
		return rc;
	if (!S_ISLNK(attr.mode))
		return -EINVAL;
	buf_init(&target);
	rc = meta_readlink(x->s->meta, w.ino, &target);
	if (rc == 0 && target.size_bytes > WFS_SYMLINK_MAX)
		rc = -EUCLEAN;
	if (rc == 0) {
		path_reply(x, &attr, 0);
		reply->target_size = le16_put((uint16_t)target.size_bytes);
		memcpy(reply + 1, target.data, target.size_bytes);
		x->req->reply_size = (uint32_t)(sizeof(*reply) + target.size_bytes);
	}
	buf_release(&target);
	return rc;
}

/* --- names --- */

/* What making a name "." or ".." means, or one that ends in a slash. */
static int name_walk(struct exec *x, struct meta_call *c, struct walk *w)
{
	int rc = path_walk(x, c, WALK_PARENT, w);

	if (rc == -EINVAL || rc == -ENOTEMPTY)
		return -EEXIST;
	return rc;
}

int op_mknod(struct exec *x, struct meta_call *c)
{
	const struct wire_mknod *wm = x->req->body;
	size_t size;
	const char *path = path_of(x, sizeof(*wm), &size);
	uint32_t mode = le32_get(wm->mode);
	struct walk w;
	struct attr attr;
	bool created;
	int rc = name_walk(x, c, &w);

	if (rc <= 0)
		return rc;
	if (w.must_be_dir)
		return -ENOENT;
	if ((mode & S_IFMT) == 0)
		mode |= S_IFREG;
	rc = meta_create(x->s->meta, c, w.ino, path + w.name_at, w.name_size, mode,
		le64_get(wm->rdev), true, &attr, &created);
	if (rc < 0)
		return rc;
	path_reply(x, &attr, WIRE_WALK_CREATED);
	return 0;
}

int op_symlink(struct exec *x, struct meta_call *c)
{
	size_t size, target_size;
	const char *path = path_of(x, sizeof(struct wire_symlink), &size);
	const char *target = extra_of(x, sizeof(struct wire_symlink), &target_size);
	struct walk w;
	struct attr attr;
	int rc = name_walk(x, c, &w);

	if (rc <= 0)
		return rc;
	if (w.must_be_dir)
		return -ENOENT;
	rc = meta_symlink(x->s->meta, c, w.ino, path + w.name_at, w.name_size, target,
		target_size, &attr);
	if (rc < 0)
		return rc;
	path_reply(x, &attr, WIRE_WALK_CREATED);
	return 0;
}

int op_entry(struct exec *x, struct meta_call *c)
{
	const struct wire_ino *wi = x->req->body;
	struct wire_entry_reply *reply = x->req->reply;
	ino_id ino;
	uint8_t type;
	int rc = meta_entry(x->s->meta, le64_get(wi->ino), (const char *)(wi + 1),
		x->req->body_size - sizeof(*wi), &ino, &type);

	(void)c;
	if (rc < 0)
		return rc;
	*reply = (struct wire_entry_reply){.ino = le64_put(ino), .dtype = type};
	x->req->reply_size = sizeof(*reply);
	return 0;
}

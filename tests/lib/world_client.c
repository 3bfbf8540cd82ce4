/*
 * Clients of the world: operations as small state machines, which follow walks as the
 * real client does, and plain calls on top that wait.
 */
#include "tests/lib/world.h"
#include "tests/lib/check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "core/base/hash.h"

#define LINKS_MAX       40u
#define TRIES_MAX       8u
#define CALL_TIMEOUT_MS 10000u /* of one attempt; less where another may help */
#define AGAIN_MS        1000u
#define AGAIN_US        30000u
#define PATIENCE_US     60000000u
#define TURNS_MAX       2000000u

static void step(struct wop *o);
static void walked(struct wop *o);

static void finish(struct wop *o, int status)
{
	o->status = status;
	o->finished = true;
}

/* What the real client does: the same again, while a copy may be alive. */
static bool worth_another(const struct wop *o, int status)
{
	return o->w->copies > 1 && env_now_us(&o->w->env.env) < o->until_us &&
	       (status == -EREMCHG || status == -EIO || status == -ETIMEDOUT ||
		       status == -EAGAIN || status == -ESHUTDOWN);
}

static void call_ended(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);

	if (!worth_another(o, status)) {
		o->done(c, status, reply, reply_size, reply_data_size);
		return;
	}
	o->again_us = env_now_us(&o->w->env.env) + AGAIN_US;
	list_push_back(&o->w->again, &o->again);
}

bool wops_again(struct world *w, uint64_t *next)
{
	uint64_t now = env_now_us(&w->env.env);

	list_for_each(it, tmp, &w->again)
	{
		struct wop *o = container_of(it, struct wop, again);

		if (o->again_us <= now) {
			list_remove(&o->again);
			o->sent_count++;
			world_call_send(w, o->via, &o->call);
			return true;
		}
		if (o->again_us < *next)
			*next = o->again_us;
	}
	return false;
}

static void seq_next(struct wop *o)
{
	o->seq = ++*(o->seqs ? o->seqs : &o->w->op_count);
}

static void call(struct wop *o, uint16_t op, uint16_t bucket, uint32_t body_size,
	void (*done)(struct rpc_call *c, int status, const void *reply,
		uint32_t reply_size, uint32_t reply_data_size))
{
	o->call = (struct rpc_call){
		.op = op,
		.bucket = bucket,
		.session = o->session,
		.slot = o->seqs ? o->slot : (uint16_t)(o->seq & 0x3fff),
		.seq = o->seq,
		.timeout_ms = o->w->copies > 1 ? AGAIN_MS : CALL_TIMEOUT_MS,
		.cred = &o->cred,
		.body = o->body,
		.body_size = body_size,
		.done = call_ended,
	};
	o->done = done;
	if (op == o->op || o->data) {
		o->call.data = o->data;
		o->call.data_size = o->data_size;
		o->call.reply_data = o->reply_data;
		o->call.reply_data_max = o->reply_data_max;
	}
	o->sent_count++;
	world_call_send(o->w, o->via, &o->call);
}

/* --- paths --- */

static void path_set(struct wop *o, const char *path)
{
	o->start = WFS_ROOT_INO;
	while (*path == '/')
		path++;
	check_leq(strlen(path), WFS_PATH_MAX);
	memmove(o->path, path, strlen(path) + 1);
	o->path_size = (uint32_t)strlen(path);
}

static void link_follow(struct wop *o, ino_id dir, const char *target, uint32_t size)
{
	char whole[2 * WFS_PATH_MAX];

	if (++o->links > LINKS_MAX) {
		finish(o, -ELOOP);
		return;
	}
	memcpy(whole, target, size);
	whole[size] = 0;
	if (o->path_size && o->path[0] != '/')
		strcat(whole, "/");
	strcat(whole, o->path);
	if (strlen(whole) >= WFS_PATH_MAX) {
		finish(o, -ENAMETOOLONG);
		return;
	}
	path_set(o, whole);
	if (target[0] != '/')
		o->start = dir;
	step(o);
}

static void hop_read(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);
	const struct wire_walk_reply *r = reply;

	(void)reply_size;
	(void)reply_data_size;
	if (status == -EINVAL)
		step(o);
	else if (status)
		finish(o, status);
	else
		link_follow(o, le64_get(r->attr.parent), (const char *)(r + 1),
			le16_get(r->target_size));
}

/* A hop led to an inode alone: it may be a symlink. */
static void hop(struct wop *o)
{
	struct wire_path body = {.start = le64_put(o->start), .mode = WIRE_NOFOLLOW};

	memcpy(o->body, &body, sizeof(body));
	call(o, OP_READLINK, ino_bucket(o->start), sizeof(body), hop_read);
}

static void step_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);
	const struct wire_walk_reply *r = reply;
	uint32_t used;

	(void)reply_size;
	if (status == -ESTALE && ++o->tries < TRIES_MAX && o->original[0]) {
		path_set(o, o->original);
		step(o);
		return;
	}
	if (status) {
		finish(o, status == -ESTALE && o->original[0] ? -ENOENT : status);
		return;
	}
	o->reply = *r;
	used = le32_get(r->consumed);
	check_leq(used, o->path_size);
	if (r->end == WIRE_DONE) {
		o->reply_data_size = reply_data_size;
		o->target_size = le16_get(r->target_size);
		memcpy(o->target, r + 1, o->target_size);
		o->target[o->target_size] = 0;
		walked(o);
		return;
	}
	o->path_size -= used;
	memmove(o->path, o->path + used, o->path_size + 1);
	o->start = le64_get(r->ino);
	if (r->end == WIRE_SYMLINK)
		link_follow(o, o->start, (const char *)(r + 1), le16_get(r->target_size));
	else if (r->end == WIRE_MOVED && o->path_size == 0 && o->mode == WIRE_FOLLOW &&
		 o->op != OP_READLINK)
		hop(o);
	else
		step(o);
}

static void step(struct wop *o)
{
	struct wire_path *wp = (struct wire_path *)o->fixed;
	uint16_t op = o->stage == 0 ? o->op : OP_WALK;
	uint32_t fixed_size = o->fixed_size;

	if (o->stage == 3) /* LINK itself, after the walk to the source */
		op = OP_LINK;
	if (++o->links > 4000) {
		finish(o, -ELOOP);
		return;
	}
	o->links -= 1;
	wp->start = le64_put(o->start);
	wp->path_size = le16_put((uint16_t)o->path_size);
	wp->extra_size = le16_put((uint16_t)o->extra_size);
	wp->mode = o->mode;
	memcpy(o->body, o->fixed, fixed_size);
	memcpy(o->body + fixed_size, o->path, o->path_size);
	memcpy(o->body + fixed_size + o->path_size, o->extra, o->extra_size);
	call(o, op, ino_bucket(o->start), fixed_size + o->path_size + o->extra_size,
		step_done);
}

/* --- rename and link: several calls --- */

static void plain_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	finish(container_of(c, struct wop, call), status);
}

static void name_keep(struct wop *o, unsigned i)
{
	uint32_t at = le32_get(o->reply.name_at);

	o->dirs[i] = le64_get(o->reply.ino);
	o->name_sizes[i] = le32_get(o->reply.name_size);
	memcpy(o->names[i], o->path + at, o->name_sizes[i]);
}

static void rename_send(struct wop *o)
{
	struct wire_rename body = {
		.from_dir = le64_put(o->dirs[0]),
		.to_dir = le64_put(o->dirs[1]),
		.from_size = le16_put((uint16_t)o->name_sizes[0]),
		.to_size = le16_put((uint16_t)o->name_sizes[1]),
		.flags = le32_put(o->rename_flags),
	};

	memcpy(o->body, &body, sizeof(body));
	memcpy(o->body + sizeof(body), o->names[0], o->name_sizes[0]);
	memcpy(o->body + sizeof(body) + o->name_sizes[0], o->names[1], o->name_sizes[1]);
	call(o, OP_RENAME, ino_bucket(o->dirs[0]),
		(uint32_t)sizeof(body) + o->name_sizes[0] + o->name_sizes[1], plain_done);
}

static void second_walk(struct wop *o)
{
	strcpy(o->original, o->second);
	path_set(o, o->second);
	o->links = o->tries = 0;
	step(o);
}

/* A walk has come to its end: stages 1 and 2 of a rename, 2 and 3 of a link. */
static void walked(struct wop *o)
{
	if (o->stage == 0 || o->stage == 3) {
		finish(o, 0);
		return;
	}
	if (o->op == OP_LINK) {
		struct wire_link wl = {.ino = o->reply.ino};

		o->stage = 3;
		o->mode = WIRE_PARENT;
		memcpy(o->fixed, &wl, sizeof(wl));
		o->fixed_size = sizeof(wl);
		second_walk(o);
		return;
	}
	name_keep(o, o->stage - 1);
	if (o->stage++ == 1)
		second_walk(o);
	else
		rename_send(o);
}

void wop_init(struct wop *o, struct world *w, uint16_t op, const char *path)
{
	memset(o, 0, offsetof(struct wop, body));
	o->w = w;
	o->via = WORLD_VIA_NONE;
	o->cred = w->cred;
	o->session = w->session;
	o->op = op;
	o->fixed_size = sizeof(struct wire_path);
	strcpy(o->original, path);
	path_set(o, path);
}

void wop_link(struct wop *o, struct world *w, const char *from, const char *to)
{
	wop_init(o, w, OP_LINK, from);
	strcpy(o->second, to);
	o->stage = 2;
	o->mode = WIRE_NOFOLLOW;
}

void wop_rename(
	struct wop *o, struct world *w, const char *from, const char *to, unsigned flags)
{
	wop_init(o, w, OP_RENAME, from);
	strcpy(o->second, to);
	o->rename_flags = flags;
	o->stage = 1;
	o->mode = WIRE_PARENT;
}

/* --- data --- */

static void io_send(struct wop *o);

static void io_attr_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);
	const struct wire_walk_reply *r = reply;

	(void)reply_size;
	(void)reply_data_size;
	if (status) {
		finish(o, status);
		return;
	}
	o->generation = le32_get(r->attr.generation);
	io_send(o);
}

static void io_refresh(struct wop *o)
{
	struct wire_path body = {.start = le64_put(o->ino), .mode = WIRE_NOFOLLOW};
	const void *data = o->data;

	if (++o->tries > 16) {
		finish(o, -EIO);
		return;
	}
	memcpy(o->body, &body, sizeof(body));
	o->data = NULL;
	call(o, OP_WALK, ino_bucket(o->ino), sizeof(body), io_attr_done);
	o->data = data;
}

static void extend_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);

	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	if (status == -ESTALE && !o->once)
		io_refresh(o);
	else
		finish(o, status);
}

static void io_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);
	const void *data = o->data;
	struct wire_io body;

	if (status == -ESTALE && o->op == OP_WRITE && !o->once) {
		io_refresh(o);
		return;
	}
	if (status) {
		finish(o, status);
		return;
	}
	check_eq(reply_size, sizeof(o->io));
	memcpy(&o->io, reply, sizeof(o->io));
	o->reply_data_size = reply_data_size;
	if (o->op != OP_WRITE || le32_get(o->io.flags) & WIRE_IO_INODE_DONE) {
		finish(o, 0);
		return;
	}
	body = (struct wire_io){
		.ino = le64_put(o->ino),
		.offset = le64_put(o->offset + o->data_size),
		.generation = le32_put(o->generation),
	};
	memcpy(o->body, &body, sizeof(body));
	o->data = NULL;
	call(o, OP_EXTEND, ino_bucket(o->ino), sizeof(body), extend_done);
	o->data = data;
}

static void io_send(struct wop *o)
{
	struct wire_io body = {
		.ino = le64_put(o->ino),
		.offset = le64_put(o->offset),
		.length = le32_put(o->op == OP_WRITE ? o->data_size : o->reply_data_max),
		.generation = le32_put(o->generation),
		.flags = le32_put(o->append ? WIRE_IO_APPEND : 0),
	};

	/* Under a new generation it is another request. */
	seq_next(o);
	memcpy(o->body, &body, sizeof(body));
	call(o, o->op,
		chunk_bucket(o->ino, o->offset / WFS_CHUNK_SIZE, o->w->map->bucket_count),
		sizeof(body), io_done);
}

void wop_write(struct wop *o, struct world *w, ino_id ino, uint64_t offset,
	const void *data, uint32_t size)
{
	wop_init(o, w, OP_WRITE, "");
	o->ino = ino;
	o->offset = offset;
	o->data = data;
	o->data_size = size;
}

void wop_read(struct wop *o, struct world *w, ino_id ino, uint64_t offset, void *data,
	uint32_t size)
{
	wop_init(o, w, OP_READ, "");
	o->ino = ino;
	o->offset = offset;
	o->reply_data = data;
	o->reply_data_max = size;
	o->generation = UINT32_MAX;
}

/* --- running --- */

static void listing_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct wop *o = container_of(c, struct wop, call);

	if (status == 0) {
		check_eq(reply_size, sizeof(o->listing));
		memcpy(&o->listing, reply, sizeof(o->listing));
		o->reply_data_size = reply_data_size;
	}
	finish(o, status);
}

void wop_fixed(struct wop *o, const void *fixed, uint32_t size)
{
	memcpy(o->fixed, fixed, size);
	o->fixed_size = size;
}

void wop_stat(struct wop *o, struct world *w, ino_id ino)
{
	wop_init(o, w, OP_WALK, "");
	o->start = ino;
	o->mode = WIRE_NOFOLLOW;
}

void wop_close(struct wop *o, struct world *w, ino_id ino)
{
	wop_init(o, w, OP_CLOSE, "");
	o->ino = ino;
}

void wop_readdir(struct wop *o, struct world *w, ino_id ino, void *data, uint32_t size)
{
	wop_init(o, w, OP_READDIR, "");
	o->ino = ino;
	o->reply_data = data;
	o->reply_data_max = size;
}

static void close_send(struct wop *o)
{
	struct wire_ino wi = {.ino = le64_put(o->ino)};

	memcpy(o->body, &wi, sizeof(wi));
	call(o, OP_CLOSE, ino_bucket(o->ino), sizeof(wi), plain_done);
}

static void readdir_send(struct wop *o)
{
	struct wire_readdir body = {
		.ino = le64_put(o->ino), .cookie = o->listing.cookie};

	memcpy(o->body, &body, sizeof(body));
	call(o, OP_READDIR, ino_bucket(o->ino), sizeof(body), listing_done);
}

void wop_begin(struct wop *o)
{
	o->finished = false;
	seq_next(o);
	o->until_us = env_now_us(&o->w->env.env) +
		      (o->patience_us ? o->patience_us : PATIENCE_US);
	if (o->op == OP_WRITE && !o->known && !o->once)
		io_refresh(o);
	else if (o->op == OP_READ || o->op == OP_WRITE)
		io_send(o);
	else if (o->op == OP_CLOSE)
		close_send(o);
	else if (o->op == OP_READDIR)
		readdir_send(o);
	else
		step(o);
}

int wop_wait(struct wop *o)
{
	for (unsigned i = 0; !o->finished; i++) {
		check(i < TURNS_MAX, "op %s hangs, seed %llu", wire_op_name(o->op),
			(unsigned long long)o->w->seed);
		world_turn(o->w);
	}
	return o->status;
}

int wop_run(struct wop *o)
{
	wop_begin(o);
	return wop_wait(o);
}

/* --- plain calls --- */

/* One at a time: they are too big for the stack of every caller. */
static struct wop plain;

static int run_attr(struct attr *attr_out)
{
	int rc = wop_run(&plain);

	if (rc == 0 && attr_out) {
		check(plain.reply.flags & WIRE_WALK_HAS_ATTR);
		wire_attr_take(&plain.reply.attr, attr_out);
	}
	return rc;
}

int w_mkdir(struct world *w, const char *path, uint32_t mode)
{
	struct wire_mknod wm = {.mode = le32_put(mode)};
	struct attr attr;
	int rc;

	wop_init(&plain, w, OP_MKDIR, path);
	wop_fixed(&plain, &wm, sizeof(wm));
	rc = run_attr(&attr);
	if (rc == 0)
		check(S_ISDIR(attr.mode) && attr.ino != 0 && attr.nlink == 2);
	return rc;
}

int w_open(struct world *w, const char *path, int flags, uint32_t mode,
	struct attr *attr_out)
{
	struct wire_open wo = {
		.flags = le32_put((uint32_t)flags), .mode = le32_put(mode)};

	wop_init(&plain, w, OP_OPEN, path);
	wop_fixed(&plain, &wo, sizeof(wo));
	plain.mode = flags & O_NOFOLLOW ? WIRE_NOFOLLOW : WIRE_FOLLOW;
	return run_attr(attr_out);
}

int w_close(struct world *w, ino_id ino)
{
	wop_close(&plain, w, ino);
	return wop_run(&plain);
}

int w_reopen(struct world *w, ino_id ino, uint32_t count)
{
	struct wire_reopen wr = {.ino = le64_put(ino), .count = le32_put(count)};

	wop_init(&plain, w, OP_REOPEN, "");
	memcpy(plain.body, &wr, sizeof(wr));
	call(&plain, OP_REOPEN, ino_bucket(ino), sizeof(wr), plain_done);
	return wop_wait(&plain);
}

int w_create(struct world *w, const char *path, uint32_t mode, ino_id *ino_out)
{
	struct attr attr;
	int rc = w_open(w, path, O_CREAT | O_EXCL | O_RDWR, mode, &attr);

	if (rc == 0)
		rc = w_close(w, attr.ino);
	if (rc == 0 && ino_out)
		*ino_out = attr.ino;
	return rc;
}

int w_unlink(struct world *w, const char *path)
{
	wop_init(&plain, w, OP_UNLINK, path);
	return wop_run(&plain);
}

int w_rmdir(struct world *w, const char *path)
{
	wop_init(&plain, w, OP_RMDIR, path);
	return wop_run(&plain);
}

int w_link(struct world *w, const char *from, const char *to)
{
	wop_link(&plain, w, from, to);
	return wop_run(&plain);
}

int w_symlink(struct world *w, const char *target, const char *path)
{
	wop_init(&plain, w, OP_SYMLINK, path);
	strcpy(plain.extra, target);
	plain.extra_size = (uint32_t)strlen(target);
	return wop_run(&plain);
}

int w_readlink(struct world *w, const char *path, char *target_out)
{
	int rc;

	wop_init(&plain, w, OP_READLINK, path);
	plain.mode = WIRE_NOFOLLOW;
	rc = wop_run(&plain);
	if (rc == 0)
		strcpy(target_out, plain.target);
	return rc;
}

int w_rename(struct world *w, const char *from, const char *to, unsigned flags)
{
	wop_rename(&plain, w, from, to, flags);
	return wop_run(&plain);
}

int w_stat(struct world *w, const char *path, struct attr *attr_out)
{
	wop_init(&plain, w, OP_WALK, path);
	return run_attr(attr_out);
}

int w_lstat(struct world *w, const char *path, struct attr *attr_out)
{
	wop_init(&plain, w, OP_WALK, path);
	plain.mode = WIRE_NOFOLLOW;
	return run_attr(attr_out);
}

int w_fstat(struct world *w, ino_id ino, struct attr *attr_out)
{
	wop_stat(&plain, w, ino);
	return run_attr(attr_out);
}

static int setattr(struct world *w, const char *path, const struct wire_setattr *ws)
{
	wop_init(&plain, w, OP_SETATTR, path);
	wop_fixed(&plain, ws, sizeof(*ws));
	return run_attr(NULL);
}

int w_chmod(struct world *w, const char *path, uint32_t mode)
{
	return setattr(w, path,
		&(struct wire_setattr){
			.mask = le32_put(SET_MODE), .mode = le32_put(mode)});
}

int w_chown(struct world *w, const char *path, uint32_t uid, uint32_t gid)
{
	return setattr(w, path,
		&(struct wire_setattr){.mask = le32_put(SET_UID | SET_GID),
			.uid = le32_put(uid),
			.gid = le32_put(gid)});
}

int w_truncate(struct world *w, const char *path, uint64_t size)
{
	struct attr attr;
	int rc = setattr(w, path,
		&(struct wire_setattr){
			.mask = le32_put(SET_SIZE), .size = le64_put(size)});

	if (rc == 0 && plain.reply.flags & WIRE_WALK_PURGING)
		rc = w_fstat(w, le64_get(plain.reply.attr.ino), &attr);
	return rc;
}

static size_t piece_size(uint64_t offset, size_t size)
{
	uint64_t room = WFS_CHUNK_SIZE - offset % WFS_CHUNK_SIZE;

	return size < room ? size : room;
}

int w_write(struct world *w, ino_id ino, const void *data, size_t size, uint64_t offset)
{
	while (size > 0) {
		size_t piece = piece_size(offset, size);
		int rc;

		wop_write(&plain, w, ino, offset, data, (uint32_t)piece);
		rc = wop_run(&plain);
		if (rc)
			return rc;
		data = (const char *)data + piece;
		offset += piece;
		size -= piece;
	}
	return 0;
}

int w_read(struct world *w, ino_id ino, void *data, size_t size, uint64_t offset)
{
	struct attr attr;
	size_t done = 0;
	int rc = w_fstat(w, ino, &attr);

	if (rc)
		return rc;
	if (offset >= attr.size_bytes)
		return 0;
	if (size > attr.size_bytes - offset)
		size = attr.size_bytes - offset;
	memset(data, 0x5c, size);
	while (done < size) {
		size_t piece = piece_size(offset + done, size - done);

		wop_read(&plain, w, ino, offset + done, (char *)data + done,
			(uint32_t)piece);
		rc = wop_run(&plain);
		if (rc)
			return rc;
		/* What does not come is a hole, or was cut meanwhile. */
		memset((char *)data + done + plain.reply_data_size, 0,
			piece - plain.reply_data_size);
		done += piece;
	}
	return (int)size;
}

int w_readdir(struct world *w, ino_id ino,
	void (*fn)(void *ctx, const struct wire_dirent *d, const char *name), void *ctx)
{
	static uint8_t data[4096];
	le64 cookie = le64_put(0);
	int count = 0;

	do {
		int rc;

		wop_readdir(&plain, w, ino, data, sizeof(data));
		plain.listing.cookie = cookie;
		rc = wop_run(&plain);
		if (rc)
			return rc;
		for (uint32_t at = 0; at < plain.reply_data_size;) {
			struct wire_dirent d;

			memcpy(&d, data + at, sizeof(d));
			if (fn)
				fn(ctx, &d, (const char *)data + at + sizeof(d));
			at += (uint32_t)WIRE_DIRENT_SIZE(le16_get(d.name_size));
			count++;
		}
		cookie = plain.listing.cookie;
	} while (!plain.listing.eof);
	return count;
}

/*
 * A session server in a thread, on a real ring, with a toy namespace behind it:
 *
 *   /file  /moved (another bucket)  /link -> file  /abs -> /wfs/file  /out -> /etc
 *   /loop -> loop  /renamed (a symlink in another bucket) -> file  /stale (once -ESTALE)
 *   /d/... names under a directory that may be made or removed at will
 *
 * and one file's data. Bucket 2 answers after a delay, bucket 3 never; with `mute` nothing
 * is done or answered at all.
 */
#ifndef TEST_CLIENT_SERVER_H
#define TEST_CLIENT_SERVER_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/session/session.h"
#include "shim/client/client.h"
#include "shim/client/shm.h"

#define FILE_INO    ((ino_id)0 << 48 | 10)
#define MOVED_INO   ((ino_id)1 << 48 | 11)
#define RENAMED_INO ((ino_id)1 << 48 | 12)
#define DIR_INO     ((ino_id)1 << 48 | 13)
#define DATA_SIZE   (12u << 20)
#define DELAY_BUCKET 2
#define NEVER_BUCKET 3
#define DELAY_US    3000
#define HELD_MAX    256
#define SEEN_MAX    512

/* A request as it came. */
struct seen {
	uint16_t op;
	uint16_t slot;
	uint32_t seq;
	uint64_t session;
};

struct server {
	pthread_t thread;
	pthread_barrier_t ready;
	char path[64];
	struct map *map;
	int rc;
	_Atomic bool stop;
	_Atomic uint32_t ended;
	_Atomic uint32_t gone;
	_Atomic uint64_t ended_session;
	_Atomic uint32_t requests;
	_Atomic uint32_t sessions;
	_Atomic uint32_t closes;
	_Atomic uint32_t extends;
	_Atomic uint32_t peak; /* of requests held at once */
	_Atomic int stale_names;
	_Atomic int stale_writes;
	_Atomic int long_cut; /* getattrs before a cut has ended */
	_Atomic bool holes;
	_Atomic uint32_t last_uid;
	_Atomic uint32_t last_gid;
	_Atomic uint32_t last_group; /* of the supplementary ones; 0: there is none */
	_Atomic uint32_t last_flags;
	_Atomic uint32_t last_op;
	char last_name[512];
	_Atomic bool mute;
	_Atomic uint32_t reopens; /* sum of their counts */
	struct seen seen[SEEN_MAX];
	_Atomic uint32_t seen_count;
	/* the file */
	uint8_t *data;
	uint64_t size;
	uint32_t generation;
	uint32_t oldest; /* generation that chunks above 0 take */
	/* under way */
	struct request *held[HELD_MAX];
	uint64_t held_until[HELD_MAX];
	uint32_t held_count;
	struct session_server *sessions_of;
};

static void attr_put(struct server *s, struct wire_attr *a, ino_id ino)
{
	uint32_t mode = S_IFREG | 0644;

	if (ino == WFS_ROOT_INO || ino == DIR_INO)
		mode = S_IFDIR | 0755;
	if (ino == RENAMED_INO)
		mode = S_IFLNK | 0777;
	*a = (struct wire_attr){
		.ino = le64_put(ino),
		.mode = le32_put(mode),
		.nlink = le32_put(1),
		.size = le64_put(s->size),
		.generation = le32_put(s->generation),
		.parent = le64_put(WFS_ROOT_INO),
	};
}

static int walk_end(struct server *s, struct request *req, uint8_t end, ino_id ino,
	size_t consumed, const char *target)
{
	struct wire_walk_reply *r = req->reply;

	*r = (struct wire_walk_reply){
		.end = end,
		.ino = le64_put(ino),
		.consumed = le32_put((uint32_t)consumed),
	};
	req->reply_size = sizeof(*r);
	if (target) {
		r->target_size = le16_put((uint16_t)strlen(target));
		memcpy(r + 1, target, strlen(target));
		req->reply_size += (uint32_t)strlen(target);
	} else if (end == WIRE_DONE) {
		r->flags = WIRE_WALK_HAS_ATTR;
		attr_put(s, &r->attr, ino);
	}
	return 0;
}

static size_t path_fixed(uint16_t op)
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

/* What the walk does at the root with the first component. */
static int walk_root(struct server *s, struct request *req, const char *path, uint8_t mode)
{
	static const struct {
		const char *name;
		const char *target;
	} links[] = {{"link", "file"}, {"abs", "/wfs/file"}, {"out", "/etc"},
		{"loop", "loop"}, {"dirlink", "/wfs//d"}, {"rootlink", "/wfs"}};
	size_t skip = strspn(path, "/"), size = strcspn(path + skip, "/");
	const char *name = path + skip;
	bool last = path[skip + size] == 0;

	if (size == 0)
		return walk_end(s, req, WIRE_DONE, WFS_ROOT_INO, strlen(path), NULL);
	if (size == 2 && !memcmp(name, "..", 2))
		return walk_end(s, req, WIRE_ABOVE, WFS_ROOT_INO, skip + size, NULL);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (strlen(links[i].name) == size && !memcmp(links[i].name, name, size) &&
			(!last || mode == WIRE_FOLLOW))
			return walk_end(s, req, WIRE_SYMLINK, WFS_ROOT_INO, skip + size,
				links[i].target);
	if (size == 5 && !memcmp(name, "moved", 5))
		return walk_end(s, req, WIRE_MOVED, MOVED_INO, skip + size, NULL);
	if (size == 7 && !memcmp(name, "renamed", 7))
		return walk_end(s, req, WIRE_MOVED, RENAMED_INO, skip + size, NULL);
	if (size == 1 && *name == 'd')
		return walk_end(s, req, WIRE_MOVED, DIR_INO, skip + size, NULL);
	if (size == 5 && !memcmp(name, "stale", 5) && atomic_fetch_sub(&s->stale_names, 1) > 0)
		return -ESTALE;
	if (size == 6 && !memcmp(name, "absent", 6))
		return -ENOENT;
	if (!last)
		return -ENOTDIR;
	return walk_end(s, req, WIRE_DONE, FILE_INO, strlen(path), NULL);
}

static int handle_path(struct server *s, struct request *req)
{
	const struct wire_path *wp = req->body;
	char path[WFS_PATH_MAX + 1];
	size_t size = le16_get(wp->path_size);
	ino_id start = le64_get(wp->start);
	const char *last;
	int rc;

	memcpy(path, (const char *)req->body + path_fixed(req->op), size);
	path[size] = 0;
	if (req->op == OP_READLINK && start == RENAMED_INO) {
		struct wire_walk_reply *r = req->reply;

		walk_end(s, req, WIRE_DONE, start, 0, "file");
		r->flags = WIRE_WALK_HAS_ATTR;
		attr_put(s, &r->attr, start);
		return 0;
	}
	if (req->op == OP_READLINK)
		return -EINVAL;
	if (size == 0 && req->op == OP_OPEN && start == RENAMED_INO)
		return -ELOOP;
	if (size == 0 && req->op == OP_WALK && atomic_load(&s->long_cut) > 0) {
		atomic_fetch_sub(&s->long_cut, 1);
		return -EINPROGRESS;
	}
	if (size == 0)
		return walk_end(s, req, WIRE_DONE, start, 0, NULL);
	if (start == MOVED_INO || start == FILE_INO)
		return -ENOTDIR;
	if (start == WFS_ROOT_INO)
		return walk_root(s, req, path, wp->mode);
	/* in /d */
	last = path + strspn(path, "/");
	if (*last == 0)
		return walk_end(s, req, WIRE_DONE, start, 0, NULL);
	rc = walk_end(s, req, WIRE_DONE, wp->mode == WIRE_PARENT ? start : FILE_INO, size,
		NULL);
	if (wp->mode == WIRE_PARENT) {
		struct wire_walk_reply *r = req->reply;

		if (!strcmp(last, "."))
			return -EINVAL;
		if (!strcmp(last, ".."))
			return -ENOTEMPTY;
		r->name_at = le32_put((uint32_t)(last - path));
		r->name_size = le32_put((uint32_t)strcspn(last, "/"));
		if (last[strcspn(last, "/")])
			r->flags |= WIRE_WALK_MUST_BE_DIR;
		snprintf(s->last_name, sizeof(s->last_name), "%s", last);
	}
	return rc;
}

/* With long_cut, a truncate says that its chunks are not cut yet. */
static int handle_path_op(struct server *s, struct request *req)
{
	const struct wire_setattr *ws = req->body;
	struct wire_walk_reply *r = req->reply;
	bool cuts = req->op == OP_SETATTR && le32_get(ws->mask) & CLIENT_SET_SIZE;
	int rc;

	if (cuts)
		s->size = le64_get(ws->size);
	rc = handle_path(s, req);
	if (!rc && atomic_load(&s->long_cut) > 0 &&
		(cuts || (req->op == OP_OPEN && atomic_load(&s->last_flags) & O_TRUNC)))
		r->flags |= WIRE_WALK_PURGING;
	return rc;
}

static int handle_io(struct server *s, struct request *req)
{
	const struct wire_io *io = req->body;
	struct wire_io_reply *r = req->reply;
	uint64_t offset = le64_get(io->offset), length = le32_get(io->length);
	bool inode = offset < WFS_CHUNK_SIZE;

	if (req->op != OP_READ && atomic_load(&s->stale_writes) > 0 &&
		atomic_fetch_sub(&s->stale_writes, 1) > 0)
		return -ESTALE;
	if (req->op != OP_READ && le32_get(io->generation) != s->generation)
		return -ESTALE;
	if (req->op == OP_READ && !inode && le32_get(io->generation) < s->oldest)
		return -ESTALE;
	*r = (struct wire_io_reply){.length = le32_put((uint32_t)length)};
	req->reply_size = sizeof(*r);
	if (req->op == OP_APPEND) {
		r->offset = le64_put(s->size);
		s->size += length;
		inode = true;
	} else if (req->op == OP_EXTEND) {
		atomic_fetch_add(&s->extends, 1);
		if (offset > s->size)
			s->size = offset;
		inode = true;
	} else if (req->op == OP_WRITE) {
		if (le32_get(io->flags) & WIRE_IO_APPEND) {
			if (s->size + length > WFS_CHUNK_SIZE)
				return -EFBIG;
			offset = s->size;
			inode = true;
		}
		r->offset = le64_put(offset);
		if (offset + length > DATA_SIZE)
			return -ENOSPC;
		memcpy(s->data + offset, req->data, length);
		if (inode && offset + length > s->size)
			s->size = offset + length;
	} else {
		if (offset + length > DATA_SIZE)
			length = offset < DATA_SIZE ? DATA_SIZE - offset : 0;
		if (inode && offset + length > s->size)
			length = offset < s->size ? s->size - offset : 0;
		memcpy(req->reply_data, s->data + offset, length);
		req->reply_data_size = (uint32_t)length;
		r->length = le32_put((uint32_t)length);
		r->flags = le32_put(atomic_load(&s->holes) ? WIRE_IO_HOLE : 0);
	}
	if (inode) {
		r->flags = le32_put(WIRE_IO_INODE_DONE);
		r->size = le64_put(s->size);
		r->generation = le32_put(s->generation);
	}
	return 0;
}

static int handle_readdir(struct server *s, struct request *req)
{
	static const char *names[] = {".", "..", "d", "file", "sevenen", "eightlet"};
	const struct wire_readdir *rd = req->body;
	struct wire_readdir_reply *r = req->reply;
	uint64_t cookie = le64_get(rd->cookie);
	uint8_t *out = req->reply_data;

	(void)s;
	*r = (struct wire_readdir_reply){.eof = 1};
	req->reply_size = sizeof(*r);
	for (; cookie < 6; cookie++) {
		size_t size = WIRE_DIRENT_SIZE(strlen(names[cookie]));
		struct wire_dirent e = {
			.ino = le64_put(cookie == 2 ? DIR_INO : 100 + cookie),
			.cookie = le64_put(cookie + 1),
			.name_size = le16_put((uint16_t)strlen(names[cookie])),
		};

		memset(out, 0, size);
		memcpy(out, &e, sizeof(e));
		memcpy(out + sizeof(e), names[cookie], strlen(names[cookie]));
		out += size;
		req->reply_data_size += (uint32_t)size;
	}
	return 0;
}

static int handle(struct server *s, struct request *req)
{
	switch (req->op) {
	case OP_PING:
		return 0;
	case OP_CLOSE:
		atomic_fetch_add(&s->closes, 1);
		return 0;
	case OP_REOPEN:
		atomic_fetch_add(&s->reopens,
			le32_get(((const struct wire_reopen *)req->body)->count));
		return 0;
	case OP_READ:
	case OP_WRITE:
	case OP_EXTEND:
	case OP_APPEND:
		return handle_io(s, req);
	case OP_READDIR:
		return handle_readdir(s, req);
	case OP_RENAME:
		return 0;
	case OP_SHARD_STATS: {
		struct wire_shard_stats *stats = req->reply;

		*stats = (struct wire_shard_stats){.size_bytes = le64_put(1000),
			.free_bytes = le64_put(400), .inodes = le64_put(7)};
		req->reply_size = sizeof(*stats);
		return 0;
	}
	default:
		return handle_path_op(s, req);
	}
}

static void see(struct server *s, const struct request *req)
{
	uint32_t i = atomic_load(&s->seen_count);

	if (i == SEEN_MAX)
		return;
	s->seen[i] = (struct seen){req->op, req->slot, req->seq, req->session};
	atomic_store(&s->seen_count, i + 1);
}

static void server_submit(void *ctx, struct request *req)
{
	struct server *s = ctx;

	see(s, req);
	atomic_fetch_add(&s->requests, 1);
	atomic_store(&s->last_uid, req->cred.uid);
	atomic_store(&s->last_gid, req->cred.gid);
	atomic_store(&s->last_group, req->cred.group_count
					     ? req->cred.groups[req->cred.group_count - 1]
					     : 0);
	atomic_store(&s->last_op, req->op);
	if (req->op == OP_OPEN)
		atomic_store(&s->last_flags,
			le32_get(((const struct wire_open *)req->body)->flags));
	if (atomic_load(&s->mute) || (!(req->flags & HEAD_TO_SHARD) &&
					     req->op == OP_PING &&
					     req->bucket >= DELAY_BUCKET)) {
		uint32_t i = s->held_count++;

		s->held[i] = req;
		s->held_until[i] = !atomic_load(&s->mute) && req->bucket == DELAY_BUCKET ?
			env_now_us(env_real()) + DELAY_US : UINT64_MAX;
		if (s->held_count > atomic_load(&s->peak))
			atomic_store(&s->peak, s->held_count);
		return;
	}
	req->done(req, handle(s, req));
}

static void server_ended(void *ctx, uint64_t session)
{
	struct server *s = ctx;

	atomic_store(&s->ended_session, session);
	atomic_fetch_add(&s->ended, 1);
}

static void server_release_held(struct server *s, bool all)
{
	uint64_t now = env_now_us(env_real());

	for (uint32_t i = 0; i < s->held_count;) {
		struct request *req = s->held[i];

		/* A shard fails what has waited too long; so do we. */
		if (!all && s->held_until[i] > now && req->deadline_us > now) {
			i++;
			continue;
		}
		s->held_count--;
		s->held[i] = s->held[s->held_count];
		s->held_until[i] = s->held_until[s->held_count];
		req->done(req, 0);
	}
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	struct ring *ring = NULL;
	struct session_options opt = {.env = env_real(), .socket_path = s->path,
		.map = s->map, .submit = server_submit, .ended = server_ended, .ctx = s};
	uint64_t busy_us = 0;

	s->rc = ring_new(64, &ring);
	opt.ring = ring;
	if (!s->rc)
		s->rc = session_server_new(&opt, &s->sessions_of);
	pthread_barrier_wait(&s->ready);
	while (!s->rc && !atomic_load(&s->stop)) {
		uint64_t now = env_now_us(env_real());
		unsigned count = session_poll(s->sessions_of);

		if (ring_wait(ring, 0) > 0 || count)
			busy_us = now;
		server_release_held(s, false);
		atomic_store(&s->sessions, session_count(s->sessions_of));
		if (now - busy_us < 50 || !session_sleep(s->sessions_of))
			continue;
		ring_wait(ring, s->held_count ? 500 : 20000);
		session_awake(s->sessions_of);
	}
	if (!s->rc)
		session_server_free(s->sessions_of);
	server_release_held(s, true);
	ring_free(ring);
	atomic_store(&s->gone, 1);
	return NULL;
}

/* old: whose path and file it takes over, or NULL. */
static struct server *server_start_after(struct server *old, uint32_t timeout_ms)
{
	static int serial;
	struct server *s = calloc(1, sizeof(*s));
	sigset_t all, before;

	s->map = map_new(1, 2, 4, 1);
	s->map->epoch = 1;
	s->map->timeout_ms = timeout_ms;
	s->map->filesystems[0].root = WFS_ROOT_INO;
	snprintf(s->map->filesystems[0].name, sizeof(s->map->filesystems[0].name), "main");
	s->data = old ? old->data : calloc(1, DATA_SIZE);
	s->size = old ? old->size : 0;
	s->generation = 1;
	if (old)
		snprintf(s->path, sizeof(s->path), "%s", old->path);
	else
		snprintf(s->path, sizeof(s->path), "/tmp/wfs-client-%d-%d", (int)getpid(),
			serial++);
	pthread_barrier_init(&s->ready, NULL, 2);
	/* A handler that calls the server is not to run on the server's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_create(&s->thread, NULL, server_main, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_barrier_wait(&s->ready);
	return s;
}

static struct server *server_start(uint32_t timeout_ms)
{
	return server_start_after(NULL, timeout_ms);
}

static void server_stop(struct server *s)
{
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	map_free(s->map);
	free(s->data);
	free(s);
}

#define TIMEOUT_MS 2000

static struct server *server;
static struct client *client;

static void up(void)
{
	server = server_start(TIMEOUT_MS);
	cr_assert_eq(server->rc, 0, "server: %d", server->rc);
	cr_assert_eq(client_attach(server->path, "main", "/wfs", &client), 0);
}

static void down(void)
{
	client_detach(client);
	server_stop(server);
	cr_assert_eq(mem_live_count(), 0);
}

static int ping(struct client *c, uint16_t bucket)
{
	struct client_raw raw = {.op = OP_PING, .target = bucket};

	return client_raw(c, &raw);
}

static bool eventually(const _Atomic uint32_t *value, uint32_t want)
{
	for (int i = 0; i < 5000; i++) {
		if (atomic_load(value) == want)
			return true;
		poll(NULL, 0, 1);
	}
	return false;
}

#endif

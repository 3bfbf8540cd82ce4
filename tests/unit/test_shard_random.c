/*
 * Random operations by several clients at once.
 *
 * A storm: few names, so that everything conflicts with everything. Whatever comes of it,
 * every operation ends, with an error that makes sense, and the whole fits together.
 *
 * A model: each client in a directory of its own does the same things there and in a
 * directory of this machine's file system, which knows the right answers. Shards are
 * killed meanwhile; an operation that was acknowledged is there, one that ended with -EIO
 * has wholly happened or not at all.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "tests/lib/world.h"

#define CLIENTS   3u
#define PATH_ROOM 256
#define WRITE_MAX 9000u
#define FILE_MAX  (2500u << 10)

static struct world world, *w = &world;

struct client {
	struct wop op;
	bool busy;
	char base[PATH_ROOM]; /* in the model's file system */
	char from[PATH_ROOM];
	char to[PATH_ROOM];
	unsigned flags;
	int kind;
	uint64_t size;
	uint64_t offset;
	uint8_t data[WRITE_MAX];
	uint32_t data_size;
};

static struct client clients[CLIENTS];
static bool late;

static uint32_t pick(uint32_t n)
{
	return (uint32_t)(world_random(w) % n);
}

static void start(uint32_t shards, uint64_t seed)
{
	world_init(w, &(struct world_options){.shard_count = shards,
			      .seed = seed,
			      .disk_bytes = 80u << 20,
			      .segment_bytes = 2u << 20});
	w->shuffle = true;
	w->lossy = late;
	memset(clients, 0, sizeof(clients));
}

static void end(unsigned allow)
{
	world_check(w, allow);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left, seed %llu",
		mem_live_count(), (unsigned long long)w->seed);
}

/* One to three components of few names, under `top`. */
static void path_pick(char *out, const char *top)
{
	uint32_t depth = 1 + pick(3);

	strcpy(out, top);
	for (uint32_t i = 0; i < depth; i++)
		sprintf(out + strlen(out), "/%c", 'a' + (int)pick(4));
}

/* --- operations --- */

enum kind { CREATE, MKDIR, RMDIR, UNLINK, RENAME, LINK, SYMLINK, WRITE, CUT, KINDS };

static void fixed_set(struct wop *o, const void *fixed, uint32_t size)
{
	memcpy(o->fixed, fixed, size);
	o->fixed_size = size;
}

static void op_make(struct client *c)
{
	struct wire_mknod wm = {
		.mode = le32_put(c->kind == MKDIR ? 0755 : S_IFREG | 0644)};
	struct wire_setattr ws = {.mask = le32_put(SET_SIZE), .size = le64_put(c->size)};
	static const uint16_t ops[] = {[CREATE] = OP_MKNOD,
		[MKDIR] = OP_MKDIR,
		[RMDIR] = OP_RMDIR,
		[UNLINK] = OP_UNLINK,
		[SYMLINK] = OP_SYMLINK,
		[CUT] = OP_SETATTR};
	struct wop *o = &c->op;

	if (c->kind == RENAME) {
		wop_rename(o, w, c->from, c->to, c->flags);
		return;
	}
	if (c->kind == LINK) {
		wop_link(o, w, c->from, c->to);
		return;
	}
	wop_init(o, w, ops[c->kind], c->from);
	if (c->kind == CREATE || c->kind == MKDIR)
		fixed_set(o, &wm, sizeof(wm));
	if (c->kind == CUT) {
		fixed_set(o, &ws, sizeof(ws));
		o->mode = WIRE_NOFOLLOW;
	}
	if (c->kind == SYMLINK) {
		strcpy(o->extra, "a/b");
		o->extra_size = 3;
	}
}

static void op_pick(struct client *c, const char *top)
{
	static const int kinds[] = {CREATE, CREATE, MKDIR, MKDIR, MKDIR, RMDIR, UNLINK,
		RENAME, RENAME, RENAME, RENAME, LINK, SYMLINK, CUT};

	c->kind = kinds[pick(sizeof(kinds) / sizeof(kinds[0]))];
	path_pick(c->from, top);
	path_pick(c->to, top);
	c->flags =
		(const unsigned[]){0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE}[pick(5)];
	c->size = pick(3) ? pick(20000) : pick(FILE_MAX);
}

static bool sensible(int status)
{
	switch (-status) {
	case 0:
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case EEXIST:
	case ENOTEMPTY:
	case EINVAL:
	case EPERM:
	case ELOOP: return true;
	default: return false;
	}
}

/* --- the storm --- */

static void storm(uint32_t shards, uint64_t seed, unsigned count, bool crashes)
{
	unsigned done = 0;

	start(shards, seed);
	while (done < count) {
		for (unsigned i = 0; i < CLIENTS; i++) {
			struct client *c = &clients[i];

			if (c->busy && !c->op.finished)
				continue;
			if (c->busy) {
				cr_assert(sensible(c->op.status) ||
						  ((crashes || late) &&
							  (c->op.status == -EIO ||
								  c->op.status ==
									  -ETIMEDOUT)),
					"op %s: %d, seed %llu", wire_op_name(c->op.op),
					c->op.status, (unsigned long long)seed);
				done++;
			}
			op_pick(c, "");
			op_make(c);
			wop_begin(&c->op);
			c->busy = true;
		}
		if (crashes && pick(3000) == 0)
			world_restart(w, pick(shards));
		world_turn(w);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		wop_wait(&clients[i].op);
	end(crashes || late ? CHECK_STRAYS : 0);
}

/* WORLD_SEED begins elsewhere, WORLD_SEEDS makes it more or fewer. */
static uint64_t seed_first(void)
{
	const char *text = getenv("WORLD_SEED");

	return text ? strtoull(text, NULL, 0) : 1;
}

static uint64_t seed_last(uint64_t count)
{
	const char *text = getenv("WORLD_SEEDS");

	return seed_first() + (text ? strtoull(text, NULL, 0) : count) - 1;
}

Test(shard_random, storm)
{
	for (uint64_t seed = seed_first(); seed <= seed_last(24); seed++)
		storm(1 + (uint32_t)seed % 3, seed, 400, false);
	storm(2, 1105, 400, false); /* once left an orphan behind */
}

Test(shard_random, storm_with_crashes)
{
	for (uint64_t seed = seed_first(); seed <= seed_last(24); seed++)
		storm(1 + (uint32_t)seed % 3, seed, 400, true);
}

/* Calls that end by their timeout, and arrive all the same. */
Test(shard_random, storm_with_late_messages)
{
	for (uint64_t seed = seed_first(); seed <= seed_last(16); seed++) {
		late = true;
		storm(2 + (uint32_t)seed % 2, seed, 300, seed % 2);
	}
}

/* --- the model --- */

static void real_path(const struct client *c, const char *path, char *out)
{
	snprintf(out, 2 * PATH_ROOM, "%s%s", c->base, path);
}

static int real_write(struct client *c, const char *path)
{
	int fd = open(path, O_WRONLY);
	ssize_t n = pwrite(fd, c->data, c->data_size, (off_t)c->offset);

	cr_assert_eq(n, (ssize_t)c->data_size);
	close(fd);
	return 0;
}

/* Do it here: 0 or errno. */
static int real_do(struct client *c)
{
	char from[2 * PATH_ROOM], to[2 * PATH_ROOM];
	struct stat st;
	int rc;

	real_path(c, c->from, from);
	real_path(c, c->to, to);
	switch (c->kind) {
	case CREATE: rc = mknod(from, S_IFREG | 0644, 0); break;
	case MKDIR: rc = mkdir(from, 0755); break;
	case RMDIR: rc = rmdir(from); break;
	case UNLINK: rc = unlink(from); break;
	case RENAME: rc = renameat2(AT_FDCWD, from, AT_FDCWD, to, c->flags); break;
	case LINK: rc = link(from, to); break;
	case SYMLINK: rc = symlink("a/b", from); break;
	case WRITE: rc = real_write(c, from); break;
	default:
		/* WFS is told not to follow. */
		rc = lstat(from, &st);
		if (rc == 0 && S_ISLNK(st.st_mode)) {
			errno = EINVAL;
			rc = -1;
		} else if (rc == 0) {
			rc = truncate(from, (off_t)c->size);
		}
	}
	return rc ? -errno : 0;
}

static bool real_is_file(const struct client *c, const char *path)
{
	char full[2 * PATH_ROOM];
	struct stat st;

	real_path(c, path, full);
	return lstat(full, &st) == 0 && S_ISREG(st.st_mode);
}

static bool same_content(const char *full, ino_id ino, uint64_t size)
{
	static uint8_t ours[FILE_MAX + WRITE_MAX], theirs[FILE_MAX + WRITE_MAX];
	int fd = open(full, O_RDONLY), n;
	ssize_t m;

	cr_assert_leq(size, sizeof(ours));
	m = read(fd, theirs, sizeof(theirs));
	close(fd);
	n = w_read(w, ino, ours, sizeof(ours), 0);
	return n == (int)m && m == (ssize_t)size && memcmp(ours, theirs, size) == 0;
}

static char differs_at[PATH_ROOM]; /* for the message */

static bool same_tree(const struct client *c, const char *path);

static bool same_here(const struct client *c, const char *path)
{
	char full[2 * PATH_ROOM], below[2 * PATH_ROOM];
	struct dirent *de;
	struct stat st;
	struct attr a;
	bool same = true;
	int count = 0;
	DIR *dir;

	real_path(c, path, full);
	if (lstat(full, &st) != 0)
		return w_lstat(w, path, &a) == -ENOENT;
	if (w_lstat(w, path, &a) != 0 || (st.st_mode & S_IFMT) != (a.mode & S_IFMT))
		return false;
	if (S_ISREG(a.mode))
		return a.size_bytes == (uint64_t)st.st_size && a.nlink == st.st_nlink &&
		       same_content(full, a.ino, a.size_bytes);
	if (!S_ISDIR(a.mode))
		return true;
	dir = opendir(full);
	while (same && (de = readdir(dir))) {
		count++;
		if (de->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, de->d_name);
		same = same_tree(c, below);
	}
	closedir(dir);
	return same && w_readdir(w, a.ino, NULL, NULL) == count;
}

/* Whether the trees at path are the same, all the way down. */
static bool same_tree(const struct client *c, const char *path)
{
	bool same = same_here(c, path);

	if (!same && strlen(path) > strlen(differs_at))
		strcpy(differs_at, path);
	return same;
}

static void restart_dead(void)
{
	for (uint32_t i = 0; i < w->shard_count; i++)
		if (!w->shards[i].alive)
			world_restart(w, i);
}

/* Errors that differ in which of two reasons comes first. */
static bool same_error(const struct client *c, int ours, int theirs)
{
	if (ours == theirs)
		return true;
	if (c->kind == RENAME)
		return (ours == -EISDIR || ours == -ENOTDIR || ours == -EINVAL ||
			       ours == -ENOTEMPTY || ours == -ENOENT ||
			       ours == -EEXIST) &&
		       theirs < 0;
	return c->kind == LINK && ours < 0 && theirs < 0;
}

/* The operation ended in a way that says nothing: look which of both it was. */
static void settle(struct client *c)
{
	unsigned i = (unsigned)(c - clients);
	char top[16];

	snprintf(top, sizeof(top), "/c%u", i);
	restart_dead();
	world_quiesce(w);
	if (c->kind == WRITE || c->kind == CUT) {
		/* May be half done; done again it is whole. */
		c->op.tries = 0;
		if (c->kind == CUT)
			op_make(c);
		cr_assert(wop_run(&c->op) == 0 || c->kind == CUT);
		cr_assert_eq(real_do(c), c->op.status);
	} else if (!same_tree(c, top)) {
		cr_assert_eq(real_do(c), 0, "client %u: %s %s %s, seed %llu", i,
			wire_op_name(c->op.op), c->from, c->to,
			(unsigned long long)w->seed);
	}
	differs_at[0] = 0;
	cr_assert(same_tree(c, top), "client %u: after %s %s %s: %s differs, seed %llu",
		i, wire_op_name(c->op.op), c->from, c->to, differs_at,
		(unsigned long long)w->seed);
}

static void answer_take(struct client *c)
{
	int status = c->op.status, real;

	c->busy = false;
	if (status == -EIO || status == -ETIMEDOUT)
		return; /* settled when the others have ended too */
	real = real_do(c);
	cr_assert(same_error(c, status, real), "%s %s %s flags %u: %d, not %d, seed %llu",
		wire_op_name(c->op.op), c->from, c->to, c->flags, status, real,
		(unsigned long long)w->seed);
}

/* A write into a file that is there; false when there is none to be found. */
static bool write_pick(struct client *c, const char *top)
{
	struct attr a;
	unsigned tries = 0;

	do {
		path_pick(c->from, top);
		if (++tries > 10)
			return false;
	} while (!real_is_file(c, c->from));
	if (w_lstat(w, c->from, &a) != 0)
		return false;
	c->kind = WRITE;
	c->offset = pick(3) ? pick(30000) : pick(FILE_MAX - WRITE_MAX);
	c->data_size = 1 + pick(WRITE_MAX - 1);
	if (c->offset % WFS_CHUNK_SIZE + c->data_size > WFS_CHUNK_SIZE)
		c->data_size = (uint32_t)(WFS_CHUNK_SIZE - c->offset % WFS_CHUNK_SIZE);
	for (uint32_t i = 0; i < c->data_size; i++)
		c->data[i] = (uint8_t)world_random(w);
	wop_write(&c->op, w, a.ino, c->offset, c->data, c->data_size);
	return true;
}

/* All end; then what is in doubt is settled. */
static void settle_all(void)
{
	bool doubt[CLIENTS];

	restart_dead();
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &clients[i];

		doubt[i] = false;
		if (c->busy) {
			wop_wait(&c->op);
			answer_take(c);
		}
		doubt[i] = c->op.status == -EIO || c->op.status == -ETIMEDOUT;
	}
	w->lossy = false;
	for (unsigned i = 0; i < CLIENTS; i++)
		if (doubt[i]) {
			settle(&clients[i]);
			clients[i].op.status = 0;
		}
	w->lossy = late;
}

static void bases_make(void)
{
	char top[16], path[2 * PATH_ROOM];

	for (unsigned i = 0; i < CLIENTS; i++) {
		snprintf(clients[i].base, PATH_ROOM, "/tmp/wfs-shard-random-%d",
			(int)getpid());
		mkdir(clients[i].base, 0700);
		snprintf(top, sizeof(top), "/c%u", i);
		real_path(&clients[i], top, path);
		cr_assert_eq(mkdir(path, 0755), 0);
		cr_assert_eq(w_mkdir(w, top, 0755), 0);
	}
}

static void bases_remove(void)
{
	char command[2 * PATH_ROOM];

	snprintf(command, sizeof(command), "rm -rf %s", clients[0].base);
	cr_assert_eq(system(command), 0);
}

static void model_run(uint32_t shards, uint64_t seed, unsigned count)
{
	uint64_t restart_at = 0;

	start(shards, seed);
	w->lossy = false;
	bases_make();
	w->lossy = late;
	for (unsigned turn = 0; count > 0; turn++) {
		bool doubt = false;

		for (unsigned i = 0; i < CLIENTS; i++) {
			struct client *c = &clients[i];
			char top[16];

			snprintf(top, sizeof(top), "/c%u", i);
			if (c->busy && !c->op.finished)
				continue;
			if (c->busy) {
				answer_take(c);
				count -= count > 0;
				if (c->op.status == -EIO || c->op.status == -ETIMEDOUT)
					doubt = true;
				continue;
			}
			if (doubt)
				continue;
			if (restart_at || pick(3) != 0 || !write_pick(c, top)) {
				op_pick(c, top);
				/* meta/walk.c: a second name of a symlink is read against
				 * its first directory. */
				if (c->kind == LINK && !real_is_file(c, c->from))
					c->kind = CREATE;
				op_make(c);
			}
			wop_begin(&c->op);
			c->busy = true;
		}
		if (doubt) {
			settle_all();
			restart_at = 0;
		}
		if (!restart_at && pick(2000) == 0) {
			world_kill(w, pick(shards));
			restart_at = turn + pick(300);
		}
		if (restart_at && turn >= restart_at) {
			restart_dead();
			restart_at = 0;
		}
		world_turn(w);
	}
	settle_all();
	world_quiesce(w);
	for (unsigned i = 0; i < CLIENTS; i++)
		cr_assert(
			same_tree(&clients[i], (const char *[]){"/c0", "/c1", "/c2"}[i]),
			"client %u, seed %llu", i, (unsigned long long)seed);
	end(CHECK_STRAYS);
	bases_remove();
}

Test(shard_random, model_with_late_messages)
{
	late = true;
	for (uint64_t seed = seed_first(); seed <= seed_last(10); seed++)
		model_run(2 + (uint32_t)seed % 2, seed, 300);
}

Test(shard_random, model)
{
	for (uint64_t seed = seed_first(); seed <= seed_last(15); seed++)
		model_run(1 + (uint32_t)seed % 3, seed, 500);
}

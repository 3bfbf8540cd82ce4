/*
 * Operations over several shards with a before and an after, for the crash and the fault
 * matrix: /a is on shard 1, /b on shard 2, files born in the root on shard 0.
 */
#ifndef WFS_TESTS_SHARD_SCENARIOS_H
#define WFS_TESTS_SHARD_SCENARIOS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/mem.h"
#include "tests/lib/world.h"

#define SHARDS 3u

enum state { BEFORE, AFTER };

struct scenario {
	const char *name;
	void (*setup)(void);
	void (*op)(struct wop *o);
	enum state (*state)(void);
};

static struct world world, *w = &world;
static uint64_t seed;

/* --- pieces --- */

static uint32_t shard_of(ino_id ino)
{
	return w->map->buckets[ino_bucket(ino)].primary;
}

/* A directory whose inode is on that shard. */
static void mkdir_on(const char *path, uint32_t shard)
{
	struct attr a;

	for (;;) {
		cr_assert_eq(w_mkdir(w, path, 0755), 0);
		cr_assert_eq(w_stat(w, path, &a), 0);
		if (shard_of(a.ino) == shard)
			return;
		cr_assert_eq(w_rmdir(w, path), 0);
	}
}

static void make(const char *path, const char *content)
{
	ino_id ino;

	cr_assert_eq(w_create(w, path, 0644, &ino), 0);
	cr_assert_eq(w_write(w, ino, content, strlen(content), 0), 0);
}

static bool there(const char *path)
{
	struct attr a;
	int rc = w_lstat(w, path, &a);

	cr_assert(rc == 0 || rc == -ENOENT, "%s: %d, seed %llu", path, rc,
		(unsigned long long)seed);
	return rc == 0;
}

static bool holds(const char *path, const char *content)
{
	char text[64];
	struct attr a;

	if (w_stat(w, path, &a) != 0)
		return false;
	cr_assert_eq(w_read(w, a.ino, text, sizeof(text), 0), (int)strlen(content));
	return memcmp(text, content, strlen(content)) == 0;
}

static void fixed_set(struct wop *o, const void *fixed, uint32_t size)
{
	memcpy(o->fixed, fixed, size);
	o->fixed_size = size;
}

#define EITHER(before, after)                                                            \
	do {                                                                             \
		bool is_before = (before), is_after = (after);                           \
		cr_assert(is_before != is_after, "neither nor: %d %d, seed %llu",        \
			is_before, is_after, (unsigned long long)seed);                  \
		return is_after ? AFTER : BEFORE;                                        \
	} while (0)

static void setup_dirs(void)
{
	mkdir_on("/a", 1);
	mkdir_on("/b", 2);
}

/* --- the operations --- */

static void rename_setup(void)
{
	setup_dirs();
	make("/f", "one");
	cr_assert_eq(w_rename(w, "/f", "/a/f", 0), 0);
}

static void rename_op(struct wop *o)
{
	wop_rename(o, w, "/a/f", "/b/g", 0);
}

static enum state rename_state(void)
{
	EITHER(holds("/a/f", "one") && !there("/b/g"),
		!there("/a/f") && holds("/b/g", "one"));
}

static void replace_setup(void)
{
	rename_setup();
	make("/b/g", "two");
}

static enum state replace_state(void)
{
	EITHER(holds("/a/f", "one") && holds("/b/g", "two"),
		!there("/a/f") && holds("/b/g", "one"));
}

static void exchange_op(struct wop *o)
{
	wop_rename(o, w, "/a/f", "/b/g", RENAME_EXCHANGE);
}

static enum state exchange_state(void)
{
	EITHER(holds("/a/f", "one") && holds("/b/g", "two"),
		holds("/a/f", "two") && holds("/b/g", "one"));
}

static void directory_setup(void)
{
	setup_dirs();
	mkdir_on("/a/d", 0);
	make("/a/d/f", "in");
}

static void directory_op(struct wop *o)
{
	wop_rename(o, w, "/a/d", "/b/e", 0);
}

static enum state directory_state(void)
{
	EITHER(holds("/a/d/f", "in") && !there("/b/e/f"),
		!there("/a/d") && holds("/b/e/f", "in"));
}

static void directory_replace_setup(void)
{
	directory_setup();
	mkdir_on("/b/e", 1);
}

static enum state directory_replace_state(void)
{
	EITHER(holds("/a/d/f", "in") && there("/b/e") && !there("/b/e/f"),
		!there("/a/d") && holds("/b/e/f", "in"));
}

static void mkdir_op(struct wop *o)
{
	struct wire_mknod wm = {.mode = le32_put(0755)};

	wop_init(o, w, OP_MKDIR, "/a/n");
	fixed_set(o, &wm, sizeof(wm));
}

static enum state mkdir_state(void)
{
	return there("/a/n") ? AFTER : BEFORE;
}

static void rmdir_setup(void)
{
	setup_dirs();
	mkdir_on("/a/d", 2);
}

static void rmdir_op(struct wop *o)
{
	wop_init(o, w, OP_RMDIR, "/a/d");
}

static enum state rmdir_state(void)
{
	return there("/a/d") ? BEFORE : AFTER;
}

static void link_setup(void)
{
	setup_dirs();
	make("/f", "one");
}

static void link_op(struct wop *o)
{
	wop_link(o, w, "/f", "/a/l");
}

static enum state link_state(void)
{
	struct attr a;

	cr_assert_eq(w_stat(w, "/f", &a), 0);
	cr_assert_eq(a.nlink, there("/a/l") ? 2 : 1);
	return there("/a/l") ? AFTER : BEFORE;
}

static void unlink_op(struct wop *o)
{
	wop_init(o, w, OP_UNLINK, "/a/f");
}

static enum state unlink_state(void)
{
	return there("/a/f") ? BEFORE : AFTER;
}

static uint8_t big[3 << 20], got[3 << 20], fresh[10000];

static void big_setup(void)
{
	ino_id ino;

	memset(big, 'x', sizeof(big));
	setup_dirs();
	cr_assert_eq(w_create(w, "/a/f", 0644, &ino), 0);
	cr_assert_eq(w_write(w, ino, big, sizeof(big), 0), 0);
}

static void cut_op(struct wop *o)
{
	struct wire_setattr ws = {.mask = le32_put(SET_SIZE), .size = le64_put(1500000)};

	wop_init(o, w, OP_SETATTR, "/a/f");
	fixed_set(o, &ws, sizeof(ws));
}

static enum state cut_state(void)
{
	struct attr a;

	cr_assert_eq(w_stat(w, "/a/f", &a), 0);
	cr_assert_eq(w_read(w, a.ino, got, sizeof(got), 0), (int)a.size_bytes);
	cr_assert_eq(memcmp(got, big, a.size_bytes), 0);
	EITHER(a.size_bytes == sizeof(big), a.size_bytes == 1500000);
}

/* A file that is still there has all its bytes. */
static enum state unlink_big_state(void)
{
	if (unlink_state() == AFTER)
		return AFTER;
	cr_assert_eq(cut_state(), BEFORE);
	return BEFORE;
}

static void create_op(struct wop *o)
{
	struct wire_open wo = {
		.flags = le32_put(O_CREAT | O_RDWR), .mode = le32_put(0644)};

	wop_init(o, w, OP_OPEN, "/a/n");
	fixed_set(o, &wo, sizeof(wo));
}

static void symlink_op(struct wop *o)
{
	wop_init(o, w, OP_SYMLINK, "/a/n");
	strcpy(o->extra, "target");
	o->extra_size = 6;
}

/* One piece that begins and ends within blocks, far from the inode's shard. */
static void write_op(struct wop *o)
{
	struct attr a;

	memset(fresh, 'y', sizeof(fresh));
	cr_assert_eq(w_stat(w, "/a/f", &a), 0);
	wop_write(o, w, a.ino, (2 << 20) + 1000, fresh, sizeof(fresh));
}

static enum state write_state(void)
{
	struct attr a;

	cr_assert_eq(w_stat(w, "/a/f", &a), 0);
	cr_assert_eq(w_read(w, a.ino, got, sizeof(got), 0), (int)sizeof(got));
	cr_assert_eq(memcmp(got, big, (2 << 20) + 1000), 0);
	cr_assert_eq(memcmp(got + (2 << 20) + 11000, big, (1 << 20) - 11000), 0);
	EITHER(memcmp(got + (2 << 20) + 1000, big, sizeof(fresh)) == 0,
		memcmp(got + (2 << 20) + 1000, fresh, sizeof(fresh)) == 0);
}

/* --- running --- */

static inline void prepare(const struct scenario *sc)
{
	world_init(w, &(struct world_options){.shard_count = SHARDS,
			      .seed = seed,
			      .disk_bytes = 40u << 20,
			      .segment_bytes = 2u << 20});
	sc->setup();
	world_quiesce(w);
}

static inline void finish(void)
{
	world_check(w, CHECK_STRAYS);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left, seed %llu",
		mem_live_count(), (unsigned long long)seed);
}

static const struct scenario scenarios[] = {
	{"rename_file", rename_setup, rename_op, rename_state},
	{"rename_replacing", replace_setup, rename_op, replace_state},
	{"rename_exchange", replace_setup, exchange_op, exchange_state},
	{"rename_directory", directory_setup, directory_op, directory_state},
	{"rename_directory_replacing", directory_replace_setup, directory_op,
		directory_replace_state},
	{"mkdir", setup_dirs, mkdir_op, mkdir_state},
	{"rmdir", rmdir_setup, rmdir_op, rmdir_state},
	{"link", link_setup, link_op, link_state},
	{"unlink_moved", rename_setup, unlink_op, unlink_state},
	{"unlink_big", big_setup, unlink_op, unlink_big_state},
	{"truncate_big", big_setup, cut_op, cut_state},
	{"create", setup_dirs, create_op, mkdir_state},
	{"symlink", setup_dirs, symlink_op, mkdir_state},
	{"write", big_setup, write_op, write_state},
};
#define SCENARIO_COUNT (sizeof(scenarios) / sizeof(scenarios[0]))

#endif

/*
 * The crash matrix: an operation over several shards, cut at every write and after every
 * message on each of them. Afterwards it has wholly happened or not at all; if it was
 * acknowledged it has; nothing is locked, and everything fits together.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/mem.h"
#include "tests/lib/world.h"

#define SHARDS   3u
#define PATIENCE 400000u

enum state { BEFORE, AFTER };

struct scenario {
	void (*setup)(void);
	void (*op)(struct wop *o);
	enum state (*state)(void);
};

static struct world world, *w = &world;
static struct wop op;
static uint64_t seed;

/* --- pieces ------------------------------------------------------------------------------ */

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

/* --- the operations ------------------------------------------------------------------------ */

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
	EITHER(holds("/a/f", "one") && !there("/b/g"), !there("/a/f") && holds("/b/g", "one"));
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

static uint8_t big[3 << 20];

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
	EITHER(a.size_bytes == sizeof(big), a.size_bytes == 1500000);
}

/* --- running ----------------------------------------------------------------------------------- */

struct counts {
	uint64_t writes[SHARDS];
	uint64_t messages[SHARDS];
};

static void counts_take(struct counts *c)
{
	for (uint32_t i = 0; i < SHARDS; i++) {
		c->writes[i] = device_sim_write_count(w->shards[i].disk);
		c->messages[i] = w->shards[i].message_count;
	}
}

static void prepare(const struct scenario *sc)
{
	world_init(w, &(struct world_options){.shard_count = SHARDS, .seed = seed,
		.disk_bytes = 40u << 20, .segment_bytes = 2u << 20});
	sc->setup();
	world_quiesce(w);
}

static void finish(void)
{
	world_check(w, CHECK_STRAYS);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left, seed %llu", mem_live_count(),
		(unsigned long long)seed);
}

static struct counts measure(const struct scenario *sc)
{
	struct counts before, after;

	prepare(sc);
	counts_take(&before);
	sc->op(&op);
	cr_assert_eq(wop_run(&op), 0);
	world_quiesce(w);
	counts_take(&after);
	cr_assert_eq(sc->state(), AFTER);
	for (uint32_t i = 0; i < SHARDS; i++) {
		after.writes[i] -= before.writes[i];
		after.messages[i] -= before.messages[i];
	}
	finish();
	return after;
}

struct blow {
	uint32_t shard;
	uint32_t other; /* dies at the same time; SHARDS: none */
	bool late;      /* they come back when the client has its answer */
	unsigned at_write;
	unsigned at_message;
};

static void restart_dead(void)
{
	for (uint32_t i = 0; i < SHARDS; i++)
		if (!w->shards[i].alive)
			world_restart(w, i);
}

/* The blow falls while the operation runs or in its wake. */
static void strike(const struct blow *b)
{
	struct world_shard *ws = &w->shards[b->shard];
	uint64_t start_us = env_now_us(&w->env.env);
	bool struck = false;

	device_sim_faults(ws->disk)->crash_at_write = b->at_write;
	ws->kill_at_message = b->at_message ? ws->message_count + b->at_message : 0;
	wop_begin(&op);
	while (!op.finished || (!struck && env_now_us(&w->env.env) - start_us < PATIENCE)) {
		world_turn(w);
		if (!struck && !ws->alive) {
			struck = true;
			if (b->other < SHARDS)
				world_kill(w, b->other);
		}
		if (struck && !b->late)
			restart_dead();
	}
	memset(device_sim_faults(ws->disk), 0, sizeof(struct device_sim_faults));
	ws->kill_at_message = 0;
	restart_dead();
}

static void case_run(const struct scenario *sc, const struct blow *b)
{
	enum state state;

	prepare(sc);
	sc->op(&op);
	strike(b);
	world_check(w, CHECK_STRAYS);
	state = sc->state();
	cr_assert(op.status != 0 || state == AFTER,
		"acknowledged and lost: shard %u other %u late %d write %u message %u seed %llu",
		b->shard, b->other, b->late, b->at_write, b->at_message,
		(unsigned long long)seed);
	cr_assert(op.status == 0 || op.status == -EIO || op.status == -ETIMEDOUT ||
			(op.status == -ENOENT && state == AFTER) ||
			(op.status == -EEXIST && state == AFTER),
		"error %d: shard %u other %u late %d write %u message %u seed %llu", op.status,
		b->shard, b->other, b->late, b->at_write, b->at_message,
		(unsigned long long)seed);
	/* Nothing stands in the way of doing it (again). */
	if (state == BEFORE) {
		sc->op(&op);
		cr_assert_eq(wop_run(&op), 0);
		cr_assert_eq(sc->state(), AFTER);
	}
	finish();
}

static void matrix(const struct scenario *sc)
{
	for (seed = 1; seed <= 2; seed++) {
		struct counts c = measure(sc);

		for (uint32_t i = 0; i < SHARDS; i++) {
			uint64_t both = c.writes[i] + c.messages[i];

			for (uint64_t k = 0; k < 2 * both; k++) {
				uint64_t n = k / 2;
				struct blow b = {.shard = i, .late = k % 2,
					.other = (uint32_t)((n + i) % (SHARDS + 1))};

				if (b.other == i)
					b.other = SHARDS;
				if (n < c.writes[i])
					b.at_write = (unsigned)n + 1;
				else
					b.at_message = (unsigned)(n - c.writes[i]) + 1;
				case_run(sc, &b);
				if (b.other == SHARDS)
					continue;
				b.other = SHARDS;
				case_run(sc, &b);
			}
		}
	}
}

#define MATRIX(name, a, b, c)                                                            \
	Test(shard_crash, name)                                                          \
	{                                                                                \
		matrix(&(struct scenario){.setup = a, .op = b, .state = c});             \
	}

MATRIX(rename_file, rename_setup, rename_op, rename_state)
MATRIX(rename_replacing, replace_setup, rename_op, replace_state)
MATRIX(rename_exchange, replace_setup, exchange_op, exchange_state)
MATRIX(rename_directory, directory_setup, directory_op, directory_state)
MATRIX(rename_directory_replacing, directory_replace_setup, directory_op,
	directory_replace_state)
MATRIX(make_directory, setup_dirs, mkdir_op, mkdir_state)
MATRIX(remove_directory, rmdir_setup, rmdir_op, rmdir_state)
MATRIX(link_over, link_setup, link_op, link_state)
MATRIX(unlink_moved, rename_setup, unlink_op, unlink_state)
MATRIX(unlink_big, big_setup, unlink_op, unlink_state)
MATRIX(truncate_big, big_setup, cut_op, cut_state)

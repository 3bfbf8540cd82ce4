/*
 * Batches, and one set of tests over both maps, each bare and behind a cache. The
 * reference is a flat table over a small space of keys.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/env.h"
#include "core/base/mem.h"
#include "core/kv/kv.h"

#define KEY_COUNT 300u

struct world {
	bool rocks;
	unsigned cache_entries;
	char dir[64];
	struct kv_model_disk *disk;
	struct kv *kv;
};

struct reference {
	bool present[KEY_COUNT];
	uint64_t tag[KEY_COUNT];
	uint32_t size_bytes[KEY_COUNT];
};

struct flavour {
	bool rocks;
	unsigned cache_entries;
};

static struct flavour flavours[] = {{false, 0}, {false, 64}, {true, 0}, {true, 64}};

static int file_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void world_open(struct world *w, bool create)
{
	int rc = w->rocks ? kv_rocks_open(w->dir, create, 32u << 20, &w->kv)
			  : kv_model_open(w->disk, &w->kv);

	cr_assert_eq(rc, 0, "open: %d", rc);
	if (w->cache_entries)
		cr_assert_eq(kv_cache_enable(w->kv, w->cache_entries), 0);
}

static void world_init(struct world *w, const struct flavour *flavour)
{
	*w = (struct world){.rocks = flavour->rocks,
		.cache_entries = flavour->cache_entries};
	strcpy(w->dir, "/tmp/wfs-kv-XXXXXX");
	if (w->rocks)
		cr_assert_not_null(mkdtemp(w->dir));
	else
		w->disk = kv_model_disk_new();
	world_open(w, true);
}

static void world_release(struct world *w)
{
	kv_close(w->kv);
	if (w->rocks)
		nftw(w->dir, file_remove, 16, FTW_DEPTH | FTW_PHYS);
	kv_model_disk_free(w->disk);
	cr_assert_eq(mem_live_count(), 0);
}

/* Closing without a flush is the crash. */
static void world_crash(struct world *w)
{
	kv_close(w->kv);
	world_open(w, false);
}

static void world_flush(struct world *w)
{
	int rc;

	cr_assert_eq(kv_flush_begin(w->kv), 0);
	while ((rc = kv_flush_done(w->kv)) == -EINPROGRESS)
		usleep(100);
	cr_assert_eq(rc, 0);
}

/* Keys of differing length, some a prefix of another. */
static size_t key_make(unsigned index, char key[32])
{
	int size = snprintf(key, 32, "k%03u", index / 2);

	if (index % 2)
		size += snprintf(key + size, 32 - (size_t)size, "-long");
	return (size_t)size;
}

static void value_make(uint64_t tag, uint8_t *value, uint32_t size_bytes)
{
	for (uint32_t i = 0; i < size_bytes; i++)
		value[i] = (uint8_t)(tag >> (8 * (i % 8))) ^ (uint8_t)(i / 8);
}

static void value_check(const struct reference *ref, unsigned index, const void *value,
	size_t size_bytes)
{
	uint8_t want[8192];

	cr_assert(ref->present[index]);
	cr_assert_eq(size_bytes, ref->size_bytes[index]);
	value_make(ref->tag[index], want, ref->size_bytes[index]);
	if (size_bytes)
		cr_assert_arr_eq(value, want, size_bytes);
}

static void get_check(struct world *w, const struct reference *ref, unsigned index)
{
	char key[32];
	size_t key_size = key_make(index, key);
	struct buf out;
	int rc;

	buf_init(&out);
	buf_append(&out, "pre", 3);
	rc = kv_get(w->kv, key, key_size, &out);
	if (ref->present[index]) {
		cr_assert_eq(rc, 0, "get: %d", rc);
		cr_assert_arr_eq(out.data, "pre", 3);
		value_check(ref, index, out.data + 3, out.size_bytes - 3);
	} else {
		cr_assert_eq(rc, -ENOENT);
		cr_assert_eq(out.size_bytes, 3);
	}
	buf_release(&out);
}

static void scan_check(struct world *w, const struct reference *ref, unsigned from)
{
	struct kv_iter *it;
	char key[32];
	size_t key_size = key_make(from, key);

	cr_assert_eq(kv_iter_open(w->kv, &it), 0);
	it->ops->seek(it, key, key_size);
	for (unsigned index = from; index < KEY_COUNT; index++) {
		const void *got;
		size_t size;

		if (!ref->present[index])
			continue;
		key_size = key_make(index, key);
		cr_assert(it->ops->valid(it));
		got = it->ops->key(it, &size);
		cr_assert_eq(size, key_size);
		cr_assert_arr_eq(got, key, size);
		got = it->ops->value(it, &size);
		value_check(ref, index, got, size);
		it->ops->next(it);
	}
	cr_assert_not(it->ops->valid(it));
	cr_assert_eq(it->ops->error(it), 0);
	it->ops->close(it);
}

static void all_check(struct world *w, const struct reference *ref)
{
	for (unsigned i = 0; i < KEY_COUNT; i++)
		get_check(w, ref, i);
	scan_check(w, ref, 0);
}

static void batch_random(struct batch *b, struct reference *ref, struct env *env)
{
	unsigned count = 1 + (unsigned)(env_random(env) % 8);

	batch_reset(b);
	for (unsigned i = 0; i < count; i++) {
		unsigned index = (unsigned)(env_random(env) % KEY_COUNT);
		uint32_t limit = env_random(env) % 10 == 0 ? 8192 : 200;
		uint64_t tag = env_random(env);
		uint8_t value[8192];
		char key[32];
		size_t key_size = key_make(index, key);

		batch_free_blocks(b, tag, 1);
		ref->present[index] = env_random(env) % 3 != 0;
		if (!ref->present[index]) {
			batch_del(b, key, key_size);
			continue;
		}
		ref->tag[index] = tag;
		ref->size_bytes[index] = (uint32_t)(env_random(env) % limit);
		value_make(tag, value, ref->size_bytes[index]);
		batch_put(b, key, key_size, value, ref->size_bytes[index]);
	}
	cr_assert_eq(batch_error(b), 0);
}

ParameterizedTestParameters(kv, random_operations)
{
	return cr_make_param_array(struct flavour, flavours, 4);
}

ParameterizedTest(struct flavour *flavour, kv, random_operations)
{
	static struct reference now, flushed;
	struct env_sim sim;
	struct world w;
	struct batch b;

	env_sim_init(&sim, 4711);
	world_init(&w, flavour);
	batch_init(&b);
	for (unsigned step = 0; step < 4000; step++) {
		uint64_t dice = env_random(&sim.env) % 1000;

		if (dice < 400) {
			batch_random(&b, &now, &sim.env);
			cr_assert_eq(kv_apply(w.kv, &b), 0);
		} else if (dice < 980) {
			get_check(&w, &now, (unsigned)env_random(&sim.env) % KEY_COUNT);
		} else if (dice < 990) {
			scan_check(&w, &now, (unsigned)env_random(&sim.env) % KEY_COUNT);
		} else if (dice < 995) {
			world_flush(&w);
			flushed = now;
		} else {
			world_crash(&w);
			now = flushed;
			all_check(&w, &now);
		}
	}
	all_check(&w, &now);
	batch_release(&b);
	world_release(&w);
}

static void put_text(struct world *w, const char *key, const char *value)
{
	struct batch b;

	batch_init(&b);
	batch_put(&b, key, strlen(key), value, strlen(value));
	cr_assert_eq(kv_apply(w->kv, &b), 0);
	batch_release(&b);
}

static bool get_is(struct world *w, const char *key, const char *value)
{
	struct buf out;
	bool same;
	int rc;

	buf_init(&out);
	rc = kv_get(w->kv, key, strlen(key), &out);
	if (!value)
		same = rc == -ENOENT;
	else
		same = rc == 0 && out.size_bytes == strlen(value) &&
			memcmp(out.data, value, out.size_bytes) == 0;
	buf_release(&out);
	return same;
}

ParameterizedTestParameters(kv, iterator_is_a_snapshot)
{
	return cr_make_param_array(struct flavour, flavours, 4);
}

ParameterizedTest(struct flavour *flavour, kv, iterator_is_a_snapshot)
{
	struct world w;
	struct kv_iter *it;
	struct batch b;
	size_t size;

	world_init(&w, flavour);
	put_text(&w, "a", "1");
	put_text(&w, "c", "3");
	cr_assert_eq(kv_iter_open(w.kv, &it), 0);
	put_text(&w, "b", "2");
	batch_init(&b);
	batch_del(&b, "c", 1);
	cr_assert_eq(kv_apply(w.kv, &b), 0);
	it->ops->seek(it, "a", 1);
	it->ops->next(it);
	cr_assert(it->ops->valid(it));
	cr_assert_arr_eq(it->ops->key(it, &size), "c", 1);
	it->ops->next(it);
	cr_assert_not(it->ops->valid(it));
	it->ops->close(it);
	cr_assert(get_is(&w, "c", NULL));
	batch_release(&b);
	world_release(&w);
}

ParameterizedTestParameters(kv, flush_covers_what_came_before)
{
	return cr_make_param_array(struct flavour, flavours, 4);
}

ParameterizedTest(struct flavour *flavour, kv, flush_covers_what_came_before)
{
	struct world w;
	int rc;

	world_init(&w, flavour);
	cr_assert_eq(kv_flush_done(w.kv), 0);
	put_text(&w, "before", "1");
	cr_assert_eq(kv_flush_begin(w.kv), 0);
	cr_assert_eq(kv_flush_begin(w.kv), -EBUSY);
	put_text(&w, "after", "2");
	while ((rc = kv_flush_done(w.kv)) == -EINPROGRESS)
		usleep(100);
	cr_assert_eq(rc, 0);
	cr_assert(kv_size_bytes(w.kv) > 0);
	cr_assert(get_is(&w, "after", "2"));
	world_crash(&w);
	cr_assert(get_is(&w, "before", "1"));
	cr_assert(get_is(&w, "after", NULL));
	world_flush(&w);
	world_release(&w);
}

ParameterizedTestParameters(kv, bad_batch_changes_nothing)
{
	return cr_make_param_array(struct flavour, flavours, 4);
}

ParameterizedTest(struct flavour *flavour, kv, bad_batch_changes_nothing)
{
	struct world w;
	struct batch b;

	world_init(&w, flavour);
	put_text(&w, "k", "old");
	cr_assert(get_is(&w, "k", "old"));
	batch_init(&b);
	batch_put(&b, "k", 1, "new", 3);
	buf_append(&b.bytes, "\x07garbage!", 9);
	cr_assert_eq(kv_apply_bytes(w.kv, b.bytes.data, b.bytes.size_bytes), -EUCLEAN);
	cr_assert(get_is(&w, "k", "old"));
	batch_release(&b);
	world_release(&w);
}

Test(kv, model_flush_delay)
{
	struct world w;

	world_init(&w, &flavours[0]);
	kv_model_flush_delay_set(w.disk, 2);
	put_text(&w, "k", "v");
	cr_assert_eq(kv_flush_begin(w.kv), 0);
	cr_assert_eq(kv_flush_done(w.kv), -EINPROGRESS);
	world_crash(&w);
	cr_assert(get_is(&w, "k", NULL));
	put_text(&w, "k", "v");
	cr_assert_eq(kv_flush_begin(w.kv), 0);
	cr_assert_eq(kv_flush_done(w.kv), -EINPROGRESS);
	cr_assert_eq(kv_flush_done(w.kv), -EINPROGRESS);
	cr_assert_eq(kv_flush_done(w.kv), 0);
	world_crash(&w);
	cr_assert(get_is(&w, "k", "v"));
	world_release(&w);
}

Test(kv, model_nth_fault)
{
	struct world w;
	struct kv_iter *it = NULL;
	struct batch b;
	struct buf out;

	world_init(&w, &flavours[1]);
	put_text(&w, "k", "old");
	batch_init(&b);
	buf_init(&out);
	batch_put(&b, "k", 1, "new", 3);
	cr_assert(get_is(&w, "k", "old"));
	kv_model_fault_arm(w.disk, 1);
	cr_assert_eq(kv_apply(w.kv, &b), -EIO);
	cr_assert(kv_model_fault_fired(w.disk));
	cr_assert(get_is(&w, "k", "old"));
	kv_model_fault_arm(w.disk, 1);
	cr_assert_not(kv_model_fault_fired(w.disk));
	cr_assert_eq(kv_get(w.kv, "x", 1, &out), -EIO);
	cr_assert_eq(kv_get(w.kv, "x", 1, &out), -ENOENT);
	kv_model_fault_arm(w.disk, 1);
	cr_assert_eq(kv_iter_open(w.kv, &it), -EIO);
	kv_model_fault_arm(w.disk, 2);
	cr_assert_eq(kv_apply(w.kv, &b), 0);
	cr_assert_eq(kv_flush_begin(w.kv), -EIO);
	cr_assert(get_is(&w, "k", "new"));
	batch_release(&b);
	buf_release(&out);
	world_release(&w);
}

/* Whatever allocation fails, a batch is applied as a whole or not at all. */
static void apply_with_nth_allocation(unsigned nth, bool *fired_out)
{
	static struct reference before, after;
	struct env_sim sim;
	struct world w;
	struct batch b;
	int rc;

	env_sim_init(&sim, 99);
	memset(&before, 0, sizeof(before));
	world_init(&w, &flavours[1]);
	batch_init(&b);
	for (unsigned i = 0; i < 40; i++) {
		batch_random(&b, &before, &sim.env);
		cr_assert_eq(kv_apply(w.kv, &b), 0);
	}
	all_check(&w, &before);
	world_flush(&w);
	after = before;
	batch_random(&b, &after, &sim.env);
	mem_fault_arm(nth);
	rc = kv_apply(w.kv, &b);
	*fired_out = mem_fault_fired();
	mem_fault_arm(0);
	cr_assert(rc == 0 || (rc == -ENOMEM && *fired_out));
	all_check(&w, rc ? &before : &after);
	world_crash(&w);
	all_check(&w, &before);
	batch_release(&b);
	world_release(&w);
}

Test(kv, model_nth_allocation)
{
	bool fired = true;
	unsigned nth;

	for (nth = 1; fired; nth++)
		apply_with_nth_allocation(nth, &fired);
	cr_assert(nth > 20);
}

Test(kv, cache_survives_failed_allocations)
{
	struct world w;
	struct buf out;

	world_init(&w, &flavours[1]);
	put_text(&w, "k", "value");
	for (unsigned nth = 1; nth < 4; nth++) {
		int rc;

		buf_init(&out);
		mem_fault_arm(nth);
		rc = kv_get(w.kv, "k", 1, &out);
		cr_assert(rc == 0 || rc == -ENOMEM);
		mem_fault_arm(0);
		buf_release(&out);
		cr_assert(get_is(&w, "k", "value"));
	}
	mem_fault_arm(0);
	world_release(&w);
}

Test(kv, rocks_open_errors)
{
	char dir[] = "/tmp/wfs-kv-XXXXXX", path[64];
	struct kv *kv = NULL, *other = NULL;
	pid_t pid;
	int status;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/none", dir);
	cr_assert_eq(kv_rocks_open(path, false, 8u << 20, &kv), -ENOENT);
	cr_assert_eq(kv_rocks_open(dir, false, 8u << 20, &kv), -ENOENT);
	cr_assert_null(kv);
	/* In another process: RocksDB's threads do not survive a fork. */
	pid = fork();
	if (pid == 0) {
		if (kv_rocks_open(dir, true, 8u << 20, &kv) == 0)
			raise(SIGSTOP);
		_exit(kv ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, WUNTRACED), pid);
	cr_assert(WIFSTOPPED(status));
	cr_assert_eq(kv_rocks_open(dir, true, 8u << 20, &other), -EBUSY);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	cr_assert_eq(kv_rocks_open(dir, false, 8u << 20, &other), 0);
	kv_close(other);
	nftw(dir, file_remove, 16, FTW_DEPTH | FTW_PHYS);
	cr_assert_eq(mem_live_count(), 0);
}

Test(kv, rocks_damage_is_euclean)
{
	struct world w;
	char path[128], name[64] = "";
	FILE *current;

	world_init(&w, &flavours[2]);
	put_text(&w, "k", "v");
	world_flush(&w);
	kv_close(w.kv);
	w.kv = NULL;
	snprintf(path, sizeof(path), "%s/CURRENT", w.dir);
	current = fopen(path, "r");
	cr_assert_not_null(fgets(name, sizeof(name), current));
	fclose(current);
	name[strcspn(name, "\n")] = 0;
	snprintf(path, sizeof(path), "%s/%s", w.dir, name);
	current = fopen(path, "r+");
	fseek(current, 20, SEEK_SET);
	fputs("damage", current);
	fclose(current);
	cr_assert_eq(kv_rocks_open(w.dir, false, 8u << 20, &w.kv), -EUCLEAN);
	world_release(&w);
}

Test(kv, rocks_failed_flush_is_eio)
{
	struct rlimit limit = {.rlim_cur = 16384, .rlim_max = RLIM_INFINITY}, old;
	struct world w;
	char key[32], value[512];
	int rc;

	world_init(&w, &flavours[2]);
	put_text(&w, "k", "old");
	world_flush(&w);
	put_text(&w, "k", "new");
	for (unsigned i = 0; i < 2000; i++) {
		for (size_t j = 0; j < sizeof(value) - 1; j++)
			value[j] = (char)('a' + rand() % 26);
		value[sizeof(value) - 1] = 0;
		snprintf(key, sizeof(key), "%u", i);
		put_text(&w, key, value);
	}
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	setrlimit(RLIMIT_FSIZE, &limit);
	cr_assert_eq(kv_flush_begin(w.kv), 0);
	while ((rc = kv_flush_done(w.kv)) == -EINPROGRESS)
		usleep(100);
	cr_assert_eq(rc, -EIO);
	setrlimit(RLIMIT_FSIZE, &old);
	world_crash(&w);
	cr_assert(get_is(&w, "k", "old"));
	world_release(&w);
}

Test(batch, golden_bytes)
{
	static const uint8_t golden[] = {1, 0, 2, 0, 3, 0, 0, 0, 'k', '1', 'a', 'b', 'c',
		2, 0, 1, 0, 0, 0, 0, 0, 'x', 3, 0, 8, 0, 4, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7,
		8, 9, 0, 0, 0};
	struct batch b, c;

	batch_init(&b);
	batch_init(&c);
	batch_put(&b, "k1", 2, "abc", 3);
	batch_del(&b, "x", 1);
	batch_free_blocks(&b, 0x0102030405060708, 9);
	cr_assert_eq(b.count, 3);
	cr_assert_eq(b.bytes.size_bytes, sizeof(golden));
	cr_assert_arr_eq(b.bytes.data, golden, sizeof(golden));
	cr_assert_eq(batch_validate(golden, sizeof(golden)), 0);
	batch_append(&c, golden, sizeof(golden));
	batch_append(&c, golden, sizeof(golden));
	cr_assert_eq(c.count, 6);
	cr_assert_eq(batch_validate(c.bytes.data, c.bytes.size_bytes), 0);
	for (size_t cut = 0; cut < sizeof(golden); cut++)
		cr_assert_eq(batch_validate(golden, cut),
			cut == 0 || cut == 13 || cut == 22 ? 0 : -EUCLEAN);
	batch_release(&b);
	batch_release(&c);
}

Test(batch, bound_is_sticky)
{
	static uint8_t value[BATCH_VALUE_MAX];
	struct batch b;

	batch_init(&b);
	batch_put(&b, "a", 1, value, sizeof(value));
	cr_assert_eq(batch_error(&b), 0);
	batch_put(&b, "b", 1, value, sizeof(value));
	cr_assert_eq(batch_error(&b), -E2BIG);
	batch_del(&b, "c", 1);
	cr_assert_eq(b.count, 1);
	batch_reset(&b);
	batch_del(&b, "c", 1);
	cr_assert_eq(batch_error(&b), 0);
	batch_release(&b);
}

Test(batch, fuzz)
{
	struct env_sim sim;
	struct batch_entry e;
	unsigned entries = 0;

	env_sim_init(&sim, 3);
	for (unsigned round = 0; round < 200000; round++) {
		size_t size = env_random(&sim.env) % 64, offset = 0;
		uint8_t *bytes = malloc(size ? size : 1);
		int rc;

		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)(env_random(&sim.env) >> 3);
		/* Make headers likely that are nearly right. */
		if (size > 8 && env_random(&sim.env) % 8) {
			bytes[0] = (uint8_t)(env_random(&sim.env) % 5);
			bytes[1] = env_random(&sim.env) % 16 == 0;
			bytes[3] = bytes[5] = bytes[6] = bytes[7] = 0;
			bytes[2] %= 16;
			bytes[4] %= 40;
		}
		while ((rc = batch_next(bytes, size, &offset, &e)) > 0) {
			cr_assert(e.key >= bytes + 8 && e.key_size >= 1);
			cr_assert(e.value == e.key + e.key_size);
			cr_assert(e.value + e.value_size <= bytes + size);
			cr_assert_eq(bytes + offset, e.value + e.value_size);
			entries++;
		}
		cr_assert(rc == -EUCLEAN || (rc == 0 && offset == size));
		cr_assert_eq(batch_validate(bytes, size), rc);
		free(bytes);
	}
	cr_assert(entries > 10000);
}

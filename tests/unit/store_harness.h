/*
 * What the tests of the store share: a simulated world (device, index, clock), a small
 * program of slots, and a model to compare with.
 *
 * The program: SLOTS objects; each record writes one anew (1..max blocks), deletes one,
 * or changes only the index. Every record also puts its number under the key "n", so that
 * a recovered store says how many records it holds, and the model, run again up to that
 * number, says what each slot must be. A block carries slot, version and position; its
 * crc is in the index value, as the layer above would do it.
 */
#ifndef WFS_TESTS_STORE_HARNESS_H
#define WFS_TESTS_STORE_HARNESS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

#define H_SLOTS      512u
#define H_BLOCKS_MAX 16u
#define H_STEPS_MAX  200000u

struct h_slot {
	uint32_t version; /* 0: none */
	uint32_t block_count;
};

struct h_step { /* one record of the program */
	uint32_t slot;
	uint32_t block_count;
	uint8_t kind; /* 0 write, 1 delete, 2 index only */
};

struct h_value { /* in the index under "s" be32 slot */
	uint64_t id;
	uint32_t version;
	uint32_t block_count;
	uint32_t crcs[H_BLOCKS_MAX];
};

struct world {
	struct device_sim_disk *disk; /* NULL: a file, RocksDB and the real clock */
	struct kv_model_disk *kvdisk;
	struct env_sim env;
	struct ring *ring;
	const char *path; /* of the folder with file and index */
	struct device *dev;
	struct kv *kv;
	struct store *store;
	struct store_options opt;
	struct store_refusal refusal;
	uint64_t seed;
	uint32_t slots;
	uint32_t blocks_max;
	struct h_step *steps;
	uint32_t step_count;  /* committed */
	uint32_t acked_count; /* done with 0 */
	uint32_t failed_count;
	struct h_slot model[H_SLOTS];
};

static inline uint64_t h_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline struct env *h_env(struct world *w)
{
	return w->disk ? &w->env.env : env_real();
}

static inline bool h_crashed(struct world *w)
{
	return w->disk && device_sim_crashed(w->disk);
}

static inline void h_pump(void *ctx)
{
	struct world *w = ctx;

	if (!w->disk)
		ring_wait(w->ring, 1000);
	else if (device_sim_step(w->dev) == 0)
		env_sim_advance(&w->env, h_crashed(w) ? 2 * STORE_IO_TIMEOUT_US : 100);
}

static inline int h_device_open(struct world *w)
{
	char path[256];

	if (w->disk)
		return device_sim_open(w->disk, &w->dev);
	snprintf(path, sizeof(path), "%s/device", w->path);
	return device_file_open(path, w->ring, &w->dev);
}

static inline int h_kv_open(struct world *w)
{
	char path[256];

	if (w->disk)
		return kv_model_open(w->kvdisk, &w->kv);
	snprintf(path, sizeof(path), "%s/index", w->path);
	return kv_rocks_open(path, true, 64 << 20, &w->kv);
}

static inline void h_init(
	struct world *w, uint64_t size_bytes, uint32_t segment_bytes, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	log_set_level(LOG_ERROR + 1);
	w->seed = seed;
	w->slots = 64;
	w->blocks_max = 8;
	w->disk = device_sim_disk_new(size_bytes, seed);
	w->kvdisk = kv_model_disk_new();
	w->steps = calloc(H_STEPS_MAX, sizeof(*w->steps));
	env_sim_init(&w->env, seed);
	w->opt.segment_size_bytes = segment_bytes;
	memset(w->opt.identity.cluster_uuid, 0x5a, 16);
	w->opt.identity.node = 7;
	w->opt.identity.shard = 1;
}

static inline int h_format(struct world *w)
{
	int rc;

	cr_assert_eq(h_device_open(w), 0);
	rc = store_format(w->dev, h_env(w), &w->opt, h_pump, w, &w->refusal);
	device_close(w->dev);
	return rc;
}

/* A device that never answers costs the store the memory of that one I/O; leak checkers
 * are told. */
void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

/* Returns the error of opening; on one, device and index are closed again. */
static inline int h_open(struct world *w)
{
	int rc = h_device_open(w);

	if (rc)
		return rc;
	rc = h_kv_open(w);
	if (rc) {
		device_close(w->dev);
		return rc;
	}
	w->refusal.text[0] = 0;
	if (__lsan_disable && w->disk && device_sim_faults(w->disk)->crash_at_write)
		__lsan_disable();
	rc = store_open(
		w->dev, w->kv, h_env(w), &w->opt, h_pump, w, &w->store, &w->refusal);
	if (__lsan_enable && w->disk && device_sim_faults(w->disk)->crash_at_write)
		__lsan_enable();
	if (rc) {
		w->store = NULL;
		if (w->disk)
			device_sim_crash(w->dev);
		else
			device_close(w->dev);
		kv_close(w->kv);
	}
	return rc;
}

/* Power loss. */
static inline void h_crash(struct world *w)
{
	device_sim_crash(w->dev);
	store_abandon(w->store);
	kv_close(w->kv);
	w->store = NULL;
}

/* The end of the process. */
static inline void h_close(struct world *w)
{
	store_close(w->store);
	device_close(w->dev);
	kv_close(w->kv);
	w->store = NULL;
}

static inline void h_release(struct world *w)
{
	if (w->store)
		h_close(w);
	device_sim_disk_free(w->disk);
	kv_model_disk_free(w->kvdisk);
	free(w->steps);
}

static inline void h_turn(struct world *w)
{
	if (store_poll(w->store) < 1000 && !w->disk)
		ring_wait(w->ring, 0);
	else
		h_pump(w);
}

static inline void h_fill_block(
	uint8_t *block, uint32_t slot, uint32_t version, uint32_t index)
{
	uint64_t state = (uint64_t)slot << 40 ^ (uint64_t)version << 8 ^ index;

	for (uint32_t i = 0; i < WFS_BLOCK_SIZE; i += 64) {
		uint64_t v = h_random(&state);

		memcpy(block + i, &v, 8);
		memset(block + i + 8, (int)(v & 0xff), 56);
	}
}

static inline void h_slot_key(uint32_t slot, uint8_t key[5])
{
	key[0] = 's';
	be32_write(key + 1, slot);
}

static inline int h_slot_get(struct world *w, uint32_t slot, struct h_value *value)
{
	struct buf b;
	uint8_t key[5];
	int rc;

	h_slot_key(slot, key);
	buf_init(&b);
	rc = kv_get(w->kv, key, sizeof(key), &b);
	if (!rc)
		rc = buf_error(&b);
	if (!rc && b.size_bytes == sizeof(*value))
		memcpy(value, b.data, sizeof(*value));
	buf_release(&b);
	return rc;
}

struct h_record {
	struct store_record r;
	struct world *w;
	uint32_t number;
};

static inline void h_done(struct store_record *r, int status)
{
	struct h_record *h = container_of(r, struct h_record, r);

	if (status == 0) {
		cr_assert_eq(
			h->number, h->w->acked_count + 1, "acknowledged out of order");
		h->w->acked_count = h->number;
	} else {
		h->w->failed_count++;
	}
	free(h);
}

/* Versions are numbers of records, so a model run again finds the same. */
static inline void h_model_apply(
	struct h_slot *model, const struct h_step *s, uint32_t number)
{
	if (s->kind == 0)
		model[s->slot] = (struct h_slot){number, s->block_count};
	else if (s->kind == 1)
		model[s->slot] = (struct h_slot){0, 0};
}

static inline void h_batch(struct world *w, struct batch *b, const struct h_step *st,
	const struct store_record *r, uint32_t number, const struct h_value *old)
{
	uint8_t key[5];

	h_slot_key(st->slot, key);
	if (st->kind == 0) {
		struct h_value v = {
			.id = r->id, .version = number, .block_count = st->block_count};

		for (uint32_t i = 0; i < st->block_count; i++) {
			uint8_t *at = (uint8_t *)r->data + (size_t)i * WFS_BLOCK_SIZE;

			h_fill_block(at, st->slot, number, i);
			v.crcs[i] = crc32c(at, WFS_BLOCK_SIZE);
		}
		batch_put(b, key, sizeof(key), &v, sizeof(v));
	} else if (st->kind == 1) {
		batch_del(b, key, sizeof(key));
	}
	if (st->kind != 2 && old->version)
		batch_free_blocks(b, old->id, old->block_count);
	batch_put(b, "n", 1, &number, sizeof(number));
	(void)w;
}

/* Begin and commit one record: 0 or the error of store_begin or store_commit. */
static inline int h_step(struct world *w, const struct h_step *st)
{
	struct h_record *h = calloc(1, sizeof(*h));
	struct h_value old = {0};
	uint32_t number = w->step_count + 1;
	struct batch b;
	int rc = st->kind == 2 ? 0 : h_slot_get(w, st->slot, &old);

	if (rc && rc != -ENOENT) {
		free(h);
		return rc;
	}
	h->w = w;
	h->number = number;
	h->r.block_count = st->kind == 0 ? st->block_count : 0;
	h->r.deletes = st->kind == 1;
	h->r.lsn = number;
	h->r.done = h_done;
	rc = store_begin(w->store, &h->r);
	if (rc) {
		free(h);
		return rc;
	}
	batch_init(&b);
	h_batch(w, &b, st, &h->r, number, &old);
	rc = store_commit(w->store, &h->r, &b);
	batch_release(&b);
	if (rc) {
		free(h);
		return rc;
	}
	cr_assert_lt(w->step_count, H_STEPS_MAX);
	w->steps[w->step_count++] = *st;
	h_model_apply(w->model, st, number);
	return 0;
}

static inline struct h_step h_choose(struct world *w, uint64_t *state)
{
	uint64_t x = h_random(state);
	struct h_step s = {.slot = (uint32_t)(x % w->slots)};

	x >>= 32;
	s.kind = x % 16 == 0 ? 1 : x % 16 == 1 ? 2 : 0;
	s.block_count = s.kind == 0 ? 1 + (uint32_t)(x / 16 % w->blocks_max) : 0;
	return s;
}

/* Run until `count` more records are committed or something gives up. */
static inline int h_run(struct world *w, uint32_t count, uint64_t *state)
{
	uint32_t idle = 0;

	while (count > 0 && idle < 20000) {
		struct h_step s;
		uint64_t before = *state;
		int rc;

		if (h_crashed(w) || store_error(w->store))
			return -EIO;
		s = h_choose(w, state);
		rc = h_step(w, &s);
		if (rc == 0) {
			count--;
			idle = 0;
			if (h_random(state) % 4 == 0)
				h_turn(w);
			continue;
		}
		*state = before;
		if (rc != -EAGAIN)
			return rc;
		idle++;
		h_turn(w);
	}
	return count ? -ETIME : 0;
}

static inline int h_drain(struct world *w)
{
	for (uint32_t i = 0; i < 20000; i++) {
		if (h_crashed(w) || store_error(w->store))
			return -EIO;
		if (store_durable_sequence(w->store) ==
			store_committed_sequence(w->store))
			return 0;
		h_turn(w);
	}
	return -ETIME;
}

struct h_read {
	struct store_read r;
	int status;
	bool finished;
};

static inline void h_read_done(struct store_read *r, int status)
{
	struct h_read *h = container_of(r, struct h_read, r);

	h->status = status;
	h->finished = true;
}

static inline int h_read(
	struct world *w, uint64_t id, uint32_t count, const uint32_t *crcs, void *data)
{
	struct h_read h = {.r = {.id = id,
				   .block_count = count,
				   .crcs = crcs,
				   .data = data,
				   .done = h_read_done}};

	store_read(w->store, &h.r);
	while (!h.finished) {
		cr_assert(!h_crashed(w));
		h_pump(w);
	}
	return h.status;
}

/* How many records the index holds. */
static inline uint32_t h_number(struct world *w)
{
	struct buf b;
	uint32_t n = 0;

	buf_init(&b);
	if (kv_get(w->kv, "n", 1, &b) == 0)
		memcpy(&n, b.data, sizeof(n));
	buf_release(&b);
	return n;
}

/* One slot against the model: 0, or the error of a read. Wrong content ends the test. */
static inline int h_check_slot(
	struct world *w, uint32_t slot, const struct h_slot *want, uint8_t *data)
{
	static uint8_t expect[WFS_BLOCK_SIZE];
	struct h_value v;
	int rc = h_slot_get(w, slot, &v);

	if (want->version == 0) {
		cr_assert_eq(rc, -ENOENT, "slot %u: seed %llu", slot,
			(unsigned long long)w->seed);
		return 0;
	}
	cr_assert_eq(rc, 0, "slot %u version %u: %d seed %llu", slot, want->version, rc,
		(unsigned long long)w->seed);
	cr_assert_eq(v.version, want->version);
	cr_assert_eq(v.block_count, want->block_count);
	rc = h_read(w, v.id, v.block_count, v.crcs, data);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < v.block_count; i++) {
		h_fill_block(expect, slot, v.version, i);
		cr_assert(memcmp(expect, data + (size_t)i * WFS_BLOCK_SIZE,
				  WFS_BLOCK_SIZE) == 0,
			"wrong data: slot %u block %u seed %llu", slot, i,
			(unsigned long long)w->seed);
	}
	return 0;
}

/* All slots against the model after `number` records; every read must succeed. */
static inline void h_check(struct world *w, uint32_t number)
{
	static _Alignas(WFS_BLOCK_SIZE) uint8_t data[H_BLOCKS_MAX * WFS_BLOCK_SIZE];
	struct h_slot model[H_SLOTS] = {0};
	uint64_t live = 0;
	struct store_stats st;

	for (uint32_t i = 0; i < number; i++)
		h_model_apply(model, &w->steps[i], i + 1);
	for (uint32_t i = 0; i < w->slots; i++) {
		int rc = h_check_slot(w, i, &model[i], data);

		cr_assert_eq(rc, 0, "slot %u: read %d seed %llu", i, rc,
			(unsigned long long)w->seed);
		live += model[i].block_count;
	}
	store_stats(w->store, &st);
	cr_assert_eq(st.live_bytes, live * WFS_BLOCK_SIZE, "live %llu, model %llu",
		(unsigned long long)(st.live_bytes / WFS_BLOCK_SIZE),
		(unsigned long long)live);
}

/* After recovery: take over what the store holds as the program's new past. */
static inline void h_adopt(struct world *w)
{
	uint32_t n = h_number(w);

	cr_assert_geq(n, w->acked_count, "acknowledged %u, recovered %u, seed %llu",
		w->acked_count, n, (unsigned long long)w->seed);
	cr_assert_leq(n, w->step_count);
	h_check(w, n);
	w->step_count = w->acked_count = n;
	memset(w->model, 0, sizeof(w->model));
	for (uint32_t i = 0; i < n; i++)
		h_model_apply(w->model, &w->steps[i], i + 1);
}

struct h_checkpoint {
	bool finished;
	int status;
};

static inline void h_checkpoint_done(void *ctx, int status)
{
	struct h_checkpoint *c = ctx;

	c->finished = true;
	c->status = status;
}

static inline int h_checkpoint(struct world *w)
{
	struct h_checkpoint c = {0};
	int rc = store_checkpoint(w->store, h_checkpoint_done, &c);

	for (uint32_t i = 0; !rc && !c.finished && i < 20000; i++)
		h_turn(w);
	return rc ? rc : c.finished ? c.status : -ETIME;
}

#endif

/*
 * File data over one, two and three shards, against a model that is an array of bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "tests/lib/world.h"

#define OVER(n)    for (uint32_t n = 1; n <= 3; n++)
#define MODEL_SIZE (5u << 20)

static struct world world, *w = &world;
static uint8_t model[MODEL_SIZE], got[MODEL_SIZE], scratch[MODEL_SIZE];
static size_t model_size;

static void start(uint32_t shards)
{
	world_init(
		w, &(struct world_options){.shard_count = shards, .seed = shards + 10});
	memset(model, 0, sizeof(model));
	model_size = 0;
}

static void end(unsigned allow)
{
	world_check(w, allow);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left", mem_live_count());
}

static void fill(uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		p[i] = (uint8_t)(world_random(w) | 1);
}

static void put(ino_id ino, size_t offset, size_t size)
{
	fill(model + offset, size);
	cr_assert_eq(w_write(w, ino, model + offset, size, offset), 0);
	if (offset + size > model_size)
		model_size = offset + size;
}

static void compare(ino_id ino)
{
	struct attr a;
	int n;

	cr_assert_eq(w_fstat(w, ino, &a), 0);
	cr_assert_eq(a.size_bytes, model_size);
	n = w_read(w, ino, got, sizeof(got), 0);
	cr_assert_eq(n, (int)model_size, "read %d of %zu", n, model_size);
	for (size_t i = 0; i < model_size; i++)
		cr_assert(got[i] == model[i], "byte %zu of %zu: %02x, not %02x", i,
			model_size, got[i], model[i]);
}

static void cut(const char *path, size_t size)
{
	cr_assert_eq(w_truncate(w, path, size), 0);
	if (size < model_size)
		memset(model + size, 0, model_size - size);
	model_size = size;
}

Test(shard_data, small_writes)
{
	ino_id f;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		compare(f);
		put(f, 0, 10);
		put(f, 5, 10);
		put(f, 4090, 12);
		put(f, 4096, 4096);
		put(f, 8191, 2);
		put(f, 100, 1);
		put(f, 20000, 1);
		compare(f);
		put(f, 12288, 4096 * 3);
		put(f, 12288 + 1, 4096 * 2);
		compare(f);
		for (uint32_t i = 0; i < n; i++)
			world_restart(w, i);
		compare(f);
		end(0);
	}
}

Test(shard_data, random_ranges_over_chunks)
{
	ino_id f;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		for (int i = 0; i < 60; i++) {
			size_t offset = world_random(w) % (MODEL_SIZE - 1);
			size_t size = world_random(w) % 4 ? 1 + world_random(w) % 20000
							  : 1 + world_random(w) % 1500000;

			if (size > MODEL_SIZE - offset)
				size = MODEL_SIZE - offset;
			put(f, offset, size);
			if (i % 20 == 19)
				compare(f);
			if (i % 16 == 15)
				world_restart(w, (uint32_t)(world_random(w) % n));
		}
		compare(f);
		end(0);
	}
}

Test(shard_data, truncate)
{
	static const size_t sizes[] = {3u << 20, (2u << 20) + 5000, (2u << 20) + 1,
		2u << 20, (1u << 20) + 4097, 1u << 20, 700001, 4096 * 30, 4097, 4096, 1,
		0};
	ino_id f;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 4u << 20);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			cut("/f", sizes[i]);
			compare(f);
			/* What was cut reads as zeros when the file grows again. */
			cut("/f", sizes[i] + 10000);
			compare(f);
			put(f, sizes[i] + 12000, 3000);
			compare(f);
			cut("/f", sizes[i]);
		}
		compare(f);
		end(0);
	}
}

/* Every size, then a write behind: a half block at the cut. */
Test(shard_data, truncate_then_write_behind)
{
	ino_id f;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, MODEL_SIZE);
		for (unsigned i = 0; i < 60 && model_size > 3; i++) {
			cut("/f", model_size - 1 - world_random(w) % (model_size / 3));
			if (world_random(w) % 3 == 0 && model_size + 9000 < MODEL_SIZE)
				put(f, model_size + world_random(w) % 8000, 500);
			compare(f);
		}
		end(0);
	}
}

Test(shard_data, append)
{
	ino_id f;

	OVER(n)
	{
		struct wop a, b;

		start(n);
		w->shuffle = true;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		for (unsigned i = 0; i < 40; i++) {
			uint8_t x[100], y[100];
			bool x_first;

			memset(x, 'a' + (int)(i % 26), sizeof(x));
			memset(y, 'A' + (int)(i % 26), sizeof(y));
			wop_write(&a, w, f, 0, x, sizeof(x));
			wop_write(&b, w, f, 0, y, sizeof(y));
			a.append = b.append = true;
			wop_begin(&a);
			wop_begin(&b);
			cr_assert_eq(wop_wait(&a), 0);
			cr_assert_eq(wop_wait(&b), 0);
			x_first = le64_get(a.io.offset) == model_size;
			cr_assert_eq(le64_get(x_first ? b.io.offset : a.io.offset),
				model_size + 100);
			memcpy(model + model_size, x_first ? x : y, 100);
			memcpy(model + model_size + 100, x_first ? y : x, 100);
			model_size += 200;
		}
		compare(f);
		end(0);
	}
}

/* Two writers in one block: neither undoes the other's bytes. */
Test(shard_data, concurrent_writes_in_one_block)
{
	ino_id f;

	OVER(n)
	{
		start(n);
		w->shuffle = true;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 1200000);
		for (unsigned i = 0; i < 60; i++) {
			struct wop ops[4];
			size_t base = i % 2 ? 1 << 20 : 4096 * 7;

			for (unsigned k = 0; k < 4; k++) {
				uint8_t *at = model + base + k * 900 + 1;

				fill(at, 850);
				wop_write(&ops[k], w, f, base + k * 900 + 1, at, 850);
				wop_begin(&ops[k]);
			}
			for (unsigned k = 0; k < 4; k++)
				cr_assert_eq(wop_wait(&ops[k]), 0);
		}
		compare(f);
		end(0);
	}
}

static int write_of_generation(ino_id ino, uint64_t offset, uint32_t generation)
{
	struct wop o;

	wop_write(&o, w, ino, offset, "data", 4);
	o.generation = generation;
	o.once = true;
	return wop_run(&o);
}

Test(shard_data, old_generations_are_stale)
{
	struct attr a, b;
	ino_id f;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 4u << 20);
		cr_assert_eq(w_fstat(w, f, &a), 0);
		cut("/f", 100);
		cr_assert_eq(w_fstat(w, f, &b), 0);
		cr_assert_neq(a.generation, b.generation);
		for (uint64_t chunk = 0; chunk < 4; chunk++)
			cr_assert_eq(write_of_generation(
					     f, chunk * WFS_CHUNK_SIZE, a.generation),
				-ESTALE);
		compare(f);
		cr_assert_eq(write_of_generation(f, 3 * WFS_CHUNK_SIZE, b.generation), 0);
		memcpy(model + 3 * WFS_CHUNK_SIZE, "data", 4);
		model_size = 3 * WFS_CHUNK_SIZE + 4;
		compare(f);
		end(0);
	}
}

/* The answer to a truncate comes before its purge: a write right after must survive it.
 */
Test(shard_data, write_after_truncate_is_not_purged)
{
	ino_id f;

	for (unsigned seed = 0; seed < 30; seed++) {
		struct wire_setattr ws = {
			.mask = le32_put(SET_SIZE), .size = le64_put(1000)};
		struct wop o, p;

		start(3);
		w->state = seed;
		w->shuffle = true;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 5u << 20);
		wop_init(&o, w, OP_SETATTR, "/f");
		memcpy(o.fixed, &ws, sizeof(ws));
		o.fixed_size = sizeof(ws);
		cr_assert_eq(wop_run(&o), 0);
		memset(model + 1000, 0, model_size - 1000);
		wop_write(&p, w, f, 4 * WFS_CHUNK_SIZE + 7, "fresh", 5);
		p.generation = le32_get(o.reply.attr.generation);
		p.known = true;
		cr_assert_eq(wop_run(&p), 0);
		memcpy(model + 4 * WFS_CHUNK_SIZE + 7, "fresh", 5);
		model_size = 4 * WFS_CHUNK_SIZE + 12;
		world_quiesce(w);
		compare(f);
		end(0);
	}
}

/* A purge that nobody waits for any more comes when its chunk has new data. */
Test(shard_data, late_purges_do_nothing)
{
	ino_id f;

	for (unsigned seed = 0; seed < 10; seed++) {
		start(3);
		w->state = seed;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 5u << 20);
		w->late_op = OP_CHUNK_PURGE;
		w->late_us = 5000000;
		cut("/f", 1000);
		for (size_t chunk = 1; chunk < 5; chunk++)
			put(f, chunk * WFS_CHUNK_SIZE, 9000);
		compare(f);
		for (int i = 0; i < 100; i++)
			world_turn(w);
		compare(f);
		end(0);
	}
}

/* The same where the purge asks the buckets what they have. */
Test(shard_data, late_purges_of_sparse_files_do_nothing)
{
	ino_id f;

	for (unsigned which = 0; which < 8; which++) {
		start(3);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 2000);
		cr_assert_eq(w_truncate(w, "/f", 200u << 20), 0);
		w->late_op = OP_CHUNK_PURGE;
		w->late_after = which;
		w->late_us = 5000000;
		cut("/f", 1000);
		for (size_t chunk = 1; chunk < 5; chunk++)
			put(f, chunk * WFS_CHUNK_SIZE, 9000);
		compare(f);
		for (int i = 0; i < 100; i++)
			world_turn(w);
		compare(f);
		end(0);
	}
}

/* A cut that is reading its edge while O_TRUNC empties the file. */
Test(shard_data, truncates_crossing)
{
	ino_id f;

	OVER(n)
	{
		start(n);
		w->shuffle = true;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		for (unsigned i = 0; i < 40; i++) {
			struct wire_setattr ws = {
				.mask = le32_put(SET_SIZE), .size = le64_put(100)};
			struct wire_open wo = {.flags = le32_put(O_RDWR | O_TRUNC)};
			struct wop cutting, emptying;
			int size;

			put(f, 0, 5000);
			wop_init(&cutting, w, OP_SETATTR, "/f");
			memcpy(cutting.fixed, &ws, sizeof(ws));
			cutting.fixed_size = sizeof(ws);
			wop_init(&emptying, w, OP_OPEN, "/f");
			memcpy(emptying.fixed, &wo, sizeof(wo));
			emptying.fixed_size = sizeof(wo);
			wop_begin(&cutting);
			wop_begin(&emptying);
			cr_assert_eq(wop_wait(&cutting), 0);
			cr_assert_eq(wop_wait(&emptying), 0);
			cr_assert_eq(w_close(w, f), 0);
			size = w_read(w, f, got, sizeof(got), 0);
			cr_assert(size == 0 || size == 100);
			/* Emptied first, then "cut" to 100: zeros. */
			for (int k = 0; k < size; k++)
				cr_assert_eq(got[k], 0);
			cut("/f", 0);
			model_size = 0;
		}
		end(0);
	}
}

/* --- files without a name --- */

static uint64_t live_bytes(void)
{
	uint64_t live = 0;

	for (uint32_t i = 0; i < w->shard_count; i++) {
		struct store_stats st;

		store_stats(w->shards[i].store, &st);
		live += st.live_bytes;
	}
	return live;
}

Test(shard_data, unlinked_files_live_until_close)
{
	struct attr a, b;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_open(w, "/d/f", O_CREAT | O_RDWR, 0644, &a), 0);
		cr_assert_eq(w_open(w, "/d/f", O_RDWR, 0644, &b), 0);
		put(a.ino, 0, 3u << 20);
		cr_assert_eq(w_rename(w, "/d/f", "/g", 0), 0);
		cr_assert_eq(w_unlink(w, "/g"), 0);
		compare(a.ino);
		put(a.ino, 1000, 2000000);
		compare(a.ino);
		world_check(w, CHECK_ORPHANS);
		cr_assert_eq(w_close(w, a.ino), 0);
		compare(a.ino);
		cr_assert_eq(w_close(w, a.ino), 0);
		world_check(w, 0);
		cr_assert_eq(live_bytes(), 0);
		cr_assert_eq(w_fstat(w, a.ino, &b), -ESTALE);
		end(0);
	}
}

Test(shard_data, sessions_end)
{
	struct attr a;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_open(w, "/f", O_CREAT | O_RDWR, 0644, &a), 0);
		put(a.ino, 0, 100);
		cr_assert_eq(w_unlink(w, "/f"), 0);
		world_check(w, CHECK_ORPHANS);
		for (uint32_t i = 0; i < n; i++)
			shard_session_end(w->shards[i].shard, w->session);
		/* It lingers, but not for ever. */
		for (int i = 0; i < 100; i++)
			world_turn(w);
		end(0);
	}
}

/* What was open before a restart stays, for those who say in time that they hold it. */
Test(shard_data, reopened_after_a_restart)
{
	struct attr a, b, forgotten;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_open(w, "/a", O_CREAT | O_RDWR, 0644, &a), 0);
		cr_assert_eq(w_open(w, "/b", O_CREAT | O_RDWR, 0644, &b), 0);
		cr_assert_eq(w_open(w, "/c", O_CREAT | O_RDWR, 0644, &forgotten), 0);
		put(a.ino, 0, 3u << 20);
		cr_assert_eq(w_unlink(w, "/a"), 0);
		cr_assert_eq(w_unlink(w, "/c"), 0);
		w->grace_us = 10000000;
		for (uint32_t i = 0; i < n; i++)
			world_restart(w, i);
		w->env.time_us += 5000000;
		compare(a.ino);
		cr_assert_eq(w_fstat(w, forgotten.ino, &forgotten), 0);
		cr_assert_eq(w_unlink(w, "/b"), 0);
		cr_assert_eq(w_reopen(w, a.ino, 2), 0);
		cr_assert_eq(w_reopen(w, b.ino, 1), 0);
		/* Saying it twice changes nothing. */
		cr_assert_eq(w_reopen(w, b.ino, 1), 0);
		w->env.time_us += 6000000;
		for (int i = 0; i < 100; i++)
			world_turn(w);
		cr_assert_eq(w_fstat(w, forgotten.ino, &forgotten), -ESTALE);
		cr_assert_eq(w_reopen(w, forgotten.ino, 1), -ESTALE);
		cr_assert_eq(w_close(w, a.ino), 0);
		compare(a.ino);
		cr_assert_eq(w_fstat(w, b.ino, &b), 0);
		cr_assert_eq(w_close(w, a.ino), 0);
		cr_assert_eq(w_close(w, b.ino), 0);
		world_check(w, 0);
		cr_assert_eq(live_bytes(), 0);
		cr_assert_eq(w_fstat(w, b.ino, &b), -ESTALE);
		end(0);
	}
}

Test(shard_data, replaced_and_removed_files_free_their_space)
{
	ino_id f, g;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		cr_assert_eq(w_create(w, "/d/g", 0644, &g), 0);
		put(f, 0, MODEL_SIZE);
		put(g, 0, MODEL_SIZE);
		cr_assert_eq(live_bytes(), 2 * MODEL_SIZE);
		cr_assert_eq(w_rename(w, "/f", "/d/g", 0), 0);
		world_check(w, 0);
		cr_assert_eq(live_bytes(), MODEL_SIZE);
		cr_assert_eq(w_unlink(w, "/d/g"), 0);
		world_check(w, 0);
		cr_assert_eq(live_bytes(), 0);
		end(0);
	}
}

/* A purge goes on after the shard that holds the chunks was away. */
Test(shard_data, purges_survive)
{
	ino_id f;

	start(3);
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	put(f, 0, MODEL_SIZE);
	world_kill(w, 1);
	cr_assert_eq(w_unlink(w, "/f"), 0);
	for (int i = 0; i < 200; i++)
		world_turn(w);
	world_restart(w, 0);
	for (int i = 0; i < 200; i++)
		world_turn(w);
	world_restart(w, 1);
	world_check(w, 0);
	cr_assert_eq(live_bytes(), 0);
	end(0);
}

/* A full device: writes fail, deletes do not, and then there is room again. */
Test(shard_data, full)
{
	ino_id f, g;
	size_t offset = 0;
	unsigned refused = 0;
	int rc = 0;

	world_init(w, &(struct world_options){.shard_count = 2,
			      .seed = 5,
			      .disk_bytes = 48u << 20,
			      .segment_bytes = 2u << 20});
	fill(scratch, sizeof(scratch));
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	cr_assert_eq(w_create(w, "/g", 0644, &g), 0);
	while (rc == 0 && offset < 200u << 20) {
		rc = w_write(w, f, scratch, WFS_CHUNK_SIZE, offset);
		offset += WFS_CHUNK_SIZE;
	}
	cr_assert_eq(rc, -ENOSPC);
	/* To the last block, on both. */
	for (uint64_t chunk = 0; chunk < 16; chunk++) {
		rc = 0;
		for (offset = 0; rc == 0 && offset < WFS_CHUNK_SIZE; offset += 4096)
			rc = w_write(
				w, g, scratch, 4096, chunk * WFS_CHUNK_SIZE + offset);
		cr_assert(rc == 0 || rc == -ENOSPC, "%d", rc);
	}
	/* Refused here or by the other shard: either way nothing stays locked. */
	for (unsigned i = 0; i < 12; i++) {
		rc = w_mkdir(w, "/d", 0755);
		cr_assert(rc == -ENOSPC || rc == 0, "%d", rc);
		refused += rc != 0;
		if (rc == 0)
			cr_assert_eq(w_rmdir(w, "/d"), 0);
	}
	cr_assert_gt(refused, 0);
	world_check(w, CHECK_STRAYS);
	cr_assert_eq(w_unlink(w, "/f"), 0);
	cr_assert_eq(w_unlink(w, "/g"), 0);
	world_quiesce(w);
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	cr_assert_eq(w_create(w, "/d/f", 0644, &f), 0);
	cr_assert_eq(w_write(w, f, scratch, WFS_CHUNK_SIZE, 0), 0);
	end(CHECK_STRAYS);
}

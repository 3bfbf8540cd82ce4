/*
 * Reading without asking the inode: readers who know the file from before, against cuts.
 *
 * A reader does here what shim/client/data.c does: it believes a chunk that takes its
 * generation as far as it knows the file to reach, and asks the inode's owner otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "tests/lib/world.h"

#define MIB        (1u << 20)
#define MODEL_SIZE (6u * MIB)
#define NAMED      (WIRE_CHUNKS_NAMED(WORLD_BUCKETS) * WFS_CHUNK_SIZE)

struct reader {
	ino_id ino;
	uint32_t generation;
	uint64_t size;
	unsigned asked;
	unsigned trusted;
};

static struct world world, *w = &world;
static uint8_t model[MODEL_SIZE], got[MODEL_SIZE];
static size_t model_size;

static void start(uint32_t shards, uint64_t seed)
{
	world_init(w, &(struct world_options){.shard_count = shards, .seed = seed});
	memset(model, 0, sizeof(model));
	model_size = 0;
}

static void end(void)
{
	world_check(w, 0);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left", mem_live_count());
}

static int ask(struct reader *r)
{
	struct attr a;
	int rc = w_fstat(w, r->ino, &a);

	r->asked++;
	if (rc == 0) {
		r->generation = a.generation;
		r->size = a.size_bytes;
	}
	return rc;
}

static struct reader reader_of(ino_id ino)
{
	struct reader r = {.ino = ino};

	cr_assert_eq(ask(&r), 0);
	r.asked = 0;
	return r;
}

/* One piece; *limit_out is lowered to the size that the answer knew of. 1: nothing there. */
static int read_piece(struct reader *r, uint8_t *to, uint64_t offset, uint32_t size,
	uint64_t *limit_out)
{
	struct wop o;
	int rc;

	wop_read(&o, w, r->ino, offset, to, size);
	o.generation = r->generation;
	rc = wop_run(&o);
	if (rc)
		return rc;
	memset(to + o.reply_data_size, 0, size - o.reply_data_size);
	if (le32_get(o.io.flags) & WIRE_IO_INODE_DONE && le64_get(o.io.size) < *limit_out)
		*limit_out = le64_get(o.io.size);
	return le32_get(o.io.flags) & WIRE_IO_HOLE ? 1 : 0;
}

static int read_once(struct reader *r, uint8_t *to, size_t size, uint64_t offset)
{
	uint64_t to_end = offset + size, limit;
	bool sure = to_end <= r->size && to_end <= NAMED && offset >= WFS_CHUNK_SIZE;
	bool hole = false;
	int rc = sure ? 0 : ask(r);

	if (rc)
		return rc;
	r->trusted += sure;
	limit = r->size;
	for (uint64_t at = offset; at < to_end;) {
		uint64_t chunk_end = (at / WFS_CHUNK_SIZE + 1) * WFS_CHUNK_SIZE;
		uint64_t stop = chunk_end < to_end ? chunk_end : to_end;

		rc = read_piece(r, to + (at - offset), at, (uint32_t)(stop - at), &limit);
		if (rc < 0)
			return rc;
		hole |= rc == 1;
		at = stop;
	}
	if (sure && hole) {
		rc = ask(r);
		if (rc)
			return rc;
		if (r->size < limit)
			limit = r->size;
	}
	if (limit > to_end)
		limit = to_end;
	return limit > offset ? (int)(limit - offset) : 0;
}

static int read_as(struct reader *r, uint8_t *to, size_t size, uint64_t offset)
{
	int rc = -ESTALE;

	for (unsigned i = 0; i < 16 && rc == -ESTALE; i++) {
		rc = read_once(r, to, size, offset);
		if (rc == -ESTALE && ask(r) == -ESTALE)
			return rc;
	}
	return rc;
}

static void fill(size_t offset, size_t size)
{
	for (size_t i = offset; i < offset + size; i++)
		model[i] = (uint8_t)(world_random(w) | 1);
	if (offset + size > model_size)
		model_size = offset + size;
}

static void put(ino_id ino, size_t offset, size_t size)
{
	fill(offset, size);
	cr_assert_eq(w_write(w, ino, model + offset, size, offset), 0);
}

static void cut(size_t size)
{
	cr_assert_eq(w_truncate(w, "/f", size), 0);
	if (size < model_size)
		memset(model + size, 0, model_size - size);
	model_size = size;
}

static void check_read(struct reader *r, size_t offset, size_t size)
{
	size_t left = model_size > offset ? model_size - offset : 0;
	int n = read_as(r, got, size, offset);

	cr_assert_eq(n, (int)(size < left ? size : left), "read %d of %zu at %zu of %zu", n,
		size, offset, model_size);
	cr_assert_arr_eq(got, model + offset, (size_t)n);
}

/* What was cut has ended for those who knew it longer, holes too; then it is zeros. */
static void cut_and_look(ino_id f, size_t size)
{
	struct reader before, r;

	put(f, 0, 2 * MIB);
	put(f, 3 * MIB, 2 * MIB);
	cut(6 * MIB);
	before = reader_of(f);
	cut(size);
	for (size_t chunk = 1; chunk < 6; chunk++) {
		r = before;
		check_read(&r, chunk * MIB, MIB);
		r = before;
		check_read(&r, chunk * MIB - 10, 20);
	}
	cut(6 * MIB);
	for (size_t chunk = 1; chunk < 6; chunk++) {
		r = before;
		check_read(&r, chunk * MIB, MIB);
	}
	put(f, 4 * MIB + 5, 1000);
	r = before;
	check_read(&r, MIB, 5 * MIB);
}

Test(shard_read, after_a_truncate)
{
	ino_id f;

	for (uint32_t shards = 1; shards <= 3; shards++) {
		start(shards, shards);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		for (size_t chunk = 0; chunk < 6; chunk++) {
			cut_and_look(f, chunk * MIB);
			cut_and_look(f, chunk * MIB + 300100);
		}
		end();
	}
}

/* A file that had grown beyond what can be marked before it was cut. */
Test(shard_read, after_a_truncate_of_a_huge_file)
{
	struct reader small, huge, r;
	ino_id f;

	start(3, 5);
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	put(f, 0, 10);
	put(f, 4 * MIB, MIB);
	cut(6 * MIB);
	small = reader_of(f);
	cr_assert_eq(w_truncate(w, "/f", 1000ull * MIB), 0);
	cr_assert_eq(w_write(w, f, model + 4 * MIB, 5000, 900ull * MIB), 0);
	huge = reader_of(f);
	cut(2 * MIB);
	for (size_t chunk = 2; chunk < 6; chunk++) {
		r = small;
		check_read(&r, chunk * MIB, MIB);
		r = huge;
		check_read(&r, chunk * MIB, MIB);
	}
	for (uint64_t chunk = 100; chunk < 1000; chunk += 50) {
		r = huge;
		cr_assert_eq(read_as(&r, got, MIB, chunk * MIB), 0);
	}
	end();
}

/* Within what is known nobody but the chunk's owner hears of a read. */
Test(shard_read, asks_only_chunks)
{
	struct reader r;
	unsigned others = 0;
	ino_id f;

	start(3, 3);
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	put(f, 0, 6 * MIB);
	r = reader_of(f);
	for (size_t chunk = 1; chunk < 6; chunk++) {
		uint16_t bucket = chunk_bucket(f, chunk, WORLD_BUCKETS);
		uint32_t owner = w->map->buckets[ino_bucket(f)].primary;
		uint64_t before = w->shards[owner].message_count;

		if (w->map->buckets[bucket].primary == owner)
			continue;
		others++;
		check_read(&r, chunk * MIB + 5, 100000);
		cr_assert_eq(w->shards[owner].message_count, before);
	}
	cr_assert_gt(others, 0);
	cr_assert_eq(r.asked, 0);
	end();
}

Test(shard_read, a_file_that_is_gone)
{
	struct reader before, r;
	ino_id f;

	start(3, 4);
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	put(f, 0, 5 * MIB);
	before = reader_of(f);
	cr_assert_eq(w_unlink(w, "/f"), 0);
	world_quiesce(w);
	for (size_t chunk = 0; chunk < 5; chunk++) {
		r = before;
		cr_assert_eq(read_as(&r, got, 100, chunk * MIB), -ESTALE);
	}
	end();
}

/* Two clients, one after the other, each with what it happens to know. */
static void two_clients_step(ino_id f, struct reader *r)
{
	size_t size = 1 + world_random(w) % 300000;
	size_t offset = world_random(w) % (MODEL_SIZE - size);

	switch (world_random(w) % 10) {
	case 0:
		cut(offset);
		break;
	case 1:
		put(f, offset, size);
		break;
	case 2:
		put(f, MODEL_SIZE - size, size);
		break;
	case 3:
		check_read(r, 0, MODEL_SIZE);
		break;
	default:
		check_read(r, offset, size);
	}
}

Test(shard_read, two_clients)
{
	unsigned trusted = 0;
	ino_id f;

	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct reader readers[2];

		start(2 + seed % 2, seed);
		w->shuffle = true;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		readers[0] = readers[1] = reader_of(f);
		for (unsigned i = 0; i < 400; i++)
			two_clients_step(f, &readers[world_random(w) % 2]);
		trusted += readers[0].trusted + readers[1].trusted;
		end();
	}
	cr_assert_gt(trusted, 500, "%u", trusted);
}

/* What a reader sees while the file is cut: what was, or what is. */
Test(shard_read, during_a_truncate)
{
	ino_id f;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct wire_setattr ws = {
			.mask = le32_put(SET_SIZE), .size = le64_put(MIB + 1000)};
		struct reader r;
		struct wop o;
		bool ended = false;

		start(3, seed);
		w->shuffle = true;
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		put(f, 0, 5 * MIB);
		r = reader_of(f);
		wop_init(&o, w, OP_SETATTR, "/f");
		memcpy(o.fixed, &ws, sizeof(ws));
		o.fixed_size = sizeof(ws);
		wop_begin(&o);
		for (unsigned i = 0; i < 8; i++) {
			size_t offset = (2 + world_random(w) % 3) * MIB + 77;
			int n = read_as(&r, got, 5000, offset);

			cr_assert(n == 0 || (n == 5000 && !ended), "read %d", n);
			cr_assert_arr_eq(got, model + offset, (size_t)n);
			ended = n == 0;
		}
		cr_assert_eq(wop_wait(&o), 0);
		cr_assert(o.reply.flags & WIRE_WALK_PURGING);
		memset(model + MIB + 1000, 0, model_size - MIB - 1000);
		model_size = MIB + 1000;
		world_quiesce(w);
		check_read(&r, 2 * MIB, MIB);
		check_read(&r, MIB, MIB);
		end();
	}
}

/* --- a cut that takes longer than anybody waits at a time --- */

static int getattr_status;
static bool getattr_ended;

static void getattr_done(struct rpc_call *c, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	(void)c;
	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	getattr_status = status;
	getattr_ended = true;
}

static int getattr_for(ino_id ino, uint32_t timeout_ms)
{
	struct wire_walk body = {
		.path = {.start = le64_put(ino), .mode = WIRE_NOFOLLOW}};
	struct rpc_call call = {
		.op = OP_WALK,
		.bucket = ino_bucket(ino),
		.timeout_ms = timeout_ms,
		.cred = &w->cred,
		.body = &body,
		.body_size = sizeof(body),
		.done = getattr_done,
	};

	getattr_ended = false;
	world_call_send(w, WORLD_VIA_NONE, &call);
	while (!getattr_ended)
		world_turn(w);
	return getattr_status;
}

static void cut_begin(uint64_t size)
{
	struct wire_setattr ws = {.mask = le32_put(SET_SIZE), .size = le64_put(size)};
	struct wop o;

	wop_init(&o, w, OP_SETATTR, "/f");
	memcpy(o.fixed, &ws, sizeof(ws));
	o.fixed_size = sizeof(ws);
	cr_assert_eq(wop_run(&o), 0);
	cr_assert(o.reply.flags & WIRE_WALK_PURGING);
}

Test(shard_read, long_cuts_say_that_they_go_on)
{
	unsigned again = 0;
	ino_id f;
	int rc;

	world_init(w, &(struct world_options){
			      .shard_count = 3, .bucket_count = 64, .seed = 6});
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	cr_assert_eq(w_truncate(w, "/f", 1000ull * MIB), 0);
	w->shuffle = true;
	cut_begin(5);
	while ((rc = getattr_for(f, 100)) == -EINPROGRESS)
		again++;
	cr_assert_eq(rc, 0);
	cr_assert_gt(again, 0);
	end();
}

/* But where a shard is down they do not go on. */
Test(shard_read, a_cut_that_cannot_end)
{
	uint32_t owner;
	ino_id f;
	int rc = -EINPROGRESS;

	start(3, 7);
	cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
	cr_assert_eq(w_truncate(w, "/f", 100ull * MIB), 0);
	owner = w->map->buckets[ino_bucket(f)].primary;
	world_kill(w, (owner + 1) % 3);
	cut_begin(5);
	for (unsigned i = 0; i < 3 && rc == -EINPROGRESS; i++)
		rc = getattr_for(f, 8000);
	cr_assert_eq(rc, -ETIMEDOUT, "%d", rc);
	world_restart(w, (owner + 1) % 3);
	cr_assert_eq(w_truncate(w, "/f", 3), 0);
	end();
}

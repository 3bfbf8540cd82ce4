/*
 * Two operations that want the same thing at the same time, in all orders that seeds
 * give.
 */
#include "tests/unit/shard_scenarios.h"

static struct wop ops[2];

static void begin(uint32_t shards)
{
	world_init(w, &(struct world_options){.shard_count = shards,
			      .seed = seed,
			      .disk_bytes = 40u << 20,
			      .segment_bytes = 2u << 20});
}

static void both(void)
{
	w->shuffle = true;
	wop_begin(&ops[0]);
	wop_begin(&ops[1]);
}

static void both_wait(void)
{
	wop_wait(&ops[0]);
	wop_wait(&ops[1]);
}

static void op_on(struct wop *o, uint16_t code, const char *path)
{
	struct wire_mknod wm = {
		.mode = le32_put(code == OP_MKDIR ? 0755 : S_IFREG | 0644)};

	wop_init(o, w, code, path);
	if (code == OP_MKDIR || code == OP_MKNOD)
		fixed_set(o, &wm, sizeof(wm));
}

static void end(unsigned allow)
{
	world_check(w, allow);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0);
}

#define SEEDS(n) for (seed = 1; seed <= (n); seed++)

/* Each directory into the other: one of them has to lose, or both are lost. */
static void crossing(bool root_dies)
{
	begin(3);
	mkdir_on("/p", 1);
	mkdir_on("/q", 2);
	mkdir_on("/p/a", 1);
	mkdir_on("/p/a/y", 2);
	mkdir_on("/q/b", 2);
	mkdir_on("/q/b/x", 1);
	wop_rename(&ops[0], w, "/p/a", "/q/b/x/a", 0);
	wop_rename(&ops[1], w, "/q/b", "/p/a/y/b", 0);
	both();
	if (root_dies) {
		uint64_t turns = world_random(w) % 100;

		while (!w->shards[0].shard->rename_txid && !ops[0].finished)
			world_turn(w);
		while (turns-- > 0)
			world_turn(w);
		world_restart(w, 0);
	}
	both_wait();
	cr_assert(ops[0].status != 0 || ops[1].status != 0);
	if (!root_dies)
		cr_assert(ops[0].status == 0 || ops[1].status == 0, "%d %d",
			ops[0].status, ops[1].status);
	end(0);
}

/* A file is moved once, though the second finds it already under the new name. */
Test(shard_race, the_same_rename_twice)
{
	static const unsigned flags[] = {0, RENAME_NOREPLACE};

	SEEDS(200)
	{
		begin(3);
		mkdir_on("/p", 1);
		mkdir_on("/q", 2);
		cr_assert_eq(w_create(w, "/p/f", 0644, NULL), 0);
		for (int i = 0; i < 2; i++)
			wop_rename(&ops[i], w, "/p/f", "/q/f", flags[seed % 2]);
		both();
		both_wait();
		cr_assert_eq(ops[0].status + ops[1].status, -ENOENT, "seed %u: %d %d", seed,
			ops[0].status, ops[1].status);
		end(0);
	}
}

Test(shard_race, renames_crossing)
{
	SEEDS(60)
	crossing(false);
}

Test(shard_race, renames_crossing_while_the_lock_is_lost)
{
	SEEDS(300)
	crossing(true);
}

Test(shard_race, mkdir_in_a_directory_that_goes)
{
	SEEDS(60)
	{
		begin(1 + (uint32_t)seed % 3);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		op_on(&ops[0], seed % 2 ? OP_MKDIR : OP_MKNOD, "/d/x");
		op_on(&ops[1], OP_RMDIR, "/d");
		both();
		both_wait();
		cr_assert((ops[0].status == 0 && ops[1].status == -ENOTEMPTY) ||
				  (ops[0].status == -ENOENT && ops[1].status == 0),
			"%d %d, seed %llu", ops[0].status, ops[1].status,
			(unsigned long long)seed);
		end(0);
	}
}

Test(shard_race, unlink_and_link)
{
	SEEDS(60)
	{
		begin(1 + (uint32_t)seed % 3);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		make("/f", "one");
		op_on(&ops[0], OP_UNLINK, "/f");
		wop_link(&ops[1], w, "/f", "/d/g");
		both();
		both_wait();
		cr_assert_eq(ops[0].status, 0);
		cr_assert(ops[1].status == 0 || ops[1].status == -ENOENT, "%d",
			ops[1].status);
		cr_assert_eq(holds("/d/g", "one"), ops[1].status == 0);
		end(0);
	}
}

Test(shard_race, the_same_name_made_twice)
{
	SEEDS(60)
	{
		begin(1 + (uint32_t)seed % 3);
		op_on(&ops[0], OP_MKDIR, "/x");
		op_on(&ops[1], seed % 2 ? OP_MKDIR : OP_MKNOD, "/x");
		both();
		both_wait();
		cr_assert((ops[0].status == 0 && ops[1].status == -EEXIST) ||
				  (ops[0].status == -EEXIST && ops[1].status == 0),
			"%d %d", ops[0].status, ops[1].status);
		end(0);
	}
}

Test(shard_race, one_name_renamed_twice)
{
	SEEDS(60)
	{
		begin(1 + (uint32_t)seed % 3);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/e", 0755), 0);
		make("/f", "one");
		wop_rename(&ops[0], w, "/f", "/d/f", 0);
		wop_rename(&ops[1], w, "/f", "/e/f", 0);
		both();
		both_wait();
		cr_assert((ops[0].status == 0 && ops[1].status == -ENOENT) ||
				  (ops[0].status == -ENOENT && ops[1].status == 0),
			"%d %d", ops[0].status, ops[1].status);
		cr_assert_eq(holds("/d/f", "one"), ops[0].status == 0);
		cr_assert_eq(holds("/e/f", "one"), ops[1].status == 0);
		end(0);
	}
}

/* An open that succeeded has the file, though its name went in the same moment. */
Test(shard_race, open_and_unlink)
{
	SEEDS(120)
	{
		struct wire_open wo = {
			.flags = le32_put(O_RDWR | O_CREAT), .mode = le32_put(0644)};
		struct attr a;
		ino_id ino;

		begin(1 + (uint32_t)seed % 3);
		if (seed % 2)
			make("/f", "one");
		wop_init(&ops[0], w, OP_OPEN, "/f");
		fixed_set(&ops[0], &wo, sizeof(wo));
		op_on(&ops[1], OP_UNLINK, "/f");
		both();
		both_wait();
		cr_assert_eq(ops[0].status, 0);
		ino = le64_get(ops[0].reply.ino);
		cr_assert_eq(
			w_fstat(w, ino, &a), 0, "seed %llu", (unsigned long long)seed);
		cr_assert_eq(w_write(w, ino, "two", 3, 0), 0);
		cr_assert_eq(w_close(w, ino), 0);
		end(0);
	}
}

/* The log fails while somebody waits: it is told, not forgotten. */
Test(shard_race, waiting_when_the_log_fails)
{
	SEEDS(20)
	{
		begin(2);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		wop_rename(&ops[0], w, "/d", "/e", 0);
		op_on(&ops[1], OP_MKNOD, "/d/x");
		for (uint32_t i = 0; i < 2; i++)
			device_sim_faults(w->shards[i].disk)->fail_nth =
				(unsigned)(1 + seed % 4);
		both();
		both_wait();
		for (uint32_t i = 0; i < 2; i++)
			world_restart(w, i);
		end(0);
	}
}

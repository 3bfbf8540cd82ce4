/* Buckets with several members: replication, takeover, catching up, copies. */
#include "tests/lib/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <criterion/criterion.h>

static struct world w[1];

static void begin(uint32_t shards, uint32_t copies, uint64_t seed)
{
	world_init(w, &(struct world_options){.shard_count = shards,
			      .copies = copies,
			      .seed = seed});
	cr_assert(world_heal(w, 20000000), "it does not begin, seed %llu",
		(unsigned long long)seed);
}

TestSuite(member, .timeout = 120);

Test(member, begins_and_serves)
{
	char name[64];
	uint8_t data[20000], got[20000];
	ino_id f;

	begin(3, 2, 1);
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "/d/f%d", i);
		cr_assert_eq(w_create(w, name, 0644, &f), 0);
		memset(data, i, sizeof(data));
		cr_assert_eq(w_write(w, f, data, sizeof(data), 100), 0);
		cr_assert_eq(w_read(w, f, got, sizeof(got), 100), sizeof(got));
		cr_assert_arr_eq(got, data, sizeof(got));
	}
	world_check(w, 0);
	world_release(w);
}

static void fill(const char *dir, int from, int to)
{
	uint8_t data[9000];
	char name[64];
	ino_id f;

	for (int i = from; i < to; i++) {
		snprintf(name, sizeof(name), "%s/f%d", dir, i);
		cr_assert_eq(w_create(w, name, 0644, &f), 0, "create %s", name);
		memset(data, i + 1, sizeof(data));
		cr_assert_eq(w_write(w, f, data, sizeof(data), 0), 0);
	}
}

static void verify(const char *dir, int from, int to)
{
	uint8_t data[9000], got[9000];
	struct attr attr;
	char name[64];

	for (int i = from; i < to; i++) {
		snprintf(name, sizeof(name), "%s/f%d", dir, i);
		cr_assert_eq(w_stat(w, name, &attr), 0, "stat %s", name);
		memset(data, i + 1, sizeof(data));
		cr_assert_eq(w_read(w, attr.ino, got, sizeof(got), 0), sizeof(got));
		cr_assert_arr_eq(got, data, sizeof(got), "%s", name);
	}
}

Test(member, any_one_may_die)
{
	for (uint32_t victim = 0; victim < 3; victim++) {
		begin(3, 2, 10 + victim);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		fill("/d", 0, 20);
		world_kill(w, victim);
		verify("/d", 0, 20);
		fill("/d", 20, 40);
		cr_assert_eq(w_mkdir(w, "/e", 0755), 0);
		fill("/e", 0, 20);
		world_restart(w, victim);
		fill("/d", 40, 60);
		cr_assert(world_heal(w, 60000000), "not healed");
		verify("/d", 0, 60);
		verify("/e", 0, 20);
		world_check(w, 0);
		world_release(w);
	}
}

Test(member, all_may_die_at_once)
{
	begin(3, 2, 20);
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	for (int i = 0; i < 6; i++) {
		fill("/d", 10 * i, 10 * i + 10);
		for (uint32_t s = 0; s < 3; s++)
			world_kill(w, s);
		for (uint32_t s = 0; s < 3; s++)
			world_restart(w, s);
		verify("/d", 0, 10 * i + 10);
		cr_assert(world_heal(w, 60000000), "not healed");
	}
	world_check(w, 0);
	world_release(w);
}

Test(member, two_of_three_copies_may_die)
{
	begin(4, 3, 30);
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	fill("/d", 0, 20);
	world_kill(w, 0);
	world_kill(w, 2);
	verify("/d", 0, 20);
	fill("/d", 20, 30);
	world_restart(w, 0);
	world_restart(w, 2);
	cr_assert(world_heal(w, 60000000), "not healed");
	verify("/d", 0, 30);
	world_check(w, 0);
	world_release(w);
}

/* A block that the device damaged is had from the other copy, and written anew. */
Test(member, damaged_blocks_are_mended)
{
	static uint8_t data[1 << 20], got[1 << 20];
	unsigned damaged = 0;

	for (unsigned seed = 40; seed < 46; seed++) {
		struct store_stats before, after;
		uint32_t primary;
		ino_id f;

		begin(3, 2, seed);
		cr_assert_eq(w_create(w, "/f", 0644, &f), 0);
		primary = w->map->buckets[ino_bucket(f)].primary;
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)(i * 31 + seed);
		device_sim_faults(w->shards[primary].disk)->corrupt_nth = 1;
		cr_assert_eq(w_write(w, f, data, sizeof(data), 0), 0);
		device_sim_faults(w->shards[primary].disk)->corrupt_nth = 0;
		/* A last commit that is damaged would pass for one that was torn. */
		cr_assert_eq(w_chmod(w, "/f", 0600), 0);
		cr_assert_eq(w_chmod(w, "/f", 0640), 0);
		/* Reads come from the device, not from what was just written. */
		world_kill(w, primary);
		if (world_start(w, primary) != 0) {
			/* It hit the log's own blocks: such a device is refused. */
			world_release(w);
			continue;
		}
		cr_assert(world_heal(w, 60000000), "not healed");
		primary = w->map->buckets[ino_bucket(f)].primary;
		store_stats(w->shards[primary].store, &before);
		for (int round = 0; round < 2; round++) {
			cr_assert_eq(w_read(w, f, got, sizeof(got), 0), sizeof(got));
			cr_assert_arr_eq(got, data, sizeof(got));
		}
		store_stats(w->shards[primary].store, &after);
		damaged += after.crc_error_count > before.crc_error_count;
		world_check(w, 0);
		/* And again from the device: the damage is gone. */
		world_kill(w, primary);
		world_restart(w, primary);
		cr_assert(world_heal(w, 60000000), "not healed");
		primary = w->map->buckets[ino_bucket(f)].primary;
		store_stats(w->shards[primary].store, &before);
		cr_assert_eq(w_read(w, f, got, sizeof(got), 0), sizeof(got));
		cr_assert_arr_eq(got, data, sizeof(got));
		store_stats(w->shards[primary].store, &after);
		cr_assert_eq(after.crc_error_count, before.crc_error_count);
		world_release(w);
	}
	cr_assert_gt(damaged, 1, "the fault did not reach a block: %u", damaged);
}

static void node_state_set(uint32_t shard, enum map_node_state state)
{
	struct map_store *store = &w->shards[shard].map_store.store;
	struct map *map = map_copy(w->maps.map, 0, 0, 0);

	for (uint32_t i = 0; i < map->node_count; i++)
		if (map->nodes[i].id == map->shards[shard].node)
			map->nodes[i].state = state;
	map->epoch++;
	cr_assert_eq(store->ops->save(store, map), 0);
	map_free(map);
}

static uint32_t buckets_of(uint32_t shard)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < w->map->bucket_count; i++)
		count += map_bucket_has(&w->maps.map->buckets[i], shard);
	return count;
}

/* Keys of buckets, but for their positions. */
static uint32_t keys_of(uint32_t shard)
{
	struct kv_iter *it;
	uint32_t count = 0;

	cr_assert_eq(kv_iter_open(w->shards[shard].kv, &it), 0);
	for (it->ops->seek(it, "\x01", 1); it->ops->valid(it); it->ops->next(it)) {
		size_t size;
		const uint8_t *key = it->ops->key(it, &size);

		if (key[0] != 1)
			break;
		count += key[3] != 'A';
	}
	it->ops->close(it);
	return count;
}

Test(member, what_a_drained_node_had_is_deleted)
{
	begin(4, 2, 40);
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	fill("/d", 0, 30);
	node_state_set(1, MAP_NODE_DRAINING);
	for (int i = 0; i < 60 && buckets_of(1); i++)
		world_pass(w, 1000000);
	cr_assert_eq(buckets_of(1), 0);
	cr_assert(world_heal(w, 60000000));
	for (int i = 0; i < 60 && keys_of(1); i++)
		world_pass(w, 1000000);
	cr_assert_eq(keys_of(1), 0, "%u keys are left", keys_of(1));
	verify("/d", 0, 30);
	node_state_set(1, MAP_NODE_IN);
	for (int i = 0; i < 60 && !buckets_of(1); i++)
		world_pass(w, 1000000);
	cr_assert(world_heal(w, 60000000));
	cr_assert_gt(buckets_of(1), 0);
	verify("/d", 0, 30);
	world_check(w, 0);
	world_release(w);
}

/* Much of what it took over as a backup was overwritten, and its segments used again. */
#define HELD 24

static void open_unlinked(ino_id *inos)
{
	char name[64];
	struct attr attr;

	for (int i = 0; i < HELD; i++) {
		snprintf(name, sizeof(name), "/d%d", i);
		cr_assert_eq(w_mkdir(w, name, 0755), 0);
		snprintf(name, sizeof(name), "/d%d/f", i);
		cr_assert_eq(w_open(w, name, O_CREAT | O_RDWR, 0644, &attr), 0);
		inos[i] = attr.ino;
		cr_assert_eq(w_write(w, attr.ino, "held", 4, 0), 0);
		cr_assert_eq(w_unlink(w, name), 0);
	}
}

/* Who has what open goes along with a bucket: the held stay, the others go at once. */
Test(member, what_is_open_moves_along)
{
	ino_id inos[HELD];
	struct attr attr;
	char got[4];
	uint64_t began;

	begin(4, 2, 44);
	w->grace_us = 3600000000u;
	for (uint32_t s = 0; s < 4; s++) {
		world_restart(w, s);
		cr_assert(world_heal(w, 60000000), "not healed");
	}
	world_pass(w, 3700000000u);
	cr_assert(world_heal(w, 60000000), "not healed");
	open_unlinked(inos);
	began = world_now_us(w);
	node_state_set(2, MAP_NODE_DRAINING);
	for (int i = 0; i < 60 && buckets_of(2); i++)
		world_pass(w, 1000000);
	cr_assert_eq(buckets_of(2), 0);
	for (int i = 0; i < HELD; i++) {
		cr_assert_eq(w_read(w, inos[i], got, 4, 0), 4, "%d", i);
		if (i % 2 == 0)
			cr_assert_eq(w_close(w, inos[i]), 0);
	}
	world_pass(w, 10000000);
	for (int i = 0; i < HELD; i++)
		cr_assert_eq(w_fstat(w, inos[i], &attr), i % 2 ? 0 : -ESTALE, "%d", i);
	cr_assert_lt(world_now_us(w) - began, 3600000000u, "the test is too slow");
	node_state_set(2, MAP_NODE_IN);
	for (int i = 0; i < 60 && !buckets_of(2); i++)
		world_pass(w, 1000000);
	cr_assert(world_heal(w, 60000000), "not healed");
	for (int i = 1; i < HELD; i += 2)
		cr_assert_eq(w_close(w, inos[i]), 0);
	world_pass(w, 10000000);
	for (int i = 1; i < HELD; i += 2)
		cr_assert_eq(w_fstat(w, inos[i], &attr), -ESTALE, "%d", i);
	world_check(w, 0);
	world_release(w);
}

Test(member, who_took_over_repairs_after_the_cleaner)
{
	uint8_t data[9000];
	struct attr attr;
	char name[64];

	world_init(w, &(struct world_options){.shard_count = 3,
			      .copies = 2,
			      .seed = 50,
			      .disk_bytes = 24u << 20,
			      .segment_bytes = 1u << 20});
	cr_assert(world_heal(w, 20000000));
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	fill("/d", 0, 20);
	for (int i = 0; i < 6000; i++) {
		snprintf(name, sizeof(name), "/d/f%d", i % 20);
		cr_assert_eq(w_stat(w, name, &attr), 0);
		memset(data, i % 20 + 1, sizeof(data));
		cr_assert_eq(w_write(w, attr.ino, data, sizeof(data), 0), 0);
	}
	world_kill(w, 0);
	world_pass(w, 10000000);
	node_state_set(0, MAP_NODE_LOST);
	world_pass(w, 10000000);
	cr_assert(world_heal(w, 60000000), "not healed");
	cr_assert_eq(buckets_of(0), 0);
	verify("/d", 0, 20);
	world_release(w);
}

static uint32_t primary_of(uint16_t bucket)
{
	return w->maps.map->buckets[bucket].primary;
}

/* A member that lost its device is empty, and in sync by the map until somebody says so. */
Test(member, a_device_may_be_replaced)
{
	for (uint32_t victim = 0; victim < 3; victim++) {
		world_init(w, &(struct world_options){.shard_count = 3,
				      .copies = 2,
				      .seed = 40 + victim,
				      .device_known = true});
		cr_assert(world_heal(w, 20000000));
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		fill("/d", 0, 20);
		world_kill(w, victim);
		world_device_replace(w, victim);
		/* The others go as well: who has everything is not up when it is. */
		for (uint32_t i = 0; i < 3; i++)
			if (i != victim)
				world_kill(w, i);
		cr_assert_eq(world_start(w, victim), 0);
		world_pass(w, 10000000);
		for (uint32_t i = 0; i < 3; i++)
			if (i != victim)
				cr_assert_eq(world_start(w, i), 0);
		cr_assert(world_heal(w, 60000000), "not healed");
		verify("/d", 0, 20);
		world_check(w, 0);
		world_release(w);
	}
}

/* The copy ends with a message that has the last record's number, and is none. */
Test(member, a_copy_is_handed_on_whole)
{
	uint32_t first;

	begin(3, 2, 50);
	cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
	first = primary_of(0);
	for (uint32_t i = 0; i < 3; i++) {
		fill("/d", 10 * (int)i, 10 * (int)i + 10);
		world_node_state(w, (first + i) % 3, MAP_NODE_DRAINING);
		world_pass(w, 3000000);
		world_node_state(w, (first + i) % 3, MAP_NODE_IN);
		cr_assert(world_heal(w, 60000000), "not healed");
		verify("/d", 0, 10 * (int)i + 10);
	}
	world_check(w, 0);
	world_release(w);
}

/* Messages that come twice, and late, change nothing. */
Test(member, messages_may_come_twice)
{
	for (uint64_t seed = 60; seed < 70; seed++) {
		begin(3, 2, seed);
		w->shuffle = true;
		w->net.doubled = 300000;
		w->net.late_us = 2000000;
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		fill("/d", 0, 10);
		for (int i = 0; i < 10; i++) {
			cr_assert_eq(w_mkdir(w, "/d/sub", 0755), 0);
			cr_assert_eq(w_rmdir(w, "/d/sub"), 0);
		}
		world_kill(w, (uint32_t)(seed % 3));
		fill("/d", 10, 20);
		world_restart(w, (uint32_t)(seed % 3));
		cr_assert(world_heal(w, 60000000), "not healed");
		w->net.doubled = 0;
		verify("/d", 0, 20);
		cr_assert_eq(w_rmdir(w, "/d/sub"), -ENOENT);
		world_check(w, CHECK_ORPHANS);
		world_release(w);
	}
}

/* Who was proposed may be a member before the primary hears of it. */
Test(member, who_is_proposed_is_waited_for)
{
	static struct wop o;
	struct wire_mknod wm = {.mode = le32_put(S_IFREG | 0644)};
	uint16_t bucket = ino_bucket(WFS_ROOT_INO);
	uint32_t p, b;
	const struct stream *st;

	begin(3, 2, 80);
	p = primary_of(bucket);
	b = w->maps.map->buckets[bucket].backups[0];
	world_kill(w, b);
	while (w->maps.map->buckets[bucket].backup_count)
		world_turn(w);
	world_restart(w, b);
	do {
		world_turn(w);
		st = stream_find(&w->shards[p].shard->buckets[bucket], b);
	} while (!st || st->stage != STREAM_LIVE ||
		 st->acked != w->shards[p].shard->lsn[bucket]);
	w->shards[p].map_store.away = true;
	while (st->counts_until_us == 0)
		world_turn(w);
	cr_assert_eq(w->maps.map->buckets[bucket].backup_count, 0, "not a member yet");
	w->net.cut[p][b] = w->net.cut[b][p] = true;
	wop_init(&o, w, OP_MKNOD, "/f");
	wop_fixed(&o, &wm, sizeof(wm));
	wop_begin(&o);
	world_pass(w, 100000);
	cr_assert_not(o.finished, "acknowledged without it");
	w->shards[p].map_store.away = false;
	w->net.cut[p][b] = w->net.cut[b][p] = false;
	cr_assert_eq(wop_wait(&o), 0);
	cr_assert(world_heal(w, 60000000), "not healed");
	world_kill(w, p);
	cr_assert_eq(w_stat(w, "/f", NULL), 0);
	world_restart(w, p);
	cr_assert(world_heal(w, 60000000), "not healed");
	world_check(w, 0);
	world_release(w);
}

/* Begin with the number of the request before, as a client does that got no answer. */
static int open_again(ino_id *ino_out)
{
	struct attr attr;
	uint32_t count = w->op_count;
	uint64_t session = w->session;
	int rc;

	w->session = 4711;
	w->op_count = 4711;
	rc = w_open(w, "/d/f", O_CREAT | O_RDWR, 0644, &attr);
	w->session = session;
	w->op_count = count;
	*ino_out = attr.ino;
	return rc;
}

/* Node 2 gives up what it has, and gets it back. */
static void away_and_back(void (*between)(void))
{
	node_state_set(2, MAP_NODE_DRAINING);
	for (int i = 0; i < 60 && buckets_of(2); i++)
		world_pass(w, 1000000);
	cr_assert_eq(buckets_of(2), 0);
	between();
	node_state_set(2, MAP_NODE_IN);
	for (int i = 0; i < 60 && !buckets_of(2); i++)
		world_pass(w, 1000000);
	cr_assert(world_heal(w, 60000000), "not healed");
}

static ino_id seen;

static void open_elsewhere(void)
{
	cr_assert_eq(open_again(&seen), 0);
}

/* What a primary knows of a request is nothing when another carried it out since. */
Test(member, answers_are_of_one_epoch)
{
	for (int dir = 0; dir < 8; dir++) {
		ino_id old, last;

		begin(4, 2, 70 + (uint64_t)dir);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_create(w, "/d/f", 0644, &old), 0);
		cr_assert_eq(open_again(&seen), 0);
		cr_assert_eq(seen, old);
		cr_assert_eq(w_rename(w, "/d/f", "/d/g", 0), 0);
		away_and_back(open_elsewhere);
		cr_assert_eq(open_again(&last), 0);
		cr_assert_eq(last, seen);
		world_release(w);
	}
}

/*
 * The map store in etcd, against real members of it: what the file store promises too,
 * and what happens when members die or hang.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "tests/lib/etcd_world.h"

static void one_setup(void)
{
	members_start(1);
}

static void three_setup(void)
{
	members_start(3);
}

static void teardown(void)
{
	members_end();
	cr_assert_eq(mem_live_count(), 0);
}

TestSuite(one, .init = one_setup, .fini = teardown, .timeout = 120);
TestSuite(three, .init = three_setup, .fini = teardown, .timeout = 120);

/* --- the map --------------------------------------------------------------------- */

Test(one, save_and_load)
{
	struct map_store *store = store_opened(), *two = store_opened();
	struct map *map = sample();

	cr_assert_eq(load_epoch(store, 0), -ENOENT);
	cr_assert_not_null(strstr(store->reason, "cluster create"), "%s", store->reason);
	map->epoch = 2;
	cr_assert_eq(store->ops->save(store, map), -EAGAIN);
	map->epoch = 1;
	saved(store, map);
	cr_assert_eq(store->ops->save(store, map), -EAGAIN);
	cr_assert_not_null(strstr(store->reason, "somebody else"), "%s", store->reason);
	map->epoch = 2;
	saved(two, map);
	cr_assert_eq(load_epoch(store, 0), 2);
	cr_assert_eq(load_epoch(store, 1), 2, "newer than 1");
	cr_assert_eq(load_epoch(store, 2), 0, "not newer than 2");
	cr_assert_eq(load_epoch(store, 2), 0);
	map->epoch = 3;
	saved(two, map);
	cr_assert_eq(load_epoch(store, 2), 3, "%s", store->reason);
	map->uuid[0]++;
	map->epoch = 4;
	cr_assert_eq(store->ops->save(store, map), -EEXIST);
	cr_assert_eq(map_store_etcd_erase(store), 0);
	cr_assert_eq(load_epoch(two, 3), -ENOENT, "a map that is gone is told");
	map->epoch = 1;
	saved(two, map);
	map_free(map);
	store->ops->close(store);
	two->ops->close(two);
}

/* Two that read the same map and change it: one wins, the other is told. */
Test(one, one_of_two_wins)
{
	struct map_store *a = store_opened(), *b = store_opened();
	struct map *map = sample();

	saved(a, map);
	cr_assert_eq(load_epoch(b, 0), 1);
	for (uint64_t epoch = 2; epoch < 30; epoch++) {
		struct map_store *first = epoch % 3 ? a : b, *second = epoch % 3 ? b : a;

		map->epoch = epoch;
		map->timeout_ms = 1000 + (uint32_t)epoch;
		saved(first, map);
		map->timeout_ms = 5000;
		cr_assert_eq(second->ops->save(second, map), -EAGAIN);
		cr_assert_eq(load_epoch(second, epoch - 1), (int)epoch);
	}
	map_free(map);
	a->ops->close(a);
	b->ops->close(b);
}

#define RACERS 4
#define ROUNDS 25

/* Add one to timeout_ms, as often as it takes. */
static void *racer(void *arg)
{
	struct map_store *store = arg;

	for (unsigned done = 0; done < ROUNDS;) {
		struct map *map = NULL;
		int rc = store->ops->load(store, 0, &map);

		cr_assert_eq(rc, 0, "%s", store->reason);
		map->epoch++;
		map->timeout_ms++;
		rc = store->ops->save(store, map);
		cr_assert(rc == 0 || rc == -EAGAIN, "%s", store->reason);
		done += rc == 0;
		map_free(map);
	}
	return NULL;
}

Test(one, no_change_is_lost)
{
	struct map_store *stores[RACERS], *store = store_opened();
	pthread_t threads[RACERS];
	struct map *map = sample();
	uint32_t before = map->timeout_ms;

	saved(store, map);
	map_free(map);
	for (unsigned i = 0; i < RACERS; i++) {
		stores[i] = store_opened();
		pthread_create(&threads[i], NULL, racer, stores[i]);
	}
	for (unsigned i = 0; i < RACERS; i++) {
		pthread_join(threads[i], NULL);
		stores[i]->ops->close(stores[i]);
	}
	cr_assert_eq(store->ops->load(store, 0, &map), 0);
	cr_assert_eq(map->epoch, 1 + RACERS * ROUNDS);
	cr_assert_eq(map->timeout_ms, before + RACERS * ROUNDS);
	map_free(map);
	store->ops->close(store);
}

/* The largest maps are packed, and still fit etcd's 1.5 MB. */
Test(one, large_maps)
{
	static const uint32_t sizes[][3] = {
		{64, 256, 4096}, {MAP_NODES_MAX, MAP_SHARDS_MAX, WFS_BUCKETS_MAX}};
	struct map_store *store = store_opened();

	for (unsigned i = 0; i < 2; i++) {
		struct map *map = sample_large(sizes[i][0], sizes[i][1], sizes[i][2]);
		struct map *loaded = NULL;
		char *text, *loaded_text;

		map->lease_ms = 20000; /* packing takes time under sanitizers */
		saved(store, map);
		cr_assert_eq(store->ops->load(store, 0, &loaded), 0, "%s", store->reason);
		text = map_to_json(map);
		loaded_text = map_to_json(loaded);
		cr_assert_str_eq(text, loaded_text);
		free(text);
		free(loaded_text);
		map_free(loaded);
		map_free(map);
		cr_assert_eq(map_store_etcd_erase(store), 0);
	}
	store->ops->close(store);
}

Test(one, damage_is_told)
{
	static const char *const values[] = {"'{\"wfs_map\": 2'", "''", "'\xff\xfe'",
		"WFZ1xxxxyyyyyyyyyy", "\"$(printf 'WFZ1\\001\\001\\001\\001garbage')\""};
	struct map_store *store = store_opened();
	struct map *map = sample();
	char command[200];

	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(command, sizeof(command), "put lab/one/map %s", values[i]);
		etcdctl(command);
		cr_assert_eq(load_epoch(store, 0), -EUCLEAN, "%s", values[i]);
		cr_assert_not_null(strstr(store->reason, "restore"), "%s", store->reason);
		cr_assert_eq(store->ops->save(store, map), -EUCLEAN,
			"never over a damaged map");
	}
	map_free(map);
	store->ops->close(store);
}

static void *saver(void *arg)
{
	struct map_store *store = store_opened();
	struct map *map = NULL;
	uint64_t *saved_ms = arg;

	cr_assert_eq(store->ops->load(store, 0, &map), 0);
	map->epoch++;
	pause_ms(300);
	cr_assert_eq(store->ops->save(store, map), 0);
	*saved_ms = now_ms();
	map_free(map);
	store->ops->close(store);
	return NULL;
}

Test(one, wait_wakes)
{
	struct map_store *store = store_opened();
	struct map *map = sample();
	uint64_t began_ms;

	saved(store, map);
	for (uint64_t epoch = 1; epoch < 4; epoch++) {
		uint64_t saved_ms = 0, woken_ms;
		pthread_t thread;

		pthread_create(&thread, NULL, saver, &saved_ms);
		began_ms = now_ms();
		cr_assert_eq(
			store->ops->wait(store, epoch, 10000), 0, "%s", store->reason);
		woken_ms = now_ms();
		pthread_join(thread, NULL);
		cr_assert_geq(woken_ms - began_ms, 250, "woke before there was anything");
		cr_assert_leq(woken_ms, saved_ms + 200);
		cr_assert_eq(load_epoch(store, epoch), (int)epoch + 1);
	}
	began_ms = now_ms();
	cr_assert_eq(store->ops->wait(store, 4, 300), 0);
	cr_assert_geq(now_ms() - began_ms, 290);
	cr_assert_eq(store->ops->wait(store, 3, 10000), 0, "is newer already");
	cr_assert_leq(now_ms() - began_ms, 5000);
	map_free(map);
	store->ops->close(store);
}

/* --- leases ---------------------------------------------------------------------- */

Test(one, leases)
{
	struct map_store *store = store_opened(), *two = store_opened();
	const struct map_lease *lease;
	struct map_lease few[1];
	uint64_t began_ms;
	uint32_t count;

	cr_assert_null(lease_of(store, 0));
	cr_assert_eq(store->ops->release(store, 0, 11), 0, "nothing to release");
	renewed(store, 0, 11, 5000);
	renewed(store, 1, 12, 5000);
	cr_assert_eq(store->ops->leases(store, few, 1, &count), -ENOSPC);
	lease = lease_of(two, 0);
	cr_assert(lease && lease->incarnation == 11);
	cr_assert(lease->remaining_ms > 3000 && lease->remaining_ms <= 5000, "%u",
		lease->remaining_ms);
	cr_assert_eq(two->ops->renew(two, 0, 99, 5000), -EBUSY);
	cr_assert_not_null(strstr(two->reason, "another process"), "%s", two->reason);
	cr_assert_eq(two->ops->release(two, 0, 99), 0, "not ours");
	cr_assert_not_null(lease_of(two, 0));
	renewed(two, 0, 11, 5000);
	renewed(store, 0, 11, 6000);
	renewed(store, 0, 11, 2000);
	cr_assert_eq(store->ops->release(store, 0, 11), 0);
	cr_assert_null(lease_of(two, 0), "released is absent");
	cr_assert_not_null(lease_of(two, 1));
	renewed(two, 0, 99, 2000);
	cr_assert_eq(store->ops->release(store, 1, 12), 0);

	began_ms = now_ms();
	renewed(two, 0, 99, 1500);
	while (lease_of(store, 0))
		pause_ms(20);
	cr_assert_geq(now_ms() - began_ms, 1500, "expired too early");
	cr_assert_leq(now_ms() - began_ms, 6000, "does not expire");
	renewed(store, 0, 11, 2000);
	store->ops->close(store);
	two->ops->close(two);
}

/* Renewed again and again it is never seen expired. */
Test(one, renewals_hold)
{
	struct map_store *store = store_opened(), *two = store_opened();
	uint64_t until_ms = now_ms() + 5000;

	while (now_ms() < until_ms) {
		renewed(store, 3, 7, 1000);
		for (unsigned i = 0; i < 5; i++) {
			const struct map_lease *lease = lease_of(two, 3);

			cr_assert(lease && lease->remaining_ms > 0 &&
				  lease->incarnation == 7);
			pause_ms(80);
		}
	}
	store->ops->close(store);
	two->ops->close(two);
}

Test(one, foreign_lease_keys)
{
	struct map_store *store = store_opened();
	const struct map_lease *lease;

	etcdctl("put lab/one/lease/4 garbage");
	etcdctl("put lab/one/lease/5 0000000000000001");
	etcdctl("put lab/one/lease/x 0000000000000001");
	lease = lease_of(store, 4);
	cr_assert(lease && lease->remaining_ms == 0);
	lease = lease_of(store, 5);
	cr_assert(lease && lease->remaining_ms == 0, "nobody put it with a lease");
	renewed(store, 4, 1, 2000);
	renewed(store, 5, 2, 2000);
	lease = lease_of(store, 5);
	cr_assert(lease && lease->remaining_ms && lease->incarnation == 2);
	etcdctl("del lab/one/lease/5");
	cr_assert_null(lease_of(store, 5));
	renewed(store, 5, 2, 2000);
	cr_assert_not_null(lease_of(store, 5));
	store->ops->close(store);
}

/* --- etcd is away ---------------------------------------------------------------- */

static void all_fail_in_time(struct map_store *store, uint32_t bound_ms)
{
	struct map *map = sample();
	struct map_lease leases[4];
	uint32_t count;
	uint64_t at_ms = now_ms();

	map->epoch = 2;
	cr_assert_eq(load_epoch(store, 0), -EIO);
	cr_assert_leq(now_ms() - at_ms, bound_ms);
	cr_assert_not_null(strstr(store->reason, "127.0.0.1"), "%s", store->reason);
	at_ms = now_ms();
	cr_assert_eq(store->ops->save(store, map), -EIO);
	cr_assert_leq(now_ms() - at_ms, bound_ms);
	at_ms = now_ms();
	cr_assert_eq(store->ops->renew(store, 0, 1, 2000), -EIO);
	cr_assert_leq(now_ms() - at_ms, bound_ms);
	at_ms = now_ms();
	cr_assert_eq(store->ops->leases(store, leases, 4, &count), -EIO);
	cr_assert_leq(now_ms() - at_ms, bound_ms);
	at_ms = now_ms();
	cr_assert_eq(store->ops->release(store, 0, 1), -EIO);
	cr_assert_leq(now_ms() - at_ms, bound_ms);
	map_free(map);
}

/* Its threads do not stop at once. */
static void member_hang(unsigned i, struct map_store *store)
{
	uint64_t until_ms = now_ms() + 10000;

	etcd_member_signal(&members[i].member, SIGSTOP);
	while (load_epoch(store, 0) != -EIO)
		cr_assert_lt(now_ms(), until_ms);
}

/* On a busy machine it may take a while. What was to be saved meanwhile may be, or not. */
static uint64_t epoch_comes_back(struct map_store *store)
{
	uint64_t until_ms = now_ms() + 10000;
	int epoch;

	while ((epoch = load_epoch(store, 0)) < 0)
		cr_assert_lt(now_ms(), until_ms, "%s", store->reason);
	cr_assert(epoch == 1 || epoch == 2, "%d", epoch);
	return (uint64_t)epoch;
}

/* The bound is lease_ms / 4 = 500 ms; the machine may be busy. */
Test(one, away_and_back)
{
	struct map_store *store = store_opened();
	struct map *map = sample();
	uint64_t began_ms, epoch;

	saved(store, map);
	renewed(store, 0, 1, 2000);

	member_hang(0, store);
	all_fail_in_time(store, 900);
	etcd_member_signal(&members[0].member, SIGCONT);
	members_await();
	epoch = epoch_comes_back(store);

	member_kill(0);
	all_fail_in_time(store, 900);
	began_ms = now_ms();
	cr_assert_eq(store->ops->wait(store, epoch, 2000), -EIO);
	cr_assert_leq(now_ms() - began_ms, 2400);
	member_start(0);
	members_await();
	cr_assert_eq(epoch_comes_back(store), epoch);
	map->epoch = epoch + 1;
	saved(store, map);
	renewed(store, 0, 1, 2000);
	map_free(map);
	store->ops->close(store);
}

/* One of three dies, whichever: nothing is seen but slow calls, and no lease ends. */
Test(three, one_dies)
{
	struct map_store *store = store_opened(), *two = store_opened();
	struct map *map = sample();
	uint64_t epoch = 1;

	map->lease_ms = 5000;
	saved(store, map);
	renewed(store, 0, 1, 5000);
	for (unsigned dead = 0; dead < 3; dead++) {
		uint64_t killed_ms = now_ms(), renewed_ms = killed_ms;

		member_kill(dead);
		while (now_ms() - killed_ms < 4000) {
			int rc = store->ops->renew(store, 0, 1, 5000);

			cr_assert(rc == 0 || rc == -EIO, "%s", store->reason);
			if (rc == 0)
				renewed_ms = now_ms();
			cr_assert_leq(now_ms() - renewed_ms, 2500,
				"no renewal for half a lease: %s", store->reason);
			pause_ms(50);
		}
		map->epoch = ++epoch;
		saved(two, map);
		cr_assert_eq(load_epoch(store, 0), (int)epoch);
		cr_assert_not_null(lease_of(two, 0));
		member_start(dead);
		members_await();
	}
	map_free(map);
	store->ops->close(store);
	two->ops->close(two);
}

/* One hangs: the first call finds out, the others do not wait for it again. */
Test(three, one_hangs)
{
	struct map_store *store = store_opened();
	struct map *map = sample();
	uint64_t began_ms, until_ms;

	map->lease_ms = 5000;
	saved(store, map);
	etcd_member_signal(&members[0].member, SIGSTOP);
	until_ms = now_ms() + 10000;
	while (load_epoch(store, 0) != 1)
		cr_assert_lt(now_ms(), until_ms, "%s", store->reason);
	began_ms = now_ms();
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(load_epoch(store, 0), 1, "%s", store->reason);
	cr_assert_leq(now_ms() - began_ms, 1500);
	cr_assert_eq(store->ops->wait(store, 1, 100), 0, "%s", store->reason);
	etcd_member_signal(&members[0].member, SIGCONT);
	map_free(map);
	store->ops->close(store);
}

/* Two of three dead: no majority, nothing is answered; leases last over it. */
Test(three, no_majority)
{
	struct map_store *store = store_opened();
	struct map *map = sample();

	saved(store, map);
	renewed(store, 0, 1, 2000);
	member_kill(1);
	member_kill(2);
	pause_ms(1500);
	all_fail_in_time(store, 900);
	member_start(1);
	members_await();
	cr_assert_eq(load_epoch(store, 0), 1, "%s", store->reason);
	renewed(store, 0, 1, 2000);
	map_free(map);
	store->ops->close(store);
}

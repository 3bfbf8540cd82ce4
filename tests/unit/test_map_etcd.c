/*
 * The map store in etcd, against real members of it: what the file store promises too,
 * and what happens when members die, hang, ask for certificates and passwords.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/cluster/etcd_member.h"
#include "core/cluster/map_store.h"

#define MEMBERS_MAX 3

struct world_member {
	struct etcd_member member;
	char name[8], data[128], client[64], peer[64], pidfile[128], log[128];
};

static char directory[64];
static struct world_member members[MEMBERS_MAX];
static unsigned member_count;
static char cluster[512];
static char map_spec[512];

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	cr_assert_eq(system(command), 0, "%s", command);
}

static unsigned port_free(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	getsockname(fd, (struct sockaddr *)&a, &size);
	close(fd);
	return ntohs(a.sin_port);
}

static void member_start(unsigned i)
{
	struct world_member *m = &members[i];
	struct etcd_member_options opt = {.name = m->name,
		.data = m->data,
		.client_url = m->client,
		.peer_url = m->peer,
		.cluster = cluster,
		.pidfile = m->pidfile,
		.log = m->log};
	char reason[256] = "";
	bool adopted;

	cr_assert_eq(
		etcd_member_start(&opt, &m->member, &adopted, reason, sizeof(reason)), 0,
		"%s", reason);
	cr_assert(!adopted);
}

static void member_kill(unsigned i)
{
	etcd_member_stop(&members[i].member, 0);
}

static struct map_store *store_open(void)
{
	struct map_store_spec spec = {.map = map_spec};
	struct map_store *store = NULL;
	char reason[256];

	cr_assert_eq(
		map_store_open(&spec, &store, reason, sizeof(reason)), 0, "%s", reason);
	return store;
}

static void directory_make(void)
{
	snprintf(directory, sizeof(directory), "/tmp/wfs-etcd-test-XXXXXX");
	cr_assert_not_null(mkdtemp(directory));
}

/* All that a member needs to be started. */
static void members_name(unsigned count)
{
	size_t used = 0, used_spec = 0;

	if (system("command -v etcd >/dev/null"))
		cr_skip("etcd is not installed: ci/deps test installs it");
	directory_make();
	member_count = count;
	for (unsigned i = 0; i < count; i++) {
		struct world_member *m = &members[i];

		m->member.pid_fd = -1;
		snprintf(m->name, sizeof(m->name), "m%u", i);
		snprintf(m->data, sizeof(m->data), "%s/data%u", directory, i);
		snprintf(m->pidfile, sizeof(m->pidfile), "%s/pid%u", directory, i);
		snprintf(m->log, sizeof(m->log), "%s/log%u", directory, i);
		snprintf(
			m->client, sizeof(m->client), "http://127.0.0.1:%u", port_free());
		snprintf(m->peer, sizeof(m->peer), "http://127.0.0.1:%u", port_free());
		used += (size_t)snprintf(cluster + used, sizeof(cluster) - used,
			"%s%s=%s", i ? "," : "", m->name, m->peer);
		used_spec += (size_t)snprintf(map_spec + used_spec,
			sizeof(map_spec) - used_spec, "%s%s",
			i ? "," : "etcd:", m->client);
	}
	snprintf(map_spec + used_spec, sizeof(map_spec) - used_spec, "/lab/one");
}

/* Until it answers: a new cluster holds no map. */
static void members_await(void)
{
	struct map_store *store = store_open();
	struct map *map = NULL;
	uint64_t until_ms = now_ms() + 30000;
	int rc;

	while ((rc = store->ops->load(store, 0, &map)) == -EIO && now_ms() < until_ms)
		pause_ms(50);
	cr_assert(rc == 0 || rc == -ENOENT, "%s", store->reason);
	map_free(map);
	store->ops->close(store);
}

static void members_start(unsigned count)
{
	members_name(count);
	for (unsigned i = 0; i < count; i++)
		member_start(i);
	members_await();
}

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
	for (unsigned i = 0; i < member_count; i++)
		member_kill(i);
	if (directory[0])
		run("rm -rf '%s'", directory);
	cr_assert_eq(mem_live_count(), 0);
}

static struct map *sample_large(uint32_t nodes, uint32_t shards, uint32_t buckets)
{
	struct map *map = map_new(nodes, shards, buckets, 1);

	map->epoch = 1;
	map->timeout_ms = 1000;
	map->copies = nodes > 1 ? 2 : 1;
	map->lease_ms = 2000;
	memset(map->uuid, 0x5a, 16);
	snprintf(map->name, sizeof(map->name), "lab");
	snprintf(map->provider, sizeof(map->provider), "net");
	for (uint32_t i = 0; i < nodes; i++) {
		map->nodes[i].id = i;
		snprintf(map->nodes[i].host, 64, "10.0.%u.%u", i / 256, i % 256);
		snprintf(map->nodes[i].socket, 108, "/run/wfs%u.sock", i);
		snprintf(map->nodes[i].domain, 32, "node%u", i);
	}
	srand(7);
	for (uint32_t i = 0; i < shards; i++) {
		map->shards[i].node = i % nodes;
		map->shards[i].index = i / nodes;
		map->shards[i].port = (uint16_t)(7000 + i / nodes);
		for (unsigned b = 0; b < 16; b++)
			map->shards[i].device_uuid[b] = (uint8_t)rand();
	}
	map->filesystems[0].fsid = 1;
	map->filesystems[0].root = WFS_ROOT_INO;
	snprintf(map->filesystems[0].name, 8, "main");
	cr_assert_eq(map_place(map), 0);
	return map;
}

static struct map *sample(void)
{
	return sample_large(2, 2, 16);
}

static void saved(struct map_store *store, const struct map *map)
{
	cr_assert_eq(store->ops->save(store, map), 0, "%s", store->reason);
}

static int load_epoch(struct map_store *store, uint64_t known)
{
	struct map *map = NULL;
	int rc = store->ops->load(store, known, &map);

	if (rc == 0)
		rc = map ? (int)map->epoch : 0;
	map_free(map);
	return rc;
}

/* Put or delete a key as an operator would. */
static void etcdctl(const char *what)
{
	run("ETCDCTL_API=3 etcdctl --endpoints '%s' %s >/dev/null", members[0].client,
		what);
}

TestSuite(one, .init = one_setup, .fini = teardown, .timeout = 120);
TestSuite(three, .init = three_setup, .fini = teardown, .timeout = 120);
TestSuite(other, .timeout = 120);

/* --- the map --------------------------------------------------------------------------
 */

Test(one, save_and_load)
{
	struct map_store *store = store_open(), *two = store_open();
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
	struct map_store *a = store_open(), *b = store_open();
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
	struct map_store *stores[RACERS], *store = store_open();
	pthread_t threads[RACERS];
	struct map *map = sample();
	uint32_t before = map->timeout_ms;

	saved(store, map);
	map_free(map);
	for (unsigned i = 0; i < RACERS; i++) {
		stores[i] = store_open();
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
	struct map_store *store = store_open();

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
	struct map_store *store = store_open();
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
	struct map_store *store = store_open();
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
	struct map_store *store = store_open();
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

/* --- leases ---------------------------------------------------------------------------
 */

static const struct map_lease *lease_of(struct map_store *store, uint32_t node)
{
	static struct map_lease leases[64];
	uint32_t count = 0;

	cr_assert_eq(
		store->ops->leases(store, leases, 64, &count), 0, "%s", store->reason);
	for (uint32_t i = 0; i < count; i++)
		if (leases[i].node == node)
			return &leases[i];
	return NULL;
}

static void renewed(
	struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ms)
{
	cr_assert_eq(
		store->ops->renew(store, node, incarnation, ms), 0, "%s", store->reason);
}

Test(one, leases)
{
	struct map_store *store = store_open(), *two = store_open();
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
	struct map_store *store = store_open(), *two = store_open();
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
	struct map_store *store = store_open();
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

/* --- etcd is away ---------------------------------------------------------------------
 */

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

/* The bound is lease_ms / 4 = 500 ms; the machine may be busy. */
Test(one, away_and_back)
{
	struct map_store *store = store_open();
	struct map *map = sample();
	uint64_t began_ms;

	saved(store, map);
	renewed(store, 0, 1, 2000);

	etcd_member_signal(&members[0].member, SIGSTOP);
	all_fail_in_time(store, 900);
	etcd_member_signal(&members[0].member, SIGCONT);
	members_await();
	cr_assert_eq(load_epoch(store, 0), 1, "%s", store->reason);

	member_kill(0);
	all_fail_in_time(store, 900);
	began_ms = now_ms();
	cr_assert_eq(store->ops->wait(store, 1, 2000), -EIO);
	cr_assert_leq(now_ms() - began_ms, 2400);
	member_start(0);
	members_await();
	cr_assert_eq(load_epoch(store, 0), 1, "%s", store->reason);
	map->epoch = 2;
	saved(store, map);
	renewed(store, 0, 1, 2000);
	map_free(map);
	store->ops->close(store);
}

/* One of three dies, whichever: nothing is seen but slow calls, and no lease ends. */
Test(three, one_dies)
{
	struct map_store *store = store_open(), *two = store_open();
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
	struct map_store *store = store_open();
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
	struct map_store *store = store_open();
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

/* --- who may --------------------------------------------------------------------------
 */

static int spec_try(const struct map_store_spec *spec, char *reason, size_t size)
{
	struct map_store *store = NULL;
	int rc = map_store_open(spec, &store, reason, size);

	if (rc == 0) {
		rc = load_epoch(store, 0);
		snprintf(reason, size, "%s", store->reason);
		store->ops->close(store);
	}
	return rc;
}

Test(one, user_and_password, .timeout = 60)
{
	char password_file[128], reason[256];
	struct map_store_spec spec = {
		.map = map_spec, .user = "wfs", .password_file = password_file};
	struct map_store *store = NULL;
	struct map *map = sample();

	snprintf(password_file, sizeof(password_file), "%s/password", directory);
	run("echo s3cret >'%s'", password_file);
	cr_assert_eq(map_store_open(&spec, &store, reason, sizeof(reason)), 0);
	map->lease_ms = 8000; /* etcd takes its time to hash a password */
	saved(store, map);
	etcdctl("user add root:r00t");
	etcdctl("user add wfs:s3cret");
	etcdctl("role add wfs");
	etcdctl("role grant-permission wfs --prefix=true readwrite lab/one/");
	etcdctl("user grant-role root root");
	etcdctl("user grant-role wfs wfs");
	etcdctl("auth enable");
	cr_assert_eq(load_epoch(store, 0), 1, "%s", store->reason);
	map->epoch = 2;
	saved(store, map);
	renewed(store, 0, 1, 8000);
	cr_assert_not_null(lease_of(store, 0));
	cr_assert_eq(store->ops->wait(store, 2, 50), 0, "%s", store->reason);

	/* A restart forgets the tokens. */
	member_kill(0);
	member_start(0);
	for (unsigned i = 0; i < 100 && load_epoch(store, 0) != 2; i++)
		pause_ms(50);
	cr_assert_eq(load_epoch(store, 0), 2, "%s", store->reason);
	renewed(store, 0, 1, 8000);
	cr_assert_eq(store->ops->release(store, 0, 1), 0, "%s", store->reason);
	store->ops->close(store);

	spec.user = spec.password_file = NULL;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, "password_file"), "%s", reason);
	spec.user = "wfs";
	spec.password_file = password_file;
	run("echo wrong >'%s'", password_file);
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, "refuses user wfs"), "%s", reason);
	cr_assert_null(strstr(reason, "wrong"));
	run("rm '%s'", password_file);
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, password_file), "%s", reason);
	map_free(map);
}

static const char make_certificates[] =
	"cd '%s' && exec >/dev/null 2>&1 && "
	"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key "
	"-out ca.pem && for n in server client; do "
	"openssl req -newkey rsa:2048 -nodes -subj /CN=$n -keyout $n.key -out $n.csr && "
	"printf "
	"'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' "
	">ext && openssl x509 -req -days 2 -in $n.csr -CA ca.pem -CAkey ca.key "
	"-CAcreateserial -extfile ext -out $n.pem; done";

/* The members of wfsd have no TLS; this is an etcd as operators run it. */
static void tls_start(void)
{
	run("cd '%s' && U=%s && { etcd --data-dir d --listen-client-urls $U "
	    "--advertise-client-urls $U --listen-peer-urls %s "
	    "--initial-advertise-peer-urls %s --initial-cluster default=%s "
	    "--cert-file server.pem --key-file server.key --trusted-ca-file ca.pem "
	    "--client-cert-auth >log0 2>&1 & echo $! >pid; }",
		directory, map_spec + 5, members[0].peer, members[0].peer,
		members[0].peer);
}

Test(other, tls)
{
	char ca[128], cert[128], key[128], url[128], reason[256];
	struct map_store_spec spec = {.map = url, .ca = ca, .cert = cert, .key = key};
	uint64_t until_ms = now_ms() + 30000;
	int rc;

	members_name(1);
	run(make_certificates, directory);
	snprintf(map_spec, sizeof(map_spec), "etcd:https://127.0.0.1:%u", port_free());
	snprintf(url, sizeof(url), "%s/lab", map_spec);
	snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
	snprintf(cert, sizeof(cert), "%s/client.pem", directory);
	snprintf(key, sizeof(key), "%s/client.key", directory);
	tls_start();
	while ((rc = spec_try(&spec, reason, sizeof(reason))) == -EIO &&
		now_ms() < until_ms)
		pause_ms(100);
	cr_assert_eq(rc, -ENOENT, "%s", reason);
	spec.ca = NULL;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	cr_assert_not_null(strstr(reason, "certificate"), "%s", reason);
	spec.ca = ca;
	spec.cert = spec.key = NULL;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EIO);
	spec.cert = cert;
	cr_assert_eq(spec_try(&spec, reason, sizeof(reason)), -EINVAL);
	run("kill -9 $(cat '%s/pid')", directory);
	teardown();
}

Test(other, addresses)
{
	static const char *const bad[] = {"etcd:", "etcd:/x", "etcd:127.0.0.1:2379",
		"etcd:ftp://a:1", "etcd:http://", "etcd:http://a:1,",
		"etcd:http://a:1, http://b", "etcd:http://u:p@a:1",
		"etcd:http://a:1/a b"};
	char reason[256];
	struct map_store *store = NULL;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct map_store_spec spec = {.map = bad[i]};

		cr_assert_eq(map_store_open(&spec, &store, reason, sizeof(reason)),
			-EINVAL, "%s", bad[i]);
		cr_assert_not_null(strstr(reason, "etcd:http"), "%s", reason);
	}
	cr_assert_eq(
		map_store_open(&(struct map_store_spec){.map = "etcd:https://[::1]:2,"
							       "http://b.c:3/p/q/"},
			&store, reason, sizeof(reason)),
		0, "%s", reason);
	store->ops->close(store);
	cr_assert_eq(map_store_open(&(struct map_store_spec){.map = "/tmp/x"}, &store,
			     reason, sizeof(reason)),
		0);
	store->ops->close(store);
	cr_assert_eq(map_store_open(&(struct map_store_spec){.map = ""}, &store, reason,
			     sizeof(reason)),
		-EINVAL);
	cr_assert_eq(mem_live_count(), 0);
}

/* A member outlives who started it, and is found again. */
Test(one, adopted)
{
	struct world_member *m = &members[0];
	struct etcd_member_options opt = {.name = m->name,
		.data = m->data,
		.client_url = m->client,
		.peer_url = m->peer,
		.cluster = cluster,
		.pidfile = m->pidfile,
		.log = m->log};
	struct etcd_member again;
	char reason[256];
	bool adopted;

	cr_assert_eq(
		etcd_member_start(&opt, &again, &adopted, reason, sizeof(reason)), 0);
	cr_assert(adopted);
	cr_assert_eq(again.pid, m->member.pid);
	close(again.pid_fd);
	member_kill(0);
	cr_assert(!etcd_member_find(m->pidfile, &again), "it is dead");
	run("echo %d 12345 >'%s'", getpid(), m->pidfile);
	cr_assert(!etcd_member_find(m->pidfile, &again), "that is not etcd");
	member_start(0);
	members_await();
}

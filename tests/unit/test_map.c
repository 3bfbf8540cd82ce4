/* The cluster map: placement, JSON both ways, what is refused, and the file store. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/env.h"
#include "core/base/mem.h"
#include "core/cluster/map_store.h"

static struct map *sample(void)
{
	struct map *map = map_new(2, 3, 16, 1);

	map->epoch = 1;
	for (int i = 0; i < 16; i++)
		map->uuid[i] = (uint8_t)(0xa0 + i);
	strcpy(map->name, "test");
	strcpy(map->provider, "net");
	map->timeout_ms = 10000;
	for (uint32_t i = 0; i < 2; i++) {
		map->nodes[i].id = i + 1;
		snprintf(map->nodes[i].host, sizeof(map->nodes[i].host), "10.0.0.%u",
			i + 1);
		snprintf(map->nodes[i].socket, sizeof(map->nodes[i].socket),
			"/run/wfs-%u", i);
	}
	map->shards[0] = (struct map_shard){.node = 1, .index = 0, .port = 7000};
	map->shards[1] = (struct map_shard){.node = 1, .index = 1, .port = 7001};
	map->shards[2] = (struct map_shard){.node = 2, .index = 0, .port = 7000};
	map->filesystems[0].fsid = 1;
	strcpy(map->filesystems[0].name, "main");
	map->filesystems[0].root = ino_make(15, 77);
	map_place(map);
	return map;
}

Test(map, buckets_are_spread_evenly)
{
	for (uint32_t shards = 1; shards < 40; shards++) {
		struct map *map = map_new(1, shards, 256, 0);
		unsigned *count = calloc(shards, sizeof(*count));
		map_place(map);
		for (uint32_t i = 0; i < 256; i++)
			count[map->buckets[i].primary]++;
		for (uint32_t s = 0; s < shards; s++)
			cr_assert(count[s] == 256 / shards ||
				  count[s] == (256 + shards - 1) / shards);
		free(count);
		map_free(map);
	}
}

Test(map, copy_and_lookup)
{
	struct map *map = sample();
	struct map *copy = map_copy(map, 0, 0, 2);

	cr_assert_eq(copy->filesystem_count, 3);
	cr_assert_str_eq(copy->filesystems[0].name, "main");
	cr_assert_eq(copy->filesystems[2].fsid, 0);
	cr_assert_eq(copy->buckets[15].primary, map->buckets[15].primary);
	cr_assert_eq(map_node_find(copy, 2)->id, 2);
	cr_assert_null(map_node_find(copy, 3));
	cr_assert_eq(map_cluster_tag(copy), 0xa7a6a5a4a3a2a1a0u);
	map_free(map);
	map_free(copy);
	map_free(NULL);
	cr_assert_eq(mem_live_count(), 0);
}

Test(map, json_and_back)
{
	struct map *map = sample();
	char *text = map_to_json(map);
	struct map *again;
	char reason[200];
	char *text_again;

	cr_assert_eq(map_from_json(text, strlen(text), &again, reason, sizeof(reason)), 0,
		"%s", reason);
	cr_assert_eq(again->filesystems[0].root, ino_make(15, 77));
	cr_assert_eq(memcmp(again->uuid, map->uuid, 16), 0);
	text_again = map_to_json(again);
	cr_assert_str_eq(text, text_again);
	free(text);
	free(text_again);
	map_free(map);
	map_free(again);
	cr_assert_eq(mem_live_count(), 0);
}

/* Replace the first `from` by `to`: must be refused, and say something with `why`. */
static void refused(const char *from, const char *to, const char *why)
{
	struct map *map = sample();
	struct map *again;
	char *text = map_to_json(map);
	char *at = strstr(text, from);
	char reason[200] = "";
	char *changed = NULL;

	cr_assert_not_null(at, "%s", from);
	cr_assert_gt(asprintf(&changed, "%.*s%s%s", (int)(at - text), text, to,
			     at + strlen(from)),
		0);
	cr_assert_eq(
		map_from_json(changed, strlen(changed), &again, reason, sizeof(reason)),
		-EUCLEAN, "%s -> %s", from, to);
	cr_assert_not_null(strstr(reason, why), "%s -> %s says: %s", from, to, reason);
	free(changed);
	free(text);
	map_free(map);
}

Test(map, what_is_refused)
{
	refused("{", "", "JSON");
	refused("\"wfs_map\": 2", "\"wfs_map\": 3", "format 3");
	refused("\"epoch\": 1", "\"epoch\": 0", "epoch");
	refused("\"epoch\": 1", "\"epoch\": -1", "epoch");
	refused("\"epoch\": 1", "\"epoch\": \"1\"", "epoch");
	refused("a0a1a2a3-", "a0a1a2a3", "uuid");
	refused("a0a1a2a3-", "g0a1a2a3-", "uuid");
	refused("\"test\"", "\"\"", "name");
	refused("\"test\"", "\"a\\nb\"", "control");
	refused("\"test\"",
		"\"0123456789012345678901234567890123456789012345678901234567890123\"",
		"name");
	refused("\"timeout_ms\": 10000", "\"timeout_ms\": 0", "timeout");
	refused("\"id\": 2", "\"id\": 1", "twice");
	refused("\"node\": 2", "\"node\": 3", "unknown node");
	refused("\"index\": 1", "\"index\": 0", "same index");
	refused("\"port\": 7001", "\"port\": 7000", "port");
	refused("\"port\": 7001", "\"port\": 65536", "port");
	refused("\"port\": 7001", "\"port\": 0", "port");
	refused("\"buckets\": [", "\"buckets\": [[1, 0, [], [0]],", "power of two");
	refused("\"buckets\": [\n  [\n   1,\n   0", "\"buckets\": [\n  [\n   1,\n   3",
		"shard");
	refused("\"buckets\": [\n  [", "\"buckets\": [\n  [5,", "epoch, shard");
	refused("\"main\"", "\"ma/in\"", "slash");
	refused("000f00000000004d", "000f00000000004", "root");
	refused("000f00000000004d", "001000000000004d", "bucket");
	refused("\"nodes\": [", "\"nodes\": 3, \"x\": [", "nodes");
}

Test(map, mutations)
{
	struct map *map = sample();
	char *text = map_to_json(map);
	size_t size = strlen(text);
	struct env_sim sim;
	char reason[64];

	env_sim_init(&sim, 99);
	for (int i = 0; i < 3000; i++) {
		char *copy = malloc(size);
		struct map *again = NULL;
		memcpy(copy, text, size);
		for (int k = 0; k < 3; k++)
			copy[env_random(&sim.env) % size] = (char)env_random(&sim.env);
		if (map_from_json(copy, size, &again, reason, sizeof(reason)) == 0) {
			for (uint32_t b = 0; b < again->bucket_count; b++)
				cr_assert_lt(
					again->buckets[b].primary, again->shard_count);
			map_free(again);
		}
		free(copy);
	}
	free(text);
	map_free(map);
	cr_assert_eq(mem_live_count(), 0);
}

/* --- the file store -------------------------------------------------------------------
 */

static char directory[] = "/tmp/wfs-net-map-XXXXXX";
static char path[64];

static void store_setup(void)
{
	cr_assert_not_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/map.json", directory);
}

static void store_teardown(void)
{
	char command[80];

	snprintf(command, sizeof(command), "rm -r '%s'", directory);
	cr_assert_eq(system(command), 0);
}

TestSuite(map_store, .init = store_setup, .fini = store_teardown, .timeout = 30);

Test(map_store, save_and_load)
{
	struct map_store *store;
	struct map *map = sample();
	struct map *loaded = NULL;

	cr_assert_eq(map_store_file_open(path, &store), 0);
	cr_assert_eq(store->ops->load(store, 0, &loaded), -ENOENT);
	cr_assert_not_null(
		strstr(store->reason, "wfsctl cluster create"), "%s", store->reason);
	map->epoch = 2;
	cr_assert_eq(store->ops->save(store, map), -EAGAIN);
	map->epoch = 1;
	cr_assert_eq(store->ops->save(store, map), 0, "%s", store->reason);
	cr_assert_eq(store->ops->save(store, map), -EAGAIN);
	cr_assert_not_null(strstr(store->reason, "somebody else"), "%s", store->reason);
	map->epoch = 2;
	cr_assert_eq(store->ops->save(store, map), 0, "%s", store->reason);
	cr_assert_eq(store->ops->load(store, 0, &loaded), 0);
	cr_assert_eq(loaded->epoch, 2);
	loaded->uuid[0]++;
	loaded->epoch = 3;
	cr_assert_eq(store->ops->save(store, loaded), -EEXIST);
	map_free(loaded);
	map_free(map);
	store->ops->close(store);
	cr_assert_eq(mem_live_count(), 0);
}

Test(map_store, damage_is_told)
{
	struct map_store *store;
	struct map *map = sample();
	struct map *loaded = NULL;
	int fd = open(path, O_WRONLY | O_CREAT, 0644);

	cr_assert_eq(write(fd, "{\"wfs_map\": 1", 13), 13);
	close(fd);
	cr_assert_eq(map_store_file_open(path, &store), 0);
	cr_assert_eq(store->ops->load(store, 0, &loaded), -EUCLEAN);
	cr_assert_not_null(strstr(store->reason, "restore"), "%s", store->reason);
	cr_assert_eq(store->ops->save(store, map), -EUCLEAN, "never over a damaged map");
	map_free(map);
	store->ops->close(store);
}

Test(map_store, a_failed_save_leaves_the_old_map)
{
	struct map_store *store;
	struct map *map = sample();
	struct map *loaded = NULL;
	char blocked[80];

	cr_assert_eq(map_store_file_open(path, &store), 0);
	cr_assert_eq(store->ops->save(store, map), 0);
	snprintf(blocked, sizeof(blocked), "%s.new", path);
	cr_assert_eq(mkdir(blocked, 0755), 0);
	map->epoch = 2;
	cr_assert_lt(store->ops->save(store, map), 0);
	cr_assert_neq(store->reason[0], '\0');
	cr_assert_eq(store->ops->load(store, 0, &loaded), 0);
	cr_assert_eq(loaded->epoch, 1);
	cr_assert_eq(rmdir(blocked), 0);
	for (unsigned nth = 1;; nth++) {
		mem_fault_arm(nth);
		int rc = store->ops->save(store, map);
		bool fired = mem_fault_fired();
		mem_fault_arm(0);
		if (!fired) {
			cr_assert_eq(rc, 0);
			break;
		}
		cr_assert_eq(rc, -ENOMEM);
	}
	map_free(map);
	map_free(loaded);
	store->ops->close(store);
}

/* Several processes raise the epoch by compare-and-swap: every step happens once. */
Test(map_store, savers_take_turns)
{
	enum { PROCESSES = 4, STEPS = 20 };
	struct map_store *store;
	struct map *map = sample();

	cr_assert_eq(map_store_file_open(path, &store), 0);
	cr_assert_eq(store->ops->save(store, map), 0);
	map_free(map);
	for (int p = 0; p < PROCESSES; p++) {
		if (fork())
			continue;
		for (int step = 0; step < STEPS;) {
			if (store->ops->load(store, 0, &map))
				_exit(1);
			map->epoch++;
			map->timeout_ms++;
			int rc = store->ops->save(store, map);
			map_free(map);
			if (rc && rc != -EAGAIN)
				_exit(2);
			step += rc == 0;
		}
		_exit(0);
	}
	for (int p = 0; p < PROCESSES; p++) {
		int status;
		wait(&status);
		cr_assert_eq(status, 0);
	}
	cr_assert_eq(store->ops->load(store, 0, &map), 0);
	cr_assert_eq(map->epoch, 1 + PROCESSES * STEPS);
	cr_assert_eq(map->timeout_ms, 10000 + PROCESSES * STEPS);
	map_free(map);
	store->ops->close(store);
}

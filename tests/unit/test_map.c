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

/* --- copies --------------------------------------------------------------------------
 */

static struct map *cluster(
	uint32_t nodes, uint32_t per_node, uint32_t copies, uint32_t buckets)
{
	struct map *map = map_new(nodes, nodes * per_node, buckets, 0);

	map->epoch = 1;
	map->copies = copies;
	for (uint32_t n = 0; n < nodes; n++) {
		map->nodes[n].id = n + 1;
		for (uint32_t s = 0; s < per_node; s++)
			map->shards[n * per_node + s] =
				(struct map_shard){.node = n + 1, .index = s};
	}
	return map;
}

struct spread {
	unsigned least, most, total;
};

static unsigned held_by(const struct map *map, uint32_t shard, bool leads)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < map->bucket_count; i++)
		for (uint32_t k = 0; k < map->buckets[i].target_count && !(leads && k);
			k++)
			count += map->buckets[i].targets[k] == shard;
	return count;
}

static struct spread spread_of(const struct map *map, const bool *out, bool leads)
{
	struct spread s = {UINT32_MAX, 0, 0};

	for (uint32_t i = 0; i < map->shard_count; i++) {
		unsigned count = held_by(map, i, leads);

		if (out && out[i]) {
			cr_assert_eq(count, 0, "shard %u is out", i);
			continue;
		}
		s.least = count < s.least ? count : s.least;
		s.most = count > s.most ? count : s.most;
		s.total += count;
	}
	return s;
}

static void targets_are_apart(const struct map *map, uint32_t count)
{
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];

		cr_assert_eq(b->target_count, count, "bucket %u: %u", i, b->target_count);
		for (uint32_t j = 0; j < count; j++)
			for (uint32_t k = 0; k < j; k++)
				cr_assert_neq(map->shards[b->targets[j]].node,
					map->shards[b->targets[k]].node);
	}
}

static bool has_target(const struct map_bucket *b, uint32_t shard)
{
	for (uint32_t i = 0; i < b->target_count; i++)
		if (b->targets[i] == shard)
			return true;
	return false;
}

static unsigned moves(const struct map *from, const struct map *to)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < to->bucket_count; i++)
		for (uint32_t k = 0; k < to->buckets[i].target_count; k++)
			count +=
				!has_target(&from->buckets[i], to->buckets[i].targets[k]);
	return count;
}

static unsigned backs(const struct map *map, uint32_t backup, uint32_t primary)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < map->bucket_count; i++)
		count += map->buckets[i].primary == primary &&
			 map_bucket_has_backup(&map->buckets[i], backup);
	return count;
}

static void placed_well(uint32_t nodes, uint32_t per, uint32_t copies)
{
	struct map *map = cluster(nodes, per, copies, 256);
	struct spread all, lead;

	cr_assert_eq(map_place(map), 0);
	targets_are_apart(map, copies);
	all = spread_of(map, NULL, false);
	lead = spread_of(map, NULL, true);
	cr_assert_leq(all.most - all.least, 1, "%u x %u, %u copies", nodes, per, copies);
	cr_assert_leq(
		lead.most - lead.least, 1, "%u x %u, %u copies", nodes, per, copies);
	for (uint32_t a = 0; copies > 1 && a < map->shard_count; a++)
		for (uint32_t b = 0; b < map->shard_count; b++)
			if (map->shards[a].node != map->shards[b].node)
				cr_assert_gt(backs(map, b, a), 0,
					"%u x %u, %u copies: %u never backs %u", nodes,
					per, copies, b, a);
	map_free(map);
}

static const uint32_t sizes[] = {3, 4, 5, 8};

Test(map, copies_are_even_apart_and_declustered)
{
	for (int i = 0; i < 4; i++)
		for (uint32_t per = 1; per <= 2; per++)
			for (uint32_t copies = 1; copies <= 3; copies++)
				placed_well(sizes[i], per, copies);
	cr_assert_eq(mem_live_count(), 0);
}

static void goes_and_comes(uint32_t shards, uint32_t copies, uint32_t gone)
{
	struct map *map = cluster(shards, 1, copies, 256);
	uint32_t want = copies < shards ? copies : shards - 1;
	bool out[8] = {false};
	struct map *before, *away;
	struct spread s;
	unsigned held;

	cr_assert_eq(map_place(map), 0);
	before = map_copy(map, 0, 0, 0);
	held = held_by(map, gone, false);
	out[gone] = true;
	cr_assert_eq(map_plan(map, out), 0);
	targets_are_apart(map, want);
	s = spread_of(map, out, false);
	cr_assert_leq(s.most * (shards - 1) * 4, s.total * 5);
	s = spread_of(map, out, true);
	cr_assert_leq(s.most * (shards - 1) * 4, s.total * 5);
	cr_assert_leq(moves(before, map), held + held / 10,
		"%u shards, %u copies: %u for %u", shards, copies, moves(before, map),
		held);

	away = map_copy(map, 0, 0, 0);
	cr_assert_eq(map_plan(map, out), 0);
	cr_assert_eq(moves(away, map), 0, "the same again");
	out[gone] = false;
	cr_assert_eq(map_plan(map, out), 0);
	targets_are_apart(map, copies);
	s = spread_of(map, out, false);
	cr_assert_leq(s.most * shards * 4, s.total * 5);
	cr_assert_leq(moves(away, map), s.total / shards + 1);
	map_free(away);
	map_free(before);
	map_free(map);
}

Test(map, shards_go_out_and_come_back)
{
	for (int i = 0; i < 4; i++)
		for (uint32_t copies = 1; copies <= 3; copies++)
			for (uint32_t gone = 0; gone < sizes[i]; gone++)
				goes_and_comes(sizes[i], copies, gone);
	cr_assert_eq(mem_live_count(), 0);
}

static void racks_apart(const struct map *map)
{
	for (uint32_t i = 0; i < map->bucket_count; i++)
		cr_assert_neq(
			map->buckets[i].targets[0] / 2, map->buckets[i].targets[1] / 2);
}

Test(map, failure_domains)
{
	struct map *map = cluster(6, 1, 2, 256);
	bool out[6] = {false};
	uint32_t domains;

	for (uint32_t n = 0; n < 6; n++)
		snprintf(map->nodes[n].domain, sizeof(map->nodes[n].domain), "rack%u",
			n / 2);
	cr_assert_eq(map_place(map), 0);
	racks_apart(map);
	cr_assert_leq(spread_of(map, out, false).most, 256 * 2 / 6 + 1);
	out[0] = out[1] = true;
	cr_assert_eq(map_plan(map, out), 0);
	racks_apart(map);
	out[2] = out[3] = true;
	cr_assert_eq(map_plan_copies(map, out, &domains), 2);
	cr_assert_eq(domains, 1);
	cr_assert_eq(map_plan(map, out), 0);
	targets_are_apart(map, 2);
	memset(out, false, sizeof(out));
	cr_assert_eq(map_plan(map, out), 0);
	racks_apart(map);
	memset(out, true, sizeof(out));
	cr_assert_eq(map_plan(map, out), -ENOSPC);
	map_free(map);
}

Test(map, who_holds_the_data_keeps_it)
{
	struct map *map = cluster(4, 1, 2, 16);
	bool out[4] = {true, false, false, false};

	cr_assert_eq(map_place(map), 0);
	struct map_bucket *b = &map->buckets[0];
	b->primary = 3; /* data is there, though the targets are elsewhere */
	b->backup_count = 0;
	b->targets[0] = 0;
	b->targets[1] = 1;
	cr_assert_eq(map_plan(map, out), 0);
	cr_assert(has_target(b, 3));
	map_free(map);
}

Test(map, planning_survives_short_memory)
{
	struct map *map = cluster(4, 1, 2, 16);
	int rc = -ENOMEM;

	for (unsigned nth = 1; rc == -ENOMEM && nth < 10; nth++) {
		mem_fault_arm(nth);
		rc = map_place(map);
		cr_assert_eq(rc == -ENOMEM, mem_fault_fired());
	}
	mem_fault_arm(0);
	cr_assert_eq(rc, 0);
	map_free(map);
	cr_assert_eq(mem_live_count(), 0);
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
	map_free(copy);
	copy = map_copy(map, 1, 2, 0);
	map_free(map);
	cr_assert_eq(copy->node_count, 3);
	cr_assert_eq(copy->shard_count, 5);
	cr_assert_eq(copy->shards[2].port, 7000);
	cr_assert_eq(copy->shards[4].port, 0);
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

Test(map, json_keeps_copies_and_members)
{
	struct map *map = sample();
	struct map *again;
	char reason[200];

	map->copies = 2;
	map->lease_ms = 7000;
	map->rebuild_after_s = 5;
	map->rebuild_mib_s = 70;
	strcpy(map->nodes[1].domain, "rack7");
	map->nodes[1].state = MAP_NODE_DRAINING;
	memset(map->shards[2].device_uuid, 0xab, 16);
	map->shards[2].incarnation = 0xfedcba9876543210u;
	cr_assert_eq(map_place(map), 0);
	map->buckets[3].epoch = 77;
	char *text = map_to_json(map);
	cr_assert_eq(map_from_json(text, strlen(text), &again, reason, sizeof(reason)), 0,
		"%s", reason);
	cr_assert_eq(again->copies, 2);
	cr_assert_eq(again->lease_ms, 7000);
	cr_assert_eq(again->rebuild_after_s, 5);
	cr_assert_eq(again->rebuild_mib_s, 70);
	cr_assert_str_eq(again->nodes[0].domain, "node1");
	cr_assert_str_eq(again->nodes[1].domain, "rack7");
	cr_assert_eq(again->nodes[1].state, MAP_NODE_DRAINING);
	cr_assert_eq(again->shards[2].device_uuid[15], 0xab);
	cr_assert_eq(again->shards[2].incarnation, 0xfedcba9876543210u);
	cr_assert_eq(memcmp(again->buckets, map->buckets, 16 * sizeof(*map->buckets)), 0);
	free(text);
	map_free(map);
	map_free(again);
}

Test(map, a_map_of_version_1_has_one_copy)
{
	static const char text[] =
		"{\"wfs_map\": 1, \"epoch\": 7, "
		"\"uuid\": \"a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf\", \"name\": \"old\","
		"\"provider\": \"net\", \"timeout_ms\": 10000,"
		"\"nodes\": [{\"id\": 4, \"host\": \"h\", \"socket\": \"/s\"}],"
		"\"shards\": [{\"node\": 4, \"index\": 0, \"port\": 7000}],"
		"\"buckets\": [[1, 0], [3, 0]], \"filesystems\": []}";
	struct map *map;
	char reason[200];

	cr_assert_eq(map_from_json(text, sizeof(text) - 1, &map, reason, sizeof(reason)),
		0, "%s", reason);
	cr_assert_eq(map->copies, 1);
	cr_assert_eq(map->lease_ms, MAP_LEASE_MS_DEFAULT);
	cr_assert_eq(map->rebuild_after_s, MAP_REBUILD_AFTER_S_DEFAULT);
	cr_assert_str_eq(map->nodes[0].domain, "node4");
	cr_assert_eq(map->buckets[1].epoch, 3);
	cr_assert_eq(map->buckets[1].backup_count, 0);
	cr_assert_eq(map->buckets[1].target_count, 1);
	map_free(map);
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
	refused("\"copies\": 1", "\"copies\": 0", "copies");
	refused("\"copies\": 1", "\"copies\": 4", "copies");
	refused("\"lease_ms\": 5000", "\"lease_ms\": 1", "lease_ms");
	refused("\"rebuild_after_s\": 60", "\"rebuild_after_s\": -1", "rebuild_after_s");
	refused("\"state\": \"in\"", "\"state\": \"out\"", "state");
	refused("\"domain\": \"node1\"", "\"domain\": \"\"", "domain");
	refused("\"incarnation\": \"0", "\"incarnation\": \"x", "incarnation");
	refused("\"device\": \"0", "\"device\": \"x", "device");
	refused("[\n   1,\n   0", "[\n   0,\n   0", "epoch, shard");
	refused("[],\n   [\n    0\n   ]", "[0],\n   [\n    0\n   ]", "twice");
	refused("[],\n   [\n    0\n   ]", "[1, 2],\n   [\n    0\n   ]", "more than 1");
	refused("[],\n   [\n    0\n   ]", "[],\n   [\n    3\n   ]", "exist");
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

Test(map_store, leases)
{
	struct map_store *one, *two;
	struct map_lease l[4];
	uint32_t count = 99;
	uint32_t of_3, of_4;

	cr_assert_eq(map_store_file_open(path, &one), 0);
	cr_assert_eq(map_store_file_open(path, &two), 0);
	cr_assert_eq(one->ops->leases(one, l, 4, &count), 0);
	cr_assert_eq(count, 0);
	cr_assert_eq(one->ops->renew(one, 3, 0xabc, 60000), 0, "%s", one->reason);
	cr_assert_eq(one->ops->renew(one, 3, 0xabc, 60000), 0);
	cr_assert_eq(two->ops->renew(two, 3, 0xdef, 60000), -EBUSY);
	cr_assert_not_null(strstr(two->reason, "node 3"));
	cr_assert_eq(two->ops->renew(two, 4, 0xdef, 1), 0);
	usleep(2000);
	cr_assert_eq(two->ops->leases(two, l, 4, &count), 0);
	cr_assert_eq(count, 2);
	of_3 = l[0].node == 3 ? 0 : 1;
	of_4 = 1 - of_3;
	cr_assert_eq(l[of_3].node, 3);
	cr_assert_eq(l[of_3].incarnation, 0xabc);
	cr_assert(l[of_3].remaining_ms > 50000 && l[of_3].remaining_ms <= 60000);
	cr_assert_eq(l[of_4].node, 4);
	cr_assert_eq(l[of_4].remaining_ms, 0, "expired, and still told");
	cr_assert_eq(one->ops->leases(one, l, 1, &count), -ENOSPC);
	cr_assert_eq(one->ops->renew(one, 4, 0x111, 60000), 0, "an expired one is free");
	cr_assert_eq(one->ops->release(one, 4, 0x222), 0, "not ours: stays");
	cr_assert_eq(one->ops->release(one, 3, 0xabc), 0);
	cr_assert_eq(one->ops->leases(one, l, 4, &count), 0);
	cr_assert_eq(count, 1);
	cr_assert_eq(l[0].node, 4);
	one->ops->close(one);
	two->ops->close(two);
}

Test(map_store, a_lease_of_another_boot_is_expired)
{
	struct map_store *store;
	struct map_lease l[4];
	uint32_t count;
	char file[100];
	FILE *f;

	snprintf(file, sizeof(file), "%s.lease.4", path);
	f = fopen(file, "w");
	fprintf(f, "another-boot 0000000000000111 99999999999999999\n");
	fclose(f);
	cr_assert_eq(map_store_file_open(path, &store), 0);
	cr_assert_eq(store->ops->leases(store, l, 4, &count), 0);
	cr_assert_eq(count, 1);
	cr_assert_eq(l[0].remaining_ms, 0);
	cr_assert_eq(store->ops->renew(store, 4, 0x222, 60000), 0);
	store->ops->close(store);
}

Test(map_store, load_if_newer_and_wait)
{
	struct map_store *one, *two;
	struct map *map = sample();
	struct map *loaded = map;

	cr_assert_eq(map_store_file_open(path, &one), 0);
	cr_assert_eq(map_store_file_open(path, &two), 0);
	cr_assert_eq(one->ops->wait(one, 0, 10), -EIO);
	cr_assert_eq(one->ops->save(one, map), 0, "%s", one->reason);
	cr_assert_eq(two->ops->load(two, 1, &loaded), 0);
	cr_assert_null(loaded, "not newer");
	cr_assert_eq(two->ops->wait(two, 1, 1), 0);
	map->epoch = 2;
	cr_assert_eq(one->ops->save(one, map), 0);
	cr_assert_eq(two->ops->wait(two, 1, 600000), 0, "at once: it changed");
	cr_assert_eq(two->ops->load(two, 1, &loaded), 0);
	cr_assert_eq(loaded->epoch, 2);
	map_free(loaded);
	map_free(map);
	one->ops->close(one);
	two->ops->close(two);
}

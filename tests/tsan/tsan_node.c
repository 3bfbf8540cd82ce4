/*
 * Threads under TSan: a whole node of two shards (two reactor threads) in this process,
 * and a program of several threads on it through one client; first with one copy of
 * everything, then with two and the keeper's threads. A plain main: Criterion does not
 * run under TSan.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/cluster/map_store.h"
#include "core/io/device.h"
#include "core/wfsd/keeper_thread.h"
#include "core/wfsd/reactor.h"
#include "shim/client/client.h"

#define SHARDS      2
#define THREADS     4
#define FILES       40
#define DEVICE_SIZE (512u << 20)
#define PORT        27911

static char dir[64];
static struct config config;
static struct map *map;
static struct client *client;
static struct keeper_thread *keeper;
static uint8_t device_uuids[SHARDS][16];

struct shard_thread {
	pthread_t thread;
	pthread_barrier_t *open;
	struct reactor_options opt;
	struct reactor *reactor;
};

#define MUST(what)                                                                       \
	do {                                                                             \
		long must_rc = (long)(what);                                             \
		if (must_rc < 0) {                                                       \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what,    \
				strerror((int)-must_rc));                                \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

static void cluster_make(uint32_t copies)
{
	strcpy(dir, "/tmp/wfs-tsan-XXXXXX");
	if (!mkdtemp(dir))
		exit(1);
	map = map_new(1, SHARDS, 16, 1);
	map->epoch = 1;
	memset(map->uuid, 7, sizeof(map->uuid));
	strcpy(map->name, "tsan");
	strcpy(map->provider, "net");
	map->timeout_ms = 20000;
	map->copies = copies;
	strcpy(map->nodes[0].host, "127.0.0.1");
	snprintf(map->nodes[0].socket, sizeof(map->nodes[0].socket), "%s/sock", dir);
	strcpy(map->filesystems[0].name, "default");
	map->filesystems[0].fsid = 1;
	map->filesystems[0].root = WFS_ROOT_INO;
	config.shard_count = SHARDS;
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct config_shard *cs = &config.shards[i];

		map->shards[i].index = i;
		map->shards[i].port = (uint16_t)(PORT + i);
		cs->memory_mib = 64;
		snprintf(cs->device, sizeof(cs->device), "%s/device%u", dir, i);
		snprintf(cs->index, sizeof(cs->index), "%s/index%u", dir, i);
		MUST(device_file_create(cs->device, DEVICE_SIZE, NULL, NULL));
	}
	MUST(map_place(map));
}

static void *shard_main(void *arg)
{
	struct shard_thread *t = arg;
	char reason[512] = "";

	if (reactor_format(&t->opt, false, reason, sizeof(reason)) < 0 ||
		reactor_open(&t->opt, &t->reactor, reason, sizeof(reason)) < 0) {
		fprintf(stderr, "%s\n", reason);
		exit(1);
	}
	pthread_barrier_wait(t->open);
	reactor_run(t->reactor);
	reactor_close(t->reactor);
	return NULL;
}

/* Each thread works in a directory of its own and in one that all share. */
static void *program_main(void *arg)
{
	int me = (int)(long)arg;
	char outside[WFS_PATH_MAX + 1], path[64], data[5000], back[5000];

	for (int i = 0; i < FILES; i++) {
		struct where w = {client_root(client), path, outside};
		struct client_attr attr;
		struct client_file file;

		snprintf(path, sizeof(path), i % 2 ? "shared/%d-%d" : "own%d/%d", me, i);
		memset(data, me * FILES + i, sizeof(data));
		MUST(client_open(client, &w, O_CREAT | O_EXCL | O_RDWR, 0644, &file, &attr));
		MUST(client_write(client, &file, data, sizeof(data), 0));
		MUST(client_write(client, &file, data, sizeof(data), WFS_CHUNK_SIZE - 100));
		MUST(client_read(client, &file, back, sizeof(back), WFS_CHUNK_SIZE - 100));
		assert(memcmp(data, back, sizeof(data)) == 0);
		client_close(client, &file);
		MUST(client_stat(client, &w, true, &attr));
		assert(attr.size_bytes == WFS_CHUNK_SIZE - 100 + sizeof(data));
		if (i % 3 == 0)
			MUST(client_unlink(client, &w));
	}
	return NULL;
}

static void program_run(void)
{
	char outside[WFS_PATH_MAX + 1], path[64];
	struct where w = {0, path, outside};
	pthread_t threads[THREADS];

	MUST(client_attach(map->nodes[0].socket, "", "/wfs", &client));
	w.start = client_root(client);
	strcpy(path, "shared");
	MUST(client_mkdir(client, &w, 0755, NULL));
	for (long i = 0; i < THREADS; i++) {
		snprintf(path, sizeof(path), "own%ld", i);
		MUST(client_mkdir(client, &w, 0755, NULL));
	}
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, program_main, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	client_detach(client);
}

static struct shard_thread shards[SHARDS];

static void map_changed(void *ctx, const struct map *newer)
{
	(void)ctx;
	for (uint32_t i = 0; i < SHARDS; i++)
		reactor_map_set(shards[i].reactor, newer);
}

static void lease_changed(void *ctx, uint64_t until_us)
{
	(void)ctx;
	for (uint32_t i = 0; i < SHARDS; i++)
		reactor_lease_set(shards[i].reactor, until_us);
}

static void keeper_make(void)
{
	struct keeper_thread_options opt = {
		.map = map,
		.node = map->nodes[0].id,
		.device_uuids = device_uuids,
		.map_changed = map_changed,
		.lease = lease_changed,
	};
	char path[128];

	snprintf(path, sizeof(path), "%s/map.json", dir);
	MUST(map_store_file_open(path, &opt.store));
	MUST(map_store_file_open(path, &opt.store_watch));
	MUST(opt.store->ops->save(opt.store, map));
	MUST(keeper_thread_new(&opt, &keeper));
}

static void node_run(uint32_t copies)
{
	pthread_barrier_t open;
	char command[128];

	cluster_make(copies);
	keeper = NULL;
	if (copies > 1)
		keeper_make();
	pthread_barrier_init(&open, NULL, SHARDS + 1);
	for (uint32_t i = 0; i < SHARDS; i++) {
		shards[i] = (struct shard_thread){.open = &open,
			.opt = {.map = map,
				.config = &config,
				.index = i,
				.number = i,
				.leased = copies > 1,
				.keeper = keeper}};
		pthread_create(&shards[i].thread, NULL, shard_main, &shards[i]);
	}
	pthread_barrier_wait(&open);
	if (keeper) {
		for (uint32_t i = 0; i < SHARDS; i++)
			reactor_device_uuid(shards[i].reactor, device_uuids[i]);
		MUST(keeper_thread_start(keeper));
	}
	program_run();
	for (uint32_t i = 0; i < SHARDS && !keeper; i++)
		reactor_map_set(shards[i].reactor, map);
	keeper_thread_halt(keeper);
	for (uint32_t i = 0; i < SHARDS; i++)
		reactor_stop(shards[i].reactor);
	for (uint32_t i = 0; i < SHARDS; i++)
		pthread_join(shards[i].thread, NULL);
	keeper_thread_free(keeper);
	map_free(map);
	pthread_barrier_destroy(&open);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (system(command) != 0)
		exit(1);
}

int main(void)
{
	node_run(1);
	node_run(2);
	return 0;
}

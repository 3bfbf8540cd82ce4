/*
 * wfsd: one node. Reads its configuration and the cluster map, starts one reactor thread
 * a shard, and a keeper where the map has copies or is in etcd, and waits for signals:
 * TERM and INT stop cleanly, HUP reads the map again. USR1 stops cleanly too, but leaves
 * a member of etcd that we run to who sent it: so all nodes can give back their leases
 * before the map goes.
 *
 * Exit codes: 0 stopped cleanly, 1 failed while serving, 2 cannot start: configuration,
 * map, device or address, with one line on stderr that says what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/cluster/map_store.h"
#include "core/wfsd/keeper_thread.h"
#include "core/wfsd/member.h"
#include "core/wfsd/reactor.h"

#define WFSD_VERSION "0.1"
#define MAPS_KEPT    64u
#define MAP_WAIT_S   60
#define MAP_PAUSE_US 100000

struct shard_thread {
	struct reactor_options opt;
	struct reactor *reactor;
	pthread_t thread;
	sem_t opened;
	sem_t quiet; /* no program is answered any more */
	int rc;
	char reason[512];
};

struct node {
	struct config config;
	struct map_store *store;
	struct map *map;                 /* the newest, without a keeper */
	struct map *old_maps[MAPS_KEPT]; /* that reactors may still read */
	uint32_t old_map_at;
	struct keeper_thread *keeper;                /* NULL: not needed */
	const struct map *kept_map; /* the newest of the keeper; its thread\'s */
	uint8_t device_uuids[CONFIG_SHARDS_MAX][16]; /* by shard index */
	struct shard_thread threads[CONFIG_SHARDS_MAX];
	uint32_t thread_count;
};

static struct node node;

static void usage(FILE *to)
{
	fputs("Usage: wfsd --config FILE [--format [--force]]\n"
	      "\n"
	      "Serve one node of a WFS cluster in the foreground; prints \"ready\" when it\n"
	      "does. SIGTERM stops cleanly, SIGHUP reads the cluster map again.\n"
	      "\n"
	      "  -c, --config FILE  the node's configuration, see wfsd(8)\n"
	      "      --format       make its devices and indexes empty, then exit\n"
	      "      --force        with --format: whatever they hold is lost\n"
	      "  -V, --version\n"
	      "  -h, --help\n"
	      "\n"
	      "Usually started by `wfsctl cluster start`.\n",
		to);
}

static int complain(const char *reason)
{
	fprintf(stderr, "wfsd: %s\n", reason);
	return 2;
}

static int map_open(struct map_store **store_out, char *reason, size_t reason_size)
{
	const struct config_map *access = &node.config.map_access;
	struct map_store_spec spec = {.map = node.config.map,
		.ca = access->ca,
		.cert = access->cert,
		.key = access->key,
		.user = access->user,
		.password_file = access->password_file};

	return map_store_open(&spec, store_out, reason, reason_size);
}

/* etcd may have to find its majority first: all nodes start at the same time. */
static int map_load(bool patient, char *reason, size_t reason_size)
{
	uint64_t until_us = env_now_us(env_real()) + MAP_WAIT_S * 1000000ull;
	int rc = map_open(&node.store, reason, reason_size);
	bool told = false;

	if (rc < 0)
		return rc;
	while ((rc = node.store->ops->load(node.store, 0, &node.map)) == -EIO && patient &&
		env_now_us(env_real()) < until_us) {
		if (!told)
			log_info("waiting for the map reason=\"%s\"", node.store->reason);
		told = true;
		usleep(MAP_PAUSE_US);
	}
	if (rc < 0)
		snprintf(reason, reason_size, "map %s: %s", node.config.map,
			node.store->reason[0] ? node.store->reason : strerror(-rc));
	return rc;
}

static bool keeper_wanted(void)
{
	return keeper_thread_wanted(node.map) || map_store_is_etcd(node.config.map);
}

/* Which of the map's shards are ours. */
static int shards_find(char *reason, size_t reason_size)
{
	uint32_t id = node.config.node;

	if (!map_node_find(node.map, id)) {
		snprintf(reason, reason_size, "node %u is not in the map %s", id,
			node.config.map);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < node.map->shard_count; i++) {
		const struct map_shard *ms = &node.map->shards[i];

		if (ms->node != id)
			continue;
		if (ms->index >= node.config.shard_count) {
			snprintf(reason, reason_size,
				"the map gives node %u a shard %u, which has no [shard %u]",
				id, ms->index, ms->index);
			return -EINVAL;
		}
		node.threads[node.thread_count++].opt = (struct reactor_options){
			.map = node.map,
			.config = &node.config,
			.index = ms->index,
			.number = i,
			.leased = keeper_wanted(),
		};
	}
	if (node.thread_count != node.config.shard_count) {
		snprintf(reason, reason_size, "%u [shard] sections, but the map gives node "
			"%u %u shards", node.config.shard_count, id, node.thread_count);
		return -EINVAL;
	}
	return 0;
}

static int format(bool force)
{
	char reason[600] = "";

	if (map_load(false, reason, sizeof(reason)) < 0 ||
		shards_find(reason, sizeof(reason)) < 0)
		return complain(reason);
	for (uint32_t i = 0; i < node.thread_count; i++) {
		int rc = reactor_format(&node.threads[i].opt, force, reason, sizeof(reason));

		if (rc < 0)
			return complain(reason);
	}
	return 0;
}

static void *shard_main(void *arg)
{
	struct shard_thread *t = arg;

	t->rc = reactor_open(&t->opt, &t->reactor, t->reason, sizeof(t->reason));
	sem_post(&t->opened);
	if (t->rc < 0)
		return NULL;
	reactor_run(t->reactor);
	sem_post(&t->quiet);
	reactor_close(t->reactor);
	return NULL;
}

static int pidfile_write(char *reason, size_t reason_size)
{
	char text[32];
	int fd, size;

	if (!node.config.pidfile[0])
		return 0;
	fd = open(node.config.pidfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size = snprintf(text, sizeof(text), "%d\n", getpid());
	if (fd < 0 || write(fd, text, (size_t)size) != size) {
		snprintf(reason, reason_size, "pidfile %s: %s", node.config.pidfile,
			strerror(errno));
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	close(fd);
	return 0;
}

static void map_changed(void *ctx, const struct map *map)
{
	(void)ctx;
	node.kept_map = map;
	for (uint32_t i = 0; i < node.thread_count; i++)
		reactor_map_set(node.threads[i].reactor, map);
}

/* A device that is not the one of the map does not hold what the map says. */
static bool device_is_foreign(const struct shard_thread *t)
{
	static const uint8_t unknown[16];
	const uint8_t *uuid = node.kept_map->shards[t->opt.number].device_uuid;

	return memcmp(uuid, unknown, 16) != 0 &&
	       memcmp(uuid, node.device_uuids[t->opt.index], 16) != 0;
}

static void lease_changed(void *ctx, uint64_t until_us)
{
	(void)ctx;
	for (uint32_t i = 0; i < node.thread_count; i++) {
		const struct shard_thread *t = &node.threads[i];

		reactor_lease_set(t->reactor, device_is_foreign(t) ? 0 : until_us);
	}
}

/* Each lease that is told wakes the shards, so in half of one all have turned. */
static bool shards_turn(void *ctx)
{
	uint64_t now = env_now_us(env_real());

	(void)ctx;
	for (uint32_t i = 0; i < node.thread_count; i++)
		if (reactor_turned_us(node.threads[i].reactor) +
				(uint64_t)node.map->lease_ms * 500 < now)
			return false;
	return true;
}

/* Before the reactors open, who may have proposals for it. */
static int keeper_make(char *reason, size_t reason_size)
{
	struct keeper_thread_options opt = {
		.map = node.map,
		.store = node.store,
		.node = node.config.node,
		.device_uuids = node.device_uuids,
		.map_changed = map_changed,
		.lease = lease_changed,
		.alive = shards_turn,
	};
	int rc;

	if (!keeper_wanted())
		return 0;
	node.kept_map = node.map;
	rc = map_open(&opt.store_watch, reason, reason_size);
	if (rc < 0)
		return rc;
	rc = keeper_thread_new(&opt, &node.keeper);
	if (rc < 0) {
		opt.store_watch->ops->close(opt.store_watch);
		snprintf(reason, reason_size, "keeper: %s", strerror(-rc));
		return rc;
	}
	for (uint32_t i = 0; i < node.thread_count; i++)
		node.threads[i].opt.keeper = node.keeper;
	return 0;
}

static int keeper_start(char *reason, size_t reason_size)
{
	int rc;

	if (!node.keeper)
		return 0;
	for (uint32_t i = 0; i < node.thread_count; i++) {
		const struct shard_thread *t = &node.threads[i];

		reactor_device_uuid(t->reactor, node.device_uuids[t->opt.index]);
	}
	rc = keeper_thread_start(node.keeper);
	if (rc < 0)
		snprintf(reason, reason_size, "keeper: no thread: %s", strerror(-rc));
	return rc;
}

static void map_reload(void)
{
	struct map *map;
	int rc;

	if (node.keeper) {
		keeper_thread_wake(node.keeper);
		return;
	}
	rc = node.store->ops->load(node.store, 0, &map);

	if (rc < 0) {
		log_error("map not reloaded reason=\"%s\"", node.store->reason);
		return;
	}
	if (map->epoch <= node.map->epoch) {
		map_free(map);
		return;
	}
	map_free(node.old_maps[node.old_map_at % MAPS_KEPT]);
	node.old_maps[node.old_map_at++ % MAPS_KEPT] = node.map;
	node.map = map;
	map_changed(NULL, map);
}

static void sem_wait_long(sem_t *sem)
{
	while (sem_wait(sem) < 0 && errno == EINTR)
		;
}

/* The one with the programs ends first and begins last: they never meet half a node. */
static void threads_stop(void)
{
	for (uint32_t i = 0; i < node.thread_count; i++) {
		struct shard_thread *t = &node.threads[i];

		if (t->opt.index != 0 || !t->reactor || t->rc != 0)
			continue;
		reactor_stop(t->reactor);
		sem_wait_long(&t->quiet);
	}
	for (uint32_t i = 0; i < node.thread_count; i++)
		if (node.threads[i].opt.index != 0 && node.threads[i].reactor &&
			node.threads[i].rc == 0)
			reactor_stop(node.threads[i].reactor);
	for (uint32_t i = 0; i < node.thread_count; i++)
		if (node.threads[i].thread)
			pthread_join(node.threads[i].thread, NULL);
}

static int thread_start(struct shard_thread *t, char *reason, size_t reason_size)
{
	sem_init(&t->opened, 0, 0);
	sem_init(&t->quiet, 0, 0);
	if (pthread_create(&t->thread, NULL, shard_main, t) != 0) {
		snprintf(reason, reason_size, "no thread: %s", strerror(errno));
		return -EAGAIN;
	}
	sem_wait_long(&t->opened);
	if (t->rc < 0)
		snprintf(reason, reason_size, "%s", t->reason);
	return t->rc;
}

/* One after the other, so that the first failure is the one that is told. */
static int threads_start(char *reason, size_t reason_size)
{
	int rc = 0;

	for (uint32_t i = 0; i < node.thread_count && rc == 0; i++)
		if (node.threads[i].opt.index != 0)
			rc = thread_start(&node.threads[i], reason, reason_size);
	for (uint32_t i = 0; i < node.thread_count && rc == 0; i++)
		if (node.threads[i].opt.index == 0)
			rc = thread_start(&node.threads[i], reason, reason_size);
	return rc;
}

static int serve(void)
{
	char reason[600] = "";
	sigset_t set;
	int sig, rc;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigdelset(&set, SIGPIPE);

	rc = member_watch(reason, sizeof(reason));
	if (rc == 0)
		rc = keeper_make(reason, sizeof(reason));
	if (rc == 0)
		rc = threads_start(reason, sizeof(reason));
	if (rc == 0)
		rc = keeper_start(reason, sizeof(reason));
	if (rc == 0)
		rc = pidfile_write(reason, sizeof(reason));
	if (rc < 0) {
		keeper_thread_halt(node.keeper);
		threads_stop();
		keeper_thread_free(node.keeper);
		return complain(reason);
	}
	puts("ready");
	fflush(stdout);
	log_info("serving node=%u shards=%u epoch=%llu", node.config.node, node.thread_count,
		(unsigned long long)node.map->epoch);
	for (;;) {
		if (sigwait(&set, &sig) != 0)
			continue;
		if (sig != SIGHUP)
			break;
		map_reload();
	}
	log_info("stopping node=%u", node.config.node);
	keeper_thread_halt(node.keeper);
	threads_stop();
	keeper_thread_free(node.keeper);
	member_stop(sig != SIGUSR1);
	if (node.config.pidfile[0])
		unlink(node.config.pidfile);
	return 0;
}

static int run(void)
{
	char reason[600] = "";
	int rc;

	if (member_start(&node.config.etcd, reason, sizeof(reason)) < 0)
		return complain(reason);
	if (map_load(map_store_is_etcd(node.config.map), reason, sizeof(reason)) < 0 ||
		shards_find(reason, sizeof(reason)) < 0)
		rc = complain(reason);
	else
		rc = serve();
	if (rc)
		member_abandon();
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"format", no_argument, NULL, 'f'},
		{"force", no_argument, NULL, 'F'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *config = NULL;
	bool do_format = false, force = false;
	char reason[600];
	int c;

	while ((c = getopt_long(argc, argv, "c:Vh", options, NULL)) != -1) {
		switch (c) {
		case 'c': config = optarg; break;
		case 'f': do_format = true; break;
		case 'F': force = true; break;
		case 'V': puts("wfsd " WFSD_VERSION); return 0;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (!config || optind < argc) {
		usage(stderr);
		return 2;
	}
	if (config_read(config, &node.config, reason, sizeof(reason)) < 0)
		return complain(reason);
	log_set_level(node.config.log_level);
	return do_format ? format(force) : run();
}

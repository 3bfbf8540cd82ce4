/* Members of etcd for a test. */
#include "tests/lib/etcd_world.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/mem.h"

char directory[64];
struct world_member members[ETCD_MEMBERS_MAX];
static unsigned member_count;
static char cluster[512];
char map_spec[512];

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

void run(const char *format, ...)
{
	char command[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	cr_assert_eq(system(command), 0, "%s", command);
}

unsigned port_free(void)
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

void member_options(unsigned i, struct etcd_member_options *opt)
{
	const struct world_member *m = &members[i];

	*opt = (struct etcd_member_options){.name = m->name,
		.data = m->data,
		.client_url = m->client,
		.peer_url = m->peer,
		.cluster = cluster,
		.pidfile = m->pidfile,
		.log = m->log};
}

void member_start(unsigned i)
{
	struct world_member *m = &members[i];
	struct etcd_member_options opt;
	char reason[256] = "";
	bool adopted;

	member_options(i, &opt);
	cr_assert_eq(
		etcd_member_start(&opt, &m->member, &adopted, reason, sizeof(reason)), 0,
		"%s", reason);
	cr_assert(!adopted);
}

void member_kill(unsigned i)
{
	etcd_member_stop(&members[i].member, 0);
}

struct map_store *store_opened(void)
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
void members_name(unsigned count)
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
void members_await(void)
{
	struct map_store *store = store_opened();
	struct map *map = NULL;
	uint64_t until_ms = now_ms() + 30000;
	int rc;

	while ((rc = store->ops->load(store, 0, &map)) == -EIO && now_ms() < until_ms)
		pause_ms(50);
	cr_assert(rc == 0 || rc == -ENOENT, "%s", store->reason);
	map_free(map);
	store->ops->close(store);
}

void members_start(unsigned count)
{
	members_name(count);
	for (unsigned i = 0; i < count; i++)
		member_start(i);
	members_await();
}

struct map *sample_large(uint32_t nodes, uint32_t shards, uint32_t buckets)
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

struct map *sample(void)
{
	return sample_large(2, 2, 16);
}

void saved(struct map_store *store, const struct map *map)
{
	cr_assert_eq(store->ops->save(store, map), 0, "%s", store->reason);
}

int load_epoch(struct map_store *store, uint64_t known)
{
	struct map *map = NULL;
	int rc = store->ops->load(store, known, &map);

	if (rc == 0)
		rc = map ? (int)map->epoch : 0;
	map_free(map);
	return rc;
}

/* Put or delete a key as an operator would. */
void etcdctl(const char *what)
{
	run("ETCDCTL_API=3 etcdctl --endpoints '%s' %s >/dev/null", members[0].client,
		what);
}

const struct map_lease *lease_of(struct map_store *store, uint32_t node)
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

void renewed(struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ms)
{
	cr_assert_eq(
		store->ops->renew(store, node, incarnation, ms), 0, "%s", store->reason);
}

void members_end(void)
{
	for (unsigned i = 0; i < member_count; i++)
		member_kill(i);
	if (directory[0])
		run("rm -rf '%s'", directory);
}

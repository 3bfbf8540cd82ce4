/*
 * cluster create: directory, device files, configurations, map, and a format of every
 * shard by wfsd itself.
 *
 *   plan (all that can be wrong with the command line) -> directories -> devices
 *   -> configurations -> (members of etcd run) -> map -> wfsd --format per node -> (they
 *   end)
 *
 * Whatever fails, what was made is removed again; block devices are not touched before
 * the format. The map is the mark of a cluster: a directory with a map or nodes in it is
 * never made over.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/make.h"
#include "shim/wfsctl/place.h"
#include "shim/wfsctl/table.h"
#include "shim/wfsctl/tree.h"

#define PORT_FIRST      7600u
#define PORT_LAST       32000u
#define DEVICE_MIN      ((uint64_t)64 << 20)
#define TIMEOUT_S       10u
#define TIMEOUT_COPIES_S 60u /* while a copy may be alive, a call waits for it */
#define ROUND_SIZE      ((uint64_t)1 << 20)
#define MEMBERS_WAIT_MS 30000u

struct plan {
	struct ctl *ctl;
	const char *name;
	const char *provider;
	uint64_t nodes;
	uint64_t shards_per_node;
	uint64_t buckets;
	uint64_t base_port;
	uint64_t timeout_s;
	uint64_t copies;
	uint64_t lease_s;
	uint64_t size_bytes;
	uint64_t memory_bytes; /* 0: wfsd's default */
	uint64_t rebuild_after_s;
	unsigned member_count; /* of etcd, that the nodes will run */
	unsigned member_port;
	struct etcd_member members[PLACE_MEMBERS_MAX];
	struct place place;
	bool saved; /* the map */
};

static bool name_ok(const char *name)
{
	size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789._-");

	return size > 0 && size < MAP_FSNAME_MAX && !name[size] && name[0] != '.' &&
	       name[0] != '-';
}

bool port_free(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;
	bool ok;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* One a shard, and two for each member of etcd after them. */
static unsigned ports_needed(const struct plan *plan)
{
	return (unsigned)(plan->nodes * plan->shards_per_node) + 2 * plan->member_count;
}

/* A range of free ports; a random start keeps clusters that are stopped apart. */
static bool ports_find(struct plan *plan)
{
	unsigned count = ports_needed(plan);
	unsigned spread = (PORT_LAST - PORT_FIRST) / count;
	unsigned start;

	if (plan->base_port)
		return true;
	if (getrandom(&start, sizeof(start), 0) != sizeof(start))
		start = 0;
	for (unsigned try = 0; try < 64 && spread; try++) {
		unsigned base = PORT_FIRST + (start + try) % spread * count;
		unsigned at = 0;

		while (at < count && port_free(base + at))
			at++;
		if (at == count) {
			plan->base_port = base;
			return true;
		}
	}
	ctl_fail("no range of %u free ports: name one with --base-port", count);
	return false;
}

static int plan_numbers(struct plan *plan)
{
	struct ctl *ctl = plan->ctl;
	const char *provider = ctl->values[OPT_PROVIDER];

	if (!ctl_number(ctl, OPT_NODES, 1, MAP_NODES_MAX, 3, &plan->nodes) ||
		!ctl_number(ctl, OPT_SHARDS, 1, 64, 1, &plan->shards_per_node) ||
		!ctl_number(ctl, OPT_BUCKETS, 1, WFS_BUCKETS_MAX, WFS_BUCKETS_DEFAULT,
			&plan->buckets) ||
		!ctl_number(ctl, OPT_BASE_PORT, 1024, 65000, 0, &plan->base_port) ||
		!ctl_number(ctl, OPT_COPIES, 1, MAP_COPIES_MAX, 1, &plan->copies) ||
		!ctl_number(ctl, OPT_TIMEOUT, 1, 3600,
			plan->copies > 1 ? TIMEOUT_COPIES_S : TIMEOUT_S, &plan->timeout_s) ||
		!ctl_number(ctl, OPT_LEASE, 1, 600, MAP_LEASE_MS_DEFAULT / 1000,
			&plan->lease_s) ||
		!ctl_number(ctl, OPT_REBUILD_AFTER, 0, 31536000,
			MAP_REBUILD_AFTER_S_DEFAULT, &plan->rebuild_after_s))
		return EXIT_USAGE;
	if (plan->copies > plan->nodes)
		return ctl_usage(
			"--copies %llu: they are on different nodes: give as many "
			"--nodes",
			(unsigned long long)plan->copies);
	if (plan->buckets & (plan->buckets - 1))
		return ctl_usage("--buckets %llu: give a power of two",
			(unsigned long long)plan->buckets);
	if (plan->nodes * plan->shards_per_node > plan->buckets)
		return ctl_usage("more shards than buckets: give more --buckets");
	if (plan->nodes * plan->shards_per_node > MAP_SHARDS_MAX ||
		plan->base_port + ports_needed(plan) > 65535)
		return ctl_usage(
			"too many shards: give fewer --nodes, or a lower --base-port");
	if (plan->place.is_etcd && plan->lease_s < 2)
		return ctl_usage("--lease 1: give at least 2 with a map in etcd");
	plan->provider = "net";
	if (provider && strcmp(provider, "tcp") == 0)
		plan->provider = "tcp;ofi_rxm";
	else if (provider && strcmp(provider, "net") != 0)
		return ctl_usage("--provider %s: give net or tcp", provider);
	return EXIT_OK;
}

static int path_take(
	const struct ctl *ctl, enum opt_id id, const char *name, char *out, size_t size)
{
	const char *value = ctl->values[id];

	if (!value)
		return EXIT_OK;
	if (value[0] != '/' || strlen(value) >= size || strpbrk(value, " ;#\n"))
		return ctl_usage(
			"--%s %s: give an absolute path without spaces", name, value);
	if (access(value, R_OK))
		return ctl_usage("--%s %s: %s: check it", name, value, strerror(errno));
	snprintf(out, size, "%s", value);
	return EXIT_OK;
}

/* Where the map goes. */
static int plan_map_place(struct plan *plan)
{
	struct ctl *ctl = plan->ctl;
	const char *map = ctl->values[OPT_MAP] ? ctl->values[OPT_MAP] : "file";
	struct place *p = &plan->place;
	uint64_t nodes = 0;

	p->is_own = strcmp(map, "etcd") == 0;
	p->is_etcd = p->is_own || map_store_is_etcd(map);
	if (!p->is_etcd && strcmp(map, "file") != 0)
		return ctl_usage("--map %s: give file, etcd, or etcd:URL", map);
	if (strlen(map) >= sizeof(p->map) || strpbrk(map, " ;#\n"))
		return ctl_usage("--map %s: give it without spaces, ; and #", map);
	snprintf(p->name, sizeof(p->name), "%s", plan->name);
	if (p->is_own) {
		if (!ctl_number(ctl, OPT_NODES, 1, MAP_NODES_MAX, 3, &nodes))
			return EXIT_USAGE;
		plan->member_count = nodes < PLACE_MEMBERS_MAX ? 1 : PLACE_MEMBERS_MAX;
	}
	if (!p->is_etcd || p->is_own) {
		if (!p->is_own)
			snprintf(p->map, sizeof(p->map), "%s/map.json", ctl->dir);
		for (int id = OPT_MAP_CA; id <= OPT_MAP_PASSWORD_FILE; id++)
			if (ctl->values[id])
				return ctl_usage(
					"--map-ca and the like are for an etcd "
					"that runs already: give --map etcd:URL");
		return EXIT_OK;
	}
	snprintf(p->map, sizeof(p->map), "%s", map);
	if (ctl->values[OPT_MAP_USER])
		snprintf(p->user, sizeof(p->user), "%s", ctl->values[OPT_MAP_USER]);
	if (path_take(ctl, OPT_MAP_CA, "map-ca", p->ca, sizeof(p->ca)) ||
		path_take(ctl, OPT_MAP_CERT, "map-cert", p->cert, sizeof(p->cert)) ||
		path_take(ctl, OPT_MAP_KEY, "map-key", p->key, sizeof(p->key)) ||
		path_take(ctl, OPT_MAP_PASSWORD_FILE, "map-password-file",
			p->password_file, sizeof(p->password_file)))
		return EXIT_USAGE;
	return EXIT_OK;
}

/* The URLs of our own members, now that the ports are known. */
static void plan_members(struct plan *plan)
{
	size_t used = 0;
	struct place *p = &plan->place;

	plan->member_port =
		(unsigned)(plan->base_port + plan->nodes * plan->shards_per_node);
	for (unsigned i = 0; i < plan->member_count; i++)
		used += (size_t)snprintf(p->map + used, sizeof(p->map) - used,
			"%shttp://127.0.0.1:%u",
			i ? "," : "etcd:", plan->member_port + 2 * i);
}

/* Host `n` of --hosts A,B,...; false when there is none, or too long a one. */
static bool plan_host(const struct plan *plan, uint64_t n, char out[MAP_HOST_MAX + 1])
{
	const char *at = plan->ctl->values[OPT_HOSTS];
	size_t size;

	if (!at)
		at = "127.0.0.1";
	else
		while (n-- > 0 && at)
			at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
	if (!at)
		return false;
	size = strcspn(at, ",");
	if (size == 0 || size > MAP_HOST_MAX)
		return false;
	memcpy(out, at, size);
	out[size] = 0;
	return true;
}

static int plan_hosts(const struct plan *plan)
{
	const char *hosts = plan->ctl->values[OPT_HOSTS];
	char host[MAP_HOST_MAX + 1];

	for (uint64_t n = 0; n <= plan->nodes && hosts; n++)
		if (plan_host(plan, n, host) != (n < plan->nodes))
			return ctl_usage("--hosts %s: give an address for each of %llu "
					 "nodes",
				hosts, (unsigned long long)plan->nodes);
	return EXIT_OK;
}

static int plan_sizes(struct plan *plan)
{
	struct ctl *ctl = plan->ctl;
	const char *size = ctl->values[OPT_SIZE] ? ctl->values[OPT_SIZE] : "4G";
	const char *memory = ctl->values[OPT_MEMORY];

	if (!size_parse(size, &plan->size_bytes) || plan->size_bytes < DEVICE_MIN)
		return ctl_usage("--size %s: give a size of at least 64M, as 4G", size);
	plan->size_bytes &= ~(ROUND_SIZE - 1);
	if (memory && (!size_parse(memory, &plan->memory_bytes) ||
			      plan->memory_bytes < ((uint64_t)8 << 20)))
		return ctl_usage("--memory %s: give a size of at least 8M", memory);
	return devices_check(ctl, plan->nodes * plan->shards_per_node);
}

/* That nothing is there yet, and that it will fit. */
static int plan_place(struct plan *plan)
{
	struct ctl *ctl = plan->ctl;
	char path[PATH_MAX + 32];
	struct statvfs vfs;
	uint64_t need = plan->nodes * plan->shards_per_node * plan->size_bytes;
	char last[32];
	bool there;

	snprintf(path, sizeof(path), "%s/map.json", ctl->dir);
	there = access(path, F_OK) == 0;
	snprintf(path, sizeof(path), "%s/map.etcd", ctl->dir);
	if (there || access(path, F_OK) == 0 || access(node_path(ctl, 0, ""), F_OK) == 0)
		return ctl_usage(
			"%s: there is a cluster already: choose another directory "
			"with --cluster, or wfsctl cluster destroy it first",
			ctl->dir);
	snprintf(last, sizeof(last), "%llu", (unsigned long long)plan->nodes - 1);
	if (strlen(ctl->dir) + strlen("/node/wfsd.sock") + strlen(last) > 107)
		return ctl_usage(
			"%s: too long for the Unix sockets in it: choose a shorter "
			"directory",
			ctl->dir);
	if (strpbrk(ctl->dir, " ;#\n"))
		return ctl_usage(
			"%s: choose a directory without spaces, ; and #", ctl->dir);
	if (tree_make(ctl->dir, 0755))
		return ctl_usage(
			"%s: %s: choose another directory", ctl->dir, strerror(errno));
	if (ctl->device_count == 0 && statvfs(ctl->dir, &vfs) == 0 &&
		(uint64_t)vfs.f_bavail * vfs.f_frsize < need)
		return ctl_fail("%s: %s needed, %s free: give a smaller --size", ctl->dir,
			text_bytes(ctl, need),
			text_bytes(ctl, (uint64_t)vfs.f_bavail * vfs.f_frsize));
	return EXIT_OK;
}

static struct map *plan_map(const struct plan *plan)
{
	uint32_t nodes = (uint32_t)plan->nodes, per = (uint32_t)plan->shards_per_node;
	struct map *map = map_new(nodes, nodes * per, (uint32_t)plan->buckets, 1);

	if (!map)
		return NULL;
	map->epoch = 1;
	map->timeout_ms = (uint32_t)plan->timeout_s * 1000;
	map->copies = (uint32_t)plan->copies;
	map->lease_ms = (uint32_t)plan->lease_s * 1000;
	map->rebuild_after_s = (uint32_t)plan->rebuild_after_s;
	if (getrandom(map->uuid, sizeof(map->uuid), 0) != sizeof(map->uuid)) {
		map_free(map);
		return NULL;
	}
	map->uuid[6] = (uint8_t)((map->uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	map->uuid[8] = (uint8_t)((map->uuid[8] & 0x3f) | 0x80);
	snprintf(map->name, sizeof(map->name), "%s", plan->name);
	snprintf(map->provider, sizeof(map->provider), "%s", plan->provider);
	for (uint32_t n = 0; n < nodes; n++) {
		struct map_node *node = &map->nodes[n];

		node->id = n;
		snprintf(node->domain, sizeof(node->domain), "node%u", n);
		plan_host(plan, n, node->host);
		snprintf(node->socket, sizeof(node->socket), "%s",
			node_path(plan->ctl, n, "wfsd.sock"));
		for (uint32_t s = 0; s < per; s++)
			map->shards[n * per + s] = (struct map_shard){.node = n,
				.index = s,
				.port = (uint16_t)(plan->base_port + n * per + s)};
	}
	map->filesystems[0].fsid = 1;
	map->filesystems[0].root = WFS_ROOT_INO;
	snprintf(map->filesystems[0].name, sizeof(map->filesystems[0].name), "main");
	if (map_place(map)) {
		map_free(map);
		return NULL;
	}
	return map;
}

static int members_start(struct plan *plan)
{
	for (unsigned i = 0; i < plan->member_count; i++) {
		struct place_member m;
		char reason[600];

		place_member(plan->ctl, plan->member_port, plan->member_count, i, &m);
		if (etcd_member_start(
			    &m.opt, &plan->members[i], NULL, reason, sizeof(reason)))
			return ctl_fail("%s", reason);
	}
	return EXIT_OK;
}

static void members_stop(struct plan *plan)
{
	uint32_t ids[PLACE_MEMBERS_MAX] = {0, 1, 2};

	place_members_stop(plan->ctl, ids, plan->member_count);
	for (unsigned i = 0; i < plan->member_count; i++)
		etcd_member_reap(&plan->members[i]);
}

static int map_make(struct plan *plan)
{
	uint64_t end_ms = now_ms() + MEMBERS_WAIT_MS;
	struct map *map = plan_map(plan);
	struct map_store *store = NULL;
	int rc;

	if (!map)
		return ctl_fail("out of memory");
	rc = place_open(&plan->place, &store);
	if (rc) {
		map_free(map);
		return rc;
	}
	/* Our own members have to find each other first; ours is the only map, so that
	 * one that was saved without an answer is ours. */
	while ((rc = store->ops->save(store, map)) == -EIO && plan->place.is_own &&
		now_ms() < end_ms) {
		progress_show(plan->ctl, "waiting for etcd", -1);
		usleep(50000);
	}
	progress_end(plan->ctl);
	plan->saved = rc == 0;
	if (rc == -EAGAIN && plan->place.is_own)
		rc = 0;
	if (rc)
		rc = ctl_fail("%s", store->reason[0] ? store->reason : strerror(-rc));
	store->ops->close(store);
	map_free(map);
	return rc;
}

static struct node_make plan_node(const struct plan *plan, unsigned node)
{
	struct ctl *ctl = plan->ctl;

	return (struct node_make){
		.ctl = ctl,
		.id = node,
		.shards = (unsigned)plan->shards_per_node,
		.devices = ctl->device_count ? &ctl->devices[node * plan->shards_per_node]
					     : NULL,
		.size_bytes = plan->size_bytes,
		.memory_bytes = plan->memory_bytes,
	};
}

static int plan_conf(const struct plan *plan, unsigned node)
{
	struct node_make make = plan_node(plan, node);
	struct place_member member;

	make.place = &plan->place;
	if (node < plan->member_count) {
		place_member(
			plan->ctl, plan->member_port, plan->member_count, node, &member);
		make.member = &member;
	}
	return node_conf_make(&make);
}

static int plan_carry_out(struct plan *plan)
{
	int rc = EXIT_OK;

	for (unsigned n = 0; rc == EXIT_OK && n < plan->nodes; n++) {
		struct node_make make = plan_node(plan, n);
		rc = node_make(&make);
	}
	for (unsigned n = 0; rc == EXIT_OK && n < plan->nodes; n++)
		rc = plan_conf(plan, n);
	if (rc == EXIT_OK)
		rc = place_write(plan->ctl, &plan->place);
	if (rc == EXIT_OK)
		rc = members_start(plan);
	if (rc == EXIT_OK)
		rc = map_make(plan);
	for (unsigned n = 0; rc == EXIT_OK && n < plan->nodes; n++) {
		progress_show(plan->ctl, "formatting", -1);
		rc = node_format(plan->ctl, n, ctl_has(plan->ctl, OPT_FORCE));
		progress_end(plan->ctl);
	}
	members_stop(plan);
	return rc;
}

/* After a failure; the map only when it is ours. */
static void plan_undo(struct plan *plan)
{
	struct map_store *store = NULL;

	if (plan->saved && plan->place.is_etcd && !plan->place.is_own &&
		place_open(&plan->place, &store) == EXIT_OK) {
		if (map_store_etcd_erase(store))
			ctl_warn("the map stays in etcd: %s", store->reason);
		store->ops->close(store);
	}
	cluster_remove(plan->ctl, (unsigned)plan->nodes);
}

int cmd_cluster_create(struct ctl *ctl, int argc, char **argv)
{
	struct plan plan = {.ctl = ctl, .name = argc ? argv[0] : "default"};
	bool there = access(ctl->dir, F_OK) == 0;
	int rc = EXIT_OK;

	if (!name_ok(plan.name))
		return ctl_usage("%s: give a name of letters, digits, '.', '_' and '-'",
			plan.name);
	for (unsigned i = 0; i < PLACE_MEMBERS_MAX; i++)
		plan.members[i].pid_fd = -1;
	rc = plan_map_place(&plan);
	if (rc == EXIT_OK)
		rc = plan_numbers(&plan);
	if (rc == EXIT_OK)
		rc = plan_hosts(&plan);
	if (rc == EXIT_OK)
		rc = plan_sizes(&plan);
	if (rc == EXIT_OK)
		rc = plan_place(&plan);
	if (rc == EXIT_OK && !ports_find(&plan))
		rc = EXIT_FAILED;
	if (rc != EXIT_OK)
		return rc;
	plan_members(&plan);
	rc = plan_carry_out(&plan);
	if (rc != EXIT_OK) {
		plan_undo(&plan);
		if (!there)
			rmdir(ctl->dir);
		return rc;
	}
	if (!ctl_has(ctl, OPT_JSON)) {
		printf("cluster %s: %llu nodes in %s, %llu %s of all data\n", plan.name,
			(unsigned long long)plan.nodes, ctl->dir,
			(unsigned long long)plan.copies,
			plan.copies == 1 ? "copy" : "copies");
		printf("next: wfsctl cluster start --cluster %s\n", ctl->dir);
	}
	return EXIT_OK;
}

/*
 * cluster start, stop, destroy; node list, start, stop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/place.h"
#include "shim/wfsctl/table.h"
#include "shim/wfsctl/tree.h"

/* The nodes by the map, or by their directories where the map is in etcd, which may run
 * only while they do. lost: the removed ones, too. An exit code. */
static int ids_find(const struct ctl *ctl, bool lost, uint32_t *ids, unsigned *count_out,
	char *name, size_t size)
{
	struct place place;
	struct local local;
	int rc = place_read(ctl, &place);

	if (rc == EXIT_OK && place.is_etcd) {
		*count_out = place_ids(ctl, ids);
		snprintf(name, size, "%s", place.name);
		return EXIT_OK;
	}
	if (rc == EXIT_OK)
		rc = local_open(ctl, &local);
	if (rc)
		return rc;
	*count_out = 0;
	for (uint32_t i = 0; i < local.map->node_count; i++)
		if (lost || local.map->nodes[i].state != MAP_NODE_LOST)
			ids[(*count_out)++] = local.map->nodes[i].id;
	snprintf(name, size, "%s", local.map->name);
	local_close(&local);
	return EXIT_OK;
}

static int cluster_each(struct ctl *ctl, bool start)
{
	uint32_t ids[MAP_NODES_MAX];
	char name[64];
	unsigned count;
	int rc = ids_find(ctl, !start, ids, &count, name, sizeof(name));

	if (rc)
		return rc;
	return start ? nodes_start(ctl, ids, count) : nodes_stop(ctl, ids, count, true);
}

int cmd_cluster_start(struct ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return cluster_each(ctl, true);
}

int cmd_cluster_stop(struct ctl *ctl, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return cluster_each(ctl, false);
}

/* What is not in the cluster's directory. */
static int map_erase(const struct ctl *ctl, const uint32_t *ids, unsigned count)
{
	struct map_store *store = NULL;
	struct place place;
	int rc = place_read(ctl, &place);

	if (rc || !place.is_etcd)
		return rc;
	if (place.is_own) {
		place_members_stop(ctl, ids, count);
		return EXIT_OK;
	}
	rc = place_open(&place, &store);
	if (rc == EXIT_OK && map_store_etcd_erase(store))
		rc = ctl_fail("%s", store->reason);
	if (store)
		store->ops->close(store);
	return rc;
}

int cmd_cluster_destroy(struct ctl *ctl, int argc, char **argv)
{
	uint32_t ids[MAP_NODES_MAX];
	char name[64];
	unsigned count;
	int rc = ids_find(ctl, true, ids, &count, name, sizeof(name));

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	for (unsigned i = 0; i < count && rc == EXIT_OK; i++)
		if (node_pid(ctl, ids[i]))
			rc = ctl_fail(
				"node %u runs: stop it first with wfsctl cluster stop",
				ids[i]);
	if (rc == EXIT_OK) {
		fprintf(stderr,
			"This deletes cluster %s in %s: %u nodes, with all files in "
			"them.\n",
			name, ctl->dir, count);
		if (!ctl_confirm(ctl, "Destroy it?"))
			rc = EXIT_FAILED;
	}
	if (rc == EXIT_OK)
		rc = map_erase(ctl, ids, count);
	if (rc == EXIT_OK && cluster_remove(ctl, count))
		rc = ctl_fail(
			"%s: %s: remove the rest by hand", ctl->dir, strerror(errno));
	if (rc != EXIT_OK)
		return rc;
	if (rmdir(ctl->dir) && errno != ENOTEMPTY && errno != EBUSY)
		ctl_warn("%s: %s: it stays, empty", ctl->dir, strerror(errno));
	if (!ctl_has(ctl, OPT_JSON))
		puts("destroyed");
	return EXIT_OK;
}

enum {
	NODE_ID,
	NODE_HOST,
	NODE_STATE,
	NODE_PID,
	NODE_SHARDS,
	NODE_PORTS,
	NODE_SOCKET,
	NODE_IN_MAP,
	NODE_LEASE,
	NODE_DOMAIN
};
static const struct column node_columns[] = {
	[NODE_ID] = {"id", "NODE", COLUMN_COUNT, false},
	[NODE_HOST] = {"host", "HOST", COLUMN_TEXT, false},
	[NODE_STATE] = {"state", "STATE", COLUMN_TEXT, false},
	[NODE_PID] = {"pid", "PID", COLUMN_COUNT, false},
	[NODE_SHARDS] = {"shards", "SHARDS", COLUMN_COUNT, false},
	[NODE_PORTS] = {"ports", "PORTS", COLUMN_TEXT, false},
	[NODE_SOCKET] = {"socket", "SOCKET", COLUMN_TEXT, false},
	[NODE_IN_MAP] = {"in_map", "IN MAP", COLUMN_TEXT, false},
	[NODE_LEASE] = {"lease_s", "LEASE", COLUMN_SECONDS, false},
	[NODE_DOMAIN] = {"domain", "DOMAIN", COLUMN_TEXT, true},
};

static void node_ports(const struct map *map, uint32_t id, char *out, size_t size)
{
	size_t used = 0;

	out[0] = 0;
	for (uint32_t i = 0; i < map->shard_count && used + 8 < size; i++)
		if (map->shards[i].node == id)
			used += (size_t)snprintf(out + used, size - used, "%s%u",
				used ? "," : "", map->shards[i].port);
}

int cmd_node_list(struct ctl *ctl, int argc, char **argv)
{
	struct local local;
	struct table *t;
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	t = table_new(node_columns, sizeof(node_columns) / sizeof(node_columns[0]));
	for (uint32_t i = 0; i < local.map->node_count; i++) {
		const struct map_node *node = &local.map->nodes[i];
		pid_t pid = node_pid(ctl, node->id);
		char ports[512];

		node_ports(local.map, node->id, ports, sizeof(ports));
		table_row(t);
		table_count(t, NODE_ID, node->id);
		table_text(t, NODE_HOST, "%s", node->host);
		table_text(t, NODE_STATE, "%s", pid ? "up" : "down");
		if (pid)
			table_count(t, NODE_PID, (uint64_t)pid);
		table_count(t, NODE_SHARDS, node_shard_count(local.map, node->id));
		table_text(t, NODE_PORTS, "%s", ports);
		table_text(t, NODE_SOCKET, "%s", node->socket);
		table_text(t, NODE_IN_MAP, "%s", node_state_text(node->state));
		if (local_lease_ms(&local, node->id) >= 0)
			table_real(t, NODE_LEASE,
				(double)local_lease_ms(&local, node->id) / 1000);
		table_text(t, NODE_DOMAIN, "%s", node->domain);
	}
	rc = table_print(ctl, t);
	table_free(t);
	local_close(&local);
	return rc;
}

static int node_one(struct ctl *ctl, const char *text, bool start)
{
	uint32_t ids[MAP_NODES_MAX];
	char name[64], *end;
	unsigned long id = strtoul(text, &end, 10);
	unsigned count = 0, at;
	int rc = ids_find(ctl, !start, ids, &count, name, sizeof(name));

	if (rc)
		return rc;
	for (at = 0; at < count && ids[at] != id; at++)
		;
	if (*text < '0' || *text > '9' || *end || at == count)
		return ctl_usage(
			"%s: no such node, or it was removed: see wfsctl node list",
			text);
	return start ? nodes_start(ctl, &ids[at], 1)
		     : nodes_stop(ctl, &ids[at], 1, false);
}

int cmd_node_start(struct ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return node_one(ctl, argv[0], true);
}

int cmd_node_stop(struct ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return node_one(ctl, argv[0], false);
}

/*
 * cluster start, stop, destroy; node list, start, stop.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/table.h"
#include "shim/wfsctl/tree.h"

static unsigned ids_of(const struct local *local, uint32_t *ids)
{
	for (uint32_t i = 0; i < local->map->node_count; i++)
		ids[i] = local->map->nodes[i].id;
	return local->map->node_count;
}

static int cluster_each(struct ctl *ctl, bool start)
{
	uint32_t ids[MAP_NODES_MAX];
	struct local local;
	unsigned count;
	int rc = local_open(ctl, &local);

	if (rc)
		return rc;
	count = ids_of(&local, ids);
	rc = start ? nodes_start(ctl, &local, ids, count) : nodes_stop(ctl, ids, count);
	local_close(&local);
	return rc;
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

int cmd_cluster_destroy(struct ctl *ctl, int argc, char **argv)
{
	uint32_t ids[MAP_NODES_MAX];
	struct local local;
	unsigned count;
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	count = ids_of(&local, ids);
	for (unsigned i = 0; i < count && rc == EXIT_OK; i++)
		if (node_pid(ctl, ids[i]))
			rc = ctl_fail(
				"node %u runs: stop it first with wfsctl cluster stop",
				ids[i]);
	if (rc == EXIT_OK) {
		fprintf(stderr,
			"This deletes cluster %s in %s: %u nodes, with all files in "
			"them.\n",
			local.map->name, ctl->dir, count);
		if (!ctl_confirm(ctl, "Destroy it?"))
			rc = EXIT_FAILED;
	}
	if (rc == EXIT_OK && cluster_remove(ctl, count))
		rc = ctl_fail(
			"%s: %s: remove the rest by hand", ctl->dir, strerror(errno));
	local_close(&local);
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
	const struct map_node *node;
	struct local local;
	int rc = local_open(ctl, &local);

	if (rc)
		return rc;
	node = local_node(&local, text);
	if (!node)
		rc = EXIT_USAGE;
	else if (start)
		rc = nodes_start(ctl, &local, &node->id, 1);
	else
		rc = nodes_stop(ctl, &node->id, 1);
	local_close(&local);
	return rc;
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

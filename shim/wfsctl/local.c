/*
 * The directory of a one-machine cluster, and who of it is alive.
 *
 * A node runs if its pid file names a process whose program is called wfsd and that is
 * not a zombie: pids are used again, and pid files outlive kill -9.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/place.h"

#define LOAD_TRIES    15
#define LOAD_PAUSE_US 200000u

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

const char *node_path(const struct ctl *ctl, uint32_t id, const char *file)
{
	static char ring[8][PATH_MAX + 64];
	static unsigned at;
	char *out = ring[at++ % 8];

	snprintf(out, sizeof(ring[0]), "%s/node%u%s%s", ctl->dir, id, *file ? "/" : "",
		file);
	return out;
}

static int leases_load(struct local *local)
{
	if (!local->leases)
		local->leases = calloc(MAP_NODES_MAX, sizeof(*local->leases));
	if (!local->leases)
		return -ENOMEM;
	return local->store->ops->leases(
		local->store, local->leases, MAP_NODES_MAX, &local->lease_count);
}

int64_t local_lease_ms(const struct local *local, uint32_t id)
{
	for (uint32_t i = 0; i < local->lease_count; i++)
		if (local->leases[i].node == id)
			return local->leases[i].remaining_ms;
	return -1;
}

const char *node_state_text(enum map_node_state state)
{
	switch (state) {
	case MAP_NODE_IN: return "in";
	case MAP_NODE_DRAINING: return "draining";
	case MAP_NODE_LOST: return "lost";
	}
	return "?";
}

/* An etcd that is just choosing a leader answers, but not yet what it is asked. */
static int map_load(const struct place *place, struct local *local)
{
	int rc = -EIO;

	for (unsigned i = 0; i < LOAD_TRIES && rc == -EIO; i++) {
		if (i)
			usleep(LOAD_PAUSE_US);
		map_free(local->map);
		local->map = NULL;
		rc = local->store->ops->load(local->store, 0, &local->map);
		if (rc == 0)
			rc = leases_load(local);
		if (!place->is_etcd || !strstr(local->store->reason, "etcdserver"))
			break;
	}
	return rc;
}

int local_open(const struct ctl *ctl, struct local *local)
{
	struct place place;
	int rc;

	*local = (struct local){0};
	rc = place_read(ctl, &place);
	if (rc == EXIT_OK)
		rc = place_open(&place, &local->store);
	if (rc)
		return rc;
	rc = map_load(&place, local);
	if (rc) {
		const char *hint =
			place.is_own && rc == -EIO
				? ": start the cluster with wfsctl cluster start"
				: "";

		rc = ctl_usage("%s%s",
			local->store->reason[0] ? local->store->reason : strerror(-rc),
			hint);
		local_close(local);
	}
	return rc;
}

int local_reload(struct local *local)
{
	struct map *map = NULL;
	int rc = local->store->ops->load(local->store, local->map->epoch, &map);

	if (rc == 0)
		rc = leases_load(local);
	if (rc)
		return ctl_fail("the map could not be read: %s",
			local->store->reason[0] ? local->store->reason : strerror(-rc));
	if (map) {
		map_free(local->map);
		local->map = map;
	}
	return EXIT_OK;
}

void local_close(struct local *local)
{
	map_free(local->map);
	free(local->leases);
	if (local->store)
		local->store->ops->close(local->store);
	*local = (struct local){0};
}

const struct map_node *local_node(const struct local *local, const char *text)
{
	const struct map_node *node = NULL;
	char *end;
	unsigned long id = strtoul(text, &end, 10);

	if (*text >= '0' && *text <= '9' && !*end && id <= UINT32_MAX)
		node = map_node_find(local->map, (uint32_t)id);
	if (!node)
		ctl_usage("%s: no such node: see wfsctl node list", text);
	return node;
}

uint32_t node_shard_count(const struct map *map, uint32_t id)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < map->shard_count; i++)
		count += map->shards[i].node == id;
	return count;
}

/* The state letter and program name of a process; false if there is none. */
static bool process_stat(
	pid_t pid, char *state_out, unsigned *flags_out, char *name_out, size_t size)
{
	char path[64], text[512];
	char *open_at, *close_at;
	FILE *file;
	bool ok = false;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(text, sizeof(text), file) && (open_at = strchr(text, '(')) != NULL &&
		(close_at = strrchr(text, ')')) != NULL && close_at[1] == ' ') {
		*close_at = 0;
		snprintf(name_out, size, "%s", open_at + 1);
		*state_out = close_at[2];
		ok = sscanf(close_at + 4, "%*d %*d %*d %*d %*d %u", flags_out) == 1;
	}
	fclose(file);
	return ok;
}

/* Killed, but the kernel still waits for its last I/O: it will not come back. */
static bool process_dying(pid_t pid)
{
	char path[64], line[256];
	bool dying = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		unsigned long long pending;

		if (sscanf(line, "SigPnd: %llx", &pending) == 1 ||
			sscanf(line, "ShdPnd: %llx", &pending) == 1)
			dying = dying || (pending >> (SIGKILL - 1) & 1);
	}
	if (file)
		fclose(file);
	return dying;
}

/* PF_EXITING of the kernel's include/linux/sched.h. */
#define FLAG_EXITING 0x4u

pid_t node_pid(const struct ctl *ctl, uint32_t id)
{
	FILE *file = fopen(node_path(ctl, id, "wfsd.pid"), "re");
	char name[32], state;
	unsigned flags = 0;
	int pid = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%d", &pid) != 1 || pid <= 1)
		pid = 0;
	fclose(file);
	if (!pid || !process_stat(pid, &state, &flags, name, sizeof(name)) ||
		strcmp(name, "wfsd") != 0 || state == 'Z' || state == 'X' ||
		(flags & FLAG_EXITING) || process_dying(pid))
		return 0;
	return pid;
}

int local_attach(const struct ctl *ctl, const struct local *local, const char *filesystem,
	struct client **client_out, const struct map_node **node_out)
{
	const struct map *map = local->map;
	const struct map_node *only = NULL;
	int rc = -ECONNREFUSED;

	if (ctl_has(ctl, OPT_NODE)) {
		only = local_node(local, ctl->values[OPT_NODE]);
		if (!only)
			return EXIT_USAGE;
	}
	if (!filesystem)
		filesystem = map->filesystems[0].name;
	for (uint32_t i = 0; i < map->node_count; i++) {
		const struct map_node *node = &map->nodes[i];

		if ((only && only != node) || !node_pid(ctl, node->id))
			continue;
		rc = client_attach(node->socket, filesystem, "/wfs", client_out);
		if (rc == 0) {
			client_fail_fast(*client_out);
			if (node_out)
				*node_out = node;
			return 0;
		}
	}
	if (rc == -ENODEV)
		return ctl_usage(
			"%s: no such filesystem: see wfsctl fs list", filesystem);
	if (rc == -EPROTO)
		return ctl_fail(
			"wfsd is of another version than wfsctl: restart the nodes");
	if (only)
		return ctl_fail(
			"node %u does not run: start it with wfsctl node start %u",
			only->id, only->id);
	if (rc == -ECONNREFUSED || rc == -ENOENT)
		return ctl_fail("no node runs: start them with wfsctl cluster start");
	return ctl_fail(
		"cannot attach: %s: see node*/wfsd.log in %s", strerror(-rc), ctl->dir);
}

void node_reload(const struct ctl *ctl, uint32_t id)
{
	pid_t pid = node_pid(ctl, id);

	if (pid)
		kill(pid, SIGHUP);
}

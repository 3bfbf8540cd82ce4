/*
 * node add, node replace: a new node, or new devices for an old one. Either is empty and
 * in no bucket when it starts; the keepers plan it in and the shards fill it.
 *
 *   add      directory, devices, configuration -> map -> wfsd --format -> start
 *   replace  wait until others lead what it led -> map: its shards leave all buckets,
 * their devices are not known -> wfsd --format -> start, whose keeper tells the map
 *
 * An add that fails before the map is saved leaves nothing; one that fails later leaves a
 * removed node in the map.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/wfsctl/change.h"
#include "shim/wfsctl/make.h"
#include "shim/wfsctl/table.h"
#include "shim/wfsctl/tree.h"

#define SIZE_DEFAULT   ((uint64_t)4 << 30)
#define SIZE_MIN       ((uint64_t)64 << 20)
#define SIZE_ROUND     ((uint64_t)1 << 20)
#define MEMORY_MIN     ((uint64_t)8 << 20)
#define ADD_SHARDS_MAX 64u
#define PORT_LAST      65535u

/* --size, else as large as another node's device file. */
static int size_choose(const struct ctl *ctl, const struct map *map, uint64_t *size_out)
{
	const char *text = ctl->values[OPT_SIZE];
	struct stat st;

	*size_out = SIZE_DEFAULT;
	for (uint32_t i = 0; !text && i < map->node_count; i++)
		if (stat(node_path(ctl, map->nodes[i].id, "device"), &st) == 0 &&
			S_ISREG(st.st_mode) && (uint64_t)st.st_size >= SIZE_MIN) {
			*size_out = (uint64_t)st.st_size;
			break;
		}
	if (text && (!size_parse(text, size_out) || *size_out < SIZE_MIN))
		return ctl_usage("--size %s: give a size of at least 64M, as 4G", text);
	*size_out &= ~(SIZE_ROUND - 1);
	return EXIT_OK;
}

/* --- add ---------------------------------------------------------------------------- */

struct add {
	struct node_make make;
	struct place place;
	uint16_t ports[ADD_SHARDS_MAX];
};

static bool port_taken(const struct map *map, unsigned port)
{
	for (uint32_t i = 0; i < map->shard_count; i++)
		if (map->shards[i].port == port)
			return true;
	return false;
}

static int ports_choose(const struct map *map, struct add *add)
{
	unsigned port = map->shards[0].port;

	for (unsigned s = 0; s < add->make.shards; s++, port++) {
		while (port <= PORT_LAST && (port_taken(map, port) || !port_free(port)))
			port++;
		if (port > PORT_LAST)
			return ctl_fail(
				"no free port: free one above %u", map->shards[0].port);
		add->ports[s] = (uint16_t)port;
	}
	return EXIT_OK;
}

static int add_plan(const struct ctl *ctl, const struct map *map, struct add *add)
{
	const char *memory = ctl->values[OPT_MEMORY];
	uint64_t shards;
	int rc = copies_needed(map, "node add");

	if (rc)
		return rc;
	if (!ctl_number(ctl, OPT_SHARDS, 1, ADD_SHARDS_MAX,
		    node_shard_count(map, map->nodes[0].id), &shards))
		return EXIT_USAGE;
	if (map->node_count == MAP_NODES_MAX ||
		map->shard_count + shards > MAP_SHARDS_MAX)
		return ctl_usage("the cluster has as many nodes or shards as it can");
	add->make = (struct node_make){
		.ctl = ctl,
		.shards = (unsigned)shards,
		.devices = ctl->device_count ? ctl->devices : NULL,
	};
	for (uint32_t i = 0; i < map->node_count; i++)
		if (map->nodes[i].id >= add->make.id)
			add->make.id = map->nodes[i].id + 1;
	if (memory && (!size_parse(memory, &add->make.memory_bytes) ||
			      add->make.memory_bytes < MEMORY_MIN))
		return ctl_usage("--memory %s: give a size of at least 8M", memory);
	rc = size_choose(ctl, map, &add->make.size_bytes);
	if (rc == EXIT_OK)
		rc = devices_check(ctl, add->make.shards);
	if (rc == EXIT_OK)
		rc = place_read(ctl, &add->place);
	add->make.place = &add->place;
	if (rc == EXIT_OK && strlen(node_path(ctl, add->make.id, "wfsd.sock")) >=
				     sizeof(map->nodes[0].socket))
		rc = ctl_usage("%s: too long for Unix sockets in it", ctl->dir);
	return rc == EXIT_OK ? ports_choose(map, add) : rc;
}

/* The new node is the last, as are its shards. */
static int add_edit(const struct ctl *ctl, struct map *map, void *ctx)
{
	const struct add *add = ctx;
	uint32_t id = add->make.id, count = add->make.shards;
	struct map_node *node = &map->nodes[map->node_count - 1];

	for (uint32_t i = 0; i + 1 < map->node_count; i++)
		if (map->nodes[i].id >= id)
			return ctl_fail("another node was added meanwhile: try again");
	*node = (struct map_node){.id = id, .state = MAP_NODE_IN};
	memcpy(node->host, map->nodes[0].host, sizeof(node->host));
	snprintf(node->domain, sizeof(node->domain), "node%u", id);
	snprintf(node->socket, sizeof(node->socket), "%s",
		node_path(ctl, id, "wfsd.sock"));
	for (uint32_t s = 0; s < count; s++)
		map->shards[map->shard_count - count + s] =
			(struct map_shard){.node = id, .index = s, .port = add->ports[s]};
	return EXIT_OK;
}

/* It never served: nobody has anything there. */
static int add_undo(const struct ctl *ctl, struct map *map, void *ctx)
{
	const struct add *add = ctx;

	(void)ctl;
	for (uint32_t i = 0; i < map->node_count; i++)
		if (map->nodes[i].id == add->make.id)
			map->nodes[i].state = MAP_NODE_LOST;
	return EXIT_OK;
}

static int add_carry_out(struct ctl *ctl, struct local *local, struct add *add)
{
	uint32_t id = add->make.id;
	struct change change = {.more_nodes = 1,
		.more_shards = add->make.shards,
		.edit = add_edit,
		.ctx = add};
	struct change undo = {.edit = add_undo, .ctx = add};
	int rc;

	if (access(node_path(ctl, id, ""), F_OK) == 0)
		return ctl_fail("%s: exists already: remove it", node_path(ctl, id, ""));
	rc = node_make(&add->make);
	if (rc == EXIT_OK)
		rc = node_conf_make(&add->make);
	if (rc == EXIT_OK)
		rc = local_change(ctl, local, &change);
	if (rc == EXIT_OK) {
		progress_show(ctl, "formatting", -1);
		rc = node_format(ctl, id, ctl_has(ctl, OPT_FORCE));
		progress_end(ctl);
		if (rc != EXIT_OK)
			local_change(ctl, local, &undo);
	}
	if (rc != EXIT_OK) {
		tree_remove(node_path(ctl, id, ""));
		return rc;
	}
	return nodes_start(ctl, &id, 1);
}

int cmd_node_add(struct ctl *ctl, int argc, char **argv)
{
	struct local local;
	struct add add = {0};
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	rc = add_plan(ctl, local.map, &add);
	if (rc == EXIT_OK)
		rc = add_carry_out(ctl, &local, &add);
	if (rc == EXIT_OK && ctl_has(ctl, OPT_JSON)) {
		struct json j = {.file = stdout};

		json_open(&j, NULL, '{');
		json_count(&j, "node", add.make.id);
		json_count(&j, "shards", add.make.shards);
		json_count(&j, "port", add.ports[0]);
		json_text(&j, "device", node_device(&add.make, 0));
		json_close(&j, '}');
	} else if (rc == EXIT_OK) {
		printf("node %u takes its share now: see wfsctl rebuild\n", add.make.id);
	}
	local_close(&local);
	return rc;
}

/* --- replace ------------------------------------------------------------------------ */

/* What follows "device =" in section [shard N] of the node's configuration. */
static bool conf_device(
	const struct ctl *ctl, uint32_t id, uint32_t shard, char *out, size_t size)
{
	FILE *file = fopen(node_path(ctl, id, "wfsd.conf"), "re");
	char line[PATH_MAX + 64], value[PATH_MAX];
	unsigned section = UINT32_MAX;
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		if (line[0] == '[' && sscanf(line, "[shard %u]", &section) != 1)
			section = UINT32_MAX;
		if (section == shard && sscanf(line, " device = %4095s", value) == 1)
			found = snprintf(out, size, "%s", value) < (int)size;
	}
	if (file)
		fclose(file);
	return found;
}

/* The devices are there: a file that is gone is made again. */
static int devices_ready(const struct ctl *ctl, const struct map *map, uint32_t id)
{
	for (uint32_t s = 0; s < node_shard_count(map, id); s++) {
		char path[PATH_MAX];
		uint64_t size;
		int rc;

		if (!conf_device(ctl, id, s, path, sizeof(path)))
			return ctl_usage("%s: no device of shard %u in it: repair it",
				node_path(ctl, id, "wfsd.conf"), s);
		if (access(path, F_OK) == 0)
			continue;
		if (strncmp(path, node_path(ctl, id, ""),
			    strlen(node_path(ctl, id, ""))) != 0)
			return ctl_fail("%s: %s: put the new device there, or name it in "
					"%s",
				path, strerror(errno), node_path(ctl, id, "wfsd.conf"));
		rc = size_choose(ctl, map, &size);
		if (rc == EXIT_OK)
			rc = device_make(ctl, id, path, size);
		if (rc != EXIT_OK)
			return rc;
	}
	return EXIT_OK;
}

/* Those who have copies take over when the lease of the stopped node has run out. */
static int takeover_wait(const struct ctl *ctl, struct local *local, uint32_t id)
{
	uint64_t end_ms = now_ms() + 4ull * local->map->lease_ms + 5000;

	for (;;) {
		struct holdings h = node_holdings(local->map, id);
		int rc;

		if (h.leads == h.sole && local_lease_ms(local, id) <= 0)
			break;
		progress_show(ctl, "waiting until others lead its buckets", -1);
		if (now_ms() > end_ms) {
			progress_end(ctl);
			return ctl_fail("node %u still leads %u buckets, and who has "
					"copies does not take over: start node %u",
				id, h.leads, h.heir);
		}
		change_pause();
		rc = local_reload(local);
		if (rc)
			return rc;
	}
	progress_end(ctl);
	return EXIT_OK;
}

struct replace {
	uint32_t id;
	uint32_t sole; /* so many may be lost */
};

static int replace_edit(const struct ctl *ctl, struct map *map, void *ctx)
{
	const struct replace *r = ctx;
	struct holdings h = node_holdings(map, r->id);

	(void)ctl;
	if (h.sole > r->sole || h.leads > h.sole)
		return ctl_fail("node %u leads buckets again: stop it", r->id);
	for (uint32_t i = 0; i < map->shard_count; i++)
		if (map->shards[i].node == r->id) {
			memset(map->shards[i].device_uuid, 0, 16);
			map->shards[i].incarnation = 0;
		}
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		struct map_bucket *b = &map->buckets[i];

		if (map->shards[b->primary].node == r->id)
			b->epoch++; /* it begins empty */
		node_leave(map, b, r->id);
	}
	return EXIT_OK;
}

static int replace_ask(const struct ctl *ctl, struct local *local, struct replace *r)
{
	char question[96];
	int rc;

	if (node_pid(ctl, r->id))
		return ctl_fail("node %u runs: stop it first with wfsctl node stop %u",
			r->id, r->id);
	rc = takeover_wait(ctl, local, r->id);
	if (rc)
		return rc;
	r->sole = node_holdings(local->map, r->id).sole;
	if (r->sole)
		return sole_check(ctl, r->id, r->sole,
			"start it with its old device and wait until wfsctl rebuild "
			"--wait says that all is whole");
	snprintf(question, sizeof(question), "Format all devices of node %u?", r->id);
	return ctl_confirm(ctl, question) ? EXIT_OK : EXIT_FAILED;
}

int cmd_node_replace(struct ctl *ctl, int argc, char **argv)
{
	struct replace replace = {0};
	struct change change = {.edit = replace_edit, .ctx = &replace};
	struct local local;
	int rc = node_open(ctl, &local, argv[0], "node replace", &replace.id);

	(void)argc;
	if (rc)
		return rc;
	rc = replace_ask(ctl, &local, &replace);
	if (rc == EXIT_OK)
		rc = devices_ready(ctl, local.map, replace.id);
	if (rc == EXIT_OK)
		rc = local_change(ctl, &local, &change);
	if (rc == EXIT_OK) {
		progress_show(ctl, "formatting", -1);
		rc = node_format(ctl, replace.id, true);
		progress_end(ctl);
	}
	if (rc == EXIT_OK)
		rc = nodes_start(ctl, &replace.id, 1);
	if (rc == EXIT_OK)
		node_print(ctl, local.map, replace.id,
			"has empty devices and fills up: see wfsctl rebuild");
	local_close(&local);
	return rc;
}

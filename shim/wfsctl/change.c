/*
 * node drain, undrain, remove, replace: what an operator changes in the map; the keepers
 * and the shards see it and move the data.
 *
 *   in --drain--> draining --(its buckets have moved)--remove--> lost
 *    ^  <--undrain--'
 *   in, dead ------------(keepers take its buckets over)--remove--> lost
 *   in, stopped --replace--> in, with an empty device and out of all buckets; it fills up
 *
 * Nothing here makes a member of anybody who was none, but for --force where the only
 * copy is given up. Nothing here makes a backup a primary: the keepers do, when they see
 * that the old one is dead.
 */
#include "shim/wfsctl/change.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shim/wfsctl/table.h"

#define TRIES    50
#define PAUSE_MS 200

void change_pause(void)
{
	poll(NULL, 0, PAUSE_MS);
}

int local_change(const struct ctl *ctl, struct local *local, const struct change *change)
{
	int rc = -EAGAIN;

	for (int i = 0; rc == -EAGAIN && i < TRIES; i++) {
		struct map *map;

		rc = local_reload(local);
		if (rc)
			return rc;
		map = map_copy(local->map, change->more_nodes, change->more_shards, 0);
		if (!map)
			return ctl_fail("out of memory");
		rc = change->edit(ctl, map, change->ctx);
		if (rc) {
			map_free(map);
			return rc;
		}
		map->epoch++;
		rc = local->store->ops->save(local->store, map);
		map_free(map);
	}
	if (rc)
		return ctl_fail("the map could not be changed: %s",
			local->store->reason[0] ? local->store->reason : strerror(-rc));
	rc = local_reload(local);
	for (uint32_t i = 0; rc == EXIT_OK && i < local->map->node_count; i++)
		node_reload(ctl, local->map->nodes[i].id);
	return rc;
}

/* --- what is where --- */

static struct map_node *node_edit(struct map *map, uint32_t id)
{
	for (uint32_t i = 0; i < map->node_count; i++)
		if (map->nodes[i].id == id)
			return &map->nodes[i];
	return NULL;
}

static bool shard_of(const struct map *map, uint32_t shard, uint32_t id)
{
	return map->shards[shard].node == id;
}

/* A node other than id with an in-sync copy, or UINT32_MAX. */
static uint32_t other_holder(
	const struct map *map, const struct map_bucket *b, uint32_t id)
{
	for (uint32_t k = 0; k < b->backup_count; k++) {
		uint32_t node = map->shards[b->backups[k]].node;

		if (node != id && map_node_find(map, node)->state != MAP_NODE_LOST)
			return node;
	}
	return UINT32_MAX;
}

struct holdings node_holdings(const struct map *map, uint32_t id)
{
	struct holdings h = {.heir = UINT32_MAX};

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];
		bool leads = shard_of(map, b->primary, id);
		bool member = leads;
		uint32_t heir;

		for (uint32_t k = 0; k < b->backup_count; k++)
			member |= shard_of(map, b->backups[k], id);
		h.members += member;
		h.leads += leads;
		if (!leads)
			continue;
		heir = other_holder(map, b, id);
		h.sole += heir == UINT32_MAX;
		if (heir != UINT32_MAX)
			h.heir = heir;
	}
	return h;
}

int copies_needed(const struct map *map, const char *what)
{
	if (map->copies > 1)
		return EXIT_OK;
	return ctl_usage("%s: this cluster has one copy of everything, which stays where "
			 "it is: make one with --copies 2",
		what);
}

static uint32_t nodes_in(const struct map *map, uint32_t without)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < map->node_count; i++)
		count +=
			map->nodes[i].state == MAP_NODE_IN && map->nodes[i].id != without;
	return count;
}

int node_open(struct ctl *ctl, struct local *local, const char *text, const char *what,
	uint32_t *id_out)
{
	const struct map_node *node;
	int rc = local_open(ctl, local);

	if (rc)
		return rc;
	node = local_node(local, text);
	rc = node ? copies_needed(local->map, what) : EXIT_USAGE;
	if (rc == EXIT_OK && node->state == MAP_NODE_LOST)
		rc = ctl_fail("node %u was removed: make a new one with wfsctl node add",
			node->id);
	if (rc != EXIT_OK) {
		local_close(local);
		return rc;
	}
	*id_out = node->id;
	return EXIT_OK;
}

void node_print(
	const struct ctl *ctl, const struct map *map, uint32_t id, const char *text)
{
	struct holdings h = node_holdings(map, id);
	struct json j = {.file = stdout};

	if (!ctl_has(ctl, OPT_JSON)) {
		printf("node %u  %s\n", id, text);
		return;
	}
	json_open(&j, NULL, '{');
	json_count(&j, "node", id);
	json_text(&j, "state", node_state_text(map_node_find(map, id)->state));
	json_count(&j, "buckets", h.members);
	json_count(&j, "primary_buckets", h.leads);
	json_close(&j, '}');
}

/* --- drain, undrain --- */

struct state_edit {
	uint32_t id;
	enum map_node_state state;
	bool force;
};

static int state_set(const struct ctl *ctl, struct map *map, void *ctx)
{
	const struct state_edit *e = ctx;
	struct map_node *node = node_edit(map, e->id);
	uint32_t left = nodes_in(map, e->id);

	if (!node || node->state == MAP_NODE_LOST)
		return ctl_fail("node %u was removed meanwhile", e->id);
	if (e->state == MAP_NODE_DRAINING && left < map->copies &&
		(left == 0 || !ctl_has(ctl, OPT_FORCE)))
		return ctl_fail("node %u: %u other nodes are in, for %u copies: add one "
				"first with wfsctl node add%s",
			e->id, left, map->copies,
			left ? ", or give --force to have fewer copies" : "");
	node->state = e->state;
	return EXIT_OK;
}

static bool any_runs(const struct ctl *ctl, const struct map *map)
{
	for (uint32_t i = 0; i < map->node_count; i++)
		if (node_pid(ctl, map->nodes[i].id))
			return true;
	return false;
}

/* Until it holds nothing; who waits may be interrupted, the rest goes on. */
static int drain_wait(const struct ctl *ctl, struct local *local, uint32_t id)
{
	uint32_t before = node_holdings(local->map, id).members;
	uint64_t timeout_s, end_ms;

	if (!ctl_number(ctl, OPT_TIMEOUT, 1, 1000000, 1000000, &timeout_s))
		return EXIT_USAGE;
	end_ms = now_ms() + timeout_s * 1000;
	for (;;) {
		struct holdings h = node_holdings(local->map, id);
		char text[96];
		int rc;

		if (h.members == 0)
			break;
		snprintf(text, sizeof(text), "node %u: %u of %u buckets are still there",
			id, h.members, before);
		progress_show(ctl, text, (int)((before - h.members) * 100 / before));
		if (now_ms() > end_ms || !any_runs(ctl, local->map)) {
			progress_end(ctl);
			return ctl_fail("%s: %s", text,
				any_runs(ctl, local->map)
					? "it goes on: see wfsctl rebuild"
					: "no node runs: start them with wfsctl cluster "
					  "start");
		}
		change_pause();
		rc = local_reload(local);
		if (rc)
			return rc;
		if (map_node_find(local->map, id)->state == MAP_NODE_IN) {
			progress_end(ctl);
			return ctl_fail("node %u: somebody undid the drain", id);
		}
		if (h.members > before)
			before = h.members;
	}
	progress_end(ctl);
	return EXIT_OK;
}

static int state_command(struct ctl *ctl, const char *text, enum map_node_state state)
{
	struct state_edit edit = {.state = state};
	struct change change = {.edit = state_set, .ctx = &edit};
	bool drain = state == MAP_NODE_DRAINING;
	struct local local;
	int rc = node_open(
		ctl, &local, text, drain ? "node drain" : "node undrain", &edit.id);

	if (rc)
		return rc;
	if (map_node_find(local.map, edit.id)->state != state)
		rc = local_change(ctl, &local, &change);
	if (rc == EXIT_OK && drain && !ctl_has(ctl, OPT_NO_WAIT))
		rc = drain_wait(ctl, &local, edit.id);
	if (rc == EXIT_OK)
		node_print(ctl, local.map, edit.id,
			!drain ? "in: it takes its share again"
			: node_holdings(local.map, edit.id).members
				? "draining: see wfsctl rebuild"
				: "empty: it may be removed with wfsctl node remove");
	local_close(&local);
	return rc;
}

int cmd_node_drain(struct ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return state_command(ctl, argv[0], MAP_NODE_DRAINING);
}

int cmd_node_undrain(struct ctl *ctl, int argc, char **argv)
{
	(void)argc;
	return state_command(ctl, argv[0], MAP_NODE_IN);
}

/* --- giving up --- */

int sole_check(const struct ctl *ctl, uint32_t id, uint32_t sole, const char *how)
{
	struct ctl asking = *ctl;

	if (sole == 0)
		return EXIT_OK;
	if (!ctl_has(ctl, OPT_FORCE))
		return ctl_fail("node %u has the only copy in sync of %u buckets: %s, or "
				"lose them with --force",
			id, sole, how);
	asking.values[OPT_FORCE] = NULL;
	fprintf(stderr, "All files and directories in %u buckets will be LOST.\n", sole);
	if (isatty(STDIN_FILENO) && !ctl_confirm(&asking, "Lose them?"))
		return EXIT_FAILED;
	return EXIT_OK;
}

/* A shard that gets a bucket whose only copy is given up; it begins empty. */
static bool heir_find(
	const struct map *map, uint32_t bucket, uint32_t without, uint32_t *out)
{
	const struct map_bucket *b = &map->buckets[bucket];

	for (uint32_t k = 0; k < b->target_count; k++) {
		uint32_t node = map->shards[b->targets[k]].node;

		*out = b->targets[k];
		if (node != without && map_node_find(map, node)->state == MAP_NODE_IN)
			return true;
	}
	for (uint32_t n = 0; n < map->shard_count; n++) {
		*out = (bucket + n) % map->shard_count;
		if (map->shards[*out].node != without &&
			map_node_find(map, map->shards[*out].node)->state == MAP_NODE_IN)
			return true;
	}
	return false;
}

void node_leave(const struct map *map, struct map_bucket *b, uint32_t id)
{
	uint32_t count = 0;

	for (uint32_t k = 0; k < b->backup_count; k++)
		if (!shard_of(map, b->backups[k], id))
			b->backups[count++] = b->backups[k];
	for (uint32_t k = count; k < b->backup_count; k++)
		b->backups[k] = 0;
	b->backup_count = count;
}

struct give_up {
	uint32_t id;
	uint32_t sole; /* so many were agreed to */
};

static int sole_agreed(const struct map *map, const struct give_up *g)
{
	uint32_t sole = node_holdings(map, g->id).sole;

	return sole > g->sole
		       ? ctl_fail("node %u got the only copy of a bucket meanwhile: "
				  "try again",
				 g->id)
		       : EXIT_OK;
}

static int remove_edit(const struct ctl *ctl, struct map *map, void *ctx)
{
	const struct give_up *g = ctx;
	struct map_node *node = node_edit(map, g->id);
	int rc = sole_agreed(map, g);

	(void)ctl;
	if (rc || !node)
		return rc;
	node->state = MAP_NODE_LOST;
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		struct map_bucket *b = &map->buckets[i];
		uint32_t heir;

		if (!shard_of(map, b->primary, g->id)) {
			node_leave(map, b, g->id);
			continue;
		}
		if (other_holder(map, b, g->id) != UINT32_MAX)
			continue; /* the keepers will see to it */
		if (!heir_find(map, i, g->id, &heir))
			return ctl_fail("node %u is the last one: destroy the cluster "
					"instead",
				g->id);
		b->primary = heir;
		b->backup_count = 0;
		memset(b->backups, 0, sizeof(b->backups));
		b->epoch++;
	}
	return EXIT_OK;
}

/* One that was killed holds its lease for a moment. */
static int lease_wait(const struct ctl *ctl, struct local *local, uint32_t id)
{
	uint64_t end_ms = now_ms() + 2ull * local->map->lease_ms;
	int rc = EXIT_OK;

	while (rc == EXIT_OK && !node_pid(ctl, id) && local_lease_ms(local, id) > 0 &&
		now_ms() < end_ms) {
		progress_show(ctl, "waiting until its lease has run out", -1);
		change_pause();
		rc = local_reload(local);
	}
	progress_end(ctl);
	return rc;
}

static int remove_check(const struct ctl *ctl, struct local *local, uint32_t id)
{
	struct holdings h = node_holdings(local->map, id);
	char question[96];
	int rc;

	if (h.members == 0)
		return EXIT_OK;
	rc = lease_wait(ctl, local, id);
	if (rc)
		return rc;
	h = node_holdings(local->map, id);
	if (node_pid(ctl, id) || local_lease_ms(local, id) > 0)
		return ctl_fail(
			"node %u holds %u buckets: empty it first with wfsctl node "
			"drain %u, or stop it if it is lost",
			id, h.members, id);
	snprintf(question, sizeof(question), "Remove node %u for good?", id);
	if (h.sole)
		return sole_check(ctl, id, h.sole,
			"start it and wait until wfsctl rebuild --wait says that all is "
			"whole");
	return ctl_confirm(ctl, question) ? EXIT_OK : EXIT_FAILED;
}

int cmd_node_remove(struct ctl *ctl, int argc, char **argv)
{
	struct give_up give_up = {0};
	struct change change = {.edit = remove_edit, .ctx = &give_up};
	struct local local;
	int rc = node_open(ctl, &local, argv[0], "node remove", &give_up.id);

	(void)argc;
	if (rc)
		return rc;
	rc = remove_check(ctl, &local, give_up.id);
	give_up.sole = node_holdings(local.map, give_up.id).sole;
	if (rc == EXIT_OK)
		rc = local_change(ctl, &local, &change);
	if (rc == EXIT_OK && node_pid(ctl, give_up.id)) {
		struct ctl quiet = *ctl;

		quiet.values[OPT_JSON] = "";
		rc = nodes_stop(&quiet, &give_up.id, 1, false);
	}
	if (rc == EXIT_OK)
		node_print(ctl, local.map, give_up.id, "removed");
	local_close(&local);
	return rc;
}

/* The world: shards, their lives and deaths. */
#include "tests/lib/world_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"

#define QUIET_US      1500000u
#define QUIESCE_US    120000000u
#define TIMEOUT_MS    1000u
#define STORE_GONE_US 130000000u
#define LEASE_MS      2000u

uint64_t world_random(struct world *w)
{
	uint64_t z = (w->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static uint64_t now_of(struct world *w)
{
	return env_now_us(&w->env.env);
}

uint64_t world_now_us(struct world *w)
{
	return now_of(w);
}

static void kills_due(struct world *w)
{
	for (uint32_t i = 0; i < w->shard_count; i++) {
		struct world_shard *ws = &w->shards[i];

		if (!ws->alive)
			continue;
		if (ws->kill_at_message && ws->message_count >= ws->kill_at_message) {
			ws->kill_at_message = 0;
			world_kill(w, i);
		} else if (device_sim_crashed(ws->disk)) {
			world_kill(w, i);
		}
	}
}

/* What each shard says of itself, as if there were always a reply just in. */
static uint32_t shard_fill_of(void *ctx, uint32_t shard)
{
	const struct world_shard *ws = &((struct world_shard *)ctx)->w->shards[shard];

	return ws->alive ? shard_fill(ws->shard) : 0;
}

/* --- lives --- */

static void pump(void *ctx)
{
	struct world_shard *ws = ctx;

	if (device_sim_step(ws->dev) == 0)
		env_sim_advance(
			&ws->w->env, device_sim_crashed(ws->disk) ? STORE_GONE_US : 100);
}

static struct store_options store_options_of(
	const struct world_shard *ws, uint32_t segment)
{
	struct store_options opt = {.segment_size_bytes = segment};

	memcpy(opt.identity.cluster_uuid, ws->w->map->uuid, 16);
	opt.identity.node = 1;
	opt.identity.shard = ws->number;
	return opt;
}

static void map_told(void *ctx, const struct map *map)
{
	struct world_shard *ws = ctx;

	ws->map = map;
	if (ws->shard)
		shard_map_set(ws->shard, map);
	if (map->epoch > ws->w->map->epoch) {
		map_free(ws->w->map);
		ws->w->map = map_copy(map, 0, 0, 0);
	}
}

/* Whether the map has us on the device that we have. */
static bool device_is_ours(const struct world_shard *ws)
{
	return !ws->w->device_known || memcmp(ws->map->shards[ws->number].device_uuid,
					       ws->device_uuid, 16) == 0;
}

static void lease_told(void *ctx, uint64_t until_us)
{
	struct world_shard *ws = ctx;

	if (ws->shard && device_is_ours(ws))
		shard_lease_set(ws->shard, until_us);
}

static void keeper_wanted(void *ctx)
{
	((struct world_shard *)ctx)->keeper_us = 0;
}

static int shard_proposes(void *ctx, const struct proposal *proposal)
{
	return keeper_propose(((struct world_shard *)ctx)->keeper, proposal);
}

/* The node of a shard comes up with the newest map. */
static int keeper_start(struct world *w, struct world_shard *ws)
{
	struct keeper_options ko = {
		.env = &ws->clock.env,
		.device_uuids = w->device_known ? &ws->device_uuid : NULL,
		.store = &ws->map_store.store,
		.node = ws->number + 1,
		.incarnation = world_random(w) | 1,
		.map = w->map,
		.map_changed = map_told,
		.lease = lease_told,
		.wake = keeper_wanted,
		.wake_ctx = ws,
		.ctx = ws,
	};

	ws->map = w->map;
	ws->keeper_us = 0;
	if (w->copies == 1)
		return 0;
	map_store_mem_init(&ws->map_store, &w->maps);
	ws->map_store.away = ws->store_away;
	ws->map_store.lose_answers = ws->store_deaf;
	ws->first_map = map_copy(w->maps.map, 0, 0, 0);
	ws->map = ko.map = ws->first_map;
	return keeper_new(&ko, &ws->keeper);
}

static void keeper_end(struct world_shard *ws)
{
	keeper_free(ws->keeper);
	map_free(ws->first_map);
	ws->keeper = NULL;
	ws->first_map = NULL;
	ws->map = NULL;
}

int world_start(struct world *w, uint32_t number)
{
	struct world_shard *ws = &w->shards[number];
	struct store_options so = store_options_of(ws, 0);
	struct store_refusal refusal = {{0}};
	struct shard_history *history = NULL;
	struct shard_options opt;
	int rc;

	check(!ws->alive);
	rc = device_sim_open(ws->disk, &ws->dev);
	if (rc)
		return rc;
	rc = kv_model_open(ws->kvdisk, &ws->kv);
	if (rc) {
		device_close(ws->dev);
		return rc;
	}
	rc = keeper_start(w, ws);
	check_eq(rc, 0);
	if (w->copies > 1)
		history = shard_history_new();
	if (history) {
		so.replayed = shard_history_note;
		so.replayed_ctx = history;
	}
	rc = store_open(
		ws->dev, ws->kv, &ws->clock.env, &so, pump, ws, &ws->store, &refusal);
	if (rc == 0) {
		opt = (struct shard_options){
			.env = &ws->clock.env,
			.store = ws->store,
			.kv = ws->kv,
			.map = ws->map,
			.propose = shard_proposes,
			.history = history,
			.number = number,
			.grace_us = w->grace_us,
			.send = world_shard_send,
			.fill_of = shard_fill_of,
			.ctx = ws,
		};
		ws->incarnation++;
		ws->next_us = 0;
		store_device_uuid(ws->store, ws->device_uuid);
		rc = shard_new(&opt, &ws->shard);
		if (rc)
			store_close(ws->store);
	}
	shard_history_free(history);
	if (rc) {
		keeper_end(ws);
		device_close(ws->dev);
		kv_close(ws->kv);
		return rc;
	}
	ws->alive = true;
	ws->frozen = false;
	return 0;
}

/* A call of the shard that nobody will answer any more; NULL when there is none. */
static struct message *call_of(struct world *w, const struct world_shard *ws)
{
	list_for_each(it, tmp, &w->messages)
	{
		struct message *m = container_of(it, struct message, link);

		check(!(m->served && m->to == ws->number), "op %s not answered",
			wire_op_name(m->req.op));
		if (m->from == ws->number && m->call)
			return m;
	}
	return NULL;
}

/* After stop or abandon: what was under way ends, and the rest goes. */
static void shard_bury(struct world *w, struct world_shard *ws)
{
	struct message *m;

	do {
		while (!list_empty(&ws->local)) {
			struct request *req =
				list_first(&ws->local, struct request, link);

			list_remove(&req->link);
			shard_handle(ws->shard, req);
		}
		m = call_of(w, ws);
		if (m)
			world_message_end(m, -ESHUTDOWN);
	} while (m || !list_empty(&ws->local));
	shard_free(ws->shard);
	kv_close(ws->kv);
	keeper_end(ws);
	ws->shard = NULL;
	ws->store = NULL;
}

void world_kill(struct world *w, uint32_t number)
{
	struct world_shard *ws = &w->shards[number];

	check(ws->alive);
	ws->alive = false;
	ws->kill_count++;
	device_sim_crash(ws->dev);
	shard_abandon(ws->shard);
	shard_bury(w, ws);
}

void world_stop(struct world *w, uint32_t number)
{
	struct world_shard *ws = &w->shards[number];

	if (!ws->alive)
		return;
	shard_stop(ws->shard);
	ws->alive = false;
	shard_bury(w, ws);
	device_close(ws->dev);
}

void world_disarm(struct world *w, uint32_t number)
{
	struct world_shard *ws = &w->shards[number];

	memset(device_sim_faults(ws->disk), 0, sizeof(struct device_sim_faults));
	kv_model_fault_arm(ws->kvdisk, 0);
	ws->kill_at_message = 0;
}

void world_restart(struct world *w, uint32_t number)
{
	int rc;

	if (w->shards[number].alive)
		world_kill(w, number);
	world_disarm(w, number);
	rc = world_start(w, number);
	check_eq(rc, 0, "restart of shard %u: %d, seed %llu", number, rc,
		(unsigned long long)w->seed);
}

static void device_make(struct world *w, struct world_shard *ws)
{
	const struct world_options *opt = &w->options;
	struct store_refusal refusal = {{0}};
	struct store_options so;

	ws->disk = device_sim_disk_new(opt->disk_bytes ? opt->disk_bytes : 96ull << 20,
		opt->seed * 31 + ws->number + 1000ull * ws->device_count);
	ws->kvdisk = kv_model_disk_new();
	memset(ws->device_uuid, 0, 16); /* not known until it is opened */
	ws->device_count++;
	so = store_options_of(ws, opt->segment_bytes ? opt->segment_bytes : 4u << 20);
	check_eq(device_sim_open(ws->disk, &ws->dev), 0);
	check_eq(store_format(ws->dev, &w->env.env, &so, pump, ws, &refusal), 0, "%s",
		refusal.text);
	device_close(ws->dev);
}

void world_device_replace(struct world *w, uint32_t number)
{
	struct world_shard *ws = &w->shards[number];

	check(!ws->alive);
	device_sim_disk_free(ws->disk);
	kv_model_disk_free(ws->kvdisk);
	device_make(w, ws);
}

static void shard_make(struct world *w, uint32_t number)
{
	struct world_shard *ws = &w->shards[number];

	ws->w = w;
	ws->number = number;
	ws->clock = (struct world_clock){.env.ops = &world_clock_ops, .w = w};
	list_init(&ws->local);
	if (w->options.shard_prepare)
		w->options.shard_prepare(ws);
	device_make(w, ws);
	check_eq(world_start(w, number), 0);
}

/* --- operators --- */

static void map_change(struct world *w, struct map *map)
{
	map->epoch++;
	map_free(w->maps.map);
	w->maps.map = map;
	map_free(w->map);
	w->map = map_copy(map, 0, 0, 0);
}

void world_node_state(struct world *w, uint32_t number, enum map_node_state state)
{
	struct map *map = map_copy(w->maps.map, 0, 0, 0);

	map->nodes[number].state = state;
	map_change(w, map);
}

static void node_fill(struct map *map, uint32_t number)
{
	struct map_node *node = &map->nodes[number];

	node->id = map->shards[number].node = number + 1;
	map->shards[number].index = 0;
	snprintf(node->domain, sizeof(node->domain), "node%u", number + 1);
}

void world_node_add(struct world *w)
{
	struct map *map = map_copy(w->maps.map, 1, 1, 0);

	check(w->copies > 1 && w->shard_count < WORLD_SHARDS_MAX);
	node_fill(map, w->shard_count);
	map_change(w, map);
	shard_make(w, w->shard_count++);
}

void world_init(struct world *w, const struct world_options *opt)
{
	memset(w, 0, sizeof(*w));
	log_set_level(getenv("WORLD_LOG") ? LOG_DEBUG : LOG_ERROR + 1);
	env_sim_init(&w->env, opt->seed);
	w->seed = opt->seed;
	w->state = opt->seed * 977 + 5;
	w->shard_count = opt->shard_count;
	w->options = *opt;
	w->device_known = opt->device_known;
	w->session = 77;
	list_init(&w->messages);
	list_init(&w->again);
	w->copies = opt->copies ? opt->copies : 1;
	w->map = map_new(w->copies > 1 ? opt->shard_count : 1, opt->shard_count,
		opt->bucket_count ? opt->bucket_count : WORLD_BUCKETS, 0);
	w->map->copies = w->copies;
	w->map->lease_ms = LEASE_MS;
	w->map->epoch = 1;
	w->map->timeout_ms = TIMEOUT_MS;
	memset(w->map->uuid, 0x33, 16);
	w->map->nodes[0].id = 1;
	for (uint32_t i = 0; i < opt->shard_count; i++)
		w->map->shards[i] = (struct map_shard){.node = 1, .index = i};
	for (uint32_t i = 0; w->copies > 1 && i < opt->shard_count; i++)
		node_fill(w->map, i);
	check_eq(map_place(w->map), 0);
	if (w->copies > 1)
		mem_maps_init(&w->maps, &w->env.env, w->map);
	for (uint32_t i = 0; i < opt->shard_count; i++)
		shard_make(w, i);
}

void world_release(struct world *w)
{
	for (uint32_t i = 0; i < w->shard_count; i++)
		world_stop(w, i);
	while (!list_empty(&w->messages)) {
		struct message *m = list_first(&w->messages, struct message, link);

		if (m->call)
			world_message_end(m, -ESHUTDOWN);
		world_message_free(m);
	}
	for (uint32_t i = 0; i < w->shard_count; i++) {
		device_sim_disk_free(w->shards[i].disk);
		kv_model_disk_free(w->shards[i].kvdisk);
	}
	if (w->copies > 1)
		mem_maps_release(&w->maps);
	map_free(w->map);
}

/* --- the loop --- */

static uint64_t later(uint64_t now, uint64_t by_us)
{
	return by_us > UINT64_MAX - now ? UINT64_MAX : now + by_us;
}

/* A slow device lets others come in between. */
static bool device_turn(struct world *w, struct world_shard *ws)
{
	uint64_t latest_us = ws->slow_us ? ws->slow_us : w->shuffle ? 400 : 0;
	uint64_t now = now_of(w);

	if (device_sim_idle(ws->dev)) {
		ws->device_us = 0;
		return false;
	}
	if (ws->device_us == 0)
		ws->device_us = now + (latest_us ? world_random(w) % latest_us : 0);
	if (now < ws->device_us)
		return false;
	ws->device_us = 0;
	return device_sim_step(ws->dev) > 0;
}

static bool shard_turn(struct world *w, struct world_shard *ws)
{
	uint64_t now = now_of(w), store_us, shard_us;
	bool busy = false;

	if (ws->keeper && now >= ws->keeper_us) {
		ws->keeper_us = UINT64_MAX;
		store_us = later(now, keeper_turn(ws->keeper));
		if (store_us < ws->keeper_us)
			ws->keeper_us = store_us;
		busy = true;
	}
	busy = device_turn(w, ws) || busy;
	if (device_sim_crashed(ws->disk))
		return true;
	while (!list_empty(&ws->local)) {
		struct request *req = list_first(&ws->local, struct request, link);

		list_remove(&req->link);
		ws->message_count++;
		shard_handle(ws->shard, req);
		busy = true;
		if (ws->kill_at_message && ws->message_count >= ws->kill_at_message)
			return true;
	}
	shard_us = shard_poll(ws->shard);
	store_us = store_poll(ws->store);
	if (store_us < shard_us)
		shard_us = store_us;
	ws->next_us = later(now, shard_us);
	return busy || shard_us == 0 ||
	       (ws->device_us == 0 && !device_sim_idle(ws->dev));
}

void world_turn(struct world *w)
{
	uint32_t first = w->shuffle ? (uint32_t)(world_random(w) % w->shard_count) : 0;
	uint64_t next, now = now_of(w);
	bool busy;

	w->turns++;
	busy = world_messages_step(w);
	next = UINT64_MAX;
	busy = wops_again(w, &next) || busy;
	kills_due(w);
	for (uint32_t i = 0; i < w->shard_count; i++) {
		struct world_shard *ws = &w->shards[(first + i) % w->shard_count];

		if (ws->alive && !ws->frozen)
			busy = shard_turn(w, ws) || busy;
		kills_due(w);
	}
	if (busy) {
		env_sim_advance(&w->env, 1);
		return;
	}
	if (world_messages_next_us(w) < next)
		next = world_messages_next_us(w);
	for (uint32_t i = 0; i < w->shard_count; i++) {
		const struct world_shard *ws = &w->shards[i];

		if (ws->alive && !ws->frozen && ws->next_us < next)
			next = ws->next_us;
		if (ws->alive && !ws->frozen && ws->keeper && ws->keeper_us < next)
			next = ws->keeper_us;
		if (ws->alive && ws->device_us > now && ws->device_us < next)
			next = ws->device_us;
	}
	if (next > now + 100000)
		next = now + 100000;
	env_sim_advance(&w->env, next > now ? next - now : 1);
}

static bool bucket_healthy(struct world *w, uint32_t bucket)
{
	const struct map_bucket *mb = &w->maps.map->buckets[bucket];
	const struct world_shard *ws = &w->shards[mb->primary];
	const struct bucket_state *b;

	if (!ws->alive || mb->backup_count + 1 != w->copies)
		return false;
	b = &ws->shard->buckets[bucket];
	if (b->role != ROLE_PRIMARY || b->epoch != mb->epoch)
		return false;
	for (uint32_t i = 0; i < mb->backup_count; i++) {
		const struct stream *st = stream_find(b, mb->backups[i]);

		if (!st || !st->backup || st->failed || st->stage != STREAM_LIVE ||
			st->acked != ws->shard->lsn[bucket])
			return false;
	}
	return true;
}

bool world_healthy(struct world *w)
{
	for (uint32_t i = 0; w->copies > 1 && i < w->map->bucket_count; i++)
		if (!bucket_healthy(w, i))
			return false;
	return true;
}

bool world_heal(struct world *w, uint64_t max_us)
{
	uint64_t until = now_of(w) + max_us;

	while (!world_healthy(w) && now_of(w) < until)
		world_turn(w);
	return world_healthy(w);
}

void world_pass(struct world *w, uint64_t us)
{
	uint64_t until = now_of(w) + us;

	while (now_of(w) < until)
		world_turn(w);
}

static bool shard_quiet(const struct world_shard *ws)
{
	const struct shard *s = ws->shard;

	return list_empty(&s->execs) && list_empty(&s->txns) && list_empty(&s->intents) &&
	       list_empty(&ws->local) &&
	       store_durable_sequence(ws->store) == store_committed_sequence(ws->store);
}

static bool world_quiet(struct world *w)
{
	if (!world_healthy(w))
		return false;
	if (!list_empty(&w->messages))
		return false;
	for (uint32_t i = 0; i < w->shard_count; i++)
		if (!w->shards[i].alive || !shard_quiet(&w->shards[i]))
			return false;
	return true;
}

void world_quiesce(struct world *w)
{
	uint64_t start = now_of(w), quiet = start;

	for (uint32_t i = 0; i < w->shard_count; i++)
		check(w->shards[i].alive, "shard %u is down", i);
	while (now_of(w) - quiet < QUIET_US) {
		world_turn(w);
		if (!world_quiet(w))
			quiet = now_of(w);
		for (uint32_t i = 0; i < w->shard_count; i++) {
			struct world_shard *ws = &w->shards[i];

			check(now_of(w) - start < QUIESCE_US,
				"shard %u does not come to rest: execs %d txns %d "
				"intents %d "
				"seed %llu",
				i, !list_empty(&ws->shard->execs),
				!list_empty(&ws->shard->txns),
				!list_empty(&ws->shard->intents),
				(unsigned long long)w->seed);
		}
	}
}

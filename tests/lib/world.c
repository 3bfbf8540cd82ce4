/* The world: shards, their lives and deaths, and the messages between them. */
#include "tests/lib/world.h"
#include "tests/lib/check.h"

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
#define FROZEN_US     20000u
#define OPEN_LATEST_US 30000u

/* A call on its way there, being served, or on its way back. */
struct message {
	struct list link;
	struct world *w;
	struct rpc_call *call; /* NULL: nobody waits any more */
	struct request req;
	uint32_t from;
	uint32_t to;
	uint32_t via;         /* WORLD_CLIENT: of which node */
	bool lost;            /* nobody will ever see it */
	uint32_t incarnation; /* of `to` when it was sent */
	uint64_t due_us;
	uint64_t timeout_us;
	bool served; /* in the hands of the shard */
	bool is_reply;
	int status;
	uint8_t *data;
	uint8_t *reply_data;
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
	_Alignas(8) uint8_t reply[WIRE_BODY_MAX];
};

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

/* --- clocks --- */

static uint64_t clock_now_us(struct env *env)
{
	const struct world_clock *c = container_of(env, struct world_clock, env);
	int64_t now = (int64_t)now_of(c->w);

	return (uint64_t)(now + now / 1000000 * c->drift_ppm +
			  now % 1000000 * c->drift_ppm / 1000000) +
	       c->ahead_us;
}

static int64_t clock_wall_ns(struct env *env)
{
	const struct world_clock *c = container_of(env, struct world_clock, env);

	return env_wall_ns(&c->w->env.env) + (int64_t)c->ahead_us * 1000;
}

static uint64_t clock_random(struct env *env)
{
	return env_random(&container_of(env, struct world_clock, env)->w->env.env);
}

static const struct env_ops clock_ops = {
	.now_us = clock_now_us, .wall_ns = clock_wall_ns, .random = clock_random};

uint64_t world_shard_now_us(const struct world_shard *ws)
{
	return clock_now_us((struct env *)&ws->clock.env);
}

/* --- messages --- */

static void message_free(struct message *m)
{
	list_remove(&m->link);
	free(m->data);
	free(m->reply_data);
	free(m);
}

static bool chance(struct world *w, uint32_t per_million)
{
	return per_million && world_random(w) % 1000000 < per_million;
}

static uint64_t message_due(struct world *w)
{
	uint64_t delay = 10;

	if (w->shuffle)
		delay = world_random(w) % 8 == 0 ? world_random(w) % 20000
						 : world_random(w) % 400;
	if (w->lossy && world_random(w) % 48 == 0)
		delay = world_random(w) % 4000000;
	if (chance(w, w->net.late)) {
		delay = world_random(w) % w->net.late_us;
		w->net.late_count++;
	}
	return now_of(w) + delay;
}

static uint32_t message_origin(const struct message *m)
{
	return m->from == WORLD_CLIENT ? m->via : m->from;
}

/* Whether what goes from one to the other now is never seen there. */
static bool message_lost(struct world *w, uint32_t from, uint32_t to)
{
	if (from == WORLD_VIA_NONE || to == WORLD_VIA_NONE || from == to)
		return false;
	if (w->net.cut[from][to] || w->shards[from].cut_off || w->shards[to].cut_off) {
		w->net.cut_count++;
		return true;
	}
	if (!chance(w, w->net.lost))
		return false;
	w->net.lost_count++;
	return true;
}

/* It stays as long as somebody waits for the answer. */
static void message_lose(struct message *m)
{
	if (!m->call) {
		message_free(m);
		return;
	}
	m->lost = true;
	m->due_us = UINT64_MAX;
}

static void message_end(struct message *m, int status)
{
	struct rpc_call *call = m->call;

	m->call = NULL;
	if (status)
		call->done(call, status, NULL, 0, 0);
	else
		call->done(call, 0, m->reply, m->req.reply_size, m->req.reply_data_size);
}

static void message_return(struct message *m, int status)
{
	m->served = false;
	m->is_reply = true;
	m->status = status;
	m->due_us = message_due(m->w);
}

static void message_served(struct request *req, int status)
{
	struct message *m = container_of(req, struct message, req);

	/* What a dying shard says is not heard: the connection breaks. */
	message_return(m, m->w->shards[m->to].alive ? status : -EIO);
}

static struct message *message_new(struct world *w, uint32_t from, uint32_t via,
	uint32_t to, struct rpc_call *call)
{
	struct message *m = malloc(sizeof(*m));

	memset(m, 0, offsetof(struct message, body));
	m->w = w;
	m->call = call;
	m->from = from;
	m->via = via;
	m->to = to;
	m->due_us = message_due(w);
	m->timeout_us = now_of(w) + (uint64_t)call->timeout_ms * 1000;
	check_leq(call->body_size, WIRE_BODY_MAX);
	check_eq(wire_body_check(call->op, call->body, call->body_size, false), 0,
		"bad body of op %s", wire_op_name(call->op));
	memcpy(m->body, call->body, call->body_size);
	if (call->data_size) {
		m->data = malloc(call->data_size);
		memcpy(m->data, call->data, call->data_size);
	}
	if (call->reply_data_max)
		m->reply_data = malloc(call->reply_data_max);
	m->req = (struct request){
		.op = call->op,
		.bucket = call->bucket,
		.flags = call->flags,
		.slot = call->slot,
		.seq = call->seq,
		.session = call->session,
		.deadline_us = m->timeout_us,
		.cred = *call->cred,
		.body = m->body,
		.body_size = call->body_size,
		.data = m->data,
		.data_size = call->data_size,
		.reply = m->reply,
		.reply_data = m->reply_data,
		.reply_data_max = call->reply_data_max,
		.done = message_served,
	};
	list_push_back(&w->messages, &m->link);
	return m;
}

static void message_send(struct world *w, uint32_t from, uint32_t via, uint32_t to,
	uint32_t bucket_epoch, struct rpc_call *call)
{
	struct message *m = message_new(w, from, via, to, call);

	m->req.bucket_epoch = bucket_epoch;
	if (call->op == w->late_op && w->late_after-- == 0) {
		m->due_us = now_of(w) + w->late_us;
		w->late_op = 0;
	}
	/* A step of an open's way that comes again when the way has been gone may make a
	 * file: that is known, and not looked for. */
	if (call->op == OP_OPEN && m->due_us > now_of(w) + OPEN_LATEST_US)
		m->due_us = now_of(w) + OPEN_LATEST_US;
	if (to != UINT32_MAX && call->op != OP_OPEN && chance(w, w->net.doubled)) {
		struct message *twin = message_new(w, from, via, to, call);

		twin->call = NULL;
		twin->req.bucket_epoch = bucket_epoch;
		twin->incarnation = w->shards[to].incarnation;
		twin->due_us += world_random(w) % (w->net.late_us + 1);
		w->net.doubled_count++;
	}
	if (to == UINT32_MAX) {
		m->to = 0;
		message_return(m, -ENOMEM);
	} else {
		m->incarnation = w->shards[to].incarnation;
	}
}

static uint32_t target_of(const struct map *map, const struct rpc_call *call)
{
	if (call->flags & HEAD_TO_SHARD)
		return call->bucket < map->shard_count ? call->bucket : UINT32_MAX;
	return call->bucket < map->bucket_count ? map->buckets[call->bucket].primary
						: UINT32_MAX;
}

/* A shard's calls. */
static void shard_send(void *ctx, struct rpc_call *call)
{
	struct world_shard *ws = ctx;
	uint32_t target = target_of(ws->map, call);
	struct request *req;

	list_init(&call->link);
	if (target != ws->number)
		message_send(ws->w, ws->number, WORLD_VIA_NONE, target, 0, call);
	else if (shard_delivery(&ws->clock.env, call, &req) == 0)
		list_push_back(&ws->local, &req->link);
	else
		message_send(ws->w, ws->number, WORLD_VIA_NONE, UINT32_MAX, 0,
			call);
}

/* What each shard says of itself, as if there were always a reply just in. */
static uint32_t shard_fill_of(void *ctx, uint32_t shard)
{
	const struct world_shard *ws = &((struct world_shard *)ctx)->w->shards[shard];

	return ws->alive ? shard_fill(ws->shard) : 0;
}

void world_call_send(struct world *w, uint32_t via, struct rpc_call *call)
{
	const struct map *map = w->map;

	if (via != WORLD_VIA_NONE && !w->shards[via].alive)
		via = WORLD_VIA_NONE;
	if (via != WORLD_VIA_NONE)
		map = w->shards[via].map;
	message_send(w, WORLD_CLIENT, via, target_of(map, call),
		call->flags & HEAD_TO_SHARD ? 0 : map->buckets[call->bucket].epoch, call);
}

static void reply_deliver(struct world *w, struct message *m)
{
	if (m->call && message_lost(w, m->to, message_origin(m))) {
		message_lose(m);
		return;
	}
	if (m->call) {
		if (m->from != WORLD_CLIENT)
			w->shards[m->from].message_count++;
		if (m->status == 0 && m->req.reply_data_size)
			memcpy(m->call->reply_data, m->reply_data,
				m->req.reply_data_size);
		if (m->status == 0)
			check_eq(wire_body_check(m->req.op, m->reply, m->req.reply_size,
					 true),
				0, "bad reply of op %s", wire_op_name(m->req.op));
		message_end(m, m->status);
	}
	message_free(m);
}

static void message_deliver(struct world *w, struct message *m)
{
	uint64_t now = now_of(w);
	struct world_shard *ws;

	if (m->is_reply && m->from != WORLD_CLIENT && w->shards[m->from].frozen) {
		m->due_us = now + FROZEN_US;
		return;
	}
	if (m->is_reply) {
		reply_deliver(w, m);
		return;
	}
	ws = &w->shards[m->to];
	if (message_lost(w, message_origin(m), m->to)) {
		message_lose(m);
		return;
	}
	if (!ws->alive || ws->incarnation != m->incarnation) {
		if (w->net.silent)
			message_lose(m);
		else
			message_return(m, -EIO);
		return;
	}
	if (ws->frozen) { /* it waits in the socket */
		m->due_us = now + FROZEN_US;
		return;
	}
	m->served = true;
	m->req.deadline_us = world_shard_now_us(ws) +
			     (m->timeout_us > now ? m->timeout_us - now : 0);
	ws->message_count++;
	shard_handle(ws->shard, &m->req);
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

static bool caller_frozen(const struct world *w, const struct message *m)
{
	return m->from != WORLD_CLIENT && w->shards[m->from].frozen;
}

/* One message that is due, or one timeout. */
static bool messages_step(struct world *w)
{
	uint64_t now = now_of(w);
	struct message *first = NULL;

	list_for_each(it, tmp, &w->messages)
	{
		struct message *m = container_of(it, struct message, link);

		if (m->call && m->timeout_us <= now && !caller_frozen(w, m)) {
			message_end(m, -ETIMEDOUT);
			return true;
		}
		if (m->lost && !m->call) {
			message_free(m);
			continue;
		}
		if (!m->served && m->due_us <= now &&
			(!first || m->due_us < first->due_us))
			first = m;
	}
	if (first)
		message_deliver(w, first);
	return first != NULL;
}

static uint64_t messages_next_us(struct world *w)
{
	uint64_t next = UINT64_MAX;

	list_for_each(it, tmp, &w->messages)
	{
		struct message *m = container_of(it, struct message, link);

		if (m->call && m->timeout_us < next && !caller_frozen(w, m))
			next = m->timeout_us;
		if (!m->served && m->due_us < next)
			next = m->due_us;
	}
	return next;
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
			.send = shard_send,
			.fill_of = shard_fill_of,
			.ctx = ws,
		};
		ws->incarnation++;
		ws->next_us = 0;
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
			message_end(m, -ESHUTDOWN);
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
	memset(ws->device_uuid, 0x40 + (int)ws->number, 16);
	ws->device_uuid[0] = (uint8_t)++ws->device_count;
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
	ws->clock = (struct world_clock){.env.ops = &clock_ops, .w = w};
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
			message_end(m, -ESHUTDOWN);
		message_free(m);
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
	busy = messages_step(w);
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
	if (messages_next_us(w) < next)
		next = messages_next_us(w);
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

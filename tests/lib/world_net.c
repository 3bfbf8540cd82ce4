/*
 * The network of the world: a message for each call, which may take its time, come twice,
 * get lost on a link that is cut, or wait where a node stands still; and the clocks.
 */
#include "tests/lib/world_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FROZEN_US      20000u
#define OPEN_LATEST_US 30000u

/* --- clocks --- */

static uint64_t clock_now_us(struct env *env)
{
	const struct world_clock *c = container_of(env, struct world_clock, env);
	int64_t now = (int64_t)world_now_us(c->w);

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

const struct env_ops world_clock_ops = {
	.now_us = clock_now_us, .wall_ns = clock_wall_ns, .random = clock_random};

uint64_t world_shard_now_us(const struct world_shard *ws)
{
	return clock_now_us((struct env *)&ws->clock.env);
}

/* --- messages --- */

void world_message_free(struct message *m)
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
	return world_now_us(w) + delay;
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
		world_message_free(m);
		return;
	}
	m->lost = true;
	m->due_us = UINT64_MAX;
}

void world_message_end(struct message *m, int status)
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
	m->timeout_us = world_now_us(w) + (uint64_t)call->timeout_ms * 1000;
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
	m->req = request_of_call(call);
	m->req.deadline_us = m->timeout_us;
	m->req.body = m->body;
	m->req.data = m->data;
	m->req.reply = m->reply;
	m->req.reply_data = m->reply_data;
	m->req.done = message_served;
	list_push_back(&w->messages, &m->link);
	return m;
}

static void message_send(struct world *w, uint32_t from, uint32_t via, uint32_t to,
	uint32_t bucket_epoch, struct rpc_call *call)
{
	struct message *m = message_new(w, from, via, to, call);

	m->req.bucket_epoch = bucket_epoch;
	if (call->op == w->late_op && w->late_after-- == 0) {
		m->due_us = world_now_us(w) + w->late_us;
		w->late_op = 0;
	}
	/* A step of an open's way that comes again when the way has been gone may make a
	 * file: that is known, and not looked for. */
	if (call->op == OP_OPEN && m->due_us > world_now_us(w) + OPEN_LATEST_US)
		m->due_us = world_now_us(w) + OPEN_LATEST_US;
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

static uint32_t epoch_of(const struct map *map, const struct rpc_call *call)
{
	return call->flags & HEAD_TO_SHARD ? 0 : map->buckets[call->bucket].epoch;
}

void world_shard_send(void *ctx, struct rpc_call *call)
{
	struct world_shard *ws = ctx;
	uint32_t target = target_of(ws->map, call);
	struct request *req;

	list_init(&call->link);
	if (target != ws->number)
		message_send(ws->w, ws->number, WORLD_VIA_NONE, target,
			epoch_of(ws->map, call), call);
	else if (shard_delivery(&ws->clock.env, call, &req) == 0)
		list_push_back(&ws->local, &req->link);
	else
		message_send(ws->w, ws->number, WORLD_VIA_NONE, UINT32_MAX, 0,
			call);
}

void world_call_send(struct world *w, uint32_t via, struct rpc_call *call)
{
	const struct map *map = w->map;

	if (via != WORLD_VIA_NONE && !w->shards[via].alive)
		via = WORLD_VIA_NONE;
	if (via != WORLD_VIA_NONE)
		map = w->shards[via].map;
	message_send(w, WORLD_CLIENT, via, target_of(map, call),
		epoch_of(map, call), call);
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
		world_message_end(m, m->status);
	}
	world_message_free(m);
}

static void message_deliver(struct world *w, struct message *m)
{
	uint64_t now = world_now_us(w);
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

static bool caller_frozen(const struct world *w, const struct message *m)
{
	return m->from != WORLD_CLIENT && w->shards[m->from].frozen;
}

bool world_messages_step(struct world *w)
{
	uint64_t now = world_now_us(w);
	struct message *first = NULL;

	list_for_each(it, tmp, &w->messages)
	{
		struct message *m = container_of(it, struct message, link);

		if (m->call && m->timeout_us <= now && !caller_frozen(w, m)) {
			world_message_end(m, -ETIMEDOUT);
			return true;
		}
		if (m->lost && !m->call) {
			world_message_free(m);
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

uint64_t world_messages_next_us(struct world *w)
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

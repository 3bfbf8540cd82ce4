/* Routing by bucket. */
#include "core/wfsd/router.h"

#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/shard/opens.h"

/* A local program's request on its way to another node. */
struct forward {
	struct rpc_call call;
	struct request *req;
};

void router_init(struct router *r, struct env *env, const struct map *map, uint32_t self)
{
	*r = (struct router){.env = env, .map = map, .self = self};
	list_init(&r->queue);
	list_init(&r->failed);
	list_init(&r->again);
}

/* The shard number, or UINT32_MAX when there is none. */
static uint32_t target_of(const struct router *r, uint16_t flags, uint16_t bucket)
{
	if (flags & HEAD_TO_SHARD)
		return bucket < r->map->shard_count ? bucket : UINT32_MAX;
	return bucket < r->map->bucket_count ? r->map->buckets[bucket].primary
					     : UINT32_MAX;
}

static uint32_t epoch_of(const struct router *r, uint16_t flags, uint16_t bucket)
{
	return flags & HEAD_TO_SHARD ? 0 : r->map->buckets[bucket].epoch;
}

void router_send(void *ctx, struct rpc_call *call)
{
	struct router *r = ctx;
	uint32_t target = target_of(r, call->flags, call->bucket);
	struct request *req;

	list_init(&call->link);
	if (target == r->self && shard_delivery(r->env, call, &req) == 0)
		list_push_back(&r->queue, &req->link);
	else if (target == r->self || target == UINT32_MAX)
		list_push_back(&r->failed, &call->link);
	else
		rpc_send(r->rpc, target, call, r->map->epoch,
			epoch_of(r, call->flags, call->bucket));
}

uint32_t router_fill_of(void *ctx, uint32_t shard)
{
	struct router *r = ctx;

	return shard == r->self ? shard_fill(r->shard) : rpc_peer_fill(r->rpc, shard);
}

static void forward_done(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct forward *f = container_of(call, struct forward, call);
	struct request *req = f->req;

	if (status == 0) {
		memcpy(req->reply, reply, reply_size);
		req->reply_size = reply_size;
		req->reply_data_size = reply_data_size;
	}
	mem_free(f);
	req->done(req, status);
}

static void forward(struct router *r, struct request *req, uint32_t target)
{
	uint64_t now = env_now_us(r->env);
	struct forward *f;

	if (req->deadline_us <= now) {
		req->done(req, -ETIMEDOUT);
		return;
	}
	f = mem_alloc(sizeof(*f));
	if (!f) {
		req->done(req, -ENOMEM);
		return;
	}
	f->req = req;
	f->call = (struct rpc_call){
		.op = req->op,
		.bucket = req->bucket,
		.flags = req->flags & HEAD_TO_SHARD,
		.slot = req->slot,
		.seq = req->seq,
		.session = req->session,
		.timeout_ms = (uint32_t)((req->deadline_us - now) / 1000 + 1),
		.cred = &req->cred,
		.body = req->body,
		.body_size = req->body_size,
		.data = req->data,
		.data_size = req->data_size,
		.reply_data = req->reply_data,
		.reply_data_max = req->reply_data_max,
		.done = forward_done,
	};
	rpc_send(r->rpc, target, &f->call, r->map->epoch,
		epoch_of(r, req->flags, req->bucket));
}

void router_submit(void *ctx, struct request *req)
{
	struct router *r = ctx;
	uint32_t target = target_of(r, req->flags, req->bucket);

	if (target == UINT32_MAX)
		req->done(req, -EINVAL);
	else if (target == r->self)
		shard_handle(r->shard, req);
	else
		forward(r, req, target);
}

void router_session_ended(void *ctx, uint64_t session)
{
	static const struct cred nobody;
	struct router *r = ctx;

	shard_session_end(r->shard, session);
	if (r->held)
		open_table_end(r->held, session, 1);
	for (uint32_t i = 0; i < r->map->shard_count; i++) {
		struct rpc_call *call;

		if (i == r->self)
			continue;
		call = mem_zalloc(sizeof(*call));
		if (!call)
			return;
		*call = (struct rpc_call){
			.op = OP_SESSION_END,
			.bucket = (uint16_t)i,
			.flags = HEAD_TO_SHARD,
			.session = session,
			.timeout_ms = r->map->timeout_ms,
			.cred = &nobody,
			.body = "",
			.done = rpc_call_forget,
		};
		router_send(r, call);
	}
}

static uint32_t owner_of(void *ctx, uint16_t bucket)
{
	return target_of(ctx, 0, bucket);
}

void router_map_set(struct router *r, const struct map *map)
{
	const struct map *before = r->map;

	r->map = map;
	held_map_changed(r, before);
	rpc_owners_changed(r->rpc, owner_of, r);
}

unsigned router_poll(struct router *r)
{
	struct list ready;
	unsigned count = 0;

	list_init(&ready);
	list_splice_back(&ready, &r->queue);
	while (!list_empty(&ready)) {
		struct request *req = list_first(&ready, struct request, link);

		list_remove(&req->link);
		shard_handle(r->shard, req);
		count++;
	}
	list_splice_back(&ready, &r->failed);
	while (!list_empty(&ready)) {
		struct rpc_call *call = list_first(&ready, struct rpc_call, link);

		list_remove(&call->link);
		call->done(call, -ENOMEM, NULL, 0, 0);
		count++;
	}
	return count;
}

/*
 * What the programs of this host hold open.
 *
 * A file without a name lives while its owner knows of somebody who has it open. That
 * knowledge is in memory and dies with the owner; so each host keeps what its own
 * programs hold, and says it again (OP_REOPEN) to the new primary of a bucket, which
 * waits for that before it lets orphans go (bucket_state.grace_until_us).
 */
#include "core/wfsd/router.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "core/shard/opens.h"

#define AGAIN_US      100000u
#define GIVE_UP_US    60000000u
#define CALL_LIMIT_MS 2000u

struct held_call {
	struct rpc_call call;
	struct router *r;
	struct list link; /* router.again */
	ino_id ino;
	uint64_t session;
	uint64_t again_us;
	uint64_t until_us;
};

void router_answered(void *ctx, const struct request *req)
{
	struct router *r = ctx;
	const struct wire_walk_reply *wr = req->reply;
	const struct wire_reopen *reopen = req->body;

	if (req->op != OP_OPEN && req->op != OP_CLOSE && req->op != OP_REOPEN)
		return;
	if (!r->held && open_table_new(&r->held) < 0)
		return;
	if (req->op == OP_CLOSE)
		open_table_remove(r->held, req->session,
			le64_get(((const struct wire_ino *)req->body)->ino));
	else if (req->op == OP_REOPEN)
		open_table_raise(r->held, req->session, le64_get(reopen->ino),
			le32_get(reopen->count));
	else if (wr->end == WIRE_DONE && wr->flags & WIRE_WALK_HAS_ATTR &&
		S_ISREG(le32_get(wr->attr.mode)))
		open_table_add(r->held, req->session, le64_get(wr->attr.ino));
}

static void held_told(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct held_call *hc = container_of(call, struct held_call, call);
	struct router *r = hc->r;
	uint64_t now = env_now_us(r->env);

	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	if (status == 0 || status == -ESTALE || now >= hc->until_us ||
		open_table_count(r->held, hc->session, hc->ino) == 0) {
		mem_free(hc);
		return;
	}
	hc->again_us = now + AGAIN_US;
	list_push_back(&r->again, &hc->link);
}

static void held_say(struct held_call *hc)
{
	static const struct cred nobody;
	struct router *r = hc->r;
	struct wire_reopen body = {.ino = le64_put(hc->ino),
		.count = le32_put(open_table_count(r->held, hc->session, hc->ino))};

	if (le32_get(body.count) == 0) {
		mem_free(hc);
		return;
	}
	hc->call = (struct rpc_call){
		.op = OP_REOPEN,
		.bucket = ino_bucket(hc->ino),
		.session = hc->session,
		.timeout_ms = CALL_LIMIT_MS,
		.cred = &nobody,
		.body = &body,
		.body_size = sizeof(body),
		.done = held_told,
	};
	router_send(r, &hc->call);
}

struct change {
	struct router *r;
	const struct map *before;
};

static void held_one(void *ctx, const struct open_held *held)
{
	const struct change *change = ctx;
	struct router *r = change->r;
	uint16_t bucket = ino_bucket(held->ino);
	struct held_call *hc;

	if (held->until_us ||
		r->map->buckets[bucket].epoch == change->before->buckets[bucket].epoch)
		return;
	hc = mem_zalloc(sizeof(*hc));
	if (!hc)
		return;
	hc->r = r;
	hc->ino = held->ino;
	hc->session = held->session;
	hc->again_us = env_now_us(r->env);
	hc->until_us = hc->again_us + GIVE_UP_US;
	list_push_back(&r->again, &hc->link);
}

void held_map_changed(struct router *r, const struct map *before)
{
	struct change change = {.r = r, .before = before};

	if (r->held)
		open_table_each(r->held, held_one, &change);
}

uint64_t held_poll(struct router *r)
{
	uint64_t now, next, soonest = UINT64_MAX;

	if (r->held) {
		next = UINT64_MAX;
		open_table_expire(r->held, UINT64_MAX, &next);
	}
	if (list_empty(&r->again))
		return UINT64_MAX;
	now = env_now_us(r->env);
	list_for_each(it, tmp, &r->again)
	{
		struct held_call *hc = container_of(it, struct held_call, link);

		if (hc->again_us > now) {
			if (hc->again_us - now < soonest)
				soonest = hc->again_us - now;
			continue;
		}
		list_remove(&hc->link);
		held_say(hc);
	}
	return soonest;
}

void held_free(struct router *r)
{
	while (!list_empty(&r->again)) {
		struct held_call *hc = list_first(&r->again, struct held_call, link);

		list_remove(&hc->link);
		mem_free(hc);
	}
	open_table_free(r->held);
	r->held = NULL;
}

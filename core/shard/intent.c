/*
 * Transactions: the participant's side.
 *
 * A part prepared here is an intent in the index, and its inodes are locked until the
 * coordinator says how it ended. If nobody says, because the coordinator died, was cut
 * off or forgot to, we ask the owner of its bucket: no decision there means abort.
 */
#include "core/shard/txn.h"

#include <errno.h>
#include <string.h>

#include "core/base/mem.h"

#define INTENT_PATIENCE_US 2000000u
#define INTENT_ASK_US      1000000u

/* A part prepared here whose outcome is not known yet. */
struct intent_watch {
	struct list link;
	struct shard *s;
	uint64_t txid;
	uint16_t bucket;
	uint64_t ask_us; /* when to ask the coordinator */
	bool asking;
	bool commit;     /* the outcome, once own_resolve runs */
	struct rpc_call call;
};

static const struct cred root_cred;

static struct intent_watch *watch_find(struct shard *s, uint64_t txid, uint16_t bucket)
{
	list_for_each(it, tmp, &s->intents)
	{
		struct intent_watch *w = container_of(it, struct intent_watch, link);

		if (w->txid == txid && w->bucket == bucket)
			return w;
	}
	return NULL;
}

int intent_watch(struct shard *s, uint64_t txid, uint16_t bucket, uint64_t patience_us)
{
	struct intent_watch *w = watch_find(s, txid, bucket);

	if (w)
		return 0;
	w = mem_zalloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->s = s;
	w->txid = txid;
	w->bucket = bucket;
	w->ask_us = env_now_us(s->env) + patience_us;
	list_push_back(&s->intents, &w->link);
	return 0;
}

static void watch_drop(struct intent_watch *w)
{
	if (!w)
		return;
	list_remove(&w->link);
	/* The question under way frees it when it ends. */
	if (!w->asking)
		mem_free(w);
	else
		w->txid = 0;
}

void intent_ended(struct shard *s, uint64_t txid, uint16_t bucket)
{
	watch_drop(watch_find(s, txid, bucket));
}

void intent_bucket_gone(struct shard *s, uint16_t bucket)
{
	list_for_each(it, tmp, &s->intents)
	{
		struct intent_watch *w = container_of(it, struct intent_watch, link);

		if (w->bucket == bucket)
			watch_drop(w);
	}
}

/* The participant's part of an rmdir or unlink, which needs no room. */
bool prepare_deletes(const struct request *req)
{
	const struct wire_txn *wt = req->body;
	struct part part;

	if (part_decode(wt + 1, req->body_size - sizeof(*wt), &part) < 0)
		return false;
	for (uint32_t i = 0; i < part.step_count; i++) {
		enum step_type type = part.steps[i].type;

		if (type != STEP_ENTRY_REMOVE && type != STEP_INODE_UNLINK &&
			type != STEP_INODE_RMDIR)
			return false;
	}
	return true;
}

/*
 * What was resolved is not prepared again: a message that comes twice, or after what
 * followed it, would leave an intent that its coordinator knows nothing of, or carry it
 * out once more. In memory only, as in once.c: what comes late comes to who has seen it.
 */
static bool resolved_before(const struct shard *s, uint64_t txid)
{
	for (uint32_t i = 0; i < RESOLVED_KEPT; i++)
		if (s->resolved[i] == txid)
			return true;
	return false;
}

static void resolved_note(struct shard *s, uint64_t txid)
{
	if (!resolved_before(s, txid))
		s->resolved[s->resolved_count++ % RESOLVED_KEPT] = txid;
}

int op_prepare(struct exec *x, struct meta_call *c)
{
	const struct wire_txn *wt = x->req->body;
	struct wire_ino *reply = x->req->reply;
	uint64_t txid = le64_get(wt->txid);
	struct part part;
	ino_id new_ino = 0;
	int rc = part_decode(wt + 1, x->req->body_size - sizeof(*wt), &part);

	if (rc < 0 || part.bucket != x->req->bucket || txid == 0)
		return -EPROTO;
	if (resolved_before(x->s, txid))
		return -ECANCELED;
	c->now_ns = (int64_t)le64_get(wt->now_ns);
	rc = intent_watch(x->s, txid, part.bucket, INTENT_PATIENCE_US);
	if (rc == 0)
		rc = meta_prepare(x->s->meta, c, txid, &part, &new_ino);
	if (rc == -EINPROGRESS)
		rc = -EAGAIN; /* nobody waits while it is waited for */
	if (rc < 0)
		return rc;
	x->txid = txid;
	x->prepared = true;
	*reply = (struct wire_ino){.ino = le64_put(new_ino)};
	x->req->reply_size = sizeof(*reply);
	return 0;
}

static int resolve(struct exec *x, struct meta_call *c, uint64_t txid, uint16_t bucket,
	bool commit)
{
	bool purge = false;
	int rc = meta_resolve(x->s->meta, c->batch, bucket, txid, commit, &purge);

	if (rc == -ENOENT)
		rc = 0;
	if (rc < 0)
		return rc;
	resolved_note(x->s, txid);
	x->txid = txid;
	x->unlock = true;
	if (purge)
		purge_kick(x->s);
	return 0;
}

int op_resolve(struct exec *x, struct meta_call *c)
{
	const struct wire_txn *wt = x->req->body;

	return resolve(x, c, le64_get(wt->txid), x->req->bucket,
		wt->outcome == TXN_COMMIT);
}

int op_txn_status(struct exec *x, struct meta_call *c)
{
	const struct wire_txn *wt = x->req->body;
	struct wire_txn *reply = x->req->reply;
	uint64_t txid = le64_get(wt->txid);
	int rc = meta_decision(x->s->meta, txid);

	(void)c;
	if (rc < 0)
		return rc;
	*reply = (struct wire_txn){
		.txid = wt->txid, .outcome = rc == 1 ? TXN_COMMIT : TXN_ABORT};
	list_for_each(it, tmp, &x->s->txns)
	{
		struct txn *t = container_of(it, struct txn, link);

		if (rc == 0 && t->txid == txid &&
			(t->stage == TXN_PREPARE || t->stage == TXN_DECIDE))
			reply->outcome = TXN_PENDING;
	}
	x->req->reply_size = sizeof(*reply);
	return 0;
}

static void own_resolve_start(struct exec *x)
{
	struct meta_call c;
	int rc = exec_begin(x, x->bucket, 0, true);

	if (rc == -EINPROGRESS)
		return;
	if (rc < 0) {
		exec_finish_now(x, rc);
		return;
	}
	shard_call_init(x->s, &root_cred, &c);
	exec_conclude(x, resolve(x, &c, x->txid, x->bucket, x->status == TXN_COMMIT));
}

static void own_resolve(struct shard *s, uint64_t txid, uint16_t bucket, uint8_t outcome)
{
	static const struct op_desc op = {.start = own_resolve_start};
	struct exec *x = exec_new(s, NULL);

	if (!x)
		return; /* it will be asked again */
	x->op = &op;
	x->txid = txid;
	x->bucket = bucket;
	x->status = outcome;
	exec_start(x);
}

static void watch_told(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct intent_watch *w = container_of(call, struct intent_watch, call);
	const struct wire_txn *wt = reply;
	struct shard *s = w->s;

	(void)reply_data_size;
	w->asking = false;
	if (w->txid == 0) {
		mem_free(w);
		return;
	}
	w->ask_us = env_now_us(s->env) + INTENT_ASK_US;
	if (status == 0 && reply_size == sizeof(*wt) && wt->outcome != TXN_PENDING)
		own_resolve(s, w->txid, w->bucket, wt->outcome);
}

static void watch_ask(struct intent_watch *w)
{
	struct wire_txn body = {.txid = le64_put(w->txid)};

	w->asking = true;
	w->call = (struct rpc_call){
		.op = OP_TXN_STATUS,
		.bucket = txid_bucket(w->txid),
		.timeout_ms = w->s->map->timeout_ms,
		.cred = &root_cred,
		.body = &body,
		.body_size = sizeof(body),
		.done = watch_told,
	};
	w->s->send(w->s->ctx, &w->call);
}

void intent_poll(struct shard *s, uint64_t *next_us)
{
	uint64_t now;

	if (list_empty(&s->intents))
		return;
	now = env_now_us(s->env);
	list_for_each(it, tmp, &s->intents)
	{
		struct intent_watch *w = container_of(it, struct intent_watch, link);

		if (w->asking)
			continue;
		if (w->ask_us <= now)
			watch_ask(w);
		else
			soon(next_us, now, w->ask_us);
	}
}

void intent_free_all(struct shard *s)
{
	while (!list_empty(&s->intents)) {
		struct intent_watch *w = list_first(&s->intents, struct intent_watch, link);

		list_remove(&w->link);
		mem_free(w);
	}
}

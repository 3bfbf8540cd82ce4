/*
 * Transactions: driving the parts of core/shard/plan.c to a common end.
 *
 * The coordinator's record with the decision is the commit point; it is answered when
 * that record is durable, while the participants still hold their locks, so nobody sees
 * the one side without the other. meta/part.h tells the protocol, core/shard/txn.h draws
 * the states. The participants' side is core/shard/intent.c.
 */
#include "core/shard/txn.h"

#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/mutate.h"
#include "core/shard/member.h"
#include "core/shard/reply.h"

#define RETRY_MIN_US       1000u
#define RETRY_SPREAD_US    8000u
#define RESOLVE_RETRY_US   250000u
#define STALE_TRIES        16
#define ABORT_TIMEOUT_MS   1000u

static const struct cred root_cred;

static void txn_advance(struct txn *t, int rc);
static void txn_confirm(struct txn *t);
static void txn_decide(struct txn *t);
static void txn_abort(struct txn *t, int status);
static void resolve_send_all(struct txn *t, bool commit);

void soon(uint64_t *next_us, uint64_t now, uint64_t at)
{
	uint64_t wait = at > now ? at - now : 0;

	if (wait < *next_us)
		*next_us = wait;
}

/* --- life --- */

static struct txn *txn_new(struct shard *s, struct exec *x)
{
	struct txn *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	t->s = s;
	t->x = x;
	list_push_back(&s->txns, &t->link);
	for (uint32_t i = 0; i < TXN_PARTS_MAX; i++)
		t->calls[i].t = t;
	return t;
}

static void txn_free(struct txn *t)
{
	if (t->x)
		t->x->txn = NULL;
	list_remove(&t->link);
	mem_free(t);
}

static bool txn_busy(const struct txn *t)
{
	for (uint32_t i = 0; i < TXN_PARTS_MAX; i++)
		if (t->calls[i].busy)
			return true;
	return false;
}

static uint64_t txid_new(struct shard *s, uint16_t bucket)
{
	return ((uint64_t)bucket << 48) | (env_random(s->env) >> 16) | 1;
}

void txn_send(struct txn *t, uint32_t i, uint16_t op, uint16_t bucket, const void *body,
	uint32_t body_size,
	void (*done)(struct rpc_call *call, int status, const void *reply,
		uint32_t reply_size, uint32_t reply_data_size))
{
	struct txn_call *tc = &t->calls[i];
	uint64_t timeout_ms = ABORT_TIMEOUT_MS;

	if (t->x)
		timeout_ms = exec_timeout_ms(t->x);
	if (timeout_ms > t->s->map->timeout_ms)
		timeout_ms = t->s->map->timeout_ms;
	tc->call = (struct rpc_call){
		.op = op,
		.bucket = bucket,
		.session = t->x ? t->x->req->session : 0,
		.slot = t->x ? t->x->req->slot : 0,
		.seq = t->x ? t->x->req->seq : 0,
		.timeout_ms = (uint32_t)timeout_ms,
		.cred = op == OP_PREPARE ? &t->x->req->cred : &root_cred,
		.body = body,
		.body_size = body_size,
		.done = done,
	};
	tc->busy = true;
	t->s->send(t->s->ctx, &tc->call);
}

/* --- the rename lock --- */

/* Best effort: the lock expires by itself. */
static void rename_unlock(struct txn *t)
{
	struct wire_txn body = {.txid = le64_put(t->txid)};
	struct rpc_call *call;

	if (!t->rename_locked)
		return;
	t->rename_locked = false;
	call = mem_zalloc(sizeof(*call));
	if (!call)
		return;
	*call = (struct rpc_call){
		.op = OP_RENAME_UNLOCK,
		.bucket = ino_bucket(WFS_ROOT_INO),
		.timeout_ms = ABORT_TIMEOUT_MS,
		.cred = &root_cred,
		.body = &body,
		.body_size = sizeof(body),
		.done = rpc_call_forget,
	};
	t->s->send(t->s->ctx, call);
}

int op_rename_lock(struct exec *x, struct meta_call *c)
{
	const struct wire_txn *wt = x->req->body;
	struct shard *s = x->s;
	uint64_t now = env_now_us(s->env);

	bool held = s->rename_txid && now < s->rename_until_us;
	bool ours = s->rename_txid == le64_get(wt->txid);

	(void)c;
	if (wt->outcome == TXN_COMMIT && !(held && ours))
		return -EAGAIN; /* asked whether it still holds the lock: no */
	if (held && !ours)
		return -EAGAIN;
	s->rename_txid = le64_get(wt->txid);
	s->rename_until_us = now + 2000ull * s->map->timeout_ms;
	return 0;
}

int op_rename_unlock(struct exec *x, struct meta_call *c)
{
	const struct wire_txn *wt = x->req->body;

	(void)c;
	if (x->s->rename_txid == le64_get(wt->txid))
		x->s->rename_txid = 0;
	return 0;
}

/* --- ends --- */

/* Answer without a decision. */
static void txn_fail(struct txn *t, int rc)
{
	struct exec *x = t->x;

	rename_unlock(t);
	txn_free(t);
	if (rc == -EINPROGRESS)
		exec_park(x);
	else
		exec_finish(x, rc);
}

static void txn_retry(struct txn *t, int rc)
{
	uint64_t now = env_now_us(t->s->env);

	rename_unlock(t);
	if (now >= t->x->req->deadline_us) {
		txn_fail(t, -ETIMEDOUT);
		return;
	}
	if (rc == -ESTALE && ++t->error > STALE_TRIES) {
		txn_fail(t, -ENOENT);
		return;
	}
	t->stage = TXN_RETRY;
	t->retry_us = now + RETRY_MIN_US + env_random(t->s->env) % RETRY_SPREAD_US;
}

/* An exec ends while its transaction is there: the shard closes, or the log failed. */
void txn_exec_gone(struct exec *x)
{
	struct txn *t = x->txn;

	x->txn = NULL;
	t->x = NULL;
	if (t->stage != TXN_RESOLVE && !txn_busy(t))
		txn_free(t);
}

static void mkdir_reply(struct txn *t)
{
	struct request *req = t->x->req;

	if (req->op == OP_MKDIR) {
		path_reply(t->x, &t->new_dir, WIRE_WALK_CREATED);
		((struct wire_walk_reply *)req->reply)->end = WALK_DONE;
	} else if (req->op == OP_RENAME) {
		req->reply_size = 0;
	}
}

/* --- one bucket: one record --- */

static void single_committed(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);

	exec_finish_now(x, status);
}

static bool part_deletes(const struct exec *x)
{
	return x->req->op == OP_UNLINK || x->req->op == OP_RMDIR;
}

/* Build and commit the coordinator's part, alone or with the decision. */
static int own_part_commit(struct txn *t, void (*done)(struct store_record *r, int status))
{
	struct shard *s = t->s;
	struct exec *x = t->x;
	uint16_t buckets[TXN_PARTS_MAX];
	struct meta_call c;
	bool purge = false;
	int rc = exec_begin(x, t->parts[0].bucket, 0, part_deletes(x));

	if (rc < 0)
		return rc;
	shard_call_init(s, &x->req->cred, &c);
	c.now_ns = t->now_ns;
	for (uint32_t i = 1; i < t->part_count; i++)
		buckets[i - 1] = t->parts[i].bucket;
	rc = meta_part_build(s->meta, &c, t->txid, &t->parts[0], NULL, &purge);
	if (rc == 0 && t->part_count > 1)
		rc = meta_decide(s->meta, c.batch, t->txid, buckets, t->part_count - 1);
	if (rc == 0)
		rc = exec_commit(x, done);
	else
		meta_batch_dropped(s->meta);
	if (rc < 0 && x->begun)
		exec_abort(x);
	if (rc == 0 && purge)
		purge_kick(s);
	return rc;
}

static void txn_single(struct txn *t)
{
	int rc;

	t->stage = TXN_DECIDE;
	t->txid = 0;
	mkdir_reply(t);
	rc = own_part_commit(t, single_committed);
	if (rc == 0 || rc == -EINPROGRESS) /* on its way, or waiting for room */
		return;
	if (rc == -EAGAIN)
		txn_fail(t, -EINPROGRESS);
	else if (rc == -ESTALE)
		txn_retry(t, rc);
	else
		txn_fail(t, rc);
}

/* --- prepare --- */

static void part_prepared(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);
	struct txn *t = tc->t;
	const struct wire_ino *wi = reply;

	(void)reply_data_size;
	tc->busy = false;
	t->outstanding--;
	if (!t->x) {
		if (!txn_busy(t))
			txn_free(t);
		return;
	}
	if (status == 0 && t->x->req->op == OP_MKDIR) {
		if (reply_size == sizeof(*wi))
			t->new_dir.ino = le64_get(wi->ino);
		else
			status = -EIO;
	}
	/* A real refusal says more than "try again". */
	if (status < 0 && (t->error >= 0 || t->error == -EAGAIN || t->error == -ESTALE))
		t->error = status;
	if (t->outstanding > 0)
		return;
	if (t->error < 0)
		txn_abort(t, t->error);
	else
		txn_confirm(t);
}

static void lock_confirmed(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);
	struct txn *t = tc->t;

	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	tc->busy = false;
	if (!t->x)
		txn_free(t);
	else if (status < 0)
		txn_abort(t, status);
	else
		txn_decide(t);
}

/*
 * All parts are prepared. The rename lock may be lost by now: its shard was restarted, or
 * it took too long. If it is still ours, nobody else has climbed since we did; and who
 * climbs from now on meets an inode that we hold, and waits.
 */
static void txn_confirm(struct txn *t)
{
	struct wire_txn body = {.txid = le64_put(t->txid), .outcome = TXN_COMMIT};

	if (t->rename_locked)
		txn_send(t, 0, OP_RENAME_LOCK, ino_bucket(WFS_ROOT_INO), &body,
			sizeof(body), lock_confirmed);
	else
		txn_decide(t);
}

static void txn_prepare(struct txn *t)
{
	struct wire_txn head = {.txid = le64_put(t->txid),
		.now_ns = le64_put((uint64_t)t->now_ns)};
	struct buf body;
	int rc = meta_lock(t->s->meta, t->txid, &t->parts[0]);

	if (rc < 0) {
		txn_fail(t, rc == -EAGAIN ? -EINPROGRESS : rc);
		return;
	}
	t->stage = TXN_PREPARE;
	t->error = 0;
	t->outstanding = t->part_count - 1;
	buf_init(&body);
	for (uint32_t i = 1; i < t->part_count; i++) {
		buf_reset(&body);
		buf_append(&body, &head, sizeof(head));
		rc = part_encode(&t->parts[i], &body);
		if (rc == 0)
			rc = buf_error(&body);
		if (rc < 0) {
			t->error = rc;
			t->outstanding--;
			continue;
		}
		t->calls[i].sent = true;
		t->calls[i].resolved = false;
		txn_send(t, i, OP_PREPARE, t->parts[i].bucket, body.data,
			(uint32_t)body.size_bytes, part_prepared);
	}
	buf_release(&body);
	if (t->outstanding > 0)
		return;
	if (t->error < 0)
		txn_abort(t, t->error);
	else
		txn_confirm(t);
}

/* --- decide --- */

static void txn_decided(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);
	struct txn *t = x->txn;
	bool decided;

	if (!t) {
		exec_finish_now(x, status);
		return;
	}
	/* Answered so when the lease ran out for a moment: decided it is, all the same. */
	decided = status == 0 || (status == -EREMCHG && shard_owns(t->s, r->bucket) &&
					 r->bucket_epoch == t->s->buckets[r->bucket].epoch);
	rename_unlock(t);
	t->stage = TXN_RESOLVE;
	x->txn = NULL;
	t->x = NULL;
	exec_finish_now(x, status);
	if (decided && t->part_count > 1)
		resolve_send_all(t, true);
	else
		txn_free(t); /* done, or the log failed and recovery will know */
}

static void txn_decide(struct txn *t)
{
	int rc;

	t->stage = TXN_DECIDE;
	for (uint32_t i = 0; i < t->parts[0].step_count; i++) {
		struct step *step = &t->parts[0].steps[i];

		if (step->type == STEP_ENTRY_INSERT && t->new_dir.ino)
			step->ino = t->new_dir.ino;
	}
	mkdir_reply(t);
	rc = own_part_commit(t, txn_decided);
	if (rc == -EINPROGRESS)
		return; /* waits for room; txn_start comes back here */
	if (rc < 0) {
		txn_abort(t, rc);
		return;
	}
	/* Nobody is told before it is durable. */
	meta_unlock_bucket(t->s->meta, t->txid, t->parts[0].bucket);
}

/* --- resolve, abort --- */

static bool all_resolved(const struct txn *t)
{
	for (uint32_t i = 1; i < t->part_count; i++)
		if (!t->calls[i].resolved)
			return false;
	return true;
}

/* Not one that was taken up anew, when the bucket went away and came back. */
static struct txn *txn_forgetting(struct shard *s, uint64_t txid)
{
	list_for_each(it, tmp, &s->txns)
	{
		struct txn *t = container_of(it, struct txn, link);

		if (t->txid == txid && t->stage == TXN_FORGET)
			return t;
	}
	return NULL;
}

/* A decision that could not be forgotten is to be forgotten later. */
static void forget_end(struct exec *x, int rc)
{
	struct txn *t = txn_forgetting(x->s, x->txid);

	exec_finish_now(x, rc);
	if (!t) /* its bucket went to another shard meanwhile */
		return;
	if (rc == 0 || t->gone) {
		txn_free(t);
		return;
	}
	t->stage = TXN_RESOLVE;
	t->retry_us = env_now_us(t->s->env) + RESOLVE_RETRY_US;
}

static void forget_committed(struct store_record *r, int status)
{
	forget_end(container_of(r, struct exec, record), status);
}

static void forget_start(struct exec *x)
{
	struct shard *s = x->s;
	struct meta_call c;
	int rc = exec_begin(x, txid_bucket(x->txid), 0, true);

	if (rc == -EINPROGRESS)
		return;
	if (rc == 0) {
		shard_call_init(s, &root_cred, &c);
		rc = meta_forget(s->meta, c.batch, x->txid);
		if (rc == 0)
			rc = exec_commit(x, forget_committed);
	}
	if (rc < 0)
		forget_end(x, rc);
}

static void txn_forget(struct txn *t)
{
	static const struct op_desc op = {.start = forget_start};
	struct exec *x = exec_new(t->s, NULL);

	if (!x) {
		t->retry_us = env_now_us(t->s->env) + RESOLVE_RETRY_US;
		return;
	}
	t->stage = TXN_FORGET;
	x->op = &op;
	x->txid = t->txid;
	exec_start(x);
}

static void part_resolved(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);
	struct txn *t = tc->t;

	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	tc->busy = false;
	if (status == 0)
		tc->resolved = true;
	if (txn_busy(t))
		return;
	if (t->gone && !t->x) {
		txn_free(t);
		return;
	}
	if (t->stage == TXN_ABORTING) {
		int rc = t->error;

		if (!t->x)
			txn_free(t);
		else if (rc == -EAGAIN || rc == -ESTALE) {
			t->error = 0;
			txn_retry(t, rc);
		} else {
			txn_fail(t, rc);
		}
		return;
	}
	if (all_resolved(t))
		txn_forget(t);
	else
		t->retry_us = env_now_us(t->s->env) + RESOLVE_RETRY_US;
}

static void resolve_send_all(struct txn *t, bool commit)
{
	struct wire_txn body = {.txid = le64_put(t->txid),
		.outcome = commit ? TXN_COMMIT : TXN_ABORT};

	t->retry_us = UINT64_MAX;
	for (uint32_t i = 1; i < t->part_count; i++)
		if (!t->calls[i].resolved && !t->calls[i].busy)
			txn_send(t, i, OP_RESOLVE, t->parts[i].bucket, &body,
				sizeof(body), part_resolved);
}

static void txn_abort(struct txn *t, int status)
{
	meta_unlock_bucket(t->s->meta, t->txid, t->parts[0].bucket);
	t->stage = TXN_ABORTING;
	t->error = status == -EINPROGRESS ? -EAGAIN : status;
	for (uint32_t i = 1; i < t->part_count; i++)
		t->calls[i].resolved = !t->calls[i].sent;
	resolve_send_all(t, false);
	if (!txn_busy(t)) {
		/* Nothing had gone out. */
		t->calls[0].busy = false;
		part_resolved(&t->calls[0].call, 0, NULL, 0, 0);
	}
}

/* --- planning --- */

static void txn_advance(struct txn *t, int rc)
{
	if (rc == 0)
		rc = plan_next(t);
	if (rc == 1)
		return;
	if (rc == 2) {
		txn_fail(t, 0);
	} else if (rc == -EAGAIN || rc == -ESTALE) {
		txn_retry(t, rc);
	} else if (rc < 0) {
		txn_fail(t, rc);
	} else if (t->part_count == 1 && !t->rename_locked) {
		txn_single(t);
	} else {
		txn_prepare(t);
	}
}

void txn_planned(struct txn *t, int status)
{
	if (!t->x)
		txn_free(t);
	else
		txn_advance(t, status);
}

static void txn_begin(struct txn *t)
{
	int rc;

	t->stage = TXN_PLAN;
	memset(t->calls, 0, sizeof(t->calls));
	for (uint32_t i = 0; i < TXN_PARTS_MAX; i++)
		t->calls[i].t = t;
	t->x->bucket = t->x->req->bucket;
	rc = plan_begin(t);
	if (rc == 0)
		t->txid = txid_new(t->s, ino_bucket(t->from.dir));
	txn_advance(t, rc);
}

void txn_start(struct exec *x)
{
	if (x->txn) {
		/* It waited for room in the log, with everybody prepared. */
		if (x->txn->txid == 0)
			txn_single(x->txn);
		else
			txn_decide(x->txn);
		return;
	}
	x->txn = txn_new(x->s, x);
	if (x->txn)
		txn_begin(x->txn);
	else
		exec_finish(x, -ENOMEM);
}

/* --- the loop, recovery --- */

void txn_poll(struct shard *s, uint64_t *next_us)
{
	uint64_t now;

	if (list_empty(&s->txns))
		return;
	now = env_now_us(s->env);
	list_for_each(it, tmp, &s->txns)
	{
		struct txn *t = container_of(it, struct txn, link);

		if (t->stage != TXN_RETRY && t->stage != TXN_RESOLVE)
			continue;
		if (t->retry_us > now) {
			soon(next_us, now, t->retry_us);
			continue;
		}
		if (t->stage == TXN_RETRY)
			txn_begin(t);
		else if (all_resolved(t))
			txn_forget(t);
		else
			resolve_send_all(t, true);
		*next_us = 0;
		break; /* the list may have changed under us */
	}
}

void txn_fail_waiting(struct shard *s)
{
	list_for_each(it, tmp, &s->txns)
	{
		struct txn *t = container_of(it, struct txn, link);

		if (t->stage == TXN_RETRY)
			txn_fail(t, -EIO);
	}
}

struct recovery {
	struct shard *s;
	int rc;
};

static void txn_found(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
	const uint16_t *buckets, uint32_t bucket_count)
{
	struct recovery *rec = ctx;
	struct txn *t;

	if (rec->rc < 0 || MUTATED(FORGET_INTENTS))
		return;
	if (role == TXN_PARTICIPANT) {
		rec->rc = intent_watch(rec->s, txid, bucket, 0);
		return;
	}
	t = txn_new(rec->s, NULL);
	if (!t) {
		rec->rc = -ENOMEM;
		return;
	}
	t->txid = txid;
	t->stage = TXN_RESOLVE;
	t->part_count = bucket_count + 1;
	for (uint32_t i = 0; i < bucket_count; i++)
		t->parts[i + 1].bucket = buckets[i];
}

int txn_recover(struct shard *s)
{
	struct recovery rec = {.s = s};
	int rc = meta_recover(s->meta, txn_found, &rec);

	return rc < 0 ? rc : rec.rc;
}

int txn_bucket_ours(struct shard *s, uint16_t bucket)
{
	struct recovery rec = {.s = s};
	int rc = meta_bucket_open(s->meta, bucket, txn_found, &rec);

	if (rc == 0)
		rc = rec.rc;
	if (rc == 0)
		rc = replies_open(s, bucket);
	return rc < 0 || bucket != ino_bucket(WFS_ROOT_INO) ? rc : root_ensure(s);
}

/* Its new primary knows what was decided; who waits for an answer asks there. */
void txn_bucket_gone(struct shard *s, uint16_t bucket)
{
	list_for_each(it, tmp, &s->txns)
	{
		struct txn *t = container_of(it, struct txn, link);
		struct exec *x = t->x;
		uint16_t own = t->txid ? txid_bucket(t->txid) : bucket;

		if (own != bucket || (x && x->bucket != bucket))
			continue;
		/* A record under way is answered by its commit. */
		if (x && !list_empty(&x->commit.link))
			continue;
		t->gone = true;
		if (x)
			exec_finish_now(x, -EREMCHG);
		else if (!txn_busy(t) && t->stage != TXN_FORGET)
			txn_free(t);
	}
	intent_bucket_gone(s, bucket);
}

void txn_free_all(struct shard *s)
{
	while (!list_empty(&s->txns))
		txn_free(list_first(&s->txns, struct txn, link));
	intent_free_all(s);
}

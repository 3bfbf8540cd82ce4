/*
 * Requests that come late, or twice.
 *
 * A client sends again what was not answered, and the first may still be on its way (in
 * what a broken connection had under way, behind a node that stood still) when the second
 * was answered and the client went on. What was carried out is remembered in the bucket
 * (reply.c). Other things are not: that something failed, or that there was nothing to do,
 * which must be so again when it comes again; and what the client did since, somewhere
 * else in this shard. So for every slot of every session the shard knows the last sequence
 * number that changed something or tried to, and what came of it. What is older is
 * refused: nobody waits.
 *
 * And while one of two is being carried out, the other is told to come again.
 *
 * In memory only: a message reaches the process it was sent to or none, so what comes late
 * comes to a process that has seen what came in between. And a table of fixed size: who is
 * pushed out of it has, at worst, no protection against a message that is very late.
 */
#include "core/shard/once.h"
#include "core/shard/member.h"
#include "core/shard/reply.h"

#include <errno.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/mutate.h"

#define ONCE_SETS 1024u
#define ONCE_WAYS 4u

struct once_entry {
	uint64_t session; /* 0: free */
	uint32_t seq;
	uint16_t slot;
	uint16_t op;
	uint16_t bucket;
	uint32_t epoch; /* of the bucket: what came of it is known for this one only */
	bool running; /* not answered yet */
	bool done;    /* and well, with `reply` */
	int status;
	uint32_t used; /* when: the table's count */
	uint32_t reply_size;
	struct wire_walk_reply reply;
};

struct once {
	uint32_t count;
	struct once_entry entries[ONCE_SETS][ONCE_WAYS];
};

int once_new(struct shard *s)
{
	s->once = mem_zalloc(sizeof(*s->once));
	return s->once ? 0 : -ENOMEM;
}

void once_free(struct shard *s)
{
	mem_free(s->once);
}

/* The slot's entry; else, to be taken over, the one of its set that was used longest ago. */
static struct once_entry *entry_find(struct shard *s, uint64_t session, uint16_t slot,
	bool *found_out)
{
	uint64_t key[2] = {session, slot};
	struct once_entry *set =
		s->once->entries[hash64(key, sizeof(key), 0) % ONCE_SETS];
	struct once_entry *oldest = set;

	*found_out = true;
	for (uint32_t i = 0; i < ONCE_WAYS; i++) {
		if (set[i].session == session && set[i].slot == slot)
			return &set[i];
		if (s->once->count - set[i].used > s->once->count - oldest->used)
			oldest = &set[i];
	}
	*found_out = false;
	return oldest;
}

/* Whether it matters how often and when the request is carried out. */
static bool once_only(const struct op_desc *op, const struct request *req)
{
	return req->session && !op->node_only &&
	       (op->remember || op->writes || req->op == OP_CLOSE);
}

/* Another primary may have carried it out again since, and remembered that in the bucket. */
static bool epoch_is(const struct shard *s, const struct once_entry *e,
	const struct request *req)
{
	return req->flags & HEAD_TO_SHARD ||
	       (e->bucket == req->bucket && e->epoch == s->buckets[req->bucket].epoch);
}

bool once_begin(struct shard *s, const struct op_desc *op, struct request *req,
	int *status_out)
{
	struct once_entry *e;
	bool found;

	/* Sent before the bucket changed hands, it may have been answered elsewhere. */
	if ((once_only(op, req) || op->node_only) && !(req->flags & HEAD_TO_SHARD) &&
		req->bucket_epoch && req->bucket_epoch < s->buckets[req->bucket].epoch) {
		*status_out = -EREMCHG;
		return false;
	}
	if (!once_only(op, req))
		return true;
	e = entry_find(s, req->session, req->slot, &found);
	if (found && (int32_t)(req->seq - e->seq) < 0 && !MUTATED(REPLAY_OLD_REQUESTS)) {
		*status_out = -ECANCELED;
		return false;
	}
	if (found && req->seq == e->seq && e->op == req->op) {
		bool known = epoch_is(s, e, req);

		*status_out = e->running ? -EREMCHG : known ? e->status : 0;
		if (*status_out)
			return false;
		if (e->done && known) {
			memcpy(req->reply, &e->reply, e->reply_size);
			req->reply_size = e->reply_size;
			reply_fit(req);
			return false;
		}
	}
	*e = (struct once_entry){.session = req->session,
		.seq = req->seq,
		.slot = req->slot,
		.op = req->op,
		.bucket = req->bucket,
		.epoch = req->flags & HEAD_TO_SHARD ? 0 : s->buckets[req->bucket].epoch,
		.running = true,
		.used = ++s->once->count};
	return true;
}

/* What the client takes for an answer, and does not ask again. */
static bool failed_for_good(int status)
{
	switch (-status) {
	case EEXIST:
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ENOTEMPTY:
	case EINVAL:
	case EPERM:
	case EACCES:
	case EXDEV:
	case EMLINK:
	case ENOSPC:
	case ENAMETOOLONG:
	case ELOOP:
	case EFBIG:
	case ENODATA:
	case EDQUOT: return true;
	default: return false;
	}
}

/* The end of the operation, not of a part of its path; with a small answer. */
static bool ended_well(const struct request *req)
{
	const struct wire_walk_reply *reply = req->reply;

	return req->reply_size == 0 ||
	       (req->reply_size == sizeof(*reply) && reply->end == WIRE_DONE);
}

void once_end(struct shard *s, const struct op_desc *op, const struct request *req,
	int status)
{
	bool found;
	struct once_entry *e;

	if (!once_only(op, req))
		return;
	e = entry_find(s, req->session, req->slot, &found);
	if (!found || e->seq != req->seq || e->op != req->op)
		return;
	e->running = false;
	if (failed_for_good(status))
		e->status = status;
	if (status || !ended_well(req))
		return;
	e->done = true;
	e->reply_size = req->reply_size;
	memcpy(&e->reply, req->reply, req->reply_size);
}

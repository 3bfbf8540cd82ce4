/*
 * Purges: freeing the chunks of truncated and deleted files in the buckets that hold
 * them. A job lies in the index until all its chunks are gone, so a crash only delays it.
 * One job at a time, a bounded number of chunks in flight; after a failure (a node is
 * down) the job is tried again later. No chunk is touched before the job is durable, here
 * and with all other members of its bucket: a crash, or another primary, would bring the
 * file back without it.
 *
 * A truncate marks the chunks with its generation, those without data too, so that they
 * refuse readers who know the file from before. Only of huge files those beyond the first
 * WIRE_CHUNKS_NAMED are found by asking every bucket for what it holds.
 */
#include "core/shard/member.h"

#include <errno.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/mem.h"

#define PURGE_IN_FLIGHT 16
#define PURGE_RETRY_US  500000u

struct purge_call {
	struct rpc_call call;
	struct purge *purge;
	bool busy;
	uint32_t bucket; /* by_bucket: which, and where in it to go on; 0: all done */
	uint64_t from;
};

struct purge {
	struct shard *s;
	bool wanted;
	bool active;
	bool failed;
	uint64_t retry_us;
	ino_id after;     /* jobs at or before it were tried in this round */
	bool round_failed;
	uint64_t moved_us;  /* when a chunk was purged last, */
	uint64_t failed_us; /* or could not be */
	struct purge_job job;
	uint64_t next_chunk;
	bool by_bucket; /* too many chunks to name each: then ask buckets for the others */
	uint32_t next_bucket;
	unsigned in_flight;
	struct purge_call calls[PURGE_IN_FLIGHT];
};

static const struct cred root_cred;

int purge_new(struct shard *s)
{
	struct purge *p = mem_zalloc(sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->s = s;
	for (unsigned i = 0; i < PURGE_IN_FLIGHT; i++)
		p->calls[i].purge = p;
	s->purge = p;
	return 0;
}

void purge_free(struct shard *s)
{
	mem_free(s->purge);
	s->purge = NULL;
}

void purge_kick(struct shard *s)
{
	if (s->purge)
		s->purge->wanted = true;
}

static void purge_committed(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);
	struct shard *s = x->s;

	s->rerun_parked = true;
	exec_finish_now(x, status);
}

static void purge_end(struct purge *p, bool failed)
{
	p->active = false;
	p->after = p->job.ino;
	if (failed) {
		p->round_failed = true;
		p->retry_us = env_now_us(p->s->env) + PURGE_RETRY_US;
	}
}

static void purge_finish_start(struct exec *x)
{
	struct shard *s = x->s;
	struct purge *p = s->purge;
	struct meta_call c;
	int rc = exec_begin(x, ino_bucket(p->job.ino), 0, true);

	if (rc == -EINPROGRESS)
		return;
	if (rc == 0) {
		shard_call_init(s, &root_cred, &c);
		rc = meta_purge_done(s->meta, c.batch, &p->job);
		if (rc == 0)
			rc = exec_commit(x, purge_committed);
		else
			meta_batch_dropped(s->meta);
	}
	purge_end(p, rc < 0);
	if (rc < 0)
		exec_finish_now(x, rc);
	else
		s->rerun_parked = true;
}

static void purge_finish(struct purge *p)
{
	static const struct op_desc op = {.start = purge_finish_start};
	struct exec *x;

	if (p->failed) {
		purge_end(p, true);
		return;
	}
	x = exec_new(p->s, NULL);
	if (!x) {
		purge_end(p, true);
		return;
	}
	x->op = &op;
	exec_start(x);
}

static void purge_step(struct purge *p);

static void chunk_purged(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct purge_call *pc = container_of(call, struct purge_call, call);
	struct purge *p = pc->purge;

	const struct wire_purge_reply *pr = reply;

	(void)reply_data_size;
	pc->busy = false;
	p->in_flight--;
	pc->from = status == 0 && reply_size == sizeof(*pr) ? le64_get(pr->next) : 0;
	if (status < 0) {
		p->failed = true;
		p->failed_us = env_now_us(p->s->env);
	} else {
		p->moved_us = env_now_us(p->s->env);
	}
	purge_step(p);
}

static void purge_send(struct purge *p, struct purge_call *pc, uint16_t bucket,
	uint64_t chunk, bool find)
{
	struct shard *s = p->s;
	struct wire_purge body = {
		.ino = le64_put(p->job.ino),
		.chunk = le64_put(chunk),
		.keep_bytes = le32_put(
			!find && chunk == p->job.first_chunk ? p->job.keep_bytes : 0),
		.generation = le32_put(p->job.generation),
		.forget = p->job.whole_file,
		.find = find,
	};

	pc->busy = true;
	p->in_flight++;
	pc->call = (struct rpc_call){
		.op = OP_CHUNK_PURGE,
		.bucket = bucket,
		.timeout_ms = s->map->timeout_ms,
		.cred = &root_cred,
		.body = &body,
		.body_size = sizeof(body),
		.done = chunk_purged,
	};
	s->send(s->ctx, &pc->call);
}

/* Give an idle call its next piece of the job, if there is one. */
static void purge_send_next(struct purge *p, struct purge_call *pc)
{
	uint32_t buckets = p->s->map->bucket_count;

	if (pc->from) {
		purge_send(p, pc, (uint16_t)pc->bucket, pc->from, true);
	} else if (p->next_chunk < p->job.end_chunk) {
		uint64_t chunk = p->next_chunk++;

		purge_send(p, pc, chunk_bucket(p->job.ino, chunk, buckets), chunk, false);
	} else if (p->by_bucket && p->next_bucket < buckets) {
		pc->bucket = p->next_bucket++;
		purge_send(p, pc, (uint16_t)pc->bucket, p->job.end_chunk, true);
	}
}

static void purge_step(struct purge *p)
{
	for (unsigned i = 0; i < PURGE_IN_FLIGHT && !p->failed; i++)
		if (!p->calls[i].busy)
			purge_send_next(p, &p->calls[i]);
	if (p->in_flight == 0 && p->active)
		purge_finish(p);
}

static void job_held(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);
	struct purge *p = x->s->purge;

	exec_finish_now(x, status);
	if (status < 0)
		purge_end(p, true);
	else
		purge_step(p);
}

bool purge_moves(const struct shard *s, uint64_t since_us, uint64_t recent_us)
{
	return s->purge->moved_us >= recent_us && s->purge->failed_us < since_us;
}

void purge_poll(struct shard *s, uint64_t *next_us)
{
	struct purge *p = s->purge;
	uint64_t now, named;
	struct exec *x;
	int rc;

	if (p->active || (!p->wanted && !p->round_failed))
		return;
	if (!p->wanted) {
		now = env_now_us(s->env);
		if (now < p->retry_us) {
			if (p->retry_us - now < *next_us)
				*next_us = p->retry_us - now;
			return;
		}
		p->wanted = true;
	}
	rc = meta_purge_next(s->meta, p->after, &p->job);
	if (rc < 0 && rc != -ENOENT) {
		p->round_failed = true;
		p->retry_us = env_now_us(s->env) + PURGE_RETRY_US;
	}
	if (rc < 0) {
		/* The round is over; a new one begins when there is reason to. */
		p->wanted = p->after != 0 && rc == -ENOENT && !p->round_failed;
		if (p->after == 0 && rc == -ENOENT)
			p->round_failed = false;
		p->after = 0;
		if (p->wanted)
			*next_us = 0;
		return;
	}
	p->active = true;
	p->failed = false;
	p->next_chunk = p->job.first_chunk;
	p->next_bucket = 0;
	named = WIRE_CHUNKS_NAMED(s->map->bucket_count);
	p->by_bucket = p->job.end_chunk - p->job.first_chunk > named;
	if (p->by_bucket)
		p->job.end_chunk =
			p->job.first_chunk < named ? named : p->job.first_chunk + 1;
	for (unsigned i = 0; i < PURGE_IN_FLIGHT; i++)
		p->calls[i].from = 0;
	*next_us = 0;
	x = exec_new(s, NULL);
	if (x)
		commit_barrier_then(x, job_held);
	else
		purge_end(p, true);
}

/*
 * The commit queue: what was committed, in order, until it may be answered.
 *
 * A record may be answered when it is durable here and every backup of its bucket has it;
 * a read when all records before it may. One queue for the shard keeps their order, so a
 * read needs to know nothing of what it saw. What backups answer to primaries never stands
 * in it: two shards that are each other's backups would wait for each other.
 */
#include "core/shard/member.h"

#include <errno.h>

#include "core/base/mutate.h"

/* From the moment that we say it has everything, whether the map says so yet or not. */
static bool stream_counts(const struct stream *st)
{
	return st->backup || st->counts_until_us > env_now_us(st->s->env);
}

static bool commit_held_everywhere(const struct shard *s, const struct commit *c)
{
	const struct bucket_state *b = &s->buckets[c->bucket];

	if (MUTATED(ACK_BEFORE_BACKUP))
		return true;
	if (c->lsn == 0)
		return true;
	/* Deposed, just now: commits_fail is about to end it. */
	if (b->role != ROLE_PRIMARY && b->role != ROLE_LEAVING)
		return false;
	for (uint32_t i = 0; i < b->stream_count; i++)
		if (stream_counts(b->streams[i]) &&
			(b->streams[i]->acked < c->lsn ||
				b->streams[i]->stage == STREAM_COPYING))
			return false;
	return true;
}

void commits_advance(struct shard *s)
{
	while (!list_empty(&s->commits)) {
		struct commit *c = list_first(&s->commits, struct commit, link);
		struct exec *x = container_of(c, struct exec, commit);

		if (c->status == 0 && (!c->durable || !commit_held_everywhere(s, c)))
			return;
		/* A failed record's memory is the store's until it says so. */
		if (!c->durable)
			return;
		list_remove(&c->link);
		if (c->status == 0 && x->req && !shard_leased(s))
			c->status = -EREMCHG;
		c->done(&x->record, c->status);
	}
}

static void commit_durable(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);

	x->commit.durable = true;
	if (status)
		x->commit.status = status;
	commits_advance(x->s);
}

void commit_init(struct exec *x, void (*done)(struct store_record *r, int status))
{
	x->commit.bucket = x->bucket;
	x->commit.lsn = x->record.lsn;
	x->commit.durable = false;
	x->commit.status = 0;
	x->commit.done = done;
	x->record.done = commit_durable;
}

void commit_push(struct exec *x)
{
	struct bucket_state *b = &x->s->buckets[x->bucket];

	list_push_back(&x->s->commits, &x->commit.link);
	for (uint32_t i = 0; i < b->stream_count; i++)
		stream_pump(b->streams[i]);
}

/* --- what only waits --- */

static void barrier_ended(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);

	exec_finish_now(x, status ? status : x->status);
}

static void barrier_durable(struct store_barrier *barrier, int status)
{
	struct exec *x = container_of(barrier, struct exec, barrier);

	x->commit.durable = true;
	if (status)
		x->commit.status = -EIO;
	commits_advance(x->s);
}

void commit_barrier(struct exec *x)
{
	commit_barrier_then(x, barrier_ended);
}

void commit_barrier_then(struct exec *x, void (*done)(struct store_record *r, int status))
{
	x->commit.lsn = 0;
	x->commit.bucket = 0;
	x->commit.durable = false;
	x->commit.status = 0;
	x->commit.done = done;
	list_push_back(&x->s->commits, &x->commit.link);
	x->barrier.done = barrier_durable;
	store_barrier(x->s->store, &x->barrier);
}

void commits_fail(struct shard *s, uint16_t bucket)
{
	bool failed = false;

	list_for_each(it, tmp, &s->commits)
	{
		struct commit *c = container_of(it, struct commit, link);
		bool ours = c->lsn && c->bucket == bucket;

		failed |= ours;
		/* And who may have read what now never was. */
		if ((ours || (failed && c->lsn == 0)) && c->status == 0)
			c->status = -EREMCHG;
	}
	commits_advance(s);
}

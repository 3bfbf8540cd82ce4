/*
 * Who has what open goes with the bucket.
 *
 * That is known to the owner of a file, in memory only. A member that
 * served the bucket in the epoch before says it in its answer to JOIN, so a planned
 * change of primary costs nothing. When nobody can say it, because that one is dead, the
 * new primary takes all files for open (grace_until_us) while programs' hosts tell it
 * what they hold (core/wfsd/held.c).
 */
#include "core/shard/member.h"

#include "core/shard/opens.h"

struct telling {
	uint16_t bucket;
	uint64_t now;
	struct wire_held *at;
	uint32_t count, max;
};

/* The bucket is served no more, or by another epoch of ours. */
void opens_keep(struct shard *s, uint16_t bucket)
{
	struct bucket_state *b = &s->buckets[bucket];

	b->opens_epoch = b->grace_until_us || s->grace_until_us ? 0 : b->epoch;
}

static void tell_one(void *ctx, const struct open_held *held)
{
	struct telling *t = ctx;
	uint64_t left_us = held->until_us > t->now ? held->until_us - t->now : 0;

	if (ino_bucket(held->ino) != t->bucket || (held->until_us && !left_us))
		return;
	if (t->count < t->max)
		t->at[t->count] = (struct wire_held){
			.session = le64_put(held->session),
			.ino = le64_put(held->ino),
			.count = le32_put(held->count),
			.linger_ms = le32_put((uint32_t)((left_us + 999) / 1000)),
		};
	t->count++;
}

void opens_tell(struct exec *x, uint16_t bucket, uint32_t epoch)
{
	struct shard *s = x->s;
	struct wire_join_reply *reply = x->req->reply;
	struct telling t = {.bucket = bucket, .now = env_now_us(s->env),
		.at = x->req->reply_data,
		.max = x->req->reply_data_max / sizeof(struct wire_held)};

	if (s->buckets[bucket].opens_epoch + 1 != epoch)
		return;
	open_table_each(s->opens, tell_one, &t);
	if (t.count > t.max)
		return;
	reply->opens_epoch = le32_put(epoch - 1);
	x->req->reply_data_size = t.count * (uint32_t)sizeof(*t.at);
}

void opens_hear(struct shard *s, uint16_t bucket, const struct wire_join_reply *reply,
	const struct wire_held *held, uint32_t size_bytes)
{
	struct bucket_state *b = &s->buckets[bucket];
	uint64_t now = env_now_us(s->env);

	if (le32_get(reply->opens_epoch) == 0 || b->role != ROLE_TAKING ||
		le32_get(reply->opens_epoch) + 1 != b->epoch ||
		size_bytes % sizeof(*held) != 0)
		return;
	open_table_forget(s->opens, bucket);
	for (uint32_t i = 0; i < size_bytes / sizeof(*held); i++) {
		uint32_t linger_ms = le32_get(held[i].linger_ms);
		struct open_held h = {
			.session = le64_get(held[i].session),
			.ino = le64_get(held[i].ino),
			.count = le32_get(held[i].count),
			.until_us = linger_ms ? now + (uint64_t)linger_ms * 1000 : 0,
		};

		if (ino_bucket(h.ino) != bucket || open_table_put(s->opens, &h) < 0)
			return;
	}
	b->opens_epoch = le32_get(reply->opens_epoch);
}

void opens_begin(struct shard *s, uint16_t bucket)
{
	struct bucket_state *b = &s->buckets[bucket];

	b->grace_until_us = 0;
	if (b->opens_epoch + 1 == b->epoch)
		return;
	open_table_forget(s->opens, bucket);
	if (s->lsn[bucket] > 1 && s->grace_us)
		b->grace_until_us = env_now_us(s->env) + s->grace_us;
}

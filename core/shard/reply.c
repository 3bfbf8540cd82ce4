/*
 * Exactly once: the answer to what changed something is remembered in the same record.
 *
 * A client that lost its answer (a daemon died, the bucket went to another shard) sends
 * the same request again, with the same session, slot and sequence number. Key 'S' of the
 * bucket has what was answered to the last one of that slot; it is written with the
 * change, so it is wherever the change is. A slot has one request at a time, so a newer
 * answer replaces the older. What is older than anybody waits is deleted by later records
 * of its bucket, two at a time; a queue in memory knows which.
 */
#include "core/shard/reply.h"

#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/mutate.h"
#include "meta/schema.h"

#define REPLY_KEEP_US    120000000u
#define REPLIES_MAX      4096u /* of one bucket; beyond, the oldest go early */
#define EXPIRE_AT_A_TIME 2u

struct reply_value { /* then reply_size bytes */
	le32 seq;
	le16 op;
	le16 reply_size;
};

struct reply_note {
	uint64_t session;
	uint32_t seq;
	uint16_t slot;
	uint64_t time_us;
};

struct replies { /* of one bucket: a ring */
	struct reply_note *notes;
	uint32_t room; /* a power of two */
	uint32_t head;
	uint32_t count;
};

static void reply_key(
	struct meta_key *key, uint16_t bucket, uint64_t session, uint16_t slot)
{
	meta_key_prefix(key, bucket, 'S');
	meta_key_u64(key, session);
	be16_write(key->bytes + key->size, slot);
	key->size += 2;
}

static void note_push(struct shard *s, uint16_t bucket, const struct reply_note *note)
{
	struct replies *r = &s->replies[bucket];

	if (r->count == r->room) {
		uint32_t room = r->room ? 2 * r->room : 16;
		struct reply_note *notes = mem_alloc(room * sizeof(*notes));

		if (!notes) /* it will be found when the bucket is opened again */
			return;
		for (uint32_t i = 0; i < r->count; i++)
			notes[i] = r->notes[(r->head + i) & (r->room - 1)];
		mem_free(r->notes);
		r->notes = notes;
		r->room = room;
		r->head = 0;
	}
	r->notes[(r->head + r->count++) & (r->room - 1)] = *note;
}

/* The value of the key in scratch: false when there is none. */
static bool value_get(struct shard *s, const struct meta_key *key, struct reply_value *v)
{
	buf_reset(&s->reply_scratch);
	if (kv_get(s->kv, key->bytes, key->size, &s->reply_scratch) != 0 ||
		s->reply_scratch.size_bytes < sizeof(*v))
		return false;
	memcpy(v, s->reply_scratch.data, sizeof(*v));
	return s->reply_scratch.size_bytes == sizeof(*v) + le16_get(v->reply_size);
}

static void replies_expire(struct shard *s, uint16_t bucket, uint64_t now)
{
	struct replies *r = &s->replies[bucket];

	for (uint32_t i = 0; i < EXPIRE_AT_A_TIME && r->count > 0; i++) {
		const struct reply_note *note = &r->notes[r->head & (r->room - 1)];
		struct reply_value v;
		struct meta_key key;

		if (r->count <= REPLIES_MAX && now - note->time_us < REPLY_KEEP_US)
			return;
		reply_key(&key, bucket, note->session, note->slot);
		if (value_get(s, &key, &v) && le32_get(v.seq) == note->seq)
			batch_del(&s->batch, key.bytes, key.size);
		r->head++;
		r->count--;
	}
}

static bool remembers(const struct exec *x)
{
	return x->op && x->op->remember && x->req && x->req->session;
}

void reply_remember(struct exec *x)
{
	struct shard *s = x->s;
	const struct request *req = x->req;
	uint8_t value[sizeof(struct reply_value) + WIRE_BODY_MAX];
	struct reply_value *v = (struct reply_value *)value;
	struct reply_note note;
	struct meta_key key;

	if (!remembers(x) || x->follows)
		return;
	note = (struct reply_note){.session = req->session,
		.seq = req->seq,
		.slot = req->slot,
		.time_us = env_now_us(s->env)};
	replies_expire(s, x->bucket, note.time_us);
	*v = (struct reply_value){.seq = le32_put(req->seq),
		.op = le16_put(req->op),
		.reply_size = le16_put((uint16_t)req->reply_size)};
	memcpy(v + 1, req->reply, req->reply_size);
	reply_key(&key, x->bucket, req->session, req->slot);
	batch_put(&s->batch, key.bytes, key.size, value, sizeof(*v) + req->reply_size);
	note_push(s, x->bucket, &note);
}

void reply_fit(struct request *req)
{
	const struct wire_path *wp = req->body;
	struct wire_walk_reply *reply = req->reply;

	if (req->reply_size >= sizeof(*reply))
		reply->consumed = le32_put(le16_get(wp->path_size));
}

int reply_recall(struct exec *x, uint16_t bucket)
{
	struct shard *s = x->s;
	struct request *req = x->req;
	struct reply_value v;
	struct meta_key key;

	if (!remembers(x) || MUTATED(FORGET_REPLIES))
		return 0;
	reply_key(&key, bucket, req->session, req->slot);
	if (!value_get(s, &key, &v))
		return 0;
	if ((int32_t)(req->seq - le32_get(v.seq)) < 0 && !MUTATED(REPLAY_OLD_REQUESTS))
		return -ECANCELED;
	if (le32_get(v.seq) != req->seq || le16_get(v.op) != req->op)
		return 0;
	req->reply_size = le16_get(v.reply_size);
	memcpy(req->reply, s->reply_scratch.data + sizeof(v), req->reply_size);
	reply_fit(req);
	return 1;
}

/* --- life --- */

/* An answer that is there, to be forgotten in time. */
static int note_found(struct shard *s, uint16_t bucket, const uint8_t *key,
	size_t key_size, const void *value, size_t value_size)
{
	struct reply_value v;
	struct reply_note note = {.time_us = env_now_us(s->env)};

	if (key_size != META_PREFIX_SIZE + 10 || value_size < sizeof(v))
		return -EUCLEAN;
	memcpy(&v, value, sizeof(v));
	note.session = be64_read(key + META_PREFIX_SIZE);
	note.slot = be16_read(key + META_PREFIX_SIZE + 8);
	note.seq = le32_get(v.seq);
	note_push(s, bucket, &note);
	return 0;
}

int replies_open(struct shard *s, uint16_t bucket)
{
	struct meta_key prefix;
	struct kv_iter *it;
	int rc = kv_iter_open(s->kv, &it);

	if (rc)
		return rc;
	s->replies[bucket].count = 0;
	meta_key_prefix(&prefix, bucket, 'S');
	for (it->ops->seek(it, prefix.bytes, prefix.size); rc == 0 && it->ops->valid(it);
		it->ops->next(it)) {
		size_t key_size, value_size;
		const uint8_t *key = it->ops->key(it, &key_size);
		const void *value = it->ops->value(it, &value_size);

		if (key_size < prefix.size || memcmp(key, prefix.bytes, prefix.size) != 0)
			break;
		rc = note_found(s, bucket, key, key_size, value, value_size);
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	return rc;
}

int replies_new(struct shard *s)
{
	int rc = 0;

	buf_init(&s->reply_scratch);
	s->replies = mem_zalloc(s->map->bucket_count * sizeof(*s->replies));
	if (!s->replies)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < s->map->bucket_count; i++)
		if (shard_owns(s, (uint16_t)i))
			rc = replies_open(s, (uint16_t)i);
	return rc;
}

void replies_free(struct shard *s)
{
	for (uint32_t i = 0; s->replies && i < s->map->bucket_count; i++)
		mem_free(s->replies[i].notes);
	mem_free(s->replies);
	buf_release(&s->reply_scratch);
}

/*
 * Transactions over buckets. part.h draws the protocol.
 *
 * An intent ('t') holds the mutations, built and validated when it was prepared, as
 * bytes to append later. That is right only for keys that nobody else may change in
 * between, which are the I and D keys of the locked inodes, and the O key of an inode
 * that loses its last link. Everything else is kept out of it:
 *
 *  - the bucket's header: a new inode's number is taken in the prepare record itself (an
 *    abort wastes it), and the count is stored as a difference, added when it commits;
 *  - extents and xattrs: the last unlink always leaves an orphan, purged afterwards; a
 *    directory's xattrs go in the intent, for setxattr does look at locks.
 *
 * A new directory is locked too: its name may be visible before the intent is resolved,
 * and then "wait" is the answer, not "no such inode".
 */
#include <assert.h>
#include <errno.h>

#include "meta/step.h"

int meta_part_build(struct meta *m, const struct meta_call *c, uint64_t txid,
	const struct part *part, ino_id *new_ino_out, bool *purge_out)
{
	struct work *w = work_begin(m, c->batch, part->bucket);
	ino_id new_ino;
	bool purge;
	int rc;

	if (!part_valid(part))
		return work_end(w, -EINVAL);
	w->txid = txid;
	rc = work_end(w, part_run(w, c, part, &new_ino, &purge));
	if (rc)
		return rc;
	if (new_ino_out)
		*new_ino_out = new_ino;
	if (purge_out)
		*purge_out = purge;
	return 0;
}

/* --- coordinator --- */

int meta_lock(struct meta *m, uint64_t txid, const struct part *part)
{
	ino_id inos[TXN_STEPS_MAX];

	if (!part_valid(part) || txid == 0)
		return -EINVAL;
	return locks_add(m, txid, inos, part_inodes(part, inos));
}

int meta_decide(struct meta *m, struct batch *batch, uint64_t txid,
	const uint16_t *buckets, uint32_t bucket_count)
{
	struct meta_key key;
	int rc;

	if (bucket_count > TXN_PARTS_MAX)
		return -EINVAL;
	meta_key_decision(&key, txid);
	buf_reset(&m->scratch);
	decision_encode(buckets, bucket_count, &m->scratch);
	rc = buf_error(&m->scratch);
	if (rc)
		return rc;
	batch_put(batch, key.bytes, key.size, m->scratch.data, m->scratch.size_bytes);
	return batch_error(batch);
}

int meta_forget(struct meta *m, struct batch *batch, uint64_t txid)
{
	struct meta_key key;

	(void)m;
	meta_key_decision(&key, txid);
	batch_del(batch, key.bytes, key.size);
	return batch_error(batch);
}

int meta_decision(struct meta *m, uint64_t txid)
{
	struct meta_key key;
	int rc;

	meta_key_decision(&key, txid);
	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key.bytes, key.size, &m->scratch);
	if (rc == 0)
		return 1;
	return rc == -ENOENT ? 0 : rc;
}

/* --- participant --- */

/* The intent, pointing into m->scratch. -ENOENT. */
static int intent_read(
	struct meta *m, uint16_t bucket, uint64_t txid, struct intent *intent_out)
{
	struct meta_key key;
	int rc;

	meta_key_intent(&key, bucket, txid);
	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key.bytes, key.size, &m->scratch);
	if (rc)
		return rc;
	if (intent_decode(m->scratch.data, m->scratch.size_bytes, intent_out))
		return meta_damaged("intent", bucket, txid);
	return 0;
}

static int intent_put(struct meta *m, struct batch *batch, uint16_t bucket, uint64_t txid,
	const struct intent *intent)
{
	struct meta_key key;
	int rc;

	buf_reset(&m->scratch);
	intent_encode(intent, &m->scratch);
	rc = buf_error(&m->scratch);
	if (rc)
		return rc;
	if (m->scratch.size_bytes > BATCH_VALUE_MAX)
		return -E2BIG;
	meta_key_intent(&key, bucket, txid);
	batch_put(batch, key.bytes, key.size, m->scratch.data, m->scratch.size_bytes);
	return batch_error(batch);
}

/* Run the part into `deferred`, and fill the intent that will hold it. */
static int prepare_build(struct meta *m, const struct meta_call *c, uint64_t txid,
	const struct part *part, struct batch *deferred, struct intent *intent_out)
{
	struct work *w = work_begin(m, deferred, part->bucket);
	ino_id new_ino;
	bool purge;
	int rc;

	w->txid = txid;
	w->deferred = true;
	rc = work_end(w, part_run(w, c, part, &new_ino, &purge));
	if (rc)
		return rc;
	*intent_out = (struct intent){
		.flags = purge ? INTENT_PURGE : 0,
		.new_ino = new_ino,
		.inode_delta = w->inode_delta,
		.batch = deferred->bytes.data,
		.batch_size_bytes = deferred->bytes.size_bytes,
	};
	intent_out->lock_count = part_inodes(part, intent_out->locks);
	if (new_ino)
		intent_out->locks[intent_out->lock_count++] = new_ino;
	return 0;
}

int meta_prepare(struct meta *m, const struct meta_call *c, uint64_t txid,
	const struct part *part, ino_id *new_ino_out)
{
	struct batch deferred;
	struct intent intent;
	int rc;

	if (!part_valid(part) || txid == 0)
		return -EINVAL;
	rc = intent_read(m, part->bucket, txid, &intent);
	if (rc == 0 && new_ino_out)
		*new_ino_out = intent.new_ino;
	if (rc != -ENOENT)
		return rc;
	batch_init(&deferred);
	rc = prepare_build(m, c, txid, part, &deferred, &intent);
	if (rc == 0)
		rc = intent_put(m, c->batch, part->bucket, txid, &intent);
	if (rc == 0)
		rc = locks_add(m, txid, intent.locks, intent.lock_count);
	batch_release(&deferred);
	if (rc) {
		/* The number of a new directory may have been taken. */
		if (c->batch->count || batch_error(c->batch))
			meta_batch_dropped(m);
		return rc;
	}
	if (new_ino_out)
		*new_ino_out = intent.new_ino;
	return 0;
}

int meta_resolve(struct meta *m, struct batch *batch, uint16_t bucket, uint64_t txid,
	bool commit, bool *purge_out)
{
	struct bucket_header *header;
	struct intent intent;
	struct meta_key key;
	int rc = intent_read(m, bucket, txid, &intent);

	if (rc)
		return rc;
	meta_key_intent(&key, bucket, txid);
	batch_del(batch, key.bytes, key.size);
	if (commit && intent.batch_size_bytes)
		batch_append(batch, intent.batch, intent.batch_size_bytes);
	if (commit && intent.inode_delta) {
		rc = header_get(m, bucket, &header);
		if (rc == 0) {
			header_count(m, header, (int64_t)intent.inode_delta);
			header_put(m, batch, bucket);
		}
	}
	if (rc == 0)
		rc = batch_error(batch);
	if (rc) {
		meta_batch_dropped(m);
		return rc;
	}
	if (purge_out)
		*purge_out = commit && intent.flags & INTENT_PURGE;
	return 0;
}

/* --- after a crash --- */

struct recovery {
	struct meta *m;
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count);
	void *ctx;
	bool one; /* only `bucket` */
	uint16_t bucket;
};

static int recover_intent(
	void *ctx, uint16_t bucket, uint64_t txid, const void *value, size_t value_size)
{
	struct recovery *r = ctx;
	struct intent intent;
	int rc;

	if (r->one && bucket != r->bucket)
		return 1; /* past it */
	if (!r->one && !r->m->owns(r->m->ctx, bucket))
		return 0;
	if (txid == 0 || intent_decode(value, value_size, &intent))
		return meta_damaged("intent", bucket, txid);
	rc = locks_add(r->m, txid, intent.locks, intent.lock_count);
	if (rc == -EAGAIN)
		return meta_damaged("intents that share an inode", bucket, txid);
	if (rc)
		return rc;
	r->found(r->ctx, TXN_PARTICIPANT, bucket, txid, NULL, 0);
	return 0;
}

static int recover_decision(
	void *ctx, uint16_t bucket, uint64_t txid, const void *value, size_t value_size)
{
	uint16_t buckets[TXN_PARTS_MAX];
	struct recovery *r = ctx;
	uint32_t bucket_count;

	if (r->one && bucket != r->bucket)
		return 1; /* past it */
	if (!r->one && !r->m->owns(r->m->ctx, bucket))
		return 0;
	if (txid_bucket(txid) != bucket ||
		decision_decode(value, value_size, buckets, &bucket_count))
		return meta_damaged("decision", bucket, txid);
	r->found(r->ctx, TXN_COORDINATOR, bucket, txid, buckets, bucket_count);
	return 0;
}

int meta_recover(struct meta *m,
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count),
	void *ctx)
{
	struct recovery r = {.m = m, .found = found, .ctx = ctx};
	struct meta_key from;
	int rc;

	locks_release(m);
	meta_key_prefix(&from, 0, 't');
	rc = meta_each_key(m, 't', &from, recover_intent, &r);
	if (rc)
		return rc;
	meta_key_prefix(&from, 0, 'T');
	return meta_each_key(m, 'T', &from, recover_decision, &r);
}

int meta_recover_bucket(struct meta *m, uint16_t bucket,
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count),
	void *ctx)
{
	struct recovery r = {
		.m = m, .found = found, .ctx = ctx, .one = true, .bucket = bucket};
	struct meta_key from;
	int rc;

	meta_key_prefix(&from, bucket, 't');
	rc = meta_each_key(m, 't', &from, recover_intent, &r);
	if (rc < 0)
		return rc;
	meta_key_prefix(&from, bucket, 'T');
	rc = meta_each_key(m, 'T', &from, recover_decision, &r);
	return rc < 0 ? rc : 0;
}

/*
 * The end of data: last links, orphans, and purge jobs; and what concerns whole buckets.
 *
 *                 inode_last_unlink                    meta_purge_done (whole_file)
 *   nlink 1 ---- small, not open, not deferred ------------------------> gone
 *          `---- otherwise --> JOB_ORPHAN -- not open: meta_purge_next --> gone
 *
 *              job_truncate                     meta_purge_done
 *   long file -------------> JOB_TRUNCATE, locked ---------------> shorter file
 *
 * An inode has at most one 'O' key; an orphan that is open may be truncated, then the
 * key has both flags and the truncate comes first.
 */
#include <assert.h>
#include <errno.h>

#include "meta/meta_impl.h"

static uint64_t chunk_count_of(uint64_t size_bytes)
{
	return (size_bytes + WFS_CHUNK_SIZE - 1) / WFS_CHUNK_SIZE;
}

static void job_put(struct batch *batch, ino_id ino, const struct job *job)
{
	struct job_value value;
	struct meta_key key;

	meta_key_job(&key, ino);
	job_encode(job, &value);
	batch_put(batch, key.bytes, key.size, &value, sizeof(value));
}

/* -ENOENT when there is none. */
static int job_read(struct meta *m, ino_id ino, struct job *job_out)
{
	struct meta_key key;
	int rc;

	meta_key_job(&key, ino);
	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key.bytes, key.size, &m->scratch);
	if (rc)
		return rc;
	if (job_decode(m->scratch.data, m->scratch.size_bytes, job_out))
		return meta_damaged("job", ino_bucket(ino), ino);
	return 0;
}

/*
 * Everything that hangs on the inode in its own bucket. An inode that was never written
 * may still have blocks, of a writer that died half-way; a purge looks, a plain unlink
 * looks only where that is free.
 */
static int inode_remove(struct work *w, struct work_inode *wi, bool look)
{
	const struct inode *in = &wi->in;
	int rc = 0;

	if (in->flags & INODE_HAS_XATTRS)
		rc = xattr_delete_all(w->m, w->batch, wi->ino);
	if (in->flags & INODE_HAS_DATA || chunk_cached(w->m, wi->ino, 0))
		look = true;
	if (rc == 0 && S_ISREG(in->attr.mode) && look)
		rc = meta_extent_punch(
			w->m, w->batch, w->bucket, wi->ino, 0, 0, WFS_CHUNK_BLOCKS);
	if (rc == 0)
		work_inode_gone(w, wi);
	return rc;
}

int inode_last_unlink(struct work *w, struct work_inode *wi, bool *purge_out)
{
	const struct job orphan = {.flags = JOB_ORPHAN};

	/* An intent may not touch E and X keys: writers of data do not look at locks. */
	if (!w->deferred && wi->in.attr.size_bytes <= WFS_CHUNK_SIZE &&
		!w->m->is_open(w->m->ctx, wi->ino))
		return inode_remove(w, wi, false);
	job_put(w->batch, wi->ino, &orphan);
	*purge_out = true;
	return 0;
}

int job_truncate(struct work *w, struct work_inode *wi, uint64_t old_size_bytes,
	uint64_t new_size_bytes)
{
	struct job job = {
		.flags = JOB_TRUNCATE | (wi->in.attr.nlink == 0 ? JOB_ORPHAN : 0),
		.first_chunk = new_size_bytes / WFS_CHUNK_SIZE,
		.keep_bytes = (uint32_t)(new_size_bytes % WFS_CHUNK_SIZE),
		.end_chunk = chunk_count_of(old_size_bytes),
		.generation = wi->in.attr.generation,
	};

	if (job.first_chunk == 0) {
		job.first_chunk = 1;
		job.keep_bytes = 0;
	}
	if (job.first_chunk >= job.end_chunk)
		return 0;
	job_put(w->batch, wi->ino, &job);
	wi->in.flags |= INODE_PURGING;
	return 0;
}

/* --- finding jobs --- */

/* Whether a job found can run now: 0, -EAGAIN, or an error. */
static int job_ready(
	struct meta *m, ino_id ino, const struct job *job, struct purge_job *job_out)
{
	struct inode in;
	uint64_t chunk_count;
	int rc;

	if (!meta_owns(m, ino))
		return -EAGAIN;
	if (lock_owner(m, ino)) {
		m->purge_locked = true;
		return -EAGAIN;
	}
	if (job->flags & JOB_TRUNCATE) {
		*job_out = (struct purge_job){
			.ino = ino,
			.first_chunk = job->first_chunk,
			.end_chunk = job->end_chunk,
			.keep_bytes = job->keep_bytes,
			.generation = job->generation,
		};
		return 0;
	}
	if (m->is_open(m->ctx, ino))
		return -EAGAIN;
	rc = inode_read(m, ino, &in);
	if (rc == -ESTALE)
		return meta_damaged("orphan without inode", ino_bucket(ino), ino);
	if (rc)
		return rc;
	chunk_count = S_ISREG(in.attr.mode) ? chunk_count_of(in.attr.size_bytes) : 1;
	*job_out = (struct purge_job){
		.ino = ino,
		.whole_file = true,
		.first_chunk = 1,
		.end_chunk = chunk_count > 1 ? chunk_count : 1,
		.generation = in.attr.generation,
	};
	return 0;
}

/*
 * The next key of type `type` at or after `from`, over all buckets. Where there is none
 * in a bucket the iterator says which bucket has keys at all, and that is the next to
 * try.
 */
static bool type_seek(struct kv_iter *it, char type, struct meta_key *from)
{
	for (;;) {
		const uint8_t *key;
		uint32_t bucket;
		size_t key_size;

		it->ops->seek(it, from->bytes, from->size);
		if (!it->ops->valid(it))
			return false;
		key = it->ops->key(it, &key_size);
		if (key_size < META_PREFIX_SIZE || key[0] != META_KEY_SPACE)
			return false;
		if (key[3] == (uint8_t)type)
			return true;
		bucket = be16_read(key + 1);
		if (key[3] > (uint8_t)type && ++bucket > UINT16_MAX)
			return false;
		meta_key_prefix(from, (uint16_t)bucket, type);
	}
}

/* Step `from` behind a key of this type with one number. */
static bool type_next(const uint8_t *key, uint64_t number, struct meta_key *from)
{
	uint16_t bucket = be16_read(key + 1);
	char type = (char)key[3];

	if (number == UINT64_MAX)
		return false;
	meta_key_prefix(from, bucket, type);
	meta_key_u64(from, number + 1);
	return true;
}

int meta_each_key(
	struct meta *m, char type, struct meta_key *from, meta_key_fn *fn, void *ctx)
{
	struct kv_iter *it;
	bool more = true;
	int rc = kv_iter_open(m->kv, &it);

	if (rc)
		return rc;
	while (rc == 0 && more && type_seek(it, type, from)) {
		size_t key_size, value_size;
		const uint8_t *key = it->ops->key(it, &key_size);
		const void *value = it->ops->value(it, &value_size);
		uint16_t bucket = be16_read(key + 1);
		uint64_t number;

		if (meta_key_u64_parse(key, key_size, &number)) {
			rc = meta_damaged("key", bucket, 0);
			break;
		}
		more = type_next(key, number, from);
		rc = fn(ctx, bucket, number, value, value_size);
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	return rc;
}

struct job_search {
	struct meta *m;
	struct purge_job *job_out;
};

static int job_search_key(
	void *ctx, uint16_t bucket, uint64_t number, const void *value, size_t value_size)
{
	struct job_search *search = ctx;
	struct job job;
	int rc;

	if (ino_bucket(number) != bucket || job_decode(value, value_size, &job))
		return meta_damaged("job", bucket, number);
	rc = job_ready(search->m, number, &job, search->job_out);
	if (rc == 0)
		return 1;
	return rc == -EAGAIN ? 0 : rc;
}

int meta_purge_next(struct meta *m, ino_id after, struct purge_job *job_out)
{
	struct purge_job job;
	struct job_search search = {.m = m, .job_out = &job};
	struct meta_key from;
	int rc;

	if (after == 0)
		m->purge_locked = false;
	if (after == UINT64_MAX)
		return -ENOENT;
	meta_key_job(&from, after + 1);
	rc = meta_each_key(m, 'O', &from, job_search_key, &search);
	if (rc == 1)
		*job_out = job;
	return rc == 1 ? 0 : rc == 0 ? -ENOENT : rc;
}

bool meta_purge_locked(const struct meta *m)
{
	return m->purge_locked;
}

int meta_purge_done(struct meta *m, struct batch *batch, const struct purge_job *job)
{
	struct work *w = work_begin(m, batch, ino_bucket(job->ino));
	struct work_inode *wi;
	struct meta_key key;
	struct job stored;
	int rc = job_read(m, job->ino, &stored);

	if (rc == -ENOENT)
		return 0;
	if (rc == 0 && !(stored.flags & (job->whole_file ? JOB_ORPHAN : JOB_TRUNCATE)))
		return 0;
	if (rc == 0 && job->whole_file && stored.flags & JOB_TRUNCATE)
		rc = -EINPROGRESS;
	if (rc == 0)
		rc = work_inode(w, job->ino, &wi);
	if (rc)
		return work_end(w, rc);
	meta_key_job(&key, job->ino);
	if (job->whole_file) {
		batch_del(batch, key.bytes, key.size);
		return work_end(w, inode_remove(w, wi, true));
	}
	stored.flags &= ~JOB_TRUNCATE;
	if (stored.flags)
		job_put(batch, job->ino, &(struct job){.flags = stored.flags});
	else
		batch_del(batch, key.bytes, key.size);
	wi->in.flags &= ~INODE_PURGING;
	wi->dirty = true;
	return work_end(w, 0);
}

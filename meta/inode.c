/*
 * Inodes: loading and writing them, attributes, permissions, and the operations that
 * change nothing but one inode.
 *
 * Also here is the header of a bucket ('N'). It is kept in memory once read: every batch
 * that changes it writes it whole, and all batches are applied in the order in which
 * they were built. When one is not, meta_batch_dropped forgets the copies.
 *
 * Times: atime is the creation's, or what utimens sets; reads do not update it (as
 * relatime would do once a day at most). st_blocks is derived from the size: holes are
 * not taken off.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "meta/meta_impl.h"

int meta_new(const struct meta_options *opt, struct meta **meta_out)
{
	struct meta *m = mem_zalloc(sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->kv = opt->kv;
	m->env = opt->env;
	m->bucket_count = opt->bucket_count;
	m->owns = opt->owns;
	m->is_open = opt->is_open;
	m->ctx = opt->ctx;
	list_init(&m->chunk_lru);
	m->headers = mem_zalloc(m->bucket_count * sizeof(*m->headers));
	if (!m->headers) {
		mem_free(m);
		return -ENOMEM;
	}
	*meta_out = m;
	return 0;
}

void meta_free(struct meta *m)
{
	if (!m)
		return;
	locks_release(m);
	chunk_cache_drop_all(m);
	for (size_t i = 0; i < WORK_INODES_MAX; i++)
		buf_release(&m->work.inodes[i].raw);
	buf_release(&m->scratch);
	mem_free(m->headers);
	mem_free(m);
}

int meta_damaged(const char *what, uint16_t bucket, uint64_t number)
{
	log_error("meta: damaged value what=%s bucket=%u number=%llx", what,
		(unsigned)bucket, (unsigned long long)number);
	return -EUCLEAN;
}

/* --- bucket headers --- */

int header_get(struct meta *m, uint16_t bucket, struct bucket_header **header_out)
{
	struct header_slot *slot;
	struct meta_key key;
	int rc;

	if (bucket >= m->bucket_count)
		return -ESTALE;
	slot = &m->headers[bucket];
	if (slot->loaded) {
		*header_out = &slot->header;
		return 0;
	}
	meta_key_header(&key, bucket);
	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key.bytes, key.size, &m->scratch);
	if (rc == -ENOENT) {
		slot->header = (struct bucket_header){.next_counter = COUNTER_FIRST};
		rc = 0;
	} else if (rc == 0) {
		rc = bucket_decode(m->scratch.data, m->scratch.size_bytes, &slot->header);
		if (rc)
			rc = meta_damaged("bucket", bucket, 0);
	}
	if (rc)
		return rc;
	slot->loaded = true;
	*header_out = &slot->header;
	return 0;
}

void header_put(struct meta *m, struct batch *batch, uint16_t bucket)
{
	struct bucket_value value;
	struct meta_key key;

	assert(m->headers[bucket].loaded);
	meta_key_header(&key, bucket);
	bucket_encode(&m->headers[bucket].header, &value);
	batch_put(batch, key.bytes, key.size, &value, sizeof(value));
}

void header_count(struct meta *m, struct bucket_header *header, int64_t delta)
{
	header->inode_count += (uint64_t)delta;
	m->inode_count += (uint64_t)delta;
}

void meta_batch_dropped(struct meta *m)
{
	m->inode_count_known = false;
	for (uint32_t i = 0; i < m->bucket_count; i++)
		m->headers[i].loaded = false;
	chunk_cache_drop_all(m);
}

int ino_alloc(struct work *w, ino_id *ino_out)
{
	struct bucket_header *header;
	int rc = header_get(w->m, w->bucket, &header);

	if (rc)
		return rc;
	if (header->next_counter >= COUNTER_END)
		return -ENOSPC;
	*ino_out = ino_make(w->bucket, header->next_counter++);
	w->header_dirty = true;
	return 0;
}

/* --- loading and writing --- */

static int inode_load(struct meta *m, ino_id ino, struct buf *raw, struct inode *in_out)
{
	struct meta_key key;
	int rc;

	meta_key_inode(&key, ino);
	buf_reset(raw);
	rc = kv_get(m->kv, key.bytes, key.size, raw);
	if (rc == -ENOENT)
		return -ESTALE;
	if (rc)
		return rc;
	if (inode_decode(raw->data, raw->size_bytes, in_out))
		return meta_damaged("inode", ino_bucket(ino), ino);
	return 0;
}

int inode_read(struct meta *m, ino_id ino, struct inode *in_out)
{
	if (lock_owner(m, ino))
		return -EINPROGRESS;
	return inode_load(m, ino, &m->scratch, in_out);
}

struct work *work_begin(struct meta *m, struct batch *batch, uint16_t bucket)
{
	struct work *w = &m->work;

	w->m = m;
	w->batch = batch;
	w->txid = 0;
	w->bucket = bucket;
	w->deferred = false;
	w->header_dirty = false;
	w->inode_delta = 0;
	w->inode_count = 0;
	return w;
}

int work_inode(struct work *w, ino_id ino, struct work_inode **wi_out)
{
	struct work_inode *wi;
	uint64_t owner;
	int rc;

	for (uint32_t i = 0; i < w->inode_count; i++) {
		if (w->inodes[i].ino != ino)
			continue;
		if (w->inodes[i].gone)
			return -ESTALE;
		*wi_out = &w->inodes[i];
		return 0;
	}
	owner = lock_owner(w->m, ino);
	if (owner && owner != w->txid)
		return -EINPROGRESS;
	assert(w->inode_count < WORK_INODES_MAX);
	wi = &w->inodes[w->inode_count];
	rc = inode_load(w->m, ino, &wi->raw, &wi->in);
	if (rc)
		return rc;
	wi->ino = ino;
	wi->dirty = wi->gone = false;
	w->inode_count++;
	*wi_out = wi;
	return 0;
}

int work_inode_new(
	struct work *w, ino_id ino, const struct inode *in, struct work_inode **wi_out)
{
	struct work_inode *wi;

	assert(w->inode_count < WORK_INODES_MAX);
	wi = &w->inodes[w->inode_count];
	buf_reset(&wi->raw);
	buf_extend(&wi->raw, sizeof(struct inode_value));
	if (in->target_size)
		buf_append(&wi->raw, in->target, in->target_size);
	if (buf_error(&wi->raw))
		return buf_error(&wi->raw);
	wi->ino = ino;
	wi->in = *in;
	wi->dirty = true;
	wi->gone = false;
	w->inode_count++;
	w->inode_delta++;
	*wi_out = wi;
	return 0;
}

void work_inode_gone(struct work *w, struct work_inode *wi)
{
	wi->gone = wi->dirty = true;
	w->inode_delta--;
}

static void work_inode_write(struct work *w, struct work_inode *wi)
{
	struct inode_value value;
	struct meta_key key;

	meta_key_inode(&key, wi->ino);
	if (wi->gone) {
		batch_del(w->batch, key.bytes, key.size);
		return;
	}
	inode_encode(&wi->in, &value);
	memcpy(wi->raw.data, &value, sizeof(value));
	batch_put(w->batch, key.bytes, key.size, wi->raw.data, wi->raw.size_bytes);
}

static int work_write(struct work *w)
{
	struct bucket_header *header;
	int rc;

	for (uint32_t i = 0; i < w->inode_count; i++)
		if (w->inodes[i].dirty)
			work_inode_write(w, &w->inodes[i]);
	if ((w->inode_delta || w->header_dirty) && !w->deferred) {
		rc = header_get(w->m, w->bucket, &header);
		if (rc)
			return rc;
		header_count(w->m, header, w->inode_delta);
		header_put(w->m, w->batch, w->bucket);
	}
	return batch_error(w->batch);
}

int work_end(struct work *w, int rc)
{
	if (rc == 0)
		rc = work_write(w);
	/* A batch that was begun is thrown away, and with it what the caches foresaw. */
	if (rc && (w->batch->count || batch_error(w->batch)))
		meta_batch_dropped(w->m);
	return rc;
}

/* --- attributes --- */

void inode_attr(const struct inode *in, ino_id ino, struct attr *attr_out)
{
	*attr_out = in->attr;
	attr_out->ino = ino;
	if (S_ISDIR(in->attr.mode))
		attr_out->size_bytes = WFS_BLOCK_SIZE;
	if (S_ISDIR(in->attr.mode) || S_ISREG(in->attr.mode))
		attr_out->blocks_512 = (attr_out->size_bytes + WFS_BLOCK_SIZE - 1) /
				       WFS_BLOCK_SIZE * (WFS_BLOCK_SIZE / 512);
}

void inode_drop_privileges(struct inode *in)
{
	if (S_ISDIR(in->attr.mode))
		return;
	in->attr.mode &= ~(uint32_t)S_ISUID;
	/* Without group execution the bit is no privilege (it once meant locking). */
	if (in->attr.mode & S_IXGRP)
		in->attr.mode &= ~(uint32_t)S_ISGID;
}

void inode_init(struct inode *in, const struct meta_call *c, const struct inode *dir,
	ino_id dir_ino, uint32_t mode)
{
	bool inherit = dir->attr.mode & S_ISGID;
	uint32_t gid = inherit ? dir->attr.gid : c->cred->gid;

	if (mode & S_ISGID && mode & S_IXGRP && c->cred->uid != 0 &&
		!cred_in_group(c->cred, gid))
		mode &= ~(uint32_t)S_ISGID;
	*in = (struct inode){
		.attr =
			{
				.mode = mode,
				.nlink = 1,
				.uid = c->cred->uid,
				.gid = gid,
				.atime_ns = c->now_ns,
				.mtime_ns = c->now_ns,
				.ctime_ns = c->now_ns,
				.btime_ns = c->now_ns,
				.fsid = dir->attr.fsid,
				.parent = dir_ino,
			},
	};
}

bool cred_in_group(const struct cred *cred, uint32_t gid)
{
	if (cred->gid == gid)
		return true;
	for (uint32_t i = 0; i < cred->group_count && i < WFS_GROUPS_MAX; i++)
		if (cred->groups[i] == gid)
			return true;
	return false;
}

int perm_check(const struct attr *attr, const struct cred *cred, int want)
{
	uint32_t bits;

	if (cred->uid == 0) {
		if (want & X_OK && !S_ISDIR(attr->mode) && !(attr->mode & 0111))
			return -EACCES;
		return 0;
	}
	if (cred->uid == attr->uid)
		bits = attr->mode >> 6;
	else if (cred_in_group(cred, attr->gid))
		bits = attr->mode >> 3;
	else
		bits = attr->mode;
	/* R_OK, W_OK and X_OK have the values of the permission bits. */
	return (uint32_t)want & ~bits & 7u ? -EACCES : 0;
}

int meta_getattr(struct meta *m, ino_id ino, struct attr *attr_out)
{
	struct inode in;
	int rc = inode_read(m, ino, &in);

	if (rc)
		return rc;
	if (in.flags & INODE_PURGING)
		return -EINPROGRESS;
	if (in.attr.nlink == 0 && !m->is_open(m->ctx, ino))
		return -ESTALE; /* its chunks are going away */
	inode_attr(&in, ino, attr_out);
	return 0;
}

int meta_open(struct meta *m, const struct meta_call *c, ino_id ino, int accmode,
	struct attr *attr_out)
{
	static const int wants[] = {
		[O_RDONLY] = R_OK, [O_WRONLY] = W_OK, [O_RDWR] = R_OK | W_OK};
	struct inode in;
	int rc;

	if (accmode != O_RDONLY && accmode != O_WRONLY && accmode != O_RDWR)
		return -EINVAL;
	rc = inode_read(m, ino, &in);
	if (rc)
		return rc;
	if (in.flags & INODE_PURGING)
		return -EINPROGRESS;
	if (in.attr.nlink == 0 && !m->is_open(m->ctx, ino))
		return -ESTALE;
	if (S_ISLNK(in.attr.mode))
		return -ELOOP;
	if (S_ISDIR(in.attr.mode) && accmode != O_RDONLY)
		return -EISDIR;
	rc = perm_check(&in.attr, c->cred, wants[accmode]);
	if (rc)
		return rc;
	inode_attr(&in, ino, attr_out);
	return 0;
}

/* --- setattr --- */

static int set_owner_permitted(
	const struct attr *a, const struct meta_call *c, const struct meta_set *set)
{
	const struct cred *cred = c->cred;

	if (cred->uid == 0)
		return 0;
	if (set->mask & (SET_UID | SET_GID) && cred->uid != a->uid)
		return -EPERM;
	if (set->mask & SET_UID && set->uid != a->uid)
		return -EPERM;
	if (set->mask & SET_GID && set->gid != a->gid && !cred_in_group(cred, set->gid))
		return -EPERM;
	return 0;
}

static int set_times_permitted(
	const struct attr *a, const struct meta_call *c, const struct meta_set *set)
{
	const uint32_t times = SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW;
	const uint32_t both_now = SET_ATIME_NOW | SET_MTIME_NOW;

	if (!(set->mask & times) || c->cred->uid == 0 || c->cred->uid == a->uid)
		return 0;
	if ((set->mask & times) == both_now)
		return perm_check(a, c->cred, W_OK);
	return -EPERM;
}

static int set_size_permitted(
	const struct attr *a, const struct meta_call *c, const struct meta_set *set)
{
	if (!(set->mask & SET_SIZE))
		return 0;
	if (S_ISDIR(a->mode))
		return -EISDIR;
	if (!S_ISREG(a->mode))
		return -EINVAL;
	if (set->size_bytes > WFS_FILE_SIZE_MAX)
		return -EFBIG;
	return set->by_fd ? 0 : perm_check(a, c->cred, W_OK);
}

static int set_permitted(
	const struct attr *a, const struct meta_call *c, const struct meta_set *set)
{
	int rc = set_owner_permitted(a, c, set);

	if (rc == 0 && set->mask & SET_MODE) {
		if (c->cred->uid != 0 && c->cred->uid != a->uid)
			rc = -EPERM;
		else if (S_ISLNK(a->mode))
			rc = -EOPNOTSUPP;
	}
	if (rc == 0)
		rc = set_times_permitted(a, c, set);
	if (rc == 0)
		rc = set_size_permitted(a, c, set);
	return rc;
}

static void set_owner_and_mode(
	struct inode *in, const struct meta_call *c, const struct meta_set *set)
{
	struct attr *a = &in->attr;
	uint32_t mode;

	if (set->mask & SET_UID)
		a->uid = set->uid;
	if (set->mask & SET_GID)
		a->gid = set->gid;
	if (set->mask & (SET_UID | SET_GID))
		inode_drop_privileges(in);
	if (!(set->mask & SET_MODE))
		return;
	mode = set->mode & 07777;
	if (c->cred->uid != 0 && !cred_in_group(c->cred, a->gid))
		mode &= ~(uint32_t)S_ISGID;
	a->mode = (a->mode & S_IFMT) | mode;
}

static void set_times(
	struct attr *a, const struct meta_call *c, const struct meta_set *set)
{
	if (set->mask & SET_ATIME)
		a->atime_ns = set->atime_ns;
	if (set->mask & SET_ATIME_NOW)
		a->atime_ns = c->now_ns;
	if (set->mask & SET_MTIME)
		a->mtime_ns = set->mtime_ns;
	if (set->mask & SET_MTIME_NOW)
		a->mtime_ns = c->now_ns;
	a->ctime_ns = c->now_ns;
}

static int set_size(struct work *w, struct work_inode *wi, const struct meta_call *c,
	uint64_t size_bytes, bool *purge_out)
{
	struct attr *a = &wi->in.attr;
	uint64_t old_size_bytes = a->size_bytes;
	uint32_t keep_blocks;
	int rc = 0;

	a->size_bytes = size_bytes;
	a->mtime_ns = c->now_ns;
	if (c->cred->uid != 0)
		inode_drop_privileges(&wi->in);
	if (size_bytes >= old_size_bytes)
		return 0;
	a->generation++;
	if (size_bytes < WFS_CHUNK_SIZE) {
		keep_blocks =
			(uint32_t)((size_bytes + WFS_BLOCK_SIZE - 1) / WFS_BLOCK_SIZE);
		if (keep_blocks < WFS_CHUNK_BLOCKS)
			rc = meta_extent_punch(w->m, w->batch, w->bucket, wi->ino, 0,
				keep_blocks, WFS_CHUNK_BLOCKS - keep_blocks);
	}
	if (rc || old_size_bytes <= WFS_CHUNK_SIZE)
		return rc;
	rc = job_truncate(w, wi, old_size_bytes, size_bytes);
	*purge_out = wi->in.flags & INODE_PURGING;
	return rc;
}

int meta_setattr(struct meta *m, const struct meta_call *c, ino_id ino,
	const struct meta_set *set, struct attr *attr_out, bool *purge_out)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(ino));
	struct work_inode *wi;
	bool purge = false;
	int rc = work_inode(w, ino, &wi);

	if (rc == 0 && wi->in.flags & INODE_PURGING)
		rc = -EINPROGRESS;
	if (rc == 0)
		rc = set_permitted(&wi->in.attr, c, set);
	if (rc)
		return work_end(w, rc);
	if (set->mask) {
		set_owner_and_mode(&wi->in, c, set);
		if (set->mask & SET_SIZE)
			rc = set_size(w, wi, c, set->size_bytes, &purge);
		set_times(&wi->in.attr, c, set);
		wi->dirty = true;
		rc = work_end(w, rc);
		if (rc)
			return rc;
	}
	inode_attr(&wi->in, ino, attr_out);
	if (purge_out)
		*purge_out = purge;
	return 0;
}

/* --- the inode's side of writes --- */

static int write_inode(struct work *w, ino_id ino, struct work_inode **wi_out)
{
	struct work_inode *wi;
	int rc = work_inode(w, ino, &wi);

	if (rc)
		return rc;
	if (wi->in.flags & INODE_PURGING)
		return -EINPROGRESS;
	if (!S_ISREG(wi->in.attr.mode))
		return S_ISDIR(wi->in.attr.mode) ? -EISDIR : -EINVAL;
	*wi_out = wi;
	return 0;
}

static int write_end(struct work *w, struct work_inode *wi, const struct meta_call *c,
	uint64_t end_bytes, struct attr *attr_out)
{
	struct inode *in = &wi->in;
	int rc;

	if (end_bytes > in->attr.size_bytes)
		in->attr.size_bytes = end_bytes;
	in->attr.mtime_ns = in->attr.ctime_ns = c->now_ns;
	in->flags |= INODE_HAS_DATA;
	if (c->cred->uid != 0)
		inode_drop_privileges(in);
	wi->dirty = true;
	rc = work_end(w, 0);
	if (rc)
		return rc;
	if (attr_out)
		inode_attr(in, wi->ino, attr_out);
	return 0;
}

int meta_extend(struct meta *m, const struct meta_call *c, ino_id ino,
	uint32_t generation, uint64_t end_bytes, struct attr *attr_out)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(ino));
	struct work_inode *wi;
	int rc;

	if (end_bytes > WFS_FILE_SIZE_MAX)
		return work_end(w, -EFBIG);
	rc = write_inode(w, ino, &wi);
	if (rc == 0 && generation != UINT32_MAX && generation != wi->in.attr.generation)
		rc = -ESTALE;
	if (rc)
		return work_end(w, rc);
	return write_end(w, wi, c, end_bytes, attr_out);
}

int meta_append(struct meta *m, const struct meta_call *c, ino_id ino, uint64_t length,
	uint64_t *offset_out, struct attr *attr_out)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(ino));
	struct work_inode *wi;
	uint64_t offset_bytes;
	int rc = write_inode(w, ino, &wi);

	if (rc)
		return work_end(w, rc);
	offset_bytes = wi->in.attr.size_bytes;
	if (length > WFS_FILE_SIZE_MAX - offset_bytes)
		return work_end(w, -EFBIG);
	rc = write_end(w, wi, c, offset_bytes + length, attr_out);
	if (rc == 0)
		*offset_out = offset_bytes;
	return rc;
}

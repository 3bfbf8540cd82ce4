/*
 * What the files of meta/ share; nobody else includes it.
 *
 * A mutating operation is one `struct work`: the inodes it names are loaded once, changed
 * in memory however many steps want to, and written by work_end. That also makes steps
 * see each other's changes, which the kv shows only after the commit.
 *
 *   work_begin -> work_inode / work_inode_new ... -> work_end(rc)
 *
 * There is one work per struct meta (operations do not nest), so its buffers are reused.
 */
#ifndef WFS_META_IMPL_H
#define WFS_META_IMPL_H

#include "core/base/list.h"
#include "meta/schema.h"

#define WORK_INODES_MAX (2u * TXN_STEPS_MAX)
#define LOCK_HEADS      256u
#define CHUNK_HEADS     4096u
#define CHUNK_CACHE_MAX 4096u

struct work_inode {
	ino_id ino;
	struct inode in;
	struct buf raw; /* the value, as loaded; in.target points here */
	bool dirty;
	bool gone; /* to be deleted */
};

struct work {
	struct meta *m;
	struct batch *batch;
	uint64_t txid; /* locks of this transaction do not stop us; 0: any do */
	uint16_t bucket;
	bool deferred; /* an intent: nothing but lock-covered keys may be touched */
	bool header_dirty;  /* an inode number was taken */
	int64_t inode_delta;
	uint32_t inode_count;
	struct work_inode inodes[WORK_INODES_MAX];
};

struct lock {
	struct lock *next;
	ino_id ino;
	uint64_t txid;
};

struct header_slot {
	struct bucket_header header;
	bool loaded;
};

struct chunk; /* extent.c */

struct meta {
	struct kv *kv;
	struct env *env;
	uint32_t bucket_count;
	meta_owns_fn *owns;
	meta_is_open_fn *is_open;
	void *ctx;

	struct work work;
	struct buf scratch;          /* values read, one at a time */
	struct header_slot *headers; /* one per bucket */
	uint64_t inode_count; /* of all we own, if it is known */
	bool inode_count_known;

	struct lock *locks[LOCK_HEADS];
	uint32_t lock_count;
	bool purge_locked;
	void (*unlocked)(void *ctx);
	void *unlocked_ctx;

	struct chunk *chunk_heads[CHUNK_HEADS];
	struct list chunk_lru; /* most recent first */
	uint32_t chunk_count;
};

static inline bool meta_owns(struct meta *m, ino_id ino)
{
	return m->owns(m->ctx, ino_bucket(ino));
}

/* --- inode.c --- */

struct work *work_begin(struct meta *m, struct batch *batch, uint16_t bucket);
/* The inode, from this work or the kv. -EINPROGRESS: locked by another transaction. */
int work_inode(struct work *w, ino_id ino, struct work_inode **wi_out);
/* A slot for an inode made now; target may be NULL. Counts it in. */
int work_inode_new(
	struct work *w, ino_id ino, const struct inode *in, struct work_inode **wi_out);
/* It goes, and is counted out. */
void work_inode_gone(struct work *w, struct work_inode *wi);
/* rc 0: write what changed. Otherwise, or when that fails, forget what was cached. */
int work_end(struct work *w, int rc);

/* A fresh inode number of the work's bucket. work_end writes the header, except of a
 * deferred work: there the caller does. */
int ino_alloc(struct work *w, ino_id *ino_out);

/* Read only; in->target is good until the next call. -EINPROGRESS, -ESTALE, -EUCLEAN. */
int inode_read(struct meta *m, ino_id ino, struct inode *in_out);
void inode_attr(const struct inode *in, ino_id ino, struct attr *attr_out);
/* A write by somebody who is not root, or a chown, takes the privileges away. */
void inode_drop_privileges(struct inode *in);
/* What a new inode in directory `dir` starts as. */
void inode_init(struct inode *in, const struct meta_call *c, const struct inode *dir,
	ino_id dir_ino, uint32_t mode);

/* The cached header of a bucket; loads it. Change it only followed by header_put. */
int header_get(struct meta *m, uint16_t bucket, struct bucket_header **header_out);
void header_put(struct meta *m, struct batch *batch, uint16_t bucket);
/* So many inodes more, or less, in a bucket that is ours; before header_put. */
void header_count(struct meta *m, struct bucket_header *header, int64_t delta);

/* A damaged value: say so once, return -EUCLEAN. */
int meta_damaged(const char *what, uint16_t bucket, uint64_t number);
static inline int key_has_prefix(
	const void *key, size_t key_size, const struct meta_key *prefix)
{
	return key_size >= prefix->size && memcmp(key, prefix->bytes, prefix->size) == 0;
}

/* --- walk.c --- */

/* -EINVAL, -ENAMETOOLONG. */
int name_check(const char *name, size_t name_size);
/* The entry. -ENOENT, -EUCLEAN. */
int entry_read(struct meta *m, ino_id dir, const char *name, size_t name_size,
	struct name_target *target_out);

/* --- lock.c --- */

/* The transaction that holds the inode, or 0. */
uint64_t lock_owner(const struct meta *m, ino_id ino);
/* All or none. -EAGAIN, -ENOMEM. What txid holds already is no conflict. */
int locks_add(struct meta *m, uint64_t txid, const ino_id *inos, uint32_t count);
void locks_release(struct meta *m);
void locks_release_bucket(struct meta *m, uint16_t bucket);

/* --- entry.c --- */

/* Add the name to a directory of this work; the caller has looked that it is free. */
void entry_put(struct work *w, ino_id dir, const char *name, size_t name_size,
	const struct name_target *target);

/* --- xattr.c --- */

/* Delete all of an inode, for its end. */
int xattr_delete_all(struct meta *m, struct batch *batch, ino_id ino);

/* --- extent.c --- */

/* A new file has no chunk 0 yet: know it without looking. Best effort. */
void chunk_cache_fresh(struct meta *m, ino_id ino);
bool chunk_cached(struct meta *m, ino_id ino, uint64_t index);
void chunk_cache_drop_all(struct meta *m);

/* --- purge.c --- */

/* The last link of a file went: remove it in this work, or leave an orphan. */
int inode_last_unlink(struct work *w, struct work_inode *wi, bool *purge_out);
/* The keys of a type that end in one number (O, T, t), from *from on, over all buckets in
 * order: fn, until it returns nonzero, which is then the result. */
typedef int meta_key_fn(void *ctx, uint16_t bucket, uint64_t number, const void *value,
	size_t value_size);
int meta_each_key(
	struct meta *m, char type, struct meta_key *from, meta_key_fn *fn, void *ctx);
/* Leave a job for chunks [first, end), merged with what the inode has. */
int job_truncate(struct work *w, struct work_inode *wi, uint64_t old_size_bytes,
	uint64_t new_size_bytes);

#endif

/*
 * The namespace of one shard: plain functions over its index.
 *
 * An operation reads the kv, validates, and adds its mutations to one batch; the caller
 * commits the batch as a record (and so applies it) before it runs the next operation.
 * Nothing here does I/O, waits, or keeps state that is not in the kv, apart from caches
 * and the table of locks held by transactions in doubt, which meta_recover rebuilds.
 *
 * One struct meta serves all buckets of its shard; every operation touches the keys of
 * one bucket only: the bucket of the inode or directory that it names. What needs
 * several buckets (mkdir, moved inodes, rename, ...) is a transaction of parts, one per
 * bucket: meta/part.h. Keys and values: meta/schema.h.
 *
 * Every function returns 0 or a negative errno; what POSIX defines for the call is not
 * repeated below. Common to all:
 *   -EINPROGRESS  an inode it needs is locked by a transaction: park and run again later
 *   -ESTALE       the inode does not exist (any more)
 *   -EUCLEAN      a value in the index is damaged; logged once
 *   -EIO, -ENOMEM from the kv
 * On failure outputs are untouched and the batch is to be thrown away.
 * One thread, the shard's.
 */
#ifndef WFS_META_META_H
#define WFS_META_META_H

#include <sys/stat.h>

#include "core/base/env.h"
#include "core/base/types.h"
#include "core/kv/kv.h"

struct meta;

struct attr {
	ino_id ino;
	uint32_t mode; /* st_mode, type and permissions */
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint64_t rdev;
	uint64_t size_bytes;
	uint64_t blocks_512;  /* as st_blocks: what is really stored */
	int64_t atime_ns;
	int64_t mtime_ns;
	int64_t ctime_ns;
	int64_t btime_ns;
	uint32_t generation; /* bumped by truncate; writes carry it */
	uint32_t fsid;
	ino_id parent;       /* directories: where ".." leads; files: where born */
	uint64_t entries;    /* directories: entries without "." and ".." */
};

struct meta_call {
	const struct cred *cred;
	int64_t now_ns;
	struct batch *batch;
};

/* Whether this shard owns a bucket; a walk stops where it leaves the shard. */
typedef bool meta_owns_fn(void *ctx, uint16_t bucket);
/* Whether some client holds the inode open (then its last unlink makes it an orphan). */
typedef bool meta_is_open_fn(void *ctx, ino_id ino);

struct meta_options {
	struct kv *kv;
	struct env *env;
	uint32_t bucket_count;
	meta_owns_fn *owns;
	meta_is_open_fn *is_open;
	void *ctx;
};

int meta_new(const struct meta_options *opt, struct meta **meta_out);
void meta_free(struct meta *m);

/* --- permissions -------------------------------------------------------------------- */

/* want: R_OK | W_OK | X_OK. 0 or -EACCES. uid 0 passes, save X of a file without any x. */
int perm_check(const struct attr *attr, const struct cred *cred, int want);
bool cred_in_group(const struct cred *cred, uint32_t gid);

/* --- walking ------------------------------------------------------------------------ */

enum walk_mode {
	WALK_FOLLOW,   /* a symlink in last place is followed */
	WALK_NOFOLLOW, /* it is the result */
	WALK_PARENT,   /* stop before the last name: dir and name are the result */
};

enum walk_end {
	WALK_DONE,    /* ino (and for WALK_PARENT the name) is the result */
	WALK_MOVED,   /* ino lives on another shard: go on there with path + consumed */
	WALK_SYMLINK, /* target, found in directory ino: go on with target + rest */
	WALK_ABOVE,   /* ".." of the filesystem's root: ino is that root */
};

struct walk {
	enum walk_end end;
	ino_id ino;         /* where the walk stands; WALK_PARENT: the directory */
	uint32_t consumed;  /* bytes of the path used up */
	uint32_t name_at;   /* WALK_PARENT: the last name within the path */
	uint32_t name_size;
	bool must_be_dir;   /* the path ended in '/' (or "/.") */
	uint32_t target_size;
	char target[WFS_SYMLINK_MAX + 1];
};

/*
 * Walk `path` (no leading '/', may be empty, not NUL-terminated) from directory `start`,
 * whose bucket this shard owns. Search permission is checked in every directory.
 * WALK_DONE with an ino of a bucket not owned here cannot happen: that is WALK_MOVED with
 * the whole path consumed. WALK_PARENT of an empty path, "." or ".." as last name:
 * -EINVAL ("." ), -ENOTEMPTY ("..") — as rmdir(2); the caller maps to its own errno.
 * -ENOENT, -ENOTDIR, -EACCES, -ENAMETOOLONG.
 */
int meta_walk(struct meta *m, const struct meta_call *c, ino_id start, const char *path,
	size_t path_size, enum walk_mode mode, struct walk *walk_out);

/* The entry itself: no permission check, no follow. type is DT_*. */
int meta_entry(struct meta *m, ino_id dir, const char *name, size_t name_size,
	ino_id *ino_out, uint8_t *type_out);

/* --- inodes ------------------------------------------------------------------------- */

/* -ESTALE: also of what has no name and is not open: its blocks may have gone already. */
int meta_getattr(struct meta *m, ino_id ino, struct attr *attr_out);

#define SET_MODE      0x001u
#define SET_UID       0x002u
#define SET_GID       0x004u
#define SET_SIZE      0x008u
#define SET_ATIME     0x010u
#define SET_MTIME     0x020u
#define SET_ATIME_NOW 0x040u
#define SET_MTIME_NOW 0x080u
struct meta_set {
	uint32_t mask;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes;
	int64_t atime_ns;
	int64_t mtime_ns;
	bool by_fd; /* size: the file is open for writing, no permission check */
};
/*
 * SET_SIZE: chunk 0 is cut in the same batch. When chunks above 0 may hold data past the
 * new end, a purge job (meta_purge_*) is left in the batch and *purge_out is true; the
 * inode counts as locked (-EINPROGRESS) until the job is done.
 */
int meta_setattr(struct meta *m, const struct meta_call *c, ino_id ino,
	const struct meta_set *set, struct attr *attr_out, bool *purge_out);

/* accmode: O_RDONLY, O_WRONLY, O_RDWR. -EISDIR, -EACCES, -ELOOP for a symlink. */
int meta_open(struct meta *m, const struct meta_call *c, ino_id ino, int accmode,
	struct attr *attr_out);

/* --- names in one directory whose inode is here --------------------------------------- */

/*
 * Make a file, fifo, socket or device node (mode has the type; never a directory) in the
 * directory's own bucket. mode is already cut by the umask. An existing name: -EEXIST
 * with exclusive, else 0 with *created_out false (and its attr only if its inode is in
 * this bucket; else attr.ino alone is set and the rest zero). Setgid directories hand on
 * their group. -EPERM: device nodes by others than uid 0.
 */
int meta_create(struct meta *m, const struct meta_call *c, ino_id dir, const char *name,
	size_t name_size, uint32_t mode, uint64_t rdev, bool exclusive,
	struct attr *attr_out, bool *created_out);
int meta_symlink(struct meta *m, const struct meta_call *c, ino_id dir, const char *name,
	size_t name_size, const char *target, size_t target_size, struct attr *attr_out);
int meta_readlink(struct meta *m, ino_id ino, struct buf *target_out);

/*
 * Entries after cookie (0: from the start), "." and ".." first, until out holds at least
 * one and would pass max_bytes. Each: struct dirent_record (meta/schema.h), then the
 * name; attributes are included where the inode is in a bucket of this shard (DIRENT_HAS_ATTR).
 * *eof_out: nothing after these. Stateless: a cookie stays valid whatever happens.
 */
int meta_readdir(struct meta *m, const struct meta_call *c, ino_id dir, uint64_t cookie,
	size_t max_bytes, struct buf *out, uint64_t *cookie_out, bool *eof_out);

/* --- extended attributes ("user.", "trusted.", "security.", "system.") ----------------- */

int meta_getxattr(struct meta *m, const struct meta_call *c, ino_id ino,
	const char *name, size_t name_size, struct buf *value_out);
int meta_setxattr(struct meta *m, const struct meta_call *c, ino_id ino,
	const char *name, size_t name_size, const void *value, size_t value_size,
	int flags); /* XATTR_CREATE, XATTR_REPLACE */
int meta_listxattr(struct meta *m, const struct meta_call *c, ino_id ino,
	struct buf *names_out); /* each NUL-terminated */
int meta_removexattr(struct meta *m, const struct meta_call *c, ino_id ino,
	const char *name, size_t name_size);

/* --- file data ------------------------------------------------------------------------ */

/* Where blocks of one chunk are. A hole has id 0. */
struct extent {
	uint32_t block;       /* first block within the chunk */
	uint32_t block_count;
	uint64_t id;          /* store block id of the first */
	uint32_t crc_index;   /* into the crc array: of the first */
};

/*
 * The extents covering [block, block + block_count) of a chunk, holes included, in
 * order; crcs of all non-hole blocks in order. extents must have room for 2 *
 * block_count + 1, crcs for block_count. bucket: of the chunk.
 */
int meta_extent_map(struct meta *m, uint16_t bucket, ino_id ino, uint64_t chunk,
	uint32_t block, uint32_t block_count, struct extent *extents, uint32_t *count_out,
	uint32_t *crcs);
/* Blocks [block, block + count) are now ids id.. with crcs; what they replace is freed. */
int meta_extent_write(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t block, uint32_t block_count, uint64_t id,
	const uint32_t *crcs);
int meta_extent_punch(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t block, uint32_t block_count);
/* The caches of extents must be told when a batch that was built is not committed. */
void meta_batch_dropped(struct meta *m);

/*
 * The inode's side of a write that ends at end_bytes: size grows to it if shorter, mtime
 * and ctime are now, setuid/setgid are cleared unless uid 0. -ESTALE also when
 * generation is not the inode's (a truncate came between: fetch attr, write again).
 */
int meta_extend(struct meta *m, const struct meta_call *c, ino_id ino,
	uint32_t generation, uint64_t end_bytes, struct attr *attr_out);
/* Take [size, size + length) for an appending write; *offset_out is the old size. */
int meta_append(struct meta *m, const struct meta_call *c, ino_id ino, uint64_t length,
	uint64_t *offset_out, struct attr *attr_out);

/*
 * Chunks above 0 refuse data of a generation older than their last purge: -ESTALE.
 * generation UINT32_MAX is never refused.
 */
int meta_chunk_check(struct meta *m, uint16_t bucket, ino_id ino, uint64_t chunk,
	uint32_t generation);
/* The chunk now holds data of this generation: older writes and purges come too late. */
int meta_chunk_mark(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t generation);
/* Cut a chunk at byte `keep_bytes` (0: all of it goes); the remainder of a half-kept block
 * is the caller's business. Remembers generation, unless forget (the file is gone). */
int meta_chunk_purge(struct meta *m, struct batch *batch, uint16_t bucket, ino_id ino,
	uint64_t chunk, uint32_t keep_bytes, uint32_t generation, bool forget);

/* The first chunk at or after `from` of which the bucket holds blocks, or -ENOENT. */
int meta_chunk_next(struct meta *m, uint16_t bucket, ino_id ino, uint64_t from,
	uint64_t *chunk_out);

/*
 * Purge jobs: chunks of a truncated or deleted file that other buckets still hold. They
 * lie in the kv until done, so that a crash does not lose them.
 */
struct purge_job {
	ino_id ino;
	bool whole_file;       /* deleted: then the inode goes too */
	uint64_t first_chunk;  /* the chunks to purge, never chunk 0 */
	uint64_t end_chunk;
	uint32_t keep_bytes;   /* of the first one */
	uint32_t generation;
};
/* The first job with ino > after that is ready to run (orphans that are open are not),
 * or -ENOENT. */
int meta_purge_next(struct meta *m, ino_id after, struct purge_job *job_out);
/* Whether it passed over an inode that was locked, since it last began from 0: look again
 * when locks are released. */
bool meta_purge_locked(const struct meta *m);
/* All its chunks are purged: drop the job, and inode, xattrs and chunk 0 if whole_file. */
int meta_purge_done(struct meta *m, struct batch *batch, const struct purge_job *job);

/* --- buckets, roots, statistics -------------------------------------------------------- */

/* A root directory, mode 0755, owned by c->cred; ino WFS_ROOT_INO if bucket is 0 and it has
 * none, else a fresh one. -EEXIST for WFS_ROOT_INO made twice. */
int meta_make_root(struct meta *m, const struct meta_call *c, uint16_t bucket,
	uint32_t fsid, ino_id *ino_out);

struct bucket_stats {
	uint64_t inode_count;
	uint64_t data_bytes; /* in extents of this bucket */
};
int meta_bucket_stats(struct meta *m, uint16_t bucket, struct bucket_stats *out);
/* Of all buckets we own, less those whose header cannot be read. A running count: cheap. */
uint64_t meta_inode_count(struct meta *m);
/* What `owns` answers has changed. */
void meta_owner_changed(struct meta *m);

/*
 * The raw keys of a bucket for fsck: entries after `after` (empty: from the start) as
 * {le16 key_size, le16 zero, le32 value_size, key, value}, until max_bytes.
 */
int meta_scan(struct meta *m, uint16_t bucket, const void *after, size_t after_size,
	size_t max_bytes, struct buf *out, bool *eof_out);

#endif

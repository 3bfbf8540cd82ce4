/*
 * The keys and values of the namespace: this header is the specification.
 *
 * Every key begins
 *
 *   0x01 | be16 bucket | u8 type | ...
 *
 * (keys that begin with 0x00 belong to the store), so that a bucket is one range.
 * Integers in keys are big-endian, in values little-endian. The types, in key order:
 *
 *   'A'                                          bucket_position (core/shard writes it into
 *                                                each record)
 *   'C' be64 ino | be64 chunk                    chunk_value: oldest generation taken
 *   'D' be64 dir | be64 hash63 | name | snap     dirent_value
 *   'E' be64 ino | be64 chunk | be16 block | snap  extent_value, le32 crc32c[]
 *   'H'                                          where the last epochs of a bucket with
 *                                                several members began (core/shard)
 *   'I' be64 ino | snap                          inode_value, a symlink's target
 *   'N'                                          bucket_value
 *   'O' be64 ino                                 job_value: orphan and/or purge job
 *   'S' be64 session | be16 slot                 the answer remembered (core/shard/reply.c)
 *   'T' be64 txid                                decision_value, le16 bucket[]
 *   'X' be64 ino | name | snap                   the bytes of the extended attribute
 *   't' be64 txid                                intent_value, le64 ino[], batch
 *
 * bucket is the one of ino or dir, for C and E the one of the chunk, for T the one in the
 * txid. hash63 is name_hash63(name, seed = dir): readdir's order, and its cookie. The
 * name is in the key, so that equal hashes do no harm.
 *
 * snap is the snapshot generation, be32, inverted (newest first). There are no snapshots
 * yet: it is SNAP_NOW always, and a plain get finds the newest.
 *
 * Reserved bytes are zero and checked. Every value is decoded by one pure function that
 * answers 0 or -EUCLEAN; those are the fuzz targets.
 *
 * Invariants (fsck checks them):
 *  1. a directory's nlink is 2 + the D entries of it that are directories, its entries
 *     the number of all;
 *  2. an inode with nlink 0 has an O key, and INODE_PURGING means an O key with
 *     JOB_TRUNCATE;
 *  3. E values of a chunk do not overlap;
 *  4. bucket_value counts the I keys of the bucket and WFS_BLOCK_SIZE bytes for each
 *     block of its E values;
 *  5. next_counter is above the counter of every inode of the bucket.
 */
#ifndef WFS_META_SCHEMA_H
#define WFS_META_SCHEMA_H

#include "core/base/le.h"
#include "meta/meta.h"
#include "meta/part.h"

#define META_KEY_SPACE   0x01u
#define META_KEY_MAX     (4u + 8 + 8 + WFS_NAME_MAX + 4)
#define META_PREFIX_SIZE 4u
#define SNAP_NOW         0xffffffffu
#define SNAP_SIZE        4u

/* Counters below belong to roots. */
#define COUNTER_FIRST 16u
#define COUNTER_END   ((uint64_t)1 << 48)

#define COOKIE_START      0u
#define COOKIE_DOT        1u
#define COOKIE_DOTDOT     2u
#define COOKIE_NAME_FIRST 16u

/* --- values --- */

#define INODE_VERSION    1u
#define INODE_PURGING    0x1u /* a truncate's purge job is not done */
#define INODE_HAS_XATTRS 0x2u /* has or had some */
#define INODE_HAS_DATA   0x4u /* was ever written */
#define INODE_FLAGS      0x7u

struct inode_value {
	uint8_t version;
	uint8_t data_class; /* 0: replicated; others later */
	le16 zero;
	le32 mode;
	le32 nlink;
	le32 uid;
	le32 gid;
	le32 fsid;
	le32 generation;
	le32 flags;
	le32 quota_id;
	le32 target_size; /* bytes of the symlink's target behind this struct */
	le64 rdev;
	le64 size_bytes;
	le64 atime_ns;
	le64 mtime_ns;
	le64 ctime_ns;
	le64 btime_ns;
	le64 parent;
	le64 entries;
	le64 reserved[3];
};
_Static_assert(sizeof(struct inode_value) == 128, "format");

struct dirent_value {
	le64 ino;
	uint8_t dtype; /* DT_* */
	uint8_t reserved[7];
};
_Static_assert(sizeof(struct dirent_value) == 16, "format");

struct extent_value {
	le64 id;
	le16 block_count; /* 1..256; that many crcs follow */
	le16 reserved16;
	le32 reserved32;
};
_Static_assert(sizeof(struct extent_value) == 16, "format");

struct chunk_value {
	le32 generation;
	le32 reserved;
};
_Static_assert(sizeof(struct chunk_value) == 8, "format");

/*
 * The NOTE of a record that changes extents (core/kv/batch.h), for the other members of
 * the bucket: block ids, and so E values, are each store's own. The value is the crcs.
 */
#define EXTENT_NOTE_SIZE 32u /* the key: be64 ino, chunk, id; be32 block, block_count */
struct extent_note {
	ino_id ino;
	uint64_t chunk;
	uint64_t id; /* of the first block, in the store that wrote the record; 0: a hole */
	uint32_t block;
	uint32_t block_count;
};

struct bucket_position { /* of the bucket's last record, in this store */
	le64 lsn;
	le32 epoch; /* in which it was written; 0: what is here is not whole */
	le32 zero;
};
_Static_assert(sizeof(struct bucket_position) == 16, "format");

#define BUCKET_VERSION 1u
struct bucket_value {
	le32 version;
	le32 reserved;
	le64 next_counter;
	le64 inode_count;
	le64 data_bytes;
};
_Static_assert(sizeof(struct bucket_value) == 32, "format");

#define JOB_ORPHAN   0x1u /* nlink is 0: all goes once nobody holds it open */
#define JOB_TRUNCATE 0x2u /* chunks [first, end) are being cut; see below */
struct job_value {
	le32 flags;
	le32 keep_bytes; /* of first_chunk; from here on: zero without JOB_TRUNCATE */
	le64 first_chunk;
	le64 end_chunk;
	le32 generation;
	le32 reserved;
};
_Static_assert(sizeof(struct job_value) == 32, "format");

#define INTENT_VERSION   1u
#define INTENT_PURGE     0x1u /* when committed, an orphan is left */
#define INTENT_LOCKS_MAX (2u * TXN_STEPS_MAX)
struct intent_value {
	uint8_t version;
	uint8_t flags;
	le16 lock_count;
	le32 batch_size_bytes;
	le64 new_ino;     /* 0: none */
	le64 inode_delta; /* two's complement, onto inode_count when committed */
};
_Static_assert(sizeof(struct intent_value) == 24, "format");

#define DECISION_VERSION 1u
struct decision_value {
	le16 version;
	le16 bucket_count; /* that many le16 follow */
	le32 reserved;
};
_Static_assert(sizeof(struct decision_value) == 8, "format");

/* --- records that travel --- */

struct attr_record {
	le64 ino;
	le32 mode;
	le32 nlink;
	le32 uid;
	le32 gid;
	le64 rdev;
	le64 size_bytes;
	le64 blocks_512;
	le64 atime_ns;
	le64 mtime_ns;
	le64 ctime_ns;
	le64 btime_ns;
	le32 generation;
	le32 fsid;
	le64 parent;
	le64 entries;
};
_Static_assert(sizeof(struct attr_record) == 104, "format");

#define DIRENT_HAS_ATTR 0x1u

/* One entry of meta_readdir, followed by name_size bytes of name; unaligned. */
struct dirent_record {
	le64 ino;
	le64 cookie; /* go on after this entry */
	le16 name_size;
	uint8_t dtype;
	uint8_t flags;
	le32 reserved;
	struct attr_record attr; /* zero without DIRENT_HAS_ATTR */
};
_Static_assert(sizeof(struct dirent_record) == 128, "format");

/* An encoded part: part_record, then step_count times step_record and its name. */
#define PART_VERSION 1u
struct part_record {
	le16 version;
	le16 bucket;
	le32 step_count;
};
_Static_assert(sizeof(struct part_record) == 8, "format");

struct step_record {
	uint8_t type;
	uint8_t flags;
	uint8_t dtype;
	uint8_t expect_dtype;
	le32 name_size;
	le64 dir;
	le64 ino;
	le64 expect;
	le32 victim_uid;
	le32 mode;
	le32 uid;
	le32 gid;
	le32 fsid;
	le32 reserved;
};
_Static_assert(sizeof(struct step_record) == 56, "format");

/* --- decoded forms --- */

/* attr.ino, attr.blocks_512 are not part of the value: the decoder leaves 0. */
struct inode {
	struct attr attr;
	uint32_t flags;
	uint32_t quota_id;
	uint8_t data_class;
	const char *target; /* into the bytes decoded; NULL unless a symlink */
	uint32_t target_size;
};

struct name_target {
	ino_id ino;
	uint8_t dtype;
};

struct bucket_header {
	uint64_t next_counter;
	uint64_t inode_count;
	uint64_t data_bytes;
};

struct job {
	uint32_t flags;
	uint32_t keep_bytes;
	uint64_t first_chunk;
	uint64_t end_chunk;
	uint32_t generation;
};

struct intent {
	uint32_t flags;
	ino_id new_ino;
	int64_t inode_delta;
	uint32_t lock_count;
	ino_id locks[INTENT_LOCKS_MAX];
	const void *batch; /* into the bytes decoded; a valid batch */
	size_t batch_size_bytes;
};

/* Encoders fill the fixed part; decoders are pure: 0 or -EUCLEAN. */
void inode_encode(const struct inode *in, struct inode_value *out);
int inode_decode(const void *bytes, size_t size_bytes, struct inode *out);
void name_target_encode(const struct name_target *in, struct dirent_value *out);
int name_target_decode(const void *bytes, size_t size_bytes, struct name_target *out);
/* crcs are unaligned le32 behind the struct; block is the one in the key. */
void extent_encode(uint64_t id, uint32_t block_count, struct extent_value *out);
int extent_decode(const void *bytes, size_t size_bytes, uint32_t block, uint64_t *id_out,
	uint32_t *block_count_out);
void extent_note_encode(const struct extent_note *in, uint8_t key_out[EXTENT_NOTE_SIZE]);
/* Also checks that the crcs are there. */
int extent_note_decode(const struct batch_entry *entry, struct extent_note *out);
void chunk_encode(uint32_t generation, struct chunk_value *out);
int chunk_decode(const void *bytes, size_t size_bytes, uint32_t *generation_out);
void bucket_encode(const struct bucket_header *in, struct bucket_value *out);
int bucket_decode(const void *bytes, size_t size_bytes, struct bucket_header *out);
void job_encode(const struct job *in, struct job_value *out);
int job_decode(const void *bytes, size_t size_bytes, struct job *out);
void intent_encode(const struct intent *in, struct buf *out);
int intent_decode(const void *bytes, size_t size_bytes, struct intent *out);
void decision_encode(const uint16_t *buckets, uint32_t bucket_count, struct buf *out);
int decision_decode(const void *bytes, size_t size_bytes,
	uint16_t buckets_out[TXN_PARTS_MAX], uint32_t *bucket_count_out);
void attr_record_encode(const struct attr *in, struct attr_record *out);
void attr_record_decode(const struct attr_record *in, struct attr *out);
/* The dirent at *offset of readdir's bytes: 1, 0 at the end, -EUCLEAN. name: borrowed. */
int dirent_next(const void *bytes, size_t size_bytes, size_t *offset,
	struct dirent_record *record_out, const char **name_out);

/* DT_* of a mode, 0 (DT_UNKNOWN) when it has no known type. */
uint8_t mode_dtype(uint32_t mode);

/* --- keys --- */

struct meta_key {
	uint8_t bytes[META_KEY_MAX];
	uint32_t size;
};

/* 0x01 | bucket | type, then nothing or one or two be64: prefixes to seek, and C, N, O,
 * T. */
void meta_key_prefix(struct meta_key *k, uint16_t bucket, char type);
void meta_key_u64(struct meta_key *k, uint64_t v);
void meta_key_dirent(struct meta_key *k, ino_id dir, const char *name, size_t name_size);
void meta_key_inode(struct meta_key *k, ino_id ino);
void meta_key_xattr(struct meta_key *k, ino_id ino, const char *name, size_t name_size);
void meta_key_extent(
	struct meta_key *k, uint16_t bucket, ino_id ino, uint64_t chunk, uint32_t block);
void meta_key_chunk(struct meta_key *k, uint16_t bucket, ino_id ino, uint64_t chunk);
void meta_key_header(struct meta_key *k, uint16_t bucket);
void meta_key_job(struct meta_key *k, ino_id ino);
void meta_key_decision(struct meta_key *k, uint64_t txid);
void meta_key_intent(struct meta_key *k, uint16_t bucket, uint64_t txid);

/* The parts of a key found under a prefix of its type: 0 or -EUCLEAN. */
int meta_key_dirent_parse(const void *key, size_t key_size, uint64_t *hash_out,
	const char **name_out, size_t *name_size_out);
int meta_key_xattr_parse(
	const void *key, size_t key_size, const char **name_out, size_t *name_size_out);
int meta_key_extent_parse(const void *key, size_t key_size, uint32_t *block_out);
int meta_key_u64_parse(const void *key, size_t key_size, uint64_t *value_out);

#endif

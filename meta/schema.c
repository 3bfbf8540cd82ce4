/*
 * Encoders and decoders of keys and values. schema.h is the specification.
 *
 * Decoders believe nothing: what passes them may be used without a further look, save
 * that numbers may name things that do not exist.
 */
#include "meta/schema.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>

#include "core/base/hash.h"

/* --- keys --- */

void meta_key_prefix(struct meta_key *k, uint16_t bucket, char type)
{
	k->bytes[0] = META_KEY_SPACE;
	be16_write(k->bytes + 1, bucket);
	k->bytes[3] = (uint8_t)type;
	k->size = META_PREFIX_SIZE;
}

void meta_key_u64(struct meta_key *k, uint64_t v)
{
	assert(k->size + sizeof(v) <= sizeof(k->bytes));
	be64_write(k->bytes + k->size, v);
	k->size += (uint32_t)sizeof(v);
}

static void key_bytes(struct meta_key *k, const void *bytes, size_t size)
{
	assert(k->size + size <= sizeof(k->bytes));
	memcpy(k->bytes + k->size, bytes, size);
	k->size += (uint32_t)size;
}

static void key_snap(struct meta_key *k)
{
	be32_write(k->bytes + k->size, SNAP_NOW);
	k->size += SNAP_SIZE;
}

void meta_key_dirent(struct meta_key *k, ino_id dir, const char *name, size_t name_size)
{
	assert(name_size >= 1 && name_size <= WFS_NAME_MAX);
	meta_key_prefix(k, ino_bucket(dir), 'D');
	meta_key_u64(k, dir);
	meta_key_u64(k, name_hash63(name, name_size, dir));
	key_bytes(k, name, name_size);
	key_snap(k);
}

void meta_key_inode(struct meta_key *k, ino_id ino)
{
	meta_key_prefix(k, ino_bucket(ino), 'I');
	meta_key_u64(k, ino);
	key_snap(k);
}

void meta_key_xattr(struct meta_key *k, ino_id ino, const char *name, size_t name_size)
{
	assert(name_size >= 1 && name_size <= WFS_XATTR_NAME_MAX);
	meta_key_prefix(k, ino_bucket(ino), 'X');
	meta_key_u64(k, ino);
	key_bytes(k, name, name_size);
	key_snap(k);
}

void meta_key_extent(
	struct meta_key *k, uint16_t bucket, ino_id ino, uint64_t chunk, uint32_t block)
{
	meta_key_prefix(k, bucket, 'E');
	meta_key_u64(k, ino);
	meta_key_u64(k, chunk);
	be16_write(k->bytes + k->size, (uint16_t)block);
	k->size += 2;
	key_snap(k);
}

void meta_key_chunk(struct meta_key *k, uint16_t bucket, ino_id ino, uint64_t chunk)
{
	meta_key_prefix(k, bucket, 'C');
	meta_key_u64(k, ino);
	meta_key_u64(k, chunk);
}

void meta_key_header(struct meta_key *k, uint16_t bucket)
{
	meta_key_prefix(k, bucket, 'N');
}

void meta_key_job(struct meta_key *k, ino_id ino)
{
	meta_key_prefix(k, ino_bucket(ino), 'O');
	meta_key_u64(k, ino);
}

void meta_key_decision(struct meta_key *k, uint64_t txid)
{
	meta_key_prefix(k, txid_bucket(txid), 'T');
	meta_key_u64(k, txid);
}

void meta_key_intent(struct meta_key *k, uint16_t bucket, uint64_t txid)
{
	meta_key_prefix(k, bucket, 't');
	meta_key_u64(k, txid);
}

static bool key_has_snap(const uint8_t *key, size_t key_size)
{
	return be32_read(key + key_size - SNAP_SIZE) == SNAP_NOW;
}

int meta_key_dirent_parse(const void *key, size_t key_size, uint64_t *hash_out,
	const char **name_out, size_t *name_size_out)
{
	const size_t fixed = META_PREFIX_SIZE + 16 + SNAP_SIZE;
	const uint8_t *p = key;
	uint64_t hash;

	if (key_size <= fixed || key_size > fixed + WFS_NAME_MAX ||
		!key_has_snap(p, key_size))
		return -EUCLEAN;
	hash = be64_read(p + META_PREFIX_SIZE + 8);
	if (hash < COOKIE_NAME_FIRST || hash > INT64_MAX)
		return -EUCLEAN;
	*hash_out = hash;
	*name_out = (const char *)p + META_PREFIX_SIZE + 16;
	*name_size_out = key_size - fixed;
	return 0;
}

int meta_key_xattr_parse(
	const void *key, size_t key_size, const char **name_out, size_t *name_size_out)
{
	const size_t fixed = META_PREFIX_SIZE + 8 + SNAP_SIZE;

	if (key_size <= fixed || key_size > fixed + WFS_XATTR_NAME_MAX ||
		!key_has_snap(key, key_size))
		return -EUCLEAN;
	*name_out = (const char *)key + META_PREFIX_SIZE + 8;
	*name_size_out = key_size - fixed;
	return 0;
}

int meta_key_extent_parse(const void *key, size_t key_size, uint32_t *block_out)
{
	const size_t fixed = META_PREFIX_SIZE + 16 + 2 + SNAP_SIZE;
	uint16_t block;

	if (key_size != fixed || !key_has_snap(key, key_size))
		return -EUCLEAN;
	block = be16_read((const uint8_t *)key + META_PREFIX_SIZE + 16);
	if (block >= WFS_CHUNK_BLOCKS)
		return -EUCLEAN;
	*block_out = block;
	return 0;
}

int meta_key_u64_parse(const void *key, size_t key_size, uint64_t *value_out)
{
	if (key_size != META_PREFIX_SIZE + 8)
		return -EUCLEAN;
	*value_out = be64_read((const uint8_t *)key + META_PREFIX_SIZE);
	return 0;
}

/* --- inodes --- */

uint8_t mode_dtype(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK: return (uint8_t)IFTODT(mode);
	default: return DT_UNKNOWN;
	}
}

void inode_encode(const struct inode *in, struct inode_value *out)
{
	const struct attr *a = &in->attr;

	*out = (struct inode_value){
		.version = INODE_VERSION,
		.data_class = in->data_class,
		.mode = le32_put(a->mode),
		.nlink = le32_put(a->nlink),
		.uid = le32_put(a->uid),
		.gid = le32_put(a->gid),
		.fsid = le32_put(a->fsid),
		.generation = le32_put(a->generation),
		.flags = le32_put(in->flags),
		.quota_id = le32_put(in->quota_id),
		.target_size = le32_put(in->target_size),
		.rdev = le64_put(a->rdev),
		.size_bytes = le64_put(a->size_bytes),
		.atime_ns = le64_put((uint64_t)a->atime_ns),
		.mtime_ns = le64_put((uint64_t)a->mtime_ns),
		.ctime_ns = le64_put((uint64_t)a->ctime_ns),
		.btime_ns = le64_put((uint64_t)a->btime_ns),
		.parent = le64_put(a->parent),
		.entries = le64_put(a->entries),
	};
}

static bool inode_sane(const struct inode_value *v, size_t tail_bytes)
{
	uint32_t mode = le32_get(v->mode), target_size = le32_get(v->target_size);
	uint64_t size_bytes = le64_get(v->size_bytes);

	if (v->version != INODE_VERSION || v->data_class || le16_get(v->zero))
		return false;
	if (le64_get(v->reserved[0]) | le64_get(v->reserved[1]) |
		le64_get(v->reserved[2]))
		return false;
	if (mode_dtype(mode) == DT_UNKNOWN || mode & ~(uint32_t)(S_IFMT | 07777))
		return false;
	if (le32_get(v->flags) & ~INODE_FLAGS || size_bytes > WFS_FILE_SIZE_MAX)
		return false;
	if (target_size != tail_bytes)
		return false;
	if (S_ISLNK(mode))
		return target_size >= 1 && target_size <= WFS_SYMLINK_MAX &&
		       size_bytes == target_size;
	if (S_ISDIR(mode))
		return target_size == 0 && le32_get(v->nlink) >= 2;
	return target_size == 0 && le64_get(v->entries) == 0;
}

int inode_decode(const void *bytes, size_t size_bytes, struct inode *out)
{
	struct inode_value v;
	uint32_t target_size;

	if (size_bytes < sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	if (!inode_sane(&v, size_bytes - sizeof(v)))
		return -EUCLEAN;
	target_size = le32_get(v.target_size);
	*out = (struct inode){
		.attr =
			{
				.mode = le32_get(v.mode),
				.nlink = le32_get(v.nlink),
				.uid = le32_get(v.uid),
				.gid = le32_get(v.gid),
				.rdev = le64_get(v.rdev),
				.size_bytes = le64_get(v.size_bytes),
				.atime_ns = (int64_t)le64_get(v.atime_ns),
				.mtime_ns = (int64_t)le64_get(v.mtime_ns),
				.ctime_ns = (int64_t)le64_get(v.ctime_ns),
				.btime_ns = (int64_t)le64_get(v.btime_ns),
				.generation = le32_get(v.generation),
				.fsid = le32_get(v.fsid),
				.parent = le64_get(v.parent),
				.entries = le64_get(v.entries),
			},
		.flags = le32_get(v.flags),
		.quota_id = le32_get(v.quota_id),
		.data_class = v.data_class,
		.target = target_size ? (const char *)bytes + sizeof(v) : NULL,
		.target_size = target_size,
	};
	return 0;
}

/* --- small values --- */

void name_target_encode(const struct name_target *in, struct dirent_value *out)
{
	*out = (struct dirent_value){.ino = le64_put(in->ino), .dtype = in->dtype};
}

int name_target_decode(const void *bytes, size_t size_bytes, struct name_target *out)
{
	static const uint8_t zeros[sizeof(((struct dirent_value *)0)->reserved)];
	struct dirent_value v;

	if (size_bytes != sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	if (le64_get(v.ino) == 0 || v.dtype == DT_UNKNOWN ||
		mode_dtype(DTTOIF((uint32_t)v.dtype)) != v.dtype ||
		memcmp(v.reserved, zeros, sizeof(zeros)) != 0)
		return -EUCLEAN;
	*out = (struct name_target){.ino = le64_get(v.ino), .dtype = v.dtype};
	return 0;
}

void extent_encode(uint64_t id, uint32_t block_count, struct extent_value *out)
{
	assert(id && block_count >= 1 && block_count <= WFS_CHUNK_BLOCKS);
	*out = (struct extent_value){
		.id = le64_put(id),
		.block_count = le16_put((uint16_t)block_count),
	};
}

int extent_decode(const void *bytes, size_t size_bytes, uint32_t block, uint64_t *id_out,
	uint32_t *block_count_out)
{
	struct extent_value v;
	uint32_t block_count;

	if (size_bytes < sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	block_count = le16_get(v.block_count);
	if (le16_get(v.reserved16) || le32_get(v.reserved32) || le64_get(v.id) == 0)
		return -EUCLEAN;
	if (block_count < 1 || block + block_count > WFS_CHUNK_BLOCKS ||
		le64_get(v.id) > UINT64_MAX - block_count ||
		size_bytes != sizeof(v) + block_count * sizeof(le32))
		return -EUCLEAN;
	*id_out = le64_get(v.id);
	*block_count_out = block_count;
	return 0;
}

void extent_note_encode(const struct extent_note *in, uint8_t key_out[EXTENT_NOTE_SIZE])
{
	be64_write(key_out, in->ino);
	be64_write(key_out + 8, in->chunk);
	be64_write(key_out + 16, in->id);
	be32_write(key_out + 24, in->block);
	be32_write(key_out + 28, in->block_count);
}

int extent_note_decode(const struct batch_entry *entry, struct extent_note *out)
{
	if (entry->type != BATCH_NOTE || entry->key_size != EXTENT_NOTE_SIZE)
		return -EUCLEAN;
	*out = (struct extent_note){
		.ino = be64_read(entry->key),
		.chunk = be64_read(entry->key + 8),
		.id = be64_read(entry->key + 16),
		.block = be32_read(entry->key + 24),
		.block_count = be32_read(entry->key + 28),
	};
	if (out->block_count == 0 || out->block >= WFS_CHUNK_BLOCKS ||
		out->block_count > WFS_CHUNK_BLOCKS - out->block ||
		entry->value_size != (out->id ? out->block_count * sizeof(le32) : 0))
		return -EUCLEAN;
	return 0;
}

void chunk_encode(uint32_t generation, struct chunk_value *out)
{
	*out = (struct chunk_value){.generation = le32_put(generation)};
}

int chunk_decode(const void *bytes, size_t size_bytes, uint32_t *generation_out)
{
	struct chunk_value v;

	if (size_bytes != sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	if (le32_get(v.reserved))
		return -EUCLEAN;
	*generation_out = le32_get(v.generation);
	return 0;
}

void bucket_encode(const struct bucket_header *in, struct bucket_value *out)
{
	*out = (struct bucket_value){
		.version = le32_put(BUCKET_VERSION),
		.next_counter = le64_put(in->next_counter),
		.inode_count = le64_put(in->inode_count),
		.data_bytes = le64_put(in->data_bytes),
	};
}

int bucket_decode(const void *bytes, size_t size_bytes, struct bucket_header *out)
{
	struct bucket_value v;

	if (size_bytes != sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	if (le32_get(v.version) != BUCKET_VERSION || le32_get(v.reserved) ||
		le64_get(v.next_counter) < COUNTER_FIRST ||
		le64_get(v.next_counter) > COUNTER_END ||
		le64_get(v.data_bytes) % WFS_BLOCK_SIZE)
		return -EUCLEAN;
	*out = (struct bucket_header){
		.next_counter = le64_get(v.next_counter),
		.inode_count = le64_get(v.inode_count),
		.data_bytes = le64_get(v.data_bytes),
	};
	return 0;
}

void job_encode(const struct job *in, struct job_value *out)
{
	*out = (struct job_value){
		.flags = le32_put(in->flags),
		.keep_bytes = le32_put(in->keep_bytes),
		.first_chunk = le64_put(in->first_chunk),
		.end_chunk = le64_put(in->end_chunk),
		.generation = le32_put(in->generation),
	};
}

int job_decode(const void *bytes, size_t size_bytes, struct job *out)
{
	struct job_value v;
	struct job job;

	if (size_bytes != sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	job = (struct job){
		.flags = le32_get(v.flags),
		.keep_bytes = le32_get(v.keep_bytes),
		.first_chunk = le64_get(v.first_chunk),
		.end_chunk = le64_get(v.end_chunk),
		.generation = le32_get(v.generation),
	};
	if (le32_get(v.reserved) || job.flags == 0 ||
		job.flags & ~(JOB_ORPHAN | JOB_TRUNCATE))
		return -EUCLEAN;
	if (job.flags & JOB_TRUNCATE &&
		(job.first_chunk < 1 || job.end_chunk <= job.first_chunk ||
			job.end_chunk > WFS_FILE_SIZE_MAX / WFS_CHUNK_SIZE ||
			job.keep_bytes >= WFS_CHUNK_SIZE))
		return -EUCLEAN;
	*out = job;
	return 0;
}

/* --- transactions --- */

void intent_encode(const struct intent *in, struct buf *out)
{
	struct intent_value v = {
		.version = INTENT_VERSION,
		.flags = (uint8_t)in->flags,
		.lock_count = le16_put((uint16_t)in->lock_count),
		.batch_size_bytes = le32_put((uint32_t)in->batch_size_bytes),
		.new_ino = le64_put(in->new_ino),
		.inode_delta = le64_put((uint64_t)in->inode_delta),
	};

	buf_append(out, &v, sizeof(v));
	for (uint32_t i = 0; i < in->lock_count; i++) {
		le64 ino = le64_put(in->locks[i]);

		buf_append(out, &ino, sizeof(ino));
	}
	if (in->batch_size_bytes)
		buf_append(out, in->batch, in->batch_size_bytes);
}

int intent_decode(const void *bytes, size_t size_bytes, struct intent *out)
{
	const uint8_t *p = bytes;
	struct intent_value v;
	uint32_t lock_count;
	size_t batch_at;

	if (size_bytes < sizeof(v))
		return -EUCLEAN;
	memcpy(&v, p, sizeof(v));
	lock_count = le16_get(v.lock_count);
	if (v.version != INTENT_VERSION || v.flags & ~INTENT_PURGE ||
		lock_count > INTENT_LOCKS_MAX)
		return -EUCLEAN;
	batch_at = sizeof(v) + lock_count * sizeof(le64);
	if (size_bytes < batch_at ||
		size_bytes - batch_at != le32_get(v.batch_size_bytes) ||
		batch_validate(p + batch_at, size_bytes - batch_at))
		return -EUCLEAN;
	out->flags = v.flags;
	out->new_ino = le64_get(v.new_ino);
	out->inode_delta = (int64_t)le64_get(v.inode_delta);
	out->lock_count = lock_count;
	for (uint32_t i = 0; i < lock_count; i++) {
		le64 ino;

		memcpy(&ino, p + sizeof(v) + i * sizeof(ino), sizeof(ino));
		out->locks[i] = le64_get(ino);
	}
	out->batch = p + batch_at;
	out->batch_size_bytes = size_bytes - batch_at;
	return 0;
}

void decision_encode(const uint16_t *buckets, uint32_t bucket_count, struct buf *out)
{
	struct decision_value v = {
		.version = le16_put(DECISION_VERSION),
		.bucket_count = le16_put((uint16_t)bucket_count),
	};

	assert(bucket_count <= TXN_PARTS_MAX);
	buf_append(out, &v, sizeof(v));
	for (uint32_t i = 0; i < bucket_count; i++) {
		le16 bucket = le16_put(buckets[i]);

		buf_append(out, &bucket, sizeof(bucket));
	}
}

int decision_decode(const void *bytes, size_t size_bytes,
	uint16_t buckets_out[TXN_PARTS_MAX], uint32_t *bucket_count_out)
{
	struct decision_value v;
	uint32_t bucket_count;

	if (size_bytes < sizeof(v))
		return -EUCLEAN;
	memcpy(&v, bytes, sizeof(v));
	bucket_count = le16_get(v.bucket_count);
	if (le16_get(v.version) != DECISION_VERSION || le32_get(v.reserved) ||
		bucket_count > TXN_PARTS_MAX ||
		size_bytes != sizeof(v) + bucket_count * sizeof(le16))
		return -EUCLEAN;
	for (uint32_t i = 0; i < bucket_count; i++) {
		le16 bucket;

		memcpy(&bucket, (const uint8_t *)bytes + sizeof(v) + i * sizeof(bucket),
			sizeof(bucket));
		buckets_out[i] = le16_get(bucket);
	}
	*bucket_count_out = bucket_count;
	return 0;
}

/* --- records that travel --- */

void attr_record_encode(const struct attr *in, struct attr_record *out)
{
	*out = (struct attr_record){
		.ino = le64_put(in->ino),
		.mode = le32_put(in->mode),
		.nlink = le32_put(in->nlink),
		.uid = le32_put(in->uid),
		.gid = le32_put(in->gid),
		.rdev = le64_put(in->rdev),
		.size_bytes = le64_put(in->size_bytes),
		.blocks_512 = le64_put(in->blocks_512),
		.atime_ns = le64_put((uint64_t)in->atime_ns),
		.mtime_ns = le64_put((uint64_t)in->mtime_ns),
		.ctime_ns = le64_put((uint64_t)in->ctime_ns),
		.btime_ns = le64_put((uint64_t)in->btime_ns),
		.generation = le32_put(in->generation),
		.fsid = le32_put(in->fsid),
		.parent = le64_put(in->parent),
		.entries = le64_put(in->entries),
	};
}

void attr_record_decode(const struct attr_record *in, struct attr *out)
{
	*out = (struct attr){
		.ino = le64_get(in->ino),
		.mode = le32_get(in->mode),
		.nlink = le32_get(in->nlink),
		.uid = le32_get(in->uid),
		.gid = le32_get(in->gid),
		.rdev = le64_get(in->rdev),
		.size_bytes = le64_get(in->size_bytes),
		.blocks_512 = le64_get(in->blocks_512),
		.atime_ns = (int64_t)le64_get(in->atime_ns),
		.mtime_ns = (int64_t)le64_get(in->mtime_ns),
		.ctime_ns = (int64_t)le64_get(in->ctime_ns),
		.btime_ns = (int64_t)le64_get(in->btime_ns),
		.generation = le32_get(in->generation),
		.fsid = le32_get(in->fsid),
		.parent = le64_get(in->parent),
		.entries = le64_get(in->entries),
	};
}

int dirent_next(const void *bytes, size_t size_bytes, size_t *offset,
	struct dirent_record *record_out, const char **name_out)
{
	const uint8_t *p = bytes;
	struct dirent_record r;
	size_t left_bytes;

	assert(*offset <= size_bytes);
	left_bytes = size_bytes - *offset;
	if (left_bytes == 0)
		return 0;
	if (left_bytes < sizeof(r))
		return -EUCLEAN;
	memcpy(&r, p + *offset, sizeof(r));
	if (le16_get(r.name_size) < 1 || le16_get(r.name_size) > WFS_NAME_MAX ||
		left_bytes - sizeof(r) < le16_get(r.name_size) ||
		r.flags & ~DIRENT_HAS_ATTR || le32_get(r.reserved))
		return -EUCLEAN;
	*record_out = r;
	*name_out = (const char *)p + *offset + sizeof(r);
	*offset += sizeof(r) + le16_get(r.name_size);
	return 1;
}

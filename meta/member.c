/*
 * Buckets with several members: what one member's record means to another, and how a
 * bucket is taken over, emptied and copied.
 *
 * A record's batch is local: E values hold block ids of one store. So its notes travel
 * instead (meta/schema.h), with the puts and deletes of all other keys, and every member
 * cuts its own extents. The blocks come in the order of the notes that name them. 'A' is
 * each member's own business too.
 */
#include <errno.h>
#include <string.h>

#include "meta/member.h"
#include "meta/meta_impl.h"

#define WIPE_KEYS 512u

static bool key_is_local(const uint8_t *key, size_t key_size)
{
	return key_size < META_PREFIX_SIZE || key[0] != META_KEY_SPACE || key[3] == 'A' ||
	       key[3] == 'E';
}

static void entry_say(struct batch *ops, const struct batch_entry *e)
{
	if (e->type == BATCH_NOTE)
		batch_note(ops, e->key, e->key_size, e->value, e->value_size);
	else if (e->type == BATCH_PUT && !key_is_local(e->key, e->key_size))
		batch_put(ops, e->key, e->key_size, e->value, e->value_size);
	else if (e->type == BATCH_DEL && !key_is_local(e->key, e->key_size))
		batch_del(ops, e->key, e->key_size);
}

int meta_record_say(const void *bytes, size_t size_bytes, struct batch *ops)
{
	struct batch_entry e;
	size_t offset = 0;
	int rc;

	while ((rc = batch_next(bytes, size_bytes, &offset, &e)) == 1)
		entry_say(ops, &e);
	return rc ? rc : batch_error(ops);
}

struct hearing {
	struct meta *m;
	struct batch *batch;
	uint16_t bucket;
	uint64_t id; /* of the next block, here */
	uint32_t blocks_left;
};

static int note_hear(struct hearing *h, const struct batch_entry *e)
{
	uint32_t crcs[WFS_CHUNK_BLOCKS];
	struct extent_note n;
	int rc = extent_note_decode(e, &n);

	if (rc)
		return rc;
	if (n.id == 0)
		return meta_extent_punch(h->m, h->batch, h->bucket, n.ino, n.chunk, n.block,
			n.block_count);
	if (n.block_count > h->blocks_left)
		return -EUCLEAN;
	for (uint32_t i = 0; i < n.block_count; i++) {
		le32 crc;

		memcpy(&crc, e->value + i * sizeof(crc), sizeof(crc));
		crcs[i] = le32_get(crc);
	}
	rc = meta_extent_write(h->m, h->batch, h->bucket, n.ino, n.chunk, n.block,
		n.block_count, h->id, crcs);
	h->id += n.block_count;
	h->blocks_left -= n.block_count;
	return rc;
}

static int entry_hear(struct hearing *h, const struct batch_entry *e)
{
	if (e->type == BATCH_NOTE)
		return note_hear(h, e);
	if ((e->type != BATCH_PUT && e->type != BATCH_DEL) ||
		key_is_local(e->key, e->key_size) || be16_read(e->key + 1) != h->bucket)
		return -EUCLEAN;
	if (e->type == BATCH_PUT)
		batch_put(h->batch, e->key, e->key_size, e->value, e->value_size);
	else
		batch_del(h->batch, e->key, e->key_size);
	return 0;
}

int meta_record_hear(struct meta *m, struct batch *batch, uint16_t bucket, const void *ops,
	size_t size_bytes, uint64_t id, uint32_t block_count)
{
	struct hearing h = {.m = m,
		.batch = batch,
		.bucket = bucket,
		.id = id,
		.blocks_left = block_count};
	struct batch_entry e;
	size_t offset = 0;
	int rc = 0, more;

	while (rc == 0 && (more = batch_next(ops, size_bytes, &offset, &e)) != 0)
		rc = more < 0 ? more : entry_hear(&h, &e);
	if (rc == 0 && h.blocks_left > 0)
		rc = -EUCLEAN;
	if (rc == 0)
		rc = batch_error(batch);
	/* The header came as a value; what we have cached of it is older. */
	m->headers[bucket].loaded = false;
	if (rc)
		meta_batch_dropped(m);
	return rc;
}

int meta_ops_crcs(const void *ops, size_t size_bytes, uint32_t *crcs, uint32_t count)
{
	struct extent_note n;
	struct batch_entry e;
	size_t offset = 0;
	uint32_t at = 0;
	int more;

	while ((more = batch_next(ops, size_bytes, &offset, &e)) == 1) {
		if (e.type != BATCH_NOTE)
			continue;
		if (extent_note_decode(&e, &n) || (n.id && n.block_count > count - at))
			return -EUCLEAN;
		for (uint32_t i = 0; n.id && i < n.block_count; i++) {
			le32 crc;

			memcpy(&crc, e.value + i * sizeof(crc), sizeof(crc));
			crcs[at++] = le32_get(crc);
		}
	}
	return more < 0 || at != count ? -EUCLEAN : 0;
}

/* --- taking over --- */

void meta_bucket_close(struct meta *m, uint16_t bucket)
{
	m->headers[bucket].loaded = false;
	locks_release_bucket(m, bucket);
}

int meta_bucket_open(struct meta *m, uint16_t bucket,
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count),
	void *ctx)
{
	meta_bucket_close(m, bucket);
	return meta_recover_bucket(m, bucket, found, ctx);
}

/* --- emptying --- */

/* Delete the key; an extent goes with its whole chunk. */
static int wipe_key(struct meta *m, struct batch *batch, uint16_t bucket,
	const uint8_t *key, size_t key_size)
{
	if (key[3] != 'E') {
		batch_del(batch, key, key_size);
		return 0;
	}
	if (key_size < META_PREFIX_SIZE + 16)
		return meta_damaged("extent key", bucket, 0);
	return meta_extent_punch(m, batch, bucket, be64_read(key + META_PREFIX_SIZE),
		be64_read(key + META_PREFIX_SIZE + 8), 0, WFS_CHUNK_BLOCKS);
}

static bool same_chunk(const struct meta_key *last, const uint8_t *key, size_t key_size)
{
	return key[3] == 'E' && key_size >= META_PREFIX_SIZE + 16 &&
	       last->size >= META_PREFIX_SIZE + 16 &&
	       memcmp(last->bytes, key, META_PREFIX_SIZE + 16) == 0;
}

int meta_bucket_wipe(struct meta *m, struct batch *batch, uint16_t bucket, bool *more_out)
{
	struct meta_key from, last = {.size = 0};
	struct kv_iter *it;
	uint32_t count = 0;
	int rc = kv_iter_open(m->kv, &it);

	if (rc)
		return rc;
	*more_out = false;
	meta_key_prefix(&from, bucket, 0);
	for (it->ops->seek(it, from.bytes, from.size); rc == 0 && it->ops->valid(it);
		it->ops->next(it)) {
		size_t key_size;
		const uint8_t *key = it->ops->key(it, &key_size);

		if (key_size < META_PREFIX_SIZE || memcmp(key, from.bytes, 3) != 0)
			break;
		/* The header goes last: extents that are cut write it again. */
		if (key[3] == 'A' || key[3] == 'N' || same_chunk(&last, key, key_size))
			continue;
		if (count++ == WIPE_KEYS) {
			*more_out = true;
			break;
		}
		rc = wipe_key(m, batch, bucket, key, key_size);
		last.size = 0;
		if (key_size <= sizeof(last.bytes)) {
			last.size = (uint32_t)key_size;
			memcpy(last.bytes, key, key_size);
		}
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	if (rc == 0 && !*more_out) {
		meta_key_prefix(&from, bucket, 'N');
		batch_del(batch, from.bytes, from.size);
		m->headers[bucket].loaded = false;
	}
	if (rc)
		meta_batch_dropped(m);
	return rc;
}

/* --- copying --- */

static int copy_extent(struct meta_copy *copy, const uint8_t *key, size_t key_size,
	const uint8_t *value, size_t value_size)
{
	struct extent_note n = {.ino = be64_read(key + META_PREFIX_SIZE),
		.chunk = be64_read(key + META_PREFIX_SIZE + 8)};
	uint8_t note[EXTENT_NOTE_SIZE];

	if (meta_key_extent_parse(key, key_size, &n.block) ||
		extent_decode(value, value_size, n.block, &n.id, &n.block_count))
		return -EUCLEAN;
	if (copy->block_count + n.block_count > WFS_CHUNK_BLOCKS)
		return -E2BIG;
	extent_note_encode(&n, note);
	batch_note(&copy->ops, note, sizeof(note), value + sizeof(struct extent_value),
		value_size - sizeof(struct extent_value));
	for (uint32_t i = 0; i < n.block_count; i++)
		copy->ids[copy->block_count++] = n.id + i;
	return 0;
}

/* -E2BIG: enough for one unit. */
static int copy_key(struct meta_copy *copy, const uint8_t *key, size_t key_size,
	const uint8_t *value, size_t value_size)
{
	if (key[3] == 'A')
		return 0;
	if (copy->ops.count && copy->ops.bytes.size_bytes + key_size + value_size + 64 >
				       META_COPY_OPS_MAX)
		return -E2BIG;
	/* What is alone too large for a message body leaves no room for blocks. */
	if (value_size > META_COPY_OPS_MAX && copy->block_count)
		return -E2BIG;
	if (key[3] == 'E')
		return copy_extent(copy, key, key_size, value, value_size);
	batch_put(&copy->ops, key, key_size, value, value_size);
	return 0;
}

int meta_bucket_copy(struct meta *m, uint16_t bucket, struct meta_copy *copy)
{
	struct meta_key prefix;
	struct kv_iter *it;
	int rc = kv_iter_open(m->kv, &it);

	if (rc)
		return rc;
	batch_reset(&copy->ops);
	copy->block_count = 0;
	meta_key_prefix(&prefix, bucket, 0);
	if (copy->from_size == 0) {
		memcpy(copy->from, prefix.bytes, prefix.size);
		copy->from_size = prefix.size;
	}
	copy->end = true;
	for (it->ops->seek(it, copy->from, copy->from_size); it->ops->valid(it);
		it->ops->next(it)) {
		size_t key_size, value_size;
		const uint8_t *key = it->ops->key(it, &key_size);
		const uint8_t *value = it->ops->value(it, &value_size);

		if (key_size < META_PREFIX_SIZE || memcmp(key, prefix.bytes, 3) != 0)
			break;
		if (key_size > sizeof(copy->from))
			rc = -EUCLEAN;
		else
			rc = copy_key(copy, key, key_size, value, value_size);
		if (rc == -E2BIG) {
			memcpy(copy->from, key, key_size);
			copy->from_size = key_size;
			copy->end = false;
			rc = 0;
			break;
		}
		if (rc)
			break;
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	if (rc == -EUCLEAN)
		return meta_damaged("key", bucket, 0);
	return rc ? rc : batch_error(&copy->ops);
}

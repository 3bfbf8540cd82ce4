/*
 * Buckets that several shards hold: how a record is told to another member, and how a
 * bucket is taken over, emptied and copied. What travels is explained in meta/member.c.
 */
#ifndef WFS_META_MEMBER_H
#define WFS_META_MEMBER_H

#include "meta/meta.h"
#include "meta/part.h"

/* A record's batch as other members can carry it out, added to ops. -EUCLEAN, -ENOMEM. */
int meta_record_say(const void *bytes, size_t size_bytes, struct batch *ops);
/*
 * The batch of this member for such ops; their blocks, in the order in which the notes
 * name them, are `id` and following here. -EUCLEAN: not what meta_record_say makes.
 */
int meta_record_hear(struct meta *m, struct batch *batch, uint16_t bucket, const void *ops,
	size_t size_bytes, uint64_t id, uint32_t block_count);
/* The crcs of the blocks that ops name, which must be `count`. -EUCLEAN. */
int meta_ops_crcs(const void *ops, size_t size_bytes, uint32_t *crcs, uint32_t count);
/* This shard becomes primary of the bucket: its locks and transactions (as meta_recover)
 * are taken up. And it no longer is. */
int meta_bucket_open(struct meta *m, uint16_t bucket,
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count),
	void *ctx);
void meta_bucket_close(struct meta *m, uint16_t bucket);
/* Delete a part of what the bucket holds; *more_out: not all yet. */
int meta_bucket_wipe(struct meta *m, struct batch *batch, uint16_t bucket, bool *more_out);

/*
 * A copy of a bucket, one unit after the other: ops (meta_record_say's) of about
 * META_COPY_OPS_MAX bytes, and the ids of the blocks that go with them, in order. Begins
 * with from_size 0; whatever changes meanwhile is sent as a record after the unit.
 */
#define META_COPY_OPS_MAX 8192u
struct meta_copy {
	uint8_t from[BATCH_KEY_MAX];
	size_t from_size;
	bool end; /* this unit is the last */
	struct batch ops;
	uint32_t block_count;
	uint64_t ids[WFS_CHUNK_BLOCKS];
};
int meta_bucket_copy(struct meta *m, uint16_t bucket, struct meta_copy *copy);

#endif

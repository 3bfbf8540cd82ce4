/*
 * A backup's side of a stream: records in order by lsn, each once; and copies.
 *
 * What is taken is a record of our own log with the same lsn and epoch, and answered when
 * it is durable here. A record that comes before the one it follows waits in
 * bucket_state.early. While a copy comes in, records carry epoch 0: what is here is not
 * whole, and a crash in the middle shows it.
 */
#include "core/shard/member.h"

#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/mutate.h"

static int stream_check(struct shard *s, uint16_t bucket, uint32_t epoch, uint32_t stream)
{
	struct bucket_state *b;

	if (bucket >= s->map->bucket_count || s->alone)
		return -EINVAL;
	b = &s->buckets[bucket];
	if (MUTATED(SKIP_EPOCH_CHECK))
		return 0;
	if (epoch < b->epoch)
		return -ESTALE;
	if (epoch > b->epoch || stream != b->stream)
		return -EUNATCH;
	if (b->role != ROLE_BACKUP && b->role != ROLE_NONE)
		return -ESTALE;
	return 0;
}

void join_start(struct exec *x)
{
	const struct wire_join *wj = x->req->body;
	struct wire_join_reply *reply = x->req->reply;
	struct shard *s = x->s;
	uint16_t bucket = le16_get(wj->bucket);
	uint32_t epoch = le32_get(wj->epoch);
	struct bucket_state *b = &s->buckets[bucket];

	if (s->alone || bucket >= s->map->bucket_count) {
		exec_finish(x, -EINVAL);
		return;
	}
	if (epoch < b->epoch || (epoch == b->epoch && b->role >= ROLE_TAKING)) {
		exec_finish(x, -ESTALE);
		return;
	}
	if (epoch > b->epoch)
		bucket_depose(s, bucket, epoch);
	/* Streams have rising numbers: an older JOIN, or the same again, comes late. */
	if (b->stream && (int32_t)(le32_get(wj->stream) - b->stream) <= 0) {
		exec_finish(x, -ESTALE);
		return;
	}
	b->stream = le32_get(wj->stream);
	b->wiped = false;
	early_rerun(s, bucket);
	*reply = (struct wire_join_reply){
		.lsn = le64_put(s->lsn[bucket]),
		.record_epoch = le32_put(b->record_epoch),
	};
	store_device_uuid(s->store, reply->device_uuid);
	x->req->reply_size = sizeof(*reply);
	opens_tell(x, bucket, epoch);
	exec_finish(x, 0);
}

void early_rerun(struct shard *s, uint16_t bucket)
{
	struct list ready;

	list_init(&ready);
	list_splice_back(&ready, &s->buckets[bucket].early);
	while (!list_empty(&ready)) {
		struct exec *x = list_first(&ready, struct exec, link);

		list_remove(&x->link);
		exec_start(x);
	}
}

/* --- taking --- */

static void taken(struct store_record *r, int status)
{
	exec_finish_now(container_of(r, struct exec, record), status);
}

static int blocks_check(const struct exec *x, const void *ops, uint32_t ops_size,
	uint32_t block_count)
{
	uint32_t crcs[WFS_CHUNK_BLOCKS];
	int rc = meta_ops_crcs(ops, ops_size, crcs, block_count);

	for (uint32_t i = 0; rc == 0 && i < block_count; i++)
		if (crc32c((const uint8_t *)x->record.data + (size_t)i * WFS_BLOCK_SIZE,
			    WFS_BLOCK_SIZE) != crcs[i])
			rc = -EBADMSG;
	return rc;
}

/* Commit what the message says as record (epoch, lsn). */
static void take(struct exec *x, uint32_t record_epoch, uint64_t lsn)
{
	const struct wire_replicate *wr = x->req->body;
	struct shard *s = x->s;
	uint16_t bucket = le16_get(wr->bucket);
	uint32_t ops_size = le32_get(wr->ops_size), blocks = le32_get(wr->block_count);
	const void *ops = wr->flags & REPLICATE_OPS_IN_DATA ? x->req->data : wr + 1;
	uint32_t data_size = blocks * WFS_BLOCK_SIZE;
	int rc;

	if (wr->flags & REPLICATE_OPS_IN_DATA)
		data_size = ops_size;
	if (x->req->data_size != data_size) {
		exec_finish(x, -EINVAL);
		return;
	}
	rc = exec_begin(x, bucket, blocks, true);
	if (rc == -EINPROGRESS)
		return;
	if (rc < 0) {
		exec_finish(x, rc);
		return;
	}
	batch_reset(&s->batch);
	if (blocks) {
		memcpy(x->record.data, x->req->data, data_size);
		rc = blocks_check(x, ops, ops_size, blocks);
	}
	if (rc == 0)
		rc = meta_record_hear(
			s->meta, &s->batch, bucket, ops, ops_size, x->record.id, blocks);
	if (rc < 0) {
		batch_reset(&s->batch);
		exec_finish(x, rc);
		return;
	}
	x->follows = true;
	x->record_epoch = record_epoch;
	x->record_lsn = lsn;
	rc = exec_commit(x, taken);
	if (rc < 0) {
		exec_finish(x, rc);
		return;
	}
	if (MUTATED(ACK_BEFORE_DURABLE)) {
		struct request *req = x->req;

		x->req = NULL;
		req->done(req, 0);
	}
	early_rerun(s, bucket);
}

/* --- emptying --- */

int bucket_wipe(struct exec *x, uint16_t bucket, uint64_t lsn,
	void (*part)(struct store_record *r, int status),
	void (*last)(struct store_record *r, int status))
{
	struct shard *s = x->s;
	bool more = false;
	int rc = exec_begin(x, bucket, 0, true);

	if (rc == -EINPROGRESS)
		return rc;
	history_forget(s, bucket);
	batch_reset(&s->batch);
	if (rc == 0 && !MUTATED(SKIP_WIPE))
		rc = meta_bucket_wipe(s->meta, &s->batch, bucket, &more);
	if (rc == 0) {
		x->follows = true;
		x->record_epoch = 0;
		x->record_lsn = lsn;
		rc = exec_commit(x, more ? part : last);
	}
	return rc == 0 && more ? 1 : rc;
}

static void wiped_part(struct store_record *r, int status)
{
	struct exec *x = container_of(r, struct exec, record);

	if (status)
		exec_finish_now(x, status);
	else
		exec_again(x);
}

static void wipe(struct exec *x, uint64_t lsn)
{
	const struct wire_replicate *wr = x->req->body;
	struct shard *s = x->s;
	uint16_t bucket = le16_get(wr->bucket);
	struct bucket_state *b = &s->buckets[bucket];
	int rc;

	/* Once a stream: what came since must not be lost to a message that came twice. */
	if (!x->follows && b->wipe_stream == b->stream && !MUTATED(WIPE_TWICE)) {
		exec_finish(x, -ESTALE);
		return;
	}
	rc = bucket_wipe(x, bucket, lsn, wiped_part, taken);
	if (rc == -EINPROGRESS)
		return;
	b->wipe_stream = b->stream;
	if (rc < 0) {
		exec_finish(x, rc);
	} else if (rc == 0) {
		b->wiped = true;
		early_rerun(s, bucket);
	}
}

void replicate_start(struct exec *x)
{
	const struct wire_replicate *wr = x->req->body;
	struct shard *s = x->s;
	uint16_t bucket = le16_get(wr->bucket);
	uint64_t lsn = le64_get(wr->lsn);
	struct bucket_state *b;
	bool is_record = wr->kind == REPLICATE_RECORD;
	int rc = stream_check(s, bucket, le32_get(wr->epoch), le32_get(wr->stream));

	if (rc < 0) {
		exec_finish(x, rc);
		return;
	}
	b = &s->buckets[bucket];
	if (wr->kind == REPLICATE_WIPE) {
		wipe(x, lsn);
		return;
	}
	/* Nothing builds on what is not whole, unless a copy of it is coming in. */
	if (b->record_epoch == 0 && s->lsn[bucket] > 0 && !b->wiped) {
		exec_finish(x, -EUNATCH);
		return;
	}
	if (is_record && lsn <= s->lsn[bucket]) {
		exec_finish(x, 0); /* had it already */
		return;
	}
	if (lsn != s->lsn[bucket] + is_record &&
		!(is_record && MUTATED(APPLY_OUT_OF_ORDER))) {
		exec_wait(x, &b->early);
		return;
	}
	if (wr->kind == REPLICATE_WHOLE)
		b->wiped = false;
	take(x, b->wiped ? 0 : le32_get(wr->record_epoch), lsn);
}

/* What waits for a record that never came is answered: it will be sent again. */
void early_expire(struct shard *s, uint16_t bucket, uint64_t now)
{
	list_for_each(it, tmp, &s->buckets[bucket].early)
	{
		struct exec *x = container_of(it, struct exec, link);

		if (x->req->deadline_us <= now)
			exec_finish_now(x, -EAGAIN);
	}
}

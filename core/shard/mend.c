/*
 * Mending: blocks that the device does not give back are had from another member of the
 * bucket and written anew, as a record of their own. Whoever needs them is parked
 * meanwhile and then run again; if that fails as well, it is EIO.
 *
 * What comes is held against our own crcs, so it does not matter how far the other member
 * is: it has these very blocks, or they are of no use.
 */
#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/shard/data.h"
#include "core/shard/member.h"

#define CALL_LIMIT_MS 3000u

static const struct cred root_cred;

struct mend {
	struct rpc_call call;
	struct list link; /* shard.mends */
	struct shard *s;
	uint16_t bucket;
	ino_id ino;
	uint64_t chunk;
	uint32_t block;
	uint32_t block_count;
	uint32_t tried; /* of the map's backups */
	uint8_t *data;
};

static void mend_end(struct mend *m)
{
	m->s->rerun_parked = true;
	list_remove(&m->link);
	mem_free(m->data);
	mem_free(m);
}

/* --- writing anew --- */

struct run { /* of blocks that are as they should be */
	uint32_t block;
	uint32_t count;
};

/* The next run at or after `block` of blocks that are not holes and whose crc is that of
 * the data; count 0: there is none. */
static int run_find(struct mend *m, uint32_t block, struct run *run, uint32_t *crcs)
{
	struct extent *extents = mem_alloc((2 * WFS_CHUNK_BLOCKS + 1) * sizeof(*extents));
	uint32_t all[WFS_CHUNK_BLOCKS], count = 0;
	int rc = extents ? meta_extent_map(m->s->meta, m->bucket, m->ino, m->chunk, m->block,
				   m->block_count, extents, &count, all)
			 : -ENOMEM;

	run->count = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++)
		for (uint32_t k = 0; extents[i].id && k < extents[i].block_count; k++) {
			uint32_t b = extents[i].block + k;
			uint32_t want = all[extents[i].crc_index + k];

			if (b < block || (run->count && b != run->block + run->count))
				continue;
			if (crc32c(m->data + (size_t)(b - m->block) * WFS_BLOCK_SIZE,
				    WFS_BLOCK_SIZE) != want)
				continue;
			if (run->count == 0)
				run->block = b;
			crcs[run->count++] = want;
		}
	mem_free(extents);
	return rc;
}

static void mend_written(struct store_record *r, int status)
{
	exec_finish_now(container_of(r, struct exec, record), status);
}

static void mend_write_one(struct mend *m, const struct run *run, const uint32_t *crcs)
{
	static const struct op_desc op = {.name = "mend"};
	struct shard *s = m->s;
	struct exec *x = exec_new(s, NULL);
	int rc;

	if (!x)
		return;
	x->op = &op;
	rc = exec_begin(x, m->bucket, run->count, true);
	if (rc == 0) {
		batch_reset(&s->batch);
		memcpy(x->record.data,
			m->data + (size_t)(run->block - m->block) * WFS_BLOCK_SIZE,
			(size_t)run->count * WFS_BLOCK_SIZE);
		rc = meta_extent_write(s->meta, &s->batch, m->bucket, m->ino, m->chunk,
			run->block, run->count, x->record.id, crcs);
	}
	if (rc == 0)
		rc = exec_commit(x, mend_written);
	if (rc == 0)
		log_warn("mended from another copy: ino=%llx chunk=%llu blocks=%u",
			(unsigned long long)m->ino, (unsigned long long)m->chunk,
			run->count);
	else
		exec_finish_now(x, rc); /* it stays as it is, and is tried again when read */
}

static void mend_write(struct mend *m)
{
	uint32_t crcs[WFS_CHUNK_BLOCKS];
	struct run run = {.block = m->block};

	do {
		if (run_find(m, run.block + run.count, &run, crcs) < 0)
			return;
		if (run.count)
			mend_write_one(m, &run, crcs);
	} while (run.count);
}

/* --- asking --- */

static void mend_ask(struct mend *m);

static void mend_told(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct mend *m = container_of(call, struct mend, call);

	(void)reply;
	(void)reply_size;
	if (status == 0 && reply_data_size == m->block_count * WFS_BLOCK_SIZE &&
		shard_owns(m->s, m->bucket)) {
		mend_write(m);
		mend_end(m);
		return;
	}
	mend_ask(m);
}

static void mend_ask(struct mend *m)
{
	struct shard *s = m->s;
	const struct map_bucket *mb = &s->map->buckets[m->bucket];
	struct wire_io body = {
		.ino = le64_put(m->ino),
		.offset = le64_put(m->chunk * WFS_CHUNK_SIZE +
				   (uint64_t)m->block * WFS_BLOCK_SIZE),
		.length = le32_put(m->block_count * WFS_BLOCK_SIZE),
		.generation = le32_put(UINT32_MAX),
	};

	if (m->tried >= mb->backup_count || !shard_owns(s, m->bucket)) {
		log_error("no copy is whole: ino=%llx chunk=%llu blocks=%u+%u",
			(unsigned long long)m->ino, (unsigned long long)m->chunk, m->block,
			m->block_count);
		mend_end(m);
		return;
	}
	m->call = (struct rpc_call){
		.op = OP_BLOCKS,
		.bucket = (uint16_t)mb->backups[m->tried++],
		.flags = HEAD_TO_SHARD,
		.timeout_ms = CALL_LIMIT_MS,
		.cred = &root_cred,
		.body = &body,
		.body_size = sizeof(body),
		.reply_data = m->data,
		.reply_data_max = m->block_count * WFS_BLOCK_SIZE,
		.done = mend_told,
	};
	s->send(s->ctx, &m->call);
}

static bool mend_under_way(struct shard *s, ino_id ino, uint64_t chunk, uint32_t block,
	uint32_t end)
{
	list_for_each(it, tmp, &s->mends)
	{
		const struct mend *m = container_of(it, struct mend, link);

		if (m->ino == ino && m->chunk == chunk && m->block <= block &&
			m->block + m->block_count >= end)
			return true;
	}
	return false;
}

bool mend_park(struct exec *x, uint32_t block, uint32_t block_count)
{
	struct shard *s = x->s;
	struct io *io = x->io;
	struct mend *m;
	uint16_t bucket = x->req->bucket;

	if (s->alone || io->mended || block_count == 0 || !shard_owns(s, bucket) ||
		s->map->buckets[bucket].backup_count == 0)
		return false;
	io->mended = true;
	if (!mend_under_way(s, io->ino, io->chunk, block, block + block_count)) {
		m = mem_zalloc(sizeof(*m));
		if (m)
			m->data = mem_aligned(
				WFS_BLOCK_SIZE, (size_t)block_count * WFS_BLOCK_SIZE);
		if (!m || !m->data) {
			mem_free(m);
			return false;
		}
		m->s = s;
		m->bucket = bucket;
		m->ino = io->ino;
		m->chunk = io->chunk;
		m->block = block;
		m->block_count = block_count;
		list_push_back(&s->mends, &m->link);
		mend_ask(m);
	}
	chunk_release(x);
	exec_park(x);
	return true;
}

/* Their calls have ended, or never will. */
void mends_free(struct shard *s)
{
	while (!list_empty(&s->mends)) {
		struct mend *m = list_first(&s->mends, struct mend, link);

		list_remove(&m->link);
		mem_free(m->data);
		mem_free(m);
	}
}

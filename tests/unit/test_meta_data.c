/* meta: extents against a model, truncation, orphans and purge jobs. */
#include "tests/unit/test_meta_world.h"

static uint64_t rnd(struct world *w, uint64_t below)
{
	return env_random(&w->env.env) % below;
}

/* --- extents --- */

#define CHUNKS 3u

struct model {
	uint64_t ids[CHUNKS][WFS_CHUNK_BLOCKS];
	uint32_t crcs[CHUNKS][WFS_CHUNK_BLOCKS];
	uint8_t *live; /* by id: allocated and not yet freed */
	uint64_t next_id;
};

static void model_frees(struct model *model, const struct batch *batch)
{
	struct batch_entry e;
	size_t offset = 0;

	while (batch_next(batch->bytes.data, batch->bytes.size_bytes, &offset, &e) == 1) {
		le32 count;

		if (e.type != BATCH_FREE)
			continue;
		memcpy(&count, e.value, 4);
		for (uint32_t i = 0; i < le32_get(count); i++) {
			cr_assert_eq(model->live[be64_read(e.key) + i], 1);
			model->live[be64_read(e.key) + i] = 0;
		}
	}
}

static void model_compare(struct world *w, struct model *model, uint16_t bucket,
	ino_id ino, uint64_t chunk, uint32_t block, uint32_t count)
{
	struct extent extents[2 * WFS_CHUNK_BLOCKS + 1];
	uint32_t crcs[WFS_CHUNK_BLOCKS], extent_count, at = block, crc_at = 0;

	cr_assert_eq(meta_extent_map(w->m, bucket, ino, chunk, block, count, extents,
			     &extent_count, crcs),
		0);
	for (uint32_t i = 0; i < extent_count; i++) {
		cr_assert_eq(extents[i].block, at);
		cr_assert_eq(extents[i].crc_index, crc_at);
		for (uint32_t k = 0; k < extents[i].block_count; k++, at++) {
			cr_assert_eq(model->ids[chunk][at],
				extents[i].id ? extents[i].id + k : 0);
			if (extents[i].id)
				cr_assert_eq(model->crcs[chunk][at], crcs[crc_at++]);
		}
	}
	cr_assert_eq(at, block + count);
}

static void model_step(struct world *w, struct model *model, uint16_t bucket, ino_id ino)
{
	uint32_t crcs[WFS_CHUNK_BLOCKS];
	uint64_t chunk = rnd(w, CHUNKS), kind = rnd(w, 10);
	uint32_t block = (uint32_t)rnd(w, WFS_CHUNK_BLOCKS);
	uint32_t most = rnd(w, 4) ? 4 : WFS_CHUNK_BLOCKS;
	uint32_t count = 1 + (uint32_t)rnd(w, most);

	if (count > WFS_CHUNK_BLOCKS - block)
		count = WFS_CHUNK_BLOCKS - block;
	if (kind == 0) {
		cr_assert_eq(meta_extent_punch(
				     w->m, &w->batch, bucket, ino, chunk, block, count),
			0);
	} else {
		/* Often consecutive with the write before, which may merge. */
		if (rnd(w, 2))
			model->next_id += 1 + rnd(w, 3);
		for (uint32_t i = 0; i < count; i++)
			crcs[i] = (uint32_t)rnd(w, UINT32_MAX);
		cr_assert_eq(meta_extent_write(w->m, &w->batch, bucket, ino, chunk, block,
				     count, model->next_id, crcs),
			0);
	}
	if (rnd(w, 20) == 0) {
		batch_reset(&w->batch);
		meta_batch_dropped(w->m);
		return;
	}
	model_frees(model, &w->batch);
	cr_assert_eq(world_commit(w), 0);
	for (uint32_t i = 0; i < count; i++) {
		model->ids[chunk][block + i] = kind ? model->next_id + i : 0;
		model->crcs[chunk][block + i] = kind ? crcs[i] : 0;
		if (kind)
			model->live[model->next_id + i] = 1;
	}
	if (kind)
		model->next_id += count;
}

META_TEST(meta_data, extents_agree_with_a_model)
{
	struct model *model = calloc(1, sizeof(*model));
	ino_id ino = ino_make(3, 20);
	uint64_t live_count = 0;

	model->live = calloc(1u << 20, 1);
	model->next_id = 100;
	for (int i = 0; i < 10000; i++) {
		model_step(w, model, 3, ino);
		if (i % 10 == 0) {
			uint32_t block = (uint32_t)rnd(w, WFS_CHUNK_BLOCKS);

			model_compare(w, model, 3, ino, rnd(w, CHUNKS), block,
				1 + (uint32_t)rnd(w, WFS_CHUNK_BLOCKS - block));
		}
		/* What the kv says must be what the cache says. */
		if (i % 500 == 0)
			meta_batch_dropped(w->m);
		if (i % 1000 == 0)
			world_check(w);
	}
	for (uint64_t c = 0; c < CHUNKS; c++) {
		model_compare(w, model, 3, ino, c, 0, WFS_CHUNK_BLOCKS);
		for (uint32_t b = 0; b < WFS_CHUNK_BLOCKS; b++)
			live_count += model->ids[c][b] != 0;
	}
	for (uint64_t id = 0; id < 1u << 20; id++)
		live_count -= model->live[id];
	cr_assert_eq(live_count, 0, "every block that left the map was freed once");
	free(model->live);
	free(model);
}

META_TEST(meta_data, appended_extents_merge_up_to_a_bound)
{
	uint32_t crcs[WFS_CHUNK_BLOCKS] = {0}, keys = 0;
	ino_id ino = ino_make(2, 20);
	struct buf out;
	bool eof;

	for (uint32_t b = 0; b < WFS_CHUNK_BLOCKS; b++)
		OK(w, meta_extent_write(w->m, &w->batch, 2, ino, 5, b, 1, 1000 + b, &b));
	OK(w, meta_extent_write(w->m, &w->batch, 2, ino, 6, 0, 256, 5000, crcs));
	buf_init(&out);
	cr_assert_eq(meta_scan(w->m, 2, NULL, 0, 1u << 20, &out, &eof), 0);
	for (size_t at = 0; at < out.size_bytes;) {
		le16 key_size;
		le32 value_size;

		memcpy(&key_size, out.data + at, 2);
		memcpy(&value_size, out.data + at + 4, 4);
		keys += out.data[at + 8 + 3] == 'E';
		at += 8u + le16_get(key_size) + le32_get(value_size);
	}
	cr_assert_eq(keys, 5, "four of 64 blocks, one of 256; got %u", keys);
	buf_release(&out);
}

META_TEST(meta_data, extent_bounds)
{
	uint32_t crcs[2] = {0}, count;
	struct extent e[3];

	FAILS(w, EINVAL, meta_extent_write(w->m, &w->batch, 0, 20, 0, 255, 2, 9, crcs));
	FAILS(w, EINVAL, meta_extent_write(w->m, &w->batch, 0, 20, 0, 256, 1, 9, crcs));
	FAILS(w, EINVAL, meta_extent_write(w->m, &w->batch, 0, 20, 0, 0, 0, 9, crcs));
	FAILS(w, EINVAL, meta_extent_write(w->m, &w->batch, 0, 20, 0, 0, 1, 0, crcs));
	FAILS(w, EINVAL, meta_extent_punch(w->m, &w->batch, 0, 20, 0, 1, 256));
	FAILS(w, EINVAL, meta_extent_map(w->m, 0, 20, 0, 256, 1, e, &count, crcs));
	cr_assert_eq(meta_extent_map(w->m, 0, 20, 0, 255, 1, e, &count, crcs), 0);
	cr_assert(count == 1 && e[0].id == 0 && e[0].block_count == 1);
}

META_TEST(meta_data, more_chunks_than_the_cache_holds)
{
	struct extent e[3];
	uint32_t count, crc;

	for (uint32_t i = 0; i < 5000; i++)
		OK(w, meta_extent_write(
			      w->m, &w->batch, 1, ino_make(1, 20), i, 7, 1, 1 + i, &i));
	for (uint32_t i = 0; i < 5000; i += 7) {
		cr_assert_eq(meta_extent_map(
				     w->m, 1, ino_make(1, 20), i, 7, 1, e, &count, &crc),
			0);
		cr_assert(count == 1 && e[0].id == 1 + i && crc == i);
	}
}

META_TEST(meta_data, damaged_extents_are_told)
{
	struct extent e[9];
	uint32_t count, crcs[4] = {0};
	struct meta_key key;

	OK(w, meta_extent_write(w->m, &w->batch, 0, 20, 0, 0, 4, 9, crcs));
	meta_key_extent(&key, 0, 20, 0, 2);
	batch_put(&w->batch, key.bytes, key.size, "", 0);
	cr_assert_eq(world_commit(w), 0);
	meta_batch_dropped(w->m);
	cr_assert_eq(meta_extent_map(w->m, 0, 20, 0, 0, 4, e, &count, crcs), -EUCLEAN);
	batch_del(&w->batch, key.bytes, key.size);
	cr_assert_eq(world_commit(w), 0);
	cr_assert_eq(meta_extent_map(w->m, 0, 20, 0, 0, 4, e, &count, crcs), 0);
}

/* --- truncation --- */

static int truncate_to(
	struct world *w, ino_id ino, uint64_t size_bytes, struct attr *a, bool *purge)
{
	const struct meta_set s = {.mask = SET_SIZE, .size_bytes = size_bytes};

	return meta_setattr(w->m, &w->c, ino, &s, a, purge);
}

static void write_blocks(struct world *w, ino_id ino, uint64_t chunk, uint32_t block,
	uint32_t count, uint64_t id)
{
	uint32_t crcs[WFS_CHUNK_BLOCKS] = {0};
	struct attr a;
	uint16_t bucket = chunk_bucket(ino, chunk, BUCKETS);
	uint64_t end =
		chunk * WFS_CHUNK_SIZE + (uint64_t)(block + count) * WFS_BLOCK_SIZE;

	cr_assert_eq(meta_extent_write(
			     w->m, &w->batch, bucket, ino, chunk, block, count, id, crcs),
		0);
	OK(w, meta_extend(w->m, &w->c, ino, UINT32_MAX, end, &a));
}

static uint32_t blocks_in(struct world *w, ino_id ino, uint64_t chunk)
{
	struct extent e[2 * WFS_CHUNK_BLOCKS + 1];
	uint32_t crcs[WFS_CHUNK_BLOCKS], count, blocks = 0;

	cr_assert_eq(meta_extent_map(w->m, chunk_bucket(ino, chunk, BUCKETS), ino, chunk,
			     0, WFS_CHUNK_BLOCKS, e, &count, crcs),
		0);
	for (uint32_t i = 0; i < count; i++)
		blocks += e[i].id ? e[i].block_count : 0;
	return blocks;
}

static void run_job(struct world *w, const struct purge_job *job)
{
	for (uint64_t c = job->first_chunk; c < job->end_chunk; c++)
		OK(w, meta_chunk_purge(w->m, &w->batch,
			      chunk_bucket(job->ino, c, BUCKETS), job->ino, c,
			      c == job->first_chunk ? job->keep_bytes : 0,
			      job->generation, job->whole_file));
	OK(w, meta_purge_done(w->m, &w->batch, job));
}

META_TEST(meta_data, truncate_within_chunk_0)
{
	bool purge = true;
	struct attr a;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	write_blocks(w, f, 0, 0, 256, 1000);
	OK(w, truncate_to(w, f, 10 * WFS_BLOCK_SIZE + 1, &a, &purge));
	cr_assert(!purge);
	cr_assert_eq(a.generation, 1);
	cr_assert_eq(blocks_in(w, f, 0), 11, "the tail block is the shard's to zero");
	OK(w, truncate_to(w, f, 10 * WFS_BLOCK_SIZE, &a, &purge));
	cr_assert_eq(blocks_in(w, f, 0), 10);
	OK(w, truncate_to(w, f, 1u << 30, &a, &purge));
	cr_assert_eq(a.generation, 2);
	OK(w, truncate_to(w, f, 0, &a, &purge));
	cr_assert(purge);
	cr_assert_eq(blocks_in(w, f, 0), 0);
}

META_TEST(meta_data, truncate_of_a_long_file_leaves_a_job)
{
	struct purge_job job;
	struct attr a;
	bool purge;
	uint64_t offset;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	for (uint64_t c = 0; c < 5; c++)
		write_blocks(w, f, c, 0, 256, 1000 * (c + 1));
	cr_assert_eq(meta_purge_next(w->m, 0, &job), -ENOENT);
	OK(w, truncate_to(w, f, 2 * WFS_CHUNK_SIZE + 5 * WFS_BLOCK_SIZE, &a, &purge));
	cr_assert(purge);
	cr_assert_eq(a.size_bytes, 2 * WFS_CHUNK_SIZE + 5 * WFS_BLOCK_SIZE);
	/* Locked until the job is done, also over a restart. */
	world_restart(w);
	FAILS(w, EINPROGRESS, meta_getattr(w->m, f, &a));
	FAILS(w, EINPROGRESS, meta_open(w->m, &w->c, f, O_RDONLY, &a));
	FAILS(w, EINPROGRESS, truncate_to(w, f, 0, &a, &purge));
	FAILS(w, EINPROGRESS, meta_extend(w->m, &w->c, f, UINT32_MAX, 1, &a));
	FAILS(w, EINPROGRESS, meta_append(w->m, &w->c, f, 1, &offset, &a));
	FAILS(w, EAGAIN, unlink_in(w, WFS_ROOT_INO, "f", f));
	cr_assert_eq(meta_purge_next(w->m, 0, &job), 0);
	cr_assert(job.ino == f && !job.whole_file && job.first_chunk == 2 &&
		  job.end_chunk == 5 && job.keep_bytes == 5 * WFS_BLOCK_SIZE &&
		  job.generation == 1);
	cr_assert_eq(meta_purge_next(w->m, f, &job), -ENOENT);
	run_job(w, &job);
	OK(w, meta_purge_done(w->m, &w->batch, &job)); /* again: nothing */
	cr_assert_eq(meta_purge_next(w->m, 0, &job), -ENOENT);
	cr_assert_eq(
		world_attr(w, f).size_bytes, 2 * WFS_CHUNK_SIZE + 5 * WFS_BLOCK_SIZE);
	cr_assert_eq(blocks_in(w, f, 1), 256);
	cr_assert_eq(blocks_in(w, f, 2), 5);
	cr_assert_eq(blocks_in(w, f, 3), 0);
	for (uint64_t c = 1; c < 6; c++) {
		uint16_t bucket = chunk_bucket(f, c, BUCKETS);

		cr_assert_eq(meta_chunk_check(w->m, bucket, f, c, 0),
			c >= 2 && c < 5 ? -ESTALE : 0);
		cr_assert_eq(meta_chunk_check(w->m, bucket, f, c, 1), 0);
		cr_assert_eq(meta_chunk_check(w->m, bucket, f, c, UINT32_MAX), 0);
	}
	/* A chunk border: nothing to keep. */
	OK(w, truncate_to(w, f, WFS_CHUNK_SIZE, &a, &purge));
	cr_assert_eq(meta_purge_next(w->m, 0, &job), 0);
	cr_assert(job.first_chunk == 1 && job.keep_bytes == 0 && job.end_chunk == 3);
	run_job(w, &job);
	OK(w, truncate_to(w, f, 5, &a, &purge));
	cr_assert(!purge);
	cr_assert_eq(blocks_in(w, f, 0), 1);
	cr_assert_eq(blocks_in(w, f, 1), 0);
}

/* --- last links --- */

META_TEST(meta_data, unlink_of_a_small_closed_file_is_one_batch)
{
	struct purge_job job;
	struct bucket_stats stats;
	struct attr a;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	write_blocks(w, f, 0, 0, 256, 1000);
	OK(w, meta_setxattr(w->m, &w->c, f, "user.a", 6, "v", 1, 0));
	meta_bucket_stats(w->m, 0, &stats);
	cr_assert(stats.inode_count == 2 && stats.data_bytes == WFS_CHUNK_SIZE);
	OK(w, unlink_in(w, WFS_ROOT_INO, "f", f));
	meta_bucket_stats(w->m, 0, &stats);
	cr_assert(stats.inode_count == 1 && stats.data_bytes == 0);
	cr_assert_eq(meta_getattr(w->m, f, &a), -ESTALE);
	cr_assert_eq(meta_purge_next(w->m, 0, &job), -ENOENT);
	/* Nothing but the root and the header. */
	struct buf out;
	bool eof;
	buf_init(&out);
	cr_assert_eq(meta_scan(w->m, 0, NULL, 0, 1u << 20, &out, &eof), 0);
	cr_assert_eq(out.size_bytes, 8 + 16 + 128 + 8 + 4 + 32);
	buf_release(&out);
}

META_TEST(meta_data, unlinked_open_files_live_on)
{
	struct purge_job job;
	struct attr a;
	bool purge;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	write_blocks(w, f, 0, 0, 4, 1000);
	write_blocks(w, f, 2, 0, 4, 2000);
	w->open[0] = f;
	OK(w, unlink_in(w, WFS_ROOT_INO, "f", f));
	cr_assert_eq(world_attr(w, f).nlink, 0);
	OK(w, meta_open(w->m, &w->c, f, O_RDWR, &a));
	write_blocks(w, f, 3, 0, 4, 3000);
	cr_assert_eq(meta_purge_next(w->m, 0, &job), -ENOENT, "open");
	world_check(w);
	/* Truncated while an orphan: that job comes first, also when it is closed. */
	OK(w, truncate_to(w, f, 3 * WFS_CHUNK_SIZE, &a, &purge));
	cr_assert(purge);
	world_check(w);
	cr_assert_eq(meta_purge_next(w->m, 0, &job), 0);
	cr_assert(!job.whole_file && job.first_chunk == 3 && job.end_chunk == 4);
	run_job(w, &job);
	world_check(w);
	w->open[0] = 0;
	FAILS(w, ESTALE, meta_open(w->m, &w->c, f, O_RDWR, &a));
	cr_assert_eq(meta_purge_next(w->m, 0, &job), 0);
	cr_assert(job.whole_file && job.first_chunk == 1 && job.end_chunk == 3);
	run_job(w, &job);
	cr_assert_eq(meta_getattr(w->m, f, &a), -ESTALE);
	cr_assert_eq(meta_purge_next(w->m, 0, &job), -ENOENT);
	for (uint64_t c = 0; c < 4; c++)
		cr_assert_eq(blocks_in(w, f, c), 0);
}

META_TEST(meta_data, jobs_of_many_buckets_are_found)
{
	struct purge_job job;
	ino_id files[5], after = 0;

	for (uint16_t i = 0; i < 5; i++) {
		char name[2] = {(char)('a' + i), 0};
		ino_id d = make_dir(w, WFS_ROOT_INO, name, (uint16_t)(3 * i));

		files[i] = make_file(w, d, "f");
		write_blocks(w, files[i], 1, 0, 1, 1000 + i);
		OK(w, unlink_in(w, d, "f", files[i]));
	}
	w->open[0] = files[1];
	w->foreign = 1u << 6;
	for (int i = 0; i < 5; i++) {
		if (i == 1 || i == 2)
			continue;
		cr_assert_eq(meta_purge_next(w->m, after, &job), 0);
		cr_assert(job.ino == files[i] && job.whole_file && job.end_chunk == 2);
		after = job.ino;
	}
	cr_assert_eq(meta_purge_next(w->m, after, &job), -ENOENT);
	w->open[0] = 0;
	w->foreign = 0;
	while (meta_purge_next(w->m, 0, &job) == 0)
		run_job(w, &job);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(blocks_in(w, files[i], 1), 0);
}

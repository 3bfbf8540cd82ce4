/*
 * The world of the meta tests: one shard over the model map or over RocksDB, with a
 * shard's manners: every batch is applied right after the call that built it. world_check
 * is a small fsck over the raw keys (the invariants of meta/schema.h), run after each
 * test.
 */
#ifndef WFS_TEST_META_WORLD_H
#define WFS_TEST_META_WORLD_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "meta/schema.h"

#define BUCKETS 16u

static uint32_t world_cache_entries = 64; /* of the kv */

struct world {
	struct kv_model_disk *disk; /* NULL: RocksDB */
	struct kv *kv;
	struct env_sim env;
	struct meta *m;
	struct batch batch;
	struct cred cred;
	struct meta_call c;
	uint32_t foreign; /* bit b: bucket b is not ours */
	ino_id open[8];
	long live_count;
	char path[64];
};

static inline bool world_owns(void *ctx, uint16_t bucket)
{
	return !(((struct world *)ctx)->foreign >> bucket & 1);
}

static inline bool world_is_open(void *ctx, ino_id ino)
{
	for (size_t i = 0; i < 8; i++)
		if (((struct world *)ctx)->open[i] == ino)
			return true;
	return false;
}

static inline void world_meta_new(struct world *w)
{
	const struct meta_options opt = {.kv = w->kv,
		.env = &w->env.env,
		.bucket_count = BUCKETS,
		.owns = world_owns,
		.is_open = world_is_open,
		.ctx = w};

	cr_assert_eq(meta_new(&opt, &w->m), 0);
}

/* A clean restart of the shard above the same map. */
static inline void world_restart(struct world *w)
{
	meta_free(w->m);
	world_meta_new(w);
}

static inline int world_commit(struct world *w)
{
	int rc = kv_apply(w->kv, &w->batch);

	batch_reset(&w->batch);
	return rc;
}

#define AS(w, u, g)                                                                      \
	((w)->cred = (struct cred){.uid = (u), .gid = (g)}, (w)->c.now_ns += 1000)
#define OK(w, call)                                                                      \
	do {                                                                             \
		int ok_rc = (call);                                                      \
		cr_assert_eq(ok_rc, 0, "%s: %s", #call, strerror(-ok_rc));               \
		cr_assert_eq(world_commit(w), 0);                                        \
	} while (0)
#define FAILS(w, error, call)                                                            \
	do {                                                                             \
		int fails_rc = (call);                                                   \
		cr_assert_eq(fails_rc, -(error), "%s: got %d, not %d", #call, fails_rc,  \
			-(error));                                                       \
		batch_reset(&(w)->batch);                                                \
	} while (0)

static inline void world_init(struct world *w, bool rocks)
{
	ino_id root;

	*w = (struct world){.live_count = mem_live_count()};
	if (rocks) {
		snprintf(w->path, sizeof(w->path), "/tmp/wfs-meta-XXXXXX");
		cr_assert_not_null(mkdtemp(w->path));
		cr_assert_eq(kv_rocks_open(w->path, true, 64u << 20, &w->kv), 0);
	} else {
		w->disk = kv_model_disk_new();
		cr_assert_eq(kv_model_open(w->disk, &w->kv), 0);
		if (world_cache_entries)
			cr_assert_eq(kv_cache_enable(w->kv, world_cache_entries), 0);
	}
	env_sim_init(&w->env, 1);
	batch_init(&w->batch);
	w->c = (struct meta_call){.cred = &w->cred, .now_ns = 1000, .batch = &w->batch};
	world_meta_new(w);
	OK(w, meta_make_root(w->m, &w->c, 0, 7, &root));
	cr_assert_eq(root, WFS_ROOT_INO);
}

/* --- fsck --- */

struct census {
	uint64_t inode_count, data_blocks;
	uint64_t header_inodes, header_bytes, next_counter;
};

static inline struct attr world_attr(struct world *w, ino_id ino)
{
	struct attr a;

	cr_assert_eq(meta_getattr(w->m, ino, &a), 0);
	return a;
}

struct name_census {
	ino_id ino;
	uint32_t links;   /* names that lead to it */
	uint32_t subdirs; /* directories among its names */
	uint32_t names;
};

#define CENSUS_MAX 8192u

static inline struct name_census *census_of(struct name_census *all, ino_id ino)
{
	uint32_t i = (uint32_t)((ino * 0x9e3779b97f4a7c15u) >> 40) % CENSUS_MAX;

	while (all[i].ino && all[i].ino != ino)
		i = (i + 1) % CENSUS_MAX;
	all[i].ino = ino;
	return &all[i];
}

static inline void census_key(struct name_census *all, struct census *b,
	const uint8_t *key, size_t key_size, const uint8_t *value, size_t value_size)
{
	struct name_target t;
	struct bucket_header h;
	struct inode in;
	uint64_t id, dir;
	uint32_t block, count;

	switch (key[3]) {
	case 'D':
		cr_assert_eq(name_target_decode(value, value_size, &t), 0);
		dir = be64_read(key + 4);
		census_of(all, dir)->names++;
		census_of(all, dir)->subdirs += t.dtype == DT_DIR;
		census_of(all, t.ino)->links++;
		break;
	case 'I':
		cr_assert_eq(inode_decode(value, value_size, &in), 0);
		b->inode_count++;
		break;
	case 'E':
		cr_assert_eq(meta_key_extent_parse(key, key_size, &block), 0);
		cr_assert_eq(extent_decode(value, value_size, block, &id, &count), 0);
		b->data_blocks += count;
		break;
	case 'N':
		cr_assert_eq(bucket_decode(value, value_size, &h), 0);
		b->header_inodes = h.inode_count;
		b->header_bytes = h.data_bytes;
		b->next_counter = h.next_counter;
		break;
	default: break;
	}
}

static inline void check_inode(struct world *w, struct name_census *all,
	const uint8_t *key, const uint8_t *value, size_t value_size,
	const struct census *b)
{
	ino_id ino = be64_read(key + 4);
	struct name_census *n = census_of(all, ino);
	struct meta_key job_key;
	struct job job = {0};
	struct inode in;
	struct buf v;

	cr_assert_eq(inode_decode(value, value_size, &in), 0);
	cr_assert(ino == WFS_ROOT_INO || (ino & (COUNTER_END - 1)) < b->next_counter);
	if (S_ISDIR(in.attr.mode)) {
		cr_assert_eq(in.attr.nlink, 2 + n->subdirs, "dir %llx nlink %u",
			(unsigned long long)ino, in.attr.nlink);
		cr_assert_eq(in.attr.entries, n->names);
		cr_assert_eq(n->links, in.attr.parent == ino ? 0 : 1);
		return;
	}
	cr_assert_eq(in.attr.nlink, n->links);
	buf_init(&v);
	meta_key_job(&job_key, ino);
	if (kv_get(w->kv, job_key.bytes, job_key.size, &v) == 0)
		cr_assert_eq(job_decode(v.data, v.size_bytes, &job), 0);
	buf_release(&v);
	cr_assert_eq(!!(job.flags & JOB_ORPHAN), in.attr.nlink == 0);
	cr_assert_eq(!!(job.flags & JOB_TRUNCATE), !!(in.flags & INODE_PURGING));
}

static inline void world_each(struct world *w, uint16_t bucket, struct name_census *all,
	struct census *b, bool second)
{
	uint8_t after[BATCH_KEY_MAX];
	size_t after_size = 0;
	bool eof = false;
	struct buf out;

	buf_init(&out);
	while (!eof) {
		buf_reset(&out);
		cr_assert_eq(
			meta_scan(w->m, bucket, after, after_size, 700, &out, &eof), 0);
		for (size_t at = 0; at < out.size_bytes;) {
			size_t key_size = (size_t)out.data[at] + out.data[at + 1] * 256u;
			le32 value_size;
			const uint8_t *key = out.data + at + 8;

			memcpy(&value_size, out.data + at + 4, 4);
			memcpy(after, key, key_size);
			after_size = key_size;
			if (!second)
				census_key(all, b, key, key_size, key + key_size,
					le32_get(value_size));
			else if (key[3] == 'I')
				check_inode(w, all, key, key + key_size,
					le32_get(value_size), b);
			at += 8 + key_size + le32_get(value_size);
		}
	}
	buf_release(&out);
}

/* clean: no transaction and no data is under way. */
static inline void world_check(struct world *w)
{
	struct name_census *all = calloc(CENSUS_MAX, sizeof(*all));
	struct census b[BUCKETS] = {0};
	struct bucket_stats stats;

	for (uint16_t i = 0; i < BUCKETS; i++) {
		world_each(w, i, all, &b[i], false);
		cr_assert_eq(b[i].inode_count, b[i].header_inodes, "bucket %u", i);
		cr_assert_eq(b[i].data_blocks * WFS_BLOCK_SIZE, b[i].header_bytes);
		cr_assert_eq(meta_bucket_stats(w->m, i, &stats), 0);
		cr_assert_eq(stats.inode_count, b[i].inode_count);
		cr_assert_eq(stats.data_bytes, b[i].header_bytes);
	}
	for (uint16_t i = 0; i < BUCKETS; i++)
		world_each(w, i, all, &b[i], true);
	free(all);
}

static inline void world_release(struct world *w)
{
	char command[96];

	batch_release(&w->batch);
	meta_free(w->m);
	kv_close(w->kv);
	kv_model_disk_free(w->disk);
	cr_assert_eq(mem_live_count(), w->live_count, "leaked %ld",
		mem_live_count() - w->live_count);
	if (w->path[0]) {
		snprintf(command, sizeof(command), "rm -rf %s", w->path);
		cr_assert_eq(system(command), 0);
	}
}

/* Run a test body over both maps. */
#define META_TEST(suite, name)                                                           \
	static void name##_body(struct world *w);                                        \
	static void name##_run(bool rocks)                                               \
	{                                                                                \
		struct world w;                                                          \
		world_init(&w, rocks);                                                   \
		name##_body(&w);                                                         \
		world_check(&w);                                                         \
		world_release(&w);                                                       \
	}                                                                                \
	Test(suite, name)                                                                \
	{                                                                                \
		name##_run(false);                                                       \
	}                                                                                \
	Test(suite, name##_rocks)                                                        \
	{                                                                                \
		name##_run(true);                                                        \
	}                                                                                \
	static void name##_body(struct world *w)

/* --- shorthands --- */

static inline int create_mode(
	struct world *w, ino_id dir, const char *name, uint32_t mode, struct attr *a)
{
	bool created;

	return meta_create(
		w->m, &w->c, dir, name, strlen(name), mode, 0, true, a, &created);
}

static inline ino_id make_file(struct world *w, ino_id dir, const char *name)
{
	struct attr a;

	OK(w, create_mode(w, dir, name, S_IFREG | 0644, &a));
	return a.ino;
}

static inline struct step step_insert(
	ino_id dir, const char *name, ino_id ino, uint8_t dtype)
{
	return (struct step){.type = STEP_ENTRY_INSERT,
		.dir = dir,
		.ino = ino,
		.name = name,
		.name_size = (uint32_t)strlen(name),
		.dtype = dtype};
}

static inline struct step step_remove(ino_id dir, const char *name, ino_id expect)
{
	return (struct step){.type = STEP_ENTRY_REMOVE,
		.dir = dir,
		.expect = expect,
		.name = name,
		.name_size = (uint32_t)strlen(name)};
}

static inline struct step step_new_dir(
	ino_id parent, uint32_t mode, const struct cred *cred)
{
	return (struct step){.type = STEP_INODE_NEW_DIR,
		.dir = parent,
		.mode = mode,
		.uid = cred->uid,
		.gid = cred->gid,
		.fsid = 7};
}

static inline struct step step_inode_of(enum step_type type, ino_id ino, ino_id dir)
{
	return (struct step){.type = type, .ino = ino, .dir = dir};
}

static inline int build(struct world *w, uint16_t bucket, const struct step *steps,
	uint32_t count, ino_id *new_ino)
{
	struct part part = {.bucket = bucket, .step_count = count};
	bool purge;

	memcpy(part.steps, steps, count * sizeof(*steps));
	return meta_part_build(w->m, &w->c, 0, &part, new_ino, &purge);
}

/* mkdir as a shard whose buckets are all at home would: parts are built together. */
static inline ino_id make_dir_mode(
	struct world *w, ino_id parent, const char *name, uint16_t bucket, uint32_t mode)
{
	struct step fresh = step_new_dir(parent, mode, &w->cred);
	struct step insert;
	ino_id ino;
	int rc = build(w, bucket, &fresh, 1, &ino);

	cr_assert_eq(rc, 0);
	insert = step_insert(parent, name, ino, DT_DIR);
	OK(w, build(w, ino_bucket(parent), &insert, 1, NULL));
	return ino;
}

static inline ino_id make_dir(
	struct world *w, ino_id parent, const char *name, uint16_t bucket)
{
	return make_dir_mode(w, parent, name, bucket, 0755);
}

static inline int unlink_in(struct world *w, ino_id dir, const char *name, ino_id ino)
{
	struct step steps[] = {
		step_remove(dir, name, ino), step_inode_of(STEP_INODE_UNLINK, ino, 0)};

	return build(w, ino_bucket(dir), steps, 2, NULL);
}

#endif

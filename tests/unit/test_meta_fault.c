/*
 * meta: every operation with its 1st, 2nd, ... allocation or kv call failing, until it
 * succeeds. A failure must leave the kv as it was, the caches agreeing with it, no lock
 * behind, and nothing leaked; then the same operation must succeed.
 */
#include "tests/unit/test_meta_world.h"

#define TX  (((uint64_t)1 << 48) | 7)
#define TX_ (((uint64_t)1 << 48) | 8)

static ino_id d, e, f, g, l, orphan;

static void setup(struct world *w)
{
	uint32_t crcs[8] = {0};
	struct attr a;
	struct part part = {.bucket = 4, .step_count = 2};
	ino_id x = make_dir(w, WFS_ROOT_INO, "x", 4), y = make_dir(w, x, "y", 4);

	part.steps[0] = step_remove(x, "y", y);
	part.steps[1] = step_inode_of(STEP_INODE_RMDIR, y, 0);
	OK(w, meta_setxattr(w->m, &w->c, y, "user.a", 6, "v", 1, 0));
	d = make_dir(w, WFS_ROOT_INO, "d", 1);
	e = make_dir(w, d, "e", 1);
	f = make_file(w, d, "f");
	g = make_file(w, d, "g");
	orphan = make_file(w, d, "orphan");
	OK(w, meta_symlink(w->m, &w->c, d, "l", 1, "e", 1, &a));
	l = a.ino;
	OK(w, meta_extent_write(w->m, &w->batch, 1, f, 0, 0, 8, 100, crcs));
	OK(w, meta_extend(w->m, &w->c, f, 0, 8 * WFS_BLOCK_SIZE, &a));
	OK(w, meta_extent_write(w->m, &w->batch, 1, g, 0, 0, 8, 200, crcs));
	OK(w, meta_extend(w->m, &w->c, g, 0, 3 * WFS_CHUNK_SIZE, &a));
	OK(w, meta_setxattr(w->m, &w->c, f, "user.a", 6, "v", 1, 0));
	w->open[0] = orphan;
	OK(w, unlink_in(w, d, "orphan", orphan));
	w->open[0] = 0;
	OK(w, meta_prepare(w->m, &w->c, TX_, &part, NULL));
	/* Cold caches: more calls that may fail. */
	world_restart(w);
	cr_assert_eq(meta_lock(w->m, TX_, &part), 0);
}

static int op_create(struct world *w)
{
	struct attr a;

	return create_mode(w, d, "new", S_IFREG | 0644, &a);
}

static int op_symlink(struct world *w)
{
	struct attr a;

	return meta_symlink(w->m, &w->c, d, "new", 3, "target", 6, &a);
}

static int op_walk(struct world *w)
{
	struct walk k;

	return meta_walk(w->m, &w->c, WFS_ROOT_INO, "d/e/../l", 8, WALK_FOLLOW, &k);
}

static int op_getattr(struct world *w)
{
	struct attr a;

	return meta_getattr(w->m, f, &a);
}

static int op_readdir(struct world *w)
{
	struct buf out;
	uint64_t cookie;
	bool eof;
	int rc;

	buf_init(&out);
	rc = meta_readdir(w->m, &w->c, d, 0, 4096, &out, &cookie, &eof);
	buf_release(&out);
	return rc;
}

static int op_readlink(struct world *w)
{
	struct buf out;
	int rc;

	buf_init(&out);
	rc = meta_readlink(w->m, l, &out);
	buf_release(&out);
	return rc;
}

static int op_truncate(struct world *w)
{
	const struct meta_set s = {
		.mask = SET_SIZE | SET_MODE, .mode = 0600, .size_bytes = 5000};
	struct attr a;
	bool purge;

	return meta_setattr(w->m, &w->c, g, &s, &a, &purge);
}

static int op_setxattr(struct world *w)
{
	return meta_setxattr(w->m, &w->c, f, "user.b", 6, "v", 1, 0);
}

static int op_removexattr(struct world *w)
{
	return meta_removexattr(w->m, &w->c, f, "user.a", 6);
}

static int op_listxattr(struct world *w)
{
	struct buf out;
	int rc;

	buf_init(&out);
	rc = meta_listxattr(w->m, &w->c, f, &out);
	buf_release(&out);
	return rc;
}

static int op_write(struct world *w)
{
	const uint32_t crcs[20] = {0};
	struct attr a;
	int rc = meta_extent_write(w->m, &w->batch, 1, f, 0, 4, 20, 300, crcs);

	return rc ? rc : meta_extend(w->m, &w->c, f, 0, 24 * WFS_BLOCK_SIZE, &a);
}

static int op_append(struct world *w)
{
	struct attr a;
	uint64_t offset;

	return meta_append(w->m, &w->c, f, 10, &offset, &a);
}

static int op_map(struct world *w)
{
	struct extent extents[17];
	uint32_t count, crcs[8];

	return meta_extent_map(w->m, 1, f, 0, 0, 8, extents, &count, crcs);
}

static int op_chunk_purge(struct world *w)
{
	return meta_chunk_purge(w->m, &w->batch, 1, f, 0, 4096, 3, false);
}

static int op_unlink(struct world *w)
{
	return unlink_in(w, d, "f", f);
}

static int op_rename(struct world *w)
{
	struct step s[] = {step_remove(d, "g", g), step_insert(d, "f", g, DT_REG),
		step_inode_of(STEP_INODE_MOVED, g, d),
		step_inode_of(STEP_INODE_UNLINK, f, 0)};

	s[1].expect = f;
	return build(w, 1, s, 4, NULL);
}

static int op_mkdir(struct world *w)
{
	struct step s[] = {
		step_insert(d, "new", 0, DT_DIR), step_new_dir(d, 0755, &w->cred)};
	ino_id ino;

	return build(w, 1, s, 2, &ino);
}

static int op_rmdir(struct world *w)
{
	struct step s[] = {step_remove(d, "e", e), step_inode_of(STEP_INODE_RMDIR, e, 0)};

	return build(w, 1, s, 2, NULL);
}

static int op_prepare(struct world *w)
{
	struct part part = {.bucket = 1,
		.step_count = 3,
		.steps = {step_new_dir(WFS_ROOT_INO, 0755, &w->cred),
			step_remove(d, "f", f), step_inode_of(STEP_INODE_UNLINK, f, 0)}};

	return meta_prepare(w->m, &w->c, TX, &part, NULL);
}

static int op_resolve(struct world *w)
{
	return meta_resolve(w->m, &w->batch, 4, TX_, true, NULL);
}

static int op_decide(struct world *w)
{
	const uint16_t buckets[] = {1, 2};
	int rc = meta_decision(w->m, TX_);

	return rc ? rc : meta_decide(w->m, &w->batch, TX_, buckets, 2);
}

static int op_purge(struct world *w)
{
	struct purge_job job;
	int rc = meta_purge_next(w->m, 0, &job);

	return rc ? rc : meta_purge_done(w->m, &w->batch, &job);
}

static int op_scan(struct world *w)
{
	struct buf out;
	bool eof;
	int rc;

	buf_init(&out);
	rc = meta_scan(w->m, 1, NULL, 0, 1u << 20, &out, &eof);
	buf_release(&out);
	return rc;
}

static int op_make_root(struct world *w)
{
	ino_id root;

	return meta_make_root(w->m, &w->c, 0, 8, &root);
}

static void nobody(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
	const uint16_t *buckets, uint32_t bucket_count)
{
	(void)ctx, (void)role, (void)bucket, (void)txid, (void)buckets,
		(void)bucket_count;
}

static int op_recover(struct world *w)
{
	return meta_recover(w->m, nobody, NULL);
}

typedef int op_fn(struct world *w);
static op_fn *const ops[] = {op_create, op_symlink, op_walk, op_getattr, op_readdir,
	op_readlink, op_truncate, op_setxattr, op_removexattr, op_listxattr, op_write,
	op_append, op_map, op_chunk_purge, op_unlink, op_rename, op_mkdir, op_rmdir,
	op_prepare, op_resolve, op_decide, op_purge, op_scan, op_make_root, op_recover};
#define OPS (sizeof(ops) / sizeof(ops[0]))

static uint64_t digest(struct world *w)
{
	uint64_t h = 0;
	struct kv_iter *it;

	cr_assert_eq(kv_iter_open(w->kv, &it), 0);
	for (it->ops->seek(it, "\0", 1); it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, value_size;
		const void *key = it->ops->key(it, &key_size);
		const void *value = it->ops->value(it, &value_size);

		h = hash64(value, value_size, hash64(key, key_size, h));
	}
	it->ops->close(it);
	return h;
}

static void after_failure(struct world *w, uint64_t before)
{
	struct attr a;

	batch_reset(&w->batch);
	cr_assert_eq(digest(w), before);
	world_check(w);
	cr_assert_eq(meta_getattr(w->m, f, &a), 0, "no lock is left");
	cr_assert_eq(meta_getattr(w->m, d, &a), 0);
}

Test(meta_fault, allocations)
{
	for (size_t i = 0; i < OPS; i++) {
		bool fired = true;

		for (unsigned nth = 1; fired; nth++) {
			struct world w;
			uint64_t before;
			int rc;

			cr_assert_lt(nth, 500);
			world_init(&w, false);
			setup(&w);
			before = digest(&w);
			mem_fault_arm(nth);
			rc = ops[i](&w);
			fired = mem_fault_fired();
			mem_fault_arm(0);
			cr_assert(rc == 0 || (fired && rc == -ENOMEM),
				"op %zu nth %u: %d", i, nth, rc);
			if (rc && ops[i] != op_recover) {
				after_failure(&w, before);
				rc = ops[i](&w);
			}
			cr_assert(rc == 0 || ops[i] == op_recover, "op %zu nth %u: %d", i,
				nth, rc);
			cr_assert_eq(world_commit(&w), 0);
			world_check(&w);
			world_release(&w);
		}
	}
}

Test(meta_fault, kv_calls)
{
	world_cache_entries = 0;
	for (size_t i = 0; i < OPS; i++) {
		bool fired = true;

		for (unsigned nth = 1; fired; nth++) {
			struct world w;
			uint64_t before;
			int rc;

			cr_assert_lt(nth, 500);
			world_init(&w, false);
			setup(&w);
			before = digest(&w);
			kv_model_fault_arm(w.disk, nth);
			rc = ops[i](&w);
			fired = kv_model_fault_fired(w.disk);
			kv_model_fault_arm(w.disk, 0);
			cr_assert_eq(
				rc, fired ? -EIO : 0, "op %zu nth %u: %d", i, nth, rc);
			if (rc && ops[i] != op_recover) {
				after_failure(&w, before);
				rc = ops[i](&w);
			}
			cr_assert(rc == 0 || ops[i] == op_recover);
			cr_assert_eq(world_commit(&w), 0);
			world_check(&w);
			world_release(&w);
		}
	}
}

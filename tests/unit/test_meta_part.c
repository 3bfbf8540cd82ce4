/* meta: steps, parts, intents, decisions, locks. */
#include "tests/unit/test_meta_world.h"

#define TX1 (((uint64_t)0 << 48) | 101)
#define TX2 (((uint64_t)3 << 48) | 202)

static struct part part_of(uint16_t bucket, const struct step *steps, uint32_t count)
{
	struct part part = {.bucket = bucket, .step_count = count};

	memcpy(part.steps, steps, count * sizeof(*steps));
	return part;
}

/* --- encoding --- */

Test(meta_part, encoding_goes_there_and_back)
{
	const struct cred cred = {.uid = 3, .gid = 4};
	struct step steps[] = {
		step_insert(ino_make(2, 16), "name", ino_make(3, 17), DT_LNK),
		step_remove(ino_make(2, 16), "old", ino_make(9, 9)),
		step_new_dir(ino_make(5, 1), 0711, &cred),
		step_inode_of(STEP_INODE_MOVED, ino_make(2, 5), ino_make(7, 7)),
		step_inode_of(STEP_INODE_LINK, ino_make(2, 6), 0),
	};
	struct part part, back;
	struct buf out, again;

	steps[1].flags = STEP_PERMIT;
	steps[1].victim_uid = 77;
	part = part_of(2, steps, 5);
	buf_init(&out);
	buf_init(&again);
	cr_assert_eq(part_encode(&part, &out), 0);
	cr_assert_eq(part_decode(out.data, out.size_bytes, &back), 0);
	cr_assert(back.step_count == 5 && back.bucket == 2);
	cr_assert(back.steps[1].victim_uid == 77 && back.steps[1].flags == STEP_PERMIT);
	cr_assert(back.steps[0].name_size == 4 && !memcmp(back.steps[0].name, "name", 4));
	cr_assert_eq(part_encode(&back, &again), 0);
	cr_assert_eq(out.size_bytes, again.size_bytes);
	cr_assert_arr_eq(out.data, again.data, out.size_bytes);
	for (size_t size = 0; size < out.size_bytes; size++)
		cr_assert_eq(part_decode(out.data, size, &back), -EUCLEAN);
	part.bucket = 1;
	cr_assert_eq(part_encode(&part, &out), -EINVAL, "steps of another bucket");
	part = part_of(2, steps, 0);
	cr_assert_eq(part_encode(&part, &out), -EINVAL);
	buf_release(&out);
	buf_release(&again);
}

Test(meta_part, decoding_survives_any_bytes)
{
	const struct cred cred = {0};
	struct step steps[] = {
		step_insert(ino_make(2, 16), "name", ino_make(3, 17), DT_REG),
		step_new_dir(ino_make(5, 1), 0711, &cred),
	};
	struct part part = part_of(2, steps, 2), back;
	struct env_sim env;
	struct buf out, again;
	uint8_t bytes[256];

	env_sim_init(&env, 5);
	buf_init(&out);
	buf_init(&again);
	cr_assert_eq(part_encode(&part, &out), 0);
	for (int i = 0; i < 200000; i++) {
		size_t size = out.size_bytes;

		memcpy(bytes, out.data, size);
		for (uint64_t k = 1 + env_random(&env.env) % 4; k; k--)
			bytes[env_random(&env.env) % size] =
				(uint8_t)env_random(&env.env);
		if (env_random(&env.env) % 8 == 0)
			size = env_random(&env.env) % size;
		if (part_decode(bytes, size, &back))
			continue;
		/* What is accepted is canonical. */
		buf_reset(&again);
		cr_assert_eq(part_encode(&back, &again), 0);
		cr_assert_eq(again.size_bytes, size);
		cr_assert_arr_eq(again.data, bytes, size);
	}
	buf_release(&out);
	buf_release(&again);
}

/* --- each step --- */

static int build1(struct world *w, struct step s)
{
	uint16_t bucket = s.type == STEP_ENTRY_INSERT || s.type == STEP_ENTRY_REMOVE ||
					  s.type == STEP_ENTRY_REPLACE
				  ? ino_bucket(s.dir)
				  : ino_bucket(s.ino);

	return build(w, bucket, &s, 1, NULL);
}

META_TEST(meta_part, mkdir_and_rmdir_in_one_bucket)
{
	struct step steps[2];
	struct attr a;
	ino_id d, f;

	steps[0] = step_insert(WFS_ROOT_INO, "d", 0, DT_DIR);
	FAILS(w, EINVAL, build(w, 0, steps, 1, NULL)); /* nobody makes it */
	steps[1] = step_new_dir(WFS_ROOT_INO, 02750, &w->cred);
	OK(w, build(w, 0, steps, 2, &d));
	a = world_attr(w, d);
	cr_assert_eq(a.mode, S_IFDIR | 02750);
	cr_assert(a.nlink == 2 && a.parent == WFS_ROOT_INO && a.entries == 0);
	a = world_attr(w, WFS_ROOT_INO);
	cr_assert(a.nlink == 3 && a.entries == 1 && a.mtime_ns == w->c.now_ns);
	FAILS(w, ESTALE, build(w, 0, steps, 2, &d));
	f = make_file(w, d, "f");
	steps[0] = step_remove(WFS_ROOT_INO, "d", d);
	steps[1] = step_inode_of(STEP_INODE_RMDIR, d, 0);
	FAILS(w, ENOTEMPTY, build(w, 0, steps, 2, NULL));
	OK(w, unlink_in(w, d, "f", f));
	OK(w, meta_setxattr(w->m, &w->c, d, "user.a", 6, "v", 1, 0));
	OK(w, build(w, 0, steps, 2, NULL));
	cr_assert_eq(meta_getattr(w->m, d, &a), -ESTALE);
	a = world_attr(w, WFS_ROOT_INO);
	cr_assert(a.nlink == 2 && a.entries == 0);
	FAILS(w, ESTALE, create_mode(w, d, "x", 0644, &a));
	FAILS(w, EBUSY, build1(w, step_inode_of(STEP_INODE_RMDIR, WFS_ROOT_INO, 0)));
}

META_TEST(meta_part, expectations)
{
	ino_id f = make_file(w, WFS_ROOT_INO, "f"), g = make_file(w, WFS_ROOT_INO, "g");
	struct step s = step_insert(WFS_ROOT_INO, "f", g, DT_REG);

	FAILS(w, ESTALE, build1(w, s));
	s.expect = g;
	FAILS(w, ESTALE, build1(w, s));
	s = step_insert(WFS_ROOT_INO, "new", g, DT_REG);
	s.expect = f;
	FAILS(w, ESTALE, build1(w, s));
	FAILS(w, ESTALE, build1(w, step_remove(WFS_ROOT_INO, "f", g)));
	FAILS(w, ESTALE, build1(w, step_remove(WFS_ROOT_INO, "x", g)));
	FAILS(w, ENOTDIR, build1(w, step_insert(f, "x", g, DT_REG)));
	FAILS(w, ESTALE, build1(w, step_insert(ino_make(3, 33), "x", g, DT_REG)));
	s = step_insert(WFS_ROOT_INO, "x", g, DT_REG);
	s.dtype = DT_UNKNOWN;
	FAILS(w, EINVAL, build1(w, s));
	FAILS(w, EINVAL, build1(w, step_insert(WFS_ROOT_INO, "..", g, DT_REG)));
	FAILS(w, EINVAL, build(w, 5, &s, 1, NULL));
}

META_TEST(meta_part, sticky_and_write_permission)
{
	ino_id d = make_dir_mode(w, WFS_ROOT_INO, "d", 1, 01777), f, g;
	struct step remove, insert, replace;

	AS(w, 5, 5);
	f = make_file(w, d, "f");
	g = make_file(w, d, "g");
	remove = step_remove(d, "f", f);
	remove.flags = STEP_PERMIT;
	remove.victim_uid = 5;
	insert = step_insert(d, "f", g, DT_REG);
	insert.expect = f;
	insert.flags = STEP_PERMIT;
	insert.victim_uid = 5;
	replace = insert;
	replace.type = STEP_ENTRY_REPLACE;
	AS(w, 6, 6);
	FAILS(w, EPERM, build1(w, remove));
	FAILS(w, EPERM, build1(w, insert));
	FAILS(w, EPERM, build1(w, replace));
	insert = step_insert(d, "new", f, DT_REG);
	insert.flags = STEP_PERMIT;
	cr_assert_eq(build1(w, insert), 0); /* a new name is not sticky */
	batch_reset(&w->batch);
	AS(w, 5, 5);
	cr_assert_eq(build1(w, remove), 0);
	batch_reset(&w->batch);
	remove = step_remove(WFS_ROOT_INO, "d", d);
	remove.flags = STEP_PERMIT;
	FAILS(w, EACCES, build1(w, remove));
	remove.flags = 0;
	cr_assert_eq(build1(w, remove), 0);
	batch_reset(&w->batch);
	AS(w, 0, 0);
}

META_TEST(meta_part, links_up_to_the_limit)
{
	struct meta_key key;
	struct inode_value v;
	struct buf value;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");
	struct step steps[2] = {step_insert(WFS_ROOT_INO, "g", f, DT_REG),
		step_inode_of(STEP_INODE_LINK, f, 0)};

	OK(w, build(w, 0, steps, 2, NULL));
	cr_assert_eq(world_attr(w, f).nlink, 2);
	cr_assert_eq(world_attr(w, f).ctime_ns, w->c.now_ns);
	FAILS(w, EPERM, build1(w, step_inode_of(STEP_INODE_LINK, WFS_ROOT_INO, 0)));
	FAILS(w, EISDIR, build1(w, step_inode_of(STEP_INODE_UNLINK, WFS_ROOT_INO, 0)));
	FAILS(w, ENOTDIR, build1(w, step_inode_of(STEP_INODE_RMDIR, f, 0)));
	OK(w, unlink_in(w, WFS_ROOT_INO, "f", f));
	cr_assert_eq(world_attr(w, f).nlink, 1);
	/* 65000 links are dear to make one by one. */
	buf_init(&value);
	meta_key_inode(&key, f);
	cr_assert_eq(kv_get(w->kv, key.bytes, key.size, &value), 0);
	memcpy(&v, value.data, sizeof(v));
	v.nlink = le32_put(WFS_LINK_MAX);
	batch_put(&w->batch, key.bytes, key.size, &v, sizeof(v));
	cr_assert_eq(world_commit(w), 0);
	FAILS(w, EMLINK, build1(w, step_inode_of(STEP_INODE_LINK, f, 0)));
	batch_put(&w->batch, key.bytes, key.size, value.data, value.size_bytes);
	cr_assert_eq(world_commit(w), 0);
	buf_release(&value);
	w->open[0] = f;
	OK(w, unlink_in(w, WFS_ROOT_INO, "g", f));
	FAILS(w, ENOENT, build1(w, step_inode_of(STEP_INODE_LINK, f, 0)));
	FAILS(w, ESTALE, build1(w, step_inode_of(STEP_INODE_UNLINK, f, 0)));
}

META_TEST(meta_part, renames_within_a_bucket)
{
	struct attr a;
	ino_id d = make_dir(w, WFS_ROOT_INO, "d", 0),
	       e = make_dir(w, WFS_ROOT_INO, "e", 0);
	ino_id f = make_file(w, d, "f"), g = make_file(w, e, "g"), ino;
	struct step s[5];
	uint8_t type;

	/* d/f over e/g: g goes. */
	s[0] = step_remove(d, "f", f);
	s[1] = step_insert(e, "g", f, DT_REG);
	s[1].expect = g;
	s[2] = step_inode_of(STEP_INODE_MOVED, f, e);
	s[3] = step_inode_of(STEP_INODE_UNLINK, g, 0);
	OK(w, build(w, 0, s, 4, NULL));
	cr_assert_eq(meta_getattr(w->m, g, &a), -ESTALE);
	cr_assert_eq(meta_entry(w->m, e, "g", 1, &ino, &type), 0);
	cr_assert_eq(ino, f);
	world_check(w);
	/* Within one directory. */
	s[0] = step_remove(e, "g", f);
	s[1] = step_insert(e, "h", f, DT_REG);
	s[2] = step_inode_of(STEP_INODE_MOVED, f, e);
	OK(w, build(w, 0, s, 3, NULL));
	cr_assert_eq(world_attr(w, e).entries, 1);
	world_check(w);
	/* A directory into another: the links of parents move. */
	s[0] = step_remove(WFS_ROOT_INO, "e", e);
	s[1] = step_insert(d, "e", e, DT_DIR);
	s[2] = step_inode_of(STEP_INODE_MOVED, e, d);
	OK(w, build(w, 0, s, 3, NULL));
	cr_assert_eq(world_attr(w, e).parent, d);
	cr_assert_eq(world_attr(w, d).nlink, 3);
	cr_assert_eq(world_attr(w, WFS_ROOT_INO).nlink, 3);
	world_check(w);
	/* Exchange of a file and a directory. */
	g = make_file(w, WFS_ROOT_INO, "g");
	s[0] = step_insert(WFS_ROOT_INO, "g", e, DT_DIR);
	s[0].type = STEP_ENTRY_REPLACE;
	s[0].expect = g;
	s[1] = step_insert(d, "e", g, DT_REG);
	s[1].type = STEP_ENTRY_REPLACE;
	s[1].expect = e;
	s[2] = step_inode_of(STEP_INODE_MOVED, e, WFS_ROOT_INO);
	s[3] = step_inode_of(STEP_INODE_MOVED, g, d);
	OK(w, build(w, 0, s, 4, NULL));
	cr_assert_eq(world_attr(w, d).nlink, 2);
	cr_assert_eq(world_attr(w, WFS_ROOT_INO).nlink, 4);
	cr_assert_eq(world_attr(w, e).parent, WFS_ROOT_INO);
}

META_TEST(meta_part, a_directory_moves_only_for_who_may_write_it)
{
	ino_id d = make_dir(w, WFS_ROOT_INO, "d", 1);
	struct step moved = step_inode_of(STEP_INODE_MOVED, d, ino_make(1, 99));

	AS(w, 5, 5);
	FAILS(w, EACCES, build1(w, moved));
	moved.dir = WFS_ROOT_INO;
	OK(w, build1(w, moved)); /* within its parent: '..' stays */
	AS(w, 0, 0);
}

/* --- two-phase commit --- */

static int unlocked_count;
static void unlocked(void *ctx)
{
	(void)ctx;
	unlocked_count++;
}

META_TEST(meta_part, mkdir_over_two_buckets)
{
	uint16_t buckets[] = {3};
	struct step insert, fresh = step_new_dir(WFS_ROOT_INO, 0755, &w->cred);
	struct part there = part_of(3, &fresh, 1), here;
	ino_id d, again;
	struct attr a;
	bool purge = true;

	insert = step_insert(WFS_ROOT_INO, "d", 0, DT_DIR);
	here = part_of(0, &insert, 1);
	unlocked_count = 0;
	meta_on_unlock(w->m, unlocked, NULL);
	cr_assert_eq(meta_lock(w->m, TX1, &here), 0);
	cr_assert_eq(meta_lock(w->m, TX1, &here), 0);
	cr_assert_eq(meta_lock(w->m, TX2, &here), -EAGAIN);
	OK(w, meta_prepare(w->m, &w->c, TX1, &there, &d));
	cr_assert_eq(ino_bucket(d), 3);
	OK(w, meta_prepare(w->m, &w->c, TX1, &there, &again));
	cr_assert_eq(again, d);
	FAILS(w, EINPROGRESS, meta_getattr(w->m, d, &a));
	FAILS(w, EINPROGRESS, create_mode(w, WFS_ROOT_INO, "x", 0644, &a));
	here.steps[0].ino = d;
	FAILS(w, EAGAIN, meta_part_build(w->m, &w->c, TX2, &here, NULL, NULL));
	FAILS(w, EAGAIN, meta_part_build(w->m, &w->c, 0, &here, NULL, NULL));
	cr_assert_eq(meta_part_build(w->m, &w->c, TX1, &here, NULL, NULL), 0);
	OK(w, meta_decide(w->m, &w->batch, TX1, buckets, 1));
	meta_unlock(w->m, TX1);
	cr_assert_eq(unlocked_count, 1);
	cr_assert_eq(meta_decision(w->m, TX1), 1);
	cr_assert_eq(meta_decision(w->m, TX2), 0);
	/* The name is visible; its inode says wait, for its intent is still there. */
	FAILS(w, EINPROGRESS, meta_getattr(w->m, d, &a));
	OK(w, meta_resolve(w->m, &w->batch, 3, TX1, true, &purge));
	cr_assert(!purge);
	FAILS(w, EINPROGRESS, meta_getattr(w->m, d, &a));
	meta_unlock(w->m, TX1);
	cr_assert_eq(unlocked_count, 2);
	cr_assert_eq(meta_getattr(w->m, d, &a), 0);
	FAILS(w, ENOENT, meta_resolve(w->m, &w->batch, 3, TX1, true, &purge));
	OK(w, meta_forget(w->m, &w->batch, TX1));
	OK(w, meta_forget(w->m, &w->batch, TX1));
	cr_assert_eq(meta_decision(w->m, TX1), 0);
}

META_TEST(meta_part, abort_leaves_nothing_but_a_used_number)
{
	struct step fresh = step_new_dir(WFS_ROOT_INO, 0755, &w->cred);
	struct part there = part_of(3, &fresh, 1);
	struct bucket_stats stats;
	ino_id d, e;

	OK(w, meta_prepare(w->m, &w->c, TX1, &there, &d));
	world_check(w);
	OK(w, meta_resolve(w->m, &w->batch, 3, TX1, false, NULL));
	meta_unlock(w->m, TX1);
	meta_bucket_stats(w->m, 3, &stats);
	cr_assert_eq(stats.inode_count, 0);
	OK(w, meta_prepare(w->m, &w->c, TX2, &there, &e));
	cr_assert_eq(e, d + 1);
	/* A prepare that is not committed takes nothing. */
	OK(w, meta_resolve(w->m, &w->batch, 3, TX2, false, NULL));
	meta_unlock(w->m, TX2);
	cr_assert_eq(meta_prepare(w->m, &w->c, TX1, &there, &d), 0);
	batch_reset(&w->batch);
	meta_batch_dropped(w->m);
	meta_unlock(w->m, TX1);
	OK(w, meta_prepare(w->m, &w->c, TX2, &there, &e));
	cr_assert_eq(e, d);
	OK(w, meta_resolve(w->m, &w->batch, 3, TX2, false, NULL));
	meta_unlock(w->m, TX2);
}

META_TEST(meta_part, intents_do_not_clobber_what_happens_meanwhile)
{
	struct bucket_stats stats;
	struct purge_job job;
	struct attr a;
	ino_id e = make_dir(w, WFS_ROOT_INO, "e", 3), f = make_file(w, e, "f"), g;
	struct step s[] = {
		step_remove(e, "f", f), step_inode_of(STEP_INODE_UNLINK, f, 0)};
	struct part unlink = part_of(3, s, 2);
	uint32_t crc = 5;
	bool purge = false;
	ino_id other = make_dir(w, WFS_ROOT_INO, "o", 3);

	OK(w, meta_prepare(w->m, &w->c, TX1, &unlink, NULL));
	/* Other inodes of the bucket come, and data of the very file that goes. */
	g = make_file(w, other, "g");
	OK(w, meta_extent_write(w->m, &w->batch, 3, f, 0, 0, 1, 77, &crc));
	FAILS(w, EINPROGRESS, meta_extend(w->m, &w->c, f, 0, 4096, &a));
	FAILS(w, EINPROGRESS, meta_setxattr(w->m, &w->c, f, "user.a", 6, "v", 1, 0));
	FAILS(w, EINPROGRESS, create_mode(w, e, "x", 0644, &a));
	OK(w, meta_resolve(w->m, &w->batch, 3, TX1, true, &purge));
	meta_unlock(w->m, TX1);
	cr_assert(purge);
	world_check(w);
	/* Nobody has it open: it is gone, though its blocks are still there. */
	cr_assert_eq(meta_getattr(w->m, f, &a), -ESTALE);
	w->open[0] = f;
	cr_assert_eq(world_attr(w, f).nlink, 0);
	w->open[0] = 0;
	cr_assert_eq(meta_purge_next(w->m, 0, &job), 0);
	cr_assert(job.ino == f && job.whole_file);
	/* Without meta_extend the inode does not know of the block, yet it is freed. */
	meta_batch_dropped(w->m);
	OK(w, meta_purge_done(w->m, &w->batch, &job));
	meta_bucket_stats(w->m, 3, &stats);
	cr_assert_eq(stats.inode_count, 3);
	cr_assert_eq(stats.data_bytes, 0);
	cr_assert_eq(meta_getattr(w->m, g, &a), 0);
}

struct found {
	int participants, coordinators;
	uint64_t txids[8];
	uint16_t bucket, buckets[8];
	uint32_t bucket_count;
};

static void found(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
	const uint16_t *buckets, uint32_t bucket_count)
{
	struct found *f = ctx;

	f->txids[f->participants + f->coordinators] = txid;
	f->bucket = bucket;
	if (role == TXN_PARTICIPANT) {
		f->participants++;
		return;
	}
	f->coordinators++;
	f->bucket_count = bucket_count;
	for (uint32_t i = 0; i < bucket_count; i++)
		f->buckets[i] = buckets[i];
}

META_TEST(meta_part, recovery_locks_again_and_tells)
{
	uint16_t buckets[] = {3, 9};
	struct step fresh = step_new_dir(WFS_ROOT_INO, 0755, &w->cred), insert;
	struct part there = part_of(9, &fresh, 1), here;
	struct found f = {0};
	struct attr a;
	ino_id d, again, e = make_dir(w, WFS_ROOT_INO, "e", 3);

	OK(w, meta_prepare(w->m, &w->c, TX1, &there, &d));
	insert = step_insert(e, "d", d, DT_DIR);
	here = part_of(3, &insert, 1);
	OK(w, meta_prepare(w->m, &w->c, TX1, &here, NULL));
	OK(w, meta_decide(w->m, &w->batch, TX2, buckets, 2));
	world_restart(w);
	cr_assert_eq(meta_recover(w->m, found, &f), 0);
	cr_assert(f.participants == 2 && f.coordinators == 1);
	cr_assert(f.txids[0] == TX1 && f.txids[1] == TX1 && f.txids[2] == TX2);
	cr_assert(f.bucket == 3 && f.bucket_count == 2 && f.buckets[1] == 9);
	FAILS(w, EINPROGRESS, meta_getattr(w->m, d, &a));
	FAILS(w, EINPROGRESS, create_mode(w, e, "x", 0644, &a));
	OK(w, meta_prepare(w->m, &w->c, TX1, &there, &again));
	cr_assert_eq(d, again);
	/* The two buckets are resolved one after the other; each keeps its own lock. */
	OK(w, meta_resolve(w->m, &w->batch, 3, TX1, true, NULL));
	meta_unlock(w->m, TX1);
	cr_assert_eq(meta_getattr(w->m, e, &a), 0);
	FAILS(w, EINPROGRESS, meta_getattr(w->m, d, &a));
	OK(w, meta_resolve(w->m, &w->batch, 9, TX1, true, NULL));
	meta_unlock(w->m, TX1);
	cr_assert_eq(meta_getattr(w->m, d, &a), 0);
	OK(w, meta_forget(w->m, &w->batch, TX2));
	f = (struct found){0};
	cr_assert_eq(meta_recover(w->m, found, &f), 0);
	cr_assert(f.participants == 0 && f.coordinators == 0);
	/* Foreign buckets are not ours to finish. */
	OK(w, meta_decide(w->m, &w->batch, TX2, buckets, 2));
	w->foreign = 1u << 3;
	cr_assert_eq(meta_recover(w->m, found, &f), 0);
	cr_assert_eq(f.coordinators, 0);
	w->foreign = 0;
}

META_TEST(meta_part, locked_inodes_refuse_everything)
{
	struct walk k;
	struct buf out;
	struct attr a;
	uint64_t cookie, offset;
	uint8_t type;
	bool eof;
	ino_id ino, d = make_dir(w, WFS_ROOT_INO, "d", 1), f = make_file(w, d, "f");
	struct step s[] = {step_inode_of(STEP_INODE_MOVED, d, WFS_ROOT_INO),
		step_inode_of(STEP_INODE_LINK, f, 0)};
	struct part part = part_of(1, s, 2);

	buf_init(&out);
	cr_assert_eq(meta_lock(w->m, TX1, &part), 0);
	FAILS(w, EINPROGRESS,
		meta_walk(w->m, &w->c, WFS_ROOT_INO, "d/f", 3, WALK_FOLLOW, &k));
	FAILS(w, EINPROGRESS, meta_walk(w->m, &w->c, d, "", 0, WALK_FOLLOW, &k));
	FAILS(w, EINPROGRESS, meta_entry(w->m, d, "f", 1, &ino, &type));
	FAILS(w, EINPROGRESS, meta_readdir(w->m, &w->c, d, 0, 99, &out, &cookie, &eof));
	FAILS(w, EINPROGRESS, meta_open(w->m, &w->c, f, O_RDONLY, &a));
	FAILS(w, EINPROGRESS, meta_append(w->m, &w->c, f, 9, &offset, &a));
	FAILS(w, EINPROGRESS,
		meta_setattr(w->m, &w->c, f, &(struct meta_set){0}, &a, NULL));
	FAILS(w, EINPROGRESS, meta_readlink(w->m, f, &out));
	FAILS(w, EINPROGRESS, meta_symlink(w->m, &w->c, d, "s", 1, "t", 1, &a));
	FAILS(w, EINPROGRESS, meta_getxattr(w->m, &w->c, f, "user.a", 6, &out));
	FAILS(w, EINPROGRESS, meta_listxattr(w->m, &w->c, f, &out));
	FAILS(w, EINPROGRESS, meta_removexattr(w->m, &w->c, f, "user.a", 6));
	/* Its name in a directory that is free can be listed, without attributes. */
	cr_assert_eq(
		meta_readdir(w->m, &w->c, WFS_ROOT_INO, 2, 99, &out, &cookie, &eof), 0);
	cr_assert_eq(out.data[offsetof(struct dirent_record, flags)], 0);
	meta_unlock(w->m, TX1);
	cr_assert_eq(meta_getattr(w->m, f, &a), 0);
	buf_release(&out);
}

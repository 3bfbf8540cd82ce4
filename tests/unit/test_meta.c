/* meta: names, inodes, permissions, walks, listings, xattrs. */
#include "tests/unit/test_meta_world.h"

/* --- creating --- */

META_TEST(meta, create_makes_each_kind)
{
	static const uint32_t kinds[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
	struct attr a;
	char name[2] = "a";

	for (size_t i = 0; i < 5; i++, name[0]++) {
		bool created = false;

		OK(w, meta_create(w->m, &w->c, WFS_ROOT_INO, name, 1, kinds[i] | 0640,
			      0x1234, true, &a, &created));
		cr_assert(created);
		cr_assert_eq(a.mode, kinds[i] | 0640);
		cr_assert_eq(a.nlink, 1);
		cr_assert_eq(a.fsid, 7);
		cr_assert_eq(a.parent, WFS_ROOT_INO);
		cr_assert_eq(
			a.rdev, kinds[i] == S_IFCHR || kinds[i] == S_IFBLK ? 0x1234 : 0);
		cr_assert_eq(a.ino, ino_make(0, COUNTER_FIRST + i));
	}
	cr_assert_eq(world_attr(w, WFS_ROOT_INO).entries, 5);
	cr_assert_eq(world_attr(w, WFS_ROOT_INO).mtime_ns, w->c.now_ns);
}

META_TEST(meta, create_refuses)
{
	char longname[257];
	struct attr a;
	bool created = true;
	ino_id file = make_file(w, WFS_ROOT_INO, "file");

	memset(longname, 'x', sizeof(longname));
	longname[256] = 0;
	FAILS(w, EEXIST, create_mode(w, WFS_ROOT_INO, "file", 0644, &a));
	FAILS(w, ENAMETOOLONG, create_mode(w, WFS_ROOT_INO, longname, 0644, &a));
	FAILS(w, EINVAL, create_mode(w, WFS_ROOT_INO, "", 0644, &a));
	FAILS(w, EINVAL, create_mode(w, WFS_ROOT_INO, "a/b", 0644, &a));
	FAILS(w, EINVAL, create_mode(w, WFS_ROOT_INO, ".", 0644, &a));
	FAILS(w, EINVAL, create_mode(w, WFS_ROOT_INO, "..", 0644, &a));
	FAILS(w, EINVAL, create_mode(w, WFS_ROOT_INO, "d", S_IFDIR | 0755, &a));
	FAILS(w, ENOTDIR, create_mode(w, file, "x", 0644, &a));
	FAILS(w, ESTALE, create_mode(w, ino_make(3, 99), "x", 0644, &a));
	FAILS(w, EINVAL,
		meta_create(w->m, &w->c, WFS_ROOT_INO, "a\0b", 3, 0644, 0, true, &a,
			&created));
	longname[255] = 0;
	OK(w, create_mode(w, WFS_ROOT_INO, longname, 0644, &a));
	OK(w, meta_create(w->m, &w->c, WFS_ROOT_INO, "file", 4, 0600, 0, false, &a,
		      &created));
	cr_assert(!created);
	cr_assert_eq(a.ino, file);
	cr_assert_eq(a.mode, S_IFREG | 0644);
	make_dir(w, WFS_ROOT_INO, "sub", 3);
	OK(w, meta_create(
		      w->m, &w->c, WFS_ROOT_INO, "sub", 3, 0600, 0, false, &a, &created));
	cr_assert_eq(ino_bucket(a.ino), 3);
	cr_assert_eq(a.mode, 0);
	AS(w, 5, 5);
	FAILS(w, EACCES, create_mode(w, WFS_ROOT_INO, "x", 0644, &a));
	FAILS(w, EEXIST, create_mode(w, WFS_ROOT_INO, "file", 0644, &a));
	AS(w, 0, 0);
	OK(w, meta_setattr(w->m, &w->c, WFS_ROOT_INO,
		      &(struct meta_set){.mask = SET_MODE, .mode = 0777}, &a, NULL));
	AS(w, 5, 5);
	FAILS(w, EPERM, create_mode(w, WFS_ROOT_INO, "dev", S_IFCHR | 0644, &a));
	OK(w, create_mode(w, WFS_ROOT_INO, "mine", 0644, &a));
	cr_assert_eq(a.uid, 5);
	cr_assert_eq(a.gid, 5);
}

META_TEST(meta, setgid_directories_hand_on_their_group)
{
	struct attr a;
	ino_id dir = make_dir_mode(w, WFS_ROOT_INO, "dir", 1, 02777);

	OK(w, meta_setattr(w->m, &w->c, dir,
		      &(struct meta_set){.mask = SET_GID, .gid = 50}, &a, NULL));
	cr_assert_eq(a.mode, S_IFDIR | 02777);
	AS(w, 5, 5);
	OK(w, create_mode(w, dir, "f", S_IFREG | 0755, &a));
	cr_assert_eq(a.gid, 50);
	OK(w, create_mode(w, dir, "g", S_IFREG | 02755, &a));
	cr_assert_eq(a.mode, S_IFREG | 0755, "no privilege of a group that is not ours");
	OK(w, create_mode(w, dir, "h", S_IFREG | 02745, &a));
	cr_assert_eq(a.mode, S_IFREG | 02745);
}

META_TEST(meta, symlinks)
{
	char target[4097];
	struct attr a;
	struct buf out;

	buf_init(&out);
	memset(target, 't', sizeof(target));
	OK(w, meta_symlink(w->m, &w->c, WFS_ROOT_INO, "l", 1, "to/there", 8, &a));
	cr_assert_eq(a.mode, S_IFLNK | 0777);
	cr_assert_eq(a.size_bytes, 8);
	cr_assert_eq(meta_readlink(w->m, a.ino, &out), 0);
	cr_assert_eq(out.size_bytes, 8);
	cr_assert_arr_eq(out.data, "to/there", 8);
	/* The target stays through a change of the inode. */
	OK(w, meta_setattr(w->m, &w->c, a.ino,
		      &(struct meta_set){.mask = SET_UID, .uid = 9}, &a, NULL));
	buf_reset(&out);
	cr_assert_eq(meta_readlink(w->m, a.ino, &out), 0);
	cr_assert_arr_eq(out.data, "to/there", 8);
	FAILS(w, EOPNOTSUPP,
		meta_setattr(w->m, &w->c, a.ino, &(struct meta_set){.mask = SET_MODE}, &a,
			NULL));
	FAILS(w, ELOOP, meta_open(w->m, &w->c, a.ino, O_RDONLY, &a));
	FAILS(w, EEXIST, meta_symlink(w->m, &w->c, WFS_ROOT_INO, "l", 1, "x", 1, &a));
	FAILS(w, ENOENT, meta_symlink(w->m, &w->c, WFS_ROOT_INO, "m", 1, "", 0, &a));
	FAILS(w, ENAMETOOLONG,
		meta_symlink(w->m, &w->c, WFS_ROOT_INO, "m", 1, target, 4096, &a));
	FAILS(w, EINVAL, meta_symlink(w->m, &w->c, WFS_ROOT_INO, "m", 1, "a\0b", 3, &a));
	FAILS(w, EINVAL, meta_readlink(w->m, WFS_ROOT_INO, &out));
	OK(w, meta_symlink(w->m, &w->c, WFS_ROOT_INO, "m", 1, target, 4095, &a));
	buf_release(&out);
}

/* --- permissions --- */

Test(meta, permission_table)
{
	const struct {
		uint32_t mode, uid, gid;
		int want, rc;
	} rows[] = {
		{S_IFREG | 0400, 1, 9, R_OK, 0},
		{S_IFREG | 0400, 1, 9, W_OK, -EACCES},
		{S_IFREG | 0400, 2, 9, R_OK, -EACCES},
		{S_IFREG | 0040, 2, 1, R_OK, 0},
		{S_IFREG | 0040, 2, 7, R_OK, 0},       /* by a supplementary group */
		{S_IFREG | 0040, 1, 1, R_OK, -EACCES}, /* the owner class decides alone */
		{S_IFREG | 0004, 2, 1, R_OK, -EACCES}, /* so does the group's */
		{S_IFREG | 0004, 2, 3, R_OK, 0},
		{S_IFREG | 0006, 2, 3, R_OK | W_OK, 0},
		{S_IFREG | 0006, 2, 3, R_OK | X_OK, -EACCES},
		{S_IFREG | 0000, 0, 0, R_OK | W_OK, 0},
		{S_IFREG | 0000, 0, 0, X_OK, -EACCES},
		{S_IFREG | 0001, 0, 0, X_OK, 0},
		{S_IFDIR | 0000, 0, 0, X_OK, 0},
		{S_IFREG | 0000, 2, 3, 0, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct attr a = {.mode = rows[i].mode, .uid = 1, .gid = 1};
		struct cred cred = {.uid = rows[i].uid, .gid = rows[i].gid};

		if (rows[i].gid == 7) {
			cred.group_count = 1;
			cred.groups[0] = 1;
		}
		cr_assert_eq(
			perm_check(&a, &cred, rows[i].want), rows[i].rc, "row %zu", i);
	}
}

static int set(struct world *w, ino_id ino, struct meta_set s, struct attr *a)
{
	return meta_setattr(w->m, &w->c, ino, &s, a, NULL);
}

META_TEST(meta, chown_and_chmod_rules)
{
	struct attr a;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	OK(w, set(w, f, (struct meta_set){.mask = SET_UID | SET_GID, .uid = 5, .gid = 6},
		      &a));
	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 06755}, &a));
	cr_assert_eq(a.mode, S_IFREG | 06755);
	AS(w, 5, 5);
	FAILS(w, EPERM, set(w, f, (struct meta_set){.mask = SET_UID, .uid = 8}, &a));
	FAILS(w, EPERM, set(w, f, (struct meta_set){.mask = SET_GID, .gid = 8}, &a));
	OK(w, set(w, f, (struct meta_set){.mask = SET_UID, .uid = 5}, &a));
	cr_assert_eq(a.mode, S_IFREG | 0755, "chown takes setuid and setgid");
	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 02755}, &a));
	cr_assert_eq(a.mode, S_IFREG | 0755, "not in group 6");
	OK(w, set(w, f, (struct meta_set){.mask = SET_GID, .gid = 5}, &a));
	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 02745}, &a));
	OK(w, set(w, f, (struct meta_set){.mask = SET_GID, .gid = 5}, &a));
	cr_assert_eq(a.mode, S_IFREG | 02745, "without group x it is no privilege");
	cr_assert_eq(a.ctime_ns, w->c.now_ns);
	AS(w, 8, 5);
	FAILS(w, EPERM, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 0777}, &a));
	FAILS(w, EPERM, set(w, f, (struct meta_set){.mask = SET_GID, .gid = 5}, &a));
	cr_assert_eq(world_attr(w, f).mode, S_IFREG | 02745);
}

META_TEST(meta, utimens_rules)
{
	struct attr a;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	OK(w, set(w, f,
		      (struct meta_set){
			      .mask = SET_UID | SET_MODE, .uid = 5, .mode = 0666},
		      &a));
	AS(w, 5, 5);
	OK(w, set(w, f,
		      (struct meta_set){.mask = SET_ATIME | SET_MTIME,
			      .atime_ns = -5,
			      .mtime_ns = 17},
		      &a));
	cr_assert_eq(a.atime_ns, -5);
	cr_assert_eq(a.mtime_ns, 17);
	cr_assert_eq(a.ctime_ns, w->c.now_ns);
	AS(w, 6, 6);
	FAILS(w, EPERM,
		set(w, f, (struct meta_set){.mask = SET_ATIME, .atime_ns = 1}, &a));
	FAILS(w, EPERM, set(w, f, (struct meta_set){.mask = SET_ATIME_NOW}, &a));
	OK(w, set(w, f, (struct meta_set){.mask = SET_ATIME_NOW | SET_MTIME_NOW}, &a));
	cr_assert_eq(a.mtime_ns, w->c.now_ns);
	AS(w, 0, 0);
	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 0644}, &a));
	AS(w, 6, 6);
	FAILS(w, EACCES,
		set(w, f, (struct meta_set){.mask = SET_ATIME_NOW | SET_MTIME_NOW}, &a));
	OK(w, set(w, f, (struct meta_set){.mask = 0}, &a));
}

META_TEST(meta, truncate_and_write_rules)
{
	struct attr a;
	uint64_t offset;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	FAILS(w, EISDIR, set(w, WFS_ROOT_INO, (struct meta_set){.mask = SET_SIZE}, &a));
	FAILS(w, EFBIG,
		set(w, f,
			(struct meta_set){
				.mask = SET_SIZE, .size_bytes = WFS_FILE_SIZE_MAX + 1},
			&a));
	OK(w, create_mode(w, WFS_ROOT_INO, "p", S_IFIFO | 0644, &a));
	FAILS(w, EINVAL, set(w, a.ino, (struct meta_set){.mask = SET_SIZE}, &a));
	OK(w, set(w, f, (struct meta_set){.mask = SET_SIZE, .size_bytes = 5000}, &a));
	cr_assert_eq(a.size_bytes, 5000);
	cr_assert_eq(a.blocks_512, 16);
	cr_assert_eq(a.generation, 0, "growing needs no new generation");
	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 06755}, &a));
	AS(w, 5, 5);
	FAILS(w, EACCES, set(w, f, (struct meta_set){.mask = SET_SIZE}, &a));
	OK(w, set(w, f,
		      (struct meta_set){
			      .mask = SET_SIZE, .by_fd = true, .size_bytes = 10},
		      &a));
	cr_assert_eq(a.mode, S_IFREG | 0755);
	cr_assert_eq(a.generation, 1);
	AS(w, 0, 0);
	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 06755}, &a));
	OK(w, meta_extend(w->m, &w->c, f, 1, 20, &a));
	cr_assert_eq(a.mode, S_IFREG | 06755, "root's writes take nothing");
	AS(w, 5, 5);
	FAILS(w, ESTALE, meta_extend(w->m, &w->c, f, 0, 30, &a));
	OK(w, meta_extend(w->m, &w->c, f, UINT32_MAX, 15, &a));
	cr_assert_eq(a.size_bytes, 20);
	cr_assert_eq(a.mode, S_IFREG | 0755);
	OK(w, meta_append(w->m, &w->c, f, 100, &offset, &a));
	cr_assert_eq(offset, 20);
	cr_assert_eq(a.size_bytes, 120);
	FAILS(w, EFBIG, meta_append(w->m, &w->c, f, WFS_FILE_SIZE_MAX, &offset, &a));
	FAILS(w, EFBIG, meta_extend(w->m, &w->c, f, 1, WFS_FILE_SIZE_MAX + 1, &a));
	FAILS(w, EISDIR, meta_extend(w->m, &w->c, WFS_ROOT_INO, 0, 1, &a));
	FAILS(w, ESTALE, meta_extend(w->m, &w->c, ino_make(2, 77), 0, 1, &a));
}

META_TEST(meta, open_rules)
{
	struct attr a;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	OK(w, set(w, f, (struct meta_set){.mask = SET_MODE, .mode = 0640}, &a));
	OK(w, meta_open(w->m, &w->c, f, O_RDWR, &a));
	OK(w, meta_open(w->m, &w->c, WFS_ROOT_INO, O_RDONLY, &a));
	FAILS(w, EISDIR, meta_open(w->m, &w->c, WFS_ROOT_INO, O_WRONLY, &a));
	FAILS(w, EINVAL, meta_open(w->m, &w->c, f, 3, &a));
	AS(w, 5, 0);
	OK(w, meta_open(w->m, &w->c, f, O_RDONLY, &a));
	FAILS(w, EACCES, meta_open(w->m, &w->c, f, O_RDWR, &a));
	AS(w, 5, 5);
	FAILS(w, EACCES, meta_open(w->m, &w->c, f, O_RDONLY, &a));
	FAILS(w, ESTALE, meta_open(w->m, &w->c, ino_make(9, 9), O_RDONLY, &a));
}

/* --- walking --- */

static int walk(struct world *w, ino_id start, const char *path, enum walk_mode mode,
	struct walk *out)
{
	return meta_walk(w->m, &w->c, start, path, strlen(path), mode, out);
}

META_TEST(meta, walk_within_the_shard)
{
	struct walk k;
	struct attr a;
	char longname[300];
	ino_id d = make_dir(w, WFS_ROOT_INO, "d", 1), e = make_dir(w, d, "e", 2);
	ino_id f = make_file(w, e, "f");

	memset(longname, 'n', sizeof(longname));
	longname[299] = 0;
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/f", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == f && k.consumed == 5 && !k.must_be_dir);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d//e/", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == e && k.consumed == 5 && k.must_be_dir);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "", WALK_NOFOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == WFS_ROOT_INO && !k.must_be_dir);
	cr_assert_eq(walk(w, f, "", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == f);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/..", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == d && k.must_be_dir);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/./e/../e/.", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == e && k.must_be_dir);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/new", WALK_PARENT, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == e && k.name_at == 4 && k.name_size == 3);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/new//", WALK_PARENT, &k), 0);
	cr_assert(k.ino == d && k.name_at == 2 && k.name_size == 3 && k.must_be_dir);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/../..", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_ABOVE && k.ino == WFS_ROOT_INO && k.consumed == 7);
	cr_assert_eq(walk(w, d, "../../x", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_ABOVE && k.consumed == 5);

	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/x", WALK_FOLLOW, &k), -ENOENT);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/x/y", WALK_PARENT, &k), -ENOENT);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/f/g", WALK_FOLLOW, &k), -ENOTDIR);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/f/", WALK_FOLLOW, &k), -ENOTDIR);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/f/new", WALK_PARENT, &k), -ENOTDIR);
	cr_assert_eq(walk(w, f, "x", WALK_FOLLOW, &k), -ENOTDIR);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "", WALK_PARENT, &k), -EINVAL);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/.", WALK_PARENT, &k), -EINVAL);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/..", WALK_PARENT, &k), -ENOTEMPTY);
	cr_assert_eq(walk(w, WFS_ROOT_INO, longname, WALK_FOLLOW, &k), -ENAMETOOLONG);
	cr_assert_eq(walk(w, WFS_ROOT_INO, longname, WALK_PARENT, &k), -ENAMETOOLONG);
	cr_assert_eq(meta_walk(w->m, &w->c, WFS_ROOT_INO, "d\0e", 3, WALK_FOLLOW, &k),
		-EINVAL);
	cr_assert_eq(walk(w, ino_make(4, 4), "x", WALK_FOLLOW, &k), -ESTALE);

	OK(w, set(w, d, (struct meta_set){.mask = SET_MODE, .mode = 0700}, &a));
	AS(w, 5, 5);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d", WALK_FOLLOW, &k), 0);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e", WALK_FOLLOW, &k), -EACCES);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/x", WALK_PARENT, &k), -EACCES);
	AS(w, 0, 0);
}

META_TEST(meta, walk_stops_where_the_shard_ends)
{
	struct walk k;
	ino_id d = make_dir(w, WFS_ROOT_INO, "d", 1), e = make_dir(w, d, "e", 2);

	w->foreign = 1u << 2;
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/f", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_MOVED && k.ino == e && k.consumed == 3);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e/f", WALK_PARENT, &k), 0);
	cr_assert(k.end == WALK_MOVED && k.ino == e && k.consumed == 3);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e", WALK_NOFOLLOW, &k), 0);
	cr_assert(k.end == WALK_MOVED && k.ino == e && k.consumed == 3);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/e", WALK_PARENT, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == d && k.name_at == 2);
	w->foreign = 1u << 1;
	cr_assert_eq(walk(w, e, "..", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_MOVED && k.ino == d && k.consumed == 2);
	cr_assert_eq(walk(w, e, "../x", WALK_PARENT, &k), 0);
	cr_assert(k.end == WALK_MOVED && k.ino == d && k.consumed == 2);
	w->foreign = 0;
}

META_TEST(meta, walk_and_symlinks)
{
	struct step move[3];
	struct attr l;
	struct walk k;
	ino_id d = make_dir(w, WFS_ROOT_INO, "d", 1);

	OK(w, meta_symlink(w->m, &w->c, d, "l", 1, "../x", 4, &l));
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/l", WALK_NOFOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == l.ino);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "d/l", WALK_PARENT, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == d);
	for (int i = 0; i < 4; i++) {
		static const char *const paths[] = {"d/l", "d/l/", "d/l/y", "d/l/y"};
		static const enum walk_mode modes[] = {
			WALK_FOLLOW, WALK_NOFOLLOW, WALK_NOFOLLOW, WALK_PARENT};

		cr_assert_eq(walk(w, WFS_ROOT_INO, paths[i], modes[i], &k), 0);
		cr_assert(k.end == WALK_SYMLINK && k.ino == d && k.consumed == 3);
		cr_assert_str_eq(k.target, "../x");
		cr_assert_eq(k.target_size, 4);
	}
	/* A symlink that moved to a name on another shard: its walk begins at the link.
	 */
	move[0] = step_remove(d, "l", l.ino);
	move[1] = step_inode_of(STEP_INODE_MOVED, l.ino, WFS_ROOT_INO);
	move[2] = step_insert(WFS_ROOT_INO, "l", l.ino, DT_LNK);
	cr_assert_eq(build(w, 1, move, 2, NULL), 0);
	OK(w, build(w, 0, &move[2], 1, NULL));
	w->foreign = 1u << 1;
	cr_assert_eq(walk(w, WFS_ROOT_INO, "l/y", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_MOVED && k.ino == l.ino && k.consumed == 1);
	w->foreign = 0;
	cr_assert_eq(walk(w, l.ino, "/y", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_SYMLINK && k.ino == WFS_ROOT_INO && k.consumed == 0);
	cr_assert_eq(walk(w, l.ino, "", WALK_FOLLOW, &k), 0);
	cr_assert(k.end == WALK_SYMLINK);
	cr_assert_eq(walk(w, l.ino, "", WALK_NOFOLLOW, &k), 0);
	cr_assert(k.end == WALK_DONE && k.ino == l.ino);
}

META_TEST(meta, entry_is_the_name_itself)
{
	ino_id ino, d = make_dir(w, WFS_ROOT_INO, "d", 1), f = make_file(w, d, "f");
	uint8_t type;

	AS(w, 5, 5);
	cr_assert_eq(meta_entry(w->m, WFS_ROOT_INO, "d", 1, &ino, &type), 0);
	cr_assert(ino == d && type == DT_DIR);
	cr_assert_eq(meta_entry(w->m, d, "f", 1, &ino, &type), 0);
	cr_assert(ino == f && type == DT_REG);
	cr_assert_eq(meta_entry(w->m, d, "g", 1, &ino, &type), -ENOENT);
	cr_assert_eq(meta_entry(w->m, f, "g", 1, &ino, &type), -ENOTDIR);
	cr_assert_eq(meta_entry(w->m, ino_make(8, 8), "g", 1, &ino, &type), -ESTALE);
}

/* --- listing --- */

/* List all, max_bytes at a time; count names starting with `prefix`. */
static uint32_t list(struct world *w, ino_id dir, size_t max_bytes, uint32_t *with_attr)
{
	uint64_t cookie = 0, last = 0;
	uint32_t count = 0;
	bool eof = false;
	struct buf out;

	buf_init(&out);
	*with_attr = 0;
	while (!eof) {
		struct dirent_record r;
		size_t offset = 0;
		const char *name;
		int rc;

		buf_reset(&out);
		cr_assert_eq(meta_readdir(w->m, &w->c, dir, cookie, max_bytes, &out,
				     &cookie, &eof),
			0);
		while ((rc = dirent_next(out.data, out.size_bytes, &offset, &r, &name)) ==
			1) {
			cr_assert_geq(le64_get(r.cookie), last);
			last = le64_get(r.cookie);
			count++;
			if (r.flags & DIRENT_HAS_ATTR) {
				cr_assert_eq(le64_get(r.attr.ino), le64_get(r.ino));
				++*with_attr;
			}
		}
		cr_assert_eq(rc, 0);
		cr_assert(eof || cookie == last);
	}
	buf_release(&out);
	return count;
}

META_TEST(meta, readdir_in_pieces_with_attributes)
{
	uint32_t with_attr;
	struct attr a;
	char name[16];
	ino_id d = make_dir(w, WFS_ROOT_INO, "d", 1);

	make_dir(w, d, "sub", 2);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(w, d, name);
	}
	cr_assert_eq(list(w, d, 1, &with_attr), 103);
	cr_assert_eq(with_attr, 103);
	cr_assert_eq(list(w, d, 1000, &with_attr), 103);
	cr_assert_eq(list(w, d, 1u << 20, &with_attr), 103);
	w->foreign = 1u << 2 | 1u << 0;
	cr_assert_eq(list(w, d, 1000, &with_attr), 103);
	cr_assert_eq(with_attr, 101, "neither '..' nor sub");
	w->foreign = 0;
	OK(w, set(w, d, (struct meta_set){.mask = SET_MODE, .mode = 0744}, &a));
	AS(w, 5, 5);
	cr_assert_eq(list(w, d, 1000, &with_attr), 103);
	cr_assert_eq(with_attr, 0, "no search permission");
	AS(w, 0, 0);
}

META_TEST(meta, readdir_survives_changes_between_calls)
{
	bool seen[50] = {false}, eof = false;
	uint64_t cookie = 0;
	struct buf out;
	char text[16];
	ino_id inos[50], d = make_dir(w, WFS_ROOT_INO, "d", 1);
	int removed = 0;

	buf_init(&out);
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof(text), "n%d", i);
		inos[i] = make_file(w, d, text);
	}
	while (!eof) {
		struct dirent_record r;
		size_t offset = 0;
		const char *name;

		buf_reset(&out);
		cr_assert_eq(
			meta_readdir(w->m, &w->c, d, cookie, 500, &out, &cookie, &eof),
			0);
		while (dirent_next(out.data, out.size_bytes, &offset, &r, &name) == 1) {
			int i;

			if (name[0] != 'n')
				continue;
			memcpy(text, name, le16_get(r.name_size));
			text[le16_get(r.name_size)] = 0;
			i = atoi(text + 1);
			cr_assert(!seen[i]);
			seen[i] = true;
			/* rm -r deletes what it saw. */
			OK(w, unlink_in(w, d, text, inos[i]));
			removed++;
		}
	}
	cr_assert_eq(removed, 50);
	cr_assert_eq(world_attr(w, d).entries, 0);
	buf_release(&out);
}

/* Names with one hash cannot be found in a test's time: forge their keys. */
META_TEST(meta, readdir_keeps_equal_hashes_together)
{
	uint64_t cookie = COOKIE_DOTDOT;
	struct meta_key keys[30];
	struct dirent_value value;
	uint32_t count = 0;
	bool eof = false;
	struct buf out;

	buf_init(&out);
	name_target_encode(&(struct name_target){.ino = 99, .dtype = DT_REG}, &value);
	for (uint32_t i = 0; i < 30; i++) {
		char name[4] = {'n', (char)('0' + i / 10), (char)('0' + i % 10)};

		meta_key_dirent(&keys[i], WFS_ROOT_INO, name, 3);
		be64_write(keys[i].bytes + 12, 1000 + i / 10);
		batch_put(&w->batch, keys[i].bytes, keys[i].size, &value, sizeof(value));
	}
	cr_assert_eq(world_commit(w), 0);
	for (uint64_t hash = 1000; !eof; hash++) {
		struct dirent_record r;
		size_t offset = 0;
		const char *name;

		buf_reset(&out);
		cr_assert_eq(
			meta_readdir(w->m, &w->c, WFS_ROOT_INO, cookie,
				sizeof(struct dirent_record) + 3, &out, &cookie, &eof),
			0);
		cr_assert_eq(cookie, hash);
		cr_assert_eq(eof, hash == 1002);
		for (; dirent_next(out.data, out.size_bytes, &offset, &r, &name) == 1;
			count++)
			cr_assert_eq(le64_get(r.cookie), hash);
	}
	cr_assert_eq(count, 30);
	for (uint32_t i = 0; i < 30; i++)
		batch_del(&w->batch, keys[i].bytes, keys[i].size);
	cr_assert_eq(world_commit(w), 0);
	buf_release(&out);
}

META_TEST(meta, readdir_refuses)
{
	struct buf out;
	uint64_t cookie;
	bool eof;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	buf_init(&out);
	cr_assert_eq(meta_readdir(w->m, &w->c, f, 0, 100, &out, &cookie, &eof), -ENOTDIR);
	cr_assert_eq(meta_readdir(w->m, &w->c, WFS_ROOT_INO, UINT64_MAX, 100, &out,
			     &cookie, &eof),
		-EINVAL);
	cr_assert_eq(
		meta_readdir(w->m, &w->c, ino_make(5, 5), 0, 100, &out, &cookie, &eof),
		-ESTALE);
	cr_assert_eq(meta_readdir(w->m, &w->c, WFS_ROOT_INO, INT64_MAX, 100, &out,
			     &cookie, &eof),
		0);
	cr_assert(eof && out.size_bytes == 0);
	buf_release(&out);
}

/* --- xattrs --- */

static int setx(
	struct world *w, ino_id ino, const char *name, const char *value, int flags)
{
	return meta_setxattr(
		w->m, &w->c, ino, name, strlen(name), value, strlen(value), flags);
}

META_TEST(meta, xattrs)
{
	static char big[WFS_XATTR_SIZE_MAX + 1];
	char longname[300];
	struct buf out;
	ino_id f = make_file(w, WFS_ROOT_INO, "f");

	buf_init(&out);
	cr_assert_eq(meta_getxattr(w->m, &w->c, f, "user.a", 6, &out), -ENODATA);
	FAILS(w, ENODATA, setx(w, f, "user.a", "1", XATTR_REPLACE));
	FAILS(w, ENODATA, meta_removexattr(w->m, &w->c, f, "user.a", 6));
	OK(w, setx(w, f, "user.a", "1", XATTR_CREATE));
	cr_assert_eq(world_attr(w, f).ctime_ns, w->c.now_ns);
	FAILS(w, EEXIST, setx(w, f, "user.a", "2", XATTR_CREATE));
	OK(w, setx(w, f, "user.a", "22", XATTR_REPLACE));
	OK(w, setx(w, f, "trusted.b", "", 0));
	OK(w, meta_setxattr(
		      w->m, &w->c, f, "security.c", 10, big, WFS_XATTR_SIZE_MAX, 0));
	cr_assert_eq(meta_getxattr(w->m, &w->c, f, "user.a", 6, &out), 0);
	cr_assert_eq(out.size_bytes, 2);
	cr_assert_arr_eq(out.data, "22", 2);
	buf_reset(&out);
	cr_assert_eq(meta_getxattr(w->m, &w->c, f, "trusted.b", 9, &out), 0);
	cr_assert_eq(out.size_bytes, 0);
	cr_assert_eq(meta_getxattr(w->m, &w->c, f, "security.c", 10, &out), 0);
	cr_assert_eq(out.size_bytes, WFS_XATTR_SIZE_MAX);
	buf_reset(&out);
	cr_assert_eq(meta_listxattr(w->m, &w->c, f, &out), 0);
	cr_assert_eq(out.size_bytes, 11 + 10 + 7);
	cr_assert_arr_eq(out.data, "security.c\0trusted.b\0user.a", 28);

	memset(longname, 'u', sizeof(longname));
	memcpy(longname, "user.", 5);
	longname[256] = 0;
	FAILS(w, ERANGE, setx(w, f, longname, "1", 0));
	longname[255] = 0;
	OK(w, setx(w, f, longname, "1", 0));
	OK(w, meta_removexattr(w->m, &w->c, f, longname, 255));
	FAILS(w, EINVAL, setx(w, f, "user.", "1", 0));
	FAILS(w, ERANGE, setx(w, f, "", "1", 0));
	FAILS(w, EOPNOTSUPP, setx(w, f, "other.a", "1", 0));
	FAILS(w, EOPNOTSUPP, setx(w, f, "system.posix_acl_access", "1", 0));
	FAILS(w, EINVAL, setx(w, f, "user.a", "1", 64));
	FAILS(w, E2BIG, meta_setxattr(w->m, &w->c, f, "user.a", 6, big, sizeof(big), 0));

	AS(w, 5, 5);
	FAILS(w, EACCES, setx(w, f, "user.a", "1", 0));
	FAILS(w, EPERM, setx(w, f, "trusted.b", "1", 0));
	FAILS(w, EPERM, setx(w, f, "security.c", "1", 0));
	FAILS(w, EACCES, meta_removexattr(w->m, &w->c, f, "user.a", 6));
	buf_reset(&out);
	cr_assert_eq(meta_getxattr(w->m, &w->c, f, "trusted.b", 9, &out), -ENODATA);
	cr_assert_eq(meta_getxattr(w->m, &w->c, f, "user.a", 6, &out), 0);
	buf_reset(&out);
	cr_assert_eq(meta_listxattr(w->m, &w->c, f, &out), 0);
	cr_assert_eq(out.size_bytes, 11 + 7, "trusted is not listed");
	AS(w, 0, 0);
	OK(w, meta_removexattr(w->m, &w->c, f, "user.a", 6));
	FAILS(w, ENODATA, meta_removexattr(w->m, &w->c, f, "user.a", 6));
	OK(w, unlink_in(w, WFS_ROOT_INO, "f", f));
	buf_release(&out);
}

META_TEST(meta, xattrs_by_kind_of_file_and_room)
{
	char name[256];
	struct attr a;
	int rc = 0, count = 0;
	ino_id d = make_dir_mode(w, WFS_ROOT_INO, "d", 1, 01777);

	OK(w, create_mode(w, d, "p", S_IFIFO | 0666, &a));
	FAILS(w, EPERM, setx(w, a.ino, "user.a", "1", 0));
	AS(w, 5, 5);
	FAILS(w, EPERM, setx(w, d, "user.a", "1", 0));
	AS(w, 0, 0);
	memset(name, 'n', sizeof(name));
	memcpy(name, "user.", 5);
	while (rc == 0) {
		name[254] = (char)('0' + count % 10);
		name[253] = (char)('0' + count / 10 % 10);
		name[252] = (char)('0' + count / 100 % 10);
		name[255] = 0;
		count++;
		rc = setx(w, d, name, "v", 0);
		if (rc == 0)
			cr_assert_eq(world_commit(w), 0);
	}
	cr_assert_eq(rc, -ENOSPC);
	cr_assert_eq(count, 65536 / 256 + 1);
}

/* --- roots, scans, damage --- */

META_TEST(meta, roots)
{
	ino_id root;

	FAILS(w, EEXIST, meta_make_root(w->m, &w->c, 0, 7, &root));
	OK(w, meta_make_root(w->m, &w->c, 0, 8, &root));
	cr_assert_eq(root, ino_make(0, COUNTER_FIRST));
	OK(w, meta_make_root(w->m, &w->c, 5, 9, &root));
	cr_assert_eq(root, ino_make(5, COUNTER_FIRST));
	cr_assert_eq(world_attr(w, root).parent, root);
	cr_assert_eq(world_attr(w, root).fsid, 9);
}

META_TEST(meta, damaged_values_are_told)
{
	struct meta_key key;
	struct attr a;
	struct walk k;
	ino_id f = make_file(w, WFS_ROOT_INO, "f"), g = make_file(w, WFS_ROOT_INO, "g");
	struct dirent_value good;

	meta_key_inode(&key, f);
	batch_put(&w->batch, key.bytes, key.size, "rubbish", 7);
	cr_assert_eq(world_commit(w), 0);
	cr_assert_eq(meta_getattr(w->m, f, &a), -EUCLEAN);
	FAILS(w, EUCLEAN, set(w, f, (struct meta_set){.mask = SET_MODE}, &a));
	meta_key_dirent(&key, WFS_ROOT_INO, "f", 1);
	batch_put(&w->batch, key.bytes, key.size, "x", 1);
	cr_assert_eq(world_commit(w), 0);
	cr_assert_eq(walk(w, WFS_ROOT_INO, "f", WALK_FOLLOW, &k), -EUCLEAN);
	/* Put both back, so that the check after the test passes. */
	name_target_encode(&(struct name_target){.ino = f, .dtype = DT_REG}, &good);
	batch_put(&w->batch, key.bytes, key.size, &good, sizeof(good));
	meta_key_inode(&key, g);
	struct buf v;
	buf_init(&v);
	cr_assert_eq(kv_get(w->kv, key.bytes, key.size, &v), 0);
	meta_key_inode(&key, f);
	batch_put(&w->batch, key.bytes, key.size, v.data, v.size_bytes);
	cr_assert_eq(world_commit(w), 0);
	buf_release(&v);
}

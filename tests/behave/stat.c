/* What stat and its family say: types, sizes, inodes, links, statx masks. */
#include <sys/sysmacros.h>
#include <sys/syscall.h>

#include "tests/behave/behave.h"

TEST(stat_regular_file)
{
	struct stat st;

	put("f", "text");
	OK(stat("f", &st) == 0 && S_ISREG(st.st_mode));
	EQ(st.st_size, 4);
	EQ(st.st_nlink, 1);
	EQ(st.st_uid, geteuid());
	EQ(st.st_gid, getegid());
}

TEST(stat_directory)
{
	dir("d");
	OK(S_ISDIR(see("d").st_mode));
	EQ(see("d").st_nlink, 2);
	EQ(mode_of("d"), 0755);
}

TEST(stat_follows_symlink)
{
	struct stat st;

	put("f", "text");
	sym("f", "l");
	OK(stat("l", &st) == 0 && S_ISREG(st.st_mode));
}

TEST(lstat_does_not_follow)
{
	sym("target", "l");
	OK(S_ISLNK(see("l").st_mode));
	EQ(see("l").st_size, 6);
	EQ(mode_of("l"), 0777);
	EQ(see("l").st_nlink, 1);
}

TEST(stat_absent)
{
	struct stat st;

	FAILS(stat("absent", &st), ENOENT);
	FAILS(lstat("absent", &st), ENOENT);
}

TEST(stat_dangling_symlink)
{
	struct stat st;

	sym("nothing", "l");
	FAILS(stat("l", &st), ENOENT);
}

TEST(stat_fault)
{
	put("f", "");
	FAILS(stat("f", (struct stat *)nowhere), EFAULT);
}

TEST(fstat_agrees_with_stat)
{
	struct stat a, b;

	put("f", "text");
	a = see("f");
	b = fsee(ro("f"));
	OK(a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_mode == b.st_mode);
	OK(a.st_size == b.st_size && a.st_blocks == b.st_blocks);
	OK(!memcmp(&a.st_mtim, &b.st_mtim, sizeof(a.st_mtim)));
	OK(!memcmp(&a.st_ctim, &b.st_ctim, sizeof(a.st_ctim)));
}

TEST(fstat_closed_descriptor)
{
	struct stat st;

	FAILS(fstat(99, &st), EBADF);
}

TEST(fstat_write_only_descriptor)
{
	put("f", "text");
	EQ(fsee(wo("f")).st_size, 4);
}

TEST(fstat_sees_growth_by_another)
{
	int fd;

	put("f", "");
	fd = ro("f");
	put("f", "longer");
	EQ(fsee(fd).st_size, 6);
}

TEST(stat_inodes_differ)
{
	put("a", "");
	put("b", "");
	OK(see("a").st_ino != see("b").st_ino && see("a").st_ino != see(".").st_ino);
}

TEST(stat_device_is_one)
{
	put("a", "");
	dir("d");
	OK(see("a").st_dev == see(".").st_dev && see("d").st_dev == see(".").st_dev);
	OK(see("a").st_dev != see("/").st_dev);
}

TEST(stat_inode_lasts)
{
	ino_t ino;

	put("f", "");
	ino = see("f").st_ino;
	put("f", "more");
	OK(rename("f", "g") == 0);
	EQ(see("g").st_ino, ino);
}

TEST(stat_block_size)
{
	put("f", "");
	OK(see("f").st_blksize >= 512 && see("f").st_blksize <= (1 << 24));
}

TEST(stat_blocks_of_empty_file)
{
	put("f", "");
	EQ(see("f").st_blocks, 0);
}

TEST(stat_blocks_count_512_bytes)
{
	put_size("f", 65536);
	EQ(see("f").st_blocks, 128);
}

TEST(stat_rdev_of_device)
{
	need_root();
	OK(mknod("n", S_IFCHR | 0600, makedev(1, 3)) == 0);
	EQ(see("n").st_rdev, makedev(1, 3));
	EQ(see("n").st_size, 0);
}

TEST(stat_types_of_nodes)
{
	OK(mkfifo("p", 0644) == 0 && S_ISFIFO(see("p").st_mode));
	OK(mknod("s", S_IFSOCK | 0644, 0) == 0 && S_ISSOCK(see("s").st_mode));
}

TEST(nlink_counts_hard_links)
{
	put("a", "");
	OK(link("a", "b") == 0 && link("a", "c") == 0);
	EQ(see("b").st_nlink, 3);
	OK(unlink("a") == 0);
	EQ(see("b").st_nlink, 2);
}

TEST(nlink_of_open_unlinked_file)
{
	int fd = rw("f");

	OK(unlink("f") == 0);
	EQ(fsee(fd).st_nlink, 0);
}

TEST(nlink_of_directory_counts_children)
{
	dir("d");
	dir("d/a");
	dir("d/b");
	put("d/f", "");
	EQ(see("d").st_nlink, 4);
	OK(rmdir("d/a") == 0);
	EQ(see("d").st_nlink, 3);
}

TEST(nlink_follows_a_moved_directory)
{
	dir("a");
	dir("b");
	dir("a/x");
	OK(rename("a/x", "b/x") == 0);
	EQ(see("a").st_nlink, 2);
	EQ(see("b").st_nlink, 3);
}

TEST(nlink_of_open_removed_directory)
{
	int fd;

	dir("d");
	fd = ro_dir("d");
	OK(rmdir("d") == 0);
	EQ(fsee(fd).st_nlink, 0);
}

TEST(stat_needs_no_permission_on_file)
{
	put("f", "text");
	OK(chmod("f", 0) == 0);
	CHILD_AS(1234, 1234)
	{
		EQ(see("f").st_size, 4);
	}
}

/* --- statx ------------------------------------------------------------------------ */

TEST(statx_basic_stats)
{
	struct statx stx;

	put("f", "text");
	OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &stx) == 0);
	EQ(stx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	OK(stx.stx_size == 4 && stx.stx_nlink == 1 && S_ISREG(stx.stx_mode));
	EQ(stx.stx_ino, see("f").st_ino);
	EQ(makedev(stx.stx_dev_major, stx.stx_dev_minor), see("f").st_dev);
}

TEST(statx_agrees_with_stat_on_times)
{
	struct statx stx;
	struct stat st;

	put("f", "");
	st = see("f");
	OK(statx(AT_FDCWD, "f", 0, STATX_ALL, &stx) == 0);
	OK(stx.stx_mtime.tv_sec == st.st_mtim.tv_sec);
	OK(stx.stx_mtime.tv_nsec == (uint32_t)st.st_mtim.tv_nsec);
	OK(stx.stx_ctime.tv_nsec == (uint32_t)st.st_ctim.tv_nsec);
}

TEST(statx_birth_time)
{
	struct statx stx;
	struct timespec times[2] = {{1000, 0}, {1000, 0}};

	put("f", "");
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0);
	OK(statx(AT_FDCWD, "f", 0, STATX_BTIME, &stx) == 0);
	OK((stx.stx_mask & STATX_BTIME) && stx.stx_btime.tv_sec > 1000000000);
}

TEST(statx_nofollow)
{
	struct statx stx;

	sym("x", "l");
	OK(statx(AT_FDCWD, "l", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stx) == 0);
	OK(S_ISLNK(stx.stx_mode));
}

TEST(statx_empty_path)
{
	struct statx stx;

	put("f", "text");
	OK(statx(ro("f"), "", AT_EMPTY_PATH, STATX_SIZE, &stx) == 0);
	EQ(stx.stx_size, 4);
	FAILS(statx(ro("f"), "", 0, STATX_SIZE, &stx), ENOENT);
}

TEST(statx_reserved_mask)
{
	struct statx stx;

	put("f", "");
	FAILS(statx(AT_FDCWD, "f", 0, 0x80000000u, &stx), EINVAL);
}

TEST(statx_unknown_flag)
{
	struct statx stx;

	put("f", "");
	FAILS(statx(AT_FDCWD, "f", 0x40000000, STATX_ALL, &stx), EINVAL);
}

TEST(statx_both_sync_types)
{
	struct statx stx;

	put("f", "");
	FAILS(statx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, STATX_ALL, &stx), EINVAL);
	OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_ALL, &stx) == 0);
	OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_ALL, &stx) == 0);
}

TEST(statx_fault)
{
	put("f", "");
	FAILS(statx(AT_FDCWD, "f", 0, STATX_ALL, (struct statx *)nowhere), EFAULT);
}

TEST(statx_absent)
{
	struct statx stx;

	FAILS(statx(AT_FDCWD, "absent", 0, STATX_ALL, &stx), ENOENT);
}

TEST(stat64_forms)
{
	struct stat64 st;

	put("f", "text");
	OK(stat64("f", &st) == 0 && st.st_size == 4);
	OK(lstat64("f", &st) == 0 && fstat64(ro("f"), &st) == 0 && st.st_size == 4);
	OK(fstatat64(AT_FDCWD, "f", &st, 0) == 0);
}

TEST(stat_by_the_tool)
{
	put("f", "text");
	OK(chmod("f", 0640) == 0);
	EQ(shell("test \"$(stat -c %%s:%%a:%%h:%%F f)\" = '4:640:1:regular file'"), 0);
}

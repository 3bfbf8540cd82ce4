/* Which call changes which of atime, mtime and ctime; how times are set, and by whom. */
#include <sys/time.h>
#include <sys/xattr.h>
#include <time.h>
#include <utime.h>

#include "tests/behave/behave.h"

static const struct timespec old[2] = {{1000000001, 111111111}, {1000000002, 222222222}};

static struct stat before;

/* All times of the file are known; a later one differs from them. */
static void age(const char *name)
{
	OK(utimensat(AT_FDCWD, name, old, AT_SYMLINK_NOFOLLOW) == 0);
	tick();
	before = see(name);
}

/* Which times have changed since age(): "m", "c", "mc", ... */
static const char *changed(const char *name)
{
	static char which[4];
	struct stat now = see(name);

	which[0] = 0;
	if (compare_times(now.st_atim, before.st_atim))
		strcat(which, "a");
	if (compare_times(now.st_mtim, before.st_mtim))
		strcat(which, "m");
	if (compare_times(now.st_ctim, before.st_ctim))
		strcat(which, "c");
	return which;
}

#define CHANGED(name, which)                                                             \
	do {                                                                             \
		const char *got_ = changed(name);                                        \
		if (strcmp(got_, which))                                                 \
			unmet(__FILE__, __LINE__, "%s: changed \"%s\", not \"%s\"",      \
				name, got_, which);                                      \
	} while (0)

/* --- files ------------------------------------------------------------------------ */

TEST(times_of_a_new_file_are_now)
{
	struct timespec then, now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &then);
	tick();
	put("f", "");
	tick();
	clock_gettime(CLOCK_REALTIME, &now);
	st = see("f");
	OK(compare_times(st.st_mtim, then) > 0 && compare_times(st.st_mtim, now) < 0);
	OK(compare_times(st.st_atim, then) > 0 && compare_times(st.st_ctim, then) > 0);
}

TEST(times_write)
{
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	EQ(write(fd, "x", 1), 1);
	CHANGED("f", "mc");
}

TEST(times_write_of_zero_bytes)
{
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	EQ(write(fd, "", 0), 0);
	CHANGED("f", "");
}

TEST(times_write_seen_by_fstat_at_once)
{
	struct timespec mtime;
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	EQ(write(fd, "x", 1), 1);
	mtime = fsee(fd).st_mtim;
	OK(mtime.tv_sec > old[1].tv_sec);
	close(fd);
	EQ(compare_times(see("f").st_mtim, mtime), 0);
}

TEST(times_read_updates_atime)
{
	char byte;

	put("f", "text");
	age("f");
	EQ(read(ro("f"), &byte, 1), 1);
	CHANGED("f", "a");
}

TEST(times_read_with_noatime)
{
	char byte;

	put("f", "text");
	age("f");
	EQ(read(open("f", O_RDONLY | O_NOATIME), &byte, 1), 1);
	CHANGED("f", "");
}

TEST(times_open_changes_nothing)
{
	put("f", "text");
	age("f");
	close(rw("f"));
	CHANGED("f", "");
}

TEST(times_stat_changes_nothing)
{
	put("f", "text");
	age("f");
	(void)see("f");
	CHANGED("f", "");
}

TEST(times_open_trunc)
{
	put("f", "text");
	age("f");
	close(open("f", O_WRONLY | O_TRUNC));
	CHANGED("f", "mc");
}

TEST(times_open_trunc_of_empty_file)
{
	put("f", "");
	age("f");
	close(open("f", O_WRONLY | O_TRUNC));
	CHANGED("f", "mc");
}

TEST(times_ftruncate)
{
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	OK(ftruncate(fd, 2) == 0);
	CHANGED("f", "mc");
}

TEST(times_ftruncate_to_the_same_size)
{
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	OK(ftruncate(fd, 4) == 0);
	CHANGED("f", "mc");
}

TEST(times_truncate_longer)
{
	put("f", "text");
	age("f");
	OK(truncate("f", 100) == 0);
	CHANGED("f", "mc");
}

TEST(times_fallocate_that_extends)
{
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	OK(fallocate(fd, 0, 0, 100) == 0);
	CHANGED("f", "mc");
}

TEST(times_chmod)
{
	put("f", "");
	age("f");
	OK(chmod("f", 0600) == 0);
	CHANGED("f", "c");
}

TEST(times_chmod_to_the_same)
{
	put("f", "");
	age("f");
	OK(chmod("f", 0644) == 0);
	CHANGED("f", "c");
}

TEST(times_chown)
{
	need_root();
	put("f", "");
	age("f");
	OK(chown("f", 1, 1) == 0);
	CHANGED("f", "c");
}

TEST(times_setxattr)
{
	put("f", "");
	age("f");
	OK(setxattr("f", "user.a", "1", 1, 0) == 0);
	CHANGED("f", "c");
}

TEST(times_removexattr)
{
	put("f", "");
	OK(setxattr("f", "user.a", "1", 1, 0) == 0);
	age("f");
	OK(removexattr("f", "user.a") == 0);
	CHANGED("f", "c");
}

TEST(times_link_changes_ctime_of_the_file)
{
	put("f", "");
	age("f");
	OK(link("f", "g") == 0);
	CHANGED("f", "c");
}

TEST(times_unlink_of_one_of_two_names)
{
	put("f", "");
	OK(link("f", "g") == 0);
	age("f");
	OK(unlink("g") == 0);
	CHANGED("f", "c");
}

TEST(times_rename_changes_ctime_of_the_file)
{
	put("f", "");
	age("f");
	OK(rename("f", "g") == 0);
	CHANGED("g", "c");
}

TEST(times_rename_over_changes_ctime_of_the_other_link)
{
	put("f", "");
	put("g", "");
	OK(link("g", "h") == 0);
	age("h");
	OK(rename("f", "g") == 0);
	CHANGED("h", "c");
}

TEST(times_readlink_changes_no_mtime)
{
	char text[8];

	sym("x", "l");
	age("l");
	EQ(readlink("l", text, 8), 1);
	OK(!strchr(changed("l"), 'm') && !strchr(changed("l"), 'c'));
}

TEST(times_fsync_changes_nothing)
{
	int fd;

	put("f", "text");
	fd = rw("f");
	age("f");
	OK(fsync(fd) == 0);
	CHANGED("f", "");
}

TEST(times_copy_file_range)
{
	int in, out;

	put("in", "text");
	put("out", "");
	in = ro("in");
	out = rw("out");
	age("out");
	EQ(copy_file_range(in, NULL, out, NULL, 4, 0), 4);
	CHANGED("out", "mc");
}

/* --- directories -----------------------------------------------------------------------
 */

TEST(times_of_directory_create)
{
	dir("d");
	age("d");
	put("d/f", "");
	CHANGED("d", "mc");
}

TEST(times_of_directory_open_existing)
{
	dir("d");
	put("d/f", "");
	age("d");
	put("d/f", "more");
	CHANGED("d", "");
}

TEST(times_of_directory_unlink)
{
	dir("d");
	put("d/f", "");
	age("d");
	OK(unlink("d/f") == 0);
	CHANGED("d", "mc");
}

TEST(times_of_directory_mkdir)
{
	dir("d");
	age("d");
	dir("d/sub");
	CHANGED("d", "mc");
}

TEST(times_of_directory_rmdir)
{
	dir("d");
	dir("d/sub");
	age("d");
	OK(rmdir("d/sub") == 0);
	CHANGED("d", "mc");
}

TEST(times_of_directory_symlink)
{
	dir("d");
	age("d");
	sym("x", "d/l");
	CHANGED("d", "mc");
}

TEST(times_of_directory_link)
{
	dir("d");
	put("f", "");
	age("d");
	OK(link("f", "d/f") == 0);
	CHANGED("d", "mc");
}

TEST(times_of_directory_rename_out)
{
	dir("d");
	put("d/f", "");
	age("d");
	OK(rename("d/f", "f") == 0);
	CHANGED("d", "mc");
}

TEST(times_of_directory_rename_into)
{
	dir("d");
	put("f", "");
	age("d");
	OK(rename("f", "d/f") == 0);
	CHANGED("d", "mc");
}

TEST(times_of_directory_rename_within)
{
	dir("d");
	put("d/f", "");
	age("d");
	OK(rename("d/f", "d/g") == 0);
	CHANGED("d", "mc");
}

TEST(times_of_directory_failed_create)
{
	dir("d");
	put("d/f", "");
	age("d");
	FAILS(mkdir("d/f", 0755), EEXIST);
	CHANGED("d", "");
}

TEST(times_of_directory_chmod_of_child)
{
	dir("d");
	put("d/f", "");
	age("d");
	OK(chmod("d/f", 0600) == 0);
	CHANGED("d", "");
}

TEST(times_of_moved_directory)
{
	dir("a");
	dir("a/d");
	age("a/d");
	OK(rename("a/d", "d") == 0);
	OK(strchr(changed("d"), 'c'));
}

/* --- setting them ----------------------------------------------------------------- */

TEST(utimensat_sets_nanoseconds)
{
	struct stat st;

	put("f", "");
	OK(utimensat(AT_FDCWD, "f", old, 0) == 0);
	st = see("f");
	EQ(compare_times(st.st_atim, old[0]), 0);
	EQ(compare_times(st.st_mtim, old[1]), 0);
}

TEST(utimensat_null_is_now)
{
	put("f", "");
	age("f");
	OK(utimensat(AT_FDCWD, "f", NULL, 0) == 0);
	CHANGED("f", "amc");
	OK(labs(see("f").st_mtim.tv_sec - time(NULL)) < 60);
}

TEST(utimensat_now)
{
	struct timespec times[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};

	put("f", "");
	age("f");
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0);
	CHANGED("f", "ac");
}

TEST(utimensat_omit_one)
{
	struct timespec times[2] = {{0, UTIME_OMIT}, {5, 6}};

	put("f", "");
	age("f");
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0);
	CHANGED("f", "mc");
}

TEST(utimensat_omit_both_changes_nothing)
{
	struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};

	put("f", "");
	age("f");
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0);
	CHANGED("f", "");
}

TEST(utimensat_bad_nanoseconds)
{
	struct timespec times[2] = {{1, 1000000000}, {1, 0}}, less[2] = {{1, 0}, {1, -1}};

	put("f", "");
	FAILS(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
	FAILS(utimensat(AT_FDCWD, "f", less, 0), EINVAL);
}

TEST(utimensat_unknown_flag)
{
	put("f", "");
	FAILS(utimensat(AT_FDCWD, "f", old, 0x4000), EINVAL);
}

TEST(utimensat_symlink_itself)
{
	put("f", "");
	sym("f", "l");
	OK(utimensat(AT_FDCWD, "l", old, AT_SYMLINK_NOFOLLOW) == 0);
	EQ(see("l").st_mtim.tv_sec, old[1].tv_sec);
	OK(see("f").st_mtim.tv_sec != old[1].tv_sec);
}

TEST(utimensat_follows_symlink)
{
	put("f", "");
	sym("f", "l");
	OK(utimensat(AT_FDCWD, "l", old, 0) == 0);
	EQ(see("f").st_mtim.tv_sec, old[1].tv_sec);
}

TEST(utimensat_absent)
{
	FAILS(utimensat(AT_FDCWD, "absent", old, 0), ENOENT);
}

TEST(utimensat_of_directory)
{
	dir("d");
	OK(utimensat(AT_FDCWD, "d", old, 0) == 0);
	EQ(compare_times(see("d").st_mtim, old[1]), 0);
}

TEST(utimensat_before_1970)
{
	struct timespec times[2] = {{-1000, 5}, {-2000, 6}};

	put("f", "");
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0);
	EQ(see("f").st_mtim.tv_sec, -2000);
	EQ(see("f").st_mtim.tv_nsec, 6);
}

TEST(utimensat_after_2038)
{
	struct timespec times[2] = {{5000000000, 5}, {6000000000, 6}};

	put("f", "");
	OK(utimensat(AT_FDCWD, "f", times, 0) == 0);
	EQ(see("f").st_atim.tv_sec, 5000000000);
	EQ(see("f").st_mtim.tv_sec, 6000000000);
}

TEST(utimensat_fault)
{
	put("f", "");
	FAILS(utimensat(AT_FDCWD, "f", (struct timespec *)nowhere, 0), EFAULT);
}

TEST(futimens_of_read_only_descriptor)
{
	put("f", "");
	OK(futimens(ro("f"), old) == 0);
	EQ(see("f").st_mtim.tv_nsec, old[1].tv_nsec);
}

TEST(futimens_closed_descriptor)
{
	FAILS(futimens(99, old), EBADF);
}

TEST(utimes_microseconds)
{
	struct timeval times[2] = {{1000, 7}, {2000, 8}};

	put("f", "");
	OK(utimes("f", times) == 0);
	EQ(see("f").st_atim.tv_nsec, 7000);
	EQ(see("f").st_mtim.tv_sec, 2000);
}

TEST(utimes_bad_microseconds)
{
	struct timeval times[2] = {{1000, 1000000}, {2000, 0}};

	put("f", "");
	FAILS(utimes("f", times), EINVAL);
}

TEST(lutimes_of_symlink)
{
	struct timeval times[2] = {{1000, 7}, {2000, 8}};

	sym("x", "l");
	OK(lutimes("l", times) == 0);
	EQ(see("l").st_mtim.tv_sec, 2000);
}

TEST(futimes_and_futimesat)
{
	struct timeval times[2] = {{1000, 7}, {2000, 8}};

	put("f", "");
	OK(futimes(ro("f"), times) == 0);
	EQ(see("f").st_mtim.tv_sec, 2000);
	times[1].tv_sec = 3000;
	OK(futimesat(AT_FDCWD, "f", times) == 0);
	EQ(see("f").st_mtim.tv_sec, 3000);
}

TEST(utime_seconds)
{
	struct utimbuf times = {1000, 2000};

	put("f", "");
	OK(utime("f", &times) == 0);
	EQ(see("f").st_atim.tv_sec, 1000);
	EQ(see("f").st_mtim.tv_sec, 2000);
	OK(utime("f", NULL) == 0);
	OK(see("f").st_mtim.tv_sec > 2000);
}

TEST(utimensat_other_user_may_not_set)
{
	put("f", "");
	OK(chmod("f", 0666) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(utimensat(AT_FDCWD, "f", old, 0), EPERM);
	}
}

TEST(utimensat_writer_may_set_now)
{
	put("f", "");
	OK(chmod("f", 0666) == 0);
	CHILD_AS(1234, 1234)
	{
		struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};

		OK(utimensat(AT_FDCWD, "f", NULL, 0) == 0);
		OK(utimensat(AT_FDCWD, "f", now, 0) == 0);
	}
}

TEST(utimensat_writer_may_not_set_one_to_now)
{
	put("f", "");
	OK(chmod("f", 0666) == 0);
	CHILD_AS(1234, 1234)
	{
		struct timespec one[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};

		FAILS(utimensat(AT_FDCWD, "f", one, 0), EPERM);
	}
}

TEST(utimensat_stranger_may_not_set_now)
{
	put("f", "");
	CHILD_AS(1234, 1234)
	{
		FAILS(utimensat(AT_FDCWD, "f", NULL, 0), EACCES);
	}
}

TEST(utimensat_owner_may_set_without_write_permission)
{
	need_root();
	put("f", "");
	OK(chown("f", 1234, 1234) == 0 && chmod("f", 0) == 0);
	CHILD_AS(1234, 1234)
	{
		OK(utimensat(AT_FDCWD, "f", old, 0) == 0);
	}
}

TEST(utimensat_omit_both_needs_no_permission)
{
	put("f", "");
	CHILD_AS(1234, 1234)
	{
		struct timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};

		OK(utimensat(AT_FDCWD, "f", omit, 0) == 0);
	}
}

TEST(times_cp_keeps_with_p)
{
	put("f", "");
	OK(utimensat(AT_FDCWD, "f", old, 0) == 0);
	EQ(shell("cp -p f g"), 0);
	EQ(compare_times(see("g").st_mtim, old[1]), 0);
}

TEST(times_of_later_files_are_later)
{
	put("a", "");
	tick();
	put("b", "");
	OK(compare_times(see("b").st_mtim, see("a").st_mtim) > 0);
	EQ(shell("test b -nt a"), 0);
}

/* open: access modes, flags, what F_GETFL reports, descriptors, the umask. */
#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include "tests/behave/behave.h"

/* --- access modes ----------------------------------------------------------------- */

TEST(open_read_only_reads)
{
	char text[8] = "";

	put("f", "text");
	OK(read(ro("f"), text, 8) == 4 && !strcmp(text, "text"));
}

TEST(open_read_only_refuses_write)
{
	put("f", "text");
	FAILS(write(ro("f"), "x", 1), EBADF);
}

TEST(open_write_only_refuses_read)
{
	char byte;

	put("f", "text");
	FAILS(read(wo("f"), &byte, 1), EBADF);
}

TEST(open_read_write_does_both)
{
	char text[4] = "";
	int fd;

	put("f", "abc");
	fd = rw("f");
	EQ(write(fd, "A", 1), 1);
	OK(read(fd, text, 2) == 2 && !strcmp(text, "bc"));
}

TEST(open_getfl_reports_access_mode)
{
	put("f", "");
	EQ(fcntl(ro("f"), F_GETFL) & O_ACCMODE, O_RDONLY);
	EQ(fcntl(wo("f"), F_GETFL) & O_ACCMODE, O_WRONLY);
	EQ(fcntl(rw("f"), F_GETFL) & O_ACCMODE, O_RDWR);
}

TEST(open_getfl_reports_append)
{
	int fd = open("f", O_WRONLY | O_CREAT | O_APPEND, 0644);

	EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
}

TEST(open_getfl_reports_nonblock)
{
	put("f", "");
	EQ(fcntl(open("f", O_RDONLY | O_NONBLOCK), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST(open_getfl_reports_sync)
{
	put("f", "");
	EQ(fcntl(open("f", O_WRONLY | O_SYNC), F_GETFL) & O_SYNC, O_SYNC);
}

TEST(open_getfl_reports_dsync)
{
	put("f", "");
	EQ(fcntl(open("f", O_WRONLY | O_DSYNC), F_GETFL) & O_SYNC, O_DSYNC);
}

TEST(open_getfl_hides_creation_flags)
{
	int fd = open("f", O_RDWR | O_CREAT | O_EXCL | O_TRUNC, 0644);

	EQ(fcntl(fd, F_GETFL) & (O_CREAT | O_EXCL | O_TRUNC), 0);
}

TEST(open_getfl_reports_directory)
{
	EQ(fcntl(ro_dir("."), F_GETFL) & O_DIRECTORY, O_DIRECTORY);
}

TEST(open_getfl_reports_noatime)
{
	put("f", "");
	EQ(fcntl(open("f", O_RDONLY | O_NOATIME), F_GETFL) & O_NOATIME, O_NOATIME);
}

/* --- O_CREAT ---------------------------------------------------------------------- */

TEST(open_absent_is_enoent)
{
	FAILS(open("absent", O_RDONLY), ENOENT);
}

TEST(open_creat_makes_empty_file)
{
	OK(open("f", O_RDONLY | O_CREAT, 0644) >= 0);
	EQ(see("f").st_size, 0);
	OK(S_ISREG(see("f").st_mode));
}

TEST(open_creat_mode_is_given)
{
	OK(open("f", O_WRONLY | O_CREAT, 0640) >= 0);
	EQ(mode_of("f"), 0640);
}

TEST(open_creat_mode_less_umask)
{
	umask(027);
	OK(open("f", O_WRONLY | O_CREAT, 0666) >= 0);
	EQ(mode_of("f"), 0640);
}

TEST(open_creat_umask_of_all)
{
	umask(0777);
	OK(open("f", O_WRONLY | O_CREAT, 0777) >= 0);
	EQ(mode_of("f"), 0);
}

TEST(open_creat_keeps_sticky_and_set_id)
{
	umask(0);
	OK(open("f", O_WRONLY | O_CREAT, 07755) >= 0);
	EQ(mode_of("f"), 07755);
}

TEST(open_creat_unwritable_mode_still_writes)
{
	int fd = open("f", O_WRONLY | O_CREAT, 0400);

	EQ(write(fd, "x", 1), 1);
	EQ(mode_of("f"), 0400);
}

TEST(open_creat_existing_keeps_mode)
{
	put("f", "");
	OK(open("f", O_WRONLY | O_CREAT, 0600) >= 0);
	EQ(mode_of("f"), 0644);
}

TEST(open_creat_existing_keeps_content)
{
	put("f", "text");
	OK(open("f", O_WRONLY | O_CREAT, 0600) >= 0);
	HOLDS("f", "text");
}

TEST(open_creat_in_absent_directory)
{
	FAILS(open("absent/f", O_WRONLY | O_CREAT, 0644), ENOENT);
}

TEST(open_creat_through_dangling_symlink)
{
	sym("target", "link");
	OK(open("link", O_WRONLY | O_CREAT, 0644) >= 0);
	OK(S_ISREG(see("target").st_mode) && S_ISLNK(see("link").st_mode));
}

TEST(open_creat_through_symlink_to_absent_directory)
{
	sym("absent/f", "link");
	FAILS(open("link", O_WRONLY | O_CREAT, 0644), ENOENT);
}

TEST(open_creat_of_directory_is_eisdir)
{
	dir("d");
	FAILS(open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
}

TEST(open_creat_trailing_slash_is_eisdir)
{
	FAILS(open("f/", O_WRONLY | O_CREAT, 0644), EISDIR);
	OK(!there("f"));
}

TEST(open_creat_owner_is_effective_user)
{
	OK(chmod(".", 0777) == 0);
	CHILD_AS(1234, 2345)
	{
		OK(open("f", O_WRONLY | O_CREAT, 0644) >= 0);
	}
	EQ(see("f").st_uid, 1234);
	EQ(see("f").st_gid, 2345);
}

TEST(creat_truncates_and_is_write_only)
{
	char byte;
	int fd;

	put("f", "text");
	fd = creat("f", 0600);
	FAILS(read(fd, &byte, 1), EBADF);
	HOLDS("f", "");
}

TEST(creat_makes_with_mode)
{
	OK(creat("f", 0604) >= 0);
	EQ(mode_of("f"), 0604);
}

/* --- O_EXCL ----------------------------------------------------------------------- */

TEST(open_excl_makes_new)
{
	OK(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644) >= 0);
}

TEST(open_excl_existing)
{
	put("f", "");
	FAILS(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
}

TEST(open_excl_directory)
{
	dir("d");
	FAILS(open("d", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
}

TEST(open_excl_does_not_follow_symlink)
{
	put("f", "");
	sym("f", "link");
	FAILS(open("link", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
}

TEST(open_excl_does_not_follow_dangling_symlink)
{
	sym("nothing", "link");
	FAILS(open("link", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	OK(!there("nothing"));
}

TEST(open_excl_with_trunc_leaves_existing)
{
	put("f", "text");
	FAILS(open("f", O_WRONLY | O_CREAT | O_EXCL | O_TRUNC, 0644), EEXIST);
	HOLDS("f", "text");
}

TEST(open_excl_by_one_of_two)
{
	int made[2];

	OK(pipe(made) == 0);
	for (int i = 0; i < 4; i++)
		if (!fork()) {
			if (open("f", O_WRONLY | O_CREAT | O_EXCL, 0644) >= 0)
				OK(write(made[1], "x", 1) == 1);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	close(made[1]);
	char many[8];
	EQ(read(made[0], many, 8), 1);
}

/* --- O_TRUNC ---------------------------------------------------------------------- */

TEST(open_trunc_cuts)
{
	put("f", "text");
	EQ(fsee(open("f", O_WRONLY | O_TRUNC)).st_size, 0);
	HOLDS("f", "");
}

TEST(open_trunc_keeps_mode_and_inode)
{
	struct stat before;

	put("f", "text");
	OK(chmod("f", 0600) == 0);
	before = see("f");
	OK(open("f", O_WRONLY | O_CREAT | O_TRUNC, 0644) >= 0);
	EQ(see("f").st_ino, before.st_ino);
	EQ(mode_of("f"), 0600);
}

TEST(open_trunc_directory_is_eisdir)
{
	dir("d");
	FAILS(open("d", O_WRONLY | O_TRUNC), EISDIR);
}

TEST(open_trunc_through_symlink)
{
	put("f", "text");
	sym("f", "link");
	OK(open("link", O_WRONLY | O_TRUNC) >= 0);
	HOLDS("f", "");
}

TEST(open_trunc_while_another_reads)
{
	char text[8];
	int fd;

	put("f", "text");
	fd = ro("f");
	OK(open("f", O_WRONLY | O_TRUNC) >= 0);
	EQ(read(fd, text, 8), 0);
}

/* --- O_DIRECTORY, O_NOFOLLOW -----------------------------------------------------------
 */

TEST(open_directory_of_file)
{
	put("f", "");
	FAILS(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
}

TEST(open_directory_of_directory)
{
	dir("d");
	OK(S_ISDIR(fsee(open("d", O_RDONLY | O_DIRECTORY)).st_mode));
}

TEST(open_directory_through_symlink)
{
	dir("d");
	sym("d", "link");
	OK(open("link", O_RDONLY | O_DIRECTORY) >= 0);
}

TEST(open_directory_absent)
{
	FAILS(open("d", O_RDONLY | O_DIRECTORY), ENOENT);
}

TEST(open_directory_and_creat_is_einval)
{
	FAILS(open("d", O_RDONLY | O_DIRECTORY | O_CREAT, 0755), EINVAL);
	OK(!there("d"));
}

TEST(open_directory_for_writing)
{
	dir("d");
	FAILS(open("d", O_WRONLY), EISDIR);
	FAILS(open("d", O_RDWR), EISDIR);
}

TEST(open_directory_then_read)
{
	char byte;

	FAILS(read(ro_dir("."), &byte, 1), EISDIR);
}

TEST(open_directory_then_write)
{
	FAILS(write(ro_dir("."), "x", 1), EBADF);
}

TEST(open_nofollow_symlink)
{
	put("f", "");
	sym("f", "link");
	FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
}

TEST(open_nofollow_plain_file)
{
	put("f", "");
	OK(open("f", O_RDONLY | O_NOFOLLOW) >= 0);
}

TEST(open_nofollow_symlink_in_the_middle)
{
	dir("d");
	put("d/f", "");
	sym("d", "link");
	OK(open("link/f", O_RDONLY | O_NOFOLLOW) >= 0);
}

TEST(open_nofollow_and_directory_symlink)
{
	dir("d");
	sym("d", "link");
	FAILS(open("link", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
}

TEST(open_nofollow_creates)
{
	OK(open("f", O_WRONLY | O_CREAT | O_NOFOLLOW, 0644) >= 0);
}

TEST(open_nofollow_creat_dangling)
{
	sym("nothing", "link");
	FAILS(open("link", O_WRONLY | O_CREAT | O_NOFOLLOW, 0644), ELOOP);
}

/* --- O_PATH ----------------------------------------------------------------------------
 */

TEST(open_path_needs_no_permission)
{
	put("f", "");
	OK(chmod("f", 0) == 0);
	CHILD_AS(1234, 1234)
	{
		OK(open("f", O_PATH) >= 0);
	}
}

TEST(open_path_refuses_read_and_write)
{
	char byte;
	int fd;

	put("f", "x");
	fd = open("f", O_PATH);
	FAILS(read(fd, &byte, 1), EBADF);
	FAILS(write(fd, &byte, 1), EBADF);
	FAILS(pread(fd, &byte, 1, 0), EBADF);
}

TEST(open_path_fstat)
{
	put("f", "text");
	EQ(fsee(open("f", O_PATH)).st_size, 4);
}

TEST(open_path_refuses_fchmod)
{
	put("f", "");
	FAILS(fchmod(open("f", O_PATH), 0600), EBADF);
}

TEST(open_path_refuses_ftruncate)
{
	put("f", "");
	FAILS(ftruncate(open("f", O_PATH), 0), EBADF);
}

TEST(open_path_refuses_lseek)
{
	put("f", "");
	FAILS(lseek(open("f", O_PATH), 0, SEEK_SET), EBADF);
}

TEST(open_path_refuses_fsync)
{
	put("f", "");
	FAILS(fsync(open("f", O_PATH)), EBADF);
}

TEST(open_path_refuses_xattr)
{
	put("f", "");
	FAILS(fgetxattr(open("f", O_PATH), "user.a", NULL, 0), EBADF);
}

TEST(open_path_refuses_getdents)
{
	char buffer[1024];

	FAILS(getdents64(open(".", O_PATH), buffer, sizeof(buffer)), EBADF);
}

TEST(open_path_refuses_mmap)
{
	put("f", "x");
	FAILS(mmap(NULL, 1, PROT_READ, MAP_SHARED, open("f", O_PATH), 0), EBADF);
}

TEST(open_path_of_symlink_itself)
{
	char text[8] = "";
	int fd;

	sym("target", "link");
	fd = open("link", O_PATH | O_NOFOLLOW);
	OK(fd >= 0 && S_ISLNK(fsee(fd).st_mode));
	EQ(readlinkat(fd, "", text, 8), 6);
}

TEST(open_path_of_dangling_symlink)
{
	sym("nothing", "link");
	FAILS(open("link", O_PATH), ENOENT);
}

TEST(open_path_getfl)
{
	put("f", "");
	EQ(fcntl(open("f", O_PATH), F_GETFL) & (O_PATH | O_ACCMODE), O_PATH);
}

TEST(open_path_ignores_creat)
{
	FAILS(open("f", O_PATH | O_CREAT, 0644), ENOENT);
}

TEST(open_path_of_directory_is_a_start)
{
	dir("d");
	put("d/f", "");
	OK(openat(open("d", O_PATH), "f", O_RDONLY) >= 0);
}

TEST(open_path_fchdir)
{
	dir("d");
	put("d/f", "");
	OK(fchdir(open("d", O_PATH)) == 0);
	OK(there("f"));
}

TEST(open_path_reopened_by_proc)
{
	char path[64], text[8] = "";

	put("f", "text");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", open("f", O_PATH));
	EQ(read(open(path, O_RDONLY), text, 8), 4);
}

TEST(open_path_dup_stays_path)
{
	char byte;

	put("f", "x");
	FAILS(read(dup(open("f", O_PATH)), &byte, 1), EBADF);
}

/* --- descriptors ------------------------------------------------------------------ */

TEST(open_gives_lowest_number)
{
	int a = rw("f"), b = rw("f");

	close(a);
	OK(b > a && rw("f") == a);
}

TEST(open_lowest_number_among_local_files)
{
	int a = open("/dev/null", O_RDONLY), b = rw("f");

	EQ(b, a + 1);
	close(a);
	EQ(rw("f"), a);
}

TEST(open_cloexec_sets_the_flag)
{
	put("f", "");
	EQ(fcntl(open("f", O_RDONLY | O_CLOEXEC), F_GETFD), FD_CLOEXEC);
	EQ(fcntl(ro("f"), F_GETFD), 0);
}

TEST(open_failed_uses_no_descriptor)
{
	int a = dup(0);

	close(a);
	FAILS(open("absent", O_RDONLY), ENOENT);
	EQ(dup(0), a);
}

TEST(open_out_of_descriptors)
{
	struct rlimit limit = {32, 32};

	put("f", "");
	OK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int i = 0; i < 32; i++)
		if (open("f", O_RDONLY) < 0)
			break;
	FAILS(open("f", O_RDONLY), EMFILE);
}

TEST(open_all_descriptors_of_a_limit)
{
	struct rlimit limit = {32, 32};
	int count = 0;

	put("f", "");
	OK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	while (open("f", O_RDONLY) >= 0)
		count++;
	EQ(count, 29);
}

TEST(open_twice_has_own_offsets)
{
	char text[4] = "";
	int a, b;

	put("f", "abcd");
	a = ro("f");
	b = ro("f");
	OK(read(a, text, 2) == 2 && read(b, text, 1) == 1);
	EQ(text[0], 'a');
}

TEST(open_200_files_at_once)
{
	char byte;

	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		OK(write(rw(name), name + 1, 1) == 1);
	}
	EQ(pread(3 + 199, &byte, 1, 0), 1);
	EQ(byte, '1');
}

TEST(open_append_flag_with_trunc)
{
	int fd;

	put("f", "old");
	fd = open("f", O_WRONLY | O_APPEND | O_TRUNC);
	EQ(write(fd, "new", 3), 3);
	HOLDS("f", "new");
}

TEST(open_unknown_flags_are_ignored)
{
	put("f", "");
	OK(open("f", O_RDONLY | 0x40000000) >= 0);
}

TEST(open_noatime_of_others_file_is_eperm)
{
	put("f", "");
	CHILD_AS(1234, 1234)
	{
		FAILS(open("f", O_RDONLY | O_NOATIME), EPERM);
	}
}

TEST(open_dsync_write_works)
{
	int fd = open("f", O_WRONLY | O_CREAT | O_DSYNC, 0644);

	EQ(write(fd, "durable", 7), 7);
	HOLDS("f", "durable");
}

TEST(open_direct_aligned_or_einval)
{
	static char block[8192] __attribute__((aligned(4096)));
	int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0644);

	OK(fd >= 0);
	memset(block, 'd', 4096);
	EQ(pwrite(fd, block, 4096, 0), 4096);
	EQ(pread(fd, block + 4096, 4096, 0), 4096);
	EQ(block[8191], 'd');
}

TEST(open64_is_open)
{
	put("f", "");
	OK(open64("f", O_RDONLY) >= 0 && openat64(AT_FDCWD, "f", O_RDONLY) >= 0);
}

TEST(open_fault_in_path)
{
	FAILS(open(nowhere, O_RDONLY), EFAULT);
}

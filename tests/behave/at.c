/* The calls that start at a directory descriptor, AT_ flags, openat2. */
#include <linux/openat2.h>
#include <sys/syscall.h>

#include "tests/behave/behave.h"

static int with_file(void)
{
	dir("d");
	put("d/f", "text");
	return ro_dir("d");
}

static int open2(int at, const char *path, unsigned long flags, unsigned long resolve)
{
	struct open_how how = {.flags = flags, .resolve = resolve};

	return (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

TEST(at_openat_relative_to_descriptor)
{
	EQ(fsee(openat(with_file(), "f", O_RDONLY)).st_size, 4);
}

TEST(at_openat_creates_there)
{
	OK(openat(with_file(), "new", O_WRONLY | O_CREAT, 0644) >= 0);
	OK(there("d/new"));
}

TEST(at_absolute_path_ignores_descriptor)
{
	with_file();
	OK(openat(-5, full("d/f"), O_RDONLY) >= 0);
	OK(openat(0, full("d/f"), O_RDONLY) >= 0);
}

TEST(at_bad_descriptor)
{
	struct stat st;

	FAILS(openat(99, "f", O_RDONLY), EBADF);
	FAILS(fstatat(99, "f", &st, 0), EBADF);
	FAILS(mkdirat(99, "f", 0755), EBADF);
	FAILS(unlinkat(99, "f", 0), EBADF);
}

TEST(at_descriptor_of_file_is_enotdir)
{
	int fd = rw("f");
	struct stat st;

	FAILS(openat(fd, "x", O_RDONLY), ENOTDIR);
	FAILS(fstatat(fd, "x", &st, 0), ENOTDIR);
	FAILS(mkdirat(fd, "x", 0755), ENOTDIR);
}

TEST(at_fdcwd)
{
	put("f", "");
	OK(openat(AT_FDCWD, "f", O_RDONLY) >= 0);
}

TEST(at_descriptor_survives_rename)
{
	int fd = with_file();

	OK(rename("d", "e") == 0);
	OK(openat(fd, "f", O_RDONLY) >= 0);
}

TEST(at_dotdot_leaves_descriptor)
{
	int fd = with_file();

	put("top", "");
	OK(faccessat(fd, "../top", F_OK, 0) == 0);
}

TEST(at_local_descriptor_reaches_here_by_dotdot)
{
	char path[2 * PATH_MAX];
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY);

	put("f", "");
	snprintf(path, sizeof(path), "..%s/f", test_dir);
	OK(faccessat(fd, path, F_OK, 0) == 0);
}

TEST(at_empty_path_fstatat)
{
	struct stat st;
	int fd = with_file();

	OK(fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && S_ISDIR(st.st_mode));
	FAILS(fstatat(fd, "", &st, 0), ENOENT);
}

TEST(at_empty_path_of_file)
{
	struct stat st;

	put("f", "text");
	OK(fstatat(ro("f"), "", &st, AT_EMPTY_PATH) == 0 && st.st_size == 4);
}

TEST(at_empty_path_of_cwd)
{
	struct stat st;

	OK(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH) == 0);
	EQ(st.st_ino, see(".").st_ino);
}

TEST(at_empty_path_fchownat)
{
	need_root();
	put("f", "");
	OK(fchownat(ro("f"), "", 11, 12, AT_EMPTY_PATH) == 0);
	EQ(see("f").st_uid, 11);
}

TEST(at_empty_path_linkat)
{
	need_root();
	put("f", "text");
	OK(linkat(ro("f"), "", AT_FDCWD, "g", AT_EMPTY_PATH) == 0);
	EQ(see("g").st_nlink, 2);
}

TEST(at_empty_path_faccessat)
{
	put("f", "");
	OK(faccessat(ro("f"), "", R_OK, AT_EMPTY_PATH) == 0);
}

TEST(at_fstatat_nofollow)
{
	struct stat st;
	int fd = with_file();

	sym("f", "d/l");
	OK(fstatat(fd, "l", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode));
	OK(fstatat(fd, "l", &st, 0) == 0 && S_ISREG(st.st_mode));
}

TEST(at_fstatat_no_automount_is_fine)
{
	struct stat st;

	OK(fstatat(with_file(), "f", &st, AT_NO_AUTOMOUNT) == 0);
}

TEST(at_fstatat_unknown_flag)
{
	struct stat st;

	FAILS(fstatat(with_file(), "f", &st, 0x40000000), EINVAL);
}

TEST(at_mkdirat)
{
	OK(mkdirat(with_file(), "sub", 0700) == 0);
	EQ(mode_of("d/sub"), 0700);
}

TEST(at_unlinkat_file)
{
	OK(unlinkat(with_file(), "f", 0) == 0 && !there("d/f"));
}

TEST(at_unlinkat_directory_needs_flag)
{
	int fd = with_file();

	dir("d/sub");
	FAILS(unlinkat(fd, "sub", 0), EISDIR);
	OK(unlinkat(fd, "sub", AT_REMOVEDIR) == 0);
}

TEST(at_unlinkat_removedir_of_file)
{
	FAILS(unlinkat(with_file(), "f", AT_REMOVEDIR), ENOTDIR);
}

TEST(at_unlinkat_unknown_flag)
{
	FAILS(unlinkat(with_file(), "f", 0x4000), EINVAL);
}

TEST(at_renameat_between_descriptors)
{
	int d = with_file(), e;

	dir("e");
	e = ro_dir("e");
	OK(renameat(d, "f", e, "g") == 0);
	HOLDS("e/g", "text");
}

TEST(at_symlinkat_readlinkat)
{
	int fd = with_file();
	char text[8] = "";

	OK(symlinkat("target", fd, "l") == 0);
	EQ(readlinkat(fd, "l", text, 8), 6);
	OK(!strcmp(text, "target"));
}

TEST(at_linkat_between_descriptors)
{
	int fd = with_file();

	OK(linkat(fd, "f", AT_FDCWD, "g", 0) == 0);
	EQ(see("g").st_ino, see("d/f").st_ino);
}

TEST(at_fchmodat)
{
	OK(fchmodat(with_file(), "f", 0600, 0) == 0);
	EQ(mode_of("d/f"), 0600);
}

TEST(at_fchownat_nofollow)
{
	int fd = with_file();

	need_root();
	sym("f", "d/l");
	OK(fchownat(fd, "l", 5, 6, AT_SYMLINK_NOFOLLOW) == 0);
	EQ(see("d/l").st_uid, 5);
	EQ(see("d/f").st_uid, 0);
}

TEST(at_mkfifoat_and_mknodat)
{
	int fd = with_file();

	OK(mkfifoat(fd, "p", 0644) == 0 && S_ISFIFO(see("d/p").st_mode));
	OK(mknodat(fd, "r", S_IFREG | 0600, 0) == 0 && S_ISREG(see("d/r").st_mode));
}

TEST(at_proc_self_fd_of_directory)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/f", with_file());
	HOLDS(path, "text");
}

TEST(at_proc_self_fd_of_file)
{
	char path[64];

	put("f", "text");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ro("f"));
	HOLDS(path, "text");
}

TEST(at_proc_pid_fd_of_file)
{
	char path[64];

	put("f", "text");
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), ro("f"));
	HOLDS(path, "text");
}

TEST(at_proc_self_fd_is_a_new_description)
{
	char path[64], byte;
	int fd;

	put("f", "text");
	fd = ro("f");
	OK(read(fd, &byte, 1) == 1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	EQ(lseek(open(path, O_RDONLY), 0, SEEK_CUR), 0);
}

TEST(at_proc_self_fd_readlink_is_the_path)
{
	char path[64], text[PATH_MAX] = "";

	put("f", "text");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ro("f"));
	OK(readlink(path, text, sizeof(text)) > 0);
	OK(!strcmp(text, full("f")));
}

TEST(at_proc_self_cwd)
{
	put("f", "text");
	HOLDS("/proc/self/cwd/f", "text");
}

TEST(at_dev_fd)
{
	char path[64];

	put("f", "text");
	snprintf(path, sizeof(path), "/dev/fd/%d", ro("f"));
	HOLDS(path, "text");
}

TEST(at_dev_stdin)
{
	put("f", "text");
	OK(dup2(ro("f"), 0) == 0);
	HOLDS("/dev/stdin", "text");
}

/* --- openat2 -------------------------------------------------------------------------
 */

TEST(openat2_opens)
{
	EQ(fsee(open2(with_file(), "f", O_RDONLY, 0)).st_size, 4);
}

TEST(openat2_creates_with_mode)
{
	struct open_how how = {.flags = O_WRONLY | O_CREAT, .mode = 0640};

	OK(syscall(SYS_openat2, AT_FDCWD, "f", &how, sizeof(how)) >= 0);
	EQ(mode_of("f"), 0640);
}

TEST(openat2_unknown_flag_is_einval)
{
	put("f", "");
	FAILS(open2(AT_FDCWD, "f", O_RDONLY | 0x40000000ul, 0), EINVAL);
}

TEST(openat2_mode_without_creat_is_einval)
{
	struct open_how how = {.flags = O_RDONLY, .mode = 0640};

	put("f", "");
	FAILS(syscall(SYS_openat2, AT_FDCWD, "f", &how, sizeof(how)), EINVAL);
}

TEST(openat2_small_size_is_einval)
{
	struct open_how how = {.flags = O_RDONLY};

	put("f", "");
	FAILS(syscall(SYS_openat2, AT_FDCWD, "f", &how, 8), EINVAL);
}

TEST(openat2_larger_size_with_zeros)
{
	struct {
		struct open_how how;
		uint64_t more;
	} how = {.how.flags = O_RDONLY};

	put("f", "");
	OK(syscall(SYS_openat2, AT_FDCWD, "f", &how, sizeof(how)) >= 0);
	how.more = 1;
	FAILS(syscall(SYS_openat2, AT_FDCWD, "f", &how, sizeof(how)), E2BIG);
}

TEST(openat2_no_symlinks)
{
	int fd = with_file();

	sym("f", "d/l");
	FAILS(open2(fd, "l", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
	OK(open2(fd, "f", O_RDONLY, RESOLVE_NO_SYMLINKS) >= 0);
}

TEST(openat2_no_symlinks_in_the_middle)
{
	with_file();
	sym("d", "l");
	FAILS(open2(AT_FDCWD, "l/f", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
}

TEST(openat2_beneath)
{
	int fd = with_file();

	put("top", "");
	FAILS(open2(fd, "../top", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	FAILS(open2(fd, full("d/f"), O_RDONLY, RESOLVE_BENEATH), EXDEV);
	OK(open2(fd, "f", O_RDONLY, RESOLVE_BENEATH) >= 0);
}

TEST(openat2_in_root)
{
	int fd = with_file();

	OK(open2(fd, "/f", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
	OK(open2(fd, "../../f", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
}

TEST(openat2_in_root_absolute_symlink)
{
	int fd = with_file();

	sym("/f", "d/l");
	OK(open2(fd, "l", O_RDONLY, RESOLVE_IN_ROOT) >= 0);
}

TEST(openat2_no_xdev)
{
	OK(open2(with_file(), "f", O_RDONLY, RESOLVE_NO_XDEV) >= 0);
}

TEST(openat2_unknown_resolve)
{
	put("f", "");
	FAILS(open2(AT_FDCWD, "f", O_RDONLY, 0x80000000ul), EINVAL);
}

/* System calls by number, as other languages' libraries make them. */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/behave/behave.h"

/* --- by number -------------------------------------------------------------------- */

TEST(number_open_read_write_close)
{
	char text[8] = "";
	long fd = syscall(SYS_open, "f", O_RDWR | O_CREAT, 0640);

	EQ(mode_of("f"), 0640);
	EQ(syscall(SYS_write, fd, "text", 4), 4);
	EQ(syscall(SYS_lseek, fd, 0L, SEEK_SET), 0);
	OK(syscall(SYS_read, fd, text, 8) == 4 && !strcmp(text, "text"));
	EQ(syscall(SYS_close, fd), 0);
	FAILS(syscall(SYS_close, fd), EBADF);
}

TEST(number_openat_and_creat)
{
	OK(syscall(SYS_openat, AT_FDCWD, "a", O_WRONLY | O_CREAT, 0600) >= 0);
	OK(syscall(SYS_creat, "b", 0600) >= 0 && there("a") && there("b"));
}

TEST(number_pread_pwrite)
{
	char text[8] = "";
	int fd = rw("f");

	EQ(syscall(SYS_pwrite64, fd, "abc", 3, 2L), 3);
	OK(syscall(SYS_pread64, fd, text, 3, 2L) == 3 && !strcmp(text, "abc"));
}

TEST(number_readv_writev)
{
	char text[8] = "";
	struct iovec out = {(char *)"abc", 3}, in = {text, 8};
	int fd = rw("f");

	EQ(syscall(SYS_writev, fd, &out, 1), 3);
	OK(lseek(fd, 0, SEEK_SET) == 0 && syscall(SYS_readv, fd, &in, 1) == 3);
	EQ(syscall(SYS_preadv2, fd, &in, 1, 1L, 0L, 0), 2);
}

TEST(number_stat_family)
{
	struct stat st;
	int fd = rw("f");

	EQ(write(fd, "text", 4), 4);
	OK(syscall(SYS_stat, "f", &st) == 0 && st.st_size == 4);
	OK(syscall(SYS_lstat, "f", &st) == 0 && st.st_size == 4);
	OK(syscall(SYS_fstat, fd, &st) == 0 && st.st_size == 4);
	OK(syscall(SYS_newfstatat, AT_FDCWD, "f", &st, 0) == 0 && st.st_size == 4);
}

TEST(number_statx)
{
	struct statx stx;

	put("f", "text");
	OK(syscall(SYS_statx, AT_FDCWD, "f", 0, STATX_SIZE, &stx) == 0 &&
		stx.stx_size == 4);
}

TEST(number_names)
{
	EQ(syscall(SYS_mkdir, "d", 0755), 0);
	EQ(syscall(SYS_symlink, "x", "l"), 0);
	put("f", "");
	EQ(syscall(SYS_link, "f", "g"), 0);
	EQ(syscall(SYS_rename, "g", "h"), 0);
	EQ(syscall(SYS_unlink, "h"), 0);
	EQ(syscall(SYS_rmdir, "d"), 0);
	OK(!strcmp(names_in("."), "f l"));
}

TEST(number_names_at)
{
	put("f", "");
	EQ(syscall(SYS_mkdirat, AT_FDCWD, "d", 0755), 0);
	EQ(syscall(SYS_linkat, AT_FDCWD, "f", AT_FDCWD, "d/g", 0), 0);
	EQ(syscall(SYS_renameat2, AT_FDCWD, "d/g", AT_FDCWD, "g", 0), 0);
	EQ(syscall(SYS_unlinkat, AT_FDCWD, "d", AT_REMOVEDIR), 0);
	EQ(syscall(SYS_mknodat, AT_FDCWD, "p", S_IFIFO | 0644, 0), 0);
	OK(!strcmp(names_in("."), "f g p"));
}

TEST(number_attributes)
{
	put("f", "");
	EQ(syscall(SYS_chmod, "f", 0600), 0);
	EQ(mode_of("f"), 0600);
	EQ(syscall(SYS_fchmod, rw("f"), 0644), 0);
	EQ(syscall(SYS_fchmodat, AT_FDCWD, "f", 0640), 0);
	EQ(mode_of("f"), 0640);
	EQ(syscall(SYS_access, "f", R_OK), 0);
	EQ(syscall(SYS_faccessat, AT_FDCWD, "f", R_OK), 0);
	EQ(syscall(SYS_utimensat, AT_FDCWD, "f", NULL, 0), 0);
	EQ(syscall(SYS_chown, "f", -1, -1), 0);
}

TEST(number_sizes)
{
	int fd = rw("f");

	EQ(syscall(SYS_ftruncate, fd, 100L), 0);
	EQ(syscall(SYS_truncate, "f", 50L), 0);
	EQ(syscall(SYS_fallocate, fd, 0, 0L, 200L), 0);
	EQ(see("f").st_size, 200);
	EQ(syscall(SYS_fsync, fd), 0);
	EQ(syscall(SYS_fdatasync, fd), 0);
}

TEST(number_getdents64)
{
	char buffer[4096];

	put("f", "");
	OK(syscall(SYS_getdents64, ro_dir("."), buffer, sizeof(buffer)) > 0);
	OK(memmem(buffer, 4096, "f", 2));
}

TEST(number_getcwd_and_chdir)
{
	char text[PATH_MAX];

	dir("d");
	EQ(syscall(SYS_chdir, "d"), 0);
	EQ(syscall(SYS_getcwd, text, sizeof(text)), strlen(full("d")) + 1);
	OK(!strcmp(text, full("d")));
	EQ(syscall(SYS_fchdir, ro_dir("..")), 0);
	OK(there("d"));
}

TEST(number_readlink)
{
	char text[8] = "";

	sym("abc", "l");
	EQ(syscall(SYS_readlink, "l", text, 8), 3);
	EQ(syscall(SYS_readlinkat, AT_FDCWD, "l", text, 8), 3);
}

TEST(number_dup_and_fcntl)
{
	int fd = rw("f");

	EQ(syscall(SYS_dup, fd), fd + 1);
	EQ(syscall(SYS_dup2, fd, fd + 2), fd + 2);
	EQ(syscall(SYS_dup3, fd, fd + 3, O_CLOEXEC), fd + 3);
	EQ(syscall(SYS_fcntl, fd + 3, F_GETFD), FD_CLOEXEC);
	EQ(write(fd + 2, "x", 1), 1);
	EQ(syscall(SYS_close_range, fd + 1, fd + 3, 0), 0);
	EQ(lseek(fd, 0, SEEK_CUR), 1);
}

TEST(number_xattrs)
{
	char text[8] = "";

	put("f", "");
	EQ(syscall(SYS_setxattr, "f", "user.a", "1", 1, 0), 0);
	OK(syscall(SYS_getxattr, "f", "user.a", text, 8) == 1 && text[0] == '1');
	EQ(syscall(SYS_listxattr, "f", NULL, 0), 7);
	EQ(syscall(SYS_removexattr, "f", "user.a"), 0);
}

TEST(number_locks)
{
	int fd = rw("f");

	EQ(syscall(SYS_flock, fd, 2), 0);
	FAILS(syscall(SYS_flock, rw("f"), 2 | 4), EWOULDBLOCK);
}

TEST(number_mmap)
{
	char *p;

	put("f", "mapped");
	p = (char *)syscall(SYS_mmap, NULL, 4096L, 1L, 2L, (long)ro("f"), 0L);
	OK(p != (void *)-1 && !strcmp(p, "mapped"));
}

TEST(number_sendfile_and_copy)
{
	int out = rw("out");

	put("f", "text");
	EQ(syscall(SYS_sendfile, out, ro("f"), NULL, 4L), 4);
	EQ(syscall(SYS_copy_file_range, ro("f"), NULL, out, NULL, 4L, 0), 4);
	HOLDS("out", "texttext");
}

TEST(number_execve)
{
	pid_t pid;

	put("s", "#!/bin/sh\nexit 31\n");
	OK(chmod("s", 0755) == 0);
	pid = fork();
	if (!pid) {
		syscall(SYS_execve, "./s", (char *[]){(char *)"s", NULL}, environ);
		_exit(errno);
	}
	EQ(finish(pid), 31);
}

TEST(number_statfs)
{
	char buffer[256];

	EQ(syscall(SYS_statfs, ".", buffer), 0);
	EQ(syscall(SYS_fstatfs, rw("f"), buffer), 0);
}

TEST(number_unknown)
{
	FAILS(syscall(9999), ENOSYS);
}

TEST(number_of_no_file)
{
	EQ(syscall(SYS_getpid), getpid());
}

TEST(number_faccessat2)
{
	put("f", "");
	EQ(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS), 0);
	FAILS(syscall(SYS_faccessat2, AT_FDCWD, "f", 8, 0), EINVAL);
}

TEST(number_umask)
{
	EQ(syscall(SYS_umask, 077), 022);
	put("f", "");
	EQ(mode_of("f"), 0600);
}

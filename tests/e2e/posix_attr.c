/* Attributes: stat, statx, permissions, times, extended attributes, file system. */
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>
#include <sys/xattr.h>
#include <utime.h>

#include "posix.h"

static void check_stat(void)
{
	struct stat a, b, dir;
	struct statx stx;
	int fd = open(at("f"), O_RDWR);

	OK(stat(at("f"), &a) == 0 && fstat(fd, &b) == 0);
	OK(a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_size == 5);
	OK(S_ISREG(a.st_mode) && a.st_nlink == 1 && a.st_uid == geteuid() && a.st_blksize);
	OK(stat(posix_top, &dir) == 0 && dir.st_dev == a.st_dev && dir.st_ino != a.st_ino);
	OK(statx(AT_FDCWD, at("f"), 0, STATX_ALL, &stx) == 0 && stx.stx_ino == a.st_ino);
	OK(stx.stx_size == 5 && stx.stx_mtime.tv_sec == a.st_mtim.tv_sec);
	OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &stx) == 0 && stx.stx_ino == a.st_ino);
	OK(mkdir(at("d"), 0755) == 0 && stat(posix_top, &a) == 0);
	OK(a.st_nlink == dir.st_nlink + 1);
	FAILS(stat(at("f/x"), &a), ENOTDIR);
	FAILS(stat(at("absent"), &a), ENOENT);
	close(fd);
}

static void check_access(void)
{
	OK(access(at("f"), F_OK) == 0 && access(at("f"), R_OK | W_OK) == 0);
	FAILS(access(at("f"), X_OK), EACCES);
	OK(chmod(at("f"), 0755) == 0 && access(at("f"), X_OK) == 0);
	FAILS(access(at("absent"), F_OK), ENOENT);
	OK(eaccess(at("f"), R_OK) == 0);
	OK(faccessat(AT_FDCWD, at("f"), R_OK, AT_EACCESS) == 0);
	OK(access(at("d"), X_OK) == 0);
}

static void check_mode(void)
{
	struct stat st;
	int fd = open(at("f"), O_RDONLY);

	OK(chmod(at("f"), 04711) == 0 && stat(at("f"), &st) == 0);
	OK((st.st_mode & 07777) == 04711);
	OK(fchmod(fd, 0604) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0604);
	OK(chown(at("f"), (uid_t)-1, (gid_t)-1) == 0);
	if (geteuid() == 0) {
		OK(chown(at("f"), 1000, 1001) == 0 && stat(at("f"), &st) == 0);
		OK(st.st_uid == 1000 && st.st_gid == 1001);
		OK(fchown(fd, 0, (gid_t)-1) == 0 && stat(at("f"), &st) == 0);
		OK(st.st_uid == 0 && st.st_gid == 1001);
		OK(symlink("f", at("l")) == 0 && lchown(at("l"), 5, 6) == 0);
		OK(lstat(at("l"), &st) == 0 && st.st_uid == 5 && st.st_gid == 6);
		OK(stat(at("l"), &st) == 0 && st.st_uid == 0);
	}
	FAILS(chmod(at("absent"), 0644), ENOENT);
	close(fd);
}

static void check_times(void)
{
	struct timespec ts[2] = {{1000000001, 123456789}, {1100000002, 987654321}};
	struct timeval tv[2] = {{1200000003, 500}, {1300000004, 600}};
	struct utimbuf ub = {1400000005, 1500000006};
	int fd = open(at("f"), O_RDWR);
	struct stat st;

	OK(utimensat(AT_FDCWD, at("f"), ts, 0) == 0 && stat(at("f"), &st) == 0);
	OK(st.st_atim.tv_sec == 1000000001 && st.st_atim.tv_nsec == 123456789);
	OK(st.st_mtim.tv_sec == 1100000002 && st.st_mtim.tv_nsec == 987654321);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_nsec = UTIME_NOW;
	OK(futimens(fd, ts) == 0 && fstat(fd, &st) == 0);
	OK(st.st_atim.tv_sec == 1000000001 && labs(st.st_mtim.tv_sec - time(NULL)) < 10);
	OK(utimes(at("f"), tv) == 0 && stat(at("f"), &st) == 0);
	OK(st.st_atim.tv_sec == 1200000003 && st.st_mtim.tv_nsec == 600000);
	OK(utime(at("f"), &ub) == 0 && stat(at("f"), &st) == 0);
	OK(st.st_atim.tv_sec == 1400000005 && st.st_mtim.tv_sec == 1500000006);
	OK(write(fd, "x", 1) == 1 && fstat(fd, &st) == 0);
	OK(labs(st.st_mtim.tv_sec - time(NULL)) < 10);
	ts[0].tv_nsec = 2000000000;
	FAILS(futimens(fd, ts), EINVAL);
	close(fd);
}

static void check_xattr(void)
{
	char value[64] = "", names[256];
	int fd = open(at("x"), O_RDWR | O_CREAT, 0644);
	ssize_t size;

	OK(setxattr(at("x"), "user.one", "1", 1, 0) == 0);
	OK(fsetxattr(fd, "user.two", "twotwo", 6, XATTR_CREATE) == 0);
	FAILS(fsetxattr(fd, "user.two", "t", 1, XATTR_CREATE), EEXIST);
	FAILS(setxattr(at("x"), "user.three", "t", 1, XATTR_REPLACE), ENODATA);
	OK(getxattr(at("x"), "user.two", value, sizeof(value)) == 6);
	OK(!strcmp(value, "twotwo") && getxattr(at("x"), "user.two", NULL, 0) == 6);
	FAILS(getxattr(at("x"), "user.two", value, 3), ERANGE);
	FAILS(fgetxattr(fd, "user.absent", value, 3), ENODATA);
	size = listxattr(at("x"), names, sizeof(names));
	OK(size >= 18 && memmem(names, (size_t)size, "user.one", 9) &&
		memmem(names, (size_t)size, "user.two", 9));
	OK(removexattr(at("x"), "user.one") == 0);
	FAILS(removexattr(at("x"), "user.one"), ENODATA);
	close(fd);
}

static void check_fs(void)
{
	struct statvfs st;

	OK(statvfs(posix_top, &st) == 0 && st.f_blocks > 0 && st.f_bavail <= st.f_blocks);
	OK(st.f_namemax == 255 && pathconf(posix_top, _PC_NAME_MAX) == 255);
	FAILS(statvfs(at("absent"), &st), ENOENT);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	put("f", "12345");
	check_stat();
	check_access();
	check_mode();
	check_times();
	check_xattr();
	check_fs();
	return posix_end();
}

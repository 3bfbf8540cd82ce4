/*
 * The shim's own calls, as its parts and syscall() use them: like the system calls of
 * those names, but on the namespace or, for what is local, by the real function. They
 * return -1 and set errno as libc does.
 */
#ifndef WFS_PRELOAD_CALLS_H
#define WFS_PRELOAD_CALLS_H

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "shim/preload/path.h"

struct file;
struct statfs;
struct timeval;
struct utimbuf;

int wfs_openat_mode(int dirfd, const char *path, int flags, mode_t mode);
int wfs_close(int fd);

ssize_t wfs_read(int fd, void *data, size_t size);
ssize_t wfs_write(int fd, const void *data, size_t size);
ssize_t wfs_pread(int fd, void *data, size_t size, off_t offset);
ssize_t wfs_pwrite(int fd, const void *data, size_t size, off_t offset);
ssize_t wfs_readv(int fd, const struct iovec *iov, int count);
ssize_t wfs_writev(int fd, const struct iovec *iov, int count);
ssize_t wfs_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t wfs_pwritev2(
	int fd, const struct iovec *iov, int count, off_t offset, int flags);
off_t wfs_lseek(int fd, off_t offset, int whence);
/* How much of a write there RLIMIT_FSIZE lets through; or -EFBIG, after SIGXFSZ. */
#define LIMIT_AT_END (-1)
ssize_t limit_write(struct client *c, struct file *f, int64_t offset, size_t size);
int wfs_ftruncate(int fd, off_t size);
int wfs_truncate(const char *path, off_t size);
int wfs_fsync(int fd);
int wfs_fdatasync(int fd);
int wfs_fallocate(int fd, int mode, off_t offset, off_t size);
ssize_t wfs_copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset,
	size_t size, unsigned flags);
ssize_t wfs_sendfile(int out, int in, off_t *offset, size_t size);

int wfs_fstat(int fd, struct stat *st);
int wfs_fstatat(int dirfd, const char *path, struct stat *st, int flags);
int wfs_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *stx);
int wfs_faccessat(int dirfd, const char *path, int mode, int flags);
/* From attributes; also S_IFMT. */
void stat_fill(const struct client_attr *attr, struct stat *st);
dev_t stat_device(uint32_t fsid);
/* want: R_OK | W_OK | X_OK; effective: by the effective ids. 0 or -EACCES. */
int access_check(const struct client_attr *attr, int want, bool effective);

int wfs_mkdirat(int dirfd, const char *path, mode_t mode);
int wfs_unlinkat(int dirfd, const char *path, int flags);
int wfs_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int wfs_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int wfs_symlinkat(const char *target, int dirfd, const char *path);
ssize_t wfs_readlinkat(int dirfd, const char *path, char *buffer, size_t size);
int wfs_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev);
int wfs_fchmodat(int dirfd, const char *path, mode_t mode, int flags);
int wfs_fchmod(int fd, mode_t mode);
int wfs_fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags);
int wfs_fchown(int fd, uid_t uid, gid_t gid);
int wfs_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags);

ssize_t wfs_getdents64(int fd, void *buffer, size_t size);
DIR *wfs_opendir(const char *path);
DIR *wfs_fdopendir(int fd);
struct dirent *wfs_readdir(DIR *dir);
int wfs_closedir(DIR *dir);

int wfs_chdir(const char *path);
int wfs_fchdir(int fd);
char *wfs_getcwd(char *buffer, size_t size);

int wfs_dup(int fd);
int wfs_dup2(int from, int to);
int wfs_dup3(int from, int to, int flags);
int wfs_fcntl_long(int fd, int command, long arg);
int wfs_close_range(unsigned first, unsigned last, int flags);

int wfs_execveat(int dirfd, const char *path, char *const argv[], char *const envp[],
	int flags);
int wfs_execve(const char *path, char *const argv[], char *const envp[]);

int wfs_flock(int fd, int operation);
int wfs_ioctl_long(int fd, unsigned long request, long arg);
ssize_t wfs_splice(int in, off_t *in_offset, int out, off_t *out_offset, size_t size,
	unsigned flags);
ssize_t wfs_tee(int in, int out, size_t size, unsigned flags);
int wfs_posix_fadvise(int fd, off_t offset, off_t size, int advice);
ssize_t wfs_readahead(int fd, off_t offset, size_t size);
int wfs_sync_file_range(int fd, off_t offset, off_t size, unsigned flags);
int wfs_syncfs(int fd);
int wfs_statfs(const char *path, struct statfs *out);
int wfs_fstatfs(int fd, struct statfs *out);
int wfs_utimes(const char *path, const struct timeval tv[2]);
int wfs_utime(const char *path, const struct utimbuf *times);

ssize_t wfs_getxattr(const char *path, const char *name, void *value, size_t size);
ssize_t wfs_lgetxattr(const char *path, const char *name, void *value, size_t size);
ssize_t wfs_fgetxattr(int fd, const char *name, void *value, size_t size);
int wfs_setxattr(const char *path, const char *name, const void *value, size_t size, int flags);
int wfs_lsetxattr(
	const char *path, const char *name, const void *value, size_t size, int flags);
int wfs_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags);
ssize_t wfs_listxattr(const char *path, char *names, size_t size);
ssize_t wfs_llistxattr(const char *path, char *names, size_t size);
ssize_t wfs_flistxattr(int fd, char *names, size_t size);
int wfs_removexattr(const char *path, const char *name);
int wfs_lremovexattr(const char *path, const char *name);
int wfs_fremovexattr(int fd, const char *name);

int wfs_msync(void *addr, size_t size, int flags);
void *wfs_mremap(void *old, size_t old_size, size_t size, int flags, ...);
void *wfs_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset);
int wfs_munmap(void *addr, size_t size);

#endif

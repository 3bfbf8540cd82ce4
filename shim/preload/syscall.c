/*
 * syscall(2): programs, and other languages' libraries, that make system calls by number.
 * Those that concern files go to the shim's calls, which sort out what is local; the rest
 * goes to the kernel as it is. Cancellation points stay such only through libc.
 */
#include <linux/openat2.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

struct args {
	long a, b, c, d, e, f;
};

#define PATH(x) ((const char *)(x))

/* True: *rc is the answer. */
static bool call_by_fd(long nr, const struct args *x, long *rc)
{
	int fd = (int)x->a;

	switch (nr) {
	case SYS_read: *rc = wfs_read(fd, (void *)x->b, (size_t)x->c); return true;
	case SYS_write: *rc = wfs_write(fd, (void *)x->b, (size_t)x->c); return true;
	case SYS_pread64: *rc = wfs_pread(fd, (void *)x->b, (size_t)x->c, x->d); return true;
	case SYS_pwrite64: *rc = wfs_pwrite(fd, (void *)x->b, (size_t)x->c, x->d); return true;
	case SYS_readv: *rc = wfs_readv(fd, (void *)x->b, (int)x->c); return true;
	case SYS_writev: *rc = wfs_writev(fd, (void *)x->b, (int)x->c); return true;
	case SYS_preadv: *rc = wfs_preadv2(fd, (void *)x->b, (int)x->c, x->d, 0); return true;
	case SYS_pwritev: *rc = wfs_pwritev2(fd, (void *)x->b, (int)x->c, x->d, 0); return true;
	case SYS_preadv2:
		*rc = wfs_preadv2(fd, (void *)x->b, (int)x->c, x->d, (int)x->f);
		return true;
	case SYS_pwritev2:
		*rc = wfs_pwritev2(fd, (void *)x->b, (int)x->c, x->d, (int)x->f);
		return true;
	case SYS_lseek: *rc = wfs_lseek(fd, x->b, (int)x->c); return true;
	case SYS_fstat: *rc = wfs_fstat(fd, (void *)x->b); return true;
	case SYS_ftruncate: *rc = wfs_ftruncate(fd, x->b); return true;
	case SYS_fallocate: *rc = wfs_fallocate(fd, (int)x->b, x->c, x->d); return true;
	case SYS_fsync: *rc = wfs_fsync(fd); return true;
	case SYS_fdatasync: *rc = wfs_fdatasync(fd); return true;
	case SYS_getdents64: *rc = wfs_getdents64(fd, (void *)x->b, (size_t)x->c); return true;
	case SYS_fchdir: *rc = wfs_fchdir(fd); return true;
	case SYS_fchmod: *rc = wfs_fchmod(fd, (mode_t)x->b); return true;
	case SYS_fchown: *rc = wfs_fchown(fd, (uid_t)x->b, (gid_t)x->c); return true;
	case SYS_fcntl: *rc = wfs_fcntl_long(fd, (int)x->b, x->c); return true;
	case SYS_close: *rc = wfs_close(fd); return true;
	case SYS_dup: *rc = wfs_dup(fd); return true;
	case SYS_dup2: *rc = wfs_dup2(fd, (int)x->b); return true;
	case SYS_dup3: *rc = wfs_dup3(fd, (int)x->b, (int)x->c); return true;
	case SYS_close_range:
		*rc = wfs_close_range((unsigned)x->a, (unsigned)x->b, (int)x->c);
		return true;
	case SYS_sendfile:
		*rc = wfs_sendfile(fd, (int)x->b, (off_t *)x->c, (size_t)x->d);
		return true;
	case SYS_copy_file_range:
		*rc = wfs_copy_file_range(fd, (off_t *)x->b, (int)x->c, (off_t *)x->d,
			(size_t)x->e, (unsigned)x->f);
		return true;
	case SYS_flock: *rc = wfs_flock(fd, (int)x->b); return true;
	case SYS_ioctl: *rc = wfs_ioctl_long(fd, (unsigned long)x->b, x->c); return true;
	case SYS_splice:
		*rc = wfs_splice(fd, (off_t *)x->b, (int)x->c, (off_t *)x->d,
			(size_t)x->e, (unsigned)x->f);
		return true;
	case SYS_tee:
		*rc = wfs_tee(fd, (int)x->b, (size_t)x->c, (unsigned)x->d);
		return true;
	case SYS_fadvise64:
		*rc = answer(-wfs_posix_fadvise(fd, x->b, x->c, (int)x->d));
		return true;
	case SYS_readahead: *rc = wfs_readahead(fd, x->b, (size_t)x->c); return true;
	case SYS_sync_file_range:
		*rc = wfs_sync_file_range(fd, x->b, x->c, (unsigned)x->d);
		return true;
	case SYS_syncfs: *rc = wfs_syncfs(fd); return true;
	case SYS_fstatfs: *rc = wfs_fstatfs(fd, (void *)x->b); return true;
	case SYS_fsetxattr:
		*rc = wfs_fsetxattr(
			fd, PATH(x->b), (void *)x->c, (size_t)x->d, (int)x->e);
		return true;
	case SYS_fgetxattr:
		*rc = wfs_fgetxattr(fd, PATH(x->b), (void *)x->c, (size_t)x->d);
		return true;
	case SYS_flistxattr:
		*rc = wfs_flistxattr(fd, (char *)x->b, (size_t)x->c);
		return true;
	case SYS_fremovexattr: *rc = wfs_fremovexattr(fd, PATH(x->b)); return true;
	case SYS_msync:
		*rc = wfs_msync((void *)x->a, (size_t)x->b, (int)x->c);
		return true;
	case SYS_mremap:
		*rc = (long)wfs_mremap((void *)x->a, (size_t)x->b, (size_t)x->c,
			(int)x->d, (void *)x->e);
		return true;
	case SYS_munmap: *rc = wfs_munmap((void *)x->a, (size_t)x->b); return true;
	case SYS_mmap:
		*rc = (long)wfs_mmap((void *)x->a, (size_t)x->b, (int)x->c, (int)x->d,
			(int)x->e, x->f);
		return true;
	default: return false;
	}
}

#define OPEN_MAKES (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))
#define OPEN_FLAGS                                                                       \
	((uint64_t)(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |       \
		    O_NONBLOCK | O_SYNC | O_ASYNC | O_DIRECT | 0100000 | O_DIRECTORY |   \
		    O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE))
#define RESOLVE_FLAGS                                                                    \
	(RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |                 \
		RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED)

/* openat2: what its resolve flags forbid is not watched over in WFS, so then: ENOSYS. */
static bool call_openat2(const struct args *x, long *rc)
{
	const struct open_how *how = (const void *)x->c;
	const char *more = (const char *)(how + 1), *end = (const char *)how + x->d;

	if (!path_is_wfs((int)x->a, PATH(x->b)))
		return false;
	while ((size_t)x->d > sizeof(*how) && more < end && !*more)
		more++;
	if ((size_t)x->d < sizeof(*how))
		*rc = answer(-EINVAL);
	else if (more < end)
		*rc = answer(-E2BIG);
	else if ((how->flags & ~OPEN_FLAGS) || (how->resolve & ~RESOLVE_FLAGS) ||
		 (how->mode & ~07777ull) || (how->mode && !(how->flags & OPEN_MAKES)))
		*rc = answer(-EINVAL);
	else if (how->resolve & ~(RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS))
		*rc = answer(-ENOSYS);
	else
		*rc = wfs_openat_mode((int)x->a, PATH(x->b), (int)how->flags,
			(mode_t)how->mode);
	return true;
}

static bool call_at(long nr, const struct args *x, long *rc)
{
	int fd = (int)x->a;
	const char *path = PATH(x->b);

	switch (nr) {
	case SYS_openat: *rc = wfs_openat_mode(fd, path, (int)x->c, (mode_t)x->d); return true;
	case SYS_openat2: return call_openat2(x, rc);
	case SYS_newfstatat: *rc = wfs_fstatat(fd, path, (void *)x->c, (int)x->d); return true;
	case SYS_statx:
		*rc = wfs_statx(fd, path, (int)x->c, (unsigned)x->d, (void *)x->e);
		return true;
	case SYS_faccessat: *rc = wfs_faccessat(fd, path, (int)x->c, 0); return true;
	case SYS_faccessat2:
		*rc = wfs_faccessat(fd, path, (int)x->c, (int)x->d);
		return true;
	case SYS_mkdirat: *rc = wfs_mkdirat(fd, path, (mode_t)x->c); return true;
	case SYS_mknodat:
		*rc = wfs_mknodat(fd, path, (mode_t)x->c, (dev_t)x->d);
		return true;
	case SYS_unlinkat: *rc = wfs_unlinkat(fd, path, (int)x->c); return true;
	case SYS_renameat:
		*rc = wfs_renameat2(fd, path, (int)x->c, PATH(x->d), 0);
		return true;
	case SYS_renameat2:
		*rc = wfs_renameat2(fd, path, (int)x->c, PATH(x->d), (unsigned)x->e);
		return true;
	case SYS_linkat:
		*rc = wfs_linkat(fd, path, (int)x->c, PATH(x->d), (int)x->e);
		return true;
	case SYS_symlinkat:
		*rc = wfs_symlinkat(PATH(x->a), (int)x->b, PATH(x->c));
		return true;
	case SYS_readlinkat:
		*rc = wfs_readlinkat(fd, path, (char *)x->c, (size_t)x->d);
		return true;
	case SYS_fchmodat: *rc = wfs_fchmodat(fd, path, (mode_t)x->c, 0); return true;
	case SYS_fchownat:
		*rc = wfs_fchownat(fd, path, (uid_t)x->c, (gid_t)x->d, (int)x->e);
		return true;
	case SYS_utimensat:
		*rc = wfs_utimensat(fd, path, (void *)x->c, (int)x->d);
		return true;
	case SYS_execveat:
		*rc = wfs_execveat(fd, path, (void *)x->c, (void *)x->d, (int)x->e);
		return true;
	default: return false;
	}
}

static bool call_by_path(long nr, const struct args *x, long *rc)
{
	const char *path = PATH(x->a);
	const int nofollow = AT_SYMLINK_NOFOLLOW, here = AT_FDCWD;

	switch (nr) {
	case SYS_open: *rc = wfs_openat_mode(here, path, (int)x->b, (mode_t)x->c); return true;
	case SYS_creat:
		*rc = wfs_openat_mode(here, path, O_CREAT | O_WRONLY | O_TRUNC, (mode_t)x->b);
		return true;
	case SYS_stat: *rc = wfs_fstatat(here, path, (void *)x->b, 0); return true;
	case SYS_lstat: *rc = wfs_fstatat(here, path, (void *)x->b, nofollow); return true;
	case SYS_access: *rc = wfs_faccessat(here, path, (int)x->b, 0); return true;
	case SYS_truncate: *rc = wfs_truncate(path, x->b); return true;
	case SYS_mkdir: *rc = wfs_mkdirat(here, path, (mode_t)x->b); return true;
	case SYS_rmdir: *rc = wfs_unlinkat(here, path, AT_REMOVEDIR); return true;
	case SYS_unlink: *rc = wfs_unlinkat(here, path, 0); return true;
	case SYS_rename: *rc = wfs_renameat2(here, path, here, PATH(x->b), 0); return true;
	case SYS_link: *rc = wfs_linkat(here, path, here, PATH(x->b), 0); return true;
	case SYS_symlink: *rc = wfs_symlinkat(path, here, PATH(x->b)); return true;
	case SYS_readlink:
		*rc = wfs_readlinkat(here, path, (char *)x->b, (size_t)x->c);
		return true;
	case SYS_chmod: *rc = wfs_fchmodat(here, path, (mode_t)x->b, 0); return true;
	case SYS_chown:
		*rc = wfs_fchownat(here, path, (uid_t)x->b, (gid_t)x->c, 0);
		return true;
	case SYS_lchown:
		*rc = wfs_fchownat(here, path, (uid_t)x->b, (gid_t)x->c, nofollow);
		return true;
	case SYS_chdir: *rc = wfs_chdir(path); return true;
	case SYS_mknod:
		*rc = wfs_mknodat(here, path, (mode_t)x->b, (dev_t)x->c);
		return true;
	case SYS_statfs: *rc = wfs_statfs(path, (void *)x->b); return true;
	case SYS_utimes: *rc = wfs_utimes(path, (void *)x->b); return true;
	case SYS_utime: *rc = wfs_utime(path, (void *)x->b); return true;
	case SYS_setxattr:
		*rc = wfs_setxattr(
			path, PATH(x->b), (void *)x->c, (size_t)x->d, (int)x->e);
		return true;
	case SYS_lsetxattr:
		*rc = wfs_lsetxattr(
			path, PATH(x->b), (void *)x->c, (size_t)x->d, (int)x->e);
		return true;
	case SYS_getxattr:
		*rc = wfs_getxattr(path, PATH(x->b), (void *)x->c, (size_t)x->d);
		return true;
	case SYS_lgetxattr:
		*rc = wfs_lgetxattr(path, PATH(x->b), (void *)x->c, (size_t)x->d);
		return true;
	case SYS_listxattr:
		*rc = wfs_listxattr(path, (char *)x->b, (size_t)x->c);
		return true;
	case SYS_llistxattr:
		*rc = wfs_llistxattr(path, (char *)x->b, (size_t)x->c);
		return true;
	case SYS_removexattr: *rc = wfs_removexattr(path, PATH(x->b)); return true;
	case SYS_lremovexattr: *rc = wfs_lremovexattr(path, PATH(x->b)); return true;
	case SYS_execve: *rc = wfs_execve(path, (void *)x->b, (void *)x->c); return true;
	case SYS_getcwd: {
		char *got = wfs_getcwd((char *)x->a, (size_t)x->b);

		*rc = got ? (long)__builtin_strlen(got) + 1 : -1;
		return true;
	}
	default: return false;
	}
}

static long WFS_USED wfs_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	struct args x = {a, b, c, d, e, f};
	long rc;

	if (fs_on() && (call_by_fd(nr, &x, &rc) || call_at(nr, &x, &rc) ||
			       call_by_path(nr, &x, &rc)))
		return rc;
	if (nr == SYS_umask)
		fs_umask_set((uint32_t)a);
	if (nr == SYS_fork || nr == SYS_vfork || nr == SYS_clone || nr == SYS_clone3)
		fd_shared();
	return answer(raw6(nr, a, b, c, d, e, f));
}
EXPORT(syscall, wfs_syscall);

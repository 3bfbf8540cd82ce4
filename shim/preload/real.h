/*
 * What the shim stands in front of. REAL(name) is libc's function (or that of the next
 * preloaded library), found once by dlsym. A function that libc does not have answers
 * ENOSYS.
 *
 * Exported names are assembler aliases: the function is called wfs_x inside, and
 * EXPORT(x, wfs_x) gives it to the world. So no header's attributes (nonnull, ...) apply
 * to our definitions, and calls within the shim never go through the dynamic linker.
 * EXPORT stands in the file that defines wfs_x; a static one needs WFS_USED.
 */
#ifndef WFS_PRELOAD_REAL_H
#define WFS_PRELOAD_REAL_H

#include <errno.h>

#define WFS_USED __attribute__((used))
#define EXPORT(name, fn)                                                                 \
	__asm__(".globl " #name "\n.type " #name ", @function\n.set " #name ", " #fn "\n")

#define REAL_LIST(X)                                                                     \
	X(open) X(openat) X(close) X(read) X(write) X(pread) X(pwrite) X(readv) X(writev)      \
	X(preadv) X(pwritev) X(preadv2) X(pwritev2) X(lseek) X(dup) X(dup2) X(dup3) X(fcntl)   \
	X(close_range) X(ftruncate) X(truncate) X(fallocate) X(posix_fallocate)                \
	X(posix_fadvise) X(readahead) X(fsync) X(fdatasync) X(syncfs) X(sync_file_range)       \
	X(copy_file_range) X(sendfile) X(splice) X(tee) X(vmsplice) X(ioctl) X(isatty)         \
	X(ttyname) X(ttyname_r) X(flock) X(lockf)                                              \
	X(stat) X(fstatat) X(fstat) X(lstat) X(statx) X(statfs) X(fstatfs) X(statvfs)          \
	X(fstatvfs) X(pathconf) X(fpathconf)                                                   \
	X(access) X(faccessat) X(eaccess) X(mkdirat) X(mkdir) X(rmdir) X(unlink) X(unlinkat)   \
	X(remove) X(rename) X(renameat) X(renameat2) X(link) X(linkat) X(symlink)              \
	X(symlinkat) X(readlink) X(readlinkat) X(mknodat) X(mkfifoat) X(chmod) X(fchmod)       \
	X(fchmodat) X(lchmod) X(chown) X(lchown) X(fchown) X(fchownat) X(utimensat)            \
	X(futimens) X(utime) X(utimes) X(lutimes) X(futimes) X(futimesat)                      \
	X(getxattr) X(lgetxattr) X(fgetxattr) X(setxattr) X(lsetxattr) X(fsetxattr)            \
	X(listxattr) X(llistxattr) X(flistxattr) X(removexattr) X(lremovexattr)                \
	X(fremovexattr) X(umask)                                                               \
	X(opendir) X(fdopendir) X(closedir) X(readdir) X(readdir_r) X(telldir) X(seekdir)      \
	X(rewinddir) X(dirfd) X(scandir) X(scandirat) X(getdents64) X(glob)                    \
	X(chdir) X(fchdir) X(getcwd) X(get_current_dir_name) X(realpath)                       \
	X(canonicalize_file_name) X(mkostemps) X(mkdtemp) X(mktemp)                            \
	X(fopen) X(fdopen) X(freopen) X(popen) X(system) X(daemon) X(forkpty)                  \
	X(fork) X(clone) X(execve) X(execveat) X(fexecve) X(posix_spawn) X(posix_spawnp)       \
	X(mmap) X(munmap) X(mremap) X(msync) X(mprotect) X(madvise) X(dlopen)       \
	X(ftw) X(nftw) X(fts_open) X(fts_read) X(fts_children) X(fts_set) X(fts_close)         \
	X(inotify_add_watch) X(name_to_handle_at) X(sendmsg) X(recvmsg) X(recvmmsg)            \
	X(setuid) X(setgid) X(seteuid) X(setegid) X(setreuid) X(setregid) X(setresuid)         \
	X(setresgid) X(setgroups) X(initgroups) X(_exit) X(chroot) X(bind) X(connect) X(sendto) \
	X(aio_read) X(aio_write) X(aio_fsync) X(lio_listio) X(sync) X(_Fork) X(getdirentries)

enum real_id {
#define X(name) REAL_##name,
	REAL_LIST(X)
#undef X
	REAL_COUNT
};

extern void *real_slots[REAL_COUNT];
void *real_find(enum real_id id);

static inline void *real_get(enum real_id id)
{
	void *p = __atomic_load_n(&real_slots[id], __ATOMIC_ACQUIRE);

	return p ? p : real_find(id);
}

#define REAL(name) ((__typeof__(&name))real_get(REAL_##name))

/* rc of the shim's own functions to what a program expects. */
static inline long answer(long rc)
{
	if (rc >= 0)
		return rc;
	errno = (int)-rc;
	return -1;
}

#endif

/*
 * Locks. For now they hold between the programs of one host: the kernel's lock on a local
 * file beside the daemon's socket stands for the lock on the inode, opened once per open
 * file. So flock belongs to the open file, F_OFD_SETLK too, and F_SETLK to the process,
 * and the kernel wakes, interrupts and cleans up as it always does. Where that file
 * cannot be made the lock is granted without holding anything.
 */
#include "shim/preload/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

bool side_path(const char *folder, ino_id ino, char *buffer, size_t size)
{
	const char *socket = fs_settings()->socket;
	const char *slash = strrchr(socket, '/');
	size_t used = slash ? (size_t)(slash - socket) + 1 : 0;

	if (used + strlen(folder) + 1 + 17 > size)
		return false;
	memcpy(buffer, socket, used);
	strcpy(buffer + used, folder);
	used += strlen(folder);
	if (raw(SYS_mkdir, buffer, 01777) == 0)
		(void)raw(SYS_chmod, buffer, 01777);
	buffer[used++] = '/';
	for (int shift = 60; shift >= 0; shift -= 4)
		buffer[used++] = "0123456789abcdef"[(ino >> shift) & 15];
	buffer[used] = 0;
	return true;
}

/* The local file that stands for f, or -1. */
static int lock_file(struct file *f)
{
	char path[FS_MOUNT_MAX + 32];
	int none = -1, fd, high;

	if (f->lock_fd >= 0)
		return f->lock_fd;
	if (!side_path("locks", f->cf.ino, path, sizeof(path)))
		return -1;
	fd = (int)raw(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd == -ENOENT) {
		fd = (int)raw(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		if (fd >= 0)
			(void)raw(SYS_fchmod, fd, 0666);
	}
	if (fd < 0)
		return -1;
	high = (int)raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd_reserve_base());
	(void)raw(SYS_close, fd);
	if (high < 0)
		return -1;
	fd_reserve(high);
	if (__atomic_compare_exchange_n((int *)&f->lock_fd, &none, high, false,
		    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return high;
	fd_release(high);
	(void)raw(SYS_close, high);
	return f->lock_fd;
}

/* The start of a range in bytes from 0. */
static int lock_absolute(int fd, struct file *f, struct client *c, struct flock *lock)
{
	struct client_attr attr;
	int64_t base = 0;
	int rc;

	if (lock->l_whence == SEEK_CUR) {
		base = fd_position(fd);
	} else if (lock->l_whence == SEEK_END) {
		rc = client_getattr(c, f->cf.ino, &attr);
		if (rc)
			return rc;
		base = (int64_t)attr.size_bytes;
	} else if (lock->l_whence != SEEK_SET) {
		return -EINVAL;
	}
	if (__builtin_add_overflow(lock->l_start, base, &lock->l_start))
		return -EOVERFLOW;
	lock->l_whence = SEEK_SET;
	return lock->l_start < 0 ? -EINVAL : 0;
}

int lock_fcntl(int fd, struct file *f, struct client *c, int command, void *arg)
{
	bool query = command == F_GETLK || command == F_OFD_GETLK;
	unsigned mode = f->flags & O_ACCMODE;
	struct flock lock;
	int local, rc;

	if (!arg)
		return -EFAULT;
	memcpy(&lock, arg, sizeof(lock));
	if (f->flags & O_PATH)
		return -EBADF;
	if (!query && ((lock.l_type == F_RDLCK && mode == O_WRONLY) ||
			      (lock.l_type == F_WRLCK && mode == O_RDONLY)))
		return -EBADF;
	rc = lock_absolute(fd, f, c, &lock);
	if (rc)
		return rc;
	local = lock_file(f);
	if (local < 0) {
		if (query)
			((struct flock *)arg)->l_type = F_UNLCK;
		return 0;
	}
	rc = REAL(fcntl)(local, command, &lock);
	if (rc < 0)
		return -errno;
	if (query && lock.l_type == F_UNLCK)
		((struct flock *)arg)->l_type = F_UNLCK;
	else if (query)
		memcpy(arg, &lock, sizeof(lock));
	return 0;
}

int wfs_flock(int fd, int operation)
{
	struct file *f = fd_file(fd);
	int local, rc = 0;

	if (!f)
		return REAL(flock)(fd, operation);
	if (f->flags & O_PATH) {
		fd_put(f);
		return (int)answer(-EBADF);
	}
	local = lock_file(f);
	if (local >= 0)
		rc = REAL(flock)(local, operation);
	fd_put(f);
	return rc;
}
EXPORT(flock, wfs_flock);

static int WFS_USED wfs_lockf(int fd, int command, off_t size)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = size};
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(lockf)(fd, command, size);
	fd_put(f);
	switch (command) {
	case F_ULOCK:
		lock.l_type = F_UNLCK;
		return wfs_fcntl_long(fd, F_SETLK, (long)&lock);
	case F_LOCK:
		return wfs_fcntl_long(fd, F_SETLKW, (long)&lock);
	case F_TLOCK:
		return wfs_fcntl_long(fd, F_SETLK, (long)&lock);
	case F_TEST:
		if (wfs_fcntl_long(fd, F_GETLK, (long)&lock))
			return -1;
		return lock.l_type == F_UNLCK ? 0 : (int)answer(-EACCES);
	default:
		return (int)answer(-EINVAL);
	}
}
EXPORT(lockf, wfs_lockf);
EXPORT(lockf64, wfs_lockf);

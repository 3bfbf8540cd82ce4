/*
 * open and its family.
 *
 * The placeholder is made after the client's open succeeded, so that a failed open costs
 * no descriptor; when the placeholder cannot be made the file is closed again (a file
 * that O_CREAT made stays, as with the kernel when it runs out of descriptors late).
 * O_PATH opens nothing at the owner: it is a name for the inode. FIFOs in WFS live on the
 * host: their node is a name, their pipe a local FIFO beside the daemon's socket.
 */
#include "shim/preload/calls.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/lock.h"
#include "shim/preload/real.h"

#define TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)

static int open_path_only(struct place *p, int flags, struct client_file *cf,
	struct client_attr *attr)
{
	int rc = client_stat(p->client, &p->where, !(flags & O_NOFOLLOW), attr);

	if (rc)
		return rc;
	if ((flags & O_DIRECTORY) && !S_ISDIR(attr->mode))
		return -ENOTDIR;
	cf->ino = attr->ino;
	cf->generation = attr->generation;
	cf->mode = attr->mode;
	return 0;
}

static int open_fifo(struct client *c, struct client_file *cf, int flags)
{
	char path[FS_MOUNT_MAX + 32];
	int fd;

	client_close(c, cf);
	if (!side_path("fifos", cf->ino, path, sizeof(path)))
		return -ENXIO;
	(void)raw(SYS_mknodat, AT_FDCWD, path, S_IFIFO | 0666, 0);
	fd = REAL(open)(path, flags & ~(O_CREAT | O_EXCL | O_TRUNC));
	return fd < 0 ? -errno : fd;
}

/* O_NOATIME is for the owner and root. */
static bool may_hide_reading(struct client *c, const struct client_file *cf)
{
	uid_t uid = (uid_t)raw(SYS_geteuid);
	struct client_attr attr;

	return !uid || (!client_getattr(c, cf->ino, &attr) && attr.uid == uid);
}

/* fd or -errno. */
static int open_place(struct place *p, int flags, mode_t mode)
{
	struct client_file cf = {0};
	struct client_attr attr = {0};
	struct file *f;
	int rc;

	if ((flags & TMPFILE_BIT) == TMPFILE_BIT)
		return -EOPNOTSUPP;
	if ((flags & O_CREAT) && (flags & O_DIRECTORY))
		return -EINVAL;
	if (flags & O_CREAT)
		mode &= 07777 & ~fs_umask();
	if (flags & O_PATH) {
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
		rc = open_path_only(p, flags, &cf, &attr);
	} else {
		rc = client_open(p->client, &p->where, flags, mode, &cf, &attr);
	}
	if (rc)
		return (int)fs_result(rc);
	if (!(flags & O_PATH) && S_ISFIFO(cf.mode))
		return open_fifo(p->client, &cf, flags);
	if (!(flags & O_PATH) && !S_ISREG(cf.mode) && !S_ISDIR(cf.mode)) {
		client_close(p->client, &cf);
		return -ENXIO;
	}
	if ((flags & O_NOATIME) && !may_hide_reading(p->client, &cf)) {
		client_close(p->client, &cf);
		return -EPERM;
	}
	rc = file_new(&cf, (uint32_t)flags, attr.fsid, &f);
	if (rc) {
		client_close(p->client, &cf);
		return rc;
	}
	return fd_install(f, flags & O_CLOEXEC);
}

int wfs_openat_mode(int dirfd, const char *path, int flags, mode_t mode)
{
	struct place p;
	int rc, fd;

	pthread_testcancel();
	rc = place_find(dirfd, path, flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0, &p);
	if (rc < 0)
		return (int)answer(rc);
	if (rc == PLACE_WFS) {
		rc = open_place(&p, flags, mode);
		if (!place_left(&p, rc))
			return (int)answer(rc);
		path = p.outside;
		dirfd = AT_FDCWD;
	}
	if (dirfd == AT_FDCWD)
		fd = REAL(open)(path, flags, mode);
	else
		fd = REAL(openat)(dirfd, path, flags, mode);
	/* Some process's descriptor may be one of ours. */
	if (fd >= 0 && !strncmp(path, "/proc/", 6))
		fd_unknown(fd);
	else if (fd >= 0)
		fd_local(fd);
	return fd;
}

static mode_t open_mode(int flags, va_list ap)
{
	if ((flags & O_CREAT) || (flags & TMPFILE_BIT) == TMPFILE_BIT)
		return va_arg(ap, mode_t);
	return 0;
}

static int WFS_USED wfs_open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = open_mode(flags, ap);
	va_end(ap);
	return wfs_openat_mode(AT_FDCWD, path, flags, mode);
}
EXPORT(open, wfs_open);
EXPORT(open64, wfs_open);
EXPORT(__open, wfs_open);
EXPORT(__open64, wfs_open);

static int WFS_USED wfs_openat(int dirfd, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = open_mode(flags, ap);
	va_end(ap);
	return wfs_openat_mode(dirfd, path, flags, mode);
}
EXPORT(openat, wfs_openat);
EXPORT(openat64, wfs_openat);

static int WFS_USED wfs_open_2(const char *path, int flags)
{
	return wfs_openat_mode(AT_FDCWD, path, flags, 0);
}
EXPORT(__open_2, wfs_open_2);
EXPORT(__open64_2, wfs_open_2);

static int WFS_USED wfs_openat_2(int dirfd, const char *path, int flags)
{
	return wfs_openat_mode(dirfd, path, flags, 0);
}
EXPORT(__openat_2, wfs_openat_2);
EXPORT(__openat64_2, wfs_openat_2);

static int WFS_USED wfs_creat(const char *path, mode_t mode)
{
	return wfs_openat_mode(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORT(creat, wfs_creat);
EXPORT(creat64, wfs_creat);

int wfs_close(int fd)
{
	return (int)answer(fd_close(fd));
}
EXPORT(close, wfs_close);
EXPORT(__close, wfs_close);

int wfs_dup(int fd)
{
	return (int)answer(fd_dup(fd, 0, false));
}
EXPORT(dup, wfs_dup);

int wfs_dup2(int from, int to)
{
	if (from == to)
		return raw(SYS_fcntl, from, F_GETFD) < 0 ? (int)answer(-EBADF) : to;
	return (int)answer(fd_dup_to(from, to, 0));
}
EXPORT(dup2, wfs_dup2);
EXPORT(__dup2, wfs_dup2);

int wfs_dup3(int from, int to, int flags)
{
	return (int)answer(fd_dup_to(from, to, flags));
}
EXPORT(dup3, wfs_dup3);

/* Close what lies between the reserved numbers. */
int wfs_close_range(unsigned first, unsigned last, int flags)
{
	unsigned at = first;
	long rc = 0;

	if (!fs_on() || (flags & ~CLOSE_RANGE_UNSHARE))
		return REAL(close_range)(first, last, flags);
	if (last < first)
		return (int)answer(-EINVAL);
	while (!rc && at <= last) {
		int kept = at < FD_TABLE_SIZE ? fd_reserved_next((int)at) : -1;
		unsigned end = kept < 0 || (unsigned)kept > last ? last : (unsigned)kept - 1;

		if (end >= at && !(kept == 0)) {
			fd_closing_range(at, end);
			rc = raw(SYS_close_range, at, end, flags);
		}
		if (end == last)
			break;
		at = (unsigned)kept + 1;
	}
	return (int)answer(rc);
}
EXPORT(close_range, wfs_close_range);

static void WFS_USED wfs_closefrom(int first)
{
	(void)wfs_close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}
EXPORT(closefrom, wfs_closefrom);

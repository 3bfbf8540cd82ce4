/*
 * Names: making, removing, linking and renaming.
 *
 * Each call finds its place, asks the client, and when the path leads out of the mount
 * asks the real function with where it leads. Two-path calls with one foot on each side
 * fail with EXDEV, as between any two file systems.
 */
#include <linux/limits.h>
#include <string.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

static int finish(long rc)
{
	return (int)answer(fs_result(rc));
}

int wfs_mkdirat(int dirfd, const char *path, mode_t mode)
{
	struct place p;
	int rc = place_find(dirfd, path, AT_SYMLINK_NOFOLLOW, &p);

	if (rc == PLACE_LOCAL)
		return REAL(mkdirat)(dirfd, path, mode);
	if (rc == PLACE_WFS) {
		rc = client_mkdir(p.client, &p.where, mode & 01777 & ~fs_umask(), NULL);
		if (place_left(&p, rc))
			return REAL(mkdirat)(AT_FDCWD, p.outside, mode);
	}
	return finish(rc);
}
EXPORT(mkdirat, wfs_mkdirat);

static int WFS_USED wfs_mkdir(const char *path, mode_t mode)
{
	return wfs_mkdirat(AT_FDCWD, path, mode);
}
EXPORT(mkdir, wfs_mkdir);

int wfs_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
	struct place p;
	int rc = place_find(dirfd, path, AT_SYMLINK_NOFOLLOW, &p);

	if (rc == PLACE_LOCAL)
		return REAL(mknodat)(dirfd, path, mode, dev);
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	if (rc == PLACE_WFS) {
		rc = S_ISDIR(mode) ? -EPERM
				   : client_mknod(p.client, &p.where,
					     mode & ~fs_umask(), dev, NULL);
		if (place_left(&p, rc))
			return REAL(mknodat)(AT_FDCWD, p.outside, mode, dev);
	}
	return finish(rc);
}
EXPORT(mknodat, wfs_mknodat);

static int WFS_USED wfs_mknod(const char *path, mode_t mode, dev_t dev)
{
	return wfs_mknodat(AT_FDCWD, path, mode, dev);
}
EXPORT(mknod, wfs_mknod);

static int WFS_USED wfs_xmknod(int version, const char *path, mode_t mode, dev_t *dev)
{
	(void)version;
	return wfs_mknodat(AT_FDCWD, path, mode, *dev);
}
EXPORT(__xmknod, wfs_xmknod);

static int WFS_USED wfs_xmknodat(
	int version, int dirfd, const char *path, mode_t mode, dev_t *dev)
{
	(void)version;
	return wfs_mknodat(dirfd, path, mode, *dev);
}
EXPORT(__xmknodat, wfs_xmknodat);

static int WFS_USED wfs_mkfifoat(int dirfd, const char *path, mode_t mode)
{
	return wfs_mknodat(dirfd, path, (mode & 07777) | S_IFIFO, 0);
}
EXPORT(mkfifoat, wfs_mkfifoat);

static int WFS_USED wfs_mkfifo(const char *path, mode_t mode)
{
	return wfs_mkfifoat(AT_FDCWD, path, mode);
}
EXPORT(mkfifo, wfs_mkfifo);

int wfs_unlinkat(int dirfd, const char *path, int flags)
{
	struct place p;
	int rc = place_find(dirfd, path, AT_SYMLINK_NOFOLLOW, &p);

	if (rc == PLACE_LOCAL)
		return REAL(unlinkat)(dirfd, path, flags);
	if (rc == PLACE_WFS && (flags & ~AT_REMOVEDIR))
		rc = -EINVAL;
	if (rc == PLACE_WFS) {
		rc = flags & AT_REMOVEDIR ? client_rmdir(p.client, &p.where)
					  : client_unlink(p.client, &p.where);
		if (place_left(&p, rc))
			return REAL(unlinkat)(AT_FDCWD, p.outside, flags);
	}
	return finish(rc);
}
EXPORT(unlinkat, wfs_unlinkat);

static int WFS_USED wfs_unlink(const char *path)
{
	return wfs_unlinkat(AT_FDCWD, path, 0);
}
EXPORT(unlink, wfs_unlink);

static int WFS_USED wfs_rmdir(const char *path)
{
	return wfs_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
EXPORT(rmdir, wfs_rmdir);

static int WFS_USED wfs_remove(const char *path)
{
	int saved = errno;

	if (!wfs_unlinkat(AT_FDCWD, path, 0))
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	errno = saved;
	return wfs_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}
EXPORT(remove, wfs_remove);

/* --- two paths ---------------------------------------------------------------------- */

struct pair {
	struct place from;
	struct place to;
};

/* PLACE_WFS when both are; PLACE_LOCAL when neither is. */
static int pair_find(int from_fd, const char *from, int from_flags, int to_fd,
	const char *to, struct pair *pair)
{
	int a = place_find(from_fd, from, from_flags, &pair->from);
	int b;

	if (a < 0)
		return a;
	b = place_find(to_fd, to, AT_SYMLINK_NOFOLLOW, &pair->to);
	if (b < 0 || a == b)
		return b < 0 ? b : a;
	return -EXDEV;
}

/* -EXDEV from the client for a pair: both sides lead outside to one local call, or not. */
static bool pair_left(struct pair *pair, int rc)
{
	struct client_attr attr;

	if (!place_left(&pair->from, rc) && !place_left(&pair->to, rc))
		return false;
	if (!pair->from.outside[0])
		(void)client_stat(pair->from.client, &pair->from.where, false, &attr);
	if (!pair->to.outside[0])
		(void)client_stat(pair->to.client, &pair->to.where, false, &attr);
	return pair->from.outside[0] && pair->to.outside[0];
}

int wfs_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	struct pair pair;
	int rc = pair_find(from_fd, from, AT_SYMLINK_NOFOLLOW, to_fd, to, &pair);

	if (rc == PLACE_LOCAL)
		return flags ? REAL(renameat2)(from_fd, from, to_fd, to, flags)
			     : REAL(renameat)(from_fd, from, to_fd, to);
	if (rc == PLACE_WFS) {
		rc = client_rename(pair.from.client, &pair.from.where, &pair.to.where, flags);
		if (pair_left(&pair, rc))
			return REAL(renameat2)(AT_FDCWD, pair.from.outside, AT_FDCWD,
				pair.to.outside, flags);
	}
	return finish(rc);
}
EXPORT(renameat2, wfs_renameat2);

static int WFS_USED wfs_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return wfs_renameat2(from_fd, from, to_fd, to, 0);
}
EXPORT(renameat, wfs_renameat);

static int WFS_USED wfs_rename(const char *from, const char *to)
{
	return wfs_renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}
EXPORT(rename, wfs_rename);

int wfs_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	int find = flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW;
	struct pair pair;
	int rc;

	rc = pair_find(from_fd, from, find | (flags & AT_EMPTY_PATH), to_fd, to, &pair);
	if (rc == PLACE_LOCAL)
		return REAL(linkat)(from_fd, from, to_fd, to, flags);
	if (rc == PLACE_WFS && (flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)))
		rc = -EINVAL;
	if (rc == PLACE_WFS) {
		rc = client_link(pair.from.client, &pair.from.where,
			flags & AT_SYMLINK_FOLLOW, &pair.to.where);
		if (pair_left(&pair, rc))
			return REAL(linkat)(AT_FDCWD, pair.from.outside, AT_FDCWD,
				pair.to.outside, flags);
	}
	return finish(rc);
}
EXPORT(linkat, wfs_linkat);

static int WFS_USED wfs_link(const char *from, const char *to)
{
	return wfs_linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}
EXPORT(link, wfs_link);

/* --- symbolic links ----------------------------------------------------------------- */

int wfs_symlinkat(const char *target, int dirfd, const char *path)
{
	struct place p;
	int rc = place_find(dirfd, path, AT_SYMLINK_NOFOLLOW, &p);

	if (rc == PLACE_LOCAL)
		return REAL(symlinkat)(target, dirfd, path);
	if (rc == PLACE_WFS) {
		size_t size = strlen(target);

		if (!size)
			rc = -ENOENT;
		else if (size > WFS_SYMLINK_MAX)
			rc = -ENAMETOOLONG;
		else
			rc = client_symlink(p.client, target, &p.where, NULL);
		if (place_left(&p, rc))
			return REAL(symlinkat)(target, AT_FDCWD, p.outside);
	}
	return finish(rc);
}
EXPORT(symlinkat, wfs_symlinkat);

static int WFS_USED wfs_symlink(const char *target, const char *path)
{
	return wfs_symlinkat(target, AT_FDCWD, path);
}
EXPORT(symlink, wfs_symlink);

/* readlink("/proc/self/fd/N") of a WFS directory: where it is. 0: not such a path. */
static ssize_t readlink_fd(const char *path, char *buffer, size_t size)
{
	char name[WFS_PATH_MAX];
	struct place p;
	size_t mount = fs_settings()->mount_size, length;
	int rc;

	if (!fs_on() || !path || (strncmp(path, "/proc/", 6) && strncmp(path, "/dev/", 5)))
		return 0;
	rc = place_find(AT_FDCWD, path, AT_EMPTY_PATH, &p);
	if (rc != PLACE_WFS || *p.where.path ||
		client_path_of(p.client, p.where.start, name, sizeof(name)))
		return 0;
	length = strcmp(name, "/") ? strlen(name) : 0;
	if (mount > size)
		mount = size;
	memcpy(buffer, fs_settings()->mount, mount);
	if (length > size - mount)
		length = size - mount;
	memcpy(buffer + mount, name, length);
	return (ssize_t)(mount + length);
}

ssize_t wfs_readlinkat(int dirfd, const char *path, char *buffer, size_t size)
{
	struct place p;
	ssize_t rc = place_find(dirfd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &p);

	if (rc == PLACE_LOCAL) {
		rc = readlink_fd(path, buffer, size);
		return rc ? rc : REAL(readlinkat)(dirfd, path, buffer, size);
	}
	if (rc == PLACE_WFS) {
		rc = size ? client_readlink(p.client, &p.where, buffer, size) : -EINVAL;
		if (place_left(&p, rc))
			return REAL(readlinkat)(AT_FDCWD, p.outside, buffer, size);
	}
	return answer(fs_result(rc));
}
EXPORT(readlinkat, wfs_readlinkat);

static ssize_t WFS_USED wfs_readlink(const char *path, char *buffer, size_t size)
{
	return wfs_readlinkat(AT_FDCWD, path, buffer, size);
}
EXPORT(readlink, wfs_readlink);

static ssize_t WFS_USED wfs_readlink_chk(
	const char *path, char *buffer, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return wfs_readlinkat(AT_FDCWD, path, buffer, size);
}
EXPORT(__readlink_chk, wfs_readlink_chk);

static ssize_t WFS_USED wfs_readlinkat_chk(
	int dirfd, const char *path, char *buffer, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return wfs_readlinkat(dirfd, path, buffer, size);
}
EXPORT(__readlinkat_chk, wfs_readlinkat_chk);

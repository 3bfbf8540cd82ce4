/* Permissions, owners, times and extended attributes. */
#include <string.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

/* Set by descriptor. PLACE_LOCAL, PLACE_WFS (done) or an error. */
static int set_fd(int fd, struct client_set *set)
{
	struct where self = {.path = ""};
	struct client_attr attr;
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc || !f)
		return rc ? rc : PLACE_LOCAL;
	self.start = f->cf.ino;
	if (f->flags & O_PATH)
		rc = -EBADF;
	else
		rc = client_setattr(c, &self, true, set, &attr);
	fd_put(f);
	return rc ? (int)fs_result(rc) : PLACE_WFS;
}

/* Set by path. As set_fd; PLACE_LOCAL: with *dirfd and *path. */
static int set_path(int *dirfd, const char **path, int flags, struct place *p,
	const struct client_set *set)
{
	struct client_attr attr;
	int rc = place_find(*dirfd, *path, flags, p);

	if (rc != PLACE_WFS)
		return rc;
	rc = client_setattr(p->client, &p->where, !(flags & AT_SYMLINK_NOFOLLOW), set, &attr);
	if (place_left(p, rc)) {
		*dirfd = AT_FDCWD;
		*path = p->outside;
		return PLACE_LOCAL;
	}
	return rc ? (int)fs_result(rc) : PLACE_WFS;
}

static int done(int rc)
{
	return rc < 0 ? (int)answer(rc) : 0;
}

int wfs_fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
	struct client_set set = {.mask = CLIENT_SET_MODE, .mode = mode & 07777};
	struct place p;
	int rc;

	if (path_is_wfs(dirfd, path)) {
		struct stat st;

		if (flags & ~AT_SYMLINK_NOFOLLOW)
			return (int)answer(-EINVAL);
		if (flags && wfs_fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW))
			return -1;
		if (flags && S_ISLNK(st.st_mode))
			return (int)answer(-EOPNOTSUPP);
	}
	rc = set_path(&dirfd, &path, flags, &p, &set);
	if (rc == PLACE_LOCAL)
		return REAL(fchmodat)(dirfd, path, mode, flags);
	return done(rc);
}
EXPORT(fchmodat, wfs_fchmodat);

static int WFS_USED wfs_chmod(const char *path, mode_t mode)
{
	return wfs_fchmodat(AT_FDCWD, path, mode, 0);
}
EXPORT(chmod, wfs_chmod);

static int WFS_USED wfs_lchmod(const char *path, mode_t mode)
{
	return wfs_fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}
EXPORT(lchmod, wfs_lchmod);

int wfs_fchmod(int fd, mode_t mode)
{
	struct client_set set = {
		.mask = CLIENT_SET_MODE, .mode = mode & 07777, .by_fd = true};
	int rc = set_fd(fd, &set);

	return rc == PLACE_LOCAL ? REAL(fchmod)(fd, mode) : done(rc);
}
EXPORT(fchmod, wfs_fchmod);

static struct client_set owner_set(uid_t uid, gid_t gid)
{
	struct client_set set = {.uid = uid, .gid = gid};

	if (uid != (uid_t)-1)
		set.mask |= CLIENT_SET_UID;
	if (gid != (gid_t)-1)
		set.mask |= CLIENT_SET_GID;
	return set;
}

int wfs_fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
	struct client_set set = owner_set(uid, gid);
	struct place p;
	int rc;

	if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) && path_is_wfs(dirfd, path))
		return (int)answer(-EINVAL);
	rc = set_path(&dirfd, &path, flags, &p, &set);
	return rc == PLACE_LOCAL ? REAL(fchownat)(dirfd, path, uid, gid, flags) : done(rc);
}
EXPORT(fchownat, wfs_fchownat);

static int WFS_USED wfs_chown(const char *path, uid_t uid, gid_t gid)
{
	return wfs_fchownat(AT_FDCWD, path, uid, gid, 0);
}
EXPORT(chown, wfs_chown);

static int WFS_USED wfs_lchown(const char *path, uid_t uid, gid_t gid)
{
	return wfs_fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}
EXPORT(lchown, wfs_lchown);

int wfs_fchown(int fd, uid_t uid, gid_t gid)
{
	struct client_set set = owner_set(uid, gid);
	int rc;

	set.by_fd = true;
	rc = set_fd(fd, &set);
	return rc == PLACE_LOCAL ? REAL(fchown)(fd, uid, gid) : done(rc);
}
EXPORT(fchown, wfs_fchown);

/* --- times -------------------------------------------------------------------------- */

static int64_t ns_of(const struct timespec *t)
{
	return t->tv_sec * 1000000000ll + t->tv_nsec;
}

static int times_set(const struct timespec times[2], struct client_set *set)
{
	*set = (struct client_set){0};
	for (int i = 0; times && i < 2; i++)
		if ((times[i].tv_nsec < 0 || times[i].tv_nsec > 999999999) &&
			times[i].tv_nsec != UTIME_NOW && times[i].tv_nsec != UTIME_OMIT)
			return -EINVAL;
	if (!times || times[0].tv_nsec == UTIME_NOW)
		set->mask |= CLIENT_SET_ATIME | CLIENT_SET_ATIME_NOW;
	else if (times[0].tv_nsec != UTIME_OMIT)
		set->mask |= CLIENT_SET_ATIME, set->atime_ns = ns_of(&times[0]);
	if (!times || times[1].tv_nsec == UTIME_NOW)
		set->mask |= CLIENT_SET_MTIME | CLIENT_SET_MTIME_NOW;
	else if (times[1].tv_nsec != UTIME_OMIT)
		set->mask |= CLIENT_SET_MTIME, set->mtime_ns = ns_of(&times[1]);
	return 0;
}

static int WFS_USED wfs_futimens(int fd, const struct timespec times[2])
{
	struct client_set set;
	struct file *f = fd_file(fd);
	int rc;

	if (!f)
		return REAL(futimens)(fd, times);
	fd_put(f);
	rc = times_set(times, &set);
	set.by_fd = true;
	return done(rc ? rc : set.mask ? set_fd(fd, &set) : 0);
}
EXPORT(futimens, wfs_futimens);

int wfs_utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
	struct client_set set;
	struct place p;
	int rc;

	if (!path)
		return wfs_futimens(dirfd, times);
	if (!path_is_wfs(dirfd, path))
		return REAL(utimensat)(dirfd, path, times, flags);
	rc = flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) ? -EINVAL
							    : times_set(times, &set);
	if (!rc)
		rc = set_path(&dirfd, &path, flags, &p, &set);
	return rc == PLACE_LOCAL ? REAL(utimensat)(dirfd, path, times, flags) : done(rc);
}
EXPORT(utimensat, wfs_utimensat);

static const struct timespec *times_of(const struct timeval tv[2], struct timespec ts[2])
{
	if (!tv)
		return NULL;
	for (int i = 0; i < 2; i++) {
		ts[i].tv_sec = tv[i].tv_sec;
		ts[i].tv_nsec = tv[i].tv_usec * 1000;
		if (tv[i].tv_usec < 0 || tv[i].tv_usec > 999999)
			ts[i].tv_nsec = -1;
	}
	return ts;
}

int wfs_utimes(const char *path, const struct timeval tv[2])
{
	struct timespec ts[2];

	return wfs_utimensat(AT_FDCWD, path, times_of(tv, ts), 0);
}
EXPORT(utimes, wfs_utimes);

static int WFS_USED wfs_lutimes(const char *path, const struct timeval tv[2])
{
	struct timespec ts[2];

	return wfs_utimensat(AT_FDCWD, path, times_of(tv, ts), AT_SYMLINK_NOFOLLOW);
}
EXPORT(lutimes, wfs_lutimes);

static int WFS_USED wfs_futimes(int fd, const struct timeval tv[2])
{
	struct timespec ts[2];

	return wfs_futimens(fd, times_of(tv, ts));
}
EXPORT(futimes, wfs_futimes);

static int WFS_USED wfs_futimesat(int dirfd, const char *path, const struct timeval tv[2])
{
	struct timespec ts[2];

	return wfs_utimensat(dirfd, path, times_of(tv, ts), 0);
}
EXPORT(futimesat, wfs_futimesat);

int wfs_utime(const char *path, const struct utimbuf *times)
{
	struct timespec ts[2] = {{0}};

	if (times) {
		ts[0].tv_sec = times->actime;
		ts[1].tv_sec = times->modtime;
	}
	return wfs_utimensat(AT_FDCWD, path, times ? ts : NULL, 0);
}
EXPORT(utime, wfs_utime);

/* --- extended attributes ------------------------------------------------------------ */

enum xattr_op { XATTR_GET, XATTR_SET, XATTR_LIST, XATTR_REMOVE };

struct xattr_call {
	enum xattr_op op;
	const char *name;
	void *value;
	size_t size;
	int flags;
};

/*
 * ACLs, labels and file capabilities are not enforced here, so they are not stored either:
 * programs then ask once per device instead of once per file.
 */
static bool xattr_declined(const char *name)
{
	static const char *const names[] = {"system.posix_acl_access",
		"system.posix_acl_default", "system.nfs4_acl", "security.selinux",
		"security.capability", "security.SMACK64"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static ssize_t xattr_run(
	struct client *c, struct where *w, bool follow, const struct xattr_call *x)
{
	size_t name_size = x->name ? strlen(x->name) : 1;

	if (!name_size || name_size > WFS_XATTR_NAME_MAX)
		return -ERANGE;
	if (x->name && xattr_declined(x->name))
		return -EOPNOTSUPP;
	if (x->op == XATTR_SET && x->size > WFS_XATTR_SIZE_MAX)
		return -E2BIG;
	switch (x->op) {
	case XATTR_GET:
		return client_getxattr(c, w, follow, x->name, x->value, x->size);
	case XATTR_SET:
		return client_setxattr(c, w, follow, x->name, x->value, x->size, x->flags);
	case XATTR_LIST:
		return client_listxattr(c, w, follow, x->value, x->size);
	default:
		return client_removexattr(c, w, follow, x->name);
	}
}

/* True: done, *rc is the answer. False: local, with *path. */
static bool xattr_path(const char **path, int flags, struct place *p,
	const struct xattr_call *x, ssize_t *rc)
{
	int found = place_find(AT_FDCWD, *path, flags, p);

	if (found == PLACE_LOCAL)
		return false;
	*rc = found;
	if (found == PLACE_WFS)
		*rc = xattr_run(p->client, &p->where, !(flags & AT_SYMLINK_NOFOLLOW), x);
	if (place_left(p, *rc) && found == PLACE_WFS) {
		*path = p->outside;
		return false;
	}
	*rc = answer(fs_result(*rc));
	return true;
}

static bool xattr_fd(int fd, const struct xattr_call *x, ssize_t *rc)
{
	struct where self = {.path = ""};
	struct file *f;
	struct client *c;

	*rc = fd_client(fd, &f, &c);
	if (!*rc && !f)
		return false;
	if (!*rc) {
		self.start = f->cf.ino;
		*rc = f->flags & O_PATH ? -EBADF : xattr_run(c, &self, true, x);
		fd_put(f);
	}
	*rc = answer(fs_result(*rc));
	return true;
}

#define XATTR_PATH_CALL(type, fn, follow_flags, params, call, args)                      \
	type wfs_##fn params                                                             \
	{                                                                                \
		struct xattr_call x = call;                                              \
		struct place p;                                                          \
		ssize_t rc;                                                              \
                                                                                         \
		if (xattr_path(&path, follow_flags, &p, &x, &rc))                        \
			return (type)rc;                                                 \
		return REAL(fn) args;                                                    \
	}                                                                                \
	EXPORT(fn, wfs_##fn)
#define XATTR_FD_CALL(type, fn, params, call, args)                                      \
	type wfs_##fn params                                                             \
	{                                                                                \
		struct xattr_call x = call;                                              \
		ssize_t rc;                                                              \
                                                                                         \
		if (xattr_fd(fd, &x, &rc))                                               \
			return (type)rc;                                                 \
		return REAL(fn) args;                                                    \
	}                                                                                \
	EXPORT(fn, wfs_##fn)

#define CALL_GET    {XATTR_GET, name, value, size, 0}
#define CALL_SET    {XATTR_SET, name, (void *)value, size, flags}
#define CALL_LIST   {XATTR_LIST, NULL, names, size, 0}
#define CALL_REMOVE {XATTR_REMOVE, name, NULL, 0, 0}
#define BRACED(...) __VA_ARGS__

XATTR_PATH_CALL(ssize_t, getxattr, 0,
	(const char *path, const char *name, void *value, size_t size), BRACED(CALL_GET),
	(path, name, value, size));
XATTR_PATH_CALL(ssize_t, lgetxattr, AT_SYMLINK_NOFOLLOW,
	(const char *path, const char *name, void *value, size_t size), BRACED(CALL_GET),
	(path, name, value, size));
XATTR_FD_CALL(ssize_t, fgetxattr, (int fd, const char *name, void *value, size_t size),
	BRACED(CALL_GET), (fd, name, value, size));
XATTR_PATH_CALL(int, setxattr, 0,
	(const char *path, const char *name, const void *value, size_t size, int flags),
	BRACED(CALL_SET), (path, name, value, size, flags));
XATTR_PATH_CALL(int, lsetxattr, AT_SYMLINK_NOFOLLOW,
	(const char *path, const char *name, const void *value, size_t size, int flags),
	BRACED(CALL_SET), (path, name, value, size, flags));
XATTR_FD_CALL(int, fsetxattr,
	(int fd, const char *name, const void *value, size_t size, int flags),
	BRACED(CALL_SET), (fd, name, value, size, flags));
XATTR_PATH_CALL(ssize_t, listxattr, 0, (const char *path, char *names, size_t size),
	BRACED(CALL_LIST), (path, names, size));
XATTR_PATH_CALL(ssize_t, llistxattr, AT_SYMLINK_NOFOLLOW,
	(const char *path, char *names, size_t size), BRACED(CALL_LIST), (path, names, size));
XATTR_FD_CALL(ssize_t, flistxattr, (int fd, char *names, size_t size), BRACED(CALL_LIST),
	(fd, names, size));
XATTR_PATH_CALL(int, removexattr, 0, (const char *path, const char *name),
	BRACED(CALL_REMOVE), (path, name));
XATTR_PATH_CALL(int, lremovexattr, AT_SYMLINK_NOFOLLOW,
	(const char *path, const char *name), BRACED(CALL_REMOVE), (path, name));
XATTR_FD_CALL(int, fremovexattr, (int fd, const char *name), BRACED(CALL_REMOVE), (fd, name));

/*
 * stat, statx, access, statfs and what pathconf knows.
 *
 * A file system is one device: major 0, minor 0x57460 + its id. st_blksize 64 KiB is the
 * size coreutils then reads with. access() is computed from the attributes by the real or
 * the effective ids; the walk to the file has been checked by the owner.
 */
#include <limits.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define STAT_BLKSIZE  65536
#define STATFS_MAGIC  0x53464557 /* "WEFS" */
#define MINOR_BASE    0x57460u

dev_t stat_device(uint32_t fsid)
{
	return makedev(0, MINOR_BASE + fsid);
}

static struct timespec time_of(int64_t ns)
{
	struct timespec t = {ns / 1000000000, ns % 1000000000};

	if (t.tv_nsec < 0) {
		t.tv_nsec += 1000000000;
		t.tv_sec--;
	}
	return t;
}

void stat_fill(const struct client_attr *attr, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_dev = stat_device(attr->fsid);
	st->st_ino = attr->ino;
	st->st_mode = attr->mode;
	st->st_nlink = attr->nlink;
	st->st_uid = attr->uid;
	st->st_gid = attr->gid;
	st->st_rdev = attr->rdev;
	st->st_size = (off_t)attr->size_bytes;
	st->st_blksize = STAT_BLKSIZE;
	st->st_blocks = (blkcnt_t)attr->blocks_512;
	st->st_atim = time_of(attr->atime_ns);
	st->st_mtim = time_of(attr->mtime_ns);
	st->st_ctim = time_of(attr->ctime_ns);
}

static struct statx_timestamp stamp_of(int64_t ns)
{
	struct timespec t = time_of(ns);

	return (struct statx_timestamp){.tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec};
}

static void statx_fill(const struct client_attr *attr, struct statx *stx)
{
	memset(stx, 0, sizeof(*stx));
	stx->stx_mask = STATX_BASIC_STATS | STATX_BTIME;
	stx->stx_blksize = STAT_BLKSIZE;
	stx->stx_nlink = attr->nlink;
	stx->stx_uid = attr->uid;
	stx->stx_gid = attr->gid;
	stx->stx_mode = (uint16_t)attr->mode;
	stx->stx_ino = attr->ino;
	stx->stx_size = attr->size_bytes;
	stx->stx_blocks = attr->blocks_512;
	stx->stx_atime = stamp_of(attr->atime_ns);
	stx->stx_btime = stamp_of(attr->btime_ns);
	stx->stx_ctime = stamp_of(attr->ctime_ns);
	stx->stx_mtime = stamp_of(attr->mtime_ns);
	stx->stx_rdev_major = major(attr->rdev);
	stx->stx_rdev_minor = minor(attr->rdev);
	stx->stx_dev_major = major(stat_device(attr->fsid));
	stx->stx_dev_minor = minor(stat_device(attr->fsid));
}

/* PLACE_WFS and *attr; or PLACE_LOCAL with *path and *dirfd to use; or an error. */
static int attr_find(int *dirfd, const char **path, int flags, struct place *p,
	struct client_attr *attr)
{
	int rc = place_find(*dirfd, *path, flags, p);

	if (rc != PLACE_WFS)
		return rc;
	rc = client_stat(p->client, &p->where, !(flags & AT_SYMLINK_NOFOLLOW), attr);
	if (place_left(p, rc)) {
		*path = p->outside;
		*dirfd = AT_FDCWD;
		return PLACE_LOCAL;
	}
	return rc ? (int)fs_result(rc) : PLACE_WFS;
}

#define STAT_FLAGS (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)

int wfs_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	struct client_attr attr;
	struct place p;
	int rc = attr_find(&dirfd, &path, flags, &p, &attr);

	if (rc == PLACE_LOCAL)
		return REAL(fstatat)(dirfd, path, st, flags);
	if (flags & ~STAT_FLAGS)
		rc = -EINVAL;
	if (rc < 0)
		return (int)answer(rc);
	stat_fill(&attr, st);
	return 0;
}
EXPORT(fstatat, wfs_fstatat);
EXPORT(fstatat64, wfs_fstatat);

static int WFS_USED wfs_stat(const char *path, struct stat *st)
{
	return wfs_fstatat(AT_FDCWD, path, st, 0);
}
EXPORT(stat, wfs_stat);
EXPORT(stat64, wfs_stat);

static int WFS_USED wfs_lstat(const char *path, struct stat *st)
{
	return wfs_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}
EXPORT(lstat, wfs_lstat);
EXPORT(lstat64, wfs_lstat);

int wfs_fstat(int fd, struct stat *st)
{
	struct client_attr attr;
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc)
		return (int)answer(rc);
	if (!f)
		return REAL(fstat)(fd, st);
	rc = client_getattr(c, f->cf.ino, &attr);
	fd_put(f);
	if (!rc)
		stat_fill(&attr, st);
	return (int)answer(fs_result(rc));
}
EXPORT(fstat, wfs_fstat);
EXPORT(fstat64, wfs_fstat);
EXPORT(__fstat64, wfs_fstat);

/* The entry points of programs linked against glibc before 2.33. */
static int WFS_USED wfs_xstat(int version, const char *path, struct stat *st)
{
	(void)version;
	return wfs_fstatat(AT_FDCWD, path, st, 0);
}
EXPORT(__xstat, wfs_xstat);
EXPORT(__xstat64, wfs_xstat);

static int WFS_USED wfs_lxstat(int version, const char *path, struct stat *st)
{
	(void)version;
	return wfs_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}
EXPORT(__lxstat, wfs_lxstat);
EXPORT(__lxstat64, wfs_lxstat);

static int WFS_USED wfs_fxstat(int version, int fd, struct stat *st)
{
	(void)version;
	return wfs_fstat(fd, st);
}
EXPORT(__fxstat, wfs_fxstat);
EXPORT(__fxstat64, wfs_fxstat);

static int WFS_USED wfs_fxstatat(
	int version, int dirfd, const char *path, struct stat *st, int flags)
{
	(void)version;
	return wfs_fstatat(dirfd, path, st, flags);
}
EXPORT(__fxstatat, wfs_fxstatat);
EXPORT(__fxstatat64, wfs_fxstatat);

int wfs_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *stx)
{
	struct client_attr attr;
	struct place p;
	int rc = attr_find(&dirfd, &path, flags, &p, &attr);

	if (rc == PLACE_LOCAL)
		return REAL(statx)(dirfd, path, flags, mask, stx);
	if ((flags & ~(STAT_FLAGS | AT_STATX_SYNC_TYPE)) || (mask & STATX__RESERVED) ||
		(flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
		rc = -EINVAL;
	if (rc < 0)
		return (int)answer(rc);
	statx_fill(&attr, stx);
	return 0;
}
EXPORT(statx, wfs_statx);

/* --- access ------------------------------------------------------------------------- */

static bool in_group(gid_t gid, gid_t own)
{
	gid_t groups[1024];
	long count;

	if (gid == own)
		return true;
	count = raw(SYS_getgroups, 1024, groups);
	for (long i = 0; i < count; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

int access_check(const struct client_attr *attr, int want, bool effective)
{
	uid_t uid = (uid_t)raw(effective ? SYS_geteuid : SYS_getuid);
	gid_t gid = (gid_t)raw(effective ? SYS_getegid : SYS_getgid);
	uint32_t bits;

	if (!uid) {
		bool executable = S_ISDIR(attr->mode) || (attr->mode & 0111);

		return (want & X_OK) && !executable ? -EACCES : 0;
	}
	if (attr->uid == uid)
		bits = attr->mode >> 6;
	else if (in_group(attr->gid, gid))
		bits = attr->mode >> 3;
	else
		bits = attr->mode;
	return ((uint32_t)want & 7 & ~bits) ? -EACCES : 0;
}

int wfs_faccessat(int dirfd, const char *path, int mode, int flags)
{
	struct client_attr attr;
	struct place p;
	int rc = attr_find(&dirfd, &path, flags, &p, &attr);

	if (rc == PLACE_LOCAL && dirfd == AT_FDCWD && !flags)
		return REAL(access)(path, mode);
	if (rc == PLACE_LOCAL)
		return REAL(faccessat)(dirfd, path, mode, flags);
	if ((mode & ~7) || (flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
		rc = -EINVAL;
	if (rc == PLACE_WFS)
		rc = access_check(&attr, mode, flags & AT_EACCESS);
	return (int)answer(rc);
}
EXPORT(faccessat, wfs_faccessat);

static int WFS_USED wfs_access(const char *path, int mode)
{
	return wfs_faccessat(AT_FDCWD, path, mode, 0);
}
EXPORT(access, wfs_access);

static int WFS_USED wfs_eaccess(const char *path, int mode)
{
	return wfs_faccessat(AT_FDCWD, path, mode, AT_EACCESS);
}
EXPORT(eaccess, wfs_eaccess);
EXPORT(euidaccess, wfs_eaccess);

/* --- the file system ---------------------------------------------------------------- */

static int statfs_get(struct client *c, struct statfs *out)
{
	struct client_statfs st;
	int rc = client_statfs(c, &st);

	if (rc)
		return (int)fs_result(rc);
	memset(out, 0, sizeof(*out));
	out->f_type = STATFS_MAGIC;
	out->f_bsize = WFS_BLOCK_SIZE;
	out->f_frsize = WFS_BLOCK_SIZE;
	out->f_blocks = st.size_bytes / WFS_BLOCK_SIZE;
	out->f_bfree = st.free_bytes / WFS_BLOCK_SIZE;
	out->f_bavail = out->f_bfree;
	out->f_files = st.inodes + out->f_bfree;
	out->f_ffree = out->f_bfree;
	out->f_namelen = WFS_NAME_MAX;
	return 0;
}

static void statvfs_of(const struct statfs *from, struct statvfs *out)
{
	memset(out, 0, sizeof(*out));
	out->f_bsize = (unsigned long)from->f_bsize;
	out->f_frsize = (unsigned long)from->f_frsize;
	out->f_blocks = from->f_blocks;
	out->f_bfree = from->f_bfree;
	out->f_bavail = from->f_bavail;
	out->f_files = from->f_files;
	out->f_ffree = from->f_ffree;
	out->f_favail = from->f_ffree;
	out->f_namemax = (unsigned long)from->f_namelen;
}

/* As attr_find, for a call that has only a path; the attributes are not wanted. */
static int statfs_path(const char **path, struct place *p, struct statfs *out)
{
	struct client_attr attr;
	int dirfd = AT_FDCWD;
	int rc = attr_find(&dirfd, path, 0, p, &attr);

	if (rc != PLACE_WFS)
		return rc;
	rc = statfs_get(p->client, out);
	return rc ? rc : PLACE_WFS;
}

static int statfs_fd(int fd, struct statfs *out)
{
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc || !f)
		return rc ? rc : PLACE_LOCAL;
	rc = statfs_get(c, out);
	fd_put(f);
	return rc ? rc : PLACE_WFS;
}

int wfs_statfs(const char *path, struct statfs *out)
{
	struct place p;
	int rc = statfs_path(&path, &p, out);

	if (rc == PLACE_LOCAL)
		return REAL(statfs)(path, out);
	return rc < 0 ? (int)answer(rc) : 0;
}
EXPORT(statfs, wfs_statfs);
EXPORT(statfs64, wfs_statfs);
EXPORT(__statfs, wfs_statfs);

int wfs_fstatfs(int fd, struct statfs *out)
{
	int rc = statfs_fd(fd, out);

	if (rc == PLACE_LOCAL)
		return REAL(fstatfs)(fd, out);
	return rc < 0 ? (int)answer(rc) : 0;
}
EXPORT(fstatfs, wfs_fstatfs);
EXPORT(fstatfs64, wfs_fstatfs);

static int WFS_USED wfs_statvfs(const char *path, struct statvfs *out)
{
	struct statfs st;
	struct place p;
	int rc = statfs_path(&path, &p, &st);

	if (rc == PLACE_LOCAL)
		return REAL(statvfs)(path, out);
	if (rc < 0)
		return (int)answer(rc);
	statvfs_of(&st, out);
	return 0;
}
EXPORT(statvfs, wfs_statvfs);
EXPORT(statvfs64, wfs_statvfs);

static int WFS_USED wfs_fstatvfs(int fd, struct statvfs *out)
{
	struct statfs st;
	int rc = statfs_fd(fd, &st);

	if (rc == PLACE_LOCAL)
		return REAL(fstatvfs)(fd, out);
	if (rc < 0)
		return (int)answer(rc);
	statvfs_of(&st, out);
	return 0;
}
EXPORT(fstatvfs, wfs_fstatvfs);
EXPORT(fstatvfs64, wfs_fstatvfs);

static long pathconf_value(int name)
{
	switch (name) {
	case _PC_LINK_MAX:
		return WFS_LINK_MAX;
	case _PC_NAME_MAX:
		return WFS_NAME_MAX;
	case _PC_PATH_MAX:
		return WFS_PATH_MAX;
	case _PC_CHOWN_RESTRICTED:
	case _PC_NO_TRUNC:
		return 1;
	case _PC_FILESIZEBITS:
		return 49;
	case _PC_SYMLINK_MAX:
		return WFS_SYMLINK_MAX;
	case _PC_2_SYMLINKS:
		return 1;
	case _PC_PIPE_BUF:
	case _PC_REC_XFER_ALIGN:
	case _PC_ALLOC_SIZE_MIN: return 4096;
	case _PC_REC_MIN_XFER_SIZE: return STAT_BLKSIZE;
	case _PC_MAX_CANON:
	case _PC_MAX_INPUT:
	case _PC_VDISABLE:
	case _PC_SYNC_IO:
	case _PC_ASYNC_IO:
	case _PC_PRIO_IO:
	case _PC_SOCK_MAXBUF:
	case _PC_REC_INCR_XFER_SIZE:
	case _PC_REC_MAX_XFER_SIZE: return -1; /* no limit, or nothing to say */
	default: return answer(-EINVAL);
	}
}

static long WFS_USED wfs_pathconf(const char *path, int name)
{
	struct client_attr attr;
	int dirfd = AT_FDCWD, rc;
	struct place p;

	rc = attr_find(&dirfd, &path, 0, &p, &attr);
	if (rc == PLACE_LOCAL)
		return REAL(pathconf)(path, name);
	return rc < 0 ? answer(rc) : pathconf_value(name);
}
EXPORT(pathconf, wfs_pathconf);

static long WFS_USED wfs_fpathconf(int fd, int name)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(fpathconf)(fd, name);
	fd_put(f);
	return pathconf_value(name);
}
EXPORT(fpathconf, wfs_fpathconf);

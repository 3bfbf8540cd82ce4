/*
 * ftw and nftw for trees in WFS. Every directory on the way down stays open; entries are
 * looked at through their directory's descriptor, which also serves FTW_CHDIR.
 */
#include <ftw.h>
#include <string.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/real.h"

#define LEVELS_MAX 1024

struct chain {
	const struct chain *up;
	dev_t dev;
	ino_t ino;
};

struct walk {
	int (*call)(const char *, const struct stat *, int, struct FTW *);
	int (*call_old)(const char *, const struct stat *, int);
	int flags;
	dev_t dev;
	struct FTW state;
	char path[WFS_PATH_MAX];
};

static int walk_call(struct walk *w, const struct stat *st, int type)
{
	if (w->call)
		return w->call(w->path, st, type, &w->state);
	if (type == FTW_SLN)
		type = FTW_NS;
	return w->call_old(w->path, st, type);
}

static bool chain_has(const struct chain *c, const struct stat *st)
{
	for (; c; c = c->up)
		if (c->dev == st->st_dev && c->ino == st->st_ino)
			return true;
	return false;
}

/* FTW_* and *st of an entry. */
static int walk_look(const struct walk *w, int dirfd, const char *name, struct stat *st)
{
	bool physical = w->flags & FTW_PHYS;

	if (!wfs_fstatat(dirfd, name, st, physical ? AT_SYMLINK_NOFOLLOW : 0)) {
		if (S_ISDIR(st->st_mode))
			return FTW_D;
		return S_ISLNK(st->st_mode) ? FTW_SL : FTW_F;
	}
	if (!physical && !wfs_fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) &&
		S_ISLNK(st->st_mode))
		return FTW_SLN;
	return FTW_NS;
}

static int walk_entry(
	struct walk *w, int dirfd, const char *name, size_t base, const struct chain *up);

static int walk_children(struct walk *w, DIR *dir, int fd, const struct chain *here)
{
	size_t size = strlen(w->path);
	struct dirent *entry;
	int rc = 0;

	while (!rc && (entry = wfs_readdir(dir))) {
		size_t name = strlen(entry->d_name);
		size_t base = size && w->path[size - 1] == '/' ? size : size + 1;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (base + name >= sizeof(w->path)) {
			errno = ENAMETOOLONG;
			return -1;
		}
		w->path[base - 1] = '/';
		memcpy(w->path + base, entry->d_name, name + 1);
		if ((w->flags & FTW_CHDIR) && wfs_fchdir(fd))
			rc = -1;
		else
			rc = walk_entry(w, fd, w->path + base, base, here);
		w->path[size] = 0;
		if ((w->flags & FTW_ACTIONRETVAL) && rc == FTW_SKIP_SIBLINGS)
			return 0;
	}
	return rc;
}

static int walk_directory(struct walk *w, int dirfd, const char *name, const struct stat *st,
	size_t base, const struct chain *up)
{
	struct chain here = {up, st->st_dev, st->st_ino};
	DIR *dir = NULL;
	int fd, rc = 0;

	if (chain_has(up, st) || w->state.level >= LEVELS_MAX)
		return 0;
	fd = wfs_openat_mode(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd >= 0)
		dir = wfs_fdopendir(fd);
	if (!dir)
		return walk_call(w, st, FTW_DNR);
	if (!(w->flags & FTW_DEPTH))
		rc = walk_call(w, st, FTW_D);
	if ((w->flags & FTW_ACTIONRETVAL) && rc == FTW_SKIP_SUBTREE) {
		(void)wfs_closedir(dir);
		return 0;
	}
	w->state.level++;
	if (!rc)
		rc = walk_children(w, dir, fd, &here);
	w->state.level--;
	w->state.base = (int)base;
	if (!rc && (w->flags & FTW_DEPTH)) {
		if (w->flags & FTW_CHDIR)
			(void)(dirfd == AT_FDCWD ? wfs_chdir("..") : wfs_fchdir(dirfd));
		rc = walk_call(w, st, FTW_DP);
	}
	(void)wfs_closedir(dir);
	return rc;
}

static int walk_entry(
	struct walk *w, int dirfd, const char *name, size_t base, const struct chain *up)
{
	struct stat st;
	int type;

	memset(&st, 0, sizeof(st));
	type = walk_look(w, dirfd, name, &st);
	w->state.base = (int)base;
	if (!up && type == FTW_NS)
		return -1;
	if (!up)
		w->dev = st.st_dev;
	if ((w->flags & FTW_MOUNT) && type != FTW_NS && st.st_dev != w->dev)
		return 0;
	if (type == FTW_D)
		return walk_directory(w, dirfd, name, &st, base, up);
	return walk_call(w, &st, type);
}

static int walk_run(struct walk *w, const char *path)
{
	size_t size = strlen(path);
	const char *slash;
	int start = -1, rc;

	if (size >= sizeof(w->path))
		return (int)answer(-ENAMETOOLONG);
	while (size > 1 && path[size - 1] == '/')
		size--;
	memcpy(w->path, path, size);
	w->path[size] = 0;
	slash = strrchr(w->path, '/');
	if (w->flags & FTW_CHDIR)
		start = wfs_openat_mode(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	rc = walk_entry(w, AT_FDCWD, path, slash ? (size_t)(slash + 1 - w->path) : 0, NULL);
	if (start >= 0) {
		int saved = errno;

		(void)wfs_fchdir(start);
		(void)wfs_close(start);
		errno = saved;
	}
	return (w->flags & FTW_ACTIONRETVAL) && (rc == FTW_SKIP_SIBLINGS) ? 0 : rc;
}

static int WFS_USED wfs_nftw(const char *path,
	int (*call)(const char *, const struct stat *, int, struct FTW *), int fds, int flags)
{
	struct walk w = {.call = call, .flags = flags};

	if (!path_is_wfs(AT_FDCWD, path))
		return REAL(nftw)(path, call, fds, flags);
	return walk_run(&w, path);
}
EXPORT(nftw, wfs_nftw);
EXPORT(nftw64, wfs_nftw);

static int WFS_USED wfs_ftw(
	const char *path, int (*call)(const char *, const struct stat *, int), int fds)
{
	struct walk w = {.call_old = call};

	if (!path_is_wfs(AT_FDCWD, path))
		return REAL(ftw)(path, call, fds);
	return walk_run(&w, path);
}
EXPORT(ftw, wfs_ftw);
EXPORT(ftw64, wfs_ftw);

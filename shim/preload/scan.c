/* scandir, alphasort's friends, and glob: libc's own ones do not call us. */
#include <dirent.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "shim/preload/calls.h"
#include "shim/preload/fs.h"
#include "shim/preload/real.h"

typedef int scan_filter(const struct dirent *);
typedef int scan_order(const struct dirent **, const struct dirent **);

struct list {
	struct dirent **at;
	size_t count;
	size_t room;
};

static bool list_add(struct list *l, const struct dirent *entry)
{
	struct dirent *copy;

	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct dirent **at = realloc(l->at, room * sizeof(*at));

		if (!at)
			return false;
		l->at = at;
		l->room = room;
	}
	copy = malloc(entry->d_reclen);
	if (!copy)
		return false;
	memcpy(copy, entry, entry->d_reclen);
	l->at[l->count++] = copy;
	return true;
}

static int scan_run(DIR *dir, struct dirent ***names, scan_filter *filter, scan_order *order)
{
	struct list l = {0};
	struct dirent *entry;
	int saved = errno, rc = 0;

	errno = 0;
	while (!rc && (entry = wfs_readdir(dir))) {
		if (filter && !filter(entry))
			entry = NULL;
		if (entry && !list_add(&l, entry))
			rc = ENOMEM;
		errno = 0;
	}
	if (!rc)
		rc = errno;
	(void)wfs_closedir(dir);
	if (rc) {
		while (l.count)
			free(l.at[--l.count]);
		free(l.at);
		return (int)answer(-rc);
	}
	if (order && l.count)
		qsort(l.at, l.count, sizeof(*l.at), (int (*)(const void *, const void *))order);
	errno = saved;
	*names = l.at;
	return (int)l.count;
}

static int WFS_USED wfs_scandirat(int dirfd, const char *path, struct dirent ***names,
	scan_filter *filter, scan_order *order)
{
	DIR *dir;
	int fd;

	if (!path_is_wfs(dirfd, path))
		return REAL(scandirat)(dirfd, path, names, filter, order);
	fd = wfs_openat_mode(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	dir = wfs_fdopendir(fd);
	if (!dir) {
		int saved = errno;

		(void)wfs_close(fd);
		return (int)answer(-saved);
	}
	return scan_run(dir, names, filter, order);
}
EXPORT(scandirat, wfs_scandirat);
EXPORT(scandirat64, wfs_scandirat);

static int WFS_USED wfs_scandir(
	const char *path, struct dirent ***names, scan_filter *filter, scan_order *order)
{
	if (!path_is_wfs(AT_FDCWD, path))
		return REAL(scandir)(path, names, filter, order);
	return wfs_scandirat(AT_FDCWD, path, names, filter, order);
}
EXPORT(scandir, wfs_scandir);
EXPORT(scandir64, wfs_scandir);

static void *glob_opendir(const char *path)
{
	return wfs_opendir(path);
}

static struct dirent *glob_readdir(void *dir)
{
	return wfs_readdir(dir);
}

static void glob_closedir(void *dir)
{
	(void)wfs_closedir(dir);
}

static int glob_stat(const char *path, struct stat *st)
{
	return wfs_fstatat(AT_FDCWD, path, st, 0);
}

static int glob_lstat(const char *path, struct stat *st)
{
	return wfs_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

/* libc's glob, walking by our calls. */
static int WFS_USED wfs_glob(
	const char *pattern, int flags, int (*failed)(const char *, int), glob_t *g)
{
	int rc;

	if (!fs_on() || (flags & GLOB_ALTDIRFUNC))
		return REAL(glob)(pattern, flags, failed, g);
	g->gl_opendir = glob_opendir;
	g->gl_readdir = glob_readdir;
	g->gl_closedir = glob_closedir;
	g->gl_stat = glob_stat;
	g->gl_lstat = glob_lstat;
	rc = REAL(glob)(pattern, flags | GLOB_ALTDIRFUNC, failed, g);
	g->gl_flags &= ~GLOB_ALTDIRFUNC;
	return rc;
}
EXPORT(glob, wfs_glob);
EXPORT(glob64, wfs_glob);

/*
 * The working directory, and paths made absolute.
 *
 * When the program changes to a WFS directory, the kernel's own working directory moves
 * to a removed, empty one, so that a call that slips past the shim fails (ENOENT) instead
 * of working somewhere else. What it is in WFS is known here: inode and text. A program
 * executed from there is told by WFS_CWD=<ino in hex>:<path>, which it believes only if its kernel
 * working directory is such a removed one.
 *
 *    UNKNOWN --cwd_look--> LOCAL <--wfs_chdir--> WFS
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define NOWHERE_NAME "wfs-cwd-"
#define LINKS_MAX    40

enum cwd_state { CWD_UNKNOWN, CWD_LOCAL, CWD_WFS };

static struct {
	_Atomic int state;
	ino_id ino;
	char path[WFS_PATH_MAX]; /* below the mount, "/" its root; may be out of date */
	int nowhere;             /* the removed directory, or 0 */
	struct guard guard;
} cwd;

static bool kernel_is_nowhere(void)
{
	char link[256];
	long size = raw(SYS_readlinkat, AT_FDCWD, "/proc/self/cwd", link, sizeof(link) - 1);

	if (size <= 0)
		return false;
	link[size] = 0;
	return strstr(link, "/" NOWHERE_NAME) && strstr(link, " (deleted)");
}

static void cwd_look(void)
{
	const char *value = env_value(environ, "WFS_CWD");
	uint64_t ino = 0;

	if (!value || !kernel_is_nowhere()) {
		cwd.state = CWD_LOCAL;
		return;
	}
	for (; *value && *value != ':'; value++)
		ino = ino << 4 | (uint64_t)(*value <= '9' ? *value - '0' : *value - 'a' + 10);
	if (*value != ':' || !ino || strlen(value + 1) >= sizeof(cwd.path)) {
		cwd.state = CWD_LOCAL;
		return;
	}
	strcpy(cwd.path, value + 1);
	cwd.ino = ino;
	cwd.state = CWD_WFS;
}

bool cwd_is_wfs(ino_id *ino_out)
{
	if (cwd.state == CWD_UNKNOWN)
		cwd_look();
	if (cwd.state != CWD_WFS)
		return false;
	*ino_out = cwd.ino;
	return true;
}

static size_t hex_put(char *to, uint64_t value)
{
	size_t size = 0;

	for (int shift = 60; shift >= 0; shift -= 4)
		if (size || value >> shift)
			to[size++] = "0123456789abcdef"[(value >> shift) & 15];
	return size;
}

bool cwd_variable(char *buffer, size_t size)
{
	ino_id ino;
	size_t used = sizeof("WFS_CWD=") - 1, length;

	if (!cwd_is_wfs(&ino))
		return false;
	length = strlen(cwd.path);
	if (size < used + 18 + length + 1)
		return false;
	memcpy(buffer, "WFS_CWD=", used);
	used += hex_put(buffer + used, ino);
	buffer[used++] = ':';
	memcpy(buffer + used, cwd.path, length + 1);
	return true;
}

/* --- changing it -------------------------------------------------------------------- */

/* A removed directory, kept open under a reserved number. */
static void kernel_go_nowhere(void)
{
	static const char *const places[] = {"/dev/shm/", "/tmp/"};
	char path[64];
	int fd, high;

	if (cwd.nowhere && raw(SYS_fchdir, cwd.nowhere) == 0 && kernel_is_nowhere())
		return;
	for (unsigned i = 0; i < 2; i++) {
		size_t size = strlen(places[i]);

		memcpy(path, places[i], size);
		memcpy(path + size, NOWHERE_NAME, sizeof(NOWHERE_NAME));
		size += sizeof(NOWHERE_NAME) - 1;
		path[size + hex_put(path + size, (uint64_t)raw(SYS_gettid))] = 0;
		if (raw(SYS_mkdir, path, 0700))
			continue;
		fd = (int)raw(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		(void)raw(SYS_rmdir, path);
		if (fd < 0)
			continue;
		high = (int)raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd_reserve_base());
		(void)raw(SYS_fchdir, fd);
		(void)raw(SYS_close, fd);
		if (high >= 0) {
			fd_reserve(high);
			cwd.nowhere = high;
		}
		return;
	}
}

static int cwd_enter(struct client *c, const struct client_attr *attr, const char *path)
{
	char name[WFS_PATH_MAX];
	int rc;

	if (!S_ISDIR(attr->mode))
		return -ENOTDIR;
	rc = access_check(attr, X_OK, true);
	if (rc)
		return rc;
	rc = client_path_of(c, attr->ino, name, sizeof(name));
	if (rc) {
		if (strlen(path) >= sizeof(name))
			return rc;
		strcpy(name, path);
	}
	strcpy(cwd.path, name);
	cwd.ino = attr->ino;
	if (cwd.state != CWD_WFS) {
		cwd.state = CWD_WFS;
		kernel_go_nowhere();
	}
	return 0;
}

int wfs_chdir(const char *path)
{
	struct client_attr attr;
	struct place p;
	int rc = place_find(AT_FDCWD, path, 0, &p);

	if (rc == PLACE_WFS) {
		rc = client_stat(p.client, &p.where, true, &attr);
		if (!rc)
			return (int)answer(cwd_enter(p.client, &attr, p.where.path));
		if (!place_left(&p, rc))
			return (int)answer(fs_result(rc));
		path = p.outside;
	} else if (rc < 0) {
		return (int)answer(rc);
	}
	rc = REAL(chdir)(path);
	if (!rc)
		cwd.state = CWD_LOCAL;
	return rc;
}
EXPORT(chdir, wfs_chdir);

int wfs_fchdir(int fd)
{
	struct client_attr attr;
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc)
		return (int)answer(rc);
	if (f) {
		rc = client_getattr(c, f->cf.ino, &attr);
		fd_put(f);
		return (int)answer(rc ? fs_result(rc) : cwd_enter(c, &attr, "/"));
	}
	rc = REAL(fchdir)(fd);
	if (!rc)
		cwd.state = CWD_LOCAL;
	return rc;
}
EXPORT(fchdir, wfs_fchdir);

/* --- asking for it ------------------------------------------------------------------ */

/* The absolute path, mount included. Bytes with the NUL, or an error. */
static int cwd_text(char *buffer, size_t size)
{
	struct where where = {.path = cwd.path + 1};
	size_t mount = fs_settings()->mount_size, length;
	struct client_attr attr;
	struct client *c;
	int rc = fs_client(&c);

	if (rc)
		return rc;
	where.start = client_root(c);
	if (client_stat(c, &where, true, &attr) || attr.ino != cwd.ino) {
		char now[WFS_PATH_MAX];

		rc = client_path_of(c, cwd.ino, now, sizeof(now));
		if (rc)
			return rc == -ESTALE ? -ENOENT : (int)fs_result(rc);
		strcpy(cwd.path, now);
	}
	length = strcmp(cwd.path, "/") ? strlen(cwd.path) : 0;
	if (mount + length + 1 > size)
		return -ERANGE;
	memcpy(buffer, fs_settings()->mount, mount);
	memcpy(buffer + mount, cwd.path, length);
	buffer[mount + length] = 0;
	return (int)(mount + length + 1);
}

char *wfs_getcwd(char *buffer, size_t size)
{
	char text[WFS_PATH_MAX + FS_MOUNT_MAX];
	ino_id ino;
	int rc;

	if (!fs_on() || !cwd_is_wfs(&ino))
		return REAL(getcwd)(buffer, size);
	rc = buffer && !size ? -EINVAL : cwd_text(text, sizeof(text));
	if (rc > 0 && size && (size_t)rc > size)
		rc = -ERANGE;
	if (rc > 0 && !buffer) {
		buffer = malloc(size ? size : (size_t)rc);
		if (!buffer)
			rc = -ENOMEM;
	}
	if (rc < 0 || !buffer) {
		errno = -rc;
		return NULL;
	}
	memcpy(buffer, text, (size_t)rc);
	return buffer;
}
EXPORT(getcwd, wfs_getcwd);

static char *WFS_USED wfs_getcwd_chk(char *buffer, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return wfs_getcwd(buffer, size);
}
EXPORT(__getcwd_chk, wfs_getcwd_chk);

static char *WFS_USED wfs_getwd(char *buffer)
{
	return wfs_getcwd(buffer, WFS_PATH_MAX);
}
EXPORT(getwd, wfs_getwd);

static char *WFS_USED wfs_getwd_chk(char *buffer, size_t room)
{
	return wfs_getcwd(buffer, room < WFS_PATH_MAX ? room : WFS_PATH_MAX);
}
EXPORT(__getwd_chk, wfs_getwd_chk);

static char *WFS_USED wfs_get_current_dir_name(void)
{
	ino_id ino;

	if (!fs_on() || !cwd_is_wfs(&ino))
		return REAL(get_current_dir_name)();
	return wfs_getcwd(NULL, 0);
}
EXPORT(get_current_dir_name, wfs_get_current_dir_name);

/* --- realpath ----------------------------------------------------------------------- */

struct resolve {
	char done[WFS_PATH_MAX + 1]; /* absolute, without '/' at the end; "" is the root */
	char todo[WFS_PATH_MAX + 1];
	unsigned links;
};

/* Put a link's target in front of what is left to do. */
static int resolve_link(struct resolve *r, const char *target, size_t size, const char *rest)
{
	size_t left = strlen(rest);

	if (++r->links > LINKS_MAX)
		return -ELOOP;
	if (size + left + 2 > sizeof(r->todo))
		return -ENAMETOOLONG;
	memmove(r->todo + size + 1, rest, left + 1);
	memcpy(r->todo, target, size);
	r->todo[size] = '/';
	if (target[0] == '/')
		r->done[0] = 0;
	return 0;
}

/* One component. 1: more to do; 0: all done. */
static int resolve_step(struct resolve *r)
{
	char target[WFS_PATH_MAX];
	char *name = r->todo;
	size_t size, done = strlen(r->done);
	const char *rest;
	ssize_t link;

	while (*name == '/')
		name++;
	size = strcspn(name, "/");
	rest = name + size;
	if (!size)
		return 0;
	if (size == 1 && name[0] == '.') {
		memmove(r->todo, rest, strlen(rest) + 1);
		return 1;
	}
	if (size == 2 && name[0] == '.' && name[1] == '.') {
		char *slash = strrchr(r->done, '/');

		if (slash)
			*slash = 0;
		memmove(r->todo, rest, strlen(rest) + 1);
		return 1;
	}
	if (done + 1 + size >= sizeof(r->done))
		return -ENAMETOOLONG;
	r->done[done] = '/';
	memcpy(r->done + done + 1, name, size);
	r->done[done + 1 + size] = 0;
	link = wfs_readlinkat(AT_FDCWD, r->done, target, sizeof(target));
	if (link < 0 && errno != EINVAL)
		return -errno;
	if (link >= 0) {
		r->done[done] = 0;
		return resolve_link(r, target, (size_t)link, rest) ?: 1;
	}
	memmove(r->todo, rest, strlen(rest) + 1);
	return 1;
}

static int resolve_path(const char *path, struct resolve *r)
{
	struct stat st;
	bool want_dir;
	int rc;

	r->links = 0;
	r->done[0] = 0;
	if (!*path)
		return -ENOENT;
	if (strlen(path) >= sizeof(r->todo))
		return -ENAMETOOLONG;
	strcpy(r->todo, path);
	want_dir = path[strlen(path) - 1] == '/';
	if (*path != '/' && !wfs_getcwd(r->done, sizeof(r->done)))
		return -errno;
	if (!strcmp(r->done, "/"))
		r->done[0] = 0;
	while ((rc = resolve_step(r)) > 0)
		;
	if (rc)
		return rc;
	if (!r->done[0])
		strcpy(r->done, "/");
	if (wfs_fstatat(AT_FDCWD, r->done, &st, 0))
		return -errno;
	return want_dir && !S_ISDIR(st.st_mode) ? -ENOTDIR : 0;
}

static char *WFS_USED wfs_realpath(const char *path, char *resolved)
{
	struct resolve r;
	int saved = errno, rc;

	if (!path_is_wfs(AT_FDCWD, path))
		return REAL(realpath)(path, resolved);
	rc = resolve_path(path, &r);
	if (!rc && !resolved) {
		resolved = malloc(strlen(r.done) + 1);
		if (!resolved)
			rc = -ENOMEM;
	}
	if (rc) {
		errno = -rc;
		return NULL;
	}
	errno = saved;
	return strcpy(resolved, r.done);
}
EXPORT(realpath, wfs_realpath);

static char *WFS_USED wfs_realpath_chk(const char *path, char *resolved, size_t room)
{
	(void)room;
	return wfs_realpath(path, resolved);
}
EXPORT(__realpath_chk, wfs_realpath_chk);

static char *WFS_USED wfs_canonicalize_file_name(const char *path)
{
	return wfs_realpath(path, NULL);
}
EXPORT(canonicalize_file_name, wfs_canonicalize_file_name);

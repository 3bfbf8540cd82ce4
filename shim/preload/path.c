/* Paths; see path.h. */
#include "shim/preload/path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"

/* A lexical walk from "/": depth of the path so far, and how much of the mount it is. */
struct scan {
	const char *mount; /* what is still to be matched, without leading '/' */
	unsigned depth;
	unsigned matched;
	unsigned wanted;
};

static void scan_init(struct scan *s)
{
	const char *mount = fs_settings()->mount;

	*s = (struct scan){.mount = mount + 1, .wanted = 1};
	for (const char *p = mount + 1; *p; p++)
		s->wanted += *p == '/';
}

/* The nth component of the mount: is it these bytes? */
static bool scan_matches(const struct scan *s, const char *name, size_t size)
{
	const char *p = s->mount;

	for (unsigned n = 0; n < s->matched; n++)
		p = strchr(p, '/') + 1;
	return !strncmp(p, name, size) && (p[size] == 0 || p[size] == '/');
}

/* Feed a path; the rest of it once below the mount, else NULL. */
static const char *scan_feed(struct scan *s, const char *path)
{
	for (;;) {
		size_t size = 0;

		while (*path == '/')
			path++;
		if (s->matched == s->wanted)
			return path;
		if (!*path)
			return NULL;
		while (path[size] && path[size] != '/')
			size++;
		if (size == 2 && path[0] == '.' && path[1] == '.') {
			s->depth -= s->depth > 0;
			if (s->matched > s->depth)
				s->matched = s->depth;
		} else if (size != 1 || path[0] != '.') {
			if (s->matched == s->depth && scan_matches(s, path, size))
				s->matched++;
			s->depth++;
		}
		path += size;
	}
}

static bool has_dotdot(const char *path)
{
	for (; *path; path++)
		if (path[0] == '.' && path[1] == '.' && (path[2] == '/' || !path[2]))
			return true;
	return false;
}

const char *path_below_mount(const char *path)
{
	const struct fs_settings *settings = fs_settings();
	struct scan s;

	/* The common cases without the walk. */
	if (!strncmp(path, settings->mount, settings->mount_size)) {
		const char *rest = path + settings->mount_size;

		if (!*rest || *rest == '/') {
			while (*rest == '/')
				rest++;
			return rest;
		}
	}
	if (path[1] != settings->mount[1] && path[1] != '/' && path[1] != '.' &&
		!has_dotdot(path))
		return NULL;
	scan_init(&s);
	return scan_feed(&s, path);
}

/* The absolute path of a local directory; its size, or <= 0. */
static long local_dir_path(int dirfd, char *out, size_t size)
{
	char link[32] = "/proc/self/fd/";
	char digits[12];
	size_t at = strlen(link), count = 0;
	long n;

	if (dirfd == AT_FDCWD)
		return raw(SYS_getcwd, out, size);
	if (dirfd < 0)
		return -EBADF;
	do
		digits[count++] = (char)('0' + dirfd % 10);
	while (dirfd /= 10);
	while (count)
		link[at++] = digits[--count];
	link[at] = 0;
	n = raw(SYS_readlinkat, AT_FDCWD, link, out, size - 1);
	if (n > 0)
		out[n] = 0;
	return n;
}

/* A relative path from a local directory that may lead below the mount. */
static const char *path_from_local(int dirfd, const char *path)
{
	char cwd[WFS_PATH_MAX];
	struct scan s;
	bool candidate = has_dotdot(path);

	scan_init(&s);
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	for (s.matched = 0; !candidate && s.matched < s.wanted; s.matched++) {
		size_t size = strcspn(path, "/");

		candidate = size && scan_matches(&s, path, size);
	}
	if (!candidate || local_dir_path(dirfd, cwd, sizeof(cwd)) <= 0 || cwd[0] != '/')
		return NULL;
	scan_init(&s);
	if (scan_feed(&s, cwd))
		return NULL;
	return scan_feed(&s, path);
}

/* N of /proc/self/fd/N, /dev/fd/N, /dev/stdin, ...; the rest after it. Or -1. */
static int path_fd(const char *path, const char **rest_out)
{
	static const struct {
		const char *prefix;
		int fd;
	} forms[] = {
		{"/proc/self/fd/", -1}, {"/dev/fd/", -1}, {"/proc/thread-self/fd/", -1},
		{"/dev/stdin", 0}, {"/dev/stdout", 1}, {"/dev/stderr", 2},
	};
	size_t size = 0;
	int fd = -1;

	for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]) && !size; i++)
		if (!strncmp(path, forms[i].prefix, strlen(forms[i].prefix))) {
			size = strlen(forms[i].prefix);
			fd = forms[i].fd;
		}
	if (!size)
		return -1;
	path += size;
	for (; fd < FD_TABLE_SIZE && *path >= '0' && *path <= '9'; path++)
		fd = (fd < 0 ? 0 : fd * 10) + (*path - '0');
	if (fd < 0 || (*path && *path != '/'))
		return -1;
	while (*path == '/')
		path++;
	*rest_out = path;
	return fd;
}

/* The rest of /proc/self/cwd/rest, or NULL. */
static const char *path_below_cwd(const char *path)
{
	static const char prefix[] = "/proc/self/cwd";

	if (strncmp(path, prefix, sizeof(prefix) - 1))
		return NULL;
	path += sizeof(prefix) - 1;
	if (*path && *path != '/')
		return NULL;
	while (*path == '/')
		path++;
	return path;
}

/* 1: start and rest are set. 0: local. Negative: an error. */
static int path_start(int dirfd, const char *path, int flags, ino_id *start_out,
	const char **rest_out)
{
	const char *rest = NULL;
	struct file *f;
	int fd = dirfd, rc = 1;

	*start_out = 0;
	if (path[0] == '/') {
		rest = path_below_mount(path);
		if (rest) {
			*rest_out = rest;
			return 1;
		}
		if (path[1] != 'p' && path[1] != 'd')
			return 0;
		rest = path_below_cwd(path);
		if (rest && (*rest || !(flags & AT_SYMLINK_NOFOLLOW)) &&
			cwd_is_wfs(start_out)) {
			*rest_out = rest;
			return 1;
		}
		fd = path_fd(path, &rest);
		if (fd < 0 || (!*rest && (flags & AT_SYMLINK_NOFOLLOW)))
			return 0;
		path = rest;
		flags |= AT_EMPTY_PATH;
	} else if (dirfd == AT_FDCWD) {
		if (cwd_is_wfs(start_out)) {
			*rest_out = path;
			return *path || (flags & AT_EMPTY_PATH) ? 1 : -ENOENT;
		}
		*rest_out = path_from_local(AT_FDCWD, path);
		return *rest_out != NULL;
	}
	f = fd_file(fd);
	if (!f && path[0] && path[0] != '/' && fd == dirfd) {
		*rest_out = path_from_local(dirfd, path);
		return *rest_out != NULL;
	}
	if (!f)
		return 0;
	if (!*path && !(flags & AT_EMPTY_PATH))
		rc = -ENOENT;
	else if (*path && !S_ISDIR(f->cf.mode))
		rc = -ENOTDIR;
	*start_out = f->cf.ino;
	*rest_out = path;
	fd_put(f);
	return rc;
}

int place_find(int dirfd, const char *path, int flags, struct place *p)
{
	int rc;

	if (!fs_on() || !path)
		return PLACE_LOCAL;
	rc = path_start(dirfd, path, flags, &p->where.start, &p->where.path);
	if (rc <= 0)
		return rc;
	if (strlen(p->where.path) >= WFS_PATH_MAX)
		return -ENAMETOOLONG;
	rc = fs_client(&p->client);
	if (rc)
		return rc;
	if (!p->where.start)
		p->where.start = client_root(p->client);
	p->outside[0] = 0;
	p->where.outside = p->outside;
	return PLACE_WFS;
}

bool path_is_wfs(int dirfd, const char *path)
{
	ino_id start;
	const char *rest;

	return fs_on() && path && path_start(dirfd, path, AT_EMPTY_PATH, &start, &rest) > 0;
}

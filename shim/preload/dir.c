/*
 * Directory streams.
 *
 * A stream of a WFS directory is our own object, told from libc's by its first eight
 * bytes; where it stands is the cookie of the last entry it gave, which is also what
 * telldir gives, and stays valid whatever happens to the directory. getdents64 on a
 * descriptor keeps the cookie as the file position, so that it is shared like one.
 */
#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define STREAM_MAGIC       0x5746530044495221ull
#define STREAM_BUFFER_SIZE 32768
#define STREAM_CACHE       8

struct stream {
	uint64_t magic;
	int fd;
	bool end;
	uint64_t cookie; /* after the entry given last */
	uint64_t ahead;  /* after the buffer */
	size_t filled;
	size_t at;
	struct guard guard;
	struct dirent entry;
	_Alignas(8) char buffer[STREAM_BUFFER_SIZE];
};

/* Streams to use again: one is 33 KiB of mapping, and opendir is frequent. */
static struct stream *stream_cache[STREAM_CACHE];

static struct stream *stream_of(DIR *dir)
{
	struct stream *s = (struct stream *)(void *)dir;

	return fs_on() && s && s->magic == STREAM_MAGIC ? s : NULL;
}

static struct stream *stream_new(int fd)
{
	struct stream *s = NULL;
	long map;

	for (int i = 0; i < STREAM_CACHE && !s; i++)
		s = __atomic_exchange_n(&stream_cache[i], NULL, __ATOMIC_ACQ_REL);
	if (!s) {
		map = raw(SYS_mmap, NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (map < 0 && map > -4096)
			return NULL;
		s = (struct stream *)map;
	}
	s->fd = fd;
	s->end = false;
	s->cookie = (uint64_t)fd_position(fd);
	s->filled = 0;
	s->at = 0;
	s->guard = (struct guard){0};
	s->magic = STREAM_MAGIC;
	return s;
}

static void stream_free(struct stream *s)
{
	s->magic = 0;
	for (int i = 0; i < STREAM_CACHE && s; i++) {
		struct stream *none = NULL;

		if (__atomic_compare_exchange_n(&stream_cache[i], &none, s, false,
			    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			s = NULL;
	}
	if (s)
		(void)raw(SYS_munmap, s, sizeof(*s));
}

DIR *wfs_fdopendir(int fd)
{
	struct file *f = fd_file(fd);
	struct stream *s;
	int rc = 0;

	if (!f)
		return REAL(fdopendir)(fd);
	if (f->flags & O_PATH)
		rc = -EBADF;
	else if (!S_ISDIR(f->cf.mode))
		rc = -ENOTDIR;
	fd_put(f);
	s = rc ? NULL : stream_new(fd);
	if (!rc && !s)
		rc = -ENOMEM;
	if (rc) {
		errno = -rc;
		return NULL;
	}
	(void)raw(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
	return (DIR *)s;
}
EXPORT(fdopendir, wfs_fdopendir);

DIR *wfs_opendir(const char *path)
{
	DIR *dir;
	int fd;

	if (!path_is_wfs(AT_FDCWD, path))
		return REAL(opendir)(path);
	fd = wfs_openat_mode(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	dir = wfs_fdopendir(fd);
	if (!dir) {
		int saved = errno;

		(void)wfs_close(fd);
		errno = saved;
	}
	return dir;
}
EXPORT(opendir, wfs_opendir);

int wfs_closedir(DIR *dir)
{
	struct stream *s = stream_of(dir);
	int fd;

	if (!s)
		return REAL(closedir)(dir);
	fd = s->fd;
	stream_free(s);
	return wfs_close(fd);
}
EXPORT(closedir, wfs_closedir);

static int WFS_USED wfs_dirfd(DIR *dir)
{
	struct stream *s = stream_of(dir);

	return s ? s->fd : REAL(dirfd)(dir);
}
EXPORT(dirfd, wfs_dirfd);

/* Fill the buffer. 1: there is something; 0: the end. */
static int stream_fill(struct stream *s)
{
	struct file *f;
	struct client *c;
	ssize_t got;
	int rc = fd_client(s->fd, &f, &c);

	if (rc || !f)
		return rc ? rc : -EBADF;
	got = client_readdir(c, f->cf.ino, s->cookie, s->buffer, sizeof(s->buffer));
	fd_put(f);
	s->at = 0;
	s->filled = got > 0 ? (size_t)got : 0;
	if (got == -ESTALE || got == -ENOENT)
		return 0;
	return got > 0 ? 1 : (int)fs_result(got);
}

static void entry_fill(struct dirent *d, const struct client_dirent *from)
{
	size_t size = from->name_size > WFS_NAME_MAX ? WFS_NAME_MAX : from->name_size;

	d->d_ino = from->ino;
	d->d_off = (off_t)from->cookie;
	d->d_type = from->dtype;
	memcpy(d->d_name, from->name, size);
	d->d_name[size] = 0;
	d->d_reclen = (unsigned short)((offsetof(struct dirent, d_name) + size + 8) & ~7u);
}

/* 1: *out is the next entry; 0: the end. */
static int stream_next(struct stream *s, struct dirent *out)
{
	struct client_dirent entry;
	bool locked = guard_lock(&s->guard);
	int rc = 1;

	if (!client_dirent_next(s->buffer, s->filled, &s->at, &entry)) {
		rc = stream_fill(s);
		if (rc > 0 && !client_dirent_next(s->buffer, s->filled, &s->at, &entry))
			rc = 0;
	}
	if (rc > 0) {
		s->cookie = entry.cookie;
		entry_fill(out, &entry);
	}
	guard_unlock(&s->guard, locked);
	return rc;
}

struct dirent *wfs_readdir(DIR *dir)
{
	struct stream *s = stream_of(dir);
	int rc;

	if (!s)
		return REAL(readdir)(dir);
	rc = stream_next(s, &s->entry);
	if (rc < 0)
		errno = -rc;
	return rc > 0 ? &s->entry : NULL;
}
EXPORT(readdir, wfs_readdir);
EXPORT(readdir64, wfs_readdir);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static int WFS_USED wfs_readdir_r(DIR *dir, struct dirent *entry, struct dirent **result)
{
	struct stream *s = stream_of(dir);
	int rc;

	if (!s)
		return REAL(readdir_r)(dir, entry, result);
	rc = stream_next(s, entry);
	*result = rc > 0 ? entry : NULL;
	return rc < 0 ? -rc : 0;
}
#pragma GCC diagnostic pop
EXPORT(readdir_r, wfs_readdir_r);
EXPORT(readdir64_r, wfs_readdir_r);

static long WFS_USED wfs_telldir(DIR *dir)
{
	struct stream *s = stream_of(dir);

	return s ? (long)s->cookie : REAL(telldir)(dir);
}
EXPORT(telldir, wfs_telldir);

static void stream_seek(struct stream *s, uint64_t cookie)
{
	bool locked = guard_lock(&s->guard);

	s->cookie = cookie;
	s->filled = 0;
	s->at = 0;
	guard_unlock(&s->guard, locked);
}

static void WFS_USED wfs_seekdir(DIR *dir, long where)
{
	struct stream *s = stream_of(dir);

	if (s)
		stream_seek(s, (uint64_t)where);
	else
		REAL(seekdir)(dir, where);
}
EXPORT(seekdir, wfs_seekdir);

static void WFS_USED wfs_rewinddir(DIR *dir)
{
	struct stream *s = stream_of(dir);

	if (s)
		stream_seek(s, 0);
	else
		REAL(rewinddir)(dir);
}
EXPORT(rewinddir, wfs_rewinddir);

/* --- entries by descriptor ---------------------------------------------------------- */

/* Put what fits of raw entries into out; *cookie moves. Bytes. */
static size_t dents_convert(
	void *raw_entries, size_t raw_size, char *out, size_t size, uint64_t *cookie)
{
	struct client_dirent entry;
	size_t at = 0, used = 0;

	while (client_dirent_next(raw_entries, raw_size, &at, &entry)) {
		struct dirent d;

		entry_fill(&d, &entry);
		if (used + d.d_reclen > size)
			break;
		memcpy(out + used, &d, d.d_reclen);
		used += d.d_reclen;
		*cookie = entry.cookie;
	}
	return used;
}

static ssize_t file_getdents(struct client *c, struct file *f, int fd, char *out, size_t size)
{
	_Alignas(8) char buffer[8192];
	int64_t position = fd_position(fd);
	uint64_t cookie = (uint64_t)position;
	size_t used = 0;
	ssize_t got;

	if (f->flags & O_PATH)
		return -EBADF;
	if (!S_ISDIR(f->cf.mode))
		return -ENOTDIR;
	if (position < 0)
		return position;
	do {
		size_t more;

		got = client_readdir(c, f->cf.ino, cookie, buffer, sizeof(buffer));
		if (got <= 0)
			break;
		more = dents_convert(buffer, (size_t)got, out + used, size - used, &cookie);
		if (!more)
			break;
		used += more;
	} while (size - used > 4096);
	if (used) {
		(void)fd_position_set(fd, cookie);
		return (ssize_t)used;
	}
	return got > 0 ? -EINVAL : got;
}

ssize_t wfs_getdents64(int fd, void *buffer, size_t size)
{
	struct file *f;
	struct client *c;
	bool locked;
	ssize_t rc = fd_client(fd, &f, &c);

	if (rc)
		return answer(rc);
	if (!f)
		return REAL(getdents64)(fd, buffer, size);
	locked = guard_lock(&f->guard);
	rc = file_getdents(c, f, fd, buffer, size);
	guard_unlock(&f->guard, locked);
	fd_put(f);
	return answer(fs_result(rc));
}
EXPORT(getdents64, wfs_getdents64);

static ssize_t WFS_USED wfs_getdirentries(int fd, char *buffer, size_t size, off_t *base)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(getdirentries)(fd, buffer, size, base);
	fd_put(f);
	*base = fd_position(fd);
	return wfs_getdents64(fd, buffer, size);
}
EXPORT(getdirentries, wfs_getdirentries);
EXPORT(getdirentries64, wfs_getdirentries);

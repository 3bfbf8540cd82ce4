/*
 * The size of files, stable storage, and copying between descriptors.
 *
 * Space is not reserved: fallocate extends or does nothing. Copies with a WFS side go
 * through a bounded buffer.
 */
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/map.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define COPY_BUFFER_SIZE (1u << 20)

static bool file_writable(const struct file *f)
{
	return !(f->flags & O_PATH) && (f->flags & O_ACCMODE) != O_RDONLY;
}

/* --- RLIMIT_FSIZE ------------------------------------------------------------------- */

static uint64_t limit_size(void)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	(void)raw(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit);
	return limit.rlim_cur;
}

static int limit_passed(void)
{
	(void)raw(SYS_tgkill, raw(SYS_getpid), raw(SYS_gettid), SIGXFSZ);
	return -EFBIG;
}

ssize_t limit_write(struct client *c, struct file *f, int64_t offset, size_t size)
{
	uint64_t limit = limit_size(), start = (uint64_t)offset;
	struct client_attr attr;

	if (limit == RLIM_INFINITY || !size)
		return (ssize_t)size;
	if (offset == LIMIT_AT_END) {
		int rc = client_getattr(c, f->cf.ino, &attr);

		if (rc)
			return rc;
		start = attr.size_bytes;
	}
	if (start >= limit)
		return limit_passed();
	return (ssize_t)(size < limit - start ? size : limit - start);
}

/* Whether a file of this size may be made longer to that one. */
static int limit_grow(uint64_t from, uint64_t to)
{
	return to > from && to > limit_size() ? limit_passed() : 0;
}

/* --- truncate, fallocate ------------------------------------------------------------ */

static int file_set_size(struct client *c, struct file *f, off_t size)
{
	struct where self = {.start = f->cf.ino, .path = ""};
	struct client_set set = {
		.mask = CLIENT_SET_SIZE, .size_bytes = (uint64_t)size, .by_fd = true};
	struct client_attr attr;
	int rc;

	if (size < 0 || S_ISDIR(f->cf.mode) || !file_writable(f))
		return f->flags & O_PATH ? -EBADF : -EINVAL;
	if ((uint64_t)size > limit_size()) {
		rc = client_getattr(c, f->cf.ino, &attr);
		if (!rc)
			rc = limit_grow(attr.size_bytes, (uint64_t)size);
		if (rc)
			return rc;
	}
	rc = client_setattr(c, &self, true, &set, &attr);
	if (!rc)
		client_file_learn(&f->cf, attr.generation, attr.size_bytes);
	return rc;
}

int wfs_ftruncate(int fd, off_t size)
{
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc)
		return (int)answer(rc);
	if (!f)
		return REAL(ftruncate)(fd, size);
	rc = file_set_size(c, f, size);
	fd_put(f);
	return (int)answer(fs_result(rc));
}
EXPORT(ftruncate, wfs_ftruncate);
EXPORT(ftruncate64, wfs_ftruncate);

int wfs_truncate(const char *path, off_t size)
{
	struct client_set set = {.mask = CLIENT_SET_SIZE, .size_bytes = (uint64_t)size};
	struct client_attr attr;
	struct place p;
	int rc = place_find(AT_FDCWD, path, 0, &p);

	if (rc == PLACE_LOCAL)
		return REAL(truncate)(path, size);
	if (rc == PLACE_WFS) {
		rc = size < 0 ? -EINVAL : 0;
		if (!rc && (uint64_t)size > limit_size()) {
			rc = client_stat(p.client, &p.where, true, &attr);
			if (!rc)
				rc = limit_grow(attr.size_bytes, (uint64_t)size);
		}
		if (!rc)
			rc = client_setattr(p.client, &p.where, true, &set, &attr);
		if (place_left(&p, rc))
			return REAL(truncate)(p.outside, size);
	}
	return (int)answer(fs_result(rc));
}
EXPORT(truncate, wfs_truncate);
EXPORT(truncate64, wfs_truncate);

static int file_allocate(struct client *c, struct file *f, int mode, off_t end)
{
	struct client_attr attr;
	int rc;

	if (!file_writable(f))
		return -EBADF;
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_KEEP_SIZE)
		return 0;
	rc = client_getattr(c, f->cf.ino, &attr);
	if (rc || attr.size_bytes >= (uint64_t)end)
		return rc;
	return file_set_size(c, f, end);
}

int wfs_fallocate(int fd, int mode, off_t offset, off_t size)
{
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc)
		return (int)answer(rc);
	if (!f)
		return REAL(fallocate)(fd, mode, offset, size);
	if (offset < 0 || size <= 0)
		rc = -EINVAL;
	else if (size > INT64_MAX - offset || offset + size > (off_t)WFS_FILE_SIZE_MAX)
		rc = -EFBIG;
	else
		rc = file_allocate(c, f, mode, offset + size);
	fd_put(f);
	return (int)answer(fs_result(rc));
}
EXPORT(fallocate, wfs_fallocate);
EXPORT(fallocate64, wfs_fallocate);

/* Gives the error number, and does not touch errno. */
static int WFS_USED wfs_posix_fallocate(int fd, off_t offset, off_t size)
{
	struct file *f = fd_file(fd);
	int saved = errno, rc;

	if (!f)
		return REAL(posix_fallocate)(fd, offset, size);
	fd_put(f);
	rc = wfs_fallocate(fd, 0, offset, size) ? errno : 0;
	errno = saved;
	return rc;
}
EXPORT(posix_fallocate, wfs_posix_fallocate);
EXPORT(posix_fallocate64, wfs_posix_fallocate);

/* --- stable storage ----------------------------------------------------------------- */

static int file_sync(struct client *c, struct file *f)
{
	int rc, flushed;

	if (f->flags & O_PATH)
		return -EBADF;
	flushed = map_flush_file(f);
	rc = client_fsync(c, &f->cf);
	return rc ? rc : flushed;
}

int wfs_fsync(int fd)
{
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);

	if (rc)
		return (int)answer(rc);
	if (!f)
		return REAL(fsync)(fd);
	rc = file_sync(c, f);
	fd_put(f);
	return (int)answer(fs_result(rc));
}
EXPORT(fsync, wfs_fsync);

int wfs_fdatasync(int fd)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(fdatasync)(fd);
	fd_put(f);
	return wfs_fsync(fd);
}
EXPORT(fdatasync, wfs_fdatasync);

static void WFS_USED wfs_sync(void)
{
	(void)map_flush_file(NULL);
	REAL(sync)();
}
EXPORT(sync, wfs_sync);

int wfs_syncfs(int fd)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(syncfs)(fd);
	fd_put(f);
	return (int)answer(map_flush_file(NULL));
}
EXPORT(syncfs, wfs_syncfs);

#define SYNC_FLAGS                                                                       \
	(SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

int wfs_sync_file_range(int fd, off_t offset, off_t size, unsigned flags)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(sync_file_range)(fd, offset, size, flags);
	fd_put(f);
	if (offset < 0 || size < 0 || offset + size < offset || (flags & ~SYNC_FLAGS))
		return (int)answer(-EINVAL);
	return wfs_fsync(fd);
}
EXPORT(sync_file_range, wfs_sync_file_range);

int wfs_posix_fadvise(int fd, off_t offset, off_t size, int advice)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(posix_fadvise)(fd, offset, size, advice);
	fd_put(f);
	if (f->flags & O_PATH)
		return EBADF;
	return size < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE
		       ? EINVAL
		       : 0;
}
EXPORT(posix_fadvise, wfs_posix_fadvise);
EXPORT(posix_fadvise64, wfs_posix_fadvise);

ssize_t wfs_readahead(int fd, off_t offset, size_t size)
{
	struct file *f = fd_file(fd);
	unsigned mode;

	if (!f)
		return REAL(readahead)(fd, offset, size);
	mode = f->flags & (O_ACCMODE | O_PATH);
	fd_put(f);
	return (int)answer(mode == O_RDONLY || mode == O_RDWR ? 0 : -EBADF);
}
EXPORT(readahead, wfs_readahead);

/* --- copies ------------------------------------------------------------------------- */

static bool fd_is_wfs(int fd)
{
	struct file *f = fd_file(fd);

	fd_put(f);
	return f != NULL;
}

static ssize_t write_all(int fd, const char *data, size_t size, off_t *offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = offset ? wfs_pwrite(fd, data + done, size - done, *offset)
				   : wfs_write(fd, data + done, size - done);

		if (n <= 0)
			break;
		done += (size_t)n;
		if (offset)
			*offset += n;
	}
	return done || !size ? (ssize_t)done : -1;
}

/* From `in` at *in_offset (NULL: its offset) to `out`; -1 with errno if nothing moved. */
static ssize_t copy_through(int in, off_t *in_offset, int out, off_t *out_offset, size_t size)
{
	size_t room = size < COPY_BUFFER_SIZE ? size : COPY_BUFFER_SIZE, done = 0;
	ssize_t got = 0, put = 0;
	char *buffer;
	long map;

	if (!size)
		return 0;
	map = raw(SYS_mmap, NULL, room, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map < 0 && map > -4096)
		return answer(map);
	buffer = (char *)map;
	while (done < size) {
		size_t want = size - done < room ? size - done : room;

		got = in_offset ? wfs_pread(in, buffer, want, *in_offset)
				: wfs_read(in, buffer, want);
		if (got <= 0)
			break;
		put = write_all(out, buffer, (size_t)got, out_offset);
		if (put > 0)
			done += (size_t)put;
		if (in_offset && put > 0)
			*in_offset += put;
		if (put < got) {
			if (!in_offset)
				(void)wfs_lseek(in, (put > 0 ? put : 0) - got, SEEK_CUR);
			break;
		}
	}
	(void)raw(SYS_munmap, map, room);
	if (done)
		return (ssize_t)done;
	return got < 0 || put < 0 ? -1 : 0;
}

/* What the kernel refuses whatever the bytes are; -EINVAL: O_APPEND. */
static int copy_check(int in, int out)
{
	struct file *from = fd_file(in), *to = fd_file(out);
	int rc = 0;

	if ((from && ((from->flags & O_PATH) || (from->flags & O_ACCMODE) == O_WRONLY)) ||
		(to && ((to->flags & O_PATH) || (to->flags & O_ACCMODE) == O_RDONLY)))
		rc = -EBADF;
	else if (to && (raw(SYS_fcntl, out, F_GETFL) & O_APPEND))
		rc = -EINVAL;
	fd_put(from);
	fd_put(to);
	return rc;
}

static mode_t type_of(int fd)
{
	struct stat st;

	return wfs_fstat(fd, &st) ? 0 : st.st_mode & S_IFMT;
}

static bool same_file(int a, int b)
{
	struct file *f = fd_file(a), *g = fd_file(b);
	bool same = f && g && f->cf.ino == g->cf.ino;

	fd_put(f);
	fd_put(g);
	return same;
}

/* What of [*from, + size) is in the file; -EINVAL: the two ranges overlap. */
static ssize_t copy_size(
	int in, const off_t *in_offset, int out, const off_t *out_offset, size_t size)
{
	off_t from = in_offset ? *in_offset : wfs_lseek(in, 0, SEEK_CUR);
	off_t to = out_offset ? *out_offset : wfs_lseek(out, 0, SEEK_CUR);
	off_t apart = from < to ? to - from : from - to;
	struct stat st;

	if (from < 0 || to < 0)
		return -EINVAL;
	if (wfs_fstat(in, &st))
		return -errno;
	if (from >= st.st_size)
		return 0;
	if (size > (size_t)(st.st_size - from))
		size = (size_t)(st.st_size - from);
	if (size > SSIZE_MAX)
		size = SSIZE_MAX;
	return same_file(in, out) && (size_t)apart < size ? -EINVAL : (ssize_t)size;
}

ssize_t wfs_copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset,
	size_t size, unsigned flags)
{
	mode_t from, to;
	ssize_t rc;

	if (!fd_is_wfs(in) && !fd_is_wfs(out))
		return REAL(copy_file_range)(in, in_offset, out, out_offset, size, flags);
	from = type_of(in);
	to = type_of(out);
	if (!from || !to)
		return -1;
	rc = copy_check(in, out);
	if (flags)
		rc = -EINVAL;
	else if (from == S_IFDIR || to == S_IFDIR)
		rc = -EISDIR;
	else if (from != S_IFREG || to != S_IFREG)
		rc = -EINVAL;
	else if (rc == -EINVAL)
		rc = -EBADF; /* O_APPEND */
	else if (!rc)
		rc = copy_size(in, in_offset, out, out_offset, size);
	if (rc < 0)
		return answer(rc);
	return copy_through(in, in_offset, out, out_offset, (size_t)rc);
}
EXPORT(copy_file_range, wfs_copy_file_range);

ssize_t wfs_sendfile(int out, int in, off_t *offset, size_t size)
{
	int rc;

	if (!fd_is_wfs(in) && !fd_is_wfs(out))
		return REAL(sendfile)(out, in, offset, size);
	rc = copy_check(in, out);
	return rc ? answer(rc) : copy_through(in, offset, out, NULL, size);
}
EXPORT(sendfile, wfs_sendfile);
EXPORT(sendfile64, wfs_sendfile);

/* One side is a pipe: one bufferful, so that it does not block half-way. */
ssize_t wfs_splice(
	int in, off_t *in_offset, int out, off_t *out_offset, size_t size, unsigned flags)
{
	bool from_pipe, to_pipe;
	int rc;

	if (!fd_is_wfs(in) && !fd_is_wfs(out))
		return REAL(splice)(in, in_offset, out, out_offset, size, flags);
	rc = copy_check(in, out);
	if (rc)
		return answer(rc);
	from_pipe = type_of(in) == S_IFIFO;
	to_pipe = type_of(out) == S_IFIFO;
	if (!from_pipe && !to_pipe)
		return answer(-EINVAL);
	if ((from_pipe && in_offset) || (to_pipe && out_offset))
		return answer(-ESPIPE);
	if (flags & SPLICE_F_NONBLOCK) {
		struct pollfd ready = {
			from_pipe ? in : out, from_pipe ? POLLIN : POLLOUT, 0};

		if (raw(SYS_poll, &ready, 1, 0) == 0)
			return answer(-EAGAIN);
	}
	return copy_through(in, in_offset, out, out_offset, size < 65536 ? size : 65536);
}
EXPORT(splice, wfs_splice);

/* tee is between pipes, vmsplice to or from one. */
ssize_t wfs_tee(int in, int out, size_t size, unsigned flags)
{
	if (fd_is_wfs(in) || fd_is_wfs(out))
		return answer(-EINVAL);
	return REAL(tee)(in, out, size, flags);
}
EXPORT(tee, wfs_tee);

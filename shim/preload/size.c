/*
 * The size of files, stable storage, and copying between descriptors.
 *
 * Space is not reserved: fallocate extends or does nothing. Copies with a WFS side go
 * through a bounded buffer.
 */
#include <string.h>
#include <sys/mman.h>
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

static int file_set_size(struct client *c, struct file *f, off_t size)
{
	struct where self = {.start = f->cf.ino, .path = ""};
	struct client_set set = {
		.mask = CLIENT_SET_SIZE, .size_bytes = (uint64_t)size, .by_fd = true};
	struct client_attr attr;
	int rc;

	if (size < 0 || S_ISDIR(f->cf.mode) || !file_writable(f))
		return f->flags & O_PATH ? -EBADF : -EINVAL;
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
		rc = size < 0 ? -EINVAL
			      : client_setattr(p.client, &p.where, true, &set, &attr);
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

static int WFS_USED wfs_syncfs(int fd)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(syncfs)(fd);
	fd_put(f);
	return (int)answer(map_flush_file(NULL));
}
EXPORT(syncfs, wfs_syncfs);

static int WFS_USED wfs_sync_file_range(int fd, off_t offset, off_t size, unsigned flags)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(sync_file_range)(fd, offset, size, flags);
	fd_put(f);
	return wfs_fsync(fd);
}
EXPORT(sync_file_range, wfs_sync_file_range);

static int WFS_USED wfs_posix_fadvise(int fd, off_t offset, off_t size, int advice)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(posix_fadvise)(fd, offset, size, advice);
	fd_put(f);
	return 0;
}
EXPORT(posix_fadvise, wfs_posix_fadvise);
EXPORT(posix_fadvise64, wfs_posix_fadvise);

static ssize_t WFS_USED wfs_readahead(int fd, off_t offset, size_t size)
{
	struct file *f = fd_file(fd);

	if (!f)
		return REAL(readahead)(fd, offset, size);
	fd_put(f);
	return 0;
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

ssize_t wfs_copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset,
	size_t size, unsigned flags)
{
	struct file *f;

	if (!fd_is_wfs(in) && !fd_is_wfs(out))
		return REAL(copy_file_range)(in, in_offset, out, out_offset, size, flags);
	if (flags)
		return answer(-EINVAL);
	f = fd_file(out);
	if (f && (f->flags & O_APPEND)) {
		fd_put(f);
		return answer(-EBADF);
	}
	fd_put(f);
	return copy_through(in, in_offset, out, out_offset, size);
}
EXPORT(copy_file_range, wfs_copy_file_range);

ssize_t wfs_sendfile(int out, int in, off_t *offset, size_t size)
{
	if (!fd_is_wfs(in) && !fd_is_wfs(out))
		return REAL(sendfile)(out, in, offset, size);
	return copy_through(in, offset, out, NULL, size);
}
EXPORT(sendfile, wfs_sendfile);
EXPORT(sendfile64, wfs_sendfile);

/* One side of a splice is a pipe: one bufferful, so that it does not block half-way. */
static ssize_t WFS_USED wfs_splice(int in, off_t *in_offset, int out, off_t *out_offset,
	size_t size, unsigned flags)
{
	if (!fd_is_wfs(in) && !fd_is_wfs(out))
		return REAL(splice)(in, in_offset, out, out_offset, size, flags);
	return copy_through(in, in_offset, out, out_offset, size < 65536 ? size : 65536);
}
EXPORT(splice, wfs_splice);

/*
 * Reading, writing and the file offset.
 *
 * The offset is the placeholder's kernel file position, read and set under the file's
 * guard, so that two threads do not interleave; between processes that share it the two
 * steps are not atomic. A directory's position is its cookie (dir.c).
 *
 * All are cancellation points, before they begin.
 *
 * Several buffers (readv, writev) go through a copy and are one call to the client: when
 * they append, which must be atomic between clients, and when they are small, as each
 * call is a round trip.
 */
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/map.h"
#include "shim/preload/real.h"

#define IO_SIZE_MAX  0x7ffff000u /* as the kernel */
#define GATHER_SMALL 16384u      /* on the stack */
#define GATHER_MAX   (1 << 20)
#define AT_END       (-1)

enum io_kind { IO_READ, IO_WRITE };

struct io {
	struct client *client;
	struct file *file;
	int fd;
	enum io_kind kind;
};

/* 1: ours, to be ended by io_end. 0: local. Negative: error. */
static int io_begin(struct io *io, int fd, enum io_kind kind)
{
	unsigned mode;
	int rc;

	pthread_testcancel();
	rc = fd_client(fd, &io->file, &io->client);
	if (rc || !io->file)
		return rc;
	io->fd = fd;
	io->kind = kind;
	mode = io->file->flags & O_ACCMODE;
	if ((io->file->flags & O_PATH) ||
		(kind == IO_READ ? mode == O_WRONLY : mode == O_RDONLY))
		rc = -EBADF;
	else if (S_ISDIR(io->file->cf.mode))
		rc = -EISDIR;
	if (!rc)
		return 1;
	fd_put(io->file);
	return rc;
}

static long io_end(struct io *io, long rc)
{
	fd_put(io->file);
	return answer(fs_result(rc));
}

/* As the descriptor's description says, which another process may have changed. */
static bool io_appends(const struct io *io)
{
	return io->kind == IO_WRITE && (raw(SYS_fcntl, io->fd, F_GETFL) & O_APPEND);
}

static ssize_t io_at(struct io *io, void *data, size_t size, uint64_t offset)
{
	ssize_t done;

	if (offset > INT64_MAX)
		return -EINVAL;
	if (!data && size)
		return -EFAULT;
	if (size > IO_SIZE_MAX)
		size = IO_SIZE_MAX;
	if (io->kind == IO_READ)
		return client_read(io->client, &io->file->cf, data, size, offset);
	done = limit_write(io->client, io->file, (int64_t)offset, size);
	if (done < 0)
		return done;
	size = (size_t)done;
	return client_write(io->client, &io->file->cf, data, size, offset);
}

static ssize_t io_append(struct io *io, const void *data, size_t size)
{
	uint64_t end = 0;
	ssize_t done;

	if (!data && size)
		return -EFAULT;
	if (size > IO_SIZE_MAX)
		size = IO_SIZE_MAX;
	done = limit_write(io->client, io->file, LIMIT_AT_END, size);
	if (done <= 0)
		return done;
	done = client_append(io->client, &io->file->cf, data, (size_t)done, &end);
	if (done > 0)
		(void)fd_position_set(io->fd, end);
	return done;
}

/* read or write at the file offset, which moves. */
static ssize_t io_here(struct io *io, void *data, size_t size)
{
	int64_t position;
	bool locked;
	ssize_t done;

	locked = guard_lock(&io->file->guard);
	if (io_appends(io)) {
		done = io_append(io, data, size);
	} else {
		position = fd_position(io->fd);
		done = position < 0 ? position : io_at(io, data, size, (uint64_t)position);
		if (done > 0)
			(void)fd_position_set(io->fd, (uint64_t)position + (uint64_t)done);
	}
	guard_unlock(&io->file->guard, locked);
	return done;
}

ssize_t wfs_read(int fd, void *data, size_t size)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_READ);

	if (!rc)
		return REAL(read)(fd, data, size);
	return rc < 0 ? answer(rc) : io_end(&io, io_here(&io, data, size));
}
EXPORT(read, wfs_read);
EXPORT(__read, wfs_read);

ssize_t wfs_write(int fd, const void *data, size_t size)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_WRITE);

	if (!rc)
		return REAL(write)(fd, data, size);
	return rc < 0 ? answer(rc) : io_end(&io, io_here(&io, (void *)data, size));
}
EXPORT(write, wfs_write);
EXPORT(__write, wfs_write);

ssize_t wfs_pread(int fd, void *data, size_t size, off_t offset)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_READ);

	if (!rc)
		return REAL(pread)(fd, data, size, offset);
	return rc < 0 ? answer(rc) : io_end(&io, io_at(&io, data, size, (uint64_t)offset));
}
EXPORT(pread, wfs_pread);
EXPORT(pread64, wfs_pread);
EXPORT(__pread64, wfs_pread);

/* As Linux: O_APPEND wins over the offset. */
static ssize_t io_pwrite(struct io *io, const void *data, size_t size, off_t offset)
{
	int64_t position;
	ssize_t done;
	bool locked;

	if (offset < 0)
		return -EINVAL;
	if (!io_appends(io))
		return io_at(io, (void *)data, size, (uint64_t)offset);
	locked = guard_lock(&io->file->guard);
	position = fd_position(io->fd);
	done = io_append(io, data, size);
	if (position >= 0)
		(void)fd_position_set(io->fd, (uint64_t)position);
	guard_unlock(&io->file->guard, locked);
	return done;
}

ssize_t wfs_pwrite(int fd, const void *data, size_t size, off_t offset)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_WRITE);

	if (!rc)
		return REAL(pwrite)(fd, data, size, offset);
	return rc < 0 ? answer(rc) : io_end(&io, io_pwrite(&io, data, size, offset));
}
EXPORT(pwrite, wfs_pwrite);
EXPORT(pwrite64, wfs_pwrite);
EXPORT(__pwrite64, wfs_pwrite);

static ssize_t WFS_USED wfs_read_chk(int fd, void *data, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return wfs_read(fd, data, size);
}
EXPORT(__read_chk, wfs_read_chk);

static ssize_t WFS_USED wfs_pread_chk(
	int fd, void *data, size_t size, off_t offset, size_t room)
{
	if (size > room)
		__builtin_trap();
	return wfs_pread(fd, data, size, offset);
}
EXPORT(__pread_chk, wfs_pread_chk);
EXPORT(__pread64_chk, wfs_pread_chk);

/* --- several buffers ---------------------------------------------------------------- */

static ssize_t iov_total(const struct iovec *iov, int count)
{
	size_t total = 0;

	if (count < 0 || count > IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < count; i++) {
		total += iov[i].iov_len;
		if (total > SSIZE_MAX || iov[i].iov_len > SSIZE_MAX)
			return -EINVAL;
	}
	return (ssize_t)total;
}

static void iov_copy(
	char *data, size_t size, const struct iovec *iov, int count, bool out)
{
	for (int i = 0; i < count && size; i++) {
		size_t n = iov[i].iov_len < size ? iov[i].iov_len : size;

		memcpy(out ? data : iov[i].iov_base, out ? iov[i].iov_base : data, n);
		data += n;
		size -= n;
	}
}

/* All buffers as one, through a copy; offset AT_END: appended. */
static ssize_t iov_gather(
	struct io *io, const struct iovec *iov, int count, size_t total, int64_t offset)
{
	char small[GATHER_SMALL];
	char *data = small;
	ssize_t done;
	long map = 0;

	if (total > sizeof(small)) {
		map = raw(SYS_mmap, NULL, total, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (map < 0 && map > -4096)
			return map;
		data = (char *)map;
	}
	if (io->kind == IO_WRITE)
		iov_copy(data, total, iov, count, true);
	done = offset == AT_END ? io_append(io, data, total)
				: io_at(io, data, total, (uint64_t)offset);
	if (io->kind == IO_READ && done > 0)
		iov_copy(data, (size_t)done, iov, count, false);
	if (map)
		(void)raw(SYS_munmap, map, total);
	return done;
}

/* Several small ones as one; else buffer by buffer until one comes back short. */
static ssize_t iov_run(struct io *io, const struct iovec *iov, int count, uint64_t offset)
{
	ssize_t done = iov_total(iov, count);

	if (done && done <= GATHER_MAX && count > 1)
		return iov_gather(io, iov, count, (size_t)done, (int64_t)offset);
	done = 0;
	for (int i = 0; i < count; i++) {
		ssize_t n;

		if (!iov[i].iov_len)
			continue;
		n = io_at(io, iov[i].iov_base, iov[i].iov_len, offset + (uint64_t)done);
		if (n < 0)
			return done ? done : n;
		done += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return done;
}

/* offset -1: here, and the offset moves. */
static ssize_t iov_io(
	struct io *io, const struct iovec *iov, int count, off_t offset, bool at_end)
{
	ssize_t done = iov_total(iov, count);
	int64_t position;
	bool locked;

	if (done < 0)
		return done;
	if (offset < -1)
		return -EINVAL;
	at_end = at_end || io_appends(io);
	if (offset >= 0 && !at_end)
		return iov_run(io, iov, count, (uint64_t)offset);
	locked = guard_lock(&io->file->guard);
	position = fd_position(io->fd);
	if (position < 0) {
		done = position;
	} else if (at_end) {
		done = iov_gather(io, iov, count, (size_t)done, AT_END);
		if (offset >= 0)
			(void)fd_position_set(io->fd, (uint64_t)position);
	} else {
		done = iov_run(io, iov, count, (uint64_t)position);
		if (done > 0)
			(void)fd_position_set(io->fd, (uint64_t)position + (uint64_t)done);
	}
	guard_unlock(&io->file->guard, locked);
	return done;
}

ssize_t wfs_readv(int fd, const struct iovec *iov, int count)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_READ);

	if (!rc)
		return REAL(readv)(fd, iov, count);
	return rc < 0 ? answer(rc) : io_end(&io, iov_io(&io, iov, count, -1, false));
}
EXPORT(readv, wfs_readv);

ssize_t wfs_writev(int fd, const struct iovec *iov, int count)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_WRITE);

	if (!rc)
		return REAL(writev)(fd, iov, count);
	return rc < 0 ? answer(rc) : io_end(&io, iov_io(&io, iov, count, -1, false));
}
EXPORT(writev, wfs_writev);

static ssize_t WFS_USED wfs_preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_READ);

	if (!rc)
		return REAL(preadv)(fd, iov, count, offset);
	if (rc > 0)
		rc = offset < 0 ? (int)(fd_put(io.file), -EINVAL) : rc;
	return rc < 0 ? answer(rc) : io_end(&io, iov_io(&io, iov, count, offset, false));
}
EXPORT(preadv, wfs_preadv);
EXPORT(preadv64, wfs_preadv);

static ssize_t WFS_USED wfs_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_WRITE);

	if (!rc)
		return REAL(pwritev)(fd, iov, count, offset);
	if (rc > 0)
		rc = offset < 0 ? (int)(fd_put(io.file), -EINVAL) : rc;
	return rc < 0 ? answer(rc) : io_end(&io, iov_io(&io, iov, count, offset, false));
}
EXPORT(pwritev, wfs_pwritev);
EXPORT(pwritev64, wfs_pwritev);

/* Every write is on stable storage when it returns, so RWF_DSYNC and RWF_SYNC are met. */
#define FLAGS_READ  RWF_HIPRI
#define FLAGS_WRITE (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_APPEND)

ssize_t wfs_preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_READ);

	if (!rc)
		return REAL(preadv2)(fd, iov, count, offset, flags);
	if (rc > 0 && (flags & ~FLAGS_READ))
		return io_end(&io, -EOPNOTSUPP);
	return rc < 0 ? answer(rc) : io_end(&io, iov_io(&io, iov, count, offset, false));
}
EXPORT(preadv2, wfs_preadv2);
EXPORT(preadv64v2, wfs_preadv2);

ssize_t wfs_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct io io;
	int rc = io_begin(&io, fd, IO_WRITE);

	if (!rc)
		return REAL(pwritev2)(fd, iov, count, offset, flags);
	if (rc > 0 && (flags & ~FLAGS_WRITE))
		return io_end(&io, -EOPNOTSUPP);
	return rc < 0 ? answer(rc)
		      : io_end(&io, iov_io(&io, iov, count, offset, flags & RWF_APPEND));
}
EXPORT(pwritev2, wfs_pwritev2);
EXPORT(pwritev64v2, wfs_pwritev2);

/* --- the offset --------------------------------------------------------------------- */

static int64_t seek_data_hole(const struct client_attr *attr, off_t offset, int whence)
{
	if (offset < 0 || (uint64_t)offset >= attr->size_bytes)
		return -ENXIO;
	return whence == SEEK_DATA ? offset : (int64_t)attr->size_bytes;
}

static int64_t file_seek(struct client *c, struct file *f, int fd, off_t offset, int whence)
{
	struct client_attr attr;
	int64_t to = offset;
	int rc;

	if (f->flags & O_PATH)
		return -EBADF;
	if (whence == SEEK_SET || whence == SEEK_CUR)
		return raw(SYS_lseek, fd, offset, whence);
	if (whence != SEEK_END && whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	rc = client_getattr(c, f->cf.ino, &attr);
	if (rc)
		return rc;
	if (whence != SEEK_END)
		to = seek_data_hole(&attr, offset, whence);
	else if (__builtin_add_overflow((int64_t)attr.size_bytes, offset, &to))
		return -EOVERFLOW;
	if (to < 0)
		return whence == SEEK_END ? -EINVAL : to;
	return raw(SYS_lseek, fd, to, SEEK_SET);
}

off_t wfs_lseek(int fd, off_t offset, int whence)
{
	struct file *f;
	struct client *c;
	int rc = fd_client(fd, &f, &c);
	int64_t to;

	if (rc)
		return answer(rc);
	if (!f)
		return REAL(lseek)(fd, offset, whence);
	to = file_seek(c, f, fd, offset, whence);
	fd_put(f);
	return answer(fs_result(to));
}
EXPORT(lseek, wfs_lseek);
EXPORT(lseek64, wfs_lseek);
EXPORT(__lseek, wfs_lseek);
EXPORT(llseek, wfs_lseek);

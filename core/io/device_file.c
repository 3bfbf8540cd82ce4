/*
 * A device that is a raw block device or a preallocated file, through a ring, O_DIRECT.
 *
 * Durable writes carry DSYNC. Only where the kernel says that a block device writes
 * through (it has no volatile cache, or a protected one) is that left out. A regular file
 * always gets it: whatever its disk does, the file system has metadata to order.
 *
 * The claim is O_EXCL on a block device, which also excludes mounts, and flock on a file.
 * Both end with the last reference to the open file, of which the ring's fixed slot is
 * one; so close empties the slot.
 *
 * discard does nothing on a regular file, nor on a loop device over one. A hole would give
 * back the very blocks whose allocation device_file_create paid for in advance: later
 * durable writes would have to wait for the file system to allocate and convert extents
 * again (three times slower, measured on ext4), and could fail with ENOSPC on a file
 * system that others filled meanwhile.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/types.h"
#include "core/io/device.h"

#define CREATE_WRITE_SIZE ((size_t)4 << 20)
#define SUBMIT_AT_ONCE    (64u << 10)

struct device_file {
	struct device dev;
	struct ring *ring;
	int fd;
	unsigned in_flight_count;
	bool is_block;
	bool discards; /* a block device that is not a file behind a loop */
	bool write_through;
	bool has_memory; /* registered with the ring */
};

static struct device_file *file_of(struct device *dev)
{
	return container_of(dev, struct device_file, dev);
}

static int io_send(struct device_file *file, struct device_io *io)
{
	uint8_t *data = (uint8_t *)io->data + io->done_bytes;
	uint32_t left_bytes = io->size_bytes - io->done_bytes;
	uint64_t offset_bytes = io->offset_bytes + io->done_bytes;

	switch (io->op) {
	case DEVICE_READ:
		return ring_read(file->ring, &io->ring_op, file->fd, data, left_bytes,
			offset_bytes);
	case DEVICE_WRITE:
		return ring_write(file->ring, &io->ring_op, file->fd, data, left_bytes,
			offset_bytes, io->durable && !file->write_through);
	default:
		return ring_fsync(file->ring, &io->ring_op, file->fd);
	}
}

static void io_finish(struct device_file *file, struct device_io *io, int status)
{
	file->in_flight_count--;
	io->done(io, status);
}

static void io_done(struct ring_op *op, int result)
{
	struct device_io *io = container_of(op, struct device_io, ring_op);
	struct device_file *file = file_of(io->device);
	int rc;

	if (result < 0 && result != -EINTR && result != -EAGAIN) {
		io_finish(file, io, result);
		return;
	}
	if (result >= 0 && io->op == DEVICE_FLUSH) {
		io_finish(file, io, 0);
		return;
	}
	if (result == 0) {
		/* The end, before the size that there was at open. */
		io_finish(file, io, -EIO);
		return;
	}
	if (result > 0)
		io->done_bytes += (uint32_t)result;
	if (io->op != DEVICE_FLUSH && io->done_bytes == io->size_bytes) {
		io_finish(file, io, 0);
		return;
	}
	rc = io_send(file, io);
	if (rc)
		io_finish(file, io, rc);
}

static int device_file_submit(struct device *dev, struct device_io *io)
{
	struct device_file *file = file_of(dev);
	int rc;

	if (io->op != DEVICE_FLUSH) {
		assert(io->size_bytes > 0 && io->size_bytes % WFS_BLOCK_SIZE == 0);
		assert(io->offset_bytes % WFS_BLOCK_SIZE == 0);
		assert((uintptr_t)io->data % WFS_BLOCK_SIZE == 0);
		if (io->size_bytes > dev->size_bytes ||
			io->offset_bytes > dev->size_bytes - io->size_bytes)
			return -EIO;
	}
	io->device = dev;
	io->done_bytes = 0;
	io->ring_op.done = io_done;
	rc = io_send(file, io);
	if (rc == 0)
		file->in_flight_count++;
	/* Worth a system call of its own: the device works while its owner goes on. */
	if (rc == 0 && io->size_bytes >= SUBMIT_AT_ONCE)
		ring_submit(file->ring);
	return rc;
}

static int device_file_discard(struct device *dev, uint64_t offset_bytes,
	uint64_t size_bytes)
{
	struct device_file *file = file_of(dev);
	uint64_t range[2] = {offset_bytes, size_bytes};

	if (!file->discards || ioctl(file->fd, BLKDISCARD, range) == 0)
		return 0;
	return errno == EOPNOTSUPP ? 0 : -errno;
}

static void device_file_register_memory(struct device *dev, void *base, size_t size_bytes)
{
	/* Without it every operation pins its pages itself, which is merely slower. Huge
	 * pages keep a long write in few pieces, which the device takes in one go. */
	struct device_file *file = file_of(dev);

	(void)madvise(base, size_bytes, MADV_HUGEPAGE);
	file->has_memory = ring_register_memory(file->ring, base, size_bytes) == 0;
}

static void device_file_close(struct device *dev)
{
	struct device_file *file = file_of(dev);

	/* The kernel may still read and write the callers' memory. */
	while (file->in_flight_count > 0)
		if (ring_wait(file->ring, 1000000) < 0)
			break;
	if (file->has_memory)
		ring_unregister_memory(file->ring);
	ring_unregister_file(file->ring, file->fd);
	close(file->fd);
	mem_free(file);
}

static const struct device_ops device_file_ops = {
	.submit = device_file_submit,
	.discard = device_file_discard,
	.register_memory = device_file_register_memory,
	.close = device_file_close,
};

/* A partition has no queue of its own: its disk, the directory above, does. */
static bool device_writes_through(dev_t id)
{
	static const char wanted[] = "write through\n";
	char path[128], text[sizeof(wanted)] = "";
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/write_cache", major(id),
		minor(id));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/../queue/write_cache",
			major(id), minor(id));
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	return got > 0 && strcmp(text, wanted) == 0;
}

static int file_claim(struct device_file *file, const char *path)
{
	int flags = O_RDWR | O_DIRECT | O_CLOEXEC;
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return -ENOTBLK;
	file->is_block = S_ISBLK(st.st_mode);
	file->discards = file->is_block && major(st.st_rdev) != LOOP_MAJOR;
	file->fd = open(path, file->is_block ? flags | O_EXCL : flags);
	if (file->fd < 0 || fstat(file->fd, &st) < 0)
		return -errno;
	if (file->is_block != S_ISBLK(st.st_mode))
		return -ENOTBLK;
	if (!file->is_block && flock(file->fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	file->dev.size_bytes = (uint64_t)st.st_size;
	if (file->is_block) {
		if (ioctl(file->fd, BLKGETSIZE64, &file->dev.size_bytes) < 0)
			return -errno;
		file->write_through = device_writes_through(st.st_rdev);
	}
	file->dev.size_bytes -= file->dev.size_bytes % WFS_BLOCK_SIZE;
	return file->dev.size_bytes > 0 ? 0 : -EINVAL;
}

int device_file_open(const char *path, struct ring *ring, struct device **dev_out)
{
	struct device_file *file = mem_zalloc(sizeof(*file));
	int rc;

	if (!file)
		return -ENOMEM;
	file->dev.ops = &device_file_ops;
	file->ring = ring;
	file->fd = -1;
	rc = file_claim(file, path);
	if (rc) {
		if (file->fd >= 0)
			close(file->fd);
		mem_free(file);
		return rc;
	}
	/* Without the slot each operation looks the file up, which is merely slower. */
	(void)ring_register_file(ring, file->fd);
	*dev_out = &file->dev;
	return 0;
}

static int file_fill(int fd, uint64_t size_bytes, const uint8_t *zeros,
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes), void *ctx)
{
	uint64_t done_bytes = 0;

	/* For contiguous extents and an early ENOSPC, where the file system can. */
	if (fallocate(fd, 0, 0, (off_t)size_bytes) < 0 && errno != EOPNOTSUPP)
		return -errno;
	while (done_bytes < size_bytes) {
		uint64_t left = size_bytes - done_bytes;
		ssize_t n = pwrite(fd, zeros,
			left < CREATE_WRITE_SIZE ? (size_t)left : CREATE_WRITE_SIZE,
			(off_t)done_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		done_bytes += (uint64_t)n;
		if (progress)
			progress(ctx, done_bytes, size_bytes);
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The file's name has to survive a crash as well. */
static int parent_sync(const char *path)
{
	const char *slash = strrchr(path, '/');
	char parent[WFS_PATH_MAX] = ".";
	int fd, rc = 0;

	if (slash)
		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path + 1), path);
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int device_file_create(const char *path, uint64_t size_bytes,
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes), void *ctx)
{
	uint8_t *zeros;
	int fd, rc;

	if (size_bytes == 0 || size_bytes % WFS_BLOCK_SIZE || size_bytes > INT64_MAX)
		return -EINVAL;
	zeros = mem_aligned(WFS_BLOCK_SIZE, CREATE_WRITE_SIZE);
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, CREATE_WRITE_SIZE);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		rc = -errno;
		/* Some file systems make the file before they refuse O_DIRECT. */
		if (rc == -EINVAL)
			unlink(path);
		mem_free(zeros);
		return rc;
	}
	rc = file_fill(fd, size_bytes, zeros, progress, ctx);
	close(fd);
	mem_free(zeros);
	if (rc == 0)
		rc = parent_sync(path);
	if (rc)
		unlink(path);
	return rc;
}

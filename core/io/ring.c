/*
 * The ring over liburing.
 *
 * With DEFER_TASKRUN the kernel delivers completions only when this thread enters it, and
 * TASKRUN_FLAG tells through shared memory when that would pay: a spinning loop of
 * ring_wait(ring, 0) makes no system call while nothing is to be sent or fetched.
 *
 * Completions are consumed one by one, each before its callback runs, so that callbacks
 * may queue, submit, and even call ring_wait. One turn runs no more callbacks than were
 * ready at its beginning.
 *
 * The kernel pins at most 1 GiB per fixed buffer, so registered memory is cut into slabs
 * of that size; an operation that straddles two goes the ordinary way.
 */
#include "core/io/ring.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>

#include "core/base/mem.h"

#define RING_FILES_MAX   4
#define RING_SLABS_MAX   64u
#define RING_SLAB_SHIFT  30
#define RING_SLAB_SIZE   ((size_t)1 << RING_SLAB_SHIFT)
#define RING_TIMEOUT_MAX ((uint64_t)3600 * 1000 * 1000)

struct ring {
	struct io_uring uring;
	int files[RING_FILES_MAX]; /* the fd in each fixed slot, or -1 */
	bool files_registered;
	uintptr_t memory_base;
	size_t memory_size_bytes;
	unsigned transfers;
};

static int uring_init(struct io_uring *uring, unsigned entries)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
			IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		.cq_entries = entries * 4,
	};
	int rc = io_uring_queue_init_params(entries, uring, &params);

	if (rc == -EINVAL) {
		params = (struct io_uring_params){
			.flags = IORING_SETUP_CQSIZE,
			.cq_entries = entries * 4,
		};
		rc = io_uring_queue_init_params(entries, uring, &params);
	}
	return rc == -EPERM ? -ENOSYS : rc;
}

int ring_new(unsigned entries, struct ring **ring_out)
{
	struct ring *ring = mem_zalloc(sizeof(*ring));
	int rc;

	if (!ring)
		return -ENOMEM;
	rc = uring_init(&ring->uring, entries);
	if (rc) {
		mem_free(ring);
		return rc;
	}
	for (int i = 0; i < RING_FILES_MAX; i++)
		ring->files[i] = -1;
	*ring_out = ring;
	return 0;
}

void ring_free(struct ring *ring)
{
	if (!ring)
		return;
	io_uring_queue_exit(&ring->uring);
	mem_free(ring);
}

static int ring_file_slot(const struct ring *ring, int fd)
{
	for (int i = 0; i < RING_FILES_MAX; i++)
		if (ring->files[i] == fd)
			return i;
	return -1;
}

int ring_register_file(struct ring *ring, int fd)
{
	int slot = ring_file_slot(ring, -1), rc;

	assert(fd >= 0);
	if (ring_file_slot(ring, fd) >= 0)
		return -EEXIST;
	if (slot < 0)
		return -ENFILE;
	if (!ring->files_registered) {
		rc = io_uring_register_files_sparse(&ring->uring, RING_FILES_MAX);
		if (rc < 0)
			return rc;
		ring->files_registered = true;
	}
	rc = io_uring_register_files_update(&ring->uring, (unsigned)slot, &fd, 1);
	if (rc < 0)
		return rc;
	ring->files[slot] = fd;
	return 0;
}

void ring_unregister_file(struct ring *ring, int fd)
{
	int slot = ring_file_slot(ring, fd), none = -1;

	if (slot < 0)
		return;
	/* What is queued was resolved to the slot, and is to meet this file in it. */
	ring_submit(ring);
	io_uring_register_files_update(&ring->uring, (unsigned)slot, &none, 1);
	ring->files[slot] = -1;
}

int ring_register_memory(struct ring *ring, void *base, size_t size_bytes)
{
	struct iovec slabs[RING_SLABS_MAX];
	unsigned count = 0;
	int rc;

	assert(ring->memory_size_bytes == 0 && size_bytes > 0);
	for (size_t at = 0; at < size_bytes; at += RING_SLAB_SIZE) {
		size_t left = size_bytes - at;

		if (count == RING_SLABS_MAX)
			return -ENOMEM;
		slabs[count].iov_base = (char *)base + at;
		slabs[count].iov_len = left < RING_SLAB_SIZE ? left : RING_SLAB_SIZE;
		count++;
	}
	rc = io_uring_register_buffers(&ring->uring, slabs, count);
	if (rc < 0)
		return rc;
	ring->memory_base = (uintptr_t)base;
	ring->memory_size_bytes = size_bytes;
	return 0;
}

void ring_unregister_memory(struct ring *ring)
{
	if (ring->memory_size_bytes == 0)
		return;
	io_uring_unregister_buffers(&ring->uring);
	ring->memory_base = 0;
	ring->memory_size_bytes = 0;
}

/* The fixed buffer that holds all of the range, or -1. */
static int ring_slab(const struct ring *ring, const void *data, uint32_t size_bytes)
{
	uintptr_t offset = (uintptr_t)data - ring->memory_base;

	if ((uintptr_t)data < ring->memory_base || offset >= ring->memory_size_bytes ||
		ring->memory_size_bytes - offset < size_bytes)
		return -1;
	if (size_bytes == 0 || offset >> RING_SLAB_SHIFT !=
			(offset + size_bytes - 1) >> RING_SLAB_SHIFT)
		return -1;
	return (int)(offset >> RING_SLAB_SHIFT);
}

static struct io_uring_sqe *ring_sqe(struct ring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (!sqe && ring_submit(ring) >= 0)
		sqe = io_uring_get_sqe(&ring->uring);
	return sqe;
}

static void sqe_finish(struct ring *ring, struct io_uring_sqe *sqe, struct ring_op *op,
	int fd, bool transfer)
{
	int slot = ring_file_slot(ring, fd);

	op->transfer = transfer;
	ring->transfers += transfer;
	if (slot >= 0) {
		sqe->fd = slot;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	io_uring_sqe_set_data(sqe, op);
}

unsigned ring_transfers(const struct ring *ring)
{
	return ring->transfers;
}

int ring_read(struct ring *ring, struct ring_op *op, int fd, void *data,
	uint32_t size_bytes, uint64_t offset_bytes)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);
	int slab = ring_slab(ring, data, size_bytes);

	if (!sqe)
		return -EAGAIN;
	if (slab >= 0)
		io_uring_prep_read_fixed(sqe, fd, data, size_bytes, offset_bytes, slab);
	else
		io_uring_prep_read(sqe, fd, data, size_bytes, offset_bytes);
	sqe_finish(ring, sqe, op, fd, true);
	return 0;
}

int ring_write(struct ring *ring, struct ring_op *op, int fd, const void *data,
	uint32_t size_bytes, uint64_t offset_bytes, bool dsync)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);
	int slab = ring_slab(ring, data, size_bytes);

	if (!sqe)
		return -EAGAIN;
	if (slab >= 0)
		io_uring_prep_write_fixed(sqe, fd, data, size_bytes, offset_bytes, slab);
	else
		io_uring_prep_write(sqe, fd, data, size_bytes, offset_bytes);
	if (dsync)
		sqe->rw_flags = RWF_DSYNC;
	sqe_finish(ring, sqe, op, fd, true);
	return 0;
}

int ring_fsync(struct ring *ring, struct ring_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	sqe_finish(ring, sqe, op, fd, true);
	return 0;
}

int ring_poll(struct ring *ring, struct ring_op *op, int fd, short events)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_add(sqe, fd, (unsigned short)events);
	sqe_finish(ring, sqe, op, fd, false);
	return 0;
}

int ring_poll_cancel(struct ring *ring, struct ring_op *op)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);

	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_remove(sqe, (uintptr_t)op);
	io_uring_sqe_set_data(sqe, NULL);
	return 0;
}

/* Conditions that pass once completions are fetched, or at the next turn. */
static int submit_result(int rc)
{
	switch (rc) {
	case -EINTR:
	case -ETIME:
	case -EAGAIN:
	case -EBUSY:
		return 0;
	default:
		return rc < 0 ? rc : 0;
	}
}

int ring_submit(struct ring *ring)
{
	if (io_uring_sq_ready(&ring->uring) == 0)
		return 0;
	return submit_result(io_uring_submit(&ring->uring));
}

static int ring_reap(struct ring *ring)
{
	struct io_uring_cqe *cqe = NULL;
	unsigned ready_count;
	int done_count = 0;

	io_uring_peek_cqe(&ring->uring, &cqe);
	ready_count = io_uring_cq_ready(&ring->uring);
	for (; ready_count > 0; ready_count--) {
		struct ring_op *op;
		int result;

		if (io_uring_peek_cqe(&ring->uring, &cqe) != 0)
			break;
		op = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&ring->uring, cqe);
		if (!op)
			continue;
		ring->transfers -= op->transfer;
		op->done(op, result);
		done_count++;
	}
	return done_count;
}

int ring_wait(struct ring *ring, uint64_t timeout_us)
{
	struct io_uring_cqe *cqe;
	struct __kernel_timespec timeout;
	int rc = 0, done_count;

	if (io_uring_sq_ready(&ring->uring) > 0)
		rc = submit_result(io_uring_submit_and_get_events(&ring->uring));
	if (rc < 0)
		return rc;
	done_count = ring_reap(ring);
	if (done_count > 0 || timeout_us == 0)
		return done_count;
	if (timeout_us > RING_TIMEOUT_MAX)
		timeout_us = RING_TIMEOUT_MAX;
	timeout.tv_sec = (int64_t)(timeout_us / 1000000);
	timeout.tv_nsec = (long long)(timeout_us % 1000000) * 1000;
	rc = submit_result(io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1,
		&timeout, NULL));
	if (rc < 0)
		return rc;
	return ring_reap(ring);
}

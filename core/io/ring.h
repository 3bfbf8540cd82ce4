/*
 * One io_uring per shard thread: files, devices, and readiness of any file descriptor,
 * all in the one place where the thread sleeps. ring.c is the only file that knows
 * liburing. SINGLE_ISSUER and DEFER_TASKRUN where the kernel has them. Not locked: the
 * thread that made the ring is the only one to call.
 *
 * An operation is an embedded struct ring_op that stays untouched until its callback.
 */
#ifndef WFS_IO_RING_H
#define WFS_IO_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

struct ring_op {
	/* result: as the system call's, or negative errno. Called from ring_wait. */
	void (*done)(struct ring_op *op, int result);
	bool transfer; /* private: a read, write or fsync, not a poll */
};

/* -ENOMEM; -ENOSYS when the kernel has no io_uring or it is forbidden. */
int ring_new(unsigned entries, struct ring **ring_out);
void ring_free(struct ring *ring);

/* Register one file (O_DIRECT device): later calls with this fd use the fixed slot. */
int ring_register_file(struct ring *ring, int fd);
/* Before closing a registered fd: the slot holds the file open. */
void ring_unregister_file(struct ring *ring, int fd);
/* Register memory for fixed I/O; ring_read/ring_write find out by themselves. At most
 * once per ring. -ENOMEM over RLIMIT_MEMLOCK: carry on without. */
int ring_register_memory(struct ring *ring, void *base, size_t size_bytes);
/* Nothing in flight may use it any more; other memory can be registered then. */
void ring_unregister_memory(struct ring *ring);

/* Reads, writes and fsyncs under way: the device is at work. */
unsigned ring_transfers(const struct ring *ring);

/* Queue; sent by ring_submit, by ring_wait, or when the queue is full. -EAGAIN: it is
 * full and the kernel takes nothing now. */
int ring_read(struct ring *ring, struct ring_op *op, int fd, void *data,
	uint32_t size_bytes, uint64_t offset_bytes);
int ring_write(struct ring *ring, struct ring_op *op, int fd, const void *data,
	uint32_t size_bytes, uint64_t offset_bytes, bool dsync);
int ring_fsync(struct ring *ring, struct ring_op *op, int fd);
/* One-shot: events as poll(2); result is revents. Re-arm in the callback. */
int ring_poll(struct ring *ring, struct ring_op *op, int fd, short events);
/* The op's callback still comes: -ECANCELED, or the readiness that was quicker. */
int ring_poll_cancel(struct ring *ring, struct ring_op *op);

int ring_submit(struct ring *ring);
/*
 * Submit, then run the callbacks of what has completed; when nothing has, sleep until
 * something does or timeout_us passes (0: do not sleep). Returns callbacks run,
 * which may be 0 early (a signal), or a negative errno when the ring is unusable.
 */
int ring_wait(struct ring *ring, uint64_t timeout_us);

#endif

/*
 * A device: a flat array of bytes with asynchronous, aligned reads and writes.
 *
 * Two implementations: device_file.c, a raw block device or a preallocated file, O_DIRECT
 * through a shard's ring; and device_sim.c, a simulated one that can tear, lose, reorder,
 * misdirect, corrupt and fail. One thread per device. Offsets, lengths and memory are
 * multiples of 4 KiB. Completion callbacks run from ring_wait (file) or
 * device_sim_step (sim), never from inside device_submit.
 */
#ifndef WFS_IO_DEVICE_H
#define WFS_IO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/env.h"
#include "core/base/list.h"
#include "core/io/ring.h"

struct device;

enum device_op { DEVICE_READ, DEVICE_WRITE, DEVICE_FLUSH };

struct device_io {
	enum device_op op;
	bool durable; /* WRITE: complete only when on stable storage */
	void *data;
	uint32_t size_bytes;
	uint64_t offset_bytes;
	/* status 0 or -EIO, -ENOSPC, ...: all of it or an error, short transfers are
	 * finished by the device. */
	void (*done)(struct device_io *io, int status);
	/* Private to the implementation from submit to done. */
	struct ring_op ring_op;
	struct device *device;
	uint32_t done_bytes;
	struct list link;
};

struct device_ops {
	/* -EIO: beyond the end; -EAGAIN, -ENOMEM: no room now. No callback then. */
	int (*submit)(struct device *dev, struct device_io *io);
	/* Best effort: the range may read back as anything afterwards. Synchronous. */
	int (*discard)(struct device *dev, uint64_t offset_bytes, uint64_t size_bytes);
	/* Pin memory for faster I/O; at most once; failure is not an error. */
	void (*register_memory)(struct device *dev, void *base, size_t size_bytes);
	/* A file waits for what flies, callbacks run. Sim: see device_sim_crash. */
	void (*close)(struct device *dev);
};

struct device { /* first member of an implementation */
	const struct device_ops *ops;
	uint64_t size_bytes;
};

static inline int device_submit(struct device *dev, struct device_io *io)
{
	return dev->ops->submit(dev, io);
}
static inline int device_discard(struct device *dev, uint64_t offset, uint64_t size)
{
	return dev->ops->discard(dev, offset, size);
}
static inline void device_close(struct device *dev)
{
	if (dev)
		dev->ops->close(dev);
}

/*
 * Open a block device or regular file on a ring (borrowed), with an exclusive claim:
 * O_EXCL on a block device, a lock on a file. -EBUSY: claimed, or mounted; -ENOTBLK:
 * neither a block device nor a regular file; -ENOENT, -EACCES, -EINVAL (no O_DIRECT).
 */
int device_file_open(const char *path, struct ring *ring, struct device **dev_out);

/*
 * Make a file of size_bytes, every block written, so that later durable writes do not
 * wait for the file system to convert extents. progress (may be NULL) hears of each part.
 * -EEXIST when there is a file already.
 */
int device_file_create(const char *path, uint64_t size_bytes,
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes),
	void *ctx);

/*
 * The simulated device. A device_sim_disk holds the bytes that survive a crash. Writes
 * sit in a volatile cache until a durable write or a flush covers them. Everything that
 * is in flight or cached at device_sim_crash is kept whole, torn at a 512-byte sector,
 * or dropped, independently, as the seed says.
 */
struct device_sim_disk;
struct device_sim_faults {
	unsigned fail_nth;       /* the nth I/O from now fails with -EIO; 0 never */
	unsigned crash_at_write; /* the nth write from now never completes, nor anything
				    after it; device_sim_crashed() turns true; 0 never */
	unsigned misdirect_nth;  /* the nth write lands one segment-sized step away */
	unsigned lose_nth;       /* the nth write is acknowledged and dropped */
	unsigned corrupt_nth;    /* the nth write has one bit flipped */
	bool reorder;            /* complete queued I/O in random order */
};
struct device_sim_disk *device_sim_disk_new(uint64_t size_bytes, uint64_t seed);
void device_sim_disk_free(struct device_sim_disk *disk);
int device_sim_open(struct device_sim_disk *disk, struct device **dev_out);
/* To arm faults; forgets that earlier ones have fired. */
struct device_sim_faults *device_sim_faults(struct device_sim_disk *disk);
/* Complete what is queued at the time of the call; returns how many callbacks ran. */
unsigned device_sim_step(struct device *dev);
/* Nothing is queued. */
bool device_sim_idle(struct device *dev);
bool device_sim_crashed(struct device_sim_disk *disk);
bool device_sim_fault_fired(struct device_sim_disk *disk);
/* Power loss: what was in flight is decided, the device object is closed and freed, and
 * no callback runs any more. Not from inside a callback. device_close after
 * crash_at_write fired does the same; at other times it keeps what was acknowledged. */
void device_sim_crash(struct device *dev);
uint64_t device_sim_write_count(struct device_sim_disk *disk);
/* The surviving bytes, to inspect or damage. */
uint8_t *device_sim_bytes(struct device_sim_disk *disk);

#endif

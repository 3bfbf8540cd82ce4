/*
 * The simulated device.
 *
 * Where a write is:
 *
 *   device_sim_submit      in flight: on the queue, with a copy of its bytes
 *   device_sim_step        durable: on the platter. Otherwise cached: reads see it, power
 *                          loss may take it. A DEVICE_FLUSH moves the whole cache, oldest
 *                          first, to the platter.
 *   device_sim_crash       each write cached or in flight is kept whole, torn or dropped
 *
 * A write that reaches the platter while an older one for the same sectors is cached must
 * not be undone by that one later: its bytes are laid over the cached copy as well
 * (overlay_cached), after which the older write may be kept or dropped, all the same.
 *
 * A write that fails with -EIO leaves its range as power loss would: nobody may rely on
 * it. The bytes in memory are compared with the copy at completion: changing a buffer in
 * flight is a programmer's error that a real device punishes at random.
 *
 * All chance comes from the disk's seed. After crash_at_write has fired, submissions are
 * taken and nothing completes any more, until the device is crashed and opened anew.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/types.h"
#include "core/io/device.h"

#define SECTOR_SIZE    512u
#define MISDIRECT_STEP (64ull << 20)

struct device_sim_disk {
	struct env_sim chance;
	uint8_t *platter;
	uint64_t size_bytes;
	uint64_t write_count;
	struct device_sim_faults faults;
	bool fault_fired;
	bool crashed;
	bool is_open;
};

struct device_sim {
	struct device dev;
	struct device_sim_disk *disk;
	struct list queue;  /* of sim_io, oldest first */
	struct list cached; /* completed writes of the volatile cache, oldest first */
};

struct sim_io {
	struct list link;
	struct device_io *io; /* the caller's; not looked at after a crash */
	uint64_t offset_bytes;
	uint32_t size_bytes;
	enum device_op op;
	bool durable;
	uint8_t bytes[]; /* writes only */
};

static struct device_sim *sim_of(struct device *dev)
{
	return container_of(dev, struct device_sim, dev);
}

static uint64_t chance_below(struct device_sim_disk *disk, uint64_t bound)
{
	return env_random(&disk->chance.env) % bound;
}

static bool fault_take(struct device_sim_disk *disk, unsigned *nth)
{
	if (*nth == 0 || --*nth != 0)
		return false;
	disk->fault_fired = true;
	return true;
}

/* Copy that part of source's bytes which lies in the range of target. */
static void range_copy(uint8_t *target, uint64_t target_offset, uint64_t target_size,
	const uint8_t *source, uint64_t source_offset, uint64_t source_size)
{
	uint64_t start = target_offset > source_offset ? target_offset : source_offset;
	uint64_t target_end = target_offset + target_size;
	uint64_t end = source_offset + source_size;

	if (end > target_end)
		end = target_end;
	if (start < end)
		memcpy(target + (start - target_offset), source + (start - source_offset),
			end - start);
}

static void overlay_cached(struct device_sim *sim, const uint8_t *bytes,
	uint64_t offset_bytes, uint64_t size_bytes)
{
	list_for_each(it, tmp, &sim->cached) {
		struct sim_io *old = container_of(it, struct sim_io, link);

		range_copy(old->bytes, old->offset_bytes, old->size_bytes, bytes,
			offset_bytes, size_bytes);
	}
}

static void platter_write(struct device_sim_disk *disk, const struct sim_io *w)
{
	memcpy(disk->platter + w->offset_bytes, w->bytes, w->size_bytes);
}

static void platter_write_sectors(struct device_sim_disk *disk, const struct sim_io *w,
	uint32_t first, uint32_t count)
{
	memcpy(disk->platter + w->offset_bytes + (uint64_t)first * SECTOR_SIZE,
		w->bytes + (size_t)first * SECTOR_SIZE, (size_t)count * SECTOR_SIZE);
}

/* What the platter has of a write that was never acknowledged. */
static void platter_write_unsure(struct device_sim_disk *disk, const struct sim_io *w)
{
	uint32_t sectors = w->size_bytes / SECTOR_SIZE;

	switch (chance_below(disk, 4)) {
	case 0:
		return;
	case 1:
		platter_write(disk, w);
		return;
	case 2:
		platter_write_sectors(disk, w, 0, (uint32_t)chance_below(disk, sectors));
		return;
	default:
		for (uint32_t i = 0; i < sectors; i++)
			if (chance_below(disk, 2))
				platter_write_sectors(disk, w, i, 1);
	}
}

static void cache_flush(struct device_sim *sim)
{
	list_for_each(it, tmp, &sim->cached) {
		struct sim_io *w = container_of(it, struct sim_io, link);

		platter_write(sim->disk, w);
		list_remove(&w->link);
		mem_free(w);
	}
}

static void read_complete(struct device_sim *sim, struct device_io *io)
{
	memcpy(io->data, sim->disk->platter + io->offset_bytes, io->size_bytes);
	list_for_each(it, tmp, &sim->cached) {
		const struct sim_io *w = container_of(it, struct sim_io, link);

		range_copy(io->data, io->offset_bytes, io->size_bytes, w->bytes,
			w->offset_bytes, w->size_bytes);
	}
}

static uint64_t misdirected(const struct device_sim_disk *disk, const struct sim_io *w)
{
	uint64_t step = MISDIRECT_STEP;

	while (step > w->size_bytes && step * 2 > disk->size_bytes)
		step /= 2;
	if (w->offset_bytes + step + w->size_bytes <= disk->size_bytes)
		return w->offset_bytes + step;
	return w->offset_bytes >= step ? w->offset_bytes - step : w->offset_bytes;
}

/* Takes the sim_io over. */
static void write_complete(struct device_sim *sim, struct sim_io *w)
{
	struct device_sim_disk *disk = sim->disk;

	if (fault_take(disk, &disk->faults.lose_nth)) {
		mem_free(w);
		return;
	}
	if (fault_take(disk, &disk->faults.corrupt_nth))
		w->bytes[chance_below(disk, w->size_bytes)] ^=
			(uint8_t)(1u << chance_below(disk, 8));
	if (fault_take(disk, &disk->faults.misdirect_nth))
		w->offset_bytes = misdirected(disk, w);
	if (!w->durable) {
		list_push_back(&sim->cached, &w->link);
		return;
	}
	overlay_cached(sim, w->bytes, w->offset_bytes, w->size_bytes);
	platter_write(disk, w);
	mem_free(w);
}

static int io_complete(struct device_sim *sim, struct sim_io *sio)
{
	struct device_sim_disk *disk = sim->disk;
	struct device_io *io = sio->io;

	if (fault_take(disk, &disk->faults.fail_nth)) {
		if (io->op == DEVICE_WRITE)
			platter_write_unsure(disk, sio);
		mem_free(sio);
		return -EIO;
	}
	if (io->op == DEVICE_WRITE) {
		assert(memcmp(io->data, sio->bytes, sio->size_bytes) == 0);
		write_complete(sim, sio);
		return 0;
	}
	if (io->op == DEVICE_READ)
		read_complete(sim, io);
	else
		cache_flush(sim);
	mem_free(sio);
	return 0;
}

static int device_sim_submit(struct device *dev, struct device_io *io)
{
	struct device_sim *sim = sim_of(dev);
	size_t copy_bytes = io->op == DEVICE_WRITE ? io->size_bytes : 0;
	struct sim_io *sio;

	if (io->op != DEVICE_FLUSH) {
		assert(io->size_bytes > 0 && io->size_bytes % WFS_BLOCK_SIZE == 0);
		assert(io->offset_bytes % WFS_BLOCK_SIZE == 0);
		assert((uintptr_t)io->data % WFS_BLOCK_SIZE == 0);
		if (io->size_bytes > dev->size_bytes ||
			io->offset_bytes > dev->size_bytes - io->size_bytes)
			return -EIO;
	}
	sio = mem_alloc(sizeof(*sio) + copy_bytes);
	if (!sio)
		return -ENOMEM;
	sio->io = io;
	sio->op = io->op;
	sio->offset_bytes = io->offset_bytes;
	sio->size_bytes = io->size_bytes;
	sio->durable = io->durable;
	if (copy_bytes)
		memcpy(sio->bytes, io->data, copy_bytes);
	io->device = dev;
	list_push_back(&sim->queue, &sio->link);
	return 0;
}

static struct sim_io *queue_pick(struct device_sim_disk *disk, struct list *queue,
	unsigned count)
{
	struct list *at = queue->next;

	if (disk->faults.reorder)
		for (uint64_t skip = chance_below(disk, count); skip > 0; skip--)
			at = at->next;
	return container_of(at, struct sim_io, link);
}

unsigned device_sim_step(struct device *dev)
{
	struct device_sim *sim = sim_of(dev);
	struct device_sim_disk *disk = sim->disk;
	unsigned left = 0, done_count = 0;
	struct list queue;

	if (disk->crashed)
		return 0;
	list_init(&queue);
	list_splice_back(&queue, &sim->queue);
	list_for_each(it, tmp, &queue)
		left++;
	for (; left > 0; left--) {
		struct sim_io *sio = queue_pick(disk, &queue, left);
		struct device_io *io = sio->io;
		int status;

		if (io->op == DEVICE_WRITE) {
			disk->write_count++;
			disk->crashed = fault_take(disk, &disk->faults.crash_at_write);
			if (disk->crashed)
				break;
		}
		list_remove(&sio->link);
		status = io_complete(sim, sio);
		done_count++;
		io->done(io, status);
	}
	/* Only a crash leaves any behind; they are older than what callbacks queued. */
	list_splice_back(&queue, &sim->queue);
	list_splice_back(&sim->queue, &queue);
	return done_count;
}

bool device_sim_idle(struct device *dev)
{
	return list_empty(&sim_of(dev)->queue);
}

static void range_zero(uint8_t *p, uint64_t size_bytes)
{
	static const uint8_t zeros[WFS_BLOCK_SIZE];

	/* Pages nobody touched cost no memory as long as they are only read. */
	for (uint64_t i = 0; i < size_bytes; i += WFS_BLOCK_SIZE)
		if (memcmp(p + i, zeros, sizeof(zeros)) != 0)
			memset(p + i, 0, sizeof(zeros));
}

static int device_sim_discard(struct device *dev, uint64_t offset_bytes,
	uint64_t size_bytes)
{
	struct device_sim *sim = sim_of(dev);

	assert(offset_bytes % WFS_BLOCK_SIZE == 0 && size_bytes % WFS_BLOCK_SIZE == 0);
	if (size_bytes > dev->size_bytes || offset_bytes > dev->size_bytes - size_bytes)
		return -EINVAL;
	if (sim->disk->crashed || chance_below(sim->disk, 2))
		return 0;
	cache_flush(sim);
	range_zero(sim->disk->platter + offset_bytes, size_bytes);
	return 0;
}

static void device_sim_register_memory(struct device *dev, void *base, size_t size_bytes)
{
	(void)dev;
	(void)base;
	(void)size_bytes;
}

static void device_sim_free(struct device_sim *sim)
{
	sim->disk->is_open = false;
	mem_free(sim);
}

void device_sim_crash(struct device *dev)
{
	struct device_sim *sim = sim_of(dev);

	list_splice_back(&sim->cached, &sim->queue);
	list_for_each(it, tmp, &sim->cached) {
		struct sim_io *w = container_of(it, struct sim_io, link);

		if (w->op == DEVICE_WRITE)
			platter_write_unsure(sim->disk, w);
		list_remove(&w->link);
		mem_free(w);
	}
	device_sim_free(sim);
}

/* The end of a process is no power loss: its cached writes arrive. */
static void device_sim_close(struct device *dev)
{
	struct device_sim *sim = sim_of(dev);

	if (!sim->disk->crashed)
		cache_flush(sim);
	device_sim_crash(dev);
}

static const struct device_ops device_sim_ops = {
	.submit = device_sim_submit,
	.discard = device_sim_discard,
	.register_memory = device_sim_register_memory,
	.close = device_sim_close,
};

struct device_sim_disk *device_sim_disk_new(uint64_t size_bytes, uint64_t seed)
{
	struct device_sim_disk *disk;

	assert(size_bytes > 0 && size_bytes % WFS_BLOCK_SIZE == 0);
	disk = mem_zalloc(sizeof(*disk));
	if (!disk)
		return NULL;
	disk->platter = mem_zalloc(size_bytes);
	if (!disk->platter) {
		mem_free(disk);
		return NULL;
	}
	disk->size_bytes = size_bytes;
	env_sim_init(&disk->chance, seed);
	return disk;
}

void device_sim_disk_free(struct device_sim_disk *disk)
{
	if (!disk)
		return;
	assert(!disk->is_open);
	mem_free(disk->platter);
	mem_free(disk);
}

int device_sim_open(struct device_sim_disk *disk, struct device **dev_out)
{
	struct device_sim *sim;

	assert(!disk->is_open);
	sim = mem_zalloc(sizeof(*sim));
	if (!sim)
		return -ENOMEM;
	sim->dev.ops = &device_sim_ops;
	sim->dev.size_bytes = disk->size_bytes;
	sim->disk = disk;
	list_init(&sim->queue);
	list_init(&sim->cached);
	disk->is_open = true;
	disk->crashed = false;
	*dev_out = &sim->dev;
	return 0;
}

struct device_sim_faults *device_sim_faults(struct device_sim_disk *disk)
{
	disk->fault_fired = false;
	return &disk->faults;
}

bool device_sim_crashed(struct device_sim_disk *disk)
{
	return disk->crashed;
}

bool device_sim_fault_fired(struct device_sim_disk *disk)
{
	return disk->fault_fired;
}

uint64_t device_sim_write_count(struct device_sim_disk *disk)
{
	return disk->write_count;
}

uint8_t *device_sim_bytes(struct device_sim_disk *disk)
{
	return disk->platter;
}

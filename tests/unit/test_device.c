/* The simulated device, the ring, and the file device on files and a loop device. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/types.h"
#include "core/io/device.h"

#define BLOCK ((size_t)WFS_BLOCK_SIZE)

/* --- an I/O with its own buffer --- */

struct io {
	struct device_io io;
	int status;
	unsigned done_count;
	unsigned order; /* of completion */
};

static unsigned completion_count;

static void io_done(struct device_io *dio, int status)
{
	struct io *io = container_of(dio, struct io, io);

	io->status = status;
	io->done_count++;
	io->order = completion_count++;
}

static void io_init(struct io *io, enum device_op op, uint64_t block, uint32_t blocks,
	int fill)
{
	memset(io, 0, sizeof(*io));
	io->io.op = op;
	io->io.durable = true;
	io->io.offset_bytes = block * BLOCK;
	io->io.size_bytes = (uint32_t)(blocks * BLOCK);
	io->io.done = io_done;
	io->io.data = mem_aligned(BLOCK, blocks ? blocks * BLOCK : BLOCK);
	memset(io->io.data, fill, blocks * BLOCK);
}

static void io_release(struct io *io)
{
	mem_free(io->io.data);
}

static int sim_run(struct device *dev, enum device_op op, bool durable, uint64_t block,
	int *fill)
{
	struct io io;
	int rc;

	io_init(&io, op, block, op == DEVICE_FLUSH ? 0 : 1, *fill);
	io.io.durable = durable;
	rc = device_submit(dev, &io.io);
	cr_assert_eq(rc, 0);
	cr_assert_eq(io.done_count, 0);
	cr_assert_eq(device_sim_step(dev), 1);
	cr_assert_eq(io.done_count, 1);
	if (op == DEVICE_READ)
		*fill = *(uint8_t *)io.io.data;
	io_release(&io);
	return io.status;
}

static int sim_write(struct device *dev, bool durable, uint64_t block, int fill)
{
	return sim_run(dev, DEVICE_WRITE, durable, block, &fill);
}

static int sim_read(struct device *dev, uint64_t block)
{
	int fill = 0x55;

	cr_assert_eq(sim_run(dev, DEVICE_READ, false, block, &fill), 0);
	return fill;
}

/* 1 all old, 2 all new, 3 some of both by whole sectors, 0 anything else */
static int block_state(const uint8_t *bytes, uint8_t old, uint8_t new)
{
	unsigned seen = 0;

	for (size_t i = 0; i < BLOCK; i++) {
		if (bytes[i] != old && bytes[i] != new)
			return 0;
		if (i % 512 && bytes[i] != bytes[i - 1])
			return 0;
		seen |= bytes[i] == old ? 1 : 2;
	}
	return (int)seen;
}

/* --- the simulated device --- */

Test(sim, durable_write_survives_and_reads_back)
{
	struct device_sim_disk *disk = device_sim_disk_new(64 * BLOCK, 1);
	struct device *dev;

	cr_assert_eq(device_sim_open(disk, &dev), 0);
	cr_assert_eq(dev->size_bytes, 64 * BLOCK);
	cr_assert_eq(sim_write(dev, true, 3, 0xab), 0);
	cr_assert_eq(sim_read(dev, 3), 0xab);
	cr_assert_eq(device_sim_write_count(disk), 1);
	device_sim_crash(dev);
	cr_assert_eq(block_state(device_sim_bytes(disk) + 3 * BLOCK, 0, 0xab), 2);
	device_sim_disk_free(disk);
	cr_assert_eq(mem_live_count(), 0);
}

Test(sim, cached_write_is_kept_torn_or_dropped)
{
	unsigned seen[4] = {0};

	for (uint64_t seed = 0; seed < 200; seed++) {
		struct device_sim_disk *disk = device_sim_disk_new(8 * BLOCK, seed);
		struct device *dev;

		cr_assert_eq(device_sim_open(disk, &dev), 0);
		cr_assert_eq(sim_write(dev, true, 1, 1), 0);
		cr_assert_eq(sim_write(dev, false, 1, 2), 0);
		cr_assert_eq(sim_read(dev, 1), 2);
		device_sim_crash(dev);
		seen[block_state(device_sim_bytes(disk) + BLOCK, 1, 2)]++;
		device_sim_disk_free(disk);
	}
	cr_assert_eq(seen[0], 0);
	cr_assert(seen[1] > 10 && seen[2] > 10 && seen[3] > 10);
}

Test(sim, in_flight_write_is_kept_torn_or_dropped)
{
	unsigned seen[4] = {0};

	for (uint64_t seed = 0; seed < 200; seed++) {
		struct device_sim_disk *disk = device_sim_disk_new(8 * BLOCK, seed);
		struct device *dev;
		struct io io;

		cr_assert_eq(device_sim_open(disk, &dev), 0);
		io_init(&io, DEVICE_WRITE, 1, 1, 9);
		cr_assert_eq(device_submit(dev, &io.io), 0);
		io_release(&io);
		device_sim_crash(dev);
		cr_assert_eq(io.done_count, 0);
		seen[block_state(device_sim_bytes(disk) + BLOCK, 0, 9)]++;
		device_sim_disk_free(disk);
	}
	cr_assert_eq(seen[0], 0);
	cr_assert(seen[1] > 10 && seen[2] > 10 && seen[3] > 10);
}

Test(sim, flush_and_durable_write_cover)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct device_sim_disk *disk = device_sim_disk_new(8 * BLOCK, seed);
		struct device *dev;
		int none = 0;

		cr_assert_eq(device_sim_open(disk, &dev), 0);
		cr_assert_eq(sim_write(dev, false, 1, 1), 0);
		cr_assert_eq(sim_run(dev, DEVICE_FLUSH, false, 0, &none), 0);
		/* An older cached write may not undo a newer durable one. */
		cr_assert_eq(sim_write(dev, false, 2, 2), 0);
		cr_assert_eq(sim_write(dev, true, 2, 3), 0);
		device_sim_crash(dev);
		cr_assert_eq(block_state(device_sim_bytes(disk) + BLOCK, 0, 1), 2);
		cr_assert_eq(block_state(device_sim_bytes(disk) + 2 * BLOCK, 0, 3), 2);
		device_sim_disk_free(disk);
	}
}

Test(sim, close_is_not_power_loss)
{
	struct device_sim_disk *disk = device_sim_disk_new(8 * BLOCK, 5);
	struct device *dev;

	cr_assert_eq(device_sim_open(disk, &dev), 0);
	cr_assert_eq(sim_write(dev, false, 4, 7), 0);
	device_close(dev);
	cr_assert_eq(block_state(device_sim_bytes(disk) + 4 * BLOCK, 0, 7), 2);
	device_sim_disk_free(disk);
}

Test(sim, nth_io_fails)
{
	struct device_sim_disk *disk = device_sim_disk_new(8 * BLOCK, 5);
	struct device *dev;

	cr_assert_eq(device_sim_open(disk, &dev), 0);
	device_sim_faults(disk)->fail_nth = 2;
	cr_assert_eq(sim_write(dev, true, 1, 1), 0);
	cr_assert_not(device_sim_fault_fired(disk));
	cr_assert_eq(sim_write(dev, true, 2, 1), -EIO);
	cr_assert(device_sim_fault_fired(disk));
	cr_assert_neq(block_state(device_sim_bytes(disk) + 2 * BLOCK, 0, 1), 0);
	cr_assert_eq(sim_write(dev, true, 2, 1), 0);
	device_close(dev);
	device_sim_disk_free(disk);
}

Test(sim, lost_misdirected_and_corrupted)
{
	struct device_sim_disk *disk = device_sim_disk_new(64 * BLOCK, 5);
	uint8_t *bytes = device_sim_bytes(disk);
	struct device *dev;
	unsigned bits = 0;

	cr_assert_eq(device_sim_open(disk, &dev), 0);
	device_sim_faults(disk)->lose_nth = 1;
	cr_assert_eq(sim_write(dev, true, 1, 1), 0);
	cr_assert(device_sim_fault_fired(disk));
	cr_assert_eq(sim_read(dev, 1), 0);
	device_sim_faults(disk)->misdirect_nth = 1;
	cr_assert_eq(sim_write(dev, true, 2, 1), 0);
	cr_assert(device_sim_fault_fired(disk));
	cr_assert_eq(sim_read(dev, 2), 0);
	cr_assert_eq(sim_read(dev, 2 + 32), 1);
	device_sim_faults(disk)->corrupt_nth = 1;
	cr_assert_eq(sim_write(dev, true, 3, 0), 0);
	cr_assert(device_sim_fault_fired(disk));
	for (size_t i = 0; i < BLOCK; i++)
		bits += (unsigned)__builtin_popcount(bytes[3 * BLOCK + i]);
	cr_assert_eq(bits, 1);
	device_close(dev);
	device_sim_disk_free(disk);
}

Test(sim, crash_at_write_stops_everything)
{
	struct device_sim_disk *disk = device_sim_disk_new(64 * BLOCK, 5);
	struct device *dev;
	struct io ios[5];

	cr_assert_eq(device_sim_open(disk, &dev), 0);
	device_sim_faults(disk)->crash_at_write = 3;
	for (unsigned i = 0; i < 5; i++) {
		io_init(&ios[i], i == 4 ? DEVICE_READ : DEVICE_WRITE, i, 1, 1);
		cr_assert_eq(device_submit(dev, &ios[i].io), 0);
	}
	cr_assert_eq(device_sim_step(dev), 2);
	cr_assert(device_sim_crashed(disk));
	cr_assert(device_sim_fault_fired(disk));
	cr_assert_eq(device_sim_step(dev), 0);
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(ios[i].done_count, i < 2);
		io_release(&ios[i]);
	}
	device_sim_crash(dev);
	for (unsigned i = 0; i < 4; i++) {
		int state = block_state(device_sim_bytes(disk) + i * BLOCK, 0, 1);

		cr_assert(i < 2 ? state == 2 : state != 0);
	}
	cr_assert_eq(device_sim_open(disk, &dev), 0);
	cr_assert_not(device_sim_crashed(disk));
	cr_assert_eq(sim_read(dev, 0), 1);
	device_close(dev);
	device_sim_disk_free(disk);
	cr_assert_eq(mem_live_count(), 0);
}

static uint64_t reorder_run(uint64_t seed, unsigned order[16])
{
	struct device_sim_disk *disk = device_sim_disk_new(64 * BLOCK, seed);
	struct device *dev;
	struct io ios[16];
	uint64_t sum = 0;

	completion_count = 0;
	cr_assert_eq(device_sim_open(disk, &dev), 0);
	device_sim_faults(disk)->reorder = true;
	device_sim_faults(disk)->crash_at_write = 12;
	for (unsigned i = 0; i < 16; i++) {
		io_init(&ios[i], DEVICE_WRITE, i, 1, (int)i + 1);
		ios[i].io.durable = i % 2;
		cr_assert_eq(device_submit(dev, &ios[i].io), 0);
	}
	cr_assert_eq(device_sim_step(dev), 11);
	for (unsigned i = 0; i < 16; i++) {
		order[i] = ios[i].done_count ? ios[i].order : 99;
		io_release(&ios[i]);
	}
	device_sim_crash(dev);
	for (size_t i = 0; i < 64 * BLOCK; i++)
		sum = sum * 31 + device_sim_bytes(disk)[i];
	device_sim_disk_free(disk);
	return sum;
}

Test(sim, one_seed_one_history)
{
	unsigned a[16], b[16], c[16], in_order = 0;
	uint64_t sum = reorder_run(7, a);

	cr_assert_eq(reorder_run(7, b), sum);
	cr_assert_arr_eq(a, b, sizeof(a));
	cr_assert_neq(reorder_run(8, c), sum);
	for (unsigned i = 0; i < 16; i++)
		in_order += a[i] == i;
	cr_assert(in_order < 16);
}

Test(sim, beyond_the_end_and_discard)
{
	struct device_sim_disk *disk = device_sim_disk_new(8 * BLOCK, 5);
	struct device *dev;
	struct io io;

	cr_assert_eq(device_sim_open(disk, &dev), 0);
	io_init(&io, DEVICE_READ, 8, 1, 0);
	cr_assert_eq(device_submit(dev, &io.io), -EIO);
	io_release(&io);
	cr_assert_eq(sim_write(dev, false, 1, 1), 0);
	cr_assert_eq(sim_write(dev, true, 2, 2), 0);
	for (int i = 0; i < 20; i++)
		cr_assert_eq(device_discard(dev, BLOCK, BLOCK), 0);
	cr_assert_eq(sim_read(dev, 1), 0);
	cr_assert_eq(sim_read(dev, 2), 2);
	device_close(dev);
	device_sim_disk_free(disk);
}

/* --- the ring --- */

struct op {
	struct ring_op op;
	int result;
	unsigned done_count;
};

static void op_done(struct ring_op *rop, int result)
{
	struct op *op = container_of(rop, struct op, op);

	op->result = result;
	op->done_count++;
}

Test(ring, poll_cancel_and_timeout)
{
	struct ring *ring;
	struct op op = {.op.done = op_done};
	int fds[2];

	cr_assert_eq(ring_new(8, &ring), 0);
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(ring_poll(ring, &op.op, fds[0], POLLIN), 0);
	cr_assert_eq(ring_wait(ring, 0), 0);
	cr_assert_eq(ring_wait(ring, 2000), 0);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	cr_assert_eq(ring_wait(ring, 10000000), 1);
	cr_assert(op.result & POLLIN);
	cr_assert_eq(read(fds[0], &fds[0], 0), 0);
	op.done_count = 0;
	cr_assert_eq(ring_poll(ring, &op.op, fds[1], POLLERR), 0);
	cr_assert_eq(ring_wait(ring, 0), 0);
	cr_assert_eq(ring_poll_cancel(ring, &op.op), 0);
	while (op.done_count == 0)
		cr_assert_geq(ring_wait(ring, 1000000), 0);
	cr_assert_eq(op.result, -ECANCELED);
	close(fds[0]);
	close(fds[1]);
	ring_free(ring);
	cr_assert_eq(mem_live_count(), 0);
}

Test(ring, more_than_the_queue_holds)
{
	enum { OPS = 1000 };
	static struct op ops[OPS];
	struct ring *ring;
	int fd = open("/dev/zero", O_RDONLY), done = 0;
	char byte;

	cr_assert_eq(ring_new(8, &ring), 0);
	for (unsigned i = 0; i < OPS; i++) {
		ops[i].op.done = op_done;
		cr_assert_eq(ring_read(ring, &ops[i].op, fd, &byte, 1, 0), 0);
	}
	while (done < OPS) {
		int n = ring_wait(ring, 1000000);

		cr_assert_gt(n, 0);
		done += n;
	}
	for (unsigned i = 0; i < OPS; i++)
		cr_assert(ops[i].done_count == 1 && ops[i].result == 1);
	close(fd);
	ring_free(ring);
}

static void on_alarm(int sig)
{
	(void)sig;
}

Test(ring, signal_ends_the_sleep)
{
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval timer = {.it_value = {.tv_usec = 20000}};
	struct ring *ring;

	cr_assert_eq(ring_new(8, &ring), 0);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	cr_assert_eq(ring_wait(ring, 60000000), 0);
	ring_free(ring);
}

/* --- the file device --- */

struct bench {
	char path[64];
	struct ring *ring;
	struct device *dev;
};

static uint64_t progress_last;

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	cr_assert_eq(*(uint64_t *)ctx, total_bytes);
	cr_assert(done_bytes > progress_last);
	progress_last = done_bytes;
}

static void bench_init(struct bench *b, uint64_t size_bytes)
{
	snprintf(b->path, sizeof(b->path), "/tmp/wfs-device-%d", getpid());
	unlink(b->path);
	progress_last = 0;
	cr_assert_eq(device_file_create(b->path, size_bytes, on_progress, &size_bytes),
		0);
	cr_assert_eq(progress_last, size_bytes);
	cr_assert_eq(ring_new(64, &b->ring), 0);
	cr_assert_eq(device_file_open(b->path, b->ring, &b->dev), 0);
}

static void bench_release(struct bench *b)
{
	device_close(b->dev);
	ring_free(b->ring);
	unlink(b->path);
	cr_assert_eq(mem_live_count(), 0);
}

static int bench_run(struct bench *b, struct io *io)
{
	int rc = device_submit(b->dev, &io->io);

	if (rc)
		return rc;
	cr_assert_eq(io->done_count, 0);
	while (io->done_count == 0)
		cr_assert_geq(ring_wait(b->ring, 1000000), 0);
	cr_assert_eq(io->done_count, 1);
	return io->status;
}

static void bench_write(struct bench *b, uint64_t block, uint32_t blocks, bool durable,
	int fill)
{
	struct io io;

	io_init(&io, DEVICE_WRITE, block, blocks, fill);
	io.io.durable = durable;
	cr_assert_eq(bench_run(b, &io), 0, "write: %d", io.status);
	io_release(&io);
}

static void bench_read_check(struct bench *b, uint64_t block, uint32_t blocks, int fill)
{
	struct io io;

	io_init(&io, DEVICE_READ, block, blocks, 0x55);
	cr_assert_eq(bench_run(b, &io), 0, "read: %d", io.status);
	for (size_t i = 0; i < blocks * BLOCK; i++)
		cr_assert_eq(((uint8_t *)io.io.data)[i], fill);
	io_release(&io);
}

static void bench_exercise(struct bench *b)
{
	struct io flush;

	bench_write(b, 3, 2, true, 0xaa);
	bench_write(b, 10, 256, false, 0xbb);
	io_init(&flush, DEVICE_FLUSH, 0, 0, 0);
	cr_assert_eq(bench_run(b, &flush), 0);
	io_release(&flush);
	bench_read_check(b, 3, 2, 0xaa);
	bench_read_check(b, 10, 256, 0xbb);
	bench_read_check(b, b->dev->size_bytes / BLOCK - 1, 1, 0);
}

Test(file, write_flush_read)
{
	struct bench b;

	bench_init(&b, 9u << 20);
	cr_assert_eq(b.dev->size_bytes, 9u << 20);
	bench_exercise(&b);
	bench_write(&b, 20, 1, true, 0xcc);
	cr_assert_eq(device_discard(b.dev, 20 * BLOCK, BLOCK), 0);
	bench_read_check(&b, 20, 1, 0xcc);
	bench_release(&b);
}

Test(file, registered_memory)
{
	size_t size = 16 * BLOCK;
	uint8_t *memory = mem_aligned(BLOCK, size);
	struct bench b;
	struct io io;

	bench_init(&b, 1u << 20);
	b.dev->ops->register_memory(b.dev, memory, size);
	memset(memory, 0x3c, size);
	io_init(&io, DEVICE_WRITE, 0, 4, 0);
	mem_free(io.io.data);
	io.io.data = memory + 4 * BLOCK;
	cr_assert_eq(bench_run(&b, &io), 0);
	io.done_count = 0;
	io.io.op = DEVICE_READ;
	io.io.data = memory + 12 * BLOCK;
	memset(io.io.data, 0, 4 * BLOCK);
	cr_assert_eq(bench_run(&b, &io), 0);
	for (size_t i = 0; i < 4 * BLOCK; i++)
		cr_assert_eq(memory[12 * BLOCK + i], 0x3c);
	bench_read_check(&b, 0, 4, 0x3c);
	device_close(b.dev);
	ring_free(b.ring);
	unlink(b.path);
	mem_free(memory);
	cr_assert_eq(mem_live_count(), 0);
}

Test(file, close_waits_for_what_is_in_flight)
{
	struct bench b;
	struct io ios[40];

	bench_init(&b, 4u << 20);
	for (unsigned i = 0; i < 40; i++) {
		io_init(&ios[i], DEVICE_WRITE, i * 16, 16, 1);
		cr_assert_eq(device_submit(b.dev, &ios[i].io), 0);
	}
	device_close(b.dev);
	for (unsigned i = 0; i < 40; i++) {
		cr_assert(ios[i].done_count == 1 && ios[i].status == 0);
		io_release(&ios[i]);
	}
	b.dev = NULL;
	bench_release(&b);
}

Test(file, claim_excludes_others)
{
	struct bench b;
	struct device *other = NULL;

	bench_init(&b, 1u << 20);
	cr_assert_eq(device_file_open(b.path, b.ring, &other), -EBUSY);
	cr_assert_null(other);
	device_close(b.dev);
	/* At once: neither the fixed slot nor the fd may hold the claim. */
	cr_assert_eq(device_file_open(b.path, b.ring, &b.dev), 0);
	bench_release(&b);
}

Test(file, refusals)
{
	struct ring *ring;
	struct device *dev = NULL;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/wfs-device-%d", getpid());
	cr_assert_eq(ring_new(8, &ring), 0);
	cr_assert_eq(device_file_open("/tmp", ring, &dev), -ENOTBLK);
	cr_assert_eq(device_file_open("/dev/null", ring, &dev), -ENOTBLK);
	cr_assert_eq(device_file_open(path, ring, &dev), -ENOENT);
	cr_assert_eq(device_file_create(path, 5000, NULL, NULL), -EINVAL);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	cr_assert_eq(device_file_create(path, BLOCK, NULL, NULL), -EEXIST);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(device_file_open(path, ring, &dev), -EINVAL);
	cr_assert_eq(ftruncate(fd, 10000), 0);
	cr_assert_eq(device_file_open(path, ring, &dev), 0);
	cr_assert_eq(dev->size_bytes, 8192);
	device_close(dev);
	close(fd);
	unlink(path);
	/* Larger than any file system here: nothing may be left behind. */
	cr_assert_lt(device_file_create(path, (uint64_t)1 << 60, NULL, NULL), 0);
	cr_assert_neq(access(path, F_OK), 0);
	ring_free(ring);
	cr_assert_eq(mem_live_count(), 0);
}

Test(file, reading_past_the_end_is_eio)
{
	struct bench b;
	struct io io;

	bench_init(&b, 1u << 20);
	io_init(&io, DEVICE_READ, (1u << 20) / BLOCK - 1, 2, 0);
	cr_assert_eq(bench_run(&b, &io), -EIO);
	/* Inside the size at open, but the file has shrunk since. */
	cr_assert_eq(truncate(b.path, 8 * BLOCK), 0);
	io.io.offset_bytes = 7 * BLOCK;
	cr_assert_eq(bench_run(&b, &io), -EIO);
	cr_assert_eq(io.io.done_bytes, BLOCK);
	io_release(&io);
	bench_release(&b);
}

static bool run_line(const char *command, char line[64])
{
	FILE *out = popen(command, "r");
	bool got = out && fgets(line, 64, out);

	if (got)
		line[strcspn(line, "\n")] = 0;
	return out && pclose(out) == 0 && got;
}

Test(file, loop_device)
{
	char command[128], line[64] = "";
	struct bench b;
	struct device *other;
	struct io io;

	bench_init(&b, 8u << 20);
	device_close(b.dev);
	b.dev = NULL;
	snprintf(command, sizeof(command), "losetup --show -f %s 2>/dev/null", b.path);
	if (!run_line(command, line)) {
		bench_release(&b);
		cr_skip_test("no loop devices here");
	}
	cr_assert_eq(device_file_open(line, b.ring, &b.dev), 0);
	cr_assert_eq(b.dev->size_bytes, 8u << 20);
	cr_assert_eq(device_file_open(line, b.ring, &other), -EBUSY);
	bench_exercise(&b);
	bench_write(&b, 1000, 4, true, 0xdd);
	cr_assert_eq(device_discard(b.dev, 1000 * BLOCK, 4 * BLOCK), 0);
	io_init(&io, DEVICE_READ, 2047, 2, 0);
	cr_assert_eq(bench_run(&b, &io), -EIO);
	io_release(&io);
	device_close(b.dev);
	b.dev = NULL;
	snprintf(command, sizeof(command), "losetup -d %s && echo ok", line);
	cr_assert(run_line(command, line));
	bench_release(&b);
}

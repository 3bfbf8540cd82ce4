/*
 * /dev/fuse: the mount, and the bytes between the kernel and libfuse.
 *
 * libfuse's own mount would do, but for two things that 3.14 does not know: shared
 * mappings of files with direct I/O have to be asked for (FUSE_DIRECT_IO_ALLOW_MMAP,
 * Linux 6.6), and so has leave to write to one file from several threads at once. So the
 * session reads and writes through the two functions below (fuse_session_custom_io). They
 * note the INIT request as it passes, and add the one flag to its reply where the kernel
 * has offered it; and the other to a reply that was announced as an open's
 * (device_opens).
 *
 * Being woken across CPUs costs more than most requests take. So there are two
 * descriptors of the one connection: a worker that is done asks the first, which does not
 * block, again and again for SPIN_NS, giving way each time to whoever wants the CPU; then
 * it sleeps in a read of the second. One worker at a time goes round so, and none for a
 * while after giving way took long, for then no CPU is idle. The answer to a request must
 * go to the descriptor that it came from.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim/fuse/mount.h"

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif

#define SPIN_NS    200000u
#define CROWDED_NS 150000u /* a yield that long: others need the CPU */
#define NO_SPIN_NS 20000000u

static int eager_fd = -1; /* does not block; -1: one CPU, or no such thing */
static _Atomic bool is_spinning;
static _Atomic uint64_t no_spin_until_ns;
static _Thread_local int came_from; /* the request that this worker has */
static _Thread_local bool opens;    /* its reply ends in a struct fuse_open_out */

static _Atomic uint64_t init_request; /* its number, until it is answered; 0 */
static _Atomic bool maps_shared;
static _Atomic bool is_ready;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* As read(2) of the eager descriptor, for SPIN_NS. */
static ssize_t spin_read(void *buf, size_t size)
{
	uint64_t now = now_ns(), until = now + SPIN_NS, before;
	ssize_t n;

	if (now < atomic_load_explicit(&no_spin_until_ns, memory_order_relaxed))
		return read(eager_fd, buf, size);
	while ((n = read(eager_fd, buf, size)) < 0 && errno == EAGAIN && now < until) {
		before = now_ns();
		sched_yield();
		now = now_ns();
		if (now - before <= CROWDED_NS)
			continue;
		atomic_store_explicit(
			&no_spin_until_ns, now + NO_SPIN_NS, memory_order_relaxed);
		until = now;
	}
	return n;
}

static ssize_t request_read(int fd, void *buf, size_t size)
{
	ssize_t n;

	if (eager_fd >= 0 && !atomic_exchange(&is_spinning, true)) {
		came_from = eager_fd;
		n = spin_read(buf, size);
		atomic_store(&is_spinning, false);
		if (n >= 0 || errno != EAGAIN)
			return n;
	}
	came_from = fd;
	return read(fd, buf, size);
}

static ssize_t device_read(int fd, void *buf, size_t size, void *userdata)
{
	const struct fuse_in_header *head = buf;
	const struct fuse_init_in *init = (const void *)(head + 1);
	ssize_t n = request_read(fd, buf, size);

	(void)userdata;
	if (n < (ssize_t)(sizeof(*head) + sizeof(*init)) || head->opcode != FUSE_INIT)
		return n;
	atomic_store(&maps_shared,
		(init->flags & FUSE_INIT_EXT) &&
			((uint64_t)init->flags2 << 32 & FUSE_DIRECT_IO_ALLOW_MMAP));
	atomic_store(&init_request, head->unique);
	return n;
}

static ssize_t device_write(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *head = iov[0].iov_base;
	uint64_t request = atomic_load_explicit(&init_request, memory_order_relaxed);
	struct fuse_init_out *out;
	ssize_t n;

	(void)userdata;
	fd = came_from;
	if (opens && count == 2 && iov[1].iov_len >= sizeof(struct fuse_open_out)) {
		struct fuse_open_out *open = (void *)((char *)iov[1].iov_base +
						      iov[1].iov_len - sizeof(*open));

		open->open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
	}
	opens = false;
	if (!request || head->unique != request || head->error || count != 2 ||
		iov[1].iov_len != sizeof(*out))
		return writev(fd, iov, count);
	if (atomic_load(&maps_shared)) {
		out = iov[1].iov_base;
		out->flags |= FUSE_INIT_EXT;
		out->flags2 |= (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32);
	}
	n = writev(fd, iov, count);
	atomic_store(&init_request, 0);
	atomic_store(&is_ready, n > 0);
	return n;
}

void device_opens(void)
{
	opens = true;
}

bool device_maps_shared(void)
{
	return atomic_load(&maps_shared);
}

bool device_is_ready(void)
{
	return atomic_load(&is_ready);
}

static void eager_open(int fd)
{
	uint32_t source = (uint32_t)fd;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return;
	eager_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (eager_fd < 0 || ioctl(eager_fd, FUSE_DEV_IOC_CLONE, &source) == 0)
		return;
	close(eager_fd);
	eager_fd = -1;
}

int device_session(struct fuse_session *se, int fd)
{
	static const struct fuse_custom_io io = {
		.read = device_read, .writev = device_write};

	eager_open(fd);
	return fuse_session_custom_io(se, &io, fd);
}

int device_mount(const char *mountpoint, const char *source)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	/* All users, and setuid programs, as on any disk. Not devices: the kernel opens them
	 * without asking us, and would not look at permissions either. */
	snprintf(options, sizeof(options),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=%u", fd,
		MOUNT_IO_MAX);
	if (mount(source, mountpoint, "fuse.wfs", MS_NODEV, options) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

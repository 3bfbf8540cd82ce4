/*
 * Memory mappings of WFS files.
 *
 * Read-only and private ones are anonymous memory filled from the file when mapped; they
 * do not see later changes by others. A shared writable one is a mapping of a local file
 * that all programs of the host share (map_side.c; anonymous memory where that fails),
 * with a shadow of what the file holds as we know it: pages that differ from their shadow
 * are written at msync, munmap, fsync, close of the file, and exit. At most MAPS_MAX
 * shared writable mappings at a time, ENOMEM beyond. A fork flushes first, so that the
 * child, which has a shadow of its own, does not write the parent's changes again.
 */
#include "shim/preload/map.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define MAPS_MAX 256
#define PAGE     4096ul

struct map {
	_Atomic uintptr_t start; /* 0: free; page-aligned */
	size_t size;
	char *shadow;
	struct client_file cf;
	uint64_t offset;
	uint64_t file_size; /* bytes past it are never written */
	int side;           /* the local file, or -1 */
};

static struct map maps[MAPS_MAX];
static _Atomic int map_count;
static struct guard map_guard;

static bool failed(long rc)
{
	return rc < 0 && rc > -4096;
}

static size_t page_round(size_t size)
{
	return (size + PAGE - 1) & ~(PAGE - 1);
}

void map_forked(void)
{
	map_guard = (struct guard){0};
}

/* --- flushing ----------------------------------------------------------------------- */

static int page_flush(struct map *m, size_t at)
{
	const char *now = (const char *)(uintptr_t)m->start + at;
	uint64_t offset = m->offset + at;
	size_t size = m->size - at < PAGE ? m->size - at : PAGE;
	struct client *c;
	ssize_t done;

	if (offset >= m->file_size)
		return 0;
	if (size > m->file_size - offset)
		size = (size_t)(m->file_size - offset);
	if (!memcmp(now, m->shadow + at, size))
		return 0;
	done = fs_client(&c);
	if (done)
		return (int)done;
	memcpy(m->shadow + at, now, size);
	done = client_write(c, &m->cf, m->shadow + at, size, offset);
	return done < 0 ? (int)fs_result(done) : 0;
}

static int map_flush(struct map *m, uintptr_t from, uintptr_t to)
{
	uintptr_t start = m->start, end = start + m->size;
	int first = 0;

	if (from < start)
		from = start;
	if (to > end)
		to = end;
	for (size_t at = (from - start) & ~(PAGE - 1); start + at < to; at += PAGE) {
		int rc = page_flush(m, at);

		if (rc && !first)
			first = rc;
	}
	return first;
}

int map_flush_file(const struct file *f)
{
	bool locked;
	int rc = 0;

	if (!map_count)
		return 0;
	locked = guard_lock(&map_guard);
	for (int i = 0; i < MAPS_MAX; i++)
		if (maps[i].start && (!f || maps[i].cf.ino == f->cf.ino)) {
			int one = map_flush(&maps[i], 0, UINTPTR_MAX);

			rc = rc ? rc : one;
		}
	guard_unlock(&map_guard, locked);
	return rc;
}

/* --- mapping ------------------------------------------------------------------------ */

static long map_side(struct client *c, struct file *f, void *addr, size_t size, int flags,
	off_t offset, int *side_out)
{
	int kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT;
	long map;
	int side;

	side = map_side_open(c, &f->cf, (uint64_t)offset, size);
	if (side < 0)
		return side;
	map = raw(SYS_mmap, addr, size, PROT_READ | PROT_WRITE, MAP_SHARED | (flags & kept),
		side, offset);
	if (failed(map))
		map_side_close(side);
	else
		*side_out = side;
	return map;
}

/* Anonymous memory in the asked place, filled from the file. */
static long map_fill(struct client *c, struct file *f, void *addr, size_t size, int flags,
	off_t offset)
{
	int kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_NORESERVE;
	size_t done = 0;
	long map;

	map = raw(SYS_mmap, addr, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | (flags & kept), -1, 0);
	while (!failed(map) && done < size) {
		ssize_t got = client_read(c, &f->cf, (char *)map + done, size - done,
			(uint64_t)offset + done);

		if (got < 0) {
			(void)raw(SYS_munmap, map, size);
			return fs_result(got);
		}
		if (!got)
			break;
		done += (size_t)got;
	}
	return map;
}

static int map_remember(struct client *c, struct file *f, long start, size_t size,
	off_t offset, int side)
{
	struct client_attr attr;
	bool locked;
	long shadow;
	int rc = client_getattr(c, f->cf.ino, &attr);

	if (rc)
		return (int)fs_result(rc);
	shadow = raw(SYS_mmap, NULL, page_round(size), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (failed(shadow))
		return (int)shadow;
	memcpy((void *)shadow, (void *)start, size);
	locked = guard_lock(&map_guard);
	rc = -ENOMEM;
	for (int i = 0; i < MAPS_MAX && rc; i++) {
		struct map *m = &maps[i];

		if (m->start)
			continue;
		m->size = size;
		m->shadow = (char *)shadow;
		client_file_copy(&m->cf, &f->cf);
		m->offset = (uint64_t)offset;
		m->file_size = attr.size_bytes;
		m->side = side;
		m->start = (uintptr_t)start;
		map_count++;
		rc = 0;
	}
	guard_unlock(&map_guard, locked);
	if (rc)
		(void)raw(SYS_munmap, shadow, page_round(size));
	return rc;
}

static long map_file(struct client *c, struct file *f, void *addr, size_t size, int prot,
	int flags, off_t offset)
{
	int type = flags & MAP_TYPE;
	unsigned mode = f->flags & O_ACCMODE;
	bool shared = type != MAP_PRIVATE;
	int side = -1, rc;
	long map;

	if (!size || (offset & (off_t)(PAGE - 1)) || offset < 0 ||
		(type != MAP_PRIVATE && type != MAP_SHARED &&
			type != MAP_SHARED_VALIDATE))
		return -EINVAL;
	if (!S_ISREG(f->cf.mode))
		return -ENODEV;
	if ((f->flags & O_PATH))
		return -EBADF;
	if (mode == O_WRONLY || (shared && (prot & PROT_WRITE) && mode != O_RDWR))
		return -EACCES;
	map_flush_file(f);
	map = -ENODEV;
	if (shared && mode == O_RDWR)
		map = map_side(c, f, addr, size, flags, offset, &side);
	if (failed(map))
		map = map_fill(c, f, addr, size, flags, offset);
	if (failed(map))
		return map;
	if (shared && mode == O_RDWR) {
		rc = map_remember(c, f, map, size, offset, side);
		if (rc) {
			map_side_close(side);
			(void)raw(SYS_munmap, map, size);
			return rc;
		}
	}
	if (prot != (PROT_READ | PROT_WRITE))
		(void)raw(SYS_mprotect, map, size, prot);
	return map;
}

/* Part of remembered mappings goes: flush it and forget it. */
static void map_cut(uintptr_t from, uintptr_t to)
{
	bool locked = guard_lock(&map_guard);

	for (int i = 0; i < MAPS_MAX; i++) {
		struct map *m = &maps[i];
		uintptr_t start = m->start, end = start + m->size;

		if (!start || from >= start + page_round(m->size) || to <= start)
			continue;
		(void)map_flush(m, 0, UINTPTR_MAX);
		if (from <= start && to >= end) {
			(void)raw(SYS_munmap, m->shadow, page_round(m->size));
			map_side_close(m->side);
			m->start = 0;
			map_count--;
		} else if (from <= start) {
			size_t cut = to - start;

			(void)raw(SYS_munmap, m->shadow, cut);
			m->shadow += cut;
			m->offset += cut;
			m->size -= cut;
			m->start = to;
		} else {
			/* The end; a hole in the middle gives up what is behind it. */
			size_t keep = from - start;

			(void)raw(SYS_munmap, m->shadow + keep, page_round(m->size) - keep);
			m->size = keep;
		}
	}
	guard_unlock(&map_guard, locked);
}

void *wfs_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	struct file *f = NULL;
	struct client *c;
	long map;
	int rc = 0;

	if (map_count && (flags & MAP_FIXED))
		map_cut((uintptr_t)addr, (uintptr_t)addr + page_round(size));
	if (fd >= 0 && !(flags & MAP_ANONYMOUS))
		rc = fd_client(fd, &f, &c);
	if (rc)
		return (void *)answer(rc);
	if (!f)
		return (void *)answer(raw(SYS_mmap, addr, size, prot, flags, fd, offset));
	map = map_file(c, f, addr, size, prot, flags, offset);
	fd_put(f);
	return failed(map) ? (void *)answer(map) : (void *)map;
}
EXPORT(mmap, wfs_mmap);
EXPORT(mmap64, wfs_mmap);

int wfs_munmap(void *addr, size_t size)
{
	if (map_count)
		map_cut((uintptr_t)addr, (uintptr_t)addr + page_round(size));
	return (int)answer(raw(SYS_munmap, addr, size));
}
EXPORT(munmap, wfs_munmap);

int wfs_msync(void *addr, size_t size, int flags)
{
	uintptr_t from = (uintptr_t)addr, to = from + page_round(size);
	int rc = 0;
	bool locked;

	if (!map_count)
		return REAL(msync)(addr, size, flags);
	locked = guard_lock(&map_guard);
	for (int i = 0; i < MAPS_MAX; i++)
		if (maps[i].start && from < maps[i].start + maps[i].size && to > maps[i].start) {
			int one = map_flush(&maps[i], from, to);

			rc = rc ? rc : one;
		}
	guard_unlock(&map_guard, locked);
	return rc ? (int)answer(rc) : REAL(msync)(addr, size, flags);
}
EXPORT(msync, wfs_msync);

/* A shared writable mapping of WFS does not move or grow. */
void *wfs_mremap(void *old, size_t old_size, size_t size, int flags, ...)
{
	uintptr_t at = (uintptr_t)old;
	void *to = NULL;
	va_list ap;

	if (flags & MREMAP_FIXED) {
		va_start(ap, flags);
		to = va_arg(ap, void *);
		va_end(ap);
	}
	for (int i = 0; map_count && i < MAPS_MAX; i++)
		if (maps[i].start && at < maps[i].start + maps[i].size &&
			at + old_size > maps[i].start) {
			if (size <= old_size && !(flags & MREMAP_FIXED)) {
				map_cut(at + page_round(size), at + page_round(old_size));
				break;
			}
			return (void *)answer(-ENOMEM);
		}
	return (void *)answer(raw(SYS_mremap, old, old_size, size, flags, to));
}
EXPORT(mremap, wfs_mremap);

static void WFS_USED wfs__exit(int status)
{
	(void)map_flush_file(NULL);
	for (;;)
		(void)raw(SYS_exit_group, status);
}
EXPORT(_exit, wfs__exit);
EXPORT(_Exit, wfs__exit);

static void __attribute__((destructor)) map_exit(void)
{
	(void)map_flush_file(NULL);
}

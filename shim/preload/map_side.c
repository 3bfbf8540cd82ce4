/*
 * Shared writable mappings, shared indeed: between the programs of one host they are
 * mappings of one local file beside the daemon's socket, named by the inode.
 *
 * Who maps holds a shared flock on it for as long as it maps. Who finds nobody holding
 * one empties it first, as it is left over from earlier. What has not been read from WFS
 * yet is a hole; holes in the wanted range are filled under a lock of their own (an
 * open-file-description lock on byte 0). Between hosts such mappings are not coherent.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/preload/fs.h"
#include "shim/preload/lock.h"
#include "shim/preload/map.h"
#include "shim/preload/raw.h"

#define FILL_SIZE (256u << 10)

static int side_open(struct client *c, ino_id ino)
{
	char path[FS_MOUNT_MAX + 32];
	struct client_attr attr;
	int fd, high, rc;

	if (!side_path("maps", ino, path, sizeof(path)))
		return -ENAMETOOLONG;
	rc = client_getattr(c, ino, &attr);
	if (rc)
		return rc;
	fd = (int)raw(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd == -ENOENT) {
		fd = (int)raw(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd >= 0 && !raw(SYS_fchown, fd, attr.uid, attr.gid))
			(void)raw(SYS_fchmod, fd, 0600 | (attr.mode & 066));
	}
	if (fd < 0)
		return fd;
	high = (int)raw(SYS_fcntl, fd, F_DUPFD_CLOEXEC, fd_reserve_base());
	(void)raw(SYS_close, fd);
	if (high >= 0)
		fd_reserve(high);
	return high;
}

/* One hole, [at, end): what WFS holds there, and zeros after its end. */
static int hole_fill(struct client *c, struct client_file *cf, int fd, uint64_t at,
	uint64_t end, char *buffer)
{
	while (at < end) {
		size_t want = end - at < FILL_SIZE ? (size_t)(end - at) : FILL_SIZE;
		ssize_t got = client_read(c, cf, buffer, want, at);

		if (got < 0)
			return (int)fs_result(got);
		__builtin_memset(buffer + got, 0, want - (size_t)got);
		got = raw(SYS_pwrite64, fd, buffer, want, at);
		if (got <= 0)
			return got ? (int)got : -EIO;
		at += (uint64_t)got;
	}
	return 0;
}

static int side_fill(
	struct client *c, struct client_file *cf, int fd, uint64_t offset, uint64_t end)
{
	long map = raw(SYS_mmap, NULL, FILL_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int64_t size, hole, data;
	int rc = 0;

	if (map < 0 && map > -4096)
		return (int)map;
	size = raw(SYS_lseek, fd, 0, SEEK_END);
	if (size < (int64_t)end)
		rc = (int)raw(SYS_ftruncate, fd, end);
	while (!rc && offset < end) {
		hole = raw(SYS_lseek, fd, offset, SEEK_HOLE);
		if (hole < 0 || hole >= (int64_t)end)
			break;
		data = raw(SYS_lseek, fd, hole, SEEK_DATA);
		if (data < 0 || data > (int64_t)end)
			data = (int64_t)end;
		rc = hole_fill(c, cf, fd, (uint64_t)hole, (uint64_t)data, (char *)map);
		offset = (uint64_t)data;
	}
	(void)raw(SYS_munmap, map, FILL_SIZE);
	return rc;
}

int map_side_open(
	struct client *c, struct client_file *cf, uint64_t offset, uint64_t size)
{
	struct flock lock = {.l_type = F_WRLCK, .l_len = 1};
	int fd = side_open(c, cf->ino), rc;

	if (fd < 0)
		return fd;
	if (raw(SYS_flock, fd, LOCK_EX | LOCK_NB) == 0) {
		(void)raw(SYS_ftruncate, fd, 0);
		/* Not atomic; who comes between finds it empty, and fills it. */
		rc = (int)raw(SYS_flock, fd, LOCK_SH);
	} else {
		rc = (int)raw(SYS_flock, fd, LOCK_SH);
	}
	if (!rc)
		rc = (int)raw(SYS_fcntl, fd, F_OFD_SETLKW, &lock);
	if (!rc) {
		rc = side_fill(c, cf, fd, offset, (offset + size + 4095) & ~4095ull);
		lock.l_type = F_UNLCK;
		(void)raw(SYS_fcntl, fd, F_OFD_SETLK, &lock);
	}
	if (rc) {
		map_side_close(fd);
		return rc;
	}
	return fd;
}

void map_side_close(int fd)
{
	if (fd < 0)
		return;
	fd_release(fd);
	(void)raw(SYS_close, fd);
}

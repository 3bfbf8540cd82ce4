/*
 * The embedded map store: one JSON file, for clusters whose nodes share one machine.
 *
 * A save holds an flock on <path>.lock (a file that is never removed, so that everybody
 * locks the same inode), checks that the stored epoch is the one before the new, writes
 * <path>.new, fsyncs it, renames it over <path> and fsyncs the directory. Readers take no
 * lock: a rename shows them the old map or the new one. The lock dies with its process.
 */
#include "core/cluster/map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/list.h"
#include "core/base/mem.h"

#define MAP_FILE_MAX (64u << 20)

struct file_store {
	struct map_store store;
	char path[PATH_MAX];
	char path_lock[PATH_MAX + 8];
	char path_new[PATH_MAX + 8];
	char directory[PATH_MAX];
};

static struct file_store *file_store_of(struct map_store *store)
{
	return container_of(store, struct file_store, store);
}

__attribute__((format(printf, 3, 4))) static int fail(
	struct file_store *fs, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fs->store.reason, sizeof(fs->store.reason), format, args);
	va_end(args);
	return rc;
}

static int read_all(int fd, char *text, size_t size)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = read(fd, text + got, size - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EUCLEAN;
		got += (size_t)n;
	}
	return 0;
}

static int write_all(int fd, const char *text, size_t size)
{
	size_t put = 0;

	while (put < size) {
		ssize_t n = write(fd, text + put, size - put);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		put += (size_t)n;
	}
	return 0;
}

static int parse_file(
	struct file_store *fs, const char *text, size_t size, struct map **map_out)
{
	char why[160];
	int rc = map_from_json(text, size, map_out, why, sizeof(why));

	if (rc == -EUCLEAN)
		return fail(fs, rc,
			"cluster map %s is damaged (%s): restore it from a copy",
			fs->path, why);
	if (rc)
		return fail(fs, rc, "cluster map %s: %s", fs->path, strerror(-rc));
	return 0;
}

static int file_load(struct map_store *store, struct map **map_out)
{
	struct file_store *fs = file_store_of(store);
	int fd = open(fs->path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;
	int rc;

	if (fd < 0 && errno == ENOENT)
		return fail(fs, -ENOENT,
			"no cluster map %s: create the cluster with wfsctl cluster "
			"create, "
			"or check the path",
			fs->path);
	if (fd < 0)
		return fail(fs, -errno,
			"cannot open cluster map %s: %s: check its permissions", fs->path,
			strerror(errno));
	rc = fstat(fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && (!S_ISREG(st.st_mode) || st.st_size > MAP_FILE_MAX))
		rc = -EUCLEAN;
	if (rc) {
		close(fd);
		return fail(fs, rc, "cluster map %s is not a file of at most %u MiB",
			fs->path, MAP_FILE_MAX >> 20);
	}
	text = mem_alloc((size_t)st.st_size);
	rc = text ? read_all(fd, text, (size_t)st.st_size) : -ENOMEM;
	close(fd);
	if (rc)
		fail(fs, rc, "cannot read cluster map %s: %s", fs->path, strerror(-rc));
	else
		rc = parse_file(fs, text, (size_t)st.st_size, map_out);
	mem_free(text);
	return rc;
}

static int check_epoch(struct file_store *fs, const struct map *map)
{
	struct map *stored = NULL;
	uint64_t epoch = 0;
	int rc = file_load(&fs->store, &stored);

	if (rc && rc != -ENOENT)
		return rc;
	if (stored) {
		epoch = stored->epoch;
		rc = memcmp(stored->uuid, map->uuid, sizeof(map->uuid)) ? -EEXIST : 0;
		map_free(stored);
		if (rc)
			return fail(fs, rc,
				"%s holds the map of another cluster: choose another "
				"path",
				fs->path);
	}
	if (epoch + 1 != map->epoch)
		return fail(fs, -EAGAIN,
			"cluster map %s is at epoch %" PRIu64 ", not %" PRIu64
			": somebody else changed it; read it again and repeat the change",
			fs->path, epoch, map->epoch - 1);
	return 0;
}

static int sync_directory(struct file_store *fs)
{
	int fd = open(fs->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

static int replace_file(struct file_store *fs, const char *text, size_t size)
{
	int fd = open(fs->path_new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int rc;

	if (fd < 0)
		return fail(fs, -errno,
			"cannot make %s: %s: check the directory and its owner",
			fs->path_new, strerror(errno));
	rc = write_all(fd, text, size);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(fs->path_new, fs->path) < 0)
		rc = -errno;
	if (rc) {
		unlink(fs->path_new);
		return fail(fs, rc, "cannot write cluster map %s: %s: the old map stays",
			fs->path, strerror(-rc));
	}
	rc = sync_directory(fs);
	if (rc)
		return fail(fs, rc,
			"cluster map %s is written but its directory cannot be synced: "
			"%s: "
			"read the map again before the next change",
			fs->path, strerror(-rc));
	return 0;
}

static int lock_file(struct file_store *fs, int *fd_out)
{
	int fd = open(fs->path_lock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	int rc;

	if (fd < 0)
		return fail(fs, -errno,
			"cannot make %s: %s: check the directory and its owner",
			fs->path_lock, strerror(errno));
	do
		rc = flock(fd, LOCK_EX);
	while (rc < 0 && errno == EINTR);
	if (rc < 0) {
		rc = -errno;
		close(fd);
		return fail(fs, rc, "cannot lock %s: %s: use a file system with flock",
			fs->path_lock, strerror(-rc));
	}
	*fd_out = fd;
	return 0;
}

static int file_save(struct map_store *store, const struct map *map)
{
	struct file_store *fs = file_store_of(store);
	char *text = map_to_json(map);
	int fd = -1;
	int rc;

	if (!text)
		return fail(fs, -ENOMEM,
			"cannot write cluster map %s: memory is short, or a "
			"name in it is not UTF-8",
			fs->path);
	rc = lock_file(fs, &fd);
	if (rc == 0) {
		rc = check_epoch(fs, map);
		if (rc == 0)
			rc = replace_file(fs, text, strlen(text));
		close(fd);
	}
	free(text);
	return rc;
}

static void file_close(struct map_store *store)
{
	if (store)
		mem_free(file_store_of(store));
}

int map_store_file_open(const char *path, struct map_store **store_out)
{
	static const struct map_store_ops ops = {file_load, file_save, file_close};
	struct file_store *fs;
	const char *slash = strrchr(path, '/');

	if (path[0] == '\0' || strlen(path) >= PATH_MAX)
		return -EINVAL;
	fs = mem_zalloc(sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fs->store.ops = &ops;
	snprintf(fs->path, sizeof(fs->path), "%s", path);
	snprintf(fs->path_lock, sizeof(fs->path_lock), "%s.lock", path);
	snprintf(fs->path_new, sizeof(fs->path_new), "%s.new", path);
	if (!slash)
		snprintf(fs->directory, sizeof(fs->directory), ".");
	else
		snprintf(fs->directory, sizeof(fs->directory), "%.*s",
			slash == path ? 1 : (int)(slash - path), path);
	*store_out = &fs->store;
	return 0;
}

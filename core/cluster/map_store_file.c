/*
 * The embedded map store: one JSON file, for clusters whose nodes share one machine.
 *
 * A save holds an flock on <path>.lock (a file that is never removed, so that everybody
 * locks the same inode), checks that the stored epoch is the one before the new, writes
 * <path>.new, fsyncs it, renames it over <path> and fsyncs the directory. Readers take no
 * lock: a rename shows them the old map or the new one. The lock dies with its process.
 *
 * The lease of node N is <path>.lease.N, one line: the machine's boot id, the
 * incarnation, the expiry in us of CLOCK_BOOTTIME. It is replaced by rename too, under
 * <path>.lease.lock, and never synced: another boot id means expired. Whoever reads takes
 * the time first, so that a lease it finds expired was not renewed in time. Locks are
 * waited for only so long, since their holder may be stopped.
 */
#include "core/cluster/map_store.h"

#include <dirent.h>
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
#include <time.h>
#include <unistd.h>

#include "core/base/list.h"
#include "core/base/mem.h"

#define MAP_FILE_MAX (64u << 20)
#define LOCK_WAIT_MS 1000u
#define POLL_MS      50u

struct file_store {
	struct map_store store;
	char path[PATH_MAX];
	char path_lock[PATH_MAX + 8];
	char path_new[PATH_MAX + 8];
	char path_lease_lock[PATH_MAX + 16];
	char directory[PATH_MAX];
	struct stat seen; /* of the file loaded last */
	char boot_id[40];
};

struct lease {
	uint64_t incarnation;
	uint64_t expiry_us;
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

static int load(struct file_store *fs, struct map **map_out)
{
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
	if (rc == 0)
		fs->seen = st;
	return rc;
}

static int file_load(struct map_store *store, uint64_t known_epoch, struct map **map_out)
{
	struct map *map = NULL;
	int rc = load(file_store_of(store), &map);

	if (rc || !map)
		return rc;
	if (known_epoch && map->epoch <= known_epoch) {
		map_free(map);
		map = NULL;
	}
	*map_out = map;
	return 0;
}

static int check_epoch(struct file_store *fs, const struct map *map)
{
	struct map *stored = NULL;
	uint64_t epoch = 0;
	int rc = load(fs, &stored);

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

static void pause_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static uint64_t boottime_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int lock_file(struct file_store *fs, const char *path, int *fd_out)
{
	uint64_t until_us = boottime_us() + LOCK_WAIT_MS * 1000;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	int rc;

	if (fd < 0)
		return fail(fs, -errno,
			"cannot make %s: %s: check the directory and its owner", path,
			strerror(errno));
	while ((rc = flock(fd, LOCK_EX | LOCK_NB)) < 0 &&
		(errno == EINTR || errno == EWOULDBLOCK) && boottime_us() < until_us)
		pause_ms(1);
	if (rc < 0) {
		rc = errno == EWOULDBLOCK ? -EIO : -errno;
		close(fd);
		return fail(fs, rc,
			"cannot lock %s: %s: use a file system with flock, and see who "
			"holds it",
			path, strerror(-rc));
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
	rc = lock_file(fs, fs->path_lock, &fd);
	if (rc == 0) {
		rc = check_epoch(fs, map);
		if (rc == 0)
			rc = replace_file(fs, text, strlen(text));
		close(fd);
	}
	free(text);
	return rc;
}

/* --- leases ------------------------------------------------------------------------- */

/* -ENOENT: none. A line that cannot be read, or of another boot, is an expired lease. */
static int lease_read(struct file_store *fs, const char *path, struct lease *lease)
{
	char text[128] = "";
	char boot_id[40];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT
				       : fail(fs, -EIO, "cannot open lease %s: %s", path,
						 strerror(errno));
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got < 0)
		return fail(fs, -EIO, "cannot read lease %s", path);
	*lease = (struct lease){0};
	if (sscanf(text, "%39s %" SCNx64 " %" SCNu64, boot_id, &lease->incarnation,
		    &lease->expiry_us) != 3 ||
		strcmp(boot_id, fs->boot_id) != 0)
		lease->expiry_us = 0;
	return 0;
}

static int lease_write(struct file_store *fs, const char *path, const struct lease *lease)
{
	char path_new[PATH_MAX + 40];
	char text[128];
	int size = snprintf(text, sizeof(text), "%s %016" PRIx64 " %" PRIu64 "\n",
		fs->boot_id, lease->incarnation, lease->expiry_us);
	int fd, rc;

	snprintf(path_new, sizeof(path_new), "%s.new", path);
	fd = open(path_new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	rc = fd < 0 ? -errno : write_all(fd, text, (size_t)size);
	if (fd >= 0 && close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc == 0 && rename(path_new, path) < 0)
		rc = -errno;
	if (rc)
		return fail(fs, -EIO, "cannot write lease %s: %s", path, strerror(-rc));
	return 0;
}

/* Renew for ttl_ms, or (0) remove. */
static int lease_change(
	struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ttl_ms)
{
	struct file_store *fs = file_store_of(store);
	char path[PATH_MAX + 32];
	struct lease lease;
	uint64_t now_us;
	int fd = -1;
	int rc = lock_file(fs, fs->path_lease_lock, &fd);

	if (rc)
		return rc == -ENOMEM ? rc : -EIO;
	snprintf(path, sizeof(path), "%s.lease.%u", fs->path, node);
	now_us = boottime_us();
	rc = lease_read(fs, path, &lease);
	if (rc == -ENOENT)
		rc = ttl_ms ? lease_write(fs, path,
				      &(struct lease){
					      incarnation, now_us + ttl_ms * 1000ull})
			    : 0;
	else if (rc == 0 && !ttl_ms && lease.incarnation == incarnation)
		unlink(path);
	else if (rc == 0 && ttl_ms && lease.incarnation != incarnation &&
		 lease.expiry_us > now_us)
		rc = fail(fs, -EBUSY,
			"another process holds the lease of node %u for %" PRIu64
			" ms: see that it does not run",
			node, (lease.expiry_us - now_us) / 1000 + 1);
	else if (rc == 0 && ttl_ms)
		rc = lease_write(fs, path,
			&(struct lease){incarnation, now_us + ttl_ms * 1000ull});
	close(fd);
	return rc;
}

static int file_renew(
	struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ttl_ms)
{
	return lease_change(store, node, incarnation, ttl_ms ? ttl_ms : 1);
}

static int file_release(struct map_store *store, uint32_t node, uint64_t incarnation)
{
	return lease_change(store, node, incarnation, 0);
}

/* The node of a lease file's name. */
static bool lease_name(const struct file_store *fs, const char *name, uint32_t *node_out)
{
	const char *slash = strrchr(fs->path, '/');
	const char *base = slash ? slash + 1 : fs->path;
	size_t size = strlen(base);
	unsigned long node;
	char *end;

	if (strncmp(name, base, size) != 0 || strncmp(name + size, ".lease.", 7) != 0)
		return false;
	name += size + 7;
	node = strtoul(name, &end, 10);
	if (*name < '0' || *name > '9' || *end || node > UINT32_MAX)
		return false;
	*node_out = (uint32_t)node;
	return true;
}

static int file_leases(struct map_store *store, struct map_lease *leases, uint32_t max,
	uint32_t *count_out)
{
	struct file_store *fs = file_store_of(store);
	uint64_t now_us = boottime_us();
	DIR *dir = opendir(fs->directory);
	const struct dirent *entry;
	uint32_t count = 0;
	int rc = 0;

	if (!dir)
		return fail(
			fs, -EIO, "cannot read %s: %s", fs->directory, strerror(errno));
	while (rc == 0 && (entry = readdir(dir))) {
		char path[2 * PATH_MAX];
		struct lease lease;
		uint32_t node;

		if (!lease_name(fs, entry->d_name, &node))
			continue;
		snprintf(path, sizeof(path), "%s.lease.%u", fs->path, node);
		rc = lease_read(fs, path, &lease);
		if (rc == -ENOENT) {
			rc = 0;
			continue;
		}
		if (rc == 0 && count == max)
			rc = fail(fs, -ENOSPC, "more than %u leases in %s", max,
				fs->directory);
		if (rc == 0)
			leases[count++] = (struct map_lease){.node = node,
				.incarnation = lease.incarnation,
				.remaining_ms =
					lease.expiry_us <= now_us
						? 0
						: (uint32_t)((lease.expiry_us - now_us +
								     999) /
							     1000)};
	}
	closedir(dir);
	if (rc == 0)
		*count_out = count;
	return rc;
}

/* --- the rest ----------------------------------------------------------------------- */

/* The file loaded last stands for the known epoch. */
static int file_wait(struct map_store *store, uint64_t known_epoch, uint32_t timeout_ms)
{
	struct file_store *fs = file_store_of(store);
	uint64_t until_us = boottime_us() + timeout_ms * 1000ull;
	struct stat st;

	(void)known_epoch;
	for (;;) {
		uint64_t now_us;

		if (stat(fs->path, &st) < 0)
			return fail(fs, -EIO, "cannot see cluster map %s: %s", fs->path,
				strerror(errno));
		now_us = boottime_us();
		if (st.st_ino != fs->seen.st_ino || st.st_size != fs->seen.st_size ||
			st.st_mtim.tv_sec != fs->seen.st_mtim.tv_sec ||
			st.st_mtim.tv_nsec != fs->seen.st_mtim.tv_nsec ||
			now_us >= until_us)
			return 0;
		pause_ms(until_us - now_us < POLL_MS * 1000
				 ? (unsigned)((until_us - now_us) / 1000 + 1)
				 : POLL_MS);
	}
}

static void file_close(struct map_store *store)
{
	if (store)
		mem_free(file_store_of(store));
}

static void boot_id_read(struct file_store *fs)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, fs->boot_id, sizeof(fs->boot_id) - 1);

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		snprintf(fs->boot_id, sizeof(fs->boot_id), "unknown");
	fs->boot_id[strcspn(fs->boot_id, " \n")] = '\0';
}

int map_store_file_open(const char *path, struct map_store **store_out)
{
	static const struct map_store_ops ops = {
		.load = file_load,
		.save = file_save,
		.renew = file_renew,
		.release = file_release,
		.leases = file_leases,
		.wait = file_wait,
		.close = file_close,
	};
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
	snprintf(fs->path_lease_lock, sizeof(fs->path_lease_lock), "%s.lease.lock", path);
	boot_id_read(fs);
	if (!slash)
		snprintf(fs->directory, sizeof(fs->directory), ".");
	else
		snprintf(fs->directory, sizeof(fs->directory), "%.*s",
			slash == path ? 1 : (int)(slash - path), path);
	*store_out = &fs->store;
	return 0;
}

/*
 * bench-meta: metadata operations on many files, as one JSON array.
 *
 * A list of operations is run one after the other, each by all processes together, over
 * the same files: `files` per process, in a directory per process or one that all share.
 * create and durable-create make them (durable: with fsync before close), unlink removes
 * them, rename moves each to another name and back; the others go round until the time
 * is over. readdir reads the directory and stats every name, one operation per name.
 */
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

#include "bench/measure.h"

struct meta {
	const char *dir;
	uint32_t processes;
	uint32_t files;
	uint64_t size_bytes;
	double seconds;
	bool shared;
	struct measure *measure;
	const struct operation *op;
	/* Of a process. */
	uint32_t index;
	uint8_t *buffer;
	uint64_t end_ns;
};

struct operation {
	const char *name;
	bool once; /* every file once, instead of for a time */
	int (*run)(struct meta *m, const char *path);
};

static void path_of(const struct meta *m, uint32_t file, char *out, size_t size)
{
	if (m->shared)
		snprintf(out, size, "%s/shared/%u.%u", m->dir, m->index, file);
	else
		snprintf(out, size, "%s/p%u/%u", m->dir, m->index, file);
}

static int file_make(struct meta *m, const char *path, bool durable)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int rc = 0;

	if (fd < 0)
		return errno;
	if (m->size_bytes &&
		write(fd, m->buffer, m->size_bytes) != (ssize_t)m->size_bytes)
		rc = EIO;
	if (durable && fsync(fd))
		rc = errno;
	if (close(fd) && !rc)
		rc = errno;
	return rc;
}

static int op_create(struct meta *m, const char *path)
{
	return file_make(m, path, false);
}

static int op_durable(struct meta *m, const char *path)
{
	return file_make(m, path, true);
}

static int op_stat(struct meta *m, const char *path)
{
	struct stat st;

	(void)m;
	return stat(path, &st) ? errno : 0;
}

static int op_open(struct meta *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	(void)m;
	if (fd < 0)
		return errno;
	return close(fd) ? errno : 0;
}

static int op_read(struct meta *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return errno;
	n = read(fd, m->buffer, m->size_bytes ? m->size_bytes : 4096);
	if (n != (ssize_t)m->size_bytes) {
		close(fd);
		return n < 0 ? errno : EIO;
	}
	return close(fd) ? errno : 0;
}

static int op_unlink(struct meta *m, const char *path)
{
	(void)m;
	return unlink(path) ? errno : 0;
}

static int op_rename(struct meta *m, const char *path)
{
	char other[4096];
	uint64_t began_ns = measure_now_ns();

	snprintf(other, sizeof(other), "%s.moved", path);
	if (rename(path, other))
		return errno;
	measure_add(m->measure, began_ns, 0);
	return rename(other, path) ? errno : 0;
}

static int readdir_all(struct meta *m)
{
	char path[4096];
	struct dirent *entry;
	uint64_t began_ns = measure_now_ns();
	DIR *dir;

	snprintf(
		path, sizeof(path), m->shared ? "%s/shared" : "%s/p%u", m->dir, m->index);
	dir = opendir(path);
	if (!dir)
		return errno;
	errno = 0;
	while ((entry = readdir(dir)) != NULL) {
		struct stat st;

		if (entry->d_name[0] == '.')
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			break;
		began_ns = measure_add(m->measure, began_ns, 0);
		errno = 0;
	}
	if (errno)
		return errno;
	return closedir(dir) ? errno : 0;
}

static const struct operation operations[] = {
	{"create", true, op_create},
	{"durable-create", true, op_durable},
	{"stat", false, op_stat},
	{"open-close", false, op_open},
	{"open-read-close", false, op_read},
	{"rename", false, op_rename},
	{"readdir-stat", false, NULL},
	{"unlink", true, op_unlink},
};
#define OPERATION_COUNT (sizeof(operations) / sizeof(operations[0]))

static void process_run(void *ctx, uint32_t index)
{
	struct meta *m = ctx;
	uint64_t began_ns;
	char path[4096];

	m->index = index;
	m->buffer = calloc(1, m->size_bytes + 4096);
	path_of(m, 0, path, sizeof(path));
	*strrchr(path, '/') = 0;
	if (mkdir(path, 0755) && errno != EEXIST)
		measure_fail(m->measure, errno);
	measure_start(m->measure, m->processes);
	m->end_ns = measure_now_ns() + (uint64_t)(m->seconds * 1e9);
	for (uint32_t file = 0;; file++) {
		int rc;

		if (m->op->once ? file == m->files : measure_now_ns() >= m->end_ns)
			break;
		path_of(m, file % m->files, path, sizeof(path));
		began_ns = measure_now_ns();
		rc = m->op->run ? m->op->run(m, path) : readdir_all(m);
		if (rc) {
			measure_fail(m->measure, rc);
			break;
		}
		if (m->op->run)
			measure_add(m->measure, began_ns, 0);
	}
	measure_stop(m->measure);
}

static const struct operation *operation_find(const char *name, size_t size)
{
	for (size_t i = 0; i < OPERATION_COUNT; i++)
		if (strlen(operations[i].name) == size &&
			strncmp(operations[i].name, name, size) == 0)
			return &operations[i];
	return NULL;
}

static int usage(void)
{
	fputs("Usage: bench-meta --dir DIR --ops OP,OP,... [--procs N] [--files N per "
	      "process]\n"
	      "  [--size BYTES] [--seconds S] [--shared]\n"
	      "Operations: create durable-create stat open-close open-read-close rename "
	      "readdir-stat unlink\n"
	      "Example: bench-meta --dir /wfs/b --ops create,stat,unlink --procs 4\n",
		stderr);
	return 2;
}

static int list_run(struct meta *m, const char *list)
{
	bool first = true;

	putchar('[');
	while (*list) {
		size_t size = strcspn(list, ",");

		m->op = operation_find(list, size);
		if (!m->op)
			return usage();
		memset(m->measure, 0, sizeof(*m->measure));
		fflush(stdout);
		measure_run(m->measure, m->processes, process_run, m);
		if (m->measure->error) {
			fprintf(stderr, "bench-meta: %s: %s\n", m->op->name,
				strerror(m->measure->error));
			return 1;
		}
		printf("%s\n{\"op\": \"%s\", \"procs\": %u, \"files\": %u, "
		       "\"size_bytes\": %llu, "
		       "\"shared\": %s, ",
			first ? "" : ",", m->op->name, m->processes, m->files,
			(unsigned long long)m->size_bytes, m->shared ? "true" : "false");
		measure_print(m->measure);
		putchar('}');
		first = false;
		list += size;
		list += *list == ',';
	}
	puts("\n]");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"dir", 1, 0, 'd'}, {"ops", 1, 0, 'o'},
		{"procs", 1, 0, 'p'}, {"files", 1, 0, 'f'}, {"size", 1, 0, 's'},
		{"seconds", 1, 0, 't'}, {"shared", 0, 0, 'S'}, {0, 0, 0, 0}};
	struct meta m = {
		.processes = 1, .files = 1000, .seconds = 3, .measure = measure_new()};
	const char *list = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'd': m.dir = optarg; break;
		case 'o': list = optarg; break;
		case 'p': m.processes = (uint32_t)atoi(optarg); break;
		case 'f': m.files = (uint32_t)atoi(optarg); break;
		case 's': m.size_bytes = measure_size(optarg); break;
		case 't': m.seconds = atof(optarg); break;
		case 'S': m.shared = true; break;
		default: return usage();
		}
	}
	if (!m.dir || !list || !m.processes || !m.files)
		return usage();
	if (mkdir(m.dir, 0755) && errno != EEXIST) {
		fprintf(stderr, "bench-meta: %s: %s\n", m.dir, strerror(errno));
		return 1;
	}
	return list_run(&m, list);
}

/*
 * A write load that remembers what was acknowledged, and the check of it after a crash.
 *
 *   ackload write DIR LOG [THREADS [SECONDS]]   until killed, failing, or SECONDS are
 * over ackload verify DIR LOG
 *
 * Each thread works in its own directory and its own local log LOG.<thread>. It writes
 * one line before an operation and one after it returned:
 *
 *   + serial op file version size     begun
 *   = serial                          acknowledged
 *   ! serial errno                    failed
 *
 * Verify replays each log: an acknowledged operation must be there whole; one that was
 * begun and not acknowledged, or failed, may have happened or not, and a write among
 * those may be there in part, block by block. Contents follow from (thread, file,
 * version, offset). Operations: create, write (whole contents anew, by pwrite from 0 in
 * pieces), append, truncate, rename, unlink, mkdir, link. The log is a pipe to the page
 * cache: it outlives the death of any process, as the nodes' deaths here are.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES       64
#define SIZE_MAX_B  (3u << 20)
#define THREADS_MAX 16
#define BLOCK       4096u
#define VERSIONS    8

enum op {
	OP_CREATE,
	OP_REWRITE,
	OP_APPEND,
	OP_CUT,
	OP_RENAME,
	OP_UNLINK,
	OP_MKDIR,
	OP_RMDIR
};
static const char op_letters[] = "cwatrudx";

/*
 * What is known of one file (or directory): pieces, each [from, to) of a version, in the
 * order of writing; later cover earlier ones. `doubt`: one operation whose fate is open.
 */
struct piece {
	uint32_t from, to, version;
};
struct file {
	bool exists;
	bool is_dir;
	bool renamed; /* lies under its second name */
	uint32_t size;
	struct piece pieces[VERSIONS];
	unsigned piece_count;
};
struct doubt {
	bool open;
	enum op op;
	unsigned file;
	uint32_t version, size;
};
struct state {
	struct file files[FILES];
	struct doubt doubt;
};

struct worker {
	pthread_t thread;
	unsigned index;
	const char *dir;
	char log_path[4096];
	FILE *log;
	struct state state;
	uint64_t random;
	uint64_t acked;
	double seconds;
	int error;
};

static void pattern(uint8_t *out, unsigned thread, unsigned file, uint32_t version,
	uint32_t from, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++) {
		uint32_t at = from + i;
		uint64_t x = ((uint64_t)version << 32) ^ ((uint64_t)thread << 56) ^
			     ((uint64_t)file << 24) ^ (at / 8);

		x *= 0x9e3779b97f4a7c15u;
		x ^= x >> 29;
		x *= 0xbf58476d1ce4e5b9u;
		out[i] = (uint8_t)(x >> (at % 8 * 8));
	}
}

static uint64_t random_next(struct worker *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random;
}

static void path_of(const struct worker *w, unsigned file, bool renamed, char out[4096])
{
	snprintf(out, 4096, "%s/t%u/%s%u", w->dir, w->index, renamed ? "renamed-" : "f",
		file);
}

static void piece_add(struct file *f, uint32_t from, uint32_t to, uint32_t version)
{
	if (from == to)
		return;
	if (f->piece_count == VERSIONS)
		abort();
	f->pieces[f->piece_count++] = (struct piece){from, to, version};
	if (to > f->size)
		f->size = to;
}

/* The acknowledged effect of an operation. */
static void state_apply(struct file *f, enum op op, uint32_t version, uint32_t size)
{
	switch (op) {
	case OP_CREATE:
	case OP_REWRITE:
		if (op == OP_CREATE)
			*f = (struct file){.exists = true};
		f->piece_count = 0;
		f->size = 0;
		piece_add(f, 0, size, version);
		break;
	case OP_APPEND: piece_add(f, f->size, f->size + size, version); break;
	case OP_CUT:
		f->size = size;
		for (unsigned i = 0; i < f->piece_count; i++) {
			struct piece *p = &f->pieces[i];
			p->to = p->to > size ? size : p->to;
			p->from = p->from > p->to ? p->to : p->from;
		}
		break;
	case OP_RENAME: f->renamed = !f->renamed; break;
	case OP_UNLINK:
	case OP_RMDIR: *f = (struct file){0}; break;
	case OP_MKDIR: *f = (struct file){.exists = true, .is_dir = true}; break;
	}
}

static int write_all(int fd, unsigned thread, unsigned file, uint32_t version,
	uint32_t from, uint32_t size, bool append)
{
	static __thread uint8_t buffer[256 << 10];

	for (uint32_t done = 0; done < size;) {
		uint32_t n = size - done < sizeof(buffer) ? size - done : sizeof(buffer);
		ssize_t put;

		pattern(buffer, thread, file, version, from + done, n);
		put = append ? write(fd, buffer, n) : pwrite(fd, buffer, n, from + done);
		if (put <= 0)
			return put < 0 ? errno : EIO;
		done += (uint32_t)put;
	}
	return 0;
}

static int file_write(struct worker *w, const char *path, unsigned file, enum op op,
	uint32_t version, uint32_t size)
{
	int flags = op == OP_CREATE    ? O_WRONLY | O_CREAT | O_EXCL
		    : op == OP_REWRITE ? O_WRONLY | O_TRUNC
				       : O_WRONLY | O_APPEND;
	uint32_t from = op == OP_APPEND ? w->state.files[file].size : 0;
	int fd = open(path, flags | O_CLOEXEC, 0644);
	int rc;

	if (fd < 0)
		return errno;
	rc = write_all(fd, w->index, file, version, from, size, op == OP_APPEND);
	if (rc == 0 && fsync(fd))
		rc = errno;
	if (close(fd) && rc == 0)
		rc = errno;
	return rc;
}

static int op_run(
	struct worker *w, unsigned file, enum op op, uint32_t version, uint32_t size)
{
	const struct file *f = &w->state.files[file];
	char path[4096], other[4096];

	path_of(w, file, f->renamed, path);
	switch (op) {
	case OP_CREATE:
	case OP_REWRITE:
	case OP_APPEND: return file_write(w, path, file, op, version, size);
	case OP_CUT: return truncate(path, size) ? errno : 0;
	case OP_UNLINK: return unlink(path) ? errno : 0;
	case OP_MKDIR: return mkdir(path, 0755) ? errno : 0;
	case OP_RMDIR: return rmdir(path) ? errno : 0;
	case OP_RENAME:
		path_of(w, file, !f->renamed, other);
		return rename(path, other) ? errno : 0;
	}
	return EINVAL;
}

static enum op op_choose(struct worker *w, const struct file *f)
{
	unsigned dice = (unsigned)(random_next(w) % 16);

	if (!f->exists)
		return dice < 13 ? OP_CREATE : OP_MKDIR;
	if (f->is_dir)
		return dice < 8 ? OP_RENAME : OP_RMDIR;
	if (dice < 5)
		return f->piece_count < VERSIONS ? OP_APPEND : OP_REWRITE;
	return dice < 8    ? OP_REWRITE
	       : dice < 10 ? OP_CUT
	       : dice < 13 ? OP_RENAME
			   : OP_UNLINK;
}

static uint32_t size_choose(struct worker *w, const struct file *f, enum op op)
{
	uint64_t r = random_next(w);
	uint32_t size = r % 8 == 0 ? (uint32_t)(r >> 8) % (1536u << 10)
				   : (uint32_t)(r >> 8) % (16u << 10);

	if (op == OP_CUT)
		return f->size ? (uint32_t)(r >> 8) % f->size : 0;
	if (op == OP_APPEND && f->size + size > SIZE_MAX_B)
		return 1;
	return size;
}

static double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	double end = now_s() + w->seconds;
	char path[4096];

	snprintf(path, sizeof(path), "%s/t%u", w->dir, w->index);
	if (mkdir(path, 0755) && errno != EEXIST) {
		w->error = errno;
		return NULL;
	}
	for (uint32_t serial = 1; now_s() < end; serial++) {
		unsigned file = (unsigned)(random_next(w) % FILES);
		struct file *f = &w->state.files[file];
		enum op op = op_choose(w, f);
		uint32_t size = size_choose(w, f, op);

		fprintf(w->log, "+ %u %c %u %u %u\n", serial, op_letters[op], file,
			serial, size);
		fflush(w->log);
		w->error = op_run(w, file, op, serial, size);
		if (w->error) {
			fprintf(w->log, "! %u %d\n", serial, w->error);
			fflush(w->log);
			return NULL;
		}
		fprintf(w->log, "= %u\n", serial);
		fflush(w->log);
		state_apply(f, op, serial, size);
		w->acked++;
	}
	return NULL;
}

static int log_read(struct worker *w)
{
	FILE *log = fopen(w->log_path, "r");
	char line[256];

	if (!log)
		return -1;
	while (fgets(line, sizeof(line), log)) {
		struct doubt *d = &w->state.doubt;
		unsigned serial, file;
		uint32_t version, size;
		char letter;

		if (sscanf(line, "+ %u %c %u %u %u", &serial, &letter, &file, &version,
			    &size) == 5) {
			const char *at = strchr(op_letters, letter);
			if (d->open || !at || file >= FILES)
				return -1;
			*d = (struct doubt){
				true, (enum op)(at - op_letters), file, version, size};
		} else if (line[0] == '=') {
			if (!d->open)
				return -1;
			state_apply(&w->state.files[d->file], d->op, d->version, d->size);
			d->open = false;
			w->acked++;
		}
	}
	fclose(log);
	return 0;
}

static int bad(const char *path, const char *format, unsigned long a, unsigned long b)
{
	printf("LOST %s: ", path);
	printf(format, a, b);
	putchar('\n');
	return 1;
}

/* What version byte `at` should hold; 0: zeros (a hole after a cut and append). */
static uint32_t version_at(const struct file *f, uint32_t at)
{
	for (unsigned i = f->piece_count; i-- > 0;)
		if (at >= f->pieces[i].from && at < f->pieces[i].to)
			return f->pieces[i].version;
	return 0;
}

static int contents_check(const struct worker *w, unsigned file, const struct file *f,
	const char *path, const uint8_t *data)
{
	uint8_t want[BLOCK];

	for (uint32_t at = 0; at < f->size;) {
		uint32_t version = version_at(f, at), end = at + 1;

		while (end < f->size && end - at < BLOCK && version_at(f, end) == version)
			end++;
		if (version)
			pattern(want, w->index, file, version, at, end - at);
		else
			memset(want, 0, end - at);
		if (memcmp(want, data + at, end - at) != 0)
			return bad(path, "wrong contents at byte %lu, of version %lu", at,
				version);
		at = end;
	}
	return 0;
}

static uint8_t *file_load(const char *path, uint32_t *size_out)
{
	static uint8_t buffer[SIZE_MAX_B * 2];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	*size_out = 0;
	if (fd < 0)
		return NULL;
	while ((n = read(fd, buffer + *size_out, sizeof(buffer) - *size_out)) > 0)
		*size_out += (uint32_t)n;
	close(fd);
	return n < 0 ? NULL : buffer;
}

/* Is the world at path exactly as f says? Quiet: only answer. */
static int file_check(const struct worker *w, unsigned file, const struct file *f)
{
	char path[4096], other[4096];
	struct stat st;
	uint8_t *data;
	uint32_t size;

	path_of(w, file, f->renamed, path);
	path_of(w, file, !f->renamed, other);
	if (lstat(other, &st) == 0)
		return bad(other, "is there, but was renamed or removed", 0, 0);
	if (!f->exists)
		return lstat(path, &st) == 0
			       ? bad(path, "is there, but was removed", 0, 0)
		       : errno == ENOENT
			       ? 0
			       : bad(path, "errno %lu", (unsigned long)errno, 0);
	if (lstat(path, &st))
		return bad(path, "is not there: errno %lu", (unsigned long)errno, 0);
	if (S_ISDIR(st.st_mode) != f->is_dir)
		return bad(path, "has mode %lo", st.st_mode, 0);
	if (f->is_dir)
		return 0;
	if ((uint64_t)st.st_size != f->size)
		return bad(path, "is %lu bytes, not %lu", (unsigned long)st.st_size,
			f->size);
	data = file_load(path, &size);
	if (!data || size != f->size)
		return bad(path, "reads %lu of %lu bytes", size, f->size);
	return contents_check(w, file, f, path, data);
}

/* Whether a regular file of this size can be what the doubtful operation left. */
static bool doubt_size_ok(const struct doubt *d, const struct file *before, uint32_t size)
{
	switch (d->op) {
	case OP_CREATE: return size <= d->size;
	case OP_REWRITE: return size <= d->size || size == before->size;
	case OP_APPEND: return size >= before->size && size <= before->size + d->size;
	case OP_CUT: return size == before->size || size == d->size;
	default: return size == before->size;
	}
}

/* Each byte is of the state before or of the operation; leading ones that the operation
 * did not touch are of the state before. */
static int doubt_bytes_check(
	const struct worker *w, const char *path, const uint8_t *data, uint32_t size)
{
	const struct doubt *d = &w->state.doubt;
	const struct file *before = &w->state.files[d->file];
	uint32_t keep = d->op == OP_CREATE || d->op == OP_REWRITE ? 0 : before->size;

	for (uint32_t at = 0; at < size; at++) {
		uint32_t old = at < before->size ? version_at(before, at) : 0;
		uint8_t was = 0, is = 0;

		if (old)
			pattern(&was, w->index, d->file, old, at, 1);
		pattern(&is, w->index, d->file, d->version, at, 1);
		if (data[at] == was || (at >= keep && (data[at] == is || data[at] == 0)))
			continue;
		return bad(path, "byte %lu is of no version", at, 0);
	}
	return 0;
}

/*
 * A file with an operation in doubt. Whatever happened, it must be readable, and lie
 * under exactly one name, or none if that can be.
 */
static int doubt_check(const struct worker *w)
{
	const struct doubt *d = &w->state.doubt;
	const struct file *before = &w->state.files[d->file];
	char path[4096], other[4096];
	struct stat a, b;
	bool at_a, at_b;
	uint8_t *data;
	uint32_t size;

	path_of(w, d->file, false, path);
	path_of(w, d->file, true, other);
	at_a = lstat(path, &a) == 0;
	at_b = lstat(other, &b) == 0;
	if (at_a && at_b)
		return bad(path, "lies under both names", 0, 0);
	if (!at_a && !at_b)
		return before->exists && d->op != OP_UNLINK && d->op != OP_RMDIR
			       ? bad(path, "is gone", 0, 0)
			       : 0;
	if (d->op != OP_RENAME && at_b != before->renamed)
		return bad(path, "was renamed by nobody", 0, 0);
	if (S_ISDIR(at_a ? a.st_mode : b.st_mode))
		return before->is_dir || d->op == OP_MKDIR
			       ? 0
			       : bad(path, "is a directory", 0, 0);
	data = file_load(at_a ? path : other, &size);
	if (!data)
		return bad(path, "cannot be read: errno %lu", (unsigned long)errno, 0);
	if (!doubt_size_ok(d, before, size))
		return bad(path, "is %lu bytes, was %lu", size, before->size);
	return doubt_bytes_check(w, path, data, size);
}

static int verify(struct worker *w)
{
	int errors = 0;

	if (log_read(w)) {
		printf("%s: bad log\n", w->log_path);
		return 1;
	}
	for (unsigned i = 0; i < FILES; i++)
		if (!w->state.doubt.open || w->state.doubt.file != i)
			errors += file_check(w, i, &w->state.files[i]);
	if (w->state.doubt.open)
		errors += doubt_check(w);
	return errors;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS_MAX];
	unsigned threads = argc > 4 ? (unsigned)atoi(argv[4]) : 4;
	bool writing = argc > 3 && strcmp(argv[1], "write") == 0;
	uint64_t acked = 0;
	int errors = 0;

	if (argc < 4 || !threads || threads > THREADS_MAX) {
		fprintf(stderr,
			"usage: ackload write|verify DIR LOG [THREADS [SECONDS]]\n");
		return 2;
	}
	for (unsigned i = 0; i < threads; i++) {
		struct worker *w = &workers[i];

		w->index = i;
		w->dir = argv[2];
		w->random = 0x12345 + i * 7919u;
		w->seconds = argc > 5 ? atof(argv[5]) : 1e9;
		snprintf(w->log_path, sizeof(w->log_path), "%s.%u", argv[3], i);
		if (!writing) {
			errors += verify(w);
			acked += w->acked;
			continue;
		}
		w->log = fopen(w->log_path, "w");
		if (!w->log || pthread_create(&w->thread, NULL, worker_run, w)) {
			perror(w->log_path);
			return 2;
		}
	}
	for (unsigned i = 0; writing && i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		acked += workers[i].acked;
		if (workers[i].error)
			printf("thread %u stopped: %s\n", i, strerror(workers[i].error));
	}
	printf("%llu operations acknowledged, %d %s\n", (unsigned long long)acked, errors,
		writing ? "errors" : "lost or wrong");
	return errors != 0;
}

/*
 * bench-io: reads and writes of files, for a time, as JSON.
 *
 * Jobs are processes, each with a file of its own; in flight are threads of a job, which
 * take the next block from a common counter (sequential, round and round) or a random
 * one. Reading prepares the file first, outside of the time measured. With --fsync a
 * write job ends with fsync, inside of the time.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>

#include "bench/measure.h"

enum op { OP_READ, OP_WRITE, OP_RANDREAD, OP_RANDWRITE };
static const char *const op_names[] = {"read", "write", "randread", "randwrite"};

struct io {
	const char *dir;
	enum op op;
	uint64_t block_bytes;
	uint64_t file_bytes;
	uint32_t jobs;
	uint32_t threads;
	double seconds;
	bool direct;
	bool fsync;
	bool keep;
	struct measure *measure;
	/* Of a job. */
	int fd;
	uint64_t end_ns;
	_Atomic uint64_t next;
};

static bool is_write(const struct io *io)
{
	return io->op == OP_WRITE || io->op == OP_RANDWRITE;
}

static uint8_t *buffer_new(const struct io *io, uint64_t seed)
{
	void *p;

	if (posix_memalign(&p, 4096, io->block_bytes)) {
		perror("posix_memalign");
		exit(2);
	}
	for (uint64_t i = 0; i + 8 <= io->block_bytes; i += 8) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		memcpy((uint8_t *)p + i, &seed, 8);
	}
	return p;
}

static uint64_t block_next(struct io *io, uint64_t *random)
{
	uint64_t blocks = io->file_bytes / io->block_bytes;

	if (io->op == OP_READ || io->op == OP_WRITE)
		return atomic_fetch_add(&io->next, 1) % blocks;
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random % blocks;
}

static void *thread_run(void *arg)
{
	struct io *io = arg;
	uint64_t random =
		(uint64_t)pthread_self() ^ measure_now_ns() ^ 0x9e3779b97f4a7c15u;
	uint8_t *buffer = buffer_new(io, random);
	uint64_t now_ns = measure_now_ns();

	while (now_ns < io->end_ns) {
		off_t at = (off_t)(block_next(io, &random) * io->block_bytes);
		ssize_t n = is_write(io) ? pwrite(io->fd, buffer, io->block_bytes, at)
					 : pread(io->fd, buffer, io->block_bytes, at);

		if (n != (ssize_t)io->block_bytes) {
			measure_fail(io->measure, n < 0 ? errno : EIO);
			break;
		}
		now_ns = measure_add(io->measure, now_ns, (uint64_t)n);
	}
	free(buffer);
	return NULL;
}

static void file_prepare(struct io *io)
{
	uint64_t size = io->block_bytes;
	uint8_t *buffer;

	io->block_bytes = 1 << 20;
	buffer = buffer_new(io, 1);
	for (uint64_t at = 0; at < io->file_bytes; at += io->block_bytes) {
		if (pwrite(io->fd, buffer, io->block_bytes, (off_t)at) !=
			(ssize_t)io->block_bytes) {
			measure_fail(io->measure, errno);
			break;
		}
	}
	if (fsync(io->fd))
		measure_fail(io->measure, errno);
	posix_fadvise(io->fd, 0, 0, POSIX_FADV_DONTNEED);
	io->block_bytes = size;
	free(buffer);
}

static void job_run(void *ctx, uint32_t index)
{
	struct io *io = ctx;
	pthread_t threads[MEASURE_WORKERS];
	char path[4096];

	snprintf(path, sizeof(path), "%s/io.%u", io->dir, index);
	io->fd = open(path, O_RDWR | O_CREAT | (io->direct ? O_DIRECT : 0), 0644);
	if (io->fd < 0)
		measure_fail(io->measure, errno);
	else if (!is_write(io) && lseek(io->fd, 0, SEEK_END) != (off_t)io->file_bytes)
		file_prepare(io);
	measure_start(io->measure, io->jobs);
	if (io->measure->error)
		return;
	io->end_ns = measure_now_ns() + (uint64_t)(io->seconds * 1e9);
	for (uint32_t i = 0; i < io->threads; i++)
		if (pthread_create(&threads[i], NULL, thread_run, io))
			measure_fail(io->measure, EAGAIN);
	for (uint32_t i = 0; i < io->threads; i++)
		pthread_join(threads[i], NULL);
	if (io->fsync && fsync(io->fd))
		measure_fail(io->measure, errno);
	measure_stop(io->measure);
	close(io->fd);
	if (!io->keep)
		unlink(path);
}

static int usage(void)
{
	fputs("Usage: bench-io --dir DIR --op read|write|randread|randwrite\n"
	      "  [--bs 1M] [--size 256M] [--jobs N] [--inflight N] [--seconds S]\n"
	      "  [--direct] [--fsync] [--keep]\n"
	      "Example: bench-io --dir /wfs --op randread --bs 4k --inflight 16\n",
		stderr);
	return 2;
}

static bool option_set(struct io *io, int c)
{
	switch (c) {
	case 'd': io->dir = optarg; break;
	case 'o':
		for (unsigned i = 0; i < 4; i++)
			if (strcmp(optarg, op_names[i]) == 0) {
				io->op = (enum op)i;
				return true;
			}
		return false;
	case 'b': io->block_bytes = measure_size(optarg); break;
	case 's': io->file_bytes = measure_size(optarg); break;
	case 'j': io->jobs = (uint32_t)atoi(optarg); break;
	case 'i': io->threads = (uint32_t)atoi(optarg); break;
	case 't': io->seconds = atof(optarg); break;
	case 'D': io->direct = true; break;
	case 'f': io->fsync = true; break;
	case 'k': io->keep = true; break;
	default: return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"dir", 1, 0, 'd'}, {"op", 1, 0, 'o'},
		{"bs", 1, 0, 'b'}, {"size", 1, 0, 's'}, {"jobs", 1, 0, 'j'},
		{"inflight", 1, 0, 'i'}, {"seconds", 1, 0, 't'}, {"direct", 0, 0, 'D'},
		{"fsync", 0, 0, 'f'}, {"keep", 0, 0, 'k'}, {0, 0, 0, 0}};
	struct io io = {.block_bytes = 1 << 20,
		.file_bytes = 256 << 20,
		.jobs = 1,
		.threads = 1,
		.seconds = 5,
		.measure = measure_new()};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!option_set(&io, c))
			return usage();
	if (!io.dir || !io.jobs || !io.threads || io.threads > MEASURE_WORKERS ||
		!io.block_bytes || io.file_bytes < io.block_bytes)
		return usage();
	io.file_bytes -= io.file_bytes % (1 << 20);
	measure_run(io.measure, io.jobs, job_run, &io);
	if (io.measure->error) {
		fprintf(stderr, "bench-io: %s: %s\n", io.dir,
			strerror(io.measure->error));
		return 1;
	}
	printf("{\"op\": \"%s\", \"block_bytes\": %llu, \"file_bytes\": %llu, \"jobs\": "
	       "%u, "
	       "\"inflight\": %u, \"direct\": %s, \"fsync\": %s, ",
		op_names[io.op], (unsigned long long)io.block_bytes,
		(unsigned long long)io.file_bytes, io.jobs, io.threads,
		io.direct ? "true" : "false", io.fsync ? "true" : "false");
	measure_print(io.measure);
	puts("}");
	return 0;
}

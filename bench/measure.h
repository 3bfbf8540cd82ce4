/*
 * What the benchmarks share: a clock, worker processes that start together, a latency
 * histogram in shared memory, and JSON output. One benchmark program is one file that
 * includes this. Plain POSIX, so that the same program runs on any file system and,
 * preloaded, on WFS.
 */
#ifndef WFS_BENCH_MEASURE_H
#define WFS_BENCH_MEASURE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Latency buckets: 16 per power of two nanoseconds. */
#define MEASURE_BUCKETS (64 * 16)
#define MEASURE_WORKERS 256

struct measure {
	_Atomic uint32_t ready;
	_Atomic uint32_t started;
	_Atomic uint64_t ops;
	_Atomic uint64_t bytes;
	_Atomic int error; /* the first errno */
	_Atomic uint64_t max_ns;
	_Atomic uint64_t first_ns, last_ns; /* of the workers' own times */
	_Atomic uint64_t buckets[MEASURE_BUCKETS];
};

static inline uint64_t measure_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline struct measure *measure_new(void)
{
	void *p = mmap(NULL, sizeof(struct measure), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

static inline void measure_fail(struct measure *m, int error)
{
	int none = 0;

	atomic_compare_exchange_strong(&m->error, &none, error ? error : EIO);
}

/* One operation that began at begin_ns; returns the time now. */
static inline uint64_t measure_add(struct measure *m, uint64_t begin_ns, uint64_t bytes)
{
	uint64_t now_ns = measure_now_ns();
	uint64_t ns = now_ns - begin_ns + 1;
	unsigned top = 63 - (unsigned)__builtin_clzll(ns);
	unsigned sub = top >= 4 ? (unsigned)(ns >> (top - 4)) & 15 : 0;
	uint64_t max = atomic_load_explicit(&m->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&m->buckets[top * 16 + sub], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->ops, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&m->bytes, bytes, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak(&m->max_ns, &max, ns))
		;
	return now_ns;
}

/* In a worker: wait until all `count` are here. */
static inline void measure_start(struct measure *m, uint32_t count)
{
	uint64_t zero = 0;

	atomic_fetch_add(&m->ready, 1);
	while (atomic_load(&m->ready) < count && !atomic_load(&m->error))
		usleep(200);
	atomic_compare_exchange_strong(&m->first_ns, &zero, measure_now_ns());
}

static inline void measure_stop(struct measure *m)
{
	uint64_t now_ns = measure_now_ns();
	uint64_t last = atomic_load(&m->last_ns);

	while (now_ns > last && !atomic_compare_exchange_weak(&m->last_ns, &last, now_ns))
		;
}

/* Fork `count` workers and wait for all. */
static inline void measure_run(struct measure *m, uint32_t count,
	void (*worker)(void *ctx, uint32_t index), void *ctx)
{
	for (uint32_t i = 0; i < count; i++) {
		pid_t pid = fork();

		if (pid < 0) {
			measure_fail(m, errno);
			break;
		}
		if (pid == 0) {
			worker(ctx, i);
			exit(0);
		}
	}
	for (;;) {
		int status;
		pid_t pid = wait(&status);

		if (pid < 0)
			break;
		if (status)
			measure_fail(m, ECHILD);
	}
}

static inline double measure_percentile_us(const struct measure *m, double part)
{
	uint64_t total = 0, seen = 0;

	for (int i = 0; i < MEASURE_BUCKETS; i++)
		total += m->buckets[i];
	for (int i = 0; i < MEASURE_BUCKETS; i++) {
		seen += m->buckets[i];
		if (seen && (double)seen >= part * (double)total) {
			double base = (double)((uint64_t)1 << (i / 16));
			return base * (1 + (i % 16 + 0.5) / 16) / 1e3;
		}
	}
	return 0;
}

static inline double measure_seconds(const struct measure *m)
{
	return m->last_ns > m->first_ns ? (double)(m->last_ns - m->first_ns) / 1e9 : 1e-9;
}

/* The members of the result object, without braces. */
static inline void measure_print(const struct measure *m)
{
	double seconds = measure_seconds(m);

	printf("\"seconds\": %.4f, \"ops\": %llu, \"ops_per_s\": %.1f, \"bytes\": %llu, "
	       "\"mib_per_s\": %.2f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": "
	       "%.1f",
		seconds, (unsigned long long)m->ops, (double)m->ops / seconds,
		(unsigned long long)m->bytes, (double)m->bytes / seconds / (1 << 20),
		measure_percentile_us(m, 0.5), measure_percentile_us(m, 0.99),
		(double)m->max_ns / 1e3);
}

/* "4k", "1M", "2g", "512" */
static inline uint64_t measure_size(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);
	int shift = *end == 'k' || *end == 'K'   ? 10
		    : *end == 'm' || *end == 'M' ? 20
		    : *end == 'g' || *end == 'G' ? 30
						 : 0;

	if (end == text || (*end && (!shift || end[1]))) {
		fprintf(stderr, "%s: give a size, as 4k\n", text);
		exit(2);
	}
	return value << shift;
}

#endif

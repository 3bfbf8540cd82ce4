/*
 * sim SEED            one seed, with a trace
 * sim -n N [-f FROM]  N seeds, each in a process of its own, on all cores
 * sim -q SEED         one seed, quietly
 * sim -m [-n N]       every mutation must be found within N seeds
 *
 * -w FAULT            without faults of this kind (to see which of them matter)
 *
 * A seed that fails says so in one line, and what to type to see it. SIM_LOG=1 shows the
 * log lines of the nodes as well.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SEED_SECONDS_MAX 10
#define WORKERS_MAX      64

struct worker {
	pid_t pid;
	uint64_t seed;
	struct sim_report *report; /* shared with the process */
};

struct totals {
	uint64_t seeds;
	uint64_t failed;
	struct sim_report sum;
};

#ifdef WFS_SIM_MUTATIONS
static const char *const mutation_names[] = {
#define MUTATION_NAME(name) #name,
	SIM_MUTATIONS(MUTATION_NAME)
#undef MUTATION_NAME
};
#endif

static void seed_run(struct worker *wk, uint64_t seed, bool quiet)
{
	fflush(stdout);
	wk->seed = seed;
	wk->pid = fork();
	if (wk->pid != 0)
		return;
	alarm(SEED_SECONDS_MAX);
	if (quiet && !freopen("/dev/null", "w", stdout))
		_exit(2);
	if (!freopen("/dev/null", "w", stderr))
		_exit(2);
	sim_run(seed, false);
	*wk->report = sim.report;
	fflush(stdout);
	_exit(0);
}

static void report_add(struct sim_report *sum, const struct sim_report *r)
{
	sum->sim_us += r->sim_us;
	sum->ops += r->ops;
	sum->unknown += r->unknown;
	sum->undecided += r->undecided;
	sum->turns += r->turns;
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		sum->faults[i] += r->faults[i];
}

/* Waits for one, and says whether its seed was all right. */
static bool seed_reap(struct worker *workers, unsigned count, struct totals *t,
	struct worker **free_out, bool quiet)
{
	int status;
	pid_t pid = wait(&status);
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	for (unsigned i = 0; i < count; i++) {
		struct worker *wk = &workers[i];

		if (wk->pid != pid)
			continue;
		wk->pid = 0;
		*free_out = wk;
		t->seeds++;
		t->failed += !good;
		if (good)
			report_add(&t->sum, wk->report);
		else if (!quiet && WIFSIGNALED(status))
			printf("FAILED seed=%" PRIu64 ": %s\n", wk->seed,
				WTERMSIG(status) == SIGALRM
					? "it takes too long"
					: strsignal(WTERMSIG(status)));
	}
	return good;
}

static unsigned workers_init(struct worker *workers)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned count = cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : (unsigned)cores;
	struct sim_report *reports = mmap(NULL, count * sizeof(*reports),
		PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (reports == MAP_FAILED)
		abort();
	for (unsigned i = 0; i < count; i++)
		workers[i] = (struct worker){.report = &reports[i]};
	return count;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void totals_print(const struct totals *t, double took)
{
	printf("%" PRIu64 " seeds in %.0f s (%.1f a second), %.1f simulated hours, %" PRIu64
	       " operations (%" PRIu64 " of unknown outcome), %" PRIu64
	       " names undecided, %" PRIu64 " failed\n",
		t->seeds, took, (double)t->seeds / took,
		(double)t->sum.sim_us / 3.6e9, t->sum.ops, t->sum.unknown,
		t->sum.undecided, t->failed);
}

/* Runs seeds until `count` are done, or (stop) one failed: its number, or 0. */
static uint64_t seeds_run(uint64_t from, uint64_t count, bool stop, struct totals *t)
{
	struct worker workers[WORKERS_MAX], *wk;
	unsigned worker_count = workers_init(workers), running = 0;
	uint64_t next = from, failed = 0;
	double begin = seconds(), told = begin;

	memset(t, 0, sizeof(*t));
	while (next < from + count || running) {
		if (running < worker_count && next < from + count && !(stop && failed)) {
			wk = workers;
			while (wk->pid)
				wk++;
			seed_run(wk, next++, stop);
			running++;
			continue;
		}
		if (!running)
			break;
		wk = NULL;
		if (!seed_reap(workers, worker_count, t, &wk, stop) && wk &&
			(!failed || wk->seed < failed))
			failed = wk->seed;
		running--;
		if (!stop && seconds() - told > 10) {
			told = seconds();
			totals_print(t, told - begin);
			fflush(stdout);
		}
	}
	return failed;
}

static int many(uint64_t from, uint64_t count)
{
	double begin = seconds();
	struct totals t;

	seeds_run(from, count, false, &t);
	totals_print(&t, seconds() - begin);
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		printf("  %-24s %" PRIu64 "\n", fault_names[i], t.sum.faults[i]);
	printf("%s sim\n", t.failed ? "FAIL" : "PASS");
	return t.failed ? 1 : 0;
}

static int mutations(uint64_t count, const char *only)
{
	int missed = 0;

	(void)count;
	(void)only;
#ifdef WFS_SIM_MUTATIONS
	for (int m = 1; m < MUTATION_COUNT; m++) {
		struct totals t;
		uint64_t failed;

		if (only && strcmp(only, mutation_names[m]) != 0)
			continue;
		sim_mutation = (enum sim_mutation)m;
		failed = seeds_run(1, count, true, &t);
		missed += failed == 0;
		if (failed)
			printf("%-24s found by seed %" PRIu64 " (%" PRIu64 " tried)\n",
				mutation_names[m], failed, t.seeds);
		else
			printf("%-24s NOT found by %" PRIu64 " seeds\n",
				mutation_names[m], t.seeds);
		fflush(stdout);
	}
#endif
	printf("%s mutations\n", missed ? "FAIL" : "PASS");
	return missed ? 1 : 0;
}

static void mutation_set(const char *name)
{
#ifdef WFS_SIM_MUTATIONS
	for (int m = 0; m < MUTATION_COUNT; m++)
		if (strcmp(name, mutation_names[m]) == 0)
			sim_mutation = (enum sim_mutation)m;
#endif
	(void)name;
}

static int one(uint64_t seed, bool loud)
{
	sim_run(seed, loud);
	printf("PASS seed=%" PRIu64 " digest=%016" PRIx64 " operations=%" PRIu64
	       " turns=%" PRIu64 " simulated=%.1f s\n",
		seed, sim.report.digest, sim.report.ops, sim.report.turns,
		(double)sim.report.sim_us / 1e6);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t count = 0, from = 1;
	bool quiet = false, mutate = false;
	const char *only = NULL;
	int option;

	while ((option = getopt(argc, argv, "n:f:qmx:w:")) != -1)
		switch (option) {
		case 'n': count = strtoull(optarg, NULL, 0); break;
		case 'f': from = strtoull(optarg, NULL, 0); break;
		case 'q': quiet = true; break;
		case 'm': mutate = true; break;
		case 'x': only = optarg; break;
		case 'w': sim_without(optarg); break;
		default: return 2;
		}
	if (only)
		mutation_set(only);
	if (mutate)
		return mutations(count ? count : 20000, only);
	if (count)
		return many(from, count);
	if (optind >= argc) {
		fprintf(stderr, "usage: sim [-q] [-x MUTATION] SEED | sim -n N [-f FROM] | "
				"sim -m [-n N] [-x MUTATION]\n");
		return 2;
	}
	return one(strtoull(argv[optind], NULL, 0), !quiet);
}

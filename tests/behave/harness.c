/*
 * Runs the behaviours: behave [OPTION]... DIRECTORY [PATTERN]...
 *
 * Each test is a process in a process group of its own; what it writes to stdout and
 * stderr goes to a memfd and is shown when it fails. DIRECTORY must be absolute, exist,
 * and be fresh: every test makes its own directory in it, and leaves it there. The parent
 * itself never touches DIRECTORY, so that each test meets it as a new program would.
 */
#include <fnmatch.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/behave/behave.h"

#define JOBS_MAX     64
#define EXIT_SKIPPED 77
#define MESSAGE_MAX  2000

extern const struct behaviour *const __start_behaviours[], *const __stop_behaviours[];
extern const struct helper *const __start_helpers[], *const __stop_helpers[];

struct job {
	const struct behaviour *test;
	pid_t pid;
	int output; /* memfd */
	double began, seconds;
	bool late;
};

static struct {
	bool json, list;
	int jobs, limit_seconds;
	const char *top;
	char **patterns;
} options = {.jobs = 4, .limit_seconds = 30};

static const struct behaviour **tests;
static int test_count;
static struct job jobs[JOBS_MAX];
static int running, passed, failed, skipped;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* --- one test ------------------------------------------------------------------------
 */

static _Noreturn void test_child(const struct job *job)
{
	struct rlimit no_core = {0, 0};
	int null = open("/dev/null", O_RDONLY);
	sigset_t none;

	setpgid(0, 0);
	dup2(null, 0);
	dup2(job->output, 1);
	dup2(job->output, 2);
	close_range(3, ~0u, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setrlimit(RLIMIT_CORE, &no_core);
	setvbuf(stdout, NULL, _IOLBF, 0);
	umask(022);
	snprintf(test_dir, PATH_MAX, "%s/%s", options.top, job->test->name);
	if (mkdir(test_dir, 0755) || chdir(test_dir)) {
		fprintf(stderr, "%s: %s\n", test_dir, strerror(errno));
		_exit(1);
	}
	job->test->run();
	/* Streams are the test's own business. */
	_exit(0);
}

static void job_start(struct job *job, const struct behaviour *test)
{
	*job = (struct job){.test = test, .began = now()};
	job->output = memfd_create("behave", MFD_CLOEXEC);
	job->pid = fork();
	if (job->output < 0 || job->pid < 0) {
		perror("behave");
		exit(2);
	}
	if (!job->pid)
		test_child(job);
	running++;
}

static void json_text(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	putchar('"');
}

static void report(const struct job *job, const char *result, const char *message)
{
	if (options.json) {
		printf("{\"name\": \"%s\", \"result\": \"%s\", \"seconds\": %.3f, "
		       "\"message\": ",
			job->test->name, result, job->seconds);
		json_text(message);
		printf("}\n");
	} else if (!strcmp(result, "fail")) {
		printf("FAIL %s\n", job->test->name);
		for (const char *line = message; *line;) {
			int size = (int)strcspn(line, "\n");

			printf("     %.*s\n", size, line);
			line += size + (line[size] == '\n');
		}
	}
	fflush(stdout);
}

static void job_end(struct job *job, int status)
{
	char message[MESSAGE_MAX + 64];
	ssize_t size = pread(job->output, message, MESSAGE_MAX, 0);
	char *end = message + (size < 0 ? 0 : size);

	*end = 0;
	kill(-job->pid, SIGKILL);
	close(job->output);
	job->seconds = now() - job->began;
	if (job->late)
		sprintf(end, "time limit\n");
	else if (WIFSIGNALED(status))
		sprintf(end, "ended by signal %d\n", WTERMSIG(status));
	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		passed++;
		report(job, "pass", "");
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED) {
		skipped++;
		report(job, "skip", message);
	} else {
		failed++;
		report(job, "fail", message);
	}
	job->pid = 0;
	running--;
}

/* Wait until a test ends or is late. */
static void jobs_wait(void)
{
	struct timespec pause = {0, 100000000};
	sigset_t child;
	int status;
	pid_t pid;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigtimedwait(&child, NULL, &pause);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < JOBS_MAX; i++)
			if (jobs[i].pid == pid)
				job_end(&jobs[i], status);
	for (int i = 0; i < JOBS_MAX; i++)
		if (jobs[i].pid && !jobs[i].late &&
			now() - jobs[i].began > options.limit_seconds) {
			jobs[i].late = true;
			kill(-jobs[i].pid, SIGKILL);
		}
}

/* --- all of them -----------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct behaviour *const *)a)->name,
		(*(const struct behaviour *const *)b)->name);
}

static bool wanted(const char *name)
{
	bool any = !options.patterns || !*options.patterns;

	for (char **p = options.patterns; p && *p; p++)
		any = any || !fnmatch(*p, name, 0);
	return any;
}

static void tests_collect(void)
{
	size_t all = (size_t)(__stop_behaviours - __start_behaviours);

	tests = calloc(all, sizeof(*tests));
	for (size_t i = 0; i < all; i++)
		if (wanted(__start_behaviours[i]->name))
			tests[test_count++] = __start_behaviours[i];
	qsort(tests, (size_t)test_count, sizeof(*tests), by_name);
	for (int i = 1; i < test_count; i++)
		if (!strcmp(tests[i - 1]->name, tests[i]->name)) {
			fprintf(stderr, "behave: two tests are named %s\n",
				tests[i]->name);
			exit(2);
		}
}

static void tests_run(void)
{
	sigset_t child;
	int next = 0;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	while (next < test_count || running) {
		for (int i = 0; i < options.jobs && next < test_count; i++)
			if (!jobs[i].pid)
				job_start(&jobs[i], tests[next++]);
		jobs_wait();
	}
}

static _Noreturn void usage(int code)
{
	fprintf(code ? stderr : stdout,
		"usage: behave [OPTION]... DIRECTORY [PATTERN]...\n"
		"  -l, --list           only the names\n"
		"  -j, --jobs N         so many at a time (4)\n"
		"  -t, --limit SECONDS  for one test (30)\n"
		"      --json           a line of JSON for every test\n");
	exit(code);
}

static int help(int argc, char **argv)
{
	for (const struct helper *const *h = __start_helpers; h < __stop_helpers; h++)
		if (argc && !strcmp((*h)->name, argv[0]))
			return (*h)->run(argc, argv);
	return 126;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"list", 0, NULL, 'l'},
		{"jobs", 1, NULL, 'j'}, {"limit", 1, NULL, 't'}, {"json", 0, NULL, 'J'},
		{"help", 0, NULL, 'h'}, {0}};
	ssize_t size = readlink("/proc/self/exe", self_path, PATH_MAX - 1);
	int c;

	if (argc > 1 && !strcmp(argv[1], "--as"))
		return help(argc - 2, argv + 2);
	self_path[size < 0 ? 0 : size] = 0;
	while ((c = getopt_long(argc, argv, "lj:t:h", longs, NULL)) != -1)
		switch (c) {
		case 'l': options.list = true; break;
		case 'j': options.jobs = atoi(optarg); break;
		case 't': options.limit_seconds = atoi(optarg); break;
		case 'J': options.json = true; break;
		case 'h': usage(0);
		default: usage(2);
		}
	if (options.list)
		options.patterns = argv + optind;
	else if (optind < argc && argv[optind][0] == '/')
		options.patterns = argv + optind + 1;
	else
		usage(2);
	if (options.jobs < 1 || options.jobs > JOBS_MAX || options.limit_seconds < 1)
		usage(2);
	options.top = argv[optind];
	tests_collect();
	if (options.list) {
		for (int i = 0; i < test_count; i++)
			puts(tests[i]->name);
		return 0;
	}
	tests_run();
	if (!options.json)
		printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}

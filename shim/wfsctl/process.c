/*
 * Starting and stopping wfsd processes.
 *
 *   spawned --"ready" on its stdout--> ready
 *      `-- exits before, or too late --> failed, told with the last line of its log
 *
 * All nodes of a call start at the same time: one that recovers does not hold up others.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/place.h"

#define START_TIMEOUT_S 120
#define STOP_TIMEOUT_S  60
#define POLL_MS         20

enum child_state { CHILD_STARTING, CHILD_READY, CHILD_FAILED };

struct child {
	enum child_state state;
	uint32_t id;
	pid_t pid;
	int out; /* read end of its stdout */
	uint64_t began_ms;
	char text[64];
	size_t text_size;
};

static void sleep_ms(unsigned ms)
{
	poll(NULL, 0, (int)ms);
}

/* In the child: become wfsd, or say why not into the log. */
static void child_exec(const struct ctl *ctl, uint32_t id, int out)
{
	char program[PATH_MAX + 16];
	const char *log_path = node_path(ctl, id, "wfsd.log");
	int null = open("/dev/null", O_RDONLY);
	int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);

	snprintf(program, sizeof(program), "%s/wfsd", ctl->bin);
	setsid();
	if (null < 0 || log_fd < 0)
		_exit(EXIT_USAGE);
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	closefrom(3);
	unsetenv("LD_PRELOAD");
	if (chdir("/"))
		_exit(EXIT_USAGE);
	execl(program, "wfsd", "--config", node_path(ctl, id, "wfsd.conf"), (char *)NULL);
	dprintf(STDERR_FILENO, "cannot run %s: %s: install wfsd beside wfsctl\n", program,
		strerror(errno));
	_exit(EXIT_USAGE);
}

static int child_spawn(const struct ctl *ctl, uint32_t id, struct child *child)
{
	int fds[2];

	*child = (struct child){.id = id, .out = -1, .began_ms = now_ms()};
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	child->pid = fork();
	if (child->pid < 0) {
		int rc = -errno;
		close(fds[0]);
		close(fds[1]);
		return rc;
	}
	if (child->pid == 0)
		child_exec(ctl, id, fds[1]);
	close(fds[1]);
	child->out = fds[0];
	return 0;
}

void file_last_line(const char *path, char *out, size_t size)
{
	FILE *file = fopen(path, "re");
	char line[1024];

	snprintf(out, size, "nothing in its log");
	if (!file)
		return;
	if (fseek(file, -8192, SEEK_END))
		rewind(file);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		if (line[0])
			snprintf(out, size, "%s", line);
	}
	fclose(file);
}

static int child_failed(const struct ctl *ctl, struct child *child, int status)
{
	char line[1024];

	child->state = CHILD_FAILED;
	close(child->out);
	progress_end(ctl);
	file_last_line(node_path(ctl, child->id, "wfsd.log"), line, sizeof(line));
	if (WIFSIGNALED(status))
		ctl_fail("node %u died by signal %d: %s: see %s", child->id,
			WTERMSIG(status), line, node_path(ctl, child->id, "wfsd.log"));
	else
		ctl_fail("node %u did not start: %s", child->id, line);
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE ? EXIT_USAGE
								      : EXIT_FAILED;
}

/* Something on the pipe: a line, or its end. Exit code of a failure. */
static int child_hear(const struct ctl *ctl, struct child *child)
{
	ssize_t n = read(child->out, child->text + child->text_size,
		sizeof(child->text) - 1 - child->text_size);
	int status = 0;

	if (n <= 0) {
		waitpid(child->pid, &status, 0);
		return child_failed(ctl, child, status);
	}
	child->text_size += (size_t)n;
	child->text[child->text_size] = 0;
	if (strstr(child->text, "ready")) {
		child->state = CHILD_READY;
		close(child->out);
		progress_end(ctl);
		if (!ctl_has(ctl, OPT_JSON))
			printf("node %u  ready  pid %d  %.2f s\n", child->id,
				(int)child->pid,
				(double)(now_ms() - child->began_ms) / 1e3);
	} else if (child->text_size == sizeof(child->text) - 1) {
		child->text_size = 0;
	}
	return EXIT_OK;
}

static int children_wait(const struct ctl *ctl, struct child *children, unsigned count,
	uint64_t timeout_ms)
{
	uint64_t end_ms = now_ms() + timeout_ms;
	int worst = EXIT_OK;

	for (;;) {
		struct pollfd polls[MAP_NODES_MAX];
		unsigned index[MAP_NODES_MAX];
		unsigned waiting = 0;
		char text[64];

		for (unsigned i = 0; i < count; i++) {
			if (children[i].state != CHILD_STARTING)
				continue;
			index[waiting] = i;
			polls[waiting++] = (struct pollfd){children[i].out, POLLIN, 0};
		}
		if (!waiting)
			return worst;
		snprintf(
			text, sizeof(text), "waiting for %u of %u nodes", waiting, count);
		progress_show(ctl, text, -1);
		if (now_ms() > end_ms) {
			progress_end(ctl);
			return ctl_fail(
				"%u nodes are not ready after %llu s: they go on; see "
				"node*/wfsd.log in %s",
				waiting, (unsigned long long)timeout_ms / 1000, ctl->dir);
		}
		if (poll(polls, waiting, 100) <= 0)
			continue;
		for (unsigned i = 0; i < waiting; i++) {
			int rc = EXIT_OK;
			if (polls[i].revents)
				rc = child_hear(ctl, &children[index[i]]);
			worst = rc > worst ? rc : worst;
		}
	}
}

int nodes_start(const struct ctl *ctl, const uint32_t *ids, unsigned count)
{
	struct child *children = calloc(count ? count : 1, sizeof(*children));
	unsigned started = 0;
	uint64_t timeout_s;
	int rc, worst = EXIT_OK;

	if (!children)
		return ctl_fail("out of memory");
	if (!ctl_number(ctl, OPT_TIMEOUT, 1, 86400, START_TIMEOUT_S, &timeout_s)) {
		free(children);
		return EXIT_USAGE;
	}
	for (unsigned i = 0; i < count; i++) {
		if (node_pid(ctl, ids[i]))
			continue;
		rc = child_spawn(ctl, ids[i], &children[started]);
		if (rc) {
			worst = ctl_fail("node %u: %s: try again", ids[i], strerror(-rc));
			break;
		}
		started++;
	}
	if (!started && worst == EXIT_OK && !ctl_has(ctl, OPT_JSON))
		puts("already running");
	rc = children_wait(ctl, children, started, timeout_s * 1000);
	free(children);
	return rc > worst ? rc : worst;
}

/* How many of the nodes still run; *one_out is one of them. */
static unsigned nodes_running(
	const struct ctl *ctl, const uint32_t *ids, unsigned count, uint32_t *one_out)
{
	unsigned running = 0;

	for (unsigned i = 0; i < count; i++) {
		if (!node_pid(ctl, ids[i]))
			continue;
		*one_out = ids[i];
		running++;
	}
	return running;
}

static void nodes_signal(
	const struct ctl *ctl, const uint32_t *ids, unsigned count, int signal_number)
{
	for (unsigned i = 0; i < count; i++) {
		pid_t pid = node_pid(ctl, ids[i]);
		if (pid)
			kill(pid, signal_number);
	}
}

static int nodes_end(
	const struct ctl *ctl, const uint32_t *ids, unsigned count, int signal_number)
{
	uint32_t one = 0;
	unsigned running = nodes_running(ctl, ids, count, &one);
	bool killed = false;
	uint64_t timeout_s, end_ms;

	if (!ctl_number(ctl, OPT_TIMEOUT, 1, 86400, STOP_TIMEOUT_S, &timeout_s))
		return EXIT_USAGE;
	if (!running) {
		if (!ctl_has(ctl, OPT_JSON))
			puts("not running");
		return EXIT_OK;
	}
	nodes_signal(ctl, ids, count, signal_number);
	end_ms = now_ms() + timeout_s * 1000;
	while ((running = nodes_running(ctl, ids, count, &one)) > 0) {
		char text[64];

		if (now_ms() > end_ms) {
			progress_end(ctl);
			if (killed || !ctl_has(ctl, OPT_FORCE))
				return ctl_fail(
					"node %u has not stopped after %llu s: wait, "
					"or kill it with --force",
					one, (unsigned long long)timeout_s);
			ctl_warn("node %u has not stopped after %llu s: killing it", one,
				(unsigned long long)timeout_s);
			nodes_signal(ctl, ids, count, SIGKILL);
			killed = true;
			end_ms = now_ms() + 10000;
		}
		snprintf(text, sizeof(text), "stopping: %u still run", running);
		progress_show(ctl, text, -1);
		sleep_ms(POLL_MS);
	}
	progress_end(ctl);
	if (!ctl_has(ctl, OPT_JSON))
		puts("stopped");
	return EXIT_OK;
}

int nodes_stop(const struct ctl *ctl, const uint32_t *ids, unsigned count, bool all)
{
	struct place place;
	int rc;

	if (place_read(ctl, &place))
		return EXIT_USAGE;
	rc = nodes_end(ctl, ids, count, all && place.is_own ? SIGUSR1 : SIGTERM);
	if (rc == EXIT_OK && place.is_own)
		place_members_stop(ctl, ids, count);
	return rc;
}

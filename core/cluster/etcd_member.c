/*
 * Starting, adopting and ending an etcd member.
 *
 * The pid file holds the pid and the process's start time, since pids are used again. A
 * member has a session of its own and no PDEATHSIG: the map must not lose its majority
 * because a wfsd was killed. Elections are quicker than etcd's default, half a second
 * without a heartbeat, so that a member's death ends within a node's lease.
 */
#include "core/cluster/etcd_member.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLED_WAIT_MS 10000

/* Its start time in ticks; 0: not there, a zombie, or not etcd. */
static unsigned long long start_time(int pid)
{
	char path[64], text[1024];
	unsigned long long ticks = 0;
	char *close_at = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file) && strstr(text, "(etcd)"))
		close_at = strrchr(text, ')');
	fclose(file);
	if (!close_at || close_at[1] != ' ' || close_at[2] == 'Z' || close_at[2] == 'X')
		return 0;
	if (sscanf(close_at + 4,
		    "%*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
		    "%*d %llu",
		    &ticks) != 1)
		return 0;
	return ticks;
}

bool etcd_member_find(const char *pidfile, struct etcd_member *member)
{
	unsigned long long began = 0;
	FILE *file = fopen(pidfile, "re");
	int pid = 0, n = 0;

	*member = (struct etcd_member){.pid_fd = -1};
	if (file) {
		n = fscanf(file, "%d %llu", &pid, &began);
		fclose(file);
	}
	if (n != 2 || pid <= 1)
		return false;
	member->pid_fd = pidfd_open(pid, 0);
	if (member->pid_fd < 0)
		return false;
	if (start_time(pid) != began) {
		close(member->pid_fd);
		member->pid_fd = -1;
		return false;
	}
	member->pid = pid;
	return true;
}

static int pidfile_write(const char *path, int pid)
{
	FILE *file;

	/* The program's name is there only after its exec, which posix_spawn awaits. */
	file = fopen(path, "we");
	if (!file)
		return -errno;
	fprintf(file, "%d %llu\n", pid, start_time(pid));
	return fclose(file) ? -errno : 0;
}

static int spawn(const struct etcd_member_options *opt, int log_fd, pid_t *pid_out)
{
	const char *const args[] = {"etcd", "--name", opt->name, "--data-dir", opt->data,
		"--listen-client-urls", opt->client_url, "--advertise-client-urls",
		opt->client_url, "--listen-peer-urls", opt->peer_url,
		"--initial-advertise-peer-urls", opt->peer_url, "--initial-cluster",
		opt->cluster, "--initial-cluster-state", "new", "--heartbeat-interval",
		"50", "--election-timeout", "500", "--auto-compaction-mode", "revision",
		"--auto-compaction-retention", "200", "--logger", "zap", "--log-outputs",
		"stderr", "--log-level", "warn", NULL};
	char path[4096];
	char *const environment[] = {path, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int rc;

	snprintf(path, sizeof(path), "PATH=%s",
		getenv("PATH") ? getenv("PATH") : "/usr/bin");
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, log_fd, 1);
	posix_spawn_file_actions_adddup2(&actions, log_fd, 2);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes,
		POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	rc = posix_spawnp(
		pid_out, "etcd", &actions, &attributes, (char *const *)args, environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return -rc;
}

int etcd_member_start(const struct etcd_member_options *opt, struct etcd_member *member,
	bool *adopted_out, char *reason, size_t reason_size)
{
	bool adopted = etcd_member_find(opt->pidfile, member);
	pid_t pid = 0;
	int log_fd, rc;

	if (adopted_out)
		*adopted_out = adopted;
	if (adopted)
		return 0;
	log_fd = open(opt->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log_fd < 0) {
		rc = -errno;
		snprintf(reason, reason_size, "%s: %s: check the directory and its owner",
			opt->log, strerror(-rc));
		return rc;
	}
	rc = spawn(opt, log_fd, &pid);
	close(log_fd);
	if (rc) {
		snprintf(reason, reason_size,
			"cannot run etcd: %s: install it (Debian: etcd-server)",
			strerror(-rc));
		return rc;
	}
	member->pid = pid;
	member->pid_fd = pidfd_open(pid, 0);
	rc = member->pid_fd < 0 ? -errno : pidfile_write(opt->pidfile, pid);
	if (rc) {
		snprintf(reason, reason_size, "pid file %s: %s", opt->pidfile,
			strerror(-rc));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		if (member->pid_fd >= 0)
			close(member->pid_fd);
		member->pid_fd = -1;
	}
	return rc;
}

void etcd_member_reap(struct etcd_member *member)
{
	if (member->pid_fd < 0)
		return;
	waitpid(member->pid, NULL, WNOHANG); /* an adopted one is not our child */
	close(member->pid_fd);
	member->pid_fd = -1;
}

void etcd_member_signal(const struct etcd_member *member, int signal_number)
{
	if (member->pid_fd >= 0)
		pidfd_send_signal(member->pid_fd, signal_number, NULL, 0);
}

void etcd_member_stop(struct etcd_member *member, uint32_t timeout_ms)
{
	struct pollfd fd = {.fd = member->pid_fd, .events = POLLIN};

	if (member->pid_fd < 0)
		return;
	etcd_member_signal(member, SIGTERM);
	if (poll(&fd, 1, (int)timeout_ms) != 1) {
		etcd_member_signal(member, SIGKILL);
		poll(&fd, 1, KILLED_WAIT_MS);
	}
	etcd_member_reap(member);
}

/*
 * Running an etcd member: it is not tied to our life (see etcd_member.c), so a wfsd that
 * was killed finds it again by its pid file. A member that dies is started again, after
 * a pause that grows to PAUSE_MAX_MS while it dies young.
 */
#include "core/wfsd/member.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/cluster/etcd_member.h"

#define PAUSE_MIN_MS 100u
#define PAUSE_MAX_MS 5000u
#define YOUNG_MS     10000u
#define END_WAIT_MS  5000u

static struct {
	struct etcd_member_options opt;
	struct etcd_member member;
	bool wanted;
	bool adopted;
	bool threaded;
	pthread_t thread;
	int stop_fd;
} own = {.member = {.pid_fd = -1}, .stop_fd = -1};

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int member_start(const struct config_etcd *config, char *reason, size_t reason_size)
{
	int rc;

	if (!config->name[0])
		return 0;
	own.opt = (struct etcd_member_options){
		.name = config->name,
		.data = config->data,
		.client_url = config->client_url,
		.peer_url = config->peer_url,
		.cluster = config->cluster,
		.pidfile = config->pidfile,
		.log = config->log,
	};
	rc = etcd_member_start(&own.opt, &own.member, &own.adopted, reason, reason_size);
	own.wanted = rc == 0;
	if (rc == 0)
		log_info("etcd %s pid=%d", own.adopted ? "adopted" : "started",
			own.member.pid);
	return rc;
}

/* True: it is time to stop. */
static bool wait_for(int fd, int timeout_ms)
{
	struct pollfd fds[2] = {
		{.fd = own.stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	while (poll(fds, 2, timeout_ms) < 0 && errno == EINTR)
		;
	return fds[0].revents != 0;
}

static void *watch_main(void *arg)
{
	uint32_t pause_ms = PAUSE_MIN_MS;

	(void)arg;
	for (;;) {
		uint64_t began_ms = clock_ms();
		char reason[256];

		if (wait_for(own.member.pid_fd, -1))
			return NULL;
		log_warn("etcd died pid=%d: starting it again; see %s", own.member.pid,
			own.opt.log);
		etcd_member_reap(&own.member);
		if (clock_ms() - began_ms > YOUNG_MS)
			pause_ms = PAUSE_MIN_MS;
		do {
			if (wait_for(-1, (int)pause_ms))
				return NULL;
			pause_ms =
				pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
			if (etcd_member_start(&own.opt, &own.member, NULL, reason,
				    sizeof(reason)) < 0)
				log_error("etcd not started reason=\"%s\"", reason);
		} while (own.member.pid_fd < 0);
		log_info("etcd started pid=%d", own.member.pid);
	}
}

int member_watch(char *reason, size_t reason_size)
{
	if (!own.wanted)
		return 0;
	own.stop_fd = eventfd(0, EFD_CLOEXEC);
	if (own.stop_fd < 0 || pthread_create(&own.thread, NULL, watch_main, NULL) != 0) {
		snprintf(reason, reason_size, "etcd: no thread: %s", strerror(errno));
		return -EAGAIN;
	}
	pthread_setname_np(own.thread, "etcd");
	own.threaded = true;
	return 0;
}

void member_stop(bool end)
{
	uint64_t one = 1;

	if (!own.wanted)
		return;
	if (own.threaded && write(own.stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(own.thread, NULL);
	own.threaded = false;
	if (own.stop_fd >= 0)
		close(own.stop_fd);
	own.stop_fd = -1;
	if (!end)
		return;
	etcd_member_stop(&own.member, END_WAIT_MS);
	unlink(own.opt.pidfile);
	own.wanted = false;
}

void member_abandon(void)
{
	member_stop(!own.adopted);
}

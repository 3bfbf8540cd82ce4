/*
 * A member of an etcd cluster as a process of this host. It outlives who started it: a
 * process that finds it running by its pid file adopts it, and may end it. Each struct
 * is used by one thread at a time.
 */
#ifndef WFS_CLUSTER_ETCD_MEMBER_H
#define WFS_CLUSTER_ETCD_MEMBER_H

#include "core/base/types.h"

struct etcd_member_options {
	const char *name;       /* of the member, as in `cluster` */
	const char *data;       /* its directory */
	const char *client_url; /* where clients, and where other members, reach it */
	const char *peer_url;
	const char *cluster; /* NAME=PEER_URL,... of all members */
	const char *pidfile;
	const char *log; /* its output is appended */
};

struct etcd_member {
	int pid_fd; /* readable when it ends; -1: not running */
	int pid;
};

/* Adopt it, or start it. adopted_out may be NULL. -ENOENT: etcd is not installed; others
 * with the reason. It may take a while until it answers. */
int etcd_member_start(const struct etcd_member_options *opt, struct etcd_member *member,
	bool *adopted_out, char *reason, size_t reason_size);
/* Adopt it. False, with pid_fd -1: it does not run. */
bool etcd_member_find(const char *pidfile, struct etcd_member *member);
/* After its end was seen: forget it. */
void etcd_member_reap(struct etcd_member *member);
/* Ask it to end; nothing when it does not run. */
void etcd_member_signal(const struct etcd_member *member, int signal_number);
/* Ask it to end, wait for it at most timeout_ms, then kill it. etcd loses nothing. */
void etcd_member_stop(struct etcd_member *member, uint32_t timeout_ms);

#endif

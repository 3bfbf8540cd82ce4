/*
 * The configuration of one wfsd: an ini file, read once at start.
 *
 *   [node]     id, map, pidfile, log_level
 *   [shard N]  device, index, memory_mib     N = 0, 1, ... without gaps
 *   [map]      ca, cert, key, user, password_file    of a map in etcd; optional
 *   [etcd]     name, data, client_url, peer_url, cluster, pidfile, log    a member of
 *              etcd that this wfsd runs; optional
 *
 * Anything unknown, missing or out of range is an error with file and line.
 */
#ifndef WFS_WFSD_CONFIG_H
#define WFS_WFSD_CONFIG_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/log.h"

#define CONFIG_SHARDS_MAX 64u

struct config_shard {
	char device[PATH_MAX];
	char index[PATH_MAX];
	uint32_t memory_mib;
};

struct config_map {
	char ca[PATH_MAX];
	char cert[PATH_MAX];
	char key[PATH_MAX];
	char user[128];
	char password_file[PATH_MAX];
};

struct config_etcd { /* name[0] 0: none */
	char name[64];
	char data[PATH_MAX];
	char client_url[256];
	char peer_url[256];
	char cluster[2048];
	char pidfile[PATH_MAX];
	char log[PATH_MAX];
};

struct config {
	uint32_t node;
	char map[PATH_MAX];
	char pidfile[PATH_MAX];
	enum log_level log_level;
	struct config_map map_access;
	struct config_etcd etcd;
	uint32_t shard_count;
	struct config_shard shards[CONFIG_SHARDS_MAX];
};

/* 0, or -EINVAL / -ENOENT / -EACCES with one line for the operator in reason. */
int config_read(const char *path, struct config *config_out, char *reason,
	size_t reason_size);

#endif

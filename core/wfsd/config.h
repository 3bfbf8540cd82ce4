/*
 * The configuration of one wfsd: an ini file, read once at start.
 *
 *   [node]     id, map, pidfile, log_level
 *   [shard N]  device, index, memory_mib     N = 0, 1, ... without gaps
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

struct config {
	uint32_t node;
	char map[PATH_MAX];
	char pidfile[PATH_MAX];
	enum log_level log_level;
	uint32_t shard_count;
	struct config_shard shards[CONFIG_SHARDS_MAX];
};

/* 0, or -EINVAL / -ENOENT / -EACCES with one line for the operator in reason. */
int config_read(const char *path, struct config *config_out, char *reason,
	size_t reason_size);

#endif

/*
 * What every wfsctl command shares: the parsed command line, how it complains, and the
 * table of commands. One thread; strings point into argv or live as long as the program.
 *
 * Exit codes: EXIT_OK, EXIT_FAILED (it was tried and did not work, or fsck has findings),
 * EXIT_USAGE (wrong command line, configuration or cluster directory; fsck could not
 * run).
 */
#ifndef WFS_WFSCTL_CTL_H
#define WFS_WFSCTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#define CTL_VERSION "0.1.0"
#define DEVICES_MAX 1024

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

enum opt_id {
	OPT_HELP,
	OPT_CLUSTER,
	OPT_JSON,
	OPT_COLUMNS,
	OPT_NO_HEADER,
	OPT_RAW,
	OPT_FORCE,
	OPT_NODES,
	OPT_SIZE,
	OPT_DEVICE,
	OPT_BASE_PORT,
	OPT_PROVIDER,
	OPT_BUCKETS,
	OPT_SHARDS,
	OPT_TIMEOUT,
	OPT_MEMORY,
	OPT_COPIES,
	OPT_LEASE,
	OPT_MAP,
	OPT_MAP_CA,
	OPT_MAP_CERT,
	OPT_MAP_KEY,
	OPT_MAP_USER,
	OPT_MAP_PASSWORD_FILE,
	OPT_HOSTS,
	OPT_NODE,
	OPT_FS,
	OPT_MOUNT,
	OPT_HUMAN,
	OPT_NO_WAIT,
	OPT_WAIT,
	OPT_LIMIT,
	OPT_REBUILD_AFTER,
	OPT_COMPARE,
	OPT_COUNT
};

struct ctl {
	const char *values[OPT_COUNT]; /* "" for flags that were given, NULL if not */
	const char *devices[DEVICES_MAX];
	unsigned device_count;
	bool color;     /* stdout may be coloured */
	bool progress;  /* stderr is a terminal */
	char dir[4096]; /* absolute cluster directory, no trailing slash */
	char bin[4096]; /* directory of this program */
};

struct command {
	const char *noun;
	const char *verb; /* NULL: the noun is the whole command */
	const char *args; /* synopsis of the operands */
	const char *summary;
	const char *example;
	uint64_t options; /* bits 1 << opt_id, without the common ones */
	int operands_min;
	int operands_max; /* -1: any, and options end at the first one */
	int (*run)(struct ctl *ctl, int argc, char **argv); /* operands; exit code */
};

static inline bool ctl_has(const struct ctl *ctl, enum opt_id id)
{
	return ctl->values[id] != NULL;
}

/* "wfsctl: what: what to do", to stderr. Returns EXIT_FAILED or, _usage, EXIT_USAGE. */
int ctl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int ctl_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A warning that does not end anything. */
void ctl_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An option that is a number within bounds; fallback when not given. False after having
 * complained. */
bool ctl_number(const struct ctl *ctl, enum opt_id id, uint64_t min, uint64_t max,
	uint64_t fallback, uint64_t *out);
/* "4G", "512M", "1.5T", "4096": powers of 1024. False when malformed. */
bool size_parse(const char *text, uint64_t *bytes_out);

/* Ask on the terminal; --force says yes. False, after saying so, without a terminal. */
bool ctl_confirm(const struct ctl *ctl, const char *question);

/* On a terminal, replace the progress line; percent -1 for none. progress_end erases. */
void progress_show(const struct ctl *ctl, const char *what, int percent);
void progress_end(const struct ctl *ctl);

/* The commands. */
int cmd_cluster_create(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_start(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_stop(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_status(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_destroy(struct ctl *ctl, int argc, char **argv);
int cmd_node_list(struct ctl *ctl, int argc, char **argv);
int cmd_node_start(struct ctl *ctl, int argc, char **argv);
int cmd_node_stop(struct ctl *ctl, int argc, char **argv);
int cmd_node_add(struct ctl *ctl, int argc, char **argv);
int cmd_node_drain(struct ctl *ctl, int argc, char **argv);
int cmd_node_undrain(struct ctl *ctl, int argc, char **argv);
int cmd_node_remove(struct ctl *ctl, int argc, char **argv);
int cmd_node_replace(struct ctl *ctl, int argc, char **argv);
int cmd_rebuild(struct ctl *ctl, int argc, char **argv);
int cmd_fs_list(struct ctl *ctl, int argc, char **argv);
int cmd_fs_create(struct ctl *ctl, int argc, char **argv);
int cmd_df(struct ctl *ctl, int argc, char **argv);
int cmd_run(struct ctl *ctl, int argc, char **argv);
int cmd_mount(struct ctl *ctl, int argc, char **argv);
int cmd_umount(struct ctl *ctl, int argc, char **argv);
int cmd_mounts(struct ctl *ctl, int argc, char **argv);
int cmd_fsck(struct ctl *ctl, int argc, char **argv);

#endif

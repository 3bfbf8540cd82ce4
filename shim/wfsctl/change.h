/*
 * Changing the map of a cluster that may be running: read it, edit a copy, save it by
 * compare-and-swap, again if somebody was faster. Exit codes, after complaining.
 */
#ifndef WFS_WFSCTL_CHANGE_H
#define WFS_WFSCTL_CHANGE_H

#include "shim/wfsctl/local.h"

/* Room for the edit, at the end of the arrays. */
struct change {
	uint32_t more_nodes;
	uint32_t more_shards;
	/* An exit code, after complaining: nothing is saved. */
	int (*edit)(const struct ctl *ctl, struct map *map, void *ctx);
	void *ctx;
};
/* local->map is the new map afterwards. The nodes are told. */
int local_change(const struct ctl *ctl, struct local *local, const struct change *change);

/* What a node holds. */
struct holdings {
	uint32_t members; /* buckets of which it is a member */
	uint32_t leads;   /* as primary */
	uint32_t sole;    /* that no other node has in sync */
	uint32_t heir;    /* a node that has one of those which it leads, if not sole */
};
struct holdings node_holdings(const struct map *map, uint32_t id);

/* A moment, until the map is worth looking at again. */
void change_pause(void);
/* The bucket's backups, without those of a node. */
void node_leave(const struct map *map, struct map_bucket *b, uint32_t id);

/* Open the cluster for a command about a node of it, which is not lost. */
int node_open(struct ctl *ctl, struct local *local, const char *text, const char *what,
	uint32_t *id_out);
/* How a node is after a command, or --json. */
void node_print(
	const struct ctl *ctl, const struct map *map, uint32_t id, const char *text);
/* So many buckets are to be lost: --force is needed, and on a terminal a yes. `how`: what
 * to do instead. */
int sole_check(const struct ctl *ctl, uint32_t id, uint32_t sole, const char *how);
/* Only with copies can data move. EXIT_USAGE after complaining if there are none. */
int copies_needed(const struct map *map, const char *what);

#endif

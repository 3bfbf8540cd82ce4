/*
 * A cluster on this machine: its directory, its map, its node processes.
 *
 *   <dir>/map.json, or map.etcd (place.h)
 *   <dir>/node<N>/wfsd.conf  wfsd.pid  wfsd.sock  wfsd.log  device  index0  locks/
 */
#ifndef WFS_WFSCTL_LOCAL_H
#define WFS_WFSCTL_LOCAL_H

#include <sys/types.h>

#include "core/cluster/map_store.h"
#include "shim/client/client.h"
#include "shim/wfsctl/ctl.h"

struct local {
	struct map_store *store;
	struct map *map;
	struct map_lease *leases; /* those that there are */
	uint32_t lease_count;
};

/* Load the map of ctl->dir. 0, or an exit code after complaining. */
int local_open(const struct ctl *ctl, struct local *local);
void local_close(struct local *local);
/* The map and the leases as they are now. As local_open. */
int local_reload(struct local *local);
/* For how long a node still holds its lease, in ms; -1: it has none. */
int64_t local_lease_ms(const struct local *local, uint32_t id);
/* "in", "draining", "lost". */
const char *node_state_text(enum map_node_state state);

/* The operand that names a node; NULL after complaining. */
const struct map_node *local_node(const struct local *local, const char *text);
/* <dir>/node<N>/<file>, into a static ring of buffers, valid for a few calls. */
const char *node_path(const struct ctl *ctl, uint32_t id, const char *file);
/* Its process, or 0 when it does not run. */
pid_t node_pid(const struct ctl *ctl, uint32_t id);
uint32_t node_shard_count(const struct map *map, uint32_t id);

/*
 * Attach to the node of --node, else to the first that answers. filesystem NULL: the
 * first. node_out may be NULL. 0, or an exit code after complaining.
 */
int local_attach(const struct ctl *ctl, const struct local *local, const char *filesystem,
	struct client **client_out, const struct map_node **node_out);
/* Ask the node to read the map again. */
void node_reload(const struct ctl *ctl, uint32_t id);

/* Start, stop, of several nodes at once; ids[count]. all: they are the whole cluster, whose
 * members of etcd end last. Exit codes, after saying all. */
int nodes_start(const struct ctl *ctl, const uint32_t *ids, unsigned count);
int nodes_stop(const struct ctl *ctl, const uint32_t *ids, unsigned count, bool all);

/* Of a log: the last line that says something. */
void file_last_line(const char *path, char *out, size_t size);
uint64_t now_ms(void);

#endif

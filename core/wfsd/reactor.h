/*
 * A reactor: the one thread of a shard, and everything that is its own: ring, device,
 * index, store, fabric endpoint, and (the first of a node) the sessions of local
 * programs. Reactors share nothing but the map, which never changes in place.
 */
#ifndef WFS_WFSD_REACTOR_H
#define WFS_WFSD_REACTOR_H

#include "core/cluster/map.h"
#include "core/wfsd/config.h"
#include "core/wfsd/keeper_thread.h"

struct reactor;

struct reactor_options {
	const struct map *map;
	const struct config *config;
	uint32_t index;               /* of the shard within the node */
	uint32_t number;              /* in the map */
	bool leased;                  /* serve only with reactor_lease_set; else always */
	struct keeper_thread *keeper; /* for proposals; NULL: none; borrowed */
};

/*
 * Open device, index and log, recover, listen. Called on the thread that will run it.
 * On failure one line for the operator is in reason.
 */
int reactor_open(const struct reactor_options *opt, struct reactor **reactor_out,
	char *reason, size_t reason_size);
/* Serve until reactor_stop; after it no program is answered any more. */
void reactor_run(struct reactor *r);
/* With a checkpoint if it ran. */
void reactor_close(struct reactor *r);

/* From any thread. */
void reactor_stop(struct reactor *r);
void reactor_map_set(struct reactor *r, const struct map *map);
/* Serve as primary only before env_now_us is until_us. */
/* When the loop last went round; a lease that is told makes it do so. */
uint64_t reactor_turned_us(const struct reactor *r);
void reactor_lease_set(struct reactor *r, uint64_t until_us);

/* Of the open log; from any thread. */
void reactor_device_uuid(const struct reactor *r, uint8_t uuid_out[16]);

/* Fresh superblock and empty index. force: whatever is there goes. */
int reactor_format(const struct reactor_options *opt, bool force, char *reason,
	size_t reason_size);

#endif

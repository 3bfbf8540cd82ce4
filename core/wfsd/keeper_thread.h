/*
 * The keeper of this node on threads of its own: "keeper" turns it, "keeper-watch" waits
 * for a newer map and wakes the other. Nodes with one copy of everything on one host need
 * none.
 *
 * new -> (the reactors open) -> start -> serving -> halt -> (the reactors stop) -> free
 */
#ifndef WFS_WFSD_KEEPER_THREAD_H
#define WFS_WFSD_KEEPER_THREAD_H

#include "core/cluster/keeper.h"

struct keeper_thread;

struct keeper_thread_options {
	const struct map *map;
	/* Two stores of the same map, one for each thread: taken, and closed by _free. */
	struct map_store *store;
	struct map_store *store_watch;
	uint32_t node;
	const uint8_t (*device_uuids)[16]; /* by shard index; read after _start */
	/* From the keeper's thread, between _start and the end of _halt. */
	void (*map_changed)(void *ctx, const struct map *map);
	void (*lease)(void *ctx, uint64_t until_us);
	/* Whether all shards turn: a node that has one that hangs is to lose its lease. NULL:
	 * they do. */
	bool (*alive)(void *ctx);
	void *ctx;
};

/* Does this map need a keeper? */
bool keeper_thread_wanted(const struct map *map);
/* -ENOMEM, -EINVAL (the stores then stay the caller's). */
int keeper_thread_new(
	const struct keeper_thread_options *opt, struct keeper_thread **out);
int keeper_thread_start(struct keeper_thread *t); /* -EAGAIN: no thread */
/* From any thread, from _new on: see keeper_propose. */
int keeper_thread_propose(struct keeper_thread *t, const struct proposal *proposal);
/* Look at the map store soon. */
void keeper_thread_wake(struct keeper_thread *t);
/* No more turns or callbacks: the lease runs out by itself. Takes NULL. */
void keeper_thread_halt(struct keeper_thread *t);
/* Gives the lease back, when it was started: nothing may serve any more. Takes NULL. */
void keeper_thread_free(struct keeper_thread *t);

#endif

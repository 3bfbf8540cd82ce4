/*
 * Who gets a request: this reactor's shard, or another one over the fabric.
 *
 * Calls of the shard itself and requests of local programs come in here. What is for our
 * own shard goes through a queue that the loop empties, so nothing is ever called from
 * inside send.
 */
#ifndef WFS_WFSD_ROUTER_H
#define WFS_WFSD_ROUTER_H

#include "core/shard/shard.h"

struct router {
	struct env *env;
	const struct map *map;
	uint32_t self; /* shard number */
	struct rpc *rpc;
	struct shard *shard;
	struct list queue;  /* struct request: for our shard */
	struct list failed; /* struct rpc_call: no memory to deliver it */
	struct open_table *held; /* by local programs (held.c); NULL: not kept */
	struct list again;       /* struct held_call: to be said again */
};

void router_init(struct router *r, struct env *env, const struct map *map, uint32_t self);
/* struct shard_options.send */
void router_send(void *ctx, struct rpc_call *call);
/* struct shard_options.fill_of */
uint32_t router_fill_of(void *ctx, uint32_t shard);
/* struct session_options.submit */
void router_submit(void *ctx, struct request *req);
/* struct session_options.ended */
void router_session_ended(void *ctx, uint64_t session);
/*
 * Files that local programs hold open (held.c): a bucket's new primary is told of them.
 */
/* struct session_options.answered */
void router_answered(void *ctx, const struct request *req);
void held_map_changed(struct router *r, const struct map *before);
/* us until it has something to do. */
uint64_t held_poll(struct router *r);
void held_free(struct router *r);

/* Calls to who is no longer the owner of their bucket come to an end. */
void router_map_set(struct router *r, const struct map *map);
/* Hand over what is queued; returns how much that was. */
unsigned router_poll(struct router *r);

#endif

/*
 * Inside the keeper: keeper.c turns, renews, loads and saves; keeper_decide.c computes
 * one new map from all that is due. Only those two files include this.
 */
#ifndef WFS_CLUSTER_KEEPER_IMPL_H
#define WFS_CLUSTER_KEEPER_IMPL_H

#include <pthread.h>

#include "core/cluster/keeper.h"

#define KEEPER_PROPOSALS_MAX 4096u
#define KEEPER_MAPS_KEPT     64u

/* What we know of a node, by its position in the map. */
struct watch {
	uint32_t node;
	bool used;
	bool up;            /* its lease is held now */
	bool seen;          /* its lease, since we started */
	bool dead;          /* no lease, for long enough to act */
	uint64_t since_us;  /* not up: since when; up: when we began to watch */
	uint64_t expiry_us; /* of the lease as seen last */
	uint32_t waiting;   /* buckets that wait for it, as logged */
};

struct keeper {
	struct keeper_options opt;
	const struct map *map;
	struct map *maps[KEEPER_MAPS_KEPT];
	uint32_t map_at;

	/* The own lease. */
	bool held;
	bool claim; /* before we serve, our buckets must have a new epoch */
	bool busy_told;
	bool unreachable;
	uint64_t renewed_us; /* before the last renewal that succeeded */
	uint64_t decide_due_us; /* not before */
	uint64_t renew_due_us;
	uint64_t told_us; /* the last `until` */
	bool excluded;    /* the map calls us lost, or knows us no more */

	struct watch watches[MAP_NODES_MAX];
	struct map_lease leases[MAP_NODES_MAX];

	pthread_mutex_t mutex; /* for what is proposed */
	struct proposal proposals[KEEPER_PROPOSALS_MAX];
	uint32_t proposal_count;
	/* In a turn: those it takes up. */
	struct proposal taken[KEEPER_PROPOSALS_MAX];
	uint32_t taken_count;

	/* The last plan that changed nothing: not to be made again. */
	uint64_t idle_plan_epoch;
	bool *idle_plan_out;
	uint32_t idle_plan_shards;
	bool reduced_told;
};

/* Position of a node in the map; node_count: unknown. */
uint32_t keeper_node_at(const struct map *map, uint32_t id);
/* Changes `map`, a copy of keeper->map, by all that is due; whether anything was. -ENOMEM
 */
int keeper_decide(struct keeper *keeper, struct map *map, bool *changed_out);

#endif

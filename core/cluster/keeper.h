/*
 * The keeper: a node's part in deciding who serves what. It holds the node's lease, takes
 * over buckets whose primary's node is dead, drops dead members, carries out what its
 * shards propose, and plans again when nodes die, drain, join or return. All decisions
 * are made by compare-and-swap on the map, so any number of keepers may act at once.
 *
 * It has no thread and no clock of its own: whoever owns it calls keeper_turn() (wfsd: a
 * thread named "keeper"; a simulator: an event). All functions are called by one thread,
 * but for keeper_propose. The rules, and why they are safe, are in keeper.c.
 */
#ifndef WFS_CLUSTER_KEEPER_H
#define WFS_CLUSTER_KEEPER_H

#include "core/base/env.h"
#include "core/cluster/map.h"
#include "core/cluster/map_store.h"

struct keeper;

struct keeper_options {
	struct env *env;
	struct map_store *store; /* borrowed; used by the thread of keeper_turn only */
	uint32_t node;
	uint64_t incarnation;  /* random for every start of the process; not 0 */
	const struct map *map; /* as loaded at start; borrowed until keeper_free */
	/* By the shard's index in the node: uuid of its device, zeros: not known; NULL:
	 * none. A shard whose device is not the one of the map leaves all members it can,
	 * and must not serve as long as the map still names the other device. */
	const uint8_t (*device_uuids)[16];
	/* From keeper_turn: a newer map. It is the keeper's, and stays valid for the next
	 * 64 changes at least. */
	void (*map_changed)(void *ctx, const struct map *map);
	/* From keeper_turn: our shards may serve as primaries only before env_now_us is
	 * until_us; 0: not at all. Nothing is told when a lease is not renewed: it runs
	 * out. */
	void (*lease)(void *ctx, uint64_t until_us);
	/* From keeper_propose, in its thread, without a lock held: keeper_turn should be
	 * called soon. May be NULL. */
	void (*wake)(void *wake_ctx);
	void *wake_ctx;
	void *ctx; /* of the others */
};

enum proposal_kind {
	PROPOSE_EVICT,    /* drop in-sync backup `shard` */
	PROPOSE_ADMIT,    /* add `shard` as an in-sync backup: it has everything */
	PROPOSE_HANDOVER, /* make in-sync backup `shard` primary, at epoch + 1, and
			   * ourselves a backup */
	PROPOSE_DEVICE,   /* not about a bucket: our `shard` is on device_uuid */
};

/*
 * Of a primary, about its bucket. Valid only while the bucket has this epoch and one of
 * our shards is its primary. A proposal is done when a map shows it; it is tried again
 * until then, or until a map that was told makes it void. Also void, without a new map:
 * to evict who is no backup; to admit who is a member already, when there are as many
 * backups as copies, or whose node has no lease or is lost. Who proposes a handover must
 * have stopped serving the bucket before, and goes on only when a map shows the handover
 * void: the new primary may serve before we hear of it.
 */
struct proposal {
	enum proposal_kind kind;
	uint32_t bucket;
	uint32_t epoch;
	uint32_t shard;
	uint8_t device_uuid[16]; /* PROPOSE_DEVICE; PROPOSE_ADMIT: where it has everything */
	/* Not to be carried out from env_now_us on; 0: no such time. Who proposes to admit
	 * vouches for what the shard has till then, and for as long after as a save may take
	 * that was begun before. The same proposal again makes it later. */
	uint64_t until_us;
};

/* -ENOMEM; -EINVAL: the node is not in the map. */
int keeper_new(const struct keeper_options *opt, struct keeper **keeper_out);
/* Do all that is due. Returns us until it wants to be called again, at the latest;
 * calling earlier is harmless. */
uint64_t keeper_turn(struct keeper *keeper);
/* Thread-safe. -EAGAIN: too many wait already. The same proposal again is 0. */
int keeper_propose(struct keeper *keeper, const struct proposal *proposal);
/* The newest map it told, or the one from keeper_new. */
const struct map *keeper_map(const struct keeper *keeper);
/* A clean stop, after nothing serves any more: gives the lease back. */
void keeper_stop(struct keeper *keeper);
/* Takes NULL. Frees all maps it told. Without keeper_stop it is like a crash. */
void keeper_free(struct keeper *keeper);

#endif

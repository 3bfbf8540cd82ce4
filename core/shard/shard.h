/*
 * A shard: the buckets of one store, served. It takes requests, runs them against meta
 * and store, speaks to other shards through `send`, and answers when what it did is on
 * stable storage. It knows nothing of sockets, rings or fabrics, so a test or a simulator
 * drives it as well as wfsd does.
 *
 * One thread. Every request ends with exactly one done(), by its deadline at the latest
 * when it waits for a transaction, and otherwise as fast as the device allows.
 */
#ifndef WFS_SHARD_SHARD_H
#define WFS_SHARD_SHARD_H

#include "core/cluster/map.h"
#include "core/kv/kv.h"
#include "core/store/store.h"
#include "net/rpc.h"

struct shard;
struct shard_history;
struct proposal;

struct shard_options {
	struct env *env;
	struct store *store;   /* open; shard_stop closes it */
	struct kv *kv;         /* borrowed: the store's index */
	const struct map *map; /* borrowed; shard_map_set replaces it */
	uint32_t number;       /* of this shard in the map */
	/* After a restart: for so long every file is taken for open. Programs, which the
	 * restart may have cut off, say meanwhile what they hold (OP_REOPEN). */
	uint64_t grace_us;
	/* Carry a call to the shard that owns call->bucket, which may be this one; done() is
	 * never called from inside send. */
	void (*send)(void *ctx, struct rpc_call *call);
	/* Ask the node's keeper for a change of the map; NULL with one copy only. */
	int (*propose)(void *ctx, const struct proposal *proposal);
	/* How full a shard says it is (shard_fill), 0: not known. NULL: none is. */
	uint32_t (*fill_of)(void *ctx, uint32_t shard);
	void *ctx;
	/* What store_open replayed (shard_history_note): taken over. NULL: nothing. */
	struct shard_history *history;
};

/* Takes up what a crash left: locks, transactions in doubt, purges. Makes the root
 * directories the map asks for. -ENOMEM, -EIO, -EUCLEAN. */
int shard_new(const struct shard_options *opt, struct shard **shard_out);
/*
 * The end, in two steps: shard_stop closes the store and answers all requests it still
 * holds with -EIO; then its calls under way must end (or never will), and shard_free
 * takes the rest. Both take NULL.
 */
void shard_stop(struct shard *s);
/* shard_stop for a device that is gone: see store_abandon. */
void shard_abandon(struct shard *s);
void shard_free(struct shard *s);
void shard_map_set(struct shard *s, const struct map *map);
/* Serve as primary of buckets with several copies only before env_now_us is until_us. */
void shard_lease_set(struct shard *s, uint64_t until_us);

/*
 * The records that recovery finds, so that members which missed the last of them can have
 * them: give shard_history_note to the store (store_options.replayed) and the history to
 * shard_new.
 */
struct shard_history *shard_history_new(void); /* NULL: no memory, or not needed */
void shard_history_free(struct shard_history *h);
void shard_history_note(void *history, const struct store_replayed *r);

void shard_handle(struct shard *s, struct request *req);
/* Timers, purges, retries. Returns us until it wants to be called again. */
uint64_t shard_poll(struct shard *s);
/*
 * How full it is: data, and 4 KiB an inode, of its device, as a fraction of 2^32. Never 0;
 * SHARD_FULL: it takes no more data. Cheap enough for every turn of the loop.
 */
#define SHARD_FULL UINT32_MAX
uint32_t shard_fill(struct shard *s);
/* A session is over: its open files are closed. (Also OP_SESSION_END.) */
void shard_session_end(struct shard *s, uint64_t session);

/* For OP_SHARD_STATS: what only the process knows. */
struct shard_process_stats {
	uint64_t memory_bytes;
	uint32_t sessions;
};
void shard_process_stats_set(struct shard *s, const struct shard_process_stats *ps);

/*
 * A request made of a call to a shard in this process: whoever has it passes it to
 * shard_handle, later and not from inside send; the call's done() then runs from the
 * request's done(). The body is copied. -ENOMEM.
 */
int shard_delivery(struct env *env, struct rpc_call *call, struct request **req_out);

#endif

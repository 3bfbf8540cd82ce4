/*
 * A whole cluster in one thread: shards on simulated devices and model indexes, a network
 * of delayed messages between them, and clients.
 *
 * Everything happens in world_turn, and all chance comes from the world's seed, so a run
 * can be repeated. Time stands still while anything can be done, then jumps to the next
 * timer. A shard dies by world_kill, by its device's crash_at_write, or after a number of
 * messages (kill_at_message); it loses what was not durable, as in a power loss. Calls to
 * it then end with -EIO, its own never end well. Messages may arrive in any order when
 * `shuffle` is set, and a call that is not answered ends by its timeout.
 *
 * The harness itself allocates with malloc: faults armed by mem_fault_arm hit the shards
 * only, and mem_live_count counts theirs.
 */
#ifndef WFS_TESTS_WORLD_H
#define WFS_TESTS_WORLD_H

#include "core/shard/member.h"
#include "tests/lib/map_store_mem.h"

#define WORLD_SHARDS_MAX 8u
#define WORLD_CLIENT     UINT32_MAX
#define WORLD_BUCKETS    8u

#define WORLD_VIA_NONE   UINT32_MAX

struct world;

/* A node's own clock: behind or ahead of the world's, and fast or slow. */
struct world_clock {
	struct env env;
	struct world *w;
	uint64_t ahead_us;
	int64_t drift_ppm;
};

struct world_shard {
	struct world *w;
	struct world_clock clock;
	uint32_t number;
	uint32_t incarnation;
	bool alive;
	struct device_sim_disk *disk;
	struct kv_model_disk *kvdisk;
	struct device *dev;
	struct kv *kv;
	struct store *store;
	struct shard *shard;
	struct list local;        /* requests to itself */
	uint64_t next_us;         /* when it wants its turn */
	uint64_t device_us;       /* when its device answers again */
	uint64_t message_count;   /* delivered to it so far */
	uint64_t kill_at_message; /* dies when it has had so many; 0: never */
	unsigned kill_count;
	/* With several copies each shard is a node of its own, with a keeper. */
	const struct map *map; /* as far as it knows */
	struct map *first_map;
	struct keeper *keeper;
	struct map_store_mem map_store;
	uint64_t keeper_us; /* when the keeper wants its turn */
	bool cut_off;       /* no message reaches it, or leaves it */
	bool frozen;        /* stopped: no turn, but it is not dead */
	bool store_away;    /* the map store, for its keeper */
	bool store_deaf;    /* saves happen and answer -EIO */
	uint64_t slow_us;   /* its device takes up to so long */
	uint8_t device_uuid[16];
	uint32_t device_count; /* how often it was given a new device */
};

/* What the network does, in chances of a million. */
struct world_net {
	uint32_t lost;
	uint32_t doubled;
	uint32_t late;     /* takes up to late_us */
	uint64_t late_us;
	bool silent;       /* a dead node's calls are not refused, they time out */
	/* From whom to whom nothing gets through. */
	bool cut[WORLD_SHARDS_MAX][WORLD_SHARDS_MAX];
	uint64_t lost_count, doubled_count, late_count, cut_count;
};

struct world_options {
	uint32_t shard_count;
	uint32_t bucket_count; /* 0: WORLD_BUCKETS */
	uint32_t copies;       /* 0: one, without keepers */
	uint64_t seed;
	uint64_t disk_bytes;    /* 0: 96 MiB */
	uint32_t segment_bytes; /* 0: 4 MiB */
	bool device_known;
	/* Called for each shard before it begins, to set its clock. */
	void (*shard_prepare)(struct world_shard *ws);
};

struct world {
	struct env_sim env;
	struct map *map; /* what clients go by; with several copies the newest there is */
	uint32_t copies;
	struct mem_maps maps;
	uint32_t op_count; /* of clients, so far: their sequence numbers */
	uint64_t seed;
	uint64_t state;
	bool shuffle;        /* messages take a random time */
	uint16_t late_op;    /* a message of this op takes late_us: the next, */
	unsigned late_after; /* or the one after so many */
	uint64_t late_us;
	uint64_t grace_us;   /* of shards that start from now on */
	bool lossy; /* and some longer than anybody waits */
	struct world_net net;
	bool device_known; /* the map says which devices the shards are on */
	uint32_t shard_count;
	struct world_shard shards[WORLD_SHARDS_MAX];
	struct list again;    /* operations of clients that will be sent again */
	struct list messages; /* all that somebody still cares for */
	struct world_options options;
	struct cred cred;     /* of the plain w_* calls */
	uint64_t session;
	uint64_t turns;
};

/* Formats and starts everything. */
void world_init(struct world *w, const struct world_options *opt);
void world_release(struct world *w);
/* 0 or the error of opening; the shard is down then. */
int world_start(struct world *w, uint32_t shard);
void world_kill(struct world *w, uint32_t shard);
/* Kill if alive, disarm its faults, start: must succeed. */
void world_restart(struct world *w, uint32_t shard);
/* No fault that was armed happens any more. */
void world_disarm(struct world *w, uint32_t shard);
/* An orderly end: the device answers, nothing acknowledged can be lost. */
void world_stop(struct world *w, uint32_t shard);
/* Of a dead one: an empty device in place of the old. */
void world_device_replace(struct world *w, uint32_t shard);
/* One node more, of one shard, in the map and alive. */
void world_node_add(struct world *w);
/* Change the map as an operator does, whatever the nodes do meanwhile. */
void world_node_state(struct world *w, uint32_t shard, enum map_node_state state);
uint64_t world_now_us(struct world *w);
/* What time it is for the shard, and whether it may serve as primary by that. */
uint64_t world_shard_now_us(const struct world_shard *ws);
/* Everything that can happen now, or time passes. */
void world_turn(struct world *w);
/* Every bucket has a serving primary and all its copies are in sync. */
bool world_healthy(struct world *w);
/* Turn until then, for at most so long (simulated). */
bool world_heal(struct world *w, uint64_t max_us);
/* Let so much time pass. */
void world_pass(struct world *w, uint64_t us);
/* Until nothing is under way any more. All shards must be up. */
void world_quiesce(struct world *w);
uint64_t world_random(struct world *w);
/* via: the node whose map the client goes by, and by whose network; or WORLD_VIA_NONE. */
void world_call_send(struct world *w, uint32_t via, struct rpc_call *call);

/* --- checking (world_check.c) --- */

#define CHECK_ORPHANS 1u /* unlinked files that are open may be there */
#define CHECK_STRAYS  2u /* a writer may have died half-way: data past the end of a file \
			  */
/* Quiesces, reads all keys of all buckets, and ends the test unless they fit together. */
void world_check(struct world *w, unsigned allow);

/* Several copies: all members of a bucket hold the same, and no block is lost (part of
 * world_check). */
void world_copies_check(struct world *w);

/* --- clients (world_client.c) --- */

/* One operation of a client, under way. */
struct wop {
	struct world *w;
	struct cred cred;
	uint64_t session;
	uint16_t op;
	bool finished;
	int status;
	uint8_t mode;
	/* where the walk stands */
	ino_id start;
	char path[WFS_PATH_MAX + 1];
	uint32_t path_size;
	char original[WFS_PATH_MAX + 1];
	unsigned links;
	unsigned tries;
	bool aside; /* the call is the READLINK of a hop */
	_Alignas(8) uint8_t fixed[128];
	uint32_t fixed_size;
	char extra[WFS_SYMLINK_MAX + 1];
	uint32_t extra_size;
	const void *data;
	uint32_t data_size;
	void *reply_data;
	uint32_t reply_data_max;
	/* results */
	struct wire_walk_reply reply;
	char target[WFS_SYMLINK_MAX + 1];
	uint32_t target_size;
	uint32_t reply_data_size;
	struct wire_io_reply io;
	struct wire_readdir_reply listing;
	/* rename and link: what comes after the walk */
	char second[WFS_PATH_MAX + 1];
	unsigned rename_flags;
	unsigned stage;
	ino_id dirs[2];
	char names[2][WFS_NAME_MAX + 1];
	uint32_t name_sizes[2];
	/* data */
	ino_id ino;
	uint64_t offset;
	uint32_t generation;
	bool known;  /* the generation is set: do not ask first */
	bool once;   /* and a stale one is the answer */
	bool append; /* at the end of a file of less than a chunk */
	uint32_t via;          /* WORLD_VIA_NONE, but for the simulator's clients */
	uint32_t *seqs;        /* counts them for its slot; NULL: a slot for each */
	uint16_t slot;
	uint64_t patience_us;  /* 0: a minute */
	uint32_t sent_count;
	struct rpc_call call;
	uint32_t seq;      /* of the operation: the same however often it is sent */
	struct list again; /* in w->again, until again_us */
	uint64_t again_us;
	uint64_t until_us; /* when it gives up */
	void (*done)(struct rpc_call *c, int status, const void *reply, uint32_t reply_size,
		uint32_t reply_data_size);
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
};

/* Set up an operation; wop_begin sends it off, wop_run also waits. */
void wop_init(struct wop *o, struct world *w, uint16_t op, const char *path);
void wop_link(struct wop *o, struct world *w, const char *from, const char *to);
void wop_rename(
	struct wop *o, struct world *w, const char *from, const char *to, unsigned flags);
/* Within one chunk. The generation is learned when it is stale. */
void wop_write(struct wop *o, struct world *w, ino_id ino, uint64_t offset,
	const void *data, uint32_t size);
void wop_read(struct wop *o, struct world *w, ino_id ino, uint64_t offset, void *data,
	uint32_t size);
void wop_begin(struct wop *o);
/* The fixed part of its body, for those whose is longer than a path. */
void wop_fixed(struct wop *o, const void *fixed, uint32_t size);
void wop_stat(struct wop *o, struct world *w, ino_id ino);
void wop_close(struct wop *o, struct world *w, ino_id ino);
/* One call: what fits into data. */
void wop_readdir(struct wop *o, struct world *w, ino_id ino, void *data, uint32_t size);
/* Those that are due again. True when there were any; lowers *next. */
bool wops_again(struct world *w, uint64_t *next);
int wop_wait(struct wop *o);
int wop_run(struct wop *o);

/* Plain calls, as root unless w->cred says otherwise; 0 or errno. */
int w_mkdir(struct world *w, const char *path, uint32_t mode);
int w_create(struct world *w, const char *path, uint32_t mode, ino_id *ino_out);
int w_open(struct world *w, const char *path, int flags, uint32_t mode,
	struct attr *attr_out);
int w_close(struct world *w, ino_id ino);
int w_reopen(struct world *w, ino_id ino, uint32_t count);
int w_unlink(struct world *w, const char *path);
int w_rmdir(struct world *w, const char *path);
int w_link(struct world *w, const char *from, const char *to);
int w_symlink(struct world *w, const char *target, const char *path);
int w_readlink(struct world *w, const char *path, char *target_out);
int w_rename(struct world *w, const char *from, const char *to, unsigned flags);
int w_stat(struct world *w, const char *path, struct attr *attr_out);
int w_lstat(struct world *w, const char *path, struct attr *attr_out);
int w_fstat(struct world *w, ino_id ino, struct attr *attr_out);
int w_chmod(struct world *w, const char *path, uint32_t mode);
int w_chown(struct world *w, const char *path, uint32_t uid, uint32_t gid);
int w_truncate(struct world *w, const char *path, uint64_t size);
/* Any range; like the client: pieces by chunk, then OP_EXTEND where needed. */
int w_write(struct world *w, ino_id ino, const void *data, size_t size, uint64_t offset);
/* Bytes read, or errno. */
int w_read(struct world *w, ino_id ino, void *data, size_t size, uint64_t offset);
/* How many names; each goes to fn. */
int w_readdir(struct world *w, ino_id ino,
	void (*fn)(void *ctx, const struct wire_dirent *d, const char *name), void *ctx);

#endif

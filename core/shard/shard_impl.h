/*
 * The inside of a shard.
 *
 * A request becomes a struct exec, which lives until the answer:
 *
 *   exec_start -> [parked: an inode is locked] -> [waits for room in the log]
 *     -> handler builds a batch -> store_commit -> durable -> request done
 *                `- nothing to change: store_barrier -> request done
 *
 * Handlers are plain functions that run to the end (shard.c has the table). Only file
 * data (data.c), transactions (txn.c) and purges (purge.c) go on after waiting for
 * something, as small state machines of their own.
 */
#ifndef WFS_SHARD_IMPL_H
#define WFS_SHARD_IMPL_H

#include "core/shard/place.h"
#include "core/shard/opens.h"
#include "core/shard/shard.h"
#include "core/cluster/keeper.h"
#include "meta/meta.h"
#include "meta/part.h"

#define RESOLVED_KEPT 512u

struct bucket_state;
struct txn;
struct purge;

/*
 * What is answered when it is durable here and the bucket's other members have it: a
 * record, or (lsn 0) what has only seen records. The shard's queue of these ends in order.
 */
struct commit {
	struct list link;
	uint16_t bucket;
	uint64_t lsn;
	bool durable;
	int status;
	void (*done)(struct store_record *r, int status);
};

struct exec {
	struct shard *s;
	struct request *req; /* NULL: the shard's own work */
	const struct op_desc *op;
	struct list link;    /* parked, room or chunk queue; all (s->execs) by all_link */
	struct list all_link;
	struct store_record record;
	struct store_barrier barrier;
	struct commit commit;
	int status;
	uint64_t parked_us;  /* since when; 0: not */
	uint16_t bucket;     /* whose record it will be: where a walk ended */
	bool follows;        /* backup.c: a record with these, not the next of our own */
	uint32_t record_epoch;
	uint64_t record_lsn;
	bool begun;          /* store_begin without commit or abort yet */
	ino_id opened;       /* counted in the open table, unless it fails */
	struct io *io;       /* data.c */
	struct txn *txn;     /* txn.c, coordinator */
	struct exec *partner; /* data.c: whose second record this is */
	uint64_t txid;        /* participant: what it prepares or resolves */
	bool unlock;          /* release txid's locks when committed */
	bool prepared;        /* or when that fails */
};

struct op_desc {
	const char *name;
	/* Runs at once; builds into s->batch, the reply into req->reply. */
	int (*handler)(struct exec *x, struct meta_call *c);
	/* Or: takes the exec over, and ends it with exec_finish. */
	void (*start)(struct exec *x);
	bool writes;  /* may build a batch */
	bool deletes; /* only frees space */
	bool node_only;
	bool root_only;
	bool whole_shard; /* may be addressed to a shard by its number */
	bool remember;    /* a client may send it twice: reply.c */
	bool member;      /* between members of a bucket: no lease needed */
};

struct shard {
	struct env *env;
	struct store *store;
	struct kv *kv;
	const struct map *map;
	struct meta *meta;
	uint32_t number;
	void (*send)(void *ctx, struct rpc_call *call);
	place_fill_fn *fill_of;
	void *ctx;

	struct batch batch; /* scratch of the handler that runs */
	uint64_t *lsn;      /* per bucket: of its last record */

	/* Members (member.h); alone: every bucket has one copy, and none of it is used. */
	bool alone;
	struct bucket_state *buckets;
	struct list commits;
	uint64_t lease_until_us; /* buckets are served as primary before then only;
				    UINT64_MAX: without a lease */
	uint32_t stream_number;  /* the last one */
	uint64_t member_us;      /* when member_poll has work again */
	uint64_t history_bytes;
	uint64_t history_data_bytes;
	struct list mends; /* mend.c */
	struct list history_buffers; /* spare ones */
	uint32_t history_buffer_count;
	struct list history;     /* all shipments, oldest first */
	int (*propose)(void *ctx, const struct proposal *p);
	bool clearing;         /* clear.c is deleting a bucket */
	uint64_t served_us;    /* when a program or another shard last wanted something */
	uint64_t copy_from_us; /* no unit of a copy is sent before */
	uint64_t copied_bytes;
	uint64_t copy_rate;    /* bytes a second, as of rate_us */
	uint64_t rate_us;
	uint64_t rate_bytes;   /* copied_bytes at that time */

	struct once *once;       /* requests that come twice: once.c */
	struct replies *replies; /* per bucket */
	struct buf reply_scratch;

	struct list execs;  /* all */
	struct list parked; /* on a locked inode */
	struct list room;   /* for the log */
	struct list chunks; /* execs in read-modify-write, which own their chunk */
	struct list chunk_waiters;
	struct list buffers; /* for a data buffer */
	bool rerun_parked;
	bool rerun_room;
	bool rerun_chunks;
	bool rerun_buffers;

	struct place *place; /* of new directories */
	uint32_t fill;       /* 0: to be computed */
	uint64_t room_ask_us; /* when a full member may be asked again */
	struct open_table *opens;
	uint64_t grace_us;
	uint64_t grace_until_us;  /* every file counts as open; 0: over */
	struct list txns;         /* coordinated here */
	struct list intents;      /* prepared here, in doubt */
	uint64_t resolved[RESOLVED_KEPT]; /* the last that were: intent.c */
	uint32_t resolved_count;
	uint64_t rename_txid;     /* who holds the rename lock; 0: nobody */
	uint64_t rename_until_us;
	struct purge *purge;
	bool closing;

	uint64_t start_us;
	uint64_t requests;
	uint64_t read_bytes;
	uint64_t write_bytes;
	struct shard_process_stats process;
};

bool shard_owns(void *ctx, uint16_t bucket);
/* Our node's lease has not run out. */
bool shard_leased(const struct shard *s);
/* It is here with all records, as primary or backup. */
bool bucket_whole(const struct shard *s, uint16_t bucket);
void shard_call_init(struct shard *s, const struct cred *cred, struct meta_call *c);

/* --- exec (shard.c) --- */

struct exec *exec_new(struct shard *s, struct request *req);
void exec_start(struct exec *x);
/* Answer and free, once what it saw or did is durable. */
void exec_finish(struct exec *x, int status);
/* The same, whatever is durable (the log failed, or nothing was touched). */
void exec_finish_now(struct exec *x, int status);
/* Run again from exec_start when locks are released. */
void exec_park(struct exec *x);
void exec_wait(struct exec *x, struct list *queue);
/* Run again from exec_start, in a moment: it goes on in another record. */
void exec_again(struct exec *x);
/* store_begin for block_count blocks: 0, or -EINPROGRESS when x now waits for room (it
 * will be started again), or errno. */
int exec_begin(struct exec *x, uint16_t bucket, uint32_t block_count, bool deletes);
void exec_abort(struct exec *x);
/*
 * Commit s->batch as the record begun. done() is called when durable; the batch is empty
 * afterwards. On failure the record is aborted.
 */
int exec_commit(struct exec *x, void (*done)(struct store_record *r, int status));
/* The end of every plain handler: commit or barrier or park or error. */
void exec_conclude(struct exec *x, int rc);
uint64_t exec_timeout_ms(const struct exec *x);

/* Make the root directory in its bucket, when that is ours and has none. */
int root_ensure(struct shard *s);

/* --- reply bodies (name.c) --- */

void wire_attr_put(struct wire_attr *out, const struct attr *attr);
void wire_attr_take(const struct wire_attr *in, struct attr *attr_out);

/* --- handlers --- */

int op_walk(struct exec *x, struct meta_call *c);
int op_open(struct exec *x, struct meta_call *c);
int op_setattr_plain(struct exec *x, struct meta_call *c);
int op_mknod(struct exec *x, struct meta_call *c);
int op_symlink(struct exec *x, struct meta_call *c);
int op_readlink(struct exec *x, struct meta_call *c);
int op_getxattr(struct exec *x, struct meta_call *c);
int op_setxattr(struct exec *x, struct meta_call *c);
int op_listxattr(struct exec *x, struct meta_call *c);
int op_removexattr(struct exec *x, struct meta_call *c);
int op_readdir(struct exec *x, struct meta_call *c);
int op_reopen(struct exec *x, struct meta_call *c);
int op_close(struct exec *x, struct meta_call *c);
int op_extend(struct exec *x, struct meta_call *c);
int op_append(struct exec *x, struct meta_call *c);
int op_shard_stats(struct exec *x, struct meta_call *c);
int op_repairs(struct exec *x, struct meta_call *c);
int op_session_end(struct exec *x, struct meta_call *c);
int op_scan(struct exec *x, struct meta_call *c);
int op_make_root(struct exec *x, struct meta_call *c);
int op_entry(struct exec *x, struct meta_call *c);
int op_prepare(struct exec *x, struct meta_call *c);
bool prepare_deletes(const struct request *req);
int op_resolve(struct exec *x, struct meta_call *c);
int op_txn_status(struct exec *x, struct meta_call *c);
int op_rename_lock(struct exec *x, struct meta_call *c);
int op_rename_unlock(struct exec *x, struct meta_call *c);
int op_ping(struct exec *x, struct meta_call *c);

/*
 * Walk for a path operation and begin its reply. 1: carry the operation out on w->ino
 * (WALK_PARENT: on name in directory w->ino); 0: the reply says how to go on; or errno.
 */
int path_walk(struct exec *x, const struct meta_call *c, enum walk_mode mode,
	struct walk *w);
/* The pieces of a path operation's body. */
const char *path_of(const struct exec *x, size_t fixed_size, size_t *size_out);
const char *extra_of(const struct exec *x, size_t fixed_size, size_t *size_out);
void path_reply(struct exec *x, const struct attr *attr, unsigned flags);

/* --- repair, as it is told (progress.c) --- */

struct wire_shard_stats;
void progress_put(struct shard *s, struct wire_shard_stats *out);

/* --- file data (data.c) --- */

void read_start(struct exec *x);
void write_start(struct exec *x);
void setattr_start(struct exec *x);
void blocks_start(struct exec *x);
void chunk_purge_start(struct exec *x);
/* The reply of what cut a file; purging: chunks above 0 are still to be cut. */
void cut_reply(struct exec *x, const struct attr *attr, bool purging);
void io_free(struct io *io);
/*
 * Blocks of the chunk that x is about cannot be read here: have them from another member,
 * and written anew (mend.c). True: x is parked and will be run again, once.
 */
bool mend_park(struct exec *x, uint32_t block, uint32_t block_count);
void mends_free(struct shard *s);

/* --- transactions (txn.c, plan.c) --- */

void txn_start(struct exec *x);     /* MKDIR, UNLINK, RMDIR, LINK, RENAME */
void txn_poll(struct shard *s, uint64_t *next_us);
/* The intent that was prepared here is resolved. */
void intent_ended(struct shard *s, uint64_t txid, uint16_t bucket);
void intent_poll(struct shard *s, uint64_t *next_us);
int txn_recover(struct shard *s);
/* The bucket is ours from now on: take up its transactions. And no longer is: drop them. */
int txn_bucket_ours(struct shard *s, uint16_t bucket);
void txn_bucket_gone(struct shard *s, uint16_t bucket);
void intent_bucket_gone(struct shard *s, uint16_t bucket);
void txn_free_all(struct shard *s);
void txn_fail_waiting(struct shard *s); /* end those that wait for a timer with -EIO */
void txn_exec_gone(struct exec *x); /* the request it served was answered */

/* --- purges (purge.c) --- */

int purge_new(struct shard *s);
void purge_free(struct shard *s);
void purge_kick(struct shard *s); /* there may be a job */
void purge_poll(struct shard *s, uint64_t *next_us);
/* Chunks were purged since recent_us, and all has gone well since since_us. */
bool purge_moves(const struct shard *s, uint64_t since_us, uint64_t recent_us);

#endif

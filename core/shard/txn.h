/*
 * A transaction as its coordinator sees it.
 *
 *   PLAN --facts known--> PREPARE --all yes--> DECIDE --durable--> RESOLVE --> FORGET
 *    ^  \                    `-- a no --> ABORT --+
 *    |   `- one bucket only: one record, no PREPARE
 *    `------- RETRY (random pause) <-- -EAGAIN, -ESTALE --'
 *
 * plan.c turns a request into parts, asking other shards for what it must know first;
 * txn.c drives the parts to a common end.
 */
#ifndef WFS_SHARD_TXN_H
#define WFS_SHARD_TXN_H

#include "core/shard/shard_impl.h"

enum txn_stage {
	TXN_PLAN,
	TXN_RENAME_LOCKING,
	TXN_PREPARE,
	TXN_DECIDE,
	TXN_RESOLVE,
	TXN_FORGET,
	TXN_ABORTING,
	TXN_RETRY,
};

struct txn_call {
	struct rpc_call call;
	struct txn *t;
	uint32_t index; /* of the part */
	bool busy;
	bool sent;      /* a prepare went out: it may have an intent */
	bool resolved;
};

/* What must be known of a name before steps can be written. */
struct txn_name {
	ino_id dir;
	const char *name; /* in the request's body */
	uint32_t size;
	ino_id ino;   /* what it leads to; 0: nothing */
	uint8_t dtype;
	uint32_t uid; /* of ino */
	bool entry_known;
	bool attr_known;
};

struct txn {
	struct list link;
	struct shard *s;
	struct exec *x; /* NULL once answered */
	enum txn_stage stage;
	uint64_t txid;
	int64_t now_ns;
	bool gone; /* the bucket is no longer ours: it ends when nothing is under way */
	uint64_t retry_us;
	uint64_t deadline_us;
	int error;
	uint32_t outstanding;

	struct txn_name from; /* the only one, save of RENAME */
	struct txn_name to;
	unsigned rename_flags;
	struct attr new_dir;  /* MKDIR: what will be */
	bool rename_locked;
	ino_id climb;         /* RENAME of a directory: where the climb to the root is */
	enum { CLIMB_NOT, CLIMB_TO, CLIMB_FROM } climb_stage;

	uint32_t part_count;
	struct part parts[TXN_PARTS_MAX];
	struct txn_call calls[TXN_PARTS_MAX];
};

/*
 * Learn the next missing fact. 0: all known, and parts are made; 1: a call is under way,
 * plan_next is to be called again when it ends; 2: nothing has to be done, succeed;
 * -EINPROGRESS: park; or errno of the request.
 */
int plan_next(struct txn *t);
/* Begin from a request (and after a retry). Same results, before plan_next. */
int plan_begin(struct txn *t);

/* One call of part index i; a done with the status comes back through `done`. */
void txn_send(struct txn *t, uint32_t i, uint16_t op, uint16_t bucket, const void *body,
	uint32_t body_size,
	void (*done)(struct rpc_call *call, int status, const void *reply,
		uint32_t reply_size, uint32_t reply_data_size));
/* Ask about txid's intent in bucket when patience_us have passed and nobody told. */
int intent_watch(struct shard *s, uint64_t txid, uint16_t bucket, uint64_t patience_us);
void intent_free_all(struct shard *s);

/* Lower *next_us to the time from now to at. */
void soon(uint64_t *next_us, uint64_t now, uint64_t at);

/* A fact has come in: go on planning, or end with the error. */
void txn_planned(struct txn *t, int status);

#endif

/*
 * Requests and calls: RPC over a fabric endpoint, provider-neutral.
 *
 * One struct rpc per shard thread, with one endpoint; callbacks run from rpc_poll on that
 * thread. A struct request is what a server sees; it is used alike for requests that came
 * over the fabric and those taken from a local program's ring (core/session/session.c). A
 * struct rpc_call is what a caller fills in. Every call ends with exactly one done(),
 * within its timeout: status 0, the server's errno, -ETIMEDOUT, or -ECONNRESET when the
 * peer is gone (connection refused or lost while it was in flight). Peers that come back are
 * reconnected to by the next call.
 *
 * All callers are shards that their servers know by rpc_peer_set, themselves included if
 * a shard calls itself. A client that is sent no more than RPC_CALLS_MAX calls at a time
 * is never refused; above that, and when a server has RPC_REQUESTS_MAX requests under
 * way, done gets -EAGAIN and nothing has happened.
 */
#ifndef WFS_NET_RPC_H
#define WFS_NET_RPC_H

#include "core/base/env.h"
#include "core/base/list.h"
#include "net/wire.h"

#define RPC_CALLS_MAX    4096u
#define RPC_REQUESTS_MAX 1024u
#define RPC_PEERS_MAX    4096u

struct rpc;

struct request {
	uint16_t op;
	uint16_t bucket; /* or shard number, with HEAD_TO_SHARD */
	uint16_t flags;  /* HEAD_* */
	uint16_t slot;
	uint32_t seq;
	uint32_t bucket_epoch;
	uint64_t map_epoch;
	uint64_t session;
	uint64_t deadline_us; /* on this node's monotonic clock */
	struct cred cred;
	const void *body; /* validated by wire_body_check; nobody else can change it */
	uint32_t body_size;
	uint32_t data_size;
	const void *data; /* may lie in memory shared with the program: copy before use */
	void *reply_data; /* room for returned data; the same caution */
	uint32_t reply_data_max;
	/* Filled by the server before done(). */
	uint32_t reply_size;
	uint32_t reply_data_size;
	void *reply; /* room for WIRE_BODY_MAX bytes of reply body */
	/* Exactly once; 0 or negative errno. The request is gone afterwards. */
	void (*done)(struct request *req, int status);
	/* For whoever holds the request at the moment. */
	struct list link;
	void *holder;
};

struct rpc_call {
	uint16_t op;
	uint16_t bucket;
	uint16_t flags;   /* HEAD_TO_SHARD */
	uint16_t slot;
	uint32_t seq;
	uint64_t session;
	uint32_t timeout_ms;
	const struct cred *cred; /* borrowed during rpc_send only */
	const void *body;        /* likewise */
	uint32_t body_size;
	uint32_t data_size;
	const void *data;        /* borrowed until done */
	void *reply_data;        /* borrowed until done */
	uint32_t reply_data_max;
	/* Once; reply is valid during the callback only. */
	void (*done)(struct rpc_call *call, int status, const void *reply,
		uint32_t reply_size, uint32_t reply_data_size);
	struct list link; /* private until done */
	void *priv;
};

/* A done() for who waits for nothing: frees the call, which is of mem_alloc. */
void rpc_call_forget(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size);

/* What the call asks, for who serves it without a fabric. The memory is the call's still;
 * deadline_us, reply and done are missing. */
struct request request_of_call(const struct rpc_call *call);

struct rpc_options {
	struct env *env;
	const char *provider; /* "net", "tcp;ofi_rxm" */
	const char *host;     /* to listen on */
	uint16_t port;
	uint64_t cluster;
	uint32_t self;        /* our shard number: where peers send their replies */
	/* A request came in; answer through req->done, now or later. */
	void (*handle)(void *ctx, struct request *req);
	void *ctx;
};

/* -EADDRINUSE, -ENODEV (no such provider), -ENOMEM. */
int rpc_new(const struct rpc_options *opt, struct rpc **rpc_out);
/* Calls under way get -ESHUTDOWN; requests under way lose their reply and are gone. */
void rpc_free(struct rpc *rpc);

/* Who shard number `shard` is; may be told again when it moves. -EINVAL: bad address. */
int rpc_peer_set(struct rpc *rpc, uint32_t shard, const char *host, uint16_t port);
/* How full this shard is: told in every reply from now on (struct wire_head). */
void rpc_fill_set(struct rpc *rpc, uint32_t fill);
/* What that shard told of itself in its last reply; 0: nothing yet, or it is lost. */
uint32_t rpc_peer_fill(struct rpc *rpc, uint32_t shard);
/* Send to a shard. map_epoch and bucket_epoch go into the head. */
void rpc_send(struct rpc *rpc, uint32_t shard, struct rpc_call *call,
	uint64_t map_epoch, uint32_t bucket_epoch);

/* Buckets have other owners: calls about those that were sent to another than owner() says
 * end with -EREMCHG. */
void rpc_owners_changed(struct rpc *rpc, uint32_t (*owner)(void *ctx, uint16_t bucket),
	void *ctx);

/* The fd that is readable when rpc_poll has something to do. */
int rpc_wait_fd(struct rpc *rpc);
/* Whether the loop may sleep on that fd now (false: poll again first). */
bool rpc_may_sleep(struct rpc *rpc);
/* Progress: completions, timers, retries. Returns events handled; *next_us_out is the
 * time until the next timer. */
unsigned rpc_poll(struct rpc *rpc, uint64_t *next_us_out);

/* Counts since start. */
struct rpc_stats {
	uint64_t calls;
	uint64_t requests;
	uint64_t bad_messages;    /* not ours, damaged, or lying: dropped */
	uint64_t bad_data;        /* RMA that brought something else than was sent */
	uint64_t unknown_senders; /* requests from shards we were not told of: dropped */
	uint64_t late_replies;    /* to calls that had ended: dropped */
	uint64_t overloads;       /* requests answered -EAGAIN */
	uint64_t timeouts;        /* calls ended by their deadline */
	uint64_t errors;          /* operations the fabric failed */
};
const struct rpc_stats *rpc_stats(const struct rpc *rpc);

#endif

/*
 * Inside the RPC layer: what its files share. rpc.c owns peers, messages and the loop;
 * rpc_client.c the calls; rpc_server.c the requests; rpc_probe.c tells who is dead.
 *
 * Memory, all of it taken at start and bounded (and touched only when used):
 *   small and large messages  what is sent; a small one is enough for most requests
 *   rx messages               one per posted receive, and one per request under way: a
 *                             request keeps the message it came in
 *   bulk buffers              1 MiB, where RMA of servers starts and ends, and where a
 *                             caller lets a server write a reply's data
 */
#ifndef WFS_NET_RPC_IMPL_H
#define WFS_NET_RPC_IMPL_H

#include "core/base/list.h"
#include "net/fabric.h"
#include "net/rpc.h"

#define RPC_SMALL_MAX      1024u
#define RPC_SMALL_COUNT    RPC_CALLS_MAX
#define RPC_LARGE_COUNT    (RPC_REQUESTS_MAX + 1024u)
#define RPC_RX_POSTED      256u
#define RPC_RX_COUNT       (RPC_RX_POSTED + RPC_REQUESTS_MAX)
#define RPC_BULK_COUNT     64u
#define RPC_BULK_PER_PEER  (RPC_BULK_COUNT / 4)
#define RPC_SENDS_PER_PEER 192u
#define RPC_POLL_BATCH     64u
#define RPC_RETRY_US_MAX   50000u
#define RPC_IDLE_US        1000000u
#define RPC_WAIT_RETRY_US  100u
#define RPC_PROBE_TICK_US  50000u

struct pool;

/* Bytes that are sent or received whole. */
struct message {
	struct fabric_op op;
	struct list link; /* free list, or the peer's waiting list */
	struct rpc *rpc;
	struct pool *pool;
	uint8_t *bytes;
	uint32_t size_bytes;
	struct peer *peer;
	uint64_t expires_us; /* not sent after this */
	uint64_t call_id;    /* 0: not a call's */
};

struct bulk {
	struct list link; /* free list, or the peer's quarantine */
	uint8_t *bytes;
	struct peer *peer;
	uint64_t freed_us; /* when it went into quarantine */
};

struct pool {
	struct list free;
	struct message *messages;
	uint8_t *memory;
	struct fabric_region region;
	uint32_t free_count;
};

struct peer {
	struct sockaddr_in addr;
	uint32_t shard;
	uint32_t fill; /* as it told; 0: not known */
	bool is_inserted;
	fabric_peer fabric;
	uint32_t send_count; /* in flight */
	uint32_t bulk_count; /* buffers used for it */
	struct list waiting; /* messages the fabric did not take yet, oldest first */
	struct list busy;    /* in rpc->busy while messages wait */
	uint64_t stuck_since_us;
	uint64_t retry_us;
	struct list quarantine; /* bulk buffers an RMA of this peer may still touch */
	uint32_t call_count;    /* our calls it has not answered */
	struct list asked;      /* in rpc->asked while there are some */
	uint64_t heard_us;      /* its last message, or the first of those calls */
	int probe_fd;
	uint64_t probe_since_us;
	uint64_t probe_us; /* not again before */
};

struct call {
	struct rpc_call *user;
	struct list link; /* free, or rpc->timers by deadline */
	struct list wait; /* rpc->call_wait: for a bulk buffer; or rpc->call_early */
	struct message *message; /* built, not yet handed to the peer's queue */
	struct peer *peer;
	struct bulk *bulk;
	struct fabric_region region;
	uint64_t deadline_us;
	uint64_t id;
	uint16_t op;
	uint32_t shard;
	bool was_sent;
	int early_status; /* ended before it began: tell in the next poll */
};

enum incoming_state {
	INCOMING_FREE,
	INCOMING_WAIT_BULK,  /* no buffer */
	INCOMING_WAIT_FETCH, /* the fabric did not take the read yet */
	INCOMING_FETCH,      /* reading the caller's data */
	INCOMING_HANDLED,    /* given to the server */
	INCOMING_WAIT_PUSH,  /* the fabric did not take the write yet */
	INCOMING_PUSH,       /* writing the reply's data to the caller */
};

struct incoming {
	struct request req;
	struct fabric_op op; /* of its RMA */
	struct list link;    /* free, or rpc->incoming_wait */
	struct rpc *rpc;
	struct peer *peer;
	struct message *rx;
	struct message *tx;
	struct bulk *bulk;
	enum incoming_state state;
	uint64_t id;
	uint64_t data_addr;
	uint64_t data_key;
	uint32_t data_crc;
};

struct rpc {
	struct rpc_options opt;
	struct env *env;
	struct fabric *fabric;
	uint64_t now_us; /* at the start of this poll, or of the last entry */
	struct rpc_stats stats;
	uint32_t fill; /* ours */
	struct pool small;
	struct pool large;
	struct pool rx;
	uint32_t rx_posted;
	struct bulk *bulks;
	uint8_t *bulk_memory;
	struct fabric_region bulk_region;
	struct list bulk_free;
	struct peer **peers;
	struct list busy;  /* peers with messages waiting */
	struct list asked; /* peers with calls of ours */
	uint64_t probe_us;
	struct call *calls;
	struct list call_free;
	struct list call_timers;
	struct list call_wait;
	struct list call_early;   /* calls to be ended by the next poll */
	struct list call_refused; /* struct rpc_call: there was no room even for that */
	struct incoming *incoming;
	struct list incoming_free;
	struct list incoming_wait; /* to be tried again */
	uint64_t wait_retry_us;    /* when */
	bool is_closing;
};

/* --- rpc.c -------------------------------------------------------------------------- */

struct peer *rpc_peer(struct rpc *rpc, uint32_t shard); /* NULL: not told of */
/* Its fabric address, inserted if need be. */
int peer_address(struct rpc *rpc, struct peer *peer, fabric_peer *out);
/* An operation with it failed: forget the connection, the next use makes another. */
void peer_lost(struct rpc *rpc, struct peer *peer);

struct message *message_take(struct pool *pool); /* NULL when dry */
void message_free(struct message *m);
/* Send sealed bytes now or when the fabric takes them; the message is freed by itself. */
void message_send(struct rpc *rpc, struct peer *peer, struct message *m);

/* NULL when dry, or when the peer has its share. */
struct bulk *bulk_take(struct rpc *rpc, struct peer *peer);
void bulk_free(struct rpc *rpc, struct bulk *bulk);
/* As free, once the peer cannot write to it any more. */
void bulk_quarantine(struct rpc *rpc, struct bulk *bulk);

/* --- rpc_client.c ------------------------------------------------------------------- */

void client_init(struct rpc *rpc);
void client_reply(struct rpc *rpc, const struct wire_head *head, struct message *rx);
/* Whether call `id` is still under way. */
bool client_wants(struct rpc *rpc, uint64_t id);
/* The message of call `id` is on its way. */
void client_sent(struct rpc *rpc, uint64_t id);
/* The message of call `id` could not be sent. */
void client_send_failed(struct rpc *rpc, uint64_t id, int status);
unsigned client_poll(struct rpc *rpc);
uint64_t client_next_us(const struct rpc *rpc);
/* Whoever listened at its address is gone: its calls fail. */
void client_peer_dead(struct rpc *rpc, struct peer *peer);
void client_shutdown(struct rpc *rpc);

/* --- rpc_probe.c -------------------------------------------------------------------- */

void probe_asked(struct rpc *rpc, struct peer *peer); /* a call began */
void probe_answered(struct peer *peer);               /* a call ended */
void probe_poll(struct rpc *rpc);
void probe_end(struct peer *peer);

/* --- rpc_server.c ------------------------------------------------------------------- */

void server_init(struct rpc *rpc);
/* Whether it keeps the message. */
bool server_request(struct rpc *rpc, const struct wire_head *head, struct message *rx);
unsigned server_poll(struct rpc *rpc);

#endif

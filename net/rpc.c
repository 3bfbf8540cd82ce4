/*
 * The RPC layer's ground: pools, peers, receiving, and the loop.
 *
 * Receives are posted on the endpoint as a whole; a message is checked before anything in
 * it is believed, and says in its head which shard sent it. Replies go to the address
 * that rpc_peer_set gave for that shard, so an address in a message is never followed.
 *
 * A send that the fabric does not take waits in its peer's queue and is tried again, ever
 * more slowly while the peer does not answer (up to RPC_RETRY_US_MAX), until it expires.
 * An operation that fails means that the connection broke: the peer's address is removed
 * and inserted again with the next message, so that a restarted peer is found.
 *
 * A bulk buffer that was exposed to a server's write must not be used for anything else
 * while that write may still be going on. If the reply came, it is over. If the call
 * timed out, closing the region keeps new writes away but not one half received; then the
 * buffer is in quarantine until the next message of that peer (connections are in order,
 * so the write has ended or will never), or until the connection broke.
 */
#include "net/rpc.h"

#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "net/rpc_impl.h"

/* --- pools -------------------------------------------------------------------------- */

static int pool_init(struct rpc *rpc, struct pool *pool, uint32_t count,
	uint32_t each_bytes, void (*done)(struct fabric_op *, int, size_t))
{
	pool->free_count = count;
	pool->messages = mem_zalloc(count * sizeof(*pool->messages));
	pool->memory = mem_aligned(4096, (size_t)count * each_bytes);
	if (!pool->messages || !pool->memory)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		struct message *m = &pool->messages[i];
		m->rpc = rpc;
		m->pool = pool;
		m->bytes = pool->memory + (size_t)i * each_bytes;
		m->op.done = done;
		list_push_back(&pool->free, &m->link);
	}
	return fabric_region_open(rpc->fabric, pool->memory, (size_t)count * each_bytes,
		FABRIC_LOCAL, &pool->region);
}

static void pool_release(struct pool *pool)
{
	mem_free(pool->messages);
	mem_free(pool->memory);
}

struct message *message_take(struct pool *pool)
{
	struct message *m;

	if (list_empty(&pool->free))
		return NULL;
	m = list_first(&pool->free, struct message, link);
	list_remove(&m->link);
	pool->free_count--;
	m->call_id = 0;
	m->peer = NULL;
	return m;
}

void message_free(struct message *m)
{
	m->pool->free_count++;
	list_push_front(&m->pool->free, &m->link);
}

static int bulks_init(struct rpc *rpc)
{
	size_t size = (size_t)RPC_BULK_COUNT * WIRE_DATA_MAX;

	rpc->bulks = mem_zalloc(RPC_BULK_COUNT * sizeof(*rpc->bulks));
	rpc->bulk_memory = mem_aligned(4096, size);
	if (!rpc->bulks || !rpc->bulk_memory)
		return -ENOMEM;
	for (uint32_t i = 0; i < RPC_BULK_COUNT; i++) {
		rpc->bulks[i].bytes = rpc->bulk_memory + (size_t)i * WIRE_DATA_MAX;
		list_push_back(&rpc->bulk_free, &rpc->bulks[i].link);
	}
	return fabric_region_open(
		rpc->fabric, rpc->bulk_memory, size, FABRIC_LOCAL, &rpc->bulk_region);
}

struct bulk *bulk_take(struct rpc *rpc, struct peer *peer)
{
	struct bulk *bulk;

	if (list_empty(&rpc->bulk_free) || peer->bulk_count >= RPC_BULK_PER_PEER)
		return NULL;
	bulk = list_first(&rpc->bulk_free, struct bulk, link);
	list_remove(&bulk->link);
	bulk->peer = peer;
	peer->bulk_count++;
	return bulk;
}

void bulk_free(struct rpc *rpc, struct bulk *bulk)
{
	bulk->peer->bulk_count--;
	bulk->peer = NULL;
	list_push_front(&rpc->bulk_free, &bulk->link);
	rpc->wait_retry_us = 0;
}

void bulk_quarantine(struct rpc *rpc, struct bulk *bulk)
{
	bulk->freed_us = rpc->now_us;
	list_push_back(&bulk->peer->quarantine, &bulk->link);
}

static void quarantine_end(struct rpc *rpc, struct peer *peer, uint64_t before_us)
{
	list_for_each(it, tmp, &peer->quarantine)
	{
		struct bulk *bulk = container_of(it, struct bulk, link);
		if (bulk->freed_us > before_us)
			break;
		list_remove(it);
		bulk_free(rpc, bulk);
	}
}

/* --- peers -------------------------------------------------------------------------- */

struct peer *rpc_peer(struct rpc *rpc, uint32_t shard)
{
	return shard < RPC_PEERS_MAX ? rpc->peers[shard] : NULL;
}

void rpc_fill_set(struct rpc *rpc, uint32_t fill)
{
	rpc->fill = fill;
}

uint32_t rpc_peer_fill(struct rpc *rpc, uint32_t shard)
{
	const struct peer *peer = rpc_peer(rpc, shard);

	return peer ? peer->fill : 0;
}

int rpc_peer_set(struct rpc *rpc, uint32_t shard, const char *host, uint16_t port)
{
	struct sockaddr_in addr;
	struct peer *peer;
	int rc;

	if (shard >= RPC_PEERS_MAX)
		return -EINVAL;
	rc = fabric_resolve(host, port, &addr);
	if (rc)
		return rc;
	peer = rpc->peers[shard];
	if (!peer) {
		peer = mem_zalloc(sizeof(*peer));
		if (!peer)
			return -ENOMEM;
		list_init(&peer->waiting);
		list_init(&peer->busy);
		list_init(&peer->quarantine);
		list_init(&peer->asked);
		peer->probe_fd = -1;
		peer->shard = shard;
		rpc->peers[shard] = peer;
	} else if (peer->addr.sin_addr.s_addr != addr.sin_addr.s_addr ||
		   peer->addr.sin_port != addr.sin_port) {
		peer_lost(rpc, peer);
	}
	peer->addr = addr;
	return 0;
}

int peer_address(struct rpc *rpc, struct peer *peer, fabric_peer *out)
{
	int rc;

	if (!peer->is_inserted) {
		rc = fabric_peer_insert(rpc->fabric, &peer->addr, &peer->fabric);
		if (rc)
			return rc;
		peer->is_inserted = true;
	}
	*out = peer->fabric;
	return 0;
}

void peer_lost(struct rpc *rpc, struct peer *peer)
{
	if (peer->is_inserted)
		fabric_peer_remove(rpc->fabric, peer->fabric);
	peer->is_inserted = false;
	peer->fill = 0;
	quarantine_end(rpc, peer, UINT64_MAX);
}

/* --- sending ------------------------------------------------------------------------ */

static void message_sent(struct fabric_op *op, int status, size_t size_bytes)
{
	struct message *m = container_of(op, struct message, op);
	struct rpc *rpc = m->rpc;
	struct peer *peer = m->peer;
	uint64_t id = m->call_id;

	(void)size_bytes;
	peer->send_count--;
	peer->retry_us = 0;
	message_free(m);
	if (status == 0)
		return;
	rpc->stats.errors++;
	peer_lost(rpc, peer);
	if (id)
		client_send_failed(rpc, id, -ECONNRESET);
}

/* 0, -EAGAIN, or it cannot be sent at all. */
static int message_try(struct rpc *rpc, struct peer *peer, struct message *m)
{
	fabric_peer to;
	int rc;

	if (peer->send_count >= RPC_SENDS_PER_PEER)
		return -EAGAIN;
	rc = peer_address(rpc, peer, &to);
	if (rc)
		return rc;
	rc = fabric_send(
		rpc->fabric, &m->op, to, m->bytes, m->size_bytes, m->pool->region.desc);
	if (rc == 0) {
		peer->send_count++;
		if (m->call_id)
			client_sent(rpc, m->call_id);
	}
	return rc;
}

static void message_refused(struct rpc *rpc, struct message *m, int status)
{
	uint64_t id = m->call_id;

	message_free(m);
	if (id)
		client_send_failed(rpc, id, status);
}

void message_send(struct rpc *rpc, struct peer *peer, struct message *m)
{
	int rc = -EAGAIN;

	m->peer = peer;
	if (list_empty(&peer->waiting))
		rc = message_try(rpc, peer, m);
	if (rc == 0)
		return;
	if (list_empty(&peer->busy)) {
		peer->stuck_since_us = rpc->now_us;
		peer->retry_us = 0;
		list_push_back(&rpc->busy, &peer->busy);
	}
	/* An error other than EAGAIN is tried again like it: a refused connection that
	 * was noticed at once is no different from one noticed later. */
	list_push_back(&peer->waiting, &m->link);
}

static void peer_stuck(struct rpc *rpc, struct peer *peer)
{
	uint64_t pause_us = (rpc->now_us - peer->stuck_since_us) / 4;

	if (pause_us > RPC_RETRY_US_MAX)
		pause_us = RPC_RETRY_US_MAX;
	peer->retry_us = rpc->now_us + pause_us;
}

static unsigned peer_pump(struct rpc *rpc, struct peer *peer)
{
	unsigned count = 0;

	while (!list_empty(&peer->waiting)) {
		struct message *m = list_first(&peer->waiting, struct message, link);
		if (m->expires_us <= rpc->now_us ||
			(m->call_id && !client_wants(rpc, m->call_id))) {
			list_remove(&m->link);
			message_refused(rpc, m, -ETIMEDOUT);
			continue;
		}
		if (peer->retry_us > rpc->now_us)
			return count;
		if (message_try(rpc, peer, m) != 0) {
			peer_stuck(rpc, peer);
			return count;
		}
		list_remove(&m->link);
		peer->stuck_since_us = rpc->now_us;
		count++;
	}
	list_remove(&peer->busy);
	return count;
}

/* --- receiving ---------------------------------------------------------------------- */

static void rx_post(struct rpc *rpc)
{
	while (rpc->rx_posted < RPC_RX_POSTED) {
		struct message *m = message_take(&rpc->rx);
		if (!m)
			return;
		if (fabric_recv(rpc->fabric, &m->op, m->bytes, WIRE_MESSAGE_MAX,
			    rpc->rx.region.desc) != 0) {
			message_free(m);
			return;
		}
		rpc->rx_posted++;
	}
}

static void message_received(struct fabric_op *op, int status, size_t size_bytes)
{
	struct message *m = container_of(op, struct message, op);
	struct rpc *rpc = m->rpc;
	struct wire_head head;
	struct peer *peer;
	bool is_kept = false;

	rpc->rx_posted--;
	m->size_bytes = (uint32_t)size_bytes;
	if (status || wire_message_check(m->bytes, size_bytes, rpc->opt.cluster, true)) {
		rpc->stats.bad_messages++;
		goto out;
	}
	memcpy(&head, m->bytes, sizeof(head));
	peer = rpc_peer(rpc, le32_get(head.sender));
	if (!peer) {
		rpc->stats.unknown_senders++;
		goto out;
	}
	m->peer = peer;
	peer->retry_us = 0;
	peer->heard_us = rpc->now_us;
	quarantine_end(rpc, peer, UINT64_MAX);
	if (head.kind == WIRE_REPLY) {
		peer->fill = le32_get(head.fill);
		client_reply(rpc, &head, m);
	} else {
		is_kept = server_request(rpc, &head, m);
	}
out:
	if (!is_kept)
		message_free(m);
}

/* --- calls by themselves ------------------------------------------------------------- */

struct request request_of_call(const struct rpc_call *call)
{
	return (struct request){
		.op = call->op,
		.bucket = call->bucket,
		.flags = call->flags,
		.slot = call->slot,
		.seq = call->seq,
		.session = call->session,
		.cred = *call->cred,
		.body = call->body,
		.body_size = call->body_size,
		.data = call->data,
		.data_size = call->data_size,
		.reply_data = call->reply_data,
		.reply_data_max = call->reply_data_max,
	};
}

void rpc_call_forget(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	(void)status;
	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	mem_free(call);
}

/* --- life and loop ------------------------------------------------------------------ */

static void lists_init(struct rpc *rpc)
{
	struct list *lists[] = {&rpc->small.free, &rpc->large.free, &rpc->rx.free,
		&rpc->bulk_free, &rpc->busy, &rpc->asked, &rpc->call_free,
		&rpc->call_timers, &rpc->call_wait, &rpc->call_early, &rpc->call_refused,
		&rpc->incoming_free, &rpc->incoming_wait};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		list_init(lists[i]);
}

static void rpc_release(struct rpc *rpc)
{
	struct fabric_region *regions[] = {&rpc->small.region, &rpc->large.region,
		&rpc->rx.region, &rpc->bulk_region};

	for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++)
		fabric_region_close(regions[i]);
	fabric_close(rpc->fabric);
	pool_release(&rpc->small);
	pool_release(&rpc->large);
	pool_release(&rpc->rx);
	mem_free(rpc->bulks);
	mem_free(rpc->bulk_memory);
	for (uint32_t i = 0; rpc->peers && i < RPC_PEERS_MAX; i++) {
		if (rpc->peers[i])
			probe_end(rpc->peers[i]);
		mem_free(rpc->peers[i]);
	}
	mem_free(rpc->peers);
	mem_free(rpc->calls);
	mem_free(rpc->incoming);
	mem_free(rpc);
}

int rpc_new(const struct rpc_options *opt, struct rpc **rpc_out)
{
	struct rpc *rpc = mem_zalloc(sizeof(*rpc));
	int rc = -ENOMEM;

	if (!rpc)
		return rc;
	lists_init(rpc);
	rpc->opt = *opt;
	rpc->opt.provider = rpc->opt.host = NULL; /* borrowed for this call only */
	rpc->env = opt->env;
	rpc->peers = mem_zalloc(RPC_PEERS_MAX * sizeof(*rpc->peers));
	rpc->calls = mem_zalloc(RPC_CALLS_MAX * sizeof(*rpc->calls));
	rpc->incoming = mem_zalloc(RPC_REQUESTS_MAX * sizeof(*rpc->incoming));
	if (!rpc->peers || !rpc->calls || !rpc->incoming)
		goto fail;
	client_init(rpc);
	server_init(rpc);
	rc = fabric_open(opt->env, opt->provider, opt->host, opt->port, &rpc->fabric);
	if (rc == 0)
		rc = pool_init(
			rpc, &rpc->small, RPC_SMALL_COUNT, RPC_SMALL_MAX, message_sent);
	if (rc == 0)
		rc = pool_init(rpc, &rpc->large, RPC_LARGE_COUNT, WIRE_MESSAGE_MAX,
			message_sent);
	if (rc == 0)
		rc = pool_init(
			rpc, &rpc->rx, RPC_RX_COUNT, WIRE_MESSAGE_MAX, message_received);
	if (rc == 0)
		rc = bulks_init(rpc);
	if (rc)
		goto fail;
	rx_post(rpc);
	*rpc_out = rpc;
	return 0;
fail:
	rpc_release(rpc);
	return rc;
}

void rpc_free(struct rpc *rpc)
{
	if (!rpc)
		return;
	rpc->is_closing = true;
	client_shutdown(rpc);
	rpc_release(rpc);
}

int rpc_wait_fd(struct rpc *rpc)
{
	return fabric_wait_fd(rpc->fabric);
}

bool rpc_may_sleep(struct rpc *rpc)
{
	return list_empty(&rpc->call_early) && list_empty(&rpc->call_refused) &&
	       fabric_may_sleep(rpc->fabric);
}

static uint64_t next_us(const struct rpc *rpc)
{
	uint64_t at = rpc->now_us + RPC_IDLE_US;
	uint64_t call_at = client_next_us(rpc);

	if (call_at < at)
		at = call_at;
	list_for_each(it, tmp, (struct list *)&rpc->busy)
	{
		const struct peer *peer = container_of(it, struct peer, busy);
		if (peer->retry_us < at)
			at = peer->retry_us;
	}
	if (!list_empty(&rpc->asked) && at > rpc->now_us + RPC_PROBE_TICK_US)
		at = rpc->now_us + RPC_PROBE_TICK_US;
	if (!list_empty(&rpc->incoming_wait) && at > rpc->now_us + 1000)
		at = rpc->now_us + 1000;
	return at > rpc->now_us ? at - rpc->now_us : 0;
}

unsigned rpc_poll(struct rpc *rpc, uint64_t *next_us_out)
{
	unsigned count;

	rpc->now_us = env_now_us(rpc->env);
	count = fabric_poll(rpc->fabric, RPC_POLL_BATCH);
	rx_post(rpc);
	list_for_each(it, tmp, &rpc->busy) count +=
		peer_pump(rpc, container_of(it, struct peer, busy));
	count += server_poll(rpc);
	probe_poll(rpc);
	count += client_poll(rpc);
	if (next_us_out)
		*next_us_out = next_us(rpc);
	return count;
}

const struct rpc_stats *rpc_stats(const struct rpc *rpc)
{
	return &rpc->stats;
}

/*
 * The server's side: requests under way, and the RMA on their behalf.
 *
 *   message --server_request--> [WAIT_BULK] --> [WAIT_FETCH -> FETCH] --> HANDLED
 *                                                                           |
 *   free <-- incoming_reply <-- [PUSH <- WAIT_PUSH] <---- incoming_done ----'
 *
 * The bracketed steps are for data beyond what rides in a message: a bulk buffer to have,
 * the caller's data to read before, or the reply's to write after. The WAIT states stand
 * in incoming_wait and are tried again by server_poll until the request's deadline. A
 * request stays in the message it came in, which nobody else writes; its reply is built
 * in the message that will carry it. If the caller cannot be reached the request ends
 * without a reply: the caller's deadline is its answer.
 *
 * A request whose deadline passed before it reached the handler is not handled: its
 * caller has given up, and its data may not be what the caller meant.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "net/rpc_impl.h"

#define REPLY_DATA_AT  (sizeof(struct wire_head) + WIRE_BODY_MAX)
#define TIMEOUT_MS_MAX 3600000u

_Static_assert(REPLY_DATA_AT + WIRE_INLINE_MAX <= WIRE_MESSAGE_MAX, "room for a reply");
_Static_assert(REPLY_DATA_AT % 8 == 0, "aligned");

static void incoming_done(struct request *req, int status);
static void rma_done(struct fabric_op *op, int status, size_t size_bytes);
static void incoming_step(struct incoming *in);

void server_init(struct rpc *rpc)
{
	for (uint32_t i = 0; i < RPC_REQUESTS_MAX; i++) {
		struct incoming *in = &rpc->incoming[i];
		in->rpc = rpc;
		in->op.done = rma_done;
		in->req.done = incoming_done;
		list_push_back(&rpc->incoming_free, &in->link);
	}
}

static void incoming_free(struct incoming *in)
{
	struct rpc *rpc = in->rpc;

	if (in->rx)
		message_free(in->rx);
	if (in->tx)
		message_free(in->tx);
	if (in->bulk)
		bulk_free(rpc, in->bulk);
	in->rx = in->tx = NULL;
	in->bulk = NULL;
	in->state = INCOMING_FREE;
	list_remove(&in->link);
	list_push_front(&rpc->incoming_free, &in->link);
}

/* --- replying ----------------------------------------------------------------------- */

struct reply {
	uint16_t op;
	uint16_t flags;
	uint64_t id;
	int status;
	uint32_t body_size;
	uint32_t data_size;
	uint32_t data_crc;
	uint64_t expires_us;
};

static void reply_send(
	struct rpc *rpc, struct peer *peer, struct message *m, const struct reply *r)
{
	struct wire_head head = {
		.magic = le32_put(WIRE_MAGIC),
		.version = WIRE_VERSION,
		.kind = WIRE_REPLY,
		.op = le16_put(r->op),
		.flags = le16_put(r->flags),
		.cluster = le64_put(rpc->opt.cluster),
		.request = le64_put(r->id),
		.status = le32_put((uint32_t)-r->status),
		.body_size = le32_put(r->body_size),
		.data_size = le32_put(r->data_size),
		.sender = le32_put(rpc->opt.self),
		.data_crc = le32_put(r->data_crc),
		.fill = le32_put(rpc->fill),
	};

	assert(m);
	memcpy(m->bytes, &head, sizeof(head));
	m->size_bytes = (uint32_t)sizeof(head) + r->body_size +
			(r->flags & HEAD_INLINE ? r->data_size : 0);
	m->expires_us = r->expires_us;
	wire_message_seal(m->bytes, m->size_bytes);
	message_send(rpc, peer, m);
}

/* An answer to a message that did not become a request. */
static void refuse(
	struct rpc *rpc, const struct wire_head *head, struct peer *peer, int status)
{
	const struct reply r = {
		.op = le16_get(head->op),
		.id = le64_get(head->request),
		.status = status,
		.expires_us = rpc->now_us + RPC_IDLE_US,
	};
	struct message *m = message_take(&rpc->small);

	if (m)
		reply_send(rpc, peer, m, &r);
}

static void incoming_reply(struct incoming *in, int status)
{
	const struct request *req = &in->req;
	struct message *tx = in->tx;
	struct reply r = {
		.op = req->op,
		.id = in->id,
		.status = status,
		.expires_us = req->deadline_us,
	};

	if (status == 0) {
		r.body_size = req->reply_size;
		r.data_size = req->reply_data_size;
		if (r.data_size > 0 && r.data_size <= WIRE_INLINE_MAX) {
			r.flags = HEAD_INLINE;
			memmove(tx->bytes + sizeof(struct wire_head) + r.body_size,
				req->reply_data, r.data_size);
		} else if (r.data_size) {
			r.data_crc = crc32c(in->bulk->bytes, r.data_size);
		}
	}
	in->tx = NULL;
	reply_send(in->rpc, in->peer, tx, &r);
	incoming_free(in);
}

static void incoming_done(struct request *req, int status)
{
	struct incoming *in = container_of(req, struct incoming, req);

	assert(in->state == INCOMING_HANDLED && status <= 0);
	if (in->rpc->is_closing)
		return;
	if (status < -(int)WIRE_STATUS_MAX)
		status = -EIO;
	if (status == 0) {
		assert(req->reply_size <= WIRE_BODY_MAX);
		assert(req->reply_data_size <= req->reply_data_max);
	}
	message_free(in->rx);
	in->rx = NULL;
	if (status == 0 && req->reply_data_size > WIRE_INLINE_MAX) {
		in->state = INCOMING_WAIT_PUSH;
		incoming_step(in);
	} else {
		incoming_reply(in, status);
	}
}

/* --- the steps ---------------------------------------------------------------------- */

static bool incoming_needs_bulk(const struct incoming *in)
{
	return !in->bulk &&
	       ((in->req.data_size > 0 && !in->req.data) || !in->req.reply_data);
}

static void incoming_handle(struct incoming *in)
{
	struct rpc *rpc = in->rpc;

	in->state = INCOMING_HANDLED;
	rpc->stats.requests++;
	rpc->opt.handle(rpc->opt.ctx, &in->req);
}

/* -EAGAIN: no buffer now. */
static int step_bulk(struct incoming *in)
{
	if (!incoming_needs_bulk(in))
		return 0;
	in->bulk = bulk_take(in->rpc, in->peer);
	if (!in->bulk)
		return -EAGAIN;
	if (!in->req.reply_data)
		in->req.reply_data = in->bulk->bytes;
	return 0;
}

static int step_rma(struct incoming *in, bool is_push)
{
	struct rpc *rpc = in->rpc;
	struct fabric_target target = {.addr = in->data_addr, .key = in->data_key};
	int rc = peer_address(rpc, in->peer, &target.peer);

	if (rc)
		return rc;
	if (is_push)
		return fabric_write(rpc->fabric, &in->op, &target, in->bulk->bytes,
			in->req.reply_data_size, rpc->bulk_region.desc);
	return fabric_read(rpc->fabric, &in->op, &target, in->bulk->bytes,
		in->req.data_size, rpc->bulk_region.desc);
}

/* Go on as far as possible; what has to wait stands in incoming_wait afterwards. */
static void incoming_step(struct incoming *in)
{
	struct rpc *rpc = in->rpc;
	int rc = 0;

	list_remove(&in->link);
	if (in->state == INCOMING_WAIT_BULK) {
		rc = step_bulk(in);
		if (rc == 0 && (in->req.data || in->req.data_size == 0)) {
			incoming_handle(in);
			return;
		}
		if (rc == 0)
			in->state = INCOMING_WAIT_FETCH;
	}
	if (rc == 0) {
		bool is_push = in->state == INCOMING_WAIT_PUSH;
		rc = step_rma(in, is_push);
		if (rc == 0) {
			in->state = is_push ? INCOMING_PUSH : INCOMING_FETCH;
			return;
		}
	}
	if (rc == -EAGAIN)
		list_push_back(&rpc->incoming_wait, &in->link);
	else
		incoming_free(in);
}

static void rma_done(struct fabric_op *op, int status, size_t size_bytes)
{
	struct incoming *in = container_of(op, struct incoming, op);
	struct rpc *rpc = in->rpc;

	(void)size_bytes;
	if (status) {
		rpc->stats.errors++;
		peer_lost(rpc, in->peer);
		incoming_free(in);
	} else if (in->state == INCOMING_PUSH) {
		incoming_reply(in, 0);
	} else if (in->req.deadline_us <= rpc->now_us) {
		incoming_reply(in, -ETIMEDOUT);
	} else if (crc32c(in->bulk->bytes, in->req.data_size) != in->data_crc) {
		rpc->stats.bad_data++;
		log_warn("data from another node is damaged shard=%u op=%s size=%u",
			in->peer->shard, wire_op_name(in->req.op), in->req.data_size);
		incoming_reply(in, -ECONNRESET);
	} else {
		in->req.data = in->bulk->bytes;
		incoming_handle(in);
	}
}

unsigned server_poll(struct rpc *rpc)
{
	struct list waiting;
	unsigned count = 0;

	if (list_empty(&rpc->incoming_wait) || rpc->wait_retry_us > rpc->now_us)
		return 0;
	rpc->wait_retry_us = rpc->now_us + RPC_WAIT_RETRY_US;
	list_init(&waiting);
	list_splice_back(&waiting, &rpc->incoming_wait);
	while (!list_empty(&waiting)) {
		struct incoming *in = list_first(&waiting, struct incoming, link);
		count++;
		if (in->req.deadline_us > rpc->now_us)
			incoming_step(in);
		else if (in->state == INCOMING_WAIT_PUSH)
			incoming_free(in);
		else
			incoming_reply(in, -ETIMEDOUT);
	}
	return count;
}

/* --- arriving ----------------------------------------------------------------------- */

/* The body where structs with 8-byte fields may lie: an odd number of groups shifts it.
 */
static uint8_t *body_align(struct message *rx, const struct wire_head *head)
{
	size_t groups = le16_get(head->group_count);
	uint8_t *body = rx->bytes + sizeof(*head) + groups * sizeof(le32);
	size_t size = rx->size_bytes - (size_t)(body - rx->bytes);

	if (groups % 2 == 0)
		return body;
	memmove(body - sizeof(le32), body, size);
	return body - sizeof(le32);
}

static void request_fill(struct incoming *in, const struct wire_head *head)
{
	struct request *req = &in->req;
	uint32_t timeout_ms = le32_get(head->timeout_ms);
	const uint8_t *groups = in->rx->bytes + sizeof(*head);

	req->op = le16_get(head->op);
	req->bucket = le16_get(head->bucket);
	req->flags = le16_get(head->flags);
	req->slot = le16_get(head->slot);
	req->seq = le32_get(head->seq);
	req->bucket_epoch = le32_get(head->bucket_epoch);
	req->map_epoch = le64_get(head->map_epoch);
	req->session = le64_get(head->session);
	if (timeout_ms > TIMEOUT_MS_MAX)
		timeout_ms = TIMEOUT_MS_MAX;
	req->deadline_us =
		in->rpc->now_us + (uint64_t)(timeout_ms ? timeout_ms : 1) * 1000;
	req->cred.uid = le32_get(head->uid);
	req->cred.gid = le32_get(head->gid);
	req->cred.group_count = le16_get(head->group_count);
	for (uint32_t i = 0; i < req->cred.group_count; i++) {
		le32 group;
		memcpy(&group, groups + i * sizeof(group), sizeof(group));
		req->cred.groups[i] = le32_get(group);
	}
	req->body = body_align(in->rx, head);
	req->body_size = le32_get(head->body_size);
	req->data_size = le32_get(head->data_size);
	req->data = NULL;
	if (req->flags & HEAD_INLINE)
		req->data = (const uint8_t *)req->body + req->body_size;
	req->reply = in->tx->bytes + sizeof(*head);
	req->reply_size = 0;
	req->reply_data_size = 0;
	req->reply_data_max = le32_get(head->data_max);
	req->reply_data = NULL;
	if (req->reply_data_max <= WIRE_INLINE_MAX)
		req->reply_data = in->tx->bytes + REPLY_DATA_AT;
	list_init(&req->link);
	req->holder = NULL;
}

static int request_check(const struct wire_head *head, const struct message *rx)
{
	const uint8_t *body =
		rx->bytes + sizeof(*head) + le16_get(head->group_count) * sizeof(le32);

	if (le32_get(head->data_size) > WIRE_INLINE_MAX &&
		le32_get(head->data_max) > WIRE_INLINE_MAX)
		return -EINVAL;
	return wire_body_check(
		le16_get(head->op), body, le32_get(head->body_size), false);
}

bool server_request(struct rpc *rpc, const struct wire_head *head, struct message *rx)
{
	struct incoming *in;
	int rc = request_check(head, rx);

	if (rc) {
		rpc->stats.bad_messages++;
		refuse(rpc, head, rx->peer, rc);
		return false;
	}
	if (list_empty(&rpc->incoming_free) || list_empty(&rpc->large.free)) {
		rpc->stats.overloads++;
		refuse(rpc, head, rx->peer, -EAGAIN);
		return false;
	}
	in = list_first(&rpc->incoming_free, struct incoming, link);
	list_remove(&in->link);
	in->rx = rx;
	in->tx = message_take(&rpc->large);
	in->peer = rx->peer;
	in->id = le64_get(head->request);
	in->data_addr = le64_get(head->data_addr);
	in->data_key = le64_get(head->data_key);
	in->data_crc = le32_get(head->data_crc);
	in->state = INCOMING_WAIT_BULK;
	request_fill(in, head);
	incoming_step(in);
	return true;
}

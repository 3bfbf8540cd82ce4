/*
 * The caller's side: calls under way, their deadlines and replies.
 *
 *   free --rpc_send--> waiting for a bulk buffer --> queued or sent --> done, free
 *             |             (call_wait)               client_start
 *             `-- cannot begin: call_early, or call_refused without a slot
 *
 * A request's number is its slot in the table and the slot's generation, which starts at
 * random and steps with every use: a late reply, or one meant for our predecessor at this
 * address, finds another number there and is dropped. All calls stand in call_timers,
 * ordered by deadline, and each ends once, in call_finish, always from within rpc_poll.
 *
 * Data to be sent is exposed where it lies, until done. Data to be received beyond what
 * rides in a message goes to a bulk buffer of ours and is copied (30 us per MiB): memory
 * given back after a timeout can then not be written by a server that wakes up later.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "net/rpc_impl.h"

#define CALL_INDEX_MASK ((uint64_t)RPC_CALLS_MAX - 1)

void client_init(struct rpc *rpc)
{
	uint64_t seed = env_random(rpc->env);

	for (uint32_t i = 0; i < RPC_CALLS_MAX; i++) {
		struct call *call = &rpc->calls[i];
		call->id = ((seed + i) & ~CALL_INDEX_MASK) | i;
		list_init(&call->wait);
		list_push_back(&rpc->call_free, &call->link);
	}
}

static struct call *call_of(struct rpc *rpc, uint64_t id)
{
	struct call *call = &rpc->calls[id & CALL_INDEX_MASK];

	return call->user && call->id == id ? call : NULL;
}

static void timer_insert(struct rpc *rpc, struct call *call)
{
	struct list *at = rpc->call_timers.prev;

	while (at != &rpc->call_timers &&
		container_of(at, struct call, link)->deadline_us > call->deadline_us)
		at = at->prev;
	list_insert_before(at->next, &call->link);
}

struct outcome {
	int status;
	bool is_answered; /* the server is through with our memory */
	const void *reply;
	uint32_t reply_size;
	uint32_t data_size;
};

static void call_finish(struct rpc *rpc, struct call *call, const struct outcome *o)
{
	struct rpc_call *user = call->user;

	fabric_region_close(&call->region);
	if (call->bulk) {
		if (o->is_answered || !call->was_sent)
			bulk_free(rpc, call->bulk);
		else
			bulk_quarantine(rpc, call->bulk);
	}
	if (call->message)
		message_free(call->message);
	if (call->peer)
		probe_answered(call->peer);
	list_remove(&call->wait);
	list_remove(&call->link);
	list_push_front(&rpc->call_free, &call->link);
	call->bulk = NULL;
	call->message = NULL;
	call->user = NULL;
	call->peer = NULL;
	call->id += RPC_CALLS_MAX;
	assert(user);
	user->done(user, o->status, o->reply, o->reply_size, o->data_size);
}

static void call_fail(struct rpc *rpc, struct call *call, int status)
{
	const struct outcome o = {.status = status};

	call_finish(rpc, call, &o);
}

static void call_fail_early(struct rpc *rpc, struct call *call, int status)
{
	call->early_status = status;
	list_remove(&call->wait);
	list_push_back(&rpc->call_early, &call->wait);
}

/* --- beginning ---------------------------------------------------------------------- */

static size_t request_size(const struct rpc_call *user)
{
	return sizeof(struct wire_head) + user->cred->group_count * sizeof(le32) +
	       user->body_size +
	       (user->data_size <= WIRE_INLINE_MAX ? user->data_size : 0);
}

/* The server's side needs RPC_REQUESTS_MAX large messages for its replies. */
static struct message *request_message(struct rpc *rpc, size_t size)
{
	if (size <= RPC_SMALL_MAX)
		return message_take(&rpc->small);
	return rpc->large.free_count > RPC_REQUESTS_MAX ? message_take(&rpc->large)
							: NULL;
}

static void request_build(
	struct rpc *rpc, struct call *call, const struct wire_head *extra)
{
	const struct rpc_call *user = call->user;
	struct message *m = call->message;
	struct wire_head head = *extra;
	uint8_t *out = m->bytes + sizeof(head);
	bool is_inline = user->data_size > 0 && user->data_size <= WIRE_INLINE_MAX;

	head.magic = le32_put(WIRE_MAGIC);
	head.version = WIRE_VERSION;
	head.kind = WIRE_REQUEST;
	head.op = le16_put(user->op);
	head.cluster = le64_put(rpc->opt.cluster);
	head.request = le64_put(call->id);
	head.bucket = le16_put(user->bucket);
	head.flags =
		le16_put((user->flags & HEAD_TO_SHARD) | (is_inline ? HEAD_INLINE : 0));
	head.session = le64_put(user->session);
	head.seq = le32_put(user->seq);
	head.slot = le16_put(user->slot);
	head.group_count = le16_put((uint16_t)user->cred->group_count);
	head.uid = le32_put(user->cred->uid);
	head.gid = le32_put(user->cred->gid);
	head.body_size = le32_put(user->body_size);
	head.data_size = le32_put(user->data_size);
	head.data_max = le32_put(user->reply_data_max);
	head.sender = le32_put(rpc->opt.self);
	if (user->data_size && !is_inline)
		head.data_crc = le32_put(crc32c(user->data, user->data_size));
	memcpy(m->bytes, &head, sizeof(head));
	for (uint32_t i = 0; i < user->cred->group_count; i++) {
		le32 group = le32_put(user->cred->groups[i]);
		memcpy(out, &group, sizeof(group));
		out += sizeof(group);
	}
	if (user->body_size)
		memcpy(out, user->body, user->body_size);
	out += user->body_size;
	if (is_inline)
		memcpy(out, user->data, user->data_size);
	m->size_bytes = (uint32_t)request_size(user);
}

/* The last fields, now that they are known, and off it goes. */
static void client_start(struct rpc *rpc, struct call *call)
{
	struct message *m = call->message;
	struct wire_head head;
	uint64_t left_us = call->deadline_us - rpc->now_us;

	memcpy(&head, m->bytes, sizeof(head));
	head.timeout_ms = le32_put((uint32_t)((left_us + 999) / 1000));
	head.data_addr = le64_put(call->region.addr);
	head.data_key = le64_put(call->region.key);
	memcpy(m->bytes, &head, sizeof(head));
	wire_message_seal(m->bytes, m->size_bytes);
	m->call_id = call->id;
	m->expires_us = call->deadline_us;
	call->message = NULL;
	message_send(rpc, call->peer, m);
}

/* 0, or -EAGAIN: no bulk buffer. */
static int call_expose(struct rpc *rpc, struct call *call)
{
	const struct rpc_call *user = call->user;

	if (user->data_size > WIRE_INLINE_MAX)
		return fabric_region_open(rpc->fabric, (void *)(uintptr_t)user->data,
			user->data_size, FABRIC_PEERS_READ, &call->region);
	if (user->reply_data_max <= WIRE_INLINE_MAX)
		return 0;
	if (!call->bulk)
		call->bulk = bulk_take(rpc, call->peer);
	if (!call->bulk)
		return -EAGAIN;
	return fabric_region_open(rpc->fabric, call->bulk->bytes, user->reply_data_max,
		FABRIC_PEERS_WRITE, &call->region);
}

static void call_begin(struct rpc *rpc, struct call *call)
{
	int rc = call_expose(rpc, call);

	if (rc == 0)
		client_start(rpc, call);
	else if (rc == -EAGAIN)
		list_push_back(&rpc->call_wait, &call->wait);
	else
		call_fail_early(rpc, call, rc);
}

static void assert_valid(const struct rpc_call *user)
{
	assert(user->body_size <= WIRE_BODY_MAX && user->data_size <= WIRE_DATA_MAX);
	assert(user->reply_data_max <= WIRE_DATA_MAX);
	assert(user->cred->group_count <= WFS_GROUPS_MAX);
	assert(user->data_size <= WIRE_INLINE_MAX ||
		user->reply_data_max <= WIRE_INLINE_MAX);
}

void rpc_send(struct rpc *rpc, uint32_t shard, struct rpc_call *user, uint64_t map_epoch,
	uint32_t bucket_epoch)
{
	const struct wire_head epochs = {
		.map_epoch = le64_put(map_epoch), .bucket_epoch = le32_put(bucket_epoch)};
	struct call *call;

	assert_valid(user);
	rpc->now_us = env_now_us(rpc->env);
	rpc->stats.calls++;
	if (list_empty(&rpc->call_free)) {
		list_push_back(&rpc->call_refused, &user->link);
		return;
	}
	call = list_first(&rpc->call_free, struct call, link);
	list_remove(&call->link);
	call->user = user;
	call->op = user->op;
	call->shard = shard;
	call->was_sent = false;
	call->deadline_us =
		rpc->now_us + (uint64_t)(user->timeout_ms ? user->timeout_ms : 1) * 1000;
	timer_insert(rpc, call);
	call->peer = rpc_peer(rpc, shard);
	if (!call->peer) {
		call_fail_early(rpc, call, -ECONNRESET);
		return;
	}
	probe_asked(rpc, call->peer);
	call->message = request_message(rpc, request_size(user));
	if (!call->message) {
		call_fail_early(rpc, call, -EAGAIN);
		return;
	}
	request_build(rpc, call, &epochs);
	call_begin(rpc, call);
}

/* --- ending ------------------------------------------------------------------------- */

bool client_wants(struct rpc *rpc, uint64_t id)
{
	return call_of(rpc, id) != NULL;
}

void client_sent(struct rpc *rpc, uint64_t id)
{
	struct call *call = call_of(rpc, id);

	if (call)
		call->was_sent = true;
}

void client_send_failed(struct rpc *rpc, uint64_t id, int status)
{
	struct call *call = call_of(rpc, id);

	if (call)
		call_fail_early(rpc, call, status);
}

void client_peer_dead(struct rpc *rpc, struct peer *peer)
{
	peer->fill = 0;
	list_for_each(it, tmp, &rpc->call_timers)
	{
		struct call *call = container_of(it, struct call, link);
		if (call->peer == peer)
			call_fail_early(rpc, call, -ECONNRESET);
	}
}

void rpc_owners_changed(struct rpc *rpc, uint32_t (*owner)(void *ctx, uint16_t bucket),
	void *ctx)
{
	list_for_each(it, tmp, &rpc->call_timers)
	{
		struct call *call = container_of(it, struct call, link);
		const struct rpc_call *user = call->user;

		if (!(user->flags & HEAD_TO_SHARD) && owner(ctx, user->bucket) != call->shard)
			call_fail_early(rpc, call, -EREMCHG);
	}
}

static bool reply_fits(
	const struct call *call, const struct wire_head *head, const void *body)
{
	uint32_t data_size = le32_get(head->data_size);
	bool is_inline = le16_get(head->flags) & HEAD_INLINE;

	if (le16_get(head->op) != call->op || data_size > call->user->reply_data_max)
		return false;
	if (data_size > 0 && !is_inline && !call->bulk)
		return false;
	return le32_get(head->status) != 0 ||
	       wire_body_check(call->op, body, le32_get(head->body_size), true) == 0;
}

void client_reply(struct rpc *rpc, const struct wire_head *head, struct message *rx)
{
	struct call *call = call_of(rpc, le64_get(head->request));
	const uint8_t *body = rx->bytes + sizeof(*head);
	struct outcome o = {
		.is_answered = true,
		.status = -(int)le32_get(head->status),
		.reply = body,
		.reply_size = le32_get(head->body_size),
		.data_size = le32_get(head->data_size),
	};

	if (!call || call->peer != rx->peer || call->message) {
		rpc->stats.late_replies++;
		return;
	}
	if (!reply_fits(call, head, body)) {
		rpc->stats.bad_messages++;
		o = (struct outcome){.is_answered = true, .status = -EPROTO};
	} else if (o.data_size && !(le16_get(head->flags) & HEAD_INLINE) &&
		   crc32c(call->bulk->bytes, o.data_size) != le32_get(head->data_crc)) {
		rpc->stats.bad_data++;
		log_warn("data from another node is damaged shard=%u op=%s size=%u",
			call->shard, wire_op_name(call->op), o.data_size);
		o = (struct outcome){.is_answered = true, .status = -ECONNRESET};
	} else if (le16_get(head->flags) & HEAD_INLINE) {
		memcpy(call->user->reply_data, body + o.reply_size, o.data_size);
	} else if (o.data_size) {
		memcpy(call->user->reply_data, call->bulk->bytes, o.data_size);
	}
	call_finish(rpc, call, &o);
}

/* --- the loop's part ---------------------------------------------------------------- */

static unsigned finish_early(struct rpc *rpc)
{
	struct list refused;
	struct list early;
	unsigned count = 0;

	list_init(&refused);
	list_init(&early);
	list_splice_back(&refused, &rpc->call_refused);
	list_splice_back(&early, &rpc->call_early);
	while (!list_empty(&early)) {
		struct call *call = list_first(&early, struct call, wait);
		call_fail(rpc, call, call->early_status);
		count++;
	}
	while (!list_empty(&refused)) {
		struct rpc_call *user = list_first(&refused, struct rpc_call, link);
		list_remove(&user->link);
		user->done(user, -EAGAIN, NULL, 0, 0);
		count++;
	}
	return count;
}

static unsigned begin_waiting(struct rpc *rpc)
{
	struct list waiting;
	unsigned count = 0;

	if (list_empty(&rpc->call_wait) || list_empty(&rpc->bulk_free))
		return 0;
	list_init(&waiting);
	list_splice_back(&waiting, &rpc->call_wait);
	while (!list_empty(&waiting)) {
		struct call *call = list_first(&waiting, struct call, wait);
		list_remove(&call->wait);
		call_begin(rpc, call);
		count++;
	}
	return count;
}

unsigned client_poll(struct rpc *rpc)
{
	unsigned count = finish_early(rpc);

	while (!list_empty(&rpc->call_timers)) {
		struct call *call = list_first(&rpc->call_timers, struct call, link);
		if (call->deadline_us > rpc->now_us)
			break;
		rpc->stats.timeouts++;
		call_fail(rpc, call, -ETIMEDOUT);
		count++;
	}
	begin_waiting(rpc);
	return count;
}

uint64_t client_next_us(const struct rpc *rpc)
{
	if (!list_empty(&rpc->call_early) || !list_empty(&rpc->call_refused))
		return 0;
	if (list_empty(&rpc->call_timers))
		return UINT64_MAX;
	return list_first(&rpc->call_timers, struct call, link)->deadline_us;
}

void client_shutdown(struct rpc *rpc)
{
	while (!list_empty(&rpc->call_timers))
		call_fail(rpc, list_first(&rpc->call_timers, struct call, link),
			-ESHUTDOWN);
	while (!list_empty(&rpc->call_refused)) {
		struct rpc_call *user =
			list_first(&rpc->call_refused, struct rpc_call, link);
		list_remove(&user->link);
		user->done(user, -ESHUTDOWN, NULL, 0, 0);
	}
}

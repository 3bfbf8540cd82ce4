/*
 * Requests out of the slots, and replies back in.
 *
 * The memory belongs to the program as much as to us: head and body are copied before
 * anything in them is looked at, nothing is read twice, and the layout is what we made,
 * not what the header says. A program that breaks the protocol loses its session.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/session_impl.h"

#define AGAIN_US 20000u

/* --- the pool ----------------------------------------------------------------------- */

static struct take *take_new(struct session_server *server)
{
	struct take *t;

	if (list_empty(&server->pool))
		return mem_alloc(sizeof(*t));
	t = list_first(&server->pool, struct take, link);
	list_remove(&t->link);
	server->pool_count--;
	return t;
}

static void take_free(struct session_server *server, struct take *t)
{
	if (server->closing || server->pool_count >= TAKE_POOL_MAX) {
		mem_free(t);
		return;
	}
	list_push_front(&server->pool, &t->link);
	server->pool_count++;
}

void take_pool_release(struct session_server *server)
{
	list_for_each(it, tmp, &server->pool) {
		list_remove(it);
		mem_free(container_of(it, struct take, link));
	}
	server->pool_count = 0;
}

/* --- replies ------------------------------------------------------------------------ */

static void slot_reply(struct session *s, uint32_t index, uint16_t op, int status,
	const struct request *req)
{
	struct shm_slot *slot = &s->slots[index];
	uint32_t state = SLOT_SUBMITTED;
	uint32_t body_size = status == 0 && req ? req->reply_size : 0;
	uint32_t data_size = status == 0 && req ? req->reply_data_size : 0;

	slot->head = (struct wire_head){
		.magic = le32_put(WIRE_MAGIC),
		.version = WIRE_VERSION,
		.kind = WIRE_REPLY,
		.op = le16_put(op),
		.status = le32_put((uint32_t)-status),
		.body_size = le32_put(body_size),
		.data_size = le32_put(data_size),
	};
	if (body_size)
		memcpy(slot->body, req->reply, body_size);
	if (!atomic_compare_exchange_strong(&slot->state, &state, SLOT_DONE)) {
		/* Given up; the program looks for free ones by itself. */
		atomic_store(&slot->state, SLOT_FREE);
		return;
	}
	if (atomic_load(&slot->waiting))
		syscall(SYS_futex, &slot->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/*
 * With several copies of everything, a bucket that is just changing hands is asked for
 * again, under the same session, slot and sequence number, till the deadline.
 */
static bool take_postpone(struct take *t, int status)
{
	struct session *s = t->session;
	uint64_t now = env_now_us(s->server->env);

	if ((status != -EREMCHG && status != -ECONNRESET) || s->server->map->copies == 1 ||
		s->state != SESSION_OPEN || now + AGAIN_US >= t->req.deadline_us)
		return false;
	t->again_us = now + AGAIN_US;
	list_push_back(&s->server->again, &t->link);
	return true;
}

static void request_fill(struct session *s, struct take *t);

unsigned takes_again(struct session_server *server)
{
	uint64_t now = list_empty(&server->again) ? 0 : env_now_us(server->env);
	unsigned count = 0;

	while (!list_empty(&server->again)) {
		struct take *t = list_first(&server->again, struct take, link);
		uint64_t deadline_us = t->req.deadline_us;

		if (t->again_us > now)
			break;
		list_remove(&t->link);
		request_fill(t->session, t);
		t->req.deadline_us = deadline_us;
		server->submit(server->ctx, &t->req);
		count++;
	}
	return count;
}

/* The session ends: nobody waits for what was postponed. */
void takes_drop(struct session *s)
{
	list_for_each(it, tmp, &s->server->again)
	{
		struct take *t = container_of(it, struct take, link);

		if (t->session != s)
			continue;
		list_remove(&t->link);
		take_free(s->server, t);
		s->under_way--;
	}
}

static void take_done(struct request *req, int status)
{
	struct take *t = container_of(req, struct take, req);
	struct session *s = t->session;

	if (status < 0 && take_postpone(t, status))
		return;
	if (status == -ECONNRESET)
		status = -EIO;
	if (status == -EREMCHG) /* nobody took it up in all that time */
		status = -ETIMEDOUT;
	s->busy &= ~(1u << t->slot);
	s->under_way--;
	if (status == 0 && s->server->answered && s->state == SESSION_OPEN)
		s->server->answered(s->server->ctx, req);
	/* A session that has ended may go on in the next wfsd, which answers then. */
	if (s->state == SESSION_OPEN)
		slot_reply(s, t->slot, req->op, status, req);
	take_free(s->server, t);
	if (s->state == SESSION_ENDING)
		session_settle(s);
}

/* --- requests ----------------------------------------------------------------------- */

/* The reason why it is not a request, or NULL. */
static const char *head_check(const struct session *s, const struct wire_head *h)
{
	uint16_t op = le16_get(h->op), flags = le16_get(h->flags);
	uint16_t target = le16_get(h->bucket);
	bool act_as = flags & HEAD_ACT_AS;

	if (le32_get(h->magic) != WIRE_MAGIC || h->version != WIRE_VERSION ||
		h->kind != WIRE_REQUEST)
		return "magic";
	if (op == 0 || op >= OP_NODE_FIRST)
		return "op";
	if (flags & ~(HEAD_TO_SHARD | HEAD_ACT_AS))
		return "flags";
	if (act_as && s->identity.cred.uid != 0)
		return "acts-for-another";
	if (le16_get(h->group_count) > (act_as ? WFS_GROUPS_MAX : 0))
		return "groups";
	if (target >= (flags & HEAD_TO_SHARD ? s->server->map->shard_count :
					       s->server->map->bucket_count))
		return "bucket";
	if (le32_get(h->body_size) > WIRE_BODY_MAX ||
		le32_get(h->data_size) > WIRE_DATA_MAX ||
		le32_get(h->data_max) > WIRE_DATA_MAX)
		return "size";
	return NULL;
}

/* After head_check: whom the program acts for. */
static void act_as_take(struct take *t, const struct shm_slot *slot)
{
	const struct wire_head *h = &t->head;
	struct cred *as = &t->act_as;

	*as = (struct cred){
		.uid = le32_get(h->uid),
		.gid = le32_get(h->gid),
		.group_count = le16_get(h->group_count),
	};
	for (uint32_t i = 0; i < as->group_count; i++)
		as->groups[i] = le32_get(slot->groups[i]);
}

static void request_fill(struct session *s, struct take *t)
{
	const struct map *map = s->server->map;
	const struct wire_head *h = &t->head;
	struct request *req = &t->req;
	uint32_t timeout_ms = le32_get(h->timeout_ms);

	if (timeout_ms == 0 || timeout_ms > map->timeout_ms)
		timeout_ms = map->timeout_ms;
	*req = (struct request){
		.op = le16_get(h->op),
		.bucket = le16_get(h->bucket),
		.flags = le16_get(h->flags) & HEAD_TO_SHARD,
		.slot = (uint16_t)t->slot,
		.seq = le32_get(h->seq),
		.map_epoch = map->epoch,
		.session = s->id,
		.deadline_us = env_now_us(s->server->env) + (uint64_t)timeout_ms * 1000,
		.cred = le16_get(h->flags) & HEAD_ACT_AS ? t->act_as : s->identity.cred,
		.body = t->body,
		.body_size = le32_get(h->body_size),
		.data_size = le32_get(h->data_size),
		.data = s->data + (size_t)t->slot * WIRE_DATA_MAX,
		.reply_data = s->data + (size_t)t->slot * WIRE_DATA_MAX,
		.reply_data_max = le32_get(h->data_max),
		.reply = t->reply,
		.done = take_done,
	};
	if (!(req->flags & HEAD_TO_SHARD))
		req->bucket_epoch = map->buckets[req->bucket].epoch;
	list_init(&req->link);
}

/* 0: submitted. -EAGAIN, -ENOMEM: answered so. -EPROTO: the session has ended. */
static int slot_take(struct session *s, uint32_t index)
{
	struct shm_slot *slot = &s->slots[index];
	struct take *t;
	const char *wrong = NULL;

	if (s->busy & (1u << index)) {
		session_end(s, "slot-submitted-twice");
		return -EPROTO;
	}
	t = take_new(s->server);
	if (!t) {
		slot_reply(s, index, 0, -ENOMEM, NULL);
		return -ENOMEM;
	}
	memcpy(&t->head, &slot->head, sizeof(t->head));
	__asm__ volatile("" ::: "memory");
	wrong = head_check(s, &t->head);
	if (!wrong) {
		memcpy(t->body, slot->body, le32_get(t->head.body_size));
		__asm__ volatile("" ::: "memory");
		if (wire_body_check(le16_get(t->head.op), t->body,
			    le32_get(t->head.body_size), false))
			wrong = "body";
		if (le16_get(t->head.flags) & HEAD_ACT_AS)
			act_as_take(t, slot);
	}
	if (wrong) {
		take_free(s->server, t);
		session_end(s, wrong);
		return -EPROTO;
	}
	s->resumed = false;
	t->session = s;
	t->slot = index;
	list_init(&t->link);
	request_fill(s, t);
	s->busy |= 1u << index;
	s->under_way++;
	s->server->submit(s->server->ctx, &t->req);
	return 0;
}

static bool identity_current(struct session *s)
{
	uint32_t generation = atomic_load(&s->header->cred_generation);
	int rc;

	if (generation == s->cred_generation)
		return true;
	rc = identity_refresh(&s->identity);
	if (rc) {
		session_end(s, rc == -EPERM ? "identity-out-of-reach" : "identity-unknown");
		return false;
	}
	s->cred_generation = generation;
	return true;
}

unsigned session_take(struct session *s)
{
	uint64_t submitted;
	unsigned count = 0;

	submitted = atomic_exchange(&s->header->submitted, 0);
	if (submitted >> SHM_SLOT_COUNT) {
		session_end(s, "submitted");
		return 0;
	}
	if (!identity_current(s))
		return 0;
	/* submit may answer at once, and its owner even end the server's turn; the session
	 * outlives that for as long as it is counted here. */
	s->under_way++;
	while (submitted && s->state == SESSION_OPEN) {
		uint32_t index = (uint32_t)__builtin_ctzll(submitted);

		submitted &= submitted - 1;
		if (slot_take(s, index) == 0)
			count++;
	}
	s->under_way--;
	if (s->state == SESSION_ENDING)
		session_settle(s);
	return count;
}

/*
 * Calls over slots: take one, submit, wait.
 *
 * Waiting is adaptive. Per kind of call the client keeps an estimate of how long replies
 * take; when that is short, and the machine has more than one CPU, it spins for SPIN_NS at
 * most before it sleeps on the slot's state, and gives way to whoever else wants the CPU
 * after each short round: a wake-up across CPUs costs more than most calls take. Where
 * others then run for long, no CPU is idle, and it does not spin for a while. A sleep
 * makes every reply look slow, so that every PROBE_PERIOD-th call spins whatever the
 * estimate, and a good result is believed at once.
 *
 * A sleeper wakes every POLL_NS to see whether wfsd is still there, and gives up SLACK_MS
 * after the deadline that wfsd itself keeps. It then abandons the slot, which wfsd turns
 * FREE in its own time; the allocator finds it there (slot_reap).
 *
 * When wfsd has died and the client attached again (ride.c), the slot is in a memory that
 * nobody serves any more. Its owner moves it to the current one and submits the same call
 * again: head and body from private copies, since a reply may have been half written over
 * them, and the data from the old memory, where a call that sends data gets none back.
 *
 * Wake-ups cannot be lost: we set `submitted` and then look at `asleep`, wfsd sets
 * `asleep` and then looks at `submitted`; we set `waiting` and then let the kernel compare
 * `state`, wfsd sets `state` and then looks at `waiting`. All sequentially consistent.
 */
#include <errno.h>

#include "shim/client/internal.h"

#define SPIN_NS        250000u
#define SPIN_EXPECT_NS 500000u
#define CROWDED_NS     150000u   /* a yield that long: others need the CPU */
#define NO_SPIN_NS     20000000u /* then sleep at once for a while */
#define PROBE_NS       100000u
#define PROBE_PERIOD   64u
#define POLL_NS        200000000u
#define SLACK_MS       1000u
#define STARVE_NS      2000000u
#define LARGE_SIZE     32768u

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield");
#endif
}

uint64_t client_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int client_check(struct client *c)
{
	if (!atomic_load_explicit(c->alive, memory_order_relaxed) ||
		atomic_load_explicit(&c->dead, memory_order_relaxed))
		return -ENOTCONN;
	return 0;
}

int client_stands(struct client *c)
{
	char byte;
	long rc = sys_recv(atomic_load(&c->socket), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (rc == -EAGAIN || rc == -EINTR)
		return 1;
	/* wfsd never speaks after the welcome. */
	return rc == -EBADF || rc == -ENOTSOCK ? (int)rc : 0;
}

int client_probe(struct client *c)
{
	int rc = client_check(c);

	if (rc)
		return rc;
	return client_stands(c) == 1 ? 0 : client_ride(c);
}

/* --- memories ----------------------------------------------------------------------- */

struct memory *memory_ref(struct client *c)
{
	for (;;) {
		struct memory *m = atomic_load(&c->current);
		uint32_t users = atomic_load(&m->users);

		while (users && !(users & MEMORY_EMPTYING))
			if (atomic_compare_exchange_weak(&m->users, &users, users + 1))
				return m;
	}
}

void memory_unref(struct memory *m)
{
	uint32_t users = atomic_load(&m->users), next;

	do
		next = users == 1 ? MEMORY_EMPTYING : users - 1;
	while (!atomic_compare_exchange_weak(&m->users, &users, next));
	if (next != MEMORY_EMPTYING)
		return;
	sys_madvise(m->header, SHM_TOTAL_SIZE, MADV_REMOVE);
	atomic_store(&m->users, 0);
}

static struct shm_slot *slot_at(struct client *c, int slot)
{
	return memory_slot(atomic_load(&c->scratch[slot].at), slot);
}

/* --- taking ------------------------------------------------------------------------- */

static void slots_freed(struct client *c)
{
	atomic_fetch_add(&c->freed, 1);
	if (atomic_load(&c->starving))
		sys_futex_wake(&c->freed, 1);
}

void slot_release(struct client *c, int slot)
{
	atomic_store(&slot_at(c, slot)->state, SLOT_FREE);
	memory_unref(atomic_load(&c->scratch[slot].at));
	atomic_fetch_and(&c->busy, ~(1u << slot));
	slots_freed(c);
}

/* Abandoned slots that wfsd has freed meanwhile are free for us, too; and those whose wfsd
 * is gone. */
void slot_reap(struct client *c)
{
	uint32_t abandoned = atomic_load(&c->abandoned);

	while (abandoned) {
		int slot = __builtin_ctz(abandoned);
		uint32_t bit = 1u << slot;
		struct memory *m = atomic_load(&c->scratch[slot].at);

		abandoned &= ~bit;
		if (m == atomic_load(&c->current) &&
			atomic_load(&memory_slot(m, slot)->state) != SLOT_FREE)
			continue;
		/* Whoever clears the bit is the one to free it. */
		if (atomic_fetch_and(&c->abandoned, ~bit) & bit) {
			memory_unref(m);
			atomic_fetch_and(&c->busy, ~bit);
			slots_freed(c);
		}
	}
}

static int slot_try(struct client *c)
{
	uint32_t busy;

	if (atomic_load(&c->abandoned))
		slot_reap(c);
	busy = atomic_load(&c->busy);
	while (busy != UINT32_MAX) {
		int slot = __builtin_ctz(~busy);

		if (atomic_compare_exchange_weak(&c->busy, &busy, busy | 1u << slot)) {
			atomic_store(&c->scratch[slot].at, memory_ref(c));
			return slot;
		}
	}
	return SLOT_NONE;
}

/*
 * A slot that was abandoned to a wfsd that is gone comes back with the next one. Who
 * persists must not lose all of them that way: after the first time of waiting none is
 * taken before wfsd is there.
 */
static int take_check(struct client *c)
{
	uint64_t lost_ns = atomic_load(&c->lost_ns);
	int rc = client_check(c);

	if (rc || !lost_ns || client_now_ns() - lost_ns <= c->timeout_ms * 1000000ull)
		return rc;
	return client_probe(c);
}

int slot_take(struct client *c, bool wait)
{
	uint64_t start_ns = 0;
	int slot, rc = take_check(c);

	if (rc)
		return rc == -ENOTCONN && !wait ? SLOT_NONE : rc;
	for (;;) {
		uint32_t freed = atomic_load(&c->freed);
		uint64_t now_ns;

		slot = slot_try(c);
		if (slot >= 0 || !wait)
			return slot;
		now_ns = client_now_ns();
		if (start_ns < atomic_load(&c->attached_ns) || !start_ns)
			start_ns = now_ns;
		if (now_ns > start_ns + (c->timeout_ms + SLACK_MS) * 1000000ull)
			return -ETIMEDOUT;
		atomic_fetch_add(&c->starving, 1);
		/* wfsd frees abandoned slots without a word. */
		sys_futex_wait(&c->freed, freed,
			atomic_load(&c->abandoned) ? STARVE_NS : POLL_NS);
		atomic_fetch_sub(&c->starving, 1);
		rc = take_check(c);
		if (rc)
			return rc;
	}
}

/* --- submitting --------------------------------------------------------------------- */

void event_kick(struct client *c)
{
	uint64_t one = 1;

	/* client_move_fds waits until nobody is between the load and the write. */
	atomic_fetch_add(&c->event_users, 1);
	sys_write(atomic_load(&c->event), &one, sizeof(one));
	atomic_fetch_sub(&c->event_users, 1);
}

/* To the current memory, with the data to be sent. */
static struct memory *slot_move(struct client *c, int slot, uint32_t data_size)
{
	struct scratch *sc = &c->scratch[slot];
	struct memory *from = atomic_load(&sc->at), *to;

	if (from == atomic_load(&c->current))
		return from;
	to = memory_ref(c);
	if (from != to && data_size)
		memcpy(memory_data(to, slot), memory_data(from, slot), data_size);
	atomic_store(&sc->at, to);
	memory_unref(from);
	return to;
}

/* Within the shim this is memory that each thread has from its start. */
static _Thread_local const struct cred *acting __attribute__((tls_model("initial-exec")));

void client_act_as(const struct cred *cred)
{
	acting = cred;
}

static void slot_act_as(struct shm_slot *s, const struct cred *as)
{
	s->head.flags = le16_put(le16_get(s->head.flags) | HEAD_ACT_AS);
	s->head.uid = le32_put(as->uid);
	s->head.gid = le32_put(as->gid);
	s->head.group_count = le16_put((uint16_t)as->group_count);
	for (uint32_t i = 0; i < as->group_count; i++)
		s->groups[i] = le32_put(as->groups[i]);
}

/* Whether for the first time or not. */
static void slot_put(struct client *c, int slot, const struct call *call)
{
	struct scratch *sc = &c->scratch[slot];
	struct memory *to = slot_move(c, slot, call->data_size);
	struct shm_slot *s = memory_slot(to, slot);
	uint32_t seq = call->seq;

	s->head = (struct wire_head){
		.magic = le32_put(WIRE_MAGIC),
		.version = WIRE_VERSION,
		.kind = WIRE_REQUEST,
		.op = le16_put(call->op),
		.request = le64_put((uint64_t)seq << 32 | (uint32_t)slot),
		.bucket = le16_put(call->target),
		.flags = le16_put(call->to_shard ? HEAD_TO_SHARD : 0),
		.session = le64_put(c->session),
		.seq = le32_put(seq),
		.slot = le16_put((uint16_t)slot),
		.timeout_ms = le32_put(call->timeout_ms ? call->timeout_ms : c->timeout_ms),
		.body_size = le32_put(call->body_size),
		.data_size = le32_put(call->data_size),
		.data_max = le32_put(call->data_max),
	};
	if (acting)
		slot_act_as(s, acting);
	memcpy(s->body, sc->body, call->body_size);
	atomic_store_explicit(&s->waiting, 0, memory_order_relaxed);
	atomic_store(&s->state, SLOT_SUBMITTED);
	atomic_fetch_or(&to->header->submitted, (uint64_t)1 << slot);
	if (atomic_load(&to->header->asleep))
		event_kick(c);
}

void slot_submit(struct client *c, int slot, struct call *call)
{
	if (call->seq == 0)
		call->seq = ++c->scratch[slot].seq;
	call->start_ns = client_now_ns();
	slot_put(c, slot, call);
}

void slot_leave(struct client *c, int slot)
{
	struct shm_slot *s = slot_at(c, slot);
	uint32_t state = SLOT_SUBMITTED;

	/* First ours, then wfsd's: the reap looks at the state of marked slots only. */
	if (!atomic_compare_exchange_strong(&s->state, &state, SLOT_ABANDONED)) {
		slot_release(c, slot);
		return;
	}
	atomic_fetch_or(&c->abandoned, 1u << slot);
}

/* --- waiting ------------------------------------------------------------------------ */

static _Atomic uint32_t *expectation(struct client *c, const struct call *call)
{
	bool large = call->data_size > LARGE_SIZE || call->data_max > LARGE_SIZE;
	unsigned op = call->op % OP_NODE_FIRST;

	/* Room for data is always offered to some ops; what comes back is small. */
	if (call->op != OP_READ && call->op != OP_WRITE)
		large = false;
	return &c->expect_ns[2 * op + (large ? 1 : 0)];
}

static void expectation_update(_Atomic uint32_t *expect_ns, uint64_t took_ns, bool caught)
{
	uint64_t before = atomic_load_explicit(expect_ns, memory_order_relaxed);
	uint64_t after;

	if (took_ns > 1000000000u)
		took_ns = 1000000000u;
	after = caught && before > SPIN_EXPECT_NS ? took_ns : (before * 7 + took_ns) / 8;
	atomic_store_explicit(expect_ns, (uint32_t)after, memory_order_relaxed);
}

static bool slot_done(struct shm_slot *s)
{
	return atomic_load_explicit(&s->state, memory_order_acquire) == SLOT_DONE;
}

static bool slot_spin(struct client *c, struct shm_slot *s, const struct call *call)
{
	uint32_t expect = atomic_load_explicit(expectation(c, call), memory_order_relaxed);
	uint64_t until_ns = call->start_ns + SPIN_NS, now_ns = call->start_ns, before_ns;

	if (!c->may_spin ||
		now_ns < atomic_load_explicit(&c->no_spin_until_ns, memory_order_relaxed))
		return slot_done(s);
	if (expect > SPIN_EXPECT_NS) {
		if (atomic_fetch_add_explicit(&c->probe, 1, memory_order_relaxed) %
				PROBE_PERIOD > 1)
			return slot_done(s);
		until_ns = call->start_ns + PROBE_NS;
	}
	do {
		for (int i = 0; i < 16; i++) {
			if (slot_done(s))
				return true;
			cpu_relax();
		}
		before_ns = client_now_ns();
		sys_sched_yield();
		now_ns = client_now_ns();
		if (now_ns - before_ns > CROWDED_NS)
			atomic_store_explicit(&c->no_spin_until_ns, now_ns + NO_SPIN_NS,
				memory_order_relaxed);
	} while (now_ns < until_ns);
	return slot_done(s);
}

/* See that wfsd is there, and has the call. */
static int slot_follow(struct client *c, int slot, struct call *call)
{
	int rc = client_probe(c);

	if (rc || atomic_load(&c->scratch[slot].at) == atomic_load(&c->current) ||
		slot_done(slot_at(c, slot)))
		return rc;
	call->start_ns = client_now_ns();
	slot_put(c, slot, call);
	atomic_store(&slot_at(c, slot)->waiting, 1);
	return 0;
}

static int slot_sleep(struct client *c, int slot, struct call *call)
{
	struct shm_slot *s = slot_at(c, slot);
	uint32_t timeout_ms = call->timeout_ms && call->timeout_ms < c->timeout_ms ?
		call->timeout_ms : c->timeout_ms;
	uint64_t limit_ns = (timeout_ms + SLACK_MS) * 1000000ull;
	int rc;

	atomic_store(&s->waiting, 1);
	/* Dearer than nothing, cheaper than a sleep: to know at once, not after POLL_NS. */
	rc = slot_done(s) ? 0 : slot_follow(c, slot, call);
	while (!slot_done(s = slot_at(c, slot))) {
		uint64_t spent_ns = client_now_ns() - call->start_ns;
		uint64_t left_ns = spent_ns < limit_ns ? limit_ns - spent_ns : 0;

		if (!left_ns && !rc)
			rc = -ETIMEDOUT;
		if (rc)
			return rc;
		/* A signal: its handler has run by now; regular files do not interrupt. */
		if (sys_futex_wait(&s->state, SLOT_SUBMITTED,
			    left_ns < POLL_NS ? left_ns : POLL_NS) == -ETIMEDOUT ||
			atomic_load(&c->scratch[slot].at) != atomic_load(&c->current))
			rc = slot_done(s) ? 0 : slot_follow(c, slot, call);
		if (!rc && !slot_done(slot_at(c, slot)))
			rc = client_check(c);
	}
	return 0;
}

/* The reply, copied before it is looked at. */
static int slot_reply(struct client *c, int slot, struct call *call)
{
	struct shm_slot *s = slot_at(c, slot);
	struct wire_head head = s->head;
	uint8_t *reply = c->scratch[slot].reply;
	uint32_t status = le32_get(head.status);

	call->reply_size = 0;
	call->reply_data_size = 0;
	if (status)
		return status < 4096 ? -(int)status : -EPROTO;
	if (le32_get(head.body_size) > WIRE_BODY_MAX ||
		le32_get(head.data_size) > call->data_max)
		return -EPROTO;
	call->reply_size = le32_get(head.body_size);
	call->reply_data_size = le32_get(head.data_size);
	memcpy(reply, s->body, call->reply_size);
	return wire_body_check(call->op, reply, call->reply_size, true) ? -EPROTO : 0;
}

int slot_wait(struct client *c, int slot, struct call *call, bool *lost_out)
{
	bool caught = slot_spin(c, slot_at(c, slot), call);
	int rc = caught ? 0 : slot_sleep(c, slot, call);

	*lost_out = false;
	if (rc) {
		uint32_t state = SLOT_SUBMITTED;

		*lost_out = atomic_compare_exchange_strong(&slot_at(c, slot)->state, &state,
			SLOT_ABANDONED);
		if (*lost_out) {
			atomic_fetch_or(&c->abandoned, 1u << slot);
			return rc;
		}
	}
	expectation_update(expectation(c, call), client_now_ns() - call->start_ns, caught);
	return slot_reply(c, slot, call);
}

int client_ask(struct client *c, uint16_t op, uint16_t bucket, const void *body,
	uint32_t body_size, void *reply, uint32_t reply_size)
{
	struct call call = {.op = op, .target = bucket, .body_size = body_size};
	bool lost;
	int rc, slot = slot_take(c, true);

	if (slot < 0)
		return slot;
	memcpy(slot_body(c, slot), body, body_size);
	slot_submit(c, slot, &call);
	rc = slot_wait(c, slot, &call, &lost);
	if (!rc && reply) {
		if (call.reply_size >= reply_size)
			memcpy(reply, c->scratch[slot].reply, reply_size);
		else
			rc = -EPROTO;
	}
	if (!lost)
		slot_release(c, slot);
	return rc;
}

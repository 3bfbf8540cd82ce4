/*
 * Riding through a restart of wfsd: the program sees a pause, not an error.
 *
 * Whoever notices that the connection has ended comes here (client_probe). One thread at a
 * time tries to attach again, with its signals blocked, so that no handler waits for what
 * it interrupted; between the tries nothing is held, and handlers run. When it succeeds,
 * the new socket and eventfd take the numbers of the old ones (dup3), so that who has
 * reserved those need not know, the new memory becomes the current one, and all sleepers
 * are woken. Each moves its own slot over and submits it again (slot.c): nobody touches
 * what is another thread's.
 *
 *   attached --client_stands == 0--> lost --client_ride--> attached
 *                                      `-- timeout_ms, or refused for good --> dead
 *
 * A client that persists stays lost instead, and every call that fails has tried once.
 *
 * A call that was under way has the full time again after it.
 */
#include <errno.h>
#include <limits.h>

#include "shim/client/internal.h"

#define PAUSE_NS 20000000u

static struct memory *memory_free(struct client *c)
{
	for (uint32_t i = 0; i < MEMORY_COUNT; i++)
		if (atomic_load(&c->memories[i].users) == 0)
			return &c->memories[i];
	return NULL;
}

static void sleepers_wake(struct client *c, const struct memory *old)
{
	for (int i = 0; i < (int)SHM_SLOT_COUNT; i++)
		sys_futex_wake(&memory_slot(old, i)->state, INT_MAX);
	atomic_fetch_add(&c->attachment, 1);
	sys_futex_wake(&c->attachment, INT_MAX);
}

/* The session has a wfsd again, in m. */
static void ride_arrive(struct client *c, struct memory *m, uint32_t cred_changes)
{
	struct memory *old = atomic_load(&c->current);

	attach_owners(c, m->header);
	atomic_store(&c->attached_ns, client_now_ns());
	atomic_store(&m->users, 1);
	atomic_store(&c->current, m);
	if (atomic_load(&c->cred_changes) != cred_changes)
		atomic_fetch_add(&m->header->cred_generation, 1);
	sleepers_wake(c, old);
	memory_unref(old);
	slot_reap(c);
	event_kick(c);
}

static int ride_try(struct client *c)
{
	uint32_t cred_changes = atomic_load(&c->cred_changes);
	struct memory *m = memory_free(c);
	int socket = -1, event = -1, rc;

	if (!m)
		return -EAGAIN;
	rc = attach_connect(c, m, &socket, &event);
	if (!rc)
		rc = (int)sys_dup3(event, atomic_load(&c->event), O_CLOEXEC);
	if (rc >= 0)
		rc = (int)sys_dup3(socket, atomic_load(&c->socket), O_CLOEXEC);
	if (event >= 0)
		sys_close(event);
	if (socket >= 0)
		sys_close(socket);
	if (rc < 0)
		return rc;
	ride_arrive(c, m, cred_changes);
	return 0;
}

/* One try, unless another thread is at it. 1: this one has attached; 0: it stands. */
static int ride_once(struct client *c)
{
	uint64_t signals, never = 0;
	uint32_t riding = 0;
	int rc = -EAGAIN;

	sys_signals_block(&signals);
	if (atomic_compare_exchange_strong(&c->riding, &riding, 1)) {
		rc = client_stands(c);
		if (rc == 0) {
			atomic_compare_exchange_strong(&c->lost_ns, &never,
				client_now_ns());
			rc = ride_try(c);
			rc = rc ? rc : 2;
		}
		if (rc > 0)
			atomic_store(&c->lost_ns, 0);
		atomic_store(&c->riding, 0);
		if (rc > 0)
			rc--;
	}
	sys_signals_restore(&signals);
	return rc;
}

static bool hopeless(int rc)
{
	return rc == -EPROTO || rc == -ENODEV || rc == -ECONNABORTED || rc == -EBADF ||
	       rc == -ENOTSOCK;
}

static int ride_over(struct client *c)
{
	atomic_store(&c->dead, true);
	return -ENOTCONN;
}

int client_ride(struct client *c)
{
	if (atomic_load(&c->fail_fast))
		return ride_over(c);
	for (;;) {
		uint32_t attachment = atomic_load(&c->attachment);
		uint64_t lost_ns;
		int rc = client_check(c);

		/* A child that shares our memory, but not our descriptors. */
		if (!rc && sys_getpid() != c->pid)
			rc = -ENOTCONN;
		if (rc)
			return rc;
		rc = ride_once(c);
		if (rc == 1)
			opens_declare_all(c);
		if (rc >= 0)
			return 0;
		lost_ns = atomic_load(&c->lost_ns);
		if (hopeless(rc))
			return ride_over(c);
		if (lost_ns && client_now_ns() - lost_ns > c->timeout_ms * 1000000ull)
			return atomic_load(&c->persists) ? -ENOTCONN : ride_over(c);
		sys_futex_wait(&c->attachment, attachment, PAUSE_NS);
	}
}

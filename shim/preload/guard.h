/*
 * A lock for code that signal handlers may enter: who holds it already (a handler that
 * interrupted the holder) goes on without it instead of waiting for itself. The owner is
 * known by the address of its errno, which is unique to a thread and costs no call. In a
 * forked child all guards are set to zero (see fs_check_fork).
 */
#ifndef WFS_PRELOAD_GUARD_H
#define WFS_PRELOAD_GUARD_H

#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "shim/preload/raw.h"

struct guard {
	_Atomic uint32_t owner;
	_Atomic uint32_t waiters;
};

static inline uint32_t guard_self(void)
{
	return (uint32_t)((uintptr_t)&errno >> 2) | 1u;
}

/* True: locked, to be given back by guard_unlock. False: held further up this thread. */
static inline bool guard_lock(struct guard *g)
{
	uint32_t self = guard_self();

	for (unsigned i = 0;; i++) {
		struct timespec pause = {0, 1000000};
		uint32_t seen = 0;

		if (__atomic_compare_exchange_n((uint32_t *)&g->owner, &seen, self, false,
			    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
		if (seen == self)
			return false;
		if (i < 64)
			continue;
		g->waiters++;
		(void)raw(SYS_futex, &g->owner, FUTEX_WAIT_PRIVATE, seen, &pause);
		g->waiters--;
	}
}

static inline void guard_unlock(struct guard *g, bool locked)
{
	if (!locked)
		return;
	g->owner = 0;
	if (g->waiters)
		(void)raw(SYS_futex, &g->owner, FUTEX_WAKE_PRIVATE, 1);
}

#endif

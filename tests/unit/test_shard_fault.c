/*
 * The fault matrix: the nth allocation, device I/O or index call fails, for every n until
 * none does. The operation is done or an error is told; what was acknowledged is there
 * after a restart, and nothing leaks or stays locked.
 *
 * A failed write of the log makes a shard answer -EIO until it is opened again.
 */
#include "tests/unit/shard_scenarios.h"

static struct wop op;

#define N_MAX 3000u

enum fault { FAULT_MEMORY, FAULT_DEVICE, FAULT_INDEX };

static const char *const fault_names[] = {"memory", "device", "index"};

static void arm(enum fault fault, uint32_t shard, unsigned n)
{
	switch (fault) {
	case FAULT_MEMORY: mem_fault_arm(n); break;
	case FAULT_DEVICE: device_sim_faults(w->shards[shard].disk)->fail_nth = n; break;
	case FAULT_INDEX: kv_model_fault_arm(w->shards[shard].kvdisk, n);
	}
}

static bool fired(enum fault fault, uint32_t shard)
{
	switch (fault) {
	case FAULT_MEMORY: return mem_fault_fired();
	case FAULT_DEVICE: return device_sim_fault_fired(w->shards[shard].disk);
	default: return kv_model_fault_fired(w->shards[shard].kvdisk);
	}
}

/* Run the operation and what follows from it, until all is quiet or a store has failed.
 */
static void run_with_fault(void)
{
	uint64_t until;

	wop_begin(&op);
	wop_wait(&op);
	until = env_now_us(&w->env.env) + 3000000;
	while (env_now_us(&w->env.env) < until)
		world_turn(w);
}

static bool store_failed(void)
{
	bool failed = false;

	for (uint32_t i = 0; i < SHARDS; i++)
		if (store_error(w->shards[i].store)) {
			world_restart(w, i);
			failed = true;
		}
	return failed;
}

/* False when no fault was left to happen. */
static bool case_run(
	const struct scenario *sc, enum fault fault, uint32_t shard, unsigned n)
{
	enum state state;
	bool hit;

	prepare(sc);
	sc->op(&op);
	arm(fault, shard, n);
	run_with_fault();
	hit = fired(fault, shard);
	arm(fault, shard, 0);
	if (getenv("WORLD_TRACE"))
		fprintf(stderr, "%s: %s %u of shard %u: %d\n", sc->name,
			fault_names[fault], n, shard, op.status);
	cr_assert(hit || op.status == 0);
	cr_assert(op.status == 0 || op.status == -EIO || op.status == -ENOMEM ||
			  op.status == -ETIMEDOUT,
		"%s: error %d after %s %u of shard %u", sc->name, op.status,
		fault_names[fault], n, shard);
	store_failed();
	world_check(w, CHECK_STRAYS | CHECK_ORPHANS);
	state = sc->state();
	cr_assert(op.status != 0 || state == AFTER,
		"%s: not done after %s %u of shard %u", sc->name, fault_names[fault], n,
		shard);
	for (uint32_t i = 0; i < SHARDS; i++)
		world_restart(w, i);
	cr_assert(sc->state() == state, "%s: lost in the restart", sc->name);
	if (state == BEFORE) {
		sc->op(&op);
		cr_assert_eq(wop_run(&op), 0);
		cr_assert_eq(sc->state(), AFTER);
	}
	finish();
	return hit;
}

static void matrix(const struct scenario *sc, enum fault fault)
{
	seed = 1;
	for (uint32_t shard = 0; shard < (fault == FAULT_MEMORY ? 1 : SHARDS); shard++) {
		unsigned n = 1;

		while (case_run(sc, fault, shard, n))
			cr_assert_lt(++n, N_MAX);
	}
}

#define MATRIX(number)                                                                   \
	Test(shard_fault, memory_##number)                                               \
	{                                                                                \
		matrix(&scenarios[number], FAULT_MEMORY);                                \
	}                                                                                \
	Test(shard_fault, device_##number)                                               \
	{                                                                                \
		matrix(&scenarios[number], FAULT_DEVICE);                                \
	}                                                                                \
	Test(shard_fault, index_##number)                                                \
	{                                                                                \
		matrix(&scenarios[number], FAULT_INDEX);                                 \
	}

MATRIX(0)
MATRIX(1)
MATRIX(2)
MATRIX(3)
MATRIX(4)
MATRIX(5)
MATRIX(6)
MATRIX(7)
MATRIX(8)
MATRIX(9)
MATRIX(10)
MATRIX(11)
MATRIX(12)
MATRIX(13)

/*
 * The crash matrix: an operation over several shards, cut at every write and after every
 * message on each of them. Afterwards it has wholly happened or not at all; if it was
 * acknowledged it has; nothing is locked, and everything fits together.
 */
#include "tests/unit/shard_scenarios.h"

static struct wop op;

#define PATIENCE 400000u

struct counts {
	uint64_t writes[SHARDS];
	uint64_t messages[SHARDS];
};

static void counts_take(struct counts *c)
{
	for (uint32_t i = 0; i < SHARDS; i++) {
		c->writes[i] = device_sim_write_count(w->shards[i].disk);
		c->messages[i] = w->shards[i].message_count;
	}
}

static struct counts measure(const struct scenario *sc)
{
	struct counts before, after;

	prepare(sc);
	counts_take(&before);
	sc->op(&op);
	cr_assert_eq(wop_run(&op), 0);
	world_quiesce(w);
	counts_take(&after);
	cr_assert_eq(sc->state(), AFTER);
	for (uint32_t i = 0; i < SHARDS; i++) {
		after.writes[i] -= before.writes[i];
		after.messages[i] -= before.messages[i];
	}
	finish();
	return after;
}

struct blow {
	uint32_t shard;
	uint32_t other; /* dies at the same time; SHARDS: none */
	bool late;      /* they come back when the client has its answer */
	unsigned at_write;
	unsigned at_message;
};

static void restart_dead(void)
{
	for (uint32_t i = 0; i < SHARDS; i++)
		if (!w->shards[i].alive)
			world_restart(w, i);
}

/* The blow falls while the operation runs or in its wake. */
static void strike(const struct blow *b)
{
	struct world_shard *ws = &w->shards[b->shard];
	uint64_t start_us = env_now_us(&w->env.env);
	bool struck = false;

	device_sim_faults(ws->disk)->crash_at_write = b->at_write;
	ws->kill_at_message = b->at_message ? ws->message_count + b->at_message : 0;
	wop_begin(&op);
	while (!op.finished ||
		(!struck && env_now_us(&w->env.env) - start_us < PATIENCE)) {
		world_turn(w);
		if (!struck && !ws->alive) {
			struck = true;
			if (b->other < SHARDS)
				world_kill(w, b->other);
		}
		if (struck && !b->late)
			restart_dead();
	}
	memset(device_sim_faults(ws->disk), 0, sizeof(struct device_sim_faults));
	ws->kill_at_message = 0;
	restart_dead();
}

static void case_run(const struct scenario *sc, const struct blow *b)
{
	enum state state;

	prepare(sc);
	sc->op(&op);
	strike(b);
	world_check(w, CHECK_STRAYS);
	state = sc->state();
	cr_assert(op.status != 0 || state == AFTER,
		"acknowledged and lost: shard %u other %u late %d write %u message %u "
		"seed %llu",
		b->shard, b->other, b->late, b->at_write, b->at_message,
		(unsigned long long)seed);
	cr_assert(op.status == 0 || op.status == -EIO || op.status == -ETIMEDOUT ||
			  (op.status == -ENOENT && state == AFTER) ||
			  (op.status == -EEXIST && state == AFTER),
		"error %d: shard %u other %u late %d write %u message %u seed %llu",
		op.status, b->shard, b->other, b->late, b->at_write, b->at_message,
		(unsigned long long)seed);
	/* Nothing stands in the way of doing it (again). */
	if (state == BEFORE) {
		sc->op(&op);
		cr_assert_eq(wop_run(&op), 0);
		cr_assert_eq(sc->state(), AFTER);
	}
	finish();
}

static void matrix(const struct scenario *sc)
{
	for (seed = 1; seed <= 2; seed++) {
		struct counts c = measure(sc);

		for (uint32_t i = 0; i < SHARDS; i++) {
			uint64_t both = c.writes[i] + c.messages[i];

			for (uint64_t k = 0; k < 2 * both; k++) {
				uint64_t n = k / 2;
				struct blow b = {.shard = i,
					.late = k % 2,
					.other = (uint32_t)((n + i) % (SHARDS + 1))};

				if (b.other == i)
					b.other = SHARDS;
				if (n < c.writes[i])
					b.at_write = (unsigned)n + 1;
				else
					b.at_message = (unsigned)(n - c.writes[i]) + 1;
				case_run(sc, &b);
				if (b.other == SHARDS)
					continue;
				b.other = SHARDS;
				case_run(sc, &b);
			}
		}
	}
}

#define MATRIX(number)                                                                   \
	Test(shard_crash, scenario_##number)                                             \
	{                                                                                \
		matrix(&scenarios[number]);                                              \
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

/* The record that leaves a purge is lost: then nothing may have been purged. */
Test(shard_crash, purges_wait_for_their_record)
{
	for (seed = 100; seed < 115; seed++) {
		case_run(&scenarios[9], &(struct blow){.shard = 1,
						.other = SHARDS,
						.late = true,
						.at_write = 1});
		case_run(&scenarios[10], &(struct blow){.shard = 1,
						 .other = SHARDS,
						 .late = true,
						 .at_write = 1});
	}
}

Test(shard_crash, all_are_run)
{
	cr_assert_eq(SCENARIO_COUNT, 14);
}

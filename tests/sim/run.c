/*
 * One seed: a cluster is made, clients begin, the nemesis acts for a while, then
 * everything is put right, and what the clients saw is judged.
 *
 * After every turn: no two shards serve one bucket, each by its own clock and lease.
 * After the faults: every operation ends and every bucket has all its members again,
 * within bounded simulated time; fsck; all copies are equal; and all that was seen fits
 * one order of events (names.c, cells.c, logs.c).
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"

#define BEGIN_US 30000000u
#define HEAL_US  240000000u

struct sim sim;
#ifdef WFS_SIM_MUTATIONS
enum sim_mutation sim_mutation;
#endif

uint64_t sim_random(void)
{
	uint64_t z = (sim.state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t bound)
{
	return sim_random() % bound;
}

bool sim_chance(unsigned percent)
{
	return sim_below(100) < percent;
}

void trace(const char *format, ...)
{
	uint64_t now = world_now_us(&sim.w);
	va_list args;

	if (!sim.loud)
		return;
	printf("%4" PRIu64 ".%06" PRIu64 " ", now / 1000000, now % 1000000);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static bool serves(const struct world_shard *ws, uint32_t bucket)
{
	return ws->alive && ws->shard->buckets[bucket].role == ROLE_PRIMARY &&
	       world_shard_now_us(ws) < ws->shard->lease_until_us;
}

static void shard_trace(const struct world_shard *ws)
{
	if (!ws->alive)
		return;
	trace("shard %u: clock %" PRIu64 ", lease until %" PRIu64 ", log error %d, store "
	      "away %d deaf %d, device %x in the map %x, wants turns at %" PRIu64
	      " and %" PRIu64,
		ws->number, world_shard_now_us(ws), ws->shard->lease_until_us,
		store_error(ws->store), ws->map_store.away, ws->map_store.lose_answers,
		ws->device_uuid[0], ws->map->shards[ws->number].device_uuid[0],
		ws->next_us, ws->keeper_us);
}

static void bucket_trace(uint32_t bucket)
{
	static const char *const roles[] = {
		"none", "backup", "taking", "primary", "leaving"};
	static const char *const stages[] = {"joining", "joined", "live", "copying"};
	struct world *w = &sim.w;

	for (uint32_t i = 0; i < w->shard_count; i++) {
		const struct bucket_state *b;

		if (!w->shards[i].alive)
			continue;
		b = &w->shards[i].shard->buckets[bucket];
		trace("bucket %u at shard %u: %s of epoch %u, last record %u:%" PRIu64
		      ", leased %d, map %" PRIu64,
			bucket, i, roles[b->role], b->epoch, b->record_epoch,
			w->shards[i].shard->lsn[bucket], serves(&w->shards[i], bucket),
			w->shards[i].map->epoch);
		for (uint32_t k = 0; k < b->stream_count; k++) {
			const struct stream *st = b->streams[k];

			trace("  stream to %u: %s backup %d failed %d acked %" PRIu64
			      " next %" PRIu64 " in flight %u joined %u:%" PRIu64
			      " failing since %" PRIu64 " retry %" PRIu64 " unit %d",
				st->shard, stages[st->stage], st->backup, st->failed,
				st->acked, st->next, st->in_flight, st->join_epoch,
				st->join_lsn, st->failing_us, st->retry_us, st->unit_out);
		}
	}
}

void check_failed(const char *file, int line, const char *what, const char *format, ...)
{
	va_list args;

	for (uint32_t i = 0; sim.loud && i < sim.w.shard_count; i++)
		shard_trace(&sim.w.shards[i]);
	for (uint32_t i = 0; sim.loud && i < sim.w.map->bucket_count; i++)
		bucket_trace(i);
	printf("FAILED seed=%" PRIu64 " at %.3f s: ", sim.seed,
		(double)world_now_us(&sim.w) / 1e6);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" [%s:%d %s]\n", file, line, what);
	fflush(stdout);
	_Exit(1);
}

/* --- the oracle of every turn --- */

static void one_primary(void)
{
	struct world *w = &sim.w;

	for (uint32_t b = 0; b < w->map->bucket_count; b++) {
		uint32_t who = WORLD_VIA_NONE;

		for (uint32_t i = 0; i < w->shard_count; i++) {
			if (!serves(&w->shards[i], b))
				continue;
			check(who == WORLD_VIA_NONE,
				"bucket %u is served by shards %u and %u", b, who, i);
			who = i;
		}
	}
}

static void map_trace(void)
{
	const struct map *map = sim.w.maps.map;

	if (map->epoch == sim.map_epoch)
		return;
	sim.map_epoch = map->epoch;
	if (!sim.loud)
		return;
	trace("map    epoch %" PRIu64 ":", map->epoch);
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];

		printf("              bucket %u epoch %u: %u", i, b->epoch, b->primary);
		for (uint32_t k = 0; k < b->backup_count; k++)
			printf(" %u", b->backups[k]);
		printf(" (wanted");
		for (uint32_t k = 0; k < b->target_count; k++)
			printf(" %u", b->targets[k]);
		printf(")\n");
	}
}

static void turn(bool more)
{
	world_turn(&sim.w);
	sim.event++;
	one_primary();
	map_trace();
	nemesis_turn();
	clients_turn(more);
	filler_turn(more);
}

/* --- the parts of a seed --- */

static void clock_choose(struct world_shard *ws)
{
	if (!sim.nemesis.on[FAULT_CLOCK])
		return;
	ws->clock.ahead_us = sim_below(100) * 1000000;
	ws->clock.drift_ppm = (int64_t)sim_below(40001) - 20000;
	sim.report.faults[FAULT_CLOCK]++;
}

static bool without[FAULT_COUNT];

void sim_without(const char *name)
{
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		if (strcmp(name, fault_names[i]) == 0)
			without[i] = true;
}

static void mix_choose(void)
{
	struct nemesis *n = &sim.nemesis;
	unsigned share = 15 + (unsigned)sim_below(45);

	for (unsigned i = 0; i < FAULT_COUNT; i++)
		n->on[i] = sim_chance(share);
	for (unsigned i = 0; i < DO_COUNT; i++)
		sim.do_kind[i] = sim_chance(75);
	sim.do_kind[DO_WRITE] = sim.do_kind[DO_READ] = true;
	sim.do_kind[DO_CREATE] = sim.do_kind[DO_LOOKUP] = true;
	sim.big = sim_chance(50);
	sim.links = sim.do_kind[DO_LINK] = sim_chance(30);
	n->on[FAULT_FULL] = sim_chance(8);
	n->gap_us = 200000 + sim_below(2000000);
	if (sim_chance(30))
		sim.patience_us = 200000 + sim_below(2000000);
	sim.think_us = 20000 + sim_below(200000);
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		if (without[i])
			n->on[i] = false;
	/* A device that lies needs others that do not fail at the same time. */
	if (n->on[FAULT_LOST_WRITE] || n->on[FAULT_CORRUPT] || n->on[FAULT_MISDIRECT]) {
		bool lies = sim_chance(25);

		for (unsigned i = 0; i < FAULT_COUNT; i++) {
			bool lie = i == FAULT_LOST_WRITE || i == FAULT_CORRUPT ||
				   i == FAULT_MISDIRECT;
			bool harmless = i >= FAULT_LOSS && i <= FAULT_LATE;

			if (lies ? !lie && !harmless : lie)
				n->on[i] = false;
		}
	}
}

static void tree_make(void)
{
	struct world *w = &sim.w;
	char path[32];

	for (unsigned i = 0; i < DIRS; i++) {
		struct attr attr;

		snprintf(path, sizeof(path), "/%c", 'a' + i);
		check_eq(w_mkdir(w, path, 0755), 0);
		check_eq(w_stat(w, path, &attr), 0);
		sim.dirs[i] = attr.ino;
	}
	for (unsigned i = 0; i < STABLE; i++) {
		snprintf(path, sizeof(path), "/%c/s%u", 'a' + i % DIRS, i);
		check_eq(w_create(w, path, 0644, &sim.stable[i]), 0);
	}
	for (unsigned i = 0; i < LOGS; i++) {
		snprintf(path, sizeof(path), "/%c/log%u", 'a' + (i + 1) % DIRS, i);
		check_eq(w_create(w, path, 0644, &sim.logs[i]), 0);
	}
}

static void heal(void)
{
	uint64_t until = world_now_us(&sim.w) + HEAL_US;

	while (!world_healthy(&sim.w) || !nemesis_settled() || !clients_idle() ||
		!filler_idle()) {
		if (world_now_us(&sim.w) >= until) {
			check(clients_idle() && filler_idle(), "an operation does not end");
			check(false, "it does not heal");
		}
		turn(false);
	}
	trace("healed");
}

static void judge(void)
{
	bool lied = sim.nemesis.liar != WORLD_VIA_NONE;

	sim.patience_us = 0;
	clients_last_look();
	trace("all was read again");
	if (!lied)
		world_check(&sim.w, CHECK_ORPHANS | CHECK_STRAYS);
	names_check();
	cells_check();
	logs_check();
}

void sim_run(uint64_t seed, bool loud)
{
	struct world_options opt = {.seed = seed, .shard_prepare = clock_choose};
	struct world *w = &sim.w;
	uint64_t duration_us;

	memset(&sim, 0, sizeof(sim));
	sim.seed = seed;
	sim.loud = loud;
	sim.state = seed * 7919 + 17;
	mix_choose();
	opt.shard_count = 3 + (uint32_t)sim_below(4);
	opt.copies = sim_chance(65) ? 2 : 3;
	opt.bucket_count = sim_chance(50) ? 8 : 2u << sim_below(2);
	opt.device_known = true;
	opt.disk_bytes = sim.nemesis.on[FAULT_FULL] ? 20u << 20 : 48u << 20;
	opt.segment_bytes = 1u << 20;
	duration_us = 4000000 + sim_below(16000000);
	world_init(w, &opt);
	if (getenv("SIM_LOG"))
		log_set_level(LOG_DEBUG);
	check(world_heal(w, BEGIN_US), "it does not begin");
	tree_make();
	w->shuffle = true;
	trace("seed   %" PRIu64 ": %u shards, %u copies, %.1f s", seed, opt.shard_count,
		opt.copies, (double)duration_us / 1e6);
	for (unsigned i = 0; loud && i < FAULT_COUNT; i++)
		if (sim.nemesis.on[i])
			trace("mix    %s", fault_names[i]);
	clients_begin();
	for (unsigned i = 0; i < DIRS; i++)
		trace("tree   /%c = %" PRIx64, 'a' + i, sim.dirs[i]);
	filler_begin();
	nemesis_begin();
	sim.until_us = world_now_us(w) + duration_us;
	while (world_now_us(w) < sim.until_us)
		turn(true);
	nemesis_end();
	heal();
	judge();
	sim.report.sim_us = world_now_us(w);
	sim.report.turns = w->turns;
	sim.report.faults[FAULT_LOSS] += w->net.lost_count;
	sim.report.faults[FAULT_DOUBLE] += w->net.doubled_count;
	sim.report.faults[FAULT_LATE] += w->net.late_count;
	clients_end();
	world_release(w);
}

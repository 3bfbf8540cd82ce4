/*
 * The nemesis: one fault after another, of the kinds this seed has, each put right again
 * after a while.
 *
 * Crashes, freezes, cuts, outages and slowness may come all at once and to everybody:
 * nothing acknowledged may be lost by them. A device that is gone, or lies, is one copy
 * less, so it comes only where another member has everything.
 */
#include "tests/sim/sim.h"

#include <string.h>

const char *const fault_names[FAULT_COUNT] = {
	[FAULT_KILL] = "kill",
	[FAULT_KILL_ALL] = "kill-all",
	[FAULT_CRASH_AT_WRITE] = "crash-at-write",
	[FAULT_FREEZE] = "freeze",
	[FAULT_PARTITION] = "partition",
	[FAULT_ONE_WAY] = "one-way-cut",
	[FAULT_ISOLATE] = "isolate",
	[FAULT_LOSS] = "lost-message",
	[FAULT_DOUBLE] = "doubled-message",
	[FAULT_LATE] = "late-message",
	[FAULT_SILENT] = "silent-death",
	[FAULT_STORE_AWAY] = "map-store-away",
	[FAULT_STORE_AWAY_ALL] = "map-store-down",
	[FAULT_STORE_DEAF] = "map-store-answers-lost",
	[FAULT_SLOW_DEVICE] = "slow-device",
	[FAULT_IO_ERROR] = "io-error",
	[FAULT_LOST_WRITE] = "lost-write",
	[FAULT_CORRUPT] = "corrupt-write",
	[FAULT_MISDIRECT] = "misdirected-write",
	[FAULT_DEVICE_GONE] = "device-replaced",
	[FAULT_DRAIN] = "drain",
	[FAULT_NODE_ADD] = "node-added",
	[FAULT_EVICT] = "evict",
	[FAULT_CLOCK] = "skewed-clock",
	[FAULT_FULL] = "full-device",
};

#define N (&sim.nemesis)

static uint64_t now_us(void)
{
	return world_now_us(&sim.w);
}

/* Mostly short, sometimes longer than a lease. */
static uint64_t while_us(void)
{
	return sim_chance(60) ? sim_below(1500000) : sim_below(9000000);
}

static uint32_t any_shard(void)
{
	return (uint32_t)sim_below(sim.w.shard_count);
}

static struct world_shard *any_alive(void)
{
	struct world_shard *ws = &sim.w.shards[any_shard()];

	return ws->alive && !ws->frozen ? ws : NULL;
}

/* --- nodes --- */

static bool kill_one(struct world_shard *ws)
{
	if (!ws)
		return false;
	trace("fault  kill shard %u", ws->number);
	ws->frozen = false;
	world_kill(&sim.w, ws->number);
	return true;
}

static bool kill_all(void)
{
	trace("fault  kill all");
	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		if (sim.w.shards[i].alive)
			world_kill(&sim.w, i);
	return true;
}

static bool crash_at_write(struct world_shard *ws)
{
	if (!ws)
		return false;
	device_sim_faults(ws->disk)->crash_at_write = 1 + (unsigned)sim_below(40);
	trace("fault  shard %u dies at its write number %u from now", ws->number,
		device_sim_faults(ws->disk)->crash_at_write);
	return true;
}

static bool freeze(struct world_shard *ws)
{
	if (!ws)
		return false;
	ws->frozen = true;
	N->thaw_us[ws->number] = now_us() + while_us();
	trace("fault  freeze shard %u", ws->number);
	return true;
}

/* --- the network --- */

static void store_state(uint32_t i, bool away, bool deaf)
{
	struct world_shard *ws = &sim.w.shards[i];

	ws->store_away = ws->map_store.away = away;
	ws->store_deaf = ws->map_store.lose_answers = deaf;
	N->store_back_us[i] = away || deaf ? now_us() + while_us() : NEVER;
	trace("%s the map store %s shard %u", away || deaf ? "fault " : "put right:",
		deaf   ? "does not answer"
		: away ? "is away for"
		       : "is back for",
		i);
}


static bool partition(bool one_way)
{
	uint32_t side = 0;
	bool store_too = sim_chance(40);

	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		side |= (uint32_t)sim_below(2) << i;
	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		for (uint32_t k = 0; k < sim.w.shard_count; k++)
			if ((side >> i & 1) && !(side >> k & 1)) {
				sim.w.net.cut[i][k] = true;
				sim.w.net.cut[k][i] |= !one_way;
			}
	for (uint32_t i = 0; store_too && i < sim.w.shard_count; i++)
		if (side >> i & 1)
			store_state(i, true, false);
	N->net_heal_us = now_us() + while_us();
	trace("fault  %s: set %x and the others", one_way ? "one-way cut" : "partition",
		side);
	return true;
}

static bool isolate(void)
{
	uint32_t who = any_shard();

	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		if (i != who)
			sim.w.net.cut[i][who] = sim.w.net.cut[who][i] = true;
	N->net_heal_us = now_us() + while_us();
	trace("fault  isolate shard %u", who);
	/* The map store is behind the same network. Often for so long that others take over,
	 * while its own programs go on asking it. */
	if (sim_chance(60)) {
		store_state(who, true, false);
		if (sim_chance(60))
			N->net_heal_us = now_us() + 2000000 + sim_below(4000000);
		N->store_back_us[who] = N->net_heal_us;
	}
	return true;
}

static bool one_link(void)
{
	uint32_t from = any_shard(), to = any_shard();

	if (from == to)
		return false;
	sim.w.net.cut[from][to] = true;
	N->net_heal_us = now_us() + while_us();
	trace("fault  nothing gets from shard %u to shard %u", from, to);
	return true;
}

static bool net_worse(enum fault fault)
{
	struct world_net *net = &sim.w.net;
	uint32_t how_often = 1000 + (uint32_t)sim_below(100000);

	if (fault == FAULT_LOSS)
		net->lost = how_often;
	else if (fault == FAULT_DOUBLE)
		net->doubled = how_often;
	else if (fault == FAULT_LATE)
		net->late = how_often;
	else
		net->silent = true;
	net->late_us = sim_chance(50) ? 100000 : 5000000;
	N->net_calm_us = now_us() + 1000000 + while_us();
	trace("fault  %s, %u of a million", fault_names[fault], how_often);
	return false; /* counted message by message */
}

static void net_heal(void)
{
	memset(sim.w.net.cut, 0, sizeof(sim.w.net.cut));
	N->net_heal_us = NEVER;
	trace("put right: the network is whole");
}

static void net_calm(void)
{
	sim.w.net.lost = sim.w.net.doubled = sim.w.net.late = 0;
	sim.w.net.silent = false;
	N->net_calm_us = NEVER;
	trace("put right: the network is calm");
}

/* --- the map store --- */

static bool store_away(bool all, bool deaf)
{
	uint32_t who = any_shard();

	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		if (all || i == who)
			store_state(i, !deaf, deaf);
	return true;
}

/* --- devices --- */

static bool slow_device(struct world_shard *ws)
{
	if (!ws)
		return false;
	ws->slow_us = sim_chance(50) ? 20000 : 300000;
	N->fast_us[ws->number] = now_us() + while_us();
	trace("fault  the device of shard %u takes %llu us", ws->number,
		(unsigned long long)ws->slow_us);
	return true;
}

static bool device_fault(struct world_shard *ws, enum fault fault)
{
	struct device_sim_faults *f;
	unsigned nth = 1 + (unsigned)sim_below(60);

	if (!ws)
		return false;
	f = device_sim_faults(ws->disk);
	if (fault == FAULT_IO_ERROR) {
		f->fail_nth = nth;
	} else {
		if (N->liar == WORLD_VIA_NONE)
			N->liar = ws->number;
		if (N->liar != ws->number)
			return false;
		if (fault == FAULT_LOST_WRITE)
			f->lose_nth = nth;
		else if (fault == FAULT_CORRUPT)
			f->corrupt_nth = nth;
		else
			f->misdirect_nth = nth;
	}
	trace("fault  %s at shard %u, number %u from now", fault_names[fault], ws->number,
		nth);
	return true;
}

/* All its buckets have another member which is alive. */
static bool spare(uint32_t who)
{
	const struct map *map = sim.w.maps.map;

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];
		bool other = false;

		if (!map_bucket_has(b, who))
			continue;
		for (uint32_t k = 0; k < sim.w.shard_count; k++)
			other |= k != who && map_bucket_has(b, k);
		if (!other)
			return false;
	}
	return true;
}

bool nemesis_settled(void)
{
	const struct map *map = sim.w.maps.map;

	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		if (!sim.w.shards[i].alive || memcmp(map->shards[i].device_uuid,
						      sim.w.shards[i].device_uuid, 16))
			return false;
	return true;
}

/* Only when all others have everything. */
static bool device_gone(struct world_shard *ws)
{
	if (!ws || !world_healthy(&sim.w) || !nemesis_settled())
		return false;
	trace("fault  the device of shard %u is gone, an empty one in its place",
		ws->number);
	world_kill(&sim.w, ws->number);
	world_device_replace(&sim.w, ws->number);
	return true;
}

/* --- operators --- */

static bool drain(void)
{
	if (N->draining != WORLD_VIA_NONE)
		return false;
	N->draining = any_shard();
	N->undrain_us = now_us() + 2 * while_us();
	world_node_state(&sim.w, N->draining, MAP_NODE_DRAINING);
	trace("operator: drain shard %u", N->draining);
	return true;
}

static void undrain(void)
{
	if (N->draining == WORLD_VIA_NONE)
		return;
	trace("operator: shard %u is in again", N->draining);
	world_node_state(&sim.w, N->draining, MAP_NODE_IN);
	N->draining = WORLD_VIA_NONE;
	N->undrain_us = NEVER;
}

static bool node_add(void)
{
	if (sim.w.shard_count >= WORLD_SHARDS_MAX - 1)
		return false;
	world_node_add(&sim.w);
	trace("operator: shard %u is new", sim.w.shard_count - 1);
	return true;
}

/* What a primary may say at any time: drop this backup. */
static bool evict(void)
{
	const struct map *map = sim.w.maps.map;
	uint32_t bucket = (uint32_t)sim_below(map->bucket_count);
	const struct map_bucket *b = &map->buckets[bucket];
	struct world_shard *ws = &sim.w.shards[b->primary];
	struct proposal p = {
		.kind = PROPOSE_EVICT, .bucket = bucket, .epoch = b->epoch};

	if (!ws->alive || b->backup_count == 0)
		return false;
	p.shard = b->backups[sim_below(b->backup_count)];
	trace("operator: bucket %u without shard %u", bucket, p.shard);
	return keeper_propose(ws->keeper, &p) == 0;
}

/* --- acting --- */

static bool act(enum fault fault)
{
	switch (fault) {
	case FAULT_KILL: return kill_one(any_alive());
	case FAULT_KILL_ALL: return sim_chance(20) && kill_all();
	case FAULT_CRASH_AT_WRITE: return crash_at_write(any_alive());
	case FAULT_FREEZE: return freeze(any_alive());
	case FAULT_PARTITION: return partition(false);
	case FAULT_ONE_WAY: return sim_chance(50) ? partition(true) : one_link();
	case FAULT_ISOLATE: return isolate();
	case FAULT_LOSS:
	case FAULT_DOUBLE:
	case FAULT_LATE:
	case FAULT_SILENT: return net_worse(fault);
	case FAULT_STORE_AWAY: return store_away(false, false);
	case FAULT_STORE_AWAY_ALL: return store_away(true, false);
	case FAULT_STORE_DEAF: return store_away(false, true);
	case FAULT_SLOW_DEVICE: return slow_device(any_alive());
	case FAULT_IO_ERROR:
	case FAULT_LOST_WRITE:
	case FAULT_CORRUPT:
	case FAULT_MISDIRECT: return device_fault(any_alive(), fault);
	case FAULT_DEVICE_GONE: return device_gone(any_alive());
	case FAULT_DRAIN: return drain();
	case FAULT_NODE_ADD: return sim_chance(30) && node_add();
	case FAULT_EVICT: return evict();
	case FAULT_CLOCK:
	case FAULT_FULL:
	case FAULT_COUNT: break;
	}
	return false;
}

void nemesis_begin(void)
{
	N->next_us = now_us() + sim_below(N->gap_us);
	N->liar = N->draining = WORLD_VIA_NONE;
	N->undrain_us = N->net_heal_us = N->net_calm_us = NEVER;
	for (uint32_t i = 0; i < WORLD_SHARDS_MAX; i++)
		N->restart_us[i] = N->thaw_us[i] = N->store_back_us[i] =
			N->fast_us[i] = NEVER;
}

/* A process that died, or whose log failed, is started again. */
static void revive(uint32_t i)
{
	struct world_shard *ws = &sim.w.shards[i];
	int rc;

	if (ws->alive && !ws->frozen && N->restart_us[i] == NEVER &&
		store_error(ws->store) != 0) {
		trace("the log of shard %u failed", i);
		N->restart_us[i] = now_us() + sim_below(2000000);
	}
	if (!ws->alive && N->restart_us[i] == NEVER) {
		trace("shard %u is down", i);
		N->restart_us[i] = now_us() + (N->over ? 0 : while_us());
	}
	if (N->restart_us[i] > now_us())
		return;
	N->restart_us[i] = NEVER;
	if (ws->alive && store_error(ws->store) == 0)
		return;
	if (ws->alive)
		world_kill(&sim.w, i);
	world_disarm(&sim.w, i);
	rc = world_start(&sim.w, i);
	trace("restart of shard %u: %d", i, rc);
	if (rc == 0)
		return;
	check(N->liar == i && spare(i), "shard %u does not start: %d", i, rc);
	world_device_replace(&sim.w, i);
	check_eq(world_start(&sim.w, i), 0);
}

static void put_right(uint32_t i)
{
	struct world_shard *ws = &sim.w.shards[i];
	uint64_t now = now_us();

	if (N->thaw_us[i] <= now) {
		N->thaw_us[i] = NEVER;
		if (ws->frozen)
			trace("put right: shard %u is thawed", i);
		ws->frozen = false;
	}
	if (N->store_back_us[i] <= now)
		store_state(i, false, false);
	if (N->fast_us[i] <= now) {
		N->fast_us[i] = NEVER;
		ws->slow_us = 0;
		trace("put right: the device of shard %u is fast", i);
	}
	revive(i);
}

void nemesis_turn(void)
{
	uint64_t now = now_us();

	for (uint32_t i = 0; i < sim.w.shard_count; i++)
		put_right(i);
	if (N->net_heal_us <= now)
		net_heal();
	if (N->net_calm_us <= now)
		net_calm();
	if (N->undrain_us <= now)
		undrain();
	if (N->over || now < N->next_us)
		return;
	N->next_us = now + sim_below(2 * N->gap_us);
	for (unsigned tries = 0; tries < 10; tries++) {
		enum fault fault = (enum fault)sim_below(FAULT_COUNT);

		if (!N->on[fault])
			continue;
		if (act(fault))
			sim.report.faults[fault]++;
		return;
	}
}

void nemesis_end(void)
{
	N->over = true;
	trace("the faults stop");
	undrain();
	net_heal();
	net_calm();
	for (uint32_t i = 0; i < sim.w.shard_count; i++) {
		N->thaw_us[i] = N->fast_us[i] = 0;
		if (N->store_back_us[i] != NEVER)
			N->store_back_us[i] = 0;
		if (N->restart_us[i] != NEVER)
			N->restart_us[i] = 0;
		if (sim.w.shards[i].alive)
			world_disarm(&sim.w, i);
	}
	nemesis_turn();
}

/*
 * The keeper, with time and the map store in the test's hand: who takes over, when, and
 * that two nodes never lead one bucket at the same time, which is checked after every
 * turn of every node in all tests.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/cluster/keeper.h"
#include "tests/lib/map_store_mem.h"

#define NODES_MAX 8u
#define BUCKETS   32u
#define LEASE_US  5000000ull
#define SECOND    1000000ull

/* A process of a node: what its shards would believe. */
struct process {
	struct map_store_mem store;
	struct keeper *keeper;
	uint64_t until_us;
	uint64_t next_us;
	const struct map *map;
	bool paused; /* does not turn, but believes */
	uint64_t incarnation;
};

static struct env_sim sim;
static struct mem_maps maps;
static struct map *start_map;
static struct process procs[NODES_MAX + 1]; /* by node id, from 1 */
static uint64_t incarnations;

static void on_map(void *ctx, const struct map *map)
{
	struct process *p = ctx;

	cr_assert_gt(map->epoch, p->map->epoch);
	p->map = map;
}

static void on_lease(void *ctx, uint64_t until_us)
{
	((struct process *)ctx)->until_us = until_us;
}

static bool leads(uint32_t node, uint32_t bucket)
{
	const struct process *p = &procs[node];

	return p->keeper && p->until_us > sim.time_us &&
	       p->map->shards[p->map->buckets[bucket].primary].node == node;
}

static unsigned leaders(uint32_t bucket)
{
	unsigned count = 0;

	for (uint32_t n = 1; n <= NODES_MAX; n++)
		count += leads(n, bucket);
	return count;
}

static void check(void)
{
	for (uint32_t b = 0; b < maps.map->bucket_count; b++) {
		const struct map_bucket *m = &maps.map->buckets[b];

		cr_assert_leq(leaders(b), 1, "bucket %u has two primaries", b);
		cr_assert_leq(m->backup_count, maps.map->copies);
		cr_assert(!map_bucket_has_backup(m, m->primary));
	}
}

static void turn(uint32_t node)
{
	struct process *p = &procs[node];
	uint64_t wait_us = keeper_turn(p->keeper);

	cr_assert_gt(wait_us, 0);
	cr_assert_leq(wait_us, LEASE_US);
	p->next_us = sim.time_us + wait_us;
	check();
}

/* A node's process starts. It turns with the next run(). */
static void start(uint32_t node)
{
	struct process *p = &procs[node];

	p->incarnation = ++incarnations;
	struct keeper_options opt = {.env = &sim.env,
		.store = &p->store.store,
		.node = node,
		.incarnation = p->incarnation,
		.map_changed = on_map,
		.lease = on_lease,
		.ctx = p};
	map_store_mem_init(&p->store, &maps);
	p->map = opt.map = start_map;
	p->until_us = 0;
	p->paused = false;
	p->next_us = sim.time_us;
	cr_assert_eq(keeper_new(&opt, &p->keeper), 0);
}

static void kill_node(uint32_t node)
{
	keeper_free(procs[node].keeper);
	procs[node].keeper = NULL;
}

static void stop_node(uint32_t node)
{
	procs[node].until_us = 0;
	keeper_stop(procs[node].keeper);
	kill_node(node);
}

static void run(uint64_t for_us)
{
	uint64_t end_us = sim.time_us + for_us;

	for (;;) {
		uint32_t next = 0;

		for (uint32_t n = 1; n <= NODES_MAX; n++)
			if (procs[n].keeper && !procs[n].paused &&
				(!next || procs[n].next_us < procs[next].next_us))
				next = n;
		if (!next || procs[next].next_us > end_us)
			break;
		if (procs[next].next_us > sim.time_us)
			env_sim_advance(&sim, procs[next].next_us - sim.time_us);
		turn(next);
	}
	env_sim_advance(&sim, end_us - sim.time_us);
	check();
}

static struct map *map_of(uint32_t nodes, uint32_t per, uint32_t copies, uint32_t buckets)
{
	struct map *map = map_new(nodes, nodes * per, buckets, 0);

	map->epoch = 1;
	map->timeout_ms = 10000;
	map->copies = copies;
	strcpy(map->name, "test");
	strcpy(map->provider, "net");
	for (uint32_t n = 0; n < nodes; n++) {
		map->nodes[n].id = n + 1;
		for (uint32_t s = 0; s < per; s++)
			map->shards[n * per + s] =
				(struct map_shard){.node = n + 1, .index = s, .port = 7};
	}
	cr_assert_eq(map_place(map), 0);
	return map;
}

static void world(uint32_t nodes, uint32_t copies)
{
	log_set_level(LOG_ERROR + 1);
	memset(procs, 0, sizeof(procs));
	env_sim_init(&sim, 7);
	start_map = map_of(nodes, 1, copies, BUCKETS);
	mem_maps_init(&maps, &sim.env, start_map);
	for (uint32_t n = 1; n <= nodes; n++)
		start(n);
	run(SECOND);
}

static void world_end(void)
{
	for (uint32_t n = 1; n <= NODES_MAX; n++)
		if (procs[n].keeper)
			kill_node(n);
	mem_maps_release(&maps);
	map_free(start_map);
	cr_assert_eq(mem_live_count(), 0);
}

/* A bucket whose primary and first backup are these; shards are nodes - 1. */
static uint32_t bucket_with(uint32_t primary, uint32_t backup)
{
	for (uint32_t b = 0; b < maps.map->bucket_count; b++)
		if (maps.map->buckets[b].primary == primary - 1 &&
			maps.map->buckets[b].backup_count &&
			maps.map->buckets[b].backups[0] == backup - 1)
			return b;
	cr_assert_fail("no bucket of nodes %u and %u", primary, backup);
	return 0;
}

static void admin_save(void (*change)(struct map *))
{
	struct map *map = map_copy(maps.map, 0, 0, 0);
	struct map_store_mem admin;

	map_store_mem_init(&admin, &maps);
	change(map);
	map->epoch++;
	cr_assert_eq(admin.store.ops->save(&admin.store, map), 0);
	map_free(map);
}

TestSuite(keeper, .timeout = 60);

Test(keeper, a_start_claims_every_bucket_once)
{
	world(3, 2);
	for (uint32_t b = 0; b < BUCKETS; b++) {
		cr_assert_eq(maps.map->buckets[b].epoch, 2);
		cr_assert_eq(leaders(b), 1);
		cr_assert_eq(maps.map->buckets[b].backup_count, 1);
	}
	for (uint32_t s = 0; s < 3; s++)
		cr_assert_eq(maps.map->shards[s].incarnation, procs[s + 1].incarnation);
	uint32_t saves = maps.saves;
	run(120 * SECOND);
	cr_assert_eq(maps.saves, saves, "a quiet cluster changes nothing");
	for (uint32_t b = 0; b < BUCKETS; b++)
		cr_assert_eq(leaders(b), 1);
	world_end();
}

Test(keeper, takeover_after_expiry_and_not_before)
{
	world(3, 2);
	run(10 * SECOND);
	uint32_t b = bucket_with(1, 2);
	uint64_t expiry_us = 0;

	for (uint32_t i = 0; i < maps.lease_count; i++)
		if (maps.leases[i].node == 1)
			expiry_us = maps.leases[i].expiry_us;
	kill_node(1);
	run(expiry_us - sim.time_us - 1);
	cr_assert_eq(maps.map->buckets[b].primary, 0);
	cr_assert_eq(leaders(b), 0);
	run(SECOND);
	cr_assert_eq(maps.map->buckets[b].primary, 1, "the backup leads");
	cr_assert_eq(maps.map->buckets[b].epoch, 3);
	cr_assert_eq(maps.map->buckets[b].backup_count, 0);
	cr_assert(leads(2, b));
	for (uint32_t i = 0; i < BUCKETS; i++)
		cr_assert(!map_bucket_has(&maps.map->buckets[i], 0),
			"no bucket needs the dead node");
	world_end();
}

Test(keeper, takeover_from_a_store_that_forgets_leases)
{
	world(3, 2);
	maps.forgets = true;
	kill_node(1);
	run(3 * SECOND);
	cr_assert_eq(maps.map->buckets[bucket_with(1, 2)].epoch, 2, "not yet");
	run(4 * SECOND);
	for (uint32_t i = 0; i < BUCKETS; i++)
		cr_assert(!map_bucket_has(&maps.map->buckets[i], 0));
	world_end();
}

Test(keeper, a_node_that_was_never_there_is_waited_for_one_lease)
{
	log_set_level(LOG_ERROR + 1);
	memset(procs, 0, sizeof(procs));
	env_sim_init(&sim, 7);
	start_map = map_of(3, 1, 2, BUCKETS);
	mem_maps_init(&maps, &sim.env, start_map);
	start(2);
	start(3);
	run(LEASE_US - 1);
	cr_assert(map_bucket_has(&maps.map->buckets[bucket_with(1, 2)], 0));
	run(SECOND);
	for (uint32_t i = 0; i < BUCKETS; i++)
		cr_assert(!map_bucket_has(&maps.map->buckets[i], 0));
	world_end();
}

Test(keeper, a_clean_stop_hands_over_at_once)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 3);
	stop_node(1);
	run(LEASE_US / 5 + 1);
	cr_assert(leads(3, b));
	world_end();
}

static uint32_t race_node;

static void race(void *ctx)
{
	(void)ctx;
	turn(race_node);
}

Test(keeper, two_savers_race_and_both_get_their_buckets)
{
	world(3, 3);
	kill_node(1);
	run(3 * SECOND);
	/* Node 2 is about to save what it takes over; node 3 saves before. */
	procs[2].paused = true;
	procs[3].paused = true;
	env_sim_advance(&sim, 2200 * 1000);
	turn(3);
	turn(2);
	env_sim_advance(&sim, 600 * 1000);
	race_node = 3;
	procs[2].store.before_save = race;
	turn(2);
	cr_assert_null(procs[2].store.before_save, "it raced");
	procs[2].paused = false;
	procs[3].paused = false;
	run(2 * SECOND);
	for (uint32_t i = 0; i < BUCKETS; i++) {
		const struct map_bucket *m = &maps.map->buckets[i];

		cr_assert_neq(m->primary, 0);
		cr_assert_eq(m->backup_count, 1);
		cr_assert_eq(leaders(i), 1);
		cr_assert_leq(m->epoch, 3, "raised once");
	}
	world_end();
}

Test(keeper, a_quick_restart_keeps_its_members)
{
	world(3, 2);
	run(10 * SECOND);
	struct map *before = map_copy(maps.map, 0, 0, 0);
	kill_node(1);
	start(1);
	run(8 * SECOND);
	for (uint32_t i = 0; i < BUCKETS; i++) {
		const struct map_bucket *m = &maps.map->buckets[i];
		const struct map_bucket *old = &before->buckets[i];

		cr_assert_eq(m->primary, old->primary);
		cr_assert_eq(m->backup_count, 1);
		cr_assert_eq(m->epoch, old->epoch + (old->primary == 0));
		cr_assert_eq(leaders(i), 1);
	}
	cr_assert_eq(maps.map->shards[0].incarnation, procs[1].incarnation);
	map_free(before);
	world_end();
}

Test(keeper, a_restarted_node_waits_for_the_lease_of_its_old_process)
{
	world(3, 2);
	struct process old = procs[1]; /* it hangs, and still believes */
	uint64_t until_us = old.until_us;

	memset(&procs[1], 0, sizeof(procs[1]));
	start(1);
	while (sim.time_us < until_us) {
		run(100 * 1000);
		cr_assert_eq(procs[1].until_us, 0);
	}
	run(LEASE_US);
	cr_assert_gt(procs[1].until_us, sim.time_us);
	keeper_free(old.keeper);
	world_end();
}

static struct proposal proposal(enum proposal_kind kind, uint32_t bucket, uint32_t shard)
{
	return (struct proposal){.kind = kind,
		.bucket = bucket,
		.epoch = maps.map->buckets[bucket].epoch,
		.shard = shard};
}

/* Who was in sync on one device is no member on another, which may be empty. */
Test(keeper, who_is_admitted_is_on_the_device_that_was_filled)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);
	struct proposal p = proposal(PROPOSE_EVICT, b, 1);

	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	memset(maps.map->shards[1].device_uuid, 7, 16);
	maps.map->epoch++; /* so that it is read again */
	p = proposal(PROPOSE_ADMIT, b, 1);
	memset(p.device_uuid, 6, 16);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 0);
	memset(p.device_uuid, 7, 16);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 1);
	world_end();
}

Test(keeper, evict_admit_handover)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);
	const uint32_t *epoch = &maps.map->buckets[b].epoch;
	struct proposal p = proposal(PROPOSE_EVICT, b, 1);

	cr_assert_eq(*epoch, 2);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0, "twice is once");
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 0);
	cr_assert_eq(
		maps.map->buckets[b].epoch, 2, "the primary stays: so does the epoch");
	p = proposal(PROPOSE_ADMIT, b, 2);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	p = proposal(PROPOSE_ADMIT, b, 1);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 2, "one more while it moves");
	p = proposal(PROPOSE_HANDOVER, b, 2);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	turn(3);
	cr_assert_eq(maps.map->buckets[b].primary, 2);
	cr_assert_eq(maps.map->buckets[b].epoch, 3);
	cr_assert_eq(maps.map->buckets[b].backup_count, 2);
	cr_assert(map_bucket_has_backup(&maps.map->buckets[b], 0));
	cr_assert(leads(3, b));
	world_end();
}

Test(keeper, void_proposals_are_dropped)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);
	uint32_t saves = maps.saves;
	struct proposal wrong[] = {
		proposal(PROPOSE_EVICT, b, 1),    /* made void by its epoch */
		proposal(PROPOSE_EVICT, b, 2),    /* not a backup */
		proposal(PROPOSE_EVICT, b, 0),    /* the primary itself */
		proposal(PROPOSE_ADMIT, b, 0),    /* a member */
		proposal(PROPOSE_ADMIT, b, 99),   /* no such shard */
		proposal(PROPOSE_HANDOVER, b, 2), /* not in sync */
		proposal(PROPOSE_EVICT, 0, 1),    /* no such bucket */
		proposal(PROPOSE_EVICT, bucket_with(2, 1), 0), /* not ours */
	};

	wrong[0].epoch--;
	wrong[6].bucket = BUCKETS;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		cr_assert_eq(keeper_propose(procs[1].keeper, &wrong[i]), 0);
	turn(1);
	run(5 * SECOND);
	cr_assert_eq(maps.saves, saves);
	kill_node(3);
	run(7 * SECOND);
	struct proposal dead = proposal(PROPOSE_ADMIT, b, 2);
	cr_assert_eq(keeper_propose(procs[1].keeper, &dead), 0);
	turn(1);
	cr_assert(!map_bucket_has(&maps.map->buckets[b], 2), "no dead node is admitted");
	world_end();
}

Test(keeper, proposals_wait_for_the_store_and_are_bounded)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);
	struct proposal p = proposal(PROPOSE_EVICT, b, 1);

	procs[1].store.away = true;
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 1);
	procs[1].store.away = false;
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 0);
	int rc = 0;
	for (p.epoch = 100; rc == 0 && p.epoch < 100000; p.epoch++)
		rc = keeper_propose(procs[1].keeper, &p);
	cr_assert_eq(rc, -EAGAIN);
	turn(1);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	world_end();
}

Test(keeper, a_lost_answer_does_no_harm)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);
	struct proposal p = proposal(PROPOSE_EVICT, b, 1);

	procs[1].store.lose_answers = true;
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(maps.map->buckets[b].backup_count, 0);
	cr_assert_eq(procs[1].map->buckets[b].backup_count, 1, "not confirmed, not told");
	procs[1].store.lose_answers = false;
	turn(1);
	cr_assert_eq(procs[1].map->buckets[b].backup_count, 0);
	world_end();
}

Test(keeper, a_node_cut_off_stops_and_promotes_nobody)
{
	world(3, 2);
	run(10 * SECOND);
	uint32_t mine = bucket_with(1, 2), other = bucket_with(2, 1);
	uint32_t saves = maps.saves;

	procs[1].store.away = true;
	run(LEASE_US / 2 + 1);
	cr_assert(!leads(1, mine), "it stopped at half its lease");
	kill_node(2);
	run(20 * SECOND);
	cr_assert_eq(procs[1].map->buckets[other].primary, 1, "it promotes nobody");
	cr_assert_eq(
		maps.map->buckets[other].primary, 1, "its only live copy is cut off");
	cr_assert_neq(maps.saves, saves, "node 3 went on");
	procs[1].store.away = false;
	run(2 * SECOND);
	cr_assert(leads(1, other), "back, it takes over what waited");
	cr_assert(leads(1, mine));
	world_end();
}

Test(keeper, all_lose_the_store_and_go_on_afterwards)
{
	world(3, 2);
	for (uint32_t n = 1; n <= 3; n++)
		procs[n].store.away = true;
	run(60 * SECOND);
	for (uint32_t b = 0; b < BUCKETS; b++)
		cr_assert_eq(leaders(b), 0);
	for (uint32_t n = 1; n <= 3; n++)
		procs[n].store.away = false;
	run(2 * SECOND);
	for (uint32_t b = 0; b < BUCKETS; b++) {
		cr_assert_eq(leaders(b), 1);
		cr_assert_eq(maps.map->buckets[b].backup_count, 1, "all members stay");
	}
	world_end();
}

/*
 * The old primary comes back while the taker, who saw its lease expired, is about to
 * save. Only one of them may have the bucket.
 */
Test(keeper, the_claim_of_a_late_primary_races_with_a_takeover)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);

	procs[1].paused = true;
	run(LEASE_US);
	procs[2].paused = true;
	env_sim_advance(&sim, LEASE_US / 5);
	turn(2);
	env_sim_advance(&sim, LEASE_US / 9);
	race_node = 1;
	procs[2].store.before_save = race;
	turn(2);
	procs[1].paused = false;
	procs[2].paused = false;
	run(2 * SECOND);
	cr_assert_eq(leaders(b), 1);
	world_end();
}

/* No pause, no outage, no restart at any moment makes two primaries. */
Test(keeper, random_faults)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct env_sim dice;

		world(4, 2 + seed % 2);
		maps.forgets = seed % 3 == 0;
		env_sim_init(&dice, seed);
		for (int i = 0; i < 150; i++) {
			uint32_t n = 1 + (uint32_t)(env_random(&dice.env) % 4);
			struct process *p = &procs[n];

			switch (env_random(&dice.env) % 7) {
			case 0: p->paused = !p->paused; break;
			case 1: p->store.away = !p->store.away; break;
			case 2: p->store.lose_answers = !p->store.lose_answers; break;
			case 3:
				if (p->keeper)
					kill_node(n);
				start(n);
				break;
			case 4:
				race_node = 1 + (uint32_t)(env_random(&dice.env) % 4);
				if (procs[race_node].keeper && race_node != n)
					p->store.before_save = race;
				break;
			default: p->paused = false; break;
			}
			run(env_random(&dice.env) % (3 * SECOND));
		}
		for (uint32_t n = 1; n <= 4; n++) {
			if (!procs[n].keeper)
				start(n);
			procs[n].paused = false;
			procs[n].store.away = false;
			procs[n].store.lose_answers = false;
		}
		run(20 * SECOND);
		for (uint32_t b = 0; b < BUCKETS; b++)
			cr_assert_eq(leaders(b), 1, "seed %llu bucket %u",
				(unsigned long long)seed, b);
		world_end();
	}
}

/* --- planning ----------------------------------------------------------------------- */

static unsigned targets_on(uint32_t shard)
{
	unsigned count = 0;

	for (uint32_t b = 0; b < maps.map->bucket_count; b++)
		for (uint32_t i = 0; i < maps.map->buckets[b].target_count; i++)
			count += maps.map->buckets[b].targets[i] == shard;
	return count;
}

Test(keeper, a_node_away_for_long_is_planned_out_and_in_again)
{
	world(4, 2);
	kill_node(4);
	run(60 * SECOND);
	cr_assert_eq(targets_on(3), BUCKETS * 2 / 4, "patience");
	run(8 * SECOND);
	cr_assert_eq(targets_on(3), 0);
	for (uint32_t b = 0; b < BUCKETS; b++)
		cr_assert_eq(maps.map->buckets[b].target_count, 2);
	start(4);
	run(3 * SECOND);
	cr_assert_geq(targets_on(3), BUCKETS * 2 / 4 - 2);
	world_end();
}

Test(keeper, the_next_lowest_node_plans_when_the_lowest_is_dead)
{
	world(4, 2);
	kill_node(1);
	run(70 * SECOND);
	cr_assert_eq(targets_on(0), 0);
	world_end();
}

Test(keeper, too_few_nodes_make_fewer_targets)
{
	world(3, 3);
	kill_node(3);
	run(70 * SECOND);
	for (uint32_t b = 0; b < BUCKETS; b++)
		cr_assert_eq(maps.map->buckets[b].target_count, 2);
	start(3);
	run(3 * SECOND);
	for (uint32_t b = 0; b < BUCKETS; b++)
		cr_assert_eq(maps.map->buckets[b].target_count, 3);
	world_end();
}

static void drain_2(struct map *map)
{
	map->nodes[1].state = MAP_NODE_DRAINING;
}

static void undrain_2(struct map *map)
{
	map->nodes[1].state = MAP_NODE_IN;
}

static void lose_2(struct map *map)
{
	map->nodes[1].state = MAP_NODE_LOST;
}

Test(keeper, a_draining_node_is_planned_out_but_serves)
{
	world(4, 2);
	uint32_t b = bucket_with(2, 1);

	admin_save(drain_2);
	run(2 * SECOND);
	cr_assert_eq(targets_on(1), 0);
	cr_assert(leads(2, b));
	admin_save(undrain_2);
	run(2 * SECOND);
	cr_assert_gt(targets_on(1), 0);
	world_end();
}

Test(keeper, a_lost_node_stops_and_its_buckets_go_on)
{
	world(4, 2);
	uint32_t b = bucket_with(2, 1);

	admin_save(lose_2);
	run(3 * SECOND);
	cr_assert_eq(targets_on(1), 0);
	cr_assert_eq(procs[2].until_us, 0);
	cr_assert(leads(1, b));
	world_end();
}

Test(keeper, a_new_node_gets_its_share)
{
	world(3, 2);
	struct map *map = map_copy(maps.map, 1, 1, 0);
	struct map_store_mem admin;

	map->nodes[3] = (struct map_node){.id = 4};
	map->shards[3] = (struct map_shard){.node = 4, .port = 7};
	map->epoch++;
	map_store_mem_init(&admin, &maps);
	cr_assert_eq(admin.store.ops->save(&admin.store, map), 0);
	map_free(start_map);
	start_map = map;
	run(2 * SECOND);
	cr_assert_eq(targets_on(3), 0, "not before it is up");
	start(4);
	run(2 * SECOND);
	cr_assert_geq(targets_on(3), BUCKETS * 2 / 4 - 2);
	for (uint32_t b = 0; b < BUCKETS; b++)
		cr_assert(!map_bucket_has(&maps.map->buckets[b], 3), "no data there yet");
	world_end();
}

Test(keeper, the_last_copy_is_never_dropped)
{
	world(3, 2);
	uint32_t b = bucket_with(1, 2);

	kill_node(2);
	run(7 * SECOND);
	cr_assert_eq(maps.map->buckets[b].backup_count, 0);
	kill_node(1);
	run(300 * SECOND);
	cr_assert_eq(maps.map->buckets[b].primary, 0, "it waits for node 1");
	start(2);
	run(10 * SECOND);
	cr_assert_eq(maps.map->buckets[b].primary, 0, "node 2 is not in sync");
	start(1);
	run(3 * SECOND);
	cr_assert(leads(1, b));
	world_end();
}

Test(keeper, an_empty_device_is_no_member)
{
	static uint8_t uuids[2][16] = {{1}, {2}};
	struct proposal p = {.kind = PROPOSE_DEVICE, .shard = 0};

	world(3, 2);
	uint32_t b = bucket_with(1, 2);
	memcpy(p.device_uuid, uuids[0], 16);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(memcmp(maps.map->shards[0].device_uuid, uuids[0], 16), 0);
	cr_assert_eq(maps.map->buckets[b].primary, 0);
	memcpy(p.device_uuid, uuids[1], 16);
	cr_assert_eq(keeper_propose(procs[1].keeper, &p), 0);
	turn(1);
	cr_assert_eq(memcmp(maps.map->shards[0].device_uuid, uuids[1], 16), 0);
	for (uint32_t i = 0; i < BUCKETS; i++)
		cr_assert(!map_bucket_has(&maps.map->buckets[i], 0));
	run(SECOND);
	cr_assert(leads(2, b));
	world_end();
}

/*
 * The keeper of a node: one turn after another.
 *
 *   renew -> load -> who is alive -> decide, save -> tell the lease
 *
 * Why two nodes never lead one bucket at the same time. A lease renewed at t (our clock,
 * taken before the call) is seen expired by nobody before t + lease. We serve until
 * t + lease/2 only. Nobody takes over from a node whose lease he did not see expired,
 * released, or absent for a whole lease. So who takes over does it after the old primary
 * stopped. There remains the old primary that comes back: somebody may have seen its
 * lease expired and be about to save a map with another primary. Therefore a node that
 * let its lease come near its end (3/4), or that just started, has to *claim*: it raises
 * the epochs of its buckets by a compare-and-swap, and serves only when that is saved.
 * Either the claim comes first and the taker computes again, seeing a live lease; or the
 * other way round, and the claim finds the buckets gone. Compare-and-swap also means that
 * who saves an eviction still is primary at that point, whatever its clock says.
 *
 *                 renewal succeeds, claim saved
 *        started ------------------------------> serving until t + lease/2, again and
 * again ^                                        |
 *           +---- no renewal for 3/4 lease ----------+
 *
 * A lease must be seen expired for a tenth of its time before anybody acts on it, so that
 * a process that was killed and started again at once gets it back first (until it
 * expires the store refuses another incarnation).
 *
 * The store away: nobody serves beyond his lease, nothing is decided, and it goes on when
 * the store is back.
 */
#include "core/cluster/keeper.h"

#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/mutate.h"
#include "core/cluster/keeper_impl.h"

#define SAVES_MAX    4
#define PAUSE_MIN_US 1000u

static uint64_t lease_us(const struct keeper *k)
{
	return k->map->lease_ms * 1000ull;
}

static void store_answered(struct keeper *k, int rc)
{
	bool bad = rc < 0 && rc != -EAGAIN && rc != -EBUSY;

	if (bad && !k->unreachable)
		log_error("map store failed error=%d reason=\"%s\": going on with the "
			  "map of "
			  "epoch=%llu",
			-rc, k->opt.store->reason, (unsigned long long)k->map->epoch);
	if (!bad && k->unreachable)
		log_info("map store is back");
	k->unreachable = bad;
}

static void map_take(struct keeper *k, struct map *map)
{
	struct map **kept = &k->maps[k->map_at++ % KEEPER_MAPS_KEPT];

	map_free(*kept);
	*kept = map;
	k->map = map;
	k->opt.map_changed(k->opt.ctx, map);
}

static int map_load(struct keeper *k)
{
	struct map *map = NULL;
	int rc = k->opt.store->ops->load(k->opt.store, k->map->epoch, &map);

	if (rc == 0 && map && map->epoch <= k->map->epoch)
		map_free(map);
	else if (rc == 0 && map)
		map_take(k, map);
	return rc;
}

/* --- the own lease ------------------------------------------------------------------ */

static bool lapsed(const struct keeper *k, uint64_t now_us)
{
	return !k->held || now_us >= k->renewed_us + lease_us(k) / 4 * 3;
}

static void renew(struct keeper *k)
{
	struct map_store *store = k->opt.store;
	uint64_t before_us = env_now_us(k->opt.env);
	int rc;

	if (before_us < k->renew_due_us || k->excluded)
		return;
	rc = store->ops->renew(store, k->opt.node, k->opt.incarnation, k->map->lease_ms);
	if (rc == -EBUSY && !k->busy_told)
		log_info("waiting for the lease of node=%u reason=\"%s\"", k->opt.node,
			store->reason);
	k->busy_told = rc == -EBUSY;
	store_answered(k, rc);
	if (rc == 0) {
		k->claim |= lapsed(k, env_now_us(k->opt.env));
		k->held = true;
		k->renewed_us = before_us;
		k->renew_due_us = before_us + lease_us(k) / 5;
	} else {
		k->renew_due_us = before_us + lease_us(k) / 50;
	}
}

static void lease_tell(struct keeper *k)
{
	uint64_t until_us = k->renewed_us + lease_us(k) / 2;

	if (!k->held || k->claim || k->excluded || until_us <= k->told_us)
		return;
	k->told_us = until_us;
	k->opt.lease(k->opt.ctx, until_us);
}

/* The operator took our node out for good: others may have everything at once. */
static void exclusion_check(struct keeper *k)
{
	uint32_t at = keeper_node_at(k->map, k->opt.node);
	bool excluded =
		at == k->map->node_count || k->map->nodes[at].state == MAP_NODE_LOST;

	if (excluded == k->excluded)
		return;
	k->excluded = excluded;
	k->renew_due_us = 0;
	if (!excluded)
		return;
	log_error("node=%u is excluded from the cluster: it serves no more", k->opt.node);
	k->opt.lease(k->opt.ctx, 0);
	keeper_stop(k);
}

/* --- the others' -------------------------------------------------------------------- */

static const struct map_lease *lease_find(
	const struct keeper *k, uint32_t count, uint32_t node)
{
	for (uint32_t i = 0; i < count; i++)
		if (k->leases[i].node == node)
			return &k->leases[i];
	return NULL;
}

static void watch_update(
	struct keeper *k, struct watch *w, const struct map_lease *lease, bool lost)
{
	uint64_t now_us = env_now_us(k->opt.env);
	uint64_t patience_us = lease_us(k) / 10;
	bool was_up = w->up;

	w->up = lease && lease->remaining_ms > 0;
	if (MUTATED(TAKE_OVER_EARLY) && lease)
		w->up = lease->remaining_ms > lease_us(k) / 1600;
	if (w->up) {
		w->seen = true;
		w->dead = false;
		w->waiting = 0;
		w->expiry_us = now_us + lease->remaining_ms * 1000ull;
		return;
	}
	if (was_up) {
		w->since_us = now_us;
		w->dead = !lease && now_us < w->expiry_us;
	}
	if (!lease && !w->seen)
		patience_us = lease_us(k);
	w->dead |= lost || now_us - w->since_us >= patience_us;
}

static int watch_all(struct keeper *k)
{
	struct map_store *store = k->opt.store;
	uint32_t count = 0;
	int rc = store->ops->leases(store, k->leases, MAP_NODES_MAX, &count);

	store_answered(k, rc);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < k->map->node_count; i++) {
		const struct map_node *node = &k->map->nodes[i];
		struct watch *w = &k->watches[i];

		if (!w->used || w->node != node->id)
			*w = (struct watch){.node = node->id,
				.used = true,
				.since_us = env_now_us(k->opt.env)};
		watch_update(k, w, lease_find(k, count, node->id),
			node->state == MAP_NODE_LOST);
		if (node->id == k->opt.node) {
			w->up = true;
			w->dead = false;
		}
	}
	return 0;
}

static bool any_up(const struct keeper *k, const struct map_bucket *b)
{
	for (uint32_t i = 0; i < b->backup_count; i++) {
		uint32_t node = k->map->shards[b->backups[i]].node;

		if (k->watches[keeper_node_at(k->map, node)].up)
			return true;
	}
	return false;
}

/* Say once which buckets wait for a dead node. */
static void waiting_tell(struct keeper *k)
{
	for (uint32_t n = 0; n < k->map->node_count; n++) {
		struct watch *w = &k->watches[n];
		uint32_t count = 0, first = 0;

		if (!w->dead || w->waiting)
			continue;
		for (uint32_t i = k->map->bucket_count; i-- > 0;) {
			const struct map_bucket *b = &k->map->buckets[i];

			if (k->map->shards[b->primary].node != w->node || any_up(k, b))
				continue;
			count++;
			first = i;
		}
		if (count)
			log_warn("buckets=%u wait for node=%u: no other in-sync copy is "
				 "up; "
				 "the first is bucket=%u: start that node",
				count, w->node, first);
		w->waiting = count;
	}
}

/* --- proposals ---------------------------------------------------------------------- */

static bool proposal_same(const struct proposal *a, const struct proposal *b)
{
	return a->kind == b->kind && a->bucket == b->bucket && a->epoch == b->epoch &&
	       a->shard == b->shard &&
	       memcmp(a->device_uuid, b->device_uuid, sizeof(a->device_uuid)) == 0;
}

int keeper_propose(struct keeper *k, const struct proposal *proposal)
{
	uint32_t i = 0;
	int rc = 0;

	pthread_mutex_lock(&k->mutex);
	while (i < k->proposal_count && !proposal_same(&k->proposals[i], proposal))
		i++;
	if (i < k->proposal_count)
		k->proposals[i].until_us = proposal->until_us;
	else if (i == KEEPER_PROPOSALS_MAX)
		rc = -EAGAIN;
	else if (i == k->proposal_count)
		k->proposals[k->proposal_count++] = *proposal;
	pthread_mutex_unlock(&k->mutex);
	if (rc == 0 && k->opt.wake)
		k->opt.wake(k->opt.wake_ctx);
	return rc;
}

static void proposals_take(struct keeper *k)
{
	pthread_mutex_lock(&k->mutex);
	k->taken_count = k->proposal_count;
	memcpy(k->taken, k->proposals, k->taken_count * sizeof(*k->taken));
	pthread_mutex_unlock(&k->mutex);
}

/* What was taken is in the map, or void. */
static void proposals_drop(struct keeper *k)
{
	pthread_mutex_lock(&k->mutex);
	k->proposal_count -= k->taken_count;
	memmove(k->proposals, k->proposals + k->taken_count,
		k->proposal_count * sizeof(*k->proposals));
	pthread_mutex_unlock(&k->mutex);
	k->taken_count = 0;
}

/* --- a turn ------------------------------------------------------------------------- */

/* One try: 0 done, or nothing to do; -EAGAIN: somebody else saved first. */
static int decide_once(struct keeper *k)
{
	struct map *map = map_copy(k->map, 0, 0, 0);
	bool changed = false;
	int rc = map ? keeper_decide(k, map, &changed) : -ENOMEM;

	if (rc == 0 && changed) {
		map->epoch++;
		rc = k->opt.store->ops->save(k->opt.store, map);
		store_answered(k, rc);
		if (rc == 0) {
			k->claim = false;
			proposals_drop(k);
			map_take(k, map);
			return 0;
		}
	} else if (rc == 0) {
		k->claim = false;
		proposals_drop(k);
	}
	map_free(map);
	return rc;
}

static int decide(struct keeper *k)
{
	int rc = -EAGAIN;

	proposals_take(k);
	for (int i = 0; rc == -EAGAIN && i < SAVES_MAX; i++) {
		/* What else we know must be as new as the map we decide upon. */
		rc = map_load(k);
		store_answered(k, rc);
		if (rc == 0) {
			exclusion_check(k);
			rc = watch_all(k);
		}
		if (rc || k->excluded || lapsed(k, env_now_us(k->opt.env)))
			return rc;
		rc = decide_once(k);
	}
	return rc;
}

static uint64_t next_turn_us(struct keeper *k, int rc)
{
	uint64_t now_us = env_now_us(k->opt.env);
	uint64_t wait_us = lease_us(k) / 5;

	if (!k->excluded && k->renew_due_us < now_us + wait_us)
		wait_us = k->renew_due_us > now_us ? k->renew_due_us - now_us : 0;
	if (rc == -EAGAIN && wait_us > PAUSE_MIN_US)
		wait_us = PAUSE_MIN_US + env_random(k->opt.env) % (lease_us(k) / 100);
	else if (rc < 0 && wait_us > lease_us(k) / 20)
		wait_us = lease_us(k) / 20;
	for (uint32_t i = 0; i < k->map->node_count; i++) {
		const struct watch *w = &k->watches[i];

		if (w->used && w->up && w->node != k->opt.node &&
			w->expiry_us < now_us + wait_us)
			wait_us = w->expiry_us > now_us ? w->expiry_us - now_us : 0;
		if (w->used && !w->up && !w->dead && wait_us > lease_us(k) / 20)
			wait_us = lease_us(k) / 20;
	}
	return wait_us > PAUSE_MIN_US ? wait_us : PAUSE_MIN_US;
}

uint64_t keeper_turn(struct keeper *k)
{
	int rc;

	renew(k);
	/* A claim whose answer was lost is a new epoch all the same: not one after another. */
	if (k->claim && env_now_us(k->opt.env) < k->decide_due_us)
		return k->decide_due_us - env_now_us(k->opt.env);
	rc = decide(k);
	if (rc < 0 && rc != -EAGAIN)
		k->decide_due_us = env_now_us(k->opt.env) + lease_us(k) / 50;
	if (rc == 0)
		waiting_tell(k);
	lease_tell(k);
	return next_turn_us(k, rc);
}

int keeper_new(const struct keeper_options *opt, struct keeper **keeper_out)
{
	struct keeper *k;

	if (keeper_node_at(opt->map, opt->node) == opt->map->node_count)
		return -EINVAL;
	k = mem_zalloc(sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->opt = *opt;
	k->map = opt->map;
	k->claim = true;
	pthread_mutex_init(&k->mutex, NULL);
	*keeper_out = k;
	return 0;
}

const struct map *keeper_map(const struct keeper *k)
{
	return k->map;
}

void keeper_stop(struct keeper *k)
{
	int rc =
		k->opt.store->ops->release(k->opt.store, k->opt.node, k->opt.incarnation);

	if (rc < 0)
		log_warn("lease of node=%u not released reason=\"%s\": it runs out",
			k->opt.node, k->opt.store->reason);
	k->held = false;
	k->claim = true;
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	for (uint32_t i = 0; i < KEEPER_MAPS_KEPT; i++)
		map_free(k->maps[i]);
	mem_free(k->idle_plan_out);
	pthread_mutex_destroy(&k->mutex);
	mem_free(k);
}

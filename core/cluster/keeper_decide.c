/*
 * What a keeper changes in the map. All of it is computed from the map and from who is
 * alive, into one new map, so that losing the compare-and-swap means only: compute again.
 *
 *   claim     our shards carry our incarnation, and the buckets they lead a new epoch
 *   device    a shard on another device than the map says holds nothing: it leaves
 *   takeover  a bucket whose primary's node is dead goes to its first backup that is
 *             up, if that is ours; a bucket we lead drops its dead backups
 *   propose   what our shards ask about the buckets they lead
 *   plan      by the lowest node that is up: targets again
 *
 * Nobody becomes a member here but by PROPOSE_ADMIT, nobody primary who was not a member,
 * and the last member always stays: its bucket waits for it.
 */
#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/mutate.h"
#include "core/cluster/keeper_impl.h"

uint32_t keeper_node_at(const struct map *map, uint32_t id)
{
	uint32_t at = 0;

	while (at < map->node_count && map->nodes[at].id != id)
		at++;
	return at;
}

static bool shard_ours(const struct keeper *k, const struct map *map, uint32_t shard)
{
	return map->shards[shard].node == k->opt.node;
}

static const struct watch *watch_of(
	const struct keeper *k, const struct map *map, uint32_t shard)
{
	return &k->watches[keeper_node_at(map, map->shards[shard].node)];
}

static void backup_drop(struct map_bucket *b, uint32_t at)
{
	b->backup_count--;
	memmove(&b->backups[at], &b->backups[at + 1],
		(b->backup_count - at) * sizeof(*b->backups));
	b->backups[b->backup_count] = 0;
}

static bool backup_remove(struct map_bucket *b, uint32_t shard)
{
	for (uint32_t i = 0; i < b->backup_count; i++)
		if (b->backups[i] == shard) {
			backup_drop(b, i);
			return true;
		}
	return false;
}

/* The backup becomes primary; the old one is no member any more. */
static void bucket_promote(struct map_bucket *b, uint32_t shard)
{
	backup_remove(b, shard);
	b->primary = shard;
	b->epoch++;
}

static bool claim(const struct keeper *k, struct map *map)
{
	bool changed = false;

	if (!k->claim)
		return false;
	for (uint32_t i = 0; i < map->shard_count; i++)
		if (shard_ours(k, map, i) &&
			map->shards[i].incarnation != k->opt.incarnation) {
			map->shards[i].incarnation = k->opt.incarnation;
			changed = true;
		}
	for (uint32_t i = 0; i < map->bucket_count; i++)
		if (shard_ours(k, map, map->buckets[i].primary) &&
			!MUTATED(KEEP_EPOCH_AT_RESTART)) {
			map->buckets[i].epoch++;
			changed = true;
		}
	return changed;
}

static uint32_t first_up(
	const struct keeper *k, const struct map *map, const struct map_bucket *b)
{
	for (uint32_t i = 0; i < b->backup_count; i++)
		if (watch_of(k, map, b->backups[i])->up)
			return b->backups[i];
	return UINT32_MAX;
}

/* Our shard has an empty device in place of the one its buckets were on. How many of them
 * nobody else could take. It leaves what it was a backup of the first time only: later it
 * may have become one again, with a copy on the new device. */
static uint32_t device_replaced(const struct keeper *k, struct map *map, uint32_t shard,
	bool first, bool *changed_out)
{
	uint32_t stranded = 0;

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		struct map_bucket *b = &map->buckets[i];
		uint32_t heir;

		if (first)
			*changed_out |= backup_remove(b, shard);
		if (b->primary != shard)
			continue;
		stranded += b->backup_count == 0;
		if (b->backup_count == 0)
			continue;
		/* If none of them is up, the bucket waits for one; not for us. */
		heir = first_up(k, map, b);
		bucket_promote(b, heir == UINT32_MAX ? b->backups[0] : heir);
		*changed_out = true;
	}
	if (stranded && first)
		log_error(
			"shard=%u has another device, and %u buckets have no other copy: "
			"bring back the old device",
			shard, stranded);
	else if (!stranded)
		log_info("shard=%u has a new device: its buckets are copied to it again",
			shard);
	return stranded;
}

static bool device_set(const struct keeper *k, struct map *map, uint32_t shard,
	const uint8_t uuid[16], bool first)
{
	static const uint8_t none[16];
	struct map_shard *s = &map->shards[shard];
	bool changed = false;

	if (memcmp(uuid, none, 16) == 0 || memcmp(uuid, s->device_uuid, 16) == 0)
		return false;
	if (memcmp(s->device_uuid, none, 16) != 0 &&
		device_replaced(k, map, shard, first, &changed) > 0)
		return changed;
	memcpy(s->device_uuid, uuid, 16);
	return true;
}

/* Ours, and on a device that the map does not know it by: what its buckets hold is with
 * others, or with nobody. It says nothing about who else is a member. */
static bool shard_blank(const struct keeper *k, const struct map *map, uint32_t shard)
{
	static const uint8_t none[16];
	const struct map_shard *s = &map->shards[shard];

	return k->opt.device_uuids && shard_ours(k, map, shard) &&
	       memcmp(k->opt.device_uuids[s->index], none, 16) != 0 &&
	       memcmp(k->opt.device_uuids[s->index], s->device_uuid, 16) != 0;
}

static bool devices_set(const struct keeper *k, struct map *map)
{
	bool changed = false;

	/* Again and again while there are buckets that nobody else could take. */
	for (uint32_t i = 0; k->opt.device_uuids && i < map->shard_count; i++)
		if (shard_ours(k, map, i))
			changed |= device_set(k, map, i,
				k->opt.device_uuids[map->shards[i].index], k->claim);
	return changed;
}

/* A known wrong variant: one of ours that should be a member, and is none. */
static uint32_t stale_heir(
	const struct keeper *k, const struct map *map, const struct map_bucket *b)
{
	for (uint32_t i = 0; i < b->target_count; i++)
		if (shard_ours(k, map, b->targets[i]))
			return b->targets[i];
	return UINT32_MAX;
}

static bool takeover(const struct keeper *k, struct map *map)
{
	bool changed = false;

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		struct map_bucket *b = &map->buckets[i];
		uint32_t heir;

		if (watch_of(k, map, b->primary)->dead) {
			heir = first_up(k, map, b);
			if (MUTATED(PROMOTE_STALE) && heir == UINT32_MAX)
				heir = stale_heir(k, map, b);
			if (heir == UINT32_MAX || !shard_ours(k, map, heir))
				continue;
			bucket_promote(b, heir);
			changed = true;
		}
		if (!shard_ours(k, map, b->primary) || shard_blank(k, map, b->primary))
			continue;
		for (uint32_t j = b->backup_count; j-- > 0;)
			if (watch_of(k, map, b->backups[j])->dead) {
				backup_drop(b, j);
				changed = true;
			}
	}
	return changed;
}

static bool bucket_wants(const struct map_bucket *b, uint32_t shard)
{
	for (uint32_t i = 0; i < b->target_count; i++)
		if (b->targets[i] == shard)
			return true;
	return false;
}

/* One in its place who would have to leave anyway: others leave only when all that are
 * wanted are there, and there may be no room for them before. */
static bool extra_drop(struct map_bucket *b, uint32_t shard)
{
	for (uint32_t i = b->backup_count; bucket_wants(b, shard) && i-- > 0;)
		if (!bucket_wants(b, b->backups[i])) {
			backup_drop(b, i);
			return true;
		}
	return false;
}

static bool admit(const struct keeper *k, const struct map *map, struct map_bucket *b,
	uint32_t shard, const uint8_t device_uuid[16])
{
	uint32_t at = keeper_node_at(map, map->shards[shard].node);
	static const uint8_t none[16];

	/* It may have got an empty device since. */
	if (memcmp(map->shards[shard].device_uuid, none, 16) != 0 &&
		memcmp(map->shards[shard].device_uuid, device_uuid, 16) != 0)
		return false;
	/* Who never claimed may be on any device: nobody would notice another. */
	if (map_bucket_has(b, shard) || !k->watches[at].up ||
		map->nodes[at].state == MAP_NODE_LOST ||
		map->shards[shard].incarnation == 0)
		return false;
	if (b->backup_count >= map->copies && !extra_drop(b, shard))
		return false;
	b->backups[b->backup_count++] = shard;
	return true;
}

static bool handover(const struct keeper *k, const struct map *map, struct map_bucket *b,
	uint32_t shard)
{
	uint32_t old = b->primary;

	if (!map_bucket_has_backup(b, shard) || !watch_of(k, map, shard)->up)
		return false;
	bucket_promote(b, shard);
	b->backups[b->backup_count++] = old;
	return true;
}

static bool propose(const struct keeper *k, struct map *map, const struct proposal *p)
{
	struct map_bucket *b;

	if (p->shard >= map->shard_count)
		return false;
	if (p->kind == PROPOSE_DEVICE)
		return shard_ours(k, map, p->shard) &&
		       device_set(k, map, p->shard, p->device_uuid, true);
	if (p->bucket >= map->bucket_count)
		return false;
	b = &map->buckets[p->bucket];
	if (b->epoch != p->epoch || !shard_ours(k, map, b->primary))
		return false;
	if (p->until_us && env_now_us(k->opt.env) >= p->until_us)
		return false;
	if (p->kind != PROPOSE_HANDOVER && shard_blank(k, map, b->primary))
		return false;
	switch (p->kind) {
	case PROPOSE_EVICT: return backup_remove(b, p->shard);
	case PROPOSE_ADMIT: return admit(k, map, b, p->shard, p->device_uuid);
	case PROPOSE_HANDOVER: return handover(k, map, b, p->shard);
	case PROPOSE_DEVICE: break;
	}
	return false;
}

/* --- the plan ----------------------------------------------------------------------- */

static bool lowest_up(const struct keeper *k, const struct map *map)
{
	for (uint32_t i = 0; i < map->node_count; i++)
		if (k->watches[i].up && map->nodes[i].id < k->opt.node)
			return false;
	return true;
}

/*
 * Which shards are out, and whether the targets disagree with that. A node that is away
 * stays as it is planned until it has been away for long; after that it is planned in
 * again when it is up. With one copy there is nothing to rebuild from.
 */
static bool plan_due(
	const struct keeper *k, const struct map *map, bool *out, const bool *has_target)
{
	uint64_t now_us = env_now_us(k->opt.env);
	uint64_t patience_us = map->rebuild_after_s * 1000000ull;
	bool due = false;

	for (uint32_t s = 0; s < map->shard_count; s++) {
		uint32_t at = keeper_node_at(map, map->shards[s].node);
		const struct watch *w = &k->watches[at];
		bool gone =
			map->copies > 1 && w->dead && now_us - w->since_us >= patience_us;

		out[s] = map->nodes[at].state != MAP_NODE_IN || gone ||
			 (!w->up && !has_target[s]);
		due |= out[s] == has_target[s];
	}
	return due;
}

static bool targets_short(const struct map *map, uint32_t want)
{
	for (uint32_t i = 0; i < map->bucket_count; i++)
		if (map->buckets[i].target_count < want)
			return true;
	return false;
}

static void reduced_tell(struct keeper *k, const struct map *map, const bool *out)
{
	uint32_t domains;
	uint32_t want = map_plan_copies(map, out, &domains);
	bool reduced = want < map->copies || domains < map->copies;

	if (reduced && !k->reduced_told)
		log_warn("redundancy is reduced copies=%u possible=%u domains=%u: bring "
			 "nodes back, or add some",
			map->copies, want, domains);
	k->reduced_told = reduced;
}

static bool plan_idle(const struct keeper *k, const struct map *map, const bool *out)
{
	return k->idle_plan_out && k->idle_plan_shards == map->shard_count &&
	       k->idle_plan_epoch == k->map->epoch &&
	       memcmp(k->idle_plan_out, out, map->shard_count) == 0;
}

static int plan_try(struct keeper *k, struct map *map, bool *out, bool *changed_out)
{
	struct map *before = map_copy(map, 0, 0, 0);
	int rc = before ? map_plan(map, out) : -ENOMEM;

	if (rc == 0) {
		reduced_tell(k, map, out);
		*changed_out = memcmp(before->buckets, map->buckets,
				       map->bucket_count * sizeof(*map->buckets)) != 0;
	}
	map_free(before);
	return rc == -ENOSPC ? 0 : rc;
}

static int plan(struct keeper *k, struct map *map, bool *changed_out)
{
	bool *out, *has_target, due;
	bool changed = false;
	uint32_t domains;
	int rc = 0;

	if (!lowest_up(k, map))
		return 0;
	out = mem_zalloc(2 * map->shard_count);
	if (!out)
		return -ENOMEM;
	has_target = out + map->shard_count;
	for (uint32_t i = 0; i < map->bucket_count; i++)
		for (uint32_t j = 0; j < map->buckets[i].target_count; j++)
			has_target[map->buckets[i].targets[j]] = true;
	due = plan_due(k, map, out, has_target);
	if (!due && targets_short(map, map->copies))
		due = targets_short(map, map_plan_copies(map, out, &domains));
	if (due && !plan_idle(k, map, out)) {
		rc = plan_try(k, map, out, &changed);
		if (rc == 0 && changed)
			log_info("buckets are planned again");
		*changed_out |= changed;
	}
	if (due && rc == 0 && !*changed_out) {
		mem_free(k->idle_plan_out);
		k->idle_plan_out = out;
		k->idle_plan_shards = map->shard_count;
		k->idle_plan_epoch = k->map->epoch;
		return 0;
	}
	mem_free(out);
	return rc;
}

int keeper_decide(struct keeper *k, struct map *map, bool *changed_out)
{
	bool changed = claim(k, map);

	changed |= devices_set(k, map);
	changed |= takeover(k, map);
	for (uint32_t i = 0; i < k->taken_count; i++)
		changed |= propose(k, map, &k->taken[i]);
	*changed_out = changed;
	return plan(k, map, changed_out);
}

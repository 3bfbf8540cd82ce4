/*
 * Where buckets should be: the targets of a new cluster, and of one whose shards changed.
 *
 * A plan is made in four steps, each a greedy choice in a fixed order, so that every node
 * computes the same:
 *
 *   keep    what may stay: not on a shard that is out, no two copies on one node,
 *           nor in one failure domain while there are domains enough
 *   fill    each missing copy: another domain before another node, who holds the
 *           data already before who does not, the least loaded, and among those
 *           the one that shares the fewest buckets with the copies already there,
 *           then with the first of them. That is the declustering: what a dead
 *           shard held comes back from all others at once.
 *   level   copies move from full shards to empty ones until the counts differ by
 *           no more than the slack; first those that this plan placed, so that
 *           data seldom moves
 *   lead    the first target is the preferred primary: exchanged within buckets, along
 *           chains of shards where no single exchange helps, until primaries are even
 *
 * Slack is 1 for a new cluster and a tenth of the mean later: evenness is not worth
 * moving data for.
 *
 * Two copies on one node are no more than one when it dies, so they are planned only
 * where the map has fewer nodes than copies altogether (a test's world).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/cluster/map.h"

#define NONE UINT32_MAX

struct plan {
	struct map *map;
	const bool *out;
	uint32_t *node;   /* by shard: position of its node */
	uint32_t *domain; /* by shard: position of the first node in its domain */
	uint32_t *load;   /* by shard: targets */
	uint32_t *lead;   /* by shard: first targets */
	uint32_t *pair;   /* [a * shard_count + b]: buckets that have both */
	uint32_t *behind; /* [a * shard_count + b]: buckets where b comes after first a */
	uint8_t *fresh;   /* by bucket: which targets this plan placed, bits */
	uint32_t *via;    /* by shard, in lead_chain: the bucket that leads there */
	uint32_t *from;   /* the shard before */
	uint32_t *queue;
	uint32_t want;    /* targets of each bucket */
	uint32_t domains; /* that have a shard */
	uint32_t in_count;
	bool share; /* nodes may hold two copies */
	bool scratch;
};

static const char *domain_of(const struct map_node *node, char text[MAP_DOMAIN_MAX + 1])
{
	if (node->domain[0])
		return node->domain;
	snprintf(text, MAP_DOMAIN_MAX + 1, "node%u", node->id);
	return text;
}

static void shard_locate(
	const struct map *map, uint32_t shard, uint32_t *node_out, uint32_t *domain_out)
{
	char a[MAP_DOMAIN_MAX + 1], b[MAP_DOMAIN_MAX + 1];
	const char *domain;
	uint32_t n = 0, d = 0;

	while (n < map->node_count - 1 && map->nodes[n].id != map->shards[shard].node)
		n++;
	domain = domain_of(&map->nodes[n], a);
	while (d < n && strcmp(domain_of(&map->nodes[d], b), domain) != 0)
		d++;
	*node_out = n;
	*domain_out = d;
}

/* Different values of `of` over the shards that are in. seen: node_count of them. */
static uint32_t distinct(const struct map *map, const bool *out, bool domains, bool *seen)
{
	uint32_t count = 0;

	memset(seen, 0, map->node_count * sizeof(*seen));
	for (uint32_t s = 0; s < map->shard_count; s++) {
		uint32_t node, domain;

		if (out && out[s])
			continue;
		shard_locate(map, s, &node, &domain);
		if (domains)
			node = domain;
		count += !seen[node];
		seen[node] = true;
	}
	return count;
}

static uint32_t min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t map_plan_copies(
	const struct map *map, const bool *shard_out, uint32_t *domains_out)
{
	bool seen[MAP_NODES_MAX];
	uint32_t places = distinct(map, shard_out, false, seen);

	if (map->node_count < map->copies) {
		places = 0;
		for (uint32_t s = 0; s < map->shard_count; s++)
			places += !shard_out || !shard_out[s];
	}
	*domains_out = distinct(map, shard_out, true, seen);
	return min32(map->copies, places);
}

static void pairs_count(
	struct plan *p, const struct map_bucket *b, uint32_t shard, int by)
{
	for (uint32_t i = 0; i < b->target_count; i++) {
		uint32_t other = b->targets[i];

		if (other == shard)
			continue;
		p->pair[(size_t)shard * p->map->shard_count + other] += (uint32_t)by;
		p->pair[(size_t)other * p->map->shard_count + shard] += (uint32_t)by;
	}
}

static uint32_t *behind_of(
	const struct plan *p, const struct map_bucket *b, uint32_t shard)
{
	return &p->behind[(size_t)b->targets[0] * p->map->shard_count + shard];
}

static void target_add(struct plan *p, uint32_t bucket, uint32_t shard, bool fresh)
{
	struct map_bucket *b = &p->map->buckets[bucket];

	if (fresh)
		p->fresh[bucket] |= (uint8_t)(1u << b->target_count);
	if (b->target_count)
		(*behind_of(p, b, shard))++;
	b->targets[b->target_count++] = shard;
	p->load[shard]++;
	pairs_count(p, b, shard, 1);
}

/*
 * How bad it would be to have `shard` beside the bucket's targets, not counting slot
 * `but`: 0 not at all, 1 a domain twice, 2 a node twice, NONE not allowed.
 */
static uint32_t rank_of(
	const struct plan *p, const struct map_bucket *b, uint32_t shard, uint32_t but)
{
	uint32_t rank = 0;

	for (uint32_t i = 0; i < b->target_count; i++) {
		uint32_t other = b->targets[i];

		if (i == but)
			continue;
		if (other == shard)
			return NONE;
		if (p->node[other] == p->node[shard])
			rank = 2;
		else if (p->domain[other] == p->domain[shard] && rank < 1)
			rank = 1;
	}
	return rank == 2 && !p->share ? NONE : rank;
}

static void targets_keep(struct plan *p, uint32_t bucket)
{
	struct map_bucket *b = &p->map->buckets[bucket];
	struct map_bucket old = *b;

	b->target_count = 0;
	memset(b->targets, 0, sizeof(b->targets));
	if (p->scratch)
		return;
	for (uint32_t i = 0; i < old.target_count && b->target_count < p->want; i++) {
		uint32_t shard = old.targets[i];
		uint32_t rank;

		if (p->out && p->out[shard])
			continue;
		rank = rank_of(p, b, shard, NONE);
		if (rank == NONE || (rank == 1 && p->domains >= p->want))
			continue;
		target_add(p, bucket, shard, false);
	}
}

static uint32_t pair_sum(
	const struct plan *p, const struct map_bucket *b, uint32_t shard, uint32_t but)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < b->target_count; i++)
		if (i != but)
			sum += p->pair[(size_t)shard * p->map->shard_count +
				       b->targets[i]];
	return sum;
}

/* What is compared, most important first. */
#define KEY_SIZE 6
static bool key_less(const uint32_t *a, const uint32_t *b)
{
	for (int i = 0; i < KEY_SIZE; i++)
		if (a[i] != b[i])
			return a[i] < b[i];
	return false;
}

static void target_fill(struct plan *p, uint32_t bucket)
{
	const struct map_bucket *b = &p->map->buckets[bucket];
	uint32_t count = p->map->shard_count;
	uint32_t best_key[KEY_SIZE];
	uint32_t best = NONE;

	for (uint32_t s = 0; s < count; s++) {
		uint32_t rank;

		if (p->out && p->out[s])
			continue;
		rank = rank_of(p, b, s, NONE);
		if (rank == NONE)
			continue;
		uint32_t key[KEY_SIZE] = {rank, p->scratch || !map_bucket_has(b, s),
			p->load[s], pair_sum(p, b, s, NONE),
			b->target_count ? *behind_of(p, b, s) : 0,
			(s + count - bucket % count) % count};
		if (best == NONE || key_less(key, best_key)) {
			best = s;
			memcpy(best_key, key, sizeof(key));
		}
	}
	if (best != NONE)
		target_add(p, bucket, best, true);
}

static void target_move(struct plan *p, uint32_t bucket, uint32_t slot, uint32_t to)
{
	struct map_bucket *b = &p->map->buckets[bucket];
	uint32_t from = b->targets[slot];

	pairs_count(p, b, from, -1);
	p->load[from]--;
	b->targets[slot] = to;
	p->load[to]++;
	pairs_count(p, b, to, 1);
	p->fresh[bucket] |= (uint8_t)(1u << slot);
}

/* The best move of one target away from the full shard: false if none helps. */
static bool level_from(struct plan *p, uint32_t full)
{
	uint32_t best_key[KEY_SIZE] = {NONE};
	uint32_t bucket = 0, slot = 0, to = NONE;

	for (uint32_t i = 0; i < p->map->bucket_count; i++) {
		const struct map_bucket *b = &p->map->buckets[i];
		uint32_t at = 0, rank;

		while (at < b->target_count && b->targets[at] != full)
			at++;
		if (at == b->target_count)
			continue;
		rank = rank_of(p, b, full, at);
		for (uint32_t s = 0; s < p->map->shard_count; s++) {
			uint32_t other;

			if ((p->out && p->out[s]) || p->load[s] + 1 >= p->load[full])
				continue;
			other = rank_of(p, b, s, at);
			if (other == NONE || other > rank)
				continue;
			uint32_t key[KEY_SIZE] = {p->load[s], !(p->fresh[i] >> at & 1),
				at == 0, pair_sum(p, b, s, at), i};
			if (to == NONE || key_less(key, best_key)) {
				memcpy(best_key, key, sizeof(key));
				bucket = i;
				slot = at;
				to = s;
			}
		}
	}
	if (to != NONE)
		target_move(p, bucket, slot, to);
	return to != NONE;
}

static uint32_t slack(const struct plan *p, uint32_t total)
{
	uint32_t tenth = total / p->in_count / 10;

	return p->scratch || tenth < 1 ? 1 : tenth;
}

/*
 * The shard with the most (by count[]) that is more than the slack above the least and
 * not marked stuck; NONE: even enough.
 */
static uint32_t fullest(
	const struct plan *p, const uint32_t *count, uint32_t allowed, const bool *stuck)
{
	uint32_t low = NONE, best = NONE;

	for (uint32_t s = 0; s < p->map->shard_count; s++) {
		if (p->out && p->out[s])
			continue;
		low = min32(low, count[s]);
		if (!stuck[s] && (best == NONE || count[s] > count[best]))
			best = s;
	}
	return best != NONE && count[best] > low + allowed ? best : NONE;
}

/* A chain of exchanges that takes a bucket's lead from `full` to one with two less. */
static bool lead_chain(struct plan *p, uint32_t full)
{
	const struct map *map = p->map;
	uint32_t head = 0, tail = 0, end = NONE;

	memset(p->via, 0xff, map->shard_count * sizeof(*p->via));
	p->queue[tail++] = full;
	while (head < tail && end == NONE) {
		uint32_t s = p->queue[head++];

		for (uint32_t i = 0; i < map->bucket_count && end == NONE; i++) {
			const struct map_bucket *b = &map->buckets[i];

			if (!b->target_count || b->targets[0] != s)
				continue;
			for (uint32_t k = 1; k < b->target_count; k++) {
				uint32_t next = b->targets[k];

				if (next == full || p->via[next] != NONE)
					continue;
				p->via[next] = i;
				p->from[next] = s;
				p->queue[tail++] = next;
				if (end == NONE && p->lead[next] + 1 < p->lead[full])
					end = next;
			}
		}
	}
	if (end == NONE)
		return false;
	p->lead[full]--;
	p->lead[end]++;
	for (uint32_t s = end; s != full; s = p->from[s]) {
		struct map_bucket *b = &map->buckets[p->via[s]];
		uint32_t k = 1;

		while (b->targets[k] != s)
			k++;
		b->targets[k] = b->targets[0];
		b->targets[0] = s;
	}
	return true;
}

static void plan_level(struct plan *p, bool *stuck)
{
	uint32_t allowed = slack(p, p->map->bucket_count * p->want);
	uint32_t full;

	memset(stuck, 0, p->map->shard_count * sizeof(*stuck));
	while ((full = fullest(p, p->load, allowed, stuck)) != NONE)
		stuck[full] = !level_from(p, full);
	for (uint32_t i = 0; i < p->map->bucket_count; i++)
		if (p->map->buckets[i].target_count)
			p->lead[p->map->buckets[i].targets[0]]++;
	allowed = slack(p, p->map->bucket_count);
	memset(stuck, 0, p->map->shard_count * sizeof(*stuck));
	while ((full = fullest(p, p->lead, allowed, stuck)) != NONE)
		stuck[full] = !lead_chain(p, full);
}

static int plan_make(struct map *map, const bool *out, bool scratch)
{
	struct plan p = {.map = map, .out = out, .scratch = scratch};
	size_t n = map->shard_count;
	uint32_t *words = mem_zalloc((2 * n * n + 7 * n) * sizeof(*words));
	bool *stuck = mem_zalloc(n);

	p.fresh = mem_zalloc(map->bucket_count);
	p.want = map_plan_copies(map, out, &p.domains);
	p.share = map->node_count < map->copies;
	for (uint32_t s = 0; s < n; s++)
		p.in_count += !out || !out[s];
	if (!words || !stuck || !p.fresh || !p.in_count) {
		mem_free(words);
		mem_free(stuck);
		mem_free(p.fresh);
		return p.in_count ? -ENOMEM : -ENOSPC;
	}
	p.node = words;
	p.domain = words + n;
	p.load = words + 2 * n;
	p.lead = words + 3 * n;
	p.via = words + 4 * n;
	p.from = words + 5 * n;
	p.queue = words + 6 * n;
	p.pair = words + 7 * n;
	p.behind = p.pair + n * n;
	for (uint32_t s = 0; s < n; s++)
		shard_locate(map, s, &p.node[s], &p.domain[s]);
	for (uint32_t i = 0; i < map->bucket_count; i++)
		targets_keep(&p, i);
	for (uint32_t copy = 0; copy < p.want; copy++)
		for (uint32_t i = 0; i < map->bucket_count; i++)
			if (map->buckets[i].target_count <= copy)
				target_fill(&p, i);
	plan_level(&p, stuck);
	mem_free(words);
	mem_free(stuck);
	mem_free(p.fresh);
	return 0;
}

int map_plan(struct map *map, const bool *shard_out)
{
	return plan_make(map, shard_out, false);
}

int map_place(struct map *map)
{
	int rc = plan_make(map, NULL, true);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		struct map_bucket *b = &map->buckets[i];

		b->epoch = 1;
		b->primary = b->targets[0];
		b->backup_count = b->target_count - 1;
		memset(b->backups, 0, sizeof(b->backups));
		memcpy(b->backups, b->targets + 1, b->backup_count * sizeof(*b->backups));
	}
	return 0;
}

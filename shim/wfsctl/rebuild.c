/*
 * rebuild: the buckets that are being copied, or wait for it; the limit; and waiting
 * until all are whole.
 *
 * A bucket is whole when its members are its targets and there are as many as copies. The
 * map tells that; how far a copy is, only the shard that leads the bucket.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/wfsctl/change.h"
#include "shim/wfsctl/repair.h"
#include "shim/wfsctl/table.h"

#define ASK_TIMEOUT_MS 2000
#define REPAIRS_MAX    ((uint32_t)(WIRE_DATA_MAX / sizeof(struct wire_repair)))
#define WAITING_SHOWN  10u
#define LIMIT_MAX      1000000u

enum { RE_BUCKET, RE_STATE, RE_FROM, RE_TO, RE_MEMBERS, RE_DONE, RE_TOTAL, RE_COLUMNS };
static const struct column columns[RE_COLUMNS] = {
	[RE_BUCKET] = {"bucket", "BUCKET", COLUMN_COUNT, false},
	[RE_STATE] = {"state", "STATE", COLUMN_TEXT, false},
	[RE_FROM] = {"from_node", "FROM NODE", COLUMN_COUNT, false},
	[RE_TO] = {"to_node", "TO NODE", COLUMN_COUNT, false},
	[RE_MEMBERS] = {"copies", "COPIES NOW", COLUMN_COUNT, false},
	[RE_DONE] = {"done_bytes", "DONE", COLUMN_BYTES, false},
	[RE_TOTAL] = {"total_bytes", "OF", COLUMN_BYTES, false},
};

/* --- sums --------------------------------------------------------------------------- */

static bool bucket_settled(const struct map_bucket *b)
{
	if (b->target_count != b->backup_count + 1 || b->targets[0] != b->primary)
		return false;
	for (uint32_t k = 1; k < b->target_count; k++)
		if (!map_bucket_has_backup(b, b->targets[k]))
			return false;
	return true;
}

static bool node_is_target(const struct map *map, uint32_t id)
{
	for (uint32_t i = 0; i < map->bucket_count; i++)
		for (uint32_t k = 0; k < map->buckets[i].target_count; k++)
			if (map->shards[map->buckets[i].targets[k]].node == id)
				return true;
	return false;
}

/* As keeper_decide.c plans: who is in and up has targets, who is not in has none. */
static bool plan_due(const struct local *local)
{
	for (uint32_t i = 0; i < local->map->node_count; i++) {
		const struct map_node *node = &local->map->nodes[i];
		bool target = node_is_target(local->map, node->id);

		if (node->state == MAP_NODE_IN
				? !target && local_lease_ms(local, node->id) > 0
				: target)
			return true;
	}
	return false;
}

void repair_sum_map(struct repair_sum *sum, const struct local *local)
{
	const struct map *map = local->map;

	if (map->copies == 1)
		return;
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];

		sum->reduced += b->backup_count + 1 < map->copies;
		sum->moving += !bucket_settled(b);
		sum->short_of += b->target_count < map->copies;
	}
	sum->unplanned = plan_due(local);
}

bool repair_is_whole(const struct repair_sum *sum)
{
	return sum->moving == 0 && sum->reduced == 0 && !sum->unplanned;
}

void repair_sum_shard(struct repair_sum *sum, const struct wire_shard_stats *stats)
{
	sum->copying += le32_get(stats->copying);
	sum->waiting += le32_get(stats->waiting);
	sum->done_bytes += le64_get(stats->copy_done_bytes);
	sum->total_bytes += le64_get(stats->copy_total_bytes);
	sum->rate += le64_get(stats->copy_rate);
}

double repair_seconds_left(const struct repair_sum *sum)
{
	if (sum->rate == 0 || sum->total_bytes < sum->done_bytes)
		return -1;
	return (double)(sum->total_bytes - sum->done_bytes) / (double)sum->rate;
}

/* --- asking ------------------------------------------------------------------------- */

static bool shard_ask(struct client *c, uint32_t shard, uint16_t op, void *reply,
	uint32_t reply_size, void *data, uint32_t *data_size)
{
	struct client_raw raw = {
		.op = op,
		.target = (uint16_t)shard,
		.to_shard = true,
		.timeout_ms = ASK_TIMEOUT_MS,
		.reply = reply,
		.reply_size = reply_size,
		.reply_data = data,
		.reply_data_size = *data_size,
	};
	bool ok = client_raw(c, &raw) == 0 && raw.reply_size == reply_size;

	*data_size = raw.reply_data_size;
	return ok;
}

static bool shard_runs(const struct ctl *ctl, const struct map *map, uint32_t shard)
{
	return node_pid(ctl, map->shards[shard].node) != 0;
}

static void sums_ask(const struct ctl *ctl, const struct map *map, struct client *c,
	struct repair_sum *sum)
{
	for (uint32_t i = 0; i < map->shard_count; i++) {
		struct wire_shard_stats stats;
		uint32_t none = 0;

		if (shard_runs(ctl, map, i) && shard_ask(c, i, OP_SHARD_STATS, &stats,
						       sizeof(stats), NULL, &none))
			repair_sum_shard(sum, &stats);
	}
}

static void row_add(struct table *t, const struct map *map, uint32_t from,
	const struct wire_repair *r)
{
	static const char *const stages[] = {
		[REPAIR_WAITING] = "waiting",
		[REPAIR_COPYING] = "copying",
		[REPAIR_CATCHING_UP] = "catching up",
	};
	uint32_t to = le32_get(r->to), bucket = le16_get(r->bucket);

	if (to >= map->shard_count || bucket >= map->bucket_count ||
		r->stage > REPAIR_CATCHING_UP)
		return;
	table_row(t);
	table_count(t, RE_BUCKET, bucket);
	table_text(t, RE_STATE, "%s", stages[r->stage]);
	table_count(t, RE_FROM, map->shards[from].node);
	table_count(t, RE_TO, map->shards[to].node);
	table_count(t, RE_MEMBERS, map->buckets[bucket].backup_count + 1);
	table_count(t, RE_DONE, le64_get(r->done_bytes));
	table_count(t, RE_TOTAL, le64_get(r->total_bytes));
}

/* All rows with -o and --json; else, on a screen, those that move and the first to come.
 */
static uint32_t rows_ask(const struct ctl *ctl, const struct map *map, struct client *c,
	struct wire_repair *records, struct table *t)
{
	bool all = ctl_has(ctl, OPT_COLUMNS) || ctl_has(ctl, OPT_JSON);
	uint32_t waiting = 0, left_out = 0;

	for (uint32_t i = 0; i < map->shard_count; i++) {
		struct wire_repairs reply;
		uint32_t size = REPAIRS_MAX * (uint32_t)sizeof(*records);

		if (!shard_runs(ctl, map, i) || !shard_ask(c, i, OP_REPAIRS, &reply,
							sizeof(reply), records, &size))
			continue;
		for (uint32_t k = 0; k < size / sizeof(*records); k++) {
			waiting += records[k].stage == REPAIR_WAITING;
			if (all || records[k].stage != REPAIR_WAITING ||
				waiting <= WAITING_SHOWN)
				row_add(t, map, i, &records[k]);
			else
				left_out++;
		}
	}
	return left_out;
}

/* --- the command -------------------------------------------------------------------- */

static void sum_print(
	const struct ctl *ctl, const struct map *map, const struct repair_sum *sum)
{
	double left_s = repair_seconds_left(sum);

	if (repair_is_whole(sum)) {
		printf("all %u buckets have %u copies where they should be\n",
			map->bucket_count, map->copies);
		return;
	}
	printf("%u of %u buckets are not whole: %u have too few copies; %llu are being "
	       "copied, %llu wait\n",
		sum->moving > sum->reduced ? sum->moving : sum->reduced,
		map->bucket_count, sum->reduced, (unsigned long long)sum->copying,
		(unsigned long long)sum->waiting);
	printf("%s of %s copied, %s/s", text_bytes(ctl, sum->done_bytes),
		text_bytes(ctl, sum->total_bytes), text_bytes(ctl, sum->rate));
	if (left_s >= 0)
		printf(", about %s left", text_seconds(ctl, left_s));
	putchar('\n');
	if (sum->short_of)
		printf("%u buckets cannot have %u copies: bring nodes back, or add "
		       "some\n",
			sum->short_of, map->copies);
}

static void sum_json(
	const struct map *map, const struct repair_sum *sum, const struct table *t)
{
	struct json j = {.file = stdout};
	double left_s = repair_seconds_left(sum);

	json_open(&j, NULL, '{');
	json_bool(&j, "whole", repair_is_whole(sum));
	json_count(&j, "copies", map->copies);
	json_count(&j, "limit_mib_s", map->rebuild_mib_s);
	json_count(&j, "buckets_reduced", sum->reduced);
	json_count(&j, "buckets_moving", sum->moving);
	json_count(&j, "buckets_short", sum->short_of);
	json_count(&j, "copying", sum->copying);
	json_count(&j, "waiting", sum->waiting);
	json_count(&j, "done_bytes", sum->done_bytes);
	json_count(&j, "total_bytes", sum->total_bytes);
	json_count(&j, "bytes_per_s", sum->rate);
	if (left_s >= 0)
		json_real(&j, "left_s", left_s);
	else
		json_null(&j, "left_s");
	json_table(&j, "buckets", t);
	json_close(&j, '}');
}

static int list(const struct ctl *ctl, struct local *local)
{
	struct wire_repair *records = malloc(REPAIRS_MAX * sizeof(*records));
	struct repair_sum sum = {0};
	struct client *c = NULL;
	struct table *t;
	uint32_t left_out = 0;
	int rc = EXIT_OK;

	if (!records)
		return ctl_fail("out of memory");
	repair_sum_map(&sum, local);
	t = table_new(columns, RE_COLUMNS);
	rc = local_attach(ctl, local, NULL, &c, NULL);
	if (rc == EXIT_OK) {
		sums_ask(ctl, local->map, c, &sum);
		left_out = rows_ask(ctl, local->map, c, records, t);
		client_detach(c);
	}
	if (rc == EXIT_OK && ctl_has(ctl, OPT_JSON) && !ctl_has(ctl, OPT_COLUMNS)) {
		sum_json(local->map, &sum, t);
	} else if (rc == EXIT_OK) {
		if (!ctl_has(ctl, OPT_NO_HEADER))
			sum_print(ctl, local->map, &sum);
		if (sum.copying + sum.waiting || ctl_has(ctl, OPT_COLUMNS))
			rc = table_print(ctl, t);
		if (left_out)
			printf("and %u more: see --json\n", left_out);
	}
	table_free(t);
	free(records);
	return rc;
}

static int limit_edit(const struct ctl *ctl, struct map *map, void *ctx)
{
	(void)ctl;
	map->rebuild_mib_s = *(uint32_t *)ctx;
	return EXIT_OK;
}

static int limit_set(const struct ctl *ctl, struct local *local)
{
	uint32_t limit;
	struct change change = {.edit = limit_edit, .ctx = &limit};
	uint64_t value;

	if (!ctl_number(ctl, OPT_LIMIT, 0, LIMIT_MAX, 0, &value))
		return EXIT_USAGE;
	limit = (uint32_t)value;
	return local_change(ctl, local, &change);
}

static void wait_show(
	const struct ctl *ctl, const struct local *local, const struct repair_sum *sum)
{
	double left_s = repair_seconds_left(sum);
	char text[200], left[64] = "";

	if (left_s >= 0)
		snprintf(
			left, sizeof(left), ", about %s left", text_seconds(ctl, left_s));
	snprintf(text, sizeof(text), "%u of %u buckets are not whole, %s/s%s",
		sum->moving > sum->reduced ? sum->moving : sum->reduced,
		local->map->bucket_count, text_bytes(ctl, sum->rate), left);
	progress_show(ctl, text, -1);
}

/* Only for who looks. */
static void wait_progress(
	const struct ctl *ctl, struct local *local, struct repair_sum *sum)
{
	struct client *c;

	if (!ctl->progress)
		return;
	if (local_attach(ctl, local, NULL, &c, NULL) == EXIT_OK) {
		sums_ask(ctl, local->map, c, sum);
		client_detach(c);
	}
	wait_show(ctl, local, sum);
}

static int wait_whole(const struct ctl *ctl, struct local *local)
{
	uint64_t timeout_s, end_ms;

	if (!ctl_number(ctl, OPT_TIMEOUT, 1, 1000000, 1000000, &timeout_s))
		return EXIT_USAGE;
	end_ms = now_ms() + timeout_s * 1000;
	for (;;) {
		struct repair_sum sum = {0};
		int rc;

		repair_sum_map(&sum, local);
		if (repair_is_whole(&sum))
			break;
		wait_progress(ctl, local, &sum);
		if ((sum.moving == 0 && !sum.unplanned) || now_ms() > end_ms) {
			progress_end(ctl);
			return sum.moving == 0 && !sum.unplanned
				       ? ctl_fail("%u buckets cannot have %u copies: "
						  "bring "
						  "nodes back, or add some",
						 sum.reduced, local->map->copies)
				       : ctl_fail("%u buckets are not whole yet: it goes "
						  "on",
						 sum.moving);
		}
		change_pause();
		rc = local_reload(local);
		if (rc)
			return rc;
	}
	progress_end(ctl);
	return EXIT_OK;
}

int cmd_rebuild(struct ctl *ctl, int argc, char **argv)
{
	struct local local;
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	rc = copies_needed(local.map, "rebuild");
	if (rc == EXIT_OK && ctl_has(ctl, OPT_LIMIT))
		rc = limit_set(ctl, &local);
	if (rc == EXIT_OK && ctl_has(ctl, OPT_WAIT))
		rc = wait_whole(ctl, &local);
	if (rc == EXIT_OK)
		rc = list(ctl, &local);
	local_close(&local);
	return rc;
}

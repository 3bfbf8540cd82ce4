/*
 * cluster status: is it healthy, how full, how fast, how even; on one screen.
 *
 * One attach, then OP_SHARD_STATS to every shard of the nodes that run. A node whose
 * process runs but whose shards do not answer counts as "silent".
 *
 *   healthy   all nodes answer
 *   degraded  some do; what the others lead is out of reach, with more copies only until
 *             the keepers have made others lead it
 *   stopped   none runs
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/wire.h"
#include "shim/wfsctl/local.h"
#include "shim/wfsctl/repair.h"
#include "shim/wfsctl/table.h"

#define ASK_TIMEOUT_MS 2000
#define RATIO_MIN      ((uint64_t)1 << 20) /* bytes written, to speak of amplification */

enum {
	ST_ID,
	ST_STATE,
	ST_PID,
	ST_UPTIME,
	ST_MEMORY,
	ST_SIZE,
	ST_USED,
	ST_USED_PERCENT,
	ST_INODES,
	ST_INODES_PERCENT,
	ST_BYTES_PERCENT,
	ST_REQUESTS,
	ST_REQUESTS_PERCENT,
	ST_READ,
	ST_WRITTEN,
	ST_AMPLIFICATION,
	ST_SESSIONS,
	ST_PARKED,
	ST_OLDEST,
	ST_LIVE,
	ST_CRC_ERRORS,
	ST_RECOVERY,
	ST_DEVICE_WRITTEN,
	ST_CLEANED,
	ST_COMMITS,
	ST_RECORDS,
	ST_EPOCH,
	ST_IN_MAP,
	ST_LEASE,
	ST_LEADS,
	ST_BACKS,
	ST_COLUMNS
};
static const struct column columns[ST_COLUMNS] = {
	[ST_ID] = {"id", "NODE", COLUMN_COUNT, false},
	[ST_STATE] = {"state", "STATE", COLUMN_TEXT, false},
	[ST_PID] = {"pid", "PID", COLUMN_COUNT, false},
	[ST_UPTIME] = {"uptime_s", "UP", COLUMN_SECONDS, false},
	[ST_MEMORY] = {"memory_bytes", "MEMORY", COLUMN_BYTES, false},
	[ST_SIZE] = {"size_bytes", "SIZE", COLUMN_BYTES, false},
	[ST_USED] = {"used_bytes", "USED", COLUMN_BYTES, true},
	[ST_USED_PERCENT] = {"used_percent", "USED", COLUMN_PERCENT, false},
	[ST_INODES] = {"inodes", "INODES", COLUMN_COUNT, false},
	[ST_INODES_PERCENT] = {"inodes_percent", "OF ALL", COLUMN_PERCENT, false},
	[ST_BYTES_PERCENT] = {"bytes_percent", "OF ALL", COLUMN_PERCENT, false},
	[ST_REQUESTS] = {"requests", "REQUESTS", COLUMN_COUNT, false},
	[ST_REQUESTS_PERCENT] = {"requests_percent", "OF ALL", COLUMN_PERCENT, false},
	[ST_READ] = {"read_bytes", "READ", COLUMN_BYTES, false},
	[ST_WRITTEN] = {"written_bytes", "WRITTEN", COLUMN_BYTES, false},
	[ST_AMPLIFICATION] = {"write_amplification", "AMPL", COLUMN_RATIO, false},
	[ST_SESSIONS] = {"sessions", "SESSIONS", COLUMN_COUNT, false},
	[ST_PARKED] = {"parked", "PARKED", COLUMN_COUNT, false},
	[ST_OLDEST] = {"oldest_parked_s", "OLDEST PARKED", COLUMN_SECONDS, true},
	[ST_LIVE] = {"live_bytes", "DATA", COLUMN_BYTES, true},
	[ST_CRC_ERRORS] = {"crc_errors", "CRC ERRORS", COLUMN_COUNT, true},
	[ST_RECOVERY] = {"recovery_s", "RECOVERY", COLUMN_SECONDS, true},
	[ST_DEVICE_WRITTEN] = {"device_written_bytes", "DEVICE WRITTEN", COLUMN_BYTES,
		true},
	[ST_CLEANED] = {"cleaned_bytes", "CLEANED", COLUMN_BYTES, true},
	[ST_COMMITS] = {"commits", "COMMITS", COLUMN_COUNT, true},
	[ST_RECORDS] = {"records", "RECORDS", COLUMN_COUNT, true},
	[ST_EPOCH] = {"epoch", "EPOCH", COLUMN_COUNT, true},
	[ST_IN_MAP] = {"in_map", "IN MAP", COLUMN_TEXT, true},
	[ST_LEASE] = {"lease_s", "LEASE", COLUMN_SECONDS, true},
	[ST_LEADS] = {"primary_buckets", "LEADS", COLUMN_COUNT, true},
	[ST_BACKS] = {"backup_buckets", "BACKS", COLUMN_COUNT, true},
};

struct node_stats {
	uint32_t id;
	pid_t pid;
	bool answered;
	uint64_t epoch, size, free, live, inodes, requests, read, written, device, user;
	uint64_t cleaned, commits, records, crc_errors, recovery_us, uptime_us, memory;
	uint64_t sessions, parked, oldest_us;
};

struct status {
	const struct ctl *ctl;
	struct local local;
	struct node_stats *nodes;
	struct node_stats all;
	struct repair_sum repair;
	uint32_t up;
	uint32_t count; /* of nodes that are not removed */
};

static uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void stats_add(struct node_stats *to, const struct wire_shard_stats *s)
{
	to->epoch = max64(to->epoch, le64_get(s->epoch));
	to->size += le64_get(s->size_bytes);
	to->free += le64_get(s->free_bytes);
	to->live += le64_get(s->live_bytes);
	to->inodes += le64_get(s->inodes);
	to->requests += le64_get(s->requests);
	to->read += le64_get(s->read_bytes);
	to->written += le64_get(s->write_bytes);
	to->device += le64_get(s->device_bytes);
	to->user += le64_get(s->user_bytes);
	to->cleaned += le64_get(s->cleaned_bytes);
	to->commits += le64_get(s->commits);
	to->records += le64_get(s->records);
	to->crc_errors += le64_get(s->crc_errors);
	to->sessions += le32_get(s->sessions);
	to->parked += le32_get(s->parked);
	/* One process: not the sum. */
	to->recovery_us = max64(to->recovery_us, le64_get(s->recovery_us));
	to->uptime_us = max64(to->uptime_us, le64_get(s->uptime_us));
	to->memory = max64(to->memory, le64_get(s->memory_bytes));
	to->oldest_us = max64(to->oldest_us, le64_get(s->oldest_parked_us));
}

static void all_add(struct node_stats *all, const struct node_stats *n)
{
	all->size += n->size;
	all->free += n->free;
	all->live += n->live;
	all->inodes += n->inodes;
	all->requests += n->requests;
	all->read += n->read;
	all->written += n->written;
	all->device += n->device;
	all->user += n->user;
	all->sessions += n->sessions;
	all->parked += n->parked;
	all->crc_errors += n->crc_errors;
	all->oldest_us = max64(all->oldest_us, n->oldest_us);
}

static bool shard_ask(struct client *c, uint32_t shard, struct wire_shard_stats *out)
{
	struct client_raw raw = {
		.op = OP_SHARD_STATS,
		.target = (uint16_t)shard,
		.to_shard = true,
		.timeout_ms = ASK_TIMEOUT_MS,
		.reply = out,
		.reply_size = sizeof(*out),
	};

	return client_raw(c, &raw) == 0 && raw.reply_size == sizeof(*out);
}

static void node_ask(struct status *st, struct client *c, struct node_stats *n)
{
	const struct map *map = st->local.map;

	n->answered = true;
	for (uint32_t i = 0; i < map->shard_count && n->answered; i++) {
		struct wire_shard_stats stats;

		if (map->shards[i].node != n->id)
			continue;
		n->answered = shard_ask(c, i, &stats);
		if (n->answered) {
			stats_add(n, &stats);
			repair_sum_shard(&st->repair, &stats);
		}
	}
	st->up += n->answered;
	if (n->answered)
		all_add(&st->all, n);
}

static int status_gather(struct status *st)
{
	struct client *c = NULL;
	bool any = false;
	int rc = EXIT_OK;

	repair_sum_map(&st->repair, &st->local);
	st->nodes = calloc(st->local.map->node_count, sizeof(*st->nodes));
	if (!st->nodes)
		return ctl_fail("out of memory");
	for (uint32_t i = 0; i < st->local.map->node_count; i++) {
		st->nodes[i].id = st->local.map->nodes[i].id;
		st->count += st->local.map->nodes[i].state != MAP_NODE_LOST;
		st->nodes[i].pid = node_pid(st->ctl, st->nodes[i].id);
		any |= st->nodes[i].pid != 0;
	}
	if (!any)
		return EXIT_OK;
	rc = local_attach(st->ctl, &st->local, NULL, &c, NULL);
	if (rc)
		return EXIT_OK; /* it said why; the table shows the nodes as silent */
	for (uint32_t i = 0; i < st->local.map->node_count; i++)
		if (st->nodes[i].pid && st->local.map->nodes[i].state != MAP_NODE_LOST)
			node_ask(st, c, &st->nodes[i]);
	client_detach(c);
	return EXIT_OK;
}

/* Of the map, not of the node: known when it is down, too. */
static void row_map(const struct status *st, struct table *t, uint32_t id)
{
	const struct map *map = st->local.map;
	int64_t lease_ms = local_lease_ms(&st->local, id);
	uint64_t leads = 0, backs = 0;

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];

		leads += map->shards[b->primary].node == id;
		for (uint32_t k = 0; k < b->backup_count; k++)
			backs += map->shards[b->backups[k]].node == id;
	}
	table_text(t, ST_IN_MAP, "%s", node_state_text(map_node_find(map, id)->state));
	if (lease_ms >= 0)
		table_real(t, ST_LEASE, (double)lease_ms / 1000);
	table_count(t, ST_LEADS, leads);
	table_count(t, ST_BACKS, backs);
}

/* Buckets whose primary is on a node that does not answer. */
static uint64_t buckets_away(const struct status *st)
{
	const struct map *map = st->local.map;
	uint64_t count = 0;

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		uint32_t node = map->shards[map->buckets[i].primary].node;

		for (uint32_t n = 0; n < map->node_count; n++)
			count += st->nodes[n].id == node && !st->nodes[n].answered;
	}
	return count;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void row_add(const struct status *st, struct table *t, const struct node_stats *n)
{
	table_row(t);
	table_count(t, ST_ID, n->id);
	table_text(t, ST_STATE, "%s", n->answered ? "up" : n->pid ? "silent" : "down");
	row_map(st, t, n->id);
	if (n->pid)
		table_count(t, ST_PID, (uint64_t)n->pid);
	if (!n->answered)
		return;
	table_real(t, ST_UPTIME, (double)n->uptime_us / 1e6);
	table_count(t, ST_MEMORY, n->memory);
	table_count(t, ST_SIZE, n->size);
	table_count(t, ST_USED, n->size - (n->free < n->size ? n->free : n->size));
	table_real(t, ST_USED_PERCENT, 100 - percent(n->free, n->size));
	table_count(t, ST_INODES, n->inodes);
	table_real(t, ST_INODES_PERCENT, percent(n->inodes, st->all.inodes));
	table_real(t, ST_BYTES_PERCENT, percent(n->live, st->all.live));
	table_count(t, ST_REQUESTS, n->requests);
	table_real(t, ST_REQUESTS_PERCENT, percent(n->requests, st->all.requests));
	table_count(t, ST_READ, n->read);
	table_count(t, ST_WRITTEN, n->written);
	if (n->user >= RATIO_MIN)
		table_real(t, ST_AMPLIFICATION, (double)n->device / (double)n->user);
	table_count(t, ST_SESSIONS, n->sessions);
	table_count(t, ST_PARKED, n->parked);
	table_real(t, ST_OLDEST, (double)n->oldest_us / 1e6);
	table_count(t, ST_LIVE, n->live);
	table_count(t, ST_CRC_ERRORS, n->crc_errors);
	table_real(t, ST_RECOVERY, (double)n->recovery_us / 1e6);
	table_count(t, ST_DEVICE_WRITTEN, n->device);
	table_count(t, ST_CLEANED, n->cleaned);
	table_count(t, ST_COMMITS, n->commits);
	table_count(t, ST_RECORDS, n->records);
	table_count(t, ST_EPOCH, n->epoch);
}

static void uuid_text(const uint8_t *uuid, char out[37])
{
	char *at = out;

	for (int i = 0; i < 16; i++)
		at += sprintf(at, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void repair_json(const struct repair_sum *sum, struct json *j)
{
	double left_s = repair_seconds_left(sum);

	json_count(j, "buckets_moving", sum->moving);
	json_count(j, "buckets_copying", sum->copying);
	json_count(j, "buckets_waiting", sum->waiting);
	json_count(j, "repair_done_bytes", sum->done_bytes);
	json_count(j, "repair_total_bytes", sum->total_bytes);
	json_count(j, "repair_bytes_per_s", sum->rate);
	if (sum->moving && left_s >= 0)
		json_real(j, "repair_left_s", left_s);
	else
		json_null(j, "repair_left_s");
}

static void repair_print(const struct ctl *ctl, const struct repair_sum *sum)
{
	double left_s = repair_seconds_left(sum);

	if (sum->moving == 0)
		return;
	printf("repair    %u buckets to go: %llu copies are made, %llu wait; %s of %s done",
		sum->moving, (unsigned long long)sum->copying,
		(unsigned long long)sum->waiting, text_bytes(ctl, sum->done_bytes),
		text_bytes(ctl, sum->total_bytes));
	if (sum->rate)
		printf(", %s/s", text_bytes(ctl, sum->rate));
	if (left_s >= 0)
		printf(", about %s left", text_seconds(ctl, left_s));
	putchar('\n');
}

static void print_json(const struct status *st, const struct table *t, const char *health)
{
	const struct map *map = st->local.map;
	const struct node_stats *all = &st->all;
	struct json j = {.file = stdout};
	char uuid[37];

	uuid_text(map->uuid, uuid);
	json_open(&j, NULL, '{');
	json_text(&j, "cluster", map->name);
	json_text(&j, "uuid", uuid);
	json_text(&j, "directory", st->ctl->dir);
	json_text(&j, "health", health);
	json_count(&j, "epoch", map->epoch);
	json_count(&j, "copies", map->copies);
	json_count(&j, "lease_ms", map->lease_ms);
	json_count(&j, "buckets", map->bucket_count);
	json_count(&j, "buckets_reduced", st->repair.reduced);
	json_count(&j, "buckets_away", buckets_away(st));
	repair_json(&st->repair, &j);
	json_count(&j, "nodes_total", st->count);
	json_count(&j, "nodes_up", st->up);
	json_count(&j, "size_bytes", all->size);
	json_count(&j, "free_bytes", all->free);
	json_count(&j, "live_bytes", all->live);
	json_count(&j, "inodes", all->inodes);
	json_count(&j, "requests", all->requests);
	json_count(&j, "read_bytes", all->read);
	json_count(&j, "written_bytes", all->written);
	if (all->user >= RATIO_MIN)
		json_real(&j, "write_amplification",
			(double)all->device / (double)all->user);
	else
		json_null(&j, "write_amplification");
	json_count(&j, "sessions", all->sessions);
	json_count(&j, "parked", all->parked);
	json_count(&j, "crc_errors", all->crc_errors);
	json_table(&j, "nodes", t);
	json_close(&j, '}');
}

static void print_head(const struct status *st, const char *health)
{
	const struct ctl *ctl = st->ctl;
	const struct map *map = st->local.map;
	const struct node_stats *all = &st->all;
	bool good = st->up == st->count && !all->crc_errors;

	printf("cluster   %s in %s, epoch %llu\n", map->name, ctl->dir,
		(unsigned long long)map->epoch);
	printf("health    %s%s%s: %u of %u nodes up\n",
		good ? color_good(ctl) : color_bad(ctl), health, color_end(ctl), st->up,
		st->count);
	if (st->up && st->up < st->count && map->copies == 1)
		puts("          what the others own cannot be reached: wfsctl cluster "
		     "start");
	if (map->copies > 1)
		printf("copies    %u of everything; of %u buckets %llu have fewer, %llu "
		       "cannot be reached now\n",
			map->copies, map->bucket_count,
			(unsigned long long)st->repair.reduced,
			(unsigned long long)buckets_away(st));
	repair_print(ctl, &st->repair);
	if (all->crc_errors)
		printf("          %s%llu damaged blocks were met%s: see node*/wfsd.log\n",
			color_bad(ctl), (unsigned long long)all->crc_errors,
			color_end(ctl));
	if (!st->up)
		return;
	printf("space     %s of %s used (%.1f %%), %llu inodes\n",
		text_bytes(ctl, all->size > all->free ? all->size - all->free : 0),
		text_bytes(ctl, all->size), 100 - percent(all->free, all->size),
		(unsigned long long)all->inodes);
	printf("traffic   %s read, %s written, %llu requests since start",
		text_bytes(ctl, all->read), text_bytes(ctl, all->written),
		(unsigned long long)all->requests);
	if (all->user >= RATIO_MIN)
		printf("; write amplification %.2f",
			(double)all->device / (double)all->user);
	printf("\nwaiting   %llu parked requests", (unsigned long long)all->parked);
	if (all->parked)
		printf(", the oldest for %s",
			text_seconds(ctl, (double)all->oldest_us / 1e6));
	printf("; %llu sessions\n\n", (unsigned long long)all->sessions);
}

/* Two narrow tables rather than one that does not fit the screen. */
static int print_text(const struct status *st, const struct table *t, const char *health)
{
	struct ctl view = *st->ctl;
	int rc;

	if (ctl_has(st->ctl, OPT_COLUMNS))
		return table_print(st->ctl, t);
	if (!ctl_has(st->ctl, OPT_NO_HEADER))
		print_head(st, health);
	view.values[OPT_COLUMNS] =
		st->local.map->copies > 1
			? "id,state,in_map,lease_s,primary_buckets,backup_buckets,pid,"
			  "uptime_s,memory_bytes,size_bytes,used_percent,sessions,parked"
			: "id,state,pid,uptime_s,memory_bytes,size_bytes,used_percent,"
			  "sessions,parked";
	rc = table_print(&view, t);
	if (rc != EXIT_OK || !st->up)
		return rc;
	putchar('\n');
	view.values[OPT_COLUMNS] =
		"id,inodes,inodes_percent,live_bytes,bytes_percent,requests,"
		"requests_percent,read_bytes,written_bytes,"
		"write_amplification";
	return table_print(&view, t);
}

int cmd_cluster_status(struct ctl *ctl, int argc, char **argv)
{
	struct status st = {.ctl = ctl};
	const char *health;
	struct table *t;
	int rc = local_open(ctl, &st.local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	rc = status_gather(&st);
	health = st.up == st.count && st.up ? "healthy"
		 : st.up                           ? "degraded"
						   : "stopped";
	if (!st.up)
		for (uint32_t i = 0; st.nodes && i < st.local.map->node_count; i++)
			if (st.nodes[i].pid)
				health = "silent";
	if (rc == EXIT_OK) {
		t = table_new(columns, ST_COLUMNS);
		for (uint32_t i = 0; i < st.local.map->node_count; i++)
			row_add(&st, t, &st.nodes[i]);
		if (ctl_has(ctl, OPT_JSON) && !ctl_has(ctl, OPT_COLUMNS)) {
			print_json(&st, t, health);
		} else {
			rc = print_text(&st, t, health);
		}
		table_free(t);
	}
	if (rc == EXIT_OK && (st.up != st.count || !st.up))
		rc = EXIT_FAILED;
	free(st.nodes);
	local_close(&st.local);
	return rc;
}

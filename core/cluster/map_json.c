/*
 * The map as JSON; the only file that knows jansson.
 *
 *   {"wfs_map": 2, "epoch": 7, "uuid": "8-4-4-4-12 hex", "name": "...",
 *    "provider": "net", "timeout_ms": 10000, "copies": 2, "lease_ms": 5000,
 *    "rebuild_after_s": 60, "rebuild_mib_s": 100 (may be absent: 0),
 *    "nodes": [{"id": 1, "host": "10.0.0.1", "socket": "/run/wfs/wfsd.sock",
 *      "domain": "rack1", "state": "in" | "draining" | "lost"}, ...],
 *    "shards": [{"node": 1, "index": 0, "port": 7000, "device": "uuid or 0s",
 *      "incarnation": "16 hex digits"}, ...],
 *    "buckets": [[epoch, primary, [backup, ...], [target, ...]], ...],
 *    "filesystems": [{"fsid": 1, "name": "main", "root": "0001000000000001"}, ...]}
 *
 * Version 1 had one copy and no leases: a bucket was [epoch, primary], and what it did
 * not have takes the defaults. It is read, and written as version 2.
 *
 * Inode numbers and incarnations are hex strings: JSON readers elsewhere keep only 53
 * bits. A map that passes map_from_json is whole: every reference leads somewhere, every
 * name is unique.
 */
#include "core/cluster/map.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_JSON_VERSION    2
#define TIMEOUT_MS_MAX      3600000u
#define LEASE_MS_MIN        100u
#define LEASE_MS_MAX        600000u
#define REBUILD_AFTER_S_MAX 31536000u
#define REBUILD_MIB_S_MAX   1000000u

struct parse {
	char *reason;
	size_t reason_size;
	bool old; /* version 1 */
};

static const char *const node_states[] = {
	[MAP_NODE_IN] = "in",
	[MAP_NODE_DRAINING] = "draining",
	[MAP_NODE_LOST] = "lost",
};

__attribute__((format(printf, 2, 3))) static int refuse(
	struct parse *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->reason, p->reason_size, format, args);
	va_end(args);
	return -EUCLEAN;
}

static void uuid_text(const uint8_t uuid[16], char text[37])
{
	char *out = text;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*out++ = '-';
		snprintf(out, 3, "%02x", uuid[i]);
		out += 2;
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool uuid_parse(const char *text, uint8_t uuid[16])
{
	if (strlen(text) != 36)
		return false;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (*text++ != '-')
				return false;
		int high = hex_digit(text[0]);
		int low = hex_digit(text[1]);
		if (high < 0 || low < 0)
			return false;
		uuid[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return true;
}

static bool hex64_parse(const char *text, uint64_t *value_out)
{
	uint64_t value = 0;

	if (strlen(text) != 16)
		return false;
	for (int i = 0; i < 16; i++) {
		int digit = hex_digit(text[i]);
		if (digit < 0)
			return false;
		value = value << 4 | (uint64_t)digit;
	}
	*value_out = value;
	return true;
}

/* --- writing ------------------------------------------------------------------------ */

/* Both arguments may be NULL when memory is short; the array then is lost as a whole. */
static json_t *array_with(json_t *array, json_t *item)
{
	if (!array || json_array_append_new(array, item) == 0)
		return array;
	json_decref(array);
	return NULL;
}

static json_t *nodes_json(const struct map *map)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < map->node_count; i++) {
		const struct map_node *n = &map->nodes[i];
		char domain[MAP_DOMAIN_MAX + 1];

		snprintf(domain, sizeof(domain), "node%u", n->id);
		array = array_with(
			array, json_pack("{sI ss ss ss ss}", "id", (json_int_t)n->id,
				       "host", n->host, "socket", n->socket, "domain",
				       n->domain[0] ? n->domain : domain, "state",
				       node_states[n->state]));
	}
	return array;
}

static json_t *shards_json(const struct map *map)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < map->shard_count; i++) {
		const struct map_shard *s = &map->shards[i];
		char device[37], incarnation[17];

		uuid_text(s->device_uuid, device);
		snprintf(incarnation, sizeof(incarnation), "%016" PRIx64, s->incarnation);
		array = array_with(array,
			json_pack("{sI sI si ss ss}", "node", (json_int_t)s->node,
				"index", (json_int_t)s->index, "port", (int)s->port,
				"device", device, "incarnation", incarnation));
	}
	return array;
}

static json_t *numbers_json(const uint32_t *numbers, uint32_t count)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < count; i++)
		array = array_with(array, json_integer(numbers[i]));
	return array;
}

static json_t *buckets_json(const struct map *map)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < map->bucket_count; i++) {
		const struct map_bucket *b = &map->buckets[i];

		array = array_with(array,
			json_pack("[IIoo]", (json_int_t)b->epoch, (json_int_t)b->primary,
				numbers_json(b->backups, b->backup_count),
				numbers_json(b->targets, b->target_count)));
	}
	return array;
}

static json_t *filesystems_json(const struct map *map)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < map->filesystem_count; i++) {
		char root[17];
		snprintf(root, sizeof(root), "%016" PRIx64, map->filesystems[i].root);
		array = array_with(
			array, json_pack("{sI ss ss}", "fsid",
				       (json_int_t)map->filesystems[i].fsid, "name",
				       map->filesystems[i].name, "root", root));
	}
	return array;
}

char *map_to_json(const struct map *map)
{
	char uuid[37];
	json_t *root;
	char *text;

	uuid_text(map->uuid, uuid);
	root = json_pack("{si sI ss ss ss sI sI sI sI so so so so}", "wfs_map",
		MAP_JSON_VERSION, "epoch", (json_int_t)map->epoch, "uuid", uuid, "name",
		map->name, "provider", map->provider, "timeout_ms",
		(json_int_t)map->timeout_ms, "copies", (json_int_t)map->copies,
		"lease_ms", (json_int_t)map->lease_ms, "rebuild_after_s",
		(json_int_t)map->rebuild_after_s, "nodes", nodes_json(map), "shards",
		shards_json(map), "buckets", buckets_json(map), "filesystems",
		filesystems_json(map));
	if (!root)
		return NULL;
	if (map->rebuild_mib_s && json_object_set_new(root, "rebuild_mib_s",
				       json_integer(map->rebuild_mib_s)) < 0) {
		json_decref(root);
		return NULL;
	}
	text = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	return text;
}

/* --- reading ------------------------------------------------------------------------ */

static int get_number(struct parse *p, const json_t *object, const char *key,
	uint64_t max, uint64_t *value_out)
{
	const json_t *v = json_object_get(object, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
		(uint64_t)json_integer_value(v) > max)
		return refuse(p, "%s is not a number from 0 to %" PRIu64, key, max);
	*value_out = (uint64_t)json_integer_value(v);
	return 0;
}

static int get_u32(struct parse *p, const json_t *object, const char *key, uint32_t max,
	uint32_t *value_out)
{
	uint64_t value;
	int rc = get_number(p, object, key, max, &value);

	if (rc == 0)
		*value_out = (uint32_t)value;
	return rc;
}

/* A non-empty printable string that fits with its NUL. */
static int get_text(struct parse *p, const json_t *object, const char *key, char *out,
	size_t out_size)
{
	const json_t *v = json_object_get(object, key);
	size_t length = json_string_length(v);

	if (!json_is_string(v) || length == 0 || length >= out_size)
		return refuse(p, "%s is not a text of 1 to %zu bytes", key, out_size - 1);
	for (size_t i = 0; i < length; i++)
		if (iscntrl((unsigned char)json_string_value(v)[i]))
			return refuse(p, "%s contains a control character", key);
	memcpy(out, json_string_value(v), length + 1);
	return 0;
}

static int get_array(struct parse *p, const json_t *root, const char *key, size_t min,
	size_t max, json_t **array_out)
{
	json_t *v = json_object_get(root, key);

	if (!json_is_array(v) || json_array_size(v) < min || json_array_size(v) > max)
		return refuse(p, "%s is not a list of %zu to %zu items", key, min, max);
	*array_out = v;
	return 0;
}

static int parse_node_state(struct parse *p, const json_t *item, struct map_node *node)
{
	const char *text = json_string_value(json_object_get(item, "state"));

	for (size_t i = 0; text && i < sizeof(node_states) / sizeof(*node_states); i++)
		if (strcmp(text, node_states[i]) == 0) {
			node->state = (enum map_node_state)i;
			return 0;
		}
	return refuse(p, "state of node %u is not in, draining or lost", node->id);
}

static int parse_nodes(struct parse *p, const json_t *array, struct map *map)
{
	for (uint32_t i = 0; i < map->node_count; i++) {
		struct map_node *node = &map->nodes[i];
		const json_t *item = json_array_get(array, i);
		int rc = get_u32(p, item, "id", UINT32_MAX, &node->id);
		if (rc == 0)
			rc = get_text(p, item, "host", node->host, sizeof(node->host));
		if (rc == 0)
			rc = get_text(
				p, item, "socket", node->socket, sizeof(node->socket));
		if (rc == 0 && p->old)
			snprintf(node->domain, sizeof(node->domain), "node%u", node->id);
		else if (rc == 0)
			rc = get_text(
				p, item, "domain", node->domain, sizeof(node->domain));
		if (rc == 0 && !p->old)
			rc = parse_node_state(p, item, node);
		if (rc)
			return rc;
		for (uint32_t j = 0; j < i; j++)
			if (map->nodes[j].id == node->id)
				return refuse(p, "node id %u is there twice", node->id);
	}
	return 0;
}

static int parse_shard_identity(
	struct parse *p, const json_t *item, uint32_t i, struct map_shard *shard)
{
	const char *device = json_string_value(json_object_get(item, "device"));
	const char *text = json_string_value(json_object_get(item, "incarnation"));

	if (p->old)
		return 0;
	if (!device || !uuid_parse(device, shard->device_uuid))
		return refuse(p, "device of shard %u is not 8-4-4-4-12 hex digits", i);
	if (!text || !hex64_parse(text, &shard->incarnation))
		return refuse(p, "incarnation of shard %u is not 16 hex digits", i);
	return 0;
}

static int parse_shards(struct parse *p, const json_t *array, struct map *map)
{
	for (uint32_t i = 0; i < map->shard_count; i++) {
		struct map_shard *shard = &map->shards[i];
		const json_t *item = json_array_get(array, i);
		uint64_t port = 0;
		int rc = get_u32(p, item, "node", UINT32_MAX, &shard->node);
		if (rc == 0)
			rc = get_u32(p, item, "index", MAP_SHARDS_MAX - 1, &shard->index);
		if (rc == 0)
			rc = get_number(p, item, "port", UINT16_MAX, &port);
		if (rc == 0)
			rc = parse_shard_identity(p, item, i, shard);
		if (rc)
			return rc;
		shard->port = (uint16_t)port;
		if (port == 0)
			return refuse(p, "shard %u has port 0", i);
		if (!map_node_find(map, shard->node))
			return refuse(
				p, "shard %u is of unknown node %u", i, shard->node);
		for (uint32_t j = 0; j < i; j++)
			if (map->shards[j].node == shard->node &&
				(map->shards[j].index == shard->index ||
					map->shards[j].port == shard->port))
				return refuse(p,
					"shards %u and %u of node %u have the same index "
					"or port",
					j, i, shard->node);
	}
	return 0;
}

/* A list of different shards, at most `max`. */
static int parse_members(struct parse *p, const json_t *array, const struct map *map,
	uint32_t members[MAP_COPIES_MAX], uint32_t *count_out)
{
	size_t count = json_array_size(array);

	if (!json_is_array(array) || count > map->copies)
		return refuse(p, "more than %u backups or targets", map->copies);
	for (uint32_t k = 0; k < count; k++) {
		const json_t *v = json_array_get(array, k);

		if (!json_is_integer(v) || json_integer_value(v) < 0 ||
			json_integer_value(v) >= map->shard_count)
			return refuse(p, "a shard that does not exist");
		members[k] = (uint32_t)json_integer_value(v);
		for (uint32_t j = 0; j < k; j++)
			if (members[j] == members[k])
				return refuse(p, "shard %u twice", members[k]);
	}
	*count_out = (uint32_t)count;
	return 0;
}

static int parse_bucket(
	struct parse *p, const json_t *item, const struct map *map, struct map_bucket *b)
{
	const json_t *epoch = json_array_get(item, 0);
	const json_t *primary = json_array_get(item, 1);
	int rc;

	if (json_array_size(item) != (p->old ? 2 : 4) || !json_is_integer(epoch) ||
		!json_is_integer(primary) || json_integer_value(epoch) < !p->old ||
		json_integer_value(epoch) > UINT32_MAX)
		return refuse(p, "not [epoch, shard, backups, targets]");
	if (json_integer_value(primary) < 0 ||
		json_integer_value(primary) >= map->shard_count)
		return refuse(p, "a shard that does not exist");
	b->epoch = (uint32_t)json_integer_value(epoch);
	b->primary = (uint32_t)json_integer_value(primary);
	if (p->old) {
		b->epoch += b->epoch == 0;
		b->target_count = 1;
		b->targets[0] = b->primary;
		return 0;
	}
	rc = parse_members(p, json_array_get(item, 2), map, b->backups, &b->backup_count);
	if (rc == 0)
		rc = parse_members(
			p, json_array_get(item, 3), map, b->targets, &b->target_count);
	if (rc == 0 && map_bucket_has_backup(b, b->primary))
		rc = refuse(p, "shard %u twice", b->primary);
	return rc;
}

static int parse_buckets(struct parse *p, const json_t *array, struct map *map)
{
	for (uint32_t i = 0; i < map->bucket_count; i++) {
		char why[96];
		struct parse inner = {why, sizeof(why), p->old};

		if (parse_bucket(&inner, json_array_get(array, i), map, &map->buckets[i]))
			return refuse(p, "bucket %u: %s", i, why);
	}
	return 0;
}

static int parse_filesystems(struct parse *p, const json_t *array, struct map *map)
{
	for (uint32_t i = 0; i < map->filesystem_count; i++) {
		struct map_filesystem *fs = &map->filesystems[i];
		const json_t *item = json_array_get(array, i);
		const char *root = json_string_value(json_object_get(item, "root"));
		int rc = get_u32(p, item, "fsid", UINT32_MAX, &fs->fsid);
		if (rc == 0)
			rc = get_text(p, item, "name", fs->name, sizeof(fs->name));
		if (rc)
			return rc;
		if (strchr(fs->name, '/'))
			return refuse(p, "filesystem name %s has a slash", fs->name);
		if (!root || !hex64_parse(root, &fs->root))
			return refuse(p, "root of %s is not 16 hex digits", fs->name);
		if (fs->root && ino_bucket(fs->root) >= map->bucket_count)
			return refuse(p, "root of %s is in a bucket that does not exist",
				fs->name);
		for (uint32_t j = 0; j < i; j++)
			if (map->filesystems[j].fsid == fs->fsid ||
				!strcmp(map->filesystems[j].name, fs->name))
				return refuse(p, "filesystem %s (%u) is there twice",
					fs->name, fs->fsid);
	}
	return 0;
}

static int parse_head(struct parse *p, const json_t *root, struct map *map)
{
	const char *uuid = json_string_value(json_object_get(root, "uuid"));
	int rc = get_number(p, root, "epoch", INT64_MAX, &map->epoch);

	if (rc == 0)
		rc = get_text(p, root, "name", map->name, sizeof(map->name));
	if (rc == 0)
		rc = get_text(p, root, "provider", map->provider, sizeof(map->provider));
	if (rc == 0)
		rc = get_u32(p, root, "timeout_ms", TIMEOUT_MS_MAX, &map->timeout_ms);
	if (rc)
		return rc;
	if (map->epoch == 0)
		return refuse(p, "epoch is 0");
	if (map->timeout_ms == 0)
		return refuse(p, "timeout_ms is 0");
	if (!p->old) {
		rc = get_u32(p, root, "copies", MAP_COPIES_MAX, &map->copies);
		if (rc == 0)
			rc = get_u32(p, root, "lease_ms", LEASE_MS_MAX, &map->lease_ms);
		if (rc == 0)
			rc = get_u32(p, root, "rebuild_after_s", REBUILD_AFTER_S_MAX,
				&map->rebuild_after_s);
		if (rc == 0 && json_object_get(root, "rebuild_mib_s"))
			rc = get_u32(p, root, "rebuild_mib_s", REBUILD_MIB_S_MAX,
				&map->rebuild_mib_s);
		if (rc)
			return rc;
	}
	if (map->copies == 0)
		return refuse(p, "copies is 0");
	if (map->lease_ms < LEASE_MS_MIN)
		return refuse(p, "lease_ms is below %u", LEASE_MS_MIN);
	if (!uuid || !uuid_parse(uuid, map->uuid))
		return refuse(p, "uuid is not 8-4-4-4-12 hex digits in lower case");
	return 0;
}

static int parse_root(struct parse *p, const json_t *root, struct map **map_out)
{
	json_t *nodes;
	json_t *shards;
	json_t *buckets;
	json_t *filesystems;
	struct map *map;
	uint64_t version;
	size_t bucket_count;
	int rc = get_number(p, root, "wfs_map", INT64_MAX, &version);

	if (rc == 0 && (version < 1 || version > MAP_JSON_VERSION))
		rc = refuse(p,
			"map format %" PRIu64 " is not one of 1 to %d, which this "
			"program reads",
			version, MAP_JSON_VERSION);
	p->old = rc == 0 && version == 1;
	if (rc == 0)
		rc = get_array(p, root, "nodes", 1, MAP_NODES_MAX, &nodes);
	if (rc == 0)
		rc = get_array(p, root, "shards", 1, MAP_SHARDS_MAX, &shards);
	if (rc == 0)
		rc = get_array(p, root, "buckets", 1, WFS_BUCKETS_MAX, &buckets);
	if (rc == 0)
		rc = get_array(
			p, root, "filesystems", 0, MAP_FILESYSTEMS_MAX, &filesystems);
	if (rc)
		return rc;
	bucket_count = json_array_size(buckets);
	if (bucket_count & (bucket_count - 1))
		return refuse(p, "%zu buckets are not a power of two", bucket_count);
	map = map_new((uint32_t)json_array_size(nodes), (uint32_t)json_array_size(shards),
		(uint32_t)bucket_count, (uint32_t)json_array_size(filesystems));
	if (!map) {
		refuse(p, "memory is short");
		return -ENOMEM;
	}
	rc = parse_head(p, root, map);
	if (rc == 0)
		rc = parse_nodes(p, nodes, map);
	if (rc == 0)
		rc = parse_shards(p, shards, map);
	if (rc == 0)
		rc = parse_buckets(p, buckets, map);
	if (rc == 0)
		rc = parse_filesystems(p, filesystems, map);
	if (rc) {
		map_free(map);
		return rc;
	}
	*map_out = map;
	return 0;
}

int map_from_json(const char *text, size_t size_bytes, struct map **map_out, char *reason,
	size_t reason_size)
{
	struct parse p = {reason, reason_size, false};
	json_error_t error;
	json_t *root = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES, &error);
	int rc;

	if (!root)
		return refuse(&p, "not JSON: %s at line %d", error.text, error.line);
	rc = parse_root(&p, root, map_out);
	json_decref(root);
	return rc;
}

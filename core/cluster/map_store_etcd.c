/*
 * The map in etcd.
 *
 *   PREFIX/map          the JSON of the map; above 1 MB, since etcd takes 1.5 MB in a
 *                       request, packed (map_pack.h). The largest map there is takes
 *                       1.3 MB so.
 *   PREFIX/lease/<id>   the incarnation in 16 hex digits, attached to a lease of etcd
 *
 * The map. A save is a transaction on the mod_revision of the value that was read and
 * whose epoch and cluster were checked. When an endpoint did not answer and the same is
 * asked of another, the first may have carried it out: then the value that is found is
 * ours, byte for byte, and that is success.
 *
 * A lease. etcd counts in whole seconds and has a minimum (1.5 election timeouts), so a
 * lease is rounded up: others see it expire later, never sooner. Its id is made of
 * prefix, node, incarnation and seconds, so that nothing has to be remembered. A renewal
 * is a keepalive, and then a linearizable read of the key, which must be ours and
 * attached. The keepalive alone is not enough: a leader that was deposed and does not
 * know it yet still answers, while its successor counts from the election. So both
 * answers must be of one term of raft: the read cannot be answered in a term that ended
 * before the keepalive. A leader that takes over begins all leases anew. The key is put
 * by a transaction that demands that there is none or that it is ours already; etcd
 * removes it with the lease.
 *
 * What remains of a lease is known to etcd only, asked for one by one, and in full
 * seconds. So a few are asked for each time, and what is told is a lower bound; a key
 * that is there has at least 1 ms. A key without a lease, or that is no incarnation, was
 * not put by us: it counts as expired and is put over.
 *
 * Every call takes at most a quarter of the map's lease, but has BUDGET_MIN_MS.
 */
#include "core/cluster/map_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/cluster/etcd.h"
#include "core/cluster/map_pack.h"

#define PLAIN_MAX     1000000u
#define BUDGET_MIN_MS 250u
#define SAVE_TRIES    2
#define RENEW_TRIES   6
#define LEASES_ASKED  16u

struct seen_lease { /* by position in the last answer; both are only hints */
	int64_t lease_id;
	uint64_t until_us;
};

struct etcd_store {
	struct map_store store;
	struct etcd *etcd;
	char key_map[320];
	char key_lease[320]; /* up to and with the last slash */
	/* The map's value as last read or written; revision 0: not known. */
	int64_t revision;
	uint64_t epoch;
	uint8_t uuid[16];
	uint32_t lease_ms;
	struct seen_lease *seen;
	uint32_t seen_room;
	uint32_t ask_at;
};

static struct etcd_store *etcd_store_of(struct map_store *store)
{
	return container_of(store, struct etcd_store, store);
}

__attribute__((format(printf, 3, 4))) static int fail(
	struct etcd_store *es, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(es->store.reason, sizeof(es->store.reason), format, args);
	va_end(args);
	return rc;
}

static uint64_t boottime_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void begin(struct etcd_store *es, uint32_t lease_ms)
{
	uint32_t budget_ms = lease_ms / 4;

	etcd_begin(es->etcd, budget_ms < BUDGET_MIN_MS ? BUDGET_MIN_MS : budget_ms);
}

static int call(
	struct etcd_store *es, const char *path, json_t *request, json_t **answer_out)
{
	int rc = etcd_call(es->etcd, path, request, answer_out);

	return rc ? fail(es, rc, "%s", etcd_reason(es->etcd)) : 0;
}

static json_t *bytes(const char *text)
{
	return etcd_bytes(text, strlen(text));
}

/* --- the map as a value ---------------------------------------------------------- */

static int value_parse(
	struct etcd_store *es, const char *value, size_t size, struct map **map_out)
{
	char why[160] = "cannot be unpacked";
	char *text = NULL;
	int rc = 0;

	if (map_is_packed(value, size)) {
		rc = map_unpack(value, size, &text, &size);
		value = text;
	}
	if (rc == 0)
		rc = map_from_json(value, size, map_out, why, sizeof(why));
	mem_free(text);
	if (rc == -EUCLEAN)
		return fail(es, rc,
			"cluster map %s in etcd is damaged (%s): restore it with etcdctl "
			"put from a copy",
			es->key_map, why);
	return rc ? fail(es, rc, "cluster map %s: %s", es->key_map, strerror(-rc)) : 0;
}

static int kv_parse(struct etcd_store *es, const json_t *kv, struct map **map_out)
{
	struct map *map = NULL;
	char *value = NULL;
	size_t size = 0;
	int rc = etcd_bytes_take(kv, "value", &value, &size);

	if (rc)
		return fail(es, rc, "cluster map %s in etcd is not readable: %s",
			es->key_map, strerror(-rc));
	rc = value_parse(es, value, size, &map);
	mem_free(value);
	if (rc || !map)
		return rc;
	es->revision = etcd_number(kv, "mod_revision");
	es->epoch = map->epoch;
	es->lease_ms = map->lease_ms;
	memcpy(es->uuid, map->uuid, sizeof(es->uuid));
	*map_out = map;
	return 0;
}

/* --- load ------------------------------------------------------------------------ */

/* *map_out NULL: still what was read last. */
static int map_read(struct etcd_store *es, int64_t since, struct map **map_out)
{
	json_t *request = json_pack("{s:o}", "key", bytes(es->key_map));
	json_t *answer = NULL;
	const json_t *kv;
	int rc;

	if (request && since)
		json_object_set_new(request, "min_mod_revision", json_integer(since));
	rc = call(es, "/v3/kv/range", request, &answer);
	if (rc)
		return rc == -ENOMEM ? rc : -EIO;
	kv = json_array_get(json_object_get(answer, "kvs"), 0);
	if (kv) {
		rc = kv_parse(es, kv, map_out);
	} else if (etcd_number(answer, "count") > 0 && since) {
		*map_out = NULL;
	} else {
		es->revision = 0;
		rc = fail(es, -ENOENT,
			"no cluster map %s in etcd: create the cluster with wfsctl "
			"cluster create, or check the prefix",
			es->key_map);
	}
	json_decref(answer);
	return rc;
}

static int store_load(struct map_store *store, uint64_t known_epoch, struct map **map_out)
{
	struct etcd_store *es = etcd_store_of(store);
	bool known = known_epoch && es->revision && es->epoch <= known_epoch;
	struct map *map = NULL;
	int rc;

	begin(es, es->lease_ms);
	rc = map_read(es, known ? es->revision + 1 : 0, &map);
	if (rc)
		return rc;
	if (map && known_epoch && map->epoch <= known_epoch) {
		map_free(map);
		map = NULL;
	}
	*map_out = map;
	return 0;
}

/* --- save ------------------------------------------------------------------------ */

/* Is the stored map the one before this? Leaves its revision, 0 when there is none. */
static int check_epoch(struct etcd_store *es, const struct map *map)
{
	int rc = 0;

	if (!es->revision || es->epoch + 1 != map->epoch) {
		struct map *stored = NULL;

		rc = map_read(es, 0, &stored);
		map_free(stored);
		if (rc && rc != -ENOENT)
			return rc;
	}
	if (rc == 0 && memcmp(es->uuid, map->uuid, sizeof(map->uuid)))
		return fail(es, -EEXIST,
			"%s in etcd is the map of another cluster: choose another prefix",
			es->key_map);
	if ((es->revision ? es->epoch : 0) + 1 != map->epoch)
		return fail(es, -EAGAIN,
			"cluster map %s in etcd is at epoch %" PRIu64 ", not %" PRIu64
			": somebody else changed it; read it again and repeat the change",
			es->key_map, es->revision ? es->epoch : 0, map->epoch - 1);
	return 0;
}

static json_t *save_request(const struct etcd_store *es, const char *value, size_t size)
{
	return json_pack("{s:[{s:o, s:s, s:s, s:I}], s:[{s:{s:o, s:o}}], s:[{s:{s:o}}]}",
		"compare", "key", bytes(es->key_map), "target", "MOD", "result", "EQUAL",
		"mod_revision", (json_int_t)es->revision, "success", "request_put", "key",
		bytes(es->key_map), "value", etcd_bytes(value, size), "failure",
		"request_range", "key", bytes(es->key_map));
}

/* Whether what stands there instead is what we wanted to write. */
static bool is_ours(const json_t *kv, const char *value, size_t size)
{
	char *found = NULL;
	size_t found_size = 0;
	bool same;

	if (!kv || etcd_bytes_take(kv, "value", &found, &found_size))
		return false;
	same = found_size == size && memcmp(found, value, size) == 0;
	mem_free(found);
	return same;
}

static const json_t *txn_kv(const json_t *answer)
{
	const json_t *response = json_array_get(json_object_get(answer, "responses"), 0);
	const json_t *range = json_object_get(response, "response_range");

	return json_array_get(json_object_get(range, "kvs"), 0);
}

/* -EAGAIN: another value is there. */
static int save_once(
	struct etcd_store *es, const struct map *map, const char *value, size_t size)
{
	json_t *answer = NULL;
	int64_t revision = 0;
	int rc = check_epoch(es, map);

	if (rc)
		return rc;
	rc = call(es, "/v3/kv/txn", save_request(es, value, size), &answer);
	if (rc == -E2BIG)
		return fail(es, -EIO,
			"cluster map of %zu bytes is too large for etcd: start it with a "
			"larger --max-request-bytes",
			size);
	if (rc) {
		es->revision = 0;
		return rc == -ENOMEM ? rc : -EIO;
	}
	if (json_is_true(json_object_get(answer, "succeeded")))
		revision = etcd_number(json_object_get(answer, "header"), "revision");
	else if (etcd_call_was_repeated(es->etcd) && is_ours(txn_kv(answer), value, size))
		revision = etcd_number(txn_kv(answer), "mod_revision");
	json_decref(answer);
	es->revision = revision;
	if (!revision)
		return fail(es, -EAGAIN, "cluster map %s in etcd was just changed",
			es->key_map);
	es->epoch = map->epoch;
	es->lease_ms = map->lease_ms;
	memcpy(es->uuid, map->uuid, sizeof(es->uuid));
	return 0;
}

static int store_save(struct map_store *store, const struct map *map)
{
	struct etcd_store *es = etcd_store_of(store);
	char *text = map_to_json(map);
	size_t size = text ? strlen(text) : 0;
	char *packed = NULL;
	int rc = text ? 0 : -ENOMEM;

	begin(es, es->revision ? es->lease_ms : map->lease_ms);
	if (rc == 0 && size > PLAIN_MAX)
		rc = map_pack(text, &packed, &size);
	if (rc) {
		free(text);
		return fail(es, rc,
			"cannot write cluster map %s: memory is short, or a name in it "
			"is "
			"not UTF-8, or it is too large",
			es->key_map);
	}
	for (unsigned try = 0; try < SAVE_TRIES; try++) {
		rc = save_once(es, map, packed ? packed : text, size);
		if (rc != -EAGAIN || es->revision)
			break;
	}
	mem_free(packed);
	free(text);
	return rc;
}

/* --- leases ---------------------------------------------------------------------- */

struct held { /* what there is to know about one lease of ours */
	char key[352];
	char value[17];
	int64_t lease_id;
	uint32_t ttl_s;
};

static void held_init(const struct etcd_store *es, uint32_t node, uint64_t incarnation,
	uint32_t ttl_ms, struct held *h)
{
	struct {
		uint64_t node, incarnation, ttl_s;
	} id;

	h->ttl_s = ttl_ms / 1000 + (ttl_ms % 1000 != 0);
	if (!h->ttl_s)
		h->ttl_s = 1;
	snprintf(h->key, sizeof(h->key), "%s%u", es->key_lease, node);
	snprintf(h->value, sizeof(h->value), "%016" PRIx64, incarnation);
	memset(&id, 0, sizeof(id));
	id.node = node;
	id.incarnation = incarnation;
	id.ttl_s = h->ttl_s;
	h->lease_id = (int64_t)(hash64(&id, sizeof(id),
					hash64(es->key_lease, strlen(es->key_lease), 0)) &
				INT64_MAX);
	if (!h->lease_id)
		h->lease_id = 1;
}

/* False: no incarnation, or no lease: nothing that a node put there. */
static bool lease_value(const json_t *kv, uint64_t *incarnation_out)
{
	char *text = NULL, *end = NULL;
	size_t size = 0;
	bool ok;

	if (!etcd_number(kv, "lease") || etcd_bytes_take(kv, "value", &text, &size))
		return false;
	*incarnation_out = strtoull(text, &end, 16);
	ok = size == 16 && end == text + 16;
	mem_free(text);
	return ok;
}

/* The key of a lease. *kv_out borrows of the answer, NULL: there is none. */
static int lease_read(struct etcd_store *es, const struct held *h, json_t **answer_out,
	const json_t **kv_out)
{
	int rc = call(
		es, "/v3/kv/range", json_pack("{s:o}", "key", bytes(h->key)), answer_out);

	if (rc == 0)
		*kv_out = json_array_get(json_object_get(*answer_out, "kvs"), 0);
	return rc;
}

/* Put the key when it still has this mod_revision, 0 for none. Who looks, looks again. */
static int lease_put(struct etcd_store *es, const struct held *h, int64_t revision)
{
	json_t *answer = NULL;
	json_t *request = json_pack("{s:[{s:o, s:s, s:s, s:I}], s:[{s:{s:o, s:o, s:I}}]}",
		"compare", "key", bytes(h->key), "target", "MOD", "result", "EQUAL",
		"mod_revision", (json_int_t)revision, "success", "request_put", "key",
		bytes(h->key), "value", bytes(h->value), "lease",
		(json_int_t)h->lease_id);
	int rc = call(es, "/v3/kv/txn", request, &answer);

	json_decref(answer);
	return rc == -ENOENT ? 0 : rc; /* the lease just ended */
}

/* *term_out 0: it was not there, and is made. */
static int lease_keep(struct etcd_store *es, const struct held *h, int64_t *term_out)
{
	json_t *answer = NULL;
	const json_t *result;
	int rc = call(es, "/v3/lease/keepalive",
		json_pack("{s:I}", "ID", (json_int_t)h->lease_id), &answer);

	*term_out = 0;
	if (rc && rc != -ENOENT)
		return rc;
	result = json_object_get(answer, "result");
	if (rc == 0 && etcd_number(result, "TTL") >= h->ttl_s)
		*term_out = etcd_number(json_object_get(result, "header"), "raft_term");
	json_decref(answer);
	if (*term_out)
		return 0;
	answer = NULL;
	rc = call(es, "/v3/lease/grant",
		json_pack("{s:I, s:I}", "ID", (json_int_t)h->lease_id, "TTL",
			(json_int_t)h->ttl_s),
		&answer);
	json_decref(answer);
	return rc == -EEXIST ? 0 : rc;
}

/* 0: held since before the call; -EAGAIN: something was done for it, try again. */
static int renew_once(
	struct etcd_store *es, const struct held *h, uint32_t node, uint64_t incarnation)
{
	json_t *answer = NULL;
	const json_t *kv = NULL;
	int64_t term = 0, read_term, revision;
	uint64_t other = 0;
	bool valid, attached;
	int rc = lease_keep(es, h, &term);

	if (rc == 0)
		rc = lease_read(es, h, &answer, &kv);
	if (rc)
		return rc;
	read_term = etcd_number(json_object_get(answer, "header"), "raft_term");
	valid = kv && lease_value(kv, &other);
	attached = kv && etcd_number(kv, "lease") == h->lease_id;
	revision = kv ? etcd_number(kv, "mod_revision") : 0;
	json_decref(answer);
	if (valid && other != incarnation)
		return fail(es, -EBUSY,
			"another process (%016" PRIx64 ") holds the lease of node %u: "
			"see that it does not run, or wait until it expires",
			other, node);
	if (valid && attached && term && term == read_term)
		return 0;
	if (!valid || !attached)
		rc = lease_put(es, h, revision);
	return rc ? rc : -EAGAIN;
}

static int store_renew(
	struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ttl_ms)
{
	struct etcd_store *es = etcd_store_of(store);
	struct held h;
	int rc = -EAGAIN;

	held_init(es, node, incarnation, ttl_ms, &h);
	begin(es, es->lease_ms);
	for (unsigned try = 0; rc == -EAGAIN && try < RENEW_TRIES; try++)
		rc = renew_once(es, &h, node, incarnation);
	if (rc == -EAGAIN)
		return fail(es, -EIO,
			"etcd changes its leader too often to renew the lease of node "
			"%u: "
			"see its log",
			node);
	return rc == 0 || rc == -EBUSY || rc == -ENOMEM ? rc : -EIO;
}

static int store_release(struct map_store *store, uint32_t node, uint64_t incarnation)
{
	struct etcd_store *es = etcd_store_of(store);
	json_t *answer = NULL, *request;
	const json_t *kv = NULL;
	uint64_t found = 0;
	int64_t revision = 0, lease_id = 0;
	struct held h;
	int rc;

	held_init(es, node, incarnation, 1, &h);
	begin(es, es->lease_ms);
	rc = lease_read(es, &h, &answer, &kv);
	if (rc)
		return rc == -ENOMEM ? rc : -EIO;
	if (kv && lease_value(kv, &found) && found == incarnation) {
		revision = etcd_number(kv, "mod_revision");
		lease_id = etcd_number(kv, "lease");
	}
	json_decref(answer);
	if (!revision)
		return 0;
	request = json_pack("{s:[{s:o, s:s, s:s, s:I}], s:[{s:{s:o}}]}", "compare", "key",
		bytes(h.key), "target", "MOD", "result", "EQUAL", "mod_revision",
		(json_int_t)revision, "success", "request_delete_range", "key",
		bytes(h.key));
	answer = NULL;
	rc = call(es, "/v3/kv/txn", request, &answer);
	json_decref(answer);
	if (rc)
		return rc == -ENOMEM ? rc : -EIO;
	answer = NULL;
	/* Whether this works or not, nothing hangs on it any more. */
	call(es, "/v3/lease/revoke", json_pack("{s:I}", "ID", (json_int_t)lease_id),
		&answer);
	json_decref(answer);
	return 0;
}

/* --- all leases ------------------------------------------------------------------ */

static int seen_grow(struct etcd_store *es, uint32_t count)
{
	struct seen_lease *seen;

	if (count <= es->seen_room)
		return 0;
	seen = mem_realloc(es->seen, count * sizeof(*seen));
	if (!seen)
		return fail(es, -ENOMEM, "out of memory");
	memset(seen + es->seen_room, 0, (count - es->seen_room) * sizeof(*seen));
	es->seen = seen;
	es->seen_room = count;
	return 0;
}

/* How long lease i still lasts, at the least. */
static bool lease_ask(struct etcd_store *es, struct seen_lease *seen)
{
	uint64_t before_us = boottime_us();
	json_t *answer = NULL;
	int64_t ttl_s;

	if (etcd_call(es->etcd, "/v3/lease/timetolive",
		    json_pack("{s:I}", "ID", (json_int_t)seen->lease_id), &answer))
		return false;
	ttl_s = etcd_number(answer, "TTL");
	json_decref(answer);
	seen->until_us = before_us + (ttl_s > 0 ? (uint64_t)ttl_s * 1000000 : 0);
	return true;
}

/* Ask for a few, going round, and fill in what remains of all that are not expired. */
static void leases_time(struct etcd_store *es, struct map_lease *leases, uint32_t count)
{
	uint32_t asked = count < LEASES_ASKED ? count : LEASES_ASKED;
	uint64_t now_us;

	for (uint32_t i = 0; i < asked; i++) {
		uint32_t at = es->ask_at++ % count;

		if (leases[at].remaining_ms && !lease_ask(es, &es->seen[at]))
			break;
	}
	now_us = boottime_us();
	for (uint32_t i = 0; i < count; i++)
		if (leases[i].remaining_ms && es->seen[i].until_us > now_us + 1000)
			leases[i].remaining_ms =
				(uint32_t)((es->seen[i].until_us - now_us) / 1000);
}

static bool lease_node(const struct etcd_store *es, const json_t *kv, uint32_t *node_out)
{
	size_t head = strlen(es->key_lease), size;
	char *key = NULL, *end;
	unsigned long node;
	bool ok;

	if (etcd_bytes_take(kv, "key", &key, &size))
		return false;
	ok = size > head && key[head] >= '0' && key[head] <= '9';
	if (ok) {
		node = strtoul(key + head, &end, 10);
		ok = *end == '\0' && end == key + size && node <= UINT32_MAX;
		*node_out = (uint32_t)node;
	}
	mem_free(key);
	return ok;
}

static int leases_take(struct etcd_store *es, const json_t *kvs, struct map_lease *leases,
	uint32_t max, uint32_t *count_out)
{
	uint32_t count = 0;
	int rc;

	for (size_t i = 0; i < json_array_size(kvs); i++) {
		const json_t *kv = json_array_get(kvs, i);
		int64_t lease_id = etcd_number(kv, "lease");
		struct map_lease lease = {.remaining_ms = 1};

		if (!lease_node(es, kv, &lease.node))
			continue;
		if (count == max)
			return fail(es, -ENOSPC, "more than %u leases in etcd at %s", max,
				es->key_lease);
		if (!lease_value(kv, &lease.incarnation))
			lease.remaining_ms = 0;
		rc = seen_grow(es, count + 1);
		if (rc)
			return rc;
		if (es->seen[count].lease_id != lease_id)
			es->seen[count] = (struct seen_lease){.lease_id = lease_id};
		leases[count++] = lease;
	}
	*count_out = count;
	return 0;
}

/* The key after all leases. */
static json_t *lease_end(const struct etcd_store *es)
{
	char end[sizeof(es->key_lease)];

	snprintf(end, sizeof(end), "%s", es->key_lease);
	end[strlen(end) - 1] = '/' + 1;
	return bytes(end);
}

static int store_leases(struct map_store *store, struct map_lease *leases, uint32_t max,
	uint32_t *count_out)
{
	struct etcd_store *es = etcd_store_of(store);
	json_t *answer = NULL;
	int rc;

	begin(es, es->lease_ms);
	rc = call(es, "/v3/kv/range",
		json_pack("{s:o, s:o}", "key", bytes(es->key_lease), "range_end",
			lease_end(es)),
		&answer);
	if (rc)
		return rc == -ENOMEM ? rc : -EIO;
	rc = leases_take(es, json_object_get(answer, "kvs"), leases, max, count_out);
	json_decref(answer);
	if (rc == 0 && *count_out)
		leases_time(es, leases, *count_out);
	return rc;
}

/* --- the rest -------------------------------------------------------------------- */

static int store_wait(struct map_store *store, uint64_t known_epoch, uint32_t timeout_ms)
{
	struct etcd_store *es = etcd_store_of(store);
	bool changed = false;
	int rc;

	if (!es->revision || es->epoch < known_epoch) {
		struct map *map = NULL;

		begin(es, es->lease_ms);
		rc = map_read(es, 0, &map);
		map_free(map);
		if (rc)
			return rc == -ENOMEM ? rc : -EIO;
	}
	if (es->epoch > known_epoch)
		return 0;
	rc = etcd_watch(es->etcd, es->key_map, es->revision + 1, timeout_ms, &changed);
	if (rc)
		return fail(es, rc, "%s", etcd_reason(es->etcd));
	if (changed)
		es->revision = 0;
	return 0;
}

int map_store_etcd_erase(struct map_store *store)
{
	struct etcd_store *es = etcd_store_of(store);
	json_t *answer = NULL;
	int rc;

	begin(es, es->lease_ms);
	rc = call(es, "/v3/kv/txn",
		json_pack("{s:[{s:{s:o, s:o}}, {s:{s:o}}]}", "success",
			"request_delete_range", "key", bytes(es->key_lease), "range_end",
			lease_end(es), "request_delete_range", "key", bytes(es->key_map)),
		&answer);
	json_decref(answer);
	es->revision = 0;
	return rc;
}

static void store_close(struct map_store *store)
{
	struct etcd_store *es;

	if (!store)
		return;
	es = etcd_store_of(store);
	etcd_close(es->etcd);
	mem_free(es->seen);
	mem_free(es);
}

int map_store_etcd_open(const struct map_store_spec *spec, struct map_store **store_out,
	char *reason, size_t reason_size)
{
	static const struct map_store_ops ops = {
		.load = store_load,
		.save = store_save,
		.renew = store_renew,
		.release = store_release,
		.leases = store_leases,
		.wait = store_wait,
		.close = store_close,
	};
	struct etcd_store *es = mem_zalloc(sizeof(*es));
	int rc;

	if (!es) {
		snprintf(reason, reason_size, "out of memory");
		return -ENOMEM;
	}
	rc = etcd_open(spec, &es->etcd, reason, reason_size);
	if (rc) {
		mem_free(es);
		return rc;
	}
	es->store.ops = &ops;
	es->lease_ms = MAP_LEASE_MS_DEFAULT;
	snprintf(es->key_map, sizeof(es->key_map), "%s/map", etcd_prefix(es->etcd));
	snprintf(
		es->key_lease, sizeof(es->key_lease), "%s/lease/", etcd_prefix(es->etcd));
	*store_out = &es->store;
	return 0;
}

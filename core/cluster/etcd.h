/*
 * A client of etcd's v3 JSON gateway: endpoints, authentication, deadlines. What is asked
 * is map_store_etcd.c's business. One thread at a time per struct etcd.
 */
#ifndef WFS_CLUSTER_ETCD_H
#define WFS_CLUSTER_ETCD_H

#include <jansson.h>

#include "core/cluster/map_store.h"

struct etcd;

/* -EINVAL, with the reason; -ENOMEM. */
int etcd_open(const struct map_store_spec *spec, struct etcd **etcd_out, char *reason,
	size_t reason_size);
void etcd_close(struct etcd *etcd);               /* takes NULL */
const char *etcd_prefix(const struct etcd *etcd); /* without a slash at its end */
const char *etcd_reason(const struct etcd *etcd); /* of the last failure */

/* All calls until the next etcd_begin together take at most budget_ms. */
void etcd_begin(struct etcd *etcd, uint32_t budget_ms);

/*
 * POST to `path`, as "/v3/kv/range", at the first endpoint that answers. Takes the
 * request; NULL is -ENOMEM. The answer is the caller's. -EIO: no endpoint answered in
 * time, or it refuses; -ENOENT and -EEXIST: etcd's NotFound and FailedPrecondition;
 * -E2BIG: too large for etcd.
 */
int etcd_call(struct etcd *etcd, const char *path, json_t *request, json_t **answer_out);
/* Whether an endpoint may have carried out the last call without our hearing of it. */
bool etcd_call_was_repeated(const struct etcd *etcd);

/* Wait until the key changes at `revision` or later. True in *changed_out: it did, or
 * that is not known. -EIO: not reachable. */
int etcd_watch(struct etcd *etcd, const char *key, int64_t revision, uint32_t timeout_ms,
	bool *changed_out);

/* Members of etcd's JSON: numbers that may be strings, or left out when 0; bytes in
 * base64, which are a new string and NULL when memory is short. */
int64_t etcd_number(const json_t *object, const char *name);
json_t *etcd_bytes(const void *data, size_t size_bytes);
/* mem_free() *data_out, which is NUL-terminated. -EUCLEAN, -ENOMEM. */
int etcd_bytes_take(
	const json_t *object, const char *name, char **data_out, size_t *size_out);

#endif

/* Which store a map is in. */
#include "core/cluster/map_store.h"

#include <stdio.h>
#include <string.h>

bool map_store_is_etcd(const char *map)
{
	return strncmp(map, "etcd:", 5) == 0;
}

int map_store_open(const struct map_store_spec *spec, struct map_store **store_out,
	char *reason, size_t reason_size)
{
	int rc;

	reason[0] = '\0';
	if (map_store_is_etcd(spec->map))
		return map_store_etcd_open(spec, store_out, reason, reason_size);
	rc = map_store_file_open(spec->map, store_out);
	if (rc)
		snprintf(reason, reason_size, "cluster map %s: %s", spec->map,
			strerror(-rc));
	return rc;
}

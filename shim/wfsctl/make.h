/*
 * Making the parts of one node. Each returns an exit code, after complaining.
 */
#ifndef WFS_WFSCTL_MAKE_H
#define WFS_WFSCTL_MAKE_H

#include "shim/wfsctl/ctl.h"
#include "shim/wfsctl/place.h"

struct node_make {
	const struct ctl *ctl;
	uint32_t id;
	unsigned shards;
	const char *const *devices; /* one each; NULL: files in the node's directory */
	uint64_t size_bytes;
	uint64_t memory_bytes;             /* 0: wfsd's default */
	const struct place *place;         /* of the map, for node_conf_make */
	const struct place_member *member; /* of etcd, that it runs; NULL: none */
};

/* --device, once for each shard or not at all. */
int devices_check(const struct ctl *ctl, uint64_t shards);
/* As node_path: valid for a few calls. */
const char *node_device(const struct node_make *make, unsigned shard);
int device_make(
	const struct ctl *ctl, uint32_t id, const char *path, uint64_t size_bytes);
/* The directory, and the device files. */
int node_make(const struct node_make *make);
int node_conf_make(const struct node_make *make);
/* `force`: whatever the devices hold is lost. */
int node_format(const struct ctl *ctl, uint32_t id, bool force);
/* Nobody listens there (create.c). */
bool port_free(unsigned port);

#endif

/*
 * Where the cluster map and the nodes' leases are kept: the one thing all nodes agree
 * through. A small ops table; only the implementation knows its storage.
 *
 * Every call is synchronous and bounded: it returns within a quarter of the map's lease
 * time, -EIO when the store is not reachable. After any failure `reason` says why, for
 * the operator. One thread at a time per struct map_store; a thread that waits while
 * another saves opens a store of its own.
 *
 * Leases. A node that renews with ttl_ms at a time t of its own clock can be sure that no
 * other sees its lease expired before t + ttl_ms; so it takes t before the call. The
 * store measures on one clock, never on the wall clock of a node; and a lease that
 * leases() shows as expired, or does not show, was expired or absent when it was read,
 * with all renewals before in it (a linearizable read).
 */
#ifndef WFS_CLUSTER_MAP_STORE_H
#define WFS_CLUSTER_MAP_STORE_H

#include "core/cluster/map.h"

struct map_lease {
	uint32_t node;
	uint32_t remaining_ms; /* 0: expired */
	uint64_t incarnation;
};

struct map_store;
struct map_store_ops {
	/* 0 with *map_out NULL: not newer than known_epoch (0: whatever there is, so
	 * never NULL). -ENOENT: no map there. -EUCLEAN: damaged. */
	int (*load)(struct map_store *store, uint64_t known_epoch, struct map **map_out);
	/* Compare-and-swap. -EAGAIN: the stored epoch is not map->epoch - 1 (0 when there
	 * is none). -EEXIST: another cluster's map. -EIO: it may have been saved, or may
	 * yet be. */
	int (*save)(struct map_store *store, const struct map *map);
	/* The node holds its lease for ttl_ms from now. -EBUSY: another incarnation holds
	 * it and it has not expired. */
	int (*renew)(struct map_store *store, uint32_t node, uint64_t incarnation,
		uint32_t ttl_ms);
	/* A clean stop: the lease is gone, its entry absent. 0 too when it is not ours.
	 */
	int (*release)(struct map_store *store, uint32_t node, uint64_t incarnation);
	/* All leases, expired ones with remaining_ms 0 (an implementation that forgets
	 * them may leave them out). A node never seen, or released, is absent. -ENOSPC:
	 * more than `max`. */
	int (*leases)(struct map_store *store, struct map_lease *leases, uint32_t max,
		uint32_t *count_out);
	/* Sleep until the map may be newer than known_epoch, at most timeout_ms. 0 always
	 * allowed; -EIO at once or later when not reachable: pause before the next. */
	int (*wait)(struct map_store *store, uint64_t known_epoch, uint32_t timeout_ms);
	void (*close)(struct map_store *store); /* takes NULL */
};
struct map_store {
	const struct map_store_ops *ops;
	char reason[256]; /* of the last failure, for the operator */
};

/* Where a map is kept; strings may be NULL or "" where nothing is to be said. */
struct map_store_spec {
	/* A path, or etcd:URL[,URL...][/PREFIX]; URL http[s]://HOST:PORT, PREFIX of the
	 * keys (default wfs). */
	const char *map;
	/* For etcd only. PEM files: the CA of its certificates (default: the system's),
	 * our own certificate and key. The password is the first line of a file. */
	const char *ca, *cert, *key;
	const char *user, *password_file;
};

/* Open either of the stores below; nothing is asked yet. -EINVAL, with the reason;
 * -ENOMEM. */
int map_store_open(const struct map_store_spec *spec, struct map_store **store_out,
	char *reason, size_t reason_size);
bool map_store_is_etcd(const char *map);

/* etcd (3.4 or newer) through its JSON gateway: map_store_etcd.c. */
int map_store_etcd_open(const struct map_store_spec *spec, struct map_store **store_out,
	char *reason, size_t reason_size);
/* Remove map and leases of a cluster that is destroyed. -EIO. */
int map_store_etcd_erase(struct map_store *store);

/* The embedded store: file `path`, with the leases in `path`.lease.<node>, for clusters
 * whose nodes share one machine. -EINVAL: path empty or too long. -ENOMEM. */
int map_store_file_open(const char *path, struct map_store **store_out);

#endif

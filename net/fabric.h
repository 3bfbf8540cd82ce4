/*
 * The fabric: one reliable unconnected endpoint of some libfabric provider, bound to an
 * address. Sends and receives of messages, one-sided reads and writes of peers' memory.
 * Provider-neutral: what a provider wants (registered local memory, virtual addresses,
 * its own keys) is settled inside.
 *
 * Every accepted operation ends with one op->done from fabric_poll: status 0 or a
 * negative errno. The op and its buffer belong to the fabric until then. An operation
 * that cannot be taken now (-EAGAIN: queue full, or still connecting, for ever if nobody
 * is there) has not begun: try again later, and have a deadline.
 *
 * One thread at a time. Addresses are IPv4.
 */
#ifndef WFS_NET_FABRIC_H
#define WFS_NET_FABRIC_H

#include <netinet/in.h>

#include "core/base/env.h"
#include "core/base/types.h"

struct fabric;

struct fabric_op {
	void *provider[8]; /* scratch of the provider, untouched while in flight */
	void (*done)(struct fabric_op *op, int status, size_t size_bytes);
};

/* Memory the endpoint may use locally, or that is exposed to peers under (addr, key). */
struct fabric_region {
	void *provider;
	void *desc; /* for local use */
	uint64_t addr;
	uint64_t key;
};

enum fabric_access { FABRIC_LOCAL, FABRIC_PEERS_READ, FABRIC_PEERS_WRITE };

typedef uint64_t fabric_peer;

/* Open and listen. -EADDRINUSE, -EADDRNOTAVAIL, -ENODEV (no such provider), -ENOMEM.
 * The signal dispositions of the process stay as they were. */
int fabric_open(struct env *env, const char *provider, const char *host, uint16_t port,
	struct fabric **fabric_out);
/* Operations in flight end without done. Takes NULL. */
void fabric_close(struct fabric *f);

/* Address of a host, by number or name. -EINVAL: not one. May ask the resolver. */
int fabric_resolve(const char *host, uint16_t port, struct sockaddr_in *addr_out);
/* No traffic yet. -ENOMEM. */
int fabric_peer_insert(
	struct fabric *f, const struct sockaddr_in *addr, fabric_peer *peer_out);
void fabric_peer_remove(struct fabric *f, fabric_peer peer);

/* Exposed memory gets a fresh random key. -ENOMEM, or the provider's errno. */
int fabric_region_open(struct fabric *f, void *memory, size_t size_bytes,
	enum fabric_access access, struct fabric_region *region_out);
/* No new access by peers begins after this; one under way may still go on. Idempotent. */
void fabric_region_close(struct fabric_region *region);

/* All: 0, -EAGAIN (not taken), or a negative errno (not taken). */
int fabric_recv(
	struct fabric *f, struct fabric_op *op, void *buf, size_t size_bytes, void *desc);
int fabric_send(struct fabric *f, struct fabric_op *op, fabric_peer peer, const void *buf,
	size_t size_bytes, void *desc);
struct fabric_target {
	fabric_peer peer;
	uint64_t addr;
	uint64_t key;
};
int fabric_read(struct fabric *f, struct fabric_op *op, const struct fabric_target *from,
	void *buf, size_t size_bytes, void *desc);
/* Done means: it lies in the peer's memory. */
int fabric_write(struct fabric *f, struct fabric_op *op, const struct fabric_target *to,
	const void *buf, size_t size_bytes, void *desc);

/* Whether a peer's address is that of a TCP listener. */
bool fabric_is_tcp(const struct fabric *f);

/* Progress, and done of at most `max` operations. Returns how many. */
unsigned fabric_poll(struct fabric *f, unsigned max);
/* Readable when fabric_poll has something to do, provided fabric_may_sleep said yes. */
int fabric_wait_fd(struct fabric *f);
bool fabric_may_sleep(struct fabric *f);

#endif

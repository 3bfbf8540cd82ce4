/*
 * Members of etcd for a test: started in a directory of their own, killed, started again;
 * and maps to keep in them.
 */
#ifndef WFS_TESTS_ETCD_WORLD_H
#define WFS_TESTS_ETCD_WORLD_H

#include "core/cluster/etcd_member.h"
#include "core/cluster/map_store.h"

#define ETCD_MEMBERS_MAX 3

struct world_member {
	struct etcd_member member;
	char name[8], data[128], client[64], peer[64], pidfile[128], log[128];
};

extern char directory[64];
extern struct world_member members[ETCD_MEMBERS_MAX];
extern char map_spec[512]; /* of all members, with the prefix lab/one */

/* All that members need to be started; skips the test where etcd is not installed. */
void members_name(unsigned count);
void members_start(unsigned count); /* and wait until they answer */
void members_await(void);
void members_end(void);
void member_start(unsigned i);
void member_kill(unsigned i);
void member_options(unsigned i, struct etcd_member_options *opt);
unsigned port_free(void);

struct map_store *store_opened(void);
struct map *sample(void);
struct map *sample_large(uint32_t nodes, uint32_t shards, uint32_t buckets);
void saved(struct map_store *store, const struct map *map);
/* The epoch, 0: not newer than `known`, or the error. */
int load_epoch(struct map_store *store, uint64_t known);
const struct map_lease *lease_of(struct map_store *store, uint32_t node);
void renewed(struct map_store *store, uint32_t node, uint64_t incarnation, uint32_t ms);

void etcdctl(const char *what); /* as an operator would */
void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ms(void);
void pause_ms(int ms);

#endif

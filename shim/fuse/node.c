/*
 * Lookup counts: a hash table of inodes that the kernel holds, in shards with a lock
 * each.
 */
#include <pthread.h>

#include "core/base/list.h"
#include "core/base/mem.h"
#include "shim/fuse/mount.h"

#define NODE_SHARDS 64u
#define NODE_CHAINS 256u /* of each shard */

struct node {
	struct list link;
	uint64_t lookups;
	struct client_attr attr;
};

static struct node_shard {
	pthread_mutex_t lock;
	struct list chains[NODE_CHAINS];
} shards[NODE_SHARDS];

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void shards_init(void)
{
	for (unsigned i = 0; i < NODE_SHARDS; i++) {
		pthread_mutex_init(&shards[i].lock, NULL);
		for (unsigned j = 0; j < NODE_CHAINS; j++)
			list_init(&shards[i].chains[j]);
	}
}

static struct list *chain_lock(ino_id ino, struct node_shard **shard_out)
{
	uint64_t hash = ino * 0x9e3779b97f4a7c15u;

	pthread_once(&once, shards_init);
	*shard_out = &shards[hash >> 58];
	pthread_mutex_lock(&(*shard_out)->lock);
	return &(*shard_out)->chains[hash >> 50 & (NODE_CHAINS - 1)];
}
_Static_assert(NODE_SHARDS == 1u << 6 && NODE_CHAINS == 1u << 8, "bits of the hash");

static struct node *node_find(struct list *chain, ino_id ino)
{
	list_for_each(it, tmp, chain)
	{
		struct node *n = container_of(it, struct node, link);

		if (n->attr.ino == ino)
			return n;
	}
	return NULL;
}

/* Short of memory the node is not remembered: all that is lost is node_last. */
void node_looked_up(const struct client_attr *attr)
{
	struct node_shard *shard;
	struct list *chain = chain_lock(attr->ino, &shard);
	struct node *n = node_find(chain, attr->ino);

	if (!n) {
		n = mem_zalloc(sizeof(*n));
		if (n)
			list_push_front(chain, &n->link);
	}
	if (n) {
		n->attr = *attr;
		n->lookups++;
	}
	pthread_mutex_unlock(&shard->lock);
}

void node_forget(ino_id ino, uint64_t count)
{
	struct node_shard *shard;
	struct node *n = node_find(chain_lock(ino, &shard), ino);

	if (n && n->lookups <= count) {
		list_remove(&n->link);
		mem_free(n);
	} else if (n) {
		n->lookups -= count;
	}
	pthread_mutex_unlock(&shard->lock);
}

void node_seen(const struct client_attr *attr)
{
	struct node_shard *shard;
	struct node *n = node_find(chain_lock(attr->ino, &shard), attr->ino);

	if (n)
		n->attr = *attr;
	pthread_mutex_unlock(&shard->lock);
}

bool node_last(ino_id ino, struct client_attr *attr_out)
{
	struct node_shard *shard;
	struct node *n = node_find(chain_lock(ino, &shard), ino);

	if (n) {
		*attr_out = n->attr;
		attr_out->nlink = 0;
	}
	pthread_mutex_unlock(&shard->lock);
	return n != NULL;
}

/*
 * The inside of the world: what its loop and its network know of each other.
 */
#ifndef WFS_TESTS_WORLD_IMPL_H
#define WFS_TESTS_WORLD_IMPL_H

#include "tests/lib/check.h"
#include "tests/lib/world.h"

/* A call on its way there, being served, or on its way back. */
struct message {
	struct list link;
	struct world *w;
	struct rpc_call *call; /* NULL: nobody waits any more */
	struct request req;
	uint32_t from;
	uint32_t to;
	uint32_t via;         /* WORLD_CLIENT: of which node */
	bool lost;            /* nobody will ever see it */
	uint32_t incarnation; /* of `to` when it was sent */
	uint64_t due_us;
	uint64_t timeout_us;
	bool served; /* in the hands of the shard */
	bool is_reply;
	int status;
	uint8_t *data;
	uint8_t *reply_data;
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
	_Alignas(8) uint8_t reply[WIRE_BODY_MAX];
};

/* --- world_net.c --- */

extern const struct env_ops world_clock_ops;

/* One message that is due, or one timeout. */
bool world_messages_step(struct world *w);
uint64_t world_messages_next_us(struct world *w);
void world_message_end(struct message *m, int status);
void world_message_free(struct message *m);
/* A shard's calls, for shard_options. */
void world_shard_send(void *ctx, struct rpc_call *call);

#endif

/*
 * Room on the other members. A record that our own log took cannot be taken back, and a
 * backup that has no room for it could only be dropped. So a primary refuses new data as
 * soon as a backup says that it is full (every reply carries it, shard_fill), while that
 * one still has the reserve for what is under way.
 *
 * Who refuses everything sends nothing, and would not hear when there is room again: so
 * it asks.
 */
#include "core/base/mem.h"
#include "core/shard/member.h"

#define ASK_US         200000u
#define ASK_TIMEOUT_MS 1000u

static const struct cred root_cred;

static void ask(struct shard *s, uint32_t shard)
{
	uint64_t now = env_now_us(s->env);
	struct rpc_call *call;

	if (now < s->room_ask_us)
		return;
	call = mem_zalloc(sizeof(*call));
	if (!call)
		return;
	s->room_ask_us = now + ASK_US;
	*call = (struct rpc_call){
		.op = OP_SHARD_STATS,
		.bucket = (uint16_t)shard,
		.flags = HEAD_TO_SHARD,
		.timeout_ms = ASK_TIMEOUT_MS,
		.cred = &root_cred,
		.body = "",
		.done = rpc_call_forget,
	};
	s->send(s->ctx, call);
}

bool members_full(struct shard *s, uint16_t bucket)
{
	const struct map_bucket *mb = &s->map->buckets[bucket];

	if (s->alone || !s->fill_of)
		return false;
	for (uint32_t i = 0; i < mb->backup_count; i++) {
		if (s->fill_of(s->ctx, mb->backups[i]) != SHARD_FULL)
			continue;
		ask(s, mb->backups[i]);
		return true;
	}
	return false;
}

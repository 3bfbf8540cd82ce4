/* A call to a shard of the same process, as a request. */
#include <errno.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/shard/shard.h"

struct delivery {
	struct request req;
	struct rpc_call *call;
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
	_Alignas(8) uint8_t reply[WIRE_BODY_MAX];
};

static void delivery_done(struct request *req, int status)
{
	struct delivery *d = container_of(req, struct delivery, req);
	struct rpc_call *call = d->call;

	if (status == 0)
		call->done(call, 0, d->reply, req->reply_size, req->reply_data_size);
	else
		call->done(call, status, NULL, 0, 0);
	mem_free(d);
}

int shard_delivery(struct env *env, struct rpc_call *call, struct request **req_out)
{
	struct delivery *d = mem_alloc(sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->call = call;
	d->req = request_of_call(call);
	d->req.deadline_us = env_now_us(env) + (uint64_t)call->timeout_ms * 1000;
	memcpy(d->body, call->body, call->body_size);
	d->req.body = d->body;
	d->req.reply = d->reply;
	d->req.done = delivery_done;
	list_init(&d->req.link);
	*req_out = &d->req;
	return 0;
}

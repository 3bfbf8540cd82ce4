/*
 * For the tests of RPC: endpoints on 127.0.0.1 that answer, and calls to wait for. Each
 * test runs over both providers.
 */
#ifndef WFS_TESTS_UNIT_RPC_SIDES_H
#define WFS_TESTS_UNIT_RPC_SIDES_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/crc.h"
#include "core/base/mem.h"
#include "net/fabric.h"
#include "net/rpc.h"

#define CLUSTER  0x1122334455667788u
#define HELD_MAX 2048
#define MIB      (1u << 20)

struct side {
	struct rpc *rpc;
	uint16_t port;
	uint32_t shard;
	bool hold; /* keep requests instead of answering */
	struct request *held[HELD_MAX];
	unsigned held_count;
};

struct waiter {
	struct rpc_call call;
	bool is_done;
	int status;
	uint32_t reply_size;
	uint32_t data_size;
	struct wire_io_reply io;
};

static const struct cred test_cred = {
	.uid = 1000, .gid = 100, .group_count = 3, .groups = {5, 6, 7}};

static inline uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	socklen_t size = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &size), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static inline void fill(uint8_t *p, size_t size, uint64_t seed)
{
	struct env_sim sim;

	env_sim_init(&sim, seed);
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t v = env_random(&sim.env);
		memcpy(p + i, &v, 8);
	}
}

/* PING echoes data; WRITE answers its crc; READ gives bytes made from the offset. */
static inline void answer(struct request *req)
{
	struct wire_io io;
	struct wire_io_reply reply = {0};

	if (req->op == OP_PING) {
		req->reply_data_size = req->data_size;
		if (req->data_size)
			memcpy(req->reply_data, req->data, req->data_size);
		req->done(req, 0);
		return;
	}
	memcpy(&io, req->body, sizeof(io));
	if (req->op == OP_READ) {
		req->reply_data_size = le32_get(io.length);
		fill(req->reply_data, req->reply_data_size, le64_get(io.offset));
		reply.length = io.length;
	} else {
		reply.length = le32_put(req->data_size);
		reply.offset = le64_put(crc32c(req->data, req->data_size));
	}
	memcpy(req->reply, &reply, sizeof(reply));
	req->reply_size = sizeof(reply);
	req->done(req, 0);
}

static inline void handle(void *ctx, struct request *req)
{
	struct side *s = ctx;

	cr_assert_eq(req->cred.uid, 1000);
	cr_assert_eq(req->cred.group_count, 3);
	cr_assert_eq(req->cred.groups[2], 7);
	cr_assert_eq((uintptr_t)req->body % 8, 0);
	cr_assert_eq((uintptr_t)req->reply % 8, 0);
	if (s->hold) {
		cr_assert_lt(s->held_count, HELD_MAX);
		s->held[s->held_count++] = req;
	} else {
		answer(req);
	}
}

static inline int side_try(
	struct side *s, const char *provider, uint32_t shard, uint64_t cluster)
{
	struct rpc_options opt = {
		.env = env_real(),
		.provider = provider,
		.host = "127.0.0.1",
		.port = s->port,
		.cluster = cluster,
		.self = shard,
		.handle = handle,
		.ctx = s,
	};

	s->shard = shard;
	return rpc_new(&opt, &s->rpc);
}

static inline void side_open(struct side *s, const char *provider, uint32_t shard)
{
	*s = (struct side){.port = free_port()};
	cr_assert_eq(side_try(s, provider, shard, CLUSTER), 0);
}

static inline void introduce(struct side *a, struct side *b)
{
	cr_assert_eq(rpc_peer_set(a->rpc, b->shard, "127.0.0.1", b->port), 0);
	cr_assert_eq(rpc_peer_set(b->rpc, a->shard, "127.0.0.1", a->port), 0);
}

static inline void done(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t data_size)
{
	struct waiter *w = call->priv;

	cr_assert_not(w->is_done, "done twice");
	w->is_done = true;
	w->status = status;
	w->reply_size = reply_size;
	w->data_size = data_size;
	if (reply_size == sizeof(w->io))
		memcpy(&w->io, reply, sizeof(w->io));
}

static inline void call(
	struct side *from, uint32_t to, struct waiter *w, uint32_t timeout_ms)
{
	w->is_done = false;
	w->call.cred = &test_cred;
	w->call.done = done;
	w->call.priv = w;
	w->call.timeout_ms = timeout_ms;
	rpc_send(from->rpc, to, &w->call, 7, 9);
}

static inline bool wait_all(struct waiter *w, size_t count, struct side **sides,
	size_t side_count, uint64_t limit_ms)
{
	uint64_t until = env_now_us(env_real()) + limit_ms * 1000;
	size_t i = 0;

	while (i < count) {
		for (size_t s = 0; s < side_count; s++)
			rpc_poll(sides[s]->rpc, NULL);
		while (i < count && w[i].is_done)
			i++;
		if (env_now_us(env_real()) > until)
			return i == count;
	}
	return true;
}

static inline void spin_ms(struct side **sides, size_t side_count, uint64_t ms)
{
	uint64_t until = env_now_us(env_real()) + ms * 1000;

	while (env_now_us(env_real()) < until)
		for (size_t s = 0; s < side_count; s++)
			rpc_poll(sides[s]->rpc, NULL);
}

static inline void ping(struct side *from, struct side *to, uint32_t size)
{
	struct side *sides[] = {from, to};
	struct waiter w = {.call.op = OP_PING};
	uint8_t *out = malloc(size + 1);
	uint8_t *in = calloc(1, size + 1);

	fill(out, size, size);
	w.call.data = out;
	w.call.data_size = size;
	w.call.reply_data = in;
	w.call.reply_data_max = size;
	call(from, to->shard, &w, 5000);
	cr_assert(wait_all(&w, 1, sides, 2, 6000));
	cr_assert_eq(w.status, 0, "ping %u: %d", size, w.status);
	cr_assert_eq(w.data_size, size);
	cr_assert_eq(memcmp(in, out, size), 0);
	free(out);
	free(in);
}

static inline void set_io(struct waiter *w, uint16_t op, struct wire_io *io,
	uint64_t offset, uint32_t length)
{
	*io = (struct wire_io){.ino = le64_put(42),
		.offset = le64_put(offset),
		.length = le32_put(length)};
	w->call = (struct rpc_call){.op = op, .body = io, .body_size = sizeof(*io)};
}

static inline void transfer(struct side *from, struct side *to, uint32_t size)
{
	struct side *sides[] = {from, to};
	struct waiter w = {0};
	struct wire_io io;
	uint8_t *out = malloc(size);
	uint8_t *in = calloc(1, size);

	fill(out, size, MIB);
	set_io(&w, OP_WRITE, &io, 0, size);
	w.call.data = out;
	w.call.data_size = size;
	call(from, to->shard, &w, 5000);
	cr_assert(wait_all(&w, 1, sides, 2, 6000));
	cr_assert_eq(w.status, 0, "write %u: %d", size, w.status);
	cr_assert_eq(le32_get(w.io.length), size);
	cr_assert_eq(le64_get(w.io.offset), crc32c(out, size));

	set_io(&w, OP_READ, &io, MIB, size);
	w.call.reply_data = in;
	w.call.reply_data_max = size;
	call(from, to->shard, &w, 5000);
	cr_assert(wait_all(&w, 1, sides, 2, 6000));
	cr_assert_eq(w.status, 0, "read %u: %d", size, w.status);
	cr_assert_eq(w.data_size, size);
	cr_assert_eq(crc32c(in, size), crc32c(out, size));
	free(out);
	free(in);
}

#define BOTH(name)                                                                       \
	Test(SUITE_NET, name, .timeout = 60)                                             \
	{                                                                                \
		name("net");                                                             \
	}                                                                                \
	Test(SUITE_RXM, name, .timeout = 60)                                             \
	{                                                                                \
		name("tcp;ofi_rxm");                                                     \
	}

#endif

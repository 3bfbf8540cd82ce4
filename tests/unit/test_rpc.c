/*
 * RPC over the real providers on 127.0.0.1: several endpoints in one process, driven by
 * turns, and one in a process of its own to be killed.
 */
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

#define CLUSTER   0x1122334455667788u
#define HELD_MAX  2048
#define MIB       (1u << 20)

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

static uint16_t free_port(void)
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

static void fill(uint8_t *p, size_t size, uint64_t seed)
{
	struct env_sim sim;

	env_sim_init(&sim, seed);
	for (size_t i = 0; i + 8 <= size; i += 8) {
		uint64_t v = env_random(&sim.env);
		memcpy(p + i, &v, 8);
	}
}

/* PING echoes data; WRITE answers its crc; READ gives bytes made from the offset. */
static void answer(struct request *req)
{
	struct wire_io io;
	struct wire_io_reply reply = {0};

	if (req->op == OP_PING) {
		req->reply_data_size = req->data_size;
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

static void handle(void *ctx, struct request *req)
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

static int side_try(struct side *s, const char *provider, uint32_t shard, uint64_t cluster)
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

static void side_open(struct side *s, const char *provider, uint32_t shard)
{
	*s = (struct side){.port = free_port()};
	cr_assert_eq(side_try(s, provider, shard, CLUSTER), 0);
}

static void introduce(struct side *a, struct side *b)
{
	cr_assert_eq(rpc_peer_set(a->rpc, b->shard, "127.0.0.1", b->port), 0);
	cr_assert_eq(rpc_peer_set(b->rpc, a->shard, "127.0.0.1", a->port), 0);
}

static void done(struct rpc_call *call, int status, const void *reply, uint32_t reply_size,
	uint32_t data_size)
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

static void call(struct side *from, uint32_t to, struct waiter *w, uint32_t timeout_ms)
{
	w->is_done = false;
	w->call.cred = &test_cred;
	w->call.done = done;
	w->call.priv = w;
	w->call.timeout_ms = timeout_ms;
	rpc_send(from->rpc, to, &w->call, 7, 9);
}

static bool wait_all(struct waiter *w, size_t count, struct side **sides, size_t side_count,
	uint64_t limit_ms)
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

static void spin_ms(struct side **sides, size_t side_count, uint64_t ms)
{
	uint64_t until = env_now_us(env_real()) + ms * 1000;

	while (env_now_us(env_real()) < until)
		for (size_t s = 0; s < side_count; s++)
			rpc_poll(sides[s]->rpc, NULL);
}

static void ping(struct side *from, struct side *to, uint32_t size)
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

static void set_io(struct waiter *w, uint16_t op, struct wire_io *io, uint64_t offset,
	uint32_t length)
{
	*io = (struct wire_io){.ino = le64_put(42),
		.offset = le64_put(offset),
		.length = le32_put(length)};
	w->call = (struct rpc_call){.op = op, .body = io, .body_size = sizeof(*io)};
}

static void transfer(struct side *from, struct side *to, uint32_t size)
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

static void echo_and_transfer(const char *provider)
{
	struct side a;
	struct side b;

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	for (uint32_t size = 8; size <= 8192; size *= 4)
		ping(&a, &b, size);
	ping(&b, &a, 8192);
	ping(&a, &b, 0);
	transfer(&a, &b, 8192);
	transfer(&a, &b, 8200);
	transfer(&a, &b, MIB);
	transfer(&b, &a, MIB);
	cr_assert_eq(rpc_stats(a.rpc)->errors + rpc_stats(b.rpc)->errors, 0);
	rpc_free(a.rpc);
	rpc_free(b.rpc);
}

#define BOTH(name)                                                                       \
	Test(rpc_net, name, .timeout = 60)                                                \
	{                                                                                 \
		name("net");                                                              \
	}                                                                                 \
	Test(rpc_rxm, name, .timeout = 60)                                                \
	{                                                                                 \
		name("tcp;ofi_rxm");                                                      \
	}

BOTH(echo_and_transfer)

static void to_itself(const char *provider)
{
	struct side a;

	side_open(&a, provider, 1);
	cr_assert_eq(rpc_peer_set(a.rpc, 1, "127.0.0.1", a.port), 0);
	ping(&a, &a, 64);
	transfer(&a, &a, MIB);
	rpc_free(a.rpc);
}
BOTH(to_itself)

static void many_at_once(const char *provider)
{
	enum { COUNT = 1000 };
	struct side a;
	struct side b;
	struct side *sides[] = {&a, &b};
	struct waiter *w = calloc(COUNT, sizeof(*w));
	struct wire_io *io = calloc(COUNT, sizeof(*io));
	uint8_t *data = malloc(MIB);
	uint8_t *in = malloc((size_t)COUNT * 65536);

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	fill(data, MIB, 1);
	for (unsigned i = 0; i < COUNT; i++) {
		uint32_t size = i % 3 == 0 ? 512 : i % 3 == 1 ? 4096 : 65536;
		set_io(&w[i], i % 2 ? OP_READ : OP_WRITE, &io[i], i * (uint64_t)MIB, size);
		if (i % 2) {
			w[i].call.reply_data = in + (size_t)i * 65536;
			w[i].call.reply_data_max = size;
		} else {
			w[i].call.data = data;
			w[i].call.data_size = size;
		}
		call(&a, 2, &w[i], 20000);
	}
	cr_assert(wait_all(w, COUNT, sides, 2, 25000));
	for (unsigned i = 0; i < COUNT; i++) {
		uint32_t size = le32_get(io[i].length);
		cr_assert_eq(w[i].status, 0, "call %u: %d", i, w[i].status);
		if (i % 2 == 0) {
			cr_assert_eq(le64_get(w[i].io.offset), crc32c(data, size));
			continue;
		}
		uint8_t *expect = malloc(size);
		fill(expect, size, i * (uint64_t)MIB);
		cr_assert_eq(memcmp(expect, w[i].call.reply_data, size), 0);
		free(expect);
	}
	rpc_free(a.rpc);
	rpc_free(b.rpc);
	free(w);
	free(io);
	free(data);
	free(in);
}
BOTH(many_at_once)

static void overload_is_refused(const char *provider)
{
	enum { COUNT = RPC_REQUESTS_MAX + 100 };
	struct side *a = calloc(2, sizeof(*a));
	struct side *b = a + 1;
	struct side *sides[] = {a, b};
	struct waiter *w = calloc(COUNT, sizeof(*w));
	unsigned refused = 0;

	side_open(a, provider, 1);
	side_open(b, provider, 2);
	introduce(a, b);
	b->hold = true;
	for (unsigned i = 0; i < COUNT; i++) {
		w[i].call.op = OP_PING;
		call(a, 2, &w[i], 20000);
	}
	while (refused < 100) {
		spin_ms(sides, 2, 1);
		refused = 0;
		for (unsigned i = 0; i < COUNT; i++)
			refused += w[i].is_done && w[i].status == -EAGAIN;
	}
	cr_assert_eq(b->held_count, RPC_REQUESTS_MAX);
	for (unsigned i = 0; i < b->held_count; i++)
		answer(b->held[i]);
	b->hold = false;
	cr_assert(wait_all(w, COUNT, sides, 2, 20000));
	ping(a, b, 64);
	rpc_free(a->rpc);
	rpc_free(b->rpc);
	free(a);
	free(w);
}
BOTH(overload_is_refused)

static void deadlines(const char *provider)
{
	struct side a;
	struct side b;
	struct side *sides[] = {&a, &b};
	struct waiter w[3] = {0};
	struct wire_io io;
	uint8_t *in = calloc(1, MIB);
	uint8_t *zero = calloc(1, MIB);

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	ping(&a, &b, 64);
	b.hold = true;
	w[0].call.op = OP_PING;
	call(&a, 2, &w[0], 50);
	set_io(&w[1], OP_READ, &io, 0, MIB);
	w[1].call.reply_data = in;
	w[1].call.reply_data_max = MIB;
	call(&a, 2, &w[1], 50);
	w[2].call.op = OP_PING;
	call(&a, 77, &w[2], 50); /* never heard of */
	cr_assert_not(w[2].is_done, "done only from poll");
	uint64_t before = env_now_us(env_real());
	cr_assert(wait_all(w, 3, sides, 2, 1000));
	cr_assert_leq(env_now_us(env_real()) - before, 200000);
	cr_assert_eq(w[0].status, -ETIMEDOUT);
	cr_assert_eq(w[1].status, -ETIMEDOUT);
	cr_assert_eq(w[2].status, -EIO);
	cr_assert_eq(b.held_count, 2);
	answer(b.held[0]);
	answer(b.held[1]);
	b.hold = false;
	spin_ms(sides, 2, 200);
	cr_assert_eq(memcmp(in, zero, MIB), 0, "written after the deadline");
	for (int i = 0; i < 3; i++) {
		ping(&a, &b, 64);
		transfer(&a, &b, MIB);
	}
	rpc_free(a.rpc);
	rpc_free(b.rpc);
	free(in);
	free(zero);
}
BOTH(deadlines)

static void nobody_there(const char *provider)
{
	struct side a;
	struct side *sides[] = {&a};
	struct waiter w = {.call.op = OP_PING};
	uint16_t port = free_port();

	side_open(&a, provider, 1);
	cr_assert_eq(rpc_peer_set(a.rpc, 2, "127.0.0.1", port), 0);
	call(&a, 2, &w, 300);
	cr_assert(wait_all(&w, 1, sides, 1, 1000));
	cr_assert(w.status == -ETIMEDOUT || w.status == -EIO);
	/* It comes up: the same peer answers now. */
	struct side b = {.port = port};
	cr_assert_eq(side_try(&b, provider, 2, CLUSTER), 0);
	introduce(&a, &b);
	ping(&a, &b, 64);
	rpc_free(b.rpc);
	rpc_free(a.rpc);
}
BOTH(nobody_there)

/* --- a server in a process of its own ------------------------------------------------- */

static void server_main(const char *provider, uint16_t port, uint16_t caller_port)
{
	struct side s = {.port = port};
	uint64_t next_us;

	if (side_try(&s, provider, 2, CLUSTER) ||
		rpc_peer_set(s.rpc, 1, "127.0.0.1", caller_port))
		_exit(1);
	for (;;) {
		struct pollfd p = {.fd = rpc_wait_fd(s.rpc), .events = POLLIN};
		rpc_poll(s.rpc, &next_us);
		if (rpc_may_sleep(s.rpc))
			poll(&p, 1, (int)((next_us + 999) / 1000));
	}
}

/* Forks servers on demand; itself forked before this process had any endpoint. */
static pid_t launcher_fork(const char *provider, uint16_t port, uint16_t caller_port,
	int *control_out)
{
	int fds[2];
	pid_t pid;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pid = fork();
	if (pid == 0) {
		char byte;
		close(fds[0]);
		while (read(fds[1], &byte, 1) == 1) {
			pid_t server = fork();
			if (server == 0)
				server_main(provider, port, caller_port);
			if (write(fds[1], &server, sizeof(server)) != sizeof(server))
				_exit(1);
			waitpid(server, NULL, 0);
			if (write(fds[1], &server, sizeof(server)) != sizeof(server))
				_exit(1);
		}
		_exit(0);
	}
	close(fds[1]);
	*control_out = fds[0];
	return pid;
}

static pid_t launcher_start(int control)
{
	pid_t server;

	cr_assert_eq(write(control, "s", 1), 1);
	cr_assert_eq(read(control, &server, sizeof(server)), (ssize_t)sizeof(server));
	return server;
}

static void launcher_kill(int control, pid_t server)
{
	pid_t gone;

	kill(server, SIGKILL);
	cr_assert_eq(read(control, &gone, sizeof(gone)), (ssize_t)sizeof(gone));
}

static int ping_status(struct side *a, uint32_t timeout_ms)
{
	struct side *sides[] = {a};
	struct waiter w = {.call.op = OP_PING};

	call(a, 2, &w, timeout_ms);
	cr_assert(wait_all(&w, 1, sides, 1, timeout_ms + 500), "no end within the timeout");
	return w.status;
}

static void killed_and_restarted(const char *provider)
{
	struct side a = {.port = free_port()};
	uint16_t port = free_port();
	struct side *sides[] = {&a};
	struct waiter *w = calloc(64, sizeof(*w));
	struct wire_io *io = calloc(64, sizeof(*io));
	uint8_t *in = malloc(64 * (size_t)MIB);
	int control;
	pid_t launcher = launcher_fork(provider, port, a.port, &control);

	cr_assert_eq(side_try(&a, provider, 1, CLUSTER), 0);
	cr_assert_eq(rpc_peer_set(a.rpc, 2, "127.0.0.1", port), 0);
	for (int round = 0; round < 3; round++) {
		pid_t server = launcher_start(control);
		uint64_t before = env_now_us(env_real());
		cr_assert_eq(ping_status(&a, 3000), 0, "round %d", round);
		cr_log_info("up after %lu us",
			(unsigned long)(env_now_us(env_real()) - before));
		for (int i = 0; i < 64; i++) {
			set_io(&w[i], OP_READ, &io[i], (uint64_t)i * MIB, MIB);
			w[i].call.reply_data = in + (size_t)i * MIB;
			w[i].call.reply_data_max = MIB;
			call(&a, 2, &w[i], 1000);
		}
		spin_ms(sides, 1, 2);
		launcher_kill(control, server);
		cr_assert(wait_all(w, 64, sides, 1, 1500), "round %d", round);
		for (int i = 0; i < 64; i++)
			cr_assert(w[i].status == 0 || w[i].status == -EIO ||
				w[i].status == -ETIMEDOUT);
		int rc = ping_status(&a, 200);
		cr_assert(rc == -ETIMEDOUT || rc == -EIO, "%d", rc);
	}
	rpc_free(a.rpc);
	close(control);
	waitpid(launcher, NULL, 0);
	free(w);
	free(io);
	free(in);
}
BOTH(killed_and_restarted)

/* A server that stops mid-way and goes on after the callers have given up. */
static void stopped_and_continued(const char *provider)
{
	struct side a = {.port = free_port()};
	uint16_t port = free_port();
	struct side *sides[] = {&a};
	struct waiter *w = calloc(16, sizeof(*w));
	struct wire_io *io = calloc(16, sizeof(*io));
	uint8_t *in = malloc(16 * (size_t)MIB);
	int control;
	pid_t launcher = launcher_fork(provider, port, a.port, &control);
	pid_t server;

	cr_assert_eq(side_try(&a, provider, 1, CLUSTER), 0);
	cr_assert_eq(rpc_peer_set(a.rpc, 2, "127.0.0.1", port), 0);
	server = launcher_start(control);
	cr_assert_eq(ping_status(&a, 3000), 0);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 16; i++) {
			set_io(&w[i], OP_READ, &io[i], (uint64_t)i * MIB, MIB);
			w[i].call.reply_data = in + (size_t)i * MIB;
			w[i].call.reply_data_max = MIB;
			call(&a, 2, &w[i], 100);
		}
		spin_ms(sides, 1, (uint64_t)round);
		kill(server, SIGSTOP);
		cr_assert(wait_all(w, 16, sides, 1, 500));
		memset(in, 0xee, 16 * (size_t)MIB);
		kill(server, SIGCONT);
		spin_ms(sides, 1, 100);
		for (size_t i = 0; i < 16 * (size_t)MIB; i++)
			cr_assert_eq(in[i], 0xee, "memory given back was written");
		int rc = 0;
		for (int i = 0; i < 10 && (rc = ping_status(&a, 300)) != 0; i++)
			;
		cr_assert_eq(rc, 0, "round %d: %d", round, rc);
	}
	launcher_kill(control, server);
	rpc_free(a.rpc);
	close(control);
	waitpid(launcher, NULL, 0);
	free(w);
	free(io);
	free(in);
}
BOTH(stopped_and_continued)

/* --- hostile bytes -------------------------------------------------------------------- */

static int raw_connect(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EINPROGRESS);
	return fd;
}

static void garbage_on_the_port(const char *provider)
{
	struct side a;
	struct side b;
	struct side *sides[] = {&a, &b};
	uint8_t *bytes = malloc(MIB);
	int fds[40];

	signal(SIGPIPE, SIG_IGN);
	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	ping(&a, &b, 64);
	for (int i = 0; i < 40; i++) {
		size_t want = i < 10 ? 0 : i < 20 ? (size_t)i - 9 : i < 30 ? 4096 : MIB;
		fds[i] = raw_connect(b.port);
		fill(bytes, MIB, (uint64_t)i);
		spin_ms(sides, 2, 1);
		for (int k = 0; k < 4 && want; k++) {
			send(fds[i], bytes, want, MSG_DONTWAIT | MSG_NOSIGNAL);
			spin_ms(sides, 2, 1);
		}
		if (i % 2)
			close(fds[i]);
		ping(&a, &b, 64);
	}
	transfer(&a, &b, MIB);
	transfer(&b, &a, MIB);
	/* Newcomers still get in, with the half-open connections still there. */
	struct side c;
	side_open(&c, provider, 3);
	introduce(&c, &b);
	ping(&c, &b, 64);
	for (int i = 0; i < 40; i += 2)
		close(fds[i]);
	spin_ms(sides, 2, 20);
	ping(&a, &b, 64);
	rpc_free(a.rpc);
	rpc_free(b.rpc);
	rpc_free(c.rpc);
	free(bytes);
}
BOTH(garbage_on_the_port)

static void stranger(const char *provider)
{
	struct side b;
	struct side s = {.port = free_port()};
	struct side *sides[] = {&b, &s};
	struct waiter w = {.call.op = OP_PING};

	side_open(&b, provider, 2);
	cr_assert_eq(side_try(&s, provider, 1, CLUSTER + 1), 0);
	introduce(&s, &b);
	call(&s, 2, &w, 100);
	cr_assert(wait_all(&w, 1, sides, 2, 500));
	cr_assert(w.status == -ETIMEDOUT);
	cr_assert_eq(rpc_stats(b.rpc)->bad_messages, 1);
	rpc_free(s.rpc);

	struct side u;
	side_open(&u, provider, 9);
	cr_assert_eq(rpc_peer_set(u.rpc, 2, "127.0.0.1", b.port), 0);
	sides[1] = &u;
	call(&u, 2, &w, 100);
	cr_assert(wait_all(&w, 1, sides, 2, 500));
	cr_assert_eq(rpc_stats(b.rpc)->unknown_senders, 1);
	rpc_free(u.rpc);
	rpc_free(b.rpc);
}
BOTH(stranger)

static void raw_done(struct fabric_op *op, int status, size_t size_bytes)
{
	(void)status;
	(void)size_bytes;
	op->provider[0] = op; /* marks it free again */
}

/* Messages mutated from good ones, with a right crc, from a raw endpoint. */
static void mutated_messages(const char *provider)
{
	enum { ROUNDS = 3000 };
	struct side a;
	struct side b;
	struct side *sides[] = {&a, &b};
	struct fabric *f;
	struct sockaddr_in addr;
	struct env_sim sim;
	fabric_peer to;
	uint8_t bytes[2048];

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	env_sim_init(&sim, 4711);
	cr_assert_eq(fabric_open(env_real(), provider, "127.0.0.1", free_port(), &f), 0);
	cr_assert_eq(fabric_resolve("127.0.0.1", b.port, &addr), 0);
	cr_assert_eq(fabric_peer_insert(f, &addr, &to), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct fabric_op op = {.done = raw_done};
		struct wire_head h = {.magic = le32_put(WIRE_MAGIC),
			.version = WIRE_VERSION,
			.kind = i % 2 ? WIRE_REPLY : WIRE_REQUEST,
			.op = le16_put((uint16_t)(env_random(&sim.env) % (OP_MAX + 1))),
			.cluster = le64_put(CLUSTER),
			.timeout_ms = le32_put(10),
			.sender = le32_put(1),
			.uid = le32_put(1000),
			.gid = le32_put(100),
			.group_count = le16_put(i % 2 ? 0 : 3)};
		const uint32_t groups[3] = {5, 6, 7};
		uint32_t body = (uint32_t)(env_random(&sim.env) % 300);
		size_t size = sizeof(h) + (i % 2 ? 0 : sizeof(groups)) + body;
		fill(bytes, sizeof(bytes), (uint64_t)i);
		if (i % 4 == 0)
			memset(bytes + sizeof(h), 0, 512);
		h.body_size = le32_put(body);
		memcpy(bytes, &h, sizeof(h));
		memcpy(bytes + sizeof(h), groups, i % 2 ? 0 : sizeof(groups));
		for (uint64_t k = env_random(&sim.env) % 3; k > 0; k--)
			bytes[16 + env_random(&sim.env) % (60 - 16)] ^=
				(uint8_t)(1u << env_random(&sim.env) % 8);
		if (i % 3)
			wire_message_seal(bytes, size);
		while (fabric_send(f, &op, to, bytes, size, NULL) != 0) {
			fabric_poll(f, 1);
			spin_ms(sides, 2, 0);
			rpc_poll(b.rpc, NULL);
		}
		while (op.provider[0] != &op) {
			fabric_poll(f, 8);
			rpc_poll(b.rpc, NULL);
			rpc_poll(a.rpc, NULL);
		}
	}
	cr_assert_gt(rpc_stats(b.rpc)->bad_messages, ROUNDS / 2);
	ping(&a, &b, 64);
	transfer(&a, &b, MIB);
	fabric_close(f);
	rpc_free(a.rpc);
	rpc_free(b.rpc);
}
BOTH(mutated_messages)

/* --- manners -------------------------------------------------------------------------- */

static uint64_t cpu_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
		(uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void idle_is_quiet(const char *provider)
{
	struct side a;
	struct side b;
	struct side *sides[] = {&a, &b};
	uint64_t until;
	uint64_t before;

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	ping(&a, &b, 64);
	transfer(&a, &b, MIB);
	before = cpu_us();
	until = env_now_us(env_real()) + 2000000;
	while (env_now_us(env_real()) < until) {
		struct pollfd p[2];
		uint64_t next_us = 100000;
		bool may_sleep = true;
		for (int i = 0; i < 2; i++) {
			uint64_t n;
			p[i] = (struct pollfd){
				.fd = rpc_wait_fd(sides[i]->rpc), .events = POLLIN};
			rpc_poll(sides[i]->rpc, &n);
			may_sleep = rpc_may_sleep(sides[i]->rpc) && may_sleep;
			next_us = n < next_us ? n : next_us;
		}
		if (may_sleep)
			poll(p, 2, (int)((next_us + 999) / 1000));
	}
	cr_assert_lt(cpu_us() - before, 20000, "%lu us", (unsigned long)(cpu_us() - before));
	rpc_free(a.rpc);
	rpc_free(b.rpc);
}
BOTH(idle_is_quiet)

static void process_is_left_alone(const char *provider)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGSEGV, SIGBUS, SIGABRT, SIGILL};
	struct sigaction before[6];
	struct sigaction after;
	bool is_old[64];
	struct side a;

	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_DFL);
	for (int i = 0; i < 6; i++)
		sigaction(signals[i], NULL, &before[i]);
	for (int fd = 0; fd < 64; fd++)
		is_old[fd] = fcntl(fd, F_GETFD) >= 0;
	side_open(&a, provider, 1);
	for (int i = 0; i < 2; i++) {
		sigaction(signals[i], NULL, &after);
		cr_assert_eq(after.sa_handler, before[i].sa_handler);
	}
	for (int fd = 0; fd < 64; fd++) {
		int flags = fcntl(fd, F_GETFD);
		cr_assert(is_old[fd] || flags < 0 || (flags & FD_CLOEXEC), "fd %d is inherited", fd);
	}
	struct side b = {.port = a.port};
	cr_assert_eq(side_try(&b, provider, 2, CLUSTER), -EADDRINUSE);
	cr_assert_eq(rpc_peer_set(a.rpc, RPC_PEERS_MAX, "127.0.0.1", 1), -EINVAL);
	cr_assert_eq(rpc_peer_set(a.rpc, 1, "no such host", 1), -EINVAL);
	cr_assert_eq(rpc_peer_set(a.rpc, 1, "127.0.0.1", 0), -EINVAL);
	rpc_free(a.rpc);
	cr_assert_eq(mem_live_count(), 0);
}
BOTH(process_is_left_alone)

Test(rpc, no_such_provider)
{
	struct side a = {.port = free_port()};

	cr_assert_eq(side_try(&a, "carrier-pigeon", 1, CLUSTER), -ENODEV);
	cr_assert_eq(mem_live_count(), 0);
}

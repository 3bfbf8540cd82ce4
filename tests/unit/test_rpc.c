/* RPC over the real providers: several endpoints in one process, driven by turns. */
#define SUITE_NET rpc_net
#define SUITE_RXM rpc_rxm
#include "tests/unit/rpc_sides.h"

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

static void fills_are_told(const char *provider)
{
	struct side a;
	struct side b;

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	rpc_fill_set(b.rpc, 1234567890);
	cr_assert_eq(rpc_peer_fill(a.rpc, 2), 0);
	cr_assert_eq(rpc_peer_fill(a.rpc, 3), 0, "nobody");
	ping(&a, &b, 8);
	cr_assert_eq(rpc_peer_fill(a.rpc, 2), 1234567890);
	cr_assert_eq(rpc_peer_fill(b.rpc, 1), 0, "requests tell nothing");
	rpc_fill_set(b.rpc, 7);
	ping(&a, &b, 8);
	cr_assert_eq(rpc_peer_fill(a.rpc, 2), 7);
	rpc_free(a.rpc);
	rpc_free(b.rpc);
}
BOTH(fills_are_told)

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
		set_io(&w[i], i % 2 ? OP_READ : OP_WRITE, &io[i], i * (uint64_t)MIB,
			size);
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

/* What the server fetches is what was sent, or the call fails and nothing is handled. */
static void damaged_data_is_refused(const char *provider)
{
	struct side a;
	struct side b;
	struct side *sides[] = {&a, &b};
	struct waiter w = {0};
	struct wire_io io;
	uint8_t *data = malloc(MIB);

	side_open(&a, provider, 1);
	side_open(&b, provider, 2);
	introduce(&a, &b);
	fill(data, MIB, 1);
	set_io(&w, OP_WRITE, &io, 0, MIB);
	w.call.data = data;
	w.call.data_size = MIB;
	b.hold = true;
	call(&a, 2, &w, 20000);
	data[MIB - 1] ^= 1; /* on its way */
	cr_assert(wait_all(&w, 1, sides, 2, 20000));
	cr_assert_eq(w.status, -ECONNRESET);
	cr_assert_eq(b.held_count, 0);
	cr_assert_eq(rpc_stats(b.rpc)->bad_data, 1);
	rpc_free(a.rpc);
	rpc_free(b.rpc);
	free(data);
}
BOTH(damaged_data_is_refused)

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
	cr_assert_eq(w[2].status, -ECONNRESET);
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
	call(&a, 2, &w, 100);
	cr_assert(wait_all(&w, 1, sides, 1, 1000));
	cr_assert_eq(w.status, -ETIMEDOUT);
	call(&a, 2, &w, 2000);
	cr_assert(wait_all(&w, 1, sides, 1, 1000));
	cr_assert_eq(w.status, -ECONNRESET);
	/* It comes up: the same peer answers now. */
	struct side b = {.port = port};
	cr_assert_eq(side_try(&b, provider, 2, CLUSTER), 0);
	introduce(&a, &b);
	ping(&a, &b, 64);
	rpc_free(b.rpc);
	rpc_free(a.rpc);
}
BOTH(nobody_there)

/* --- manners --------------------------------------------------------------------------
 */

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
	cr_assert_lt(
		cpu_us() - before, 20000, "%lu us", (unsigned long)(cpu_us() - before));
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
		cr_assert(is_old[fd] || flags < 0 || (flags & FD_CLOEXEC),
			"fd %d is inherited", fd);
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

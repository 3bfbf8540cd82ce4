/*
 * RPC against peers that die, stop, or are hostile. Servers to be killed live in
 * processes of their own.
 */
#define SUITE_NET rpc_faults_net
#define SUITE_RXM rpc_faults_rxm
#include "tests/unit/rpc_sides.h"

#include <sys/prctl.h>

/* --- a server in a process of its own -------------------------------------------------
 */

static void server_main(const char *provider, uint16_t port, uint16_t caller_port)
{
	struct side s = {.port = port};
	uint64_t next_us;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
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
static pid_t launcher_fork(
	const char *provider, uint16_t port, uint16_t caller_port, int *control_out)
{
	int fds[2];
	pid_t pid;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pid = fork();
	if (pid == 0) {
		char byte;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
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
	cr_assert(
		wait_all(&w, 1, sides, 1, timeout_ms + 500), "no end within the timeout");
	return w.status;
}

/* A server that has only just been started refuses at first. */
static void wait_until_up(struct side *a)
{
	uint64_t before = env_now_us(env_real());

	while (ping_status(a, 1000) != 0)
		cr_assert_lt(env_now_us(env_real()) - before, 3000000);
	cr_log_info("up after %lu us", (unsigned long)(env_now_us(env_real()) - before));
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
		uint64_t before;
		wait_until_up(&a);
		for (int i = 0; i < 64; i++) {
			set_io(&w[i], OP_READ, &io[i], (uint64_t)i * MIB, MIB);
			w[i].call.reply_data = in + (size_t)i * MIB;
			w[i].call.reply_data_max = MIB;
			call(&a, 2, &w[i], 4000);
		}
		spin_ms(sides, 1, 2);
		launcher_kill(control, server);
		cr_assert(wait_all(w, 64, sides, 1, 1500), "round %d", round);
		for (int i = 0; i < 64; i++)
			cr_assert(w[i].status == 0 || w[i].status == -ECONNRESET ||
				  w[i].status == -ETIMEDOUT);
		/* Refused, well before the deadline. */
		before = env_now_us(env_real());
		cr_assert_eq(ping_status(&a, 4000), -ECONNRESET);
		cr_assert_lt(env_now_us(env_real()) - before, 1000000);
		int rc = ping_status(&a, 100);
		cr_assert(rc == -ETIMEDOUT || rc == -ECONNRESET, "%d", rc);
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
	wait_until_up(&a);
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

/* --- hostile bytes --------------------------------------------------------------------
 */

static int raw_connect(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 ||
		  errno == EINPROGRESS);
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

/*
 * Riding through a restart of wfsd: calls under way, calls begun meanwhile, what is open,
 * and the end of patience. The first server takes a request and never answers; then
 * another listens on the same path.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/unit/test_client_server.h"

TestSuite(ride, .init = up, .fini = down, .timeout = 60);

#define GONE_MS 150

static uint64_t now_us(void)
{
	return env_now_us(env_real());
}

/* The server goes and another comes; the file stays. */
static struct server *gone;

static void server_go(void)
{
	gone = server;
	atomic_store(&gone->stop, true);
	pthread_join(gone->thread, NULL);
}

static void server_come(void)
{
	server = server_start_after(gone, TIMEOUT_MS);
	cr_assert_eq(server->rc, 0, "server again: %d", server->rc);
}

static void gone_free(void)
{
	map_free(gone->map);
	free(gone);
	gone = NULL;
}

static void restart(void)
{
	server_go();
	server_come();
	gone_free();
}

struct job {
	pthread_t thread;
	long (*run)(void);
	long result;
};

static void *job_main(void *arg)
{
	struct job *job = arg;

	job->result = job->run();
	return NULL;
}

/* Begin a call that the server takes and does not answer; restart under it. */
static long across_restart(long (*run)(void))
{
	struct job job = {.run = run};
	uint32_t before = atomic_load(&server->requests);
	struct seen first, again;

	atomic_store(&server->mute, true);
	pthread_create(&job.thread, NULL, job_main, &job);
	cr_assert(eventually(&server->requests, before + 1));
	first = server->seen[atomic_load(&server->seen_count) - 1];
	server_go();
	poll(NULL, 0, GONE_MS);
	server_come();
	pthread_join(job.thread, NULL);
	again = server->seen[0];
	for (uint32_t i = 0; i < atomic_load(&server->seen_count); i++)
		if (server->seen[i].op == first.op) {
			again = server->seen[i];
			break;
		}
	cr_expect_eq(again.op, first.op);
	cr_expect_eq(again.session, first.session);
	cr_expect_eq(again.slot, first.slot);
	cr_expect_eq(again.seq, first.seq);
	gone_free();
	return job.result;
}

static char bytes[300000], got[300000];
static struct client_file file = {.ino = FILE_INO, .generation = 1};

static void bytes_fill(unsigned seed)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 31 + i / 251 + seed);
}

static long run_read(void)
{
	return client_read(client, &file, got, sizeof(got), 0);
}

static long run_write(void)
{
	return client_write(client, &file, bytes, sizeof(bytes), 1000);
}

static long run_append(void)
{
	uint64_t end;

	return client_append(client, &file, bytes, 5000, &end);
}

static long run_rename(void)
{
	struct where from = {.start = DIR_INO, .path = "a"};
	struct where to = {.start = DIR_INO, .path = "b"};

	return client_rename(client, &from, &to, 0);
}

static long run_ping(void)
{
	return ping(client, 0);
}

Test(ride, a_read_under_way)
{
	bytes_fill(1);
	memcpy(server->data, bytes, sizeof(bytes));
	server->size = sizeof(bytes);
	cr_expect_eq(across_restart(run_read), (long)sizeof(bytes));
	cr_expect_arr_eq(got, bytes, sizeof(bytes));
}

Test(ride, a_write_under_way)
{
	bytes_fill(2);
	cr_expect_eq(across_restart(run_write), (long)sizeof(bytes));
	cr_expect_eq(server->size, 1000 + sizeof(bytes));
	cr_expect_arr_eq(server->data + 1000, bytes, sizeof(bytes));
}

Test(ride, an_append_under_way)
{
	bytes_fill(3);
	server->size = 77;
	cr_expect_eq(across_restart(run_append), 5000);
	cr_expect_eq(server->size, 5077);
	cr_expect_arr_eq(server->data + 77, bytes, 5000);
}

Test(ride, a_rename_under_way)
{
	cr_expect_eq(across_restart(run_rename), 0);
}

Test(ride, seq_goes_on)
{
	struct seen last;

	cr_expect_eq(across_restart(run_ping), 0);
	last = server->seen[atomic_load(&server->seen_count) - 1];
	for (int i = 0; i < 10; i++) {
		struct seen now;

		cr_expect_eq(ping(client, 0), 0);
		now = server->seen[atomic_load(&server->seen_count) - 1];
		cr_expect(now.slot != last.slot || now.seq > last.seq);
		cr_expect_eq(now.session, last.session);
		last = now;
	}
}

/* More restarts than there are memories. */
Test(ride, again_and_again)
{
	for (int i = 0; i < 12; i++) {
		cr_expect_eq(across_restart(run_ping), 0);
		cr_expect_eq(ping(client, DELAY_BUCKET), 0);
	}
}

/* A call that begins while there is no wfsd; and its descriptors keep their numbers. */
Test(ride, a_call_begun_meanwhile)
{
	struct job job = {.run = run_ping};
	int socket, event, socket_after, event_after;

	cr_expect_eq(client_move_fds(client, 500), 0);
	client_fds(client, &socket, &event);
	server_go();
	pthread_create(&job.thread, NULL, job_main, &job);
	poll(NULL, 0, GONE_MS);
	server_come();
	pthread_join(job.thread, NULL);
	cr_expect_eq(job.result, 0);
	client_fds(client, &socket_after, &event_after);
	cr_expect_eq(socket_after, socket);
	cr_expect_eq(event_after, event);
	/* The server sleeps meanwhile: the eventfd is the new one. */
	poll(NULL, 0, 50);
	cr_expect_eq(ping(client, 0), 0);
	gone_free();
}

Test(ride, what_is_open_is_said_again)
{
	struct where w = {.start = WFS_ROOT_INO, .path = "file"};
	struct client_file files[3];

	for (int i = 0; i < 3; i++)
		cr_expect_eq(client_open(client, &w, O_RDWR, 0, &files[i], NULL), 0);
	client_close(client, &files[1]);
	restart();
	cr_expect_eq(client_fsync(client, &files[0]), 0);
	cr_expect(eventually(&server->reopens, 2));
	client_close(client, &files[0]);
	client_close(client, &files[2]);
	cr_expect(eventually(&server->closes, 2));
	restart();
	cr_expect_eq(ping(client, 0), 0);
	cr_expect_eq(atomic_load(&server->reopens), 0);
}

/* What was open many times over, among much else. */
Test(ride, many_opens)
{
	struct where w = {.start = WFS_ROOT_INO, .path = "file"};
	struct where moved = {.start = WFS_ROOT_INO, .path = "moved"};
	struct client_file f;

	for (int i = 0; i < 600; i++)
		cr_assert_eq(client_open(client, i % 3 ? &w : &moved, O_RDWR, 0, &f, NULL), 0);
	restart();
	cr_expect_eq(ping(client, 0), 0);
	cr_expect(eventually(&server->reopens, 600));
	/* Two files: two requests. */
	cr_expect_leq(atomic_load(&server->seen_count), 4);
}

Test(ride, patience_has_an_end)
{
	struct job job = {.run = run_ping};
	uint64_t start;

	server_go();
	pthread_create(&job.thread, NULL, job_main, &job);
	start = now_us();
	cr_expect_eq(ping(client, 0), -ENOTCONN);
	cr_expect_geq(now_us() - start, TIMEOUT_MS * 1000u);
	cr_expect_lt(now_us() - start, TIMEOUT_MS * 1000u + 1000000);
	pthread_join(job.thread, NULL);
	cr_expect_eq(job.result, -ENOTCONN);
	start = now_us();
	cr_expect_eq(ping(client, 0), -ENOTCONN);
	cr_expect_lt(now_us() - start, 100000);
	server_come();
	gone_free();
}

/* A daemon's client: it fails in time, and is well again when wfsd is. */
Test(ride, persistent)
{
	struct client_file open_file;
	struct where w = {.start = client_root(client), .path = "file"};
	uint64_t start;

	client_persist(client);
	cr_assert_eq(client_open(client, &w, O_RDONLY, 0, &open_file, NULL), 0);
	server_go();
	start = now_us();
	cr_expect_eq(ping(client, 0), -ENOTCONN);
	cr_expect_geq(now_us() - start, TIMEOUT_MS * 1000u);
	start = now_us();
	for (int i = 0; i < 3 * (int)SHM_SLOT_COUNT; i++)
		cr_expect_eq(ping(client, 0), -ENOTCONN);
	cr_expect_lt(now_us() - start, 1000000);
	cr_expect(!client_is_dead(client));
	server_come();
	gone_free();
	cr_expect_eq(ping(client, 0), 0);
	cr_expect_eq(ping(client, 0), 0);
	cr_expect(eventually(&server->reopens, 1));
}

/* --- many at once ------------------------------------------------------------------- */

static _Atomic bool workers_stop;
static _Atomic uint32_t worker_errors, worker_calls, short_reads, wrong_reads;
static uint8_t *data;

static void *worker_main(void *arg)
{
	uint16_t bucket = (uint16_t)((uintptr_t)arg % 3);

	while (!atomic_load(&workers_stop)) {
		if (ping(client, bucket))
			atomic_fetch_add(&worker_errors, 1);
		atomic_fetch_add(&worker_calls, 1);
	}
	return NULL;
}

static void *reader_main(void *arg)
{
	static char room[2][8u << 20];
	char *to = room[(uintptr_t)arg];
	struct client_file f = {.ino = FILE_INO, .generation = 1};

	while (!atomic_load(&workers_stop)) {
		memset(to, 0x55, 100);
		if (client_read(client, &f, to, sizeof(room[0]), 0) !=
			(ssize_t)sizeof(room[0]))
			atomic_fetch_add(&short_reads, 1);
		else if (memcmp(to, data, sizeof(room[0])))
			atomic_fetch_add(&wrong_reads, 1);
	}
	return NULL;
}

static void on_alarm(int signal)
{
	(void)signal;
	if (ping(client, 1))
		atomic_fetch_add(&worker_errors, 1);
}

Test(ride, threads_and_signal_handlers)
{
	pthread_t threads[24], readers[2];
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval every = {{0, 30000}, {0, 30000}}, never = {{0, 0}, {0, 0}};
	sigset_t alarm;

	for (size_t i = 0; i < DATA_SIZE; i++)
		server->data[i] = (uint8_t)(i * 7);
	server->size = DATA_SIZE;
	data = server->data;
	sigaction(SIGALRM, &action, NULL);
	for (uintptr_t i = 0; i < 24; i++)
		pthread_create(&threads[i], NULL, worker_main, (void *)i);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, reader_main, (void *)i);
	setitimer(ITIMER_REAL, &every, NULL);
	/* Not on this thread, which has the server to mind. */
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	for (int i = 0; i < 8; i++) {
		uint32_t before = atomic_load(&worker_calls);

		while (atomic_load(&worker_calls) < before + 500)
			poll(NULL, 0, 1);
		server_go();
		poll(NULL, 0, 20 * (i % 3));
		server_come();
		gone_free();
	}
	atomic_store(&workers_stop, true);
	for (int i = 0; i < 24; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	setitimer(ITIMER_REAL, &never, NULL);
	cr_expect_eq(worker_errors, 0, "%u calls failed", worker_errors);
	cr_expect_eq(short_reads, 0, "%u reads were short", short_reads);
	cr_expect_eq(wrong_reads, 0, "%u reads were wrong", wrong_reads);
}

/* --- who may ------------------------------------------------------------------------ */

/* Parent and child each have a session afterwards: the parent its own, the child a new. */
Test(ride, a_forked_child)
{
	int go[2], status;
	pid_t child;

	cr_assert_eq(pipe(go), 0);
	cr_expect_eq(ping(client, 0), 0);
	child = fork();
	if (child == 0) {
		char byte;

		if (read(go[0], &byte, 1) != 1 || ping(client, 0) != -ENOTCONN)
			_exit(1);
		client_forget(client);
		if (client_attach(gone ? gone->path : server->path, "", "/wfs", &client))
			_exit(2);
		_exit(ping(client, 0) ? 3 : 0);
	}
	cr_expect_eq(across_restart(run_ping), 0);
	cr_expect_eq(write(go[1], "x", 1), 1);
	waitpid(child, &status, 0);
	cr_expect_eq(status, 0);
	cr_expect_eq(ping(client, 0), 0);
	cr_expect(eventually(&server->sessions, 1));
}

static int hello_error(uint64_t session, uint64_t boot)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct shm_hello hello = {.magic = SHM_MAGIC, .version = SHM_VERSION,
		.session = session, .boot = boot};
	struct shm_welcome welcome = {0};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
		send(fd, &hello, sizeof(hello), 0) != (ssize_t)sizeof(hello) ||
		recv(fd, &welcome, sizeof(welcome), 0) != (ssize_t)sizeof(welcome))
		welcome.error = -1;
	close(fd);
	return welcome.error;
}

Test(ride, who_may_go_on)
{
	uint64_t session;

	cr_expect_eq(ping(client, 0), 0);
	session = server->seen[0].session;
	/* Somebody is attached to it. */
	cr_expect_eq(hello_error(session, 12345), EBUSY);
	cr_expect_eq(ping(client, 0), 0);
	/* Nobody is, and this wfsd did not throw it out. */
	cr_expect_eq(hello_error(session + 1, 12345), 0);
}

/* Whom a living wfsd has thrown out stays out, and is told at once. */
Test(ride, thrown_out)
{
	uint64_t start = now_us();
	int socket, event;

	client_fds(client, &socket, &event);
	cr_expect_eq(send(socket, "x", 1, 0), 1);
	cr_expect(eventually(&server->ended, 1));
	cr_expect_eq(ping(client, 0), -ENOTCONN);
	cr_expect_lt(now_us() - start, 1000000);
}

/*
 * The client library against a session server of its own: names, data, waiting, and death
 * on either side.
 */
#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "tests/unit/test_client_server.h"

TestSuite(client, .init = up, .fini = down, .timeout = 30);

static uint64_t now_us(void)
{
	return env_now_us(env_real());
}

/* --- names -------------------------------------------------------------------------- */

static char outside[WFS_PATH_MAX + 1];

static struct where at_root(const char *path)
{
	return (struct where){.start = WFS_ROOT_INO, .path = path, .outside = outside};
}

static int stat_of(const char *path, bool follow, ino_id *ino_out)
{
	struct where w = at_root(path);
	struct client_attr attr;
	int rc = client_stat(client, &w, follow, &attr);

	if (!rc)
		*ino_out = attr.ino;
	return rc;
}

Test(client, walks)
{
	static const struct {
		const char *path;
		bool follow;
		int rc;
		ino_id ino;
		const char *outside;
	} cases[] = {
		{"", true, 0, WFS_ROOT_INO, ""},
		{"/", true, 0, WFS_ROOT_INO, ""},
		{"file", true, 0, FILE_INO, ""},
		{"absent", true, -ENOENT, 0, ""},
		{"file/x", true, -ENOTDIR, 0, ""},
		{"moved", true, 0, MOVED_INO, ""},
		{"moved/", true, -ENOTDIR, 0, ""},
		{"d", true, 0, DIR_INO, ""},
		{"d/", true, 0, DIR_INO, ""},
		{"d/some", true, 0, FILE_INO, ""},
		{"link", true, 0, FILE_INO, ""},
		{"link/", true, -ENOTDIR, 0, ""},
		{"abs", true, 0, FILE_INO, ""},
		{"dirlink/some", true, 0, FILE_INO, ""},
		{"rootlink/d", true, 0, DIR_INO, ""},
		{"rootlink", true, 0, WFS_ROOT_INO, ""},
		{"renamed", true, 0, FILE_INO, ""},
		{"renamed", false, 0, RENAMED_INO, ""},
		{"loop", true, -ELOOP, 0, ""},
		{"loop", false, 0, FILE_INO, ""},
		{"out", true, -EXDEV, 0, "/etc"},
		{"out/hosts", false, -EXDEV, 0, "/etc/hosts"},
		{"../x", true, -EXDEV, 0, "//x"},
		{"..", true, -EXDEV, 0, "/"},
		{"../wfs/d", true, 0, DIR_INO, ""}, /* out, and in again */
		{"../wfs2/d", true, -EXDEV, 0, "//wfs2/d"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ino_id ino = 0;
		int rc;

		memset(outside, 'z', sizeof(outside));
		rc = stat_of(cases[i].path, cases[i].follow, &ino);
		cr_expect_eq(rc, cases[i].rc, "%s: rc %d", cases[i].path, rc);
		cr_expect_eq(ino, cases[i].ino, "%s: ino %lx", cases[i].path, (long)ino);
		cr_expect_str_eq(outside, cases[i].outside, "%s: %.20s", cases[i].path, outside);
	}
}

Test(client, stale_names_are_tried_again)
{
	ino_id ino;

	atomic_store(&server->stale_names, 3);
	cr_expect_eq(stat_of("stale", true, &ino), 0);
	atomic_store(&server->stale_names, 1000);
	cr_expect_eq(stat_of("stale", true, &ino), -ENOENT);
}

Test(client, long_names)
{
	char path[WFS_PATH_MAX + 2];
	struct where w = at_root(path);
	struct client_attr attr;

	memset(path, '/', sizeof(path));
	path[WFS_PATH_MAX - 1] = 0;
	cr_expect_eq(client_stat(client, &w, true, &attr), 0);
	path[WFS_PATH_MAX - 1] = '/';
	path[WFS_PATH_MAX] = 0;
	cr_expect_eq(client_stat(client, &w, true, &attr), -ENAMETOOLONG);
}

Test(client, last_names)
{
	struct where root = at_root("/"), dot = at_root("d/."), dotdot = at_root("d/..");
	struct where plain = at_root("d/name"), slash = at_root("d/name/");

	cr_expect_eq(client_rmdir(client, &root), -EBUSY);
	cr_expect_eq(client_rmdir(client, &dot), -EINVAL);
	cr_expect_eq(client_rmdir(client, &dotdot), -ENOTEMPTY);
	cr_expect_eq(client_unlink(client, &root), -EISDIR);
	cr_expect_eq(client_unlink(client, &dot), -EISDIR);
	cr_expect_eq(client_unlink(client, &dotdot), -EISDIR);
	cr_expect_eq(client_mkdir(client, &root, 0755, NULL), -EEXIST);
	cr_expect_eq(client_rename(client, &dot, &plain, 0), -EBUSY);
	cr_expect_eq(client_rename(client, &plain, &dotdot, 0), -EBUSY);
	cr_expect_eq(client_rename(client, &plain, &root, 0), -EBUSY);
	cr_expect_eq(client_rename(client, &slash, &plain, 0), -ENOTDIR);
	cr_expect_eq(client_rename(client, &plain, &slash, 0), -ENOTDIR);
	cr_expect_eq(client_rename(client, &plain, &plain, 0), 0);
	cr_expect_eq(atomic_load(&server->last_op), (uint32_t)OP_RENAME);
	cr_expect_eq(client_mkdir(client, &plain, 0755, NULL), 0);
	cr_expect_str_eq(server->last_name, "name");
	cr_expect_eq(client_symlink(client, "", &plain, NULL), -ENOENT);
	cr_expect_eq(client_link(client, &plain, false, &plain), 0);
}

Test(client, opens)
{
	struct where moved = at_root("moved"), renamed = at_root("renamed");
	struct where rootlink = at_root("rootlink");
	struct client_file f;

	cr_expect_eq(client_open(client, &moved, O_RDWR | O_CREAT | O_CLOEXEC, 0644, &f, NULL),
		0);
	cr_expect_eq(f.ino, MOVED_INO);
	cr_expect_eq(client_open(client, &renamed, O_RDWR, 0, &f, NULL), 0);
	cr_expect_eq(f.ino, FILE_INO);
	cr_expect_eq(client_open(client, &renamed, O_RDWR | O_NOFOLLOW, 0, &f, NULL), -ELOOP);
	cr_expect_eq(client_open(client, &rootlink, O_RDONLY | O_CREAT, 0, &f, NULL), -EISDIR);
	cr_expect_eq(client_reopen(client, FILE_INO, &f), 0);
	cr_expect_eq(atomic_load(&server->last_flags), (uint32_t)O_PATH);
	for (int i = 0; i < 100; i++)
		client_close(client, &f);
	cr_expect(eventually(&server->closes, 100));
}

Test(client, directories)
{
	uint64_t page[512];
	struct client_dirent e;
	char names[64] = "", path[64];
	struct client_statfs fs;
	size_t offset = 0;
	ssize_t size = client_readdir(client, WFS_ROOT_INO, 2, page, sizeof(page));

	cr_assert_gt(size, 0);
	while (client_dirent_next(page, (size_t)size, &offset, &e)) {
		strcat(names, e.name);
		strcat(names, " ");
		cr_expect_eq(strlen(e.name), e.name_size);
	}
	cr_expect_str_eq(names, "d file sevenen eightlet ");
	cr_expect_eq(offset, (size_t)size);
	cr_expect_eq(e.cookie, 6);
	cr_expect_eq(client_readdir(client, WFS_ROOT_INO, e.cookie, page, sizeof(page)), 0);

	cr_expect_eq(client_path_of(client, WFS_ROOT_INO, path, sizeof(path)), 0);
	cr_expect_str_eq(path, "/");
	cr_expect_eq(client_path_of(client, DIR_INO, path, sizeof(path)), 0);
	cr_expect_str_eq(path, "/d");
	cr_expect_eq(client_path_of(client, DIR_INO, path, 2), -ERANGE);

	cr_expect_eq(client_statfs(client, &fs), 0);
	cr_expect_eq(fs.size_bytes, 2000);
	cr_expect_eq(fs.inodes, 14);
}

/* --- data --------------------------------------------------------------------------- */

static struct client_file open_file(void)
{
	struct where w = at_root("file");
	struct client_file f;

	cr_assert_eq(client_open(client, &w, O_RDWR, 0, &f, NULL), 0);
	return f;
}

Test(client, data_of_all_lengths)
{
	static const struct {
		uint64_t offset;
		size_t size;
	} cases[] = {{0, 1}, {0, 4096}, {100, WFS_CHUNK_SIZE}, {WFS_CHUNK_SIZE - 1, 2},
		{5 * WFS_CHUNK_SIZE + 7, 3}, {3, 11 * WFS_CHUNK_SIZE}};
	uint8_t *out = malloc(DATA_SIZE), *in = malloc(DATA_SIZE);
	struct client_file f = open_file();
	uint64_t end = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = cases[i].size;
		uint64_t offset = cases[i].offset;

		for (size_t k = 0; k < size; k++)
			out[k] = (uint8_t)(k * 7 + i + (k >> 12));
		cr_expect_eq(client_write(client, &f, out, size, offset), (ssize_t)size);
		if (offset + size > end)
			end = offset + size;
		cr_expect_eq(server->size, end, "case %zu: %lu", i, (long)server->size);
		memset(in, 0xee, DATA_SIZE);
		cr_expect_eq(client_read(client, &f, in, size, offset), (ssize_t)size);
		cr_expect_arr_eq(in, out, size);
		/* Short at the end, nothing behind it. */
		cr_expect_eq(client_read(client, &f, in, DATA_SIZE, offset),
			(ssize_t)(end - offset));
		cr_expect_eq(client_read(client, &f, in, 10, end), 0);
		cr_expect_eq(client_read(client, &f, in, 10, end + 5 * WFS_CHUNK_SIZE), 0);
	}
	free(out);
	free(in);
}

Test(client, one_extend_per_write)
{
	uint8_t *out = calloc(1, DATA_SIZE);
	struct client_file f = open_file();

	cr_expect_eq(client_write(client, &f, out, 10, 0), 10);
	cr_expect_eq(atomic_load(&server->extends), 0);
	cr_expect_eq(client_write(client, &f, out, 6 * WFS_CHUNK_SIZE, 0),
		6 * (ssize_t)WFS_CHUNK_SIZE);
	cr_expect_eq(atomic_load(&server->extends), 1);
	cr_expect_eq(client_write(client, &f, out, 10, WFS_FILE_SIZE_MAX), -EFBIG);
	/* What did not fit does not count. */
	cr_expect_eq(client_write(client, &f, out, 4 * WFS_CHUNK_SIZE,
			DATA_SIZE - WFS_CHUNK_SIZE), (ssize_t)WFS_CHUNK_SIZE);
	free(out);
}

Test(client, truncated_meanwhile)
{
	uint8_t *out = malloc(3 * WFS_CHUNK_SIZE);
	struct client_file f = open_file();

	memset(out, 'x', 3 * WFS_CHUNK_SIZE);
	server->generation = 5;
	cr_expect_eq(client_write(client, &f, out, 3 * WFS_CHUNK_SIZE, 0),
		3 * (ssize_t)WFS_CHUNK_SIZE);
	cr_expect_eq(atomic_load(&f.generation), 5);
	atomic_store(&server->stale_writes, 2);
	cr_expect_eq(client_write(client, &f, out, 3 * WFS_CHUNK_SIZE, 1),
		3 * (ssize_t)WFS_CHUNK_SIZE);
	cr_expect_eq(server->size, 3 * WFS_CHUNK_SIZE + 1);
	free(out);
}

/* Whose requests a read makes. */
static uint32_t read_requests(struct client_file *f, uint64_t offset, size_t size,
	ssize_t want)
{
	uint8_t *in = malloc(size);
	uint32_t before = atomic_load(&server->requests);
	ssize_t n = client_read(client, f, in, size, offset);

	cr_expect_eq(n, want, "read %zd, not %zd", n, want);
	if (n > 0)
		cr_expect_arr_eq(in, server->data + offset, (size_t)n);
	free(in);
	return atomic_load(&server->requests) - before;
}

Test(client, reads_below_the_known_size)
{
	const ssize_t mib = WFS_CHUNK_SIZE;
	uint8_t *out = malloc(6 * WFS_CHUNK_SIZE);
	struct client_file f = open_file(), copy;

	for (size_t k = 0; k < 6 * WFS_CHUNK_SIZE; k++)
		out[k] = (uint8_t)(k * 11 + (k >> 11));
	cr_expect_eq(client_write(client, &f, out, 6 * WFS_CHUNK_SIZE, 0), 6 * mib);
	client_file_copy(&copy, &f);
	for (unsigned i = 0; i < 50; i++)
		cr_expect_eq(read_requests(&f, (1 + i % 5) * WFS_CHUNK_SIZE + i, 4096, 4096),
			1);
	cr_expect_eq(read_requests(&f, WFS_CHUNK_SIZE, 5 * WFS_CHUNK_SIZE, 5 * mib), 5);
	cr_expect_eq(read_requests(&copy, 3 * WFS_CHUNK_SIZE, 10, 10), 1);
	/* Another makes it longer: then the inode is asked, once. */
	server->size = 8 * WFS_CHUNK_SIZE;
	cr_expect_eq(read_requests(&f, 5 * WFS_CHUNK_SIZE, 2 * WFS_CHUNK_SIZE, 2 * mib), 3);
	cr_expect_eq(read_requests(&f, 7 * WFS_CHUNK_SIZE, WFS_CHUNK_SIZE, mib), 1);
	/* Another cuts it. */
	server->size = 2 * WFS_CHUNK_SIZE + 100;
	server->oldest = ++server->generation;
	cr_expect_geq(read_requests(&f, 5 * WFS_CHUNK_SIZE, 100, 0), 2);
	cr_expect_geq(read_requests(&copy, 2 * WFS_CHUNK_SIZE, 1000, 100), 2);
	cr_expect_eq(read_requests(&f, 2 * WFS_CHUNK_SIZE, 100, 100), 1);
	/* Where nothing is stored, the file may be gone. */
	atomic_store(&server->holes, true);
	cr_expect_eq(read_requests(&f, 2 * WFS_CHUNK_SIZE, 100, 100), 2);
	free(out);
}

Test(client, reads_overtaken_by_truncates)
{
	struct client_file f = open_file();

	/* As if each answer came too late: in the end it takes what comes. */
	server->size = 4 * WFS_CHUNK_SIZE;
	server->oldest = server->generation + 1;
	cr_expect_geq(read_requests(&f, 2 * WFS_CHUNK_SIZE, 4096, 4096), 4);
}

Test(client, truncates_wait_for_the_chunks)
{
	struct where w = at_root("file");
	struct client_set set = {.mask = CLIENT_SET_SIZE, .size_bytes = 5};
	struct client_attr attr;
	struct client_file f;
	uint32_t before;

	atomic_store(&server->long_cut, 3);
	before = atomic_load(&server->requests);
	cr_expect_eq(client_setattr(client, &w, true, &set, &attr), 0);
	cr_expect_eq(atomic_load(&server->long_cut), 0);
	cr_expect_eq(atomic_load(&server->requests) - before, 5);
	cr_expect_eq(attr.size_bytes, 5);
	atomic_store(&server->long_cut, 2);
	before = atomic_load(&server->requests);
	cr_expect_eq(client_open(client, &w, O_RDWR | O_TRUNC, 0, &f, NULL), 0);
	cr_expect_eq(atomic_load(&server->requests) - before, 4);
	cr_expect_eq(atomic_load(&server->long_cut), 0);
}

Test(client, sizes_are_known_with_their_generation)
{
	struct client_file f = open_file(), g;

	client_file_learn(&f, 3, 100);
	client_file_learn(&f, 3, 50);
	client_file_copy(&g, &f);
	cr_expect_eq(atomic_load(&g.known) >> CLIENT_KNOWN_BITS, 100);
	client_file_learn(&f, 2, 5000);
	cr_expect_eq(atomic_load(&f.generation), 3);
	cr_expect_eq(atomic_load(&f.known), atomic_load(&g.known));
	client_file_learn(&f, 4, 70);
	cr_expect_eq(atomic_load(&f.generation), 4);
	cr_expect_eq(atomic_load(&f.known) >> CLIENT_KNOWN_BITS, 70);
	client_file_learn(&f, 4, WFS_FILE_SIZE_MAX);
	cr_expect_lt(atomic_load(&f.known) >> CLIENT_KNOWN_BITS, WFS_FILE_SIZE_MAX);
}

Test(client, appends)
{
	uint8_t *out = malloc(2 * WFS_CHUNK_SIZE), *in = malloc(2 * WFS_CHUNK_SIZE);
	struct client_file f = open_file();
	uint64_t end = 0;

	for (size_t k = 0; k < 2 * WFS_CHUNK_SIZE; k++)
		out[k] = (uint8_t)(k * 13 + (k >> 10));
	cr_expect_eq(client_append(client, &f, out, 1000, &end), 1000);
	cr_expect_eq(end, 1000);
	server->generation = 2;
	cr_expect_eq(client_append(client, &f, out, 1000, &end), 1000);
	cr_expect_eq(end, 2000);
	/* Leaves chunk 0; then begins behind it; then is larger than any chunk. */
	cr_expect_eq(client_append(client, &f, out, WFS_CHUNK_SIZE, &end),
		(ssize_t)WFS_CHUNK_SIZE);
	cr_expect_eq(client_append(client, &f, out, 500, &end), 500);
	cr_expect_eq(client_append(client, &f, out, 2 * WFS_CHUNK_SIZE, &end),
		2 * (ssize_t)WFS_CHUNK_SIZE);
	cr_expect_eq(end, 2500 + 3 * WFS_CHUNK_SIZE);
	cr_expect_eq(server->size, end);
	cr_expect_eq(client_read(client, &f, in, 2 * WFS_CHUNK_SIZE,
			end - 2 * WFS_CHUNK_SIZE), 2 * (ssize_t)WFS_CHUNK_SIZE);
	cr_expect_arr_eq(in, out, 2 * WFS_CHUNK_SIZE);
	cr_expect_eq(client_append(client, &f, out, 0, &end), 0);
	cr_expect_eq(client_fsync(client, &f), 0);
	free(out);
	free(in);
}

/* --- waiting ------------------------------------------------------------------------ */

struct worker {
	pthread_t thread;
	uint16_t bucket;
	int rounds;
	int failures;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < w->rounds; i++)
		if (ping(client, w->bucket))
			w->failures++;
	return NULL;
}

static void workers_run(struct worker *workers, int count, uint16_t bucket, int rounds)
{
	for (int i = 0; i < count; i++) {
		workers[i] = (struct worker){.bucket = bucket, .rounds = rounds};
		pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
	}
	for (int i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		cr_expect_eq(workers[i].failures, 0);
	}
}

Test(client, eight_threads)
{
	struct worker workers[8];

	workers_run(workers, 8, 0, 2000);
	cr_expect_eq(atomic_load(&server->requests), 16000);
}

Test(client, more_calls_than_slots)
{
	struct worker workers[80];

	workers_run(workers, 80, DELAY_BUCKET, 4);
	cr_expect_eq(atomic_load(&server->requests), 320);
	cr_expect_eq(atomic_load(&server->peak), SHM_SLOT_COUNT);
}

static unsigned alarm_calls;

/* Bounded: on a busy machine the next signal may be there before this one is done. */
static void on_alarm(int signal)
{
	(void)signal;
	if (alarm_calls < 100 && ping(client, 1) == 0)
		alarm_calls++;
}

Test(client, calls_from_signal_handlers)
{
	struct sigaction action = {.sa_handler = on_alarm};
	struct itimerval every = {{0, 700}, {0, 700}};
	struct itimerval never = {{0, 0}, {0, 0}};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < 50; i++)
		cr_expect_eq(ping(client, i % 2 ? 0 : DELAY_BUCKET), 0);
	setitimer(ITIMER_REAL, &never, NULL);
	cr_expect_gt(alarm_calls, 10);
}

Test(client, a_forked_child_is_not_the_session)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (ping(client, 0) != -ENOTCONN)
			_exit(1);
		client_forget(client);
		if (client_attach(server->path, "", "/wfs", &client))
			_exit(2);
		_exit(ping(client, 0) ? 3 : 0);
	}
	waitpid(child, &status, 0);
	cr_expect_eq(status, 0);
	cr_expect_eq(ping(client, 0), 0);
	cr_expect(eventually(&server->ended, 1));
	cr_expect(eventually(&server->sessions, 1));
}

Test(client, fds_move)
{
	int socket, event;

	cr_expect_eq(client_move_fds(client, 500), 0);
	client_fds(client, &socket, &event);
	cr_expect_geq(socket, 500);
	cr_expect_geq(event, 500);
	poll(NULL, 0, 30);
	cr_expect_eq(ping(client, 0), 0);
}

/* --- death -------------------------------------------------------------------------- */

Test(client, killed_program)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		client_forget(client);
		if (client_attach(server->path, "", "/wfs", &client))
			_exit(2);
		ping(client, NEVER_BUCKET);
		_exit(3);
	}
	cr_assert(eventually(&server->requests, 1));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	cr_expect(WIFSIGNALED(status));
	/* Not before its request is over, which is at its deadline. */
	cr_expect(eventually(&server->sessions, 1));
	cr_expect_eq(atomic_load(&server->ended), 0);
	cr_expect(eventually(&server->ended, 1));
	cr_expect_eq(ping(client, 0), 0);
}

static void *stopper_main(void *arg)
{
	struct server *s = arg;

	while (atomic_load(&s->requests) == 0)
		poll(NULL, 0, 1);
	atomic_store(&s->stop, true);
	return NULL;
}

Test(client, dead_server)
{
	pthread_t stopper;
	uint64_t start;
	struct client_file f = {.ino = FILE_INO};

	client_fail_fast(client);
	pthread_create(&stopper, NULL, stopper_main, server);
	start = now_us();
	cr_expect_eq(ping(client, NEVER_BUCKET), -ENOTCONN);
	cr_expect_lt(now_us() - start, 1000000);
	pthread_join(stopper, NULL);
	cr_expect(eventually(&server->gone, 1));
	start = now_us();
	cr_expect_eq(ping(client, 0), -ENOTCONN);
	cr_expect_lt(now_us() - start, 10000);
	cr_expect_eq(client_fsync(client, &f), -ENOTCONN);
}

Test(client, no_server)
{
	struct client *c;

	cr_expect_eq(client_attach("/tmp/wfs-client-none", "", "/wfs", &c), -ENOENT);
	cr_expect_eq(client_attach(server->path, "other", "/wfs", &c), -ENODEV);
}

Test(client, a_second_server_is_refused)
{
	struct ring *ring;
	struct session_options opt = {.env = env_real(), .socket_path = server->path,
		.map = server->map};
	struct session_server *second;

	cr_assert_eq(ring_new(8, &ring), 0);
	opt.ring = ring;
	cr_expect_eq(session_server_new(&opt, &second), -EADDRINUSE);
	ring_free(ring);
}

Test(client, deadlines)
{
	struct client_raw raw = {.op = OP_PING, .target = NEVER_BUCKET, .timeout_ms = 300};
	uint64_t start = now_us();

	/* The toy server answers at the deadline, as a shard would with an error. */
	cr_expect_eq(client_raw(client, &raw), 0);
	cr_expect_geq(now_us() - start, 300000);
	cr_expect_lt(now_us() - start, 1000000);
}

/* A server that stands still: the call ends all the same, and the slot comes back. */
Test(client, frozen_server)
{
	struct client_raw raw = {.op = OP_PING, .timeout_ms = 200};
	struct server *frozen;
	struct client *c;
	uint64_t start;
	int status;
	int go[2];
	char path[64];
	pid_t child;

	cr_assert_eq(pipe(go), 0);
	child = fork();
	if (child == 0) {
		frozen = server_start(TIMEOUT_MS);
		(void)!write(go[1], frozen->path, sizeof(frozen->path));
		for (;;)
			pause();
	}
	cr_assert_eq(read(go[0], path, sizeof(path)), (ssize_t)sizeof(path));
	cr_assert_eq(client_attach(path, "", "/wfs", &c), 0);
	cr_expect_eq(client_raw(c, &raw), 0);
	kill(child, SIGSTOP);
	waitpid(child, &status, WUNTRACED);
	start = now_us();
	cr_expect_eq(client_raw(c, &raw), -ETIMEDOUT);
	cr_expect_geq(now_us() - start, 1000000);
	cr_expect_lt(now_us() - start, 1600000);
	kill(child, SIGCONT);
	for (int i = 0; i < 100; i++)
		cr_expect_eq(client_raw(c, &raw), 0);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	unlink(path);
	client_detach(c);
}

/* --- figures ------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

Test(client, ping_round_trip)
{
	enum { COUNT = 20000 };
	uint32_t *took = malloc(COUNT * sizeof(*took));
	struct timespec a, b;

	for (int i = 0; i < COUNT; i++) {
		clock_gettime(CLOCK_MONOTONIC, &a);
		cr_assert_eq(ping(client, 0), 0);
		clock_gettime(CLOCK_MONOTONIC, &b);
		took[i] = (uint32_t)((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec);
	}
	qsort(took, COUNT, sizeof(*took), by_value);
	fprintf(stderr, "ping round trip ns: p50 %u p90 %u p99 %u max %u\n", took[COUNT / 2],
		took[COUNT * 9 / 10], took[COUNT * 99 / 100], took[COUNT - 1]);
	cr_expect_lt(took[COUNT / 2], 1000000);
	free(took);
}

Test(client, many_idle_sessions)
{
	enum { COUNT = 200 };
	struct client *idle[COUNT];
	uint64_t start;

	for (int i = 0; i < COUNT; i++) {
		cr_assert_eq(client_attach(server->path, "", "/wfs", &idle[i]), 0);
		cr_assert_eq(ping(idle[i], 0), 0);
	}
	cr_expect(eventually(&server->sessions, COUNT + 1));
	start = now_us();
	for (int i = 0; i < 5000; i++)
		cr_assert_eq(ping(client, 0), 0);
	fprintf(stderr, "ping with %d idle sessions: %.1f us\n", COUNT,
		(double)(now_us() - start) / 5000);
	for (int i = 0; i < COUNT; i++)
		cr_assert_eq(ping(idle[i], 0), 0);
	for (int i = 0; i < COUNT; i++)
		client_detach(idle[i]);
	cr_expect(eventually(&server->ended, COUNT));
	cr_expect(eventually(&server->sessions, 1));
}

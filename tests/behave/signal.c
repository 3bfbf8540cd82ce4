/* Signals during calls, calls in handlers, and POSIX asynchronous I/O. */
#include <aio.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/time.h>

#include "tests/behave/behave.h"

static volatile sig_atomic_t hits;
static volatile sig_atomic_t handler_failed;

/* --- signals ---------------------------------------------------------------------- */

static void count_hit(int number)
{
	(void)number;
	hits++;
}

static void every_millisecond(void (*handler)(int), int flags)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
	struct itimerval timer = {{0, 1000}, {0, 1000}};

	OK(sigaction(SIGALRM, &action, NULL) == 0);
	OK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

TEST(signals_do_not_interrupt_file_calls)
{
	char name[16];

	every_millisecond(count_hit, 0);
	for (int i = 0; hits < 20; i++) {
		struct stat st;
		int fd;

		snprintf(name, sizeof(name), "%d", i % 10);
		fd = open(name, O_RDWR | O_CREAT, 0644);
		OK(fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0);
		OK(fstat(fd, &st) == 0 && close(fd) == 0 && rename(name, "r") == 0);
		OK(unlink("r") == 0);
	}
}

TEST(signals_do_not_tear_large_writes)
{
	static char large[1 << 20];
	int fd = rw("f");

	every_millisecond(count_hit, 0);
	memset(large, 'x', sizeof(large));
	while (hits < 10)
		EQ(pwrite(fd, large, sizeof(large), 0), sizeof(large));
}

static void handler_does_files(int number)
{
	int saved = errno;
	char byte = 0;
	int fd = open("handler", O_RDWR | O_CREAT, 0644);

	(void)number;
	if (fd < 0 || write(fd, "h", 1) != 1 || lseek(fd, 0, SEEK_SET) != 0 ||
		read(fd, &byte, 1) != 1 || byte != 'h' || close(fd))
		handler_failed = 1;
	hits++;
	errno = saved;
}

TEST(signal_handler_opens_reads_writes)
{
	put("f", "");
	EQ(signal(SIGUSR1, handler_does_files) == SIG_ERR, false);
	raise(SIGUSR1);
	OK(hits == 1 && !handler_failed);
}

TEST(signal_handler_during_file_calls)
{
	every_millisecond(handler_does_files, SA_RESTART);
	while (hits < 20 && !handler_failed) {
		put("f", "main");
		HOLDS("f", "main");
		OK(rename("f", "g") == 0 && unlink("g") == 0);
	}
	OK(!handler_failed);
}

TEST(signal_handler_during_streams)
{
	FILE *fp = fopen("f", "w");

	every_millisecond(handler_does_files, SA_RESTART);
	for (int i = 0; hits < 30; i++)
		OK(fprintf(fp, "%d\n", i) > 0);
	OK(fclose(fp) == 0 && !handler_failed);
}

static sigjmp_buf jump;

static void handler_jumps(int number)
{
	(void)number;
	siglongjmp(jump, 1);
}

TEST(signal_handler_jumps_out)
{
	volatile int rounds = 0;

	put("f", "x");
	for (rounds = 0; rounds < 5; rounds++) {
		struct sigaction action = {.sa_handler = handler_jumps};
		struct itimerval timer = {{0, 0}, {0, 3000}};

		sigaction(SIGALRM, &action, NULL);
		if (!sigsetjmp(jump, 1)) {
			setitimer(ITIMER_REAL, &timer, NULL);
			for (;;) {
				struct stat st;

				(void)!stat("f", &st);
			}
		}
	}
	put("g", "after");
	HOLDS("g", "after");
}

static void handler_forks(int number)
{
	pid_t pid = fork();

	(void)number;
	if (!pid) {
		int fd = open("child", O_WRONLY | O_CREAT, 0644);

		_exit(fd >= 0 && write(fd, "c", 1) == 1 ? 0 : 1);
	}
	handler_failed = finish(pid);
	hits++;
}

TEST(signal_handler_forks)
{
	put("f", "");
	signal(SIGUSR1, handler_forks);
	raise(SIGUSR1);
	OK(hits == 1 && !handler_failed);
	HOLDS("child", "c");
}

TEST(signal_on_alternate_stack)
{
	static char stack[65536];
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {
		.sa_handler = handler_does_files, .sa_flags = SA_ONSTACK};

	OK(sigaltstack(&alt, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
	raise(SIGUSR1);
	OK(hits == 1 && !handler_failed);
}

TEST(signal_kills_in_the_middle_of_writes)
{
	struct gate ready = gate_new();
	pid_t pid = fork();

	if (!pid) {
		int fd = rw("f");

		gate_open(&ready);
		for (;;)
			(void)!pwrite(fd, "x", 1, 0);
	}
	gate_wait(&ready);
	kill(pid, SIGKILL);
	EQ(finish(pid), 256 + SIGKILL);
	put("f", "after");
	HOLDS("f", "after");
}

TEST(signals_stay_as_they_were)
{
	sigset_t blocked, now;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	OK(sigprocmask(SIG_SETMASK, &blocked, NULL) == 0);
	put("f", "x");
	HOLDS("f", "x");
	OK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
	for (int i = 1; i < 32; i++) {
		struct sigaction action;

		EQ(sigismember(&now, i), i == SIGUSR2);
		OK(sigaction(i, NULL, &action) == 0);
		/* Who was started by nohup ignores SIGHUP. */
		OK(action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
	}
}

TEST(success_keeps_errno)
{
	int fd;

	put("f", "x");
	errno = 77;
	fd = open("f", O_RDONLY);
	close(fd);
	if (errno != 77)
		unmet("errno", 0, "%d", errno);
}

/* --- POSIX asynchronous I/O ------------------------------------------------------- */

static ssize_t aio_finish(struct aiocb *cb)
{
	const struct aiocb *list[1] = {cb};

	while (aio_error(cb) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
	return aio_return(cb);
}

TEST(aio_write_and_read)
{
	char out[] = "asynchronous", in[16] = "";
	struct aiocb cb = {.aio_buf = out, .aio_nbytes = 12, .aio_offset = 3};

	cb.aio_fildes = rw("f");
	OK(aio_write(&cb) == 0);
	EQ(aio_finish(&cb), 12);
	cb.aio_buf = in;
	OK(aio_read(&cb) == 0);
	OK(aio_finish(&cb) == 12 && !strcmp(in, out));
}

TEST(aio_read_at_end)
{
	char in[16];
	struct aiocb cb = {.aio_buf = in, .aio_nbytes = 12};

	cb.aio_fildes = rw("f");
	OK(aio_read(&cb) == 0);
	EQ(aio_finish(&cb), 0);
}

TEST(aio_error_is_reported)
{
	char in[16];
	struct aiocb cb = {.aio_buf = in, .aio_nbytes = 12};
	const struct aiocb *list[1] = {&cb};

	put("f", "x");
	cb.aio_fildes = wo("f");
	if (aio_read(&cb) == 0) {
		while (aio_error(&cb) == EINPROGRESS)
			aio_suspend(list, 1, NULL);
		EQ(aio_error(&cb), EBADF);
		EQ(aio_return(&cb), -1);
	}
}

TEST(aio_fsync_after_write)
{
	char out[] = "x";
	struct aiocb cb = {.aio_buf = out, .aio_nbytes = 1};

	cb.aio_fildes = rw("f");
	OK(aio_write(&cb) == 0);
	EQ(aio_finish(&cb), 1);
	OK(aio_fsync(O_DSYNC, &cb) == 0);
	EQ(aio_finish(&cb), 0);
}

TEST(aio_list_waits_for_all)
{
	char out[4][8];
	struct aiocb cb[4], *list[4];
	int fd = rw("f");

	memset(cb, 0, sizeof(cb));
	for (int i = 0; i < 4; i++) {
		memset(out[i], 'a' + i, 8);
		cb[i] = (struct aiocb){.aio_fildes = fd,
			.aio_buf = out[i],
			.aio_nbytes = 8,
			.aio_offset = i * 8,
			.aio_lio_opcode = LIO_WRITE};
		list[i] = &cb[i];
	}
	OK(lio_listio(LIO_WAIT, list, 4, NULL) == 0);
	HOLDS("f", "aaaaaaaabbbbbbbbccccccccdddddddd");
}

TEST(aio_notifies_by_signal)
{
	char out[] = "x";
	struct aiocb cb = {.aio_buf = out, .aio_nbytes = 1};

	signal(SIGUSR1, count_hit);
	cb.aio_fildes = rw("f");
	cb.aio_sigevent.sigev_notify = SIGEV_SIGNAL;
	cb.aio_sigevent.sigev_signo = SIGUSR1;
	OK(aio_write(&cb) == 0);
	EQ(aio_finish(&cb), 1);
	while (!hits)
		sched_yield();
}

TEST(aio_bad_offset)
{
	char out[] = "x";
	struct aiocb cb = {.aio_buf = out, .aio_nbytes = 1, .aio_offset = -1};
	const struct aiocb *list[1] = {&cb};

	cb.aio_fildes = rw("f");
	if (aio_write(&cb) == 0) {
		while (aio_error(&cb) == EINPROGRESS)
			aio_suspend(list, 1, NULL);
		EQ(aio_error(&cb), EINVAL);
	}
}

TEST(aio_cancel_of_done)
{
	char out[] = "x";
	struct aiocb cb = {.aio_buf = out, .aio_nbytes = 1};

	cb.aio_fildes = rw("f");
	OK(aio_write(&cb) == 0 && aio_finish(&cb) == 1);
	EQ(aio_cancel(cb.aio_fildes, NULL), AIO_ALLDONE);
}

/* flock, POSIX record locks, locks of open file descriptions; how they wait and end. */
#include <sys/file.h>

#include "tests/behave/behave.h"

static int set(int fd, int command, short type, off_t start, off_t size)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};

	return fcntl(fd, command, &lock);
}

/* What another process is told about a write lock of the range: F_UNLCK or the type. */
static int seen(off_t start, off_t size)
{
	pid_t pid = fork();

	if (!pid) {
		struct flock lock = {.l_type = F_WRLCK, .l_start = start, .l_len = size};

		OK(fcntl(rw("f"), F_GETLK, &lock) == 0);
		_exit(10 + lock.l_type);
	}
	return finish(pid) - 10;
}

/* Whether another process gets this flock at once. */
static bool gets(int operation)
{
	pid_t pid = fork();

	if (!pid)
		_exit(flock(rw("f"), operation | LOCK_NB) ? 9 : 0);
	return finish(pid) == 0;
}

/* A child that holds a lock of the range until the gate opens, or is killed. */
static pid_t holder(
	struct gate *ready, struct gate *end, int command, off_t start, off_t size)
{
	pid_t pid = fork();

	if (!pid) {
		OK(set(rw("f"), command, F_WRLCK, start, size) == 0);
		gate_open(ready);
		gate_wait(end);
		_exit(0);
	}
	gate_wait(ready);
	return pid;
}

static void nothing(int number)
{
	(void)number;
}

static void timer(int milliseconds, int flags)
{
	struct sigaction action = {.sa_handler = nothing, .sa_flags = flags};

	OK(sigaction(SIGALRM, &action, NULL) == 0);
	ualarm((useconds_t)milliseconds * 1000, (useconds_t)milliseconds * 1000);
}

/* --- flock ------------------------------------------------------------------------ */

TEST(flock_exclusive_keeps_others_out)
{
	OK(flock(rw("f"), LOCK_EX) == 0);
	OK(!gets(LOCK_EX) && !gets(LOCK_SH));
}

TEST(flock_shared_lets_shared_in)
{
	OK(flock(rw("f"), LOCK_SH) == 0);
	OK(gets(LOCK_SH) && !gets(LOCK_EX));
}

TEST(flock_unlock)
{
	int fd = rw("f");

	OK(flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_UN) == 0 && gets(LOCK_EX));
}

TEST(flock_ends_with_close)
{
	int fd = rw("f");

	OK(flock(fd, LOCK_EX) == 0 && close(fd) == 0 && gets(LOCK_EX));
}

TEST(flock_nonblocking_is_ewouldblock)
{
	OK(flock(rw("f"), LOCK_EX) == 0);
	FAILS(flock(rw("f"), LOCK_EX | LOCK_NB), EWOULDBLOCK);
}

TEST(flock_two_descriptors_of_one_process)
{
	int a = rw("f"), b = rw("f");

	OK(flock(a, LOCK_SH) == 0 && flock(b, LOCK_SH) == 0);
	FAILS(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
}

TEST(flock_of_a_dup_is_the_same)
{
	int fd = rw("f"), other = dup(fd);

	OK(flock(fd, LOCK_EX) == 0 && flock(other, LOCK_EX | LOCK_NB) == 0);
	OK(close(fd) == 0 && !gets(LOCK_SH));
	OK(close(other) == 0 && gets(LOCK_SH));
}

TEST(flock_unlocked_by_a_dup)
{
	int fd = rw("f"), other = dup(fd);

	OK(flock(fd, LOCK_EX) == 0 && flock(other, LOCK_UN) == 0 && gets(LOCK_EX));
}

TEST(flock_is_inherited_by_fork)
{
	struct gate end = gate_new();
	int fd = rw("f");
	pid_t pid;

	OK(flock(fd, LOCK_EX) == 0);
	pid = fork();
	if (!pid) {
		gate_wait(&end);
		_exit(0);
	}
	OK(close(fd) == 0 && !gets(LOCK_EX));
	gate_open(&end);
	EQ(finish(pid), 0);
	OK(gets(LOCK_EX));
}

TEST(flock_converts)
{
	int fd = rw("f");

	OK(flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_SH) == 0 && gets(LOCK_SH));
	OK(flock(fd, LOCK_EX) == 0 && !gets(LOCK_SH));
}

TEST(flock_waits)
{
	struct gate ready = gate_new();
	int fd = rw("f");
	pid_t pid;

	OK(flock(fd, LOCK_EX) == 0);
	pid = fork();
	if (!pid) {
		int own = rw("f");

		gate_open(&ready);
		OK(flock(own, LOCK_EX) == 0);
		HOLDS("f", "done");
		_exit(0);
	}
	gate_wait(&ready);
	put("f", "done");
	OK(flock(fd, LOCK_UN) == 0);
	EQ(finish(pid), 0);
}

TEST(flock_wait_is_interrupted)
{
	OK(flock(rw("f"), LOCK_EX) == 0);
	CHILD
	{
		timer(30, 0);
		FAILS(flock(rw("f"), LOCK_EX), EINTR);
	}
}

TEST(flock_ends_with_the_process)
{
	struct gate ready = gate_new();
	pid_t pid = fork();

	if (!pid) {
		OK(flock(rw("f"), LOCK_EX) == 0);
		gate_open(&ready);
		pause();
	}
	gate_wait(&ready);
	OK(!gets(LOCK_EX));
	kill(pid, SIGKILL);
	finish(pid);
	OK(flock(rw("f"), LOCK_EX) == 0);
}

TEST(flock_of_read_only_descriptor)
{
	put("f", "");
	OK(flock(ro("f"), LOCK_EX) == 0 && !gets(LOCK_SH));
}

TEST(flock_of_directory)
{
	OK(flock(ro_dir("."), LOCK_EX) == 0);
	FAILS(flock(ro_dir("."), LOCK_EX | LOCK_NB), EWOULDBLOCK);
}

TEST(flock_bad_operation)
{
	FAILS(flock(rw("f"), 0), EINVAL);
	FAILS(flock(rw("f"), LOCK_SH | LOCK_EX), EINVAL);
}

TEST(flock_closed_descriptor)
{
	FAILS(flock(99, LOCK_EX), EBADF);
}

TEST(flock_and_fcntl_do_not_meet)
{
	OK(flock(rw("f"), LOCK_EX) == 0);
	CHILD
	{
		OK(set(rw("f"), F_SETLK, F_WRLCK, 0, 0) == 0);
	}
}

TEST(flock_survives_unlink)
{
	int fd = rw("f");

	OK(flock(fd, LOCK_EX) == 0 && unlink("f") == 0);
	OK(gets(LOCK_EX));
}

TEST(flock_by_the_tool)
{
	put("f", "");
	EQ(shell("flock f sh -c 'flock -n f true; test $? = 1'"), 0);
}

/* --- POSIX record locks ----------------------------------------------------------- */

TEST(posix_lock_keeps_others_out)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 10, 10) == 0);
	CHILD
	{
		FAILS(set(rw("f"), F_SETLK, F_WRLCK, 15, 1), EAGAIN);
		FAILS(set(rw("f"), F_SETLK, F_RDLCK, 0, 0), EAGAIN);
		OK(set(rw("f"), F_SETLK, F_WRLCK, 0, 10) == 0);
		OK(set(rw("f"), F_SETLK, F_WRLCK, 20, 10) == 0);
	}
}

TEST(posix_lock_shared)
{
	OK(set(rw("f"), F_SETLK, F_RDLCK, 0, 10) == 0);
	CHILD
	{
		OK(set(rw("f"), F_SETLK, F_RDLCK, 0, 10) == 0);
		FAILS(set(rw("f"), F_SETLK, F_WRLCK, 0, 10), EAGAIN);
	}
}

TEST(posix_lock_of_own_process_never_conflicts)
{
	int a = rw("f"), b = rw("f");

	OK(set(a, F_SETLK, F_WRLCK, 0, 10) == 0 && set(b, F_SETLK, F_WRLCK, 0, 10) == 0);
}

TEST(posix_getlk_names_the_owner)
{
	struct gate ready = gate_new(), end = gate_new();
	struct flock lock = {.l_type = F_WRLCK, .l_start = 0, .l_len = 0};
	pid_t pid;

	put("f", "");
	pid = holder(&ready, &end, F_SETLK, 100, 50);
	OK(fcntl(rw("f"), F_GETLK, &lock) == 0);
	EQ(lock.l_type, F_WRLCK);
	EQ(lock.l_pid, pid);
	EQ(lock.l_whence, SEEK_SET);
	OK(lock.l_start == 100 && lock.l_len == 50);
	gate_open(&end);
	EQ(finish(pid), 0);
}

TEST(posix_getlk_free)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 5, .l_len = 7};

	OK(fcntl(rw("f"), F_GETLK, &lock) == 0);
	OK(lock.l_type == F_UNLCK && lock.l_start == 5 && lock.l_len == 7);
}

TEST(posix_getlk_ignores_own)
{
	struct flock lock = {.l_type = F_WRLCK};
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && fcntl(fd, F_GETLK, &lock) == 0);
	EQ(lock.l_type, F_UNLCK);
}

TEST(posix_lock_to_the_end_of_all)
{
	OK(set(rw("f"), F_SETLK, F_WRLCK, 100, 0) == 0);
	EQ(seen(1000000000, 1), F_WRLCK);
	EQ(seen(0, 100), F_UNLCK);
}

TEST(posix_unlock_in_the_middle_splits)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 30) == 0 &&
		set(fd, F_SETLK, F_UNLCK, 10, 10) == 0);
	EQ(seen(0, 10), F_WRLCK);
	EQ(seen(10, 10), F_UNLCK);
	EQ(seen(20, 10), F_WRLCK);
}

TEST(posix_locks_side_by_side_merge)
{
	struct flock lock;
	pid_t pid;
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 10) == 0 &&
		set(fd, F_SETLK, F_WRLCK, 10, 10) == 0);
	pid = fork();
	if (!pid) {
		lock = (struct flock){.l_type = F_WRLCK, .l_len = 1};
		OK(fcntl(rw("f"), F_GETLK, &lock) == 0);
		_exit((int)lock.l_len);
	}
	EQ(finish(pid), 20);
}

TEST(posix_lock_downgrade_in_the_middle)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 30) == 0 &&
		set(fd, F_SETLK, F_RDLCK, 10, 10) == 0);
	CHILD
	{
		OK(set(rw("f"), F_SETLK, F_RDLCK, 10, 10) == 0);
		FAILS(set(rw("f"), F_SETLK, F_RDLCK, 5, 10), EAGAIN);
	}
}

TEST(posix_lock_upgrade)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_RDLCK, 0, 10) == 0 &&
		set(fd, F_SETLK, F_WRLCK, 0, 10) == 0);
	CHILD
	{
		FAILS(set(rw("f"), F_SETLK, F_RDLCK, 0, 10), EAGAIN);
	}
}

TEST(posix_lock_ends_with_any_close)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
	OK(close(rw("f")) == 0);
	EQ(seen(0, 0), F_UNLCK);
}

TEST(posix_lock_ends_with_close_of_a_dup)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && close(dup(fd)) == 0);
	EQ(seen(0, 0), F_UNLCK);
}

TEST(posix_lock_ends_with_dup2_over)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && dup2(0, fd) == fd);
	EQ(seen(0, 0), F_UNLCK);
}

TEST(posix_lock_is_not_inherited_by_fork)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
	CHILD
	{
		FAILS(set(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	}
}

TEST(posix_lock_of_parent_outlives_child)
{
	int fd = rw("f");

	OK(set(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
	CHILD
	{
		close(fd);
	}
	EQ(seen(0, 0), F_WRLCK);
}

HELPER(lock_is_mine)
{
	struct flock lock = {.l_type = F_WRLCK};
	pid_t pid;

	(void)argc;
	(void)argv;
	pid = fork();
	if (!pid)
		_exit(fcntl(open("f", O_RDWR), F_GETLK, &lock) || lock.l_type != F_WRLCK);
	return finish(pid);
}

TEST(posix_lock_survives_exec)
{
	char *argv[] = {self_path, (char *)"--as", (char *)"lock_is_mine", NULL};
	pid_t pid;

	put("f", "");
	pid = fork();
	if (!pid) {
		OK(set(rw("f"), F_SETLK, F_WRLCK, 0, 0) == 0);
		execv(self_path, argv);
		_exit(127);
	}
	EQ(finish(pid), 0);
}

TEST(posix_lock_ends_with_the_process)
{
	struct gate ready = gate_new(), end = gate_new();
	pid_t pid;

	put("f", "");
	pid = holder(&ready, &end, F_SETLK, 0, 0);
	FAILS(set(rw("f"), F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	kill(pid, SIGKILL);
	finish(pid);
	OK(set(rw("f"), F_SETLKW, F_WRLCK, 0, 0) == 0);
}

TEST(posix_lock_waits)
{
	struct gate ready = gate_new();
	int fd = rw("f");
	pid_t pid;

	OK(set(fd, F_SETLK, F_WRLCK, 0, 10) == 0);
	pid = fork();
	if (!pid) {
		int own = rw("g");

		close(own);
		gate_open(&ready);
		own = open("f", O_RDWR);
		OK(set(own, F_SETLKW, F_WRLCK, 5, 1) == 0);
		_exit(there("done") ? 0 : 1);
	}
	gate_wait(&ready);
	put("done", "");
	OK(set(fd, F_SETLK, F_UNLCK, 0, 10) == 0);
	EQ(finish(pid), 0);
}

TEST(posix_lock_wait_is_interrupted)
{
	OK(set(rw("f"), F_SETLK, F_WRLCK, 0, 0) == 0);
	CHILD
	{
		timer(30, 0);
		FAILS(set(rw("f"), F_SETLKW, F_WRLCK, 0, 0), EINTR);
	}
}

TEST(posix_lock_wait_restarts)
{
	struct gate ready = gate_new(), end = gate_new();
	pid_t pid, other;

	put("f", "");
	pid = holder(&ready, &end, F_SETLK, 0, 0);
	other = fork();
	if (!other) {
		timer(10, SA_RESTART);
		gate_open(&ready);
		OK(set(rw("f"), F_SETLKW, F_WRLCK, 0, 0) == 0);
		_exit(0);
	}
	gate_wait(&ready);
	tick();
	tick();
	tick();
	gate_open(&end);
	EQ(finish(pid), 0);
	EQ(finish(other), 0);
}

TEST(posix_lock_deadlock)
{
	struct gate ready = gate_new(), end = gate_new();
	int fd = rw("f");
	pid_t pid;

	OK(set(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
	pid = fork();
	if (!pid) {
		int own = rw("f");

		OK(set(own, F_SETLK, F_WRLCK, 1, 1) == 0);
		gate_open(&ready);
		/* One of the two is refused; the other goes on. */
		_exit(set(own, F_SETLKW, F_WRLCK, 0, 1) ? errno : 0);
	}
	gate_wait(&ready);
	if (set(fd, F_SETLKW, F_WRLCK, 1, 1)) {
		int error = errno;

		EQ(error, EDEADLK);
		OK(set(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
		EQ(finish(pid), 0);
	} else {
		EQ(finish(pid), EDEADLK);
	}
	(void)end;
}

TEST(posix_lock_needs_access_mode)
{
	put("f", "");
	FAILS(set(ro("f"), F_SETLK, F_WRLCK, 0, 0), EBADF);
	FAILS(set(wo("f"), F_SETLK, F_RDLCK, 0, 0), EBADF);
	OK(set(ro("f"), F_SETLK, F_RDLCK, 0, 0) == 0);
}

TEST(posix_lock_before_the_start)
{
	FAILS(set(rw("f"), F_SETLK, F_WRLCK, -1, 5), EINVAL);
}

TEST(posix_lock_negative_length)
{
	OK(set(rw("f"), F_SETLK, F_WRLCK, 20, -10) == 0);
	EQ(seen(10, 10), F_WRLCK);
	EQ(seen(20, 1), F_UNLCK);
	EQ(seen(9, 1), F_UNLCK);
}

TEST(posix_lock_negative_length_before_the_start)
{
	FAILS(set(rw("f"), F_SETLK, F_WRLCK, 5, -10), EINVAL);
}

TEST(posix_lock_from_the_offset)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 5, .l_len = 5};
	int fd = rw("f");

	EQ(lseek(fd, 100, SEEK_SET), 100);
	OK(fcntl(fd, F_SETLK, &lock) == 0);
	EQ(seen(105, 5), F_WRLCK);
	EQ(seen(0, 105), F_UNLCK);
}

TEST(posix_lock_from_the_end)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -5};
	int fd;

	put("f", "0123456789");
	fd = rw("f");
	OK(fcntl(fd, F_SETLK, &lock) == 0);
	EQ(seen(5, 1), F_WRLCK);
	EQ(seen(0, 5), F_UNLCK);
}

TEST(posix_lock_bad_type)
{
	FAILS(set(rw("f"), F_SETLK, 77, 0, 0), EINVAL);
}

TEST(posix_lock_bad_whence)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = 77};

	FAILS(fcntl(rw("f"), F_SETLK, &lock), EINVAL);
}

TEST(posix_lock_fault)
{
	FAILS(fcntl(rw("f"), F_SETLK, nowhere), EFAULT);
}

TEST(posix_unlock_of_nothing)
{
	OK(set(rw("f"), F_SETLK, F_UNLCK, 0, 0) == 0);
}

TEST(posix_lock_is_advisory)
{
	OK(set(rw("f"), F_SETLK, F_WRLCK, 0, 0) == 0);
	CHILD
	{
		put("f", "written");
	}
	HOLDS("f", "written");
}

TEST(posix_lock_hundred_ranges)
{
	int fd = rw("f");

	for (int i = 0; i < 100; i++)
		OK(set(fd, F_SETLK, F_WRLCK, i * 10, 5) == 0);
	EQ(seen(504, 1), F_WRLCK);
	EQ(seen(505, 5), F_UNLCK);
	OK(set(fd, F_SETLK, F_UNLCK, 0, 0) == 0);
	EQ(seen(0, 0), F_UNLCK);
}

TEST(lockf_lock_test_unlock)
{
	int fd = rw("f");

	OK(lockf(fd, F_TLOCK, 10) == 0);
	CHILD
	{
		FAILS(lockf(rw("f"), F_TLOCK, 10), EAGAIN);
		FAILS(lockf(rw("f"), F_TEST, 10), EACCES);
	}
	OK(lockf(fd, F_TEST, 10) == 0 && lockf(fd, F_ULOCK, 10) == 0);
	EQ(seen(0, 0), F_UNLCK);
}

TEST(lockf_bad_command)
{
	FAILS(lockf(rw("f"), 77, 0), EINVAL);
}

/* --- locks of open file descriptions ---------------------------------------------- */

TEST(ofd_lock_between_descriptors_of_one_process)
{
	int a = rw("f"), b = rw("f");

	OK(set(a, F_OFD_SETLK, F_WRLCK, 0, 10) == 0);
	FAILS(set(b, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN);
	OK(set(b, F_OFD_SETLK, F_WRLCK, 10, 1) == 0);
}

TEST(ofd_lock_of_a_dup_is_the_same)
{
	int fd = rw("f"), other = dup(fd);

	OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
	OK(set(other, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
}

TEST(ofd_lock_survives_close_of_another)
{
	int fd = rw("f");

	OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 0) == 0 && close(rw("f")) == 0);
	EQ(seen(0, 0), F_WRLCK);
}

TEST(ofd_lock_ends_with_last_close)
{
	int fd = rw("f"), other = dup(fd);

	OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
	OK(close(fd) == 0);
	EQ(seen(0, 0), F_WRLCK);
	OK(close(other) == 0);
	EQ(seen(0, 0), F_UNLCK);
}

TEST(ofd_lock_is_inherited_by_fork)
{
	int fd = rw("f");

	OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
	CHILD
	{
		OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
		FAILS(set(rw("f"), F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
	}
}

TEST(ofd_lock_meets_posix_lock)
{
	OK(set(rw("f"), F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
	CHILD
	{
		FAILS(set(rw("f"), F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	}
}

TEST(ofd_lock_meets_posix_lock_of_own_process)
{
	OK(set(rw("f"), F_SETLK, F_WRLCK, 0, 0) == 0);
	FAILS(set(rw("f"), F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
}

TEST(ofd_getlk_has_no_pid)
{
	struct flock lock = {.l_type = F_WRLCK};

	OK(set(rw("f"), F_OFD_SETLK, F_WRLCK, 3, 4) == 0);
	OK(fcntl(rw("f"), F_OFD_GETLK, &lock) == 0);
	EQ(lock.l_type, F_WRLCK);
	EQ(lock.l_pid, -1);
	OK(lock.l_start == 3 && lock.l_len == 4);
}

TEST(ofd_lock_wants_pid_zero)
{
	struct flock lock = {.l_type = F_WRLCK, .l_pid = getpid()};

	FAILS(fcntl(rw("f"), F_OFD_SETLK, &lock), EINVAL);
}

TEST(ofd_lock_waits)
{
	struct gate ready = gate_new();
	int fd = rw("f");
	pid_t pid;

	OK(set(fd, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
	pid = fork();
	if (!pid) {
		int own;

		close(fd);
		own = rw("f");
		gate_open(&ready);
		OK(set(own, F_OFD_SETLKW, F_WRLCK, 0, 0) == 0);
		_exit(there("done") ? 0 : 1);
	}
	gate_wait(&ready);
	put("done", "");
	OK(set(fd, F_OFD_SETLK, F_UNLCK, 0, 0) == 0);
	EQ(finish(pid), 0);
}

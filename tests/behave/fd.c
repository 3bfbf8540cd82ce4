/* Descriptors: duplicates, flags, inheritance, passing, closing, polling. */
#include <linux/close_range.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "tests/behave/behave.h"

static int file_of(const char *text)
{
	put("f", text);
	return rw("f");
}

static off_t position(int fd)
{
	return lseek(fd, 0, SEEK_CUR);
}

/* --- dup -------------------------------------------------------------------------- */

TEST(dup_shares_the_offset)
{
	int fd = file_of("abcdef"), other = dup(fd);
	char byte;

	OK(read(fd, &byte, 1) == 1 && read(other, &byte, 1) == 1);
	OK(byte == 'b' && position(fd) == 2);
}

TEST(dup_is_the_lowest_number)
{
	int fd = file_of("");

	EQ(dup(fd), fd + 1);
}

TEST(dup_survives_the_close_of_the_first)
{
	int fd = file_of("abc"), other = dup(fd);
	char byte;

	OK(close(fd) == 0 && read(other, &byte, 1) == 1);
}

TEST(dup_clears_cloexec)
{
	put("f", "");
	EQ(fcntl(dup(open("f", O_RDONLY | O_CLOEXEC)), F_GETFD), 0);
}

TEST(dup_closed_descriptor)
{
	FAILS(dup(99), EBADF);
	FAILS(dup2(99, 3), EBADF);
	FAILS(dup3(99, 3, 0), EBADF);
}

TEST(dup2_over_an_open_file)
{
	int fd = file_of("f"), other;

	put("g", "g");
	other = rw("g");
	EQ(dup2(fd, other), other);
	EQ(fsee(other).st_ino, fsee(fd).st_ino);
}

TEST(dup2_over_a_local_file)
{
	int local = open("/dev/zero", O_RDONLY), fd = file_of("abc");
	char byte;

	EQ(dup2(fd, local), local);
	OK(read(local, &byte, 1) == 1 && byte == 'a');
}

TEST(dup2_of_a_local_file_over_ours)
{
	int local = open("/dev/zero", O_RDONLY), fd = file_of("abc");
	char byte;

	EQ(dup2(local, fd), fd);
	OK(read(fd, &byte, 1) == 1 && byte == 0);
}

TEST(dup2_onto_itself)
{
	int fd = file_of("");

	OK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && dup2(fd, fd) == fd);
	EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(dup2_bad_target)
{
	FAILS(dup2(file_of(""), -1), EBADF);
	FAILS(dup2(file_of(""), 10000000), EBADF);
}

TEST(dup3_cloexec)
{
	int fd = file_of("");

	EQ(dup3(fd, 50, O_CLOEXEC), 50);
	EQ(fcntl(50, F_GETFD), FD_CLOEXEC);
}

TEST(dup3_errors)
{
	int fd = file_of("");

	FAILS(dup3(fd, fd, 0), EINVAL);
	FAILS(dup3(fd, 50, O_APPEND), EINVAL);
}

TEST(dup_to_a_high_number)
{
	int fd = file_of("abc");
	char byte;

	EQ(dup2(fd, 900), 900);
	OK(read(900, &byte, 1) == 1 && byte == 'a');
}

TEST(fcntl_dupfd_from_a_number)
{
	int fd = file_of("");

	EQ(fcntl(fd, F_DUPFD, 40), 40);
	EQ(fcntl(fd, F_DUPFD, 40), 41);
}

TEST(fcntl_dupfd_cloexec)
{
	EQ(fcntl(fcntl(file_of(""), F_DUPFD_CLOEXEC, 40), F_GETFD), FD_CLOEXEC);
}

TEST(fcntl_dupfd_bad_number)
{
	FAILS(fcntl(file_of(""), F_DUPFD, -1), EINVAL);
	FAILS(fcntl(file_of(""), F_DUPFD, 100000000), EINVAL);
}

TEST(fcntl_setfl_is_shared_by_dups)
{
	int fd = file_of(""), other = dup(fd);

	OK(fcntl(fd, F_SETFL, O_APPEND) == 0);
	EQ(fcntl(other, F_GETFL) & O_APPEND, O_APPEND);
}

TEST(fcntl_setfl_keeps_access_mode)
{
	int fd = file_of("");

	OK(fcntl(fd, F_SETFL, O_WRONLY | O_NONBLOCK) == 0);
	EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
}

TEST(fcntl_setfl_of_another_open_is_its_own)
{
	int fd = file_of(""), other = rw("f");

	OK(fcntl(fd, F_SETFL, O_APPEND) == 0);
	EQ(fcntl(other, F_GETFL) & O_APPEND, 0);
}

TEST(fcntl_setfl_seen_by_child)
{
	int fd = file_of("abc");

	CHILD
	{
		OK(fcntl(fd, F_SETFL, O_APPEND) == 0);
	}
	EQ(fcntl(fd, F_GETFL) & O_APPEND, O_APPEND);
	EQ(write(fd, "d", 1), 1);
	HOLDS("f", "abcd");
}

TEST(fcntl_setfd_is_of_the_descriptor)
{
	int fd = file_of(""), other = dup(fd);

	OK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
	EQ(fcntl(other, F_GETFD), 0);
}

TEST(fcntl_unknown_command)
{
	FAILS(fcntl(file_of(""), 7777, 0), EINVAL);
}

TEST(fcntl_closed_descriptor)
{
	FAILS(fcntl(99, F_GETFD), EBADF);
	FAILS(fcntl(99, F_GETFL), EBADF);
}

/* --- close ------------------------------------------------------------------------ */

TEST(close_twice)
{
	int fd = file_of("");

	OK(close(fd) == 0);
	FAILS(close(fd), EBADF);
	FAILS(close(-1), EBADF);
}

TEST(close_range_closes_all)
{
	int a = file_of(""), b = rw("f");

	OK(close_range((unsigned)a, ~0u, 0) == 0);
	FAILS(fcntl(a, F_GETFD), EBADF);
	FAILS(fcntl(b, F_GETFD), EBADF);
	HOLDS("f", "");
}

TEST(close_range_of_some)
{
	int a = file_of(""), b = rw("f"), c = rw("f");

	OK(close_range((unsigned)b, (unsigned)b, 0) == 0);
	OK(fcntl(a, F_GETFD) == 0 && fcntl(c, F_GETFD) == 0);
	FAILS(fcntl(b, F_GETFD), EBADF);
}

TEST(close_range_cloexec)
{
	int a = file_of("");

	OK(close_range((unsigned)a, ~0u, CLOSE_RANGE_CLOEXEC) == 0);
	EQ(fcntl(a, F_GETFD), FD_CLOEXEC);
}

TEST(close_range_errors)
{
	FAILS(close_range(5, 4, 0), EINVAL);
	FAILS(close_range(5, 6, 0x80), EINVAL);
}

TEST(closefrom_closes_all)
{
	int fd = file_of("");

	closefrom(fd);
	FAILS(fcntl(fd, F_GETFD), EBADF);
	EQ(rw("f"), fd);
}

TEST(close_loop_of_a_daemon)
{
	file_of("");
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	EQ(rw("f"), 3);
	put("g", "still works");
	HOLDS("g", "still works");
}

TEST(close_by_proc_self_fd_list)
{
	const char *list;

	file_of("");
	list = names_in("/proc/self/fd");
	OK(!strncmp(list, "0 1 2 3", 7));
}

/* --- fork, exec, passing ---------------------------------------------------------- */

TEST(fork_shares_the_offset)
{
	int fd = file_of("abcdef");
	char byte;

	CHILD
	{
		EQ(read(fd, &byte, 1), 1);
	}
	OK(read(fd, &byte, 1) == 1 && byte == 'b');
}

TEST(fork_write_in_turn)
{
	int fd = file_of("");

	EQ(write(fd, "ab", 2), 2);
	CHILD
	{
		EQ(write(fd, "cd", 2), 2);
	}
	EQ(write(fd, "ef", 2), 2);
	HOLDS("f", "abcdef");
}

TEST(fork_close_is_of_the_process)
{
	int fd = file_of("abc");

	CHILD
	{
		close(fd);
	}
	EQ(fsee(fd).st_size, 3);
}

TEST(fork_child_opens_its_own)
{
	int fd = file_of("f");

	CHILD
	{
		put("g", "child");
		EQ(rw("g"), fd + 1);
	}
	HOLDS("g", "child");
}

TEST(fork_of_a_fork)
{
	int fd = file_of("");

	CHILD
	{
		CHILD
		{
			CHILD
			{
				EQ(write(fd, "deep", 4), 4);
			}
		}
	}
	EQ(position(fd), 4);
	HOLDS("f", "deep");
}

TEST(fork_numbers_reused_by_parent_and_child)
{
	struct gate go = gate_new();
	int fd = rw("one");
	pid_t pid;

	EQ(write(fd, "one", 3), 3);
	pid = fork();
	if (!pid) {
		gate_wait(&go);
		EQ(position(fd), 3);
		EQ(write(fd, "!", 1), 1);
		_exit(0);
	}
	OK(close(fd) == 0 && rw("two") == fd);
	EQ(write(fd, "two", 3), 3);
	gate_open(&go);
	EQ(finish(pid), 0);
	HOLDS("one", "one!");
	HOLDS("two", "two");
}

HELPER(read_descriptor)
{
	char text[64] = "";

	(void)argc;
	if (read(atoi(argv[1]), text, 63) < 0)
		return errno;
	return strcmp(text, argv[2]) ? 200 : 0;
}

HELPER(write_descriptor)
{
	(void)argc;
	return write(atoi(argv[1]), argv[2], strlen(argv[2])) < 0 ? errno : 0;
}

TEST(exec_keeps_descriptors)
{
	int fd = file_of("abcdef");
	char number[16];

	EQ(lseek(fd, 2, SEEK_SET), 2);
	snprintf(number, sizeof(number), "%d", fd);
	EQ(run_helper("read_descriptor", number, "cdef", NULL), 0);
	EQ(position(fd), 6);
}

TEST(exec_closes_cloexec)
{
	char number[16];

	put("f", "abc");
	snprintf(number, sizeof(number), "%d", open("f", O_RDONLY | O_CLOEXEC));
	EQ(run_helper("read_descriptor", number, "abc", NULL), EBADF);
}

TEST(exec_keeps_append)
{
	char number[16];

	put("f", "abc");
	snprintf(number, sizeof(number), "%d", open("f", O_WRONLY | O_APPEND));
	EQ(run_helper("write_descriptor", number, "def", NULL), 0);
	HOLDS("f", "abcdef");
}

TEST(exec_keeps_access_mode)
{
	char number[16];

	put("f", "abc");
	snprintf(number, sizeof(number), "%d", ro("f"));
	EQ(run_helper("write_descriptor", number, "def", NULL), EBADF);
}

TEST(exec_of_unlinked_open_file)
{
	int fd = file_of("abc");
	char number[16];

	OK(unlink("f") == 0);
	snprintf(number, sizeof(number), "%d", fd);
	EQ(run_helper("read_descriptor", number, "abc", NULL), 0);
}

TEST(exec_stdout_to_file)
{
	int saved = dup(1), fd = file_of("");

	EQ(dup2(fd, 1), 1);
	EQ(shell("echo one; echo two >&2; echo three"), 0);
	EQ(dup2(saved, 1), 1);
	HOLDS("f", "one\nthree\n");
	EQ(position(fd), 10);
}

TEST(exec_stdin_from_file)
{
	EQ(dup2(file_of("line\n"), 0), 0);
	EQ(shell("read a && test $a = line"), 0);
}

TEST(shell_redirections)
{
	EQ(shell("echo a >f && echo b >>f && cat <f >g && test \"$(cat g)\" = \"$(printf "
		 "'a\\nb')\""),
		0);
}

TEST(shell_redirection_to_number)
{
	EQ(shell("exec 7>f; echo seven >&7; exec 7>&-; grep -q seven f"), 0);
}

TEST(shell_read_write_redirection)
{
	EQ(shell("echo abcdef >f; exec 5<>f; printf XY >&5; cat <&5 >g; exec 5>&-; "
		 "grep -q XYcdef f && grep -q cdef g"),
		0);
}

TEST(shell_noclobber)
{
	EQ(shell("set -C; echo a >f; (echo b >f) 2>/dev/null; grep -q a f"), 0);
}

TEST(shell_here_document)
{
	EQ(shell("cat >f <<E\ntext\nE\ngrep -q text f"), 0);
}

TEST(shell_pipe_between_files)
{
	EQ(shell("printf 'b\\na\\n' >f; sort <f | tr ab AB >g; test $(head -1 g) = A"),
		0);
}

static int pass(int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], got;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	OK(sendmsg(pair[0], &m, 0) == 1 && recvmsg(pair[1], &m, 0) == 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
	close(pair[0]);
	close(pair[1]);
	return got;
}

TEST(scm_rights_shares_the_offset)
{
	int fd = file_of("abcdef"), got = pass(fd);
	char text[4] = "";

	OK(got != fd && read(got, text, 3) == 3 && !strcmp(text, "abc"));
	EQ(position(fd), 3);
}

TEST(scm_rights_outlives_the_sender)
{
	int fd = file_of("abcdef"), got = pass(fd);

	OK(close(fd) == 0 && unlink("f") == 0);
	EQ(write(got, "X", 1), 1);
}

TEST(scm_rights_to_another_process)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], fd;
	pid_t pid;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	pid = fork();
	if (!pid) {
		char text[8] = "";

		OK(recvmsg(pair[1], &m, 0) == 1);
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
		OK(read(fd, text, 8) == 4 && !strcmp(text, "cdef"));
		_exit(0);
	}
	fd = file_of("abcdef");
	EQ(lseek(fd, 2, SEEK_SET), 2);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	OK(sendmsg(pair[0], &m, 0) == 1 && close(fd) == 0);
	EQ(finish(pid), 0);
}

TEST(pidfd_getfd_takes_a_descriptor)
{
	struct gate end = gate_new();
	int fd = file_of("abc"), got;
	pid_t pid = fork();
	char text[4] = "";

	if (!pid) {
		gate_wait(&end);
		_exit(0);
	}
	got = (int)syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, pid, 0), fd, 0);
	if (got < 0 && errno == EPERM)
		skip("not allowed to look into a child");
	OK(got >= 0 && read(got, text, 3) == 3 && !strcmp(text, "abc"));
	gate_open(&end);
	EQ(finish(pid), 0);
}

/* --- poll and its like ------------------------------------------------------------ */

TEST(poll_file_is_always_ready)
{
	struct pollfd p = {file_of(""), POLLIN | POLLOUT, 0};

	EQ(poll(&p, 1, -1), 1);
	EQ(p.revents, POLLIN | POLLOUT);
}

TEST(poll_read_only_file_is_writable_too)
{
	struct pollfd p = {.events = POLLIN | POLLOUT};

	put("f", "");
	p.fd = ro("f");
	EQ(poll(&p, 1, 0), 1);
	EQ(p.revents, POLLIN | POLLOUT);
}

TEST(poll_directory)
{
	struct pollfd p = {ro_dir("."), POLLIN, 0};

	OK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
}

TEST(poll_closed_descriptor)
{
	struct pollfd p = {99, POLLIN, 0};

	OK(poll(&p, 1, 0) == 1 && p.revents == POLLNVAL);
}

TEST(poll_file_and_pipe)
{
	struct pollfd p[2] = {{.events = POLLIN}, {file_of("x"), POLLIN, 0}};
	int ends[2];

	OK(pipe(ends) == 0);
	p[0].fd = ends[0];
	EQ(poll(p, 2, -1), 1);
	OK(!p[0].revents && p[1].revents == POLLIN);
}

TEST(ppoll_file)
{
	struct pollfd p = {file_of(""), POLLIN, 0};

	EQ(ppoll(&p, 1, NULL, NULL), 1);
}

TEST(select_file_is_always_ready)
{
	struct timeval none = {0, 0};
	fd_set in, out;
	int fd = file_of("");

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(fd, &in);
	FD_SET(fd, &out);
	EQ(select(fd + 1, &in, &out, NULL, &none), 2);
	OK(FD_ISSET(fd, &in) && FD_ISSET(fd, &out));
}

TEST(pselect_file)
{
	fd_set in;
	int fd = file_of("");

	FD_ZERO(&in);
	FD_SET(fd, &in);
	EQ(pselect(fd + 1, &in, NULL, NULL, NULL, NULL), 1);
}

TEST(epoll_refuses_files)
{
	struct epoll_event event = {.events = EPOLLIN};
	int poller = epoll_create1(0);

	FAILS(epoll_ctl(poller, EPOLL_CTL_ADD, file_of(""), &event), EPERM);
}

TEST(epoll_refuses_directories)
{
	struct epoll_event event = {.events = EPOLLIN};

	FAILS(epoll_ctl(epoll_create1(0), EPOLL_CTL_ADD, ro_dir("."), &event), EPERM);
}

/* --- ioctl ------------------------------------------------------------------------ */

TEST(ioctl_fionread)
{
	int fd = file_of("abcdef"), left = -1;

	EQ(lseek(fd, 2, SEEK_SET), 2);
	OK(ioctl(fd, FIONREAD, &left) == 0);
	EQ(left, 4);
}

TEST(ioctl_fioclex_and_fionclex)
{
	int fd = file_of("");

	OK(ioctl(fd, FIOCLEX) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	OK(ioctl(fd, FIONCLEX) == 0 && fcntl(fd, F_GETFD) == 0);
}

TEST(ioctl_fionbio)
{
	int fd = file_of(""), on = 1;

	OK(ioctl(fd, FIONBIO, &on) == 0);
	EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
}

TEST(ioctl_of_terminals)
{
	char buffer[256];

	FAILS(ioctl(file_of(""), TCGETS, buffer), ENOTTY);
	FAILS(ioctl(rw("f"), TIOCGWINSZ, buffer), ENOTTY);
	FAILS(isatty(rw("f")) - 1, ENOTTY);
	EQ(ttyname_r(rw("f"), buffer, sizeof(buffer)), ENOTTY);
}

TEST(ioctl_unknown)
{
	FAILS(ioctl(file_of(""), 0x12345678, 0), ENOTTY);
}

TEST(ioctl_closed_descriptor)
{
	FAILS(ioctl(99, FIONREAD, nowhere), EBADF);
}

TEST(ioctl_fionread_of_directory)
{
	int left;

	FAILS(ioctl(ro_dir("."), FIONREAD, &left), ENOTTY);
}

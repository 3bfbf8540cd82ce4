/* Duplicates, forks and passed descriptors share the file offset and the flags. */
#include <poll.h>
#include <sys/socket.h>

#include "posix.h"

static void check_dups(void)
{
	int a = open(at("f"), O_RDWR), b = dup(a), c;
	char text[4] = "";

	OK(read(a, text, 2) == 2 && lseek(b, 0, SEEK_CUR) == 2);
	c = fcntl(a, F_DUPFD, 100);
	OK(c >= 100 && read(c, text, 1) == 1 && text[0] == '2');
	OK(dup2(a, 77) == 77 && lseek(77, 0, SEEK_CUR) == 3);
	OK(dup3(a, 78, O_CLOEXEC) == 78 && fcntl(78, F_GETFD) == FD_CLOEXEC);
	OK(dup2(a, a) == a);
	FAILS(dup3(a, a, 0), EINVAL);
	FAILS(dup2(999, 5), EBADF);
	OK(fcntl(b, F_SETFL, O_APPEND) == 0 && (fcntl(a, F_GETFL) & O_APPEND));
	close(a);
	OK(lseek(b, 1, SEEK_SET) == 1 && lseek(77, 0, SEEK_CUR) == 1);
	close(b);
	/* A local file over a WFS one, and the other way round. */
	a = open("/dev/zero", O_RDONLY);
	OK(dup2(a, 77) == 77 && read(77, text, 2) == 2 && text[0] == 0);
	OK(dup2(c, a) == a && lseek(a, 0, SEEK_SET) == 0 && read(a, text, 1) == 1);
	OK(text[0] == '0');
	close(a);
	close(77);
	close(78);
	close(c);
	FAILS(lseek(c, 0, SEEK_CUR), EBADF);
}

static void check_fork(void)
{
	int fd = open(at("f"), O_RDWR | O_TRUNC);
	pid_t pid;

	OK(write(fd, "ab", 2) == 2);
	pid = fork();
	if (!pid) {
		_exit(write(fd, "cd", 2) == 2 && lseek(fd, 0, SEEK_CUR) == 4 ? 0 : 1);
	}
	OK(status_of(pid) == 0);
	OK(lseek(fd, 0, SEEK_CUR) == 4 && write(fd, "ef", 2) == 2);
	OK(holds("f", "abcdef"));
	close(fd);
}

/* A descriptor opened after a fork is not the one that the child still holds. */
static void check_fork_reuse(void)
{
	int fd = open(at("one"), O_RDWR | O_CREAT, 0644), go[2];
	char byte;
	pid_t pid;

	OK(write(fd, "one", 3) == 3 && pipe(go) == 0);
	pid = fork();
	if (!pid) {
		close(go[1]);
		if (read(go[0], &byte, 1) != 0)
			_exit(2);
		_exit(lseek(fd, 0, SEEK_CUR) == 3 && write(fd, "!", 1) == 1 ? 0 : 1);
	}
	close(fd);
	fd = open(at("two"), O_RDWR | O_CREAT, 0644);
	OK(write(fd, "two", 3) == 3 && lseek(fd, 0, SEEK_SET) == 0);
	close(go[0]);
	close(go[1]);
	OK(status_of(pid) == 0);
	OK(lseek(fd, 0, SEEK_CUR) == 0);
	OK(holds("one", "one!") && holds("two", "two"));
	close(fd);
}

/* A file without a name lives on in the child after the parent closed it. */
static void check_nameless(void)
{
	int fd = open(at("nameless"), O_RDWR | O_CREAT, 0644), go[2];
	char text[8] = "", byte;
	pid_t pid;

	OK(write(fd, "still", 5) == 5 && unlink(at("nameless")) == 0 && pipe(go) == 0);
	pid = fork();
	if (!pid) {
		close(go[1]);
		if (read(go[0], &byte, 1) != 0)
			_exit(2);
		_exit(pread(fd, text, 5, 0) == 5 && !strcmp(text, "still") ? 0 : 1);
	}
	close(fd);
	close(go[0]);
	close(go[1]);
	OK(status_of(pid) == 0);
}

static void check_rights(void)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control)};
	int pair[2], fd = open(at("two"), O_RDONLY), got;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	char text[4] = "";

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	OK(sendmsg(pair[0], &m, 0) == 1);
	OK(recvmsg(pair[1], &m, 0) == 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(got));
	OK(got != fd && read(got, text, 3) == 3 && !strcmp(text, "two"));
	OK(lseek(fd, 0, SEEK_CUR) == 3);
	close(fd);
	close(got);
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	struct pollfd p = {.events = POLLIN};

	posix_start(argc, argv);
	put("f", "0123456789");
	check_dups();
	check_fork();
	check_fork_reuse();
	check_nameless();
	check_rights();
	p.fd = open(at("f"), O_RDONLY);
	OK(poll(&p, 1, 0) == 1 && (p.revents & POLLIN));
	OK(close_range(3, ~0u, 0) == 0);
	FAILS(fcntl(p.fd, F_GETFD), EBADF);
	OK(holds("f", "abcdef"));
	return posix_end();
}

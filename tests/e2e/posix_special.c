/* FIFOs, Unix sockets, asynchronous I/O, calls by number, terminals, poll. */
#include <aio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "posix.h"

static void check_fifo(void)
{
	char text[8] = "";
	pid_t pid;
	int fd;

	OK(mkfifo(at("fifo"), 0644) == 0);
	FAILS(open(at("fifo"), O_WRONLY | O_NONBLOCK), ENXIO);
	pid = fork();
	if (!pid) {
		fd = open(at("fifo"), O_WRONLY);
		_exit(write(fd, "hello", 5) == 5 ? 0 : 1);
	}
	fd = open(at("fifo"), O_RDONLY);
	OK(read(fd, text, 5) == 5 && !strcmp(text, "hello") && read(fd, text, 1) == 0);
	close(fd);
	OK(status_of(pid) == 0 && unlink(at("fifo")) == 0);
}

static void check_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client, peer;
	struct stat st;
	char byte = 0;

	if (strlen(at("s")) >= sizeof(address.sun_path))
		return;
	strcpy(address.sun_path, at("s"));
	OK(bind(server, (struct sockaddr *)&address, sizeof(address)) == 0);
	OK(listen(server, 1) == 0 && stat(at("s"), &st) == 0 && S_ISSOCK(st.st_mode));
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	OK(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
	peer = accept(server, NULL, NULL);
	OK(write(client, "x", 1) == 1 && read(peer, &byte, 1) == 1 && byte == 'x');
	FAILS(bind(peer, (struct sockaddr *)&address, sizeof(address)), EADDRINUSE);
	FAILS(open(at("s"), O_RDONLY), ENXIO);
	close(server);
	close(client);
	close(peer);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	FAILS(connect(client, (struct sockaddr *)&address, sizeof(address)), ECONNREFUSED);
	close(client);
	OK(unlink(at("s")) == 0);
}

static void check_aio(void)
{
	char text[16] = "asynchronous", back[16] = "";
	struct aiocb cb = {.aio_buf = text, .aio_nbytes = 12, .aio_offset = 3};
	const struct aiocb *list[1] = {&cb};

	cb.aio_fildes = open(at("aio"), O_RDWR | O_CREAT, 0644);
	OK(aio_write(&cb) == 0);
	while (aio_error(&cb) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
	OK(aio_error(&cb) == 0 && aio_return(&cb) == 12);
	cb.aio_buf = back;
	OK(aio_read(&cb) == 0);
	while (aio_error(&cb) == EINPROGRESS)
		aio_suspend(list, 1, NULL);
	OK(aio_return(&cb) == 12 && !strcmp(back, text));
	close(cb.aio_fildes);
}

static void check_numbers(void)
{
	char text[8] = "", cwd[4096];
	struct stat st;
	int fd, fd2;

	fd = (int)syscall(SYS_open, at("n"), O_RDWR | O_CREAT, 0644);
	OK(fd >= 0 && syscall(SYS_write, fd, "number", 6) == 6);
	OK(syscall(SYS_pread64, fd, text, 6, 0L) == 6 && !strcmp(text, "number"));
	OK(syscall(SYS_lseek, fd, 0L, SEEK_CUR) == 6);
	fd2 = (int)syscall(SYS_dup, fd);
	OK(fd2 > fd && syscall(SYS_close, fd2) == 0);
	OK(syscall(SYS_fstat, fd, &st) == 0 && st.st_size == 6);
	OK(syscall(SYS_newfstatat, AT_FDCWD, at("n"), &st, 0) == 0 && st.st_size == 6);
	OK(syscall(SYS_renameat2, AT_FDCWD, at("n"), AT_FDCWD, at("m"), 0) == 0);
	OK(syscall(SYS_unlink, at("m")) == 0 && syscall(SYS_close, fd) == 0);
	FAILS(syscall(SYS_openat, AT_FDCWD, at("absent"), O_RDONLY), ENOENT);
	OK(syscall(SYS_getpid) == getpid());
	OK(syscall(SYS_getcwd, cwd, sizeof(cwd)) > 1);
}

static void check_terminal(void)
{
	int fd = open(at("aio"), O_RDONLY), left = -1;

	FAILS(isatty(fd) - 1, ENOTTY);
	OK(ioctl(fd, FIONREAD, &left) == 0 && left == 15);
	FAILS(ioctl(fd, TIOCGWINSZ, &left), ENOTTY);
	OK(ioctl(fd, FIOCLEX) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	close(fd);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	check_fifo();
	check_socket();
	check_aio();
	check_numbers();
	check_terminal();
	return posix_end();
}

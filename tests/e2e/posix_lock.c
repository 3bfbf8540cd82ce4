/* Locks between processes: flock, fcntl, and what ends with the descriptor. */
#include <sys/file.h>

#include "posix.h"

static int try_fcntl(short type, off_t start, off_t size)
{
	struct flock lock = {.l_type = type, .l_start = start, .l_len = size};
	int fd = open(at("f"), O_RDWR), rc;

	rc = fcntl(fd, F_SETLK, &lock) ? errno : 0;
	close(fd);
	return rc;
}

static int try_flock(int operation)
{
	int fd = open(at("f"), O_RDWR), rc;

	rc = flock(fd, operation | LOCK_NB) ? errno : 0;
	close(fd);
	return rc;
}

static int in_child(int (*body)(void))
{
	pid_t pid = fork();

	if (!pid)
		_exit(body());
	return status_of(pid);
}

static int child_whole(void)
{
	return try_fcntl(F_WRLCK, 0, 0);
}

static int child_other(void)
{
	return try_fcntl(F_WRLCK, 100, 10);
}

static int child_flock(void)
{
	return try_flock(LOCK_EX);
}

static int child_query(void)
{
	struct flock lock = {.l_type = F_WRLCK};
	int fd = open(at("f"), O_RDWR);

	if (fcntl(fd, F_GETLK, &lock) || lock.l_type != F_WRLCK || lock.l_pid != getppid())
		return 1;
	return 0;
}

int main(int argc, char **argv)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = 0, .l_len = 10};
	int fd, read_only;

	posix_start(argc, argv);
	put("f", "0123456789");
	fd = open(at("f"), O_RDWR);
	OK(fcntl(fd, F_SETLK, &lock) == 0);
	OK(in_child(child_whole) == EAGAIN && in_child(child_other) == 0);
	OK(in_child(child_query) == 0);
	lock.l_type = F_UNLCK;
	OK(fcntl(fd, F_SETLK, &lock) == 0 && in_child(child_whole) == 0);
	OK(flock(fd, LOCK_EX) == 0 && in_child(child_flock) == EWOULDBLOCK);
	OK(flock(fd, LOCK_UN) == 0 && in_child(child_flock) == 0);
	OK(flock(fd, LOCK_SH) == 0 && try_flock(LOCK_SH) == 0 && try_flock(LOCK_EX));
	close(fd);
	OK(try_flock(LOCK_EX) == 0);
	read_only = open(at("f"), O_RDONLY);
	lock.l_type = F_WRLCK;
	FAILS(fcntl(read_only, F_SETLK, &lock), EBADF);
	close(read_only);
	fd = open(at("f"), O_RDWR);
	OK(lockf(fd, F_TLOCK, 0) == 0 && in_child(child_whole) == EAGAIN);
	close(fd);
	OK(in_child(child_whole) == 0);
	return posix_end();
}

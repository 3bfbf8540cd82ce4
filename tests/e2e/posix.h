/*
 * For the posix_*.c programs: one behaviour each, in a directory given as argv[1], which
 * may be in WFS or local; the local run is the control. A failed expectation is a line on
 * stderr, and exit code 1 in the end.
 */
#ifndef WFS_TESTS_E2E_POSIX_H
#define WFS_TESTS_E2E_POSIX_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static char posix_top[4096];
static int posix_failed;

static inline void posix_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s (errno %d, %s)\n", file, line, what, errno,
		strerror(errno));
	posix_failed = 1;
}

#define OK(cond)                                                                         \
	do {                                                                             \
		errno = 0;                                                               \
		if (!(cond))                                                             \
			posix_fail(__FILE__, __LINE__, #cond);                           \
	} while (0)
#define FAILS(call, error)                                                               \
	do {                                                                             \
		errno = 0;                                                               \
		if ((long)(call) != -1 || errno != (error))                              \
			posix_fail(__FILE__, __LINE__, #call " fails with " #error);     \
	} while (0)

/* The path of a name in the test's directory; eight may be in use at once. */
static inline char *at(const char *name)
{
	static char paths[8][8300];
	static int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", posix_top, name);
	return path;
}

static inline void posix_start(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];

	if (argc < 2) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		exit(2);
	}
	umask(022);
	snprintf(posix_top, sizeof(posix_top), "%s/%s.%d", argv[1], name, (int)getpid());
	if (mkdir(posix_top, 0755)) {
		perror(posix_top);
		exit(2);
	}
}

static inline int posix_end(void)
{
	return posix_failed;
}

static inline void put(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	OK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* Whether the file holds exactly this text. */
static inline bool holds(const char *name, const char *text)
{
	char buffer[65536];
	int fd = open(at(name), O_RDONLY);
	ssize_t got = fd < 0 ? -1 : read(fd, buffer, sizeof(buffer) - 1);

	close(fd);
	if (got < 0)
		return false;
	buffer[got] = 0;
	if (strcmp(buffer, text))
		fprintf(stderr, "%s holds \"%s\", not \"%s\"\n", name, buffer, text);
	return !strcmp(buffer, text);
}

static inline int status_of(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

#endif

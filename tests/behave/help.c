/* What the tests share: expectations, processes, small files. See behave.h. */
#include <dirent.h>
#include <grp.h>
#include <stdarg.h>
#include <time.h>

#include "tests/behave/behave.h"

char test_dir[PATH_MAX];
char self_path[PATH_MAX];
char *volatile nowhere = (char *)8;

void unmet(const char *file, int line, const char *format, ...)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
	char text[1000];
	va_list ap;
	int size;

	size = snprintf(text, sizeof(text), "%s:%d: ", base, line);
	va_start(ap, format);
	vsnprintf(text + size, sizeof(text) - (size_t)size - 1, format, ap);
	va_end(ap);
	strcat(text, "\n");
	if (write(2, text, strlen(text)) < 0)
		_exit(2);
	_exit(1);
}

void skip(const char *reason)
{
	if (write(2, reason, strlen(reason)) < 0)
		_exit(2);
	_exit(77);
}

void holds_at(const char *file, int line, const char *name, const char *text, size_t size)
{
	char *buffer = malloc(1 << 20);
	int fd = open(name, O_RDONLY);
	ssize_t got = fd < 0 ? -1 : read(fd, buffer, 1 << 20);

	if (got < 0)
		unmet(file, line, "%s cannot be read: %s", name, strerror(errno));
	close(fd);
	if ((size_t)got != size || memcmp(buffer, text, size))
		unmet(file, line, "%s holds %zd bytes \"%.*s\", not %zu \"%.*s\"", name,
			got, got > 100 ? 100 : (int)got, buffer, size,
			size > 100 ? 100 : (int)size, text);
	free(buffer);
}

/* --- processes -------------------------------------------------------------------------
 */

bool child_begin(int line)
{
	pid_t pid = fork();
	int code;

	if (pid < 0)
		unmet("fork", line, "%s", strerror(errno));
	if (!pid)
		return true;
	code = finish(pid);
	if (code == 77)
		_exit(77);
	if (code)
		unmet("the child", line, "exit code %d", code);
	return false;
}

void need_root(void)
{
	if (geteuid())
		skip("not root");
}

bool become(uid_t uid, gid_t gid)
{
	OK(setgroups(0, NULL) == 0);
	OK(setresgid(gid, gid, gid) == 0);
	OK(setresuid(uid, uid, uid) == 0);
	return true;
}

int finish(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

int shell(const char *format, ...)
{
	char command[9000];
	va_list ap;
	pid_t pid;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	pid = fork();
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return finish(pid);
}

int run_helper(const char *name, ...)
{
	char *argv[16] = {self_path, (char *)"--as", (char *)name};
	int count = 3;
	va_list ap;
	pid_t pid;

	va_start(ap, name);
	while (count < 15 && (argv[count] = va_arg(ap, char *)))
		count++;
	va_end(ap);
	pid = fork();
	if (!pid) {
		execv(self_path, argv);
		_exit(127);
	}
	return finish(pid);
}

struct gate gate_new(void)
{
	struct gate g;

	OK(pipe(g.ends) == 0);
	return g;
}

void gate_open(struct gate *g)
{
	OK(write(g->ends[1], "!", 1) == 1);
}

void gate_wait(struct gate *g)
{
	char byte;

	OK(read(g->ends[0], &byte, 1) == 1);
}

/* --- files -----------------------------------------------------------------------------
 */

void put(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	OK(fd >= 0);
	OK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	OK(close(fd) == 0);
}

char byte_at(size_t offset)
{
	return (char)('a' + (offset * 7 + offset / 1000 * 3) % 26);
}

void put_size(const char *name, size_t size)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	char *data = malloc(size + 1);

	OK(fd >= 0 && data);
	for (size_t i = 0; i < size; i++)
		data[i] = byte_at(i);
	EQ(write(fd, data, size), size);
	OK(close(fd) == 0);
	free(data);
}

void dir(const char *name)
{
	if (mkdir(name, 0755))
		unmet(name, 0, "mkdir: %s", strerror(errno));
}

void sym(const char *target, const char *name)
{
	if (symlink(target, name))
		unmet(name, 0, "symlink: %s", strerror(errno));
}

static int opened(const char *name, int flags)
{
	int fd = open(name, flags, 0644);

	if (fd < 0)
		unmet(name, 0, "open: %s", strerror(errno));
	return fd;
}

int ro(const char *name)
{
	return opened(name, O_RDONLY);
}

int wo(const char *name)
{
	return opened(name, O_WRONLY);
}

int rw(const char *name)
{
	return opened(name, O_RDWR | O_CREAT);
}

int ro_dir(const char *name)
{
	return opened(name, O_RDONLY | O_DIRECTORY);
}

struct stat see(const char *name)
{
	struct stat st;

	if (lstat(name, &st))
		unmet(name, 0, "lstat: %s", strerror(errno));
	return st;
}

struct stat fsee(int fd)
{
	struct stat st;

	OK(fstat(fd, &st) == 0);
	return st;
}

mode_t mode_of(const char *name)
{
	return see(name).st_mode & 07777;
}

bool there(const char *name)
{
	struct stat st;

	if (lstat(name, &st) == 0)
		return true;
	if (errno != ENOENT)
		unmet(name, 0, "lstat: %s", strerror(errno));
	return false;
}

char *full(const char *name)
{
	static char paths[8][2 * PATH_MAX];
	static int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", test_dir, name);
	return path;
}

void tick(void)
{
	struct timespec pause = {0, 12000000};

	nanosleep(&pause, NULL);
}

int compare_times(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return (a.tv_nsec > b.tv_nsec) - (a.tv_nsec < b.tv_nsec);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

const char *names_in(const char *name)
{
	static char list[64][256], text[64 * 257];
	DIR *stream = opendir(name);
	struct dirent *e;
	size_t count = 0;

	if (!stream)
		unmet(name, 0, "opendir: %s", strerror(errno));
	while ((e = readdir(stream)) && count < 64)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			strcpy(list[count++], e->d_name);
	closedir(stream);
	qsort(list, count, sizeof(list[0]), by_text);
	text[0] = 0;
	for (size_t i = 0; i < count; i++)
		sprintf(text + strlen(text), "%s%s", i ? " " : "", list[i]);
	return text;
}

const char *other_fs(void)
{
	static char path[] = "/dev/shm/behave-XXXXXX";

	if (!mkdtemp(path))
		skip("no /dev/shm");
	return path;
}

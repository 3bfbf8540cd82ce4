/*
 * fork and exec.
 *
 * vfork is fork: its child would share the shim's tables with the parent. Placeholders in
 * use at a fork or spawn may live on in the child, so they are counted as shared.
 *
 * A program that lies in WFS is copied to a memfd and executed from there; a script's
 * interpreter line is read here and the interpreter executed with the script's path, as
 * the kernel would do.
 */
#include <linux/memfd.h>
#include <pty.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/preload/process.h"

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/map.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define SCRIPT_LINE_MAX  256
#define SCRIPT_DEPTH_MAX 4
#define COPY_SIZE        (1u << 20)

static void before_fork(void)
{
	if (fs_mode != FS_ON)
		return;
	fd_shared();
	(void)map_flush_file(NULL);
}

static pid_t WFS_USED wfs_fork(void)
{
	before_fork();
	return REAL(fork)();
}
EXPORT(fork, wfs_fork);
EXPORT(__fork, wfs_fork);
EXPORT(vfork, wfs_fork);
EXPORT(__vfork, wfs_fork);

static pid_t WFS_USED wfs__Fork(void)
{
	before_fork();
	return REAL(_Fork)();
}
EXPORT(_Fork, wfs__Fork);

/* The later arguments go through as they are, given or not. */
static int WFS_USED wfs_clone(int (*fn)(void *), void *stack, int flags, void *arg, void *a,
	void *b, void *c)
{
	before_fork();
	return REAL(clone)(fn, stack, flags, arg, a, b, c);
}
EXPORT(clone, wfs_clone);

static int WFS_USED wfs_forkpty(
	int *fd, char *name, const struct termios *termios, const struct winsize *size)
{
	before_fork();
	return REAL(forkpty)(fd, name, termios, size);
}
EXPORT(forkpty, wfs_forkpty);

static int WFS_USED wfs_daemon(int nochdir, int noclose)
{
	int rc;

	before_fork();
	rc = REAL(daemon)(nochdir, noclose);
	for (int fd = 0; !rc && !noclose && fd < 3; fd++)
		fd_unknown(fd);
	if (!rc && !nochdir)
		return wfs_chdir("/");
	return rc;
}
EXPORT(daemon, wfs_daemon);

/* --- executing what is in WFS ------------------------------------------------------- */

static int write_fully(int fd, const char *data, size_t size)
{
	while (size) {
		long n = raw(SYS_write, fd, data, size);

		if (n < 0)
			return (int)n;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* The file's bytes in a memfd. fd or an error. */
static int program_copy(struct client *c, struct client_file *cf)
{
	uint64_t offset = 0;
	int fd, rc = 0;
	long map;

	map = raw(SYS_mmap, NULL, COPY_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map < 0 && map > -4096)
		return (int)map;
	fd = (int)raw(SYS_memfd_create, "wfs-program", MFD_CLOEXEC);
	while (fd >= 0 && !rc) {
		ssize_t got = client_read(c, cf, (void *)map, COPY_SIZE, offset);

		if (got <= 0) {
			rc = (int)got;
			break;
		}
		rc = write_fully(fd, (void *)map, (size_t)got);
		offset += (uint64_t)got;
	}
	(void)raw(SYS_munmap, map, COPY_SIZE);
	if (fd >= 0 && rc) {
		(void)raw(SYS_close, fd);
		fd = rc;
	}
	return fd;
}

/* "#! interpreter [argument]" in line: cut into strings. False: none. */
static bool script_parse(char *line, char **interpreter, char **argument)
{
	char *p = line + 2, *end;

	line[strcspn(line, "\n")] = 0;
	p += strspn(p, " \t");
	if (!*p)
		return false;
	*interpreter = p;
	*argument = NULL;
	end = p + strcspn(p, " \t");
	if (!*end)
		return true;
	*end++ = 0;
	end += strspn(end, " \t");
	if (!*end)
		return true;
	*argument = end;
	for (end += strlen(end); end > *argument && (end[-1] == ' ' || end[-1] == '\t'); end--)
		end[-1] = 0;
	return true;
}

static int exec_path(int dirfd, const char *path, char *const argv[], char **env, int flags,
	unsigned depth);

static int exec_script(char *line, const char *path, char *const argv[], char **env,
	unsigned depth)
{
	char *interpreter, *argument;
	size_t count = 0, used = 0;
	const char **args;
	long map;
	int rc;

	if (!script_parse(line, &interpreter, &argument))
		return -ENOEXEC;
	if (depth >= SCRIPT_DEPTH_MAX)
		return -ELOOP;
	while (argv && argv[count])
		count++;
	map = raw(SYS_mmap, NULL, (count + 4) * sizeof(char *), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map < 0 && map > -4096)
		return (int)map;
	args = (const char **)map;
	args[used++] = interpreter;
	if (argument)
		args[used++] = argument;
	args[used++] = path;
	for (size_t i = 1; i < count; i++)
		args[used++] = argv[i];
	args[used] = NULL;
	rc = exec_path(AT_FDCWD, interpreter, (char *const *)args, env, 0, depth + 1);
	(void)raw(SYS_munmap, map, (count + 4) * sizeof(char *));
	return rc;
}

/* path: how a script's interpreter is to find it again. */
static int exec_place(struct place *p, const char *path, char *const argv[], char **env,
	int flags, unsigned depth)
{
	int follow = flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0;
	char line[SCRIPT_LINE_MAX + 1];
	struct client_file cf = {0};
	struct client_attr attr = {0};
	ssize_t got;
	int fd, rc;

	rc = client_open(p->client, &p->where, O_RDONLY | follow, 0, &cf, &attr);
	if (rc)
		return rc;
	rc = client_getattr(p->client, cf.ino, &attr);
	if (!rc)
		rc = S_ISREG(attr.mode) ? access_check(&attr, X_OK, true) : -EACCES;
	if (rc)
		goto out;
	got = client_read(p->client, &cf, line, SCRIPT_LINE_MAX, 0);
	rc = got < 0 ? (int)got : -ENOEXEC;
	if (got < 2)
		goto out;
	line[got] = 0;
	if (line[0] == '#' && line[1] == '!') {
		rc = exec_script(line, path, argv, env, depth);
		goto out;
	}
	if (got < 4 || memcmp(line, "\177ELF", 4))
		goto out;
	fd = rc = program_copy(p->client, &cf);
	if (fd >= 0) {
		rc = (int)raw(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
		(void)raw(SYS_close, fd);
	}
out:
	client_close(p->client, &cf);
	return rc;
}

/* How an interpreter finds a script that is executed by its descriptor, or relative to
 * one: "/proc/self/fd/N", "/proc/self/fd/N/path". */
static void script_by_fd(int fd, const char *path, char *out)
{
	char digits[12];
	int count = 0;

	out = stpcpy(out, "/proc/self/fd/");
	for (; fd || !count; fd /= 10)
		digits[count++] = (char)('0' + fd % 10);
	while (count)
		*out++ = digits[--count];
	if (*path)
		*out++ = '/';
	(void)stpcpy(out, path);
}

/* What the kernel executes; but when it does not find a script's interpreter, that may be
 * in WFS. */
static int exec_local(int dirfd, const char *path, char *const argv[], char **env,
	int flags, unsigned depth)
{
	char line[SCRIPT_LINE_MAX + 1];
	long fd, got;
	int rc;

	if (dirfd == AT_FDCWD && !flags)
		rc = REAL(execve)(path, argv, env) ? -errno : 0;
	else
		rc = REAL(execveat)(dirfd, path, argv, env, flags) ? -errno : 0;
	if (rc != -ENOENT || !fs_on() || !*path)
		return rc;
	fd = raw(SYS_openat, dirfd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return rc;
	got = raw(SYS_read, fd, line, SCRIPT_LINE_MAX);
	(void)raw(SYS_close, fd);
	if (got < 2 || line[0] != '#' || line[1] != '!')
		return rc;
	line[got] = 0;
	return exec_script(line, path, argv, env, depth);
}

static int exec_path(int dirfd, const char *path, char *const argv[], char **env,
	int flags, unsigned depth)
{
	char script[WFS_PATH_MAX + 40];
	struct place p;
	int rc = place_find(dirfd, path, flags, &p);

	if (rc < 0)
		return rc;
	if (rc == PLACE_WFS) {
		const char *seen = path;

		if (dirfd != AT_FDCWD && *path != '/') {
			script_by_fd(dirfd, path, script);
			seen = script;
		}
		rc = exec_place(&p, seen, argv, env, flags, depth);
		if (!place_left(&p, rc))
			return (int)fs_result(rc);
		path = p.outside;
		dirfd = AT_FDCWD;
	}
	return exec_local(dirfd, path, argv, env, flags, depth);
}

int wfs_execveat(int dirfd, const char *path, char *const argv[], char *const envp[],
	int flags)
{
	struct exec_env e;
	int rc = exec_env_make(envp, &e);

	if (rc)
		return (int)answer(rc);
	fd_shared();
	(void)map_flush_file(NULL);
	rc = exec_path(dirfd, path, argv, e.env, flags, 0);
	exec_env_drop(&e);
	return (int)answer(rc);
}
EXPORT(execveat, wfs_execveat);

int wfs_execve(const char *path, char *const argv[], char *const envp[])
{
	return wfs_execveat(AT_FDCWD, path, argv, envp, 0);
}
EXPORT(execve, wfs_execve);

static int WFS_USED wfs_fexecve(int fd, char *const argv[], char *const envp[])
{
	return wfs_execveat(fd, "", argv, envp, AT_EMPTY_PATH);
}
EXPORT(fexecve, wfs_fexecve);

/* --- the rest of the exec family ---------------------------------------------------- */

static int WFS_USED wfs_execv(const char *path, char *const argv[])
{
	return wfs_execve(path, argv, environ);
}
EXPORT(execv, wfs_execv);

/* What is no program and no script with a line is a shell script. */
static int exec_or_shell(const char *path, char *const argv[], char *const envp[])
{
	size_t count = 0, size;
	const char **args;
	long map;

	(void)wfs_execve(path, argv, envp);
	if (errno != ENOEXEC)
		return -1;
	while (argv && argv[count])
		count++;
	size = (count + 3) * sizeof(char *);
	map = raw(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	if (map < 0 && map > -4096)
		return (int)answer(map);
	args = (const char **)map;
	args[0] = "/bin/sh";
	args[1] = path;
	for (size_t i = 1; i < count; i++)
		args[i + 1] = argv[i];
	args[count ? count + 1 : 2] = NULL;
	(void)wfs_execve("/bin/sh", (char *const *)args, envp);
	(void)raw(SYS_munmap, map, size);
	return -1;
}

int exec_search(const char *file, char *const argv[], char *const envp[])
{
	const char *path = env_value(environ, "PATH");
	char full[WFS_PATH_MAX];
	bool denied = false;

	if (strchr(file, '/') || !*file)
		return *file ? exec_or_shell(file, argv, envp) : (int)answer(-ENOENT);
	if (!path)
		path = "/bin:/usr/bin";
	for (;; path++) {
		size_t size = strcspn(path, ":");

		if (size + 1 + strlen(file) < sizeof(full)) {
			char *end = full;

			if (size) {
				memcpy(full, path, size);
				end = full + size;
				*end++ = '/';
			}
			strcpy(end, file);
			(void)exec_or_shell(full, argv, envp);
			if (errno == EACCES)
				denied = true;
			else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE &&
				 errno != ENODEV && errno != ETIMEDOUT)
				return -1;
		}
		path += size;
		if (!*path)
			return (int)answer(denied ? -EACCES : -ENOENT);
	}
}

static int WFS_USED wfs_execvpe(const char *file, char *const argv[], char *const envp[])
{
	return exec_search(file, argv, envp);
}
EXPORT(execvpe, wfs_execvpe);

static int WFS_USED wfs_execvp(const char *file, char *const argv[])
{
	return exec_search(file, argv, environ);
}
EXPORT(execvp, wfs_execvp);

static size_t list_count(va_list ap)
{
	size_t count = 1;

	while (va_arg(ap, char *))
		count++;
	return count;
}

/* The arguments from `first` to the NULL, on the stack of the caller. */
#define LIST_TAKE(first, ap, argv)                                                       \
	do {                                                                             \
		size_t n_;                                                               \
                                                                                         \
		va_start(ap, first);                                                     \
		n_ = list_count(ap);                                                     \
		va_end(ap);                                                              \
		argv = __builtin_alloca((n_ + 1) * sizeof(char *));                      \
		va_start(ap, first);                                                     \
		argv[0] = (char *)first;                                                 \
		for (size_t i_ = 1; i_ <= n_; i_++)                                      \
			argv[i_] = va_arg(ap, char *);                                   \
	} while (0)

static int WFS_USED wfs_execl(const char *path, const char *first, ...)
{
	char **argv;
	va_list ap;

	LIST_TAKE(first, ap, argv);
	va_end(ap);
	return wfs_execve(path, argv, environ);
}
EXPORT(execl, wfs_execl);

static int WFS_USED wfs_execlp(const char *file, const char *first, ...)
{
	char **argv;
	va_list ap;

	LIST_TAKE(first, ap, argv);
	va_end(ap);
	return exec_search(file, argv, environ);
}
EXPORT(execlp, wfs_execlp);

static int WFS_USED wfs_execle(const char *path, const char *first, ...)
{
	char *const *envp;
	char **argv;
	va_list ap;

	LIST_TAKE(first, ap, argv);
	envp = va_arg(ap, char *const *);
	va_end(ap);
	return wfs_execve(path, argv, envp);
}
EXPORT(execle, wfs_execle);

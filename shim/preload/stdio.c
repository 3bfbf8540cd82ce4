/*
 * Streams.
 *
 * libc's FILE does its I/O through five slots (read, write, seek, close, stat) of its jump
 * tables. When the first WFS stream is made they are pointed at the shim, once, after a
 * check that each holds the function that libc exports as the default. All of buffering,
 * wide characters, ungetc and locking stays libc's. Where the check fails, WFS streams
 * are made by fopencookie, which lacks wide I/O.
 *
 * A WFS stream is a libc stream of /dev/null, with the right mode, whose descriptor is
 * then exchanged for the placeholder's. freopen opens the stream's own number anew in the
 * same way, so the FILE and its number stay.
 */
#include "shim/preload/stdio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/process.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

extern void *_IO_file_jumps[];
extern void *_IO_wfile_jumps[];
extern ssize_t _IO_file_read(FILE *, void *, ssize_t);
extern ssize_t _IO_file_write(FILE *, const void *, ssize_t);
extern off_t _IO_file_seek(FILE *, off_t, int);
extern int _IO_file_close(FILE *);
extern int _IO_file_stat(FILE *, void *);
#pragma weak _IO_file_jumps
#pragma weak _IO_wfile_jumps
#pragma weak _IO_file_read
#pragma weak _IO_file_write
#pragma weak _IO_file_seek
#pragma weak _IO_file_close
#pragma weak _IO_file_stat

enum { SLOT_READ = 14, SLOT_COUNT = 5 };
enum { PATCH_NONE, PATCH_DONE, PATCH_FAILED };

static _Atomic int patched;
static struct guard patch_guard;

static bool is_wfs(int fd)
{
	struct file *f = fd_file(fd);

	fd_put(f);
	return f != NULL;
}

static ssize_t slot_read(FILE *fp, void *data, ssize_t size)
{
	if (!is_wfs(fp->_fileno))
		return _IO_file_read(fp, data, size);
	return wfs_read(fp->_fileno, data, (size_t)size);
}

/* As libc's: all of it or an error, and the remembered offset moves. */
static ssize_t slot_write(FILE *fp, const void *data, ssize_t size)
{
	ssize_t done = 0;

	if (!is_wfs(fp->_fileno))
		return _IO_file_write(fp, data, size);
	while (done < size) {
		ssize_t n = wfs_write(
			fp->_fileno, (const char *)data + done, (size_t)(size - done));

		if (n < 0) {
			fp->_flags |= 0x20; /* _IO_ERR_SEEN */
			break;
		}
		done += n;
	}
	if (fp->_offset >= 0)
		fp->_offset += done;
	return done;
}

static off_t slot_seek(FILE *fp, off_t offset, int whence)
{
	if (!is_wfs(fp->_fileno))
		return _IO_file_seek(fp, offset, whence);
	return wfs_lseek(fp->_fileno, offset, whence);
}

static int slot_close(FILE *fp)
{
	if (!is_wfs(fp->_fileno)) {
		(void)fd_closing(fp->_fileno);
		return _IO_file_close(fp);
	}
	return wfs_close(fp->_fileno);
}

static int slot_stat(FILE *fp, void *st)
{
	if (!is_wfs(fp->_fileno))
		return _IO_file_stat(fp, st);
	return wfs_fstat(fp->_fileno, st);
}

static bool table_check(void **table)
{
	void *wanted[SLOT_COUNT] = {(void *)_IO_file_read, (void *)_IO_file_write,
		(void *)_IO_file_seek, (void *)_IO_file_close, (void *)_IO_file_stat};

	return table && !memcmp(&table[SLOT_READ], wanted, sizeof(wanted));
}

static bool table_patch(void **table)
{
	void *ours[SLOT_COUNT] = {(void *)slot_read, (void *)slot_write, (void *)slot_seek,
		(void *)slot_close, (void *)slot_stat};
	uintptr_t first = (uintptr_t)&table[SLOT_READ] & ~4095ul;
	uintptr_t end = ((uintptr_t)&table[SLOT_READ + SLOT_COUNT] + 4095) & ~4095ul;

	if (raw(SYS_mprotect, first, end - first, PROT_READ | PROT_WRITE))
		return false;
	for (int i = 0; i < SLOT_COUNT; i++)
		__atomic_store_n(&table[SLOT_READ + i], ours[i], __ATOMIC_RELEASE);
	(void)raw(SYS_mprotect, first, end - first, PROT_READ);
	return true;
}

void stdio_patch(void)
{
	static const char message[] = "wfs: unknown libc streams, using cookies\n";
	bool locked;

	if (patched)
		return;
	locked = guard_lock(&patch_guard);
	if (!patched) {
		bool good = table_check(_IO_file_jumps) && table_check(_IO_wfile_jumps) &&
			    table_patch(_IO_file_jumps) && table_patch(_IO_wfile_jumps);

		patched = good ? PATCH_DONE : PATCH_FAILED;
		if (!good && fs_settings()->debug)
			(void)raw(SYS_write, 2, message, sizeof(message) - 1);
	}
	guard_unlock(&patch_guard, locked);
}

/* Standard streams that a shell has redirected to WFS. They are made ours at once: the
 * shell may close a file without a name, and then it must be open here. */
static void __attribute__((constructor)) stdio_start(void)
{
	struct file *f;
	struct client *c;

	if (!fs_on())
		return;
	for (int fd = 0; fd < 3; fd++)
		if (!fd_client(fd, &f, &c) && f) {
			fd_put(f);
			stdio_patch();
		}
}

/* --- streams without the patch ------------------------------------------------------ */

static ssize_t cookie_read(void *cookie, char *data, size_t size)
{
	return wfs_read((int)(intptr_t)cookie, data, size);
}

static ssize_t cookie_write(void *cookie, const char *data, size_t size)
{
	ssize_t n = wfs_write((int)(intptr_t)cookie, data, size);

	return n < 0 ? 0 : n;
}

static int cookie_seek(void *cookie, off_t *offset, int whence)
{
	off_t rc = wfs_lseek((int)(intptr_t)cookie, *offset, whence);

	if (rc < 0)
		return -1;
	*offset = rc;
	return 0;
}

static int cookie_close(void *cookie)
{
	return wfs_close((int)(intptr_t)cookie);
}

/* --- making streams ----------------------------------------------------------------- */

struct mode {
	int flags;
	char text[8]; /* for libc, without what concerns only the opening */
};

static bool mode_parse(const char *mode, struct mode *out)
{
	bool plus = false;
	size_t size = 1;

	if (*mode != 'r' && *mode != 'w' && *mode != 'a')
		return false;
	out->flags = *mode == 'r' ? 0 : *mode == 'w' ? O_CREAT | O_TRUNC : O_CREAT | O_APPEND;
	out->text[0] = *mode;
	for (const char *p = mode + 1; *p && *p != ','; p++) {
		if (*p == '+')
			plus = true;
		else if (*p == 'x')
			out->flags |= O_EXCL;
		else if (*p == 'e')
			out->flags |= O_CLOEXEC;
	}
	out->flags |= plus ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
	if (plus)
		out->text[size++] = '+';
	out->text[size++] = 'e';
	out->text[size] = 0;
	return true;
}

/* A stream on fd, which is a WFS file. */
static FILE *stream_on(int fd, const struct mode *mode)
{
	static const cookie_io_functions_t functions = {
		cookie_read, cookie_write, cookie_seek, cookie_close};
	FILE *fp;

	stdio_patch();
	if (patched != PATCH_DONE) {
		fp = fopencookie((void *)(intptr_t)fd, mode->text, functions);
		if (fp)
			fp->_fileno = fd;
		return fp;
	}
	fp = REAL(fopen)("/dev/null", mode->text);
	if (!fp)
		return NULL;
	(void)fd_closing(fp->_fileno);
	(void)raw(SYS_close, fp->_fileno);
	fp->_fileno = fd;
	fp->_offset = -1;
	if (mode->text[0] == 'a' && mode->text[1] != '+')
		(void)wfs_lseek(fd, 0, SEEK_END);
	return fp;
}

static FILE *WFS_USED wfs_fopen(const char *path, const char *text)
{
	struct mode mode;
	FILE *fp;
	int fd;

	if (!path_is_wfs(AT_FDCWD, path))
		return REAL(fopen)(path, text);
	if (!mode_parse(text, &mode)) {
		errno = EINVAL;
		return NULL;
	}
	fd = wfs_openat_mode(AT_FDCWD, path, mode.flags, 0666);
	if (fd < 0)
		return NULL;
	/* A symlink may have led outside the mount. */
	fp = is_wfs(fd) ? stream_on(fd, &mode) : REAL(fdopen)(fd, text);
	if (!fp) {
		int saved = errno;

		(void)wfs_close(fd);
		errno = saved;
	}
	return fp;
}
EXPORT(fopen, wfs_fopen);
EXPORT(fopen64, wfs_fopen);
EXPORT(_IO_fopen, wfs_fopen);

static FILE *WFS_USED wfs_fdopen(int fd, const char *text)
{
	struct file *f = fd_file(fd);
	unsigned access;
	struct mode mode;
	FILE *fp;

	if (!f)
		return REAL(fdopen)(fd, text);
	access = f->flags & O_ACCMODE;
	fd_put(f);
	if (!mode_parse(text, &mode) ||
		(access == O_RDONLY && (mode.flags & O_ACCMODE) != O_RDONLY) ||
		(access == O_WRONLY && (mode.flags & O_ACCMODE) != O_WRONLY)) {
		errno = EINVAL;
		return NULL;
	}
	if (mode.flags & O_APPEND)
		(void)wfs_fcntl_long(fd, F_SETFL, wfs_fcntl_long(fd, F_GETFL, 0) | O_APPEND);
	if (mode.flags & O_CLOEXEC)
		(void)raw(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
	fp = stream_on(fd, &mode);
	return fp;
}
EXPORT(fdopen, wfs_fdopen);
EXPORT(_IO_fdopen, wfs_fdopen);

/* The stream closes, and what libc put on its number is looked at anew. */
static FILE *freopen_local(const char *path, const char *text, FILE *fp)
{
	int fd = fp->_fileno;

	fp = REAL(freopen)(path, text, fp);
	fd_unknown(fd);
	if (fp)
		fd_unknown(fp->_fileno);
	return fp;
}

static FILE *WFS_USED wfs_freopen(const char *path, const char *text, FILE *fp)
{
	bool here = !path && fs_on() && is_wfs(fp->_fileno);
	char self[32] = "/proc/self/fd/";
	struct mode mode;
	int fd, saved;

	if (!here && !path_is_wfs(AT_FDCWD, path))
		return fs_on() ? freopen_local(path, text, fp) : REAL(freopen)(path, text, fp);
	if (!mode_parse(text, &mode)) {
		errno = EINVAL;
		return NULL;
	}
	if (here) {
		/* Another mode for the same file. */
		size_t size = strlen(self);
		int number = fp->_fileno;

		for (int unit = 10000; unit; unit /= 10)
			if (number >= unit || unit == 1)
				self[size++] = (char)('0' + number / unit % 10);
		self[size] = 0;
		path = self;
		(void)fflush(fp);
	}
	fd = wfs_openat_mode(AT_FDCWD, path, here ? mode.flags & ~O_CREAT : mode.flags, 0666);
	saved = errno;
	fp = freopen_local("/dev/null", mode.text, fp);
	if (!fp || fd < 0) {
		if (fd >= 0)
			(void)wfs_close(fd);
		if (fp)
			(void)fclose(fp);
		errno = saved;
		return NULL;
	}
	stdio_patch();
	(void)fd_dup_to(fd, fp->_fileno, mode.flags & O_CLOEXEC);
	(void)wfs_close(fd);
	fp->_offset = -1;
	return fp;
}
EXPORT(freopen, wfs_freopen);
EXPORT(freopen64, wfs_freopen);

/* --- children of streams ------------------------------------------------------------ */

/* libc gives environ to the shell: for the time of the call it is what exec would use. */
static FILE *WFS_USED wfs_popen(const char *command, const char *mode)
{
	struct exec_env e;
	char **before = environ;
	FILE *fp;

	if (!fs_on() || exec_env_make(environ, &e))
		return REAL(popen)(command, mode);
	fd_shared();
	environ = e.env;
	fp = REAL(popen)(command, mode);
	environ = before;
	exec_env_drop(&e);
	if (fp)
		fd_unknown(fp->_fileno);
	return fp;
}
EXPORT(popen, wfs_popen);

static int WFS_USED wfs_system(const char *command)
{
	struct exec_env e;
	char **before = environ;
	int rc;

	if (!fs_on() || exec_env_make(environ, &e))
		return REAL(system)(command);
	fd_shared();
	environ = e.env;
	rc = REAL(system)(command);
	environ = before;
	exec_env_drop(&e);
	return rc;
}
EXPORT(system, wfs_system);

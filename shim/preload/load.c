/*
 * dlopen of a library in WFS: from a copy in a memfd. For all others libc's function must
 * see its real caller (RUNPATH, namespace), so it is entered by a jump, not a call; the
 * registers hold the arguments as they came.
 */
#include <dlfcn.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define COPY_SIZE (1u << 20)

/* The real function, or NULL when the library is in WFS. */
void *load_target(const char *path);
void *load_target(const char *path)
{
	if (path && strchr(path, '/') && path_is_wfs(AT_FDCWD, path))
		return NULL;
	return real_get(REAL_dlopen);
}

static int library_copy(int from)
{
	long map = raw(SYS_mmap, NULL, COPY_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int to = (int)raw(SYS_memfd_create, "wfs-library", MFD_CLOEXEC);
	ssize_t got = 0;

	if (map < 0 && map > -4096)
		return (int)map;
	while (to >= 0 && (got = wfs_read(from, (void *)map, COPY_SIZE)) > 0)
		if (raw(SYS_write, to, map, got) != got) {
			got = -1;
			break;
		}
	(void)raw(SYS_munmap, map, COPY_SIZE);
	if (to >= 0 && got < 0) {
		(void)raw(SYS_close, to);
		return -EIO;
	}
	return to;
}

/* "/proc/self/fd/N", spelled in a way that no library had before: the loader takes equal
 * names for the same library. */
static void copy_name(char *name, int fd)
{
	static _Atomic unsigned serial;
	unsigned number = serial++;
	char *end = stpcpy(name, "/proc/self/fd/");

	for (int bit = 0; bit < 16; bit++)
		end = stpcpy(end, number >> bit & 1 ? "./" : "/");
	for (int unit = 10000; unit; unit /= 10)
		if (fd >= unit || unit == 1)
			*end++ = (char)('0' + fd / unit % 10);
	*end = 0;
}

void *load_copy(const char *path, int mode);
void *WFS_USED load_copy(const char *path, int mode)
{
	int from = wfs_openat_mode(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	char name[64];
	void *handle = NULL;
	int to;

	if (from < 0)
		return REAL(dlopen)(path, mode);
	to = library_copy(from);
	(void)wfs_close(from);
	if (to >= 0) {
		copy_name(name, to);
		handle = REAL(dlopen)(name, mode);
		(void)raw(SYS_close, to);
	}
	return handle;
}

__asm__(".globl dlopen\n"
	".type dlopen, @function\n"
	"dlopen:\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	pushq %rsi\n"
	"	subq $8, %rsp\n"
	"	call load_target\n"
	"	addq $8, %rsp\n"
	"	popq %rsi\n"
	"	popq %rdi\n"
	"	testq %rax, %rax\n"
	"	je load_copy\n"
	"	jmp *%rax\n"
	".size dlopen, .-dlopen\n");

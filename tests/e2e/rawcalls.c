/*
 * A program as Go makes them: static, without libc's file calls, all by system call. Makes,
 * writes, maps, lists, renames and removes in the directory given; 0 if all is as it should.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry { /* linux_dirent64 */
	uint64_t ino;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
};

#define MUST(cond)                                                                       \
	do {                                                                             \
		if (!(cond)) {                                                           \
			dprintf(2, "line %d: %s: errno %d\n", __LINE__, #cond, errno);   \
			return 1;                                                        \
		}                                                                        \
	} while (0)

static int list(long dir)
{
	_Alignas(8) char buf[4096];
	int names = 0;
	long n;

	while ((n = syscall(SYS_getdents64, dir, buf, sizeof(buf))) > 0)
		for (long at = 0; at < n;) {
			struct entry *e = (struct entry *)(void *)(buf + at);

			names += e->name[0] != '.';
			at += e->size;
		}
	return n < 0 ? -1 : names;
}

int main(int argc, char **argv)
{
	static char text[10000], got[10000];
	struct stat st;
	long dir, fd;
	char *map;

	MUST(argc == 2);
	memset(text, 'g', sizeof(text));
	dir = syscall(SYS_openat, AT_FDCWD, argv[1], O_RDONLY | O_DIRECTORY);
	MUST(dir >= 0);
	MUST(!syscall(SYS_mkdirat, dir, "sub", 0755));
	fd = syscall(SYS_openat, dir, "sub/f", O_RDWR | O_CREAT | O_EXCL, 0644);
	MUST(fd >= 0);
	MUST(syscall(SYS_pwrite64, fd, text, sizeof(text), 5000) == sizeof(text));
	MUST(!syscall(SYS_fstat, fd, &st) && st.st_size == 15000);
	MUST(syscall(SYS_pread64, fd, got, sizeof(got), 5000) == sizeof(got));
	MUST(!memcmp(text, got, sizeof(got)));
	map = (char *)syscall(SYS_mmap, 0, 15000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(map != MAP_FAILED && map[4999] == 0 && map[5000] == 'g');
	map[0] = 'm';
	MUST(syscall(SYS_pread64, fd, got, 1, 0) == 1 && got[0] == 'm');
	MUST(!syscall(SYS_munmap, map, 15000));
	MUST(!syscall(SYS_renameat2, dir, "sub/f", dir, "g", 0));
	MUST(list(dir) == 2);
	MUST(!syscall(SYS_unlinkat, dir, "g", 0));
	MUST(!syscall(SYS_fstat, fd, &st) && st.st_nlink == 0 && st.st_size == 15000);
	MUST(syscall(SYS_pread64, fd, got, 1, 0) == 1 && got[0] == 'm');
	MUST(!syscall(SYS_unlinkat, dir, "sub", AT_REMOVEDIR));
	MUST(!syscall(SYS_lseek, dir, 0, SEEK_SET) && list(dir) == 0);
	return 0;
}

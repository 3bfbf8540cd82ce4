/* Memory mappings: read, private, shared and written back; parts of files; errors. */
#include <sys/mman.h>

#include "posix.h"

#define SIZE (3 * 4096 + 100)

static char byte_at(int i)
{
	return (char)('a' + (i * 7 + i / 4096) % 26);
}

static void check_read(int fd)
{
	const char *p = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	const char *q = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 8192);

	OK(p != MAP_FAILED && q != MAP_FAILED);
	for (int i = 0; i < SIZE; i++)
		if (p[i] != byte_at(i)) {
			OK(!"content");
			break;
		}
	OK(p[SIZE] == 0 && q[0] == byte_at(8192) && q[4095] == byte_at(8192 + 4095));
	OK(munmap((void *)p, SIZE) == 0 && munmap((void *)q, 4096) == 0);
}

static void check_private(int fd)
{
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char c;

	OK(p != MAP_FAILED);
	p[10] = '#';
	OK(msync(p, SIZE, MS_SYNC) == 0 && munmap(p, SIZE) == 0);
	OK(pread(fd, &c, 1, 10) == 1 && c == byte_at(10));
}

static void check_shared(int fd)
{
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char text[8] = "";
	struct stat st;
	pid_t pid;

	OK(p != MAP_FAILED);
	memcpy(p + 4094, "1234", 4);
	OK(msync(p, SIZE, MS_SYNC) == 0);
	OK(pread(fd, text, 4, 4094) == 4 && !strcmp(text, "1234"));
	p[SIZE - 1] = '!';
	OK(munmap(p, SIZE) == 0);
	OK(pread(fd, text, 1, SIZE - 1) == 1 && text[0] == '!');
	OK(fstat(fd, &st) == 0 && st.st_size == SIZE);
	/* Seen by another process that maps it, while both do. */
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pid = fork();
	if (!pid) {
		int other = open(at("m"), O_RDWR);
		char *q = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);

		q[17] = '?';
		_exit(munmap(q, 4096) == 0 ? 0 : 1);
	}
	OK(status_of(pid) == 0 && p[17] == '?');
	OK(munmap(p, SIZE) == 0);
	OK(pread(fd, text, 1, 17) == 1 && text[0] == '?');
	/* Written at exit of a process that unmaps nothing. */
	pid = fork();
	if (!pid) {
		p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		p[5000] = '*';
		exit(0);
	}
	OK(status_of(pid) == 0);
	OK(pread(fd, text, 1, 5000) == 1 && text[0] == '*');
}

int main(int argc, char **argv)
{
	char data[SIZE];
	int fd, other;

	posix_start(argc, argv);
	for (int i = 0; i < SIZE; i++)
		data[i] = byte_at(i);
	fd = open(at("m"), O_RDWR | O_CREAT, 0644);
	OK(write(fd, data, SIZE) == SIZE);
	check_read(fd);
	check_private(fd);
	check_shared(fd);
	other = open(at("m"), O_RDONLY);
	FAILS((long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, other, 0), EACCES);
	FAILS((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE, other, 0), EINVAL);
	FAILS((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, other, 100), EINVAL);
	close(other);
	other = open(at("m"), O_WRONLY);
	FAILS((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, other, 0), EACCES);
	close(other);
	other = open(posix_top, O_RDONLY);
	FAILS((long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, other, 0), ENODEV);
	close(other);
	close(fd);
	return posix_end();
}

/* copy_file_range, sendfile and splice between files in the directory and outside. */
#include <sys/sendfile.h>

#include "posix.h"

#define SIZE 300000

static char data[SIZE], back[SIZE];

static int source(void)
{
	int fd = open(at("source"), O_RDWR | O_CREAT | O_TRUNC, 0644);

	OK(write(fd, data, SIZE) == SIZE && lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static void same(int fd, int offset)
{
	memset(back, 0, sizeof(back));
	OK(pread(fd, back, SIZE, 0) == SIZE - offset);
	OK(!memcmp(back, data + offset, (size_t)(SIZE - offset)));
}

static ssize_t copy_all(int in, off_t *from, int out, size_t size)
{
	size_t done = 0;
	ssize_t n;

	while (done < size && (n = copy_file_range(in, from, out, NULL, size - done, 0)) > 0)
		done += (size_t)n;
	return (ssize_t)done;
}

int main(int argc, char **argv)
{
	char local[] = "/tmp/wfs-posix-XXXXXX";
	int in, out, tmp, ends[2];
	off_t from = 100;
	ssize_t n, done = 0;

	posix_start(argc, argv);
	for (int i = 0; i < SIZE; i++)
		data[i] = (char)(i * 31 + i / 1000);
	in = source();
	out = open(at("copy"), O_RDWR | O_CREAT, 0644);
	OK(copy_all(in, NULL, out, SIZE) == SIZE);
	same(out, 0);
	OK(lseek(in, 0, SEEK_CUR) == SIZE && lseek(out, 0, SEEK_CUR) == SIZE);
	OK(copy_file_range(in, NULL, out, NULL, 10, 0) == 0);
	OK(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0);
	OK(copy_all(in, &from, out, SIZE) == SIZE - 100 && from == SIZE);
	same(out, 100);
	OK(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0);
	OK(lseek(in, 50, SEEK_SET) == 50);
	while (done < SIZE - 50 && (n = sendfile(out, in, NULL, SIZE)) > 0)
		done += n;
	OK(done == SIZE - 50);
	same(out, 50);
	tmp = mkstemp(local);
	OK(unlink(local) == 0 && lseek(in, 0, SEEK_SET) == 0);
	for (done = 0; done < SIZE && (n = sendfile(tmp, in, NULL, SIZE)) > 0;)
		done += n;
	OK(done == SIZE);
	same(tmp, 0);
	OK(lseek(tmp, 0, SEEK_SET) == 0 && ftruncate(out, 0) == 0);
	OK(lseek(out, 0, SEEK_SET) == 0);
	for (done = 0; done < SIZE && (n = sendfile(out, tmp, NULL, SIZE)) > 0;)
		done += n;
	same(out, 0);
	OK(pipe(ends) == 0 && lseek(in, 0, SEEK_SET) == 0);
	OK(splice(in, NULL, ends[1], NULL, 1000, 0) == 1000);
	OK(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0);
	OK(splice(ends[0], NULL, out, NULL, 1000, 0) == 1000);
	OK(pread(out, back, SIZE, 0) == 1000 && !memcmp(back, data, 1000));
	return posix_end();
}

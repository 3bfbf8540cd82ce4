/* O_APPEND by two processes: no record is lost or torn; writev is one record. */
#include <sys/uio.h>

#include "posix.h"

#define RECORDS 200

static void child(int who)
{
	int fd = open(at("log"), O_WRONLY | O_APPEND);

	for (int i = 0; i < RECORDS; i++) {
		char text[64];
		int size = snprintf(text, sizeof(text), "%d %06d ", who, i);
		struct iovec iov[2] = {{text, (size_t)size}, {(char *)"end\n", 4}};

		if (writev(fd, iov, 2) != size + 4)
			_exit(1);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	int next[2] = {0, 0}, lines = 0, fd;
	char line[64];
	FILE *fp;

	posix_start(argc, argv);
	put("log", "");
	for (int who = 0; who < 2; who++)
		if (!fork())
			child(who);
	for (int who = 0; who < 2; who++)
		wait(NULL);
	fp = fopen(at("log"), "r");
	OK(fp);
	while (fp && fgets(line, sizeof(line), fp)) {
		int who, i;

		OK(sscanf(line, "%d %d end\n", &who, &i) == 2 && i == next[who & 1]++);
		lines++;
	}
	OK(lines == 2 * RECORDS);
	fclose(fp);
	put("p", "12345");
	fd = open(at("p"), O_RDWR | O_APPEND);
	OK(pwrite(fd, "67", 2, 0) == 2 && holds("p", "1234567"));
	OK(lseek(fd, 0, SEEK_CUR) == 0);
	OK(write(fd, "8", 1) == 1 && lseek(fd, 0, SEEK_CUR) == 8);
	close(fd);
	return posix_end();
}

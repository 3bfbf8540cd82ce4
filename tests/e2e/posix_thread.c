/* Threads: pread and pwrite side by side; a shared offset loses nothing; open and close. */
#include <pthread.h>

#include "posix.h"

#define THREADS 4
#define ROUNDS  200
#define BLOCK   5000

static int shared_fd;

static void *blocks(void *arg)
{
	int who = (int)(intptr_t)arg;
	char out[BLOCK], in[BLOCK];

	for (int i = 0; i < ROUNDS; i++) {
		off_t at_byte = (off_t)(i % 20 * THREADS + who) * BLOCK;

		memset(out, 'A' + (i + who) % 50, sizeof(out));
		if (pwrite(shared_fd, out, BLOCK, at_byte) != BLOCK ||
			pread(shared_fd, in, BLOCK, at_byte) != BLOCK ||
			memcmp(in, out, BLOCK))
			return (void *)1;
	}
	return NULL;
}

static void *records(void *arg)
{
	char text[16];

	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		int size = snprintf(text, sizeof(text), "%07d\n", i);

		if (write(shared_fd, text, (size_t)size) != size)
			return (void *)1;
	}
	return NULL;
}

static void *opens(void *arg)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%d", "t", (int)(intptr_t)arg);
	for (int i = 0; i < ROUNDS; i++) {
		char path[4200], byte;
		int fd;

		snprintf(path, sizeof(path), "%s/%s", posix_top, name);
		fd = open(path, O_RDWR | O_CREAT, 0644);
		if (fd < 0 || pwrite(fd, name + 1, 1, 0) != 1 ||
			pread(fd, &byte, 1, 0) != 1 || byte != name[1] || close(fd))
			return (void *)1;
	}
	return NULL;
}

static void run(void *(*body)(void *))
{
	pthread_t threads[THREADS];
	void *failed;

	for (int i = 0; i < THREADS; i++)
		OK(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i) == 0);
	for (int i = 0; i < THREADS; i++) {
		OK(pthread_join(threads[i], &failed) == 0);
		OK(!failed);
	}
}

int main(int argc, char **argv)
{
	struct stat st;

	posix_start(argc, argv);
	shared_fd = open(at("blocks"), O_RDWR | O_CREAT, 0644);
	run(blocks);
	close(shared_fd);
	shared_fd = open(at("records"), O_RDWR | O_CREAT, 0644);
	run(records);
	OK(fstat(shared_fd, &st) == 0 && st.st_size == THREADS * ROUNDS * 8);
	close(shared_fd);
	run(opens);
	return posix_end();
}

/* Threads: side by side, racing, cancelled. */
#include <pthread.h>
#include <semaphore.h>

#include "tests/behave/behave.h"

static int shared_fd;

static void join_all(void *(*body)(void *), int count)
{
	pthread_t threads[16];

	for (int i = 0; i < count; i++)
		EQ(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i), 0);
	for (int i = 0; i < count; i++)
		EQ(pthread_join(threads[i], NULL), 0);
}

/* --- threads ---------------------------------------------------------------------- */

static void *thread_blocks(void *arg)
{
	char out[5000], in[5000];
	int who = (int)(intptr_t)arg;

	for (int i = 0; i < 50; i++) {
		off_t where = (off_t)(i * 4 + who) * 5000;

		memset(out, 'A' + (i + who) % 50, sizeof(out));
		EQ(pwrite(shared_fd, out, sizeof(out), where), sizeof(out));
		EQ(pread(shared_fd, in, sizeof(in), where), sizeof(in));
		OK(!memcmp(in, out, sizeof(in)));
	}
	return NULL;
}

TEST(threads_pread_pwrite_side_by_side)
{
	shared_fd = rw("f");
	join_all(thread_blocks, 4);
}

static void *thread_records(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++)
		EQ(write(shared_fd, "1234567\n", 8), 8);
	return NULL;
}

TEST(threads_write_at_one_offset)
{
	shared_fd = rw("f");
	join_all(thread_records, 4);
	EQ(fsee(shared_fd).st_size, 3200);
}

TEST(threads_append)
{
	shared_fd = open("f", O_WRONLY | O_CREAT | O_APPEND, 0644);
	join_all(thread_records, 4);
	EQ(fsee(shared_fd).st_size, 3200);
}

static int taken[100];

static void *thread_reads(void *arg)
{
	unsigned char byte;

	(void)arg;
	while (read(shared_fd, &byte, 1) == 1)
		__atomic_fetch_add(&taken[byte], 1, __ATOMIC_RELAXED);
	return NULL;
}

TEST(threads_read_each_byte_once)
{
	shared_fd = rw("f");
	for (char i = 0; i < 100; i++)
		EQ(write(shared_fd, &i, 1), 1);
	EQ(lseek(shared_fd, 0, SEEK_SET), 0);
	join_all(thread_reads, 4);
	for (int i = 0; i < 100; i++)
		EQ(taken[i], 1);
}

static void *thread_opens(void *arg)
{
	char name[16], byte;

	snprintf(name, sizeof(name), "t%d", (int)(intptr_t)arg);
	for (int i = 0; i < 50; i++) {
		int fd = rw(name);

		EQ(pwrite(fd, name + 1, 1, 0), 1);
		OK(pread(fd, &byte, 1, 0) == 1 && byte == name[1]);
		OK(close(fd) == 0);
	}
	return NULL;
}

TEST(threads_open_and_close)
{
	join_all(thread_opens, 4);
}

static void *thread_creates(void *arg)
{
	char name[32];

	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "%d-%d", (int)(intptr_t)arg, i);
		put(name, name);
		HOLDS(name, name);
		OK(unlink(name) == 0);
	}
	return NULL;
}

TEST(threads_create_and_unlink)
{
	join_all(thread_creates, 4);
	OK(!strcmp(names_in("."), ""));
}

static void *thread_one_wins(void *arg)
{
	(void)arg;
	if (open("f", O_WRONLY | O_CREAT | O_EXCL, 0644) >= 0)
		__atomic_fetch_add(&taken[0], 1, __ATOMIC_RELAXED);
	return NULL;
}

TEST(threads_exclusive_create_has_one_winner)
{
	join_all(thread_one_wins, 8);
	EQ(taken[0], 1);
}

static void *thread_errno(void *arg)
{
	for (int i = 0; i < 100; i++) {
		if ((intptr_t)arg & 1)
			FAILS(open("absent", O_RDONLY), ENOENT);
		else
			FAILS(open("f/x", O_RDONLY), ENOTDIR);
	}
	return NULL;
}

TEST(threads_have_their_own_errno)
{
	put("f", "");
	join_all(thread_errno, 4);
}

TEST(threads_first_use_at_once)
{
	put("f", "");
	CHILD
	{
		join_all(thread_opens, 8);
	}
}

static void *thread_forks(void *arg)
{
	(void)arg;
	for (int i = 0; i < 5; i++)
		CHILD
		{
			put("from_child", "x");
			EQ(pwrite(shared_fd, "y", 1, 0), 1);
		}
	return NULL;
}

TEST(threads_fork_while_others_write)
{
	pthread_t writer;

	shared_fd = rw("f");
	EQ(pthread_create(&writer, NULL, thread_blocks, NULL), 0);
	thread_forks(NULL);
	EQ(pthread_join(writer, NULL), 0);
}

static sem_t semaphore;

static void *thread_reads_pipe(void *arg)
{
	char byte;

	(void)arg;
	put("f", "before");
	sem_post(&semaphore);
	(void)!read(shared_fd, &byte, 1);
	return NULL;
}

TEST(threads_cancel_in_read_of_pipe)
{
	pthread_t thread;
	void *result;
	int ends[2];

	OK(pipe(ends) == 0 && sem_init(&semaphore, 0, 0) == 0);
	shared_fd = ends[0];
	EQ(pthread_create(&thread, NULL, thread_reads_pipe, NULL), 0);
	sem_wait(&semaphore);
	EQ(pthread_cancel(thread), 0);
	EQ(pthread_join(thread, &result), 0);
	OK(result == PTHREAD_CANCELED);
	HOLDS("f", "before");
}

static void *thread_until_cancelled(void *arg)
{
	(void)arg;
	sem_post(&semaphore);
	for (;;)
		EQ(pwrite(shared_fd, "x", 1, 0), 1);
	return NULL;
}

TEST(threads_cancel_while_writing)
{
	pthread_t thread;
	void *result;

	OK(sem_init(&semaphore, 0, 0) == 0);
	shared_fd = rw("f");
	EQ(pthread_create(&thread, NULL, thread_until_cancelled, NULL), 0);
	sem_wait(&semaphore);
	EQ(pthread_cancel(thread), 0);
	EQ(pthread_join(thread, &result), 0);
	OK(result == PTHREAD_CANCELED);
	/* What it held is free again. */
	EQ(pwrite(shared_fd, "y", 1, 0), 1);
	put("g", "still works");
	HOLDS("g", "still works");
}

static void *thread_async_cancelled(void *arg)
{
	(void)arg;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	sem_post(&semaphore);
	for (;;)
		;
	return NULL;
}

TEST(threads_cancel_asynchronous)
{
	pthread_t thread;

	OK(sem_init(&semaphore, 0, 0) == 0);
	EQ(pthread_create(&thread, NULL, thread_async_cancelled, NULL), 0);
	sem_wait(&semaphore);
	put("f", "other thread");
	EQ(pthread_cancel(thread), 0);
	EQ(pthread_join(thread, NULL), 0);
	HOLDS("f", "other thread");
}

static void *thread_small_stack(void *arg)
{
	(void)arg;
	put("f", "small");
	HOLDS("f", "small");
	OK(rename("f", "g") == 0 && unlink("g") == 0);
	return NULL;
}

TEST(threads_small_stack)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	EQ(pthread_attr_setstacksize(&attr, 64 * 1024), 0);
	EQ(pthread_create(&thread, &attr, thread_small_stack, NULL), 0);
	EQ(pthread_join(thread, NULL), 0);
}

static FILE *shared_stream;

static void *thread_prints(void *arg)
{
	(void)arg;
	for (int i = 0; i < 200; i++)
		fprintf(shared_stream, "1234567\n");
	return NULL;
}

TEST(threads_stream_is_locked)
{
	shared_stream = fopen("f", "w");
	join_all(thread_prints, 4);
	OK(fclose(shared_stream) == 0);
	EQ(see("f").st_size, 6400);
	EQ(shell("test $(sort -u f | wc -l) = 1"), 0);
}

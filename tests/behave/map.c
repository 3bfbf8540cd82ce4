/* mmap and what belongs to it. */
#include <pthread.h>
#include <sys/mman.h>

#include "tests/behave/behave.h"

#define PAGE 4096

static char *map(int fd, size_t size, int protection, int flags)
{
	char *p = mmap(NULL, size, protection, flags, fd, 0);

	if (p == MAP_FAILED)
		unmet("mmap", 0, "%s", strerror(errno));
	return p;
}

static int file_of_pages(int pages)
{
	put_size("f", (size_t)pages * PAGE);
	return rw("f");
}

static char *shared(int fd, size_t size)
{
	return map(fd, size, PROT_READ | PROT_WRITE, MAP_SHARED);
}

static char *private(int fd, size_t size)
{
	return map(fd, size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static char in_file(int fd, off_t offset)
{
	char byte = 0;

	EQ(pread(fd, &byte, 1, offset), 1);
	return byte;
}

/* The signal that touching the byte raises, or 0. */
static int touching(volatile char *p)
{
	pid_t pid = fork();

	if (!pid) {
		(void)*p;
		_exit(0);
	}
	return finish(pid) & 0xff;
}

TEST(mmap_private_reads)
{
	char *p = map(file_of_pages(3), 3 * PAGE, PROT_READ, MAP_PRIVATE);

	for (size_t i = 0; i < 3 * PAGE; i += 37)
		OK(p[i] == byte_at(i));
}

TEST(mmap_shared_reads)
{
	char *p = map(file_of_pages(3), 3 * PAGE, PROT_READ, MAP_SHARED);

	OK(p[0] == byte_at(0) && p[3 * PAGE - 1] == byte_at(3 * PAGE - 1));
}

TEST(mmap_read_only_descriptor_shared_read)
{
	file_of_pages(1);
	OK(map(ro("f"), PAGE, PROT_READ, MAP_SHARED)[5] == byte_at(5));
}

TEST(mmap_rest_of_last_page_is_zero)
{
	char *p;

	put("f", "abc");
	p = map(ro("f"), PAGE, PROT_READ, MAP_PRIVATE);
	OK(!memcmp(p, "abc", 3) && !p[3] && !p[PAGE - 1]);
}

TEST(mmap_at_an_offset)
{
	char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file_of_pages(3), PAGE);

	OK(p != MAP_FAILED && p[1] == byte_at(PAGE + 1));
}

TEST(mmap_across_megabytes)
{
	char *p;

	put_size("f", 2500000);
	p = map(ro("f"), 2500000, PROT_READ, MAP_PRIVATE);
	OK(p[(1 << 20) - 1] == byte_at((1 << 20) - 1) && p[1 << 20] == byte_at(1 << 20));
	OK(p[2499999] == byte_at(2499999));
}

TEST(mmap_private_write_stays_private)
{
	int fd = file_of_pages(1);
	char *p = private(fd, PAGE);

	p[0] = '#';
	OK(msync(p, PAGE, MS_SYNC) == 0);
	OK(in_file(fd, 0) == byte_at(0) && munmap(p, PAGE) == 0);
	OK(in_file(fd, 0) == byte_at(0));
}

TEST(mmap_private_write_of_read_only_descriptor)
{
	file_of_pages(1);
	private(ro("f"), PAGE)[0] = '#';
}

TEST(mmap_shared_write_msync)
{
	int fd = file_of_pages(2);
	char *p = shared(fd, 2 * PAGE);

	p[PAGE] = '#';
	OK(msync(p, 2 * PAGE, MS_SYNC) == 0);
	EQ(in_file(fd, PAGE), '#');
}

TEST(mmap_shared_write_munmap)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	p[7] = '#';
	OK(munmap(p, PAGE) == 0);
	EQ(in_file(fd, 7), '#');
}

TEST(mmap_shared_write_is_read_without_msync)
{
	int fd = file_of_pages(1);

	shared(fd, PAGE)[7] = '#';
	EQ(in_file(fd, 7), '#');
}

TEST(mmap_shared_write_exit)
{
	int fd = file_of_pages(1);

	CHILD
	{
		shared(fd, PAGE)[7] = '#';
	}
	EQ(in_file(fd, 7), '#');
}

TEST(mmap_shared_write_killed)
{
	int fd = file_of_pages(1);
	pid_t pid = fork();

	if (!pid) {
		shared(fd, PAGE)[7] = '#';
		raise(SIGKILL);
	}
	finish(pid);
	EQ(in_file(fd, 7), '#');
}

TEST(mmap_shared_sees_write)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	OK(p[0] == byte_at(0));
	EQ(pwrite(fd, "#", 1, 0), 1);
	EQ(*(volatile char *)p, '#');
}

TEST(mmap_shared_read_sees_write)
{
	int fd = file_of_pages(1);
	char *p = map(fd, PAGE, PROT_READ, MAP_SHARED);

	OK(p[0] == byte_at(0));
	EQ(pwrite(fd, "#", 1, 0), 1);
	EQ(*(volatile char *)p, '#');
}

TEST(mmap_two_shared_mappings_agree)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE), *q = shared(rw("f"), PAGE);

	p[3] = '#';
	EQ(*(volatile char *)(q + 3), '#');
}

TEST(mmap_shared_between_processes)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	CHILD
	{
		shared(rw("f"), PAGE)[3] = '#';
	}
	EQ(*(volatile char *)(p + 3), '#');
}

TEST(mmap_shared_after_fork)
{
	char *p = shared(file_of_pages(1), PAGE);

	CHILD
	{
		p[3] = '#';
	}
	EQ(*(volatile char *)(p + 3), '#');
}

TEST(mmap_private_after_fork)
{
	char *p = private(file_of_pages(1), PAGE);

	p[3] = '#';
	CHILD
	{
		EQ(p[3], '#');
		p[3] = '+';
	}
	EQ(*(volatile char *)(p + 3), '#');
}

TEST(mmap_survives_close)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	OK(close(fd) == 0);
	p[3] = '#';
	OK(p[4] == byte_at(4) && munmap(p, PAGE) == 0);
	EQ(in_file(ro("f"), 3), '#');
}

TEST(mmap_survives_unlink)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	OK(unlink("f") == 0 && close(fd) == 0);
	OK(p[4] == byte_at(4));
}

TEST(mmap_does_not_extend_the_file)
{
	char *p;

	put("f", "abc");
	p = shared(rw("f"), PAGE);
	p[100] = '#';
	OK(msync(p, PAGE, MS_SYNC) == 0 && munmap(p, PAGE) == 0);
	EQ(see("f").st_size, 3);
}

TEST(mmap_beyond_end_is_sigbus)
{
	EQ(touching(map(file_of_pages(1), 3 * PAGE, PROT_READ, MAP_SHARED) + PAGE),
		SIGBUS);
}

TEST(mmap_private_beyond_end_is_sigbus)
{
	EQ(touching(map(file_of_pages(1), 3 * PAGE, PROT_READ, MAP_PRIVATE) + PAGE),
		SIGBUS);
}

TEST(mmap_of_empty_file_is_sigbus)
{
	put("f", "");
	EQ(touching(map(ro("f"), PAGE, PROT_READ, MAP_SHARED)), SIGBUS);
}

TEST(mmap_beyond_a_later_cut_is_sigbus)
{
	int fd = file_of_pages(2);
	char *p = shared(fd, 2 * PAGE);

	OK(p[PAGE] == byte_at(PAGE) && ftruncate(fd, PAGE) == 0);
	EQ(touching(p + PAGE), SIGBUS);
}

TEST(mmap_sees_growth)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, 2 * PAGE);

	OK(ftruncate(fd, 2 * PAGE) == 0);
	EQ(touching(p + PAGE), 0);
	EQ(pwrite(fd, "#", 1, PAGE), 1);
	EQ(*(volatile char *)(p + PAGE), '#');
}

TEST(mmap_fixed)
{
	int fd = file_of_pages(1);
	char *room = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p = mmap(room + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);

	OK(p == room + PAGE && p[9] == byte_at(9));
}

TEST(mmap_fixed_noreplace)
{
	int fd = file_of_pages(1);
	char *p = private(fd, PAGE);

	FAILS(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0), EEXIST);
	OK(p[9] == byte_at(9));
}

TEST(mmap_munmap_in_the_middle)
{
	int fd = file_of_pages(3);
	char *p = shared(fd, 3 * PAGE);

	p[0] = p[2 * PAGE] = '#';
	OK(munmap(p + PAGE, PAGE) == 0);
	EQ(touching(p + PAGE), SIGSEGV);
	OK(munmap(p, PAGE) == 0 && munmap(p + 2 * PAGE, PAGE) == 0);
	OK(in_file(fd, 0) == '#' && in_file(fd, 2 * PAGE) == '#');
}

TEST(mmap_mprotect_to_write)
{
	int fd = file_of_pages(1);
	char *p = map(fd, PAGE, PROT_READ, MAP_SHARED);

	OK(mprotect(p, PAGE, PROT_READ | PROT_WRITE) == 0);
	p[3] = '#';
	OK(msync(p, PAGE, MS_SYNC) == 0);
	EQ(in_file(fd, 3), '#');
}

TEST(mmap_mprotect_to_write_of_read_only)
{
	file_of_pages(1);
	char *p = map(ro("f"), PAGE, PROT_READ, MAP_SHARED);

	FAILS(mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
}

TEST(mmap_mprotect_to_none)
{
	char *p = private(file_of_pages(1), PAGE);

	OK(mprotect(p, PAGE, PROT_NONE) == 0);
	EQ(touching(p), SIGSEGV);
}

TEST(mmap_mremap_larger)
{
	char *p = shared(file_of_pages(3), PAGE);

	p = mremap(p, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
	OK(p != MAP_FAILED && p[2 * PAGE] == byte_at(2 * PAGE));
}

TEST(mmap_mremap_keeps_changes)
{
	int fd = file_of_pages(3);
	char *p = shared(fd, PAGE);

	p[3] = '#';
	p = mremap(p, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
	OK(p != MAP_FAILED);
	p[2 * PAGE] = '+';
	OK(p[3] == '#' && msync(p, 3 * PAGE, MS_SYNC) == 0);
	OK(in_file(fd, 3) == '#' && in_file(fd, 2 * PAGE) == '+');
}

TEST(mmap_mremap_smaller)
{
	char *p = shared(file_of_pages(3), 3 * PAGE);

	EQ(mremap(p, 3 * PAGE, PAGE, 0) == p, true);
	OK(p[1] == byte_at(1));
	EQ(touching(p + PAGE), SIGSEGV);
}

TEST(mmap_populate)
{
	char *p = map(file_of_pages(2), 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_POPULATE);

	OK(p[PAGE] == byte_at(PAGE));
}

TEST(mmap_madvise)
{
	char *p = shared(file_of_pages(2), 2 * PAGE);

	OK(madvise(p, 2 * PAGE, MADV_WILLNEED) == 0);
	OK(madvise(p, 2 * PAGE, MADV_SEQUENTIAL) == 0 && p[PAGE] == byte_at(PAGE));
}

TEST(mmap_madvise_dontneed_of_private)
{
	char *p = private(file_of_pages(1), PAGE);

	p[0] = '#';
	OK(madvise(p, PAGE, MADV_DONTNEED) == 0);
	EQ(*(volatile char *)p, byte_at(0));
}

TEST(mmap_madvise_dontneed_of_shared)
{
	char *p = shared(file_of_pages(1), PAGE);

	p[0] = '#';
	OK(madvise(p, PAGE, MADV_DONTNEED) == 0);
	EQ(*(volatile char *)p, '#');
}

TEST(mmap_errors)
{
	int fd = file_of_pages(1);

	FAILS((long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0), EINVAL);
	FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
	FAILS((long)mmap(NULL, PAGE, PROT_READ, 0, fd, 0), EINVAL);
	FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
}

TEST(mmap_needs_read_access)
{
	file_of_pages(1);
	FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, wo("f"), 0), EACCES);
	FAILS((long)mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, wo("f"), 0), EACCES);
}

TEST(mmap_shared_write_needs_write_access)
{
	file_of_pages(1);
	FAILS((long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro("f"), 0),
		EACCES);
}

TEST(mmap_shared_write_of_append_descriptor)
{
	file_of_pages(1);
	OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   open("f", O_RDWR | O_APPEND), 0) != MAP_FAILED);
}

TEST(mmap_of_directory)
{
	FAILS((long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ro_dir("."), 0), ENODEV);
}

TEST(mmap_exec_protection)
{
	OK(map(file_of_pages(1), PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE)[0] ==
		byte_at(0));
}

TEST(mmap_named_in_proc_maps)
{
	char line[PATH_MAX + 200];
	bool found = false;
	FILE *fp;

	(void)private(file_of_pages(1), PAGE);
	fp = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof(line), fp))
		found = found || strstr(line, full("f"));
	OK(found);
}

TEST(mmap_read_into_mapping)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	put("g", "from g");
	EQ(read(ro("g"), p, 6), 6);
	OK(msync(p, PAGE, MS_SYNC) == 0);
	EQ(in_file(fd, 0), 'f');
}

TEST(mmap_write_from_mapping_of_the_same_file)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	EQ(pwrite(fd, p + 10, 5, 100), 5);
	EQ(in_file(fd, 100), byte_at(10));
}

TEST(mmap_msync_async_and_invalidate)
{
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	p[0] = '#';
	OK(msync(p, PAGE, MS_ASYNC) == 0 && msync(p, PAGE, MS_SYNC | MS_INVALIDATE) == 0);
	EQ(in_file(fd, 0), '#');
}

TEST(mmap_msync_errors)
{
	char *p = shared(file_of_pages(1), PAGE);

	FAILS(msync(p + 1, PAGE, MS_SYNC), EINVAL);
	FAILS(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	OK(munmap(p, PAGE) == 0);
	FAILS(msync(p, PAGE, MS_SYNC), ENOMEM);
}

TEST(mmap_shared_mutex_between_processes)
{
	struct both {
		pthread_mutex_t mutex;
		int count;
	} * both;
	pthread_mutexattr_t attr;

	put_size("f", PAGE);
	both = (struct both *)shared(rw("f"), PAGE);
	both->count = 0;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&both->mutex, &attr);
	for (int i = 0; i < 2; i++)
		if (!fork()) {
			struct both *mine = (struct both *)shared(rw("f"), PAGE);

			for (int k = 0; k < 1000; k++) {
				pthread_mutex_lock(&mine->mutex);
				mine->count++;
				pthread_mutex_unlock(&mine->mutex);
			}
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	EQ(both->count, 2000);
}

TEST(mmap_times_of_shared_write)
{
	struct timespec old[2] = {{1000, 0}, {1000, 0}};
	int fd = file_of_pages(1);
	char *p = shared(fd, PAGE);

	OK(futimens(fd, old) == 0);
	p[0] = '#';
	OK(msync(p, PAGE, MS_SYNC) == 0);
	OK(see("f").st_mtim.tv_sec != 1000);
}

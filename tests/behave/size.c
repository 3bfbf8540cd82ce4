/* Sizes: lseek, holes, truncate, fallocate, limits. */
#include <linux/falloc.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "tests/behave/behave.h"

static char buffer[1 << 20];

static int file_of(const char *text)
{
	put("f", text);
	return rw("f");
}

/* --- lseek -----------------------------------------------------------------------------
 */

TEST(lseek_set_cur_end)
{
	int fd = file_of("abcdef");

	EQ(lseek(fd, 2, SEEK_SET), 2);
	EQ(lseek(fd, 1, SEEK_CUR), 3);
	EQ(lseek(fd, -1, SEEK_END), 5);
}

TEST(lseek_past_end_does_not_extend)
{
	int fd = file_of("abc");

	EQ(lseek(fd, 100, SEEK_END), 103);
	EQ(fsee(fd).st_size, 3);
}

TEST(lseek_before_start_keeps_offset)
{
	int fd = file_of("abc");

	EQ(lseek(fd, 2, SEEK_SET), 2);
	FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	FAILS(lseek(fd, -3, SEEK_CUR), EINVAL);
	FAILS(lseek(fd, -4, SEEK_END), EINVAL);
	EQ(lseek(fd, 0, SEEK_CUR), 2);
}

TEST(lseek_unknown_whence)
{
	FAILS(lseek(file_of(""), 0, 77), EINVAL);
}

TEST(lseek_overflow)
{
	int fd = file_of("abc");

	EQ(lseek(fd, 1, SEEK_SET), 1);
	OK(lseek(fd, INT64_MAX, SEEK_CUR) == -1);
	EQ(lseek(fd, 0, SEEK_CUR), 1);
}

TEST(lseek_of_pipe)
{
	int ends[2];

	OK(pipe(ends) == 0);
	FAILS(lseek(ends[0], 0, SEEK_CUR), ESPIPE);
}

TEST(lseek_closed_descriptor)
{
	FAILS(lseek(99, 0, SEEK_CUR), EBADF);
}

TEST(lseek_end_follows_growth)
{
	int fd = file_of("abc"), other = rw("f");

	EQ(pwrite(other, "x", 1, 9), 1);
	EQ(lseek(fd, 0, SEEK_END), 10);
}

TEST(lseek_of_directory_to_start)
{
	EQ(lseek(ro_dir("."), 0, SEEK_SET), 0);
}

TEST(lseek64_is_lseek)
{
	EQ(lseek64(file_of("abc"), 0, SEEK_END), 3);
}

/* --- holes ---------------------------------------------------------------------------
 */

/* 1 MiB of data, 3 MiB hole, 1 MiB of data. */
static int sparse(void)
{
	int fd = file_of("");

	memset(buffer, 'd', sizeof(buffer));
	EQ(pwrite(fd, buffer, 1 << 20, 0), 1 << 20);
	EQ(pwrite(fd, buffer, 1 << 20, 4 << 20), 1 << 20);
	return fd;
}

TEST(hole_reads_as_zeros)
{
	int fd = sparse();

	EQ(pread(fd, buffer, 4096, 2 << 20), 4096);
	for (int i = 0; i < 4096; i++)
		EQ(buffer[i], 0);
}

TEST(hole_takes_no_blocks)
{
	EQ(fsee(sparse()).st_blocks, 2 << 11);
}

TEST(seek_hole_finds_the_hole)
{
	EQ(lseek(sparse(), 0, SEEK_HOLE), 1 << 20);
}

TEST(seek_data_finds_the_data)
{
	EQ(lseek(sparse(), 1 << 20, SEEK_DATA), 4 << 20);
}

TEST(seek_data_within_data)
{
	EQ(lseek(sparse(), 5000, SEEK_DATA), 5000);
}

TEST(seek_hole_within_hole)
{
	EQ(lseek(sparse(), 2000000, SEEK_HOLE), 2000000);
}

TEST(seek_hole_at_the_end)
{
	EQ(lseek(sparse(), 4 << 20, SEEK_HOLE), 5 << 20);
}

TEST(seek_data_after_the_end)
{
	FAILS(lseek(sparse(), 5 << 20, SEEK_DATA), ENXIO);
}

TEST(seek_hole_after_the_end)
{
	FAILS(lseek(sparse(), 6 << 20, SEEK_HOLE), ENXIO);
}

TEST(seek_data_in_trailing_hole)
{
	int fd = file_of("");

	OK(ftruncate(fd, 1 << 20) == 0);
	FAILS(lseek(fd, 0, SEEK_DATA), ENXIO);
}

TEST(seek_hole_in_file_without_data)
{
	int fd = file_of("");

	OK(ftruncate(fd, 1 << 20) == 0);
	EQ(lseek(fd, 0, SEEK_HOLE), 0);
}

TEST(seek_data_negative)
{
	FAILS(lseek(file_of("abc"), -1, SEEK_DATA), ENXIO);
}

TEST(seek_data_moves_the_offset)
{
	int fd = sparse();

	EQ(lseek(fd, 2 << 20, SEEK_DATA), 4 << 20);
	EQ(lseek(fd, 0, SEEK_CUR), 4 << 20);
}

TEST(sparse_copy_by_cp)
{
	close(sparse());
	EQ(shell("cp --sparse=auto f g && cmp f g"), 0);
	EQ(see("g").st_blocks, 2 << 11);
}

/* --- truncate --------------------------------------------------------------------------
 */

TEST(ftruncate_shorter)
{
	OK(ftruncate(file_of("abcdef"), 3) == 0);
	HOLDS("f", "abc");
}

TEST(ftruncate_longer_gives_zeros)
{
	OK(ftruncate(file_of("abc"), 6) == 0);
	HOLDS_BYTES("f", "abc\0\0\0", 6);
}

TEST(ftruncate_cut_bytes_do_not_return)
{
	int fd = file_of("abcdef");

	OK(ftruncate(fd, 2) == 0 && ftruncate(fd, 6) == 0);
	HOLDS_BYTES("f", "ab\0\0\0\0", 6);
}

TEST(ftruncate_cut_bytes_do_not_return_after_write)
{
	int fd = file_of("abcdef");

	OK(ftruncate(fd, 1) == 0);
	EQ(pwrite(fd, "Z", 1, 5), 1);
	HOLDS_BYTES("f", "a\0\0\0\0Z", 6);
}

TEST(ftruncate_keeps_offset)
{
	int fd = file_of("abcdef");

	EQ(lseek(fd, 5, SEEK_SET), 5);
	OK(ftruncate(fd, 2) == 0);
	EQ(lseek(fd, 0, SEEK_CUR), 5);
}

TEST(ftruncate_read_only_descriptor)
{
	put("f", "abc");
	FAILS(ftruncate(ro("f"), 0), EINVAL);
}

TEST(ftruncate_of_directory)
{
	FAILS(ftruncate(ro_dir("."), 0), EINVAL);
}

TEST(ftruncate_negative)
{
	FAILS(ftruncate(file_of("abc"), -1), EINVAL);
}

TEST(ftruncate_closed_descriptor)
{
	FAILS(ftruncate(99, 0), EBADF);
}

TEST(ftruncate_of_pipe)
{
	int ends[2];

	OK(pipe(ends) == 0);
	FAILS(ftruncate(ends[1], 0), EINVAL);
}

TEST(truncate_by_name)
{
	put("f", "abcdef");
	OK(truncate("f", 3) == 0);
	HOLDS("f", "abc");
}

TEST(truncate_through_symlink)
{
	put("f", "abcdef");
	sym("f", "l");
	OK(truncate("l", 3) == 0);
	HOLDS("f", "abc");
}

TEST(truncate_absent)
{
	FAILS(truncate("absent", 0), ENOENT);
}

TEST(truncate_directory)
{
	dir("d");
	FAILS(truncate("d", 0), EISDIR);
}

TEST(truncate_fifo)
{
	OK(mkfifo("p", 0644) == 0);
	FAILS(truncate("p", 0), EINVAL);
}

TEST(truncate_needs_write_permission)
{
	put("f", "abc");
	CHILD_AS(1234, 1234)
	{
		FAILS(truncate("f", 0), EACCES);
	}
}

TEST(ftruncate_needs_no_permission_once_open)
{
	int fd = file_of("abc");

	OK(chmod("f", 0400) == 0);
	CHILD_AS(1234, 1234)
	{
		OK(ftruncate(fd, 1) == 0);
	}
	HOLDS("f", "a");
}

TEST(truncate_across_megabytes)
{
	put_size("f", 2500000);
	OK(truncate("f", 1500000) == 0 && truncate("f", 2500000) == 0);
	int fd = ro("f");
	EQ(pread(fd, buffer, 2, 1499999), 2);
	OK(buffer[0] == byte_at(1499999) && buffer[1] == 0);
	EQ(pread(fd, buffer, 1, 2400000), 1);
	EQ(buffer[0], 0);
}

TEST(truncate_frees_blocks)
{
	put_size("f", 1 << 20);
	OK(truncate("f", 4096) == 0);
	EQ(see("f").st_blocks, 8);
}

/* --- fallocate -------------------------------------------------------------------------
 */

TEST(fallocate_extends_with_zeros)
{
	int fd = file_of("abc");

	OK(fallocate(fd, 0, 0, 6) == 0);
	HOLDS_BYTES("f", "abc\0\0\0", 6);
}

TEST(fallocate_keep_size)
{
	int fd = file_of("abc");

	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000) == 0);
	EQ(fsee(fd).st_size, 3);
}

TEST(fallocate_takes_blocks)
{
	int fd = file_of("");

	OK(fallocate(fd, 0, 0, 1 << 20) == 0);
	EQ(fsee(fd).st_blocks, 1 << 11);
}

TEST(fallocate_keep_size_takes_blocks)
{
	int fd = file_of("");

	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0);
	EQ(fsee(fd).st_blocks, 1 << 11);
}

TEST(fallocate_keeps_data)
{
	int fd = file_of("abc");

	OK(fallocate(fd, 0, 1, 1) == 0);
	HOLDS("f", "abc");
}

TEST(fallocate_punch_hole)
{
	int fd;

	put_size("f", 20000);
	fd = rw("f");
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192) == 0);
	EQ(pread(fd, buffer, 20000, 0), 20000);
	OK(buffer[4095] == byte_at(4095) && !buffer[4096] && !buffer[12287]);
	OK(buffer[12288] == byte_at(12288));
}

TEST(fallocate_punch_hole_odd_edges)
{
	int fd;

	put_size("f", 20000);
	fd = rw("f");
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 100) == 0);
	EQ(pread(fd, buffer, 20000, 0), 20000);
	OK(buffer[4999] == byte_at(4999) && !buffer[5000] && !buffer[5099]);
	OK(buffer[5100] == byte_at(5100));
}

TEST(fallocate_punch_hole_frees_blocks)
{
	int fd;

	put_size("f", 1 << 20);
	fd = rw("f");
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 19) == 0);
	EQ(fsee(fd).st_blocks, 1 << 10);
}

TEST(fallocate_punch_hole_past_end)
{
	int fd = file_of("abc");

	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 10000) == 0);
	HOLDS_BYTES("f", "a\0\0", 3);
}

TEST(fallocate_punch_hole_needs_keep_size)
{
	FAILS(fallocate(file_of("abc"), FALLOC_FL_PUNCH_HOLE, 0, 1), EOPNOTSUPP);
}

TEST(fallocate_zero_range)
{
	int fd = file_of("abcdef");

	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 1, 2) == 0);
	HOLDS_BYTES("f", "a\0\0def", 6);
}

TEST(fallocate_zero_range_extends)
{
	int fd = file_of("abc");

	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 2, 4) == 0);
	HOLDS_BYTES("f", "ab\0\0\0\0", 6);
}

TEST(fallocate_zero_range_keep_size)
{
	int fd = file_of("abc");

	OK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 2, 4) == 0);
	HOLDS_BYTES("f", "ab\0", 3);
}

TEST(fallocate_collapse_range)
{
	int fd;

	put_size("f", 16384);
	fd = rw("f");
	OK(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 4096, 4096) == 0);
	EQ(pread(fd, buffer, 20000, 0), 12288);
	OK(buffer[4095] == byte_at(4095) && buffer[4096] == byte_at(8192));
}

TEST(fallocate_collapse_range_unaligned)
{
	put_size("f", 16384);
	FAILS(fallocate(rw("f"), FALLOC_FL_COLLAPSE_RANGE, 100, 4096), EINVAL);
}

TEST(fallocate_collapse_range_to_the_end)
{
	put_size("f", 16384);
	FAILS(fallocate(rw("f"), FALLOC_FL_COLLAPSE_RANGE, 8192, 8192), EINVAL);
}

TEST(fallocate_insert_range)
{
	int fd;

	put_size("f", 8192);
	fd = rw("f");
	OK(fallocate(fd, FALLOC_FL_INSERT_RANGE, 4096, 4096) == 0);
	EQ(pread(fd, buffer, 20000, 0), 12288);
	OK(buffer[4095] == byte_at(4095) && !buffer[4096] &&
		buffer[8192] == byte_at(4096));
}

TEST(fallocate_insert_range_at_the_end)
{
	put_size("f", 8192);
	FAILS(fallocate(rw("f"), FALLOC_FL_INSERT_RANGE, 8192, 4096), EINVAL);
}

TEST(fallocate_unknown_mode)
{
	FAILS(fallocate(file_of("abc"), 0x4000, 0, 1), EOPNOTSUPP);
}

TEST(fallocate_zero_length)
{
	FAILS(fallocate(file_of("abc"), 0, 0, 0), EINVAL);
}

TEST(fallocate_negative)
{
	int fd = file_of("abc");

	FAILS(fallocate(fd, 0, -1, 1), EINVAL);
	FAILS(fallocate(fd, 0, 0, -1), EINVAL);
}

TEST(fallocate_read_only_descriptor)
{
	put("f", "abc");
	FAILS(fallocate(ro("f"), 0, 0, 10), EBADF);
}

TEST(fallocate_of_directory)
{
	FAILS(fallocate(ro_dir("."), 0, 0, 10), EBADF);
}

TEST(fallocate_of_pipe)
{
	int ends[2];

	OK(pipe(ends) == 0);
	FAILS(fallocate(ends[1], 0, 0, 10), ESPIPE);
}

TEST(fallocate_too_large)
{
	FAILS(fallocate(file_of(""), 0, INT64_MAX - 10, 100), EFBIG);
}

TEST(posix_fallocate_returns_the_error)
{
	put("f", "abc");
	EQ(posix_fallocate(ro("f"), 0, 10), EBADF);
	EQ(posix_fallocate(rw("f"), -1, 10), EINVAL);
	EQ(posix_fallocate(rw("f"), 0, 10), 0);
	EQ(see("f").st_size, 10);
}

/* --- limits --------------------------------------------------------------------------
 */

static void limit_to(rlim_t size)
{
	struct rlimit limit = {size, size};

	OK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

TEST(limit_fsize_write_is_efbig)
{
	int fd = file_of("");

	signal(SIGXFSZ, SIG_IGN);
	limit_to(100);
	EQ(lseek(fd, 100, SEEK_SET), 100);
	FAILS(write(fd, "x", 1), EFBIG);
}

TEST(limit_fsize_write_is_cut)
{
	int fd = file_of("");

	signal(SIGXFSZ, SIG_IGN);
	limit_to(100);
	EQ(write(fd, buffer, 200), 100);
	EQ(fsee(fd).st_size, 100);
}

TEST(limit_fsize_kills_by_sigxfsz)
{
	int fd = file_of("");
	pid_t pid = fork();

	if (!pid) {
		limit_to(100);
		(void)!pwrite(fd, "x", 1, 100);
		_exit(0);
	}
	EQ(finish(pid), 256 + SIGXFSZ);
}

TEST(limit_fsize_truncate)
{
	signal(SIGXFSZ, SIG_IGN);
	put("f", "");
	limit_to(100);
	FAILS(truncate("f", 101), EFBIG);
	OK(truncate("f", 100) == 0);
}

TEST(limit_fsize_fallocate)
{
	int fd = file_of("");

	signal(SIGXFSZ, SIG_IGN);
	limit_to(100);
	FAILS(fallocate(fd, 0, 0, 101), EFBIG);
}

TEST(limit_fsize_overwriting_is_free)
{
	int fd;

	put_size("f", 1000);
	fd = rw("f");
	signal(SIGXFSZ, SIG_IGN);
	limit_to(100);
	EQ(pwrite(fd, "x", 1, 50), 1);
	FAILS(pwrite(fd, "x", 1, 500), EFBIG);
}

TEST(limit_fsize_append)
{
	int fd;

	put_size("f", 99);
	fd = open("f", O_WRONLY | O_APPEND);
	signal(SIGXFSZ, SIG_IGN);
	limit_to(100);
	EQ(write(fd, "xy", 2), 1);
	FAILS(write(fd, "z", 1), EFBIG);
}

TEST(limit_of_the_offset_is_efbig)
{
	int fd = file_of("");

	signal(SIGXFSZ, SIG_IGN);
	FAILS(pwrite(fd, "x", 1, INT64_MAX - 1), EFBIG);
}

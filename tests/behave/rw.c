/* read and write in all forms: offsets, vectors, flags, O_APPEND, faults, sizes. */
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "tests/behave/behave.h"

static char buffer[3 << 20];

static int file_of(const char *text)
{
	put("f", text);
	return rw("f");
}

/* --- read ------------------------------------------------------------------------------
 */

TEST(read_moves_the_offset)
{
	int fd = file_of("abcdef");

	OK(read(fd, buffer, 2) == 2 && read(fd, buffer + 2, 2) == 2);
	OK(!memcmp(buffer, "abcd", 4) && lseek(fd, 0, SEEK_CUR) == 4);
}

TEST(read_at_end_is_zero)
{
	int fd = file_of("abc");

	EQ(read(fd, buffer, 10), 3);
	EQ(read(fd, buffer, 10), 0);
	EQ(lseek(fd, 0, SEEK_CUR), 3);
}

TEST(read_past_end_is_zero)
{
	int fd = file_of("abc");

	EQ(lseek(fd, 100, SEEK_SET), 100);
	EQ(read(fd, buffer, 10), 0);
	EQ(lseek(fd, 0, SEEK_CUR), 100);
}

TEST(read_of_zero_bytes)
{
	EQ(read(file_of("abc"), buffer, 0), 0);
}

TEST(read_empty_file)
{
	EQ(read(file_of(""), buffer, 10), 0);
}

TEST(read_leaves_rest_of_buffer)
{
	memset(buffer, '#', 10);
	EQ(read(file_of("abc"), buffer, 10), 3);
	EQ(buffer[3], '#');
}

TEST(read_fault)
{
	FAILS(read(file_of("abc"), nowhere, 3), EFAULT);
}

TEST(read_fault_keeps_offset)
{
	int fd = file_of("abc");

	FAILS(read(fd, nowhere, 3), EFAULT);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
}

TEST(read_into_read_only_memory)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	FAILS(read(file_of("abc"), p, 3), EFAULT);
}

TEST(read_of_closed_descriptor)
{
	int fd = file_of("abc");

	close(fd);
	FAILS(read(fd, buffer, 1), EBADF);
	FAILS(read(-1, buffer, 1), EBADF);
}

TEST(read_sees_what_another_descriptor_wrote)
{
	int fd = file_of("abc"), other = rw("f");

	EQ(write(other, "XYZ+", 4), 4);
	OK(read(fd, buffer, 10) == 4 && !memcmp(buffer, "XYZ+", 4));
}

TEST(read_large_in_one_call)
{
	put_size("f", 2500000);
	EQ(read(ro("f"), buffer, sizeof(buffer)), 2500000);
	for (size_t i = 0; i < 2500000; i += 997)
		OK(buffer[i] == byte_at(i));
}

TEST(read_across_a_megabyte_border)
{
	put_size("f", (1 << 20) + 10);
	EQ(pread(ro("f"), buffer, 20, (1 << 20) - 10), 20);
	for (size_t i = 0; i < 20; i++)
		OK(buffer[i] == byte_at((1 << 20) - 10 + i));
}

/* --- write ------------------------------------------------------------------------ */

TEST(write_extends)
{
	int fd = file_of("");

	EQ(write(fd, "abc", 3), 3);
	EQ(fsee(fd).st_size, 3);
}

TEST(write_overwrites_in_place)
{
	int fd = file_of("abcdef");

	EQ(write(fd, "XY", 2), 2);
	HOLDS("f", "XYcdef");
}

TEST(write_of_zero_bytes_changes_nothing)
{
	int fd = file_of("abc");

	EQ(lseek(fd, 10, SEEK_SET), 10);
	EQ(write(fd, "", 0), 0);
	EQ(fsee(fd).st_size, 3);
}

TEST(write_past_end_leaves_zeros)
{
	int fd = file_of("abc");

	EQ(pwrite(fd, "x", 1, 6), 1);
	HOLDS_BYTES("f", "abc\0\0\0x", 7);
}

TEST(write_far_past_end_leaves_zeros)
{
	int fd = file_of("abc");

	EQ(pwrite(fd, "x", 1, 5000000), 1);
	EQ(pread(fd, buffer, 10, 3999995), 10);
	OK(!memcmp(buffer, "\0\0\0\0\0\0\0\0\0\0", 10));
	EQ(fsee(fd).st_size, 5000001);
}

TEST(write_fault)
{
	int fd = file_of("abc");

	FAILS(write(fd, nowhere, 3), EFAULT);
	HOLDS("f", "abc");
}

TEST(write_from_read_only_memory)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = file_of("");

	EQ(write(fd, p, 3), 3);
	HOLDS_BYTES("f", "\0\0\0", 3);
}

TEST(write_to_closed_descriptor)
{
	int fd = file_of("");

	close(fd);
	FAILS(write(fd, "x", 1), EBADF);
}

TEST(write_large_in_one_call)
{
	put_size("f", 2500000);
	EQ(see("f").st_size, 2500000);
}

TEST(write_odd_pieces)
{
	int fd = file_of("");
	size_t done = 0;

	for (size_t i = 0; i < 40000; i++)
		buffer[i] = byte_at(i);
	for (size_t size = 1; done + size < 40000; size = size * 2 + 1) {
		EQ(write(fd, buffer + done, size), size);
		done += size;
	}
	HOLDS_BYTES("f", buffer, done);
}

TEST(write_between_two_descriptors_at_their_offsets)
{
	int a = file_of(""), b = rw("f");

	EQ(write(a, "aaaa", 4), 4);
	EQ(write(b, "bb", 2), 2);
	HOLDS("f", "bbaa");
}

TEST(write_is_seen_by_another_process_at_once)
{
	int fd = file_of("");

	EQ(write(fd, "now", 3), 3);
	EQ(shell("test \"$(cat f)\" = now"), 0);
}

TEST(write_8000000_past_the_int_range)
{
	int fd = file_of("");

	EQ(pwrite(fd, "x", 1, 5ll << 32), 1);
	EQ(fsee(fd).st_size, (5ll << 32) + 1);
	EQ(pread(fd, buffer, 10, 5ll << 32), 1);
}

/* --- pread and pwrite ------------------------------------------------------------- */

TEST(pread_keeps_the_offset)
{
	int fd = file_of("abcdef");

	EQ(lseek(fd, 1, SEEK_SET), 1);
	OK(pread(fd, buffer, 2, 3) == 2 && !memcmp(buffer, "de", 2));
	EQ(lseek(fd, 0, SEEK_CUR), 1);
}

TEST(pread_past_end_is_zero)
{
	EQ(pread(file_of("abc"), buffer, 10, 100), 0);
}

TEST(pread_negative_offset)
{
	FAILS(pread(file_of("abc"), buffer, 1, -1), EINVAL);
}

TEST(pread_fault)
{
	FAILS(pread(file_of("abc"), nowhere, 3, 0), EFAULT);
}

TEST(pread_of_pipe_is_espipe)
{
	int ends[2];

	OK(pipe(ends) == 0);
	FAILS(pread(ends[0], buffer, 1, 0), ESPIPE);
}

TEST(pread_of_directory)
{
	FAILS(pread(ro_dir("."), buffer, 1, 0), EISDIR);
}

TEST(pwrite_keeps_the_offset)
{
	int fd = file_of("abcdef");

	EQ(pwrite(fd, "X", 1, 5), 1);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	HOLDS("f", "abcdeX");
}

TEST(pwrite_negative_offset)
{
	FAILS(pwrite(file_of("abc"), "x", 1, -1), EINVAL);
}

TEST(pwrite_fault)
{
	FAILS(pwrite(file_of("abc"), nowhere, 3, 0), EFAULT);
}

TEST(pwrite_read_only_descriptor)
{
	put("f", "abc");
	FAILS(pwrite(ro("f"), "x", 1, 0), EBADF);
}

TEST(pwrite_of_zero_bytes_does_not_extend)
{
	int fd = file_of("abc");

	EQ(pwrite(fd, "", 0, 100), 0);
	EQ(fsee(fd).st_size, 3);
}

/* --- vectors ---------------------------------------------------------------------- */

TEST(readv_fills_in_turn)
{
	struct iovec iov[3] = {{buffer, 2}, {buffer + 10, 0}, {buffer + 20, 10}};

	EQ(readv(file_of("abcde"), iov, 3), 5);
	OK(!memcmp(buffer, "ab", 2) && !memcmp(buffer + 20, "cde", 3));
}

TEST(writev_takes_in_turn)
{
	struct iovec iov[3] = {{(char *)"ab", 2}, {NULL, 0}, {(char *)"cde", 3}};
	int fd = file_of("");

	EQ(writev(fd, iov, 3), 5);
	HOLDS("f", "abcde");
	EQ(lseek(fd, 0, SEEK_CUR), 5);
}

TEST(readv_no_vectors_is_zero)
{
	struct iovec iov[1] = {{buffer, 2}};

	EQ(readv(file_of("abc"), iov, 0), 0);
}

TEST(readv_negative_count)
{
	struct iovec iov[1] = {{buffer, 2}};

	FAILS(readv(file_of("abc"), iov, -1), EINVAL);
}

TEST(readv_more_than_iov_max)
{
	static struct iovec iov[IOV_MAX + 1];

	FAILS(readv(file_of("abc"), iov, IOV_MAX + 1), EINVAL);
}

TEST(writev_iov_max)
{
	static struct iovec iov[IOV_MAX];
	int fd = file_of("");

	for (int i = 0; i < IOV_MAX; i++)
		iov[i] = (struct iovec){(char *)"ab", 2};
	EQ(writev(fd, iov, IOV_MAX), 2 * IOV_MAX);
	EQ(fsee(fd).st_size, 2 * IOV_MAX);
}

TEST(writev_length_too_large)
{
	struct iovec iov[2] = {{buffer, 1}, {buffer, SIZE_MAX}};

	FAILS(writev(file_of(""), iov, 2), EINVAL);
}

TEST(readv_fault_in_vectors)
{
	FAILS(readv(file_of("abc"), (struct iovec *)nowhere, 1), EFAULT);
}

TEST(preadv_keeps_the_offset)
{
	struct iovec iov[2] = {{buffer, 1}, {buffer + 1, 2}};
	int fd = file_of("abcdef");

	EQ(preadv(fd, iov, 2, 2), 3);
	OK(!memcmp(buffer, "cde", 3) && lseek(fd, 0, SEEK_CUR) == 0);
}

TEST(pwritev_keeps_the_offset)
{
	struct iovec iov[2] = {{(char *)"X", 1}, {(char *)"YZ", 2}};
	int fd = file_of("abcdef");

	EQ(pwritev(fd, iov, 2, 2), 3);
	HOLDS("f", "abXYZf");
	EQ(lseek(fd, 0, SEEK_CUR), 0);
}

TEST(preadv_negative_offset)
{
	struct iovec iov = {buffer, 1};

	FAILS(preadv(file_of("abc"), &iov, 1, -1), EINVAL);
}

TEST(preadv2_of_minus_one_moves_the_offset)
{
	struct iovec iov = {buffer, 2};
	int fd = file_of("abcdef");

	EQ(preadv2(fd, &iov, 1, -1, 0), 2);
	EQ(lseek(fd, 0, SEEK_CUR), 2);
}

TEST(preadv2_hipri_is_taken)
{
	struct iovec iov = {buffer, 2};

	OK(preadv2(file_of("abc"), &iov, 1, 0, 0) == 2);
	EQ(preadv2(rw("f"), &iov, 1, 1, RWF_HIPRI), 2);
}

TEST(preadv2_unknown_flag)
{
	struct iovec iov = {buffer, 2};

	FAILS(preadv2(file_of("abc"), &iov, 1, 0, 0x40000000), EOPNOTSUPP);
}

TEST(pwritev2_append)
{
	struct iovec iov = {(char *)"end", 3};
	int fd = file_of("abc");

	EQ(pwritev2(fd, &iov, 1, 0, RWF_APPEND), 3);
	HOLDS("f", "abcend");
}

TEST(pwritev2_dsync)
{
	struct iovec iov = {(char *)"xyz", 3};
	int fd = file_of("abc");

	EQ(pwritev2(fd, &iov, 1, 0, RWF_DSYNC), 3);
	EQ(pwritev2(fd, &iov, 1, 3, RWF_SYNC), 3);
	HOLDS("f", "xyzxyz");
}

TEST(pwritev2_of_minus_one_moves_the_offset)
{
	struct iovec iov = {(char *)"xyz", 3};
	int fd = file_of("abcdef");

	EQ(pwritev2(fd, &iov, 1, -1, 0), 3);
	EQ(lseek(fd, 0, SEEK_CUR), 3);
	HOLDS("f", "xyzdef");
}

/* Odd pieces around the megabyte borders, and cuts, beside a model in memory. */
TEST(write_and_truncate_match_a_model)
{
	enum { SPACE = 3 << 20, PIECE = 100000 };
	static char model[SPACE], piece[PIECE];
	uint64_t state = 12345;
	size_t size = 0;
	int fd = file_of("");

	for (int i = 0; i < 40; i++) {
		size_t length, where;

		state = state * 6364136223846793005ull + 1442695040888963407ull;
		length = 1 + (size_t)(state >> 33) % PIECE;
		where = i % 3 ? (size_t)(state >> 20) % (SPACE - length)
			      : ((size_t)(1 + i % 2) << 20) - length / 2;
		memset(piece, 'a' + i % 26, length);
		EQ(pwrite(fd, piece, length, (off_t)where), length);
		memcpy(model + where, piece, length);
		size = where + length > size ? where + length : size;
		if (i % 10 == 9) {
			size_t cut = (size_t)(state >> 25) % SPACE;

			OK(ftruncate(fd, (off_t)cut) == 0);
			if (cut < size)
				memset(model + cut, 0, size - cut);
			size = cut;
		}
		EQ(fsee(fd).st_size, size);
	}
	EQ(pread(fd, buffer, sizeof(buffer), 0), size);
	OK(!memcmp(buffer, model, size));
}

/* --- O_APPEND --------------------------------------------------------------------- */

TEST(append_writes_at_the_end)
{
	int fd;

	put("f", "abc");
	fd = open("f", O_WRONLY | O_APPEND);
	EQ(lseek(fd, 0, SEEK_SET), 0);
	EQ(write(fd, "def", 3), 3);
	HOLDS("f", "abcdef");
	EQ(lseek(fd, 0, SEEK_CUR), 6);
}

TEST(append_after_another_grew_it)
{
	int fd;

	put("f", "a");
	fd = open("f", O_WRONLY | O_APPEND);
	EQ(write(fd, "b", 1), 1);
	EQ(pwrite(rw("f"), "cd", 2, 2), 2);
	EQ(write(fd, "e", 1), 1);
	HOLDS("f", "abcde");
}

TEST(append_after_another_cut_it)
{
	int fd;

	put("f", "abcdef");
	fd = open("f", O_WRONLY | O_APPEND);
	OK(truncate("f", 2) == 0);
	EQ(write(fd, "X", 1), 1);
	HOLDS("f", "abX");
}

TEST(append_pwrite_goes_to_the_end)
{
	int fd;

	put("f", "abc");
	fd = open("f", O_WRONLY | O_APPEND);
	EQ(pwrite(fd, "def", 3, 0), 3);
	HOLDS("f", "abcdef");
	EQ(lseek(fd, 0, SEEK_CUR), 0);
}

TEST(append_writev_is_one_record)
{
	struct iovec iov[2] = {{(char *)"1", 1}, {(char *)"2", 1}};
	int fd;

	put("f", "0");
	fd = open("f", O_WRONLY | O_APPEND);
	EQ(writev(fd, iov, 2), 2);
	HOLDS("f", "012");
}

TEST(append_set_by_fcntl)
{
	int fd = file_of("abc");

	OK(fcntl(fd, F_SETFL, O_APPEND) == 0);
	EQ(write(fd, "def", 3), 3);
	HOLDS("f", "abcdef");
}

TEST(append_cleared_by_fcntl)
{
	int fd;

	put("f", "abc");
	fd = open("f", O_WRONLY | O_APPEND);
	OK(fcntl(fd, F_SETFL, 0) == 0);
	EQ(write(fd, "X", 1), 1);
	HOLDS("f", "Xbc");
}

TEST(append_reads_from_its_offset)
{
	int fd;

	put("f", "abc");
	fd = open("f", O_RDWR | O_APPEND);
	OK(read(fd, buffer, 2) == 2 && !memcmp(buffer, "ab", 2));
	EQ(write(fd, "d", 1), 1);
	EQ(read(fd, buffer, 2), 0);
}

TEST(append_by_four_processes_loses_nothing)
{
	put("f", "");
	for (int who = 0; who < 4; who++)
		if (!fork()) {
			int fd = open("f", O_WRONLY | O_APPEND);
			char record[8];

			snprintf(record, sizeof(record), "rec %02d\n", who);
			for (int i = 0; i < 50; i++)
				EQ(write(fd, record, 7), 7);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	EQ(see("f").st_size, 4 * 50 * 7);
	EQ(read(ro("f"), buffer, sizeof(buffer)), 1400);
	for (int i = 0; i < 1400; i += 7)
		OK(!memcmp(buffer + i, "rec 0", 5) && buffer[i + 6] == '\n');
}

/* --- keeping it ------------------------------------------------------------------- */

TEST(fsync_of_a_file)
{
	int fd = file_of("");

	EQ(write(fd, "x", 1), 1);
	OK(fsync(fd) == 0 && fdatasync(fd) == 0);
}

TEST(fsync_of_read_only_descriptor)
{
	put("f", "x");
	OK(fsync(ro("f")) == 0);
}

TEST(fsync_of_a_directory)
{
	OK(fsync(ro_dir(".")) == 0);
}

TEST(fsync_of_closed_descriptor)
{
	FAILS(fsync(99), EBADF);
}

TEST(fsync_of_pipe_is_einval)
{
	int ends[2];

	OK(pipe(ends) == 0);
	FAILS(fsync(ends[1]), EINVAL);
}

TEST(syncfs_and_sync)
{
	OK(syncfs(file_of("x")) == 0);
	sync();
}

TEST(sync_file_range_takes_a_file)
{
	OK(sync_file_range(file_of("text"), 0, 4, SYNC_FILE_RANGE_WRITE) == 0);
}

TEST(sync_file_range_unknown_flag)
{
	FAILS(sync_file_range(file_of("text"), 0, 4, 0x80), EINVAL);
}

TEST(fadvise_takes_a_file)
{
	EQ(posix_fadvise(file_of("text"), 0, 0, POSIX_FADV_SEQUENTIAL), 0);
	EQ(posix_fadvise(rw("f"), 0, 4, POSIX_FADV_DONTNEED), 0);
}

TEST(fadvise_unknown_advice)
{
	EQ(posix_fadvise(file_of("text"), 0, 0, 99), EINVAL);
}

TEST(fadvise_of_pipe)
{
	int ends[2];

	OK(pipe(ends) == 0);
	EQ(posix_fadvise(ends[0], 0, 0, POSIX_FADV_NORMAL), ESPIPE);
}

TEST(readahead_takes_a_file)
{
	OK(readahead(file_of("text"), 0, 4) == 0);
}

TEST(readahead_of_write_only_descriptor)
{
	put("f", "x");
	FAILS(readahead(wo("f"), 0, 1), EBADF);
}

/* copy_file_range, sendfile, splice, tee, vmsplice, FICLONE where files are concerned. */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "tests/behave/behave.h"

static char buffer[70000];

static void files(int *in, int *out)
{
	put("in", "abcdef");
	put("out", "");
	*in = ro("in");
	*out = rw("out");
}

static void pipe_of(const char *text, int ends[2])
{
	OK(pipe(ends) == 0);
	OK(write(ends[1], text, strlen(text)) == (ssize_t)strlen(text));
}

static int local_file(const char *text)
{
	char name[] = "/tmp/behave-XXXXXX";
	int fd = mkstemp(name);

	OK(fd >= 0 && unlink(name) == 0);
	OK(pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text));
	return fd;
}

/* --- copy_file_range -----------------------------------------------------------------
 */

TEST(copy_range_by_offsets)
{
	off_t from = 1, to = 2;
	int in, out;

	files(&in, &out);
	EQ(copy_file_range(in, &from, out, &to, 3, 0), 3);
	OK(from == 4 && to == 5);
	HOLDS_BYTES("out", "\0\0bcd", 5);
	EQ(lseek(in, 0, SEEK_CUR), 0);
	EQ(lseek(out, 0, SEEK_CUR), 0);
}

TEST(copy_range_by_positions)
{
	int in, out;

	files(&in, &out);
	EQ(copy_file_range(in, NULL, out, NULL, 4, 0), 4);
	EQ(lseek(in, 0, SEEK_CUR), 4);
	EQ(lseek(out, 0, SEEK_CUR), 4);
	HOLDS("out", "abcd");
}

TEST(copy_range_at_end_is_zero)
{
	off_t from = 6;
	int in, out;

	files(&in, &out);
	EQ(copy_file_range(in, &from, out, NULL, 4, 0), 0);
}

TEST(copy_range_up_to_the_end)
{
	int in, out;

	files(&in, &out);
	EQ(copy_file_range(in, NULL, out, NULL, 1000, 0), 6);
}

TEST(copy_range_unknown_flag)
{
	int in, out;

	files(&in, &out);
	FAILS(copy_file_range(in, NULL, out, NULL, 4, 1), EINVAL);
}

TEST(copy_range_to_read_only)
{
	int in, out;

	files(&in, &out);
	FAILS(copy_file_range(in, NULL, ro("out"), NULL, 4, 0), EBADF);
}

TEST(copy_range_from_write_only)
{
	int in, out;

	files(&in, &out);
	FAILS(copy_file_range(wo("in"), NULL, out, NULL, 4, 0), EBADF);
}

TEST(copy_range_to_append)
{
	int in, out;

	files(&in, &out);
	FAILS(copy_file_range(in, NULL, open("out", O_WRONLY | O_APPEND), NULL, 4, 0),
		EBADF);
}

TEST(copy_range_of_directory)
{
	int in, out;

	files(&in, &out);
	FAILS(copy_file_range(ro_dir("."), NULL, out, NULL, 4, 0), EISDIR);
}

TEST(copy_range_of_pipe)
{
	int in, out, ends[2];

	files(&in, &out);
	pipe_of("x", ends);
	FAILS(copy_file_range(ends[0], NULL, out, NULL, 1, 0), EINVAL);
}

TEST(copy_range_within_a_file)
{
	off_t from = 0, to = 10;
	int fd;

	put("f", "abcdef");
	fd = rw("f");
	EQ(copy_file_range(fd, &from, fd, &to, 6, 0), 6);
	HOLDS_BYTES("f", "abcdef\0\0\0\0abcdef", 16);
}

TEST(copy_range_overlapping)
{
	off_t from = 0, to = 2;
	int fd;

	put("f", "abcdef");
	fd = rw("f");
	FAILS(copy_file_range(fd, &from, fd, &to, 4, 0), EINVAL);
}

TEST(copy_range_to_its_own_end)
{
	off_t from = 0, to = 6;
	int fd;

	put("f", "abcdef");
	fd = rw("f");
	EQ(copy_file_range(fd, &from, fd, &to, 1 << 30, 0), 6);
	HOLDS("f", "abcdefabcdef");
}

TEST(copy_range_negative_offset)
{
	off_t from = -1;
	int in, out;

	files(&in, &out);
	OK(copy_file_range(in, &from, out, NULL, 4, 0) == -1);
	OK(errno != EBADF);
}

TEST(copy_range_large)
{
	int in, out;
	ssize_t n, done = 0;

	put_size("in", 2500000);
	put("out", "");
	in = ro("in");
	out = rw("out");
	while ((n = copy_file_range(in, NULL, out, NULL, 2500000, 0)) > 0)
		done += n;
	EQ(done, 2500000);
	EQ(shell("cmp in out"), 0);
}

/* --- sendfile --------------------------------------------------------------------- */

TEST(sendfile_to_file)
{
	int in, out;

	files(&in, &out);
	EQ(sendfile(out, in, NULL, 100), 6);
	HOLDS("out", "abcdef");
	EQ(lseek(in, 0, SEEK_CUR), 6);
}

TEST(sendfile_from_an_offset)
{
	off_t from = 2;
	int in, out;

	files(&in, &out);
	EQ(sendfile(out, in, &from, 3), 3);
	EQ(from, 5);
	EQ(lseek(in, 0, SEEK_CUR), 0);
	HOLDS("out", "cde");
}

TEST(sendfile_to_pipe)
{
	int in, out, ends[2];

	files(&in, &out);
	OK(pipe(ends) == 0);
	EQ(sendfile(ends[1], in, NULL, 6), 6);
	OK(read(ends[0], buffer, 10) == 6 && !memcmp(buffer, "abcdef", 6));
}

TEST(sendfile_to_local_file)
{
	int in, out, local = local_file("");

	files(&in, &out);
	EQ(sendfile(local, in, NULL, 6), 6);
	EQ(pread(local, buffer, 10, 0), 6);
}

TEST(sendfile_from_local_file)
{
	int in, out;

	files(&in, &out);
	EQ(sendfile(out, local_file("local"), NULL, 10), 0 + 5);
	HOLDS("out", "local");
}

TEST(sendfile_at_end_is_zero)
{
	int in, out;

	files(&in, &out);
	EQ(lseek(in, 0, SEEK_END), 6);
	EQ(sendfile(out, in, NULL, 6), 0);
}

TEST(sendfile_to_read_only)
{
	int in, out;

	files(&in, &out);
	FAILS(sendfile(ro("out"), in, NULL, 6), EBADF);
}

TEST(sendfile_from_write_only)
{
	int in, out;

	files(&in, &out);
	FAILS(sendfile(out, wo("in"), NULL, 6), EBADF);
}

TEST(sendfile_to_append)
{
	int in, out;

	files(&in, &out);
	FAILS(sendfile(open("out", O_WRONLY | O_APPEND), in, NULL, 6), EINVAL);
}

TEST(sendfile_negative_offset)
{
	off_t from = -1;
	int in, out;

	files(&in, &out);
	FAILS(sendfile(out, in, &from, 6), EINVAL);
}

/* --- splice, tee, vmsplice -------------------------------------------------------- */

TEST(splice_file_to_pipe)
{
	int in, out, ends[2];

	files(&in, &out);
	OK(pipe(ends) == 0);
	EQ(splice(in, NULL, ends[1], NULL, 4, 0), 4);
	EQ(lseek(in, 0, SEEK_CUR), 4);
	OK(read(ends[0], buffer, 10) == 4 && !memcmp(buffer, "abcd", 4));
}

TEST(splice_file_to_pipe_from_an_offset)
{
	int in, out, ends[2];
	off64_t from = 3;

	files(&in, &out);
	OK(pipe(ends) == 0);
	EQ(splice(in, &from, ends[1], NULL, 10, 0), 3);
	EQ(from, 6);
	EQ(lseek(in, 0, SEEK_CUR), 0);
}

TEST(splice_pipe_to_file)
{
	int in, out, ends[2];

	files(&in, &out);
	pipe_of("piped", ends);
	EQ(splice(ends[0], NULL, out, NULL, 5, 0), 5);
	HOLDS("out", "piped");
	EQ(lseek(out, 0, SEEK_CUR), 5);
}

TEST(splice_pipe_to_file_at_an_offset)
{
	int in, out, ends[2];
	off64_t to = 2;

	files(&in, &out);
	pipe_of("xy", ends);
	EQ(splice(ends[0], NULL, out, &to, 2, 0), 2);
	EQ(to, 4);
	HOLDS_BYTES("out", "\0\0xy", 4);
}

TEST(splice_file_to_file_is_einval)
{
	int in, out;

	files(&in, &out);
	FAILS(splice(in, NULL, out, NULL, 4, 0), EINVAL);
}

TEST(splice_with_pipe_offset_is_espipe)
{
	int in, out, ends[2];
	off64_t at = 0;

	files(&in, &out);
	OK(pipe(ends) == 0);
	FAILS(splice(in, NULL, ends[1], &at, 4, 0), ESPIPE);
}

TEST(splice_at_end_is_zero)
{
	int in, out, ends[2];

	files(&in, &out);
	OK(pipe(ends) == 0);
	EQ(lseek(in, 0, SEEK_END), 6);
	EQ(splice(in, NULL, ends[1], NULL, 4, 0), 0);
}

TEST(splice_to_append_is_einval)
{
	int in, out, ends[2];

	files(&in, &out);
	pipe_of("x", ends);
	FAILS(splice(ends[0], NULL, open("out", O_WRONLY | O_APPEND), NULL, 1, 0),
		EINVAL);
}

TEST(splice_from_empty_pipe_nonblock)
{
	int in, out, ends[2];

	files(&in, &out);
	OK(pipe(ends) == 0);
	FAILS(splice(ends[0], NULL, out, NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
}

TEST(splice_from_closed_pipe_is_zero)
{
	int in, out, ends[2];

	files(&in, &out);
	OK(pipe(ends) == 0 && close(ends[1]) == 0);
	EQ(splice(ends[0], NULL, out, NULL, 1, 0), 0);
}

TEST(splice_to_read_only)
{
	int in, out, ends[2];

	files(&in, &out);
	pipe_of("x", ends);
	FAILS(splice(ends[0], NULL, ro("out"), NULL, 1, 0), EBADF);
}

TEST(tee_of_file_is_einval)
{
	int in, out, ends[2];

	files(&in, &out);
	OK(pipe(ends) == 0);
	FAILS(tee(in, ends[1], 4, 0), EINVAL);
}

TEST(vmsplice_to_file_is_ebadf)
{
	struct iovec iov = {buffer, 4};
	int in, out;

	files(&in, &out);
	FAILS(vmsplice(out, &iov, 1, 0), EBADF);
}

/* --- clones ----------------------------------------------------------------------- */

TEST(ficlone_is_not_supported)
{
	int in, out;

	files(&in, &out);
	FAILS(ioctl(out, FICLONE, in), EOPNOTSUPP);
}

TEST(ficlone_of_other_file_system_is_exdev)
{
	int in, out;

	files(&in, &out);
	FAILS(ioctl(out, FICLONE, open("/proc/self/exe", O_RDONLY)), EXDEV);
}

TEST(ficlonerange_is_not_supported)
{
	struct file_clone_range range = {0};
	int in, out;

	files(&in, &out);
	range.src_fd = in;
	FAILS(ioctl(out, FICLONERANGE, &range), EOPNOTSUPP);
}

TEST(cp_reflink_auto_copies)
{
	put("f", "text");
	EQ(shell("cp --reflink=auto f g"), 0);
	HOLDS("g", "text");
}

TEST(cp_reflink_always_fails)
{
	put("f", "text");
	OK(shell("cp --reflink=always f g 2>/dev/null") != 0);
}

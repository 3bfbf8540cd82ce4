/*
 * A large file with holes: writes and reads of odd sizes across the 1 MiB chunk borders,
 * checked against a model in memory; truncation in both directions.
 */
#include "posix.h"

#define SPACE (5 << 20)

static unsigned char model[SPACE], back[SPACE];
static uint64_t state = 12345;

static uint32_t roll(uint32_t below)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(state >> 33) % below;
}

static void compare(int fd, off_t size)
{
	struct stat st;
	ssize_t got;

	OK(fstat(fd, &st) == 0 && st.st_size == size);
	memset(back, 0xee, sizeof(back));
	got = pread(fd, back, SPACE, 0);
	OK(got == size);
	for (off_t i = 0; i < size; i++)
		if (back[i] != model[i]) {
			fprintf(stderr, "byte %ld: %02x, not %02x\n", (long)i, back[i],
				model[i]);
			posix_failed = 1;
			return;
		}
}

int main(int argc, char **argv)
{
	static unsigned char piece[300000];
	off_t size = 0;
	int fd;

	posix_start(argc, argv);
	fd = open(at("big"), O_RDWR | O_CREAT, 0644);
	for (int i = 0; i < 60; i++) {
		size_t length = 1 + roll(i % 4 ? 9000 : sizeof(piece));
		off_t offset = i % 3 ? (off_t)roll(SPACE - (uint32_t)length)
				     : ((off_t)(1 + roll(4)) << 20) - (off_t)(length / 2);

		for (size_t k = 0; k < length; k++)
			piece[k] = (unsigned char)roll(256);
		OK(pwrite(fd, piece, length, offset) == (ssize_t)length);
		memcpy(model + offset, piece, length);
		if (offset + (off_t)length > size)
			size = offset + (off_t)length;
		if (i % 10 == 9)
			compare(fd, size);
		if (i % 20 == 19) {
			off_t cut = (off_t)roll(SPACE);

			OK(ftruncate(fd, cut) == 0);
			if (cut < size)
				memset(model + cut, 0, (size_t)(size - cut));
			size = cut;
			compare(fd, size);
		}
	}
	OK(fsync(fd) == 0 && fdatasync(fd) == 0);
	for (int i = 0; i < 100; i++) {
		size_t length = 1 + roll(70000);
		off_t offset = (off_t)roll((uint32_t)size);
		size_t want = offset + (off_t)length > size ? (size_t)(size - offset) : length;

		OK(pread(fd, piece, length, offset) == (ssize_t)want);
		OK(!memcmp(piece, model + offset, want));
	}
	OK(pwrite(fd, "end", 3, (off_t)1 << 33) == 3);
	OK(lseek(fd, 0, SEEK_END) == ((off_t)1 << 33) + 3);
	OK(pread(fd, piece, 10, (off_t)1 << 33) == 3);
	OK(pread(fd, piece, 10, (off_t)1 << 32) == 10 && piece[0] == 0);
	OK(lseek(fd, -3, SEEK_CUR) == (off_t)1 << 33);
	FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
	OK(posix_fallocate(fd, 0, 100) == 0);
	OK(ftruncate(fd, 10) == 0 && posix_fallocate(fd, 0, 100) == 0);
	OK(lseek(fd, 0, SEEK_END) == 100);
	OK(close(fd) == 0 && unlink(at("big")) == 0);
	return posix_end();
}

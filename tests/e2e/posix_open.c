/* The flags of open, what F_GETFL reports, and the errors. */
#include "posix.h"

struct open_case {
	const char *name;
	int flags;
	int error; /* 0: succeeds */
};

static const struct open_case cases[] = {
	{"file", O_RDONLY, 0},
	{"file", O_WRONLY, 0},
	{"file", O_RDWR, 0},
	{"file", O_RDWR | O_CREAT, 0},
	{"file", O_RDWR | O_CREAT | O_EXCL, EEXIST},
	{"file", O_RDONLY | O_DIRECTORY, ENOTDIR},
	{"file/", O_RDONLY, ENOTDIR},
	{"file/x", O_RDONLY, ENOTDIR},
	{"absent", O_RDONLY, ENOENT},
	{"absent/x", O_RDWR | O_CREAT, ENOENT},
	{"new", O_RDWR | O_CREAT | O_EXCL, 0},
	{"dir", O_RDONLY, 0},
	{"dir", O_RDONLY | O_DIRECTORY, 0},
	{"dir/", O_RDONLY, 0},
	{"dir", O_WRONLY, EISDIR},
	{"dir", O_RDWR, EISDIR},
	{"dir", O_RDWR | O_CREAT, EISDIR},
	{"link", O_RDONLY, 0},
	{"link", O_RDONLY | O_NOFOLLOW, ELOOP},
	{"link", O_RDWR | O_CREAT | O_EXCL, EEXIST},
	{"link", O_PATH | O_NOFOLLOW, 0},
	{"dangling", O_RDONLY, ENOENT},
	{"dangling", O_RDWR | O_CREAT | O_EXCL, EEXIST},
	{"loop", O_RDONLY, ELOOP},
	{"", O_RDONLY, 0},
	{".", O_RDONLY, 0},
	{"dir/../file", O_RDONLY, 0},
	{"dir//.//../file", O_RDONLY, 0},
	{"file", O_RDONLY | O_APPEND | O_NONBLOCK, 0},
	{"file", O_RDWR | O_SYNC, 0},
};

static void check_cases(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int got = 0, fd = open(at(cases[i].name), cases[i].flags, 0644);

		if (fd < 0)
			got = errno;
		if (got != cases[i].error) {
			fprintf(stderr, "open %s flags %x: %s, not %s\n", cases[i].name,
				(unsigned)cases[i].flags, strerror(got),
				strerror(cases[i].error));
			posix_failed = 1;
		}
		if (fd >= 0)
			close(fd);
	}
}

static void check_modes(void)
{
	char byte = 'x';
	int fd;

	fd = open(at("file"), O_RDONLY);
	FAILS(write(fd, &byte, 1), EBADF);
	FAILS(ftruncate(fd, 0), EINVAL);
	OK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
	close(fd);
	fd = open(at("file"), O_WRONLY | O_APPEND);
	FAILS(read(fd, &byte, 1), EBADF);
	OK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
	OK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	OK((fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK)) ==
		(O_WRONLY | O_NONBLOCK));
	close(fd);
	fd = open(at("dir"), O_RDONLY);
	FAILS(read(fd, &byte, 1), EISDIR);
	close(fd);
	fd = open(at("file"), O_PATH);
	FAILS(read(fd, &byte, 1), EBADF);
	close(fd);
	FAILS(read(fd, &byte, 1), EBADF);
	FAILS(close(fd), EBADF);
}

static void check_truncate(void)
{
	struct stat st;
	int fd;

	put("t", "0123456789");
	fd = open(at("t"), O_RDWR | O_TRUNC);
	OK(fstat(fd, &st) == 0 && st.st_size == 0);
	OK(write(fd, "abc", 3) == 3);
	OK(ftruncate(fd, 6) == 0 && fstat(fd, &st) == 0 && st.st_size == 6);
	OK(lseek(fd, 0, SEEK_CUR) == 3);
	close(fd);
	OK(truncate(at("t"), 2) == 0 && holds("t", "ab"));
	FAILS(truncate(at("absent"), 2), ENOENT);
	FAILS(truncate(at("dir"), 2), EISDIR);
	FAILS(truncate(at("t"), -1), EINVAL);
}

/* The mode is cut by the umask; descriptors are the lowest, CLOEXEC as asked. */
static void check_descriptor(void)
{
	struct stat st;
	int a, b, c;

	umask(027);
	a = open(at("m"), O_WRONLY | O_CREAT, 0666);
	OK(fstat(a, &st) == 0 && (st.st_mode & 07777) == 0640);
	umask(022);
	b = open(at("file"), O_RDONLY | O_CLOEXEC);
	c = open(at("file"), O_RDONLY);
	OK(fcntl(a, F_GETFD) == 0 && fcntl(b, F_GETFD) == FD_CLOEXEC);
	close(b);
	OK(open(at("file"), O_RDONLY) == b);
	close(a);
	close(c);
	OK(open("/dev/null", O_RDONLY) == a);
	close(a);
	close(b);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	put("file", "text");
	OK(mkdir(at("dir"), 0755) == 0);
	OK(symlink("file", at("link")) == 0);
	OK(symlink("nothing", at("dangling")) == 0);
	OK(symlink("loop", at("loop")) == 0);
	check_cases();
	check_modes();
	check_truncate();
	check_descriptor();
	return posix_end();
}

/* Streams on descriptors, moved by freopen and dup2, and those that are not files. */
#include "tests/behave/behave.h"

static char text[65536];

static FILE *stream(const char *name, const char *mode)
{
	FILE *fp = fopen(name, mode);

	if (!fp)
		unmet(name, 0, "fopen %s: %s", mode, strerror(errno));
	return fp;
}

static void closed(FILE *fp)
{
	OK(fclose(fp) == 0);
}

/* --- from and to descriptors ------------------------------------------------------ */

TEST(fdopen_starts_at_the_offset)
{
	int fd;

	put("f", "abcdef");
	fd = rw("f");
	EQ(lseek(fd, 2, SEEK_SET), 2);
	EQ(fgetc(fdopen(fd, "r")), 'c');
}

TEST(fdopen_wrong_mode)
{
	put("f", "");
	NULLS(fdopen(ro("f"), "w"), EINVAL);
	NULLS(fdopen(wo("f"), "r"), EINVAL);
}

TEST(fdopen_closed_descriptor)
{
	NULLS(fdopen(99, "r"), EBADF);
}

TEST(fdopen_append_sets_the_flag)
{
	int fd;

	put("f", "abc");
	fd = rw("f");
	OK(fputs("d", fdopen(fd, "a")) >= 0);
	EQ(fcntl(fd, F_GETFL) & O_APPEND, O_APPEND);
}

TEST(fdopen_does_not_cut)
{
	put("f", "abc");
	closed(fdopen(rw("f"), "w"));
	HOLDS("f", "abc");
}

TEST(fdopen_fclose_closes_the_descriptor)
{
	int fd = rw("f");

	closed(fdopen(fd, "r"));
	FAILS(fcntl(fd, F_GETFD), EBADF);
}

TEST(freopen_to_another)
{
	FILE *fp;
	int fd;

	put("a", "aa");
	put("b", "bb");
	fp = stream("a", "r");
	fd = fileno(fp);
	OK(fgetc(fp) == 'a' && freopen("b", "r", fp) == fp);
	OK(fileno(fp) == fd && fgetc(fp) == 'b');
}

TEST(freopen_to_local_and_back)
{
	FILE *fp;

	put("a", "aa");
	fp = stream("a", "r");
	OK(freopen("/dev/zero", "r", fp) && fgetc(fp) == 0);
	OK(freopen("a", "r", fp) && fgetc(fp) == 'a');
}

TEST(freopen_of_local_stream)
{
	FILE *fp = stream("/dev/null", "w");

	OK(freopen("f", "w", fp) && fputs("text", fp) >= 0);
	closed(fp);
	HOLDS("f", "text");
}

TEST(freopen_failed_closes)
{
	FILE *fp = stream("f", "w");
	int fd = fileno(fp);

	NULLS(freopen("absent/f", "r", fp), ENOENT);
	FAILS(fcntl(fd, F_GETFD), EBADF);
}

TEST(freopen_changes_the_mode)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "r+");
	fp = freopen(NULL, "a", fp);
	if (!fp)
		unmet("freopen", 0, "%s", strerror(errno));
	OK(fputs("d", fp) >= 0);
	closed(fp);
	HOLDS("f", "abcd");
}

TEST(freopen_stdout)
{
	pid_t pid = fork();

	if (!pid) {
		if (!freopen("f", "w", stdout))
			_exit(1);
		printf("to %s\n", "file");
		exit(0);
	}
	EQ(finish(pid), 0);
	HOLDS("f", "to file\n");
}

TEST(stdout_over_dup2)
{
	CHILD
	{
		OK(dup2(rw("f"), 1) == 1);
		printf("over\n");
		OK(fflush(stdout) == 0);
	}
	HOLDS("f", "over\n");
}

TEST(stdin_over_dup2)
{
	put("f", "line\n");
	CHILD
	{
		OK(dup2(ro("f"), 0) == 0);
		OK(fgets(text, 64, stdin) && !strcmp(text, "line\n"));
	}
}

TEST(perror_to_a_file)
{
	CHILD
	{
		OK(dup2(rw("f"), 2) == 2);
		errno = ENOENT;
		perror("who");
	}
	HOLDS("f", "who: No such file or directory\n");
}

TEST(dprintf_to_descriptor)
{
	EQ(dprintf(rw("f"), "%d-%s", 7, "x"), 3);
	HOLDS("f", "7-x");
}

TEST(popen_reads_and_writes)
{
	FILE *fp;

	put("f", "from file\n");
	fp = popen("cat f", "r");
	OK(fp && fgets(text, 64, fp) && !strcmp(text, "from file\n") && pclose(fp) == 0);
	fp = popen("cat >g", "w");
	OK(fp && fputs("to g", fp) >= 0 && pclose(fp) == 0);
	HOLDS("g", "to g");
}

TEST(fmemopen_is_untouched)
{
	char own[16] = "memory";
	FILE *fp = fmemopen(own, 16, "r+");

	OK(fp && fgetc(fp) == 'm' && fseek(fp, 0, SEEK_SET) == 0 &&
		fputc('M', fp) == 'M');
	closed(fp);
	OK(!strncmp(own, "Memory", 6));
}

TEST(open_memstream_is_untouched)
{
	char *own;
	size_t size;
	FILE *fp = open_memstream(&own, &size);

	fprintf(fp, "%d", 12345);
	closed(fp);
	OK(size == 5 && !strcmp(own, "12345"));
}

TEST(flockfile_and_unlocked)
{
	FILE *fp;

	put("f", "ab");
	fp = stream("f", "r");
	flockfile(fp);
	OK(getc_unlocked(fp) == 'a' && fgetc_unlocked(fp) == 'b');
	funlockfile(fp);
}

TEST(streams_200_at_once)
{
	static FILE *all[200];

	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		all[i] = stream(name, "w");
		fprintf(all[i], "%d", i);
	}
	for (int i = 0; i < 200; i++)
		closed(all[i]);
	HOLDS("117", "117");
}

TEST(fork_with_unflushed_stream)
{
	FILE *fp = stream("f", "w");
	pid_t pid;

	OK(fputs("x", fp) >= 0);
	pid = fork();
	if (!pid)
		exit(0);
	EQ(finish(pid), 0);
	closed(fp);
	HOLDS("f", "xx");
}

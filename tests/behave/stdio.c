/* Streams: modes, positions, buffers, lines, wide characters, freopen. */
#include <locale.h>
#include <stdio_ext.h>
#include <wchar.h>

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

/* --- modes ------------------------------------------------------------------------ */

TEST(fopen_r)
{
	FILE *fp;

	put("f", "text");
	fp = stream("f", "r");
	OK(fgets(text, 64, fp) && !strcmp(text, "text"));
	OK(fputs("x", fp) == EOF && ferror(fp));
}

TEST(fopen_r_absent)
{
	NULLS(fopen("absent", "r"), ENOENT);
	NULLS(fopen("absent", "r+"), ENOENT);
}

TEST(fopen_w_makes_and_cuts)
{
	closed(stream("new", "w"));
	HOLDS("new", "");
	put("f", "text");
	closed(stream("f", "w"));
	HOLDS("f", "");
}

TEST(fopen_w_mode_is_0666_less_umask)
{
	umask(002);
	closed(stream("f", "w"));
	EQ(mode_of("f"), 0664);
}

TEST(fopen_w_cannot_read)
{
	FILE *fp = stream("f", "w");

	OK(fgetc(fp) == EOF && ferror(fp));
}

TEST(fopen_a_appends)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "a");
	OK(fputs("def", fp) >= 0);
	closed(fp);
	HOLDS("f", "abcdef");
}

TEST(fopen_a_position)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "a");
	EQ(ftell(fp), 3);
	OK(fputs("def", fp) >= 0);
	EQ(ftell(fp), 6);
}

TEST(fopen_a_ignores_seeks)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "a");
	OK(fseek(fp, 0, SEEK_SET) == 0 && fputs("d", fp) >= 0);
	closed(fp);
	HOLDS("f", "abcd");
}

TEST(fopen_r_plus_overwrites)
{
	FILE *fp;

	put("f", "abcdef");
	fp = stream("f", "r+");
	OK(fputs("XY", fp) >= 0);
	closed(fp);
	HOLDS("f", "XYcdef");
}

TEST(fopen_r_plus_read_then_write)
{
	FILE *fp;

	put("f", "abcdef");
	fp = stream("f", "r+");
	OK(fgetc(fp) == 'a' && fseek(fp, 0, SEEK_CUR) == 0 && fputc('X', fp) == 'X');
	closed(fp);
	HOLDS("f", "aXcdef");
}

TEST(fopen_w_plus_reads_back)
{
	FILE *fp = stream("f", "w+");

	OK(fputs("text", fp) >= 0);
	rewind(fp);
	OK(fgets(text, 64, fp) && !strcmp(text, "text"));
}

TEST(fopen_a_plus_reads_from_the_start)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "a+");
	EQ(fgetc(fp), 'a');
	OK(fseek(fp, 0, SEEK_SET) == 0 && fputs("d", fp) >= 0 && fflush(fp) == 0);
	HOLDS("f", "abcd");
}

TEST(fopen_x_is_exclusive)
{
	closed(stream("f", "wx"));
	NULLS(fopen("f", "wx"), EEXIST);
}

TEST(fopen_e_is_cloexec)
{
	put("f", "");
	EQ(fcntl(fileno(stream("f", "re")), F_GETFD), FD_CLOEXEC);
	EQ(fcntl(fileno(stream("f", "r")), F_GETFD), 0);
}

TEST(fopen_b_is_nothing)
{
	FILE *fp = stream("f", "wb");

	OK(fputs("a\r\n", fp) >= 0);
	closed(fp);
	HOLDS("f", "a\r\n");
}

TEST(fopen_m_maps)
{
	FILE *fp;

	put("f", "mapped\ntext\n");
	fp = stream("f", "rm");
	OK(fgets(text, 64, fp) && !strcmp(text, "mapped\n"));
	OK(fgets(text, 64, fp) && !strcmp(text, "text\n") && !fgets(text, 64, fp));
}

TEST(fopen_bad_mode)
{
	NULLS(fopen("f", "q"), EINVAL);
	OK(!there("f"));
}

TEST(fopen_directory)
{
	FILE *fp;

	dir("d");
	NULLS(fopen("d", "w"), EISDIR);
	fp = stream("d", "r");
	OK(fgetc(fp) == EOF && ferror(fp));
}

TEST(fopen64_is_fopen)
{
	put("f", "x");
	OK(fgetc(fopen64("f", "r")) == 'x');
}

/* --- positions -------------------------------------------------------------------- */

TEST(fseek_and_ftell)
{
	FILE *fp;

	put("f", "abcdef");
	fp = stream("f", "r");
	OK(fseek(fp, 2, SEEK_SET) == 0 && fgetc(fp) == 'c' && ftell(fp) == 3);
	OK(fseek(fp, 1, SEEK_CUR) == 0 && fgetc(fp) == 'e');
	OK(fseek(fp, -1, SEEK_END) == 0 && fgetc(fp) == 'f' && ftell(fp) == 6);
}

TEST(fseek_before_start)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "r");
	FAILS(fseek(fp, -1, SEEK_SET), EINVAL);
}

TEST(fseek_clears_end_of_file)
{
	FILE *fp;

	put("f", "a");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && fgetc(fp) == EOF && feof(fp));
	OK(fseek(fp, 0, SEEK_SET) == 0 && !feof(fp) && fgetc(fp) == 'a');
}

TEST(fseek_past_end_and_write)
{
	FILE *fp = stream("f", "w");

	OK(fseek(fp, 3, SEEK_SET) == 0 && fputc('x', fp) == 'x');
	closed(fp);
	HOLDS_BYTES("f", "\0\0\0x", 4);
}

TEST(fseeko_beyond_4g)
{
	FILE *fp = stream("f", "w");

	OK(fseeko(fp, 5ll << 30, SEEK_SET) == 0 && fputc('x', fp) == 'x');
	EQ(ftello(fp), (5ll << 30) + 1);
	closed(fp);
	EQ(see("f").st_size, (5ll << 30) + 1);
}

TEST(fgetpos_fsetpos)
{
	fpos_t where;
	FILE *fp;

	put("f", "abcdef");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && fgetpos(fp, &where) == 0 && fgetc(fp) == 'b');
	OK(fgetc(fp) == 'c' && fsetpos(fp, &where) == 0 && fgetc(fp) == 'b');
}

TEST(rewind_clears_error)
{
	FILE *fp;

	put("f", "a");
	fp = stream("f", "r");
	OK(fputc('x', fp) == EOF && ferror(fp));
	rewind(fp);
	OK(!ferror(fp) && fgetc(fp) == 'a');
}

TEST(ungetc_one)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && ungetc('Z', fp) == 'Z' && ftell(fp) == 0);
	OK(fgetc(fp) == 'Z' && fgetc(fp) == 'b');
}

TEST(ungetc_at_end_of_file)
{
	FILE *fp;

	put("f", "a");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && fgetc(fp) == EOF && ungetc('b', fp) == 'b' && !feof(fp));
	OK(fgetc(fp) == 'b' && fgetc(fp) == EOF);
}

TEST(ungetc_is_dropped_by_fseek)
{
	FILE *fp;

	put("f", "abc");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && ungetc('Z', fp) == 'Z' && fseek(fp, 1, SEEK_SET) == 0);
	EQ(fgetc(fp), 'b');
}

/* --- buffers ---------------------------------------------------------------------- */

TEST(stream_is_buffered)
{
	FILE *fp = stream("f", "w");

	OK(fputs("text", fp) >= 0 && see("f").st_size == 0);
	OK(fflush(fp) == 0);
	HOLDS("f", "text");
}

TEST(setvbuf_none)
{
	FILE *fp = stream("f", "w");

	OK(setvbuf(fp, NULL, _IONBF, 0) == 0 && fputs("text", fp) >= 0);
	HOLDS("f", "text");
}

TEST(setvbuf_lines)
{
	FILE *fp = stream("f", "w");

	OK(setvbuf(fp, NULL, _IOLBF, 1024) == 0 && fputs("one\ntwo", fp) >= 0);
	HOLDS("f", "one\n");
}

TEST(setvbuf_own_buffer)
{
	static char own[128];
	FILE *fp = stream("f", "w");

	OK(setvbuf(fp, own, _IOFBF, sizeof(own)) == 0);
	for (int i = 0; i < 1000; i++)
		fputc('a' + i % 26, fp);
	closed(fp);
	EQ(see("f").st_size, 1000);
}

TEST(stream_buffer_is_a_block)
{
	FILE *fp = stream("f", "w");

	OK(fputs("x", fp) >= 0);
	OK(__fbufsize(fp) >= 512);
}

TEST(fflush_all_streams)
{
	FILE *a = stream("a", "w"), *b = stream("b", "w");

	OK(fputs("1", a) >= 0 && fputs("2", b) >= 0 && fflush(NULL) == 0);
	HOLDS("a", "1");
	HOLDS("b", "2");
}

TEST(fflush_of_reader_moves_the_descriptor)
{
	FILE *fp;

	put("f", "abcdef");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && fflush(fp) == 0);
	EQ(lseek(fileno(fp), 0, SEEK_CUR), 1);
}

TEST(exit_flushes_streams)
{
	pid_t pid = fork();

	if (!pid) {
		OK(fputs("flushed", stream("f", "w")) >= 0);
		exit(0);
	}
	EQ(finish(pid), 0);
	HOLDS("f", "flushed");
}

TEST(underscore_exit_does_not_flush)
{
	CHILD
	{
		OK(fputs("lost", stream("f", "w")) >= 0);
	}
	HOLDS("f", "");
}

TEST(abort_ends_with_its_signal)
{
	pid_t pid = fork();

	if (!pid) {
		fputs("x", stream("f", "w"));
		abort();
	}
	EQ(finish(pid), 256 + SIGABRT);
}

TEST(fclose_writes_and_closes)
{
	FILE *fp = stream("f", "w");
	int fd = fileno(fp);

	OK(fputs("text", fp) >= 0 && fclose(fp) == 0);
	HOLDS("f", "text");
	FAILS(fcntl(fd, F_GETFD), EBADF);
}

TEST(fclose_reports_the_lost_write)
{
	FILE *fp = stream("f", "w");

	OK(fputs("text", fp) >= 0 && close(fileno(fp)) == 0);
	FAILS(fclose(fp), EBADF);
}

TEST(fwrite_large)
{
	FILE *fp = stream("f", "w");

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = byte_at(i);
	for (int i = 0; i < 20; i++)
		EQ(fwrite(text, 1, sizeof(text), fp), sizeof(text));
	closed(fp);
	EQ(see("f").st_size, 20 * sizeof(text));
}

TEST(fread_large)
{
	static char back[700000];
	FILE *fp;

	put_size("f", 700000);
	fp = stream("f", "r");
	EQ(fgetc(fp), byte_at(0));
	EQ(fread(back, 1, sizeof(back), fp), 699999);
	OK(back[699998] == byte_at(699999) && feof(fp));
}

TEST(fread_counts_items)
{
	FILE *fp;

	put("f", "abcdefgh");
	fp = stream("f", "r");
	EQ(fread(text, 3, 5, fp), 2);
}

TEST(stream_sees_what_was_appended_after_eof)
{
	FILE *fp;

	put("f", "a");
	fp = stream("f", "r");
	OK(fgetc(fp) == 'a' && fgetc(fp) == EOF);
	EQ(pwrite(rw("f"), "b", 1, 1), 1);
	clearerr(fp);
	EQ(fgetc(fp), 'b');
}

/* --- lines and formats ------------------------------------------------------------ */

TEST(fprintf_and_fscanf)
{
	int number = 0;
	FILE *fp = stream("f", "w+");

	EQ(fprintf(fp, "%s=%d\n", "key", 42), 7);
	rewind(fp);
	OK(fscanf(fp, "%63[^=]=%d", text, &number) == 2 && number == 42);
}

TEST(getline_grows)
{
	char *line = NULL;
	size_t room = 0;
	FILE *fp;

	put_size("f", 50000);
	fp = stream("f", "r");
	EQ(getline(&line, &room, fp), 50000);
	OK(getline(&line, &room, fp) == -1 && feof(fp));
}

TEST(getdelim_by_byte)
{
	char *part = NULL;
	size_t room = 0;
	FILE *fp;

	put("f", "a:b:");
	fp = stream("f", "r");
	OK(getdelim(&part, &room, ':', fp) == 2 && getdelim(&part, &room, ':', fp) == 2);
	OK(!strcmp(part, "b:") && getdelim(&part, &room, ':', fp) == -1);
}

TEST(fgets_stops_at_room)
{
	FILE *fp;

	put("f", "abcdef\n");
	fp = stream("f", "r");
	OK(fgets(text, 4, fp) && !strcmp(text, "abc") && fgets(text, 64, fp));
	OK(!strcmp(text, "def\n"));
}

TEST(lines_20000)
{
	FILE *fp = stream("f", "w");

	for (int i = 0; i < 20000; i++)
		fprintf(fp, "line %d\n", i);
	closed(fp);
	fp = stream("f", "r");
	for (int i = 0; i < 20000; i++) {
		char want[32];

		snprintf(want, sizeof(want), "line %d\n", i);
		OK(fgets(text, 64, fp) && !strcmp(text, want));
	}
	OK(!fgets(text, 64, fp));
}

TEST(putw_getw)
{
	FILE *fp = stream("f", "w+");

	OK(putw(0x12345678, fp) == 0);
	rewind(fp);
	EQ(getw(fp), 0x12345678);
}

/* --- wide ------------------------------------------------------------------------- */

static void wide(void)
{
	if (!setlocale(LC_ALL, "C.UTF-8"))
		skip("no C.UTF-8");
}

TEST(wide_written_as_utf8)
{
	FILE *fp = stream("f", "w");

	wide();
	OK(fputws(L"gr\u00fc\u00df \u4e16", fp) >= 0);
	closed(fp);
	HOLDS("f", "gr\u00fc\u00df \u4e16");
}

TEST(wide_read_back)
{
	wchar_t line[64];
	FILE *fp;

	wide();
	put("f", "gr\u00fc\u00df\nx");
	fp = stream("f", "r");
	OK(fgetws(line, 64, fp) && !wcscmp(line, L"gr\u00fc\u00df\n") &&
		fgetwc(fp) == L'x');
	OK(fgetwc(fp) == WEOF && feof(fp));
}

TEST(wide_ungetwc)
{
	FILE *fp;

	wide();
	put("f", "\u00fcx");
	fp = stream("f", "r");
	OK(fgetwc(fp) == L'\u00fc' && ungetwc(L'\u00e9', fp) == L'\u00e9');
	OK(fgetwc(fp) == L'\u00e9' && fgetwc(fp) == L'x');
}

TEST(wide_fwprintf_append)
{
	FILE *fp;

	wide();
	put("f", "a");
	fp = stream("f", "a");
	OK(fwprintf(fp, L"%ls", L"\u20ac") == 1);
	closed(fp);
	HOLDS("f", "a\u20ac");
}

TEST(wide_fseek)
{
	FILE *fp;

	wide();
	put("f", "\u00fc\u00e4x");
	fp = stream("f", "r");
	OK(fgetwc(fp) == L'\u00fc' && ftell(fp) == 2 && fgetwc(fp) == L'\u00e4');
	OK(fseek(fp, 2, SEEK_SET) == 0 && fgetwc(fp) == L'\u00e4');
}

TEST(wide_bad_bytes_are_eilseq)
{
	FILE *fp;

	wide();
	put("f", "\xff\xfe");
	fp = stream("f", "r");
	errno = 0;
	if (fgetwc(fp) != WEOF || errno != EILSEQ)
		unmet("fgetwc", 0, "%s", strerror(errno));
}

TEST(wide_orientation_stays)
{
	FILE *fp;

	put("f", "a");
	fp = stream("f", "r");
	OK(fwide(fp, 0) == 0 && fgetc(fp) == 'a' && fwide(fp, 1) < 0);
}

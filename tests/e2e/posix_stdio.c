/* Streams: modes, positions, ungetc, wide characters, freopen, getline, buffering. */
#include <locale.h>
#include <wchar.h>

#include "posix.h"

static void check_modes(void)
{
	char text[64] = "";
	FILE *fp;

	fp = fopen(at("s"), "w");
	OK(fp && fprintf(fp, "%d-%s\n", 42, "abc") == 7 && fputs("two\n", fp) >= 0);
	OK(ftell(fp) == 11 && fclose(fp) == 0 && holds("s", "42-abc\ntwo\n"));
	fp = fopen(at("s"), "a");
	OK(fp && fputs("three\n", fp) >= 0 && ftell(fp) == 17 && fclose(fp) == 0);
	fp = fopen(at("s"), "r+");
	OK(fp && fread(text, 1, 3, fp) == 3 && fseek(fp, 0, SEEK_CUR) == 0);
	OK(fwrite("XYZ", 1, 3, fp) == 3 && fclose(fp) == 0);
	OK(holds("s", "42-XYZ\ntwo\nthree\n"));
	fp = fopen(at("s"), "a+");
	OK(fp && fgetc(fp) == '4' && fseek(fp, 0, SEEK_SET) == 0);
	OK(fputs("end\n", fp) >= 0 && fclose(fp) == 0);
	OK(holds("s", "42-XYZ\ntwo\nthree\nend\n"));
	OK(!fopen(at("s"), "wx") && errno == EEXIST);
	OK(!fopen(at("s"), "q") && errno == EINVAL);
	OK(!fopen(at("absent"), "r") && errno == ENOENT);
	fp = fopen(at("s"), "re");
	OK(fp && fcntl(fileno(fp), F_GETFD) == FD_CLOEXEC);
	FAILS(fputs("x", fp), EBADF);
	OK(ferror(fp));
	fclose(fp);
	fp = fopen(at("s"), "w+");
	OK(fp && fputs("abc", fp) >= 0);
	rewind(fp);
	OK(fgetc(fp) == 'a' && ungetc('Z', fp) == 'Z' && fgetc(fp) == 'Z');
	OK(fgetc(fp) == 'b' && fseek(fp, -1, SEEK_END) == 0 && fgetc(fp) == 'c');
	OK(fgetc(fp) == EOF && feof(fp));
	fclose(fp);
}

static void check_lines(void)
{
	char *line = NULL;
	size_t room = 0;
	long total = 0;
	FILE *fp = fopen(at("lines"), "w");

	for (int i = 0; i < 20000; i++)
		fprintf(fp, "line %d\n", i);
	OK(fclose(fp) == 0);
	fp = fopen(at("lines"), "r");
	for (int i = 0; i < 20000; i++) {
		char want[32];

		snprintf(want, sizeof(want), "line %d\n", i);
		if (getline(&line, &room, fp) < 0 || strcmp(line, want)) {
			OK(!"getline");
			break;
		}
		total += (long)strlen(line);
	}
	OK(getline(&line, &room, fp) == -1 && ftell(fp) == total);
	fclose(fp);
	free(line);
}

static void check_wide(void)
{
	wchar_t text[64];
	FILE *fp;

	if (!setlocale(LC_ALL, "C.UTF-8"))
		return;
	fp = fopen(at("wide"), "w");
	OK(fp && fputws(L"gr\u00fc\u00df \u4e16\u754c\nsecond\n", fp) >= 0);
	OK(fclose(fp) == 0);
	fp = fopen(at("wide"), "r");
	OK(fp && fgetws(text, 64, fp) && !wcscmp(text, L"gr\u00fc\u00df \u4e16\u754c\n"));
	OK(fgetwc(fp) == L's' && ungetwc(L'\u00e9', fp) == L'\u00e9');
	OK(fgetwc(fp) == L'\u00e9' && fgetws(text, 64, fp) && !wcscmp(text, L"econd\n"));
	fclose(fp);
	fp = fopen(at("wide"), "a+");
	OK(fp && fwprintf(fp, L"%ls", L"\u20ac\n") >= 0 && fclose(fp) == 0);
	OK(holds("wide", "gr\u00fc\u00df \u4e16\u754c\nsecond\n\u20ac\n"));
}

static void check_reopen(void)
{
	char text[16] = "";
	int fd;
	FILE *fp;

	put("one", "1111");
	put("two", "2222");
	fp = fopen(at("one"), "r");
	fd = fileno(fp);
	OK(fgetc(fp) == '1');
	fp = freopen(at("two"), "r", fp);
	OK(fp && fileno(fp) == fd && fgetc(fp) == '2');
	fp = freopen("/dev/zero", "r", fp);
	OK(fp && fileno(fp) == fd && fgetc(fp) == 0);
	fp = freopen(at("one"), "w", fp);
	OK(fp && fileno(fp) == fd && fputs("new", fp) >= 0);
	OK(fclose(fp) == 0 && holds("one", "new"));
	FAILS(fcntl(fd, F_GETFD), EBADF);
	fd = open(at("two"), O_RDWR);
	OK(lseek(fd, 2, SEEK_SET) == 2);
	OK(!fdopen(-1, "r"));
	fp = fdopen(fd, "r+");
	OK(fp && fread(text, 1, 4, fp) == 2 && fileno(fp) == fd);
	OK(fseek(fp, 0, SEEK_SET) == 0 && fputs("ab", fp) >= 0 && fflush(fp) == 0);
	OK(holds("two", "ab22"));
	fclose(fp);
	fd = open(at("two"), O_RDONLY);
	OK(!fdopen(fd, "w") && errno == EINVAL);
	close(fd);
}

/* stdout moved to a file and back, within the process. */
static void check_stdout(void)
{
	int saved, fd;

	fflush(stdout);
	saved = dup(1);
	fd = open(at("stdout"), O_WRONLY | O_CREAT, 0644);
	OK(dup2(fd, 1) == 1);
	close(fd);
	printf("to %s\n", "file");
	fflush(stdout);
	OK(dup2(saved, 1) == 1);
	close(saved);
	OK(holds("stdout", "to file\n"));
}

static void check_buffer(void)
{
	char mine[128];
	struct stat st;
	FILE *fp = fopen(at("buf"), "w+");

	OK(setvbuf(fp, mine, _IOFBF, sizeof(mine)) == 0);
	for (int i = 0; i < 1000; i++)
		OK(fputc('a' + i % 26, fp) >= 0);
	OK(fflush(fp) == 0 && fstat(fileno(fp), &st) == 0 && st.st_size == 1000);
	for (int i = 0; i < 1000; i += 37)
		OK(fseeko(fp, i, SEEK_SET) == 0 && fgetc(fp) == 'a' + i % 26);
	fclose(fp);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	check_modes();
	check_lines();
	check_wide();
	check_reopen();
	check_stdout();
	check_buffer();
	return posix_end();
}

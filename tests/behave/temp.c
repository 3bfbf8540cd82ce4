/* Nameless and temporary files: O_TMPFILE, mkstemp and its family, tmpfile. */
#include "tests/behave/behave.h"

static int nameless(int flags)
{
	return open(".", O_TMPFILE | O_RDWR | flags, 0640);
}

static void give_name(int fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0);
}

TEST(tmpfile_opens_without_a_name)
{
	OK(nameless(0) >= 0);
	OK(!strcmp(names_in("."), ""));
}

TEST(tmpfile_reads_and_writes)
{
	char text[8] = "";
	int fd = nameless(0);

	EQ(write(fd, "text", 4), 4);
	OK(pread(fd, text, 8, 0) == 4 && !strcmp(text, "text"));
}

TEST(tmpfile_has_no_links)
{
	EQ(fsee(nameless(0)).st_nlink, 0);
}

TEST(tmpfile_mode_less_umask)
{
	umask(027);
	EQ(fsee(open(".", O_TMPFILE | O_RDWR, 0666)).st_mode & 07777, 0640);
}

TEST(tmpfile_linkat_gives_a_name)
{
	int fd = nameless(0);

	EQ(write(fd, "text", 4), 4);
	give_name(fd, "f");
	HOLDS("f", "text");
	EQ(fsee(fd).st_nlink, 1);
}

TEST(tmpfile_linkat_by_empty_path)
{
	int fd = nameless(0);

	need_root();
	OK(linkat(fd, "", AT_FDCWD, "f", AT_EMPTY_PATH) == 0);
	EQ(see("f").st_ino, fsee(fd).st_ino);
}

TEST(tmpfile_linkat_over_existing)
{
	char path[64];

	put("f", "");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", nameless(0));
	FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "f", AT_SYMLINK_FOLLOW), EEXIST);
}

TEST(tmpfile_linkat_into_other_directory)
{
	int fd = nameless(0);

	dir("d");
	give_name(fd, "d/f");
	OK(there("d/f"));
}

TEST(tmpfile_excl_cannot_be_linked)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", nameless(O_EXCL));
	FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "f", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(tmpfile_read_only_is_einval)
{
	FAILS(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

TEST(tmpfile_in_file_is_enotdir)
{
	put("f", "");
	FAILS(open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
}

TEST(tmpfile_in_absent_is_enoent)
{
	FAILS(open("absent", O_TMPFILE | O_RDWR, 0600), ENOENT);
}

TEST(tmpfile_needs_write_permission)
{
	CHILD_AS(1234, 1234)
	{
		FAILS(open(".", O_TMPFILE | O_RDWR, 0600), EACCES);
	}
}

TEST(tmpfile_linked_twice)
{
	int fd = nameless(0);

	give_name(fd, "a");
	give_name(fd, "b");
	EQ(fsee(fd).st_nlink, 2);
}

/* --- mkstemp ---------------------------------------------------------------------- */

TEST(mkstemp_makes_a_private_file)
{
	char name[] = "t-XXXXXX";

	umask(0);
	OK(mkstemp(name) >= 0);
	EQ(mode_of(name), 0600);
	OK(!strchr(name, 'X') || strcmp(name, "t-XXXXXX"));
}

TEST(mkstemp_is_open_for_both)
{
	char name[] = "t-XXXXXX", text[4] = "";
	int fd = mkstemp(name);

	OK(write(fd, "abc", 3) == 3 && pread(fd, text, 3, 0) == 3);
}

TEST(mkstemp_absolute)
{
	char *name = full("t-XXXXXX");

	OK(mkstemp(name) >= 0 && there(name));
}

TEST(mkstemp_bad_template)
{
	char name[] = "t-XXXXX", suffix[] = "t-XXXXXX.c";

	FAILS(mkstemp(name), EINVAL);
	FAILS(mkstemp(suffix), EINVAL);
}

TEST(mkstemp_twice_is_two_files)
{
	char a[] = "t-XXXXXX", b[] = "t-XXXXXX";

	OK(mkstemp(a) >= 0 && mkstemp(b) >= 0 && strcmp(a, b));
}

TEST(mkstemp_in_absent_directory)
{
	char name[] = "absent/t-XXXXXX";

	FAILS(mkstemp(name), ENOENT);
}

TEST(mkstemps_keeps_suffix)
{
	char name[] = "t-XXXXXX.c";

	OK(mkstemps(name, 2) >= 0);
	OK(!strcmp(name + 8, ".c") && there(name));
}

TEST(mkostemp_cloexec)
{
	char name[] = "t-XXXXXX";

	EQ(fcntl(mkostemp(name, O_CLOEXEC), F_GETFD), FD_CLOEXEC);
}

TEST(mkostemps_append)
{
	char name[] = "t-XXXXXX.c";

	EQ(fcntl(mkostemps(name, 2, O_APPEND), F_GETFL) & O_APPEND, O_APPEND);
}

TEST(mkdtemp_makes_a_private_directory)
{
	char name[] = "d-XXXXXX";

	OK(mkdtemp(name) == name);
	OK(S_ISDIR(see(name).st_mode));
	EQ(mode_of(name), 0700);
}

TEST(mkdtemp_bad_template)
{
	char name[] = "d";

	NULLS(mkdtemp(name), EINVAL);
}

TEST(tmpfile_stream_in_tmpdir)
{
	char text[8] = "";
	FILE *fp;

	OK(setenv("TMPDIR", test_dir, 1) == 0);
	fp = tmpfile();
	OK(fp && fputs("temp", fp) >= 0);
	rewind(fp);
	OK(fgets(text, 8, fp) && !strcmp(text, "temp"));
}

TEST(tempnam_is_in_its_directory)
{
	char *name = (unsetenv("TMPDIR"), tempnam(test_dir, "pre"));

	OK(name && !strncmp(name, test_dir, strlen(test_dir)));
	OK(!there(name));
}

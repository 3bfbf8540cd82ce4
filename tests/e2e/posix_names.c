/* Making, renaming, linking and removing names, and their errors. */
#include <limits.h>

#include "posix.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE  2
#endif

static void check_rename(void)
{
	struct stat a, b;

	put("a", "a");
	put("b", "b");
	OK(rename(at("a"), at("c")) == 0 && holds("c", "a") && access(at("a"), F_OK));
	OK(rename(at("b"), at("c")) == 0 && holds("c", "b"));
	put("a", "a");
	FAILS(renameat2(AT_FDCWD, at("a"), AT_FDCWD, at("c"), RENAME_NOREPLACE), EEXIST);
	OK(renameat2(AT_FDCWD, at("a"), AT_FDCWD, at("n"), RENAME_NOREPLACE) == 0);
	OK(renameat2(AT_FDCWD, at("n"), AT_FDCWD, at("c"), RENAME_EXCHANGE) == 0);
	OK(holds("n", "b") && holds("c", "a"));
	OK(mkdir(at("d"), 0755) == 0 && mkdir(at("e"), 0755) == 0);
	OK(rename(at("d"), at("e/d")) == 0 && rename(at("c"), at("e/d/c")) == 0);
	FAILS(rename(at("e"), at("e/d/e")), EINVAL);
	FAILS(rename(at("n"), at("e")), EISDIR);
	FAILS(rename(at("e"), at("n")), ENOTDIR);
	OK(mkdir(at("f"), 0755) == 0);
	FAILS(rename(at("f"), at("e")), ENOTEMPTY);
	OK(rename(at("e/d"), at("f")) == 0 && holds("f/c", "a"));
	FAILS(rename(at("absent"), at("x")), ENOENT);
	OK(link(at("n"), at("n2")) == 0 && rename(at("n"), at("n2")) == 0);
	OK(stat(at("n"), &a) == 0 && stat(at("n2"), &b) == 0 && a.st_ino == b.st_ino);
}

static void check_links(void)
{
	struct stat st;
	int fd;

	put("h", "one");
	OK(link(at("h"), at("h2")) == 0 && stat(at("h2"), &st) == 0 && st.st_nlink == 2);
	fd = open(at("h2"), O_RDWR);
	OK(pwrite(fd, "two", 3, 0) == 3 && holds("h", "two"));
	OK(unlink(at("h")) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 1);
	OK(unlink(at("h2")) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 0);
	OK(pwrite(fd, "gone", 4, 0) == 4);
	char text[8] = "";
	OK(pread(fd, text, 4, 0) == 4 && !strcmp(text, "gone"));
	close(fd);
	OK(symlink("x", at("l")) == 0);
	OK(link(at("l"), at("l2")) == 0 && lstat(at("l2"), &st) == 0 && S_ISLNK(st.st_mode));
	FAILS(link(at("absent"), at("y")), ENOENT);
	FAILS(link(posix_top, at("y")), EPERM);
	FAILS(symlink("x", at("l")), EEXIST);
	FAILS(symlink("", at("empty")), ENOENT);
}

static void check_remove(void)
{
	char name[300];

	OK(mkdir(at("r"), 0755) == 0);
	FAILS(mkdir(at("r"), 0755), EEXIST);
	FAILS(mkdir(at("absent/r"), 0755), ENOENT);
	OK(mkdir(at("r/s/"), 0755) == 0);
	FAILS(rmdir(at("r")), ENOTEMPTY);
	FAILS(unlink(at("r")), EISDIR);
	FAILS(rmdir(at("n")), ENOTDIR);
	FAILS(rmdir(at("r/.")), EINVAL);
	FAILS(rmdir(at("r/s/..")), ENOTEMPTY);
	OK(remove(at("r/s")) == 0 && rmdir(at("r")) == 0);
	FAILS(unlink(at("r")), ENOENT);
	FAILS(unlink(at("n/x")), ENOTDIR);
	memset(name, 'x', 256);
	name[256] = 0;
	FAILS(mkdir(at(name), 0755), ENAMETOOLONG);
	name[255] = 0;
	OK(mkdir(at(name), 0755) == 0 && rmdir(at(name)) == 0);
	OK(mkfifo(at("fifo"), 0644) == 0);
	struct stat st;
	OK(stat(at("fifo"), &st) == 0 && S_ISFIFO(st.st_mode));
	OK(mknod(at("node"), S_IFREG | 0600, 0) == 0 && holds("node", ""));
}

static void check_temporary(void)
{
	char file[2 * PATH_MAX], dir[2 * PATH_MAX];
	struct stat st;
	int fd;

	snprintf(file, sizeof(file), "%s/t-XXXXXX", posix_top);
	fd = mkstemp(file);
	OK(fd >= 0 && stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
	close(fd);
	snprintf(file, sizeof(file), "%s/t-XXXXXX.c", posix_top);
	fd = mkostemps(file, 2, O_CLOEXEC);
	OK(fd >= 0 && !strcmp(file + strlen(file) - 2, ".c"));
	OK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	close(fd);
	FAILS(mkstemp(file), EINVAL);
	snprintf(dir, sizeof(dir), "%s/d-XXXXXX", posix_top);
	OK(mkdtemp(dir) == dir && stat(dir, &st) == 0 && (st.st_mode & 0777) == 0700);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	check_rename();
	check_links();
	check_remove();
	check_temporary();
	return posix_end();
}

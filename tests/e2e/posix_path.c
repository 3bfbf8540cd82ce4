/* Relative paths, directory descriptors, the working directory, symlinks, realpath. */
#include <limits.h>

#include "posix.h"

static void check_cwd(void)
{
	char was[PATH_MAX], now[PATH_MAX];
	int fd;

	OK(getcwd(was, sizeof(was)));
	OK(chdir(at("a/b")) == 0 && getcwd(now, sizeof(now)) && !strcmp(now, at("a/b")));
	fd = open("c", O_WRONLY | O_CREAT, 0644);
	OK(fd >= 0 && access(at("a/b/c"), F_OK) == 0);
	close(fd);
	OK(access("../../top", R_OK) == 0 && access("./c", R_OK) == 0);
	OK(chdir("..") == 0 && access("b/c", R_OK) == 0);
	fd = open("b", O_RDONLY | O_DIRECTORY);
	OK(chdir("/") == 0 && access("b/c", F_OK) == -1 && access("etc", F_OK) == 0);
	OK(fchdir(fd) == 0 && access("c", F_OK) == 0);
	close(fd);
	FAILS(chdir("c"), ENOTDIR);
	FAILS(chdir("absent"), ENOENT);
	FAILS(chdir(""), ENOENT);
	FAILS((long)getcwd(now, 3) ? 0 : -1, ERANGE);
	OK(rename(at("a/b"), at("a/moved")) == 0);
	OK(getcwd(now, sizeof(now)) && !strcmp(now, at("a/moved")));
	OK(rename(at("a/moved"), at("a/b")) == 0);
	char *mine = getcwd(NULL, 0);
	OK(mine && !strcmp(mine, at("a/b")));
	free(mine);
	OK(chdir(was) == 0 && getcwd(now, sizeof(now)) && !strcmp(now, was));
}

static void check_dirfds(void)
{
	int dir = open(at("a"), O_RDONLY | O_DIRECTORY), fd;
	int path = open(at("a/b"), O_PATH | O_DIRECTORY);
	char text[64] = "";
	struct stat st;

	OK((fd = openat(dir, "b/c", O_RDONLY)) >= 0);
	close(fd);
	OK(openat(dir, "b/d", O_WRONLY | O_CREAT | O_EXCL, 0600) >= 0);
	OK(faccessat(path, "d", R_OK, 0) == 0);
	OK(fstatat(path, "", &st, AT_EMPTY_PATH) == 0 && S_ISDIR(st.st_mode));
	FAILS(fstatat(path, "", &st, 0), ENOENT);
	OK(mkdirat(path, "sub", 0755) == 0 && symlinkat("d", path, "ln") == 0);
	OK(readlinkat(path, "ln", text, sizeof(text)) == 1 && text[0] == 'd');
	OK(renameat(dir, "b/d", path, "sub/d") == 0);
	OK(linkat(path, "sub/d", dir, "d2", 0) == 0);
	OK(fstatat(dir, "d2", &st, 0) == 0 && st.st_nlink == 2);
	OK(fchmodat(dir, "d2", 0640, 0) == 0 && fstatat(path, "sub/d", &st, 0) == 0);
	OK((st.st_mode & 07777) == 0640);
	OK(unlinkat(path, "sub/d", 0) == 0 && unlinkat(path, "ln", 0) == 0);
	FAILS(unlinkat(path, "sub", 0), EISDIR);
	OK(unlinkat(path, "sub", AT_REMOVEDIR) == 0);
	fd = open(at("top"), O_RDONLY);
	FAILS(openat(fd, "x", O_RDONLY), ENOTDIR);
	OK(openat(fd, "/etc/passwd", O_RDONLY) >= 0);
	FAILS(openat(999, "x", O_RDONLY), EBADF);
	snprintf(text, sizeof(text), "/proc/self/fd/%d", fd);
	OK(stat(text, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 4);
	OK(close(open(text, O_RDONLY)) == 0);
	snprintf(text, sizeof(text), "/dev/fd/%d", fd);
	OK(close(open(text, O_RDONLY)) == 0);
	close_range(3, 30, 0);
}

static void check_links(void)
{
	char outside[] = "/tmp/wfs-posix-XXXXXX", text[3 * PATH_MAX], target[PATH_MAX];
	struct stat st, other;
	int fd;

	OK(mkdtemp(outside));
	snprintf(target, sizeof(target), "%s/file", outside);
	fd = open(target, O_WRONLY | O_CREAT, 0644);
	OK(write(fd, "outside", 7) == 7);
	close(fd);
	OK(symlink(outside, at("out")) == 0 && holds("out/file", "outside"));
	OK(symlink(at("top"), at("absolute")) == 0 && holds("absolute", "top\n"));
	OK(symlink("a/../top", at("relative")) == 0 && holds("relative", "top\n"));
	OK(symlink("a", at("dirlink")) == 0 && access(at("dirlink/b/c"), F_OK) == 0);
	OK(lstat(at("out"), &st) == 0 && S_ISLNK(st.st_mode));
	OK(stat(at("out"), &st) == 0 && S_ISDIR(st.st_mode));
	OK(readlink(at("relative"), text, sizeof(text)) == 8);
	OK(mkdir(at("out/d"), 0755) == 0 && rename(at("out/file"), at("out/d/f")) == 0);
	if (stat(posix_top, &st) == 0 && stat(outside, &other) == 0 &&
		st.st_dev != other.st_dev)
		FAILS(rename(at("out/d/f"), at("f")), EXDEV);
	OK(realpath(at("dirlink/b/../../relative"), text) && !strcmp(text, at("top")));
	OK(realpath(at("out/d/f"), text) && !strncmp(text, outside, strlen(outside)));
	OK(!realpath(at("absent"), text) && errno == ENOENT);
	snprintf(text, sizeof(text), "%s/../../../../../../../etc/passwd", posix_top);
	OK(access(text, R_OK) == 0);
	snprintf(text, sizeof(text), "//%s/./top", posix_top + 1);
	OK(access(text, R_OK) == 0);
	snprintf(text, sizeof(text), "/etc/..%s/top", posix_top);
	OK(access(text, R_OK) == 0);
	OK(unlink(at("out/d/f")) == 0 && rmdir(at("out/d")) == 0 && rmdir(outside) == 0);
	OK(chdir("/") == 0 && access(posix_top + 1, F_OK) == 0);
	snprintf(text, sizeof(text), "%s", at("top"));
	OK(access(text + 1, R_OK) == 0);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	put("top", "top\n");
	OK(mkdir(at("a"), 0755) == 0 && mkdir(at("a/b"), 0755) == 0);
	check_cwd();
	check_dirfds();
	check_links();
	return posix_end();
}

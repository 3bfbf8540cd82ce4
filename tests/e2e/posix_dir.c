/* Directory streams: 5000 names, positions, scandir, and changes while reading. */
#include <dirent.h>
#include <sys/syscall.h>

#include "posix.h"

#define NAMES 5000

static void check_many(void)
{
	static char seen[NAMES];
	int count = 0, dots = 0;
	struct dirent *e;
	DIR *dir;

	OK(mkdir(at("many"), 0755) == 0);
	OK(chdir(at("many")) == 0);
	for (int i = 0; i < NAMES; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "n%d", i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		OK(fd >= 0);
		close(fd);
	}
	dir = opendir(".");
	OK(dir);
	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.') {
			dots++;
			OK(e->d_type == DT_DIR);
			continue;
		}
		OK(!seen[atoi(e->d_name + 1)]++);
		OK(e->d_type == DT_REG && e->d_ino);
		count++;
	}
	OK(count == NAMES && dots == 2);
	rewinddir(dir);
	OK(readdir(dir));
	closedir(dir);
	OK(chdir(posix_top) == 0);
}

static void check_seek(void)
{
	DIR *dir = opendir(at("many"));
	char name[256];
	long where[50];

	for (int i = 0; i < 50; i++) {
		where[i] = telldir(dir);
		OK(readdir(dir));
	}
	for (int i = 49; i >= 0; i -= 7) {
		seekdir(dir, where[i]);
		OK(telldir(dir) == where[i]);
		strcpy(name, readdir(dir)->d_name);
		seekdir(dir, where[i]);
		OK(!strcmp(name, readdir(dir)->d_name));
	}
	closedir(dir);
}

static int some(const struct dirent *e)
{
	return e->d_name[0] == 'n' && strlen(e->d_name) == 3;
}

static void check_scandir(void)
{
	struct dirent **names;
	int count = scandir(at("many"), &names, some, alphasort), fd;

	OK(count == 90 && !strcmp(names[0]->d_name, "n10"));
	for (int i = 1; i < count; i++)
		OK(strcmp(names[i - 1]->d_name, names[i]->d_name) < 0);
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
	fd = open(posix_top, O_RDONLY | O_DIRECTORY);
	count = scandirat(fd, "many", &names, some, NULL);
	OK(count == 90);
	close(fd);
	FAILS(scandir(at("absent"), &names, NULL, NULL), ENOENT);
}

/* Entries by descriptor, through libc and by number. */
static void check_getdents(void)
{
	int fd = open(at("many"), O_RDONLY | O_DIRECTORY), count = 0;
	char buffer[3000];
	long got;

	while ((got = count % 2 ? syscall(SYS_getdents64, fd, buffer, sizeof(buffer))
				: getdents64(fd, buffer, sizeof(buffer))) > 0)
		for (long i = 0; i < got; count++) {
			struct dirent *e = (struct dirent *)(buffer + i);

			i += e->d_reclen;
		}
	OK(got == 0 && count == NAMES + 2);
	OK(lseek(fd, 0, SEEK_SET) == 0 && getdents64(fd, buffer, sizeof(buffer)) > 0);
	close(fd);
}

/* Remove what readdir gives while it gives it. */
static void check_remove(void)
{
	DIR *dir = opendir(at("many"));
	struct dirent *e;
	int count = 0;

	while ((e = readdir(dir)))
		if (e->d_name[0] == 'n') {
			OK(unlinkat(dirfd(dir), e->d_name, 0) == 0);
			count++;
		}
	OK(count == NAMES);
	closedir(dir);
	OK(rmdir(at("many")) == 0);
}

int main(int argc, char **argv)
{
	DIR *dir;
	int fd;

	posix_start(argc, argv);
	check_many();
	check_seek();
	check_scandir();
	check_getdents();
	check_remove();
	put("file", "");
	OK(!opendir(at("file")) && errno == ENOTDIR);
	OK(!opendir(at("absent")) && errno == ENOENT);
	fd = open(posix_top, O_RDONLY);
	dir = fdopendir(fd);
	OK(dir && dirfd(dir) == fd && readdir(dir) && closedir(dir) == 0);
	FAILS(fcntl(fd, F_GETFD), EBADF);
	fd = open(at("file"), O_RDONLY);
	OK(!fdopendir(fd) && errno == ENOTDIR);
	close(fd);
	return posix_end();
}

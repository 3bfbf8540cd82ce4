/* Directories: mkdir and rmdir, streams and their positions, the working directory. */
#include <dirent.h>
#include <sys/syscall.h>

#include "tests/behave/behave.h"

/* --- mkdir, rmdir ----------------------------------------------------------------- */

TEST(mkdir_makes_an_empty_directory)
{
	OK(mkdir("d", 0755) == 0);
	OK(S_ISDIR(see("d").st_mode) && !strcmp(names_in("d"), ""));
}

TEST(mkdir_mode_less_umask)
{
	umask(027);
	OK(mkdir("d", 0777) == 0);
	EQ(mode_of("d"), 0750);
}

TEST(mkdir_takes_the_sticky_bit)
{
	OK(mkdir("d", 01755) == 0);
	EQ(mode_of("d"), 01755);
}

TEST(mkdir_ignores_set_id_bits)
{
	OK(mkdir("d", 06755) == 0);
	EQ(mode_of("d"), 0755);
}

TEST(mkdir_existing)
{
	dir("d");
	put("f", "");
	sym("nothing", "l");
	FAILS(mkdir("d", 0755), EEXIST);
	FAILS(mkdir("f", 0755), EEXIST);
	FAILS(mkdir("l", 0755), EEXIST);
}

TEST(mkdir_of_dot)
{
	FAILS(mkdir(".", 0755), EEXIST);
	FAILS(mkdir("..", 0755), EEXIST);
	FAILS(mkdir("/", 0755), EEXIST);
}

TEST(mkdir_trailing_slash)
{
	OK(mkdir("d/", 0755) == 0 && there("d"));
}

TEST(mkdir_trailing_dot)
{
	FAILS(mkdir("d/.", 0755), ENOENT);
}

TEST(mkdir_deep)
{
	char path[1000] = "";

	for (int i = 0; i < 30; i++) {
		strcat(path, i ? "/d" : "d");
		dir(path);
	}
	strcat(path, "/f");
	put(path, "deep");
	HOLDS(path, "deep");
}

TEST(mkdir_p_by_the_tool)
{
	EQ(shell("mkdir -p a/b/c/d && mkdir -p a/b/c/d && test -d a/b/c/d"), 0);
}

TEST(rmdir_removes)
{
	dir("d");
	OK(rmdir("d") == 0 && !there("d"));
}

TEST(rmdir_not_empty)
{
	dir("d");
	put("d/f", "");
	FAILS(rmdir("d"), ENOTEMPTY);
	OK(unlink("d/f") == 0 && rmdir("d") == 0);
}

TEST(rmdir_of_file)
{
	put("f", "");
	FAILS(rmdir("f"), ENOTDIR);
}

TEST(rmdir_absent)
{
	FAILS(rmdir("absent"), ENOENT);
}

TEST(rmdir_of_symlink_to_directory)
{
	dir("d");
	sym("d", "l");
	FAILS(rmdir("l"), ENOTDIR);
	FAILS(rmdir("l/"), ENOTDIR);
}

TEST(rmdir_of_dot)
{
	dir("d");
	FAILS(rmdir("d/."), EINVAL);
	FAILS(rmdir("."), EINVAL);
}

TEST(rmdir_of_dotdot)
{
	dir("d");
	dir("d/e");
	FAILS(rmdir("d/e/.."), ENOTEMPTY);
}

TEST(rmdir_trailing_slash)
{
	dir("d");
	OK(rmdir("d/") == 0 && !there("d"));
}

TEST(rmdir_needs_write_permission)
{
	dir("d");
	CHILD_AS(1234, 1234)
	{
		FAILS(rmdir("d"), EACCES);
	}
}

TEST(rmdir_then_mkdir_is_another)
{
	int fd;

	dir("d");
	fd = ro_dir("d");
	OK(rmdir("d") == 0);
	dir("d");
	put("d/f", "");
	FAILS(openat(fd, "f", O_RDONLY), ENOENT);
}

TEST(removed_directory_takes_no_files)
{
	int fd;

	dir("d");
	fd = ro_dir("d");
	OK(rmdir("d") == 0);
	FAILS(openat(fd, "f", O_WRONLY | O_CREAT, 0644), ENOENT);
	FAILS(mkdirat(fd, "sub", 0755), ENOENT);
	FAILS(symlinkat("x", fd, "l"), ENOENT);
}

TEST(removed_directory_takes_no_renames)
{
	int fd;

	dir("d");
	put("f", "");
	fd = ro_dir("d");
	OK(rmdir("d") == 0);
	FAILS(renameat(AT_FDCWD, "f", fd, "f"), ENOENT);
	FAILS(linkat(AT_FDCWD, "f", fd, "f", 0), ENOENT);
}

TEST(removed_directory_lists_nothing)
{
	char buffer[1024];
	int fd;

	dir("d");
	fd = ro_dir("d");
	OK(rmdir("d") == 0);
	FAILS(getdents64(fd, buffer, sizeof(buffer)), ENOENT);
}

/* --- streams ---------------------------------------------------------------------- */

TEST(opendir_file)
{
	put("f", "");
	NULLS(opendir("f"), ENOTDIR);
}

TEST(opendir_absent)
{
	NULLS(opendir("absent"), ENOENT);
	NULLS(opendir(""), ENOENT);
}

TEST(opendir_through_symlink)
{
	dir("d");
	put("d/f", "");
	sym("d", "l");
	OK(!strcmp(names_in("l"), "f"));
}

TEST(opendir_descriptor_is_cloexec)
{
	EQ(fcntl(dirfd(opendir(".")), F_GETFD), FD_CLOEXEC);
}

TEST(readdir_has_dot_and_dotdot)
{
	DIR *d;
	int dots = 0;

	dir("d");
	d = opendir("d");
	for (struct dirent *e; (e = readdir(d));)
		dots += !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
	EQ(dots, 2);
}

TEST(readdir_names_once)
{
	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%03d", i);
		put(name, "");
	}
	char seen[200] = {0};
	DIR *d = opendir(".");
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			OK(!seen[atoi(e->d_name)]++);
	for (int i = 0; i < 200; i++)
		OK(seen[i]);
}

TEST(readdir_1500_names_from_three_processes)
{
	DIR *d;
	int count = 0;

	for (int who = 0; who < 3; who++)
		if (!fork()) {
			for (int i = 0; i < 500; i++) {
				char name[32];

				snprintf(name, sizeof(name), "%d-%d", who, i);
				OK(close(rw(name)) == 0);
			}
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	d = opendir(".");
	while (readdir(d))
		count++;
	EQ(count, 1502);
}

TEST(readdir_end_is_null_without_errno)
{
	DIR *d = opendir(".");

	errno = 0;
	while (readdir(d))
		;
	OK(errno == 0 && !readdir(d));
}

TEST(readdir_types)
{
	DIR *d;

	put("f", "");
	dir("d");
	sym("x", "l");
	OK(mkfifo("p", 0644) == 0 && mknod("s", S_IFSOCK | 0644, 0) == 0);
	d = opendir(".");
	for (struct dirent *e; (e = readdir(d));) {
		struct stat st = see(e->d_name);

		EQ(e->d_type, IFTODT(st.st_mode));
	}
}

TEST(readdir_inodes)
{
	DIR *d;

	put("a", "");
	dir("b");
	d = opendir(".");
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			EQ(e->d_ino, see(e->d_name).st_ino);
}

TEST(readdir_inodes_of_dots)
{
	DIR *d;

	dir("d");
	d = opendir("d");
	for (struct dirent *e; (e = readdir(d));)
		EQ(e->d_ino, see(e->d_name[1] ? "." : "d").st_ino);
}

TEST(readdir_name_of_255)
{
	char name[256];

	memset(name, 'n', 255);
	name[255] = 0;
	put(name, "");
	OK(!strcmp(names_in("."), name));
}

TEST(readdir_while_removing)
{
	int count = 0;
	DIR *d;

	dir("d");
	for (int i = 0; i < 150; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d/%d", i);
		put(name, "");
	}
	d = opendir("d");
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.') {
			OK(unlinkat(dirfd(d), e->d_name, 0) == 0);
			count++;
		}
	EQ(count, 150);
	OK(rmdir("d") == 0);
}

TEST(readdir_while_adding_shows_the_old_once)
{
	char seen[200] = {0};
	DIR *d;
	int n = 0;

	for (int i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		put(name, "");
	}
	d = opendir(".");
	for (struct dirent *e; (e = readdir(d));) {
		char name[16];

		if (e->d_name[0] == '.' || e->d_name[0] == 'x')
			continue;
		OK(!seen[atoi(e->d_name)]++);
		snprintf(name, sizeof(name), "x%d", n++);
		put(name, "");
	}
	EQ(n, 200);
}

TEST(rewinddir_sees_new_names)
{
	DIR *d = opendir(".");
	bool seen = false;

	while (readdir(d))
		;
	put("new", "");
	rewinddir(d);
	for (struct dirent *e; (e = readdir(d));)
		seen = seen || !strcmp(e->d_name, "new");
	OK(seen);
}

TEST(telldir_seekdir_return_to_an_entry)
{
	char first[256];
	long where;
	DIR *d;

	for (int i = 0; i < 50; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		put(name, "");
	}
	d = opendir(".");
	for (int i = 0; i < 20; i++)
		OK(readdir(d));
	where = telldir(d);
	strcpy(first, readdir(d)->d_name);
	while (readdir(d))
		;
	seekdir(d, where);
	EQ(telldir(d), where);
	OK(!strcmp(readdir(d)->d_name, first));
}

TEST(telldir_at_the_end)
{
	DIR *d = opendir(".");
	long end;

	while (readdir(d))
		;
	end = telldir(d);
	rewinddir(d);
	OK(readdir(d));
	seekdir(d, end);
	OK(!readdir(d));
}

TEST(readdir_r_and_readdir64)
{
	struct dirent entry, *result;
	DIR *d = opendir(".");

	OK(readdir_r(d, &entry, &result) == 0 && result == &entry);
	OK(readdir64(d));
	OK(readdir_r(d, &entry, &result) == 0 && !result);
}

TEST(fdopendir_takes_the_descriptor)
{
	int fd = ro_dir(".");
	DIR *d = fdopendir(fd);

	EQ(dirfd(d), fd);
	OK(readdir(d) && closedir(d) == 0);
	FAILS(fcntl(fd, F_GETFD), EBADF);
}

TEST(fdopendir_of_file)
{
	NULLS(fdopendir(rw("f")), ENOTDIR);
}

TEST(fdopendir_closed_descriptor)
{
	NULLS(fdopendir(99), EBADF);
}

TEST(fdopendir_of_path_descriptor)
{
	DIR *d = fdopendir(open(".", O_PATH | O_DIRECTORY));

	OK(!d || !readdir(d));
}

TEST(fdopendir_starts_where_the_descriptor_is)
{
	char buffer[4096];
	int fd = ro_dir(".");

	while (getdents64(fd, buffer, sizeof(buffer)) > 0)
		;
	OK(!readdir(fdopendir(fd)));
}

TEST(opendir_sees_names_made_after_it)
{
	DIR *d = opendir(".");
	bool seen = false;

	put("later", "");
	for (struct dirent *e; (e = readdir(d));)
		seen = seen || !strcmp(e->d_name, "later");
	OK(seen);
}

TEST(closedir_gives_the_number_back)
{
	DIR *d = opendir(".");
	int fd = dirfd(d);

	OK(closedir(d) == 0);
	EQ(ro_dir("."), fd);
}

/* --- getdents64 ------------------------------------------------------------------- */

TEST(getdents_lists_all)
{
	char buffer[300];
	int fd, count = 0;
	ssize_t got;

	for (int i = 0; i < 50; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		put(name, "");
	}
	fd = ro_dir(".");
	while ((got = getdents64(fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t i = 0; i < got; count++)
			i += ((struct dirent64 *)(buffer + i))->d_reclen;
	EQ(got, 0);
	EQ(count, 52);
}

TEST(getdents_small_buffer)
{
	char buffer[8];

	FAILS(getdents64(ro_dir("."), buffer, sizeof(buffer)), EINVAL);
}

TEST(getdents_of_file)
{
	char buffer[1024];

	FAILS(getdents64(rw("f"), buffer, sizeof(buffer)), ENOTDIR);
}

TEST(getdents_rewound_by_lseek)
{
	char buffer[1024];
	int fd = ro_dir(".");

	while (getdents64(fd, buffer, sizeof(buffer)) > 0)
		;
	EQ(lseek(fd, 0, SEEK_SET), 0);
	OK(getdents64(fd, buffer, sizeof(buffer)) > 0);
}

TEST(getdents_offset_returns_to_an_entry)
{
	char buffer[4096], name[256];
	struct dirent64 *first = (struct dirent64 *)buffer, *second;
	int fd;

	put("a", "");
	put("b", "");
	fd = ro_dir(".");
	OK(getdents64(fd, buffer, sizeof(buffer)) > 0);
	second = (struct dirent64 *)(buffer + first->d_reclen);
	strcpy(name, second->d_name);
	EQ(lseek(fd, first->d_off, SEEK_SET), first->d_off);
	OK(getdents64(fd, buffer, sizeof(buffer)) > 0);
	OK(!strcmp(first->d_name, name));
}

TEST(getdents_position_is_shared_by_dup)
{
	char buffer[4096];
	int fd = ro_dir("."), other = dup(fd);

	while (getdents64(fd, buffer, sizeof(buffer)) > 0)
		;
	EQ(getdents64(other, buffer, sizeof(buffer)), 0);
}

TEST(getdents_fault)
{
	FAILS(syscall(SYS_getdents64, ro_dir("."), nowhere, 1000), EFAULT);
}

/* --- scandir ---------------------------------------------------------------------- */

static int only_a(const struct dirent *e)
{
	return e->d_name[0] == 'a';
}

TEST(scandir_filters_and_sorts)
{
	struct dirent **list;

	put("a2", "");
	put("a1", "");
	put("b", "");
	EQ(scandir(".", &list, only_a, alphasort), 2);
	OK(!strcmp(list[0]->d_name, "a1") && !strcmp(list[1]->d_name, "a2"));
}

TEST(scandir_versionsort)
{
	struct dirent **list;

	put("a10", "");
	put("a9", "");
	EQ(scandir(".", &list, only_a, versionsort), 2);
	OK(!strcmp(list[0]->d_name, "a9"));
}

TEST(scandir_absent)
{
	struct dirent **list;

	FAILS(scandir("absent", &list, NULL, NULL), ENOENT);
}

TEST(scandirat_relative)
{
	struct dirent **list;

	dir("d");
	dir("d/e");
	put("d/e/a", "");
	EQ(scandirat(ro_dir("d"), "e", &list, only_a, NULL), 1);
}

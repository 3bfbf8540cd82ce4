/* rename, renameat, renameat2: all kinds of sources and targets. */
#include <linux/fs.h>

#include "tests/behave/behave.h"

static int rename2(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

TEST(rename_file)
{
	put("a", "text");
	OK(rename("a", "b") == 0 && !there("a"));
	HOLDS("b", "text");
}

TEST(rename_keeps_the_inode)
{
	ino_t ino;

	put("a", "");
	ino = see("a").st_ino;
	OK(rename("a", "b") == 0);
	EQ(see("b").st_ino, ino);
}

TEST(rename_over_file)
{
	put("a", "new");
	put("b", "old");
	OK(rename("a", "b") == 0 && !there("a"));
	HOLDS("b", "new");
	OK(!strcmp(names_in("."), "b"));
}

TEST(rename_over_open_file)
{
	char text[8] = "";
	int fd;

	put("a", "new");
	put("b", "old");
	fd = ro("b");
	OK(rename("a", "b") == 0);
	OK(read(fd, text, 8) == 3 && !strcmp(text, "old"));
	EQ(fsee(fd).st_nlink, 0);
}

TEST(rename_of_open_file)
{
	int fd = rw("a");

	OK(rename("a", "b") == 0);
	EQ(write(fd, "text", 4), 4);
	HOLDS("b", "text");
}

TEST(rename_onto_itself)
{
	put("a", "text");
	OK(rename("a", "a") == 0 && rename("a", "./a") == 0);
	HOLDS("a", "text");
}

TEST(rename_over_another_link_does_nothing)
{
	put("a", "text");
	OK(link("a", "b") == 0 && rename("a", "b") == 0);
	OK(there("a") && there("b"));
	EQ(see("a").st_nlink, 2);
}

TEST(rename_over_one_link_of_two)
{
	put("a", "new");
	put("b", "old");
	OK(link("b", "c") == 0 && rename("a", "b") == 0);
	HOLDS("c", "old");
	EQ(see("c").st_nlink, 1);
}

TEST(rename_absent)
{
	FAILS(rename("absent", "b"), ENOENT);
	FAILS(rename("", "b"), ENOENT);
}

TEST(rename_into_absent_directory)
{
	put("a", "");
	FAILS(rename("a", "absent/b"), ENOENT);
	OK(there("a"));
}

TEST(rename_into_file)
{
	put("a", "");
	put("f", "");
	FAILS(rename("a", "f/b"), ENOTDIR);
}

TEST(rename_into_other_directory)
{
	put("a", "text");
	dir("d");
	OK(rename("a", "d/b") == 0);
	HOLDS("d/b", "text");
	OK(!strcmp(names_in("."), "d"));
}

TEST(rename_file_over_directory)
{
	put("a", "");
	dir("d");
	FAILS(rename("a", "d"), EISDIR);
}

TEST(rename_directory_over_file)
{
	put("a", "");
	dir("d");
	FAILS(rename("d", "a"), ENOTDIR);
}

TEST(rename_directory)
{
	dir("d");
	put("d/f", "text");
	OK(rename("d", "e") == 0 && !there("d"));
	HOLDS("e/f", "text");
}

TEST(rename_directory_over_empty_directory)
{
	dir("d");
	put("d/f", "text");
	dir("e");
	OK(rename("d", "e") == 0 && !there("d"));
	HOLDS("e/f", "text");
}

TEST(rename_directory_over_full_directory)
{
	dir("d");
	dir("e");
	put("e/f", "");
	FAILS(rename("d", "e"), ENOTEMPTY);
}

TEST(rename_directory_into_other_directory)
{
	dir("d");
	put("d/f", "text");
	dir("e");
	OK(rename("d", "e/d") == 0);
	HOLDS("e/d/f", "text");
	EQ(see("e/d/..").st_ino, see("e").st_ino);
}

TEST(rename_directory_into_itself)
{
	dir("d");
	FAILS(rename("d", "d/d"), EINVAL);
}

TEST(rename_directory_into_its_grandchild)
{
	dir("d");
	dir("d/e");
	dir("d/e/f");
	FAILS(rename("d", "d/e/f/d"), EINVAL);
}

TEST(rename_over_own_parent)
{
	dir("d");
	put("d/f", "");
	dir("d/e");
	FAILS(rename("d/f", "d"), ENOTEMPTY);
	FAILS(rename("d/e", "d"), ENOTEMPTY);
}

TEST(rename_of_dot)
{
	dir("d");
	FAILS(rename(".", "x"), EBUSY);
	FAILS(rename("d/.", "x"), EBUSY);
	FAILS(rename("d", "."), EBUSY);
}

TEST(rename_of_dotdot)
{
	dir("d");
	FAILS(rename("d/..", "x"), EBUSY);
}

TEST(rename_directory_trailing_slash)
{
	dir("d");
	OK(rename("d/", "e/") == 0 && there("e"));
}

TEST(rename_file_trailing_slash)
{
	put("a", "");
	FAILS(rename("a/", "b"), ENOTDIR);
	FAILS(rename("a", "b/"), ENOTDIR);
}

TEST(rename_symlink_itself)
{
	put("f", "");
	sym("f", "l");
	OK(rename("l", "m") == 0);
	OK(S_ISLNK(see("m").st_mode) && there("f"));
}

TEST(rename_over_symlink_replaces_it)
{
	put("f", "target");
	put("a", "new");
	sym("f", "l");
	OK(rename("a", "l") == 0);
	OK(S_ISREG(see("l").st_mode));
	HOLDS("f", "target");
}

TEST(rename_symlink_over_file)
{
	put("f", "");
	sym("x", "l");
	OK(rename("l", "f") == 0 && S_ISLNK(see("f").st_mode));
}

TEST(rename_directory_over_symlink_to_directory)
{
	dir("d");
	dir("e");
	sym("e", "l");
	FAILS(rename("d", "l"), ENOTDIR);
}

TEST(rename_to_local_is_exdev)
{
	put("a", "");
	FAILS(rename("a", "/dev/shm/behave-never"), EXDEV);
	OK(there("a"));
}

TEST(rename_from_local_is_exdev)
{
	const char *local = other_fs();
	int rc = rename(local, "d"), error = errno;

	OK(rmdir(local) == 0);
	EQ(rc, -1);
	EQ(error, EXDEV);
}

TEST(rename_fifo_and_socket)
{
	OK(mkfifo("p", 0644) == 0 && mknod("s", S_IFSOCK | 0644, 0) == 0);
	OK(rename("p", "q") == 0 && rename("s", "q") == 0);
	OK(S_ISSOCK(see("q").st_mode));
}

TEST(rename_name_of_255)
{
	char name[256];

	memset(name, 'n', 255);
	name[255] = 0;
	put("a", "text");
	OK(rename("a", name) == 0);
	HOLDS(name, "text");
}

TEST(rename_needs_write_permission)
{
	put("a", "");
	CHILD_AS(1234, 1234)
	{
		FAILS(rename("a", "b"), EACCES);
	}
}

TEST(rename_hundred_times)
{
	put("0", "text");
	for (int i = 0; i < 100; i++) {
		char from[16], to[16];

		snprintf(from, sizeof(from), "%d", i);
		snprintf(to, sizeof(to), "%d", i + 1);
		OK(rename(from, to) == 0);
	}
	HOLDS("100", "text");
	OK(!strcmp(names_in("."), "100"));
}

TEST(rename_is_never_without_a_name)
{
	struct gate stop = gate_new();
	pid_t pid;

	put("f", "0");
	pid = fork();
	if (!pid) {
		fcntl(stop.ends[0], F_SETFL, O_NONBLOCK);
		for (char byte; read(stop.ends[0], &byte, 1) < 0;) {
			put("new", "1");
			OK(rename("new", "f") == 0);
		}
		_exit(0);
	}
	for (int i = 0; i < 100; i++)
		OK(access("f", F_OK) == 0);
	gate_open(&stop);
	EQ(finish(pid), 0);
}

TEST(rename_save_as_editors_do)
{
	int fd;

	put("f", "old");
	OK(chmod("f", 0640) == 0);
	fd = open("f.tmp", O_WRONLY | O_CREAT | O_EXCL, 0600);
	EQ(write(fd, "new", 3), 3);
	OK(fchmod(fd, 0640) == 0 && fsync(fd) == 0 && close(fd) == 0);
	OK(rename("f.tmp", "f") == 0 && fsync(ro_dir(".")) == 0);
	HOLDS("f", "new");
	EQ(mode_of("f"), 0640);
}

/* --- renameat2 -------------------------------------------------------------------- */

TEST(rename_noreplace_free)
{
	put("a", "text");
	OK(rename2("a", "b", RENAME_NOREPLACE) == 0);
	HOLDS("b", "text");
}

TEST(rename_noreplace_taken)
{
	put("a", "a");
	put("b", "b");
	FAILS(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
	HOLDS("b", "b");
}

TEST(rename_noreplace_taken_by_dangling_symlink)
{
	put("a", "a");
	sym("nothing", "b");
	FAILS(rename2("a", "b", RENAME_NOREPLACE), EEXIST);
}

TEST(rename_noreplace_onto_itself)
{
	put("a", "");
	FAILS(rename2("a", "a", RENAME_NOREPLACE), EEXIST);
}

TEST(rename_noreplace_over_directory)
{
	dir("d");
	dir("e");
	FAILS(rename2("d", "e", RENAME_NOREPLACE), EEXIST);
}

TEST(rename_exchange_files)
{
	put("a", "a");
	put("b", "b");
	OK(rename2("a", "b", RENAME_EXCHANGE) == 0);
	HOLDS("a", "b");
	HOLDS("b", "a");
}

TEST(rename_exchange_file_and_directory)
{
	put("a", "text");
	dir("d");
	put("d/f", "");
	OK(rename2("a", "d", RENAME_EXCHANGE) == 0);
	OK(S_ISDIR(see("a").st_mode) && there("a/f"));
	HOLDS("d", "text");
}

TEST(rename_exchange_between_directories)
{
	dir("d");
	dir("e");
	dir("d/x");
	put("e/y", "y");
	OK(rename2("d/x", "e/y", RENAME_EXCHANGE) == 0);
	HOLDS("d/x", "y");
	OK(S_ISDIR(see("e/y").st_mode));
	EQ(see("d").st_nlink, 2);
	EQ(see("e").st_nlink, 3);
}

TEST(rename_exchange_absent)
{
	put("a", "");
	FAILS(rename2("a", "absent", RENAME_EXCHANGE), ENOENT);
	FAILS(rename2("absent", "a", RENAME_EXCHANGE), ENOENT);
}

TEST(rename_exchange_with_own_child)
{
	dir("d");
	put("d/f", "");
	FAILS(rename2("d", "d/f", RENAME_EXCHANGE), EINVAL);
	OK(rename2("d/f", "d", RENAME_EXCHANGE) == -1);
}

TEST(rename_exchange_onto_itself)
{
	put("a", "text");
	OK(rename2("a", "a", RENAME_EXCHANGE) == 0);
	HOLDS("a", "text");
}

TEST(rename_exchange_symlink_and_file)
{
	put("f", "text");
	sym("f", "l");
	OK(rename2("f", "l", RENAME_EXCHANGE) == 0);
	OK(S_ISLNK(see("f").st_mode) && S_ISREG(see("l").st_mode));
}

TEST(rename_flags_together)
{
	put("a", "");
	put("b", "");
	FAILS(rename2("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
}

TEST(rename_unknown_flag)
{
	put("a", "");
	FAILS(rename2("a", "b", 0x100), EINVAL);
}

TEST(rename_whiteout_needs_its_own)
{
	put("a", "");
	FAILS(rename2("a", "b", RENAME_WHITEOUT | RENAME_EXCHANGE), EINVAL);
}

TEST(rename_mv_by_the_tool)
{
	EQ(shell("mkdir -p d/e && echo x >d/e/f && mv d g && mv g/e . && mv -n e g/ && "
		 "grep -q x g/e/f"),
		0);
}

TEST(rename_mv_across_file_systems)
{
	const char *local = other_fs();

	EQ(shell("mkdir d && echo x >d/f && mv d %s/ && mv %s/d e && grep -q x e/f && "
		 "rmdir %s",
		   local, local, local),
		0);
}

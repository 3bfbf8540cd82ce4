/* Names: link, symlink, readlink, unlink, remove, and files that live on without a name.
 */
#include "tests/behave/behave.h"

/* --- link ------------------------------------------------------------------------------
 */

TEST(link_is_the_same_file)
{
	put("a", "text");
	OK(link("a", "b") == 0);
	EQ(see("a").st_ino, see("b").st_ino);
	HOLDS("b", "text");
}

TEST(link_shares_content_and_mode)
{
	put("a", "");
	OK(link("a", "b") == 0);
	put("b", "by b");
	OK(chmod("b", 0600) == 0);
	HOLDS("a", "by b");
	EQ(mode_of("a"), 0600);
}

TEST(link_existing)
{
	put("a", "");
	put("b", "");
	dir("d");
	FAILS(link("a", "b"), EEXIST);
	FAILS(link("a", "d"), EEXIST);
	FAILS(link("a", "a"), EEXIST);
}

TEST(link_over_dangling_symlink)
{
	put("a", "");
	sym("nothing", "l");
	FAILS(link("a", "l"), EEXIST);
}

TEST(link_absent)
{
	FAILS(link("absent", "b"), ENOENT);
}

TEST(link_into_absent_directory)
{
	put("a", "");
	FAILS(link("a", "absent/b"), ENOENT);
}

TEST(link_of_directory)
{
	dir("d");
	FAILS(link("d", "e"), EPERM);
}

TEST(link_into_other_directory)
{
	put("a", "text");
	dir("d");
	OK(link("a", "d/b") == 0);
	HOLDS("d/b", "text");
}

TEST(link_to_local_is_exdev)
{
	put("a", "");
	FAILS(link("a", "/dev/shm/behave-never"), EXDEV);
}

TEST(link_from_local_is_exdev)
{
	FAILS(link("/proc/version", "a"), EXDEV);
}

TEST(link_of_symlink_is_a_symlink)
{
	put("f", "");
	sym("f", "l");
	OK(link("l", "m") == 0);
	OK(S_ISLNK(see("m").st_mode));
	EQ(see("m").st_ino, see("l").st_ino);
}

TEST(linkat_follows_with_flag)
{
	put("f", "");
	sym("f", "l");
	OK(linkat(AT_FDCWD, "l", AT_FDCWD, "m", AT_SYMLINK_FOLLOW) == 0);
	EQ(see("m").st_ino, see("f").st_ino);
}

TEST(linkat_follow_dangling)
{
	sym("nothing", "l");
	FAILS(linkat(AT_FDCWD, "l", AT_FDCWD, "m", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(linkat_unknown_flag)
{
	put("f", "");
	FAILS(linkat(AT_FDCWD, "f", AT_FDCWD, "m", 0x1), EINVAL);
}

TEST(link_of_fifo)
{
	OK(mkfifo("p", 0644) == 0 && link("p", "q") == 0);
	EQ(see("q").st_nlink, 2);
}

TEST(link_trailing_slash)
{
	put("f", "");
	FAILS(link("f/", "g"), ENOTDIR);
	FAILS(link("f", "g/"), ENOENT);
}

TEST(link_by_open_descriptor)
{
	char path[64];
	int fd = rw("f");

	EQ(write(fd, "text", 4), 4);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW) == 0);
	HOLDS("g", "text");
}

TEST(link_of_unlinked_file_is_enoent)
{
	char path[64];
	int fd = rw("f");

	OK(unlink("f") == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "g", AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(link_hundred)
{
	put("f", "");
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "l%d", i);
		OK(link("f", name) == 0);
	}
	EQ(see("f").st_nlink, 101);
}

/* --- symlink, readlink -----------------------------------------------------------------
 */

TEST(symlink_keeps_any_text)
{
	char text[64] = "";

	sym("no such/../thing//", "l");
	EQ(readlink("l", text, sizeof(text)), 18);
	OK(!strcmp(text, "no such/../thing//"));
}

TEST(symlink_empty_target)
{
	FAILS(symlink("", "l"), ENOENT);
}

TEST(symlink_of_4095)
{
	char target[PATH_MAX], text[PATH_MAX];

	memset(target, 'x', PATH_MAX - 1);
	for (int i = 99; i < PATH_MAX - 1; i += 100)
		target[i] = '/';
	target[PATH_MAX - 1] = 0;
	sym(target, "l");
	EQ(readlink("l", text, sizeof(text)), PATH_MAX - 1);
	OK(!memcmp(target, text, PATH_MAX - 1));
}

TEST(symlink_of_4096)
{
	char target[PATH_MAX + 1];

	memset(target, 'x', PATH_MAX);
	target[PATH_MAX] = 0;
	FAILS(symlink(target, "l"), ENAMETOOLONG);
}

TEST(symlink_existing)
{
	put("f", "");
	dir("d");
	sym("x", "l");
	FAILS(symlink("y", "f"), EEXIST);
	FAILS(symlink("y", "d"), EEXIST);
	FAILS(symlink("y", "l"), EEXIST);
}

TEST(symlink_into_absent_directory)
{
	FAILS(symlink("x", "absent/l"), ENOENT);
}

TEST(symlink_trailing_slash)
{
	FAILS(symlink("x", "l/"), ENOENT);
}

TEST(symlink_mode_ignores_umask)
{
	umask(077);
	sym("x", "l");
	EQ(mode_of("l"), 0777);
}

TEST(readlink_does_not_terminate)
{
	char text[8] = "########";

	sym("abc", "l");
	EQ(readlink("l", text, 8), 3);
	EQ(text[3], '#');
}

TEST(readlink_cuts)
{
	char text[8] = "";

	sym("abcdef", "l");
	OK(readlink("l", text, 3) == 3 && !strcmp(text, "abc"));
}

TEST(readlink_of_size_zero)
{
	char text[8];

	sym("abc", "l");
	FAILS(readlink("l", text, 0), EINVAL);
}

TEST(readlink_of_file)
{
	char text[8];

	put("f", "");
	FAILS(readlink("f", text, 8), EINVAL);
	FAILS(readlink(".", text, 8), EINVAL);
}

TEST(readlink_absent)
{
	char text[8];

	FAILS(readlink("absent", text, 8), ENOENT);
}

TEST(readlink_trailing_slash)
{
	char text[8];

	dir("d");
	sym("d", "l");
	FAILS(readlink("l/", text, 8), EINVAL);
}

TEST(readlink_needs_no_permission_of_the_link)
{
	char text[8];

	need_root();
	sym("abc", "l");
	OK(lchown("l", 5, 5) == 0);
	CHILD_AS(1234, 1234)
	{
		EQ(readlink("l", text, 8), 3);
	}
}

TEST(readlink_fault)
{
	sym("abc", "l");
	FAILS(readlink("l", nowhere, 8), EFAULT);
}

TEST(symlink_size_is_its_length)
{
	sym("12345", "l");
	EQ(see("l").st_size, 5);
}

/* --- unlink ----------------------------------------------------------------------- */

TEST(unlink_removes_the_name)
{
	put("f", "");
	OK(unlink("f") == 0 && !there("f"));
	FAILS(unlink("f"), ENOENT);
}

TEST(unlink_of_directory)
{
	dir("d");
	FAILS(unlink("d"), EISDIR);
	FAILS(unlink("d/"), EISDIR);
	FAILS(unlink("."), EISDIR);
}

TEST(unlink_of_symlink_leaves_target)
{
	put("f", "");
	sym("f", "l");
	OK(unlink("l") == 0 && there("f"));
}

TEST(unlink_of_symlink_to_directory)
{
	dir("d");
	sym("d", "l");
	OK(unlink("l") == 0 && there("d"));
}

TEST(unlink_trailing_slash)
{
	put("f", "");
	FAILS(unlink("f/"), ENOTDIR);
	FAILS(unlink("absent/"), ENOENT);
}

TEST(unlink_needs_write_permission)
{
	put("f", "");
	OK(chmod("f", 0666) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(unlink("f"), EACCES);
	}
}

TEST(unlink_of_read_only_file)
{
	put("f", "");
	OK(chmod("f", 0) == 0 && unlink("f") == 0);
}

TEST(unlink_one_name_of_two)
{
	put("a", "text");
	OK(link("a", "b") == 0 && unlink("a") == 0);
	HOLDS("b", "text");
}

TEST(unlinked_open_file_reads_and_writes)
{
	char text[8] = "";
	int fd = rw("f");

	OK(unlink("f") == 0);
	EQ(write(fd, "alive", 5), 5);
	OK(pread(fd, text, 8, 0) == 5 && !strcmp(text, "alive"));
}

TEST(unlinked_open_file_changes_size)
{
	int fd = rw("f");

	OK(unlink("f") == 0 && ftruncate(fd, 100) == 0);
	EQ(fsee(fd).st_size, 100);
}

TEST(unlinked_open_file_large)
{
	char byte;
	int fd;

	put_size("f", 2500000);
	fd = rw("f");
	OK(unlink("f") == 0);
	EQ(pread(fd, &byte, 1, 2400000), 1);
	EQ(byte, byte_at(2400000));
}

TEST(unlinked_open_file_attributes)
{
	int fd = rw("f");

	OK(unlink("f") == 0 && fchmod(fd, 0600) == 0);
	EQ(fsee(fd).st_mode & 07777, 0600);
	OK(fsync(fd) == 0);
}

TEST(unlinked_open_file_and_its_successor)
{
	char text[8] = "";
	int fd;

	put("f", "old");
	fd = ro("f");
	OK(unlink("f") == 0);
	put("f", "new");
	OK(read(fd, text, 8) == 3 && !strcmp(text, "old"));
	OK(fsee(fd).st_ino != see("f").st_ino);
}

TEST(unlinked_open_file_by_another_process)
{
	char text[8] = "";
	int fd;

	put("f", "text");
	fd = ro("f");
	EQ(shell("rm f"), 0);
	OK(read(fd, text, 8) == 4 && !there("f"));
}

TEST(unlinked_open_file_reopened_by_proc)
{
	char path[64], text[8] = "";
	int fd = rw("f");

	EQ(write(fd, "text", 4), 4);
	OK(unlink("f") == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(read(open(path, O_RDONLY), text, 8) == 4 && !strcmp(text, "text"));
}

TEST(unlinked_open_file_in_a_child)
{
	int fd = rw("f");

	EQ(write(fd, "text", 4), 4);
	OK(unlink("f") == 0);
	CHILD
	{
		char text[8] = "";

		OK(pread(fd, text, 8, 0) == 4 && !strcmp(text, "text"));
	}
}

TEST(unlinked_directory_of_open_file)
{
	char text[8] = "";
	int fd;

	dir("d");
	put("d/f", "text");
	fd = ro("d/f");
	OK(unlink("d/f") == 0 && rmdir("d") == 0);
	EQ(read(fd, text, 8), 4);
}

TEST(remove_of_both)
{
	put("f", "");
	dir("d");
	OK(remove("f") == 0 && remove("d") == 0);
	FAILS(remove("f"), ENOENT);
}

TEST(remove_of_full_directory)
{
	dir("d");
	put("d/f", "");
	FAILS(remove("d"), ENOTEMPTY);
}

TEST(rm_rf_by_the_tool)
{
	EQ(shell("mkdir -p d/a/b d/c && touch d/f d/a/f d/a/b/f && rm -rf d && test ! -e "
		 "d"),
		0);
}

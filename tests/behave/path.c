/* How paths are resolved: components, slashes, dots, symlinks, lengths, permissions. */
#include "tests/behave/behave.h"

static void deep_name(char *name, size_t size)
{
	memset(name, 'n', size);
	name[size] = 0;
}

TEST(path_empty_is_enoent)
{
	struct stat st;

	FAILS(open("", O_RDONLY), ENOENT);
	FAILS(stat("", &st), ENOENT);
	FAILS(unlink(""), ENOENT);
	FAILS(mkdir("", 0755), ENOENT);
}

TEST(path_dot_is_the_directory)
{
	EQ(see(".").st_ino, see(test_dir).st_ino);
}

TEST(path_dotdot_is_the_parent)
{
	dir("d");
	EQ(see("d/..").st_ino, see(".").st_ino);
}

TEST(path_dot_in_the_middle)
{
	dir("d");
	put("d/f", "");
	OK(there("./d/./f"));
}

TEST(path_dotdot_in_the_middle)
{
	dir("d");
	put("f", "");
	OK(there("d/../f") && there("d/../d/../f"));
}

TEST(path_dotdot_of_absent)
{
	put("f", "");
	FAILS(open("absent/../f", O_RDONLY), ENOENT);
}

TEST(path_dotdot_of_file)
{
	put("f", "");
	FAILS(open("f/../f", O_RDONLY), ENOTDIR);
}

TEST(path_many_slashes_are_one)
{
	dir("d");
	put("d/f", "");
	OK(there("d////f") && there(".//d/f"));
}

TEST(path_absolute)
{
	put("f", "");
	EQ(see(full("f")).st_ino, see("f").st_ino);
}

TEST(path_absolute_with_double_slash)
{
	char path[2 * PATH_MAX];

	put("f", "");
	snprintf(path, sizeof(path), "//%s//f", test_dir + 1);
	OK(there(path));
}

TEST(path_absolute_lexical_in_front)
{
	char path[2 * PATH_MAX];

	put("f", "");
	snprintf(path, sizeof(path), "/tmp/..%s/f", test_dir);
	OK(there(path));
}

TEST(path_dotdot_above_root)
{
	OK(there("/../../../etc/passwd"));
}

TEST(path_dotdot_from_here_to_root)
{
	char path[PATH_MAX] = "";

	for (const char *s = test_dir; *s; s++)
		if (*s == '/')
			strcat(path, "../");
	strcat(path, "etc/passwd");
	EQ(see(path).st_ino, see("/etc/passwd").st_ino);
}

TEST(path_relative_from_root)
{
	put("f", "text");
	OK(chdir("/") == 0);
	HOLDS(full("f") + 1, "text");
}

TEST(path_through_file_is_enotdir)
{
	struct stat st;

	put("f", "");
	FAILS(stat("f/x", &st), ENOTDIR);
	FAILS(open("f/x", O_RDONLY | O_CREAT, 0644), ENOTDIR);
	FAILS(mkdir("f/x", 0755), ENOTDIR);
	FAILS(unlink("f/x"), ENOTDIR);
}

TEST(path_through_absent_is_enoent)
{
	struct stat st;

	FAILS(stat("a/b", &st), ENOENT);
	FAILS(mkdir("a/b", 0755), ENOENT);
	FAILS(unlink("a/b"), ENOENT);
	FAILS(rmdir("a/b"), ENOENT);
	FAILS(symlink("x", "a/b"), ENOENT);
}

TEST(path_through_fifo_is_enotdir)
{
	OK(mkfifo("p", 0644) == 0);
	FAILS(open("p/x", O_RDONLY), ENOTDIR);
}

TEST(path_through_dangling_symlink)
{
	sym("nothing", "link");
	FAILS(open("link/x", O_RDONLY), ENOENT);
}

TEST(path_through_symlink_to_file)
{
	put("f", "");
	sym("f", "link");
	FAILS(open("link/x", O_RDONLY), ENOTDIR);
}

TEST(path_trailing_slash_of_directory)
{
	dir("d");
	OK(S_ISDIR(see("d/").st_mode) && S_ISDIR(see("d//").st_mode));
}

TEST(path_trailing_slash_of_file)
{
	struct stat st;

	put("f", "");
	FAILS(stat("f/", &st), ENOTDIR);
	FAILS(lstat("f/", &st), ENOTDIR);
	FAILS(open("f/", O_RDONLY), ENOTDIR);
	FAILS(access("f/", F_OK), ENOTDIR);
}

TEST(path_trailing_slash_of_absent)
{
	struct stat st;

	FAILS(stat("d/", &st), ENOENT);
}

TEST(path_trailing_slash_follows_symlink)
{
	struct stat st;

	dir("d");
	sym("d", "link");
	OK(lstat("link/", &st) == 0 && S_ISDIR(st.st_mode));
}

TEST(path_trailing_slash_of_symlink_to_file)
{
	struct stat st;

	put("f", "");
	sym("f", "link");
	FAILS(lstat("link/", &st), ENOTDIR);
}

TEST(path_trailing_dot_of_file)
{
	put("f", "");
	FAILS(open("f/.", O_RDONLY), ENOTDIR);
}

TEST(path_trailing_dot_follows_symlink)
{
	struct stat st;

	dir("d");
	sym("d", "link");
	OK(lstat("link/.", &st) == 0 && S_ISDIR(st.st_mode));
}

TEST(path_symlink_in_the_middle)
{
	dir("d");
	put("d/f", "text");
	sym("d", "link");
	HOLDS("link/f", "text");
}

TEST(path_symlink_relative_to_its_directory)
{
	dir("d");
	dir("e");
	put("e/f", "text");
	sym("../e", "d/link");
	HOLDS("d/link/f", "text");
}

TEST(path_symlink_absolute)
{
	put("f", "text");
	sym(full("f"), "link");
	HOLDS("link", "text");
}

TEST(path_symlink_absolute_in_the_middle)
{
	dir("d");
	put("d/f", "text");
	sym(full("d"), "link");
	HOLDS("link/f", "text");
}

TEST(path_symlink_out_to_local)
{
	sym("/etc", "link");
	EQ(see("link/passwd").st_ino, see("/etc/passwd").st_ino);
}

TEST(path_symlink_out_and_dotdot)
{
	sym("/etc/security", "link");
	if (access("/etc/security", F_OK))
		skip("no /etc/security");
	EQ(see("link/../passwd").st_ino, see("/etc/passwd").st_ino);
}

TEST(path_symlink_out_and_create)
{
	const char *outside = other_fs();
	char path[64];

	sym(outside, "link");
	put("link/f", "text");
	snprintf(path, sizeof(path), "%s/f", outside);
	HOLDS(path, "text");
	OK(unlink("link/f") == 0 && rmdir(outside) == 0);
}

TEST(path_symlink_dotdot_is_of_the_target)
{
	dir("a");
	dir("a/b");
	put("a/f", "in a");
	sym("a/b", "link");
	HOLDS("link/../f", "in a");
}

TEST(path_symlink_chain)
{
	put("f", "text");
	sym("f", "l1");
	sym("l1", "l2");
	sym("l2", "l3");
	HOLDS("l3", "text");
}

TEST(path_symlink_chain_of_40)
{
	char name[16], target[16];

	put("s0", "text");
	for (int i = 1; i <= 40; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		snprintf(target, sizeof(target), "s%d", i - 1);
		sym(target, name);
	}
	HOLDS("s40", "text");
}

TEST(path_symlink_chain_of_41_is_eloop)
{
	char name[16], target[16];

	put("s0", "text");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		snprintf(target, sizeof(target), "s%d", i - 1);
		sym(target, name);
	}
	FAILS(open("s41", O_RDONLY), ELOOP);
}

TEST(path_symlink_to_itself_is_eloop)
{
	struct stat st;

	sym("loop", "loop");
	FAILS(open("loop", O_RDONLY), ELOOP);
	FAILS(stat("loop", &st), ELOOP);
	FAILS(stat("loop/x", &st), ELOOP);
	FAILS(access("loop", F_OK), ELOOP);
	FAILS(chmod("loop", 0644), ELOOP);
}

TEST(path_symlinks_to_each_other)
{
	sym("b", "a");
	sym("a", "b");
	FAILS(open("a", O_RDONLY), ELOOP);
	FAILS(open("a", O_RDONLY | O_CREAT, 0644), ELOOP);
}

TEST(path_symlink_to_dot)
{
	put("f", "text");
	sym(".", "here");
	HOLDS("here/here/here/f", "text");
}

TEST(path_symlink_with_trailing_slash_target)
{
	put("f", "");
	dir("d");
	sym("f/", "to_file");
	sym("d/", "to_dir");
	FAILS(open("to_file", O_RDONLY), ENOTDIR);
	OK(open("to_dir", O_RDONLY) >= 0);
}

TEST(path_name_of_255)
{
	char name[300];

	deep_name(name, 255);
	put(name, "text");
	HOLDS(name, "text");
}

TEST(path_name_of_256)
{
	char name[300];
	struct stat st;

	deep_name(name, 256);
	FAILS(open(name, O_RDONLY), ENAMETOOLONG);
	FAILS(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	FAILS(mkdir(name, 0755), ENAMETOOLONG);
	FAILS(stat(name, &st), ENAMETOOLONG);
	FAILS(unlink(name), ENAMETOOLONG);
	FAILS(symlink("x", name), ENAMETOOLONG);
	put("f", "");
	FAILS(rename("f", name), ENAMETOOLONG);
	FAILS(link("f", name), ENAMETOOLONG);
}

TEST(path_name_of_256_in_the_middle)
{
	char name[300];

	deep_name(name, 256);
	strcat(name, "/f");
	FAILS(open(name, O_RDONLY), ENAMETOOLONG);
}

TEST(path_of_4096_is_enametoolong)
{
	char path[PATH_MAX + 100];

	for (size_t i = 0; i < PATH_MAX + 10; i += 2)
		memcpy(path + i, "./", 3);
	FAILS(open(path, O_RDONLY), ENAMETOOLONG);
}

TEST(path_of_4095_is_allowed)
{
	char path[PATH_MAX];

	for (size_t i = 0; i + 2 < PATH_MAX; i += 2)
		memcpy(path + i, "./", 3);
	path[PATH_MAX - 2] = '/';
	path[PATH_MAX - 1] = 0;
	OK(open(path, O_RDONLY) >= 0);
}

TEST(path_deeper_than_path_max_by_steps)
{
	char name[260];

	deep_name(name, 250);
	for (int i = 0; i < 20; i++) {
		dir(name);
		OK(chdir(name) == 0);
	}
	put("f", "deep");
	HOLDS("f", "deep");
}

TEST(path_names_are_bytes)
{
	put("\x01\xff\xfe name\n", "odd");
	HOLDS("\x01\xff\xfe name\n", "odd");
	OK(!strcmp(names_in("."), "\x01\xff\xfe name\n"));
}

TEST(path_names_differ_by_case)
{
	put("name", "1");
	put("NAME", "2");
	HOLDS("name", "1");
}

TEST(path_names_with_leading_dots)
{
	put("...", "three");
	put(".hidden", "h");
	HOLDS("...", "three");
	HOLDS(".hidden", "h");
}

TEST(path_utf8_forms_are_different)
{
	put("\u00e9", "one");
	put("e\u0301", "two");
	HOLDS("\u00e9", "one");
}

TEST(path_search_permission_on_directory)
{
	dir("d");
	put("d/f", "");
	OK(chmod("d", 0766) == 0);
	CHILD_AS(1234, 1234)
	{
		struct stat st;

		FAILS(stat("d/f", &st), EACCES);
		FAILS(open("d/f", O_RDONLY), EACCES);
		FAILS(open("d/absent", O_RDONLY), EACCES);
	}
}

TEST(path_search_without_read_on_directory)
{
	dir("d");
	put("d/f", "text");
	OK(chmod("d", 0711) == 0);
	CHILD_AS(1234, 1234)
	{
		HOLDS("d/f", "text");
		FAILS(open("d", O_RDONLY), EACCES);
	}
}

TEST(path_search_permission_far_above)
{
	dir("a");
	dir("a/b");
	put("a/b/f", "");
	OK(chmod("a", 0700) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(open("a/b/f", O_RDONLY), EACCES);
	}
}

TEST(path_search_permission_through_symlink)
{
	dir("d");
	put("d/f", "");
	sym("d/f", "link");
	OK(chmod("d", 0700) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(open("link", O_RDONLY), EACCES);
	}
}

TEST(path_write_permission_of_directory)
{
	CHILD_AS(1234, 1234)
	{
		FAILS(open("f", O_WRONLY | O_CREAT, 0644), EACCES);
		FAILS(mkdir("d", 0755), EACCES);
		FAILS(symlink("x", "l"), EACCES);
		FAILS(mkfifo("p", 0644), EACCES);
	}
}

TEST(path_write_permission_but_no_search)
{
	dir("d");
	OK(chmod("d", 0776) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(open("d/f", O_WRONLY | O_CREAT, 0644), EACCES);
	}
}

TEST(path_permission_of_the_group)
{
	dir("d");
	OK(chown("d", 0, 77) == 0 && chmod("d", 0770) == 0);
	CHILD_AS(1234, 77)
	{
		put("d/f", "");
	}
}

TEST(path_fault)
{
	struct stat st;

	FAILS(stat(nowhere, &st), EFAULT);
	FAILS(mkdir(nowhere, 0755), EFAULT);
	FAILS(unlink(nowhere), EFAULT);
}

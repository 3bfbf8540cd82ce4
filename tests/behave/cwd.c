/* The working directory and realpath. */
#include "tests/behave/behave.h"

/* --- the working directory -------------------------------------------------------- */

TEST(getcwd_is_the_directory)
{
	char text[PATH_MAX];

	OK(getcwd(text, sizeof(text)) && !strcmp(text, test_dir));
}

TEST(getcwd_allocates)
{
	char *text = getcwd(NULL, 0);

	OK(text && !strcmp(text, test_dir));
	free(text);
	text = get_current_dir_name();
	OK(text && !strcmp(text, test_dir));
}

TEST(getcwd_too_small)
{
	char text[PATH_MAX];

	NULLS(getcwd(text, 2), ERANGE);
	NULLS(getcwd(text, strlen(test_dir)), ERANGE);
	OK(getcwd(text, strlen(test_dir) + 1));
}

TEST(getcwd_zero_size)
{
	char text[8];

	NULLS(getcwd(text, 0), EINVAL);
}

TEST(chdir_relative_and_back)
{
	dir("d");
	OK(chdir("d") == 0);
	put("f", "");
	OK(chdir("..") == 0 && there("d/f"));
}

TEST(chdir_absolute)
{
	dir("d");
	OK(chdir("/") == 0 && chdir(full("d")) == 0);
	put("f", "");
	OK(there(full("d/f")));
}

TEST(chdir_through_symlink)
{
	char text[PATH_MAX];

	dir("d");
	sym("d", "l");
	OK(chdir("l") == 0 && getcwd(text, sizeof(text)));
	OK(!strcmp(text, full("d")));
}

TEST(chdir_errors)
{
	put("f", "");
	FAILS(chdir("absent"), ENOENT);
	FAILS(chdir("f"), ENOTDIR);
	FAILS(chdir(""), ENOENT);
}

TEST(chdir_needs_search_permission)
{
	dir("d");
	OK(chmod("d", 0644) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(chdir("d"), EACCES);
	}
}

TEST(chdir_failed_stays)
{
	char text[PATH_MAX];

	FAILS(chdir("absent"), ENOENT);
	OK(getcwd(text, sizeof(text)) && !strcmp(text, test_dir));
}

TEST(fchdir_to_descriptor)
{
	int fd;

	dir("d");
	put("d/f", "");
	fd = ro_dir("d");
	OK(chdir("/") == 0 && fchdir(fd) == 0 && there("f"));
}

TEST(fchdir_of_file)
{
	FAILS(fchdir(rw("f")), ENOTDIR);
	FAILS(fchdir(99), EBADF);
}

TEST(cwd_follows_a_rename)
{
	char text[PATH_MAX];

	dir("d");
	OK(chdir("d") == 0 && rename("../d", "../e") == 0);
	OK(getcwd(text, sizeof(text)) && !strcmp(text, full("e")));
}

TEST(cwd_follows_a_rename_above)
{
	char text[PATH_MAX];

	dir("a");
	dir("a/b");
	OK(chdir("a/b") == 0 && rename(full("a"), full("c")) == 0);
	OK(getcwd(text, sizeof(text)) && !strcmp(text, full("c/b")));
}

TEST(cwd_removed_getcwd)
{
	char text[PATH_MAX];

	dir("d");
	OK(chdir("d") == 0 && rmdir("../d") == 0);
	NULLS(getcwd(text, sizeof(text)), ENOENT);
}

TEST(cwd_removed_takes_no_files)
{
	dir("d");
	OK(chdir("d") == 0 && rmdir("../d") == 0);
	FAILS(open("f", O_WRONLY | O_CREAT, 0644), ENOENT);
}

TEST(cwd_removed_still_has_dot)
{
	struct stat st;

	dir("d");
	OK(chdir("d") == 0 && rmdir(full("d")) == 0);
	OK(stat(".", &st) == 0 && S_ISDIR(st.st_mode));
}

TEST(cwd_removed_dotdot_leads_out)
{
	dir("d");
	put("f", "");
	OK(chdir("d") == 0 && rmdir(full("d")) == 0);
	OK(chdir("..") == 0 && there("f"));
}

TEST(cwd_is_inherited_by_fork)
{
	dir("d");
	OK(chdir("d") == 0);
	CHILD
	{
		put("f", "");
	}
	OK(there("f"));
}

TEST(cwd_is_inherited_by_exec)
{
	char text[PATH_MAX + 32];

	dir("d");
	OK(chdir("d") == 0);
	snprintf(text, sizeof(text), "test \"$(/bin/pwd)\" = %s", full("d"));
	EQ(shell("%s", text), 0);
}

TEST(cwd_of_a_child_is_its_own)
{
	dir("d");
	CHILD
	{
		OK(chdir("d") == 0);
	}
	OK(there("d"));
}

/* --- realpath --------------------------------------------------------------------- */

TEST(realpath_resolves_all)
{
	char text[PATH_MAX];

	dir("d");
	put("f", "");
	sym("../f", "d/l");
	OK(realpath("d/./l", text) == text && !strcmp(text, full("f")));
}

TEST(realpath_allocates)
{
	char *text;

	put("f", "");
	text = realpath("f", NULL);
	OK(text && !strcmp(text, full("f")));
	text = canonicalize_file_name("f");
	OK(text && !strcmp(text, full("f")));
}

TEST(realpath_absent)
{
	char text[PATH_MAX];

	NULLS(realpath("absent", text), ENOENT);
	NULLS(realpath("", text), ENOENT);
}

TEST(realpath_through_file)
{
	char text[PATH_MAX];

	put("f", "");
	NULLS(realpath("f/x", text), ENOTDIR);
}

TEST(realpath_loop)
{
	char text[PATH_MAX];

	sym("l", "l");
	NULLS(realpath("l", text), ELOOP);
}

TEST(realpath_out_to_local)
{
	char text[PATH_MAX];

	sym("/etc/passwd", "l");
	OK(realpath("l", text) && !strcmp(text, "/etc/passwd"));
}

TEST(realpath_dotdot_above_root)
{
	char text[PATH_MAX];

	OK(realpath("/../..", text) && !strcmp(text, "/"));
}

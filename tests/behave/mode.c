/* Permissions and owners: chmod, chown, set-id bits, sticky and sgid directories, access.
 */
#include <grp.h>

#include "tests/behave/behave.h"

#define USER  1234
#define OTHER 4321

/* A file of that owner and mode, made by root. */
static void owned(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	need_root();
	put(name, "text");
	OK(chown(name, uid, gid) == 0 && chmod(name, mode) == 0);
}

static void owned_dir(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	need_root();
	dir(name);
	OK(chown(name, uid, gid) == 0 && chmod(name, mode) == 0);
}

/* --- chmod ------------------------------------------------------------------------ */

TEST(chmod_all_bits)
{
	put("f", "");
	OK(chmod("f", 07777) == 0);
	EQ(mode_of("f"), 07777);
	OK(chmod("f", 0) == 0);
	EQ(mode_of("f"), 0);
}

TEST(chmod_is_not_cut_by_umask)
{
	put("f", "");
	umask(0777);
	OK(chmod("f", 0666) == 0);
	EQ(mode_of("f"), 0666);
}

TEST(chmod_keeps_the_type)
{
	put("f", "");
	OK(chmod("f", S_IFDIR | 0600) == 0);
	OK(S_ISREG(see("f").st_mode));
}

TEST(chmod_follows_symlink)
{
	put("f", "");
	sym("f", "l");
	OK(chmod("l", 0600) == 0);
	EQ(mode_of("f"), 0600);
	EQ(mode_of("l"), 0777);
}

TEST(chmod_absent)
{
	FAILS(chmod("absent", 0644), ENOENT);
}

TEST(fchmod_of_read_only_descriptor)
{
	put("f", "");
	OK(fchmod(ro("f"), 0600) == 0);
	EQ(mode_of("f"), 0600);
}

TEST(fchmod_of_directory)
{
	dir("d");
	OK(fchmod(ro_dir("d"), 0700) == 0);
	EQ(mode_of("d"), 0700);
}

TEST(fchmod_closed_descriptor)
{
	FAILS(fchmod(99, 0644), EBADF);
}

TEST(fchmodat_nofollow_of_symlink)
{
	put("f", "");
	sym("f", "l");
	FAILS(fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
	EQ(mode_of("f"), 0644);
}

TEST(fchmodat_nofollow_of_file)
{
	put("f", "");
	OK(fchmodat(AT_FDCWD, "f", 0600, AT_SYMLINK_NOFOLLOW) == 0);
	EQ(mode_of("f"), 0600);
}

TEST(fchmodat_unknown_flag)
{
	put("f", "");
	FAILS(fchmodat(AT_FDCWD, "f", 0600, 0x4000), EINVAL);
}

TEST(chmod_by_others_is_eperm)
{
	put("f", "");
	CHILD_AS(USER, USER)
	{
		FAILS(chmod("f", 0666), EPERM);
	}
}

TEST(chmod_by_owner)
{
	owned("f", USER, USER, 0600);
	CHILD_AS(USER, USER)
	{
		OK(chmod("f", 0644) == 0);
	}
	EQ(mode_of("f"), 0644);
}

TEST(chmod_open_descriptor_keeps_its_right)
{
	int fd;

	put("f", "");
	fd = rw("f");
	OK(chmod("f", 0) == 0);
	CHILD_AS(USER, USER)
	{
		EQ(write(fd, "x", 1), 1);
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(chmod_setgid_of_foreign_group_is_dropped)
{
	owned("f", USER, 77, 0755);
	CHILD_AS(USER, USER)
	{
		OK(chmod("f", 02755) == 0);
	}
	EQ(mode_of("f"), 0755);
}

TEST(chmod_setgid_of_own_group_is_kept)
{
	owned("f", USER, USER, 0755);
	CHILD_AS(USER, USER)
	{
		OK(chmod("f", 02755) == 0);
	}
	EQ(mode_of("f"), 02755);
}

TEST(chmod_sticky_of_a_file_by_its_owner)
{
	owned("f", USER, USER, 0755);
	CHILD_AS(USER, USER)
	{
		OK(chmod("f", 01755) == 0);
	}
	EQ(mode_of("f"), 01755);
}

/* --- chown ------------------------------------------------------------------------ */

TEST(chown_by_root)
{
	owned("f", USER, 77, 0644);
	EQ(see("f").st_uid, USER);
	EQ(see("f").st_gid, 77);
}

TEST(chown_of_minus_one_keeps)
{
	owned("f", USER, 77, 0644);
	OK(chown("f", (uid_t)-1, 78) == 0);
	EQ(see("f").st_uid, USER);
	OK(chown("f", 5, (gid_t)-1) == 0);
	EQ(see("f").st_gid, 78);
}

TEST(chown_follows_symlink_lchown_does_not)
{
	need_root();
	put("f", "");
	sym("f", "l");
	OK(lchown("l", 5, 5) == 0 && chown("l", 6, 6) == 0);
	EQ(see("l").st_uid, 5);
	EQ(see("f").st_uid, 6);
}

TEST(fchown_of_read_only_descriptor)
{
	need_root();
	put("f", "");
	OK(fchown(ro("f"), 5, 6) == 0);
	EQ(see("f").st_gid, 6);
}

TEST(chown_by_owner_to_others_is_eperm)
{
	owned("f", USER, USER, 0644);
	CHILD_AS(USER, USER)
	{
		FAILS(chown("f", OTHER, (gid_t)-1), EPERM);
	}
}

TEST(chown_by_owner_to_itself)
{
	owned("f", USER, USER, 0644);
	CHILD_AS(USER, USER)
	{
		OK(chown("f", USER, USER) == 0);
	}
}

TEST(chown_by_owner_to_supplementary_group)
{
	owned("f", USER, USER, 0644);
	CHILD
	{
		gid_t groups[2] = {77, 88};

		OK(setgroups(2, groups) == 0);
		OK(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
		OK(chown("f", (uid_t)-1, 88) == 0);
	}
	EQ(see("f").st_gid, 88);
}

TEST(chown_by_owner_to_foreign_group_is_eperm)
{
	owned("f", USER, USER, 0644);
	CHILD_AS(USER, USER)
	{
		FAILS(chown("f", (uid_t)-1, 99), EPERM);
	}
}

TEST(chown_by_stranger_is_eperm)
{
	owned("f", OTHER, OTHER, 0666);
	CHILD_AS(USER, USER)
	{
		FAILS(chown("f", USER, (gid_t)-1), EPERM);
		FAILS(chown("f", (uid_t)-1, USER), EPERM);
	}
}

TEST(chown_absent)
{
	FAILS(chown("absent", (uid_t)-1, (gid_t)-1), ENOENT);
}

TEST(chown_large_ids)
{
	owned("f", 4000000000u, 3000000000u, 0644);
	EQ(see("f").st_uid, 4000000000u);
	EQ(see("f").st_gid, 3000000000u);
}

/* --- set-id bits, cleared --------------------------------------------------------- */

TEST(setid_chown_by_root_clears_on_executable)
{
	need_root();
	put("f", "");
	OK(chmod("f", 06755) == 0 && chown("f", 5, 5) == 0);
	EQ(mode_of("f"), 0755);
}

TEST(setid_chown_keeps_setgid_without_group_execute)
{
	need_root();
	put("f", "");
	OK(chmod("f", 02745) == 0 && chown("f", 5, 5) == 0);
	EQ(mode_of("f"), 02745);
}

TEST(setid_chown_of_directory_keeps)
{
	need_root();
	dir("d");
	OK(chmod("d", 06755) == 0 && chown("d", 5, 5) == 0);
	EQ(mode_of("d"), 06755);
}

TEST(setid_write_by_others_clears)
{
	owned("f", 0, 0, 06777);
	CHILD_AS(USER, USER)
	{
		EQ(write(wo("f"), "x", 1), 1);
	}
	EQ(mode_of("f"), 0777);
}

TEST(setid_write_by_root_keeps)
{
	owned("f", 0, 0, 06777);
	EQ(write(wo("f"), "x", 1), 1);
	EQ(mode_of("f"), 06777);
}

TEST(setid_write_by_owner_clears)
{
	owned("f", USER, USER, 04755);
	CHILD_AS(USER, USER)
	{
		EQ(write(wo("f"), "x", 1), 1);
	}
	EQ(mode_of("f"), 0755);
}

TEST(setid_truncate_by_others_clears)
{
	owned("f", 0, 0, 06777);
	CHILD_AS(USER, USER)
	{
		OK(truncate("f", 1) == 0);
	}
	EQ(mode_of("f"), 0777);
}

TEST(setid_open_trunc_by_others_clears)
{
	owned("f", 0, 0, 06777);
	CHILD_AS(USER, USER)
	{
		OK(open("f", O_WRONLY | O_TRUNC) >= 0);
	}
	EQ(mode_of("f"), 0777);
}

/* --- sgid and sticky directories -------------------------------------------------- */

TEST(sgid_directory_gives_its_group)
{
	owned_dir("d", 0, 77, 02777);
	put("d/f", "");
	EQ(see("d/f").st_gid, 77);
	OK(!(mode_of("d/f") & S_ISGID));
}

TEST(sgid_directory_gives_group_and_bit_to_directories)
{
	owned_dir("d", 0, 77, 02777);
	dir("d/sub");
	EQ(see("d/sub").st_gid, 77);
	OK(mode_of("d/sub") & S_ISGID);
}

TEST(sgid_directory_gives_group_to_symlinks_and_fifos)
{
	owned_dir("d", 0, 77, 02777);
	sym("x", "d/l");
	OK(mkfifo("d/p", 0644) == 0);
	EQ(see("d/l").st_gid, 77);
	EQ(see("d/p").st_gid, 77);
}

TEST(sgid_directory_group_of_a_stranger)
{
	owned_dir("d", 0, 77, 02777);
	CHILD_AS(USER, USER)
	{
		put("d/f", "");
	}
	EQ(see("d/f").st_uid, USER);
	EQ(see("d/f").st_gid, 77);
}

TEST(sgid_executable_by_a_stranger_loses_the_bit)
{
	owned_dir("d", 0, 77, 02777);
	CHILD_AS(USER, USER)
	{
		OK(open("d/f", O_WRONLY | O_CREAT, 02755) >= 0);
	}
	EQ(mode_of("d/f"), 0755);
}

TEST(sgid_rename_into_keeps_the_group)
{
	owned_dir("d", 0, 77, 02777);
	put("f", "");
	OK(rename("f", "d/f") == 0);
	EQ(see("d/f").st_gid, 0);
}

TEST(sticky_directory_protects_from_unlink)
{
	owned_dir("d", 0, 0, 01777);
	owned("d/f", OTHER, OTHER, 0666);
	CHILD_AS(USER, USER)
	{
		FAILS(unlink("d/f"), EPERM);
	}
}

TEST(sticky_directory_lets_owner_unlink)
{
	owned_dir("d", 0, 0, 01777);
	owned("d/f", USER, USER, 0600);
	CHILD_AS(USER, USER)
	{
		OK(unlink("d/f") == 0);
	}
}

TEST(sticky_directory_owner_may_unlink)
{
	owned_dir("d", USER, USER, 01777);
	owned("d/f", OTHER, OTHER, 0600);
	CHILD_AS(USER, USER)
	{
		OK(unlink("d/f") == 0);
	}
}

TEST(sticky_directory_protects_from_rename)
{
	owned_dir("d", 0, 0, 01777);
	owned("d/f", OTHER, OTHER, 0666);
	CHILD_AS(USER, USER)
	{
		FAILS(rename("d/f", "d/g"), EPERM);
	}
}

TEST(sticky_directory_protects_from_rename_over)
{
	owned_dir("d", 0, 0, 01777);
	owned("d/f", OTHER, OTHER, 0666);
	owned("d/mine", USER, USER, 0666);
	CHILD_AS(USER, USER)
	{
		FAILS(rename("d/mine", "d/f"), EPERM);
	}
}

TEST(sticky_directory_protects_from_rmdir)
{
	owned_dir("d", 0, 0, 01777);
	owned_dir("d/sub", OTHER, OTHER, 0777);
	CHILD_AS(USER, USER)
	{
		FAILS(rmdir("d/sub"), EPERM);
	}
}

/* --- who may what ----------------------------------------------------------------- */

TEST(perm_owner_bits_come_first)
{
	owned("f", USER, USER, 0066);
	CHILD_AS(USER, USER)
	{
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(perm_group_bits_come_second)
{
	owned("f", OTHER, USER, 0604);
	CHILD_AS(USER, USER)
	{
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(perm_other_bits)
{
	owned("f", OTHER, OTHER, 0604);
	CHILD_AS(USER, USER)
	{
		OK(open("f", O_RDONLY) >= 0);
		FAILS(open("f", O_WRONLY), EACCES);
		FAILS(open("f", O_RDWR), EACCES);
	}
}

TEST(perm_supplementary_group)
{
	owned("f", OTHER, 88, 0640);
	CHILD
	{
		gid_t groups[2] = {77, 88};

		OK(setgroups(2, groups) == 0);
		OK(setresgid(USER, USER, USER) == 0 && setresuid(USER, USER, USER) == 0);
		OK(open("f", O_RDONLY) >= 0);
		FAILS(open("f", O_WRONLY), EACCES);
	}
}

TEST(perm_supplementary_group_without)
{
	owned("f", OTHER, 88, 0640);
	CHILD_AS(USER, USER)
	{
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(perm_trunc_needs_write)
{
	owned("f", OTHER, OTHER, 0644);
	CHILD_AS(USER, USER)
	{
		FAILS(open("f", O_RDONLY | O_TRUNC), EACCES);
	}
	HOLDS("f", "text");
}

TEST(perm_root_overrides)
{
	owned("f", USER, USER, 0);
	OK(open("f", O_RDWR) >= 0);
}

TEST(perm_seteuid_there_and_back)
{
	owned("f", 0, 0, 0600);
	CHILD
	{
		OK(seteuid(USER) == 0);
		FAILS(open("f", O_RDONLY), EACCES);
		OK(seteuid(0) == 0);
		OK(open("f", O_RDONLY) >= 0);
	}
}

TEST(perm_setegid)
{
	owned("f", OTHER, 88, 0640);
	CHILD
	{
		OK(setgroups(0, NULL) == 0);
		OK(setegid(88) == 0 && seteuid(USER) == 0);
		OK(open("f", O_RDONLY) >= 0);
	}
}

TEST(perm_setfsuid_like_a_server)
{
	owned("f", 0, 0, 0600);
	CHILD
	{
		extern int setfsuid(uid_t);

		setfsuid(USER);
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(perm_list_directory_needs_read)
{
	owned_dir("d", OTHER, OTHER, 0711);
	CHILD_AS(USER, USER)
	{
		FAILS(open("d", O_RDONLY | O_DIRECTORY), EACCES);
	}
}

TEST(perm_unlink_needs_directory_write_only)
{
	owned_dir("d", USER, USER, 0700);
	owned("d/f", OTHER, OTHER, 0);
	CHILD_AS(USER, USER)
	{
		OK(unlink("d/f") == 0);
	}
}

TEST(perm_rename_needs_both_directories)
{
	owned_dir("a", USER, USER, 0755);
	owned_dir("b", OTHER, OTHER, 0755);
	owned("a/f", USER, USER, 0644);
	CHILD_AS(USER, USER)
	{
		FAILS(rename("a/f", "b/f"), EACCES);
	}
}

TEST(perm_move_of_foreign_directory)
{
	owned_dir("a", USER, USER, 0755);
	owned_dir("a/d", OTHER, OTHER, 0755);
	owned_dir("b", USER, USER, 0755);
	CHILD_AS(USER, USER)
	{
		FAILS(rename("a/d", "b/d"), EACCES);
		OK(rename("a/d", "a/e") == 0);
	}
}

TEST(perm_protected_hardlinks)
{
	owned("f", OTHER, OTHER, 0600);
	owned_dir("d", USER, USER, 0755);
	CHILD_AS(USER, USER)
	{
		int fd = open("/proc/sys/fs/protected_hardlinks", O_RDONLY);
		char on = '0';

		if (read(fd, &on, 1) != 1 || on != '1')
			skip("hard links are not protected");
		FAILS(link("f", "d/f"), EPERM);
	}
}

/* --- access ----------------------------------------------------------------------- */

TEST(access_existing)
{
	put("f", "");
	OK(access("f", F_OK) == 0);
	FAILS(access("absent", F_OK), ENOENT);
}

TEST(access_bad_mode)
{
	put("f", "");
	FAILS(access("f", 8), EINVAL);
}

TEST(access_root_needs_one_execute_bit)
{
	need_root();
	put("f", "");
	FAILS(access("f", X_OK), EACCES);
	OK(chmod("f", 0001) == 0 && access("f", X_OK) == 0);
	OK(chmod("f", 0) == 0 && access("f", R_OK | W_OK) == 0);
}

TEST(access_root_searches_any_directory)
{
	need_root();
	dir("d");
	OK(chmod("d", 0) == 0 && access("d", R_OK | W_OK | X_OK) == 0);
}

TEST(access_by_user)
{
	owned("f", OTHER, OTHER, 0644);
	CHILD_AS(USER, USER)
	{
		OK(access("f", R_OK) == 0);
		FAILS(access("f", W_OK), EACCES);
		FAILS(access("f", R_OK | W_OK), EACCES);
	}
}

TEST(access_asks_the_real_user)
{
	owned("f", OTHER, OTHER, 0600);
	CHILD
	{
		OK(setresuid(USER, 0, 0) == 0);
		FAILS(access("f", R_OK), EACCES);
		OK(open("f", O_RDONLY) >= 0);
	}
}

TEST(faccessat_eaccess_asks_the_effective_user)
{
	owned("f", OTHER, OTHER, 0600);
	CHILD
	{
		OK(setresuid(USER, 0, 0) == 0);
		OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS) == 0);
	}
}

TEST(eaccess_and_euidaccess_ask_the_effective_user)
{
	owned("f", OTHER, OTHER, 0600);
	CHILD
	{
		OK(setresuid(0, USER, 0) == 0);
		FAILS(eaccess("f", R_OK), EACCES);
		FAILS(euidaccess("f", R_OK), EACCES);
		OK(access("f", R_OK) == 0);
	}
}

TEST(faccessat_nofollow)
{
	sym("nothing", "l");
	FAILS(faccessat(AT_FDCWD, "l", F_OK, 0), ENOENT);
	OK(faccessat(AT_FDCWD, "l", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
}

TEST(faccessat_unknown_flag)
{
	put("f", "");
	FAILS(faccessat(AT_FDCWD, "f", F_OK, 0x40000000), EINVAL);
}

TEST(umask_answers_the_old_one)
{
	EQ(umask(027), 022);
	EQ(umask(077), 027);
}

TEST(umask_for_mkdir_and_mkfifo)
{
	umask(077);
	OK(mkdir("d", 0777) == 0 && mkfifo("p", 0666) == 0);
	EQ(mode_of("d"), 0700);
	EQ(mode_of("p"), 0600);
}

TEST(umask_is_inherited)
{
	umask(077);
	EQ(shell("touch f"), 0);
	EQ(mode_of("f"), 0600);
}

TEST(umask_set_in_a_child_is_its_own)
{
	CHILD
	{
		umask(0);
	}
	put("f", "");
	EQ(mode_of("f"), 0644);
}

/* Extended attributes and POSIX ACLs, by the kernel's rules. */
#include <arpa/inet.h>
#include <endian.h>
#include <sys/xattr.h>

#include "tests/behave/behave.h"

static char value[70000];

static int set(const char *path, const char *name, const char *text)
{
	return setxattr(path, name, text, strlen(text), 0);
}

/* The attribute holds this text. */
static void has(const char *path, const char *name, const char *text)
{
	ssize_t size = getxattr(path, name, value, sizeof(value));

	EQ(size, strlen(text));
	OK(!memcmp(value, text, strlen(text)));
}

static bool listed(const char *path, const char *name)
{
	ssize_t size = listxattr(path, value, sizeof(value));

	OK(size >= 0);
	for (char *at = value; at < value + size; at += strlen(at) + 1)
		if (!strcmp(at, name))
			return true;
	return false;
}

TEST(xattr_set_and_get)
{
	put("f", "");
	OK(set("f", "user.a", "one") == 0);
	has("f", "user.a", "one");
}

TEST(xattr_set_replaces)
{
	put("f", "");
	OK(set("f", "user.a", "one") == 0 && set("f", "user.a", "longer than one") == 0);
	has("f", "user.a", "longer than one");
}

TEST(xattr_empty_value)
{
	put("f", "");
	OK(set("f", "user.a", "") == 0);
	EQ(getxattr("f", "user.a", value, sizeof(value)), 0);
	OK(listed("f", "user.a"));
}

TEST(xattr_value_is_bytes)
{
	put("f", "");
	OK(setxattr("f", "user.a", "\0\xff\0", 3, 0) == 0);
	OK(getxattr("f", "user.a", value, 9) == 3 && !memcmp(value, "\0\xff\0", 3));
}

TEST(xattr_absent)
{
	put("f", "");
	FAILS(getxattr("f", "user.a", value, 9), ENODATA);
	FAILS(removexattr("f", "user.a"), ENODATA);
}

TEST(xattr_of_absent_file)
{
	FAILS(getxattr("absent", "user.a", value, 9), ENOENT);
	FAILS(set("absent", "user.a", "x"), ENOENT);
	FAILS(listxattr("absent", value, 9), ENOENT);
}

TEST(xattr_size_is_asked_with_zero)
{
	put("f", "");
	OK(set("f", "user.a", "12345") == 0);
	EQ(getxattr("f", "user.a", NULL, 0), 5);
}

TEST(xattr_buffer_too_small)
{
	put("f", "");
	OK(set("f", "user.a", "12345") == 0);
	FAILS(getxattr("f", "user.a", value, 4), ERANGE);
}

TEST(xattr_create)
{
	put("f", "");
	OK(setxattr("f", "user.a", "1", 1, XATTR_CREATE) == 0);
	FAILS(setxattr("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
	has("f", "user.a", "1");
}

TEST(xattr_replace)
{
	put("f", "");
	FAILS(setxattr("f", "user.a", "1", 1, XATTR_REPLACE), ENODATA);
	OK(set("f", "user.a", "1") == 0);
	OK(setxattr("f", "user.a", "2", 1, XATTR_REPLACE) == 0);
}

TEST(xattr_unknown_flag)
{
	put("f", "");
	FAILS(setxattr("f", "user.a", "1", 1, 8), EINVAL);
}

TEST(xattr_remove)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0 && removexattr("f", "user.a") == 0);
	OK(!listed("f", "user.a"));
}

TEST(xattr_list_of_none)
{
	put("f", "");
	OK(!listed("f", "user.a"));
}

TEST(xattr_list_all)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0 && set("f", "user.bb", "2") == 0);
	OK(listed("f", "user.a") && listed("f", "user.bb"));
	EQ(listxattr("f", NULL, 0), 15);
}

TEST(xattr_list_buffer_too_small)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0);
	FAILS(listxattr("f", value, 3), ERANGE);
}

TEST(xattr_many)
{
	char name[32];

	put("f", "");
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		OK(set("f", name, name) == 0);
	}
	has("f", "user.17", "user.17");
	EQ(listxattr("f", NULL, 0), 10 * 7 + 40 * 8);
}

TEST(xattr_value_of_3000)
{
	static char large[3001];

	memset(large, 'v', 3000);
	put("f", "");
	OK(set("f", "user.a", large) == 0);
	has("f", "user.a", large);
}

TEST(xattr_value_over_65536)
{
	put("f", "");
	FAILS(setxattr("f", "user.a", value, 65537, 0), E2BIG);
}

TEST(xattr_name_too_long)
{
	char name[300] = "user.";

	memset(name + 5, 'n', 251);
	put("f", "");
	FAILS(set("f", name, "x"), ERANGE);
}

TEST(xattr_name_of_255)
{
	char name[300] = "user.";

	memset(name + 5, 'n', 250);
	put("f", "");
	OK(set("f", name, "x") == 0);
	has("f", name, "x");
}

TEST(xattr_name_without_namespace)
{
	put("f", "");
	FAILS(set("f", "plain", "x"), EOPNOTSUPP);
	FAILS(set("f", "other.a", "x"), EOPNOTSUPP);
	FAILS(getxattr("f", "other.a", value, 9), EOPNOTSUPP);
}

TEST(xattr_empty_name)
{
	put("f", "");
	FAILS(set("f", "", "x"), ERANGE);
}

TEST(xattr_name_of_namespace_only)
{
	put("f", "");
	FAILS(set("f", "user.", "x"), EINVAL);
}

TEST(xattr_of_directory)
{
	dir("d");
	OK(set("d", "user.a", "1") == 0);
	has("d", "user.a", "1");
}

TEST(xattr_user_on_symlink_is_eperm)
{
	sym("x", "l");
	FAILS(lsetxattr("l", "user.a", "1", 1, 0), EPERM);
}

TEST(xattr_user_on_fifo_is_eperm)
{
	OK(mkfifo("p", 0644) == 0);
	FAILS(set("p", "user.a", "1"), EPERM);
}

TEST(xattr_trusted_on_symlink)
{
	need_root();
	sym("x", "l");
	OK(lsetxattr("l", "trusted.a", "1", 1, 0) == 0);
	EQ(lgetxattr("l", "trusted.a", value, 9), 1);
}

TEST(xattr_follows_symlink)
{
	put("f", "");
	sym("f", "l");
	OK(set("l", "user.a", "1") == 0);
	has("f", "user.a", "1");
	FAILS(lgetxattr("l", "user.a", value, 9), ENODATA);
}

TEST(xattr_by_descriptor)
{
	int fd = rw("f");

	OK(fsetxattr(fd, "user.a", "1", 1, 0) == 0);
	EQ(fgetxattr(fd, "user.a", value, 9), 1);
	EQ(flistxattr(fd, value, 99), 7);
	OK(fremovexattr(fd, "user.a") == 0);
}

TEST(xattr_set_by_read_only_descriptor)
{
	put("f", "");
	OK(fsetxattr(ro("f"), "user.a", "1", 1, 0) == 0);
}

TEST(xattr_closed_descriptor)
{
	FAILS(fgetxattr(99, "user.a", value, 9), EBADF);
}

TEST(xattr_user_needs_read_permission)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0 && chmod("f", 0600) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(getxattr("f", "user.a", value, 9), EACCES);
	}
}

TEST(xattr_user_needs_write_permission)
{
	put("f", "");
	CHILD_AS(1234, 1234)
	{
		FAILS(set("f", "user.a", "1"), EACCES);
	}
}

TEST(xattr_list_needs_no_permission)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0 && chmod("f", 0) == 0);
	CHILD_AS(1234, 1234)
	{
		OK(listed("f", "user.a"));
	}
}

TEST(xattr_user_on_sticky_directory_by_stranger)
{
	need_root();
	dir("d");
	OK(chmod("d", 01777) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(set("d", "user.a", "1"), EPERM);
	}
}

TEST(xattr_trusted_by_root)
{
	need_root();
	put("f", "");
	OK(set("f", "trusted.a", "1") == 0);
	has("f", "trusted.a", "1");
	OK(listed("f", "trusted.a"));
}

TEST(xattr_trusted_is_hidden_from_others)
{
	need_root();
	put("f", "");
	OK(chmod("f", 0666) == 0 && set("f", "trusted.a", "1") == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(getxattr("f", "trusted.a", value, 9), ENODATA);
		FAILS(set("f", "trusted.b", "1"), EPERM);
		OK(!listed("f", "trusted.a"));
	}
}

TEST(xattr_security_by_root)
{
	need_root();
	put("f", "");
	OK(set("f", "security.behave", "1") == 0);
	has("f", "security.behave", "1");
}

TEST(xattr_security_by_others)
{
	need_root();
	put("f", "");
	OK(chmod("f", 0666) == 0 && set("f", "security.behave", "1") == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(set("f", "security.behave", "2"), EPERM);
		has("f", "security.behave", "1");
	}
}

/* CAP_NET_RAW, permitted and effective; the format of linux/capability.h, version 2. */
static const uint32_t capability[5] = {0x02000001, 1 << 13, 0, 0, 0};

TEST(xattr_capability_by_root)
{
	need_root();
	put("f", "");
	OK(setxattr("f", "security.capability", capability, 20, 0) == 0);
	OK(getxattr("f", "security.capability", value, 99) == 20);
	OK(!memcmp(value, capability, 20));
}

TEST(xattr_capability_of_nonsense)
{
	need_root();
	put("f", "");
	FAILS(set("f", "security.capability", "nonsense"), EINVAL);
}

TEST(xattr_capability_is_lost_by_write)
{
	need_root();
	put("f", "");
	OK(setxattr("f", "security.capability", capability, 20, 0) == 0);
	EQ(write(wo("f"), "x", 1), 1);
	FAILS(getxattr("f", "security.capability", value, 99), ENODATA);
}

TEST(xattr_capability_is_lost_by_chown)
{
	need_root();
	put("f", "");
	OK(setxattr("f", "security.capability", capability, 20, 0) == 0);
	OK(chown("f", 5, 5) == 0);
	FAILS(getxattr("f", "security.capability", value, 99), ENODATA);
}

TEST(xattr_survives_rename_and_link)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0 && link("f", "g") == 0 && rename("f", "h") == 0);
	has("g", "user.a", "1");
	has("h", "user.a", "1");
}

TEST(xattr_of_unlinked_open_file)
{
	int fd = rw("f");

	OK(unlink("f") == 0 && fsetxattr(fd, "user.a", "1", 1, 0) == 0);
	EQ(fgetxattr(fd, "user.a", value, 9), 1);
}

TEST(xattr_of_a_new_file_of_the_same_name)
{
	put("f", "");
	OK(set("f", "user.a", "1") == 0 && unlink("f") == 0);
	put("f", "");
	FAILS(getxattr("f", "user.a", value, 9), ENODATA);
}

TEST(xattr_fault)
{
	put("f", "");
	FAILS(setxattr("f", "user.a", nowhere, 5, 0), EFAULT);
}

/* --- POSIX ACLs ------------------------------------------------------------------- */

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };
#define NO_ID 0xffffffffu

struct acl {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} entries[8];
};

/* rw- for the owner, r-- for user 1234, --- for the group and others. */
static const struct acl acl_1234 = {
	2, {{USER_OBJ, 6, NO_ID}, {USER, 4, 1234}, {GROUP_OBJ, 0, NO_ID},
		   {MASK, 4, NO_ID}, {OTHER, 0, NO_ID}}};

static int acl_set(const char *path, const char *name, const struct acl *acl, int count)
{
	return setxattr(path, name, acl, (size_t)(4 + 8 * count), 0);
}

TEST(acl_access_is_kept)
{
	put("f", "");
	OK(acl_set("f", ACL_ACCESS, &acl_1234, 5) == 0);
	EQ(getxattr("f", ACL_ACCESS, value, 999), 44);
	OK(!memcmp(value, &acl_1234, 44) && listed("f", ACL_ACCESS));
}

TEST(acl_none_is_enodata)
{
	put("f", "");
	FAILS(getxattr("f", ACL_ACCESS, value, 999), ENODATA);
	OK(!listed("f", ACL_ACCESS));
}

TEST(acl_gives_its_user_access)
{
	need_root();
	put("f", "text");
	OK(acl_set("f", ACL_ACCESS, &acl_1234, 5) == 0);
	CHILD_AS(1234, 1234)
	{
		HOLDS("f", "text");
		FAILS(open("f", O_WRONLY), EACCES);
	}
	CHILD_AS(4321, 4321)
	{
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(acl_mask_is_the_group_mode)
{
	put("f", "");
	OK(acl_set("f", ACL_ACCESS, &acl_1234, 5) == 0);
	EQ(mode_of("f"), 0640);
}

TEST(acl_chmod_changes_the_mask)
{
	need_root();
	put("f", "");
	OK(acl_set("f", ACL_ACCESS, &acl_1234, 5) == 0 && chmod("f", 0600) == 0);
	CHILD_AS(1234, 1234)
	{
		FAILS(open("f", O_RDONLY), EACCES);
	}
}

TEST(acl_minimal_becomes_the_mode)
{
	struct acl acl = {
		2, {{USER_OBJ, 6, NO_ID}, {GROUP_OBJ, 4, NO_ID}, {OTHER, 0, NO_ID}}};

	put("f", "");
	OK(acl_set("f", ACL_ACCESS, &acl, 3) == 0);
	EQ(mode_of("f"), 0640);
	FAILS(getxattr("f", ACL_ACCESS, value, 999), ENODATA);
}

TEST(acl_group_entry)
{
	struct acl acl = {2, {{USER_OBJ, 6, NO_ID}, {GROUP_OBJ, 0, NO_ID}, {GROUP, 6, 77},
				     {MASK, 6, NO_ID}, {OTHER, 0, NO_ID}}};

	need_root();
	put("f", "");
	OK(acl_set("f", ACL_ACCESS, &acl, 5) == 0);
	CHILD_AS(1234, 77)
	{
		OK(open("f", O_RDWR) >= 0);
	}
}

TEST(acl_without_mask_is_einval)
{
	struct acl acl = acl_1234;

	acl.entries[3] = acl.entries[4];
	put("f", "");
	FAILS(acl_set("f", ACL_ACCESS, &acl, 4), EINVAL);
}

TEST(acl_of_wrong_version)
{
	struct acl acl = acl_1234;

	acl.version = 3;
	put("f", "");
	FAILS(acl_set("f", ACL_ACCESS, &acl, 5), EOPNOTSUPP);
}

TEST(acl_of_odd_size)
{
	put("f", "");
	FAILS(setxattr("f", ACL_ACCESS, &acl_1234, 43, 0), EINVAL);
}

TEST(acl_by_others_is_eperm)
{
	put("f", "");
	CHILD_AS(1234, 1234)
	{
		FAILS(acl_set("f", ACL_ACCESS, &acl_1234, 5), EPERM);
	}
}

TEST(acl_removed)
{
	put("f", "");
	OK(acl_set("f", ACL_ACCESS, &acl_1234, 5) == 0 &&
		removexattr("f", ACL_ACCESS) == 0);
	FAILS(getxattr("f", ACL_ACCESS, value, 999), ENODATA);
}

TEST(acl_default_on_file_is_eacces)
{
	put("f", "");
	FAILS(acl_set("f", ACL_DEFAULT, &acl_1234, 5), EACCES);
}

TEST(acl_default_is_inherited_by_files)
{
	dir("d");
	OK(acl_set("d", ACL_DEFAULT, &acl_1234, 5) == 0);
	put("d/f", "");
	EQ(getxattr("d/f", ACL_ACCESS, value, 999), 44);
	EQ(mode_of("d/f"), 0640);
}

TEST(acl_default_overrides_umask)
{
	struct acl acl = {
		2, {{USER_OBJ, 7, NO_ID}, {GROUP_OBJ, 6, NO_ID}, {OTHER, 6, NO_ID}}};

	dir("d");
	OK(acl_set("d", ACL_DEFAULT, &acl, 3) == 0);
	umask(077);
	OK(open("d/f", O_WRONLY | O_CREAT, 0666) >= 0);
	EQ(mode_of("d/f"), 0666);
}

TEST(acl_default_is_inherited_by_directories)
{
	dir("d");
	OK(acl_set("d", ACL_DEFAULT, &acl_1234, 5) == 0);
	dir("d/sub");
	EQ(getxattr("d/sub", ACL_DEFAULT, value, 999), 44);
}

TEST(acl_on_symlink_is_not_supported)
{
	sym("x", "l");
	FAILS(lsetxattr("l", ACL_ACCESS, &acl_1234, 44, 0), EOPNOTSUPP);
}

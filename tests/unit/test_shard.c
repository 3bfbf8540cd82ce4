/*
 * The namespace over one, two and three shards: every operation, and what it answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "core/base/mem.h"
#include "tests/lib/world.h"

#define OVER(n) for (uint32_t n = 1; n <= 3; n++)

static struct world world, *w = &world;

static void start(uint32_t shards)
{
	world_init(w, &(struct world_options){.shard_count = shards, .seed = shards});
}

static void end(void)
{
	world_check(w, 0);
	world_release(w);
	cr_assert_eq(mem_live_count(), 0, "%ld allocations left", mem_live_count());
}

static void be(uint32_t uid)
{
	w->cred = (struct cred){.uid = uid, .gid = uid};
}

static uint32_t nlink_of(const char *path)
{
	struct attr a;

	cr_assert_eq(w_lstat(w, path, &a), 0, "%s", path);
	return a.nlink;
}

static ino_id ino_of(const char *path)
{
	struct attr a;

	cr_assert_eq(w_lstat(w, path, &a), 0, "%s", path);
	return a.ino;
}

Test(shard, starts_with_a_root)
{
	struct attr a;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_stat(w, "/", &a), 0);
		cr_assert_eq(a.ino, WFS_ROOT_INO);
		cr_assert(S_ISDIR(a.mode));
		end();
	}
}

Test(shard, mkdir_rmdir)
{
	char path[600];

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/a", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/a", 0755), -EEXIST);
		cr_assert_eq(w_mkdir(w, "/", 0755), -EEXIST);
		cr_assert_eq(w_mkdir(w, "/a/.", 0755), -EEXIST);
		cr_assert_eq(w_mkdir(w, "/a/..", 0755), -EEXIST);
		cr_assert_eq(w_mkdir(w, "/no/b", 0755), -ENOENT);
		cr_assert_eq(w_create(w, "/f", 0644, NULL), 0);
		cr_assert_eq(w_mkdir(w, "/f/b", 0755), -ENOTDIR);
		cr_assert_eq(w_mkdir(w, "/a/b", 0700), 0);
		cr_assert_eq(w_mkdir(w, "/a/b/c/", 0700), 0);
		memset(path, 'x', sizeof(path));
		path[0] = '/';
		path[300] = 0;
		cr_assert_eq(w_mkdir(w, path, 0700), -ENAMETOOLONG);
		path[256] = 0;
		cr_assert_eq(w_mkdir(w, path, 0700), 0);
		cr_assert_eq(nlink_of("/"), 4);
		cr_assert_eq(nlink_of("/a"), 3);
		cr_assert_eq(w_rmdir(w, "/a"), -ENOTEMPTY);
		cr_assert_eq(w_rmdir(w, "/a/b"), -ENOTEMPTY);
		cr_assert_eq(w_rmdir(w, "/f"), -ENOTDIR);
		cr_assert_eq(w_rmdir(w, "/nix"), -ENOENT);
		cr_assert_eq(w_rmdir(w, "/a/b/c/."), -EINVAL);
		cr_assert_eq(w_rmdir(w, "/a/b/c/.."), -ENOTEMPTY);
		cr_assert_eq(w_rmdir(w, "/a/b/c/"), 0);
		cr_assert_eq(w_rmdir(w, "/a/b"), 0);
		cr_assert_eq(w_rmdir(w, "/a"), 0);
		cr_assert_eq(w_rmdir(w, "/a"), -ENOENT);
		cr_assert_eq(nlink_of("/"), 3);
		end();
	}
}

Test(shard, open_flags)
{
	struct attr a, b;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_open(w, "/f", O_RDONLY, 0, &a), -ENOENT);
		cr_assert_eq(w_open(w, "/f", O_RDWR | O_CREAT, 0640, &a), 0);
		cr_assert_eq(a.mode, S_IFREG | 0640);
		cr_assert_eq(w_open(w, "/f", O_RDWR | O_CREAT, 0600, &b), 0);
		cr_assert_eq(a.ino, b.ino);
		cr_assert_eq(b.mode, S_IFREG | 0640);
		cr_assert_eq(
			w_open(w, "/f", O_RDWR | O_CREAT | O_EXCL, 0600, &b), -EEXIST);
		cr_assert_eq(w_open(w, "/f", O_RDONLY | O_DIRECTORY, 0, &b), -ENOTDIR);
		cr_assert_eq(w_open(w, "/f/", O_RDONLY, 0, &b), -ENOTDIR);
		cr_assert_eq(w_open(w, "/f/x", O_RDONLY, 0, &b), -ENOTDIR);
		cr_assert_eq(w_write(w, a.ino, "abc", 3, 0), 0);
		cr_assert_eq(w_open(w, "/f", O_RDWR | O_TRUNC, 0, &b), 0);
		cr_assert_eq(b.size_bytes, 0);
		for (int i = 0; i < 3; i++)
			cr_assert_eq(w_close(w, a.ino), 0);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_open(w, "/d", O_RDONLY | O_DIRECTORY, 0, &b), 0);
		cr_assert_eq(w_open(w, "/d", O_WRONLY, 0, &b), -EISDIR);
		cr_assert_eq(w_open(w, "/d", O_CREAT | O_RDONLY, 0644, &b), -EISDIR);
		cr_assert_eq(w_open(w, "/new/", O_CREAT | O_RDWR, 0644, &b), -EISDIR);
		cr_assert_eq(w_open(w, "/d/.", O_CREAT | O_RDWR, 0644, &b), -EISDIR);
		cr_assert_eq(w_symlink(w, "f", "/l"), 0);
		cr_assert_eq(w_open(w, "/l", O_RDONLY | O_NOFOLLOW, 0, &b), -ELOOP);
		cr_assert_eq(w_open(w, "/l", O_RDONLY, 0, &b), 0);
		cr_assert_eq(b.ino, a.ino);
		cr_assert_eq(w_close(w, b.ino), 0);
		cr_assert_eq(
			w_open(w, "/l", O_RDONLY | O_CREAT | O_EXCL, 0, &b), -EEXIST);
		cr_assert_eq(w_open(w, "/l", O_RDWR | O_CREAT, 0, &b), 0);
		cr_assert_eq(b.ino, a.ino);
		cr_assert_eq(w_close(w, b.ino), 0);
		/* Through a dangling symlink a file comes into being. */
		cr_assert_eq(w_symlink(w, "d/made", "/dangling"), 0);
		cr_assert_eq(w_open(w, "/dangling", O_RDWR | O_CREAT, 0644, &b), 0);
		cr_assert_eq(ino_of("/d/made"), b.ino);
		cr_assert_eq(w_close(w, b.ino), 0);
		end();
	}
}

Test(shard, unlink_and_links)
{
	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_create(w, "/f", 0644, NULL), 0);
		cr_assert_eq(w_link(w, "/f", "/g"), 0);
		cr_assert_eq(w_link(w, "/f", "/g"), -EEXIST);
		cr_assert_eq(w_link(w, "/f", "/d/h"), 0);
		cr_assert_eq(w_link(w, "/no", "/x"), -ENOENT);
		cr_assert_eq(w_link(w, "/f", "/no/x"), -ENOENT);
		cr_assert_eq(w_link(w, "/d", "/x"), -EPERM);
		cr_assert_eq(w_link(w, "/f", "/x/"), -ENOENT);
		cr_assert_eq(nlink_of("/f"), 3);
		cr_assert_eq(ino_of("/d/h"), ino_of("/f"));
		cr_assert_eq(w_unlink(w, "/d"), -EISDIR);
		cr_assert_eq(w_unlink(w, "/d/"), -EISDIR);
		cr_assert_eq(w_unlink(w, "/f/"), -ENOTDIR);
		cr_assert_eq(w_unlink(w, "/"), -EISDIR);
		cr_assert_eq(w_unlink(w, "/nix"), -ENOENT);
		cr_assert_eq(w_unlink(w, "/f"), 0);
		cr_assert_eq(w_unlink(w, "/g"), 0);
		cr_assert_eq(nlink_of("/d/h"), 1);
		cr_assert_eq(w_unlink(w, "/d/h"), 0);
		cr_assert_eq(w_rmdir(w, "/d"), 0);
		end();
	}
}

Test(shard, symlinks)
{
	char target[WFS_SYMLINK_MAX + 1];
	struct attr a;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/d/e", 0755), 0);
		cr_assert_eq(w_create(w, "/d/e/f", 0644, NULL), 0);
		cr_assert_eq(w_symlink(w, "e/f", "/d/rel"), 0);
		cr_assert_eq(w_symlink(w, "/d/e", "/d/abs"), 0);
		cr_assert_eq(w_symlink(w, "../d/e", "/d/up"), 0);
		cr_assert_eq(w_symlink(w, "loop", "/loop"), 0);
		cr_assert_eq(w_symlink(w, "x", "/loop"), -EEXIST);
		cr_assert_eq(w_readlink(w, "/d/rel", target), 0);
		cr_assert_str_eq(target, "e/f");
		cr_assert_eq(w_readlink(w, "/d/e/f", target), -EINVAL);
		cr_assert_eq(w_stat(w, "/d/rel", &a), 0);
		cr_assert_eq(a.ino, ino_of("/d/e/f"));
		cr_assert_eq(w_stat(w, "/d/abs/f", &a), 0);
		cr_assert_eq(a.ino, ino_of("/d/e/f"));
		cr_assert_eq(w_stat(w, "/d/up/f", &a), 0);
		cr_assert_eq(a.ino, ino_of("/d/e/f"));
		cr_assert_eq(w_stat(w, "/loop", &a), -ELOOP);
		cr_assert_eq(w_lstat(w, "/loop", &a), 0);
		cr_assert_eq(w_stat(w, "/d/../../d/e/./f", &a), 0);
		cr_assert_eq(a.ino, ino_of("/d/e/f"));
		/* Renamed, its inode stays where it was, and it reads against its new
		 * place. */
		cr_assert_eq(w_mkdir(w, "/other", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/other/e", 0755), 0);
		cr_assert_eq(w_create(w, "/other/e/f", 0644, NULL), 0);
		cr_assert_eq(w_rename(w, "/d/rel", "/other/rel", 0), 0);
		cr_assert_eq(w_stat(w, "/other/rel", &a), 0);
		cr_assert_eq(a.ino, ino_of("/other/e/f"));
		cr_assert_eq(w_unlink(w, "/other/rel"), 0);
		end();
	}
}

Test(shard, rename_files)
{
	ino_id f;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/a", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/b", 0755), 0);
		cr_assert_eq(w_create(w, "/a/f", 0644, &f), 0);
		cr_assert_eq(w_rename(w, "/a/f", "/a/g", 0), 0);
		cr_assert_eq(w_rename(w, "/a/g", "/a/g", 0), 0);
		cr_assert_eq(w_rename(w, "/a/g", "/b/h", 0), 0);
		cr_assert_eq(ino_of("/b/h"), f);
		cr_assert_eq(w_rename(w, "/a/g", "/b/h", 0), -ENOENT);
		cr_assert_eq(w_rename(w, "/b/h", "/no/h", 0), -ENOENT);
		cr_assert_eq(w_create(w, "/a/old", 0644, NULL), 0);
		cr_assert_eq(w_rename(w, "/b/h", "/a/old", RENAME_NOREPLACE), -EEXIST);
		cr_assert_eq(w_rename(w, "/b/h", "/a/old", 0), 0);
		cr_assert_eq(ino_of("/a/old"), f);
		cr_assert_eq(nlink_of("/a/old"), 1);
		cr_assert_eq(w_rename(w, "/a/old", "/b/new", RENAME_NOREPLACE), 0);
		cr_assert_eq(w_rename(w, "/b/new", "/a", 0), -EISDIR);
		cr_assert_eq(w_rename(w, "/a", "/b/new", 0), -ENOTDIR);
		cr_assert_eq(w_rename(w, "/b/new", "/a/x", RENAME_EXCHANGE), -ENOENT);
		cr_assert_eq(
			w_rename(w, "/b/new", "/a/x", RENAME_EXCHANGE | RENAME_NOREPLACE),
			-EINVAL);
		/* Two names of one inode: nothing happens. */
		cr_assert_eq(w_link(w, "/b/new", "/a/twin"), 0);
		cr_assert_eq(w_rename(w, "/b/new", "/a/twin", 0), 0);
		cr_assert_eq(nlink_of("/b/new"), 2);
		cr_assert_eq(ino_of("/a/twin"), f);
		/* A moved inode is unlinked. */
		cr_assert_eq(w_unlink(w, "/b/new"), 0);
		cr_assert_eq(w_rename(w, "/a/twin", "/b/t", 0), 0);
		cr_assert_eq(w_unlink(w, "/b/t"), 0);
		end();
	}
}

Test(shard, rename_directories)
{
	struct attr a;
	ino_id d, e;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/a", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/b", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/a/d", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/a/d/deep", 0755), 0);
		d = ino_of("/a/d");
		cr_assert_eq(w_rename(w, "/a/d", "/a/e", 0), 0);
		cr_assert_eq(w_rename(w, "/a/e", "/b/d", 0), 0);
		cr_assert_eq(ino_of("/b/d"), d);
		cr_assert_eq(nlink_of("/a"), 2);
		cr_assert_eq(nlink_of("/b"), 3);
		cr_assert_eq(w_stat(w, "/b/d/..", &a), 0);
		cr_assert_eq(a.ino, ino_of("/b"));
		/* Into its own subtree. */
		cr_assert_eq(w_rename(w, "/b", "/b/x", 0), -EINVAL);
		cr_assert_eq(w_rename(w, "/b", "/b/d/x", 0), -EINVAL);
		cr_assert_eq(w_rename(w, "/b", "/b/d/deep/x", 0), -EINVAL);
		cr_assert_eq(w_rename(w, "/b/d/deep", "/b/d/deep/x", 0), -EINVAL);
		cr_assert_eq(w_rename(w, "/b/d/deep", "/b", 0), -ENOTEMPTY);
		/* Onto its parent, which holds nothing else. */
		cr_assert_eq(w_rename(w, "/b/d/deep", "/b/d", 0), -ENOTEMPTY);
		/* Onto an empty directory, and a full one. */
		cr_assert_eq(w_mkdir(w, "/empty", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/full", 0755), 0);
		cr_assert_eq(w_create(w, "/full/f", 0755, NULL), 0);
		cr_assert_eq(w_rename(w, "/b/d", "/full", 0), -ENOTEMPTY);
		cr_assert_eq(w_rename(w, "/b/d", "/empty", RENAME_NOREPLACE), -EEXIST);
		cr_assert_eq(w_rename(w, "/b/d", "/empty", 0), 0);
		cr_assert_eq(ino_of("/empty"), d);
		/* Exchange: directories over parents, a directory and a file. */
		cr_assert_eq(w_mkdir(w, "/a/e", 0755), 0);
		e = ino_of("/a/e");
		cr_assert_eq(w_rename(w, "/empty", "/a/e", RENAME_EXCHANGE), 0);
		cr_assert_eq(ino_of("/empty"), e);
		cr_assert_eq(ino_of("/a/e"), d);
		cr_assert_eq(w_stat(w, "/a/e/..", &a), 0);
		cr_assert_eq(a.ino, ino_of("/a"));
		cr_assert_eq(w_rename(w, "/a", "/a/e", RENAME_EXCHANGE), -EINVAL);
		cr_assert_eq(w_rename(w, "/a/e/deep", "/a", RENAME_EXCHANGE), -EINVAL);
		cr_assert_eq(w_rename(w, "/a/e", "/full/f", RENAME_EXCHANGE), 0);
		cr_assert_eq(ino_of("/full/f"), d);
		cr_assert_eq(nlink_of("/a"), 2);
		cr_assert_eq(nlink_of("/full"), 3);
		end();
	}
}

/* The climb to the root asks shard 0 about the root itself. */
Test(shard, rename_directory_far_from_the_root)
{
	char path[64], to[64];

	start(3);
	cr_assert_eq(w_mkdir(w, "/t", 0755), 0);
	for (int i = 0; i < 12; i++) {
		snprintf(path, sizeof(path), "/t/d%d", i);
		cr_assert_eq(w_mkdir(w, path, 0755), 0);
		snprintf(path, sizeof(path), "/t/d%d/s", i);
		cr_assert_eq(w_mkdir(w, path, 0755), 0);
	}
	for (int i = 0; i < 11; i++) {
		snprintf(path, sizeof(path), "/t/d%d/s", i);
		snprintf(to, sizeof(to), "/t/d%d/m", i + 1);
		cr_assert_eq(w_rename(w, path, to, 0), 0, "%s", path);
	}
	end();
}

/* access(2), and the open(2) of execve. */
static int may(uint16_t op, const char *path, int want)
{
	static struct wop o;
	struct wire_walk walk = {.path = {.want = (uint8_t)want}};
	struct wire_open open = {
		.path = {.want = (uint8_t)want}, .flags = le32_put(O_PATH)};

	wop_init(&o, w, op, path);
	if (op == OP_OPEN)
		wop_fixed(&o, &open, sizeof(open));
	else
		wop_fixed(&o, &walk, sizeof(walk));
	return wop_run(&o);
}

Test(shard, wanted_permissions)
{
	struct attr a;

	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_create(w, "/d/x", 0711, NULL), 0);
		cr_assert_eq(w_create(w, "/d/r", 0604, NULL), 0);
		cr_assert_eq(may(OP_WALK, "/d/x", R_OK | W_OK | X_OK), 0);
		cr_assert_eq(may(OP_WALK, "/d/r", X_OK), -EACCES);
		be(1000);
		cr_assert_eq(may(OP_WALK, "/d", R_OK | X_OK), 0);
		cr_assert_eq(may(OP_WALK, "/d", W_OK), -EACCES);
		cr_assert_eq(may(OP_WALK, "/d/r", R_OK), 0);
		cr_assert_eq(may(OP_WALK, "/d/r", R_OK | W_OK), -EACCES);
		cr_assert_eq(may(OP_WALK, "/d/r", 0), 0);
		cr_assert_eq(may(OP_WALK, "/d/none", 0), -ENOENT);
		cr_assert_eq(w_open(w, "/d/x", O_RDONLY, 0, &a), -EACCES);
		cr_assert_eq(may(OP_OPEN, "/d/x", X_OK), 0);
		cr_assert_eq(may(OP_OPEN, "/d/r", X_OK), -EACCES);
		be(0);
		/* The one that was opened counts as open. */
		cr_assert_eq(w_stat(w, "/d/x", &a), 0);
		cr_assert_eq(w_unlink(w, "/d/x"), 0);
		cr_assert_eq(w_fstat(w, a.ino, &a), 0);
		cr_assert_eq(a.nlink, 0);
		cr_assert_eq(w_close(w, a.ino), 0);
		end();
	}
}

Test(shard, permissions)
{
	OVER(n)
	{
		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		cr_assert_eq(w_mkdir(w, "/tmp", 0777), 0);
		cr_assert_eq(w_chmod(w, "/tmp", 01777), 0);
		cr_assert_eq(w_create(w, "/d/f", 0600, NULL), 0);
		be(1000);
		cr_assert_eq(w_create(w, "/d/g", 0644, NULL), -EACCES);
		cr_assert_eq(w_mkdir(w, "/d/g", 0755), -EACCES);
		cr_assert_eq(w_unlink(w, "/d/f"), -EACCES);
		cr_assert_eq(w_open(w, "/d/f", O_RDONLY, 0, NULL), -EACCES);
		cr_assert_eq(w_chmod(w, "/d/f", 0777), -EPERM);
		cr_assert_eq(w_chown(w, "/d/f", 1000, 1000), -EPERM);
		cr_assert_eq(w_truncate(w, "/d/f", 0), -EACCES);
		cr_assert_eq(w_create(w, "/tmp/mine", 0600, NULL), 0);
		cr_assert_eq(w_mkdir(w, "/tmp/dir", 0700), 0);
		cr_assert_eq(w_link(w, "/tmp/mine", "/d/x"), -EACCES);
		be(1001);
		cr_assert_eq(w_unlink(w, "/tmp/mine"), -EPERM);
		cr_assert_eq(w_rmdir(w, "/tmp/dir"), -EPERM);
		cr_assert_eq(w_create(w, "/tmp/dir/x", 0600, NULL), -EACCES);
		cr_assert_eq(w_rename(w, "/tmp/mine", "/tmp/yours", 0), -EPERM);
		cr_assert_eq(w_create(w, "/tmp/b", 0600, NULL), 0);
		cr_assert_eq(w_rename(w, "/tmp/b", "/tmp/mine", 0), -EPERM);
		cr_assert_eq(w_rename(w, "/tmp/b", "/tmp/mine", RENAME_EXCHANGE), -EPERM);
		cr_assert_eq(w_rename(w, "/tmp/b", "/d/b", 0), -EACCES);
		be(1000);
		cr_assert_eq(w_rename(w, "/tmp/mine", "/tmp/yours", 0), 0);
		cr_assert_eq(w_unlink(w, "/tmp/yours"), 0);
		cr_assert_eq(w_rmdir(w, "/tmp/dir"), 0);
		be(0);
		end();
	}
}

/* --- listings --- */

struct listing {
	unsigned found[300];
	unsigned dots;
};

static void listed(void *ctx, const struct wire_dirent *d, const char *name)
{
	struct listing *l = ctx;
	int number = -1;

	cr_assert(le64_get(d->ino) != 0);
	if (sscanf(name, "name%d", &number) == 1)
		l->found[number]++;
	else
		l->dots++;
}

Test(shard, readdir)
{
	char path[64];

	OVER(n)
	{
		struct listing l = {0};

		start(n);
		cr_assert_eq(w_mkdir(w, "/d", 0755), 0);
		for (int i = 0; i < 300; i++) {
			snprintf(path, sizeof(path), "/d/name%d", i);
			cr_assert_eq(i % 10 ? w_create(w, path, 0644, NULL)
					    : w_mkdir(w, path, 0755),
				0);
		}
		cr_assert_eq(w_readdir(w, ino_of("/d"), listed, &l), 302);
		for (int i = 0; i < 300; i++)
			cr_assert_eq(l.found[i], 1);
		cr_assert_eq(l.dots, 2);
		end();
	}
}

/* --- who may ask what --- */

struct answer {
	struct rpc_call call;
	int status;
	bool finished;
};

static void answered(struct rpc_call *call, int status, const void *reply, uint32_t size,
	uint32_t data_size)
{
	struct answer *a = container_of(call, struct answer, call);

	(void)reply;
	(void)size;
	(void)data_size;
	a->status = status;
	a->finished = true;
}

static int ask(struct answer *a)
{
	a->call.timeout_ms = 1000;
	a->call.cred = &w->cred;
	a->call.done = answered;
	world_call_send(w, WORLD_VIA_NONE, &a->call);
	while (!a->finished)
		world_turn(w);
	return a->status;
}

/* The number of a shard is no way to reach a bucket that is not its own. */
Test(shard, refuses_buckets_by_shard_number)
{
	struct {
		struct wire_mknod fixed;
		char name;
	} __attribute__((packed))
	body = {.fixed = {.path = {.start = le64_put(WFS_ROOT_INO),
				  .path_size = le16_put(1)},
			.mode = le32_put(0644)},
		.name = 'x'};
	struct wire_io io = {.ino = le64_put(ino_make(1, 99)), .offset = le64_put(10)};
	struct answer a = {.call = {.op = OP_MKNOD,
				   .flags = HEAD_TO_SHARD,
				   .bucket = 1,
				   .body = &body,
				   .body_size = sizeof(body)}};
	struct answer b = {.call = {.op = OP_EXTEND,
				   .bucket = 0,
				   .body = &io,
				   .body_size = sizeof(io)}};

	start(2);
	cr_assert_eq(ask(&a), -EINVAL);
	cr_assert_eq(ask(&b), -EINVAL);
	end();
}

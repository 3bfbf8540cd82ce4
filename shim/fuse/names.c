/*
 * Requests on names and attributes. Each is one call of the client library, on a name in
 * a directory or on an inode alone, done for whoever asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "shim/fuse/mount.h"

#define STAT_BLKSIZE 65536 /* as under the shim */

static struct where name_in(fuse_ino_t parent, const char *name)
{
	return (struct where){.start = mount_ino(parent), .path = name};
}

static struct where inode_at(fuse_ino_t node)
{
	return (struct where){.start = mount_ino(node), .path = ""};
}

static struct timespec time_of(int64_t ns)
{
	struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	if (t.tv_nsec < 0) {
		t.tv_sec--;
		t.tv_nsec += 1000000000;
	}
	return t;
}

static int64_t ns_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

void stat_of(const struct client_attr *attr, struct stat *out)
{
	*out = (struct stat){
		.st_ino = attr->ino,
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev,
		.st_size = (off_t)attr->size_bytes,
		.st_blksize = STAT_BLKSIZE,
		.st_blocks = (blkcnt_t)attr->blocks_512,
		.st_atim = time_of(attr->atime_ns),
		.st_mtim = time_of(attr->mtime_ns),
		.st_ctim = time_of(attr->ctime_ns),
	};
}

struct fuse_entry_param entry_of(const struct client_attr *attr)
{
	struct fuse_entry_param e = {.ino = mount_node(attr->ino)};

	stat_of(attr, &e.attr);
	return e;
}

/* A reply that nobody took (the caller was killed) has not been a lookup. */
static void reply_entry(fuse_req_t req, const struct client_attr *attr)
{
	struct fuse_entry_param e = entry_of(attr);

	node_looked_up(attr);
	if (fuse_reply_entry(req, &e))
		node_forget(attr->ino, 1);
}

static void reply_made(fuse_req_t req, int rc, const struct client_attr *attr)
{
	if (rc)
		mount_reply(req, rc);
	else
		reply_entry(req, attr);
}

static void reply_attr(fuse_req_t req, const struct client_attr *attr)
{
	struct stat st;

	node_seen(attr);
	stat_of(attr, &st);
	fuse_reply_attr(req, &st, 0);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct where w = name_in(parent, name);
	struct client_attr attr;

	mount_act(req, WITH_GROUPS);
	reply_made(req, client_stat(mount_this.client, &w, false, &attr), &attr);
}

static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t count)
{
	node_forget(mount_ino(node), count);
	fuse_reply_none(req);
}

static void op_forget_multi(
	fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(mount_ino(forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct client_attr attr;
	int rc;

	(void)fi;
	mount_act(req, WITHOUT_GROUPS);
	rc = client_getattr(mount_this.client, mount_ino(node), &attr);
	if (rc == -ESTALE && node_last(mount_ino(node), &attr))
		rc = 0;
	if (rc)
		mount_reply(req, rc);
	else
		reply_attr(req, &attr);
}

static void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int to_set,
	struct fuse_file_info *fi)
{
	struct where w = inode_at(node);
	struct client_set set = {
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size_bytes = (uint64_t)st->st_size,
		.atime_ns = ns_of(&st->st_atim),
		.mtime_ns = ns_of(&st->st_mtim),
		.by_fd = fi != NULL, /* which is told with a size only */
	};
	struct client_attr attr;
	int rc;

	set.mask |= to_set & FUSE_SET_ATTR_MODE ? CLIENT_SET_MODE : 0;
	set.mask |= to_set & FUSE_SET_ATTR_UID ? CLIENT_SET_UID : 0;
	set.mask |= to_set & FUSE_SET_ATTR_GID ? CLIENT_SET_GID : 0;
	set.mask |= to_set & FUSE_SET_ATTR_SIZE ? CLIENT_SET_SIZE : 0;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		set.mask |= CLIENT_SET_ATIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		set.mask |= CLIENT_SET_ATIME;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		set.mask |= CLIENT_SET_MTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		set.mask |= CLIENT_SET_MTIME;
	mount_act(req, WITH_GROUPS);
	rc = client_setattr(mount_this.client, &w, false, &set, &attr);
	if (rc)
		mount_reply(req, rc);
	else
		reply_attr(req, &attr);
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct where w = inode_at(node);
	char target[WFS_SYMLINK_MAX + 1];
	ssize_t n;

	mount_act(req, WITHOUT_GROUPS);
	n = client_readlink(mount_this.client, &w, target, WFS_SYMLINK_MAX);
	if (n < 0) {
		mount_reply(req, (int)n);
		return;
	}
	target[n] = 0;
	fuse_reply_readlink(req, target);
}

static void op_mknod(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct where w = name_in(parent, name);
	struct client_attr attr;

	mount_act(req, WITH_GROUPS);
	reply_made(req, client_mknod(mount_this.client, &w, mode, rdev, &attr), &attr);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct where w = name_in(parent, name);
	struct client_attr attr;

	mount_act(req, WITH_GROUPS);
	reply_made(req, client_mkdir(mount_this.client, &w, mode, &attr), &attr);
}

static void op_symlink(
	fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct where w = name_in(parent, name);
	struct client_attr attr;

	mount_act(req, WITH_GROUPS);
	reply_made(req, client_symlink(mount_this.client, target, &w, &attr), &attr);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct where w = name_in(parent, name);

	mount_act(req, WITH_GROUPS);
	mount_reply(req, client_unlink(mount_this.client, &w));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct where w = name_in(parent, name);

	mount_act(req, WITH_GROUPS);
	mount_reply(req, client_rmdir(mount_this.client, &w));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	fuse_ino_t new_parent, const char *new_name, unsigned int flags)
{
	struct where from = name_in(parent, name), to = name_in(new_parent, new_name);

	mount_act(req, WITH_GROUPS);
	mount_reply(req, client_rename(mount_this.client, &from, &to, flags));
}

static void op_link(
	fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name)
{
	struct where from = inode_at(node), to = name_in(new_parent, new_name);
	struct client_attr attr;
	int rc;

	mount_act(req, WITH_GROUPS);
	rc = client_link(mount_this.client, &from, false, &to);
	/* Should it be gone again by now, the name was there all the same. */
	if (!rc && client_getattr(mount_this.client, from.start, &attr) &&
		!node_last(from.start, &attr))
		rc = -ENOENT;
	reply_made(req, rc, &attr);
}

static void op_access(fuse_req_t req, fuse_ino_t node, int mask)
{
	struct where w = inode_at(node);

	mount_act(req, WITH_GROUPS);
	mount_reply(req,
		client_access(mount_this.client, &w, false, mask & (R_OK | W_OK | X_OK)));
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct client_statfs st;
	struct statvfs out = {0};
	int rc;

	(void)node;
	mount_act_self();
	rc = client_statfs(mount_this.client, &st);
	if (rc) {
		mount_reply(req, rc);
		return;
	}
	out.f_bsize = WFS_BLOCK_SIZE;
	out.f_frsize = WFS_BLOCK_SIZE;
	out.f_blocks = st.size_bytes / WFS_BLOCK_SIZE;
	out.f_bfree = st.free_bytes / WFS_BLOCK_SIZE;
	out.f_bavail = out.f_bfree;
	out.f_files = st.inodes + out.f_bfree;
	out.f_ffree = out.f_bfree;
	out.f_favail = out.f_bfree;
	out.f_namemax = WFS_NAME_MAX;
	fuse_reply_statfs(req, &out);
}

/* --- extended attributes ------------------------------------------------------------ */

static void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name,
	const char *value, size_t size, int flags)
{
	struct where w = inode_at(node);

	mount_act(req, WITH_GROUPS);
	mount_reply(req,
		client_setxattr(mount_this.client, &w, false, name, value, size, flags));
}

/* size 0 asks for the length. */
static void reply_xattr(fuse_req_t req, ssize_t n, const void *value, size_t size)
{
	if (n < 0)
		mount_reply(req, (int)n);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, value, (size_t)n);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	struct where w = inode_at(node);
	void *value = mount_room(size);
	ssize_t n = -ENOMEM;

	mount_act(req, WITH_GROUPS);
	if (value)
		n = client_getxattr(mount_this.client, &w, false, name, value, size);
	reply_xattr(req, n, value, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	struct where w = inode_at(node);
	void *names = mount_room(size);
	ssize_t n = -ENOMEM;

	mount_act(req, WITH_GROUPS);
	if (names)
		n = client_listxattr(mount_this.client, &w, false, names, size);
	reply_xattr(req, n, names, size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	struct where w = inode_at(node);

	mount_act(req, WITH_GROUPS);
	mount_reply(req, client_removexattr(mount_this.client, &w, false, name));
}

void names_ops(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->link = op_link;
	ops->access = op_access;
	ops->statfs = op_statfs;
	ops->setxattr = op_setxattr;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->removexattr = op_removexattr;
}

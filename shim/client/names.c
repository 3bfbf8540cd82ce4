/*
 * Operations on names: each fills in the fixed part of its message and runs the walk.
 *
 * link and rename have two paths and one operation: the other path is resolved first, to
 * an inode (link) or to a directory and a name (rename, both). Errors that Linux gives for
 * "." and ".." and the root as a last name are decided here, the rest by the owner.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "shim/client/internal.h"

#define RENAME_RETRIES 8

void client_attr_get(const struct wire_attr *w, struct client_attr *out)
{
	*out = (struct client_attr){
		.ino = le64_get(w->ino),
		.mode = le32_get(w->mode),
		.nlink = le32_get(w->nlink),
		.uid = le32_get(w->uid),
		.gid = le32_get(w->gid),
		.rdev = le64_get(w->rdev),
		.size_bytes = le64_get(w->size),
		.blocks_512 = le64_get(w->blocks_512),
		.atime_ns = (int64_t)le64_get(w->atime_ns),
		.mtime_ns = (int64_t)le64_get(w->mtime_ns),
		.ctime_ns = (int64_t)le64_get(w->ctime_ns),
		.btime_ns = (int64_t)le64_get(w->btime_ns),
		.generation = le32_get(w->generation),
		.fsid = le32_get(w->fsid),
		.parent = le64_get(w->parent),
		.entries = le64_get(w->entries),
	};
}

static int attr_of(const struct path_call *pc, struct client_attr *out)
{
	if (!(pc->reply.flags & WIRE_WALK_HAS_ATTR))
		return -EPROTO;
	if (out)
		client_attr_get(&pc->reply.attr, out);
	return 0;
}

int client_cut_wait(struct client *c, const struct path_call *pc, struct client_attr *attr)
{
	int rc;

	if (!(pc->reply.flags & WIRE_WALK_PURGING))
		return 0;
	rc = client_getattr(c, attr->ino, attr);
	/* Removed meanwhile: nobody reads it any more. */
	return rc == -ESTALE ? 0 : rc;
}

/* What stands where a name is to be: the root itself, ".", "..", or a proper name. */
enum last_kind { LAST_NAME, LAST_ROOT, LAST_DOT, LAST_DOTDOT };

static enum last_kind last_of(const struct where *w)
{
	const char *name;
	size_t size;

	path_last(w->path, &name, &size);
	if (size == 0)
		return LAST_ROOT;
	if (name_is_dot(name, size))
		return LAST_DOT;
	return name_is_dotdot(name, size) ? LAST_DOTDOT : LAST_NAME;
}

int client_stat(struct client *c, struct where *w, bool follow, struct client_attr *out)
{
	struct wire_walk body = {0};
	struct path_call pc = {
		.op = OP_WALK,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};
	int rc = path_run(c, w, &pc);

	return rc ? rc : attr_of(&pc, out);
}

int client_getattr(struct client *c, ino_id ino, struct client_attr *out)
{
	struct where w = {.start = ino, .path = ""};

	return client_stat(c, &w, false, out);
}

int client_access(struct client *c, struct where *w, bool follow, int want)
{
	struct wire_walk body = {0};
	struct path_call pc = {
		.op = OP_WALK,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.want = (uint8_t)(want & (int)WIRE_WANT_MAX),
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};

	return path_run(c, w, &pc);
}

int client_setattr(struct client *c, struct where *w, bool follow,
	const struct client_set *set, struct client_attr *out)
{
	struct wire_setattr body = {
		.mask = le32_put(set->mask),
		.mode = le32_put(set->mode),
		.uid = le32_put(set->uid),
		.gid = le32_put(set->gid),
		.size = le64_put(set->size_bytes),
		.atime_ns = le64_put((uint64_t)set->atime_ns),
		.mtime_ns = le64_put((uint64_t)set->mtime_ns),
		.by_fd = le32_put(set->by_fd),
	};
	struct path_call pc = {
		.op = OP_SETATTR,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};
	struct client_attr attr;
	int rc;

	if ((set->mask & CLIENT_SET_SIZE) && set->size_bytes > WFS_FILE_SIZE_MAX)
		return -EFBIG;
	rc = path_run(c, w, &pc);
	if (!rc)
		rc = attr_of(&pc, &attr);
	if (!rc)
		rc = client_cut_wait(c, &pc, &attr);
	if (!rc && out)
		*out = attr;
	return rc;
}

static int make_node(struct client *c, struct where *w, uint16_t op, uint32_t mode,
	uint64_t rdev, struct client_attr *attr_out)
{
	struct wire_mknod body = {
		.mode = le32_put(mode & 0177777u),
		.rdev = le64_put(rdev),
	};
	struct path_call pc = {
		.op = op,
		.mode = WIRE_PARENT,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};

	int rc;

	if (last_of(w) == LAST_ROOT)
		return -EEXIST;
	rc = path_run(c, w, &pc);
	return rc ? rc : attr_of(&pc, attr_out);
}

int client_mknod(struct client *c, struct where *w, uint32_t mode, uint64_t rdev,
	struct client_attr *attr_out)
{
	return make_node(c, w, OP_MKNOD, mode, rdev, attr_out);
}

int client_mkdir(struct client *c, struct where *w, uint32_t mode,
	struct client_attr *attr_out)
{
	return make_node(c, w, OP_MKDIR, (mode & 07777u) | S_IFDIR, 0, attr_out);
}

int client_symlink(struct client *c, const char *target, struct where *w,
	struct client_attr *attr_out)
{
	struct wire_symlink body = {0};
	struct path_call pc = {
		.op = OP_SYMLINK,
		.mode = WIRE_PARENT,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
		.extra = target,
	};
	size_t size = strnlen(target, WFS_SYMLINK_MAX + 1);
	int rc;

	if (size == 0)
		return -ENOENT;
	if (size > WFS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	if (last_of(w) == LAST_ROOT)
		return -EEXIST;
	pc.extra_size = (uint32_t)size;
	rc = path_run(c, w, &pc);
	return rc ? rc : attr_of(&pc, attr_out);
}

ssize_t client_readlink(struct client *c, struct where *w, char *buffer, size_t size)
{
	char target[WFS_SYMLINK_MAX];
	struct wire_path body = {0};
	struct path_call pc = {
		.op = OP_READLINK,
		.mode = WIRE_NOFOLLOW,
		.fixed = &body,
		.fixed_size = sizeof(body),
		.target = target,
	};
	int rc = path_run(c, w, &pc);
	size_t target_size = le16_get(pc.reply.target_size);

	if (rc)
		return rc;
	if (size > target_size)
		size = target_size;
	memcpy(buffer, target, size);
	return (ssize_t)size;
}

static int remove_name(struct client *c, struct where *w, uint16_t op)
{
	struct wire_path body = {0};
	struct path_call pc = {
		.op = op,
		.mode = WIRE_PARENT,
		.fixed = &body,
		.fixed_size = sizeof(body),
	};

	return path_run(c, w, &pc);
}

int client_unlink(struct client *c, struct where *w)
{
	enum last_kind last = last_of(w);
	int rc;

	if (last == LAST_ROOT)
		return -EISDIR;
	rc = remove_name(c, w, OP_UNLINK);
	if (last != LAST_NAME && (rc == -EINVAL || rc == -ENOTEMPTY))
		rc = -EISDIR;
	return rc;
}

int client_rmdir(struct client *c, struct where *w)
{
	return last_of(w) == LAST_ROOT ? -EBUSY : remove_name(c, w, OP_RMDIR);
}

int client_link(struct client *c, struct where *from, bool follow, struct where *to)
{
	struct client_attr attr;
	struct wire_link body = {0};
	struct path_call pc = {
		.op = OP_LINK,
		.mode = WIRE_PARENT,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};
	int rc = client_stat(c, from, follow, &attr);

	if (rc)
		return rc;
	if (last_of(to) == LAST_ROOT)
		return -EEXIST;
	body.ino = le64_put(attr.ino);
	rc = path_run(c, to, &pc);
	/* Making a name that is there already comes first, on Linux. */
	if (rc == 0 || !S_ISDIR(attr.mode) || rc == -EEXIST)
		return rc;
	return rc == -ENOENT || rc == -EACCES || rc == -ENOTDIR || rc == -EXDEV ? rc : -EPERM;
}

/* --- rename ------------------------------------------------------------------------- */

struct place {
	ino_id dir;
	char name[WFS_NAME_MAX + 1];
	uint32_t name_size;
	bool must_be_dir;
};

static int place_find(struct client *c, struct where *w, struct place *out)
{
	struct wire_walk body = {0};
	struct path_call pc = {
		.op = OP_WALK,
		.mode = WIRE_PARENT,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};
	enum last_kind last = last_of(w);
	int rc;

	if (last == LAST_ROOT)
		return -EBUSY;
	rc = path_run(c, w, &pc);
	if (last != LAST_NAME && (rc == -EINVAL || rc == -ENOTEMPTY))
		return -EBUSY;
	if (rc)
		return rc;
	out->dir = le64_get(pc.reply.ino);
	out->name_size = pc.name_size;
	out->must_be_dir = pc.must_be_dir;
	memcpy(out->name, pc.name, pc.name_size + 1u);
	return 0;
}

/* A slash behind either name says that a directory is meant. */
static int place_check(struct client *c, const struct place *from, const struct place *to,
	bool exchange)
{
	const struct place *places[2] = {from, to};
	struct client_attr attr;

	if (!from->must_be_dir && !to->must_be_dir)
		return 0;
	for (int i = 0; i < (exchange ? 2 : 1); i++) {
		struct where w = {.start = places[i]->dir, .path = places[i]->name};
		int rc = client_stat(c, &w, false, &attr);

		if (rc)
			return rc;
		if (S_ISDIR(attr.mode))
			continue;
		if (!exchange || places[i]->must_be_dir)
			return -ENOTDIR;
	}
	return 0;
}

static int rename_send(struct client *c, const struct place *from, const struct place *to,
	unsigned flags)
{
	struct {
		struct wire_rename fixed;
		char names[2 * WFS_NAME_MAX];
	} body = {
		.fixed = {
			.from_dir = le64_put(from->dir),
			.to_dir = le64_put(to->dir),
			.from_size = le16_put((uint16_t)from->name_size),
			.to_size = le16_put((uint16_t)to->name_size),
			.flags = le32_put(flags),
		},
	};

	memcpy(body.names, from->name, from->name_size);
	memcpy(body.names + from->name_size, to->name, to->name_size);
	return client_ask(c, OP_RENAME, ino_bucket(from->dir), &body,
		(uint32_t)sizeof(body.fixed) + from->name_size + to->name_size, NULL, 0);
}

int client_rename(struct client *c, struct where *from, struct where *to, unsigned flags)
{
	struct place source, target;
	int rc = -ESTALE;

	if ((flags & ~3u) || flags == 3u)
		return -EINVAL;
	if (to->outside)
		to->outside[0] = 0;
	for (int i = 0; i < RENAME_RETRIES && rc == -ESTALE; i++) {
		rc = place_find(c, from, &source);
		if (!rc)
			rc = place_find(c, to, &target);
		if (!rc)
			rc = place_check(c, &source, &target, flags & 2u);
		if (!rc)
			rc = rename_send(c, &source, &target, flags);
	}
	return rc == -ESTALE ? -ENOENT : rc;
}

/* --- extended attributes ------------------------------------------------------------ */

static int xattr_name_check(const char *name, uint32_t *size_out)
{
	size_t size = strnlen(name, WFS_XATTR_NAME_MAX + 1);

	if (size == 0 || size > WFS_XATTR_NAME_MAX)
		return -ERANGE;
	*size_out = (uint32_t)size;
	return 0;
}

/* Values come whole, whatever the caller's room; -ERANGE is decided here. */
static ssize_t xattr_fetch(struct client *c, struct where *w, struct path_call *pc,
	void *out, size_t size)
{
	int rc;

	pc->reply_data = out;
	pc->reply_data_max = size < WIRE_DATA_MAX ? (uint32_t)size : WIRE_DATA_MAX;
	if (size == 0)
		pc->reply_data_max = 1;
	rc = path_run(c, w, pc);
	if (rc)
		return rc;
	if (size && pc->reply_data_size > size)
		return -ERANGE;
	return pc->reply_data_size;
}

ssize_t client_getxattr(struct client *c, struct where *w, bool follow, const char *name,
	void *value, size_t size)
{
	struct wire_xattr body = {0};
	char nothing;
	struct path_call pc = {
		.op = OP_GETXATTR,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
		.extra = name,
	};
	int rc = xattr_name_check(name, &pc.extra_size);

	return rc ? rc : xattr_fetch(c, w, &pc, size ? value : &nothing, size);
}

ssize_t client_listxattr(struct client *c, struct where *w, bool follow, char *names,
	size_t size)
{
	struct wire_xattr body = {0};
	char nothing;
	struct path_call pc = {
		.op = OP_LISTXATTR,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};

	return xattr_fetch(c, w, &pc, size ? names : &nothing, size);
}

int client_setxattr(struct client *c, struct where *w, bool follow, const char *name,
	const void *value, size_t size, int flags)
{
	struct wire_xattr body = {.flags = le32_put((uint32_t)flags)};
	struct path_call pc = {
		.op = OP_SETXATTR,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
		.extra = name,
		.data = value,
		.data_size = (uint32_t)size,
	};
	int rc = xattr_name_check(name, &pc.extra_size);

	if (rc)
		return rc;
	if (size > WFS_XATTR_SIZE_MAX)
		return -E2BIG;
	if (flags & ~3)
		return -EINVAL;
	return path_run(c, w, &pc);
}

int client_removexattr(struct client *c, struct where *w, bool follow, const char *name)
{
	struct wire_xattr body = {0};
	struct path_call pc = {
		.op = OP_REMOVEXATTR,
		.mode = follow ? WIRE_FOLLOW : WIRE_NOFOLLOW,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
		.extra = name,
	};
	int rc = xattr_name_check(name, &pc.extra_size);

	return rc ? rc : path_run(c, w, &pc);
}

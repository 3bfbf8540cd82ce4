/*
 * Extended attributes: one 'X' key each.
 *
 * Who may: user.* follows the permissions of the file, and exists on files and
 * directories only; trusted.* is root's; security.* is read by all and set by root;
 * system.* has nothing in it, because access lists are not enforced and a list that is
 * kept but not obeyed would be a lie.
 */
#include <errno.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "meta/meta_impl.h"

/* Of all names of an inode with their NULs, as listxattr(2) can return. */
#define XATTR_NAMES_MAX 65536u

static bool xattr_in(const char *name, size_t name_size, const char *space)
{
	size_t size = strlen(space);

	return name_size >= size && memcmp(name, space, size) == 0;
}

static int xattr_name_check(const char *name, size_t name_size)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};

	if (name_size == 0 || name_size > WFS_XATTR_NAME_MAX)
		return -ERANGE;
	if (memchr(name, 0, name_size))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++)
		if (xattr_in(name, name_size, spaces[i]))
			return name_size > strlen(spaces[i]) ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

static int xattr_permitted(const struct attr *a, const struct cred *cred,
	const char *name, size_t name_size, bool write)
{
	if (xattr_in(name, name_size, "trusted.")) {
		if (cred->uid == 0)
			return 0;
		return write ? -EPERM : -ENODATA;
	}
	if (xattr_in(name, name_size, "security."))
		return !write || cred->uid == 0 ? 0 : -EPERM;
	if (!S_ISREG(a->mode) && !S_ISDIR(a->mode))
		return write ? -EPERM : -ENODATA;
	if (write && S_ISDIR(a->mode) && a->mode & S_ISVTX && cred->uid != 0 &&
		cred->uid != a->uid)
		return -EPERM;
	return perm_check(a, cred, write ? W_OK : R_OK);
}

/* Whether it is there; its value is in m->scratch then. */
static int xattr_read(struct meta *m, const struct meta_key *key)
{
	int rc;

	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key->bytes, key->size, &m->scratch);
	return rc == -ENOENT ? -ENODATA : rc;
}

int meta_getxattr(struct meta *m, const struct meta_call *c, ino_id ino, const char *name,
	size_t name_size, struct buf *value_out)
{
	struct meta_key key;
	struct inode in;
	int rc = xattr_name_check(name, name_size);

	if (rc)
		return rc;
	rc = inode_read(m, ino, &in);
	if (rc)
		return rc;
	rc = xattr_permitted(&in.attr, c->cred, name, name_size, false);
	if (rc)
		return rc;
	if (!(in.flags & INODE_HAS_XATTRS))
		return -ENODATA;
	meta_key_xattr(&key, ino, name, name_size);
	rc = xattr_read(m, &key);
	if (rc)
		return rc;
	if (m->scratch.size_bytes)
		buf_append(value_out, m->scratch.data, m->scratch.size_bytes);
	return buf_error(value_out);
}

/* Each name of an inode: fn, until it returns nonzero. */
static int xattr_each(struct meta *m, ino_id ino,
	int (*fn)(void *ctx, const char *name, size_t name_size), void *ctx)
{
	struct meta_key prefix;
	struct kv_iter *it;
	int rc = kv_iter_open(m->kv, &it);

	if (rc)
		return rc;
	meta_key_prefix(&prefix, ino_bucket(ino), 'X');
	meta_key_u64(&prefix, ino);
	it->ops->seek(it, prefix.bytes, prefix.size);
	for (; rc == 0 && it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, name_size;
		const void *key = it->ops->key(it, &key_size);
		const char *name;

		if (!key_has_prefix(key, key_size, &prefix))
			break;
		rc = meta_key_xattr_parse(key, key_size, &name, &name_size);
		if (rc)
			rc = meta_damaged("xattr", ino_bucket(ino), ino);
		else
			rc = fn(ctx, name, name_size);
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	return rc;
}

static int name_count(void *ctx, const char *name, size_t name_size)
{
	(void)name;
	*(size_t *)ctx += name_size + 1;
	return 0;
}

/* A new name must still fit into what listxattr can say. */
static int xattr_room(
	struct meta *m, const struct inode *in, ino_id ino, size_t name_size)
{
	size_t names_bytes = name_size + 1;
	int rc;

	if (!(in->flags & INODE_HAS_XATTRS))
		return 0;
	rc = xattr_each(m, ino, name_count, &names_bytes);
	if (rc)
		return rc;
	return names_bytes > XATTR_NAMES_MAX ? -ENOSPC : 0;
}

static int xattr_set_look(struct work *w, const struct meta_key *key,
	const struct work_inode *wi, size_t name_size, int flags)
{
	int rc = xattr_read(w->m, key);

	if (rc == 0)
		return flags & XATTR_CREATE ? -EEXIST : 0;
	if (rc != -ENODATA || flags & XATTR_REPLACE)
		return rc;
	return xattr_room(w->m, &wi->in, wi->ino, name_size);
}

static int xattr_change_begin(struct work *w, const struct meta_call *c, ino_id ino,
	const char *name, size_t name_size)
{
	int rc = xattr_name_check(name, name_size);
	struct work_inode *wi;

	if (rc == 0)
		rc = work_inode(w, ino, &wi);
	if (rc == 0)
		rc = xattr_permitted(&wi->in.attr, c->cred, name, name_size, true);
	return rc;
}

int meta_setxattr(struct meta *m, const struct meta_call *c, ino_id ino, const char *name,
	size_t name_size, const void *value, size_t value_size, int flags)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(ino));
	struct work_inode *wi = &w->inodes[0];
	struct meta_key key;
	int rc = 0;

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		rc = -EINVAL;
	else if (value_size > WFS_XATTR_SIZE_MAX)
		rc = -E2BIG;
	if (rc == 0)
		rc = xattr_change_begin(w, c, ino, name, name_size);
	if (rc)
		return work_end(w, rc);
	meta_key_xattr(&key, ino, name, name_size);
	rc = xattr_set_look(w, &key, wi, name_size, flags);
	if (rc)
		return work_end(w, rc);
	batch_put(w->batch, key.bytes, key.size, value, value_size);
	wi->in.flags |= INODE_HAS_XATTRS;
	wi->in.attr.ctime_ns = c->now_ns;
	wi->dirty = true;
	return work_end(w, 0);
}

int meta_removexattr(struct meta *m, const struct meta_call *c, ino_id ino,
	const char *name, size_t name_size)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(ino));
	struct work_inode *wi = &w->inodes[0];
	struct meta_key key;
	int rc = xattr_change_begin(w, c, ino, name, name_size);

	if (rc)
		return work_end(w, rc);
	meta_key_xattr(&key, ino, name, name_size);
	rc = xattr_read(m, &key);
	if (rc)
		return work_end(w, rc);
	batch_del(w->batch, key.bytes, key.size);
	wi->in.attr.ctime_ns = c->now_ns;
	wi->dirty = true;
	return work_end(w, 0);
}

struct name_list {
	struct buf *out;
	bool is_root;
};

static int name_append(void *ctx, const char *name, size_t name_size)
{
	struct name_list *list = ctx;

	if (!list->is_root && xattr_in(name, name_size, "trusted."))
		return 0;
	buf_append(list->out, name, name_size);
	buf_append(list->out, "", 1);
	return buf_error(list->out);
}

int meta_listxattr(
	struct meta *m, const struct meta_call *c, ino_id ino, struct buf *names_out)
{
	struct name_list list = {.out = names_out, .is_root = c->cred->uid == 0};
	size_t start_bytes = names_out->size_bytes;
	struct inode in;
	int rc = inode_read(m, ino, &in);

	if (rc || !(in.flags & INODE_HAS_XATTRS))
		return rc;
	rc = xattr_each(m, ino, name_append, &list);
	if (rc && !buf_error(names_out))
		names_out->size_bytes = start_bytes;
	return rc;
}

struct deletion {
	struct batch *batch;
	ino_id ino;
};

static int name_delete(void *ctx, const char *name, size_t name_size)
{
	struct deletion *d = ctx;
	struct meta_key key;

	meta_key_xattr(&key, d->ino, name, name_size);
	batch_del(d->batch, key.bytes, key.size);
	return 0;
}

int xattr_delete_all(struct meta *m, struct batch *batch, ino_id ino)
{
	struct deletion d = {.batch = batch, .ino = ino};

	return xattr_each(m, ino, name_delete, &d);
}

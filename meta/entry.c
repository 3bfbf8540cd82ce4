/*
 * Names in one directory: creating files in it, and listing it.
 *
 * A listing is in the order of hash63, and the cookie behind an entry is its hash. Names
 * with equal hashes are never parted by the end of an answer, so "after the cookie" is
 * exact, whatever is created or removed between two calls.
 */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "meta/meta_impl.h"

void entry_put(struct work *w, ino_id dir, const char *name, size_t name_size,
	const struct name_target *target)
{
	struct dirent_value value;
	struct meta_key key;

	meta_key_dirent(&key, dir, name, name_size);
	name_target_encode(target, &value);
	batch_put(w->batch, key.bytes, key.size, &value, sizeof(value));
}

/* --- making files --- */

/* The directory, fit for search, and what the name leads to (ino 0: nothing). */
static int create_look(struct work *w, const struct meta_call *c, ino_id dir,
	const char *name, size_t name_size, struct name_target *found_out)
{
	struct work_inode *wi;
	int rc = work_inode(w, dir, &wi);

	if (rc)
		return rc;
	if (!S_ISDIR(wi->in.attr.mode))
		return -ENOTDIR;
	if (wi->in.attr.nlink == 0)
		return -ENOENT;
	rc = perm_check(&wi->in.attr, c->cred, X_OK);
	if (rc)
		return rc;
	rc = entry_read(w->m, dir, name, name_size, found_out);
	if (rc == -ENOENT) {
		found_out->ino = 0;
		rc = perm_check(&wi->in.attr, c->cred, W_OK);
	}
	return rc;
}

/* The new inode in its first work slot after the directory's, which is slot 0. */
static int create_add(struct work *w, const struct meta_call *c, const char *name,
	size_t name_size, const struct inode *in)
{
	struct work_inode *dir = &w->inodes[0], *wi;
	struct name_target target = {.dtype = mode_dtype(in->attr.mode)};
	int rc = ino_alloc(w, &target.ino);

	if (rc)
		return rc;
	rc = work_inode_new(w, target.ino, in, &wi);
	if (rc)
		return rc;
	entry_put(w, dir->ino, name, name_size, &target);
	dir->in.attr.entries++;
	dir->in.attr.mtime_ns = dir->in.attr.ctime_ns = c->now_ns;
	dir->dirty = true;
	if (S_ISREG(in->attr.mode))
		chunk_cache_fresh(w->m, target.ino);
	return 0;
}

static int create_existing(struct meta *m, ino_id dir, const struct name_target *found,
	struct attr *attr_out)
{
	struct attr attr = {.ino = found->ino};
	int rc = 0;

	if (ino_bucket(found->ino) == ino_bucket(dir))
		rc = meta_getattr(m, found->ino, &attr);
	if (rc == 0)
		*attr_out = attr;
	return rc;
}

static int create_mode_check(const struct meta_call *c, uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK: return 0;
	case S_IFCHR:
	case S_IFBLK: return c->cred->uid == 0 ? 0 : -EPERM;
	default: return -EINVAL;
	}
}

int meta_create(struct meta *m, const struct meta_call *c, ino_id dir, const char *name,
	size_t name_size, uint32_t mode, uint64_t rdev, bool exclusive,
	struct attr *attr_out, bool *created_out)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(dir));
	struct name_target found;
	struct inode in;
	int rc = name_check(name, name_size);

	if (rc == 0)
		rc = create_look(w, c, dir, name, name_size, &found);
	if (rc)
		return work_end(w, rc);
	if (found.ino) {
		rc = exclusive ? -EEXIST : create_existing(m, dir, &found, attr_out);
		if (rc == 0)
			*created_out = false;
		return work_end(w, rc);
	}
	mode &= S_IFMT | 07777;
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	rc = create_mode_check(c, mode);
	if (rc)
		return work_end(w, rc);
	inode_init(&in, c, &w->inodes[0].in, dir, mode);
	if (S_ISCHR(mode) || S_ISBLK(mode))
		in.attr.rdev = rdev;
	rc = work_end(w, create_add(w, c, name, name_size, &in));
	if (rc)
		return rc;
	inode_attr(&in, w->inodes[1].ino, attr_out);
	*created_out = true;
	return 0;
}

int meta_symlink(struct meta *m, const struct meta_call *c, ino_id dir, const char *name,
	size_t name_size, const char *target, size_t target_size, struct attr *attr_out)
{
	struct work *w = work_begin(m, c->batch, ino_bucket(dir));
	struct name_target found;
	struct inode in;
	int rc = name_check(name, name_size);

	if (rc == 0 && target_size > WFS_SYMLINK_MAX)
		rc = -ENAMETOOLONG;
	else if (rc == 0 && target_size == 0)
		rc = -ENOENT;
	else if (rc == 0 && memchr(target, 0, target_size))
		rc = -EINVAL;
	if (rc == 0)
		rc = create_look(w, c, dir, name, name_size, &found);
	if (rc == 0 && found.ino)
		rc = -EEXIST;
	if (rc)
		return work_end(w, rc);
	inode_init(&in, c, &w->inodes[0].in, dir, S_IFLNK | 0777);
	in.attr.size_bytes = target_size;
	in.target = target;
	in.target_size = (uint32_t)target_size;
	rc = work_end(w, create_add(w, c, name, name_size, &in));
	if (rc)
		return rc;
	inode_attr(&in, w->inodes[1].ino, attr_out);
	return 0;
}

int meta_readlink(struct meta *m, ino_id ino, struct buf *target_out)
{
	struct inode in;
	int rc = inode_read(m, ino, &in);

	if (rc)
		return rc;
	if (!S_ISLNK(in.attr.mode))
		return -EINVAL;
	buf_append(target_out, in.target, in.target_size);
	return buf_error(target_out);
}

/* --- listing --- */

struct lister {
	struct meta *m;
	struct buf *out;
	size_t start_bytes; /* of out, before us */
	size_t max_bytes;
	uint64_t cookie; /* of the last one added */
	bool with_attr;
	bool full;
};

/* Sets full instead when it does not fit. */
static int lister_add(struct lister *l, const char *name, size_t name_size, ino_id ino,
	uint8_t dtype, uint64_t cookie)
{
	struct dirent_record record = {
		.ino = le64_put(ino),
		.cookie = le64_put(cookie),
		.name_size = le16_put((uint16_t)name_size),
		.dtype = dtype,
	};
	size_t used_bytes = l->out->size_bytes - l->start_bytes;
	struct inode in;
	struct attr attr;
	int rc;

	if (used_bytes && used_bytes + sizeof(record) + name_size > l->max_bytes &&
		cookie != l->cookie) {
		l->full = true;
		return 0;
	}
	if (l->with_attr && meta_owns(l->m, ino)) {
		/* A locked or vanished inode is left for the client to ask about. */
		rc = inode_read(l->m, ino, &in);
		if (rc == 0 && !(in.flags & INODE_PURGING)) {
			inode_attr(&in, ino, &attr);
			attr_record_encode(&attr, &record.attr);
			record.flags = DIRENT_HAS_ATTR;
		} else if (rc && rc != -EINPROGRESS && rc != -ESTALE) {
			return rc;
		}
	}
	buf_append(l->out, &record, sizeof(record));
	buf_append(l->out, name, name_size);
	l->cookie = cookie;
	return buf_error(l->out);
}

static int list_names(struct lister *l, ino_id dir, uint64_t first_hash, bool *eof_out)
{
	struct meta_key prefix, from;
	struct kv_iter *it;
	int rc = kv_iter_open(l->m->kv, &it);

	if (rc)
		return rc;
	meta_key_prefix(&prefix, ino_bucket(dir), 'D');
	meta_key_u64(&prefix, dir);
	from = prefix;
	meta_key_u64(&from, first_hash);
	it->ops->seek(it, from.bytes, from.size);
	*eof_out = true;
	for (; rc == 0 && it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, value_size, name_size;
		const void *key = it->ops->key(it, &key_size);
		const void *value = it->ops->value(it, &value_size);
		struct name_target target;
		const char *name;
		uint64_t hash;

		if (!key_has_prefix(key, key_size, &prefix))
			break;
		if (meta_key_dirent_parse(key, key_size, &hash, &name, &name_size) ||
			name_target_decode(value, value_size, &target)) {
			rc = meta_damaged("name", ino_bucket(dir), dir);
			break;
		}
		rc = lister_add(l, name, name_size, target.ino, target.dtype, hash);
		if (l->full) {
			*eof_out = false;
			break;
		}
	}
	if (rc == 0)
		rc = it->ops->error(it);
	it->ops->close(it);
	return rc;
}

int meta_readdir(struct meta *m, const struct meta_call *c, ino_id dir, uint64_t cookie,
	size_t max_bytes, struct buf *out, uint64_t *cookie_out, bool *eof_out)
{
	struct lister l = {.m = m,
		.out = out,
		.start_bytes = out->size_bytes,
		.max_bytes = max_bytes,
		.cookie = cookie};
	uint64_t first_hash = cookie < COOKIE_NAME_FIRST ? COOKIE_NAME_FIRST : cookie + 1;
	struct inode in;
	ino_id parent;
	bool eof = false;
	int rc = inode_read(m, dir, &in);

	if (rc)
		return rc;
	if (!S_ISDIR(in.attr.mode))
		return -ENOTDIR;
	if (cookie > INT64_MAX)
		return -EINVAL;
	l.with_attr = perm_check(&in.attr, c->cred, X_OK) == 0;
	parent = in.attr.parent;
	if (cookie < COOKIE_DOT)
		rc = lister_add(&l, ".", 1, dir, DT_DIR, COOKIE_DOT);
	if (rc == 0 && !l.full && cookie < COOKIE_DOTDOT)
		rc = lister_add(&l, "..", 2, parent, DT_DIR, COOKIE_DOTDOT);
	if (rc == 0 && !l.full)
		rc = list_names(&l, dir, first_hash, &eof);
	if (rc) {
		if (!buf_error(out))
			out->size_bytes = l.start_bytes;
		return rc;
	}
	*cookie_out = l.cookie;
	*eof_out = eof;
	return 0;
}

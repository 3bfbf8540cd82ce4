/*
 * Walking a path through the directories of this shard, as far as they go.
 *
 * `consumed` never counts the slashes behind the last component used, so that path +
 * consumed still says "a/" was meant to be a directory. A walk may begin at an inode
 * that is no directory: that is how a walk goes on which left another shard at a symlink
 * (or at a last name). The directory against which such a symlink is read is the parent
 * in its inode, which creation and rename maintain; a hard link to a symlink from another
 * directory's bucket is read against the first one.
 */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "meta/meta_impl.h"

struct walker {
	struct meta *m;
	const struct meta_call *c;
	const char *path;
	uint32_t path_size;
	uint32_t at; /* bytes used, as `consumed` */
	enum walk_mode mode;
	ino_id ino; /* where we stand */
	struct walk *out;
};

/* The component that comes next. */
struct component {
	uint32_t start;
	uint32_t end;
	bool last;
	bool slash; /* one follows */
};

int name_check(const char *name, size_t name_size)
{
	if (name_size > WFS_NAME_MAX)
		return -ENAMETOOLONG;
	if (name_size == 0 || memchr(name, '/', name_size) || memchr(name, 0, name_size))
		return -EINVAL;
	if (name[0] == '.' && (name_size == 1 || (name_size == 2 && name[1] == '.')))
		return -EINVAL;
	return 0;
}

int entry_read(struct meta *m, ino_id dir, const char *name, size_t name_size,
	struct name_target *target_out)
{
	struct meta_key key;
	int rc;

	meta_key_dirent(&key, dir, name, name_size);
	buf_reset(&m->scratch);
	rc = kv_get(m->kv, key.bytes, key.size, &m->scratch);
	if (rc)
		return rc;
	if (name_target_decode(m->scratch.data, m->scratch.size_bytes, target_out))
		return meta_damaged("name", ino_bucket(dir), dir);
	return 0;
}

int meta_entry(struct meta *m, ino_id dir, const char *name, size_t name_size,
	ino_id *ino_out, uint8_t *type_out)
{
	struct name_target target;
	struct inode in;
	int rc = name_check(name, name_size);

	if (rc)
		return rc;
	rc = inode_read(m, dir, &in);
	if (rc)
		return rc;
	if (!S_ISDIR(in.attr.mode))
		return -ENOTDIR;
	rc = entry_read(m, dir, name, name_size, &target);
	if (rc)
		return rc;
	*ino_out = target.ino;
	*type_out = target.dtype;
	return 0;
}

/* False when only slashes are left. */
static bool component_next(const struct walker *w, struct component *comp)
{
	uint32_t at = w->at;

	while (at < w->path_size && w->path[at] == '/')
		at++;
	comp->start = at;
	while (at < w->path_size && w->path[at] != '/')
		at++;
	comp->end = at;
	comp->slash = at < w->path_size;
	while (at < w->path_size && w->path[at] == '/')
		at++;
	comp->last = at == w->path_size;
	return comp->end > comp->start;
}

static bool component_is(
	const struct walker *w, const struct component *comp, const char *name)
{
	size_t size = comp->end - comp->start;

	return size == strlen(name) && memcmp(w->path + comp->start, name, size) == 0;
}

static int walk_stop(struct walker *w, enum walk_end end)
{
	struct walk *out = w->out;

	out->end = end;
	out->ino = w->ino;
	out->consumed = w->at;
	out->name_at = out->name_size = 0;
	out->must_be_dir = false;
	out->target_size = 0;
	out->target[0] = 0;
	return 1;
}

static int walk_parent_stop(struct walker *w, const struct component *comp)
{
	if (component_is(w, comp, "."))
		return -EINVAL;
	if (component_is(w, comp, ".."))
		return -ENOTEMPTY;
	if (comp->end - comp->start > WFS_NAME_MAX)
		return -ENAMETOOLONG;
	w->at = comp->start;
	walk_stop(w, WALK_DONE);
	w->out->name_at = comp->start;
	w->out->name_size = comp->end - comp->start;
	w->out->must_be_dir = comp->slash;
	return 1;
}

/* Found a symlink's inode in directory dir, after `at` bytes. */
static int walk_symlink_stop(struct walker *w, ino_id dir, const struct inode *link)
{
	w->ino = dir;
	walk_stop(w, WALK_SYMLINK);
	memcpy(w->out->target, link->target, link->target_size);
	w->out->target[link->target_size] = 0;
	w->out->target_size = link->target_size;
	return 1;
}

static int walk_to_symlink(struct walker *w, const struct component *comp, ino_id ino)
{
	ino_id dir = w->ino;
	struct inode link;
	int rc;

	w->at = comp->end;
	if (!meta_owns(w->m, ino)) {
		w->ino = ino;
		return walk_stop(w, WALK_MOVED);
	}
	rc = inode_read(w->m, ino, &link);
	if (rc)
		return rc;
	if (!S_ISLNK(link.attr.mode))
		return meta_damaged("name's type", ino_bucket(ino), ino);
	return walk_symlink_stop(w, dir, &link);
}

static int walk_up(
	struct walker *w, const struct component *comp, const struct inode *dir)
{
	bool is_root = dir->attr.parent == w->ino;

	w->at = comp->end;
	if (is_root)
		return walk_stop(w, WALK_ABOVE);
	w->ino = dir->attr.parent;
	return meta_owns(w->m, w->ino) ? 0 : walk_stop(w, WALK_MOVED);
}

static int walk_down(struct walker *w, const struct component *comp)
{
	size_t name_size = comp->end - comp->start;
	struct name_target target;
	int rc;

	if (name_size > WFS_NAME_MAX)
		return -ENAMETOOLONG;
	rc = entry_read(w->m, w->ino, w->path + comp->start, name_size, &target);
	if (rc)
		return rc;
	if (target.dtype == DT_LNK &&
		(!comp->last || comp->slash || w->mode == WALK_FOLLOW))
		return walk_to_symlink(w, comp, target.ino);
	if (target.dtype != DT_DIR && target.dtype != DT_LNK &&
		(!comp->last || comp->slash))
		return -ENOTDIR;
	w->at = comp->end;
	w->ino = target.ino;
	return meta_owns(w->m, w->ino) ? 0 : walk_stop(w, WALK_MOVED);
}

/* One component on: 0 to go on, 1 stopped. */
static int walk_step(struct walker *w)
{
	struct component comp;
	struct inode in;
	int rc;

	if (!component_next(w, &comp)) {
		bool slashes = w->at < w->path_size;

		if (w->mode == WALK_PARENT)
			return -EINVAL;
		w->at = w->path_size;
		walk_stop(w, WALK_DONE);
		w->out->must_be_dir = slashes;
		return 1;
	}
	rc = inode_read(w->m, w->ino, &in);
	if (rc)
		return rc;
	if (!S_ISDIR(in.attr.mode))
		return -ENOTDIR;
	rc = perm_check(&in.attr, w->c->cred, X_OK);
	if (rc)
		return rc;
	if (comp.last && w->mode == WALK_PARENT)
		return walk_parent_stop(w, &comp);
	if (component_is(w, &comp, "..")) {
		rc = walk_up(w, &comp, &in);
	} else if (component_is(w, &comp, ".")) {
		w->at = comp.end;
		rc = 0;
	} else {
		rc = walk_down(w, &comp);
	}
	if (rc == 0 && comp.last && w->path[comp.end - 1] == '.' &&
		(component_is(w, &comp, ".") || component_is(w, &comp, ".."))) {
		w->at = w->path_size;
		walk_stop(w, WALK_DONE);
		w->out->must_be_dir = true;
		return 1;
	}
	return rc;
}

/* The walk begins at something that may be a symlink which another shard led us to. */
static int walk_begin(struct walker *w)
{
	bool follow = w->mode == WALK_FOLLOW || w->path_size > 0;
	struct inode in;
	int rc = inode_read(w->m, w->ino, &in);

	if (rc)
		return rc;
	if (S_ISLNK(in.attr.mode) && follow)
		return walk_symlink_stop(w, in.attr.parent, &in);
	if (!S_ISDIR(in.attr.mode) && w->path_size > 0)
		return -ENOTDIR;
	return 0;
}

int meta_walk(struct meta *m, const struct meta_call *c, ino_id start, const char *path,
	size_t path_size, enum walk_mode mode, struct walk *walk_out)
{
	struct walker w = {.m = m,
		.c = c,
		.path = path,
		.mode = mode,
		.ino = start,
		.out = walk_out};
	int rc;

	if (path_size > WFS_PATH_MAX)
		return -ENAMETOOLONG;
	if (path_size && memchr(path, 0, path_size))
		return -EINVAL;
	w.path_size = (uint32_t)path_size;
	rc = walk_begin(&w);
	while (rc == 0)
		rc = walk_step(&w);
	return rc < 0 ? rc : 0;
}

/*
 * Steps: their encoding, and what each does to the inodes and names of one bucket.
 *
 * All steps of a part share one work, so that a rename within one directory is a remove
 * and an insert on the same inode in memory. New directories are made first: an insert
 * of ino 0 in the same part means the one just made.
 */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "meta/step.h"

/* --- encoding --- */

static bool step_is_entry(const struct step *s)
{
	return s->type == STEP_ENTRY_INSERT || s->type == STEP_ENTRY_REMOVE ||
	       s->type == STEP_ENTRY_REPLACE;
}

static bool dtype_known(uint8_t dtype)
{
	return dtype != DT_UNKNOWN && mode_dtype(DTTOIF((uint32_t)dtype)) == dtype;
}

static bool step_entry_valid(const struct step *s, uint16_t bucket)
{
	if (ino_bucket(s->dir) != bucket || name_check(s->name, s->name_size))
		return false;
	if (s->type == STEP_ENTRY_REMOVE)
		return s->expect != 0;
	if (s->type == STEP_ENTRY_REPLACE && (s->expect == 0 || s->ino == 0))
		return false;
	return dtype_known(s->dtype);
}

static bool step_valid(const struct step *s, uint16_t bucket)
{
	if (s->flags & ~STEP_PERMIT)
		return false;
	if (step_is_entry(s))
		return step_entry_valid(s, bucket);
	if (s->name_size)
		return false;
	switch (s->type) {
	case STEP_INODE_NEW_DIR:
		return s->dir != 0 && (s->mode & ~(uint32_t)(S_IFDIR | 07777)) == 0;
	case STEP_INODE_MOVED:
		return s->dir != 0 && s->ino != 0 && ino_bucket(s->ino) == bucket;
	case STEP_INODE_LINK:
	case STEP_INODE_UNLINK:
	case STEP_INODE_RMDIR: return s->ino != 0 && ino_bucket(s->ino) == bucket;
	default: return false;
	}
}

bool part_valid(const struct part *part)
{
	if (part->step_count < 1 || part->step_count > TXN_STEPS_MAX)
		return false;
	for (uint32_t i = 0; i < part->step_count; i++)
		if (!step_valid(&part->steps[i], part->bucket))
			return false;
	return true;
}

static void step_encode(const struct step *s, struct buf *out)
{
	const struct step_record r = {
		.type = (uint8_t)s->type,
		.flags = (uint8_t)s->flags,
		.dtype = s->dtype,
		.expect_dtype = s->expect_dtype,
		.name_size = le32_put(s->name_size),
		.dir = le64_put(s->dir),
		.ino = le64_put(s->ino),
		.expect = le64_put(s->expect),
		.victim_uid = le32_put(s->victim_uid),
		.mode = le32_put(s->mode),
		.uid = le32_put(s->uid),
		.gid = le32_put(s->gid),
		.fsid = le32_put(s->fsid),
	};

	buf_append(out, &r, sizeof(r));
	if (s->name_size)
		buf_append(out, s->name, s->name_size);
}

int part_encode(const struct part *part, struct buf *out)
{
	const struct part_record head = {
		.version = le16_put(PART_VERSION),
		.bucket = le16_put(part->bucket),
		.step_count = le32_put(part->step_count),
	};

	if (!part_valid(part))
		return -EINVAL;
	buf_append(out, &head, sizeof(head));
	for (uint32_t i = 0; i < part->step_count; i++)
		step_encode(&part->steps[i], out);
	return buf_error(out);
}

/* The step at *offset. */
static int step_decode(
	const uint8_t *bytes, size_t size_bytes, size_t *offset, struct step *out)
{
	struct step_record r;
	uint32_t name_size;

	if (size_bytes - *offset < sizeof(r))
		return -EUCLEAN;
	memcpy(&r, bytes + *offset, sizeof(r));
	*offset += sizeof(r);
	name_size = le32_get(r.name_size);
	if (name_size > WFS_NAME_MAX || size_bytes - *offset < name_size ||
		le32_get(r.reserved))
		return -EUCLEAN;
	*out = (struct step){
		.type = (enum step_type)r.type,
		.flags = r.flags,
		.dir = le64_get(r.dir),
		.ino = le64_get(r.ino),
		.expect = le64_get(r.expect),
		.dtype = r.dtype,
		.expect_dtype = r.expect_dtype,
		.victim_uid = le32_get(r.victim_uid),
		.mode = le32_get(r.mode),
		.uid = le32_get(r.uid),
		.gid = le32_get(r.gid),
		.fsid = le32_get(r.fsid),
		.name = name_size ? (const char *)bytes + *offset : NULL,
		.name_size = name_size,
	};
	*offset += name_size;
	return 0;
}

int part_decode(const void *bytes, size_t size_bytes, struct part *part_out)
{
	struct part_record head;
	size_t offset = sizeof(head);
	struct part part = {0};
	int rc = 0;

	if (size_bytes < sizeof(head))
		return -EUCLEAN;
	memcpy(&head, bytes, sizeof(head));
	part.bucket = le16_get(head.bucket);
	part.step_count = le32_get(head.step_count);
	if (le16_get(head.version) != PART_VERSION || part.step_count > TXN_STEPS_MAX)
		return -EUCLEAN;
	for (uint32_t i = 0; rc == 0 && i < part.step_count; i++)
		rc = step_decode(bytes, size_bytes, &offset, &part.steps[i]);
	if (rc || offset != size_bytes || !part_valid(&part))
		return -EUCLEAN;
	*part_out = part;
	return 0;
}

/* --- names --- */

/* An inode of a step. A foreign lock, or a purge under way: try the whole again. */
static int step_inode(struct work *w, ino_id ino, struct work_inode **wi_out)
{
	int rc = work_inode(w, ino, wi_out);

	if (rc == 0 && (*wi_out)->in.flags & INODE_PURGING)
		rc = -EINPROGRESS;
	return rc == -EINPROGRESS ? -EAGAIN : rc;
}

static int entry_permitted(
	const struct attr *dir, const struct cred *cred, const struct step *s)
{
	int rc;

	if (!(s->flags & STEP_PERMIT))
		return 0;
	rc = perm_check(dir, cred, W_OK | X_OK);
	if (rc || s->expect == 0)
		return rc;
	if (dir->mode & S_ISVTX && cred->uid != 0 && cred->uid != dir->uid &&
		cred->uid != s->victim_uid)
		return -EPERM;
	return 0;
}

/* What the name leads to now must be what the planner saw. */
static int entry_expected(
	struct work *w, const struct step *s, struct name_target *found_out)
{
	int rc;

	*found_out = (struct name_target){0};
	rc = entry_read(w->m, s->dir, s->name, s->name_size, found_out);
	if (rc && rc != -ENOENT)
		return rc;
	return found_out->ino == s->expect ? 0 : -ESTALE;
}

static int step_entry(
	struct work *w, const struct meta_call *c, const struct step *s, ino_id new_ino)
{
	struct name_target old,
		target = {.ino = s->ino ? s->ino : new_ino, .dtype = s->dtype};
	struct work_inode *dir;
	struct meta_key key;
	struct attr *a;
	int rc = step_inode(w, s->dir, &dir);

	if (rc)
		return rc;
	a = &dir->in.attr;
	if (!S_ISDIR(a->mode))
		return -ENOTDIR;
	if (a->nlink == 0)
		return -ENOENT;
	rc = entry_expected(w, s, &old);
	if (rc == 0)
		rc = entry_permitted(a, c->cred, s);
	if (rc)
		return rc;
	if (old.ino) {
		a->nlink -= old.dtype == DT_DIR;
		a->entries--;
	}
	if (s->type == STEP_ENTRY_REMOVE) {
		meta_key_dirent(&key, s->dir, s->name, s->name_size);
		batch_del(w->batch, key.bytes, key.size);
	} else {
		if (target.ino == 0)
			return -EINVAL;
		a->nlink += target.dtype == DT_DIR;
		a->entries++;
		entry_put(w, s->dir, s->name, s->name_size, &target);
	}
	a->mtime_ns = a->ctime_ns = c->now_ns;
	dir->dirty = true;
	return 0;
}

/* --- inodes --- */

static int step_new_dir(
	struct work *w, const struct meta_call *c, const struct step *s, ino_id *ino_out)
{
	const struct inode in = {
		.attr =
			{
				.mode = S_IFDIR | (s->mode & 07777),
				.nlink = 2,
				.uid = s->uid,
				.gid = s->gid,
				.atime_ns = c->now_ns,
				.mtime_ns = c->now_ns,
				.ctime_ns = c->now_ns,
				.btime_ns = c->now_ns,
				.fsid = s->fsid,
				.parent = s->dir,
			},
	};
	struct work_inode *wi;
	int rc = ino_alloc(w, ino_out);

	if (rc)
		return rc;
	/* The number is taken at once, also by an intent: c->batch, not w->batch. */
	if (w->deferred)
		header_put(w->m, c->batch, w->bucket);
	return work_inode_new(w, *ino_out, &in, &wi);
}

static int step_link(struct work_inode *wi)
{
	struct attr *a = &wi->in.attr;

	if (S_ISDIR(a->mode))
		return -EPERM;
	if (a->nlink == 0)
		return -ENOENT;
	if (a->nlink >= WFS_LINK_MAX)
		return -EMLINK;
	a->nlink++;
	return 0;
}

static int step_unlink(struct work *w, struct work_inode *wi, bool *purge_out)
{
	struct attr *a = &wi->in.attr;

	if (S_ISDIR(a->mode))
		return -EISDIR;
	if (a->nlink == 0)
		return -ESTALE;
	a->nlink--;
	return a->nlink ? 0 : inode_last_unlink(w, wi, purge_out);
}

static int step_rmdir(struct work *w, struct work_inode *wi)
{
	int rc = 0;

	if (!S_ISDIR(wi->in.attr.mode))
		return -ENOTDIR;
	if (wi->in.attr.entries)
		return -ENOTEMPTY;
	if (wi->in.attr.parent == wi->ino)
		return -EBUSY;
	if (wi->in.flags & INODE_HAS_XATTRS)
		rc = xattr_delete_all(w->m, w->batch, wi->ino);
	if (rc == 0)
		work_inode_gone(w, wi);
	return rc;
}

static int step_moved(
	struct work_inode *wi, const struct meta_call *c, const struct step *s)
{
	struct attr *a = &wi->in.attr;
	int rc = 0;

	/* A new ".." is a change of the directory itself, as rename(2) has it. */
	if (S_ISDIR(a->mode) && a->parent != s->dir)
		rc = perm_check(a, c->cred, W_OK);
	/* Symlinks too: walk.c reads them against it. */
	if (rc == 0 && (S_ISDIR(a->mode) || S_ISLNK(a->mode)))
		a->parent = s->dir;
	return rc;
}

static int step_inode_change(
	struct work *w, const struct meta_call *c, const struct step *s, bool *purge_out)
{
	struct work_inode *wi;
	int rc = step_inode(w, s->ino, &wi);

	if (rc)
		return rc;
	wi->in.attr.ctime_ns = c->now_ns;
	wi->dirty = true;
	switch (s->type) {
	case STEP_INODE_LINK: return step_link(wi);
	case STEP_INODE_UNLINK: return step_unlink(w, wi, purge_out);
	case STEP_INODE_RMDIR: return step_rmdir(w, wi);
	default: return step_moved(wi, c, s);
	}
}

int part_run(struct work *w, const struct meta_call *c, const struct part *part,
	ino_id *new_ino_out, bool *purge_out)
{
	int rc = 0;

	*new_ino_out = 0;
	*purge_out = false;
	for (uint32_t i = 0; rc == 0 && i < part->step_count; i++)
		if (part->steps[i].type == STEP_INODE_NEW_DIR)
			rc = step_new_dir(w, c, &part->steps[i], new_ino_out);
	for (uint32_t i = 0; rc == 0 && i < part->step_count; i++)
		if (step_is_entry(&part->steps[i]))
			rc = step_entry(w, c, &part->steps[i], *new_ino_out);
	for (uint32_t i = 0; rc == 0 && i < part->step_count; i++)
		if (!step_is_entry(&part->steps[i]) &&
			part->steps[i].type != STEP_INODE_NEW_DIR)
			rc = step_inode_change(w, c, &part->steps[i], purge_out);
	return rc;
}

uint32_t part_inodes(const struct part *part, ino_id inos_out[TXN_STEPS_MAX])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < part->step_count; i++) {
		const struct step *s = &part->steps[i];

		if (s->type != STEP_INODE_NEW_DIR)
			inos_out[count++] = step_is_entry(s) ? s->dir : s->ino;
	}
	return count;
}

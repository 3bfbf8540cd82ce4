/*
 * From a request to the steps of a transaction.
 *
 * Which steps, and in which buckets, depends on what the names lead to. What this shard
 * does not own it asks for, one fact at a time; nothing is locked meanwhile, so every
 * step carries what it expects to find, and a part that finds otherwise says -ESTALE:
 * then the plan is made again.
 */
#include "core/shard/txn.h"
#include "core/shard/reply.h"

#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <string.h>

/* --- facts --- */

static struct txn_name *asked_name(struct txn *t)
{
	return t->calls[0].index == 0 ? &t->from : &t->to;
}

static void entry_come(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);
	struct txn_name *n = asked_name(tc->t);
	const struct wire_entry_reply *er = reply;

	(void)reply_data_size;
	tc->busy = false;
	if (status == 0 && reply_size != sizeof(*er))
		status = -EIO;
	if (status == 0) {
		n->ino = le64_get(er->ino);
		n->dtype = er->dtype;
	}
	if (status == 0 || status == -ENOENT) {
		n->entry_known = true;
		status = 0;
	}
	txn_planned(tc->t, status);
}

static int entry_learn(struct txn *t, struct txn_name *n, uint32_t which)
{
	uint8_t body[sizeof(struct wire_ino) + WFS_NAME_MAX];
	struct wire_ino wi = {.ino = le64_put(n->dir)};
	int rc;

	if (shard_owns(t->s, ino_bucket(n->dir))) {
		rc = meta_entry(t->s->meta, n->dir, n->name, n->size, &n->ino, &n->dtype);
		if (rc == 0 || rc == -ENOENT)
			n->entry_known = true;
		return rc == -ENOENT ? 0 : rc;
	}
	if (n->size > WFS_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(body, &wi, sizeof(wi));
	memcpy(body + sizeof(wi), n->name, n->size);
	t->calls[0].index = which;
	txn_send(t, 0, OP_ENTRY, ino_bucket(n->dir), body,
		(uint32_t)sizeof(wi) + n->size, entry_come);
	return 1;
}

static void attr_ask(struct txn *t, ino_id ino,
	void (*done)(struct rpc_call *call, int status, const void *reply,
		uint32_t reply_size, uint32_t reply_data_size))
{
	struct wire_walk body = {
		.path = {.start = le64_put(ino), .mode = WALK_NOFOLLOW}};

	txn_send(t, 0, OP_WALK, ino_bucket(ino), &body, sizeof(body), done);
}

static int attr_take(int status, const void *reply, uint32_t reply_size,
	struct attr *attr_out)
{
	const struct wire_walk_reply *wr = reply;

	if (status < 0)
		return status;
	if (reply_size < sizeof(*wr) || wr->end != WALK_DONE)
		return -EIO;
	wire_attr_take(&wr->attr, attr_out);
	return 0;
}

static void name_attr_set(struct txn_name *n, const struct attr *attr)
{
	n->uid = attr->uid;
	n->dtype = (uint8_t)IFTODT(attr->mode);
	n->attr_known = true;
}

static void attr_come(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);
	struct attr attr;

	(void)reply_data_size;
	tc->busy = false;
	status = attr_take(status, reply, reply_size, &attr);
	if (status == 0)
		name_attr_set(asked_name(tc->t), &attr);
	txn_planned(tc->t, status);
}

static int attr_learn(struct txn *t, struct txn_name *n, uint32_t which)
{
	struct attr attr;
	int rc;

	if (!shard_owns(t->s, ino_bucket(n->ino))) {
		t->calls[0].index = which;
		attr_ask(t, n->ino, attr_come);
		return 1;
	}
	rc = meta_getattr(t->s->meta, n->ino, &attr);
	if (rc == 0)
		name_attr_set(n, &attr);
	return rc;
}

/* --- moving directories: the lock, and the climb --- */

/* The root is its own parent. */
static void climb_to_parent(struct txn *t, const struct attr *attr)
{
	t->climb = attr->parent == attr->ino ? 0 : attr->parent;
}

static void climb_come(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);
	struct attr attr;

	(void)reply_data_size;
	tc->busy = false;
	status = attr_take(status, reply, reply_size, &attr);
	if (status == 0)
		climb_to_parent(tc->t, &attr);
	txn_planned(tc->t, status);
}

/*
 * From the target directory upwards: the moved directory must not be on the way. The
 * rename lock keeps others from moving directories meanwhile. An exchange moves two, so
 * the way up from the source is climbed after it.
 */
static int climb_step(struct txn *t)
{
	struct attr attr;
	int rc;

	while (t->climb) {
		if (t->climb == (t->climb_stage == CLIMB_FROM ? t->to.ino : t->from.ino))
			return -EINVAL;
		if (!shard_owns(t->s, ino_bucket(t->climb))) {
			attr_ask(t, t->climb, climb_come);
			return 1;
		}
		rc = meta_getattr(t->s->meta, t->climb, &attr);
		if (rc < 0)
			return rc;
		climb_to_parent(t, &attr);
	}
	return 0;
}

static void lock_come(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct txn_call *tc = container_of(call, struct txn_call, call);

	(void)reply;
	(void)reply_size;
	(void)reply_data_size;
	tc->busy = false;
	if (status == 0)
		tc->t->rename_locked = true;
	txn_planned(tc->t, status);
}

static int directory_move_check(struct txn *t)
{
	struct wire_txn body = {.txid = le64_put(t->txid)};
	int rc;

	if (!t->rename_locked) {
		txn_send(t, 0, OP_RENAME_LOCK, ino_bucket(WFS_ROOT_INO), &body,
			sizeof(body), lock_come);
		return 1;
	}
	if (t->climb_stage == CLIMB_NOT) {
		t->climb_stage = CLIMB_TO;
		t->climb = t->to.dir;
	}
	rc = climb_step(t);
	if (rc == 0 && t->climb_stage == CLIMB_TO) {
		t->climb_stage = CLIMB_FROM;
		if ((t->rename_flags & RENAME_EXCHANGE) && t->to.dtype == DT_DIR)
			t->climb = t->from.dir;
		rc = climb_step(t);
	}
	return rc;
}

/* --- steps to parts --- */

static struct step *step_add(struct txn *t, uint16_t bucket, enum step_type type)
{
	struct part *part = NULL;
	struct step *step;

	for (uint32_t i = 0; i < t->part_count; i++)
		if (t->parts[i].bucket == bucket)
			part = &t->parts[i];
	if (!part) {
		part = &t->parts[t->part_count++];
		*part = (struct part){.bucket = bucket};
	}
	step = &part->steps[part->step_count++];
	*step = (struct step){.type = type};
	return step;
}

static void step_entry(struct txn *t, enum step_type type, const struct txn_name *at,
	ino_id ino, uint8_t dtype)
{
	struct step *step = step_add(t, ino_bucket(at->dir), type);

	step->flags = STEP_PERMIT;
	step->dir = at->dir;
	step->name = at->name;
	step->name_size = at->size;
	step->ino = ino;
	step->dtype = dtype;
	step->expect = at->ino;
	step->expect_dtype = at->dtype;
	step->victim_uid = at->uid;
}

static void step_inode(struct txn *t, enum step_type type, ino_id ino, uint8_t dtype,
	ino_id dir)
{
	struct step *step = step_add(t, ino_bucket(ino), type);

	step->ino = ino;
	step->dtype = dtype;
	step->dir = dir;
}

/* --- the operations --- */

static int mkdir_plan(struct txn *t)
{
	const struct wire_mknod *wm = t->x->req->body;
	const struct cred *cred = &t->x->req->cred;
	struct txn_name *at = &t->from;
	struct shard *s = t->s;
	struct step *step;
	struct attr dir;
	uint16_t bucket;
	int rc = entry_learn(t, at, 0);

	if (rc != 0)
		return rc;
	if (at->ino)
		return -EEXIST;
	rc = meta_getattr(s->meta, at->dir, &dir);
	if (rc < 0)
		return rc;
	bucket = place_pick(s->place, s->map, ino_bucket(at->dir), s->fill_of, s->ctx);
	t->new_dir = (struct attr){
		.mode = S_IFDIR | (le32_get(wm->mode) & 01777) | (dir.mode & S_ISGID),
		.nlink = 2,
		.uid = cred->uid,
		.gid = dir.mode & S_ISGID ? dir.gid : cred->gid,
		.atime_ns = t->now_ns,
		.mtime_ns = t->now_ns,
		.ctime_ns = t->now_ns,
		.btime_ns = t->now_ns,
		.fsid = dir.fsid,
		.parent = at->dir,
	};
	step_entry(t, STEP_ENTRY_INSERT, at, 0, DT_DIR);
	step = step_add(t, bucket, STEP_INODE_NEW_DIR);
	step->dir = at->dir;
	step->dtype = DT_DIR;
	step->mode = t->new_dir.mode;
	step->uid = t->new_dir.uid;
	step->gid = t->new_dir.gid;
	step->fsid = t->new_dir.fsid;
	return 0;
}

static int remove_plan(struct txn *t)
{
	bool rmdir = t->x->req->op == OP_RMDIR;
	struct txn_name *at = &t->from;
	int rc = at->entry_known ? 0 : entry_learn(t, at, 0);

	if (rc != 0)
		return rc;
	if (!at->ino)
		return -ENOENT;
	if (!rmdir && at->dtype == DT_DIR)
		return -EISDIR;
	if (rmdir && at->dtype != DT_DIR)
		return -ENOTDIR;
	if (!at->attr_known) {
		rc = attr_learn(t, at, 0);
		if (rc != 0)
			return rc;
	}
	step_entry(t, STEP_ENTRY_REMOVE, at, 0, 0);
	step_inode(t, rmdir ? STEP_INODE_RMDIR : STEP_INODE_UNLINK, at->ino, at->dtype,
		at->dir);
	return 0;
}

static int link_plan(struct txn *t)
{
	const struct wire_link *wl = t->x->req->body;
	struct txn_name *at = &t->from;
	int rc;

	if (!at->entry_known) {
		rc = entry_learn(t, at, 0);
		if (rc != 0)
			return rc;
		if (at->ino)
			return -EEXIST;
		/* From here on `to` stands for the inode that gets the new name. */
		t->to.ino = le64_get(wl->ino);
	}
	if (!t->to.attr_known) {
		rc = attr_learn(t, &t->to, 1);
		if (rc != 0)
			return rc;
	}
	if (t->to.dtype == DT_DIR)
		return -EPERM;
	step_entry(t, STEP_ENTRY_INSERT, at, t->to.ino, t->to.dtype);
	step_inode(t, STEP_INODE_LINK, t->to.ino, t->to.dtype, at->dir);
	return 0;
}

static int rename_check(const struct txn *t)
{
	const struct txn_name *from = &t->from, *to = &t->to;
	bool exchange = t->rename_flags & RENAME_EXCHANGE;

	if (!from->ino)
		return -ENOENT;
	if (to->ino && (t->rename_flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (!to->ino && exchange)
		return -ENOENT;
	if (to->ino == from->ino)
		return 2;
	if (!to->ino || exchange)
		return 0;
	/* The steps would empty it first. */
	if (to->ino == from->dir)
		return -ENOTEMPTY;
	if (from->dtype == DT_DIR && to->dtype != DT_DIR)
		return -ENOTDIR;
	if (from->dtype != DT_DIR && to->dtype == DT_DIR)
		return -EISDIR;
	return 0;
}

/* A verdict from both names, without steps that expect them: was `from` still so when
 * `to` was read? */
static int rename_verdict(struct txn *t, int verdict)
{
	struct txn_name again = t->from;
	int rc;

	if (!shard_owns(t->s, ino_bucket(again.dir)))
		return -EREMCHG;
	again.ino = 0;
	again.entry_known = false;
	rc = entry_learn(t, &again, 0);
	if (rc < 0)
		return rc;
	return again.ino == t->from.ino ? verdict : -ESTALE;
}

static void rename_steps(struct txn *t)
{
	const struct txn_name *from = &t->from, *to = &t->to;

	if (t->rename_flags & RENAME_EXCHANGE) {
		step_entry(t, STEP_ENTRY_REPLACE, from, to->ino, to->dtype);
		step_entry(t, STEP_ENTRY_REPLACE, to, from->ino, from->dtype);
		step_inode(t, STEP_INODE_MOVED, from->ino, from->dtype, to->dir);
		step_inode(t, STEP_INODE_MOVED, to->ino, to->dtype, from->dir);
		return;
	}
	step_entry(t, STEP_ENTRY_REMOVE, from, 0, 0);
	step_entry(t, STEP_ENTRY_INSERT, to, from->ino, from->dtype);
	step_inode(t, STEP_INODE_MOVED, from->ino, from->dtype, to->dir);
	if (to->ino)
		step_inode(t, to->dtype == DT_DIR ? STEP_INODE_RMDIR : STEP_INODE_UNLINK,
			to->ino, to->dtype, to->dir);
}

static int rename_plan(struct txn *t)
{
	struct txn_name *from = &t->from, *to = &t->to;
	int rc = 0;

	if (!from->entry_known)
		rc = entry_learn(t, from, 0);
	if (rc == 0 && !to->entry_known)
		rc = entry_learn(t, to, 1);
	if (rc == 0) {
		rc = rename_check(t);
		if (rc != 0)
			return rename_verdict(t, rc);
	}
	if (rc == 0 && !from->attr_known)
		rc = attr_learn(t, from, 0);
	if (rc == 0 && to->ino && !to->attr_known)
		rc = attr_learn(t, to, 1);
	if (rc == 0 && from->dir != to->dir &&
		(from->dtype == DT_DIR || (to->ino && to->dtype == DT_DIR &&
						 (t->rename_flags & RENAME_EXCHANGE))))
		rc = directory_move_check(t);
	if (rc == 0)
		rename_steps(t);
	return rc;
}

int plan_next(struct txn *t)
{
	t->part_count = 0;
	switch (t->x->req->op) {
	case OP_MKDIR: return mkdir_plan(t);
	case OP_UNLINK:
	case OP_RMDIR: return remove_plan(t);
	case OP_LINK: return link_plan(t);
	default: return rename_plan(t);
	}
}

/* --- from the request --- */

/* What "." and ".." as the last name mean to each. */
static int special_name(uint16_t op, int rc)
{
	if (rc != -EINVAL && rc != -ENOTEMPTY)
		return rc;
	switch (op) {
	case OP_UNLINK: return -EISDIR;
	case OP_RMDIR: return rc;
	default: return -EEXIST;
	}
}

static int path_begin(struct txn *t, const struct meta_call *c, size_t fixed_size)
{
	struct exec *x = t->x;
	uint16_t op = x->req->op;
	size_t size;
	const char *path = path_of(x, fixed_size, &size);
	struct walk w;
	int rc = path_walk(x, c, WALK_PARENT, &w);

	if (rc < 0)
		return special_name(op, rc);
	if (rc == 0)
		return 2;
	t->from = (struct txn_name){
		.dir = w.ino, .name = path + w.name_at, .size = w.name_size};
	if (w.must_be_dir && op == OP_LINK)
		return -ENOENT;
	if (w.must_be_dir && op == OP_UNLINK) {
		rc = entry_learn(t, &t->from, 0);
		if (rc == 0 && t->from.ino && t->from.dtype != DT_DIR)
			return -ENOTDIR;
		return rc;
	}
	return 0;
}

static int rename_begin(struct txn *t)
{
	const struct wire_rename *wr = t->x->req->body;
	const char *names = (const char *)(wr + 1);
	int rc;

	t->rename_flags = le32_get(wr->flags);
	if ((t->rename_flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
		t->rename_flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	t->from = (struct txn_name){
		.dir = le64_get(wr->from_dir), .name = names, .size = le16_get(wr->from_size)};
	t->to = (struct txn_name){.dir = le64_get(wr->to_dir),
		.name = names + le16_get(wr->from_size),
		.size = le16_get(wr->to_size)};
	if (!shard_owns(t->s, ino_bucket(t->from.dir)))
		return -EREMCHG;
	rc = reply_recall(t->x, ino_bucket(t->from.dir));
	return rc > 0 ? 2 : rc;
}

int plan_begin(struct txn *t)
{
	struct meta_call c;

	shard_call_init(t->s, &t->x->req->cred, &c);
	memset(&t->from, 0, sizeof(t->from));
	memset(&t->to, 0, sizeof(t->to));
	t->climb = 0;
	t->climb_stage = CLIMB_NOT;
	t->now_ns = c.now_ns;
	switch (t->x->req->op) {
	case OP_MKDIR: return path_begin(t, &c, sizeof(struct wire_mknod));
	case OP_LINK: return path_begin(t, &c, sizeof(struct wire_link));
	case OP_RENAME: return rename_begin(t);
	default: return path_begin(t, &c, sizeof(struct wire_path));
	}
}

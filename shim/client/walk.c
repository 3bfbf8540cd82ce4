/*
 * Path operations: send to the bucket where the walk stands, go on where the reply says.
 *
 *   reply        the walk goes on at           with
 *   WIRE_DONE    -- (carried out)
 *   WIRE_MOVED   the inode found               the rest of the path
 *   WIRE_SYMLINK the directory of the symlink  its target and the rest
 *                (absolute: the root, or out of the mount)
 *   WIRE_ABOVE   out of the mount              the rest
 *
 * A symlink whose inode lives on another shard than its name (it was renamed) is met as
 * WIRE_MOVED with nothing left; an operation on an inode alone takes it for what it is.
 * So where links are to be followed, link_expand looks whether that happened, and reads
 * the link against the parent in its inode.
 *
 * -ESTALE means that something was removed between two steps: begin again, RETRIES times;
 * then it is gone for good, -ENOENT.
 *
 * Paths live in the slot's two scratch buffers in turn, where a symlink's expansion
 * builds the next from the last.
 */
#include <errno.h>
#include <sys/stat.h>

#include "shim/client/internal.h"

#define LINKS_MAX 40u
#define HOPS_MAX  8192u /* a path has 2048 components; any more is wfsd's mistake */
#define RETRIES   8u

struct path_walk {
	struct client *c;
	struct where *w;
	struct path_call *call;
	int slot;
	uint32_t seq; /* of the operation, however many hops it takes: it is done once */
	bool lost;
	ino_id start;
	const char *path;
	uint32_t path_size;
	unsigned buffer; /* scratch to expand into */
	unsigned links;
	bool hopped;     /* start came from WIRE_MOVED */
};

bool name_is_dot(const char *name, size_t size)
{
	return size == 1 && name[0] == '.';
}

bool name_is_dotdot(const char *name, size_t size)
{
	return size == 2 && name[0] == '.' && name[1] == '.';
}

void path_last(const char *path, const char **name_out, size_t *size_out)
{
	size_t end = strlen(path), start;

	while (end > 0 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	*name_out = path + start;
	*size_out = end - start;
}

/* --- one step ----------------------------------------------------------------------- */

/* Send what is in the slot and wait; the reply is in scratch. */
static int step_send(struct path_walk *pw, struct call *call)
{
	slot_submit(pw->c, pw->slot, call);
	return slot_wait(pw->c, pw->slot, call, &pw->lost);
}

/* Another operation on the inode alone where the walk stands, in the same slot. */
static int step_aside(struct path_walk *pw, uint16_t op, struct wire_walk_reply *reply_out)
{
	struct wire_path fixed = {.start = le64_put(pw->start), .mode = WIRE_NOFOLLOW};
	struct call call = {
		.op = op,
		.target = ino_bucket(pw->start),
		.body_size = sizeof(fixed),
	};
	int rc;

	memcpy(slot_body(pw->c, pw->slot), &fixed, sizeof(fixed));
	rc = step_send(pw, &call);
	if (!rc)
		memcpy(reply_out, pw->c->scratch[pw->slot].reply, sizeof(*reply_out));
	return rc;
}

static int step(struct path_walk *pw)
{
	struct path_call *pc = pw->call;
	uint8_t *body = slot_body(pw->c, pw->slot);
	struct call call = {
		.op = pc->op,
		.target = ino_bucket(pw->start),
		.body_size = pc->fixed_size + pw->path_size + pc->extra_size,
		.data_size = pc->data_size,
		.data_max = pc->reply_data_max ? WIRE_DATA_MAX : 0,
	};
	int rc;

	pc->fixed->start = le64_put(pw->start);
	pc->fixed->path_size = le16_put((uint16_t)pw->path_size);
	pc->fixed->extra_size = le16_put((uint16_t)pc->extra_size);
	pc->fixed->mode = pc->mode;
	pc->fixed->want = pc->want;
	memcpy(body, pc->fixed, pc->fixed_size);
	memcpy(body + pc->fixed_size, pw->path, pw->path_size);
	if (pc->extra_size)
		memcpy(body + pc->fixed_size + pw->path_size, pc->extra, pc->extra_size);
	if (pc->data_size)
		memcpy(slot_data(pw->c, pw->slot), pc->data, pc->data_size);
	call.seq = pw->seq;
	rc = step_send(pw, &call);
	/* What was refused is over; what follows it is another request. */
	pw->seq = rc ? 0 : call.seq;
	if (rc)
		return rc;
	memcpy(&pc->reply, pw->c->scratch[pw->slot].reply, sizeof(pc->reply));
	pc->reply_data_size = call.reply_data_size;
	if (le32_get(pc->reply.consumed) > pw->path_size)
		return -EPROTO;
	return 0;
}

/* --- out of the mount --------------------------------------------------------------- */

static size_t put(char *out, size_t at, size_t room, const char *bytes, size_t size)
{
	if (at > room || size > room - at)
		return room + 1;
	memcpy(out + at, bytes, size);
	return at + size;
}

/* The place is head + "/" + rest (rest may be empty, or begin with its slash). */
static int walk_outside(struct path_walk *pw, const char *head, size_t head_size,
	const char *rest, size_t rest_size)
{
	char *out = pw->w->outside;
	size_t at;

	if (!out)
		return -EXDEV;
	at = put(out, 0, WFS_PATH_MAX - 1, head, head_size);
	if (rest_size && rest[0] != '/')
		at = put(out, at, WFS_PATH_MAX - 1, "/", 1);
	at = put(out, at, WFS_PATH_MAX - 1, rest, rest_size);
	if (at > WFS_PATH_MAX - 1) {
		out[0] = 0;
		return -ENAMETOOLONG;
	}
	out[at] = 0;
	return -EXDEV;
}

static int walk_above(struct path_walk *pw)
{
	const char *mount = pw->c->mount;
	size_t size = strlen(mount), slashes = 0, base;

	if (size == 0)
		return 0; /* ".." of "/" is "/" */
	while (size > 1 && mount[size - 1] != '/')
		size--;
	/* Out by ".." and in again by the mount's own name. */
	base = strlen(mount + size);
	while (slashes < pw->path_size && pw->path[slashes] == '/')
		slashes++;
	if (pw->path_size - slashes >= base &&
		memcmp(pw->path + slashes, mount + size, base) == 0 &&
		(pw->path_size - slashes == base || pw->path[slashes + base] == '/')) {
		pw->path += slashes + base;
		pw->path_size -= (uint32_t)(slashes + base);
		return 0;
	}
	while (size > 1 && mount[size - 1] == '/')
		size--;
	return walk_outside(pw, mount, size, pw->path, pw->path_size);
}

/* Bytes of path that are the mount prefix, by component; 0: it leads elsewhere. */
static size_t mount_match(const char *mount, const char *path, size_t size)
{
	size_t at = 0;

	while (*mount) {
		if (*mount == '/') {
			if (at >= size || path[at] != '/')
				return 0;
			while (at < size && path[at] == '/')
				at++;
			while (*mount == '/')
				mount++;
			continue;
		}
		if (at >= size || path[at] != *mount)
			return 0;
		at++;
		mount++;
	}
	return at == size || path[at] == '/' ? at : 0;
}

/* --- symlinks ----------------------------------------------------------------------- */

/* Go on with target and then the rest; dir: what a relative target is relative to. */
static int link_follow(struct path_walk *pw, ino_id dir, const char *target,
	size_t target_size)
{
	char *out = pw->c->scratch[pw->slot].path[pw->buffer];
	size_t at, skip;

	if (++pw->links > LINKS_MAX)
		return -ELOOP;
	if (target_size == 0)
		return -ENOENT;
	pw->start = dir;
	if (target[0] == '/') {
		skip = mount_match(pw->c->mount, target, target_size);
		if (skip == 0 && pw->c->mount[0])
			return walk_outside(pw, target, target_size, pw->path,
				pw->path_size);
		pw->start = pw->c->root;
		target += skip;
		target_size -= skip;
	}
	at = put(out, 0, WFS_PATH_MAX - 1, target, target_size);
	if (pw->path_size && pw->path[0] != '/')
		at = put(out, at, WFS_PATH_MAX - 1, "/", 1);
	at = put(out, at, WFS_PATH_MAX - 1, pw->path, pw->path_size);
	if (at > WFS_PATH_MAX - 1)
		return -ENAMETOOLONG;
	pw->path = out;
	pw->path_size = (uint32_t)at;
	pw->buffer ^= 1;
	pw->hopped = false;
	return 0;
}

/* The target as it lies behind a walk reply in scratch. */
static int link_follow_reply(struct path_walk *pw, const struct wire_walk_reply *reply,
	ino_id dir)
{
	const uint8_t *scratch = pw->c->scratch[pw->slot].reply;

	return link_follow(pw, dir, (const char *)scratch + sizeof(*reply),
		le16_get(reply->target_size));
}

/*
 * Where a hop has led to an inode alone and links are to be followed: 1 if it was a
 * symlink, and the walk goes on; 0 if not, or errno.
 */
static int link_expand(struct path_walk *pw)
{
	struct wire_walk_reply reply;
	int rc;

	if (!pw->hopped || pw->path_size || pw->call->mode != WIRE_FOLLOW)
		return 0;
	rc = step_aside(pw, OP_READLINK, &reply);
	if (rc == -EINVAL)
		return 0;
	if (rc)
		return rc;
	rc = link_follow_reply(pw, &reply, le64_get(reply.attr.parent));
	return rc ? rc : 1;
}

/* Before an operation that would take a symlink for its object without telling. */
static bool must_look_first(const struct path_call *pc)
{
	return pc->op != OP_WALK && pc->op != OP_OPEN && pc->mode == WIRE_FOLLOW;
}

/* --- the loop ----------------------------------------------------------------------- */

static int walk_done(struct path_walk *pw)
{
	struct path_call *pc = pw->call;
	uint32_t name_at = le32_get(pc->reply.name_at);
	uint32_t name_size = le32_get(pc->reply.name_size);
	uint32_t copy = pc->reply_data_size;

	pc->must_be_dir = pc->reply.flags & WIRE_WALK_MUST_BE_DIR;
	if (pc->op == OP_WALK && pc->mode == WIRE_PARENT) {
		if (name_size > WFS_NAME_MAX || name_at > pw->path_size ||
			name_size > pw->path_size - name_at)
			return -EPROTO;
		memcpy(pc->name, pw->path + name_at, name_size);
		pc->name[name_size] = 0;
		pc->name_size = name_size;
	}
	if (pc->target)
		memcpy(pc->target, pw->c->scratch[pw->slot].reply + sizeof(pc->reply),
			le16_get(pc->reply.target_size));
	if (copy > pc->reply_data_max)
		copy = pc->reply_data_max;
	if (copy)
		memcpy(pc->reply_data, slot_data(pw->c, pw->slot), copy);
	return 0;
}

/* 1: the operation is done. */
static int walk_next(struct path_walk *pw, int rc)
{
	struct path_call *pc = pw->call;
	struct wire_walk_reply *reply = &pc->reply;

	if (rc == -ELOOP && pc->op == OP_OPEN) {
		int expanded = link_expand(pw);

		return expanded ? (expanded > 0 ? 0 : expanded) : rc;
	}
	if (rc)
		return rc;
	if (reply->end == WIRE_DONE) {
		if (pc->op == OP_WALK && S_ISLNK(le32_get(reply->attr.mode))) {
			struct wire_walk_reply done = *reply;

			rc = link_expand(pw);
			if (rc)
				return rc > 0 ? 0 : rc;
			*reply = done;
		}
		rc = walk_done(pw);
		return rc ? rc : 1;
	}
	pw->path += le32_get(reply->consumed);
	pw->path_size -= le32_get(reply->consumed);
	switch (reply->end) {
	case WIRE_SYMLINK:
		return link_follow_reply(pw, reply, le64_get(reply->ino));
	case WIRE_ABOVE:
		pw->start = le64_get(reply->ino);
		pw->hopped = false;
		return walk_above(pw);
	default:
		pw->start = le64_get(reply->ino);
		pw->hopped = true;
		if (pw->path_size == 0 && must_look_first(pc)) {
			rc = link_expand(pw);
			return rc > 0 ? 0 : rc;
		}
		return 0;
	}
}

static int path_try(struct client *c, struct where *w, struct path_call *call)
{
	struct path_walk pw = {.c = c, .w = w, .call = call, .start = w->start,
		.path = w->path};
	size_t size = strnlen(w->path, WFS_PATH_MAX);
	unsigned hops = 0;
	int rc;

	if (size >= WFS_PATH_MAX)
		return -ENAMETOOLONG;
	pw.path_size = (uint32_t)size;
	pw.slot = slot_take(c, true);
	if (pw.slot < 0)
		return pw.slot;
	do {
		rc = walk_next(&pw, step(&pw));
		if (rc == 0 && ++hops > HOPS_MAX)
			rc = -ELOOP;
	} while (rc == 0);
	if (!pw.lost)
		slot_release(c, pw.slot);
	return rc > 0 ? 0 : rc;
}

int path_run(struct client *c, struct where *w, struct path_call *call)
{
	int rc = -ESTALE;

	if (w->outside)
		w->outside[0] = 0;
	for (unsigned i = 0; i < RETRIES && rc == -ESTALE; i++) {
		do
			rc = path_try(c, w, call);
		while (rc == -EINPROGRESS);
		if (rc == -ESTALE && w->path[0] == 0)
			return rc;
	}
	return rc == -ESTALE ? -ENOENT : rc;
}

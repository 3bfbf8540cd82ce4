/*
 * The wire's validation: pure functions from bytes to "well-formed" or not.
 *
 * A table says for every op how its request and its reply are built: the fixed part, what
 * follows it, and a function for the fields of the fixed part that have rules. Whatever
 * passes here has sizes that add up, so that those behind need no bounds checks; whether
 * an inode exists or a name is too long for POSIX is not the wire's business.
 */
#include "net/wire.h"

#include <errno.h>

#define OPEN_FLAGS_MAX 0x7fffffu
#define SETATTR_MASK   0xffu
#define MODE_MASK      0177777u
#define XATTR_FLAGS    0x3u
#define RENAME_FLAGS   0x3u

enum tail {
	TAIL_NONE,
	TAIL_PATH,   /* fixed part begins with wire_path; a path, no extra */
	TAIL_TARGET, /* a path and a symlink target */
	TAIL_XATTR,  /* a path and an xattr name */
	TAIL_RENAME, /* two names */
	TAIL_NAME,   /* one name */
	TAIL_KEY,    /* key_size bytes */
	TAIL_PART,   /* anything, at least a byte */
	TAIL_OPS,    /* ops_size bytes, unless they come as data */
	TAIL_WALKED, /* fixed part is wire_walk_reply; its symlink target */
};

struct body_rule {
	uint16_t fixed_size;
	uint8_t tail;
	bool optional; /* may be absent as a whole */
	bool (*fields_ok)(uint16_t op, const uint8_t *fixed);
};

struct op_rule {
	const char *name;
	struct body_rule request;
	struct body_rule reply;
};

static bool is_zero(const uint8_t *p, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (p[i])
			return false;
	return true;
}

static bool open_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_open b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le32_get(b.flags) <= OPEN_FLAGS_MAX && le32_get(b.mode) <= MODE_MASK;
}

static bool setattr_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_setattr b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return !(le32_get(b.mask) & ~SETATTR_MASK) && le32_get(b.mode) <= MODE_MASK &&
	       le32_get(b.by_fd) <= 1 && le32_get(b.reserved) == 0;
}

static bool mknod_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_mknod b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le32_get(b.mode) <= MODE_MASK && le32_get(b.reserved) == 0;
}

static bool xattr_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_xattr b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return !(le32_get(b.flags) & ~XATTR_FLAGS) && le32_get(b.reserved) == 0;
}

static bool link_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_link b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le64_get(b.ino) != 0;
}

static bool rename_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_rename b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le64_get(b.from_dir) && le64_get(b.to_dir) &&
	       !(le32_get(b.flags) & ~RENAME_FLAGS);
}

static bool ino_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_ino b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le64_get(b.ino) != 0;
}

static bool reopen_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_reopen b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le64_get(b.ino) != 0 && le32_get(b.count) != 0 && le32_get(b.reserved) == 0;
}

static bool io_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_io b;

	memcpy(&b, fixed, sizeof(b));
	if (le64_get(b.ino) == 0 || le32_get(b.reserved) != 0)
		return false;
	if (le64_get(b.offset) > INT64_MAX || (le32_get(b.flags) & ~WIRE_IO_APPEND))
		return false;
	if (op != OP_READ && op != OP_WRITE && op != OP_BLOCKS)
		return true;
	if (op != OP_WRITE && le32_get(b.flags))
		return false;
	return le32_get(b.length) <= WIRE_DATA_MAX &&
	       le64_get(b.offset) % WFS_CHUNK_SIZE + le32_get(b.length) <= WFS_CHUNK_SIZE;
}

static bool io_reply_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_io_reply b;

	memcpy(&b, fixed, sizeof(b));
	if ((le32_get(b.flags) & ~(WIRE_IO_INODE_DONE | WIRE_IO_HOLE)) ||
		le32_get(b.reserved) != 0)
		return false;
	return (op != OP_READ && op != OP_WRITE) || le32_get(b.length) <= WIRE_DATA_MAX;
}

static bool scan_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_scan b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le32_get(b.reserved) == 0;
}

static bool readdir_reply_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_readdir_reply b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return b.eof <= 1 && is_zero(b.reserved, sizeof(b.reserved));
}

static bool scan_reply_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_scan_reply b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return b.eof <= 1 && is_zero(b.reserved, sizeof(b.reserved));
}

static bool make_root_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_make_root b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le32_get(b.mode) <= MODE_MASK;
}

static bool entry_reply_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_entry_reply b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return b.dtype <= 15 && is_zero(b.reserved, sizeof(b.reserved));
}

static bool txn_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_txn b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le64_get(b.txid) != 0 && b.outcome <= TXN_ABORT &&
	       is_zero(b.reserved, sizeof(b.reserved));
}

static bool purge_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_purge b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le64_get(b.ino) != 0 && le32_get(b.keep_bytes) <= WFS_CHUNK_SIZE &&
	       b.forget <= 1 && b.find <= 1 && is_zero(b.reserved, sizeof(b.reserved));
}

static bool join_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_join b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return le16_get(b.reserved) == 0 && le32_get(b.epoch) != 0;
}

static bool replicate_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_replicate b;
	uint32_t ops_max;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	ops_max = b.flags & REPLICATE_OPS_IN_DATA ? WIRE_DATA_MAX
						  : (uint32_t)REPLICATE_BODY_OPS_MAX;
	return b.kind <= REPLICATE_KIND_MAX && b.flags <= REPLICATE_OPS_IN_DATA &&
	       le32_get(b.epoch) != 0 && le32_get(b.record_epoch) <= le32_get(b.epoch) &&
	       le32_get(b.block_count) <= WFS_CHUNK_BLOCKS &&
	       (!b.flags || le32_get(b.block_count) == 0) &&
	       le32_get(b.ops_size) <= ops_max;
}

static bool walked_ok(uint16_t op, const uint8_t *fixed)
{
	struct wire_walk_reply b;

	(void)op;
	memcpy(&b, fixed, sizeof(b));
	return b.end <= WIRE_WALK_END_MAX &&
	       b.flags <= (WIRE_WALK_MUST_BE_DIR | WIRE_WALK_HAS_ATTR | WIRE_WALK_CREATED |
				  WIRE_WALK_PURGING) &&
	       le32_get(b.consumed) <= WFS_PATH_MAX &&
	       le32_get(b.name_at) <= WFS_PATH_MAX &&
	       le32_get(b.name_size) <= WFS_PATH_MAX - le32_get(b.name_at);
}

#define NOTHING                                                                          \
	{                                                                                \
		0, TAIL_NONE, false, NULL                                                \
	}
#define WALKED                                                                           \
	{                                                                                \
		sizeof(struct wire_walk_reply), TAIL_WALKED, false, walked_ok            \
	}
#define PATH(type, tail, ok)                                                             \
	{                                                                                \
		sizeof(struct type), tail, false, ok                                     \
	}
#define FIXED(type, ok)                                                                  \
	{                                                                                \
		sizeof(struct type), TAIL_NONE, false, ok                                \
	}

static const struct op_rule op_rules[OP_MAX] = {
	[OP_PING] = {"ping", NOTHING, NOTHING},
	[OP_WALK] = {"walk", PATH(wire_walk, TAIL_PATH, NULL), WALKED},
	[OP_OPEN] = {"open", PATH(wire_open, TAIL_PATH, open_ok), WALKED},
	[OP_SETATTR] = {"setattr", PATH(wire_setattr, TAIL_PATH, setattr_ok), WALKED},
	[OP_MKNOD] = {"mknod", PATH(wire_mknod, TAIL_PATH, mknod_ok), WALKED},
	[OP_MKDIR] = {"mkdir", PATH(wire_mknod, TAIL_PATH, mknod_ok), WALKED},
	[OP_SYMLINK] = {"symlink", PATH(wire_symlink, TAIL_TARGET, NULL), WALKED},
	[OP_READLINK] = {"readlink", PATH(wire_path, TAIL_PATH, NULL), WALKED},
	[OP_UNLINK] = {"unlink", PATH(wire_path, TAIL_PATH, NULL), WALKED},
	[OP_RMDIR] = {"rmdir", PATH(wire_path, TAIL_PATH, NULL), WALKED},
	[OP_LINK] = {"link", PATH(wire_link, TAIL_PATH, link_ok), WALKED},
	[OP_GETXATTR] = {"getxattr", PATH(wire_xattr, TAIL_XATTR, xattr_ok), WALKED},
	[OP_SETXATTR] = {"setxattr", PATH(wire_xattr, TAIL_XATTR, xattr_ok), WALKED},
	[OP_LISTXATTR] = {"listxattr", PATH(wire_xattr, TAIL_PATH, xattr_ok), WALKED},
	[OP_REMOVEXATTR] = {"removexattr", PATH(wire_xattr, TAIL_XATTR, xattr_ok),
		WALKED},
	[OP_RENAME] = {"rename",
		{sizeof(struct wire_rename), TAIL_RENAME, false, rename_ok}, NOTHING},
	[OP_READDIR] = {"readdir", FIXED(wire_readdir, ino_ok),
		FIXED(wire_readdir_reply, readdir_reply_ok)},
	[OP_CLOSE] = {"close", FIXED(wire_ino, ino_ok), NOTHING},
	[OP_READ] = {"read", FIXED(wire_io, io_ok), FIXED(wire_io_reply, io_reply_ok)},
	[OP_WRITE] = {"write", FIXED(wire_io, io_ok), FIXED(wire_io_reply, io_reply_ok)},
	[OP_EXTEND] = {"extend", FIXED(wire_io, io_ok),
		{sizeof(struct wire_io_reply), TAIL_NONE, true, io_reply_ok}},
	[OP_APPEND] = {"append", FIXED(wire_io, io_ok),
		FIXED(wire_io_reply, io_reply_ok)},
	[OP_REOPEN] = {"reopen", FIXED(wire_reopen, reopen_ok), NOTHING},
	[OP_REPAIRS] = {"repairs", NOTHING, FIXED(wire_repairs, NULL)},
	[OP_SHARD_STATS] = {"shard-stats", NOTHING, FIXED(wire_shard_stats, NULL)},
	[OP_SESSION_END] = {"session-end", NOTHING, NOTHING},
	[OP_SCAN] = {"scan", {sizeof(struct wire_scan), TAIL_KEY, false, scan_ok},
		FIXED(wire_scan_reply, scan_reply_ok)},
	[OP_MAKE_ROOT] = {"make-root", FIXED(wire_make_root, make_root_ok),
		FIXED(wire_ino, ino_ok)},
	[OP_ENTRY] = {"entry", {sizeof(struct wire_ino), TAIL_NAME, false, ino_ok},
		FIXED(wire_entry_reply, entry_reply_ok)},
	[OP_PREPARE] = {"prepare", {sizeof(struct wire_txn), TAIL_PART, false, txn_ok},
		FIXED(wire_ino, NULL)},
	[OP_RESOLVE] = {"resolve", FIXED(wire_txn, txn_ok), NOTHING},
	[OP_TXN_STATUS] = {"txn-status", FIXED(wire_txn, txn_ok),
		FIXED(wire_txn, txn_ok)},
	[OP_RENAME_LOCK] = {"rename-lock", FIXED(wire_txn, txn_ok), NOTHING},
	[OP_RENAME_UNLOCK] = {"rename-unlock", FIXED(wire_txn, txn_ok), NOTHING},
	[OP_CHUNK_PURGE] = {"chunk-purge", FIXED(wire_purge, purge_ok),
		FIXED(wire_purge_reply, NULL)},
	[OP_JOIN] = {"join", FIXED(wire_join, join_ok),
		FIXED(wire_join_reply, NULL)},
	[OP_REPLICATE] = {"replicate",
		{sizeof(struct wire_replicate), TAIL_OPS, false, replicate_ok}, NOTHING},
	[OP_BLOCKS] = {"blocks", FIXED(wire_io, io_ok), FIXED(wire_io_reply, io_reply_ok)},
};

static const struct op_rule *op_rule(uint16_t op)
{
	return op < OP_MAX && op_rules[op].name ? &op_rules[op] : NULL;
}

const char *wire_op_name(uint16_t op)
{
	const struct op_rule *rule = op_rule(op);

	return rule ? rule->name : "?";
}

static bool name_ok(const uint8_t *name, size_t size)
{
	return size >= 1 && size <= WFS_NAME_MAX && !memchr(name, 0, size) &&
	       !memchr(name, '/', size);
}

static bool path_tail_ok(
	enum tail tail, const uint8_t *fixed, const uint8_t *rest, size_t rest_size)
{
	struct wire_path p;
	size_t path_size;
	size_t extra_size;
	size_t extra_max = 0;

	memcpy(&p, fixed, sizeof(p));
	path_size = le16_get(p.path_size);
	extra_size = le16_get(p.extra_size);
	if (le64_get(p.start) == 0 || p.mode > WIRE_WALK_MODE_MAX ||
		p.want > WIRE_WANT_MAX || !is_zero(p.reserved, sizeof(p.reserved)))
		return false;
	if (tail == TAIL_TARGET)
		extra_max = WFS_SYMLINK_MAX;
	if (tail == TAIL_XATTR)
		extra_max = WFS_XATTR_NAME_MAX;
	if (path_size > WFS_PATH_MAX || extra_size > extra_max ||
		(extra_max && extra_size == 0))
		return false;
	return path_size + extra_size == rest_size && !memchr(rest, 0, rest_size);
}

static bool tail_ok(
	enum tail tail, const uint8_t *fixed, const uint8_t *rest, size_t rest_size)
{
	struct wire_rename rename;
	struct wire_scan scan;
	struct wire_replicate replicate;
	struct wire_walk_reply walked;
	size_t from_size;

	switch (tail) {
	case TAIL_NONE: return rest_size == 0;
	case TAIL_PATH:
	case TAIL_TARGET:
	case TAIL_XATTR: return path_tail_ok(tail, fixed, rest, rest_size);
	case TAIL_RENAME:
		memcpy(&rename, fixed, sizeof(rename));
		from_size = le16_get(rename.from_size);
		return from_size + le16_get(rename.to_size) == rest_size &&
		       name_ok(rest, from_size) &&
		       name_ok(rest + from_size, rest_size - from_size);
	case TAIL_NAME: return name_ok(rest, rest_size);
	case TAIL_KEY:
		memcpy(&scan, fixed, sizeof(scan));
		return le16_get(scan.key_size) == rest_size;
	case TAIL_PART: return rest_size > 0;
	case TAIL_OPS:
		memcpy(&replicate, fixed, sizeof(replicate));
		return rest_size == (replicate.flags & REPLICATE_OPS_IN_DATA
					    ? 0
					    : le32_get(replicate.ops_size));
	case TAIL_WALKED:
		memcpy(&walked, fixed, sizeof(walked));
		return le16_get(walked.target_size) == rest_size &&
		       rest_size <= WFS_SYMLINK_MAX && !memchr(rest, 0, rest_size);
	}
	return false;
}

int wire_body_check(uint16_t op, const void *body, size_t size_bytes, bool is_reply)
{
	const struct op_rule *rule = op_rule(op);
	const struct body_rule *b;
	const uint8_t *bytes = body ? body : (const uint8_t *)"";

	if (!rule || size_bytes > WIRE_BODY_MAX)
		return -EPROTO;
	b = is_reply ? &rule->reply : &rule->request;
	if (size_bytes == 0 && b->optional)
		return 0;
	if (size_bytes < b->fixed_size)
		return -EPROTO;
	if (b->fields_ok && !b->fields_ok(op, bytes))
		return -EPROTO;
	if (!tail_ok(b->tail, bytes, bytes + b->fixed_size, size_bytes - b->fixed_size))
		return -EPROTO;
	return 0;
}

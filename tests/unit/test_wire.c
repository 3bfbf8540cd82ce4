/* The wire's validation: a table of good and bad bodies, golden bytes, mutations. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/env.h"
#include "net/wire.h"

#define CLUSTER 0x0807060504030201u

static uint8_t message[WIRE_MESSAGE_MAX + 1];

/* A request: READ of 4096 bytes at 1 MiB of inode 0x2a, two groups. */
static size_t read_request(void)
{
	struct wire_head h = {
		.magic = le32_put(WIRE_MAGIC),
		.version = WIRE_VERSION,
		.kind = WIRE_REQUEST,
		.op = le16_put(OP_READ),
		.cluster = le64_put(CLUSTER),
		.request = le64_put(0x1111),
		.map_epoch = le64_put(7),
		.bucket_epoch = le32_put(3),
		.bucket = le16_put(5),
		.session = le64_put(0x2222),
		.seq = le32_put(9),
		.slot = le16_put(4),
		.group_count = le16_put(2),
		.timeout_ms = le32_put(5000),
		.uid = le32_put(1000),
		.gid = le32_put(100),
		.body_size = le32_put(sizeof(struct wire_io)),
		.data_max = le32_put(4096),
		.sender = le32_put(12),
	};
	const le32 groups[2] = {le32_put(27), le32_put(28)};
	struct wire_io io = {.ino = le64_put(0x2a),
		.offset = le64_put(1u << 20),
		.length = le32_put(4096)};

	memcpy(message, &h, sizeof(h));
	memcpy(message + sizeof(h), groups, sizeof(groups));
	memcpy(message + sizeof(h) + sizeof(groups), &io, sizeof(io));
	wire_message_seal(message, sizeof(h) + sizeof(groups) + sizeof(io));
	return sizeof(h) + sizeof(groups) + sizeof(io);
}

static int check(size_t size)
{
	return wire_message_check(message, size, CLUSTER, true);
}

/* With the head changed and the crc made right again. */
#define WITH(field, value)                                                               \
	({                                                                               \
		size_t size_ = read_request();                                           \
		struct wire_head h_;                                                     \
		memcpy(&h_, message, sizeof(h_));                                        \
		h_.field = (value);                                                      \
		memcpy(message, &h_, sizeof(h_));                                        \
		wire_message_seal(message, size_);                                       \
		check(size_);                                                            \
	})

Test(wire, golden_bytes)
{
	static const char golden[] =
		"57464d3102011300010203040506070811110000000000000700000000000000"
		"0300000005000000222200000000000009000000040002008813000000000000"
		"e8030000640000002000000000000000001000007c21df7d0000000000000000"
		"00000000000000000c0000000000000000000000000000001b0000001c000000"
		"2a00000000000000000010000000000000100000000000000000000000000000";
	char hex[1024];
	size_t size = read_request();

	cr_assert_eq(check(size), 0);
	for (size_t i = 0; i < size; i++)
		snprintf(hex + 2 * i, 3, "%02x", message[i]);
	cr_assert_str_eq(hex, golden);
}

Test(wire, head_rules)
{
	size_t size = read_request();

	cr_assert_eq(check(size), 0);
	cr_assert_eq(wire_message_check(message, size, CLUSTER + 1, true), -EXDEV);
	cr_assert_eq(check(size - 1), -EPROTO);
	cr_assert_eq(check(0), -EPROTO);
	cr_assert_eq(check(sizeof(struct wire_head) - 1), -EPROTO);
	cr_assert_eq(check(sizeof(message)), -EPROTO);
	cr_assert_eq(WITH(magic, le32_put(1)), -EPROTO);
	cr_assert_eq(WITH(version, 1), -EPROTONOSUPPORT);
	cr_assert_eq(WITH(kind, 3), -EPROTO);
	cr_assert_eq(WITH(op, le16_put(0)), -EPROTO);
	cr_assert_eq(WITH(op, le16_put(40)), -EPROTO);
	cr_assert_eq(WITH(op, le16_put(OP_MAX)), -EPROTO);
	cr_assert_eq(WITH(reserved, le32_put(1)), -EPROTO);
	cr_assert_eq(WITH(flags, le16_put(4)), -EPROTO);
	cr_assert_eq(WITH(flags, le16_put(HEAD_TO_SHARD)), 0);
	cr_assert_eq(WITH(flags, le16_put(HEAD_INLINE)), -EPROTO);
	cr_assert_eq(WITH(status, le32_put(5)), -EPROTO);
	cr_assert_eq(WITH(group_count, le16_put(3)), -EPROTO);
	cr_assert_eq(WITH(group_count, le16_put(65)), -EPROTO);
	cr_assert_eq(WITH(body_size, le32_put(31)), -EPROTO);
	cr_assert_eq(WITH(body_size, le32_put(UINT32_MAX)), -EPROTO);
	cr_assert_eq(WITH(data_size, le32_put(WIRE_DATA_MAX + 1)), -EPROTO);
	cr_assert_eq(WITH(data_max, le32_put(WIRE_DATA_MAX)), 0);
	cr_assert_eq(WITH(data_max, le32_put(WIRE_DATA_MAX + 1)), -EPROTO);
	cr_assert_eq(WITH(fill, le32_put(1)), -EPROTO);
	/* As a reply it has too much: groups, room for data. */
	cr_assert_eq(WITH(kind, WIRE_REPLY), -EPROTO);
}

Test(wire, a_reply_tells_a_fill)
{
	struct wire_head h = {
		.magic = le32_put(WIRE_MAGIC),
		.version = WIRE_VERSION,
		.kind = WIRE_REPLY,
		.op = le16_put(OP_PING),
		.cluster = le64_put(CLUSTER),
		.sender = le32_put(12),
		.fill = le32_put(0x80000000u),
	};

	memcpy(message, &h, sizeof(h));
	wire_message_seal(message, sizeof(h));
	cr_assert_eq(check(sizeof(h)), 0);
	h.status = le32_put(EIO);
	memcpy(message, &h, sizeof(h));
	wire_message_seal(message, sizeof(h));
	cr_assert_eq(check(sizeof(h)), 0);
}

Test(wire, every_flipped_bit_is_noticed)
{
	size_t size = read_request();

	for (size_t bit = 0; bit < size * 8; bit++) {
		message[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_assert_neq(check(size), 0, "bit %zu", bit);
		message[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	cr_assert_eq(check(size), 0);
}

static uint8_t body[WIRE_BODY_MAX + 1];

static int path_body(uint16_t op, size_t fixed, const char *path, const char *extra)
{
	struct wire_path p = {.start = le64_put(1),
		.path_size = le16_put((uint16_t)strlen(path)),
		.extra_size = le16_put((uint16_t)strlen(extra))};

	memset(body, 0, sizeof(body));
	memcpy(body, &p, sizeof(p));
	memcpy(body + fixed, path, strlen(path));
	memcpy(body + fixed + strlen(path), extra, strlen(extra));
	return wire_body_check(op, body, fixed + strlen(path) + strlen(extra), false);
}

Test(wire, paths)
{
	static const struct {
		uint16_t op;
		size_t fixed;
		bool has_extra;
	} ops[] = {
		{OP_WALK, sizeof(struct wire_walk), false},
		{OP_OPEN, sizeof(struct wire_open), false},
		{OP_SETATTR, sizeof(struct wire_setattr), false},
		{OP_MKNOD, sizeof(struct wire_mknod), false},
		{OP_MKDIR, sizeof(struct wire_mknod), false},
		{OP_SYMLINK, sizeof(struct wire_symlink), true},
		{OP_READLINK, sizeof(struct wire_path), false},
		{OP_UNLINK, sizeof(struct wire_path), false},
		{OP_RMDIR, sizeof(struct wire_path), false},
		{OP_GETXATTR, sizeof(struct wire_xattr), true},
		{OP_SETXATTR, sizeof(struct wire_xattr), true},
		{OP_LISTXATTR, sizeof(struct wire_xattr), false},
		{OP_REMOVEXATTR, sizeof(struct wire_xattr), true},
	};
	char longest[WFS_PATH_MAX + 2] = {0};

	memset(longest, 'a', WFS_PATH_MAX + 1);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		const char *extra = ops[i].has_extra ? "user.x" : "";
		const char *wrong = ops[i].has_extra ? "" : "x";
		uint16_t op = ops[i].op;
		size_t n = ops[i].fixed;
		const char *name = wire_op_name(op);
		cr_assert_eq(path_body(op, n, "a/b", extra), 0, "%s", name);
		cr_assert_eq(path_body(op, n, "", extra), 0, "%s", name);
		cr_assert_eq(path_body(op, n, "a", wrong), -EPROTO, "%s", name);
		cr_assert_eq(path_body(op, n, longest, extra), -EPROTO, "%s", name);
		cr_assert_eq(path_body(op, n, longest + 1, extra), 0, "%s", name);
		/* One byte short, one too many, NUL inside, bad mode, reserved, start 0.
		 */
		size_t size = n + 3 + strlen(extra);
		path_body(op, n, "a/b", extra);
		cr_assert_eq(wire_body_check(op, body, size - 1, false), -EPROTO);
		cr_assert_eq(wire_body_check(op, body, size + 1, false), -EPROTO);
		cr_assert_eq(wire_body_check(op, body, n - 1, false), -EPROTO);
		body[n + 1] = 0;
		cr_assert_eq(wire_body_check(op, body, size, false), -EPROTO);
		body[n + 1] = '/';
		body[offsetof(struct wire_path, mode)] = 3;
		cr_assert_eq(wire_body_check(op, body, size, false), -EPROTO);
		body[offsetof(struct wire_path, mode)] = 2;
		cr_assert_eq(wire_body_check(op, body, size, false), 0);
		body[offsetof(struct wire_path, want)] = WIRE_WANT_MAX;
		cr_assert_eq(wire_body_check(op, body, size, false), 0);
		body[offsetof(struct wire_path, want)] = WIRE_WANT_MAX + 1;
		cr_assert_eq(wire_body_check(op, body, size, false), -EPROTO);
		body[offsetof(struct wire_path, want)] = 0;
		body[offsetof(struct wire_path, reserved)] = 1;
		cr_assert_eq(wire_body_check(op, body, size, false), -EPROTO);
		body[offsetof(struct wire_path, reserved)] = 0;
		body[0] = 0;
		cr_assert_eq(wire_body_check(op, body, size, false), -EPROTO);
	}
}

static int io(uint16_t op, uint64_t ino, uint64_t offset, uint32_t length, uint32_t flags)
{
	struct wire_io b = {.ino = le64_put(ino),
		.offset = le64_put(offset),
		.length = le32_put(length),
		.flags = le32_put(flags)};

	return wire_body_check(op, &b, sizeof(b), false);
}

Test(wire, io_stays_in_its_chunk)
{
	cr_assert_eq(io(OP_READ, 1, 0, WFS_CHUNK_SIZE, 0), 0);
	cr_assert_eq(io(OP_READ, 1, 1, WFS_CHUNK_SIZE, 0), -EPROTO);
	cr_assert_eq(io(OP_WRITE, 1, WFS_CHUNK_SIZE - 1, 1, 0), 0);
	cr_assert_eq(io(OP_WRITE, 1, WFS_CHUNK_SIZE - 1, 2, 0), -EPROTO);
	cr_assert_eq(io(OP_WRITE, 1, 0, UINT32_MAX, 0), -EPROTO);
	cr_assert_eq(io(OP_WRITE, 1, UINT64_MAX, 1, 0), -EPROTO);
	cr_assert_eq(io(OP_WRITE, 0, 0, 1, 0), -EPROTO);
	cr_assert_eq(io(OP_WRITE, 1, 0, 1, WIRE_IO_APPEND), 0);
	cr_assert_eq(io(OP_WRITE, 1, 0, 1, 2), -EPROTO);
	cr_assert_eq(io(OP_READ, 1, 0, 1, WIRE_IO_APPEND), -EPROTO);
	cr_assert_eq(io(OP_EXTEND, 1, 5 * WFS_CHUNK_SIZE + 3, 0, 0), 0);
	cr_assert_eq(io(OP_APPEND, 1, 0, 3 * WFS_CHUNK_SIZE, 0), 0);
}

Test(wire, flags_of_replies)
{
	struct wire_io_reply io_reply = {.flags = le32_put(WIRE_IO_HOLE)};
	struct wire_walk_reply walked = {
		.flags = WIRE_WALK_HAS_ATTR | WIRE_WALK_PURGING};

	cr_assert_eq(wire_body_check(OP_READ, &io_reply, sizeof(io_reply), true), 0);
	io_reply.flags = le32_put(4);
	cr_assert_eq(wire_body_check(OP_READ, &io_reply, sizeof(io_reply), true), -EPROTO);
	cr_assert_eq(wire_body_check(OP_SETATTR, &walked, sizeof(walked), true), 0);
	walked.flags = 16;
	cr_assert_eq(wire_body_check(OP_SETATTR, &walked, sizeof(walked), true), -EPROTO);
}

static int rename_body(const char *from, const char *to, uint32_t flags)
{
	struct wire_rename b = {.from_dir = le64_put(1),
		.to_dir = le64_put(2),
		.from_size = le16_put((uint16_t)strlen(from)),
		.to_size = le16_put((uint16_t)strlen(to)),
		.flags = le32_put(flags)};

	memcpy(body, &b, sizeof(b));
	memcpy(body + sizeof(b), from, strlen(from));
	memcpy(body + sizeof(b) + strlen(from), to, strlen(to));
	return wire_body_check(
		OP_RENAME, body, sizeof(b) + strlen(from) + strlen(to), false);
}

Test(wire, names)
{
	char longest[WFS_NAME_MAX + 2] = {0};

	memset(longest, 'n', WFS_NAME_MAX + 1);
	cr_assert_eq(rename_body("a", "b", 0), 0);
	cr_assert_eq(rename_body("a", "b", 3), 0);
	cr_assert_eq(rename_body("a", "b", 4), -EPROTO);
	cr_assert_eq(rename_body("", "b", 0), -EPROTO);
	cr_assert_eq(rename_body("a", "", 0), -EPROTO);
	cr_assert_eq(rename_body("a/c", "b", 0), -EPROTO);
	cr_assert_eq(rename_body("a", longest, 0), -EPROTO);
	cr_assert_eq(rename_body("a", longest + 1, 0), 0);
}

Test(wire, replies)
{
	struct wire_walk_reply walk = {.end = 3, .target_size = le16_put(3)};
	struct wire_io_reply io_reply = {.length = le32_put(WIRE_DATA_MAX)};

	memcpy(body, &walk, sizeof(walk));
	memcpy(body + sizeof(walk), "a/b", 3);
	cr_assert_eq(wire_body_check(OP_WALK, body, sizeof(walk) + 3, true), 0);
	cr_assert_eq(wire_body_check(OP_WALK, body, sizeof(walk) + 2, true), -EPROTO);
	body[0] = 4;
	cr_assert_eq(wire_body_check(OP_WALK, body, sizeof(walk) + 3, true), -EPROTO);
	walk.name_at = le32_put(4000);
	walk.name_size = le32_put(97);
	cr_assert_eq(wire_body_check(OP_WALK, &walk, sizeof(walk), true), -EPROTO);
	cr_assert_eq(wire_body_check(OP_READ, &io_reply, sizeof(io_reply), true), 0);
	io_reply.length = le32_put(WIRE_DATA_MAX + 1);
	cr_assert_eq(
		wire_body_check(OP_READ, &io_reply, sizeof(io_reply), true), -EPROTO);
	cr_assert_eq(wire_body_check(OP_EXTEND, NULL, 0, true), 0);
	cr_assert_eq(wire_body_check(OP_READ, NULL, 0, true), -EPROTO);
	cr_assert_eq(wire_body_check(OP_PING, NULL, 0, true), 0);
	cr_assert_eq(wire_body_check(OP_PING, body, 1, true), -EPROTO);
}

Test(wire, names_of_ops)
{
	cr_assert_str_eq(wire_op_name(OP_CHUNK_PURGE), "chunk-purge");
	cr_assert_str_eq(wire_op_name(0), "?");
	cr_assert_str_eq(wire_op_name(OP_NODE_FIRST - 1), "?");
	cr_assert_str_eq(wire_op_name(UINT16_MAX), "?");
	for (uint16_t op = OP_PING; op <= OP_MAKE_ROOT; op++)
		cr_assert_str_neq(wire_op_name(op), "?", "%u", op);
	for (uint16_t op = OP_NODE_FIRST; op < OP_MAX; op++)
		cr_assert_str_neq(wire_op_name(op), "?", "%u", op);
}

/* Whatever passes has the sizes it claims. Buffers are exact, for the sanitizer. */
Test(wire, mutations)
{
	struct env_sim sim;
	unsigned passed = 0;

	env_sim_init(&sim, 20240229);
	for (int i = 0; i < 300000; i++) {
		uint16_t op = (uint16_t)(env_random(&sim.env) % (OP_MAX + 2));
		size_t size = env_random(&sim.env) % 200;
		uint8_t *exact = malloc(size + 1);
		for (size_t k = 0; k < size; k++)
			exact[k] = env_random(&sim.env) % 4
					   ? 0
					   : (uint8_t)env_random(&sim.env);
		passed += wire_body_check(op, exact, size, i % 2) == 0;
		free(exact);
	}
	cr_assert_gt(passed, 100);
	for (int i = 0; i < 100000; i++) {
		size_t size = read_request();
		uint8_t *exact = malloc(size);
		for (int k = 0; k < 4; k++)
			message[env_random(&sim.env) % size] =
				(uint8_t)env_random(&sim.env);
		size -= env_random(&sim.env) % 8 ? 0 : env_random(&sim.env) % size;
		memcpy(exact, message, size);
		wire_message_check(exact, size, CLUSTER, false);
		cr_assert_neq(wire_message_check(exact, size, CLUSTER, true), 0);
		free(exact);
	}
}

/*
 * Clients: each does one operation after another, on few names and few files, so that
 * they meet. Each has its own session, slot and sequence numbers, and goes by the map of
 * one node, as programs do. What it did and what it saw is one struct op of the history.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/crc.h"

#define CHUNK      (1ull << 20)
#define READ_TRIES 12u

const char *const op_names[DO_COUNT] = {
	[DO_CREATE] = "create",
	[DO_OPEN] = "open",
	[DO_MKDIR] = "mkdir",
	[DO_UNLINK] = "unlink",
	[DO_RMDIR] = "rmdir",
	[DO_RENAME] = "rename",
	[DO_LINK] = "link",
	[DO_LOOKUP] = "lookup",
	[DO_READDIR] = "readdir",
	[DO_CHMOD] = "chmod",
	[DO_WRITE] = "write",
	[DO_READ] = "read",
	[DO_APPEND] = "append",
	[DO_TRUNCATE] = "truncate",
};

/* --- what is written --- */

struct cell_head {
	uint64_t magic;
	uint64_t ino;
	uint64_t offset;
	uint32_t number;
	uint32_t crc;
};

#define CELL_MAGIC   0x6c6c65632d736677u
#define RECORD_MAGIC 0x64726365u

static void pattern_fill(uint8_t *bytes, size_t size, uint32_t number)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(number * 31 + i * 7 + 1);
}

void cell_fill(uint8_t *cell, ino_id ino, uint64_t offset, uint32_t number)
{
	struct cell_head head = {CELL_MAGIC, ino, offset, number, 0};

	pattern_fill(cell + sizeof(head), CELL_SIZE - sizeof(head), number);
	memcpy(cell, &head, sizeof(head));
	head.crc = crc32c(cell, CELL_SIZE);
	memcpy(cell, &head, sizeof(head));
}

uint32_t cell_read(const uint8_t *cell, ino_id ino, uint64_t offset)
{
	static const uint8_t zeros[CELL_SIZE];
	uint8_t copy[CELL_SIZE];
	struct cell_head head;
	uint32_t crc;

	if (memcmp(cell, zeros, CELL_SIZE) == 0)
		return 0;
	memcpy(copy, cell, CELL_SIZE);
	memcpy(&head, copy, sizeof(head));
	crc = head.crc;
	head.crc = 0;
	memcpy(copy, &head, sizeof(head));
	check(head.magic == CELL_MAGIC && crc32c(copy, CELL_SIZE) == crc,
		"garbage in file %" PRIx64 " at %" PRIu64, ino, offset);
	check(head.ino == ino && head.offset == offset,
		"file %" PRIx64 " at %" PRIu64 " has what op %u wrote to %" PRIx64
		" at %" PRIu64,
		ino, offset, head.number, head.ino, head.offset);
	return head.number;
}

uint32_t record_size_of(uint32_t number)
{
	return 64 + number * 2654435761u % 2000;
}

void record_fill(uint8_t *record, uint32_t number)
{
	uint32_t size = record_size_of(number);
	uint32_t head[4] = {RECORD_MAGIC, number, size, 0};

	pattern_fill(record + sizeof(head), size - sizeof(head), number);
	head[3] = crc32c(record + sizeof(head), size - sizeof(head));
	memcpy(record, head, sizeof(head));
}

/* --- the history --- */

void op_keep(const struct op *op)
{
	if (sim.history_count == sim.history_room) {
		sim.history_room = sim.history_room ? 2 * sim.history_room : 256;
		sim.history = realloc(
			sim.history, sim.history_room * sizeof(*sim.history));
	}
	sim.history[sim.history_count++] = *op;
}

static void op_print(const struct op *op, char *text, size_t size)
{
	char from[16], to[16];

	snprintf(from, sizeof(from), "/%c/n%u", 'a' + op->dir, op->name);
	snprintf(to, sizeof(to), "/%c/n%u", 'a' + op->dir2, op->name2);
	switch (op->kind) {
	case DO_RENAME:
	case DO_LINK:
		snprintf(text, size, "%s %s flags %u", from, to, op->flags);
		break;
	case DO_READDIR: snprintf(text, size, "/%c", 'a' + op->dir); break;
	case DO_CHMOD:
		snprintf(text, size, "%" PRIx64 " %o", op->ino, op->mode);
		break;
	case DO_WRITE:
	case DO_READ:
	case DO_APPEND:
	case DO_TRUNCATE:
		snprintf(text, size, "%" PRIx64 " at %" PRIu64 " size %u", op->ino,
			op->offset, op->size);
		break;
	default:
		snprintf(text, size, "%s%s%" PRIx64, from, op->ino ? " = " : "", op->ino);
	}
}

static void op_trace(const struct client *c, const char *what)
{
	const struct op *op = &c->op;
	char text[96];

	if (!sim.loud)
		return;
	op_print(op, text, sizeof(text));
	if (what)
		trace("client %u op %u %s %s ...", c->number, op->number,
			op_names[op->kind], text);
	else
		trace("client %u op %u %s %s: %s", c->number, op->number,
			op_names[op->kind], text,
			op->status ? strerror(-op->status) : "done");
	if (!what && op->kind == DO_READ && op->status == 0) {
		printf("            saw");
		for (uint32_t i = 0; i < op->seen_count; i++)
			printf(" %u", op->seen[i]);
		printf("\n");
	}
}

/* --- choosing --- */

static ino_id file_choose(void)
{
	ino_id ino = 0;

	if (sim_chance(25))
		ino = sim.recent[sim_below(8)];
	return ino ? ino : sim.stable[sim_below(STABLE)];
}

static void range_choose(struct op *op)
{
	uint32_t cells = 1 + (uint32_t)sim_below(sim_chance(70) ? 4 : 12);
	uint64_t first = sim_below(4) * (sim_chance(50) ? 1 : 4);

	op->offset = first * CELL_SIZE;
	if (sim.big && sim_chance(40))
		op->offset += (1 + sim_below(2)) * CHUNK;
	op->size = cells * CELL_SIZE;
}

static enum op_kind kind_choose(void)
{
	static const unsigned weights[DO_COUNT] = {
		[DO_CREATE] = 8,
		[DO_OPEN] = 3,
		[DO_MKDIR] = 3,
		[DO_UNLINK] = 5,
		[DO_RMDIR] = 3,
		[DO_RENAME] = 8,
		[DO_LINK] = 4,
		[DO_LOOKUP] = 10,
		[DO_READDIR] = 4,
		[DO_CHMOD] = 3,
		[DO_WRITE] = 20,
		[DO_READ] = 18,
		[DO_APPEND] = 8,
		[DO_TRUNCATE] = 4,
	};
	unsigned total = 0;
	uint64_t at;

	for (unsigned i = 0; i < DO_COUNT; i++)
		total += sim.do_kind[i] ? weights[i] : 0;
	at = sim_below(total);
	for (unsigned i = 0;; i++) {
		unsigned weight = sim.do_kind[i] ? weights[i] : 0;

		if (at < weight)
			return (enum op_kind)i;
		at -= weight;
	}
}

static void op_choose(struct op *op)
{
	static const uint64_t sizes[] = {0, 2, 5, 8, 1024, 1024 + 3, 2048 + 1};

	*op = (struct op){.kind = kind_choose(),
		.number = ++sim.op_count,
		.begin = sim.event,
		.end = NEVER,
		.dir = (uint32_t)sim_below(DIRS),
		.name = (uint32_t)sim_below(NAMES),
		.dir2 = (uint32_t)sim_below(DIRS),
		.name2 = (uint32_t)sim_below(NAMES)};
	switch (op->kind) {
	case DO_CHMOD: {
		uint32_t which = (uint32_t)sim_below(STABLE);

		op->ino = sim.stable[which];
		if (++sim.modes[which] == 0644)
			sim.modes[which]++;
		op->mode = sim.modes[which];
		if (op->mode > 0777)
			op->kind = DO_LOOKUP;
		break;
	}
	case DO_WRITE:
	case DO_READ:
		op->ino = file_choose();
		range_choose(op);
		break;
	case DO_APPEND:
		op->ino = sim.logs[sim_below(LOGS)];
		op->size = record_size_of(op->number);
		break;
	case DO_TRUNCATE:
		op->ino = file_choose();
		op->offset = CELL_SIZE * sizes[sim_below(sim.big ? 7 : 4)];
		break;
	case DO_RENAME:
		if (op->dir == op->dir2 && op->name == op->name2)
			op->name2 = (op->name2 + 1) % NAMES;
		if (sim_chance(20))
			op->flags = 1u << sim_below(2);
		break;
	default: break;
	}
}

/* --- sending --- */

static void wop_dress(struct client *c)
{
	c->o.via = c->number % sim.w.shard_count;
	c->o.seqs = &c->seq;
	c->o.slot = 3;
	c->o.patience_us = sim.patience_us;
	c->o.session = 1000 + c->number;
	wop_begin(&c->o);
}

static void path_of_name(char *path, uint32_t dir, uint32_t name)
{
	sprintf(path, "/%c/n%u", 'a' + dir, name);
}

static void mknod_send(struct client *c, const char *path)
{
	struct wire_mknod wm = {.mode = le32_put(
					c->op.kind == DO_MKDIR ? 0755 : S_IFREG | 0644)};

	wop_init(&c->o, &sim.w, c->op.kind == DO_MKDIR ? OP_MKDIR : OP_MKNOD, path);
	wop_fixed(&c->o, &wm, sizeof(wm));
}

static void open_send(struct client *c, const char *path)
{
	struct wire_open wo = {
		.flags = le32_put(O_CREAT | O_RDWR), .mode = le32_put(0644)};

	wop_init(&c->o, &sim.w, OP_OPEN, path);
	wop_fixed(&c->o, &wo, sizeof(wo));
}

static void setattr_send(struct client *c, const struct wire_setattr *ws)
{
	wop_init(&c->o, &sim.w, OP_SETATTR, "");
	wop_fixed(&c->o, ws, sizeof(*ws));
	c->o.start = c->op.ino;
	c->o.mode = WIRE_NOFOLLOW;
}

static void data_fill(struct client *c)
{
	const struct op *op = &c->op;

	if (op->kind == DO_APPEND) {
		record_fill(c->data, op->number);
		return;
	}
	for (uint32_t at = 0; at < op->size; at += CELL_SIZE)
		cell_fill(c->data + at, op->ino, op->offset + at, op->number);
}

static void op_send(struct client *c)
{
	struct op *op = &c->op;
	char path[16], second[16];

	path_of_name(path, op->dir, op->name);
	path_of_name(second, op->dir2, op->name2);
	switch (op->kind) {
	case DO_CREATE:
	case DO_MKDIR: mknod_send(c, path); break;
	case DO_OPEN: open_send(c, path); break;
	case DO_UNLINK: wop_init(&c->o, &sim.w, OP_UNLINK, path); break;
	case DO_RMDIR: wop_init(&c->o, &sim.w, OP_RMDIR, path); break;
	case DO_RENAME: wop_rename(&c->o, &sim.w, path, second, op->flags); break;
	case DO_LINK: wop_link(&c->o, &sim.w, path, second); break;
	case DO_LOOKUP:
		wop_init(&c->o, &sim.w, OP_WALK, path);
		c->o.mode = WIRE_NOFOLLOW;
		break;
	case DO_READDIR:
		wop_readdir(&c->o, &sim.w, sim.dirs[op->dir], c->listing,
			sizeof(c->listing));
		break;
	case DO_CHMOD:
		setattr_send(c, &(struct wire_setattr){.mask = le32_put(SET_MODE),
					.mode = le32_put(op->mode)});
		break;
	case DO_TRUNCATE:
		setattr_send(c, &(struct wire_setattr){.mask = le32_put(SET_SIZE),
					.size = le64_put(op->offset)});
		break;
	case DO_READ: wop_stat(&c->o, &sim.w, op->ino); break;
	case DO_WRITE:
	case DO_APPEND:
		data_fill(c);
		wop_write(&c->o, &sim.w, op->ino, op->offset, c->data, op->size);
		c->o.append = op->kind == DO_APPEND;
		break;
	case DO_COUNT: abort();
	}
	wop_dress(c);
}

static void client_start(struct client *c)
{
	op_choose(&c->op);
	c->op.client = c->number;
	c->busy = true;
	c->step = c->tries = 0;
	op_trace(c, "begins");
	op_send(c);
}

/* --- what came of it --- */

static bool outcome_unknown(int status)
{
	switch (-status) {
	case EIO:
	case ETIMEDOUT:
	case EREMCHG:
	case EAGAIN:
	case ESHUTDOWN:
	case EINPROGRESS:
	case ENOMEM:
	case EBUSY: return true;
	default: return false;
	}
}

static void recent_add(ino_id ino, uint32_t mode)
{
	if (S_ISREG(mode))
		sim.recent[sim_below(8)] = ino;
}

static void cells_see(struct client *c, uint32_t have)
{
	struct op *op = &c->op;

	memset(c->data + have, 0, op->size - have);
	op->seen_count = op->size / CELL_SIZE;
	op->seen = calloc(op->seen_count, sizeof(*op->seen));
	for (uint32_t i = 0; i < op->seen_count; i++)
		op->seen[i] = cell_read(c->data + i * CELL_SIZE, op->ino,
			op->offset + i * CELL_SIZE);
}

static bool read_again(struct client *c)
{
	c->step = 0;
	if (++c->tries > READ_TRIES)
		return false;
	op_send(c);
	return true;
}

/* True when more is to come. */
static bool read_goes_on(struct client *c)
{
	struct op *op = &c->op;
	uint32_t size = op->size;
	struct attr attr;

	if (c->step == 1) {
		if (c->o.status == -ESTALE)
			return read_again(c);
		if (c->o.status)
			return false;
		if (le32_get(c->o.io.flags) & WIRE_IO_HOLE) {
			c->step = 2;
			wop_stat(&c->o, &sim.w, op->ino);
			wop_dress(c);
			return true;
		}
		cells_see(c, c->o.reply_data_size);
		return false;
	}
	if (c->o.status)
		return false;
	wire_attr_take(&c->o.reply.attr, &attr);
	if (attr.nlink == 0) { /* it goes away: nobody has it open */
		c->o.status = -ESTALE;
		return false;
	}
	if (c->step == 2) { /* a hole, and the file is still there */
		if (attr.generation != c->generation)
			return read_again(c);
		cells_see(c, 0);
		return false;
	}
	op->mode = attr.mode;
	c->generation = attr.generation;
	if (op->offset >= attr.size_bytes) {
		cells_see(c, 0);
		return false;
	}
	if (size > attr.size_bytes - op->offset)
		size = (uint32_t)(attr.size_bytes - op->offset);
	c->step = 1;
	wop_read(&c->o, &sim.w, op->ino, op->offset, c->data, size);
	c->o.generation = attr.generation;
	wop_dress(c);
	return true;
}

static bool open_goes_on(struct client *c)
{
	if (c->step == 1) {
		c->o.status = 0; /* whatever came of the close */
		return false;
	}
	if (c->o.status)
		return false;
	c->op.ino = le64_get(c->o.reply.attr.ino);
	c->op.flags = c->o.reply.flags & WIRE_WALK_CREATED;
	c->step = 1;
	wop_close(&c->o, &sim.w, c->op.ino);
	wop_dress(c);
	return true;
}

static void listing_see(struct client *c)
{
	struct op *op = &c->op;

	op->seen_count = NAMES;
	op->seen_inos = calloc(NAMES, sizeof(*op->seen_inos));
	check(c->o.listing.eof, "a directory of few names in several pieces");
	for (uint32_t at = 0; at < c->o.reply_data_size;) {
		const char *name =
			(const char *)c->listing + at + sizeof(struct wire_dirent);
		struct wire_dirent d;

		memcpy(&d, c->listing + at, sizeof(d));
		if (name[0] == 'n' && le16_get(d.name_size) == 2)
			op->seen_inos[name[1] - '0'] = le64_get(d.ino);
		at += (uint32_t)WIRE_DIRENT_SIZE(le16_get(d.name_size));
	}
}

static void result_take(struct client *c)
{
	struct op *op = &c->op;

	switch (op->kind) {
	case DO_CREATE:
	case DO_MKDIR:
	case DO_LOOKUP:
		op->ino = le64_get(c->o.reply.attr.ino);
		recent_add(op->ino, le32_get(c->o.reply.attr.mode));
		break;
	case DO_LINK:
		op->ino = le64_get(((const struct wire_link *)c->o.fixed)->ino);
		break;
	case DO_READDIR: listing_see(c); break;
	case DO_APPEND: op->offset = le64_get(c->o.io.offset); break;
	default: break;
	}
}

static void digest_add(uint64_t value)
{
	sim.report.digest = (sim.report.digest ^ value) * 0x100000001b3u;
}

static void client_ended(struct client *c)
{
	struct op *op = &c->op;

	if (op->kind == DO_READ && read_goes_on(c))
		return;
	if (op->kind == DO_OPEN && open_goes_on(c))
		return;
	op->status = c->o.status;
	op->twice = op->kind == DO_WRITE && c->o.tries > 1;
	if (op->status == 0)
		result_take(c);
	if (outcome_unknown(op->status) ||
		(op->status == -ENOSPC && (op->kind == DO_WRITE || op->kind == DO_APPEND)))
		sim.report.unknown++;
	else
		op->end = sim.event;
	op_trace(c, NULL);
	digest_add(op->number * 1000003ull + (uint64_t)-op->status);
	digest_add(world_now_us(&sim.w));
	sim.report.ops++;
	op_keep(op);
	c->busy = false;
	c->next_us = world_now_us(&sim.w) + sim_below(2 * sim.think_us);
}

void clients_turn(bool more)
{
	uint64_t now = world_now_us(&sim.w);

	for (uint32_t i = 0; i < sim.client_count; i++) {
		struct client *c = &sim.clients[i];

		if (c->busy && c->o.finished) {
			sim.event++;
			client_ended(c);
		} else if (!c->busy && more && now >= c->next_us) {
			sim.event++;
			client_start(c);
		}
	}
}

bool clients_idle(void)
{
	for (uint32_t i = 0; i < sim.client_count; i++)
		if (sim.clients[i].busy)
			return false;
	return true;
}

void clients_begin(void)
{
	sim.client_count = 2 + (uint32_t)sim_below(CLIENTS_MAX - 1);
	sim.clients = calloc(sim.client_count, sizeof(*sim.clients));
	for (uint32_t i = 0; i < sim.client_count; i++)
		sim.clients[i].number = i;
}

void clients_end(void)
{
	for (size_t i = 0; i < sim.history_count; i++) {
		free(sim.history[i].seen);
		free(sim.history[i].seen_inos);
	}
	free(sim.history);
	free(sim.clients);
}

/* --- the last look --- */

static void last_do(const struct op *op)
{
	struct client *c = &sim.clients[0];

	sim.event++;
	c->op = *op;
	c->op.number = ++sim.op_count;
	c->op.begin = sim.event;
	c->op.end = NEVER;
	c->busy = true;
	c->step = c->tries = 0;
	op_send(c);
	while (c->busy) {
		world_turn(&sim.w);
		sim.event++;
		clients_turn(false);
	}
	if (sim.nemesis.liar == WORLD_VIA_NONE)
		check(c->op.status == 0 || c->op.status == -ENOENT,
			"%s at last: %s", op_names[op->kind], strerror(-c->op.status));
}

void clients_last_look(void)
{
	for (uint32_t d = 0; d < DIRS; d++) {
		last_do(&(struct op){.kind = DO_READDIR, .dir = d});
		for (uint32_t n = 0; n < NAMES; n++)
			last_do(&(struct op){.kind = DO_LOOKUP, .dir = d, .name = n});
	}
	for (uint32_t i = 0; i < STABLE; i++)
		for (uint64_t chunk = 0; chunk < (sim.big ? 3 : 1); chunk++)
			for (unsigned half = 0; half < 2; half++)
				last_do(&(struct op){.kind = DO_READ,
					.ino = sim.stable[i],
					.offset = chunk * CHUNK + half * 12 * CELL_SIZE,
					.size = 12 * CELL_SIZE});
}

/*
 * Names: whether what was done to and seen of one name (directory and name) fits one
 * order, in which every operation takes effect between its beginning and its end. A name
 * is a register: nothing, an inode, or "something" after a rename, which does not say
 * what it moved; the first who sees it then tells. Found by search (Wing and Gong), with
 * what was tried before remembered; one that takes too long counts as undecided.
 *
 * Each name is judged by itself, so that a rename's two halves need not happen at once
 * is not noticed here. That is cheap and never blames wrongly; fsck and the last look see
 * that nothing is named twice or lost. With hard links about, a rename between two names
 * of one file does nothing, so its removal may not have happened.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 1024u
#define WORDS      (EVENTS_MAX / 64)
#define STEPS_MAX  400000u
#define SOME       1u /* an inode, unknown which: no ino is 1 but the root */
#define TRIED_SIZE (1u << 16)

enum event_kind {
	PUT,      /* there was nothing, now there is ino (SOME: a rename's) */
	PUT_OVER, /* whatever there was, now there is something */
	SWAP,     /* there was something, and now too */
	REMOVE,   /* there was something, now nothing */
	SEE,
	SEE_NONE,
	SEE_SOME,
};

struct event {
	enum event_kind kind;
	bool optional; /* it may not have happened */
	ino_id ino;
	uint64_t begin;
	uint64_t end;
	uint32_t number;
};

struct search {
	struct event events[EVENTS_MAX];
	uint32_t count;
	uint32_t must;
	uint64_t done[WORDS];
	uint64_t tried[TRIED_SIZE];
	uint32_t steps;
};

static struct search search;

static void event_add(const struct op *op, enum event_kind kind, ino_id ino, bool optional)
{
	if (search.count == EVENTS_MAX)
		return;
	search.events[search.count++] = (struct event){.kind = kind,
		.ino = ino,
		.optional = optional || op->end == NEVER,
		.begin = op->begin,
		.end = optional ? NEVER : op->end,
		.number = op->number};
}

static void rename_events(const struct op *op, bool source)
{
	bool exchange = op->flags & 2u;

	if (op->status == 0 || op->end == NEVER) {
		if (exchange)
			event_add(op, SWAP, SOME, false);
		else if (source)
			event_add(op, REMOVE, 0, sim.links);
		else
			event_add(op, op->flags & 1u ? PUT : PUT_OVER, SOME, false);
	} else if (op->status == -ENOENT && source && !exchange) {
		event_add(op, SEE_NONE, 0, false);
	} else if (op->status == -EEXIST && !source) {
		event_add(op, SEE_SOME, 0, false);
	}
}

/* What op says of the name. */
static void op_events(const struct op *op, uint32_t dir, uint32_t name)
{
	bool first = op->dir == dir && op->name == name;
	bool second = op->dir2 == dir && op->name2 == name;
	bool may = op->status == 0 || op->end == NEVER;

	switch (op->kind) {
	case DO_CREATE:
	case DO_MKDIR:
		if (first && may)
			event_add(op, PUT, op->status ? SOME : op->ino, false);
		else if (first && op->status == -EEXIST)
			event_add(op, SEE_SOME, 0, false);
		break;
	case DO_OPEN:
		if (!first || !may)
			break;
		if (op->status)
			event_add(op, PUT, SOME, true);
		else
			event_add(op, op->flags ? PUT : SEE, op->ino, false);
		break;
	case DO_UNLINK:
	case DO_RMDIR:
		if (first && may)
			event_add(op, REMOVE, 0, false);
		else if (first && op->status == -ENOENT)
			event_add(op, SEE_NONE, 0, false);
		else if (first && (op->status == -EISDIR || op->status == -ENOTDIR))
			event_add(op, SEE_SOME, 0, false);
		break;
	case DO_RENAME:
		if (first || second)
			rename_events(op, first);
		break;
	case DO_LINK:
		if (first && op->status == 0)
			event_add(op, SEE, op->ino, false);
		if (second && may)
			event_add(op, PUT, op->status ? SOME : op->ino, false);
		else if (second && op->status == -EEXIST)
			event_add(op, SEE_SOME, 0, false);
		break;
	case DO_LOOKUP:
		if (first && op->status == 0)
			event_add(op, SEE, op->ino, false);
		else if (first && op->status == -ENOENT)
			event_add(op, SEE_NONE, 0, false);
		break;
	case DO_READDIR:
		if (op->dir != dir || op->status)
			break;
		if (op->seen_inos[name])
			event_add(op, SEE, op->seen_inos[name], false);
		else
			event_add(op, SEE_NONE, 0, false);
		break;
	default: break;
	}
}

static bool same(ino_id a, ino_id b)
{
	return a == b || (a == SOME && b != 0) || (b == SOME && a != 0);
}

static bool apply(const struct event *e, ino_id state, ino_id *state_out)
{
	*state_out = state;
	switch (e->kind) {
	case PUT: *state_out = e->ino; return state == 0;
	case PUT_OVER: *state_out = SOME; return true;
	case SWAP: *state_out = SOME; return state != 0;
	case REMOVE: *state_out = 0; return state != 0;
	case SEE: *state_out = e->ino; return state != 0 && same(state, e->ino);
	case SEE_NONE: return state == 0;
	case SEE_SOME: return state != 0;
	}
	return false;
}

/* Whether this was tried before; a collision costs a search, never a verdict. */
static bool tried(ino_id state)
{
	uint64_t h = state * 0x9e3779b97f4a7c15u + 1, *slot;

	for (uint32_t i = 0; i <= search.count / 64; i++)
		h = (h ^ search.done[i]) * 0xff51afd7ed558ccdu ^ (h >> 29);
	h |= 1;
	slot = &search.tried[(h >> 20) % TRIED_SIZE];
	if (*slot == h)
		return true;
	*slot = h;
	return false;
}

static bool is_done(uint32_t i)
{
	return search.done[i / 64] >> (i % 64) & 1;
}

/* 1: an order was found, 0: there is none, -1: too long. */
static int order_find(ino_id state, uint32_t left)
{
	uint64_t horizon = NEVER;
	int result = 0;

	if (left == 0)
		return 1;
	if (++search.steps > STEPS_MAX)
		return -1;
	if (tried(state))
		return 0;
	for (uint32_t i = 0; i < search.count; i++)
		if (!is_done(i) && search.events[i].end < horizon)
			horizon = search.events[i].end;
	for (uint32_t i = 0; i < search.count && result == 0; i++) {
		const struct event *e = &search.events[i];
		ino_id next;

		if (e->begin > horizon)
			break;
		if (is_done(i) || !apply(e, state, &next))
			continue;
		search.done[i / 64] |= 1ull << (i % 64);
		result = order_find(next, left - !e->optional);
		search.done[i / 64] &= ~(1ull << (i % 64));
	}
	return result;
}

static int event_order(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

static void events_trace(void)
{
	static const char *const kinds[] = {
		"put", "put over", "swap", "remove", "see", "see nothing", "see something"};

	for (uint32_t i = 0; i < search.count; i++) {
		const struct event *e = &search.events[i];

		trace("  op %u from %" PRIu64 " to %" PRId64 ": %s %" PRIx64 "%s",
			e->number, e->begin, (int64_t)e->end, kinds[e->kind], e->ino,
			e->optional ? " (perhaps)" : "");
	}
}

static void name_check(uint32_t dir, uint32_t name)
{
	uint32_t must = 0;
	int found;

	memset(&search, 0, sizeof(search));
	for (size_t i = 0; i < sim.history_count; i++)
		op_events(&sim.history[i], dir, name);
	if (search.count == EVENTS_MAX) {
		sim.report.undecided++;
		return;
	}
	qsort(search.events, search.count, sizeof(*search.events), event_order);
	for (uint32_t i = 0; i < search.count; i++)
		must += !search.events[i].optional;
	found = order_find(0, must);
	if (found < 0)
		sim.report.undecided++;
	if (found != 0)
		return;
	events_trace();
	check(false, "/%c/n%u: no order of events explains what was seen", 'a' + dir, name);
}

void names_check(void)
{
	for (uint32_t d = 0; d < DIRS; d++)
		for (uint32_t n = 0; n < NAMES; n++)
			name_check(d, n);
}

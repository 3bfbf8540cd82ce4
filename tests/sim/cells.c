/*
 * File contents: each cell of 1 KiB is a register, each write to it has a value of its
 * own, so whether reads and writes of one cell are linearizable can be decided by their
 * zones (Gibbons and Korach, "Testing shared memories", 1997): the zone of a value goes
 * from the first end of what wrote or read it to the last beginning. Where that is
 * forward, the register had this value all the time between, so no two such zones may
 * overlap, and no zone of another value may lie inside. This is exact for writes and reads.
 *
 * A truncate writes zeros, and zeros have no writer of their own; so of zeros is checked
 * only that they lie within no forward zone, and that there was a truncate (or nothing
 * was written yet). A write that met one may have been made twice, before it and after. The
 * permissions of a file are one more register.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MODE_CELL UINT64_MAX

struct seen {
	ino_id ino;
	uint64_t offset;
	uint32_t value; /* 0: zeros */
	uint32_t number;
	bool write;
	bool twice;
	uint64_t begin;
	uint64_t end;
};

struct zone {
	uint32_t value;
	uint64_t first_end;
	uint64_t last_begin;
	const struct seen *write;
};

static struct seen *all;
static size_t all_count, all_room;

static void seen_add(const struct op *op, uint64_t offset, uint32_t value, bool write)
{
	if (all_count == all_room) {
		all_room = all_room ? 2 * all_room : 1024;
		all = realloc(all, all_room * sizeof(*all));
	}
	all[all_count++] = (struct seen){.ino = op->ino,
		.offset = offset,
		.value = value,
		.number = op->number,
		.write = write,
		.twice = op->twice,
		.begin = op->begin,
		.end = op->end};
}

static void seen_collect(void)
{
	for (size_t i = 0; i < sim.history_count; i++) {
		const struct op *op = &sim.history[i];

		if (op->kind == DO_CHMOD && (op->status == 0 || op->end == NEVER))
			seen_add(op, MODE_CELL, op->mode, true);
		if (op->kind == DO_READ && op->status == 0)
			for (uint32_t k = 0; k < op->seen_count; k++)
				seen_add(op, op->offset + k * CELL_SIZE, op->seen[k],
					false);
		if (op->kind == DO_READ && op->status == 0)
			seen_add(op, MODE_CELL,
				(op->mode & 07777) == 0644 ? 0 : op->mode & 07777, false);
		if (op->kind != DO_WRITE)
			continue;
		for (uint32_t at = 0; at < op->size; at += CELL_SIZE) {
			seen_add(op, op->offset + at, op->number, true);
			if (op->status)
				all[all_count - 1].end = NEVER;
		}
	}
}

static int seen_order(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	if (x->write != y->write)
		return x->write ? -1 : 1;
	return (x->begin > y->begin) - (x->begin < y->begin);
}

static const char *place(const struct seen *s)
{
	static char text[64];

	if (s->offset == MODE_CELL)
		snprintf(text, sizeof(text), "permissions of file %" PRIx64, s->ino);
	else
		snprintf(text, sizeof(text), "file %" PRIx64 " at %" PRIu64, s->ino,
			s->offset);
	return text;
}


static void zones_compare(const struct seen *s, const struct zone *a,
	const struct zone *b)
{
	if (a->first_end >= a->last_begin || a->write->twice || b->write->twice)
		return;
	if (b->first_end < b->last_begin)
		check(a->last_begin < b->first_end || b->last_begin < a->first_end,
			"%s: ops %u and %u were both there, each at times before and "
			"after the other",
			place(s), a->value, b->value);
	else
		check(!(a->first_end < b->last_begin && b->first_end < a->last_begin),
			"%s: op %u was there, then %u, then %u again", place(s), a->value,
			b->value, a->value);
}

/* Zeros, and what wrote them. */
static void zero_check(const struct seen *s, const struct zone *zones, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct seen *w = zones[i].write;
		bool cut = false;

		check(w->twice || !(zones[i].first_end < s->begin &&
					  s->end < zones[i].last_begin),
			"%s: op %u was there, then zeros (op %u), then %u again",
			place(s), zones[i].value, s->number, zones[i].value);
		if (zones[i].first_end >= s->begin)
			continue;
		for (size_t k = 0; !cut && k < sim.history_count; k++) {
			const struct op *t = &sim.history[k];

			cut = t->kind == DO_TRUNCATE && t->ino == s->ino &&
			      t->offset <= s->offset && s->offset != MODE_CELL &&
			      (t->status == 0 || t->end == NEVER) &&
			      t->end > w->begin && t->begin < s->end;
		}
		check(cut, "%s: op %u read zeros, but op %u had been there", place(s),
			s->number, zones[i].value);
	}
}

static void truncates_check(const struct seen *s, const struct zone *zones, size_t count)
{
	for (size_t k = 0; k < sim.history_count; k++) {
		const struct op *t = &sim.history[k];

		if (t->kind != DO_TRUNCATE || t->ino != s->ino || t->status ||
			t->offset > s->offset || s->offset == MODE_CELL)
			continue;
		for (size_t i = 0; i < count; i++)
			check(zones[i].write->twice ||
					!(zones[i].first_end < t->begin &&
						t->end < zones[i].last_begin),
				"%s: op %u was there again after truncate %u", place(s),
				zones[i].value, t->number);
	}
}

/* All that was done to one cell, by value. */
static void cell_check(const struct seen *s, size_t count)
{
	struct zone *zones = calloc(count, sizeof(*zones));
	size_t zone_count = 0, zeros = 0;

	while (zeros < count && s[zeros].value == 0)
		zeros++;
	for (size_t i = zeros, n; i < count; i += n) {
		struct zone z = {.value = s[i].value, .first_end = NEVER};

		for (n = 0; i + n < count && s[i + n].value == z.value; n++) {
			const struct seen *e = &s[i + n];

			if (e->write)
				z.write = e;
			if (e->end < z.first_end)
				z.first_end = e->end;
			if (e->begin > z.last_begin)
				z.last_begin = e->begin;
		}
		if (z.first_end == NEVER)
			continue; /* nobody saw it */
		check(z.write, "%s: nobody ever wrote %u", place(s), z.value);
		check(z.write->begin < z.first_end, "%s: op %u was read before it began",
			place(s), z.value);
		zones[zone_count++] = z;
	}
	for (size_t i = 0; i < zone_count; i++)
		for (size_t k = 0; k < zone_count; k++)
			if (i != k)
				zones_compare(s, &zones[i], &zones[k]);
	for (size_t i = 0; i < zeros; i++)
		zero_check(&s[i], zones, zone_count);
	truncates_check(s, zones, zone_count);
	free(zones);
}

void cells_check(void)
{
	seen_collect();
	if (all_count)
		qsort(all, all_count, sizeof(*all), seen_order);
	for (size_t i = 0, n; i < all_count; i += n) {
		for (n = 1; i + n < all_count && all[i + n].ino == all[i].ino &&
			    all[i + n].offset == all[i].offset;)
			n++;
		cell_check(all + i, n);
	}
	free(all);
	all = NULL;
	all_count = all_room = 0;
}

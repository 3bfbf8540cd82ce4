/*
 * What this session holds open, so that it can be said again after wfsd's restart: the
 * owners' tables (core/shard/opens.c) do not outlive their process, and a file without a
 * name lives by them.
 *
 * A hash table of inode numbers, one entry an open, empty entries 0, without locks: an
 * open takes the first empty entry from the number's home on, a close empties any entry
 * with its number. As entries come and go, a number may lie behind empty ones, but never
 * farther from home than opens_probe, the farthest that any was ever put. When the table
 * is full an open is not remembered; it works all the same until wfsd dies.
 *
 * OP_REOPEN says "at least so often", so that an owner that still knows, or has carried
 * out an open whose reply we never saw, is not told less than it knows. A close under way
 * when wfsd dies may stay unheard; then the file counts as open until the session ends.
 */
#include <errno.h>
#include <sys/stat.h>

#include "shim/client/internal.h"

static uint32_t home_of(ino_id ino)
{
	return (uint32_t)((ino * 0x9e3779b97f4a7c15u) >> 49);
}
_Static_assert(OPENS_SIZE == 1u << 15, "home_of gives 15 bits");

void opens_add(struct client *c, ino_id ino)
{
	uint32_t home = home_of(ino);

	for (uint32_t i = 0; i < OPENS_SIZE; i++) {
		uint32_t probe = atomic_load(&c->opens_probe);
		uint64_t none = 0;

		while (probe < i &&
			!atomic_compare_exchange_weak(&c->opens_probe, &probe, i))
			;
		if (atomic_compare_exchange_strong(&c->opens[(home + i) % OPENS_SIZE], &none,
			    ino))
			return;
	}
}

void opens_remove(struct client *c, ino_id ino)
{
	uint32_t home = home_of(ino), probe = atomic_load(&c->opens_probe);

	for (uint32_t i = 0; i <= probe; i++) {
		uint64_t wanted = ino;

		if (atomic_compare_exchange_strong(&c->opens[(home + i) % OPENS_SIZE],
			    &wanted, 0))
			return;
	}
}

/* How often, and where first. */
static uint32_t opens_count(struct client *c, ino_id ino, uint32_t *first_out)
{
	uint32_t home = home_of(ino), probe = atomic_load(&c->opens_probe), count = 0;

	for (uint32_t i = 0; i <= probe; i++) {
		uint32_t at = (home + i) % OPENS_SIZE;

		if (atomic_load_explicit(&c->opens[at], memory_order_relaxed) != ino)
			continue;
		if (count++ == 0)
			*first_out = at;
	}
	return count;
}

/* Nobody waits for the reply: if the owner is gone, so is its table. */
static void declare(struct client *c, ino_id ino, uint32_t count)
{
	struct wire_reopen body = {.ino = le64_put(ino), .count = le32_put(count)};
	struct call call = {
		.op = OP_REOPEN,
		.target = ino_bucket(ino),
		.body_size = sizeof(body),
	};
	int slot = slot_take(c, true);

	if (slot < 0)
		return;
	memcpy(slot_body(c, slot), &body, sizeof(body));
	slot_submit(c, slot, &call);
	slot_leave(c, slot);
}

void opens_declare(struct client *c, ino_id ino)
{
	uint32_t first, count = opens_count(c, ino, &first);

	if (count)
		declare(c, ino, count);
}

void opens_declare_all(struct client *c)
{
	for (uint32_t i = 0; i < OPENS_SIZE; i++) {
		ino_id ino = atomic_load_explicit(&c->opens[i], memory_order_relaxed);
		uint32_t first = i, count = ino ? opens_count(c, ino, &first) : 0;

		if (count && first == i)
			declare(c, ino, count);
	}
}

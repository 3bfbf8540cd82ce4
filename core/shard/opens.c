/*
 * Who holds which file open: (session, ino) -> count, in memory.
 *
 * An unlinked file lives while its ino is here. Two chained hash tables over the same
 * entries: by ino, to ask whether a file is open, and by session, to end one.
 *
 * When a program's own wfsd was restarted the session goes on under its number, and the
 * program says again what it holds: at least so many opens (open_table_raise).
 *
 * What a session held when it ended lingers for a while: a program that was replaced by
 * exec, or whose parent died, still has the descriptors and will say so from a session
 * of its own.
 */
#include "core/shard/opens.h"

#include <errno.h>

#include "core/base/list.h"
#include "core/base/mem.h"

struct open_entry {
	struct list by_ino;
	struct list by_session; /* in the lingering list if held.until_us */
	struct open_held held;
};

#define OPEN_BUCKETS 4096u

struct open_table {
	struct list inos[OPEN_BUCKETS];
	struct list sessions[OPEN_BUCKETS];
	struct list lingering; /* oldest first */
};

static uint32_t open_hash(uint64_t v)
{
	return (uint32_t)((v * 0x9e3779b97f4a7c15u) >> 52);
}
_Static_assert(OPEN_BUCKETS == 1u << 12, "open_hash gives 12 bits");

int open_table_new(struct open_table **table_out)
{
	struct open_table *t = mem_alloc(sizeof(*t));

	if (!t)
		return -ENOMEM;
	list_init(&t->lingering);
	for (uint32_t i = 0; i < OPEN_BUCKETS; i++) {
		list_init(&t->inos[i]);
		list_init(&t->sessions[i]);
	}
	*table_out = t;
	return 0;
}

static void open_entry_free(struct open_entry *e)
{
	list_remove(&e->by_ino);
	list_remove(&e->by_session);
	mem_free(e);
}

void open_table_free(struct open_table *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i < OPEN_BUCKETS; i++)
		while (!list_empty(&t->inos[i]))
			open_entry_free(list_first(&t->inos[i], struct open_entry, by_ino));
	mem_free(t);
}

static struct open_entry *open_find(struct open_table *t, uint64_t session, ino_id ino)
{
	list_for_each(it, tmp, &t->inos[open_hash(ino)])
	{
		struct open_entry *e = container_of(it, struct open_entry, by_ino);

		if (e->held.ino == ino && e->held.session == session && e->held.until_us == 0)
			return e;
	}
	return NULL;
}

int open_table_put(struct open_table *t, const struct open_held *held)
{
	struct open_entry *e = mem_zalloc(sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->held = *held;
	list_push_back(&t->inos[open_hash(held->ino)], &e->by_ino);
	list_push_back(held->until_us ? &t->lingering
				      : &t->sessions[open_hash(held->session)],
		&e->by_session);
	return 0;
}

int open_table_add(struct open_table *t, uint64_t session, ino_id ino)
{
	struct open_entry *e = open_find(t, session, ino);

	if (!e)
		return open_table_put(t,
			&(struct open_held){.session = session, .ino = ino, .count = 1});
	e->held.count++;
	return 0;
}

int open_table_raise(struct open_table *t, uint64_t session, ino_id ino, uint32_t count)
{
	struct open_entry *e = open_find(t, session, ino);
	int rc = e ? 0 : open_table_add(t, session, ino);

	if (rc)
		return rc;
	e = open_find(t, session, ino);
	if (e->held.count < count)
		e->held.count = count;
	return 0;
}

bool open_table_remove(struct open_table *t, uint64_t session, ino_id ino)
{
	struct open_entry *e = open_find(t, session, ino);

	if (!e || --e->held.count > 0)
		return false;
	open_entry_free(e);
	return !open_table_has(t, ino);
}

void open_table_end(struct open_table *t, uint64_t session, uint64_t until_us)
{
	list_for_each(it, tmp, &t->sessions[open_hash(session)])
	{
		struct open_entry *e = container_of(it, struct open_entry, by_session);

		if (e->held.session != session)
			continue;
		e->held.until_us = until_us;
		list_remove(&e->by_session);
		list_push_back(&t->lingering, &e->by_session);
	}
}

bool open_table_expire(struct open_table *t, uint64_t now_us, uint64_t *next_us)
{
	bool expired = false;

	while (!list_empty(&t->lingering)) {
		struct open_entry *e =
			list_first(&t->lingering, struct open_entry, by_session);

		if (e->held.until_us > now_us) {
			if (e->held.until_us - now_us < *next_us)
				*next_us = e->held.until_us - now_us;
			break;
		}
		open_entry_free(e);
		expired = true;
	}
	return expired;
}

bool open_table_has(const struct open_table *t, ino_id ino)
{
	const struct list *head = &t->inos[open_hash(ino)];

	for (const struct list *it = head->next; it != head; it = it->next)
		if (container_of(it, struct open_entry, by_ino)->held.ino == ino)
			return true;
	return false;
}

void open_table_each(const struct open_table *t,
	void (*fn)(void *ctx, const struct open_held *held), void *ctx)
{
	for (uint32_t i = 0; i < OPEN_BUCKETS; i++)
		for (const struct list *it = t->inos[i].next; it != &t->inos[i];
			it = it->next)
			fn(ctx, &container_of(it, struct open_entry, by_ino)->held);
}

void open_table_forget(struct open_table *t, uint16_t bucket)
{
	for (uint32_t i = 0; i < OPEN_BUCKETS; i++)
		list_for_each(it, tmp, &t->inos[i])
		{
			struct open_entry *e = container_of(it, struct open_entry, by_ino);

			if (ino_bucket(e->held.ino) == bucket)
				open_entry_free(e);
		}
}

uint32_t open_table_count(struct open_table *t, uint64_t session, ino_id ino)
{
	const struct open_entry *e = open_find(t, session, ino);

	return e ? e->held.count : 0;
}

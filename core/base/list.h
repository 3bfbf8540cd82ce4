/* Intrusive doubly-linked list with a sentinel head. Not locked. */
#ifndef WFS_BASE_LIST_H
#define WFS_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_insert_before(struct list *at, struct list *item)
{
	item->next = at;
	item->prev = at->prev;
	at->prev->next = item;
	at->prev = item;
}
static inline void list_push_back(struct list *head, struct list *item)
{
	list_insert_before(head, item);
}
static inline void list_push_front(struct list *head, struct list *item)
{
	list_insert_before(head->next, item);
}
/* Leaves the item pointing at itself, so that removing it again is harmless. */
static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}
/* Move all items of `from` to the end of `to`. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define container_of(ptr, type, member)                                                  \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))
#define list_first(head, type, member) container_of((head)->next, type, member)

/* Safe against removal of the item itself. */
#define list_for_each(it, tmp, head)                                                     \
	for (struct list *it = (head)->next, *tmp = it->next; it != (head);               \
		it = tmp, tmp = it->next)

#endif

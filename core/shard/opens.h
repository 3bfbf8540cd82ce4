/* Who holds which file open: see core/shard/opens.c. */
#ifndef WFS_SHARD_OPENS_H
#define WFS_SHARD_OPENS_H

#include "core/base/types.h"

struct open_table;

struct open_held {
	uint64_t session;
	ino_id ino;
	uint32_t count;
	uint64_t until_us; /* it lingers; 0: it is held */
};

int open_table_new(struct open_table **table_out);
void open_table_free(struct open_table *t);
int open_table_add(struct open_table *t, uint64_t session, ino_id ino);
/* As it stands at another owner. */
int open_table_put(struct open_table *t, const struct open_held *held);
/* At least count times. */
int open_table_raise(struct open_table *t, uint64_t session, ino_id ino, uint32_t count);
/* True when nobody holds ino open any more. */
bool open_table_remove(struct open_table *t, uint64_t session, ino_id ino);
/* The session is over; what it held stays open until until_us. */
void open_table_end(struct open_table *t, uint64_t session, uint64_t until_us);
/* Drop what has lingered long enough: true if there was any. Lowers *next_us. */
bool open_table_expire(struct open_table *t, uint64_t now_us, uint64_t *next_us);
bool open_table_has(const struct open_table *t, ino_id ino);
void open_table_each(const struct open_table *t,
	void (*fn)(void *ctx, const struct open_held *held), void *ctx);
/* What is known of a bucket's files. */
void open_table_forget(struct open_table *t, uint16_t bucket);
/* How often the session holds it. */
uint32_t open_table_count(struct open_table *t, uint64_t session, ino_id ino);

#endif

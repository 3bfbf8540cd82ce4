/*
 * The table of locks: which inode is held by which transaction in doubt. It is memory
 * only; what must survive is in the intents, and meta_recover reads it from there.
 *
 * Nobody waits here. Who meets a foreign lock is refused, and told again to run when
 * locks were released.
 */
#include <assert.h>
#include <errno.h>

#include "core/base/mem.h"
#include "meta/meta_impl.h"

static struct lock **lock_head(struct meta *m, ino_id ino)
{
	return &m->locks[(ino * 0x9e3779b97f4a7c15u) >> 56];
}

uint64_t lock_owner(const struct meta *m, ino_id ino)
{
	const struct lock *lock;

	if (m->lock_count == 0)
		return 0;
	lock = *lock_head((struct meta *)m, ino);
	while (lock && lock->ino != ino)
		lock = lock->next;
	return lock ? lock->txid : 0;
}

static int lock_add(struct meta *m, uint64_t txid, ino_id ino, struct lock **fresh)
{
	struct lock *lock;

	if (lock_owner(m, ino) == txid)
		return 0;
	lock = mem_alloc(sizeof(*lock));
	if (!lock)
		return -ENOMEM;
	*lock = (struct lock){.next = *fresh, .ino = ino, .txid = txid};
	*fresh = lock;
	return 0;
}

int locks_add(struct meta *m, uint64_t txid, const ino_id *inos, uint32_t count)
{
	struct lock *fresh = NULL, *next;
	int rc = 0;

	assert(txid != 0);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t owner = lock_owner(m, inos[i]);

		if (owner && owner != txid)
			return -EAGAIN;
	}
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = lock_add(m, txid, inos[i], &fresh);
	for (struct lock *lock = fresh; lock; lock = next) {
		struct lock **head = lock_head(m, lock->ino);

		next = lock->next;
		/* The same inode may be named twice. */
		if (rc || lock_owner(m, lock->ino) == txid) {
			mem_free(lock);
			continue;
		}
		lock->next = *head;
		*head = lock;
		m->lock_count++;
	}
	return rc;
}

/*
 * One shard may own two buckets of a transaction. While one of them still has its intent
 * the locks there must outlive the other's resolution. When the kv cannot say, they stay.
 */
static bool lock_needed(struct meta *m, const struct lock *lock)
{
	struct meta_key key;

	meta_key_intent(&key, ino_bucket(lock->ino), lock->txid);
	buf_reset(&m->scratch);
	return kv_get(m->kv, key.bytes, key.size, &m->scratch) != -ENOENT;
}

/* txid 0: all, whatever they are for. */
static uint32_t locks_drop(struct meta *m, uint64_t txid)
{
	uint32_t dropped = 0;

	for (size_t i = 0; m->lock_count && i < LOCK_HEADS; i++) {
		struct lock **link = &m->locks[i];

		while (*link) {
			struct lock *lock = *link;

			if (txid && (lock->txid != txid || lock_needed(m, lock))) {
				link = &lock->next;
				continue;
			}
			*link = lock->next;
			mem_free(lock);
			m->lock_count--;
			dropped++;
		}
	}
	return dropped;
}

void locks_release(struct meta *m)
{
	locks_drop(m, 0);
}

void meta_unlock(struct meta *m, uint64_t txid)
{
	assert(txid != 0);
	if (locks_drop(m, txid) && m->unlocked)
		m->unlocked(m->unlocked_ctx);
}

/* txid 0: whosever they are. */
static void bucket_locks_drop(struct meta *m, uint64_t txid, uint16_t bucket)
{
	uint32_t dropped = 0;

	for (size_t i = 0; m->lock_count && i < LOCK_HEADS; i++) {
		struct lock **link = &m->locks[i];

		while (*link) {
			struct lock *lock = *link;

			if ((txid && lock->txid != txid) || ino_bucket(lock->ino) != bucket) {
				link = &lock->next;
				continue;
			}
			*link = lock->next;
			mem_free(lock);
			m->lock_count--;
			dropped++;
		}
	}
	if (dropped && m->unlocked)
		m->unlocked(m->unlocked_ctx);
}

void meta_unlock_bucket(struct meta *m, uint64_t txid, uint16_t bucket)
{
	assert(txid != 0);
	bucket_locks_drop(m, txid, bucket);
}

void locks_release_bucket(struct meta *m, uint16_t bucket)
{
	bucket_locks_drop(m, 0, bucket);
}

void meta_on_unlock(struct meta *m, void (*unlocked)(void *ctx), void *ctx)
{
	m->unlocked = unlocked;
	m->unlocked_ctx = ctx;
}

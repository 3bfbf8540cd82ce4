/*
 * An ordered map from byte strings to byte strings: the index of one shard.
 *
 * Two implementations: RocksDB with its WAL off (kv_rocks.c), and a model in memory
 * (kv_model.c) for tests and the simulator. In front of both sits one bounded cache of
 * recent keys (kv.c), so that hot gets cost a hash lookup.
 *
 * Durability: nothing applied is durable until a flush that began after it is done; the
 * shard's log is the write-ahead log. The map never flushes on its own account. Closing
 * without a flush is a crash: the next open shows the last flushed state, exactly.
 * One thread (the shard's) per kv.
 */
#ifndef WFS_KV_KV_H
#define WFS_KV_KV_H

#include <stdbool.h>

#include "core/kv/batch.h"

struct kv;
struct kv_iter;

struct kv_ops {
	/* 0 and the value appended to out; -ENOENT; -EIO, -ENOMEM, -EUCLEAN. */
	int (*get)(struct kv *kv, const void *key, size_t key_size, struct buf *out);
	/* Puts and deletes of a batch, atomically; FREE and NOTE entries are skipped. -EUCLEAN:
	 * no valid batch. */
	int (*apply)(struct kv *kv, const void *bytes, size_t size_bytes);
	int (*iter_open)(struct kv *kv, struct kv_iter **iter_out);
	/* Returns at once; apply may go on. -EBUSY: the last one is not done. */
	int (*flush_begin)(struct kv *kv);
	int (*flush_done)(struct kv *kv);  /* 0 done, -EINPROGRESS, or the error */
	uint64_t (*size_bytes)(struct kv *kv);
	void (*close)(struct kv *kv);
};

struct kv_iter_ops {
	void (*seek)(struct kv_iter *it, const void *key, size_t key_size); /* >= key */
	bool (*valid)(struct kv_iter *it);
	void (*next)(struct kv_iter *it);
	/* Both borrowed until next, seek or close. */
	const void *(*key)(struct kv_iter *it, size_t *size_out);
	const void *(*value)(struct kv_iter *it, size_t *size_out);
	int (*error)(struct kv_iter *it); /* 0, -EIO, -EUCLEAN */
	void (*close)(struct kv_iter *it);
};

struct kv_cache;

struct kv { /* first member of an implementation */
	const struct kv_ops *ops;
	struct kv_cache *cache; /* NULL: no cache */
};

struct kv_iter { /* first member of an implementation */
	const struct kv_iter_ops *ops;
};

/*
 * Open (or with create, make) the RocksDB instance in directory `path`.
 * memory_bytes bounds block cache plus write buffers. -ENOENT: none there and !create;
 * -EUCLEAN: damaged; -EBUSY: another process holds it; -EIO, -ENOMEM.
 */
int kv_rocks_open(const char *path, bool create, uint64_t memory_bytes,
	struct kv **kv_out);

/*
 * The model. A `kv_model_disk` is what survives a close: flushed state. Opening it twice
 * at once is a programmer's error. flush_done reports -EINPROGRESS as many times as
 * kv_model_flush_delay_set says (0 at first).
 */
struct kv_model_disk;
struct kv_model_disk *kv_model_disk_new(void);
void kv_model_disk_free(struct kv_model_disk *disk);
int kv_model_open(struct kv_model_disk *disk, struct kv **kv_out);
void kv_model_flush_delay_set(struct kv_model_disk *disk, unsigned polls);
/* Fail the nth call of get/apply/iter_open/flush_begin from now with -EIO; 0 disarms. */
void kv_model_fault_arm(struct kv_model_disk *disk, unsigned nth);
bool kv_model_fault_fired(struct kv_model_disk *disk);

/* Put a cache of at most `entries` keys in front; values over 4 KiB are not cached. */
int kv_cache_enable(struct kv *kv, uint32_t entries);

/* The calls of users; these know the cache. */
int kv_get(struct kv *kv, const void *key, size_t key_size, struct buf *out);
int kv_apply(struct kv *kv, const struct batch *batch);
int kv_apply_bytes(struct kv *kv, const void *bytes, size_t size_bytes);
int kv_iter_open(struct kv *kv, struct kv_iter **iter_out);
int kv_flush_begin(struct kv *kv);
int kv_flush_done(struct kv *kv);
uint64_t kv_size_bytes(struct kv *kv);
void kv_close(struct kv *kv); /* NULL is fine */

#endif

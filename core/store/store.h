/*
 * The store of one shard: a log-structured device with an index.
 *
 * Everything that changes is a record: a batch of index mutations (core/kv/batch.h) and,
 * optionally, whole 4 KiB data blocks. Records are gathered into group commits, each one
 * aligned durable write to the open segment; whatever arrives while a commit is in flight
 * goes into the next. A record is applied to the index at once and reported done when it
 * and all before it are on stable storage: so later operations build on it, but nobody
 * outside hears of it earlier (see store_barrier).
 *
 * Data blocks are named by a stable block id, handed out at store_begin; block k of a
 * record is id + k. The cleaner may move blocks, ids stay. The index above says which
 * ids a file uses and the crc32c of each; when it stops using them it says so with
 * batch_free_blocks in the record that dropped them.
 *
 * If a log write fails, the store is failed: every record not yet done and every later
 * call gets -EIO, and the owner closes it and opens it again, which is ordinary recovery.
 *
 * Index keys starting with byte 0x00 belong to the store.
 * One thread, no locks. Formats: core/store/format.h.
 */
#ifndef WFS_STORE_STORE_H
#define WFS_STORE_STORE_H

#include "core/base/env.h"
#include "core/base/list.h"
#include "core/base/types.h"
#include "core/io/device.h"
#include "core/kv/kv.h"

struct store;

struct store_identity {
	uint8_t cluster_uuid[16];
	uint32_t node;  /* node id in the cluster map */
	uint32_t shard; /* shard index in the node */
};

struct store_replayed {
	uint16_t bucket;
	uint32_t bucket_epoch;
	uint64_t lsn;
	uint64_t id;
	uint32_t block_count;
	const void *batch;
	size_t batch_size_bytes;
};

struct store_options {
	struct store_identity identity; /* open: must match, else -EXDEV */
	uint32_t segment_size_bytes; /* format only; a power of two; 0: 64 MiB, less on a
					small device */
	bool force;                  /* format only: overwrite a foreign device */
	/* open: called for every record that is replayed, in order; or NULL. */
	void (*replayed)(void *ctx, const struct store_replayed *r);
	void *replayed_ctx;
};

/* Why a device was refused; text for the operator, one line, no newline. */
struct store_refusal {
	char text[256];
};

/*
 * Write fresh superblocks and nothing else. Drives the device by calling `pump` until its
 * I/O completes. -EBUSY: the device holds something else and !force (refusal says what);
 * -ENOSPC: too small; -EIO.
 */
int store_format(struct device *dev, struct env *env, const struct store_options *opt,
	void (*pump)(void *ctx), void *ctx, struct store_refusal *refusal_out);

/*
 * Recover and open: superblock, index, then the log after the index's checkpoint. Owns
 * neither dev nor kv. kv must be empty or the one that this store used before.
 * -ENODEV: not a WFS device; -EXDEV: other cluster, node or shard; -EPROTO: newer format;
 * -EUCLEAN: damaged beyond the torn end that a crash leaves; -EIO, -ENOMEM. After an
 * error kv may hold a part of the log: close it and open it again before the next try.
 */
int store_open(struct device *dev, struct kv *kv, struct env *env,
	const struct store_options *opt, void (*pump)(void *ctx), void *ctx,
	struct store **store_out, struct store_refusal *refusal_out);

/*
 * Stops at once, as a crash would; pending records get -ESHUTDOWN. Then pumps until the
 * device has answered what it was asked. NULL is fine.
 */
void store_close(struct store *s);
/* The same for a device that is gone (after device_sim_crash): without pumping. */
void store_abandon(struct store *s);

/* --- writing ------------------------------------------------------------------------ */

struct store_record {
	/* Set by the caller before store_begin. */
	uint16_t bucket;
	uint32_t bucket_epoch;
	uint64_t lsn;         /* of the bucket; strictly increasing per bucket */
	uint32_t block_count; /* data blocks, 0..WFS_CHUNK_BLOCKS */
	bool deletes;         /* only frees space: allowed into the reserve */
	/* 0, -EIO or -ESHUTDOWN; from store_poll or the device, never from store_commit.
	 */
	void (*done)(struct store_record *r, int status);
	/* Set by store_begin. */
	uint64_t id; /* of the first block */
	void *data;  /* room for block_count blocks, to fill before store_commit */
	/* Private. */
	struct list link;
	uint64_t sequence;
};

/*
 * Reserve room in the next group commit. store_commit or store_abort must follow before
 * control returns to the loop and before any other store_begin. -ENOSPC: full (see
 * `deletes`); -EAGAIN: all commit buffers are in flight, try again from the callback set
 * by store_on_room; -EIO: failed store; -E2BIG: more blocks than a segment has (only with
 * segments under 2 MiB).
 */
int store_begin(struct store *s, struct store_record *r);
/*
 * Append the record and apply its batch to the index. On an error nothing was applied or
 * written and done will not be called: -ENOMEM, -EIO, -E2BIG (batch over the commit
 * size).
 */
int store_commit(struct store *s, struct store_record *r, const struct batch *batch);
void store_abort(struct store *s, struct store_record *r);
void store_on_room(struct store *s, void (*room)(void *ctx), void *ctx);

/*
 * Call `done` when every record committed so far is durable; at once (before returning)
 * when that is so already. For replies to reads that may have seen pending records.
 */
struct store_barrier {
	void (*done)(struct store_barrier *b, int status);
	struct list link;
	uint64_t sequence;
};
void store_barrier(struct store *s, struct store_barrier *b);
/* The last durable and the last committed sequence; equal: nothing pending. */
uint64_t store_durable_sequence(const struct store *s);
uint64_t store_committed_sequence(const struct store *s);

/* --- reading ------------------------------------------------------------------------ */

struct store_read {
	uint64_t id;
	uint32_t block_count; /* 1..WFS_CHUNK_BLOCKS, consecutive ids */
	const uint32_t *crcs; /* expected, one per block; borrowed until done */
	void *data;           /* 4 KiB-aligned, best from store_buffer_get */
	/* 0; -EIO from the device; -EUCLEAN: crc mismatch after a second try, data is not
	 * to be used; -ESTALE: no such block. May be called before store_read returns. */
	void (*done)(struct store_read *r, int status);
	void *ctx; /* the caller's own */
	/* Private. */
	void *priv;
};
void store_read(struct store *s, struct store_read *r);

/* Registered 1 MiB buffers from a bounded pool; NULL when it is dry. */
void *store_buffer_get(struct store *s);
void store_buffer_put(struct store *s, void *buffer);

/* --- the loop ----------------------------------------------------------------------- */

/*
 * Submit gathered commits, drive checkpoint and cleaner. Call once per turn of the loop.
 * Returns the time in us until it wants to be called again though nothing happens
 * (UINT64_MAX: never).
 */
uint64_t store_poll(struct store *s);
/* Between two requests: start the write of a group that is large enough, so that the
 * device works while the next request's data is copied. */
void store_kick(struct store *s);
/* 0, or -EIO once failed. */
int store_error(const struct store *s);

/* Checkpoint: done when index and superblock no longer need the log written so far. A
 * clean stop asks for one and waits; one at a time (-EBUSY). */
int store_checkpoint(struct store *s, void (*done)(void *ctx, int status), void *ctx);

/* Whether the block is in use; for fsck. */
bool store_block_live(struct store *s, uint64_t id);

struct store_stats {
	uint64_t size_bytes;    /* of the device, usable for the log */
	uint64_t live_bytes;    /* data blocks in use */
	uint64_t free_bytes;    /* what a writer can still write before -ENOSPC */
	uint64_t user_bytes;    /* data and batch bytes given to store_commit */
	uint64_t device_bytes;  /* written to the device, all causes */
	uint64_t cleaned_bytes; /* moved by the cleaner */
	uint64_t commit_count;  /* group commits */
	uint64_t record_count;
	uint64_t read_count;
	uint64_t read_bytes;
	uint64_t crc_error_count;
	uint64_t checkpoint_count;
	uint32_t segment_count;
	uint32_t segment_free_count;
	uint64_t recovery_us; /* time store_open took */
	uint64_t replayed_records;
};
void store_stats(const struct store *s, struct store_stats *out);
/* Of this format of the device: another one has lost what was there. */
void store_device_uuid(const struct store *s, uint8_t uuid_out[16]);

#endif

/*
 * The inside of a store, shared by the files of this folder only.
 *
 *   superblock.c  format, probe, load and write superblocks
 *   segment.c     table of segments, live bitmaps, choice of free segments
 *   forward.c     where moved blocks are; what a record does to index and bitmaps
 *   commit.c      groups: store_begin, store_commit, submit, acknowledge
 *   checkpoint.c  hold, mark, flush, free
 *   cleaner.c     victims and moves
 *   recovery.c    scan, order, replay
 *   read.c        store_read
 *   store.c       open, close, poll, stats
 *
 * Invariants:
 *  1. Sequences are given in the order in which records were applied to the index: the
 *     open group of the writers is sealed before the cleaner seals one of its own.
 *  2. The index is flushed only when all that was applied to it is durable (HOLD).
 *  3. A segment becomes free only when a checkpoint that found it without live blocks
 *     and not open is complete; so nothing that recovery may read is ever overwritten.
 *  4. A live bit is at the place of a block, and once cleared is never set again during
 *     the same use of the segment.
 *  5. Recovery accepts commits of one incarnation only, that of the checkpoint mark, and
 *     ends with a checkpoint of its own incarnation before anything else is written.
 */
#ifndef WFS_STORE_STORE_IMPL_H
#define WFS_STORE_STORE_IMPL_H

#include "core/store/format.h"
#include "core/store/store.h"

#define STORE_GROUP_COUNT            6u /* of the writers; one more is the cleaner's */
/* A chunk and a little: a longer write is split on its way by many devices, which costs
 * io_uring a worker thread and a wake-up. */
#define STORE_GROUP_DATA             272u
#define STORE_ARENA_ALIGN            (2u << 20) /* so that it may be huge pages */
#define STORE_RECORD_MAX             (5u << 19) /* record bytes in a group */
#define STORE_FLIGHT_MAX             5u
#define STORE_GATHER_BYTES           (256u << 10)
#define STORE_BUFFER_COUNT           16u
#define STORE_READ_OPS               64u
#define STORE_READ_IOS               4u
#define STORE_CACHE_BLOCKS           4096u /* recently written, direct-mapped by place */
#define STORE_CACHE_RECORD           4u    /* records of more blocks do not enter */
#define STORE_CHECKPOINT_BATCH_BYTES (64u << 20)
#define STORE_CHECKPOINT_LOG_BYTES   ((uint64_t)1 << 30)
#define STORE_IO_TIMEOUT_US          60000000u
#define STORE_RETRY_US               100000u
#define STORE_FLUSH_POLL_US          1000u
#define STORE_NONE                   UINT32_MAX

/* Segments that must stay free for: the writers, deletes, the cleaner. */
#define STORE_KEEP_WRITE  3u
#define STORE_KEEP_DELETE 2u
#define STORE_KEEP_CLEAN  0u

enum store_stream { STREAM_LOG, STREAM_CLEANER, STREAM_COUNT };

/*
 * FREE -segment_advance-> OPEN -segment_advance-> FULL -checkpoint_mark_dying-> DYING
 * -checkpoint_finish-> FREE
 */
enum segment_state { SEGMENT_FREE, SEGMENT_OPEN, SEGMENT_FULL, SEGMENT_DYING };

struct segment {
	uint64_t seq; /* 0 when free */
	uint32_t hash_next;
	uint32_t live_count;
	uint32_t pos; /* block where the next commit goes, while open */
	uint8_t state;
	uint8_t kind;
	bool dirty;   /* bitmap differs from the index */
	bool saved;   /* the index has a bitmap */
	bool bad;     /* the cleaner found damage: leave it */
	bool discard; /* free, and not yet discarded */
};

/*
 * FREE -group_open-> OPEN -group_seal-> SEALED -group_submit-> FLYING -group_written->
 * DONE -group_ack-> FREE
 */
enum group_state { GROUP_FREE, GROUP_OPEN, GROUP_SEALED, GROUP_FLYING, GROUP_DONE };

struct group {
	struct store *store;
	struct list link; /* in store.queue, by sequence */
	enum group_state state;
	enum store_stream stream;
	struct segment *segment;
	uint64_t segment_seq;
	uint32_t pos;   /* of the head */
	uint32_t limit; /* blocks from pos on */
	uint32_t data_count;
	uint32_t record_count;
	uint32_t record_bytes;
	uint32_t payload_bytes;
	uint64_t sequence;
	struct list records;
	uint8_t *memory; /* segment header, head, data, staging */
	uint8_t *staging;
	struct device_io io;
};

enum checkpoint_state { CHECKPOINT_IDLE, CHECKPOINT_HOLD, CHECKPOINT_FLUSH };

struct checkpoint {
	enum checkpoint_state state;
	bool wanted;
	uint64_t retry_at_us;
	uint64_t batch_bytes; /* since the last */
	uint64_t log_bytes;
	uint64_t mark_batch_bytes; /* of these, covered by the one under way */
	uint64_t mark_log_bytes;
	uint64_t log_limit_bytes;
	void (*done)(void *ctx, int status);
	void *ctx;
	bool done_late; /* `done` came during a checkpoint: it waits for the next */
};

enum cleaner_state { CLEANER_IDLE, CLEANER_READ, CLEANER_COPY };

struct cleaner {
	enum cleaner_state state;
	struct segment *victim;
	uint64_t victim_seq;
	uint32_t pos;        /* next commit of the victim to look at */
	uint32_t data_next;  /* within the commit at pos */
	uint32_t window_pos; /* first block in the window */
	uint32_t window_count;
	uint32_t window_max;
	uint8_t *window;
	struct group *group; /* STORE_GROUP_COUNT'th, when open */
	struct device_io io;
	bool io_busy;
	int io_status;
	uint64_t retry_at_us;
	bool again;      /* wants the next turn though no I/O is under way */
	uint64_t *birth; /* per data block of the group */
	uint64_t *from;
	uint8_t *moves; /* move_disk[] */
};

struct read_op;

struct read_io {
	struct read_op *op;
	struct device_io io;
	bool busy;
};

struct read_op {
	struct list link;
	struct store *store;
	struct store_read *read;
	uint32_t next; /* first block not yet asked for */
	uint32_t busy_count;
	int status;
	bool again;
	uint64_t place[WFS_CHUNK_BLOCKS];
	struct read_io ios[STORE_READ_IOS];
};

/* Forwarding pages touched by one batch. */
struct forward_page {
	uint64_t base;
	uint32_t hash_next;
	bool dirty;
	uint64_t place[FORMAT_FORWARD_BLOCKS];
};
#define FORWARD_BUCKETS 256u
struct forward_set {
	struct forward_page *pages;
	uint32_t count;
	uint32_t capacity;
	uint32_t buckets[FORWARD_BUCKETS];
};

struct store {
	struct device *dev;
	struct kv *kv;
	struct env *env;
	void (*pump)(void *ctx);
	void *pump_ctx;
	struct super super;
	int error;

	/* segments */
	struct segment *segments;
	uint64_t *bitmaps;
	uint32_t segment_blocks;
	uint32_t words_per_segment;
	uint32_t *hash;
	uint32_t hash_mask;
	uint32_t free_count;
	uint32_t dead_count; /* FULL without live blocks: one checkpoint from free */
	uint32_t dying_count;
	uint32_t free_hint;
	uint32_t discard_hint;
	uint32_t discard_count;
	uint64_t next_segment_seq;
	uint64_t live_blocks;
	uint64_t capacity_blocks;
	uint64_t capacity_hard_blocks;
	struct segment *open[STREAM_COUNT];

	/* commits */
	uint8_t *arena;
	size_t arena_size_bytes;
	struct group groups[STORE_GROUP_COUNT + 1];
	uint32_t group_data_max;
	uint32_t record_max; /* bytes of one group */
	uint32_t batch_max;
	struct group *open_group;
	struct list queue;
	uint32_t flight_count;
	uint64_t next_sequence;
	uint64_t durable_sequence;
	struct list barriers;
	bool begun; /* between store_begin and store_commit or store_abort */
	bool room_wanted;
	void (*room)(void *ctx);
	void *room_ctx;

	struct checkpoint checkpoint;
	struct cleaner cleaner;
	struct forward_set forward;
	struct buf scratch;

	/* reads */
	struct read_op *read_ops;
	struct list read_free;
	struct list read_stalled; /* the device takes no more now */
	struct store_read *read_wait;
	struct store_read **read_wait_tail;
	uint64_t *cache_places;
	uint8_t *cache_data;
	void *buffers[STORE_BUFFER_COUNT];
	uint32_t buffer_count;

	uint32_t io_count; /* in flight, all kinds */
	struct store_stats stats;
};

static inline uint64_t place_make(uint64_t seq, uint32_t block)
{
	return seq << 16 | block;
}
static inline uint32_t place_block(uint64_t place)
{
	return (uint32_t)(place & 0xffff);
}

/* superblock.c */
struct store_io_wait;
int store_io_sync(struct device *dev, struct env *env, void (*pump)(void *ctx), void *ctx,
	struct device_io *io);
int super_load(
	struct store *s, const struct store_options *opt, struct store_refusal *refusal);
int super_store(struct store *s);
void refuse(struct store_refusal *refusal, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* segment.c */
int segment_table_init(struct store *s);
/* Blocks that the cleaner can fill in a segment, heads and payloads deducted. */
uint32_t segment_usable(const struct store *s);
void segment_table_release(struct store *s);
uint32_t segment_index(const struct store *s, const struct segment *g);
uint64_t segment_offset(const struct store *s, const struct segment *g, uint32_t block);
struct segment *segment_find(const struct store *s, uint64_t seq);
uint64_t *segment_bitmap(const struct store *s, const struct segment *g);
void segment_assign(struct store *s, struct segment *g, uint64_t seq, uint32_t kind);
void segment_set_state(struct store *s, struct segment *g, enum segment_state state);
void segment_free(struct store *s, struct segment *g);
/* Open a new segment for a stream when more than `keep` are free; else -EAGAIN. */
int segment_advance(struct store *s, enum store_stream stream, uint32_t keep);
bool place_live(const struct store *s, uint64_t place);
void place_set(struct store *s, uint64_t place);
void place_clear(struct store *s, uint64_t place);
void segment_discard_one(struct store *s);

/* forward.c */
void forward_release(struct store *s);
/* Where the live block is: 0, -ESTALE, or an error of the index. */
int forward_resolve(struct store *s, uint64_t id, uint64_t *place_out);
int forward_resolve_range(
	struct store *s, uint64_t id, uint32_t count, uint64_t *place_out);
/* Apply a record to index and bitmaps, all or nothing. */
int record_apply(struct store *s, uint64_t id, uint32_t block_count, const void *bytes,
	size_t size_bytes);
int moves_apply(struct store *s, const void *bytes, size_t size_bytes);

/* commit.c */
int group_init(struct store *s);
void group_release(struct store *s);
struct group *group_open(
	struct store *s, enum store_stream stream, uint32_t need, uint32_t keep);
void group_drop(struct group *g);
bool group_fits(const struct group *g, uint32_t data_count, uint32_t record_bytes);
void group_append(struct group *g, const struct record_view *r);
void group_seal(struct group *g);
uint8_t *group_data(const struct group *g, uint32_t data_index);
void commit_poll(struct store *s);
void commit_room(struct store *s);
bool commit_quiet(const struct store *s);
void store_fail(struct store *s, int status);
void commit_cancel(struct store *s, int status);

/* checkpoint.c */
void checkpoint_poll(struct store *s);
uint64_t checkpoint_delay_us(const struct store *s);
void checkpoint_cancel(struct store *s, int status);
int checkpoint_sync(struct store *s); /* for recovery */

/* cleaner.c */
int cleaner_init(struct store *s);
void cleaner_release(struct store *s);
void cleaner_poll(struct store *s);
uint32_t cleaner_target(const struct store *s);

/* recovery.c */
int recovery_run(struct store *s, const struct store_options *opt,
	struct store_refusal *refusal);

/* read.c */
int read_init(struct store *s);
void read_release(struct store *s);
/* Remember new blocks: an overwrite of a part will want them again soon. */
void read_cache_fill(
	struct store *s, uint64_t place, const void *data, uint32_t block_count);
/* Go on with reads that the device did not take; true when some still wait. */
bool read_poll(struct store *s);
/* End reads that the device will never answer. */
void read_abandon(struct store *s, int status);
void read_cancel(struct store *s, int status);

#endif

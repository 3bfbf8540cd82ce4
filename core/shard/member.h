/*
 * Buckets with several members, as one shard sees them.
 *
 * One member, the primary, serves a bucket and gives its records their order. It sends
 * each to the others, the backups, in a stream; it answers when its own log and all
 * backups hold it (struct commit). Who is what stands in the map; a change of primary is a
 * new epoch of the bucket, and begins with a JOIN to all members:
 *
 *        map: we are primary                all backups joined, none is ahead,
 *        of a new epoch                     and they have what we have
 *   (any) ------------------> ROLE_TAKING -----------------------------------> ROLE_PRIMARY
 *              one is ahead: propose a handover to it                              |
 *                                                                                  v
 *   (any) <---------------- map: somebody else is -----------------------  ROLE_LEAVING
 *
 * Why nothing is lost: an acknowledged record is in every in-sync member, and only such
 * become primary. Why nothing is invented: a primary serves under its node's lease only,
 * and another takes over when that has run out, or when the first has stopped by itself
 * (ROLE_LEAVING). What a deposed primary has beyond that was never acknowledged; it shows
 * by its epoch and lsn, and such a member is emptied and copied anew.
 *
 *   history.c   records kept for who comes back       stream.c   the primary's side
 *   backup.c    the others' side                      takeover.c roles, and repair
 *   handover.c  what is open goes along
 *   progress.c  how far repair is, and how fast it may be
 *   clear.c     what is left of buckets that went elsewhere
 */
#ifndef WFS_SHARD_MEMBER_H
#define WFS_SHARD_MEMBER_H

#include "core/shard/shard_impl.h"
#include "meta/member.h"

#define STREAMS_MAX   (2 * MAP_COPIES_MAX)
#define STREAM_WINDOW 32u
#define EPOCHS_KEPT   16u

/* A record as other members get it. */
struct shipment {
	struct list link;     /* of its bucket, by lsn */
	struct list all_link; /* of the shard, oldest first */
	uint32_t refs;
	uint16_t bucket;
	uint32_t epoch;
	uint64_t lsn;
	uint64_t id; /* of its blocks, here */
	uint32_t block_count;
	uint8_t *data; /* of the blocks, until they were sent; NULL: the store has them */
	uint32_t ops_size;
	uint8_t ops[];
};

enum bucket_role { ROLE_NONE, ROLE_BACKUP, ROLE_TAKING, ROLE_PRIMARY, ROLE_LEAVING };

struct bucket_state {
	enum bucket_role role;
	uint32_t epoch;        /* nothing of an older one is taken any more */
	uint32_t record_epoch; /* of its last record; 0: what is here is not whole */
	uint32_t handover;     /* ROLE_LEAVING: to which shard */
	bool proposed;         /* the handover */
	bool wiped;            /* a copy is coming in */
	uint64_t gone_us;      /* since when it is not ours in any way; 0: it is */
	uint32_t gone_stream;  /* `stream` at that time */
	bool cleared;          /* nothing of it is left here */
	uint32_t stream;       /* the number of the one that may write here */
	uint32_t wipe_stream;  /* and of the one that wiped it */
	uint64_t grace_until_us; /* just taken: every file counts as open; 0: over */
	uint32_t opens_epoch; /* what the table of opens has of it is of the end of this one */
	bool opening;          /* ROLE_TAKING: the first record of the epoch is being made */
	uint32_t stream_count;
	struct stream *streams[STREAMS_MAX];
	struct list history; /* shipments */
	struct list early;   /* execs that wait for the record before theirs */
};

enum stream_stage {
	STREAM_JOINING,
	STREAM_JOINED, /* and waits for the decision what to do about it */
	STREAM_LIVE,
	STREAM_COPYING,
};

struct stream {
	struct shard *s;
	uint16_t bucket;
	uint32_t shard; /* of the other member */
	uint32_t epoch;
	uint32_t number; /* of its last JOIN */
	bool backup;  /* in the map: it counts for acknowledgements */
	bool closed;  /* freed when nothing is in flight */
	bool failed;  /* it cannot go on: evict, or begin again */
	enum stream_stage stage;
	uint32_t join_epoch; /* what JOIN said */
	uint64_t join_lsn;
	uint8_t device_uuid[16]; /* the same: it has all this on that device only */
	uint64_t acked;
	uint64_t next;
	uint32_t in_flight;
	bool unit_out; /* a unit of the copy is in flight: records up to unit_lsn only */
	bool wiping;
	uint64_t unit_lsn;
	uint64_t retry_us;
	uint64_t failing_us; /* since when; 0: it is well */
	uint64_t propose_us; /* not again before */
	uint64_t counts_until_us; /* proposed as a member: it may have become one */
	struct meta_copy *copy;
	uint64_t unit_us;      /* when the unit was sent */
	uint64_t copied_bytes; /* of data, in units that have arrived */
};

/* --- history.c --- */

/* Keep a record that was committed. Best effort: a gap makes streams fail, no more. */
void history_add(struct shard *s, uint16_t bucket, uint32_t epoch, uint64_t lsn,
	const struct store_record *r, const void *batch, size_t batch_size_bytes,
	bool with_data);
struct shipment *history_find(struct shard *s, uint16_t bucket, uint64_t lsn);
bool history_reaches(struct shard *s, uint16_t bucket, uint64_t lsn);
void history_forget(struct shard *s, uint16_t bucket);
/* The same, up to lsn. */
void history_cut(struct shard *s, uint16_t bucket, uint64_t lsn);
void history_take(struct shard *s, struct shard_history *h);
void history_free_all(struct shard *s);
void shipment_release(struct shard *s, struct shipment *sh);

/* --- stream.c --- */

void stream_poll(struct stream *st, uint64_t now);
/* Ask again how far the other side is. */
void stream_rejoin(struct stream *st);
struct stream *stream_open(struct shard *s, uint16_t bucket, uint32_t shard, bool backup);
void stream_close(struct stream *st);
/* Send what there is to send. */
void stream_pump(struct stream *st);
/* Go on after lsn; false: the history does not reach there. */
bool stream_resume(struct stream *st, uint64_t lsn);
void stream_copy(struct stream *st);

/* --- backup.c --- */

void join_start(struct exec *x);
void replicate_start(struct exec *x);
void early_rerun(struct shard *s, uint16_t bucket);
void early_expire(struct shard *s, uint16_t bucket, uint64_t now);
/*
 * Delete what is here of the bucket, or as much of it as one record does, by a record
 * (0, lsn). 0: last() is called when it is durable; 1: part(), and there is more; errors
 * of exec_begin, exec_commit and the index.
 */
int bucket_wipe(struct exec *x, uint16_t bucket, uint64_t lsn,
	void (*part)(struct store_record *r, int status),
	void (*last)(struct store_record *r, int status));

/* --- takeover.c --- */

int member_new(struct shard *s, const struct shard_options *opt);
void member_free(struct shard *s);
/* How far each bucket is, from the index. */
int positions_load(struct shard *s);
void member_map(struct shard *s);
void member_poll(struct shard *s, uint64_t now, uint64_t *next_us);
/* A stream has news. */
void member_news(struct shard *s, uint16_t bucket);
/* The bucket has another primary, of `epoch`. */
void bucket_depose(struct shard *s, uint16_t bucket, uint32_t epoch);
void member_soon(struct shard *s);
struct stream *stream_find(const struct bucket_state *b, uint32_t shard);

/* --- handover.c --- */

#define OPENS_SIZE_MAX WIRE_INLINE_MAX /* of struct wire_held, in one answer */

/* Before the bucket's epoch changes: we served it until now. */
void opens_keep(struct shard *s, uint16_t bucket);
/* In the answer to the JOIN of `epoch`. */
void opens_tell(struct exec *x, uint16_t bucket, uint32_t epoch);
void opens_hear(struct shard *s, uint16_t bucket, const struct wire_join_reply *reply,
	const struct wire_held *held, uint32_t size_bytes);
/* We serve it from now on. */
void opens_begin(struct shard *s, uint16_t bucket);

/* --- clear.c --- */

/* True: there is something to delete, now or later. */
bool clear_poll(struct shard *s, uint64_t now);

/* --- progress.c --- */

/* Whether a unit of a copy may be sent now. When not, member_poll comes when it may. */
bool copy_may(struct shard *s, uint64_t now);
/* A unit is sent, of so many bytes of data; and has arrived. */
void copy_sent(struct stream *st, uint32_t size_bytes, uint64_t now);
void copy_arrived(struct stream *st, uint32_t size_bytes, uint64_t now);
void copy_rate_update(struct shard *s, uint64_t now);

/* --- commit queue (commit.c) --- */

/* exec_commit's part: before x's record is given to the store, and after. */
void commit_init(struct exec *x, void (*done)(struct store_record *r, int status));
void commit_push(struct exec *x);
/* exec_finish's part. */
void commit_barrier(struct exec *x);
/* done() when all that was committed so far may be answered; it ends x. */
void commit_barrier_then(
	struct exec *x, void (*done)(struct store_record *r, int status));
void commits_advance(struct shard *s);
/* All of a bucket end with -EREMCHG: it is no longer ours. */
void commits_fail(struct shard *s, uint16_t bucket);

/* Some backup has no room for new data. */
bool members_full(struct shard *s, uint16_t bucket);

#endif

/*
 * Transactions over several buckets: parts, intents, decisions.
 *
 * A transaction is a list of steps. The steps on one bucket form a part, and a part is
 * validated and turned into mutations as a whole by meta_part_build. If all steps are on
 * one bucket that is all there is: one batch, one record.
 *
 * Otherwise presumed-abort two-phase commit. The coordinator is the shard that owns the
 * first part's bucket. It sends every other part to its owner, who builds it, and logs
 * an intent: key T|txid with the batch and the inodes it locks (meta_prepare). When all
 * have said yes the coordinator builds its own part and commits it together with a
 * decision, key T|txid with the list of buckets (meta_decide); that record is the
 * commit point. It then tells the participants, who apply the intent (meta_resolve), and
 * forgets the decision when all have (meta_forget). A participant that wonders asks the
 * coordinator's bucket: no decision there and nothing under way means abort.
 *
 *            build ok            decision durable          all resolved
 *   coordinator: meta_lock ----> meta_decide ------------> meta_forget
 *   participant: meta_prepare -> (in doubt, locked) ----> meta_resolve(commit)
 *                                      `-- no decision --> meta_resolve(abort)
 *
 * Locks are by inode: while a transaction holds an inode, every operation that names it
 * gets -EINPROGRESS. A part that meets a lock of another transaction is refused with
 * -EAGAIN (nobody waits while holding, so nothing deadlocks): the coordinator aborts,
 * waits a random moment, and begins again.
 */
#ifndef WFS_META_PART_H
#define WFS_META_PART_H

#include "meta/meta.h"

enum step_type {
	STEP_ENTRY_INSERT = 1, /* dir gets name -> ino; expect: what name leads to now */
	STEP_ENTRY_REMOVE,     /* name, which leads to expect, leaves dir */
	STEP_ENTRY_REPLACE,    /* name, which leads to expect, now leads to ino (exchange) */
	STEP_INODE_NEW_DIR,    /* a fresh empty directory, parent dir; its ino is the reply */
	STEP_INODE_LINK,       /* one more link to ino, not a directory */
	STEP_INODE_UNLINK,     /* one link less; the last makes it an orphan or removes it */
	STEP_INODE_RMDIR,      /* ino is an empty directory: it goes */
	STEP_INODE_MOVED,      /* ctime now; a directory's or symlink's parent becomes dir;
				* -EACCES: the caller may not write a directory that moves */
};

#define STEP_PERMIT 1u /* entry steps: check that the caller may write and search dir, and
			  the sticky rule against victim_uid */

/* Wire and log form of a step: little-endian, then the name; meta/schema.h. */
struct step {
	enum step_type type;
	uint32_t flags;
	ino_id dir;
	ino_id ino;        /* 0 in ENTRY_INSERT: the ino that STEP_INODE_NEW_DIR made,
			      patched in by the coordinator before it builds */
	ino_id expect;     /* 0: name must not exist */
	uint8_t dtype;     /* DT_* of ino */
	uint8_t expect_dtype;
	uint32_t victim_uid; /* owner of `expect` (or, INSERT without expect, unused) */
	uint32_t mode;     /* NEW_DIR */
	uint32_t uid;      /* NEW_DIR */
	uint32_t gid;
	uint32_t fsid;
	const char *name;
	uint32_t name_size;
};

#define TXN_STEPS_MAX 8
#define TXN_PARTS_MAX 6

struct part {
	uint16_t bucket;
	uint32_t step_count;
	struct step steps[TXN_STEPS_MAX];
};

/* Encoded parts: what travels in a prepare. Pure; decode is fuzzed. -EUCLEAN. Decoded names
 * point into the bytes. */
int part_encode(const struct part *part, struct buf *out);
int part_decode(const void *bytes, size_t size_bytes, struct part *part_out);

/*
 * Validate and build the mutations of a part into c->batch. new_ino_out (may be NULL):
 * what STEP_INODE_NEW_DIR made. purge_out: an inode lost its last link and chunks above 0
 * remain, a purge job was left. -ESTALE: an expectation does not hold, plan again.
 * -EAGAIN: locked by another transaction than txid (0: by any), or being truncated.
 * Else errno of the call:
 * -ENOTEMPTY, -EMLINK, -EACCES, -EPERM, -ENOSPC ...
 */
int meta_part_build(struct meta *m, const struct meta_call *c, uint64_t txid,
	const struct part *part, ino_id *new_ino_out, bool *purge_out);

/* --- coordinator ----------------------------------------------------------------------- */

/* Hold the inodes of a part in memory while others prepare. -EAGAIN. */
int meta_lock(struct meta *m, uint64_t txid, const struct part *part);
/* Drops what txid holds, save inodes of buckets that still have an intent of it here. */
void meta_unlock(struct meta *m, uint64_t txid);
/* Drops what txid holds in one bucket: its part there is over. */
void meta_unlock_bucket(struct meta *m, uint64_t txid, uint16_t bucket);
/* Add the decision record key for txid naming the participants' buckets. */
int meta_decide(struct meta *m, struct batch *batch, uint64_t txid,
	const uint16_t *buckets, uint32_t bucket_count);
int meta_forget(struct meta *m, struct batch *batch, uint64_t txid);
/* 1: decided (committed), 0: unknown here. */
int meta_decision(struct meta *m, uint64_t txid);

/* --- participant ----------------------------------------------------------------------- */

/* Build the part, and put intent instead of the mutations themselves into c->batch; lock.
 * Idempotent: an intent that is there already says 0 again, with the same new ino. */
int meta_prepare(struct meta *m, const struct meta_call *c, uint64_t txid,
	const struct part *part, ino_id *new_ino_out);
/*
 * End an intent: commit adds its mutations, both drop the key; the lock goes when the
 * caller has committed the batch (meta_unlock). Idempotent: -ENOENT when there is none.
 */
int meta_resolve(struct meta *m, struct batch *batch, uint16_t bucket, uint64_t txid,
	bool commit, bool *purge_out);

/* txid = coordinator bucket:16 | unique:48 */
static inline uint16_t txid_bucket(uint64_t txid)
{
	return (uint16_t)(txid >> 48);
}

/* --- after a crash ---------------------------------------------------------------------- */

enum txn_role { TXN_COORDINATOR, TXN_PARTICIPANT };
/*
 * Rebuild the lock table from the intents in the kv and tell of each transaction found:
 * decisions to be finished, intents to ask about.
 */
int meta_recover(struct meta *m,
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count),
	void *ctx);
/* The same for one bucket; the locks of others stay. */
int meta_recover_bucket(struct meta *m, uint16_t bucket,
	void (*found)(void *ctx, enum txn_role role, uint16_t bucket, uint64_t txid,
		const uint16_t *buckets, uint32_t bucket_count),
	void *ctx);
/* Called when locks were released: parked operations may run again. */
void meta_on_unlock(struct meta *m, void (*unlocked)(void *ctx), void *ctx);

#endif

/*
 * The shared memory between a program and its host's wfsd: one sealed memfd per session,
 * made by wfsd, given to the program at attach over the Unix socket.
 *
 *   header (one page) | slots[slot_count] | data[slot_count], WIRE_DATA_MAX each
 *
 * A program thread takes a free slot (the program keeps count of them in memory of its
 * own), writes head and body, sets the slot's bit in `submitted`, and wakes wfsd through
 * the eventfd if `asleep`. wfsd takes the bits, copies head and body before it validates
 * them, and believes nothing twice. The reply overwrites head and body; then state turns
 * to SLOT_DONE, with a futex wake if the program said it waits.
 *
 *   SLOT_FREE --client--> SLOT_SUBMITTED --wfsd--> SLOT_DONE --client--> SLOT_FREE
 *
 * A program that gives up waiting (deadline), or never meant to (close), sets
 * SLOT_ABANDONED by compare-and-swap from SUBMITTED; wfsd then turns the slot to FREE
 * when the operation ends, and the program finds it so when it looks for slots.
 *
 * Attach: the client connects, sends struct shm_hello, and gets struct shm_welcome with
 * two fds (memfd, eventfd), or an errno. The connection stays open: its end is the
 * session's end. Identity is the peer credentials of the socket; when the program has
 * changed its ids it increments cred_generation and wfsd reads them anew from the kernel.
 * A program of uid 0 may act for others, as a mount does for all its users: a request with
 * HEAD_ACT_AS is done in the name of head.uid, head.gid and the slot's groups. From anybody
 * else such a request ends the session.
 *
 * Attach again: when the connection ends because wfsd died or was restarted, the program
 * connects to the same path, and its hello names the session it had and the `boot` of the
 * wfsd it lost. It gets new memory for the same session number, submits again whatever
 * was not answered, with the same slot and seq, and says what it holds open (OP_REOPEN).
 * The new wfsd knows nothing of the old one's sessions, so the number itself is the proof:
 * 64 random bits that only the program and the cluster's nodes ever see (no log line has
 * them all). What the calls may do is decided by who connects now. A wfsd refuses its own
 * boot (ECONNABORTED): whom it has thrown out stays out; and a session that somebody is
 * attached to (EBUSY). A forked child does not attach again but for itself.
 */
#ifndef WFS_SHIM_CLIENT_SHM_H
#define WFS_SHIM_CLIENT_SHM_H

#include <stdatomic.h>

#include "net/wire.h"

#define SHM_MAGIC      0x31534657u /* "WFS1" */
#define SHM_VERSION    4u
#define SHM_SLOT_COUNT 32u
#define SHM_OWNERS_MAX 1024u

enum slot_state { SLOT_FREE, SLOT_SUBMITTED, SLOT_DONE, SLOT_ABANDONED };

struct shm_slot {
	_Atomic uint32_t state;
	_Atomic uint32_t waiting; /* the program sleeps on state */
	uint32_t reserved[14];
	struct wire_head head;    /* data_addr, data_key unused */
	uint8_t body[WIRE_BODY_MAX];
	le32 groups[WFS_GROUPS_MAX]; /* head.group_count of them, with HEAD_ACT_AS */
	uint8_t pad[12288 - 64 - sizeof(struct wire_head) - WIRE_BODY_MAX -
		    4 * WFS_GROUPS_MAX];
};
_Static_assert(sizeof(struct shm_slot) == 12288, "three pages");

struct shm_header {
	uint32_t magic;
	uint32_t version;
	uint32_t slot_count;
	uint32_t shard_count;  /* of the cluster */
	uint32_t bucket_count;
	uint32_t timeout_ms;   /* after which a call fails */
	uint64_t session;
	uint64_t boot;         /* random, of this run of wfsd */
	ino_id root;           /* of the filesystem attached to */
	uint32_t fsid;
	uint32_t reserved;
	uint64_t slots_offset; /* bytes from the start of the memory */
	uint64_t data_offset;
	uint64_t total_size;
	_Alignas(64) _Atomic uint64_t submitted; /* one bit a slot */
	_Alignas(64) _Atomic uint32_t asleep;    /* wfsd waits for the eventfd */
	_Alignas(64) _Atomic uint32_t cred_generation;
	/* A hint, as of the attach: the shard that owns each bucket. owner_count is 0 when
	 * there are too many buckets to list. */
	uint32_t owner_count;
	uint16_t owners[SHM_OWNERS_MAX];
};
_Static_assert(sizeof(struct shm_header) <= 4096, "header page");

struct shm_hello {
	uint32_t magic;
	uint32_t version;
	char filesystem[64]; /* name, NUL-terminated; empty: the first one */
	uint64_t session;    /* to go on with; 0: a new one */
	uint64_t boot;       /* of the wfsd that it was with; 0: a new one */
};

struct shm_welcome {
	uint32_t magic;
	int32_t error; /* 0 or errno; then no fds follow */
	uint64_t total_size;
};

#define SHM_SLOTS_OFFSET 4096u
#define SHM_DATA_OFFSET  (SHM_SLOTS_OFFSET + SHM_SLOT_COUNT * sizeof(struct shm_slot))
#define SHM_TOTAL_SIZE   (SHM_DATA_OFFSET + (uint64_t)SHM_SLOT_COUNT * WIRE_DATA_MAX)

#endif

/*
 * The inside of the client library: the struct, calls over slots, and walking paths.
 *
 * Layers: slot.c (take a slot, submit, wait), which calls ride.c (attach again after
 * wfsd's restart) when the connection has ended < walk.c (path operations across shards
 * and symlinks) < attach.c, names.c, data.c, dir.c (what client.h offers).
 *
 * A slot belongs to the call that took it, from slot_take to slot_release; so do the
 * scratch buffers of the same number, which keep the program's stack small. Which slots
 * are taken is a word in private memory, `busy`; the only lock-free structure there is.
 * Nothing is ever held that a signal handler could wait for, save slots, of which there
 * are enough; and every wait has an end.
 *
 * A slot lives in one of MEMORY_COUNT memories: that of the wfsd we are attached to now,
 * or one whose wfsd is gone, until its owner moves it (slot.c). A memory's address never
 * becomes invalid; when nobody uses it any more it is emptied, and the next attachment may
 * be mapped over it.
 */
#ifndef WFS_SHIM_CLIENT_INTERNAL_H
#define WFS_SHIM_CLIENT_INTERNAL_H

#include "shim/client/client.h"
#include "shim/client/shm.h"
#include "shim/client/sys.h"

#define CLIENT_MOUNT_MAX 1024u
#define CLIENT_SOCKET_MAX 108u
#define CLIENT_WINDOW    8u /* slots that one big read or write uses at a time */

/* Should every slot be left in another, there is still the current and a free one. */
#define MEMORY_COUNT     (SHM_SLOT_COUNT + 2u)
#define MEMORY_EMPTYING  0x80000000u
#define OPENS_SIZE       32768u

struct memory {
	struct shm_header *header;
	_Atomic uint32_t users; /* slots in it, and 1 while it is the current one */
};

struct scratch {
	char path[2][WFS_PATH_MAX];
	uint8_t body[WIRE_BODY_MAX]; /* of the request, until it is answered */
	uint8_t reply[WIRE_BODY_MAX];
	uint32_t seq; /* of the slot's last request */
	struct memory *_Atomic at;
};

struct client {
	struct memory memories[MEMORY_COUNT];
	struct memory *_Atomic current;
	_Atomic int socket;
	_Atomic int event;
	_Atomic uint32_t event_users; /* threads about to write to event */
	_Atomic bool dead;
	bool may_spin;
	_Atomic bool fail_fast;
	_Atomic bool persists;
	_Atomic uint64_t no_spin_until_ns;
	/* Copies of the header's fields, which nobody can change any more. */
	uint32_t shard_count;
	uint32_t bucket_count;
	uint32_t timeout_ms;
	uint64_t session;
	ino_id root;
	uint32_t owner_count;
	_Atomic uint16_t owners[SHM_OWNERS_MAX];
	char mount[CLIENT_MOUNT_MAX]; /* "" for "/": no slash at the end */
	/* To attach again; ride.c. */
	char socket_path[CLIENT_SOCKET_MAX];
	char filesystem[64];
	long pid;
	uint64_t boot;                 /* of the wfsd attached to */
	_Atomic uint32_t riding;       /* a thread attaches again */
	_Atomic uint32_t attachment;   /* counts them; futex */
	_Atomic uint64_t attached_ns;  /* when this one began */
	_Atomic uint64_t lost_ns;      /* since when there is none; 0: there is */
	_Atomic uint32_t cred_changes;
	_Atomic uint32_t *alive;      /* a page that fork wipes in the child */
	_Alignas(64) _Atomic uint32_t busy;
	_Atomic uint32_t abandoned; /* subset of busy that wfsd will free */
	_Atomic uint32_t freed;     /* futex: counts releases */
	_Atomic uint32_t starving;  /* threads that wait on freed */
	_Alignas(64) _Atomic uint32_t expect_ns[2 * OP_NODE_FIRST];
	_Atomic uint32_t probe;
	_Alignas(64) _Atomic uint64_t statfs_at_ns;
	_Atomic uint64_t statfs[3];
	struct scratch scratch[SHM_SLOT_COUNT];
	/* What is open, once for each open; see opens.c. */
	_Atomic uint32_t opens_probe;
	_Atomic uint64_t opens[OPENS_SIZE];
};

/* --- attach.c ----------------------------------------------------------------------- */

/*
 * Connect and map into m, which nobody uses: c->session and c->boot of 0 ask for a new
 * session, else the same is wanted again. -EPROTO: it is another cluster's, or version's;
 * -ECONNABORTED: wfsd has thrown us out; -EBUSY: wfsd still has the session.
 */
int attach_connect(struct client *c, struct memory *m, int *socket_out, int *event_out);
void attach_owners(struct client *c, const struct shm_header *h);

/* --- ride.c ------------------------------------------------------------------------- */

/* The connection has ended: attach again, as often as it takes. 0; -ENOTCONN: it has been
 * tried for as long as a call may take, or there is no hope; the client is dead. */
int client_ride(struct client *c);

/* --- opens.c ------------------------------------------------------------------------ */

void opens_add(struct client *c, ino_id ino);
void opens_remove(struct client *c, ino_id ino);
/* Tell the owners again, of one inode or of all. */
void opens_declare(struct client *c, ino_id ino);
void opens_declare_all(struct client *c);

/* --- slot.c ------------------------------------------------------------------------- */

#define SLOT_NONE (-1)

/* What to send; body and data are in the slot already. */
struct call {
	uint16_t op;
	uint16_t target; /* bucket, or shard number */
	bool to_shard;
	uint32_t timeout_ms; /* 0: the cluster's */
	uint32_t body_size;
	uint32_t data_size;
	uint32_t data_max;
	uint32_t seq; /* 0: the slot's next, which submit puts here */
	/* Out. */
	uint32_t reply_size;
	uint32_t reply_data_size;
	/* Private between submit and wait. */
	uint64_t start_ns;
};

uint64_t client_now_ns(void);
/* 0, -ENOTCONN: wfsd has gone, or this is a forked child. */
int client_check(struct client *c);
/* Asks the kernel whether the connection stands: 1, or 0, or -EBADF and the like when
 * the program has taken the descriptor away. */
int client_stands(struct client *c);
/* The same, and attaches again if not: 0 or -ENOTCONN. */
int client_probe(struct client *c);
/* A reference to the current memory, and its end. */
struct memory *memory_ref(struct client *c);
void memory_unref(struct memory *m);

/* A slot, or with wait false SLOT_NONE at once when all are taken; -ETIMEDOUT, -ENOTCONN. */
int slot_take(struct client *c, bool wait);
void slot_release(struct client *c, int slot);
static inline uint8_t *slot_body(struct client *c, int slot)
{
	return c->scratch[slot].body;
}
static inline struct shm_slot *memory_slot(const struct memory *m, int slot)
{
	uint8_t *bytes = (uint8_t *)m->header;

	return (struct shm_slot *)(void *)(bytes + SHM_SLOTS_OFFSET) + slot;
}
static inline uint8_t *memory_data(const struct memory *m, int slot)
{
	return (uint8_t *)m->header + SHM_DATA_OFFSET + (size_t)slot * WIRE_DATA_MAX;
}
/* Valid until the call is submitted, and again when it is answered. */
static inline uint8_t *slot_data(struct client *c, int slot)
{
	return memory_data(atomic_load(&c->scratch[slot].at), slot);
}
void slot_submit(struct client *c, int slot, struct call *call);
/*
 * 0 with the validated reply in scratch[slot].reply, or the operation's negative errno:
 * the slot is still the caller's. *lost_out true: it is not (the call was abandoned;
 * -ETIMEDOUT, -ENOTCONN), and must not be released.
 */
int slot_wait(struct client *c, int slot, struct call *call, bool *lost_out);
/* Nobody waits for the reply; the slot is given up. */
void slot_leave(struct client *c, int slot);
/* Take back abandoned slots that are free by now. */
void slot_reap(struct client *c);
/* wfsd shall look into the memory. */
void event_kick(struct client *c);

/*
 * One small request and its reply, all in one: take, submit, wait, release. reply may be
 * NULL; else exactly reply_size bytes are wanted (-EPROTO).
 */
int client_ask(struct client *c, uint16_t op, uint16_t bucket, const void *body,
	uint32_t body_size, void *reply, uint32_t reply_size);

/* --- walk.c ------------------------------------------------------------------------- */

struct path_call {
	uint16_t op;
	uint8_t mode; /* enum wire_walk_mode */
	uint8_t want; /* of struct wire_path */
	struct wire_path *fixed; /* start of the op's fixed part */
	uint32_t fixed_size;
	const void *extra;
	uint32_t extra_size;
	const void *data;
	uint32_t data_size;
	void *reply_data; /* at most this many bytes are copied out ... */
	uint32_t reply_data_max;
	/* Out. */
	uint32_t reply_data_size; /* ... of so many */
	struct wire_walk_reply reply;
	char *target; /* room for WFS_SYMLINK_MAX bytes, for OP_READLINK; else NULL */
	char name[WFS_NAME_MAX + 1]; /* OP_WALK with WIRE_PARENT: the last name */
	uint32_t name_size;
	bool must_be_dir;
};

/* Carry the operation out wherever the path leads. 0 or the call's negative errno. */
int path_run(struct client *c, struct where *w, struct path_call *call);
/* The last component of a path, without the slashes after it. */
void path_last(const char *path, const char **name_out, size_t *size_out);
bool name_is_dot(const char *name, size_t size);
bool name_is_dotdot(const char *name, size_t size);

/* After a truncate or an open with O_TRUNC: until the cut has reached all chunks, lest
 * somebody reads there what was before. attr: in and out. */
int client_cut_wait(struct client *c, const struct path_call *pc, struct client_attr *attr);

void client_attr_get(const struct wire_attr *w, struct client_attr *out);

#endif

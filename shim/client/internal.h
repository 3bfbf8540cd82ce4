/*
 * The inside of the client library: the struct, calls over slots, and walking paths.
 *
 * Layers: slot.c (take a slot, submit, wait) < walk.c (path operations across shards and
 * symlinks) < attach.c, names.c, data.c, dir.c (what client.h offers).
 *
 * A slot belongs to the call that took it, from slot_take to slot_release; so do the
 * scratch buffers of the same number, which keep the program's stack small. Which slots
 * are taken is a word in private memory, `busy`; the only lock-free structure there is.
 * Nothing is ever held that a signal handler could wait for, save slots, of which there
 * are enough; and every wait has an end.
 */
#ifndef WFS_SHIM_CLIENT_INTERNAL_H
#define WFS_SHIM_CLIENT_INTERNAL_H

#include "shim/client/client.h"
#include "shim/client/shm.h"
#include "shim/client/sys.h"

#define CLIENT_MOUNT_MAX 1024u
#define CLIENT_WINDOW    8u /* slots that one big read or write uses at a time */

struct scratch {
	char path[2][WFS_PATH_MAX];
	uint8_t reply[WIRE_BODY_MAX];
	uint32_t seq; /* of the slot's last request */
};

struct client {
	struct shm_header *header;
	struct shm_slot *slots;
	uint8_t *data;
	_Atomic int socket;
	_Atomic int event;
	_Atomic uint32_t event_users; /* threads about to write to event */
	_Atomic bool dead;
	bool may_spin;
	_Atomic uint64_t no_spin_until_ns;
	/* Copies of the header's fields, which nobody can change any more. */
	uint32_t shard_count;
	uint32_t bucket_count;
	uint32_t timeout_ms;
	uint64_t session;
	ino_id root;
	char mount[CLIENT_MOUNT_MAX]; /* "" for "/": no slash at the end */
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
};

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
	/* Out. */
	uint32_t reply_size;
	uint32_t reply_data_size;
	/* Private between submit and wait. */
	uint64_t start_ns;
};

uint64_t client_now_ns(void);
/* 0, -ENOTCONN: wfsd has gone, or this is a forked child. */
int client_check(struct client *c);
/* Asks the kernel whether the connection stands. */
int client_probe(struct client *c);

/* A slot, or with wait false SLOT_NONE at once when all are taken; -ETIMEDOUT, -ENOTCONN. */
int slot_take(struct client *c, bool wait);
void slot_release(struct client *c, int slot);
static inline uint8_t *slot_body(struct client *c, int slot)
{
	return c->slots[slot].body;
}
static inline uint8_t *slot_data(struct client *c, int slot)
{
	return c->data + (size_t)slot * WIRE_DATA_MAX;
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

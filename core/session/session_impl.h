/*
 * The inside of the session server. session.c: the listener and the life of a session;
 * take.c: requests out of the slots and replies back; identity.c: who the program is.
 *
 *   SESSION_HELLO --hello_readable--> SESSION_OPEN --session_end--> SESSION_ENDING
 *                                                     (freed by session_settle when no
 *                                                      request and no ring op is under way)
 *
 * Idle sessions cost nothing: a session is on the active list, where session_poll looks
 * into its memory each time, or dormant, with `asleep` set, and then its eventfd brings it
 * back. It falls dormant before the thread sleeps, or when many others are active and it
 * has been quiet for a while.
 */
#ifndef WFS_SESSION_IMPL_H
#define WFS_SESSION_IMPL_H

#include "core/base/list.h"
#include "core/session/session.h"
#include "shim/client/shm.h"

#define SESSION_COUNT_MAX 4096u
#define TAKE_POOL_MAX     1024u /* idle request buffers kept */

/* All the uids and gids that a program may turn to without help from the kernel. */
struct identity {
	struct cred cred;
	uint32_t uids[4]; /* real, effective, saved, file system */
	uint32_t gids[4];
	int pid;
	int pidfd;
};

enum session_state { SESSION_HELLO, SESSION_OPEN, SESSION_ENDING };

struct session {
	struct session_server *server;
	struct list link;        /* server->sessions, all */
	struct list active_link; /* server->active; itself when dormant */
	struct list hello_link;  /* server->hellos, oldest first */
	enum session_state state;
	uint64_t id;
	int socket;
	int event;
	struct shm_header *header;
	struct shm_slot *slots;
	uint8_t *data;
	struct identity identity;
	uint32_t cred_generation;
	uint32_t bucket_count; /* as told to the program */
	uint32_t busy;         /* slots whose request is under way */
	uint32_t under_way;
	uint32_t quiet;        /* polls that found nothing */
	unsigned ring_ops;     /* armed */
	bool socket_armed;
	bool event_armed;
	bool told;             /* ended() was called, or need not be */
	bool resumed;          /* of an earlier wfsd, and nothing was submitted yet */
	struct ring_op socket_op;
	struct ring_op event_op;
};

/* One request under way. */
struct take {
	struct request req;
	struct session *session;
	struct list link; /* pool, or server->again */
	uint64_t again_us;
	uint32_t slot;
	struct wire_head head;
	struct cred act_as; /* with HEAD_ACT_AS */
	_Alignas(8) uint8_t body[WIRE_BODY_MAX];
	_Alignas(8) uint8_t reply[WIRE_BODY_MAX];
};

struct session_server {
	struct env *env;
	struct ring *ring;
	const struct map *map;
	void (*submit)(void *ctx, struct request *req);
	void (*ended)(void *ctx, uint64_t session);
	void (*answered)(void *ctx, const struct request *req);
	void *ctx;
	struct list again; /* struct take: sent again soon */
	uint64_t boot; /* random, of this run */
	char path[108];
	int listener;
	bool accept_armed;
	bool closing; /* session_server_free was called: freed with the last request */
	struct ring_op accept_op;
	struct list sessions;
	struct list active;
	struct list hellos;
	uint32_t count;        /* all states */
	uint32_t open_count;
	uint32_t active_count;
	uint64_t rearm_us;     /* no accept before this, when fds are short */
	struct list pool;
	uint32_t pool_count;
};

/* --- session.c ---------------------------------------------------------------------- */

void session_end(struct session *s, const char *reason);
/* Free what is over. The session may be gone afterwards. */
void session_settle(struct session *s);
void session_activate(struct session *s);

/* --- take.c ------------------------------------------------------------------------- */

/* Take what is submitted in one session. Returns requests; may end the session. */
unsigned session_take(struct session *s);
/* Submit what is due again. */
unsigned takes_again(struct session_server *server);
void takes_drop(struct session *s);
void take_pool_release(struct session_server *server);

/* --- identity.c --------------------------------------------------------------------- */

/* From the socket's peer. */
int identity_init(struct identity *id, int socket);
void identity_release(struct identity *id);
/*
 * Read it anew. -EPERM: the program is now someone it could not have turned into by itself
 * (it executed a setuid program, say); -ESRCH: it is gone.
 */
int identity_refresh(struct identity *id);

#endif

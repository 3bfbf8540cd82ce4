/*
 * Sessions: the programs of this host, attached over a Unix socket and shared memory
 * (shim/client/shm.h has the layout and protocol).
 *
 * A session goes on in another run of wfsd when its program presents its number (shm.h).
 *
 * One session server per reactor thread. It takes requests out of the slots, copies and
 * validates them, fills in the identity, and hands each as a struct request to `submit`;
 * the reply goes back into the slot. Garbage in a ring or on the socket ends that session
 * with one log line and harms nobody else.
 */
#ifndef WFS_SESSION_SESSION_H
#define WFS_SESSION_SESSION_H

#include "core/cluster/map.h"
#include "core/io/ring.h"
#include "net/rpc.h"

struct session_server;

/* The reactor's loop: session_poll; and before it sleeps in ring_wait: if session_sleep,
 * sleep, then session_awake; else go round again. */

struct session_options {
	struct env *env;
	struct ring *ring;      /* borrowed: accept, hang-up and eventfds are polled here */
	const char *socket_path;
	const struct map *map;  /* borrowed; session_map_set replaces it */
	void (*submit)(void *ctx, struct request *req);
	/* A session has ended; none of its requests is under way any more. */
	void (*ended)(void *ctx, uint64_t session);
	/* A request was carried out; its reply is on its way to the program. May be NULL. */
	void (*answered)(void *ctx, const struct request *req);
	void *ctx;
};

/* -EADDRINUSE: another wfsd listens there (a stale socket file is replaced). */
int session_server_new(const struct session_options *opt,
	struct session_server **server_out);
/*
 * No more requests are taken, and none is answered: programs see the connection end, as
 * they do when wfsd is killed, and attach to the next one under the same session number.
 * So ended() is not called any more. Takes NULL.
 */
void session_server_quit(struct session_server *server);
/* Ends all sessions, the same way; requests under way may still call done() later, harmlessly. */
void session_server_free(struct session_server *server);
void session_map_set(struct session_server *server, const struct map *map);

/* Take what programs have submitted. Returns the number of requests. */
unsigned session_poll(struct session_server *server);
/* us until session_poll has something to do by itself. */
uint64_t session_next_us(const struct session_server *server);
/* Before sleeping: tell programs to use the eventfd. False: there is work, do not sleep. */
bool session_sleep(struct session_server *server);
void session_awake(struct session_server *server);
uint32_t session_count(const struct session_server *server);

#endif

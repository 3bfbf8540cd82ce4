/*
 * The namespace as this process sees it: settings from the environment, and the client,
 * attached at the first call that needs it.
 */
#ifndef WFS_PRELOAD_FS_H
#define WFS_PRELOAD_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/client/client.h"

#define FS_MOUNT_MAX 256u
#define FS_TEXT_MAX  4096u

struct fs_settings {
	char mount[FS_MOUNT_MAX]; /* "/wfs": absolute, no slash at the end */
	size_t mount_size;
	char socket[FS_MOUNT_MAX];
	char filesystem[64];
	char preload[FS_TEXT_MAX]; /* LD_PRELOAD when this process began */
	bool mount_given;
	bool debug;
};

enum fs_mode { FS_UNKNOWN, FS_OFF, FS_ON };
extern _Atomic int fs_mode;
bool fs_decide(void);

/* Whether the shim has anything to do at all: WFS_SOCKET is set. */
static inline bool fs_on(void)
{
	return fs_mode == FS_ON || (fs_mode == FS_UNKNOWN && fs_decide());
}

const struct fs_settings *fs_settings(void);
/* The value of name in env (an array as environ), or NULL. */
const char *env_value(char *const *env, const char *name);

/* The client, attached if need be. -EIO and what client_attach says. */
int fs_client(struct client **client_out);
/* Look at a result: -ENOTCONN makes the next fs_client attach anew. Returns rc. */
long fs_result(long rc);
/* Counts attachments: an open file with another number must be reopened. */
uint32_t fs_epoch(void);
/* Whether attached now; no attaching. */
struct client *fs_attached(void);
/* Called on entry: in a process that was forked since, forget the parent's client. */
void fs_check_fork_slow(void);
extern _Atomic uint32_t *fs_alive; /* in a page that fork wipes */
static inline void fs_check_fork(void)
{
	if (fs_alive && !*fs_alive)
		fs_check_fork_slow();
}
void fs_watch_fork(void);

/* The program's umask, without changing it. */
uint32_t fs_umask(void);
void fs_umask_set(uint32_t mask);

#endif

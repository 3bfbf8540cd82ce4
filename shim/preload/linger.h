/*
 * Closing late. A file that a child inherited is open in the child's own session only from
 * the child's first use on. If it has no name any more, and the parent closes it before
 * that (a shell's here-document), it would be gone. So the last close of a nameless file
 * that was open across a fork is kept back for a while.
 */
#ifndef WFS_PRELOAD_LINGER_H
#define WFS_PRELOAD_LINGER_H

#include "shim/client/client.h"

/* client_close, now or later. shared: another process may hold it. */
void linger_close(struct client *c, const struct client_file *cf, bool shared);
/* In a forked child: what the parent keeps back is not ours. */
void linger_forked(void);

#endif

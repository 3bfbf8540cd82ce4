/* Locks on WFS files, and the local files beside the daemon's socket; see lock.c. */
#ifndef WFS_PRELOAD_LOCK_H
#define WFS_PRELOAD_LOCK_H

#include "shim/preload/fd.h"

/* `<directory of the socket>/<folder>/<ino>` into buffer. False: no room. The folder is
 * made if it can be. */
bool side_path(const char *folder, ino_id ino, char *buffer, size_t size);

/* fcntl's F_*LK* commands on a WFS file. */
int lock_fcntl(int fd, struct file *f, struct client *c, int command, void *arg);

#endif

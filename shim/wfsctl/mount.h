/*
 * FUSE mounts of WFS on this host, as the kernel lists them.
 */
#ifndef WFS_WFSCTL_MOUNT_H
#define WFS_WFSCTL_MOUNT_H

#include <limits.h>
#include <stdbool.h>

#define MOUNT_DEFAULT  "/wfs" /* where the shim shows it, too */
#define MOUNT_NAME_MAX 123

enum mount_state {
	MOUNT_NONE,
	MOUNT_UP,
	MOUNT_DEAD, /* its wfs-fuse has died: everybody gets ENOTCONN */
};

struct mount_entry {
	char point[PATH_MAX];
	char fs[MOUNT_NAME_MAX + 1];
	enum mount_state state;
};

void mounts_each(void (*each)(void *ctx, const struct mount_entry *m), void *ctx);
/* What is mounted on an absolute path. */
bool mount_find(const char *point, struct mount_entry *out);

#endif

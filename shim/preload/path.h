/*
 * Which paths are WFS paths.
 *
 * A test by component: absolute paths below the mount ("//", "." and ".." before it are
 * read lexically), relative ones when the starting directory is in WFS or its path and
 * theirs together lead below the mount, and /proc/self/fd/N, /dev/fd/N, /dev/stdin, ...
 * of a WFS descriptor. A local symlink that points into the mount is the kernel's
 * business and not seen.
 */
#ifndef WFS_PRELOAD_PATH_H
#define WFS_PRELOAD_PATH_H

#include <errno.h>

#include "shim/client/client.h"

struct place {
	struct client *client;
	struct where where;
	char outside[WFS_PATH_MAX + 1]; /* "" unless the path leads out of the mount */
};

enum { PLACE_LOCAL, PLACE_WFS };
/*
 * PLACE_WFS: *p is ready for the client's calls. PLACE_LOCAL: for the real function.
 * Else -ENOTDIR, -ENOENT (empty path without AT_EMPTY_PATH), -ENAMETOOLONG, or what
 * attaching says. flags: AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW count.
 */
int place_find(int dirfd, const char *path, int flags, struct place *p);
/* Whether path is WFS's, without attaching. */
bool path_is_wfs(int dirfd, const char *path);

/* The rest of an absolute path below the mount ("" for the mount itself), or NULL. */
const char *path_below_mount(const char *path);

/* The result of a client call with p: true when the path led outside, and the call is to
 * be made again by the real function with p->outside. */
static inline bool place_left(const struct place *p, long rc)
{
	return rc == -EXDEV && p->outside[0];
}

/* --- the working directory (cwd.c) -------------------------------------------------- */

/* Whether it is in WFS; then its inode. */
bool cwd_is_wfs(ino_id *ino_out);
/* "WFS_CWD=..." for a program to be executed into buffer, or false: not in WFS. */
bool cwd_variable(char *buffer, size_t size);
int cwd_set(struct place *p);

#endif

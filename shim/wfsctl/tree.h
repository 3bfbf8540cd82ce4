/*
 * Making and removing directories of a cluster. Nothing outside of it is ever followed.
 */
#ifndef WFS_WFSCTL_TREE_H
#define WFS_WFSCTL_TREE_H

#include <sys/types.h>

#include "shim/wfsctl/ctl.h"

/* A directory with its parents. 0, or -1 and errno. */
int tree_make(const char *path, mode_t mode);
/* A file or directory with all that is in it; symlinks and mounts are not followed. */
int tree_remove(const char *path);
/* What cluster create makes: the map and node directories, but not the directory itself
 * unless that leaves it empty. 0, or -1 and errno. */
int cluster_remove(const struct ctl *ctl, unsigned node_count);

#endif

/* Memory mappings of WFS files; see map.c. */
#ifndef WFS_PRELOAD_MAP_H
#define WFS_PRELOAD_MAP_H

#include "shim/preload/fd.h"

/* Write changed pages of shared writable mappings of this file (NULL: of all files). */
int map_flush_file(const struct file *f);
/* In a forked child: the parent keeps its mappings' flushing, the child its own copy. */
void map_forked(void);

/* The local file behind shared mappings of cf, with [offset, offset + size) read into it
 * and a shared lock on it, under a reserved number; an error: there can be none. */
int map_side_open(
	struct client *c, struct client_file *cf, uint64_t offset, uint64_t size);
void map_side_close(int fd);

#endif

/*
 * The inside of wfs-fuse: the namespace as a FUSE mount, for what cannot be preloaded.
 *
 *   main.c    options, attach and mount, the worker threads, signals, the end
 *   device.c  /dev/fuse: mount(2), and what libfuse 3.14 cannot ask the kernel for
 *   names.c   requests on names and attributes      file.c  on open files
 *   dir.c     on directories                        node.c  lookup counts
 *
 * Nothing is stale. The kernel keeps no name and no attribute for longer than the system
 * call that asked (all timeouts are 0), and no data, save under a mapping: files are
 * opened with direct I/O, so that a read() is a read of the owner's, and a write() has
 * happened when it returns. A mapping's pages live in the kernel's page cache; read() and
 * write() on the same mount agree with them, munmap, msync and close write them back, and
 * a stat that finds the file changed by somebody else drops them.
 *
 * A node id is the inode's number, which never comes again, so there is nothing to
 * translate; 1 is the root of whatever filesystem is mounted.
 *
 * Who asks: every worker acts for the user of its request (client_act_as), and the
 * inode's owner decides. The kernel checks nothing, so that no permission is judged by
 * attributes that have changed.
 *
 * A fixed number of worker threads read requests; each carries one out, blocking in the
 * client library, which bounds how long. Locks are the kernel's, between the programs of
 * this mount; flush is not implemented, for nothing is left to do when a file is closed.
 */
#ifndef WFS_FUSE_MOUNT_H
#define WFS_FUSE_MOUNT_H

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>

#include "shim/client/client.h"

#define MOUNT_IO_MAX (1u << 20) /* of one read or write request: a chunk */

/* One for the process; set before the first request. */
struct mount {
	struct client *client;
	void (*hopeless)(void); /* the client is dead: the mount cannot go on */
};
extern struct mount mount_this;

/* --- main.c ------------------------------------------------------------------------- */

/* From now on the thread acts for whoever sent req; its groups only where they matter. */
enum mount_groups { WITHOUT_GROUPS, WITH_GROUPS };
void mount_act(fuse_req_t req, enum mount_groups groups);
/* For nobody but root: what was permitted when it was opened. */
void mount_act_self(void);
/* Room of the worker's own, of at least size bytes, until its next request. NULL. */
void *mount_room(size_t size);
/* rc: 0 or a negative errno. */
void mount_reply(fuse_req_t req, int rc);

static inline ino_id mount_ino(fuse_ino_t node)
{
	return node == FUSE_ROOT_ID ? client_root(mount_this.client) : (ino_id)node;
}

static inline fuse_ino_t mount_node(ino_id ino)
{
	return ino == client_root(mount_this.client) ? FUSE_ROOT_ID : (fuse_ino_t)ino;
}

/* --- device.c ----------------------------------------------------------------------- */

/* The fd of the connection, with the mount in place. A negative errno: -ENODEV, -ENOENT:
 * no FUSE in this kernel; others from mount(2). */
int device_mount(const char *mountpoint, const char *source);
/* The session talks over it. */
int device_session(struct fuse_session *se, int fd);
/* What this thread replies next tells of an open file, which may be written in parallel.
 */
void device_opens(void);
/* The kernel's first request, INIT, has been answered. */
bool device_is_ready(void);
/* Whether the kernel lets files be mapped shared; known then. */
bool device_maps_shared(void);

/* --- names.c, file.c, dir.c --------------------------------------------------------- */

void names_ops(struct fuse_lowlevel_ops *ops);
void file_ops(struct fuse_lowlevel_ops *ops);
void dir_ops(struct fuse_lowlevel_ops *ops);

void stat_of(const struct client_attr *attr, struct stat *out);
/* What the kernel is told of an inode, valid for no time. */
struct fuse_entry_param entry_of(const struct client_attr *attr);

/* --- node.c ------------------------------------------------------------------------- */

/*
 * What the kernel knows inodes by: how often it has looked each up, and the attributes
 * last seen. An inode that is removed is gone for its owner, but a program may be in it
 * (its working directory) or have it open with O_PATH, and may ask for its attributes
 * still.
 */
void node_looked_up(const struct client_attr *attr);
void node_forget(ino_id ino, uint64_t count);
/* No lookup: newer attributes of an inode, if the kernel knows it. */
void node_seen(const struct client_attr *attr);
/* The last that was seen of a removed inode. False: the kernel does not know it. */
bool node_last(ino_id ino, struct client_attr *attr_out);

#endif

/*
 * The client library: the namespace through shared-memory rings. Used by the preloaded
 * shim, wfsctl, FUSE and the benchmarks. Links with nothing but libc, calls no stdio, no
 * malloc after attach, and makes its system calls directly (syscall(2) by way of
 * shim/client/sys.h), so that the shim may interpose libc around it.
 *
 * One struct client per process and filesystem; any thread may call; calls block until the
 * reply or the deadline (-ETIMEDOUT). A signal's handler runs meanwhile, and may call here
 * itself; the interrupted call then goes on, as on any disk file. -EIO: the node that owns
 * what was asked for cannot be reached. -ENOTCONN: this host's wfsd has gone for longer
 * than a call may take, or this is a forked child; attach again. Until then calls wait
 * for wfsd to come back, and go on where they were (ride.c).
 *
 * Paths. A `struct where` is a starting directory and a path relative to it; an absolute
 * path has been made relative to the root by the caller. The library walks across shards
 * and symlinks. A symlink (or "..") that leads out of the mount ends with -EXDEV, and the
 * place it leads to, an absolute path, in where.outside (empty in all other cases, so it
 * tells this -EXDEV from rename's own).
 *
 * fork: a child that calls before client_forget gets -ENOTCONN, and does no harm.
 */
#ifndef WFS_SHIM_CLIENT_CLIENT_H
#define WFS_SHIM_CLIENT_CLIENT_H

#include <sys/types.h>

#include "core/base/types.h"

struct client;

struct client_attr {
	ino_id ino;
	uint32_t mode;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint64_t rdev;
	uint64_t size_bytes;
	uint64_t blocks_512;
	int64_t atime_ns;
	int64_t mtime_ns;
	int64_t ctime_ns;
	int64_t btime_ns;
	uint32_t generation;
	uint32_t fsid;
	ino_id parent;
	uint64_t entries;
};

struct where {
	ino_id start;     /* client_root() for absolute paths */
	const char *path; /* "" is start itself */
	char *outside;    /* room for WFS_PATH_MAX + 1, or NULL */
};

/*
 * socket_path: of the host's wfsd. mount: the absolute prefix where programs see the
 * namespace ("/wfs"), used to follow absolute symlinks. -ECONNREFUSED, -ENOENT: no wfsd;
 * -ENODEV: no such filesystem; -EPROTO: version.
 */
int client_attach(const char *socket_path, const char *filesystem, const char *mount,
	struct client **client_out);
void client_detach(struct client *c);
/* From now on: when wfsd goes, calls fail at once. */
void client_fail_fast(struct client *c);
/* In a forked child: unmap, close, without a word to wfsd. */
void client_forget(struct client *c);
/* The fds that must survive in this process: the connection and the eventfd. */
void client_fds(const struct client *c, int *socket_out, int *event_out);
/* Move those fds out of the program's way (dup to >= from). */
int client_move_fds(struct client *c, int from);
/* From now on: when wfsd has been gone for longer than a call may take, calls fail with
 * -ENOTCONN, but the next one looks for it again; the session goes on. For daemons. */
void client_persist(struct client *c);
/* There is no hope: wfsd has refused us, or is another cluster's. */
bool client_is_dead(const struct client *c);
/* The program changed uid, gid or groups. */
void client_cred_changed(struct client *c);
/*
 * From now on this thread's calls are done for somebody else, whoever the client is; NULL:
 * for oneself. cred is borrowed until then. Only for programs of uid 0: from others wfsd
 * takes no such call, and ends the session.
 */
void client_act_as(const struct cred *cred);

ino_id client_root(const struct client *c);
uint32_t client_shard_count(const struct client *c);
uint32_t client_bucket_count(const struct client *c);

/* --- names -------------------------------------------------------------------------- */

int client_stat(struct client *c, struct where *w, bool follow, struct client_attr *out);
int client_getattr(struct client *c, ino_id ino, struct client_attr *out);
/* want: R_OK | W_OK | X_OK, 0: that it exists. The owner decides. -EACCES. */
int client_access(struct client *c, struct where *w, bool follow, int want);
/* mask and fields as struct meta_set (SET_* in shim/client/client.h, same values). */
struct client_set {
	uint32_t mask;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t size_bytes;
	int64_t atime_ns;
	int64_t mtime_ns;
	bool by_fd;
};
#define CLIENT_SET_MODE      0x001u
#define CLIENT_SET_UID       0x002u
#define CLIENT_SET_GID       0x004u
#define CLIENT_SET_SIZE      0x008u
#define CLIENT_SET_ATIME     0x010u
#define CLIENT_SET_MTIME     0x020u
#define CLIENT_SET_ATIME_NOW 0x040u
#define CLIENT_SET_MTIME_NOW 0x080u
int client_setattr(struct client *c, struct where *w, bool follow,
	const struct client_set *set, struct client_attr *out);
/* attr_out, of what was made, may be NULL. */
int client_mknod(struct client *c, struct where *w, uint32_t mode, uint64_t rdev,
	struct client_attr *attr_out);
int client_mkdir(struct client *c, struct where *w, uint32_t mode,
	struct client_attr *attr_out);
int client_symlink(struct client *c, const char *target, struct where *w,
	struct client_attr *attr_out);
/* Bytes put into buffer, at most size; no NUL is added. */
ssize_t client_readlink(struct client *c, struct where *w, char *buffer, size_t size);
int client_unlink(struct client *c, struct where *w);
int client_rmdir(struct client *c, struct where *w);
int client_link(struct client *c, struct where *from, bool follow, struct where *to);
int client_rename(struct client *c, struct where *from, struct where *to, unsigned flags);
/* The absolute path of a directory inside the mount, without the mount prefix ("/" for
 * root), by walking its parents; for getcwd after fchdir. -ENOENT when it was removed. */
int client_path_of(struct client *c, ino_id dir, char *buffer, size_t size);

ssize_t client_getxattr(struct client *c, struct where *w, bool follow, const char *name,
	void *value, size_t size); /* size 0: the length */
int client_setxattr(struct client *c, struct where *w, bool follow, const char *name,
	const void *value, size_t size, int flags);
ssize_t client_listxattr(struct client *c, struct where *w, bool follow, char *names,
	size_t size);
int client_removexattr(struct client *c, struct where *w, bool follow, const char *name);

/* --- open files --------------------------------------------------------------------- */

/*
 * An open file as this process knows it; the caller keeps it, one per open(2). The library
 * refreshes it; sharing one between threads is fine. To be copied by client_file_copy.
 *
 * known: a size that the file has or had in a generation, and the low bits of that: they
 * are believed only together. Too small a size is harmless, and so is an old pair.
 */
struct client_file {
	ino_id ino;
	_Atomic uint32_t generation;
	uint32_t mode; /* st_mode at open */
	_Atomic uint64_t known; /* size << CLIENT_KNOWN_BITS | generation; 0 is fine */
};
#define CLIENT_KNOWN_BITS 20

void client_file_copy(struct client_file *to, const struct client_file *from);
/* The inode's owner said so. */
void client_file_learn(struct client_file *f, uint32_t generation, uint64_t size_bytes);

/* The open(2) of execve: permission to execute is wanted, not to read. With O_RDONLY only. */
#define CLIENT_OPEN_EXEC 0x20
/* flags: as open(2), or CLIENT_OPEN_EXEC; mode: umask applied. */
int client_open(struct client *c, struct where *w, int flags, uint32_t mode,
	struct client_file *file_out, struct client_attr *attr_out);
/* A file inherited from another process: count it as open in this session too. */
int client_reopen(struct client *c, ino_id ino, struct client_file *file_out);
void client_close(struct client *c, const struct client_file *f);

/* As pread(2)/pwrite(2). Any length; several chunks go in parallel. */
ssize_t client_read(struct client *c, struct client_file *f, void *data, size_t size,
	uint64_t offset);
ssize_t client_write(struct client *c, struct client_file *f, const void *data,
	size_t size, uint64_t offset);
/* O_APPEND: at the end, atomically; *end_out: the offset after the data. */
ssize_t client_append(struct client *c, struct client_file *f, const void *data,
	size_t size, uint64_t *end_out);
/* Everything acknowledged is on stable storage already; asks the owner that it lives. */
int client_fsync(struct client *c, struct client_file *f);

struct client_dirent {
	ino_id ino;
	uint64_t cookie; /* to go on after this entry */
	uint8_t dtype;
	bool has_attr;
	struct client_attr attr;
	const char *name; /* NUL-terminated, in the caller's buffer */
	uint32_t name_size;
};
/*
 * Fill buffer (at least 4 KiB, 8-aligned; raw records) with entries after cookie. Returns
 * bytes, 0 at the end. client_dirent_next walks them: *offset from 0; false at the end.
 */
ssize_t client_readdir(struct client *c, ino_id dir, uint64_t cookie, void *buffer,
	size_t size);
bool client_dirent_next(void *buffer, size_t size, size_t *offset,
	struct client_dirent *out);

struct client_statfs {
	uint64_t size_bytes;
	uint64_t free_bytes;
	uint64_t inodes;
};
int client_statfs(struct client *c, struct client_statfs *out);

/* --- raw calls, for wfsctl and tests ------------------------------------------------ */

/*
 * One request to a bucket, or with to_shard to a shard number. Data and replies are
 * copied. Returns 0 or the negative errno; *reply_size in: room, out: used.
 */
struct client_raw {
	uint16_t op;
	uint16_t target;
	bool to_shard;
	uint32_t timeout_ms; /* 0: the cluster's */
	const void *body;
	uint32_t body_size;
	const void *data;
	uint32_t data_size;
	void *reply;
	uint32_t reply_size;
	void *reply_data;
	uint32_t reply_data_size;
};
int client_raw(struct client *c, struct client_raw *raw);

#endif

/*
 * Which file descriptors of this process are WFS files.
 *
 * Every open file is a real kernel fd, a placeholder: a sealed memfd named "wfs", opened
 * write-only, that holds a struct fd_record. What slips past the shim fails loudly (read:
 * EBADF, write: EPERM, mmap: EACCES), while dup, fork, exec, CLOEXEC, SCM_RIGHTS, poll and
 * the lowest-number rule are the kernel's. The kernel's file position of the placeholder
 * is the file offset (for directories: the cookie), so it is shared as POSIX wants.
 *
 * The table maps fd -> struct file. Unknown numbers (inherited, received, or made by calls
 * that we do not see) are looked at once; see fd_classify.
 *
 * Making a memfd costs 20-30 us, a dup 0.2: so a small pool keeps placeholders under high
 * fd numbers for reuse. A placeholder that a fork, a spawn or SCM_RIGHTS may have given to
 * another process is never used again (fd_shared). High numbers are "reserved": close and
 * dup2 by the program leave them alone.
 */
#ifndef WFS_PRELOAD_FD_H
#define WFS_PRELOAD_FD_H

#include "shim/client/client.h"
#include "shim/preload/guard.h"

#define FD_TABLE_SIZE 65536
#define FD_FILES_MAX  16384

struct fd_record {
	uint32_t magic;
	uint32_t version;
	uint64_t ino;
	uint32_t generation;
	uint32_t flags;
	uint32_t mode;
	uint32_t fsid;
};
#define FD_RECORD_MAGIC   0x46534657u /* "WFSF" */
#define FD_RECORD_VERSION 1u
#define FD_RECORD_SIZE    4096        /* of the memfd */

struct file {
	struct client_file cf;
	uint32_t flags;   /* as open(2), without those that only matter at open */
	uint32_t fsid;
	_Atomic uint32_t epoch; /* of the attachment it is open in */
	int slot;         /* in the pool, or -1 */
	uint32_t shared;  /* value of the share counter when opened */
	_Atomic int lock_fd; /* -1: none yet */
	struct guard guard;  /* of the file offset */
	_Atomic uint32_t refs;
};

/* The WFS file behind fd, with a reference for fd_put; NULL: not ours. */
struct file *fd_file(int fd);
void fd_put(struct file *f);
/* As fd_file; and the client, with the file open in it. -EIO and others; 0 and *f_out
 * NULL: not ours. */
int fd_client(int fd, struct file **f_out, struct client **c_out);
/* The client, with f open in it. */
int file_client(struct file *f, struct client **c_out);

/* A new file object, with the one reference that fd_install takes over. -EMFILE. */
int file_new(const struct client_file *cf, uint32_t flags, uint32_t fsid,
	struct file **f_out);
/* A descriptor for it, the lowest free one. On failure the file is dropped. */
int fd_install(struct file *f, bool cloexec);

/* The kernel has done dup-like `from` -> `to`; the table follows. */
void fd_dupped(int from, int to);
/* Before the kernel closes or replaces fd. True: it is reserved, leave it alone. */
bool fd_closing(int fd);
void fd_closing_range(unsigned first, unsigned last);
/* Forget what we think about a number; looked at anew at its next use. */
void fd_unknown(int fd);
void fd_local(int fd);

int fd_reserve_base(void);
void fd_reserve(int fd);
void fd_release(int fd);
bool fd_reserved(int fd);
/* The first reserved number >= from, or -1. */
int fd_reserved_next(int from);

/* Placeholders in use may from now on be known to other processes. */
void fd_shared(void);
/* In a forked child. */
void fd_forked(void);

int fd_close(int fd);
int fd_dup(int fd, int from, bool cloexec);
int fd_dup_to(int from, int to, int flags);

/* The file offset; read and set it under the file's guard. */
int64_t fd_position(int fd);
int fd_position_set(int fd, uint64_t position);

#endif

/*
 * Requests on open files. A handle is what the client library knows of one open.
 *
 * All files have direct I/O: a request is what the program asked for, cut at
 * MOUNT_IO_MAX. Of a file that is mapped shared the kernel sends dirty pages too, with
 * writepage set and in nobody's name; those go where they belong even through a
 * descriptor with O_APPEND, whose other writes go to the end, wherever the owner says
 * that is.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "shim/fuse/mount.h"

#define COPY_MAX (16u << 20) /* of one copy_file_range request: it returns what it did   \
			      */

#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_EXCL | O_APPEND | CLIENT_OPEN_EXEC)

struct handle {
	struct client_file file;
};

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static int handle_open(struct where *w, int flags, mode_t mode, struct fuse_file_info *fi,
	struct client_attr *attr_out)
{
	struct handle *h = mem_zalloc(sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	rc = client_open(mount_this.client, w, flags, mode, &h->file, attr_out);
	if (rc) {
		mem_free(h);
		return rc;
	}
	fi->fh = (uintptr_t)h;
	fi->direct_io = 1;
	return 0;
}

static void handle_close(struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);

	client_close(mount_this.client, &h->file);
	mem_free(h);
}

static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct where w = {.start = mount_ino(node), .path = ""};
	struct client_attr attr;
	int rc;

	mount_act(req, WITH_GROUPS);
	rc = handle_open(&w, fi->flags & OPEN_FLAGS, 0, fi, &attr);
	if (rc) {
		mount_reply(req, rc);
		return;
	}
	node_seen(&attr);
	device_opens();
	/* Who asked may have been killed meanwhile. */
	if (fuse_reply_open(req, fi))
		handle_close(fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi)
{
	struct where w = {.start = mount_ino(parent), .path = name};
	struct client_attr attr;
	struct fuse_entry_param e;
	int rc;

	mount_act(req, WITH_GROUPS);
	rc = handle_open(
		&w, (fi->flags & OPEN_FLAGS) | O_CREAT | O_NOFOLLOW, mode, fi, &attr);
	/* Somebody has made a symlink there since the kernel looked: it is to look again.
	 */
	if (rc == -ELOOP && !(fi->flags & O_EXCL))
		rc = -ESTALE;
	if (rc) {
		mount_reply(req, rc);
		return;
	}
	e = entry_of(&attr);
	node_looked_up(&attr);
	device_opens();
	if (fuse_reply_create(req, &e, fi)) {
		node_forget(attr.ino, 1);
		handle_close(fi);
	}
}

static void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	mount_act_self();
	handle_close(fi);
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	void *room = mount_room(size);
	ssize_t n = -ENOMEM;

	(void)node;
	mount_act(req, WITHOUT_GROUPS);
	if (room)
		n = client_read(mount_this.client, &handle_of(fi)->file, room, size,
			(uint64_t)offset);
	if (n < 0)
		mount_reply(req, (int)n);
	else
		fuse_reply_buf(req, room, (size_t)n);
}

static void op_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size,
	off_t offset, struct fuse_file_info *fi)
{
	struct client_file *file = &handle_of(fi)->file;
	uint64_t end;
	ssize_t n;

	(void)node;
	mount_act(req, WITHOUT_GROUPS);
	if ((fi->flags & O_APPEND) && !fi->writepage)
		n = client_append(mount_this.client, file, data, size, &end);
	else
		n = client_write(mount_this.client, file, data, size, (uint64_t)offset);
	if (n < 0)
		mount_reply(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

/* The kernel has sent what was dirty in a mapping before. */
static void op_fsync(
	fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	(void)node;
	(void)datasync;
	mount_act_self();
	mount_reply(req, client_fsync(mount_this.client, &handle_of(fi)->file));
}

static ssize_t copy(struct client_file *from, uint64_t from_at, struct client_file *to,
	uint64_t to_at, size_t size, void *room)
{
	size_t done = 0;

	while (done < size) {
		size_t want = size - done < MOUNT_IO_MAX ? size - done : MOUNT_IO_MAX;
		ssize_t n =
			client_read(mount_this.client, from, room, want, from_at + done);

		if (n > 0)
			n = client_write(
				mount_this.client, to, room, (size_t)n, to_at + done);
		if (n < 0 && done == 0)
			return n;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_at,
	struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_at,
	struct fuse_file_info *to_fi, size_t size, int flags)
{
	void *room = mount_room(MOUNT_IO_MAX);
	ssize_t n = -ENOMEM;

	(void)from;
	(void)to;
	mount_act(req, WITHOUT_GROUPS);
	if (flags)
		n = -EINVAL;
	else if (room)
		n = copy(&handle_of(from_fi)->file, (uint64_t)from_at,
			&handle_of(to_fi)->file, (uint64_t)to_at,
			size < COPY_MAX ? size : COPY_MAX, room);
	if (n < 0)
		mount_reply(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

void file_ops(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
	ops->release = op_release;
	ops->read = op_read;
	ops->write = op_write;
	ops->fsync = op_fsync;
	ops->copy_file_range = op_copy_file_range;
}

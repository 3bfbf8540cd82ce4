/*
 * Requests on open directories. The kernel asks for a page or so at a time, the owner
 * gives more; what is left over waits in the handle for the next request that goes on
 * there. A read from the start always asks the owner.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>

#include "core/base/mem.h"
#include "shim/fuse/mount.h"

#define FETCH_SIZE 65536u

struct dir_handle {
	pthread_mutex_t lock;
	ino_id ino;
	uint64_t cookie; /* of what lies at `at` */
	size_t at;
	size_t size;
	_Alignas(8) uint8_t records[FETCH_SIZE];
};

static struct dir_handle *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir_handle *)(uintptr_t)fi->fh;
}

static void dir_free(struct dir_handle *d)
{
	pthread_mutex_destroy(&d->lock);
	mem_free(d);
}

static void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct where w = {.start = mount_ino(node), .path = ""};
	struct dir_handle *d = mem_alloc(sizeof(*d));
	struct client_file file;
	int rc;

	if (!d) {
		mount_reply(req, -ENOMEM);
		return;
	}
	mount_act(req, WITH_GROUPS);
	rc = client_open(mount_this.client, &w, O_RDONLY | O_DIRECTORY, 0, &file, NULL);
	if (rc) {
		mem_free(d);
		mount_reply(req, rc);
		return;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->ino = w.start;
	d->cookie = 0;
	d->at = d->size = 0;
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi))
		dir_free(d);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	dir_free(dir_of(fi));
	fuse_reply_err(req, 0);
}

/* The next entry; 1, 0 at the end, or errno. *from_out: where it begins. */
static int dir_next(struct dir_handle *d, struct client_dirent *entry, size_t *from_out)
{
	ssize_t n;

	if (d->at >= d->size) {
		n = client_readdir(
			mount_this.client, d->ino, d->cookie, d->records, FETCH_SIZE);
		d->at = 0;
		d->size = n > 0 ? (size_t)n : 0;
		if (n <= 0)
			return n == -ESTALE ? -ENOENT : (int)n;
	}
	*from_out = d->at;
	return client_dirent_next(d->records, d->size, &d->at, entry) ? 1 : -EPROTO;
}

/* Bytes put into out, or errno. */
static ssize_t dir_fill(
	fuse_req_t req, struct dir_handle *d, char *out, size_t size, uint64_t cookie)
{
	struct client_dirent entry;
	size_t used = 0, from = 0;
	int rc;

	if (cookie == 0 || cookie != d->cookie) {
		d->cookie = cookie;
		d->at = d->size = 0;
	}
	while ((rc = dir_next(d, &entry, &from)) == 1) {
		struct stat st = {
			.st_ino = entry.ino, .st_mode = (mode_t)entry.dtype << 12};
		size_t need = fuse_add_direntry(req, out + used, size - used, entry.name,
			&st, (off_t)entry.cookie);

		if (need > size - used) {
			d->at = from;
			break;
		}
		used += need;
		d->cookie = entry.cookie;
	}
	return rc < 0 && used == 0 ? rc : (ssize_t)used;
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	struct dir_handle *d = dir_of(fi);
	void *out = mount_room(size);
	ssize_t n = -ENOMEM;

	(void)node;
	mount_act_self();
	pthread_mutex_lock(&d->lock);
	if (out)
		n = dir_fill(req, d, out, size, (uint64_t)offset);
	pthread_mutex_unlock(&d->lock);
	if (n < 0)
		mount_reply(req, (int)n);
	else
		fuse_reply_buf(req, out, (size_t)n);
}

static void op_fsyncdir(
	fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	(void)node;
	(void)datasync;
	(void)fi;
	mount_act_self();
	mount_reply(req, client_fsync(mount_this.client, NULL));
}

void dir_ops(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->releasedir = op_releasedir;
	ops->readdir = op_readdir;
	ops->fsyncdir = op_fsyncdir;
}

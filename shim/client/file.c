/*
 * Open files: open, reopen, close, fsync; appending.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/client/data.h"
#include "shim/client/internal.h"

#define OPEN_FLAGS                                                                       \
	(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_DIRECTORY | O_NOFOLLOW | O_PATH | O_APPEND)
#define APPEND_MAX (1u << 30)
#define RETRIES    8

/* --- what is known of a file --------------------------------------------------------- */

#define KNOWN_MASK ((1u << CLIENT_KNOWN_BITS) - 1)
#define KNOWN_MAX  (((uint64_t)1 << (64 - CLIENT_KNOWN_BITS)) - 1)

void client_file_copy(struct client_file *to, const struct client_file *from)
{
	to->ino = from->ino;
	to->mode = from->mode;
	atomic_store(&to->generation, atomic_load(&from->generation));
	atomic_store(&to->known, atomic_load(&from->known));
}

static bool is_newer(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/*
 * In one generation a file only grows: of two sizes the larger is right. The two stores
 * may mix with those of other threads: then the bits do not fit the generation, and no
 * size is known until the next answer.
 */
void client_file_learn(struct client_file *f, uint32_t generation, uint64_t size_bytes)
{
	uint64_t size = size_bytes < KNOWN_MAX ? size_bytes : KNOWN_MAX;
	uint64_t known = atomic_load(&f->known);
	uint32_t now = atomic_load(&f->generation);
	uint64_t word = size << CLIENT_KNOWN_BITS | (generation & KNOWN_MASK);

	if (is_newer(now, generation))
		return;
	while ((known & KNOWN_MASK) != (generation & KNOWN_MASK) || known < word)
		if (atomic_compare_exchange_weak(&f->known, &known, word))
			break;
	while (is_newer(generation, now))
		if (atomic_compare_exchange_weak(&f->generation, &now, generation))
			break;
}

uint64_t file_known(const struct client_file *f, uint32_t *generation_out)
{
	uint32_t generation = atomic_load(&f->generation);
	uint64_t known = atomic_load(&f->known);

	*generation_out = generation;
	if ((known & KNOWN_MASK) != (generation & KNOWN_MASK))
		return 0;
	return known >> CLIENT_KNOWN_BITS;
}

/* --- opening ------------------------------------------------------------------------- */

static int open_run(struct client *c, struct where *w, int flags, uint32_t mode,
	struct client_attr *attr_out)
{
	bool nofollow = (flags & O_NOFOLLOW) || (flags & O_CREAT && flags & O_EXCL);
	struct wire_open body = {
		.flags = le32_put((uint32_t)flags & OPEN_FLAGS),
		.mode = le32_put(mode & 07777u),
	};
	struct path_call pc = {
		.op = OP_OPEN,
		.mode = nofollow ? WIRE_NOFOLLOW : WIRE_FOLLOW,
		.want = flags & CLIENT_OPEN_EXEC ? X_OK : 0,
		.fixed = &body.path,
		.fixed_size = sizeof(body),
	};
	int rc = path_run(c, w, &pc);

	if (rc)
		return rc;
	if (!(pc.reply.flags & WIRE_WALK_HAS_ATTR))
		return -EPROTO;
	client_attr_get(&pc.reply.attr, attr_out);
	return client_cut_wait(c, &pc, attr_out);
}

int client_open(struct client *c, struct where *w, int flags, uint32_t mode,
	struct client_file *file_out, struct client_attr *attr_out)
{
	uint32_t attachment = atomic_load(&c->attachment);
	struct client_attr attr = {0};
	int rc;

	if (flags & CLIENT_OPEN_EXEC)
		flags |= O_PATH;
	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | CLIENT_OPEN_EXEC;
	rc = open_run(c, w, flags, mode, &attr);
	if (rc && attr.ino && !(flags & O_PATH)) {
		/* It was opened all the same. */
		client_close(c, &(struct client_file){.ino = attr.ino, .mode = attr.mode});
	}
	if (rc)
		return rc;
	/* The server knows this for names; for the root there was none. */
	if ((flags & O_CREAT) && S_ISDIR(attr.mode))
		return -EISDIR;
	if (S_ISREG(attr.mode)) {
		opens_add(c, attr.ino);
		/* It may have been counted before a restart, and answered after it. */
		if (atomic_load(&c->attachment) != attachment)
			opens_declare(c, attr.ino);
	}
	file_out->ino = attr.ino;
	file_out->mode = attr.mode;
	atomic_store(&file_out->known, 0);
	atomic_store(&file_out->generation, attr.generation);
	client_file_learn(file_out, attr.generation, attr.size_bytes);
	if (attr_out)
		*attr_out = attr;
	return 0;
}

/* O_PATH: whoever opened it first was asked for permission. */
int client_reopen(struct client *c, ino_id ino, struct client_file *file_out)
{
	struct where w = {.start = ino, .path = ""};

	return client_open(c, &w, O_PATH, 0, file_out, NULL);
}

/* Only regular files are counted as open. Nobody waits for the reply. */
void client_close(struct client *c, const struct client_file *f)
{
	struct wire_ino body = {.ino = le64_put(f->ino)};
	struct call call = {
		.op = OP_CLOSE,
		.target = ino_bucket(f->ino),
		.body_size = sizeof(body),
	};
	int slot;

	if (f->mode && !S_ISREG(f->mode))
		return;
	opens_remove(c, f->ino);
	slot = slot_take(c, true);
	if (slot < 0)
		return;
	memcpy(slot_body(c, slot), &body, sizeof(body));
	slot_submit(c, slot, &call);
	slot_leave(c, slot);
}

/*
 * What has been acknowledged lies on stable storage: the owner answers a write or a
 * metadata operation only when its log record is durable. So there is nothing to send;
 * all that can go wrong is that wfsd is no longer there to keep serving it.
 */
int client_fsync(struct client *c, struct client_file *f)
{
	(void)f;
	return client_probe(c);
}

/* --- appending ---------------------------------------------------------------------- */

/* One message, while the file ends within chunk 0. -EFBIG: it does not. */
static ssize_t append_small(struct client *c, struct client_file *f, const void *data,
	uint32_t size, uint64_t *end_out)
{
	struct wire_io body = {
		.ino = le64_put(f->ino),
		.length = le32_put(size),
		.generation = le32_put(atomic_load(&f->generation)),
		.flags = le32_put(WIRE_IO_APPEND),
	};
	struct wire_io_reply reply;
	struct call call = {
		.op = OP_WRITE,
		.target = ino_bucket(f->ino),
		.body_size = sizeof(body),
		.data_size = size,
	};
	bool lost;
	int rc, slot = slot_take(c, true);

	if (slot < 0)
		return slot;
	memcpy(slot_body(c, slot), &body, sizeof(body));
	memcpy(slot_data(c, slot), data, size);
	slot_submit(c, slot, &call);
	rc = slot_wait(c, slot, &call, &lost);
	if (!rc)
		memcpy(&reply, c->scratch[slot].reply, sizeof(reply));
	if (!lost)
		slot_release(c, slot);
	if (rc)
		return rc;
	if (le32_get(reply.length) > size)
		return -EPROTO;
	*end_out = le64_get(reply.offset) + le32_get(reply.length);
	if (le32_get(reply.flags) & WIRE_IO_INODE_DONE)
		client_file_learn(f, le32_get(reply.generation), le64_get(reply.size));
	return le32_get(reply.length);
}

/* Take a range at the end, and then fill it. */
static ssize_t append_large(struct client *c, struct client_file *f, const void *data,
	uint32_t size, uint64_t *end_out)
{
	struct wire_io body = {
		.ino = le64_put(f->ino),
		.length = le32_put(size),
		.generation = le32_put(atomic_load(&f->generation)),
	};
	struct wire_io_reply reply;
	uint64_t offset;
	ssize_t done;
	int rc = client_ask(c, OP_APPEND, ino_bucket(f->ino), &body, sizeof(body), &reply,
		sizeof(reply));

	if (rc)
		return rc;
	offset = le64_get(reply.offset);
	if (le32_get(reply.flags) & WIRE_IO_INODE_DONE)
		client_file_learn(f, le32_get(reply.generation), le64_get(reply.size));
	done = data_write(c, f, data, size, offset, DATA_EXTENDED);
	if (done >= 0)
		*end_out = offset + (uint64_t)done;
	return done;
}

ssize_t client_append(struct client *c, struct client_file *f, const void *data,
	size_t size, uint64_t *end_out)
{
	ssize_t rc = -ESTALE;

	if (size > APPEND_MAX)
		size = APPEND_MAX;
	if (size == 0) {
		struct client_attr attr;

		rc = client_getattr(c, f->ino, &attr);
		if (!rc)
			*end_out = attr.size_bytes;
		return rc;
	}
	for (int i = 0; i < RETRIES && rc == -ESTALE; i++) {
		struct client_attr attr;
		uint32_t generation;
		uint64_t hint = file_known(f, &generation);
		bool small = size <= WFS_CHUNK_SIZE && hint <= WFS_CHUNK_SIZE - size;

		rc = small ? append_small(c, f, data, (uint32_t)size, end_out) : -EFBIG;
		if (rc == -EFBIG)
			rc = append_large(c, f, data, (uint32_t)size, end_out);
		if (rc != -ESTALE)
			break;
		if (client_getattr(c, f->ino, &attr))
			break;
		client_file_learn(f, attr.generation, attr.size_bytes);
	}
	return rc;
}

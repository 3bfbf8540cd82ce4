/*
 * Directories read, the path of a directory, and the size of it all.
 */
#include <errno.h>
#include <sys/stat.h>

#include "shim/client/internal.h"

#define DEPTH_MAX        2048
#define STATFS_FRESH_NS  1000000000u
#define STATFS_PATIENCE_MS 500u /* a dead node has no room */
#define PATH_OF_PAGE     65536u

/* One page of records into slot's data. -EPROTO when it is not what it should be. */
static int readdir_page(struct client *c, int slot, ino_id dir, uint64_t cookie,
	uint32_t max, struct call *call, struct wire_readdir_reply *reply_out, bool *lost_out)
{
	struct wire_readdir body = {
		.ino = le64_put(dir),
		.cookie = le64_put(cookie),
	};
	int rc;

	*call = (struct call){
		.op = OP_READDIR,
		.target = ino_bucket(dir),
		.body_size = sizeof(body),
		.data_max = max,
	};
	memcpy(slot_body(c, slot), &body, sizeof(body));
	slot_submit(c, slot, call);
	rc = slot_wait(c, slot, call, lost_out);
	if (!rc)
		memcpy(reply_out, c->scratch[slot].reply, sizeof(*reply_out));
	return rc;
}

ssize_t client_readdir(struct client *c, ino_id dir, uint64_t cookie, void *buffer,
	size_t size)
{
	struct wire_readdir_reply reply;
	struct call call;
	bool lost;
	int rc, slot = slot_take(c, true);

	if (slot < 0)
		return slot;
	if (size > WIRE_DATA_MAX)
		size = WIRE_DATA_MAX;
	rc = readdir_page(c, slot, dir, cookie, (uint32_t)size, &call, &reply, &lost);
	if (!rc)
		memcpy(buffer, slot_data(c, slot), call.reply_data_size);
	if (!lost)
		slot_release(c, slot);
	return rc ? rc : (ssize_t)call.reply_data_size;
}

bool client_dirent_next(void *buffer, size_t size, size_t *offset,
	struct client_dirent *out)
{
	const uint8_t *at = (const uint8_t *)buffer + *offset;
	struct wire_dirent record;
	size_t name_size;

	if (*offset > size || size - *offset < sizeof(record))
		return false;
	memcpy(&record, at, sizeof(record));
	name_size = le16_get(record.name_size);
	if (name_size > WFS_NAME_MAX || size - *offset < WIRE_DIRENT_SIZE(name_size) ||
		at[sizeof(record) + name_size] != 0)
		return false;
	*out = (struct client_dirent){
		.ino = le64_get(record.ino),
		.cookie = le64_get(record.cookie),
		.dtype = record.dtype,
		.has_attr = record.flags & WIRE_DIRENT_HAS_ATTR,
		.name = (const char *)at + sizeof(record),
		.name_size = (uint32_t)name_size,
	};
	if (out->has_attr)
		client_attr_get(&record.attr, &out->attr);
	*offset += WIRE_DIRENT_SIZE(name_size);
	return true;
}

/* --- the path of a directory -------------------------------------------------------- */

/* Look for ino among the records of a page; its name goes in front of *at. */
static int name_prepend(struct client *c, int slot, const struct call *call, ino_id ino,
	char *buffer, size_t *at, uint64_t *cookie)
{
	struct client_dirent entry;
	size_t offset = 0;

	while (client_dirent_next(slot_data(c, slot), call->reply_data_size, &offset,
		&entry)) {
		*cookie = entry.cookie;
		if (entry.ino != ino || name_is_dot(entry.name, entry.name_size) ||
			name_is_dotdot(entry.name, entry.name_size))
			continue;
		if (entry.name_size + 1 > *at)
			return -ERANGE;
		*at -= entry.name_size;
		memcpy(buffer + *at, entry.name, entry.name_size);
		buffer[--*at] = '/';
		return 1;
	}
	return 0;
}

static int name_find(struct client *c, ino_id parent, ino_id ino, char *buffer, size_t *at)
{
	struct wire_readdir_reply reply = {0};
	struct call call;
	uint64_t cookie = 0;
	bool lost = false;
	int rc = 0, slot = slot_take(c, true);

	if (slot < 0)
		return slot;
	while (rc == 0 && !reply.eof) {
		rc = readdir_page(c, slot, parent, cookie, PATH_OF_PAGE, &call, &reply, &lost);
		if (rc == 0 && call.reply_data_size == 0)
			break;
		if (rc == 0)
			rc = name_prepend(c, slot, &call, ino, buffer, at, &cookie);
	}
	if (!lost)
		slot_release(c, slot);
	if (rc > 0)
		return 0;
	return rc ? rc : -ENOENT;
}

int client_path_of(struct client *c, ino_id dir, char *buffer, size_t size)
{
	size_t at = size;
	int rc;

	if (size < 2)
		return -ERANGE;
	buffer[--at] = 0;
	if (dir == c->root)
		buffer[--at] = '/';
	for (int depth = 0; dir != c->root; depth++) {
		struct client_attr attr;

		rc = client_getattr(c, dir, &attr);
		if (rc)
			return rc == -ESTALE ? -ENOENT : rc;
		if (!S_ISDIR(attr.mode))
			return -ENOTDIR;
		if (attr.nlink == 0 || depth == DEPTH_MAX || attr.parent == dir)
			return -ENOENT;
		rc = name_find(c, attr.parent, dir, buffer, &at);
		if (rc)
			return rc == -ESTALE ? -ENOENT : rc;
		dir = attr.parent;
	}
	memmove(buffer, buffer + at, size - at);
	return 0;
}

/* --- statfs ------------------------------------------------------------------------- */

static int shard_stats(struct client *c, uint16_t shard, struct wire_shard_stats *out)
{
	struct client_raw raw = {
		.op = OP_SHARD_STATS,
		.target = shard,
		.to_shard = true,
		.timeout_ms = STATFS_PATIENCE_MS,
		.reply = out,
		.reply_size = sizeof(*out),
	};
	int rc = client_raw(c, &raw);

	return rc ? rc : raw.reply_size == sizeof(*out) ? 0 : -EPROTO;
}

static int statfs_ask(struct client *c, struct client_statfs *out)
{
	struct wire_shard_stats stats;
	int error = 0;
	bool any = false;

	*out = (struct client_statfs){0};
	for (uint32_t i = 0; i < c->shard_count; i++) {
		int rc = shard_stats(c, (uint16_t)i, &stats);

		if (rc) {
			error = rc;
			continue;
		}
		any = true;
		out->size_bytes += le64_get(stats.size_bytes);
		out->free_bytes += le64_get(stats.free_bytes);
		out->inodes += le64_get(stats.inodes);
	}
	return any ? 0 : error;
}

int client_statfs(struct client *c, struct client_statfs *out)
{
	uint64_t at_ns = atomic_load(&c->statfs_at_ns), now_ns = client_now_ns();
	int rc;

	if (at_ns && now_ns - at_ns < STATFS_FRESH_NS && !client_check(c)) {
		*out = (struct client_statfs){
			.size_bytes = atomic_load(&c->statfs[0]),
			.free_bytes = atomic_load(&c->statfs[1]),
			.inodes = atomic_load(&c->statfs[2]),
		};
		return 0;
	}
	rc = statfs_ask(c, out);
	if (rc)
		return rc;
	atomic_store(&c->statfs[0], out->size_bytes);
	atomic_store(&c->statfs[1], out->free_bytes);
	atomic_store(&c->statfs[2], out->inodes);
	atomic_store(&c->statfs_at_ns, now_ns);
	return 0;
}

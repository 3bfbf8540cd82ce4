/*
 * Operations that return or take lists: directories, extended attributes, raw scans,
 * statistics.
 */
#include "core/shard/shard_impl.h"

#include <errno.h>
#include <string.h>

#include "meta/schema.h"

static int data_reply(struct exec *x, const struct buf *data)
{
	if (buf_error(data))
		return buf_error(data);
	if (data->size_bytes > x->req->reply_data_max)
		return -ERANGE;
	if (data->size_bytes)
		memcpy(x->req->reply_data, data->data, data->size_bytes);
	x->req->reply_data_size = (uint32_t)data->size_bytes;
	return 0;
}

/* Index records to wire records, as many as fit; *cookie_out: of the last that did. */
static int dirents_put(struct exec *x, const struct buf *records, uint64_t *cookie_out,
	bool *all_out)
{
	size_t offset = 0, used = 0;
	struct dirent_record record;
	const char *name;
	int rc;

	*all_out = true;
	while ((rc = dirent_next(records->data, records->size_bytes, &offset, &record,
			&name)) == 1) {
		size_t name_size = le16_get(record.name_size);
		size_t size = sizeof(struct wire_dirent) + ((name_size + 8) & ~(size_t)7);
		uint8_t *at = (uint8_t *)x->req->reply_data + used;
		struct wire_dirent out = {
			.ino = record.ino,
			.cookie = record.cookie,
			.name_size = record.name_size,
			.dtype = record.dtype,
			.flags = record.flags & DIRENT_HAS_ATTR ? WIRE_DIRENT_HAS_ATTR : 0,
		};

		if (size > x->req->reply_data_max - used) {
			*all_out = false;
			break;
		}
		if (out.flags) {
			struct attr attr;

			attr_record_decode(&record.attr, &attr);
			wire_attr_put(&out.attr, &attr);
		}
		memset(at, 0, size);
		memcpy(at, &out, sizeof(out));
		memcpy(at + sizeof(out), name, name_size);
		used += size;
		*cookie_out = le64_get(record.cookie);
	}
	x->req->reply_data_size = (uint32_t)used;
	if (rc < 0)
		return rc;
	return used == 0 && records->size_bytes > 0 ? -EINVAL : 0;
}

int op_readdir(struct exec *x, struct meta_call *c)
{
	const struct wire_readdir *wr = x->req->body;
	struct wire_readdir_reply *reply = x->req->reply;
	uint64_t cookie = le64_get(wr->cookie);
	struct buf records;
	bool eof = false, all = true;
	int rc;

	buf_init(&records);
	rc = meta_readdir(x->s->meta, c, le64_get(wr->ino), cookie,
		x->req->reply_data_max * 7 / 8, &records, &cookie, &eof);
	if (rc == 0)
		rc = buf_error(&records);
	if (rc == 0)
		rc = dirents_put(x, &records, &cookie, &all);
	buf_release(&records);
	if (rc < 0)
		return rc;
	*reply = (struct wire_readdir_reply){.cookie = le64_put(cookie), .eof = eof && all};
	x->req->reply_size = sizeof(*reply);
	return 0;
}

/* --- extended attributes --- */

static int xattr_walk(struct exec *x, struct meta_call *c, struct walk *w,
	const char **name_out, size_t *name_size_out)
{
	const struct wire_xattr *wx = x->req->body;
	int rc = path_walk(x, c, (enum walk_mode)wx->path.mode, w);

	*name_out = extra_of(x, sizeof(*wx), name_size_out);
	return rc;
}

static int xattr_read(struct exec *x, struct meta_call *c, bool list)
{
	struct walk w;
	struct buf out;
	const char *name;
	size_t name_size;
	int rc = xattr_walk(x, c, &w, &name, &name_size);

	if (rc <= 0)
		return rc;
	buf_init(&out);
	rc = list ? meta_listxattr(x->s->meta, c, w.ino, &out)
		  : meta_getxattr(x->s->meta, c, w.ino, name, name_size, &out);
	if (rc == 0)
		rc = data_reply(x, &out);
	buf_release(&out);
	return rc;
}

int op_getxattr(struct exec *x, struct meta_call *c)
{
	return xattr_read(x, c, false);
}

int op_listxattr(struct exec *x, struct meta_call *c)
{
	return xattr_read(x, c, true);
}

int op_setxattr(struct exec *x, struct meta_call *c)
{
	const struct wire_xattr *wx = x->req->body;
	struct walk w;
	struct buf value;
	const char *name;
	size_t name_size;
	int rc = xattr_walk(x, c, &w, &name, &name_size);

	if (rc <= 0)
		return rc;
	if (x->req->data_size > WFS_XATTR_SIZE_MAX)
		return -E2BIG;
	/* The data may be shared with the program: one copy, then believe that. */
	buf_init(&value);
	buf_append(&value, x->req->data, x->req->data_size);
	rc = buf_error(&value);
	if (rc == 0)
		rc = meta_setxattr(x->s->meta, c, w.ino, name, name_size, value.data,
			value.size_bytes, (int)le32_get(wx->flags));
	buf_release(&value);
	return rc;
}

int op_removexattr(struct exec *x, struct meta_call *c)
{
	struct walk w;
	const char *name;
	size_t name_size;
	int rc = xattr_walk(x, c, &w, &name, &name_size);

	if (rc <= 0)
		return rc;
	return meta_removexattr(x->s->meta, c, w.ino, name, name_size);
}

/* --- whole shards --- */

static void parked_count(struct shard *s, struct wire_shard_stats *out)
{
	uint64_t now = env_now_us(s->env), oldest = 0;
	uint32_t count = 0;

	list_for_each(it, tmp, &s->parked)
	{
		struct exec *x = container_of(it, struct exec, link);

		count++;
		if (now - x->parked_us > oldest)
			oldest = now - x->parked_us;
	}
	out->parked = le32_put(count);
	out->oldest_parked_us = le64_put(oldest);
}

int op_shard_stats(struct exec *x, struct meta_call *c)
{
	struct shard *s = x->s;
	struct wire_shard_stats *out = x->req->reply;
	struct store_stats st;

	(void)c;
	store_stats(s->store, &st);
	*out = (struct wire_shard_stats){
		.node = le32_put(s->map->shards[s->number].node),
		.shard = le32_put(s->number),
		.epoch = le64_put(s->map->epoch),
		.size_bytes = le64_put(st.size_bytes),
		.free_bytes = le64_put(st.free_bytes),
		.live_bytes = le64_put(st.live_bytes),
		.inodes = le64_put(meta_inode_count(s->meta)),
		.requests = le64_put(s->requests),
		.read_bytes = le64_put(s->read_bytes),
		.write_bytes = le64_put(s->write_bytes),
		.device_bytes = le64_put(st.device_bytes),
		.user_bytes = le64_put(st.user_bytes),
		.cleaned_bytes = le64_put(st.cleaned_bytes),
		.commits = le64_put(st.commit_count),
		.records = le64_put(st.record_count),
		.crc_errors = le64_put(st.crc_error_count),
		.recovery_us = le64_put(st.recovery_us),
		.uptime_us = le64_put(env_now_us(s->env) - s->start_us),
		.memory_bytes = le64_put(s->process.memory_bytes),
		.sessions = le32_put(s->process.sessions),
	};
	parked_count(s, out);
	progress_put(s, out);
	x->req->reply_size = sizeof(*out);
	return 0;
}

int op_session_end(struct exec *x, struct meta_call *c)
{
	(void)c;
	shard_session_end(x->s, x->req->session);
	return 0;
}

int op_scan(struct exec *x, struct meta_call *c)
{
	const struct wire_scan *ws = x->req->body;
	struct wire_scan_reply *reply = x->req->reply;
	struct buf keys;
	bool eof = false;
	int rc;

	(void)c;
	if (le16_get(ws->bucket) >= x->s->map->bucket_count)
		return -EINVAL;
	if (!bucket_whole(x->s, le16_get(ws->bucket)))
		return -EREMCHG;
	buf_init(&keys);
	/* One entry may pass the limit: a value is at most a symlink or an xattr. */
	rc = x->req->reply_data_max < 2 * WFS_XATTR_SIZE_MAX ? -EINVAL : 0;
	if (rc == 0)
		rc = meta_scan(x->s->meta, le16_get(ws->bucket), ws + 1,
			le16_get(ws->key_size),
			x->req->reply_data_max - WFS_XATTR_SIZE_MAX - 4096, &keys, &eof);
	if (rc == 0)
		rc = data_reply(x, &keys);
	buf_release(&keys);
	if (rc < 0)
		return rc;
	*reply = (struct wire_scan_reply){
		.eof = eof, .shard = le32_put(x->s->number)};
	x->req->reply_size = sizeof(*reply);
	return 0;
}

int op_make_root(struct exec *x, struct meta_call *c)
{
	const struct wire_make_root *wm = x->req->body;
	struct wire_ino *reply = x->req->reply;
	struct cred owner = {.uid = le32_get(wm->uid), .gid = le32_get(wm->gid)};
	ino_id ino;
	int rc;

	c->cred = &owner;
	rc = meta_make_root(x->s->meta, c, x->req->bucket, le32_get(wm->fsid), &ino);
	if (rc < 0)
		return rc;
	*reply = (struct wire_ino){.ino = le64_put(ino)};
	x->req->reply_size = sizeof(*reply);
	return 0;
}

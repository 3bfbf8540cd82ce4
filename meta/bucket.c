/* Whole buckets: roots, statistics, and the raw keys for fsck. */
#include <errno.h>

#include "meta/meta_impl.h"

/* -EEXIST when it is this filesystem's already, -EXDEV another's. */
static int root_look(struct meta *m, uint32_t fsid)
{
	struct inode in;
	int rc = inode_read(m, WFS_ROOT_INO, &in);

	if (rc == -ESTALE)
		return 0;
	if (rc)
		return rc;
	return in.attr.fsid == fsid ? -EEXIST : -EXDEV;
}

int meta_make_root(struct meta *m, const struct meta_call *c, uint16_t bucket,
	uint32_t fsid, ino_id *ino_out)
{
	struct work *w = work_begin(m, c->batch, bucket);
	const struct inode above = {.attr.fsid = fsid};
	struct work_inode *wi;
	struct inode in;
	ino_id ino = WFS_ROOT_INO;
	int rc = bucket == ino_bucket(WFS_ROOT_INO) ? root_look(m, fsid) : -EXDEV;

	if (rc == -EXDEV)
		rc = ino_alloc(w, &ino);
	if (rc)
		return work_end(w, rc);
	inode_init(&in, c, &above, ino, S_IFDIR | 0755);
	in.attr.nlink = 2;
	rc = work_end(w, work_inode_new(w, ino, &in, &wi));
	if (rc == 0)
		*ino_out = ino;
	return rc;
}

int meta_bucket_stats(struct meta *m, uint16_t bucket, struct bucket_stats *out)
{
	struct bucket_header *header;
	int rc = header_get(m, bucket, &header);

	if (rc)
		return rc;
	out->inode_count = header->inode_count;
	out->data_bytes = header->data_bytes;
	return 0;
}

uint64_t meta_inode_count(struct meta *m)
{
	bool all = true;

	if (m->inode_count_known)
		return m->inode_count;
	m->inode_count = 0;
	for (uint32_t b = 0; b < m->bucket_count; b++) {
		struct bucket_header *header;

		if (!m->owns(m->ctx, (uint16_t)b))
			continue;
		if (header_get(m, (uint16_t)b, &header) == 0)
			m->inode_count += header->inode_count;
		else
			all = false;
	}
	m->inode_count_known = all;
	return m->inode_count;
}

void meta_owner_changed(struct meta *m)
{
	m->inode_count_known = false;
}

struct scan_head {
	le16 key_size;
	le16 zero;
	le32 value_size;
};
_Static_assert(sizeof(struct scan_head) == 8, "format");

static int scan_from(struct kv_iter *it, uint16_t bucket, size_t max_bytes,
	struct buf *out, bool *eof_out)
{
	size_t start_bytes = out->size_bytes;

	*eof_out = true;
	for (; it->ops->valid(it); it->ops->next(it)) {
		size_t key_size, value_size;
		const uint8_t *key = it->ops->key(it, &key_size);
		const void *value = it->ops->value(it, &value_size);
		size_t used_bytes = out->size_bytes - start_bytes;
		struct scan_head head;

		if (key_size < 3 || key[0] != META_KEY_SPACE ||
			be16_read(key + 1) != bucket)
			break;
		if (used_bytes &&
			used_bytes + sizeof(head) + key_size + value_size > max_bytes) {
			*eof_out = false;
			break;
		}
		head = (struct scan_head){
			.key_size = le16_put((uint16_t)key_size),
			.value_size = le32_put((uint32_t)value_size),
		};
		buf_append(out, &head, sizeof(head));
		buf_append(out, key, key_size);
		if (value_size)
			buf_append(out, value, value_size);
		if (buf_error(out))
			return buf_error(out);
	}
	return it->ops->error(it);
}

int meta_scan(struct meta *m, uint16_t bucket, const void *after, size_t after_size,
	size_t max_bytes, struct buf *out, bool *eof_out)
{
	uint8_t from[BATCH_KEY_MAX + 1] = {META_KEY_SPACE};
	size_t from_size = 3;
	struct kv_iter *it;
	bool eof;
	int rc;

	if (after_size > BATCH_KEY_MAX)
		return -EINVAL;
	be16_write(from + 1, bucket);
	if (after_size) {
		/* The least key after it: one zero longer. */
		memcpy(from, after, after_size);
		from[after_size] = 0;
		from_size = after_size + 1;
	}
	rc = kv_iter_open(m->kv, &it);
	if (rc)
		return rc;
	it->ops->seek(it, from, from_size);
	rc = scan_from(it, bucket, max_bytes, out, &eof);
	it->ops->close(it);
	if (rc == 0)
		*eof_out = eof;
	return rc;
}

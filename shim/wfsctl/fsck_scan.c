/*
 * fsck, step one: all keys of all buckets, decoded into arrays.
 *
 * Keys arrive in order, a batch at a time; the last key of a batch is where the next
 * begins. A key or value that does not decode is a finding, and left out.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "net/wire.h"
#include "shim/wfsctl/fsck.h"

#define KEY_HEAD    (META_PREFIX_SIZE)
#define PATIENCE_MS 5000u
#define PAUSE_MS    100

struct entry {
	uint16_t bucket;
	char type;
	const uint8_t *key;
	uint32_t key_size;
	const uint8_t *value;
	uint32_t value_size;
};

void *image_grow(void *at, size_t *room, size_t need, size_t size)
{
	if (need <= *room)
		return at;
	*room = *room ? *room * 2 : 1024;
	if (*room < need)
		*room = need;
	at = realloc(at, *room * size);
	if (!at) {
		ctl_usage("fsck: out of memory: run it on a machine with more");
		exit(EXIT_USAGE);
	}
	return at;
}

void image_init(struct image *im, const struct ctl *ctl, const struct map *map)
{
	size_t room = 0;

	*im = (struct image){.ctl = ctl, .map = map};
	im->buckets = image_grow(NULL, &room, map->bucket_count, sizeof(*im->buckets));
	memset(im->buckets, 0, map->bucket_count * sizeof(*im->buckets));
}

void image_release(struct image *im)
{
	for (size_t i = 0; i < im->findings.count; i++) {
		free(im->findings.at[i].path);
		free(im->findings.at[i].text);
	}
	free(im->findings.at);
	free(im->inodes.at);
	free(im->names.at);
	free(im->extents.at);
	free(im->jobs.at);
	free(im->txns.at);
	free(im->xattrs.at);
	free(im->texts.at);
	free(im->buckets);
}

static int inode_compare(const void *a, const void *b)
{
	ino_id x = ((const struct fs_inode *)a)->ino,
	       y = ((const struct fs_inode *)b)->ino;

	return x < y ? -1 : x > y;
}

struct fs_inode *image_inode(const struct image *im, ino_id ino)
{
	struct fs_inode key = {.ino = ino};

	return im->inodes.count ? bsearch(&key, im->inodes.at, im->inodes.count,
					  sizeof(key), inode_compare)
				: NULL;
}

static void key_bad(struct image *im, const struct entry *e, ino_id ino, const char *what)
{
	finding_add(im, "damaged", ino, "%s of type '%c' in bucket %u does not decode",
		what, e->type >= ' ' && e->type <= '~' ? e->type : '?', e->bucket);
}

/* The be64 behind the prefix, that most keys have. */
static uint64_t key_first(const struct entry *e)
{
	return e->key_size >= KEY_HEAD + 8 ? be64_read(e->key + KEY_HEAD) : 0;
}

static void scan_inode(struct image *im, const struct entry *e)
{
	struct fs_bucket *bucket = &im->buckets[e->bucket];
	ino_id ino = key_first(e);
	struct fs_inode *to;
	struct inode in;

	if (e->key_size != KEY_HEAD + 8 + SNAP_SIZE || ino_bucket(ino) != e->bucket) {
		key_bad(im, e, ino, "key");
		return;
	}
	bucket->inodes_found++;
	if ((ino & (COUNTER_END - 1)) > bucket->counter_max)
		bucket->counter_max = ino & (COUNTER_END - 1);
	to = array_push(&im->inodes);
	*to = (struct fs_inode){.ino = ino, .first_name = NONE};
	if (inode_decode(e->value, e->value_size, &in)) {
		key_bad(im, e, ino, "value");
		im->inodes.count--;
		return;
	}
	to->parent = in.attr.parent;
	to->size_bytes = in.attr.size_bytes;
	to->entries = in.attr.entries;
	to->mode = in.attr.mode;
	to->nlink = in.attr.nlink;
	to->flags = in.flags;
	to->fsid = in.attr.fsid;
}

static void scan_name(struct image *im, const struct entry *e)
{
	ino_id dir = key_first(e);
	struct name_target target;
	struct fs_name *to;
	const char *name;
	size_t size, at;
	uint64_t hash;

	if (meta_key_dirent_parse(e->key, e->key_size, &hash, &name, &size) ||
		ino_bucket(dir) != e->bucket) {
		key_bad(im, e, dir, "key");
		return;
	}
	if (name_target_decode(e->value, e->value_size, &target)) {
		key_bad(im, e, dir, "value");
		return;
	}
	if (hash != name_hash63(name, size, dir))
		finding_add(im, "name-hash", dir, "name %.*s lies under a wrong hash",
			(int)size, name);
	at = im->texts.count;
	im->texts.at = image_grow(im->texts.at, &im->texts.room, at + size + 1, 1);
	memcpy(im->texts.at + at, name, size);
	im->texts.at[at + size] = 0;
	im->texts.count += size + 1;
	to = array_push(&im->names);
	*to = (struct fs_name){dir, target.ino, at, target.dtype};
}

static void scan_extent(struct image *im, const struct entry *e)
{
	ino_id ino = key_first(e);
	uint64_t chunk, id;
	uint32_t block, count;
	uint16_t home;

	if (meta_key_extent_parse(e->key, e->key_size, &block)) {
		key_bad(im, e, ino, "key");
		return;
	}
	chunk = be64_read(e->key + KEY_HEAD + 8);
	home = chunk ? chunk_bucket(ino, chunk, im->map->bucket_count) : ino_bucket(ino);
	if (home != e->bucket) {
		finding_add(im, "misplaced-extent", ino,
			"chunk %llu lies in bucket %u, its place is bucket %u",
			(unsigned long long)chunk, e->bucket, home);
		return;
	}
	if (extent_decode(e->value, e->value_size, block, &id, &count)) {
		key_bad(im, e, ino, "value");
		return;
	}
	im->buckets[e->bucket].blocks_found += count;
	*array_push(&im->extents) = (struct fs_extent){
		ino, chunk, id, block, count, im->buckets[e->bucket].shard};
}

static void scan_job(struct image *im, const struct entry *e)
{
	ino_id ino = key_first(e);
	struct job job;

	if (e->key_size != KEY_HEAD + 8 || ino_bucket(ino) != e->bucket)
		key_bad(im, e, ino, "key");
	else if (job_decode(e->value, e->value_size, &job))
		key_bad(im, e, ino, "value");
	else
		*array_push(&im->jobs) = (struct fs_job){ino, job.flags};
}

static void scan_txn(struct image *im, const struct entry *e)
{
	uint16_t buckets[TXN_PARTS_MAX];
	bool decision = e->type == 'T';
	struct intent intent;
	uint32_t count;

	if (e->key_size != KEY_HEAD + 8)
		key_bad(im, e, 0, "key");
	else if (decision ? decision_decode(e->value, e->value_size, buckets, &count)
			  : intent_decode(e->value, e->value_size, &intent))
		key_bad(im, e, 0, "value");
	else
		*array_push(&im->txns) =
			(struct fs_txn){key_first(e), e->bucket, decision};
}

static void scan_xattr(struct image *im, const struct entry *e)
{
	ino_id ino = key_first(e);
	const char *name;
	size_t size;

	if (meta_key_xattr_parse(e->key, e->key_size, &name, &size) ||
		ino_bucket(ino) != e->bucket) {
		key_bad(im, e, ino, "key");
		return;
	}
	if (im->xattrs.count && im->xattrs.at[im->xattrs.count - 1].ino == ino)
		im->xattrs.at[im->xattrs.count - 1].count++;
	else
		*array_push(&im->xattrs) = (struct fs_xattr){ino, 1};
}

static void scan_header(struct image *im, const struct entry *e)
{
	struct fs_bucket *bucket = &im->buckets[e->bucket];

	if (e->key_size != KEY_HEAD)
		key_bad(im, e, 0, "key");
	else if (bucket_decode(e->value, e->value_size, &bucket->header))
		key_bad(im, e, 0, "value");
	else
		bucket->has_header = true;
}

static void scan_position(struct image *im, const struct entry *e)
{
	if (e->key_size != KEY_HEAD || e->value_size != sizeof(struct bucket_position))
		key_bad(im, e, 0, "key");
}

/* Where epochs began: pairs of an epoch and a position. */
static void scan_epochs(struct image *im, const struct entry *e)
{
	if (e->key_size != KEY_HEAD || e->value_size == 0 || e->value_size % 16 != 0)
		key_bad(im, e, 0, "key");
}

/* An answer remembered for a session and its slot. */
static void scan_answer(struct image *im, const struct entry *e)
{
	if (e->key_size != KEY_HEAD + 10 || e->value_size < sizeof(le64))
		key_bad(im, e, 0, "key");
}

static void scan_entry(struct image *im, struct entry *e)
{
	static const struct {
		char type;
		void (*scan)(struct image *im, const struct entry *e);
	} kinds[] = {
		{'A', scan_position},
		{'D', scan_name},
		{'E', scan_extent},
		{'H', scan_epochs},
		{'I', scan_inode},
		{'N', scan_header},
		{'O', scan_job},
		{'S', scan_answer},
		{'T', scan_txn},
		{'t', scan_txn},
		{'X', scan_xattr},
	};

	im->keys++;
	e->type = (char)e->key[3];
	if (e->type == 'C')
		return;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].type == e->type) {
			kinds[i].scan(im, e);
			return;
		}
	}
	key_bad(im, e, 0, "key");
}

/* The entries of one reply; *after, *after_size: its last key. False: not well-formed. */
static bool scan_batch(struct image *im, uint16_t bucket, const uint8_t *data,
	size_t size, uint8_t *after, uint32_t *after_size)
{
	size_t at = 0;

	assert(data);
	while (size - at >= 8) {
		struct entry e = {.bucket = bucket};
		le16 key_size;
		le32 value_size;

		memcpy(&key_size, data + at, 2);
		memcpy(&value_size, data + at + 4, 4);
		e.key_size = le16_get(key_size);
		e.value_size = le32_get(value_size);
		at += 8;
		if (e.key_size < KEY_HEAD || e.key_size > META_KEY_MAX ||
			e.key_size > size - at || e.value_size > size - at - e.key_size)
			return false;
		e.key = data + at;
		e.value = e.key + e.key_size;
		at += e.key_size + e.value_size;
		if (e.key[0] != META_KEY_SPACE || be16_read(e.key + 1) != bucket)
			return false;
		scan_entry(im, &e);
		memcpy(after, e.key, e.key_size);
		*after_size = e.key_size;
	}
	return at == size;
}

int scan_ask(struct client *c, const struct scan *scan, const uint8_t *after,
	uint32_t after_size, void *data, struct scan_answer *out)
{
	struct {
		struct wire_scan scan;
		uint8_t key[META_KEY_MAX];
	} body = {.scan = {.bucket = le16_put(scan->bucket),
			  .key_size = le16_put((uint16_t)after_size)}};
	struct wire_scan_reply reply = {0};
	struct client_raw raw = {
		.op = OP_SCAN,
		.target = scan->to_shard ? (uint16_t)scan->shard : scan->bucket,
		.to_shard = scan->to_shard,
		.body = &body,
		.body_size = (uint32_t)sizeof(body.scan) + after_size,
		.reply = &reply,
		.reply_size = sizeof(reply),
		.reply_data = data,
		.reply_data_size = WIRE_DATA_MAX,
	};
	int rc;

	memcpy(body.key, after, after_size);
	rc = client_raw(c, &raw);
	out->size_bytes = raw.reply_data_size;
	out->eof = reply.eof != 0;
	out->shard = le32_get(reply.shard);
	return rc ? rc : raw.reply_size == sizeof(reply) ? 0 : -EPROTO;
}

/* How much there was before a bucket, to begin it again. */
struct mark {
	size_t inodes, names, extents, jobs, txns, xattrs, texts, findings;
	uint64_t keys, errors;
};

static struct mark mark_set(const struct image *im)
{
	return (struct mark){im->inodes.count, im->names.count, im->extents.count,
		im->jobs.count, im->txns.count, im->xattrs.count, im->texts.count,
		im->findings.count, im->keys, im->errors};
}

static void mark_return(struct image *im, const struct mark *mark, uint16_t bucket)
{
	for (size_t i = mark->findings; i < im->findings.count; i++) {
		free(im->findings.at[i].path);
		free(im->findings.at[i].text);
	}
	im->inodes.count = mark->inodes;
	im->names.count = mark->names;
	im->extents.count = mark->extents;
	im->jobs.count = mark->jobs;
	im->txns.count = mark->txns;
	im->xattrs.count = mark->xattrs;
	im->texts.count = mark->texts;
	im->findings.count = mark->findings;
	im->keys = mark->keys;
	im->errors = mark->errors;
	im->buckets[bucket] = (struct fs_bucket){0};
}

static int scan_failed(const struct image *im, uint16_t bucket, int rc)
{
	if (rc == -EPERM || rc == -EACCES)
		return ctl_usage("only root may read all metadata: run fsck as root");
	return ctl_usage("bucket %u on node %u: %s: see wfsctl status", bucket,
		im->map->shards[im->map->buckets[bucket].primary].node, strerror(-rc));
}

/* With copies, who leads the bucket may be about to change: it is asked for again. */
static bool scan_again(const struct image *im, int rc, uint64_t *until_ms)
{
	if (im->map->copies == 1 || rc == -EPERM || rc == -EACCES || rc == -EPROTO)
		return false;
	if (*until_ms == 0)
		*until_ms = now_ms() + 3ull * im->map->lease_ms + PATIENCE_MS;
	if (now_ms() > *until_ms)
		return false;
	poll(NULL, 0, PAUSE_MS);
	return true;
}

static int scan_bucket(struct image *im, struct client *c, uint16_t bucket, void *data)
{
	struct scan scan = {.bucket = bucket};
	struct mark mark = mark_set(im);
	uint8_t after[META_KEY_MAX];
	uint32_t after_size = 0;
	struct scan_answer answer = {0};
	uint64_t until_ms = 0;
	bool began = false;

	while (!answer.eof) {
		int rc = scan_ask(c, &scan, after, after_size, data, &answer);

		if (rc && scan_again(im, rc, &until_ms))
			continue;
		if (rc)
			return scan_failed(im, bucket, rc);
		if (began && answer.shard != im->buckets[bucket].shard) {
			/* It moved: block ids are another shard's now. */
			mark_return(im, &mark, bucket);
			after_size = 0;
			began = answer.eof = false;
			continue;
		}
		began = true;
		im->buckets[bucket].shard = answer.shard;
		if (!scan_batch(
			    im, bucket, data, answer.size_bytes, after, &after_size) ||
			(!answer.eof && answer.size_bytes == 0))
			return ctl_usage("bucket %u: its node answers nonsense: is it of "
					 "another version?",
				bucket);
	}
	return EXIT_OK;
}

int image_scan(struct image *im, struct client *c)
{
	void *data = malloc(WIRE_DATA_MAX);
	int rc = data ? EXIT_OK : ctl_usage("fsck: out of memory");

	for (uint32_t b = 0; rc == EXIT_OK && b < im->map->bucket_count; b++) {
		progress_show(im->ctl, "reading", (int)(b * 100 / im->map->bucket_count));
		rc = scan_bucket(im, c, (uint16_t)b, data);
	}
	progress_end(im->ctl);
	free(data);
	if (im->inodes.count)
		qsort(im->inodes.at, im->inodes.count, sizeof(*im->inodes.at),
			inode_compare);
	return rc;
}

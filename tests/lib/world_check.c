/*
 * The checker: all keys of all buckets, and whether they fit together.
 *
 *   every name leads to an inode of its type, and every inode has as many names as links;
 *   every directory has one name, in its parent, and all hang together from the root;
 *   no intent, no decision, no lock is left;
 *   every block is named once, is in use in the store, and nothing else is.
 */
#include "tests/lib/world.h"
#include "tests/lib/check.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/meta_impl.h"
#include "meta/schema.h"

struct seen_inode {
	ino_id ino;
	struct inode in;
	uint32_t names;
	uint32_t subdirs;
	uint32_t entries;
	ino_id named_in; /* the directory of its (last) name */
	bool reached;
};

struct seen_name {
	ino_id dir;
	ino_id ino;
	uint8_t dtype;
	char name[WFS_NAME_MAX + 1];
};

struct seen_block {
	uint32_t shard;
	uint64_t id;
};

struct seen_bucket {
	struct bucket_header header;
	bool has_header;
	uint64_t inode_count;
	uint64_t block_count;
};

struct image {
	struct world *w;
	unsigned allow;
	struct seen_inode *inodes;
	size_t inode_count, inode_room;
	struct seen_name *names;
	size_t name_count, name_room;
	struct seen_block *blocks;
	size_t block_count, block_room;
	ino_id *jobs;
	size_t job_count, job_room;
	struct seen_extent {
		ino_id ino;
		uint64_t chunk;
		uint32_t block;
		uint32_t count;
		uint16_t bucket;
	} * extents;
	size_t extent_count, extent_room;
	struct seen_bucket *buckets;
};

#define GROW(array, count, room)                                                         \
	do {                                                                             \
		if ((count) == (room)) {                                                 \
			(room) = (room) ? 2 * (room) : 64;                               \
			(array) = realloc((array), (room) * sizeof(*(array)));           \
		}                                                                        \
	} while (0)

#define SEED   (unsigned long long)im->w->seed
#define INO(x) (unsigned long long)(x)

/* --- reading --- */

static void see_inode(struct image *im, const uint8_t *key, size_t key_size,
	const void *value, size_t value_size)
{
	struct seen_inode *si;

	GROW(im->inodes, im->inode_count, im->inode_room);
	si = &im->inodes[im->inode_count++];
	memset(si, 0, sizeof(*si));
	check_eq(key_size, 4 + 8 + 4);
	si->ino = be64_read(key + 4);
	check_eq(inode_decode(value, value_size, &si->in), 0);
	check_eq(ino_bucket(si->ino), be16_read(key + 1));
	si->in.target = NULL;
	im->buckets[ino_bucket(si->ino)].inode_count++;
}

static void see_name(struct image *im, const uint8_t *key, size_t key_size,
	const void *value, size_t value_size)
{
	struct name_target target;
	struct seen_name *sn;
	const char *name;
	size_t name_size;
	uint64_t hash;

	GROW(im->names, im->name_count, im->name_room);
	sn = &im->names[im->name_count++];
	sn->dir = be64_read(key + 4);
	check_eq(meta_key_dirent_parse(key, key_size, &hash, &name, &name_size), 0);
	check_eq(name_target_decode(value, value_size, &target), 0);
	sn->ino = target.ino;
	sn->dtype = target.dtype;
	memcpy(sn->name, name, name_size);
	sn->name[name_size] = 0;
}

static void see_extent(struct image *im, uint16_t bucket, const uint8_t *key,
	size_t key_size, const void *value, size_t value_size)
{
	struct seen_extent *se;
	uint32_t block, count;
	uint64_t id;

	check_eq(meta_key_extent_parse(key, key_size, &block), 0);
	check_eq(extent_decode(value, value_size, block, &id, &count), 0);
	GROW(im->extents, im->extent_count, im->extent_room);
	se = &im->extents[im->extent_count++];
	*se = (struct seen_extent){.ino = be64_read(key + 4),
		.chunk = be64_read(key + 12),
		.block = block,
		.count = count,
		.bucket = bucket};
	im->buckets[bucket].block_count += count;
	for (uint32_t i = 0; i < count; i++) {
		GROW(im->blocks, im->block_count, im->block_room);
		im->blocks[im->block_count++] = (struct seen_block){
			.shard = im->w->map->buckets[bucket].primary, .id = id + i};
	}
}

static void see(struct image *im, uint16_t bucket, const uint8_t *key, size_t key_size,
	const void *value, size_t value_size)
{
	check_geq(key_size, 4);
	check_eq(be16_read(key + 1), bucket);
	switch (key[3]) {
	case 'I': see_inode(im, key, key_size, value, value_size); break;
	case 'D': see_name(im, key, key_size, value, value_size); break;
	case 'E': see_extent(im, bucket, key, key_size, value, value_size); break;
	case 'N':
		check_eq(
			bucket_decode(value, value_size, &im->buckets[bucket].header), 0);
		im->buckets[bucket].has_header = true;
		break;
	case 'O':
		GROW(im->jobs, im->job_count, im->job_room);
		im->jobs[im->job_count++] = be64_read(key + 4);
		break;
	case 'T':
	case 't':
		check(false, "bucket %u: %s %llx is left, seed %llu", bucket,
			key[3] == 'T' ? "decision" : "intent", INO(be64_read(key + 4)),
			SEED);
	}
}

#define MOVED_MAX 50u

struct scan {
	struct rpc_call call;
	bool finished;
	bool eof;
	int status;
	uint32_t size;
};

static void scan_done(struct rpc_call *call, int status, const void *reply,
	uint32_t reply_size, uint32_t reply_data_size)
{
	struct scan *sc = container_of(call, struct scan, call);
	const struct wire_scan_reply *sr = reply;

	(void)reply_size;
	sc->status = status;
	sc->finished = true;
	if (status)
		return;
	sc->eof = sr->eof;
	sc->size = reply_data_size;
}

static void scan_bucket(struct image *im, uint16_t bucket)
{
	static uint8_t data[1 << 20];
	static const struct cred root;
	uint8_t body[sizeof(struct wire_scan) + 1024];
	unsigned moved = 0;
	size_t after = 0;
	struct scan sc;

	do {
		struct wire_scan ws = {.bucket = le16_put(bucket),
			.key_size = le16_put((uint16_t)after)};

		memcpy(body, &ws, sizeof(ws));
		sc = (struct scan){.call = {.op = OP_SCAN,
					   .bucket = bucket,
					   .timeout_ms = 5000,
					   .cred = &root,
					   .body = body,
					   .body_size = (uint32_t)(sizeof(ws) + after),
					   .reply_data = data,
					   .reply_data_max = sizeof(data),
					   .done = scan_done}};
		world_call_send(im->w, WORLD_VIA_NONE, &sc.call);
		while (!sc.finished)
			world_turn(im->w);
		if (sc.status == -EREMCHG && im->w->copies > 1 && ++moved < MOVED_MAX) {
			world_pass(im->w, 100000); /* it is handed over just now */
			sc.eof = false;
			continue;
		}
		check_eq(sc.status, 0, "scan: %d", sc.status);
		for (uint32_t at = 0; at < sc.size;) {
			le16 key_size;
			le32 value_size;
			const uint8_t *key = data + at + 8;

			memcpy(&key_size, data + at, 2);
			memcpy(&value_size, data + at + 4, 4);
			see(im, bucket, key, le16_get(key_size), key + le16_get(key_size),
				le32_get(value_size));
			after = le16_get(key_size);
			memcpy(body + sizeof(ws), key, after);
			at += 8 + (uint32_t)after + le32_get(value_size);
		}
	} while (!sc.eof);
}

/* --- comparing --- */

static int inode_order(const void *a, const void *b)
{
	ino_id x = ((const struct seen_inode *)a)->ino,
	       y = ((const struct seen_inode *)b)->ino;

	return (x > y) - (x < y);
}

static struct seen_inode *inode_of(struct image *im, ino_id ino)
{
	struct seen_inode key = {.ino = ino};

	return bsearch(&key, im->inodes, im->inode_count, sizeof(key), inode_order);
}

static bool has_job(const struct image *im, ino_id ino)
{
	for (size_t i = 0; i < im->job_count; i++)
		if (im->jobs[i] == ino)
			return true;
	return false;
}

static void names_check(struct image *im)
{
	for (size_t i = 0; i < im->name_count; i++) {
		const struct seen_name *n = &im->names[i];
		struct seen_inode *dir = inode_of(im, n->dir), *si = inode_of(im, n->ino);

		check(dir && S_ISDIR(dir->in.attr.mode),
			"name %s in no directory %llx, seed %llu", n->name, INO(n->dir),
			SEED);
		check(si, "name %s leads nowhere (%llx), seed %llu", n->name,
			INO(n->ino), SEED);
		check_eq(
			mode_dtype(si->in.attr.mode), n->dtype, "type of %s", n->name);
		dir->entries++;
		dir->subdirs += n->dtype == DT_DIR;
		si->names++;
		si->named_in = n->dir;
	}
}

static void reach(struct image *im, struct seen_inode *si)
{
	unsigned depth = 0;

	while (!si->reached && si->ino != WFS_ROOT_INO) {
		check(++depth < 10000, "a loop of directories, seed %llu", SEED);
		si = inode_of(im, si->in.attr.parent);
		check(si, "parent missing, seed %llu", SEED);
	}
}

static void inodes_check(struct image *im)
{
	for (size_t i = 0; i < im->inode_count; i++) {
		struct seen_inode *si = &im->inodes[i];
		const struct attr *a = &si->in.attr;

		check(!(si->in.flags & INODE_PURGING),
			"ino %llx is still being cut, seed %llu", INO(si->ino), SEED);
		if (!S_ISDIR(a->mode)) {
			check_eq(a->nlink, si->names,
				"ino %llx: nlink %u, names %u, seed %llu", INO(si->ino),
				a->nlink, si->names, SEED);
			if (a->nlink == 0)
				check(
					has_job(im, si->ino) && im->allow & CHECK_ORPHANS,
					"ino %llx is an orphan, seed %llu", INO(si->ino),
					SEED);
			continue;
		}
		check_eq(a->nlink, 2 + si->subdirs,
			"dir %llx: nlink %u, subdirs %u, seed %llu", INO(si->ino),
			a->nlink, si->subdirs, SEED);
		check_eq(a->entries, si->entries,
			"dir %llx: entries %llu, names %u, seed %llu", INO(si->ino),
			INO(a->entries), si->entries, SEED);
		if (si->ino != WFS_ROOT_INO) {
			check_eq(si->names, 1, "dir %llx has %u names, seed %llu",
				INO(si->ino), si->names, SEED);
			check_eq(si->named_in, a->parent,
				"dir %llx: parent, seed %llu", INO(si->ino), SEED);
		}
		reach(im, si);
		si->reached = true;
	}
	for (size_t i = 0; i < im->job_count; i++)
		check(im->allow & CHECK_ORPHANS, "job of %llx is left, seed %llu",
			INO(im->jobs[i]), SEED);
}

static void buckets_check(struct image *im)
{
	for (uint32_t b = 0; b < im->w->map->bucket_count; b++) {
		const struct seen_bucket *sb = &im->buckets[b];

		check_eq(sb->header.inode_count, sb->inode_count,
			"bucket %u counts %llu inodes, has %llu, seed %llu", b,
			INO(sb->header.inode_count), INO(sb->inode_count), SEED);
		check_eq(sb->header.data_bytes, sb->block_count * WFS_BLOCK_SIZE,
			"bucket %u counts data, seed %llu", b, SEED);
	}
	for (size_t i = 0; i < im->inode_count; i++)
		if (im->inodes[i].ino != WFS_ROOT_INO)
			check_gt(im->buckets[ino_bucket(im->inodes[i].ino)]
					     .header.next_counter,
				im->inodes[i].ino & ((1ull << 48) - 1));
}

static void extents_check(struct image *im)
{
	for (size_t i = 0; i < im->extent_count; i++) {
		const struct seen_extent *e = &im->extents[i];
		const struct seen_inode *si = inode_of(im, e->ino);
		uint64_t at =
			e->chunk * WFS_CHUNK_SIZE + (uint64_t)e->block * WFS_BLOCK_SIZE;

		if (im->allow & CHECK_STRAYS)
			continue;
		check(si, "data of no inode %llx, chunk %llu, seed %llu", INO(e->ino),
			INO(e->chunk), SEED);
		check_lt(at + (uint64_t)(e->count - 1) * WFS_BLOCK_SIZE,
			si->in.attr.size_bytes, "data past the end of %llx, seed %llu",
			INO(e->ino), SEED);
	}
}

static int block_order(const void *a, const void *b)
{
	const struct seen_block *x = a, *y = b;

	if (x->shard != y->shard)
		return x->shard < y->shard ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static void blocks_check(struct image *im)
{
	uint64_t counts[WORLD_SHARDS_MAX] = {0};

	if (im->w->copies > 1) {
		world_copies_check(im->w);
		return;
	}
	if (im->block_count)
		qsort(im->blocks, im->block_count, sizeof(*im->blocks), block_order);
	for (size_t i = 0; i < im->block_count; i++) {
		const struct seen_block *b = &im->blocks[i];

		counts[b->shard]++;
		if (i > 0)
			check(block_order(b, b - 1) != 0,
				"block %llx is named twice, seed %llu", INO(b->id), SEED);
		check(store_block_live(im->w->shards[b->shard].store, b->id),
			"block %llx is not in use, seed %llu", INO(b->id), SEED);
	}
	for (uint32_t i = 0; i < im->w->shard_count; i++) {
		struct store_stats st;

		store_stats(im->w->shards[i].store, &st);
		check_eq(st.live_bytes, counts[i] * WFS_BLOCK_SIZE,
			"shard %u: %llu blocks live, %llu named, seed %llu", i,
			INO(st.live_bytes / WFS_BLOCK_SIZE), INO(counts[i]), SEED);
	}
}

static void locks_check(struct image *im)
{
	for (uint32_t i = 0; i < im->w->shard_count; i++)
		check_eq(im->w->shards[i].shard->meta->lock_count, 0,
			"shard %u: locks are left, seed %llu", i, SEED);
}

/* The running count of each shard is that of its buckets. */
static void counts_check(struct world *w)
{
	for (uint32_t i = 0; i < w->shard_count; i++) {
		struct meta *meta = w->shards[i].shard->meta;
		struct bucket_stats stats;
		uint64_t total = 0;

		for (uint32_t b = 0; b < w->map->bucket_count; b++) {
			if (w->map->buckets[b].primary != i)
				continue;
			check_eq(meta_bucket_stats(meta, (uint16_t)b, &stats), 0);
			total += stats.inode_count;
		}
		check_eq(meta_inode_count(meta), total, "shard %u", i);
	}
}

void world_check(struct world *w, unsigned allow)
{
	struct image image = {.w = w, .allow = allow}, *im = &image;
	bool lossy = w->lossy;

	world_quiesce(w);
	w->lossy = false;
	im->buckets = calloc(w->map->bucket_count, sizeof(*im->buckets));
	for (uint32_t b = 0; b < w->map->bucket_count; b++)
		scan_bucket(im, (uint16_t)b);
	qsort(im->inodes, im->inode_count, sizeof(*im->inodes), inode_order);
	check(inode_of(im, WFS_ROOT_INO), "no root");
	names_check(im);
	inodes_check(im);
	buckets_check(im);
	extents_check(im);
	blocks_check(im);
	locks_check(im);
	counts_check(w);
	w->lossy = lossy;
	free(im->inodes);
	free(im->names);
	free(im->blocks);
	free(im->jobs);
	free(im->extents);
	free(im->buckets);
}

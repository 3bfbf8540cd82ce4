/*
 * fsck --compare: every copy of every bucket says the same.
 *
 * The keys of a bucket are equal byte for byte on all its members, but for 'A', each
 * member's own position, and 'E', whose block ids are each store's own: of these the crc
 * of each block is compared. A copy is reduced to cells, one a key or block, of two
 * hashes.
 *
 * While programs write, a backup is a moment behind or ahead of what is read of the
 * primary. So only what differs in the same way in two looks, a while apart, is a
 * finding.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/hash.h"
#include "net/wire.h"
#include "shim/wfsctl/fsck.h"

#define LOOKS          4
#define LOOK_PAUSE_MS  300
#define FINDINGS_SHOWN 8u

struct cell {
	uint64_t key;
	uint64_t value;
	ino_id ino;
	char type;
};

struct copy {
	ARRAY(struct cell) cells;
};

/* One has the key and the other has not (0), or with another value. */
struct difference {
	uint64_t key, ours, theirs;
	ino_id ino;
	char type;
};

struct differences {
	ARRAY(struct difference) list;
};

static int cell_order(const void *a, const void *b)
{
	const struct cell *x = a, *y = b;

	return x->key < y->key ? -1 : x->key > y->key;
}

static int extent_cells(struct copy *copy, const uint8_t *key, uint32_t key_size,
	const uint8_t *value, uint32_t value_size)
{
	struct {
		uint64_t ino, chunk, block;
	} of = {0};
	uint32_t block, count;
	uint64_t id;

	if (meta_key_extent_parse(key, key_size, &block) ||
		extent_decode(value, value_size, block, &id, &count))
		return -EUCLEAN;
	of.ino = be64_read(key + META_PREFIX_SIZE);
	of.chunk = be64_read(key + META_PREFIX_SIZE + 8);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *crc = value + sizeof(struct extent_value) + 4 * i;

		of.block = block + i;
		*array_push(&copy->cells) = (struct cell){
			hash64(&of, sizeof(of), 0), hash64(crc, 4, 0) | 1, of.ino, 'E'};
	}
	return 0;
}

/* The entries of one answer. The last key goes to `after`. */
static int cells_add(struct copy *copy, const uint8_t *data, size_t size, uint8_t *after,
	uint32_t *after_size)
{
	size_t at = 0;

	while (size - at >= 8) {
		const uint8_t *key = data + at + 8, *value;
		uint32_t key_size, value_size;
		int rc = 0;
		le16 k;
		le32 v;

		memcpy(&k, data + at, 2);
		memcpy(&v, data + at + 4, 4);
		key_size = le16_get(k);
		value_size = le32_get(v);
		at += 8;
		if (key_size < META_PREFIX_SIZE || key_size > META_KEY_MAX ||
			key_size > size - at || value_size > size - at - key_size)
			return -EPROTO;
		value = key + key_size;
		if (key[3] == 'E')
			rc = extent_cells(copy, key, key_size, value, value_size);
		else if (key[3] != 'A')
			*array_push(&copy->cells) =
				(struct cell){hash64(key, key_size, 0),
					hash64(value, value_size, 0) | 1,
					key_size >= META_PREFIX_SIZE + 8
						? be64_read(key + META_PREFIX_SIZE)
						: 0,
					(char)key[3]};
		if (rc)
			return rc;
		memcpy(after, key, key_size);
		*after_size = key_size;
		at += key_size + value_size;
	}
	return at == size ? 0 : -EPROTO;
}

static int copy_read(
	struct client *c, uint16_t bucket, uint32_t shard, void *data, struct copy *copy)
{
	struct scan scan = {.bucket = bucket, .to_shard = true, .shard = shard};
	struct scan_answer answer = {0};
	uint8_t after[META_KEY_MAX];
	uint32_t after_size = 0;
	int rc = 0;

	copy->cells.count = 0;
	while (rc == 0 && !answer.eof) {
		rc = scan_ask(c, &scan, after, after_size, data, &answer);
		if (rc == 0)
			rc = cells_add(copy, data, answer.size_bytes, after, &after_size);
		if (rc == 0 && !answer.eof && answer.size_bytes == 0)
			rc = -EPROTO;
	}
	if (copy->cells.count)
		qsort(copy->cells.at, copy->cells.count, sizeof(*copy->cells.at),
			cell_order);
	return rc;
}

static void difference_add(
	struct differences *d, const struct cell *ours, const struct cell *theirs)
{
	const struct cell *any = ours ? ours : theirs;

	assert(any);
	*array_push(&d->list) = (struct difference){any->key, ours ? ours->value : 0,
		theirs ? theirs->value : 0, any->ino, any->type};
}

static void copies_differ(
	const struct copy *ours, const struct copy *theirs, struct differences *out)
{
	size_t i = 0, k = 0;

	out->list.count = 0;
	while (i < ours->cells.count || k < theirs->cells.count) {
		const struct cell *a = i < ours->cells.count ? &ours->cells.at[i] : NULL;
		const struct cell *b =
			k < theirs->cells.count ? &theirs->cells.at[k] : NULL;

		if (a && b && a->key == b->key) {
			if (a->value != b->value)
				difference_add(out, a, b);
			i++;
			k++;
		} else if (!b || (a && a->key < b->key)) {
			difference_add(out, a, NULL);
			i++;
		} else {
			difference_add(out, NULL, b);
			k++;
		}
	}
}

/* What is in both, which are in order; into `now`. */
static void differences_keep(struct differences *now, const struct differences *before)
{
	size_t kept = 0, k = 0;

	for (size_t i = 0; i < now->list.count; i++) {
		const struct difference *d = &now->list.at[i], *old;

		while (k < before->list.count && before->list.at[k].key < d->key)
			k++;
		old = k < before->list.count ? &before->list.at[k] : NULL;
		if (old && old->key == d->key && old->ours == d->ours &&
			old->theirs == d->theirs)
			now->list.at[kept++] = *d;
	}
	now->list.count = kept;
}

struct comparison {
	struct image *im;
	struct client *c;
	void *data;
	struct copy ours, theirs;
	struct differences now, before;
};

static void differences_tell(
	struct comparison *cmp, uint16_t bucket, uint32_t ours, uint32_t theirs)
{
	size_t count = cmp->now.list.count;

	for (size_t i = 0; i < count && i < FINDINGS_SHOWN; i++) {
		const struct difference *d = &cmp->now.list.at[i];

		finding_add(cmp->im, "copies-differ", d->ino,
			"bucket %u: key of type '%c' %s on node %u and node %u (%zu "
			"such)",
			bucket, d->type,
			d->ours && d->theirs ? "is not the same" : "is not both",
			cmp->im->map->shards[ours].node,
			cmp->im->map->shards[theirs].node, count);
	}
}

/* 0, or the errno for which it could not be done. */
static int pair_compare(
	struct comparison *cmp, uint16_t bucket, uint32_t ours, uint32_t theirs)
{
	for (int look = 0; look < LOOKS; look++) {
		struct differences swap = cmp->before;
		int rc = copy_read(cmp->c, bucket, ours, cmp->data, &cmp->ours);

		if (rc == 0)
			rc = copy_read(cmp->c, bucket, theirs, cmp->data, &cmp->theirs);
		if (rc)
			return rc;
		cmp->before = cmp->now;
		cmp->now = swap;
		copies_differ(&cmp->ours, &cmp->theirs, &cmp->now);
		if (look > 0)
			differences_keep(&cmp->now, &cmp->before);
		if (cmp->now.list.count == 0)
			return 0;
		poll(NULL, 0, LOOK_PAUSE_MS);
	}
	differences_tell(cmp, bucket, ours, theirs);
	return 0;
}

static void bucket_compare(struct comparison *cmp, uint16_t bucket)
{
	const struct map *map = cmp->im->map;
	const struct map_bucket *b = &map->buckets[bucket];

	if (b->backup_count + 1 < map->copies)
		note_add(cmp->im, "copies-missing", 0, "bucket %u has %u of %u copies",
			bucket, b->backup_count + 1, map->copies);
	for (uint32_t k = 0; k < b->backup_count; k++) {
		int rc = pair_compare(cmp, bucket, b->primary, b->backups[k]);

		if (rc)
			note_add(cmp->im, "not-compared", 0,
				"bucket %u on node %u: %s: it moves, or a node is away",
				bucket, map->shards[b->backups[k]].node, strerror(-rc));
	}
}

int image_copies_compare(struct image *im, struct client *c)
{
	struct comparison cmp = {.im = im, .c = c, .data = malloc(WIRE_DATA_MAX)};

	if (!cmp.data)
		return ctl_usage("fsck: out of memory");
	for (uint32_t b = 0; b < im->map->bucket_count; b++) {
		progress_show(
			im->ctl, "comparing", (int)(b * 100 / im->map->bucket_count));
		bucket_compare(&cmp, (uint16_t)b);
	}
	progress_end(im->ctl);
	free(cmp.data);
	free(cmp.ours.cells.at);
	free(cmp.theirs.cells.at);
	free(cmp.now.list.at);
	free(cmp.before.list.at);
	return EXIT_OK;
}

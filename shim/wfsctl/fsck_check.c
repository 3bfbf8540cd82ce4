/*
 * fsck, step two: the image against itself. Each check is one function over one array;
 * what each array must agree with is written at meta/schema.h, "Invariants".
 *
 * A note is no damage: an unlinked file that is still open or being purged; data beyond
 * the end of a file, which a writer leaves that died between its data and its size.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/wfsctl/fsck.h"

#define DEPTH_MAX 4096u

static const char *root_name(const struct image *im, ino_id ino)
{
	for (uint32_t i = 0; i < im->map->filesystem_count; i++)
		if (im->map->filesystems[i].root == ino)
			return im->map->filesystems[i].name;
	return NULL;
}

/* "main:/a/b", as far as names lead up; "?" for the rest. */
static char *path_of(const struct image *im, ino_id ino)
{
	char text[WFS_PATH_MAX + 128];
	size_t at = sizeof(text) - 1;
	const char *root = NULL;
	char *out = NULL;

	text[at] = 0;
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		const struct fs_inode *in = image_inode(im, ino);
		const char *name;
		size_t size;

		root = root_name(im, ino);
		if (root || !in || in->first_name == NONE)
			break;
		name = im->texts.at + im->names.at[in->first_name].text_at;
		size = strlen(name);
		if (size + 1 > at)
			break;
		at -= size;
		memcpy(text + at, name, size);
		text[--at] = '/';
		ino = im->names.at[in->first_name].dir;
	}
	if (asprintf(&out, "%s%s%s", root ? root : "?", root ? ":" : "",
		    root && !text[at] ? "/" : text + at) < 0)
		return NULL;
	return out;
}

static void add(struct image *im, bool note, const char *check, ino_id ino, char *text)
{
	*array_push(&im->findings) =
		(struct finding){note, check, ino, ino ? path_of(im, ino) : NULL, text};
	im->errors += !note;
}

void finding_add(struct image *im, const char *check, ino_id ino, const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	add(im, false, check, ino, text);
}

void note_add(struct image *im, const char *check, ino_id ino, const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = NULL;
	va_end(ap);
	add(im, true, check, ino, text);
}

static bool is_dir(const struct fs_inode *in)
{
	return mode_dtype(in->mode) == DT_DIR;
}

/* Count what names lead to and what directories hold, before anything is reported. */
static void names_count(struct image *im)
{
	for (size_t i = 0; i < im->names.count; i++) {
		const struct fs_name *name = &im->names.at[i];
		struct fs_inode *dir = image_inode(im, name->dir);
		struct fs_inode *in = image_inode(im, name->ino);

		if (dir) {
			dir->entries_found++;
			dir->subdirs_found += name->dtype == DT_DIR;
		}
		if (in) {
			in->names_found++;
			if (in->first_name == NONE || name->dir == in->parent)
				in->first_name = (uint32_t)i;
		}
	}
	for (size_t i = 0; i < im->jobs.count; i++) {
		struct fs_inode *in = image_inode(im, im->jobs.at[i].ino);
		if (in)
			in->job_flags |= im->jobs.at[i].flags;
	}
}

static void names_check(struct image *im)
{
	for (size_t i = 0; i < im->names.count; i++) {
		const struct fs_name *name = &im->names.at[i];
		const char *text = im->texts.at + name->text_at;
		const struct fs_inode *dir = image_inode(im, name->dir);
		const struct fs_inode *in = image_inode(im, name->ino);

		if (!dir)
			finding_add(im, "name-without-directory", name->dir,
				"name %s is in a directory that does not exist", text);
		else if (!is_dir(dir))
			finding_add(im, "name-in-file", name->dir,
				"name %s is in an inode that is no directory", text);
		if (!in)
			finding_add(im, "dangling-name", name->dir,
				"name %s leads to inode %llx, which does not exist", text,
				(unsigned long long)name->ino);
		else if (mode_dtype(in->mode) != name->dtype)
			finding_add(im, "type", name->ino,
				"the name says type %u, the inode type %u", name->dtype,
				mode_dtype(in->mode));
		else if (is_dir(in) && in->parent != name->dir)
			finding_add(im, "parent", name->ino,
				"named in directory %llx, its parent is %llx",
				(unsigned long long)name->dir,
				(unsigned long long)in->parent);
	}
}

static void dir_check(struct image *im, const struct fs_inode *in)
{
	if (in->nlink != 0 && in->nlink != 2 + in->subdirs_found)
		finding_add(im, "nlink", in->ino,
			"nlink is %u, its %u subdirectories make %u", in->nlink,
			in->subdirs_found, 2 + in->subdirs_found);
	if (in->entries != in->entries_found)
		finding_add(im, "entries", in->ino, "says %llu entries, has %llu",
			(unsigned long long)in->entries,
			(unsigned long long)in->entries_found);
	if (in->names_found > 1)
		finding_add(
			im, "directory-names", in->ino, "has %u names", in->names_found);
	if (root_name(im, in->ino) && in->names_found)
		finding_add(im, "root-name", in->ino, "the root has a name");
}

static void inodes_check(struct image *im)
{
	for (size_t i = 0; i < im->inodes.count; i++) {
		const struct fs_inode *in = &im->inodes.at[i];
		bool orphan = in->job_flags & JOB_ORPHAN;

		if (is_dir(in))
			dir_check(im, in);
		else if (in->nlink != in->names_found)
			finding_add(im, "nlink", in->ino,
				"nlink is %u, %u names lead to it", in->nlink,
				in->names_found);
		if (in->nlink == 0 && !orphan)
			finding_add(im, "orphan", in->ino,
				"has no links and no orphan key: its space is lost");
		if (in->nlink != 0 && orphan)
			finding_add(im, "orphan", in->ino,
				"has %u links and an orphan key", in->nlink);
		if (in->nlink == 0 && orphan)
			note_add(im, "unlinked", in->ino,
				"unlinked: open, or being purged");
		if ((in->flags & INODE_PURGING) && !(in->job_flags & JOB_TRUNCATE))
			finding_add(im, "purge", in->ino, "is being cut, but has no job");
	}
}

/* Follow names upwards, remembering the verdict for all on the way. */
static enum reach reach_of(struct image *im, struct fs_inode *in, struct fs_inode **way)
{
	size_t depth = 0;
	enum reach verdict = REACH_NO;

	while (in) {
		if (in->reach == REACH_WALKING) /* a loop */
			break;
		if (in->reach != REACH_UNKNOWN) {
			verdict = in->reach;
			break;
		}
		if (root_name(im, in->ino)) {
			in->reach = verdict = REACH_YES;
			break;
		}
		in->reach = REACH_WALKING;
		way[depth++] = in;
		in = in->first_name == NONE
			     ? NULL
			     : image_inode(im, im->names.at[in->first_name].dir);
	}
	while (depth)
		way[--depth]->reach = (uint8_t)verdict;
	return verdict;
}

static void reach_check(struct image *im)
{
	struct fs_inode **way = NULL;
	size_t room = 0;

	way = image_grow(way, &room, im->inodes.count + 1, sizeof(*way));
	for (size_t i = 0; i < im->inodes.count; i++) {
		struct fs_inode *in = &im->inodes.at[i];

		if (is_dir(in) && in->nlink && reach_of(im, in, way) != REACH_YES)
			finding_add(im, "unreachable", in->ino,
				"no way leads from a root to this directory");
	}
	for (uint32_t i = 0; i < im->map->filesystem_count; i++) {
		const struct map_filesystem *fs = &im->map->filesystems[i];
		const struct fs_inode *in = image_inode(im, fs->root);

		if (!in || !is_dir(in))
			finding_add(im, "root", fs->root,
				"filesystem %s has no root directory", fs->name);
	}
	free(way);
}

static int by_place(const void *a, const void *b)
{
	const struct fs_extent *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (x->chunk != y->chunk)
		return x->chunk < y->chunk ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

static int by_id(const void *a, const void *b)
{
	const struct fs_extent *x = a, *y = b;

	if (x->shard != y->shard)
		return x->shard < y->shard ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static bool job_find(const struct image *im, ino_id ino)
{
	for (size_t i = 0; i < im->jobs.count; i++)
		if (im->jobs.at[i].ino == ino)
			return true;
	return false;
}

/* One finding for all extents of an inode that share a fault. */
static void extents_inode_check(struct image *im, const struct fs_extent *x, size_t count)
{
	const struct fs_inode *in = image_inode(im, x->ino);
	uint64_t end_max = 0, beyond = 0, blocks = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t end =
			x[i].chunk * WFS_CHUNK_BLOCKS + x[i].block + x[i].block_count;

		blocks += x[i].block_count;
		end_max = end > end_max ? end : end_max;
		if (in && (end - 1) * WFS_BLOCK_SIZE >= in->size_bytes)
			beyond += x[i].block_count;
		if (i && x[i].chunk == x[i - 1].chunk &&
			x[i].block < x[i - 1].block + x[i - 1].block_count)
			finding_add(im, "extent-overlap", x->ino,
				"two extents of chunk %llu cover block %u",
				(unsigned long long)x[i].chunk, x[i].block);
	}
	if (!in) {
		if (!job_find(im, x->ino))
			finding_add(im, "lost-extents", x->ino,
				"%llu blocks of data belong to no inode",
				(unsigned long long)blocks);
		return;
	}
	if (mode_dtype(in->mode) != DT_REG)
		finding_add(im, "extents-of-no-file", x->ino,
			"has %llu blocks of data and is no file",
			(unsigned long long)blocks);
	else if (beyond && !in->job_flags)
		note_add(im, "beyond-end", x->ino,
			"data up to %llu lies beyond its end at %llu",
			(unsigned long long)(end_max * WFS_BLOCK_SIZE),
			(unsigned long long)in->size_bytes);
}

static void extents_check(struct image *im)
{
	struct fs_extent *x = im->extents.at;
	size_t count = im->extents.count, from = 0;

	if (!count)
		return;
	qsort(x, count, sizeof(*x), by_place);
	for (size_t i = 1; i <= count; i++) {
		if (i < count && x[i].ino == x[from].ino)
			continue;
		extents_inode_check(im, x + from, i - from);
		from = i;
	}
	qsort(x, count, sizeof(*x), by_id);
	for (size_t i = 1; i < count; i++)
		if (x[i].shard == x[i - 1].shard &&
			x[i].id < x[i - 1].id + x[i - 1].block_count)
			finding_add(im, "shared-block", x[i].ino,
				"block %llx of shard %u also belongs to inode %llx",
				(unsigned long long)x[i].id, x[i].shard,
				(unsigned long long)x[i - 1].ino);
}

static void buckets_check(struct image *im)
{
	for (uint32_t b = 0; b < im->map->bucket_count; b++) {
		const struct fs_bucket *bucket = &im->buckets[b];
		const struct bucket_header *h = &bucket->header;

		if (!bucket->has_header && (bucket->inodes_found || bucket->blocks_found))
			finding_add(im, "bucket", 0, "bucket %u has no header", b);
		if (!bucket->has_header)
			continue;
		if (h->inode_count != bucket->inodes_found)
			finding_add(im, "bucket", 0,
				"bucket %u says %llu inodes, has %llu", b,
				(unsigned long long)h->inode_count,
				(unsigned long long)bucket->inodes_found);
		if (h->data_bytes != bucket->blocks_found * WFS_BLOCK_SIZE)
			finding_add(im, "bucket", 0,
				"bucket %u says %llu bytes, has %llu", b,
				(unsigned long long)h->data_bytes,
				(unsigned long long)bucket->blocks_found *
					WFS_BLOCK_SIZE);
		if (bucket->counter_max >= COUNTER_FIRST &&
			h->next_counter <= bucket->counter_max)
			finding_add(im, "bucket", 0,
				"bucket %u would give inode %llx again", b,
				(unsigned long long)h->next_counter);
	}
}

static void leftovers_check(struct image *im)
{
	for (size_t i = 0; i < im->txns.count; i++) {
		const struct fs_txn *txn = &im->txns.at[i];
		finding_add(im, "transaction", 0,
			"bucket %u holds %s of transaction %llx", txn->bucket,
			txn->is_decision ? "the decision" : "an intent",
			(unsigned long long)txn->txid);
	}
	for (size_t i = 0; i < im->xattrs.count; i++)
		if (!image_inode(im, im->xattrs.at[i].ino))
			finding_add(im, "lost-xattrs", im->xattrs.at[i].ino,
				"%u attributes belong to no inode",
				im->xattrs.at[i].count);
	for (size_t i = 0; i < im->jobs.count; i++)
		if (!image_inode(im, im->jobs.at[i].ino))
			finding_add(im, "job", im->jobs.at[i].ino,
				"an orphan key belongs to no inode");
}

void image_check(struct image *im)
{
	progress_show(im->ctl, "checking", -1);
	names_count(im);
	names_check(im);
	inodes_check(im);
	reach_check(im);
	extents_check(im);
	buckets_check(im);
	leftovers_check(im);
	progress_end(im->ctl);
}

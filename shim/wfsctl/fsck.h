/*
 * fsck, in three steps: scan all buckets into an image, check the image, print findings.
 *
 * The image is plain arrays; indices into them are uint32_t, NONE for none.
 */
#ifndef WFS_WFSCTL_FSCK_H
#define WFS_WFSCTL_FSCK_H

#include "meta/schema.h"
#include "shim/wfsctl/local.h"

#define NONE UINT32_MAX

struct fs_inode {
	ino_id ino;
	ino_id parent;
	uint64_t size_bytes;
	uint64_t entries; /* as the inode says */
	uint64_t entries_found;
	uint32_t mode;
	uint32_t nlink;
	uint32_t flags; /* INODE_* */
	uint32_t fsid;
	uint32_t names_found;
	uint32_t subdirs_found;
	uint32_t first_name; /* index of a name that leads here */
	uint32_t job_flags;  /* JOB_* of its O key, 0 without one */
	uint8_t reach;       /* enum reach */
};
enum reach { REACH_UNKNOWN, REACH_WALKING, REACH_YES, REACH_NO };

struct fs_name {
	ino_id dir;
	ino_id ino;
	size_t text_at; /* in image.texts, NUL-terminated */
	uint8_t dtype;
};

struct fs_extent {
	ino_id ino;
	uint64_t chunk;
	uint64_t id;
	uint32_t block;
	uint32_t block_count;
	uint32_t shard;
};

struct fs_bucket {
	struct bucket_header header;
	bool has_header;
	uint32_t shard; /* that was asked */
	uint64_t inodes_found;
	uint64_t blocks_found;
	uint64_t counter_max;
};

struct fs_job {
	ino_id ino;
	uint32_t flags;
};

struct fs_txn {
	uint64_t txid;
	uint16_t bucket;
	bool is_decision;
};

struct fs_xattr {
	ino_id ino;
	uint32_t count;
};

#define ARRAY(type)                                                                      \
	struct {                                                                         \
		type *at;                                                                \
		size_t count, room;                                                      \
	}

struct finding {
	bool is_note; /* worth knowing, nothing is wrong */
	const char *check;
	ino_id ino;
	char *path;
	char *text;
};

struct image {
	const struct ctl *ctl;
	const struct map *map;
	ARRAY(struct fs_inode) inodes; /* sorted by ino after the scan */
	ARRAY(struct fs_name) names;
	ARRAY(struct fs_extent) extents;
	ARRAY(struct fs_job) jobs;
	ARRAY(struct fs_txn) txns;
	ARRAY(struct fs_xattr) xattrs;
	ARRAY(char) texts;
	ARRAY(struct finding) findings;
	struct fs_bucket *buckets;
	uint64_t keys;
	uint64_t errors; /* findings that are not notes */
};

/* Room for one more element; ends the program when memory is short. */
#define array_push(array)                                                                \
	((array)->at = image_grow(                                                       \
		 (array)->at, &(array)->room, (array)->count + 1, sizeof(*(array)->at)), \
		&(array)->at[(array)->count++])
void *image_grow(void *at, size_t *room, size_t need, size_t size);

void image_init(struct image *im, const struct ctl *ctl, const struct map *map);
void image_release(struct image *im);
struct fs_inode *image_inode(const struct image *im, ino_id ino); /* NULL: none */

/* One question for keys of a bucket; to its primary, or to a shard. */
struct scan {
	uint16_t bucket;
	bool to_shard;
	uint32_t shard;
};
struct scan_answer {
	uint32_t size_bytes; /* of data */
	uint32_t shard;      /* who answered */
	bool eof;
};
/* data: WIRE_DATA_MAX. Errno of the node's. */
int scan_ask(struct client *c, const struct scan *scan, const uint8_t *after,
	uint32_t after_size, void *data, struct scan_answer *out);

/* Read every bucket. 0, or an exit code after complaining. */
int image_scan(struct image *im, struct client *c);
/* Compare the copies of each bucket with one another; findings are added. As image_scan. */
int image_copies_compare(struct image *im, struct client *c);
/* Compare everything with everything; findings are added. */
void image_check(struct image *im);

void finding_add(struct image *im, const char *check, ino_id ino, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void note_add(struct image *im, const char *check, ino_id ino, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif

/*
 * The words of WFS that every layer shares: inode numbers, buckets, chunks, blocks.
 *
 * ino = bucket:16 | counter:48. An inode never leaves the bucket where it was born, so
 * its number says who owns it. File data is cut into chunks of 1 MiB; chunk 0 lives in
 * the bucket of its inode (a small file is one bucket's business), chunk n > 0 in the
 * bucket that chunk_bucket() gives it: a hash of the file, and from there in turn. Data
 * moves in blocks of 4 KiB.
 */
#ifndef WFS_BASE_TYPES_H
#define WFS_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WFS_BLOCK_SIZE       4096u
#define WFS_CHUNK_SIZE       (1u << 20)
#define WFS_CHUNK_BLOCKS     (WFS_CHUNK_SIZE / WFS_BLOCK_SIZE)
#define WFS_NAME_MAX         255u
#define WFS_PATH_MAX         4096u
#define WFS_SYMLINK_MAX      4095u
#define WFS_XATTR_NAME_MAX   255u
#define WFS_XATTR_SIZE_MAX   65536u
#define WFS_LINK_MAX         65000u
#define WFS_FILE_SIZE_MAX    ((uint64_t)1 << 48)
#define WFS_GROUPS_MAX       64u
#define WFS_BUCKETS_DEFAULT  256u
#define WFS_BUCKETS_MAX      65536u

typedef uint64_t ino_id;

/* The root directory of the namespace: bucket 0, counter 1. */
#define WFS_ROOT_INO ((ino_id)1)

static inline uint16_t ino_bucket(ino_id ino)
{
	return (uint16_t)(ino >> 48);
}

static inline ino_id ino_make(uint16_t bucket, uint64_t counter)
{
	return ((ino_id)bucket << 48) | (counter & (((uint64_t)1 << 48) - 1));
}

/* Who asks. Filled in by the daemon of the caller's host, never by the caller. */
struct cred {
	uint32_t uid;
	uint32_t gid;
	uint32_t group_count;
	uint32_t groups[WFS_GROUPS_MAX];
};

#endif

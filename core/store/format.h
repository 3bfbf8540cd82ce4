/*
 * The store on its device: every byte, version 1.
 *
 *   block 0              superblock, first copy
 *   area_offset ...      segment_count segments of segment_size bytes
 *   last block           superblock, second copy
 *
 * area_offset is the smaller of the segment size and 1 MiB. All integers little-endian,
 * blocks are 4 KiB, reserved bytes are zero and checked. Each block structure starts with
 * an 8-byte magic, the version, and the crc32c of its 4096 bytes with the crc field zero.
 *
 * Superblock. Rewritten at each open with incarnation and generation one higher, second
 * copy first, each write durable before the next; the valid copy with the higher
 * generation counts.
 *
 * Segment. Each use of a segment has a segment_seq that is never used again. Block 0 is
 * the segment header; commits follow from block 1, back to back. A header is written by
 * the same write as the first commit after it.
 *
 * Commit, one contiguous write:
 *
 *   head block | data_count data blocks | overflow_count payload blocks
 *
 * The payload lies in the head from byte 96 when it fits (overflow_count 0), else in the
 * overflow blocks, zero padded. Payload: le32 crc32c per data block, padded to 8; then
 * record_count records, each a record_disk and `size` bytes padded to 8. Type 1 is a
 * batch (core/kv/batch.h); its `id` and `block_count` name the data blocks born with it,
 * in this commit or, when the batch did not fit any more, in an earlier one. Type 2 is
 * an array of move_disk, what the cleaner moved.
 *
 * A commit head is valid at its place when crc, device uuid, incarnation, segment_seq,
 * physical index and block index agree; so the segment header says nothing that the first
 * commit does not say too, and a damaged one loses nothing. Sequences count all commits
 * of a shard without gap. durable_sequence is the last one that was acknowledged when
 * this head was written: proof that it was once on stable storage.
 *
 * Block id: segment_seq << 16 | index in the segment, the place of birth. A place is
 * named in the same way.
 *
 * Index keys (first byte 0x00, numbers big-endian):
 *
 *   00 'A'                   checkpoint_disk: the index holds all up to `sequence`
 *   00 'B' be64 segment_seq  bitmap_disk and one bit per block, bit i%8 of byte i/8, for
 *                            every segment with live data at the checkpoint
 *   00 'F' be64 id           id is a multiple of 64: forward_disk[], ascending: where the
 *                            blocks id..id+63 are that the cleaner moved
 */
#ifndef WFS_STORE_FORMAT_H
#define WFS_STORE_FORMAT_H

#include <stdbool.h>

#include "core/base/le.h"
#include "core/base/types.h"

#define FORMAT_VERSION           1u
#define FORMAT_SUPER_MAGIC       "WFSsuper"
#define FORMAT_SEGMENT_MAGIC     "WFSsegmt"
#define FORMAT_COMMIT_MAGIC      "WFScommt"
#define FORMAT_SEGMENT_MIN       (64u << 10)
#define FORMAT_SEGMENT_MAX       (256u << 20)
#define FORMAT_SEGMENT_COUNT_MIN 16u
#define FORMAT_AREA_MAX          (1u << 20)
#define FORMAT_SEQ_MAX           (((uint64_t)1 << 48) - 1)
#define FORMAT_FORWARD_BLOCKS    64u

enum { FORMAT_KIND_LOG = 1, FORMAT_KIND_CLEANER = 2 };
enum { FORMAT_RECORD_BATCH = 1, FORMAT_RECORD_MOVES = 2 };

struct block_head_disk { /* how every block structure starts */
	uint8_t magic[8];
	le32 version;
	le32 crc;
};
_Static_assert(sizeof(struct block_head_disk) == 16, "format");

struct super_disk {
	struct block_head_disk head;
	uint8_t cluster_uuid[16];
	uint8_t device_uuid[16];
	le32 node;
	le32 shard;
	le64 incarnation;
	le64 generation;
	le64 device_size_bytes;
	le64 area_offset_bytes;
	le32 segment_size_bytes;
	le32 segment_count;
	uint8_t zero[4000];
};
_Static_assert(sizeof(struct super_disk) == WFS_BLOCK_SIZE, "format");

struct segment_disk {
	struct block_head_disk head;
	uint8_t device_uuid[16];
	le64 incarnation;
	le64 segment_seq;
	le32 physical; /* index of the segment on the device */
	le32 kind;
	uint8_t zero[4040];
};
_Static_assert(sizeof(struct segment_disk) == WFS_BLOCK_SIZE, "format");

#define FORMAT_INLINE_MAX 4000u

struct commit_disk {
	struct block_head_disk head;
	uint8_t device_uuid[16];
	le64 incarnation;
	le64 sequence;
	le64 durable_sequence;
	le64 segment_seq;
	le32 block; /* index of this head in its segment */
	le32 kind;
	le32 data_count;
	le32 overflow_count;
	le32 record_count;
	le32 payload_size_bytes;
	le32 payload_crc;
	le32 physical; /* index of the segment on the device */
	uint8_t payload[FORMAT_INLINE_MAX];
};
_Static_assert(sizeof(struct commit_disk) == WFS_BLOCK_SIZE, "format");

struct record_disk {
	le32 type;
	le16 bucket;
	le16 zero;
	le32 bucket_epoch;
	le32 block_count;
	le64 lsn;
	le64 id;
	le32 size_bytes;
	le32 zero2;
};
_Static_assert(sizeof(struct record_disk) == 40, "format");

struct move_disk {
	le64 id; /* of birth */
	le64 from;
	le64 to;
	le32 count;
	le32 zero;
};
_Static_assert(sizeof(struct move_disk) == 32, "format");

struct checkpoint_disk {
	le32 version;
	le32 zero;
	uint8_t device_uuid[16];
	le64 incarnation;
	le64 sequence;
	le64 next_segment_seq;
	struct {
		le64 segment_seq; /* 0: none open */
		le32 physical;
		le32 block; /* where the next commit goes */
	} open[2];
};
_Static_assert(sizeof(struct checkpoint_disk) == 80, "format");

struct bitmap_disk {
	le32 physical;
	le32 kind;
	le32 live_count;
	le32 zero;
};
_Static_assert(sizeof(struct bitmap_disk) == 16, "format");

struct forward_disk {
	le16 first; /* index in the page of 64 */
	le16 count;
	le32 zero;
	le64 place;
};
_Static_assert(sizeof(struct forward_disk) == 16, "format");

/* The same, decoded. */

struct super {
	uint8_t cluster_uuid[16];
	uint8_t device_uuid[16];
	uint32_t node;
	uint32_t shard;
	uint64_t incarnation;
	uint64_t generation;
	uint64_t device_size_bytes;
	uint64_t area_offset_bytes;
	uint32_t segment_size_bytes;
	uint32_t segment_count;
};

struct segment_head {
	uint8_t device_uuid[16];
	uint64_t incarnation;
	uint64_t segment_seq;
	uint32_t physical;
	uint32_t kind;
};

struct commit_head {
	uint8_t device_uuid[16];
	uint64_t incarnation;
	uint64_t sequence;
	uint64_t durable_sequence;
	uint64_t segment_seq;
	uint32_t block;
	uint32_t kind;
	uint32_t data_count;
	uint32_t overflow_count;
	uint32_t record_count;
	uint32_t payload_size_bytes;
	uint32_t payload_crc;
	uint32_t physical;
};

struct record_view {
	uint32_t type;
	uint16_t bucket;
	uint32_t bucket_epoch;
	uint32_t block_count;
	uint64_t lsn;
	uint64_t id;
	const uint8_t *bytes;
	uint32_t size_bytes;
};

struct checkpoint_mark {
	uint8_t device_uuid[16];
	uint64_t incarnation;
	uint64_t sequence;
	uint64_t next_segment_seq;
	struct {
		uint64_t segment_seq;
		uint32_t physical;
		uint32_t block;
	} open[2];
};

struct format_move {
	uint64_t id;
	uint64_t from;
	uint64_t to;
	uint32_t count;
};

static inline uint32_t format_pad8(uint32_t n)
{
	return (n + 7) & ~7u;
}
/* Blocks that a payload takes outside the head. */
static inline uint32_t format_overflow(uint32_t payload_size_bytes)
{
	if (payload_size_bytes <= FORMAT_INLINE_MAX)
		return 0;
	return (payload_size_bytes + WFS_BLOCK_SIZE - 1) / WFS_BLOCK_SIZE;
}

/*
 * Encoders fill the whole block. Decoders are pure and check everything that can be
 * checked from the bytes alone: 0; -ENODEV another magic; -EPROTO a newer version;
 * -EUCLEAN damaged.
 */
void super_encode(const struct super *in, void *block_out);
int super_decode(const void *block, size_t size_bytes, struct super *out);
void segment_head_encode(const struct segment_head *in, void *block_out);
int segment_head_decode(const void *block, size_t size_bytes, struct segment_head *out);
/* Does not touch the payload area, which the caller has filled, zero after its end. */
void commit_head_encode(const struct commit_head *in, void *block);
int commit_head_decode(const void *block, size_t size_bytes, struct commit_head *out);

/* Check a payload whole against its head: crc, records, batches, moves, padding. */
int payload_check(const struct commit_head *head, const void *payload, size_t size_bytes);
/* Walk the records of a checked payload: *offset starts at payload_records(). 1, 0, or
 * -EUCLEAN. */
uint32_t payload_records(const struct commit_head *head);
int payload_next(const void *payload, size_t size_bytes, uint32_t *offset,
	struct record_view *out);
uint32_t payload_crc_get(const void *payload, uint32_t data_index);
void record_encode(const struct record_view *in, void *out); /* the head only */
void move_encode(const struct format_move *in, void *out);
void move_decode(const void *bytes, struct format_move *out);

void checkpoint_encode(const struct checkpoint_mark *in, struct checkpoint_disk *out);
int checkpoint_decode(const void *bytes, size_t size_bytes, struct checkpoint_mark *out);

/* A forwarding page: 64 places, 0 for a block that was not moved. Encode returns the
 * bytes written to out (room for 64 entries); 0 when the page is empty. */
size_t forward_encode(const uint64_t place[FORMAT_FORWARD_BLOCKS], void *out);
int forward_decode(
	const void *bytes, size_t size_bytes, uint64_t place_out[FORMAT_FORWARD_BLOCKS]);

#endif

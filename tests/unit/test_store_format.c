/*
 * The format and the refusals: golden bytes, decoders against damage, and devices that
 * must not be opened or overwritten.
 */
#include "tests/unit/store_harness.h"

#include "core/kv/batch.h"

#define SEG (64u << 10)

static _Alignas(WFS_BLOCK_SIZE) uint8_t block[WFS_BLOCK_SIZE];

static const struct super super_sample = {
	.cluster_uuid = {1, 2, 3},
	.device_uuid = {4, 5, 6},
	.node = 7,
	.shard = 8,
	.incarnation = 9,
	.generation = 10,
	.device_size_bytes = (64u << 20) * 20,
	.area_offset_bytes = 1 << 20,
	.segment_size_bytes = 64u << 20,
	.segment_count = 19,
};

static const struct segment_head segment_sample = {
	.device_uuid = {4, 5, 6},
	.incarnation = 9,
	.segment_seq = 11,
	.physical = 3,
	.kind = FORMAT_KIND_CLEANER,
};

/* A commit of two data blocks and one record with a small batch, all in the head. */
static struct commit_head commit_sample(uint8_t *out)
{
	struct commit_disk *d = (void *)out;
	struct commit_head head = {
		.device_uuid = {4, 5, 6},
		.incarnation = 9,
		.sequence = 20,
		.durable_sequence = 18,
		.segment_seq = 11,
		.block = 5,
		.physical = 3,
		.kind = FORMAT_KIND_LOG,
		.data_count = 2,
		.record_count = 1,
	};
	struct record_view r = {.type = FORMAT_RECORD_BATCH,
		.bucket = 12,
		.bucket_epoch = 13,
		.block_count = 2,
		.lsn = 14,
		.id = 11 << 16 | 6};
	struct batch b;
	le32 crc = le32_put(0x12345678);

	memset(out, 0, WFS_BLOCK_SIZE);
	batch_init(&b);
	batch_put(&b, "key", 3, "value", 5);
	r.size_bytes = (uint32_t)b.bytes.size_bytes;
	memcpy(d->payload, &crc, 4);
	memcpy(d->payload + 4, &crc, 4);
	record_encode(&r, d->payload + 8);
	memcpy(d->payload + 8 + sizeof(struct record_disk), b.bytes.data, r.size_bytes);
	head.payload_size_bytes =
		8 + (uint32_t)sizeof(struct record_disk) + format_pad8(r.size_bytes);
	head.payload_crc = crc32c(d->payload, head.payload_size_bytes);
	batch_release(&b);
	commit_head_encode(&head, out);
	return head;
}

/* A change of these numbers is a change of the format: raise the version. */
Test(store_format, golden_bytes)
{
	struct checkpoint_mark mark = {.device_uuid = {4, 5, 6},
		.incarnation = 9,
		.sequence = 20,
		.next_segment_seq = 12,
		.open = {{11, 3, 6}, {10, 2, 1}}};
	struct checkpoint_disk disk;
	uint64_t place[FORMAT_FORWARD_BLOCKS] = {[3] = 70000, [4] = 70001, [9] = 80000};
	uint8_t forward[FORMAT_FORWARD_BLOCKS * sizeof(struct forward_disk)];
	struct format_move move = {1, 2, 3, 4};
	uint8_t bytes[sizeof(struct move_disk)];

	super_encode(&super_sample, block);
	cr_assert_eq(crc32c(block, sizeof(block)), 0x6af7be43u, "super %x",
		crc32c(block, sizeof(block)));
	cr_assert_eq(memcmp(block, "WFSsuper\1\0\0\0", 12), 0);
	segment_head_encode(&segment_sample, block);
	cr_assert_eq(crc32c(block, sizeof(block)), 0xbeeb8983u, "segment %x",
		crc32c(block, sizeof(block)));
	commit_sample(block);
	cr_assert_eq(crc32c(block, sizeof(block)), 0xf260ede9u, "commit %x",
		crc32c(block, sizeof(block)));
	checkpoint_encode(&mark, &disk);
	cr_assert_eq(crc32c(&disk, sizeof(disk)), 0x2d3bc880u, "checkpoint %x",
		crc32c(&disk, sizeof(disk)));
	cr_assert_eq(forward_encode(place, forward), 32);
	cr_assert_eq(crc32c(forward, 32), 0x7e710e6u, "forward %x", crc32c(forward, 32));
	move_encode(&move, bytes);
	cr_assert_eq(crc32c(bytes, sizeof(bytes)), 0xf4a1f712u, "move %x",
		crc32c(bytes, sizeof(bytes)));
}

Test(store_format, decoded_is_what_was_encoded)
{
	struct super super;
	struct segment_head segment;
	struct commit_head commit, again;
	struct record_view r;
	uint32_t offset;
	const uint8_t *payload =
		((const struct commit_disk *)(const void *)block)->payload;

	super_encode(&super_sample, block);
	cr_assert_eq(super_decode(block, sizeof(block), &super), 0);
	cr_assert_eq(memcmp(&super, &super_sample, sizeof(super)), 0);
	segment_head_encode(&segment_sample, block);
	cr_assert_eq(segment_head_decode(block, sizeof(block), &segment), 0);
	cr_assert_eq(segment.physical, 3);
	cr_assert_eq(segment.segment_seq, 11);
	commit = commit_sample(block);
	cr_assert_eq(commit_head_decode(block, sizeof(block), &again), 0);
	cr_assert_eq(again.sequence, commit.sequence);
	cr_assert_eq(again.physical, 3);
	cr_assert_eq(payload_check(&again, payload, FORMAT_INLINE_MAX), 0);
	offset = payload_records(&again);
	cr_assert_eq(payload_next(payload, again.payload_size_bytes, &offset, &r), 1);
	cr_assert_eq(r.bucket, 12);
	cr_assert_eq(r.lsn, 14);
	cr_assert_eq(payload_next(payload, again.payload_size_bytes, &offset, &r), 0);
}

/* Damage the bytes, then make the crc right again: what a bug would write. */
static void block_reseal(void)
{
	struct block_head_disk *head = (void *)block;

	head->crc = le32_put(0);
	head->crc = le32_put(crc32c(block, sizeof(block)));
}

Test(store_format, decoders_survive_anything)
{
	uint64_t state = 1;

	for (int i = 0; i < 60000; i++) {
		struct super super;
		struct segment_head segment;
		struct commit_head commit;
		const struct commit_disk *disk = (const void *)block;
		uint32_t flips = 1 + (uint32_t)(h_random(&state) % 4);
		int kind = i % 3;

		if (kind == 0)
			super_encode(&super_sample, block);
		else if (kind == 1)
			segment_head_encode(&segment_sample, block);
		else
			commit_sample(block);
		for (uint32_t k = 0; k < flips; k++)
			block[h_random(&state) % (k % 2 ? sizeof(block) : 240)] =
				(uint8_t)h_random(&state);
		if (i % 2)
			block_reseal();
		(void)super_decode(block, sizeof(block), &super);
		(void)segment_head_decode(block, sizeof(block), &segment);
		if (commit_head_decode(block, sizeof(block), &commit) == 0 &&
			commit.overflow_count == 0) {
			commit.payload_crc =
				crc32c(disk->payload, commit.payload_size_bytes);
			(void)payload_check(&commit, disk->payload, FORMAT_INLINE_MAX);
		}
	}
	for (int i = 0; i < 20000; i++) {
		_Alignas(8) uint8_t bytes[128];
		uint64_t place[FORMAT_FORWARD_BLOCKS];
		struct checkpoint_mark mark;

		for (uint32_t k = 0; k < sizeof(bytes); k++)
			bytes[k] = h_random(&state) % 3
					   ? 0
					   : (uint8_t)(h_random(&state) % 70);
		(void)checkpoint_decode(bytes, sizeof(struct checkpoint_disk), &mark);
		if (forward_decode(bytes, h_random(&state) % sizeof(bytes), place) == 0) {
			uint8_t out[FORMAT_FORWARD_BLOCKS * sizeof(struct forward_disk)];

			cr_assert_leq(forward_encode(place, out), sizeof(out));
		}
	}
}

Test(store_format, every_flipped_bit_is_seen)
{
	struct commit_head commit;

	for (uint32_t i = 0; i < WFS_BLOCK_SIZE * 8; i += 7) {
		commit_sample(block);
		block[i / 8] ^= (uint8_t)(1u << (i % 8));
		cr_assert_neq(commit_head_decode(block, sizeof(block), &commit), 0);
	}
}

/* --- devices that are not ours ------------------------------------------------------ */

static void expect_refusal(struct world *w, const char *word)
{
	w->refusal.text[0] = 0;
	cr_assert_eq(h_format(w), -EBUSY, "%s", word);
	cr_assert(strstr(w->refusal.text, word), "%s", w->refusal.text);
	cr_assert(strstr(w->refusal.text, "--force"), "%s", w->refusal.text);
}

static void put(struct world *w, size_t at, const void *bytes, size_t size)
{
	memset(device_sim_bytes(w->disk), 0, 128 << 10);
	memcpy(device_sim_bytes(w->disk) + at, bytes, size);
}

Test(store_format, foreign_devices_are_refused)
{
	struct world w;
	uint8_t *p;

	h_init(&w, 24 * SEG, SEG, 1);
	p = device_sim_bytes(w.disk);
	put(&w, 0, "XFSB", 4);
	expect_refusal(&w, "xfs");
	put(&w, 512, "EFI PART", 8);
	expect_refusal(&w, "GPT");
	put(&w, 510, "\x55\xaa", 2);
	expect_refusal(&w, "MBR");
	put(&w, 65536 + 64, "_BHRfS_M", 8);
	expect_refusal(&w, "btrfs");
	put(&w, 1024 + 56, "\x53\xef", 2);
	expect_refusal(&w, "ext2");
	p[1024 + 0x5c] = 4;
	expect_refusal(&w, "ext3");
	p[1024 + 0x60] = 0x40;
	expect_refusal(&w, "ext4");
	put(&w, 60000, "x", 1);
	expect_refusal(&w, "unknown");
	w.opt.force = true;
	cr_assert_eq(h_format(&w), 0);
	w.opt.force = false;
	expect_refusal(&w, "WFS device of cluster 5a5a5a5a-5a5a");
	memset(p, 0, 65536); /* the second copy alone is enough to be refused */
	expect_refusal(&w, "WFS device of cluster");
	cr_assert_eq(h_open(&w), 0);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0);
}

Test(store_format, too_small_says_how_much)
{
	struct world w;

	h_init(&w, 10 * SEG, SEG, 1);
	cr_assert_eq(h_format(&w), -ENOSPC);
	cr_assert(strstr(w.refusal.text, "at least 1118208 are needed"), "%s",
		w.refusal.text);
	h_release(&w);
	h_init(&w, 1118208, SEG, 1);
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	h_release(&w);
}

Test(store_format, identity_and_damage)
{
	struct world w;
	uint8_t *p;
	uint64_t last = 24 * SEG - WFS_BLOCK_SIZE;

	h_init(&w, 24 * SEG, SEG, 1);
	p = device_sim_bytes(w.disk);
	cr_assert_eq(h_open(&w), -ENODEV);
	cr_assert_eq(h_format(&w), 0);
	w.opt.identity.node++;
	cr_assert_eq(h_open(&w), -EXDEV);
	cr_assert(strstr(w.refusal.text, "node 7"), "%s", w.refusal.text);
	w.opt.identity.node--;
	w.opt.identity.cluster_uuid[0]++;
	cr_assert_eq(h_open(&w), -EXDEV);
	w.opt.identity.cluster_uuid[0]--;
	for (int i = 0; i < 2; i++) { /* either copy is repaired from the other */
		struct super super;

		p[(i ? last : 0) + 100] ^= 1;
		cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
		h_close(&w);
		cr_assert_eq(super_decode(p + (i ? last : 0), WFS_BLOCK_SIZE, &super), 0);
	}
	p[100] ^= 1;
	p[last + 100] ^= 1;
	cr_assert_eq(h_open(&w), -EUCLEAN);
	cr_assert(strstr(w.refusal.text, "superblocks"), "%s", w.refusal.text);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0);
}

Test(store_format, newer_version)
{
	struct world w;
	struct super_disk *d;

	h_init(&w, 24 * SEG, SEG, 1);
	cr_assert_eq(h_format(&w), 0);
	memset(device_sim_bytes(w.disk) + 24 * SEG - WFS_BLOCK_SIZE, 0, WFS_BLOCK_SIZE);
	d = (void *)device_sim_bytes(w.disk);
	d->head.version = le32_put(FORMAT_VERSION + 1);
	d->head.crc = le32_put(0);
	d->head.crc = le32_put(crc32c(d, sizeof(*d)));
	cr_assert_eq(h_open(&w), -EPROTO);
	cr_assert(strstr(w.refusal.text, "newer"), "%s", w.refusal.text);
	h_release(&w);
}

/* The index and the device belong together. */
Test(store_format, index_of_another_time)
{
	struct world w;
	struct kv_model_disk *used;
	uint64_t state = 1;

	h_init(&w, 24 * SEG, SEG, 1);
	w.slots = 8;
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	cr_assert_eq(h_run(&w, 20, &state), 0);
	cr_assert_eq(h_drain(&w), 0);
	h_close(&w);
	used = w.kvdisk;
	w.kvdisk = kv_model_disk_new();
	cr_assert_eq(h_open(&w), -EUCLEAN);
	cr_assert(strstr(w.refusal.text, "index is missing"), "%s", w.refusal.text);
	w.opt.force = true;
	cr_assert_eq(h_format(&w), 0);
	kv_model_disk_free(w.kvdisk);
	w.kvdisk = used;
	cr_assert_eq(h_open(&w), -EUCLEAN);
	cr_assert(strstr(w.refusal.text, "another device"), "%s", w.refusal.text);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0);
}

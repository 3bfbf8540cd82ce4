/*
 * Encoding and checking of what format.h specifies. Pure: bytes in, structs out, no I/O,
 * no state. Nothing here trusts a byte before the crc over it was right, and nothing
 * trusts a number afterwards either: a bug that wrote nonsense must not crash recovery.
 */
#include "core/store/format.h"

#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/kv/batch.h"

static bool all_zero(const void *bytes, size_t size_bytes)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < size_bytes; i++)
		if (p[i])
			return false;
	return true;
}

static uint32_t block_crc(const void *block)
{
	static const uint8_t zero[4];
	const uint8_t *p = block;
	size_t at = offsetof(struct block_head_disk, crc);
	uint32_t crc = crc32c(p, at);

	crc = crc32c_more(crc, zero, sizeof(zero));
	return crc32c_more(crc, p + at + 4, WFS_BLOCK_SIZE - at - 4);
}

static void block_seal(struct block_head_disk *head, const char *magic)
{
	memcpy(head->magic, magic, sizeof(head->magic));
	head->version = le32_put(FORMAT_VERSION);
	head->crc = le32_put(block_crc(head));
}

static int block_check(const void *block, size_t size_bytes, const char *magic)
{
	const struct block_head_disk *head = block;

	if (size_bytes < WFS_BLOCK_SIZE)
		return -EUCLEAN;
	if (memcmp(head->magic, magic, sizeof(head->magic)) != 0)
		return -ENODEV;
	if (le32_get(head->crc) != block_crc(block))
		return -EUCLEAN;
	if (le32_get(head->version) > FORMAT_VERSION)
		return -EPROTO;
	return le32_get(head->version) == FORMAT_VERSION ? 0 : -EUCLEAN;
}

/* --- superblock --------------------------------------------------------------------- */

void super_encode(const struct super *in, void *block_out)
{
	struct super_disk *d = block_out;

	memset(d, 0, sizeof(*d));
	memcpy(d->cluster_uuid, in->cluster_uuid, 16);
	memcpy(d->device_uuid, in->device_uuid, 16);
	d->node = le32_put(in->node);
	d->shard = le32_put(in->shard);
	d->incarnation = le64_put(in->incarnation);
	d->generation = le64_put(in->generation);
	d->device_size_bytes = le64_put(in->device_size_bytes);
	d->area_offset_bytes = le64_put(in->area_offset_bytes);
	d->segment_size_bytes = le32_put(in->segment_size_bytes);
	d->segment_count = le32_put(in->segment_count);
	block_seal(&d->head, FORMAT_SUPER_MAGIC);
}

static bool super_sane(const struct super *s)
{
	uint64_t end;

	if (s->segment_size_bytes < FORMAT_SEGMENT_MIN ||
		s->segment_size_bytes > FORMAT_SEGMENT_MAX ||
		s->segment_size_bytes & (s->segment_size_bytes - 1))
		return false;
	if (s->segment_count < FORMAT_SEGMENT_COUNT_MIN)
		return false;
	if (s->area_offset_bytes < WFS_BLOCK_SIZE ||
		s->area_offset_bytes > FORMAT_AREA_MAX ||
		s->area_offset_bytes % WFS_BLOCK_SIZE)
		return false;
	end = s->area_offset_bytes + (uint64_t)s->segment_size_bytes * s->segment_count;
	return s->device_size_bytes % WFS_BLOCK_SIZE == 0 &&
	       end + WFS_BLOCK_SIZE <= s->device_size_bytes;
}

int super_decode(const void *block, size_t size_bytes, struct super *out)
{
	const struct super_disk *d = block;
	struct super s;
	int rc = block_check(block, size_bytes, FORMAT_SUPER_MAGIC);

	if (rc)
		return rc;
	memcpy(s.cluster_uuid, d->cluster_uuid, 16);
	memcpy(s.device_uuid, d->device_uuid, 16);
	s.node = le32_get(d->node);
	s.shard = le32_get(d->shard);
	s.incarnation = le64_get(d->incarnation);
	s.generation = le64_get(d->generation);
	s.device_size_bytes = le64_get(d->device_size_bytes);
	s.area_offset_bytes = le64_get(d->area_offset_bytes);
	s.segment_size_bytes = le32_get(d->segment_size_bytes);
	s.segment_count = le32_get(d->segment_count);
	if (!super_sane(&s) || !all_zero(d->zero, sizeof(d->zero)))
		return -EUCLEAN;
	*out = s;
	return 0;
}

/* --- segment header ----------------------------------------------------------------- */

void segment_head_encode(const struct segment_head *in, void *block_out)
{
	struct segment_disk *d = block_out;

	memset(d, 0, sizeof(*d));
	memcpy(d->device_uuid, in->device_uuid, 16);
	d->incarnation = le64_put(in->incarnation);
	d->segment_seq = le64_put(in->segment_seq);
	d->physical = le32_put(in->physical);
	d->kind = le32_put(in->kind);
	block_seal(&d->head, FORMAT_SEGMENT_MAGIC);
}

static bool kind_sane(uint32_t kind)
{
	return kind == FORMAT_KIND_LOG || kind == FORMAT_KIND_CLEANER;
}

int segment_head_decode(const void *block, size_t size_bytes, struct segment_head *out)
{
	const struct segment_disk *d = block;
	struct segment_head h;
	int rc = block_check(block, size_bytes, FORMAT_SEGMENT_MAGIC);

	if (rc)
		return rc;
	memcpy(h.device_uuid, d->device_uuid, 16);
	h.incarnation = le64_get(d->incarnation);
	h.segment_seq = le64_get(d->segment_seq);
	h.physical = le32_get(d->physical);
	h.kind = le32_get(d->kind);
	if (!kind_sane(h.kind) || h.segment_seq == 0 || h.segment_seq > FORMAT_SEQ_MAX ||
		!all_zero(d->zero, sizeof(d->zero)))
		return -EUCLEAN;
	*out = h;
	return 0;
}

/* --- commit ------------------------------------------------------------------------- */

void commit_head_encode(const struct commit_head *in, void *block)
{
	struct commit_disk *d = block;

	memcpy(d->device_uuid, in->device_uuid, 16);
	d->incarnation = le64_put(in->incarnation);
	d->sequence = le64_put(in->sequence);
	d->durable_sequence = le64_put(in->durable_sequence);
	d->segment_seq = le64_put(in->segment_seq);
	d->block = le32_put(in->block);
	d->kind = le32_put(in->kind);
	d->data_count = le32_put(in->data_count);
	d->overflow_count = le32_put(in->overflow_count);
	d->record_count = le32_put(in->record_count);
	d->payload_size_bytes = le32_put(in->payload_size_bytes);
	d->payload_crc = le32_put(in->payload_crc);
	d->physical = le32_put(in->physical);
	block_seal(&d->head, FORMAT_COMMIT_MAGIC);
}

static bool commit_head_sane(const struct commit_head *h)
{
	uint32_t blocks = FORMAT_SEGMENT_MAX / WFS_BLOCK_SIZE;

	return kind_sane(h->kind) && h->sequence > h->durable_sequence &&
	       h->segment_seq != 0 && h->segment_seq <= FORMAT_SEQ_MAX && h->block >= 1 &&
	       h->block < blocks && h->data_count < blocks &&
	       h->overflow_count < blocks && h->payload_size_bytes < FORMAT_SEGMENT_MAX &&
	       h->overflow_count == format_overflow(h->payload_size_bytes) &&
	       payload_records(h) <= h->payload_size_bytes;
}

int commit_head_decode(const void *block, size_t size_bytes, struct commit_head *out)
{
	const struct commit_disk *d = block;
	struct commit_head h;
	uint32_t used;
	int rc = block_check(block, size_bytes, FORMAT_COMMIT_MAGIC);

	if (rc)
		return rc;
	memcpy(h.device_uuid, d->device_uuid, 16);
	h.incarnation = le64_get(d->incarnation);
	h.sequence = le64_get(d->sequence);
	h.durable_sequence = le64_get(d->durable_sequence);
	h.segment_seq = le64_get(d->segment_seq);
	h.block = le32_get(d->block);
	h.kind = le32_get(d->kind);
	h.data_count = le32_get(d->data_count);
	h.overflow_count = le32_get(d->overflow_count);
	h.record_count = le32_get(d->record_count);
	h.payload_size_bytes = le32_get(d->payload_size_bytes);
	h.payload_crc = le32_get(d->payload_crc);
	h.physical = le32_get(d->physical);
	if (!commit_head_sane(&h))
		return -EUCLEAN;
	used = h.overflow_count ? 0 : h.payload_size_bytes;
	if (!all_zero(d->payload + used, FORMAT_INLINE_MAX - used))
		return -EUCLEAN;
	*out = h;
	return 0;
}

uint32_t payload_records(const struct commit_head *head)
{
	return format_pad8(head->data_count * 4);
}

uint32_t payload_crc_get(const void *payload, uint32_t data_index)
{
	le32 v;

	memcpy(&v, (const uint8_t *)payload + (size_t)data_index * 4, sizeof(v));
	return le32_get(v);
}

void record_encode(const struct record_view *in, void *out)
{
	struct record_disk d = {
		.type = le32_put(in->type),
		.bucket = le16_put(in->bucket),
		.bucket_epoch = le32_put(in->bucket_epoch),
		.block_count = le32_put(in->block_count),
		.lsn = le64_put(in->lsn),
		.id = le64_put(in->id),
		.size_bytes = le32_put(in->size_bytes),
	};

	memcpy(out, &d, sizeof(d));
}

int payload_next(
	const void *payload, size_t size_bytes, uint32_t *offset, struct record_view *out)
{
	const uint8_t *p = payload;
	struct record_disk d;
	size_t left, size;

	if (*offset == size_bytes)
		return 0;
	if (*offset > size_bytes || size_bytes - *offset < sizeof(d))
		return -EUCLEAN;
	memcpy(&d, p + *offset, sizeof(d));
	left = size_bytes - *offset - sizeof(d);
	size = le32_get(d.size_bytes);
	if (size > left || ((size + 7) & ~(size_t)7) > left || le16_get(d.zero) != 0 ||
		le32_get(d.zero2) != 0)
		return -EUCLEAN;
	*out = (struct record_view){
		.type = le32_get(d.type),
		.bucket = le16_get(d.bucket),
		.bucket_epoch = le32_get(d.bucket_epoch),
		.block_count = le32_get(d.block_count),
		.lsn = le64_get(d.lsn),
		.id = le64_get(d.id),
		.bytes = p + *offset + sizeof(d),
		.size_bytes = (uint32_t)size,
	};
	if (!all_zero(out->bytes + size, format_pad8((uint32_t)size) - size))
		return -EUCLEAN;
	*offset += (uint32_t)sizeof(d) + format_pad8((uint32_t)size);
	return 1;
}

void move_encode(const struct format_move *in, void *out)
{
	struct move_disk d = {
		.id = le64_put(in->id),
		.from = le64_put(in->from),
		.to = le64_put(in->to),
		.count = le32_put(in->count),
	};

	memcpy(out, &d, sizeof(d));
}

void move_decode(const void *bytes, struct format_move *out)
{
	struct move_disk d;

	memcpy(&d, bytes, sizeof(d));
	out->id = le64_get(d.id);
	out->from = le64_get(d.from);
	out->to = le64_get(d.to);
	out->count = le32_get(d.count);
}

static int moves_check(const struct commit_head *head, const struct record_view *r)
{
	struct format_move m;

	if (r->size_bytes == 0 || r->size_bytes % sizeof(struct move_disk))
		return -EUCLEAN;
	for (uint32_t at = 0; at < r->size_bytes;
		at += (uint32_t)sizeof(struct move_disk)) {
		const struct move_disk *d = (const void *)(r->bytes + at);
		uint64_t first = (head->segment_seq << 16 | head->block) + 1;

		move_decode(d, &m);
		if (!all_zero(&d->zero, sizeof(d->zero)) || m.count == 0 ||
			m.count > head->data_count || m.to < first ||
			m.to - first > head->data_count - m.count)
			return -EUCLEAN;
	}
	return 0;
}

static int record_check(const struct commit_head *head, const struct record_view *r)
{
	if (r->type == FORMAT_RECORD_MOVES)
		return r->block_count == 0 ? moves_check(head, r) : -EUCLEAN;
	if (r->type != FORMAT_RECORD_BATCH || r->block_count > WFS_CHUNK_BLOCKS)
		return -EUCLEAN;
	return batch_validate(r->bytes, r->size_bytes);
}

int payload_check(const struct commit_head *head, const void *payload, size_t size_bytes)
{
	uint32_t offset = payload_records(head);
	uint32_t table = head->data_count * 4;
	struct record_view r;
	uint32_t count = 0;
	int rc;

	if (size_bytes < head->payload_size_bytes || offset > head->payload_size_bytes)
		return -EUCLEAN;
	size_bytes = head->payload_size_bytes;
	if (crc32c(payload, size_bytes) != head->payload_crc)
		return -EUCLEAN;
	if (!all_zero((const uint8_t *)payload + table, offset - table))
		return -EUCLEAN;
	while ((rc = payload_next(payload, size_bytes, &offset, &r)) == 1) {
		rc = record_check(head, &r);
		if (rc)
			return rc;
		count++;
	}
	if (rc)
		return rc;
	return count == head->record_count ? 0 : -EUCLEAN;
}

/* --- index values ------------------------------------------------------------------- */

void checkpoint_encode(const struct checkpoint_mark *in, struct checkpoint_disk *out)
{
	memset(out, 0, sizeof(*out));
	out->version = le32_put(FORMAT_VERSION);
	memcpy(out->device_uuid, in->device_uuid, 16);
	out->incarnation = le64_put(in->incarnation);
	out->sequence = le64_put(in->sequence);
	out->next_segment_seq = le64_put(in->next_segment_seq);
	for (int i = 0; i < 2; i++) {
		out->open[i].segment_seq = le64_put(in->open[i].segment_seq);
		out->open[i].physical = le32_put(in->open[i].physical);
		out->open[i].block = le32_put(in->open[i].block);
	}
}

int checkpoint_decode(const void *bytes, size_t size_bytes, struct checkpoint_mark *out)
{
	struct checkpoint_disk d;

	if (size_bytes != sizeof(d))
		return -EUCLEAN;
	memcpy(&d, bytes, sizeof(d));
	if (le32_get(d.version) > FORMAT_VERSION)
		return -EPROTO;
	if (le32_get(d.version) != FORMAT_VERSION || le32_get(d.zero) != 0)
		return -EUCLEAN;
	if (le64_get(d.next_segment_seq) == 0 ||
		le64_get(d.next_segment_seq) > FORMAT_SEQ_MAX)
		return -EUCLEAN;
	memcpy(out->device_uuid, d.device_uuid, 16);
	out->incarnation = le64_get(d.incarnation);
	out->sequence = le64_get(d.sequence);
	out->next_segment_seq = le64_get(d.next_segment_seq);
	for (int i = 0; i < 2; i++) {
		out->open[i].segment_seq = le64_get(d.open[i].segment_seq);
		out->open[i].physical = le32_get(d.open[i].physical);
		out->open[i].block = le32_get(d.open[i].block);
	}
	return 0;
}

size_t forward_encode(const uint64_t place[FORMAT_FORWARD_BLOCKS], void *out)
{
	uint8_t *p = out;
	uint32_t i = 0;

	while (i < FORMAT_FORWARD_BLOCKS) {
		uint32_t n = 1;
		struct forward_disk d;

		if (place[i] == 0) {
			i++;
			continue;
		}
		while (i + n < FORMAT_FORWARD_BLOCKS && place[i + n] == place[i] + n)
			n++;
		d = (struct forward_disk){
			.first = le16_put((uint16_t)i),
			.count = le16_put((uint16_t)n),
			.place = le64_put(place[i]),
		};
		memcpy(p, &d, sizeof(d));
		p += sizeof(d);
		i += n;
	}
	return (size_t)(p - (uint8_t *)out);
}

int forward_decode(
	const void *bytes, size_t size_bytes, uint64_t place_out[FORMAT_FORWARD_BLOCKS])
{
	const uint8_t *p = bytes;
	uint64_t place[FORMAT_FORWARD_BLOCKS] = {0};
	uint32_t from = 0;

	if (size_bytes == 0 || size_bytes % sizeof(struct forward_disk))
		return -EUCLEAN;
	for (size_t at = 0; at < size_bytes; at += sizeof(struct forward_disk)) {
		struct forward_disk d;
		uint32_t first, count;

		memcpy(&d, p + at, sizeof(d));
		first = le16_get(d.first);
		count = le16_get(d.count);
		if (le32_get(d.zero) != 0 || first < from || count == 0 ||
			first + count > FORMAT_FORWARD_BLOCKS ||
			le64_get(d.place) >> 16 == 0)
			return -EUCLEAN;
		for (uint32_t i = 0; i < count; i++)
			place[first + i] = le64_get(d.place) + i;
		from = first + count;
	}
	memcpy(place_out, place, sizeof(place));
	return 0;
}

/*
 * The wire's validation, of whole messages: head, sizes and checksum. Apart from wire.c, so
 * that the preloaded shim, which sees bodies only, needs no checksum library.
 */
#include <errno.h>

#include "core/base/crc.h"
#include "net/wire.h"

static bool head_sizes_ok(const struct wire_head *h, size_t size_bytes)
{
	uint32_t groups = le16_get(h->group_count);
	uint32_t body = le32_get(h->body_size);
	uint32_t data = le32_get(h->data_size);
	bool is_inline = le16_get(h->flags) & HEAD_INLINE;

	if (groups > WFS_GROUPS_MAX || body > WIRE_BODY_MAX || data > WIRE_DATA_MAX ||
		le32_get(h->data_max) > WIRE_DATA_MAX)
		return false;
	if (is_inline && (data == 0 || data > WIRE_INLINE_MAX))
		return false;
	return sizeof(*h) + groups * sizeof(le32) + body + (is_inline ? data : 0) ==
		size_bytes;
}

static bool crc_ok(const struct wire_head *h)
{
	bool by_rma = le32_get(h->data_size) > 0 && !(le16_get(h->flags) & HEAD_INLINE);

	return le32_get(h->reserved) == 0 && (by_rma || le32_get(h->data_crc) == 0);
}

static bool request_head_ok(const struct wire_head *h)
{
	return !(le16_get(h->flags) & ~(HEAD_INLINE | HEAD_TO_SHARD)) &&
		le32_get(h->status) == 0 && le32_get(h->fill) == 0 && crc_ok(h);
}

static bool reply_head_ok(const struct wire_head *h)
{
	if ((le16_get(h->flags) & ~HEAD_INLINE) || le16_get(h->group_count) ||
		le32_get(h->data_max) || !crc_ok(h))
		return false;
	if (le32_get(h->status) == 0)
		return true;
	return le32_get(h->status) <= WIRE_STATUS_MAX && le32_get(h->body_size) == 0 &&
		le32_get(h->data_size) == 0;
}

static uint32_t message_crc(const uint8_t *bytes, size_t size_bytes)
{
	static const le32 zero;
	size_t at = offsetof(struct wire_head, crc);
	uint32_t crc = crc32c(bytes, at);

	crc = crc32c_more(crc, &zero, sizeof(zero));
	at += sizeof(zero);
	return crc32c_more(crc, bytes + at, size_bytes - at);
}

int wire_message_check(const void *bytes, size_t size_bytes, uint64_t cluster,
	bool check_crc)
{
	struct wire_head h;

	if (size_bytes < sizeof(h) || size_bytes > WIRE_MESSAGE_MAX)
		return -EPROTO;
	memcpy(&h, bytes, sizeof(h));
	if (le32_get(h.magic) != WIRE_MAGIC)
		return -EPROTO;
	if (h.version != WIRE_VERSION)
		return -EPROTONOSUPPORT;
	if (check_crc && message_crc(bytes, size_bytes) != le32_get(h.crc))
		return -EPROTO;
	if (le64_get(h.cluster) != cluster)
		return -EXDEV;
	if (wire_op_name(le16_get(h.op))[0] == '?' || !head_sizes_ok(&h, size_bytes))
		return -EPROTO;
	if (h.kind == WIRE_REQUEST)
		return request_head_ok(&h) ? 0 : -EPROTO;
	if (h.kind == WIRE_REPLY)
		return reply_head_ok(&h) ? 0 : -EPROTO;
	return -EPROTO;
}

void wire_message_seal(void *bytes, size_t size_bytes)
{
	le32 crc = le32_put(message_crc(bytes, size_bytes));

	memcpy((uint8_t *)bytes + offsetof(struct wire_head, crc), &crc, sizeof(crc));
}

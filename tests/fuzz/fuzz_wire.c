/* libFuzzer: messages and bodies as they come from the wire. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "net/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first two bytes choose the op, the third the direction; the rest is the bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_head head;
	uint16_t op;

	if (size < 3)
		return 0;
	op = (uint16_t)((data[0] | data[1] << 8) % (OP_MAX + 1));
	(void)wire_body_check(op, data + 3, size - 3, data[2] & 1);
	data += 3;
	size -= 3;
	if (wire_message_check(data, size, 0x4141414141414141u, false) != 0)
		return 0;
	/* What passed must hold what it says. */
	memcpy(&head, data, sizeof(head));
	if (sizeof(head) + le16_get(head.group_count) * sizeof(le32) +
			le32_get(head.body_size) >
		size)
		abort();
	return 0;
}

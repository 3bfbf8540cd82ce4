/* crc32c over ISA-L; the only file that knows it. */
#include "core/base/crc.h"

#include <isa-l/crc.h>

/* ISA-L's crc32_iscsi takes a non-const pointer and an int length, and does no xor. */
static uint32_t crc_raw(uint32_t state, const void *data, size_t size_bytes)
{
	const unsigned char *p = data;

	while (size_bytes > 0) {
		int step = size_bytes > (1 << 30) ? (1 << 30) : (int)size_bytes;

		state = crc32_iscsi((unsigned char *)(uintptr_t)p, step, state);
		p += step;
		size_bytes -= (size_t)step;
	}
	return state;
}

uint32_t crc32c(const void *data, size_t size_bytes)
{
	return ~crc_raw(~0u, data, size_bytes);
}

uint32_t crc32c_more(uint32_t crc, const void *data, size_t size_bytes)
{
	return ~crc_raw(~crc, data, size_bytes);
}

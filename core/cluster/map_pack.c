/* Packing maps; the only file that knows zlib. */
#include "core/cluster/map_pack.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "core/base/mem.h"

#define MAP_TEXT_MAX (64u << 20)
#define PACKED_MAGIC "WFZ1"
#define PACKED_HEAD  8u

int map_pack(const char *text, char **value_out, size_t *size_out)
{
	size_t size = strlen(text);
	uLongf packed = compressBound(size);
	char *value;

	if (size > MAP_TEXT_MAX)
		return -E2BIG;
	value = mem_alloc(PACKED_HEAD + packed);
	if (!value)
		return -ENOMEM;
	memcpy(value, PACKED_MAGIC, 4);
	for (unsigned i = 0; i < 4; i++)
		value[4 + i] = (char)(size >> (8 * i) & 255);
	if (compress2((Bytef *)value + PACKED_HEAD, &packed, (const Bytef *)text, size,
		    Z_DEFAULT_COMPRESSION) != Z_OK) {
		mem_free(value);
		return -ENOMEM;
	}
	*value_out = value;
	*size_out = PACKED_HEAD + packed;
	return 0;
}

int map_unpack(const char *value, size_t value_size, char **text_out, size_t *size_out)
{
	uLongf size = 0;
	char *text;
	int rc;

	for (unsigned i = 0; i < 4; i++)
		size |= (uLongf)(uint8_t)value[4 + i] << (8 * i);
	if (size > MAP_TEXT_MAX)
		return -EUCLEAN;
	text = mem_alloc(size + 1);
	if (!text)
		return -ENOMEM;
	*size_out = size;
	rc = uncompress((Bytef *)text, &size, (const Bytef *)value + PACKED_HEAD,
		value_size - PACKED_HEAD);
	if (rc != Z_OK || size != *size_out) {
		mem_free(text);
		return rc == Z_MEM_ERROR ? -ENOMEM : -EUCLEAN;
	}
	*text_out = text;
	return 0;
}

bool map_is_packed(const char *value, size_t value_size)
{
	return value_size > PACKED_HEAD && memcmp(value, PACKED_MAGIC, 4) == 0;
}

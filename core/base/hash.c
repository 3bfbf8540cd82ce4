/* Hashes over xxhash; the only file that knows it. */
#include "core/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/le.h"

uint64_t hash64(const void *data, size_t size_bytes, uint64_t seed)
{
	return XXH3_64bits_withSeed(data, size_bytes, seed);
}

uint64_t name_hash63(const char *name, size_t length, uint64_t seed)
{
	uint64_t h = hash64(name, length, seed) >> 1;

	/* The smallest values are the cookies of "." and "..". */
	return h < 16 ? h + 16 : h;
}

uint16_t chunk_bucket(ino_id ino, uint64_t index, uint32_t bucket_count)
{
	uint8_t key[8];

	if (index == 0)
		return ino_bucket(ino);
	be64_write(key, ino);
	return (uint16_t)((hash64(key, sizeof(key), 0) + index) & (bucket_count - 1));
}

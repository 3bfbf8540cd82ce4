/*
 * Hashes: placement and directory order. XXH3-64 (xxhash 0.8), seeded; the value is part
 * of the on-disk format, so the function may not change. Any thread.
 */
#ifndef WFS_BASE_HASH_H
#define WFS_BASE_HASH_H

#include "core/base/types.h"

uint64_t hash64(const void *data, size_t size_bytes, uint64_t seed);

/* The 63-bit hash that orders a directory; never 0, and never above 2^63 - 1. */
uint64_t name_hash63(const char *name, size_t length, uint64_t seed);

/* The bucket of chunk `index` of a file; bucket_count is a power of two. Chunks above 0 go
 * round the buckets from one that is the hash of ino, so that each file, and each window
 * of a reader, is spread evenly. */
uint16_t chunk_bucket(ino_id ino, uint64_t index, uint32_t bucket_count);

#endif

/*
 * Little-endian integers as they lie on disk and on the wire.
 *
 * Each is a struct, so that reading one raw does not compile: bytes pass through
 * leNN_get and leNN_put. Any thread, no state.
 */
#ifndef WFS_BASE_LE_H
#define WFS_BASE_LE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t raw;
} le16;
typedef struct {
	uint32_t raw;
} le32;
typedef struct {
	uint64_t raw;
} le64;

static inline uint16_t le16_get(le16 v)
{
	return le16toh(v.raw);
}
static inline uint32_t le32_get(le32 v)
{
	return le32toh(v.raw);
}
static inline uint64_t le64_get(le64 v)
{
	return le64toh(v.raw);
}
static inline le16 le16_put(uint16_t v)
{
	return (le16){.raw = htole16(v)};
}
static inline le32 le32_put(uint32_t v)
{
	return (le32){.raw = htole32(v)};
}
static inline le64 le64_put(uint64_t v)
{
	return (le64){.raw = htole64(v)};
}

/* Big-endian, unaligned: for keys, where byte order is sort order. */
static inline void be16_write(void *p, uint16_t v)
{
	v = htobe16(v);
	memcpy(p, &v, sizeof(v));
}
static inline void be32_write(void *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}
static inline void be64_write(void *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}
static inline uint16_t be16_read(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}
static inline uint32_t be32_read(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}
static inline uint64_t be64_read(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

#endif

/*
 * crc32c (Castagnoli, as in RFC 3720 appendix B.4: initial value and final xor all
 * ones). Any thread.
 */
#ifndef WFS_BASE_CRC_H
#define WFS_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t size_bytes);

/* Continue: crc32c_more(crc32c(a), b) == crc32c(a followed by b). */
uint32_t crc32c_more(uint32_t crc, const void *data, size_t size_bytes);

#endif

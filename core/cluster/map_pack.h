/*
 * The JSON of a large map, made small: "WFZ1", its size in 4 bytes little-endian, and a
 * zlib stream.
 */
#ifndef WFS_CLUSTER_MAP_PACK_H
#define WFS_CLUSTER_MAP_PACK_H

#include "core/base/types.h"

/* mem_free() *value_out. -ENOMEM, -E2BIG. */
int map_pack(const char *text, char **value_out, size_t *size_out);
bool map_is_packed(const char *value, size_t value_size);
/* Of a packed value; mem_free() *text_out. -ENOMEM, -EUCLEAN. */
int map_unpack(const char *value, size_t value_size, char **text_out, size_t *size_out);

#endif

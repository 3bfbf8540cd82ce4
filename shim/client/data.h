/* Reads and writes of any length; the machinery behind client_read and client_write. */
#ifndef WFS_SHIM_CLIENT_DATA_H
#define WFS_SHIM_CLIENT_DATA_H

#include "shim/client/client.h"

enum data_mode {
	DATA_PLAIN,
	DATA_EXTENDED, /* the size covers the range already, and -ESTALE is the caller's */
};

/* As client_write; a stale generation is looked up and the write done again. */
ssize_t data_write(struct client *c, struct client_file *f, const void *data, size_t size,
	uint64_t offset, enum data_mode mode);

/* The size that the file had at least in the generation told with it. */
uint64_t file_known(const struct client_file *f, uint32_t *generation_out);

#endif

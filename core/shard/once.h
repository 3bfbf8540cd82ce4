/* Requests that come twice, or late: see core/shard/once.c. */
#ifndef WFS_SHARD_ONCE_H
#define WFS_SHARD_ONCE_H

#include "core/shard/shard_impl.h"

int once_new(struct shard *s);
void once_free(struct shard *s);
/* Whether the request may be carried out; otherwise *status_out is its answer, or, 0, what
 * is now in req->reply. */
bool once_begin(struct shard *s, const struct op_desc *op, struct request *req,
	int *status_out);
/* It is answered. */
void once_end(struct shard *s, const struct op_desc *op, const struct request *req,
	int status);

#endif

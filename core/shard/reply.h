/* Remembered answers: see core/shard/reply.c. */
#ifndef WFS_SHARD_REPLY_H
#define WFS_SHARD_REPLY_H

#include "core/shard/shard_impl.h"

int replies_new(struct shard *s);
void replies_free(struct shard *s);
/* The bucket is ours from now on. */
int replies_open(struct shard *s, uint16_t bucket);
/* Add the answer, as it stands, to the record being built. */
void reply_remember(struct exec *x);
/* 1: the request was carried out before, in this bucket: its answer is now x's. -ECANCELED:
 * so was a later one of its slot, and nobody waits for this one. */
int reply_recall(struct exec *x, uint16_t bucket);
/* The answer is to another part of the same way: all of the path was walked. */
void reply_fit(struct request *req);

#endif

/*
 * The etcd member that this wfsd runs, when its configuration has [etcd]: started or
 * adopted, watched by a thread "etcd" that starts it again when it dies, and ended with a
 * clean stop of this wfsd. One per process.
 */
#ifndef WFS_WFSD_MEMBER_H
#define WFS_WFSD_MEMBER_H

#include <stdbool.h>

#include "core/wfsd/config.h"

/* Nothing to do, and 0, without [etcd]; otherwise negative with the reason. */
int member_start(const struct config_etcd *config, char *reason, size_t reason_size);
/* From when on it is started again when it dies. */
int member_watch(char *reason, size_t reason_size);
/* No longer; and then end it, or leave it to who adopts it. */
void member_stop(bool end);
/* Of a start that failed: end it unless it was adopted. */
void member_abandon(void);

#endif

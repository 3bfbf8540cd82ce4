/*
 * Whether the shim can be loaded into a program: asked before it is started.
 */
#ifndef WFS_WFSCTL_PROGRAM_H
#define WFS_WFSCTL_PROGRAM_H

#include <stdbool.h>

#include "shim/client/client.h"

/* By component. */
bool path_within(const char *path, const char *mount);
/*
 * The program that execvp would run, on local disks or, below mount, in WFS; for a script
 * its interpreter. An exit code: EXIT_OK also for what cannot be looked at, which exec
 * will tell.
 */
int program_check(struct client *c, const char *mount, const char *name);

#endif

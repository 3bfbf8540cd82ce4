/* Streams; see stdio.c. */
#ifndef WFS_PRELOAD_STDIO_H
#define WFS_PRELOAD_STDIO_H

/* Let libc's streams do their I/O through the shim; once, at the first need. */
void stdio_patch(void);

#endif

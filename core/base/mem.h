/*
 * The allocator of the libraries: malloc, behind a counter that a fault test can arm to
 * fail the nth call. Memory from here is freed here, so that tests see leaks as a count.
 * Thread-safe; arming is for single-threaded tests.
 */
#ifndef WFS_BASE_MEM_H
#define WFS_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t size_bytes);                   /* NULL when memory is short */
void *mem_zalloc(size_t size_bytes);                  /* zeroed */
void *mem_realloc(void *p, size_t size_bytes);        /* as realloc(3) */
void *mem_aligned(size_t align_bytes, size_t size_bytes);
void mem_free(void *p);

/* Fail the nth allocation from now (1 is the next), once. 0 disarms. */
void mem_fault_arm(unsigned nth);
/* Whether the armed fault has fired since it was armed. */
bool mem_fault_fired(void);
/* Allocations not yet freed. */
long mem_live_count(void);

#endif

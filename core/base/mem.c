/* malloc behind a fault counter. */
#include "core/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_long live_count;
static atomic_uint fault_in;
static atomic_bool fault_fired;

static bool fault_due(void)
{
	if (atomic_load_explicit(&fault_in, memory_order_relaxed) == 0)
		return false;
	if (atomic_fetch_sub(&fault_in, 1) != 1)
		return false;
	atomic_store(&fault_fired, true);
	return true;
}

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
	return p;
}

void *mem_alloc(size_t size_bytes)
{
	return fault_due() ? NULL : counted(malloc(size_bytes ? size_bytes : 1));
}

void *mem_zalloc(size_t size_bytes)
{
	return fault_due() ? NULL : counted(calloc(1, size_bytes ? size_bytes : 1));
}

void *mem_realloc(void *p, size_t size_bytes)
{
	if (fault_due())
		return NULL;
	return p ? realloc(p, size_bytes) : counted(malloc(size_bytes ? size_bytes : 1));
}

void *mem_aligned(size_t align_bytes, size_t size_bytes)
{
	void *p = NULL;

	if (fault_due() || posix_memalign(&p, align_bytes, size_bytes) != 0)
		return NULL;
	return counted(p);
}

void mem_free(void *p)
{
	if (p)
		atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
	free(p);
}

void mem_fault_arm(unsigned nth)
{
	atomic_store(&fault_fired, false);
	atomic_store(&fault_in, nth);
}

bool mem_fault_fired(void)
{
	return atomic_load(&fault_fired);
}

long mem_live_count(void)
{
	return atomic_load(&live_count);
}

/* The table of real functions; see real.h. Resolving keeps errno. */
#include "shim/preload/real.h"

#include <dlfcn.h>

void *real_slots[REAL_COUNT];

static const char *const real_names[REAL_COUNT] = {
#define X(name) #name,
	REAL_LIST(X)
#undef X
};

static long real_missing(void)
{
	errno = ENOSYS;
	return -1;
}

void *real_find(enum real_id id)
{
	int saved = errno;
	void *p = dlsym(RTLD_NEXT, real_names[id]);

	if (!p)
		p = (void *)real_missing;
	__atomic_store_n(&real_slots[id], p, __ATOMIC_RELEASE);
	errno = saved;
	return p;
}

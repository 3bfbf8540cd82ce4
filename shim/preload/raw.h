/*
 * System calls without libc: for what the shim does behind the program's back. No errno,
 * no cancellation point, no interposition: raw(SYS_x, ...) returns the value or -errno.
 */
#ifndef WFS_PRELOAD_RAW_H
#define WFS_PRELOAD_RAW_H

#include <sys/syscall.h>

static inline long raw6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return rc;
}

#define RAW_PICK(nr, a, b, c, d, e, f, ...)                                              \
	raw6((long)(nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define raw(...) RAW_PICK(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

#endif

/*
 * What the world checks by itself. A failed check ends the test: in unit tests as a failed
 * assertion (check_criterion.c), in the simulator with the seed and what led there. So the
 * same library serves both; who links it provides check_failed.
 */
#ifndef WFS_TESTS_CHECK_H
#define WFS_TESTS_CHECK_H

#include <stdnoreturn.h>

noreturn void check_failed(const char *file, int line, const char *what,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

#define check(condition, ...)                                                            \
	((condition) ? (void)0                                                           \
		     : check_failed(__FILE__, __LINE__, #condition, " " __VA_ARGS__))
#define check_eq(a, b, ...)  check((a) == (b), __VA_ARGS__)
#define check_leq(a, b, ...) check((a) <= (b), __VA_ARGS__)
#define check_geq(a, b, ...) check((a) >= (b), __VA_ARGS__)
#define check_lt(a, b, ...)  check((a) < (b), __VA_ARGS__)
#define check_gt(a, b, ...)  check((a) > (b), __VA_ARGS__)

#endif

/* A failed check of the world is a failed assertion of the unit test that made it. */
#include "tests/lib/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>

void check_failed(const char *file, int line, const char *what, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	cr_assert(false, "%s:%d: %s:%s", file, line, what, text);
	abort();
}

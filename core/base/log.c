/* Log lines to stderr, each one write(2). */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_INFO;

void log_set_level(enum log_level level)
{
	threshold = level;
}

void log_line(enum log_level level, const char *format, ...)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	char line[1024];
	struct timespec ts;
	struct tm tm;
	int used;
	va_list ap;

	if (level < threshold)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	used = (int)strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	used += snprintf(line + used, sizeof(line) - (size_t)used, ".%03ldZ %s ",
		ts.tv_nsec / 1000000, names[level]);
	va_start(ap, format);
	used += vsnprintf(line + used, sizeof(line) - (size_t)used, format, ap);
	va_end(ap);
	if (used > (int)sizeof(line) - 2)
		used = (int)sizeof(line) - 2;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)used) < 0)
		return;
}

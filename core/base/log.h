/*
 * One log line per event, `level text key=value ...`, to stderr. For programs; libraries
 * return errors instead, except for corruption, which whoever detects it logs once.
 * Thread-safe. The preloaded shim never calls this.
 */
#ifndef WFS_BASE_LOG_H
#define WFS_BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
void log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif

/*
 * What a command prints: a table for people, or the same rows as JSON for programs.
 *
 * A column has a name (for -o and JSON), a title and a kind; a cell holds a number, a
 * text, or nothing ("-", null). Rows are added first and printed at once. struct json
 * writes nested documents. Memory that runs short ends the program.
 */
#ifndef WFS_WFSCTL_TABLE_H
#define WFS_WFSCTL_TABLE_H

#include <stdio.h>

#include "shim/wfsctl/ctl.h"

enum column_kind {
	COLUMN_TEXT,
	COLUMN_COUNT,
	COLUMN_BYTES,
	COLUMN_PERCENT,
	COLUMN_RATIO,
	COLUMN_SECONDS,
};

struct column {
	const char *name;
	const char *title;
	enum column_kind kind;
	bool hidden; /* shown only with -o, and in JSON */
};

struct table;

struct table *table_new(const struct column *columns, unsigned column_count);
void table_free(struct table *t);
void table_row(struct table *t); /* the cells below are of the last row */
void table_text(struct table *t, unsigned column, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void table_count(struct table *t, unsigned column, uint64_t value);
void table_real(struct table *t, unsigned column, double value);

struct json {
	FILE *file;
	unsigned depth;
	bool began; /* the open object or array has a member */
};
/* key NULL: within an array, or the outermost. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);
void json_text(struct json *j, const char *key, const char *value);
void json_count(struct json *j, const char *key, uint64_t value);
void json_real(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);
/* The rows as an array. */
void json_table(struct json *j, const char *key, const struct table *t);

/* Whole output of a command: honours --json, -o, --no-header, --raw. Exit code. */
int table_print(const struct ctl *ctl, const struct table *t);

/* "1.5 GiB", or plain with --raw; into a static ring of buffers, valid for a few calls.
 */
const char *text_bytes(const struct ctl *ctl, uint64_t bytes);
const char *text_seconds(const struct ctl *ctl, double seconds);
/* Colour codes, or "". */
const char *color_good(const struct ctl *ctl);
const char *color_bad(const struct ctl *ctl);
const char *color_end(const struct ctl *ctl);

#endif

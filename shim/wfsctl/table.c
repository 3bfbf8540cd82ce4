/*
 * Tables and JSON.
 *
 * Names in a filesystem are bytes, JSON strings are UTF-8: a byte that is not part of
 * valid UTF-8 is written as the code point of the same number (\u0080 to \u00ff).
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "shim/wfsctl/table.h"

#define COLUMNS_MAX 64

enum cell_type { CELL_NONE, CELL_TEXT, CELL_COUNT, CELL_REAL };

struct cell {
	enum cell_type type;
	uint64_t count;
	double real;
	char *text;
};

struct table {
	const struct column *columns;
	unsigned column_count;
	unsigned row_count;
	struct cell *cells;
};

static void *alloc_or_die(void *p, size_t size)
{
	p = realloc(p, size);
	if (!p) {
		fputs("wfsctl: out of memory\n", stderr);
		exit(EXIT_FAILED);
	}
	return p;
}

struct table *table_new(const struct column *columns, unsigned column_count)
{
	struct table *t = alloc_or_die(NULL, sizeof(*t));

	*t = (struct table){.columns = columns, .column_count = column_count};
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->row_count * t->column_count; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
}

void table_row(struct table *t)
{
	unsigned at = t->row_count++ * t->column_count;

	t->cells = alloc_or_die(
		t->cells, (size_t)t->row_count * t->column_count * sizeof(*t->cells));
	memset(t->cells + at, 0, t->column_count * sizeof(*t->cells));
}

static struct cell *cell_last(struct table *t, unsigned column)
{
	return &t->cells[(t->row_count - 1) * t->column_count + column];
}

void table_text(struct table *t, unsigned column, const char *format, ...)
{
	struct cell *cell = cell_last(t, column);
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = alloc_or_die(NULL, SIZE_MAX / 2);
	va_end(ap);
	cell->type = CELL_TEXT;
	cell->text = text;
}

void table_count(struct table *t, unsigned column, uint64_t value)
{
	*cell_last(t, column) = (struct cell){.type = CELL_COUNT, .count = value};
}

void table_real(struct table *t, unsigned column, double value)
{
	*cell_last(t, column) = (struct cell){.type = CELL_REAL, .real = value};
}

static char *ring_buffer(void)
{
	static char ring[16][64];
	static unsigned at;

	return ring[at++ % 16];
}

const char *text_bytes(const struct ctl *ctl, uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	char *out = ring_buffer();
	double value = (double)bytes;
	int unit = -1;

	if (ctl_has(ctl, OPT_RAW)) {
		snprintf(out, 64, "%" PRIu64, bytes);
		return out;
	}
	while (value >= 1023.95 && unit < 5) {
		value /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(out, 64, "%" PRIu64 " B", bytes);
	else
		snprintf(out, 64, "%.1f %ciB", value, units[unit]);
	return out;
}

const char *text_seconds(const struct ctl *ctl, double seconds)
{
	char *out = ring_buffer();
	uint64_t s = (uint64_t)seconds;

	if (ctl_has(ctl, OPT_RAW))
		snprintf(out, 64, "%.3f", seconds);
	else if (seconds < 60)
		snprintf(out, 64, "%.1f s", seconds);
	else if (s < 3600)
		snprintf(out, 64, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(out, 64, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(out, 64, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
	return out;
}

const char *color_good(const struct ctl *ctl)
{
	return ctl->color ? "\033[32m" : "";
}

const char *color_bad(const struct ctl *ctl)
{
	return ctl->color ? "\033[31m" : "";
}

const char *color_end(const struct ctl *ctl)
{
	return ctl->color ? "\033[0m" : "";
}

/* Length of a valid UTF-8 sequence at s, 0 if there is none. */
static unsigned utf8_length(const unsigned char *s)
{
	unsigned n = s[0] < 0x80             ? 1
		     : (s[0] & 0xe0) == 0xc0 ? 2
		     : (s[0] & 0xf0) == 0xe0 ? 3
		     : (s[0] & 0xf8) == 0xf0 ? 4
					     : 0;

	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if (n == 2 && s[0] < 0xc2)
		return 0;
	if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)))
		return 0;
	if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || s[0] > 0xf4 ||
			      (s[0] == 0xf4 && s[1] > 0x8f)))
		return 0;
	return n;
}

static void json_string(struct json *j, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	fputc('"', j->file);
	while (*s) {
		unsigned n = utf8_length(s);

		if (*s == '"' || *s == '\\')
			fprintf(j->file, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f || n == 0)
			fprintf(j->file, "\\u%04x", *s);
		else
			fwrite(s, 1, n, j->file);
		s += n ? n : 1;
	}
	fputc('"', j->file);
}

static void json_member(struct json *j, const char *key)
{
	if (j->began)
		fputc(',', j->file);
	if (j->depth)
		fprintf(j->file, "\n%*s", (int)j->depth * 2, "");
	j->began = true;
	if (key) {
		json_string(j, key);
		fputs(": ", j->file);
	}
}

void json_open(struct json *j, const char *key, char bracket)
{
	json_member(j, key);
	fputc(bracket, j->file);
	j->depth++;
	j->began = false;
}

void json_close(struct json *j, char bracket)
{
	j->depth--;
	if (j->began)
		fprintf(j->file, "\n%*s", (int)j->depth * 2, "");
	fputc(bracket, j->file);
	j->began = true;
	if (!j->depth)
		fputc('\n', j->file);
}

void json_text(struct json *j, const char *key, const char *value)
{
	json_member(j, key);
	json_string(j, value);
}

void json_count(struct json *j, const char *key, uint64_t value)
{
	json_member(j, key);
	fprintf(j->file, "%" PRIu64, value);
}

void json_real(struct json *j, const char *key, double value)
{
	json_member(j, key);
	if (isfinite(value))
		fprintf(j->file, "%.6g", value);
	else
		fputs("null", j->file);
}

void json_bool(struct json *j, const char *key, bool value)
{
	json_member(j, key);
	fputs(value ? "true" : "false", j->file);
}

void json_null(struct json *j, const char *key)
{
	json_member(j, key);
	fputs("null", j->file);
}

static void json_row(struct json *j, const struct table *t, unsigned row,
	const unsigned *shown, unsigned shown_count)
{
	json_open(j, NULL, '{');
	for (unsigned i = 0; i < shown_count; i++) {
		const char *key = t->columns[shown[i]].name;
		const struct cell *cell = &t->cells[row * t->column_count + shown[i]];

		switch (cell->type) {
		case CELL_NONE: json_null(j, key); break;
		case CELL_TEXT: json_text(j, key, cell->text); break;
		case CELL_COUNT: json_count(j, key, cell->count); break;
		case CELL_REAL: json_real(j, key, cell->real); break;
		}
	}
	json_close(j, '}');
}

void json_table(struct json *j, const char *key, const struct table *t)
{
	unsigned all[COLUMNS_MAX];

	for (unsigned i = 0; i < t->column_count; i++)
		all[i] = i;
	json_open(j, key, '[');
	for (unsigned row = 0; row < t->row_count; row++)
		json_row(j, t, row, all, t->column_count);
	json_close(j, ']');
}

static const char *cell_show(
	const struct ctl *ctl, const struct column *column, const struct cell *cell)
{
	bool raw = ctl_has(ctl, OPT_RAW);
	char *out;

	if (cell->type == CELL_NONE)
		return "-";
	if (cell->type == CELL_TEXT)
		return cell->text;
	if (column->kind == COLUMN_BYTES)
		return text_bytes(ctl, cell->count);
	if (column->kind == COLUMN_SECONDS)
		return text_seconds(ctl, cell->real);
	out = ring_buffer();
	if (cell->type == CELL_COUNT)
		snprintf(out, 64, "%" PRIu64, cell->count);
	else if (column->kind == COLUMN_PERCENT)
		snprintf(out, 64, raw ? "%.1f" : "%.1f %%", cell->real);
	else
		snprintf(out, 64, "%.2f", cell->real);
	return out;
}

/* The columns to show, by -o or those not hidden; -1 after complaining. */
static int columns_choose(const struct ctl *ctl, const struct table *t, unsigned *shown)
{
	const char *list = ctl->values[OPT_COLUMNS];
	unsigned count = 0;

	for (unsigned i = 0; !list && i < t->column_count; i++)
		if (!t->columns[i].hidden || ctl_has(ctl, OPT_JSON))
			shown[count++] = i;
	while (list && *list) {
		size_t size = strcspn(list, ",");
		unsigned i = 0;

		while (i < t->column_count &&
			(strlen(t->columns[i].name) != size ||
				strncmp(t->columns[i].name, list, size)))
			i++;
		if (i == t->column_count || count == COLUMNS_MAX) {
			fprintf(stderr, "wfsctl: -o %.*s: no such column: choose from",
				(int)size, list);
			for (i = 0; i < t->column_count; i++)
				fprintf(stderr, "%s%s", i ? "," : " ",
					t->columns[i].name);
			fputc('\n', stderr);
			return -1;
		}
		shown[count++] = i;
		list += size;
		list += *list == ',';
	}
	return (int)count;
}

static void line_print(const struct ctl *ctl, const struct table *t, int row,
	const unsigned *shown, unsigned count, const unsigned *width)
{
	for (unsigned i = 0; i < count; i++) {
		const struct column *c = &t->columns[shown[i]];
		const char *text = c->title;
		int w = (int)width[i];

		if (row >= 0)
			text = cell_show(ctl, c,
				&t->cells[(unsigned)row * t->column_count + shown[i]]);
		if (c->kind == COLUMN_TEXT)
			printf("%s%-*s", i ? "  " : "", i + 1 == count ? 0 : w, text);
		else
			printf("%s%*s", i ? "  " : "", w, text);
	}
	putchar('\n');
}

int table_print(const struct ctl *ctl, const struct table *t)
{
	unsigned shown[COLUMNS_MAX], width[COLUMNS_MAX];
	int count = columns_choose(ctl, t, shown);
	bool header = !ctl_has(ctl, OPT_NO_HEADER);

	if (count < 0)
		return EXIT_USAGE;
	if (ctl_has(ctl, OPT_JSON)) {
		struct json j = {.file = stdout};
		json_open(&j, NULL, '[');
		for (unsigned row = 0; row < t->row_count; row++)
			json_row(&j, t, row, shown, (unsigned)count);
		json_close(&j, ']');
		return EXIT_OK;
	}
	for (int i = 0; i < count; i++) {
		const struct column *c = &t->columns[shown[i]];

		width[i] = header ? (unsigned)strlen(c->title) : 0;
		for (unsigned row = 0; row < t->row_count; row++) {
			size_t size = strlen(cell_show(
				ctl, c, &t->cells[row * t->column_count + shown[i]]));
			if (size > width[i])
				width[i] = (unsigned)size;
		}
	}
	if (header)
		line_print(ctl, t, -1, shown, (unsigned)count, width);
	for (unsigned row = 0; row < t->row_count; row++)
		line_print(ctl, t, (int)row, shown, (unsigned)count, width);
	return EXIT_OK;
}

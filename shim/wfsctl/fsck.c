/*
 * fsck: the command. It reads only.
 *
 * Programs may be at work meanwhile, and a scan is not one moment: what looks wrong is
 * looked at again, twice, a second later. What the last look shows is told; of errors only
 * those that the look before showed too: others are changes under way.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/wfsctl/fsck.h"
#include "shim/wfsctl/table.h"

#define LOOKS   3
#define WAIT_MS 1000

enum { F_SEVERITY, F_CHECK, F_INODE, F_PATH, F_TEXT };
static const struct column columns[] = {
	[F_SEVERITY] = {"severity", "SEVERITY", COLUMN_TEXT, false},
	[F_CHECK] = {"check", "CHECK", COLUMN_TEXT, false},
	[F_INODE] = {"inode", "INODE", COLUMN_TEXT, false},
	[F_PATH] = {"path", "PATH", COLUMN_TEXT, false},
	[F_TEXT] = {"text", "FINDING", COLUMN_TEXT, false},
};

static struct table *findings_table(const struct image *im)
{
	struct table *t = table_new(columns, sizeof(columns) / sizeof(columns[0]));

	for (size_t i = 0; i < im->findings.count; i++) {
		const struct finding *f = &im->findings.at[i];

		table_row(t);
		table_text(t, F_SEVERITY, "%s", f->is_note ? "note" : "error");
		table_text(t, F_CHECK, "%s", f->check);
		if (f->ino)
			table_text(t, F_INODE, "%llx", (unsigned long long)f->ino);
		if (f->path)
			table_text(t, F_PATH, "%s", f->path);
		table_text(t, F_TEXT, "%s", f->text ? f->text : "");
	}
	return t;
}

static int print(const struct ctl *ctl, const struct image *im)
{
	struct table *t = findings_table(im);
	int rc = EXIT_OK;

	if (ctl_has(ctl, OPT_JSON)) {
		struct json j = {.file = stdout};

		json_open(&j, NULL, '{');
		json_bool(&j, "clean", im->errors == 0);
		json_count(&j, "buckets", im->map->bucket_count);
		json_count(&j, "keys", im->keys);
		json_count(&j, "inodes", im->inodes.count);
		json_count(&j, "names", im->names.count);
		json_count(&j, "extents", im->extents.count);
		json_count(&j, "errors", im->errors);
		json_count(&j, "notes", im->findings.count - im->errors);
		json_table(&j, "findings", t);
		json_close(&j, '}');
	} else {
		if (im->findings.count)
			rc = table_print(ctl, t);
		if (!ctl_has(ctl, OPT_NO_HEADER))
			printf("%zu inodes, %zu names, %zu extents in %u buckets: "
			       "%s%s%s, "
			       "%llu errors, %llu notes\n",
				im->inodes.count, im->names.count, im->extents.count,
				im->map->bucket_count,
				im->errors ? color_bad(ctl) : color_good(ctl),
				im->errors ? "DAMAGED" : "clean", color_end(ctl),
				(unsigned long long)im->errors,
				(unsigned long long)(im->findings.count - im->errors));
	}
	table_free(t);
	return rc;
}

static int look(const struct ctl *ctl, const struct local *local, struct image *im)
{
	struct client *c;
	int rc;

	image_init(im, ctl, local->map);
	rc = local_attach(ctl, local, NULL, &c, NULL);
	if (rc)
		return EXIT_USAGE;
	rc = image_scan(im, c);
	client_detach(c);
	if (rc == EXIT_OK)
		image_check(im);
	return rc;
}

static int compare(const struct ctl *ctl, struct local *local, struct image *im)
{
	struct client *c;
	int rc = local_reload(local);

	if (rc == EXIT_OK)
		rc = local_attach(ctl, local, NULL, &c, NULL);
	if (rc)
		return EXIT_USAGE;
	im->map = local->map;
	rc = image_copies_compare(im, c);
	client_detach(c);
	return rc;
}

/* Of the errors, those that the look before has not seen go. */
static void errors_confirm(struct image *im, const struct image *before)
{
	size_t kept = 0;

	for (size_t i = 0; i < im->findings.count; i++) {
		struct finding *f = &im->findings.at[i];
		bool seen = f->is_note;

		for (size_t k = 0; !seen && k < before->findings.count; k++) {
			const struct finding *b = &before->findings.at[k];

			seen = !b->is_note && b->ino == f->ino &&
			       strcmp(b->check, f->check) == 0;
		}
		if (seen) {
			im->findings.at[kept++] = *f;
			continue;
		}
		free(f->path);
		free(f->text);
		im->errors--;
	}
	im->findings.count = kept;
}

int cmd_fsck(struct ctl *ctl, int argc, char **argv)
{
	struct local local;
	struct image im, before;
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return EXIT_USAGE;
	for (int i = 1;; i++) {
		rc = look(ctl, &local, &im);
		if (i > 1) {
			errors_confirm(&im, &before);
			image_release(&before);
		}
		if (rc != EXIT_OK || im.findings.count == 0 || i == LOOKS)
			break;
		before = im;
		progress_show(ctl, "something does not fit: looking again", -1);
		poll(NULL, 0, WAIT_MS);
	}
	progress_end(ctl);
	if (rc == EXIT_OK && ctl_has(ctl, OPT_COMPARE))
		rc = compare(ctl, &local, &im);
	if (rc == EXIT_OK)
		rc = print(ctl, &im);
	if (rc == EXIT_OK && im.errors)
		rc = EXIT_FAILED;
	image_release(&im);
	local_close(&local);
	return rc;
}

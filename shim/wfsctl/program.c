/*
 * What the shim cannot be loaded into, told by the ELF file that would run: a static
 * program has no dynamic loader that could preload anything; Go programs make their
 * system calls themselves; with setuid, setgid or file capabilities the loader ignores
 * LD_PRELOAD. All of them can use the mount.
 *
 * A script stands for its interpreter, and `#!/usr/bin/env NAME` for NAME.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "shim/wfsctl/ctl.h"
#include "shim/wfsctl/mount.h"
#include "shim/wfsctl/program.h"

#define SCRIPT_DEPTH      8
#define SCRIPT_LINE_MAX   256u
#define SECTION_NAMES_MAX (1u << 20)
#define PARTS_MAX         64u

/* An executable file, here or in WFS. */
struct image {
	const char *path;
	int fd; /* -1: in WFS */
	struct client *client;
	struct client_file file;
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	bool has_capabilities;
};

struct search {
	struct client *client;
	const char *mount;
};

bool path_within(const char *path, const char *mount)
{
	size_t size = strlen(mount);

	return strncmp(path, mount, size) == 0 && (path[size] == '/' || !path[size]);
}

/* --- reading -------------------------------------------------------------------------
 */

static bool image_read(struct image *im, void *to, size_t size, uint64_t offset)
{
	ssize_t n;

	if (im->fd < 0)
		n = client_read(im->client, &im->file, to, size, offset);
	else
		n = pread(im->fd, to, size, (off_t)offset);
	return n == (ssize_t)size;
}

static bool image_open_local(struct image *im)
{
	struct stat st;

	im->fd = open(im->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (im->fd < 0)
		return false;
	if (fstat(im->fd, &st)) {
		close(im->fd);
		return false;
	}
	im->mode = st.st_mode;
	im->uid = st.st_uid;
	im->gid = st.st_gid;
	im->has_capabilities = fgetxattr(im->fd, "security.capability", NULL, 0) > 0;
	return true;
}

/* A symlink in WFS may lead out of it; that is somebody else's path then. */
static bool image_open_wfs(struct image *im, const char *inside, char *outside)
{
	struct where w = {
		.start = client_root(im->client), .path = inside, .outside = outside};
	struct client_attr attr;
	int rc;

	while (*w.path == '/')
		w.path++;
	rc = client_stat(im->client, &w, true, &attr);
	if (!rc && S_ISREG(attr.mode))
		rc = client_open(im->client, &w, O_RDONLY, 0, &im->file, NULL);
	if (rc == -EXDEV && outside[0]) {
		im->path = outside;
		return image_open_local(im);
	}
	if (rc || !S_ISREG(attr.mode))
		return false;
	im->mode = attr.mode;
	im->uid = attr.uid;
	im->gid = attr.gid;
	im->has_capabilities =
		client_getxattr(im->client, &w, true, "security.capability", NULL, 0) > 0;
	return true;
}

static void image_close(struct image *im)
{
	if (im->fd >= 0)
		close(im->fd);
	else
		client_close(im->client, &im->file);
}

/* --- ELF -----------------------------------------------------------------------------
 */

/* Whether a section of this name exists. */
static bool section_find(struct image *im, const Elf64_Ehdr *head, const char *name)
{
	Elf64_Shdr names;
	bool found = false;
	char *text;

	if (head->e_shstrndx >= head->e_shnum ||
		!image_read(im, &names, sizeof(names),
			head->e_shoff + (uint64_t)head->e_shstrndx * sizeof(names)) ||
		names.sh_size > SECTION_NAMES_MAX)
		return false;
	text = malloc(names.sh_size + 1);
	if (text && image_read(im, text, names.sh_size, names.sh_offset))
		found = memmem(text, names.sh_size, name, strlen(name) + 1) != NULL;
	free(text);
	return found;
}

static bool interpreter_find(struct image *im, const Elf64_Ehdr *head)
{
	Elf64_Phdr parts[PARTS_MAX];
	unsigned count = head->e_phnum < PARTS_MAX ? head->e_phnum : PARTS_MAX;

	if (!image_read(im, parts, count * sizeof(parts[0]), head->e_phoff))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (parts[i].p_type == PT_INTERP)
			return true;
	return false;
}

/* --- the verdict ---------------------------------------------------------------------
 */

static int refuse(const struct search *s, const char *path, const char *why)
{
	struct mount_entry m;

	if (mount_find(s->mount, &m) && m.state == MOUNT_UP)
		return ctl_fail("%s: %s. WFS is mounted on %s: run it as it is, without "
				"wfsctl run",
			path, why, s->mount);
	return ctl_fail(
		"%s: %s. The mount has no such limits: wfsctl mount%s%s, and run it "
		"without wfsctl run",
		path, why, strcmp(s->mount, MOUNT_DEFAULT) ? " " : "",
		strcmp(s->mount, MOUNT_DEFAULT) ? s->mount : "");
}

static bool changes_rights(const struct image *im)
{
	return ((im->mode & S_ISUID) && im->uid != geteuid()) ||
	       ((im->mode & S_ISGID) && im->gid != getegid()) ||
	       (geteuid() != 0 && im->has_capabilities);
}

static int elf_check(const struct search *s, struct image *im, const Elf64_Ehdr *head)
{
	if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_machine != EM_X86_64)
		return refuse(s, im->path,
			"not an x86-64 program: the shim cannot be loaded into it");
	if (section_find(im, head, ".go.buildinfo") ||
		section_find(im, head, ".note.go.buildid"))
		return refuse(
			s, im->path, "a Go program: its system calls pass by the shim");
	if (!interpreter_find(im, head))
		return refuse(s, im->path,
			"a static program: nothing can be preloaded into it");
	return EXIT_OK;
}

/* The file that execvp would run, as execvp searches. */
static bool path_search(const char *name, char *out, size_t size)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/')) {
		snprintf(out, size, "%s", name);
		return true;
	}
	if (!path)
		path = "/bin:/usr/bin";
	for (; *path; path += *path == ':') {
		size_t length = strcspn(path, ":");
		struct stat st;

		snprintf(out, size, "%.*s%s%s", (int)length, path, length ? "/" : "",
			name);
		path += length;
		if (stat(out, &st) == 0 && S_ISREG(st.st_mode) && access(out, X_OK) == 0)
			return true;
	}
	return false;
}

static const char *word_next(const char *text, char *out, size_t room)
{
	size_t size;

	text += strspn(text, " \t");
	size = strcspn(text, " \t\r\n");
	snprintf(out, room, "%.*s", (int)size, text);
	return text + size;
}

/* What a "#!" file is run by, into out; false if it is none. */
static bool script_interpreter(struct image *im, char *out, size_t room)
{
	char line[SCRIPT_LINE_MAX] = "", word[SCRIPT_LINE_MAX];
	const char *rest, *base;
	ssize_t n =
		im->fd < 0 ? client_read(im->client, &im->file, line, sizeof(line) - 1, 0)
			   : pread(im->fd, line, sizeof(line) - 1, 0);

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	rest = word_next(line + 2, out, room);
	base = strrchr(out, '/');
	if (base && strcmp(base, "/env") == 0) {
		rest = word_next(rest, word, sizeof(word));
		while (word[0] && (word[0] == '-' || strchr(word, '=')))
			rest = word_next(rest, word, sizeof(word));
		if (word[0])
			return path_search(word, out, room);
	}
	return out[0] != 0;
}

/* Exit code; *next: an interpreter to look at instead, or "". */
static int file_check(const struct search *s, const char *path, char *next, size_t room)
{
	char outside[WFS_PATH_MAX + 1] = "";
	struct image im = {.path = path, .fd = -1, .client = s->client};
	Elf64_Ehdr head;
	int rc = EXIT_OK;

	next[0] = 0;
	/* Execute-only, or not there: exec will tell. */
	if (!(path_within(path, s->mount)
			    ? image_open_wfs(&im, path + strlen(s->mount), outside)
			    : image_open_local(&im)))
		return EXIT_OK;
	if (S_ISREG(im.mode) && changes_rights(&im))
		rc = refuse(s, path,
			"it changes its rights: the loader preloads nothing into such");
	else if (S_ISREG(im.mode) && image_read(&im, &head, sizeof(head), 0) &&
		 memcmp(head.e_ident, ELFMAG, SELFMAG) == 0)
		rc = elf_check(s, &im, &head);
	else if (S_ISREG(im.mode))
		script_interpreter(&im, next, room);
	image_close(&im);
	return rc;
}

int program_check(struct client *c, const char *mount, const char *name)
{
	struct search s = {.client = c, .mount = mount};
	char path[PATH_MAX], next[PATH_MAX];

	if (!path_search(name, path, sizeof(path)))
		return EXIT_OK;
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		int rc = file_check(&s, path, next, sizeof(next));

		if (rc != EXIT_OK || !next[0])
			return rc;
		strcpy(path, next);
	}
	return EXIT_OK;
}

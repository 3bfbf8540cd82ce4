/*
 * run: exec a program with the shim preloaded.
 *
 * The user's own preloads stay, in order, before ours. What cannot work is refused
 * beforehand, by looking at the ELF file that would run (for a script, its interpreter):
 * a static program has no dynamic loader that could preload anything; Go programs make
 * their system calls themselves; with setuid or file capabilities the loader ignores
 * LD_PRELOAD.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"

#define PRELOAD      "libwfs_preload.so"
#define SCRIPT_DEPTH 4

/* The file that execvp would run, as execvp searches. */
static bool path_search(const char *name, char *out, size_t size)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/')) {
		snprintf(out, size, "%s", name);
		return access(out, F_OK) == 0;
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

static bool setuid_for_us(const char *path, const struct stat *st)
{
	return ((st->st_mode & S_ISUID) && st->st_uid != geteuid()) ||
	       ((st->st_mode & S_ISGID) && st->st_gid != getegid()) ||
	       (geteuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0);
}

/* Whether a section of this name exists. */
static bool section_find(const uint8_t *elf, size_t size, const char *name)
{
	const Elf64_Ehdr *head = (const void *)elf;
	size_t name_size = strlen(name) + 1;
	const Elf64_Shdr *names;

	if (head->e_shoff % 8 || head->e_shoff > size ||
		(size - head->e_shoff) / sizeof(Elf64_Shdr) < head->e_shnum ||
		head->e_shstrndx >= head->e_shnum)
		return false;
	names = (const Elf64_Shdr *)(const void *)(elf + head->e_shoff) +
		head->e_shstrndx;
	if (names->sh_offset > size || names->sh_size > size - names->sh_offset)
		return false;
	return memmem(elf + names->sh_offset, names->sh_size, name, name_size) != NULL;
}

static bool interpreter_find(const uint8_t *elf, size_t size)
{
	const Elf64_Ehdr *head = (const void *)elf;
	const Elf64_Phdr *part;

	if (head->e_phoff % 8 || head->e_phoff > size ||
		(size - head->e_phoff) / sizeof(*part) < head->e_phnum)
		return false;
	part = (const void *)(elf + head->e_phoff);
	for (unsigned i = 0; i < head->e_phnum; i++)
		if (part[i].p_type == PT_INTERP)
			return true;
	return false;
}

static int elf_check(const char *path, const uint8_t *elf, size_t size)
{
	const Elf64_Ehdr *head = (const void *)elf;

	if (size < sizeof(*head) || elf[EI_CLASS] != ELFCLASS64 ||
		head->e_machine != EM_X86_64)
		return ctl_fail(
			"%s: not an x86-64 program: the shim cannot be loaded into it",
			path);
	if (section_find(elf, size, ".go.buildinfo") ||
		section_find(elf, size, ".note.go.buildid"))
		return ctl_fail(
			"%s: a Go program, whose system calls pass by the shim: use "
			"another program, or copy its files out and in",
			path);
	if (!interpreter_find(elf, size))
		return ctl_fail(
			"%s: a static program cannot see WFS: use one that is linked "
			"dynamically",
			path);
	return EXIT_OK;
}

/* The interpreter of a "#!" file; false if it is none. */
static bool script_interpreter(const uint8_t *text, size_t size, char *out, size_t room)
{
	size_t at = 2, end;

	if (size < 3 || text[0] != '#' || text[1] != '!')
		return false;
	while (at < size && (text[at] == ' ' || text[at] == '\t'))
		at++;
	end = at;
	while (end < size && !strchr(" \t\r\n", text[end]))
		end++;
	snprintf(out, room, "%.*s", (int)(end - at), (const char *)text + at);
	return end > at;
}

/* Exit code; *next_out: an interpreter to look at instead, or "". */
static int file_check(const char *path, char *next_out, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes;
	int rc = EXIT_OK;

	next_out[0] = 0;
	if (fd < 0)
		return EXIT_OK; /* execute-only, or gone: exec will tell */
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return EXIT_OK;
	}
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (bytes == MAP_FAILED)
		return EXIT_OK;
	if (setuid_for_us(path, &st))
		rc = ctl_fail(
			"%s: the loader preloads nothing into a program that changes "
			"its rights: run it as its owner",
			path);
	else if (st.st_size > 4 && memcmp(bytes, ELFMAG, SELFMAG) == 0)
		rc = elf_check(path, bytes, (size_t)st.st_size);
	else
		script_interpreter(bytes, (size_t)st.st_size, next_out, room);
	munmap(bytes, (size_t)st.st_size);
	return rc;
}

static int program_check(const char *name)
{
	char path[PATH_MAX], next[PATH_MAX];

	if (!path_search(name, path, sizeof(path)))
		return EXIT_OK; /* exec will tell */
	for (int depth = 0; depth < SCRIPT_DEPTH; depth++) {
		int rc = file_check(path, next, sizeof(next));

		if (rc != EXIT_OK || !next[0])
			return rc;
		strcpy(path, next);
	}
	return EXIT_OK;
}

static int preload_set(const struct ctl *ctl)
{
	const char *own = getenv("LD_PRELOAD");
	char lib[PATH_MAX + 64], resolved[PATH_MAX];
	char *value;

	snprintf(lib, sizeof(lib), "%s/../lib/%s", ctl->bin, PRELOAD);
	if (!realpath(lib, resolved))
		return ctl_usage("%s: %s: install it beside wfsctl, in ../lib", lib,
			strerror(errno));
	if (strpbrk(resolved, " :"))
		return ctl_usage(
			"%s: the loader takes no path with a space or colon: install "
			"WFS elsewhere",
			resolved);
	if (own && strstr(own, PRELOAD))
		return EXIT_OK;
	if (asprintf(&value, "%s%s%s", own && *own ? own : "", own && *own ? ":" : "",
		    resolved) < 0 ||
		setenv("LD_PRELOAD", value, 1))
		return ctl_fail("out of memory");
	free(value);
	return EXIT_OK;
}

/* Fill in WFS_*, and see that somebody answers. */
static int environment_set(
	const struct ctl *ctl, const struct local *local, const char *mount)
{
	const char *fs = ctl->values[OPT_FS];
	const struct map_node *node;
	struct client *c;
	int rc = local_attach(ctl, local, fs, &c, &node);

	if (rc)
		return rc;
	client_detach(c);
	if (setenv("WFS_SOCKET", node->socket, 1) || setenv("WFS_MOUNT", mount, 1) ||
		setenv("WFS_FS", fs ? fs : local->map->filesystems[0].name, 1))
		return ctl_fail("out of memory");
	return preload_set(ctl);
}

static bool within(const char *path, const char *mount)
{
	size_t size = strlen(mount);

	return strncmp(path, mount, size) == 0 && (path[size] == '/' || !path[size]);
}

int cmd_run(struct ctl *ctl, int argc, char **argv)
{
	const char *mount = ctl->values[OPT_MOUNT] ? ctl->values[OPT_MOUNT] : "/wfs";
	struct local local;
	char **args;
	int rc;

	if (mount[0] != '/' || !mount[1] || mount[strlen(mount) - 1] == '/')
		return ctl_usage(
			"--mount %s: give an absolute path, without a slash at its "
			"end",
			mount);
	rc = local_open(ctl, &local);
	if (rc)
		return rc;
	rc = environment_set(ctl, &local, mount);
	local_close(&local);
	if (rc == EXIT_OK)
		rc = program_check(argv[0]);
	if (rc != EXIT_OK)
		return rc;
	/* A program that lies in WFS is run by one that sees it. */
	args = calloc((size_t)argc + 3, sizeof(*args));
	if (!args)
		return ctl_fail("out of memory");
	args[0] = (char *)"/usr/bin/env";
	args[1] = (char *)"--";
	memcpy(args + 2, argv, (size_t)argc * sizeof(*args));
	if (within(argv[0], mount))
		execv(args[0], args);
	else
		execvp(argv[0], argv);
	rc = ctl_fail("%s: %s", argv[0], strerror(errno));
	free(args);
	return rc;
}

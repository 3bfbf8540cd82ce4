/*
 * run: exec a program with the shim preloaded.
 *
 * The user's own preloads stay, in order, before ours. What cannot work is refused
 * beforehand (program.c).
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/mount.h"
#include "shim/wfsctl/program.h"

#define PRELOAD "libwfs_preload.so"

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

/* Fill in WFS_*, see that somebody answers, and that the program can be loaded into. */
static int environment_set(const struct ctl *ctl, const struct local *local,
	const char *mount, const char *program)
{
	const char *fs = ctl->values[OPT_FS];
	const struct map_node *node;
	struct client *c;
	int rc = local_attach(ctl, local, fs, &c, &node);

	if (rc)
		return rc;
	rc = program_check(c, mount, program);
	client_detach(c);
	if (rc)
		return rc;
	if (setenv("WFS_SOCKET", node->socket, 1) || setenv("WFS_MOUNT", mount, 1) ||
		setenv("WFS_FS", fs ? fs : local->map->filesystems[0].name, 1))
		return ctl_fail("out of memory");
	return preload_set(ctl);
}

int cmd_run(struct ctl *ctl, int argc, char **argv)
{
	const char *mount = ctl->values[OPT_MOUNT] ? ctl->values[OPT_MOUNT] : MOUNT_DEFAULT;
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
	rc = environment_set(ctl, &local, mount, argv[0]);
	local_close(&local);
	if (rc != EXIT_OK)
		return rc;
	/* A program that lies in WFS is run by one that sees it. */
	args = calloc((size_t)argc + 3, sizeof(*args));
	if (!args)
		return ctl_fail("out of memory");
	args[0] = (char *)"/usr/bin/env";
	args[1] = (char *)"--";
	memcpy(args + 2, argv, (size_t)argc * sizeof(*args));
	if (path_within(argv[0], mount))
		execv(args[0], args);
	else
		execvp(argv[0], argv);
	rc = ctl_fail("%s: %s", argv[0], strerror(errno));
	free(args);
	return rc;
}

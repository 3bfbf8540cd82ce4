/*
 * Directories of a cluster: made with parents, removed by name. Only what wfsctl and wfsd
 * put there goes, so that a wrong --cluster cannot empty somebody's home.
 */
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/tree.h"

int tree_make(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	size_t size = strlen(path);

	if (size >= sizeof(part)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (size_t at = 1; at <= size; at++) {
		if (path[at] != '/' && path[at] != 0)
			continue;
		memcpy(part, path, at);
		part[at] = 0;
		if (mkdir(part, mode) && errno != EEXIST)
			return -1;
	}
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

int tree_remove(const char *path)
{
	if (nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0)
		return 0;
	return errno == ENOENT ? 0 : -1;
}

static int lease_remove(const struct ctl *ctl, unsigned node)
{
	char path[PATH_MAX + 32];

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/map.json.lease.%u%s", ctl->dir, node,
			i ? ".new" : "");
		if (unlink(path) && errno != ENOENT)
			return -1;
	}
	return 0;
}

int cluster_remove(const struct ctl *ctl, unsigned node_count)
{
	static const char *const files[] = {
		"map.json", "map.json.lock", "map.json.new", "map.json.lease.lock", "map.etcd"};
	char path[PATH_MAX + 32];
	int rc = 0;

	for (unsigned n = 0; n < node_count; n++)
		if (tree_remove(node_path(ctl, n, "")) || lease_remove(ctl, n))
			rc = -1;
	for (unsigned i = 0; rc == 0 && i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", ctl->dir, files[i]);
		if (unlink(path) && errno != ENOENT)
			rc = -1;
	}
	return rc;
}

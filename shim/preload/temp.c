/* mkstemp and its family for templates in WFS: names from getrandom, tried in turn. */
#include <stdlib.h>
#include <string.h>

#include "shim/preload/calls.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define TRIES_MAX 1000

enum temp_kind { TEMP_FILE, TEMP_DIR, TEMP_NAME };

static int temp_try(char *template, enum temp_kind kind, int flags)
{
	struct stat st;

	switch (kind) {
	case TEMP_FILE:
		return wfs_openat_mode(AT_FDCWD, template,
			(flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
	case TEMP_DIR:
		return wfs_mkdirat(AT_FDCWD, template, 0700);
	default:
		if (!wfs_fstatat(AT_FDCWD, template, &st, AT_SYMLINK_NOFOLLOW))
			errno = EEXIST;
		return errno == ENOENT ? 0 : -1;
	}
}

static int temp_make(char *template, int suffix, enum temp_kind kind, int flags)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	size_t size = strlen(template);
	int saved = errno;
	char *x;

	if (suffix < 0 || size < 6 + (size_t)suffix)
		return (int)answer(-EINVAL);
	x = template + size - (size_t)suffix - 6;
	if (strncmp(x, "XXXXXX", 6))
		return (int)answer(-EINVAL);
	for (int i = 0; i < TRIES_MAX; i++) {
		uint64_t random = 0;
		int rc;

		(void)raw(SYS_getrandom, &random, sizeof(random), 0);
		for (int k = 0; k < 6; k++, random /= 62)
			x[k] = letters[random % 62];
		rc = temp_try(template, kind, flags);
		if (rc >= 0 || errno != EEXIST) {
			if (rc >= 0)
				errno = saved;
			return rc;
		}
	}
	return (int)answer(-EEXIST);
}

static int WFS_USED wfs_mkostemps(char *template, int suffix, int flags)
{
	if (!path_is_wfs(AT_FDCWD, template))
		return REAL(mkostemps)(template, suffix, flags);
	return temp_make(template, suffix, TEMP_FILE, flags);
}
EXPORT(mkostemps, wfs_mkostemps);
EXPORT(mkostemps64, wfs_mkostemps);

static int WFS_USED wfs_mkstemps(char *template, int suffix)
{
	return wfs_mkostemps(template, suffix, 0);
}
EXPORT(mkstemps, wfs_mkstemps);
EXPORT(mkstemps64, wfs_mkstemps);

static int WFS_USED wfs_mkostemp(char *template, int flags)
{
	return wfs_mkostemps(template, 0, flags);
}
EXPORT(mkostemp, wfs_mkostemp);
EXPORT(mkostemp64, wfs_mkostemp);

static int WFS_USED wfs_mkstemp(char *template)
{
	return wfs_mkostemps(template, 0, 0);
}
EXPORT(mkstemp, wfs_mkstemp);
EXPORT(mkstemp64, wfs_mkstemp);

static char *WFS_USED wfs_mkdtemp(char *template)
{
	if (!path_is_wfs(AT_FDCWD, template))
		return REAL(mkdtemp)(template);
	return temp_make(template, 0, TEMP_DIR, 0) < 0 ? NULL : template;
}
EXPORT(mkdtemp, wfs_mkdtemp);

static char *WFS_USED wfs_mktemp(char *template)
{
	if (!path_is_wfs(AT_FDCWD, template))
		return ((char *(*)(char *))real_get(REAL_mktemp))(template);
	if (temp_make(template, 0, TEMP_NAME, 0) < 0)
		template[0] = 0;
	return template;
}
EXPORT(mktemp, wfs_mktemp);

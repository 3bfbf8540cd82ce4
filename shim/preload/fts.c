/*
 * fts for trees in WFS. The working directory is never changed (as FTS_NOCHDIR): fts_path
 * and fts_accpath are the same, each entry's own. Ours are told from libc's by a bit of
 * fts_options that libc never sets. The 64-bit names have the same layout.
 */
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fs.h"
#include "shim/preload/real.h"

#define OPTION_OURS 0x40000000

typedef int fts_order(const FTSENT **, const FTSENT **);

static bool is_ours(const FTS *fts)
{
	return fts->fts_options & OPTION_OURS;
}

/* What an entry is: fts_info, with *fts_statp. */
static void entry_look(FTS *fts, FTSENT *e, bool follow)
{
	struct stat *st = e->fts_statp;
	int options = fts->fts_options;

	e->fts_errno = 0;
	if (wfs_fstatat(AT_FDCWD, e->fts_path, st, follow ? 0 : AT_SYMLINK_NOFOLLOW)) {
		int saved = errno;

		if (follow && !wfs_fstatat(AT_FDCWD, e->fts_path, st, AT_SYMLINK_NOFOLLOW)) {
			e->fts_info = FTS_SLNONE;
			return;
		}
		memset(st, 0, sizeof(*st));
		e->fts_errno = saved;
		e->fts_info = FTS_NS;
		return;
	}
	e->fts_dev = st->st_dev;
	e->fts_ino = st->st_ino;
	e->fts_nlink = st->st_nlink;
	if (S_ISDIR(st->st_mode)) {
		e->fts_info = FTS_D;
		if (!strcmp(e->fts_name, ".") || !strcmp(e->fts_name, ".."))
			e->fts_info = e->fts_level > 0 ? FTS_DOT : FTS_D;
		for (FTSENT *up = e->fts_parent; up && up->fts_level >= 0; up = up->fts_parent)
			if (up->fts_ino == e->fts_ino && up->fts_dev == e->fts_dev &&
				e->fts_info == FTS_D) {
				e->fts_cycle = up;
				e->fts_info = FTS_DC;
			}
	} else if (options & FTS_NOSTAT) {
		e->fts_info = FTS_NSOK;
	} else if (S_ISLNK(st->st_mode)) {
		e->fts_info = FTS_SL;
	} else {
		e->fts_info = S_ISREG(st->st_mode) ? FTS_F : FTS_DEFAULT;
	}
}

/* Name, path and stat lie behind the entry in the one allocation. */
static FTSENT *entry_new(FTS *fts, FTSENT *parent, const char *name)
{
	size_t size = strlen(name), above = 0, room;
	FTSENT *e;

	if (parent->fts_level >= 0)
		above = parent->fts_pathlen;
	room = ((sizeof(*e) + size + 16) & ~15ul) + sizeof(struct stat);
	e = calloc(1, room + above + size + 2);
	if (!e)
		return NULL;
	e->fts_statp = (struct stat *)(void *)((char *)e + room - sizeof(struct stat));
	e->fts_path = (char *)e + room;
	if (above) {
		memcpy(e->fts_path, parent->fts_path, above);
		if (e->fts_path[above - 1] != '/')
			e->fts_path[above++] = '/';
	}
	memcpy(e->fts_path + above, name, size + 1);
	memcpy(e->fts_name, name, size + 1);
	e->fts_accpath = e->fts_path;
	e->fts_pathlen = (unsigned short)(above + size);
	e->fts_namelen = (unsigned short)size;
	e->fts_parent = parent;
	e->fts_level = (short)(parent->fts_level + 1);
	e->fts_instr = FTS_NOINSTR;
	entry_look(fts, e, fts->fts_options & FTS_LOGICAL);
	return e;
}

static void list_free(FTSENT *e)
{
	while (e) {
		FTSENT *next = e->fts_link;

		free(e);
		e = next;
	}
}

static FTSENT *list_sort(FTS *fts, FTSENT *head, size_t count)
{
	FTSENT **array;
	size_t n = 0;

	if (!fts->fts_compar || count < 2)
		return head;
	array = malloc(count * sizeof(*array));
	if (!array)
		return head;
	for (FTSENT *e = head; e; e = e->fts_link)
		array[n++] = e;
	qsort(array, n, sizeof(*array), fts->fts_compar);
	for (size_t i = 0; i < n; i++)
		array[i]->fts_link = i + 1 < n ? array[i + 1] : NULL;
	head = array[0];
	free(array);
	return head;
}

/* The entries of a directory; -1 and errno when it cannot be read. */
static int children_read(FTS *fts, FTSENT *of, FTSENT **list_out)
{
	FTSENT *head = NULL, **tail = &head;
	struct dirent *entry;
	size_t count = 0;
	DIR *dir = wfs_opendir(of->fts_path);

	if (!dir)
		return -1;
	while ((entry = wfs_readdir(dir))) {
		bool dot = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");

		if (dot && !(fts->fts_options & FTS_SEEDOT))
			continue;
		*tail = entry_new(fts, of, entry->d_name);
		if (!*tail) {
			list_free(head);
			(void)wfs_closedir(dir);
			return (int)answer(-ENOMEM);
		}
		tail = &(*tail)->fts_link;
		count++;
	}
	(void)wfs_closedir(dir);
	*list_out = list_sort(fts, head, count);
	return 0;
}

static FTS *WFS_USED wfs_fts_open(char *const *paths, int options, fts_order *order)
{
	FTSENT *above, **tail, *root = NULL;
	bool ours = false;
	size_t count = 0;
	FTS *fts;

	for (char *const *p = paths; *p; p++)
		ours |= path_is_wfs(AT_FDCWD, *p);
	if (!ours)
		return REAL(fts_open)(paths, options, order);
	fts = calloc(1, sizeof(*fts));
	above = calloc(1, sizeof(*above));
	if (!fts || !above)
		goto fail;
	fts->fts_options = options | FTS_NOCHDIR | OPTION_OURS;
	fts->fts_compar = (int (*)(const void *, const void *))order;
	above->fts_level = FTS_ROOTPARENTLEVEL;
	above->fts_info = FTS_INIT;
	tail = &root;
	for (; *paths; paths++, count++) {
		*tail = entry_new(fts, above, *paths);
		if (!*tail)
			goto fail;
		if ((options & FTS_COMFOLLOW) && (*tail)->fts_info == FTS_SL)
			entry_look(fts, *tail, true);
		tail = &(*tail)->fts_link;
	}
	fts->fts_child = list_sort(fts, root, count);
	fts->fts_cur = above;
	return fts;
fail:
	list_free(root);
	free(above);
	free(fts);
	errno = ENOMEM;
	return NULL;
}
EXPORT(fts_open, wfs_fts_open);
EXPORT(fts64_open, wfs_fts_open);

/* Down into a directory. NULL: it is the answer itself, with its info changed. */
static FTSENT *walk_down(FTS *fts, FTSENT *e, unsigned instruction)
{
	FTSENT *list = fts->fts_child;

	fts->fts_child = NULL;
	if (instruction == FTS_SKIP || ((fts->fts_options & FTS_XDEV) && fts->fts_dev &&
					       e->fts_dev != fts->fts_dev)) {
		list_free(list);
		e->fts_info = FTS_DP;
		return NULL;
	}
	if (!list && children_read(fts, e, &list)) {
		e->fts_errno = errno;
		e->fts_info = FTS_DNR;
		return NULL;
	}
	if (!list)
		e->fts_info = FTS_DP;
	return list;
}

static FTSENT *walk_to(FTS *fts, FTSENT *e)
{
	if (e->fts_level == 0)
		fts->fts_dev = e->fts_dev;
	fts->fts_cur = e;
	return e;
}

/* On to the sibling, or up. */
static FTSENT *walk_on(FTS *fts, FTSENT *e)
{
	for (;;) {
		FTSENT *next = e->fts_link, *up = e->fts_parent;

		free(e);
		if (!next) {
			fts->fts_cur = up;
			if (up->fts_level == FTS_ROOTPARENTLEVEL) {
				up->fts_info = FTS_DP;
				errno = 0;
				return NULL;
			}
			up->fts_info = up->fts_errno ? FTS_ERR : FTS_DP;
			return up;
		}
		e = next;
		if (e->fts_instr == FTS_SKIP)
			continue;
		if (e->fts_instr == FTS_FOLLOW) {
			entry_look(fts, e, true);
			e->fts_instr = FTS_NOINSTR;
		}
		return walk_to(fts, e);
	}
}

static FTSENT *WFS_USED wfs_fts_read(FTS *fts)
{
	FTSENT *e = fts->fts_cur, *list;
	unsigned instruction;

	if (!is_ours(fts))
		return REAL(fts_read)(fts);
	if (e->fts_level == FTS_ROOTPARENTLEVEL) {
		list = fts->fts_child;
		fts->fts_child = NULL;
		errno = 0;
		return list && e->fts_info == FTS_INIT ? walk_to(fts, list) : NULL;
	}
	instruction = e->fts_instr;
	e->fts_instr = FTS_NOINSTR;
	if (instruction == FTS_AGAIN) {
		entry_look(fts, e, fts->fts_options & FTS_LOGICAL);
		return e;
	}
	if (instruction == FTS_FOLLOW &&
		(e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE)) {
		entry_look(fts, e, true);
		return e;
	}
	if (e->fts_info == FTS_D) {
		list = walk_down(fts, e, instruction);
		return list ? walk_to(fts, list) : e;
	}
	return walk_on(fts, e);
}
EXPORT(fts_read, wfs_fts_read);
EXPORT(fts64_read, wfs_fts_read);

static FTSENT *WFS_USED wfs_fts_children(FTS *fts, int option)
{
	FTSENT *e = fts->fts_cur;

	if (!is_ours(fts))
		return REAL(fts_children)(fts, option);
	errno = 0;
	if (e->fts_level == FTS_ROOTPARENTLEVEL || e->fts_info != FTS_D || fts->fts_child)
		return e->fts_info == FTS_D || e->fts_info == FTS_INIT ? fts->fts_child : NULL;
	if (children_read(fts, e, &fts->fts_child))
		return NULL;
	return fts->fts_child;
}
EXPORT(fts_children, wfs_fts_children);
EXPORT(fts64_children, wfs_fts_children);

static int WFS_USED wfs_fts_set(FTS *fts, FTSENT *e, int instruction)
{
	if (!is_ours(fts))
		return REAL(fts_set)(fts, e, instruction);
	if (instruction && instruction != FTS_AGAIN && instruction != FTS_FOLLOW &&
		instruction != FTS_NOINSTR && instruction != FTS_SKIP)
		return (int)answer(-EINVAL);
	e->fts_instr = (unsigned short)instruction;
	return 0;
}
EXPORT(fts_set, wfs_fts_set);
EXPORT(fts64_set, wfs_fts_set);

static int WFS_USED wfs_fts_close(FTS *fts)
{
	FTSENT *e = fts->fts_cur;

	if (!is_ours(fts))
		return REAL(fts_close)(fts);
	list_free(fts->fts_child);
	while (e) {
		FTSENT *up = e->fts_parent;

		list_free(e);
		e = up;
	}
	free(fts);
	return 0;
}
EXPORT(fts_close, wfs_fts_close);
EXPORT(fts64_close, wfs_fts_close);

/*
 * fs list, fs create, df.
 *
 * A filesystem is an entry of the map that names a root directory. Creating one makes
 * the root first and names it then: a crash in between leaves an unnamed empty directory,
 * never a name without root.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "net/wire.h"
#include "shim/wfsctl/local.h"
#include "shim/wfsctl/table.h"

#define VISIBLE_TIMEOUT_MS 10000

enum { FS_ID, FS_NAME, FS_ROOT };
static const struct column fs_columns[] = {
	[FS_ID] = {"id", "ID", COLUMN_COUNT, false},
	[FS_NAME] = {"name", "NAME", COLUMN_TEXT, false},
	[FS_ROOT] = {"root", "ROOT", COLUMN_TEXT, false},
};

int cmd_fs_list(struct ctl *ctl, int argc, char **argv)
{
	struct local local;
	struct table *t;
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	t = table_new(fs_columns, sizeof(fs_columns) / sizeof(fs_columns[0]));
	for (uint32_t i = 0; i < local.map->filesystem_count; i++) {
		const struct map_filesystem *fs = &local.map->filesystems[i];

		table_row(t);
		table_count(t, FS_ID, fs->fsid);
		table_text(t, FS_NAME, "%s", fs->name);
		table_text(t, FS_ROOT, "%" PRIx64, fs->root);
	}
	rc = table_print(ctl, t);
	table_free(t);
	local_close(&local);
	return rc;
}

static int name_check(const struct map *map, const char *name)
{
	size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789._-");

	if (!size || size > MAP_FSNAME_MAX || name[size] || name[0] == '.' ||
		name[0] == '-')
		return ctl_usage(
			"%s: give a name of at most %u letters, digits, '.', '_' "
			"and '-'",
			name, MAP_FSNAME_MAX);
	for (uint32_t i = 0; i < map->filesystem_count; i++)
		if (strcmp(map->filesystems[i].name, name) == 0)
			return ctl_fail(
				"%s: there is one already: choose another name", name);
	if (map->filesystem_count >= MAP_FILESYSTEMS_MAX)
		return ctl_fail(
			"%u filesystems are the most there can be", MAP_FILESYSTEMS_MAX);
	return EXIT_OK;
}

static int root_make(
	const struct ctl *ctl, const struct local *local, uint32_t fsid, ino_id *root_out)
{
	struct wire_make_root body = {.fsid = le32_put(fsid), .mode = le32_put(0755)};
	struct wire_ino reply;
	struct client_raw raw = {
		.op = OP_MAKE_ROOT,
		/* Roots spread over the buckets, and so over the shards. */
		.target = (uint16_t)(fsid * 37u % local->map->bucket_count),
		.body = &body,
		.body_size = sizeof(body),
		.reply = &reply,
		.reply_size = sizeof(reply),
	};
	struct client *c;
	int rc = local_attach(ctl, local, NULL, &c, NULL);

	if (rc)
		return rc;
	rc = client_raw(c, &raw);
	client_detach(c);
	if (rc == -EPERM || rc == -EACCES)
		return ctl_fail("only root makes filesystems: run wfsctl as root");
	if (rc || raw.reply_size != sizeof(reply))
		return ctl_fail("cannot make its root: %s: see wfsctl status",
			strerror(rc ? -rc : EPROTO));
	*root_out = le64_get(reply.ino);
	return EXIT_OK;
}

/* Wait until every node that runs has read the new map. */
static int visible_wait(
	const struct ctl *ctl, const struct local *local, const char *name)
{
	uint64_t end_ms = now_ms() + VISIBLE_TIMEOUT_MS;

	for (uint32_t i = 0; i < local->map->node_count; i++) {
		const struct map_node *node = &local->map->nodes[i];
		struct client *c;

		if (!node_pid(ctl, node->id))
			continue;
		node_reload(ctl, node->id);
		while (client_attach(node->socket, name, "/wfs", &c)) {
			if (now_ms() > end_ms)
				return ctl_fail(
					"node %u does not know of it yet: restart it",
					node->id);
			poll(NULL, 0, 20);
		}
		client_detach(c);
	}
	return EXIT_OK;
}

int cmd_fs_create(struct ctl *ctl, int argc, char **argv)
{
	struct map_filesystem *fs;
	struct local local;
	struct map *map = NULL;
	uint32_t fsid = 0;
	ino_id root = 0;
	int rc = local_open(ctl, &local);

	(void)argc;
	if (rc)
		return rc;
	rc = name_check(local.map, argv[0]);
	for (uint32_t i = 0; i < local.map->filesystem_count; i++)
		if (local.map->filesystems[i].fsid > fsid)
			fsid = local.map->filesystems[i].fsid;
	if (rc == EXIT_OK)
		rc = root_make(ctl, &local, ++fsid, &root);
	if (rc == EXIT_OK && !(map = map_copy(local.map, 0, 0, 1)))
		rc = ctl_fail("out of memory");
	if (rc == EXIT_OK) {
		assert(map);
		map->epoch++;
		fs = &map->filesystems[map->filesystem_count - 1];
		fs->fsid = fsid;
		fs->root = root;
		snprintf(fs->name, sizeof(fs->name), "%s", argv[0]);
		rc = local.store->ops->save(local.store, map);
		if (rc)
			rc = ctl_fail("%s", local.store->reason);
	}
	if (rc == EXIT_OK)
		rc = visible_wait(ctl, &local, argv[0]);
	if (rc == EXIT_OK && !ctl_has(ctl, OPT_JSON))
		printf("filesystem %s: use it with wfsctl run --fs %s -- COMMAND\n",
			argv[0], argv[0]);
	map_free(map);
	local_close(&local);
	return rc;
}

enum { DF_NAME, DF_SIZE, DF_USED, DF_FREE, DF_PERCENT, DF_INODES };
static const struct column df_columns[] = {
	[DF_NAME] = {"filesystem", "FILESYSTEM", COLUMN_TEXT, false},
	[DF_SIZE] = {"size_bytes", "SIZE", COLUMN_BYTES, false},
	[DF_USED] = {"used_bytes", "USED", COLUMN_BYTES, false},
	[DF_FREE] = {"free_bytes", "FREE", COLUMN_BYTES, false},
	[DF_PERCENT] = {"used_percent", "USED", COLUMN_PERCENT, false},
	[DF_INODES] = {"inodes", "INODES", COLUMN_COUNT, false},
};

static int df_row(const struct ctl *ctl, const struct local *local, struct table *t,
	const char *name)
{
	struct client_statfs st;
	struct client *c;
	uint64_t used;
	int rc = local_attach(ctl, local, name, &c, NULL);

	if (rc)
		return rc;
	rc = client_statfs(c, &st);
	client_detach(c);
	if (rc)
		return ctl_fail("%s: %s: see wfsctl status", name, strerror(-rc));
	used = st.size_bytes > st.free_bytes ? st.size_bytes - st.free_bytes : 0;
	table_row(t);
	table_text(t, DF_NAME, "%s", name);
	table_count(t, DF_SIZE, st.size_bytes);
	table_count(t, DF_USED, used);
	table_count(t, DF_FREE, st.free_bytes);
	table_real(t, DF_PERCENT,
		st.size_bytes ? 100.0 * (double)used / (double)st.size_bytes : 0);
	table_count(t, DF_INODES, st.inodes);
	return EXIT_OK;
}

int cmd_df(struct ctl *ctl, int argc, char **argv)
{
	struct local local;
	struct table *t;
	int rc = local_open(ctl, &local);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	t = table_new(df_columns, sizeof(df_columns) / sizeof(df_columns[0]));
	for (uint32_t i = 0; rc == EXIT_OK && i < local.map->filesystem_count; i++)
		rc = df_row(ctl, &local, t, local.map->filesystems[i].name);
	if (rc == EXIT_OK)
		rc = table_print(ctl, t);
	table_free(t);
	local_close(&local);
	return rc;
}

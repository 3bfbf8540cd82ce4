/*
 * Where the map is, and the members of etcd that the nodes run.
 */
#include "shim/wfsctl/place.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"

#define STOP_WAIT_MS 1000u /* the last of them waits for the others in vain */

struct place_key {
	const char *name;
	char *out;
	size_t size;
};
#define KEYS 7
static void place_keys(struct place *p, struct place_key keys[KEYS])
{
	const struct place_key all[KEYS] = {{"name", p->name, sizeof(p->name)},
		{"map", p->map, sizeof(p->map)}, {"ca", p->ca, sizeof(p->ca)},
		{"cert", p->cert, sizeof(p->cert)}, {"key", p->key, sizeof(p->key)},
		{"user", p->user, sizeof(p->user)},
		{"password_file", p->password_file, sizeof(p->password_file)}};

	memcpy(keys, all, sizeof(all));
}

static bool line_take(struct place *place, char *line)
{
	char *value = strstr(line, " = ");
	struct place_key keys[KEYS];

	line[strcspn(line, "\n")] = '\0';
	if (!value)
		return line[0] == '\0';
	*value = '\0';
	value += 3;
	if (strcmp(line, "members") == 0) {
		place->is_own = strcmp(value, "own") == 0;
		return true;
	}
	place_keys(place, keys);
	for (unsigned i = 0; i < KEYS; i++)
		if (strcmp(line, keys[i].name) == 0 && strlen(value) < keys[i].size) {
			memcpy(keys[i].out, value, strlen(value) + 1);
			return true;
		}
	return false;
}

int place_read(const struct ctl *ctl, struct place *place)
{
	char path[PATH_MAX + 16], line[PATH_MAX + 64];
	FILE *file;
	bool ok = true;

	*place = (struct place){0};
	snprintf(path, sizeof(path), "%s/map.etcd", ctl->dir);
	file = fopen(path, "re");
	if (!file && errno != ENOENT)
		return ctl_usage("%s: %s: run wfsctl as the user who made the cluster",
			path, strerror(errno));
	if (file) {
		while (ok && fgets(line, sizeof(line), file))
			ok = line_take(place, line);
		fclose(file);
		place->is_etcd = true;
		if (!ok || !map_store_is_etcd(place->map))
			return ctl_usage("%s: damaged: restore it: its line 'map = ' is "
					 "that of a node's wfsd.conf",
				path);
		return EXIT_OK;
	}
	snprintf(place->map, sizeof(place->map), "%s/map.json", ctl->dir);
	if (access(place->map, F_OK) && errno == ENOENT)
		return ctl_usage(
			"%s: no cluster there: name its directory with --cluster or "
			"WFS_CLUSTER, or make one with wfsctl cluster create",
			ctl->dir);
	if (access(place->map, R_OK))
		return ctl_usage("%s: %s: run wfsctl as the user who made the cluster",
			place->map, strerror(errno));
	return EXIT_OK;
}

int place_write(const struct ctl *ctl, const struct place *place)
{
	struct place copy = *place;
	struct place_key keys[KEYS];
	char path[PATH_MAX + 16];
	FILE *file;

	if (!place->is_etcd)
		return EXIT_OK;
	snprintf(path, sizeof(path), "%s/map.etcd", ctl->dir);
	file = fopen(path, "wxe");
	if (!file)
		return ctl_fail("%s: %s: check its owner", path, strerror(errno));
	place_keys(&copy, keys);
	for (unsigned i = 0; i < KEYS; i++)
		if (keys[i].out[0])
			fprintf(file, "%s = %s\n", keys[i].name, keys[i].out);
	if (place->is_own)
		fputs("members = own\n", file);
	if (fclose(file))
		return ctl_fail("%s: %s: free some space", path, strerror(errno));
	return EXIT_OK;
}

int place_open(const struct place *place, struct map_store **store_out)
{
	struct map_store_spec spec = {.map = place->map,
		.ca = place->ca,
		.cert = place->cert,
		.key = place->key,
		.user = place->user,
		.password_file = place->password_file};
	char reason[600];

	if (map_store_open(&spec, store_out, reason, sizeof(reason)))
		return ctl_usage("%s", reason);
	return EXIT_OK;
}

static int id_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

unsigned place_ids(const struct ctl *ctl, uint32_t *ids)
{
	DIR *dir = opendir(ctl->dir);
	const struct dirent *entry;
	unsigned count = 0;

	while (dir && count < MAP_NODES_MAX && (entry = readdir(dir))) {
		unsigned long id;
		char *end;

		if (strncmp(entry->d_name, "node", 4) != 0 || entry->d_name[4] < '0' ||
			entry->d_name[4] > '9')
			continue;
		id = strtoul(entry->d_name + 4, &end, 10);
		if (*end == '\0' && id <= UINT32_MAX &&
			access(node_path(ctl, (uint32_t)id, "wfsd.conf"), F_OK) == 0)
			ids[count++] = (uint32_t)id;
	}
	if (dir)
		closedir(dir);
	qsort(ids, count, sizeof(*ids), id_compare);
	return count;
}

void place_member(const struct ctl *ctl, unsigned port, unsigned count, uint32_t id,
	struct place_member *m)
{
	size_t used = 0;

	snprintf(m->name, sizeof(m->name), "node%u", id);
	snprintf(m->data, sizeof(m->data), "%s", node_path(ctl, id, "etcd"));
	snprintf(m->pidfile, sizeof(m->pidfile), "%s", node_path(ctl, id, "etcd.pid"));
	snprintf(m->log, sizeof(m->log), "%s", node_path(ctl, id, "etcd.log"));
	snprintf(m->client_url, sizeof(m->client_url), "http://127.0.0.1:%u",
		port + 2 * id);
	snprintf(m->peer_url, sizeof(m->peer_url), "http://127.0.0.1:%u",
		port + 2 * id + 1);
	for (unsigned i = 0; i < count; i++)
		used += (size_t)snprintf(m->cluster + used, sizeof(m->cluster) - used,
			"%snode%u=http://127.0.0.1:%u", i ? "," : "", i,
			port + 2 * i + 1);
	m->opt = (struct etcd_member_options){.name = m->name,
		.data = m->data,
		.client_url = m->client_url,
		.peer_url = m->peer_url,
		.cluster = m->cluster,
		.pidfile = m->pidfile,
		.log = m->log};
}

void place_members_stop(const struct ctl *ctl, const uint32_t *ids, unsigned count)
{
	struct etcd_member member;

	for (unsigned i = 0; i < count; i++)
		if (etcd_member_find(node_path(ctl, ids[i], "etcd.pid"), &member)) {
			etcd_member_signal(&member, SIGTERM);
			close(member.pid_fd);
		}
	for (unsigned i = 0; i < count; i++) {
		const char *pidfile = node_path(ctl, ids[i], "etcd.pid");

		if (etcd_member_find(pidfile, &member))
			etcd_member_stop(&member, STOP_WAIT_MS);
		unlink(pidfile);
	}
}

/*
 * Making one node: its directory, device files, configuration, and the format of its
 * shards, which wfsd itself does. Shared by cluster create, node add and node replace.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/io/device.h"
#include "shim/wfsctl/local.h"
#include "shim/wfsctl/make.h"

struct making {
	const struct ctl *ctl;
	char text[64];
};

int devices_check(const struct ctl *ctl, uint64_t shards)
{
	if (ctl->device_count && ctl->device_count != shards)
		return ctl_usage(
			"%u devices for %llu shards: give --device once for each",
			ctl->device_count, (unsigned long long)shards);
	for (unsigned i = 0; i < ctl->device_count; i++)
		if (ctl->devices[i][0] != '/' || access(ctl->devices[i], F_OK))
			return ctl_usage("--device %s: give the absolute path of a block "
					 "device or a preallocated file",
				ctl->devices[i]);
	return EXIT_OK;
}

const char *node_device(const struct node_make *make, unsigned shard)
{
	char name[32];

	if (make->devices)
		return make->devices[shard];
	snprintf(name, sizeof(name), shard ? "device%u" : "device", shard);
	return node_path(make->ctl, make->id, name);
}

static void device_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	const struct making *making = ctx;

	progress_show(making->ctl, making->text, (int)(done_bytes * 100 / total_bytes));
}

int device_make(const struct ctl *ctl, uint32_t id, const char *path, uint64_t size_bytes)
{
	struct making making = {.ctl = ctl};
	int rc;

	snprintf(making.text, sizeof(making.text), "writing device of node %u", id);
	rc = device_file_create(path, size_bytes, device_progress, &making);
	progress_end(ctl);
	if (rc == -EINVAL)
		return ctl_fail("%s: this file system has no O_DIRECT: choose a "
				"directory on ext4 or xfs",
			path);
	if (rc)
		return ctl_fail("%s: %s: free some space or choose another directory",
			path, strerror(-rc));
	return EXIT_OK;
}

int node_make(const struct node_make *make)
{
	const char *folder = node_path(make->ctl, make->id, "");
	int rc = EXIT_OK;

	if (mkdir(folder, 0755))
		return ctl_fail(
			"%s: %s: choose another directory", folder, strerror(errno));
	for (unsigned s = 0; rc == EXIT_OK && !make->devices && s < make->shards; s++)
		rc = device_make(
			make->ctl, make->id, node_device(make, s), make->size_bytes);
	return rc;
}

static void conf_map(const struct node_make *make, FILE *file)
{
	const struct place *p = make->place;
	const struct place_member *m = make->member;
	const char *const keys[][2] = {{"ca", p->ca}, {"cert", p->cert}, {"key", p->key},
		{"user", p->user}, {"password_file", p->password_file}};
	bool any = false;

	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!keys[i][1][0])
			continue;
		fprintf(file, "%s%s = %s\n", any ? "" : "\n[map]\n", keys[i][0],
			keys[i][1]);
		any = true;
	}
	if (m)
		fprintf(file,
			"\n[etcd]\nname = %s\ndata = %s\nclient_url = %s\n"
			"peer_url = %s\ncluster = %s\npidfile = %s\nlog = %s\n",
			m->name, m->data, m->client_url, m->peer_url, m->cluster,
			m->pidfile, m->log);
}

int node_conf_make(const struct node_make *make)
{
	const struct ctl *ctl = make->ctl;
	const char *path = node_path(ctl, make->id, "wfsd.conf");
	FILE *file = fopen(path, "wxe");

	if (!file)
		return ctl_fail("%s: %s: check its owner", path, strerror(errno));
	fprintf(file, "[node]\nid = %u\nmap = %s\npidfile = %s\nlog_level = info\n",
		make->id, make->place->map, node_path(ctl, make->id, "wfsd.pid"));
	conf_map(make, file);
	for (unsigned s = 0; s < make->shards; s++) {
		fprintf(file, "\n[shard %u]\ndevice = %s\nindex = %s%u\n", s,
			node_device(make, s), node_path(ctl, make->id, "index"), s);
		if (make->memory_bytes)
			fprintf(file, "memory_mib = %llu\n",
				(unsigned long long)make->memory_bytes >> 20);
	}
	if (fclose(file))
		return ctl_fail("%s: %s: free some space", path, strerror(errno));
	return EXIT_OK;
}

/* wfsd complains itself, on our stderr. */
int node_format(const struct ctl *ctl, uint32_t id, bool force)
{
	const char *conf = node_path(ctl, id, "wfsd.conf");
	char program[PATH_MAX + 16];
	int status;
	pid_t pid;

	snprintf(program, sizeof(program), "%s/wfsd", ctl->bin);
	pid = fork();
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		unsetenv("LD_PRELOAD");
		execl(program, "wfsd", "--config", conf, "--format",
			force ? "--force" : (char *)NULL, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return ctl_fail("cannot run wfsd: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return ctl_usage(
			"%s: cannot run it: install wfsd beside wfsctl", program);
	if (status)
		return ctl_fail("node %u could not be formatted: see above", id);
	return EXIT_OK;
}

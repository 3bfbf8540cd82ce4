/*
 * mount, umount, mounts: the namespace as a FUSE mount of this host.
 *
 * mount starts wfs-fuse, which stays; umount(2) ends it. What is mounted is read from the
 * kernel (/proc/self/mountinfo), so there is no list of our own that could be wrong. A
 * mount whose wfs-fuse has died answers ENOTCONN to everybody; mounting there again takes
 * it away first.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/wfsctl/local.h"
#include "shim/wfsctl/mount.h"
#include "shim/wfsctl/table.h"

#define FUSE_TYPE     "fuse.wfs"
#define SOURCE_PREFIX "wfs:"
#define START_WAIT_MS 30000
#define REPAIRS_MAX   16 /* dead mounts upon each other */

/* --- what is mounted -----------------------------------------------------------------
 */

/* mountinfo writes spaces and the like as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] &&
			text[3]) {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
				       (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = 0;
}

/* The mountpoint and the filesystem of a line, if it is one of ours. */
static bool line_parse(char *line, char *point, char *fs)
{
	char *rest = strstr(line, " - ");
	char type[64], source[MOUNT_NAME_MAX + sizeof(SOURCE_PREFIX)];

	if (!rest || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 ||
		sscanf(rest, " - %63s %127s", type, source) != 2 ||
		strcmp(type, FUSE_TYPE) != 0)
		return false;
	unescape(point);
	unescape(source);
	if (strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) != 0)
		return false;
	strcpy(fs, source + strlen(SOURCE_PREFIX));
	return true;
}

static enum mount_state state_of(const char *point)
{
	struct stat st;

	return stat(point, &st) && errno == ENOTCONN ? MOUNT_DEAD : MOUNT_UP;
}

void mounts_each(void (*each)(void *ctx, const struct mount_entry *m), void *ctx)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	static struct mount_entry m;
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return;
	while (getline(&line, &size, file) > 0)
		if (line_parse(line, m.point, m.fs)) {
			m.state = state_of(m.point);
			each(ctx, &m);
		}
	free(line);
	fclose(file);
}

static void entry_match(void *ctx, const struct mount_entry *m)
{
	struct mount_entry *found = ctx;

	/* Of several upon each other the last one counts. */
	if (strcmp(m->point, found->point) == 0)
		*found = *m;
}

bool mount_find(const char *point, struct mount_entry *out)
{
	*out = (struct mount_entry){.state = MOUNT_NONE};
	snprintf(out->point, sizeof(out->point), "%s", point);
	mounts_each(entry_match, out);
	return out->state != MOUNT_NONE;
}

/* The absolute path, also of what does not exist or is dead; only its parent must be. */
static int point_resolve(const char *name, char *out)
{
	char parent[PATH_MAX], resolved[PATH_MAX];
	const char *base;
	size_t size = strlen(name);

	if (realpath(name, out))
		return EXIT_OK;
	while (size > 1 && name[size - 1] == '/')
		size--;
	if (snprintf(parent, sizeof(parent), "%.*s", (int)size, name) >= PATH_MAX)
		return ctl_usage("%s: path too long", name);
	base = strrchr(parent, '/');
	base = base ? base + 1 : parent;
	snprintf(resolved, sizeof(resolved), "%.*s", (int)(base - parent), parent);
	if (!realpath(*resolved ? resolved : ".", out))
		return ctl_usage(
			"%s: %s: give a directory to mount on", name, strerror(errno));
	size = strlen(out);
	if (size + strlen(base) + 2 > PATH_MAX)
		return ctl_usage("%s: path too long", name);
	snprintf(out + size, PATH_MAX - size, "%s%s", size > 1 ? "/" : "", base);
	return EXIT_OK;
}

/* --- mount ---------------------------------------------------------------------------
 */

static void fuse_exec(const struct ctl *ctl, const char *log_path, const char *socket,
	const char *fs, const char *point, int out)
{
	char program[PATH_MAX + 16];
	int null = open("/dev/null", O_RDONLY);
	int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);

	snprintf(program, sizeof(program), "%s/wfs-fuse", ctl->bin);
	setsid();
	if (null < 0 || log_fd < 0)
		_exit(EXIT_USAGE);
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(log_fd, STDERR_FILENO);
	closefrom(3);
	unsetenv("LD_PRELOAD");
	execl(program, "wfs-fuse", "--socket", socket, "--fs", fs, point, (char *)NULL);
	dprintf(STDERR_FILENO, "cannot run %s: %s: install wfs-fuse beside wfsctl\n",
		program, strerror(errno));
	_exit(EXIT_USAGE);
}

/* Whether it says "ready" in time. */
static bool fuse_ready(int in)
{
	uint64_t until = now_ms() + START_WAIT_MS;
	char text[64];
	size_t size = 0;

	for (;;) {
		uint64_t now = now_ms();
		struct pollfd p = {.fd = in, .events = POLLIN};
		ssize_t n;

		if (now >= until || poll(&p, 1, (int)(until - now)) == 0)
			return false;
		n = read(in, text + size, sizeof(text) - 1 - size);
		if (n <= 0)
			return false;
		size += (size_t)n;
		text[size] = 0;
		if (strstr(text, "ready\n"))
			return true;
	}
}

static int fuse_start(
	const struct ctl *ctl, const char *socket, const char *fs, const char *point)
{
	char log_path[PATH_MAX + 16], line[1024];
	int fds[2], rc = EXIT_OK;
	pid_t pid;

	snprintf(log_path, sizeof(log_path), "%s/wfs-fuse.log", ctl->dir);
	if (pipe2(fds, O_CLOEXEC))
		return ctl_fail("pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		fuse_exec(ctl, log_path, socket, fs, point, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		rc = ctl_fail("fork: %s", strerror(errno));
	} else if (!fuse_ready(fds[0])) {
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
		file_last_line(log_path, line, sizeof(line));
		rc = ctl_fail("%s: %s: see %s", point, line, log_path);
	}
	close(fds[0]);
	return rc;
}

static int told(
	const struct ctl *ctl, const char *point, const char *fs, const char *state)
{
	if (ctl_has(ctl, OPT_JSON)) {
		struct json j = {.file = stdout};

		json_open(&j, NULL, '{');
		json_text(&j, "mountpoint", point);
		json_text(&j, "filesystem", fs);
		json_text(&j, "state", state);
		json_close(&j, '}');
	} else {
		printf("%s  %s  %s\n", point, fs, state);
	}
	return EXIT_OK;
}

/* What is there already is taken away if it is dead. *done_out: nothing is left to do. */
static int point_prepare(
	const char *point, const char *fs, bool *repaired_out, bool *done_out)
{
	struct mount_entry m;

	*repaired_out = *done_out = false;
	for (int i = 0; i < REPAIRS_MAX && mount_find(point, &m); i++) {
		if (m.state == MOUNT_UP && strcmp(m.fs, fs) == 0) {
			*done_out = true;
			return EXIT_OK;
		}
		if (m.state == MOUNT_UP)
			return ctl_fail(
				"%s: filesystem %s is mounted there: wfsctl umount %s",
				point, m.fs, point);
		if (umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW))
			return ctl_fail(
				"%s: a dead mount, and it cannot be unmounted: %s", point,
				strerror(errno));
		*repaired_out = true;
	}
	if (mkdir(point, 0755) && errno != EEXIST)
		return ctl_fail(
			"%s: %s: make the directory first", point, strerror(errno));
	return EXIT_OK;
}

static int mount_start(
	const struct ctl *ctl, const struct local *local, const char *point)
{
	const char *fs = ctl->values[OPT_FS];
	const struct map_node *node;
	bool repaired, done;
	struct client *c;
	int rc = local_attach(ctl, local, fs, &c, &node);

	if (rc)
		return rc;
	client_detach(c);
	if (!fs)
		fs = local->map->filesystems[0].name;
	rc = point_prepare(point, fs, &repaired, &done);
	if (rc == EXIT_OK && done)
		return told(ctl, point, fs, "already mounted");
	if (rc == EXIT_OK)
		rc = fuse_start(ctl, node->socket, fs, point);
	if (rc == EXIT_OK)
		rc = told(ctl, point, fs, repaired ? "mounted anew" : "mounted");
	return rc;
}

static int command_begin(int argc, char **argv, const char *what, char *point)
{
	if (geteuid() != 0)
		return ctl_usage(
			"%s: it is there for all users of this host: run it as root",
			what);
	return point_resolve(argc ? argv[0] : MOUNT_DEFAULT, point);
}

int cmd_mount(struct ctl *ctl, int argc, char **argv)
{
	char point[PATH_MAX];
	struct local local;
	int rc = command_begin(argc, argv, "mount", point);

	if (rc == EXIT_OK)
		rc = local_open(ctl, &local);
	if (rc)
		return rc;
	rc = mount_start(ctl, &local, point);
	local_close(&local);
	return rc;
}

/* --- umount, mounts ------------------------------------------------------------------
 */

int cmd_umount(struct ctl *ctl, int argc, char **argv)
{
	bool force = ctl_has(ctl, OPT_FORCE);
	char point[PATH_MAX];
	struct mount_entry m;
	int rc = command_begin(argc, argv, "umount", point);

	if (rc)
		return rc;
	if (!mount_find(point, &m))
		return ctl_fail("%s: no WFS is mounted there: see wfsctl mounts", point);
	/* Nothing can be lost of a dead one. */
	force = force || m.state == MOUNT_DEAD;
	if (umount2(point, UMOUNT_NOFOLLOW | (force ? MNT_DETACH : 0)) == 0)
		return told(ctl, point, m.fs, "unmounted");
	if (errno == EBUSY)
		return ctl_fail(
			"%s: in use: end the programs that fuser -vm %s names, or give "
			"--force: they keep what they have open, and nobody else sees it",
			point, point);
	return ctl_fail("%s: %s", point, strerror(errno));
}

enum { MOUNTS_POINT, MOUNTS_FS, MOUNTS_STATE };
static const struct column mounts_columns[] = {
	[MOUNTS_POINT] = {"mountpoint", "MOUNTPOINT", COLUMN_TEXT, false},
	[MOUNTS_FS] = {"filesystem", "FILESYSTEM", COLUMN_TEXT, false},
	[MOUNTS_STATE] = {"state", "STATE", COLUMN_TEXT, false},
};

static void mounts_row(void *ctx, const struct mount_entry *m)
{
	struct table *t = ctx;

	table_row(t);
	table_text(t, MOUNTS_POINT, "%s", m->point);
	table_text(t, MOUNTS_FS, "%s", m->fs);
	table_text(t, MOUNTS_STATE, "%s", m->state == MOUNT_UP ? "up" : "dead");
}

int cmd_mounts(struct ctl *ctl, int argc, char **argv)
{
	struct table *t = table_new(
		mounts_columns, sizeof(mounts_columns) / sizeof(mounts_columns[0]));
	int rc;

	(void)argc;
	(void)argv;
	mounts_each(mounts_row, t);
	rc = table_print(ctl, t);
	table_free(t);
	return rc;
}

/*
 * Who a program is: from the kernel, never from the program.
 *
 * At attach: the peer credentials of the socket. After a change of ids, /proc/<pid>/status
 * of the same process, which a pidfd taken at attach holds on to, so that another process
 * under the same pid is not taken for it.
 *
 * What is read anew must be within what the process could reach by itself from what was
 * read last: one of its four uids, one of its gids, no new groups; a process with uid 0
 * among its uids may turn into anybody. Otherwise a program could keep its session in a
 * forked child, execute a setuid program under its own pid, and have the child act as root.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/session/session_impl.h"

#define STATUS_SIZE_MAX   65536u
#define PEER_GROUPS_GUESS 64u

static bool has(const uint32_t *ids, uint32_t count, uint32_t id)
{
	for (uint32_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static bool numbers_parse(const char *line, uint32_t *out, uint32_t want)
{
	for (uint32_t i = 0; i < want; i++) {
		char *end;

		errno = 0;
		out[i] = (uint32_t)strtoul(line, &end, 10);
		if (end == line || errno)
			return false;
		line = end;
	}
	return true;
}

static void groups_parse(const char *line, struct cred *cred)
{
	cred->group_count = 0;
	while (cred->group_count < WFS_GROUPS_MAX) {
		char *end;
		unsigned long gid;

		while (*line == ' ' || *line == '\t')
			line++;
		if (*line < '0' || *line > '9')
			return;
		gid = strtoul(line, &end, 10);
		line = end;
		cred->groups[cred->group_count++] = (uint32_t)gid;
	}
}

/* The text behind "\nName:\t". */
static const char *status_field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? at + strlen(name) : NULL;
}

static int status_read(int pid, char *text)
{
	char path[64];
	size_t size = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	for (;;) {
		ssize_t n = read(fd, text + size, STATUS_SIZE_MAX - 1 - size);

		if (n <= 0)
			break;
		size += (size_t)n;
	}
	close(fd);
	text[size] = 0;
	return size ? 0 : -ESRCH;
}

/* Of the process that pidfd holds; -ESRCH when it has ended. */
static int identity_read(const struct identity *id, struct identity *out)
{
	const char *uids, *gids, *groups;
	char *text = mem_alloc(STATUS_SIZE_MAX);
	int rc;

	if (!text)
		return -ENOMEM;
	*out = *id;
	rc = status_read(id->pid, text);
	uids = status_field(text, "\nUid:");
	gids = status_field(text, "\nGid:");
	groups = status_field(text, "\nGroups:");
	if (!rc && (!uids || !gids || !groups || !numbers_parse(uids, out->uids, 4) ||
			   !numbers_parse(gids, out->gids, 4)))
		rc = -EPROTO;
	/* It lives, so the pid was its own while we read. */
	if (!rc && syscall(SYS_pidfd_send_signal, id->pidfd, 0, NULL, 0) && errno == ESRCH)
		rc = -ESRCH;
	if (!rc) {
		out->cred.uid = out->uids[3];
		out->cred.gid = out->gids[3];
		groups_parse(groups, &out->cred);
	}
	mem_free(text);
	return rc;
}

static int peer_groups(int socket, struct cred *cred)
{
	socklen_t size = PEER_GROUPS_GUESS * sizeof(gid_t);
	gid_t *groups = mem_alloc(size);
	int rc;

	if (!groups)
		return -ENOMEM;
	rc = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) ? -errno : 0;
	if (rc == -ERANGE) {
		mem_free(groups);
		groups = mem_alloc(size);
		if (!groups)
			return -ENOMEM;
		rc = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) ? -errno : 0;
	}
	cred->group_count = 0;
	for (uint32_t i = 0; !rc && i < size / sizeof(gid_t) && i < WFS_GROUPS_MAX; i++)
		cred->groups[cred->group_count++] = groups[i];
	mem_free(groups);
	return rc;
}

int identity_init(struct identity *id, int socket)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	struct identity now;
	int rc;

	*id = (struct identity){.pidfd = -1};
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return -errno;
	rc = peer_groups(socket, &id->cred);
	if (rc)
		return rc;
	id->pid = peer.pid;
	id->cred.uid = peer.uid;
	id->cred.gid = peer.gid;
	for (int i = 0; i < 4; i++) {
		id->uids[i] = peer.uid;
		id->gids[i] = peer.gid;
	}
	/* Out of our sight (another pid namespace, or gone): it cannot change its ids. */
	if (peer.pid > 0)
		id->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	if (id->pidfd < 0)
		return 0;
	/* Saved ids widen what it may turn to later; if that cannot be read, they do not. */
	if (identity_read(id, &now) == 0 && now.uids[1] == peer.uid &&
		now.gids[1] == peer.gid) {
		memcpy(id->uids, now.uids, sizeof(id->uids));
		memcpy(id->gids, now.gids, sizeof(id->gids));
	}
	return 0;
}

void identity_release(struct identity *id)
{
	if (id->pidfd >= 0)
		close(id->pidfd);
	id->pidfd = -1;
}

static bool identity_reachable(const struct identity *from, const struct identity *to)
{
	if (has(from->uids, 4, 0))
		return true;
	for (uint32_t i = 0; i < 4; i++) {
		if (!has(from->uids, 4, to->uids[i]))
			return false;
		if (!has(from->gids, 4, to->gids[i]))
			return false;
	}
	for (uint32_t i = 0; i < to->cred.group_count; i++)
		if (!has(from->cred.groups, from->cred.group_count, to->cred.groups[i]))
			return false;
	return true;
}

int identity_refresh(struct identity *id)
{
	struct identity now;
	int rc = id->pidfd < 0 ? -ESRCH : identity_read(id, &now);

	if (rc)
		return rc;
	if (!identity_reachable(id, &now))
		return -EPERM;
	*id = now;
	return 0;
}

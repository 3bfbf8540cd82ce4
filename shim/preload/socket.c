/*
 * Unix sockets with a name in WFS: the name is a node there, the socket itself a local one
 * beside the daemon's, so that it works between the programs of a host.
 */
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "shim/preload/calls.h"
#include "shim/preload/fs.h"
#include "shim/preload/lock.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

/* The path of a Unix address as a string, or NULL. */
static const char *address_path(const struct sockaddr *address, socklen_t size, char *path)
{
	const struct sockaddr_un *un = (const void *)address;
	size_t length;

	if (!fs_on() || !address || size <= offsetof(struct sockaddr_un, sun_path) ||
		un->sun_family != AF_UNIX || !un->sun_path[0])
		return NULL;
	length = size - offsetof(struct sockaddr_un, sun_path);
	if (length > sizeof(un->sun_path))
		length = sizeof(un->sun_path);
	memcpy(path, un->sun_path, length);
	path[length] = 0;
	return path_is_wfs(AT_FDCWD, path) ? path : NULL;
}

static int address_of(struct place *p, struct sockaddr_un *out)
{
	struct client_attr attr;
	int rc = client_stat(p->client, &p->where, true, &attr);

	if (rc)
		return rc;
	if (!S_ISSOCK(attr.mode))
		return -ECONNREFUSED;
	rc = access_check(&attr, W_OK, true);
	if (rc)
		return rc;
	out->sun_family = AF_UNIX;
	return side_path("sockets", attr.ino, out->sun_path, sizeof(out->sun_path))
		       ? 0
		       : -ENAMETOOLONG;
}

static int bind_place(int fd, struct place *p)
{
	struct sockaddr_un local = {0};
	int rc;

	rc = client_mknod(p->client, &p->where, (S_IFSOCK | 0777) & ~fs_umask(), 0,
		NULL);
	if (rc)
		return rc == -EEXIST ? -EADDRINUSE : rc;
	rc = address_of(p, &local);
	if (!rc && REAL(bind)(fd, (struct sockaddr *)&local, sizeof(local)))
		rc = -errno;
	if (rc)
		(void)client_unlink(p->client, &p->where);
	else
		(void)raw(SYS_chmod, local.sun_path, 0777);
	return rc;
}

static int WFS_USED wfs_bind(int fd, const struct sockaddr *address, socklen_t size)
{
	char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	const char *path = address_path(address, size, text);
	struct place p;
	int rc;

	if (!path)
		return REAL(bind)(fd, address, size);
	rc = place_find(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &p);
	if (rc == PLACE_WFS)
		rc = bind_place(fd, &p);
	return (int)answer(fs_result(rc));
}
EXPORT(bind, wfs_bind);

static int WFS_USED wfs_connect(int fd, const struct sockaddr *address, socklen_t size)
{
	char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	const char *path = address_path(address, size, text);
	struct sockaddr_un local = {0};
	struct place p;
	int rc;

	if (!path)
		return REAL(connect)(fd, address, size);
	rc = place_find(AT_FDCWD, path, 0, &p);
	if (rc == PLACE_WFS)
		rc = address_of(&p, &local);
	if (rc)
		return (int)answer(fs_result(rc));
	return REAL(connect)(fd, (struct sockaddr *)&local, sizeof(local));
}
EXPORT(connect, wfs_connect);

static ssize_t WFS_USED wfs_sendto(int fd, const void *data, size_t size, int flags,
	const struct sockaddr *address, socklen_t address_size)
{
	char text[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	const char *path = address_path(address, address_size, text);
	struct sockaddr_un local = {0};
	struct place p;
	int rc;

	if (!path)
		return REAL(sendto)(fd, data, size, flags, address, address_size);
	rc = place_find(AT_FDCWD, path, 0, &p);
	if (rc == PLACE_WFS)
		rc = address_of(&p, &local);
	if (rc)
		return answer(fs_result(rc));
	return REAL(sendto)(
		fd, data, size, flags, (struct sockaddr *)&local, sizeof(local));
}
EXPORT(sendto, wfs_sendto);

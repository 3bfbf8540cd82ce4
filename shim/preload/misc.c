/* fcntl, terminals that files are not, identity changes, and what WFS declines. */
#include <dlfcn.h>
#include <grp.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/lock.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

#define FLAGS_SETTABLE (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC)
#define FLAGS_KERNEL   (O_APPEND | O_NONBLOCK)
#define KERNEL_LARGEFILE 0100000 /* what the kernel reports; glibc's O_LARGEFILE is 0 */

static long file_getfl(int fd, struct file *f)
{
	long kernel = raw(SYS_fcntl, fd, F_GETFL);

	if (kernel < 0)
		return kernel;
	if (f->flags & O_PATH)
		return O_PATH;
	return (f->flags & ~(uint32_t)FLAGS_KERNEL) | (kernel & FLAGS_KERNEL) |
	       KERNEL_LARGEFILE;
}

static long file_setfl(int fd, struct file *f, long arg)
{
	long rc;

	if (f->flags & O_PATH)
		return -EBADF;
	rc = raw(SYS_fcntl, fd, F_SETFL, arg & FLAGS_KERNEL);
	if (!rc)
		f->flags = (f->flags & ~(uint32_t)FLAGS_SETTABLE) |
			   ((uint32_t)arg & FLAGS_SETTABLE);
	return rc;
}

static long file_fcntl(int fd, struct file *f, struct client *c, int command, long arg)
{
	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return fd_dup(fd, (int)arg, command == F_DUPFD_CLOEXEC);
	case F_GETFL:
		return file_getfl(fd, f);
	case F_SETFL:
		return file_setfl(fd, f, arg);
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return lock_fcntl(fd, f, c, command, (void *)arg);
	case F_GETFD:
	case F_SETFD:
	case F_GETOWN:
	case F_SETOWN:
	case F_GETSIG:
	case F_SETSIG:
	case F_GETOWN_EX:
	case F_SETOWN_EX:
		return raw(SYS_fcntl, fd, command, arg);
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
		return -EBADF;
	case F_GETLEASE:
		return F_UNLCK;
	default:
		return -EINVAL;
	}
}

int wfs_fcntl_long(int fd, int command, long arg)
{
	struct file *f = fd_file(fd);
	struct client *c = NULL;
	long rc = 0;

	if (!f) {
		if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
			return (int)answer(fd_dup(fd, (int)arg, command == F_DUPFD_CLOEXEC));
		return REAL(fcntl)(fd, command, arg);
	}
	if (command == F_GETLK || command == F_SETLK || command == F_SETLKW ||
		command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW)
		rc = file_client(f, &c);
	if (!rc)
		rc = file_fcntl(fd, f, c, command, arg);
	fd_put(f);
	return (int)answer(fs_result(rc));
}

static int WFS_USED wfs_fcntl(int fd, int command, ...)
{
	va_list ap;
	long arg;

	va_start(ap, command);
	arg = va_arg(ap, long);
	va_end(ap);
	return wfs_fcntl_long(fd, command, arg);
}
EXPORT(fcntl, wfs_fcntl);
EXPORT(fcntl64, wfs_fcntl);
EXPORT(__fcntl, wfs_fcntl);

static bool is_wfs(int fd)
{
	struct file *f = fd_file(fd);

	fd_put(f);
	return f != NULL;
}

/* FIONREAD and the fd flags are answered; no WFS file is a device. */
static long file_ioctl(int fd, struct file *f, struct client *c, unsigned long request,
	void *arg)
{
	struct client_attr attr;
	int rc;

	switch (request) {
	case FIOCLEX:
	case FIONCLEX:
	case FIONBIO:
		return raw(SYS_ioctl, fd, request, arg);
	case FIONREAD:
		if (S_ISDIR(f->cf.mode))
			return -ENOTTY;
		rc = client_getattr(c, f->cf.ino, &attr);
		if (!rc)
			*(int *)arg = (int)((int64_t)attr.size_bytes - fd_position(fd));
		return rc;
	case 0x40049409: /* FICLONE */
		return is_wfs((int)(intptr_t)arg) ? -EOPNOTSUPP : -EXDEV;
	case 0x4020940d: /* FICLONERANGE */
	case 0xc0189436: /* FIDEDUPERANGE */
	case 0xc020660b: /* FS_IOC_FIEMAP */
		return -EOPNOTSUPP;
	default:
		return -ENOTTY;
	}
}

int wfs_ioctl_long(int fd, unsigned long request, long arg)
{
	struct file *f;
	struct client *c;
	long rc = fd_client(fd, &f, &c);

	if (rc)
		return (int)answer(rc);
	if (!f)
		return REAL(ioctl)(fd, request, arg);
	rc = file_ioctl(fd, f, c, request, (void *)arg);
	fd_put(f);
	return (int)answer(fs_result(rc));
}

static int WFS_USED wfs_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	long arg;

	va_start(ap, request);
	arg = va_arg(ap, long);
	va_end(ap);
	return wfs_ioctl_long(fd, request, arg);
}
EXPORT(ioctl, wfs_ioctl);

static int WFS_USED wfs_isatty(int fd)
{
	if (!is_wfs(fd))
		return REAL(isatty)(fd);
	errno = ENOTTY;
	return 0;
}
EXPORT(isatty, wfs_isatty);

static char *WFS_USED wfs_ttyname(int fd)
{
	if (!is_wfs(fd))
		return REAL(ttyname)(fd);
	errno = ENOTTY;
	return NULL;
}
EXPORT(ttyname, wfs_ttyname);

static int WFS_USED wfs_ttyname_r(int fd, char *buffer, size_t size)
{
	return is_wfs(fd) ? ENOTTY : REAL(ttyname_r)(fd, buffer, size);
}
EXPORT(ttyname_r, wfs_ttyname_r);

static int WFS_USED wfs_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	if (path_is_wfs(AT_FDCWD, path))
		return (int)answer(-ENOSPC);
	return REAL(inotify_add_watch)(fd, path, mask);
}
EXPORT(inotify_add_watch, wfs_inotify_add_watch);

static int WFS_USED wfs_name_to_handle_at(
	int dirfd, const char *path, struct file_handle *handle, int *mount_id, int flags)
{
	if (path_is_wfs(dirfd, path))
		return (int)answer(-EOPNOTSUPP);
	return REAL(name_to_handle_at)(dirfd, path, handle, mount_id, flags);
}
EXPORT(name_to_handle_at, wfs_name_to_handle_at);

static int WFS_USED wfs_chroot(const char *path)
{
	if (path_is_wfs(AT_FDCWD, path))
		return (int)answer(-EPERM);
	return REAL(chroot)(path);
}
EXPORT(chroot, wfs_chroot);

/* --- descriptors through sockets ---------------------------------------------------- */

static void message_look(struct msghdr *m, bool received)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		if (!received) {
			fd_shared();
			return;
		}
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			fd_unknown(fd);
		}
	}
}

static ssize_t WFS_USED wfs_sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (m && m->msg_control && fs_on())
		message_look((struct msghdr *)m, false);
	return REAL(sendmsg)(fd, m, flags);
}
EXPORT(sendmsg, wfs_sendmsg);

static ssize_t WFS_USED wfs_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t rc = REAL(recvmsg)(fd, m, flags);

	if (rc >= 0 && m->msg_control && m->msg_controllen && fs_on())
		message_look(m, true);
	return rc;
}
EXPORT(recvmsg, wfs_recvmsg);

static int WFS_USED wfs_recvmmsg(
	int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *timeout)
{
	int rc = REAL(recvmmsg)(fd, m, count, flags, timeout);

	for (int i = 0; i < rc && fs_on(); i++)
		if (m[i].msg_hdr.msg_control && m[i].msg_hdr.msg_controllen)
			message_look(&m[i].msg_hdr, true);
	return rc;
}
EXPORT(recvmmsg, wfs_recvmmsg);

/* --- identity ----------------------------------------------------------------------- */

static int changed(int rc)
{
	struct client *c = fs_mode == FS_ON ? fs_attached() : NULL;

	if (!rc && c)
		client_cred_changed(c);
	return rc;
}

#define IDENTITY(fn, params, args)                                                       \
	static int WFS_USED wfs_##fn params                                              \
	{                                                                                \
		return changed(REAL(fn) args);                                           \
	}                                                                                \
	EXPORT(fn, wfs_##fn)

IDENTITY(setuid, (uid_t uid), (uid));
IDENTITY(setgid, (gid_t gid), (gid));
IDENTITY(seteuid, (uid_t uid), (uid));
IDENTITY(setegid, (gid_t gid), (gid));
IDENTITY(setreuid, (uid_t real, uid_t effective), (real, effective));
IDENTITY(setregid, (gid_t real, gid_t effective), (real, effective));
IDENTITY(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved));
IDENTITY(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved));
IDENTITY(setgroups, (size_t count, const gid_t *list), (count, list));
IDENTITY(initgroups, (const char *user, gid_t group), (user, group));

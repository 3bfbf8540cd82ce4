/*
 * Settings and the client.
 *
 * A fork is noticed without handlers: fs_alive points into a page with MADV_WIPEONFORK,
 * so that in a child, made by whatever call, it reads zero. Then the child forgets the
 * parent's client, drops the parent's pool of placeholders, counts a new epoch (open
 * files are reopened in its own session at their next use), and frees all guards.
 *
 * The client rides through a restart of wfsd by itself, and a process that has yet to
 * attach waits as long. When wfsd stays away (-ENOTCONN) the old client is left alone, as
 * other threads may be inside it, and the next call attaches a new one; that one does not
 * wait again.
 */
#include "shim/preload/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/preload/fd.h"
#include "shim/preload/guard.h"
#include "shim/preload/real.h"

_Atomic int fs_mode;
_Atomic uint32_t *fs_alive;
static struct fs_settings settings;
static struct client *_Atomic client;
static _Atomic uint32_t epoch = 1;
static struct guard attach_guard;
static _Atomic int64_t umask_known = -1;
static _Atomic bool given_up; /* wfsd did not come back in time */

#define PATIENCE_S 10
#define PAUSE_NS   20000000

const struct fs_settings *fs_settings(void)
{
	return &settings;
}

const char *env_value(char *const *env, const char *name)
{
	size_t size = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, size) && (*env)[size] == '=')
			return *env + size + 1;
	return NULL;
}

static bool setting_copy(char *to, size_t room, const char *value)
{
	size_t size = value ? strlen(value) : 0;

	if (size >= room)
		return false;
	if (size)
		memcpy(to, value, size);
	to[size] = 0;
	return true;
}

bool fs_decide(void)
{
	const char *mount;
	size_t size;

	if (!environ)
		return false;
	mount = env_value(environ, "WFS_MOUNT");
	settings.mount_given = mount != NULL;
	if (!mount || !*mount)
		mount = "/wfs";
	if (!env_value(environ, "WFS_SOCKET") || !*env_value(environ, "WFS_SOCKET") ||
		!setting_copy(settings.socket, sizeof(settings.socket),
			env_value(environ, "WFS_SOCKET")) ||
		!setting_copy(settings.filesystem, sizeof(settings.filesystem),
			env_value(environ, "WFS_FS")) ||
		!setting_copy(settings.preload, sizeof(settings.preload),
			env_value(environ, "LD_PRELOAD")) ||
		!setting_copy(settings.mount, sizeof(settings.mount), mount)) {
		fs_mode = FS_OFF;
		return false;
	}
	size = strlen(settings.mount);
	while (size > 1 && settings.mount[size - 1] == '/')
		settings.mount[--size] = 0;
	settings.mount_size = size;
	settings.debug = env_value(environ, "WFS_DEBUG") != NULL;
	if (settings.mount[0] != '/' || size < 2) {
		fs_mode = FS_OFF;
		return false;
	}
	fs_mode = FS_ON;
	return true;
}

void fs_watch_fork(void)
{
	long page;

	if (fs_alive)
		return;
	page = raw(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page < 0 && page > -4096)
		return;
	(void)raw(SYS_madvise, page, 4096, MADV_WIPEONFORK);
	*(_Atomic uint32_t *)page = 1;
	fs_alive = (_Atomic uint32_t *)page;
}

void fs_check_fork_slow(void)
{
	struct client *old;
	int socket_fd = -1, event_fd = -1;

	/* The first thread of a child is alone; a second one comes after its first call. */
	if (__atomic_exchange_n((uint32_t *)fs_alive, 1, __ATOMIC_ACQ_REL))
		return;
	old = client;
	client = NULL;
	attach_guard = (struct guard){0};
	epoch++;
	fd_forked();
	if (old) {
		client_fds(old, &socket_fd, &event_fd);
		fd_release(socket_fd);
		fd_release(event_fd);
		client_forget(old);
	}
}

struct client *fs_attached(void)
{
	return client;
}

uint32_t fs_epoch(void)
{
	return epoch;
}

static int fs_attach(struct client **client_out)
{
	int socket_fd = -1, event_fd = -1;
	struct client *c;
	int rc;

	rc = client_attach(settings.socket, settings.filesystem, settings.mount, &c);
	if (rc)
		return rc;
	(void)client_move_fds(c, fd_reserve_base());
	client_fds(c, &socket_fd, &event_fd);
	fd_reserve(socket_fd);
	fd_reserve(event_fd);
	*client_out = c;
	return 0;
}

/* No handler is to wait for what it interrupted. */
static int fs_attach_once(struct client **client_out)
{
	uint64_t all = ~0ull, before;
	struct client *c;
	bool locked;
	int rc = 0;

	(void)raw(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, sizeof(all));
	locked = guard_lock(&attach_guard);
	if (!client) {
		rc = locked ? fs_attach(&c) : -EIO;
		if (!rc) {
			client = c;
			epoch++;
		}
	}
	*client_out = client;
	guard_unlock(&attach_guard, locked);
	(void)raw(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof(all));
	return *client_out ? 0 : rc ? rc : -EIO;
}

static bool is_away(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -ENOTDIR || rc == -ECONNRESET;
}

static time_t seconds(void)
{
	struct timespec now = {0};

	(void)raw(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

int fs_client(struct client **client_out)
{
	struct timespec pause = {0, PAUSE_NS};
	struct client *c;
	time_t until;
	int rc;

	fs_check_fork();
	c = client;
	if (c) {
		*client_out = c;
		return 0;
	}
	fs_watch_fork();
	until = seconds() + PATIENCE_S;
	for (;;) {
		rc = fs_attach_once(client_out);
		if (!is_away(rc)) {
			given_up = given_up && rc;
			return rc;
		}
		/* "No such file" would be believed of the file that was asked for. */
		if (given_up || seconds() > until) {
			given_up = true;
			return -EIO;
		}
		(void)raw(SYS_nanosleep, &pause, NULL);
	}
}

long fs_result(long rc)
{
	if (rc == -ENOTCONN) {
		given_up = true;
		client = NULL;
		return -EIO;
	}
	return rc;
}

uint32_t fs_umask(void)
{
	int64_t known = umask_known;

	if (known < 0) {
		known = raw(SYS_umask, 077);
		(void)raw(SYS_umask, known);
		umask_known = known;
	}
	return (uint32_t)known;
}

void fs_umask_set(uint32_t mask)
{
	umask_known = mask & 0777;
}

static mode_t WFS_USED wfs_umask(mode_t mask)
{
	fs_umask_set(mask);
	return REAL(umask)(mask);
}
EXPORT(umask, wfs_umask);

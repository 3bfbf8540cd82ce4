/*
 * posix_spawn.
 *
 * libc's own does it, with the environment put right, unless an action or the program
 * names something in WFS: then a fork, the actions by the shim's own calls, exec, and a
 * pipe that brings back an error. The actions are libc's private structure; before it is
 * read the first time, a list made by libc itself is decoded and compared. If that fails
 * libc's function is always used, and actions on WFS paths fail there with ENOENT.
 */
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/preload/calls.h"
#include "shim/preload/fd.h"
#include "shim/preload/fs.h"
#include "shim/preload/map.h"
#include "shim/preload/process.h"
#include "shim/preload/raw.h"
#include "shim/preload/real.h"

/* The layout of glibc 2.29 and later. */
enum action_tag {
	ACTION_CLOSE, ACTION_DUP2, ACTION_OPEN, ACTION_CHDIR, ACTION_FCHDIR,
	ACTION_CLOSEFROM, ACTION_TCSETPGRP,
};

struct action {
	enum action_tag tag;
	union {
		struct {
			int fd;
			int to;
		} dup;
		struct {
			int fd;
			char *path;
			int flags;
			mode_t mode;
		} open;
		char *chdir_path;
		int fd;
	};
};

static const struct action *actions_of(const posix_spawn_file_actions_t *fa)
{
	return (const struct action *)(const void *)fa->__actions;
}

static bool layout_matches(const posix_spawn_file_actions_t *fa)
{
	const struct action *a = actions_of(fa);

	return fa->__used == 6 && a[0].tag == ACTION_OPEN && a[0].open.fd == 5 &&
	       !strcmp(a[0].open.path, "/x") && a[0].open.flags == O_RDWR &&
	       a[0].open.mode == 0640 && a[1].tag == ACTION_DUP2 && a[1].dup.fd == 7 &&
	       a[1].dup.to == 8 && a[2].tag == ACTION_CLOSE && a[2].fd == 9 &&
	       a[3].tag == ACTION_CHDIR && !strcmp(a[3].chdir_path, "/y") &&
	       a[4].tag == ACTION_FCHDIR && a[4].fd == 11 &&
	       a[5].tag == ACTION_CLOSEFROM && a[5].fd == 12;
}

/* Does libc lay out its actions as we think? */
static bool layout_known(void)
{
	static _Atomic int known; /* 0: not looked; 1: yes; 2: no */
	posix_spawn_file_actions_t fa;

	if (known)
		return known == 1;
	if (posix_spawn_file_actions_init(&fa))
		return false;
	known = !posix_spawn_file_actions_addopen(&fa, 5, "/x", O_RDWR, 0640) &&
				!posix_spawn_file_actions_adddup2(&fa, 7, 8) &&
				!posix_spawn_file_actions_addclose(&fa, 9) &&
				!posix_spawn_file_actions_addchdir_np(&fa, "/y") &&
				!posix_spawn_file_actions_addfchdir_np(&fa, 11) &&
				!posix_spawn_file_actions_addclosefrom_np(&fa, 12) &&
				layout_matches(&fa)
			? 1
			: 2;
	(void)posix_spawn_file_actions_destroy(&fa);
	return known == 1;
}

static bool fd_is_wfs(int fd)
{
	struct file *f = fd_file(fd);

	fd_put(f);
	return f != NULL;
}

/* Whether the shim has to do it itself. */
static bool spawn_is_ours(
	const char *file, bool search, const posix_spawn_file_actions_t *fa)
{
	const char *path = env_value(environ, "PATH");
	const char *mount = fs_settings()->mount;
	const struct action *a;

	if (!search || strchr(file, '/')) {
		if (path_is_wfs(AT_FDCWD, file))
			return true;
	} else if (path && strstr(path, mount)) {
		return true;
	}
	if (!fa || !fa->__used || !layout_known())
		return false;
	a = actions_of(fa);
	for (int i = 0; i < fa->__used; i++) {
		if (a[i].tag == ACTION_OPEN && path_is_wfs(AT_FDCWD, a[i].open.path))
			return true;
		if (a[i].tag == ACTION_CHDIR && path_is_wfs(AT_FDCWD, a[i].chdir_path))
			return true;
		if (a[i].tag == ACTION_FCHDIR && fd_is_wfs(a[i].fd))
			return true;
	}
	return false;
}

/* --- in the child ------------------------------------------------------------------- */

static int child_open(const struct action *a)
{
	int fd, rc = 0;

	(void)wfs_close(a->open.fd);
	fd = wfs_openat_mode(AT_FDCWD, a->open.path, a->open.flags, a->open.mode);
	if (fd < 0)
		return errno;
	if (fd == a->open.fd)
		return 0;
	if (wfs_dup2(fd, a->open.fd) < 0)
		rc = errno;
	(void)wfs_close(fd);
	return rc;
}

static int child_action(const struct action *a)
{
	switch (a->tag) {
	case ACTION_CLOSE:
		(void)wfs_close(a->fd);
		return 0;
	case ACTION_DUP2:
		if (a->dup.fd != a->dup.to)
			return wfs_dup2(a->dup.fd, a->dup.to) < 0 ? errno : 0;
		return raw(SYS_fcntl, a->dup.fd, F_SETFD, 0) < 0 ? EBADF : 0;
	case ACTION_OPEN:
		return child_open(a);
	case ACTION_CHDIR:
		return wfs_chdir(a->chdir_path) ? errno : 0;
	case ACTION_FCHDIR:
		return wfs_fchdir(a->fd) ? errno : 0;
	case ACTION_CLOSEFROM:
		return wfs_close_range((unsigned)a->fd, ~0u, 0) ? errno : 0;
	case ACTION_TCSETPGRP:
		return tcsetpgrp(a->fd, getpgrp()) ? errno : 0;
	}
	return EINVAL;
}

static int child_scheduling(const posix_spawnattr_t *attr, short flags)
{
	struct sched_param param;
	int policy;

	(void)posix_spawnattr_getschedparam(attr, &param);
	(void)posix_spawnattr_getschedpolicy(attr, &policy);
	if (flags & POSIX_SPAWN_SETSCHEDULER)
		return sched_setscheduler(0, policy, &param) ? errno : 0;
	if (flags & POSIX_SPAWN_SETSCHEDPARAM)
		return sched_setparam(0, &param) ? errno : 0;
	return 0;
}

static int child_attributes(const posix_spawnattr_t *attr)
{
	struct sigaction usual = {.sa_handler = SIG_DFL};
	sigset_t set;
	short flags = 0;
	pid_t group;
	int rc;

	if (!attr)
		return 0;
	(void)posix_spawnattr_getflags(attr, &flags);
	if (flags & POSIX_SPAWN_SETSIGDEF) {
		(void)posix_spawnattr_getsigdefault(attr, &set);
		for (int sig = 1; sig < NSIG; sig++)
			if (sigismember(&set, sig) == 1)
				(void)sigaction(sig, &usual, NULL);
	}
	rc = child_scheduling(attr, flags);
	if (rc)
		return rc;
	if ((flags & POSIX_SPAWN_SETSID) && setsid() < 0)
		return errno;
	(void)posix_spawnattr_getpgroup(attr, &group);
	if ((flags & POSIX_SPAWN_SETPGROUP) && setpgid(0, group))
		return errno;
	if ((flags & POSIX_SPAWN_RESETIDS) && (setegid(getgid()) || seteuid(getuid())))
		return errno;
	return 0;
}

struct spawn {
	const char *file;
	bool search;
	const posix_spawn_file_actions_t *actions;
	const posix_spawnattr_t *attr;
	char *const *argv;
	char *const *envp;
};

static int child_run(const struct spawn *s)
{
	sigset_t mask;
	short flags = 0;
	int rc = child_attributes(s->attr);

	for (int i = 0; !rc && s->actions && i < s->actions->__used; i++)
		rc = child_action(&actions_of(s->actions)[i]);
	if (rc)
		return rc;
	if (s->attr)
		(void)posix_spawnattr_getflags(s->attr, &flags);
	if (flags & POSIX_SPAWN_SETSIGMASK) {
		(void)posix_spawnattr_getsigmask(s->attr, &mask);
		(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	}
	if (s->search)
		(void)exec_search(s->file, s->argv, s->envp);
	else
		(void)wfs_execve(s->file, s->argv, s->envp);
	return errno;
}

/* The pipe's end must not be a number that the actions use. */
static int pipe_make(int ends[2])
{
	int high;

	if (raw(SYS_pipe2, ends, O_CLOEXEC))
		return -EMFILE;
	high = (int)raw(SYS_fcntl, ends[1], F_DUPFD_CLOEXEC, fd_reserve_base());
	if (high >= 0) {
		(void)raw(SYS_close, ends[1]);
		ends[1] = high;
		fd_reserve(high);
	}
	return 0;
}

static int spawn_own(pid_t *pid_out, const struct spawn *s)
{
	int ends[2], rc = 0, status;
	pid_t pid;

	if (pipe_make(ends))
		return EMFILE;
	fd_shared();
	(void)map_flush_file(NULL);
	pid = REAL(fork)();
	if (!pid) {
		(void)raw(SYS_close, ends[0]);
		rc = child_run(s);
		(void)raw(SYS_write, ends[1], &rc, sizeof(rc));
		for (;;)
			(void)raw(SYS_exit_group, 127);
	}
	fd_release(ends[1]);
	(void)raw(SYS_close, ends[1]);
	if (pid < 0)
		rc = errno;
	else if (raw(SYS_read, ends[0], &rc, sizeof(rc)) == sizeof(rc))
		(void)raw(SYS_wait4, pid, &status, 0, NULL);
	else
		rc = 0;
	(void)raw(SYS_close, ends[0]);
	if (!rc && pid_out)
		*pid_out = pid;
	return rc;
}

static int spawn_any(pid_t *pid_out, const struct spawn *s)
{
	struct exec_env e;
	int saved = errno, rc;

	if (spawn_is_ours(s->file, s->search, s->actions)) {
		rc = spawn_own(pid_out, s);
		errno = saved;
		return rc;
	}
	rc = exec_env_make(s->envp, &e);
	if (rc)
		return -rc;
	fd_shared();
	rc = (s->search ? REAL(posix_spawnp) : REAL(posix_spawn))(
		pid_out, s->file, s->actions, s->attr, s->argv, e.env);
	exec_env_drop(&e);
	return rc;
}

static int WFS_USED wfs_posix_spawn(pid_t *pid, const char *path,
	const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[])
{
	struct spawn s = {path, false, actions, attr, argv, envp};

	return fs_on() ? spawn_any(pid, &s)
		       : REAL(posix_spawn)(pid, path, actions, attr, argv, envp);
}
EXPORT(posix_spawn, wfs_posix_spawn);

static int WFS_USED wfs_posix_spawnp(pid_t *pid, const char *file,
	const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
	char *const argv[], char *const envp[])
{
	struct spawn s = {file, true, actions, attr, argv, envp};

	return fs_on() ? spawn_any(pid, &s)
		       : REAL(posix_spawnp)(pid, file, actions, attr, argv, envp);
}
EXPORT(posix_spawnp, wfs_posix_spawnp);

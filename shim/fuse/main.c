/*
 * wfs-fuse: attach, mount, serve, and end.
 *
 *   mounted --umount, fusermount3 -u--> the kernel closes /dev/fuse --> workers end -->
 * exit
 *      `-- SIGTERM: dirty pages out, detach --> the last user leaves, or a while --> exit
 *
 * The main thread only waits for signals; a worker that finds the session over sends it
 * SIGUSR1. Whoever still has files open when we exit gets ENOTCONN; so does everybody
 * when we are killed, until somebody unmounts (wfsctl mount does, and mounts anew).
 *
 * Exit codes: 0 unmounted, 1 failed while serving, 2 cannot start, with one line on
 * stderr that says what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "shim/fuse/mount.h"

#define FUSE_VERSION_TEXT "0.1.0"
#define WORKERS           24u /* fewer than the client has slots */
#define BACKGROUND_MAX    64u
#define INIT_WAIT_S       10
#define LINGER_S          3 /* after SIGTERM, for those who still use it */

struct mount mount_this;

static struct fuse_session *session;
static pthread_t main_thread;
static pthread_t workers[WORKERS];
static _Atomic uint32_t working; /* requests being carried out */
static _Atomic bool is_hopeless;

static _Thread_local struct {
	struct cred cred;
	void *room;
	size_t room_size;
} worker;

/* --- for the requests ----------------------------------------------------------------
 */

void mount_act(fuse_req_t req, enum mount_groups groups)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct cred *cred = &worker.cred;
	int count = 0;

	cred->uid = ctx->uid;
	cred->gid = ctx->gid;
	/* Root needs none. Whoever has no pid here has none that we could learn of. */
	if (groups == WITH_GROUPS && ctx->uid != 0 && ctx->pid != 0)
		count = fuse_req_getgroups(req, (int)WFS_GROUPS_MAX, cred->groups);
	cred->group_count = count < 0 ? 0 : (uint32_t)count;
	if (cred->group_count > WFS_GROUPS_MAX)
		cred->group_count = WFS_GROUPS_MAX;
	client_act_as(cred);
}

void mount_act_self(void)
{
	client_act_as(NULL);
}

void *mount_room(size_t size)
{
	if (size > worker.room_size || !worker.room) {
		mem_free(worker.room);
		worker.room_size = size > MOUNT_IO_MAX ? size : MOUNT_IO_MAX;
		worker.room = mem_alloc(worker.room_size);
		if (!worker.room)
			worker.room_size = 0;
	}
	return worker.room;
}

void mount_reply(fuse_req_t req, int rc)
{
	if (rc == -ENOTCONN) {
		if (client_is_dead(mount_this.client))
			mount_this.hopeless();
		/* ENOTCONN is for a mount without its daemon. */
		rc = -EIO;
	}
	fuse_reply_err(req, -rc);
}

static void hopeless(void)
{
	if (atomic_exchange(&is_hopeless, true))
		return;
	log_error("wfsd has refused this mount for good: it ends; mount it anew");
	pthread_kill(main_thread, SIGUSR1);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->max_write = MOUNT_IO_MAX;
	conn->max_read = MOUNT_IO_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	/* It would cache what must not be; and nothing here lies in a pipe. */
	conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_CACHE_SYMLINKS |
				  FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE);
	conn->want |=
		conn->capable & (FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC |
					FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ASYNC_DIO |
					FUSE_CAP_PARALLEL_DIROPS);
}

/* --- workers -------------------------------------------------------------------------
 */

static void *worker_main(void *arg)
{
	struct fuse_buf buf = {0};

	(void)arg;
	while (!fuse_session_exited(session)) {
		int n = fuse_session_receive_buf(session, &buf);

		if (n == -EINTR || n == -EAGAIN || n == -ENOENT)
			continue;
		if (n <= 0)
			break;
		atomic_fetch_add(&working, 1);
		fuse_session_process_buf(session, &buf);
		atomic_fetch_sub(&working, 1);
	}
	fuse_session_exit(session);
	free(buf.mem); /* libfuse's */
	mem_free(worker.room);
	pthread_kill(main_thread, SIGUSR1);
	return NULL;
}

static int workers_start(void)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		int rc = pthread_create(&workers[i], NULL, worker_main, NULL);

		if (rc)
			return -rc;
	}
	return 0;
}

/* --- the life of the mount -----------------------------------------------------------
 */

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fputs("wfs-fuse: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	va_end(ap);
	return 2;
}

static void fuse_says(enum fuse_log_level level, const char *format, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, ap);
	text[strcspn(text, "\n")] = 0;
	log_line(level <= FUSE_LOG_ERR ? LOG_ERROR : LOG_WARN, "libfuse says=\"%s\"",
		text);
}

static void signals_prepare(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

static int signal_wait(const sigset_t *set, int seconds)
{
	struct timespec limit = {.tv_sec = seconds};
	int signal;

	do
		signal = sigtimedwait(set, NULL, &limit);
	while (signal < 0 && errno == EINTR);
	return signal;
}

/* Dirty pages of mappings go out, and nobody new comes in. */
static void mount_detach(const char *mountpoint)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		if (syncfs(fd))
			log_error("sync failed error=%d", errno);
		close(fd);
	}
	if (umount2(mountpoint, MNT_DETACH))
		log_error("cannot unmount mountpoint=%s error=%d", mountpoint, errno);
}

static void requests_drain(void)
{
	fuse_session_exit(session);
	for (int i = 0; i < 1000 && atomic_load(&working); i++)
		usleep(1000);
}

/* Exit code. */
static int serve(const char *mountpoint, const sigset_t *set)
{
	int signal;

	do
		signal = signal_wait(set, INT_MAX);
	while (signal < 0);
	if (signal != SIGUSR1) {
		mount_detach(mountpoint);
		if (signal_wait(set, LINGER_S) != SIGUSR1) {
			log_warn("ended while in use mountpoint=%s", mountpoint);
			requests_drain();
			return 0;
		}
	}
	if (atomic_load(&is_hopeless)) {
		requests_drain();
		return 1;
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	fuse_session_destroy(session);
	client_detach(mount_this.client);
	log_info("unmounted mountpoint=%s", mountpoint);
	return 0;
}

static int session_make(int fd)
{
	static struct fuse_lowlevel_ops ops;
	char max_read[32];
	char *argv[] = {(char *)"wfs-fuse", max_read, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);

	ops.init = op_init;
	names_ops(&ops);
	file_ops(&ops);
	dir_ops(&ops);
	/* libfuse wants to hear, too, what device_mount has told the kernel. */
	snprintf(max_read, sizeof(max_read), "-omax_read=%u", MOUNT_IO_MAX);
	fuse_set_log_func(fuse_says);
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	fuse_opt_free_args(&args);
	return session ? device_session(session, fd) : -ENOMEM;
}

/* The kernel's first request has been answered: the mount can be used. */
static int init_wait(void)
{
	for (int i = 0; i < INIT_WAIT_S * 1000; i++) {
		if (device_is_ready())
			return 0;
		if (fuse_session_exited(session))
			return -EPROTO;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

static int run(const char *mountpoint, const char *fs)
{
	char source[128];
	sigset_t set;
	int fd, rc;

	signals_prepare(&set);
	main_thread = pthread_self();
	snprintf(source, sizeof(source), "wfs:%s", fs);
	fd = device_mount(mountpoint, source);
	if (fd == -ENOENT || fd == -ENODEV)
		return complain("no FUSE: /dev/fuse is missing: modprobe fuse");
	if (fd == -EPERM || fd == -EACCES)
		return complain(
			"%s: not permitted to mount: run it as root, in a container with "
			"CAP_SYS_ADMIN and /dev/fuse",
			mountpoint);
	if (fd < 0)
		return complain("cannot mount on %s: %s", mountpoint, strerror(-fd));
	/* Memory that we need is not had by writing to ourselves. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	rc = session_make(fd);
	if (!rc)
		rc = workers_start();
	if (!rc)
		rc = init_wait();
	if (rc) {
		umount2(mountpoint, MNT_DETACH);
		return complain("cannot serve %s: %s", mountpoint, strerror(-rc));
	}
	if (!device_maps_shared())
		log_warn(
			"this kernel lets no file be mapped shared here: Linux 6.6 does");
	log_info("mounted mountpoint=%s filesystem=%s", mountpoint, fs);
	puts("ready");
	fflush(stdout);
	return serve(mountpoint, &set);
}

/* --- the command line ----------------------------------------------------------------
 */

static void usage(FILE *to)
{
	fputs("Usage: wfs-fuse --socket PATH [--fs NAME] MOUNTPOINT\n"
	      "\n"
	      "Mount a WFS filesystem for all programs of this host, and serve it in "
	      "the\n"
	      "foreground; prints \"ready\" when it does. SIGTERM unmounts.\n"
	      "\n"
	      "  -s, --socket PATH  of this host's wfsd (else $WFS_SOCKET)\n"
	      "  -f, --fs NAME      the filesystem (else $WFS_FS, else the first)\n"
	      "  -V, --version\n"
	      "  -h, --help\n"
	      "\n"
	      "Usually started by `wfsctl mount`, which also repairs a mount whose "
	      "wfs-fuse\n"
	      "has died. See wfs-fuse(8).\n"
	      "\n"
	      "Example:\n"
	      "  wfs-fuse --socket /var/lib/wfs/default/node0/wfsd.sock /wfs\n",
		to);
}

static int attach(const char *socket, const char *fs, const char *mountpoint)
{
	int rc = client_attach(socket, fs, mountpoint, &mount_this.client);

	if (rc == -ENODEV)
		return complain("%s: no such filesystem: see wfsctl fs list", fs);
	if (rc == -EPROTO)
		return complain("wfsd is of another version than wfs-fuse: restart it");
	if (rc == -ECONNREFUSED || rc == -ENOENT)
		return complain("%s: no wfsd there: start the node first", socket);
	if (rc)
		return complain("%s: cannot attach: %s", socket, strerror(-rc));
	client_persist(mount_this.client);
	mount_this.hopeless = hopeless;
	return 0;
}

static int mountpoint_check(const char *name, char *out)
{
	struct stat st;

	if (!realpath(name, out) || stat(out, &st)) {
		if (errno == ENOTCONN)
			return complain(
				"%s: a dead mount is there: umount it first", name);
		return complain(
			"%s: %s: make the directory first", name, strerror(errno));
	}
	if (!S_ISDIR(st.st_mode))
		return complain("%s: not a directory", name);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"fs", required_argument, NULL, 'f'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *socket = getenv("WFS_SOCKET"), *fs = getenv("WFS_FS");
	static char mountpoint[PATH_MAX];
	int c, rc;

	while ((c = getopt_long(argc, argv, "s:f:Vh", options, NULL)) != -1) {
		switch (c) {
		case 's': socket = optarg; break;
		case 'f': fs = optarg; break;
		case 'V': puts("wfs-fuse " FUSE_VERSION_TEXT); return 0;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind + 1 != argc || !socket) {
		if (optind + 1 == argc)
			complain("which wfsd? give --socket PATH");
		else
			usage(stderr);
		return 2;
	}
	if (geteuid() != 0)
		return complain("it acts for all users of the host: run it as root");
	rc = mountpoint_check(argv[optind], mountpoint);
	if (!rc)
		rc = attach(socket, fs ? fs : "", mountpoint);
	if (rc)
		return rc;
	if (chdir("/"))
		return complain("/: %s", strerror(errno));
	umask(0);
	return run(mountpoint, fs && *fs ? fs : "first");
}

/*
 * The listener and the life of a session.
 *
 * Every wait is a one-shot poll on the ring: the listener, each connection (for its
 * hello, then for its end), each eventfd. A session's memory stays until the last of its
 * requests and polls has come back; see session_impl.h for the states.
 *
 * The socket is one of packets: a hello arrives whole or not at all. Whoever connects and
 * says nothing is thrown out when its place is needed.
 */
#include "core/session/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/session/session_impl.h"

#define LISTEN_BACKLOG 256
#define ACCEPT_BATCH   16
#define QUIET_MAX      256u /* polls without work until dormant ... */
#define ACTIVE_FEW     8u   /* ... when more than these are active */
#define FREE_TURNS     100
#define REARM_US       100000u

static void accept_arm(struct session_server *server);
static void server_settle(struct session_server *server);

/* --- ring ops ----------------------------------------------------------------------- */

static void socket_ready(struct ring_op *op, int result);
static void event_ready(struct ring_op *op, int result);

static bool socket_arm(struct session *s)
{
	s->socket_op.done = socket_ready;
	if (ring_poll(s->server->ring, &s->socket_op, s->socket,
		    POLLIN | POLLRDHUP | POLLHUP))
		return false;
	s->socket_armed = true;
	s->ring_ops++;
	return true;
}

static bool event_arm(struct session *s)
{
	s->event_op.done = event_ready;
	if (ring_poll(s->server->ring, &s->event_op, s->event, POLLIN))
		return false;
	s->event_armed = true;
	s->ring_ops++;
	return true;
}

static void event_ready(struct ring_op *op, int result)
{
	struct session *s = container_of(op, struct session, event_op);
	uint64_t value;
	struct iovec iov = {&value, sizeof(value)};

	(void)result;
	s->event_armed = false;
	s->ring_ops--;
	if (s->state == SESSION_ENDING) {
		session_settle(s);
		return;
	}
	/* Whatever flags the program has set on its side: this does not block. */
	(void)!preadv2(s->event, &iov, 1, -1, RWF_NOWAIT);
	session_activate(s);
	if (!event_arm(s))
		session_end(s, "ring-full");
}

/* --- the end ------------------------------------------------------------------------ */

static void session_free(struct session *s)
{
	struct session_server *server = s->server;

	list_remove(&s->link);
	server->count--;
	if (s->header)
		munmap(s->header, SHM_TOTAL_SIZE);
	if (s->event >= 0)
		close(s->event);
	if (s->socket >= 0)
		close(s->socket);
	identity_release(&s->identity);
	mem_free(s);
	if (server->closing)
		server_settle(server);
	else if (!server->accept_armed)
		accept_arm(server);
}

void session_settle(struct session *s)
{
	struct session_server *server = s->server;

	if (s->under_way)
		return;
	if (!s->told) {
		s->told = true;
		if (!server->closing)
			server->ended(server->ctx, s->id);
	}
	if (s->ring_ops == 0)
		session_free(s);
}

/* The caller's last use of s, unless it holds it by under_way or ring_ops. */
void session_end(struct session *s, const char *reason)
{
	if (s->state == SESSION_ENDING)
		return;
	if (reason)
		/* Half of the number: all of it is the right to go on with the session. */
		log_warn("session ended reason=%s session=%08x pid=%d uid=%u", reason,
			(uint32_t)s->id, s->identity.pid, s->identity.cred.uid);
	/* Whoever resumed it, and was gone before anything came of it, may try again. */
	s->told = s->state == SESSION_HELLO || s->resumed;
	if (s->state == SESSION_OPEN)
		s->server->open_count--;
	s->state = SESSION_ENDING;
	list_remove(&s->hello_link);
	if (!list_empty(&s->active_link))
		s->server->active_count--;
	list_remove(&s->active_link);
	/* The program sees it at once, whoever else holds the connection. */
	shutdown(s->socket, SHUT_RDWR);
	if (s->socket_armed)
		ring_poll_cancel(s->server->ring, &s->socket_op);
	if (s->event_armed)
		ring_poll_cancel(s->server->ring, &s->event_op);
	takes_drop(s);
	session_settle(s);
}

/* --- the beginning ------------------------------------------------------------------ */

static const struct map_filesystem *filesystem_find(const struct map *map, const char *name)
{
	for (uint32_t i = 0; i < map->filesystem_count; i++)
		if (!name[0] || strcmp(map->filesystems[i].name, name) == 0)
			return &map->filesystems[i];
	return NULL;
}

static int memory_new(struct session *s, const struct map_filesystem *fs, int *memory_out)
{
	const struct map *map = s->server->map;
	int memory = memfd_create("wfs-session", MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;
	struct shm_header *h;

	if (memory < 0)
		return -errno;
	h = MAP_FAILED;
	if (!ftruncate(memory, (off_t)SHM_TOTAL_SIZE) &&
		!fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		h = mmap(NULL, SHM_TOTAL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory,
			0);
	if (h == MAP_FAILED) {
		rc = -errno;
		close(memory);
		return rc;
	}
	h->magic = SHM_MAGIC;
	h->version = SHM_VERSION;
	h->slot_count = SHM_SLOT_COUNT;
	h->shard_count = map->shard_count;
	h->owner_count = map->bucket_count <= SHM_OWNERS_MAX ? map->bucket_count : 0;
	for (uint32_t i = 0; i < h->owner_count; i++)
		h->owners[i] = (uint16_t)map->buckets[i].primary;
	h->bucket_count = map->bucket_count;
	h->timeout_ms = map->timeout_ms;
	h->session = s->id;
	h->boot = s->server->boot;
	h->root = fs->root;
	h->fsid = fs->fsid;
	h->slots_offset = SHM_SLOTS_OFFSET;
	h->data_offset = SHM_DATA_OFFSET;
	h->total_size = SHM_TOTAL_SIZE;
	/* Active from the start, until session_sleep says otherwise. */
	s->header = h;
	s->slots = (struct shm_slot *)(void *)((uint8_t *)h + SHM_SLOTS_OFFSET);
	s->data = (uint8_t *)h + SHM_DATA_OFFSET;
	*memory_out = memory;
	return 0;
}

static int welcome_send(struct session *s, int error, int memory)
{
	struct shm_welcome welcome = {
		.magic = SHM_MAGIC,
		.error = error,
		.total_size = SHM_TOTAL_SIZE,
	};
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {&welcome, sizeof(welcome)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (!error) {
		int fds[2] = {memory, s->event};
		struct cmsghdr *h;

		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		h = CMSG_FIRSTHDR(&message);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(fds));
		memcpy(CMSG_DATA(h), fds, sizeof(fds));
	}
	return sendmsg(s->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static uint64_t random_nonzero(struct env *env)
{
	uint64_t value;

	do
		value = env_random(env);
	while (value == 0);
	return value;
}

/* A new session, or one of an earlier wfsd. */
static int session_number(struct session *s, const struct shm_hello *hello)
{
	if (!hello->session) {
		s->id = random_nonzero(s->server->env);
		return 0;
	}
	if (hello->boot == s->server->boot)
		return -ECONNABORTED;
	list_for_each(it, tmp, &s->server->sessions)
		if (container_of(it, struct session, link)->id == hello->session)
			return -EBUSY;
	s->id = hello->session;
	s->resumed = true;
	return 0;
}

static int session_open(struct session *s, const struct shm_hello *hello)
{
	const struct map_filesystem *fs = filesystem_find(s->server->map, hello->filesystem);
	int memory = -1, rc;

	if (!fs)
		return -ENODEV;
	rc = identity_init(&s->identity, s->socket);
	if (rc)
		return rc;
	rc = session_number(s, hello);
	if (rc)
		return rc;
	s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->event < 0)
		return -errno;
	rc = memory_new(s, fs, &memory);
	if (rc)
		return rc;
	if (!event_arm(s))
		rc = -EAGAIN;
	if (!rc) {
		s->state = SESSION_OPEN;
		s->server->open_count++;
		list_remove(&s->hello_link);
		session_activate(s);
		rc = welcome_send(s, 0, memory);
	}
	close(memory);
	return rc;
}

/* Bytes of a hello that is whole and of our version, or errno. */
static int hello_receive(struct session *s, struct shm_hello *hello)
{
	ssize_t size = recv(s->socket, hello, sizeof(*hello), MSG_DONTWAIT | MSG_TRUNC);

	if (size < 0)
		return -errno;
	if (size == 0)
		return -ECONNRESET;
	if (size != sizeof(*hello) || hello->magic != SHM_MAGIC ||
		!memchr(hello->filesystem, 0, sizeof(hello->filesystem)))
		return -EPROTO;
	return hello->version == SHM_VERSION ? 0 : -EPROTONOSUPPORT;
}

/* Nothing to be said of it: it asked for what is not there, or too soon, or it was told
 * before why not. */
static bool quiet(int rc)
{
	return rc == -ENODEV || rc == -EBUSY || rc == -ECONNABORTED;
}

static void hello_readable(struct session *s)
{
	struct shm_hello hello;
	int rc = hello_receive(s, &hello);

	if (rc == -EAGAIN || rc == -EINTR) {
		if (!socket_arm(s))
			session_end(s, "ring-full");
		return;
	}
	if (rc == -ECONNRESET) {
		session_end(s, NULL);
		return;
	}
	if (rc == -EPROTO) {
		session_end(s, "hello");
		return;
	}
	if (!rc)
		rc = session_open(s, &hello);
	if (rc == 0 && !socket_arm(s))
		rc = -EAGAIN;
	if (rc) {
		welcome_send(s, rc == -EPROTONOSUPPORT ? EPROTO : -rc, -1);
		session_end(s, quiet(rc) ? NULL : "attach");
	}
}

static void socket_ready(struct ring_op *op, int result)
{
	struct session *s = container_of(op, struct session, socket_op);
	char byte;

	s->socket_armed = false;
	s->ring_ops--;
	if (s->state == SESSION_ENDING) {
		session_settle(s);
	} else if (s->state == SESSION_HELLO && result > 0 && (result & POLLIN)) {
		hello_readable(s);
	} else if (result > 0 && (result & POLLIN) &&
		recv(s->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
		session_end(s, "data-on-socket");
	} else {
		session_end(s, NULL);
	}
}

static void session_new(struct session_server *server, int socket)
{
	struct session *s = mem_zalloc(sizeof(*s));

	if (!s) {
		close(socket);
		return;
	}
	s->server = server;
	s->socket = socket;
	s->event = -1;
	s->identity.pidfd = -1;
	s->state = SESSION_HELLO;
	list_init(&s->active_link);
	list_push_back(&server->sessions, &s->link);
	list_push_back(&server->hellos, &s->hello_link);
	server->count++;
	if (!socket_arm(s))
		session_end(s, "ring-full");
}

/* --- the listener ------------------------------------------------------------------- */

static void accept_ready(struct ring_op *op, int result)
{
	struct session_server *server = container_of(op, struct session_server, accept_op);

	server->accept_armed = false;
	if (server->closing) {
		server_settle(server);
		return;
	}
	(void)result;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int socket;

		if (server->count >= SESSION_COUNT_MAX && !list_empty(&server->hellos))
			session_end(list_first(&server->hellos, struct session, hello_link),
				"silent");
		socket = accept4(server->listener, NULL, NULL,
			SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (socket < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			/* Until a session ends, or a while has passed. */
			server->rearm_us = env_now_us(server->env) + REARM_US;
			return;
		}
		if (socket < 0)
			break;
		if (server->count >= SESSION_COUNT_MAX) {
			log_warn("session refused reason=too-many count=%u", server->count);
			close(socket);
			continue;
		}
		session_new(server, socket);
	}
	accept_arm(server);
}

static void accept_arm(struct session_server *server)
{
	if (server->closing || server->accept_armed)
		return;
	server->accept_op.done = accept_ready;
	server->accept_armed = ring_poll(server->ring, &server->accept_op,
		server->listener, POLLIN) == 0;
}

/* -EADDRINUSE when somebody answers there; else a stale file is taken away. */
static int stale_remove(const struct sockaddr_un *address)
{
	int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc;

	if (probe < 0)
		return -errno;
	rc = connect(probe, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	close(probe);
	if (rc != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) && errno != ENOENT ? -errno : 0;
}

static int listener_open(struct session_server *server, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	int fd, rc = 0;

	if (length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, length + 1);
	memcpy(server->path, path, length + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		rc = bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
		if (rc != -EADDRINUSE || i)
			break;
		rc = stale_remove(&address);
		if (rc)
			break;
	}
	if (!rc && (chmod(path, 0666) || listen(fd, LISTEN_BACKLOG)))
		rc = -errno;
	if (rc) {
		close(fd);
		return rc;
	}
	server->listener = fd;
	return 0;
}

/* --- the server --------------------------------------------------------------------- */

/*
 * Where programs of this host meet outside WFS, beside the socket: advisory locks,
 * shared writable mappings, fifos and sockets, each named by its inode. What an earlier
 * run left is harmless. Without them only those calls fail.
 */
static void side_folders_make(const char *socket_path)
{
	static const char *const names[] = {"locks", "maps", "fifos", "sockets"};
	const char *slash = strrchr(socket_path, '/');
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%.*s%s",
			slash ? (int)(slash - socket_path + 1) : 0, socket_path, names[i]);
		if (mkdir(path, 01777) == 0 && chmod(path, 01777) < 0)
			log_warn("folder path=%s errno=%d", path, errno);
	}
}

int session_server_new(const struct session_options *opt,
	struct session_server **server_out)
{
	struct session_server *server = mem_zalloc(sizeof(*server));
	int rc;

	if (!server)
		return -ENOMEM;
	server->env = opt->env;
	server->boot = random_nonzero(opt->env);
	server->ring = opt->ring;
	server->map = opt->map;
	server->submit = opt->submit;
	server->ended = opt->ended;
	server->answered = opt->answered;
	server->ctx = opt->ctx;
	list_init(&server->sessions);
	list_init(&server->active);
	list_init(&server->hellos);
	list_init(&server->pool);
	list_init(&server->again);
	rc = listener_open(server, opt->socket_path);
	if (rc) {
		mem_free(server);
		return rc;
	}
	side_folders_make(opt->socket_path);
	accept_arm(server);
	*server_out = server;
	return 0;
}

/* After session_server_free: whoever comes back last takes the server along. */
static void server_settle(struct session_server *server)
{
	if (server->count == 0 && !server->accept_armed && server->listener < 0) {
		take_pool_release(server);
		mem_free(server);
	}
}

void session_server_quit(struct session_server *server)
{
	if (!server || server->closing)
		return;
	server->closing = true;
	unlink(server->path);
	list_for_each(it, tmp, &server->sessions)
		session_end(container_of(it, struct session, link), NULL);
}

void session_server_free(struct session_server *server)
{
	struct ring *ring;
	int listener;

	if (!server)
		return;
	ring = server->ring;
	session_server_quit(server);
	if (server->accept_armed)
		ring_poll_cancel(ring, &server->accept_op);
	/* While the listener is there the server is not freed under us. */
	for (int i = 0; i < FREE_TURNS && (server->accept_armed || server->count); i++)
		if (ring_wait(ring, 1000) < 0)
			break;
	listener = server->listener;
	server->listener = -1;
	close(listener);
	server_settle(server);
}

void session_map_set(struct session_server *server, const struct map *map)
{
	server->map = map;
}

uint32_t session_count(const struct session_server *server)
{
	return server->open_count;
}

/* --- polling ------------------------------------------------------------------------ */

void session_activate(struct session *s)
{
	s->quiet = 0;
	if (!list_empty(&s->active_link))
		return;
	list_push_back(&s->server->active, &s->active_link);
	s->server->active_count++;
	atomic_store(&s->header->asleep, 0);
}

/* False: something was submitted meanwhile; it stays active. */
static bool session_doze(struct session *s)
{
	atomic_store(&s->header->asleep, 1);
	if (atomic_load(&s->header->submitted)) {
		atomic_store(&s->header->asleep, 0);
		return false;
	}
	list_remove(&s->active_link);
	s->server->active_count--;
	return true;
}

unsigned session_poll(struct session_server *server)
{
	struct list turn;
	unsigned count = takes_again(server);

	if (!server->accept_armed && env_now_us(server->env) >= server->rearm_us)
		accept_arm(server);
	/* Sessions may end while we go through them; each leaves whatever list it is on. */
	list_init(&turn);
	list_splice_back(&turn, &server->active);
	while (!list_empty(&turn)) {
		struct session *s = list_first(&turn, struct session, active_link);

		list_remove(&s->active_link);
		list_push_back(&server->active, &s->active_link);
		if (atomic_load_explicit(&s->header->submitted, memory_order_relaxed)) {
			s->quiet = 0;
			count += session_take(s);
		} else if (++s->quiet > QUIET_MAX && server->active_count > ACTIVE_FEW) {
			session_doze(s);
		}
	}
	return count;
}

uint64_t session_next_us(const struct session_server *server)
{
	const struct take *t;
	uint64_t now;

	if (list_empty(&server->again))
		return UINT64_MAX;
	t = container_of(server->again.next, struct take, link);
	now = env_now_us(server->env);
	return t->again_us > now ? t->again_us - now : 0;
}

bool session_sleep(struct session_server *server)
{
	bool all = true;

	list_for_each(it, tmp, &server->active)
		if (!session_doze(container_of(it, struct session, active_link)))
			all = false;
	return all;
}

void session_awake(struct session_server *server)
{
	/* A session whose eventfd fired is active again; the others keep asleep set. */
	(void)server;
}

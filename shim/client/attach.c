/*
 * Attach and detach: the connection to the host's wfsd, and the memory it hands out.
 *
 * The header of the shared memory is copied once and not believed again; what matters in
 * it must be the same at every attachment after the first (ride.c). A page that the
 * kernel wipes on fork tells a child that the session is not its own.
 */
#include <errno.h>
#include <sys/un.h>

#include "shim/client/internal.h"

#define ATTACH_TIMEOUT_S 5
#define ALIVE_SIZE       4096u

static size_t client_size(void)
{
	return (sizeof(struct client) + 4095) & ~(size_t)4095;
}

static int connect_to(const char *path, int *fd_out)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = ATTACH_TIMEOUT_S};
	size_t length = strlen(path);
	long fd, rc;

	if (length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, length + 1);
	fd = sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return (int)fd;
	sys_setsockopt((int)fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	sys_setsockopt((int)fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	do
		rc = sys_connect((int)fd, &address, sizeof(address));
	while (rc == -EINTR);
	if (rc < 0) {
		sys_close((int)fd);
		return rc == -EAGAIN ? -ETIMEDOUT : (int)rc;
	}
	*fd_out = (int)fd;
	return 0;
}

static int hello_send(int fd, const struct client *c)
{
	struct shm_hello hello = {
		.magic = SHM_MAGIC,
		.version = SHM_VERSION,
		.session = c->session,
		.boot = c->boot,
	};
	struct iovec iov = {&hello, sizeof(hello)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	long rc;

	memcpy(hello.filesystem, c->filesystem, sizeof(hello.filesystem));
	do
		rc = sys_sendmsg(fd, &message, MSG_NOSIGNAL);
	while (rc == -EINTR);
	if (rc < 0)
		return rc == -EAGAIN ? -ETIMEDOUT : (int)rc;
	return 0;
}

static void fds_of(struct msghdr *message, int fds[2])
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
			h->cmsg_len == CMSG_LEN(2 * sizeof(int)))
			memcpy(fds, CMSG_DATA(h), 2 * sizeof(int));
}

static int welcome_receive(int fd, struct shm_welcome *welcome, int fds[2])
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {welcome, sizeof(*welcome)};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	long rc;

	do
		rc = sys_recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (rc == -EINTR);
	if (rc == -EAGAIN)
		return -ETIMEDOUT;
	if (rc < 0)
		return (int)rc;
	if (rc == 0)
		return -ECONNREFUSED; /* it is full, or going down */
	fds_of(&message, fds);
	if (rc != sizeof(*welcome) || welcome->magic != SHM_MAGIC)
		return -EPROTO;
	if (welcome->error)
		return welcome->error > 0 && welcome->error < 4096 ? -welcome->error : -EPROTO;
	return fds[0] >= 0 && welcome->total_size == SHM_TOTAL_SIZE ? 0 : -EPROTO;
}

static int memory_map(struct memory *m, int memory)
{
	struct shm_header *h = m->header ?
		sys_mmap_at(m->header, SHM_TOTAL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			memory) :
		sys_mmap(SHM_TOTAL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory);

	if (sys_mmap_failed(h))
		return (int)(long)h;
	m->header = h;
	return 0;
}

void attach_owners(struct client *c, const struct shm_header *h)
{
	uint32_t count = h->owner_count;

	c->owner_count = count < SHM_OWNERS_MAX ? count : SHM_OWNERS_MAX;
	for (uint32_t i = 0; i < c->owner_count; i++)
		c->owners[i] = h->owners[i];
}

/* The first time it is learnt, and then it must not change. */
static int header_take(struct client *c, const struct shm_header *h)
{
	if (h->magic != SHM_MAGIC || h->version != SHM_VERSION ||
		h->slot_count != SHM_SLOT_COUNT || h->slots_offset != SHM_SLOTS_OFFSET ||
		h->data_offset != SHM_DATA_OFFSET)
		return -EPROTO;
	c->boot = h->boot;
	if (c->session)
		return c->session == h->session && c->bucket_count == h->bucket_count &&
			       c->root == h->root ? 0 : -EPROTO;
	c->shard_count = h->shard_count;
	c->bucket_count = h->bucket_count;
	c->timeout_ms = h->timeout_ms;
	c->session = h->session;
	c->root = h->root;
	attach_owners(c, h);
	return c->shard_count && c->timeout_ms && c->session && c->bucket_count &&
		       !(c->bucket_count & (c->bucket_count - 1)) ? 0 : -EPROTO;
}

static bool several_cpus(void)
{
	unsigned long mask[16];
	long size = sys_sched_getaffinity(mask, sizeof(mask));
	int count = 0;

	for (long i = 0; i < size / (long)sizeof(mask[0]); i++)
		count += __builtin_popcountl(mask[i]);
	return size < 0 || count > 1;
}

static int names_set(struct client *c, const char *socket_path, const char *filesystem,
	const char *mount)
{
	size_t socket_size = strlen(socket_path), mount_size = strlen(mount);
	size_t size = filesystem ? strlen(filesystem) : 0;

	while (mount_size > 0 && mount[mount_size - 1] == '/')
		mount_size--;
	if (mount_size >= sizeof(c->mount) || socket_size >= sizeof(c->socket_path))
		return -ENAMETOOLONG;
	if (size >= sizeof(c->filesystem))
		return -ENODEV;
	memcpy(c->mount, mount, mount_size);
	memcpy(c->socket_path, socket_path, socket_size);
	if (size)
		memcpy(c->filesystem, filesystem, size);
	return 0;
}

static int client_new(struct client **client_out)
{
	struct client *c = sys_mmap(client_size(), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1);
	void *alive;
	int rc;

	if (sys_mmap_failed(c))
		return (int)(long)c;
	alive = sys_mmap(ALIVE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1);
	rc = sys_mmap_failed(alive) ? (int)(long)alive :
		(int)sys_madvise(alive, ALIVE_SIZE, MADV_WIPEONFORK);
	if (rc) {
		sys_munmap(c, client_size());
		return rc;
	}
	c->alive = alive;
	atomic_store(c->alive, 1);
	atomic_store(&c->socket, -1);
	atomic_store(&c->event, -1);
	c->may_spin = several_cpus();
	c->pid = sys_getpid();
	*client_out = c;
	return 0;
}

int attach_connect(struct client *c, struct memory *m, int *socket_out, int *event_out)
{
	struct shm_welcome welcome = {0};
	int fds[2] = {-1, -1}, fd = -1, rc;

	rc = connect_to(c->socket_path, &fd);
	if (!rc)
		rc = hello_send(fd, c);
	if (!rc)
		rc = welcome_receive(fd, &welcome, fds);
	if (!rc)
		rc = memory_map(m, fds[0]);
	if (!rc)
		rc = header_take(c, m->header);
	if (fds[0] >= 0)
		sys_close(fds[0]);
	if (rc) {
		if (fds[1] >= 0)
			sys_close(fds[1]);
		if (fd >= 0)
			sys_close(fd);
		return rc;
	}
	*socket_out = fd;
	*event_out = fds[1];
	return 0;
}

int client_attach(const char *socket_path, const char *filesystem, const char *mount,
	struct client **client_out)
{
	int socket = -1, event = -1, rc;
	struct client *c;

	rc = client_new(&c);
	if (rc)
		return rc;
	rc = names_set(c, socket_path, filesystem, mount);
	if (!rc)
		rc = attach_connect(c, &c->memories[0], &socket, &event);
	if (rc) {
		client_detach(c);
		return rc;
	}
	atomic_store(&c->socket, socket);
	atomic_store(&c->event, event);
	atomic_store(&c->memories[0].users, 1);
	atomic_store(&c->current, &c->memories[0]);
	*client_out = c;
	return 0;
}

void client_forget(struct client *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < MEMORY_COUNT; i++)
		if (c->memories[i].header)
			sys_munmap(c->memories[i].header, SHM_TOTAL_SIZE);
	if (atomic_load(&c->event) >= 0)
		sys_close(atomic_load(&c->event));
	if (atomic_load(&c->socket) >= 0)
		sys_close(atomic_load(&c->socket));
	sys_munmap(c->alive, ALIVE_SIZE);
	sys_munmap(c, client_size());
}

void client_fail_fast(struct client *c)
{
	atomic_store(&c->fail_fast, true);
}

void client_persist(struct client *c)
{
	atomic_store(&c->persists, true);
}

bool client_is_dead(const struct client *c)
{
	return atomic_load(&c->dead);
}

/* The end of the connection is all the goodbye there is. */
void client_detach(struct client *c)
{
	client_forget(c);
}

void client_fds(const struct client *c, int *socket_out, int *event_out)
{
	*socket_out = atomic_load(&c->socket);
	*event_out = atomic_load(&c->event);
}

int client_move_fds(struct client *c, int from)
{
	long socket = sys_fcntl(atomic_load(&c->socket), F_DUPFD_CLOEXEC, from);
	long event = sys_fcntl(atomic_load(&c->event), F_DUPFD_CLOEXEC, from);
	uint64_t until_ns = client_now_ns() + 10000000u;

	if (socket < 0 || event < 0) {
		if (socket >= 0)
			sys_close((int)socket);
		if (event >= 0)
			sys_close((int)event);
		return (int)(socket < 0 ? socket : event);
	}
	socket = atomic_exchange(&c->socket, (int)socket);
	event = atomic_exchange(&c->event, (int)event);
	while (atomic_load(&c->event_users) && client_now_ns() < until_ns)
		;
	sys_close((int)socket);
	sys_close((int)event);
	return 0;
}

void client_cred_changed(struct client *c)
{
	struct memory *m;

	if (client_check(c))
		return;
	/* First ours: whoever attaches again meanwhile sees that it came too early. */
	atomic_fetch_add(&c->cred_changes, 1);
	m = memory_ref(c);
	atomic_fetch_add(&m->header->cred_generation, 1);
	memory_unref(m);
}

ino_id client_root(const struct client *c)
{
	return c->root;
}

uint32_t client_shard_count(const struct client *c)
{
	return c->shard_count;
}

uint32_t client_bucket_count(const struct client *c)
{
	return c->bucket_count;
}

int client_raw(struct client *c, struct client_raw *raw)
{
	struct call call = {
		.op = raw->op,
		.target = raw->target,
		.to_shard = raw->to_shard,
		.timeout_ms = raw->timeout_ms,
		.body_size = raw->body_size,
		.data_size = raw->data_size,
		.data_max = raw->reply_data_size,
	};
	bool lost;
	int rc, slot;

	if (raw->body_size > WIRE_BODY_MAX || raw->data_size > WIRE_DATA_MAX ||
		raw->reply_data_size > WIRE_DATA_MAX || raw->op == 0 ||
		raw->op >= OP_NODE_FIRST ||
		wire_body_check(raw->op, raw->body, raw->body_size, false))
		return -EINVAL;
	slot = slot_take(c, true);
	if (slot < 0)
		return slot;
	if (raw->body_size)
		memcpy(slot_body(c, slot), raw->body, raw->body_size);
	if (raw->data_size)
		memcpy(slot_data(c, slot), raw->data, raw->data_size);
	slot_submit(c, slot, &call);
	rc = slot_wait(c, slot, &call, &lost);
	if (!rc && call.reply_size > raw->reply_size)
		rc = -EMSGSIZE;
	if (!rc) {
		if (call.reply_size)
			memcpy(raw->reply, c->scratch[slot].reply, call.reply_size);
		if (call.reply_data_size)
			memcpy(raw->reply_data, slot_data(c, slot), call.reply_data_size);
		raw->reply_size = call.reply_size;
		raw->reply_data_size = call.reply_data_size;
	}
	if (!lost)
		slot_release(c, slot);
	return rc;
}

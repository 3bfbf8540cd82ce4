/*
 * Who a program is, and programs that do not keep to the protocol: they lose their
 * session, and nobody else notices.
 */
#include <grp.h>
#include <linux/capability.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "tests/unit/test_client_server.h"

TestSuite(hostile, .init = up, .fini = down, .timeout = 30);

/* --- identity ----------------------------------------------------------------------- */

static int as_child(int (*body)(void))
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		client_forget(client);
		_exit(body());
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int attach_as_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
		setresuid(65534, 65534, 65534))
		return 1;
	if (client_attach(server->path, "", "/wfs", &client))
		return 2;
	return ping(client, 0) ? 3 : 0;
}

static int attach_and_become_nobody(void)
{
	if (client_attach(server->path, "", "/wfs", &client) || ping(client, 0))
		return 1;
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
		setresuid(65534, 65534, 65534))
		return 2;
	client_cred_changed(client);
	return ping(client, 0) ? 3 : 0;
}

static int change_back_and_forth(void)
{
	if (client_attach(server->path, "", "/wfs", &client) || seteuid(65534))
		return 1;
	client_cred_changed(client);
	if (ping(client, 0) || seteuid(0))
		return 2;
	client_cred_changed(client);
	return ping(client, 0) ? 3 : 0;
}

/* Becomes somebody whom its own ids do not lead to, as by a setuid program. */
static int out_of_reach(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {{.effective = 1u << CAP_SETUID,
		.permitted = 1u << CAP_SETUID}};

	if (prctl(PR_SET_KEEPCAPS, 1) || setgroups(0, NULL) ||
		setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534) ||
		syscall(SYS_capset, &h, caps))
		return 1;
	if (client_attach(server->path, "", "/wfs", &client) || ping(client, 0))
		return 2;
	if (setresuid(1, 1, 1))
		return 3;
	client_cred_changed(client);
	return ping(client, 0) == -ENOTCONN ? 0 : 4;
}

Test(hostile, identity)
{
	cr_expect_eq(ping(client, 0), 0);
	cr_expect_eq(atomic_load(&server->last_uid), getuid());
	if (getuid() != 0)
		return;
	cr_expect_eq(as_child(attach_as_nobody), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 65534);
	cr_expect_eq(atomic_load(&server->last_gid), 65534);
	cr_expect_eq(ping(client, 0), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 0);
	cr_expect_eq(as_child(attach_and_become_nobody), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 65534);
	cr_expect_eq(as_child(change_back_and_forth), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 0);
	cr_expect_eq(as_child(out_of_reach), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 65534);
}

static void *ping_as_another(void *arg)
{
	struct cred as = {.uid = 1001, .gid = 1002, .group_count = WFS_GROUPS_MAX};

	for (uint32_t i = 0; i < WFS_GROUPS_MAX; i++)
		as.groups[i] = 2000 + i;
	client_act_as(&as);
	*(int *)arg = ping(client, 0);
	return NULL;
}

/* Root may act for others, each of its threads for somebody else. */
Test(hostile, act_as)
{
	pthread_t thread;
	int rc = -1;

	if (getuid() != 0)
		return;
	pthread_create(&thread, NULL, ping_as_another, &rc);
	pthread_join(thread, NULL);
	cr_expect_eq(rc, 0);
	cr_expect_eq(atomic_load(&server->last_uid), 1001);
	cr_expect_eq(atomic_load(&server->last_gid), 1002);
	cr_expect_eq(atomic_load(&server->last_group), 2000 + WFS_GROUPS_MAX - 1);
	cr_expect_eq(ping(client, 0), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 0);
	cr_expect_eq(atomic_load(&server->last_gid), getgid());
}

static int act_as_root(void)
{
	struct cred root = {0};
	int rc = attach_as_nobody();

	client_fail_fast(client);
	client_act_as(&root);
	return rc ? rc : ping(client, 0) == -ENOTCONN ? 0 : 4;
}

/* Nobody else may, not even for himself. */
Test(hostile, act_as_refused)
{
	if (getuid() != 0)
		return;
	cr_expect_eq(as_child(act_as_root), 0);
	cr_expect_eq(atomic_load(&server->last_uid), 65534);
	cr_expect(eventually(&server->sessions, 1));
}

/* --- hostile programs --------------------------------------------------------------- */

struct hostile {
	int socket;
	int memory;
	int event;
	struct shm_header *header;
	struct shm_slot *slot;
};

static int connect_raw(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, server->path, strlen(server->path) + 1);
	cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void hostile_attach(struct hostile *h)
{
	struct shm_hello hello = {.magic = SHM_MAGIC, .version = SHM_VERSION};
	struct shm_welcome welcome;
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {&welcome, sizeof(welcome)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control)};
	int fds[2];

	h->socket = connect_raw();
	cr_assert_eq(send(h->socket, &hello, sizeof(hello), 0), (ssize_t)sizeof(hello));
	cr_assert_eq(recvmsg(h->socket, &message, 0), (ssize_t)sizeof(welcome));
	cr_assert_eq(welcome.error, 0);
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fds));
	h->memory = fds[0];
	h->event = fds[1];
	h->header = mmap(NULL, SHM_TOTAL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	cr_assert_neq((void *)h->header, MAP_FAILED);
	h->slot = (struct shm_slot *)(void *)((char *)h->header + SHM_SLOTS_OFFSET);
}

static void hostile_kick(struct hostile *h, uint64_t bits)
{
	uint64_t one = 1;

	atomic_store(&h->slot[0].state, SLOT_SUBMITTED);
	atomic_fetch_or(&h->header->submitted, bits);
	(void)!write(h->event, &one, sizeof(one));
}

static struct wire_head good_head(uint16_t op)
{
	return (struct wire_head){.magic = le32_put(WIRE_MAGIC), .version = WIRE_VERSION,
		.kind = WIRE_REQUEST, .op = le16_put(op)};
}

static void hostile_expect_out(struct hostile *h, const char *what)
{
	struct pollfd p = {.fd = h->socket, .events = POLLIN};
	char byte;

	cr_expect_eq(poll(&p, 1, 3000), 1, "%s", what);
	cr_expect_leq(recv(h->socket, &byte, 1, MSG_DONTWAIT), 0, "%s", what);
	munmap(h->header, SHM_TOTAL_SIZE);
	close(h->memory);
	close(h->event);
	close(h->socket);
	cr_expect_eq(ping(client, 0), 0, "%s", what);
	cr_expect(eventually(&server->sessions, 1));
}

Test(hostile, heads)
{
	static const char *const what[] = {"magic", "version", "kind", "op 0", "node op",
		"flags", "groups", "bucket", "shard", "body size", "data size", "data max",
		"body", "submitted", "act-as groups", "rubbish"};
	struct hostile h;

	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		struct wire_head head = good_head(OP_PING);
		uint64_t bits = 1;

		hostile_attach(&h);
		switch (i) {
		case 0: head.magic = le32_put(1); break;
		case 1: head.version = 9; break;
		case 2: head.kind = WIRE_REPLY; break;
		case 3: head.op = le16_put(0); break;
		case 4: head.op = le16_put(OP_RESOLVE); break;
		case 5: head.flags = le16_put(HEAD_INLINE); break;
		case 6: head.group_count = le16_put(1); break;
		case 7: head.bucket = le16_put(4); break;
		case 8:
			head.bucket = le16_put(2);
			head.flags = le16_put(HEAD_TO_SHARD);
			break;
		case 9: head.body_size = le32_put(WIRE_BODY_MAX + 1); break;
		case 10: head.data_size = le32_put(WIRE_DATA_MAX + 1); break;
		case 11: head.data_max = le32_put(UINT32_MAX); break;
		case 12: head.body_size = le32_put(1); break;
		case 13: bits = 1ull << 40; break;
		case 14:
			head.flags = le16_put(HEAD_ACT_AS);
			head.group_count = le16_put(WFS_GROUPS_MAX + 1);
			break;
		default: memset(&head, 0xa5, sizeof(head)); break;
		}
		h.slot[0].head = head;
		hostile_kick(&h, bits);
		hostile_expect_out(&h, what[i]);
	}
}

Test(hostile, slot_submitted_twice)
{
	struct hostile h;
	uint32_t before = atomic_load(&server->requests);

	hostile_attach(&h);
	h.slot[0].head = good_head(OP_PING);
	h.slot[0].head.bucket = le16_put(NEVER_BUCKET);
	hostile_kick(&h, 1);
	cr_assert(eventually(&server->requests, before + 1));
	hostile_kick(&h, 1);
	hostile_expect_out(&h, "twice");
	cr_expect(eventually(&server->ended, 1));
}

Test(hostile, header_and_states)
{
	struct hostile h;
	struct client_raw raw = {.op = OP_PING};

	/* The header is not read back, and the states are the program's own loss. */
	hostile_attach(&h);
	memset(h.header, 0x5a, 64);
	for (unsigned i = 0; i < SHM_SLOT_COUNT; i++) {
		h.slot[i].head = good_head(OP_PING);
		atomic_store(&h.slot[i].state, i % 5);
	}
	hostile_kick(&h, UINT32_MAX);
	cr_expect(eventually(&server->requests, SHM_SLOT_COUNT));
	cr_expect_eq(client_raw(client, &raw), 0);
	cr_expect_lt(ftruncate(h.memory, 0), 0);
	(void)!send(h.socket, "x", 1, 0);
	hostile_expect_out(&h, "data on the socket");
}

Test(hostile, eventfd)
{
	struct hostile h;
	uint64_t almost = UINT64_MAX - 1;

	hostile_attach(&h);
	fcntl(h.event, F_SETFL, 0);
	for (int i = 0; i < 20; i++) {
		(void)!write(h.event, &almost, sizeof(almost));
		cr_expect_eq(ping(client, 0), 0);
	}
	(void)!send(h.socket, "x", 1, 0);
	hostile_expect_out(&h, "eventfd");
}

Test(hostile, hellos)
{
	static const size_t sizes[] = {1, sizeof(struct shm_hello) - 1,
		sizeof(struct shm_hello) + 1, 4000, sizeof(struct shm_hello)};
	char bytes[4000];

	memset(bytes, 'q', sizeof(bytes));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = connect_raw();

		cr_expect_eq(send(fd, bytes, sizes[i], 0), (ssize_t)sizes[i]);
		cr_expect_leq(recv(fd, bytes, 1, 0), 0);
		close(fd);
	}
	close(connect_raw());
	cr_expect_eq(ping(client, 0), 0);
}

Test(hostile, version_is_checked)
{
	struct shm_hello hello = {.magic = SHM_MAGIC, .version = SHM_VERSION + 1};
	struct shm_welcome welcome;
	int fd = connect_raw();

	cr_expect_eq(send(fd, &hello, sizeof(hello), 0), (ssize_t)sizeof(hello));
	cr_expect_eq(recv(fd, &welcome, sizeof(welcome), 0), (ssize_t)sizeof(welcome));
	cr_expect_eq(welcome.error, EPROTO);
	close(fd);
}

/*
 * The fabric over libfabric; the only file that includes rdma/.
 *
 * Asked for: FI_EP_RDM, FI_MSG | FI_RMA, one thread per domain, manual progress. Every
 * mr_mode is accepted and honoured as the provider reports it: FI_MR_LOCAL (descriptors
 * for local buffers), FI_MR_VIRT_ADDR (peers address by pointer, else by offset 0),
 * FI_MR_ALLOCATED (buffers are), FI_MR_PROV_KEY (the provider's key; else a random one,
 * because a small one could be guessed).
 *
 * What libfabric 1.17 needs to be kept from:
 * - fi_getinfo starts every provider it was built with, some of which install signal
 *   handlers: FI_PROVIDER names the ones of interest unless the operator has set it, and
 *   the dispositions from before are put back (the default, where a constructor of those
 *   libraries came before main).
 * - Its descriptors lack FD_CLOEXEC: those that appear while opening get it.
 * - The wait fd of `net` stays readable after traffic, and fi_trywait says nothing about
 *   it: only a blocking read of the queue clears it, deaf to all else for a millisecond.
 *   So we poll the epoll of sockets inside it, after a look at the queue. Where it is not
 *   built like that, fabric_may_sleep does the blocking read. An event found on the way is
 *   stashed for fabric_poll.
 */
#include "net/fabric.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"

#define CQ_SIZE     8192u
#define CQ_BATCH    32u
#define FD_SCAN_MAX 65536
#define KEY_TRIES   8

_Static_assert(sizeof(((struct fabric_op *)0)->provider) == sizeof(struct fi_context2),
	"scratch");

struct fabric {
	struct env *env;
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_cq *cq;
	struct fid_av *av;
	struct fid_ep *ep;
	uint64_t mr_mode;
	int wait_fd;
	int sockets_fd; /* within wait_fd, or -1 */
	bool has_stash;
	struct fi_cq_msg_entry stash;
};

/* --- keeping libfabric's hands off the process ---------------------------------------
 */

static const int guarded_signals[] = {SIGINT, SIGTERM, SIGSEGV, SIGBUS, SIGABRT, SIGILL};
#define GUARDED_COUNT (sizeof(guarded_signals) / sizeof(guarded_signals[0]))

/* Serialises fi_getinfo and the scan for new fds between shards that start together. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;

static void provider_filter(const char *provider)
{
	char filter[128];

	if (getenv("FI_PROVIDER"))
		return;
	snprintf(filter, sizeof(filter), "net,tcp,ofi_rxm,%s", provider);
	for (char *p = filter; *p; p++)
		if (*p == ';')
			*p = ',';
	setenv("FI_PROVIDER", filter, 0);
}

/* libinfinipath's constructor, before main: it would print a backtrace and exit. */
static bool is_foreign_handler(const struct sigaction *action)
{
	Dl_info object;

	if (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN)
		return false;
	return dladdr((void *)(uintptr_t)action->sa_handler, &object) &&
	       object.dli_fname &&
	       (strstr(object.dli_fname, "infinipath") ||
		       strstr(object.dli_fname, "psm"));
}

static int getinfo_guarded(const char *host, const char *service, struct fi_info *hints,
	struct fi_info **info_out)
{
	struct sigaction before[GUARDED_COUNT];
	int rc;

	for (size_t i = 0; i < GUARDED_COUNT; i++) {
		sigaction(guarded_signals[i], NULL, &before[i]);
		if (is_foreign_handler(&before[i]))
			before[i] = (struct sigaction){.sa_handler = SIG_DFL};
	}
	rc = fi_getinfo(FI_VERSION(1, 17), host, service, FI_SOURCE, hints, info_out);
	for (size_t i = 0; i < GUARDED_COUNT; i++)
		sigaction(guarded_signals[i], &before[i], NULL);
	return rc;
}

struct fd_set_seen {
	uint8_t bits[FD_SCAN_MAX / 8];
};

static int fd_limit(void)
{
	long n = sysconf(_SC_OPEN_MAX);

	return n > 0 && n < 4096 ? (int)n : 4096;
}

static void fds_note(struct fd_set_seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	for (int fd = 0; fd < fd_limit(); fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			seen->bits[fd / 8] |= (uint8_t)(1 << (fd % 8));
}

static void fds_close_on_exec(const struct fd_set_seen *seen)
{
	for (int fd = 0; fd < fd_limit(); fd++)
		if (!(seen->bits[fd / 8] & (1 << (fd % 8))) && fcntl(fd, F_GETFD) >= 0)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* --- opening ------------------------------------------------------------------------ */

static int find_provider(
	struct fabric *f, const char *provider, const char *host, uint16_t port)
{
	struct fi_info *hints = fi_allocinfo();
	char service[8];
	int rc;

	if (!hints)
		return -ENOMEM;
	snprintf(service, sizeof(service), "%u", port);
	hints->caps = FI_MSG | FI_RMA;
	hints->mode = FI_CONTEXT | FI_CONTEXT2;
	hints->addr_format = FI_SOCKADDR_IN;
	hints->ep_attr->type = FI_EP_RDM;
	hints->domain_attr->mr_mode =
		FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
	hints->domain_attr->threading = FI_THREAD_DOMAIN;
	hints->domain_attr->control_progress = FI_PROGRESS_MANUAL;
	hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
	hints->fabric_attr->prov_name = strdup(provider);
	if (!hints->fabric_attr->prov_name) {
		fi_freeinfo(hints);
		return -ENOMEM;
	}
	provider_filter(provider);
	rc = getinfo_guarded(host, service, hints, &f->info);
	fi_freeinfo(hints);
	if (rc == -FI_ENODATA || rc == -FI_ENOSYS)
		return -ENODEV;
	if (rc)
		return rc;
	f->mr_mode = (uint64_t)f->info->domain_attr->mr_mode;
	return 0;
}

/*
 * The queue's wait fd is an epoll of two: an epoll of the sockets, and a pipe that says
 * "look at the queue", which is what stays readable. Whoever looks at the queue before it
 * sleeps needs only the first. -1: not built like that.
 */
static int sockets_fd_find(int wait_fd)
{
	char path[64], line[256], link[64];
	int found = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", wait_fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		int fd;
		ssize_t size;

		if (sscanf(line, "tfd: %d", &fd) != 1)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		size = readlink(path, link, sizeof(link) - 1);
		link[size > 0 ? size : 0] = '\0';
		if (strcmp(link, "anon_inode:[eventpoll]") != 0)
			continue;
		if (found >= 0) {
			found = -1;
			break;
		}
		found = fd;
	}
	if (f)
		fclose(f);
	return found;
}

static int open_objects(struct fabric *f)
{
	struct fi_cq_attr cq = {
		.size = CQ_SIZE, .format = FI_CQ_FORMAT_MSG, .wait_obj = FI_WAIT_FD};
	struct fi_av_attr av = {.type = FI_AV_TABLE};
	int rc = fi_fabric(f->info->fabric_attr, &f->fabric, NULL);

	if (f->info->domain_attr->av_type == FI_AV_MAP)
		av.type = FI_AV_MAP;
	if (rc == 0)
		rc = fi_domain(f->fabric, f->info, &f->domain, NULL);
	if (rc == 0)
		rc = fi_cq_open(f->domain, &cq, &f->cq, NULL);
	if (rc == 0)
		rc = fi_av_open(f->domain, &av, &f->av, NULL);
	if (rc == 0)
		rc = fi_endpoint(f->domain, f->info, &f->ep, NULL);
	if (rc == 0)
		rc = fi_ep_bind(f->ep, &f->cq->fid, FI_TRANSMIT | FI_RECV);
	if (rc == 0)
		rc = fi_ep_bind(f->ep, &f->av->fid, 0);
	if (rc == 0)
		rc = fi_enable(f->ep);
	if (rc == 0)
		rc = fi_control(&f->cq->fid, FI_GETWAIT, &f->wait_fd);
	if (rc == 0)
		f->sockets_fd = sockets_fd_find(f->wait_fd);
	return rc;
}

int fabric_open(struct env *env, const char *provider, const char *host, uint16_t port,
	struct fabric **fabric_out)
{
	struct fabric *f = mem_zalloc(sizeof(*f));
	struct fd_set_seen *seen = mem_alloc(sizeof(*seen));
	int rc = -ENOMEM;

	if (!f || !seen)
		goto fail;
	f->env = env;
	pthread_mutex_lock(&open_lock);
	fds_note(seen);
	rc = find_provider(f, provider, host, port);
	if (rc == 0)
		rc = open_objects(f);
	fds_close_on_exec(seen);
	pthread_mutex_unlock(&open_lock);
	if (rc)
		goto fail;
	mem_free(seen);
	*fabric_out = f;
	return 0;
fail:
	mem_free(seen);
	fabric_close(f);
	return rc;
}

void fabric_close(struct fabric *f)
{
	if (!f)
		return;
	if (f->ep)
		fi_close(&f->ep->fid);
	if (f->av)
		fi_close(&f->av->fid);
	if (f->cq)
		fi_close(&f->cq->fid);
	if (f->domain)
		fi_close(&f->domain->fid);
	if (f->fabric)
		fi_close(&f->fabric->fid);
	if (f->info)
		fi_freeinfo(f->info);
	mem_free(f);
}

/* --- peers -------------------------------------------------------------------------- */

int fabric_resolve(const char *host, uint16_t port, struct sockaddr_in *addr_out)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (port == 0)
		return -EINVAL;
	if (inet_pton(AF_INET, host, &addr.sin_addr) != 1) {
		if (getaddrinfo(host, NULL, &hints, &list) != 0 || !list)
			return -EINVAL;
		addr.sin_addr = ((struct sockaddr_in *)(void *)list->ai_addr)->sin_addr;
		freeaddrinfo(list);
	}
	*addr_out = addr;
	return 0;
}

int fabric_peer_insert(
	struct fabric *f, const struct sockaddr_in *addr, fabric_peer *peer_out)
{
	fi_addr_t peer = FI_ADDR_UNSPEC;

	if (fi_av_insert(f->av, addr, 1, &peer, 0, NULL) != 1)
		return -ENOMEM;
	*peer_out = peer;
	return 0;
}

void fabric_peer_remove(struct fabric *f, fabric_peer peer)
{
	fi_addr_t addr = peer;

	fi_av_remove(f->av, &addr, 1, 0);
}

/* --- memory ------------------------------------------------------------------------- */

int fabric_region_open(struct fabric *f, void *memory, size_t size_bytes,
	enum fabric_access access, struct fabric_region *region_out)
{
	static const uint64_t rights[] = {
		[FABRIC_LOCAL] = FI_SEND | FI_RECV | FI_READ | FI_WRITE,
		[FABRIC_PEERS_READ] = FI_REMOTE_READ,
		[FABRIC_PEERS_WRITE] = FI_REMOTE_WRITE,
	};
	struct fabric_region region = {0};
	struct fid_mr *mr = NULL;
	int rc = -FI_ENOKEY;

	if (access == FABRIC_LOCAL && !(f->mr_mode & FI_MR_LOCAL)) {
		*region_out = region;
		return 0;
	}
	for (int i = 0; i < KEY_TRIES && rc == -FI_ENOKEY; i++)
		rc = fi_mr_reg(f->domain, memory, size_bytes, rights[access], 0,
			env_random(f->env), 0, &mr, NULL);
	if (rc)
		return rc == -FI_ENOKEY ? -EAGAIN : rc;
	region.provider = mr;
	region.desc = fi_mr_desc(mr);
	region.key = fi_mr_key(mr);
	region.addr = f->mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)(uintptr_t)memory : 0;
	*region_out = region;
	return 0;
}

void fabric_region_close(struct fabric_region *region)
{
	struct fid_mr *mr = region->provider;

	if (mr)
		fi_close(&mr->fid);
	*region = (struct fabric_region){0};
}

/* --- operations --------------------------------------------------------------------- */

int fabric_recv(
	struct fabric *f, struct fabric_op *op, void *buf, size_t size_bytes, void *desc)
{
	return (int)fi_recv(f->ep, buf, size_bytes, desc, FI_ADDR_UNSPEC, op);
}

int fabric_send(struct fabric *f, struct fabric_op *op, fabric_peer peer, const void *buf,
	size_t size_bytes, void *desc)
{
	return (int)fi_send(f->ep, buf, size_bytes, desc, peer, op);
}

int fabric_read(struct fabric *f, struct fabric_op *op, const struct fabric_target *from,
	void *buf, size_t size_bytes, void *desc)
{
	return (int)fi_read(
		f->ep, buf, size_bytes, desc, from->peer, from->addr, from->key, op);
}

int fabric_write(struct fabric *f, struct fabric_op *op, const struct fabric_target *to,
	const void *buf, size_t size_bytes, void *desc)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = size_bytes};
	struct fi_rma_iov remote = {.addr = to->addr, .len = size_bytes, .key = to->key};
	struct fi_msg_rma msg = {
		.msg_iov = &iov,
		.desc = &desc,
		.iov_count = 1,
		.addr = to->peer,
		.rma_iov = &remote,
		.rma_iov_count = 1,
		.context = op,
	};

	return (int)fi_writemsg(f->ep, &msg, FI_DELIVERY_COMPLETE | FI_COMPLETION);
}

bool fabric_is_tcp(const struct fabric *f)
{
	const char *name = f->info->fabric_attr->prov_name;

	return strncmp(name, "net", 3) == 0 || strncmp(name, "tcp", 3) == 0;
}

/* --- progress ----------------------------------------------------------------------- */

static void complete(const struct fi_cq_msg_entry *e)
{
	struct fabric_op *op = e->op_context;

	if (op)
		op->done(op, 0, e->len);
}

/* Whether an error entry was there. */
static bool complete_error(struct fabric *f)
{
	struct fi_cq_err_entry e = {0};
	struct fabric_op *op;

	if (fi_cq_readerr(f->cq, &e, 0) < 1)
		return false;
	op = e.op_context;
	if (op)
		op->done(op, e.err > 0 ? -e.err : -EIO, 0);
	return true;
}

unsigned fabric_poll(struct fabric *f, unsigned max)
{
	struct fi_cq_msg_entry entries[CQ_BATCH];
	unsigned count = 0;

	if (f->has_stash) {
		f->has_stash = false;
		entries[0] = f->stash;
		complete(&entries[0]);
		count++;
	}
	while (count < max) {
		unsigned want = max - count < CQ_BATCH ? max - count : CQ_BATCH;
		ssize_t n = fi_cq_read(f->cq, entries, want);
		if (n == -FI_EAVAIL && complete_error(f)) {
			count++;
			continue;
		}
		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			complete(&entries[i]);
		count += (unsigned)n;
	}
	return count;
}

int fabric_wait_fd(struct fabric *f)
{
	return f->sockets_fd >= 0 ? f->sockets_fd : f->wait_fd;
}

bool fabric_may_sleep(struct fabric *f)
{
	struct fid *fids[] = {&f->cq->fid};
	struct pollfd p = {.fd = f->wait_fd, .events = POLLIN};

	if (f->sockets_fd >= 0 && !f->has_stash) {
		ssize_t n = fi_cq_read(f->cq, &f->stash, 1);

		f->has_stash = n == 1;
		return n == -FI_EAGAIN;
	}
	if (f->has_stash || fi_trywait(f->fabric, fids, 1) != 0)
		return false;
	if (poll(&p, 1, 0) != 1)
		return true;
	if (fi_cq_sread(f->cq, &f->stash, 1, NULL, 1) == 1)
		f->has_stash = true;
	return false;
}

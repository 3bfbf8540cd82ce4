/*
 * The loop of one shard.
 *
 * One turn: local programs' rings, our own queue, the fabric, the log, the shard's
 * timers, the kernel's completions. After a turn without work the loop goes round a
 * little longer, giving way to whoever else wants the core: being woken across cores costs
 * 50-180 us, and most waits (a log write, another node's answer) end sooner. After SPIN_US
 * of nothing it sleeps in the one io_uring, where the fabric's fd, the
 * sessions' eventfds and the stop eventfd are polled.
 */
#include "core/wfsd/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/session/session.h"
#include "core/wfsd/router.h"

#define SPIN_US          200u
#define CROWDED_US       150u   /* a yield that long: others need the core */
#define NO_SPIN_US       20000u /* then sleep at once for a while */
#define SLEEP_MAX_US     10000000u
#define SLEEP_DEAF_US    250u /* without hearing the fabric */
#define STATS_US         1000000u
#define RING_ENTRIES     1024u
#define CACHE_ENTRIES    65536u
#define STOP_PATIENCE_US 60000000u
#define CLAIM_PATIENCE_US 5000000u
#define GRACE_US         10000000u /* for programs to say what they hold open */

struct poller {
	struct ring_op op;
	struct reactor *r;
	bool armed;
};

struct reactor {
	struct env *env;
	const struct config_shard *config;
	uint32_t index;
	uint32_t number;
	struct ring *ring;
	struct device *device;
	struct kv *kv;
	struct store *store;
	struct rpc *rpc;
	struct session_server *sessions; /* NULL: not the first shard */
	struct router router;
	struct shard *shard;
	const struct map *map;
	struct keeper_thread *keeper; /* NULL: one copy only */

	int stop_fd;
	struct poller stop_poll;
	struct poller rpc_poll;
	_Atomic(const struct map *) new_map;
	_Atomic uint64_t lease_until_us;
	uint64_t lease_seen_us;
	_Atomic uint64_t turned_us;
	atomic_bool stopping;
	uint64_t stats_us;
	uint64_t no_spin_until_us;
	bool failed;
	bool checkpointed;
	bool ran;
};

/* --- pieces --- */

static void pump(void *ctx)
{
	ring_wait(ctx, 1000);
}

static void identity_set(const struct reactor_options *opt, struct store_options *so)
{
	*so = (struct store_options){
		.identity = {.node = opt->config->node, .shard = opt->index}};
	memcpy(so->identity.cluster_uuid, opt->map->uuid, 16);
}

static const char *device_reason(int rc)
{
	switch (rc) {
	case -EBUSY: return "in use: another wfsd, or mounted";
	case -ENOTBLK: return "neither a block device nor a regular file";
	case -EINVAL: return "does not support O_DIRECT, or has no size";
	default: return strerror(-rc);
	}
}

static int device_open(const struct config_shard *cs, struct ring *ring,
	struct device **device_out, char *reason, size_t reason_size)
{
	uint64_t until = env_now_us(env_real()) + CLAIM_PATIENCE_US;
	int rc = device_file_open(cs->device, ring, device_out);

	/* The kernel lets go of a killed wfsd's claim only when its last I/O is done. */
	while (rc == -EBUSY && env_now_us(env_real()) < until) {
		usleep(20000);
		rc = device_file_open(cs->device, ring, device_out);
	}
	if (rc < 0)
		snprintf(reason, reason_size, "device %s: %s", cs->device,
			device_reason(rc));
	return rc;
}

static int index_open(const struct config_shard *cs, bool create, struct kv **kv_out,
	char *reason, size_t reason_size)
{
	int rc = kv_rocks_open(cs->index, create, (uint64_t)cs->memory_mib << 20, kv_out);

	if (rc == 0 && kv_cache_enable(*kv_out, CACHE_ENTRIES) < 0) {
		kv_close(*kv_out);
		rc = -ENOMEM;
	}
	if (rc < 0)
		snprintf(reason, reason_size, "index %s: %s", cs->index,
			rc == -ENOENT	 ? "missing; is its file system mounted?"
			: rc == -EBUSY	 ? "another wfsd has it open"
			: rc == -EUCLEAN ? "damaged"
					 : strerror(-rc));
	return rc;
}

/* --- format --- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int index_make(const struct config_shard *cs, bool force, char *reason,
	size_t reason_size)
{
	struct kv *kv;
	int rc;

	if (access(cs->index, F_OK) == 0) {
		if (!force && rmdir(cs->index) < 0) {
			snprintf(reason, reason_size,
				"index %s: exists already; --force removes it", cs->index);
			return -EEXIST;
		}
		if (force)
			nftw(cs->index, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	}
	rc = index_open(cs, true, &kv, reason, reason_size);
	if (rc == 0)
		kv_close(kv);
	return rc;
}

int reactor_format(const struct reactor_options *opt, bool force, char *reason,
	size_t reason_size)
{
	const struct config_shard *cs = &opt->config->shards[opt->index];
	struct store_refusal refusal = {0};
	struct store_options so;
	struct device *device = NULL;
	struct ring *ring = NULL;
	int rc = ring_new(64, &ring);

	if (rc < 0) {
		snprintf(reason, reason_size, "io_uring: %s", strerror(-rc));
		return rc;
	}
	rc = device_open(cs, ring, &device, reason, reason_size);
	if (rc == 0) {
		identity_set(opt, &so);
		so.force = force;
		rc = store_format(device, env_real(), &so, pump, ring, &refusal);
		if (rc < 0)
			snprintf(reason, reason_size, "device %s: %s", cs->device,
				refusal.text[0] ? refusal.text : strerror(-rc));
	}
	if (rc == 0)
		rc = index_make(cs, force, reason, reason_size);
	device_close(device);
	ring_free(ring);
	return rc;
}

/* --- open --- */

static void on_request(void *ctx, struct request *req)
{
	struct reactor *r = ctx;

	shard_handle(r->shard, req);
}

static int peers_set(struct reactor *r, char *reason, size_t reason_size)
{
	for (uint32_t i = 0; i < r->map->shard_count; i++) {
		const struct map_shard *ms = &r->map->shards[i];
		const struct map_node *node = map_node_find(r->map, ms->node);
		int rc = node ? rpc_peer_set(r->rpc, i, node->host, ms->port) : -EINVAL;

		if (rc < 0) {
			snprintf(reason, reason_size, "shard %u: bad address %s port %u", i,
				node ? node->host : "?", ms->port);
			return rc;
		}
	}
	return 0;
}

static int fabric_open(struct reactor *r, char *reason, size_t reason_size)
{
	const struct map_shard *ms = &r->map->shards[r->number];
	const struct map_node *node = map_node_find(r->map, ms->node);
	struct rpc_options ro = {
		.env = r->env,
		.provider = r->map->provider,
		.host = node->host,
		.port = ms->port,
		.cluster = map_cluster_tag(r->map),
		.self = r->number,
		.handle = on_request,
		.ctx = r,
	};
	int rc = rpc_new(&ro, &r->rpc);

	if (rc < 0) {
		snprintf(reason, reason_size, "fabric %s at %s port %u: %s", r->map->provider,
			node->host, ms->port, strerror(-rc));
		return rc;
	}
	r->router.rpc = r->rpc;
	return peers_set(r, reason, reason_size);
}

static int sessions_open(struct reactor *r, char *reason, size_t reason_size)
{
	const struct map_node *node = map_node_find(r->map, r->map->shards[r->number].node);
	struct session_options so = {
		.env = r->env,
		.ring = r->ring,
		.socket_path = node->socket,
		.map = r->map,
		.submit = router_submit,
		.ended = router_session_ended,
		.answered = r->map->copies > 1 ? router_answered : NULL,
		.ctx = &r->router,
	};
	int rc;

	if (r->index != 0)
		return 0;
	rc = session_server_new(&so, &r->sessions);
	if (rc < 0)
		snprintf(reason, reason_size, "socket %s: %s", node->socket, strerror(-rc));
	return rc;
}

/* struct shard_options.propose */
static int propose(void *ctx, const struct proposal *proposal)
{
	struct router *router = ctx;
	struct reactor *r = container_of(router, struct reactor, router);

	return keeper_thread_propose(r->keeper, proposal);
}

static int store_and_shard_open(struct reactor *r, const struct reactor_options *opt,
	char *reason, size_t reason_size)
{
	struct store_refusal refusal = {0};
	struct store_options so;
	struct shard_options sho = {
		.env = r->env,
		.map = r->map,
		.number = r->number,
		.grace_us = GRACE_US,
		.send = router_send,
		.fill_of = router_fill_of,
		.ctx = &r->router,
	};
	struct store_stats st;
	int rc;

	identity_set(opt, &so);
	r->keeper = opt->keeper;
	if (r->map->copies > 1) {
		sho.propose = opt->keeper ? propose : NULL;
		sho.history = shard_history_new();
		so.replayed = sho.history ? shard_history_note : NULL;
		so.replayed_ctx = sho.history;
	}
	rc = store_open(r->device, r->kv, r->env, &so, pump, r->ring, &r->store, &refusal);
	if (rc < 0) {
		snprintf(reason, reason_size, "device %s: %s", r->config->device,
			refusal.text[0] ? refusal.text : strerror(-rc));
		shard_history_free(sho.history);
		return rc;
	}
	store_stats(r->store, &st);
	log_info("recovered shard=%u records=%llu us=%llu", r->number,
		(unsigned long long)st.replayed_records,
		(unsigned long long)st.recovery_us);
	sho.store = r->store;
	sho.kv = r->kv;
	rc = shard_new(&sho, &r->shard);
	shard_history_free(sho.history);
	if (rc < 0)
		snprintf(reason, reason_size, "shard %u: %s", r->number, strerror(-rc));
	r->router.shard = r->shard;
	if (rc == 0)
		shard_lease_set(r->shard, r->lease_seen_us);
	return rc;
}

int reactor_open(const struct reactor_options *opt, struct reactor **reactor_out,
	char *reason, size_t reason_size)
{
	struct reactor *r = mem_zalloc(sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->env = env_real();
	r->config = &opt->config->shards[opt->index];
	r->index = opt->index;
	r->number = opt->number;
	r->map = opt->map;
	r->lease_seen_us = opt->leased ? 0 : UINT64_MAX;
	atomic_init(&r->lease_until_us, r->lease_seen_us);
	atomic_init(&r->turned_us, UINT64_MAX / 2); /* not yet: it counts from the first turn */
	router_init(&r->router, r->env, r->map, r->number);
	r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = r->stop_fd < 0 ? -errno : ring_new(RING_ENTRIES, &r->ring);
	if (rc < 0)
		snprintf(reason, reason_size, "io_uring: %s", strerror(-rc));
	if (rc == 0)
		rc = device_open(r->config, r->ring, &r->device, reason, reason_size);
	if (rc == 0)
		rc = index_open(r->config, false, &r->kv, reason, reason_size);
	if (rc == 0)
		rc = store_and_shard_open(r, opt, reason, reason_size);
	if (rc == 0)
		rc = fabric_open(r, reason, reason_size);
	if (rc == 0)
		rc = sessions_open(r, reason, reason_size);
	if (rc < 0) {
		reactor_close(r);
		return rc;
	}
	*reactor_out = r;
	return 0;
}

static void stop_cleanly(struct reactor *r);

void reactor_close(struct reactor *r)
{
	if (!r)
		return;
	if (r->ran)
		stop_cleanly(r);
	if (r->shard)
		shard_stop(r->shard);
	else
		store_close(r->store);
	session_server_free(r->sessions);
	rpc_free(r->rpc);
	if (r->shard)
		router_poll(&r->router);
	shard_free(r->shard);
	held_free(&r->router);
	device_close(r->device);
	kv_close(r->kv);
	ring_free(r->ring);
	if (r->stop_fd >= 0)
		close(r->stop_fd);
	mem_free(r);
}

/* --- the loop --- */

static void poller_done(struct ring_op *op, int result)
{
	struct poller *p = container_of(op, struct poller, op);
	uint64_t drained;

	(void)result;
	p->armed = false;
	if (p == &p->r->stop_poll && read(p->r->stop_fd, &drained, sizeof(drained)) < 0)
		return;
}

static void poller_arm(struct poller *p, struct reactor *r, int fd)
{
	if (p->armed)
		return;
	p->r = r;
	p->op.done = poller_done;
	p->armed = ring_poll(r->ring, &p->op, fd, POLLIN) == 0;
}

static uint64_t resident_bytes(void)
{
	char text[128];
	unsigned long total, resident;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return 0;
	text[got] = '\0';
	if (sscanf(text, "%lu %lu", &total, &resident) != 2)
		return 0;
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void stats_refresh(struct reactor *r, uint64_t now)
{
	struct shard_process_stats ps;

	if (now < r->stats_us)
		return;
	r->stats_us = now + STATS_US;
	ps.memory_bytes = resident_bytes();
	ps.sessions = r->sessions ? session_count(r->sessions) : 0;
	shard_process_stats_set(r->shard, &ps);
}

static void map_take(struct reactor *r)
{
	const struct map *map = atomic_exchange(&r->new_map, NULL);
	char reason[256];

	if (!map)
		return;
	r->map = map;
	router_map_set(&r->router, map);
	shard_map_set(r->shard, map);
	if (r->sessions)
		session_map_set(r->sessions, map);
	if (peers_set(r, reason, sizeof(reason)) < 0)
		log_error("map reason=\"%s\"", reason);
	log_info("map epoch=%llu", (unsigned long long)map->epoch);
}

/* A lease goes with the map that was told before it: it is looked at first. */
static void map_and_lease_take(struct reactor *r)
{
	uint64_t until_us =
		atomic_load_explicit(&r->lease_until_us, memory_order_acquire);

	map_take(r);
	if (until_us == r->lease_seen_us)
		return;
	r->lease_seen_us = until_us;
	shard_lease_set(r->shard, until_us);
}

/* One turn; how much was done, and how long the next may wait. */
static unsigned turn(struct reactor *r, uint64_t *wait_us)
{
	unsigned work = 0;
	uint64_t next;

	if (r->sessions)
		work += session_poll(r->sessions);
	work += router_poll(&r->router);
	next = UINT64_MAX;
	rpc_fill_set(r->rpc, shard_fill(r->shard));
	work += rpc_poll(r->rpc, &next);
	*wait_us = next;
	next = r->sessions ? session_next_us(r->sessions) : UINT64_MAX;
	if (next < *wait_us)
		*wait_us = next;
	next = held_poll(&r->router);
	if (next < *wait_us)
		*wait_us = next;
	next = shard_poll(r->shard);
	if (next < *wait_us)
		*wait_us = next;
	next = store_poll(r->store);
	if (next < *wait_us)
		*wait_us = next;
	work += (unsigned)ring_wait(r->ring, 0);
	if (!list_empty(&r->router.queue) || !list_empty(&r->router.failed))
		*wait_us = 0;
	return work;
}

static void sleep_for(struct reactor *r, uint64_t wait_us)
{
	bool fabric = true;

	if (wait_us > SLEEP_MAX_US)
		wait_us = SLEEP_MAX_US;
	/*
	 * To ask the fabric may itself take a millisecond (net/fabric_ofi.c); while the
	 * device is at work there will be something to do sooner.
	 */
	if (ring_transfers(r->ring) > 0)
		fabric = false;
	else if (!rpc_may_sleep(r->rpc))
		return;
	if (!fabric && wait_us > SLEEP_DEAF_US)
		wait_us = SLEEP_DEAF_US;
	if (!r->sessions || session_sleep(r->sessions)) {
		if (fabric)
			poller_arm(&r->rpc_poll, r, rpc_wait_fd(r->rpc));
		poller_arm(&r->stop_poll, r, r->stop_fd);
		ring_wait(r->ring, wait_us);
	}
	if (r->sessions)
		session_awake(r->sessions);
}

static void failure_tell(struct reactor *r)
{
	if (r->failed || store_error(r->store) == 0)
		return;
	r->failed = true;
	log_error("log write failed device=%s: every request gets EIO until wfsd is "
		  "restarted; nothing acknowledged is lost",
		r->config->device);
}

static void checkpoint_done(void *ctx, int status)
{
	struct reactor *r = ctx;

	r->checkpointed = true;
	if (status < 0)
		log_warn("checkpoint at stop failed shard=%u status=%d", r->number, status);
}

static void stop_cleanly(struct reactor *r)
{
	uint64_t until = env_now_us(r->env) + STOP_PATIENCE_US, wait_us;
	int rc = store_checkpoint(r->store, checkpoint_done, r);

	while (rc == -EBUSY && env_now_us(r->env) < until) {
		turn(r, &wait_us);
		ring_wait(r->ring, 1000);
		rc = store_checkpoint(r->store, checkpoint_done, r);
	}
	while (rc == 0 && !r->checkpointed && env_now_us(r->env) < until) {
		turn(r, &wait_us);
		ring_wait(r->ring, 1000);
	}
}

/*
 * Let others run. False: they ran so long that the core is not idle enough to spin on; a
 * sleeper that is woken gets it sooner than one who yields.
 */
static bool give_way(struct reactor *r, uint64_t now)
{
	if (now < r->no_spin_until_us)
		return false;
	sched_yield();
	if (env_now_us(r->env) - now < CROWDED_US)
		return true;
	r->no_spin_until_us = now + NO_SPIN_US;
	return true;
}

void reactor_run(struct reactor *r)
{
	uint64_t busy_us = env_now_us(r->env);

	while (!atomic_load_explicit(&r->stopping, memory_order_relaxed)) {
		uint64_t wait_us, now;
		unsigned work = turn(r, &wait_us);

		now = env_now_us(r->env);
		atomic_store_explicit(&r->turned_us, now, memory_order_relaxed);
		if (work > 0)
			busy_us = now;
		stats_refresh(r, now);
		failure_tell(r);
		map_and_lease_take(r);
		if (wait_us == 0)
			continue;
		if (work > 0 || (now - busy_us < SPIN_US && give_way(r, now)))
			continue;
		sleep_for(r, wait_us);
		busy_us = 0;
	}
	/* Programs that ride through a restart are not told of what is broken off now. */
	session_server_quit(r->sessions);
	r->ran = true;
}

static void wake(struct reactor *r)
{
	uint64_t one = 1;

	if (write(r->stop_fd, &one, sizeof(one)) < 0)
		return;
}

void reactor_stop(struct reactor *r)
{
	atomic_store(&r->stopping, true);
	wake(r);
}

void reactor_map_set(struct reactor *r, const struct map *map)
{
	atomic_store(&r->new_map, map);
	wake(r);
}

void reactor_lease_set(struct reactor *r, uint64_t until_us)
{
	atomic_store(&r->lease_until_us, until_us);
	wake(r);
}

uint64_t reactor_turned_us(const struct reactor *r)
{
	return atomic_load_explicit(&r->turned_us, memory_order_relaxed);
}

void reactor_device_uuid(const struct reactor *r, uint8_t uuid_out[16])
{
	store_device_uuid(r->store, uuid_out);
}

/*
 * The keeper on its threads.
 *
 * The two threads share two flags under a mutex; the keeper itself belongs to the first.
 * The watcher loads the map too, with a store of its own, only to know its epoch: so it
 * works with any map store.
 */
#include "core/wfsd/keeper_thread.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/base/mem.h"

#define WATCH_MS 500u
#define PAUSE_MS 200u

struct keeper_thread {
	struct keeper *keeper;
	struct map_store *store;
	struct map_store *store_watch;
	bool (*alive)(void *ctx);
	void *ctx;
	uint64_t watch_epoch;
	pthread_t thread;
	pthread_t watch;
	bool started;
	bool watching;
	bool turned;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool woken;
	bool halt;
};

bool keeper_thread_wanted(const struct map *map)
{
	if (map->copies > 1)
		return true;
	for (uint32_t i = 1; i < map->node_count; i++)
		if (strcmp(map->nodes[i].host, map->nodes[0].host) != 0)
			return true;
	return false;
}

static void wake(void *ctx)
{
	struct keeper_thread *t = ctx;

	pthread_mutex_lock(&t->mutex);
	t->woken = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->mutex);
}

/* Sleep; true: halt. `until_woken`: by a wake too. */
static bool sleep_us(struct keeper_thread *t, uint64_t us, bool until_woken)
{
	struct timespec until;
	bool halt;
	int rc = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(us % 1000000 * 1000);
	until.tv_sec += (time_t)(us / 1000000 + (uint64_t)until.tv_nsec / 1000000000);
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&t->mutex);
	while (rc == 0 && !t->halt && !(until_woken && t->woken))
		rc = pthread_cond_timedwait(&t->cond, &t->mutex, &until);
	if (until_woken)
		t->woken = false;
	halt = t->halt;
	pthread_mutex_unlock(&t->mutex);
	return halt;
}

static void *keeper_main(void *arg)
{
	struct keeper_thread *t = arg;

	bool stuck = false, halt = false;

	while (!halt) {
		if (t->alive && !t->alive(t->ctx)) {
			if (!stuck)
				log_error("a shard does not turn: the lease is not renewed");
			stuck = true;
			halt = sleep_us(t, PAUSE_MS * 1000, false);
			continue;
		}
		stuck = false;
		halt = sleep_us(t, keeper_turn(t->keeper), true);
	}
	return NULL;
}

static void *watch_main(void *arg)
{
	struct keeper_thread *t = arg;
	const struct map_store_ops *ops = t->store_watch->ops;
	bool halt = false;

	while (!halt) {
		struct map *map = NULL;
		int rc = ops->wait(t->store_watch, t->watch_epoch, WATCH_MS);

		if (rc == 0)
			rc = ops->load(t->store_watch, t->watch_epoch, &map);
		if (rc == 0 && map) {
			t->watch_epoch = map->epoch;
			map_free(map);
			wake(t);
		}
		halt = sleep_us(t, rc ? PAUSE_MS * 1000 : 0, false);
	}
	return NULL;
}

int keeper_thread_new(const struct keeper_thread_options *opt, struct keeper_thread **out)
{
	struct keeper_thread *t = mem_zalloc(sizeof(*t));
	struct env *env = env_real();
	struct keeper_options ko = {
		.env = env,
		.store = opt->store,
		.node = opt->node,
		.incarnation = env_random(env) | 1,
		.map = opt->map,
		.device_uuids = opt->device_uuids,
		.map_changed = opt->map_changed,
		.lease = opt->lease,
		.wake = wake,
		.wake_ctx = t,
		.ctx = opt->ctx,
	};
	pthread_condattr_t attr;
	int rc;

	if (!t)
		return -ENOMEM;
	rc = keeper_new(&ko, &t->keeper);
	if (rc < 0) {
		mem_free(t);
		return rc;
	}
	t->store = opt->store;
	t->store_watch = opt->store_watch;
	t->alive = opt->alive;
	t->ctx = opt->ctx;
	t->watch_epoch = opt->map->epoch;
	pthread_mutex_init(&t->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->cond, &attr);
	pthread_condattr_destroy(&attr);
	*out = t;
	return 0;
}

int keeper_thread_start(struct keeper_thread *t)
{
	if (pthread_create(&t->thread, NULL, keeper_main, t) != 0)
		return -EAGAIN;
	t->started = true;
	t->turned = true;
	pthread_setname_np(t->thread, "keeper");
	if (pthread_create(&t->watch, NULL, watch_main, t) != 0)
		return -EAGAIN;
	t->watching = true;
	pthread_setname_np(t->watch, "keeper-watch");
	return 0;
}

int keeper_thread_propose(struct keeper_thread *t, const struct proposal *proposal)
{
	return keeper_propose(t->keeper, proposal);
}

void keeper_thread_wake(struct keeper_thread *t)
{
	wake(t);
}

void keeper_thread_halt(struct keeper_thread *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->mutex);
	t->halt = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->mutex);
	if (t->started)
		pthread_join(t->thread, NULL);
	if (t->watching)
		pthread_join(t->watch, NULL);
	t->started = false;
	t->watching = false;
}

void keeper_thread_free(struct keeper_thread *t)
{
	if (!t)
		return;
	keeper_thread_halt(t);
	if (t->turned)
		keeper_stop(t->keeper);
	keeper_free(t->keeper);
	t->store->ops->close(t->store);
	t->store_watch->ops->close(t->store_watch);
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->mutex);
	mem_free(t);
}

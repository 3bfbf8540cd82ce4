/* The real world and the simulated one behind struct env. */
#include "core/base/env.h"

#include <sys/random.h>
#include <time.h>

static uint64_t real_now_us(struct env *env)
{
	struct timespec ts;

	(void)env;
	/* It goes on while the machine is suspended, as the leases that others hold do. */
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static int64_t real_wall_ns(struct env *env)
{
	struct timespec ts;

	(void)env;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t real_random(struct env *env)
{
	uint64_t v = 0;

	while (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		;
	(void)env;
	return v;
}

struct env *env_real(void)
{
	static const struct env_ops ops = {real_now_us, real_wall_ns, real_random};
	static struct env env = {&ops};

	return &env;
}

static struct env_sim *sim_of(struct env *env)
{
	return (struct env_sim *)env;
}

static uint64_t sim_now_us(struct env *env)
{
	return sim_of(env)->time_us;
}

static int64_t sim_wall_ns(struct env *env)
{
	return 1700000000000000000 + (int64_t)sim_of(env)->time_us * 1000;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t sim_random(struct env *env)
{
	uint64_t z = sim_of(env)->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void env_sim_init(struct env_sim *sim, uint64_t seed)
{
	static const struct env_ops ops = {sim_now_us, sim_wall_ns, sim_random};

	*sim = (struct env_sim){.env.ops = &ops, .time_us = 1000000, .state = seed};
}

void env_sim_advance(struct env_sim *sim, uint64_t by_us)
{
	sim->time_us += by_us;
}

/*
 * The world of a shard: clock and randomness. (Its device, kv, fabric and map store are
 * ops tables of their own.) Everything below a program's main asks here and nowhere
 * else, so that a simulator can own time. One env may be shared by threads if its ops
 * are thread-safe; env_real's are.
 */
#ifndef WFS_BASE_ENV_H
#define WFS_BASE_ENV_H

#include <stdint.h>

struct env;

struct env_ops {
	uint64_t (*now_us)(struct env *env);  /* monotonic */
	int64_t (*wall_ns)(struct env *env);  /* since 1970, for timestamps */
	uint64_t (*random)(struct env *env);  /* 64 uniform bits */
};

struct env {
	const struct env_ops *ops;
};

static inline uint64_t env_now_us(struct env *env)
{
	return env->ops->now_us(env);
}
static inline int64_t env_wall_ns(struct env *env)
{
	return env->ops->wall_ns(env);
}
static inline uint64_t env_random(struct env *env)
{
	return env->ops->random(env);
}

/* The machine's own clocks and getrandom(2). Never freed. */
struct env *env_real(void);

/* A simulated world: time stands still until advanced, randomness comes from a seed. */
struct env_sim {
	struct env env;
	uint64_t time_us;
	uint64_t state;
};
void env_sim_init(struct env_sim *sim, uint64_t seed);
void env_sim_advance(struct env_sim *sim, uint64_t by_us);

#endif

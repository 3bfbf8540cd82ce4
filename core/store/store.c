/*
 * Opening, closing and turning a store. What happens inside is in the other files, see
 * store_impl.h.
 *
 * Everything is allocated here, at open; a failure on the way releases what there is.
 * Closing waits for the device to answer what was asked, since the answers go into the
 * store's memory; should it stay silent for a minute, that memory is given up.
 */
#include <errno.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

static void store_release(struct store *s)
{
	cleaner_release(s);
	forward_release(s);
	read_release(s);
	group_release(s);
	segment_table_release(s);
	buf_release(&s->scratch);
	mem_free(s);
}

static struct store *store_new(struct device *dev, struct kv *kv, struct env *env,
	void (*pump)(void *ctx), void *ctx)
{
	struct store *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	s->dev = dev;
	s->kv = kv;
	s->env = env;
	s->pump = pump;
	s->pump_ctx = ctx;
	s->next_sequence = 1;
	list_init(&s->queue);
	list_init(&s->barriers);
	list_init(&s->read_free);
	list_init(&s->read_stalled);
	buf_init(&s->scratch);
	return s;
}

static int store_allocate(struct store *s)
{
	uint64_t area = (uint64_t)s->super.segment_size_bytes * s->super.segment_count;
	int rc = segment_table_init(s);

	if (!rc)
		rc = group_init(s);
	if (!rc)
		rc = read_init(s);
	if (!rc)
		rc = cleaner_init(s);
	s->checkpoint.log_limit_bytes = area / 4 < STORE_CHECKPOINT_LOG_BYTES
						? area / 4
						: STORE_CHECKPOINT_LOG_BYTES;
	return rc;
}

int store_open(struct device *dev, struct kv *kv, struct env *env,
	const struct store_options *opt, void (*pump)(void *ctx), void *ctx,
	struct store **store_out, struct store_refusal *refusal_out)
{
	uint64_t start_us = env_now_us(env);
	struct store *s = store_new(dev, kv, env, pump, ctx);
	int rc;

	if (!s)
		return -ENOMEM;
	rc = super_load(s, opt, refusal_out);
	if (rc)
		goto fail;
	rc = store_allocate(s);
	if (rc)
		goto fail;
	s->super.incarnation++;
	s->super.generation++;
	rc = super_store(s);
	if (rc)
		goto fail;
	rc = recovery_run(s, opt, refusal_out);
	if (rc)
		goto fail;
	s->stats.recovery_us = env_now_us(env) - start_us;
	*store_out = s;
	return 0;
fail:
	store_release(s);
	return rc;
}

/* End all that waits inside the store; the device may still be busy. */
static void store_stop(struct store *s, int status)
{
	if (!s->error)
		s->error = status;
	commit_cancel(s, status);
	checkpoint_cancel(s, status);
	read_cancel(s, status);
}

void store_close(struct store *s)
{
	uint64_t start_us;

	if (!s)
		return;
	store_stop(s, -ESHUTDOWN);
	start_us = env_now_us(s->env);
	while (s->io_count > 0) {
		if (env_now_us(s->env) - start_us > STORE_IO_TIMEOUT_US) {
			log_error("store close io_count=%u device=silent", s->io_count);
			return;
		}
		s->pump(s->pump_ctx);
	}
	store_release(s);
}

void store_abandon(struct store *s)
{
	if (!s)
		return;
	store_stop(s, -ESHUTDOWN);
	read_abandon(s, -ESHUTDOWN);
	store_release(s);
}

uint64_t store_poll(struct store *s)
{
	uint64_t delay_us;
	bool stalled = read_poll(s);

	if (s->error)
		return UINT64_MAX;
	commit_poll(s);
	if (!s->error)
		checkpoint_poll(s);
	if (!s->error)
		cleaner_poll(s);
	if (!s->error)
		commit_poll(s);
	if (s->error)
		return UINT64_MAX;
	segment_discard_one(s);
	commit_room(s);
	if (stalled || s->cleaner.again) {
		s->cleaner.again = false;
		return 0;
	}
	delay_us = checkpoint_delay_us(s);
	if (s->cleaner.retry_at_us > env_now_us(s->env) && delay_us > STORE_RETRY_US)
		delay_us = STORE_RETRY_US;
	if (s->discard_count > 0 && delay_us > STORE_FLUSH_POLL_US)
		delay_us = STORE_FLUSH_POLL_US;
	return delay_us;
}

int store_error(const struct store *s)
{
	return s->error;
}

void store_device_uuid(const struct store *s, uint8_t uuid_out[16])
{
	memcpy(uuid_out, s->super.device_uuid, 16);
}

void store_stats(const struct store *s, struct store_stats *out)
{
	*out = s->stats;
	out->size_bytes = (uint64_t)s->super.segment_size_bytes * s->super.segment_count;
	out->live_bytes = s->live_blocks * WFS_BLOCK_SIZE;
	out->free_bytes = s->live_blocks < s->capacity_blocks
				  ? (s->capacity_blocks - s->live_blocks) * WFS_BLOCK_SIZE
				  : 0;
	out->segment_count = s->super.segment_count;
	out->segment_free_count = s->free_count;
}

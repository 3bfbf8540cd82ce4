/*
 * The cleaner: makes free segments out of half-dead ones.
 *
 *   IDLE -victim_pick-> READ   a window of the victim is being read
 *   READ -cleaner_window_done-> COPY   live blocks go to the cleaner's group
 *   COPY -> READ when the next commit is not in the window, -> IDLE at the victim's end
 *
 * A victim is walked commit by commit, because a commit's payload tells the crc of each
 * of its blocks and, in a segment the cleaner wrote, their ids. Copies go to the
 * cleaner's own open segment, so that data which stayed live for long is not mixed with
 * new data. Moving is compare-and-swap: whether a block is still live at its old place
 * is asked again at cleaner_commit, and only those that are move; the copies of others
 * are dead on arrival. A block that does not match its crc stays where it is, and its
 * segment is left alone: readers get the error, and the owner repairs or drops it.
 *
 * Which victim: with free segments at hand, the best (1 - u) * age / (1 + u); when they
 * run low, simply the emptiest. It must be empty enough for its copies to take less.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/base/crc.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/store_impl.h"

int cleaner_init(struct store *s)
{
	struct cleaner *c = &s->cleaner;

	c->window_max =
		1 + s->group_data_max +
		format_overflow(s->record_max + format_pad8(4 * s->group_data_max));
	if (c->window_max > s->segment_blocks)
		c->window_max = s->segment_blocks;
	c->window = mem_aligned(WFS_BLOCK_SIZE, (size_t)c->window_max * WFS_BLOCK_SIZE);
	c->birth = mem_alloc(s->group_data_max * sizeof(*c->birth));
	c->from = mem_alloc(s->group_data_max * sizeof(*c->from));
	c->moves = mem_alloc(s->group_data_max * sizeof(struct move_disk));
	return c->window && c->birth && c->from && c->moves ? 0 : -ENOMEM;
}

void cleaner_release(struct store *s)
{
	struct cleaner *c = &s->cleaner;

	mem_free(c->window);
	mem_free(c->birth);
	mem_free(c->from);
	mem_free(c->moves);
}

uint32_t cleaner_target(const struct store *s)
{
	uint32_t target = s->super.segment_count / 32;

	return target < STORE_KEEP_WRITE + 3 ? STORE_KEEP_WRITE + 3 : target;
}

/* --- the victim --------------------------------------------------------------------- */

static uint64_t victim_score(const struct store *s, const struct segment *g, bool urgent)
{
	uint64_t dead = s->segment_blocks - g->live_count;

	if (urgent)
		return dead;
	return dead * (s->next_segment_seq - g->seq) /
		       (s->segment_blocks + g->live_count) +
	       1;
}

static struct segment *victim_pick(const struct store *s)
{
	bool urgent = s->free_count <= STORE_KEEP_WRITE + 1;
	uint32_t limit = segment_usable(s) - (urgent ? 0 : s->segment_blocks / 32);
	struct segment *best = NULL;
	uint64_t best_score = 0;

	for (uint32_t i = 0; i < s->super.segment_count; i++) {
		struct segment *g = &s->segments[i];
		uint64_t score;

		if (g->state != SEGMENT_FULL || g->live_count == 0 || g->bad ||
			g->live_count >= limit)
			continue;
		score = victim_score(s, g, urgent);
		if (score > best_score) {
			best = g;
			best_score = score;
		}
	}
	return best;
}

static bool victim_rest(const struct store *s, const struct segment *g, uint32_t from)
{
	const uint64_t *words = segment_bitmap(s, g);

	for (uint32_t i = from; i < s->segment_blocks; i++) {
		if (i % 64 == 0 && words[i / 64] == 0)
			i += 63;
		else if (words[i / 64] >> (i % 64) & 1)
			return true;
	}
	return false;
}

static void cleaner_window_done(struct device_io *io, int status)
{
	struct cleaner *c = container_of(io, struct cleaner, io);
	struct store *s = container_of(c, struct store, cleaner);

	s->io_count--;
	c->io_busy = false;
	c->io_status = status;
}

static void cleaner_window(struct store *s)
{
	struct cleaner *c = &s->cleaner;
	uint32_t left = s->segment_blocks - c->pos;

	c->window_pos = c->pos;
	c->window_count = left < c->window_max ? left : c->window_max;
	c->io = (struct device_io){
		.op = DEVICE_READ,
		.data = c->window,
		.size_bytes = c->window_count * WFS_BLOCK_SIZE,
		.offset_bytes = segment_offset(s, c->victim, c->pos),
		.done = cleaner_window_done,
	};
	c->state = CLEANER_READ;
	c->io_busy = true;
	s->io_count++;
	c->io_status = device_submit(s->dev, &c->io);
	if (c->io_status) {
		c->io_busy = false;
		s->io_count--;
	}
}

static void victim_leave(struct store *s, const char *why, uint32_t block)
{
	struct cleaner *c = &s->cleaner;

	log_error("store cleaner leaves segment=%u seq=%llu block=%u offset=%llu: %s",
		segment_index(s, c->victim), (unsigned long long)c->victim_seq, block,
		(unsigned long long)segment_offset(s, c->victim, block), why);
	c->victim->bad = true;
	c->victim = NULL;
	c->state = CLEANER_IDLE;
}

static void cleaner_later(struct store *s)
{
	struct cleaner *c = &s->cleaner;

	c->retry_at_us = env_now_us(s->env) + STORE_RETRY_US;
	c->victim = NULL;
	c->state = CLEANER_IDLE;
}

/* --- committing moves --------------------------------------------------------------- */

static uint32_t moves_build(struct store *s, const struct group *g)
{
	struct cleaner *c = &s->cleaner;
	uint64_t first = place_make(g->segment_seq, g->pos + 1);
	uint32_t size = 0;
	uint32_t i = 0;

	while (i < g->data_count) {
		struct format_move m = {c->birth[i], c->from[i], first + i, 1};

		if (!place_live(s, c->from[i])) {
			i++;
			continue;
		}
		while (i + m.count < g->data_count &&
			c->birth[i + m.count] == m.id + m.count &&
			c->from[i + m.count] == m.from + m.count &&
			place_live(s, c->from[i + m.count]))
			m.count++;
		move_encode(&m, c->moves + size);
		size += (uint32_t)sizeof(struct move_disk);
		i += m.count;
		s->stats.cleaned_bytes += (uint64_t)m.count * WFS_BLOCK_SIZE;
	}
	return size;
}

static int cleaner_commit(struct store *s)
{
	struct cleaner *c = &s->cleaner;
	struct group *g = c->group;
	uint32_t size;
	int rc;

	if (!g)
		return 0;
	if (s->open_group && s->open_group->record_count > 0)
		group_seal(s->open_group);
	c->group = NULL;
	size = moves_build(s, g);
	rc = size ? moves_apply(s, c->moves, size) : 0;
	if (rc || size == 0) {
		group_drop(g);
		return rc;
	}
	group_append(g, &(struct record_view){
				.type = FORMAT_RECORD_MOVES,
				.bytes = c->moves,
				.size_bytes = size,
			});
	group_seal(g);
	return 0;
}

/* --- copying ------------------------------------------------------------------------ */

static uint64_t move_birth(
	const void *payload, const struct commit_head *head, uint64_t place)
{
	uint32_t offset = payload_records(head);
	struct record_view r;

	while (payload_next(payload, head->payload_size_bytes, &offset, &r) == 1) {
		for (uint32_t at = 0; at < r.size_bytes;
			at += (uint32_t)sizeof(struct move_disk)) {
			struct format_move m;

			move_decode(r.bytes + at, &m);
			if (place >= m.to && place - m.to < m.count)
				return m.id + (place - m.to);
		}
	}
	return 0;
}

/* A group with room for one more block: 1, 0 to wait, or an error. */
static int copy_group(struct store *s)
{
	struct cleaner *c = &s->cleaner;
	struct group *g = c->group;
	int rc;

	if (g) {
		uint32_t moves = (g->data_count + 1) * (uint32_t)sizeof(struct move_disk);

		if (group_fits(g, 1, (uint32_t)sizeof(struct record_disk) + moves))
			return 1;
		rc = cleaner_commit(s);
		if (rc)
			return rc;
	}
	c->group = group_open(s, STREAM_CLEANER, 2, STORE_KEEP_CLEAN);
	if (!c->group && s->dead_count > 0 && s->checkpoint.state == CHECKPOINT_IDLE &&
		env_now_us(s->env) >= s->checkpoint.retry_at_us && s->free_count == 0)
		s->checkpoint.wanted = true;
	return c->group ? 1 : 0;
}

/* The live blocks of the commit at c->pos: 1 all copied, 0 to wait, or an error. */
static int copy_blocks(struct store *s, const struct commit_head *head, const uint8_t *at,
	const void *payload)
{
	struct cleaner *c = &s->cleaner;

	for (; c->data_next < head->data_count; c->data_next++) {
		uint32_t i = c->data_next;
		uint64_t place = place_make(c->victim_seq, c->pos + 1 + i);
		const uint8_t *data = at + (size_t)(1 + i) * WFS_BLOCK_SIZE;
		struct group *g;
		int rc;

		if (!place_live(s, place))
			continue;
		if (crc32c(data, WFS_BLOCK_SIZE) != payload_crc_get(payload, i)) {
			s->stats.crc_error_count++;
			return -EUCLEAN;
		}
		rc = copy_group(s);
		if (rc != 1)
			return rc;
		g = c->group;
		c->from[g->data_count] = place;
		c->birth[g->data_count] = head->kind == FORMAT_KIND_LOG
						  ? place
						  : move_birth(payload, head, place);
		if (c->birth[g->data_count] == 0)
			return -EUCLEAN;
		memcpy(group_data(g, g->data_count), data, WFS_BLOCK_SIZE);
		g->data_count++;
	}
	return 1;
}

/* One commit of the window: 1 go on, 0 wait or read, or an error. */
static int copy_commit(struct store *s)
{
	struct cleaner *c = &s->cleaner;
	uint32_t have = c->window_pos + c->window_count - c->pos;
	const uint8_t *at = c->window + (size_t)(c->pos - c->window_pos) * WFS_BLOCK_SIZE;
	struct commit_head head;
	const void *payload;
	uint32_t blocks;
	int rc;

	if (have == 0) {
		cleaner_window(s);
		return 0;
	}
	rc = commit_head_decode(at, WFS_BLOCK_SIZE, &head);
	if (rc || memcmp(head.device_uuid, s->super.device_uuid, 16) != 0 ||
		head.segment_seq != c->victim_seq || head.block != c->pos ||
		head.physical != segment_index(s, c->victim))
		return -EUCLEAN;
	blocks = 1 + head.data_count + head.overflow_count;
	if (blocks > have) {
		if (c->window_pos == c->pos)
			return -EUCLEAN;
		cleaner_window(s);
		return 0;
	}
	payload = head.overflow_count
			  ? at + (size_t)(1 + head.data_count) * WFS_BLOCK_SIZE
			  : ((const struct commit_disk *)(const void *)at)->payload;
	if (c->data_next == 0) {
		rc = payload_check(&head, payload, head.payload_size_bytes);
		if (rc)
			return rc;
	}
	rc = copy_blocks(s, &head, at, payload);
	if (rc != 1)
		return rc;
	c->pos += blocks;
	c->data_next = 0;
	return 1;
}

static void cleaner_copy(struct store *s)
{
	struct cleaner *c = &s->cleaner;
	int rc = 1;

	while (rc == 1 && victim_rest(s, c->victim, c->pos)) {
		if (c->pos >= s->segment_blocks)
			break;
		rc = copy_commit(s);
	}
	if (rc == 0)
		return;
	if (rc == 1) {
		rc = cleaner_commit(s);
		c->victim = NULL;
		c->state = CLEANER_IDLE;
		c->again = true;
		if (rc)
			cleaner_later(s);
		return;
	}
	if (rc == -EUCLEAN) {
		victim_leave(s, "damaged", c->pos);
		rc = cleaner_commit(s);
		if (rc)
			cleaner_later(s);
		return;
	}
	if (c->group)
		group_drop(c->group);
	c->group = NULL;
	cleaner_later(s);
}

static void cleaner_start(struct store *s)
{
	struct cleaner *c = &s->cleaner;

	if (env_now_us(s->env) < c->retry_at_us)
		return;
	if (s->free_count + s->dead_count + s->dying_count < cleaner_target(s))
		c->victim = victim_pick(s);
	if (!c->victim) {
		if (cleaner_commit(s) != 0)
			cleaner_later(s);
		else if (s->free_count < cleaner_target(s)) /* do not search all day */
			c->retry_at_us = env_now_us(s->env) + STORE_FLUSH_POLL_US;
		return;
	}
	c->victim_seq = c->victim->seq;
	c->pos = 1;
	c->data_next = 0;
	cleaner_window(s);
}

void cleaner_poll(struct store *s)
{
	struct cleaner *c = &s->cleaner;

	if (c->io_busy || s->checkpoint.state == CHECKPOINT_HOLD)
		return;
	if (c->state == CLEANER_IDLE)
		cleaner_start(s);
	if (c->state == CLEANER_READ && !c->io_busy) {
		if (c->io_status == -EIO)
			victim_leave(s, "cannot be read", c->window_pos);
		else if (c->io_status)
			cleaner_later(s);
		else
			c->state = CLEANER_COPY;
	}
	/* The victim may have lost its last live block, and with it its life, meanwhile.
	 */
	if (c->victim && c->victim->seq != c->victim_seq) {
		c->victim = NULL;
		c->state = CLEANER_IDLE;
	}
	if (c->state == CLEANER_COPY && s->groups[STORE_GROUP_COUNT].state <= GROUP_OPEN)
		cleaner_copy(s);
}

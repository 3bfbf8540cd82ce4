/*
 * The store as its caller sees it: what is written comes back, before and after a clean
 * or an unclean stop; space runs out and comes back; a device is used for ever.
 */
#include "tests/unit/store_harness.h"

#define SEG (256u << 10)

Test(store, round_trip)
{
	struct world w;
	uint64_t state = 1;

	h_init(&w, 64 * SEG, SEG, 1);
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	cr_assert_eq(h_run(&w, 300, &state), 0);
	h_check(&w, w.step_count);
	cr_assert_eq(h_drain(&w), 0);
	cr_assert_eq(w.acked_count, 300);
	h_check(&w, 300);
	h_close(&w);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	cr_assert_eq(h_number(&w), 300);
	h_adopt(&w);
	cr_assert_eq(h_checkpoint(&w), 0);
	h_close(&w);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	h_adopt(&w);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0);
}

Test(store, many_crashes)
{
	struct world w;
	uint64_t state = 7;

	h_init(&w, 48 * SEG, SEG, 2);
	device_sim_faults(w.disk)->reorder = true;
	cr_assert_eq(h_format(&w), 0);
	for (int i = 0; i < 60; i++) {
		cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
		h_adopt(&w);
		cr_assert_eq(
			h_run(&w, 20 + (uint32_t)(h_random(&state) % 200), &state), 0);
		if (i % 3 == 0)
			h_close(&w);
		else
			h_crash(&w);
	}
	h_release(&w);
}

static void overwrite_for_ever(uint32_t segment_bytes, uint32_t segments, double fill)
{
	uint32_t rounds = 12;
	struct world w;
	uint64_t state = 3;
	struct store_stats st;
	uint64_t size, live;

	h_init(&w, (uint64_t)(segments + 1) * segment_bytes + (1 << 20), segment_bytes,
		3);
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	store_stats(w.store, &st);
	size = st.size_bytes;
	w.blocks_max = segment_bytes < SEG ? 8 : 16;
	w.slots = (uint32_t)((double)st.free_bytes * fill /
			     ((w.blocks_max + 1) / 2.0 * WFS_BLOCK_SIZE));
	cr_assert_leq(w.slots, H_SLOTS);
	do {
		int rc = h_run(&w, 500, &state);

		store_stats(w.store, &st);
		cr_assert_eq(rc, 0, "rc %d free %u live %llu of %llu", rc,
			st.segment_free_count, (unsigned long long)st.live_bytes,
			(unsigned long long)st.size_bytes);
	} while (st.user_bytes < rounds * size);
	live = st.live_bytes;
	h_check(&w, w.step_count);
	cr_assert_eq(h_drain(&w), 0);
	h_crash(&w);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	h_adopt(&w);
	fprintf(stderr,
		"overwrite: %u segments of %u KiB, live %.0f%%, %.1f times over, write "
		"amplification %.2f, cleaned %.1f MiB, %llu checkpoints\n",
		segments, segment_bytes >> 10, 100.0 * (double)live / (double)size,
		(double)st.user_bytes / (double)size,
		(double)st.device_bytes / (double)st.user_bytes,
		(double)st.cleaned_bytes / 1048576.0,
		(unsigned long long)st.checkpoint_count);
	h_release(&w);
}

Test(store, overwrite_half_full)
{
	overwrite_for_ever(SEG, 64, 0.5);
}

Test(store, overwrite_nearly_full)
{
	overwrite_for_ever(SEG, 64, 0.9);
}

Test(store, overwrite_tiny_segments)
{
	overwrite_for_ever(64u << 10, 40, 0.5);
}

Test(store, full_then_delete)
{
	struct world w;
	struct store_stats st;
	uint32_t slot = 0;
	int rc = 0;

	h_init(&w, 24 * SEG, SEG, 4);
	w.slots = H_SLOTS;
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	for (int round = 0; round < 5; round++) {
		uint32_t idle = 0;

		for (slot = 0; slot < w.slots && idle < 20000; h_turn(&w)) {
			struct h_step s = {.slot = slot, .block_count = 4};

			rc = h_step(&w, &s);
			idle++;
			if (rc == 0) {
				slot++;
				idle = 0;
			} else if (rc != -EAGAIN) {
				break;
			}
		}
		cr_assert_eq(rc, -ENOSPC, "slot %u rc %d", slot, rc);
		store_stats(w.store, &st);
		cr_assert_gt(st.live_bytes, st.size_bytes / 4);
		for (uint32_t i = 0; i < slot; h_turn(&w)) {
			struct h_step s = {.slot = i, .kind = 1};

			rc = h_step(&w, &s);
			if (rc == 0)
				i++;
			else
				cr_assert_eq(rc, -EAGAIN);
		}
		store_stats(w.store, &st);
		cr_assert_eq(st.live_bytes, 0);
	}
	cr_assert_eq(h_drain(&w), 0);
	h_check(&w, w.step_count);
	h_release(&w);
}

struct barrier_seen {
	struct store_barrier b;
	struct world *w;
	uint32_t acked_count; /* when it came */
	int status;
	bool finished;
};

static void barrier_done(struct store_barrier *b, int status)
{
	struct barrier_seen *seen = container_of(b, struct barrier_seen, b);

	seen->status = status;
	seen->finished = true;
	seen->acked_count = seen->w->acked_count;
}

/* Each barrier comes after the records before it, also while the cleaner is at work. */
Test(store, barriers)
{
	struct world w;
	uint64_t state = 5;
	struct store_stats st;

	h_init(&w, 30 * SEG, SEG, 5);
	w.slots = 200;
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	for (int i = 0; i < 2000; i++) {
		struct barrier_seen seen = {.w = &w, .b.done = barrier_done};
		uint32_t before;

		cr_assert_eq(h_run(&w, 1 + (uint32_t)(h_random(&state) % 5), &state), 0);
		before = w.step_count;
		store_barrier(w.store, &seen.b);
		while (!seen.finished)
			h_turn(&w);
		cr_assert_eq(seen.status, 0);
		cr_assert_geq(seen.acked_count, before);
	}
	store_stats(w.store, &st);
	cr_assert_gt(st.cleaned_bytes, 0);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0);
}

static void room_came(void *ctx)
{
	*(bool *)ctx = true;
}

/* A record that was refused for want of a buffer is called back when there is one. */
Test(store, room)
{
	struct world w;
	struct h_step s = {.block_count = 16};
	bool room = false;
	int rc;

	h_init(&w, 64 * (1 << 20), 1 << 20, 6);
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	store_on_room(w.store, room_came, &room);
	while ((rc = h_step(&w, &s)) == 0)
		s.slot = (s.slot + 1) % w.slots;
	cr_assert_eq(rc, -EAGAIN);
	cr_assert(!room);
	for (int i = 0; i < 100 && !room; i++)
		h_turn(&w);
	cr_assert(room);
	cr_assert_eq(h_step(&w, &s), 0);
	cr_assert_eq(h_drain(&w), 0);
	h_check(&w, w.step_count);
	h_release(&w);
}

/* What is pending at a close is told so, and an aborted record leaves nothing. */
Test(store, abort_and_shutdown)
{
	struct world w;
	struct h_step s = {.slot = 1, .block_count = 3};
	struct store_record r = {.block_count = 5};
	struct batch b;

	h_init(&w, 32 * SEG, SEG, 7);
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	cr_assert_eq(store_begin(w.store, &r), 0);
	store_abort(w.store, &r);
	cr_assert(!store_block_live(w.store, r.id));
	cr_assert_eq(h_step(&w, &s), 0);
	r.block_count = 0;
	cr_assert_eq(store_begin(w.store, &r), 0);
	batch_init(&b);
	for (int i = 0; i < 2; i++) {
		static uint8_t value[60000];

		batch_put(&b, "k", 1, value, sizeof(value));
	}
	cr_assert_eq(store_commit(w.store, &r, &b), -E2BIG);
	batch_release(&b);
	h_close(&w);
	cr_assert_eq(w.failed_count, 1);
	cr_assert_eq(h_open(&w), 0);
	h_adopt(&w);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0);
}

/* Batches that do not fit behind their data go to the next group. */
Test(store, long_batches)
{
	struct world w;
	uint64_t state = 8;

	h_init(&w, 40 * (4u << 20), 4u << 20, 8);
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0);
	for (uint32_t i = 0; i < 200; h_turn(&w)) {
		static uint8_t value[1 << 20];
		struct h_record *h = calloc(1, sizeof(*h));
		uint32_t size = (uint32_t)(h_random(&state) % (1000 << 10));
		struct batch b;
		int rc;

		h->w = &w;
		h->number = i + 1;
		h->r.done = h_done;
		h->r.block_count = (uint32_t)(h_random(&state) % 257);
		rc = store_begin(w.store, &h->r);
		if (rc == -EAGAIN) {
			free(h);
			continue;
		}
		cr_assert_eq(rc, 0);
		memset(h->r.data, (int)i, (size_t)h->r.block_count * WFS_BLOCK_SIZE);
		batch_init(&b);
		memset(value, (int)i, size);
		batch_put(&b, "value", 5, value, size);
		if (h->r.block_count)
			batch_free_blocks(&b, h->r.id, h->r.block_count);
		cr_assert_eq(store_commit(w.store, &h->r, &b), 0);
		batch_release(&b);
		i++;
	}
	cr_assert_eq(h_drain(&w), 0);
	cr_assert_eq(w.acked_count, 200);
	h_crash(&w);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	h_release(&w);
}

/*
 * Crashes: the power fails at every single write of a program, with what was in flight
 * kept, torn or dropped as the seed says. After each the store opens, holds all that was
 * acknowledged, nothing in part, and no wrong data. Then it crashes again during or after
 * that recovery, and goes on.
 */
#include "tests/unit/store_harness.h"

#define SEG (64u << 10)

static void crash_setup(struct world *w, uint64_t seed, uint32_t segment_bytes)
{
	h_init(w, 30 * segment_bytes, segment_bytes, seed);
	w->slots = 16;
	w->blocks_max = 6;
	device_sim_faults(w->disk)->reorder = seed % 2;
	kv_model_flush_delay_set(w->kvdisk, (unsigned)(seed % 5));
	cr_assert_eq(h_format(w), 0);
	cr_assert_eq(h_open(w), 0, "%s", w->refusal.text);
}

/* Returns false when the program ended before write `nth`. */
static bool crash_at(uint64_t seed, unsigned nth, unsigned second)
{
	struct world w;
	uint64_t state = seed;
	int rc;

	crash_setup(&w, seed, SEG);
	device_sim_faults(w.disk)->crash_at_write = nth;
	rc = h_run(&w, 900, &state);
	if (!rc)
		rc = h_drain(&w);
	if (!device_sim_crashed(w.disk)) {
		cr_assert_eq(rc, 0, "rc %d seed %llu", rc, (unsigned long long)seed);
		h_release(&w);
		return false;
	}
	h_crash(&w);
	device_sim_faults(w.disk)->crash_at_write = second;
	rc = h_open(&w);
	if (rc) {
		cr_assert(second == 1 || second == 2, "%d %s", rc, w.refusal.text);
	} else {
		device_sim_faults(w.disk)->crash_at_write = 0;
		h_adopt(&w);
		cr_assert_eq(h_run(&w, 30, &state), 0);
		h_crash(&w);
	}
	device_sim_faults(w.disk)->crash_at_write = 0;
	rc = h_open(&w);
	cr_assert_eq(rc, 0, "rc %d %s: seed %llu nth %u", rc, w.refusal.text,
		(unsigned long long)seed, nth);
	h_adopt(&w);
	cr_assert_eq(h_run(&w, 30, &state), 0);
	cr_assert_eq(h_drain(&w), 0);
	h_check(&w, w.step_count);
	h_release(&w);
	return true;
}

static void crash_matrix(uint64_t seed)
{
	unsigned nth = 1;

	while (crash_at(seed, nth, nth % 4))
		nth++;
	cr_assert_gt(nth, 100, "only %u writes", nth);
	fprintf(stderr, "crash matrix: seed %llu, %u writes\n", (unsigned long long)seed,
		nth - 1);
}

Test(store_crash, every_write_seed_1)
{
	crash_matrix(1);
}
Test(store_crash, every_write_seed_2)
{
	crash_matrix(2);
}
Test(store_crash, every_write_seed_3)
{
	crash_matrix(3);
}
Test(store_crash, every_write_seed_4)
{
	crash_matrix(4);
}

/* Crash after crash on a device that is nearly full, so that the cleaner is at work. */
Test(store_crash, under_pressure)
{
	uint64_t cleaned_bytes = 0;

	for (uint64_t seed = 10; seed < 20; seed++) {
		struct world w;
		uint64_t state = seed;
		struct store_stats st;

		crash_setup(&w, seed, 2 * SEG);
		w.slots = 105;
		for (int i = 0; i < 60; i++) {
			unsigned nth = 1 + (unsigned)(h_random(&state) % 60);
			int rc;

			device_sim_faults(w.disk)->crash_at_write = nth;
			rc = h_run(&w, 400, &state);
			cr_assert(device_sim_crashed(w.disk), "rc %d", rc);
			store_stats(w.store, &st);
			cleaned_bytes += st.cleaned_bytes;
			h_crash(&w);
			device_sim_faults(w.disk)->crash_at_write = 0;
			cr_assert_eq(h_open(&w), 0, "%s seed %llu", w.refusal.text,
				(unsigned long long)seed);
			h_adopt(&w);
		}
		h_release(&w);
	}
	fprintf(stderr, "crashes under pressure: cleaned %.1f MiB\n",
		(double)cleaned_bytes / 1048576.0);
	cr_assert_gt(cleaned_bytes, 1u << 20);
}

/*
 * Faults: the nth allocation, the nth I/O, the nth call of the index fails, for all n
 * until none is reached. Each time the error comes back as an error, whatever was
 * acknowledged is there after opening again, and nothing leaks.
 */
#include "tests/unit/store_harness.h"

#define SEG (64u << 10)

enum fault { FAULT_MEM, FAULT_IO, FAULT_KV };

static void fault_arm(struct world *w, enum fault fault, unsigned nth)
{
	if (fault == FAULT_MEM)
		mem_fault_arm(nth);
	else if (fault == FAULT_IO)
		device_sim_faults(w->disk)->fail_nth = nth;
	else
		kv_model_fault_arm(w->kvdisk, nth);
}

/* Whether it had fired. */
static bool fault_disarm(struct world *w, enum fault fault)
{
	bool fired;

	if (fault == FAULT_MEM) {
		fired = mem_fault_fired();
		mem_fault_arm(0);
	} else if (fault == FAULT_IO) {
		fired = device_sim_faults(w->disk)->fail_nth == 0;
		device_sim_faults(w->disk)->fail_nth = 0;
	} else {
		fired = kv_model_fault_fired(w->kvdisk);
		kv_model_fault_arm(w->kvdisk, 0);
	}
	return fired;
}

/* Whatever happens, go on; a failed store is opened again by the caller. */
static void fault_work(struct world *w, uint64_t *state)
{
	for (int i = 0; i < 260; i++) {
		int rc = h_run(w, 1, state);

		if (store_error(w->store))
			return;
		cr_assert(rc == 0 || rc == -EIO || rc == -ENOMEM, "rc %d", rc);
		if (i % 60 == 59) {
			rc = h_checkpoint(w);
			cr_assert(rc == 0 || rc == -EIO || rc == -ENOMEM, "rc %d", rc);
		}
	}
	(void)h_drain(w);
}

struct shape {
	uint32_t segment_bytes;
	uint32_t slots;
	uint32_t prefill;
};

static const struct shape roomy = {SEG, 16, 40};
static const struct shape tight = {2 * SEG, 95, 220}; /* the cleaner is at work */

static uint64_t cleaned_bytes;

static bool fault_at(enum fault fault, const struct shape *shape, unsigned nth)
{
	struct world w;
	uint64_t state = 99;
	struct store_stats st;
	bool fired;
	int rc;

	h_init(&w, 28 * shape->segment_bytes, shape->segment_bytes, 99);
	w.slots = shape->slots;
	w.blocks_max = 6;
	cr_assert_eq(h_format(&w), 0);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	cr_assert_eq(h_run(&w, shape->prefill, &state), 0);
	h_crash(&w);
	fault_arm(&w, fault, nth);
	rc = h_open(&w);
	if (rc) {
		cr_assert(
			rc == -EIO || rc == -ENOMEM, "open rc %d %s", rc, w.refusal.text);
		cr_assert(fault_disarm(&w, fault));
		cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
		fault_arm(&w, fault, 0);
		h_adopt(&w);
		h_release(&w);
		cr_assert_eq(mem_live_count(), 0, "leak at %u", nth);
		return true;
	}
	w.failed_count = 0;
	w.step_count = h_number(&w);
	if (w.step_count == 0) /* this was the one that failed */
		w.step_count = h_number(&w);
	cr_assert_geq(w.step_count, w.acked_count);
	w.acked_count = w.step_count;
	fault_work(&w, &state);
	fired = fault_disarm(&w, fault);
	store_stats(w.store, &st);
	cleaned_bytes = st.cleaned_bytes;
	if (!store_error(w.store)) {
		cr_assert_eq(h_run(&w, 20, &state), 0);
		cr_assert_eq(h_drain(&w), 0);
		cr_assert_eq(w.failed_count, 0);
		h_check(&w, w.step_count);
	}
	h_close(&w);
	rc = h_open(&w);
	cr_assert_eq(rc, 0, "reopen rc %d %s at %u", rc, w.refusal.text, nth);
	h_adopt(&w);
	h_release(&w);
	cr_assert_eq(mem_live_count(), 0, "leak at %u", nth);
	return fired;
}

/* Every one up to 400, then in steps, so that it ends in our time. */
static void fault_matrix(enum fault fault, const struct shape *shape, const char *name)
{
	unsigned nth = 1;
	unsigned runs = 0;

	for (; fault_at(fault, shape, nth); nth += nth < 400         ? 1
						   : shape == &tight ? 41
								     : 7)
		runs++;
	fprintf(stderr, "fault matrix: %s, %u of %u faults, cleaned %llu KiB\n", name,
		runs, nth - 1, (unsigned long long)cleaned_bytes >> 10);
	cr_assert_gt(runs, 50);
	cr_assert(shape != &tight || cleaned_bytes > 0);
}

Test(store_fault, every_io)
{
	fault_matrix(FAULT_IO, &roomy, "I/O");
}
Test(store_fault, every_io_tight)
{
	fault_matrix(FAULT_IO, &tight, "I/O, tight");
}
Test(store_fault, every_index_call)
{
	fault_matrix(FAULT_KV, &roomy, "index");
}
Test(store_fault, every_index_call_tight)
{
	fault_matrix(FAULT_KV, &tight, "index, tight");
}
Test(store_fault, every_allocation)
{
	fault_matrix(FAULT_MEM, &roomy, "allocation");
}
Test(store_fault, every_allocation_tight)
{
	fault_matrix(FAULT_MEM, &tight, "allocation, tight");
}

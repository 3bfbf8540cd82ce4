/*
 * Damage: flipped bits, lost, misdirected and corrupted writes. The store may refuse to
 * open, or give an error for a block; it never returns wrong data, and never forgets in
 * silence what it acknowledged, but for the very last commit, where damage and a torn
 * end look the same.
 */
#include "tests/unit/store_harness.h"

#define SEG (64u << 10)

static void damage_setup(struct world *w)
{
	uint64_t state = 21;

	h_init(w, 18 * SEG, SEG, 21);
	w->slots = 10;
	w->blocks_max = 5;
	cr_assert_eq(h_format(w), 0);
	cr_assert_eq(h_open(w), 0, "%s", w->refusal.text);
	cr_assert_eq(h_run(w, 30, &state), 0);
	cr_assert_eq(h_drain(w), 0);
	cr_assert_eq(h_checkpoint(w), 0);
	for (int i = 0; i < 12; i++) {
		cr_assert_eq(h_run(w, 1, &state), 0);
		cr_assert_eq(h_drain(w), 0);
	}
}

struct verdict {
	uint32_t refused;
	uint32_t read_errors;
	uint32_t shorter;
	uint32_t unaffected;
};

/* Open and compare; `slack` records may be gone from the end. */
static void damage_judge(struct world *w, uint32_t slack, struct verdict *v)
{
	static _Alignas(WFS_BLOCK_SIZE) uint8_t data[H_BLOCKS_MAX * WFS_BLOCK_SIZE];
	struct h_slot model[H_SLOTS] = {0};
	uint32_t errors = 0;
	uint32_t n;
	int rc = h_open(w);

	if (rc) {
		cr_assert(rc == -EUCLEAN || rc == -EIO, "rc %d", rc);
		cr_assert_neq(w->refusal.text[0], 0);
		v->refused++;
		return;
	}
	n = h_number(w);
	cr_assert_geq(
		n + slack, w->acked_count, "%u of %u acknowledged", n, w->acked_count);
	for (uint32_t i = 0; i < n; i++)
		h_model_apply(model, &w->steps[i], i + 1);
	for (uint32_t i = 0; i < w->slots; i++) {
		rc = h_check_slot(w, i, &model[i], data);
		cr_assert(rc == 0 || rc == -EUCLEAN, "read %d", rc);
		errors += rc != 0;
	}
	if (errors)
		v->read_errors++;
	else if (n < w->acked_count)
		v->shorter++;
	else
		v->unaffected++;
}

Test(store_damage, one_bit_in_every_block)
{
	struct verdict v = {0};
	uint64_t state = 22;
	uint32_t blocks = 18 * SEG / WFS_BLOCK_SIZE;

	for (uint32_t i = 0; i < blocks; i++) {
		struct world w;
		uint8_t *bytes;

		damage_setup(&w);
		h_close(&w);
		bytes = device_sim_bytes(w.disk) + (size_t)i * WFS_BLOCK_SIZE;
		bytes[h_random(&state) % WFS_BLOCK_SIZE] ^=
			(uint8_t)(1u << (h_random(&state) % 8));
		damage_judge(&w, 1, &v);
		h_release(&w);
	}
	fprintf(stderr,
		"one bit in each of %u blocks: %u refused, %u read errors, %u last "
		"commit lost, "
		"%u unaffected\n",
		blocks, v.refused, v.read_errors, v.shorter, v.unaffected);
	cr_assert_gt(v.refused, 0);
	cr_assert_gt(v.read_errors, 5);
	cr_assert_leq(v.shorter, 6);
}

enum liar { LIAR_LOSE, LIAR_CORRUPT, LIAR_MISDIRECT };

static bool liar_run(enum liar liar, unsigned nth, struct verdict *v)
{
	struct world w;
	struct device_sim_faults *faults;
	uint64_t state = 100 + nth;
	unsigned *armed;
	bool fired;
	int rc = 0;

	damage_setup(&w);
	faults = device_sim_faults(w.disk);
	armed = liar == LIAR_LOSE      ? &faults->lose_nth
		: liar == LIAR_CORRUPT ? &faults->corrupt_nth
				       : &faults->misdirect_nth;
	*armed = nth;
	for (int i = 0; !rc && i < 60; i++) {
		rc = h_run(&w, 1 + (uint32_t)(h_random(&state) % 4), &state);
		if (!rc)
			rc = h_drain(&w);
	}
	cr_assert_eq(rc, 0, "rc %d", rc);
	fired = *armed == 0;
	*armed = 0;
	h_close(&w);
	damage_judge(&w, 4, v);
	h_release(&w);
	return fired;
}

static void liar_matrix(enum liar liar, const char *name)
{
	struct verdict v = {0};
	unsigned nth = 1;

	while (liar_run(liar, nth, &v))
		nth++;
	fprintf(stderr,
		"%s write: %u runs, %u refused, %u read errors, %u last commit lost, "
		"%u unaffected\n",
		name, nth, v.refused, v.read_errors, v.shorter, v.unaffected);
	cr_assert_gt(nth, 40);
	cr_assert_leq(v.shorter, 3);
}

Test(store_damage, lost_write)
{
	liar_matrix(LIAR_LOSE, "lost");
}
Test(store_damage, corrupted_write)
{
	liar_matrix(LIAR_CORRUPT, "corrupted");
}
Test(store_damage, misdirected_write)
{
	liar_matrix(LIAR_MISDIRECT, "misdirected");
}

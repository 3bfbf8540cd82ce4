/*
 * The store on what it runs on: a file through io_uring, RocksDB as the index, the real
 * clock. What was acknowledged survives stops without a checkpoint.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/store_harness.h"

static char folder[] = "/tmp/wfs-store-real-XXXXXX";

static void real_init(struct world *w, uint64_t size_bytes, uint32_t segment_bytes)
{
	char path[256];

	memset(w, 0, sizeof(*w));
	log_set_level(LOG_ERROR + 1);
	cr_assert_not_null(mkdtemp(folder));
	w->path = folder;
	w->slots = 256;
	w->blocks_max = 8;
	w->steps = calloc(H_STEPS_MAX, sizeof(*w->steps));
	w->opt.segment_size_bytes = segment_bytes;
	snprintf(path, sizeof(path), "%s/device", folder);
	cr_assert_eq(device_file_create(path, size_bytes, NULL, NULL), 0);
	cr_assert_eq(ring_new(256, &w->ring), 0);
}

static void real_release(struct world *w)
{
	char command[300];

	if (w->store)
		h_close(w);
	ring_free(w->ring);
	free(w->steps);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	cr_assert_eq(system(command), 0);
}

Test(store_real, round_trips)
{
	struct world w;
	uint64_t state = 1;
	uint64_t start_us;
	struct store_stats st;

	real_init(&w, 80u << 20, 2u << 20);
	cr_assert_eq(h_format(&w), 0, "%s", w.refusal.text);
	cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
	for (int i = 0; i < 3; i++) {
		start_us = env_now_us(env_real());
		cr_assert_eq(h_run(&w, 4000, &state), 0);
		cr_assert_eq(h_drain(&w), 0);
		store_stats(w.store, &st);
		fprintf(stderr,
			"file and RocksDB: %.0f records/s, %.0f MB/s, %.1f a commit\n",
			4000e6 / (double)(env_now_us(env_real()) - start_us),
			(double)st.user_bytes /
				(double)(env_now_us(env_real()) - start_us),
			(double)st.record_count / (double)st.commit_count);
		if (i == 1)
			cr_assert_eq(h_checkpoint(&w), 0);
		h_close(&w);
		cr_assert_eq(h_open(&w), 0, "%s", w.refusal.text);
		h_adopt(&w);
	}
	real_release(&w);
}

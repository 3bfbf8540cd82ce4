/*
 * Appends: the file consists of whole records, each at most once; every acknowledged one
 * is there, at the offset that was answered; and of two where one ended before the other
 * began, the first stands before.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void log_check(ino_id ino)
{
	uint8_t *expected = malloc(4096), *content;
	uint64_t *places = calloc(sim.op_count + 1, sizeof(*places));
	struct attr attr;
	size_t at = 0;
	int rc = w_fstat(&sim.w, ino, &attr);

	check_eq(rc, 0, "log %" PRIx64 ": %s", ino, strerror(-rc));
	content = malloc(attr.size_bytes + 16);
	rc = w_read(&sim.w, ino, content, attr.size_bytes, 0);
	if (rc == -EIO && sim.nemesis.liar != WORLD_VIA_NONE)
		goto end;
	check(rc == (int)attr.size_bytes, "log %" PRIx64 " cannot be read: %d", ino, rc);
	while (at < attr.size_bytes) {
		uint32_t head[4], size;

		check(attr.size_bytes - at >= sizeof(head), "half a record");
		memcpy(head, content + at, sizeof(head));
		check(head[1] > 0 && head[1] <= sim.op_count,
			"log %" PRIx64 ": no record at %zu", ino, at);
		size = record_size_of(head[1]);
		check(size <= attr.size_bytes - at, "half a record at %zu", at);
		record_fill(expected, head[1]);
		check(memcmp(content + at, expected, size) == 0,
			"log %" PRIx64 ": the record at %zu is not in one piece", ino,
			at);
		check(places[head[1]] == 0, "append %u is there twice", head[1]);
		places[head[1]] = at + 1;
		at += size;
	}
	for (size_t i = 0; i < sim.history_count; i++) {
		const struct op *a = &sim.history[i];

		if (a->kind != DO_APPEND || a->ino != ino)
			continue;
		if (a->status == 0)
			check(places[a->number] == a->offset + 1,
				"append %u to %" PRIx64 " was answered at %" PRIu64
				" and is at %" PRId64,
				a->number, ino, a->offset,
				(int64_t)places[a->number] - 1);
		for (size_t k = 0; k < sim.history_count; k++) {
			const struct op *b = &sim.history[k];

			if (b->kind == DO_APPEND && b->ino == ino && a->end < b->begin &&
				places[a->number] && places[b->number])
				check(places[a->number] < places[b->number],
					"append %u comes after %u", a->number, b->number);
		}
	}
end:
	free(content);
	free(expected);
	free(places);
}

void logs_check(void)
{
	for (unsigned i = 0; i < LOGS; i++)
		log_check(sim.logs[i]);
}

/*
 * The filler: now and then it writes until a device is full, waits, and deletes it all.
 *
 * Its data is of no interest; that deletes always work, that others are told ENOSPC and
 * lose nothing, and that there is room again afterwards, is.
 */
#include "tests/sim/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PIECE     (128u << 10)
#define FILES_MAX 12u
#define CHUNKS    4u

enum stage { IDLE, CREATING, LEARNING, WRITING, HOLDING, DELETING };

static struct filler {
	struct wop o;
	uint32_t seq;
	enum stage stage;
	bool over;
	uint32_t file;
	ino_id ino;
	uint64_t offset;
	uint64_t next_us;
	uint8_t data[PIECE];
} f;

static void path_set(char *path)
{
	sprintf(path, "/%c/full%u", 'a' + f.file % DIRS, f.file);
}

static void send(void)
{
	f.o.via = sim.w.shard_count - 1;
	f.o.seqs = &f.seq;
	f.o.slot = 5;
	f.o.session = 2000;
	wop_begin(&f.o);
}

static void create(void)
{
	struct wire_mknod wm = {.mode = le32_put(S_IFREG | 0644)};
	char path[16];

	path_set(path);
	f.stage = CREATING;
	wop_init(&f.o, &sim.w, OP_MKNOD, path);
	wop_fixed(&f.o, &wm, sizeof(wm));
	send();
}

static void learn(void)
{
	char path[16];

	path_set(path);
	f.stage = LEARNING;
	wop_init(&f.o, &sim.w, OP_WALK, path);
	send();
}

static void piece_write(void)
{
	f.stage = WRITING;
	wop_write(&f.o, &sim.w, f.ino, f.offset, f.data, PIECE);
	send();
}

static void delete(void)
{
	char path[16];

	path_set(path);
	f.stage = DELETING;
	wop_init(&f.o, &sim.w, OP_UNLINK, path);
	send();
}

static void hold(uint64_t us)
{
	f.stage = HOLDING;
	f.next_us = world_now_us(&sim.w) + us;
}

/* Something has ended: what comes next. */
static void ended(void)
{
	int status = f.o.status;

	switch (f.stage) {
	case CREATING:
		if (status == 0 || status == -EEXIST)
			learn();
		else
			hold(sim_below(1000000));
		return;
	case LEARNING:
		f.ino = le64_get(f.o.reply.attr.ino);
		f.offset = 0;
		if (status == 0 && !f.over)
			piece_write();
		else
			hold(sim_below(1000000));
		return;
	case WRITING:
		f.offset += PIECE;
		if (status == -ENOSPC) {
			trace("filler full at %u MiB of file %u",
				(unsigned)(f.offset >> 20), f.file);
			sim.report.faults[FAULT_FULL]++;
			hold(200000 + sim_below(3000000));
		} else if (status || f.over) {
			hold(sim_below(1000000));
		} else if (f.offset < CHUNKS * WFS_CHUNK_SIZE) {
			piece_write();
		} else if (++f.file < FILES_MAX) {
			create();
		} else {
			f.file--;
			hold(sim_below(1000000));
		}
		return;
	case DELETING:
		check(status != -ENOSPC, "no room to delete");
		if (status && status != -ENOENT) {
			delete();
		} else if (f.file > 0) {
			f.file--;
			delete();
		} else {
			f.stage = IDLE;
			f.next_us = world_now_us(&sim.w) + sim_below(6000000);
		}
		return;
	default: return;
	}
}

void filler_begin(void)
{
	memset(&f, 0, sizeof(f));
	memset(f.data, 0x5a, sizeof(f.data));
	f.next_us = world_now_us(&sim.w) + sim_below(3000000);
}

void filler_turn(bool more)
{
	bool due = world_now_us(&sim.w) >= f.next_us;

	if (!sim.nemesis.on[FAULT_FULL])
		return;
	f.over = !more;
	if (f.stage == IDLE) {
		if (more && due)
			create();
	} else if (f.stage == HOLDING) {
		if (due || f.over)
			delete();
	} else if (f.o.finished) {
		ended();
	}
}

bool filler_idle(void)
{
	return f.stage == IDLE;
}

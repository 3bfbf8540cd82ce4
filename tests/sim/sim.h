/*
 * The simulator: one seed is one cluster, its clients, and what goes wrong.
 *
 *   run.c      a seed from beginning to end        nemesis.c  what goes wrong, and when
 *   clients.c  what clients do, and what they saw  main.c     seeds, processes, reports
 *   filler.c   one more client, who fills devices
 *   names.c, cells.c, logs.c                       whether what they saw can be true
 *
 * Everything comes from the seed: the world (tests/lib/world.h) draws from its own
 * generator, the simulator from another. Nothing depends on the machine's time or memory,
 * so a seed that failed fails again, with a trace if one is wanted.
 */
#ifndef WFS_TESTS_SIM_H
#define WFS_TESTS_SIM_H

#include "core/base/mutate.h"
#include "tests/lib/check.h"
#include "tests/lib/world.h"

#define CLIENTS_MAX 6u
#define DIRS        3u
#define NAMES       5u
#define STABLE      3u /* files that are never unlinked */
#define LOGS        2u /* files that are only appended to */
#define CELL_SIZE   1024u
#define IO_MAX      16384u
#define NEVER       UINT64_MAX

enum fault {
	FAULT_KILL,
	FAULT_KILL_ALL,
	FAULT_CRASH_AT_WRITE,
	FAULT_FREEZE,
	FAULT_PARTITION,
	FAULT_ONE_WAY,
	FAULT_ISOLATE,
	FAULT_LOSS,
	FAULT_DOUBLE,
	FAULT_LATE,
	FAULT_SILENT,
	FAULT_STORE_AWAY,
	FAULT_STORE_AWAY_ALL,
	FAULT_STORE_DEAF,
	FAULT_SLOW_DEVICE,
	FAULT_IO_ERROR,
	FAULT_LOST_WRITE,
	FAULT_CORRUPT,
	FAULT_MISDIRECT,
	FAULT_DEVICE_GONE,
	FAULT_DRAIN,
	FAULT_NODE_ADD,
	FAULT_EVICT,
	FAULT_CLOCK,
	FAULT_FULL,
	FAULT_COUNT
};
extern const char *const fault_names[FAULT_COUNT];

enum op_kind {
	DO_CREATE,
	DO_OPEN, /* with O_CREAT, then close */
	DO_MKDIR,
	DO_UNLINK,
	DO_RMDIR,
	DO_RENAME,
	DO_LINK,
	DO_LOOKUP,
	DO_READDIR,
	DO_CHMOD,
	DO_WRITE,
	DO_READ,
	DO_APPEND,
	DO_TRUNCATE,
	DO_COUNT
};
extern const char *const op_names[DO_COUNT];

/* What a client did, and between which events. */
struct op {
	enum op_kind kind;
	uint32_t client;
	uint32_t number; /* from 1: the tag of what it writes */
	uint64_t begin;
	uint64_t end;    /* NEVER: nobody knows whether it happened, or when */
	int status;
	bool twice; /* a write that was made again, since the file was cut meanwhile */
	uint32_t dir, name, dir2, name2;
	unsigned flags;
	ino_id ino;
	uint64_t offset;
	uint32_t size;
	uint32_t mode;
	uint32_t seen_count; /* READ: cells; READDIR: names */
	uint32_t *seen;
	ino_id *seen_inos;
};

struct client {
	struct wop o;
	uint32_t number;
	uint32_t seq;
	bool busy;
	uint64_t next_us;
	struct op op;
	unsigned step;
	unsigned tries;
	uint32_t generation;
	uint8_t data[IO_MAX];
	uint8_t listing[8192];
};

struct nemesis {
	bool on[FAULT_COUNT];
	uint64_t gap_us; /* on average */
	uint64_t next_us;
	uint64_t restart_us[WORLD_SHARDS_MAX];
	uint64_t thaw_us[WORLD_SHARDS_MAX];
	uint64_t store_back_us[WORLD_SHARDS_MAX];
	uint64_t fast_us[WORLD_SHARDS_MAX];
	uint64_t undrain_us;
	uint32_t draining;
	uint64_t net_heal_us;
	uint64_t net_calm_us;
	uint32_t liar; /* the one whose device lies; WORLD_VIA_NONE: none so far */
	bool over;
};

struct sim_report {
	uint64_t sim_us;
	uint64_t ops;
	uint64_t unknown;
	uint64_t undecided;
	uint64_t turns;
	uint64_t faults[FAULT_COUNT];
	uint64_t digest;
};

struct sim {
	struct world w;
	uint64_t seed;
	uint64_t state;
	bool loud;
	uint64_t event;
	uint32_t op_count;
	uint32_t client_count;
	struct client *clients;
	struct nemesis nemesis;
	struct op *history;
	size_t history_count, history_room;
	ino_id dirs[DIRS];
	ino_id stable[STABLE];
	ino_id logs[LOGS];
	uint32_t modes[STABLE];
	bool do_kind[DO_COUNT];
	bool big; /* chunks beyond the first are written */
	bool links;
	uint64_t think_us;
	uint64_t patience_us; /* of clients; 0: they wait */
	uint64_t until_us;
	ino_id recent[8];
	uint64_t map_epoch;
	struct sim_report report;
};
extern struct sim sim;

uint64_t sim_random(void);
uint64_t sim_below(uint64_t bound);
bool sim_chance(unsigned percent);
/* A line of the trace, when one is wanted. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the process when something is wrong. */
void sim_run(uint64_t seed, bool loud);

/* No seed has faults of this name. */
void sim_without(const char *name);

void nemesis_begin(void);
void nemesis_turn(void);
/* Everything is put right, but for what comes up by itself. */
void nemesis_end(void);
/* All are alive, and on the device that the map has them on. */
bool nemesis_settled(void);

void clients_begin(void);
/* Start what is due (not when `more` is false) and take what has ended. */
void clients_turn(bool more);
bool clients_idle(void);
void clients_end(void);
/* Who fills the devices (filler.c), if this seed has that. */
void filler_begin(void);
void filler_turn(bool more);
bool filler_idle(void);
/* Read everything once more, when all is well. */
void clients_last_look(void);
void op_keep(const struct op *op);

void names_check(void);
void cells_check(void);
void logs_check(void);

/* A cell of file `ino`, at offset, as op `number` writes it; and which one it is: 0 when
 * it is all zeros. */
void cell_fill(uint8_t *cell, ino_id ino, uint64_t offset, uint32_t number);
uint32_t cell_read(const uint8_t *cell, ino_id ino, uint64_t offset);
/* A record of a log: its size, in the first bytes. */
uint32_t record_size_of(uint32_t number);
void record_fill(uint8_t *record, uint32_t number);

#endif

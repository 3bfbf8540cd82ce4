/*
 * Registers that tell when a read is stale, and how long programs were held up.
 *
 *   register write DIR BOARD STOP     counts up the file DIR/<i>/register for each i
 *   register read DIR BOARD STOP      reads them; STOP far: its pauses do not count
 *   register reset|rounds|gap BOARD   forget the pauses; how many rounds; longest pause, ms
 *
 * One program writes, any number on any hosts read, all until the file STOP is there; each
 * does one register every PERIOD. They share BOARD, a local file outside WFS in which the
 * writer notes each value before it writes it and again when that was acknowledged. What
 * is read must not be older than what was acknowledged when the read began, and not newer
 * than what was begun when it ended. Every other round opens the file anew, by its path.
 * The first error or wrong value ends the program with a line that says it.
 *
 * A pause is from the end of one round to the end of the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REGISTERS 12
#define SIZE      4096
#define WORDS     (SIZE / sizeof(uint64_t))
#define PERIOD_MS 10

struct board {
	_Atomic uint64_t begun[REGISTERS];
	_Atomic uint64_t acknowledged[REGISTERS];
	_Atomic uint64_t rounds;
	_Atomic uint64_t gap_ms;
	_Atomic uint64_t resets; /* changes forget the pause that is under way */
};

static const char *dir;
static struct board *board;
static int fds[REGISTERS];

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void die(const char *what, unsigned i)
{
	fprintf(stderr, "register %u: %s: %s\n", i, what, strerror(errno));
	exit(1);
}

static struct board *board_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct board *b;

	if (fd < 0 || ftruncate(fd, sizeof(*b)))
		die(path, 0);
	b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (b == MAP_FAILED)
		die(path, 0);
	close(fd);
	return b;
}

static int register_open(unsigned i, bool create)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%u/register", dir, i);
	fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0644);
	if (fd < 0)
		die("open", i);
	return fd;
}

static void write_round(unsigned i, int fd)
{
	uint64_t block[WORDS], value = atomic_load(&board->acknowledged[i]) + 1;

	for (unsigned w = 0; w < WORDS; w++)
		block[w] = value;
	atomic_store(&board->begun[i], value);
	if (pwrite(fd, block, SIZE, 0) != SIZE)
		die("write", i);
	atomic_store(&board->acknowledged[i], value);
}

static void read_round(unsigned i, int fd)
{
	uint64_t block[WORDS], low = atomic_load(&board->acknowledged[i]), high;

	if (pread(fd, block, SIZE, 0) != SIZE)
		die("read", i);
	high = atomic_load(&board->begun[i]);
	for (unsigned w = 0; w < WORDS; w++) {
		if (block[w] >= low && block[w] <= high && block[w] == block[0])
			continue;
		fprintf(stderr,
			"register %u: word %u is %llu, the first %llu, after %llu was "
			"acknowledged and up to %llu begun\n",
			i, w, (unsigned long long)block[w], (unsigned long long)block[0],
			(unsigned long long)low, (unsigned long long)high);
		exit(1);
	}
}

static void gap_note(uint64_t *last_ms, uint64_t *resets)
{
	uint64_t now = now_ms(), gap = now - *last_ms, longest = board->gap_ms;

	if (*resets == board->resets)
		while (gap > longest &&
			!atomic_compare_exchange_weak(&board->gap_ms, &longest, gap))
			;
	*resets = board->resets;
	*last_ms = now;
	atomic_fetch_add(&board->rounds, 1);
}

static void run(bool writing, const char *stop, bool far)
{
	const struct timespec period = {.tv_nsec = PERIOD_MS * 1000000};
	uint64_t last_ms = now_ms(), resets = board->resets;

	for (unsigned n = 0; access(stop, F_OK) != 0; n++) {
		unsigned i = n % REGISTERS;
		bool anew = n / REGISTERS % 2;
		int fd = anew ? register_open(i, false) : fds[i];

		if (writing)
			write_round(i, fd);
		read_round(i, fd);
		if (anew && close(fd))
			die("close", i);
		if (!far)
			gap_note(&last_ms, &resets);
		nanosleep(&period, NULL);
	}
}

int main(int argc, char **argv)
{
	bool writing = argc == 5 && strcmp(argv[1], "write") == 0;
	bool far = argc == 6 && strcmp(argv[5], "far") == 0;

	if (argc == 3) {
		board = board_open(argv[2]);
		if (strcmp(argv[1], "reset") == 0) {
			atomic_fetch_add(&board->resets, 1);
			board->gap_ms = 0;
		} else {
			printf("%llu\n", (unsigned long long)(strcmp(argv[1], "gap") == 0
								      ? board->gap_ms
								      : board->rounds));
		}
		return 0;
	}
	if (argc != 5 && !far) {
		fprintf(stderr, "usage: register write|read DIR BOARD STOP [far]\n"
				"       register reset|rounds|gap BOARD\n");
		return 2;
	}
	dir = argv[2];
	board = board_open(argv[3]);
	for (unsigned i = 0; i < REGISTERS; i++) {
		fds[i] = register_open(i, writing);
		if (writing)
			write_round(i, fds[i]);
	}
	run(writing, argv[4], far);
	return 0;
}

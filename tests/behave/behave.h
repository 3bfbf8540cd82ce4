/*
 * The behaviour suite: one small test per behaviour of files, as POSIX.1 and Linux say
 * it.
 *
 *   TEST(rename_onto_itself)
 *   {
 *           put("a", "text");
 *           OK(rename("a", "a") == 0);
 *           HOLDS("a", "text");
 *   }
 *
 * A test runs in a process of its own (harness.c), in an empty directory of its own which
 * is its working directory, with umask 022, descriptors 0, 1 and 2 only, and a time
 * limit. The first expectation that fails ends it; so does skip(). The same program runs
 * on a local file system, under the shim, and on a mount (tests/behave/run).
 */
#ifndef WFS_TESTS_BEHAVE_H
#define WFS_TESTS_BEHAVE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct behaviour {
	const char *name;
	void (*run)(void);
};

#define TEST(test)                                                                       \
	static void test##_run(void);                                                    \
	static const struct behaviour test##_entry = {#test, test##_run};                \
	static const struct behaviour *const test##_pointer                              \
		__attribute__((section("behaviours"), used)) = &test##_entry;            \
	static void test##_run(void)

/* What this program does when a test executes it: run_helper("name", ...) */
struct helper {
	const char *name;
	int (*run)(int argc, char **argv); /* the exit code; argv[0] is the name */
};
#define HELPER(what)                                                                     \
	static int what##_help(int argc, char **argv);                                   \
	static const struct helper what##_helper = {#what, what##_help};                 \
	static const struct helper *const what##_helper_pointer                          \
		__attribute__((section("helpers"), used)) = &what##_helper;              \
	static int what##_help(int argc, char **argv)

/* --- expectations: the first that is not met ends the test ------------------------ */

_Noreturn void unmet(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void skip(const char *reason);

#define OK(cond)                                                                         \
	do {                                                                             \
		errno = 0;                                                               \
		if (!(cond))                                                             \
			unmet(__FILE__, __LINE__, "%s (%s)", #cond, strerror(errno));    \
	} while (0)

/* The call answers -1, and this errno. */
#define FAILS(call, error)                                                               \
	do {                                                                             \
		long result_ = (errno = 0, (long)(call));                                \
		if (result_ != -1)                                                       \
			unmet(__FILE__, __LINE__, "%s: %ld, not %s", #call, result_,     \
				#error);                                                 \
		if (errno != (error))                                                    \
			unmet(__FILE__, __LINE__, "%s: %s, not %s", #call,               \
				strerrorname_np(errno), #error);                         \
	} while (0)

/* The call answers NULL, and this errno. */
#define NULLS(call, error)                                                               \
	do {                                                                             \
		bool null_ = (errno = 0, !(call));                                       \
		if (!null_)                                                              \
			unmet(__FILE__, __LINE__, "%s: not %s", #call, #error);          \
		if (errno != (error))                                                    \
			unmet(__FILE__, __LINE__, "%s: %s, not %s", #call,               \
				strerrorname_np(errno), #error);                         \
	} while (0)

#define EQ(a, b)                                                                         \
	do {                                                                             \
		long long a_ = (errno = 0, (long long)(a)), b_ = (long long)(b);         \
		if (a_ != b_)                                                            \
			unmet(__FILE__, __LINE__, "%s: %lld, not %lld (%s)", #a, a_, b_, \
				strerror(errno));                                        \
	} while (0)

/* The file holds exactly this text. */
#define HOLDS(name, text)              holds_at(__FILE__, __LINE__, name, text, strlen(text))
#define HOLDS_BYTES(name, bytes, size) holds_at(__FILE__, __LINE__, name, bytes, size)
void holds_at(
	const char *file, int line, const char *name, const char *text, size_t size);

/* --- processes -------------------------------------------------------------------- */

/* CHILD { ... }: the block in a forked child, which is waited for and must succeed. */
#define CHILD for (bool in_ = child_begin(__LINE__); in_; _exit(0))
/* The same as another user; the test is skipped when we are not root. */
#define CHILD_AS(uid, gid)                                                               \
	for (bool in_ = (need_root(), child_begin(__LINE__) && become(uid, gid)); in_;   \
		_exit(0))
bool child_begin(int line);
bool become(uid_t uid, gid_t gid);
void need_root(void);
/* Exit code, or 256 + signal. */
int finish(pid_t pid);
/* The exit code of sh -c. */
int shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Fork, and execute this program as that helper; its exit code. The list ends with NULL.
 */
int run_helper(const char *name, ...) __attribute__((sentinel));
extern char self_path[];
/* A pipe, for events between processes: close what is not used. */
struct gate {
	int ends[2];
};
struct gate gate_new(void);
void gate_open(struct gate *g); /* once, by one side */
void gate_wait(struct gate *g); /* the other */

/* No memory is there. */
extern char *volatile nowhere;

/* --- files ------------------------------------------------------------------------ */

void put(const char *name, const char *text);
void put_size(const char *name, size_t size); /* text that differs from byte to byte */
char byte_at(size_t offset);                  /* of put_size */
void dir(const char *name);
void sym(const char *target, const char *name);
int ro(const char *name);
int wo(const char *name);
int rw(const char *name); /* made when it is not there */
int ro_dir(const char *name);
struct stat see(const char *name); /* lstat */
struct stat fsee(int fd);
mode_t mode_of(const char *name); /* the lower 12 bits */
bool there(const char *name);
/* The absolute path; eight may be in use at once. */
char *full(const char *name);
extern char test_dir[PATH_MAX];
/* Until a time that is taken later differs from one that was taken before. */
void tick(void);
int compare_times(struct timespec a, struct timespec b); /* -1, 0, 1 */
/* Names of a directory as one sorted string, without dots: "a b c". */
const char *names_in(const char *name);
/* A new directory on another file system (tmpfs or the like), absolute. */
const char *other_fs(void);

#endif

/* posix_spawn with file actions that open and change into the directory. */
#include <signal.h>
#include <spawn.h>

#include "posix.h"

extern char **environ;

static int spawn_wait(const char *path, posix_spawn_file_actions_t *fa, char *const argv[])
{
	pid_t pid;
	int rc = posix_spawnp(&pid, path, fa, NULL, argv, environ);

	return rc ? 1000 + rc : status_of(pid);
}

int main(int argc, char **argv)
{
	char *echo[] = {"sh", "-c", "read a; echo got $a; echo error >&2", NULL};
	char *here[] = {"sh", "-c", "cat in > copy && pwd", NULL};
	char *prog[] = {"prog", "-c", "exit 7", NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	char text[9000];
	pid_t pid;
	int fd;

	posix_start(argc, argv);
	put("in", "input\n");
	OK(posix_spawn_file_actions_init(&fa) == 0);
	OK(posix_spawn_file_actions_addopen(&fa, 0, at("in"), O_RDONLY, 0) == 0);
	OK(posix_spawn_file_actions_addopen(
		   &fa, 1, at("out"), O_WRONLY | O_CREAT, 0640) == 0);
	OK(posix_spawn_file_actions_adddup2(&fa, 1, 2) == 0);
	OK(spawn_wait("sh", &fa, echo) == 0);
	OK(holds("out", "got input\nerror\n"));
	OK(posix_spawn_file_actions_addopen(&fa, 5, at("absent"), O_RDONLY, 0) == 0);
	OK(spawn_wait("sh", &fa, echo) == 1000 + ENOENT);
	posix_spawn_file_actions_destroy(&fa);

	OK(posix_spawn_file_actions_init(&fa) == 0);
	OK(posix_spawn_file_actions_addchdir_np(&fa, posix_top) == 0);
	OK(posix_spawn_file_actions_addopen(&fa, 1, "where", O_WRONLY | O_CREAT, 0644) == 0);
	OK(spawn_wait("sh", &fa, here) == 0);
	snprintf(text, sizeof(text), "%s\n", posix_top);
	OK(holds("copy", "input\n") && holds("where", text));
	posix_spawn_file_actions_destroy(&fa);

	/* An inherited descriptor and no path of ours: by libc. */
	fd = open(at("inherited"), O_WRONLY | O_CREAT, 0644);
	OK(posix_spawn_file_actions_init(&fa) == 0);
	OK(posix_spawn_file_actions_adddup2(&fa, fd, 1) == 0);
	OK(posix_spawn_file_actions_addclose(&fa, fd) == 0);
	OK(posix_spawn_file_actions_addopen(&fa, 0, at("in"), O_RDONLY, 0) == 0);
	OK(spawn_wait("cat", &fa, (char *[]){"cat", NULL}) == 0);
	OK(holds("inherited", "input\n") && lseek(fd, 0, SEEK_CUR) == 6);
	posix_spawn_file_actions_destroy(&fa);
	close(fd);

	snprintf(text, sizeof(text), "cp /bin/sh %s", at("prog"));
	OK(system(text) == 0);
	OK(spawn_wait(at("prog"), NULL, prog) == 7);
	OK(spawn_wait(at("absent"), NULL, prog) == 1000 + ENOENT);
	OK(posix_spawnattr_init(&attr) == 0);
	OK(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID) == 0);
	OK(posix_spawn(&pid, at("prog"), NULL, &attr,
		   (char *[]){"prog", "-c", "exit 0", NULL}, environ) == 0);
	OK(status_of(pid) == 0);
	return posix_end();
}

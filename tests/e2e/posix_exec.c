/*
 * Programs started by fork, vfork and exec: inherited descriptors and redirections, the
 * working directory, a cleaned environment, scripts and programs in the directory.
 */
#include "posix.h"

extern char **environ;

static void run(char *const argv[], char *const envp[])
{
	pid_t pid = vfork();

	if (!pid) {
		execve(argv[0], argv, envp);
		_exit(127);
	}
	OK(status_of(pid) == 0);
}

static void check_redirection(void)
{
	int out = dup(1), fd = open(at("out"), O_WRONLY | O_CREAT, 0644);
	char *echo[] = {"/bin/sh", "-c", "echo one; echo two; /bin/echo three", NULL};

	OK(dup2(fd, 1) == 1);
	close(fd);
	run(echo, environ);
	OK(lseek(1, 0, SEEK_CUR) == 14);
	OK(dup2(out, 1) == 1);
	close(out);
	OK(holds("out", "one\ntwo\nthree\n"));
}

static void check_input(void)
{
	char command[9000];

	snprintf(command, sizeof(command),
		"cd %s && { read a; cat; } < out > rest && test \"$a\" = one", posix_top);
	OK(system(command) == 0);
	OK(holds("rest", "two\nthree\n"));
}

static void check_descriptor(void)
{
	int fd = open(at("fd"), O_RDWR | O_CREAT, 0644);
	char script[64];
	char *argv[] = {"/bin/bash", "-c", script, NULL};

	OK(write(fd, "before ", 7) == 7);
	OK(dup2(fd, 57) == 57);
	snprintf(script, sizeof(script), "echo after >&57; echo more >&%d", fd);
	run(argv, environ);
	OK(write(fd, "end", 3) == 3);
	OK(holds("fd", "before after\nmore\nend"));
	close(fd);
	close(57);
}

static void check_clean_environment(void)
{
	char *envp[] = {"PATH=/bin:/usr/bin", NULL};
	char command[8300];
	char *argv[] = {"/bin/sh", "-c", command, NULL};

	snprintf(command, sizeof(command), "cat %s > /dev/null", at("out"));
	run(argv, envp);
	snprintf(command, sizeof(command), "env -i /bin/cat %s > /dev/null", at("out"));
	run(argv, envp);
}

static void check_directory(void)
{
	char *argv[] = {"/bin/sh", "-c",
		"test -f out && echo here > relative && cd .. && cd - > /dev/null && "
		"test \"$(/bin/pwd)\" = \"$0\" && cat relative | grep -q here",
		posix_top, NULL};
	char was[4096];

	OK(getcwd(was, sizeof(was)));
	OK(chdir(posix_top) == 0);
	run(argv, environ);
	OK(chdir(was) == 0);
	OK(holds("relative", "here\n"));
}

static void copy(const char *from, const char *to)
{
	char command[9000];

	snprintf(command, sizeof(command), "cp %s %s && chmod 755 %s", from, to, to);
	OK(system(command) == 0);
}

static void check_program(void)
{
	char *argv[] = {at("prog"), "-c", "exit 0", NULL};
	char *script[] = {at("script"), "a b", "c", NULL};
	char *denied[] = {at("out"), NULL};
	pid_t pid;

	copy("/bin/sh", at("prog"));
	run(argv, environ);
	put("script", "#! /bin/sh -e\ntest \"$1 $2\" = \"a b c\"\n");
	OK(chmod(at("script"), 0755) == 0);
	run(script, environ);
	put("plain", "exit 3\n");
	OK(chmod(at("plain"), 0755) == 0);
	pid = fork();
	if (!pid) {
		execlp(at("plain"), "plain", (char *)NULL);
		_exit(127);
	}
	OK(status_of(pid) == 3);
	FAILS(execve(denied[0], denied, environ), EACCES);
	FAILS(execve(at("absent"), denied, environ), ENOENT);
	FAILS(execve(at("plain"), denied, environ), ENOEXEC);
}

static void check_popen(void)
{
	char command[8300], line[64] = "";
	FILE *fp;

	snprintf(command, sizeof(command), "wc -l < %s", at("out"));
	fp = popen(command, "r");
	OK(fp && fgets(line, sizeof(line), fp) && atoi(line) == 3);
	OK(pclose(fp) == 0);
}

int main(int argc, char **argv)
{
	posix_start(argc, argv);
	check_redirection();
	check_input();
	check_descriptor();
	check_clean_environment();
	check_directory();
	check_program();
	check_popen();
	return posix_end();
}

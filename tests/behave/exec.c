/* Programs: exec of what lies here, scripts, spawn, environments, dlopen. */
#include <dlfcn.h>
#include <spawn.h>
#include <sys/syscall.h>

#include "tests/behave/behave.h"

extern char **environ;

static void copy(const char *from, const char *to)
{
	EQ(shell("cp %s %s && chmod 755 %s", from, to, to), 0);
}

static void script(const char *name, const char *text)
{
	put(name, text);
	OK(chmod(name, 0755) == 0);
}

/* fork and execve; the exit code, or 1000 + errno. */
static int run(const char *path, char *const argv[], char *const envp[])
{
	int ends[2], error = 0;
	pid_t pid;

	OK(pipe2(ends, O_CLOEXEC) == 0);
	pid = fork();
	if (!pid) {
		execve(path, argv, envp);
		error = errno;
		OK(write(ends[1], &error, sizeof(error)) == sizeof(error));
		_exit(0);
	}
	close(ends[1]);
	if (read(ends[0], &error, sizeof(error)) == sizeof(error)) {
		finish(pid);
		return 1000 + error;
	}
	close(ends[0]);
	return finish(pid);
}

#define ARGV(...) ((char *[]){__VA_ARGS__, NULL})

HELPER(exit_with)
{
	return argc > 1 ? atoi(argv[1]) : 99;
}

HELPER(argv0_is)
{
	FILE *fp = fopen("/proc/self/cmdline", "r");
	char text[256] = "";

	(void)argc;
	return fp && fgets(text, sizeof(text), fp) && !strcmp(text, argv[1]) ? 0 : 1;
}

HELPER(environment_is)
{
	const char *value = getenv(argv[1]);

	if (argc == 2)
		return value ? 1 : 0;
	return value && !strcmp(value, argv[2]) ? 0 : 1;
}

TEST(exec_program)
{
	copy(self_path, "prog");
	EQ(run("./prog", ARGV("prog", "--as", "exit_with", "42"), environ), 42);
}

TEST(exec_program_absolute)
{
	copy(self_path, "prog");
	EQ(run(full("prog"), ARGV("prog", "--as", "exit_with", "42"), environ), 42);
}

TEST(exec_program_through_symlink)
{
	copy(self_path, "prog");
	sym("prog", "link");
	EQ(run("./link", ARGV("prog", "--as", "exit_with", "42"), environ), 42);
}

TEST(exec_symlink_out_to_local)
{
	sym("/bin/true", "link");
	EQ(run("./link", ARGV("true"), environ), 0);
}

TEST(exec_argv0_is_given)
{
	copy(self_path, "prog");
	EQ(run("./prog", ARGV("other name", "--as", "argv0_is", "other name"), environ),
		0);
}

TEST(exec_program_opens_files_here)
{
	copy("/bin/cat", "mycat");
	put("f", "text\n");
	EQ(shell("test \"$(./mycat f)\" = text"), 0);
}

TEST(exec_local_program_opens_files_here)
{
	put("f", "text\n");
	EQ(shell("/bin/grep -q text %s", full("f")), 0);
}

TEST(exec_twice_the_same_program)
{
	copy(self_path, "prog");
	for (int i = 0; i < 3; i++)
		EQ(run("./prog", ARGV("prog", "--as", "exit_with", "7"), environ), 7);
}

TEST(exec_of_a_large_program)
{
	copy(self_path, "prog");
	OK(truncate("prog", 8 << 20) == 0);
	EQ(run("./prog", ARGV("prog", "--as", "exit_with", "5"), environ), 5);
}

TEST(exec_proc_self_exe_is_the_path)
{
	copy("/bin/readlink", "rl");
	EQ(shell("test \"$(./rl /proc/self/exe)\" = %s", full("rl")), 0);
}

TEST(exec_absent)
{
	EQ(run("./absent", ARGV("absent"), environ), 1000 + ENOENT);
}

TEST(exec_through_file)
{
	put("f", "");
	EQ(run("f/x", ARGV("x"), environ), 1000 + ENOTDIR);
}

TEST(exec_without_permission)
{
	copy("/bin/true", "prog");
	OK(chmod("prog", 0644) == 0);
	EQ(run("./prog", ARGV("prog"), environ), 1000 + EACCES);
}

TEST(exec_permission_of_user)
{
	need_root();
	copy("/bin/true", "prog");
	OK(chmod("prog", 0744) == 0);
	CHILD_AS(1234, 1234)
	{
		EQ(run("./prog", ARGV("prog"), environ), 1000 + EACCES);
	}
}

TEST(exec_without_read_permission)
{
	need_root();
	copy("/bin/true", "prog");
	OK(chmod("prog", 0711) == 0);
	CHILD_AS(1234, 1234)
	{
		EQ(run("./prog", ARGV("prog"), environ), 0);
	}
}

TEST(exec_directory)
{
	dir("d");
	EQ(run("./d", ARGV("d"), environ), 1000 + EACCES);
}

TEST(exec_fifo)
{
	OK(mkfifo("p", 0755) == 0);
	EQ(run("./p", ARGV("p"), environ), 1000 + EACCES);
}

TEST(exec_text_without_interpreter)
{
	script("s", "exit 3\n");
	EQ(run("./s", ARGV("s"), environ), 1000 + ENOEXEC);
}

TEST(exec_empty_file)
{
	script("s", "");
	EQ(run("./s", ARGV("s"), environ), 1000 + ENOEXEC);
}

TEST(exec_loop_of_symlinks)
{
	sym("l", "l");
	EQ(run("./l", ARGV("l"), environ), 1000 + ELOOP);
}

TEST(exec_of_file_open_for_writing_is_etxtbsy)
{
	copy("/bin/true", "prog");
	OK(open("prog", O_WRONLY) >= 0);
	EQ(run("./prog", ARGV("prog"), environ), 1000 + ETXTBSY);
}

TEST(exec_running_program_cannot_be_written)
{
	struct gate ready = gate_new();
	pid_t pid;

	copy("/bin/sleep", "prog");
	pid = fork();
	if (!pid) {
		fcntl(ready.ends[1], F_SETFD, FD_CLOEXEC);
		execl("./prog", "prog", "60", (char *)NULL);
		_exit(1);
	}
	close(ready.ends[1]);
	char byte;
	EQ(read(ready.ends[0], &byte, 1), 0);
	int fd = open("prog", O_WRONLY), error = errno;
	kill(pid, SIGKILL);
	finish(pid);
	EQ(fd, -1);
	EQ(error, ETXTBSY);
}

TEST(exec_running_program_may_be_unlinked)
{
	copy("/bin/sh", "prog");
	EQ(shell("./prog -c 'rm prog && test ! -e prog'"), 0);
}

/* --- scripts ---------------------------------------------------------------------- */

TEST(script_runs_with_arguments)
{
	script("s", "#!/bin/sh\ntest \"$1 $2\" = 'a b c' && exit 4\n");
	EQ(run("./s", ARGV("s", "a b", "c"), environ), 4);
}

TEST(script_interpreter_argument)
{
	script("s", "#! /bin/sh -e\nfalse\nexit 9\n");
	EQ(run("./s", ARGV("s"), environ), 1);
}

TEST(script_interpreter_argument_is_one)
{
	script("args", "#!/bin/sh\ntest $# = 2 && test \"$1\" = '-a -b'\n");
	script("s", "");
	char text[PATH_MAX + 32];
	snprintf(text, sizeof(text), "#!%s -a -b\n", full("args"));
	if (strlen(text) > 250)
		skip("the path is too long");
	script("s", text);
	EQ(run("./s", ARGV("s"), environ), 0);
}

TEST(script_dollar_0_is_its_path)
{
	script("s", "#!/bin/sh\ntest \"$0\" = ./s\n");
	EQ(run("./s", ARGV("other"), environ), 0);
}

TEST(script_with_env)
{
	script("s", "#!/usr/bin/env sh\nexit 6\n");
	EQ(run("./s", ARGV("s"), environ), 6);
}

TEST(script_interpreter_lies_here)
{
	char text[PATH_MAX + 8];

	copy("/bin/sh", "mysh");
	snprintf(text, sizeof(text), "#!%s\nexit 8\n", full("mysh"));
	script("s", text);
	EQ(run("./s", ARGV("s"), environ), 8);
}

TEST(script_interpreter_absent)
{
	script("s", "#!/no/such/interpreter\n");
	EQ(run("./s", ARGV("s"), environ), 1000 + ENOENT);
}

TEST(script_by_script_interpreter)
{
	char text[PATH_MAX + 8];

	script("a", "#!/bin/sh\nexit 3\n");
	snprintf(text, sizeof(text), "#!%s\n", full("a"));
	script("b", text);
	EQ(run("./b", ARGV("b"), environ), 3);
}

TEST(script_by_itself_is_eloop)
{
	char text[PATH_MAX + 8];

	snprintf(text, sizeof(text), "#!%s\n", full("s"));
	script("s", text);
	EQ(run("./s", ARGV("s"), environ), 1000 + ELOOP);
}

TEST(script_without_newline)
{
	script("s", "#!/bin/true");
	EQ(run("./s", ARGV("s"), environ), 0);
}

TEST(script_python)
{
	script("s.py", "#!/usr/bin/python3\nimport sys\nsys.exit(11)\n");
	EQ(run("./s.py", ARGV("s.py"), environ), 11);
}

TEST(script_in_local_directory_of_interpreter_here)
{
	const char *local = other_fs();
	char path[64], text[PATH_MAX + 8];
	int code;

	copy("/bin/sh", "mysh");
	snprintf(path, sizeof(path), "%s/s", local);
	snprintf(text, sizeof(text), "#!%s\nexit 12\n", full("mysh"));
	script(path, text);
	code = run(path, ARGV("s"), environ);
	unlink(path);
	rmdir(local);
	EQ(code, 12);
}

/* --- the family ------------------------------------------------------------------- */

TEST(execvp_searches_path)
{
	dir("bin");
	script("bin/tool", "#!/bin/sh\nexit 21\n");
	OK(setenv("PATH", full("bin"), 1) == 0);
	pid_t pid = fork();
	if (!pid) {
		execvp("tool", ARGV("tool"));
		_exit(errno);
	}
	EQ(finish(pid), 21);
}

TEST(execvp_runs_text_by_sh)
{
	dir("bin");
	script("bin/tool", "exit 22\n");
	OK(setenv("PATH", full("bin"), 1) == 0);
	pid_t pid = fork();
	if (!pid) {
		execvp("tool", ARGV("tool"));
		_exit(errno);
	}
	EQ(finish(pid), 22);
}

TEST(execvp_goes_on_after_eacces)
{
	char path[2 * PATH_MAX];

	dir("a");
	dir("b");
	put("a/tool", "");
	script("b/tool", "#!/bin/sh\nexit 23\n");
	snprintf(path, sizeof(path), "%s:%s", full("a"), full("b"));
	OK(setenv("PATH", path, 1) == 0);
	pid_t pid = fork();
	if (!pid) {
		execvp("tool", ARGV("tool"));
		_exit(errno);
	}
	EQ(finish(pid), 23);
}

TEST(execl_and_execle)
{
	script("s", "#!/bin/sh\ntest \"$V\" = x && exit 24\n");
	pid_t pid = fork();
	if (!pid) {
		execle("./s", "s", (char *)NULL, ARGV("V=x", "PATH=/bin"));
		_exit(errno);
	}
	EQ(finish(pid), 24);
}

TEST(fexecve_of_open_file)
{
	copy("/bin/true", "prog");
	int fd = open("prog", O_RDONLY | O_CLOEXEC);
	pid_t pid = fork();
	if (!pid) {
		fexecve(fd, ARGV("prog"), environ);
		_exit(errno);
	}
	EQ(finish(pid), 0);
}

TEST(fexecve_of_unlinked_file)
{
	copy("/bin/true", "prog");
	int fd = open("prog", O_RDONLY | O_CLOEXEC);
	OK(unlink("prog") == 0);
	pid_t pid = fork();
	if (!pid) {
		fexecve(fd, ARGV("prog"), environ);
		_exit(errno);
	}
	EQ(finish(pid), 0);
}

TEST(execveat_relative)
{
	dir("d");
	script("d/s", "#!/bin/sh\nexit 25\n");
	int fd = ro_dir("d");
	pid_t pid = fork();
	if (!pid) {
		execveat(fd, "s", ARGV("s"), environ, 0);
		_exit(errno);
	}
	EQ(finish(pid), 25);
}

TEST(execveat_nofollow)
{
	script("s", "#!/bin/sh\n");
	sym("s", "l");
	pid_t pid = fork();
	if (!pid) {
		execveat(AT_FDCWD, "l", ARGV("l"), environ, AT_SYMLINK_NOFOLLOW);
		_exit(errno);
	}
	EQ(finish(pid), ELOOP);
}

TEST(vfork_and_exec)
{
	script("s", "#!/bin/sh\nexit 26\n");
	pid_t pid = vfork();
	if (!pid) {
		execve("./s", ARGV("s"), environ);
		_exit(127);
	}
	EQ(finish(pid), 26);
}

TEST(vfork_child_moves_descriptors)
{
	int fd = rw("f");
	pid_t pid = vfork();
	if (!pid) {
		dup2(fd, 1);
		execl("/bin/echo", "echo", "from vfork", (char *)NULL);
		_exit(127);
	}
	EQ(finish(pid), 0);
	HOLDS("f", "from vfork\n");
	EQ(lseek(fd, 0, SEEK_CUR), 11);
}

TEST(exec_empty_environment)
{
	put("f", "text");
	EQ(run("/bin/sh", ARGV("sh", "-c", "read a <f; test \"$a\" = text"),
		   (char *[]){NULL}),
		0);
}

TEST(exec_environment_is_given)
{
	EQ(run(self_path, ARGV(self_path, "--as", "environment_is", "V", "some value"),
		   ARGV("V=some value")),
		0);
}

TEST(exec_environment_has_no_more)
{
	OK(setenv("GONE", "x", 1) == 0);
	EQ(run(self_path, ARGV(self_path, "--as", "environment_is", "GONE"), ARGV("V=1")),
		0);
}

TEST(env_i_still_reaches_files)
{
	put("f", "text");
	EQ(shell("env -i /bin/cat %s | grep -q text", full("f")), 0);
}

TEST(exec_failed_keeps_all_as_it_was)
{
	char byte;
	int fd;

	put("f", "abc");
	fd = open("f", O_RDONLY | O_CLOEXEC);
	FAILS(execve("./absent", ARGV("absent"), environ), ENOENT);
	OK(read(fd, &byte, 1) == 1 && byte == 'a');
}

/* --- posix_spawn ------------------------------------------------------------------ */

static int spawn(
	const char *path, posix_spawn_file_actions_t *actions, char *const argv[])
{
	pid_t pid;
	int rc = posix_spawnp(&pid, path, actions, NULL, argv, environ);

	return rc ? 1000 + rc : finish(pid);
}

TEST(spawn_program_here)
{
	script("s", "#!/bin/sh\nexit 27\n");
	EQ(spawn("./s", NULL, ARGV("s")), 27);
}

TEST(spawn_absent)
{
	EQ(spawn("./absent", NULL, ARGV("absent")), 1000 + ENOENT);
}

TEST(spawn_not_executable)
{
	put("f", "");
	EQ(spawn("./f", NULL, ARGV("f")), 1000 + EACCES);
}

TEST(spawn_actions_open)
{
	posix_spawn_file_actions_t actions;

	put("in", "input\n");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, full("in"), O_RDONLY, 0);
	posix_spawn_file_actions_addopen(
		&actions, 1, full("out"), O_WRONLY | O_CREAT, 0640);
	EQ(spawn("cat", &actions, ARGV("cat")), 0);
	HOLDS("out", "input\n");
	EQ(mode_of("out"), 0640);
}

TEST(spawn_actions_open_relative)
{
	posix_spawn_file_actions_t actions;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "out", O_WRONLY | O_CREAT, 0644);
	EQ(spawn("echo", &actions, ARGV("echo", "x")), 0);
	HOLDS("out", "x\n");
}

TEST(spawn_actions_open_absent)
{
	posix_spawn_file_actions_t actions;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, full("absent"), O_RDONLY, 0);
	EQ(spawn("cat", &actions, ARGV("cat")), 1000 + ENOENT);
}

TEST(spawn_actions_dup2_and_close)
{
	posix_spawn_file_actions_t actions;
	int fd = rw("f");

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, 1);
	posix_spawn_file_actions_addclose(&actions, fd);
	EQ(spawn("echo", &actions, ARGV("echo", "spawned")), 0);
	HOLDS("f", "spawned\n");
}

TEST(spawn_actions_chdir)
{
	posix_spawn_file_actions_t actions;

	dir("d");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, full("d"));
	EQ(spawn("touch", &actions, ARGV("touch", "f")), 0);
	OK(there("d/f"));
}

TEST(spawn_actions_fchdir)
{
	posix_spawn_file_actions_t actions;

	dir("d");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addfchdir_np(&actions, ro_dir("d"));
	EQ(spawn("touch", &actions, ARGV("touch", "f")), 0);
	OK(there("d/f"));
}

TEST(spawn_inherits_descriptors)
{
	char number[16];

	put("f", "abc");
	snprintf(number, sizeof(number), "%d", ro("f"));
	EQ(spawn(self_path, NULL,
		   ARGV(self_path, "--as", "read_descriptor", number, "abc")),
		0);
}

TEST(spawn_attributes)
{
	posix_spawnattr_t attr;
	pid_t pid;

	script("s", "#!/bin/sh\nexit 28\n");
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	OK(posix_spawn(&pid, "./s", NULL, &attr, ARGV("s"), environ) == 0);
	EQ(finish(pid), 28);
}

TEST(system_runs_here)
{
	put("f", "text");
	EQ(system("grep -q text f"), 0);
}

TEST(wordexp_like_expansion_by_sh)
{
	put("a1", "");
	put("a2", "");
	EQ(shell("test \"$(echo a*)\" = 'a1 a2'"), 0);
}

/* --- dlopen ----------------------------------------------------------------------- */

static void plugin(const char *to)
{
	char from[PATH_MAX + 16];

	snprintf(from, sizeof(from), "%s_plugin.so", self_path);
	EQ(shell("cp %s %s", from, to), 0);
}

static int answer_of(void *handle)
{
	int (*answer)(void) = (int (*)(void))dlsym(handle, "behave_plugin_answer");

	return answer ? answer() : -1;
}

TEST(dlopen_absolute)
{
	plugin("p.so");
	EQ(answer_of(dlopen(full("p.so"), RTLD_NOW)), 42);
}

TEST(dlopen_relative)
{
	plugin("p.so");
	EQ(answer_of(dlopen("./p.so", RTLD_LAZY)), 42);
}

TEST(dlopen_through_symlink)
{
	plugin("p.so.1");
	sym("p.so.1", "p.so");
	EQ(answer_of(dlopen("./p.so", RTLD_NOW)), 42);
}

TEST(dlopen_twice_is_one)
{
	plugin("p.so");
	void *a = dlopen("./p.so", RTLD_NOW), *b = dlopen(full("p.so"), RTLD_NOW);
	OK(a && a == b);
}

TEST(dlopen_absent)
{
	OK(!dlopen("./absent.so", RTLD_NOW) && strstr(dlerror(), "absent.so"));
}

TEST(dlopen_not_a_library)
{
	put("p.so", "text");
	OK(!dlopen("./p.so", RTLD_NOW));
}

TEST(dlopen_after_unlink)
{
	plugin("p.so");
	void *handle = dlopen("./p.so", RTLD_NOW);
	OK(unlink("p.so") == 0);
	EQ(answer_of(handle), 42);
}

TEST(dlopen_noload)
{
	plugin("p.so");
	OK(!dlopen("./p.so", RTLD_NOW | RTLD_NOLOAD));
}

TEST(dlopen_dladdr_names_the_path)
{
	Dl_info info;

	plugin("p.so");
	void *handle = dlopen(full("p.so"), RTLD_NOW);
	OK(handle && dladdr(dlsym(handle, "behave_plugin_answer"), &info));
	OK(!strcmp(info.dli_fname, full("p.so")));
}

TEST(ld_preload_of_a_library_here)
{
	plugin("p.so");
	EQ(shell("LD_PRELOAD=%s${LD_PRELOAD:+:$LD_PRELOAD} /bin/cat /proc/self/maps >f; "
		 "grep -q p.so f",
		   full("p.so")),
		0);
}

TEST(ld_library_path_here)
{
	plugin("libbehave_path.so");
	OK(setenv("LD_LIBRARY_PATH", test_dir, 1) == 0);
	EQ(run(self_path, ARGV(self_path, "--as", "dlopen_name", "libbehave_path.so"),
		   environ),
		0);
}

HELPER(dlopen_name)
{
	(void)argc;
	return dlopen(argv[1], RTLD_NOW) ? 0 : 1;
}

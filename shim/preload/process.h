/* The environment that executed programs get; see process.c. */
#ifndef WFS_PRELOAD_PROCESS_H
#define WFS_PRELOAD_PROCESS_H

#include <stddef.h>

/*
 * envp with LD_PRELOAD, WFS_SOCKET, WFS_MOUNT and WFS_FS put back where the program took
 * them out, and WFS_CWD as it is now. env is envp itself when nothing had to change.
 */
struct exec_env {
	char **env;
	void *memory;
	size_t size;
};
int exec_env_make(char *const *envp, struct exec_env *out);
void exec_env_drop(struct exec_env *e);

/* execvpe, through the shim. */
int exec_search(const char *file, char *const argv[], char *const envp[]);

#endif

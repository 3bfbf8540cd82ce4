/*
 * The environment for programs to be executed: programs clean it, and still the children
 * must see the namespace. Built in mapped memory; what was right is not copied. The
 * user's other preloads keep their places: only when our library is missing from
 * LD_PRELOAD is the value that this process began with put in front of the new one.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/preload/fs.h"
#include "shim/preload/path.h"
#include "shim/preload/process.h"
#include "shim/preload/raw.h"

#define LIBRARY "libwfs_preload.so"
#define ADD_MAX 5

struct addition {
	const char *name;
	const char *value;
	const char *more; /* after value and ':' */
};

static unsigned additions_find(
	char *const *envp, const char *cwd, struct addition *list, bool *drop_cwd)
{
	const struct fs_settings *s = fs_settings();
	const char *preload = env_value(envp, "LD_PRELOAD");
	const char *old = env_value(envp, "WFS_CWD");
	const char *now = cwd ? cwd + sizeof("WFS_CWD=") - 1 : NULL;
	unsigned count = 0;

	if (s->preload[0] && (!preload || !strstr(preload, LIBRARY)))
		list[count++] = (struct addition){"LD_PRELOAD", s->preload,
			preload && *preload ? preload : NULL};
	if (!env_value(envp, "WFS_SOCKET"))
		list[count++] = (struct addition){"WFS_SOCKET", s->socket, NULL};
	if (s->mount_given && !env_value(envp, "WFS_MOUNT"))
		list[count++] = (struct addition){"WFS_MOUNT", s->mount, NULL};
	if (s->filesystem[0] && !env_value(envp, "WFS_FS"))
		list[count++] = (struct addition){"WFS_FS", s->filesystem, NULL};
	*drop_cwd = old && (!now || strcmp(old, now));
	if (now && (!old || *drop_cwd))
		list[count++] = (struct addition){"WFS_CWD", now, NULL};
	return count;
}

static bool is_variable(const char *text, const char *name)
{
	size_t size = strlen(name);

	return !strncmp(text, name, size) && text[size] == '=';
}

static size_t addition_size(const struct addition *a)
{
	return strlen(a->name) + strlen(a->value) + 3 + (a->more ? strlen(a->more) : 0);
}

static char *addition_put(char *text, const struct addition *a)
{
	text = stpcpy(stpcpy(stpcpy(text, a->name), "="), a->value);
	if (a->more)
		text = stpcpy(stpcpy(text, ":"), a->more);
	return text + 1;
}

int exec_env_make(char *const *envp, struct exec_env *out)
{
	char cwd[WFS_PATH_MAX + 32], *text;
	struct addition add[ADD_MAX];
	size_t count = 0, kept = 0, size;
	unsigned added;
	bool drop_cwd;
	long map;

	*out = (struct exec_env){.env = (char **)envp};
	if (!fs_on())
		return 0;
	added = additions_find(
		envp, cwd_variable(cwd, sizeof(cwd)) ? cwd : NULL, add, &drop_cwd);
	if (!added && !drop_cwd)
		return 0;
	while (envp && envp[count])
		count++;
	size = (count + added + 1) * sizeof(char *);
	for (unsigned i = 0; i < added; i++)
		size += addition_size(&add[i]);
	map = raw(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		-1, 0);
	if (map < 0 && map > -4096)
		return (int)map;
	*out = (struct exec_env){(char **)map, (void *)map, size};
	for (size_t i = 0; i < count; i++) {
		bool replaced = drop_cwd && is_variable(envp[i], "WFS_CWD");

		for (unsigned k = 0; k < added; k++)
			replaced |= is_variable(envp[i], add[k].name);
		if (!replaced)
			out->env[kept++] = envp[i];
	}
	text = (char *)(out->env + count + added + 1);
	for (unsigned i = 0; i < added; i++) {
		out->env[kept++] = text;
		text = addition_put(text, &add[i]);
	}
	return 0;
}

void exec_env_drop(struct exec_env *e)
{
	if (e->memory)
		(void)raw(SYS_munmap, e->memory, e->size);
}

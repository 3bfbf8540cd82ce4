/*
 * wfsctl: the table of commands and options, and the walk through a command line.
 *
 * A command line is [options] noun [options] [verb] [options] [operands]. A noun without
 * a verb is its first command in the table, the one that lists. All options share one
 * table; a command names those that it takes as bits.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/wfsctl/ctl.h"

#define BIT(id) ((uint64_t)1 << (id))
#define COMMON                                                                           \
	(BIT(OPT_HELP) | BIT(OPT_CLUSTER) | BIT(OPT_JSON) | BIT(OPT_COLUMNS) |           \
		BIT(OPT_NO_HEADER) | BIT(OPT_RAW))

static const struct opt {
	const char *name;
	char letter;
	const char *arg;
	const char *help;
} opts[OPT_COUNT] = {
	[OPT_HELP] = {"help", 0, NULL, "this text"},
	[OPT_CLUSTER] = {"cluster", 0, "DIR",
		"cluster directory (else $WFS_CLUSTER, else /var/lib/wfs/default)"},
	[OPT_JSON] = {"json", 0, NULL, "for programs"},
	[OPT_COLUMNS] = {"columns", 'o', "A,B,...", "show these columns"},
	[OPT_NO_HEADER] = {"no-header", 0, NULL, "no column titles"},
	[OPT_RAW] = {"raw", 0, NULL, "plain bytes and numbers, no units"},
	[OPT_FORCE] = {"force", 0, NULL,
		"do not ask; overwrite a device in use; kill what hangs; give up what is lost"},
	[OPT_NODES] = {"nodes", 0, "N", "how many nodes (default 3)"},
	[OPT_SIZE] = {"size", 0, "SIZE", "of each device file, as 4G (default 4G)"},
	[OPT_DEVICE] = {"device", 0, "PATH",
		"a block device for the next shard; repeat (default: make files)"},
	[OPT_BASE_PORT] = {"base-port", 0, "P",
		"first of one port per shard (default: a free range)"},
	[OPT_PROVIDER] = {"provider", 0, "NAME",
		"libfabric provider: net, tcp (default net)"},
	[OPT_BUCKETS] = {"buckets", 0, "N",
		"units of placement, a power of two (default 256)"},
	[OPT_SHARDS] = {"shards-per-node", 0, "N", "shards in each node (default 1)"},
	[OPT_TIMEOUT] = {"timeout", 0, "SECONDS",
		"how long a call or this command may wait"},
	[OPT_MEMORY] = {"memory", 0, "SIZE",
		"for the index of each shard (default: wfsd's)"},
	[OPT_COPIES] = {"copies", 0, "N", "of all data, on different nodes (default 1)"},
	[OPT_LEASE] = {"lease", 0, "SECONDS",
		"after which another node takes over from a dead one (default 5)"},
	[OPT_MAP] = {"map", 0, "WHERE",
		"the cluster map is kept: file, etcd for members that the nodes run, or "
		"etcd:URL[,URL...][/PREFIX] (default file)"},
	[OPT_MAP_CA] = {"map-ca", 0, "FILE", "CA of that etcd's certificates"},
	[OPT_MAP_CERT] = {"map-cert", 0, "FILE", "certificate to show it"},
	[OPT_MAP_KEY] = {"map-key", 0, "FILE", "the certificate's key"},
	[OPT_MAP_USER] = {"map-user", 0, "NAME", "user of that etcd"},
	[OPT_MAP_PASSWORD_FILE] = {"map-password-file", 0, "FILE",
		"whose first line is the user's password"},
	[OPT_HOSTS] = {"hosts", 0, "A,B,...",
		"address of each node's host (default: 127.0.0.1 for all)"},
	[OPT_NODE] = {"node", 0, "ID",
		"attach to this node (default: the first that runs)"},
	[OPT_FS] = {"fs", 0, "NAME", "filesystem (default: the first)"},
	[OPT_MOUNT] = {"mount", 0, "PATH", "where the program sees it (default /wfs)"},
	[OPT_HUMAN] = {"human-readable", 'h', NULL,
		"sizes with units, which is the default"},
	[OPT_NO_WAIT] = {"no-wait", 0, NULL, "return at once; it goes on"},
	[OPT_WAIT] = {"wait", 0, NULL, "until all buckets are where they should be"},
	[OPT_LIMIT] = {"limit", 0, "MIB",
		"each shard copies so many MiB/s at most; 0: half of the time while it "
		"serves"},
	[OPT_COMPARE] = {"compare", 0, NULL, "all copies with one another, too"},
	[OPT_REBUILD_AFTER] = {"rebuild-after", 0, "SECONDS",
		"a node dead for so long is replaced by copies elsewhere (default 60)"},
};

static const struct command commands[] = {
	{"cluster", "status", "", "health, fill, traffic and spread on one screen",
		"wfsctl cluster status --json", 0, 0, 0, cmd_cluster_status},
	{"cluster", "create", "[NAME]", "make a cluster on this machine",
		"wfsctl cluster create lab --nodes 3 --size 4G",
		BIT(OPT_NODES) | BIT(OPT_SIZE) | BIT(OPT_DEVICE) | BIT(OPT_BASE_PORT) |
			BIT(OPT_PROVIDER) | BIT(OPT_BUCKETS) | BIT(OPT_SHARDS) |
			BIT(OPT_FORCE) | BIT(OPT_TIMEOUT) | BIT(OPT_MEMORY) |
			BIT(OPT_COPIES) | BIT(OPT_LEASE) | BIT(OPT_REBUILD_AFTER) |
			BIT(OPT_MAP) | BIT(OPT_MAP_CA) | BIT(OPT_MAP_CERT) |
			BIT(OPT_MAP_KEY) | BIT(OPT_MAP_USER) | BIT(OPT_MAP_PASSWORD_FILE) |
			BIT(OPT_HOSTS),
		0, 1, cmd_cluster_create},
	{"cluster", "start", "", "start all nodes that do not run",
		"wfsctl cluster start", BIT(OPT_TIMEOUT), 0, 0, cmd_cluster_start},
	{"cluster", "stop", "", "stop all nodes cleanly; --force kills what hangs",
		"wfsctl cluster stop", BIT(OPT_FORCE) | BIT(OPT_TIMEOUT), 0, 0,
		cmd_cluster_stop},
	{"cluster", "destroy", "", "delete the cluster and all its data",
		"wfsctl cluster destroy --cluster /var/lib/wfs/lab", BIT(OPT_FORCE), 0, 0,
		cmd_cluster_destroy},
	{"node", "list", "", "the nodes, and which of them run",
		"wfsctl node list -o id,state,pid", 0, 0, 0, cmd_node_list},
	{"node", "start", "ID", "start one node", "wfsctl node start 1", BIT(OPT_TIMEOUT),
		1, 1, cmd_node_start},
	{"node", "stop", "ID", "stop one node; --force kills it if it hangs",
		"wfsctl node stop 1", BIT(OPT_FORCE) | BIT(OPT_TIMEOUT), 1, 1,
		cmd_node_stop},
	{"node", "add", "", "make and start one more node, which takes its share",
		"wfsctl node add --size 4G",
		BIT(OPT_SIZE) | BIT(OPT_DEVICE) | BIT(OPT_SHARDS) | BIT(OPT_MEMORY) |
			BIT(OPT_FORCE) | BIT(OPT_TIMEOUT),
		0, 0, cmd_node_add},
	{"node", "drain", "ID", "move all data off a node",
		"wfsctl node drain 2 && wfsctl node remove 2",
		BIT(OPT_NO_WAIT) | BIT(OPT_TIMEOUT) | BIT(OPT_FORCE), 1, 1,
		cmd_node_drain},
	{"node", "undrain", "ID", "let it have its share again", "wfsctl node undrain 2",
		0, 1, 1, cmd_node_undrain},
	{"node", "remove", "ID", "take an empty or dead node out for good",
		"wfsctl node remove 2", BIT(OPT_FORCE) | BIT(OPT_TIMEOUT), 1, 1,
		cmd_node_remove},
	{"node", "replace", "ID",
		"give a stopped node an empty device in place of a lost one",
		"wfsctl node replace 2 --size 4G",
		BIT(OPT_FORCE) | BIT(OPT_SIZE) | BIT(OPT_TIMEOUT), 1, 1,
		cmd_node_replace},
	{"fs", "list", "", "the filesystems", "wfsctl fs list", 0, 0, 0, cmd_fs_list},
	{"fs", "create", "NAME", "make a filesystem", "wfsctl fs create scratch", 0, 1, 1,
		cmd_fs_create},
	{"status", NULL, "", "the same as cluster status", "wfsctl status", 0, 0, 0,
		cmd_cluster_status},
	{"rebuild", NULL, "", "which buckets are copied, or wait for it; and how fast",
		"wfsctl rebuild --wait", BIT(OPT_WAIT) | BIT(OPT_LIMIT) | BIT(OPT_TIMEOUT),
		0, 0, cmd_rebuild},
	{"df", NULL, "", "size and use of each filesystem", "wfsctl df", BIT(OPT_HUMAN),
		0, 0, cmd_df},
	{"run", NULL, "[--] COMMAND [ARG...]",
		"run a program that sees the filesystem under /wfs",
		"wfsctl run -- cp -a /usr/include /wfs/",
		BIT(OPT_NODE) | BIT(OPT_FS) | BIT(OPT_MOUNT), 1, -1, cmd_run},
	{"mount", NULL, "[MOUNTPOINT]",
		"show the filesystem to all programs of this host, under /wfs; or again, "
		"where wfs-fuse has died",
		"wfsctl mount && cp -a /usr/include /wfs/", BIT(OPT_NODE) | BIT(OPT_FS), 0, 1,
		cmd_mount},
	{"umount", NULL, "[MOUNTPOINT]", "take the mount away; --force even while it is in use",
		"wfsctl umount /wfs", BIT(OPT_FORCE), 0, 1, cmd_umount},
	{"mounts", NULL, "", "the mounts of this host, and whether they answer",
		"wfsctl mounts", 0, 0, 0, cmd_mounts},
	{"fsck", NULL, "",
		"read all metadata and report what does not fit; repairs nothing",
		"wfsctl fsck", BIT(OPT_NODE) | BIT(OPT_TIMEOUT) | BIT(OPT_COMPARE), 0, 0, cmd_fsck},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static int complain(const char *format, va_list ap, int code)
{
	fputs("wfsctl: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
	return code;
}

int ctl_fail(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int rc = complain(format, ap, EXIT_FAILED);
	va_end(ap);
	return rc;
}

int ctl_usage(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int rc = complain(format, ap, EXIT_USAGE);
	va_end(ap);
	return rc;
}

void ctl_warn(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	complain(format, ap, 0);
	va_end(ap);
}

bool size_parse(const char *text, uint64_t *bytes_out)
{
	static const char units[] = "KMGTP";
	char *end;
	const char *unit;
	double value;
	int shift = 0;

	errno = 0;
	value = strtod(text, &end);
	if (errno || end == text || !(value >= 0))
		return false;
	if (*end && (unit = strchr(units, *end & ~0x20)) != NULL) {
		shift = 10 * (int)(unit - units + 1);
		end++;
		if (end[0] == 'i')
			end++;
	}
	if (*end == 'B' || *end == 'b')
		end++;
	value *= (double)((uint64_t)1 << shift);
	if (*end || value > 9e18)
		return false;
	*bytes_out = (uint64_t)value;
	return true;
}

bool ctl_number(const struct ctl *ctl, enum opt_id id, uint64_t min, uint64_t max,
	uint64_t fallback, uint64_t *out)
{
	const char *text = ctl->values[id];
	unsigned long long value;
	char *end;

	if (!text) {
		*out = fallback;
		return true;
	}
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < min || value > max) {
		ctl_usage("--%s %s: give a number from %llu to %llu", opts[id].name, text,
			(unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*out = value;
	return true;
}

bool ctl_confirm(const struct ctl *ctl, const char *question)
{
	char answer[16];

	if (ctl_has(ctl, OPT_FORCE))
		return true;
	if (!isatty(STDIN_FILENO)) {
		ctl_usage("not a terminal, cannot ask: give --force if you are sure");
		return false;
	}
	fprintf(stderr, "%s [y/N] ", question);
	return fgets(answer, sizeof(answer), stdin) &&
	       (answer[0] == 'y' || answer[0] == 'Y');
}

void progress_show(const struct ctl *ctl, const char *what, int percent)
{
	if (!ctl->progress)
		return;
	if (percent >= 0)
		fprintf(stderr, "\r\033[K%s %d %%", what, percent);
	else
		fprintf(stderr, "\r\033[K%s", what);
}

void progress_end(const struct ctl *ctl)
{
	if (ctl->progress)
		fputs("\r\033[K", stderr);
}

static void help_options(uint64_t mask)
{
	for (int i = 0; i < OPT_COUNT; i++) {
		char left[64];

		if (!(mask & BIT(i)))
			continue;
		snprintf(left, sizeof(left), "%s%c%s--%s %s", opts[i].letter ? "-" : "",
			opts[i].letter ? opts[i].letter : ' ', opts[i].letter ? ", " : "",
			opts[i].name, opts[i].arg ? opts[i].arg : "");
		printf("  %-26s %s\n", left + (opts[i].letter ? 0 : 1), opts[i].help);
	}
}

static void help_command(const struct command *cmd)
{
	printf("Usage: wfsctl %s%s%s [options] %s\n\nwfsctl %s%s%s: %s.\n\nOptions:\n",
		cmd->noun, cmd->verb ? " " : "", cmd->verb ? cmd->verb : "", cmd->args,
		cmd->noun, cmd->verb ? " " : "", cmd->verb ? cmd->verb : "",
		cmd->summary);
	help_options(cmd->options);
	help_options(COMMON);
	printf("\nExample:\n  %s\n", cmd->example);
}

static void help_list(const char *noun)
{
	printf("Usage: wfsctl %s%s[options] ...\n\n", noun ? noun : "",
		noun ? " COMMAND " : "COMMAND ");
	puts("Commands:");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const struct command *c = &commands[i];
		char left[64];

		if (noun && strcmp(noun, c->noun) != 0)
			continue;
		snprintf(left, sizeof(left), "%s%s%s", c->noun, c->verb ? " " : "",
			c->verb ? c->verb : "");
		printf("  %-16s %s\n", left, c->summary);
	}
	puts("\nOptions of every command:");
	help_options(COMMON);
	puts("\nExample: a cluster of three nodes on this machine, and a program in it\n"
	     "  wfsctl cluster create --nodes 3 --size 4G && wfsctl cluster start\n"
	     "  wfsctl run -- ls -l /wfs\n"
	     "\nExit status: 0 done, 1 failed, 2 wrong usage or configuration.");
}

/* What getopt_long is to know, and the short letters; `stop`: end at an operand. */
static void options_prepare(uint64_t mask, bool stop, struct option *longs, char *letters)
{
	if (stop)
		*letters++ = '+';
	*letters++ = ':';
	for (int i = 0; i < OPT_COUNT; i++) {
		if (!(mask & BIT(i)))
			continue;
		*longs++ = (struct option){.name = opts[i].name,
			.has_arg = opts[i].arg ? required_argument : no_argument,
			.val = 256 + i};
		if (opts[i].letter) {
			*letters++ = opts[i].letter;
			if (opts[i].arg)
				*letters++ = ':';
		}
	}
	*longs = (struct option){0};
	*letters = 0;
}

static int letter_id(int letter)
{
	for (int i = 0; i < OPT_COUNT; i++)
		if (opts[i].letter == letter)
			return i;
	return -1;
}

/* Parse argv[1..]; returns the index of the first operand, -1 after complaining. */
static int options_parse(struct ctl *ctl, int argc, char **argv, uint64_t mask, bool stop)
{
	struct option longs[OPT_COUNT + 1];
	char letters[2 * OPT_COUNT + 3];
	int c;

	options_prepare(mask, stop, longs, letters);
	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		int id = c >= 256 ? c - 256 : letter_id(c);

		if (c == '?' || c == ':') {
			const char *at = argv[optind - 1];
			ctl_usage("%s: %s: see --help", at,
				c == '?' ? "unknown option" : "needs a value");
			return -1;
		}
		if (id == OPT_DEVICE) {
			if (ctl->device_count == DEVICES_MAX) {
				ctl_usage("--device: too many: at most %d", DEVICES_MAX);
				return -1;
			}
			ctl->devices[ctl->device_count++] = optarg;
		}
		ctl->values[id] = optarg ? optarg : "";
	}
	return optind;
}

/* The cluster directory, absolute; it need not exist. */
static int dir_find(struct ctl *ctl, const char *name)
{
	const char *dir = ctl->values[OPT_CLUSTER];
	char path[PATH_MAX];
	char cwd[PATH_MAX];
	size_t size;

	if (!dir || !*dir)
		dir = getenv("WFS_CLUSTER");
	if (dir && *dir)
		snprintf(path, sizeof(path), "%s", dir);
	else
		snprintf(path, sizeof(path), "/var/lib/wfs/%s", name ? name : "default");
	size = strlen(path);
	while (size > 1 && path[size - 1] == '/')
		path[--size] = 0;
	if (path[0] == '/') {
		snprintf(ctl->dir, sizeof(ctl->dir), "%s", path);
		return 0;
	}
	if (!getcwd(cwd, sizeof(cwd)) || strlen(cwd) + size + 2 > sizeof(ctl->dir))
		return ctl_usage("%s: path too long: choose a shorter one", path);
	strcpy(ctl->dir, cwd);
	strcat(ctl->dir, "/");
	strcat(ctl->dir, path);
	return 0;
}

static void bin_find(struct ctl *ctl)
{
	ssize_t size = readlink("/proc/self/exe", ctl->bin, sizeof(ctl->bin) - 1);
	char *slash;

	ctl->bin[size > 0 ? size : 0] = 0;
	slash = strrchr(ctl->bin, '/');
	if (slash)
		*slash = 0;
}

static const struct command *command_find(const char *noun, const char *verb)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->noun, noun) != 0)
			continue;
		if (!c->verb || !verb || strcmp(c->verb, verb) == 0)
			return c;
	}
	return NULL;
}

static int command_run(struct ctl *ctl, const struct command *cmd, int argc, char **argv)
{
	int at = options_parse(
		ctl, argc, argv, cmd->options | COMMON, cmd->operands_max < 0);
	const char *name = NULL;

	if (at < 0)
		return EXIT_USAGE;
	if (ctl_has(ctl, OPT_HELP)) {
		help_command(cmd);
		return EXIT_OK;
	}
	argc -= at;
	argv += at;
	if (argc < cmd->operands_min)
		return ctl_usage("%s%s%s: needs %s: see --help", cmd->noun,
			cmd->verb ? " " : "", cmd->verb ? cmd->verb : "", cmd->args);
	if (cmd->operands_max >= 0 && argc > cmd->operands_max)
		return ctl_usage(
			"%s: one operand too many: see --help", argv[cmd->operands_max]);
	if (cmd->run == cmd_cluster_create && argc)
		name = argv[0];
	if (dir_find(ctl, name))
		return EXIT_USAGE;
	bin_find(ctl);
	ctl->color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	ctl->progress = isatty(STDERR_FILENO);
	return cmd->run(ctl, argc, argv);
}

static int dispatch(struct ctl *ctl, int argc, char **argv)
{
	const struct command *cmd;
	int at = options_parse(ctl, argc, argv, COMMON, true);
	char *noun, *verb = NULL;

	if (at < 0)
		return EXIT_USAGE;
	if (at == argc || strcmp(argv[at], "help") == 0) {
		help_list(NULL);
		return at == argc && !ctl_has(ctl, OPT_HELP) ? EXIT_USAGE : EXIT_OK;
	}
	noun = argv[at];
	argc -= at;
	argv += at;
	cmd = command_find(noun, NULL);
	if (!cmd)
		return ctl_usage("%s: no such command: see wfsctl --help", noun);
	if (!cmd->verb)
		return command_run(ctl, cmd, argc, argv);
	/* Options may stand between noun and verb; those of the default command may
	 * follow a bare noun. */
	at = options_parse(ctl, argc, argv, COMMON | cmd->options, true);
	if (at < 0)
		return EXIT_USAGE;
	if (at < argc)
		verb = argv[at];
	if (verb) {
		cmd = command_find(noun, verb);
		if (!cmd)
			return ctl_usage("%s %s: no such command: see wfsctl %s --help",
				noun, verb, noun);
		argc -= at;
		argv += at;
	} else if (ctl_has(ctl, OPT_HELP)) {
		help_list(noun);
		return EXIT_OK;
	}
	return command_run(ctl, cmd, argc, argv);
}

int main(int argc, char **argv)
{
	static struct ctl ctl;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("wfsctl " CTL_VERSION);
		return EXIT_OK;
	}
	return dispatch(&ctl, argc, argv);
}

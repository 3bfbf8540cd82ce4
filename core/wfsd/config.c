/* Reading the configuration; the only file that knows inih. */
#include "core/wfsd/config.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	struct config *config;
	const char *path;
	char *reason;
	size_t reason_size;
	uint32_t have_id;
	uint32_t have_etcd;
	FILE *file;
	int line; /* Debian's inih does not tell, so we count what it reads */
};

static int refuse(struct reader *r, const char *what, const char *name)
{
	if (r->reason[0] == '\0')
		snprintf(r->reason, r->reason_size, "%s:%d: %s '%s'", r->path, r->line, what,
			name);
	return 0;
}

static int number_take(struct reader *r, const char *text, uint32_t min,
	uint32_t max, uint32_t *out)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || *end || end == text || v < min || v > max) {
		char what[96];

		snprintf(what, sizeof(what), "not a number from %u to %u:", min, max);
		return refuse(r, what, text);
	}
	*out = (uint32_t)v;
	return 1;
}

static int text_take(struct reader *r, const char *text, char *out, size_t size)
{
	if (text[0] == '\0')
		return refuse(r, "empty value", text);
	if (strlen(text) >= size)
		return refuse(r, "too long:", text);
	memcpy(out, text, strlen(text) + 1);
	return 1;
}

/* A value that may go on in indented lines, which come as the same key again. */
static int text_add(struct reader *r, const char *text, char *out, size_t size)
{
	size_t used = strlen(out);

	return text_take(r, text, out + used, size - used);
}

static int node_key(struct reader *r, const char *name, const char *value)
{
	static const char *const levels[] = {"debug", "info", "warn", "error"};
	struct config *c = r->config;

	if (strcmp(name, "id") == 0) {
		r->have_id = 1;
		return number_take(r, value, 0, 65535, &c->node);
	}
	if (strcmp(name, "map") == 0)
		return text_add(r, value, c->map, sizeof(c->map));
	if (strcmp(name, "pidfile") == 0)
		return text_take(r, value, c->pidfile, sizeof(c->pidfile));
	if (strcmp(name, "log_level") == 0) {
		for (int i = 0; i < 4; i++) {
			if (strcmp(value, levels[i]) == 0) {
				c->log_level = (enum log_level)i;
				return 1;
			}
		}
		return refuse(r, "log_level is none of debug, info, warn, error:",
			value);
	}
	return refuse(r, "unknown key in [node]:", name);
}

static int shard_key(struct reader *r, uint32_t index, const char *name,
	const char *value)
{
	struct config_shard *s = &r->config->shards[index];

	if (index >= r->config->shard_count) {
		r->config->shard_count = index + 1;
		s->memory_mib = 128;
	}
	if (strcmp(name, "device") == 0)
		return text_take(r, value, s->device, sizeof(s->device));
	if (strcmp(name, "index") == 0)
		return text_take(r, value, s->index, sizeof(s->index));
	if (strcmp(name, "memory_mib") == 0)
		return number_take(r, value, 16, 1u << 20, &s->memory_mib);
	return refuse(r, "unknown key in [shard]:", name);
}

struct text_key {
	const char *name;
	char *out;
	size_t size;
};

static int text_key(struct reader *r, const struct text_key *keys, unsigned count,
	const char *section, const char *name, const char *value)
{
	char what[64];

	for (unsigned i = 0; i < count; i++)
		if (strcmp(name, keys[i].name) == 0)
			return text_add(r, value, keys[i].out, keys[i].size);
	snprintf(what, sizeof(what), "unknown key in [%s]:", section);
	return refuse(r, what, name);
}

#define KEY(of, field) {#field, (of)->field, sizeof((of)->field)}
#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))

static int map_key(struct reader *r, const char *name, const char *value)
{
	struct config_map *m = &r->config->map_access;
	const struct text_key keys[] = {KEY(m, ca), KEY(m, cert), KEY(m, key),
		KEY(m, user), KEY(m, password_file)};

	return text_key(r, keys, COUNT(keys), "map", name, value);
}

static int etcd_key(struct reader *r, const char *name, const char *value)
{
	struct config_etcd *e = &r->config->etcd;
	const struct text_key keys[] = {KEY(e, name), KEY(e, data), KEY(e, client_url),
		KEY(e, peer_url), KEY(e, cluster), KEY(e, pidfile), KEY(e, log)};

	r->have_etcd = 1;
	return text_key(r, keys, COUNT(keys), "etcd", name, value);
}

static int on_key(void *user, const char *section, const char *name, const char *value)
{
	struct reader *r = user;

	if (strcmp(section, "node") == 0)
		return node_key(r, name, value);
	if (strcmp(section, "map") == 0)
		return map_key(r, name, value);
	if (strcmp(section, "etcd") == 0)
		return etcd_key(r, name, value);
	if (strncmp(section, "shard ", 6) == 0) {
		uint32_t index;

		if (!number_take(r, section + 6, 0, CONFIG_SHARDS_MAX - 1, &index))
			return 0;
		if (index > r->config->shard_count)
			return refuse(r, "shards must be numbered 0, 1, ...:", section);
		return shard_key(r, index, name, value);
	}
	return refuse(r, "unknown section", section);
}

static char *line_read(char *to, int size, void *stream)
{
	struct reader *r = stream;

	r->line++;
	return fgets(to, size, r->file);
}

static int complete(struct reader *r)
{
	const struct config *c = r->config;
	const char *missing = NULL;

	if (!r->have_id)
		missing = "id in [node]";
	else if (!c->map[0])
		missing = "map in [node]";
	else if (c->shard_count == 0)
		missing = "[shard 0]";
	for (uint32_t i = 0; i < c->shard_count && !missing; i++)
		if (!c->shards[i].device[0] || !c->shards[i].index[0])
			missing = "device or index of a [shard]";
	if (!missing && r->have_etcd &&
		(!c->etcd.name[0] || !c->etcd.data[0] || !c->etcd.client_url[0] ||
			!c->etcd.peer_url[0] || !c->etcd.cluster[0] ||
			!c->etcd.pidfile[0] || !c->etcd.log[0]))
		missing = "a key of [etcd]";
	if (!missing)
		return 0;
	snprintf(r->reason, r->reason_size, "%s: missing %s", r->path, missing);
	return -EINVAL;
}

int config_read(const char *path, struct config *config_out, char *reason,
	size_t reason_size)
{
	struct reader r = {.config = config_out,
		.path = path,
		.reason = reason,
		.reason_size = reason_size};
	FILE *f = fopen(path, "re");
	int rc;

	memset(config_out, 0, sizeof(*config_out));
	config_out->log_level = LOG_INFO;
	reason[0] = '\0';
	if (!f) {
		rc = -errno;
		snprintf(reason, reason_size, "%s: %s", path, strerror(errno));
		return rc;
	}
	r.file = f;
	rc = ini_parse_stream(line_read, &r, on_key, &r);
	fclose(f);
	if (rc > 0 && reason[0] == '\0')
		snprintf(reason, reason_size, "%s:%d: not 'key = value'", path, rc);
	if (rc != 0) {
		if (reason[0] == '\0')
			snprintf(reason, reason_size, "%s: cannot be read", path);
		return -EINVAL;
	}
	return complete(&r);
}

/*
 * The client of etcd: which endpoint is asked, for how long, and as whom.
 *
 * A call begins at the endpoint that answered last and goes on round; each gets an equal
 * share of the time that is left, so that one that hangs leaves time for the others. An
 * endpoint that answers that it has no leader, or was too slow itself, counts as one that
 * did not answer.
 *
 * With a user, the token that /v3/auth/authenticate gives is sent along. etcd forgets
 * tokens (after minutes, when a member starts again, when users change): then it is asked
 * for a new one, once per call, and the password file is read again.
 */
#include "core/cluster/etcd.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/mem.h"
#include "core/cluster/http.h"

#define ENDPOINTS_MAX  9u
#define PREFIX_DEFAULT "wfs"
#define TOKEN_MAX      1024u
#define PASSWORD_MAX   1024u
#define AUTH_MS        1000u
#define WATCH_RENEW_MS 10000u /* so that a member that is cut off is not listened to */

enum { /* of gRPC */
	CODE_INVALID = 3,
	CODE_NOT_FOUND = 5,
	CODE_PERMISSION = 7,
	CODE_EXHAUSTED = 8,
	CODE_PRECONDITION = 9,
	CODE_UNAUTHENTICATED = 16,
};

struct etcd {
	struct http *http;
	char endpoints[ENDPOINTS_MAX][256];
	uint32_t endpoint_count;
	uint32_t good; /* that answered last */
	char prefix[256];
	char user[128];
	char password_file[PATH_MAX];
	char token[TOKEN_MAX];
	bool without_token; /* etcd said that it needs none */
	bool repeated;
	uint64_t until_ms;
	char reason[256];
	/* the watch */
	char watch_key[512];
	int64_t watch_revision;
	uint32_t watch_endpoint;
	uint64_t watch_since_ms;
};

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

__attribute__((format(printf, 3, 4))) static int fail(
	struct etcd *etcd, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(etcd->reason, sizeof(etcd->reason), format, args);
	va_end(args);
	return rc;
}

/* --- opening ------------------------------------------------------------------------ */

/* One URL of the list; its end is at `end`. */
static bool endpoint_take(struct etcd *etcd, const char *text, const char *end)
{
	const char *host = strncmp(text, "http://", 7) == 0    ? text + 7
			   : strncmp(text, "https://", 8) == 0 ? text + 8
							       : NULL;
	char *out = etcd->endpoints[etcd->endpoint_count];
	size_t size = (size_t)(end - text);

	if (!host || host >= end || etcd->endpoint_count == ENDPOINTS_MAX ||
		size >= sizeof(etcd->endpoints[0]))
		return false;
	memcpy(out, text, size);
	out[size] = '\0';
	etcd->endpoint_count++;
	return strpbrk(out, " \t\"?#@") == NULL;
}

static bool spec_parse(struct etcd *etcd, const char *text)
{
	const char *prefix = PREFIX_DEFAULT;
	size_t size;

	for (;;) {
		const char *host = strstr(text, "://");
		const char *end = host ? host + 3 + strcspn(host + 3, ",/") : text;

		if (!endpoint_take(etcd, text, end))
			return false;
		if (*end == '/' && end[1])
			prefix = end + 1;
		if (*end != ',')
			break;
		text = end + 1;
	}
	size = strlen(prefix);
	while (size && prefix[size - 1] == '/')
		size--;
	if (size == 0 || size >= sizeof(etcd->prefix) || strpbrk(prefix, " \t,\""))
		return false;
	memcpy(etcd->prefix, prefix, size);
	etcd->prefix[size] = '\0';
	return true;
}

static const char *text_or_empty(const char *text)
{
	return text ? text : "";
}

int etcd_open(const struct map_store_spec *spec, struct etcd **etcd_out, char *reason,
	size_t reason_size)
{
	struct http_options opt = {.ca = text_or_empty(spec->ca),
		.cert = text_or_empty(spec->cert),
		.key = text_or_empty(spec->key)};
	const char *user = text_or_empty(spec->user);
	const char *password_file = text_or_empty(spec->password_file);
	struct etcd *etcd = mem_zalloc(sizeof(*etcd));
	int rc = etcd ? 0 : -ENOMEM;

	if (rc == 0 && !spec_parse(etcd, spec->map + strlen("etcd:"))) {
		snprintf(reason, reason_size,
			"map %s: give etcd:http[s]://HOST:PORT[,...][/PREFIX], with at "
			"most %u addresses",
			spec->map, ENDPOINTS_MAX);
		rc = -EINVAL;
	} else if (rc == 0 &&
		   (!user[0] != !password_file[0] || strlen(user) >= sizeof(etcd->user) ||
			   strlen(password_file) >= sizeof(etcd->password_file) ||
			   !opt.cert[0] != !opt.key[0])) {
		snprintf(reason, reason_size,
			"map %s: user and password_file belong together, and so do cert "
			"and key: give both or none",
			spec->map);
		rc = -EINVAL;
	} else if (rc == 0) {
		snprintf(etcd->user, sizeof(etcd->user), "%s", user);
		snprintf(etcd->password_file, sizeof(etcd->password_file), "%s",
			password_file);
		rc = http_new(&opt, &etcd->http);
	}
	if (rc == -ENOMEM)
		snprintf(reason, reason_size, "out of memory");
	if (rc) {
		etcd_close(etcd);
		return rc;
	}
	*etcd_out = etcd;
	return 0;
}

void etcd_close(struct etcd *etcd)
{
	if (!etcd)
		return;
	http_free(etcd->http);
	explicit_bzero(etcd->token, sizeof(etcd->token));
	mem_free(etcd);
}

const char *etcd_prefix(const struct etcd *etcd)
{
	return etcd->prefix;
}

const char *etcd_reason(const struct etcd *etcd)
{
	return etcd->reason;
}

void etcd_begin(struct etcd *etcd, uint32_t budget_ms)
{
	etcd->until_ms = clock_ms() + budget_ms;
}

bool etcd_call_was_repeated(const struct etcd *etcd)
{
	return etcd->repeated;
}

/* --- one question to one endpoint ------------------------------------------------ */

enum outcome {
	OUTCOME_ANSWER,
	OUTCOME_REFUSED,   /* *rc says how */
	OUTCOME_ELSEWHERE, /* ask another endpoint */
	OUTCOME_TOKEN,     /* authenticate again */
};

static enum outcome refusal(
	struct etcd *etcd, const char *url, int status, const json_t *answer, int *rc)
{
	const char *text = json_string_value(json_object_get(answer, "error"));
	int64_t code = etcd_number(answer, "code");

	if (!text) {
		*rc = fail(etcd, -EIO,
			"%s answers HTTP %d: see that it is an etcd of version 3.4 or "
			"newer",
			url, status);
		return OUTCOME_ELSEWHERE;
	}
	*rc = fail(etcd, -EIO, "etcd %s: %s", url, text);
	if (etcd->user[0] &&
		(code == CODE_UNAUTHENTICATED || strstr(text, "revision of auth store") ||
			strstr(text, "auth token") || strstr(text, "user name is empty")))
		return OUTCOME_TOKEN;
	if (code == CODE_NOT_FOUND)
		*rc = -ENOENT;
	else if (code == CODE_PRECONDITION)
		*rc = -EEXIST;
	else if (strstr(text, "too large"))
		*rc = -E2BIG;
	else if (code == CODE_PERMISSION)
		fail(etcd, -EIO,
			"etcd %s: %s: give user '%s' a role that may read and write "
			"keys from %s/",
			url, text, etcd->user, etcd->prefix);
	else if (strstr(text, "user name is empty"))
		fail(etcd, -EIO, "etcd %s: %s: set user and password_file in [map]", url,
			text);
	else if (code == CODE_EXHAUSTED)
		fail(etcd, -EIO, "etcd %s: %s: see etcdctl alarm list, and compact it",
			url, text);
	else if (code != CODE_INVALID)
		return OUTCOME_ELSEWHERE;
	return OUTCOME_REFUSED;
}

static enum outcome ask(struct etcd *etcd, const char *path, const char *body,
	uint32_t timeout_ms, json_t **answer_out, int *rc)
{
	const char *endpoint = etcd->endpoints[etcd->good];
	struct http_answer got;
	enum outcome outcome = OUTCOME_ANSWER;
	json_t *answer;
	char url[320];

	snprintf(url, sizeof(url), "%s%s", endpoint, path);
	*rc = http_post(etcd->http, url, etcd->token, body, timeout_ms, &got);
	if (*rc == -EIO) {
		fail(etcd, -EIO,
			"etcd %s does not answer (%.120s): see that it runs and has a "
			"majority",
			endpoint, http_reason(etcd->http));
		return OUTCOME_ELSEWHERE;
	}
	if (*rc) {
		fail(etcd, *rc, "etcd %s: %s", endpoint, strerror(-*rc));
		return OUTCOME_REFUSED;
	}
	answer = json_loadb(got.text, got.size_bytes, 0, NULL);
	if (got.status != 200 || !json_is_object(answer))
		outcome = refusal(etcd, endpoint, got.status, answer, rc);
	mem_free(got.text);
	if (outcome == OUTCOME_ANSWER)
		*answer_out = answer;
	else
		json_decref(answer);
	return outcome;
}

/* --- as whom --------------------------------------------------------------------- */

static int password_read(struct etcd *etcd, char *out, size_t size)
{
	FILE *file = fopen(etcd->password_file, "re");

	if (!file || !fgets(out, (int)size, file)) {
		if (file)
			fclose(file);
		return fail(etcd, -EIO,
			"password file %s: %s: put the password of etcd's user %s there",
			etcd->password_file, file ? "empty" : strerror(errno),
			etcd->user);
	}
	fclose(file);
	out[strcspn(out, "\r\n")] = '\0';
	return 0;
}

static int authenticate(struct etcd *etcd, uint32_t timeout_ms)
{
	char password[PASSWORD_MAX];
	json_t *request, *answer = NULL;
	const char *token;
	enum outcome outcome;
	char *body;
	int rc = password_read(etcd, password, sizeof(password));

	if (rc)
		return rc;
	request = json_pack("{s:s, s:s}", "name", etcd->user, "password", password);
	explicit_bzero(password, sizeof(password));
	body = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!body)
		return fail(etcd, -EIO,
			"password file %s: its first line is not UTF-8, or memory is "
			"short",
			etcd->password_file);
	etcd->token[0] = '\0';
	outcome = ask(etcd, "/v3/auth/authenticate", body, timeout_ms, &answer, &rc);
	explicit_bzero(body, strlen(body));
	free(body);
	if (outcome != OUTCOME_ANSWER) {
		if (rc == -EEXIST) {
			etcd->without_token = true;
			return 0;
		}
		if (outcome == OUTCOME_REFUSED)
			fail(etcd, -EIO, "etcd %s refuses user %s: see the user and %s",
				etcd->endpoints[etcd->good], etcd->user,
				etcd->password_file);
		return -EIO;
	}
	token = json_string_value(json_object_get(answer, "token"));
	snprintf(etcd->token, sizeof(etcd->token), "%s", token ? token : "");
	etcd->without_token = false;
	json_decref(answer);
	return 0;
}

/* --- a call ---------------------------------------------------------------------- */

static enum outcome ask_as_user(struct etcd *etcd, const char *path, const char *body,
	uint32_t timeout_ms, json_t **answer_out, int *rc)
{
	uint64_t until_ms = clock_ms() + timeout_ms;
	enum outcome outcome = OUTCOME_TOKEN;
	bool fresh = false;

	for (unsigned try = 0; try < 2; try++) {
		uint64_t now_ms = clock_ms();
		uint32_t left_ms = now_ms < until_ms ? (uint32_t)(until_ms - now_ms) : 1;

		if (etcd->user[0] && !etcd->token[0] && !etcd->without_token) {
			*rc = authenticate(etcd, left_ms);
			if (*rc)
				return OUTCOME_ELSEWHERE;
			fresh = true;
			now_ms = clock_ms();
			left_ms = now_ms < until_ms ? (uint32_t)(until_ms - now_ms) : 1;
		}
		outcome = ask(etcd, path, body, left_ms, answer_out, rc);
		if (outcome != OUTCOME_TOKEN || !etcd->user[0] || fresh)
			break;
		etcd->token[0] = '\0';
		etcd->without_token = false;
	}
	return outcome == OUTCOME_TOKEN ? OUTCOME_REFUSED : outcome;
}

int etcd_call(struct etcd *etcd, const char *path, json_t *request, json_t **answer_out)
{
	char *body = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int rc = -EIO;

	json_decref(request);
	if (!body)
		return fail(etcd, -ENOMEM, "out of memory");
	etcd->repeated = false;
	for (uint32_t i = 0; i < etcd->endpoint_count; i++) {
		uint64_t now_ms = clock_ms();
		enum outcome outcome;

		if (now_ms >= etcd->until_ms) {
			if (i == 0)
				fail(etcd, -EIO,
					"etcd %s is too slow: see its log and its disk",
					etcd->endpoints[etcd->good]);
			rc = -EIO;
			break;
		}
		outcome = ask_as_user(etcd, path, body,
			(uint32_t)(etcd->until_ms - now_ms) / (etcd->endpoint_count - i),
			answer_out, &rc);
		if (outcome == OUTCOME_ANSWER) {
			rc = 0;
			break;
		}
		if (outcome == OUTCOME_REFUSED)
			break;
		rc = -EIO;
		etcd->repeated = true;
		etcd->good = (etcd->good + 1) % etcd->endpoint_count;
	}
	free(body);
	return rc;
}

/* --- the watch ------------------------------------------------------------------- */

static int watch_open(struct etcd *etcd, const char *key, int64_t revision)
{
	char url[320];
	char *body;
	json_t *request = json_pack("{s:{s:o, s:I}}", "create_request", "key",
		etcd_bytes(key, strlen(key)), "start_revision", (json_int_t)revision);
	int rc = 0;

	if (etcd->user[0] && !etcd->token[0] && !etcd->without_token)
		rc = authenticate(etcd, AUTH_MS);
	if (rc) {
		json_decref(request);
		return rc;
	}
	body = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!body)
		return fail(etcd, -ENOMEM, "out of memory");
	snprintf(url, sizeof(url), "%s/v3/watch", etcd->endpoints[etcd->good]);
	rc = http_stream_open(etcd->http, url, etcd->token, body);
	free(body);
	if (rc)
		return fail(etcd, rc, "out of memory");
	snprintf(etcd->watch_key, sizeof(etcd->watch_key), "%s", key);
	etcd->watch_revision = revision;
	etcd->watch_endpoint = etcd->good;
	etcd->watch_since_ms = clock_ms();
	return 0;
}

static int watch_failed(struct etcd *etcd, const char *why)
{
	http_stream_close(etcd->http);
	etcd->token[0] = '\0';
	fail(etcd, -EIO, "etcd %s: its watch ended (%.120s)",
		etcd->endpoints[etcd->watch_endpoint], why);
	etcd->good = (etcd->watch_endpoint + 1) % etcd->endpoint_count;
	return -EIO;
}

int etcd_watch(struct etcd *etcd, const char *key, int64_t revision, uint32_t timeout_ms,
	bool *changed_out)
{
	uint64_t until_ms = clock_ms() + timeout_ms;
	const char *text;
	size_t size = 0;
	int rc = 0;

	if (!http_stream_is_open(etcd->http) || etcd->watch_revision != revision ||
		etcd->watch_endpoint != etcd->good ||
		clock_ms() - etcd->watch_since_ms > WATCH_RENEW_MS ||
		strcmp(etcd->watch_key, key) != 0)
		rc = watch_open(etcd, key, revision);
	while (rc == 0) {
		uint64_t now_ms = clock_ms();
		uint32_t left_ms = now_ms < until_ms ? (uint32_t)(until_ms - now_ms) : 0;
		size_t before = size;

		rc = http_stream_wait(etcd->http, left_ms, &text, &size);
		if (rc == -EIO)
			return watch_failed(etcd, http_reason(etcd->http));
		if (rc)
			return fail(etcd, rc, "out of memory");
		/* Keys and values are in base64: these can be members only. */
		if (strstr(text, "\"error\""))
			return watch_failed(etcd, "refused");
		if (strstr(text, "\"events\"") || strstr(text, "\"canceled\"")) {
			http_stream_close(etcd->http);
			*changed_out = true;
			return 0;
		}
		if (size == before) {
			*changed_out = false;
			return 0;
		}
	}
	return rc;
}

/* --- etcd's JSON ----------------------------------------------------------------- */

int64_t etcd_number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (json_is_string(value))
		return strtoll(json_string_value(value), NULL, 10);
	return json_integer_value(value);
}

static const char digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

json_t *etcd_bytes(const void *data, size_t size_bytes)
{
	const uint8_t *in = data;
	size_t size = (size_bytes + 2) / 3 * 4;
	char *text = mem_alloc(size + 1), *out = text;
	json_t *string;

	if (!text)
		return NULL;
	for (size_t i = 0; i < size_bytes; i += 3) {
		size_t n = size_bytes - i;
		uint32_t v = (uint32_t)in[i] << 16 |
			     (n > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
			     (n > 2 ? in[i + 2] : 0u);

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = n > 1 ? digits[v >> 6 & 63] : '=';
		*out++ = n > 2 ? digits[v & 63] : '=';
	}
	string = json_stringn(text, size);
	mem_free(text);
	return string;
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int etcd_bytes_take(
	const json_t *object, const char *name, char **data_out, size_t *size_out)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_is_string(value) ? json_string_value(value) : "";
	size_t size = json_is_string(value) ? json_string_length(value) : 0;
	char *data, *out;
	uint32_t bits = 0;

	if (size % 4)
		return -EUCLEAN;
	while (size && text[size - 1] == '=')
		size--;
	data = out = mem_alloc(size / 4 * 3 + 4);
	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < size; i++) {
		int v = digit_value(text[i]);

		if (v < 0) {
			mem_free(data);
			return -EUCLEAN;
		}
		bits = bits << 6 | (uint32_t)v;
		if (i % 4)
			*out++ = (char)(bits >> (6 - 2 * (i % 4)) & 255);
	}
	*out = '\0';
	*data_out = data;
	*size_out = (size_t)(out - data);
	return 0;
}

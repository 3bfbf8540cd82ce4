/*
 * The HTTP client; the only file that knows libcurl.
 *
 * Requests go through one easy handle, which keeps its connections to all servers. The
 * stream has a handle of its own within a multi handle, so that waiting for it has a time
 * limit without ending it. Proxies of the environment are not used: the servers are
 * those of the cluster. No signals: the program has threads.
 */
#include "core/cluster/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/mem.h"

#define STREAM_CONNECT_MS 1000L

struct buffer {
	char *text;
	size_t size, room;
	int rc;
};

struct http {
	CURL *easy;
	CURL *stream;
	CURLM *multi;
	struct curl_slist *headers;
	struct curl_slist *stream_headers;
	struct buffer stream_got;
	char *stream_body;
	bool stream_open;
	char error[CURL_ERROR_SIZE];
	char reason[CURL_ERROR_SIZE + 64];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_once(void)
{
	curl_global_init(CURL_GLOBAL_ALL);
}

static uint64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static size_t on_data(const char *data, size_t one, size_t size, void *ctx)
{
	struct buffer *b = ctx;

	(void)one;
	if (size > HTTP_ANSWER_MAX - b->size) {
		b->rc = -EMSGSIZE;
		return 0;
	}
	if (b->size + size + 1 > b->room) {
		size_t room = 2 * (b->size + size) + 512;
		char *text = mem_realloc(b->text, room);

		if (!text) {
			b->rc = -ENOMEM;
			return 0;
		}
		b->text = text;
		b->room = room;
	}
	memcpy(b->text + b->size, data, size);
	b->size += size;
	b->text[b->size] = '\0';
	return size;
}

static int on_socket(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
	(void)ctx;
	(void)purpose;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return CURL_SOCKOPT_OK;
}

static CURL *easy_new(struct http *http, const struct http_options *opt)
{
	CURL *e = curl_easy_init();

	if (!e)
		return NULL;
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PROXY, "");
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, on_socket);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, http->error);
	curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
	if (opt->ca[0])
		curl_easy_setopt(e, CURLOPT_CAINFO, opt->ca);
	if (opt->cert[0])
		curl_easy_setopt(e, CURLOPT_SSLCERT, opt->cert);
	if (opt->key[0])
		curl_easy_setopt(e, CURLOPT_SSLKEY, opt->key);
	return e;
}

int http_new(const struct http_options *opt, struct http **http_out)
{
	struct http *http = mem_zalloc(sizeof(*http));

	pthread_once(&once, init_once);
	if (!http)
		return -ENOMEM;
	http->easy = easy_new(http, opt);
	http->stream = easy_new(http, opt);
	http->multi = curl_multi_init();
	if (!http->easy || !http->stream || !http->multi) {
		http_free(http);
		return -ENOMEM;
	}
	*http_out = http;
	return 0;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	if (http->stream_open)
		http_stream_close(http);
	curl_easy_cleanup(http->stream);
	curl_easy_cleanup(http->easy);
	curl_multi_cleanup(http->multi);
	curl_slist_free_all(http->headers);
	curl_slist_free_all(http->stream_headers);
	mem_free(http->stream_got.text);
	mem_free(http);
}

static int headers_set(CURL *easy, struct curl_slist **headers, const char *token)
{
	static const char *const fixed[] = {"Content-Type: application/json", "Expect:"};
	struct curl_slist *list = NULL, *more;
	char line[1200];

	for (unsigned i = 0; i < 3; i++) {
		if (i == 2 && !token[0])
			break;
		if (i == 2)
			snprintf(line, sizeof(line), "Authorization: %s", token);
		more = curl_slist_append(list, i == 2 ? line : fixed[i]);
		if (!more) {
			curl_slist_free_all(list);
			return -ENOMEM;
		}
		list = more;
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
	curl_slist_free_all(*headers);
	*headers = list;
	return 0;
}

static int failed(struct http *http, CURLcode code)
{
	snprintf(http->reason, sizeof(http->reason), "%s",
		http->error[0] ? http->error : curl_easy_strerror(code));
	return -EIO;
}

int http_post(struct http *http, const char *url, const char *token, const char *body,
	uint32_t timeout_ms, struct http_answer *answer_out)
{
	struct buffer got = {0};
	long status = 0;
	CURLcode code;
	int rc = headers_set(http->easy, &http->headers, token);

	if (rc)
		return rc;
	on_data("", 1, 0, &got);
	if (!got.text)
		return -ENOMEM;
	http->error[0] = '\0';
	curl_easy_setopt(http->easy, CURLOPT_URL, url);
	curl_easy_setopt(http->easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(http->easy, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
	curl_easy_setopt(http->easy, CURLOPT_WRITEDATA, &got);
	curl_easy_setopt(
		http->easy, CURLOPT_TIMEOUT_MS, (long)(timeout_ms ? timeout_ms : 1));
	code = curl_easy_perform(http->easy);
	if (code != CURLE_OK) {
		mem_free(got.text);
		return got.rc ? got.rc : failed(http, code);
	}
	curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
	*answer_out = (struct http_answer){
		.status = (int)status, .text = got.text, .size_bytes = got.size};
	return 0;
}

/* --- the stream --------------------------------------------------------------------- */

int http_stream_open(
	struct http *http, const char *url, const char *token, const char *body)
{
	int rc = headers_set(http->stream, &http->stream_headers, token);

	if (http->stream_open)
		http_stream_close(http);
	if (rc)
		return rc;
	http->stream_got.size = 0;
	http->stream_got.rc = 0;
	curl_easy_setopt(http->stream, CURLOPT_URL, url);
	curl_easy_setopt(http->stream, CURLOPT_COPYPOSTFIELDS, body);
	curl_easy_setopt(http->stream, CURLOPT_WRITEDATA, &http->stream_got);
	curl_easy_setopt(http->stream, CURLOPT_CONNECTTIMEOUT_MS, STREAM_CONNECT_MS);
	if (curl_multi_add_handle(http->multi, http->stream) != CURLM_OK)
		return -ENOMEM;
	http->stream_open = true;
	return 0;
}

void http_stream_close(struct http *http)
{
	if (http->stream_open)
		curl_multi_remove_handle(http->multi, http->stream);
	http->stream_open = false;
}

bool http_stream_is_open(const struct http *http)
{
	return http->stream_open;
}

int http_stream_wait(
	struct http *http, uint32_t timeout_ms, const char **text_out, size_t *size_bytes)
{
	uint64_t until_ms = clock_ms() + timeout_ms;
	const struct buffer *got = &http->stream_got;

	for (;;) {
		uint64_t now_ms;
		CURLMsg *message;
		int running = 0, left;

		curl_multi_perform(http->multi, &running);
		if (got->size > *size_bytes)
			break;
		message = curl_multi_info_read(http->multi, &left);
		if (message && message->msg == CURLMSG_DONE) {
			CURLcode code = message->data.result;

			http_stream_close(http);
			return got->rc == -ENOMEM ? got->rc : failed(http, code);
		}
		now_ms = clock_ms();
		if (now_ms >= until_ms)
			break;
		curl_multi_poll(http->multi, NULL, 0, (int)(until_ms - now_ms), NULL);
	}
	*text_out = got->size ? got->text : "";
	*size_bytes = got->size;
	return 0;
}

const char *http_reason(const struct http *http)
{
	return http->reason;
}

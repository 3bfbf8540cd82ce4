/*
 * A small HTTP client: POST with an answer, and one POST whose answer streams. Over TLS
 * where the URL says https. One thread at a time per struct http. The only place that
 * knows libcurl is http.c.
 */
#ifndef WFS_CLUSTER_HTTP_H
#define WFS_CLUSTER_HTTP_H

#include "core/base/types.h"

struct http;

struct http_options {   /* paths of PEM files; "": none. Copied. */
	const char *ca; /* "": the system's */
	const char *cert;
	const char *key;
};

/* -ENOMEM. */
int http_new(const struct http_options *opt, struct http **http_out);
void http_free(struct http *http); /* takes NULL */

struct http_answer {
	int status; /* of HTTP */
	char *text; /* mem_free() it; NUL-terminated */
	size_t size_bytes;
};

/*
 * 0: the server answered, with any status. -EIO: it did not within timeout_ms, with
 * http_reason. -ENOMEM; -EMSGSIZE: the answer is larger than HTTP_ANSWER_MAX. token: of
 * the Authorization header; "": none.
 */
#define HTTP_ANSWER_MAX (64u << 20)
int http_post(struct http *http, const char *url, const char *token, const char *body,
	uint32_t timeout_ms, struct http_answer *answer_out);

/* Open a stream in place of the one before. -ENOMEM. */
int http_stream_open(
	struct http *http, const char *url, const char *token, const char *body);
void http_stream_close(struct http *http);
bool http_stream_is_open(const struct http *http);
/* Wait for at most timeout_ms until all that came, since it was opened, is longer than
 * *size_bytes; *text_out then borrows it until the next call. -EIO: the stream ended. */
int http_stream_wait(struct http *http, uint32_t timeout_ms, const char **text_out,
	size_t *size_bytes);

/* Of the last -EIO. */
const char *http_reason(const struct http *http);

#endif

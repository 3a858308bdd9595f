#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/pcm.h"
#include "base/json_text.h"
#include "base/text.h"

#define DETAIL_MAX_BYTES 4096
#define RETRY_SECONDS "1"

/* --- answers ------------------------------------------------------------------------------------
 */

void pcm_reply_text(struct call *c, int status, struct buf *body)
{
	call_reply(c, status, "application/json", body);
}

void pcm_reply_written(struct call *c, int err, struct buf *text)
{
	if (err == -EDQUOT) {
		pcm_fail(c, 503, "The server writes as many large answers of yours as it may");
	} else if (text == NULL) {
		pcm_fail(c, 500, "The answer could not be put together");
	} else {
		pcm_reply_text(c, 200, text);
	}
}

void pcm_reply(struct call *c, int status, const json_t *j)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES);
	if (j == NULL || json_text_add_tree(&body, j) < 0) {
		pcm_fail(c, 500, "The answer could not be put together");
	} else {
		pcm_reply_text(c, status, &body);
	}
	buf_fini(&body);
}

void pcm_reply_new(struct call *c, int status, json_t *j)
{
	pcm_reply(c, status, j);
	json_decref(j);
}

static void fail(struct call *c, int status, const char *text)
{
	struct buf body = BUF_INIT(DETAIL_MAX_BYTES);
	int r = buf_add_str(&body, "{\"detail\":");
	r = r < 0 ? r : json_text_add_string(&body, text, strlen(text));
	r = r < 0 ? r : buf_add_char(&body, '}');
	if (r < 0) {
		buf_clear(&body);
		(void)buf_add_str(&body, "{\"detail\":\"Internal Server Error\"}");
	}
	if (status == 429 || status == 503) {
		call_set_header(c, "Retry-After", RETRY_SECONDS);
	}
	pcm_reply_text(c, status, &body);
	buf_fini(&body);
}

void pcm_fail(struct call *c, int status, const char *fmt, ...)
{
	char text[512];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	fail(c, status, text);
}

static int status_of(const struct err *e)
{
	switch (e->code) {
	case ERR_INVALID:
	case ERR_UNSUPPORTED:
		return 400;
	case ERR_DENIED:
		return 403;
	case ERR_NOT_FOUND:
		return 404;
	case ERR_CONFLICT:
		return 409;
	case ERR_GONE:
		return 410;
	case ERR_TOO_LARGE:
		return 413;
	case ERR_BUSY:
		return 429;
	case ERR_TIMEOUT:
	case ERR_UNAVAILABLE:
		return 503;
	case ERR_NONE:
	case ERR_UNSURE:
	case ERR_INTERNAL:
		break;
	}
	return 500;
}

void pcm_fail_err(struct call *c, const struct err *e)
{
	fail(c, status_of(e), e->text);
}

/* --- what the HTTP layer finds ------------------------------------------------------------------
 */

/* The reference's three refusals of a token, each for its cause. Measured: without the header, with
 * another scheme, and where nothing follows "Bearer" it asks for one; a scheme that is spelt
 * otherwise is not the scheme; all else is a token it does not know. */
static const char *refusal(const char *header)
{
	if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0) {
		return "Authorization required";
	}
	return strncmp(header, "Bearer ", 7) == 0 ? "Invalid token"
						  : "Invalid authorization scheme";
}

void pcm_on_error(struct call *c, int status, const struct err *e)
{
	switch (status) {
	case 401:
		fail(c, status, refusal(call_header(c, "Authorization")));
		break;
	case 404:
		fail(c, status, "Not Found");
		break;
	case 405:
		fail(c, status, "Method Not Allowed");
		break;
	default:
		fail(c, status, e->text);
		break;
	}
}

bool pcm_owns_path(const char *path)
{
	static const char *const words[] = {
	    "api", "execute", "info", "install_deps", "reset", "sessions", "uninstall_deps"};
	const char *at = api_behind_pool(path);
	size_t len = strcspn(at, "/");
	for (size_t i = 0; i < array_len(words); i++) {
		if (strlen(words[i]) == len && strncmp(at, words[i], len) == 0) {
			return i == 0 || at[len] == '\0';
		}
	}
	return false;
}

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/appr.h"
#include "base/json_text.h"
#include "base/text.h"

/* Each reason: its code and status, and after how many seconds to try again. */
static const struct {
	const char *code;
	int status;
	int retry_after_s;
} reasons[] = {
    [ERR_NONE] = {"InternalServerError", 500, 0},
    [ERR_INVALID] = {"ApprovalRequestInvalid", 400, 0},
    [ERR_NOT_FOUND] = {"ApprovalNotFound", 404, 0},
    [ERR_CONFLICT] = {"ApprovalConflict", 409, 0},
    [ERR_TOO_LARGE] = {"ApprovalRequestTooLarge", 413, 0},
    [ERR_BUSY] = {"ApprovalsFull", 429, 5},
    [ERR_UNSUPPORTED] = {"ApprovalNotSupported", 400, 0},
    [ERR_DENIED] = {"Forbidden", 403, 0},
    [ERR_TIMEOUT] = {"ApprovalsUnavailable", 503, 5},
    [ERR_GONE] = {"ApprovalsUnavailable", 503, 5},
    [ERR_UNAVAILABLE] = {"ApprovalsUnavailable", 503, 5},
    /* Not 503, after which clients' libraries ask again of their own accord. */
    [ERR_UNSURE] = {"ApprovalOutcomeUnknown", 504, 0},
    [ERR_INTERNAL] = {"InternalServerError", 500, 0},
};

void appr_reply(struct call *c, int status, json_t *j)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES);
	if (j == NULL || json_text_add_tree(&body, j) < 0) {
		appr_fail(c, ERR_INTERNAL, "the answer could not be put together");
	} else {
		call_reply(c, status, "application/json; charset=utf-8", &body);
	}
	buf_fini(&body);
	json_decref(j);
}

static void set_retry(struct call *c, int seconds)
{
	char text[16];
	if (seconds > 0) {
		(void)snprintf(text, sizeof(text), "%d", seconds);
		call_set_header(c, "Retry-After", text);
	}
}

static void answer(struct call *c, int status, const char *code, const char *text)
{
	json_t *message = json_text_string(text, strlen(text));
	call_reply_json(
	    c, status, json_pack("{s:{s:s, s:o}}", "error", "code", code, "message", message));
}

void appr_fail_err(struct call *c, const struct err *e)
{
	set_retry(c, reasons[e->code].retry_after_s);
	answer(c, reasons[e->code].status, reasons[e->code].code, e->text);
}

void appr_fail(struct call *c, enum err_code code, const char *fmt, ...)
{
	struct err e = {.code = code};
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(e.text, sizeof(e.text), fmt, args);
	va_end(args);
	appr_fail_err(c, &e);
}

static void reply_plain(struct call *c, int status, const char *text)
{
	struct buf body = BUF_INIT(sizeof((struct err){0}.text) * 3);
	(void)text_add_utf8_lossy(&body, text, strlen(text));
	call_reply(c, status, "text/plain; charset=utf-8", &body);
	buf_fini(&body);
}

void appr_fail_plain(struct call *c, const struct err *e)
{
	set_retry(c, reasons[e->code].retry_after_s);
	reply_plain(c, reasons[e->code].status, e->text);
}

static const char *code_of_status(int status)
{
	switch (status) {
	case 401:
		return "Unauthorized";
	case 404:
		return "NotFound";
	case 405:
		return "MethodNotAllowed";
	default:
		break;
	}
	for (size_t i = ERR_INVALID; i < array_len(reasons); i++) {
		if (reasons[i].status == status) {
			return reasons[i].code;
		}
	}
	return status >= 500 ? "InternalServerError" : "ApprovalRequestInvalid";
}

/* What a full share or a database that is away says of when to ask again. */
static void set_retry_of(struct call *c, int status)
{
	if (status == 503 || status == 429) {
		set_retry(c, reasons[status == 503 ? ERR_UNAVAILABLE : ERR_BUSY].retry_after_s);
	}
}

void appr_on_error_plain(struct call *c, int status, const struct err *e)
{
	set_retry_of(c, status);
	reply_plain(c, status, e->text);
}

/* Whether PATH, behind its pool, is WORD or beneath it. */
static bool is_beneath(const char *path, const char *word)
{
	const char *at = api_behind_pool(path);
	size_t len = strlen(word);
	return strncasecmp(at, word, len) == 0 && (at[len] == '\0' || at[len] == '/');
}

void appr_on_error(struct call *c, int status, const struct err *e)
{
	if (c->path != NULL && is_beneath(c->path, "code/review")) {
		appr_on_error_plain(c, status, e);
		return;
	}
	set_retry_of(c, status);
	answer(c, status, code_of_status(status), e->text);
}

bool appr_owns_path(const char *path)
{
	return is_beneath(path, "approvals") || is_beneath(path, "code/review");
}

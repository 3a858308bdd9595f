#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "api/aca.h"
#include "base/text.h"

/* Every fault: its code and status on the wire, and after how many seconds to try again. The codes
 * that Azure is known to send are spelt as it does; the others follow their manner. */
static const struct {
	const char *code;
	int status;
	int retry_after_s;
} faults[ACA_FAULT_COUNT] = {
    [ACA_VALIDATION] = {"SessionRequestValidationFailed", 400, 0},
    [ACA_PROPERTIES_MISSING] = {"SessionPropertiesMissing", 400, 0},
    [ACA_NOT_SUPPORTED] = {"SessionRequestNotSupported", 400, 0},
    [ACA_IDENTIFIER_LENGTH] = {"InvalidLengthOfSessionIdentifier", 400, 0},
    [ACA_SESSION_NOT_FOUND] = {"SessionWithIdentifierNotFound", 400, 0},
    [ACA_UNAUTHORIZED] = {"Unauthorized", 401, 0},
    [ACA_FORBIDDEN] = {"Forbidden", 403, 0},
    [ACA_NOT_FOUND] = {"NotFound", 404, 0},
    [ACA_POOL_NOT_FOUND] = {"SessionPoolNotFound", 404, 0},
    [ACA_FILE_NOT_FOUND] = {"SessionFileNotFound", 404, 0},
    [ACA_EXECUTION_NOT_FOUND] = {"SessionExecutionNotFound", 404, 0},
    [ACA_METHOD_NOT_ALLOWED] = {"MethodNotAllowed", 405, 0},
    [ACA_CONFLICT] = {"SessionRequestConflict", 409, 0},
    [ACA_GONE] = {"SessionGone", 410, 0},
    [ACA_TOO_LARGE] = {"SessionRequestTooLarge", 413, 0},
    [ACA_POOL_FULL] = {"SessionPoolFull", 429, 5},
    [ACA_QUEUE_FULL] = {"SessionQueueFull", 429, 1},
    [ACA_STORAGE_FULL] = {"SessionStorageFull", 507, 0},
    [ACA_UNAVAILABLE] = {"SessionPoolUnavailable", 503, 5},
    [ACA_INTERNAL] = {"InternalServerError", 500, 0},
};

int aca_problem(
    struct aca_problem *p, enum aca_fault fault, const char *target, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	p->fault = fault;
	p->target = target;
	(void)vsnprintf(p->text, sizeof(p->text), fmt, args);
	va_end(args);
	return -1;
}

static enum aca_fault fault_of(const struct err *e)
{
	if (e->os_errno == ENOSPC || e->os_errno == EDQUOT) {
		return ACA_STORAGE_FULL;
	}
	switch (e->code) {
	case ERR_INVALID:
		return ACA_VALIDATION;
	case ERR_NOT_FOUND:
		return ACA_FILE_NOT_FOUND;
	case ERR_CONFLICT:
		return ACA_CONFLICT;
	case ERR_TOO_LARGE:
		return ACA_TOO_LARGE;
	case ERR_BUSY:
		return ACA_POOL_FULL;
	case ERR_UNSUPPORTED:
		return ACA_NOT_SUPPORTED;
	case ERR_DENIED:
		return ACA_FORBIDDEN;
	case ERR_GONE:
		return ACA_GONE;
	case ERR_TIMEOUT:
	case ERR_UNAVAILABLE:
		return ACA_UNAVAILABLE;
	case ERR_NONE:
	case ERR_UNSURE:
	case ERR_INTERNAL:
		break;
	}
	return ACA_INTERNAL;
}

int aca_problem_err(struct aca_problem *p, const struct err *e, const char *target)
{
	enum aca_fault fault = fault_of(e);
	return aca_problem(p, fault, fault == ACA_VALIDATION ? target : NULL, "%s", e->text);
}

/* {"error":{"code","message","target"?,"traceId"}}, as ErrorResponse of the specification has it.
 */
static void answer(
    struct call *c, int status, const char *code, const char *text, const char *target, int retry_s)
{
	char trace[TEXT_GUID_BYTES];
	json_t *error = json_pack("{s:s, s:o, s:s}", "code", code, "message", aca_text(text),
	    "traceId", text_guid(trace));
	if (target != NULL) {
		(void)json_object_set_new(error, "target", json_string(target));
	}
	call_set_header(c, "x-ms-error-code", code);
	if (retry_s > 0) {
		char seconds[16];
		(void)snprintf(seconds, sizeof(seconds), "%d", retry_s);
		call_set_header(c, "Retry-After", seconds);
	}
	call_reply_json(c, status, json_pack("{s:o}", "error", error));
}

void aca_fail(struct call *c, const struct aca_problem *p)
{
	answer(c, faults[p->fault].status, faults[p->fault].code, p->text, p->target,
	    faults[p->fault].retry_after_s);
}

/* The first fault of that status that is not about one thing of the request's. */
static enum aca_fault fault_of_status(int status)
{
	for (enum aca_fault f = 0; f < ACA_FAULT_COUNT; f++) {
		if (faults[f].status == status) {
			return f;
		}
	}
	return status >= 500 ? ACA_INTERNAL : ACA_VALIDATION;
}

void aca_on_error(struct call *c, int status, const struct err *e)
{
	if (c->gone != NULL) {
		c->gone(c);
		c->gone = NULL;
		c->ctx = NULL;
	}
	/* A share that is full is room again soon; it has nothing to do with the pool's places. */
	enum aca_fault f = status == 429 ? ACA_QUEUE_FULL : fault_of_status(status);
	answer(c, status, faults[f].code, e->text, NULL, faults[f].retry_after_s);
}

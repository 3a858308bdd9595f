/*
 * appr: the wire of approvals: what the files of the dialect share with each other.
 *
 * Two routes are those of the sample that the approvals come from, with its messages in plain text:
 * POST /code/execute with a bare JSON string, POST /code/review. The others are ours, and every
 * refusal of theirs is {"error": {"code", "message"}}.
 *
 * Source of wire facts: torosent/aca-dts, CodeExecutionController.cs and README.
 */
#ifndef API_APPR_H
#define API_APPR_H

#include <jansson.h>
#include <stdbool.h>

#include "api/api.h"
#include "api/call.h"
#include "approvals/approvals.h"

/* --- appr_error.c -------------------------------------------------------------------------------
 */

/* Answers with {"error": {"code", "message"}}, by E's code. */
void appr_fail_err(struct call *c, const struct err *e);
void appr_fail(struct call *c, enum err_code code, const char *fmt, ...) printf_like(3, 4);
/* The same on the sample's routes: E's text as text/plain. */
void appr_fail_plain(struct call *c, const struct err *e);
/* route->on_error; the second one, in plain text, also for the path of a review. */
void appr_on_error(struct call *c, int status, const struct err *e);
void appr_on_error_plain(struct call *c, int status, const struct err *e);
/* Whether PATH, which has no route or not with its method, would be one of this dialect's. */
bool appr_owns_path(const char *path);
/* Answers with J and takes over the reference; NULL: out of memory. */
void appr_reply(struct call *c, int status, json_t *j);

/* --- appr_ask.c: a call that waits for an answer of the approvals -------------------------------
 */

/* Who asks, and for which pool (W->pool; NULL: the default one, and in lists every one). 0, or -1
 * with E: the server keeps no approvals, there is no such pool, the tenant is another's. Borrowed
 * from the call. */
int appr_who(struct call *c, struct approvals_who *w, struct err *e);

/* Answers C. E as in approvals_fn. */
typedef void (*appr_answer_fn)(struct call *c, const json_t *answer, const struct err *e);

/* While it waits, c->ctx and c->gone are in use; when the client leaves, nobody is told the answer.
 *
 *     struct appr_asking *a = appr_ask(c, answer);
 *     if (a != NULL) {
 *             appr_asked(a, approvals_get(…, appr_told, a));
 *     }
 */
struct appr_asking;
/* NULL having called ANSWER: out of memory. */
struct appr_asking *appr_ask(struct call *c, appr_answer_fn answer);
/* approvals_fn of a struct appr_asking. */
void appr_told(void *asking, const json_t *answer, const struct err *e);
void appr_asked(struct appr_asking *a, struct approvals_call *pending);

/* The query parameter NAME: NULL when it is absent or empty. -1 with E: not UTF-8, or longer than
 * MAX_BYTES. */
int appr_query(struct call *c, const char *name, size_t max_bytes, const char **out, struct err *e);
/* The header Idempotency-Key, or NULL. -1 with E. */
int appr_key(struct call *c, const char **out, struct err *e);
/* The approval's id in the path; NULL having answered 404 for what cannot be one. */
const char *appr_id(struct call *c);

#define APPR_TEXT_MAX_BYTES 4096 /* of a reason */
#define APPR_NAME_MAX_BYTES 256  /* of a person, a stage, a cursor */
#define APPR_KEY_MAX_BYTES 255

/* --- the handlers -------------------------------------------------------------------------------
 */

/* appr_approvals.c */
void appr_submit(struct call *c);
void appr_list(struct call *c);
void appr_get(struct call *c);
void appr_decide(struct call *c);
void appr_cancel(struct call *c);

/* appr_events.c */
void appr_events(struct call *c);

/* appr_sample.c */
/* Whether a POST /code/execute is the sample's: no session is named, and its body is a bare JSON
 * string, or is no object and no api-version is named. */
bool appr_is_sample(struct call *c);
/* route->json of its POST /code/execute. */
size_t appr_sample_json(struct call *c);
void appr_code_execute(struct call *c);
void appr_code_review(struct call *c);

/* appr_routes.c */
const struct route *appr_routes(size_t *count);

#endif

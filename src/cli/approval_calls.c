#include "cli/approval_calls.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/terminal.h"
#include "cli/url.h"

#define HTTP_CONFLICT 409

/* --- one request --- */

/* Fills in the address of CALL and performs it. */
static int perform(struct client *c, struct client_call *call, const char *const *segments,
    const struct url_query *query, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	if (url_build(&url, buf_str(&c->base), segments, query, e) < 0) {
		return -1;
	}
	call->url = url.data;
	return client_perform_json(c, call, out, e);
}

int approval_get(struct client *c, const char *id, json_t **out, struct err *e)
{
	const char *const segments[] = {"approvals", id, NULL};
	cleanup(client_call_fini) struct client_call call = {.method = CLIENT_GET};
	return perform(c, &call, segments, NULL, out, e);
}

static int check_key(const char *key, struct err *e)
{
	for (; *key != '\0'; key++) {
		if (*key <= ' ' || *key > '~') {
			return err_set(e, ERR_INVALID,
			    "option --key takes printable ASCII characters without spaces");
		}
	}
	return 0;
}

int approval_submit(
    struct client *c, const json_t *request, const char *key, json_t **out, struct err *e)
{
	const char *const segments[] = {"approvals", NULL};
	if (key != NULL && check_key(key, e) < 0) {
		return -1;
	}
	return client_post(c, segments, request, key, 0, out, e);
}

/* --- lists --- */

void approval_pages_fini(struct approval_pages *pages)
{
	if (pages != NULL) {
		buf_fini(&pages->after);
	}
}

/* Keeps where the page after PAGE begins. */
static int keep_next(struct approval_pages *pages, const json_t *page, struct err *e)
{
	const char *next = client_text(page, "next");
	buf_clear(&pages->after);
	pages->ended = next[0] == '\0';
	return buf_add_str(&pages->after, next) < 0
		   ? err_set(e, ERR_UNAVAILABLE, "the server's answer has too long a 'next'")
		   : 0;
}

int approval_pages_next(struct client *c, struct approval_pages *pages, json_t **out, struct err *e)
{
	static const char *const segments[] = {"approvals", NULL};
	*out = NULL;
	if (pages->ended) {
		return 0;
	}
	if (pages->count++ == APPROVAL_LIST_PAGES_MAX) {
		return err_set(e, ERR_TOO_LARGE, "the list has more than %d approvals",
		    APPROVAL_LIST_PAGES_MAX * APPROVAL_LIST_PAGE);
	}
	char limit[16];
	(void)snprintf(limit, sizeof(limit), "%d", APPROVAL_LIST_PAGE);
	const struct url_query query[] = {
	    {"state", pages->state},
	    {"kind", pages->kind},
	    {"limit", limit},
	    {"after", pages->after.len > 0 ? pages->after.data : NULL},
	    {NULL, NULL},
	};
	cleanup(client_call_fini) struct client_call call = {.method = CLIENT_GET};
	cleanup(json_decrefp) json_t *page = NULL;
	if (perform(c, &call, segments, query, &page, e) < 0) {
		return -1;
	}
	json_t *items = json_object_get(page, "approvals");
	if (!json_is_array(items)) {
		return err_set(e, ERR_UNAVAILABLE, "the server's answer has no list 'approvals'");
	}
	if (keep_next(pages, page, e) < 0) {
		return -1;
	}
	*out = json_incref(items);
	return 0;
}

/* --- names --- */

/* Takes what GIVEN begins from PAGE; how many that makes with the COUNT there were. */
static unsigned match_page(
    const json_t *page, const char *given, char id[APPROVAL_ID_BYTES], unsigned count)
{
	size_t i;
	const json_t *one;
	json_array_foreach(page, i, one)
	{
		const char *candidate = client_text(one, "id");
		if (text_has_prefix(candidate, given) && strlen(candidate) < APPROVAL_ID_BYTES) {
			(void)memccpy(id, candidate, '\0', APPROVAL_ID_BYTES);
			count++;
		}
	}
	return count;
}

static int find_beginning(
    struct client *c, const char *given, char id[APPROVAL_ID_BYTES], struct err *e)
{
	cleanup(approval_pages_fini) struct approval_pages pages = APPROVAL_PAGES(NULL, NULL);
	unsigned count = 0;
	for (;;) {
		cleanup(json_decrefp) json_t *page = NULL;
		if (approval_pages_next(c, &pages, &page, e) < 0) {
			return -1;
		}
		if (page == NULL) {
			break;
		}
		count = match_page(page, given, id, count);
		if (count > 1) {
			return err_set(e, ERR_INVALID,
			    "several approvals have an id that begins with %s: give more of it",
			    given);
		}
	}
	return count == 1 ? 0
			  : err_set(e, ERR_NOT_FOUND,
				"there is no approval whose id begins with %s", given);
}

int approval_find(struct client *c, const char *given, char id[APPROVAL_ID_BYTES], struct err *e)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";
	size_t len = strlen(given);
	if (len < APPROVAL_ID_MIN || len >= APPROVAL_ID_BYTES || strspn(given, allowed) != len) {
		return err_set(e, ERR_INVALID,
		    "'%.80s' is no approval's id, nor the first %d or more characters of one",
		    given, APPROVAL_ID_MIN);
	}
	if (len == TEXT_GUID_BYTES - 1) {
		(void)memccpy(id, given, '\0', APPROVAL_ID_BYTES);
		return 0;
	}
	return find_beginning(c, given, id, e);
}

/* --- decisions --- */

static int add_shown(struct buf *out, const char *before, const char *text, const char *after)
{
	if (text[0] == '\0') {
		return 0;
	}
	int r = buf_add_str(out, before);
	r = r < 0 ? r : terminal_escape_all(out, text, strlen(text));
	return r < 0 ? r : buf_add_str(out, after);
}

/* "rejected by Ada (token reviewer) 2026-11-21T07:43:10Z: no", of the last decision, or since when
 * it is what it is. Empty when it does not fit. */
static void describe(struct buf *out, const json_t *approval)
{
	const json_t *decisions = json_object_get(approval, "decisions");
	const json_t *last = json_array_get(decisions, json_array_size(decisions) - 1);
	int bad = 0;
	if (last == NULL) {
		bad |= add_shown(out, "it is ", client_text(approval, "state"), "");
		bad |= add_shown(out, " since ", client_text(approval, "changed"), "");
	} else {
		bool yes = json_is_true(json_object_get(last, "approve"));
		const char *person = client_text(last, "person");
		bad |= buf_add_str(out, yes ? "approved" : "rejected");
		bad |= add_shown(out, " by ", person, "");
		bad |= add_shown(out, person[0] != '\0' ? " (token " : " by the token ",
		    client_text(last, "by"), person[0] != '\0' ? ")" : "");
		bad |= add_shown(out, ", ", client_text(last, "at"), "");
		bad |= add_shown(out, ": ", client_text(last, "reason"), "");
	}
	if (bad != 0) {
		buf_clear(out);
	}
}

/* Adds to a refusal for a conflict who decided what and when. Returns -1. */
static int explain(struct client *c, const char *id, struct err *e)
{
	struct client_refusal refusal = c->refusal;
	cleanup(json_decrefp) json_t *approval = NULL;
	cleanup(buf_fini) struct buf why = BUF_INIT(400);
	if (refusal.http_status != HTTP_CONFLICT) {
		return -1;
	}
	if (approval_get(c, id, &approval, NULL) == 0) {
		describe(&why, approval);
	}
	if (why.len > 0) {
		size_t used = strlen(refusal.message);
		(void)snprintf(
		    refusal.message + used, sizeof(refusal.message) - used, " (%s)", why.data);
		(void)err_set(e, ERR_UNAVAILABLE, "%s: %s (HTTP %ld)", refusal.code,
		    refusal.message, refusal.http_status);
	}
	c->refusal = refusal;
	return -1;
}

int approval_decide(struct client *c, const char *id, const struct approval_decision *d,
    json_t **out, struct err *e)
{
	const char *const segments[] = {"approvals", id, "decision", NULL};
	cleanup(json_decrefp) json_t *body = json_pack("{s:b, s:s*, s:s*, s:s*}", "approve",
	    (int)d->approve, "stage", d->stage, "by", d->by, "reason", d->reason);
	if (body == NULL) {
		return err_set(e, ERR_INVALID, "the reason and names must be UTF-8");
	}
	return client_post(c, segments, body, NULL, 0, out, e) < 0 ? explain(c, id, e) : 0;
}

int approval_cancel(
    struct client *c, const char *id, const char *reason, json_t **out, struct err *e)
{
	const char *const segments[] = {"approvals", id, NULL};
	const struct url_query query[] = {{"reason", reason}, {NULL, NULL}};
	cleanup(client_call_fini) struct client_call call = {.method = CLIENT_DELETE};
	return perform(c, &call, segments, query, out, e) < 0 ? explain(c, id, e) : 0;
}

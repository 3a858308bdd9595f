/*
 * approval_calls: what the client asks a server about approvals. The wire is docs/approvals.md.
 *
 * An approval may be named by a beginning of its id, of at least APPROVAL_ID_MIN characters, that
 * no other approval's id has. That is found out here, from the server's list.
 *
 * All return 0, or -1 with *E as client_perform.
 */
#ifndef CLI_APPROVAL_CALLS_H
#define CLI_APPROVAL_CALLS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/client.h"

#define APPROVAL_ID_BYTES 64
#define APPROVAL_ID_MIN 4
#define APPROVAL_LIST_PAGE 200
#define APPROVAL_LIST_PAGES_MAX 5000
#define APPROVAL_CURSOR_MAX_BYTES 4096

/* A list, page by page, newest first. All zero but STATE and KIND at the start. */
struct approval_pages {
	const char *state; /* NULL: any */
	const char *kind;  /* NULL: any */
	struct buf after;
	unsigned count; /* pages that came */
	bool ended;
};

#define APPROVAL_PAGES(of_state, of_kind)                     \
	(struct approval_pages)                               \
	{                                                     \
		.state = (of_state), .kind = (of_kind),       \
		.after = BUF_INIT(APPROVAL_CURSOR_MAX_BYTES), \
	}

void approval_pages_fini(struct approval_pages *pages);
/* The next page, an array, to *OUT (owned by the caller); NULL past the last. ERR_TOO_LARGE past
 * APPROVAL_LIST_PAGES_MAX. */
int approval_pages_next(
    struct client *c, struct approval_pages *pages, json_t **out, struct err *e);

/* Writes the whole id of the approval that GIVEN names. ERR_INVALID for what can be no id, and for
 * a beginning that several have; ERR_NOT_FOUND. A whole id is taken as it is. */
int approval_find(struct client *c, const char *given, char id[APPROVAL_ID_BYTES], struct err *e);

/* GET approvals/{id}, with its history. *OUT is owned by the caller, here and below. */
int approval_get(struct client *c, const char *id, json_t **out, struct err *e);

/* POST approvals. KEY: the Idempotency-Key, or NULL. REQUEST is borrowed. */
int approval_submit(
    struct client *c, const json_t *request, const char *key, json_t **out, struct err *e);

struct approval_decision {
	bool approve;
	const char *stage, *by, *reason; /* NULL: left out */
};

/* Where it was decided otherwise, *E says who decided what and when. */
int approval_decide(struct client *c, const char *id, const struct approval_decision *d,
    json_t **out, struct err *e);

/* DELETE approvals/{id}. As approval_decide. */
int approval_cancel(
    struct client *c, const char *id, const char *reason, json_t **out, struct err *e);

#endif

/*
 * trail_expect: which records of the audit trail an approval's events call for.
 *
 * A record is of one event, or of one and what it led to in the same change: submitted and the
 * waiting that follows; run_finished and waiting, approved or failed; decided and approved or
 * rejected. Its time is the event's, its actor the event's.
 *
 * An expected record: {event (seq), kind, at_us, actor, by? (whom the event's body names, who is
 * the actor), action, outcome, detail?, problem?}. PROBLEM: what is wrong among the events alone,
 * as text. An event that no record can be of has no action.
 */
#ifndef APPROVALS_TRAIL_EXPECT_H
#define APPROVALS_TRAIL_EXPECT_H

#include <jansson.h>
#include <stdbool.h>

#include "approvals/db.h"
#include "base/err.h"

#define TRAIL_NAME_BYTES 32

/* Goes along the events of one approval; zeroed but for D and ID, which are borrowed. */
struct trail_expect {
	struct db *d;
	const char *id;
	json_t *events; /* read, and not taken yet */
	int64_t read;   /* number of the last one that was */
	bool end;
	json_t *submitted; /* body of the first one */
	json_t *result_sha256;
};

/* For cleanup. */
void trail_expect_fini(struct trail_expect *x);
/* *WANT: the next expected record, the caller's; NULL after the last. */
int trail_expect_next(struct trail_expect *x, json_t **want, struct err *e);

/* Whether RECORD (audit.h) is not WANT; then NAME is the first member in which: "actor", "at_us",
 * "outcome", or one of the detail, cut to fit. */
bool trail_differs(const json_t *want, const json_t *record, char name[TRAIL_NAME_BYTES]);

#endif

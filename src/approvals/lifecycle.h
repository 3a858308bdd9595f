/*
 * lifecycle: what an approval is, as a table: its states and which may follow which, the policies
 * and the stages at which a person decides. Tests, documentation and code read the same table.
 *
 *   policy   what a person reviews          the way of an approval nobody stops
 *   after    the result (the sample's way)  queued, running, waiting(result), approved
 *   before   the code                       waiting(code), queued, running, approved
 *   both     the code, then the result      waiting(code), queued, running, waiting(result),
 * approved rules    calls of named tools           queued, running, approved; each such call is an
 * approval of its own (kind "call"), and the code waits for it
 *
 * An approval of kind "call" is one call of a tool from inside a session that may only run once a
 * person has allowed it: waiting(call), then final.
 *
 * Invariants: a final state never changes; a decision is taken in the state waiting only; code
 * whose approval was rejected, has expired or was cancelled is not run after that.
 */
#ifndef APPROVALS_LIFECYCLE_H
#define APPROVALS_LIFECYCLE_H

#include <stdbool.h>

enum approval_state {
	APPROVAL_QUEUED,
	APPROVAL_RUNNING,
	APPROVAL_WAITING,
	APPROVAL_APPROVED,
	APPROVAL_REJECTED,
	APPROVAL_EXPIRED,
	APPROVAL_FAILED,
	APPROVAL_CANCELLED,
	APPROVAL_STATE_COUNT,
};

enum approval_policy {
	APPROVAL_AFTER,
	APPROVAL_BEFORE,
	APPROVAL_BOTH,
	APPROVAL_RULES,
	APPROVAL_POLICY_COUNT,
};

/* What a person looks at while an approval waits. */
enum approval_stage {
	APPROVAL_STAGE_NONE,
	APPROVAL_STAGE_CODE,
	APPROVAL_STAGE_RESULT,
	APPROVAL_STAGE_CALL,
	APPROVAL_STAGE_COUNT,
};

/* Static names, as on the wire and in the database: "queued", "after", "code" … The stage NONE is
 * "". */
const char *approval_state_name(enum approval_state s);
const char *approval_policy_name(enum approval_policy p);
const char *approval_stage_name(enum approval_stage s);

/* By name; the COUNT of the enumeration when there is none of that name. NULL is allowed. */
enum approval_state approval_state_named(const char *name);
enum approval_policy approval_policy_named(const char *name);
enum approval_stage approval_stage_named(const char *name);

bool approval_state_is_final(enum approval_state s);
bool approval_state_may_follow(enum approval_state from, enum approval_state to);

#endif

/* A person says yes or no, or that it is not wanted any more. */
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_fold.h"
#include "approvals/records_rows.h"

static bool same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* --- deciding --- */

/* The stages at which somebody decides about ROW, as a set of bits. */
static unsigned stages_of(const json_t *row)
{
	static const unsigned of_policy[APPROVAL_POLICY_COUNT + 1] = {
	    [APPROVAL_AFTER] = 1U << APPROVAL_STAGE_RESULT,
	    [APPROVAL_BEFORE] = 1U << APPROVAL_STAGE_CODE,
	    [APPROVAL_BOTH] = 1U << APPROVAL_STAGE_CODE | 1U << APPROVAL_STAGE_RESULT,
	    [APPROVAL_POLICY_COUNT] = 1U << APPROVAL_STAGE_CALL,
	};
	return of_policy[record_policy(row)];
}

/* The stage that is decided: the one that was named, or the only one there is. */
static int find_stage(const json_t *row, const char *named, enum approval_stage *out, struct err *e)
{
	unsigned stages = stages_of(row);
	if (stages == 0) {
		return err_set(e, ERR_CONFLICT, "nobody decides about this one: its policy is %s",
		    records_text(row, "policy"));
	}
	if (named == NULL) {
		*out = (enum approval_stage)__builtin_ctz(stages);
		return (stages & (stages - 1)) == 0
			   ? 0
			   : err_set(e, ERR_INVALID,
				 "say which stage is decided: the policy both has code and result");
	}
	*out = approval_stage_named(named);
	return *out != APPROVAL_STAGE_COUNT && (stages & (1U << *out)) != 0
		   ? 0
		   : err_set(e, ERR_INVALID, "this approval has no stage '%.40s'", named);
}

static const json_t *decision_at(const json_t *row, const char *stage)
{
	size_t i;
	const json_t *one;
	json_array_foreach(json_object_get(row, "decisions"), i, one)
	{
		if (same(records_text(one, "stage"), stage)) {
			return one;
		}
	}
	return NULL;
}

/* 1: decided so before; 0: may be decided. */
static int check_open(
    const struct record_change *c, const char *stage, bool approve, bool early, struct err *e)
{
	const json_t *before = decision_at(c->row, stage);
	if (before != NULL) {
		bool was = json_is_true(json_object_get(before, "approve"));
		return was == approve ? 1
				      : err_set(e, ERR_CONFLICT, "it was %s before",
					    was ? "approved" : "rejected");
	}
	if (early && records_early(c->row, stage)) {
		return 0;
	}
	if (record_state(c->row) != APPROVAL_WAITING ||
	    !same(records_text(c->row, "stage"), stage)) {
		return err_set(e, ERR_CONFLICT, "the approval is %s, and does not wait for this",
		    records_text(c->row, "state"));
	}
	/* It expires as soon as somebody gets to it; until then nobody slips through. */
	return records_number(c->row, "deadline_us") > c->now_us
		   ? 0
		   : err_set(e, ERR_CONFLICT, "its deadline has passed");
}

static json_t *decided_body(const json_t *in, const char *stage, bool approve)
{
	return json_pack("{s:s, s:b, s:s, s:s?, s:s?}", "stage", stage, "approve", (int)approve,
	    "by", records_text(in, "by"), "person", records_text(in, "person"), "reason",
	    records_text(in, "reason"));
}

static int write_decision(
    struct record_change *c, const json_t *in, const char *stage, bool approve, struct err *e)
{
	const char *by = records_text(in, "by");
	if (record_change_event(c, "decided", by, decided_body(in, stage, approve), e) < 0) {
		return -1;
	}
	const char *end = approve ? "approved" : "rejected";
	bool early = records_early_decision(c->row) != NULL;
	if (record_state(c->row) == APPROVAL_WAITING &&
	    record_change_event(c, end, "server", NULL, e) < 0) {
		return -1;
	}
	if (record_change_write(c, e) < 0) {
		return -1;
	}
	return record_change_audit(c, by, "approval.decide", early ? "kept" : end,
	    json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:s*}", "stage", stage, "person",
		records_text(in, "person"), "reason", records_text(in, "reason"), "code_sha256",
		records_text(c->row, "code_sha256"), "arguments_sha256",
		records_text(c->row, "arguments_sha256"), "result_sha256",
		records_text(c->row, "result_sha256")),
	    e);
}

/* Several tokens may use the session that calls, and what one has left running calls while
 * another's code runs: so whoever submitted a call, it may be the one who decides. */
static int check_eyes(const struct record_change *c, const json_t *in, struct err *e)
{
	if (same(records_text(in, "by"), records_text(c->row, "submitter"))) {
		return err_set(e, ERR_DENIED, "who submitted it may not decide about it");
	}
	if (same(records_text(c->row, "kind"), "call")) {
		return err_set(e, ERR_DENIED,
		    "a token that may not decide about its own may not decide about calls: the "
		    "session that calls may be its own");
	}
	return 0;
}

int records_decide(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"tenant", RECORD_TEXT, true},
	    {"stage", RECORD_TEXT, true},
	    {"approve", RECORD_FLAG, false},
	    {"by", RECORD_TEXT, false},
	    {"person", RECORD_TEXT, true},
	    {"reason", RECORD_TEXT, true},
	    {"now_us", RECORD_NUMBER, false},
	    {"own", RECORD_FLAG, false},
	    {"early", RECORD_FLAG, true},
	};
	cleanup(record_change_fini) struct record_change c = {0};
	enum approval_stage stage = APPROVAL_STAGE_NONE;
	bool approve = json_is_true(json_object_get(in, "approve"));
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    record_change_load(&c, d, records_text(in, "id"), records_text(in, "tenant"),
		records_number(in, "now_us"), e) < 0) {
		return -1;
	}
	if (!json_is_true(json_object_get(in, "own")) && check_eyes(&c, in, e) < 0) {
		return -1;
	}
	if (find_stage(c.row, records_text(in, "stage"), &stage, e) < 0) {
		return -1;
	}
	int before = check_open(
	    &c, approval_stage_name(stage), approve, json_is_true(json_object_get(in, "early")), e);
	if (before < 0 ||
	    (before == 0 && write_decision(&c, in, approval_stage_name(stage), approve, e) < 0)) {
		return -1;
	}
	return record_change_answer(&c, "again", before == 1, out, e);
}

/* --- cancelling --- */

static int write_cancel(struct record_change *c, const json_t *in, struct err *e)
{
	const char *by = records_text(in, "by");
	const char *reason = records_text(in, "reason");
	if (record_is_final(c->row)) {
		return err_set(
		    e, ERR_CONFLICT, "the approval is %s", records_text(c->row, "state"));
	}
	if (record_change_event(
		c, "cancelled", by, json_pack("{s:s, s:s?}", "by", by, "reason", reason), e) < 0 ||
	    record_change_write(c, e) < 0) {
		return -1;
	}
	return record_change_audit(
	    c, by, "approval.cancel", "cancelled", json_pack("{s:s*}", "reason", reason), e);
}

int records_cancel(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"tenant", RECORD_TEXT, true},
	    {"by", RECORD_TEXT, false},
	    {"reason", RECORD_TEXT, true},
	    {"now_us", RECORD_NUMBER, false},
	};
	cleanup(record_change_fini) struct record_change c = {0};
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    record_change_load(&c, d, records_text(in, "id"), records_text(in, "tenant"),
		records_number(in, "now_us"), e) < 0) {
		return -1;
	}
	bool again = record_state(c.row) == APPROVAL_CANCELLED;
	if (!again && write_cancel(&c, in, e) < 0) {
		return -1;
	}
	return record_change_answer(&c, "again", again, out, e);
}

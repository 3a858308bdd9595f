#include "approvals/trail_expect.h"

#include <stdio.h>
#include <string.h>

#include "approvals/records_rows.h"
#include "base/text.h"

#define PAGE 64

void trail_expect_fini(struct trail_expect *x)
{
	json_decref(x->events);
	json_decref(x->submitted);
	json_decref(x->result_sha256);
	x->events = NULL;
	x->submitted = NULL;
	x->result_sha256 = NULL;
}

static bool same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* --- the events --- */

struct reading {
	json_t *events;
	bool failed;
};

static int on_event(void *ctx, const struct db_row *r)
{
	struct reading *reading = ctx;
	json_t *event = record_event_read(r, 0);
	reading->failed = event == NULL || json_array_append_new(reading->events, event) < 0;
	return reading->failed ? 1 : 0;
}

static int read_more(struct trail_expect *x, struct err *e)
{
	if (x->events == NULL) {
		x->events = json_array();
	}
	struct reading reading = {.events = x->events};
	size_t before = json_array_size(x->events);
	if (db_run(x->d,
		"SELECT " RECORD_EVENT_COLUMNS " FROM approval_event e "
		"WHERE e.approval = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3",
		(const struct db_value[]){DB_TEXT(x->id), DB_INT(x->read), DB_INT(PAGE)}, 3,
		on_event, &reading, NULL, e) < 0) {
		return -1;
	}
	size_t count = json_array_size(x->events);
	/* One that cannot be read ends them: records_replay tells of it. */
	x->end = reading.failed || count - before < PAGE;
	if (count > before) {
		x->read = records_number(json_array_get(x->events, count - 1), "seq");
	}
	return 0;
}

/* The K-th that was not taken, borrowed; NULL past the end. */
static int look_ahead(struct trail_expect *x, size_t k, json_t **event, struct err *e)
{
	while (json_array_size(x->events) <= k && !x->end) {
		if (read_more(x, e) < 0) {
			return -1;
		}
	}
	*event = json_array_get(x->events, k);
	return 0;
}

/* --- details --- */

/* The members of BODY that have a value, NAMES of them (NULL: all). */
static json_t *pick(const json_t *body, const char *const *names)
{
	const char *name;
	json_t *value;
	json_t *picked = json_object();
	json_object_foreach((json_t *)(uintptr_t)body, name, value)
	{
		size_t i = 0;
		while (names != NULL && names[i] != NULL && strcmp(names[i], name) != 0) {
			i++;
		}
		if (!json_is_null(value) && (names == NULL || names[i] != NULL)) {
			(void)json_object_set_nocheck(picked, name, value);
		}
	}
	return picked;
}

static json_t *whole(const struct trail_expect *x, const json_t *body)
{
	(void)x;
	return pick(body, NULL);
}

static json_t *of_submitted(const struct trail_expect *x, const json_t *body)
{
	static const char *const names[] = {"tenant", "pool", "kind", "policy", "code_sha256",
	    "arguments_sha256", "parent", "session", NULL};
	static const char *const call_names[] = {"tool", "callable", NULL};
	char sha256[RECORDS_SHA256_BYTES];
	json_t *detail = pick(body, names);
	cleanup(json_decrefp) json_t *call = pick(json_object_get(body, "call"), call_names);
	(void)x;
	(void)json_object_update(detail, call);
	if (records_settings_sha256(json_object_get(body, "settings"), sha256, NULL) == 0) {
		(void)json_object_set_new(detail, "settings_sha256", json_string(sha256));
	}
	return detail;
}

/* What was submitted, by its hashes. */
static void add_hash(const struct trail_expect *x, json_t *detail, const char *name)
{
	json_t *hash = json_object_get(x->submitted, name);
	if (json_is_string(hash)) {
		(void)json_object_set(detail, name, hash);
	}
}

static json_t *of_start(const struct trail_expect *x, const json_t *body)
{
	json_t *detail = pick(body, NULL);
	add_hash(x, detail, "code_sha256");
	return detail;
}

static json_t *of_decided(const struct trail_expect *x, const json_t *body)
{
	static const char *const names[] = {"stage", "person", "reason", NULL};
	json_t *detail = pick(body, names);
	add_hash(x, detail, "code_sha256");
	add_hash(x, detail, "arguments_sha256");
	if (json_is_string(x->result_sha256)) {
		(void)json_object_set(detail, "result_sha256", x->result_sha256);
	}
	return detail;
}

/* --- which record --- */

static const struct rule {
	const char *kind, *action;
	const char *outcome; /* of one that leads to nothing; NULL: the event's kind */
	json_t *(*detail)(const struct trail_expect *x, const json_t *body); /* NULL: any */
	const char *follows[5];
	const char *by; /* the member of the body that names the actor */
} rules[] = {
    {"submitted", "approval.submit", "queued", of_submitted, {"waiting"}, "submitter"},
    {"run_started", "approval.run", "started", of_start, {NULL}, NULL},
    {"run_interrupted", "approval.run", "interrupted", whole, {NULL}, NULL},
    {"run_put_back", "approval.run", "put_back", whole, {NULL}, NULL},
    {"run_finished", "approval.finish", "", whole, {"waiting", "approved", "rejected", "failed"},
	NULL},
    {"decided", "approval.decide", "kept", of_decided, {"approved", "rejected"}, "by"},
    {"expired", "approval.expire", NULL, whole, {NULL}, NULL},
    {"failed", "approval.fail", NULL, NULL, {NULL}, NULL},
    {"cancelled", "approval.cancel", NULL, whole, {NULL}, "by"},
    {"call_finished", "approval.finish", NULL, whole, {NULL}, NULL},
    {"callback_delivered", "approval.callback", NULL, whole, {NULL}, NULL},
    {"callback_failed", "approval.callback", NULL, whole, {NULL}, NULL},
    {"callback_given_up", "approval.callback", NULL, whole, {NULL}, NULL},
    {"promoted", "approval.promote", NULL, whole, {NULL}, NULL},
    {"promote_failed", "approval.promote", NULL, whole, {NULL}, NULL},
};

static const struct rule *rule_of(const char *kind)
{
	for (size_t i = 0; i < array_len(rules); i++) {
		if (same(rules[i].kind, kind)) {
			return &rules[i];
		}
	}
	return NULL;
}

/* Code that was approved may run, and the event says no more. */
static bool leads_to_a_run(const json_t *event)
{
	const json_t *body = json_object_get(event, "body");
	return same(records_text(event, "kind"), "decided") &&
	       same(records_text(body, "stage"), "code") &&
	       json_is_true(json_object_get(body, "approve"));
}

static bool may_follow(const struct rule *rule, const json_t *next)
{
	for (size_t i = 0; rule->follows[i] != NULL; i++) {
		if (same(rule->follows[i], records_text(next, "kind"))) {
			return true;
		}
	}
	return false;
}

/* What the event alone has wrong about NEXT, which it led to. */
static const char *problem_of(const struct trail_expect *x, const json_t *event, const json_t *next)
{
	const json_t *settings = json_object_get(x->submitted, "settings");
	int64_t at_us = records_number(event, "at_us");
	if (records_number(next, "at_us") != at_us) {
		return "its time is not that of the event before it";
	}
	if (!same(records_text(next, "actor"), "server")) {
		return "its actor is not the server";
	}
	if (same(records_text(next, "kind"), "waiting") &&
	    records_number(json_object_get(next, "body"), "deadline_us") !=
		at_us + records_number(settings, "deadline_ms") * 1000) {
		return "its deadline is not the one that its settings give";
	}
	return NULL;
}

static int add_problem(json_t *want, const json_t *next, const char *problem)
{
	char text[160];
	if (problem == NULL) {
		return 0;
	}
	(void)snprintf(
	    text, sizeof(text), "event %lld: %s", (long long)records_number(next, "seq"), problem);
	return json_object_set_new(want, "problem", json_string(text));
}

/* EVENT is the first of x->events, NEXT the one behind it or NULL; *TAKEN: how many it is. */
static json_t *want_of(struct trail_expect *x, const json_t *event, const json_t *next, int *taken)
{
	const char *kind = records_text(event, "kind");
	const json_t *body = json_object_get(event, "body");
	const struct rule *rule = rule_of(kind);
	*taken = 1;
	cleanup(json_decrefp) json_t *want = json_pack("{s:O, s:O, s:O, s:O}", "event",
	    json_object_get(event, "seq"), "kind", json_object_get(event, "kind"), "at_us",
	    json_object_get(event, "at_us"), "actor", json_object_get(event, "actor"));
	if (want == NULL || rule == NULL) {
		return steal(&want);
	}
	const char *outcome = rule->outcome != NULL ? rule->outcome : kind;
	if (leads_to_a_run(event)) {
		outcome = "approved";
	} else if (next != NULL && may_follow(rule, next)) {
		*taken = 2;
		outcome = records_text(next, "kind");
		if (add_problem(want, next, problem_of(x, event, next)) < 0) {
			return NULL;
		}
	}
	json_t *detail = rule->detail != NULL ? rule->detail(x, body) : NULL;
	if (json_object_set_new(want, "action", json_string(rule->action)) < 0 ||
	    json_object_set_new(want, "outcome", json_string(outcome)) < 0 ||
	    (rule->detail != NULL && json_object_set_new(want, "detail", detail) < 0)) {
		return NULL;
	}
	if (rule->by != NULL) {
		(void)json_object_set(want, "by", json_object_get(body, rule->by));
	}
	return steal(&want);
}

/* What later records repeat of EVENT. */
static void remember(struct trail_expect *x, const json_t *event)
{
	const json_t *body = json_object_get(event, "body");
	const char *kind = records_text(event, "kind");
	if (same(kind, "submitted") && x->submitted == NULL) {
		x->submitted = json_deep_copy(body);
	}
	if (same(kind, "run_finished")) {
		json_decref(x->result_sha256);
		x->result_sha256 = json_incref(json_object_get(body, "result_sha256"));
	}
}

int trail_expect_next(struct trail_expect *x, json_t **want, struct err *e)
{
	json_t *event, *next;
	int taken = 0;
	if (look_ahead(x, 0, &event, e) < 0 || look_ahead(x, 1, &next, e) < 0) {
		return -1;
	}
	*want = NULL;
	if (event == NULL) {
		return 0;
	}
	remember(x, event);
	json_t *made = want_of(x, event, next, &taken);
	if (made == NULL) {
		return records_no_memory(e);
	}
	for (; taken > 0; taken--) {
		(void)json_array_remove(x->events, 0);
	}
	*want = made;
	return 0;
}

/* --- comparing --- */

/* The member that only one of them has, or that differs. */
static const char *member_difference(const json_t *a, const json_t *b)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)a, name, value)
	{
		if (!json_equal(json_object_get(b, name), value)) {
			return name;
		}
	}
	json_object_foreach((json_t *)(uintptr_t)b, name, value)
	{
		if (json_object_get(a, name) == NULL) {
			return name;
		}
	}
	return NULL;
}

/* Where the trail has the code itself, it is the code of the hash. */
static bool code_fits(const json_t *detail)
{
	char sha256[RECORDS_SHA256_BYTES];
	const json_t *code = json_object_get(detail, "code");
	return code == NULL || (json_is_string(code) &&
				   records_sha256(json_string_value(code), json_string_length(code),
				       sha256, NULL) == 0 &&
				   same(sha256, records_text(detail, "code_sha256")));
}

/* Takes out of SAYS and HAS what only one of them may have. */
static void level(const char *action, json_t *says, json_t *has)
{
	if (same(action, "approval.submit")) {
		(void)json_object_del(has, "code");
		(void)json_object_del(has, "arguments");
		/* Records of before it was added. */
		if (json_object_get(has, "settings_sha256") == NULL) {
			(void)json_object_del(says, "settings_sha256");
		}
	}
	/* Where a person cancelled, the actor says it. */
	if (same(action, "approval.cancel") && json_object_get(has, "by") == NULL) {
		(void)json_object_del(says, "by");
	}
}

static bool detail_differs(const json_t *want, const json_t *record, char name[TRAIL_NAME_BYTES])
{
	const json_t *detail = json_object_get(record, "detail");
	if (json_object_get(want, "detail") == NULL) {
		return false;
	}
	if (!json_is_object(detail)) {
		(void)snprintf(name, TRAIL_NAME_BYTES, "detail");
		return true;
	}
	if (!code_fits(detail)) {
		(void)snprintf(name, TRAIL_NAME_BYTES, "code");
		return true;
	}
	cleanup(json_decrefp) json_t *says = pick(json_object_get(want, "detail"), NULL);
	cleanup(json_decrefp) json_t *has = pick(detail, NULL);
	level(records_text(want, "action"), says, has);
	const char *found = member_difference(says, has);
	if (found != NULL) {
		(void)snprintf(name, TRAIL_NAME_BYTES, "%s", found);
	}
	return found != NULL;
}

bool trail_differs(const json_t *want, const json_t *record, char name[TRAIL_NAME_BYTES])
{
	static const char *const members[] = {"actor", "at_us", "outcome"};
	for (size_t i = 0; i < array_len(members); i++) {
		const json_t *value = json_object_get(record, members[i]);
		if (!json_equal(json_object_get(want, members[i]), value)) {
			(void)snprintf(name, TRAIL_NAME_BYTES, "%s", members[i]);
			return true;
		}
	}
	const json_t *by = json_object_get(want, "by");
	if (by != NULL && !json_equal(by, json_object_get(record, "actor"))) {
		(void)snprintf(name, TRAIL_NAME_BYTES, "actor");
		return true;
	}
	return detail_differs(want, record, name);
}

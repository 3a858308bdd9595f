#include "approval_base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "approvals/trail.h"
#include "base/compiler.h"

#define IDS_MAX 1024

static char ids[IDS_MAX][40];

struct db *base_open(const struct approval_base *b)
{
	struct db *d = NULL;
	struct err e = {0};
	(void)db_open(&d, b->url, &e);
	assert_string_equal(e.text, "");
	return d;
}

int base_setup(void **state)
{
	struct approval_base *b = calloc(1, sizeof(*b));
	const char *postgres = getenv("CARREL_TEST_POSTGRES");
	assert_non_null(b);
	(void)snprintf(b->dir, sizeof(b->dir), "/tmp/carrel-test-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	if (postgres != NULL) {
		(void)snprintf(b->url, sizeof(b->url), "%s", postgres);
	} else {
		(void)snprintf(b->url, sizeof(b->url), "sqlite:%s/approvals.db", b->dir);
	}
	b->now_us = BASE_START_US;
	b->db = base_open(b);
	if (postgres != NULL) {
		assert_int_equal(
		    db_script(b->db,
			"SET client_min_messages = warning; DROP SCHEMA public CASCADE; "
			"CREATE SCHEMA public",
			&b->e),
		    0);
	}
	(void)records_migrate(b->db, &b->e);
	assert_string_equal(b->e.text, "");
	*state = b;
	return 0;
}

int base_teardown(void **state)
{
	struct approval_base *b = *state;
	static const char *const names[] = {"approvals.db", "approvals.db-wal", "approvals.db-shm"};
	char path[64];
	db_close(b->db);
	for (size_t i = 0; i < array_len(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", b->dir, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(b->dir), 0);
	free(b);
	return 0;
}

json_t *base_do(struct approval_base *b, records_fn op, json_t *in)
{
	json_t *out = NULL;
	b->e = (struct err){0};
	assert_non_null(in);
	assert_int_equal(db_begin(b->db, &b->e), 0);
	int r = op(b->db, in, &out, &b->e);
	json_decref(in);
	if (r < 0) {
		assert_null(out);
		db_rollback(b->db);
		return NULL;
	}
	assert_false(db_is_broken(b->db));
	assert_int_equal(db_commit(b->db, &b->e), 0);
	assert_non_null(out);
	return out;
}

void base_refuses(struct approval_base *b, records_fn op, json_t *in, enum err_code code)
{
	uint64_t before = db_changes(b->db);
	cleanup(json_decrefp) json_t *out = base_do(b, op, in);
	assert_null(out);
	if (b->e.code != code) {
		print_error("refused with %s\n", b->e.text);
	}
	assert_int_equal(b->e.code, code);
	assert_true(b->e.text[0] != '\0');
	assert_int_equal(db_changes(b->db), before);
}

bool base_sql(struct approval_base *b, const char *sql)
{
	b->e = (struct err){0};
	assert_int_equal(db_begin(b->db, &b->e), 0);
	if (db_script(b->db, sql, &b->e) < 0) {
		db_rollback(b->db);
		return false;
	}
	return db_commit(b->db, &b->e) == 0;
}

/* --- submitting --- */

static const char *next_id(struct approval_base *b)
{
	assert_true(b->made < IDS_MAX);
	char *id = ids[b->made];
	(void)snprintf(id, sizeof(ids[0]), "id-%04u", b->made++);
	return id;
}

json_t *base_submission(struct approval_base *b, const char *tenant, const char *policy)
{
	json_t *in = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:I}, s:I, s:I}", "id",
	    next_id(b), "tenant", tenant, "pool", "default", "kind", "code", "policy", policy,
	    "submitter", "alice", "code", "print('h\xc3\xa9')", "settings", "deadline_ms",
	    (json_int_t)BASE_DEADLINE_MS, "now_us", (json_int_t)b->now_us, "open_max",
	    (json_int_t)100000);
	assert_non_null(in);
	return in;
}

json_t *base_call(struct approval_base *b, const char *tenant)
{
	json_t *in = base_submission(b, tenant, "rules");
	json_t *more = json_pack("{s:s, s:{s:s, s:s, s:{s:s}}, s:s, s:I, s:s, s:s}", "kind", "call",
	    "call", "tool", "shell", "callable", "run", "arguments", "command", "ls", "owner",
	    "server-a", "lease_us", (json_int_t)(b->now_us + BASE_LEASE_US), "session", "s1",
	    "execution", "x1");
	assert_non_null(more);
	assert_int_equal(json_object_del(in, "code"), 0);
	assert_int_equal(json_object_update(in, more), 0);
	json_decref(more);
	return in;
}

const char *base_submit(struct approval_base *b, json_t *submission)
{
	const char *wanted = json_string_value(json_object_get(submission, "id"));
	char id[40];
	(void)snprintf(id, sizeof(id), "%s", wanted);
	cleanup(json_decrefp) json_t *out = base_do(b, records_submit, submission);
	assert_string_equal(b->e.text, "");
	assert_true(json_is_true(json_object_get(out, "created")));
	for (unsigned i = b->made; i > 0; i--) {
		if (strcmp(ids[i - 1], id) == 0) {
			return ids[i - 1];
		}
	}
	fail_msg("an id that is not the fixture's");
	return NULL;
}

const char *base_new(struct approval_base *b, const char *policy)
{
	return base_submit(b, base_submission(b, "t1", policy));
}

const char *base_member(struct approval_base *b, const char *id, const char *name)
{
	static char text[256];
	cleanup(json_decrefp) json_t *out = base_do(b, records_get, json_pack("{s:s}", "id", id));
	assert_non_null(out);
	const json_t *value = json_object_get(json_object_get(out, "approval"), name);
	assert_non_null(value);
	if (json_is_integer(value)) {
		(void)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
	} else {
		const char *said = json_string_value(value);
		(void)snprintf(text, sizeof(text), "%s", said != NULL ? said : "");
	}
	return text;
}

/* --- running --- */

json_t *base_claim(struct approval_base *b, const char *owner, const char *kind)
{
	cleanup(json_decrefp) json_t *out = base_do(b, records_claim,
	    json_pack("{s:s, s:I, s:I, s:i, s:s}", "owner", owner, "now_us", (json_int_t)b->now_us,
		"lease_us", (json_int_t)(b->now_us + BASE_LEASE_US), "limit", 1, "kind", kind));
	assert_string_equal(b->e.text, "");
	json_t *tasks = json_object_get(out, "tasks");
	return json_array_size(tasks) == 1 ? json_incref(json_array_get(tasks, 0)) : NULL;
}

json_t *base_finish(
    const struct approval_base *b, const char *id, const json_t *task, bool ok, const char *said)
{
	json_t *in = json_pack("{s:s, s:O, s:I, s:b, s:{s:s}, s:s?}", "id", id, "fence",
	    json_object_get(task, "fence"), "now_us", (json_int_t)b->now_us, "ok", (int)ok,
	    "result", "stdout", said, "reason", ok ? NULL : said);
	assert_non_null(in);
	return in;
}

void base_run(struct approval_base *b, const char *id, bool ok)
{
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "run");
	assert_non_null(task);
	const json_t *approval = json_object_get(task, "approval");
	assert_string_equal(json_string_value(json_object_get(approval, "id")), id);
	json_decref(base_do(b, records_finish_run, base_finish(b, id, task, ok, "h\xc3\xa9\n")));
	assert_string_equal(b->e.text, "");
}

/* --- deciding --- */

json_t *base_decision(const struct approval_base *b, const char *id, const char *tenant,
    const char *stage, bool approve)
{
	json_t *in = json_pack("{s:s, s:s?, s:s?, s:b, s:s, s:s, s:s, s:I, s:b}", "id", id,
	    "tenant", tenant, "stage", stage, "approve", (int)approve, "by", "bob", "person",
	    "Bob B.", "reason", "looks fine", "now_us", (json_int_t)b->now_us, "own", 1);
	assert_non_null(in);
	return in;
}

json_t *base_cancel(const struct approval_base *b, const char *id, const char *tenant)
{
	json_t *in = json_pack("{s:s, s:s?, s:s, s:n, s:I}", "id", id, "tenant", tenant, "by",
	    "alice", "reason", "now_us", (json_int_t)b->now_us);
	assert_non_null(in);
	return in;
}

size_t base_lapse(struct approval_base *b)
{
	cleanup(json_decrefp) json_t *out = base_do(b, records_lapse,
	    json_pack("{s:I, s:i}", "now_us", (json_int_t)b->now_us, "limit", 100));
	assert_string_equal(b->e.text, "");
	return json_array_size(json_object_get(out, "changed"));
}

/* --- looking --- */

const char *base_events(struct approval_base *b, const char *id)
{
	static char text[4096];
	size_t i, len = 0;
	const json_t *event;
	cleanup(json_decrefp) json_t *out = base_do(b, records_get, json_pack("{s:s}", "id", id));
	assert_non_null(out);
	text[0] = '\0';
	json_array_foreach(json_object_get(out, "events"), i, event)
	{
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s ",
		    json_string_value(json_object_get(event, "kind")));
		assert_true(len < sizeof(text));
		assert_int_equal(
		    json_integer_value(json_object_get(event, "seq")), (json_int_t)i + 1);
	}
	return text;
}

size_t base_wrong(struct approval_base *b)
{
	size_t wrong = 0;
	cleanup(json_decrefp) json_t *after = json_null();
	while (after != NULL) {
		cleanup(json_decrefp) json_t *out = base_do(
		    b, records_replay, json_pack("{s:O, s:i}", "after", after, "limit", 50));
		assert_string_equal(b->e.text, "");
		const json_t *found = json_object_get(out, "wrong");
		wrong += json_array_size(found);
		for (size_t i = 0; i < json_array_size(found); i++) {
			print_message("#   %s: %s\n",
			    json_string_value(json_object_get(json_array_get(found, i), "id")),
			    json_string_value(json_object_get(json_array_get(found, i), "reason")));
		}
		json_t *next = json_object_get(out, "next");
		json_decref(after);
		after = json_is_string(next) ? json_incref(next) : NULL;
	}
	return wrong;
}

/* What OP finds, page by page; each is printed. */
static size_t trail_wrong(struct approval_base *b, records_fn op, const char *at, json_int_t *upto)
{
	size_t i, wrong = 0;
	const json_t *one;
	cleanup(json_decrefp) json_t *next = json_null();
	while (next != NULL) {
		cleanup(json_decrefp) json_t *out = base_do(
		    b, op, json_pack("{s:O, s:i, s:I}", at, next, "limit", 7, "collected", *upto));
		assert_string_equal(b->e.text, "");
		*upto = json_integer_value(json_object_get(out, "collected"));
		json_array_foreach(json_object_get(out, "wrong"), i, one)
		{
			print_message("#   %s: %s\n", json_string_value(json_object_get(one, "id")),
			    json_string_value(json_object_get(one, "reason")));
			(void)snprintf(b->reason, sizeof(b->reason), "%s",
			    json_string_value(json_object_get(one, "reason")));
			wrong++;
		}
		json_t *then = json_object_get(out, "next");
		json_decref(next);
		next = json_is_null(then) ? NULL : json_incref(then);
	}
	return wrong;
}

size_t base_trail_wrong(struct approval_base *b)
{
	json_int_t collected = 0;
	b->reason[0] = '\0';
	assert_int_equal(trail_begin(b->db, &b->e), 0);
	size_t wrong = trail_wrong(b, trail_compare, "after", &collected);
	return wrong + trail_wrong(b, trail_missing, "at", &collected);
}

int64_t base_verify(struct approval_base *b)
{
	int64_t seq = 0;
	char hash[AUDIT_HASH_BYTES];
	struct err e = {0};
	size_t i, count;
	const json_t *record;
	(void)memset(hash, '0', sizeof(hash) - 1);
	hash[sizeof(hash) - 1] = '\0';
	assert_int_equal(base_wrong(b), 0);
	assert_int_equal(base_trail_wrong(b), 0);
	do {
		cleanup(json_decrefp) json_t *out = base_do(
		    b, audit_read, json_pack("{s:I, s:i}", "after", (json_int_t)seq, "limit", 100));
		assert_non_null(out);
		const json_t *records = json_object_get(out, "records");
		count = json_array_size(records);
		json_array_foreach(records, i, record)
		{
			(void)audit_check(record, &seq, hash, &e);
			assert_string_equal(e.text, "");
		}
	} while (count > 0);
	cleanup(json_decrefp) json_t *head = base_do(b, audit_head, json_object());
	assert_int_equal(json_integer_value(json_object_get(head, "seq")), seq);
	assert_string_equal(json_string_value(json_object_get(head, "hash")), hash);
	return seq;
}

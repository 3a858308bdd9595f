/*
 * fill URL COUNT PREFIX: makes COUNT approvals that wait for a person in the database of URL, by
 * the same changes as a server makes, many in one commit: PREFIX-0, PREFIX-1, … With PREFIX "code"
 * they wait with their code (policy before), with any other with their result (policy after).
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/records.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/text.h"

#define COUNT_MAX 10000000
#define BATCH 200
#define OWNER "fill"

struct fill {
	struct db *db;
	const char *prefix;
	bool runs;
};

/* One change; its answer. IN is taken. */
static json_t *change(struct fill *f, records_fn op, json_t *in, struct err *e)
{
	cleanup(json_decrefp) json_t *held = in;
	json_t *out = NULL;
	if (held == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	return op(f->db, held, &out, e) == 0 ? out : NULL;
}

static int submit(struct fill *f, uint64_t number, struct err *e)
{
	char id[64], code[128];
	(void)snprintf(id, sizeof(id), "%s-%llu", f->prefix, (unsigned long long)number);
	(void)snprintf(code, sizeof(code), "print('what a person is to look at', %llu)",
	    (unsigned long long)number);
	json_t *out = change(f, records_submit,
	    json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:I}, s:I, s:I}", "id", id, "tenant",
		"", "pool", "default", "kind", "code", "policy", f->runs ? "after" : "before",
		"submitter", "bench", "code", code, "settings", "deadline_ms", (json_int_t)86400000,
		"now_us", (json_int_t)clock_wall_us(), "open_max", (json_int_t)INT64_MAX),
	    e);
	json_decref(out);
	return out != NULL ? 0 : -1;
}

static int finish(struct fill *f, const json_t *task, struct err *e)
{
	json_t *out = change(f, records_finish_run,
	    json_pack("{s:O, s:O, s:I, s:b, s:{s:s, s:s, s:i}}", "id",
		json_object_get(json_object_get(task, "approval"), "id"), "fence",
		json_object_get(task, "fence"), "now_us", (json_int_t)clock_wall_us(), "ok", 1,
		"result", "status", "Succeeded", "stdout", "what a person is to look at\n", "value",
		2),
	    e);
	json_decref(out);
	return out != NULL ? 0 : -1;
}

/* What was submitted is run, as a server says it was. */
static int run(struct fill *f, struct err *e)
{
	size_t i;
	const json_t *task;
	json_int_t now_us = clock_wall_us();
	json_int_t lease_us = now_us + 60000000;
	cleanup(json_decrefp) json_t *out = change(f, records_claim,
	    json_pack("{s:s, s:I, s:I, s:i, s:s}", "owner", OWNER, "now_us", now_us, "lease_us",
		lease_us, "limit", BATCH, "kind", "run"),
	    e);
	if (out == NULL) {
		return -1;
	}
	json_array_foreach(json_object_get(out, "tasks"), i, task)
	{
		if (finish(f, task, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int fill(struct fill *f, uint64_t from, uint64_t until, struct err *e)
{
	if (db_begin(f->db, e) < 0) {
		return -1;
	}
	for (uint64_t i = from; i < until; i++) {
		if (submit(f, i, e) < 0) {
			return -1;
		}
	}
	return (f->runs && run(f, e) < 0) || db_commit(f->db, e) < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct fill f = {0};
	struct err e = {0};
	uint64_t count;
	if (argc != 4 || text_to_u64(argv[2], COUNT_MAX, &count) < 0 || strlen(argv[3]) > 32) {
		(void)fputs("use: fill URL COUNT PREFIX\n", stderr);
		return 2;
	}
	f.prefix = argv[3];
	f.runs = strcmp(f.prefix, "code") != 0;
	int r = db_open(&f.db, argv[1], &e) < 0 || records_migrate(f.db, &e) < 0 ? -1 : 0;
	for (uint64_t i = 0; r == 0 && i < count; i += BATCH) {
		r = fill(&f, i, i + BATCH < count ? i + BATCH : count, &e);
	}
	db_close(f.db);
	if (r < 0) {
		(void)fprintf(stderr, "fill: %s\n", e.text);
	}
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

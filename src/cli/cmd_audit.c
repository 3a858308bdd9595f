/* carrel audit: whether the trail of approvals is whole and the approvals are what it says, and all
 * of it as JSON lines. For the operator, on the server's machine: it opens the database itself, and
 * writes only what is its own there, a temporary table. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "approvals/audit.h"
#include "approvals/records.h"
#include "approvals/trail.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/config.h"
#include "cli/download.h"
#include "cli/options.h"
#include "cli/output.h"

#define PAGE 500
#define WRONG_SHOWN 20
#define WRONG_KEPT 10000

struct audit_command {
	const char *database;
	const char *config_file;
	const char *data_dir;
	const char *head;  /* SEQ:HASH, as somebody kept it */
	const char *after; /* SEQ */
	const char *file;
	struct output output;
	struct db *db;
};

/* --- the database --- */

/* db_open would make one. */
static int check_there(const char *url, struct err *e)
{
	static const char sqlite[] = "sqlite:";
	if (!text_has_prefix(url, sqlite)) {
		return 0;
	}
	const char *path = url + sizeof(sqlite) - 1;
	return access(path, F_OK) == 0
		   ? 0
		   : err_set(e, ERR_UNAVAILABLE, "there is no database at %s", path);
}

static int open_url(struct audit_command *c, const char *url, struct err *e)
{
	return check_there(url, e) < 0 || db_open(&c->db, url, e) < 0
		   ? -1
		   : records_check_version(c->db, e);
}

/* The one that is named, else the server's own. */
static int open_database(struct audit_command *c, struct err *e)
{
	if (c->database != NULL) {
		return open_url(c, c->database, e);
	}
	struct config config = {0};
	const struct config_flags flags = {.config_file = c->config_file, .data_dir = c->data_dir};
	if (config_load(&config, &flags, e) < 0) {
		return -1;
	}
	int r = open_url(c, config.approvals.url, e);
	config_forget_secrets(&config);
	config_forget_tokens(&config);
	config_fini(&config);
	return r;
}

/* One question, of one state of the database. IN is taken. */
static json_t *ask(struct audit_command *c, records_fn op, json_t *in, struct err *e)
{
	cleanup(json_decrefp) json_t *held = in;
	json_t *out = NULL;
	if (held == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	if (db_snapshot(c->db, e) < 0) {
		return NULL;
	}
	/* What was collected of the trail stays (trail.h). */
	if (op(c->db, held, &out, e) < 0 || db_commit(c->db, e) < 0) {
		db_rollback(c->db);
		json_decref(steal(&out));
	}
	return out;
}

/* --- verify --- */

struct chain {
	int64_t seq;
	char hash[AUDIT_HASH_BYTES];
	/* What somebody kept; seq -1: nothing. */
	int64_t kept_seq;
	const char *kept_hash;
	json_int_t collected; /* trail.h */
};

static int chain_init(struct chain *h, const char *head, struct err *e)
{
	char number[24];
	uint64_t seq = 0;
	*h = (struct chain){.kept_seq = -1};
	memset(h->hash, '0', sizeof(h->hash) - 1);
	if (head == NULL) {
		return 0;
	}
	const char *colon = strchr(head, ':');
	size_t len = colon != NULL ? (size_t)(colon - head) : sizeof(number);
	if (len < sizeof(number)) {
		memcpy(number, head, len);
		number[len] = '\0';
	}
	if (len >= sizeof(number) || text_to_u64(number, INT64_MAX, &seq) < 0 ||
	    !text_is_hex(colon + 1, AUDIT_HASH_BYTES - 1)) {
		return err_set(e, ERR_INVALID, "option --head takes SEQ:HASH, not '%s'", head);
	}
	h->kept_seq = (int64_t)seq;
	h->kept_hash = colon + 1;
	return 0;
}

static int check_kept(const struct chain *h, struct err *e)
{
	if (h->seq != h->kept_seq || strcmp(h->hash, h->kept_hash) == 0) {
		return 0;
	}
	return err_set(
	    e, ERR_INVALID, "record %lld: it is not the one that was kept", (long long)h->seq);
}

/* The page past the chain's end, which is collected, and what the database says is the end, from
 * one state of it. */
static int read_page(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	cleanup(json_decrefp) json_t *page = NULL;
	cleanup(json_decrefp) json_t *head = NULL;
	cleanup(json_decrefp) json_t *upto = NULL;
	cleanup(json_decrefp) json_t *collected = NULL;
	if (audit_read(d, in, &page, e) < 0 || audit_head(d, in, &head, e) < 0) {
		return -1;
	}
	const json_t *records = json_object_get(page, "records");
	const json_t *last = json_array_get(records, json_array_size(records) - 1);
	upto = json_pack("{s:O, s:O}", "collected", json_object_get(in, "collected"), "upto",
	    json_object_get(last != NULL ? last : in, last != NULL ? "seq" : "collected"));
	if (trail_collect(d, upto, &collected, e) < 0) {
		return -1;
	}
	(void)json_object_set(page, "head", head);
	(void)json_object_update(page, collected);
	*out = steal(&page);
	return 0;
}

static int check_end(const struct chain *h, const json_t *head, struct err *e)
{
	json_int_t seq = json_integer_value(json_object_get(head, "seq"));
	const char *hash = json_string_value(json_object_get(head, "hash"));
	if (seq != h->seq || hash == NULL || strcmp(hash, h->hash) != 0) {
		return err_set(e, ERR_INVALID,
		    "record %lld: the trail ends here, and should end with record %lld",
		    (long long)h->seq, (long long)seq);
	}
	if (h->kept_seq > h->seq) {
		return err_set(e, ERR_INVALID,
		    "record %lld: the trail ends here, and once had record %lld", (long long)h->seq,
		    (long long)h->kept_seq);
	}
	return 0;
}

/* 0, or -1 with E: ERR_INVALID when the chain is wrong. */
static int walk(struct audit_command *c, struct chain *h, struct err *e)
{
	if (check_kept(h, e) < 0) {
		return -1;
	}
	for (;;) {
		size_t i;
		const json_t *record;
		cleanup(json_decrefp) json_t *page = ask(c, read_page,
		    json_pack("{s:I, s:i, s:I}", "after", (json_int_t)h->seq, "limit", PAGE,
			"collected", h->collected),
		    e);
		if (page == NULL) {
			return -1;
		}
		h->collected = json_integer_value(json_object_get(page, "collected"));
		const json_t *records = json_object_get(page, "records");
		if (json_array_size(records) == 0) {
			return check_end(h, json_object_get(page, "head"), e);
		}
		json_array_foreach(records, i, record)
		{
			if (audit_check(record, &h->seq, h->hash, e) < 0 || check_kept(h, e) < 0) {
				return -1;
			}
		}
	}
}

/* What was found: the first of it, and how much it is. */
struct found {
	json_t *wrong;
	size_t count;
	json_int_t checked;
};

static void keep_found(struct found *f, const json_t *page)
{
	size_t i;
	json_t *one;
	f->checked += json_integer_value(json_object_get(page, "checked"));
	json_array_foreach(json_object_get(page, "wrong"), i, one)
	{
		f->count++;
		if (json_array_size(f->wrong) < WRONG_KEPT) {
			(void)json_array_append(f->wrong, one);
		}
	}
}

/* Page by page, from AT on (its name in OP's argument), until there is no next. */
static int ask_all(struct audit_command *c, records_fn op, const char *at, struct chain *h,
    struct found *f, struct err *e)
{
	cleanup(json_decrefp) json_t *next = json_null();
	while (next != NULL) {
		cleanup(json_decrefp) json_t *page = ask(c, op,
		    json_pack("{s:O, s:i, s:I}", at, next, "limit", RECORDS_PAGE_MAX, "collected",
			h->collected),
		    e);
		if (page == NULL) {
			return -1;
		}
		keep_found(f, page);
		const json_t *collected = json_object_get(page, "collected");
		h->collected = collected != NULL ? json_integer_value(collected) : h->collected;
		json_t *then = json_object_get(page, "next");
		json_decref(next);
		next = then != NULL && !json_is_null(then) ? json_incref(then) : NULL;
	}
	return 0;
}

/* Every approval against its events, these against the trail, and the trail against what is there.
 * Its end comes last: the server may have written what only then is looked at. */
static int compare(struct audit_command *c, struct chain *h, struct found *f, struct err *e)
{
	return ask_all(c, records_replay, "after", h, f, e) < 0 ||
		       ask_all(c, trail_compare, "after", h, f, e) < 0 ||
		       ask_all(c, trail_missing, "at", h, f, e) < 0 || walk(c, h, e) < 0
		   ? -1
		   : 0;
}

static void show_wrong(struct output *o, const struct found *f)
{
	size_t i;
	const json_t *one;
	json_array_foreach(f->wrong, i, one)
	{
		if (i == WRONG_SHOWN) {
			output_note(o, "and %zu more", f->count - i);
			return;
		}
		output_note(o, "approval %s: %s", json_string_value(json_object_get(one, "id")),
		    json_string_value(json_object_get(one, "reason")));
	}
}

/* What is wrong with the data is the trail's fault, exit status 1, not a wrong use. */
static int fail(struct audit_command *c, struct err *e)
{
	if (e->code == ERR_INVALID) {
		e->code = ERR_INTERNAL;
	}
	return output_failure(&c->output, NULL, e);
}

static int tell(
    struct audit_command *c, const struct chain *h, const struct found *f, struct err *e)
{
	show_wrong(&c->output, f);
	if (c->output.json) {
		cleanup(json_decrefp) json_t *document = json_pack(
		    "{s:I, s:{s:I, s:s}, s:I, s:O, s:I}", "records", (json_int_t)h->seq, "head",
		    "seq", (json_int_t)h->seq, "hash", h->hash, "approvals", f->checked, "wrong",
		    f->wrong, "wrong_count", (json_int_t)f->count);
		return output_json(&c->output, document, e);
	}
	return f->count > 0 ? 0
			    : output_linef(&c->output, "%lld records, head %lld:%s",
				  (long long)h->seq, (long long)h->seq, h->hash);
}

static int verify(struct audit_command *c, struct err *e)
{
	struct chain h;
	cleanup(json_decrefp) json_t *wrong = json_array();
	struct found f = {.wrong = wrong};
	if (chain_init(&h, c->head, e) < 0) {
		return command_usage_error("audit", e);
	}
	if (trail_begin(c->db, e) < 0 || walk(c, &h, e) < 0 || compare(c, &h, &f, e) < 0) {
		return fail(c, e);
	}
	return tell(c, &h, &f, e) < 0 || f.count > 0 ? CLI_EXIT_USER : CLI_EXIT_OK;
}

/* --- export --- */

/* As it is hashed (audit.h), with its own hash: whoever has the lines can check them. */
static int write_record(
    struct audit_command *c, const struct download *d, const json_t *record, struct err *e)
{
	cleanup(text_free) char *line = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
	if (line == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (d->to_stdout) {
		return output_bytes(&c->output, STDOUT_FILENO, line, strlen(line), e) < 0
			   ? -1
			   : output_bytes(&c->output, STDOUT_FILENO, "\n", 1, e);
	}
	int r = fd_write_all(d->fd, line, strlen(line));
	r = r == 0 ? fd_write_all(d->fd, "\n", 1) : r;
	return r == 0 ? 0 : err_set_os(e, -r, "%s", c->file);
}

static int write_all(
    struct audit_command *c, const struct download *d, int64_t after, struct err *e)
{
	for (;;) {
		size_t i;
		const json_t *record;
		cleanup(json_decrefp) json_t *page = ask(c, audit_read,
		    json_pack("{s:I, s:i}", "after", (json_int_t)after, "limit", PAGE), e);
		const json_t *records = json_object_get(page, "records");
		if (page == NULL || json_array_size(records) == 0) {
			return page == NULL ? -1 : 0;
		}
		json_array_foreach(records, i, record)
		{
			if (write_record(c, d, record, e) < 0) {
				return -1;
			}
			after = json_integer_value(json_object_get(record, "seq"));
		}
	}
}

static int export_records(struct audit_command *c, struct err *e)
{
	uint64_t after = 0;
	if (c->after != NULL && options_number("after", c->after, 0, INT64_MAX, &after, e) < 0) {
		return command_usage_error("audit", e);
	}
	struct download d = DOWNLOAD_NONE;
	int r = download_open(&d, c->file != NULL ? c->file : "-", e);
	r = r < 0 ? r : write_all(c, &d, (int64_t)after, e);
	r = r < 0 ? r : download_commit(&d, e);
	download_fini(&d);
	return r < 0 ? fail(c, e) : CLI_EXIT_OK;
}

/* --- the command --- */

int cmd_audit(int argc, char **argv)
{
	struct options shared;
	struct err e = {0};
	struct audit_command c = {0};
	const struct option_entry own[] = {
	    {.name = "database", .text = &c.database},
	    {.name = "config", .letter = 'c', .text = &c.config_file},
	    {.name = "data-dir", .text = &c.data_dir},
	    {.name = "head", .text = &c.head},
	    {.name = "after", .text = &c.after},
	    {.name = "output-file", .letter = 'O', .text = &c.file},
	};
	int first = options_parse(&shared, argc, argv, own, array_len(own), &e);
	if (first < 0) {
		return command_usage_error("audit", &e);
	}
	const char *verb = first < argc ? argv[first] : "";
	bool verifies = strcmp(verb, "verify") == 0;
	if ((!verifies && strcmp(verb, "export") != 0) || argc - first != 1) {
		(void)err_set(&e, ERR_INVALID, "use: verify or export");
		return command_usage_error("audit", &e);
	}
	if (verifies ? c.after != NULL || c.file != NULL : c.head != NULL) {
		(void)err_set(
		    &e, ERR_INVALID, "--head is verify's; --after and --output-file are export's");
		return command_usage_error("audit", &e);
	}
	output_init(&c.output, shared.json);
	int status = CLI_EXIT_USAGE;
	if (open_database(&c, &e) < 0) {
		status = output_failure(&c.output, NULL, &e);
	} else {
		status = verifies ? verify(&c, &e) : export_records(&c, &e);
	}
	db_close(c.db);
	return status;
}

#include "api/aca_list.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/aca_entry.h"
#include "base/fd.h"

/* The next entry to show: 1, 0 at the end, -EAGAIN. */
static int next_shown(struct files_walk *walk, const struct aca_list_request *r, unsigned *budget,
    struct files_entry *f)
{
	int got;
	do {
		got = files_walk_next(walk, budget, f);
	} while (got == 1 && r->old && f->is_directory);
	return got;
}

/* --- small directories: sorted -------------------------------------------------------------------
 */

struct row {
	char *key;
	json_t *entry;
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

static char *key_of(const struct files_entry *f)
{
	size_t len = strlen(f->directory) + strlen(f->name) + 2;
	char *key = malloc(len);
	if (key != NULL) {
		(void)snprintf(
		    key, len, "%s%s%s", f->directory, f->directory[0] != '\0' ? "/" : "", f->name);
	}
	return key;
}

/* Fills ROWS in one step. False when it is too much for one; what is in *COUNT rows is to be freed
 * all the same. */
static bool collect(
    struct files_walk *walk, const struct aca_list_request *r, struct row *rows, unsigned *count)
{
	unsigned budget = ACA_LIST_STEP;
	unsigned id = 2;
	int got;
	struct files_entry f;
	while ((got = next_shown(walk, r, &budget, &f)) == 1) {
		char *key = key_of(&f);
		if (key == NULL) {
			return false;
		}
		rows[*count].key = key;
		rows[*count].entry = r->old ? aca_entry_old(&f, &id) : aca_entry_new(&f);
		++*count;
	}
	return got == 0;
}

/* The sorted rows as JSON, or NULL when the directory is too much for one step. */
static json_t *sorted(struct files_walk *walk, const struct aca_list_request *r)
{
	struct row *rows = calloc(ACA_LIST_STEP, sizeof(*rows));
	if (rows == NULL) {
		return NULL;
	}
	unsigned count = 0;
	bool all = collect(walk, r, rows, &count);
	json_t *value = json_array();
	qsort(rows, count, sizeof(*rows), compare);
	for (unsigned i = 0; i < count; i++) {
		if (i >= r->skip) {
			(void)json_array_append(value, rows[i].entry);
		}
		json_decref(rows[i].entry);
		free(rows[i].key);
	}
	free(rows);
	if (!all) {
		json_decref(value);
		return NULL;
	}
	return value;
}

/* --- large ones: streamed
 * ------------------------------------------------------------------------- */

/* A listing on its way. While its job is with a thread nothing else here is touched. */
struct listing {
	struct call_source source;
	struct engine_job job;
	struct call *call; /* until it is answered; NULL: the client has left */
	struct files_walk walk;
	struct aca_list_request request;
	json_t *next_link; /* for the end; made while the call was at hand */
	json_t *value;     /* of a small one */
	uint64_t seen;
	uint64_t shown;
	unsigned id;
	bool opened, ended;
	bool working;
	bool closed; /* after the answer: nobody reads on */
	bool broken;
	struct err e;
	struct buf out; /* made, not yet sent */
	size_t out_at;
};

static void add_json(struct buf *out, json_t *j)
{
	char *text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(j);
	(void)buf_add_str(out, text == NULL ? "null" : text);
	free(text);
}

static void finish(struct listing *l, bool more)
{
	(void)buf_add_str(&l->out, "]");
	if (more) {
		(void)buf_add_str(&l->out, ",\"nextLink\":");
		add_json(&l->out, json_deep_copy(l->next_link));
	}
	(void)buf_add_str(&l->out, "}");
	l->ended = true;
}

/* One step: something is in OUT afterwards, unless the listing has ended. */
static void step(struct listing *l)
{
	unsigned budget = ACA_LIST_STEP / 4;
	struct files_entry f;
	int got;
	while ((got = next_shown(&l->walk, &l->request, &budget, &f)) == 1) {
		if (l->seen++ < l->request.skip) {
			continue;
		}
		if (l->shown == ACA_LIST_PAGE) {
			finish(l, true);
			return;
		}
		if (l->shown++ > 0) {
			(void)buf_add_str(&l->out, ",");
		}
		add_json(&l->out, l->request.old ? aca_entry_old(&f, &l->id) : aca_entry_new(&f));
	}
	if (got == 0) {
		finish(l, false);
	} else if (l->out.len == 0) {
		/* Looked at many and found none to show: white space keeps the answer going. */
		(void)buf_add_str(&l->out, "\n");
	}
}

static int open_walk(struct listing *l)
{
	const struct aca_list_request *r = &l->request;
	return files_walk_init(&l->walk, r->hold.dir_fd, &r->path, r->recursive, &l->e);
}

/* All of a small directory, or the beginning of a large one. */
static void open_run(struct engine_job *job)
{
	struct listing *l = container_of(job, struct listing, job);
	if (open_walk(l) < 0) {
		return;
	}
	l->value = sorted(&l->walk, &l->request);
	files_walk_fini(&l->walk);
	l->opened = l->value != NULL || open_walk(l) == 0;
}

static void step_run(struct engine_job *job)
{
	step(container_of(job, struct listing, job));
}

static void close_run(struct engine_job *job)
{
	files_walk_fini(&container_of(job, struct listing, job)->walk);
}

static void close_done(struct engine_job *job, bool ran)
{
	struct listing *l = container_of(job, struct listing, job);
	(void)ran;
	files_walk_fini(&l->walk);
	aca_hold_release(&l->request.hold);
	json_decref(l->next_link);
	json_decref(l->value);
	buf_fini(&l->out);
	free(l);
}

static void work(struct listing *l, void (*run)(struct engine_job *job),
    void (*done)(struct engine_job *job, bool ran))
{
	l->job = (struct engine_job){.run = run, .done = done};
	l->working = true;
	aca_hold_work(&l->request.hold, &l->job);
}

static void listing_free(struct listing *l)
{
	work(l, close_run, close_done);
}

static void step_done(struct engine_job *job, bool ran)
{
	struct listing *l = container_of(job, struct listing, job);
	l->working = false;
	l->broken = !ran;
	if (l->closed) {
		listing_free(l);
	} else {
		call_wake(l->source.call);
	}
}

static ssize_t list_read(struct call_source *source, char *out, size_t max)
{
	struct listing *l = container_of(source, struct listing, source);
	if (l->working) {
		return 0;
	}
	if (l->out_at == l->out.len) {
		if (l->ended || l->broken) {
			return l->ended ? -1 : CALL_SOURCE_BROKEN;
		}
		buf_clear(&l->out);
		l->out_at = 0;
		work(l, step_run, step_done);
		return 0;
	}
	size_t len = l->out.len - l->out_at;
	if (len > max) {
		len = max;
	}
	memcpy(out, l->out.data + l->out_at, len);
	l->out_at += len;
	return (ssize_t)len;
}

static void list_close(struct call_source *source)
{
	struct listing *l = container_of(source, struct listing, source);
	l->closed = true;
	if (!l->working) {
		listing_free(l);
	}
}

/* --- the answer ----------------------------------------------------------------------------------
 */

static json_t *next_link(struct call *c, const struct aca_list_request *r)
{
	cleanup(buf_fini) struct buf extra = BUF_INIT(64U << 10);
	(void)buf_add_str(&extra, "&path=");
	(void)aca_add_encoded(&extra, r->path.text, false);
	(void)buf_addf(&extra, "&recursive=%s&skip=%" PRIu64, r->recursive ? "true" : "false",
	    r->skip + ACA_LIST_PAGE);
	return aca_link(c, r->hold.identifier, buf_str(&extra));
}

static void reply_streamed(struct listing *l, struct call *c)
{
	l->source = (struct call_source){.read = list_read, .close = list_close, .call = c};
	(void)buf_add_str(&l->out, l->request.old ? "{\"$id\":\"1\",\"value\":[" : "{\"value\":[");
	call_reply_source(c, 200, "application/json; charset=utf-8", &l->source);
}

static void fail(struct call *c, const struct err *e)
{
	struct aca_problem p;
	(void)aca_problem_err(&p, e, "path");
	aca_fail(c, &p);
}

static void open_done(struct engine_job *job, bool ran)
{
	struct listing *l = container_of(job, struct listing, job);
	struct call *c = l->call;
	l->working = false;
	if (!ran) {
		aca_hold_gone(&l->e);
	}
	if (c != NULL) {
		c->ctx = NULL;
		c->gone = NULL;
	}
	if (c != NULL && l->opened && l->value == NULL) {
		reply_streamed(l, c);
		return;
	}
	if (c != NULL && l->opened) {
		json_t *value = steal(&l->value);
		call_reply_json(c, 200,
		    l->request.old ? aca_entries_old(value) : json_pack("{s:o}", "value", value));
	} else if (c != NULL) {
		fail(c, &l->e);
	}
	listing_free(l);
}

static void on_gone(struct call *c)
{
	struct listing *l = c->ctx;
	l->call = NULL;
	engine_work_cancel(l->request.hold.engine, &l->job);
}

void aca_list_reply(struct call *c, const struct aca_list_request *r)
{
	struct listing *l = calloc(1, sizeof(*l));
	if (l == NULL) {
		struct err e;
		struct aca_hold hold = r->hold;
		aca_hold_release(&hold);
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		fail(c, &e);
		return;
	}
	l->call = c;
	l->request = *r;
	l->next_link = next_link(c, r);
	l->id = 2;
	/* A step's entries: names and directories of the longest kind, escaped. */
	l->out = BUF_INIT((size_t)ACA_LIST_STEP * 8 * FILES_PATH_MAX);
	c->ctx = l;
	c->gone = on_gone;
	work(l, open_run, open_done);
}

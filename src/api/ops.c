#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/aca.h"
#include "approvals/approvals.h"
#include "base/clock.h"
#include "codemode/codemode.h"

#define HEALTH_MAX_BYTES 256
#define METRICS_MAX_BYTES (8U << 20) /* above what IPC_POOLS_MAX pools print */

/* A cell can run once the keeper has its image, whose Python's version it then tells. */
static const char *state_of(const struct api *api, const char *running)
{
	if (api->engine->draining) {
		return "draining";
	}
	return *api->python_version == '\0' ? "starting" : running;
}

static void say(struct call *c, int status, const char *word)
{
	const struct api *api = c->app;
	uint64_t up_ms = (clock_mono_us() - api->started_us) / 1000;
	struct buf body = BUF_INIT(HEALTH_MAX_BYTES);
	(void)buf_addf(&body, "{\"message\":\"%s\",\"status\":\"%s\",\"uptime_seconds\":%.3f}",
	    word, word, (double)up_ms / 1000);
	call_reply(c, status, "application/json; charset=utf-8", &body);
	buf_fini(&body);
}

/* Whether the process is alive. Azure's own container answers with the message, py-code-mode's with
 * status and uptime. A server that starts is alive: a liveness probe must not end it. How many
 * sessions there are is nobody's business who has no token. */
void ops_health(struct call *c)
{
	const struct api *api = c->app;
	say(c, api->engine->draining ? 503 : 200, state_of(api, "healthy"));
}

/* Whether to send requests here: not before a cell can run, and to none that is stopping. */
void ops_ready(struct call *c)
{
	const char *word = state_of(c->app, "ready");
	bool ready = strcmp(word, "ready") == 0;
	if (!ready) {
		call_set_header(c, "Retry-After", "1");
	}
	say(c, ready ? 200 : 503, word);
}

/* --- Prometheus text, version 0.0.4 -------------------------------------------------------------
 */

/* The pools that the caller may see. */
struct view {
	const struct pool *pools;
	uint32_t count;
};

static uint64_t ready(const struct pool *p)
{
	return p->ready_count;
}

static uint64_t executing(const struct pool *p)
{
	return p->executing_count;
}

static uint64_t pending(const struct pool *p)
{
	return p->pending_count;
}

static uint64_t sessions(const struct pool *p)
{
	return p->session_count;
}

static uint64_t sessions_max(const struct pool *p)
{
	return p->config.max_sessions;
}

static uint64_t sessions_created(const struct pool *p)
{
	return p->metrics.sessions_created;
}

static uint64_t sessions_lost(const struct pool *p)
{
	return p->metrics.sessions_lost;
}

static uint64_t sessions_refused(const struct pool *p)
{
	return p->metrics.sessions_refused;
}

static uint64_t workers_started(const struct pool *p)
{
	return p->metrics.workers_started;
}

static uint64_t workers_failed(const struct pool *p)
{
	return p->metrics.workers_failed;
}

static uint64_t memory_peak(const struct pool *p)
{
	return p->metrics.memory_peak_bytes;
}

static uint64_t uploads(const struct pool *p)
{
	return p->metrics.uploads;
}

static uint64_t upload_bytes(const struct pool *p)
{
	return p->metrics.upload_bytes;
}

static uint64_t downloads(const struct pool *p)
{
	return p->metrics.downloads;
}

static uint64_t download_bytes(const struct pool *p)
{
	return p->metrics.download_bytes;
}

/* One number a pool each. */
static const struct {
	const char *name;
	const char *type;
	const char *help;
	uint64_t (*value)(const struct pool *p);
} plain[] = {
    {"carrel_pool_ready_sessions", "gauge",
	"Workers that wait for an identifier (Azure: PoolReadyPodCount).", ready},
    {"carrel_pool_executing_sessions", "gauge",
	"Sessions that run code now (Azure: PoolExecutingPodCount).", executing},
    {"carrel_pool_pending_sessions", "gauge",
	"Sessions that wait for a worker (Azure: PoolPendingPodCount).", pending},
    {"carrel_pool_sessions", "gauge", "Sessions, whatever they do.", sessions},
    {"carrel_pool_max_sessions", "gauge", "The limit on sessions.", sessions_max},
    {"carrel_sessions_created_total", "counter", "Sessions made for an identifier.",
	sessions_created},
    {"carrel_sessions_lost_total", "counter", "Sessions that ended by a crash, an exit or a limit.",
	sessions_lost},
    {"carrel_sessions_refused_total", "counter", "Requests refused because the pool was full.",
	sessions_refused},
    {"carrel_workers_started_total", "counter", "Workers forked.", workers_started},
    {"carrel_workers_failed_total", "counter", "Workers that never became ready.", workers_failed},
    {"carrel_session_memory_peak_bytes", "gauge", "Largest memory seen of a session that ended.",
	memory_peak},
    {"carrel_uploads_total", "counter", "Files uploaded.", uploads},
    {"carrel_upload_bytes_total", "counter", "Bytes of files uploaded.", upload_bytes},
    {"carrel_downloads_total", "counter", "Files downloaded.", downloads},
    {"carrel_download_bytes_total", "counter", "Bytes of files downloaded.", download_bytes},
};

static void add_head(struct buf *b, const char *name, const char *type, const char *help)
{
	(void)buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* NAME{pool="…" — the caller goes on with more labels or closes. */
static void add_name(struct buf *b, const char *name, const char *suffix, const struct pool *p)
{
	(void)buf_addf(b, "%s%s{pool=\"", name, suffix);
	for (const char *c = p->config.name; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\') {
			(void)buf_add_char(b, '\\');
		}
		(void)buf_add_char(b, *c == '\n' ? ' ' : *c);
	}
	(void)buf_add_char(b, '"');
}

static void add_plain(struct buf *b, const struct view *v, size_t which)
{
	add_head(b, plain[which].name, plain[which].type, plain[which].help);
	for (uint32_t i = 0; i < v->count; i++) {
		add_name(b, plain[which].name, "", &v->pools[i]);
		(void)buf_addf(b, "} %" PRIu64 "\n", plain[which].value(&v->pools[i]));
	}
}

static void add_executions(struct buf *b, const struct view *v)
{
	static const char name[] = "carrel_executions_total";
	add_head(b, name, "counter", "Executions that ended, by verdict.");
	for (uint32_t i = 0; i < v->count; i++) {
		for (enum verdict how = VERDICT_NONE + 1; how < VERDICT_COUNT; how++) {
			add_name(b, name, "", &v->pools[i]);
			(void)buf_addf(b, ",verdict=\"%s\"} %" PRIu64 "\n", verdict_name(how),
			    v->pools[i].metrics.executions[how]);
		}
	}
}

/* Those that happened: a line for each method and outcome would be mostly zeros. */
static void add_host_calls(struct buf *b, const struct view *v)
{
	static const char name[] = "carrel_host_calls_total";
	add_head(b, name, "counter", "What sessions asked of the server, by method and outcome.");
	for (uint32_t i = 0; i < v->count; i++) {
		for (size_t m = 0; m < METRICS_HOST_METHODS; m++) {
			for (enum host_outcome o = 0; o < HOST_OUTCOME_COUNT; o++) {
				uint64_t count = v->pools[i].metrics.host_calls[m][o];
				if (count == 0) {
					continue;
				}
				add_name(b, name, "", &v->pools[i]);
				(void)buf_addf(b, ",method=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
				    metrics_host_methods[m], host_outcome_name(o), count);
			}
		}
	}
}

/* Of the pool, or with P NULL of the server. */
static void add_bucket(
    struct buf *b, const char *name, const struct pool *p, const char *bound, uint64_t count)
{
	if (p != NULL) {
		add_name(b, name, "_bucket", p);
	} else {
		(void)buf_addf(b, "%s_bucket{", name);
	}
	(void)buf_addf(b, "%sle=\"%s\"} %" PRIu64 "\n", p != NULL ? "," : "", bound, count);
}

static void add_total(
    struct buf *b, const char *name, const char *suffix, const struct pool *p, const char *total)
{
	if (p != NULL) {
		add_name(b, name, suffix, p);
		(void)buf_addf(b, "} %s\n", total);
	} else {
		(void)buf_addf(b, "%s%s %s\n", name, suffix, total);
	}
}

static void add_histogram(
    struct buf *b, const char *name, const struct pool *p, const struct histogram *h)
{
	char text[32];
	uint64_t below = 0;
	for (size_t i = 0; i < METRICS_BUCKETS; i++) {
		below += h->buckets[i];
		(void)snprintf(text, sizeof(text), "%g", (double)metrics_bounds_us[i] / 1e6);
		add_bucket(b, name, p, text, below);
	}
	add_bucket(b, name, p, "+Inf", h->count);
	(void)snprintf(text, sizeof(text), "%.6f", (double)h->sum_us / 1e6);
	add_total(b, name, "_sum", p, text);
	(void)snprintf(text, sizeof(text), "%" PRIu64, h->count);
	add_total(b, name, "_count", p, text);
}

static void add_histograms(struct buf *b, const struct view *v)
{
	static const char create[] = "carrel_session_create_seconds";
	static const char execute[] = "carrel_execution_seconds";
	static const char host_call[] = "carrel_host_call_seconds";
	add_head(b, create, "histogram", "From an identifier's first request to its worker.");
	for (uint32_t i = 0; i < v->count; i++) {
		add_histogram(b, create, &v->pools[i], &v->pools[i].metrics.create);
	}
	add_head(b, execute, "histogram", "From an execution's request to its end.");
	for (uint32_t i = 0; i < v->count; i++) {
		add_histogram(b, execute, &v->pools[i], &v->pools[i].metrics.execute);
	}
	add_head(b, host_call, "histogram", "From a host call to its answer.");
	for (uint32_t i = 0; i < v->count; i++) {
		add_histogram(b, host_call, &v->pools[i], &v->pools[i].metrics.host_call);
	}
}

static void add_turns(struct buf *b, const struct engine *en)
{
	static const char turn[] = "carrel_loop_turn_seconds";
	add_head(b, turn, "histogram",
	    "Turns of the server's loop: how long each kept everybody else waiting.");
	add_histogram(b, turn, NULL, &en->turn);
}

static void add_codemode_count(void *ctx, const char *method, const char *outcome, uint64_t count)
{
	if (count > 0) {
		(void)buf_addf(ctx,
		    "carrel_codemode_calls_total{method=\"%s\",outcome=\"%s\"} %" PRIu64 "\n",
		    method, outcome, count);
	}
}

/* --- approvals ----------------------------------------------------------------------------------
 */

static void add_number(
    struct buf *b, const char *name, const char *type, const char *help, uint64_t value)
{
	add_head(b, name, type, help);
	(void)buf_addf(b, "%s %" PRIu64 "\n", name, value);
}

static void add_approvals(struct buf *b, const struct approvals *a)
{
	static const char open[] = "carrel_approvals";
	static const char decided[] = "carrel_approvals_decided_total";
	static const char callbacks[] = "carrel_approval_callbacks_total";
	struct approvals_counts n = {0};
	approvals_counts(a, &n);
	add_number(b, "carrel_approvals_submitted_total", "counter", "Approvals submitted here.",
	    n.submitted);
	add_head(
	    b, open, "gauge", "Approvals that are not final, in the database that servers share.");
	(void)buf_addf(b,
	    "%s{state=\"queued\"} %" PRIu64 "\n%s{state=\"running\"} %" PRIu64
	    "\n%s{state=\"waiting\"} %" PRIu64 "\n",
	    open, n.open_queued, open, n.open_running, open, n.open_waiting);
	add_head(b, decided, "counter", "Decisions of people taken here.");
	(void)buf_addf(b,
	    "%s{decision=\"approved\"} %" PRIu64 "\n%s{decision=\"rejected\"} %" PRIu64 "\n",
	    decided, n.decided_approved, decided, n.decided_rejected);
	add_number(b, "carrel_approval_runs_total", "counter", "Runs of submitted code.", n.runs);
	add_number(b, "carrel_approval_runs_interrupted_total", "counter",
	    "Runs that another server, or this one before it ended, had begun.",
	    n.runs_interrupted);
	add_number(b, "carrel_approval_runs", "gauge", "Runs in progress.", n.running);
	add_number(b, "carrel_approval_parked_calls", "gauge",
	    "Calls of sessions that wait for a person.", n.parked);
	add_head(b, callbacks, "counter", "Callbacks, by what became of them.");
	(void)buf_addf(b,
	    "%s{outcome=\"delivered\"} %" PRIu64 "\n%s{outcome=\"failed\"} %" PRIu64 "\n",
	    callbacks, n.callbacks_delivered, callbacks, n.callbacks_failed);
	add_number(b, "carrel_approval_commits_total", "counter",
	    "Transactions committed to the database of approvals.", n.commits);
	add_number(b, "carrel_approval_changes_total", "counter", "Changes in these transactions.",
	    n.changes);
}

/* A token that is bound to a pool sees that one; its name was checked with the token's. */
static struct view view_of(const struct call *c)
{
	const struct engine *en = ((const struct api *)c->app)->engine;
	const char *only = c->principal->pool;
	for (uint32_t i = 0; only != NULL && i < en->pool_count; i++) {
		if (strcmp(en->pools[i].config.name, only) == 0) {
			return (struct view){&en->pools[i], 1};
		}
	}
	return (struct view){en->pools, only == NULL ? en->pool_count : 0};
}

/* The figures are of the server and of whole pools, so they tell a tenant of the others. */
void ops_metrics(struct call *c)
{
	const struct api *api = c->app;
	if (c->principal->prefix != NULL) {
		struct aca_problem p;
		(void)aca_problem(&p, ACA_FORBIDDEN, NULL,
		    "metrics are of the whole server; this token is for one tenant");
		aca_fail(c, &p);
		return;
	}
	struct view v = view_of(c);
	struct buf b = BUF_INIT(METRICS_MAX_BYTES);
	for (size_t i = 0; i < array_len(plain); i++) {
		add_plain(&b, &v, i);
	}
	add_executions(&b, &v);
	add_host_calls(&b, &v);
	add_histograms(&b, &v);
	bool all = c->principal->pool == NULL;
	if (all) {
		add_turns(&b, api->engine);
	}
	if (all && api->codemode != NULL) {
		add_head(&b, "carrel_codemode_calls_total", "counter",
		    "What sessions and routes asked of the store and the runner, by outcome.");
		codemode_each_count(api->codemode, add_codemode_count, &b);
	}
	if (all && api->approvals != NULL) {
		add_approvals(&b, api->approvals);
	}
	call_reply(c, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
	buf_fini(&b);
}

/* carrel serve: the gateway process, from its configuration to its orderly end. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "api/api.h"
#include "approvals/approvals.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/config.h"
#include "codemode/codemode.h"
#include "gateway/gateway.h"
#include "gateway/seal.h"
#include "http/server.h"

#define DRAIN_CHECK_MS 20
#define AUDIT_HEAD_MS 60000

struct server {
	struct config config;
	struct buf packages_dir;
	uv_loop_t loop;
	struct auth *auth;
	struct http *http;
	struct gateway *gateway;
	struct store *store;
	struct runner_link *runner; /* NULL: no tools */
	json_t *first_tools;        /* [tools, problems] told before there was a codemode */
	struct codemode *codemode;
	struct approvals *approvals; /* NULL: none are kept */
	int64_t audit_seq;           /* the head of the trail that was told last */
	bool connects;               /* the store or the database is on the network */
	struct api api;
	uid_t uid;
	gid_t gid;

	/* Copied from KEEPER_READY, for GET metadata. */
	char *python_version;
	struct ipc_package *packages;

	uv_signal_t on_term;
	uv_signal_t on_int;
	uv_poll_t on_stdin; /* only with --stop-at-eof */
	uv_timer_t drain_timer;
	uv_timer_t beat_timer; /* of streams of events */
	uv_timer_t audit_timer;
	uint64_t drain_until_ms; /* 0: not draining */
	uint64_t started_ms;
	bool stop_at_eof;
	int exit_status;
};

/* --- command line
 * --------------------------------------------------------------------------------- */

static int parse_flags(int argc, char **argv, struct config_flags *f)
{
	static const struct option options[] = {
	    {"config", required_argument, NULL, 'c'},
	    {"listen", required_argument, NULL, 'l'},
	    {"data-dir", required_argument, NULL, 'd'},
	    {"isolation", required_argument, NULL, 'i'},
	    {"tls-cert", required_argument, NULL, 'C'},
	    {"tls-key", required_argument, NULL, 'K'},
	    {"stop-at-eof", no_argument, NULL, 'E'},
	    {NULL, 0, NULL, 0},
	};
	optind = 1;
	for (int o; (o = getopt_long(argc, argv, "c:", options, NULL)) != -1;) {
		switch (o) {
		case 'c':
			f->config_file = optarg;
			break;
		case 'l':
			f->listen = optarg;
			break;
		case 'd':
			f->data_dir = optarg;
			break;
		case 'i':
			f->isolation = optarg;
			break;
		case 'C':
			f->tls_cert = optarg;
			break;
		case 'K':
			f->tls_key = optarg;
			break;
		case 'E':
			f->stop_at_eof = true;
			break;
		default:
			return -1;
		}
	}
	return optind == argc ? 0 : -1;
}

/* --- start
 * ---------------------------------------------------------------------------------------- */

/* Makes DIR and those above it. *MADE: whether DIR was not there. */
static int make_dir(const char *dir, const char *what, bool *made, struct err *e)
{
	cleanup(buf_fini) struct buf part = BUF_INIT(4096);
	for (const char *at = dir; at != NULL && *at != '\0';) {
		at = strchr(at + 1, '/');
		buf_clear(&part);
		if (buf_add(&part, dir, at != NULL ? (size_t)(at - dir) : strlen(dir)) < 0) {
			return err_set(e, ERR_INVALID, "%s: the path is too long", what);
		}
		int r = mkdir(buf_str(&part), at == NULL ? 0700 : 0755);
		if (r < 0 && errno != EEXIST) {
			return err_set_os(e, errno, "%s %s", what, buf_str(&part));
		}
		*made = r == 0;
	}
	return 0;
}

/* And gives it to the server's user: always when OWN, else when it was just made. */
static int prepare_dir(
    const struct server *s, const char *dir, const char *what, bool own, struct err *e)
{
	bool made = false;
	if (make_dir(dir, what, &made, e) < 0) {
		return -1;
	}
	if (geteuid() == 0 && (own || made) && chown(dir, s->uid, s->gid) < 0) {
		return err_set_os(e, errno, "%s %s", what, dir);
	}
	return 0;
}

static int prepare_dirs(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	const struct store_config *st = &m->store;
	/* Tools of a directory that was named are somebody else's, who makes it. */
	const char *const dirs[] = {st->dir, st->skills_dir, st->artifacts_dir, st->deps_dir,
	    st->workspaces_dir, m->runner_needed ? NULL : m->tools_dir};
	if (prepare_dir(s, s->config.data_dir, "the data directory", true, e) < 0) {
		return -1;
	}
	for (size_t i = 0; i < array_len(dirs); i++) {
		if (dirs[i] != NULL && prepare_dir(s, dirs[i], "the directory", false, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Where packages are installed and sessions get them from. */
static int prepare_packages_dir(struct server *s, struct err *e)
{
	struct buf *dir = &s->packages_dir;
	*dir = BUF_INIT(4096);
	if (buf_addf(dir, "%s/packages", s->config.data_dir) < 0) {
		return err_set(e, ERR_INVALID, "the data directory's path is too long");
	}
	if (mkdir(buf_str(dir), 0700) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "the directory %s", buf_str(dir));
	}
	if (geteuid() == 0 && chown(buf_str(dir), s->uid, s->gid) < 0) {
		return err_set_os(e, errno, "the directory %s", buf_str(dir));
	}
	return 0;
}

/* Four descriptors a session, and one a connection. */
static void raise_descriptor_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int make_auth(struct server *s, struct err *e)
{
	s->auth = auth_new();
	if (s->auth == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	for (uint32_t i = 0; i < s->config.token_count; i++) {
		const struct config_token *t = &s->config.tokens[i];
		const struct principal who = {.name = t->name,
		    .role = t->role,
		    .pool = t->pool,
		    .prefix = t->prefix,
		    .others_only = t->others_only};
		if (auth_add(s->auth, t->token, &who, t->expires_wall_us, e) < 0) {
			return -1;
		}
	}
	if (s->config.token_count == 0 && s->config.auth_disabled) {
		auth_set_disabled(s->auth);
		log_event(LOG_LEVEL_WARNING, "authentication_disabled",
		    LOG_STR("meaning", "everybody who reaches the port may run code"));
	}
	config_forget_tokens(&s->config);
	return 0;
}

static int make_dialects(struct server *s, struct err *e)
{
	s->api.pcm = pcm_new(&s->config.pcm);
	s->api.appr = appr_new();
	return s->api.pcm != NULL && s->api.appr != NULL
		   ? 0
		   : err_set(e, ERR_INTERNAL, "out of memory");
}

static int make_http(struct server *s, struct err *e)
{
	struct http_config c = {
	    .address = s->config.host,
	    .port = s->config.port,
	    .tls_cert_file = s->config.tls_cert_file,
	    .tls_key_file = s->config.tls_key_file,
	    .connections_max = s->config.connections_max,
	    .auth = s->auth,
	    .default_pool = s->config.engine.pools[0].name,
	};
	s->http = http_new(&s->loop, &c, e);
	if (s->http == NULL) {
		return -1;
	}
	size_t count;
	const struct route *routes;
	for (size_t i = 0; (routes = api_routes(i, &count)) != NULL; i++) {
		if (http_add_routes(s->http, routes, count, &s->api) < 0) {
			return err_set(e, ERR_INTERNAL, "the routes do not fit");
		}
	}
	http_set_default_error(s->http, api_on_error);
	return 0;
}

/* NAME stands beside this program, or where VARIABLE says. */
static int helper_path(const char *name, const char *variable, struct buf *out, struct err *e)
{
	const char *named = getenv(variable);
	if (named != NULL) {
		return buf_add_str(out, named);
	}
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0) {
		return err_set_os(e, errno, "/proc/self/exe");
	}
	self[n] = '\0';
	char *slash = strrchr(self, '/');
	return buf_addf(out, "%.*s/%s", slash != NULL ? (int)(slash - self) : 0, self, name);
}

static void keeper_told(void *ctx, const struct ipc_keeper_ready *ready, const struct err *e);

static int make_gateway(struct server *s, struct err *e)
{
	cleanup(buf_fini) struct buf path = BUF_INIT(4096);
	struct gateway_config *c = calloc(1, sizeof(*c));
	if (c == NULL || helper_path("carrel-keeper", "CARREL_KEEPER", &path, e) < 0) {
		free(c);
		return -1;
	}
	const struct config *from = &s->config;
	c->engine = from->engine;
	c->keeper_path = buf_str(&path);
	struct ipc_keeper_config *k = &c->keeper;
	k->isolation = (uint32_t)from->isolation;
	k->uid = s->uid;
	k->gid = s->gid;
	k->work_dir = from->data_dir;
	k->packages_dir = buf_str(&s->packages_dir);
	k->read_only_path_count = from->read_only_path_count;
	memcpy(k->read_only_paths, from->read_only_paths, sizeof(from->read_only_paths));
	k->preload_count = from->preload_count;
	memcpy(k->preload, from->preload, sizeof(from->preload));
	k->pool_count = from->engine.pool_count;
	for (uint32_t i = 0; i < k->pool_count; i++) {
		k->pools[i] = from->engine.pools[i].limits;
	}
	s->gateway = gateway_new(&s->loop, c, keeper_told, s, e);
	free(c);
	if (s->gateway == NULL) {
		return -1;
	}
	s->api.engine = gateway_engine(s->gateway);
	s->api.results_as_strings = s->config.results_as_strings;
	s->api.python_version = "";
	s->api.started_wall_us = clock_wall_us();
	s->api.started_us = clock_mono_us();
	return 0;
}

/* --- code mode -----------------------------------------------------------------------------------
 */

static void tools_told(void *ctx, const json_t *tools, const json_t *problems)
{
	struct server *s = ctx;
	if (s->codemode != NULL) {
		codemode_on_tools(s->codemode, tools, problems);
		return;
	}
	json_decref(s->first_tools);
	s->first_tools = json_pack("[O, O]", tools, problems);
}

/* Without it there are no tools and no packages are installed, and nothing else is missing. */
static int start_runner(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	const struct config_approvals *a = &s->config.approvals;
	cleanup(buf_fini) struct buf path = BUF_INIT(4096);
	if (helper_path("carrel-runner", "CARREL_RUNNER", &path, e) < 0) {
		return -1;
	}
	if (access(buf_str(&path), X_OK) < 0) {
		log_event(LOG_LEVEL_WARNING, "runner_missing", LOG_STR("path", buf_str(&path)));
		return 0;
	}
	const struct runner_config c = {
	    .path = buf_str(&path),
	    .tools_dir = m->tools_dir,
	    .tools_file = m->tools_file,
	    .work_dir = m->work_dir,
	    .secrets = m->secrets,
	    .deps = m->installer,
	    .embeddings_url = m->embeddings_url,
	    .embeddings_model = m->embeddings_model,
	    .embeddings_secret = m->embeddings_secret,
	    .callback_prefixes = a->callback_prefixes,
	    .callback_prefix_count = a->callback_prefix_count,
	    .callback_secret = a->callback_secret,
	};
	s->runner = runner_link_start(&s->loop, &c, tools_told, s, e);
	if (s->runner == NULL && !m->runner_needed) {
		/* Nothing that was asked for is missing; what may be asked for later is refused. */
		log_event(LOG_LEVEL_WARNING, "runner_failed", LOG_STR("reason", e->text));
		return 0;
	}
	return s->runner != NULL ? 0 : -1;
}

/* As the server's own user, as what follows. */
static int make_store(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	s->connects = m->store.redis_url != NULL;
	s->store = store_new(&s->loop, &m->store, e);
	return s->store != NULL ? 0 : -1;
}

/* The one who answers with the store and the runner. */
static int make_codemode(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	const struct codemode_config c = {
	    .engine = gateway_engine(s->gateway),
	    .store = s->store,
	    .runner = s->runner,
	    .allow_runtime_deps = m->allow_runtime_deps,
	    .tools_from_store = m->store.redis_url != NULL,
	    .data_dir = s->config.data_dir,
	    .rank_by_embeddings = s->runner != NULL && m->embeddings_url != NULL,
	    .approvals = s->approvals,
	};
	s->codemode = codemode_new(&s->loop, &c, e);
	if (s->codemode == NULL) {
		return -1;
	}
	if (s->first_tools != NULL) {
		codemode_on_tools(s->codemode, json_array_get(s->first_tools, 0),
		    json_array_get(s->first_tools, 1));
	}
	engine_set_workspaces(gateway_engine(s->gateway), pcm_workspace_of, &s->api);
	codemode_add_deps(s->codemode, m->packages);
	gateway_set_host_calls(s->gateway, &codemode_host_calls, s->codemode);
	s->api.codemode = s->codemode;
	log_event(LOG_LEVEL_INFO, "store", LOG_STR("at", store_describe(s->store)));
	return 0;
}

/* --- approvals -----------------------------------------------------------------------------------
 */

static int make_approvals(struct server *s, struct err *e)
{
	const struct config_approvals *a = &s->config.approvals;
	if (!a->enabled) {
		return 0;
	}
	if (a->callback_prefix_count > 0 && s->runner == NULL) {
		return err_set(e, ERR_INVALID,
		    "approvals.callbacks: there is no carrel-runner, which would send them");
	}
	const struct approvals_config c = {
	    .engine = gateway_engine(s->gateway),
	    .store = s->store,
	    .runner = s->runner,
	    .url = a->url,
	    .server = a->server,
	    .callback_prefixes = a->callback_prefixes,
	    .callback_prefix_count = a->callback_prefix_count,
	    .callback_secret = a->callback_secret,
	    .callback_attempts = a->callback_attempts,
	    .runs_max = a->runs_max,
	    .open_max = a->open_max,
	    .keep_ms = a->keep_ms,
	    .lease_ms = a->lease_ms,
	    .audit_code = a->audit_code,
	    .pools = a->pools,
	};
	s->approvals = approvals_new(&s->loop, &c, e);
	if (s->approvals == NULL) {
		return err_prefix(e, "approvals");
	}
	s->connects |= text_has_prefix(a->url, "postgres");
	s->api.approvals = s->approvals;
	approvals_audit(s->approvals, "server", "server.start", CARREL_VERSION, "ok", NULL);
	return 0;
}

/* Whoever keeps the log can tell when the end of the trail was cut off. */
static void audit_head_told(void *ctx, const json_t *answer, const struct err *e)
{
	struct server *s = ctx;
	int64_t seq = json_integer_value(json_object_get(answer, "seq"));
	if (e == NULL && seq != s->audit_seq) {
		s->audit_seq = seq;
		log_event(LOG_LEVEL_INFO, "audit_head", LOG_INT("seq", seq),
		    LOG_STR("hash", json_string_value(json_object_get(answer, "hash"))));
	}
}

static void on_audit_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	if (s->approvals != NULL) {
		(void)approvals_audit_head(s->approvals, audit_head_told, s);
	}
}

static void on_beat_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	appr_beat(s->api.appr);
}

/* --- while it runs
 * -------------------------------------------------------------------------------- */

static void stop(struct server *s, int exit_status)
{
	s->exit_status = exit_status;
	uv_stop(&s->loop);
}

static int copy_packages(struct server *s, const struct ipc_keeper_ready *ready)
{
	s->python_version = strdup(ready->python_version);
	s->packages = calloc(ready->package_count + 1, sizeof(*s->packages));
	if (s->python_version == NULL || s->packages == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < ready->package_count; i++) {
		s->packages[i].name = strdup(ready->packages[i].name);
		s->packages[i].version = strdup(ready->packages[i].version);
		if (s->packages[i].name == NULL || s->packages[i].version == NULL) {
			return -ENOMEM;
		}
	}
	s->api.python_version = s->python_version;
	s->api.packages = s->packages;
	s->api.package_count = ready->package_count;
	return 0;
}

/* Of the server itself, and of each tenant that has a token. */
static void find_deps(struct server *s)
{
	const char *prefixes[CONFIG_TOKENS_MAX + 1] = {NULL};
	size_t count = 1;
	for (uint32_t i = 0; i < s->config.token_count; i++) {
		const char *prefix = s->config.tokens[i].prefix;
		size_t k = 1;
		while (prefix != NULL && k < count && strcmp(prefixes[k], prefix) != 0) {
			k++;
		}
		if (prefix != NULL && k == count) {
			prefixes[count++] = prefix;
		}
	}
	codemode_find_deps(s->codemode, prefixes, count);
}

static void keeper_told(void *ctx, const struct ipc_keeper_ready *ready, const struct err *e)
{
	struct server *s = ctx;
	if (e != NULL) {
		log_event(LOG_LEVEL_ERROR, "server_failed", LOG_STR("reason", e->text));
		stop(s, CLI_EXIT_SERVER);
		return;
	}
	if (copy_packages(s, ready) < 0) {
		log_event(LOG_LEVEL_ERROR, "server_failed", LOG_STR("reason", "out of memory"));
		stop(s, CLI_EXIT_SERVER);
		return;
	}
	if (*ready->warning != '\0') {
		log_event(
		    LOG_LEVEL_WARNING, "preload_incomplete", LOG_STR("missing", ready->warning));
	}
	if (s->codemode != NULL) {
		codemode_warm(s->codemode);
		find_deps(s);
	}
	if (s->approvals != NULL) {
		approvals_start(s->approvals);
	}
	log_event(LOG_LEVEL_INFO, "keeper_ready", LOG_STR("python", ready->python_version),
	    LOG_INT("ms", clock_mono_ms() - s->started_ms));
}

static void on_drain_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	bool idle = engine_active_executions(s->api.engine) == 0 && http_open_calls(s->http) == 0;
	if (idle || clock_mono_ms() >= s->drain_until_ms) {
		log_event(LOG_LEVEL_INFO, "drained", LOG_INT("clean", idle));
		stop(s, CLI_EXIT_OK);
	}
}

/* SIGNAL_NUMBER: 0 for the end of stdin. */
static void drain(struct server *s, int signal_number)
{
	log_event(LOG_LEVEL_INFO, "draining", LOG_INT("signal", signal_number),
	    LOG_INT("executions", engine_active_executions(s->api.engine)));
	s->drain_until_ms = clock_mono_ms() + s->config.drain_ms;
	engine_drain(s->api.engine);
	appr_drain(s->api.appr);
	if (s->approvals != NULL) {
		approvals_drain(s->approvals);
		approvals_audit(s->approvals, "server", "server.stop", CARREL_VERSION, "ok", NULL);
	}
	http_stop_listening(s->http);
	(void)uv_timer_start(&s->drain_timer, on_drain_timer, 0, DRAIN_CHECK_MS);
}

/* The first signal drains, a second one stops at once. */
static void on_signal(uv_signal_t *handle, int signal_number)
{
	struct server *s = handle->data;
	if (s->drain_until_ms != 0) {
		stop(s, CLI_EXIT_OK);
		return;
	}
	drain(s, signal_number);
}

/* What comes on stdin is of no interest, only its end: whoever held the other end is gone. */
static void on_stdin(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	struct server *s = handle->data;
	char ignored[256];
	ssize_t n = read(STDIN_FILENO, ignored, sizeof(ignored));
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
		return;
	}
	(void)uv_poll_stop(handle);
	if (s->drain_until_ms == 0) {
		drain(s, 0);
	}
}

/* A child that its starter's death must end. PR_SET_PDEATHSIG would not do: the kernel forgets it
 * when the user is changed, and it tells of the starter's thread, not of its process. */
static int watch_stdin(struct server *s, struct err *e)
{
	if (!s->stop_at_eof) {
		return 0;
	}
	int r = uv_poll_init(&s->loop, &s->on_stdin, STDIN_FILENO);
	if (r < 0) {
		return err_set(
		    e, ERR_INVALID, "--stop-at-eof: stdin is no pipe, socket or terminal");
	}
	s->on_stdin.data = s;
	(void)uv_poll_start(&s->on_stdin, UV_READABLE | UV_DISCONNECT, on_stdin);
	return 0;
}

static void watch_signals(struct server *s)
{
	(void)uv_signal_init(&s->loop, &s->on_term);
	(void)uv_signal_init(&s->loop, &s->on_int);
	(void)uv_timer_init(&s->loop, &s->drain_timer);
	(void)uv_timer_init(&s->loop, &s->beat_timer);
	(void)uv_timer_init(&s->loop, &s->audit_timer);
	s->on_term.data = s->on_int.data = s->drain_timer.data = s;
	s->beat_timer.data = s->audit_timer.data = s;
	(void)uv_timer_start(&s->beat_timer, on_beat_timer, APPR_BEAT_MS, APPR_BEAT_MS);
	(void)uv_timer_start(&s->audit_timer, on_audit_timer, AUDIT_HEAD_MS, AUDIT_HEAD_MS);
	(void)uv_signal_start(&s->on_term, on_signal, SIGTERM);
	(void)uv_signal_start(&s->on_int, on_signal, SIGINT);
}

static int start(struct server *s, struct err *e)
{
	if (config_check_serve(&s->config, e) < 0) {
		return -1;
	}
	if (geteuid() == 0) {
		if (seal_find_user(s->config.user, &s->uid, &s->gid, e) < 0) {
			return -1;
		}
	} else {
		s->uid = geteuid();
		s->gid = getegid();
	}
	raise_descriptor_limit();
	if (prepare_dirs(s, e) < 0 || prepare_packages_dir(s, e) < 0 || make_auth(s, e) < 0 ||
	    make_dialects(s, e) < 0 || make_http(s, e) < 0 || make_gateway(s, e) < 0 ||
	    start_runner(s, e) < 0) {
		return -1;
	}
	watch_signals(s);
	if (watch_stdin(s, e) < 0) {
		return -1;
	}
	/* drop */
	if (seal_drop_privileges(s->uid, s->gid, e) < 0) {
		return -1;
	}
	/* serve, and seal */
	if (make_store(s, e) < 0 || make_approvals(s, e) < 0 || make_codemode(s, e) < 0) {
		return -1;
	}
	config_forget_secrets(&s->config);
	if (http_start(s->http, e) < 0) {
		return -1;
	}
	return seal_system_calls(s->connects, e);
}

static void release(struct server *s)
{
	http_free(s->http);
	if (s->gateway != NULL) {
		/* Not closed: that would give the signals back their default action, and one that
		 * comes while the server clears up would kill it. */
		uv_unref((uv_handle_t *)&s->on_term);
		uv_unref((uv_handle_t *)&s->on_int);
		uv_close((uv_handle_t *)&s->drain_timer, NULL);
		uv_close((uv_handle_t *)&s->beat_timer, NULL);
		uv_close((uv_handle_t *)&s->audit_timer, NULL);
		if (s->on_stdin.data != NULL) {
			uv_close((uv_handle_t *)&s->on_stdin, NULL);
		}
	}
	codemode_stop(s->codemode);
	approvals_stop(s->approvals);
	gateway_free(s->gateway);
	codemode_free(s->codemode);
	approvals_free(s->approvals);
	runner_link_stop(s->runner);
	store_free(s->store);
	json_decref(s->first_tools);
	(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	auth_free(s->auth);
	pcm_free(s->api.pcm);
	appr_free(s->api.appr);
	for (size_t i = 0; i < s->api.package_count; i++) {
		free((void *)(uintptr_t)s->packages[i].name);
		free((void *)(uintptr_t)s->packages[i].version);
	}
	free(s->packages);
	free(s->python_version);
	buf_fini(&s->packages_dir);
	config_fini(&s->config);
}

int cmd_serve(int argc, char **argv)
{
	static struct server s;
	struct config_flags flags = {0};
	struct err e = {0};
	log_set_process("gateway");
	if (parse_flags(argc, argv, &flags) < 0) {
		(void)fputs("See 'carrel help serve'.\n", stderr);
		return CLI_EXIT_USAGE;
	}
	s.started_ms = clock_mono_ms();
	s.stop_at_eof = flags.stop_at_eof;
	if (config_load(&s.config, &flags, &e) < 0) {
		(void)fprintf(stderr, "carrel serve: %s\n", e.text);
		return CLI_EXIT_USAGE;
	}
	(void)uv_loop_init(&s.loop);
	if (start(&s, &e) < 0) {
		(void)fprintf(stderr, "carrel serve: %s\n", e.text);
		release(&s);
		return e.code == ERR_INVALID || e.code == ERR_DENIED ? CLI_EXIT_USAGE
								     : CLI_EXIT_SERVER;
	}
	log_event(LOG_LEVEL_INFO, "listening", LOG_STR("address", s.config.host),
	    LOG_INT("port", http_port(s.http)));
	(void)uv_run(&s.loop, UV_RUN_DEFAULT);
	release(&s);
	log_event(LOG_LEVEL_INFO, "stopped");
	return s.exit_status;
}

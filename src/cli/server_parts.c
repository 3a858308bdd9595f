/* The parts of a server, made from its configuration. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/server.h"

int server_add_tokens(struct auth *a, struct config *c, struct err *e)
{
	for (uint32_t i = 0; i < c->token_count; i++) {
		const struct config_token *t = &c->tokens[i];
		const struct principal who = {.name = t->name,
		    .role = t->role,
		    .pool = t->pool,
		    .prefix = t->prefix,
		    .others_only = t->others_only};
		if (auth_add(a, t->token, &who, t->expires_wall_us, e) < 0) {
			return -1;
		}
	}
	config_forget_tokens(c);
	return 0;
}

int server_make_auth(struct server *s, struct err *e)
{
	s->auth = auth_new();
	if (s->auth == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (s->config.token_count == 0 && s->config.auth_disabled) {
		auth_set_disabled(s->auth);
		log_event(LOG_LEVEL_WARNING, "authentication_disabled",
		    LOG_STR("meaning", "everybody who reaches the port may run code"));
	}
	return server_add_tokens(s->auth, &s->config, e);
}

int server_make_dialects(struct server *s, struct err *e)
{
	s->api.pcm = pcm_new(&s->config.pcm);
	s->api.appr = appr_new();
	return s->api.pcm != NULL && s->api.appr != NULL
		   ? 0
		   : err_set(e, ERR_INTERNAL, "out of memory");
}

int server_make_http(struct server *s, struct err *e)
{
	s->json_work = json_work_new(&s->loop);
	if (s->json_work == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	s->api.json_work = s->json_work;
	struct http_config c = {
	    .address = s->config.host,
	    .port = s->config.port,
	    .tls_cert_file = s->config.tls_cert_file,
	    .tls_key_file = s->config.tls_key_file,
	    .connections_max = s->config.connections_max,
	    .connections_per_address = s->config.connections_per_address,
	    .trusted_proxies = &s->config.trusted_proxies,
	    .auth = s->auth,
	    .json_work = s->json_work,
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

int server_make_gateway(struct server *s, gateway_keeper_fn told, struct err *e)
{
	cleanup(buf_fini) struct buf path = BUF_INIT(4096);
	cleanup(buf_fini) struct buf sessions = BUF_INIT(4096);
	if (helper_path("carrel-keeper", "CARREL_KEEPER", &path, e) < 0) {
		return -1;
	}
	if (buf_addf(&sessions, "%s/sessions", s->config.data_dir) < 0) {
		return err_set(e, ERR_INVALID, "the data directory's path is too long");
	}
	struct gateway_config *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	const struct config *from = &s->config;
	c->engine = from->engine;
	c->keeper_path = buf_str(&path);
	struct ipc_keeper_config *k = &c->keeper;
	k->isolation = (uint32_t)from->isolation;
	k->uid = s->uid;
	k->gid = s->gid;
	k->work_dir = buf_str(&sessions);
	k->packages_dir = buf_str(&s->packages_dir);
	k->may_add_packages = from->code_mode.allow_runtime_deps;
	k->read_only_path_count = from->read_only_path_count;
	memcpy(k->read_only_paths, from->read_only_paths, sizeof(from->read_only_paths));
	k->preload_count = from->preload_count;
	memcpy(k->preload, from->preload, sizeof(from->preload));
	k->pool_count = from->engine.pool_count;
	for (uint32_t i = 0; i < k->pool_count; i++) {
		k->pools[i] = from->engine.pools[i].limits;
	}
	s->gateway = gateway_new(&s->loop, c, told, s, e);
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

int server_start_runner(struct server *s, struct err *e)
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
	    .memory_bytes = m->commands_memory_bytes,
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

int server_make_store(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	s->connects = m->store.redis_url != NULL;
	s->store = store_new(&s->loop, &m->store, e);
	return s->store != NULL ? 0 : -1;
}

int server_make_codemode(struct server *s, struct err *e)
{
	const struct config_code_mode *m = &s->config.code_mode;
	const struct codemode_config c = {
	    .engine = gateway_engine(s->gateway),
	    .store = s->store,
	    .runner = s->runner,
	    .json_work = s->json_work,
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

void server_find_deps(struct server *s, const struct config *c)
{
	const char *prefixes[CONFIG_TOKENS_MAX + 1] = {NULL};
	size_t count = 1;
	for (uint32_t i = 0; i < c->token_count; i++) {
		const char *prefix = c->tokens[i].prefix;
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

int server_make_approvals(struct server *s, struct err *e)
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

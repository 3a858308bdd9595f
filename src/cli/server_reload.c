/* SIGHUP: what can change while sessions live on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/server.h"

static void free_auth(struct auth **a)
{
	auth_free(*a);
}

/* The tokens first, since they are checked only here: all is taken, or nothing. */
static int take(struct server *s, struct config *now, struct err *e)
{
	cleanup(free_auth) struct auth *fresh = auth_new();
	if (fresh == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	/* The environment's token was overwritten there, and is kept as a digest. */
	if (now->token_count == 0 && now->auth_disabled) {
		auth_set_disabled(fresh);
	} else if (now->token_count > 0 || !auth_has(s->auth, CONFIG_TOKEN_VARIABLE)) {
		if (config_check_serve(now, e) < 0) {
			return -1;
		}
	}
	if (server_add_tokens(fresh, now, e) < 0) {
		return -1;
	}
	bool tls = s->config.tls_cert_file != NULL && now->tls_cert_file != NULL &&
		   now->tls_key_file != NULL;
	if (tls && http_reload_tls(s->http, now->tls_cert_file, now->tls_key_file, e) < 0) {
		return -1;
	}
	return auth_replace(s->auth, fresh, CONFIG_TOKEN_VARIABLE, e);
}

static bool same_pools(const struct config *a, const struct config *b)
{
	bool same = a->engine.pool_count == b->engine.pool_count;
	for (uint32_t i = 0; i < a->engine.pool_count && same; i++) {
		same = strcmp(a->engine.pools[i].name, b->engine.pools[i].name) == 0 &&
		       a->engine.pools[i].type == b->engine.pools[i].type;
	}
	return same;
}

void server_reload(struct server *s)
{
	static struct config now;
	cleanup(buf_fini) struct buf fixed = BUF_INIT(1024);
	struct err e = {0};
	if (config_load_again(&now, &s->flags, &e) < 0 || take(s, &now, &e) < 0) {
		log_event(LOG_LEVEL_ERROR, "reload_failed", LOG_STR("reason", e.text));
		config_fini(&now);
		return;
	}
	if (same_pools(&s->config, &now)) {
		gateway_set_limits(s->gateway, &now.engine);
	}
	if (s->codemode != NULL) {
		server_find_deps(s, &now);
	}
	if (config_name_fixed(&s->config, &now, &fixed) == 0 && fixed.len > 0) {
		log_event(LOG_LEVEL_WARNING, "reload_needs_restart", LOG_STR("keys", fixed.data));
	}
	log_event(LOG_LEVEL_INFO, "reloaded", LOG_INT("tokens", now.token_count));
	config_fini(&now);
}

/* Asks for the effective user, who reads it later; the real one is for counting alone. */
static void check_file(const char *path)
{
	if (path != NULL && faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0) {
		log_event(LOG_LEVEL_INFO, "reload_out_of_reach", LOG_STR("path", path),
		    LOG_STR("meaning", "the server's user cannot read it again at SIGHUP"));
	}
}

void server_check_reload(const struct server *s)
{
	const json_t *auth = json_object_get(s->config.tree, "auth");
	const char *file = s->flags.config_file != NULL ? s->flags.config_file
							: getenv("CARREL_CONFIG");
	size_t i;
	const json_t *token;
	check_file(file);
	check_file(s->config.tls_cert_file);
	check_file(s->config.tls_key_file);
	check_file(getenv("CONTAINER_AUTH_TOKEN_FILE"));
	check_file(json_string_value(json_object_get(auth, "token_file")));
	json_array_foreach(json_object_get(auth, "tokens"), i, token)
	{
		check_file(json_string_value(json_object_get(token, "token_file")));
	}
}

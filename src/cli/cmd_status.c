/* carrel status: a server at a glance. */
#include <string.h>

#include "base/text.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/doctor.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/served.h"

/* Whether the server is on this machine, so that its walls are this machine's. */
static bool is_here(const struct client *c)
{
	static const char *const hosts[] = {"://127.", "://localhost", "://[::1]"};
	for (size_t i = 0; i < array_len(hosts); i++) {
		if (strstr(buf_str(&c->base), hosts[i]) != NULL) {
			return true;
		}
	}
	return false;
}

/* What cannot be had, such as pools with a tenant's token, is told and nothing is missing else. */
static json_t *ask(struct client *c, const char *path, json_t *document)
{
	struct err e;
	json_t *answer = NULL;
	if (client_get(c, (const char *const[]){path, NULL}, NULL, 0, &answer, &e) < 0) {
		(void)json_object_set_new(document, path, json_pack("{s:s}", "error", e.text));
		return NULL;
	}
	return answer;
}

static int gather(struct client *c, json_t *document, struct err *e)
{
	json_t *health = NULL;
	if (client_get(c, (const char *const[]){"health", NULL}, NULL, 0, &health, e) < 0 &&
	    c->refusal.http_status != 503) {
		return -1;
	}
	(void)json_object_set_new(document, "url", json_string(buf_str(&c->base)));
	(void)json_object_set_new(document, "health",
	    health != NULL ? health : json_pack("{s:s}", "status", "not ready"));
	cleanup(json_decrefp) json_t *metadata = ask(c, "metadata", document);
	cleanup(json_decrefp) json_t *approvals = NULL;
	json_t *pools = NULL;
	struct err why;
	if (metadata == NULL && c->refusal.http_status == 401) {
		return err_set(e, ERR_UNAVAILABLE, "%s",
		    client_text(json_object_get(document, "metadata"), "error"));
	}
	const json_t *runtime = json_array_get(json_object_get(metadata, "runtimes"), 0);
	if (runtime != NULL) {
		(void)json_object_set_new(
		    document, "python", json_string(client_text(runtime, "version")));
	}
	if (served_pools(c, &pools, &why) == 0) {
		(void)json_object_set_new(document, "pools", pools);
	} else {
		(void)json_object_set_new(document, "pools", json_pack("{s:s}", "error", why.text));
	}
	const struct url_query query[] = {{"state", "waiting"}, {"limit", "200"}, {NULL, NULL}};
	if (client_get(c, (const char *const[]){"approvals", NULL}, query, 0, &approvals, &why) ==
	    0) {
		size_t count = json_array_size(json_object_get(approvals, "approvals"));
		bool more = client_text(approvals, "next")[0] != '\0';
		(void)json_object_set_new(
		    document, "approvalsWaiting", json_integer((json_int_t)count));
		(void)json_object_set_new(document, "approvalsWaitingMore", json_boolean(more));
	}
	char worst[DOCTOR_LINE_BYTES];
	if (is_here(c) && doctor_worst(worst)) {
		(void)json_object_set_new(document, "doctor", json_string(worst));
	}
	return 0;
}

static void print(struct output *o, const json_t *document)
{
	const json_t *health = json_object_get(document, "health");
	const json_t *pools = json_object_get(document, "pools");
	const json_t *waiting = json_object_get(document, "approvalsWaiting");
	(void)output_linef(o, "server     %s, %s, up %lld s", client_text(document, "url"),
	    client_text(health, "status"),
	    (long long)json_number_value(json_object_get(health, "uptime_seconds")));
	(void)output_linef(o, "version    this client is carrel " CARREL_VERSION "%s%s",
	    json_object_get(document, "python") != NULL ? "; sessions have Python " : "",
	    client_text(document, "python"));
	size_t i;
	const json_t *pool;
	json_array_foreach(pools, i, pool)
	{
		(void)output_linef(o, "%-10s %s: %lld of %lld sessions, %lld running, %lld ready",
		    i == 0 ? "pools" : "", client_text(pool, "name"),
		    json_integer_value(json_object_get(pool, "sessions")),
		    json_integer_value(json_object_get(pool, "max_sessions")),
		    json_integer_value(json_object_get(pool, "executing_sessions")),
		    json_integer_value(json_object_get(pool, "ready_sessions")));
	}
	if (json_object_get(pools, "error") != NULL) {
		(void)output_linef(o, "pools      %s", client_text(pools, "error"));
	}
	if (waiting != NULL) {
		bool more = json_is_true(json_object_get(document, "approvalsWaitingMore"));
		(void)output_linef(o, "approvals  %lld%s waiting", json_integer_value(waiting),
		    more ? " or more" : "");
	}
	if (json_object_get(document, "doctor") != NULL) {
		(void)output_linef(o, "doctor     %s", client_text(document, "doctor"));
	}
}

int cmd_status(int argc, char **argv)
{
	struct options shared;
	struct err e = {0};
	struct output o;
	int first = options_parse(&shared, argc, argv, NULL, 0, &e);
	if (first >= 0 && first < argc) {
		first = err_set(&e, ERR_INVALID, "'%s' is one word too many", argv[first]);
	}
	if (first < 0) {
		return command_usage_error("status", &e);
	}
	output_init(&o, shared.json);
	cleanup(client_fini) struct client c = {0};
	cleanup(json_decrefp) json_t *document = json_object();
	int r = client_init(&c, &shared, &e);
	r = r < 0 ? r : gather(&c, document, &e);
	if (r < 0) {
		return output_failure(&o, &c, &e);
	}
	if (o.json) {
		return output_json(&o, document, &e) < 0 ? CLI_EXIT_USER : CLI_EXIT_OK;
	}
	print(&o, document);
	return CLI_EXIT_OK;
}

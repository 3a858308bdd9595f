/* carrel sessions: what sessions a pool has. */
#include <string.h>

#include "cli/client.h"
#include "cli/command.h"
#include "cli/execution.h"
#include "cli/list.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/url.h"

static int list(struct client *c, struct output *o, struct err *e)
{
	const char *const segments[] = {"listSessions", NULL};
	cleanup(json_decrefp) json_t *sessions = NULL;
	if (list_get(c, segments, NULL, "sessions", &sessions, e) < 0) {
		return -1;
	}
	if (o->json) {
		cleanup(json_decrefp) json_t *document = json_object();
		(void)json_object_set(document, "sessions", sessions);
		return output_json(o, document, e);
	}
	static const struct table_column columns[] = {{"IDENTIFIER", "identifier"},
	    {"LAST USED", "lastAccessedAt"}, {"EXPIRES", "expireAt"}, {"TENANT", "tenant"}};
	bool tenants = false;
	size_t i;
	const json_t *session;
	json_array_foreach(sessions, i, session)
	{
		tenants |= json_object_get(session, "tenant") != NULL;
	}
	return table_print(o, sessions, columns, array_len(columns) - !tenants, e);
}

static int show(struct client *c, struct output *o, const char *identifier, struct err *e)
{
	const char *const segments[] = {"session", NULL};
	const struct url_query query[] = {{"identifier", identifier}, {NULL, NULL}};
	cleanup(json_decrefp) json_t *session = NULL;
	if (client_get(c, segments, query, 0, &session, e) < 0) {
		return -1;
	}
	if (o->json) {
		return output_json(o, session, e);
	}
	const char *key;
	json_t *value;
	json_object_foreach(session, key, value)
	{
		if (json_is_string(value)) {
			(void)output_linef(o, "%-16s %s", key, json_string_value(value));
		}
	}
	return 0;
}

static int end(struct client *c, struct output *o, const char *identifier, struct err *e)
{
	if (execution_end_session(c, NULL, identifier, e) < 0) {
		return -1;
	}
	if (!o->json) {
		return 0;
	}
	cleanup(json_decrefp) json_t *document = json_pack("{s:s}", "deleted", identifier);
	return output_json(o, document, e);
}

/* The operands: ls, show ID, rm ID. */
static int check_operands(int count, char **operands, struct err *e)
{
	if (count == 0) {
		return err_set(e, ERR_INVALID, "say what to do: ls, show ID, or rm ID");
	}
	static const char *const verbs[] = {"ls", "show", "rm"};
	bool is_list = strcmp(operands[0], "ls") == 0;
	if (!is_list && strcmp(operands[0], "show") != 0 && strcmp(operands[0], "rm") != 0) {
		return command_unknown_word(operands[0], verbs, array_len(verbs), e);
	}
	if (count != (is_list ? 1 : 2)) {
		return err_set(e, ERR_INVALID,
		    is_list ? "ls takes nothing more" : "%s takes one session", operands[0]);
	}
	return 0;
}

int cmd_sessions(int argc, char **argv)
{
	struct options shared;
	struct err e;
	int first = options_parse(&shared, argc, argv, NULL, 0, &e);
	if (first < 0 || check_operands(argc - first, argv + first, &e) < 0) {
		return command_usage_error("sessions", &e);
	}
	struct output o;
	output_init(&o, shared.json);
	cleanup(client_fini) struct client c = {0};
	int r = client_init(&c, &shared, &e);
	const char *verb = argv[first];
	if (r == 0 && strcmp(verb, "ls") == 0) {
		r = list(&c, &o, &e);
	} else if (r == 0 && strcmp(verb, "show") == 0) {
		r = show(&c, &o, argv[first + 1], &e);
	} else if (r == 0) {
		r = end(&c, &o, argv[first + 1], &e);
	}
	return r < 0 ? output_failure(&o, &c, &e) : CLI_EXIT_OK;
}

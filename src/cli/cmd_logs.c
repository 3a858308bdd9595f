/* carrel logs: follows the executions of a session, whoever sends them. */
#include <poll.h>
#include <string.h>

#include "base/text.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/execution.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/signals.h"

#define LOOK_EVERY_MS 500

struct logs {
	struct client client;
	struct output output;
	struct signals signals;
	const char *identifier;
	bool all;     /* also what had ended before */
	json_t *seen; /* ids, of this round and the one before */
};

/* The ids of those that were not listed before. The server keeps 64 final ones. */
static int find_new(struct logs *l, json_t **out, struct err *e)
{
	const char *const segments[] = {"executions", NULL};
	const struct url_query query[] = {{"identifier", l->identifier}, {NULL, NULL}};
	cleanup(json_decrefp) json_t *answer = NULL;
	if (client_get(&l->client, segments, query, 0, &answer, e) < 0) {
		return -1;
	}
	cleanup(json_decrefp) json_t *now = json_object();
	cleanup(json_decrefp) json_t *fresh = json_array();
	bool first = l->seen == NULL;
	size_t i;
	const json_t *one;
	json_array_foreach(json_object_get(answer, "value"), i, one)
	{
		const char *id = client_text(one, "id");
		const char *status = client_text(one, "status");
		bool open = strcmp(status, "Running") == 0 || strcmp(status, "NotStarted") == 0;
		if (json_object_get(l->seen, id) == NULL && (!first || l->all || open)) {
			(void)json_array_append_new(fresh, json_string(id));
		}
		(void)json_object_set_new(now, id, json_true());
	}
	json_decref(l->seen);
	l->seen = steal(&now);
	*out = steal(&fresh);
	return 0;
}

static int show(struct logs *l, const char *id, struct err *e)
{
	struct execution_outcome outcome;
	if (!l->output.json) {
		output_note(&l->output, "execution %s", id);
	}
	int r = execution_watch(
	    &l->client, &l->output, &l->signals, l->identifier, id, &outcome, e);
	/* It may be forgotten by now. */
	return r < 0 && l->client.refusal.http_status == 404 ? 0 : r;
}

/* Until the session ends, or a signal. */
static int follow(struct logs *l, struct err *e)
{
	for (;;) {
		cleanup(json_decrefp) json_t *fresh = NULL;
		bool began = l->seen != NULL;
		if (find_new(l, &fresh, e) < 0) {
			bool gone = strcmp(l->client.refusal.code,
					"SessionWithIdentifierNotFound") == 0;
			if (gone && began) {
				output_note(&l->output, "the session has ended");
			}
			return gone && began ? 0 : -1;
		}
		for (size_t i = 0; i < json_array_size(fresh); i++) {
			if (show(l, json_string_value(json_array_get(fresh, i)), e) < 0) {
				return -1;
			}
		}
		struct pollfd signal = {.fd = l->signals.fd, .events = POLLIN};
		if (json_array_size(fresh) == 0 && poll(&signal, 1, LOOK_EVERY_MS) > 0) {
			return err_set(e, ERR_CONFLICT, "stopped");
		}
	}
}

int cmd_logs(int argc, char **argv)
{
	struct options shared;
	struct err e = {0};
	struct logs l = {.signals = SIGNALS_NONE};
	const struct option_entry own[] = {{.name = "all", .letter = 'a', .flag = &l.all}};
	int first = options_parse(&shared, argc, argv, own, array_len(own), &e);
	if (first >= 0 && argc - first != 1) {
		first = err_set(&e, ERR_INVALID, "name one session");
	}
	if (first < 0) {
		return command_usage_error("logs", &e);
	}
	l.identifier = argv[first];
	output_init(&l.output, shared.json);
	int r = client_init(&l.client, &shared, &e);
	r = r < 0 ? r : signals_begin(&l.signals, &e);
	r = r < 0 ? r : follow(&l, &e);
	int status = r < 0 ? output_failure(&l.output, &l.client, &e) : CLI_EXIT_OK;
	signals_end(&l.signals);
	client_fini(&l.client);
	json_decref(l.seen);
	return status;
}

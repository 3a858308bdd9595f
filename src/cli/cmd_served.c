/* carrel pools, skills, artifacts, deps, and `carrel tools ls`: what a server has. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/download.h"
#include "cli/options.h"
#include "cli/served.h"
#include "cli/table.h"

/* An installer may fetch for as long as the server lets it. */
#define DEPS_IDLE_MS 3600000

struct served {
	struct client client;
	struct output output;
	const char *operand; /* NULL: there is none */
	const char *save_as; /* -O */
};

struct verb {
	const char *name;
	const char *operand; /* what it is called in messages; NULL: it takes none */
	int (*run)(struct served *s, struct err *e);
};

/* --- lists --- */

static int list(struct served *s, const char *kind, const struct table_column *columns,
    size_t count, struct err *e)
{
	cleanup(json_decrefp) json_t *rows = NULL;
	if (client_get(&s->client, (const char *const[]){"api", kind, NULL}, NULL, 0, &rows, e) <
	    0) {
		return -1;
	}
	return s->output.json ? output_json(&s->output, rows, e)
			      : table_print(&s->output, rows, columns, count, e);
}

static const struct table_column described[] = {{"NAME", "name"}, {"DESCRIPTION", "description"}};

static int list_tools(struct served *s, struct err *e)
{
	return list(s, "tools", described, array_len(described), e);
}

static int list_skills(struct served *s, struct err *e)
{
	return list(s, "skills", described, array_len(described), e);
}

static int list_artifacts(struct served *s, struct err *e)
{
	static const struct table_column columns[] = {{"NAME", "name"}, {"TYPE", "type"},
	    {"BYTES", "size"}, {"MADE", "created_at"}, {"DESCRIPTION", "description"}};
	return list(s, "artifacts", columns, array_len(columns), e);
}

static int list_deps(struct served *s, struct err *e)
{
	cleanup(json_decrefp) json_t *names = NULL;
	if (client_get(&s->client, (const char *const[]){"api", "deps", NULL}, NULL, 0, &names, e) <
	    0) {
		return -1;
	}
	if (s->output.json) {
		return output_json(&s->output, names, e);
	}
	cleanup(json_decrefp) json_t *rows = json_array();
	size_t i;
	json_t *name;
	json_array_foreach(names, i, name)
	{
		(void)json_array_append_new(rows, json_pack("{s:O}", "requirement", name));
	}
	static const struct table_column columns[] = {{"REQUIREMENT", "requirement"}};
	return table_print(&s->output, rows, columns, array_len(columns), e);
}

/* Adds a sample such as `carrel_pool_sessions{pool="default"} 3` to its pool's row. */
static void add_sample(json_t *pools, const char *line)
{
	char key[64];
	char pool[SERVED_POOL_NAME_BYTES];
	int end = 0;
	uint64_t value;
	if (sscanf(line, "carrel_pool_%63[a-z_]{pool=\"%63[a-z0-9-]\"} %n", key, pool, &end) != 2 ||
	    end == 0 || text_to_u64(line + end, INT64_MAX, &value) < 0) {
		return;
	}
	size_t i;
	json_t *row;
	json_array_foreach(pools, i, row)
	{
		if (strcmp(client_text(row, "name"), pool) == 0) {
			(void)json_object_set_new(row, key, json_integer((json_int_t)value));
			return;
		}
	}
	(void)json_array_append_new(
	    pools, json_pack("{s:s, s:I}", "name", pool, key, (json_int_t)value));
}

int served_pools(struct client *c, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	if (url_build(&url, buf_str(&c->base), (const char *const[]){"metrics", NULL}, NULL, e) <
	    0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET, .url = url.data, .accept = "text/plain"};
	if (client_perform(c, &call, e) < 0) {
		return -1;
	}
	*out = json_array();
	for (const char *line = buf_str(&call.body); *line != '\0';) {
		const char *end = strchrnul(line, '\n');
		char sample[256];
		(void)snprintf(sample, sizeof(sample), "%.*s",
		    (int)(end - line < 255 ? end - line : 255), line);
		add_sample(*out, sample);
		line = *end == '\0' ? end : end + 1;
	}
	return 0;
}

static int list_pools(struct served *s, struct err *e)
{
	static const struct table_column columns[] = {{"NAME", "name"}, {"SESSIONS", "sessions"},
	    {"MOST", "max_sessions"}, {"RUNNING", "executing_sessions"},
	    {"WAITING", "pending_sessions"}, {"READY", "ready_sessions"}};
	cleanup(json_decrefp) json_t *pools = NULL;
	if (served_pools(&s->client, &pools, e) < 0) {
		return -1;
	}
	return s->output.json ? output_json(&s->output, pools, e)
			      : table_print(&s->output, pools, columns, array_len(columns), e);
}

/* --- one of them --- */

static int show_skill(struct served *s, struct err *e)
{
	const char *const segments[] = {"api", "skills", s->operand, NULL};
	cleanup(json_decrefp) json_t *skill = NULL;
	if (client_get(&s->client, segments, NULL, 0, &skill, e) < 0) {
		return -1;
	}
	if (json_is_null(skill)) {
		return err_set(e, ERR_NOT_FOUND, "there is no skill '%s'", s->operand);
	}
	const json_t *source = json_object_get(skill, "source");
	return s->output.json ? output_json(&s->output, skill, e)
			      : output_bytes(&s->output, STDOUT_FILENO,
				    client_text(skill, "source"), json_string_length(source), e);
}

static int removed(struct served *s, const char *kind, struct err *e)
{
	const char *const segments[] = {"api", kind, s->operand, NULL};
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(json_decrefp) json_t *answer = NULL;
	if (url_build(&url, buf_str(&s->client.base), segments, NULL, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_DELETE, .url = url.data};
	if (client_perform_json(&s->client, &call, &answer, e) < 0) {
		return -1;
	}
	if (json_is_false(answer)) {
		return err_set(e, ERR_NOT_FOUND, "there is no '%s' among the %s", s->operand, kind);
	}
	if (!s->output.json) {
		return 0;
	}
	cleanup(json_decrefp) json_t *document = json_pack("{s:s}", "deleted", s->operand);
	return output_json(&s->output, document, e);
}

static int remove_skill(struct served *s, struct err *e)
{
	return removed(s, "skills", e);
}

static int remove_artifact(struct served *s, struct err *e)
{
	return removed(s, "artifacts", e);
}

struct saving {
	struct output *output;
	struct download download;
};

static int save(struct client_call *call, const char *bytes, size_t len, struct err *e)
{
	struct saving *g = call->arg;
	if (g->download.to_stdout) {
		return output_bytes(g->output, STDOUT_FILENO, bytes, len, e);
	}
	int r = fd_write_all(g->download.fd, bytes, len);
	return r < 0 ? err_set_os(e, -r, "cannot write %s", g->download.final) : 0;
}

/* The bytes as they are kept; without -O to stdout. */
static int get_artifact(struct served *s, struct err *e)
{
	const char *const segments[] = {"api", "artifacts", s->operand, NULL};
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	struct saving g = {.output = &s->output, .download = DOWNLOAD_NONE};
	if (url_build(&url, buf_str(&s->client.base), segments, NULL, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET,
	    .url = url.data,
	    .accept = "application/octet-stream",
	    .on_body = save,
	    .arg = &g,
	};
	int r = download_open(&g.download, s->save_as != NULL ? s->save_as : "-", e);
	r = r < 0 ? r : client_perform(&s->client, &call, e);
	r = r < 0 ? r : download_commit(&g.download, e);
	download_fini(&g.download);
	return r;
}

static int change_deps(struct served *s, const char *how, struct err *e)
{
	const char *const segments[] = {"api", "deps", how, NULL};
	cleanup(json_decrefp) json_t *body = s->operand != NULL
						 ? json_pack("{s:s}", "package", s->operand)
						 : json_object();
	cleanup(json_decrefp) json_t *answer = NULL;
	if (client_post(&s->client, segments, body, NULL, DEPS_IDLE_MS, &answer, e) < 0) {
		return -1;
	}
	if (s->output.json) {
		return output_json(&s->output, answer, e);
	}
	const char *key;
	json_t *value;
	json_object_foreach(answer, key, value)
	{
		size_t i;
		const json_t *name;
		json_array_foreach(value, i, name)
		{
			(void)output_linef(&s->output, "%s: %s", key, json_string_value(name));
		}
	}
	return json_array_size(json_object_get(answer, "failed")) == 0
		   ? 0
		   : err_set(e, ERR_UNAVAILABLE, "not everything could be installed");
}

static int add_dep(struct served *s, struct err *e)
{
	return change_deps(s, "add", e);
}

static int remove_dep(struct served *s, struct err *e)
{
	return change_deps(s, "remove", e);
}

static int sync_deps(struct served *s, struct err *e)
{
	return change_deps(s, "sync", e);
}

/* --- the commands --- */

static const struct verb *find_verb(
    const struct verb *verbs, size_t count, const char *name, struct err *e)
{
	const char *names[8] = {NULL};
	for (size_t i = 0; i < count; i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
		names[i] = verbs[i].name;
	}
	(void)command_unknown_word(name, names, count, e);
	return NULL;
}

static int run(const char *command, const struct verb *verbs, size_t count, int argc, char **argv)
{
	struct options shared;
	struct err e = {0};
	struct served s = {0};
	const struct option_entry own[] = {
	    {.name = "output-file", .letter = 'O', .text = &s.save_as}};
	int first = options_parse(&shared, argc, argv, own, array_len(own), &e);
	const char *name = first >= 0 && first < argc ? argv[first] : "ls";
	const struct verb *verb = first < 0 ? NULL : find_verb(verbs, count, name, &e);
	if (verb == NULL) {
		return command_usage_error(command, &e);
	}
	int operands = argc - first - 1;
	if (operands > 1 || (operands == 1) != (verb->operand != NULL)) {
		(void)err_set(&e, ERR_INVALID, "%s takes %s", name,
		    verb->operand != NULL ? verb->operand : "nothing more");
		return command_usage_error(command, &e);
	}
	s.operand = verb->operand != NULL ? argv[first + 1] : NULL;
	if (s.save_as != NULL && verb->run != get_artifact) {
		(void)err_set(&e, ERR_INVALID, "%s takes no -O", name);
		return command_usage_error(command, &e);
	}
	output_init(&s.output, shared.json);
	int r = client_init(&s.client, &shared, &e);
	r = r < 0 ? r : verb->run(&s, &e);
	int status = r < 0 ? output_failure(&s.output, &s.client, &e) : CLI_EXIT_OK;
	client_fini(&s.client);
	return status;
}

int cmd_pools(int argc, char **argv)
{
	static const struct verb verbs[] = {{"ls", NULL, list_pools}};
	return run("pools", verbs, array_len(verbs), argc, argv);
}

int cmd_skills(int argc, char **argv)
{
	static const struct verb verbs[] = {{"ls", NULL, list_skills},
	    {"show", "one name", show_skill}, {"rm", "one name", remove_skill}};
	return run("skills", verbs, array_len(verbs), argc, argv);
}

int cmd_artifacts(int argc, char **argv)
{
	static const struct verb verbs[] = {{"ls", NULL, list_artifacts},
	    {"get", "one name", get_artifact}, {"rm", "one name", remove_artifact}};
	return run("artifacts", verbs, array_len(verbs), argc, argv);
}

int cmd_deps(int argc, char **argv)
{
	static const struct verb verbs[] = {{"ls", NULL, list_deps},
	    {"add", "one requirement", add_dep}, {"rm", "one requirement", remove_dep},
	    {"sync", NULL, sync_deps}};
	return run("deps", verbs, array_len(verbs), argc, argv);
}

int served_tools(int argc, char **argv)
{
	static const struct verb verbs[] = {{"ls", NULL, list_tools}};
	return run("tools", verbs, array_len(verbs), argc, argv);
}

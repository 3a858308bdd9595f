/* Dependencies: /api/deps for agents, install_deps and uninstall_deps for whoever runs them. */
#include <stdlib.h>
#include <string.h>

#include "api/pcm_ask.h"
#include "api/pcm_form.h"

#define PACKAGES_MAX 100 /* in one request */

/* --- /api/deps ----------------------------------------------------------------------------------
 */

static void ask(struct call *c, const char *method, json_t *arguments, pcm_answer_fn answer)
{
	struct pcm_where w;
	if (!pcm_where(c, &w, false)) {
		json_decref(arguments);
		return;
	}
	struct pcm_question q = {
	    .method = method, .arguments = arguments, .server_space = true, .answer = answer};
	pcm_ask(c, &w.space, &q);
}

void pcm_deps_list(struct call *c)
{
	ask(c, "deps.list", NULL, pcm_answer_result);
}

static json_t *member_or_empty(const json_t *result, const char *name)
{
	json_t *list = json_object_get(result, name);
	return list != NULL ? json_incref(list) : json_array();
}

static void answer_sync(struct call *c, void *state, enum codemode_error code, const json_t *result,
    struct loading *bytes)
{
	if (code == CODEMODE_DENIED) {
		pcm_fail(c, 403, "Runtime dependency installation is disabled");
	} else if (code != CODEMODE_OK) {
		pcm_answer_result(c, state, code, result, bytes);
	} else {
		json_t *answer = json_pack("{s:o, s:o, s:o}", "installed",
		    member_or_empty(result, "installed"), "already_present",
		    member_or_empty(result, "already_present"), "failed",
		    member_or_empty(result, "failed"));
		json_t *reasons = json_object_get(result, "reasons");
		if (json_object_size(reasons) > 0) {
			(void)json_object_set(answer, "reasons", reasons);
		}
		pcm_reply_new(c, 200, answer);
	}
}

void pcm_deps_sync(struct call *c)
{
	ask(c, "deps.sync", NULL, answer_sync);
}

static void drop_package(void *package)
{
	json_decref(package);
}

/* Asks METHOD about the body's "package". ANSWER's state is the package, a reference. */
static void ask_package(struct call *c, const char *method, pcm_answer_fn answer)
{
	struct pcm_form f;
	struct pcm_where w;
	if (pcm_form_open(&f, c, PCM_BODY)) {
		const char *package = pcm_form_text(&f, "package", NULL);
		if (pcm_form_close(&f) && pcm_where(c, &w, false)) {
			struct pcm_question q = {.method = method,
			    .arguments = json_pack("{s:s}", "package", package),
			    .answer = answer,
			    .server_space = true,
			    .state = json_incref(json_object_get(f.body, "package")),
			    .drop = drop_package};
			pcm_ask(c, &w.space, &q);
		}
	}
	pcm_form_fini(&f);
}

static void answer_add(struct call *c, void *package, enum codemode_error code,
    const json_t *result, struct loading *bytes)
{
	json_decref(package);
	answer_sync(c, NULL, code, result, bytes);
}

void pcm_deps_add(struct call *c)
{
	ask_package(c, "deps.add", answer_add);
}

/* P4 tells with a boolean; P5 with lists, and the boolean under another name. A client of P4 always
 * names a session of its own choosing. */
static json_t *removed_json(struct call *c, json_t *package, bool removed)
{
	struct pcm_where w;
	bool is_p4 = pcm_where(c, &w, false) && w.id[0] != '\0' && !w.given;
	if (is_p4) {
		return json_pack("{s:b, s:b}", "removed", removed, "removed_from_config", removed);
	}
	json_t *j = json_pack("{s:[], s:[], s:[], s:b}", "removed", "not_found", "failed",
	    "removed_from_config", removed);
	(void)json_array_append(json_object_get(j, removed ? "removed" : "not_found"), package);
	return j;
}

static void answer_remove(struct call *c, void *package, enum codemode_error code,
    const json_t *result, struct loading *bytes)
{
	if (code == CODEMODE_DENIED) {
		pcm_fail(c, 403, "Runtime dependency modification is disabled");
	} else if (code != CODEMODE_OK) {
		pcm_answer_result(c, NULL, code, result, bytes);
	} else {
		pcm_reply_new(c, 200, removed_json(c, package, json_is_true(result)));
	}
	json_decref(package);
}

void pcm_deps_remove(struct call *c)
{
	ask_package(c, "deps.remove", answer_remove);
}

/* --- install_deps and uninstall_deps ------------------------------------------------------------
 */

/* Packages taken one after the other, so that one which fails is told as such and takes nobody
 * along. */
struct batch {
	bool install;
	struct store_space space; /* its texts are the principal's: they outlive the call */
	json_t *packages;
	size_t next;
	json_t *result; /* {installed, already_present, removed, not_found, failed} */
};

static void batch_free(void *state)
{
	struct batch *b = state;
	json_decref(b->packages);
	json_decref(b->result);
	free(b);
}

static void add_to(struct batch *b, const char *list, json_t *package)
{
	(void)json_array_append(json_object_get(b->result, list), package);
}

/* All of a result's list NAME. */
static void add_all(struct batch *b, const json_t *result, const char *name)
{
	(void)json_array_extend(json_object_get(b->result, name), json_object_get(result, name));
}

static void batch_step(struct call *c, struct batch *b);

static void answer_batch(struct call *c, void *state, enum codemode_error code,
    const json_t *result, struct loading *bytes)
{
	(void)bytes;
	struct batch *b = state;
	json_t *package = json_array_get(b->packages, b->next++);
	if (code == CODEMODE_UNAVAILABLE) {
		pcm_fail_code(c, code, result);
		batch_free(b);
		return;
	}
	if (code != CODEMODE_OK) {
		add_to(b, "failed", package);
	} else if (b->install) {
		add_all(b, result, "installed");
		add_all(b, result, "already_present");
		add_all(b, result, "failed");
	} else {
		add_to(b, json_is_true(result) ? "removed" : "not_found", package);
	}
	batch_step(c, b);
}

/* A name that begins with '-' would be an option of the installer's. */
static bool is_option(const json_t *package)
{
	return json_string_value(package)[0] == '-';
}

static void batch_step(struct call *c, struct batch *b)
{
	json_t *package = json_array_get(b->packages, b->next);
	while (package != NULL && is_option(package)) {
		add_to(b, "failed", package);
		package = json_array_get(b->packages, ++b->next);
	}
	if (package == NULL) {
		pcm_reply(c, 200, b->result);
		batch_free(b);
		return;
	}
	struct pcm_question q = {.method = b->install ? "deps.add" : "deps.remove",
	    .arguments = json_pack("{s:O}", "package", package),
	    .system = true,
	    .server_space = true,
	    .answer = answer_batch,
	    .state = b,
	    .drop = batch_free};
	pcm_ask(c, &b->space, &q);
}

static void batch_start(struct call *c, json_t *packages, bool install)
{
	struct pcm_where w;
	if (!pcm_where(c, &w, false)) {
		return;
	}
	struct batch *b = calloc(1, sizeof(*b));
	if (b == NULL) {
		pcm_fail(c, 500, "Internal Server Error");
		return;
	}
	*b = (struct batch){.install = install,
	    .space = {.prefix = w.space.prefix},
	    .packages = json_incref(packages),
	    .result = json_pack("{s:[], s:[], s:[], s:[], s:[]}", "installed", "already_present",
		"removed", "not_found", "failed")};
	batch_step(c, b);
}

static void batch(struct call *c, bool install)
{
	struct pcm_form f;
	if (pcm_form_open(&f, c, PCM_BODY)) {
		json_t *packages = pcm_form_texts(&f, "packages", PACKAGES_MAX);
		if (pcm_form_close(&f)) {
			batch_start(c, packages, install);
		}
	}
	pcm_form_fini(&f);
}

void pcm_install(struct call *c)
{
	batch(c, true);
}

void pcm_uninstall(struct call *c)
{
	batch(c, false);
}

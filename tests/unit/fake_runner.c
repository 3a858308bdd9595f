#include "fake_runner.h"

#include <stdio.h>
#include <string.h>

void fake_runner_init(struct runner_link *r)
{
	*r = (struct runner_link){0};
}

void fake_runner_fini(struct runner_link *r)
{
	for (int i = 0; i < FAKE_RUNNER_CALLS_MAX; i++) {
		json_decref(r->calls[i].arguments);
	}
	json_decref(r->defined);
}

struct runner_call *fake_runner_last(struct runner_link *r)
{
	for (int i = FAKE_RUNNER_CALLS_MAX; i-- > 0;) {
		if (r->calls[i].open) {
			return &r->calls[i];
		}
	}
	return NULL;
}

static struct runner_call *begin(struct runner_link *r, const char *what, const char *prefix,
    const json_t *arguments, runner_done_fn done, void *ctx)
{
	int free_place = 0;
	while (r->calls[free_place].open) {
		free_place++;
	}
	struct runner_call *c = &r->calls[free_place];
	json_decref(c->arguments);
	*c = (struct runner_call){.open = true, .data_dir_fd = -1, .done = done, .ctx = ctx};
	(void)snprintf(c->what, sizeof(c->what), "%s", what);
	(void)snprintf(c->prefix, sizeof(c->prefix), "%s", prefix != NULL ? prefix : "");
	c->arguments = json_deep_copy(arguments);
	r->begun++;
	return c;
}

static void end(struct runner_link *r, const json_t *result, const struct err *e)
{
	struct runner_call *c = fake_runner_last(r);
	c->open = false;
	c->done(c->ctx, result, e);
}

void fake_runner_answer(struct runner_link *r, json_t *result)
{
	end(r, result, NULL);
	json_decref(result);
}

void fake_runner_fail(struct runner_link *r, enum err_code code, const char *text)
{
	struct err e;
	(void)err_set(&e, code, "%s", text);
	end(r, NULL, &e);
}

void fake_runner_fail_unapproved(struct runner_link *r, const char *definition)
{
	struct err e;
	(void)err_set(&e, ERR_DENIED, "a person has to allow this call");
	json_t *result = json_pack("{s:s}", "definition", definition);
	end(r, result, &e);
	json_decref(result);
}

void runner_define(struct runner_link *r, const char *prefix, const json_t *definitions)
{
	json_decref(r->defined);
	r->defined = json_deep_copy(definitions);
	(void)snprintf(
	    r->defined_prefix, sizeof(r->defined_prefix), "%s", prefix != NULL ? prefix : "");
}

struct runner_call *runner_tool(struct runner_link *r, const char *prefix, const char *tool,
    const char *callable, const json_t *arguments, int data_dir_fd, const char *approved,
    runner_done_fn done, void *ctx)
{
	struct runner_call *c = begin(r, "tool", prefix, arguments, done, ctx);
	(void)snprintf(c->tool, sizeof(c->tool), "%s", tool);
	(void)snprintf(c->callable, sizeof(c->callable), "%s", callable != NULL ? callable : "");
	(void)snprintf(c->approved, sizeof(c->approved), "%s", approved != NULL ? approved : "");
	c->data_dir_fd = data_dir_fd;
	return c;
}

struct runner_call *runner_install(
    struct runner_link *r, const json_t *packages, runner_done_fn done, void *ctx)
{
	return begin(r, "install", NULL, packages, done, ctx);
}

struct runner_call *runner_embed(
    struct runner_link *r, const json_t *texts, runner_done_fn done, void *ctx)
{
	return begin(r, "embed", NULL, texts, done, ctx);
}

struct runner_call *runner_callback(struct runner_link *r, const char *url, const char *id,
    const char *body, runner_done_fn done, void *ctx)
{
	json_t *arguments = json_pack("{s:s, s:s, s:s}", "url", url, "id", id, "body", body);
	struct runner_call *c = begin(r, "callback", NULL, arguments, done, ctx);
	json_decref(arguments);
	return c;
}

void runner_cancel(struct runner_call *c)
{
	if (c != NULL) {
		c->open = false;
		c->cancelled = true;
	}
}

/* A build without a runner: it cannot be started, and so nothing is ever asked of it. */
#include "tools/runner_link.h"

struct runner_link *runner_link_start(uv_loop_t *loop, const struct runner_config *c,
    runner_tools_fn on_tools, void *ctx, struct err *e)
{
	(void)loop;
	(void)c;
	(void)on_tools;
	(void)ctx;
	(void)err_set(e, ERR_UNSUPPORTED, "this build has no runner");
	return NULL;
}

void runner_link_stop(struct runner_link *r)
{
	(void)r;
}

void runner_define(struct runner_link *r, const char *prefix, const json_t *definitions)
{
	(void)r;
	(void)prefix;
	(void)definitions;
}

static struct runner_call *refuse(runner_done_fn done, void *ctx)
{
	struct err e;
	(void)err_set(&e, ERR_UNSUPPORTED, "this build has no runner");
	done(ctx, NULL, &e);
	return NULL;
}

struct runner_call *runner_tool(struct runner_link *r, const char *prefix, const char *tool,
    const char *callable, const json_t *arguments, int data_dir_fd, runner_done_fn done, void *ctx)
{
	(void)r;
	(void)prefix;
	(void)tool;
	(void)callable;
	(void)arguments;
	(void)data_dir_fd;
	return refuse(done, ctx);
}

struct runner_call *runner_install(
    struct runner_link *r, const json_t *packages, runner_done_fn done, void *ctx)
{
	(void)r;
	(void)packages;
	return refuse(done, ctx);
}

struct runner_call *runner_embed(
    struct runner_link *r, const json_t *texts, runner_done_fn done, void *ctx)
{
	(void)r;
	(void)texts;
	return refuse(done, ctx);
}

void runner_cancel(struct runner_call *c)
{
	(void)c;
}

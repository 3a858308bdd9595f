/*
 * runner: what the parts of carrel-runner share. One thread, one loop.
 *
 * A task is one call of the gateway's that is not answered yet. Whoever works on it embeds a struct
 * runner_task, adds it, and later answers once, which takes it out; or is told to cancel, and then
 * does not answer.
 */
#ifndef TOOLS_RUNNER_H
#define TOOLS_RUNNER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include <uv.h>

#include "base/err.h"
#include "ipc/frame.h"
#include "sandbox/command.h"
#include "tools/catalog.h"

#define RUNNER_TEXT_MAX_BYTES (1U << 20) /* of what a tool says */
#define RUNNER_TASKS_MAX 1024

struct runner;
struct fetcher;
struct mcp;
struct installer;

struct runner_task {
	struct runner *runner;
	uint64_t ref;
	/* Stops what runs for it and frees it. It has been taken out already. */
	void (*cancel)(struct runner_task *t);
	UT_hash_handle hh;
};

struct runner {
	uv_loop_t loop;
	uv_poll_t gateway;
	int fd;
	struct ipc_outbox outbox;
	struct ipc_message message;
	json_t *config; /* RUNNER_CONFIG, the secrets taken out */
	json_t *secrets;
	const char *work_dir;
	struct command_walls *walls;
	struct catalog *catalog;
	struct fetcher *fetcher;
	struct mcp *mcp;
	struct installer *installer;
	struct runner_task *tasks; /* by ref */
};

/* 0, or -1 with E when there are too many. */
int runner_task_add(struct runner *r, struct runner_task *t, uint64_t ref,
    void (*cancel)(struct runner_task *t), struct err *e);
/* Takes T out and answers; RESULT is taken over. T itself stays the caller's. */
void runner_task_done(struct runner_task *t, json_t *result);
/* MESSAGE NULL: e->text. Secrets are taken out of it. */
void runner_task_failed(struct runner_task *t, const struct err *e, const char *message);

/* The same for a call that was never a task. */
void runner_answer(struct runner *r, uint64_t ref, json_t *result);
void runner_refuse(struct runner *r, uint64_t ref, const struct err *e);
/* Refuses a call that a person has not allowed; DEFINITION: what it would run. */
void runner_refuse_unapproved(struct runner *r, uint64_t ref, const char *definition);

/* Text that a program said, as a result {text} (new): well-formed, secrets taken out; CUT adds a
 * line that says so. */
json_t *runner_text_result(const struct runner *r, const char *text, size_t len, bool cut);
/* An object (new) of texts with secrets put in. NULL with E. */
json_t *runner_expand(const struct runner *r, const json_t *texts, struct err *e);

/* Sends what waits for the gateway when its socket takes it. runner_main.c */
void runner_watch(struct runner *r);

/* Tells the gateway what tools there are now. */
void runner_tools_changed(struct runner *r);

/* --- the kinds of work. Each answers REF now or later.
 * -------------------------------------------
 */

/* call_cli.c. DATA_DIR_FD stays the caller's. */
void cli_begin(struct runner *r, uint64_t ref, const json_t *tool, const char *callable,
    const json_t *arguments, int data_dir_fd);
/* call_http.c */
void http_begin(struct runner *r, uint64_t ref, const json_t *tool, const char *callable,
    const json_t *arguments);
/* embed.c */
void embed_begin(struct runner *r, uint64_t ref, const json_t *request);
/* callback.c */
void callback_send_begin(struct runner *r, uint64_t ref, const json_t *request);
/* install.c */
void install_begin(struct runner *r, uint64_t ref, const json_t *request);
/* Before the first request; 0, or -1 with E when the configuration is wrong. */
int install_open(struct runner *r, struct err *e);
void install_close(struct runner *r);

#endif

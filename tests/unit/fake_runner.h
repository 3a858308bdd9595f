/* fake_runner: stands in for src/tools/runner_link.c: the test sees each call and says how it ends.
 */
#ifndef FAKE_RUNNER_H
#define FAKE_RUNNER_H

#include "tools/runner_link.h"

#define FAKE_RUNNER_CALLS_MAX 4096

struct runner_call {
	bool open;
	bool cancelled;
	char what[16]; /* "tool", "install", "find", "clean", "embed", "callback" */
	char prefix[64];
	char tool[64];
	char callable[64];
	char approved[65];
	json_t *arguments; /* or packages, texts, a callback's {url, id, body} */
	int data_dir_fd;
	runner_done_fn done;
	void *ctx;
};

struct runner_link {
	struct runner_call calls[FAKE_RUNNER_CALLS_MAX];
	int begun;
	json_t *defined; /* the last definitions, and whose */
	char defined_prefix[64];
};

void fake_runner_init(struct runner_link *r);
void fake_runner_fini(struct runner_link *r);
/* The last call that is open; NULL when there is none. */
struct runner_call *fake_runner_last(struct runner_link *r);
/* Ends it. RESULT is taken over. */
void fake_runner_answer(struct runner_link *r, json_t *result);
/* As for a tool that a person has to allow. */
void fake_runner_fail_unapproved(struct runner_link *r, const char *definition);
void fake_runner_fail(struct runner_link *r, enum err_code code, const char *text);

#endif

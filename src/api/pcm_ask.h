/*
 * pcm_ask: a call that waits for code mode to answer a method, or several in a row.
 *
 * While it waits, c->ctx and c->gone are in use; when the client leaves, the method is given up and
 * the call's state freed with DROP. The one that is told the answer answers the call, or asks again
 * with the same state.
 */
#ifndef API_PCM_ASK_H
#define API_PCM_ASK_H

#include "api/pcm.h"
#include "api/pcm_session.h"

/* As codemode_done_fn, for the call. STATE is the callee's again. */
typedef void (*pcm_answer_fn)(struct call *c, void *state, enum codemode_error code,
    const json_t *result, struct loading *bytes);

struct pcm_question {
	const char *method;
	json_t *arguments; /* taken over; NULL: {} */
	struct buf bytes;  /* taken over: what follows artifacts.save; of no maximum: none */
	bool system;       /* see codemode_call */
	bool server_space; /* tools and dependencies: the workspace does not matter */
	pcm_answer_fn answer;
	void *state;               /* NULL: none */
	void (*drop)(void *state); /* may be NULL */
};

/* Asks Q in the space of W. Whatever happens, Q's arguments and bytes are gone and either ANSWER is
 * called, perhaps before this returns, or DROP, when the client left or the call was answered here
 * because code mode is not there (503). */
void pcm_ask(struct call *c, const struct store_space *space, struct pcm_question *q);

/* The failure of a method as an answer: its message with the status that CODE stands for. */
void pcm_fail_code(struct call *c, enum codemode_error code, const json_t *failure);
/* The failure's message, or a word that there is none. Borrowed from FAILURE. */
const char *pcm_message(const json_t *failure);

/* Answers with what ADD makes of RESULT, perhaps later. */
void pcm_answer_written(struct call *c, const json_t *result, json_add_fn add);

/* ANSWER for a method whose result is the answer as it is. */
void pcm_answer_result(struct call *c, void *state, enum codemode_error code, const json_t *result,
    struct loading *bytes);

#endif

/*
 * fake_codemode: code mode without a store and without a runner: what a method answers is written
 * down before, and what it was asked can be looked at after.
 */
#ifndef TESTS_FAKE_CODEMODE_H
#define TESTS_FAKE_CODEMODE_H

#include "codemode/codemode.h"

#define FAKE_ANSWERS_MAX 16
#define FAKE_ASKED_MAX 128

struct fake_asked {
	char method[64];
	char *arguments; /* JSON text with sorted keys */
	char *bytes;
	size_t len;
	char prefix[80]; /* "" none */
	char workspace[160];
	bool system;
};

struct codemode {
	struct {
		const char *method;
		enum codemode_error code;
		json_t *result;
		const char *bytes;
		size_t len;
	} answers[FAKE_ANSWERS_MAX];
	unsigned answer_count;
	struct fake_asked asked[FAKE_ASKED_MAX];
	unsigned asked_count;
	bool later; /* answers come with fake_codemode_release */
	struct codemode_call *pending;
	unsigned cancelled;
	/* Of artifacts' bytes. PIECE_BYTES: so many at a time, each when fake_codemode_more was
	 * called; 0: all that is asked for. BROKEN_AT: those behind it cannot be read. */
	size_t piece_bytes, broken_at;
	size_t read_bytes;
	unsigned open_count;
	struct loading *dry;
};

/* METHOD answers with RESULT (JSON text) and BYTES (borrowed; NULL: none) from now on. */
void fake_codemode_answer(struct codemode *m, const char *method, enum codemode_error code,
    const char *result, const char *bytes, size_t len);
/* The last thing that was asked. */
const struct fake_asked *fake_codemode_last(const struct codemode *m);
/* Answers what is pending, and what is asked upon it. */
void fake_codemode_release(struct codemode *m);
/* There are more bytes of the artifact that had none. False when there is no such. */
bool fake_codemode_more(struct codemode *m);
void fake_codemode_fini(struct codemode *m);

#endif

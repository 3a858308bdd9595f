/*
 * fake_approvals: approvals without a database: what a function answers is written down before, and
 * what it was asked can be looked at after.
 */
#ifndef TESTS_FAKE_APPROVALS_H
#define TESTS_FAKE_APPROVALS_H

#include "approvals/approvals.h"

#define FAKE_APPROVALS_ASKED_MAX 64

struct approvals {
	/* The next answers: JSON text, or an error when code is not ERR_NONE. The last one stays.
	 */
	struct {
		const char *json;
		enum err_code code;
		const char *text;
	} answers[8];
	unsigned answer_count;
	unsigned next;
	bool later; /* answers come with fake_approvals_release */
	struct approvals_call *pending;
	unsigned cancelled;
	/* What was asked, as text: "submit name=tester tenant=- pool=- {…}". */
	char asked[FAKE_APPROVALS_ASKED_MAX][1024];
	unsigned asked_count;
	struct approvals_watch *watches;
	char audited[16][256];
	unsigned audited_count;
};

/* JSON is answered next, borrowed; after it the ones that follow. */
void fake_approvals_answer(struct approvals *a, const char *json);
void fake_approvals_fail(struct approvals *a, enum err_code code, const char *text);
/* Forgets all that was written down and asked. */
void fake_approvals_reset(struct approvals *a);
const char *fake_approvals_last(const struct approvals *a);
/* Answers what is pending. */
void fake_approvals_release(struct approvals *a);
/* Tells those who watch. */
void fake_approvals_changed(struct approvals *a, const char *id);

#endif

/*
 * pcm_fixture: what the tests of py-code-mode's wire share: one world with a fake code mode a test,
 * and requests in a line.
 */
#ifndef TESTS_PCM_FIXTURE_H
#define TESTS_PCM_FIXTURE_H

#include "aca_fixture.h"
#include "fake_codemode.h"

#define PCM_TEST(fn) cmocka_unit_test_setup_teardown(fn, pcm_setup, pcm_teardown)

extern struct codemode mode;

int pcm_setup(void **state);
int pcm_teardown(void **state);

/* From now on ids that the server did not give are refused. */
void pcm_be_strict(void);

/* Sends BODY (NULL: none) in the session ID (NULL: no header), and expects STATUS. */
void pcm_send(struct fake_call *f, const char *method, const char *target, const char *id,
    const char *body, int status);
/* The same, expecting {"detail": DETAIL}. */
void pcm_expect(const char *method, const char *target, const char *id, const char *body,
    int status, const char *detail);
/* The same, expecting JSON, compared as a tree. */
void pcm_expect_json(const char *method, const char *target, const char *id, const char *body,
    int status, const char *json);
/* A new id of the server's, in WORKSPACE (NULL: none). */
void pcm_new_id(char out[TEXT_GUID_BYTES], const char *workspace);
/* Executions succeed with this value from now on; its JSON as the session says it. */
void pcm_value(enum ipc_kind kind, const char *json, const char *text);

#endif

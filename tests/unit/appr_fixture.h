/* appr_fixture: what the tests of the approvals' wire share: one world with fake approvals a test,
 * and requests in a line. */
#ifndef TESTS_APPR_FIXTURE_H
#define TESTS_APPR_FIXTURE_H

#include "fake_api.h"
#include "fake_approvals.h"

#define APPR_TEST(fn) cmocka_unit_test_setup_teardown(fn, appr_setup, appr_teardown)

extern struct fake_world appr_world;
extern struct approvals appr_fake;

int appr_setup(void **state);
int appr_teardown(void **state);

/* Sends BODY (NULL: none) with a header (NULL: none), and expects STATUS. */
void appr_send(struct fake_call *f, const char *method, const char *target, const char *header,
    const char *value, const char *body, int status);
/* The same without a header, expecting the error's CODE and that its message has TEXT in it. */
void appr_expect_error(const char *method, const char *target, const char *body, int status,
    const char *code, const char *text);
/* Expects STATUS and TEXT as text/plain. */
void appr_expect_plain(
    const char *method, const char *target, const char *body, int status, const char *text);
/* Expects STATUS and that the approvals were asked just ASKED. */
void appr_expect_asked(
    const char *method, const char *target, const char *body, int status, const char *asked);

#endif

/*
 * aca_fixture: what the tests of the dialects share: one world a test, and requests in a line.
 */
#ifndef TESTS_ACA_FIXTURE_H
#define TESTS_ACA_FIXTURE_H

#include "fake_api.h"

#define V "api-version=2025-10-02-preview"
#define ID "identifier=user-0001"
#define Q "?" V "&" ID
#define CODE "{\"code\":\"1+1\"}"

#define ACA_TEST(fn) cmocka_unit_test_setup_teardown(fn, aca_setup, aca_teardown)

extern struct fake_world world;

int aca_setup(void **state);
int aca_teardown(void **state);

/* Executions succeed with this value from now on. */
void value(enum ipc_kind kind, const char *json, const char *text);
/* They raise this from now on. */
void exception(const char *name, const char *message, const char *traceback);
/* They show a bundle of one or (MIME2 not NULL) two items too. */
void add_display(const char *mime, const char *data, const char *mime2, const char *data2);

/* POSTs BODY to ROUTE of the default pool and expects STATUS. */
void post(struct fake_call *f, const char *route, const char *body, int status);
/* The same for a client that reads the members beyond Azure's. */
void post_extended(struct fake_call *f, const char *route, const char *body, int status);
/* Expects the error envelope with CODE, and target AT ("": none). */
void expect_error(const char *method, const char *target, const char *body, int status,
    const char *code, const char *at);

#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "appr_fixture.h"

struct fake_world appr_world;
struct approvals appr_fake;

int appr_setup(void **state)
{
	(void)state;
	fake_world_init(&appr_world);
	appr_world.api.approvals = &appr_fake;
	return 0;
}

int appr_teardown(void **state)
{
	(void)state;
	fake_world_fini(&appr_world);
	fake_approvals_reset(&appr_fake);
	return 0;
}

void appr_send(struct fake_call *f, const char *method, const char *target, const char *header,
    const char *value, const char *body, int status)
{
	fake_start(
	    f, &appr_world, method, target, header, value, body, body == NULL ? 0 : strlen(body));
	assert_int_equal(f->answers, 1);
	if (f->status != status) {
		print_error("%s %s %s: %d %s\n", method, target, body == NULL ? "" : body,
		    f->status, buf_str(&f->body));
	}
	assert_int_equal(f->status, status);
}

void appr_expect_error(const char *method, const char *target, const char *body, int status,
    const char *code, const char *text)
{
	struct fake_call f;
	appr_send(&f, method, target, NULL, NULL, body, status);
	assert_string_equal(fake_text(&f, "error.code"), code);
	if (strstr(fake_text(&f, "error.message"), text) == NULL) {
		print_error("%s %s: %s\n", method, target, fake_text(&f, "error.message"));
		fail();
	}
	assert_int_equal(json_object_size(f.json), 1);
	fake_call_fini(&f);
}

void appr_expect_plain(
    const char *method, const char *target, const char *body, int status, const char *text)
{
	struct fake_call f;
	appr_send(&f, method, target, NULL, NULL, body, status);
	assert_string_equal(fake_header(&f, "Content-Type"), "text/plain; charset=utf-8");
	assert_string_equal(buf_str(&f.body), text);
	fake_call_fini(&f);
}

void appr_expect_asked(
    const char *method, const char *target, const char *body, int status, const char *asked)
{
	struct fake_call f;
	unsigned before = appr_fake.asked_count;
	appr_send(&f, method, target, NULL, NULL, body, status);
	assert_int_equal(appr_fake.asked_count, before + 1);
	assert_string_equal(fake_approvals_last(&appr_fake), asked);
	fake_call_fini(&f);
}

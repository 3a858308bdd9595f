#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aca_fixture.h"

struct fake_world world;

int aca_setup(void **state)
{
	(void)state;
	fake_world_init(&world);
	return 0;
}

int aca_teardown(void **state)
{
	(void)state;
	fake_world_fini(&world);
	return 0;
}

static struct ipc_bytes bytes(const char *text)
{
	return (struct ipc_bytes){text, strlen(text)};
}

void value(enum ipc_kind kind, const char *json, const char *text)
{
	world.script = (struct fake_script){
	    .result = {.kind = (uint8_t)kind,
		.json = bytes(json),
		.text = bytes(text),
		.duration_us = 8600},
	};
}

void exception(const char *name, const char *message, const char *traceback)
{
	world.script = (struct fake_script){
	    .result = {.status = IPC_STATUS_EXCEPTION,
		.error_name = bytes(name),
		.error_value = bytes(message),
		.traceback = bytes(traceback)},
	};
}

static void post_to(
    struct fake_call *f, const char *route, const char *query, const char *body, int status)
{
	char target[512];
	(void)snprintf(target, sizeof(target), "/%s" Q "%s", route, query);
	fake_send(f, &world, "POST", target, body);
	assert_int_equal(f->answers, 1);
	if (f->status != status) {
		print_error("%s: %s\n", body, fake_text(f, "error.message"));
	}
	assert_int_equal(f->status, status);
}

void post(struct fake_call *f, const char *route, const char *body, int status)
{
	post_to(f, route, "", body, status);
}

void post_extended(struct fake_call *f, const char *route, const char *body, int status)
{
	post_to(f, route, "&extensions=true", body, status);
}

void expect_error(const char *method, const char *target, const char *body, int status,
    const char *code, const char *at)
{
	struct fake_call f;
	fake_send(&f, &world, method, target, body);
	assert_int_equal(f.answers, 1);
	if (f.status != status || strcmp(fake_text(&f, "error.code"), code) != 0) {
		print_error("%s %s: %d %s: %s\n", method, target, f.status,
		    fake_text(&f, "error.code"), fake_text(&f, "error.message"));
	}
	assert_int_equal(f.status, status);
	assert_string_equal(fake_text(&f, "error.code"), code);
	assert_string_equal(fake_header(&f, "x-ms-error-code"), code);
	assert_string_equal(fake_text(&f, "error.target"), at);
	assert_int_equal(strlen(fake_text(&f, "error.traceId")), 36);
	assert_true(strlen(fake_text(&f, "error.message")) > 0);
	fake_call_fini(&f);
}

void add_display(const char *mime, const char *data, const char *mime2, const char *data2)
{
	struct ipc_display *d = &world.script.displays[world.script.display_count++];
	d->items[0].mime = mime;
	d->items[0].data = bytes(data);
	d->count = 1;
	if (mime2 != NULL) {
		d->items[1].mime = mime2;
		d->items[1].data = bytes(data2);
		d->count = 2;
	}
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pcm_fixture.h"

struct codemode mode;

int pcm_setup(void **state)
{
	(void)state;
	memset(&mode, 0, sizeof(mode));
	fake_world_init(&world);
	world.api.codemode = &mode;
	return 0;
}

int pcm_teardown(void **state)
{
	(void)state;
	fake_world_fini(&world);
	fake_codemode_fini(&mode);
	return 0;
}

void pcm_be_strict(void)
{
	static const struct pcm_config strict = {
	    .timeout_ms = 30000, .timeout_max_ms = 300000, .strict_sessions = true};
	pcm_free(world.api.pcm);
	world.api.pcm = pcm_new(&strict);
}

void pcm_send(struct fake_call *f, const char *method, const char *target, const char *id,
    const char *body, int status)
{
	fake_start(f, &world, method, target, id == NULL ? NULL : "X-Session-ID", id, body,
	    body == NULL ? 0 : strlen(body));
	fake_pump(&world);
	assert_int_equal(f->answers, 1);
	if (f->status != status) {
		print_error("%s %s %s: %d %s\n", method, target, body == NULL ? "" : body,
		    f->status, buf_str(&f->body));
	}
	assert_int_equal(f->status, status);
}

void pcm_expect(const char *method, const char *target, const char *id, const char *body,
    int status, const char *detail)
{
	struct fake_call f;
	pcm_send(&f, method, target, id, body, status);
	assert_string_equal(fake_text(&f, "detail"), detail);
	assert_int_equal(json_object_size(f.json), 1);
	fake_call_fini(&f);
}

void pcm_expect_json(const char *method, const char *target, const char *id, const char *body,
    int status, const char *json)
{
	struct fake_call f;
	pcm_send(&f, method, target, id, body, status);
	json_t *expected = json_loads(json, JSON_DECODE_ANY, NULL);
	assert_non_null(expected);
	if (!json_equal(f.json, expected)) {
		print_error("%s %s: %s\n", method, target, buf_str(&f.body));
	}
	assert_true(json_equal(f.json, expected));
	json_decref(expected);
	fake_call_fini(&f);
}

void pcm_new_id(char out[TEXT_GUID_BYTES], const char *workspace)
{
	struct fake_call f;
	char body[256] = "{}";
	if (workspace != NULL) {
		(void)snprintf(body, sizeof(body), "{\"workspace_id\":\"%s\"}", workspace);
	}
	pcm_send(&f, "POST", "/sessions", NULL, body, 200);
	assert_int_equal(strlen(fake_text(&f, "session_id")), TEXT_GUID_BYTES - 1);
	memcpy(out, fake_text(&f, "session_id"), TEXT_GUID_BYTES);
	fake_call_fini(&f);
}

void pcm_value(enum ipc_kind kind, const char *json, const char *text)
{
	value(kind, json, text);
}

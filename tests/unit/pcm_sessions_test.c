/* Which session a request of py-code-mode's wire is about: ids of the client's own, ids that the
 * server gives, workspaces, tenants, and how all of them end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pcm_fixture.h"

#define ONE "{\"code\":\"1\"}"
#define COOLDOWN_MS 300000
#define INVALID "Invalid session ID"

static struct session *find(const char *identifier)
{
	return engine_session_find(&world.engine->pools[0], world.prefix, identifier);
}

static unsigned sessions(void)
{
	return world.engine->pools[0].session_count;
}

static void run(const char *id, int status)
{
	struct fake_call f;
	pcm_send(&f, "POST", "/execute", id, ONE, status);
	if (status == 200) {
		assert_string_equal(fake_text(&f, "session_id"), id);
	} else {
		assert_string_equal(fake_text(&f, "detail"), INVALID);
	}
	fake_call_fini(&f);
}

static void pass(uint64_t ms)
{
	engine_tick(world.engine, world.engine->now_ms + ms);
	fake_pump(&world);
}

static void a_clients_own_id_makes_its_session(void **state)
{
	(void)state;
	run("agent-1", 200);
	assert_non_null(find("agent-1"));
	run("agent-1", 200);
	assert_int_equal(sessions(), 1);
	run("0b1b3b7e-5b0e-4c3e-9f5e-0d9a4f3c2b1a", 200); /* as P1 to P4 choose them */
	assert_int_equal(sessions(), 2);
}

/* Ids that the engine would not take name sessions of their own, and no two the same. */
static void free_text_ids_never_meet(void **state)
{
	(void)state;
	static char longest[1000];
	static char longer[1001];
	memset(longest, 'a', sizeof(longest) - 1);
	memset(longer, 'a', sizeof(longer) - 1);
	static const char *const ids[] = {"x", "xy", "\xc3\xa4\xc3\xb6", "a\tb", longest, longer,
	    "sha256:", "sha256:2d711642b726b0",
	    "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"};
	char seen[array_len(ids)][ENGINE_IDENTIFIER_MAX + 1];
	for (size_t i = 0; i < array_len(ids); i++) {
		run(ids[i], 200);
		assert_int_equal(sessions(), 1);
		struct session *s = world.engine->pools[0].sessions;
		assert_true(text_has_prefix(s->identifier, "sha256:"));
		assert_int_equal(strlen(s->identifier), 7 + 64);
		assert_int_equal(engine_identifier_check(s->identifier, NULL), 0);
		memcpy(seen[i], s->identifier, sizeof(seen[i]));
		for (size_t k = 0; k < i; k++) {
			assert_string_not_equal(seen[k], seen[i]);
		}
		/* The digest of "x" in clear is another id than "x". */
		assert_string_not_equal(seen[i], ids[i]);
		pcm_expect("GET", "/sessions", NULL, NULL, 404, "Not Found");
		struct fake_call f;
		pcm_send(&f, "POST", "/reset", ids[i], NULL, 200);
		assert_string_equal(fake_text(&f, "session_id"), ids[i]);
		fake_call_fini(&f);
		assert_int_equal(sessions(), 0);
	}
}

static void an_id_that_is_not_utf8_does_not_break_the_answer(void **state)
{
	(void)state;
	struct fake_call f;
	pcm_send(&f, "POST", "/execute", "caf\xe9-\"1", ONE, 200);
	assert_string_equal(fake_text(&f, "session_id"), "caf\xef\xbf\xbd-\"1");
	fake_call_fini(&f);
	pcm_send(&f, "POST", "/reset", "caf\xe9-\"1", NULL, 200);
	fake_call_fini(&f);
	assert_int_equal(sessions(), 0);
}

static void without_a_header_a_session_of_its_own(void **state)
{
	(void)state;
	struct fake_call f;
	struct fake_call g;
	pcm_send(&f, "POST", "/execute", NULL, ONE, 200);
	pcm_send(&g, "POST", "/execute", "", ONE, 200);
	assert_int_equal(sessions(), 2);
	assert_string_not_equal(fake_text(&f, "session_id"), fake_text(&g, "session_id"));
	assert_non_null(find(fake_text(&f, "session_id")));
	/* It can be gone on with. */
	run(fake_text(&f, "session_id"), 200);
	assert_int_equal(sessions(), 2);
	fake_call_fini(&f);
	fake_call_fini(&g);
}

static void reset_ends_the_session_and_its_id_is_good_at_once(void **state)
{
	(void)state;
	struct fake_call f;
	run("agent-1", 200);
	char guid[TEXT_GUID_BYTES];
	memcpy(guid, find("agent-1")->guid, sizeof(guid));
	pcm_expect_json("POST", "/reset", "agent-1", NULL, 200,
	    "{\"status\":\"reset\",\"session_id\":\"agent-1\"}");
	assert_null(find("agent-1"));
	run("agent-1", 200);
	assert_string_not_equal(find("agent-1")->guid, guid);
	/* One that is not there, and none at all. */
	pcm_expect_json("POST", "/reset", "never-seen", NULL, 200,
	    "{\"status\":\"reset\",\"session_id\":\"never-seen\"}");
	pcm_expect_json(
	    "POST", "/reset", NULL, NULL, 200, "{\"status\":\"reset\",\"session_id\":\"\"}");
	assert_non_null(find("agent-1"));
	/* What runs in it ends, and its caller is told. */
	world.script = (struct fake_script){.silent = true};
	fake_start(&f, &world, "POST", "/execute", "X-Session-ID", "agent-1", ONE, strlen(ONE));
	fake_pump(&world);
	assert_int_equal(f.answers, 0);
	pcm_expect_json("POST", "/reset", "agent-1", NULL, 200,
	    "{\"status\":\"reset\",\"session_id\":\"agent-1\"}");
	assert_int_equal(f.answers, 1);
	assert_string_equal(fake_text(&f, "verdict"), "session_killed");
	fake_call_fini(&f);
}

/* --- ids that the server gives ------------------------------------------------------------------
 */

static void a_given_id_is_good_until_it_is_reset(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	char other[TEXT_GUID_BYTES];
	pcm_new_id(id, NULL);
	pcm_new_id(other, NULL);
	assert_string_not_equal(id, other);
	assert_int_equal(id[14], '4'); /* a UUID of version 4 */
	assert_non_null(strchr("89ab", id[19]));
	assert_int_equal(sessions(), 0);
	run(id, 200);
	run(other, 200);
	assert_int_equal(sessions(), 2);
	struct fake_call f;
	pcm_send(&f, "POST", "/reset", id, NULL, 200);
	fake_call_fini(&f);
	run(id, 400);
	run(other, 200);
	pcm_expect("POST", "/reset", id, NULL, 400, INVALID);
	pcm_expect("GET", "/info", id, NULL, 400, INVALID);
	pcm_expect("GET", "/api/workflows", id, NULL, 400, INVALID);
}

static void a_given_id_ends_with_the_cooldown(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	char unused[TEXT_GUID_BYTES];
	pcm_new_id(id, NULL);
	pcm_new_id(unused, NULL);
	for (int i = 0; i < 3; i++) {
		pass(COOLDOWN_MS - 1000);
		run(id, 200);
	}
	run(unused, 400);
	pass(COOLDOWN_MS + 1000);
	assert_null(find(id));
	run(id, 400);
	assert_int_equal(sessions(), 0);
}

/* As after a restart of the server: the id is known by its form, and is not made anew in the wrong
 * workspace. One digit changed makes it a client's own. */
static void a_given_id_of_another_server_is_refused(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	pcm_new_id(id, "team");
	static const struct pcm_config config = {.timeout_ms = 30000, .timeout_max_ms = 300000};
	pcm_free(world.api.pcm);
	world.api.pcm = pcm_new(&config);
	run(id, 400);
	id[3] = id[3] == '0' ? '1' : '0';
	run(id, 200);
}

/* Whichever wire opens the session of a given id, it is of the id's workspace from its beginning.
 */
static void a_given_id_has_its_workspace_on_the_other_wire(void **state)
{
	(void)state;
	static const char code[] = "{\"code\":\"1\"}";
	char id[TEXT_GUID_BYTES];
	char target[200];
	struct fake_call f;
	pcm_new_id(id, "team");
	(void)snprintf(
	    target, sizeof(target), "/executions?api-version=2025-10-02-preview&identifier=%s", id);
	/* Of another tenant it is only an identifier. */
	world.prefix = "other";
	pcm_send(&f, "POST", target, NULL, code, 200);
	fake_call_fini(&f);
	assert_string_equal(
	    engine_session_find(&world.engine->pools[0], "other", id)->workspace, "");
	world.prefix = NULL;
	pcm_send(&f, "POST", target, NULL, code, 200);
	fake_call_fini(&f);
	assert_string_equal(find(id)->workspace, "team");
	pcm_send(&f, "POST", "/execute", id, ONE, 200);
	fake_call_fini(&f);
	assert_string_equal(find(id)->workspace, "team");
}

static void a_given_id_outlives_a_crash_of_its_session(void **state)
{
	(void)state;
	struct fake_call f;
	char id[TEXT_GUID_BYTES];
	pcm_new_id(id, "team");
	world.script = (struct fake_script){.dies = true};
	pcm_send(&f, "POST", "/execute", id, ONE, 200);
	fake_call_fini(&f);
	assert_null(find(id));
	world.script = (struct fake_script){0};
	pcm_send(&f, "POST", "/execute", id, ONE, 200);
	assert_true(json_is_true(fake_at(&f, "new_session")));
	assert_string_equal(find(id)->workspace, "team");
	fake_call_fini(&f);
}

static void the_table_of_given_ids_is_bounded(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	char first[TEXT_GUID_BYTES];
	pcm_new_id(first, NULL);
	for (unsigned i = 1; i < 65536; i++) {
		pcm_new_id(id, NULL);
	}
	pcm_expect("POST", "/sessions", NULL, "{}", 429,
	    "The server has given out as many session IDs as it may");
	run(first, 200);
	/* The others run out; the one in use stays. */
	pass(COOLDOWN_MS - 1000);
	run(first, 200);
	pass(2000);
	pcm_new_id(id, NULL);
	run(first, 200);
	run(id, 200);
}

static void a_tenant_that_takes_all_ids_takes_none_from_another(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	char of_b[TEXT_GUID_BYTES];
	world.prefix = "tenant-b";
	pcm_new_id(of_b, NULL);
	world.prefix = "tenant-a";
	for (unsigned i = 1; i < 65536; i++) {
		pcm_new_id(id, NULL);
	}
	pcm_expect("POST", "/sessions", NULL, "{}", 429,
	    "The server has given out as many session IDs as it may");
	world.prefix = "tenant-c";
	for (unsigned i = 0; i < 10; i++) {
		pcm_new_id(id, NULL);
	}
	run(id, 200);
	world.prefix = "tenant-b";
	run(of_b, 200);
	pcm_new_id(id, NULL);
	run(id, 200);
	world.prefix = "tenant-a";
	pcm_expect("POST", "/sessions", NULL, "{}", 429,
	    "The server has given out as many session IDs as it may");
	world.prefix = NULL;
}

static void workspaces_are_checked(void **state)
{
	(void)state;
	static const char rule[] = "workspace_id must be 1-128 characters using only ASCII "
				   "letters, digits, underscores, or "
				   "hyphens";
	static const char *const bad[] = {
	    "", "a/b", "../x", "a b", "a.b", "a:b", "\\u00e4", "a\\n"};
	char body[300];
	for (size_t i = 0; i < array_len(bad); i++) {
		(void)snprintf(body, sizeof(body), "{\"workspace_id\":\"%s\"}", bad[i]);
		pcm_expect("POST", "/sessions", NULL, body, 400, rule);
	}
	char name[130];
	memset(name, 'w', sizeof(name) - 1);
	name[129] = '\0';
	(void)snprintf(body, sizeof(body), "{\"workspace_id\":\"%s\"}", name);
	pcm_expect("POST", "/sessions", NULL, body, 400, rule);
	name[128] = '\0';
	char id[TEXT_GUID_BYTES];
	pcm_new_id(id, name);
	run(id, 200);
	assert_string_equal(find(id)->workspace, name);
	struct fake_call f;
	pcm_send(&f, "POST", "/sessions", NULL, "{\"workspace_id\":5}", 422);
	fake_call_fini(&f);
	pcm_send(&f, "POST", "/sessions", NULL, "{\"workspace_id\":\"a\\u0000b\"}", 422);
	fake_call_fini(&f);
	pcm_send(&f, "POST", "/sessions", NULL, NULL, 200);
	fake_call_fini(&f);
	pcm_send(&f, "POST", "/sessions", NULL, "{\"workspace_id\":null}", 200);
	fake_call_fini(&f);
}

/* --- strict -------------------------------------------------------------------------------------
 */

static void strict_refuses_what_the_server_did_not_give(void **state)
{
	(void)state;
	pcm_be_strict();
	run("agent-1", 400);
	pcm_expect("POST", "/reset", "agent-1", NULL, 400, INVALID);
	pcm_expect("POST", "/reset", NULL, NULL, 400, INVALID);
	pcm_expect("GET", "/info", "agent-1", NULL, 400, INVALID);
	pcm_expect("GET", "/api/workflows", "agent-1", NULL, 400, INVALID);
	pcm_expect("GET", "/sessions", NULL, NULL, 405, "Method Not Allowed");
	assert_int_equal(sessions(), 0);
	char id[TEXT_GUID_BYTES];
	pcm_new_id(id, NULL);
	run(id, 200);
	struct fake_call f;
	pcm_send(&f, "POST", "/execute", NULL, ONE, 200);
	run(fake_text(&f, "session_id"), 200);
	fake_call_fini(&f);
}

/* --- tenants ------------------------------------------------------------------------------------
 */

static void tenants_do_not_meet(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	world.prefix = "tenant-a";
	pcm_new_id(id, "team");
	run(id, 200);
	run("agent-1", 200);
	struct session *mine = find("agent-1");
	assert_string_equal(mine->tenant, "tenant-a");
	char guid[TEXT_GUID_BYTES];
	memcpy(guid, mine->guid, sizeof(guid));
	world.prefix = "tenant-b";
	run(id, 400);
	pcm_expect("POST", "/reset", id, NULL, 400, INVALID);
	struct fake_call f;
	pcm_send(&f, "POST", "/reset", "agent-1", NULL, 200);
	fake_call_fini(&f);
	run("agent-1", 200);
	assert_string_not_equal(find("agent-1")->guid, guid);
	world.prefix = "tenant-a";
	assert_string_equal(find("agent-1")->guid, guid);
	run(id, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    PCM_TEST(a_clients_own_id_makes_its_session),
	    PCM_TEST(free_text_ids_never_meet),
	    PCM_TEST(an_id_that_is_not_utf8_does_not_break_the_answer),
	    PCM_TEST(without_a_header_a_session_of_its_own),
	    PCM_TEST(reset_ends_the_session_and_its_id_is_good_at_once),
	    PCM_TEST(a_given_id_is_good_until_it_is_reset),
	    PCM_TEST(a_given_id_ends_with_the_cooldown),
	    PCM_TEST(a_given_id_of_another_server_is_refused),
	    PCM_TEST(a_given_id_outlives_a_crash_of_its_session),
	    PCM_TEST(a_given_id_has_its_workspace_on_the_other_wire),
	    PCM_TEST(the_table_of_given_ids_is_bounded),
	    PCM_TEST(a_tenant_that_takes_all_ids_takes_none_from_another),
	    PCM_TEST(workspaces_are_checked),
	    PCM_TEST(strict_refuses_what_the_server_did_not_give),
	    PCM_TEST(tenants_do_not_meet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

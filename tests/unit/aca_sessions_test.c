/* Sessions, metadata, /health and /metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aca_fixture.h"

/* --- sessions and the server
 * -------------------------------------------------------------------------------- */

static void test_sessions(void **state)
{
	(void)state;
	struct fake_call f;
	static const char none[] = "SessionWithIdentifierNotFound";
	expect_error("GET", "/session" Q, NULL, 400, none, "identifier");
	expect_error("DELETE", "/session" Q, NULL, 400, none, "identifier");
	expect_error("POST", "/.management/stopSession" Q, NULL, 400, none, "identifier");
	value(IPC_KIND_NONE, "", "");
	post(&f, "executions", CODE, 200);
	fake_call_fini(&f);
	static const char *const looks[][2] = {
	    {"GET", "/session" Q}, {"POST", "/.management/getSession" Q}};
	for (size_t i = 0; i < 2; i++) {
		fake_send(&f, &world, looks[i][0], looks[i][1], NULL);
		assert_int_equal(f.status, 200);
		assert_string_equal(fake_text(&f, "identifier"), "user-0001");
		assert_int_equal(strlen(fake_text(&f, "createdAt")), 28);
		assert_true(strcmp(fake_text(&f, "expireAt"), fake_text(&f, "lastAccessedAt")) > 0);
		assert_int_equal(strlen(fake_text(&f, "etag")), 36);
		fake_call_fini(&f);
	}
	fake_send(&f, &world, "GET", "/listSessions?" V, NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 1);
	assert_string_equal(fake_text(&f, "sessions.0.identifier"), "user-0001");
	assert_null(fake_at(&f, "nextLink"));
	fake_call_fini(&f);
	fake_send(&f, &world, "DELETE", "/session" Q, NULL);
	assert_int_equal(f.status, 204);
	assert_int_equal(f.body.len, 0);
	fake_call_fini(&f);
	expect_error("GET", "/session" Q, NULL, 400, none, "identifier");
	post(&f, "executions", CODE, 200);
	fake_call_fini(&f);
	fake_send(&f, &world, "POST", "/.management/stopSession" Q, NULL);
	assert_int_equal(f.status, 200);
	assert_int_equal(world.engine->pools[0].session_count, 0);
	fake_call_fini(&f);
}

static void test_sessions_pages(void **state)
{
	(void)state;
	struct fake_call f;
	world.engine->pools[0].config.max_sessions = 150;
	for (int i = 0; i < 150; i++) {
		char id[32];
		(void)snprintf(id, sizeof(id), "user-%03d", i);
		assert_non_null(engine_session_open(&world.engine->pools[0], NULL, id, NULL));
	}
	fake_pump(&world);
	fake_send(&f, &world, "GET", "/a/sessionPools/default/listSessions?" V, NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 100);
	assert_string_equal(
	    fake_text(&f, "nextLink"), "/a/sessionPools/default/listSessions?" V "&skip=100");
	char next[256];
	(void)snprintf(next, sizeof(next), "%s", fake_text(&f, "nextLink"));
	fake_call_fini(&f);
	fake_send(&f, &world, "GET", next, NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 50);
	assert_string_equal(fake_text(&f, "sessions.0.identifier"), "user-100");
	assert_null(fake_at(&f, "nextLink"));
	fake_call_fini(&f);
	fake_send(&f, &world, "POST", "/.management/listSessions?" V "&skip=149", NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 1);
	fake_call_fini(&f);
}

static void test_metadata(void **state)
{
	(void)state;
	struct fake_call f;
	fake_send(&f, &world, "GET", "/metadata?" V, NULL);
	assert_string_equal(fake_text(&f, "runtimes.0.name"), "Python");
	assert_string_equal(fake_text(&f, "runtimes.0.version"), "3.11.2");
	assert_string_equal(fake_text(&f, "preInstalledPackages.1.name"), "pandas");
	assert_string_equal(fake_text(&f, "preInstalledPackages.1.version"), "1.5.3");
	assert_string_equal(fake_text(&f, "createdAt"), "2024-05-02T07:21:07.9922610Z");
	fake_call_fini(&f);
}

static void test_health_and_metrics(void **state)
{
	(void)state;
	struct fake_call f;
	fake_send(&f, &world, "GET", "/health", NULL);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "message"), "healthy");
	assert_string_equal(fake_text(&f, "status"), "healthy");
	fake_call_fini(&f);
	value(IPC_KIND_NONE, "", "");
	post(&f, "executions", CODE, 200);
	fake_call_fini(&f);
	histogram_add(&world.engine->turn, 150000);
	fake_send(&f, &world, "GET", "/metrics", NULL);
	static const char *const lines[] = {
	    "# TYPE carrel_pool_ready_sessions gauge\n",
	    "\ncarrel_pool_sessions{pool=\"default\"} 1\n",
	    "\ncarrel_executions_total{pool=\"default\",verdict=\"succeeded\"} 1\n",
	    "\ncarrel_executions_total{pool=\"sh\",verdict=\"time_limit\"} 0\n",
	    "\ncarrel_execution_seconds_bucket{pool=\"default\",le=\"+Inf\"} 1\n",
	    "\ncarrel_session_create_seconds_count{pool=\"default\"} 1\n",
	    "\ncarrel_loop_turn_seconds_bucket{le=\"0.1\"} 0\n",
	    "\ncarrel_loop_turn_seconds_bucket{le=\"0.2\"} 1\n",
	    "\ncarrel_loop_turn_seconds_sum 0.150000\n",
	};
	for (size_t i = 0; i < array_len(lines); i++) {
		assert_non_null(strstr(buf_str(&f.body), lines[i]));
	}
	assert_int_equal(f.call.route->role, ROLE_METRICS);
	fake_call_fini(&f);
}

static void expect_state(const char *path, int status, const char *word)
{
	struct fake_call f;
	fake_send(&f, &world, "GET", path, NULL);
	assert_int_equal(f.status, status);
	assert_string_equal(fake_text(&f, "status"), word);
	assert_string_equal(fake_text(&f, "message"), word);
	fake_call_fini(&f);
}

static void a_server_that_starts_is_alive_and_not_ready(void **state)
{
	(void)state;
	expect_state("/health", 200, "healthy");
	expect_state("/ready", 200, "ready");
	const char *version = world.api.python_version;
	world.api.python_version = "";
	expect_state("/health", 200, "starting");
	expect_state("/ready", 503, "starting");
	world.api.python_version = version;
	world.engine->draining = true;
	expect_state("/health", 503, "draining");
	expect_state("/ready", 503, "draining");
	world.engine->draining = false;
}

static void metrics_are_not_for_a_tenant(void **state)
{
	(void)state;
	struct fake_call f;
	world.prefix = "acme";
	fake_send(&f, &world, "GET", "/metrics", NULL);
	assert_int_equal(f.status, 403);
	assert_string_equal(fake_text(&f, "error.code"), "Forbidden");
	fake_call_fini(&f);
	world.prefix = NULL;
	world.token_pool = "sh";
	fake_send(&f, &world, "GET", "/metrics", NULL);
	assert_int_equal(f.status, 200);
	assert_non_null(strstr(buf_str(&f.body), "carrel_pool_sessions{pool=\"sh\"}"));
	assert_null(strstr(buf_str(&f.body), "pool=\"default\""));
	fake_call_fini(&f);
	world.token_pool = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ACA_TEST(test_sessions),
	    ACA_TEST(test_sessions_pages),
	    ACA_TEST(test_metadata),
	    ACA_TEST(test_health_and_metrics),
	    ACA_TEST(a_server_that_starts_is_alive_and_not_ready),
	    ACA_TEST(metrics_are_not_for_a_tenant),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

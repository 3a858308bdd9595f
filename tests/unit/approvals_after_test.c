/* What goes on once an approval is final: callbacks until they are delivered, files as artifacts.
 */
#include "approvals_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/fd.h"

#define URL "https://hooks.example.com/in/a"

static int setup(void **state)
{
	struct world *w = world_new();
	w->a = world_open(w);
	*state = w;
	return 0;
}

static void until(struct world *w, const char *id, const char *state)
{
	world_until(w, strcmp(world_state(w, w->a, id), state) == 0);
}

static void until_event(struct world *w, const char *id, const char *kind, unsigned count)
{
	world_until(w, world_events(w, w->a, id, kind) >= count);
	assert_int_equal(world_events(w, w->a, id, kind), count);
}

/* --- callbacks -----------------------------------------------------------------------------------
 */

static const char *rejected(struct world *w)
{
	const char *id = world_submit(
	    w, w->a, "secret code", "before", json_pack("{s:{s:s}}", "callback", "url", URL));
	world_decide(w, w->a, id, NULL, false);
	return id;
}

static struct runner_call *sent(struct world *w)
{
	world_until(w, fake_runner_last(&w->runner) != NULL);
	struct runner_call *c = fake_runner_last(&w->runner);
	assert_string_equal(c->what, "callback");
	return c;
}

static void answer(struct world *w, int status)
{
	(void)sent(w);
	fake_runner_answer(&w->runner, json_pack("{s:i}", "status", status));
}

static void it_is_told_what_came_of_it(void **state)
{
	struct world *w = *state;
	const char *id = rejected(w);
	struct runner_call *c = sent(w);
	char delivery[80];
	(void)snprintf(delivery, sizeof(delivery), "%s:rejected", id);
	assert_string_equal(json_string_value(json_object_get(c->arguments, "id")), delivery);
	assert_string_equal(json_string_value(json_object_get(c->arguments, "url")), URL);
	cleanup(json_decrefp) json_t *body = json_loads(
	    json_string_value(json_object_get(c->arguments, "body")), 0, NULL);
	assert_string_equal(json_string_value(json_object_get(body, "id")), delivery);
	assert_string_equal(json_string_value(json_object_get(body, "event")), "approval.rejected");
	const json_t *approval = json_object_get(body, "approval");
	assert_string_equal(json_string_value(json_object_get(approval, "state")), "rejected");
	assert_null(json_object_get(approval, "code"));
	assert_null(json_object_get(approval, "tenant"));
	answer(w, 204);
	until_event(w, id, "callback_delivered", 1);
	world_pass_us(3600000000LL);
	world_turns(w, 50);
	assert_null(fake_runner_last(&w->runner));
	struct approvals_counts counts;
	approvals_counts(w->a, &counts);
	assert_int_equal(counts.callbacks_delivered, 1);
	assert_int_equal(counts.callbacks_failed, 0);
}

static void what_fails_is_sent_again_with_the_same_id(void **state)
{
	struct world *w = *state;
	const char *id = rejected(w);
	char first[80];
	(void)snprintf(first, sizeof(first), "%s",
	    json_string_value(json_object_get(sent(w)->arguments, "id")));
	answer(w, 500);
	until_event(w, id, "callback_failed", 1);
	world_turns(w, 50);
	assert_null(fake_runner_last(&w->runner)); /* not at once */
	world_pass_us(2000000);
	assert_string_equal(json_string_value(json_object_get(sent(w)->arguments, "id")), first);
	fake_runner_fail(&w->runner, ERR_TIMEOUT, "no answer within 10 s");
	until_event(w, id, "callback_failed", 2);
	world_pass_us(1000000);
	world_turns(w, 50);
	assert_null(fake_runner_last(&w->runner)); /* longer each time */
	world_pass_us(2000000);
	answer(w, 200);
	until_event(w, id, "callback_delivered", 1);
}

static void it_is_given_up_at_last(void **state)
{
	struct world *w = *state;
	const char *id = rejected(w);
	for (int i = 0; i < 3; i++) {
		answer(w, i == 0 ? 302 : 404);
		world_pass_us(10000000);
	}
	until_event(w, id, "callback_given_up", 1);
	assert_int_equal(world_events(w, w->a, id, "callback_failed"), 2);
	world_pass_us(7200000000LL);
	world_turns(w, 50);
	assert_null(fake_runner_last(&w->runner));
}

/* A runner that is away says nothing about the other side. */
static void an_away_runner_is_no_attempt(void **state)
{
	struct world *w = *state;
	const char *id = rejected(w);
	for (int i = 0; i < 5; i++) {
		(void)sent(w);
		fake_runner_fail(&w->runner, ERR_UNAVAILABLE, "the runner is gone");
		world_turns(w, 20);
		world_pass_us(10000000);
	}
	answer(w, 500);
	until_event(w, id, "callback_failed", 1);
	assert_int_equal(world_events(w, w->a, id, "callback_given_up"), 0);
}

static void a_url_that_is_not_allowed_any_more_is_given_up(void **state)
{
	static const char *const other[] = {"https://elsewhere.example.com"};
	struct world *w = *state;
	const char *id = world_submit(
	    w, w->a, "x", "before", json_pack("{s:{s:s}}", "callback", "url", URL));
	world_close(w, &w->a);
	w->config.callback_prefixes = other;
	w->a = world_open(w);
	world_decide(w, w->a, id, NULL, true);
	world_until(w, world_running(w, "x") != NULL);
	world_answer(world_running(w, "x"), NULL);
	until_event(w, id, "callback_given_up", 1);
	assert_int_equal(w->runner.begun, 0);
}

static void one_on_its_way_is_sent_again_after_a_restart(void **state)
{
	struct world *w = *state;
	const char *id = rejected(w);
	struct runner_call *c = sent(w);
	world_close(w, &w->a);
	assert_true(c->cancelled);
	w->a = world_open(w);
	answer(w, 200);
	until_event(w, id, "callback_delivered", 1);
}

/* --- promotion -----------------------------------------------------------------------------------
 */

static void put(const struct world_worker *at, const char *name, const char *bytes, size_t len)
{
	cleanup(fd_close) int fd = openat(at->dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, bytes, len), 0);
}

static void on_artifact(void *ctx, json_t *record, const struct err *e)
{
	*(json_t **)ctx = e != NULL || record == NULL ? json_null() : json_incref(record);
}

/* "text", "bytes", or "" when there is none. */
static const char *type_of(struct world *w, const char *tenant, const char *name)
{
	static char type[16];
	json_t *record = NULL;
	const struct store_space space = {.prefix = tenant};
	(void)store_artifact_get(w->store, &space, name, on_artifact, &record);
	world_until(w, record != NULL);
	const char *text = json_string_value(json_object_get(record, "type"));
	(void)snprintf(type, sizeof(type), "%s", text != NULL ? text : "");
	json_decref(record);
	return type;
}

static const char *promoting(struct world *w, const char *policy, const char *prefix)
{
	return world_submit(w, w->a, "make()", policy,
	    json_pack(
		"{s:{s:[s, s], s:s}}", "promote", "files", "*.txt", "*.bin", "prefix", prefix));
}

static void approved_files_become_artifacts(void **state)
{
	struct world *w = *state;
	const char *id = promoting(w, NULL, "reports/q3-");
	world_until(w, world_running(w, "make()") != NULL);
	put(world_running(w, "make()"), "a.txt", "one", 3);
	put(world_running(w, "make()"), "empty.txt", "", 0);
	put(world_running(w, "make()"), "b.bin", "\xff\0x", 3);
	put(world_running(w, "make()"), "c.csv", "left out", 8);
	world_answer(world_running(w, "make()"), NULL);
	until(w, id, "waiting");
	/* A person sees what would be promoted; nothing is, yet. */
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	const json_t *files = json_object_get(
	    json_object_get(json_object_get(all, "approval"), "result"), "files");
	assert_int_equal(json_array_size(files), 3);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(files, 0), "name")), "a.txt");
	assert_string_equal(type_of(w, "red", "reports/q3-a.txt"), "");
	world_decide(w, w->a, id, NULL, true);
	until_event(w, id, "promoted", 1);
	assert_string_equal(type_of(w, "red", "reports/q3-a.txt"), "text");
	assert_string_equal(type_of(w, "red", "reports/q3-empty.txt"), "text");
	assert_string_equal(type_of(w, "red", "reports/q3-b.bin"), "bytes");
	assert_string_equal(type_of(w, "red", "reports/q3-c.csv"), "");
	/* Not the server's own, and not another tenant's. */
	assert_string_equal(type_of(w, NULL, "reports/q3-a.txt"), "");
	assert_string_equal(type_of(w, "blue", "reports/q3-a.txt"), "");
}

static void rejected_files_do_not(void **state)
{
	struct world *w = *state;
	const char *id = promoting(w, NULL, "");
	world_until(w, world_running(w, "make()") != NULL);
	put(world_running(w, "make()"), "a.txt", "one", 3);
	world_answer(world_running(w, "make()"), NULL);
	until(w, id, "waiting");
	world_decide(w, w->a, id, NULL, false);
	world_turns(w, 100);
	assert_string_equal(type_of(w, "red", "a.txt"), "");
	assert_int_equal(world_events(w, w->a, id, "promoted"), 0);
}

static void what_does_not_fit_is_told_to_the_reviewer(void **state)
{
	struct world *w = *state;
	const char *id = promoting(w, NULL, "");
	world_until(w, world_running(w, "make()") != NULL);
	put(world_running(w, "make()"), "big.bin", "", 0);
	cleanup(fd_close) int fd = openat(
	    world_running(w, "make()")->dir_fd, "big.bin", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, (16 << 20) + 1), 0);
	world_answer(world_running(w, "make()"), "1");
	until(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	const json_t *result = json_object_get(json_object_get(all, "approval"), "result");
	assert_non_null(
	    strstr(json_string_value(json_object_get(result, "files_problem")), "16 MiB"));
	assert_null(json_object_get(result, "files"));
}

/* The store refuses the name (its index), now and ever. */
static void a_name_the_store_refuses_is_given_up(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "make()", "rules",
	    json_pack("{s:{s:[s]}}", "promote", "files", ".artifacts.json"));
	world_until(w, world_running(w, "make()") != NULL);
	put(world_running(w, "make()"), ".artifacts.json", "{}", 2);
	world_answer(world_running(w, "make()"), NULL);
	until_event(w, id, "promote_failed", 1);
	world_pass_us(7200000000LL);
	world_turns(w, 50);
	assert_int_equal(world_events(w, w->a, id, "promote_failed"), 1);
	assert_string_equal(world_state(w, w->a, id), "approved");
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WITH_WORLD(it_is_told_what_came_of_it),
	    WITH_WORLD(what_fails_is_sent_again_with_the_same_id),
	    WITH_WORLD(it_is_given_up_at_last),
	    WITH_WORLD(an_away_runner_is_no_attempt),
	    WITH_WORLD(a_url_that_is_not_allowed_any_more_is_given_up),
	    WITH_WORLD(one_on_its_way_is_sent_again_after_a_restart),
	    WITH_WORLD(approved_files_become_artifacts),
	    WITH_WORLD(rejected_files_do_not),
	    WITH_WORLD(what_does_not_fit_is_told_to_the_reviewer),
	    WITH_WORLD(a_name_the_store_refuses_is_given_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

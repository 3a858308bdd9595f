/*
 * commits URL SECONDS OUTSTANDING: how many state transitions of approvals a second are committed
 * to the database of URL, with so many asked for at once from one loop, as JSON.
 *
 * Each approval is submitted for a person to look at (waiting) and then approved (queued): two
 * transitions, each with its events, its tasks and its link of the audit's chain. The time of one
 * is from asking until the answer, which comes after the commit.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/store.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/text.h"
#include "samples.h"

#define OUTSTANDING_MAX 4096
#define SECONDS_MAX 600
#define WARM_UP_NS 500000000ULL

struct bench {
	uv_loop_t loop;
	struct approval_store *store;
	struct samples times;
	uint64_t from_ns, until_ns; /* what is asked for in between is measured */
	uint64_t counted;
	uint32_t busy;
	const char *failure;
	char text[512];
};

struct asker {
	struct bench *bench;
	char id[TEXT_GUID_BYTES];
	bool submitted;
	uint64_t asked_ns;
};

static void on_answer(void *ctx, const json_t *answer, const struct err *e);

static json_t *submission(const struct asker *a)
{
	static const char sha256[] =
	    "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:I}, s:I, s:I}", "id", a->id,
	    "tenant", "", "pool", "default", "kind", "code", "policy", "before", "submitter",
	    "bench", "code", "print('what a person is to look at')", "code_sha256", sha256,
	    "settings", "deadline_ms", (json_int_t)86400000, "now_us", (json_int_t)clock_wall_us(),
	    "open_max", (json_int_t)INT64_MAX);
}

static json_t *decision(const struct asker *a)
{
	return json_pack("{s:s, s:n, s:s, s:b, s:s, s:n, s:I, s:b}", "id", a->id, "tenant", "stage",
	    "code", "approve", 1, "by", "somebody", "reason", "now_us", (json_int_t)clock_wall_us(),
	    "own", 1);
}

static void ask(struct asker *a)
{
	struct bench *b = a->bench;
	if (!a->submitted) {
		(void)text_guid(a->id);
	}
	json_t *in = a->submitted ? decision(a) : submission(a);
	a->asked_ns = samples_now_ns();
	if (in == NULL ||
	    approval_store_write(b->store, a->submitted ? records_decide : records_submit, in,
		on_answer, a) == NULL) {
		b->failure = "out of memory";
		b->busy--;
	}
}

static void on_answer(void *ctx, const json_t *answer, const struct err *e)
{
	struct asker *a = ctx;
	struct bench *b = a->bench;
	uint64_t now_ns = samples_now_ns();
	if (e != NULL || json_object_get(answer, "approval") == NULL) {
		(void)snprintf(b->text, sizeof(b->text), "%s", e != NULL ? e->text : "no approval");
		b->failure = b->text;
	}
	if (now_ns >= b->from_ns && now_ns < b->until_ns) {
		b->counted++;
		(void)samples_add(&b->times, now_ns - a->asked_ns);
	}
	if (now_ns >= b->until_ns || b->failure != NULL) {
		b->busy--;
		return;
	}
	a->submitted = !a->submitted;
	ask(a);
}

static void run(struct bench *b, uint64_t seconds, uint32_t outstanding)
{
	static struct asker askers[OUTSTANDING_MAX];
	b->from_ns = samples_now_ns() + WARM_UP_NS;
	b->until_ns = b->from_ns + seconds * 1000000000ULL;
	for (uint32_t i = 0; i < outstanding; i++) {
		askers[i].bench = b;
		b->busy++;
		ask(&askers[i]);
	}
	while (b->busy > 0) {
		(void)uv_run(&b->loop, UV_RUN_ONCE);
	}
}

static void print(struct bench *b, uint64_t seconds)
{
	struct approval_store_counts c;
	approval_store_counts(b->store, &c);
	(void)printf("{\"per_second\": %.1f, \"changes_per_commit\": %.1f, \"failures\": %" PRIu64
		     ", ",
	    (double)b->counted / (double)seconds,
	    c.commits > 0 ? (double)c.changes / (double)c.commits : 0.0, c.failures);
	samples_print(&b->times, stdout);
	(void)printf("}\n");
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct err e = {0};
	uint64_t seconds, outstanding;
	if (argc != 4 || text_to_u64(argv[2], SECONDS_MAX, &seconds) < 0 || seconds == 0 ||
	    text_to_u64(argv[3], OUTSTANDING_MAX, &outstanding) < 0 || outstanding == 0) {
		(void)fputs("use: commits URL SECONDS OUTSTANDING\n", stderr);
		return 2;
	}
	(void)uv_loop_init(&b.loop);
	b.store = approval_store_new(&b.loop, argv[1], NULL, NULL, &e);
	if (b.store == NULL) {
		(void)fprintf(stderr, "commits: %s\n", e.text);
		return EXIT_FAILURE;
	}
	run(&b, seconds, (uint32_t)outstanding);
	if (b.failure != NULL) {
		(void)fprintf(stderr, "commits: %s\n", b.failure);
	} else {
		print(&b, seconds);
	}
	approval_store_free(b.store);
	(void)uv_run(&b.loop, UV_RUN_DEFAULT);
	samples_fini(&b.times);
	return b.failure == NULL ? EXIT_SUCCESS : EXIT_FAILURE;
}

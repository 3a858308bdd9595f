/*
 * approvals_world: approvals over a real SQLite file and a real engine, whose workers the test
 * plays. Two servers, A and B, may share the file; both have the same engine and the fake runner.
 *
 * A setup makes a world, begins A with world_open, and lists world_teardown.
 */
#ifndef APPROVALS_WORLD_H
#define APPROVALS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "approvals/approvals.h"
#include "fake_runner.h"
#include "fake_work.h"

#define WORLD_WORKERS_MAX 32

struct world_worker {
	struct worker *worker; /* NULL: the place is free */
	bool ready, killed, interrupted;
	bool executing;
	uint64_t seq;
	char code[256];
	int dir_fd;
	char dir[80];
};

struct world {
	uv_loop_t loop;
	char base[64];
	char url[96];
	struct fake_work work;
	struct engine *engine;
	struct store *store;
	struct runner_link runner;
	struct world_worker workers[WORLD_WORKERS_MAX];
	struct approvals_pool pools[2]; /* "default" of 2 places, "other" of 1 */
	struct approvals_config config; /* to be changed before world_open */
	struct approvals *a, *b;
	bool no_workers; /* spawning fails */
};

/* Defaults: all policies, "after"; a deadline of an hour, at most a day. */
struct world *world_new(void);
struct approvals *world_open(struct world *w);
/* Stops and frees *A. */
void world_close(struct world *w, struct approvals **a);
int world_teardown(void **state);

/* Shifts what the approvals take for the time. */
void world_pass_us(int64_t us);

/* One round: what has come in is worked off, workers become ready, those killed end. */
void world_turn(struct world *w);
#define world_until(w, condition)                                               \
	do {                                                                    \
		for (int turns_ = 0; !(condition); turns_++) {                  \
			if (turns_ > 5000) {                                    \
				fail_msg("it did not come to: %s", #condition); \
			}                                                       \
			world_turn(w);                                          \
		}                                                               \
	} while (0)
void world_turns(struct world *w, int count);

/* The worker that runs code with TEXT in it; NULL. */
struct world_worker *world_running(struct world *w, const char *text);
/* How many run. */
unsigned world_running_count(const struct world *w);
/* Ends what it runs. VALUE: JSON text or NULL. */
void world_answer(struct world_worker *at, const char *value);
void world_answer_with(struct world_worker *at, const struct ipc_result *r);

extern const struct approvals_who world_alice, world_bob, world_admin;

/* What came of a call; JSON is the caller's to release. */
struct world_answer {
	bool called;
	json_t *json;
	struct err e;
};
void world_told(void *ctx, const json_t *answer, const struct err *e);

/* All wait until it is answered. REQUEST is taken; "" the default pool. */
struct world_answer world_ask_submit(struct world *w, struct approvals *a,
    const struct approvals_who *who, json_t *request, const char *key);
struct world_answer world_ask_get(
    struct world *w, struct approvals *a, const struct approvals_who *who, const char *id);
struct world_answer world_ask_decide(struct world *w, struct approvals *a,
    const struct approvals_who *who, const char *id, const char *stage, bool approve);
struct world_answer world_ask_cancel(
    struct world *w, struct approvals *a, const struct approvals_who *who, const char *id);
struct world_answer world_ask_list(
    struct world *w, struct approvals *a, const struct approvals_who *who, const char *state);

/* Submits CODE as alice with POLICY (NULL: the default) and MORE (taken, or NULL) beside it. The id
 * is good until the second call after it. */
const char *world_submit(
    struct world *w, struct approvals *a, const char *code, const char *policy, json_t *more);
/* Borrowed until the next call. "" when there is none. */
const char *world_state(struct world *w, struct approvals *a, const char *id);
/* The approval and its events, {approval, events}; the caller's. */
json_t *world_get(struct world *w, struct approvals *a, const char *id);
/* How many events of KIND its history has. */
unsigned world_events(struct world *w, struct approvals *a, const char *id, const char *kind);
/* Decides as bob; it must succeed. */
void world_decide(
    struct world *w, struct approvals *a, const char *id, const char *stage, bool approve);

#endif

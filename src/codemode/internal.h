/*
 * What the files of codemode share with each other.
 *
 * A call is made by codemode.c, runs its method's begin, and goes from callback to callback until
 * one of the call_* functions below answers it; whoever gives it up in between frees what it waits
 * for. A method never touches its call after it has answered.
 */
#ifndef CODEMODE_INTERNAL_H
#define CODEMODE_INTERNAL_H

#include <uthash.h>

#include "base/compiler.h"
#include "base/quota.h"
#include "codemode/codemode.h"
#include "codemode/skill_set.h"
#include "engine/packages.h"

#define CODEMODE_HELD_MAX_BYTES (512UL << 20)
#define CODEMODE_HELD_OF_ONE_MAX_BYTES (64UL << 20)
#define CODEMODE_CALLS_MAX 4096 /* of all sessions and routes together; of a prefix half of it */
#define CODEMODE_RESULTS_MAX 1000
#define CODEMODE_SPACE_NAME_MAX 128

/* --- arguments.c --- */

struct method_call;

enum argument_type { ARGUMENT_TEXT, ARGUMENT_COUNT, ARGUMENT_OBJECT };

/* One argument of a method; an optional one may be null as well as absent. */
struct argument {
	const char *name;
	enum argument_type type;
	bool optional;
};

#define ARGUMENTS_MAX 5

struct method {
	const char *name;
	struct argument arguments[ARGUMENTS_MAX + 1]; /* ended by a NULL name */
	void (*begin)(struct method_call *c);
};

/* 0, or -1 with *ERROR "TypeError" or "ValueError" and E's text as Python words it. */
int arguments_check(
    const struct method *method, const json_t *arguments, const char **error, struct err *e);
/* The argument's text, or NULL when it was not given. Borrowed. */
const char *argument_text(const struct method_call *c, const char *name);
/* At most CODEMODE_RESULTS_MAX. */
size_t argument_count(const struct method_call *c, const char *name, size_t otherwise);
/* Borrowed; NULL when it was not given. */
json_t *argument_object(const struct method_call *c, const char *name);

/* --- a call --- */

/* Who is told how a call ended. */
struct call_answer {
	/* RESULT: borrowed for the call. BYTES: SIZE bytes that follow, taken over; or NULL. C is
	 * freed after it returns. */
	void (*done)(struct method_call *c, enum codemode_error code, const json_t *result,
	    struct loading *bytes, uint64_t size);
	/* A writer has room for more of what call_put brings. */
	void (*room)(struct method_call *c);
};

struct method_call {
	struct codemode *codemode;
	const struct method *method;
	json_t *arguments;
	char prefix[CODEMODE_SPACE_NAME_MAX + 1];
	char workspace[CODEMODE_SPACE_NAME_MAX + 1];
	struct store_space space; /* points to the two above */
	bool system;
	int data_dir_fd;         /* the session's; borrowed; -1 */
	struct session *session; /* that asks; NULL for a route; good until the call is cancelled */
	const struct call_answer *answer;
	void *ctx; /* of ANSWER */

	/* What it waits for. */
	struct store_request *request;
	struct runner_call *running;
	struct approvals_parked *parked; /* a person, or has been allowed and runs */
	struct execution *paused;        /* meanwhile; a reference */
	struct describing *describing;
	struct tools_wait *tools_wait;
	struct view_build *build;
	struct ranking *ranking;
	struct store_writer *writer;
	struct loading *loading;

	struct worker *mounting; /* packages into it */
	struct packages_waiter packages_waiter;

	json_t *kept;   /* the method's own between two steps */
	json_t *result; /* likewise */
	json_t *before; /* likewise */
	size_t count;   /* likewise */
	unsigned holds;
	bool over;
	struct method_call *prev, *next; /* codemode.calls */
};

/* Makes a call and begins it. ARGUMENTS: borrowed, NULL for none. NULL when it was answered before
 * this returned. SESSION may be NULL. */
struct method_call *call_begin(struct codemode *m, const struct store_space *space,
    const char *method, const json_t *arguments, bool system, struct session *session,
    const struct call_answer *answer, void *ctx);
/* Gives it up without an answer. */
void call_give_up(struct method_call *c);

/* Exactly one of these ends a call. RESULT is taken over; NULL stands for no memory. */
void call_finish(struct method_call *c, json_t *result);
/* And SIZE bytes of c->loading, which the one who is told takes over. */
void call_finish_bytes(struct method_call *c, json_t *result, uint64_t size);
/* ERROR is a name of codemode.h's list. */
void call_fail(struct method_call *c, const char *error, const char *fmt, ...) printf_like(3, 4);
/* "WHAT: E", which is TooManyCalls where E is ERR_BUSY. */
void call_fail_busy(struct method_call *c, const struct err *e, const char *what);
/* What the store said. */
void call_fail_store(struct method_call *c, const struct err *e);

/* Callbacks of the store that end the call which waits as CTX->request. */
void call_on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e);
void call_on_changed(void *ctx, bool changed, const struct err *e);

/* Around something that takes a callback which may come before it returns: the call stays there
 * until it is settled, though it may be over. */
void call_hold(struct method_call *c);
void call_settle(struct method_call *c);

/* c->MEMBER = EXPRESSION, unless its callback has been called already. */
#define call_wait(c, member, expression)                       \
	do {                                                   \
		call_hold(c);                                  \
		__typeof__((c)->member) waits_ = (expression); \
		if (waits_ != NULL && !(c)->over) {            \
			(c)->member = waits_;                  \
		}                                              \
		call_settle(c);                                \
	} while (0)

/* Bytes for a call that has asked for them (artifacts.save). False: wait for answer->room. */
bool call_put(struct method_call *c, const char *bytes, size_t len);

/* What the store's reader calls back; the call that opened it ends before its bytes are read. */
struct loading {
	struct store_reader *reader;
	struct method_call *call; /* until it is open */
	json_t *record;
	void (*more)(void *ctx);
	void *more_ctx;
};

/* {"error": ERROR, "message": TEXT}; a new reference. */
json_t *call_error(const char *error, const char *text);

/* --- codemode.c --- */

struct codemode {
	uv_loop_t *loop;
	struct codemode_config config;
	struct method_call *calls;
	uint32_t call_count;
	struct quota held; /* bytes of sessions' large arguments, by tenant; see host.c */
	size_t held_of_one_max_bytes;      /* of them, of one session */
	struct codemode_counter *counters; /* of each method and outcome */
	uint64_t next_warning_ms;
	struct codemode_call *warming;
	struct describer *describer;
	struct tool_table *tools;
	struct skill_views *skills;
	struct ranker *ranker;
	struct deps_table *deps;
	struct deps_upkeep *upkeep;
};

extern const struct method *const codemode_methods[];

/* --- method_*.c: their methods, ended by a NULL name --- */

extern const struct method tools_methods[];
extern const struct method skills_methods[];
extern const struct method artifacts_methods[];
extern const struct method deps_methods[];

/* --- method_tools.c --- */

/* The execution whose clock stood still for C goes on. */
void call_unpause(struct method_call *c);

/* --- describe.c: what the parsing session says of skills' sources --- */

struct describer *describer_new(struct codemode *m);
void describer_free(struct describer *d);
/* Lets go of the engine's executions; who waits is told that the server stops. */
void describer_stop(struct describer *d);

/* RESULTS: for each source {"description", "parameters"}, or {"error", "message"}. Borrowed. E when
 * nothing could be asked. */
typedef void (*describe_fn)(void *ctx, const json_t *results, const struct err *e);
/* PREFIX: of the space that asks; prefixes take turns. SOURCES: array of texts; borrowed. NULL when
 * FN was called. */
struct describing *describe(
    struct describer *d, const char *prefix, const json_t *sources, describe_fn fn, void *ctx);
void describe_cancel(struct describing *w);
/* Whether it is a list of parameters as codemode.h has them. (In said.c.) */
bool describe_parameters_are_good(const json_t *parameters);

/* --- tool_table.c: the tools of each prefix --- */

struct tool_table *tool_table_new(struct codemode *m);
void tool_table_free(struct tool_table *t);
void tool_table_set(struct tool_table *t, const json_t *tools);

/* TOOLS: what SPACE may use, sorted by name; borrowed. E when its definitions could not be read. */
typedef void (*tools_fn)(void *ctx, const json_t *tools, const struct err *e);
/* LISTED: the runner is waited for, a moment, when it was just told of other definitions; what is
 * asked of it afterwards finds them in any case. NULL when FN was called. */
struct tools_wait *tool_table_get(
    struct tool_table *t, const struct store_space *space, bool listed, tools_fn fn, void *ctx);
void tool_table_cancel(struct tools_wait *w);

/* --- skill_view.c: the skills of each space, described and indexed --- */

struct skill_views *skill_views_new(struct codemode *m);
void skill_views_free(struct skill_views *v);

/* SET is borrowed for the call, during which it does not change. E when the store failed; other
 * failures end C. */
typedef void (*skill_view_fn)(struct method_call *c, struct skill_set *set, const struct err *e);
/* FN is called with C, perhaps before this returns; what is waited for is C's. INDEXED: it is to
 * be searched. */
void skill_view_get(struct method_call *c, bool indexed, skill_view_fn fn);
struct view_build;
void view_build_free(struct view_build *b);

/* --- skill_set.c --- */

/* RECORD of the store and WHAT was said of its source, or NULL when RECORD says all itself: the
 * skill with its source, a new reference; NULL when it is not one. */
json_t *skill_of(const json_t *record, const json_t *said);
/* Whether RECORD has a description and well formed parameters of its own. */
bool skill_describes_itself(const json_t *record);

/* --- find.c --- */

/* What is found for QUERY, best first, at most LIMIT; new references. The skills without source. */
json_t *find_tools(const json_t *tools, const char *query, size_t limit);
json_t *find_skills(struct skill_set *set, const char *query, size_t limit);
void find_put_skill(struct search *s, const json_t *skill);

/* --- rank.c: search results in the order of their embeddings --- */

struct ranker *ranker_new(struct codemode *m);
void ranker_free(struct ranker *r);
/* ORDER: places of TEXTS, best first; NULL when it could not be done. */
typedef void (*rank_fn)(void *ctx, const size_t *order, size_t count);
/* TEXTS: array of [description, source]; borrowed. NULL when FN was called. */
struct ranking *rank(
    struct ranker *r, const char *query, const json_t *texts, rank_fn fn, void *ctx);
void ranking_cancel(struct ranking *g);

/* --- method_deps.c --- */

struct deps_table *deps_table_new(struct codemode *m);
void deps_table_free(struct deps_table *t);
/* Whether it is known what PREFIX ("" the server's own) has installed. */
bool deps_table_has(struct deps_table *t, const char *prefix);
/* PREFIX has PACKAGES (array of texts) in DIRECTORY (text, or null: Python has them itself). */
void deps_table_remember(
    struct deps_table *t, const char *prefix, const json_t *packages, json_t *directory);

/* --- deps_upkeep.c --- */

struct deps_upkeep *deps_upkeep_new(struct codemode *m);
void deps_upkeep_free(struct deps_upkeep *u);

#endif

/*
 * execution: one piece of code run in one session, from being queued to its final state.
 *
 * Life: QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELED, and QUEUED -> FAILED | CANCELED. A
 * final state never changes; verdict is set exactly when the state is final.
 *
 * Output is kept once, within the pool's bound, in the order it came; readers hold positions in it,
 * so a slow reader costs nothing and one execution can have many.
 *
 * Ownership: reference counted. The engine holds one while it lists the execution; a dialect that
 * keeps a pointer takes its own with execution_ref.
 */
#ifndef ENGINE_EXECUTION_H
#define ENGINE_EXECUTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/quota.h"
#include "base/text.h"
#include "engine/verdict.h"
#include "ipc/codec.h"

#define ENGINE_TENANT_MAX 64

enum execution_state {
	EXECUTION_QUEUED,
	EXECUTION_RUNNING,
	EXECUTION_SUCCEEDED,
	EXECUTION_FAILED,
	EXECUTION_CANCELED,
	EXECUTION_STATE_COUNT,
};

/* The field's names for the states: NotStarted, Running, Succeeded, Failed, Canceled. */
const char *execution_state_name(enum execution_state s);
bool execution_state_may_follow(enum execution_state from, enum execution_state to);

enum output_kind { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_DISPLAY };

/* A run of output: bytes [start, start + len) of stdout or stderr, or display number start. */
struct output_run {
	enum output_kind kind;
	size_t start;
	size_t len;
};

#define DISPLAY_ITEMS_MAX IPC_DISPLAY_ITEMS_MAX

/* One MIME bundle; the strings are its own. Data may be binary (image/png). */
struct display {
	struct {
		char *mime;
		char *data;
		size_t len;
	} items[DISPLAY_ITEMS_MAX];
	uint32_t count;
};

/* What the session said of the last expression and of the error; bytes as the session sent them, so
 * not known to be UTF-8. Zero where nothing came. */
struct execution_value {
	enum ipc_kind kind;
	struct buf json; /* JSON text for bool, int, float, and with request.values of any kind;
			    checked to be JSON by the reader */
	struct buf text; /* text/plain */
	struct buf error_name;
	struct buf error_value;
	struct buf traceback;
	uint32_t exit_code; /* SystemExit's, or a shell command's status */
};

struct execution;
struct session;

#define EXECUTION_BY_MAX 127     /* bytes of a name that are kept */
#define EXECUTION_STILL_MS 15000 /* proxies close what is silent for a minute */

/* Called after each change: more output, or a new state; and while there is none, every
 * EXECUTION_STILL_MS until it is final, so that a client can be told that it is not forgotten. Must
 * not call back into the engine with the same execution other than to read it, except engine_cancel
 * from outside a notification. */
typedef void (*execution_notify)(void *ctx, struct execution *x);

struct execution_observer {
	execution_notify notify;
	void *ctx;
	struct execution_observer *prev, *next; /* execution.observers */
};

/* What a dialect asks for. Borrowed for the call of engine_execute. */
struct execution_request {
	enum ipc_execute_kind kind;
	struct ipc_bytes code;
	struct ipc_bytes standard_input;
	bool empty_namespace;
	bool values;               /* the value is wanted as JSON, whatever its type */
	bool asynchronous;         /* goes on when nobody waits for it */
	uint32_t timeout_ms;       /* 0: the pool's; never above the pool's */
	uint32_t output_max_bytes; /* a stream; 0: the pool's; never above the pool's */
	uint32_t reply_flags;      /* the dialect's own, kept with the execution */
	const char *id;            /* chosen by the client, or NULL for one of ours */
	const char *by;            /* the name of the token that asks for it, or NULL */
};

struct execution {
	char id[129];
	uint64_t seq; /* names it to the session's process */
	unsigned refs;
	struct session *session; /* NULL once the session has ended */
	char identifier[129];
	char by[EXECUTION_BY_MAX + 1]; /* whose token; "" the server's own work */
	char session_guid[TEXT_GUID_BYTES];
	enum execution_state state;
	enum verdict verdict;
	enum verdict stopping; /* why it is being interrupted; VERDICT_NONE when it is not */
	enum verdict told;  /* by its result, while the engine asks for more; else VERDICT_NONE */
	uint64_t oom_kills; /* processes killed at the memory limit, while the session lives */
	char reason[160];   /* for a person: how the session ended under it; may be empty */
	enum ipc_execute_kind kind;
	bool asynchronous;
	bool detached;    /* goes on when its client is gone */
	bool new_session; /* the first execution of a session made after one that was lost */
	uint32_t timeout_ms;
	uint32_t output_max_bytes;
	uint32_t reply_flags;

	struct buf code; /* freed when it has been sent */
	struct buf standard_input;
	bool empty_namespace;
	bool values;

	struct buf out;         /* stdout, at most output_max_bytes */
	struct buf err;         /* stderr, at most output_max_bytes */
	uint64_t out_cut_bytes; /* how much was not kept */
	uint64_t err_cut_bytes;
	struct output_run *runs;
	size_t run_count;
	struct display **displays;
	size_t display_count;
	size_t display_bytes;
	uint32_t displays_cut; /* how many were not kept */
	struct execution_value value;

	int64_t created_wall_us;
	uint64_t queued_us; /* clock_mono_us of each step; 0 before it */
	uint64_t started_us;
	uint64_t ended_us;
	uint64_t duration_us; /* in the session, as the session tells; else ended - started; without
				 its pauses */
	uint64_t deadline_ms; /* clock_mono_ms; 0 when not running */
	unsigned pauses;      /* its clock stands still while there are any; see engine_pause */
	uint64_t paused_since_ms;
	bool paused_cpu_known; /* of this pause; the next two are then set */
	uint64_t paused_from_cpu_us;
	uint64_t paused_cpu_us; /* computed since; see struct ipc_used */
	uint64_t paused_ms;     /* of the pauses that are over */
	uint64_t
	    still_ms; /* when observers were last told that nothing changed, or it was queued */

	struct quota *held; /* the engine's, of such bytes by tenant */
	size_t held_bytes;  /* this one's part of it */
	char tenant[ENGINE_TENANT_MAX + 1];
	struct execution_observer *observers;
	struct execution *prev, *next; /* session.queue or session.finished */
};

struct execution *execution_ref(struct execution *x);
/* NULL is allowed. Frees it with the last reference. */
void execution_unref(struct execution *x);

/* Frees a display that was not handed over. NULL is allowed. */
void display_free(struct display *d);

bool execution_is_final(const struct execution *x);

void execution_observe(struct execution *x, struct execution_observer *o);
void execution_unobserve(struct execution *x, struct execution_observer *o);

#endif

/*
 * fake_api: the API without HTTP and without processes.
 *
 * api/call.h is implemented over plain memory, requests find their route through the real router,
 * and the real engine gets workers whose answers the test scripts. A worker's /mnt/data is a
 * temporary directory.
 */
#ifndef TESTS_FAKE_API_H
#define TESTS_FAKE_API_H

#include <uv.h>

#include "api/api.h"
#include "base/json_work.h"
#include "fake_work.h"
#include "http/router.h"

#define FAKE_HEADERS_MAX 16
#define FAKE_WORKERS_MAX 256

/* What a worker says to the next execution. */
struct fake_script {
	struct ipc_result result;
	const char *out;
	const char *err;
	struct ipc_display displays[8];
	unsigned display_count;
	bool silent; /* it does not answer before fake_finish */
	bool dies;   /* it ends instead of answering */
	uint64_t oom_kills;
};

struct fake_world {
	struct api api;
	struct router *router;
	struct engine *engine;
	struct fake_work work;
	uv_loop_t loop; /* of api.json_work alone */
	struct fake_script script;
	bool no_workers; /* spawned ones do not become ready */
	struct worker *spawned[FAKE_WORKERS_MAX];
	unsigned spawned_count;
	struct worker *running; /* has an execution that is not answered */
	uint64_t running_seq;
	struct worker *to_interrupt;
	struct worker *to_end;
	char code[4096]; /* of the last execution, NULs as '|' */
	char stdin_text[256];
	enum ipc_execute_kind kind;
	bool empty_namespace;
	uint32_t timeout_ms;
	unsigned interrupts;
	/* Answers may be JSON that jansson does not read: numbers past its range, names twice. */
	bool loose;
	const char *prefix;     /* of the token that calls from now on */
	enum role role;         /* of it; ROLE_NONE stands for ROLE_ADMIN */
	const char *caller;     /* NULL: "tester" */
	const char *token_pool; /* the only pool of the caller's token, or NULL */
	bool others_only;       /* it, too */
};

/* Pools: "default" (Python, 3 sessions) and "sh" (shell). */
void fake_world_init(struct fake_world *w);
void fake_world_fini(struct fake_world *w);
/* Lets workers become ready and answer, until nothing changes. */
void fake_pump(struct fake_world *w);
/* Answers a silent execution by the script. */
void fake_finish(struct fake_world *w);
/* Sends output of the running execution. */
void fake_output(struct fake_world *w, enum output_kind kind, const char *bytes, size_t len);

/* One exchange. */
struct fake_call {
	struct call call;
	struct fake_world *world;
	struct route_match match;
	struct principal principal;
	char target[16384];
	char *query;
	char values[8][4096];
	unsigned value_count;
	const char *header_name;
	const char *header_value;
	char path[8192];
	bool began;
	bool waits;      /* begin said CALL_WAIT */
	bool continued;  /* and call_continue came */
	unsigned paused; /* how often call_pause came */
	/* the answer */
	unsigned answers;
	int status;
	char headers[FAKE_HEADERS_MAX][2][4096];
	unsigned header_count;
	json_t *json;
	struct buf body;
	struct call_source *source;
	bool woken;
	bool closed;
	bool broken; /* CALL_SOURCE_BROKEN */
};

/* Sends a request and pumps. METHOD as on the wire; TARGET path and query, percent-encoded. */
void fake_send(struct fake_call *f, struct fake_world *w, const char *method, const char *target,
    const char *body);
/* The same with one request header, a body with NULs, and without pumping. */
void fake_start(struct fake_call *f, struct fake_world *w, const char *method, const char *target,
    const char *header, const char *value, const char *body, size_t len);
/* Sends a multipart request of one file (NAME NULL: none), pumping between begin and the parts. */
void fake_upload(struct fake_call *f, struct fake_world *w, const char *target, const char *name,
    const char *bytes, size_t len);
/* The client leaves. */
void fake_leave(struct fake_call *f);
/* Reads what the source has now into body; true at its end. STEP bytes at a time. */
bool fake_pull(struct fake_call *f, size_t step);
void fake_call_fini(struct fake_call *f);

const char *fake_header(const struct fake_call *f, const char *name);
/* A member by a dotted path ("properties.result", "value.0.name"); NULL when there is none. */
json_t *fake_at(const struct fake_call *f, const char *path);
/* Its string, or "" . */
const char *fake_text(const struct fake_call *f, const char *path);

#endif

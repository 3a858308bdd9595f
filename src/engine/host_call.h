/*
 * host_call: what a session asks of its server while a cell runs: tools, skills, artifacts,
 * dependencies.
 *
 * On the wire (ipc/messages.def) a session sends HOST_CALL with a number of its choice, a method
 * and JSON arguments; for a method that takes bytes it then sends HOST_PUT pieces, as many bytes as
 * the argument "size" says. The gateway answers with one HOST_REPLY; when the result has a "size",
 * that many bytes follow it in HOST_BYTES pieces, and a second HOST_REPLY that is not ok takes
 * their place when they cannot be read to the end. HOST_CANCEL says that nobody waits any more; a
 * reply may still come, and is dropped. Everything a session sends is hostile input: a number in
 * use, bytes nobody asked for, or a body that does not decode ends that session.
 *
 * Bounds: HOST_CALLS_MAX calls of a session at once, past it a call is answered with TooManyCalls;
 * HOST_CALL_MAX_BYTES for arguments and for a reply; bytes are never held whole: the link stops
 * reading from a session whose call cannot take more, and asks for bytes when its socket can.
 *
 * Calls end with the execution that made them: when it is final, what is pending is cancelled.
 */
#ifndef ENGINE_HOST_CALL_H
#define ENGINE_HOST_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"

#define HOST_CALLS_MAX IPC_HOST_CALLS_MAX
#define HOST_CALL_MAX_BYTES IPC_HOST_CALL_MAX_BYTES
#define HOST_METHOD_MAX 63
#define HOST_BYTES_MAX IPC_HOST_BYTES_MAX /* "size", both ways */

struct host_call {
	uint64_t id; /* the session's number */
	struct worker *worker;
	char method[HOST_METHOD_MAX + 1];
	const char *arguments; /* JSON text; good until begin returns */
	size_t arguments_len;
	uint64_t put_left; /* bytes that HOST_PUT still has to bring; begin sets it from "size" */
	/* Begin sets it: nothing more of the session is read before host_call_resume, or the
	 * answer; until then the handler may set PUT_LEFT. */
	bool waits;

	/* The handler's. */
	void *ctx;
	struct host_call *prev, *next; /* of the link's pending calls */
};

/* The one who answers calls (src/codemode). Each call it was given with begin it answers once, now
 * or later, with host_call_reply, unless cancel was called for it before. */
struct host_call_handler {
	void (*begin)(void *ctx, struct host_call *c);
	/* Bytes of a HOST_PUT; they are taken as a whole. False: no more now; host_call_resume when
	 * there is room again. C may be answered in here. */
	bool (*put)(void *ctx, struct host_call *c, const char *bytes, size_t len);
	/* The session, its execution, or whoever waited is gone; C->worker may have no session any
	 * more. C is freed after it returns. Not called for a call that was answered. */
	void (*cancel)(void *ctx, struct host_call *c);
};

/* Bytes that follow a reply, pulled: as struct call_source of api/call.h. */
struct host_source {
	/* Up to MAX bytes: how many, 0 when there is nothing now (host_call_resume later), -1 when
	 * they cannot be read; then the session is told ERROR_JSON. */
	ssize_t (*read)(struct host_source *s, char *out, size_t max);
	/* Called once, at the end or when nobody wants it any more. Frees S. */
	void (*close)(struct host_source *s);
	uint64_t left; /* bytes to come; counted down by the link, which closes it at 0 */
};

/* --- implemented by gateway/host_calls.c --------------------------------------------------------
 */

/* Answers C, with JSON as its result or, when not OK, as {"error": NAME, "message": TEXT}. SOURCE
 * may be NULL. C is freed when all is sent; the handler must not touch it any more, except that a
 * source may call host_call_resume until it is closed. */
void host_call_reply(
    struct host_call *c, bool ok, const char *json, size_t len, struct host_source *source);
/* There is room for more HOST_PUT bytes, or the source has something. */
void host_call_resume(struct host_call *c);

#endif

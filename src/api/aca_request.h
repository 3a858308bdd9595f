/*
 * aca_request: what a client asks to be executed, read from the body.
 *
 * Both shapes, flat and wrapped in "properties", are read on every route, since clients send either
 * to any; a member is taken from "properties" first. Members with the value null count as absent
 * and unknown ones are ignored, as the live service does.
 */
#ifndef API_ACA_REQUEST_H
#define API_ACA_REQUEST_H

#include <jansson.h>
#include <stdbool.h>

#include "api/aca.h"

#define ACA_CODE_MAX_BYTES (4U << 20)

struct aca_request {
	struct buf code;           /* source, command line, or arguments each ended by a NUL */
	struct buf standard_input; /* shell pools */
	enum ipc_execute_kind kind;
	bool asynchronous;
	bool empty_namespace;
	bool jupyter; /* returnJupyterFormatExecutionResult */
	uint32_t timeout_ms;
	uint32_t output_max_bytes;
};

#define ACA_REQUEST_INIT                                       \
	(struct aca_request)                                   \
	{                                                      \
		.code = BUF_INIT(ACA_CODE_MAX_BYTES),          \
		.standard_input = BUF_INIT(ACA_CODE_MAX_BYTES) \
	}

void aca_request_fini(struct aca_request *r);

/* route->json: duplicate keys are refused. */
size_t aca_request_json(struct call *c);
/* The body as a JSON object. Borrowed, or NULL with *P. */
json_t *aca_request_body(const struct call *c, struct aca_problem *p);

/* Reads BODY for POOL into R (from ACA_REQUEST_INIT). 0 or -1. */
int aca_request_read(
    struct aca_request *r, const json_t *body, const struct pool *pool, struct aca_problem *p);

#endif

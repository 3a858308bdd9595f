/*
 * client: requests to a Carrel server, over libcurl.
 *
 * One call at a time, with at most one small request beside it (to interrupt the cell that the call
 * waits for). Connections are kept between calls.
 *
 * Invariants: only http and https; redirects are not followed; plain http never goes through a
 * proxy; so the token reaches the host of --url and no other. Every reply that is not streamed has
 * a bound, and so has every wait: to connect, and between two signs of life.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/url.h"

#define CLIENT_REPLY_MAX_BYTES ((size_t)64 << 20)
#define CLIENT_CONNECT_MS 10000
#define CLIENT_IDLE_MS 60000

/* What the last failed call was told, for -o json. All empty when the server said nothing. */
struct client_refusal {
	long http_status;
	char code[128];
	char message[512];
};

struct client {
	CURLM *multi;
	CURL *call;
	CURL *side;
	struct curl_slist *side_headers; /* of the side request while it runs */
	bool side_runs;
	struct buf base;  /* as url_base leaves it */
	struct buf token; /* empty: none is sent */
	const char *ca_file;
	struct client_refusal refusal;
};

enum client_method {
	CLIENT_GET,
	CLIENT_POST,
	CLIENT_DELETE,
};

/* A call: what is asked, who hears of it, and what came. Zero what is not needed. */
struct client_call {
	enum client_method method;
	const char *url;
	const char *accept;      /* NULL: application/json */
	const struct buf *json;  /* a JSON body, or NULL */
	const char *key;         /* the Idempotency-Key, printable ASCII, or NULL */
	const char *upload_name; /* sends UPLOAD_FD as the multipart part "file" of this name */
	int upload_fd;           /* a regular file, read from offset 0 */
	uint64_t upload_bytes;
	uint64_t idle_ms;        /* longest silence; 0: CLIENT_IDLE_MS */
	struct signals *signals; /* NULL: signals do what they do */

	/* Takes the body of a 2xx answer in pieces instead of `body`. 0, or -1 with *E to stop. */
	int (*on_body)(struct client_call *call, const char *bytes, size_t len, struct err *e);
	/* Called when a signal came (SIGNO) and about once a second (0). False gives the call up.
	 * NULL: any signal gives up. */
	bool (*on_turn)(struct client_call *call, int signo);
	/* Bytes of the body moved so far, in the direction that matters; TOTAL is 0 when not known.
	 */
	void (*on_progress)(struct client_call *call, uint64_t done, uint64_t total);
	void *arg;

	/* What came; set by client_perform, freed by client_call_fini. */
	struct client *client;
	long http_status; /* 0: no answer */
	struct buf body;

	/* The client's own. */
	struct err *why; /* what stopped the body */
	bool stopped;
	uint64_t seen_bytes;
	uint64_t last_sign_ms;
};

/* Takes the options' server, pool and token. SIGPIPE is ignored from now on. 0, or -1 with
 * ERR_INVALID for the options' fault, ERR_INTERNAL. O is borrowed for the client's life. */
int client_init(struct client *c, const struct options *o, struct err *e);
void client_fini(struct client *c);

/* Runs CALL to its end. 0 for a 2xx answer. -1 with: ERR_UNAVAILABLE for a refusal or no answer
 * (c->refusal tells more), ERR_CONFLICT when a signal or on_turn gave it up, ERR_TOO_LARGE for a
 * reply past the bound, or on_body's own. */
int client_perform(struct client *c, struct client_call *call, struct err *e);
void client_call_fini(struct client_call *call);

/* A header of the answer to the running or last call, "" where it has none. Borrowed until the next
 * call of this function. */
const char *client_header(struct client *c, const char *name);

/* Starts a DELETE beside the running call; its outcome is not waited for. False when one still runs
 * or it could not be started. */
bool client_delete_beside(struct client *c, const char *url);

/* client_perform, then the body as JSON to *OUT (owned by the caller). An empty body is JSON null.
 */
int client_perform_json(struct client *c, struct client_call *call, json_t **out, struct err *e);

/* GETs BASE/SEGMENTS?QUERY, as url_build has them, as client_perform_json. IDLE_MS as of a call. */
int client_get(struct client *c, const char *const *segments, const struct url_query *query,
    uint64_t idle_ms, json_t **out, struct err *e);

/* POSTs BODY there; KEY and IDLE_MS as of a call. */
int client_post(struct client *c, const char *const *segments, const json_t *body, const char *key,
    uint64_t idle_ms, json_t **out, struct err *e);

/* A JSON text that a server sent. \u0000 is allowed; a whole number too large for 64 bits becomes a
 * real. NULL with *E when it is not JSON. Owned by the caller. */
json_t *client_parse_json(const char *bytes, size_t len, struct err *e);

/* Keeps an error document {"error":{"code","message"}}, or {"detail"}, as the refusal and sets *E
 * from it; returns -1. HTTP_STATUS is 0 where it came inside a stream. */
int client_refuse(struct client *c, long http_status, const char *bytes, size_t len, struct err *e);

/* The text at KEY of an object, or "" . Borrowed. */
const char *client_text(const json_t *object, const char *key);

#endif

/* One callback: a signed POST, whose answer is its status alone. */
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"
#include "tools/callback_url.h"
#include "tools/fetch.h"
#include "tools/runner.h"

#define TIMEOUT_MS 10000
#define PREFIXES_MAX 64
#define ANSWER_MAX_BYTES 65536

struct callback_send {
	struct runner_task task;
	struct fetch *fetch;
	size_t answered; /* bytes */
};

static void cancel(struct runner_task *t)
{
	struct callback_send *c = container_of(t, struct callback_send, task);
	fetch_cancel(c->fetch);
	free(c);
}

/* What was said besides the status is of no interest, and not kept. */
static bool drop_bytes(void *ctx, const char *bytes, size_t len)
{
	struct callback_send *c = ctx;
	(void)bytes;
	c->answered += len;
	return c->answered <= ANSWER_MAX_BYTES;
}

static void on_done(void *ctx, const struct fetch_result *result)
{
	struct callback_send *c = ctx;
	if (result->status != 0) {
		/* An answer that then broke off was an answer. */
		runner_task_done(&c->task, json_pack("{s:i}", "status", (int)result->status));
	} else {
		struct err e = {.code = ERR_INTERNAL, .text = "there was no answer"};
		if (result->e != NULL) {
			e = *result->e;
		}
		/* Those two say that nothing was sent. */
		e.code = e.code == ERR_TIMEOUT ? ERR_TIMEOUT : ERR_INTERNAL;
		runner_task_failed(&c->task, &e, NULL);
	}
	free(c);
}

/* Whether the gateway, which faces the network, asks for what the configuration allows. */
static int check_url(const struct runner *r, const char *url, struct err *e)
{
	const json_t *prefixes = json_object_get(
	    json_object_get(r->config, "callbacks"), "prefixes");
	const char *list[PREFIXES_MAX];
	uint32_t count = 0;
	size_t i;
	json_t *prefix;
	json_array_foreach(prefixes, i, prefix)
	{
		if (count < PREFIXES_MAX && json_is_string(prefix)) {
			list[count++] = json_string_value(prefix);
		}
	}
	return callback_url_allowed(url, list, count, e);
}

/* "t=SECONDS,v1=HEX" to OUT. */
static int sign(const char *secret, const char *body, char *out, size_t room, struct err *e)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0;
	size_t body_len = strlen(body);
	int64_t seconds = clock_wall_us() / 1000000;
	cleanup(buf_fini) struct buf text = BUF_INIT(body_len + 32);
	if (buf_addf(&text, "%" PRId64 ".", seconds) < 0 || buf_add(&text, body, body_len) < 0 ||
	    HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)buf_str(&text),
		text.len, mac, &mac_len) == NULL) {
		return err_set(e, ERR_INTERNAL, "it could not be signed");
	}
	char hex[2 * EVP_MAX_MD_SIZE + 1];
	text_hex(hex, mac, mac_len);
	(void)snprintf(out, room, "t=%" PRId64 ",v1=%s", seconds, hex);
	return 0;
}

static json_t *headers_of(const struct runner *r, const char *id, const char *body, struct err *e)
{
	char signature[2 * EVP_MAX_MD_SIZE + 64];
	const char *name = json_string_value(
	    json_object_get(json_object_get(r->config, "callbacks"), "secret"));
	const char *secret = name != NULL ? json_string_value(json_object_get(r->secrets, name))
					  : NULL;
	if (secret == NULL || *secret == '\0') {
		(void)err_set(e, ERR_UNAVAILABLE,
		    "there is no secret '%.64s' to sign callbacks with", name != NULL ? name : "");
		return NULL;
	}
	if (sign(secret, body, signature, sizeof(signature), e) < 0) {
		return NULL;
	}
	return json_pack("{s:s, s:s, s:s, s:s}", "Content-Type", "application/json",
	    "Carrel-Signature", signature, "Carrel-Delivery", id, "User-Agent",
	    "carrel/" CARREL_VERSION);
}

static int start(struct callback_send *c, const json_t *request, struct err *e)
{
	struct runner *r = c->task.runner;
	const char *url = json_string_value(json_object_get(request, "url"));
	const char *id = json_string_value(json_object_get(request, "id"));
	const char *body = json_string_value(json_object_get(request, "body"));
	if (url == NULL || id == NULL || body == NULL || strpbrk(id, "\r\n") != NULL) {
		return err_set(e, ERR_INVALID, "the callback is not one");
	}
	if (check_url(r, url, e) < 0) {
		return -1;
	}
	cleanup(json_decrefp) json_t *headers = headers_of(r, id, body, e);
	if (headers == NULL) {
		return -1;
	}
	const struct fetch_options o = {
	    .method = "POST",
	    .url = url,
	    .headers = headers,
	    .body = body,
	    .body_len = strlen(body),
	    .timeout_ms = TIMEOUT_MS,
	    .on_bytes = drop_bytes,
	    .done = on_done,
	    .ctx = c,
	};
	c->fetch = fetch_start(r->fetcher, &o, e);
	return c->fetch == NULL ? -1 : 0;
}

void callback_send_begin(struct runner *r, uint64_t ref, const json_t *request)
{
	struct err e = {.code = ERR_INTERNAL, .text = "out of memory"};
	struct callback_send *c = calloc(1, sizeof(*c));
	if (c == NULL || runner_task_add(r, &c->task, ref, cancel, &e) < 0) {
		free(c);
		runner_refuse(r, ref, &e);
		return;
	}
	if (start(c, request, &e) < 0) {
		runner_task_failed(&c->task, &e, NULL);
		free(c);
	}
}

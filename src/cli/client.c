#include "cli/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/url.h"

#define ERROR_BODY_MAX_BYTES 65536
#define SIDE_TIMEOUT_MS 10000
#define TURN_MS 1000

static void headers_free(struct curl_slist **list)
{
	curl_slist_free_all(*list);
	*list = NULL;
}

static void mime_free(curl_mime **mime)
{
	curl_mime_free(*mime);
	*mime = NULL;
}

int client_init(struct client *c, const struct options *o, struct err *e)
{
	*c = (struct client){
	    .base = BUF_INIT(URL_MAX_BYTES),
	    .token = BUF_INIT(OPTIONS_TOKEN_MAX_BYTES),
	    .ca_file = o->ca_file,
	};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	(void)sigaction(SIGPIPE, &ignore, NULL);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		return err_set(e, ERR_INTERNAL, "libcurl cannot start");
	}
	if (url_base(&c->base, o->url, o->pool, e) < 0 || options_token(o, &c->token, e) < 0) {
		return -1;
	}
	c->multi = curl_multi_init();
	c->call = curl_easy_init();
	c->side = curl_easy_init();
	if (c->multi == NULL || c->call == NULL || c->side == NULL) {
		return err_set(e, ERR_INTERNAL, "libcurl cannot start");
	}
	return 0;
}

static void drop_side(struct client *c)
{
	if (c->side_runs) {
		(void)curl_multi_remove_handle(c->multi, c->side);
		headers_free(&c->side_headers);
		c->side_runs = false;
	}
}

void client_fini(struct client *c)
{
	if (c == NULL) {
		return;
	}
	if (c->multi != NULL) {
		drop_side(c);
	}
	curl_easy_cleanup(c->call);
	curl_easy_cleanup(c->side);
	(void)curl_multi_cleanup(c->multi);
	buf_fini(&c->base);
	if (c->token.data != NULL) {
		explicit_bzero(c->token.data, c->token.alloc);
	}
	buf_fini(&c->token);
	*c = (struct client){0};
	curl_global_cleanup();
}

void client_call_fini(struct client_call *call)
{
	if (call != NULL) {
		buf_fini(&call->body);
	}
}

/* --- what libcurl calls --- */

/* As libcurl's own, but close-on-exec. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)arg;
	(void)purpose;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static size_t take_body(char *bytes, size_t unit, size_t count, void *arg)
{
	struct client_call *call = arg;
	size_t len = unit * count;
	long status = 0;
	(void)curl_easy_getinfo(call->client->call, CURLINFO_RESPONSE_CODE, &status);
	call->last_sign_ms = clock_mono_ms();
	bool good = status >= 200 && status <= 299;
	if (good && call->on_body != NULL) {
		call->stopped = call->on_body(call, bytes, len, call->why) < 0;
		return call->stopped ? 0 : len;
	}
	if (!good && call->body.len + len > ERROR_BODY_MAX_BYTES) {
		return len; /* enough of it to say what was wrong */
	}
	if (buf_add(&call->body, bytes, len) < 0) {
		call->stopped = true;
		(void)err_set(call->why, ERR_TOO_LARGE,
		    "the server's answer is larger than %zu bytes", CLIENT_REPLY_MAX_BYTES);
		return 0;
	}
	return len;
}

static size_t drop_body(char *bytes, size_t unit, size_t count, void *arg)
{
	(void)bytes;
	(void)arg;
	return unit * count;
}

static int take_progress(
    void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
	struct client_call *call = arg;
	uint64_t seen = (uint64_t)down + (uint64_t)up;
	if (seen != call->seen_bytes) {
		call->seen_bytes = seen;
		call->last_sign_ms = clock_mono_ms();
	}
	if (call->on_progress != NULL) {
		bool sends = call->upload_name != NULL;
		call->on_progress(
		    call, (uint64_t)(sends ? up : down), (uint64_t)(sends ? up_total : down_total));
	}
	return 0;
}

static size_t read_upload(char *bytes, size_t unit, size_t count, void *arg)
{
	const struct client_call *call = arg;
	ssize_t n;
	do {
		n = read(call->upload_fd, bytes, unit * count);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? CURL_READFUNC_ABORT : (size_t)n;
}

static int seek_upload(void *arg, curl_off_t offset, int whence)
{
	const struct client_call *call = arg;
	return lseek(call->upload_fd, offset, whence) < 0 ? CURL_SEEKFUNC_CANTSEEK
							  : CURL_SEEKFUNC_OK;
}

/* --- setting a request up --- */

static int add_header(struct curl_slist **list, const char *name, const char *value, struct err *e)
{
	cleanup(buf_fini) struct buf line = BUF_INIT(OPTIONS_TOKEN_MAX_BYTES + 64);
	struct curl_slist *longer = NULL;
	if (buf_addf(&line, "%s: %s", name, value) == 0) {
		longer = curl_slist_append(*list, line.data);
	}
	if (line.data != NULL) {
		explicit_bzero(line.data, line.alloc);
	}
	if (longer == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	*list = longer;
	return 0;
}

static int add_token(const struct client *c, struct curl_slist **list, struct err *e)
{
	if (c->token.len == 0) {
		return 0;
	}
	cleanup(buf_fini) struct buf value = BUF_INIT(OPTIONS_TOKEN_MAX_BYTES + 16);
	int r = buf_addf(&value, "Bearer %s", buf_str(&c->token));
	r = r < 0 ? err_set(e, ERR_INTERNAL, "out of memory")
		  : add_header(list, "Authorization", value.data, e);
	if (value.data != NULL) {
		explicit_bzero(value.data, value.alloc);
	}
	return r;
}

/* What every request has in common. */
static unsigned set_common(
    const struct client *c, CURL *h, const char *url, struct curl_slist *headers)
{
	curl_easy_reset(h);
	unsigned bad = 0;
	bad |= curl_easy_setopt(h, CURLOPT_URL, url);
	bad |= curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
	bad |= curl_easy_setopt(h, CURLOPT_HEADEROPT, CURLHEADER_SEPARATE);
	bad |= curl_easy_setopt(h, CURLOPT_USERAGENT, "carrel/" CARREL_VERSION);
	bad |= curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	bad |= curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
	bad |= curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	bad |= curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)CLIENT_CONNECT_MS);
	bad |= curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	if (text_has_prefix(url, "http:")) {
		bad |= curl_easy_setopt(h, CURLOPT_PROXY, "");
	}
	if (c->ca_file != NULL) {
		bad |= curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_file);
	}
	return bad;
}

static unsigned set_method(struct client_call *call, CURL *h, curl_mime *mime)
{
	if (call->method == CLIENT_DELETE) {
		return curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, "DELETE");
	}
	if (call->method == CLIENT_GET) {
		return curl_easy_setopt(h, CURLOPT_HTTPGET, 1L);
	}
	if (mime != NULL) {
		return curl_easy_setopt(h, CURLOPT_MIMEPOST, mime);
	}
	unsigned bad = curl_easy_setopt(
	    h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->json->len);
	return bad | curl_easy_setopt(h, CURLOPT_POSTFIELDS, buf_str(call->json));
}

static curl_mime *build_mime(CURL *h, struct client_call *call)
{
	cleanup(mime_free) curl_mime *mime = curl_mime_init(h);
	curl_mimepart *part = mime == NULL ? NULL : curl_mime_addpart(mime);
	if (part == NULL || curl_mime_name(part, "file") != CURLE_OK ||
	    curl_mime_filename(part, call->upload_name) != CURLE_OK ||
	    curl_mime_type(part, "application/octet-stream") != CURLE_OK ||
	    curl_mime_data_cb(part, (curl_off_t)call->upload_bytes, read_upload, seek_upload, NULL,
		call) != CURLE_OK) {
		return NULL;
	}
	return steal(&mime);
}

static unsigned set_callbacks(struct client_call *call, CURL *h, char *reason)
{
	unsigned bad = 0;
	bad |= curl_easy_setopt(h, CURLOPT_ERRORBUFFER, reason);
	bad |= curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, take_body);
	bad |= curl_easy_setopt(h, CURLOPT_WRITEDATA, call);
	bad |= curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
	bad |= curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, take_progress);
	bad |= curl_easy_setopt(h, CURLOPT_XFERINFODATA, call);
	return bad;
}

/* --- running it --- */

/* Reads what libcurl has finished. True when the call is, with its outcome in *RESULT. */
static bool call_finished(struct client *c, CURLcode *result)
{
	bool finished = false;
	int left;
	for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left)) != NULL;) {
		if (m->msg == CURLMSG_DONE && m->easy_handle == c->call) {
			*result = m->data.result;
			finished = true;
		} else if (m->msg == CURLMSG_DONE) {
			drop_side(c);
		}
	}
	return finished;
}

/* One signal, or none. False when the call is to be given up. */
static bool call_goes_on(struct client_call *call)
{
	int signo = signals_take(call->signals);
	return call->on_turn != NULL ? call->on_turn(call, signo) : signo == 0;
}

static int drive(struct client *c, struct client_call *call, CURLcode *result, struct err *e)
{
	uint64_t idle_ms = call->idle_ms != 0 ? call->idle_ms : CLIENT_IDLE_MS;
	call->last_sign_ms = clock_mono_ms();
	for (;;) {
		int running;
		CURLMcode r = curl_multi_perform(c->multi, &running);
		if (r == CURLM_OK && call_finished(c, result)) {
			return 0;
		}
		struct curl_waitfd wait = {.events = CURL_WAIT_POLLIN};
		wait.fd = call->signals != NULL ? call->signals->fd : -1;
		if (r == CURLM_OK) {
			r = curl_multi_poll(c->multi, &wait, wait.fd >= 0 ? 1 : 0, TURN_MS, NULL);
		}
		if (r != CURLM_OK) {
			return err_set(e, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(r));
		}
		if (!call_goes_on(call)) {
			return err_set(e, ERR_CONFLICT, "stopped");
		}
		if (clock_mono_ms() - call->last_sign_ms > idle_ms) {
			return err_set(e, ERR_UNAVAILABLE,
			    "the server has been silent for %" PRIu64 " s", idle_ms / 1000);
		}
	}
}

int client_refuse(struct client *c, long http_status, const char *bytes, size_t len, struct err *e)
{
	struct client_refusal *r = &c->refusal;
	*r = (struct client_refusal){.http_status = http_status};
	cleanup(json_decrefp) json_t *body = client_parse_json(bytes, len, NULL);
	const json_t *error = json_object_get(body, "error");
	(void)snprintf(r->code, sizeof(r->code), "%s", client_text(error, "code"));
	const char *detail = client_text(body, "detail"); /* of the routes of code mode */
	(void)snprintf(r->message, sizeof(r->message), "%s",
	    *detail != '\0' ? detail : client_text(error, "message"));
	const char *hint = http_status == 401 && c->token.len == 0
			       ? "; no token was sent, give one with --token-file or CARREL_TOKEN"
			       : "";
	if (http_status >= 300 && http_status <= 399) {
		return err_set(e, ERR_UNAVAILABLE,
		    "the server redirects elsewhere, which is not followed "
		    "(HTTP %ld)",
		    http_status);
	}
	if (r->code[0] == '\0' && r->message[0] == '\0') {
		return err_set(e, ERR_UNAVAILABLE, "the server answered HTTP %ld: %.*s%s",
		    http_status, (int)(len < 200 ? len : 200), bytes, hint);
	}
	if (http_status == 0) {
		return err_set(e, ERR_UNAVAILABLE, "%.*s: %.300s", 100, r->code, r->message);
	}
	return err_set(e, ERR_UNAVAILABLE, "%.*s%s%.300s (HTTP %ld)%s", 100, r->code,
	    r->code[0] != '\0' ? ": " : "", r->message, http_status, hint);
}

static int judge(
    struct client *c, struct client_call *call, CURLcode result, const char *reason, struct err *e)
{
	(void)curl_easy_getinfo(c->call, CURLINFO_RESPONSE_CODE, &call->http_status);
	bool good = call->http_status >= 200 && call->http_status <= 299;
	if (call->stopped) {
		return -1; /* *e is set */
	}
	if (call->http_status >=
	    300) { /* the reason, even when the upload broke off because of it */
		return client_refuse(c, call->http_status, buf_str(&call->body), call->body.len, e);
	}
	if (result != CURLE_OK) {
		const char *text = reason[0] != '\0' ? reason : curl_easy_strerror(result);
		const char *hint = result == CURLE_COULDNT_CONNECT ? "; is the server running?"
								   : "";
		return err_set(e, ERR_UNAVAILABLE, "%s: %s%s", buf_str(&c->base), text, hint);
	}
	return good ? 0 : client_refuse(c, call->http_status, "", 0, e);
}

int client_perform(struct client *c, struct client_call *call, struct err *e)
{
	char reason[CURL_ERROR_SIZE] = "";
	struct err unread = {0};
	cleanup(headers_free) struct curl_slist *headers = NULL;
	cleanup(mime_free) curl_mime *mime = NULL;
	call->client = c;
	call->body = BUF_INIT(CLIENT_REPLY_MAX_BYTES);
	call->why = e != NULL ? e : &unread;
	c->refusal = (struct client_refusal){0};
	if (add_token(c, &headers, e) < 0 ||
	    add_header(&headers, "Accept", call->accept != NULL ? call->accept : "application/json",
		e) < 0 ||
	    (call->json != NULL &&
		add_header(&headers, "Content-Type", "application/json", e) < 0) ||
	    (call->key != NULL && add_header(&headers, "Idempotency-Key", call->key, e) < 0)) {
		return -1;
	}
	if (call->upload_name != NULL && (mime = build_mime(c->call, call)) == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (set_common(c, c->call, call->url, headers) != 0 ||
	    set_callbacks(call, c->call, reason) != 0 || set_method(call, c->call, mime) != 0 ||
	    curl_multi_add_handle(c->multi, c->call) != CURLM_OK) {
		return err_set(e, ERR_INTERNAL, "libcurl refuses the request");
	}
	CURLcode result = CURLE_OK;
	int r = drive(c, call, &result, e);
	if (r == 0) {
		r = judge(c, call, result, reason, e);
	} else {
		(void)curl_easy_getinfo(c->call, CURLINFO_RESPONSE_CODE, &call->http_status);
	}
	(void)curl_multi_remove_handle(c->multi, c->call);
	drop_side(c);
	(void)curl_easy_setopt(c->call, CURLOPT_ERRORBUFFER, NULL);
	(void)curl_easy_setopt(c->call, CURLOPT_HTTPHEADER, NULL);
	(void)curl_easy_setopt(c->call, CURLOPT_MIMEPOST, NULL);
	return r;
}

const char *client_header(struct client *c, const char *name)
{
	struct curl_header *header;
	if (curl_easy_header(c->call, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK) {
		return "";
	}
	return header->value;
}

bool client_delete_beside(struct client *c, const char *url)
{
	if (c->side_runs || add_token(c, &c->side_headers, NULL) < 0) {
		return false;
	}
	unsigned bad = set_common(c, c->side, url, c->side_headers);
	bad |= curl_easy_setopt(c->side, CURLOPT_CUSTOMREQUEST, "DELETE");
	bad |= curl_easy_setopt(c->side, CURLOPT_TIMEOUT_MS, (long)SIDE_TIMEOUT_MS);
	bad |= curl_easy_setopt(c->side, CURLOPT_WRITEFUNCTION, drop_body);
	c->side_runs = bad == 0 && curl_multi_add_handle(c->multi, c->side) == CURLM_OK;
	if (!c->side_runs) {
		headers_free(&c->side_headers);
	}
	return c->side_runs;
}

/* --- JSON --- */

json_t *client_parse_json(const char *bytes, size_t len, struct err *e)
{
	json_error_t why;
	const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
	json_t *value = json_loadb(bytes, len, flags, &why);
	if (value == NULL && json_error_code(&why) == json_error_numeric_overflow) {
		value = json_loadb(bytes, len, flags | JSON_DECODE_INT_AS_REAL, &why);
	}
	if (value == NULL) {
		(void)err_set(e, ERR_UNAVAILABLE, "the server's answer is not JSON: %s", why.text);
	}
	return value;
}

int client_perform_json(struct client *c, struct client_call *call, json_t **out, struct err *e)
{
	if (client_perform(c, call, e) < 0) {
		return -1;
	}
	json_t *value = call->body.len == 0 ? json_null()
					    : client_parse_json(call->body.data, call->body.len, e);
	if (value == NULL) {
		return -1;
	}
	*out = value;
	return 0;
}

int client_get(struct client *c, const char *const *segments, const struct url_query *query,
    uint64_t idle_ms, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	if (url_build(&url, buf_str(&c->base), segments, query, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET, .url = url.data, .idle_ms = idle_ms};
	return client_perform_json(c, &call, out, e);
}

int client_post(struct client *c, const char *const *segments, const json_t *body, const char *key,
    uint64_t idle_ms, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(text_free) char *text = json_dumps(body, JSON_COMPACT);
	if (text == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (url_build(&url, buf_str(&c->base), segments, NULL, e) < 0) {
		return -1;
	}
	size_t len = strlen(text);
	const struct buf json = {.data = text, .len = len, .alloc = len + 1, .max = len};
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_POST, .url = url.data, .json = &json, .key = key, .idle_ms = idle_ms};
	return client_perform_json(c, &call, out, e);
}

const char *client_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

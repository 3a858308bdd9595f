#include "tools/fetch.h"

#include <curl/curl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

#define CONNECT_MS 5000L

struct fetcher {
	CURLM *multi;
	uv_timer_t timer;
	uv_loop_t *loop;
	int live;
	bool in_callback;      /* of libcurl's, where nothing may be added or removed */
	struct fetch *waiting; /* to be added, or freed, after it */
	uv_timer_t later;
};

/* One of libcurl's sockets. */
struct watched {
	uv_poll_t poll;
	struct fetcher *fetcher;
	curl_socket_t fd;
};

struct fetch {
	struct fetcher *fetcher;
	CURL *easy;
	struct curl_slist *headers;
	struct buf body;
	bool too_large;
	bool headed;
	char failure[CURL_ERROR_SIZE];
	bool (*on_bytes)(void *ctx, const char *bytes, size_t len);
	void (*on_head)(void *ctx, long status, const char *content_type);
	void (*done)(void *ctx, const struct fetch_result *result);
	void *ctx;
	bool in_callback; /* of its own: it is freed afterwards */
	bool cancelled;
	bool added;
	bool waits;
	struct fetch *next; /* of those that wait */
};

/* --- one request
 * ---------------------------------------------------------------------------------
 */

static void free_fetch(struct fetch *f)
{
	if (f->added) {
		(void)curl_multi_remove_handle(f->fetcher->multi, f->easy);
	}
	curl_easy_cleanup(f->easy);
	curl_slist_free_all(f->headers);
	buf_fini(&f->body);
	f->fetcher->live--;
	free(f);
}

static const char *content_type_of(const struct fetch *f)
{
	const char *type = NULL;
	(void)curl_easy_getinfo(f->easy, CURLINFO_CONTENT_TYPE, &type);
	return type != NULL ? type : "";
}

static long status_of(const struct fetch *f)
{
	long status = 0;
	(void)curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

static void tell_head(struct fetch *f)
{
	if (!f->headed && f->on_head != NULL && status_of(f) >= 200) {
		f->headed = true;
		f->on_head(f->ctx, status_of(f), content_type_of(f));
	}
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
	struct fetch *f = ctx;
	size_t len = size * count;
	f->in_callback = true;
	f->fetcher->in_callback = true;
	if (!f->cancelled) {
		tell_head(f);
	}
	bool taken = !f->cancelled && (f->on_bytes != NULL ? f->on_bytes(f->ctx, bytes, len)
							   : buf_add(&f->body, bytes, len) == 0);
	f->in_callback = false;
	f->fetcher->in_callback = false;
	f->too_large = f->too_large || (!taken && !f->cancelled);
	return taken && !f->cancelled ? len : 0;
}

static void failure_of(const struct fetch *f, CURLcode code, struct err *e)
{
	if (f->too_large) {
		(void)err_set(e, ERR_TOO_LARGE, "the answer is too large");
	} else if (code == CURLE_OPERATION_TIMEDOUT) {
		(void)err_set(e, ERR_TIMEOUT, "no answer in time");
	} else {
		const char *text = *f->failure != '\0' ? f->failure : curl_easy_strerror(code);
		(void)err_set(e, ERR_UNAVAILABLE, "%s", text);
	}
}

static void finish(struct fetch *f, CURLcode code)
{
	struct err e = {0};
	if (code != CURLE_OK) {
		failure_of(f, code, &e);
	}
	if (!f->cancelled) {
		f->in_callback = true;
		tell_head(f);
		const struct fetch_result result = {
		    .e = code != CURLE_OK ? &e : NULL,
		    .status = status_of(f),
		    .content_type = content_type_of(f),
		    .body = &f->body,
		};
		if (!f->cancelled) {
			f->cancelled = true;
			f->done(f->ctx, &result);
		}
	}
	free_fetch(f);
}

/* What was started or given up in a callback of libcurl's. */
static void on_later(uv_timer_t *timer)
{
	struct fetcher *fetcher = timer->data;
	struct fetch *list = steal(&fetcher->waiting);
	while (list != NULL) {
		struct fetch *f = list;
		list = f->next;
		f->waits = false;
		if (f->cancelled) {
			free_fetch(f);
		} else if (curl_multi_add_handle(fetcher->multi, f->easy) == CURLM_OK) {
			f->added = true;
		} else {
			finish(f, CURLE_FAILED_INIT);
		}
	}
}

static void do_later(struct fetch *f)
{
	if (!f->waits) {
		struct fetch **at = &f->fetcher->waiting;
		while (*at != NULL) {
			at = &(*at)->next;
		}
		f->waits = true;
		f->next = NULL;
		*at = f;
		(void)uv_timer_start(&f->fetcher->later, on_later, 0, 0);
	}
}

static void collect(struct fetcher *fetcher)
{
	int left;
	CURLMsg *m;
	while ((m = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
		if (m->msg == CURLMSG_DONE) {
			char *private = NULL;
			CURLcode code = m->data.result;
			(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
			finish((struct fetch *)(void *)private, code);
		}
	}
}

/* --- libcurl on the loop
 * -------------------------------------------------------------------------
 */

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
	struct watched *w = poll->data;
	struct fetcher *fetcher = w->fetcher;
	int flags = 0;
	int running;
	flags |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
	flags |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
	flags |= status < 0 ? CURL_CSELECT_ERR : 0;
	(void)curl_multi_socket_action(fetcher->multi, w->fd, flags, &running);
	collect(fetcher);
}

static void on_socket_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct watched *watch_socket(struct fetcher *fetcher, curl_socket_t fd)
{
	struct watched *w = calloc(1, sizeof(*w));
	if (w == NULL || uv_poll_init(fetcher->loop, &w->poll, fd) < 0) {
		free(w);
		return NULL;
	}
	w->fetcher = fetcher;
	w->fd = fd;
	w->poll.data = w;
	(void)curl_multi_assign(fetcher->multi, fd, w);
	return w;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
	struct fetcher *fetcher = ctx;
	struct watched *w = known;
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w != NULL) {
			(void)curl_multi_assign(fetcher->multi, fd, NULL);
			(void)uv_poll_stop(&w->poll);
			uv_close((uv_handle_t *)&w->poll, on_socket_closed);
		}
		return 0;
	}
	w = w != NULL ? w : watch_socket(fetcher, fd);
	if (w == NULL) {
		return -1;
	}
	int events = (what & CURL_POLL_IN) != 0 ? UV_READABLE : 0;
	events |= (what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0;
	(void)uv_poll_start(&w->poll, events, on_socket_event);
	return 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct fetcher *fetcher = timer->data;
	int running;
	(void)curl_multi_socket_action(fetcher->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect(fetcher);
}

static int on_timeout(CURLM *multi, long timeout_ms, void *ctx)
{
	struct fetcher *fetcher = ctx;
	(void)multi;
	if (timeout_ms < 0) {
		(void)uv_timer_stop(&fetcher->timer);
	} else {
		(void)uv_timer_start(&fetcher->timer, on_timer, (uint64_t)timeout_ms, 0);
	}
	return 0;
}

struct fetcher *fetcher_new(uv_loop_t *loop)
{
	struct fetcher *f = calloc(1, sizeof(*f));
	if (f == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    (f->multi = curl_multi_init()) == NULL) {
		free(f);
		return NULL;
	}
	f->loop = loop;
	(void)uv_timer_init(loop, &f->timer);
	(void)uv_timer_init(loop, &f->later);
	f->timer.data = f->later.data = f;
	(void)curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
	(void)curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
	(void)curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
	return f;
}

/* --- starting one
 * --------------------------------------------------------------------------------
 */

static int add_headers(struct fetch *f, const json_t *headers)
{
	const char *name;
	json_t *value;
	/* libcurl would wait a second for servers that do not answer it. */
	f->headers = curl_slist_append(NULL, "Expect:");
	json_object_foreach((json_t *)(uintptr_t)headers, name, value)
	{
		cleanup(buf_fini) struct buf line = BUF_INIT(256U << 10);
		const char *text = json_string_value(value);
		if (text == NULL || strpbrk(text, "\r\n") != NULL ||
		    buf_addf(&line, *text != '\0' ? "%s: %s" : "%s;%s", name, text) < 0) {
			return -1;
		}
		struct curl_slist *more = curl_slist_append(f->headers, buf_str(&line));
		if (more == NULL) {
			return -1;
		}
		f->headers = more;
	}
	return 0;
}

static void set_options(struct fetch *f, const struct fetch_options *o)
{
	CURL *easy = f->easy;
	(void)curl_easy_setopt(easy, CURLOPT_URL, o->url);
	(void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, o->method);
	(void)curl_easy_setopt(easy, CURLOPT_NOBODY, strcmp(o->method, "HEAD") == 0 ? 1L : 0L);
	(void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	/* Dots in a path are for the one who checked them, not for libcurl. */
	(void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "carrel/" CARREL_VERSION);
	(void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	(void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)o->timeout_ms);
	(void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->failure);
	(void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->headers);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
	if (o->body != NULL) {
		(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body_len);
		(void)curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, o->body);
	}
}

struct fetch *fetch_start(struct fetcher *fetcher, const struct fetch_options *o, struct err *e)
{
	if (fetcher->live >= FETCHES_MAX) {
		(void)err_set(e, ERR_BUSY, "too many requests at once");
		return NULL;
	}
	struct fetch *f = calloc(1, sizeof(*f));
	if (f == NULL || (f->easy = curl_easy_init()) == NULL) {
		free(f);
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	fetcher->live++;
	f->fetcher = fetcher;
	f->body = BUF_INIT(o->max_bytes);
	f->on_bytes = o->on_bytes;
	f->on_head = o->on_head;
	f->done = o->done;
	f->ctx = o->ctx;
	if (add_headers(f, o->headers) < 0) {
		free_fetch(f);
		(void)err_set(e, ERR_INVALID, "a header that cannot be sent");
		return NULL;
	}
	set_options(f, o);
	if (fetcher->in_callback) {
		do_later(f);
		return f;
	}
	if (curl_multi_add_handle(fetcher->multi, f->easy) != CURLM_OK) {
		free_fetch(f);
		(void)err_set(e, ERR_INTERNAL, "the request cannot be started");
		return NULL;
	}
	f->added = true;
	return f;
}

void fetch_cancel(struct fetch *f)
{
	if (f == NULL) {
		return;
	}
	f->cancelled = true;
	if (f->in_callback || f->waits) {
		return; /* freed afterwards */
	}
	if (f->fetcher->in_callback) {
		do_later(f);
	} else {
		free_fetch(f);
	}
}

const char *fetch_header(const struct fetch *f, const char *name)
{
	struct curl_header *found;
	CURLHcode r = curl_easy_header(f->easy, name, 0, CURLH_HEADER, -1, &found);
	return r == CURLHE_OK ? found->value : NULL;
}

int fetch_escape(const char *text, size_t len, struct buf *out)
{
	static const char unreserved[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	int r = 0;
	for (size_t i = 0; i < len && r == 0; i++) {
		bool plain = text[i] != '\0' && strchr(unreserved, text[i]) != NULL;
		r = plain ? buf_add_char(out, text[i])
			  : buf_addf(out, "%%%02X", (unsigned)(unsigned char)text[i]);
	}
	return r;
}

/*
 * load: asks an HTTP server the same thing again and again over N kept-alive connections of one
 * thread, and tells as JSON how long each answer took.
 *
 *     CARREL_TOKEN=… load --port N [--connections N] [--requests N | --seconds S] [--warm-up N]
 *                         [--identifiers fixed|new] [--prefix TEXT] [--delete] [--rate R]
 *                         [--pool NAME] [--expect TEXT] [--pcm | --health | --get TARGET |
 * --approve]
 *
 * It executes `1+1`: on Azure's wire, or with --pcm on py-code-mode's. With --health it asks for
 * /health, which reaches no session, and with --get for TARGET, a path and query;
 * with --approve it approves the result of the approval that has the identifier. An answer other
 * than 200 with --expect's text in it (the right result, unless told) is an error, which is counted
 * and not among the times. --identifiers fixed is one identifier a connection (PREFIX-0, PREFIX-1,
 * …), new is the next one for each request. --delete ends the session after each answer, over the
 * same connection and outside the time. --rate starts that many requests a second in all, each on a
 * connection that is free; a time begins when its request is written.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/fd.h"
#include "base/text.h"
#include "samples.h"

#define CONNECTIONS_MAX 4096
#define REQUEST_MAX_BYTES 4096
#define ANSWER_MAX_BYTES (1U << 20)
#define STALL_NS 60000000000U /* nothing came for so long: give up */
#define NAME_MAX_BYTES 64
#define TARGET_MAX_BYTES 1024
#define ERROR_SHOWN_BYTES 400
#define API_VERSION "2025-10-02-preview"

struct options {
	uint64_t port;
	uint64_t connections;
	uint64_t requests; /* 0: until the time is over */
	uint64_t warm_up;
	double seconds;
	double rate; /* 0: as fast as answers come */
	bool new_identifiers;
	bool deletes;
	bool pcm;
	bool approve;
	const char *get; /* what is asked for in the place of an execution, or NULL */
	const char *prefix;
	const char *pool;
	const char *expect;
	const char *token;
};

enum phase { FREE, ASKED, DELETING };

struct connection {
	int fd;
	unsigned index;
	enum phase phase;
	uint64_t sent_ns;
	char identifier[NAME_MAX_BYTES * 2];
	struct buf request;
	struct buf answer;
};

struct load {
	struct options options;
	int epoll;
	struct connection *connections;
	struct samples samples;
	uint64_t asked;
	uint64_t answered;
	uint64_t errors;
	uint64_t start_ns; /* of what is counted */
	uint64_t end_ns;
	uint64_t serial;
	uint64_t open_calls;
	char first_error[ERROR_SHOWN_BYTES];
};

/* --- requests
 * ------------------------------------------------------------------------------------- */

/* TARGET: what follows the pool in the path. BODY may be NULL. */
static int request_write(
    struct load *l, struct connection *c, const char *method, const char *target, const char *body)
{
	const struct options *o = &l->options;
	buf_clear(&c->request);
	int r = buf_addf(&c->request, "%s ", method);
	if (r == 0 && *o->pool != '\0') {
		r = buf_addf(&c->request, "/sessionPools/%s", o->pool);
	}
	if (r == 0) {
		r = buf_addf(&c->request,
		    "%s HTTP/1.1\r\nHost: 127.0.0.1:%llu\r\nAuthorization: Bearer %s\r\n", target,
		    (unsigned long long)o->port, o->token);
	}
	if (r == 0 && o->pcm) {
		r = buf_addf(&c->request, "X-Session-ID: %s\r\n", c->identifier);
	}
	if (r == 0 && body != NULL) {
		r = buf_addf(&c->request,
		    "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
	}
	return r < 0 ? r : buf_addf(&c->request, "\r\n%s", body != NULL ? body : "");
}

/* ROUTE of Azure's wire, for the connection's session. */
static int request_write_aca(
    struct load *l, struct connection *c, const char *method, const char *route, const char *body)
{
	char target[TARGET_MAX_BYTES];
	int n = snprintf(target, sizeof(target), "/%s?api-version=" API_VERSION "&identifier=%s",
	    route, c->identifier);
	return n < 0 || (size_t)n >= sizeof(target) ? -EMSGSIZE
						    : request_write(l, c, method, target, body);
}

static int request_write_wanted(struct load *l, struct connection *c)
{
	static const char body[] = "{\"code\":\"1+1\"}";
	const struct options *o = &l->options;
	if (o->get != NULL) {
		return request_write(l, c, "GET", o->get, NULL);
	}
	if (o->approve) {
		char target[TARGET_MAX_BYTES];
		(void)snprintf(target, sizeof(target), "/approvals/%s/decision", c->identifier);
		return request_write(
		    l, c, "POST", target, "{\"approve\":true,\"stage\":\"result\"}");
	}
	return o->pcm ? request_write(l, c, "POST", "/execute", body)
		      : request_write_aca(l, c, "POST", "executions", body);
}

/* Requests are small enough for an idle connection's socket buffer, so they go in one write. */
static int request_send(struct connection *c)
{
	buf_clear(&c->answer);
	ssize_t n = send(c->fd, c->request.data, c->request.len, MSG_NOSIGNAL);
	return n == (ssize_t)c->request.len ? 0 : -EPIPE;
}

static int name_session(struct load *l, struct connection *c)
{
	const struct options *o = &l->options;
	uint64_t number = o->new_identifiers ? l->serial++ : c->index;
	int n = snprintf(
	    c->identifier, sizeof(c->identifier), "%s-%llu", o->prefix, (unsigned long long)number);
	return n < 0 || (size_t)n >= sizeof(c->identifier) ? -EMSGSIZE : 0;
}

static int ask(struct load *l, struct connection *c)
{
	int r = name_session(l, c);
	if (r == 0) {
		r = request_write_wanted(l, c);
	}
	if (r < 0) {
		return r;
	}
	c->phase = ASKED;
	c->sent_ns = samples_now_ns();
	l->asked++;
	l->open_calls++;
	return request_send(c);
}

static int ask_to_delete(struct load *l, struct connection *c)
{
	c->phase = DELETING;
	int r = request_write_aca(l, c, "DELETE", "session", NULL);
	return r < 0 ? r : request_send(c);
}

/* --- answers
 * -------------------------------------------------------------------------------------- */

/* The value of Content-Length in the head that ends at HEAD_END; 0 without one. */
static size_t content_length(const char *head, const char *head_end)
{
	static const char name[] = "\r\ncontent-length:";
	for (const char *at = head; at + sizeof(name) < head_end; at++) {
		if (strncasecmp(at, name, sizeof(name) - 1) == 0) {
			char *end;
			errno = 0;
			unsigned long long v = strtoull(at + sizeof(name) - 1, &end, 10);
			return errno == 0 && v < ANSWER_MAX_BYTES ? (size_t)v : ANSWER_MAX_BYTES;
		}
	}
	return 0;
}

static bool answer_is_whole(const struct connection *c)
{
	const char *text = buf_str(&c->answer);
	const char *end = strstr(text, "\r\n\r\n");
	if (end == NULL) {
		return false;
	}
	size_t head = (size_t)(end - text) + 4;
	return c->answer.len >= head + content_length(text, end + 2);
}

static void note_error(struct load *l, const char *text)
{
	if (l->errors++ > 0) {
		return;
	}
	size_t n = 0;
	for (; *text != '\0' && n + 1 < sizeof(l->first_error); text++) {
		bool plain = *text >= ' ' && *text <= '~' && *text != '"' && *text != '\\';
		l->first_error[n++] = plain ? *text : '.';
	}
	l->first_error[n] = '\0';
}

static bool answer_is_good(const struct load *l, const struct connection *c)
{
	static const char ok[] = "HTTP/1.1 200 ";
	const char *text = buf_str(&c->answer);
	return strncmp(text, ok, sizeof(ok) - 1) == 0 && strstr(text, l->options.expect) != NULL;
}

/* An execution has been answered: its time is taken here. */
static int on_answer(struct load *l, struct connection *c)
{
	uint64_t took_ns = samples_now_ns() - c->sent_ns;
	l->answered++;
	l->open_calls--;
	if (!answer_is_good(l, c)) {
		note_error(l, buf_str(&c->answer));
	} else if (samples_add(&l->samples, took_ns) < 0) {
		return -ENOMEM;
	}
	if (l->options.deletes) {
		return ask_to_delete(l, c);
	}
	c->phase = FREE;
	return 0;
}

static int on_readable(struct load *l, struct connection *c)
{
	char *to = buf_reserve(&c->answer, 16384);
	if (to == NULL) {
		return -EMSGSIZE;
	}
	ssize_t n = recv(c->fd, to, 16384, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return 0;
	}
	if (n <= 0) {
		return -ECONNRESET;
	}
	buf_grew(&c->answer, (size_t)n);
	if (!answer_is_whole(c)) {
		return 0;
	}
	if (c->phase == ASKED) {
		return on_answer(l, c);
	}
	if (c->phase == FREE) {
		return -EPROTO;
	}
	c->phase = FREE;
	return 0;
}

/* --- the loop
 * ------------------------------------------------------------------------------------- */

static bool may_ask(const struct load *l, uint64_t now_ns)
{
	const struct options *o = &l->options;
	if (o->requests > 0 && l->asked >= o->requests) {
		return false;
	}
	if (o->requests == 0 && now_ns >= l->end_ns) {
		return false;
	}
	return o->rate <= 0 || (double)l->asked <= (double)(now_ns - l->start_ns) / 1e9 * o->rate;
}

static bool is_over(const struct load *l, uint64_t now_ns)
{
	const struct options *o = &l->options;
	bool enough = o->requests > 0 ? l->asked >= o->requests : now_ns >= l->end_ns;
	for (uint64_t i = 0; enough && i < o->connections; i++) {
		enough = l->connections[i].phase == FREE;
	}
	return enough;
}

/* Until the next request is due, and at most 100 ms. */
static struct timespec patience(const struct load *l, uint64_t now_ns)
{
	double ns = 100e6;
	if (l->options.rate > 0) {
		double due = (double)l->asked / l->options.rate * 1e9 + (double)l->start_ns;
		double left = due - (double)now_ns;
		ns = left < 0 ? 0 : fmin(ns, left);
	}
	return (struct timespec){.tv_nsec = (long)ns};
}

static int ask_where_free(struct load *l)
{
	for (uint64_t i = 0; i < l->options.connections; i++) {
		struct connection *c = &l->connections[i];
		if (c->phase == FREE && may_ask(l, samples_now_ns())) {
			int r = ask(l, c);
			if (r < 0) {
				return r;
			}
		}
	}
	return 0;
}

static int run(struct load *l)
{
	struct epoll_event events[64];
	l->asked = l->answered = l->open_calls = 0;
	l->start_ns = samples_now_ns();
	l->end_ns = l->start_ns + (uint64_t)(l->options.seconds * 1e9);
	uint64_t heard_ns = l->start_ns;
	uint64_t now_ns = l->start_ns;
	for (;;) {
		int r = ask_where_free(l);
		now_ns = samples_now_ns();
		if (r < 0) {
			return r;
		}
		if (is_over(l, now_ns)) {
			break;
		}
		struct timespec wait = patience(l, now_ns);
		int n = epoll_pwait2(l->epoll, events, array_len(events), &wait, NULL);
		for (int i = 0; i < n; i++) {
			r = on_readable(l, events[i].data.ptr);
			if (r < 0) {
				return r;
			}
		}
		now_ns = samples_now_ns();
		heard_ns = n > 0 || l->open_calls == 0 ? now_ns : heard_ns;
		if (now_ns - heard_ns > STALL_NS) {
			return -ETIMEDOUT;
		}
	}
	l->end_ns = now_ns;
	return 0;
}

/* What is not counted: connections are open and sessions exist when the clock starts. */
static int warm_up(struct load *l)
{
	struct options asked = l->options;
	if (asked.warm_up == 0) {
		return 0;
	}
	l->options.requests = asked.warm_up * asked.connections;
	l->options.rate = 0;
	int r = run(l);
	l->options = asked;
	samples_fini(&l->samples);
	return r;
}

/* --- beginning and end
 * ---------------------------------------------------------------------------- */

static int connection_open(struct load *l, struct connection *c)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET,
	    .sin_port = htons((uint16_t)l->options.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int one = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
		return -errno;
	}
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event) < 0 ? -errno : 0;
}

static int load_init(struct load *l)
{
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->connections = calloc(l->options.connections, sizeof(*l->connections));
	if (l->epoll < 0 || l->connections == NULL) {
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < l->options.connections; i++) {
		struct connection *c = &l->connections[i];
		c->fd = -1;
		c->index = (unsigned)i;
		c->request = BUF_INIT(REQUEST_MAX_BYTES);
		c->answer = BUF_INIT(ANSWER_MAX_BYTES);
	}
	int r = 0;
	for (uint64_t i = 0; r == 0 && i < l->options.connections; i++) {
		r = connection_open(l, &l->connections[i]);
	}
	return r;
}

static void load_fini(struct load *l)
{
	for (uint64_t i = 0; l->connections != NULL && i < l->options.connections; i++) {
		fd_close(&l->connections[i].fd);
		buf_fini(&l->connections[i].request);
		buf_fini(&l->connections[i].answer);
	}
	free(l->connections);
	fd_close(&l->epoll);
	samples_fini(&l->samples);
}

static void tell(struct load *l)
{
	double seconds = (double)(l->end_ns - l->start_ns) / 1e9;
	(void)printf("{\"seconds\":%.6f,\"answered\":%llu,\"errors\":%llu,\"per_second\":%.1f,",
	    seconds, (unsigned long long)l->answered, (unsigned long long)l->errors,
	    (double)l->samples.len / seconds);
	samples_print(&l->samples, stdout);
	(void)printf(",\"first_error\":\"%s\"}\n", l->first_error);
}

/* --- command line
 * --------------------------------------------------------------------------------- */

static int to_double(const char *text, double *out)
{
	char *end;
	errno = 0;
	*out = strtod(text, &end);
	bool good = errno == 0 && end != text && *end == '\0' && *out >= 0 && *out <= 1e6;
	return good ? 0 : -EINVAL;
}

static int identifiers(const char *text, bool *out)
{
	*out = strcmp(text, "new") == 0;
	return *out || strcmp(text, "fixed") == 0 ? 0 : -EINVAL;
}

static int text_option(const char *text, const char **out)
{
	*out = text;
	return strlen(text) <= NAME_MAX_BYTES ? 0 : -EINVAL;
}

static int take_option(int name, const char *value, struct options *o)
{
	switch (name) {
	case 'p':
		return text_to_u64(value, UINT16_MAX, &o->port);
	case 'c':
		return text_to_u64(value, CONNECTIONS_MAX, &o->connections);
	case 'n':
		return text_to_u64(value, SAMPLES_MAX, &o->requests);
	case 'w':
		return text_to_u64(value, SAMPLES_MAX, &o->warm_up);
	case 's':
		return to_double(value, &o->seconds);
	case 'r':
		return to_double(value, &o->rate);
	case 'i':
		return identifiers(value, &o->new_identifiers);
	case 'x':
		return text_option(value, &o->prefix);
	case 'o':
		return text_option(value, &o->pool);
	case 'e':
		return text_option(value, &o->expect);
	case 'd':
		o->deletes = true;
		return 0;
	case 'm':
		o->pcm = true;
		return 0;
	case 'h':
		o->get = "/health";
		o->expect = o->expect != NULL ? o->expect : "healthy";
		return 0;
	case 'a':
		o->approve = true;
		o->expect = o->expect != NULL ? o->expect : "\"state\":\"approved\"";
		return 0;
	case 'g':
		o->get = value;
		return *value == '/' && strlen(value) < TARGET_MAX_BYTES ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {
	    {"port", required_argument, NULL, 'p'},
	    {"connections", required_argument, NULL, 'c'},
	    {"requests", required_argument, NULL, 'n'},
	    {"seconds", required_argument, NULL, 's'},
	    {"warm-up", required_argument, NULL, 'w'},
	    {"identifiers", required_argument, NULL, 'i'},
	    {"prefix", required_argument, NULL, 'x'},
	    {"delete", no_argument, NULL, 'd'},
	    {"rate", required_argument, NULL, 'r'},
	    {"pool", required_argument, NULL, 'o'},
	    {"expect", required_argument, NULL, 'e'},
	    {"pcm", no_argument, NULL, 'm'},
	    {"health", no_argument, NULL, 'h'},
	    {"get", required_argument, NULL, 'g'},
	    {"approve", no_argument, NULL, 'a'},
	    {NULL, 0, NULL, 0},
	};
	for (int name; (name = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		if (take_option(name, optarg, o) < 0) {
			return -EINVAL;
		}
	}
	if (o->expect == NULL) {
		o->expect = o->get != NULL ? ""
			    : o->pcm       ? "\"value\":2,"
					   : "\"executionResult\":2,";
	}
	bool enough = o->port > 0 && o->connections > 0 && (o->requests > 0 || o->seconds > 0);
	return optind == argc && enough ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	const char *token = getenv("CARREL_TOKEN");
	cleanup(load_fini) struct load l = {
	    .epoll = -1,
	    .options =
		{
		    .connections = 1,
		    .prefix = "load",
		    .pool = "",
		    .token = token != NULL ? token : "",
		},
	};
	if (parse(argc, argv, &l.options) < 0) {
		(void)fputs("load: see the head of tests/bench/load.c for its use\n", stderr);
		return 2;
	}
	int r = load_init(&l);
	r = r < 0 ? r : warm_up(&l);
	r = r < 0 ? r : run(&l);
	if (r < 0) {
		(void)fprintf(stderr, "load: %s after %llu answers%s%s\n", strerrordesc_np(-r),
		    (unsigned long long)l.answered, l.errors > 0 ? ": " : "", l.first_error);
		return EXIT_FAILURE;
	}
	tell(&l);
	return EXIT_SUCCESS;
}

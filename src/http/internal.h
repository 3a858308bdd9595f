/*
 * internal: what the files of this room share: the server, a connection, and an exchange (one
 * request and its answer). Nobody outside of src/http includes this.
 *
 * An exchange lives from the first time libmicrohttpd hands a request over until it says the
 * request is completed; it is freed there and nowhere else. While the dialect works, the connection
 * is suspended: libmicrohttpd does not look at it, so our own watch does.
 *
 *     TARGET ──▶ HEAD ──▶ (BEGIN: suspended until call_continue) ──▶ BODY ──▶ HANDLE (suspended
 * until answered) └───────────── an answer may come at any point ──────────────┘──▶ QUEUED
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <microhttpd.h>
#include <uv.h>

#include "api/call.h"
#include "base/json_work.h"
#include "base/quota.h"
#include "http/auth.h"
#include "http/linger.h"
#include "http/multipart.h"
#include "http/peer.h"
#include "http/router.h"
#include "http/server.h"
#include "http/tls.h"
#include "http/watch.h"

#define BODIES_DEFAULT_MAX_BYTES (512U << 20) /* buffered bodies of all calls together */
/* A body up to this size is read and thrown away so that the connection survives a refusal. */
#define BODY_SWALLOW_MAX_BYTES (64U << 10)
/* After an answer given in the middle of a body: how much more of it is thrown away, at most. */
#define BODY_DISCARD_MAX_BYTES (1ULL << 30)
#define BODY_UNKNOWN UINT64_MAX /* chunked */
#define CALL_HEADERS_MAX 16
#define HANGUP_DELAY_MS 20
#define TICK_MS 1000
#define HEAD_TIME_MS 10000
#define BODY_LEAST_BYTES_PER_MS 4
/* What a body has in any case, however full its holder's share is. */
#define BODY_SURE_TIME_MS 5000
#define BODY_SURE_BYTES_PER_MS 64

struct link {
	struct link *prev, *next;
};

struct http {
	uv_loop_t *loop;
	struct MHD_Daemon *daemon;
	struct router *router;
	const struct auth *auth;
	struct json_work *json_work;
	char *default_pool;
	void (*default_error)(struct call *c, int status, const struct err *e);
	int listen_fd; /* until libmicrohttpd owns it */
	uint16_t port;
	unsigned connections_max;
	unsigned connections_per_address; /* 0: none but the share */
	struct peer_nets proxies;         /* that are trusted */
	uint32_t idle_timeout_ms;
	size_t connection_memory_bytes;
	struct tls *tls;        /* NULL: none */
	char start_reason[256]; /* what libmicrohttpd said while it started */
	bool starting, draining, freeing;

	uv_poll_t poll;       /* libmicrohttpd's epoll descriptor */
	uv_timer_t timer;     /* libmicrohttpd's next time-out */
	uv_timer_t hangup;    /* exchanges that wait long enough to be watched */
	uv_timer_t tick;      /* slow heads and bodies */
	uv_prepare_t prepare; /* runs libmicrohttpd before the loop sleeps ... */
	uv_check_t check;     /* ... and after it has seen all events */
	struct watch_set watches;
	struct linger_set linger;
	bool run_wanted;
	uint64_t checked_ms;  /* of conn_check_chunked */
	bool watch_failed;    /* it could not watch the connection that came last */
	uint64_t refused_ms;  /* when a refused connection was last told of in the log; 0: never */
	bool libmicrohttpd_0; /* a version before 1.0, which is lenient: see head.c */
	unsigned handles;     /* that uv_close has to call back for */

	struct link conns; /* struct conn */
	/* struct conn by rank, the first of each gives way first. Those with an admitted call are
	 * in neither. */
	struct link strangers; /* have shown no token, in the order they came */
	struct link idle;      /* have shown one, and wait since */
	struct link calls;     /* struct exchange, all */
	struct link waiting;   /* struct exchange, suspended and not watched, longest wait first */
	unsigned conn_count;   /* libmicrohttpd's */
	unsigned conns_open;   /* without those that were cut and are about to close */
	unsigned open_calls;
	struct quota addresses; /* connections, by address */
	struct quota admitted;  /* open calls, by principal */
	struct quota bodies;    /* bytes of buffered bodies, by principal */
};

enum conn_phase { CONN_HEAD, CONN_BODY, CONN_ANSWER };

/* One connection. */
struct conn {
	struct link link;
	struct link rank; /* in http->strangers or http->idle */
	struct http *http;
	int fd; /* libmicrohttpd's */
	struct peer peer;
	char address[PEER_NAME_BYTES]; /* of peer; "" for a trusted proxy, which is not counted */
	struct exchange *exchange;     /* that is not completed, or NULL */
	enum conn_phase phase;
	uint64_t phase_since_ms;
	uint64_t body_bytes; /* in CONN_BODY, so far */
	uint64_t tick_bytes; /* body_bytes at the last tick at which bytes were unread */
	bool unread;         /* bytes were unread at the last tick, in the same phase */
	bool known;          /* a token was shown on it */
	bool served;         /* a request on it was completed */
	bool linger;         /* bytes may be unread when it closes */
	bool cut;            /* shut down by us */
};

enum stage { STAGE_TARGET, STAGE_HEAD, STAGE_BEGIN, STAGE_BODY, STAGE_HANDLE, STAGE_QUEUED };

struct header {
	char *name, *value;
};

struct text_node {
	struct text_node *next;
	char text[];
};

struct exchange {
	struct call call; /* first: a dialect's pointer is ours */
	struct http *http;
	struct conn *conn;
	struct MHD_Connection *mhd;
	struct link link;    /* in http->calls */
	struct link waiting; /* in http->waiting while suspended and not watched */
	struct watch watch;
	struct route_match match;
	struct text_node *texts; /* decoded query values */
	/* The request's target. libmicrohttpd decodes it in place and keeps a list of its query's
	 * parameters that is bounded by memory, so this is our own copy, cut at the '?'. */
	char *target;
	char *query;           /* behind the '?' in target, or NULL */
	const char *target_at; /* where libmicrohttpd has it, for head_check */
	size_t target_len;     /* query included */
	const char *body_at;   /* where the body begins in libmicrohttpd's memory, or NULL */
	char address[PEER_NAME_BYTES]; /* the holder where nobody has a name */
	uint64_t start_us;
	uint64_t suspended_ms;

	enum stage stage;
	bool suspended;  /* in libmicrohttpd */
	bool continued;  /* call_continue was called */
	bool answered;   /* one of the call_reply functions was called */
	bool told_gone;  /* call->gone was called, or must not be any more */
	bool dead;       /* the connection is to be closed without an answer */
	bool reading;    /* in source->read */
	bool woken;      /* call_wake during source->read */
	bool paused;     /* no more of the body is wanted for now */
	bool must_close; /* the request's framing is not to be trusted after the head */
	bool opened;     /* counted in http->open_calls */
	bool admitted;   /* charged to http->admitted */

	uint64_t body_expected; /* Content-Length, or BODY_UNKNOWN */
	uint64_t body_bytes;    /* seen so far */
	size_t kept_bytes;      /* of a buffered body, charged to http->bodies */
	struct multipart *multipart;
	struct json_job *json_job; /* that reads the body */

	struct header headers[CALL_HEADERS_MAX];
	size_t header_count;
	struct MHD_Response *response; /* ours until queued */
	int status;
	uint64_t sent_bytes; /* the answer's body, for the log */

	struct call_source *source; /* until closed */
};

/* A ring of links; HEAD is one too. */
void link_init(struct link *head);
void link_append(struct link *head, struct link *l);
/* Also when it is in no ring. */
void link_remove(struct link *l);

/* server.c */
/* Libmicrohttpd has something to do: it is run before the loop sleeps. */
void http_want_run(struct http *h);

/* conn.c */
/* X waits: libmicrohttpd leaves its connection alone until exchange_resume(). */
void exchange_suspend(struct exchange *x);
/* Nothing when it is not suspended. */
void exchange_resume(struct exchange *x);
/* A call of C's client was let in; the connection gives way to nobody until conn_rest(). */
void conn_admit(struct conn *c);
/* A request of C's is completed. */
void conn_rest(struct conn *c);
/* Libmicrohttpd wants to be run again although it has just been. */
void conn_check_chunked(struct http *h);
/* A connection comes or goes: MHD_NotifyConnectionCallback. */
void conn_notify(void *http, struct MHD_Connection *mhd, void **socket_context,
    enum MHD_ConnectionNotificationCode what);

/* head.c */
/* NULL, or what is wrong with the head of X, whose METHOD and VERSION libmicrohttpd has handed
 * over. */
const char *head_check(struct exchange *x, const char *method, const char *version);
/* Whether the line in front of DATA, a piece of a chunked body, is one that ends in CRLF. */
bool head_chunk_is_sound(const struct exchange *x, const char *data);

/* exchange.c */
/* A request line has been read: MHD_OPTION_URI_LOG_CALLBACK. What it returns is the exchange. */
void *exchange_target(void *http, const char *target, struct MHD_Connection *mhd);
enum MHD_Result exchange_access(void *http, struct MHD_Connection *mhd, const char *url,
    const char *method, const char *version, const char *data, size_t *size, void **exchange);
void exchange_completed(
    void *http, struct MHD_Connection *mhd, void **exchange, enum MHD_RequestTerminationCode why);
/* The client has left, or the server ends. */
void exchange_hung_up(struct exchange *x);
/* Answers with *E in the route's shape, or the default's. */
void exchange_error(struct exchange *x, int status, const struct err *e);
void exchange_refuse(struct exchange *x, int status, enum err_code code, const char *fmt, ...)
    printf_like(4, 5);

/* admit.c */
/* Fills x->call from the head, and x->body_expected. BAD: what head_check said. 0, or -1 when it
 * was refused and answered. */
int admit(struct exchange *x, const char *bad);

/* reply.c */
/* Gives R (NULL: none could be made, the connection is closed) as the answer; takes it over. */
void reply_give(struct exchange *x, int status, struct MHD_Response *r);
bool reply_add_header(struct MHD_Response *r, const char *name, const char *value);
/* A response over BODY's bytes, which it takes over. NULL when out of memory. */
struct MHD_Response *reply_from_buf(struct buf *body);
/* A response of SIZE bytes (or MHD_SIZE_UNKNOWN) that S is asked for; S is then X's. NULL when out
 * of memory. */
struct MHD_Response *reply_from_source(struct exchange *x, struct call_source *s, uint64_t size);
/* Drops an answer that was not queued. */
void reply_forget(struct exchange *x);

#endif

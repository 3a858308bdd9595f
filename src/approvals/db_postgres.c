/*
 * PostgreSQL beneath db.h, through libpq. The connection does not block: whatever is awaited has a
 * bound, so a server that has stopped answering is a lost connection and not a lost thread.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "approvals/db.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/text.h"

#define VALUES_MAX 64
#define ANSWER_MS 35000       /* a little more than the server's own limit on a statement */
#define NOTIFY_MAX_BYTES 7900 /* NOTIFY takes less than 8000 */
#define CHANNEL "carrel_approvals"
#define OID_BOOL 16
#define OID_INT8 20

/* A statement that was prepared, by the place of its text. */
struct prepared {
	const char *sql;
	char name[24];
	UT_hash_handle hh;
};

struct db_postgres {
	struct db db; /* first */
	PGconn *conn;
	struct prepared *prepared;
	uint32_t next_name;
	bool lost;
	bool warned;     /* by the server, since it was set to false */
	bool reads;      /* in a snapshot */
	struct buf told; /* ids that this transaction tells at its end, with spaces between */
};

struct row {
	struct db_row row; /* first */
	const PGresult *result;
	int at;
};

/* --- errors --- */

/* libpq's text may have several lines and ends with one; the first says what it is. It holds host
 * and user, never the password (check_url). */
static int fail_with(struct err *e, enum err_code code, const char *what, const char *why)
{
	size_t len = strcspn(why, "\n");
	return err_set(e, code, "the database: %s: %.*s", what, (int)(len < 300 ? len : 300), why);
}

static int fail_lost(struct db_postgres *p, const char *what, struct err *e)
{
	const char *why = PQerrorMessage(p->conn);
	p->lost = true;
	return fail_with(e, ERR_UNAVAILABLE, what, why[0] != '\0' ? why : "the connection is lost");
}

/* By SQLSTATE, of which the first two characters are a class. */
static enum err_code code_of(const char *state)
{
	static const struct {
		const char *state;
		enum err_code code;
	} codes[] = {
	    {"08", ERR_UNAVAILABLE},    /* connection */
	    {"25006", ERR_UNAVAILABLE}, /* only reading: it has become a standby */
	    {"40", ERR_BUSY},           /* serialization, deadlock */
	    {"53", ERR_UNAVAILABLE},    /* no connections, memory or disk left */
	    {"54", ERR_TOO_LARGE},
	    {"55P03", ERR_BUSY}, /* a lock was not to be had in time */
	    {"57014", ERR_BUSY}, /* the statement took too long */
	    {"57", ERR_UNAVAILABLE},
	    {"58", ERR_UNAVAILABLE}, /* the server's files */
	    {"22021", ERR_INVALID},  /* not a character of the encoding */
	    {"22P05", ERR_INVALID},
	};
	for (size_t i = 0; i < array_len(codes); i++) {
		if (text_has_prefix(state, codes[i].state)) {
			return codes[i].code;
		}
	}
	return ERR_INTERNAL;
}

static int fail_result(
    struct db_postgres *p, const char *what, const PGresult *result, struct err *e)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *why = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	if (PQstatus(p->conn) == CONNECTION_BAD) {
		p->lost = true;
		return fail_with(
		    e, ERR_UNAVAILABLE, what, why != NULL ? why : PQresultErrorMessage(result));
	}
	/* A snapshot was never meant to be written in; anywhere else it says that the server has
	 * become a standby.
	 */
	bool misused = p->reads && state != NULL && strcmp(state, "25006") == 0;
	return fail_with(e, misused ? ERR_INTERNAL : code_of(state != NULL ? state : ""), what,
	    why != NULL ? why : PQresultErrorMessage(result));
}

/* --- asking --- */

static int wait_socket(struct db_postgres *p, short events, uint64_t until_ms)
{
	for (;;) {
		uint64_t now = clock_mono_ms();
		struct pollfd fd = {.fd = PQsocket(p->conn), .events = events};
		int r = now >= until_ms ? 0 : poll(&fd, 1, (int)(until_ms - now));
		if (r > 0) {
			return fd.revents;
		}
		if (r == 0) {
			return -ETIMEDOUT;
		}
		if (errno != EINTR) {
			return -errno;
		}
	}
}

/* All of the question leaves; the server may answer meanwhile, and would stop reading if nobody
 * took that. */
static int send_all(struct db_postgres *p, uint64_t until_ms)
{
	for (;;) {
		int r = PQflush(p->conn);
		if (r <= 0) {
			return r;
		}
		r = wait_socket(p, POLLIN | POLLOUT, until_ms);
		if (r < 0 || ((r & POLLIN) != 0 && PQconsumeInput(p->conn) == 0)) {
			return -1;
		}
	}
}

static int receive(struct db_postgres *p, uint64_t until_ms)
{
	while (PQisBusy(p->conn) != 0) {
		if (wait_socket(p, POLLIN, until_ms) < 0 || PQconsumeInput(p->conn) == 0) {
			return -1;
		}
	}
	return 0;
}

/* The last result of what was SENT (as PQsend… returned), to be cleared; NULL with E when the
 * connection is lost or the statement failed. */
static PGresult *await_result(struct db_postgres *p, int sent, const char *what, struct err *e)
{
	uint64_t until_ms = clock_mono_ms() + ANSWER_MS;
	PGresult *result = NULL;
	PGresult *next;
	if (sent == 0 || send_all(p, until_ms) < 0) {
		(void)fail_lost(p, what, e);
		return NULL;
	}
	for (;;) {
		if (receive(p, until_ms) < 0) {
			PQclear(result);
			(void)fail_lost(p, what, e);
			return NULL;
		}
		next = PQgetResult(p->conn);
		if (next == NULL) {
			break;
		}
		PQclear(result);
		result = next;
	}
	ExecStatusType status = PQresultStatus(result);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
	    status == PGRES_EMPTY_QUERY) {
		return result;
	}
	(void)fail_result(p, what, result, e);
	PQclear(result);
	return NULL;
}

static int check_open(const struct db_postgres *p, struct err *e)
{
	return p->lost ? err_set(e, ERR_UNAVAILABLE, "the database: the connection is lost") : 0;
}

static int run_simple(struct db_postgres *p, const char *sql, const char *what, struct err *e)
{
	if (check_open(p, e) < 0) {
		return -1;
	}
	PGresult *result = await_result(p, PQsendQuery(p->conn, sql), what, e);
	PQclear(result);
	return result != NULL ? 0 : -1;
}

/* --- transactions --- */

static int postgres_script(struct db *d, const char *sql, struct err *e)
{
	return run_simple(container_of(d, struct db_postgres, db), sql, "a script", e);
}

/* The lock's number is nobody else's: "carrelap". It goes with the transaction. */
static int postgres_begin(struct db *d, struct err *e)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	buf_clear(&p->told);
	p->reads = false;
	if (run_simple(p, "BEGIN; SELECT pg_advisory_xact_lock(7161130718149239152)",
		"beginning a transaction", e) == 0) {
		return 0;
	}
	d->driver->rollback(d);
	return -1;
}

static int postgres_snapshot(struct db *d, struct err *e)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	p->reads = true;
	return run_simple(
	    p, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "beginning to read", e);
}

static void postgres_rollback(struct db *d)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	buf_clear(&p->told);
	if (!p->lost && PQtransactionStatus(p->conn) != PQTRANS_IDLE) {
		p->lost = run_simple(p, "ROLLBACK", "taking back", NULL) < 0;
	}
}

static int flush_told(struct db_postgres *p, struct err *e)
{
	const char *value = buf_str(&p->told);
	if (p->told.len == 0) {
		return 0;
	}
	PGresult *result = await_result(p,
	    PQsendQueryParams(
		p->conn, "SELECT pg_notify('" CHANNEL "', $1)", 1, NULL, &value, NULL, NULL, 0),
	    "telling", e);
	PQclear(result);
	buf_clear(&p->told);
	return result != NULL ? 0 : -1;
}

/* Once COMMIT is on its way only the server knows what became of it. A transaction in which
 * something failed answers with ROLLBACK, and no error. A warning comes when it stopped waiting for
 * a standby that has to have it (statement_timeout, an administrator): it is in this server's log,
 * and gone if the standby takes over. */
static int postgres_commit(struct db *d, struct err *e)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	if (check_open(p, e) < 0 || flush_told(p, e) < 0) {
		return -1;
	}
	p->warned = false;
	PGresult *result = await_result(p, PQsendQuery(p->conn, "COMMIT"), "committing", e);
	bool answered = result != NULL;
	bool done = answered && strcmp(PQcmdStatus(result), "COMMIT") == 0;
	PQclear(result);
	if (p->lost) {
		e->code = ERR_UNSURE;
		return -1;
	}
	if (done && p->warned) {
		return err_set(e, ERR_UNSURE, "the database: no standby has confirmed the commit");
	}
	if (answered && !done) {
		return err_set(e, ERR_INTERNAL, "the database: a statement had failed");
	}
	return done ? 0 : -1;
}

/* As many as fit go in one message, at the end of the transaction. */
static int postgres_notify(struct db *d, const char *id, struct err *e)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	size_t len = strlen(id);
	if (len == 0 || len > 64 || strchr(id, ' ') != NULL) {
		return err_set(e, ERR_INVALID, "the database: no id to tell");
	}
	if (p->told.len + len + 1 > NOTIFY_MAX_BYTES && flush_told(p, e) < 0) {
		return -1;
	}
	if ((p->told.len > 0 && buf_add_char(&p->told, ' ') < 0) || buf_add_str(&p->told, id) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	return 0;
}

/* --- statements --- */

/* Numbers are said to be BIGINT; what a text or a NULL is, the server sees from its use. */
static int prepare(struct db_postgres *p, const char *sql, const struct db_value *values,
    size_t count, struct prepared **out, struct err *e)
{
	Oid types[VALUES_MAX];
	HASH_FIND_PTR(p->prepared, &sql, *out);
	if (*out != NULL) {
		return 0;
	}
	struct prepared *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	for (size_t i = 0; i < count; i++) {
		types[i] = values[i].is_text ? 0 : OID_INT8;
	}
	s->sql = sql;
	(void)snprintf(s->name, sizeof(s->name), "carrel%u", p->next_name++);
	PGresult *result = await_result(
	    p, PQsendPrepare(p->conn, s->name, sql, (int)count, types), "preparing a statement", e);
	PQclear(result);
	if (result == NULL) {
		free(s);
		return -1;
	}
	HASH_ADD_PTR(p->prepared, sql, s);
	*out = s;
	return 0;
}

struct number {
	char text[24];
};

static int bind_values(const struct db_value *values, size_t count, struct number *numbers,
    const char **out, struct err *e)
{
	if (count > VALUES_MAX) {
		return err_set(e, ERR_INTERNAL, "the database: a statement of too many values");
	}
	for (size_t i = 0; i < count; i++) {
		const struct db_value *v = &values[i];
		out[i] = v->text;
		if (!v->is_text) {
			(void)snprintf(
			    numbers[i].text, sizeof(numbers[i].text), "%lld", (long long)v->number);
			out[i] = numbers[i].text;
		} else if (v->text != NULL && v->len > DB_TEXT_MAX_BYTES) {
			return err_set(e, ERR_TOO_LARGE, "the database: a text is too long");
		} else if (v->text != NULL && memchr(v->text, '\0', v->len) != NULL) {
			return err_set(e, ERR_INVALID, "PostgreSQL holds no text with a NUL in it");
		}
	}
	return 0;
}

static int64_t parse_number(const char *text)
{
	bool negative = text[0] == '-';
	uint64_t n = 0;
	(void)text_to_u64(text + (negative ? 1 : 0), INT64_MAX, &n);
	return negative ? -(int64_t)n : (int64_t)n;
}

static int postgres_run(struct db *d, const char *sql, const struct db_value *values, size_t count,
    db_row_fn each, void *ctx, int64_t *changed, struct err *e)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	struct number numbers[VALUES_MAX];
	const char *texts[VALUES_MAX];
	struct prepared *s = NULL;
	if (check_open(p, e) < 0 || bind_values(values, count, numbers, texts, e) < 0 ||
	    prepare(p, sql, values, count, &s, e) < 0) {
		return -1;
	}
	PGresult *result = await_result(p,
	    PQsendQueryPrepared(p->conn, s->name, (int)count, texts, NULL, NULL, 0), "a statement",
	    e);
	if (result == NULL) {
		return -1;
	}
	struct row row = {.row = {.db = d}, .result = result};
	for (; each != NULL && row.at < PQntuples(result); row.at++) {
		if (each(ctx, &row.row) != 0) {
			break;
		}
	}
	if (changed != NULL) {
		bool reads = text_has_prefix(PQcmdStatus(result), "SELECT");
		*changed = reads ? 0 : parse_number(PQcmdTuples(result));
	}
	PQclear(result);
	return 0;
}

static const struct row *row_of(const struct db_row *r)
{
	return (const struct row *)(const void *)r;
}

static bool postgres_is_null(const struct db_row *r, int column)
{
	return PQgetisnull(row_of(r)->result, row_of(r)->at, column) != 0;
}

static const char *postgres_text(const struct db_row *r, int column, size_t *len)
{
	const struct row *row = row_of(r);
	bool null = PQgetisnull(row->result, row->at, column) != 0;
	if (len != NULL) {
		*len = null ? 0 : (size_t)PQgetlength(row->result, row->at, column);
	}
	return null ? NULL : PQgetvalue(row->result, row->at, column);
}

/* As SQLite has it, true is 1 and NULL is 0. */
static int64_t postgres_int(const struct db_row *r, int column)
{
	const char *text = postgres_text(r, column, NULL);
	if (text != NULL && PQftype(row_of(r)->result, column) == OID_BOOL) {
		return text[0] == 't';
	}
	return text != NULL ? parse_number(text) : 0;
}

/* --- hearing of others --- */

static int postgres_listen(struct db *d, struct err *e)
{
	return postgres_script(d, "LISTEN " CHANNEL, e);
}

/* Anybody with an account may tell anything there: ids are taken as ids, as long as they fit. */
static void hand_on(PGnotify *n, db_told_fn fn, void *ctx)
{
	char *rest = n->extra;
	char *id;
	while ((id = strsep(&rest, " ")) != NULL) {
		if (id[0] != '\0' && strlen(id) < 64) {
			fn(ctx, id, n->be_pid);
		}
	}
}

static bool hand_on_all(struct db_postgres *p, db_told_fn fn, void *ctx)
{
	PGnotify *n;
	bool any = false;
	while ((n = PQnotifies(p->conn)) != NULL) {
		hand_on(n, fn, ctx);
		PQfreemem(n);
		any = true;
	}
	return any;
}

/* Some may have come with the answer to LISTEN. */
static int postgres_wait(
    struct db *d, int wake_fd, int timeout_ms, db_told_fn fn, void *ctx, struct err *e)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	if (check_open(p, e) < 0) {
		return -1;
	}
	if (hand_on_all(p, fn, ctx)) {
		return 0;
	}
	struct pollfd fds[] = {
	    {.fd = PQsocket(p->conn), .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
	(void)poll(fds, array_len(fds), timeout_ms);
	if (fds[0].revents != 0 && PQconsumeInput(p->conn) == 0) {
		return fail_lost(p, "listening", e);
	}
	(void)hand_on_all(p, fn, ctx);
	return 0;
}

static int64_t postgres_session(const struct db *d)
{
	return PQbackendPID(((const struct db_postgres *)(const void *)d)->conn);
}

/* --- opening --- */

static void postgres_close(struct db *d)
{
	struct db_postgres *p = container_of(d, struct db_postgres, db);
	struct prepared *s, *next;
	HASH_ITER(hh, p->prepared, s, next)
	{
		HASH_DEL(p->prepared, s);
		free(s);
	}
	PQfinish(p->conn);
	buf_fini(&p->told);
	free(p);
}

static const struct db_driver driver = {
    .kind = "postgresql",
    .skip_locked = " FOR UPDATE SKIP LOCKED",
    .close = postgres_close,
    .begin = postgres_begin,
    .snapshot = postgres_snapshot,
    .commit = postgres_commit,
    .rollback = postgres_rollback,
    .run = postgres_run,
    .script = postgres_script,
    .notify = postgres_notify,
    .listen = postgres_listen,
    .wait = postgres_wait,
    .session = postgres_session,
    .is_null = postgres_is_null,
    .number = postgres_int,
    .text = postgres_text,
};

/* What libpq would name in its errors, if a character in the password had not been written as %XX,
 * might be a piece of it. So such a URL does not get that far, and nothing of it is told. */
static bool is_plausible(const PQconninfoOption *options)
{
	for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
		if (o->val == NULL) {
			continue;
		}
		if ((strcmp(o->keyword, "host") == 0 && strpbrk(o->val, "@?#") != NULL) ||
		    (strcmp(o->keyword, "dbname") == 0 && strpbrk(o->val, "@/") != NULL) ||
		    (strcmp(o->keyword, "port") == 0 &&
			strspn(o->val, "0123456789,") != strlen(o->val))) {
			return false;
		}
	}
	return true;
}

static int check_url(const char *url, struct err *e)
{
	char *why = NULL;
	PQconninfoOption *options = PQconninfoParse(url, &why);
	bool fine = options != NULL && is_plausible(options);
	PQconninfoFree(options);
	PQfreemem(why);
	return fine ? 0
		    : err_set(e, ERR_INVALID,
			  "the database's URL is not well formed: "
			  "postgresql://USER:PASSWORD@HOST:PORT/NAME?sslmode=…, where other "
			  "characters than letters and digits are written as %%XX");
}

static void on_notice(void *ctx, const PGresult *notice)
{
	struct db_postgres *p = ctx;
	const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
	p->warned = p->warned || (severity != NULL && strcmp(severity, "WARNING") == 0);
}

/* What a commit's durability and the bounds of waiting need. remote_apply is more than on. */
static int configure(struct db_postgres *p, struct err *e)
{
	static const char settings[] =
	    "SELECT set_config('synchronous_commit', 'on', false)"
	    " WHERE current_setting('synchronous_commit') <> 'remote_apply';"
	    "SET statement_timeout = 30000; SET lock_timeout = 10000;"
	    "SET idle_in_transaction_session_timeout = 10000;"
	    "SET default_transaction_isolation = 'read committed';"
	    "SET default_transaction_read_only = off; SET standard_conforming_strings = on";
	_Static_assert(DB_BUSY_MS == 10000, "lock_timeout");
	const char *encoding = PQparameterStatus(p->conn, "server_encoding");
	if (encoding == NULL || strcmp(encoding, "UTF8") != 0) {
		return err_set(e, ERR_INVALID, "the database's encoding is %s, and it must be UTF8",
		    encoding != NULL ? encoding : "unknown");
	}
	(void)PQsetNoticeReceiver(p->conn, on_notice, p);
	if (PQsetnonblocking(p->conn, 1) < 0) {
		return fail_lost(p, "opening", e);
	}
	return run_simple(p, settings, "opening", e);
}

/* Those before the URL are its to change, those behind it are not. A server that has gone without a
 * word is noticed by TCP after some 15 s. */
static PGconn *connect_to(const char *url)
{
	static const char *const keys[] = {"connect_timeout", "fallback_application_name",
	    "gssencmode", "target_session_attrs", "keepalives_idle", "keepalives_interval",
	    "keepalives_count", "tcp_user_timeout", "dbname", "client_encoding", NULL};
	const char *const values[] = {
	    "5", "carrel", "disable", "read-write", "10", "2", "3", "15000", url, "UTF8", NULL};
	_Static_assert(array_len(keys) == array_len(values), "each has its value");
	return PQconnectdbParams(keys, values, 1);
}

int db_postgres_open(struct db **out, const char *url, struct err *e)
{
	if (check_url(url, e) < 0) {
		return -1;
	}
	struct db_postgres *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	p->db.driver = &driver;
	p->told.max = NOTIFY_MAX_BYTES;
	p->conn = connect_to(url);
	if (PQstatus(p->conn) != CONNECTION_OK) {
		(void)fail_with(e, ERR_UNAVAILABLE, "connecting",
		    p->conn != NULL ? PQerrorMessage(p->conn) : "out of memory");
		postgres_close(&p->db);
		return -1;
	}
	if (configure(p, e) < 0) {
		postgres_close(&p->db);
		return -1;
	}
	*out = &p->db;
	return 0;
}

/*
 * db: the little of SQL that approvals need, the same over SQLite and PostgreSQL. A driver is one
 * file (db_sqlite.c, db_postgres.c); everything else writes one SQL for both: parameters are $1,
 * $2, …, each used in the order of its number when first seen; types are BIGINT and TEXT; ON
 * CONFLICT and RETURNING may be used.
 *
 * All functions block and belong to the thread that uses the db; a db is used by one thread at a
 * time.
 */
#ifndef APPROVALS_DB_H
#define APPROVALS_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct db;
struct db_row;

#define DB_BUSY_MS 10000 /* how long a lock of another process is waited for */
#define DB_TEXT_MAX_BYTES (64U << 20)

/* A parameter. text NULL and is_text: NULL. Borrowed for the call. text[len] is a NUL, and for
 * PostgreSQL, which cannot hold one, there is none before it (ERR_INVALID). */
struct db_value {
	bool is_text;
	int64_t number;
	const char *text;
	size_t len;
};

#define DB_INT(n)                      \
	(struct db_value)              \
	{                              \
		.number = (int64_t)(n) \
	}
/* S may be NULL. */
#define DB_TEXT(s) db_text_value(s)
struct db_value db_text_value(const char *s);

/* URL: "sqlite:PATH" or "postgresql://…" (also postgres://). Opens, with the journal and the
 * durability that a commit needs (SQLite: WAL, synchronous FULL, foreign keys on; the file is made
 * with mode 0600). ERR_INVALID for a URL that is none, ERR_UNAVAILABLE for a server that does not
 * answer; a password never stands in E. */
int db_open(struct db **out, const char *url, struct err *e);
/* NULL is allowed. */
void db_close(struct db *d);

/* "sqlite" or "postgresql", for the few statements that differ (the schema). */
const char *db_kind(const struct db *d);
/* What makes a SELECT take rows that nobody else is taking: " FOR UPDATE SKIP LOCKED", or "" where
 * writers are alone anyway. */
const char *db_skip_locked(const struct db *d);

/* A transaction that writes. There is one at a time for the whole database, so what it reads stays
 * as it was read (PostgreSQL: an advisory lock; the audit trail's head would have the writers one
 * behind the other anyway, and this way they cannot end in a deadlock). commit returns once it is
 * on disk. A db whose connection is lost fails with ERR_UNAVAILABLE until db_open anew; ERR_BUSY:
 * another transaction was in the way too long, all of it may be tried again. After ERR_UNSURE, of
 * commit alone, nobody knows whether it was done, and the db is to be opened anew; after any other
 * error it was not done. */
int db_begin(struct db *d, struct err *e);
/* A transaction that only reads, and sees one state of everything. It ends with db_rollback,
 * or with db_commit when a temporary table of this connection was written and is to stay so. */
int db_snapshot(struct db *d, struct err *e);
int db_commit(struct db *d, struct err *e);
/* Never fails: what cannot be rolled back is gone with its connection. */
void db_rollback(struct db *d);

/* Called for each row; not 0 stops. */
typedef int (*db_row_fn)(void *ctx, const struct db_row *r);

/* Runs one statement, prepared at its first use (SQL is borrowed for the db's life: a literal).
 * EACH may be NULL. CHANGED, which may be NULL: how many rows it inserted, updated or deleted. */
int db_run(struct db *d, const char *sql, const struct db_value *values, size_t count,
    db_row_fn each, void *ctx, int64_t *changed, struct err *e);
/* Runs a script of several statements without parameters (the schema). Not kept. */
int db_script(struct db *d, const char *sql, struct err *e);

/* Columns count from 0. */
bool db_is_null(const struct db_row *r, int column);
int64_t db_int(const struct db_row *r, int column);
/* NUL-terminated; NULL for NULL. LEN may be NULL. Borrowed until EACH returns. */
const char *db_text(const struct db_row *r, int column, size_t *len);

/* Inside a transaction: tells every listener of the same database about ID once it is committed.
 * Does nothing where only this process's own commits are told (SQLite). */
int db_notify(struct db *d, const char *id, struct err *e);

/* Whether another connection's db_notify can be heard, with the three below. */
bool db_tells(const struct db *d);
/* From now on this connection hears; it is for nothing else then. */
int db_listen(struct db *d, struct err *e);
/* ID: borrowed, not empty. FROM: the db_session of who told. */
typedef void (*db_told_fn)(void *ctx, const char *id, int64_t from);
/* Waits until somebody tells, WAKE_FD can be read, or TIMEOUT_MS; FN for each id. */
int db_wait(struct db *d, int wake_fd, int timeout_ms, db_told_fn fn, void *ctx, struct err *e);
/* A number that no other open connection to this database has; 0 where nobody tells. */
int64_t db_session(const struct db *d);

/* How many statements have changed something since db_open. */
uint64_t db_changes(const struct db *d);
/* Whether a statement failed in this transaction; then it is not to be committed. */
bool db_is_broken(const struct db *d);

/* --- for the drivers --- */

struct db_driver {
	const char *kind;
	const char *skip_locked;
	void (*close)(struct db *d);
	int (*begin)(struct db *d, struct err *e);
	int (*snapshot)(struct db *d, struct err *e);
	int (*commit)(struct db *d, struct err *e);
	void (*rollback)(struct db *d);
	int (*run)(struct db *d, const char *sql, const struct db_value *values, size_t count,
	    db_row_fn each, void *ctx, int64_t *changed, struct err *e);
	int (*script)(struct db *d, const char *sql, struct err *e);
	int (*notify)(struct db *d, const char *id, struct err *e);
	/* NULL where nobody tells. */
	int (*listen)(struct db *d, struct err *e);
	int (*wait)(
	    struct db *d, int wake_fd, int timeout_ms, db_told_fn fn, void *ctx, struct err *e);
	int64_t (*session)(const struct db *d);
	bool (*is_null)(const struct db_row *r, int column);
	int64_t (*number)(const struct db_row *r, int column);
	const char *(*text)(const struct db_row *r, int column, size_t *len);
};

struct db {
	const struct db_driver *driver;
	uint64_t changes;
	bool broken;
};
struct db_row {
	struct db *db;
};

int db_sqlite_open(struct db **out, const char *path, struct err *e);
int db_postgres_open(struct db **out, const char *url, struct err *e);

#endif

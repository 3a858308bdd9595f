/* SQLite beneath db.h. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "approvals/db.h"
#include "base/compiler.h"

/* A statement that was prepared, by the place of its text. */
struct prepared {
	const char *sql;
	sqlite3_stmt *statement;
	UT_hash_handle hh;
};

struct db_sqlite {
	struct db db;
	sqlite3 *handle;
	struct prepared *prepared;
};

struct row {
	struct db_row row; /* first */
	sqlite3_stmt *statement;
};

static int fail(struct db_sqlite *s, const char *what, struct err *e)
{
	int code = sqlite3_errcode(s->handle);
	enum err_code c = code == SQLITE_BUSY || code == SQLITE_LOCKED  ? ERR_BUSY
			  : code == SQLITE_FULL || code == SQLITE_IOERR ? ERR_UNAVAILABLE
									: ERR_INTERNAL;
	return err_set(e, c, "the database: %s: %s", what, sqlite3_errmsg(s->handle));
}

static void sqlite_close(struct db *d)
{
	struct db_sqlite *s = container_of(d, struct db_sqlite, db);
	struct prepared *p, *next;
	HASH_ITER(hh, s->prepared, p, next)
	{
		(void)sqlite3_finalize(p->statement);
		HASH_DEL(s->prepared, p);
		free(p);
	}
	(void)sqlite3_close(s->handle);
	free(s);
}

static int sqlite_script(struct db *d, const char *sql, struct err *e)
{
	struct db_sqlite *s = container_of(d, struct db_sqlite, db);
	return sqlite3_exec(s->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
									   : fail(s, "a script", e);
}

/* IMMEDIATE: a transaction that writes knows at its start that it is alone. */
static int sqlite_begin(struct db *d, struct err *e)
{
	return sqlite_script(d, "BEGIN IMMEDIATE", e);
}

static int sqlite_snapshot(struct db *d, struct err *e)
{
	return sqlite_script(d, "BEGIN", e);
}

/* What marks it as committed is written last: on a full disk that is missing. After another error
 * it may be in the journal all the same, where the next start would find it. */
static int sqlite_commit(struct db *d, struct err *e)
{
	struct db_sqlite *s = container_of(d, struct db_sqlite, db);
	if (sqlite_script(d, "COMMIT", e) == 0) {
		return 0;
	}
	int code = sqlite3_errcode(s->handle);
	if (code != SQLITE_FULL && code != SQLITE_BUSY) {
		e->code = ERR_UNSURE;
	}
	return -1;
}

static void sqlite_rollback(struct db *d)
{
	struct db_sqlite *s = container_of(d, struct db_sqlite, db);
	if (sqlite3_get_autocommit(s->handle) == 0) {
		(void)sqlite3_exec(s->handle, "ROLLBACK", NULL, NULL, NULL);
	}
}

static sqlite3_stmt *prepare(struct db_sqlite *s, const char *sql, struct err *e)
{
	struct prepared *p;
	HASH_FIND_PTR(s->prepared, &sql, p);
	if (p != NULL) {
		return p->statement;
	}
	p = calloc(1, sizeof(*p));
	if (p == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	p->sql = sql;
	if (sqlite3_prepare_v3(
		s->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &p->statement, NULL) != SQLITE_OK) {
		(void)fail(s, "a statement", e);
		free(p);
		return NULL;
	}
	HASH_ADD_PTR(s->prepared, sql, p);
	return p->statement;
}

static int bind_values(sqlite3_stmt *statement, const struct db_value *values, size_t count)
{
	int r = SQLITE_OK;
	for (size_t i = 0; r == SQLITE_OK && i < count; i++) {
		const struct db_value *v = &values[i];
		int place = (int)i + 1;
		r = !v->is_text       ? sqlite3_bind_int64(statement, place, v->number)
		    : v->text == NULL ? sqlite3_bind_null(statement, place)
				      : sqlite3_bind_text64(statement, place, v->text, v->len,
					    SQLITE_STATIC, SQLITE_UTF8);
	}
	return r;
}

static int step_all(sqlite3_stmt *statement, struct db *d, db_row_fn each, void *ctx)
{
	struct row row = {.row = {.db = d}, .statement = statement};
	int r;
	while ((r = sqlite3_step(statement)) == SQLITE_ROW) {
		if (each != NULL && each(ctx, &row.row) != 0) {
			return SQLITE_DONE;
		}
	}
	return r;
}

static int sqlite_run(struct db *d, const char *sql, const struct db_value *values, size_t count,
    db_row_fn each, void *ctx, int64_t *changed, struct err *e)
{
	struct db_sqlite *s = container_of(d, struct db_sqlite, db);
	sqlite3_stmt *statement = prepare(s, sql, e);
	if (statement == NULL) {
		return -1;
	}
	if ((size_t)sqlite3_bind_parameter_count(statement) != count) {
		return err_set(e, ERR_INTERNAL, "the database: a statement's values do not fit");
	}
	int r = bind_values(statement, values, count);
	r = r == SQLITE_OK ? step_all(statement, d, each, ctx) : r;
	int result = r == SQLITE_DONE ? 0 : fail(s, "a statement", e);
	if (result == 0 && changed != NULL) {
		/* A SELECT leaves the number of the statement before it. */
		bool reads = sqlite3_stmt_readonly(statement) != 0;
		*changed = reads ? 0 : sqlite3_changes64(s->handle);
	}
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
	return result;
}

static int sqlite_notify(struct db *d, const char *id, struct err *e)
{
	(void)d;
	(void)id;
	(void)e;
	return 0;
}

/* A struct row begins with its db_row. */
static sqlite3_stmt *statement_of(const struct db_row *r)
{
	return ((const struct row *)(const void *)r)->statement;
}

static bool sqlite_is_null(const struct db_row *r, int column)
{
	return sqlite3_column_type(statement_of(r), column) == SQLITE_NULL;
}

static int64_t sqlite_int(const struct db_row *r, int column)
{
	return sqlite3_column_int64(statement_of(r), column);
}

static const char *sqlite_text(const struct db_row *r, int column, size_t *len)
{
	sqlite3_stmt *statement = statement_of(r);
	const char *text = (const char *)sqlite3_column_text(statement, column);
	if (len != NULL) {
		*len = text != NULL ? (size_t)sqlite3_column_bytes(statement, column) : 0;
	}
	return text;
}

static const struct db_driver driver = {
    .kind = "sqlite",
    .skip_locked = "",
    .close = sqlite_close,
    .begin = sqlite_begin,
    .snapshot = sqlite_snapshot,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .run = sqlite_run,
    .script = sqlite_script,
    .notify = sqlite_notify,
    .is_null = sqlite_is_null,
    .number = sqlite_int,
    .text = sqlite_text,
};

static int configure(struct db_sqlite *s, struct err *e)
{
	(void)sqlite3_busy_timeout(s->handle, DB_BUSY_MS);
	(void)sqlite3_limit(s->handle, SQLITE_LIMIT_LENGTH, (int)DB_TEXT_MAX_BYTES);
	/* Never map the file: a disk's error would then be a signal. Journals and sorts stay out of
	 * /tmp. The keys of approvals are random, so what is written lies everywhere: with less
	 * memory than a batch touches, its pages go to the disk twice. */
	return sqlite_script(&s->db,
	    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
	    "PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0; PRAGMA trusted_schema=OFF;"
	    "PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=2000;",
	    e);
}

/* SQLite would make it with what the umask leaves. One that is there is not opened: closing it
 * would take away the locks of this process's other connections. */
static int create(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		return errno == EEXIST ? 0 : err_set_os(e, errno, "the database %s", path);
	}
	(void)close(fd);
	return 0;
}

/* Without the count of its memory, which all connections would take a lock for, again and again. */
static void configure_all(void)
{
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int db_sqlite_open(struct db **out, const char *path, struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, configure_all);
	if (create(path, e) < 0) {
		return -1;
	}
	struct db_sqlite *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	s->db.driver = &driver;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
	if (sqlite3_open_v2(path, &s->handle, flags, NULL) != SQLITE_OK || configure(s, e) < 0) {
		(void)fail(s, path, e);
		sqlite_close(&s->db);
		return -1;
	}
	*out = &s->db;
	return 0;
}

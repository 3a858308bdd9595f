#include "approvals/db.h"

#include <string.h>

struct db_value db_text_value(const char *s)
{
	return (struct db_value){.is_text = true, .text = s, .len = s != NULL ? strlen(s) : 0};
}

int db_open(struct db **out, const char *url, struct err *e)
{
	static const char sqlite[] = "sqlite:";
	if (strncmp(url, sqlite, sizeof(sqlite) - 1) == 0) {
		return db_sqlite_open(out, url + sizeof(sqlite) - 1, e);
	}
	if (strncmp(url, "postgresql://", 13) == 0 || strncmp(url, "postgres://", 11) == 0) {
		return db_postgres_open(out, url, e);
	}
	return err_set(e, ERR_INVALID, "a database is sqlite:PATH or postgresql://USER@HOST/NAME");
}

void db_close(struct db *d)
{
	if (d != NULL) {
		d->driver->close(d);
	}
}

const char *db_kind(const struct db *d)
{
	return d->driver->kind;
}

const char *db_skip_locked(const struct db *d)
{
	return d->driver->skip_locked;
}

int db_begin(struct db *d, struct err *e)
{
	d->broken = false;
	return d->driver->begin(d, e);
}

int db_snapshot(struct db *d, struct err *e)
{
	d->broken = false;
	return d->driver->snapshot(d, e);
}

int db_commit(struct db *d, struct err *e)
{
	if (d->broken) {
		return err_set(e, ERR_INTERNAL, "the database: a statement had failed");
	}
	return d->driver->commit(d, e);
}

void db_rollback(struct db *d)
{
	d->driver->rollback(d);
}

int db_run(struct db *d, const char *sql, const struct db_value *values, size_t count,
    db_row_fn each, void *ctx, int64_t *changed, struct err *e)
{
	int64_t rows = 0;
	int r = d->driver->run(d, sql, values, count, each, ctx, &rows, e);
	d->broken = d->broken || r < 0;
	d->changes += r == 0 && rows > 0 ? 1 : 0;
	if (r == 0 && changed != NULL) {
		*changed = rows;
	}
	return r;
}

int db_script(struct db *d, const char *sql, struct err *e)
{
	int r = d->driver->script(d, sql, e);
	d->broken = d->broken || r < 0;
	d->changes++;
	return r;
}

int db_notify(struct db *d, const char *id, struct err *e)
{
	return d->driver->notify(d, id, e);
}

bool db_tells(const struct db *d)
{
	return d->driver->listen != NULL;
}

int db_listen(struct db *d, struct err *e)
{
	return d->driver->listen(d, e);
}

int db_wait(struct db *d, int wake_fd, int timeout_ms, db_told_fn fn, void *ctx, struct err *e)
{
	return d->driver->wait(d, wake_fd, timeout_ms, fn, ctx, e);
}

int64_t db_session(const struct db *d)
{
	return d->driver->session != NULL ? d->driver->session(d) : 0;
}

uint64_t db_changes(const struct db *d)
{
	return d->changes;
}

bool db_is_broken(const struct db *d)
{
	return d->broken;
}

bool db_is_null(const struct db_row *r, int column)
{
	return r->db->driver->is_null(r, column);
}

int64_t db_int(const struct db_row *r, int column)
{
	return r->db->driver->number(r, column);
}

const char *db_text(const struct db_row *r, int column, size_t *len)
{
	return r->db->driver->text(r, column, len);
}

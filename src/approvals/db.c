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
	return d->driver->begin(d, e);
}

int db_commit(struct db *d, struct err *e)
{
	return d->driver->commit(d, e);
}

void db_rollback(struct db *d)
{
	d->driver->rollback(d);
}

int db_run(struct db *d, const char *sql, const struct db_value *values, size_t count,
    db_row_fn each, void *ctx, int64_t *changed, struct err *e)
{
	return d->driver->run(d, sql, values, count, each, ctx, changed, e);
}

int db_script(struct db *d, const char *sql, struct err *e)
{
	return d->driver->script(d, sql, e);
}

int db_notify(struct db *d, const char *id, struct err *e)
{
	return d->driver->notify(d, id, e);
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

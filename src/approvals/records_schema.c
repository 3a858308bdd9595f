/* The tables of approvals, in numbered steps. */
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_rows.h"

/*
 * approval        what the events add up to. Texts that never change are not in it, so that a row
 *                 is small to write: approval_text has the code, the result and a call's arguments.
 *                 final_us: when it became final.
 * approval_event  only ever added to, while its approval is there.
 * approval_task   what is to be done: due at wake_us, or, while somebody has it, free at wake_us.
 * approval_open   how many of a tenant are not final.
 * audit, audit_head: audit.h.
 *
 * The indices of lists end in what a list may be filtered by besides, so that what is left out is
 * not fetched first.
 */
static const char tables[] =
    "CREATE TABLE approval (id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, "
    "tenant TEXT NOT NULL, pool TEXT NOT NULL, policy TEXT NOT NULL, state TEXT NOT NULL, "
    "stage TEXT NOT NULL, submitter TEXT NOT NULL, created_us BIGINT NOT NULL, "
    "changed_us BIGINT NOT NULL, deadline_us BIGINT, attempt BIGINT NOT NULL, code_sha256 TEXT, "
    "arguments_sha256 TEXT, result_sha256 TEXT, tool TEXT, callable TEXT, parent TEXT, "
    "session TEXT, execution TEXT, settings TEXT NOT NULL, decisions TEXT NOT NULL, "
    "version BIGINT NOT NULL, final_us BIGINT);"
    "CREATE INDEX approval_by_time ON approval (created_us, id, kind, pool);"
    "CREATE INDEX approval_by_tenant ON approval (tenant, created_us, id, kind, pool);"
    "CREATE INDEX approval_by_state ON approval (state, created_us, id, kind, pool);"
    "CREATE INDEX approval_by_both ON approval (tenant, state, created_us, id, kind, pool);"
    "CREATE INDEX approval_final ON approval (final_us) WHERE final_us IS NOT NULL;"
    "CREATE TABLE approval_event (approval TEXT NOT NULL, seq BIGINT NOT NULL, "
    "at_us BIGINT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, body TEXT NOT NULL, "
    "PRIMARY KEY (approval, seq));"
    "CREATE TABLE approval_text (approval TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, "
    "PRIMARY KEY (approval, kind));"
    "CREATE TABLE approval_file (approval TEXT NOT NULL, name TEXT NOT NULL, "
    "content TEXT NOT NULL, PRIMARY KEY (approval, name));"
    "CREATE TABLE approval_key (tenant TEXT NOT NULL, submitter TEXT NOT NULL, "
    "name TEXT NOT NULL, sha256 TEXT NOT NULL, approval TEXT NOT NULL, "
    "PRIMARY KEY (tenant, submitter, name));"
    "CREATE INDEX approval_key_of ON approval_key (approval);"
    "CREATE TABLE approval_open (tenant TEXT NOT NULL PRIMARY KEY, count BIGINT NOT NULL);"
    "CREATE TABLE approval_task (approval TEXT NOT NULL, kind TEXT NOT NULL, "
    "wake_us BIGINT NOT NULL, owner TEXT, fence BIGINT NOT NULL, attempt BIGINT NOT NULL, "
    "PRIMARY KEY (approval, kind));"
    "CREATE INDEX approval_task_due ON approval_task (kind, wake_us);"
    "CREATE INDEX approval_task_leased ON approval_task (wake_us) WHERE owner IS NOT NULL;"
    "CREATE INDEX approval_task_owned ON approval_task (owner) WHERE owner IS NOT NULL;"
    "CREATE TABLE audit (seq BIGINT NOT NULL PRIMARY KEY, at_us BIGINT NOT NULL, "
    "actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, outcome TEXT NOT NULL, "
    "detail TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL);"
    "CREATE TABLE audit_head (id BIGINT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL, "
    "hash TEXT NOT NULL);"
    "INSERT INTO audit_head (id, seq, hash) VALUES "
    "(1, 0, '0000000000000000000000000000000000000000000000000000000000000000');";

/*
 * What no program is to do by mistake, and nobody unnoticed: the trail and the events of an
 * approval that is there are only added to, and a final state stays. records_forget takes the
 * approval away first, which makes its events free to go.
 */
static const char guards_sqlite[] =
    "CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN "
    "SELECT RAISE(ABORT, 'the audit trail is only added to'); END;"
    "CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN "
    "SELECT RAISE(ABORT, 'the audit trail is only added to'); END;"
    "CREATE TRIGGER approval_event_update BEFORE UPDATE ON approval_event BEGIN "
    "SELECT RAISE(ABORT, 'events are only added to'); END;"
    "CREATE TRIGGER approval_event_delete BEFORE DELETE ON approval_event "
    "WHEN EXISTS (SELECT 1 FROM approval WHERE id = OLD.approval) BEGIN "
    "SELECT RAISE(ABORT, 'events are only added to'); END;"
    "CREATE TRIGGER approval_final_update BEFORE UPDATE ON approval "
    "WHEN OLD.state IN ('approved', 'rejected', 'expired', 'failed', 'cancelled') "
    "AND NEW.state <> OLD.state BEGIN SELECT RAISE(ABORT, 'a final state stays'); END;"
    "CREATE TRIGGER approval_delete BEFORE DELETE ON approval "
    "WHEN OLD.state NOT IN ('approved', 'rejected', 'expired', 'failed', 'cancelled') BEGIN "
    "SELECT RAISE(ABORT, 'only a final approval may go'); END;";

static const char guards_postgres[] =
    "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION 'the audit trail is only added to'; END $$;"
    "CREATE TRIGGER audit_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();"
    "CREATE FUNCTION approval_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF TG_OP = 'DELETE' AND NOT EXISTS (SELECT 1 FROM approval WHERE id = OLD.approval) "
    "THEN RETURN OLD; END IF; RAISE EXCEPTION 'events are only added to'; END $$;"
    "CREATE TRIGGER approval_event_change BEFORE UPDATE OR DELETE ON approval_event "
    "FOR EACH ROW EXECUTE FUNCTION approval_event_refuse();"
    "CREATE FUNCTION approval_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF TG_OP = 'DELETE' THEN RAISE EXCEPTION 'only a final approval may go'; END IF; "
    "RAISE EXCEPTION 'a final state stays'; END $$;"
    "CREATE TRIGGER approval_final_update BEFORE UPDATE ON approval FOR EACH ROW "
    "WHEN (OLD.state IN ('approved', 'rejected', 'expired', 'failed', 'cancelled') "
    "AND NEW.state <> OLD.state) EXECUTE FUNCTION approval_refuse();"
    "CREATE TRIGGER approval_delete BEFORE DELETE ON approval FOR EACH ROW "
    "WHEN (OLD.state NOT IN ('approved', 'rejected', 'expired', 'failed', 'cancelled')) "
    "EXECUTE FUNCTION approval_refuse();";

/*
 * Version 2: tenants take turns (records_turn.h). A task has its approval's tenant and, of a run,
 * its pool; "-" of all else, and of what a server of version 1 adds meanwhile. A turn goes on from
 * a name by the order of its bytes, which PostgreSQL is told; SQLite has no other.
 */
static const char turns[] =
    "ALTER TABLE approval_task ADD COLUMN tenant TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE approval_task ADD COLUMN pool TEXT NOT NULL DEFAULT '-';"
    "UPDATE approval_task SET tenant = COALESCE((SELECT a.tenant FROM approval a "
    "WHERE a.id = approval_task.approval), '');"
    "UPDATE approval_task SET pool = COALESCE((SELECT a.pool FROM approval a "
    "WHERE a.id = approval_task.approval), '-') WHERE kind = 'run';"
    "DROP INDEX approval_task_owned;"
    "CREATE INDEX approval_task_owned ON approval_task (owner, kind, tenant) "
    "WHERE owner IS NOT NULL;";

#define TURNS_INDEX \
	"CREATE INDEX approval_task_turn ON approval_task (kind, pool, tenant, wake_us);"

static const char turns_sqlite[] = TURNS_INDEX;
static const char turns_postgres[] =
    "ALTER TABLE approval_task ALTER COLUMN tenant TYPE TEXT COLLATE \"C\", "
    "ALTER COLUMN pool TYPE TEXT COLLATE \"C\";" TURNS_INDEX;

/* Both scripts run in the step's transaction; a NULL ends them. Never change a step that was
 * released: add one. */
static const struct {
	const char *both, *sqlite, *postgres;
} steps[] = {
    {tables, guards_sqlite, guards_postgres},
    {turns, turns_sqlite, turns_postgres},
};

static int on_version(void *ctx, const struct db_row *r)
{
	*(int64_t *)ctx = db_int(r, 0);
	return 1;
}

int records_version(struct db *d, int64_t *version, struct err *e)
{
	return db_run(d, "SELECT COALESCE(max(version), 0) FROM approval_schema", NULL, 0,
	    on_version, version, NULL, e);
}

int records_check_version(struct db *d, struct err *e)
{
	int64_t version = 0;
	if (records_version(d, &version, e) < 0) {
		return err_prefix(e, "no database of approvals");
	}
	if (version != (int64_t)array_len(steps)) {
		return err_set(e, ERR_UNSUPPORTED,
		    "the database is of version %lld, this program knows version %zu",
		    (long long)version, array_len(steps));
	}
	return 0;
}

static int run_step(struct db *d, int64_t number, struct err *e)
{
	bool sqlite = strcmp(db_kind(d), "sqlite") == 0;
	if (db_script(d, steps[number - 1].both, e) < 0 ||
	    db_script(d, sqlite ? steps[number - 1].sqlite : steps[number - 1].postgres, e) < 0) {
		return err_prefix(e, "step %lld of the tables", (long long)number);
	}
	return db_run(d, "INSERT INTO approval_schema (version) VALUES ($1)",
	    (const struct db_value[]){DB_INT(number)}, 1, NULL, NULL, NULL, e);
}

/* One step, if there is one to do; *DONE when there is none. In a transaction. */
static int next_step(struct db *d, bool *done, struct err *e)
{
	int64_t version = 0;
	if (db_script(d,
		"CREATE TABLE IF NOT EXISTS approval_schema (version BIGINT NOT NULL PRIMARY KEY)",
		e) < 0 ||
	    records_version(d, &version, e) < 0) {
		return -1;
	}
	if (version > (int64_t)array_len(steps)) {
		return err_set(e, ERR_UNSUPPORTED,
		    "the database is of version %lld, this program knows up to %zu",
		    (long long)version, array_len(steps));
	}
	*done = version == (int64_t)array_len(steps);
	return *done ? 0 : run_step(d, version + 1, e);
}

int records_migrate(struct db *d, struct err *e)
{
	bool done = false;
	while (!done) {
		if (db_begin(d, e) < 0) {
			return -1;
		}
		if (next_step(d, &done, e) < 0) {
			db_rollback(d);
			return -1;
		}
		if (db_commit(d, e) < 0) {
			db_rollback(d);
			return -1;
		}
	}
	return 0;
}

"""carrel audit verify: the approvals against the trail, after all kinds of ends, and after somebody
who may write to the database has changed one of the two, or both, with more or less care."""

import hashlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import postgres  # noqa: E402
from harness import CARREL, Server  # noqa: E402
from services import Service  # noqa: E402

PAY = """
name: pay
approval: required
command: echo
schema:
  positional:
    - {name: words, type: array}
recipes:
  send: {}
"""
SECONDS = 20
MEMBERS = ("action", "actor", "at_us", "detail", "outcome", "previous", "seq", "subject")


def audit(*arguments):
    """(exit status, stdout, stderr)"""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("CARREL_DATABASE")}
    done = subprocess.run([CARREL, "audit", *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=60, env=variables)
    return done.returncode, done.stdout, done.stderr


def wait_until(condition, what):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


class Client:
    """Of one server's approvals."""

    def __init__(self, server):
        self.server = server

    def ask(self, method, path, body=None, **query):
        reply = self.server.request(method, path, body=body, api_version=None, **query)
        assert reply.status in (200, 201), reply
        return reply.json()

    def submit(self, code, **more):
        return self.ask("POST", "approvals", {"code": code, **more})["id"]

    def show(self, one):
        return self.ask("GET", f"approvals/{one}")

    def decide(self, one, approve, **more):
        self.ask("POST", f"approvals/{one}/decision", {"approve": approve, **more})

    def wait(self, one, kind):
        """For an event."""
        wait_until(lambda: kind in [e["kind"] for e in self.show(one)["history"]], f"{one}: {kind}")
        return one

    def call(self, session):
        """Begins one that waits for a person; its id."""
        body = {"code": "tools.pay.send(words=['1'])"}
        threading.Thread(target=self._call, args=(session, body), daemon=True).start()

        def look():
            listed = self.ask("GET", "approvals", state="waiting", kind="call")["approvals"]
            return next((one["id"] for one in listed if one["session"] == session), None)
        return wait_until(look, "no call waits")

    def _call(self, session, body):
        try:
            self.server.request("POST", "executions", session, body)
        except OSError:
            pass  # the server was killed


def all_ends(server, hook):
    """{name: id} of approvals that end in every way they may, while the server is killed once."""
    client = Client(server)
    ids = {}
    callback = {"url": f"{hook}/in"}
    ids["promoted"] = one = client.submit(
        "open('a.txt', 'w').write('text'); 'for Ada'", policy="after", callback=callback,
        promote={"files": ["*.txt"], "prefix": "p/"})
    client.decide(client.wait(one, "waiting"), True, by="Ada", reason="fine")
    ids["rejected"] = one = client.submit("1", policy="before", callback=callback)
    client.decide(one, False, by="Bob")
    ids["both"] = one = client.submit("2", policy="both")
    client.decide(one, True, stage="code")
    client.decide(client.wait(one, "run_finished"), False, stage="result")
    ids["rules"] = client.submit("3", policy="rules")
    ids["expired"] = client.submit("4", policy="before", deadline_seconds=1)
    ids["cancelled"] = one = client.submit("5", policy="before")
    client.ask("DELETE", f"approvals/{one}", reason="not wanted")
    ids["called"] = one = client.call("first")
    client.decide(one, True)
    ids["refused"] = one = client.call("second")
    client.decide(one, False)
    for name, kind in (("promoted", "promoted"), ("promoted", "callback_delivered"),
                       ("rejected", "callback_delivered"), ("rules", "approved"),
                       ("expired", "expired"), ("called", "call_finished")):
        client.wait(ids[name], kind)
    ids["interrupted"] = one = client.submit("import time; time.sleep(1.5)", policy="after")
    ids["parked"] = client.call("third")
    client.wait(one, "run_started")
    server.stop(signal.SIGKILL)
    server.start()
    client.wait(one, "run_interrupted")
    client.decide(client.wait(one, "waiting"), True)
    client.wait(ids["parked"], "cancelled")
    ids["waits"] = client.submit("'waits'", policy="before")
    return ids


class Database:
    """SQLite or PostgreSQL, as somebody has it who may do everything, and knows how it is made."""

    def rows(self, sql, *values):
        raise NotImplementedError

    def event(self, one, kind, change=None, /, **columns):
        """Changes an event of an approval: its body by a function, and columns."""
        number, body = self.rows("SELECT seq, body FROM approval_event WHERE approval = ? "
                                 "AND kind = ? ORDER BY seq DESC LIMIT 1", one, kind)[0]
        body = json.loads(body)
        (change or (lambda b: None))(body)
        columns["body"] = json.dumps(body)
        names = ", ".join(f"{name} = ?" for name in columns)
        self.rows(f"UPDATE approval_event SET {names} WHERE approval = ? AND seq = ?",
                  *columns.values(), one, number)

    def row(self, one, **columns):
        names = ", ".join(f"{name} = ?" for name in columns)
        self.rows(f"UPDATE approval SET {names} WHERE id = ?", *columns.values(), one)

    def decisions(self, one, **members):
        """What the row says of its one decision."""
        said = json.loads(self.rows("SELECT decisions FROM approval WHERE id = ?", one)[0][0])
        self.row(one, decisions=json.dumps([{**said[0], **members}]))

    def cut(self, one, count):
        """Takes its last events away; the number that is left."""
        last = self.rows("SELECT max(seq) FROM approval_event WHERE approval = ?", one)[0][0]
        left = int(last) - count
        self.rows("DELETE FROM approval_event WHERE approval = ? AND seq > ?", one, left)
        at_us = self.rows("SELECT at_us FROM approval_event WHERE approval = ? AND seq = ?", one,
                          left)[0][0]
        self.row(one, version=left, changed_us=at_us)
        return left

    def add(self, one, kind, body=None, actor="server", at_us=None):
        last, then = self.rows(
            "SELECT max(seq), max(at_us) FROM approval_event WHERE approval = ?", one)[0]
        at_us = at_us or int(then) + 1
        self.rows("INSERT INTO approval_event (approval, seq, at_us, kind, actor, body) "
                  "VALUES (?, ?, ?, ?, ?, ?)", one, int(last) + 1, at_us, kind, actor,
                  json.dumps(body or {}))
        self.row(one, version=int(last) + 1, changed_us=at_us)

    def remove(self, one):
        self.rows("DELETE FROM approval WHERE id = ?", one)
        for table in ("event", "text", "task", "key", "file"):
            self.rows(f"DELETE FROM approval_{table} WHERE approval = ?", one)

    def record(self, one, action):
        return self.rows("SELECT seq FROM audit WHERE subject = ? AND action = ? ORDER BY seq DESC",
                         one, action)[0][0]

    def chain_anew(self, change):
        """The whole trail written again, with the records that CHANGE makes of it, as one would who
        knows how."""
        names = ", ".join(MEMBERS)
        records = [dict(zip(MEMBERS, row))
                   for row in self.rows(f"SELECT {names} FROM audit ORDER BY seq")]
        for record in records:
            record["detail"] = json.loads(record["detail"])
        before = "0" * 64
        self.rows("DELETE FROM audit")
        for number, record in enumerate(change(records), 1):
            record.update(seq=number, previous=before, at_us=int(record["at_us"]))
            text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            before = hashlib.sha256(f"{record['previous']}\n{text}".encode()).hexdigest()
            detail = json.dumps(record["detail"], sort_keys=True, separators=(",", ":"),
                                ensure_ascii=False)
            self.rows(f"INSERT INTO audit ({names}, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                      *{**record, "detail": detail}.values(), before)
        self.rows("UPDATE audit_head SET seq = ?, hash = ?", number, before)


class File(Database):
    def __init__(self, path):
        self.path = path
        self.handle = sqlite3.connect(path)
        for name, in self.rows("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            self.rows(f"DROP TRIGGER {name}")

    def rows(self, sql, *values):
        return self.handle.execute(sql, values).fetchall()

    def close(self):
        self.handle.commit()
        self.handle.close()
        return f"sqlite:{self.path}"


class OverPsql(Database):
    def __init__(self, database):
        self.database = database

    def rows(self, sql, *values):
        for value in values:
            text = str(value).replace("'", "''")
            sql = sql.replace("?", f"'{text}'", 1)
        return [line.split("|") for line in self.database.sql(sql).splitlines()]


# --- what somebody does to the approvals; each gives the words that verify has to find for it ---

def another_person(d, ids):
    one = ids["promoted"]
    d.event(one, "decided", lambda b: b.update(person="Mallory"))
    d.decisions(one, person="Mallory")
    return one, d.record(one, "approval.decide"), "its person is not that of event"


def another_token(d, ids):
    one = ids["promoted"]
    d.event(one, "decided", lambda b: b.update(by="mallory"), actor="mallory")
    d.decisions(one, by="mallory")
    return one, d.record(one, "approval.decide"), "its actor is not that of event"


def another_token_in_the_body_alone(d, ids):
    one = ids["rejected"]
    d.event(one, "decided", lambda b: b.update(by="mallory"))
    d.decisions(one, by="mallory")
    return one, d.record(one, "approval.decide"), "its actor is not that of event"


def another_outcome(d, ids):
    one = ids["refused"]
    d.event(one, "decided", lambda b: b.update(approve=True))
    d.event(one, "rejected", kind="approved")
    d.decisions(one, approve=True)
    d.row(one, state="approved")
    return one, d.record(one, "approval.decide"), "approval.decide, rejected): "


def another_state_alone(d, ids):
    one = ids["rejected"]
    d.row(one, state="approved")
    return one, None, "state is not what its events add up to"


def other_code(d, ids):
    """What Ada approved is not what stands there now."""
    one, code = ids["promoted"], "print('all along')"
    digest = hashlib.sha256(code.encode()).hexdigest()
    d.rows("UPDATE approval_text SET body = ? WHERE approval = ? AND kind = 'code'", code, one)
    d.event(one, "submitted", lambda b: b.update(code_sha256=digest))
    d.row(one, code_sha256=digest)
    return one, d.record(one, "approval.submit"), "its code_sha256 is not that of event 1"


def other_code_alone(d, ids):
    one = ids["both"]
    d.rows("UPDATE approval_text SET body = 'x' WHERE approval = ? AND kind = 'code'", one)
    return one, None, "its code is not the one it had"


def another_result(d, ids):
    one, text = ids["promoted"], '{"stdout":"good"}'
    digest = hashlib.sha256(text.encode()).hexdigest()
    d.rows("UPDATE approval_text SET body = ? WHERE approval = ? AND kind = 'result'", text, one)
    d.event(one, "run_finished", lambda b: b.update(result_sha256=digest))
    d.row(one, result_sha256=digest)
    return one, d.record(one, "approval.finish"), "its result_sha256 is not that of event"


def another_callback(d, ids):
    one = ids["waits"]
    settings = json.loads(d.rows("SELECT settings FROM approval WHERE id = ?", one)[0][0])
    settings["callback"] = {"url": "https://evil.example/"}
    d.event(one, "submitted", lambda b: b.update(settings=settings))
    d.row(one, settings=json.dumps(settings))
    return one, d.record(one, "approval.submit"), "its settings_sha256 is not that of event 1"


def a_later_deadline(d, ids):
    one = ids["waits"]
    deadline = int(d.rows("SELECT deadline_us FROM approval WHERE id = ?", one)[0][0]) + 10**12
    d.event(one, "waiting", lambda b: b.update(deadline_us=deadline))
    d.row(one, deadline_us=deadline)
    return one, d.record(one, "approval.submit"), "event 2: its deadline is not the one"


def another_tenant(d, ids):
    one = ids["waits"]
    d.event(one, "submitted", lambda b: b.update(tenant="blue"))
    d.row(one, tenant="blue")
    return one, d.record(one, "approval.submit"), "its tenant is not that of event 1"


def another_submitter(d, ids):
    one = ids["waits"]
    d.event(one, "submitted", lambda b: b.update(submitter="mallory"))
    d.row(one, submitter="mallory")
    return one, d.record(one, "approval.submit"), "its actor is not that of event 1"


def another_time(d, ids):
    one = ids["cancelled"]
    d.event(one, "cancelled", at_us=1)
    d.row(one, changed_us=1)
    return one, d.record(one, "approval.cancel"), "its at_us is not that of event"


def undecided(d, ids):
    """As if nobody had rejected it: it waits again."""
    one = ids["rejected"]
    left = d.cut(one, 2 + int(d.rows(
        "SELECT count(*) FROM approval_event WHERE approval = ? AND kind LIKE 'callback%'",
        one)[0][0]))
    assert left == 2, left
    deadline = json.loads(d.rows("SELECT body FROM approval_event WHERE approval = ? AND seq = 2",
                                 one)[0][0])["deadline_us"]
    d.row(one, state="waiting", stage="code", deadline_us=deadline, decisions="[]")
    return one, d.record(one, "approval.decide"), (
        "approval.decide, rejected): there is no event of it")


def decided_by_nobody(d, ids):
    """Code that nobody approved may run."""
    one = ids["waits"]
    body = {"stage": "code", "approve": True, "by": "ada", "person": None, "reason": None}
    at_us = int(d.rows("SELECT changed_us FROM approval WHERE id = ?", one)[0][0]) + 5
    d.add(one, "decided", body, "ada", at_us)
    d.row(one, state="queued", stage="", deadline_us=None,
          decisions=json.dumps([{**body, "at_us": at_us}]))
    return one, None, "event 3 (decided): there is no record of it"


def never_run(d, ids):
    """A run less: the interrupted one was never begun."""
    one = ids["interrupted"]
    for number in (2, 3):
        d.rows("DELETE FROM approval_event WHERE approval = ? AND seq = ?", one, number)
    for number in range(4, 20):
        d.rows("UPDATE approval_event SET seq = ? WHERE approval = ? AND seq = ?", number - 2, one,
               number)
    version = int(d.rows("SELECT max(seq) FROM approval_event WHERE approval = ?", one)[0][0])
    d.event(one, "run_started", lambda b: b.update(attempt=1))
    d.event(one, "run_finished", lambda b: b.update(attempt=1))
    d.row(one, version=version, attempt=1)
    return one, None, "approval.run, interrupted): there is no event of it"


def not_delivered(d, ids):
    one = ids["promoted"]
    last = d.rows("SELECT kind FROM approval_event WHERE approval = ? ORDER BY seq DESC LIMIT 1",
                  one)[0][0]
    d.cut(one, 1)
    action = "approval.promote" if last == "promoted" else "approval.callback"
    return one, d.record(one, action), f"({action}, {last}): there is no event of it"


def delivered_by_nobody(d, ids):
    one = ids["both"]
    d.add(one, "callback_delivered", {"id": f"{one}:rejected", "attempt": 1, "status": 200})
    return one, None, "(callback_delivered): there is no record of it"


def promoted_by_nobody(d, ids):
    one = ids["rules"]
    d.add(one, "promoted", {"names": ["p/a.txt"]})
    return one, None, "(promoted): there is no record of it"


def a_hole(d, ids):
    one = ids["both"]
    d.rows("DELETE FROM approval_event WHERE approval = ? AND seq = 4", one)
    return one, None, "the event 5 follows number 3"


def taken_away(d, ids):
    one = ids["expired"]
    d.remove(one)
    return one, d.record(one, "approval.expire"), "the approval is not there, and was not forgotten"


def events_taken_away(d, ids):
    one = ids["called"]
    d.rows("DELETE FROM approval_event WHERE approval = ?", one)
    return one, None, "it has no events"


def made_of_nothing(d, ids):
    """A copy under another id, with all its events: nobody ever submitted it."""
    for table, key in (("approval", "id"), ("approval_event", "approval"),
                       ("approval_text", "approval")):
        columns = [row[0] for row in d.rows(f"SELECT name FROM pragma_table_info('{table}')")]
        picked = ", ".join("'made-up'" if name == key else name for name in columns)
        d.rows(f"INSERT INTO {table} SELECT {picked} FROM {table} WHERE {key} = ?", ids["called"])
    d.event("made-up", "submitted", lambda b: b.update(id="made-up"))
    return "made-up", None, "event 1 (submitted): there is no record of it"


# --- what somebody does to the trail, who makes its chain anew ---

def no_record(d, ids):
    one = ids["called"]
    d.chain_anew(lambda records: [r for r in records if (r["subject"], r["action"]) != (
        one, "approval.decide")])
    return one, None, "(decided): there is no record of it"


def one_record_more(d, ids):
    one = ids["waits"]

    def change(records):
        last = next(r for r in records if r["action"] == "approval.decide")
        return [*records, {**last, "subject": one}]
    d.chain_anew(change)
    return one, d.record(one, "approval.decide"), "there is no event of it"


def another_record(d, ids):
    one = ids["cancelled"]
    d.chain_anew(lambda records: [
        {**r, "actor": "mallory"} if (r["subject"], r["action"]) == (one, "approval.cancel") else r
        for r in records])
    return one, d.record(one, "approval.cancel"), "its actor is not that of event"


def forgotten_and_there(d, ids):
    one = ids["refused"]

    def change(records):
        last = records[-1]
        return [*records, {**last, "subject": one, "action": "approval.forget",
                           "outcome": "rejected", "detail": {}}]
    d.chain_anew(change)
    return one, d.record(one, "approval.forget"), "(approval.forget, rejected): there is no event"


CHANGES = [another_person, another_token, another_token_in_the_body_alone, another_outcome,
           another_state_alone, other_code, other_code_alone, another_result, another_callback,
           a_later_deadline, another_tenant, another_submitter, another_time, undecided,
           decided_by_nobody, never_run, not_delivered, delivered_by_nobody, promoted_by_nobody,
           a_hole, taken_away, events_taken_away, made_of_nothing, no_record, one_record_more,
           another_record, forgotten_and_there]


class ComparedCase(unittest.TestCase):
    @classmethod
    def serve(cls, environment=None):
        """All kinds of ends, of a server that is gone by then."""
        cls.directory = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.directory.chmod(0o755)
        (cls.directory / "pay.yaml").write_text(PAY)
        refusals = [503]
        with Service(lambda r: r.answer(refusals.pop() if refusals else 200)) as service:
            config = {
                "listen": f"127.0.0.1:{postgres.free_port()}",
                "data_dir": str(cls.directory / "data"),
                "pools": [{"name": "default", "ready_sessions": 1}],
                "code_mode": {"tools": {"dir": str(cls.directory),
                                        "secrets": {"hook": {"env": "HOOK_SECRET"}}}},
                "approvals": {"lease_seconds": 1, "callbacks": {
                    "allow": [f"{service.url}/in"], "secret": "hook"}},
            }
            server = Server(config, {"HOOK_SECRET": "s", **(environment or {})}, token="of-the-test")
            server.start()
            server.port = int(config["listen"].rpartition(":")[2])
            try:
                cls.ids = all_ends(server, service.url)
            finally:
                server.stop()

    def assert_found(self, url, expected):
        """That, with its record's number, and of this approval alone."""
        one, record, words = expected
        status, out, err = audit("verify", "--database", url, "-o", "json")
        self.assertEqual(status, 1, out + err)
        said = json.loads(out)
        wrong = [w for w in said["wrong"] if words in w["reason"]]
        self.assertTrue(wrong, said["wrong"])
        self.assertEqual({w["id"] for w in said["wrong"] if w["id"]}, {one})
        self.assertEqual(said["wrong_count"], len(said["wrong"]))
        if record is not None:
            self.assertIn(int(record), [w.get("record") for w in wrong])
            self.assertIn(f"approval {one}: ", err)
        self.assertIn(words, err)


class Compared(ComparedCase):
    @classmethod
    def setUpClass(cls):
        cls.serve()

    def copy(self):
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "approvals.db"
        original = sqlite3.connect(self.directory / "data" / "approvals.db")
        copy = sqlite3.connect(path)
        original.backup(copy)
        original.close()
        copy.close()
        return File(path)

    def test_an_honest_one(self):
        status, out, err = audit("verify", "--database", self.copy().close(), "-o", "json")
        self.assertEqual((status, err), (0, ""), out)
        said = json.loads(out)
        self.assertEqual((said["wrong"], said["wrong_count"]), ([], 0))
        self.assertEqual(said["approvals"], len(self.ids))
        # It was of everything.
        kinds = {kind for kind, in self.copy().rows("SELECT DISTINCT kind FROM approval_event")}
        self.assertLessEqual({
            "submitted", "waiting", "decided", "approved", "rejected", "expired", "cancelled",
            "run_started", "run_interrupted", "run_finished", "call_finished", "callback_failed",
            "callback_delivered", "promoted"}, kinds)

    def test_the_chain_made_anew_is_the_same(self):
        database = self.copy()
        before = database.rows("SELECT hash FROM audit ORDER BY seq")
        database.chain_anew(lambda records: records)
        self.assertEqual(database.rows("SELECT hash FROM audit ORDER BY seq"), before)

    def test_each_change_is_found(self):
        for change in CHANGES:
            with self.subTest(change.__name__):
                database = self.copy()
                expected = change(database, self.ids)
                self.assert_found(database.close(), expected)

    def test_what_was_forgotten_is_not_missing(self):
        database = self.copy()
        one = self.ids["expired"]
        database.remove(one)
        database.chain_anew(lambda records: [*records, {
            **records[-1], "subject": one, "action": "approval.forget", "outcome": "expired",
            "detail": {}}])
        self.assertEqual(audit("verify", "--database", database.close())[0], 0)

    def test_both_in_step_are_found_by_who_kept_the_head(self):
        database = self.copy()
        one = self.ids["cancelled"]
        head = audit("verify", "--database", f"sqlite:{database.path}")[1].split()[-1]
        another_record(database, self.ids)
        database.event(one, "cancelled", lambda b: b.update(by="mallory"), actor="mallory")
        url = database.close()
        self.assertEqual(audit("verify", "--database", url)[0], 0)
        status, _, err = audit("verify", "--database", url, "--head", head)
        self.assertEqual(status, 1)
        self.assertIn("it is not the one that was kept", err)

    def test_ids_that_hide_what_comes_after_them(self):
        for value in ("CAST(X'01FF' AS TEXT)", "''", "X'00'", "'a' || char(0) || 'b'"):
            with self.subTest(value):
                database = self.copy()
                database.rows(f"UPDATE approval SET id = {value} WHERE id = ?", self.ids["waits"])
                status, _, err = audit("verify", "--database", database.close())
                self.assertEqual(status, 1)
                self.assertIn("whose id cannot be read", err)

    def test_what_it_shows_is_harmless(self):
        database = self.copy()
        one = self.ids["both"]
        database.add(one, "callback_\x1b[2Jdelivered")
        database.rows("UPDATE approval SET id = ? WHERE id = ?", "\x1b[2J", self.ids["called"])
        status, out, err = audit("verify", "--database", database.close())
        self.assertEqual((status, out), (1, ""))
        self.assertNotIn("\x1b", err)

    def test_there_is_an_end_to_what_it_tells(self):
        database = self.copy()
        for _ in range(40):
            database.add(self.ids["both"], "callback_failed", {"attempt": 1, "reason": "none"})
        status, out, _ = audit("verify", "--database", database.close(), "-o", "json")
        self.assertEqual(status, 1)
        self.assertEqual(json.loads(out)["wrong_count"], 8)


class OverPostgres(ComparedCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(postgres.Postgres(fsync=False))
        cls.serve({"CARREL_DATABASE_URL": cls.database.url})

    def test_honest_and_then_changed(self):
        status, out, err = audit("verify", "--database", self.database.url)
        self.assertEqual((status, err), (0, ""), out)
        for guarded in ("audit", "approval", "approval_event"):
            self.database.sql(f"ALTER TABLE {guarded} DISABLE TRIGGER ALL")
        for change in (another_person, other_code, undecided, delivered_by_nobody, taken_away):
            with self.subTest(change.__name__):
                self.database.sql("CREATE DATABASE kept TEMPLATE approvals", database="postgres")
                try:
                    self.assert_found(
                        self.database.url, change(OverPsql(self.database), self.ids))
                finally:
                    self.database.sql("DROP DATABASE approvals", database="postgres")
                    self.database.sql("ALTER DATABASE kept RENAME TO approvals",
                                      database="postgres")


class WhileItWrites(unittest.TestCase):
    def test_a_server_at_work(self):
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory).chmod(0o755)
            config = {"data_dir": f"{directory}/data",
                      "pools": [{"name": "default", "ready_sessions": 0}]}
            with Server(config) as server:
                end = threading.Event()
                client = Client(server)

                def work():
                    while not end.is_set():
                        client.decide(client.submit("1", policy="before"), False)
                threads = [threading.Thread(target=work) for _ in range(4)]
                for thread in threads:
                    thread.start()
                counts = []
                try:
                    for _ in range(12):
                        status, out, err = audit("verify", "--data-dir", config["data_dir"])
                        self.assertEqual((status, err), (0, ""), out)
                        counts.append(int(out.split()[0]))
                finally:
                    end.set()
                    for thread in threads:
                        thread.join()
                self.assertGreater(counts[-1], counts[0])


if __name__ == "__main__":
    unittest.main()

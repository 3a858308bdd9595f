"""Two servers that share one PostgreSQL: what is asked of one is known to the other."""

import concurrent.futures
import json
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import Server, run_at_once  # noqa: E402
from postgres import Cutter, Postgres  # noqa: E402

FINAL = ("approved", "rejected", "expired", "failed", "cancelled")
TOKENS = [{"name": "worker", "token": "worker-token", "role": "execute"},
          {"name": "reviewer", "token": "reviewer-token", "role": "review"}]


class Shared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(Postgres())
        cls.servers = [cls.enterClassContext(cls.server(name)) for name in ("one", "two")]

    @classmethod
    def server(cls, name):
        return Server({"pools": [{"name": "default", "ready_sessions": 2}],
                       "auth": {"tokens": TOKENS},
                       "approvals": {"server": name, "lease_seconds": 1}},
                      {"CARREL_DATABASE_URL": cls.database.url})

    def ask(self, server, method, path, body=None, status=200, token=None, **options):
        headers = {**options.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}-token"
        reply = self.servers[server].request(method, path, body=body, headers=headers, **options)
        self.assertEqual(reply.status, status, reply)
        return reply.json()

    def submit(self, server, code, **more):
        return self.ask(server, "POST", "approvals", {"code": code, **more}, 201)

    def wait_for(self, server, approval, *states, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = self.ask(server, "GET", f"approvals/{approval['id']}")
            if shown["state"] in states:
                return shown
            time.sleep(0.05)
        self.fail(f"none of {states} within {seconds} s: {shown}")

    def test_what_one_takes_the_other_decides(self):
        one = self.submit(0, "print('shared'); 7")
        shown = self.wait_for(1, one, "waiting")
        self.assertEqual((shown["result"]["stdout"], shown["result"]["value"]), ("shared\n", 7))
        self.ask(1, "POST", f"approvals/{one['id']}/decision", {"approve": True},
                 token="reviewer")
        self.assertEqual(self.ask(0, "GET", f"approvals/{one['id']}")["state"], "approved")
        self.ask(0, "POST", f"approvals/{one['id']}/decision", {"approve": False}, 409)

    def test_a_stream_hears_of_the_other(self):
        one = self.submit(0, "1", policy="before")
        connection = self.servers[0].connect(20)
        self.addCleanup(connection.close)
        connection.request("GET", f"/approvals/{one['id']}/events",
                           headers={"Authorization": f"Bearer {self.servers[0].token}"})
        answer = connection.getresponse()
        while not answer.readline().startswith(b"data:"):
            pass
        started = time.monotonic()
        self.ask(1, "POST", f"approvals/{one['id']}/decision", {"approve": False})
        rest = answer.read().decode()  # it ends
        self.assertIn("event: rejected", rest)
        self.assertLess(time.monotonic() - started, 5)

    def test_a_key_is_known_to_both(self):
        headers = {"Idempotency-Key": "shared-1"}
        replies = run_at_once([
            lambda i=i: self.servers[i % 2].request("POST", "approvals", body={"code": "1"},
                                                    headers={"Authorization": "Bearer worker-token",
                                                             **headers}) for i in range(8)])
        self.assertEqual(sorted(r.status for r in replies), [200] * 7 + [201])
        self.assertEqual(len({r.json()["id"] for r in replies}), 1)

    def test_both_decide_and_one_is_heard(self):
        for _ in range(5):
            one = self.submit(0, "1", policy="before")
            path = f"approvals/{one['id']}/decision"
            replies = run_at_once([
                lambda i=i: self.servers[i].request("POST", path, body={"approve": i == 0})
                for i in range(2)])
            self.assertEqual(sorted(r.status for r in replies), [200, 409])
            shown = self.wait_for(1, one, "queued", "running", *FINAL)
            kinds = [event["kind"] for event in shown["history"]]
            self.assertEqual(kinds.count("decided"), 1)

    def test_work_is_shared_and_done_once(self):
        made = run_at_once([lambda i=i: self.submit(i % 2, f"{i} * 2", policy="rules")
                            for i in range(16)])
        for i, one in enumerate(made):
            shown = self.wait_for(i % 2, one, *FINAL)
            self.assertEqual((shown["state"], shown["result"]["value"]), ("approved", i * 2))
            kinds = [event["kind"] for event in shown["history"]]
            self.assertEqual(kinds.count("run_finished"), 1, kinds)

    def test_the_password_is_forgotten(self):
        for server in self.servers:
            environ = pathlib.Path(f"/proc/{server.process.pid}/environ").read_bytes()
            self.assertNotIn(self.database.password.encode(), environ)
            self.assertNotIn(self.database.password, json.dumps(server.events))


class Away(unittest.TestCase):
    def test_a_database_that_comes_back_is_found(self):
        with Postgres() as database, Server(
                {"pools": [{"name": "default", "ready_sessions": 1}]},
                {"CARREL_DATABASE_URL": database.url}) as server:
            one = server.request("POST", "approvals", body={"code": "1", "policy": "before"})
            self.assertEqual(one.status, 201, one)
            database.kill()
            reply = server.request("GET", "approvals", timeout=30)
            self.assertEqual((reply.status, reply.error_code), (503, "ApprovalsUnavailable"))
            self.assertEqual(server.value("meanwhile", "1 + 1"), 2)
            # What is done meanwhile is a record of the trail, too, however long it waits.
            self.assertEqual(server.request("DELETE", "session", "meanwhile").status, 204)
            refused = server.request("GET", "approvals", timeout=30)
            self.assertEqual(refused.status, 503)
            database.start()
            end = time.monotonic() + 20
            while (reply := server.request("GET", f"approvals/{one.json()['id']}")).status != 200:
                self.assertLess(time.monotonic(), end, reply)
                time.sleep(0.1)
            self.assertEqual(reply.json()["state"], "waiting")
            count = "SELECT count(*) FROM audit WHERE action = 'session.delete'"
            while database.sql(count) != "1":
                self.assertLess(time.monotonic(), end)
                time.sleep(0.1)
            # A person who reads the log knows when, and why; the address has a password.
            away = [e for e in server.events if e["event"] == "approvals_database_away"]
            self.assertIn("connecting", away[0]["reason"])
            self.assertLessEqual(len(away), 2)  # one of each thread
            self.assertIn("approvals_database_back", [e["event"] for e in server.events])
            self.assertNotIn(database.password, json.dumps(server.events))


class OutcomeUnknown(unittest.TestCase):
    """Nobody knows whether a commit was done: neither success is told, nor that it was not done."""

    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(Postgres())
        cls.cutter = cls.enterClassContext(Cutter(cls.database.port))
        cls.server = cls.enterClassContext(Server(
            {"pools": [{"name": "default", "ready_sessions": 1}]},
            {"CARREL_DATABASE_URL": cls.database.behind(cls.cutter.port)}))

    def submit(self, key):
        return self.server.request("POST", "approvals", body={"code": "1", "policy": "before"},
                                   headers={"Idempotency-Key": key})

    def assert_unknown(self, reply):
        self.assertEqual((reply.status, reply.error_code), (504, "ApprovalOutcomeUnknown"), reply)
        self.assertIn("may have been done, or not", reply.json()["error"]["message"])
        self.assertNotIn("Retry-After", reply.headers)

    def test_the_connection_is_lost_at_commit(self):
        for cut, there in (("before", 0), ("after", 1)):
            with self.subTest(cut=cut):
                before = self.server.request("GET", "approvals").json()["approvals"]
                self.cutter.cut = cut
                self.assert_unknown(self.submit(cut))
                after = self.server.request("GET", "approvals").json()["approvals"]
                self.assertEqual(len(after) - len(before), there)
                # Asked again with its key it is there once, whatever had become of it.
                self.assertEqual(self.submit(cut).status, 201 - there)
                after = self.server.request("GET", "approvals").json()["approvals"]
                self.assertEqual(len(after) - len(before), 1)

    def test_a_decision_whose_commit_is_lost(self):
        one = self.submit("decided").json()["id"]
        self.cutter.cut = "after"
        path = f"approvals/{one}/decision"
        self.assert_unknown(self.server.request("POST", path, body={"approve": False}))
        self.assertEqual(self.server.request("GET", f"approvals/{one}").json()["state"],
                         "rejected")
        self.assertEqual(self.server.request("POST", path, body={"approve": False}).status, 200)
        self.assertEqual(self.server.request("POST", path, body={"approve": True}).status, 409)

    def test_a_standby_that_does_not_confirm(self):
        """The server gives up waiting for it, and says COMMIT with a warning."""
        settle = "SELECT pg_reload_conf()"
        self.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        self.database.sql(settle)
        try:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                reply = pool.submit(self.submit, "standby")
                while not reply.done():
                    self.database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                                      " WHERE wait_event = 'SyncRep'")
                self.assert_unknown(reply.result())
        finally:
            self.database.sql("ALTER SYSTEM RESET synchronous_standby_names")
            self.database.sql(settle)


if __name__ == "__main__":
    unittest.main()

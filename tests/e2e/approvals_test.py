"""Approvals over the wire: the sample's flow, every policy and state, who may what, the stream of
events, and what is there after a restart."""

import base64
import contextlib
import http.client
import http.server
import json
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import CARREL, ROOT, Server, ServerCase, run_at_once  # noqa: E402

GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
FINAL = ("approved", "rejected", "expired", "failed", "cancelled")
TOKENS = [
    {"name": "agent", "token": "agent-token", "role": "execute", "own_approvals": False},
    {"name": "reviewer", "token": "reviewer-token", "role": "review"},
    {"name": "worker", "token": "worker-token", "role": "execute"},
    {"name": "scraper", "token": "scraper-token", "role": "metrics"},
    {"name": "blue", "token": "blue-token", "role": "execute", "prefix": "blue"},
    {"name": "red", "token": "red-token", "role": "admin", "prefix": "red"},
    {"name": "strict", "token": "strict-token", "role": "execute", "pool": "strict"},
]
POOLS = [
    {"name": "default", "ready_sessions": 2},
    {"name": "strict", "ready_sessions": 1, "max_concurrent_sessions": 4,
     "approvals": {"policies": ["before", "both"], "deadline_seconds": 60,
                   "deadline_max_seconds": 120}},
]


def events_with_ids(answer):
    """(id, event, data) of an open answer of server-sent events."""
    fields = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line == "" and "data" in fields:
            yield int(fields["id"]), fields["event"], json.loads(fields["data"])
            fields = {}
        elif ": " in line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


class ApprovalsCase(ServerCase):
    config = {"pools": POOLS, "auth": {"tokens": TOKENS}}

    def ask(self, method, path, body=None, token=None, status=None, headers=None, **query):
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}-token"
        reply = self.server.request(method, path, body=body, headers=headers, api_version=None,
                                    **query)
        if status is not None:
            self.assertEqual(reply.status, status, reply)
        return reply

    def refused(self, status, code, *arguments, **options):
        reply = self.ask(*arguments, status=status, **options)
        self.assertEqual(reply.json()["error"]["code"], code, reply)
        self.assertEqual(set(reply.json()["error"]), {"code", "message"})
        return reply.json()["error"]["message"]

    def submit(self, code="1 + 1", token=None, pool=None, key=None, status=201, **more):
        path = f"sessionPools/{pool}/approvals" if pool else "approvals"
        headers = {"Idempotency-Key": key} if key else {}
        return self.ask("POST", path, {"code": code, **more}, token, status, headers).json()

    def show(self, approval, **options):
        return self.ask("GET", f"approvals/{approval['id']}", status=200, **options).json()

    def decide(self, approval, approve, status=200, token=None, **more):
        return self.ask("POST", f"approvals/{approval['id']}/decision",
                        {"approve": approve, **more}, token, status)

    def wait_for(self, approval, *states, seconds=20):
        def look():
            shown = self.show(approval)
            return shown if shown["state"] in states else None
        return self.wait_until(look, f"none of {states}", seconds)

    def assert_it_is_not_its_turn(self, approval):
        """It does not run: one that came after it has run, and they begin in their order."""
        self.wait_for(self.submit("'later'", policy="rules"), "approved")
        self.assertNotIn("run_started", self.kinds(self.show(approval)))

    @staticmethod
    def kinds(shown):
        return [event["kind"] for event in shown["history"]]


class TheSample(ApprovalsCase):
    """What the sample's README shows, request for request."""

    def post(self, path, body=None, token=True):
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
        finally:
            connection.close()

    def execute(self, code):
        status, _, body = self.post("/code/execute", json.dumps(code))
        self.assertEqual(status, 200, body)
        reply = json.loads(body)
        self.assertEqual(set(reply), {"RequestId", "requestId"})
        self.assertEqual(reply["RequestId"], reply["requestId"])
        self.assertRegex(reply["requestId"], GUID)
        return {"id": reply["requestId"]}

    def test_code_is_executed_and_its_result_approved(self):
        one = self.execute("print('Hello, World!')")
        shown = self.wait_for(one, "waiting")
        self.assertEqual((shown["policy"], shown["stage"]), ("after", "result"))
        self.assertEqual(shown["result"]["stdout"], "Hello, World!\n")
        status, kind, body = self.post(f"/code/review?approve=true&requestId={one['id']}")
        self.assertEqual((status, json.loads(body)), (200, {"message": "Code execution approved."}))
        self.assertIn("application/json", kind)
        self.assertEqual(self.wait_for(one, *FINAL)["state"], "approved")

    def test_or_rejected(self):
        one = self.execute("2")
        self.wait_for(one, "waiting")
        status, _, body = self.post(f"/code/review?approve=false&requestId={one['id']}")
        self.assertEqual((status, json.loads(body)), (200, {"message": "Code execution rejected."}))
        self.assertEqual(self.show(one)["state"], "rejected")
        # The same again is the same answer, the other one a conflict.
        self.assertEqual(self.post(f"/code/review?approve=false&requestId={one['id']}")[0], 200)
        status, kind, _ = self.post(f"/code/review?approve=true&requestId={one['id']}")
        self.assertEqual((status, kind), (409, "text/plain; charset=utf-8"))

    def test_in_any_case(self):
        status, _, body = self.post("/Code/Execute", '"3"')
        self.assertEqual(status, 200, body)
        one = {"id": json.loads(body)["requestId"]}
        self.wait_for(one, "waiting")
        status, _, body = self.post(f"/CODE/review?Approve=True&RequestID={one['id']}")
        self.assertEqual((status, json.loads(body)), (200, {"message": "Code execution approved."}))
        self.assertEqual(self.show(one)["state"], "approved")

    def test_a_review_that_comes_early_is_kept(self):
        """As an event that is raised before the orchestration waits for it."""
        for approve, end in (("true", "approved"), ("false", "rejected")):
            one = self.held_up(end)
            review = f"/code/review?requestId={one['id']}&approve="
            for _ in range(2):  # the same again is the same
                self.assertEqual(self.post(review + approve)[0], 200)
            self.assertEqual(self.post(review + {"true": "false", "false": "true"}[approve])[0], 409)
            shown = self.show(one)
            self.assertEqual((shown["state"], shown["decisions"][0]["stage"]), ("running", "result"))
            self.let_go(end)
            shown = self.wait_for(one, *FINAL)
            self.assertEqual((shown["state"], shown["result"]["value"]), (end, "through"))
            self.assertEqual([event["kind"] for event in shown["history"]],
                             ["submitted", "run_started", "decided", "run_finished", end])
        database = pathlib.Path(self.server.config["data_dir"], "approvals.db")
        done = subprocess.run([CARREL, "audit", "verify", "--database", f"sqlite:{database}"],
                              check=False, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)

    def held_up(self, name):
        """One whose code runs until it is let go."""
        one = self.execute("import time\n"
                           f"while not artifacts.exists('go-{name}'):\n    time.sleep(0.05)\n"
                           "'through'")
        self.wait_for(one, "running")
        return one

    def let_go(self, name):
        self.server.value("keeper", f"artifacts.save('go-{name}', 'go', description='')")

    def test_no_other_way_decides_what_nobody_has_seen(self):
        one = self.held_up("other")
        self.refused(409, "ApprovalConflict", "POST", f"approvals/{one['id']}/decision",
                     {"approve": True})
        self.let_go("other")
        self.wait_for(one, "waiting")

    def test_its_refusals(self):
        for body in ('""', '"  "', "null", ""):
            self.assertEqual(self.post("/code/execute", body),
                             (400, "text/plain; charset=utf-8", "Code cannot be null or empty."))
        for body in ("print(1)", '"cut', "[]", "7"):
            status, kind, _ = self.post("/code/execute", body)
            self.assertEqual((status, kind), (400, "text/plain; charset=utf-8"), body)
        for path in ("/code/execute", "/code/review?approve=true&requestId=a"):
            status, kind, _ = self.post(path, json.dumps("x" * (9 << 20)))
            self.assertEqual((status, kind), (413, "text/plain; charset=utf-8"), path)
        nobody = "00000000-0000-4000-8000-000000000000"
        self.assertEqual(self.post("/code/review?approve=true")[0], 400)
        self.assertEqual(self.post(f"/code/review?approve=maybe&requestId={nobody}")[0], 400)
        self.assertEqual(self.post(f"/code/review?approve=true&requestId={nobody}")[0], 404)
        self.assertEqual(self.post("/code/execute", '"1"', token=False)[:2],
                         (401, "text/plain; charset=utf-8"))
        self.assertEqual(self.post("/code/review?approve=true&requestId=a", token=False)[0], 401)

    def test_sessions_keep_the_route(self):
        body = {"properties": {"codeInputType": "inline", "executionType": "synchronous",
                               "code": "6 * 7"}}
        reply = self.server.request("POST", "code/execute", self.session, body,
                                    api_version="2024-02-02-preview")
        self.assertEqual(reply.json()["properties"]["result"], 42, reply)
        self.assert_error(self.server.request("POST", "code/execute", self.session, '"1"'),
                          400, "SessionRequestValidationFailed")
        self.assert_error(self.server.request("POST", "code/execute", None, body), 400,
                          "SessionRequestValidationFailed")


class Policies(ApprovalsCase):
    def test_after_runs_first(self):
        one = self.submit("print('out')\n[1, 2]", policy="after")
        self.assertEqual((one["state"], one["policy"], one["kind"]), ("queued", "after", "code"))
        shown = self.wait_for(one, "waiting")
        self.assertEqual((shown["stage"], shown["attempt"]), ("result", 1))
        self.assertEqual((shown["result"]["stdout"], shown["result"]["value"]), ("out\n", [1, 2]))
        reply = self.decide(one, True, reason="looks right", by="Ada")
        self.assertEqual(reply.json()["state"], "approved")
        shown = self.show(one)
        self.assertEqual(self.kinds(shown),
                         ["submitted", "run_started", "run_finished", "waiting", "decided",
                          "approved"])
        decision = shown["decisions"][0]
        self.assertEqual((decision["approve"], decision["reason"]), (True, "looks right"))
        self.assertIn("Ada", json.dumps(decision))

    def test_before_runs_only_what_was_approved(self):
        one = self.submit("'ran'", policy="before")
        self.assertEqual((one["state"], one["stage"], one["code"]), ("waiting", "code", "'ran'"))
        self.assert_it_is_not_its_turn(one)
        self.decide(one, True)
        shown = self.wait_for(one, *FINAL)
        self.assertEqual((shown["state"], shown["result"]["value"]), ("approved", "ran"))
        other = self.submit("'never'", policy="before")
        self.decide(other, False, reason="no")
        self.assert_it_is_not_its_turn(other)
        shown = self.show(other)
        self.assertEqual((shown["state"], shown["result"]), ("rejected", None))
        self.assertNotIn("run_started", self.kinds(shown))

    def test_both_asks_twice(self):
        one = self.submit("'twice'", policy="both")
        message = self.decide(one, True, status=400).json()["error"]["message"]
        self.assertIn("stage", message)
        self.decide(one, True, stage="code")
        shown = self.wait_for(one, "waiting")
        self.assertEqual(shown["stage"], "result")
        self.decide(one, False, stage="result")
        shown = self.show(one)
        self.assertEqual(shown["state"], "rejected")
        self.assertEqual([(d["stage"], d["approve"]) for d in shown["decisions"]],
                         [("code", True), ("result", False)])

    def test_rules_asks_nobody_about_plain_code(self):
        one = self.submit("40 + 2", policy="rules")
        shown = self.wait_for(one, *FINAL)
        self.assertEqual((shown["state"], shown["result"]["value"]), ("approved", 42))
        self.assertEqual(shown["decisions"], [])

    def test_a_pool_has_its_own(self):
        message = self.refused(400, "ApprovalRequestInvalid", "POST",
                               "sessionPools/strict/approvals", {"code": "1", "policy": "after"})
        self.assertIn("before", message)
        one = self.submit(pool="strict")
        self.assertEqual((one["policy"], one["pool"]), ("before", "strict"))
        self.refused(400, "ApprovalRequestInvalid", "POST", "sessionPools/strict/approvals",
                     {"code": "1", "deadline_seconds": 121})
        self.refused(404, "ApprovalNotFound", "POST", "sessionPools/none/approvals", {"code": "1"})

    def test_code_that_raises_has_a_result_to_review(self):
        one = self.submit("print('before')\n1 / 0")
        shown = self.wait_for(one, "waiting", *FINAL)
        self.assertEqual(shown["state"], "waiting")
        self.assertEqual(shown["result"]["error"]["name"], "ZeroDivisionError")
        self.assertEqual(shown["result"]["stdout"], "before\n")

    def test_each_run_has_a_session_of_its_own(self):
        first = self.submit("import os\nopen('/mnt/data/left', 'w').close()\nx = 1")
        self.wait_for(first, "waiting")
        second = self.submit("import os\n(os.path.exists('/mnt/data/left'), 'x' in dir())")
        shown = self.wait_for(second, "waiting")
        self.assertEqual(shown["result"]["value"], [False, False])


class States(ApprovalsCase):
    def test_a_deadline_expires_once(self):
        one = self.submit(policy="before", deadline_seconds=1)
        self.assertRegex(one["deadline"], r"^\d{4}-\d\d-\d\dT.*Z$")
        shown = self.wait_for(one, *FINAL, seconds=10)
        self.assertEqual(shown["state"], "expired")
        self.assertEqual(self.kinds(shown).count("expired"), 1)
        message = self.decide(one, True, status=409).json()["error"]["message"]
        self.assertIn("expired", message)

    def test_a_decision_is_single_use(self):
        one = self.submit(policy="before")
        self.decide(one, False, reason="not this")
        self.decide(one, False)
        message = self.decide(one, True, status=409).json()["error"]["message"]
        self.assertTrue(message)
        self.assertEqual(self.kinds(self.show(one)).count("decided"), 1)

    def test_many_decide_at_once_and_one_is_heard(self):
        one = self.submit(policy="before")
        replies = run_at_once([
            lambda approve=i % 2 == 0: self.ask("POST", f"approvals/{one['id']}/decision",
                                                {"approve": approve}) for i in range(10)])
        self.assertEqual(sorted(reply.status for reply in replies), [200] * 5 + [409] * 5)
        shown = self.show(one)
        self.assertEqual(self.kinds(shown).count("decided"), 1)
        heard = {reply.json()["state"] in ("rejected",) for reply in replies
                 if reply.status == 200}
        self.assertEqual(len(heard), 1)

    def test_one_is_cancelled(self):
        one = self.submit(policy="before")
        reply = self.ask("DELETE", f"approvals/{one['id']}", status=200, reason="not needed")
        self.assertEqual(reply.json()["state"], "cancelled")
        self.ask("DELETE", f"approvals/{one['id']}", status=200)
        self.decide(one, True, status=409)
        running = self.submit("import time; time.sleep(60)")
        self.wait_for(running, "running")
        self.ask("DELETE", f"approvals/{running['id']}", status=200)
        self.assertEqual(self.show(running)["state"], "cancelled")

    def test_the_time_of_a_run_is_the_submitters(self):
        one = self.submit("import time; time.sleep(60)", timeout_seconds=0.5)
        shown = self.wait_for(one, "waiting", *FINAL)
        self.assertEqual((shown["state"], shown["result"]["status"]), ("waiting", "Failed"))

    def test_what_is_not_there(self):
        for method, path, body in (("GET", "approvals/none", None),
                                   ("DELETE", "approvals/none", None),
                                   ("GET", "approvals/none/events", None),
                                   ("POST", "approvals/none/decision", {"approve": True})):
            self.refused(404, "ApprovalNotFound", method, path, body)
        self.refused(404, "NotFound", "GET", "approvals/a/b/c")
        self.refused(405, "MethodNotAllowed", "PUT", "approvals")

    def test_what_is_wrong_is_named(self):
        for body, word in (({}, "code"), ({"code": " "}, "Code cannot be null or empty"),
                           ({"code": 1}, "code"), ({"code": "1", "polcy": "after"}, "polcy"),
                           ({"code": "1", "policy": "never"}, "after"),
                           ({"code": "1", "deadline_seconds": 0}, "deadline_seconds"),
                           ({"code": "1", "deadline_seconds": 1e9}, "deadline_seconds"),
                           ({"code": "1", "callback": {"url": "https://x/"}}, "callback"),
                           ({"code": "1", "promote": {"files": ["../x"]}}, ".."),
                           ([], "object"), ("x", "JSON")):
            with self.subTest(body=body):
                message = self.refused(400, "ApprovalRequestInvalid", "POST", "approvals", body)
                self.assertIn(word, message)

    def test_a_submission_is_made_once(self):
        one = self.submit("1", key=f"{self.session}/a")
        again = self.submit("1", key=f"{self.session}/a", status=200)
        self.assertEqual(one["id"], again["id"])
        self.refused(409, "ApprovalConflict", "POST", "approvals", {"code": "2"},
                     headers={"Idempotency-Key": f"{self.session}/a"})
        # Another's key is another key.
        other = self.submit("1", key=f"{self.session}/a", token="worker")
        self.assertNotEqual(one["id"], other["id"])
        replies = run_at_once([lambda: self.ask("POST", "approvals", {"code": "3"}, headers={
            "Idempotency-Key": f"{self.session}/b"}) for _ in range(8)])
        self.assertEqual(sorted(r.status for r in replies), [200] * 7 + [201])
        self.assertEqual(len({r.json()["id"] for r in replies}), 1)

    def test_location_leads_there(self):
        for path in ("approvals", "sessionPools/strict/approvals"):
            reply = self.ask("POST", path, {"code": "1"}, status=201)
            there = self.ask("GET", reply.headers["location"].lstrip("/"), status=200)
            self.assertEqual(there.json()["id"], reply.json()["id"])


class Lists(ApprovalsCase):
    config = {**ApprovalsCase.config,
              "auth": {"tokens": [*TOKENS, {"name": "green", "token": "green-token",
                                            "prefix": "green"}]}}

    def pages(self, **query):
        after = None
        while True:
            reply = self.ask("GET", "approvals", token="green", status=200, after=after, **query)
            page = reply.json()
            yield page["approvals"]
            after = page["next"]
            if after is None:
                return

    def test_page_by_page(self):
        def submit(number):
            return self.submit(str(number), token="green", policy="before")["id"]
        made = []
        for start in range(0, 256, 16):
            made += run_at_once([lambda n=n: submit(n) for n in range(start, start + 16)])
        sizes, seen = [], []
        for page in self.pages():
            sizes.append(len(page))
            seen += [one["id"] for one in page]
        self.assertEqual(sizes, [100, 100, 56])
        self.assertEqual(sorted(seen), sorted(made))
        times = [one["created"] for page in self.pages(limit=200) for one in page]
        self.assertEqual(times, sorted(times, reverse=True))
        for one in made[:3]:
            self.decide({"id": one}, False, token="green")
        rejected = [one for page in self.pages(state="rejected", limit=2) for one in page]
        self.assertEqual({one["id"] for one in rejected}, set(made[:3]))
        self.assertEqual(sum(len(page) for page in self.pages(state="waiting", limit=200)), 253)
        self.assertEqual(sum(len(page) for page in self.pages(kind="call")), 0)
        self.assertNotIn("code", rejected[0])
        self.refused(400, "ApprovalRequestInvalid", "GET", "approvals", after="nonsense")
        self.refused(400, "ApprovalRequestInvalid", "GET", "approvals", limit="201")
        self.refused(400, "ApprovalRequestInvalid", "GET", "approvals", state="done")


class Who(ApprovalsCase):
    def test_roles(self):
        one = self.submit(token="worker", policy="before")
        self.refused(403, "Forbidden", "POST", "approvals", {"code": "1"}, token="reviewer")
        self.refused(403, "Forbidden", "GET", "approvals", token="scraper")
        self.refused(403, "Forbidden", "POST", f"approvals/{one['id']}/decision",
                     {"approve": True}, token="scraper")
        self.ask("POST", "code/execute", '"1"', token="reviewer", status=403)
        self.assertEqual(
            self.server.request("POST", "executions", self.session, {"code": "1"},
                                headers={"Authorization": "Bearer reviewer-token"}).status, 403)
        self.assertEqual(self.ask("GET", f"approvals/{one['id']}", token="reviewer").status, 200)
        self.decide(one, True, token="reviewer", by="Grace")
        shown = self.wait_for(one, *FINAL)
        self.assertEqual(shown["submitter"], "worker")
        self.assertIn("reviewer", json.dumps(shown["decisions"]))
        self.refused(401, "Unauthorized", "GET", "approvals",
                     headers={"Authorization": "Bearer nothing"})

    def test_four_eyes(self):
        one = self.submit(token="agent", policy="before")
        message = self.decide(one, True, status=403, token="agent").json()["error"]["message"]
        self.assertTrue(message)
        self.ask("POST", "code/review", token="agent", status=403, approve="true",
                 requestId=one["id"])
        self.assertEqual(self.show(one)["state"], "waiting")
        self.decide(one, True, token="worker")
        others = self.submit(token="worker", policy="before")
        self.decide(others, False, token="agent")

    def test_a_tenant_sees_its_own(self):
        blue = self.submit("'blue'", token="blue", policy="before")
        red = self.submit("'red'", token="red", policy="before")
        own = self.submit("'own'", token="worker", policy="before")
        for token, mine, others in (("blue", blue, (red, own)), ("red", red, (blue, own)),
                                    ("worker", own, (blue, red))):
            for other in others:
                path = f"approvals/{other['id']}"
                self.refused(404, "ApprovalNotFound", "GET", path, token=token)
                self.refused(404, "ApprovalNotFound", "DELETE", path, token=token)
                self.refused(404, "ApprovalNotFound", "GET", f"{path}/events", token=token)
                self.refused(404, "ApprovalNotFound", "POST", f"{path}/decision",
                             {"approve": True}, token=token)
                self.ask("POST", "code/review", token=token, status=404, approve="true",
                         requestId=other["id"])
            listed = self.ask("GET", "approvals", token=token, limit=200).json()["approvals"]
            ids = {one["id"] for one in listed}
            self.assertIn(mine["id"], ids)
            self.assertFalse(ids & {other["id"] for other in others})
            self.refused(403, "Forbidden", "GET", "approvals", token=token, tenant="moon")
        everything = self.ask("GET", "approvals", limit=200).json()["approvals"]
        self.assertLessEqual({blue["id"], red["id"], own["id"]}, {o["id"] for o in everything})
        named = self.ask("GET", "approvals", limit=200, tenant="blue").json()["approvals"]
        self.assertIn(blue["id"], {o["id"] for o in named})
        self.assertNotIn(red["id"], {o["id"] for o in named})
        # One key of two tenants is two keys.
        key = {"Idempotency-Key": self.session}
        first = self.ask("POST", "approvals", {"code": "1"}, "blue", 201, key).json()
        second = self.ask("POST", "approvals", {"code": "1"}, "red", 201, key).json()
        self.assertNotEqual(first["id"], second["id"])

    def test_a_pool_s_token_sees_that_pool(self):
        here = self.submit(token="strict", pool="strict")
        there = self.submit(policy="before")
        listed = self.ask("GET", "sessionPools/strict/approvals", token="strict",
                          status=200, limit=200).json()["approvals"]
        ids = {one["id"] for one in listed}
        self.assertIn(here["id"], ids)
        self.assertNotIn(there["id"], ids)
        base = "sessionPools/strict/approvals"
        self.refused(404, "ApprovalNotFound", "GET", f"{base}/{there['id']}", token="strict")
        self.refused(404, "ApprovalNotFound", "POST", f"{base}/{there['id']}/decision",
                     {"approve": True}, token="strict")
        self.refused(403, "Forbidden", "GET", "approvals", token="strict")
        self.assertEqual(self.show(there)["state"], "waiting")


class Events(ApprovalsCase):
    def stream(self, approval, last=None, timeout=30):
        connection = self.server.connect(timeout)
        self.addCleanup(connection.close)
        headers = {"Authorization": f"Bearer {self.server.token}"}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        connection.request("GET", f"/approvals/{approval['id']}/events", headers=headers)
        return connection.getresponse()

    def test_they_come_until_it_is_final(self):
        one = self.submit("print('x')")
        answer = self.stream(one)
        self.assertEqual(answer.headers["Content-Type"], "text/event-stream")
        seen = []
        for number, kind, data in events_with_ids(answer):
            self.assertEqual((data["seq"], data["kind"]), (number, kind))
            seen.append(kind)
            if kind == "waiting":
                self.decide(one, True)
        self.assertEqual(seen, ["submitted", "run_started", "run_finished", "waiting", "decided",
                                "approved"])
        shown = self.show(one)
        self.assertEqual(seen, self.kinds(shown))

    def test_who_was_cut_off_goes_on(self):
        one = self.submit(policy="before")
        first = self.stream(one)
        events = events_with_ids(first)
        number, kind, _ = next(events)
        self.assertEqual((number, kind), (1, "submitted"))
        first.close()
        self.decide(one, False)
        rest = list(events_with_ids(self.stream(one, last=number)))
        self.assertEqual([n for n, _, _ in rest], list(range(2, 2 + len(rest))))
        self.assertEqual(rest[-1][1], "rejected")
        self.assertEqual(self.stream(one, last=rest[-1][0]).status, 204)
        self.assertEqual(self.stream(one, last="x").status, 400)

    def test_many_follow_one(self):
        one = self.submit(policy="before")
        answers = [self.stream(one) for _ in range(20)]
        self.decide(one, False)
        for answer in answers:
            self.assertEqual([kind for _, kind, _ in events_with_ids(answer)][-1], "rejected")

    def test_silence_is_told_of(self):
        one = self.submit(policy="before")
        answer = self.stream(one)
        end = time.monotonic() + 25
        line = b""
        while not line.startswith(b":") and time.monotonic() < end:
            line = answer.readline()
        self.assertTrue(line.startswith(b": "), line)


class Restarts(unittest.TestCase):
    """What was acknowledged is there, however the server ended."""

    ask = ApprovalsCase.ask
    submit = ApprovalsCase.submit
    show = ApprovalsCase.show
    decide = ApprovalsCase.decide
    wait_for = ApprovalsCase.wait_for
    wait_until = ServerCase.wait_until
    kinds = staticmethod(ApprovalsCase.kinds)

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="carrel-test-")
        self.addCleanup(directory.cleanup)
        base = pathlib.Path(directory.name)
        base.chmod(0o777)
        self.data = base / "data"
        self.server = Server({"pools": POOLS, "auth": {"tokens": TOKENS},
                              "approvals": {"lease_seconds": 1},
                              "data_dir": str(self.data)})
        self.server.start()
        self.addCleanup(self.server.stop)

    def restart(self, sig):
        self.server.stop(sig)
        self.server.start()

    def test_state_is_there_and_work_goes_on(self):
        for sig in (signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=sig.name):
                waiting = self.submit("'w'")
                self.wait_for(waiting, "waiting")
                code = self.submit("'c'", policy="before")
                rejected = self.submit("'r'", policy="before")
                self.decide(rejected, False, reason="no")
                expiring = self.submit(policy="before", deadline_seconds=1)
                running = self.submit("import time; time.sleep(1.5); 'run'")
                self.wait_for(running, "running")
                self.restart(sig)
                self.assertEqual(self.show(waiting)["state"], "waiting")
                self.assertEqual(self.show(waiting)["result"]["value"], "w")
                self.assertEqual(self.show(rejected)["state"], "rejected")
                self.decide(rejected, True, status=409)
                self.decide(waiting, True)
                self.decide(code, True)
                self.assertEqual(self.wait_for(code, *FINAL)["result"]["value"], "c")
                self.assertEqual(self.wait_for(expiring, *FINAL)["state"], "expired")
                shown = self.wait_for(running, "waiting", *FINAL, seconds=30)
                self.assertEqual((shown["state"], shown["result"]["value"]), ("waiting", "run"))
                self.assertNotIn("run_started", self.kinds(self.show(rejected)))

    def test_a_key_is_known_after_it(self):
        one = self.submit("1", key="order-7")
        self.restart(signal.SIGKILL)
        self.assertEqual(self.submit("1", key="order-7", status=200)["id"], one["id"])

    def test_a_stream_ends_with_the_server(self):
        one = self.submit(policy="before")
        connection = self.server.connect()
        self.addCleanup(connection.close)
        connection.request("GET", f"/approvals/{one['id']}/events",
                           headers={"Authorization": f"Bearer {self.server.token}"})
        answer = connection.getresponse()
        events = events_with_ids(answer)
        next(events)
        started = time.monotonic()
        self.restart(signal.SIGTERM)
        self.assertLess(time.monotonic() - started, 8)  # it did not wait for its drain_seconds
        self.assertLessEqual(len(list(events)), 1)

    def test_the_trail_has_what_was_done(self):
        one = self.submit(policy="before", token="worker")
        self.decide(one, False, token="reviewer", by="Ada")
        self.server.value("trail", "1")
        self.server.request("DELETE", "session", "trail",
                            headers={"Authorization": "Bearer worker-token"})
        self.server.stop()
        with sqlite3.connect(self.data / "approvals.db") as database:
            rows = database.execute("SELECT actor, action, subject, outcome FROM audit "
                                    "ORDER BY seq").fetchall()
        self.assertEqual(rows[0][:2], ("server", "server.start"))
        self.assertEqual(rows[-1][:2], ("server", "server.stop"))
        self.assertIn(("worker", "approval.submit", one["id"]), [row[:3] for row in rows])
        self.assertIn(("reviewer", "approval.decide", one["id"]), [row[:3] for row in rows])
        self.assertIn(("worker", "session.delete", "trail", "ok"), rows)
        self.server.start()


class Receiver:
    """What callbacks are sent to. It answers with the next of `statuses`; the last one stays."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.received = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, dict(self.headers), body))
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 \
                    else receiver.statuses[0]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/hooks/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/hooks"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def verifier():
    """is_genuine as docs/approvals.md has it."""
    page = (ROOT / "docs/approvals.md").read_text()
    start = page.index("    import hashlib")
    code = textwrap.dedent(page[start:page.index("### Promotion")])
    names = {}
    exec(code, names)
    return names["is_genuine"]


class Afterwards(ApprovalsCase):
    @classmethod
    def setUpClass(cls):
        cls.receiver = Receiver(200)
        cls.addClassCleanup(cls.receiver.close)
        cls.config = {**ApprovalsCase.config,
                      "approvals": {"callbacks": {"allow": [cls.receiver.url], "secret": "key",
                                                  "attempts": 3}},
                      "code_mode": {"tools": {"secrets": {"key": {"env": "CALLBACK_KEY"}}}}}
        cls.options = {"environment": {"CALLBACK_KEY": "a secret of the test"}}
        super().setUpClass()

    def setUp(self):
        super().setUp()
        self.receiver.received.clear()
        self.receiver.statuses = [200]

    def finish(self, approve=True, **more):
        one = self.submit(policy="before", callback={"url": f"{self.receiver.url}/42"}, **more)
        self.decide(one, approve)
        return self.wait_for(one, *FINAL)

    def kinds_until(self, approval, kind, seconds=20):
        return self.wait_until(lambda: (lambda kinds: kinds if kind in kinds else None)(
            self.kinds(self.show(approval))), f"no {kind}", seconds)

    def test_a_callback_is_signed(self):
        for approve, state in ((True, "approved"), (False, "rejected")):
            self.receiver.received.clear()
            one = self.finish(approve)
            self.kinds_until(one, "callback_delivered")
            (path, headers, body), = self.receiver.received
            self.assertEqual(path, "/hooks/42")
            told = json.loads(body)
            self.assertEqual((told["id"], told["event"]),
                             (f"{one['id']}:{state}", f"approval.{state}"))
            self.assertEqual(headers["Carrel-Delivery"], told["id"])
            self.assertEqual(told["approval"]["state"], state)
            self.assertNotIn("code", told["approval"])
            is_genuine = verifier()
            signature = headers["Carrel-Signature"]
            self.assertTrue(is_genuine(b"a secret of the test", signature, body))
            self.assertFalse(is_genuine(b"another", signature, body))
            self.assertFalse(is_genuine(b"a secret of the test", signature, body + b" "))
            self.assertFalse(is_genuine(b"a secret of the test", "", body))

    def test_one_that_fails_is_tried_again(self):
        self.receiver.statuses = [500, 302, 200]
        one = self.finish()
        kinds = self.kinds_until(one, "callback_delivered")
        self.assertEqual(kinds.count("callback_failed"), 2)
        self.assertEqual(len({h["Carrel-Delivery"] for _, h, _ in self.receiver.received}), 1)
        # A redirect is not followed.
        self.assertEqual({path for path, _, _ in self.receiver.received}, {"/hooks/42"})

    def test_and_given_up(self):
        self.receiver.statuses = [503]
        one = self.finish()
        kinds = self.kinds_until(one, "callback_given_up")
        self.assertEqual(len(self.receiver.received), 3)
        self.assertEqual(self.show(one)["state"], "approved")
        self.assertNotIn("callback_delivered", kinds)

    def test_only_what_is_allowed_is_called(self):
        base = self.receiver.url
        for url in (base + "er/x", base.replace("127.0.0.1", "localhost"),
                    base.replace("http://", "http://u@"), base + "/../x", base + "/%2e%2e/x",
                    "http://169.254.169.254/latest", "file:///etc/passwd", base + "/a\r\nb: c"):
            with self.subTest(url=url):
                self.refused(400, "ApprovalRequestInvalid", "POST", "approvals",
                             {"code": "1", "callback": {"url": url}})

    def test_the_secret_is_nowhere(self):
        one = self.submit("import os\ndict(os.environ)")
        shown = self.wait_for(one, "waiting")
        self.assertNotIn("a secret of the test", json.dumps(shown))
        environ = pathlib.Path(f"/proc/{self.server.process.pid}/environ").read_bytes()
        self.assertNotIn(b"a secret of the test", environ)

    def test_files_are_promoted_once_approved(self):
        code = ("open('/mnt/data/a.txt', 'w').write('A')\nopen('/mnt/data/b.bin', 'w').write('B')")
        names = f"{self.session}-"
        one = self.submit(code, promote={"files": ["*.txt"], "prefix": names})
        self.wait_for(one, "waiting")
        url = f"api/artifacts/{names}a.txt"
        self.assertEqual(self.ask("GET", url).status, 404)
        self.decide(one, True)
        self.kinds_until(one, "promoted")
        self.assertEqual(self.ask("GET", url, status=200,
                                  headers={"Accept": "application/octet-stream"}).body, b"A")
        self.assertEqual(self.ask("GET", f"api/artifacts/{names}b.bin").status, 404)
        other = self.submit(code, promote={"files": ["*.bin"], "prefix": names})
        self.wait_for(other, "waiting")
        self.decide(other, False)
        # They are promoted in their order; one that came later has been.
        later = self.submit(code, promote={"files": ["*.txt"], "prefix": f"{names}later-"})
        self.wait_for(later, "waiting")
        self.decide(later, True)
        self.kinds_until(later, "promoted")
        self.assertEqual(self.ask("GET", f"api/artifacts/{names}b.bin").status, 404)

    def test_a_kept_file_that_somebody_changed_is_not_promoted(self):
        names = f"{self.session}-"
        one = self.submit("open('/mnt/data/a.txt', 'w').write('as shown')",
                          promote={"files": ["*.txt"], "prefix": names})
        self.wait_for(one, "waiting")
        with contextlib.closing(sqlite3.connect(
                pathlib.Path(self.server.config["data_dir"], "approvals.db"), timeout=30)) as database:
            changed = database.execute("UPDATE approval_file SET content = ? WHERE approval = ?",
                                       (base64.b64encode(b"something else").decode(), one["id"]))
            self.assertEqual(changed.rowcount, 1)
            database.commit()
        self.decide(one, True)
        self.kinds_until(one, "promote_failed")
        last = self.show(one)["history"][-1]
        self.assertIn("'a.txt' is not what the result shows", last["body"]["reason"])
        self.assertIs(last["body"]["given_up"], True)
        self.assertEqual(self.ask("GET", f"api/artifacts/{names}a.txt").status, 404)


class Settings(unittest.TestCase):
    def test_a_server_may_keep_none(self):
        with Server({"pools": [{"name": "default", "ready_sessions": 1}],
                     "approvals": {"enabled": False}}) as server:
            reply = server.request("GET", "approvals")
            self.assertEqual((reply.status, reply.error_code), (503, "ApprovalsUnavailable"))
            self.assertEqual(server.request("POST", "code/execute", body='"1"').status, 503)
            self.assertEqual(server.value("some", "1 + 1"), 2)
            data = pathlib.Path(server.config["data_dir"])
            self.assertFalse((data / "approvals.db").exists())

    def test_the_database_s_url_is_forgotten(self):
        with tempfile.TemporaryDirectory(prefix="carrel-test-") as directory:
            base = pathlib.Path(directory)
            base.chmod(0o777)
            url = f"sqlite:{base}/elsewhere.db"
            with Server({"pools": [{"name": "default", "ready_sessions": 1}]},
                        {"CARREL_DATABASE_URL": url}) as server:
                environ = pathlib.Path(f"/proc/{server.process.pid}/environ").read_bytes()
                self.assertNotIn(b"elsewhere.db", environ)
                self.assertNotIn("elsewhere", json.dumps(server.events))
                reply = server.request("POST", "approvals", body={"code": "1"})
                self.assertEqual(reply.status, 201)
                self.assertTrue((base / "elsewhere.db").exists())
                self.assertEqual((base / "elsewhere.db").stat().st_mode & 0o777, 0o600)

    def test_numbers_are_for_metrics(self):
        with Server({"pools": [{"name": "default", "ready_sessions": 1}]}) as server:
            server.request("POST", "approvals", body={"code": "1", "policy": "before"})
            text = server.request("GET", "metrics").body.decode()
            self.assertIn("\ncarrel_approvals_submitted_total 1\n", text)
            end = time.monotonic() + 20  # it counts every five seconds
            while '\ncarrel_approvals{state="waiting"} 1\n' not in text:
                self.assertLess(time.monotonic(), end, text)
                time.sleep(0.2)
                text = server.request("GET", "metrics").body.decode()
            self.assertIn('\ncarrel_approvals{state="queued"} 0\n', text)

    def test_a_session_cannot_reach_its_approvals(self):
        with Server({"pools": [{"name": "default", "ready_sessions": 1}]}) as server:
            value = server.value("some", "import socket\ntry:\n"
                                      f"  socket.create_connection(('127.0.0.1', {server.port}), 2)\n"
                                      "  r = 'reached'\nexcept OSError as e:\n  r = 'refused'\nr")
            self.assertEqual(value, "refused")


if __name__ == "__main__":
    unittest.main()

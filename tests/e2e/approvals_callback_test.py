"""What follows an approval, with the real runner and real sessions: signed callbacks, and files
that become artifacts."""

import hashlib
import hmac
import json
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import ServerCase  # noqa: E402
from runner import INTERNAL, INVALID, UNAVAILABLE, Runner  # noqa: E402
from services import Service  # noqa: E402

SECRET = "whsec-of-the-test"


def verified(seen, secret=SECRET):
    """Checks a callback as a receiver does; its body."""
    signature = dict(part.split("=", 1) for part in seen.headers["Carrel-Signature"].split(","))
    assert abs(int(signature["t"]) - time.time()) < 60, signature
    mac = hmac.new(secret.encode(), f"{signature['t']}.".encode() + seen.body, hashlib.sha256)
    assert hmac.compare_digest(mac.hexdigest(), signature["v1"]), seen
    return seen.json()


class Sending(unittest.TestCase):
    """The runner alone, which is the one that sends."""

    def runner(self, service, **config):
        return Runner(callback_prefix=f"{service.url}/hooks", callback_secret="hook",
                      secrets={"hook": SECRET, "other": "kept-to-itself"}, **config)

    def test_it_is_signed_and_names_its_delivery(self):
        with Service(lambda r: r.answer(204)) as service, self.runner(service) as runner:
            body = json.dumps({"event": "approval.approved", "text": "ä\u2028\"\\"})
            self.assertEqual(runner.callback(f"{service.url}/hooks/a?x=1", "id-1:approved", body),
                             (True, {"status": 204}))
            seen, = service.requests
            self.assertEqual((seen.command, seen.path), ("POST", "/hooks/a?x=1"))
            self.assertEqual(seen.headers["Carrel-Delivery"], "id-1:approved")
            self.assertEqual(seen.headers["Content-Type"], "application/json")
            self.assertEqual(verified(seen), json.loads(body))
            for name, value in seen.headers.items():
                self.assertNotIn(SECRET, value, name)

    def test_an_answer_is_its_status(self):
        statuses = [200, 500, 404, 302]

        def handle(request):
            status = statuses[len(service.requests) - 1]
            request.answer(status, b"x" * 200000, Location=f"{service.url}/hooks/elsewhere")
        with Service(handle) as service, self.runner(service) as runner:
            for status in statuses:
                self.assertEqual(runner.callback(f"{service.url}/hooks", "id", "{}"),
                                 (True, {"status": status}))
            # The redirect was not followed.
            self.assertEqual(len(service.requests), len(statuses))

    def test_other_places_are_refused_by_the_runner_too(self):
        with Service(lambda r: r.answer(200)) as service, self.runner(service) as runner:
            port = service.server.server_port
            for url in (f"{service.url}/other", f"{service.url}/hooks/../other",
                        f"{service.url}/hooks/%2e%2e/other", f"{service.url}/hooksother",
                        f"http://127.0.0.1:{port}@127.0.0.1:1/hooks", f"http://127.1:{port}/hooks",
                        f"http://localhost:{port}/hooks", "file:///etc/passwd",
                        f"{service.url}/hooks#\r\nX: y"):
                ok, error = runner.callback(url, "id", "{}")
                self.assertEqual((ok, error["code"]), (False, INVALID), (url, error))
            ok, error = runner.callback(f"{service.url}/hooks", "id\r\nX-Evil: 1", "{}")
            self.assertEqual((ok, error["code"]), (False, INVALID))
            self.assertEqual(service.requests, [])

    def test_nobody_answers(self):
        with Service(lambda r: r.answer(200)) as service:
            url = service.url
            runner = self.runner(service)
        with runner:
            ok, error = runner.callback(f"{url}/hooks", "id", "{}")
            self.assertEqual((ok, error["code"]), (False, INTERNAL), error)

    def test_without_its_secret_nothing_is_sent(self):
        with Service(lambda r: r.answer(200)) as service, \
                Runner(callback_prefix=service.url, callback_secret="hook",
                       secrets={}) as runner:
            ok, error = runner.callback(service.url, "id", "{}")
            self.assertEqual((ok, error["code"]), (False, UNAVAILABLE), error)
            self.assertEqual(service.requests, [])


class Following(ServerCase):
    """A whole server, whose runner sends to a service of the test's."""

    @classmethod
    def setUpClass(cls):
        cls.service = Service(lambda r: cls.handle(r))
        cls.service.__enter__()
        cls.addClassCleanup(cls.service.__exit__, None, None, None)
        cls.config = {
            "pools": [{"name": "default", "ready_sessions": 2}],
            "code_mode": {"tools": {"secrets": {"hook": {"env": "HOOK_SECRET"}}}},
            "approvals": {"callbacks": {"allow": [f"{cls.service.url}/in"], "secret": "hook"}},
        }
        cls.options = {"environment": {"HOOK_SECRET": SECRET}}
        super().setUpClass()

    @staticmethod
    def handle(request):
        request.answer(200)

    def submit(self, code, **more):
        reply = self.server.request("POST", "approvals", body={"code": code, **more},
                                    api_version=None)
        self.assertEqual(reply.status, 201, reply)
        return reply.json()["id"]

    def show(self, approval):
        return self.server.request("GET", f"approvals/{approval}", api_version=None).json()

    def decide(self, approval, approve):
        reply = self.server.request("POST", f"approvals/{approval}/decision",
                                    body={"approve": approve}, api_version=None)
        self.assertEqual(reply.status, 200, reply)

    def wait_for_state(self, approval, state):
        return self.wait_until(
            lambda: (s := self.show(approval))["state"] == state and s, state, 20)

    def wait_for_event(self, approval, kind):
        def look():
            return [e for e in self.show(approval)["history"] if e["kind"] == kind]
        return self.wait_until(look, kind, 20)

    def deliveries(self, approval):
        return [s for s in self.service.requests if s.headers["Carrel-Delivery"].startswith(
            approval)]

    def test_a_callback_arrives_and_is_in_the_history(self):
        one = self.submit("print('secret text'); 6 * 7",
                          callback={"url": f"{self.service.url}/in/{{id}}".replace("{id}", "a")})
        self.wait_for_state(one, "waiting")
        self.assertEqual(self.deliveries(one), [])
        self.decide(one, True)
        event, = self.wait_for_event(one, "callback_delivered")
        self.assertEqual(event["body"], {"id": f"{one}:approved", "attempt": 1, "status": 200})
        seen, = self.deliveries(one)
        body = verified(seen)
        self.assertEqual((body["id"], body["event"]), (f"{one}:approved", "approval.approved"))
        self.assertEqual(seen.headers["Carrel-Delivery"], body["id"])
        self.assertEqual(body["approval"]["result"]["value"], 42)
        self.assertNotIn("code", body["approval"])

    def test_one_that_fails_is_sent_again(self):
        failures = []

        def handle(request):
            failures.append(request.path)
            request.answer(503 if len(failures) == 1 else 200)
        type(self).handle = staticmethod(handle)
        one = self.submit("1", policy="rules", callback={"url": f"{self.service.url}/in/again"})
        event, = self.wait_for_event(one, "callback_delivered")
        self.assertEqual(event["body"]["attempt"], 2)
        failed, = self.wait_for_event(one, "callback_failed")
        self.assertEqual(failed["body"]["reason"], "HTTP 503")
        first, second = self.deliveries(one)
        self.assertEqual(first.headers["Carrel-Delivery"], second.headers["Carrel-Delivery"])
        verified(first), verified(second)

    def test_approved_files_become_artifacts(self):
        code = ("import os\nos.makedirs('out', exist_ok=True)\n"
                "open('out/report.txt', 'w').write('three lines')\n"
                "open('out/data.bin', 'wb').write(bytes(range(256)) * 4096)\n"
                "os.symlink('/etc/passwd', 'out/evil.txt')\n")
        one = self.submit(code, promote={"files": ["out/*"], "prefix": "approved/"})
        shown = self.wait_for_state(one, "waiting")
        self.assertEqual([(f["name"], f["size_bytes"]) for f in shown["result"]["files"]],
                         [("out/data.bin", 1 << 20), ("out/report.txt", 11)])
        self.decide(one, True)
        event, = self.wait_for_event(one, "promoted")
        self.assertEqual(event["body"]["names"],
                         ["approved/out/data.bin", "approved/out/report.txt"])
        reply = self.server.execute("reader", "print(artifacts.load('approved/out/report.txt'), "
                                    "artifacts.load('approved/out/data.bin') "
                                    "== bytes(range(256)) * 4096)")
        self.assertEqual(reply["result"]["stdout"], "three lines True\n", reply)

    def test_nobody_enters_the_session_of_a_run(self):
        one = self.submit("import time\nfor _ in range(200): time.sleep(0.05)\nopen('mine').read()")

        def find():
            reply = self.server.request("GET", "listSessions")
            return [s["identifier"] for s in reply.json()["sessions"] if one in s["identifier"]]
        identifier, = self.wait_until(find, "its session", 20)
        reply = self.server.request("POST", "executions", identifier,
                                    body={"code": "open('mine', 'w').write('evil')"})
        self.assertEqual(reply.status, 409, reply)
        for method, path in (("DELETE", "session"), ("GET", "session"), ("GET", "files")):
            reply = self.server.request(method, path, identifier)
            self.assertIn(reply.error_code,
                          ("SessionWithIdentifierNotFound", "SessionRequestConflict"), reply)
        reply = self.server.request("DELETE", f"approvals/{one}", api_version=None)
        self.assertEqual(reply.status, 200, reply)
        self.wait_until(lambda: not find(), "its end", 20)
        self.assertEqual(self.show(one)["state"], "cancelled")

    def test_a_result_of_hostile_bytes(self):
        code = ("import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\x00ok\\x1b[2J')\n"
                "sys.stdout.flush()\n{'a': float('nan'), 'b': '\\ud800', 'c': 10**400}")
        one = self.submit(code)
        shown = self.wait_for_state(one, "waiting")
        self.assertEqual(shown["result"]["verdict"], "succeeded", shown)
        self.assertIn("ok", shown["result"]["stdout"])
        self.assertIn("1000000", json.dumps(shown["result"]["value"]))

    def test_a_giant_result_is_cut_and_says_so(self):
        one = self.submit("print('\\x01' * 900_000)\n['x' * 5_000_000]")
        shown = self.wait_for_state(one, "waiting")
        truncated = shown["result"]["truncated"]
        self.assertGreater(truncated["stdout"], 0, truncated)
        self.assertGreater(truncated["value"], 0)
        self.assertLess(len(json.dumps(shown)), 9 << 20)
        self.decide(one, True)


if __name__ == "__main__":
    unittest.main()

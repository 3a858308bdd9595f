"""py-code-mode's wire against the real server: the requests of its client as httpx sends them, running
code, sessions and their ids, tokens, and what the reference server does wrong, which must be right."""

import concurrent.futures
import json
import pathlib
import re
import secrets
import sys
import time
import unittest
import uuid

import httpx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import Server, ServerCase  # noqa: E402

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Client:
    """The requests of the reference's client: the same names, headers and bodies."""

    def __init__(self, server, session_id=None, token=""):
        self.session_id = session_id
        self.token = server.token if token == "" else token
        self.http = httpx.Client(base_url=server.url, timeout=30.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def send(self, method, path, body=None, headers=None, **options):
        headers = dict(headers or {})
        if self.session_id is not None:
            headers["X-Session-ID"] = self.session_id
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if body is not None:
            options["json"] = body
        return self.http.request(method, path, headers=headers, **options)

    def execute(self, code, timeout=None):
        body = {"code": code}
        if timeout is not None:
            body["timeout"] = timeout
        reply = self.send("POST", "/execute", body)
        reply.raise_for_status()
        return reply.json()

    def value(self, code, timeout=None):
        answer = self.execute(code, timeout)
        if answer["error"] is not None:
            raise AssertionError(answer["error"])
        return answer["value"]


class WireCase(ServerCase):
    def setUp(self):
        super().setUp()
        self.clients = []
        self.me = self.client()

    def client(self, session_id="", token=""):
        session_id = str(uuid.uuid4()) if session_id == "" else session_id
        client = Client(self.server, session_id, token)
        self.clients.append(client)
        return client

    def tearDown(self):
        for client in self.clients:
            if client.session_id and client.token == self.server.token:
                client.send("POST", "/reset")
            client.http.close()
        super().tearDown()

    def assert_detail(self, reply, status, detail):
        self.assertEqual((reply.status_code, reply.json()), (status, {"detail": detail}))
        self.assertEqual(reply.headers["content-type"], "application/json")


class Execute(WireCase):
    def test_the_answer(self):
        answer = self.me.execute("print('hi')\n6 * 7")
        self.assertEqual(answer["value"], 42)
        self.assertEqual(answer["stdout"], "hi\n")
        self.assertIsNone(answer["error"])
        self.assertIsInstance(answer["execution_time_ms"], float)
        self.assertEqual(answer["session_id"], self.me.session_id)
        self.assertEqual((answer["stderr"], answer["verdict"]), ("", "succeeded"))

    def test_values(self):
        for code, value in (("None", None), ("", None), ("x = 1", None), ("'a'", "a"), ("1.5", 1.5),
                            ("True", True), ("7", 7), ("for i in range(3): i", None),
                            ("1\n2", 2), ("'\\u00e9\\U0001f600'", "\u00e9\U0001f600")):
            with self.subTest(code=code):
                self.assertEqual(self.me.value(code), value)

    def test_values_that_break_the_reference(self):
        # HTTP 500 there (NaN, infinities, lone surrogates).
        for code in ("float('nan')", "float('inf')", "-float('inf')", "'a\\ud800b'",
                     "[float('nan')]", "{(1, 2): 3}", "10 ** 5000", "a = []; a.append(a); a",
                     "b'\\xff'", "{1: {'a'}}", "object()"):
            with self.subTest(code=code):
                reply = self.me.send("POST", "/execute", {"code": code})
                self.assertEqual(reply.status_code, 200, reply.text)
                answer = json.loads(reply.content, parse_constant=self.fail)
                self.assertIsNone(answer["error"])
                reply.content.decode("utf-8")

    def test_state_and_errors(self):
        self.me.execute("import math\nx = 41\ndef f(): return x + 1")
        self.assertEqual(self.me.value("f()"), 42)
        for code, name in (("1 / 0", "ZeroDivisionError"), ("nope", "NameError"),
                           ("def", "SyntaxError"), ("raise KeyError('k')", "KeyError")):
            with self.subTest(code=code):
                answer = self.me.execute("print('before')\n" + code if name != "SyntaxError" else code)
                self.assertIn(name, answer["error"])
                self.assertIsNone(answer["value"])
                self.assertEqual(answer["verdict"], "exception")
                self.assertEqual(answer["stdout"], "before\n" if name != "SyntaxError" else "")
                self.assertNotIn(".py\"", answer["error"])
        self.assertEqual(self.me.value("f()"), 42)

    def test_top_level_await(self):
        self.assertEqual(self.me.value("import asyncio\nawait asyncio.sleep(0, 'x')"), "x")

    def test_subprocess_output_and_stderr(self):
        answer = self.me.execute("import sys, os\nos.system('echo child')\nprint('e', file=sys.stderr)")
        self.assertEqual((answer["stdout"], answer["stderr"]), ("child\n", "e\n"))

    def test_displays(self):
        code = "class H:\n    def _repr_html_(self): return '<b>'\n    def __repr__(self): return 'H!'\n"
        # Its clients read stdout and the value; who reads more says so.
        answer = self.me.execute(code + "display(H())\nH()")
        self.assertEqual((answer["value"], answer["stdout"]), ("H!", "H!\n"))
        self.assertNotIn("displays", answer)
        reply = self.server.request("POST", "execute", None, {"code": code + "display(H())\nH()"},
                                    headers={"X-Session-ID": "displays"}, extensions="true").json()
        self.assertEqual((reply["value"], reply["stdout"]), ("H!", ""))
        self.assertEqual([d["text/html"] for d in reply["displays"]], ["<b>", "<b>"])

    def test_timeout(self):
        started = time.monotonic()
        answer = self.me.execute("y = 0\nprint('so far')\nwhile True: pass", timeout=0.5)
        self.assertLess(time.monotonic() - started, 5)
        self.assertEqual(answer["error"], "Execution timeout after 0.5 seconds")
        self.assertEqual(answer["verdict"], "time_limit")
        self.assertEqual(answer["stdout"], "so far\n")
        # The session lives on with what it had.
        self.assertEqual(self.me.value("y"), 0)

    def test_what_is_past_its_time_is_stopped(self):
        # In the reference the thread runs on and changes the session later.
        answer = self.me.execute("import time\ntime.sleep(0.8)\nlate = 1", timeout=0.2)
        self.assertEqual(answer["error"], "Execution timeout after 0.2 seconds")
        time.sleep(1)
        self.assertEqual(self.me.value("'late' in globals()"), False)

    def test_many_hung_executions_do_not_stop_the_others(self):
        # After cpu + 4 of them every execute of the reference times out.
        clients = [self.client() for _ in range(12)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda c: c.execute("while True: pass", timeout=0.3), clients))
        self.assertEqual({a["error"] for a in answers}, {"Execution timeout after 0.3 seconds"})
        self.assertEqual(self.me.value("1 + 1"), 2)

    def test_exits_and_crashes_end_nothing_but_their_own(self):
        # sys.exit() ends the reference's server, and everybody's session.
        other = self.client()
        other.execute("kept = 1")
        answer = self.me.execute("x = 5\nimport sys\nsys.exit(3)")
        self.assertEqual((answer["error"], answer["verdict"]), ("SystemExit: 3", "exited"))
        self.assertEqual(self.me.value("x"), 5)
        answer = self.me.execute("import os\nos._exit(3)")
        self.assertIn("The session ended", answer["error"])
        self.assertEqual(answer["verdict"], "session_killed")
        answer = self.me.execute("x")
        self.assertIn("NameError", answer["error"])
        self.assertTrue(answer["new_session"])
        self.assertEqual(other.value("kept"), 1)

    def test_output_of_two_sessions_is_not_mixed(self):
        # One redirects for all in the reference: S1 gets lines of S2.
        code = "import time\nfor i in range(40): print({0!r}, i, flush=True); time.sleep(0.005)"
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            one, two = pool.map(lambda n: self.client().execute(code.format(n)), ("one", "two"))
        for name, answer in (("one", one), ("two", two)):
            self.assertEqual(answer["stdout"], "".join(f"{name} {i}\n" for i in range(40)))

    def test_nothing_of_the_server_is_in_a_session(self):
        seen = self.me.value("import os\nrepr(dict(os.environ)) + open('/proc/self/environ').read()")
        self.assertNotIn(self.server.token, seen)
        self.assertNotIn("CONTAINER_AUTH", seen)

    def test_a_client_that_leaves_interrupts(self):
        # As the reference's client does at 30 s, whatever timeout it asked for.
        with self.assertRaises(httpx.ReadTimeout):
            self.me.send("POST", "/execute", {"code": "left = 1\nwhile True: pass"}, timeout=0.5)
        started = time.monotonic()
        self.assertEqual(self.me.value("left"), 1)
        self.assertLess(time.monotonic() - started, 10)

    def test_requests_of_one_session_are_in_order(self):
        self.me.execute("seen = []")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: Client(self.server, self.me.session_id).execute(
                f"seen.append({i})"), range(8)))
        self.assertEqual(self.me.value("len(seen)"), 8)

    def test_limits_are_the_servers(self):
        with Server({"pools": [{"name": "default", "ready_sessions": 1}]},
                    environment={"DEFAULT_TIMEOUT": "0.4", "MAX_EXECUTION_TIME": "0.6"}) as server:
            with Client(server, "agent-1") as c:
                loop = "while True: pass"
                for timeout, told in ((None, "0.4"), (0, "0.4"), (300, "0.6")):
                    self.assertEqual(c.execute(loop, timeout)["error"],
                                     f"Execution timeout after {told} seconds")


class Refusals(WireCase):
    def test_422(self):
        for body, where in (({}, ["body", "code"]), ({"code": 5}, ["body", "code"]),
                            ({"code": "1", "timeout": "x"}, ["body", "timeout"]), ([], ["body"])):
            with self.subTest(body=body):
                reply = self.me.send("POST", "/execute", body)
                self.assertEqual(reply.status_code, 422)
                first = reply.json()["detail"][0]
                self.assertEqual(first["loc"], where)
                self.assertLessEqual({"loc", "msg", "type", "input"}, set(first))
        reply = self.me.send("POST", "/execute", content="{", headers={"Content-Type": "application/json"})
        self.assertEqual(reply.json()["detail"][0]["type"], "json_invalid")
        reply = self.me.send("POST", "/execute", content='{"code": "1"}',
                             headers={"Content-Type": "text/plain"})
        self.assertEqual(reply.status_code, 422)

    def test_paths_and_methods(self):
        for path in ("/api", "/api/none", "/api/tools/a/b"):
            self.assert_detail(self.me.send("GET", path), 404, "Not Found")
        for method, path in (("GET", "/execute"), ("PUT", "/reset"), ("DELETE", "/api/tools"),
                             ("PATCH", "/api/artifacts/x"), ("GET", "/install_deps")):
            self.assert_detail(self.me.send(method, path), 405, "Method Not Allowed")
        # P1's list of everybody's sessions.
        self.assert_detail(self.me.send("GET", "/sessions"), 404, "Not Found")
        # The other wire keeps its own shape.
        self.assertEqual(self.me.send("GET", "/none").json()["error"]["code"], "NotFound")

    def test_bodies_too_large(self):
        reply = self.me.send("POST", "/execute", {"code": "x" * (9 << 20)})
        self.assertEqual(reply.status_code, 413)
        self.assertIsInstance(reply.json()["detail"], str)

    def test_tokens(self):
        token = self.server.token
        causes = (
            ("Authorization required", (None, "Basic x", "Bearer", token, "Bearer" + token)),
            ("Invalid authorization scheme", (f"bearer {token}", "BEARER x")),
            ("Invalid token", ("Bearer wrong", f"Bearer  {token}", f"Bearer {token}x",
                               f"Bearer {token[:-1]}", f"Bearer {token} {token}")),
        )
        for detail, headers in causes:
            for header in headers:
                for method, path in (("POST", "/execute"), ("GET", "/api/tools"), ("POST", "/reset"),
                                     ("GET", "/info"), ("POST", "/sessions"),
                                     ("DELETE", "/api/artifacts/x"), ("POST", "/install_deps")):
                    with self.subTest(header=header and header.replace(token, "T"), path=path):
                        reply = self.me.http.request(
                            method, path, headers={} if header is None else {"Authorization": header})
                        # Before the body is looked at: 401, not 422.
                        self.assert_detail(reply, 401, detail)

    def test_a_token_of_the_wrong_role_or_pool(self):
        config = {
            "auth": {"tokens": [
                {"name": "prometheus", "token": "metrics-token", "role": "metrics"},
                {"name": "other", "token": "other-token", "role": "execute", "pool": "other"}]},
            "pools": [{"name": "default", "ready_sessions": 1},
                      {"name": "other", "ready_sessions": 1}]}
        with Server(config) as server:
            for token in ("metrics-token", "other-token"):
                with Client(server, "agent-1", token) as c:
                    reply = c.send("POST", "/execute", {"code": "1"})
                    self.assertEqual(reply.status_code, 403)
                    self.assertIsInstance(reply.json()["detail"], str)
            with Client(server, "agent-1", "other-token") as c:
                reply = c.send("POST", "/sessionPools/other/execute", {"code": "1"})
                self.assertEqual(reply.json()["value"], 1)

    def test_health_is_everybodys_and_tells_of_no_sessions(self):
        self.me.execute("1")
        reply = self.me.http.get("/health")
        answer = reply.json()
        self.assertEqual((reply.status_code, answer["status"]), (200, "healthy"))
        self.assertGreater(answer["uptime_seconds"], 0)
        self.assertNotIn("active_sessions", answer)


class Sessions(WireCase):
    def test_sessions_do_not_share_names(self):
        self.me.execute("x = 1")
        self.assertIn("NameError", self.client().execute("x")["error"])

    def test_reset(self):
        self.me.execute("x = 1")
        reply = self.me.send("POST", "/reset")
        self.assertEqual(reply.json(), {"status": "reset", "session_id": self.me.session_id})
        self.assertIn("NameError", self.me.execute("x")["error"])
        self.assertEqual(self.client("never-" + secrets.token_hex(4)).send("POST", "/reset").status_code,
                         200)

    def test_free_text_ids(self):
        # P1 to P4 take any text; these are not the engine's identifiers, or would be read as paths.
        ids = ["1", "a b", "../../etc", "x" * 2000, "sha256:abc", "semi;colon\"quote", "%2e%2e"]
        for n, session_id in enumerate(ids):
            client = self.client(session_id)
            answer = client.execute(f"n = {n}")
            self.assertEqual(answer["session_id"], session_id)
        for n, session_id in enumerate(ids):
            self.assertEqual(self.client(session_id).value("n"), n)

    def test_both_wires_reach_the_same_session(self):
        self.me.execute("x = 42")
        self.assertEqual(self.server.value(self.me.session_id, "x"), 42)
        self.server.upload(self.me.session_id, "a.txt", b"from the other wire")
        self.assertEqual(self.me.value("open('a.txt').read()"), "from the other wire")

    def test_without_a_header_each_its_own(self):
        nobody = self.client(None)
        one = nobody.execute("x = 1")
        two = nobody.execute("x")
        self.assertIn("NameError", two["error"])
        self.assertNotEqual(one["session_id"], two["session_id"])
        self.assertRegex(one["session_id"], UUID4)
        self.assertEqual(self.client(one["session_id"]).value("x"), 1)

    def given(self, body=None):
        reply = self.client(None).send("POST", "/sessions", {} if body is None else body)
        self.assertEqual(reply.status_code, 200, reply.text)
        return reply.json()["session_id"]

    def test_given_ids(self):
        first, second = self.given(), self.given({"workspace_id": "team-1"})
        self.assertRegex(first, UUID4)
        one, two = self.client(first), self.client(second)
        one.execute("x = 1")
        self.assertIn("NameError", two.execute("x")["error"])
        self.assertEqual(one.value("x"), 1)
        self.assertEqual(one.send("POST", "/reset").status_code, 200)
        # Dead for good, as P5 has it.
        self.assert_detail(one.send("POST", "/execute", {"code": "1"}), 400, "Invalid session ID")
        self.assert_detail(one.send("POST", "/reset"), 400, "Invalid session ID")
        self.assertEqual(two.value("1"), 1)

    def test_workspaces_are_checked(self):
        for workspace in ("", "a/b", "..", "x" * 129, "\u00e4"):
            reply = self.client(None).send("POST", "/sessions", {"workspace_id": workspace})
            self.assertEqual(reply.status_code, 400)
            self.assertIn("workspace_id must be 1-128 characters", reply.json()["detail"])

    def test_a_session_ends_with_the_cooldown(self):
        config = {"pools": [{"name": "default", "ready_sessions": 1, "cooldown_seconds": 1}]}
        with Server(config) as server, Client(server, "agent-1") as own:
            given = own.send("POST", "/sessions", {}).json()["session_id"]
            with Client(server, given) as client:
                client.execute("x = 1")
                own.execute("x = 1")
                self.wait_until(lambda: "pool_sessions{pool=\"default\"} 0" in server.request(
                    "GET", "metrics").body.decode(), "the sessions did not end")
                self.assertIn("NameError", own.execute("x")["error"])
                reply = client.send("POST", "/execute", {"code": "x"})
                self.assert_detail(reply, 400, "Invalid session ID")

    def test_a_restart_forgets_given_ids_and_refuses_them(self):
        with Server() as server, Client(server) as client:
            given = client.send("POST", "/sessions", {"workspace_id": "w"}).json()["session_id"]
        with Server() as server, Client(server, given) as client:
            reply = client.send("POST", "/execute", {"code": "1"})
            self.assert_detail(reply, 400, "Invalid session ID")


class Strict(WireCase):
    options = {"environment": {"CARREL_STRICT_SESSIONS": "true"}}

    def test_only_what_the_server_gave(self):
        for method, path, body in (("POST", "/execute", {"code": "1"}), ("POST", "/reset", None),
                                   ("GET", "/info", None), ("GET", "/api/workflows", None)):
            self.assert_detail(self.me.send(method, path, body), 400, "Invalid session ID")
        self.assert_detail(self.client(None).send("POST", "/reset"), 400, "Invalid session ID")
        self.assert_detail(self.me.send("GET", "/sessions"), 405, "Method Not Allowed")
        given = self.client(None).execute("x = 1")["session_id"]
        self.assertEqual(self.client(given).value("x"), 1)


if __name__ == "__main__":
    unittest.main()

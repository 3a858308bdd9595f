"""The life of sessions, the limits of pools, several pools, tokens and Shell pools."""

import datetime
import json
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import Server, ServerCase, run_at_once  # noqa: E402

VERSIONS = ("2024-02-02-preview", "2025-02-02-preview", "2025-10-02-preview")
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$"


def seconds(text):
    """A time of the wire as seconds since 1970."""
    return datetime.datetime.strptime(text[:26], "%Y-%m-%dT%H:%M:%S.%f").replace(
        tzinfo=datetime.timezone.utc).timestamp()


class Objects(ServerCase):
    config = {"pools": [{"name": "default", "ready_sessions": 4, "cooldown_seconds": 300,
                         "max_concurrent_sessions": 400}]}

    def get(self, identifier=None):
        return self.server.request("GET", "session", identifier or self.session)

    def test_the_session_object(self):
        before = time.time()
        self.server.value(self.session, "1")
        answer = self.get().json()
        self.assertEqual(answer["identifier"], self.session)
        for name in ("createdAt", "lastAccessedAt", "expireAt"):
            self.assertRegex(answer[name], TIME)
        self.assertAlmostEqual(seconds(answer["createdAt"]), before, delta=5)
        self.assertGreaterEqual(seconds(answer["lastAccessedAt"]), seconds(answer["createdAt"]))
        self.assertAlmostEqual(seconds(answer["expireAt"]) - seconds(answer["lastAccessedAt"]), 300,
                               delta=0.01)
        self.assertTrue(answer["etag"])

    def test_looking_is_not_using(self):
        self.server.value(self.session, "1")
        first = self.get().json()
        self.assertEqual(self.get().json(), first)
        self.server.value(self.session, "1")
        second = self.get().json()
        self.assertGreater(seconds(second["lastAccessedAt"]), seconds(first["lastAccessedAt"]))
        self.assertEqual(second["createdAt"], first["createdAt"])
        self.assertEqual(second["etag"], first["etag"])

    def test_every_kind_of_request_is_an_access(self):
        self.server.upload(self.session, "a.txt", b"1")
        for method, route in (("GET", "files"), ("GET", "files/a.txt"), ("GET", "files/a.txt/content"),
                              ("DELETE", "files/a.txt")):
            before = seconds(self.get().json()["lastAccessedAt"])
            self.server.request(method, route, self.session)
            self.assertGreater(seconds(self.get().json()["lastAccessedAt"]), before, (method, route))

    def test_delete(self):
        self.server.value(self.session, "x = 1")
        self.server.upload(self.session, "a.txt", b"1")
        etag = self.get().json()["etag"]
        reply = self.server.request("DELETE", "session", self.session)
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assert_error(self.get(), 400, "SessionWithIdentifierNotFound", "identifier")
        # A fresh, empty one.
        self.assertEqual(self.server.request("GET", "files", self.session).json(), {"value": []})
        self.assertIs(self.server.value(self.session, "'x' in globals()"), False)
        self.assertNotEqual(self.get().json()["etag"], etag)

    def test_unknown_identifiers(self):
        for method in ("GET", "DELETE"):
            reply = self.server.request(method, "session", "nobody-here")
            self.assert_error(reply, 400, "SessionWithIdentifierNotFound", "identifier")
            self.assert_error(self.server.request(method, "session"), 400,
                              "SessionRequestValidationFailed", "identifier")
            self.assert_error(self.server.request(method, "session", "abc"), 400,
                              "InvalidLengthOfSessionIdentifier", "identifier")

    def test_management_aliases(self):
        for version in VERSIONS:
            self.server.value(self.session, "1")
            get = self.server.request("POST", ".management/getSession", self.session,
                                      api_version=version)
            self.assertEqual((get.status, get.json()), (200, self.get().json()))
            listed = self.server.request("POST", ".management/listSessions", skip=0,
                                         api_version=version)
            self.assertIn(get.json(), listed.json()["sessions"])
            stop = self.server.request("POST", ".management/stopSession", self.session,
                                       api_version=version)
            self.assertEqual((stop.status, stop.body), (200, b""))
            for name in ("getSession", "stopSession"):
                reply = self.server.request("POST", f".management/{name}", self.session,
                                            api_version=version)
                self.assert_error(reply, 400, "SessionWithIdentifierNotFound")

    def test_management_takes_a_body(self):
        self.server.value(self.session, "1")
        for body in (b"", b"{}", b"null"):
            reply = self.server.request("POST", ".management/getSession", self.session, body)
            self.assertEqual(reply.status, 200)

    def test_list(self):
        names = [f"{self.session}-{i}" for i in range(5)]
        for name in names:
            self.server.request("GET", "files", name)
        answer = self.server.request("GET", "listSessions").json()
        listed = [s["identifier"] for s in answer["sessions"]]
        self.assertEqual([n for n in listed if n in names], names)
        for entry in answer["sessions"]:
            self.assertEqual(set(entry), {"identifier", "createdAt", "lastAccessedAt", "expireAt",
                                          "etag"})
        for name in names:
            self.server.request("DELETE", "session", name)
        answer = self.server.request("GET", "listSessions").json()
        self.assertFalse({s["identifier"] for s in answer["sessions"]} & set(names))

    def test_list_in_pages(self):
        names = [f"{self.session}-{i:03d}" for i in range(130)]
        for name in names:
            self.server.request("GET", "files", name)
        # With a client's own skip …
        first = self.server.request("GET", "listSessions").json()["sessions"]
        second = self.server.request("GET", "listSessions", skip=len(first)).json()["sessions"]
        self.assertEqual([s["identifier"] for s in first + second], names)
        # … and along the links.
        answer = self.server.request("GET", "listSessions").json()
        link = answer["nextLink"]
        connection = self.server.connect()
        connection.request("GET", link, headers={"Authorization": f"Bearer {self.server.token}"})
        rest = json.loads(connection.getresponse().read())
        connection.close()
        self.assertEqual(rest["sessions"], second)
        self.assertFalse(rest.get("nextLink"))
        self.assertEqual(self.server.request("GET", "listSessions", skip=10_000).json(),
                         {"sessions": []})
        for bad in ("-1", "x", "1.5", "99999999999"):
            self.assert_error(self.server.request("GET", "listSessions", skip=bad), 400,
                              "SessionRequestValidationFailed", "skip")
        for name in names:
            self.server.request("DELETE", "session", name)

    def test_metadata(self):
        answer = self.server.request("GET", "metadata").json()
        self.assertRegex(answer["runtimes"][0]["version"], r"^3\.\d+\.\d+$")
        self.assertRegex(answer["createdAt"], TIME)
        self.assertTrue(all(p["name"] and p["version"] for p in answer["preInstalledPackages"]))
        self.assert_error(self.server.request("GET", "metadata", api_version=None), 400,
                          "SessionRequestValidationFailed", "api-version")


class Cooldown(ServerCase):
    config = {"pools": [{"name": "default", "ready_sessions": 2, "cooldown_seconds": 1},
                        {"name": "short-lived", "ready_sessions": 1, "max_lifetime_seconds": 1.5}]}

    def exists(self, pool=None):
        return self.server.request("GET", "session", self.session, pool=pool).status == 200

    def test_an_idle_session_ends(self):
        self.server.value(self.session, "x = 1")
        start = time.monotonic()
        self.wait_until(lambda: not self.exists(), "it did not end", 4)
        self.assertGreater(time.monotonic() - start, 0.8)
        reply = self.server.execute(self.session, "'x' in globals()")
        self.assertIs(reply["result"]["executionResult"], False)
        self.assertNotIn("newSession", reply)  # it ended as it should; nothing was lost

    def test_use_keeps_it(self):
        self.server.value(self.session, "x = 1")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            self.assertEqual(self.server.value(self.session, "x"), 1)
            time.sleep(0.3)

    def test_a_running_execution_keeps_it(self):
        self.assertEqual(self.server.value(self.session, "import time; time.sleep(1.6); 7"), 7)
        self.assertTrue(self.exists())

    def test_a_slow_upload_keeps_it(self):
        import socket
        tail = b"\r\n--b--\r\n"
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as client:
            client.sendall((f"POST {self.server.target('files', self.session)} HTTP/1.1\r\nHost: x\r\n"
                            f"Authorization: Bearer {self.server.token}\r\nContent-Type: "
                            f"multipart/form-data; boundary=b\r\nContent-Length: "
                            f"{len(head) + 5 + len(tail)}\r\n\r\n").encode() + head)
            for _ in range(5):
                time.sleep(0.35)
                client.sendall(b"x")
            client.sendall(tail)
            self.assertIn(b" 200 ", client.makefile("rb").readline())

    def test_maximum_lifetime(self):
        start = time.monotonic()
        self.server.value(self.session, "x = 1", pool="short-lived")
        while self.exists("short-lived"):
            self.assertLess(time.monotonic() - start, 5, "it did not end")
            # Use does not prolong it.
            self.server.execute(self.session, "1", pool="short-lived")
            time.sleep(0.05)
            if not self.server.value(self.session, "'x' in globals()", pool="short-lived"):
                break
        self.assertGreater(time.monotonic() - start, 1.3)

    def test_maximum_lifetime_ends_what_runs(self):
        start = time.monotonic()
        reply = self.server.execute(self.session, "import time; time.sleep(30)", pool="short-lived")
        self.assertEqual(reply["verdict"], "session_killed")
        self.assertLess(time.monotonic() - start, 4)


class Full(ServerCase):
    config = {"pools": [{"name": "default", "ready_sessions": 2, "max_concurrent_sessions": 3},
                        {"name": "other", "ready_sessions": 1, "max_concurrent_sessions": 1}]}

    def fill(self):
        names = [f"{self.session}-{i}" for i in range(3)]
        for name in names:
            self.server.value(name, "x = 1")
            self.addCleanup(self.server.request, "DELETE", "session", name)
        return names

    def test_one_more(self):
        names = self.fill()
        start = time.monotonic()
        for method, route, body in (("POST", "executions", {"code": "1"}), ("GET", "files", None),
                                    ("POST", "code/execute", {"properties": {"code": "1"}}),
                                    ("POST", "python/execute", {"pythonCode": "1"})):
            reply = self.server.request(method, route, self.session, body)
            self.assert_error(reply, 429, "SessionPoolFull")
            self.assertGreaterEqual(int(reply.headers["retry-after"]), 1)
        reply = self.server.upload(self.session, "a.txt", b"1")
        self.assert_error(reply, 429, "SessionPoolFull")
        self.assertLess(time.monotonic() - start, 1)
        # Those that are there are not touched, and other pools have places of their own.
        for name in names:
            self.assertEqual(self.server.value(name, "x"), 1)
        self.assertEqual(self.server.value(self.session, "5", pool="other"), 5)
        self.server.request("DELETE", "session", self.session, pool="other")

    def test_delete_frees_the_place_at_once(self):
        names = self.fill()
        for i in range(20):
            self.assertEqual(self.server.request("DELETE", "session", names[-1]).status, 204)
            names.append(f"{self.session}-next-{i}")
            self.addCleanup(self.server.request, "DELETE", "session", names[-1])
            self.assertEqual(self.server.value(names[-1], "1 + 1"), 2)

    def test_a_crash_frees_the_place(self):
        names = self.fill()
        self.server.execute(names[0], "import os; os._exit(1)")
        self.assertEqual(self.server.value(self.session, "1"), 1)

    def test_many_at_once_for_the_last_places(self):
        replies = run_at_once([
            lambda i=i: self.server.request("POST", "executions", f"{self.session}-{i}",
                                            {"code": "1"}) for i in range(12)])
        statuses = sorted(r.status for r in replies)
        self.assertEqual(statuses, [200] * 3 + [429] * 9)
        for i in range(12):
            self.server.request("DELETE", "session", f"{self.session}-{i}")

    def test_the_refusals_are_counted(self):
        def refused():
            text = self.server.request("GET", "metrics").body.decode()
            return int(next(line for line in text.splitlines()
                            if line.startswith('carrel_sessions_refused_total{pool="default"}'))
                       .split()[-1])
        before = refused()
        self.fill()
        self.server.request("GET", "files", self.session)
        self.assertEqual(refused(), before + 1)


class Pools(ServerCase):
    config = {"pools": [{"name": "first", "ready_sessions": 2, "execution_seconds": 20},
                        {"name": "second-pool", "ready_sessions": 2, "execution_seconds": 0.3}]}

    def tearDown(self):
        self.server.request("DELETE", "session", self.session, pool="second-pool")
        super().tearDown()

    def test_the_same_identifier_in_two_pools(self):
        self.server.value(self.session, "x = 'one'")
        self.server.value(self.session, "x = 'two'", pool="second-pool")
        self.assertEqual(self.server.value(self.session, "x", pool="first"), "one")
        self.assertEqual(self.server.value(self.session, "x"), "one")
        self.assertEqual(self.server.value(self.session, "x", pool="second-pool"), "two")
        for pool in ("first", "second-pool"):
            answer = self.server.request("GET", "listSessions", pool=pool).json()
            self.assertEqual([s["identifier"] for s in answer["sessions"]], [self.session])
        self.server.request("DELETE", "session", self.session, pool="second-pool")
        self.assertEqual(self.server.value(self.session, "x"), "one")

    def test_each_has_its_own_limits(self):
        code = "import time; time.sleep(0.6); 1"
        self.assertEqual(self.server.value(self.session, code), 1)
        reply = self.server.execute(self.session, code, pool="second-pool", timeout=60)
        self.assertEqual(reply["verdict"], "time_limit")

    def test_files_are_apart(self):
        self.server.upload(self.session, "a.txt", b"1")
        answer = self.server.request("GET", "files", self.session, pool="second-pool").json()
        self.assertEqual(answer, {"value": []})


class Tenants(ServerCase):
    config = {
        "auth": {"tokens": [
            {"name": "acme", "token": "token-of-acme", "prefix": "acme"},
            {"name": "acme too", "token": "second-of-acme", "prefix": "acme"},
            {"name": "zeta", "token": "token-of-zeta", "prefix": "zeta", "role": "admin"},
            {"name": "nobody's", "token": "token-of-none"},
        ]},
    }
    names = ("token-of-acme", "token-of-zeta", "token-of-none")

    def tearDown(self):
        for name in ("acme", "zeta"):
            self.server.request("DELETE", "session", self.session, tenant=name)
        super().tearDown()

    def ask(self, token, method, route, body=None, identifier=None, **query):
        return self.server.request(method, route, identifier or self.session, body,
                                   headers={"Authorization": f"Bearer {token}"}, **query)

    def run_cell(self, token, code, **query):
        reply = self.ask(token, "POST", "executions", {"code": code}, **query).json()
        self.assertEqual(reply["status"], "Succeeded", reply)
        return reply["result"]["executionResult"]

    def listed(self, token, **query):
        sessions = self.ask(token, "GET", "listSessions", **query).json()["sessions"]
        return [(s["identifier"], s.get("tenant")) for s in sessions]

    def test_one_identifier_is_a_session_of_each(self):
        for token in self.names:
            self.run_cell(token, f"whose = '{token}'; open('whose.txt', 'w').write(whose)")
        for token in self.names:
            self.assertEqual(self.run_cell(token, "whose"), token)
            self.assertEqual(self.ask(token, "GET", "files/whose.txt/content").body, token.encode())
        self.assertEqual(self.run_cell("second-of-acme", "whose"), "token-of-acme")
        # Deleting, by session or by file, is of one's own only.
        self.assertEqual(self.ask("token-of-acme", "DELETE", "files/whose.txt").status, 204)
        self.assertEqual(self.ask("token-of-zeta", "DELETE", "session").status, 204)
        self.assertEqual(self.run_cell("token-of-acme", "whose"), "token-of-acme")
        self.assertEqual(self.ask("token-of-none", "GET", "files/whose.txt").status, 200)
        self.assert_error(self.ask("token-of-zeta", "GET", "session"), 400,
                          "SessionWithIdentifierNotFound")

    def test_executions_are_apart(self):
        started = self.ask("token-of-acme", "POST", "executions", {"code": "1"}).json()
        found = self.ask("token-of-acme", "GET", f"executions/{started['id']}")
        self.assertEqual(found.status, 200)
        for token in ("token-of-zeta", "token-of-none"):
            self.assert_error(self.ask(token, "GET", f"executions/{started['id']}"), 400,
                              "SessionWithIdentifierNotFound")
            self.run_cell(token, "1")
            for method in ("GET", "DELETE"):
                reply = self.ask(token, method, f"executions/{started['id']}")
                self.assertEqual(reply.status, 404, reply)

    def test_each_lists_its_own(self):
        for token in self.names:
            self.run_cell(token, "1")
        own = self.session
        self.assertEqual(self.listed("token-of-acme"), [(own, "acme")])
        self.assertEqual(self.listed("token-of-zeta"), [(own, "zeta")])
        self.assertEqual(self.listed("token-of-none"), [(own, None)])
        # The operator's token has the role admin and no prefix.
        self.assertEqual(self.listed(self.server.token),
                         [(own, "acme"), (own, "zeta"), (own, None)])
        self.assertEqual(self.listed(self.server.token, tenant="zeta"), [(own, "zeta")])

    def test_only_an_operator_names_a_tenant(self):
        self.run_cell("token-of-acme", "x = 'acme'")
        self.assertEqual(self.run_cell(self.server.token, "x", tenant="acme"), "acme")
        self.assertEqual(self.run_cell("token-of-acme", "x", tenant="acme"), "acme")
        for token, tenant in (("token-of-acme", "zeta"), ("token-of-zeta", "acme"),
                              ("token-of-none", "acme")):
            for method, route in (("GET", "session"), ("GET", "listSessions"), ("GET", "files"),
                                  ("DELETE", "session"), ("POST", "executions")):
                body = None if method == "GET" else {"code": "1"}
                reply = self.ask(token, method, route, body, tenant=tenant)
                self.assert_error(reply, 403, "Forbidden", "tenant")
        self.assert_error(self.ask(self.server.token, "GET", "session", tenant="../x"), 400,
                          "SessionRequestValidationFailed", "tenant")
        self.assertEqual(self.run_cell("token-of-acme", "x"), "acme")

    def test_a_lost_session_is_told_to_its_tenant(self):
        self.ask("token-of-acme", "POST", "executions", {"code": "import os; os._exit(1)"})
        for token, told in (("token-of-zeta", False), ("token-of-acme", True)):
            reply = self.ask(token, "POST", "executions", {"code": "1"}).json()
            self.assertIs(reply.get("newSession", False), told, reply)

    def test_bad_prefixes_are_refused(self):
        for prefix in ("a/b", "..", ".a", "", "skills", "workspaces", "ws", "packages", "x" * 65, 5):
            server = Server({"auth": {"tokens": [{"token": "t", "prefix": prefix}]}})
            server.expect_failure = True
            server.start(wait=False)
            self.assertEqual(server.process.wait(20), 2, prefix)
            server.stop()
            self.assertIn("auth.tokens[0].prefix", server.log_text())


class Tokens(ServerCase):
    config = {
        "pools": [{"name": "first", "ready_sessions": 2}, {"name": "second", "ready_sessions": 2}],
        "auth": {"tokens": [
            {"name": "old", "token": "old-token-of-two"},
            {"name": "new", "token": "new-token-of-two"},
            {"name": "bound", "token": "only-for-second", "pool": "second"},
            {"name": "gone", "token": "expired-token", "expires": "2024-01-01"},
            {"name": "later", "token": "valid-for-long", "expires": "2099-12-31T23:59:59Z"},
            {"name": "scraper", "token": "metrics-only", "role": "metrics"},
            {"name": "root", "token": "admin-token", "role": "admin"},
        ]},
    }

    def post(self, token, pool=None):
        return self.server.request("POST", "executions", self.session, {"code": "1"}, pool=pool,
                                   headers={"Authorization": f"Bearer {token}"})

    def get(self, token, route, pool=None):
        return self.server.request("GET", route, headers={"Authorization": f"Bearer {token}"},
                                   pool=pool)

    def tearDown(self):
        self.server.request("DELETE", "session", self.session, pool="second")
        super().tearDown()

    def test_rotation_with_two_tokens(self):
        for token in ("old-token-of-two", "new-token-of-two", "valid-for-long", "admin-token",
                      self.server.token):
            self.assertEqual(self.post(token).status, 200, token)
            self.assertEqual(self.post(token, "second").status, 200, token)

    def test_a_token_bound_to_a_pool(self):
        self.assertEqual(self.post("only-for-second", "second").status, 200)
        for pool in (None, "first"):
            self.assert_error(self.post("only-for-second", pool), 403, "Forbidden")
            for route in ("files", "listSessions", "metadata"):
                self.assertEqual(self.get("only-for-second", route, pool).status, 403, route)
        # Whether a pool exists is nobody else's business.
        self.assertEqual(self.post("only-for-second", "third").status, 403)

    def test_an_expired_token(self):
        self.assert_error(self.post("expired-token"), 401, "Unauthorized")

    def test_roles(self):
        self.assert_error(self.post("metrics-only"), 403, "Forbidden")
        self.assertEqual(self.get("metrics-only", "metrics").status, 200)
        self.assertEqual(self.get("metrics-only", "listSessions").status, 403)
        self.assertEqual(self.get("old-token-of-two", "listSessions").status, 200)
        self.assertEqual(self.get("nobody", "metrics").status, 401)

    def test_health_needs_none(self):
        reply = self.server.request("GET", "health", headers={"Authorization": None})
        self.assertEqual((reply.status, reply.json()["message"]), (200, "healthy"))

    def test_tokens_in_other_places_do_not_count(self):
        for query in ({"token": "admin-token"}, {"access_token": "admin-token"}):
            reply = self.server.request("GET", "listSessions", headers={"Authorization": None}, **query)
            self.assertEqual(reply.status, 401)
        reply = self.server.request("GET", "listSessions", headers={
            "Authorization": None, "x-ms-apikey": "admin-token", "Cookie": "token=admin-token"})
        self.assertEqual(reply.status, 401)


class Rotation(unittest.TestCase):
    def test_a_token_expires_while_the_server_runs(self):
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
        config = {"pools": [{"name": "default", "ready_sessions": 1}], "auth": {"tokens": [
            {"name": "short", "token": "short-lived-token",
             "expires": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}]}}
        with Server(config) as server:
            def status():
                return server.request("GET", "listSessions", headers={
                    "Authorization": "Bearer short-lived-token"}).status
            self.assertEqual(status(), 200)
            end = time.monotonic() + 6
            while status() == 200:
                self.assertLess(time.monotonic(), end)
                time.sleep(0.05)
            self.assertEqual(status(), 401)


class Shell(ServerCase):
    config = {"grace_seconds": 0.5,
              "pools": [{"name": "shell", "container_type": "Shell", "ready_sessions": 3,
                         "execution_seconds": 10},
                        {"name": "python", "ready_sessions": 1}]}

    def run_body(self, **body):
        reply = self.server.request("POST", "executions", self.session, body)
        self.assertEqual(reply.status, 200, reply)
        answer = reply.json()
        result = answer["result"]
        return answer["status"], result["stdout"], result["stderr"]

    def test_shell_command(self):
        self.assertEqual(self.run_body(shellCommand="echo hello; echo oops >&2"),
                         ("0", "hello\n", "oops\n"))

    def test_shape(self):
        reply = self.server.request("POST", "executions", self.session, {"shellCommand": "true"}).json()
        self.assertEqual((reply["identifier"], reply["status"]), (self.session, "0"))
        self.assertIsInstance(reply["result"]["executionTimeInMilliseconds"], int)

    def test_exit_codes(self):
        for code in (0, 1, 2, 42, 255):
            self.assertEqual(self.run_body(shellCommand=f"exit {code}")[0], str(code))
        self.assertEqual(self.run_body(shellCommand="kill -9 $$")[0], "137")
        self.assertEqual(self.run_body(shellCommand="false | true")[0], "0")

    def test_a_pipeline_and_quoting(self):
        self.assertEqual(self.run_body(shellCommand="printf 'b\\na\\n' | sort | tr '\\n' ','"),
                         ("0", "a,b,", ""))
        self.assertEqual(self.run_body(shellCommand="x='a  b'; echo \"$x\" | wc -c")[1].strip(), "5")

    def test_wrapped_and_superfluous_members(self):
        for body in ({"properties": {"shellCommand": "echo 1"}},
                     {"shellCommand": "echo 1", "codeInputType": "Inline",
                      "executionType": "Synchronous"}):
            reply = self.server.request("POST", "executions", self.session, body)
            self.assertEqual((reply.status, reply.json()["result"]["stdout"]), (200, "1\n"))

    def test_command_and_arguments(self):
        self.assertEqual(self.run_body(execCommandAndArgs=["printf", "%s|", "a b", "$HOME", "*"]),
                         ("0", "a b|$HOME|*|", ""))
        self.assertEqual(self.run_body(execCommandAndArgs=["/bin/sh", "-c", "exit 7"])[0], "7")
        self.assertEqual(self.run_body(execCommandAndArgs=["printf", "%s", "\u00e9\u4e2d"])[1],
                         "\u00e9\u4e2d")
        self.assertEqual(self.run_body(execCommandAndArgs=["printf", "[%s]", ""])[1], "[]")

    def test_unknown_commands(self):
        status, _, err = self.run_body(execCommandAndArgs=["no-such-command", "x"])
        self.assertEqual(status, "127")
        self.assertIn("no-such-command", err)
        status, _, err = self.run_body(shellCommand="no-such-command")
        self.assertEqual(status, "127")
        self.assertIn("no-such-command", err)
        status, _, err = self.run_body(execCommandAndArgs=["/etc"])
        self.assertEqual(status, "126")

    def test_standard_input(self):
        self.assertEqual(self.run_body(shellCommand="cat", stdin="line\n\u00e9")[1], "line\n\u00e9")
        self.assertEqual(self.run_body(execCommandAndArgs=["wc", "-c"], stdin="x" * 1_000_000)[1]
                         .strip(), "1000000")
        self.assertEqual(self.run_body(shellCommand="cat; echo end")[1], "end\n")
        self.assertEqual(self.run_body(shellCommand="true", stdin="y" * 500_000)[0], "0")

    def test_bad_requests(self):
        for body, code in (({"code": "1"}, "SessionPropertiesMissing"), ({}, "SessionPropertiesMissing"),
                           ({"shellCommand": "a", "execCommandAndArgs": ["b"]},
                            "SessionRequestValidationFailed"),
                           ({"shellCommand": 1}, "SessionRequestValidationFailed"),
                           ({"shellCommand": "a\0b"}, "SessionRequestValidationFailed"),
                           ({"execCommandAndArgs": []}, "SessionRequestValidationFailed"),
                           ({"execCommandAndArgs": "ls"}, "SessionRequestValidationFailed"),
                           ({"execCommandAndArgs": [""]}, "SessionRequestValidationFailed"),
                           ({"execCommandAndArgs": ["a", 1]}, "SessionRequestValidationFailed"),
                           ({"execCommandAndArgs": ["a\0"]}, "SessionRequestValidationFailed"),
                           ({"shellCommand": "a", "stdin": 1}, "SessionRequestValidationFailed")):
            reply = self.server.request("POST", "executions", self.session, body)
            self.assert_error(reply, 400, code)

    def test_time_limit(self):
        start = time.monotonic()
        reply = self.server.request("POST", "executions", self.session,
                                    {"shellCommand": "echo on; sleep 60", "timeoutInSeconds": 0.3})
        answer = reply.json()
        self.assertEqual((answer["verdict"], answer["status"]), ("time_limit", "124"))
        self.assertEqual(answer["result"]["stdout"], "on\n")
        self.assertIn("timed out", answer["result"]["stderr"])
        self.assertLess(time.monotonic() - start, 2)
        self.assertEqual(self.run_body(shellCommand="echo again")[1], "again\n")

    def test_time_limit_of_a_stubborn_command(self):
        reply = self.server.request(
            "POST", "executions", self.session,
            {"shellCommand": "trap '' INT TERM; while :; do sleep 1; done", "timeoutInSeconds": 0.3})
        self.assertEqual(reply.json()["verdict"], "time_limit")
        self.assertEqual(self.run_body(shellCommand="echo again")[1], "again\n")

    def test_interrupt(self):
        reply = self.server.request("POST", "executions", self.session,
                                    {"shellCommand": "touch on; sleep 60",
                                     "executionType": "Asynchronous"})
        self.wait_for_file("on")
        ended = self.server.request("DELETE", f"executions/{reply.json()['id']}", self.session).json()
        self.assertEqual((ended["verdict"], ended["status"]), ("interrupted", "130"))

    def test_files_are_kept_and_shared_with_the_file_routes(self):
        self.server.upload(self.session, "in.txt", b"b\na\n")
        self.assertEqual(self.run_body(shellCommand="pwd; sort in.txt > out.txt")[1], "/mnt/data\n")
        reply = self.server.request("GET", "files/out.txt/content", self.session)
        self.assertEqual(reply.body, b"a\nb\n")

    def test_commands_do_not_share_variables(self):
        self.run_body(shellCommand="X=1; cd /tmp")
        self.assertEqual(self.run_body(shellCommand="echo [$X] $PWD")[1], "[] /mnt/data\n")

    def test_a_stream(self):
        connection = self.server.connect()
        connection.request("POST", self.server.target("executions", self.session),
                           json.dumps({"shellCommand": "echo one; echo two >&2; exit 3"}),
                           {"Authorization": f"Bearer {self.server.token}",
                            "Accept": "text/event-stream"})
        text = connection.getresponse().read().decode()
        connection.close()
        self.assertIn('event: stdout\ndata: {"text":"one\\n"}', text)
        self.assertIn('event: stderr\ndata: {"text":"two\\n"}', text)
        self.assertEqual(json.loads(text.rsplit("data: ", 1)[1])["status"], "3")

    def test_a_daemon_does_not_hold_the_answer(self):
        start = time.monotonic()
        self.assertEqual(self.run_body(shellCommand="sleep 60 & echo started")[1], "started\n")
        self.assertLess(time.monotonic() - start, 2)

    def test_python_pools_refuse_commands(self):
        reply = self.server.request("POST", "executions", self.session, {"shellCommand": "ls"},
                                    pool="python")
        self.assert_error(reply, 400, "SessionPropertiesMissing")


if __name__ == "__main__":
    unittest.main()

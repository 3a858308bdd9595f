"""Code mode against those it is built against: a second tenant with a token of its own, a session that
forges host calls, skills that attack whoever reads them, files that a second writer puts into the
store, and a Redis that lies. Each attempt is a test; what must hold is that it reaches nothing, and
that everybody else is served as before."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import hostile  # noqa: E402
from protocol_test import FORGERY  # noqa: E402

harness = hostile.harness

SERIAL = True

TENANTS = ("a", "b")
SECRET = "the-secret-of-a"
SKILL = '"""The zebra of a."""\ndef run(x: int = 1):\n    return "the-secret-of-a"\n'
ANSWER_SECONDS = 1.5
GROWTH_BYTES_MAX = 384 << 20


def token_of(tenant):
    return f"token-of-tenant-{tenant}"


def tenants_config(**config):
    return {"pools": [{"name": "default", "ready_sessions": 3, "memory": "768m"}],
            "grace_seconds": 0.5,
            "auth": {"tokens": [{"name": t, "token": token_of(t), "role": "execute",
                                 "prefix": f"tenant-{t}"} for t in TENANTS]}, **config}


class Caller:
    """A client: a token, a session, and both wires."""

    def __init__(self, server, token, session=None):
        self.server = server
        self.token = token
        self.session = session or str(uuid.uuid4())

    def with_session(self, session):
        return Caller(self.server, self.token, session)

    def send(self, method, path, body=None, headers=None, timeout=60):
        """One request with the path as it is."""
        connection = self.server.connect(timeout)
        words = {"Authorization": f"Bearer {self.token}", "X-Session-ID": self.session}
        if body is not None:
            body = body if isinstance(body, (bytes, str)) else json.dumps(body)
            words["Content-Type"] = "application/json"
        words.update(headers or {})
        try:
            connection.request(method, path, body,
                               {k: v for k, v in words.items() if v is not None})
            answer = connection.getresponse()
            return harness.Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def run(self, code, timeout=None):
        """The whole answer of a cell."""
        reply = self.send("POST", "/execute", {"code": code, "timeout": timeout})
        if reply.status != 200:
            raise AssertionError(repr(reply))
        return reply.json()

    def value(self, code, timeout=None):
        answer = self.run(code, timeout)
        if answer["error"] is not None:
            raise AssertionError(answer["error"])
        return answer["value"]

    def error(self, code):
        """NAME: TEXT of what the code raises, or what it returns."""
        return self.value("try:\n    said = repr(" + code + ")\nexcept BaseException as e:\n"
                          "    said = type(e).__name__ + ': ' + str(e)\nsaid")

    def ask(self, method, **arguments):
        """A host call past the session's own half: the reply, or the failure, as text."""
        return self.error(f"__import__('_carrel.calls').calls.ask({method!r}, {arguments!r}, "
                          "blocking=True)")


class TenantsCase(unittest.TestCase):
    """Two tenants and the server's own token on one server; a has something to steal."""

    config = {}
    environment = {}

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(tenants_config(**cls.config), environment=cls.environment)
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.a, cls.b = (Caller(cls.server, token_of(t), "shared-id") for t in TENANTS)
        cls.own = Caller(cls.server, cls.server.token, "shared-id")
        cls.a.value(f"kept = {SECRET!r}\n"
                    f"artifacts.save('secret', {SECRET!r}, 'the-secret-of-a')\n"
                    f"artifacts.save('dir/secret', {SECRET!r})\n"
                    f"skills.create('zebra', {SKILL!r})\n1")
        reply = cls.a.send("POST", "/sessions", {"workspace_id": "w"})
        cls.given = reply.json()["session_id"]
        cls.a.with_session(cls.given).send("POST", "/api/artifacts", {
            "name": "in-w", "data": SECRET})

    def tearDown(self):
        """What a has is there and as it was."""
        self.assertIsNone(self.server.process.poll(), "the gateway is gone")
        self.assertEqual(self.a.value("artifacts.load('secret')"), SECRET)
        self.assertEqual(self.a.value("artifacts.load('dir/secret')"), SECRET)
        self.assertEqual(self.a.value("skills.zebra()"), SECRET)
        self.assertEqual(self.a.value("kept"), SECRET)
        self.assertEqual(
            self.a.with_session(self.given).value("artifacts.load('in-w')"), SECRET)

    def assert_nothing_in(self, reply, what=""):
        text = reply if isinstance(reply, str) else reply.body.decode("utf-8", "replace")
        self.assertNotIn(SECRET, text, what)


def odd_names(name):
    """Ways to say another's NAME, or to climb to it."""
    climbs = [f"{up}tenant-a/artifacts/{name}" for up in ("../", "../../", "../../../", "/", "./",
                                                         "x/../../", "..//", "....//")]
    return [*climbs, f"tenant-a/artifacts/{name}", f"tenant-a:artifacts:{name}",
            f":artifacts:{name}", f"../{name}", f"{name}/", f"/{name}", f"{name}\0", f"\0{name}",
            f"x\0/../{name}", "\u2024\u2024/tenant-a/artifacts/" + name, "\uff0e\uff0e/" + name,
            "s\u0435cret", "secret\u200b", "SECRET", "sec\u017fret", "__index__", ".artifacts.json",
            ".", "..", "", "*", "?ecret", "[s]ecret", f"{name}\n", "a" * 255, "a" * 256,
            "a/" * 511 + "a", "a" * 5000, "\ud800", "__upload__:x", ".carrel-lock"]


class Wires:
    """Tenant b at everything of tenant a's; for each backend."""

    def test_what_b_lists_and_searches(self):
        for path in ("/api/artifacts", "/api/skills", "/api/workflows", "/info", "/api/deps",
                     "/api/skills/search?query=zebra", "/api/workflows/search?query=zebra+secret",
                     "/api/tools", "/api/tools/search?query=zebra"):
            for tail in ("", "tenant=tenant-a", "prefix=tenant-a", "workspace=w",
                         "workspace_id=w"):
                target = path + ("&" if "?" in path else "?") * bool(tail) + tail
                for caller in (self.b, self.own):
                    reply = caller.send("GET", target)
                    self.assert_nothing_in(reply, target)
                    self.assertNotIn(b"zebra of a", reply.body, target)
        for code in ("artifacts.list()", "skills.list()", "skills.search('zebra')",
                     "skills.get('zebra')", "workflows.get('zebra')", "artifacts.get('secret')"):
            for caller in (self.b, self.own):
                self.assertNotIn("zebra of a", caller.error(code))
                self.assert_nothing_in(caller.error(code))

    def test_headers_that_name_the_other(self):
        for name in ("X-Tenant", "X-Tenant-ID", "X-Prefix", "X-Workspace-ID", "X-Store-Prefix",
                     "X-Forwarded-User"):
            for value in ("tenant-a", "w"):
                reply = self.b.send("GET", "/api/artifacts/secret", headers={name: value})
                self.assertEqual(reply.status, 404, name)

    def test_artifacts_by_odd_names_over_http(self):
        for name in odd_names("secret"):
            with self.subTest(name=name[:60]):
                encoded = urllib.parse.quote(name.encode("utf-8", "surrogatepass"), safe="")
                for path in (encoded, urllib.parse.quote(encoded, safe=""),
                             encoded.replace("..", "%2e%2e").replace("%2F", "%5c")):
                    for method in ("GET", "DELETE"):
                        reply = self.b.send(method, "/api/artifacts/" + path)
                        if path:  # else it is the list
                            self.assertIn(reply.status, (400, 404, 405, 414), reply)
                        self.assert_nothing_in(reply)
                reply = self.b.send("POST", "/api/artifacts", {"name": name, "data": "b was here"})
                self.assertIn(reply.status, (200, 400, 422), reply)
                self.assert_nothing_in(reply)

    def test_artifacts_by_odd_names_in_host_calls(self):
        for name in odd_names("secret"):
            with self.subTest(name=name[:60]):
                for method in ("artifacts.get", "artifacts.load", "artifacts.register",
                               "artifacts.exists", "artifacts.delete"):
                    said = self.b.ask(method, name=name)
                    self.assert_nothing_in(said)
                    self.assertNotIn(": 'tenant-a", said)
                    self.assertNotIn("InternalError", said)

    def test_skills_by_odd_names(self):
        for name in ("zebra", "../tenant-a/skills/zebra", "tenant-a:skills:zebra", "zebra.py",
                     "Zebra", "\uff5aebra", "zebr\u0430", "zebra\0", "__skills__", "_zebra", "",
                     "x" * 300, "list", "*"):
            encoded = urllib.parse.quote(name, safe="")
            for path in ("skills", "workflows"):
                reply = self.b.send("GET", f"/api/{path}/{encoded}")
                self.assertIn(reply.status, (200, 400, 404), reply)
                self.assert_nothing_in(reply)
                reply = self.b.send("DELETE", f"/api/{path}/{encoded}")
                self.assertIn((reply.status, reply.body[:5]) if reply.status == 200
                              else reply.status, ((200, b"false"), 400, 404, 405), reply)
            for method in ("skills.get", "skills.delete"):
                said = self.b.ask(method, name=name)
                self.assert_nothing_in(said)
                self.assertNotEqual(said, "True")

    def test_a_skill_of_the_same_name_is_bs_own(self):
        self.b.value("skills.create('zebra', 'def run():\\n    return \"of b\"')\n1")
        self.assertEqual(self.b.value("skills.zebra()"), "of b")
        self.assertEqual(self.a.value("skills.zebra()"), SECRET)
        self.assertIs(self.b.value("skills.delete('zebra')"), True)
        self.assertIs(self.b.value("skills.delete('zebra')"), False)

    def test_an_artifact_of_the_same_name_is_bs_own(self):
        self.b.value("artifacts.save('secret', 'of b')\n1")
        self.assertEqual(self.b.value("artifacts.load('secret')"), "of b")
        self.assertEqual(self.a.value("artifacts.load('secret')"), SECRET)
        self.b.value("artifacts.delete('secret')\n1")

    def test_dependencies(self):
        self.a.send("POST", "/api/deps/add", {"package": "of-a-alone"})
        try:
            self.assertIn(b"of-a-alone", self.a.send("GET", "/api/deps").body)
            for caller in (self.b, self.own):
                self.assertEqual(caller.send("GET", "/api/deps").json(), [])
                self.assertEqual(caller.error("deps.list()"), "[]")
                caller.send("POST", "/api/deps/remove", {"package": "of-a-alone"})
                caller.send("POST", "/uninstall_deps", {"packages": ["of-a-alone"]})
                caller.ask("deps.remove", package="of-a-alone")
            self.assertIn(b"of-a-alone", self.a.send("GET", "/api/deps").body)
        finally:
            self.a.send("POST", "/api/deps/remove", {"package": "of-a-alone"})

    def test_session_ids_that_the_server_gave_to_a(self):
        thief = self.b.with_session(self.given)
        self.assertEqual(thief.send("POST", "/execute", {"code": "1"}).status, 400)
        for method, path in (("GET", "/api/workflows"), ("POST", "/reset"), ("GET", "/info"),
                             ("GET", "/api/artifacts"), ("GET", "/api/artifacts/in-w"),
                             ("DELETE", "/api/artifacts/in-w")):
            reply = thief.send(method, path)
            self.assert_nothing_in(reply)
            self.assertNotIn(b"in-w\"", reply.body.replace(b"'in-w'", b""))
        # The Azure wire may use that word as an identifier, which is another session of b's own.
        said = self.server.value(self.given, "artifacts.exists('in-w')", headers={
            "Authorization": f"Bearer {self.b.token}"})
        self.assertIs(said, False)
        self.assertEqual(self.a.with_session(self.given).value("artifacts.load('in-w')"), SECRET)

    def test_session_ids_that_are_guesses(self):
        for session in ("shared-id", "tenant-a/shared-id", "tenant-a:shared-id", "\x01",
                        "skill-parser", "sha256:" + "0" * 64, self.given.upper(),
                        self.given + " ", " " + self.given, "x" * 4000, "\u00ff".encode("latin-1"),
                        "..", "%2e%2e", "shared-id,shared-id"):
            thief = self.b.with_session(session)
            try:
                reply = thief.send("POST", "/execute", {"code": "str(globals().get('kept'))"})
            except (ValueError, UnicodeError):
                continue  # no header can say it
            self.assertIn(reply.status, (200, 400, 429, 431), reply)
            self.assert_nothing_in(reply)
            self.assert_nothing_in(thief.send("GET", "/api/artifacts"))
            thief.send("POST", "/reset")

    def test_the_azure_routes_of_the_same_identifier(self):
        self.a.value("open('/mnt/data/secret.txt', 'w').write('the-secret-of-a')\n1")
        for method, route in (("GET", "files"), ("GET", "files/secret.txt/content"),
                              ("GET", "listSessions"), ("GET", "executions"),
                              ("GET", "sessions"), ("GET", "files/secret.txt")):
            for extra in ({}, {"tenant": "tenant-a"}, {"prefix": "tenant-a"}):
                reply = self.server.request(method, route, "shared-id", headers={
                    "Authorization": f"Bearer {self.b.token}"}, **extra)
                self.assert_nothing_in(reply)
                self.assertNotIn(b"secret.txt\"", reply.body.replace(b"'secret.txt'", b""))
        self.server.request("DELETE", "session", "shared-id", headers={
            "Authorization": f"Bearer {self.b.token}"}, tenant="tenant-a")

    def test_workspaces_of_the_same_name_and_of_odd_names(self):
        theirs = self.b.send("POST", "/sessions", {"workspace_id": "w"}).json()["session_id"]
        self.assertEqual(self.b.with_session(theirs).error("artifacts.list()"), "[]")
        for name in ("../w", "w/../../tenant-a", "tenant-a/workspaces/w", "w:artifacts", "w\0",
                     "w\n", "\uff57", "w ", "", ".", "..", "x" * 129, "w%2f", "-" * 129, ["w"], 7,
                     {"a": 1}, "\ud800"):
            with self.subTest(name=str(name)[:40].encode("utf-8", "replace")):
                reply = self.b.send("POST", "/sessions", {"workspace_id": name})
                self.assertIn(reply.status, (400, 422), reply)

    def test_arguments_of_host_calls_that_name_a_space(self):
        for extra in ({"prefix": "tenant-a"}, {"workspace": "w"}, {"tenant": "tenant-a"},
                      {"space": {"prefix": "tenant-a"}}):
            self.assertTrue(self.b.ask("artifacts.list", **extra).startswith("TypeError"), extra)
        said = self.b.error("__import__('_carrel.calls').calls.ask('artifacts.list', "
                            "[{'prefix': 'tenant-a'}], blocking=True)")
        self.assertTrue(said.startswith("TypeError"), said)

    def test_names_of_the_store_itself(self):
        for name in ("__index__", "__index__/x", ".artifacts.json", ".artifacts.d/x",
                     ".carrel-lock", ".carrel-x", "__upload__:1"):
            for caller in (self.b, self.own):
                caller.ask("artifacts.delete", name=name)
                caller.send("POST", "/api/artifacts", {"name": name, "data": "{}"})
        self.b.value("artifacts.save('still', 'here')\n1")
        self.assertEqual(self.b.value("[x.name for x in artifacts.list() if x.name == 'still'][0]"),
                         "still")
        self.assertEqual(self.b.value("artifacts.load('still')"), "here")


class Files(Wires, TenantsCase):
    """In the directories of one store."""


class RedisServer:
    """A redis-server of the test's own, on a free port, with a password."""

    PASSWORD = "pass-word-of-this-redis"

    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-redis-")
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--requirepass", self.PASSWORD, "--dir", self.directory.name],
            stdout=subprocess.DEVNULL)
        self.connected = hostile.wait_until(self._answers, 20)

    @property
    def url(self):
        return f"redis://:{self.PASSWORD}@127.0.0.1:{self.port}/0"

    def _answers(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def command(self, *words):
        """One command, as redis-cli sends it."""
        return subprocess.run(
            ["redis-cli", "-p", str(self.port), "--no-auth-warning", "-a", self.PASSWORD, *words],
            capture_output=True, check=True, timeout=20).stdout.decode().strip()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.directory.cleanup()


class Redis(Wires, TenantsCase):
    """In the keys of one Redis."""

    @classmethod
    def setUpClass(cls):
        redis = cls.redis = RedisServer()
        cls.addClassCleanup(redis.stop)
        cls.environment = {"REDIS_URL": redis.url}
        super().setUpClass()

    def test_names_that_would_be_other_keys(self):
        before = {key: self.redis.command("TYPE", key)
                  for key in self.redis.command("KEYS", "tenant-a:*").splitlines()}
        self.assertGreater(len(before), 3)
        for name in ("__index__", ":__index__", "x:__index__", "../skills:__skills__",
                     "skills:__skills__", "secret:"):
            self.b.send("POST", "/api/artifacts", {"name": name, "data": "b"})
            self.own.send("POST", "/api/artifacts", {"name": name, "data": "own"})
            self.b.ask("artifacts.delete", name=name)
        self.assertEqual({key: self.redis.command("TYPE", key) for key in before}, before)


class ReservedPrefixes(unittest.TestCase):
    def test_a_token_whose_prefix_would_be_anothers_space_is_refused(self):
        for prefix in ("../x", "a/b", "a:ws:x", "a:artifacts", "workspaces", "artifacts", "..", ".",
                       "", "\x01", "a b", "x" * 65, "tenant\u0430"):
            with self.subTest(prefix=prefix):
                server = harness.Server({"auth": {"tokens": [
                    {"name": "x", "token": "t" * 20, "role": "execute", "prefix": prefix}]}})
                server.expect_failure = True
                server.start(wait=False)
                self.assertEqual(server.process.wait(30), 2)
                server.stop()


if __name__ == "__main__":
    unittest.main()

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
from hostile import processes  # noqa: E402
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
        self.a.send("POST", "/api/deps/add", {"package": "requests"})
        try:
            self.assertIn(b"requests", self.a.send("GET", "/api/deps").body)
            for caller in (self.b, self.own):
                self.assertEqual(caller.send("GET", "/api/deps").json(), [])
                self.assertEqual(caller.error("deps.list()"), "[]")
                caller.send("POST", "/api/deps/remove", {"package": "requests"})
                caller.send("POST", "/uninstall_deps", {"packages": ["requests"]})
                caller.ask("deps.remove", package="requests")
            self.assertIn(b"requests", self.a.send("GET", "/api/deps").body)
        finally:
            self.a.send("POST", "/api/deps/remove", {"package": "requests"})

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


# --- sessions that forge host calls ----------------------------------------------------------------

class ForgedCalls(unittest.TestCase):
    """An attacker's session that speaks for itself; a neighbour is asked all the while."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server({
            "pools": [{"name": "default", "ready_sessions": 4, "memory": "768m"}],
            "grace_seconds": 0.5})
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.gateway = cls.server.process.pid

    def setUp(self):
        self.server.value("neighbour", "artifacts.save('mine', 'kept')\n1")
        self.attacker = f"attacker-{uuid.uuid4().hex[:8]}"
        self.prepare(self.attacker)
        self.bytes_before = hostile.resident_bytes(self.gateway)

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), "the gateway is gone")
        self.assertEqual(self.server.value("neighbour", "artifacts.load('mine')"), "kept")
        self.server.request("DELETE", "session", self.attacker)

    def prepare(self, identifier):
        self.server.execute(identifier, hostile.TOOLS)
        self.server.execute(identifier, FORGERY)

    @contextlib.contextmanager
    def watched(self, growth_max=GROWTH_BYTES_MAX, seconds_max=ANSWER_SECONDS):
        """While it goes on the gateway stays small, and a neighbour is served."""
        peak, slowest, done = [0], [0.0], threading.Event()

        def memory():
            while not done.wait(0.01):
                peak[0] = max(peak[0], hostile.resident_bytes(self.gateway))

        def neighbour():
            while not done.wait(0.05):
                begun = time.monotonic()
                self.server.value("neighbour", "artifacts.exists('mine')")
                slowest[0] = max(slowest[0], time.monotonic() - begun)

        threads = [threading.Thread(target=f, daemon=True) for f in (memory, neighbour)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join(30)
        self.assertLess(peak[0] - self.bytes_before, growth_max, "the gateway grew")
        self.assertLess(slowest[0], seconds_max, "a neighbour waited")

    def attack(self, code, timeout=10, identifier=None):
        reply = self.server.execute(identifier or self.attacker, code, timeout=timeout)
        self.assertNotEqual(reply["verdict"], "exception", reply)  # else it attacked nothing
        return reply

    def test_arguments_that_are_larger_as_a_tree(self):
        for item in (b"{},", b"[],", b'{"":0},', b"0,"):
            body = f"b'{{\"name\":[' + {item!r} * ((8 << 20) // {len(item)} - 8) + b'0]}}'"
            with self.subTest(item=item), self.watched(growth_max=128 << 20):
                self.attack(f"send_whole(HOST_CALL, 7, call_body('artifacts.exists', {body}))\n"
                            "time.sleep(0.3)")

    def test_arguments_as_deep_as_they_can_be(self):
        for opening in (b"[", b'{"":', b'{"name":'):
            with self.subTest(opening=opening), self.watched():
                self.attack(f"send_whole(HOST_CALL, 7, call_body('artifacts.exists', {opening!r} "
                            "* 1000000))\ntime.sleep(0.3)")

    def test_calls_of_eight_mebibytes_each(self):
        """As many as a session may have at once, each with a text as long as arguments can be."""
        with self.watched():
            self.attack("""
for n in range(64):
    send_whole(HOST_CALL, 100 + n, call_body('skills.search', b'{"query":"' + b'x' * ((8 << 20) - 64)
                                             + b'"}'))
time.sleep(1)""")

    def test_methods_that_are_not_there(self):
        for method in ("os.system", "artifacts", "artifacts.save.x", "_", ".", "..", "skills.run",
                       "store.get", "x" * 63):
            said = self.server.value("neighbour", f"""
try:
    said = str(__import__('_carrel.calls').calls.ask({method!r}, {{}}, blocking=True))
except RuntimeError as e:
    said = str(e)
said""")
            self.assertTrue(said.startswith("There is no method"), said)

    def test_more_calls_than_a_session_may_have(self):
        """The same number twice, and sixty-four that wait for bytes that never come."""
        with self.watched():
            reply = self.attack("""
for n in range(200):
    send(HOST_CALL, 100 + n, call_body('artifacts.save',
         b'{"name":"n%d","type":"bytes","size":1000000}' % n))
time.sleep(1)""")
            self.assertEqual(reply["verdict"], "succeeded", reply)
            self.prepare(self.attacker)
            reply = self.attack("""
for n in range(2):
    send(HOST_CALL, 100, call_body('artifacts.save', b'{"name":"n","type":"bytes","size":9}'))
time.sleep(3)""")
            self.assertEqual(reply["verdict"], "session_killed", reply)
        self.assertEqual(
            self.server.value("neighbour", "[x.name for x in artifacts.list()]"
                              ".count('n1')"), 0)

    def test_more_bytes_than_it_said(self):
        for size, sent in ((0, 1), (10, 11), (-1, 1), (1 << 40, 1)):
            with self.subTest(size=size):
                reply = self.attack(f"""
send(HOST_CALL, 100, call_body('artifacts.save', b'{{"name":"n","type":"bytes","size":{size}}}'))
time.sleep(0.2)
for _ in range({sent}): send(HOST_PUT, 100, b'x')
time.sleep(0.3)""")
                self.assertIn(reply["verdict"], {"succeeded", "session_killed"})
                self.prepare(self.attacker)

    def test_bytes_of_an_artifact_that_nobody_takes(self):
        """Sixty-four loads of 16 MB at once, and not a reply is read."""
        self.server.value("neighbour", "artifacts.save('large', bytes(16 << 20))\n1")
        with self.watched():
            self.attack("""
for n in range(64):
    send(HOST_CALL, 100 + n, call_body('artifacts.load', b'{"name":"large"}'))
time.sleep(2)""")

    def test_a_cell_that_is_interrupted_in_the_middle_of_its_bytes(self):
        reply = self.attack("""
send(HOST_CALL, 100, call_body('artifacts.save',
     b'{"name":"half","type":"bytes","size":100000000}'))
while True:
    send(HOST_PUT, 100, b'x' * 1000)
    time.sleep(0.001)""", timeout=1)
        self.assertEqual(reply["verdict"], "time_limit", reply)
        self.assertIs(self.server.value("neighbour", "artifacts.exists('half')"), False)

    def test_a_hundred_and_twenty_eight_megabytes_from_many_at_once(self):
        """Each of sixteen sessions with eight saves of 128 MB in flight."""
        sessions = [f"{self.attacker}-{n}" for n in range(16)]
        code = """
import _carrel_host, time
for n in range(8):
    _carrel_host.call('artifacts.save', b'{"name":"flood%d","type":"bytes","size":134217728}' % n,
                      bytes(1 << 16))
time.sleep(1)
"""
        with self.watched():
            replies = harness.run_at_once([lambda s=s: self.server.execute(s, code, timeout=8)
                                           for s in sessions])
        self.assertEqual({r["verdict"] for r in replies}, {"succeeded"}, replies)
        for session in sessions:
            self.server.request("DELETE", "session", session)

    def test_large_saves_of_many_sessions_at_once(self):
        sessions = [f"{self.attacker}-{n}" for n in range(6)]
        with self.watched(seconds_max=4):
            harness.run_at_once([
                lambda s=s: self.server.execute(
                    s, f"artifacts.save({s!r}, bytes(64 << 20))\nartifacts.delete({s!r})",
                    timeout=30) for s in sessions])
        for session in sessions:
            self.server.request("DELETE", "session", session)

    def test_forked_children_and_threads_ask_for_nothing_that_is_not_theirs(self):
        reply = self.attack("""
pid = os.fork()
if pid == 0:
    try:
        artifacts.load('mine')
        os._exit(0)
    except RuntimeError:
        os._exit(7)
os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])""")
        self.assertEqual(reply["result"]["executionResult"], 7, reply)


class SlowReaders(unittest.TestCase):
    def test_clients_that_ask_for_artifacts_and_take_nothing(self):
        """What waits for them is bounded; the others are told, and when they are gone it is free."""
        with harness.Server({"pools": [{"name": "default", "memory": "768m"}]}) as server:
            caller = Caller(server, server.token, "some-session")
            caller.value("artifacts.save('large', bytes(100 << 20))\n1")
            gateway = server.process.pid
            before = hostile.resident_bytes(gateway)
            request = (f"GET /api/artifacts/large HTTP/1.1\r\nHost: x\r\n"
                       f"Authorization: Bearer {server.token}\r\n\r\n").encode()
            # More than may be sent to at once, of one tenant.
            readers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(140)]
            try:
                for reader in readers:
                    reader.settimeout(20)
                    reader.sendall(request)
                heads = [reader.recv(12) for reader in readers]
                self.assertIn(b"HTTP/1.1 200", heads)
                self.assertIn(b"HTTP/1.1 503", heads)
                self.assertLess(hostile.resident_bytes(gateway) - before, 128 << 20)
                self.assertEqual(caller.value("6 * 7"), 42)
            finally:
                for reader in readers:
                    reader.close()
            self.assertTrue(hostile.wait_until(
                lambda: caller.send("GET", "/api/artifacts/large").status == 200, 20))
            self.assertEqual(len(caller.send("GET", "/api/artifacts/large").body), 100 << 20)


# --- skills that attack who reads them -------------------------------------------------------------

HOSTILE_SOURCES = {
    "parentheses": "(" * 100000,
    "brackets": "def run():\n    return " + "[" * 190 + "]" * 190,
    "unary": "def run(x=" + "-" * 200000 + "1):\n    pass",
    "attributes": "def run(x=a" + ".a" * 200000 + "):\n    pass",
    "additions": "def run(x=" + "1+" * 200000 + "1):\n    pass",
    "unions": "def run(x: int" + " | None" * 1400 + "):\n    pass",
    "unions, deep": "def run(x: int" + " | None" * 100000 + "):\n    pass",
    "optionals": "def run(x: " + "Optional[" * 90 + "int" + "]" * 90 + "):\n    pass",
    "text of text": "def run(x: " + repr("Optional[" * 90 + "'int'" + "]" * 90) + "):\n    pass",
    "one line": "def run(): pass #" + "x" * 1000000,
    "many lines": "def run(): pass\n" + "\n" * 1000000,
    "many arguments": "def run(" + ",".join(f"a{n}" for n in range(60000)) + "): pass",
    "huge integer": "def run(x=" + "9" * 900000 + "): pass",
    "huge power": "def run(x=9**9**9): pass",
    "huge hex": "def run(x=0x" + "f" * 900000 + "): pass",
    "huge repeat": "def run(x='x' * 10 ** 12): pass",
    "nul": "def run():\n    return '\0'",
    "decorators": "@(__import__('os')._exit(1))\n" * 1000 + "def run(): pass",
    "coding": "# coding: rot13\nqrs eha(): cnff\ndef run(): pass",
    "coding, unknown": "# coding: no-such-thing\ndef run(): pass",
    "formats": "def run(x=f'{" + "1" + "}'): pass",
    "nested formats": "def run(x=" + "f'{" * 3 + "1" + "}'" * 3 + "): pass",
    "indentation": "def run():\n" + "".join(" " * n + "if 1:\n" for n in range(1, 99)),
    "lambdas": "def run(x=" + "lambda: " * 50000 + "1): pass",
    "byte order mark": "\ufeffdef run(): pass",
    "separators": "def run(x='\u2028\u2029\x85'): pass",
    "escape of the literal": "'''\"\"\"\\\\\\');__import__('os')._exit(3)#\"\ndef run(): pass",
    "ends the call": "\"))\nimport os; os._exit(1)\n#",
    "backslashes": "\\" * 100000,
    "imports": "import os, sys\nos._exit(1)\nsys.exit()\ndef run(): pass",
    "match": "match x:\n" + " case 1: pass\n" * 20000 + "def run(): pass",
}


class HostileSkills(TenantsCase):
    GOOD = '"""A good one."""\ndef run(n: int = 1):\n    return n\n'

    def assert_a_good_one_works(self, seconds_max=5):
        name = f"good_{uuid.uuid4().hex[:8]}"
        begun = time.monotonic()
        reply = self.b.send("POST", "/api/skills", {
            "name": name, "source": self.GOOD + f"# {name}\n", "description": ""})
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(reply.json()["description"], "A good one.")
        self.assertEqual([p["name"] for p in reply.json()["parameters"]], ["n"])
        self.assertLess(time.monotonic() - begun, seconds_max)
        self.b.send("DELETE", f"/api/skills/{name}")

    def test_each_hostile_source(self):
        for what, source in HOSTILE_SOURCES.items():
            with self.subTest(what=what):
                reply = self.a.send("POST", "/api/skills", {
                    "name": "hostile", "source": source, "description": ""})
                self.assertIn(reply.status, (200, 400, 422), reply)
                if reply.status == 400:
                    self.assertNotIn("_carrel", reply.json()["detail"])
                self.a.send("DELETE", "/api/skills/hostile")
        self.assert_a_good_one_works()

    def test_a_good_one_after_each_that_breaks_the_parser(self):
        for what in ("unary", "additions", "unions", "unions, deep", "attributes", "lambdas"):
            with self.subTest(what=what):
                self.a.send("POST", "/api/skills", {
                    "name": "hostile", "source": HOSTILE_SOURCES[what] + f"# {uuid.uuid4()}",
                    "description": ""})
                self.assert_a_good_one_works()
        self.a.send("DELETE", "/api/skills/hostile")

    def test_surrogates_and_nuls_in_host_calls(self):
        for source in ("'\\ud800'", "'def run():\\n    return \"\\0\"'", "'\\0' * 1000"):
            said = self.a.error(f"skills.create('odd', {source})")
            self.assertRegex(said, "^(SyntaxError|ValueError|UnicodeEncodeError|RuntimeError)")
        self.assert_a_good_one_works()

    def test_what_one_says_of_its_own_does_not_become_anothers(self):
        """The same name, the same first bytes, and results that look like others'."""
        lie = '"""[{\\"name\\": \\"zebra\\", \\"description\\": \\"a lie\\"}]"""\ndef run(): pass\n'
        self.b.send("POST", "/api/skills", {"name": "zebra", "source": lie, "description": ""})
        self.b.send("POST", "/api/skills", {"name": "zebra2", "source": SKILL + "\n",
                                            "description": "a lie"})
        self.assertEqual(self.a.send("GET", "/api/skills/zebra").json()["description"],
                         "The zebra of a.")
        for name in ("zebra", "zebra2"):
            self.b.send("DELETE", f"/api/skills/{name}")

    def test_a_neighbour_does_not_wait_behind_a_thousand_slow_sources(self):
        """Sixty-four calls of each of four sessions, each with a source that takes long to parse."""
        slow = "def run(): pass\nx = [" + "a.b(c)[d]," * 60000 + "]\n"
        code = f"""
import _carrel_host, json
slow, sent = {slow!r}, 0
for n in range(60):
    _carrel_host.call('skills.create', json.dumps(
        {{'name': f's{{n}}', 'source': slow + f'#{{n}} {{id(n)}}', 'description': ''}}).encode())
    sent += 1
    print(sent, flush=True)
import time; time.sleep(8)"""
        sessions = [self.a.with_session(f"slow-{n}") for n in range(4)]
        answers = []
        threads = [threading.Thread(target=lambda s=s: answers.append(s.run(code, 9)), daemon=True)
                   for s in sessions]
        for thread in threads:
            thread.start()
        time.sleep(2)
        for _ in range(3):
            # One source has five seconds at most, then half a second's grace.
            self.assert_a_good_one_works(seconds_max=8)
        for thread in threads:
            thread.join(30)
        # They were at it all the time: what they ask faster than it is done waits in them.
        for answer in answers:
            self.assertRegex(answer["stdout"], "^1\n")
            self.assertIn(answer["verdict"], ("time_limit", "succeeded"), answer["error"])
        self.assertEqual(len(answers), 4)


# --- a second writer of the store's directories ----------------------------------------------------

class ForeignFiles(unittest.TestCase):
    """What somebody else puts into the directories: it is left out or refused, at once."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="carrel-store-")
        cls.addClassCleanup(cls.directory.cleanup)
        cls.base = pathlib.Path(cls.directory.name)
        cls.base.chmod(0o777)
        (cls.base / "outside").write_text("the-secret-of-a")
        (cls.base / "outside").chmod(0o644)
        cls.store = cls.base / "store"
        cls.store.mkdir()
        cls.store.chmod(0o777)
        for part in ("skills", "artifacts", "deps", "tools"):
            (cls.store / part).mkdir()
            (cls.store / part).chmod(0o777)
        cls.server = harness.Server({"code_mode": {"storage": {"dir": str(cls.store)}}})
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.own = Caller(cls.server, cls.server.token, "own-session")

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), "the gateway is gone")
        begun = time.monotonic()
        self.own.value("artifacts.save('good', 'yes')\n"
                       "skills.create('good', 'def run():\\n    return 5')\n1")
        self.assertEqual(self.own.value("artifacts.load('good')"), "yes")
        self.assertEqual(self.own.value("skills.good()"), 5)
        self.assertIn("good", self.own.value("[s['name'] for s in skills.list()]"))
        self.assertLess(time.monotonic() - begun, 5)

    def put(self, part, name):
        """Each kind of thing that is no file, one after the other, as NAME of that PART."""
        path = self.store / part / name

        def far_link():
            path.symlink_to(self.base / "outside")

        def device_link():
            path.symlink_to("/dev/zero")

        def loop_link():
            path.symlink_to(path.name)

        def fifo():
            os.mkfifo(path)
            path.chmod(0o666)

        def sock():
            with socket.socket(socket.AF_UNIX) as s, contextlib.suppress(OSError):
                s.bind(str(path))

        def directory():
            path.mkdir()
            (path / "x").write_text("x")

        def sparse():
            with open(path, "wb") as f:
                f.truncate(1 << 40)

        def unreadable():
            path.write_text("x")
            path.chmod(0)

        for make in (far_link, device_link, loop_link, fifo, sock, directory, sparse, unreadable):
            aside = None
            if path.exists():
                aside = path.with_name("aside")
                path.rename(aside)
            make()
            path.parent.touch()
            try:
                yield make.__name__
            finally:
                if path.is_dir() and not path.is_symlink():
                    for entry in path.rglob("*"):
                        entry.unlink()
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
                if aside is not None:
                    aside.rename(path)

    def assert_quick(self, code):
        begun = time.monotonic()
        said = self.own.error(code)
        self.assertLess(time.monotonic() - begun, 4, code)
        self.assertNotIn("the-secret-of-a", said)
        return said

    def test_as_a_skill(self):
        for kind in self.put("skills", "odd.py"):
            with self.subTest(kind=kind):
                self.assertNotIn("odd", self.assert_quick("skills.list()"))
                self.assert_quick("skills.get('odd')")
                self.assert_quick("skills.search('odd')")

    def test_as_a_sidecar_of_a_skill(self):
        self.own.value("skills.create('good', 'def run():\\n    return 5')\n1")
        for kind in self.put("skills", ".good.json"):
            with self.subTest(kind=kind):
                self.assertIn("good", self.assert_quick("skills.list()"))

    def test_as_an_artifact(self):
        for kind in self.put("artifacts", "odd"):
            with self.subTest(kind=kind):
                self.assert_quick("artifacts.list()")
                self.assert_quick("artifacts.get('odd')")
                if kind != "sparse":
                    self.assert_quick("artifacts.load('odd')")
                self.assert_quick("artifacts.register('odd', 'd')")
                self.assert_quick("artifacts.delete('odd')")

    def test_a_sparse_artifact_is_not_read_whole(self):
        path = self.store / "artifacts" / "sparse"
        with open(path, "wb") as f:
            f.truncate(1 << 40)
        before = hostile.resident_bytes(self.server.process.pid)
        self.assertNotIn("b'", self.assert_quick("artifacts.load('sparse')"))
        reply = self.own.send("GET", "/api/artifacts/sparse")
        self.assertIn(reply.status, (400, 413, 503), reply)
        self.assertLess(hostile.resident_bytes(self.server.process.pid) - before, 64 << 20)
        path.unlink()

    def test_as_the_index_of_artifacts(self):
        self.own.value("artifacts.save('good', 'yes')\n1")
        for kind in self.put("artifacts", ".artifacts.json"):
            with self.subTest(kind=kind):
                self.assert_quick("artifacts.list()")
                self.assert_quick("artifacts.save('good', 'yes')")
                self.assert_quick("artifacts.load('good')")

    def test_as_the_lock(self):
        for part in ("artifacts", "skills"):
            for kind in self.put(part, ".carrel-lock"):
                with self.subTest(part=part, kind=kind):
                    self.assert_quick("artifacts.save('good', 'yes')")
                    self.assert_quick("skills.create('good', 'def run():\\n    return 5')")

    def test_as_the_list_of_requirements(self):
        for kind in self.put("deps", "requirements.txt"):
            with self.subTest(kind=kind):
                self.assert_quick("deps.list()")

    def test_as_a_directory_of_an_artifact(self):
        (self.base / "elsewhere").mkdir(exist_ok=True)
        (self.base / "elsewhere").chmod(0o777)
        link = self.store / "artifacts" / "linked"
        link.symlink_to(self.base / "elsewhere")
        self.assert_quick("artifacts.save('linked/x', 'written outside')")
        self.assertEqual(list((self.base / "elsewhere").iterdir()), [])
        (self.base / "elsewhere" / "y").write_text("the-secret-of-a")
        self.assert_quick("artifacts.load('linked/y')")
        self.assert_quick("artifacts.delete('linked/y')")
        self.assertTrue((self.base / "elsewhere" / "y").exists())
        self.assertNotIn("linked/y", self.assert_quick("artifacts.list()"))
        link.unlink()

    def test_an_index_that_lies(self):
        index = self.store / "artifacts" / ".artifacts.json"
        self.own.value("artifacts.save('good', 'yes')\n1")
        kept = index.read_text()
        lies = ["", "[]", "null", "{", "[" * 100000, '{"good": 5, "../outside": {"description": "x"}}',
                '{"/etc/passwd": {"description": "x", "created_at": "x", "metadata": {}}}',
                '{"good": {"description": 5, "metadata": [], "created_at": {}}}',
                '{"good": {"metadata": {"_data_type": "nonsense"}}}', "\xff\xfe", "{}" * 1000]
        for lie in lies:
            with self.subTest(lie=lie[:40]):
                index.write_text(lie, encoding="latin-1")
                for code in ("artifacts.list()", "artifacts.load('good')",
                             "artifacts.get('../outside')", "artifacts.get('/etc/passwd')"):
                    said = self.assert_quick(code)
                    self.assertNotIn("root:", said)
                    self.assertNotIn("name='../outside'", said)
                    self.assertNotIn("name='/etc/passwd'", said)
        index.write_text(kept)


# --- secrets ---------------------------------------------------------------------------------------

class Secrets(unittest.TestCase):
    def test_no_process_and_no_answer_says_them(self):
        redis = RedisServer()
        self.addCleanup(redis.stop)
        with tempfile.TemporaryDirectory() as base:
            secret_file = pathlib.Path(base) / "secret"
            secret_file.write_text("the-text-of-a-secret-file")
            secret_file.chmod(0o644)
            pathlib.Path(base).chmod(0o755)
            token = "the-token-of-this-server-" + uuid.uuid4().hex
            config = tenants_config(code_mode={"tools": {"secrets": {
                "KEY": {"file": str(secret_file)}}}})
            server = harness.Server(config, token=token, environment={
                "REDIS_URL": redis.url})
            secrets = [token, redis.PASSWORD, "the-text-of-a-secret-file", token_of("a"),
                       token_of("b")]
            server.start()
            self.addCleanup(server.stop)
            caller = Caller(server, token, "some-session")
            said = self.answers_of(caller)
            pids = [server.process.pid, *processes.descendants(server.process.pid)]
            self.assertGreater(len(pids), 2)
            for pid in pids:
                for name in ("environ", "cmdline"):
                    with contextlib.suppress(OSError):
                        said[f"{name} of {pid}"] = pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
            redis.process.kill()
            for code in ("artifacts.list()", "artifacts.save('x', 'y')", "skills.list()",
                         "deps.list()"):
                said["down: " + code] = caller.error(code).encode()
            said["down: HTTP"] = caller.send("GET", "/api/artifacts").body
            said["log"] = json.dumps(server.events).encode()
            for what, text in said.items():
                for secret in secrets:
                    self.assertNotIn(secret.encode(), text, f"{secret} is in {what}")

    def answers_of(self, caller):
        said = {path: caller.send("GET", path).body for path in (
            "/info", "/health", "/metrics", "/api/artifacts", "/api/tools", "/api/deps",
            "/api/artifacts/none")}
        for code in ("artifacts.path", "dict(__import__('os').environ)", "repr(artifacts)", "repr(deps)", "repr(tools)",
                     "open('/proc/self/environ').read()", "open('/proc/1/environ').read()",
                     "open('/proc/self/cmdline').read()"):
            said[code] = caller.error(code).encode()
        said["wrong token"] = caller.send("GET", "/info", headers={
            "Authorization": "Bearer " + caller.token[:-1]}).body
        return said


# --- a store that does not serve -------------------------------------------------------------------

class FalseRedis:
    """Answers every command with the same bytes, after the greeting; or with none."""

    def __init__(self, answer, greet=True):
        self.answer = answer
        self.greet = greet
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.clients = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError):
            pending = b""
            while piece := client.recv(65536):
                pending += piece
                while self.greet and (found := self._greeting(pending)):
                    client.sendall(b"+PONG\r\n" if b"PING" in pending[:found] else b"+OK\r\n")
                    pending = pending[found:]
                if pending:
                    pending = b""
                    if self.answer is None:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                    client.sendall(self.answer)

    @staticmethod
    def _greeting(pending):
        """How long the command of the greeting at the start is."""
        for word, lines in ((b"*1\r\n$4\r\nPING\r\n", 0), (b"*3\r\n$6\r\nCLIENT\r\n", 4)):
            if pending.startswith(word):
                at = len(word)
                for _ in range(lines):
                    at = pending.find(b"\r\n", at) + 2
                return at
        return 0

    def stop(self):
        self.listener.close()
        for client in self.clients:
            client.close()


class Unserved(unittest.TestCase):
    """Whatever its Redis does, a server says so within seconds, and what needs no store goes on."""

    ANSWERS = {
        "nothing": b"",
        "garbage": os.urandom(4096) + b"\r\n",
        "closes": None,
        "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "of another type": b"+OK\r\n" * 8,
        "numbers": b":5\r\n" * 8,
        "nil": b"$-1\r\n*-1\r\n",
        "a huge array": b"*2147483647\r\n",
        "a large array": b"*1000000\r\n" + b"*1000000\r\n" * 6,
        "a huge text": b"$2147483000\r\n" + b"x" * 100000,
        "half a text": b"$100\r\nhalf",
        "negative": b"$-5\r\n", "deep": b"*1\r\n" * 20,
        "errors": b"-ERR " + b"x" * 5000 + b"\r\n",
        "arrays of the wrong things": b"*3\r\n:1\r\n+x\r\n*0\r\n" * 3,
        "a message": b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n:5\r\n",
        "odd hash": b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n" * 3,
    }

    def check(self, name, answer, greet=True):
        redis = FalseRedis(answer, greet)
        self.addCleanup(redis.stop)
        with harness.Server(environment={"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"},
                            config={"pools": [{"name": "default", "ready_sessions": 2}]}) as server:
            caller = Caller(server, server.token, "some-session")
            before = hostile.resident_bytes(server.process.pid)
            caller.value("x = 5")
            begun = time.monotonic()
            codes = ("artifacts.exists('x')", "artifacts.list()", "artifacts.load('x')",
                     "artifacts.save('x', b'y' * 100000)", "skills.list()", "deps.list()",
                     "skills.get('x')")
            harness.run_at_once([lambda c=code, n=n: caller.with_session(f"session-{n}").error(c)
                                 for n, code in enumerate(codes)])
            self.assertLess(time.monotonic() - begun, 15, name)
            begun = time.monotonic()
            self.assertEqual(caller.value("x"), 5)
            self.assertLess(time.monotonic() - begun, ANSWER_SECONDS)
            self.assertLess(hostile.resident_bytes(server.process.pid) - before, 128 << 20)
            self.assertIsNone(server.process.poll())


def _unserved(name, answer, greet):
    return lambda self: self.check(name, answer, greet)


for _name, _answer in Unserved.ANSWERS.items():
    setattr(Unserved, "test_redis_answers_" + _name.replace(" ", "_"),
            _unserved(_name, _answer, True))
Unserved.test_redis_never_greets = _unserved("no greeting", b"", False)


class Waiting(unittest.TestCase):
    """Calls that wait for a store that hangs are held within a bound."""

    def test_large_arguments_that_wait(self):
        redis = FalseRedis(b"")
        self.addCleanup(redis.stop)
        with harness.Server(environment={"REDIS_URL": f"redis://127.0.0.1:{redis.port}/0"},
                            config={"pools": [{"name": "default", "ready_sessions": 4}]}) as server:
            before = hostile.resident_bytes(server.process.pid)
            code = """
import _carrel_host, json, time
for n in range(6):
    _carrel_host.call(METHOD, json.dumps(ARGUMENTS).encode())
time.sleep(1)"""
            for method, arguments in (
                    ("skills.search", "{'query': 'x' * (4 << 20)}"),
                    ("skills.get", "{'name': 'x' * (4 << 20)}"),
                    ("tools.call", "{'tool': 'x', 'arguments': {'x': 'x' * (4 << 20)}}"),
                    ("artifacts.save", "{'name': 'x', 'type': 'text', 'size': 1 << 20, "
                                       "'metadata': {'x': 'x' * (4 << 20)}}"),
                    ("skills.create", "{'name': 'x', 'source': 'def run(): pass #' + 'x' * 900000, "
                                      "'description': 'x' * 900000}")):
                with self.subTest(method=method):
                    cell = code.replace("METHOD", repr(method)).replace("ARGUMENTS", arguments)
                    peak, done = [0], threading.Event()

                    def watch():
                        while not done.wait(0.02):
                            peak[0] = max(peak[0], hostile.resident_bytes(server.process.pid))

                    watcher = threading.Thread(target=watch)
                    watcher.start()
                    try:
                        replies = harness.run_at_once([lambda n=n: server.execute(
                            f"waiting-{n}", cell, timeout=40) for n in range(3)])
                    finally:
                        done.set()
                        watcher.join()
                    self.assertEqual({r["verdict"] for r in replies}, {"succeeded"}, replies)
                    self.assertLess(peak[0] - before, 96 << 20)


@unittest.skipUnless(os.geteuid() == 0, "only root can mount a small disk")
class FullDisk(unittest.TestCase):
    def test_a_full_disk_is_told_and_nothing_is_lost(self):
        with tempfile.TemporaryDirectory() as base:
            os.chmod(base, 0o755)
            small = pathlib.Path(base) / "small"
            small.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", str(small)],
                           check=True)
            try:
                self.fill(small)
            finally:
                subprocess.run(["umount", "-l", str(small)], check=True)

    def fill(self, small):
        with harness.Server({"code_mode": {"storage": {"dir": str(small)}}}) as server:
            caller = Caller(server, server.token, "some-session")
            caller.value("artifacts.save('kept', 'yes')\nx = 5")
            said = caller.error("artifacts.save('large', bytes(8 << 20))")
            self.assertRegex(said, "^(StorageError|ValueError): .*no room")
            for n in range(200):
                said = caller.error(f"artifacts.save('n{n}', bytes(64 << 10))")
                if "no room" in said:
                    break
            self.assertIn("no room", said)
            said = caller.error("skills.create('s', 'def run():\\n    return 5' + '#' * 200000)")
            self.assertIn("no room", said)
            reply = caller.send("POST", "/api/artifacts", {"name": "l", "data": "x" * 500000})
            self.assertIn("no room", reply.json()["detail"])
            self.assertEqual(caller.value("[x, artifacts.load('kept')]"), [5, "yes"])
            self.assertIs(caller.value("artifacts.exists('large')"), False)
            caller.value("artifacts.delete('n0')\nartifacts.delete('n1')\n1")
            caller.value("artifacts.save('kept', 'again')\n1")
            self.assertEqual(caller.value("artifacts.load('kept')"), "again")


if __name__ == "__main__":
    unittest.main()

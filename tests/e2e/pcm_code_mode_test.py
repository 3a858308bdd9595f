"""py-code-mode's wire and code mode together, against the real server: skills and workflows, artifacts
and dependencies over HTTP and from inside sessions, workspaces, tenants, two servers on one store."""

import json
import pathlib
import re
import sys
import tempfile
import unittest
import urllib.parse
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import CARREL, Server  # noqa: E402
from pcm_wire_test import Client, WireCase  # noqa: E402

SYNC = '"""Say it again.\n\nMore."""\ndef run(text: str, times: int = 2) -> str:\n    return text * times\n'
ASYNC = "async def run(text: str):\n    return text.upper()\n"
SYNCED = {"installed", "already_present", "failed"}
BATCH = SYNCED | {"removed", "not_found"}


class CodeModeCase(WireCase):
    def get(self, path, client=None, status=200):
        reply = (client or self.me).send("GET", path)
        self.assertEqual(reply.status_code, status, reply.text)
        return reply.json()

    def post(self, path, body, client=None, status=200):
        reply = (client or self.me).send("POST", path, body)
        self.assertEqual(reply.status_code, status, reply.text)
        return reply.json()

    def delete(self, path, client=None, status=200):
        reply = (client or self.me).send("DELETE", path)
        self.assertEqual(reply.status_code, status, reply.text)
        return reply.json()

    def given(self, workspace=None):
        body = {} if workspace is None else {"workspace_id": workspace}
        return self.client(self.post("/sessions", body, self.client(None))["session_id"])

    def name(self, word):
        return f"{word}_{uuid.uuid4().hex[:8]}"


class Skills(CodeModeCase):
    def test_made_over_http_used_in_a_session(self):
        for source, expected in ((SYNC, "abab"), (ASYNC, "AB")):
            name = self.name("say")
            made = self.post("/api/skills", {"name": name, "source": source, "description": ""})
            self.assertEqual((made["name"], made["source"]), (name, source))
            self.assertEqual(self.me.value(f"skills.{name}(text='ab')"), expected)
            self.assertEqual(self.me.value(f"skills.invoke('{name}', text='ab')"), expected)
            self.assertEqual(self.client().value(f"workflows.{name}(text='ab')"), expected)
            self.assertIs(self.delete(f"/api/skills/{name}"), True)
            self.assertIs(self.delete(f"/api/workflows/{name}"), False)
            self.assertIsNone(self.get(f"/api/skills/{name}"))

    def test_made_in_a_session_found_over_http(self):
        name = self.name("again")
        self.me.value(f"skills.create({name!r}, {SYNC!r}) and None")
        skill = self.get(f"/api/skills/{name}")
        self.assertEqual(skill["description"], "Say it again.")
        self.assertEqual(skill["parameters"], [
            {"name": "text", "type": "string", "description": "", "required": True, "default": None},
            {"name": "times", "type": "integer", "description": "", "required": False, "default": 2}])
        workflow = self.get(f"/api/workflows/{name}")
        self.assertEqual(workflow, {"name": name, "description": "Say it again.", "source": SYNC,
                                    "params": {"text": "string", "times": "integer"}})
        for view, key in (("skills", "parameters"), ("workflows", "params")):
            listed = [s for s in self.get(f"/api/{view}") if s["name"] == name]
            self.assertEqual(listed[0][key], (skill if view == "skills" else workflow)[key])
            found = self.get(f"/api/{view}/search?query=say+again&limit=50")
            self.assertIn(name, [s["name"] for s in found])
            self.assertIn(name, [s["name"] for s in self.get("/info")[view]])

    def test_what_is_refused(self):
        for name, source in (("a-b", SYNC), ("list", SYNC), ("", SYNC), ("../x", SYNC),
                             ("x", "def run("), ("x", "y = 1"), ("x", "")):
            with self.subTest(name=name, source=source):
                reply = self.me.send("POST", "/api/skills",
                                     {"name": name, "source": source, "description": "d"})
                self.assertEqual(reply.status_code, 400, reply.text)
                self.assertIsInstance(reply.json()["detail"], str)
        # The reference: 500.
        self.assertIsInstance(self.delete("/api/skills/..%2fx", status=400)["detail"], str)

    def test_a_skill_is_parsed_and_not_run(self):
        # The reference's v0.10 runs a module once, in the server, when it is made.
        name = self.name("evil")
        source = "import os\nos._exit(7)\nraise SystemExit\ndef run(): pass\n"
        self.post("/api/skills", {"name": name, "source": source, "description": "d"})
        self.assertEqual(self.me.http.get("/health").json()["status"], "healthy")
        self.delete(f"/api/skills/{name}")


class Artifacts(CodeModeCase):
    def test_types_over_http_and_inside(self):
        for data in ("some text", {"k": [1, 0.1, None, "\u00e9"]}, [1, [2]], ""):
            name = self.name("a") + "/of it"
            path = "/api/artifacts/" + urllib.parse.quote(name, safe="")
            made = self.post("/api/artifacts", {"name": name, "data": data, "description": "d",
                                                "metadata": {"m": 1}})
            self.assertEqual((made["name"], made["description"], made["metadata"]),
                             (name, "d", {"m": 1}))
            self.assertEqual(self.get(path), data)
            self.assertEqual(self.me.value(f"artifacts.load({name!r})"), data)
            listed = [a for a in self.get("/api/artifacts") if a["name"] == name]
            self.assertEqual([a["metadata"] for a in listed], [{"m": 1}])
            self.assertIsNone(self.delete(path))
            self.assertEqual(self.delete(path, status=404),
                             {"detail": f"Artifact '{name}' not found"})

    def test_of_other_types_the_text(self):
        for data, text in ((42, "42"), (1.5, "1.5"), (True, "True"), (None, "None")):
            self.post("/api/artifacts", {"name": "scalar", "data": data})
            self.assertEqual(self.get("/api/artifacts/scalar"), text)

    def test_bytes_and_slashes(self):
        # 500 and 404 in the reference.
        data = bytes(range(256)) * 100
        self.me.value("artifacts.save('raw/b', bytes(range(256)) * 100) and None")
        for path in ("/api/artifacts/raw/b", "/api/artifacts/raw%2Fb"):
            reply = self.me.send("GET", path)
            self.assertEqual(reply.headers["content-type"], "application/octet-stream")
            self.assertEqual(reply.content, data)

    def test_128_mib_come_back_and_the_server_never_holds_them(self):
        # Beyond a mebibyte an artifact goes out as it is read.
        size = 128 << 20
        pid = self.server.process.pid
        peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(
            f"/proc/{pid}/status").read_text()).group(1)) << 10
        self.me.value(f"artifacts.save('big.bin', b'abcd' * {size // 4}) and None", timeout=60)
        self.me.value(f"artifacts.save('big.txt', 'x' * {size - 3} + '\\n\u00e9') and None", timeout=60)
        self.me.value(f"artifacts.save('big.json', ['y' * {size - 64}, float('nan')]) and None", timeout=60)
        before = peak()
        for name, length, head, tail in (
                ("big.bin", size, b"abcd", b"abcd"),
                ("big.txt", size + 3, b'"xx', b'x\\n\xc3\xa9"'),
                ("big.json", size - 48, b'[\n  "y', b'y",\n  null\n]')):
            with self.subTest(name=name):
                got, first, last = 0, b"", b""
                with self.me.http.stream("GET", f"/api/artifacts/{name}", headers={
                        "Authorization": f"Bearer {self.me.token}"}) as reply:
                    self.assertEqual(reply.status_code, 200)
                    for piece in reply.iter_bytes():
                        first, last = (first + piece)[:100], last[-100:] + piece
                        got += len(piece)
                self.assertEqual((first[:len(head)], last[-len(tail):], got), (head, tail, length))
                self.assertIsNone(self.delete(f"/api/artifacts/{name}"))
        self.assertLess(peak() - before, 16 << 20)

    def test_what_json_cannot_say_does_not_break_it(self):
        self.me.value("artifacts.save('odd', {'n': float('nan'), 's': '\\ud800'}) and None")
        reply = self.me.send("GET", "/api/artifacts/odd")
        self.assertEqual(json.loads(reply.content, parse_constant=self.fail),
                         {"n": None, "s": "\ufffd"})
        self.assertEqual(self.me.value("a = artifacts.load('odd'); [a['n'] != a['n'], len(a['s'])]"),
                         [True, 1])

    def test_names_that_lead_out(self):
        for name in ("../x", "/etc/passwd", "a/../../x", "", "a\u0000b"):
            reply = self.me.send("POST", "/api/artifacts", {"name": name, "data": "x"})
            self.assertIn(reply.status_code, (400, 422), reply.text)
        for path in ("..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "a%2f..%2f..%2fx"):
            for method in ("GET", "DELETE"):
                reply = self.me.send(method, f"/api/artifacts/{path}")
                self.assertEqual(reply.status_code, 400, reply.text)


@unittest.skipUnless(CARREL.with_name("carrel-runner").exists(), "this build has no runner")
class Tools(CodeModeCase):
    YAML = ("name: echo\ndescription: Say it\ntags: [words, test]\ncommand: echo\n"
            "schema:\n  positional:\n    - {name: text, type: string, required: true}\n"
            "recipes:\n  say: {description: Say a text, params: {text: {}}}\n")

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix="carrel-tools-")
        cls.addClassCleanup(directory.cleanup)
        tools = pathlib.Path(directory.name)
        tools.chmod(0o755)
        (tools / "echo.yaml").write_text(cls.YAML)
        (tools / "bad.yaml").write_text("name: [")
        cls.options = {"environment": {"TOOLS_PATH": str(tools)}}
        super().setUpClass()

    def test_each_once_with_its_tags(self):
        # In the reference each is listed twice, none in /info, and tags are dropped.
        tools = self.wait_until(lambda: self.get("/api/tools"), "no tools")
        self.assertEqual([t["name"] for t in tools], ["echo"])
        self.assertEqual((tools[0]["description"], tools[0]["tags"]), ("Say it", ["words", "test"]))
        self.assertEqual(tools[0]["callables"][0]["name"], "say")
        self.assertEqual(tools[0]["callables"][0]["parameters"][0]["name"], "text")
        self.assertEqual(self.get("/info")["tools"], [{"name": "echo", "description": "Say it"}])
        self.assertEqual([t["name"] for t in self.get("/api/tools/search?query=echo")], ["echo"])

    def test_called_in_a_session(self):
        self.wait_until(lambda: self.get("/api/tools"), "no tools")
        self.assertEqual(self.me.value("tools.echo.say(text='a b')").strip(), "a b")


class Workspaces(CodeModeCase):
    def test_one_shares_and_two_do_not(self):
        a1, a2, b, none = self.given("ws-a"), self.given("ws-a"), self.given("ws-b"), self.given()
        name = self.name("note")
        a1.value(f"artifacts.save({name!r}, 'of a') and None")
        a1.value(f"skills.create({name!r}, {SYNC!r}, 'zebra crossing') and None")
        self.assertEqual(a2.value(f"artifacts.load({name!r})"), "of a")
        self.assertEqual(self.get(f"/api/artifacts/{name}", a2), "of a")
        self.assertEqual(self.get(f"/api/workflows/{name}", a2)["name"], name)
        self.assertEqual(self.get("/api/workflows/search?query=zebra", a2)[0]["name"], name)
        for other in (b, none, self.me):
            self.assertIs(other.value(f"artifacts.exists({name!r})"), False)
            self.get(f"/api/artifacts/{name}", other, 404)
            self.assertIsNone(self.get(f"/api/workflows/{name}", other))
            self.assertEqual(self.get("/api/workflows/search?query=zebra", other), [])
            self.assertNotIn(name, str(self.get("/info", other)))
        # Their variables stay their own.
        a1.execute("x = 1")
        self.assertIn("NameError", a2.execute("x")["error"])

    def test_a_workspace_holds_on_the_other_wire(self):
        given = self.given("both-wires")
        code = "artifacts.save('from azure', 'x') and None\nstr([a.name for a in artifacts.list()])"
        reply = self.server.request("POST", "executions", given.session_id, {"code": code})
        self.assertEqual(reply.json()["result"]["executionResult"], "['from azure']")
        self.assertEqual(self.get("/api/artifacts/from%20azure", given), "x")
        self.assertEqual(given.value("artifacts.load('from azure')"), "x")
        self.get("/api/artifacts/from%20azure", status=404)

    def test_a_crash_keeps_the_workspace(self):
        a = self.given("ws-crash")
        a.value("artifacts.save('kept', 'yes') and None")
        a.execute("import os\nos._exit(1)")
        self.assertEqual(a.value("artifacts.load('kept')"), "yes")


class Dependencies(CodeModeCase):
    def test_shapes(self):
        self.assertEqual(self.get("/api/deps"), [])
        for package in ("a;b", "-r x", "", "a @ http://x", "a b(c)"):
            reply = self.me.send("POST", "/api/deps/add", {"package": package})
            self.assertEqual(reply.status_code, 400, reply.text)
        self.assertEqual(set(self.post("/api/deps/sync", None)), SYNCED)
        self.assertEqual(self.post("/install_deps", {"packages": []}),
                         {name: [] for name in BATCH})
        answer = self.post("/install_deps", {"packages": ["-rfile", "a;b"]})
        self.assertEqual((set(answer), answer["failed"]), (BATCH, ["-rfile", "a;b"]))
        answer = self.post("/uninstall_deps", {"packages": ["never-there", "-y"]})
        self.assertEqual((answer["not_found"], answer["failed"]), (["never-there"], ["-y"]))
        self.assertEqual(self.post("/api/deps/remove", {"package": "never-there"})["removed"], False)
        p5 = self.given()
        self.assertEqual(self.post("/api/deps/remove", {"package": "never-there"}, p5),
                         {"removed": [], "not_found": ["never-there"], "failed": [],
                          "removed_from_config": False})

    def test_switched_off(self):
        with Server(environment={"ALLOW_RUNTIME_DEPS": "false"}) as server, \
                Client(server, "agent-1") as client:
            for path, detail in (("add", "Runtime dependency installation is disabled"),
                                 ("remove", "Runtime dependency modification is disabled")):
                reply = client.send("POST", f"/api/deps/{path}", {"package": "six"})
                self.assert_detail(reply, 403, detail)
            self.assertEqual(client.send("GET", "/api/deps").json(), [])
            self.assertEqual(client.send("POST", "/api/deps/sync").status_code, 200)
            # Not for whoever runs it.
            reply = client.send("POST", "/uninstall_deps", {"packages": ["six"]})
            self.assertEqual(reply.json()["not_found"], ["six"])


class Tenants(unittest.TestCase):
    def test_nothing_of_one_is_seen_by_another(self):
        config = {"auth": {"tokens": [
            {"name": n, "token": f"token-of-{n}", "role": "execute", "prefix": f"tenant-{n}"}
            for n in ("a", "b")]}}
        with Server(config) as server, Client(server, "same-id", "token-of-a") as a, \
                Client(server, "same-id", "token-of-b") as b:
            a.value("x = 1; artifacts.save('secret', 'of a') and None")
            a.value(f"skills.create('mine', {SYNC!r}, 'zebra') and None")
            given = a.send("POST", "/sessions", {"workspace_id": "w"}).json()["session_id"]
            self.assertIn("NameError", b.execute("x")["error"])
            self.assertIs(b.value("artifacts.exists('secret')"), False)
            self.assertEqual(b.value("skills.list()"), [])
            for path, empty in (("/api/skills", []), ("/api/workflows", []), ("/api/artifacts", []),
                                ("/api/skills/search?query=zebra", []), ("/api/skills/mine", None)):
                self.assertEqual(b.send("GET", path).json(), empty)
            self.assertEqual(b.send("GET", "/api/artifacts/secret").status_code, 404)
            self.assertEqual(b.send("DELETE", "/api/artifacts/secret").status_code, 404)
            b.send("POST", "/reset")
            self.assertEqual(a.value("x"), 1)
            # Neither by an id that was given to the other, nor by a workspace of the same name.
            with Client(server, given, "token-of-b") as thief:
                self.assertEqual(thief.send("POST", "/execute", {"code": "1"}).status_code, 400)
                self.assertEqual(thief.send("GET", "/api/workflows").status_code, 400)
            with Client(server, given, "token-of-a") as own:
                own.value("artifacts.save('in w', 1) and None")
            theirs = b.send("POST", "/sessions", {"workspace_id": "w"}).json()["session_id"]
            with Client(server, theirs, "token-of-b") as same:
                self.assertEqual(same.value("artifacts.list()"), [])


class TwoServers(CodeModeCase):
    def test_what_one_learns_the_other_knows_at_once(self):
        # The reference caches at its start: a skill made on one replica is not found on another.
        store = pathlib.Path(self.server.directory.name) / "shared"
        store.mkdir(mode=0o777)
        store.chmod(0o777)
        config = {"code_mode": {"storage": {"dir": str(store)}}}
        with Server(config) as one, Server(config) as two, \
                Client(one, "agent-1") as a, Client(two, "agent-2") as b:
            b.value("skills.list()")
            a.value(f"skills.create('learnt', {SYNC!r}, 'zebra') and None")
            self.assertEqual(b.value("skills.learnt(text='x')"), "xx")
            self.assertEqual(b.send("GET", "/api/skills").json()[0]["name"], "learnt")
            self.assertEqual(b.send("GET", "/api/skills/search?query=zebra").json()[0]["name"],
                             "learnt")
            for n, client in enumerate((a, b, a, b)):
                client.value(f"artifacts.save('n{n}', '{n}') and None")
            for client in (a, b):
                names = [x["name"] for x in client.send("GET", "/api/artifacts").json()]
                self.assertEqual(names, ["n0", "n1", "n2", "n3"])


if __name__ == "__main__":
    unittest.main()

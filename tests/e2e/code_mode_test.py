"""The four names of a session, through a real server: tools, skills, artifacts, deps."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import uuid
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness

PORT_SCAN = '''"""Scan a host."""

def run(target: str, flags: str = "-sV") -> str:
    return f"{target} {flags}"
'''


class Names(harness.ServerCase):
    def value_of(self, code, **options):
        return self.server.value(self.session, code, **options)

    def error_of(self, code):
        reply = self.server.execute(self.session, code)
        self.assertEqual(reply["status"], "Failed", reply)
        return reply["error"]["code"] if "error" in reply else json.dumps(reply)


class Skills(Names):
    def test_a_skill_is_made_found_called_and_deleted(self):
        self.value_of(f"skills.create('port_scan', {PORT_SCAN!r})")
        self.assertEqual(
            self.value_of("skills.port_scan(target='10.0.0.1')"), "10.0.0.1 -sV")
        self.assertEqual(
            self.value_of("skills.list()[0]['params']['target'] and skills.list()[0]['name']"),
            "port_scan")
        # Another session has it at once.
        other = self.session + "-other"
        self.assertEqual(
            self.server.value(other, "skills.invoke('port_scan', target='x', flags='y')"), "x y")
        self.assertEqual(
            self.server.value(other, "[s['name'] for s in skills.search('scanning hosts')][0]"),
            "port_scan")
        self.server.request("DELETE", "session", other)
        self.assertIs(self.value_of("skills.delete('port_scan')"), True)
        self.assertIs(self.value_of("skills.delete('port_scan')"), False)
        self.assertEqual(self.value_of("str(skills.get('port_scan'))"), "None")

    def test_what_is_no_skill_is_refused_with_pythons_errors(self):
        for source, error in (("def run(:", "SyntaxError"), ("x = 1", "ValueError")):
            code = (f"try:\n    skills.create('bad', {source!r})\n"
                    "except Exception as e:\n    kind = type(e).__name__\nkind")
            self.assertEqual(self.value_of(code), error)

    def test_a_source_that_reaches_the_parser_past_the_session_is_checked_again(self):
        """A session may leave out what its own half checks: the server checks by itself."""
        code = '''
from _carrel import calls
try:
    calls.ask("skills.create", {"name": "sly", "source": "x = ("})
except BaseException as e:
    print(type(e).__name__, e)
'''
        reply = self.server.execute(self.session, code)
        self.assertIn("SyntaxError", json.dumps(reply))
        self.assertEqual(self.value_of("[s['name'] for s in skills.list()].count('sly')"), 0)


class Artifacts(Names):
    def test_types_survive_between_sessions(self):
        self.value_of("artifacts.save('dir/a.bin', bytes(range(256)) * 5000)\n"
                      "artifacts.save('b', {'x': [1, 2.5, float('inf'), '\\ud800']})\n"
                      "artifacts.save('c', 'text')\n1")
        other = self.session + "-other"
        self.assertIs(self.server.value(
            other, "artifacts.load('dir/a.bin') == bytes(range(256)) * 5000"), True)
        self.assertIs(self.server.value(
            other, "artifacts.load('b') == {'x': [1, 2.5, float('inf'), '\\ud800']}"), True)
        self.assertEqual(self.server.value(other, "artifacts.load('c')"), "text")
        self.assertIs(self.server.value(
            other, "{a.name for a in artifacts.list()} >= {'dir/a.bin', 'b', 'c'}"), True)
        self.server.request("DELETE", "session", other)

    def test_what_is_not_there_and_what_leads_out(self):
        code = ("try:\n    artifacts.{}\nexcept Exception as e:\n"
                "    said = type(e).__name__ + ': ' + str(e)\nsaid")
        self.assertEqual(self.value_of(code.format("load('zz')")),
                         "ArtifactNotFoundError: Artifact 'zz' not found")
        self.assertEqual(self.value_of(code.format("save('../x', 'y')")),
                         "ValueError: Path traversal attempt detected: '../x'")


ECHO = """
name: echo
description: Say a text again
tags: [demo]
schema:
  positional:
    - {name: text, type: string, required: true}
recipes:
  echo: {description: Say it}
"""


@unittest.skipUnless((harness.BUILD / "carrel-runner").exists(), "this build has no runner")
class Tools(Names):
    @classmethod
    def setUpClass(cls):
        cls.tools = tempfile.TemporaryDirectory(prefix="carrel-tools-")
        cls.addClassCleanup(cls.tools.cleanup)
        base = pathlib.Path(cls.tools.name)
        base.chmod(0o755)
        (base / "echo.yaml").write_text(ECHO)
        cls.config = {"code_mode": {"tools": {"dir": cls.tools.name}}}
        super().setUpClass()

    def test_a_tool_is_listed_found_and_called(self):
        self.assertEqual(self.value_of("tools.echo(text='x y').strip()"), "x y")
        self.assertEqual(self.value_of("' '.join(t.name for t in tools.list())"), "echo")
        self.assertEqual(self.value_of("tools.search('saying again')[0].name"), "echo")

    def test_ten_at_once(self):
        code = ("import asyncio\n"
                "' '.join([t.strip() for t in await asyncio.gather("
                "*[tools.echo(text=str(i)) for i in range(10)])])")
        self.assertEqual(self.value_of(code), " ".join(str(i) for i in range(10)))

    def test_one_that_is_not_there_is_named(self):
        code = ("from _carrel import calls\ntry:\n"
                "    calls.ask('tools.call', {'tool': 'none', 'arguments': {}})\n"
                "except Exception as e:\n    said = type(e).__name__ + ': ' + str(e)\nsaid")
        self.assertEqual(self.value_of(code),
                         "ToolNotFoundError: Tool 'none' not found. Available: echo")


class Spaces(Names):
    options = {"environment": {"TOKEN_A": "a" * 32}}

    @classmethod
    def setUpClass(cls):
        cls.config = {"auth": {"tokens": [
            {"name": "a", "token": "a" * 32, "prefix": "tenant-a", "role": "execute"},
            {"name": "b", "token": "b" * 32, "prefix": "tenant-b", "role": "execute"}]}}
        super().setUpClass()

    def as_tenant(self, letter, code):
        reply = self.server.request(
            "POST", "executions", self.session, {"code": code},
            headers={"Authorization": f"Bearer {letter * 32}"})
        self.assertEqual(reply.status, 200, reply)
        return reply.json()["result"]["executionResult"]

    def test_a_tenants_skills_and_artifacts_are_its_own(self):
        self.as_tenant("a", "artifacts.save('secret', 'of a')\n"
                            "skills.create('mine', 'def run():\\n    return 1')\n1")
        self.assertIs(self.as_tenant("a", "artifacts.exists('secret')"), True)
        self.assertIs(self.as_tenant("b", "artifacts.exists('secret')"), False)
        self.assertEqual(self.as_tenant("b", "len(skills.list())"), 0)
        self.assertIs(self.value_of("artifacts.exists('secret')"), False)
        for name in ("../tenant-a/secret", "/secret", "tenant-a/artifacts/secret"):
            self.assertEqual(self.as_tenant(
                "b", f"try:\n    r = str(artifacts.exists({name!r}))\n"
                     "except ValueError:\n    r = 'False'\nr"), "False")


class Dependencies(Names):
    config = {"code_mode": {"deps": {"allow_runtime": False, "packages": ["Tiny_One==1.0"]}}}

    def test_the_list_and_what_may_not_change(self):
        self.assertEqual(self.value_of("' '.join(deps.list())"), "tiny-one==1.0")
        code = ("try:\n    deps.{}\nexcept Exception as e:\n"
                "    said = type(e).__name__ + ': ' + str(e)\nsaid")
        self.assertEqual(
            self.value_of(code.format("add('x')")),
            "RuntimeDepsDisabledError: Runtime dependency installation is disabled. "
            "Dependencies must be pre-configured before session start.")
        self.assertEqual(
            self.value_of(code.format("remove('tiny-one')")),
            "RuntimeDepsDisabledError: Runtime dependency modification is disabled. "
            "Dependencies must be pre-configured before session start.")


def write_wheel(directory, name, version, source):
    """A wheel of one module, as PEP 427 has it."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", source)
        wheel.writestr(f"{info}/METADATA",
                       f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL",
                       "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
                       "Tag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@unittest.skipUnless((harness.BUILD / "carrel-runner").exists(), "this build has no runner")
class Packages(Names):
    @classmethod
    def setUpClass(cls):
        cls.wheels = tempfile.TemporaryDirectory(prefix="carrel-wheels-")
        cls.addClassCleanup(cls.wheels.cleanup)
        base = pathlib.Path(cls.wheels.name)
        base.chmod(0o755)
        write_wheel(base, "tiny_one", "1.0", "word = 'one'\n")
        write_wheel(base, "tiny_two", "2.0", "word = 'two'\n")
        cls.config = {
            "code_mode": {"deps": {"find_links": cls.wheels.name, "offline": True}},
            "auth": {"tokens": [
                {"name": "a", "token": "a" * 32, "prefix": "tenant-a", "role": "execute"}]}}
        super().setUpClass()

    def test_a_package_reaches_the_session_that_asks_and_its_state_stays(self):
        other = self.session + "-other"
        self.server.value(other, "y = 7\n1")
        self.assertEqual(self.value_of(
            "x = 5\nr = deps.add('tiny_one==1.0')\nimport tiny_one\n"
            "f'{tiny_one.word} {sorted(r.installed)} {x}'"), "one ['tiny-one==1.0'] 5")
        self.assertEqual(self.server.value(other, "import tiny_one\nf'{tiny_one.word} {y}'"),
                         "one 7")
        self.assertEqual(self.value_of(
            "r = deps.add('tiny_one==1.0')\nstr(sorted(r.already_present))"), "['tiny-one==1.0']")
        self.assertEqual(self.value_of(
            "r = deps.add('tiny_two')\nimport tiny_two\nf'{tiny_two.word} {tiny_one.word}'"),
            "two one")
        self.assertEqual(self.value_of(
            "r = deps.add('not_anywhere_to_be_found')\nstr(sorted(r.failed))"),
            "['not-anywhere-to-be-found']")
        # It says why, and is not tried again with each later one.
        self.assertIn("No matching distribution found for not-anywhere-to-be-found",
                      self.value_of("str(r.reasons)"))
        self.assertEqual(self.value_of("str(deps.list())"), "['tiny-one==1.0', 'tiny-two']")
        reply = self.server.request("POST", "api/deps/add", None, {"package": "not_anywhere"},
                                    headers={"X-Session-ID": self.session})
        self.assertIn("No matching distribution", reply.json()["reasons"]["not-anywhere"])
        self.server.request("DELETE", "session", other)
        # Another tenant has none of it.
        reply = self.server.request(
            "POST", "executions", self.session,
            {"code": "import os\nstr(os.listdir('/mnt/packages')) + str(deps.list())"},
            headers={"Authorization": f"Bearer {'a' * 32}"})
        self.assertEqual(reply.json()["result"]["executionResult"], "[][]")


    def test_what_another_session_takes_away_is_gone_from_the_next_cell(self):
        """Also when the session itself got it in the middle of a cell."""
        other = self.session + "-other"
        self.server.value(other, "deps.remove('tiny_two')\ndeps.add('tiny_one==1.0') and None")
        seen = "import sys\nsys.path[-1]"
        before = self.value_of(seen)
        during = self.value_of("deps.add('tiny_two') and None\n" + seen)
        self.assertNotEqual(before, during)
        self.server.value(other, "deps.remove('tiny_two') and deps.sync() and None")
        self.assertEqual(self.value_of(seen), before)
        self.server.request("DELETE", "session", other)


@unittest.skipUnless((harness.BUILD / "carrel-runner").exists(), "this build has no runner")
class PackagesAfterARestart(unittest.TestCase):
    """What one server installed the next one shows again, and installs nothing."""

    def test_they_are_there_before_anybody_asks(self):
        token = "a" * 32
        headers = {"Authorization": f"Bearer {token}"}
        with tempfile.TemporaryDirectory(prefix="carrel-again-") as directory:
            base = pathlib.Path(directory)
            base.chmod(0o777)
            wheels = base / "wheels"
            wheels.mkdir()
            wheels.chmod(0o755)
            write_wheel(wheels, "tiny_one", "1.0", "word = 'one'\n")
            write_wheel(wheels, "tiny_two", "2.0", "word = 'two'\n")
            config = {"data_dir": str(base / "data"),
                      "code_mode": {"deps": {"find_links": str(wheels), "offline": True}},
                      "auth": {"tokens": [{"name": "a", "token": token, "prefix": "tenant-a",
                                           "role": "execute"}]}}

            def ask(server, code, headers=None):
                reply = server.request(
                    "POST", "executions", str(uuid.uuid4()), {"code": code}, headers=headers)
                return reply.json()["result"]["executionResult"]

            def directories():
                return sorted((p.name, p.stat().st_ino) for p in (base / "data").rglob("packages/*")
                              if not p.is_symlink())

            with harness.Server(config) as server:
                ask(server, "deps.add('tiny_one') and None")
                ask(server, "deps.add('not_anywhere_to_be_found') and None")
                ask(server, "deps.add('tiny_two') and None", headers)
                # As if it had been in use long ago.
                ask(server, "deps.add('tiny_two') and None")
                ask(server, "deps.remove('tiny_two') and None")
                before = directories()
            self.assertEqual(len(before), 3)
            for name, _ in before:
                os.utime(base / "data/packages" / name, (1, 1))
            with harness.Server(config) as server:
                end = time.monotonic() + 20
                while not any(e.get("event") == "packages_removed" for e in server.events):
                    self.assertLess(time.monotonic(), end, server.log_text())
                    time.sleep(0.05)
                self.assertEqual(
                    sum(e.get("event") == "deps_found" for e in server.events), 2)
                after = directories()
                self.assertEqual(len(after), 2)
                self.assertLess(set(after), set(before))
                self.assertEqual(ask(server, "import tiny_one\ntiny_one.word"), "one")
                self.assertEqual(ask(server, "import tiny_two\ntiny_two.word", headers), "two")
                for missing, whose in (("tiny_two", None), ("tiny_one", headers)):
                    self.assertEqual(ask(server, f"""
try:
    import {missing}
    said = 'there'
except ImportError:
    said = 'not there'
said""", whose), "not there")
                self.assertEqual(ask(
                    server, "r = deps.sync()\nstr([sorted(r.installed), sorted(r.already_present)])",
                    headers), "[[], ['tiny-two']]")
                self.assertEqual(directories(), after)


class Counted(Names):
    def test_calls_are_counted_by_method_and_outcome(self):
        self.value_of("artifacts.exists('nothing')")
        text = self.server.request("GET", "metrics").body.decode()
        self.assertIn(
            'carrel_codemode_calls_total{method="artifacts.exists",outcome="ok"} 1', text)

    def test_the_servers_own_session_is_nobodys(self):
        self.value_of(f"skills.create('counted', {PORT_SCAN!r})['name']")
        listed = self.server.request("GET", "listSessions").json()["sessions"]
        self.assertEqual([s["identifier"] for s in listed], [self.session])
        self.value_of("skills.delete('counted')")


class Redis:
    """A redis-server of the test's own, with a password, on a free port."""

    PASSWORD = "pass-word-of-the-test"

    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-redis-")
        self.process = None

    @property
    def url(self):
        return f"redis://:{self.PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "60 1",
             "--requirepass", self.PASSWORD, "--dir", self.directory.name],
            stdout=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Replicas(unittest.TestCase):
    """Two servers on one Redis: what one learns the other knows at once."""

    def setUp(self):
        self.redis = Redis()
        self.redis.start()
        self.addCleanup(self.redis.directory.cleanup)
        self.addCleanup(lambda: self.redis.process.poll() is None and self.redis.stop())

    def server(self):
        server = harness.Server(environment={"REDIS_URL": self.redis.url})
        server.start()
        self.addCleanup(server.stop)
        return server

    def test_a_skill_made_on_one_is_found_on_the_other_at_once(self):
        one, two = self.server(), self.server()
        self.assertEqual(two.value("two2", "len(skills.list())"), 0)
        for i in range(5):
            one.value("one1", f"skills.create('scan{i}', {PORT_SCAN!r})['name']")
            self.assertEqual(
                two.value("two2", f"skills.scan{i}(target='10.0.0.1')"), "10.0.0.1 -sV")
            self.assertEqual(two.value("two2", "len(skills.list())"), i + 1)
        self.assertEqual(
            two.value("two2", "skills.search('scanning a host')[0]['name'][:4]"), "scan")
        one.value("one1", "artifacts.save('r.json', {'a': 1})\n1")
        self.assertEqual(two.value("two2", "artifacts.list()[0].name"), "r.json")
        self.assertIs(two.value("two2", "artifacts.load('r.json') == {'a': 1}"), True)
        self.assertNotIn(self.redis.PASSWORD, one.log_text() + two.log_text())
        environ = pathlib.Path(f"/proc/{one.process.pid}/environ").read_bytes()
        self.assertNotIn(self.redis.PASSWORD.encode(), environ)

    def test_while_it_is_down_a_session_sees_an_error_and_then_goes_on(self):
        server = self.server()
        server.value("demo", "artifacts.save('a', 'b')\nx = 5\n1")
        self.redis.stop()
        code = ("try:\n    r = str(artifacts.{})\nexcept Exception as e:\n"
                "    r = type(e).__name__\nr")
        begun = time.monotonic()
        self.assertEqual(server.value("demo", code.format("exists('a')")), "StorageError")
        self.assertEqual(server.value("demo", code.format("save('c', 'd')")), "StorageError")
        self.assertLess(time.monotonic() - begun, 12)
        self.assertEqual(server.value("demo", "x"), 5)
        self.redis.start()
        end = time.monotonic() + 20
        while server.value("demo", code.format("exists('a')")) == "StorageError":
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
        self.assertEqual(server.value("demo", code.format("load('a')")), "b")


class SkillsAfterARestart(unittest.TestCase):
    """What was said of a skill's source is not asked for again by the next server."""

    COUNT = 300

    def parsed(self, server):
        """Executions so far of the server's own session, which parses."""
        text = server.request("GET", "metrics").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if line.startswith("carrel_executions_total{"))

    def test_the_sources_are_parsed_once(self):
        with tempfile.TemporaryDirectory(prefix="carrel-said-") as directory:
            base = pathlib.Path(directory)
            base.chmod(0o777)
            skills = base / "skills"
            skills.mkdir()
            skills.chmod(0o777)
            for i in range(self.COUNT):
                (skills / f"skill_{i}.py").write_text(f'"""Number {i}."""\ndef run(n: int = {i}):\n    pass\n')
            (skills / "broken.py").write_text("def run(:\n")
            config = {"data_dir": str(base / "data")}
            environment = {"SKILLS_PATH": str(skills)}
            said = "repr(sorted(map(str, skills.list())))"
            kept = base / "data" / "skills.said.json"
            runs, lists = [], []
            nonsense = {"0" * 64: 5, "x": {}}
            for change in (None, None, "{not json", {"said": nonsense}, {"format": "another"}):
                if isinstance(change, dict):
                    change = json.dumps({**json.loads(kept.read_bytes()), **change})
                if change is not None:
                    kept.write_text(change)
                with harness.Server(config, environment=environment) as server:
                    lists.append(server.value("demo", said))
                    runs.append(self.parsed(server))
                self.assertEqual(len(json.loads(kept.read_bytes())["said"]), self.COUNT)
            self.assertEqual(lists[1:], lists[:1] * 4)
            self.assertEqual(lists[0].count("Number"), self.COUNT)
            # The second parses what is broken alone; a file that is none costs all of it again.
            self.assertLess(runs[1], runs[0])
            self.assertEqual(runs[2:], runs[:1] * 3)
            self.assertEqual(kept.stat().st_mode & 0o777, 0o600)


class Configuration(unittest.TestCase):
    def test_the_containers_variables(self):
        with tempfile.TemporaryDirectory() as base:
            root = pathlib.Path(base)
            root.chmod(0o777)
            environment = {"SKILLS_PATH": str(root / "skills"),
                           "ARTIFACTS_PATH": str(root / "work" / "artifacts"),
                           "CONTAINER_DEPS": "One, two>=2,<3 , !=2.5,four[x,y]~=1.0,,five",
                           "ALLOW_RUNTIME_DEPS": "false"}
            with harness.Server(environment=environment) as server:
                server.value("demo", f"skills.create('port_scan', {PORT_SCAN!r})\n"
                                     "artifacts.save('x.txt', 'y')\n1")
                self.assertEqual(server.value("demo", "'|'.join(deps.list())"),
                                 "five|four[x,y]~=1.0|one|two>=2,<3 , !=2.5")
            self.assertEqual((root / "skills" / "port_scan.py").read_text(), PORT_SCAN)
            self.assertEqual((root / "work" / "artifacts" / "x.txt").read_text(), "y")
            self.assertEqual(
                (root / "work" / "deps" / "requirements.txt").read_text(), "five\nfour[x,y]~=1.0\none\ntwo>=2,<3 , !=2.5\n")

    def test_what_is_wrong_is_named(self):
        for config, words in (
                ({"storag": {}}, "code_mode.storag"),
                ({"storage": {"redis": {"prefix": "x"}}}, "code_mode.storage.redis.url"),
                ({"deps": {"installer": "conda"}}, "must be pip or uv"),
                ({"tools": {"secrets": {"A": {"env": "NOT_THERE"}}}}, "NOT_THERE"),
                ({"tools": {"memory": "1m"}}, "code_mode.tools.memory: must be from 16m on, or 0"),
                ({"tools": {"memory": "much"}}, "code_mode.tools.memory: must be a size"),
                ({"embeddings": {"secret": "none"}}, "code_mode.embeddings.secret"),
                ({"strict_sessions": 1}, "must be true or false"),
                # A tenant whose keys would be the server's own.
                ({"storage": {"redis": {"url": "redis://127.0.0.1:1", "prefix": "acme"}}},
                 "prefix 'acme': its keys would be those of the server's own space, which begin with "
                 "'acme:tools'")):
            server = harness.Server({"code_mode": config, "auth": {"tokens": [
                {"name": "a", "token": "a" * 32, "prefix": "acme"}]}})
            server.expect_failure = True
            server.start(wait=False)
            self.assertEqual(server.process.wait(30), 2)
            server._reader.join(5)
            self.assertIn(words, server.log_text())
            server.stop()


if __name__ == "__main__":
    unittest.main()

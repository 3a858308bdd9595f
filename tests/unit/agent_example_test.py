"""examples/azure-container-apps: the agent, its service and the deployment, without Azure."""

import http.client
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "azure-container-apps"
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "lib")]

from fake_session_server import FakeSessionServer, ScriptedServer  # noqa: E402

STEPS = [{"code": "x = 20\nprint('hello')"}, {"code": "x + 22"}, {"answer": "It is 42."}]


class ExampleCase(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.fake = self.enterContext(FakeSessionServer())
        self.environment = {
            "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SESSION_URL": self.fake.url, "SESSION_AUTH_TOKEN": self.fake.token}

    def script(self, steps):
        file = self.directory / "script.json"
        file.write_text(json.dumps(steps))
        return str(file)

    def agent(self, *arguments, **environment):
        return subprocess.run(
            [sys.executable, str(EXAMPLE / "agent.py"), *arguments], text=True, timeout=60,
            capture_output=True, check=False, env={**self.environment, **environment})


class AgentTest(ExampleCase):
    def test_a_scripted_model(self):
        done = self.agent("--script", self.script(STEPS), "What is it?")
        self.assertEqual((done.returncode, done.stdout), (0, "It is 42.\n"), done.stderr)
        self.assertIn("hello", done.stderr)
        sent = [(path, body) for _, path, _, body in self.fake.requests]
        self.assertEqual([body["code"] for path, body in sent if path.startswith("/execute?")],
                         ["x = 20\nprint('hello')", "x + 22"])
        self.assertEqual(sent[-1][0], "/reset")

    def test_it_stops_after_so_many_cells(self):
        done = self.agent("--script", self.script([{"code": "'again'"}] * 50), "x")
        self.assertEqual(done.stdout, "again\n")
        self.assertEqual(sum(path.startswith("/execute?") for _, path, _, _ in self.fake.requests), 5)

    def test_a_model_over_http(self):
        said = []

        def reply(message):
            def answer(connection):
                said.append(json.loads(server.received[-1].partition(b"\r\n\r\n")[2]))
                data = json.dumps({"choices": [{"message": message}]}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   b"Content-Length: %d\r\n\r\n" % len(data) + data)
            return answer

        call = {"id": "c1", "type": "function",
                "function": {"name": "run_code", "arguments": json.dumps({"code": "6 * 7"})}}
        with ScriptedServer(reply({"role": "assistant", "content": None, "tool_calls": [call]}),
                            reply({"role": "assistant", "content": "Forty-two."})) as server:
            done = self.agent("What is 6 * 7?", MODEL_URL=server.url, MODEL_NAME="m", MODEL_KEY="k")
        self.assertEqual((done.returncode, done.stdout), (0, "Forty-two.\n"), done.stderr)
        self.assertEqual(said[1]["messages"][-1],
                         {"role": "tool", "tool_call_id": "c1", "content": "42"})

    def test_what_is_missing_is_said(self):
        done = self.agent("x")
        self.assertEqual(done.returncode, 1)
        self.assertIn("MODEL_URL", done.stderr)
        done = self.agent("--script", self.script(STEPS), "x", SESSION_AUTH_TOKEN="wrong")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Invalid token", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class ServiceTest(ExampleCase):
    def start(self, **environment):
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE / "agent_server.py")], stderr=subprocess.PIPE, text=True,
            env={**self.environment, "PORT": "0", "AGENT_SCRIPT": self.script(STEPS), **environment})
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        line = process.stderr.readline()
        found = re.search(r"port (\d+)", line)
        self.assertTrue(found, line)
        return int(found.group(1))

    def ask(self, port, method, path, body=None, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, said

    def test_a_task(self):
        port = self.start()
        task = json.dumps({"task": "What is it?"})
        self.assertEqual(self.ask(port, "POST", "/task", task),
                         (200, {"result": "It is 42.", "error": None}))
        self.assertEqual(self.ask(port, "GET", "/health"), (200, {"status": "healthy"}))
        self.assertEqual(self.ask(port, "GET", "/info")[1]["tools"][0]["name"], "echo")
        # Each task had a session of its own, which is gone.
        self.assertEqual(self.fake.sessions, {})

    def test_bad_requests(self):
        port = self.start()
        for body in ("", "{", "[]", '{"task": 1}', "{}"):
            self.assertEqual(self.ask(port, "POST", "/task", body)[0], 422, body)
        self.assertEqual(self.ask(port, "POST", "/task", "x" * (2 << 20))[0], 413)
        self.assertEqual(self.ask(port, "GET", "/other")[0], 404)

    def test_its_token(self):
        port = self.start(AGENT_AUTH_TOKEN="of-the-agent")
        task = json.dumps({"task": "x"})
        for token in (None, "", "of-the-agen", "of-the-agent2", "secret-token"):
            self.assertEqual(self.ask(port, "POST", "/task", task, token)[0], 401)
            self.assertEqual(self.ask(port, "GET", "/info", token=token)[0], 401)
        self.assertEqual(self.ask(port, "POST", "/task", task, "of-the-agent")[0], 200)
        self.assertEqual(self.ask(port, "GET", "/health")[0], 200)

    def test_it_is_not_open_to_everybody(self):
        done = subprocess.run(
            [sys.executable, str(EXAMPLE / "agent_server.py")], text=True, capture_output=True,
            timeout=60, check=False, env={**self.environment, "PORT": "0", "HOST": "0.0.0.0"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("AGENT_AUTH_TOKEN", done.stderr)

    def test_a_session_server_that_is_away(self):
        port = self.start(SESSION_URL="http://127.0.0.1:9")
        status, said = self.ask(port, "POST", "/task", json.dumps({"task": "x"}))
        self.assertEqual((status, said["result"]), (200, None))
        self.assertIn("127.0.0.1:9", said["error"])
        self.assertEqual(self.ask(port, "GET", "/info")[0], 502)


# Notes how it was called; `show` says that nothing is there until something was made.
COMMAND = """#!/bin/sh
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
case "$*" in
*"--query id"*) [ -e "$CALLS.made" ] && echo /subscriptions/environment ;;
*" show "*) [ -e "$CALLS.made" ] || exit 1 ;;
*" --yaml "*) sed -n 's/.*--yaml \\([^ ]*\\).*/\\1/p' <<E | xargs cat > "$CALLS.manifest"
$*
E
    ;;
*"env create"*) touch "$CALLS.made" ;;
esac
"""


class DeployTest(unittest.TestCase):
    """deploy.sh, with an az and a carrel that only note how they were called."""

    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("az", "carrel"):
            (self.directory / name).write_text(COMMAND)
            (self.directory / name).chmod(0o755)
        self.calls = self.directory / "calls"
        self.secrets = {"AUTH_TOKEN": "t0ken-of-the-server", "REDIS_URL": "rediss://:k3y@h:6380"}

    def deploy(self, *arguments, **environment):
        return subprocess.run(
            [str(EXAMPLE / "deploy/deploy.sh"), *arguments], text=True, capture_output=True,
            timeout=60, check=False, env={
                "PATH": f"{self.directory}:/usr/bin:/bin", "CALLS": str(self.calls),
                "TMPDIR": str(self.directory), **self.secrets, **environment})

    def called(self):
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def test_a_dry_run_does_nothing(self):
        done = self.deploy("--dry-run", "group", "environment", "image:1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.called(), [])
        for word in ("group create", "env create", "--type tools", "--type skills",
                     "containerapp create"):
            self.assertIn(word, done.stdout)

    def test_the_first_time_and_again(self):
        first = self.deploy("group", "environment", "image:1", LOCATION="westeurope")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertTrue([c for c in self.called() if c.startswith("az containerapp env create")])
        self.calls.unlink()
        again = self.deploy("group", "environment", "image:1")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertFalse([c for c in self.called() if "create" in c and "group" not in c.split()[1]])
        self.assertTrue([c for c in self.called() if c.startswith("az containerapp update")])
        # What agents learned is not cleared.
        skills = [c for c in self.called() if c.endswith("--type skills")]
        self.assertEqual(len(skills), 1, self.called())

    def test_no_secret_is_printed(self):
        for arguments in (["--dry-run"], []):
            done = self.deploy(*arguments, "group", "environment", "image:1")
            for secret in ("t0ken", "k3y"):
                self.assertNotIn(secret, done.stdout + done.stderr)
        for call in self.called():
            self.assertNotIn("t0ken", call)
        self.assertEqual([f for f in self.directory.iterdir() if f.name.startswith("tmp.")], [])

    def test_the_manifest(self):
        self.assertEqual(self.deploy("group", "environment", "image:1").returncode, 0)
        text = pathlib.Path(f"{self.calls}.manifest").read_text()
        self.assertNotIn("${", text)
        for line in ('image: "image:1"', 'value: "t0ken-of-the-server"', "affinity: sticky",
                     'value: "rediss://:k3y@h:6380"', "path: /health", "external: false",
                     'managedEnvironmentId: "/subscriptions/environment"',
                     'concurrentRequests: "10"', "secretRef: auth-token"):
            self.assertIn(line, text)

    def test_what_is_missing_or_odd_is_said(self):
        self.assertEqual(self.deploy("group").returncode, 2)
        for name in self.secrets:
            done = self.deploy("g", "e", "i", **{name: ""})
            self.assertEqual(done.returncode, 1)
            self.assertIn(name, done.stderr)
        done = self.deploy("g", "e", "i", AUTH_TOKEN='a"\nb: c')
        self.assertNotEqual(done.returncode, 0)
        self.assertFalse([c for c in self.called() if "--yaml" in c])


class ConfigsTest(unittest.TestCase):
    def test_the_skill_is_one(self):
        text = (EXAMPLE / "configs/skills/port_scan.py").read_text()
        names = {}
        exec(compile(text, "port_scan", "exec"), names)
        calls = []

        class Tools:
            def nmap(self, **arguments):
                calls.append(arguments)
                return "open"
        names["tools"] = Tools()
        self.assertEqual(names["run"]("10.0.0.1"), {"target": "10.0.0.1", "raw": "open"})
        self.assertEqual(calls, [{"target": "10.0.0.1", "flags": "-p 80,443"}])

    def test_the_demonstration_can_be_read(self):
        steps = json.loads((EXAMPLE / "demo.json").read_text())
        self.assertIn("answer", steps[-1])
        for step in steps[:-1]:
            compile(step["code"], "demo", "exec")


if __name__ == "__main__":
    unittest.main()

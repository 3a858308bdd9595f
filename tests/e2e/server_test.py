"""The server as a process: how it starts and refuses to, where its settings come from, how it stops,
what it tells about itself, TLS, and its other ways to run."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import processes  # noqa: E402
from harness import CARREL, Server, ServerCase, ServerError, run_at_once  # noqa: E402

POOL = {"name": "default", "ready_sessions": 1}
EXIT_USAGE, EXIT_SERVER = 2, 3

# Runs its arguments under a filter that refuses new namespaces, as many container hosts do: a BPF
# program for x86-64 and arm64 that answers EPERM to unshare and to clone with CLONE_NEW* flags, and
# ENOSYS to clone3, whose flags a filter cannot see.
NO_NAMESPACES = """
import ctypes, os, platform, struct, sys
unshare, clone = {"x86_64": (272, 56), "aarch64": (97, 220)}[platform.machine()]
EPERM, ENOSYS, ALLOW = 0x50001, 0x50026, 0x7fff0000
program = [(0x20, 0, 0, 0),              # load the number
           (0x15, 4, 0, unshare),        # to EPERM
           (0x15, 5, 0, 435),            # clone3: to ENOSYS
           (0x15, 0, 3, clone),          # not clone: to ALLOW
           (0x20, 0, 0, 16),             # load the flags
           (0x45, 0, 1, 0x7e020000),     # none of CLONE_NEW*: to ALLOW
           (0x06, 0, 0, EPERM), (0x06, 0, 0, ALLOW), (0x06, 0, 0, ENOSYS)]
code = b"".join(struct.pack("HBBI", *line) for line in program)
memory = ctypes.create_string_buffer(code)
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(memory)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0, "no_new_privs"
assert libc.prctl(22, 2, head, 0, 0) == 0, "seccomp"
os.execvp(sys.argv[1], sys.argv[1:])
"""


def refusal(config=None, environment=None, arguments=()):
    """(exit status, stderr) of a server that must not start."""
    with tempfile.TemporaryDirectory(prefix="carrel-test-") as directory:
        base = pathlib.Path(directory)
        command = [str(CARREL), "serve", *arguments]
        if config is not None:
            file = base / "carrel.yaml"
            file.write_text(config if isinstance(config, str)
                            else json.dumps({"preload": [], **config}))
            command += ["--config", str(file)]
        env = {"PATH": "/usr/bin:/bin", "CARREL_DATA_DIR": str(base / "data"), "PORT": "0",
               **(environment or {})}
        try:
            done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                                  timeout=20)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it started: {error.stderr}") from None
        return done.returncode, done.stderr.decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class FailClosed(unittest.TestCase):
    def test_without_a_token(self):
        for environment in ({}, {"CONTAINER_AUTH_TOKEN": ""}, {"CONTAINER_AUTH_TOKEN": "  "},
                            {"CONTAINER_AUTH_DISABLED": "false"}, {"CONTAINER_AUTH_DISABLED": "1"},
                            {"CONTAINER_AUTH_DISABLED": "yes"}, {"CONTAINER_AUTH_DISABLED": ""}):
            status, said = refusal(environment=environment)
            self.assertEqual(status, EXIT_USAGE, (environment, said))
            self.assertIn("CONTAINER_AUTH_TOKEN", said)
            self.assertIn("CONTAINER_AUTH_DISABLED=true", said)

    def test_without_the_runner_that_its_tools_need(self):
        with tempfile.TemporaryDirectory() as tools:
            environment = {"CONTAINER_AUTH_TOKEN": "t", "CARREL_RUNNER": "/bin/false",
                           "TOOLS_PATH": tools}
            status, said = refusal({}, environment)
        self.assertEqual(status, EXIT_SERVER, said)
        self.assertIn("the runner ended at its start", said)

    def test_token_files(self):
        with tempfile.TemporaryDirectory() as directory:
            empty = pathlib.Path(directory, "empty")
            empty.write_text(" \n")
            for path in (str(empty), "/no/such/file", directory):
                for config, environment in (({}, {"CONTAINER_AUTH_TOKEN_FILE": path}),
                                            ({"auth": {"token_file": path}}, {})):
                    status, said = refusal(config, environment)
                    self.assertNotEqual(status, 0)
                    self.assertNotEqual(said, "")
            good = pathlib.Path(directory, "good")
            good.write_text("the-token-of-a-file\n")
            with Server({"pools": [POOL]}, {"CONTAINER_AUTH_TOKEN": None, "CONTAINER_AUTH_TOKEN_FILE":
                                            str(good)}, token="the-token-of-a-file") as server:
                self.assertEqual(server.value("demo", "1"), 1)

    def test_disabled_is_warned_about_at_every_start(self):
        for word in ("true", "True", "TRUE"):
            with Server({"pools": [POOL]}, {"CONTAINER_AUTH_TOKEN": None,
                                            "CONTAINER_AUTH_DISABLED": word}) as server:
                warnings = [e for e in server.events if e.get("level") == "warning"]
                self.assertEqual([e["event"] for e in warnings], ["authentication_disabled"])
                reply = server.request("GET", "listSessions", headers={"Authorization": None})
                self.assertEqual(reply.status, 200)

    def test_disabled_does_not_matter_beside_a_token(self):
        with Server({"pools": [POOL]}, {"CONTAINER_AUTH_DISABLED": "true"}) as server:
            reply = server.request("GET", "listSessions", headers={"Authorization": None})
            self.assertEqual(reply.status, 401)


class Configuration(unittest.TestCase):
    TOKEN = {"CONTAINER_AUTH_TOKEN": "some-token-for-this"}

    def test_what_is_wrong_is_named(self):
        for config, *words in (
                ({"poolz": []}, "poolz", "not known", "pools"),
                ({"pools": [{"nam": "x"}]}, "pools[0].nam", "not known"),
                ({"auth": {"tokns": []}}, "auth.tokns"),
                ({"tls": {"certificate": "x"}}, "tls.certificate"),
                ({"auth": {"tokens": [{"tokn": "x"}]}}, "auth.tokens[0].tokn"),
                ({"pools": {}}, "pools", "list"),
                ({"pools": []}, "pools"),
                ({"pools": ["x"]}, "pools[0]", "mapping"),
                ({"pools": [{"memory": True}]}, "pools[0].memory", "512m"),
                ({"pools": [{"memory": "1 banana"}]}, "pools[0].memory"),
                ({"pools": [{"memory": "1k"}]}, "pools[0].memory"),
                ({"pools": [{"max_concurrent_sessions": 0}]}, "pools[0].max_concurrent_sessions"),
                ({"pools": [{"max_concurrent_sessions": "many"}]},
                 "pools[0].max_concurrent_sessions"),
                ({"pools": [{"cooldown_seconds": 0.5}]}, "pools[0].cooldown_seconds"),
                ({"pools": [{"cpu": "two"}]}, "pools[0].cpu"),
                ({"pools": [{"name": "Ab"}]}, "pools[0].name", "lower-case"),
                ({"pools": [{"name": "abc"}, {"name": "abc"}]}, "pools[1].name", "another"),
                ({"pools": [{"container_type": "CustomContainer"}]}, "pools[0].container_type",
                 "CustomContainer", "PythonLTS", "Shell"),
                ({"pools": [{"container_type": "NodeLTS"}]}, "pools[0].container_type"),
                ({"pools": [{"container_type": "Perl"}]}, "pools[0].container_type"),
                ({"pools": [{"egress": "EgressEnabled"}]}, "pools[0].egress", "EgressDisabled"),
                ({"isolation": "none"}, "isolation", "namespaces", "landlock"),
                ({"listen": "127.0.0.1:99999"}, "99999"),
                ({"listen": 8080}, "listen"),
                ({"log_level": "loud"}, "loud"),
                ({"drain_seconds": -1}, "drain_seconds"),
                ({"auth": {"disabled": "true"}}, "auth.disabled"),
                ({"auth": {"tokens": [{"token": "a", "role": "king"}]}}, "auth.tokens[0].role", "admin"),
                ({"auth": {"tokens": [{"token": "a", "expires": "soon"}]}}, "auth.tokens[0].expires"),
                ({"auth": {"tokens": [{"token": "a", "token_file": "b"}]}}, "auth.tokens[0].token"),
                ({"auth": {"tokens": [{"name": "x"}]}}, "auth.tokens[0].token"),
                ({"auth": {"tokens": [{"name": "bob", "token": "a", "pool": "moon"}]}}, "bob", "moon"),
                ("a: [1,", "carrel.yaml"),
                ("- a\n- b\n", "mapping"),
                ("a: 1\na: 2\n", "a"),
                ({"tls": {"cert": "/x"}}, "certificate", "key")):
            with self.subTest(config=config):
                status, said = refusal(config, self.TOKEN)
                self.assertEqual(status, EXIT_USAGE, said)
                for word in words:
                    self.assertIn(word, said)
                self.assertEqual(said.count("\n"), 1, said)
                self.assertNotIn("some-token-for-this", said)

    def test_what_cannot_be_used_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            status, said = refusal({}, {**self.TOKEN, "PORT": port})
            self.assertNotEqual(status, 0)
            self.assertIn(port, said)
        status, said = refusal({}, {**self.TOKEN, "HOST": "203.0.113.1"})
        self.assertNotEqual(status, 0)
        self.assertIn("203.0.113.1", said)
        status, said = refusal({}, {**self.TOKEN, "PORT": "http"})
        self.assertEqual(status, EXIT_USAGE)
        self.assertIn("http", said)
        status, said = refusal(None, self.TOKEN, ["--config", "/no/such/file.yaml"])
        self.assertNotEqual(status, 0)
        self.assertIn("/no/such/file.yaml", said)
        for arguments in (["--nothing"], ["extra"], ["--listen"]):
            self.assertEqual(refusal({}, self.TOKEN, arguments)[0], EXIT_USAGE, arguments)

    def listening(self, config, environment=None, arguments=()):
        with Server({"pools": [POOL], **config}, environment, arguments) as server:
            return next(e for e in server.events if e["event"] == "listening")

    def test_flags_go_over_the_environment_over_the_file(self):
        first, second, third = free_port(), free_port(), free_port()
        event = self.listening({"listen": f"127.0.0.1:{first}"})
        self.assertEqual((event["address"], event["port"]), ("127.0.0.1", first))
        event = self.listening({"listen": f"127.0.0.9:{first}"}, {"PORT": str(second),
                                                                 "HOST": "127.0.0.1"})
        self.assertEqual((event["address"], event["port"]), ("127.0.0.1", second))
        event = self.listening({"listen": f"127.0.0.9:{first}"}, {"PORT": str(second)},
                               ["--listen", f"127.0.0.1:{third}"])
        self.assertEqual((event["address"], event["port"]), ("127.0.0.1", third))

    def test_the_port_alone(self):
        port = free_port()
        event = self.listening({}, {"PORT": str(port)})
        self.assertEqual((event["address"], event["port"]), ("127.0.0.1", port))

    def test_the_data_directory(self):
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            path = pathlib.Path(directory, "a", "b")
            with Server({"pools": [POOL]}, {"CARREL_DATA_DIR": f"{directory}/unused"},
                        ["--data-dir", str(path)]):
                self.assertTrue(path.is_dir())
                self.assertFalse(pathlib.Path(directory, "unused").exists())

    def test_yaml_as_people_write_it(self):
        text = ("# a comment\nlisten: 127.0.0.1:0\npreload: []\npools:\n  - name: default\n"
                "    ready_sessions: 1\n    memory: 256m\n    cooldown_seconds: 90\n"
                "  - name: second\n    container_type: Shell\n    ready_sessions: 0\n")
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            file = pathlib.Path(directory, "c.yaml")
            file.write_text(text)
            server = Server()
            server.command = lambda _: [str(CARREL), "serve", "--config", str(file), "--data-dir",
                                        f"{directory}/data"]
            with server:
                self.assertEqual(server.value("demo", "1"), 1)
                reply = server.request("POST", "executions", "demo", {"shellCommand": "echo 1"},
                                       pool="second")
                self.assertEqual(reply.json()["result"]["stdout"], "1\n")


class Stopping(unittest.TestCase):
    def server(self, **config):
        server = Server({"pools": [POOL], **config})
        server.start()
        self.addCleanup(lambda: server.process and (server.process.kill(), server.stop()))
        return server

    def begin(self, server, code, identifier="demo"):
        """A connection on which an execution runs; returns once its code has begun."""
        connection = server.connect()
        connection.request("POST", server.target("executions", identifier), json.dumps(
            {"code": f"open('on', 'w').close()\n{code}"}),
            {"Authorization": f"Bearer {server.token}"})
        end = time.monotonic() + 10
        while server.request("GET", "files/on", identifier).status != 200:
            if time.monotonic() > end:
                self.fail("it did not begin")
        return connection

    def test_an_idle_server_stops_at_once(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            server = self.server()
            server.value("demo", "1")
            start = time.monotonic()
            self.assertEqual(server.stop(sig), 0)
            self.assertLess(time.monotonic() - start, 2)

    def test_nothing_stays_behind(self):
        server = self.server()
        server.value("demo", "import subprocess; p = subprocess.Popen(['sleep', '100'])")
        pids = processes.descendants(server.process.pid)
        self.assertGreaterEqual(len(pids), 3)  # the keeper, a session, its child
        data = pathlib.Path(server.config["data_dir"])
        # Kept past the harness's own clearing up.
        server.directory.cleanup = lambda: None
        self.assertEqual(server.stop(), 0)
        end = time.monotonic() + 5
        while processes.are_there(pids):
            self.assertLess(time.monotonic(), end, "processes stayed")
            time.sleep(0.01)
        left = [p.name for p in data.rglob("*") if p.is_file()] if data.exists() else []
        shutil.rmtree(data.parent)
        self.assertEqual(left, ["approvals.db"])  # without its journal

    def test_what_runs_finishes_and_nothing_new_begins(self):
        server = self.server(drain_seconds=20)
        running = self.begin(server, "import os, time\nwhile not os.path.exists('go'): "
                                     "time.sleep(0.005)\n'finished'")
        # A connection from before, since there are no new ones.
        other = server.connect()
        self.assertEqual(server.request("GET", "health", connection=other).status, 200)
        upload = server.connect()
        self.assertEqual(server.request("GET", "health", connection=upload).status, 200)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        reply = server.request("GET", "health", connection=other)
        self.assertEqual((reply.status, reply.json()["status"]), (503, "draining"))
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 1)
        self.assertIsNone(server.process.poll())
        # It may still be helped to its end: its session is there. The connection is one from before.
        reply = server.upload("demo", "go", b"", connection=upload)
        self.assertEqual(reply.status, 200, reply)
        answer = running.getresponse()
        self.assertEqual(json.loads(answer.read())["result"]["executionResult"], "finished")
        self.assertEqual(server.process.wait(5), 0)
        self.assertEqual(server.stop(), 0)

    def test_new_work_is_refused_while_it_drains(self):
        server = self.server(drain_seconds=20)
        running = self.begin(server, "import time; time.sleep(1.5)")
        kept = []
        for _ in range(3):
            kept.append(server.connect())
            server.request("GET", "health", connection=kept[-1])
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        for connection, identifier in zip(kept, ("demo", "demo", "another"), strict=True):
            reply = server.request("POST", "executions", identifier, {"code": "1"},
                                   connection=connection)
            self.assertEqual((reply.status, reply.error_code), (503, "SessionPoolUnavailable"))
            self.assertIn("retry-after", reply.headers)
        self.assertEqual(json.loads(running.getresponse().read())["status"], "Succeeded")
        self.assertEqual(server.process.wait(5), 0)

    def test_past_the_deadline(self):
        server = self.server(drain_seconds=0.3)
        running = self.begin(server, "import time; time.sleep(60)")
        start = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - start, 3)
        running.close()

    def test_a_second_signal_does_not_wait(self):
        server = self.server(drain_seconds=30)
        running = self.begin(server, "import time; time.sleep(60)")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        start = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - start, 3)
        running.close()

    def test_signals_while_it_clears_up_do_no_harm(self):
        server = self.server()
        process = server.process
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.0005)
        self.assertEqual(server.stop(), 0)
        self.assertIn("stopped", server.log_text())

    def test_the_sessions_end_with_a_gateway_that_is_killed(self):
        server = self.server()
        server.value("demo", "1")
        pids = processes.descendants(server.process.pid)
        self.assertNotEqual(server.stop(signal.SIGKILL), 0)
        end = time.monotonic() + 5
        while processes.are_there(pids):
            self.assertLess(time.monotonic(), end, "processes stayed")
            time.sleep(0.01)

    def test_a_server_without_its_keeper_ends_and_says_so(self):
        server = self.server()
        keeper = [pid for pid in processes.descendants(server.process.pid)
                  if b"carrel-keeper" in processes.read(pid, "cmdline")][0]
        os.kill(keeper, signal.SIGKILL)
        server.expect_failure = True
        self.assertEqual(server.process.wait(10), EXIT_SERVER)
        self.assertIn("keeper", server.log_text())
        server.stop()


class Metric:
    def __init__(self, kind, text):
        self.kind, self.text, self.samples = kind, text, {}


def parse_metrics(text):
    """The Prometheus text format, strictly: {family: Metric}; each sample by its name and labels."""
    sample = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
    label = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
    metrics, current, helped = {}, None, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, name, told = line.split(" ", 3)
            assert name not in metrics, f"{name} comes twice"
            helped = (name, told)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert helped is not None and helped[0] == name, f"no HELP before TYPE of {name}"
            assert kind in ("counter", "gauge", "histogram"), kind
            current = name
            metrics[name] = Metric(kind, helped[1])
        else:
            match = sample.match(line)
            assert match, f"not a sample: {line!r}"
            name, labels, value = match.groups()
            family = metrics[current]
            suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
            assert name in [current + s for s in suffixes], f"{name} within {current}"
            pairs, at = [], 0
            while labels and at < len(labels):
                one = label.match(labels, at)
                assert one, f"not labels: {labels!r}"
                pairs.append(one.groups())
                at = one.end()
            key = (name, tuple(sorted(pairs)))
            assert key not in family.samples, f"{key} comes twice"
            family.samples[key] = float(value)
    for name, family in metrics.items():
        assert name.endswith("_total") == (family.kind == "counter"), f"{name} is a {family.kind}"
        if family.kind == "histogram":
            check_histogram(name, family)
    return metrics


def check_histogram(name, family):
    series = {}
    for (sample, labels), value in family.samples.items():
        rest = tuple(p for p in labels if p[0] != "le")
        bounds = [v for k, v in labels if k == "le"]
        series.setdefault(rest, {})[sample, bounds[0] if bounds else None] = value
    for rest, values in series.items():
        buckets = sorted(((float(bound), value) for (sample, bound), value in values.items()
                          if sample == f"{name}_bucket"))
        assert buckets[-1][0] == float("inf"), rest
        counts = [value for _, value in buckets]
        assert counts == sorted(counts), f"{name}{rest}: buckets shrink"
        assert counts[-1] == values[f"{name}_count", None], rest
        assert values[f"{name}_sum", None] >= 0


class Metrics(ServerCase):
    config = {"pools": [{"name": "default", "ready_sessions": 3, "max_concurrent_sessions": 50},
                        {"name": "second", "ready_sessions": 0}]}

    def read(self):
        reply = self.server.request("GET", "metrics", api_version=None)
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        return parse_metrics(reply.body.decode())

    def value(self, name, metrics=None, suffix="", **labels):
        labels.setdefault("pool", "default")
        metrics = metrics or self.read()
        return metrics[name].samples[name + suffix, tuple(sorted(labels.items()))]

    def test_every_pool_has_its_samples(self):
        metrics = self.read()
        for name in ("carrel_pool_ready_sessions", "carrel_pool_executing_sessions",
                     "carrel_pool_pending_sessions", "carrel_pool_sessions",
                     "carrel_sessions_created_total", "carrel_sessions_lost_total"):
            for pool in ("default", "second"):
                self.assertGreaterEqual(self.value(name, metrics, pool=pool), 0)
            self.assertTrue(metrics[name].text)
        self.assertEqual(self.value("carrel_pool_max_sessions", metrics), 50)

    def test_gauges(self):
        self.wait_until(lambda: self.value("carrel_pool_ready_sessions") == 3, "not ready")
        before = self.value("carrel_pool_sessions")
        self.server.value(self.session, "1")
        self.assertEqual(self.value("carrel_pool_sessions"), before + 1)
        self.assertEqual(self.value("carrel_pool_executing_sessions"), 0)

        def look():
            self.wait_for_file("on")
            self.assertEqual(self.value("carrel_pool_executing_sessions"), 1)
            self.server.upload(self.session, "go", b"")
        run_at_once([lambda: self.server.value(
            self.session, "open('on', 'w').close()\nimport os, time\n"
                          "while not os.path.exists('go'): time.sleep(0.005)"), look])
        self.assertEqual(self.value("carrel_pool_executing_sessions"), 0)
        self.server.request("DELETE", "session", self.session)
        self.assertEqual(self.value("carrel_pool_sessions"), before)
        self.wait_until(lambda: self.value("carrel_pool_ready_sessions") == 3, "not refilled")

    def test_counters_and_histograms(self):
        def changes(action):
            before = self.read()
            action()
            after = self.read()
            return {key: value - before[name].samples[key] for name, m in after.items()
                    for key, value in m.samples.items()
                    if m.kind == "counter" and value != before[name].samples[key]}

        pool = ("pool", "default")
        self.wait_until(lambda: self.value("carrel_pool_ready_sessions") == 3, "not ready")
        self.assertEqual(changes(lambda: None), {})
        change = changes(lambda: self.server.value(self.session, "1"))
        self.assertEqual(change.pop(("carrel_sessions_created_total", (pool,))), 1)
        self.assertEqual(change.pop(
            ("carrel_executions_total", (pool, ("verdict", "succeeded")))), 1)
        self.assertLessEqual({name for name, _ in change}, {"carrel_workers_started_total"})
        self.wait_until(lambda: self.value("carrel_pool_ready_sessions") == 3, "not refilled")
        change = changes(lambda: self.server.upload(self.session, "a", b"12345"))
        self.assertEqual(change, {("carrel_uploads_total", (pool,)): 1,
                                  ("carrel_upload_bytes_total", (pool,)): 5})

        def download():
            self.server.request("GET", "files/a/content", self.session)
        change = changes(download)
        self.assertEqual(change, {("carrel_downloads_total", (pool,)): 1,
                                  ("carrel_download_bytes_total", (pool,)): 5})
        before = self.read()
        self.server.value(self.session, "import time; time.sleep(0.2)")
        after = self.read()
        name = "carrel_execution_seconds"
        self.assertEqual(self.value(name, after, "_count") - self.value(name, before, "_count"), 1)
        self.assertAlmostEqual(self.value(name, after, "_sum") - self.value(name, before, "_sum"),
                               0.2, delta=0.19)
        self.assertEqual(self.value(name, after, "_bucket", le="0.1"),
                         self.value(name, before, "_bucket", le="0.1"))

    def test_a_lost_session(self):
        before = self.value("carrel_sessions_lost_total")
        self.server.execute(self.session, "import os; os._exit(1)")
        self.assertEqual(self.value("carrel_sessions_lost_total"), before + 1)


class Telling(unittest.TestCase):
    """What the server says of itself, and what it never says."""

    TOKEN = "a-very-secret-token-0123456789"

    def test_logs(self):
        with Server({"pools": [POOL], "log_level": "debug"}, token=self.TOKEN) as server:
            server.value("demo", "print('only mine: 4711')")
            server.execute("demo", "import os; os._exit(1)")
            server.request("GET", "files", "demo", headers={"Authorization": "Bearer wrong-guess"})
            server.stop()
            self.assertGreater(len(server.events), 3)
            for event in server.events:
                self.assertNotIn("text", event, "a line that is not JSON")
                self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
                self.assertIn(event["level"], ("error", "warning", "info", "debug"))
                self.assertTrue(event["process"])
            names = [e["event"] for e in server.events]
            for name in ("listening", "keeper_ready", "draining", "stopped"):
                self.assertIn(name, names)
            text = json.dumps(server.events)
            for secret in (self.TOKEN, "wrong-guess", "4711"):
                self.assertNotIn(secret, text)

    def test_the_token_is_nowhere_to_be_read(self):
        with tempfile.TemporaryDirectory() as directory:
            file = pathlib.Path(directory, "t")
            file.write_text("the-second-secret-token")
            with Server({"pools": [POOL], "auth": {"token_file": str(file), "tokens": [
                    {"name": "x", "token": "the-third-secret-token"}]}}, token=self.TOKEN) as server:
                server.value("demo", "1")
                secrets = (self.TOKEN.encode(), b"the-second-secret-token", b"the-third-secret-token")
                for pid in [server.process.pid, *processes.descendants(server.process.pid)]:
                    for name in ("environ", "cmdline"):
                        data = processes.read(pid, name)
                        self.assertTrue(data or pid != server.process.pid)
                        for secret in secrets:
                            self.assertNotIn(secret, data, (pid, name))
                inside = server.value(
                    "demo", "import os; repr(dict(os.environ)) + open('/proc/self/environ').read()")
                self.assertNotIn(self.TOKEN, inside)
                self.assertNotIn("CONTAINER_AUTH", inside)
                for reply in (server.request("GET", "none", "demo"),
                              server.request("GET", "files", "x"),
                              server.request("POST", "executions", "demo", b"{"),
                              server.request("GET", "metrics"), server.request("GET", "metadata"),
                              server.request("GET", "health"), server.request("PUT", "files", "demo")):
                    self.assertNotIn(self.TOKEN, f"{reply.headers}{reply.body}")

    def test_health(self):
        with Server({"pools": [POOL]}) as server:
            for headers in ({"Authorization": None}, {}):
                reply = server.request("GET", "health", headers=headers, api_version=None)
                self.assertEqual((reply.status, reply.json()["message"]), (200, "healthy"))
            self.assertEqual(server.request("HEAD", "health").status, 200)

    def test_preload_that_is_missing_is_told_and_does_not_stop_the_start(self):
        with Server({"pools": [POOL], "preload": ["json", "no_such_package"]}) as server:
            event = next(e for e in server.events if e["event"] == "preload_incomplete")
            self.assertIn("no_such_package", event["missing"])
            self.assertNotIn("json (", event["missing"])
            self.assertEqual(server.value("demo", "1"), 1)


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("there is no openssl command to make a certificate with")
        cls.directory = tempfile.TemporaryDirectory()
        cls.cert, cls.key = f"{cls.directory.name}/cert.pem", f"{cls.directory.name}/key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", cls.key, "-out", cls.cert,
                        "-days", "2", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True,
                       stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def check(self, server):
        import http.client
        context = ssl.create_default_context(cafile=self.cert)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
        connection.request("POST", server.target("executions", "demo"), '{"code": "6 * 7"}',
                           {"Authorization": f"Bearer {server.token}"})
        answer = json.loads(connection.getresponse().read())
        self.assertEqual(answer["result"]["executionResult"], 42)
        self.assertIn(connection.sock.version(), ("TLSv1.2", "TLSv1.3"))
        connection.close()

    def test_from_each_place(self):
        for config, environment, arguments in (
                ({"tls": {"cert": self.cert, "key": self.key}}, {}, ()),
                ({}, {"CARREL_TLS_CERT": self.cert, "CARREL_TLS_KEY": self.key}, ()),
                ({}, {}, ["--tls-cert", self.cert, "--tls-key", self.key])):
            server = Server({"pools": [POOL], **config}, environment, arguments)
            server.tls = True
            with server:
                self.check(server)

    def test_files_and_streams(self):
        with Server({"pools": [POOL], "tls": {"cert": self.cert, "key": self.key}}) as server:
            data = os.urandom(3 << 20)
            self.assertEqual(server.upload("demo", "f", data).status, 200)
            self.assertEqual(server.request("GET", "files/f/content", "demo").body, data)
            events = list(server.stream("demo", "print('x' * 100_000)"))
            self.assertEqual("".join(d["text"] for n, d in events if n == "stdout"),
                             "x" * 100_000 + "\n")

    def test_plain_http_gets_nothing(self):
        with Server({"pools": [POOL], "tls": {"cert": self.cert, "key": self.key}}) as server:
            said = server.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b"200 OK", said)

    def test_files_that_are_not_what_they_should_be(self):
        token = {"CONTAINER_AUTH_TOKEN": "x"}
        for cert, key in ((self.key, self.cert), ("/no/such", self.key), (self.cert, "/no/such")):
            status, said = refusal({"tls": {"cert": cert, "key": key}}, token)
            self.assertNotEqual(status, 0)
            self.assertTrue(said)


class OtherWays(unittest.TestCase):
    """The other isolation level, and an ordinary user."""

    def basics(self, server):
        self.assertEqual(server.value("demo", "x = 20; x + 22"), 42)
        self.assertEqual(server.value("demo", "x"), 20)
        self.assertEqual(server.upload("demo", "a.txt", b"hello").status, 200)
        self.assertEqual(server.value("demo", "open('a.txt').read()"), "hello")
        server.value("demo", "open('b.txt', 'w').write('back')")
        self.assertEqual(server.request("GET", "files/b.txt/content", "demo").body, b"back")
        self.assertEqual(server.value("other", "import os; os.listdir('.')"), "[]")
        self.assertEqual(server.execute("demo", "import time; time.sleep(60)", timeout=0.2)["verdict"],
                         "time_limit")
        self.assertEqual(server.value("demo", "x"), 20)
        self.assertEqual(server.value(
            "demo", "import subprocess; subprocess.run(['echo', 'hi'], capture_output=True).stdout"),
            "b'hi\\n'")
        reply = server.execute("demo", "import socket; socket.create_connection(('127.0.0.1', "
                                       f"{server.port}), 2)")
        self.assertEqual(reply["verdict"], "exception")
        reply = server.execute("demo", "import os; os._exit(1)")
        self.assertEqual(reply["verdict"], "session_killed")
        self.assertIs(server.value("demo", "'x' in globals()"), False)
        self.assertEqual(server.request("DELETE", "session", "demo").status, 204)
        self.assertEqual(server.value("demo", "1"), 1)

    def possible(self, level, user=None):
        """Skips where this host cannot give a level, as carrel doctor says."""
        command = [str(CARREL), "doctor", "--isolation", level]
        if user is not None:
            with tempfile.TemporaryDirectory() as directory:
                os.chmod(directory, 0o755)
                shutil.copy(CARREL, directory)
                command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
                           f"{directory}/carrel", *command[1:]]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        else:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            missing = [line for line in done.stdout.splitlines() if "missing" in line]
            self.skipTest(f"this host does not give the level {level}: {'; '.join(missing)}"
                          f"{done.stderr}")

    def test_landlock(self):
        self.possible("landlock")
        with Server({"pools": [POOL], "isolation": "landlock"}) as server:
            self.basics(server)

    def test_landlock_where_new_namespaces_are_refused(self):
        self.possible("landlock")
        server = Server({"pools": [POOL], "isolation": "landlock"})
        plain = server.command
        server.command = lambda file: [sys.executable, "-c", NO_NAMESPACES, *plain(file)]
        with server:
            self.basics(server)

    def test_namespaces_by_flag(self):
        self.possible("namespaces")
        with Server({"pools": [POOL], "isolation": "landlock"},
                    arguments=["--isolation", "namespaces"]) as server:
            self.basics(server)
            self.assertEqual(server.value("demo", "import os; os.getpid()"), 1)

    def as_user(self, level):
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        self.possible(level, 65534)
        with Server({"pools": [POOL], "isolation": level}, user=65534) as server:
            status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
            self.assertIn("Uid:\t65534\t65534\t65534\t65534", status)
            self.basics(server)

    def test_namespaces_as_an_ordinary_user(self):
        self.as_user("namespaces")

    def test_landlock_as_an_ordinary_user(self):
        self.as_user("landlock")

    def test_as_root_the_gateway_is_nobody_special(self):
        if os.geteuid() != 0:
            self.skipTest("the server is not started as root here")
        with Server({"pools": [POOL]}) as server:
            status = dict(line.split(":\t", 1) for line in pathlib.Path(
                f"/proc/{server.process.pid}/status").read_text().splitlines() if ":\t" in line)
            self.assertNotIn("0", status["Uid"].split())
            self.assertNotIn("0", status["Gid"].split())
            for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                self.assertEqual(int(status[caps], 16), 0, caps)
            self.assertEqual((status["NoNewPrivs"].strip(), status["Seccomp"].strip()), ("1", "2"))

    def test_the_start_is_refused_where_the_level_cannot_be_given(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        server = Server({"pools": [POOL], "isolation": "namespaces"}, user=65534)
        plain = server.command
        server.command = lambda file: [sys.executable, "-c", NO_NAMESPACES, *plain(file)]
        server.expect_failure = True
        try:
            with self.assertRaises(ServerError) as caught:
                server.start()
            self.assertIn("namespace", str(caught.exception))
            self.assertNotEqual(server.process.wait(10), 0)
        finally:
            server.stop()

    def test_doctor_says_where_the_level_cannot_be_given(self):
        done = subprocess.run([sys.executable, "-c", NO_NAMESPACES, str(CARREL), "doctor",
                               "--isolation", "namespaces"], capture_output=True, text=True,
                              timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"user namespace +missing")
        done = subprocess.run([sys.executable, "-c", NO_NAMESPACES, str(CARREL), "doctor",
                               "--isolation", "landlock"], capture_output=True, text=True,
                              timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()

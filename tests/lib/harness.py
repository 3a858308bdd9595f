"""A real server for a test: started on a free port, and stopped by the one who started it.

    with Server() as server:
        reply = server.execute("demo", "1 + 1")
        assert reply["result"]["executionResult"] == 2

Only the standard library, so that a test needs nothing but Debian's Python. The program under test is
build/carrel, or what CARREL_BUILD names.
"""

import contextlib
import http.client
import json
import os
import pathlib
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", ROOT / "build"))
CARREL = BUILD / "carrel"
API_VERSION = "2025-10-02-preview"
SANITIZER_OPTIONS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS")
START_SECONDS = 60
STOP_SECONDS = 30


class ServerError(Exception):
    """The server did not start, or did not stop, as it should."""


class Reply:
    """One HTTP answer: status, headers (lower-case names) and body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    def json(self):
        return json.loads(self.body)

    @property
    def error_code(self):
        return self.json()["error"]["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Server:
    """`carrel serve` with a configuration of the test's own.

    config: a dict that becomes the configuration file (JSON is YAML); "preload" defaults to nothing,
    so that a server starts in a fraction of a second. environment: added to the process's. As a
    context manager it waits until the first session can be made, and stops the server at the end;
    a server that does not exit 0 then is an error, unless it was killed by the test.
    """

    extra_groups = None  # of the server, when it is started as root

    def __init__(self, config=None, environment=None, arguments=(), user=None, token=None,
                 prefix=()):
        self.config = {"preload": [], "listen": "127.0.0.1:0", **(config or {})}
        self.token = token or secrets.token_hex(16)
        self.environment = environment or {}
        self.arguments = list(arguments)
        self.prefix = list(prefix)  # a program that starts the server
        self.user = user
        if user is None and os.geteuid() == 0:
            # Whoever else the server would become where there is a user named carrel.
            self.config.setdefault("user", "nobody")
        self.process = None
        self.port = None
        self.tls = "tls" in self.config
        self.events = []
        self.expect_failure = False
        self._lines = queue.Queue()

    # --- life ---

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stop()

    def command(self, config_file):
        prefix = self.prefix
        if self.user is not None:
            uid = str(self.user)
            prefix = [*prefix, "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return prefix + [str(CARREL), "serve", "--config", str(config_file)] + self.arguments

    def start(self, wait=True):
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-test-")
        base = pathlib.Path(self.directory.name)
        base.chmod(0o777)
        self.config.setdefault("data_dir", str(base / "data"))
        config_file = base / "carrel.yaml"
        config_file.write_text(json.dumps(self.config))
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "CONTAINER_AUTH_TOKEN": self.token,
            **{name: os.environ[name] for name in SANITIZER_OPTIONS if name in os.environ},
            **self.environment,
        }
        command = self.command(config_file)
        if self.user is not None and str(CARREL) in command:
            # A copy, which that user can reach wherever the sources are.
            command[command.index(str(CARREL))] = shutil.copy(CARREL, base)
            shutil.copy(CARREL.with_name("carrel-keeper"), base)
        self.process = subprocess.Popen(
            command, env={k: v for k, v in environment.items() if v is not None},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            extra_groups=self.extra_groups if os.geteuid() == 0 else None)
        self._lines = queue.Queue()  # of this start; a server may be started again
        self._reader = threading.Thread(target=self._read_log, daemon=True,
                                        args=(self.process.stderr, self._lines))
        self._reader.start()
        if wait:
            self.port = self.wait_for("listening")["port"]
            self.wait_for("keeper_ready")

    def _read_log(self, stderr, lines):
        for line in stderr:
            text = line.decode("utf-8", "replace").rstrip("\n")
            try:
                event = json.loads(text)
            except ValueError:
                event = {"event": None, "text": text}
            self.events.append(event)
            lines.put(event)
        lines.put(None)

    def wait_for(self, name, seconds=START_SECONDS):
        """The next log event of that name. ServerError when the server ends before it."""
        end = time.monotonic() + seconds
        while True:
            try:
                event = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise ServerError(f"no '{name}' within {seconds} s: {self.log_text()}") from None
            if event is None:
                raise ServerError(f"the server ended before '{name}': {self.log_text()}")
            if event.get("event") == name:
                return event

    def log_text(self):
        return "\n".join(e.get("text") or json.dumps(e) for e in self.events[-20:])

    def stop(self, sig=signal.SIGTERM):
        """Stops the server and returns its exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServerError(f"the server did not stop: {self.log_text()}") from None
        self._reader.join(5)
        self.process.stderr.close()
        self.process = None
        self.directory.cleanup()
        if status != 0 and not self.expect_failure and sig == signal.SIGTERM:
            raise ServerError(f"exit status {status}: {self.log_text()}")
        return status

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    # --- requests ---

    def connect(self, timeout=60):
        if self.tls:
            import ssl
            context = ssl._create_unverified_context()
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def target(self, route, identifier=None, pool=None, **query):
        query.setdefault("api_version", API_VERSION)
        words = {name.replace("_", "-"): value for name, value in query.items()
                 if value is not None}
        if identifier is not None:
            words["identifier"] = identifier
        prefix = f"/sessionPools/{pool}" if pool else ""
        return f"{prefix}/{route}?{urllib.parse.urlencode(words)}"

    def request(self, method, route, identifier=None, body=None, headers=None, pool=None,
                timeout=60, connection=None, **query):
        """One request; a dict body is sent as JSON."""
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        own = connection is None
        connection = connection or self.connect(timeout)
        try:
            connection.request(method, self.target(route, identifier, pool, **query), body,
                               {k: v for k, v in headers.items() if v is not None})
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            if own:
                connection.close()

    def execute(self, identifier, code, timeout=None, check=True, **options):
        """Runs a cell in the new dialect and returns the reply's JSON, with all its members."""
        body = {"code": code}
        options.setdefault("extensions", "true")
        if timeout is not None:
            body["timeoutInSeconds"] = timeout
        reply = self.request("POST", "executions", identifier, body, **options)
        if check and reply.status != 200:
            raise ServerError(f"execute: {reply}")
        return reply.json()

    def value(self, identifier, code, **options):
        """The value of a cell that must succeed."""
        reply = self.execute(identifier, code, **options)
        if reply["status"] != "Succeeded":
            raise ServerError(f"the cell failed: {json.dumps(reply)[:2000]}")
        return reply["result"]["executionResult"]

    def upload(self, identifier, name, data, path=None, route="files", **options):
        body, content_type = multipart([("file", name, data)])
        return self.request("POST", route, identifier, body,
                            headers={"Content-Type": content_type}, path=path, **options)

    def stream(self, identifier, code, timeout=60, **body):
        """Server-sent events of an execution, as (event, data) pairs while they come."""
        connection = self.connect(timeout)
        try:
            connection.request(
                "POST", self.target("executions", identifier), json.dumps({"code": code, **body}),
                {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json",
                 "Accept": "text/event-stream"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ServerError(f"stream: {answer.status} {answer.read()!r}")
            yield from events_of(answer)
        finally:
            connection.close()

    def raw(self, data, timeout=10):
        """Bytes as they are over TCP; everything that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(data)
            received = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while piece := s.recv(65536):
                    received += piece
            return received


def multipart(parts):
    """(body, content type) of a multipart form of (field, file name, bytes) parts."""
    boundary = "carrel" + secrets.token_hex(16)
    body = b""
    for field, name, data in parts:
        disposition = f'form-data; name="{field}"'
        if name is not None:
            disposition += f'; filename="{name}"'
        body += (f"--{boundary}\r\nContent-Disposition: {disposition}\r\n"
                 "Content-Type: application/octet-stream\r\n\r\n").encode() + data + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def events_of(answer):
    """Server-sent events of an open HTTP answer: (event, JSON of its data)."""
    event, data = "message", []
    for raw in answer:
        line = raw.decode().rstrip("\r\n")
        if line == "":
            if data:
                yield event, json.loads("\n".join(data))
            event, data = "message", []
        elif line.startswith("event:"):
            event = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].lstrip(" "))


def run_at_once(functions, timeout=120):
    """Runs functions in threads of their own; their results in order. Raises the first error."""
    results = [None] * len(functions)
    errors = []

    def call(index, function):
        try:
            results[index] = function()
        except BaseException as error:  # told to the caller below
            errors.append(error)

    threads = [threading.Thread(target=call, args=item, daemon=True)
               for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        if thread.is_alive():
            raise ServerError(f"not done after {timeout} s")
    if errors:
        raise errors[0]
    return results


class ServerCase(unittest.TestCase):
    """Tests that share one server a class. `config` and `options` are those of Server."""

    config = {}
    options = {}

    @classmethod
    def setUpClass(cls):
        # Few sessions are kept ready: what is tested here is not how fast many can be had.
        config = {"pools": [{"name": "default", "ready_sessions": 4}], **cls.config}
        cls.server = Server(config, **cls.options)
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        # A session of the test's own.
        self.session = f"{self._testMethodName[:80]}-{secrets.token_hex(4)}"

    def tearDown(self):
        if self.server.process.poll() is not None:
            self.fail(f"the server ended with {self.server.process.returncode}: "
                      f"{self.server.log_text()}")
        # What it leaves would otherwise hold its place for the whole cooldown.
        self.server.request("DELETE", "session", self.session)

    def assert_error(self, reply, status, code, target=None):
        """The wire's error envelope, with the same code in x-ms-error-code."""
        self.assertEqual(reply.status, status, reply)
        error = reply.json()["error"]
        self.assertEqual(error["code"], code, reply)
        self.assertEqual(reply.headers.get("x-ms-error-code"), code)
        self.assertTrue(error["message"])
        self.assertTrue(error["traceId"])
        if target is not None:
            self.assertEqual(error["target"], target, reply)

    def wait_for_file(self, name, identifier=None):
        """Until code of the session has made a file: it has got that far."""
        identifier = identifier or self.session
        self.wait_until(lambda: self.server.request("GET", f"files/{name}", identifier).status == 200,
                        f"no file {name}")

    def wait_until(self, condition, message, seconds=10):
        """Looks again and again until condition() is true; returns what it returned."""
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                self.fail(f"{message} within {seconds} s")
            time.sleep(0.01)

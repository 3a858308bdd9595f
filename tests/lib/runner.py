"""The real carrel-runner, asked as the gateway asks it: through tests/e2e/runner_driver.c, which
has the gateway's half of it.

    with Runner({"time.yaml": "..."}) as runner:
        runner.wait_for_tool("time")
        ok, value = runner.call("time", "now", timezone="UTC")
        text = runner.text("sh", {"c": "echo x"}, directory="/a/session's/files")
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import textwrap
import threading

from harness import BUILD, SANITIZER_OPTIONS

NOBODY = 65534
START_SECONDS = 30
CALL_SECONDS = 60

# enum err_code of src/base/err.h
INVALID, NOT_FOUND, CONFLICT, TOO_LARGE, BUSY, UNSUPPORTED, DENIED, TIMEOUT, GONE, UNAVAILABLE, \
    UNSURE, INTERNAL = range(1, 13)


@functools.cache
def readable(directory):
    """A copy that the runner's user may read: a checkout may lie in root's own directory."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="carrel-readable-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    base.chmod(0o755)
    return shutil.copytree(directory, base / directory.name)


class RunnerGone(Exception):
    """The process has ended."""


class Runner:
    """files: {name: text} of the directory of tools; config: what else struct runner_config has.

    base holds tools_dir, work_dir and private, a directory of the server's user with a token in it
    that no command may read.
    """

    def __init__(self, files=None, secrets=None, **config):
        self._directory = tempfile.TemporaryDirectory(prefix="carrel-runner-",
                                                      ignore_cleanup_errors=True)
        self.base = pathlib.Path(self._directory.name)
        self.base.chmod(0o755)
        self.tools_dir, self.work_dir = self.base / "tools", self.base / "work"
        self.private = self.base / "data"
        for directory in (self.tools_dir, self.work_dir, self.private):
            directory.mkdir()
        (self.private / "token").write_text("the-servers-own-token")
        if os.geteuid() == 0:
            for path in (self.work_dir, self.private, self.private / "token"):
                os.chown(path, NOBODY, NOBODY)
        for name, text in (files or {}).items():
            self.write(name, text)
        self.config = {"path": str(BUILD / "carrel-runner"), "tools_dir": str(self.tools_dir),
                       "work_dir": str(self.work_dir), "secrets": secrets or {}, **config}
        self.tools, self.problems, self.changes = [], [], 0
        self.took_us = None
        self.answers = {}
        self.last_id = 0
        self.gone = self.started = False
        self.log = []
        self._changed = threading.Condition()

    # --- life ---

    def __enter__(self):
        self.process = subprocess.Popen(
            [BUILD / "tests" / "runner_driver", json.dumps(self.config)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={n: os.environ[n] for n in SANITIZER_OPTIONS if n in os.environ})
        self._threads = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_log, daemon=True)]
        for thread in self._threads:
            thread.start()
        self.wait(lambda: self.started)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.status = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.status = self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()
        self._directory.cleanup()

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def write(self, name, text):
        """A file of tools, there at once."""
        hidden = self.tools_dir / f".{name}.new"
        hidden.write_text(textwrap.dedent(text))
        hidden.rename(self.tools_dir / name)

    # --- what it says ---

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self._take(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self.gone = True
            self._changed.notify_all()

    def _take(self, message):
        if "tools" in message:
            self.started = True
            self.tools, self.problems = message["tools"], message["problems"]
            self.changes += 1
        elif "id" in message:
            result = message["result"]
            if not message["ok"] and result is None:
                result = {"code": message["code"], "message": message["text"]}
            self.answers[message["id"]] = message["ok"], result
        elif "took_us" in message:
            self.took_us = message["took_us"]

    def wait(self, condition, seconds=START_SECONDS):
        with self._changed:
            self._changed.wait_for(lambda: condition() or self.gone, seconds)
            if condition():
                return
        kind = RunnerGone if self.gone else TimeoutError
        raise kind(f"problems: {self.problems}\n" + "".join(self.log)[-4000:])

    def names(self):
        return [tool["name"] for tool in self.tools]

    def tool(self, name):
        return next((t for t in self.tools if t["name"] == name), None)

    def wait_for_tool(self, name, condition=lambda tool: True, seconds=START_SECONDS):
        def found():
            tool = self.tool(name)
            return tool is not None and condition(tool)
        self.wait(found, seconds)
        return self.tool(name)

    def wait_for_problem(self, word, seconds=START_SECONDS):
        def found():
            return [p["message"] for p in self.problems if word in p["message"]]
        self.wait(found, seconds)
        return found()[0]

    # --- what is asked of it ---

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def _next_id(self):
        self.last_id += 1
        return self.last_id

    def ask(self, tool, arguments=None, callable=None, prefix=None, directory=None):
        """prefix: whose tools; directory: of the session's files. The call's number."""
        number = self._next_id()
        self.send({"tool": [number, prefix, tool, callable, arguments or {}, directory]})
        return number

    def begin(self, tool, callable=None, /, **arguments):
        return self.ask(tool, arguments, callable)

    def embed(self, texts):
        number = self._next_id()
        self.send({"embed": [number, texts]})
        return self.result(number)

    def callback(self, url, delivery, body):
        number = self._next_id()
        self.send({"callback": [number, url, delivery, body]})
        return self.result(number)

    def result(self, number, seconds=CALL_SECONDS):
        """(True, result) or (False, {code, message})"""
        self.wait(lambda: number in self.answers, seconds)
        return self.answers.pop(number)

    def call(self, tool, callable=None, /, **arguments):
        return self.result(self.begin(tool, callable, **arguments))

    def outcome(self, *args, **kwargs):
        """As ask: the result, or (code, message)."""
        ok, value = self.result(self.ask(*args, **kwargs))
        return value if ok else (value["code"], value["message"])

    def text(self, *args, **kwargs):
        """As ask: the text of a result."""
        result = self.outcome(*args, **kwargs)
        if not isinstance(result, dict):
            raise AssertionError(result)
        return result["text"]

    def cancel(self, number):
        self.send({"cancel": number})

    # --- its processes ---

    def descendants(self):
        """The processes beneath the driver, the runner first, by number."""
        children = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    stat = (entry / "stat").read_text()
                    parent = int(stat.rpartition(")")[2].split()[1])
                    children.setdefault(parent, []).append(int(entry.name))
        found, at = [], [self.process.pid]
        while at:
            new = children.get(at.pop(0), [])
            found += new
            at += new
        return found

"""A store of approvals as a program of its own: tests/unit/approval_store_tool_test.c."""

import os
import pathlib
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", ROOT / "build"))
TOOL = BUILD / "tests" / "approval_store_tool_test"
WAIT_SECONDS = 90


class Tool:
    """approval_store_tool_test URL WORDS…, begun by the command BEFORE it; and the lines it has
    printed."""

    def __init__(self, url, *words, before=()):
        self.lines = []
        self.process = subprocess.Popen(
            [*before, TOOL, url, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self):
        self.wait_for(lambda lines: lines[:1] == ["ready"])
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def wait_for(self, condition):
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition(self.lines):
            if time.monotonic() > deadline or self.process.poll() not in (None, 0):
                raise AssertionError(f"{self.process.poll()}: {self.lines[-10:]}")
            time.sleep(0.01)

    def end(self):
        """Its exit status and its errors. That the database was away is none."""
        self.process.stdin.close()
        status = self.process.wait(WAIT_SECONDS)
        self._reader.join()
        lines = self.process.stderr.readlines()
        return status, "".join(l for l in lines if '"event":"approvals_database_' not in l)

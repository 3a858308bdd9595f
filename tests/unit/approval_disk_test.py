"""The store of approvals over SQLite whose disk is full again and again: what was answered is there,
and in the end all of it, once."""

import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

from outages import OUTAGES_S  # noqa: E402
from store_tool import Tool  # noqa: E402

MOUNT = 'mount -t tmpfs -o size=8m carrel-test "$0" && exec "$@"'


class Disk:
    """That of a program begun by its BEFORE, in a file system of 8 MiB of its own."""

    def __init__(self, path):
        self.path = path
        self.before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, path)
        self._root = -1

    def hold(self, process):
        """From now on it is there without the program, too."""
        self._root = os.open(f"/proc/{process.pid}/root{self.path}", os.O_PATH | os.O_DIRECTORY)

    def close(self):
        os.close(self._root)

    def at(self, name):
        return f"/proc/self/fd/{self._root}/{name}"

    @contextlib.contextmanager
    def full(self):
        with open(self.at("ballast"), "wb", buffering=0) as ballast:
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(4096))
            yield
        os.unlink(self.at("ballast"))


class FullDisk(unittest.TestCase):
    def setUp(self):
        directory = self.enterContext(tempfile.TemporaryDirectory(prefix="carrel-disk-"))
        self.disk = Disk(directory)
        self.tool = self.enterContext(
            Tool(f"sqlite:{directory}/lines.db", "write", 3000, before=self.disk.before))
        self.disk.hold(self.tool.process)
        self.addCleanup(self.disk.close)

    def written(self):
        """As who starts now would find it: of a copy, made while nobody writes."""
        with tempfile.TemporaryDirectory(prefix="carrel-disk-copy-") as directory:
            with self.stopped():
                for name in ("lines.db", "lines.db-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(self.disk.at(name), directory)
            with contextlib.closing(sqlite3.connect(f"{directory}/lines.db")) as database:
                return [number for number, in database.execute("SELECT number FROM line")]

    @contextlib.contextmanager
    def stopped(self):
        if self.tool.process.poll() is None:
            self.tool.process.send_signal(signal.SIGSTOP)
        yield
        self.tool.process.send_signal(signal.SIGCONT)

    def answered(self):
        return list(map(int, self.tool.lines[1:]))

    def fill_again_and_again(self):
        for part, outage_s in enumerate(OUTAGES_S, 1):
            self.tool.wait_for(lambda lines, n=part: len(lines) > n * 500)
            with self.disk.full():
                time.sleep(outage_s)
                answered = self.answered()
                self.assertEqual(set(answered) - set(self.written()), set())

    def test_what_was_answered_is_there(self):
        self.fill_again_and_again()
        status, errors = self.tool.end()
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(sorted(self.written()), list(range(1, 3001)))
        self.assertEqual(sorted(self.answered()), list(range(1, 3001)))

    def test_what_was_answered_is_there_after_kill_9(self):
        self.tool.wait_for(lambda lines: len(lines) > 500)
        with self.disk.full():
            time.sleep(1)
            self.tool.process.kill()
            self.tool.process.wait()
        self.assertEqual(set(self.answered()) - set(self.written()), set())


if __name__ == "__main__":
    unittest.main()

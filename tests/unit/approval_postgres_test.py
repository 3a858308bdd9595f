"""The store of approvals over PostgreSQL: the suite of approval_store_test, and a server that is
killed, frozen, or of the wrong kind."""

import os
import pathlib
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CARREL_BUILD", ROOT / "build"))
SUITE = BUILD / "tests" / "approval_store_test"
sys.path.insert(0, str(ROOT / "tests" / "lib"))

from outages import OUTAGES_S  # noqa: E402
from postgres import Postgres, free_port  # noqa: E402
from store_tool import TOOL, Tool  # noqa: E402


def refusal(url):
    done = subprocess.run([TOOL, url, "open"], capture_output=True, text=True, timeout=60,
                          check=False)
    return done.returncode, done.stderr


class PostgresTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(Postgres())

    def run_suite(self, url):
        done = subprocess.run([SUITE], env={**os.environ, "CARREL_TEST_POSTGRES": url}, text=True,
                              capture_output=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def written(self):
        return [int(n) for n in self.database.sql("SELECT number FROM line").split()]

    def setUp(self):
        self.database.sql("DROP TABLE IF EXISTS line")

    def test_suite_over_tcp(self):
        self.run_suite(self.database.url)

    def test_suite_over_a_unix_socket(self):
        self.run_suite(self.database.socket_url)

    def test_what_was_answered_is_there_after_kill_9(self):
        """However long it is gone: past the time that a change waits, too."""
        count = 6000
        with Tool(self.database.url, "write", count) as tool:
            for part, outage_s in enumerate(OUTAGES_S, 1):
                tool.wait_for(lambda lines, n=part: len(lines) > n * count / 6)
                self.database.kill()
                time.sleep(outage_s)
                answered = set(map(int, tool.lines[1:]))
                self.database.start()
                self.assertEqual(answered - set(self.written()), set())
            self.assertEqual(tool.end(), (0, ""))
        self.assertEqual(sorted(self.written()), list(range(1, count + 1)))
        self.assertEqual(sorted(map(int, tool.lines[1:])), list(range(1, count + 1)))

    def test_two_servers_write_side_by_side(self):
        with Tool(self.database.url, "write", 2000) as one, \
                Tool(self.database.url, "write", 2000) as other:
            self.assertEqual(one.end(), (0, ""))
            self.assertEqual(other.end(), (0, ""))
        self.assertEqual(sorted(self.written()), list(range(1, 2001)))

    def test_a_watcher_hears_again_after_kill_9(self):
        with Tool(self.database.url, "watch") as watcher:
            with Tool(self.database.url, "write", 3) as tool:
                self.assertEqual(tool.end(), (0, ""))
            watcher.wait_for(lambda lines: "line-3" in lines)
            self.assertEqual(watcher.lines, ["ready", "line-1", "line-2", "line-3"])
            self.database.kill()
            self.database.start()
            # Something may have been missed: it is told to look at all of them.
            watcher.wait_for(lambda lines: lines[-1] == "*")
            with Tool(self.database.url, "write", 5) as tool:
                self.assertEqual(tool.end(), (0, ""))
            watcher.wait_for(lambda lines: "line-5" in lines)
            self.assertEqual(watcher.end(), (0, ""))

    def test_what_others_tell_there_is_harmless(self):
        with Tool(self.database.url, "watch") as watcher:
            self.database.sql("NOTIFY carrel_approvals; NOTIFY carrel_approvals, '  a  b ';"
                              f"NOTIFY carrel_approvals, '{'x' * 5000}';"
                              "NOTIFY other, 'c'; NOTIFY carrel_approvals, 'last'")
            watcher.wait_for(lambda lines: "last" in lines)
            self.assertEqual(watcher.lines, ["ready", "a", "b", "last"])
            self.assertEqual(watcher.end(), (0, ""))

    def test_frozen_in_the_middle(self):
        with Tool(self.database.url, "write", 4000) as tool:
            tool.wait_for(lambda lines: len(lines) > 1000)
            self.database.freeze()
            try:
                time.sleep(0.5)
                stood = len(tool.lines)
                time.sleep(1)
                self.assertEqual(len(tool.lines), stood)
            finally:
                self.database.thaw()
            self.assertEqual(tool.end(), (0, ""))
        self.assertEqual(sorted(self.written()), list(range(1, 4001)))

    def test_commits_are_durable_whatever_the_database_says(self):
        self.database.sql("ALTER DATABASE approvals SET synchronous_commit = off;"
                          "ALTER DATABASE approvals SET default_transaction_isolation"
                          " = 'serializable'")
        try:
            with Tool(self.database.url, "write", 2000) as tool:
                tool.wait_for(lambda lines: len(lines) > 100)
                self.database.kill()
                answered = set(map(int, tool.lines[1:]))
                self.database.start()
                self.assertEqual(answered - set(self.written()), set())
                self.assertEqual(tool.end(), (0, ""))
        finally:
            self.database.sql("ALTER DATABASE approvals RESET ALL")

    def test_a_database_of_another_encoding_is_refused(self):
        self.database.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
                          database="postgres")
        status, text = refusal(self.database.url.replace("/approvals", "/latin"))
        self.assertEqual(status, 1)
        self.assertIn("LATIN1", text)

    def test_no_password_is_told(self):
        secret = "s3cr3t-p4ss"
        place = f"127.0.0.1:{self.database.port}"
        for url, word in (
                (f"postgresql://carrel:{secret}@{place}/approvals", "authentication failed"),
                (f"postgresql://carrel:{secret}@127.0.0.1:{free_port()}/x", "refused"),
                (f"postgresql://carrel:{secret}@{place}/approvals?sslmode=require", "SSL"),
                # Not written as %XX where it had to be.
                (f"postgresql://carrel:%zz{secret}@{place}/x", "not well formed"),
                (f"postgresql://carrel:1/{secret}@{place}/x", "not well formed"),
                (f"postgresql://carrel:a@{secret}@{place}/x", "not well formed"),
                (f"postgresql://carrel:a?{secret}@{place}/x", "authentication failed"),
                (f"postgresql://carrel:a#{secret}@{place}/x", "authentication failed"),
                (f"postgresql://carrel:[{secret}@{place}/x", "authentication failed"),
                (f"postgresql://carrel:/{secret}@{place}/x", "not well formed"),
                (f"postgresql://{place}/x?password={secret}&pass", "not well formed"),
                (f"postgresql://{place}/x?{secret}=1", "not well formed")):
            with self.subTest(url=url):
                status, text = refusal(url)
                self.assertEqual(status, 1, text)
                self.assertNotIn(secret, text)
                self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()

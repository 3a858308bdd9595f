"""The tests of approvals' records and of their trail once more, over PostgreSQL."""

import os
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
import harness  # noqa: E402
import postgres  # noqa: E402


class Records(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(postgres.Postgres(fsync=False))

    def run_suite(self, name):
        done = subprocess.run(
            [harness.BUILD / "tests" / name], capture_output=True, text=True, check=False,
            timeout=240, env={**os.environ, "CARREL_TEST_POSTGRES": self.database.url,
                              "CMOCKA_MESSAGE_OUTPUT": "TAP"})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("ok 1 - ", done.stdout)
        # It was this database that they used.
        self.assertNotEqual(self.database.sql("SELECT count(*) FROM audit"), "")

    def test_records(self):
        self.run_suite("approval_records_test")

    def test_turns(self):
        self.run_suite("approval_turn_test")

    def test_audit(self):
        self.run_suite("approval_audit_test")

    def test_trail(self):
        self.run_suite("approval_trail_test")

    def test_walk(self):
        self.run_suite("approval_walk_test")


if __name__ == "__main__":
    unittest.main()

"""Whose the data directory is: the server's own, a new one, or somebody else's, which it says."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness

FORMER, OTHER = 12345, 65534


@unittest.skipUnless(os.geteuid() == 0, "only root may give a directory away")
class DataDirectory(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="carrel-data-dir-")
        self.addCleanup(directory.cleanup)
        self.data = pathlib.Path(directory.name, "data")
        self.data.parent.chmod(0o755)
        self.data.mkdir(mode=0o700)

    def refused(self, **options):
        """What a server says that does not start."""
        server = harness.Server({"data_dir": str(self.data), "user": "nobody"}, **options)
        server.expect_failure = True
        with self.assertRaises(harness.ServerError) as raised:
            server.start()
        self.assertNotEqual(server.stop(), 0)
        return str(raised.exception)

    def test_one_that_a_former_user_left_is_not_taken(self):
        os.chown(self.data, FORMER, FORMER)
        said = self.refused()
        self.assertIn(f"the data directory {self.data} belongs to {FORMER}, mode 0700, and this "
                      f"server's user is nobody: chown -R nobody: {self.data}", said)
        self.assertEqual(self.data.stat().st_uid, FORMER)

    def test_one_that_the_servers_user_cannot_write_is_not_taken(self):
        os.chown(self.data, FORMER, FORMER)
        self.data.chmod(0o755)
        self.assertIn(f"belongs to {FORMER}, mode 0755", self.refused(user=OTHER))

    def test_a_new_one_becomes_the_servers(self):
        with harness.Server({"data_dir": str(self.data), "user": "nobody"}) as server:
            self.assertEqual(server.value("first", "6 * 7"), 42)
        self.assertEqual(self.data.stat().st_uid, OTHER)

    def test_doctor_says_whose_it_is(self):
        for owner, state, status in ((0, "enforced", 0), (OTHER, "enforced", 0),
                                     (FORMER, "missing", 1)):
            os.chown(self.data, owner, owner)
            config = self.data.parent / "carrel.yaml"
            config.write_text(json.dumps({"data_dir": str(self.data), "user": "nobody"}))
            done = subprocess.run([harness.CARREL, "doctor", "-o", "json", "--config", config],
                                  capture_output=True, text=True, check=False)
            document = json.loads(done.stdout)
            wall = {w["name"]: w for w in document["walls"]}["data directory"]
            if document["given"] or owner == FORMER:
                self.assertEqual(done.returncode, status, done.stdout)
            self.assertEqual(wall["state"], state)
            self.assertEqual("chown" in wall["reason"], owner == FORMER)


if __name__ == "__main__":
    unittest.main()

"""Runs walls_probe, at each level, as root (where the tests are) and as an ordinary user.

Each line of the probe is an attempt from inside a session: "ok NAME" or "FAILED NAME: why".
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402
import hostile  # noqa: E402

SERIAL = True
NOBODY = 65534
OLDER = (0, 1, 2, 3, 4, 5) if os.environ.get("CARREL_LONG") else (0, 2)  # versions of Landlock


class Walls(unittest.TestCase):
    def probe(self, level, user, landlock=None):
        if os.geteuid() not in (0, user):
            self.skipTest(f"only root can run the probe as user {user}")
        with tempfile.TemporaryDirectory(prefix="carrel-walls-") as directory:
            # A copy, which an ordinary user can reach wherever the sources are.
            os.chmod(directory, 0o755)
            program = shutil.copy(harness.BUILD / "tests/walls_probe", directory)
            work = pathlib.Path(directory, "work")
            work.mkdir()
            os.chown(work, NOBODY if user == 0 else user, -1)
            command = [program, level, str(work)]
            if landlock is not None:
                command = [str(harness.BUILD / "tests/old_landlock"), str(landlock), *command]
            if user != os.geteuid():
                command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
                           *command]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=120, check=False)
        lines = done.stdout.splitlines()
        self.assertEqual([line for line in lines if not line.startswith("ok ")], [], done.stderr)
        self.assertGreater(len(lines), 20, done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_namespaces_as_root(self):
        self.probe("namespaces", 0)

    def test_namespaces_as_an_ordinary_user(self):
        self.probe("namespaces", os.geteuid() or NOBODY)

    def test_landlock_as_root(self):
        self.probe("landlock", 0)

    def test_landlock_as_an_ordinary_user(self):
        self.probe("landlock", os.geteuid() or NOBODY)

    def test_on_older_kernels(self):
        """Whatever Landlock can do, down to a kernel that has none."""
        for version in OLDER:
            if version > hostile.landlock_version():
                continue
            with self.subTest(version=version):
                self.probe("namespaces", os.geteuid(), version)
                if version > 0:
                    self.probe("landlock", os.geteuid(), version)

    def test_commands_on_older_kernels(self):
        for version in OLDER[1:]:
            if version > hostile.landlock_version():
                continue
            with self.subTest(version=version):
                done = subprocess.run([harness.BUILD / "tests/old_landlock", str(version),
                                       harness.BUILD / "tests/command_test"], capture_output=True,
                                      stdin=subprocess.DEVNULL, text=True, timeout=300, check=False)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_doctor_says_what_landlock_gives(self):
        for version, said in ((0, "missing because: this kernel has no Landlock"),
                              (2, "weaker because: it is version 2;"), (6, "enforced")):
            if version > hostile.landlock_version():
                continue
            done = subprocess.run([harness.BUILD / "tests/old_landlock", str(version),
                                   harness.CARREL, "doctor"], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=60, check=True)
            line = next(line for line in done.stdout.splitlines() if line.startswith("landlock "))
            self.assertTrue(line.removeprefix("landlock").strip().startswith(said), line)
            self.assertIn("own process group    enforced", done.stdout)


if __name__ == "__main__":
    unittest.main()

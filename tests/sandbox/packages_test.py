"""Directories of packages in sessions: they come while a session runs, read-only, and to their tenant
only. Driven by packages_probe, a gateway with a keeper and no HTTP.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402

NOBODY = 65534
ONE, TWO, THREE, NONE = (digit * 64 for digit in "123f")


class Probe:
    def __init__(self, level, as_user=False):
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-packages-")
        top = pathlib.Path(self.directory.name)
        user = NOBODY if os.geteuid() == 0 else os.geteuid()
        self.packages = top / "packages"
        for name, module in ((ONE, "one"), (TWO, "two"), (THREE, "three")):
            (self.packages / name / "nested").mkdir(parents=True)
            (self.packages / name / f"{module}.py").write_text(f"value = '{module}'\n")
            (self.packages / name / "shared_name.py").write_text(f"value = '{module}'\n")
            (self.packages / name / "program").write_text("#!/bin/sh\nid -u\n")
            (self.packages / name / "program").chmod(0o6755)
        (top / "data").mkdir(mode=0o755)
        for path in (top, *top.rglob("*")):
            os.chown(path, user, user)
        # Copies, which an ordinary user can reach wherever the sources are.
        probe, keeper = (shutil.copy(harness.BUILD / name, top)
                         for name in ("tests/packages_probe", "carrel-keeper"))
        prefix = []
        if as_user and os.geteuid() == 0:
            prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        self.process = subprocess.Popen(
            [*prefix, probe, keeper, level, str(top), str(user)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the probe ended: {self.process.stderr.read()}")
        return json.loads(line)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        status = self.process.wait(30)
        self.directory.cleanup()
        return status, errors


class Case:
    level = None

    @classmethod
    def setUpClass(cls):
        cls.probe = Probe(cls.level)

    @classmethod
    def tearDownClass(cls):
        status, errors = cls.probe.close()
        if status != 0:
            raise AssertionError(errors)

    def setUp(self):
        self.tenant = self._testMethodName.replace("test_", "")[:40]

    def tearDown(self):
        for tenant in (self.tenant, "other"):
            self.probe.ask(delete="session", tenant=tenant)
            self.probe.ask(set=tenant, names=[])

    def set(self, *names, tenant=None):
        self.assertEqual(self.probe.ask(set=tenant or self.tenant, names=names), {})

    def run_cell(self, code, tenant=None):
        reply = self.probe.ask(run="session", tenant=tenant or self.tenant, code=code)
        self.assertEqual(reply["verdict"], "succeeded", reply["traceback"])
        return reply["text"]

    def fails_with(self, error, code, tenant=None):
        reply = self.probe.ask(run="session", tenant=tenant or self.tenant, code=code)
        self.assertEqual(reply["verdict"], "exception", reply)
        self.assertIn(error, reply["traceback"])

    def where(self, name):
        """What a session calls the directory."""
        return f"/mnt/packages/{name}"

    def test_a_new_session_has_them_in_its_first_cell(self):
        self.set(ONE)
        self.assertEqual(self.run_cell("import one; one.value"), "one")
        self.assertEqual(self.run_cell("one.__file__"), f"{self.where(ONE)}/one.py")

    def test_a_session_that_has_begun_keeps_its_state(self):
        self.run_cell("x = 5; import sys; before = list(sys.path)")
        self.fails_with("ModuleNotFoundError", "import one")
        self.set(ONE)
        self.assertEqual(self.run_cell("import one; (x, one.value)"), "(5, 'one')")
        # The next list adds one and takes one away; what was imported stays.
        self.set(TWO)
        self.assertEqual(self.run_cell("import two; (x, one.value, two.value)"),
                         "(5, 'one', 'two')")
        self.fails_with("ModuleNotFoundError", "import sys; del sys.modules['one']; import one")
        self.set()
        self.assertEqual(self.run_cell("sys.path == before"), "True")

    def test_a_cell_that_runs_gets_them(self):
        self.run_cell("import os, sys, time")
        self.probe.ask(start="session", tenant=self.tenant, code=f"""
end = time.monotonic() + 20
while not os.path.exists({self.where(TWO) + "/two.py"!r}) and time.monotonic() < end:
    time.sleep(0.005)
sys.path.append({self.where(TWO)!r})
import two
two.value""")
        self.set(TWO)
        self.assertEqual(self.probe.ask(wait="session", tenant=self.tenant), {})
        self.assertEqual(self.probe.ask(finish="session", tenant=self.tenant)["text"], "two")

    def test_several_at_once_in_their_order(self):
        self.set(TWO, ONE, THREE)
        self.assertEqual(self.run_cell("import one, two, three, shared_name; shared_name.value"),
                         "two")

    def test_subprocesses_have_them(self):
        self.set(ONE)
        code = ("import subprocess; subprocess.run(['python3', '-c', 'import one; print(one.value)'],"
                " capture_output=True, text=True).stdout")
        self.assertEqual(self.run_cell(code), "one\n")

    def test_they_cannot_be_changed(self):
        self.set(ONE)
        where = self.where(ONE)
        # As written: each is tried by path and by an open directory.
        attempts = [f"open('{where}/one.py', 'a')", f"open('{where}/new.py', 'w')",
                    f"os.mkdir('{where}/dir')", f"os.rmdir('{where}/nested')",
                    f"os.unlink('{where}/one.py')", f"os.rename('{where}/one.py', '{where}/x.py')",
                    f"os.truncate('{where}/one.py', 0)", f"os.symlink('/etc', '{where}/etc')",
                    f"os.link('{where}/one.py', '{where}/x.py')"]
        for attempt in attempts:
            self.fails_with("Error", f"import os; {attempt}")
        self.run_cell(f"""
fd = os.open({where!r}, os.O_RDONLY)
for change in (lambda: os.fchmod(fd, 0o777), lambda: os.chmod('one.py', 0o777, dir_fd=fd),
               lambda: os.utime({where!r} + '/one.py', (1, 1))):
    try:
        change()
    except OSError:
        pass
os.close(fd)""")
        directory = self.probe.packages / ONE
        self.assertEqual((directory / "one.py").read_text(), "value = 'one'\n")
        self.assertEqual({p.name for p in directory.iterdir()},
                         {"one.py", "shared_name.py", "nested", "program"})
        self.assertEqual((directory / "one.py").stat().st_mode & 0o022, 0)
        self.assertGreater((directory / "one.py").stat().st_mtime, 1)

    def test_user_code_that_breaks_the_path_keeps_its_session(self):
        self.run_cell("import sys, os; keep, sys.path = sys.path, 5")
        self.set(ONE)
        self.assertEqual(self.run_cell("sys.path = keep; 'here'"), "here")
        self.set(ONE, TWO)
        self.assertEqual(self.run_cell("import two; two.value"), "two")

    def test_a_directory_that_is_not_there(self):
        self.set(NONE, ONE)
        self.assertEqual(self.run_cell("import one; one.value"), "one")
        self.assertEqual(self.run_cell("import sys; any('ffff' in p for p in sys.path)"), "False")

    def test_names_are_checked(self):
        for name in ("x", "../data", "A" * 64, ONE + "1", "", "/" * 64):
            reply = self.probe.ask(set=self.tenant, names=[name])
            self.assertIn("no directory of packages", reply["error"])
        reply = self.probe.ask(set=self.tenant, names=[f"{i:064x}" for i in range(9)])
        self.assertIn("at most", reply["error"])


class Namespaces(Case, unittest.TestCase):
    level = "namespaces"

    def test_they_are_the_tenants(self):
        self.set(ONE)
        self.set(TWO, tenant="other")
        self.assertEqual(self.run_cell("import os; os.listdir('/mnt/packages')"), f"['{ONE}']")
        self.assertEqual(self.run_cell("import os; os.listdir('/mnt/packages')", tenant="other"),
                         f"['{TWO}']")
        # Whoever knows the name of another's finds nothing there, nor anywhere else.
        for path in (f"/mnt/packages/{TWO}", f"/mnt/packages/{TWO}/two.py",
                     f"/mnt/packages/{ONE}/../{TWO}", f"/proc/self/cwd/../packages/{TWO}",
                     f"/proc/1/root/mnt/packages/{TWO}", f"{self.probe.packages}/{TWO}"):
            self.assertEqual(self.run_cell(f"os.path.exists({path!r})"), "False", path)
        mounts = self.run_cell("open('/proc/self/mountinfo').read()")
        self.assertIn(ONE, mounts)
        self.assertNotIn(TWO, mounts)

    def test_without_any_there_is_nothing(self):
        self.assertEqual(self.run_cell("import os; os.listdir('/mnt/packages')"), "[]")
        self.assertNotIn("packages", self.run_cell("open('/proc/self/mountinfo').read()"))
        self.fails_with("Error", "os.mkdir('/mnt/packages/x')")

    def test_the_place_itself_cannot_be_changed(self):
        self.set(ONE)
        for attempt in ("mkdir('/mnt/packages/x')", f"rmdir('/mnt/packages/{ONE}')",
                        f"rename('/mnt/packages/{ONE}', '/mnt/packages/x')",
                        "rename('/mnt/packages', '/mnt/x')", "rmdir('/mnt/packages')",
                        f"symlink('/tmp', '/mnt/packages/{TWO}')"):
            self.fails_with("Error", f"import os; os.{attempt}")
        self.set(ONE, TWO)
        self.assertEqual(self.run_cell("import one, two; two.value"), "two")
        self.assertEqual(self.run_cell("sorted(os.listdir('/mnt/packages')) == " f"{[ONE, TWO]!r}"),
                         "True")

    def test_set_user_id_has_no_effect_and_mounts_say_so(self):
        self.set(ONE)
        lines = self.run_cell("open('/proc/self/mountinfo').read()").splitlines()
        options = next(line for line in lines if ONE in line.split()[4]).split()[5].split(",")
        for wanted in ("ro", "nosuid", "nodev"):
            self.assertIn(wanted, options)
        run = f"import subprocess; subprocess.run(['{self.where(ONE)}/program'], "
        self.assertEqual(self.run_cell(run + "capture_output=True, text=True).stdout"), "1000\n")

    def test_a_session_that_hides_itself_harms_itself_only(self):
        self.run_cell("import ctypes; ctypes.CDLL(None).prctl(4, 0)")  # not dumpable
        self.set(ONE)
        self.run_cell("1")
        self.set(ONE, tenant="other")
        self.assertEqual(self.run_cell("import one; one.value", tenant="other"), "one")

    def test_more_than_a_session_can_have(self):
        self.run_cell("x = 5")
        for i in range(70):
            name = f"{i + 1000:064x}"
            (self.probe.packages / name).mkdir()
            (self.probe.packages / name / "which.py").write_text(f"value = {i}\n")
            self.set(name)
            self.run_cell("1")
        self.assertEqual(self.run_cell("x"), "5")
        self.assertIn("a new session", self.probe.ask(wait="session", tenant=self.tenant)["error"])
        self.probe.ask(delete="session", tenant=self.tenant)
        self.assertEqual(self.run_cell("import which; which.value"), "69")


class AsAnOrdinaryUser(Case, unittest.TestCase):
    level = "namespaces"

    @classmethod
    def setUpClass(cls):
        cls.probe = Probe(cls.level, as_user=True)


class Landlock(Case, unittest.TestCase):
    level = "landlock"

    def where(self, name):
        return f"{self.probe.packages}/{name}"


if __name__ == "__main__":
    unittest.main()

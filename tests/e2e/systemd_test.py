"""The unit and the configuration of examples/systemd: systemd's own opinion of the unit, and systemd itself
running it, as the first process of namespaces of its own."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import processes  # noqa: E402
from harness import BUILD, ROOT  # noqa: E402

SERIAL = True  # it makes control groups of its own at the top

UNIT = ROOT / "examples" / "systemd" / "carrel.service"
CONFIG = ROOT / "examples" / "systemd" / "carrel.yaml"
SYSTEMD = pathlib.Path("/lib/systemd/systemd")
GROUPS = pathlib.Path("/sys/fs/cgroup")
USER = 61187

# In mount, process, group, IPC and host name namespaces of its own: a user carrel, the programs where the
# unit has them, the configuration, and a /run without the host's systemd.
INSIDE = """
set -e
mount --make-rprivate /
cd "$1"
mount --bind bin /usr/local/bin
mount -t tmpfs tmpfs /var/lib
mount -t overlay overlay -o lowerdir=etc:/etc /etc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/systemd/system
cp carrel.service test.target /run/systemd/system
export container=test
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --log-level=info
"""


class Unit(unittest.TestCase):
    def test_systemd_finds_nothing_wrong(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("there is no systemd-analyze")
        with tempfile.TemporaryDirectory() as directory:
            unit = pathlib.Path(directory, "carrel.service")
            unit.write_text(UNIT.read_text().replace("/usr/local/bin/carrel", str(BUILD / "carrel"))
                            .replace("Documentation=man:carrel(1)\n", ""))
            done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", str(unit)],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_documents_name_it(self):
        said = (ROOT / "docs" / "security.md").read_text()
        for file in (UNIT, CONFIG):
            self.assertIn(f"../{file.relative_to(ROOT)}", said)


class Running(unittest.TestCase):
    def setUp(self):
        if os.geteuid() != 0 or not SYSTEMD.exists() or not (GROUPS / "systemd").is_dir():
            self.skipTest("only root, where systemd and its control groups of version 1 are")
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="carrel-systemd-"))
        self.base.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.base)
        for name in ("bin", "etc/carrel"):
            (self.base / name).mkdir(parents=True)
        for name in ("carrel", "carrel-keeper", "carrel-runner"):
            shutil.copy(BUILD / name, self.base / "bin")
        (self.base / "etc/passwd").write_text(pathlib.Path("/etc/passwd").read_text() +
                                          f"carrel:x:{USER}:{USER}::/nonexistent:/usr/sbin/nologin\n")
        (self.base / "etc/group").write_text(pathlib.Path("/etc/group").read_text() + f"carrel:x:{USER}:\n")
        self.token = self.base / "etc/carrel/token"
        self.write(self.token, "first-token\n")
        config = CONFIG.read_text()
        self.assertIn(":8080", config)
        self.write(self.base / "etc/carrel/carrel.yaml",
                   config.replace(":8080", ":0") + "preload: []\n", 0o644, 0)
        self.log = self.base / "log"
        unit = UNIT.read_text().replace("[Unit]", "[Unit]\nDefaultDependencies=no")
        (self.base / "carrel.service").write_text(unit.replace(
            "User=carrel", f"User=carrel\nStandardError=append:{self.log}"))
        (self.base / "test.target").write_text(
            "[Unit]\nDefaultDependencies=no\nRequires=carrel.service\nAfter=carrel.service\n")
        # A group in each hierarchy, above which that systemd sees nothing.
        self.groups = [GROUPS / name / f"carrel-systemd-{os.getpid()}" for name in os.listdir(GROUPS)
                       if os.path.ismount(GROUPS / name) and name != "cpuset"]
        self.addCleanup(self.remove_groups)
        for group in self.groups:
            group.mkdir()

    def write(self, path, text, mode=0o640, group=USER):
        path.write_text(text)
        os.chown(path, 0, group)
        path.chmod(mode)

    def remove_groups(self):
        end = time.monotonic() + 20
        for top in self.groups:
            while top.exists():  # its last process may still be ending
                try:
                    for group, _, _ in os.walk(top, topdown=False):
                        os.rmdir(group)
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)

    def events(self):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, name, count=1):
        end = time.monotonic() + 60
        while True:
            found = [e for e in self.events() if e["event"] == name]
            if len(found) >= count:
                return found[-1]
            if time.monotonic() > end:
                said = (self.base / "said").read_text()[-2000:]
                self.fail(f"no {name}: {self.log.read_text()[-2000:] if self.log.exists() else ''} {said}")
            time.sleep(0.02)

    def request(self, token, code):
        """Beside the server: it listens on the loopback of this machine, too."""
        done = subprocess.run([str(BUILD / "carrel"), "exec", "-s", "demo", code], capture_output=True,
                              text=True, timeout=60, env={"PATH": "/usr/bin:/bin", "CARREL_TOKEN": token,
                                                          "CARREL_URL": f"http://127.0.0.1:{self.port}"})
        return done.returncode, done.stdout

    def test_it_starts_reloads_and_stops(self):
        groups = " ".join(str(group) for group in self.groups)
        with (self.base / "said").open("wb") as said:
            outer = subprocess.Popen(
                ["/bin/sh", "-c", f"for group in {groups}; do echo $$ >$group/cgroup.procs; done; exec unshare -m -p -f --mount-proc -C -u "
                 f"-i --kill-child /bin/bash -c '{INSIDE}' inside {self.base}"],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        self.addCleanup(lambda: (outer.poll() is None and outer.kill(), outer.wait()))
        self.port = self.wait_for("listening")["port"]
        self.wait_for("keeper_ready")
        self.assertEqual(self.request("first-token", "x = 5"), (0, ""))
        self.assertEqual(self.request("second-token", "x")[0], 3)
        first = processes.children(outer.pid)[0]
        server = next(pid for pid in processes.descendants(first)
                      if processes.read(pid, "cmdline").split(b"\0")[1:2] == [b"serve"])
        status = processes.read(server, "status").decode()
        self.assertRegex(status, rf"Uid:\t{USER}\t{USER}")
        self.assertRegex(status, r"CapBnd:\t0000000000000000")
        self.assertNotIn("reload_out_of_reach", [e["event"] for e in self.events()])
        # systemctl speaks to the systemd of its own namespaces.
        inside = ["nsenter", "-t", str(first), "-m", "-p", "-C", "systemctl"]
        self.write(self.token, "second-token\n")
        subprocess.run([*inside, "reload", "carrel"], check=True, timeout=60)
        self.wait_for("reloaded")
        self.assertEqual(self.request("first-token", "x")[0], 3)
        self.assertEqual(self.request("second-token", "x"), (0, "5\n"))
        subprocess.run([*inside, "stop", "carrel"], check=True, timeout=60)
        self.wait_for("stopped")
        self.assertEqual([e["event"] for e in self.events() if e["level"] == "error"], [])


if __name__ == "__main__":
    unittest.main()

"""The server in a hardened pod, run by runc: uid 65534, a read-only root, no capabilities,
no_new_privs, and the container runtime's own filter of system calls, which has no clone3, no
namespaces and no mounts. pod.oci-spec.json is what containerd 1.6 makes of such a pod; the
directories are those of volumes.
"""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
import harness

SPEC = json.loads((HERE / "pod.oci-spec.json").read_text())
NOBODY = 65534
GROUP = 2000  # fsGroup
PROGRAMS = ("carrel", "carrel-keeper", "carrel-runner")
DATA = "/var/lib/carrel"

# What the level "namespaces" needs besides, with an unmasked /proc: a Localhost profile of a pod.
NAMESPACE_CALLS = ["chroot", "clone", "fsconfig", "fsmount", "fsopen", "fspick", "mount",
                   "mount_setattr", "move_mount", "open_tree", "pivot_root", "sethostname",
                   "setns", "umount", "umount2", "unshare"]

HELLO = """
name: hello
command: sh
timeout: 30
schema: {options: {c: {type: string, short: c}}}
"""


def bind(source, destination, *options):
    return {"destination": destination, "type": "bind", "source": str(source),
            "options": ["rbind", *options]}


class Pod(harness.Server):
    """base: a directory of the test's own, which holds the pod's root and its volume DATA."""

    def __init__(self, base, config=None, namespaces=False, **options):
        super().__init__({"data_dir": DATA, **(config or {})}, **options)
        self.base = pathlib.Path(base)
        self.namespaces = namespaces
        self.id = f"carrel-{secrets.token_hex(6)}"

    def bundle(self, arguments, config_file=None):
        """Writes the bundle's config.json."""
        root, app, volume = (self.base / name for name in ("root", "app", "volume"))
        for directory in (root / "usr", root / "app", root / "etc", root / "tmp", app):
            directory.mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)  # which runc gives to what it mounts there
        for name in ("bin", "lib", "lib64", "sbin"):
            with contextlib.suppress(FileExistsError):
                (root / name).symlink_to(f"usr/{name}")
        for name in PROGRAMS:
            shutil.copy(harness.CARREL.with_name(name), app)
        if config_file is not None:
            shutil.copy(config_file, app / "carrel.yaml").chmod(0o644)
        spec = json.loads(json.dumps(SPEC))
        spec["root"] = {"path": "root", "readonly": True}
        spec["process"]["args"] = ["/app/carrel", *arguments]
        spec["process"]["env"] += [f"CONTAINER_AUTH_TOKEN={self.token}"]
        spec["process"]["user"]["additionalGids"] = [GROUP]
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "bind"] + [
            bind("/usr", "/usr", "ro"), bind("/etc", "/etc", "ro"), bind(app, "/app", "ro"),
            bind(volume, DATA), {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                                 "options": ["nosuid", "nodev", "mode=1777"]}]
        spec["linux"]["cgroupsPath"] = f"/{self.id}"
        if self.namespaces:
            calls = spec["linux"]["seccomp"]["syscalls"]
            calls.append({"names": NAMESPACE_CALLS, "action": "SCMP_ACT_ALLOW"})
            spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
        (self.base / "config.json").write_text(json.dumps(spec))

    def command(self, config_file):
        self.bundle(["serve", "--config", "/app/carrel.yaml"], config_file)
        return self.runc()

    def runc(self):
        return ["runc", "--root", str(self.base / "runc"), "run", "--bundle", str(self.base), self.id]

    def doctor(self, *arguments):
        """{name of a wall: it}, and the exit status."""
        self.bundle(["doctor", "-o", "json", "--data-dir", DATA, *arguments])
        done = subprocess.run(self.runc(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=harness.START_SECONDS, check=False)
        try:
            walls = json.loads(done.stdout)["walls"]
        except ValueError:
            raise harness.ServerError(f"doctor: {done}") from None
        return {wall["name"]: wall for wall in walls}, done.returncode


@unittest.skipUnless(os.geteuid() == 0, "only root may run containers")
class Base(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="carrel-pod-", ignore_cleanup_errors=True)
        self.addCleanup(directory.cleanup)
        self.base = pathlib.Path(directory.name)
        self.base.chmod(0o755)
        self.tools = self.base / "app" / "tools"
        self.tools.mkdir(parents=True)
        (self.tools / "hello.yaml").write_text(HELLO)
        # As the root of a file system of its own.
        self.volume = self.base / "volume"
        self.volume.mkdir()
        (self.volume / "lost+found").mkdir(mode=0o700)

    def pod(self, isolation, **options):
        return Pod(self.base, {"isolation": isolation,
                               "code_mode": {"tools": {"dir": "/app/tools"}}}, **options)

    def check(self, pod):
        """A session's own life, a tool's command, and a file of the server's own."""
        self.assertEqual(pod.value("first", "x = 6 * 7\nx"), 42)
        self.assertEqual(pod.value("first", "open('/mnt/data/a', 'w').write('abc')"
                                          if pod.namespaces else "open('a', 'w').write('abc')"), 3)
        self.assertEqual(pod.value("first", "x"), 42)
        self.assertEqual(pod.value("other", "tools.hello(c='echo from a pod').strip()"), "from a pod")
        self.assertEqual(pod.value("other", "artifacts.save('kept', 'text', 'a note'); "
                                          "artifacts.load('kept')"), "text")


class Landlock(Base):
    def test_a_volume_that_everybody_may_write(self):
        self.volume.chmod(0o777)
        with self.pod("landlock") as pod:
            self.check(pod)
            # What sessions have is closed all the same.
            for name in ("sessions", "run"):
                status = (self.volume / name).stat()
                self.assertEqual((status.st_uid, status.st_mode & 0o777), (NOBODY, 0o700), name)
            told = [e for e in pod.events if e.get("event") == "data_dir_shared"]
            self.assertEqual([e["mode"] for e in told], ["0777"])

    def test_a_volume_of_the_pods_group(self):
        os.chown(self.volume, 0, GROUP)
        self.volume.chmod(0o2770)
        with self.pod("landlock") as pod:
            self.check(pod)

    def test_a_volume_it_may_not_write(self):
        self.volume.chmod(0o755)
        pod = self.pod("landlock")
        pod.expect_failure = True
        with self.assertRaises(harness.ServerError) as raised:
            pod.start()
        pod.stop()
        self.assertRegex(str(raised.exception), f"data directory {DATA} belongs to root, mode 0755"
                                                ".*chown")

    def test_doctor_says_what_is_there_and_what_is_not(self):
        self.volume.chmod(0o777)
        walls, status = self.pod("landlock").doctor("--isolation", "landlock")
        self.assertEqual(status, 0, walls)
        self.assertEqual(walls["tools' commands"]["state"], "weaker")
        self.assertIn("process group", walls["tools' commands"]["reason"])
        walls, status = self.pod("landlock").doctor("--isolation", "namespaces")
        self.assertEqual((status, walls["user namespace"]["state"]), (1, "missing"))


class Namespaces(Base):
    def test_with_a_profile_that_allows_them(self):
        self.volume.chmod(0o777)
        with self.pod("namespaces", namespaces=True) as pod:
            self.check(pod)
        walls, status = self.pod("namespaces", namespaces=True).doctor()
        self.assertEqual(status, 0, walls)
        self.assertEqual(walls["tools' commands"]["state"], "enforced", walls["tools' commands"])


if __name__ == "__main__":
    unittest.main()

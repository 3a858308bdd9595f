"""Hostile code in a session against the host, the server and the neighbours: each attack is a test,
with something planted outside for it to reach."""

import contextlib
import ctypes
import ctypes.util
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
import unittest

import hostile
from hostile import NOBODY, harness

SERIAL = True

ENVIRONMENT_CANARY = "ENVCANARY" + secrets.token_hex(12)
TOKEN = "TOKENCANARY" + secrets.token_hex(12)


class Server(harness.Server):
    """Its token and one variable of its environment can be recognised by a pattern.

    Started as root it has groups that no session may keep.
    """

    extra_groups = (0, 4, 42)

    def __init__(self, *args, **options):
        super().__init__(*args, token=TOKEN, **options)
        self.environment = {"CARREL_TEST_CANARY": ENVIRONMENT_CANARY, **self.environment}


class Canary:
    """What lives on the host and must not be reached: everybody on the host may reach it."""

    def __init__(self):
        self.secret = "CANARY" + secrets.token_hex(12)
        self.name = f"carrel-canary-{secrets.token_hex(6)}"
        self.directory = pathlib.Path("/var/tmp") / self.name
        self.file = self.directory / "secret"
        self.shared = pathlib.Path("/dev/shm") / self.name
        self.socket_path = str(self.directory / "socket")
        self.abstract = f"\0{self.name}"
        self.contacts = []  # what somebody sent to one of the sockets
        self._closing = contextlib.ExitStack()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.shmat.restype = ctypes.c_void_p
        self.key = secrets.randbelow(1 << 30) + 1
        self.queue = f"/{self.name}"

    def open(self):
        os.umask(0o022)
        self.directory.mkdir()
        self.directory.chmod(0o777)
        for file in (self.file, self.shared):
            file.write_text(self.secret)
            file.chmod(0o666)
        self._closing.callback(shutil.rmtree, self.directory)
        self._closing.callback(self.shared.unlink)
        self.tcp = self._listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1]
        self.tcp6 = self._listen(socket.AF_INET6, ("::1", 0)).getsockname()[1]
        self._listen(socket.AF_UNIX, self.socket_path)
        os.chmod(self.socket_path, 0o777)
        self._listen(socket.AF_UNIX, self.abstract)
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.bind(self.abstract + "-datagram")
        self._serve(datagrams, self._take_datagrams)
        self._make_ipc()
        self.process = subprocess.Popen(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
                                         "--clear-groups", "sleep", "600"]
                                        if os.geteuid() == 0 else ["sleep", "600"])
        self._closing.callback(self._end_process)

    def _end_process(self):
        self.process.kill()
        self.process.wait()

    def _listen(self, family, address):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen(64)
        self._serve(listener, self._accept)
        return listener

    def _serve(self, sock, function):
        sock.settimeout(0.2)
        stop = threading.Event()
        thread = threading.Thread(target=function, args=(sock, stop), daemon=True)
        thread.start()
        self._closing.callback(sock.close)
        self._closing.callback(thread.join)
        self._closing.callback(stop.set)

    def _accept(self, listener, stop):
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                self.contacts.append(("connection", str(listener.getsockname())))
                with contextlib.suppress(OSError):
                    connection.sendall(self.secret.encode())
                connection.close()

    def _take_datagrams(self, sock, stop):
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                self.contacts.append(("datagram", sock.recv(100).decode("latin-1")))

    def _make_ipc(self):
        create, remove = 0o1000 | 0o666, 0
        segment = self._libc.shmget(self.key, 4096, create)
        address = self._libc.shmat(segment, None, 0)
        ctypes.memmove(address, self.secret.encode(), len(self.secret))
        self._libc.shmdt(ctypes.c_void_p(address))
        semaphores = self._libc.semget(self.key, 1, create)
        messages = self._libc.msgget(self.key, create)
        self._closing.callback(self._libc.shmctl, segment, remove, None)
        self._closing.callback(self._libc.semctl, semaphores, 0, remove)
        self._closing.callback(self._libc.msgctl, messages, remove, None)
        queue = self._libc.mq_open(self.queue.encode(), os.O_RDWR | os.O_CREAT, 0o666, None)
        self._libc.mq_send(queue, self.secret.encode(), len(self.secret), 0)
        self._closing.callback(self._libc.mq_unlink, self.queue.encode())
        assert min(segment, semaphores, messages, queue) >= 0, "the canaries could not be made"

    @property
    def alive(self):
        return self.process.poll() is None and "T" not in pathlib.Path(
            f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]

    def close(self):
        self._closing.close()


canary = Canary()


def setUpModule():
    canary.open()


def tearDownModule():
    try:
        hostile.stop_servers()
    finally:
        canary.close()


class Escape:
    """What all tests here have: the canary is untouched at their end."""

    options = {"kind": Server}

    def setUp(self):
        self.contacts_before = len(canary.contacts)

    def tearDown(self):
        self.assertEqual(canary.file.read_text(), canary.secret)
        self.assertEqual(canary.shared.read_text(), canary.secret)
        self.assertEqual(canary.contacts[self.contacts_before:], [])
        self.assertTrue(canary.alive, "a process of the host was signalled")
        self.assertIsNone(self.server.process.poll(), "the server is gone")

    def assert_all_failed(self, found, but=()):
        """FOUND maps what was tried to what came of it: the names of errors, and nothing else."""
        worked = {what: result for what, result in found.items()
                  if not (isinstance(result, str) and re.fullmatch(r"E[A-Z0-9]+|[A-Z]\w*Error",
                                                                   result))
                  and what not in but}
        self.assertEqual(worked, {})

    def assert_no_secret(self, found):
        self.assertNotIn(canary.secret, json.dumps(found))


# --- files of the host -----------------------------------------------------------------------------

class HostFiles(Escape):
    """Files outside the session."""

    def test_absolute_path(self):
        found = self.ask(f"""
found = {{p: content(p) for p in ({str(canary.file)!r}, {str(canary.shared)!r})}}
found["list"] = attempt(os.listdir, {str(canary.directory)!r})
found["write"] = attempt(open, {str(canary.file)!r}, "a")
found["create"] = attempt(open, {str(canary.directory / 'new')!r}, "x")
found["remove"] = attempt(os.remove, {str(canary.file)!r})
found["rename"] = attempt(os.rename, {str(canary.file)!r}, {str(canary.file)!r} + "2")
found["truncate"] = attempt(os.truncate, {str(canary.file)!r}, 0)
found["mkdir"] = attempt(os.mkdir, {str(canary.directory / 'dir')!r})
found["link out"] = attempt(os.link, {str(canary.file)!r}, "link")
found["symlink in"] = attempt(os.symlink, "x", {str(canary.directory / 'link')!r})
""")
        self.assert_all_failed(found)
        self.assertEqual(sorted(os.listdir(canary.directory)), ["secret", "socket"])

    def test_dot_dot(self):
        found = self.ask(f"""
found = {{str(n): content("../" * n + {str(canary.file)[1:]!r}) for n in range(1, 20)}}
os.makedirs("a/b/c", exist_ok=True)
found["within"] = content("a/b/c/" + "../" * 9 + {str(canary.file)[1:]!r})
""")
        self.assert_all_failed(found)

    def test_proc_roots(self):
        self.assert_all_failed(self.ask(f"""
found = {{}}
for pid in ["self", "1", "thread-self", str(os.getpid()), str(os.getppid())]:
    for link in ["root", "cwd", "task/1/root", "fd/0", "fd/1"]:
        path = f"/proc/{{pid}}/{{link}}"
        for up in ["", "/..", "/../../../.."]:
            found[path + up] = content(path + up + {str(canary.file)!r})
"""))

    def test_symbolic_links(self):
        self.assert_all_failed(self.ask(f"""
os.symlink({str(canary.file)!r}, "file")
os.symlink({str(canary.directory)!r}, "directory")
os.symlink("/proc/self/root", "root")
found = {{p: content(p) for p in ["file", "directory/secret", "root" + {str(canary.file)!r}]}}
"""))

    def test_o_path_descriptors(self):
        self.assert_all_failed(self.ask(f"""
found = {{}}
for top in ["/", "..", "/proc/self/root"]:
    fd = attempt(os.open, top, os.O_PATH | os.O_DIRECTORY)
    if isinstance(fd, int):
        for up in ["", "../../../"]:
            found[top + " " + up] = attempt(
                os.open, up + {str(canary.file)[1:]!r}, os.O_RDONLY, dir_fd=fd)
        found[top + " reopened"] = content(f"/proc/self/fd/{{fd}}" + {str(canary.file)!r})
        os.close(fd)
fd = attempt(os.open, {str(canary.file)!r}, os.O_PATH)
found["itself"] = content(f"/proc/self/fd/{{fd}}") if isinstance(fd, int) else fd
"""))

    def test_changed_directory(self):
        self.assert_all_failed(self.ask(f"""
found = {{}}
for top in ["/", "/proc/1/cwd", "/proc/1/root", {str(canary.directory)!r}]:
    if attempt(os.chdir, top) is None:
        found[top] = content("secret")
        found[top + " canary"] = content({str(canary.file)[1:]!r})
found["none"] = "ENOENT"
"""))

    @unittest.skipUnless(hostile.X86_64, "the numbers of the system calls are x86-64's")
    def test_chroot_and_pivot_root(self):
        self.assert_all_failed(self.ask("""
os.mkdir("new")
found = {"chroot": call(161, b"new"), "pivot_root": call(155, b"new", b"new"),
         "chroot .": attempt(os.chroot, ".")}
"""))

    @unittest.skipUnless(hostile.X86_64, "the numbers of the system calls are x86-64's")
    def test_file_handles(self):
        # The root directory of ext4 and of xfs has a handle anybody can guess.
        self.assert_all_failed(self.ask("""
handle = ctypes.create_string_buffer(struct.pack("II", 8, 1) + struct.pack("II", 2, 0) + bytes(128))
mount_id = ctypes.c_int()
fd = os.open("/usr/lib", os.O_RDONLY)
found = {"open_by_handle_at": call(304, fd, handle, 0),
         "name_to_handle_at": call(303, fd, b"", ctypes.create_string_buffer(
             struct.pack("II", 128, 0) + bytes(128)), ctypes.byref(mount_id), 0x1000)}
"""))

    def test_private_places(self):
        found = self.ask("""
found = {}
for path in ["/root", "/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/machine-id", "/etc/sudoers",
             "/etc/ssl/private", "/etc/resolv.conf", "/etc/fstab", "/etc/crontab", "/var/log",
             "/var/lib", "/var/spool", "/var/mail", "/run/systemd", "/run/docker.sock", "/home/user",
             "/opt", "/srv", "/boot", "/lost+found", "/old", "/new", "/.dockerenv", "/usr/src",
             "/sys/class", "/sys/kernel", "/sys/fs/cgroup/memory", "/sys/firmware",
             "/var/run/secrets/kubernetes.io/serviceaccount/token", "/proc/sys/kernel/hostname",
             "/proc/kcore", "/proc/kallsyms", "/proc/cmdline", "/proc/keys", "/proc/modules",
             "/proc/config.gz", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/kmsg",
             "/proc/partitions", "/proc/net/../1/environ", "/proc/mounts/../../1/environ"]:
    found[path] = attempt(os.listdir, path) if os.path.isdir(path) else content(path)
""")
        self.assert_all_failed(found)

    def test_system_trees_cannot_be_written(self):
        self.assert_all_failed(self.ask("""
found = {}
def unchanged(function, file, *args):
    # Without a mount namespace these say that they did it, and do nothing.
    def look(): s = os.stat(file); return s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns
    before = look()
    result = attempt(function, file, *args)
    return "EPERM" if result is None and look() == before else result
for top in ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/dev", "/sys", "/run", "/var", "/mnt",
            "/home", "/proc", "/proc/self", "/usr/lib/python3"]:
    found["create in " + top] = attempt(open, top + "/carrel-escape", "w")
    found["mkdir in " + top] = attempt(os.mkdir, top + "/carrel-escape")
    found["link in " + top] = attempt(os.symlink, "x", top + "/carrel-escape")
for file in ["/usr/bin/env", "/etc/passwd", "/usr/lib/os-release", "/etc/hosts", "/etc/ld.so.cache"]:
    found["write " + file] = attempt(open, file, "r+")
    found["chmod " + file] = unchanged(os.chmod, file, 0o777)
    found["chown " + file] = unchanged(os.chown, file, os.getuid(), os.getgid())
    found["utime " + file] = unchanged(os.utime, file)
    found["remove " + file] = attempt(os.remove, file)
    found["link " + file] = attempt(os.link, file, "linked")
"""))

    def test_own_executable_cannot_be_changed(self):
        before = (hostile.harness.BUILD / "carrel-keeper").stat()
        found = self.ask("""
exe = "/proc/self/exe"
found = {"open": attempt(open, exe, "r+b"), "truncate": attempt(os.truncate, exe, 0),
         "link": attempt(os.link, exe, "exe", follow_symlinks=True)}
# Of a copy in memory these may change something; of the file they must not.
for function, args in ((os.chmod, (0o777,)), (os.utime, ()), (os.chown, (os.getuid(), -1))):
    attempt(function, exe, *args)
""")
        self.assert_all_failed(found)
        after = (hostile.harness.BUILD / "carrel-keeper").stat()
        self.assertEqual((before.st_mode, before.st_mtime_ns, before.st_uid),
                         (after.st_mode, after.st_mtime_ns, after.st_uid))


class OwnedExecutable(Escape):
    """A server whose program belongs to the user it runs as, as on a developer's machine."""

    options = {"kind": None}  # not the shared one

    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="carrel-owned-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.directory)
        for name in ("carrel", "carrel-keeper"):
            shutil.copy(harness.BUILD / name, self.directory / name)
            os.chown(self.directory / name, self.level.user, self.level.user)
        self.directory.chmod(0o755)
        directory = self.directory

        class Own(Server):
            def command(self, config_file):
                return [str(directory / "carrel") if word == str(harness.CARREL) else word
                        for word in super().command(config_file)]

        self.own = hostile.start(self.level, kind=Own)
        self.addCleanup(self.own.stop)

    @property
    def server(self):
        return self.own

    def test_own_executable_cannot_be_changed(self):
        program = self.directory / "carrel-keeper"
        before = program.stat()
        self.ask("""
exe = "/proc/self/exe"
found = [attempt(os.chmod, exe, 0o4777), attempt(os.utime, exe, (0, 0)), attempt(open, exe, "r+b")]
""")
        after = program.stat()
        self.assertEqual((stat.filemode(before.st_mode), before.st_mtime_ns, before.st_size),
                         (stat.filemode(after.st_mode), after.st_mtime_ns, after.st_size))


# --- the server's own --------------------------------------------------------------------------------

class ServersOwn(Escape):
    """Descriptors, environment and memory that a session has from the keeper and the gateway."""

    def test_only_own_descriptors_are_open(self):
        found = self.ask("""
found = {}
for fd in range(0, 70000):
    try:
        found[fd] = [os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino]
    except OSError:
        pass
""")
        kinds = sorted(re.sub(r"\d+", "N", path) for path, _ in found.values())
        # The event is among the session's threads, made after the fork.
        self.assertEqual(kinds, ["/dev/null", "/dev/null", "anon_inode:[eventfd]", "pipe:[N]",
                                 "pipe:[N]", "pipe:[N]", "pipe:[N]", "socket:[N]"])
        self.assertEqual(found["0"][0], "/dev/null")
        pipes = {tuple(entry) for entry in found.values() if entry[0].startswith("pipe")}
        self.assertEqual(pipes, {tuple(found["1"]), tuple(found["2"])})
        self.assertNotEqual(found["1"], found["2"])

    def test_children_inherit_three_descriptors(self):
        found = self.ask("""
import subprocess
found = subprocess.run(["ls", "/proc/self/fd"] if os.path.isdir("/proc/1/fd") and os.getpid() == 1
                       else ["sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9 1000 1001 1002 1003; do "
                             "if eval \\"true <&$i\\" 2>/dev/null; then echo $i; fi; done"],
                       capture_output=True, text=True, close_fds=False).stdout.split()
""")
        # 3 is the directory that ls itself reads
        self.assertLessEqual(set(found), {"0", "1", "2", "3"})

    def test_environment(self):
        found = self.ask("""
own = os.path.dirname(os.getcwd())  # its name is no secret from the session itself
found = {"environ": {k: v.replace(own, "") for k, v in os.environ.items()}}
for pid in ["self", "1", str(os.getppid())]:
    found[pid] = content(f"/proc/{pid}/environ", 65536)
""")
        text = json.dumps(found)
        for word in ("CANARY", "CONTAINER_AUTH_TOKEN", str(harness.ROOT), "carrel-test-"):
            self.assertNotIn(word, text)
        self.assertNotIn(TOKEN, text)

    def test_memory_holds_no_secret_of_the_gateway(self):
        # The pattern does not match itself, so what it finds was there before.
        found = self.ask("""
import re
pattern = re.compile(rb"(?:ENV|TOKEN)CANARY[0-9a-f]{24}")
found = {"matches": [], "bytes": 0}
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps.read().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if "r" not in line.split()[1] or "[v" in line:
            continue
        try:
            memory.seek(start)
            data = memory.read(end - start)
        except (OSError, OverflowError, ValueError):
            continue
        found["bytes"] += len(data)
        found["matches"] += [m.decode() for m in pattern.findall(data)]
""")
        self.assertGreater(found["bytes"], 1 << 20)
        self.assertEqual(found["matches"], [])

    def test_gateway_and_keeper_are_out_of_sight(self):
        pids = [self.server.process.pid, hostile.keeper_of(self.server)]
        found = self.ask(f"""
found = {{}}
for pid in {pids!r}:
    for name in ["environ", "maps", "mem", "cmdline", "fd", "root", "cwd", "exe", "status", "stat",
                 "mountinfo", "ns/user"]:
        path = f"/proc/{{pid}}/{{name}}"
        found[path] = attempt(os.listdir, path) if name == "fd" else content(path)
        found[path + " link"] = attempt(os.readlink, path)
""")
        self.assert_all_failed(found)

    def test_status_of_the_process(self):
        status = dict(re.findall(r"^(\w+):[ \t]*(.*)$", self.ask(
            "found = content('/proc/self/status')"), re.MULTILINE))
        # Of the bounding set, no_new_privs keeps anything from coming out.
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(status["TracerPid"], "0")
        self.assertNotIn("0", status["Uid"].split())
        self.assertNotIn("0", status["Gid"].split())
        self.assertLessEqual(set(status["Groups"].split()), {status["Gid"].split()[0]})

    def test_the_first_to_go_when_the_host_has_no_memory(self):
        self.session()
        for pid in hostile.sessions_of(self.server):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends just now
                self.assertTrue(hostile.wait_until(lambda file=pathlib.Path(
                    f"/proc/{pid}/oom_score_adj"): file.read_text() == "800\n"), pid)

    def test_nothing_of_the_host_in_sight(self):
        found = self.ask("""
found = {"mountinfo": content("/proc/self/mountinfo", 1 << 16),
         "cgroup": content("/proc/self/cgroup"), "host": socket.gethostname(),
         "uname": os.uname().nodename, "cwd": os.getcwd()}
""")
        if not self.has_namespaces:
            return  # without namespaces the names are the host's; files are Landlock's
        self.assertNotIn(self.server.directory.name, json.dumps(found))
        for mount in found["mountinfo"].splitlines():
            # A tree that is shown from elsewhere would tell a path of the host.
            root, place = mount.split()[3:5]
            self.assertTrue(root in ("/", place) or place.startswith("/dev/"), mount)
        self.assertEqual({line.rpartition(":")[2] for line in found["cgroup"].splitlines()}, {"/"})
        self.assertEqual(found["host"], found["uname"])
        self.assertNotEqual(found["host"], socket.gethostname())

    def test_resource_limits(self):
        """Each by its value, and none can be raised."""
        found = self.ask("""
import resource
found = {}
for name in ["CORE", "DATA", "FSIZE", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RTPRIO",
             "SIGPENDING", "STACK"]:
    number = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(number)[1]
    found[name] = [*resource.getrlimit(number),
                   attempt(resource.setrlimit, number, (hard + 1, hard + 1))]
""")
        # Python says ValueError for EPERM.
        self.assertEqual({refused for _, _, refused in found.values()}, {"ValueError"}, found)
        values = {"CORE": 1, "STACK": 8 << 20, "MEMLOCK": 65536, "MSGQUEUE": 65536, "NICE": 0,
                  "RTPRIO": 0, "SIGPENDING": 256, "FSIZE": 64 << 20}
        self.assertEqual({name: found[name][:2] for name in values},
                         {name: [value, value] for name, value in values.items()})
        self.assertLess(found["DATA"][1], 1 << 30)
        self.assertLess(found["NOFILE"][1], 65536)

    def test_no_core_for_the_hosts_crash_handler(self):
        # With a pipe in core_pattern a limit of 0 still starts the handler, on the host and as root.
        # Only 1 keeps it from being started.
        found = self.ask("""
import resource
attempt(resource.setrlimit, resource.RLIMIT_CORE, (0, 1))
attempt(resource.setrlimit, resource.RLIMIT_CORE, (0, 0))
call(302, 0, resource.RLIMIT_CORE, struct.pack("QQ", 0, 0), 0)
call(302, 0, resource.RLIMIT_CORE | 1 << 32, struct.pack("QQ", 0, 0), 0)
call(302, os.getpid(), resource.RLIMIT_CORE, struct.pack("QQ", 0, 0), 0)
call(160, resource.RLIMIT_CORE, struct.pack("QQ", 0, 0))
found = resource.getrlimit(resource.RLIMIT_CORE)
""")
        self.assertEqual(found, [1, 1])

    def test_crash_leaves_no_core(self):
        found = self.ask("""
import subprocess
code = subprocess.run([sys.executable or "/usr/bin/python3", "-c", "import os; os.abort()"]).returncode
found = [code, os.listdir()]
""")
        # abort() goes on to an illegal instruction where a child may not signal itself.
        self.assertIn(found[0], (-6,) if self.level.signals_reach_children else (-6, -4, -11))
        self.assertEqual(found[1], [])


class InheritedSignals(Escape):
    """A server that was started with signals ignored, as nohup and shells do."""

    class Ignoring(Server):
        def command(self, config_file):
            return ["sh", "-c", "trap '' HUP INT QUIT USR1 USR2 TERM CHLD; exec \"$@\"", "sh",
                    *super().command(config_file)]

        def stop(self, sig=9):
            self.expect_failure = True
            return super().stop(sig)

    options = {"kind": Ignoring}

    def test_signal_dispositions_are_the_sessions_own(self):
        status = self.ask("found = content('/proc/self/status')")
        ignored = int(re.search(r"SigIgn:\s*(\w+)", status)[1], 16)
        blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)
        python_ignores = 1 << 13 - 1 | 1 << 25 - 1  # SIGPIPE and SIGXFSZ
        self.assertEqual(ignored & ~python_ignores, 0, hex(ignored))
        self.assertEqual(blocked, 0)

    def test_interrupt_works(self):
        reply = self.server.execute(self.session(), "import time\nwhile True: time.sleep(1)",
                                    timeout=1)
        self.assertEqual(reply["verdict"], "time_limit")
        self.assertIn("KeyboardInterrupt", reply["result"]["stderr"])


# --- the kernel ------------------------------------------------------------------------------------

class Kernel(Escape):
    """Interfaces of the kernel that a session has no business with; more tests are added below."""

    def assert_refused(self, code):
        found = self.ask(f"found = {code}")
        results = found if isinstance(found, list) else [found]
        self.assertLessEqual(set(map(str, results)), {"EPERM", "ENOSYS"}, found)

    def test_new_namespaces_by_unshare(self):
        flags = {"user": 0x10000000, "mount": 0x20000, "pid": 0x20000000, "net": 0x40000000,
                 "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000, "time": 0x80,
                 "files": 0x400, "filesystem": 0x200}
        found = self.ask(f"found = {{n: call(272, f) for n, f in {flags!r}.items()}}")
        self.assertEqual(set(found.values()), {"EPERM"}, found)

    def test_new_namespaces_by_clone(self):
        flags = [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000,
                 0x7e020000]
        found = self.ask(f"""
def clone(flags):
    r = call(56, flags | signal.SIGCHLD, 0, 0, 0, 0)
    if r == 0:
        os._exit(0)
    if isinstance(r, int):
        os.waitpid(r, 0)
    return r
found = {{hex(f): clone(f) for f in {flags!r}}}
""")
        self.assert_all_failed(found)

    def test_new_namespaces_by_clone3(self):
        self.assert_refused("""[call(435, ctypes.create_string_buffer(struct.pack(
    "QQQQQQQQQQQ", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)), 88)
    for flags in (0x10000000, 0x10020000, 0)]""")

    def test_joining_namespaces(self):
        self.assert_all_failed(self.ask("""
found = {}
for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"]:
    for pid in ["self", "1"]:
        fd = attempt(os.open, f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        found[f"{pid} {name}"] = call(308, fd, 0) if isinstance(fd, int) else fd
fd = attempt(os.pidfd_open, os.getpid())
found["pidfd"] = call(308, fd, 0x20000) if isinstance(fd, int) else fd
"""))

    def test_mounts(self):
        self.assert_refused("""[
    call(165, b"tmpfs", b"/tmp", b"tmpfs", 0, None), call(165, b"/usr", b"/tmp", None, 4096, None),
    call(165, None, b"/", None, 32 | 4096, None), call(165, b"none", b"/proc", b"proc", 0, None),
    call(430, b"tmpfs", 0), call(430, b"ext4", 0), call(432, 3, 0, 0), call(433, -100, b"/", 0),
    call(428, -100, b"/", 1), call(429, -100, b"/usr", -100, b"/tmp", 0),
    call(442, -100, b"/", 0, struct.pack("QQQQ", 0, 1, 0, 0), 32),
    call(467, -100, b"/", 1, struct.pack("QQQQ", 0, 1, 0, 0), 32),
    *[call(166, path, flags) for path in (b"/proc", b"/tmp", b"/mnt/data", b"/", b"/dev/null")
      for flags in (0, 2)]]""")

    def test_devices(self):
        self.assert_all_failed(self.ask("""
found = {}
devices = {"mem": (1, 1), "kmem": (1, 2), "port": (1, 4), "kmsg": (1, 11), "sda": (8, 0),
           "vda": (254, 0), "vdb": (253, 0), "loop0": (7, 0), "tty": (5, 0), "console": (5, 1),
           "ptmx": (5, 2), "tty1": (4, 1), "fuse": (10, 229), "kvm": (10, 232), "tun": (10, 200),
           "null": (1, 3)}
for name, (major, minor) in devices.items():
    for kind in ("S_IFCHR", "S_IFBLK"):
        import stat
        found[f"mknod {name} {kind}"] = attempt(
            os.mknod, "device", getattr(stat, kind) | 0o666, os.makedev(major, minor))
    for path in (f"/dev/{name}", f"/dev/mapper/{name}", f"/dev/net/{name}"):
        if name != "null":
            found["read " + path] = content(path, 1)
            found["write " + path] = attempt(os.open, path, os.O_WRONLY | os.O_NOCTTY)
"""))

    def test_terminals(self):
        self.assert_all_failed(self.ask("""
import fcntl, pty
found = {"openpt": attempt(os.openpty), "ptmx": content("/dev/pts/ptmx"), "tty": content("/dev/tty")}
for fd in (0, 1, 2):
    found[f"TIOCSTI {fd}"] = attempt(fcntl.ioctl, fd, 0x5412, b"x")
    found[f"TIOCLINUX {fd}"] = attempt(fcntl.ioctl, fd, 0x541c, bytes([2]))
    found[f"TIOCSCTTY {fd}"] = attempt(fcntl.ioctl, fd, 0x540e, 1)
    found[f"TIOCSTI high {fd}"] = call(16, fd, 0x5412 | 1 << 32, b"x")
"""))

    def test_proc_and_sys_cannot_be_written(self):
        self.assert_all_failed(self.ask("""
found = {}
names = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
         "/proc/sys/kernel/hostname", "/proc/sys/kernel/randomize_va_space", "/proc/sysrq-trigger",
         "/proc/irq/0/smp_affinity", "/proc/acpi/wakeup", "/proc/mtrr", "/proc/scsi/scsi",
         "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/kernel/uevent_helper",
         "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cgroup.procs",
         "/sys/fs/cgroup/memory/release_agent", "/sys/fs/cgroup/unified/cgroup.procs",
         "/sys/module/kernel/parameters/panic"]
for pid in ("self", "1", "thread-self"):
    names += [f"/proc/{pid}/{n}" for n in (
        "oom_score_adj", "oom_adj", "uid_map", "gid_map", "setgroups", "projid_map", "mem", "comm",
        "clear_refs", "coredump_filter", "attr/current", "loginuid", "sched", "autogroup",
        "timerslack_ns", "timens_offsets", "make-it-fail", "task/1/comm")]
for name in names:
    found[name] = attempt(os.open, name, os.O_WRONLY)
    found["truncate " + name] = attempt(os.truncate, name, 0)
"""))

    def test_setuid_programs_give_nothing(self):
        found = self.ask("""
import subprocess, glob, stat, shutil
programs = [p for p in glob.glob("/usr/bin/*") + glob.glob("/usr/sbin/*") + glob.glob("/usr/lib/*/*")
            if os.path.isfile(p) and os.stat(p).st_mode & (stat.S_ISUID | stat.S_ISGID)]
found = {"programs": len(programs), "ids": [], "setuid": attempt(os.setuid, 0),
         "setresuid": attempt(os.setresuid, 0, 0, 0), "setgid": attempt(os.setgid, 0),
         "setgroups": attempt(os.setgroups, [0]), "su": subprocess.run(
             ["su", "-c", "id -u"], capture_output=True, text=True).stdout.strip()}
me = [os.getuid(), os.getgid()]
for program in programs[:20]:
    try:
        child = subprocess.Popen([program, "--help"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        continue
    status = content(f"/proc/{child.pid}/status")
    for line in status.splitlines():
        if line.startswith(("Uid:", "Gid:")) and set(map(int, line.split()[1:])) - set(me):
            found["ids"].append([program, line])
    attempt(child.kill)  # refused where Landlock does not keep signals in
    child.stdin.close(); child.stdout.close(); child.wait()
# a program of one's own with the bits set
shutil.copy("/usr/bin/id", "id")
fd = os.open("id", os.O_RDONLY); os.fchmod(fd, 0o6755); os.close(fd)
found["own"] = subprocess.run(["./id", "-u"], capture_output=True, text=True).stdout.strip()
found["me"] = str(os.getuid())
if os.getcwd() == "/mnt/data":
    found["nosuid"] = [bool(os.statvfs(p).f_flag & os.ST_NOSUID) for p in
                       ("/", "/usr/bin", "/usr/lib", "/tmp", "/mnt/data", "/proc")]
""")
        self.assertEqual(found["ids"], [])
        self.assertEqual(found["own"], found["me"])
        self.assertNotEqual(found["su"], "0")
        self.assert_all_failed({name: found[name] for name in
                                ("setuid", "setresuid", "setgid", "setgroups")})
        self.assertTrue(all(found.get("nosuid", [])))

    def test_sockets_of_other_families(self):
        found = self.ask("""
found = []
for family in list(range(0, 60)) + [1 << 31, (1 << 32) + 16]:
    for kind in (1, 2, 3, 4, 5, 6, 10):
        for protocol in (0, 1, 6, 17, 58, 132, 136, 255, 262, 768):
            r = call(41, family, kind, protocol)
            if isinstance(r, int):
                found.append([family, kind, protocol])
                os.close(r)
""")
        allowed = []
        if self.has_namespaces:
            streams = [[family, kind, protocol] for family in (socket.AF_INET, socket.AF_INET6)
                       for kind, protocol in ((1, 0), (1, 6), (2, 0), (2, 17))]
            allowed = [[socket.AF_UNIX, kind, 0] for kind in (1, 2, 5)] + streams
        self.assertEqual([s for s in found if s not in allowed], [])

    def test_socket_options_that_load_modules(self):
        if not self.has_namespaces:
            self.skipTest("there are no network sockets at this level")
        self.assert_all_failed(self.ask("""
def ulp():
    a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen()
    b = socket.create_connection(a.getsockname())
    b.setsockopt(socket.IPPROTO_TCP, 31, b"espintcp")
found = {"ulp": attempt(ulp),
         "iptables": attempt(socket.socket().setsockopt, 0, 64, bytes(84)),
         "raw": attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 255),
         "priority": attempt(socket.socket().setsockopt, 1, 36, 1)}
"""), but=("priority",))

    def test_personality(self):
        found = self.ask("found = [call(135, p) for p in (0x40000, 0x400000, 8, 0x20000, 0x8000000)]")
        self.assertLessEqual(set(map(str, found)), {"EPERM", "ENOSYS"})

    @unittest.skipUnless(hostile.X86_64, "32-bit calls and x32 are x86's")
    def test_32_bit_calls(self):
        found = self.ask("""
import mmap
def run(code):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    entry = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(entry)() > 0
getpid32 = bytes.fromhex("53 b814000000 cd80 5b c3")        # mov eax, 20; int 0x80
socket32 = bytes.fromhex("53 b867010000 bb10000000 b903000000 31d2 cd80 5b c3")
found = [in_child(run, getpid32), in_child(run, socket32)]
""")
        self.assertEqual(found, [["signal", 31], ["signal", 31]])

    @unittest.skipUnless(hostile.X86_64, "32-bit calls and x32 are x86's")
    def test_x32_calls(self):
        found = self.ask("""
def x32(number):
    return isinstance(call(0x40000000 | number), int)
found = [in_child(x32, n) for n in (39, 41, 101, 165, 517, 521)]
""")
        for result in found:
            self.assertIn(result, (["signal", 31], ["exit", 0]))

    def test_inotify_tells_nothing_of_others(self):
        """A watch on the shared trees would show which programs neighbours and the host run."""
        identifier = self.session()
        made = self.ask("""
fd = call(294, 0o4000)
watch = call(254, fd, b"/usr/bin", 0x20 | 0x1) if isinstance(fd, int) else fd
found = [fd, watch]
""", identifier)
        neighbour = self.session()
        self.server.value(neighbour, "import subprocess\nsubprocess.run(['/usr/bin/env', 'true']).returncode")
        if isinstance(made[0], int):
            seen = self.ask("found = attempt(os.read, fd, 4096)\n"
                            "found = found if isinstance(found, str) else found.decode('latin-1')",
                            identifier)
            self.assertNotIn("env", seen)

    def test_directory_notices_tell_nothing_of_others(self):
        """F_NOTIFY, the older way to watch a directory."""
        identifier = self.session()
        self.ask("""
import fcntl
notices = []
signal.signal(signal.SIGIO, lambda *_: notices.append(1))
fd = os.open("/usr/bin", os.O_RDONLY)
found = [attempt(fcntl.fcntl, fd, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT),
         str(call(72, fd, fcntl.F_NOTIFY | 1 << 32, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT))]
""", identifier)
        subprocess.run(["/usr/bin/env", "true"], check=True)
        with open("/usr/bin/env", "rb") as file:
            file.read(64)
        self.assertEqual(self.ask("found = notices", identifier), [])

    def test_file_locks_are_not_shared_with_the_host(self):
        """Documented in docs/security.md: a lock on a shared read-only file is a covert channel.
        What must hold is that it cannot be taken on a file of the host's outside those trees."""
        self.assert_all_failed(self.ask(f"""
import fcntl
def lock(path):
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
found = {{"canary": attempt(lock, {str(canary.file)!r}), "run": attempt(lock, "/run/lock")}}
"""))


# Calls that are to be refused by the filter itself. The arguments are such that the kernel, if it
# were reached, would say something else than EPERM wherever it can.
REFUSED_CALLS = {
    "io_uring_setup": "call(425, 1, bytes(120))",
    "io_uring_enter": "call(426, 0, 0, 0, 0, None, 0)",
    "io_uring_register": "call(427, 0, 0, None, 0)",
    "bpf": "[call(321, c, bytes(128), 128) for c in (0, 5, 18)]",
    "perf_event_open": "call(298, struct.pack('IIQ', 1, 128, 0) + bytes(112), 0, -1, -1, 0)",
    "add_key": "call(248, b'user', b'a', b'b', 1, -3)",
    "request_key": "call(249, b'user', b'a', None, -3)",
    "keyctl": "[call(250, c, -3, 0, 0, 0) for c in (0, 1, 6, 11)]",
    "userfaultfd": "[call(323, f) for f in (0, 1)]",
    "fanotify": "[call(300, 0x200, 0), call(301, 0, 1, 1, -100, b'/')]",
    "kexec": "[call(246, 0, 0, None, 0), call(320, -1, -1, 0, None, 0)]",
    "modules": "[call(175, None, 0, b''), call(313, -1, b'', 0), call(176, b'x', 0)]",
    "reboot": "call(169, 0, 0, 0, None)",
    "swap": "[call(167, b'/mnt/data/x', 0), call(168, b'/mnt/data/x')]",
    "clock": "[call(164, None, None), call(227, 0, struct.pack('QQ', 0, 0)), call(159, bytes(208)), "
             "call(305, 0, bytes(208))]",
    "quotactl": "[call(179, 0x800007 << 8, None, 0, None), call(443, 0, 0, 0, None)]",
    "syslog": "[call(103, c, None, 0) for c in (3, 10, 2)]",
    "ports": "[call(172, 3), call(173, 0, 1, 1)]",
    "modify_ldt": "[call(154, 0, bytes(16), 16), call(154, 1, bytes(16), 16)]",
    "names": "[call(170, b'x', 1), call(171, b'x', 1)]",
    "acct": "call(163, None)",
    "vhangup": "call(153)",
    "ptrace": "[call(101, r, 0, 0, 0) for r in (0, 16, 0x4206)]",
    "process_vm": "[call(310, os.getpid(), None, 0, None, 0, 0), "
                  "call(311, os.getpid(), None, 0, None, 0, 0)]",
    "kcmp": "call(312, os.getpid(), os.getpid(), 0, 0, 0)",
    "pidfd_getfd": "call(438, -1, 0, 0)",
    "process_madvise": "[call(440, -1, None, 0, 0, 0), call(448, -1, 0)]",
    "move_pages": "[call(279, 0, 0, None, None, None, 0), call(256, 0, 0, None, None)]",
    "memfd_secret": "call(447, 0)",
    "mount_queries": "[call(457, None, None, 0, 0), call(458, None, None, 0, 0)]",
    "old_calls": "[call(180, 0, None, None), call(134, b'x'), call(136, 0, bytes(64)), "
                 "call(156, None), call(212, 0, None, 0), call(174, 0), call(177), call(178)]",
    "landlock_and_seccomp": "[call(444, None, 0, 1), call(317, 1, 0, None), call(317, 2, 0, None), "
                            "call(157, 22, 1, 0, 0, 0)]",
    "lsm": "[call(459, 0, None, None, 0), call(460, 0, None, 0, 0), call(461, None, None, 0)]",
    "unknown_numbers": "[call(n) for n in (334 + 4, 420, 480, 500, 511, 1000, 100000)]",
}


def _add_refused_calls():
    def make(code):
        @unittest.skipUnless(hostile.X86_64, "the numbers of the system calls are x86-64's")
        def test(self):
            self.assert_refused(code)
        return test

    for name, code in REFUSED_CALLS.items():
        setattr(Kernel, f"test_call_{name}", make(code))


_add_refused_calls()


# --- processes -------------------------------------------------------------------------------------

def process_state(pid):
    """Running and sleeping are one: neither stopped nor dead."""
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "alive" if state in "RSD" else state


def io_priority(pid):
    return ctypes.CDLL(None).syscall(252 if hostile.X86_64 else 31, 1, pid)


class Processes(Escape):
    """Memory, signals and settings of processes that are not the session's."""

    @contextlib.contextmanager
    def nothing_changes_but_one(self):
        """What signals and settings change: of the server, its keeper, the canary, all sessions. One
        session may, the attacker's own, which may have been among those that stood ready."""
        before = {pid: self.state_of(pid) for pid in self.targets}
        yield
        changed = [pid for pid in self.targets if self.state_of(pid) != before[pid]]
        self.assertEqual(set(changed) & set(self.targets[:3]), set())
        self.assertLessEqual(len(changed), 1)

    @staticmethod
    def state_of(pid):
        try:
            return (process_state(pid), os.getpriority(os.PRIO_PROCESS, pid), io_priority(pid),
                    os.sched_getaffinity(pid), os.sched_getscheduler(pid),
                    pathlib.Path(f"/proc/{pid}/limits").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return None

    def setUp(self):
        super().setUp()
        self.neighbour = self.session()
        self.server.execute(self.neighbour, f"""
secret = {canary.secret!r}
import subprocess
child = subprocess.Popen(["sleep", "600"])
""")
        self.targets = [self.server.process.pid, hostile.keeper_of(self.server), canary.process.pid,
                        *self.settled_sessions()]

    def settled_sessions(self):
        """The server's session processes, when none of an earlier test's is still ending."""
        before = None
        while before != (now := set(hostile.sessions_of(self.server))):
            before = now
            time.sleep(0.2)
        return now

    def tearDown(self):
        self.assertEqual(self.server.value(self.neighbour, "child.poll() is None and secret"),
                         canary.secret)
        super().tearDown()

    def test_memory(self):
        address = self.server.value(self.neighbour, "id(secret)")
        found = self.ask(f"""
import ctypes
here = ctypes.create_string_buffer(4096)
local = struct.pack("QQ", ctypes.addressof(here), 4096)
remote = ctypes.create_string_buffer(struct.pack("QQ", {address}, 4096))
local = ctypes.create_string_buffer(local)
found = {{}}
me = os.getpid()
for pid in {self.targets!r}:
    if pid == me:
        continue
    found[f"readv {{pid}}"] = call(310, pid, local, 1, remote, 1, 0)
    found[f"writev {{pid}}"] = call(311, pid, local, 1, remote, 1, 0)
    for name in ("mem", "maps", "environ", "pagemap", "auxv", "stack", "syscall"):
        found[f"{{name}} {{pid}}"] = content(f"/proc/{{pid}}/{{name}}")
    found[f"peek {{pid}}"] = call(101, 2, pid, {address}, here)
    found[f"attach {{pid}}"] = call(101, 16, pid, 0, 0)
    found[f"seize {{pid}}"] = call(101, 0x4206, pid, 0, 0)
""")
        self.assert_all_failed(found)

    def test_signals(self):
        found = self.ask(f"""
import threading
found = {{}}
me = os.getpid()
info = ctypes.create_string_buffer(struct.pack("iii", signal.SIGKILL, 0, -1) + bytes(116))
for pid in {self.targets!r}:
    if pid == me:
        continue
    for number in (0, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
        found[f"kill {{pid}} {{number}}"] = attempt(os.kill, pid, number)
        found[f"tgkill {{pid}} {{number}}"] = call(234, pid, pid, number)
        found[f"tkill {{pid}} {{number}}"] = call(200, pid, number)
        found[f"group {{pid}} {{number}}"] = attempt(os.kill, -pid, number)
    found[f"queue {{pid}}"] = call(129, pid, signal.SIGKILL, info)
    fd = attempt(os.pidfd_open, pid)
    if isinstance(fd, int):
        found[f"pidfd {{pid}}"] = attempt(signal.pidfd_send_signal, fd, signal.SIGKILL)
        found[f"pidfd_getfd {{pid}}"] = call(438, fd, 3, 0)
""")
        self.assert_all_failed(found)

    def test_kill_everybody(self):
        mine = self.session()
        before = set(hostile.sessions_of(self.server))
        self.server.execute(mine, """
for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
    if os.fork() == 0:
        attempt(os.kill, -1, number)
        os._exit(0)
time.sleep(0.2)
""", timeout=5)
        self.server.execute(mine, "attempt(os.kill, -1, signal.SIGKILL)", timeout=5)
        self.assertIsNone(self.server.process.poll())
        gone = before - set(hostile.sessions_of(self.server))
        self.assertLessEqual(len(gone), 1, "other sessions were killed")

    def test_own_group(self):
        """A pid namespace does not stop kill(0, ...): it goes to whoever is in the group. The number
        of a group that lies outside of it would be 0."""
        self.assertEqual(self.ask("found = [os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid(),"
                                  " os.getpgrp() > 0]"), [True, True, True])
        keeper = hostile.keeper_of(self.server)
        for pid in hostile.sessions_of(self.server):
            with contextlib.suppress(ProcessLookupError):  # one that ends just now
                # It makes them first of all, as it is forked.
                self.assertTrue(hostile.wait_until(
                    lambda pid=pid: (os.getpgid(pid), os.getsid(pid)) == (pid, pid)), pid)
                self.assertNotEqual(os.getpgid(pid), os.getpgid(keeper))

    def test_signals_to_the_own_group(self):
        keeper = hostile.keeper_of(self.server)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            mine = self.session()
            with self.subTest(number=number), self.nothing_changes_but_one():
                self.server.request("POST", "executions", mine, {
                    "code": f"attempt(os.kill, 0, {int(number)})", "timeoutInSeconds": 1})
                self.assertEqual(hostile.keeper_of(self.server), keeper)
                self.assertEqual(self.server.value(self.neighbour, "1 + 1"), 2)

    def test_settings_of_the_own_group_and_user(self):
        mine = self.session()
        with self.nothing_changes_but_one():
            self.server.execute(mine, """
for which in (1, 2):                                    # PRIO_PGRP, PRIO_USER
    for who in (0, os.getuid(), os.getpid(), 1):
        for value in (5, 10, 19):
            call(141, which, who, value)
            call(251, which + 1, who, 3 << 13 | value)  # IOPRIO_WHO_PGRP and _USER: idle
""")

    def test_sweep_of_process_numbers(self):
        found = self.ask("""
found = []
import subprocess
mine = {os.getpid()}
for pid in range(2, 40000):
    if pid in mine:
        continue
    try:
        os.kill(pid, 0)
        found.append(pid)
    except OSError:
        pass
""")
        self.assertEqual(found, [])

    def test_signals_by_the_kernel(self):
        """F_SETOWN makes the kernel signal another process when a pipe becomes readable."""
        self.ask(f"""
import fcntl
found = 0
for pid in {self.targets!r}:
    if pid == os.getpid():
        continue
    r, w = os.pipe()
    for target in (pid, -pid):
        for number in (signal.SIGKILL, signal.SIGTERM):
            attempt(fcntl.fcntl, r, 10, number)      # F_SETSIG
            attempt(fcntl.fcntl, r, fcntl.F_SETOWN, target)
            call(72, r, 15, struct.pack("ii", 1, pid))   # F_SETOWN_EX
            attempt(fcntl.fcntl, r, fcntl.F_SETFL, os.O_NONBLOCK | 0o20000)
            attempt(os.write, w, b"x")
            attempt(os.read, r, 10)
    os.close(r); os.close(w)
time.sleep(0.1)
""")
        for pid in self.targets:
            self.assertTrue(os.path.exists(f"/proc/{pid}"), pid)

    def test_settings_of_others(self):
        before = [os.sched_getaffinity(p) for p in self.targets[:3]]
        nice = [os.getpriority(os.PRIO_PROCESS, p) for p in self.targets[:3]]
        found = self.ask(f"""
found = {{}}
me = os.getpid()
for pid in {self.targets!r}:
    if pid == me:
        continue
    found[f"affinity {{pid}}"] = attempt(os.sched_setaffinity, pid, {{0}})
    found[f"scheduler {{pid}}"] = attempt(os.sched_setscheduler, pid, 5, os.sched_param(0))
    found[f"nice {{pid}}"] = attempt(os.setpriority, os.PRIO_PROCESS, pid, 19)
    found[f"limit {{pid}}"] = call(302, pid, 7, struct.pack("QQ", 3, 3), 0)
    found[f"io {{pid}}"] = call(251, 1, pid, 3 << 13)
    found[f"pgid {{pid}}"] = attempt(os.setpgid, pid, pid)
    found[f"session {{pid}}"] = attempt(os.getsid, pid)
    found[f"robust list {{pid}}"] = call(274, pid, bytes(8), bytes(8))
attempt(os.setpriority, os.PRIO_USER, os.getuid(), 19)
call(251, 3, os.getuid(), 3 << 13)
""")
        if not self.has_namespaces:
            # Asking for a session's number is harmless where the host's processes have names.
            found = {k: v for k, v in found.items() if not k.startswith("session ")}
        self.assert_all_failed(found)
        self.assertEqual(before, [os.sched_getaffinity(p) for p in self.targets[:3]])
        self.assertEqual(nice, [os.getpriority(os.PRIO_PROCESS, p) for p in self.targets[:3]])

    def test_nothing_hardly_runs(self):
        """A thread that gets no time may hold a lock of the kernel's that others wait for."""
        found = self.ask("""
param = os.sched_param(0)
found = {f"policy {p}": attempt(os.sched_setscheduler, 0, p, param) for p in (1, 2, 3, 5, 6)}
found["reset on fork"] = attempt(os.sched_setscheduler, 0, 5 | 0x40000000, param)
found["high bits"] = call(144, 0, 5 | 1 << 32, bytes(4))
for size in (48, 56):
    found[f"attributes {size}"] = call(314, 0, struct.pack("IIQiIQQQII", size, 5, 0, 0, 0, 0, 0, 0,
                                                           0, 0), 0)
for value in (11, 19, -1, -20, 10 | 1 << 32):
    found[f"nice {value}"] = call(141, 0, 0, value)
""")
        self.assert_all_failed(found)
        self.assertEqual(self.ask("""
attempt(os.nice, 10)
found = [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]
"""), [0, 10])


# --- communication between processes ----------------------------------------------------------------

def own_address():
    """The host's, as others would reach it; its loopback's when it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return s.getsockname()[0]


class Communication(Escape):
    """Shared memory, queues, semaphores, sockets: the host's and the neighbours'."""

    def test_system_v(self):
        found = self.ask(f"""
libc.shmat.restype = ctypes.c_void_p
found = {{"shmget": call(29, {canary.key}, 1, 0), "semget": call(64, {canary.key}, 1, 0),
         "msgget": call(68, {canary.key}, 0)}}
for i in range(64):
    for number, what in ((30, "shmat"), (31, "shmctl"), (66, "semctl"), (71, "msgctl")):
        r = call(number, i, 0, 0, 0) if what != "semctl" else call(number, i, 0, 12, 0)
        if isinstance(r, int):
            found[f"{{what}} {{i}}"] = r
""")
        self.assert_all_failed(found)

    def test_posix_queues(self):
        found = self.ask(f"""
found = {{"open": call(240, {canary.queue[1:].encode()!r}, os.O_RDWR, 0, None),
         "read": content("/dev/mqueue" + {canary.queue!r}),
         "unlink": call(241, {canary.queue[1:].encode()!r})}}
""")
        self.assert_all_failed(found)

    def test_ipc_of_a_neighbour(self):
        if not self.has_namespaces:
            self.skipTest("these are refused altogether at this level")
        neighbour, key = self.session(), canary.key + 1
        made = self.ask(f"""
found = [call(29, {key}, 4096, 0o1666), call(64, {key}, 1, 0o1666), call(68, {key}, 0o1666)]
call(240, b"neighbour", os.O_RDWR | os.O_CREAT, 0o666, struct.pack("8q", 0, 1, 64, *[0] * 5))
with open("/dev/shm/neighbour", "w") as f:
    f.write("x")
""", neighbour)
        self.assertTrue(all(isinstance(r, int) for r in made), made)
        self.assert_all_failed(self.ask(f"""
found = {{"shm": call(29, {key}, 1, 0), "sem": call(64, {key}, 1, 0), "msg": call(68, {key}, 0),
         "mq": call(240, b"neighbour", os.O_RDWR, 0, None), "dev shm": content("/dev/shm/neighbour"),
         "tmp": content("/tmp/neighbour")}}
"""))

    def test_dev_shm_of_the_host(self):
        found = self.ask(f"""
found = {{"read": content({str(canary.shared)!r}), "names": attempt(os.listdir, "/dev/shm")}}
# Where it is a directory of the session's own this makes a file there.
attempt(lambda: open({str(canary.shared)!r}, "a").write("x"))
""")
        self.assert_all_failed({"read": found["read"]})
        self.assertNotIn(canary.name, found["names"])

    def test_abstract_sockets_of_the_host(self):
        self.assert_all_failed(self.ask(f"""
def connect(kind, name):
    with socket.socket(socket.AF_UNIX, kind) as s:
        s.connect(name)
        return s.recv(100).decode()
def pair(kind):
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    a.sendto(b"from a pair", {canary.abstract + "-datagram"!r})
found = {{"stream": attempt(connect, socket.SOCK_STREAM, {canary.abstract!r}),
         "datagram": attempt(connect, socket.SOCK_DGRAM, {canary.abstract + "-datagram"!r}),
         "pair of datagrams": attempt(pair, socket.SOCK_DGRAM),
         "pair of streams": attempt(pair, socket.SOCK_STREAM),
         "pair of packets": attempt(pair, socket.SOCK_SEQPACKET)}}
"""), but=("pair of packets",))  # these go to the other end, whatever the address

    def test_socket_files_of_the_host(self):
        self.assert_all_failed(self.ask(f"""
def connect(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        return s.recv(100).decode()
os.symlink({canary.socket_path!r}, "socket")
found = {{p: attempt(connect, p) for p in ({canary.socket_path!r}, "socket", "/run/docker.sock",
          "/run/dbus/system_bus_socket", "/run/systemd/private")}}
"""))

    def test_sockets_of_a_neighbour(self):
        if not self.has_namespaces:
            self.skipTest("there are no sockets but pairs at this level")
        neighbour = self.session()
        made = self.ask("""
import threading
servers = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)]
servers[1].bind("\\0neighbour"); servers[1].listen()
hits = []
def accept(s):
    while True:
        hits.append(str(s.accept()[1]))
for s in servers:
    threading.Thread(target=accept, args=(s,), daemon=True).start()
found = servers[0].getsockname()[1]
""", neighbour)
        self.assert_all_failed(self.ask(f"""
def unix():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\\0neighbour")
found = {{"tcp": attempt(socket.create_connection, ("127.0.0.1", {made}), 1), "unix": attempt(unix)}}
"""))
        self.assertEqual(self.ask("found = hits", neighbour), [])

    def test_network(self):
        mine = own_address()
        found = self.ask(f"""
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        s.connect(address)
        return s.recv(100).decode()
def datagram(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", address)
found = {{"loopback": attempt(connect, socket.AF_INET, ("127.0.0.1", {canary.tcp})),
         "any": attempt(connect, socket.AF_INET, ("0.0.0.0", {canary.tcp})),
         "127.1": attempt(connect, socket.AF_INET, ("127.0.1.1", {canary.tcp})),
         "loopback 6": attempt(connect, socket.AF_INET6, ("::1", {canary.tcp6})),
         "mapped": attempt(connect, socket.AF_INET6, ("::ffff:127.0.0.1", {canary.tcp})),
         "server": attempt(connect, socket.AF_INET, ("127.0.0.1", {self.server.port})),
         "host": attempt(connect, socket.AF_INET, ({mine!r}, {canary.tcp})),
         "metadata": attempt(connect, socket.AF_INET, ("169.254.169.254", 80)),
         "outside": attempt(connect, socket.AF_INET, ("192.0.2.1", 80)),
         "datagram": attempt(datagram, ("192.0.2.1", 53)),
         "broadcast": attempt(datagram, ("255.255.255.255", 53)),
         "link local": attempt(connect, socket.AF_INET6, ("fe80::1", 80, 0, 1)),
         "name": attempt(socket.getaddrinfo, "example.com", 80)}}
""")
        found["name"] = "EAI" if found["name"] in ("gaierror", "EPERM") else found["name"]
        for name, result in found.items():
            if result == "TimeoutError":
                found[name] = "reached"  # a packet went somewhere
        # gaierror has a negative number of its own instead of an errno
        self.assert_all_failed(found)

    def test_interfaces(self):
        if not self.has_namespaces:
            self.skipTest("there is no socket to ask with at this level")
        self.assertEqual(self.ask("""
import fcntl
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
found = []
for i in range(1, 64):
    r = attempt(fcntl.ioctl, s, 0x8910, struct.pack("16si", b"", i) + bytes(20))
    if isinstance(r, bytes):
        found.append(r[:16].rstrip(b"\\0").decode())
"""), ["lo"])

    def test_listening_is_not_seen_outside(self):
        if not self.has_namespaces:
            self.skipTest("there are no sockets but pairs at this level")
        identifier = self.session()
        port = self.ask("s = socket.create_server(('0.0.0.0', 0)); found = s.getsockname()[1]",
                        identifier)
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


# --- what all sessions share -------------------------------------------------------------------------

class Shared(Escape):
    """Accounts the kernel keeps for a user, not for a session: one session must not use them up."""

    # Apart from the others: where it goes wrong no session can be started any more.
    def setUp(self):
        self.own = hostile.start(self.level, kind=Server)
        self.addCleanup(self.own.stop)
        super().setUp()

    @property
    def server(self):
        return self.own

    def assert_new_sessions_start(self, count=6):
        for i in range(count):
            name = f"after-{secrets.token_hex(4)}"
            start = time.monotonic()
            reply = self.server.request("POST", "executions", name, {"code": "1 + 1"}, timeout=20)
            self.assertEqual((reply.status, reply.json()["result"]["executionResult"]), (200, 2))
            self.assertLess(time.monotonic() - start, 1, "a new session had to wait")
            self.server.request("DELETE", "session", name)

    def test_descriptors_in_flight(self):
        identifier = self.session()
        sent = self.ask("""
import array
keep, found = [], 0
fd = os.open("/usr/lib", os.O_RDONLY)
fds = array.array("i", [fd] * 250).tobytes()
try:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        keep.append(socket.socketpair(socket.AF_UNIX, kind))
        keep[-1][0].setblocking(False)
        for _ in range(100):
            keep[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            found += 250
except OSError:
    pass
""", identifier)
        self.assertGreater(sent, 0)
        self.assert_new_sessions_start()

    def test_inotify_instances(self):
        count = """
fds = []
while isinstance(fd := call(294, 0), int) and len(fds) < 1000:
    fds.append(fd)
found = len(fds)
"""
        first, second = self.session(), self.session()
        had = self.ask(count, first)
        got = self.ask(count, second)
        self.assertGreaterEqual(got, had, "one session took them from another")
        self.assert_new_sessions_start(1)

    def test_pipes(self):
        """Past a user's soft limit of pipe buffers new pipes are small; they must still come."""
        identifier = self.session()
        self.ask("""
import fcntl
pipes = []
try:
    while len(pipes) < 400:
        pipes.append(os.pipe())
        attempt(fcntl.fcntl, pipes[-1][0], 1031, 1 << 20)
except OSError:
    pass
found = len(pipes)
""", identifier)
        self.assert_new_sessions_start()

    def test_the_gateway_is_counted_apart(self):
        """By its real user, of which epoll's watches, pipes' pages and descriptors in flight are."""
        if self.level.user is not None or os.geteuid() != 0:
            self.skipTest("only root can give the gateway a real user of its own")

        def users(pid):
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
            return re.search(r"^Uid:\s+(.*)$", text, re.MULTILINE)[1].split()

        gateway = users(self.server.process.pid)
        keeper = users(hostile.keeper_of(self.server))
        self.assertEqual(len(set(keeper)), 1)
        self.assertEqual(gateway[1:], keeper[1:])
        self.assertNotEqual(gateway[0], keeper[0])

    FILL = """
small = struct.pack("8q", 0, 1, 1024, *[0] * 5)
queues = [call(240, b"q%d" % i, os.O_RDWR | os.O_CREAT, 0o600, small) for i in range(200)]
signal.pthread_sigmask(signal.SIG_BLOCK, range(34, 60))
info = ctypes.create_string_buffer(struct.pack("iii", 40, 0, -1) + bytes(116))
sent = [call(129, os.getpid(), 40, info) for i in range(2000)]
found = [sum(isinstance(q, int) for q in queues), sent.count(0), sorted(set(map(str, sent)))]
"""

    def test_message_queues_and_signals(self):
        first, second = self.session(), self.session()
        had = self.ask(self.FILL, first)
        self.assertIn("EAGAIN", had[2])
        self.assertGreaterEqual(had[1], 200)
        got = self.ask(self.FILL, second)
        if self.has_namespaces:
            # Landlock has no rule for the file system of queues, and refuses them all.
            self.assertIn(had[0], range(20, 100) if self.level.version == 0 else (0,))
            self.assertEqual(got, had, "one session took them from another")
        self.assert_new_sessions_start()


class LandlockNeighbours(Escape):
    """Where there is no mount namespace, directories of other sessions have a path."""

    def setUp(self):
        self.own = hostile.start(self.level, kind=Server)
        self.addCleanup(self.own.stop)
        super().setUp()

    @property
    def server(self):
        return self.own

    def test_files_of_a_neighbour(self):
        neighbour = self.session()
        place = self.ask(f"""
for path in ("secret", os.path.join(os.getcwd(), "absolute")):
    with open(path, "w") as f:
        f.write({canary.secret!r})
    os.chmod(path, 0o666)
os.chmod(".", 0o777)
found = os.getcwd()
""", neighbour)
        found = self.ask(f"""
place = {place!r}
found = {{"read": content(place + "/secret"), "list": attempt(os.listdir, place),
         "write": attempt(open, place + "/secret", "w"), "create": attempt(open, place + "/new", "w"),
         "remove": attempt(os.remove, place + "/secret"), "above": attempt(os.listdir, "../.."),
         "link": attempt(os.link, place + "/secret", "linked")}}
""")
        self.assert_all_failed(found)

    def test_the_hosts_network_and_mounts(self):
        """/proc/self tells of the host's where there are no namespaces."""
        self.assert_all_failed(self.ask("""
found = {}
for here in ("/proc", "/proc/self", f"/proc/{os.getpid()}", "/proc/thread-self",
             f"/proc/self/task/{os.getpid()}"):
    for name in ("net/tcp", "net/unix", "net/route", "net/dev", "mountinfo", "mounts", "mountstats"):
        found[f"{here}/{name}"] = content(f"{here}/{name}")
found["tasks"] = attempt(os.listdir, "/proc/self/task")
"""))
        # What programs look for about themselves.
        self.assertEqual(self.ask("""
found = [name for name in ("status", "stat", "statm", "maps", "cmdline", "comm", "limits", "cgroup")
         if len(content("/proc/self/" + name)) < 3 or attempt(os.listdir, "/proc/self/fd") == []]
"""), [])

    def test_what_it_started_ends_with_it(self):
        """Also when its first process ends by itself."""
        mark = str(secrets.randbelow(10 ** 9) + 10 ** 9)
        attacker = self.session()
        self.ask(f"""
import subprocess
child = subprocess.Popen(["sleep", "{mark}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
found = child.pid
""", attacker)

        def runs():
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if mark.encode() in path.read_bytes().split(b"\0"):
                        return True
            return False

        self.assertTrue(hostile.wait_until(runs))
        self.assertEqual(self.server.execute(attacker, "os._exit(0)")["verdict"], "session_killed")
        self.assertTrue(hostile.wait_until(lambda: not runs()), "it is still there")

    def test_work_directory_cannot_be_closed(self):
        attacker = self.session()
        self.ask("""
found = [attempt(os.chmod, path, 0) for path in ("../..", "..", "../../trash", "../../..")]
""", attacker)
        for i in range(6):
            reply = self.server.request("POST", "executions", f"after-{secrets.token_hex(4)}",
                                        {"code": "open('x', 'w').write('abc')"}, timeout=10)
            self.assertEqual(reply.status, 200)
            self.assertEqual(reply.json()["result"]["executionResult"], 3)

    def test_directories_of_a_neighbour_cannot_be_closed(self):
        """Their names cannot be guessed from the attacker's own."""
        neighbour = self.session()
        self.server.upload(neighbour, "kept.txt", b"kept")
        self.ask("""
import re
here = os.getcwd()
found = 0
for n in range(0, 400):
    for name in (f"s{n:x}", f"s{n}", f"{n:x}"):
        if not os.path.exists("../../" + name) or os.path.samefile("../../" + name, ".."):
            continue
        for rest in ("/data/kept.txt", "/data", "/tmp", ""):
            found += attempt(os.chmod, "../../" + name + rest, 0) is None
""")
        self.assertEqual(self.server.value(neighbour, "open('kept.txt').read()"), "kept")
        reply = self.server.request("GET", "files/kept.txt/content", neighbour)
        self.assertEqual((reply.status, reply.body), (200, b"kept"))


# --- the file API against what a session leaves there -------------------------------------------------

class FileInterface(Escape):
    """The gateway reads and writes beneath /mnt/data, whatever the session makes of it."""

    def get(self, identifier, name, **options):
        return self.server.request("GET", f"files/{name}/content", identifier, timeout=3, **options)

    def test_symbolic_links_are_not_followed(self):
        identifier = self.session()
        self.ask(f"""
os.mkdir("sub")
for name, target in {{"absolute": {str(canary.file)!r}, "relative": "../" * 20 + {str(canary.file)[1:]!r},
                     "directory": {str(canary.directory)!r}, "dangling": "nowhere", "loop": "loop",
                     "root": "/", "proc": "/proc/self/root", "magic": "/proc/self/cwd"}}.items():
    os.symlink(target, name)
    os.symlink(target, "sub/" + name)
found = 0
""", identifier)
        for name in ("absolute", "relative", "dangling", "loop", "root"):
            for path in (None, "sub"):
                reply = self.get(identifier, name, path=path)
                self.assertGreaterEqual(reply.status, 400, name)
                self.assertNotIn(canary.secret.encode(), reply.body)
        for path in ("directory", "sub/directory", "root" + str(canary.directory), "proc/var/tmp"):
            reply = self.get(identifier, "secret", path=path)
            self.assertGreaterEqual(reply.status, 400, path)
            reply = self.server.upload(identifier, "planted", b"x", path=path)
            self.assertGreaterEqual(reply.status, 400, path)
            reply = self.server.request("GET", "files", identifier, path=path, recursive="true")
            self.assertNotIn(b"secret", reply.body)
            reply = self.server.request("DELETE", "files/secret", identifier, path=path)
            self.assertGreaterEqual(reply.status, 400, path)
        self.assertEqual(sorted(os.listdir(canary.directory)), ["secret", "socket"])

    def test_upload_replaces_a_link_and_not_its_target(self):
        identifier = self.session()
        self.ask(f"os.symlink({str(canary.file)!r}, 'link'); found = 0", identifier)
        self.server.upload(identifier, "link", b"mine")
        self.assertEqual(canary.file.read_text(), canary.secret)
        self.assertEqual(self.get(identifier, "link").body, b"mine")

    def test_removing_a_link_keeps_its_target(self):
        identifier = self.session()
        self.ask(f"os.symlink({str(canary.directory)!r}, 'link'); found = 0", identifier)
        self.server.request("DELETE", "files/link", identifier)
        self.assertTrue(canary.file.exists())

    def test_pipes_sockets_and_devices_do_not_block(self):
        identifier = self.session()
        self.ask("""
import stat
os.mkfifo("pipe")
os.mknod("node", 0o666 | stat.S_IFSOCK)
os.mkdir("pipe.d"); os.mkfifo("pipe.d/pipe")
found = 0
""", identifier)
        for name in ("pipe", "node"):
            start = time.monotonic()
            self.assertGreaterEqual(self.get(identifier, name).status, 400)
            self.assertGreaterEqual(
                self.server.request("GET", f"files/{name}", identifier).status, 400)
            self.assertLess(time.monotonic() - start, 1)
        self.assertEqual(self.server.request("GET", "files", identifier).status, 200)
        self.assertEqual(self.server.upload(identifier, "pipe", b"now a file").status, 200)
        self.assertEqual(self.get(identifier, "pipe").body, b"now a file")

    def test_hard_links_reach_nothing(self):
        identifier = self.session()
        found = self.ask(f"""
found = {{p: attempt(os.link, p, "linked") for p in ({str(canary.file)!r}, "/etc/passwd",
         "/usr/bin/env", "/proc/self/environ")}}
""", identifier)
        self.assert_all_failed(found)

    def test_odd_names(self):
        identifier = self.session()
        self.ask(r"""
names = [b"new\nline", b"tab\t", b"q\"uote", b"back\\slash", b"\x01\x7f", b"\xff\xfe", b"\xed\xa0\x80",
         b"\xc0\xaf", b"a" * 255, "\U0001f600".encode(), "\u202egnp.exe".encode(), b"..hidden", b"...",
         b" ", b"%2e%2e%2f", b"<script>", b"\xe2\x80\xa8"]
for name in names:
    open(name, "w").close()
found = len(names)
""", identifier)
        reply = self.server.request("GET", "files", identifier)
        self.assertEqual(reply.status, 200)
        listed = reply.json()["value"]
        self.assertGreaterEqual(len(listed), 17)
        reply.body.decode("utf-8")
        for entry in listed:
            json.dumps(entry, ensure_ascii=False).encode("utf-8")

    def test_huge_sparse_file(self):
        identifier = self.session()
        size = self.ask("""
size = 1
with open("sparse", "wb") as f:
    try:
        while True:
            f.truncate(size * 2)
            size *= 2
    except OSError:
        pass
found = os.stat("sparse").st_size
""", identifier)
        entry = self.server.request("GET", "files/sparse", identifier).json()
        self.assertEqual(entry["sizeInBytes"], size)
        before = hostile.resident_bytes(self.server.process.pid)
        reply = self.get(identifier, "sparse", headers={"Range": f"bytes={size - 10}-"})
        self.assertEqual((reply.status, reply.body), (206, bytes(10)))
        self.assertLess(hostile.resident_bytes(self.server.process.pid) - before, 8 << 20)

    def test_file_that_shrinks_while_it_is_read(self):
        identifier = self.session()
        self.ask("""
import threading
def swing():
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        with open("swing", "wb") as f:
            f.write(bytes(4 << 20))
            f.flush()
            time.sleep(0.002)
open("swing", "wb").close()
threading.Thread(target=swing, daemon=True).start()
found = 0
""", identifier)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                self.get(identifier, "swing")
        self.assertEqual(self.server.value(identifier, "1 + 1"), 2)

    def test_deep_directories(self):
        identifier = self.session()
        depth = self.ask("""
here, found = os.getcwd(), 0
try:
    for found in range(1500):
        os.mkdir("d"); os.chdir("d")
except OSError:
    pass
os.chdir(here)
""", identifier)
        self.assertGreater(depth, 100)
        start = time.monotonic()
        reply = self.server.request("GET", "files", identifier, recursive="true")
        self.assertEqual(reply.status, 200)
        self.assertLess(len(reply.json()["value"]), 2000)
        self.assertLess(time.monotonic() - start, 5)
        reply = self.server.upload(identifier, "x", b"x", path="/".join(["d"] * 500))
        self.assertGreaterEqual(reply.status, 400)

    def test_files_without_permissions(self):
        identifier = self.session()
        self.ask("""
open("closed", "w").write("x")
os.mkdir("dir"); open("dir/in", "w").close()
for name in ("closed", "dir"):  # by descriptor, which works at every level
    fd = os.open(name, os.O_RDONLY); os.fchmod(fd, 0); os.close(fd)
found = 0
""", identifier)
        for target in ("files/closed/content", "files/in/content"):
            reply = self.server.request("GET", target, identifier,
                                        path="dir" if "in/" in target else None)
            self.assertIn(reply.status, range(400, 500))
        self.assertEqual(self.server.request(
            "GET", "files", identifier, recursive="true").status, 200)

    def race(self, swap, seconds=1.5):
        """Uploads, downloads and removes in `d` while the session's SWAP runs in a loop."""
        identifier = self.session()
        self.ask(f"""
import threading
os.mkdir("d")
open("d/secret", "w").write("mine")
os.symlink({str(canary.directory)!r}, "link")
rounds = 0
def exchange(a, b):
    return call(316, -100, a, -100, b, 2)  # renameat2, RENAME_EXCHANGE
def loop():
    global rounds
    end = time.monotonic() + {seconds + 0.5}
    while time.monotonic() < end:
        {swap}
        rounds += 1
threading.Thread(target=loop, daemon=True).start()
found = 0
""", identifier)
        end = time.monotonic() + seconds
        tries = 0
        while time.monotonic() < end:
            reply = self.get(identifier, "secret", path="d")
            self.assertNotIn(canary.secret.encode(), reply.body)
            self.server.upload(identifier, "planted", b"x", path="d")
            self.server.upload(identifier, "secret", b"overwritten", path="d")
            self.server.request("DELETE", "files/secret", identifier, path="d")
            reply = self.server.request("GET", "files", identifier, path="d", recursive="true")
            self.assertNotIn(b'"socket"', reply.body)
            tries += 1
        self.assertGreater(tries, 5)
        self.assertGreater(self.ask("found = rounds", identifier), 100)
        self.assertEqual(sorted(os.listdir(canary.directory)), ["secret", "socket"])

    def test_race_of_a_directory_with_a_link(self):
        self.race("exchange(b'd', b'link')")

    def test_race_of_a_file_with_a_link(self):
        self.race(f"""
        attempt(os.symlink, {str(canary.file)!r}, "d/new")
        attempt(os.replace, "d/new", "d/secret")
        attempt(lambda: open("d/other", "w").write("mine"))
        attempt(os.replace, "d/other", "d/secret")""".strip())


# --- what must differ between two sessions -----------------------------------------------------------

class Randomness(Escape):
    """Sessions are forks of one image: what is drawn in one must tell nothing of another."""

    options = {"kind": Server, "preload": ["numpy", "uuid", "tempfile", "secrets"]}

    CODE = """
import random, uuid, secrets, tempfile, hashlib, multiprocessing, string
found = {
    "random": random.random(), "state": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
    "shuffle": random.sample(range(10 ** 9), 5), "urandom": os.urandom(16).hex(),
    "hash of urandom": hashlib.md5(os.urandom(64)).hexdigest(),
    "uuid1": str(uuid.uuid1())[:18], "uuid4": str(uuid.uuid4()), "uuid node": uuid.getnode(),
    "token": secrets.token_hex(16), "choice": secrets.choice(range(10 ** 12)),
    "tempfile": tempfile.mktemp(), "name": next(tempfile._get_candidate_names()),
    "system": random.SystemRandom().random(),
    "authkey": multiprocessing.process.current_process().authkey.hex(),
    "generator": random.Random().random(),
}
try:
    import ssl
    found["ssl"] = ssl.RAND_bytes(16).hex()
except ImportError:
    pass
try:
    import numpy
    found["numpy"] = numpy.random.rand()
    found["numpy state"] = hashlib.sha256(numpy.random.get_state()[1].tobytes()).hexdigest()
    found["numpy generator"] = numpy.random.default_rng().random()
    found["numpy bytes"] = numpy.random.bytes(16).hex()
except ImportError:
    pass
"""

    def test_nothing_is_equal_in_two_sessions(self):
        first, second, third = (self.ask(self.CODE) for _ in range(3))
        for name in first:
            if name == "uuid node" and first[name] & (1 << 40) == 0 and not self.has_namespaces:
                continue  # the machine's own address
            self.assertEqual(len({json.dumps(s[name]) for s in (first, second, third)}), 3, name)

    def test_forks_within_a_session_differ_too(self):
        found = self.ask("""
import random, subprocess
out = []
for _ in range(2):
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, repr(random.random()).encode())
        os._exit(0)
    os.wait()
    out.append(os.read(r, 100).decode())
found = out
""")
        self.assertEqual(len(set(found)), 2)


hostile.each_level(globals(), HostFiles, ServersOwn, Processes, Shared)
hostile.each_level(globals(), HostFiles, ServersOwn, Processes, Shared, Kernel, Communication,
                   levels=hostile.OLDER)
# Here it makes no difference who started the server.
hostile.each_level(globals(), InheritedSignals, Kernel, Communication, FileInterface, Randomness,
                   levels=[level for level in hostile.LEVELS if level.user is None])
hostile.each_level(globals(), OwnedExecutable,
                   levels=[level for level in hostile.LEVELS if level.user is not None])
hostile.each_level(globals(), LandlockNeighbours,
                   levels=[level for level in hostile.LEVELS + hostile.OLDER
                           if level.isolation == "landlock"])

if __name__ == "__main__":
    unittest.main()

"""What the tests of hostile code share: the levels they run at, the tools an attacker brings along,
and a look at the server's processes from outside.

A group of tests is a class without TestCase; each_level() makes one test case of it for each level
of isolation that this machine can give, as root and as an ordinary user.
"""

import ctypes
import json
import os
import pathlib
import platform
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness  # noqa: E402
import processes  # noqa: E402

NOBODY = 65534
X86_64 = platform.machine() == "x86_64"
LANDLOCK_SCOPES = 6  # the version of Landlock that keeps signals and abstract sockets in

# What runs in the session first: system calls by number, and attempts that tell their error.
TOOLS = r'''
import ctypes, errno, json, os, signal, socket, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(number, *args):
    """A system call: its result, or the name of its error."""
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(number),
                     *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return errno.errorcode[ctypes.get_errno()] if r == -1 else r


def attempt(function, *args, **options):
    """What a function returns, or the name of its error."""
    try:
        return function(*args, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__


def content(path, size=4096):
    """The first bytes of a file, or the name of the error."""
    def read():
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(fd, size).decode("latin-1")
        finally:
            os.close(fd)
    return attempt(read)


def in_child(function, *args):
    """Runs it in a child; ("exit", status) or ("signal", number)."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(bool(function(*args))))
        finally:
            os._exit(99)
    status = os.waitpid(pid, 0)[1]
    return (["signal", os.WTERMSIG(status)] if os.WIFSIGNALED(status)
            else ["exit", os.WEXITSTATUS(status)])
'''


def landlock_version():
    if not X86_64 and platform.machine() != "aarch64":
        return 0
    libc = ctypes.CDLL(None)
    libc.syscall.restype = ctypes.c_long
    return max(0, libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1)))


class Level:
    """LANDLOCK: the version of it that the server is given; None for the kernel's own."""

    def __init__(self, name, isolation, user, landlock=None):
        self.name = name
        self.isolation = isolation
        self.user = user
        self.landlock = landlock

    @property
    def version(self):
        return landlock_version() if self.landlock is None else self.landlock

    @property
    def signals_reach_children(self):
        """At the level "landlock" the filter must stand in for an older version."""
        return self.isolation == "namespaces" or self.version >= LANDLOCK_SCOPES

    @property
    def prefix(self):
        """What the server's command begins with. Root has groups, as at a login, to be dropped."""
        older = ([] if self.landlock is None
                 else [str(harness.BUILD / "tests/old_landlock"), str(self.landlock)])
        if self.user is None and os.geteuid() == 0:
            return [*older, "setpriv", "--groups", "0,4,42"]
        return older

    @property
    def obstacle(self):
        """Why this machine cannot run it; None when it can."""
        if self.user is not None and os.geteuid() != 0:
            return "only root can start a server as another user"
        if landlock_version() < self.version:
            return "this kernel's Landlock is older"
        if self.isolation == "landlock" and self.version == 0:
            return "this kernel has no Landlock"
        return None


LEVELS = [
    Level("Namespaces", "namespaces", None),
    Level("NamespacesAsUser", "namespaces", NOBODY),
    Level("Landlock", "landlock", None),
    Level("LandlockAsUser", "landlock", NOBODY),
]

# The same walls on older kernels: 2 is Debian 12's own (6.1), 0 one without Landlock.
OLDER = [Level(f"NamespacesLandlock{version}{suffix}", "namespaces", user, version)
         for version in ((0, 1, 2, 3, 4, 5) if os.environ.get("CARREL_LONG") else (0, 2))
         for user, suffix in ((None, ""), (NOBODY, "AsUser"))
         if user is None or os.environ.get("CARREL_LONG")]
OLDER += [Level(f"LandlockLandlock{version}", "landlock", None, version)
          for version in ((1, 2, 3, 4, 5) if os.environ.get("CARREL_LONG") else (2,))]

_servers = {}


def server_at(level, **options):
    """The one server of this level and these options, started when it is first asked for."""
    key = (level.name, json.dumps(options, sort_keys=True, default=repr))
    if key not in _servers:
        _servers[key] = start(level, **options)
    return _servers[key]


def start(level, pool=None, environment=None, kind=harness.Server, **config):
    pool = {"name": "default", "ready_sessions": 3, "file_space": "64m", "memory": "512m",
            **(pool or {})}
    server = kind({"isolation": level.isolation, "pools": [pool], "grace_seconds": 0.5, **config},
                  environment=environment, user=level.user, prefix=level.prefix)
    server.start()
    return server


def stop_servers():
    """For tearDownModule. A server that does not end well is an error."""
    errors = []
    for server in _servers.values():
        try:
            server.stop()
        except harness.ServerError as error:
            errors.append(str(error))
    _servers.clear()
    if errors:
        raise harness.ServerError("\n".join(errors))


def each_level(namespace, *groups, levels=None):
    """Adds a test case for each group and level to a module's namespace."""
    for group in groups:
        for level in LEVELS if levels is None else levels:
            name = f"{group.__name__}{level.name}"
            case = type(name, (group, Hostile, unittest.TestCase),
                        {"level": level, "__module__": namespace["__name__"],
                         "__doc__": group.__doc__})
            if level.obstacle:
                case = unittest.skip(level.obstacle)(case)
            namespace[name] = case


class Hostile:
    """A test whose code runs in a session of its own, with the tools loaded."""

    level = None
    options = {}
    _count = 0

    @property
    def server(self):
        return server_at(self.level, **self.options)

    @property
    def has_namespaces(self):
        return self.level.isolation == "namespaces"

    def session(self):
        """The identifier of a fresh session with the tools in it; gone when the test ends."""
        Hostile._count += 1
        identifier = f"hostile-{os.getpid()}-{Hostile._count}"
        self.server.execute(identifier, TOOLS)
        self.addCleanup(self.server.request, "DELETE", "session", identifier)
        return identifier

    def ask(self, code, identifier=None, timeout=60):
        """Runs code that leaves what it found in `found`; returns that."""
        identifier = identifier or self.session()
        text = self.server.value(identifier, code + "\njson.dumps(found)", timeout=timeout)
        return json.loads(text)


# --- the server's processes, from outside ----------------------------------------------------------

def keeper_of(server):
    return processes.children(server.process.pid)[0]


def sessions_of(server):
    return processes.children(keeper_of(server))


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no VmRSS")


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_until(condition, seconds=5):
    """True as soon as it holds, False when it does not within the time."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(held)

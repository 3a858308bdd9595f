"""Private servers: a ``carrel serve`` of this process's own, on the loopback, with a fresh token.

Sessions that ask for the same settings share a server: it keeps them apart by walls, so a process of
each session's own would only cost time. It is started for the first of them and stopped after the
last. It also stops by itself when this process is gone, however that ended: the server watches a
pipe whose other end is held here.

Everything here blocks, and may be called from any thread.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import pathlib
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import threading

from .errors import ServerNotFound, ServerStartError

log = logging.getLogger("carrel.server")

STOP_SECONDS = 10.0
LINES_KEPT = 20
LINE_BYTES_MAX = 65536
LEVELS = {"error": logging.ERROR, "warning": logging.WARNING}
# What of this process's environment a server gets: nothing that could change which storage it has,
# and no secret that it was not given on purpose.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "ASAN_OPTIONS", "UBSAN_OPTIONS",
             "LSAN_OPTIONS", "CARREL_ISOLATION", "CARREL_KEEPER", "CARREL_USER")


@dataclasses.dataclass(frozen=True)
class ServerSpec:
    """What a private server is started with. Equal ones share a server.

    settings: its configuration file, JSON. environment: added to its environment. token: None for a
    fresh one. startup_seconds: until it must be ready.
    """

    settings: str
    environment: tuple[tuple[str, str], ...]
    host: str
    port: int
    token: str | None
    startup_seconds: float


def find_program() -> pathlib.Path:
    """``carrel``: what CARREL_BIN names, the source tree's build, or the first on PATH.

    ServerNotFound when there is none.
    """
    named = os.environ.get("CARREL_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise ServerNotFound(f"CARREL_BIN is {named}, which is no program")
        return pathlib.Path(named).absolute()
    tree = pathlib.Path(__file__).resolve().parents[2]
    built = tree / "build" / "carrel"
    if (tree / "src" / "cli").is_dir() and os.access(built, os.X_OK):
        return built
    found = shutil.which("carrel")
    if found is None:
        raise ServerNotFound(
            "there is no 'carrel' program on PATH, and CARREL_BIN names none; build it with "
            "./dev build, or give ContainerConfig(remote_url=…) for a server that runs already")
    return pathlib.Path(found).absolute()


class _Scratch:
    """A private server's directory, for as long as this process lives.

    Whoever is killed leaves it behind; the next one takes it away. A lock that goes with its process
    tells the two apart.
    """

    PREFIX = "carrel-private-"
    LOCK = "lock"

    def __init__(self) -> None:
        for path in pathlib.Path(tempfile.gettempdir()).glob(f"{self.PREFIX}*"):
            self._sweep(path)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=self.PREFIX))
        unlocked = self.path / "unlocked"
        self._lock = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Under its name it is locked from its first moment.
        unlocked.rename(self.path / self.LOCK)
        self.path.chmod(0o711)  # the server's data is beneath, and may be another user's

    @classmethod
    def _sweep(cls, path: pathlib.Path) -> None:
        with contextlib.suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                return
            lock = os.open(path / cls.LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.leave()

    def leave(self) -> None:
        """Lets go of it; in a forked child it stays the parent's."""
        with contextlib.suppress(OSError):
            os.close(self._lock)


class _PrivateServer:
    """One process. `users` counts the leases; the registry's lock guards it."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.token = spec.token or secrets.token_hex(32)
        self.users = 0
        self.starting = threading.Lock()
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: _Scratch | None = None
        self._reader: threading.Thread | None = None
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self._changed = threading.Condition()
        self._port: int | None = None
        self._ready = False
        self._ended = False

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when sessions can be made. ServerStartError with its own words when it ends."""
        program = find_program()
        self._port, self._ready, self._ended = None, False, False
        try:
            self._scratch = _Scratch()
            self._process = self._spawn(program, self._scratch.path)
            self._reader = threading.Thread(target=self._read_log, name="carrel-log", daemon=True)
            self._reader.start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self.url = f"http://{_in_url(self.spec.host)}:{self._port}"

    def _spawn(self, program: pathlib.Path, base: pathlib.Path) -> subprocess.Popen[bytes]:
        file = base / "carrel.yaml"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(self.spec.settings)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment.update(self.spec.environment)
        environment["CONTAINER_AUTH_TOKEN"] = self.token
        # In a process group of its own, so that a Ctrl-C at the terminal is ours to answer.
        return subprocess.Popen(
            [str(program), "serve", "--stop-at-eof", "--config", str(file),
             "--data-dir", str(base / "data"),
             "--listen", f"{_in_url(self.spec.host)}:{self.spec.port}"], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True)

    def _wait_until_ready(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended, self.spec.startup_seconds)
            if self._ready:
                return
            said = "\n".join(self._lines)
        if self._ended:
            raise ServerStartError(f"carrel serve did not start: {said or 'it said nothing'}")
        raise ServerStartError(
            f"carrel serve was not ready within {self.spec.startup_seconds:g} s: {said}")

    def _read_log(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        with contextlib.suppress(ValueError):  # closed under our feet by stop()
            while line := self._process.stderr.readline(LINE_BYTES_MAX):
                self._note(line.decode("utf-8", "replace").rstrip("\n"))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _note(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            event = {"level": "warning", "event": line}
        log.log(LEVELS.get(str(event.get("level")), logging.DEBUG), "%s", line)
        with self._changed:
            self._lines.append(line)
            if event.get("event") == "listening" and isinstance(event.get("port"), int):
                self._port = event["port"]
            elif event.get("event") == "keeper_ready" and self._port is not None:
                self._ready = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends the process and takes its files away. At most STOP_SECONDS, then it is killed."""
        if self._process is not None:
            self._end(self._process)
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stderr is not None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(1)
        process.stderr.close()

    def forget(self) -> None:
        """In a forked child: lets go of the pipe, and leaves all else to the parent."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                os.close(self._process.stdin.fileno())
            self._process.returncode = 0
        if self._scratch is not None:
            self._scratch.leave()

    def last_words(self, seconds: float) -> str | None:
        """Why it is no longer there; None while it still is, `seconds` from now."""
        if self._process is None:
            return "the private server was stopped"
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        if self._reader is not None:
            self._reader.join(1)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"the private server ended with {how}; its last words: " + "\n".join(self._lines)


class Lease:
    """The right to use a server until `release`."""

    def __init__(self, server: _PrivateServer) -> None:
        self._server = server
        self._released = False
        self.url = server.url
        self.token = server.token

    def release(self) -> None:
        """The last lease's stops the server. May be called twice."""
        with _registry.lock:
            if self._released:
                return
            self._released = True
            self._server.users -= 1
            last = self._server.users == 0
            if last:
                _registry.remove(self._server)
        if last:
            self._server.stop()

    def last_words(self, seconds: float = 1.0) -> str | None:
        """Why the server is no longer there; None while it still is, after so many seconds."""
        return self._server.last_words(seconds)


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._servers: dict[ServerSpec, _PrivateServer] = {}
        # Those that ended while they had users, and were followed by a new one.
        self._replaced: list[_PrivateServer] = []

    def find(self, spec: ServerSpec) -> _PrivateServer:
        with self.lock:
            server = self._servers.get(spec)
            if server is not None and server.url and not server.running():
                self._replaced.append(server)
                server = None
            if server is None:
                server = self._servers[spec] = _PrivateServer(spec)
            server.users += 1
            return server

    def remove(self, server: _PrivateServer) -> None:
        if self._servers.get(server.spec) is server:
            del self._servers[server.spec]
        elif server in self._replaced:
            self._replaced.remove(server)

    def all(self) -> list[_PrivateServer]:
        return [*self._servers.values(), *self._replaced]


_registry = _Registry()


def acquire(spec: ServerSpec) -> Lease:
    """A lease of a running server with these settings, which is started when there is none.

    Raises ServerNotFound or ServerStartError.
    """
    server = _registry.find(spec)
    try:
        with server.starting:
            if not server.url:
                server.start()
    except BaseException:
        with _registry.lock:
            server.users -= 1
            if server.users == 0:
                _registry.remove(server)
        raise
    return Lease(server)


def _stop_all() -> None:
    for server in _registry.all():
        server.stop()


def _after_fork() -> None:
    global _registry
    for server in _registry.all():
        server.forget()
    _registry = _Registry()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_after_fork)

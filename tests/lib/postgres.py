"""A PostgreSQL of a test's own: Debian's, in a directory of its own, stopped by whoever started it.

    with Postgres() as database:
        database.url                 # for the server, over TCP with a password
        database.sql("SELECT 1")     # through psql
        database.kill()              # all of it, with SIGKILL
        database.start()

It has nothing to do with a cluster that the machine may run beside it.
"""

import os
import pathlib
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import processes

PROGRAMS = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), default=pathlib.Path("/usr/bin"),
               key=lambda path: int(path.parent.name))
START_SECONDS = 60
# It refuses root; any other user will do.
ROOT_BECOMES = "nobody"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """With fsync, as it is in use, unless FSYNC is False (for a test that counts on nothing)."""

    def __init__(self, fsync=True):
        self.user, self.password, self.name = "carrel", secrets.token_hex(8), "approvals"
        self._fsync = fsync
        self._process = None

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="carrel-postgres-"))
        self.port = free_port()
        try:
            if os.geteuid() == 0:
                user = pwd.getpwnam(ROOT_BECOMES)
                os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._initialize()
            self.start()
            self.sql(f"CREATE DATABASE {self.name}", database="postgres")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self):
        return (f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{self.name}")

    @property
    def socket_url(self):
        """Over the Unix socket; it wants the password all the same."""
        return (f"postgresql://{self.user}:{self.password}@/{self.name}?port={self.port}"
                f"&host={str(self.directory).replace('/', '%2F')}")

    @property
    def _data(self):
        return self.directory / "data"

    def _as_user(self):
        """subprocess's arguments for one who is not root."""
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam(ROOT_BECOMES)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _initialize(self):
        password = self.directory / "password"
        password.write_text(self.password + "\n")
        password.chmod(0o644)
        done = subprocess.run(
            [PROGRAMS / "initdb", "-D", self._data, "-U", self.user, "-A", "scram-sha-256",
             f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            capture_output=True, text=True, check=False, cwd="/", **self._as_user())
        if done.returncode != 0:
            raise RuntimeError(f"initdb: {done.stderr}")
        password.unlink()

    def start(self):
        """Also after kill(): it recovers what had been committed."""
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", self._data, "-p", str(self.port),
                 "-h", "127.0.0.1", "-k", self.directory,
                 "-c", f"fsync={'on' if self._fsync else 'off'}",
                 "-c", "max_connections=50", "-c", "shared_buffers=16MB"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
                **self._as_user())
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"postgres: {(self.directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _psql(self, text, database):
        return subprocess.run(
            [PROGRAMS / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
             "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-d", database, "-c", text],
            capture_output=True, text=True, check=False, cwd="/",
            env={"PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "5", "PATH": "/usr/bin:/bin"})

    def _answers(self):
        return self._psql("SELECT 1", "postgres").returncode == 0

    def sql(self, text, database=None):
        """What psql prints: a line a row, '|' between columns."""
        done = self._psql(text, database or self.name)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.rstrip("\n")

    def _pids(self):
        """The postmaster, which is ours, and what it has started."""
        return [self._process.pid, *processes.children(self._process.pid)]

    def _signal_all(self, number):
        for pid in self._pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        """As when the machine loses its power, but for what the kernel had taken."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # it starts nothing more meanwhile
        self._signal_all(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def behind(self, port):
        """The URL by way of a proxy of this machine."""
        return self.url.replace(f":{self.port}/", f":{port}/")

    def freeze(self):
        """It answers nobody, and ends no connection."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self):
        self._signal_all(signal.SIGCONT)


class Cutter:
    """A proxy before PostgreSQL that loses connections at their COMMIT, once it is told to:
    before the server has it ("before"), or before its answer is here ("after").

        with Cutter(database.port) as cutter:
            database.behind(cutter.port)
            cutter.cut = "after"
            ...
            cutter.cuts          # how often it did
    """

    COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"

    def __init__(self, port):
        self.cut, self.cuts = None, 0
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                for one in ready:
                    data = one.recv(65536)
                    if one is client and self.cut is not None and self.COMMIT in data:
                        self._lose(server, data)
                        return
                    if not data:
                        return
                    (server if one is client else client).sendall(data)

    def _lose(self, server, data):
        if self.cut == "after":
            server.sendall(data)
            server.recv(65536)
        self.cut = None
        self.cuts += 1

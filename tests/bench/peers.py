"""What else one would run Python in, and what Carrel is measured with, all from Debian's packages, each
driven as its users do."""

import contextlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import machine
import websocket

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import processes  # noqa: E402

PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
START_SECONDS = 60
# The same namespaces as a session has, a read-only root, no capabilities; no seccomp, no limits.
BWRAP = ["bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/",
         "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/mnt"]
IMPORTS = "import numpy, pandas, matplotlib; "


class PeerError(Exception):
    """A peer is not there, or does not answer as it should."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait_until(ready, process, what):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise PeerError(f"{what} ended with status {process.returncode}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return
        time.sleep(0.02)
    raise PeerError(f"{what} does not start")


def _stop(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- one process a cell ---------------------------------------------------------------------------

def _run_times(command, count):
    times = []
    for _ in range(count):
        start = time.perf_counter()
        answer = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=True)
        times.append((time.perf_counter() - start) * 1e3)
        if answer.stdout != b"2\n":
            raise PeerError(f"{command[0]} answered {answer.stdout!r}")
    return {"p50_ms": sorted(times)[len(times) // 2], "max_ms": max(times), "count": count}


def plain_python(count):
    return {"bare": _run_times([PYTHON, "-c", "print(1+1)"], count),
            "imports": _run_times([PYTHON, "-c", IMPORTS + "print(1+1)"], max(1, count // 5))}


def bubblewrap(count):
    return {"bare": _run_times([*BWRAP, PYTHON, "-c", "print(1+1)"], count),
            "imports": _run_times([*BWRAP, PYTHON, "-c", IMPORTS + "print(1+1)"],
                                  max(1, count // 5))}


# --- Jupyter Server -------------------------------------------------------------------------------

class Jupyter:
    """`jupyter server` on a free port, with all its files in a directory of its own."""

    def __enter__(self):
        if shutil.which("jupyter-server", path="/usr/bin") is None:
            raise PeerError("jupyter-server is not installed")
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-bench-jupyter-")
        self.port = free_port()
        self.token = secrets.token_hex(16)
        base = self.directory.name
        environment = {**ENVIRONMENT, "HOME": base, "JUPYTER_CONFIG_DIR": base + "/config",
                       "JUPYTER_DATA_DIR": base + "/data", "JUPYTER_RUNTIME_DIR": base + "/runtime",
                       "IPYTHONDIR": base + "/ipython", "MPLCONFIGDIR": base + "/matplotlib"}
        start = time.perf_counter()
        self.process = subprocess.Popen(
            ["/usr/bin/jupyter-server", "--allow-root", "--ServerApp.ip=127.0.0.1",
             f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0",
             f"--ServerApp.token={self.token}", "--ServerApp.open_browser=False",
             f"--ServerApp.root_dir={base}"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=base)
        try:
            _wait_until(lambda: self.request("GET", "/api/status")[0] == 200, self.process,
                        "jupyter-server")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.start_ms = (time.perf_counter() - start) * 1e3
        return self

    def __exit__(self, kind, value, trace):
        _stop(self.process)
        self.directory.cleanup()

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"token {self.token}"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        finally:
            connection.close()

    def new_kernel(self):
        status, kernel = self.request("POST", "/api/kernels", {"name": "python3"})
        if status != 201:
            raise PeerError(f"jupyter-server made no kernel: {status}")
        return Kernel(self, kernel["id"])


class Kernel:
    """One kernel, over its WebSocket."""

    def __init__(self, server, identifier):
        self.server = server
        self.identifier = identifier
        self.session = uuid.uuid4().hex
        self.socket = websocket.WebSocket(
            server.port, f"/api/kernels/{identifier}/channels?session_id={self.session}",
            {"Authorization": f"token {server.token}"})

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.socket.close()
        self.server.request("DELETE", f"/api/kernels/{self.identifier}")

    def execute(self, code):
        """The text of the cell's value, once both the reply and the result have come."""
        number = uuid.uuid4().hex
        self.socket.send(json.dumps({
            "header": {"msg_id": number, "msg_type": "execute_request", "username": "bench",
                       "session": self.session, "version": "5.3",
                       "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
            "parent_header": {}, "metadata": {}, "buffers": [], "channel": "shell",
            "content": {"code": code, "silent": False, "store_history": True,
                        "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}}))
        value, replied, idle = None, False, False
        while not (replied and idle):
            message = json.loads(self.socket.receive())
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "execute_result":
                value = content["data"]["text/plain"]
            elif kind == "execute_reply":
                replied = True
                if content["status"] != "ok":
                    raise PeerError(f"the kernel answered {content}")
            elif kind == "status":
                idle = content["execution_state"] == "idle"
        return value

    def process(self):
        for pid in processes.children(self.server.process.pid):
            command = pathlib.Path("/proc", str(pid), "cmdline").read_bytes()
            if self.identifier.encode() in command:
                return pid
        raise PeerError("the kernel's process is not to be found")


def _expect_two(kernel):
    value = kernel.execute("1+1")
    if value != "2":
        raise PeerError(f"the kernel answered {value!r}")


def jupyter(server, kernels, executions):
    """A kernel from nothing to its first result, and then one execution after the other."""
    first = []
    for _ in range(kernels):
        start = time.perf_counter()
        with server.new_kernel() as kernel:
            _expect_two(kernel)
            first.append((time.perf_counter() - start) * 1e3)
    with server.new_kernel() as kernel:
        times = []
        for _ in range(executions + 5):
            start = time.perf_counter()
            _expect_two(kernel)
            times.append((time.perf_counter() - start) * 1e3)
        times = sorted(times[5:])
        bare = machine.memory_of(kernel.process())
        kernel.execute(IMPORTS)
        time.sleep(0.2)
        imported = machine.memory_of(kernel.process())
    return {"start_ms": server.start_ms, "first_p50_ms": sorted(first)[len(first) // 2],
            "warm_p50_ms": times[len(times) // 2], "warm_p99_ms": times[len(times) * 99 // 100],
            "bare": bare, "imports": imported}


# --- nginx ----------------------------------------------------------------------------------------

NGINX_CONFIG = """
daemon off;
user root;
worker_processes 2;
error_log {base}/error.log;
pid {base}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 200m;
    client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy;
    fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi;
    scgi_temp_path {base}/scgi;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            root {base}/files;
            dav_methods PUT;
        }}
    }}
}}
"""


class Nginx:
    """nginx with its files on a tmpfs: PUT stores a file, GET sends it."""

    def __enter__(self):
        if shutil.which("nginx", path="/usr/sbin") is None:
            raise PeerError("nginx is not installed")
        shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-bench-nginx-", dir=shared)
        base = pathlib.Path(self.directory.name)
        (base / "files").mkdir()
        self.port = free_port()
        config = base / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(base=base, port=self.port))
        self.process = subprocess.Popen(
            ["/usr/sbin/nginx", "-p", str(base), "-c", str(config)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until(self._answers, self.process, "nginx")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _answers(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def __exit__(self, kind, value, trace):
        _stop(self.process)
        self.directory.cleanup()


# --- Redis ----------------------------------------------------------------------------------------

class Redis:
    """redis-server on a free port, in memory alone."""

    def __enter__(self):
        if shutil.which("redis-server", path="/usr/bin") is None:
            raise PeerError("redis-server is not installed")
        self.directory = tempfile.TemporaryDirectory(prefix="carrel-bench-redis-")
        self.port = free_port()
        self.process = subprocess.Popen(
            ["/usr/bin/redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
             "--appendonly", "no", "--dir", self.directory.name], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until(self._answers, self.process, "redis-server")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def _answers(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as s:
            s.sendall(b"PING\r\n")
            return s.recv(16) == b"+PONG\r\n"

    def __exit__(self, kind, value, trace):
        _stop(self.process)
        self.directory.cleanup()

"""Small servers for the tests of the Python package.

FakeSessionServer speaks the session server's wire from memory, in the test's own process: what the
client sends and how it reads answers can be looked at without any of Carrel's C code. ScriptedServer
answers with bytes as they stand.
"""

import base64
import contextlib
import http.server
import io
import json
import socket
import socketserver
import threading
import time
import traceback
import urllib.parse

TOOL = {"name": "echo", "description": "Say it again", "tags": ["text"], "callables": [
    {"name": "echo", "description": "", "parameters": [
        {"name": "text", "type": "str", "required": True, "default": None, "description": ""}]}]}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece

    def log_message(self, *_):
        pass

    def do_GET(self):
        fake = self.server.fake
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = json.loads(raw) if raw else None
        with fake.lock:
            fake.requests.append((self.command, self.path, dict(self.headers), body))
        if url.path != "/health" and self.headers.get("Authorization") != f"Bearer {fake.token}":
            self.answer(401, {"detail": "Invalid token"})
            return
        try:
            status, value = fake.handle(self.command, url.path, query, body,
                                        self.headers.get("X-Session-ID"))
        except KeyError as error:
            status, value = 404, {"detail": f"Artifact '{error.args[0]}' not found"}
        self.answer(status, value)

    do_POST = do_DELETE = do_GET

    def answer(self, status, value):
        if isinstance(value, tuple):
            data, kind = value
        else:
            data, kind = json.dumps(value).encode(), "application/json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)


class _Threading(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # clients of these tests hang up on purpose


class FakeSessionServer:
    """`with FakeSessionServer() as fake`: fake.url, fake.token; fake.requests is what came."""

    def __init__(self, token="secret-token"):
        self.token = token
        self.lock = threading.Lock()
        self.requests = []
        self.sessions = {}
        self.skills = {}
        self.artifacts = {}
        self.deps = set()
        self.installable = None  # None: everything
        self.runtime_deps = True

    def __enter__(self):
        self._server = _Threading(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def handle(self, method, path, query, body, session):
        if path.startswith("/api/"):
            routes = {"tools": self.tool_routes, "skills": self.skill_routes,
                      "artifacts": self.artifact_routes, "deps": self.dep_routes}
            return routes[path.split("/")[2]](method, path, query, body)
        return getattr(self, f"{method.lower()}_{path[1:]}")(body, session)

    # --- sessions ---

    def get_health(self, _body, _session):
        return 200, {"status": "healthy", "uptime_seconds": 1.5}

    def get_info(self, _body, _session):
        skills = [{"name": n, "description": s["description"]} for n, s in self.skills.items()]
        return 200, {"tools": [{"name": "echo", "description": "Say it again"}], "skills": skills,
                     "workflows": skills, "artifacts_path": "/artifacts"}

    def post_sessions(self, body, _session):
        name = f"issued-{(body or {}).get('workspace_id')}"
        self.sessions[name] = {}
        return 200, {"session_id": name}

    def post_reset(self, _body, session):
        self.sessions.pop(session, None)
        return 200, {"status": "reset", "session_id": session or ""}

    def post_execute(self, body, session):
        if not isinstance(body.get("code"), str):
            return 422, {"detail": [{"loc": ["body", "code"], "msg": "Field required",
                                     "type": "missing"}]}
        names = self.sessions.setdefault(session, {"sleep": time.sleep})
        out, value, error = io.StringIO(), None, None
        with contextlib.redirect_stdout(out):
            try:
                try:
                    value = eval(compile(body["code"], "<code>", "eval"), names)
                except SyntaxError:
                    exec(compile(body["code"], "<code>", "exec"), names)
            except Exception:
                error = traceback.format_exc()
        return 200, {"value": value, "stdout": out.getvalue(), "error": error,
                     "execution_time_ms": 0.25, "session_id": session, "stderr": "", "displays": [],
                     "verdict": "exception" if error else "succeeded", "anything_new": 1}

    # --- the four names ---

    def tool_routes(self, _method, _path, query, _body):
        if "query" in query and query["query"] not in TOOL["name"]:
            return 200, []
        return 200, [TOOL][:int(query.get("limit", 10))]

    def skill(self, name, source):
        return {"name": name, "description": self.skills[name]["description"], "parameters": [],
                **({"source": self.skills[name]["source"]} if source else {})}

    def skill_routes(self, method, path, query, body):
        name = urllib.parse.unquote("/".join(path.split("/")[3:]))
        if method == "POST":
            if not body["name"].isidentifier():
                return 400, {"detail": f"Invalid skill name: {body['name']!r}"}
            self.skills[body["name"]] = body
            return 200, self.skill(body["name"], True)
        if method == "DELETE":
            return 200, self.skills.pop(name, None) is not None
        if name == "search":
            found = [n for n, s in self.skills.items() if query["query"] in s["description"]]
            return 200, [self.skill(n, False) for n in found[:int(query["limit"])]]
        if name:
            return 200, self.skill(name, True) if name in self.skills else None
        return 200, [self.skill(n, False) for n in self.skills]

    def artifact_routes(self, method, path, _query, body):
        name = urllib.parse.unquote("/".join(path.split("/")[3:]))
        if method == "POST":
            if ".." in body["name"]:
                return 400, {"detail": f"Path traversal attempt detected: {body['name']!r}"}
            data = body["data"]
            if body.get("encoding") == "base64":
                data = base64.b64decode(data, validate=True)
                if body.get("type") == "json":
                    data = json.loads(data)
            self.artifacts[body["name"]] = (data, body)
            return 200, self.artifact(body["name"])
        if method == "DELETE":
            del self.artifacts[name]
            return 200, None
        if name:
            return 200, kept_bytes(self.artifacts[name][0])
        return 200, [self.artifact(n) for n in self.artifacts]

    def artifact(self, name):
        body = self.artifacts[name][1]
        return {"name": name, "path": f"/artifacts/{name}", "description": body["description"],
                "metadata": body["metadata"] or {}, "created_at": "2026-01-02T03:04:05+00:00"}

    def dep_routes(self, _method, path, _query, body):
        what = path.split("/")[3:]
        if not what:
            return 200, sorted(self.deps)
        if what == ["sync"]:
            return 200, {"installed": sorted(self.deps), "already_present": [], "failed": []}
        if not self.runtime_deps:
            return 403, {"detail": "Runtime dependency installation is disabled"}
        if what == ["add"]:
            self.deps.add(body["package"])
            return 200, {"installed": [body["package"]], "already_present": [], "failed": []}
        there = body["package"] in self.deps
        self.deps.discard(body["package"])
        return 200, {"removed": there}

    def post_install_deps(self, body, _session):
        good = [p for p in body["packages"] if self.installable is None or p in self.installable]
        bad = [p for p in body["packages"] if p not in good]
        self.deps.update(good)
        return 200, {"installed": good, "already_present": [], "removed": [], "not_found": [],
                     "failed": bad}


def kept_bytes(data):
    """(bytes, media type) of an artifact, for who accepts bytes first of all."""
    if isinstance(data, bytes):
        return data, "application/octet-stream"
    if isinstance(data, str):
        return data.encode(), "application/octet-stream; type=text"
    return json.dumps(data).encode(), "application/octet-stream; type=json"


class ScriptedServer:
    """Gives one scripted answer a connection, in order: bytes, or a function of the socket.

    `received` is what each connection sent until its answer began.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.received = []
        self.connections = 0

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        for answer in self.answers:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection, answer), daemon=True).start()

    def _answer(self, connection, answer):
        with connection, contextlib.suppress(OSError):
            self.received.append(read_request(connection))
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)


def read_request(connection):
    """The bytes of one request with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body

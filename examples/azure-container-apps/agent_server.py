#!/usr/bin/env python3
"""The agent as a service, each task in a session of its own.

    POST /task {"task": "…"}   {"result": "…", "error": null}
    GET  /health               {"status": "healthy"}; no token
    GET  /info                 the session server's tools and skills

SESSION_URL and SESSION_AUTH_TOKEN name the session server. AGENT_AUTH_TOKEN is the token that callers
must send; without one it serves on the loopback only. The model is agent.py's; AGENT_SCRIPT is a file
for its scripted one. HOST and PORT: 127.0.0.1 and 8000.
"""

import asyncio
import hmac
import http.server
import json
import os
import sys

import agent
from carrel import CarrelError, Session
from carrel.execution import ContainerConfig, ContainerExecutor

BODY_BYTES_MAX = 1 << 20
REFUSED_BYTES_MAX = 16 << 20
IDLE_SECONDS_MAX = 75


def executor():
    return ContainerExecutor(ContainerConfig(
        remote_url=os.environ.get("SESSION_URL", "http://127.0.0.1:8080"), timeout=60.0,
        auth_token=os.environ.get("SESSION_AUTH_TOKEN")))


async def work(task):
    async with Session(executor=executor()) as session:
        return await agent.run_task(task, agent.model_from(os.environ.get("AGENT_SCRIPT")), session)


async def info():
    async with Session(executor=executor()) as session:
        found = await session.info()
    return {"tools": found.tools, "skills": found.skills}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS_MAX

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400:
            self.close_connection = True  # its body may not have been read
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        token = os.environ.get("AGENT_AUTH_TOKEN")
        if not token:
            return True  # main() then listens on the loopback only
        said = self.headers.get("Authorization") or ""
        return hmac.compare_digest(said.encode(), f"Bearer {token}".encode())

    def do_GET(self):
        if self.path == "/health":
            self.reply(200, {"status": "healthy"})
        elif not self.allowed():
            self.reply(401, {"detail": "Invalid token"})
        elif self.path == "/info":
            try:
                self.reply(200, asyncio.run(info()))
            except CarrelError as error:
                self.reply(502, {"detail": str(error)})
        else:
            self.reply(404, {"detail": "Not Found"})

    def do_POST(self):
        if not self.allowed():
            self.reply(401, {"detail": "Invalid token"})
        elif self.path != "/task":
            self.reply(404, {"detail": "Not Found"})
        else:
            self.task()

    def task(self):
        length = self.headers.get("Content-Length") or ""
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.reply(413, {"detail": f"A body of at most {BODY_BYTES_MAX} bytes"})
            self.read_away()
            return
        try:
            task = json.loads(self.rfile.read(int(length)))["task"]
            if not isinstance(task, str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            self.reply(422, {"detail": 'A body like {"task": "…"}'})
            return
        try:
            self.reply(200, {"result": asyncio.run(work(task)), "error": None})
        except (CarrelError, OSError, ValueError, KeyError) as error:
            self.reply(200, {"result": None, "error": str(error)})

    def read_away(self):
        """Some of a body that is not wanted: a connection closed on unread bytes is reset, and takes
        the answer with it."""
        self.wfile.flush()
        left = REFUSED_BYTES_MAX
        while left > 0 and (data := self.rfile.read1(min(left, 1 << 16))):
            left -= len(data)

    def log_message(self, form, *args):
        print(f"agent_server: {form % args}", file=sys.stderr)


def main():
    host = os.environ.get("HOST", "127.0.0.1")
    if not os.environ.get("AGENT_AUTH_TOKEN") and host not in ("127.0.0.1", "::1", "localhost"):
        sys.exit(f"agent_server: set AGENT_AUTH_TOKEN to serve on {host}: whoever may give it tasks "
                 "runs code")
    server = http.server.ThreadingHTTPServer((host, int(os.environ.get("PORT", "8000"))), Handler)
    print(f"agent_server: listening on port {server.server_address[1]}", file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""The tools of examples/, each run for real where its command is installed: against servers of this
test's own on 127.0.0.0/8, and with a session's directory."""

import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import sys
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from runner import INTERNAL, INVALID, NOBODY, Runner, readable  # noqa: E402

EXAMPLES = readable(ROOT / "examples")
OWN_ADDRESS = "127.0.0.153"  # where nobody else listens on a well-known port
PING_GROUPS = pathlib.Path("/proc/sys/net/ipv4/ping_group_range")


def needs(command):
    return unittest.skipUnless(shutil.which(command), f"{command} is not installed")


class Web(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        said = json.dumps({"method": self.command, "path": self.path, "body": body,
                           "test": self.headers.get("X-Test")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = answer

    def handle(self):
        with contextlib.suppress(ConnectionError):  # a port scan hangs up
            super().handle()

    def log_message(self, *_):
        pass


def serve_dns(server):
    """Every name is at 192.0.2.7."""
    with contextlib.suppress(OSError):
        while True:
            query, peer = server.recvfrom(4096)
            at = 12
            while query[at]:
                at += query[at] + 1
            question = query[12:at + 5]
            server.sendto(query[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + question +
                          b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07", peer)


def serve_whois(server):
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as lines:
                connection.sendall(b"who: " + lines.readline().strip() + b"\n")


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
        cls.addClassCleanup(cls.web.server_close)
        cls.addClassCleanup(cls.web.shutdown)
        threading.Thread(target=cls.web.serve_forever, daemon=True).start()
        cls.port = cls.web.server_address[1]
        cls.runner = cls.enterClassContext(Runner(
            tools_dir=str(EXAMPLES / "tools"), tools_file=str(EXAMPLES / "tools.yaml"),
            secrets={"github": "a-token-of-github"}))
        cls.data = cls.runner.base / "session"
        cls.data.mkdir()
        (cls.data / "scan.json").write_text('{"open": [80, 443], "host": "a b"}')
        if os.geteuid() == 0:
            os.chown(cls.data, NOBODY, NOBODY)

    def own_server(self, kind, port, serve):
        """A server on a well-known port of this test's own address, or the test is skipped."""
        server = socket.socket(socket.AF_INET, kind)
        self.addCleanup(server.close)
        try:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((OWN_ADDRESS, port))
        except OSError as error:
            self.skipTest(f"port {port}: {error.strerror}")
        if kind == socket.SOCK_STREAM:
            server.listen()
        threading.Thread(target=serve, args=(server,), daemon=True).start()

    def test_all_are_listed(self):
        for server in ("notes", "time"):  # which tell themselves what they have
            self.runner.wait_for_tool(server)
        self.assertLessEqual({"curl", "dig", "disk_usage", "echo", "github", "jq", "nmap", "notes",
                              "ping", "time", "whois"}, set(self.runner.names()))

    def test_echo(self):
        self.assertEqual(self.runner.text("echo", {"text": "a  b"}, "echo"), "a  b\n")
        self.assertEqual(self.runner.text("echo", {"text": "--help"}), "--help\n")

    @needs("df")
    def test_disk_usage(self):
        self.assertIn("Filesystem", self.runner.text("disk_usage"))

    @needs("curl")
    def test_curl(self):
        url = f"http://127.0.0.1:{self.port}/a?b=c"
        got = json.loads(self.runner.text("curl", {"url": url, "header": ["X-Test: é f"]}, "get"))
        self.assertEqual((got["method"], got["path"]), ("GET", "/a?b=c"))
        # With --data a value that begins with @ would send a file.
        got = json.loads(self.runner.text("curl", {"url": url, "data": "@/etc/passwd"}, "post"))
        self.assertEqual((got["method"], got["body"]), ("POST", "@/etc/passwd"))
        code, message = self.runner.outcome("curl", {"url": "file:///etc/passwd"}, "get")
        self.assertEqual(code, INTERNAL)
        self.assertIn("curl: (1)", message)

    @needs("jq")
    def test_jq(self):
        def jq(callable, filter, **more):
            return self.runner.text("jq", {"filter": filter, **more}, callable,
                                    directory=str(self.data))
        self.assertEqual(jq("query", ".open[1]", file="data/scan.json"), "443\n")
        self.assertEqual(jq("raw", ".host", file="data/scan.json"), "a b\n")
        self.assertEqual(jq("compute", "[1, 2 + 3]"), "[1,5]\n")
        self.assertEqual(self.runner.outcome("jq", {"filter": "-1"}, "compute")[0], INVALID)

    @needs("nmap")
    def test_nmap(self):
        flags = f"-Pn -p {self.port}"
        said = self.runner.text("nmap", {"target": "127.0.0.1", "flags": flags})
        self.assertRegex(said, rf"{self.port}/tcp +open")
        # Packets of its own making take a capability.
        code, message = self.runner.outcome("nmap", {"target": "127.0.0.1", "flags": "-sS -p 1"})
        self.assertEqual(code, INTERNAL)
        self.assertIn("requires root privileges", message)

    @needs("ping")
    def test_ping(self):
        first, last = map(int, PING_GROUPS.read_text().split())
        answer = self.runner.outcome("ping", {"host": "127.0.0.1", "count": 1})
        if first <= (NOBODY if os.geteuid() == 0 else os.getgid()) <= last:
            self.assertIn("1 received", answer["text"])
        else:  # it gets as far as its socket
            self.assertEqual(answer[0], INTERNAL)
            self.assertIn("socket", answer[1])

    @needs("dig")
    def test_dig(self):
        self.own_server(socket.SOCK_DGRAM, 53, serve_dns)
        said = self.runner.text("dig", {"name": f"@{OWN_ADDRESS}"}, "lookup")
        self.assertEqual(said, "192.0.2.7\n")

    @needs("whois")
    def test_whois(self):
        self.own_server(socket.SOCK_STREAM, 43, serve_whois)
        said = self.runner.text("whois", {"query": "example.org", "host": OWN_ADDRESS})
        self.assertIn("who: example.org", said)

    def test_time(self):
        self.runner.wait_for_tool("time", lambda tool: tool["callables"])
        self.assertRegex(self.runner.text("time", {"timezone": "UTC"}, "now"),
                         r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\Z")

    def test_notes(self):
        self.runner.wait_for_tool("notes", lambda tool: tool["callables"])
        self.assertEqual(self.runner.text("notes", {"text": "milk"}, "add"), "1 notes")
        self.assertEqual(self.runner.text("notes", {"word": "mil"}, "find"), "milk")


if __name__ == "__main__":
    unittest.main()

"""The HTTP layer, driven over real sockets against tests/unit/http_server_test.c.

    http_layer_test.py SERVER_BINARY [unittest arguments]

Only the standard library; the TLS cases need the openssl command.
"""

import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

SERVER = sys.argv.pop(1) if len(sys.argv) > 1 else os.environ.get("HTTP_SERVER_TEST", "")
SANITIZED = b"__asan_init" in pathlib.Path(SERVER).read_bytes() if SERVER else False


class Server:
    """One server process. It must end with status 0: sanitizers report through it."""

    def __init__(self, *arguments, **settings):
        """settings: idle_ms, connections, per_address, bodies, proxy, open; see the program's main."""
        self.files = tempfile.mkdtemp(prefix="http-layer-", dir="/dev/shm")
        env = dict(os.environ)
        env.update(UV_THREADPOOL_SIZE="1")
        env.update({f"HTTP_TEST_{name.upper()}": str(value) for name, value in settings.items()})
        self.process = subprocess.Popen(
            [SERVER, self.files, *arguments], stdout=subprocess.PIPE, env=env
        )
        line = self.process.stdout.readline().split()
        assert line and line[0] == b"port", "the server did not start"
        self.port = int(line[1])

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = f"kill: it did not stop ({self.process.wait()})"
        self.process.stdout.close()
        shutil.rmtree(self.files)
        return status

    def rss_kb(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")


def read_answer(f):
    """(status, headers, body) from a buffered socket file; bodies by length or chunks."""
    line = f.readline()
    if not line:
        return None
    status = int(line.split()[1])
    headers = http.client.parse_headers(f)
    if status < 200 or status in (204, 304):
        return status, headers, b""
    if headers.get("Transfer-Encoding") == "chunked":
        pieces = []
        while True:
            n = int(f.readline(), 16)
            piece = f.read(n)
            assert f.readline() == b"\r\n"
            if n == 0:
                return status, headers, b"".join(pieces)
            pieces.append(piece)
    return status, headers, f.read(int(headers["Content-Length"]))


class Base(unittest.TestCase):
    arguments = ()
    settings = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.arguments, **cls.settings)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        assert status == 0, f"the server ended with {status}"

    def connect(self, timeout=10, source=None):
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout,
                                     (source, 0) if source else None)
        self.addCleanup(s.close)
        return s

    def raw(self, data, timeout=10):
        """Sends DATA and reads one answer."""
        s = self.connect(timeout)
        s.sendall(data)
        return read_answer(s.makefile("rb"))

    def request(self, method, path, body=None, headers=None, timeout=10):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def stats(self):
        return json.loads(self.request("GET", "/stats")[2])

    def lenient(self):
        """Whether libmicrohttpd is one before 1.0, which refuses little by itself."""
        return self.stats()["libmicrohttpd"].startswith("0.")

    def wait_for(self, what, message, seconds=5):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if what():
                return
            time.sleep(0.01)
        self.fail(message)


class Requests(Base):
    def test_echo_and_common_headers(self):
        status, headers, body = self.request("POST", "/echo", b"\0\xff" * 10, {"Content-Type": "a/b"})
        self.assertEqual((status, body), (200, b"\0\xff" * 10))
        self.assertEqual(headers["Content-Type"], "a/b")
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertIsNone(headers["Server"])

    def test_keep_alive(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        c.connect()
        port = c.sock.getsockname()[1]
        for i in range(50):
            path = "/echo" if i % 2 else "/delay?ms=1"
            c.request("POST", path, b"%d" % i)
            r = c.getresponse()
            self.assertEqual(r.status, 200)
            r.read()
            self.assertEqual(c.sock.getsockname()[1], port)
        c.close()

    def test_pipelining_keeps_the_order(self):
        s = self.connect()
        requests = b""
        for i in range(20):
            body = b"body %d" % i
            path = b"/delay?ms=3" if i % 3 == 0 else b"/echo"
            requests += b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
                path, len(body), body)
        s.sendall(requests)
        f = s.makefile("rb")
        for i in range(20):
            status, _, body = read_answer(f)
            self.assertEqual(status, 200)
            self.assertEqual(body, b'{"late":true}' if i % 3 == 0 else b"body %d" % i)

    def test_chunked_body(self):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        # Of an extension libmicrohttpd 1.0.1 makes a malformed chunk.
        extension = b";ext=1" if self.lenient() else b""
        answer = self.raw(head + b"3\r\nabc\r\n10" + extension +
                          b"\r\n0123456789abcdef\r\n0\r\nTrailer: 1\r\n\r\n")
        self.assertEqual(answer[2], b"abc0123456789abcdef")
        self.assertEqual(self.raw(head + b"0\r\n\r\n")[2], b"")
        self.assertEqual(self.raw(head + b"zz\r\n")[0], 400)

    def test_byte_by_byte(self):
        s = self.connect()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for b in b"POST /echo?x=%41 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde":
            s.send(bytes([b]))
        self.assertEqual(read_answer(s.makefile("rb"))[2], b"abcde")

    def test_expect_continue(self):
        s = self.connect()
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        f = s.makefile("rb")
        self.assertEqual(read_answer(f)[0], 100)
        s.sendall(b"abc")
        self.assertEqual(read_answer(f)[2], b"abc")

    def test_expect_continue_is_refused_before_the_body(self):
        s = self.connect()
        s.sendall(b"POST /private HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        f = s.makefile("rb")
        self.assertEqual(read_answer(f)[0], 401)
        self.assertEqual(f.read(), b"")

    def test_oversized_head(self):
        self.assertIn(self.raw(b"GET /stats HTTP/1.1\r\nX: " + b"a" * 200000)[0], (413, 431))
        self.assertIn(self.raw(b"GET /" + b"a" * 200000)[0], (414, 431))
        many = b"GET /stats HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20000))
        self.assertIn(self.raw(many)[0], (413, 431))
        self.assertEqual(self.request("GET", "/stats")[0], 200)

    def test_a_token_of_eight_kilobytes_fits(self):
        answer = self.request("GET", "/stats", headers={"Authorization": "Bearer " + "x" * 8192})
        self.assertEqual(answer[0], 200)

    def test_bad_framing(self):
        for fields in (
            b"Content-Length: abc",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999999",
            b"Content-Length: 3\r\nContent-Length: 4",
            b"Content-Length: 4\r\nContent-Length: 3\r\nContent-Length: 3",
            b"Content-Length: +3",
            b"Content-Length: 3, 3",
            b"Content-Length: 0x3",
            b"Content-Length:",
            b"Content-Length : 3",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding\t: chunked",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding: identity",
            b"Content-Length: 3\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ):
            with self.subTest(fields):
                s = self.connect()
                s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\n%s\r\n\r\nabc" % fields)
                f = s.makefile("rb")
                self.assertIn(read_answer(f)[0], (400, 413))
                # libmicrohttpd 0.9.75 writes the head of its own 400 twice; what counts is the end.
                self.assertNotIn(b"200 OK", f.read(), "the connection must end")

    def refused(self, data, status=400):
        s = self.connect()
        s.sendall(data)
        f = s.makefile("rb")
        answer = read_answer(f)
        if answer is None and not self.lenient():
            return  # libmicrohttpd 1.0 closes at some request lines
        self.assertIsNotNone(answer, "no answer")
        self.assertEqual(answer[0], status, answer)
        self.assertNotIn(b"200 OK", f.read(), "the connection must end")

    def test_heads_that_two_readers_could_read_differently(self):
        get = b"GET /stats HTTP/1.1\r\n"
        for head in (
            get + b"\r\n",  # no Host
            get + b"Host: x\r\nHost: x\r\n\r\n",
            get + b"Host: x\r\nhost: y\r\n\r\n",
            get + b"Host: a b\r\n\r\n",
            get + b"Host: x/y\r\n\r\n",
            get + b"Host: x, y\r\n\r\n",
            get + b"Host: x\r\nAuthorization: Bearer a\0b\r\n\r\n",
            get + b"Host: x\r\nX: a\0\r\nY: b\r\n\r\n",
            get + b"Host: x\0\r\n\r\n",
            get + b"Host: x\r\nX\0: b\r\n\r\n",
            get + b"Host: x\r\nX: a\r\n folded\r\n\r\n",
            get + b"Host: x\r\nX: a\r\n\tfolded\r\nY: b\r\n\r\n",
            get + b" Host: x\r\n\r\n",
            get + b"Host: x\r\nX: a\rb\r\n\r\n",
            get + b"Host: x\r\nX: a\x01b\r\n\r\n",
            get + b"Host: x\r\nX: a\x7fb\r\n\r\n",
            get + b"Host: x\r\nX y: b\r\n\r\n",
            get + b"Host: x\r\nX(y): b\r\n\r\n",
            get + b"Host: x\r\n: b\r\n\r\n",
            get + b"Host: x\r\nX \t : b\r\n\r\n",
            get + b"Host: x\nX: b\r\n\r\n",  # bare LF, in each place
            get + b"Host: x\r\nX: b\n\r\n",
            get + b"Host: x\r\nX: b\r\n\n",
            b"GET /stats HTTP/1.1\nHost: x\r\n\r\n",
            get + b"Host: x\nX: b\0\r\n\r\n",  # one byte too few, one too many
            b"GET  /stats HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats  HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats\0 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats\0a HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats\ta HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats?a\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /stats?a=b\0c HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://y/stats HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://x:81/stats HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://x@y/stats HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with self.subTest(head):
                self.refused(head)

    def test_heads_that_are_sound(self):
        host = b"Host: x\r\n"
        for head in (
            b"GET /stats HTTP/1.1\r\n" + host,
            b"GET /stats HTTP/1.1\r\nHost:x\r\n",
            b"GET /stats HTTP/1.1\r\nHost: \t x\r\n",
            b"GET /stats HTTP/1.1\r\nHost: [::1]:8080\r\n",
            b"GET /stats HTTP/1.1\r\nHost:\r\n",
            b"GET /stats HTTP/1.1\r\n" + host + b"X:\r\nY: \r\nZ: a:b\tc\r\nCookie: a=b; c=d\r\n",
            b"GET /stats HTTP/1.0\r\n",
            b"GET /stats HTTP/1.1\r\n" + host + b"X: " + "\u00e9".encode() + b"\r\n",
            b"GET /stats?\xc3\xa9=%41+?&&a HTTP/1.1\r\n" + host,
            b"GET HTTP://X:80/stats HTTP/1.1\r\n" + host,
            b"\r\nGET /stats HTTP/1.1\r\n" + host,
            b"GET /stats HTTP/1.1\r\n" + host + b"".join(b"X-%d: y\r\n" % i for i in range(100)),
        ):
            with self.subTest(head):
                self.assertEqual(self.raw(head + b"\r\n")[0], 200)
                s = self.connect()
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(head), 7):
                    s.send(head[at:at + 7])
                s.send(b"\r\n")
                self.assertEqual(read_answer(s.makefile("rb"))[0], 200, "piece by piece")

    def test_chunk_lines_end_in_crlf(self):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for body in (b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n3\ndef\r\n0\r\n\r\n",
                     b"3;x=1\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n",
                     b"-3\r\nabc\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n",
                     b"3\r\nabcX\r\n0\r\n\r\n"):
            with self.subTest(body):
                self.refused(head + body)
        self.assertEqual(self.raw(head + b"3\r\n\r\n\n\r\n0\r\n\r\n")[2], b"\r\n\n")

    def test_three_thousand_query_parameters(self):
        many = "&".join(f"a{i}" for i in range(3000))
        self.assertEqual(self.request("GET", f"/info/x/y?{many}&identifier=z")[0], 200)
        got = json.loads(self.request("GET", f"/info/x/y?{many[:9000]}&identifier=z")[2])
        self.assertEqual(got["identifier"], "z")
        self.assertEqual(self.request("GET", "/stats?" + "&" * 13000)[0], 200)
        self.assertEqual(self.request("GET", "/stats?" + "&" * 60000)[0], 414)

    def test_three_thousand_headers(self):
        self.refused(b"GET /stats HTTP/1.1\r\nHost: x\r\n" + b"a:b\r\n" * 3000 + b"\r\n", 431)

    def test_content_length_smaller_than_sent(self):
        s = self.connect()
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGARBAGE\r\n\r\n")
        f = s.makefile("rb")
        self.assertEqual(read_answer(f)[2], b"abc")
        rest = read_answer(f)
        self.assertTrue(rest is None or rest[0] >= 400)

    def test_content_length_larger_than_sent(self):
        s = self.connect()
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\nabc")
        s.shutdown(socket.SHUT_WR)
        self.assertIsNone(read_answer(s.makefile("rb")))
        self.wait_for(lambda: self.stats()["open_calls"] == 1, "the call stayed open")

    def test_malformed_request_lines(self):
        for line in (b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1x\r\n\r\n", b"x y\r\n\r\n",
                     b"GET nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /stats\r\n\r\n"):
            with self.subTest(line):
                s = self.connect()
                s.sendall(line)
                answer = read_answer(s.makefile("rb"))
                if answer is not None or self.lenient():
                    self.assertIn(answer[0], (400, 505), answer)
        for other in (b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n"):
            with self.subTest(other):
                s = self.connect()
                s.sendall(other)
                self.assertIsNone(read_answer(s.makefile("rb")), "what is no HTTP has no answer")

    def test_paths(self):
        def info(path):
            status, _, body = self.request("GET", path)
            self.assertEqual(status, 200, path)
            return json.loads(body)

        got = info("/subscriptions/s/resourceGroups/g/sessionPools/p%20q/identifier/i%2Fd/info/a%2Fb/c/d")
        self.assertEqual(got["pool"], "p q")
        self.assertEqual(got["path_identifier"], "i/d")
        self.assertEqual(got["params"], ["a/b", "c/d"])
        got = info("//info//x/y/?identifier=a%2Bb+c&identifier=second")
        self.assertEqual(got["params"], ["x", "y"])
        self.assertEqual(got["identifier"], "a+b c")
        self.assertIsNone(got["pool"])
        self.assertEqual(info("/info/x/y?identifier")["identifier"], "")
        self.assertEqual(info("/info/x/y?identifier=50%")["identifier"], "50%")
        self.assertEqual(info("/files/sessionPools")["params"], ["sessionPools"])
        for bad in ("/info/%00/b", "/info/%zz/b", "/info/a/b%", "/info/a/b?identifier=a%00b"):
            self.assertEqual(self.request("GET", bad)[0], 400, bad)
        answer = self.raw(b"GET http://host:80/info/a/b HTTP/1.1\r\nHost: host\r\n\r\n")
        self.assertEqual(json.loads(answer[2])["params"], ["a", "b"])

    def test_unknown_path_and_method(self):
        status, headers, body = self.request("GET", "/nope", headers={"Content-Length": "0"})
        self.assertEqual((status, headers["Content-Type"]), (404, "application/json; charset=utf-8"))
        self.assertFalse(json.loads(body)["route"])
        status, headers, _ = self.request("DELETE", "/echo")
        self.assertEqual((status, headers["Allow"]), (405, "POST, PUT"))
        self.assertEqual(self.request("OPTIONS", "/echo")[0], 405)
        self.assertEqual(self.request("GET", "/stats/more")[0], 404)

    def test_a_refusal_with_a_body_keeps_the_connection(self):
        s = self.connect()
        f = s.makefile("rb")
        for path, status in ((b"/nope", 404), (b"/private", 401), (b"/refuse", 429), (b"/stats", 405)):
            s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabcdef" % path)
            self.assertEqual(read_answer(f)[0], status)
        s.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(read_answer(f)[0], 204)

    def test_head(self):
        status, headers, body = self.request("HEAD", "/info/a/b")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(headers["Content-Length"]), 20)
        before = self.stats()
        self.assertEqual(self.request("HEAD", "/source?bytes=100")[2], b"")
        after = self.stats()
        self.assertEqual(after["source_open"], before["source_open"] + 1)
        self.assertEqual(after["source_closed"], after["source_open"])

    def test_bad_header_of_an_answer_is_dropped(self):
        status, headers, _ = self.request("GET", "/nothing")
        self.assertEqual(status, 204)
        self.assertIsNone(headers["X-Injected"])
        self.assertIsNone(headers["X-Bad"])

    def test_begin_waits_before_the_body(self):
        s = self.connect()
        before = self.stats()["continued"]
        s.sendall(b"POST /begin?ms=30 HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        self.wait_for(lambda: self.stats()["continued"] == before + 1, "begin did not go on")
        s.sendall(b"def")
        self.assertEqual(read_answer(s.makefile("rb"))[2], b"abcdef")

    def test_http_1_0(self):
        s = self.connect()
        s.sendall(b"GET /source?bytes=100000 HTTP/1.0\r\n\r\n")
        f = s.makefile("rb")
        self.assertEqual(f.readline().split()[1], b"200")
        headers = http.client.parse_headers(f)
        self.assertIsNone(headers["Transfer-Encoding"])
        self.assertEqual(f.read(), b"x" * 100000)


class Authentication(Base):
    def get(self, path, token=None, header=None):
        headers = {"Authorization": header or f"Bearer {token}"} if token or header else {}
        return self.request("GET", path, headers=headers)

    def test_who(self):
        self.assertEqual(json.loads(self.get("/private", "user-token")[2])["principal"], "user")
        self.assertEqual(self.get("/private", header="bEaReR   user-token")[0], 200)
        self.assertEqual(json.loads(self.get("/info/a/b")[2])["principal"], "anonymous")

    def test_refused(self):
        for header in (None, "Bearer wrong", "Bearer", "Bearer ", "Basic dXNlcg==", "user-token",
                       "Bearer user-token x", "Bearer old-token", "Bearer User-Token"):
            with self.subTest(header):
                status, headers, body = self.get("/private", header=header)
                self.assertEqual((status, headers["WWW-Authenticate"]), (401, "Bearer"))
                self.assertNotIn(b"old-token", body)
        self.assertEqual(self.request("GET", "/private", headers={"api-key": "user-token"})[0], 401)

    def test_roles(self):
        self.assertEqual(self.get("/private", "metrics-token")[0], 403)
        self.assertEqual(self.get("/admin", "user-token")[0], 403)
        self.assertEqual(self.get("/admin", "admin-token")[0], 200)

    def test_pools(self):
        self.assertEqual(self.get("/sessionPools/blue/private", "pool-token")[0], 200)
        for other in ("red", "blue2", "blu", "Blue"):
            self.assertEqual(self.get(f"/sessionPools/{other}/private", "pool-token")[0], 403, other)
        self.assertEqual(self.get("/private", "pool-token")[0], 403)
        self.assertEqual(self.get("/private", "default-token")[0], 200)
        self.assertEqual(self.get("/sessionPools/main/private", "default-token")[0], 200)

    def test_a_large_body_is_answered_before_it_is_read(self):
        s = self.connect()
        s.sendall(b"POST /private HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n")
        f = s.makefile("rb")
        status, headers, _ = read_answer(f)
        self.assertEqual((status, headers["Connection"]), (401, "close"))

    def test_a_client_that_sends_on_still_gets_the_answer(self):
        for _ in range(5):
            s = self.connect(30)
            s.sendall(b"POST /private HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
            s.sendall(b"x" * 30000000)
            self.assertEqual(read_answer(s.makefile("rb"))[0], 401)


class Bodies(Base):
    def test_too_large_by_length(self):
        status, _, body = self.request("POST", "/echo", b"x" * ((1 << 20) + 1))
        self.assertEqual(status, 413)
        self.assertIn("1048576", json.loads(body)["error"])

    def test_the_largest(self):
        self.assertEqual(len(self.request("POST", "/echo", b"x" * (1 << 20))[2]), 1 << 20)

    def test_too_large_in_chunks(self):
        s = self.connect()
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(40):
            s.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        s.sendall(b"0\r\n\r\n")
        f = s.makefile("rb")
        self.assertEqual(read_answer(f)[0], 413)
        s.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(read_answer(f)[0], 204, "the connection lives on")

    def test_one_byte_more_than_the_largest_in_chunks(self):
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for size, status in ((1 << 20, 200), ((1 << 20) + 1, 413)):
            body = b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
            self.assertEqual(self.raw(head + body)[0], status, size)

    def test_a_body_nobody_asked_for(self):
        for fields in (b"Content-Length: 1\r\n\r\nx", b"Content-Length: 100000\r\n\r\nx",
                       b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                       b"Transfer-Encoding: chunked\r\n\r\n1;"):
            with self.subTest(fields):
                s = self.connect()
                s.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\n" + fields)
                f = s.makefile("rb")
                status, headers, body = read_answer(f)
                self.assertEqual((status, headers["Connection"]), (413, "close"))
                self.assertIn("no body", json.loads(body)["error"])
                self.assertEqual(f.read(), b"", "the connection must end")
        self.assertEqual(self.request("GET", "/stats", headers={"Content-Length": "0"})[0], 200)


def multipart(boundary, *parts, end=True, preamble=b""):
    out = preamble
    for head, data in parts:
        out += b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"
    return out + (b"--" + boundary + b"--\r\n" if end else b"")


def disposition(rest):
    return b"Content-Disposition: form-data; " + rest


class Json(Base):
    """Bodies read as JSON: the small ones on the loop, the others by a thread."""

    LARGE = b'{"text": "%s"}' % (b"x" * (1 << 20))
    # Half a second of a thread's time.
    SLOW = b"{%s}" % b",".join(b'"member%d":0' % i for i in range(300000))

    def ask(self, body):
        status, _, answer = self.request("POST", "/json", body, timeout=60)
        self.assertEqual(status, 200)
        return json.loads(answer)

    def head(self, body):
        return b"POST /json HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)

    def test_small_and_large(self):
        for size in (0, 1, (64 << 10) - 8, (64 << 10) - 7, 1 << 20, (16 << 20) - 8):
            body = b'{"a":"%s"}' % (b"x" * size)
            answer = self.ask(body)
            self.assertEqual((answer["members"], answer["bytes"], answer["error"]), (1, len(body), ""))

    def test_what_is_wrong_is_told_alike(self):
        for wrong in (b"", b"{", b'"text"', b'{"a":1,"a":2}', b'{"a": "\xff"}', b'{"a": "\\u0000"}',
                      b'{"a":1} x'):
            small = self.ask(b"\n" * 100 + wrong)
            large = self.ask(b"\n" * (100 << 10) + wrong)
            self.assertNotEqual(small["error"], "", wrong)
            self.assertEqual(small["error"], large["error"])
            self.assertEqual(small["column"], large["column"])
            self.assertEqual(small["line"] - 100, large["line"] - (100 << 10))

    def test_too_many_values(self):
        answer = self.ask(b"[%s]" % b",".join([b"{}"] * 300000))
        self.assertTrue(answer["heavy"])
        self.assertEqual(answer["members"], 0)

    def test_answers_keep_their_order_on_a_connection(self):
        s = self.connect(timeout=60)
        f = s.makefile("rb")
        for body in (self.LARGE, b"{}", self.SLOW, b'{"a":1}'):
            s.sendall(self.head(body) + body)
        answers = [json.loads(read_answer(f)[2]) for _ in range(4)]
        self.assertEqual([a["members"] for a in answers], [1, 0, 300000, 1])

    def test_a_client_that_leaves_is_not_handled(self):
        """Neither the one whose body a thread has nor those that wait; nothing stays counted."""
        before = self.stats()["json_handled"]
        self.request("GET", "/hold")
        self.addCleanup(self.request, "GET", "/release")
        sockets = [self.connect() for _ in range(3)]
        for s in sockets:
            s.sendall(self.head(self.LARGE) + self.LARGE)
        self.wait_for(lambda: self.stats()["bodies_bytes"] == 3 * len(self.LARGE),
                      "the bodies did not arrive", 60)
        for s in sockets:
            s.close()
        self.wait_for(lambda: self.stats()["open_calls"] == 1, "calls stay open", 60)
        self.assertEqual(self.stats()["bodies_bytes"], 0)
        self.doCleanups()
        self.assertEqual(self.ask(self.LARGE)["members"], 1)  # its turn comes after theirs
        self.assertEqual(self.stats()["json_handled"], before + 1)

    def test_the_end_of_the_server_waits_for_nobody(self):
        server = Server()
        with socket.create_connection(("127.0.0.1", server.port), 10) as s, \
                socket.create_connection(("127.0.0.1", server.port), 10) as other:
            for each in (s, other):
                each.sendall(self.head(self.SLOW) + self.SLOW)
            self.assertEqual(server.stop(signal.SIGINT), 0)


class Uploads(Base):
    def upload(self, body, boundary="B", path="/upload", content_type=None):
        headers = {"Content-Type": content_type or f'multipart/form-data; boundary="{boundary}"'}
        status, _, answer = self.request("POST", path, body, headers, timeout=60)
        return status, json.loads(answer)

    def tearDown(self):
        self.assertEqual(self.stats()["uploads_open"], 0)

    def check(self, got, filename, data, field="file"):
        self.assertEqual(got, {"field": field, "filename": filename, "size": len(data),
                               "sha256": hashlib.sha256(data).hexdigest()})

    def test_binary_of_all_kinds(self):
        for data in (b"", b"\r", b"\n", b"\r\n", b"\r\n--", b"--A", b"\r\n--Bx\r\n",
                     b"\r\n--B-x", b"\r\n--B \r\r\n", b"\r\n\r\n", bytes(range(256)) * 700, b"\r\n--" * 30000,
                     b"\r" * 70000, b"-" * 70000):
            with self.subTest(data[:20]):
                status, got = self.upload(multipart(b"B", (disposition(b'name="file"; filename="a"'), data)))
                self.assertEqual(status, 200)
                self.check(got["parts"][0], "a", data)

    def test_several_parts(self):
        status, got = self.upload(multipart(
            b"B",
            (disposition(b'name="file"; filename="same"'), b"1"),
            (disposition(b'name="note"'), b"not a file"),
            (disposition(b'name="file"; filename="same"'), b"22"),
            (disposition(b'filename="nameless"'), b"333"),
            (disposition(b'name="file"'), b"4444"),
            (b"X-Other: 1", b"neither"),
            preamble=b"to be skipped\r\n--Beta\r\n",
        ))
        self.assertEqual(status, 200)
        a, b, c, d = got["parts"]
        self.check(a, "same", b"1")
        self.check(b, "same", b"22")
        self.check(c, "nameless", b"333", field=None)
        self.check(d, None, b"4444")

    def test_file_names(self):
        for sent, name in (
            ('filename="ä 日本.csv"', "ä 日本.csv"),
            ('filename="a%22b.txt"', 'a"b.txt'),
            (r'filename="a\"b.txt"', 'a"b.txt'),
            (r'filename="C:\dir\f.txt"', r"C:\dir\f.txt"),
            ("filename=bare.txt", "bare.txt"),
            ('filename="a;b=c.txt"', "a;b=c.txt"),
            ("filename=\"x\"; filename*=UTF-8''%e2%82%ac%20rates", "€ rates"),
            ("filename*=utf-8'en'%c3%a4; filename=\"x\"", "ä"),
            ("filename=\"x\"; filename*=latin1''%e4", "x"),
            ('FileName="UP"', "UP"),
            ('filename=""', ""),
        ):
            with self.subTest(sent):
                head = disposition(b'name="file"; ' + sent.encode())
                status, got = self.upload(multipart(b"B", (head, b"data")))
                self.assertEqual(status, 200)
                self.assertEqual(got["parts"][0]["filename"], name)

    def test_boundaries(self):
        longest = "b" * 70
        body = multipart(longest.encode(), (disposition(b'name="file"; filename="a"'), b"x"))
        self.assertEqual(self.upload(body, longest)[0], 200)
        body = multipart(b"a b'()+_,-./:=?", (disposition(b'name="file"; filename="a"'), b"x"))
        self.assertEqual(self.upload(body, "a b'()+_,-./:=?")[0], 200)
        padded = b'--B \t\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--B--'
        self.assertEqual(self.upload(padded)[1]["parts"][0]["size"], 1)
        # Where the type names no boundary, the body's first line does.
        for other in ("multipart/form-data", "text/plain", "application/json",
                      "multipart/form-dataX; boundary=C"):
            status, got = self.upload(padded, content_type=other)
            self.assertEqual((status, got["parts"][0]["size"]), (200, 1), other)
            self.assertEqual(self.upload(b"x" + padded, content_type=other)[0], 400, other)
        for bad in ("multipart/form-data; boundary=", 'multipart/form-data; boundary="B',
                    "multipart/form-data; boundary=" + "b" * 71):
            self.assertEqual(self.upload(padded, content_type=bad)[0], 400, bad)

    def test_malformed(self):
        good = (disposition(b'name="file"; filename="a"'), b"x" * 100)
        whole = multipart(b"B", good)
        for body in (b"", whole[:-10], multipart(b"B", good, end=False), b"no boundary at all",
                     multipart(b"B", (b"X" * 9000, b"")),
                     multipart(b"B", (b"Content-Disposition: form-data; filename=\"\0\"", b"")),
                     multipart(b"B", (disposition(b'name="file"; filename="a'), b"")),
                     multipart(b"B", (good[0] + b"\r\nContent-Transfer-Encoding: base64", b"QUJD")),
                     multipart(b"B", *([good] * 1001))):
            with self.subTest(body[:30]):
                status, got = self.upload(body)
                self.assertEqual(status, 400)
                self.assertTrue(got["route"])

    def test_large_and_chunked(self):
        data = os.urandom(1 << 20) * (8 if SANITIZED else 100)
        body = multipart(b"B", (disposition(b'name="file"; filename="big"'), data))

        def pieces():
            for i in range(0, len(body), 1000003):
                yield body[i : i + 1000003]

        before = self.server.rss_kb()
        status, got = self.upload(body)
        self.assertEqual(status, 200)
        self.check(got["parts"][0], "big", data)
        status, got = self.upload(pieces())  # http.client sends an iterator in chunks
        self.assertEqual(status, 200)
        self.check(got["parts"][0], "big", data)
        if not SANITIZED:
            self.assertLess(self.server.rss_kb() - before, 4096)

    def test_too_large(self):
        part = (disposition(b'name="file"; filename="a"'), b"x" * 2000)
        self.assertEqual(self.upload(multipart(b"B", part), path="/upload/small")[0], 413)
        chunks = iter([multipart(b"B", part)])
        self.assertEqual(self.upload(chunks, path="/upload/small")[0], 413)

    def test_a_part_may_be_refused(self):
        body = multipart(b"B", (disposition(b'name="file"; filename="refuse"'), b"x" * 300000),
                         (disposition(b'name="file"; filename="b"'), b"x"))
        self.assertEqual(self.upload(body)[0], 409)

    def test_a_client_that_leaves(self):
        before = self.stats()["gone"]
        s = self.connect()
        s.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                  b"Content-Type: multipart/form-data; boundary=B\r\n\r\n--B\r\n")
        self.wait_for(lambda: self.stats()["uploads_open"] == 1, "the upload did not begin")
        s.close()
        self.wait_for(lambda: self.stats()["gone"] == before + 1, "gone was not called")


class Files(Base):
    def setUp(self):
        self.data = os.urandom(300000)
        self.path = pathlib.Path(self.server.files, "f")
        self.path.write_bytes(self.data)

    def get(self, method="GET", **headers):
        return self.request(method, "/file/f", headers={k.replace("_", "-"): v for k, v in headers.items()})

    def test_whole(self):
        before = self.stats()
        status, headers, body = self.get()
        self.assertEqual((status, body), (200, self.data))
        self.assertEqual(headers["Content-Type"], "text/x-test")
        self.assertEqual(headers["Accept-Ranges"], "bytes")
        self.assertTrue(headers["Last-Modified"].endswith("GMT"))
        after = self.stats()
        self.assertEqual(after["file_done"], before["file_done"] + 1)
        self.assertEqual(after["file_bytes"], before["file_bytes"] + len(self.data))

    def test_ranges(self):
        n = len(self.data)
        for sent, first, last in (("0-0", 0, 0), ("5-9", 5, 9), (f"{n - 1}-", n - 1, n - 1), ("100-", 100, n - 1),
                                  ("-7", n - 7, n - 1), (f"-{n * 2}", 0, n - 1),
                                  ("10-99999999999999999999999999", 10, n - 1)):
            with self.subTest(sent):
                status, headers, body = self.get(Range=f"bytes={sent}")
                self.assertEqual((status, body), (206, self.data[first : last + 1]))
                self.assertEqual(headers["Content-Range"], f"bytes {first}-{last}/{n}")
        for sent in (f"bytes={n}-", "bytes=-0", f"bytes={n + 5}-{n + 9}"):
            status, headers, _ = self.get(Range=sent)
            self.assertEqual((status, headers["Content-Range"]), (416, f"bytes */{n}"))
        for sent in ("bytes=0-1,5-6", "bytes=9-5", "bytes=x-1", "lines=0-1", "bytes=", "bytes=1"):
            self.assertEqual(self.get(Range=sent)[0], 200, sent)

    def test_conditions(self):
        _, headers, _ = self.get()
        tag, date = headers["ETag"], headers["Last-Modified"]
        status, headers, body = self.get(If_None_Match=tag)
        self.assertEqual((status, headers["ETag"], body), (304, tag, b""))
        self.assertEqual(self.get(If_None_Match=f'"x", W/{tag}')[0], 304)
        self.assertEqual(self.get(If_None_Match="*")[0], 304)
        self.assertEqual(self.get(If_None_Match='"other"')[0], 200)
        self.assertEqual(self.get(Range="bytes=0-1", If_Range=tag)[0], 206)
        self.assertEqual(self.get(Range="bytes=0-1", If_Range=date)[0], 206)
        self.assertEqual(self.get(Range="bytes=0-1", If_Range='"other"')[0], 200)
        self.path.write_bytes(b"changed")
        self.assertEqual(self.get(If_None_Match=tag)[0], 200)

    def test_head_and_empty(self):
        status, headers, body = self.get("HEAD")
        self.assertEqual((status, headers["Content-Length"], body), (200, "300000", b""))
        self.path.write_bytes(b"")
        status, headers, body = self.get()
        self.assertEqual((status, headers["Content-Length"], body), (200, "0", b""))
        self.assertEqual(self.get(Range="bytes=0-")[0], 416)

    def test_missing(self):
        self.assertEqual(self.request("GET", "/file/none")[0], 404)

    def test_a_file_that_shrinks_while_it_is_sent(self):
        self.path.write_bytes(b"x" * (64 << 20))
        s = self.connect()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(b"GET /file/f HTTP/1.1\r\nHost: x\r\n\r\n")
        got = len(s.recv(1000))
        os.truncate(self.path, 1000)
        start = time.monotonic()
        try:
            while piece := s.recv(1 << 20):
                got += len(piece)
        except ConnectionResetError:
            pass
        self.assertLess(got, 64 << 20)
        self.assertLess(time.monotonic() - start, 5)
        self.wait_for(lambda: self.stats()["open_calls"] == 1, "the call stayed open")


class Leaving(Base):
    def test_while_suspended(self):
        for how in ("close", "half", "reset"):
            with self.subTest(how):
                before = self.stats()["gone"]
                s = self.connect()
                s.sendall(b"POST /delay?ms=600000 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                self.wait_for(lambda: self.stats()["open_calls"] == 2, "the call did not begin")
                if how == "reset":
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                if how == "half":
                    s.shutdown(socket.SHUT_WR)
                else:
                    s.close()
                self.wait_for(lambda: self.stats()["gone"] == before + 1, "gone was not called", 1)
                self.assertEqual(self.stats()["open_calls"], 1)
                if how == "half":
                    self.assertEqual(s.recv(100), b"")

    def test_while_begin_waits(self):
        before = self.stats()["gone"]
        s = self.connect()
        s.sendall(b"POST /begin?ms=600000 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        self.wait_for(lambda: self.stats()["open_calls"] == 2, "the call did not begin")
        s.close()
        self.wait_for(lambda: self.stats()["gone"] == before + 1, "gone was not called", 1)

    def test_while_a_source_is_idle(self):
        before = self.stats()["source_closed"]
        s = self.connect()
        s.sendall(b"GET /source?bytes=5&piece=1&ms=600000 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 200"), "the head comes before any byte")
        s.close()
        self.wait_for(lambda: self.stats()["source_closed"] == before + 1, "close was not called", 1)

    def test_while_a_source_streams(self):
        before = self.stats()["source_closed"]
        s = self.connect()
        s.sendall(b"GET /source?bytes=1000000000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20):
            s.recv(65536)
        s.close()
        self.wait_for(lambda: self.stats()["source_closed"] == before + 1, "close was not called")

    def test_an_answer_and_a_hang_up_at_once(self):
        before = self.stats()
        sockets = []
        for i in range(200):
            s = self.connect()
            s.sendall(b"POST /delay?ms=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (10 + i % 30))
            sockets.append(s)
        for s in sockets:
            s.close()
        self.wait_for(lambda: self.stats()["open_calls"] == 1, "calls stayed open")
        after = self.stats()
        # Each has ended in one way, and in one way only: it was answered, or it was told.
        self.assertEqual(after["gone"] + after["answered"] - before["gone"] - before["answered"], 200)

    def test_slow_source(self):
        status, _, body = self.request("GET", "/source?bytes=40&piece=1&ms=2")
        self.assertEqual((status, body), (200, b"x" * 40))


class Load(Base):
    def test_a_slow_reader_does_not_fill_the_memory(self):
        size = 20 << 20 if SANITIZED else 200 << 20
        before = self.server.rss_kb()
        s = self.connect(60)
        s.sendall(b"GET /source?bytes=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
        time.sleep(0.5)
        self.assertEqual(self.request("GET", "/stats")[0], 200)
        self.assertLess(self.server.rss_kb() - before, 8192)
        _, _, body = read_answer(s.makefile("rb"))
        self.assertEqual(len(body), size)
        self.assertLess(self.server.rss_kb() - before, 8192)

    def test_a_thousand_idle_connections(self):
        idle = [self.connect() for _ in range(1000)]
        half = [self.connect() for _ in range(100)]
        for s in half:
            s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab")
        for s in idle[:200]:
            s.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        for s in idle[:200]:
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 204"))
        self.assertGreaterEqual(self.stats()["connections"], 1101)
        start = time.monotonic()
        for _ in range(20):
            self.assertEqual(self.request("POST", "/delay?ms=1")[0], 200)
        self.assertLess(time.monotonic() - start, 2)
        for s in half:
            s.sendall(b"cdefghij")
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200"))
        for s in idle + half:
            s.close()
        self.wait_for(lambda: self.stats()["connections"] == 1, "connections stayed open")

    def test_many_at_once(self):
        failures = []

        def work():
            c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
            for i in range(50):
                c.request("POST", "/delay?ms=1", b"x")
                if json.loads(c.getresponse().read()) != {"late": True}:
                    failures.append(i)
            c.close()

        threads = [threading.Thread(target=work) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(failures, [])


class Idle(Base):
    settings = {"idle_ms": 1000}

    def test_silent_connections_are_closed(self):
        sockets = [self.connect(8) for _ in range(3)]
        sockets[1].sendall(b"GET /stats HTTP/1.1\r\nHo")
        sockets[2].sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab")
        start = time.monotonic()
        for s in sockets:
            self.assertEqual(s.recv(1000), b"")
        self.assertLess(time.monotonic() - start, 5)

    def test_a_suspended_call_is_not(self):
        self.assertEqual(self.request("POST", "/delay?ms=2500")[0], 200)
        status, _, body = self.request("GET", "/source?bytes=1&ms=2500")
        self.assertEqual((status, body), (200, b"x"))

    def test_a_body_that_dribbles_is_cut(self):
        s = self.connect(12)
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        start = time.monotonic()
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() - start < 10:
                s.sendall(b"x")
                time.sleep(0.2)
        self.assertLess(time.monotonic() - start, 6)


class Watches(Base):
    def test_without_watches_a_connection_is_told(self):
        self.assertEqual(self.request("POST", "/exhaust?failures=3")[0], 204)
        for _ in range(3):
            s = self.connect()
            status, headers, body = read_answer(s.makefile("rb"))
            self.assertEqual((status, headers["Connection"]), (503, "close"))
            self.assertIn(b"watch", body)
        self.assertEqual(self.request("GET", "/stats")[0], 200)
        self.assertEqual(self.stats()["connections"], 1)


def unfinished(path, length, data, token):
    return (b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
            % (path, token, length)) + data


class Shares(Base):
    """Bounds that many share: whoever fills one is the one who is refused."""

    settings = {"bodies": 8 << 20, "connections": 64, "idle_ms": 20000}

    def post(self, token, size, path="/private"):
        return self.request("POST", path, b"x" * size, {"Authorization": f"Bearer {token}"})[0]

    def hold(self, count, size, token):
        """COUNT unfinished bodies of SIZE bytes each."""
        open_now = []
        for i in range(count):
            s = self.connect()
            s.sendall(unfinished(b"/private", size + 1, b"x" * size, token))
            open_now.append(s)
            self.wait_for(lambda n=i: self.held() == (n + 1) * size, "a body is not held")
        return open_now

    def held(self):
        return self.stats()["bodies_bytes"]

    def test_bodies_are_counted_back(self):
        for _ in range(12):  # of 8 MiB, 24 MiB go through
            self.assertEqual(self.post("user-token", 2 << 20), 200)
        self.wait_for(lambda: self.held() == 0, "bodies stayed counted")
        for s in self.hold(2, 1 << 20, b"user-token"):
            s.close()
        self.wait_for(lambda: self.held() == 0, "bodies of who left stayed counted")

    def test_bodies_of_one_token_leave_room_for_another(self):
        held = self.hold(4, 1 << 20, b"user-token")  # half of the room, to the byte
        self.assertEqual(self.post("user-token", 1), 429)
        self.assertEqual(self.held(), 4 << 20, "what is refused holds nothing")
        self.assertEqual(self.post("admin-token", 2 << 20), 200)
        for s in held:
            s.close()
        self.wait_for(lambda: self.held() == 0, "bodies stayed counted")

    def test_a_full_share_makes_slow_bodies_short(self):
        held = self.hold(4, 1 << 20, b"user-token")
        start = time.monotonic()
        s = held[0]
        s.settimeout(28)
        # Alone a body of that size may take 20 s + 262 s; with the share full 5 s + 16 s.
        with self.assertRaises(OSError):
            while time.monotonic() - start < 27:
                if s.recv(1) == b"":
                    raise OSError
        self.assertLess(time.monotonic() - start, 26)
        for s in held:
            s.close()

    def test_open_calls_of_one_token_leave_room_for_another(self):
        sockets = []
        for source in ("127.0.0.2", "127.0.0.3"):
            for _ in range(16):
                s = self.connect(source=source)
                s.sendall(unfinished(b"/private/delay?ms=600000", 0, b"", b"user-token"))
                sockets.append(s)
        self.wait_for(lambda: self.stats()["open_calls"] == 33, "the calls did not begin")
        self.assertEqual(self.post("user-token", 1), 429)
        self.assertEqual(self.post("admin-token", 1), 200)
        for s in sockets:
            s.close()
        self.wait_for(lambda: self.stats()["open_calls"] == 1, "calls stayed open")
        self.assertEqual(self.post("user-token", 1), 200)


class SharesOfAddresses(Base):
    """Where nobody has a name, an address is one; behind a proxy that is trusted, what it says."""

    settings = {"bodies": 8 << 20, "open": 1, "proxy": "127.0.0.9/32"}

    def fill(self, source, forwarded=None):
        header = f"X-Forwarded-For: {forwarded}\r\n".encode() if forwarded else b""
        for i in range(4):
            s = self.connect(source=source)
            s.sendall(b"POST /private HTTP/1.1\r\nHost: x\r\n" + header +
                      b"Content-Length: 1048577\r\n\r\n" + b"x" * (1 << 20))
            self.wait_for(lambda n=i: self.stats()["bodies_bytes"] == n + 1 << 20, "a body is not held")

    def status(self, source, forwarded=None):
        s = self.connect(source=source)
        header = f"X-Forwarded-For: {forwarded}\r\n".encode() if forwarded else b""
        size = 1 << 20
        s.sendall(b"POST /private HTTP/1.1\r\nHost: x\r\n" + header +
                  b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        return read_answer(s.makefile("rb"))[0]

    def setUp(self):
        self.wait_for(lambda: self.stats()["bodies_bytes"] == 0, "bodies of the test before")

    def tearDown(self):
        self.doCleanups()

    def test_an_address_is_a_name(self):
        self.fill("127.0.0.2")
        self.assertEqual(self.status("127.0.0.2"), 429)
        self.assertEqual(self.status("127.0.0.2", "198.51.100.7"), 429, "anybody can write a header")
        self.assertEqual(self.status("127.0.0.3"), 200)

    def test_a_trusted_proxy_is_believed(self):
        self.fill("127.0.0.9", "203.0.113.5, 198.51.100.7")
        self.assertEqual(self.status("127.0.0.9", "198.51.100.7"), 429)
        self.assertEqual(self.status("127.0.0.9", "203.0.113.5, 198.51.100.7, 127.0.0.9"), 429)
        self.assertEqual(self.status("127.0.0.9", "198.51.100.8"), 200)


class Room(Base):
    """Connections run short."""

    settings = {"connections": 40}

    def opened(self, count, source, data=b"G"):
        sockets = []
        for _ in range(count):
            s = self.connect(source=source)
            if data:
                s.sendall(data)
            sockets.append(s)
        return sockets

    def closed(self, sockets):
        gone = 0
        for s in sockets:
            s.setblocking(False)
            try:
                gone += s.recv(1000) == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                gone += 1
        return gone

    def quick(self, source):
        start = time.monotonic()
        s = self.connect(source=source)
        s.sendall(b"GET /private HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer user-token\r\n\r\n")
        self.assertEqual(read_answer(s.makefile("rb"))[0], 200)
        s.close()
        return time.monotonic() - start

    def tearDown(self):
        self.doCleanups()
        self.wait_for(lambda: self.stats()["connections"] == 1, "connections stayed open")

    def test_an_address_has_half(self):
        sockets = self.opened(21, "127.0.0.2")
        self.wait_for(lambda: self.closed(sockets) == 1, "the oldest did not give way")
        self.assertEqual(self.closed(sockets[:1]), 1)
        self.assertEqual(self.closed(sockets[1:]), 0)

    def test_from_many_addresses_the_oldest_stranger_gives_way(self):
        sockets = []
        for i in range(60):
            sockets += self.opened(1, f"127.0.1.{i + 1}")
        self.quick("127.0.0.2")
        self.wait_for(lambda: self.closed(sockets) >= 20, "nobody gave way")
        self.assertEqual(self.closed(sockets[:20]), 20, "the oldest")
        self.assertLess(self.stats()["connections"], 45)

    def test_a_call_does_not_give_way(self):
        call = unfinished(b"/private/delay?ms=300", 0, b"", b"user-token")
        caller = self.opened(1, "127.0.0.2", call)[0]
        self.wait_for(lambda: self.stats()["open_calls"] == 2, "the call did not begin")
        self.opened(60, "127.0.0.2")
        for i in range(60):
            self.opened(1, f"127.0.1.{i + 1}")
        self.assertEqual(read_answer(caller.makefile("rb"))[0], 200)

    def test_idle_clients_give_way_after_strangers(self):
        idle = self.opened(10, "127.0.0.2", b"GET /private HTTP/1.1\r\nHost: x\r\n"
                                            b"Authorization: Bearer user-token\r\n\r\n")
        for s in idle:
            self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 200"))
        strangers = self.opened(9, "127.0.0.2")
        callers = []
        while True:
            s = self.connect(source="127.0.0.2")
            s.sendall(unfinished(b"/private/delay?ms=600000", 0, b"", b"user-token"))
            self.wait_for(lambda: self.stats()["open_calls"] == len(callers) + 2 or self.closed([s]),
                          "neither a call nor a refusal")
            if self.stats()["open_calls"] < len(callers) + 2:
                break
            callers.append(s)
            if self.closed(strangers) < 9:
                self.assertEqual(self.closed(idle), 0, "who is idle gave way before a stranger")
        self.assertIn(len(callers), (19, 20), "half of the room")
        self.assertEqual(self.closed(strangers + idle), 19, "somebody did not give way")
        self.assertEqual(self.closed(callers), 0)


class RoomByNumber(Base):
    settings = {"per_address": 5, "proxy": "127.0.0.9"}

    def test_the_limit_is_met_and_passed_by_one(self):
        for source, most in (("127.0.0.2", 5), ("127.0.0.9", 30)):
            with self.subTest(source):
                sockets = [self.connect(source=source) for _ in range(most)]
                self.wait_for(lambda n=most: self.stats()["connections"] == n + 1, "not all are open")
                extra = self.connect(source=source)
                kept = most if source == "127.0.0.2" else most + 1
                self.wait_for(lambda n=kept: self.stats()["connections"] == n + 1, "one too many")
                if source == "127.0.0.2":
                    self.assertEqual(sockets[0].recv(1), b"", "the oldest gave way")
                for s in [*sockets, extra]:
                    s.close()
                self.wait_for(lambda: self.stats()["connections"] == 1, "connections stayed open")


class Heads(Base):
    def test_a_first_head_has_ten_seconds(self):
        s = self.connect(20)
        start = time.monotonic()
        with self.assertRaises(OSError):
            while time.monotonic() - start < 15:
                s.sendall(b"G")
                time.sleep(0.5)
        self.assertTrue(9 < time.monotonic() - start < 14)

    def test_what_takes_nothing_is_closed(self):
        """libmicrohttpd before 1.0 waits for the end of a chunk's extension in a memory that is full."""
        s = self.connect(20)
        s.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        start = time.monotonic()
        with self.assertRaises(OSError):
            while time.monotonic() - start < 15:
                s.sendall(b"e" * 65536)
        self.assertLess(time.monotonic() - start, 8)
        self.wait_for(lambda: self.stats()["open_calls"] == 1, "the call stayed open")


class Ending(unittest.TestCase):
    """Each with a server of its own, which must free everything it had."""

    def setUp(self):
        self.server = Server()
        self.stopped = False

    def tearDown(self):
        if not self.stopped:
            self.server.stop(signal.SIGKILL)

    def send(self, data):
        s = socket.create_connection(("127.0.0.1", self.server.port), 10)
        self.addCleanup(s.close)
        s.sendall(data)
        return s

    def stop(self, how):
        self.stopped = True
        self.assertEqual(self.server.stop(how), 0)

    def test_drain(self):
        s = self.send(b"POST /delay?ms=300 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.1)
        self.server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.server.port), 1)
        status, headers, body = read_answer(s.makefile("rb"))
        self.assertEqual((status, body, headers["Connection"]), (200, b'{"late":true}', "close"))
        self.stop(signal.SIGTERM)

    def test_at_once_with_everything_open(self):
        for data in (
            b"",
            b"GET /sta",
            b"POST /delay?ms=100000 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            b"POST /begin?ms=100000 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na",
            b"GET /source?bytes=5&ms=100000 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /source?bytes=1000000000 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST /private HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nabc",
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=B\r\n\r\n--B\r\n",
        ):
            self.send(data)
        time.sleep(0.3)
        self.stop(signal.SIGINT)


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="http-tls-")
        cls.cert, cls.key = f"{cls.dir}/cert.pem", f"{cls.dir}/key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", cls.key, "-out", cls.cert, "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost"],
            check=True, stderr=subprocess.DEVNULL)
        cls.server = Server(cls.cert, cls.key)
        cls.context = ssl.create_default_context(cafile=cls.cert)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        shutil.rmtree(cls.dir)
        assert status == 0, f"the server ended with {status}"

    def request(self, method, path, body=None, headers=None):
        c = http.client.HTTPSConnection("localhost", self.server.port, timeout=20, context=self.context)
        c._create_connection = lambda address, *rest: socket.create_connection(("127.0.0.1", address[1]), 20)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.read()
        finally:
            c.close()

    def test_calls(self):
        self.assertEqual(self.request("POST", "/echo", b"abc"), (200, b"abc"))
        self.assertEqual(self.request("POST", "/delay?ms=30")[0], 200)
        self.assertEqual(self.request("GET", "/source?bytes=3000000")[1], b"x" * 3000000)
        self.assertEqual(self.request("GET", "/source?bytes=5&piece=1&ms=3")[1], b"x" * 5)
        self.assertEqual(self.request("POST", "/private", b"x" * 3000000)[0], 401)
        data = os.urandom(3000000)
        pathlib.Path(self.server.files, "f").write_bytes(data)
        self.assertEqual(self.request("GET", "/file/f"), (200, data))

    def test_a_client_that_leaves(self):
        raw = socket.create_connection(("127.0.0.1", self.server.port), 10)
        s = self.context.wrap_socket(raw, server_hostname="localhost")
        s.sendall(b"POST /delay?ms=600000 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.1)
        s.close()
        end = time.monotonic() + 3
        while json.loads(self.request("GET", "/stats")[1])["gone"] == 0:
            self.assertLess(time.monotonic(), end, "gone was not called")
            time.sleep(0.02)

    def test_old_versions_and_plain_http_are_refused(self):
        warnings.simplefilter("ignore", DeprecationWarning)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, ConnectionResetError)):
            with socket.create_connection(("127.0.0.1", self.server.port), 10) as raw:
                old.wrap_socket(raw)
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as s:
            s.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertNotIn(b"200 OK", s.recv(1000))

    def test_bad_files_are_told(self):
        for cert, key, says in ((self.cert, "/nonexistent", "/nonexistent"), (self.key, self.key, "no certificate")):
            done = subprocess.run([SERVER, "/tmp", cert, key], capture_output=True, timeout=20)
            self.assertEqual(done.returncode, 1)
            self.assertIn(says, done.stderr.decode())


if __name__ == "__main__":
    unittest.main()

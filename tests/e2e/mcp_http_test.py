"""Servers of tools over HTTP: both ways there are, and what goes wrong on them."""

import json
import pathlib
import queue
import sys
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lib"))
import runner as runners  # noqa: E402
from runner import Runner  # noqa: E402
from services import Service  # noqa: E402

TOKEN = "a-token-that-nobody-may-see"


def definition(name, url, transport="http", **more):
    return json.dumps({"name": name, "type": "mcp", "transport": transport, "url": url,
                       "headers": {"Authorization": "Bearer ${secret:token}"}, "timeout": 3, **more})


class Tools:
    """What all the servers here have: the answer to one message, or None."""

    def __init__(self):
        self.names = ["echo", "fail", "slow", "broken", "cut", "huge", "html", "rpc_error", "empty"]
        self.initialized = False
        self.early = []  # what came before notifications/initialized was answered

    def answer(self, message):
        method, number = message.get("method"), message.get("id")
        if method == "notifications/initialized":
            time.sleep(0.2)
            self.initialized = True
            return None
        if method == "initialize":
            self.initialized = False
            return self.result(number, {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}})
        if not self.initialized:
            self.early.append(method)
        if method == "tools/list":
            return self.result(number, {"tools": [
                {"name": n, "inputSchema": {"type": "object", "properties": {
                    "text": {"type": "string"}}}} for n in self.names]})
        if method == "tools/call":
            return self.call(number, **message["params"])
        return None

    def call(self, number, name, arguments):
        if name == "fail":
            return {"jsonrpc": "2.0", "id": number, "error": {"code": -32000, "message": "no"}}
        return self.result(number, {"content": [{"type": "text", "text": arguments.get("text", "")}]})

    def result(self, number, value):
        return {"jsonrpc": "2.0", "id": number, "result": value}


class Streamable(Tools):
    """2025-03-26 and later. events: answers are streams."""

    def __init__(self, events=False, session="session-1"):
        super().__init__()
        self.events, self.session = events, session
        self.stream = None
        self.has_stream = threading.Event()
        self.over = threading.Event()

    def __call__(self, request):
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return request.answer(401)
        if request.command == "GET":
            return self.serve_stream(request)
        if request.command == "DELETE":
            return request.answer(200)
        message = request.json()
        if message["method"] != "initialize" and \
                request.headers.get("Mcp-Session-Id") != self.session:
            return request.answer(404, b'{"jsonrpc": "2.0", "id": null, "error": {}}')
        special = getattr(self, "do_" + message.get("params", {}).get("name", ""), None)
        if special is not None:
            return special(request, message)
        answer = self.answer(message)
        if answer is None:
            return request.answer(202)
        head = {"Mcp_Session_Id": self.session} if message["method"] == "initialize" else {}
        if not self.events:
            return request.answer_json(answer, **head)
        request.begin_events(**head)
        request.wfile.write(b": a comment\r\n\r\nid: 1\nretry: 5\ndata:\n\n")
        request.event(json.dumps({"method": "notifications/progress", "params": {}}))
        for line in json.dumps(answer, indent=1).splitlines():
            request.wfile.write(f"data: {line}\r\n".encode())
            request.wfile.flush()
        request.wfile.write(b"\r\n")
        return None

    def serve_stream(self, request):
        request.begin_events()
        self.stream = request
        self.has_stream.set()
        self.over.wait(60)

    def do_slow(self, request, message):
        if self.events:
            request.begin_events()
        self.over.wait(60)

    def do_broken(self, request, message):
        request.answer(500, b"<h1>broken: " + TOKEN.encode(), "text/html")

    def do_html(self, request, message):
        request.answer(200, b"<h1>not an answer</h1>", "text/html")

    def do_empty(self, request, message):
        request.answer(202)

    def do_rpc_error(self, request, message):
        request.answer_json({"jsonrpc": "2.0", "id": message["id"],
                             "error": {"code": -32602, "message": "bad argument"}}, 400)

    def do_cut(self, request, message):
        request.send_response(200)
        request.send_header("Content-Type",
                            "text/event-stream" if self.events else "application/json")
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"data: {")
        request.close_connection = True

    def do_huge(self, request, message):
        kind = "text/event-stream" if self.events else "application/json"
        request.answer(200, b"data: " + b"x" * (9 << 20), kind)


class Sse(Tools):
    """2024-11-05."""

    def __init__(self, endpoint="/messages?session=1"):
        super().__init__()
        self.endpoint = endpoint
        self.sent = queue.Queue()
        self.connections = 0

    def __call__(self, request):
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return request.answer(401)
        if request.command == "GET":
            return self.serve_stream(request)
        if request.path != "/messages?session=1":
            return request.answer(404)
        message = request.json()
        if message.get("params", {}).get("name") == "broken":
            return request.answer(500)
        if message.get("params", {}).get("name") == "cut":
            self.sent.put(None)
        elif message.get("params", {}).get("name") != "slow":
            answer = self.answer(message)
            if answer is not None:
                self.sent.put(answer)
        return request.answer(202, b"Accepted", "text/plain")

    def serve_stream(self, request):
        self.connections += 1
        request.begin_events()
        request.event(self.endpoint, "endpoint")
        while (answer := self.sent.get()) is not None:
            request.event(json.dumps(answer), "message")


class HttpCase:
    def assert_failed(self, answer, code, *words):
        ok, value = answer
        self.assertFalse(ok, value)
        self.assertEqual(value["code"], code, value)
        for word in words:
            self.assertIn(word, value["message"])
        self.assertNotIn(TOKEN, value["message"])

    def run_with(self, server, transport="http"):
        service = self.enterContext(Service(server))
        runner = self.enterContext(Runner({"t.yaml": definition("t", service.url + "/mcp", transport)},
                                          secrets={"token": TOKEN}))
        return service, runner


class StreamableCase(HttpCase):
    events = False

    def setUp(self):
        self.server = Streamable(self.events)
        self.addCleanup(self.server.over.set)
        self.service, self.runner = self.run_with(self.server)
        self.runner.wait_for_tool("t")

    def initializes(self):
        return sum(r.command == "POST" and r.json().get("method") == "initialize"
                   for r in self.service.requests)

    def test_calls(self):
        self.assertEqual(self.runner.call("t", "echo", text="é\n😀"), (True, {"text": "é\n😀"}))
        self.assert_failed(self.runner.call("t", "fail"), runners.INTERNAL, "no")
        self.assertEqual(self.server.early, [], "it was asked before it was ready")
        posts = [r for r in self.service.requests if r.command == "POST"]
        self.assertEqual(posts[0].headers["MCP-Protocol-Version"], None)
        for r in posts:
            self.assertEqual(r.headers["Accept"], "application/json, text/event-stream")
            self.assertEqual(r.headers["Content-Type"], "application/json")
        for r in posts[1:]:
            self.assertEqual(r.headers["Mcp-Session-Id"], "session-1")
            self.assertEqual(r.headers["MCP-Protocol-Version"], "2025-06-18")

    def test_one_call_that_goes_wrong_is_one_call_that_fails(self):
        """Anybody may make such a call: those of others go on."""
        slow = [self.runner.begin("t", "slow") for _ in range(5)]
        self.assert_failed(self.runner.call("t", "broken"), runners.INTERNAL, "HTTP 500")
        self.assert_failed(self.runner.call("t", "html"), runners.INTERNAL)
        self.assert_failed(self.runner.call("t", "empty"), runners.INTERNAL)
        self.assert_failed(self.runner.call("t", "rpc_error"), runners.INTERNAL, "bad argument")
        self.assert_failed(self.runner.call("t", "huge"), runners.TOO_LARGE)
        self.assertFalse(self.runner.call("t", "cut")[0])
        self.assertEqual(self.runner.call("t", "echo", text="x"), (True, {"text": "x"}))
        for number in slow:
            self.assert_failed(self.runner.result(number), runners.TIMEOUT)
        self.assertEqual(self.initializes(), 1)

    def test_a_call_that_is_given_up_is_taken_off_the_line(self):
        for round in range(2):
            numbers = [self.runner.begin("t", "slow") for _ in range(100)]
            for number in numbers[:50]:
                self.runner.cancel(number)
            self.assertEqual(self.runner.call("t", "echo", text="x"), (True, {"text": "x"}))
            for number in numbers[50:]:
                self.assert_failed(self.runner.result(number), runners.TIMEOUT)

        def cancelled():
            return sum(r.command == "POST" and r.json().get("method") == "notifications/cancelled"
                       for r in list(self.service.requests))
        end = time.monotonic() + 5
        while cancelled() < 200 and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(cancelled(), 200)

    def test_a_session_that_is_over_is_begun_again(self):
        self.server.session = "session-2"
        self.assertFalse(self.runner.call("t", "echo", text="x")[0])
        end = time.monotonic() + 10
        while not (answer := self.runner.call("t", "echo", text="x"))[0]:
            self.assertLess(time.monotonic(), end, answer)
            time.sleep(0.1)
        self.assertEqual(answer, (True, {"text": "x"}))
        self.assertEqual(self.initializes(), 2)

    def test_what_the_server_says_by_itself(self):
        self.assertTrue(self.server.has_stream.wait(5))
        self.server.names.append("later")
        self.server.stream.event(json.dumps({"method": "notifications/tools/list_changed"}))
        self.runner.wait_for_tool("t", lambda t: t["callables"][-1]["name"] == "later")
        self.server.stream.event(json.dumps({"id": "p", "method": "ping"}))
        end = time.monotonic() + 5
        while time.monotonic() < end and not any(
                r.command == "POST" and r.json().get("id") == "p" for r in self.service.requests):
            time.sleep(0.02)
        pong = next(r.json() for r in self.service.requests
                    if r.command == "POST" and r.json().get("id") == "p")
        self.assertEqual(pong["result"], {})

    def test_the_session_is_ended_with_the_tool(self):
        (self.runner.tools_dir / "t.yaml").unlink()
        end = time.monotonic() + 5
        while time.monotonic() < end and self.service.requests[-1].command != "DELETE":
            time.sleep(0.02)
        last = self.service.requests[-1]
        self.assertEqual((last.command, last.headers["Mcp-Session-Id"]), ("DELETE", "session-1"))


class StreamableJson(StreamableCase, unittest.TestCase):
    pass


class StreamableEvents(StreamableCase, unittest.TestCase):
    events = True


class SseTest(HttpCase, unittest.TestCase):
    def test_calls(self):
        server = Sse()
        service, runner = self.run_with(server, "sse")
        runner.wait_for_tool("t")
        self.assertEqual(runner.call("t", "echo", text="é😀"), (True, {"text": "é😀"}))
        self.assert_failed(runner.call("t", "fail"), runners.INTERNAL, "no")
        self.assert_failed(runner.call("t", "broken"), runners.INTERNAL, "HTTP 500")
        self.assert_failed(runner.call("t", "slow"), runners.TIMEOUT)
        self.assertEqual(runner.call("t", "echo", text="x"), (True, {"text": "x"}))
        self.assertEqual((server.early, server.connections), ([], 1))

    def test_the_end_of_the_stream(self):
        server = Sse()
        service, runner = self.run_with(server, "sse")
        runner.wait_for_tool("t")
        self.assert_failed(runner.call("t", "cut"), runners.UNAVAILABLE, "ended the stream")
        end = time.monotonic() + 10
        while not (answer := runner.call("t", "echo", text="x"))[0]:
            self.assertLess(time.monotonic(), end, answer)
            time.sleep(0.1)
        self.assertEqual(server.connections, 2)

    def test_an_endpoint_of_another_server_gets_nothing(self):
        other = self.enterContext(Service(lambda r: r.answer(202)))
        for endpoint in (other.url + "/messages?session=1", "file:///etc/passwd",
                         f"//{other.url[7:]}/messages?session=1", "gopher://127.0.0.1/x"):
            with self.subTest(endpoint):
                service, runner = self.run_with(Sse(endpoint), "sse")
                runner.wait_for_problem("another server")
                self.assertFalse(any(r.command == "POST" for r in service.requests))
        self.assertEqual(other.requests, [])


class Unwilling(HttpCase, unittest.TestCase):
    """Servers that do not get as far as having tools."""

    def test_refusals_are_told_without_the_secret(self):
        stolen = self.enterContext(Service(lambda r: r.answer(200)))
        for handle, word in (
                (lambda r: r.answer(401, TOKEN.encode()), "HTTP 401"),
                (lambda r: r.answer(500), "HTTP 500"),
                (lambda r: r.answer(302, Location=stolen.url), "HTTP 302"),
                (lambda r: r.answer(307, Location="file:///etc/passwd"), "HTTP 307"),
                (lambda r: r.answer(200, b"{}"), "not one"),
                (lambda r: r.answer(200, b"[]"), "not one"),
                (lambda r: r.answer(200, b"x" * (9 << 20)), "too large"),
                (lambda r: r.answer_json({"jsonrpc": "2.0", "id": 1, "result": {}}),
                 "protocolVersion"),
                (lambda r: r.answer_json({"jsonrpc": "2.0", "id": 1, "result": {
                    "protocolVersion": "1\r\nX: y"}}), "protocolVersion")):
            with self.subTest(word):
                _, runner = self.run_with(handle)
                self.assertNotIn(TOKEN, runner.wait_for_problem(word))
                self.assertNotIn(TOKEN, "".join(runner.log))
        self.assertEqual(stolen.requests, [], "a redirect was followed")

    def test_nobody_is_there(self):
        with Service(lambda r: None) as service:
            url = service.url
        runner = self.enterContext(Runner({"t.yaml": definition("t", url),
                                           "u.yaml": definition("u", url, "sse")},
                                          secrets={"token": TOKEN}))
        runner.wait_for_problem("'t'")
        runner.wait_for_problem("'u'")
        self.assert_failed(runner.call("t", "echo"), runners.UNAVAILABLE)

    def test_a_secret_that_is_not_there(self):
        service = self.enterContext(Service(lambda r: r.answer(200)))
        runner = self.enterContext(Runner({"t.yaml": definition("t", service.url)}))
        runner.wait_for_problem("'token'")
        self.assertEqual(service.requests, [])


class Embeddings(HttpCase, unittest.TestCase):
    """What comes back is as many vectors as there were texts, all of one length, or an error."""

    def test_answers(self):
        answer = None
        service = self.enterContext(Service(lambda r: r.answer_json(answer)))
        runner = self.enterContext(Runner(
            embeddings_url=service.url, embeddings_model="m", embeddings_secret="token",
            secrets={"token": TOKEN}))

        def vectors(*items):
            return {"data": [dict(zip(("index", "embedding"), item)) for item in items]}
        answer = vectors((1, [3, 4.5]), (0, [1, 2]))
        self.assertEqual(runner.embed(["a", "b"]), (True, [[1, 2], [3, 4.5]]))
        sent = service.requests[0]
        self.assertEqual(sent.json(), {"model": "m", "input": ["a", "b"]})
        self.assertEqual(sent.headers["Authorization"], f"Bearer {TOKEN}")
        for answer in (
                vectors((0, [1])), vectors((0, [1]), (0, [2])), vectors((0, [1]), (2, [2])),
                vectors((0, [1]), (-1, [2])), vectors((0, [1]), (1, [2, 3])),
                vectors((0, []), (1, [])), vectors((0, [1]), (1, ["2"])),
                vectors((0, [1]), (1, None)), vectors((0, [1]), (1 << 62, [1])),
                {"data": {}}, {"data": [1, 2]}, [], "x", None, {"error": TOKEN}):
            with self.subTest(str(answer)):
                self.assert_failed(runner.embed(["a", "b"]), runners.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main()

"""HTTP services for tests: each request goes to a function of the test's, in a thread of its own."""

import collections
import http.server
import json
import threading


class Seen(collections.namedtuple("Seen", "command path headers body")):
    """A request that has come. (A handler serves several, one after another.)"""

    def json(self):
        return json.loads(self.body)


class Service:
    """handle(request) answers with the methods below. Requests are kept.

        with Service(lambda r: r.answer(200, b"{}")) as service:
            service.url
    """

    def __init__(self, handle):
        self.handle, self.requests = handle, []

    def __enter__(self):
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def serve(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append(
                    Seen(self.command, self.path, self.headers, self.body))
                try:
                    service.handle(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

            def json(self):
                return json.loads(self.body)

            def answer(self, status, body=b"", kind="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def answer_json(self, value, status=200, **headers):
                self.answer(status, json.dumps(value).encode(), **headers)

            def begin_events(self, **headers):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.close_connection = True

            def event(self, data, name=None):
                head = f"event: {name}\n" if name else ""
                self.wfile.write((head + f"data: {data}\n\n").encode())
                self.wfile.flush()

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

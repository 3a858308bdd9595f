"""A thousand sessions through a server with the leak checker in it, which must find nothing.

The checker runs when the server ends, and makes it end with another status than 0. In between, what
can be counted from outside may not grow: descriptors and child processes.
"""

import os
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import harness  # noqa: E402
import processes  # noqa: E402

SESSIONS = 1000
AT_ONCE = 4
READY = 4
REST_SECONDS = 2


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Leaks(unittest.TestCase):
    def setUp(self):
        if b"__asan_init" not in harness.CARREL.read_bytes():
            self.skipTest("the server was built without AddressSanitizer: ./dev build asan")

    def at_rest(self, pid):
        """(descriptors, processes) once they stay: the sessions deleted last have ended, and those
        that are kept ready are made."""
        seen, since, end = None, 0, time.monotonic() + 60
        while seen is None or time.monotonic() < since + REST_SECONDS:
            now = descriptors(pid), len(processes.descendants(pid))
            if now != seen:
                seen, since = now, time.monotonic()
            self.assertLess(time.monotonic(), end, f"{seen} does not come to rest")
            time.sleep(0.05)
        return seen

    def one_life(self, server, connection, identifier):
        """A session's whole life, over each kind of answer."""
        def request(method, route, body=None, headers=None, status=200):
            reply = server.request(method, route, identifier, body, headers, connection=connection)
            self.assertIn(reply.status, (status, 200, 201, 202, 204), reply)
            return reply

        body, content_type = harness.multipart([("file", "a.txt", b"x" * 1000)])
        request("POST", "files", body, {"Content-Type": content_type})
        value = request("POST", "executions", {"code": "open('a.txt').read(3) + str(6 * 7)"})
        self.assertEqual(value.json()["result"]["executionResult"], "xxx42")
        failed = request("POST", "executions", {"code": "print('out'); 1 / 0"})
        self.assertEqual(failed.json()["status"], "Failed")
        self.assertEqual(request("GET", "files/a.txt/content").body, b"x" * 1000)
        request("GET", "files")
        self.assertEqual(request("POST", "executions", {"code": "'not closed"}).json()["status"],
                         "Failed")
        self.assertEqual(request("POST", "executions", {"nothing": 1}, status=400).status, 400)
        self.assertIn(request("DELETE", "session").status, (200, 204))

    def lives(self, server, first):
        connection = server.connect()
        for index in range(first, SESSIONS, AT_ONCE):
            self.one_life(server, connection, f"life-{index}")
        connection.close()

    def test_a_thousand_sessions(self):
        pools = [{"name": "default", "ready_sessions": READY}]
        with harness.Server({"pools": pools}) as server:
            pid = server.process.pid
            connection = server.connect()
            self.one_life(server, connection, "warm-up")
            connection.close()
            before = self.at_rest(pid)
            harness.run_at_once([lambda first=first: self.lives(server, first)
                                 for first in range(AT_ONCE)], timeout=300)
            after = self.at_rest(pid)
            self.assertEqual(after, before, "(descriptors, processes) after a thousand sessions")
            self.assertEqual(server.request("GET", "health").status, 200)
            self.assertEqual(server.stop(), 0, server.log_text())

    def test_calls_that_are_left(self):
        """Clients that go away in the middle of a cell, of an upload and of a stream."""
        with harness.Server() as server:
            for index in range(40):
                connection = server.connect()
                connection.request(
                    "POST", server.target("executions", f"left-{index}"),
                    '{"code": "import time\\nfor i in range(1000): print(i); time.sleep(0.01)"}',
                    {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json",
                     "Accept": "text/event-stream" if index % 2 else "*/*"})
                if index % 2:
                    connection.sock.recv(100)
                connection.close()
                connection = server.connect()
                connection.putrequest("POST", server.target("files", f"left-{index}"))
                connection.putheader("Authorization", f"Bearer {server.token}")
                connection.putheader("Content-Type", "multipart/form-data; boundary=b")
                connection.putheader("Content-Length", "100000")
                connection.endheaders(b'--b\r\nContent-Disposition: form-data; name="file"; '
                                      b'filename="half"\r\n\r\nhalf of it')
                connection.close()
            for index in range(40):
                reply = server.request("DELETE", "session", f"left-{index}")
                self.assertIn(reply.status, (200, 204, 404), reply)
            self.assertEqual(server.stop(), 0, server.log_text())


if __name__ == "__main__":
    unittest.main()

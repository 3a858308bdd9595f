"""Bounds of the HTTP layer that many share: a neighbour is served while somebody fills them.

The attacker comes from 127.0.0.2, the neighbour from 127.0.0.1.
"""

import concurrent.futures
import contextlib
import http.client
import pathlib
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import Server, ServerCase  # noqa: E402
from neighbour import Neighbour, turns_longer  # noqa: E402

TOKENS = [{"name": "attacker", "token": "attackers-token", "prefix": "attacker"},
          {"name": "neighbour", "token": "neighbours-token", "prefix": "neighbour"}]
POOL = {"name": "default", "ready_sessions": 2}
MIB = 1 << 20
SECONDS = 2
# The attackers of these tests take processors of their own.
SERIAL = True


class Attack:
    """Connections of an attacker, all closed at its end."""

    def __init__(self, server, source="127.0.0.2"):
        self.server = server
        self.source = source
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.server.port), 30, (self.source, 0))
        return self.stack.enter_context(s)

    def send(self, data):
        s = self.connect()
        with contextlib.suppress(ConnectionError):
            s.sendall(data)
        return s


class Shares(ServerCase):
    config = {"auth": {"tokens": TOKENS}, "pools": [POOL]}

    def setUp(self):
        super().setUp()
        self.neighbour = Neighbour(self.server, "neighbours-token")

    def enter_anew(self, seconds, longest):
        """Asks with a good token over a new connection each time, as one who comes only now."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            connection.request("GET", self.server.target("session", self.neighbour.identifier),
                               headers={"Authorization": "Bearer neighbours-token"})
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
            longest.append(time.monotonic() - start)

    def assert_newcomers_enter(self, attack):
        """attack(stop) goes on until stop is set. As Neighbour: the best of three, beside a quiet time."""
        seen = []
        for _ in range(3):
            stop, beside, quiet = threading.Event(), [], []
            thread = threading.Thread(target=attack, args=(stop,), daemon=True)
            thread.start()
            try:
                self.enter_anew(SECONDS, beside)
            finally:
                stop.set()
                thread.join(60)
            self.enter_anew(SECONDS, quiet)
            if max(beside) - max(quiet) <= 0.1:
                return
            seen.append(f"{max(quiet) * 1000:.0f} -> {max(beside) * 1000:.0f} ms")
        self.fail(f"newcomers wait for the attack: {'; '.join(seen)}")

    def test_unfinished_bodies_of_one_token_stop_nobody(self):
        head = (b"POST /executions?api-version=1-1&identifier=abcd HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer attackers-token\r\nContent-Length: %d\r\n\r\n" % (7 * MIB))

        with Attack(self.server) as a:
            for _ in range(276):
                a.send(head + b"x" * MIB)
            reply = self.server.request("POST", "executions", "efgh", b"x" * (8 * MIB),
                                        headers={"Authorization": "Bearer attackers-token"})
            self.assert_error(reply, 429, "SessionQueueFull")
            # The neighbour has room for a body that is as large as one may be.
            reply = self.server.request(
                "POST", "executions", self.neighbour.identifier, b"x" * (8 * MIB),
                headers={"Authorization": "Bearer neighbours-token"})
            self.assert_error(reply, 400, "SessionRequestValidationFailed")

            def go_on():
                end = time.monotonic() + SECONDS
                while time.monotonic() < end:
                    a.send(head + b"x" * 1000)
                    time.sleep(0.01)

            self.neighbour.assert_served(self, go_on)

    def test_large_bodies_of_json_stop_nobody(self):
        """However they are made: text, escapes, members, lists; in each dialect."""
        bodies = [b'{"code": "%s"}' % (b"#" * (7 * MIB)),
                  b'{"x": "%s"}' % (b"\\u0001" * (MIB + 100000)),
                  b"{%s}" % b",".join(b'"k%d":%d' % (i, i) for i in range(320000)),
                  b'{"name": 5, "data": [%s]}' % b",".join([b"1.25"] * 1000000),
                  b'{"name": [%s]}' % b",".join([b"[]"] * 300000)]
        paths = ["/executions?api-version=1-1&identifier=abcd", "/execute", "/approvals",
                 "/code/execute", "/api/artifacts"]
        turns, answered = turns_longer(self.server), []

        def send(connection, number, stop):
            while not stop.is_set():
                connection.request("POST", paths[number % len(paths)], bodies[number % len(bodies)],
                                   {"Authorization": "Bearer attackers-token",
                                    "Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                self.assertIn(answer.status, (400, 413, 422, 503))
                answered.append(answer.status)
                number += 3

        def attack():
            stop = threading.Event()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                sent = [pool.submit(send, http.client.HTTPConnection("127.0.0.1", self.server.port, 60),
                                    number, stop) for number in range(8)]
                time.sleep(3 * SECONDS)
                stop.set()
                for one in sent:
                    one.result()

        self.neighbour.assert_served(self, attack)
        # Each used to make one. A turn is also long when the machine lets the server wait.
        self.assertLess(turns_longer(self.server) - turns, len(answered) / 4)

    def test_an_endless_chunk_extension_keeps_nobody_busy(self):
        """Without a token it is refused at the head; with one it is closed when it is not read on."""
        for head in (b"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                     b"POST /executions?api-version=1-1&identifier=abcd HTTP/1.1\r\nHost: x\r\n"
                     b"Authorization: Bearer attackers-token\r\nTransfer-Encoding: chunked\r\n\r\n1;"):
            def attack(head=head):
                with Attack(self.server) as a:
                    sockets = [a.send(head + b"e" * 200000) for _ in range(30)]
                    for s in sockets:  # the server closes each, and soon
                        s.settimeout(10)
                        with contextlib.suppress(ConnectionError):
                            while s.recv(65536):
                                pass

            with self.subTest(head):
                self.neighbour.assert_served(self, attack)

    def test_thousands_of_connections_of_one_byte_shut_nobody_out(self):
        def attack(stop):
            with Attack(self.server) as a:
                for _ in range(4200):
                    if stop.is_set():
                        return
                    a.send(b"G")
                stop.wait(60)

        self.assert_newcomers_enter(attack)

    def test_connections_from_many_addresses_shut_nobody_out(self):
        def attack(stop):
            with contextlib.ExitStack() as stack:
                attackers = [stack.enter_context(Attack(self.server, f"127.0.1.{i}"))
                             for i in range(1, 200)]
                for i in range(4400):
                    if stop.is_set():
                        return
                    attackers[i % len(attackers)].send(b"G")
                stop.wait(60)

        self.assert_newcomers_enter(attack)

    def test_waiting_executions_of_one_token_leave_places(self):
        with Server({**self.config, "connections_max": 60}) as server:
            neighbour = Neighbour(server, "neighbours-token")
            body = b'{"code":"import time; time.sleep(600)"}'
            with Attack(server) as a:
                sockets = [a.send(
                    b"POST /executions?api-version=1-1&identifier=id%d HTTP/1.1\r\nHost: x\r\n"
                    b"Authorization: Bearer attackers-token\r\nContent-Length: %d\r\n\r\n%s"
                    % (1000 + i % 2, len(body), body)) for i in range(60)]
                self.assertEqual(len(sockets), 60)
                neighbour.assert_served(self, lambda: time.sleep(SECONDS))


if __name__ == "__main__":
    unittest.main()

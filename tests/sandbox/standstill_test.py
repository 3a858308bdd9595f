"""Nobody stops anybody else: what one tenant does costs another none of its time.

Each test is one attack; beside it a neighbour of another tenant asks for /health and for a warm cell
(lib/neighbour.py), and waits at most 100 ms longer than without it.
"""

import copy
import http.client
import pathlib
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import harness  # noqa: E402
import neighbour  # noqa: E402

SERIAL = True

TOKENS = [{"name": "attacker", "token": "a" * 32, "prefix": "attacker"},
          {"name": "victim", "token": "v" * 32, "prefix": "victim"}]
POOL = {"name": "default", "ready_sessions": 4, "max_concurrent_sessions": 40, "memory": "1g",
        "file_space": "768m", "processes": 128, "cpu": 1}
DISPLAY, HOST_CALL = 50, 53  # src/ipc/messages.def


class StandstillCase(unittest.TestCase):
    """A server with two tenants. `self.attacker` is the server as the attacker's token sees it."""

    pool = {}

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server({"auth": {"tokens": TOKENS}, "pools": [{**POOL, **cls.pool}]})
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)
        cls.attacker = copy.copy(cls.server)
        cls.attacker.token = TOKENS[0]["token"]
        cls.neighbour = neighbour.Neighbour(cls.server, TOKENS[1]["token"])
        cls.numbers = iter(range(1 << 30))

    def fresh(self):
        """A session of the attacker's, which is deleted at the end of the test."""
        name = f"attacker-{next(self.numbers)}"
        self.addCleanup(self.attacker.request, "DELETE", "session", name)
        return name

    def try_anyway(self, function, *args, **options):
        """For requests of the attacker's own, which may fail or be cut off."""
        try:
            return function(*args, **options)
        except (OSError, http.client.HTTPException, harness.ServerError, ValueError):
            return None


# Unfinished messages, so that the gateway goes on reading; of many, some are in its hands alone.
SEND_DESCRIPTORS = """
import array, os, socket, stat, struct, threading, time
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
def lingering():
    b = socket.create_connection(listener.getsockname())
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))
    b.setblocking(False)
    try:
        while True:
            b.send(bytes(65536))
    except BlockingIOError:
        return b
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
links = [int(fd) for fd in os.listdir("/proc/self/fd") if is_socket(int(fd))]
links = [socket.socket(fileno=os.dup(fd)) for fd in links if fd != listener.fileno()]
head = struct.pack("IIQ", {type}, 1, 1)
for b in [lingering() for _ in range(10)]:
    for link in links:
        try:
            link.sendmsg([head + bytes(8)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                              array.array("i", [b.fileno()]))])
        except OSError:
            pass
    threading.Thread(target=b.close).start()  # which lingers where it is the last to close
time.sleep(1)
"""

WRITE_FROM_MANY_THREADS = """
import os, threading, time
block = bytes(1 << 20)
end = time.monotonic() + {seconds}
def write(fd):
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        pass
    while time.monotonic() < end:
        os.pwritev(fd, [block] * 64, 0)
for i in range(60):
    fd = os.open(f"busy-{{i % 4}}", os.O_RDWR | os.O_CREAT, 0o666)
    threading.Thread(target=write, args=(fd,)).start()
open("going", "w").close()
time.sleep({seconds})
"""


class Files(StandstillCase):
    def beside_writers(self, request):
        """request(session, name), again and again, while the session writes files of that name."""
        def attack():
            session = self.fresh()
            code = WRITE_FROM_MANY_THREADS.format(seconds=3)
            cell = threading.Thread(target=self.try_anyway, args=(
                self.attacker.execute, session, code), kwargs={"check": False, "timeout": 20})
            cell.start()
            going = False
            while cell.is_alive() and not going:
                reply = self.try_anyway(self.attacker.request, "GET", "files/going", session)
                going = reply is not None and reply.status == 200
            for number in range(4):
                self.try_anyway(request, session, f"busy-{number}")
            self.attacker.request("DELETE", "session", session)
            cell.join()
            self.assertTrue(going)

        self.neighbour.assert_served(self, attack)

    def test_an_upload_over_a_file_that_is_being_written(self):
        self.beside_writers(lambda session, name: self.attacker.upload(session, name, b"x" * 1000))

    def test_removing_a_file_that_is_being_written(self):
        self.beside_writers(lambda session, name: self.attacker.request(
            "DELETE", f"files/{name}", session))

    def test_reading_a_file_that_is_being_written(self):
        self.beside_writers(lambda session, name: self.attacker.request(
            "GET", f"files/{name}/content", session))

    def test_looking_at_files_that_are_being_written(self):
        self.beside_writers(lambda session, name: [
            self.attacker.request("GET", f"files/{name}", session),
            self.attacker.request("GET", "files", session)])


class Descriptors(StandstillCase):
    def test_descriptors_that_are_slow_to_close_are_sent_to_the_gateway(self):
        for type_ in (DISPLAY, HOST_CALL):
            code = SEND_DESCRIPTORS.format(type=type_)
            self.neighbour.assert_served(self, lambda: self.try_anyway(
                self.attacker.execute, self.fresh(), code, check=False))


FILL = """
import os
os.makedirs("many", exist_ok=True)
for i in range(100000):
    os.close(os.open(f"many/{i}", os.O_CREAT | os.O_WRONLY))
with open("large", "wb") as f:
    for _ in range(384):
        f.write(bytes(1 << 20))
"""


class Ends(StandstillCase):
    def delete_filled(self, count):
        def attack():
            for name in sessions:
                self.attacker.request("DELETE", "session", name)
            time.sleep(2)

        for _ in range(neighbour.TRIES):
            sessions = [self.fresh() for _ in range(count)]
            for name in sessions:
                self.attacker.execute(name, FILL)
            try:
                return self.neighbour.assert_served(self, attack, tries=1)
            except AssertionError as error:
                last = error
        raise last

    def test_deleting_sessions_with_many_files_and_large_ones(self):
        self.delete_filled(2)


if __name__ == "__main__":
    unittest.main()

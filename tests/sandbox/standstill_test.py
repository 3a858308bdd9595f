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


# A writer holds its pipe's lock while the kernel faults its memory in, which waits for the threads that
# change the protection of other memory of the same process.
PRINT_FROM_BUSY_MEMORY = """
import ctypes, mmap, os, threading, time
libc = ctypes.CDLL(None)
size = 128 << 20
big = mmap.mmap(-1, size)
libc.madvise.argtypes = libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
at = ctypes.addressof(ctypes.c_char.from_buffer(big))
libc.madvise(at, size, 15)
for i in range(0, size, 4096):
    big[i] = 1
end = time.monotonic() + 3
def protect():
    while time.monotonic() < end:
        libc.mprotect(at, size, 1)
        libc.mprotect(at, size, 3)
def write():
    while time.monotonic() < end:
        m = mmap.mmap(-1, 65536)
        os.write(1, m)
for target in [protect] * 20 + [write] * 40:
    threading.Thread(target=target).start()
time.sleep(3)
"""


class Output(StandstillCase):
    def test_printing_from_memory_that_is_being_changed(self):
        self.neighbour.assert_served(self, lambda: self.try_anyway(
            self.attacker.execute, self.fresh(), PRINT_FROM_BUSY_MEMORY, check=False, timeout=15))

    def test_what_is_printed_comes_before_the_result(self):
        session = self.fresh()
        for number in range(100):
            reply = self.attacker.execute(session, f"print('x' * {number * 997 + 1})")
            self.assertEqual(len(reply["result"]["stdout"]), number * 997 + 2)


LEAVE_UNFINISHED = """
import os, socket, stat, struct, time
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
fds = [int(fd) for fd in os.listdir("/proc/self/fd")]
link = socket.socket(fileno=os.dup([fd for fd in fds if is_socket(fd)][0]))
piece = struct.pack("IIQ", {type}, 1, 1) + bytes(61440)
for _ in range({pieces}):
    link.sendall(piece)
time.sleep(30)
"""


class Messages(StandstillCase):
    def test_a_message_may_be_unfinished_for_seconds_only(self):
        start = time.monotonic()
        reply = self.attacker.execute(
            self.fresh(), LEAVE_UNFINISHED.format(type=DISPLAY, pieces=1), timeout=60)
        self.assertEqual(reply["verdict"], "session_killed", reply)
        self.assertIn("left a message unfinished", reply["result"]["stderr"])
        self.assertGreater(time.monotonic() - start, 4)
        self.assertLess(time.monotonic() - start, 25)

    def test_who_fills_the_room_for_messages_is_ended_and_nobody_else(self):
        """Seven times 45 MiB is more than the half that one tenant has."""
        code = LEAVE_UNFINISHED.format(type=DISPLAY, pieces=768)
        sessions = [self.fresh() for _ in range(7)]
        replies = []

        def attack(name):
            replies.append(self.attacker.execute(name, code, timeout=60))

        threads = [threading.Thread(target=attack, args=(name,)) for name in sessions]
        for thread in threads:
            thread.start()
        victim = copy.copy(self.server)
        victim.token = TOKENS[1]["token"]
        for _ in range(10):
            value = victim.execute("victim-of-messages", "'v' * (12 << 20)")
            self.assertNotEqual(value["verdict"], "session_killed", str(value)[:500])
        for thread in threads:
            thread.join()
        said = [reply["result"]["stderr"] for reply in replies]
        self.assertTrue(any("it held the most of messages" in text for text in said), said)
        self.assertTrue(any("left a message unfinished" in text for text in said), said)


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

"""Code that uses up or breaks what it is given: after each, the same identifier and every other one
answer at once, and what it left behind is gone. The bombs are bounded by the pool's limits."""

import itertools
import json
import os
import pathlib
import time
import unittest

import hostile
from hostile import harness, processes

SERIAL = True

ANSWER_SECONDS = 1
PROCESSES = 40
MEMORY = 200 << 20
FILE_SPACE = 24 << 20
OUTPUT = 1 << 20
KEPT_BYTES_MAX = 40 << 20

POOL = {"processes": PROCESSES, "memory": MEMORY, "file_space": FILE_SPACE, "output": OUTPUT,
        "open_files": 128, "ready_sessions": 2, "execution_seconds": 30, "cpu": 1}


def control_groups():
    """The directories of control groups there are now for the server's sessions."""
    found = set()
    for top, directories, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(top, name) for name in directories)
    return found


def mounts():
    return sorted(line.split(" ", 4)[4] for line in
                  pathlib.Path("/proc/self/mountinfo").read_text().splitlines())


class Abuse:
    """One attack a test, in a session of its own with a neighbour beside it."""

    options = {"pool": POOL}
    neighbours = set()
    numbers = itertools.count()

    def setUp(self):
        # One for all tests of a level: it has to outlive them all.
        self.neighbour = f"neighbour-of-{self.level.name}"
        if self.neighbour not in Abuse.neighbours:
            self.server.execute(self.neighbour, "kept = 'the neighbour'")
            Abuse.neighbours.add(self.neighbour)
        self.attacker = f"attacker-{os.getpid()}-{next(Abuse.numbers)}"
        self.server.execute(self.attacker, "before = 'kept'")
        self.addCleanup(self.server.request, "DELETE", "session", self.attacker)

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), "the gateway is gone")
        self.assert_answers(self.neighbour, "kept", "the neighbour")

    def assert_answers(self, identifier, code, value):
        start = time.monotonic()
        reply = self.server.execute(identifier, code)
        took = time.monotonic() - start
        self.assertEqual(reply["result"]["executionResult"], value, json.dumps(reply)[:2000])
        self.assertLess(took, ANSWER_SECONDS)
        return reply

    def run_cell(self, code, timeout=10):
        """Runs it, and looks that somebody else is answered in the meantime."""
        replies = []

        def attack():
            replies.append(self.server.execute(self.attacker, code, timeout=timeout))

        def others():
            time.sleep(0.03)
            self.assert_answers(self.neighbour, "kept", "the neighbour")

        harness.run_at_once([attack, others])
        json.dumps(replies[0], allow_nan=False)
        return replies[0]

    def assert_survived(self, code, verdicts=("succeeded",), timeout=10):
        """The same session goes on, with its variables."""
        reply = self.run_cell(code, timeout)
        self.assertIn(reply["verdict"], verdicts, json.dumps(reply)[:3000])
        after = self.assert_answers(self.attacker, "before", "kept")
        self.assertNotIn("newSession", after)
        self.assert_whole()
        return reply

    def assert_died(self, code, verdicts=("session_killed",), timeout=10):
        """The session had to end; the identifier has a fresh one, and the caller is told."""
        reply = self.run_cell(code, timeout)
        self.assertIn(reply["verdict"], verdicts, json.dumps(reply)[:3000])
        after = self.assert_answers(self.attacker, "'before' in dir()", False)
        self.assertEqual(after.get("newSession"), True)
        self.assert_whole()
        return reply

    def assert_survived_or_died(self, code, verdicts, timeout=10):
        """For what the kernel decides: whether the session itself or a child of it is killed."""
        reply = self.run_cell(code, timeout)
        self.assertIn(reply["verdict"], verdicts, json.dumps(reply)[:3000])
        lives = (reply["verdict"] not in ("session_killed", "memory_limit") or
                 any(words in reply["result"]["stderr"] for words in ("Traceback", "were ended")))
        after = self.assert_answers(self.attacker, "'before' in dir()", lives)
        self.assertEqual(after.get("newSession", False), not after["result"]["executionResult"])
        self.assert_whole()
        return reply

    def assert_ends_in_time(self, code):
        """Interrupted or killed: the caller is told that its time was over."""
        reply = self.run_cell(code, timeout=1)
        self.assertEqual(reply["verdict"], "time_limit")
        self.assert_answers(self.attacker, "1", 1)
        self.assert_whole()

    def assert_whole(self):
        """The session can print, display, import, write files and start programs."""
        reply = self.server.execute(self.attacker, """
import subprocess, sys
print("to stdout")
print("to stderr", file=sys.stderr)
with open("whole.txt", "w") as f:
    f.write("x")
subprocess.run(["echo", "from a program"], check=True)
import colorsys
sum(range(10))
""")
        self.assertEqual(reply["result"]["executionResult"], 45, json.dumps(reply)[:3000])
        self.assertEqual(reply["result"]["stdout"], "to stdout\nfrom a program\n")
        self.assertEqual(reply["result"]["stderr"], "to stderr\n")
        self.assertEqual(self.server.request("GET", "files/whole.txt/content", self.attacker).body,
                         b"x")
        fresh = f"fresh-{os.getpid()}-{next(Abuse.numbers)}"
        self.assert_answers(fresh, "1 + 1", 2)
        self.server.request("DELETE", "session", fresh)


class Bombs(Abuse):
    """Using up what there is."""

    def test_fork_bomb_in_python(self):
        reply = self.run_cell("""
import os, time
def bomb():
    while True:
        try:
            if os.fork() == 0:
                bomb()
        except OSError:
            time.sleep(0.01)
children = 0
while True:
    if os.fork() == 0:
        bomb()
    children += 1
""", timeout=3)
        self.assertIn(reply["verdict"], {"process_limit", "time_limit"})
        self.assert_answers(self.attacker, "before", "kept")
        if not self.has_namespaces:
            # No process there can end all of its session's others: they stay until it is deleted.
            self.server.request("DELETE", "session", self.attacker)
        self.assert_whole()
        self.assertTrue(hostile.wait_until(
            lambda: len(processes.descendants(hostile.keeper_of(self.server))) < 20, 3))

    def test_fork_bomb_in_shell(self):
        reply = self.run_cell("import subprocess\n"
                              "subprocess.run([':(){ :|:& };:'], shell=True, executable='/bin/bash',"
                              " timeout=2, stderr=subprocess.DEVNULL).returncode", timeout=3)
        self.assertIn(reply["verdict"], {"succeeded", "exception", "process_limit", "time_limit"})
        # It goes on behind the cell, up to the limit: the session's own cells still run.
        self.assert_answers(self.attacker, "before", "kept")
        self.assert_answers(self.session(), "1 + 1", 2)
        self.server.request("DELETE", "session", self.attacker)
        self.assert_answers(self.attacker, "1", 1)

    def test_thread_bomb(self):
        self.assert_survived("""
import threading
stop = threading.Event()
threads = []
try:
    while True:
        t = threading.Thread(target=stop.wait, daemon=True)
        t.start()
        threads.append(t)
finally:
    count = len(threads)
    stop.set()
""", ("process_limit",))
        self.assertLess(self.server.value(self.attacker, "count"), PROCESSES + 1)

    def test_thread_bomb_that_stays(self):
        reply = self.run_cell("""
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
""")
        self.assertEqual(reply["verdict"], "process_limit")
        self.assert_answers(self.attacker, "before", "kept")

    def test_memory_in_one_piece(self):
        self.assert_survived("x = bytearray(1 << 34)", ("memory_limit",))

    def test_memory_in_small_pieces(self):
        self.assert_survived_or_died("x = []\nwhile True: x.append(bytearray(1000))",
                                     ("memory_limit",), timeout=20)

    def test_memory_of_children(self):
        self.assert_survived_or_died("""
import os, time
pids = []
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        x = []
        try:
            for _ in range(60):
                x.append(bytearray(b"x") * (1 << 20))
        finally:
            time.sleep(1)
            os._exit(0)
    pids.append(pid)
[os.waitpid(p, 0)[1] for p in pids]
""", ("memory_limit",))

    def test_memory_of_children_that_outlive_their_cell(self):
        # The kernel chooses among them, and the first process is the smallest.
        reply = self.run_cell("""
import os, time
def fill():
    x = []
    while True:
        x.append(os.urandom(1 << 20))
        time.sleep(0.001)
children = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        try:
            fill()
        finally:
            time.sleep(60)
            os._exit(0)
    children.append(pid)
first = os.waitpid(-1, 0)
""", timeout=20)
        self.assertEqual(reply["verdict"], "memory_limit", reply)
        if self.level.isolation == "landlock":
            return  # there is no pid namespace through which to reach them all
        # What is left of them does not spoil the next cell.
        reply = self.server.execute(self.attacker, "import time; time.sleep(0.2); before")
        if not reply.get("newSession"):
            self.assertEqual(reply["result"]["executionResult"], "kept", reply)
            self.assertEqual(reply["verdict"], "succeeded", reply)

    def test_memory_in_temporary_files(self):
        self.assert_survived_or_died("""
import os
for i in range(100):
    fd = os.open(f"/tmp/f{i}" if os.getcwd() == "/mnt/data" else f"f{i}", os.O_CREAT | os.O_WRONLY)
    for _ in range(10):
        os.write(fd, bytes(1 << 20))
    os.close(fd)
""", ("file_space_limit", "memory_limit", "session_killed", "succeeded"))
        self.server.execute(self.attacker, "import glob\n[os.remove(f) for f in glob.glob('f*')]")

    def test_memory_that_is_shared(self):
        self.assert_survived_or_died("""
import mmap, os
kept = []
for _ in range(30):
    m = mmap.mmap(-1, 16 << 20)
    for at in range(0, 16 << 20, 4096):
        m[at] = 1
    kept.append(m)
""", ("memory_limit", "succeeded", "session_killed"))

    def test_memory_of_page_tables(self):
        self.assert_survived_or_died("""
import mmap
kept = []
for _ in range(60):
    m = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_NORESERVE | mmap.MAP_ANONYMOUS,
                  prot=mmap.PROT_READ)
    for at in range(0, 1 << 30, 2 << 20):
        m[at]
    kept.append(m)
""", ("memory_limit", "succeeded", "exception", "session_killed"))

    def test_memory_of_pipes_and_sockets(self):
        self.assert_survived_or_died("""
import fcntl, os, socket
kept = []
try:
    while True:
        r, w = os.pipe()
        kept.append((r, w))
        os.set_blocking(w, False)
        try:
            fcntl.fcntl(w, 1031, 1 << 20)
            while True: os.write(w, bytes(65536))
        except OSError:
            pass
except OSError:
    pass
for fds in kept:
    for fd in fds: os.close(fd)
""", ("succeeded", "memory_limit", "session_killed"))

    def test_descriptors(self):
        reply = self.run_cell("import os\nfds = []\nwhile True: fds.append(os.dup(0))")
        self.assertEqual(reply["verdict"], "open_files_limit")
        self.assert_answers(self.attacker, "before", "kept")
        self.assert_answers(self.attacker, "[os.close(fd) for fd in fds]; len(fds) > 50", True)
        self.assert_whole()

    def test_files_fill_the_data_directory(self):
        reply = self.run_cell("""
with open("big", "wb") as f:
    while True: f.write(bytes(1 << 20))
""")
        if not self.has_namespaces:
            # One file has a limit; a directory has none without a mount of its own.
            self.assertIn(reply["verdict"], {"file_space_limit", "time_limit"})
        else:
            self.assertEqual(reply["verdict"], "file_space_limit")
        self.assertEqual(self.server.value(self.attacker, "before"), "kept")
        reply = self.server.upload(self.attacker, "more", bytes(4 << 20))
        if self.has_namespaces:
            self.assertIn(reply.status, range(400, 600))
        self.assertEqual(self.server.request("DELETE", "files/big", self.attacker).status, 204)
        self.assertEqual(self.server.upload(self.attacker, "more", bytes(1 << 20)).status, 200)
        self.assert_whole()

    def test_files_fill_tmp(self):
        if not self.has_namespaces:
            self.skipTest("/tmp is not the session's own at this level")
        self.assert_survived("""
with open("/tmp/big", "wb") as f:
    while True: f.write(bytes(1 << 20))
""", ("file_space_limit",))

    def test_inodes(self):
        reply = self.run_cell("""
i = 0
while i < 12000:
    open(f"f{i}", "w").close()
    i += 1
""")
        self.assertIn(reply["verdict"], {"file_space_limit", "succeeded"})
        start = time.monotonic()
        listing = self.server.request("GET", "files", self.attacker)
        self.assertEqual(listing.status, 200)
        self.assertLess(time.monotonic() - start, 5)
        self.assert_answers(self.attacker, "before", "kept")
        self.server.execute(self.attacker, "import glob, os\n[os.remove(f) for f in glob.glob('f*')]")
        self.assert_whole()

    def test_a_gigabyte_of_stdout(self):
        start = time.monotonic()
        reply = self.assert_survived("""
import os
block = b"x" * 99 + b"\\n"
block *= 10000
for _ in range(1 << 10): os.write(1, block)
""", ("output_limit",), timeout=30)
        self.assertLessEqual(len(reply["result"]["stdout"]), OUTPUT + 200)
        self.assertGreater(reply["truncated"]["stdout"], 900 << 20)
        self.assertLess(time.monotonic() - start, 15)

    def test_much_stderr(self):
        reply = self.assert_survived("""
import sys
for _ in range(200): print("e" * (1 << 20), file=sys.stderr)
""", ("output_limit",))
        self.assertLessEqual(len(reply["result"]["stderr"]), OUTPUT + 200)

    def test_output_without_a_newline(self):
        reply = self.assert_survived("""
import sys
for _ in range(50): sys.stdout.write("x" * (1 << 20))
print("e" * (3 << 20), end="", file=sys.stderr)
""", ("output_limit",))
        self.assertGreater(len(reply["result"]["stdout"]), OUTPUT // 2)

    def test_output_that_goes_on_after_the_cell(self):
        self.run_cell("""
import os, threading
def noise():
    while True: os.write(1, b"noise\\n" * 1000)
threading.Thread(target=noise, daemon=True).start()
""")
        for _ in range(3):
            self.assert_answers(self.attacker, "before", "kept")
        self.assert_answers(self.session(), "1 + 1", 2)

    def test_large_values_and_displays(self):
        self.assert_survived("'x' * (40 << 20)", ("succeeded", "memory_limit", "output_limit",
                                                  "exception"))
        self.assert_survived("for _ in range(300): display('y' * 100000)",
                             ("succeeded", "output_limit", "memory_limit"))

    def test_large_exception(self):
        self.assert_survived("raise ValueError('x' * (20 << 20))", ("exception", "memory_limit"))

    def test_deep_recursion(self):
        self.assert_survived("def f(): f()\nf()", ("exception",))

    def test_deep_recursion_with_the_limit_raised(self):
        self.assert_died("import sys\nsys.setrecursionlimit(1 << 30)\n"
                         "class A:\n    def __repr__(self): return repr(self)\nrepr(A())",
                         ("session_killed", "memory_limit"))

    def test_recursion_in_c(self):
        self.assert_died("""
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
import sys
sys.setrecursionlimit(1 << 30)
libc = ctypes.CDLL(None)
def f(*_):
    data = (ctypes.c_int * 2)(2, 1)
    libc.qsort(data, 2, 4, callback)
    return 0
callback = compare(f)
f()
""", ("session_killed", "memory_limit"))


class Endless(Abuse):
    """Not ending, and not letting itself be ended."""

    def test_endless_loop(self):
        self.assert_survived("while True: pass", ("time_limit",), timeout=1)

    def test_loop_that_catches_the_interrupt(self):
        # The loop is not the first in its try: there Python 3.11 looks for the handler one
        # instruction too early, and the interrupt would come through.
        self.assert_died("""
while True:
    try:
        x = 0
        while True: x = 1
    except BaseException:
        pass
""", ("time_limit",), timeout=1)

    def test_interrupt_ignored(self):
        self.assert_died("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                         "while True: pass", ("time_limit",), timeout=1)

    def test_interrupt_blocked(self):
        self.assert_died("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
                         "while True: pass", ("time_limit",), timeout=1)

    def test_interrupt_ignored_in_a_cell_before(self):
        self.server.execute(self.attacker,
                            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)")
        self.assert_survived("1 + 1")

    def test_sleep(self):
        self.assert_survived("import time\ntime.sleep(600)", ("time_limit",), timeout=1)

    def test_calls_of_c_that_block(self):
        self.assert_ends_in_time("""
import ctypes
libc = ctypes.CDLL(None)
while True: libc.usleep(100000)
""")

    def test_one_call_of_c_that_blocks(self):
        self.assert_ends_in_time("import ctypes\nctypes.CDLL(None).sleep(600)")

    def test_lock_that_is_never_released(self):
        self.assert_survived("import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()",
                             ("time_limit",), timeout=1)

    def test_reading_of_stdin(self):
        self.assert_survived("input()", ("exception",))

class Deaf(Abuse):
    """What only a kill ends, at each level's way to kill."""

    def test_stopping_itself(self):
        reply = self.run_cell("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n1", timeout=1)
        # The first process of a pid namespace cannot be stopped from within.
        self.assertEqual(reply["verdict"], "succeeded" if self.has_namespaces else "time_limit")
        self.assert_answers(self.attacker, "1", 1)
        self.assert_whole()

    def test_waiting_for_a_stopped_child(self):
        self.assert_survived("""
import os, signal, subprocess
child = subprocess.Popen(["sleep", "600"])
child.send_signal(signal.SIGSTOP)
child.wait()
""", ("time_limit",), timeout=1)

    def test_daemon_that_blocks_every_signal(self):
        self.assert_died("""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
if os.fork() == 0:
    while True: signal.pause()
while True: signal.pause()
""", ("time_limit",), timeout=1)


class Stubborn(Abuse):
    """Long work in C, and handlers that go on."""

    def test_regular_expression_that_explodes(self):
        self.assert_ends_in_time("import re\nre.match('(a+)+$', 'a' * 40 + 'b')")

    def test_giant_integer(self):
        self.assert_ends_in_time("x = 3 ** (10 ** 9)")

    def test_finally_that_starts_again(self):
        self.assert_ends_in_time("""
def f(n):
    try:
        while True: x = 1
    finally:
        if n: f(n - 1)
f(5)
""")


class Leftovers(Abuse):
    """Processes that mean to outlive their cell or their session."""

    def marker(self):
        return f"carrel-leftover-{os.getpid()}-{time.monotonic_ns()}"

    def processes(self, marker):
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if marker.encode() in pathlib.Path(f"/proc/{entry}/cmdline").read_bytes():
                        found.append(int(entry))
                except OSError:
                    pass
        return found

    def assert_gone_with_the_session(self, code):
        marker = self.marker()
        self.run_cell(code.replace("MARKER", marker))
        time.sleep(0.1)
        self.assert_answers(self.attacker, "before", "kept")
        # A shell that was started may still be on its way to what it starts itself.
        end = time.monotonic() + 10
        while not self.processes(marker) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertTrue(self.processes(marker), "the attack did not start what it should")
        self.server.request("DELETE", "session", self.attacker)
        self.assertTrue(hostile.wait_until(lambda: not self.processes(marker), 3),
                        "processes outlived their session")
        self.assert_answers(self.attacker, "1", 1)

    def test_orphans(self):
        self.assert_gone_with_the_session("""
import subprocess
for _ in range(5):
    subprocess.Popen(["bash", "-c", "exec -a MARKER sleep 600 & exec -a MARKER sleep 600 &"])
""")

    def test_daemons(self):
        """Forked twice, in a session of their own, deaf to every signal."""
        self.assert_gone_with_the_session("""
import os, signal, subprocess
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
        except OSError:
            pass
        if os.fork() == 0:
            for n in range(1, 65):
                try:
                    signal.signal(n, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            os.closerange(0, 3)
            os.execvp("bash", ["bash", "-c", "trap '' TERM HUP INT; exec -a MARKER sleep 600"])
        os._exit(0)
    os.waitpid(pid, 0)
""")

    def test_fork_that_returns_twice(self):
        """The child comes back from the cell as well: only the session itself may answer."""
        reply = self.assert_survived("import os\npid = os.fork()\npid > 0")
        self.assertIs(reply["result"]["executionResult"], True)
        reply = self.assert_survived("import os\nif os.fork() == 0: raise ValueError('in the child')\n7")
        self.assertEqual(reply["result"]["executionResult"], 7)

    def test_children_that_hold_the_pipes(self):
        reply = self.assert_survived("import subprocess\nc = subprocess.Popen(['sleep', '600'])\n'done'")
        self.assertEqual(reply["result"]["executionResult"], "done")

    def test_zombies(self):
        self.assert_survived("""
import os
for _ in range(25):
    if os.fork() == 0: os._exit(0)
""")
        self.assert_survived("""
import os
for _ in range(25):
    if os.fork() == 0: os._exit(0)
""", ("succeeded", "process_limit"))

    def test_everything_is_killed(self):
        self.run_cell("""
import os, signal, subprocess
c = subprocess.Popen(["sleep", "600"])
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    c.kill()
c.wait()
""")
        self.assert_answers(self.attacker, "1", 1)
        self.assert_whole()


class Breakage(Abuse):
    """Breaking the interpreter, its descriptors and its files."""

    def test_descriptors_0_to_255_closed(self):
        self.assert_survived("import os\nos.closerange(0, 256)")

    def test_all_descriptors_closed(self):
        self.assert_died("import os\nos.closerange(0, 100000)")

    def test_all_descriptors_closed_by_the_call(self):
        self.assert_died("import ctypes\nctypes.CDLL(None).syscall(436, 0, 0xffffffff, 0)")

    def test_standard_descriptors_swapped(self):
        self.assert_survived("import os\na, b = os.dup(1), os.dup(2)\nos.dup2(b, 1); os.dup2(a, 2)\n"
                             "os.close(a); os.close(b)", ("succeeded",))

    def test_standard_descriptors_in_non_blocking_mode(self):
        self.assert_survived("import os\nos.set_blocking(1, False); os.set_blocking(2, False)")

    def test_os_exit(self):
        self.assert_died("import os\nos._exit(3)")

    def test_abort(self):
        self.assert_died("import os\nos.abort()")

    def test_segmentation_fault(self):
        self.assert_died("import ctypes\nctypes.string_at(1)")

    def test_kill_of_process_1(self):
        reply = self.run_cell("import os, signal\nos.kill(1, signal.SIGKILL)\n1")
        self.assertIn(reply["verdict"], {"succeeded", "exception"})
        self.assert_answers(self.attacker, "before", "kept")

    def test_kill_of_itself(self):
        reply = self.run_cell("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n1")
        self.assertEqual(reply["verdict"], "succeeded" if self.has_namespaces else "session_killed")
        self.assert_answers(self.attacker, "1", 1)

    def test_raised_signals(self):
        for name in ("SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGPIPE", "SIGXCPU", "SIGINT"):
            with self.subTest(name=name):
                reply = self.run_cell(f"import os, signal, time\nos.kill(os.getpid(), signal.{name})\n"
                                      "time.sleep(0.05)\n1")
                self.assertIn(reply["verdict"], {"succeeded", "session_killed", "exception"})
                self.assert_answers(self.attacker, "1", 1)

    def test_sys_exit(self):
        self.assert_survived("import sys\nsys.exit(5)", ("exited",))
        self.assert_survived("raise SystemExit('bye')", ("exited",))

    def test_stdout_gone(self):
        self.assert_survived("import sys\nsys.stdout = sys.stderr = sys.stdin = None")
        self.assert_survived("import sys\ndel sys.stdout, sys.stderr, sys.__stdout__")
        self.assert_survived("import sys\nsys.stdout.close(); sys.stderr.close()")

    def test_builtins_gone(self):
        self.assert_died_or_survived("import builtins\nfor n in list(vars(builtins)):\n"
                                     "    try: delattr(builtins, n)\n    except Exception: pass")
        self.server.request("DELETE", "session", self.attacker)
        self.assert_answers(self.attacker, "1 + 1", 2)
        self.assert_whole()

    def test_some_builtins_gone(self):
        for name in ("print", "open", "len", "__import__", "Exception", "isinstance", "display"):
            with self.subTest(name=name):
                self.assert_died_or_survived(f"import builtins\ndel builtins.{name}")
                self.server.request("DELETE", "session", self.attacker)
                self.assert_answers(self.attacker, "1 + 1", 2)

    def assert_died_or_survived(self, code, timeout=3):
        """What the cell after it says is the user's own doing; that it is answered is ours."""
        self.run_cell(code, timeout)
        start = time.monotonic()
        reply = self.server.execute(self.attacker, "1 + 1", timeout=2)
        self.assertIn(reply["status"], {"Succeeded", "Failed"})
        self.assertLess(time.monotonic() - start, ANSWER_SECONDS)

    def test_modules_gone(self):
        self.assert_died_or_survived("import sys\nsys.modules.clear()")
        self.assert_died_or_survived("import sys\nsys.modules = None")
        self.assert_died_or_survived("import sys\nsys.meta_path.clear(); sys.path.clear(); sys.path_hooks.clear()")
        self.server.request("DELETE", "session", self.attacker)
        self.assert_answers(self.attacker, "1 + 1", 2)
        self.assert_whole()

    def test_prelude_vandalised(self):
        self.assert_died_or_survived("""
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("_carrel"):
        for key in list(vars(module)):
            try: setattr(module, key, None)
            except Exception: pass
""")
        self.server.request("DELETE", "session", self.attacker)
        self.assert_answers(self.attacker, "1 + 1", 2)
        self.assert_whole()

    def test_garbage_collection_off(self):
        self.assert_survived("import gc\ngc.disable(); gc.set_threshold(0)")

    def test_exit_handlers(self):
        self.assert_survived("import atexit, os\natexit.register(lambda: os.system('sleep 600'))")
        start = time.monotonic()
        self.assertEqual(self.server.request("DELETE", "session", self.attacker).status, 204)
        self.assertLess(time.monotonic() - start, ANSWER_SECONDS)

    def test_trace_functions(self):
        self.run_cell("import sys\nsys.settrace(lambda *a: 1 / 0)")
        # Python takes a trace function that raises away again: one cell pays for it.
        self.assertEqual(self.server.execute(self.attacker, "1")["verdict"], "exception")
        self.assert_survived("import sys, threading\nsys.setprofile(lambda *a: None)\n"
                             "threading.settrace(lambda *a: None)")

    def test_recursion_limit_lowered(self):
        self.assert_survived("import sys\nsys.setrecursionlimit(30)", ("succeeded", "exception"))

    def test_main_renamed(self):
        self.assert_survived("import sys\nsys.modules['__main__'].__name__ = 'other'")
        self.assert_survived("import sys\nsys.modules['other'] = sys.modules.pop('__main__')")
        self.assert_survived("import sys, types\nsys.modules['__main__'] = types.ModuleType('x')")

    def test_namespace_cleared(self):
        reply = self.run_cell("globals().clear()")
        self.assertIn(reply["verdict"], {"succeeded", "exception"})
        self.assert_answers(self.attacker, "1 + 1", 2)
        self.assert_whole()

    def test_value_that_bites(self):
        for body in ("raise SystemExit", "raise KeyboardInterrupt", "import os; os.kill(os.getpid(), 2)",
                     "return 5", "return self.__repr__()", "raise BaseException('x')",
                     "del self.__class__.__repr__", "print('x' * 100)"):
            with self.subTest(body=body):
                reply = self.run_cell(f"class A:\n    def __repr__(self):\n        {body}\nA()")
                self.assertIn(reply["status"], {"Succeeded", "Failed"})
                self.assert_answers(self.attacker, "before", "kept")
        self.assert_survived("class E(Exception):\n    def __str__(self): raise E\nraise E",
                             ("exception",))
        self.assert_survived("import time\nclass A:\n    def __repr__(self):\n"
                             "        time.sleep(600)\nA()", ("time_limit",), timeout=1)

    def test_monkey_patched_libraries(self):
        self.assert_died_or_survived("""
import os, sys, io, signal, linecache, traceback, ast
os.write = os.read = os.getpid = None
linecache.getline = linecache.cache = traceback.format_exception = None
ast.parse = None
io.FileIO = None
""")
        self.assertEqual(self.server.execute(self.attacker, "1 / 0")["verdict"], "exception")
        self.assert_answers(self.attacker, "before", "kept")

    def test_data_directory_emptied(self):
        self.server.upload(self.attacker, "file", b"x")
        self.assert_survived("import os, shutil\nfor n in os.listdir('.'):\n    os.remove(n)\n"
                             "shutil.rmtree('/mnt/data', ignore_errors=True)")

    def test_data_directory_closed(self):
        reply = self.run_cell("import os\nopen('in', 'w').close()\nos.chmod('.', 0)")
        self.assertEqual(reply["verdict"], "succeeded")
        for method, route in (("GET", "files"), ("GET", "files/in/content"), ("DELETE", "files/in")):
            self.assertIn(self.server.request(method, route, self.attacker).status, range(200, 500))
        self.assertIn(self.server.upload(self.attacker, "up", b"x").status, range(200, 500))
        self.assert_answers(self.attacker, "before", "kept")
        self.assertEqual(self.server.value(
            self.attacker, "os.chmod(os.getcwd(), 0o755); oct(os.stat('.').st_mode)"), "0o40755")
        self.assert_whole()

    def test_files_closed(self):
        self.assert_survived("import os\nopen('a', 'w').close(); os.chmod('a', 0)")
        self.assertIn(self.server.request("GET", "files/a/content", self.attacker).status,
                      range(400, 500))

    def test_working_directory_removed(self):
        self.run_cell("import os\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')")
        self.assert_answers(self.attacker, "before", "kept")
        self.assertEqual(self.server.upload(self.attacker, "up", b"x").status, 200)
        self.run_cell("import os\nos.chdir('/mnt/data' if os.path.isdir('/mnt/data') else '/')")
        self.assert_answers(self.attacker, "before", "kept")

    def test_alarm_and_timers(self):
        self.assert_survived_with_signals("import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05)")

    def assert_survived_with_signals(self, code):
        self.run_cell(code)
        time.sleep(0.2)
        self.assert_answers(self.attacker, "1 + 1", 2)

    def test_priority_lowered(self):
        self.assert_survived("import os\nos.nice(10)")

    def test_event_loops_and_threads(self):
        self.assert_survived("""
import asyncio, threading
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.set_event_loop(None)
""")

    def test_limits_lowered_to_nothing(self):
        self.assert_died_or_survived("""
import resource
for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK,
          resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
    try: resource.setrlimit(n, (1, 1))
    except Exception: pass
""")
        self.server.request("DELETE", "session", self.attacker)
        self.assert_answers(self.attacker, "1 + 1", 2)

    def test_processor_time_limit(self):
        reply = self.run_cell("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n"
                              "while True: pass", timeout=5)
        self.assertIn(reply["verdict"], {"session_killed", "time_limit"})
        self.assert_answers(self.attacker, "1 + 1", 2)


class Remains:
    """What is left when all sessions are gone: a server of its own, with a count of everything."""

    @property
    def server(self):
        return self.own

    def setUp(self):
        self.groups = control_groups()
        self.mounts = mounts()
        self.shm = set(os.listdir("/dev/shm"))
        self.own = hostile.start(self.level, pool=POOL)
        self.addCleanup(self.own.stop)
        self.ready = POOL["ready_sessions"]

    def settled(self):
        return hostile.wait_until(
            lambda: len(hostile.sessions_of(self.own)) == self.ready
            and len(processes.descendants(hostile.keeper_of(self.own))) == self.ready, 10)

    @staticmethod
    def session_groups(keeper):
        return [g for g in control_groups() if f"-{keeper}-" in os.path.basename(os.path.dirname(g))
                and os.path.basename(g).startswith("s")]

    def test_nothing_remains(self):
        self.assertTrue(self.settled())
        gateway, keeper = self.own.process.pid, hostile.keeper_of(self.own)
        leave = [
            "import os\nfor _ in range(10):\n    if os.fork() == 0:\n        import time\n"
            "        time.sleep(600)",
            "import os\nfor i in range(100):\n    os.mkdir(f'd{i}')\n    open(f'd{i}/f', 'w').close()",
            "import os\nfor i in range(100):\n    os.mkdir('d'); os.chdir('d')",
            "import os\nos.mkdir('x'); open('x/f', 'w').close(); os.chmod('x', 0); os.chmod('.', 0)",
            "import os\nos._exit(1)", "import os\nos.abort()", "x = bytearray(50 << 20)",
            "import threading, time\nfor _ in range(10): threading.Thread(target=time.sleep, "
            "args=(600,), daemon=True).start()",
            "print('x' * (2 << 20))", "for _ in range(100): display('x' * 10000)", "1 / 0",
            "import os\nos.closerange(0, 10000)",
        ]
        for turn in range(3):
            for index, code in enumerate(leave):
                identifier = f"remains-{turn}-{index}"
                self.own.execute(identifier, code)
                self.own.upload(identifier, "file", b"x" * 1000)
                self.own.request("DELETE", "session", identifier)
            if not self.settled():
                self.fail(f"processes remain: {processes.descendants(gateway)}")
            if turn == 1:
                time.sleep(0.2)
                descriptors = [hostile.descriptor_count(p) for p in (gateway, keeper)]
                memory = [hostile.resident_bytes(p) for p in (gateway, keeper)]
        for pid, earlier in zip((gateway, keeper), descriptors):
            self.assertTrue(hostile.wait_until(lambda: hostile.descriptor_count(pid) <= earlier, 3),
                            f"{earlier} descriptors, then {hostile.descriptor_count(pid)}")
        for pid, earlier in zip((gateway, keeper), memory):
            self.assertLess(hostile.resident_bytes(pid) - earlier, 4 << 20)
        if self.level.isolation == "landlock":
            data = pathlib.Path(self.own.config["data_dir"])
            self.assertTrue(hostile.wait_until(
                lambda: len(list(data.rglob("data"))) <= self.ready, 5),
                "directories of sessions remain")
        user = hostile.NOBODY if os.geteuid() == 0 else os.geteuid()
        tree = {gateway, *processes.descendants(gateway)}
        self.assertEqual([p for p in tree if os.stat(f"/proc/{p}").st_uid not in (user, 0)
                          and p != gateway], [])
        self.assertEqual(mounts(), self.mounts)
        # The kernel may still be emptying the last one; it is removed with the next.
        groups = {os.path.basename(g) for g in self.session_groups(keeper)}
        self.assertLessEqual(len(groups), self.ready + 1, groups)
        self.own.stop()
        self.assertFalse(processes.are_there(tree), "processes remain")
        self.assertEqual(mounts(), self.mounts)
        # The keeper's own, empty group may stay: it has no right to remove it. The next one does.
        self.assertLessEqual(len({os.path.basename(g) for g in self.session_groups(keeper)}), 1)
        after = hostile.start(self.level, pool=POOL)
        self.addCleanup(after.stop)
        self.assertEqual([g for g in control_groups() if f"-{keeper}-" in os.path.basename(g)], [])

    def test_killed_gateway_takes_all_with_it(self):
        self.own.execute("killed-gateway", "import subprocess\nsubprocess.Popen(['sleep', '600'])\n1")
        tree = [self.own.process.pid, *processes.descendants(self.own.process.pid)]
        self.own.stop(sig=9)
        self.assertTrue(hostile.wait_until(
            lambda: not processes.are_there(tree[1:]), 5),
            "processes outlive the gateway")

    def test_killed_keeper_takes_its_sessions_with_it(self):
        self.own.execute("killed-keeper", "import subprocess\nsubprocess.Popen(['sleep', '600'])\n1")
        keeper = hostile.keeper_of(self.own)
        tree = processes.descendants(keeper)
        self.assertGreaterEqual(len(tree), 2)
        os.kill(keeper, 9)
        self.own.expect_failure = True
        self.assertTrue(hostile.wait_until(
            lambda: not processes.are_there(tree), 5),
            "processes outlive the keeper")
        self.own.stop(sig=9)


MAIN_LEVELS = [level for level in hostile.LEVELS
               if (level.isolation, level.user) in (("namespaces", None), ("landlock", None))]
hostile.each_level(globals(), Bombs, Deaf, Leftovers, levels=MAIN_LEVELS)
# The interpreter is the same at each.
hostile.each_level(globals(), Endless, Stubborn, Breakage, levels=MAIN_LEVELS[:1])
hostile.each_level(globals(), Remains, levels=hostile.LEVELS[:3])


def tearDownModule():
    hostile.stop_servers()


if __name__ == "__main__":
    unittest.main()

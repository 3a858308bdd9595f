"""Every way an execution can end, on every dialect, and that afterwards the same identifier and
another one work at once."""

import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from harness import ServerCase, run_at_once  # noqa: E402

DIALECTS = ("code/execute", "python/execute", "executions", "stream")
AT_ONCE_SECONDS = 1
TIMED_OUT = "Request timed out waiting for code execution to complete"

STUBBORN = """
import time
while True:
    try:
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        pass
"""

MANY_SMALL = """
kept = []
while True:
    kept.append(bytearray(1000))
"""

# Not the interpreter's own memory, so that only the control group counts it.
SHARED = """
import mmap
block = mmap.mmap(-1, 400 << 20)
for i in range(0, len(block), 4096):
    block[i] = 1
"""

# Each child stays below its own limit; together they are past the session's.
CHILDREN = """
import os, signal
for _ in range(8):
    if os.fork() == 0:
        block = bytearray(40 << 20)
        for i in range(0, len(block), 4096):
            block[i] = 1
        signal.pause()
ended = [os.waitpid(-1, 0)[1] for _ in range(2)]
"""

THREADS = """
import threading, time
stop = threading.Event()
started = []
try:
    while True:
        thread = threading.Thread(target=stop.wait, daemon=True)
        thread.start()
        started.append(thread)
finally:
    stop.set()
"""

FORKS = """
import os, time
while True:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
"""

POPENS = """
import subprocess
kept = []
while True:
    kept.append(subprocess.Popen(['sleep', '60']))
"""

FILL = """
with open('big', 'wb') as f:
    while True:
        f.write(b'x' * 1_000_000)
"""

FILL_TMP = FILL.replace("'big'", "'/tmp/big'")

OPEN_FILES = """
kept = []
while True:
    kept.append(open('/dev/null'))
"""


class Verdicts(ServerCase):
    config = {
        "grace_seconds": 0.3,
        "pools": [{"name": "default", "ready_sessions": 4, "memory": "192m", "processes": 24,
                   "file_space": "8m", "open_files": 100, "execution_seconds": 20,
                   "output": "64k"}],
    }

    def run_code(self, dialect, identifier, code, timeout=None):
        """(verdict, succeeded, stderr, the whole answer) of one execution in that dialect."""
        body = {"code": code}
        if timeout is not None:
            body["timeoutInSeconds"] = timeout
        if dialect == "stream":
            *_, (name, answer) = self.server.stream(identifier, code, **{
                k: v for k, v in body.items() if k != "code"})
            self.assertEqual(name, "result")
        else:
            if dialect != "executions":
                body = {"properties": body}
            reply = self.server.request("POST", dialect, identifier, body, extensions="true")
            self.assertEqual(reply.status, 200, reply)
            answer = reply.json()
        if dialect == "code/execute":
            answer = answer["properties"]
        old = dialect in ("code/execute", "python/execute")
        self.assertIn(answer["status"],
                      ("Success", "Failure") if old else ("Succeeded", "Failed", "Canceled"))
        inner = answer if old else answer["result"]
        succeeded = answer["status"] in ("Success", "Succeeded")
        if not old:
            self.assertEqual("error" in answer, answer["status"] == "Failed")
        return answer["verdict"], succeeded, inner["stderr"], answer

    def check_works(self, identifier, code="6 * 7", wanted=42):
        start = time.monotonic()
        self.assertEqual(self.server.value(identifier, code), wanted)
        self.assertLess(time.monotonic() - start, AT_ONCE_SECONDS, identifier)

    def check(self, code, verdict, succeeded, says, timeout=None, keeps=None, before=""):
        """Runs code in every dialect, in a session of its own. keeps: whether the session's
        variables are there afterwards; None: either."""
        for number, dialect in enumerate(DIALECTS):
            with self.subTest(dialect=dialect):
                identifier = f"{self.session}-{number}"
                neighbour = f"{identifier}-neighbour"
                self.server.value(neighbour, "mine = 1")
                self.server.value(identifier, f"{before}\nstate = 'kept'")
                got = self.run_code(dialect, identifier, code, timeout)
                self.assertEqual(got[0], verdict, got[3])
                self.assertEqual(got[1], succeeded, got[3])
                for text in [says] if isinstance(says, str) else says:
                    self.assertIn(text, got[2])
                self.check_works(identifier)
                self.check_works(neighbour, "mine", 1)
                if keeps is not None:
                    self.check_works(identifier, "'state' in globals()", keeps)
                self.server.request("DELETE", "session", identifier)
                self.server.request("DELETE", "session", neighbour)

    def test_success(self):
        self.check("1", "succeeded", True, "", keeps=True)

    def test_exception(self):
        self.check("{}['x']", "exception", False, "KeyError: 'x'", keeps=True)

    def test_syntax_error(self):
        self.check("1 +", "exception", False, "SyntaxError", keeps=True)

    def test_a_keyboard_interrupt_of_its_own_is_an_exception(self):
        self.check("raise KeyboardInterrupt", "exception", False, "KeyboardInterrupt", keeps=True)

    def test_exit(self):
        self.check("import sys; sys.exit()", "exited", True, "")
        self.check("import sys; sys.exit(0)", "exited", True, "")
        self.check("import sys; sys.exit(3)", "exited", False, "3")
        self.check("raise SystemExit('my last words')", "exited", False, "my last words")

    def test_time_limit(self):
        self.check("import time; time.sleep(60)", "time_limit", False, TIMED_OUT, timeout=0.2,
                   keeps=True)

    def test_time_limit_in_a_busy_loop(self):
        self.check("while True: pass", "time_limit", False, TIMED_OUT, timeout=0.2, keeps=True)

    def test_time_limit_in_a_child(self):
        self.check("import subprocess; subprocess.run(['sleep', '60'])", "time_limit", False,
                   TIMED_OUT, timeout=0.2, keeps=True)

    def test_time_limit_swallowed_once(self):
        self.check("import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass",
                   "time_limit", False, TIMED_OUT, timeout=0.2, keeps=True)

    def test_time_limit_that_is_never_obeyed(self):
        start = time.monotonic()
        self.check(STUBBORN, "time_limit", False, TIMED_OUT, timeout=0.2, keeps=False)
        # Deadline and grace time, for each dialect; not more.
        self.assertLess(time.monotonic() - start, len(DIALECTS) * (0.5 + 1))

    def test_time_limit_in_the_c_library(self):
        self.check("import ctypes; ctypes.CDLL(None).pause.restype\n"
                   "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
                   "ctypes.CDLL(None).sleep(60)", "time_limit", False, TIMED_OUT, timeout=0.2,
                   keeps=False)

    def test_time_limit_of_a_stopped_session(self):
        self.check("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nimport time\n"
                   "time.sleep(60)", "time_limit", False, TIMED_OUT, timeout=0.2)

    def test_memory_limit_as_an_exception(self):
        self.check("x = bytearray(1 << 30)", "memory_limit", False, "MemoryError", keeps=True)

    def test_memory_limit_by_many_small_pieces(self):
        for number, dialect in enumerate(DIALECTS):
            with self.subTest(dialect=dialect):
                identifier = f"{self.session}-{number}"
                self.server.value(identifier, "1")
                verdict, succeeded, err, answer = self.run_code(dialect, identifier, MANY_SMALL)
                self.assertEqual((verdict, succeeded), ("memory_limit", False), answer)
                self.assertTrue("MemoryError" in err or "Execution aborted" in err, err)
                # What fills the memory is the user's own variable: a cell can still let go of it.
                self.check_works(identifier)
                self.check_works(f"{identifier}-neighbour")
                self.server.value(identifier, "kept = None")
                self.check_works(identifier, "len(bytearray(50 << 20))", 50 << 20)
                self.server.request("DELETE", "session", identifier)
                self.server.request("DELETE", "session", f"{identifier}-neighbour")

    def test_memory_limit_by_the_control_group(self):
        self.check(SHARED, "memory_limit", False, "Execution aborted", keeps=False)

    def test_memory_limit_by_children_together(self):
        for number, dialect in enumerate(DIALECTS):
            with self.subTest(dialect=dialect):
                identifier = f"{self.session}-{number}"
                self.server.value(identifier, "1")
                verdict, succeeded, err, answer = self.run_code(dialect, identifier, CHILDREN, 5)
                # Somebody has to go: the session itself, or children that its code sees killed.
                self.assertEqual((verdict, succeeded), ("memory_limit", False), answer)
                if self.server.value(identifier, "'ended' in globals()"):
                    self.assertEqual(self.server.value(identifier, "set(ended)"), "{9}")
                    self.assertIn("limit of memory", err)
                else:
                    self.assertIn("Execution aborted", err)
                self.check_works(identifier)
                self.check_works(f"{identifier}-neighbour")
                self.server.request("DELETE", "session", identifier)
                self.server.request("DELETE", "session", f"{identifier}-neighbour")

    def test_process_limit_by_threads(self):
        self.check(THREADS, "process_limit", False, "limit of processes", keeps=True)

    def test_process_limit_by_forks(self):
        self.check(FORKS, "process_limit", False, "limit of processes", keeps=True)

    def test_process_limit_by_commands(self):
        self.check(POPENS, "process_limit", False, "limit of processes", keeps=True)

    def test_file_space_limit(self):
        self.check(FILL, "file_space_limit", False, "limit of file space", keeps=True)

    def test_file_space_limit_of_tmp(self):
        self.check(FILL_TMP, "file_space_limit", False, "limit of file space", keeps=True)

    def test_open_files_limit(self):
        self.check(OPEN_FILES, "open_files_limit", False, "limit of open files", keeps=True)

    def test_output_limit(self):
        for number, dialect in enumerate(DIALECTS):
            with self.subTest(dialect=dialect):
                identifier = f"{self.session}-{number}"
                verdict, succeeded, _, answer = self.run_code(
                    dialect, identifier, "state = 1\nfor _ in range(300): print('x' * 1000)\n'end'")
                self.assertEqual((verdict, succeeded), ("output_limit", True), answer)
                inner = answer.get("result") if dialect in ("executions", "stream") else answer
                self.assertIn("[output cut", inner["stdout"])
                self.assertEqual(inner["executionResult" if "executionResult" in inner else "result"], "end")
                self.assertEqual(answer["truncated"], {"stdout": 300 * 1001 - (64 << 10)})
                self.check_works(identifier, "state", 1)
                self.server.request("DELETE", "session", identifier)

    def test_a_gigabyte_of_output_costs_no_memory(self):
        def resident_kb():
            status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
            return int(status.split("VmRSS:")[1].split()[0])
        before = resident_kb()
        reply = self.server.execute(
            self.session, "import os\npiece = b'x' * (1 << 20)\nleft = 1 << 30\n"
                          "while left > 0: left -= os.write(1, piece)")
        self.assertEqual(reply["verdict"], "output_limit")
        self.assertEqual(reply["truncated"]["stdout"], (1 << 30) - (64 << 10))
        self.assertLess(resident_kb() - before, 32 << 10)

    def test_session_killed_by_itself(self):
        self.check("import os; os._exit(7)", "session_killed", False,
                   ["The session ended", "exited with status 7"], keeps=False)

    def test_session_killed_by_a_crash(self):
        self.check("import ctypes; ctypes.string_at(0)", "session_killed", False,
                   ["The session ended", "SIGSEGV"], keeps=False)

    def test_session_killed_by_an_abort(self):
        self.check("import os; os.abort()", "session_killed", False,
                   ["The session ended"], keeps=False)

    def test_session_killed_by_execve(self):
        self.check("import os; os.execv('/bin/true', ['true'])", "session_killed", False,
                   "The session ended", keeps=False)

    def interrupt(self, code, identifier):
        """The answer of code that is interrupted once it runs."""
        def stop():
            self.wait_for_file("running", identifier)
            return self.server.request("DELETE", "executions/long", identifier)

        def run():
            return self.server.request("POST", "executions", identifier,
                                       {"code": f"open('running', 'w').close()\n{code}"},
                                       headers={"operation-id": "long"})
        reply, stopped = run_at_once([run, stop])
        self.assertEqual(stopped.json()["verdict"], "interrupted")
        return reply.json()

    def test_interrupted(self):
        self.server.value(self.session, "state = 'kept'")
        answer = self.interrupt("import time; time.sleep(60)", self.session)
        self.assertEqual((answer["verdict"], answer["status"]), ("interrupted", "Canceled"))
        self.assertIn("interrupted", answer["result"]["stderr"])
        self.check_works(self.session, "state", "kept")
        self.check_works(f"{self.session}-neighbour")
        self.server.request("DELETE", "session", f"{self.session}-neighbour")

    def test_interrupted_on_the_old_routes(self):
        for route in ("code/execute", "python/execute"):
            def stop():
                self.wait_until(lambda: b'"Running"' in self.server.request(
                    "GET", f"executions/{route[:4]}", self.session).body, "it did not run")
                self.server.request("DELETE", f"executions/{route[:4]}", self.session)
            reply, _ = run_at_once([
                lambda: self.server.request("POST", route, self.session,
                                            {"code": "import time; time.sleep(60)"},
                                            extensions="true",
                                            headers={"operation-id": route[:4]}), stop])
            answer = reply.json()
            answer = answer.get("properties", answer)
            self.assertEqual((answer["status"], answer["verdict"]), ("Failure", "interrupted"))

    def test_interrupted_in_vain(self):
        answer = self.interrupt(STUBBORN, self.session)
        self.assertEqual(answer["verdict"], "interrupted")
        self.check_works(self.session)
        self.assertIs(self.server.value(self.session, "'STUBBORN' in globals()"), False)

    def test_interrupted_while_awaiting(self):
        answer = self.interrupt("import asyncio; await asyncio.sleep(60)", self.session)
        self.assertEqual(answer["verdict"], "interrupted")
        self.check_works(self.session, "await asyncio.sleep(0, 5)", 5)

    def test_what_breaks_the_interpreter_around_the_cell(self):
        for code in ("import sys; sys.stdout = None", "import os\nfor fd in range(256):\n    "
                     "try: os.close(fd)\n    except OSError: pass",
                     "import sys; sys.modules.clear()", "import builtins; del builtins.print; "
                     "del builtins.open", "import sys; sys.setrecursionlimit(50)",
                     "import sys; sys.settrace(lambda *a: None)",
                     "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"):
            with self.subTest(code=code):
                identifier = f"{self.session}-broken"
                self.server.execute(identifier, code)
                self.check_works(identifier)
                reply = self.server.execute(identifier, "import os; os.write(1, b'heard');")
                self.assertEqual(reply["result"]["stdout"], "heard")
                self.server.request("DELETE", "session", identifier)

    def test_the_counters_tell_the_verdicts_apart(self):
        def counts():
            text = self.server.request("GET", "metrics").body.decode()
            return {line.split('verdict="')[1].split('"')[0]: int(line.split()[-1])
                    for line in text.splitlines() if line.startswith("carrel_executions_total{")}
        before = counts()
        self.server.execute(self.session, "1")
        self.server.execute(self.session, "1 / 0")
        self.server.execute(self.session, "import time; time.sleep(60)", timeout=0.1)
        self.server.execute(self.session, "import os; os._exit(1)")
        after = counts()
        changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        self.assertEqual(changed, {"succeeded": 1, "exception": 1, "time_limit": 1,
                                   "session_killed": 1})


if __name__ == "__main__":
    unittest.main()

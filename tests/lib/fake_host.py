"""A stand-in for _carrel_host, the C module by which the prelude reaches its session: it keeps what
is displayed, and answers host calls from functions of the test instead of a server."""

import ctypes
import errno
import json
import os
import pathlib
import sys
import threading
import types

PRELUDE = pathlib.Path(__file__).resolve().parents[2] / "src/keeper/prelude"
CALLS_MAX = 64


class Failure(Exception):
    """What a test's server answers with instead of a result."""

    def __init__(self, name, message):
        super().__init__(name, message)
        self.failure = {"error": name, "message": message}


class Host(types.ModuleType):
    """server: called with (method, arguments, data) on a thread of its own for each call; returns
    the result, or (result, bytes), or raises Failure. None: nothing runs, no call is taken."""

    def __init__(self):
        super().__init__("_carrel_host")
        self.sent = []
        self.pid = os.getpid()
        self.display = self.sent.append
        self.getenv = os.environ.get
        self.server = None
        self.calls = []      # (method, arguments) in the order they came
        self.cancelled = []  # numbers
        self.changed = threading.Condition()
        self.last = 0
        self.answers = {}    # number: None, or (ok, text, bytes or None)
        self.wanted = {}
        self.pipe = None

    def interrupt_when_freed(self):
        """As the C module has it: a finalizer in Python could not interrupt what runs behind it."""
        new, interrupt = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyErr_SetInterrupt
        new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p,) * 3
        return new(1, None, ctypes.cast(interrupt, ctypes.c_void_p))

    def session_pid(self):
        return self.pid

    def fileno(self):
        if self.pipe is None:
            self.pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return self.pipe[0]

    def call(self, method, arguments, data=None):
        if os.getpid() != self.pid:
            raise OSError(errno.ECHILD, "forked")
        if self.server is None:
            raise OSError(errno.ESHUTDOWN, "nothing runs")
        assert isinstance(method, str) and isinstance(arguments, bytes)
        if isinstance(data, str):
            assert data.isascii()
            data = data.encode()
        with self.changed:
            if len(self.answers) >= CALLS_MAX:
                raise OSError(errno.EBUSY, "too many")
            self.last += 1
            number = self.last
            self.answers[number] = None
            arguments = json.loads(arguments)
            self.calls.append((method, arguments))
        content = None if data is None else bytes(data)
        threading.Thread(target=self._answer, args=(number, method, arguments, content),
                         daemon=True).start()
        return number

    def _answer(self, number, method, arguments, data):
        try:
            result = self.server(method, arguments, data)
            content = None
            if isinstance(result, tuple):
                result, content = result
            answer = (True, json.dumps(result), content)
        except Failure as exc:
            answer = (False, json.dumps(exc.failure), None)
        except Exception as exc:
            answer = (False, json.dumps({"error": "RuntimeError", "message": repr(exc)}), None)
        with self.changed:
            if number in self.answers:
                self.answers[number] = answer
            self.changed.notify_all()
        self.fileno()
        os.write(self.pipe[1], b"x")

    def take(self, number, size, text):
        with self.changed:
            if number not in self.answers:
                raise OSError(errno.ESHUTDOWN, "it has ended")
            answer = self.answers[number]
            if answer is None:
                return None
            ok, reply, content = answer
            if size < 0 and ok:
                return ok, reply, None
            del self.answers[number]
            if not ok or size == 0:
                return ok, reply, None
            assert len(content) == size, (len(content), size)
            return ok, reply, content.decode() if text and content.isascii() else content

    def wait(self, number, size, text):
        while True:
            answer = self.take(number, size, text)
            if answer is not None:
                return answer
            with self.changed:
                self.changed.wait(0.05)
                if any(found for other, found in self.answers.items() if other != number):
                    return None

    def show_packages(self, names):
        sys.modules["_carrel"].packages_changed(names.splitlines())

    def poll(self):
        try:
            os.read(self.fileno(), 4096)
        except BlockingIOError:
            pass

    def cancel(self, number):
        with self.changed:
            if self.answers.pop(number, 0) is None:
                self.cancelled.append(number)
            self.changed.notify_all()

    def end(self):
        with self.changed:
            self.answers.clear()
            self.changed.notify_all()


def load_prelude():
    """Loads the prelude into this process, with a __main__ of its own: (package, host)."""
    host = Host()
    sys.modules["_carrel_host"] = host
    sys.modules["__main__"] = types.ModuleType("__main__")
    sources = []
    for file in sorted(PRELUDE.glob("*.py")):
        if file.stem != "loader":
            name = "_carrel" if file.stem == "__init__" else "_carrel." + file.stem
            sources.append((name, file.read_text()))
    namespace = {"__name__": "_carrel_loader"}
    loader = (PRELUDE / "loader.py").read_text()
    exec(compile(loader, "<_carrel_loader>", "exec"), namespace)
    namespace["install"](sources)
    import _carrel
    return _carrel, host

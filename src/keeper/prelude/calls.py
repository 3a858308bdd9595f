"""Host calls: how tools, skills, artifacts and deps ask the session's server.

Where no event loop runs a call blocks and returns its value. Where one runs, it
has been sent when it returns, and what it returns is awaited for the value; so
ten of them in asyncio.gather run at once. The socket is read by whoever waits:
a thread in _carrel_host.wait, or an event loop that watches it.
"""

import collections.abc
import errno
import json
import sys

import _carrel_host

from _carrel.awaiting import waiting_loops as _loops
from _carrel.errors import TooManyCalls, make

_call, _wait, _take = _carrel_host.call, _carrel_host.wait, _carrel_host.take
_loads, _JSONDecodeError = json.loads, json.JSONDecodeError
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

# size in _carrel_host.wait: the answer alone, or the answer before its bytes.
_ALONE, _BEFORE_BYTES = 0, -1

_MESSAGES = {
    errno.EBUSY: (TooManyCalls, "this session has 64 calls open already"),
    errno.ECHILD: (RuntimeError, "only the session's own process can use tools, skills, "
                                 "artifacts and deps, not one that it forked"),
    errno.ESHUTDOWN: (RuntimeError, "the cell that this call belongs to has ended"),
    errno.EMSGSIZE: (ValueError, "the arguments are larger than 8 MiB"),
}


_events = None
_modules = sys.modules


def running_loop():
    """Returns the event loop that runs in this thread, or None. Without asyncio there is none."""
    global _events
    if _events is None:
        _events = _modules.get("asyncio.events")
        if _events is None:
            return None
    return _events._get_running_loop()


class Call:
    """One call: its method, its arguments as JSON, and how its value is made of the result."""

    __slots__ = ("method", "arguments", "data", "convert", "streams")

    def __init__(self, method, arguments, convert=None, data=None, streams=False):
        """convert: takes the result, and the bytes that follow it when the call streams."""
        self.method = method
        self.arguments = _encode(arguments)
        self.data = data
        self.convert = convert
        self.streams = streams

    def value(self, result, data):
        if self.convert is None:
            return result
        return self.convert(result, data) if self.streams else self.convert(result)


def _encode(arguments):
    # A lone surrogate is a UnicodeEncodeError here, and NaN a ValueError: JSON has neither.
    return _encoder.encode(arguments).encode()


def ask(method, arguments, convert=None, data=None, streams=False, blocking=False):
    """Makes a call: returns its value, or where an event loop runs an Answer."""
    call = Call(method, arguments, convert, data, streams)
    loop = None if blocking else running_loop()
    return wait_for(call) if loop is None else start(call, loop)


def is_blocking(blocking):
    """Says whether a call made here and now returns a value and no Answer."""
    return blocking or running_loop() is None


def _send(call):
    try:
        if call.data is None:
            return _call(call.method, call.arguments)
        return _call(call.method, call.arguments, call.data)
    except OSError as exc:
        raise _explained(exc) from None


def _explained(exc):
    cls, text = _MESSAGES.get(exc.errno, (RuntimeError, f"the server cannot be asked: {exc}"))
    return cls(text)


def _next(answer, call):
    """Looks at what came: (True, value), or (False, the number of bytes to wait for)."""
    ok, text, data = answer
    result = _loads(text)
    if not ok:
        raise make(result)
    if not call.streams or data is not None:
        return True, (result, data)
    return False, result


# --- waiting in a thread --------------------------------------------------------------------------


def wait_for(call):
    """Makes a call and blocks until its value is there."""
    number = _send(call)
    try:
        if not call.streams:
            return call.value(_parsed(_answer(number, _ALONE, False)), None)
        result = _parsed(_answer(number, _BEFORE_BYTES, False))
        size, text = result["size"], result.get("type") == "text"
        if size == 0:
            _carrel_host.cancel(number)
            return call.value(result, b"")
        ok, failure, data = _answer(number, size, text)
        if not ok:
            raise make(_loads(failure))
        return call.value(result, data)
    except OSError as exc:
        raise _explained(exc) from None
    except BaseException:
        _carrel_host.cancel(number)
        raise


def _answer(number, size, text):
    while True:
        answer = _wait(number, size, text)
        if answer is not None:
            return answer
        # This thread has read an answer that an event loop waits for.
        wake()


def _parsed(answer):
    ok, text, _ = answer
    result = _loads(text)
    if not ok:
        raise make(result)
    return result


# --- waiting in an event loop ---------------------------------------------------------------------


class Answer(collections.abc.Coroutine):
    """What a call returns where an event loop runs: under way already, and to be awaited."""

    __slots__ = ("_future", "_steps", "_name")

    def __init__(self, future, name):
        self._future = future
        self._steps = None
        self._name = name

    def __await__(self):
        return self._future.__await__()

    # A coroutine too, so that asyncio.create_task() and gather() take it.
    def send(self, value):
        if self._steps is None:
            self._steps = self._future.__await__()
        return self._steps.send(value)

    def throw(self, *exc):
        if self._steps is None:
            self._steps = self._future.__await__()
        return self._steps.throw(*exc)

    def close(self):
        if self._steps is not None:
            self._steps.close()

    def __repr__(self):
        state = "done" if self._future.done() else "not awaited yet"
        return f"<{self._name}: {state}>"


def finished(value, name):
    """Returns an Answer that has its value already."""
    future = running_loop().create_future()
    future.set_result(value)
    return Answer(future, name)


class _Waiting:
    """A call that an event loop waits for."""

    __slots__ = ("call", "future", "size", "text", "result")

    def __init__(self, call, future):
        self.call = call
        self.future = future
        self.size = _BEFORE_BYTES if call.streams else _ALONE
        self.text = False
        self.result = None

    def step(self, number):
        """Takes what is there. Returns whether it is over."""
        answer = _take(number, self.size, self.text)
        if answer is None:
            return False
        ok, text, data = answer
        if not ok:
            raise make(_loads(text))
        if self.size != _BEFORE_BYTES:
            result = _loads(text) if self.result is None else self.result
            self.future.set_result(self.call.value(result, data))
            return True
        self.result = _loads(text)
        self.size, self.text = self.result["size"], self.result.get("type") == "text"
        if self.size == 0:
            _carrel_host.cancel(number)
            self.future.set_result(self.call.value(self.result, b""))
            return True
        return self.step(number)


class _Loop:
    """The calls that one event loop waits for; it watches the socket while there are any."""

    def __init__(self, loop):
        self.loop = loop
        self.waiting = {}

    def add(self, number, call):
        future = self.loop.create_future()
        if not self.waiting:
            _loops[id(self.loop)] = self
            self.loop.add_reader(_carrel_host.fileno(), self.pump)
        self.waiting[number] = _Waiting(call, future)
        future.add_done_callback(lambda done: self._on_done(number, done))
        return future

    def _on_done(self, number, future):
        if self.waiting.pop(number, None) is not None and future.cancelled():
            _carrel_host.cancel(number)
        if not self.waiting and _loops.pop(id(self.loop), None) is not None:
            self.loop.remove_reader(_carrel_host.fileno())

    def pump(self):
        """Reads what is there and completes what is complete."""
        try:
            _carrel_host.poll()
        except OSError:
            pass  # each call finds out for itself
        for number, waiting in list(self.waiting.items()):
            if waiting.future.done():
                continue
            try:
                waiting.step(number)
            except OSError as exc:
                waiting.future.set_exception(_explained(exc))
            except Exception as exc:
                waiting.future.set_exception(exc)


def start(call, loop):
    """Sends a call and returns its Answer."""
    number = _send(call)
    state = _loops.get(id(loop))
    if state is None or state.loop is not loop:
        state = _Loop(loop)
    return Answer(state.add(number, call), call.method)


def wake():
    """Makes every loop that waits look at its calls."""
    for state in list(_loops.values()):
        try:
            state.loop.call_soon_threadsafe(state.pump)
        except RuntimeError:
            _loops.pop(id(state.loop), None)  # the loop is closed


def end_cell():
    """Ends what the cell left pending: its answers become errors."""
    _carrel_host.end()
    wake()

"""Host calls: how tools, skills, artifacts and deps ask the session's server.

Where no event loop runs a call blocks and returns its value. Where one runs, it
has been sent when it returns, and what it returns is awaited for the value, or
used as it (see answers); so ten of them in asyncio.gather run at once. The socket
is read by whoever waits: a thread in _carrel_host.wait, or an event loop that
watches it.
"""

import errno
import json
import sys
from _thread import allocate_lock as _allocate_lock, get_ident as _get_ident

import _carrel_host

from _carrel.answers import NotAwaited
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
    """Makes a call: returns its value, or where an event loop runs what stands for it."""
    call = Call(method, arguments, convert, data, streams)
    loop = None if blocking else running_loop()
    return wait_for(call) if loop is None else start(call, loop)


def is_blocking(blocking):
    """Says whether a call made here and now returns the value itself."""
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


class _Waiting:
    """A call that an event loop waits for, until a thread is made to: the source of an answer.

    Whoever holds the lock takes what comes. The future is the loop's alone, and follows the outcome.
    """

    __slots__ = ("number", "call", "owner", "future", "lock", "outcome", "size", "text", "result")

    def __init__(self, number, call, owner):
        self.number = number
        self.call = call
        self.owner = owner
        self.future = owner.loop.create_future()
        self.future.add_done_callback(self._on_done)
        self.lock = _allocate_lock()
        self.outcome = None
        self.size = _BEFORE_BYTES if call.streams else _ALONE
        self.text = False
        self.result = None

    @property
    def name(self):
        return self.call.method

    def steps(self):
        return self.future.__await__()

    def finish(self):
        """Blocks until it is over, whatever its loop does meanwhile."""
        with self.lock:
            while self.outcome is None:
                self._wait()
        if _get_ident() == self.owner.thread:
            self._complete()
        else:
            self.owner.soon(self._complete)

    def _wait(self):
        try:
            answer = _wait(self.number, self.size, self.text)
        except OSError as exc:
            self.outcome = False, _explained(exc)
            return
        except BaseException:
            self.outcome = False, RuntimeError("it was interrupted")
            _carrel_host.cancel(self.number)
            raise
        if answer is None:
            wake()  # what has come is another's
        else:
            self._accept(answer)

    def step(self):
        """Takes what is there, in the loop."""
        if self.outcome is None:
            if not self.lock.acquire(False):
                return  # a thread waits for it, and will tell
            try:
                self._take()
            finally:
                self.lock.release()
        if self.outcome is not None:
            self._complete()

    def _take(self):
        while self.outcome is None:
            try:
                answer = _take(self.number, self.size, self.text)
            except OSError as exc:
                self.outcome = False, _explained(exc)
                return
            if answer is None:
                return
            self._accept(answer)

    def _accept(self, answer):
        try:
            ok, text, data = answer
            if not ok:
                raise make(_loads(text))
            if self.size == _BEFORE_BYTES:
                self.result = _loads(text)
                self.size, self.text = self.result["size"], self.result.get("type") == "text"
                if self.size > 0:
                    return
                _carrel_host.cancel(self.number)
                data = b""
            result = _loads(text) if self.result is None else self.result
            self.outcome = True, self.call.value(result, data)
        except Exception as exc:
            self.outcome = False, exc

    def _complete(self):
        self.owner.forget(self.number)
        if self.future.done() or self.owner.loop.is_closed():
            return
        ok, found = self.outcome
        if ok:
            self.future.set_result(found)
        else:
            self.future.set_exception(found)
            self.future.exception()  # it is told to whoever uses or drops the answer

    def _on_done(self, future):
        if future.cancelled() and self.outcome is None:
            self.outcome = False, RuntimeError("it was cancelled")
            _carrel_host.cancel(self.number)
        self.owner.forget(self.number)


class _Loop:
    """The calls that one event loop waits for; it watches the socket while there are any."""

    def __init__(self, loop):
        self.loop = loop
        self.thread = _get_ident()
        self.waiting = {}

    def add(self, number, call):
        if not self.waiting:
            _loops[id(self.loop)] = self
            self.loop.add_reader(_carrel_host.fileno(), self.pump)
        waiting = self.waiting[number] = _Waiting(number, call, self)
        return waiting

    def forget(self, number):
        if self.waiting.pop(number, None) is not None and not self.waiting:
            _loops.pop(id(self.loop), None)
            if not self.loop.is_closed():
                self.loop.remove_reader(_carrel_host.fileno())

    def soon(self, function):
        """Has its thread call a function."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            _loops.pop(id(self.loop), None)  # it is closed

    def pump(self):
        """Reads what is there and completes what is complete."""
        try:
            _carrel_host.poll()
        except OSError:
            pass  # each call finds out for itself
        for waiting in list(self.waiting.values()):
            waiting.step()


def start(call, loop):
    """Sends a call and returns its answer."""
    number = _send(call)
    state = _loops.get(id(loop))
    if state is None or state.loop is not loop:
        state = _Loop(loop)
    return NotAwaited(state.add(number, call))


def wake():
    """Makes every loop that waits look at its calls."""
    for state in list(_loops.values()):
        state.soon(state.pump)


def end_cell():
    """Ends what the cell left pending: its answers become errors."""
    _carrel_host.end()
    wake()

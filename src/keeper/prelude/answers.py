"""What a call returns where an event loop runs: to be awaited, or used as the value it stands for.

`await` waits in the loop. Any other use (truth, text, attribute, index, iteration, comparison,
arithmetic, …) waits on the spot and goes on with the value. Dropped without either, the call is
waited for all the same, so that what comes after it finds it done; a failure is then told on stderr.

Code of a loop's own machinery looks at objects before it awaits them: it sees one that can be awaited,
and waits for nothing (see _is_asked_by_a_loop).

A source is where the value comes from:

    steps()     an iterator, for await
    finish()    blocks until there is an outcome; raises what interrupts it, and no failure
    outcome     None, or (True, value) or (False, exception)
    name        for remarks
"""

import collections.abc
import copy
import json
import math
import operator
import os
import sys
import types

import _carrel_host

# Of answers that nobody has awaited or used yet, by id.
unused = {}
# How many answers there are.
_alive = 0

_LOOPS = frozenset(("asyncio", "inspect", "anyio", "nest_asyncio", "uvloop"))
_getframe = sys._getframe


def _is_asked_by_a_loop():
    """Says whether the one who uses an answer only wants to know how to await it."""
    frame = _getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name != "abc":
            return type(name) is str and name.partition(".")[0] in _LOOPS
        frame = frame.f_back
    return False


class NotAwaited(collections.abc.Coroutine):
    """The answer of a call that was not awaited; see the module."""

    __slots__ = ("_source", "_iterator", "__weakref__")

    def __init__(self, source):
        global _alive
        _set_source(self, source)
        _set_iterator(self, None)
        if source.outcome is None:
            unused[id(source)] = source
        _alive += 1

    def __await__(self):
        source = _get_source(self)
        unused.pop(id(source), None)
        return source.steps()

    def __del__(self):
        global _alive
        _alive -= 1
        source = _get_source(self)
        if unused.pop(id(source), None) is None or os.getpid() != _carrel_host.session_pid():
            return
        try:
            source.finish()
        except KeyboardInterrupt:
            # One that is raised in here is lost. It comes again behind it.
            _set_iterator(self, _carrel_host.interrupt_when_freed())
        else:
            _report(source)

    def __getattr__(self, name):
        return getattr(value_of(self), name)

    def __setattr__(self, name, value):
        setattr(value_of(self), name, value)

    def __delattr__(self, name):
        delattr(value_of(self), name)

    @property
    def __class__(self):
        return NotAwaited if _is_asked_by_a_loop() else value_of(self).__class__

    def __hash__(self):
        return id(self) if _is_asked_by_a_loop() else hash(value_of(self))

    def __eq__(self, other):
        if _is_asked_by_a_loop():
            return self is other
        return value_of(self) == other

    def __reduce_ex__(self, protocol):
        return copy.copy, (value_of(self),)

    def __array__(self, *arguments, **options):
        return sys.modules["numpy"].array(value_of(self), *arguments, **options)


_set_source, _get_source = NotAwaited._source.__set__, NotAwaited._source.__get__
_set_iterator, _get_iterator = NotAwaited._iterator.__set__, NotAwaited._iterator.__get__


def value_of(value):
    """Returns the value that an answer stands for; anything else as it is."""
    if type(value) is not NotAwaited:
        return value
    source = _get_source(value)
    unused.pop(id(source), None)
    if source.outcome is None:
        source.finish()
    ok, found = source.outcome
    if ok:
        return found
    raise found


def _report(source):
    ok, failure = source.outcome
    if not ok:
        from _carrel import failure as failures, streams
        streams.note(f"{source.name} failed, and was not awaited: {failures.describe(failure)}")


def settle():
    """Waits for what the cell has neither awaited nor used: it may be used later."""
    if os.getpid() != _carrel_host.session_pid():
        unused.clear()
    for source in list(unused.values()):
        if source.outcome is None:
            source.finish()


class Finished:
    """A source that has its value already."""

    __slots__ = ("outcome", "name")

    def __init__(self, value):
        self.outcome = (True, value)
        self.name = ""

    def steps(self):
        return steps_of(self.outcome)

    def finish(self):
        pass


def steps_of(outcome):
    """An iterator for await that ends at once."""
    ok, found = outcome
    if not ok:
        raise found
    return found
    yield


# --- every other use, by table ----------------------------------------------------------------------

def _enter(value):
    return type(value).__enter__(value)


def _exit(value, *exc):
    return type(value).__exit__(value, *exc)


def _aenter(value):
    return type(value).__aenter__(value)


def _aexit(value, *exc):
    return type(value).__aexit__(value, *exc)


_USES = {
    "bool": bool, "str": str, "repr": repr, "bytes": bytes, "format": format, "len": len,
    "length_hint": operator.length_hint, "iter": iter, "aiter": aiter, "reversed": reversed,
    "contains": operator.contains, "getitem": operator.getitem, "setitem": operator.setitem,
    "delitem": operator.delitem, "int": int, "float": float, "complex": complex,
    "index": operator.index, "round": round, "trunc": math.trunc, "floor": math.floor,
    "ceil": math.ceil, "abs": abs, "neg": operator.neg, "pos": operator.pos,
    "invert": operator.invert, "fspath": os.fspath, "dir": dir, "copy": copy.copy,
    "deepcopy": copy.deepcopy, "enter": _enter, "exit": _exit, "aenter": _aenter, "aexit": _aexit,
    "lt": operator.lt, "le": operator.le, "ne": operator.ne, "gt": operator.gt, "ge": operator.ge,
}
_BINARY = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "matmul": operator.matmul,
    "truediv": operator.truediv, "floordiv": operator.floordiv, "mod": operator.mod,
    "divmod": divmod, "pow": pow, "lshift": operator.lshift, "rshift": operator.rshift,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
}


def _using(function):
    def use(self, *arguments):
        return function(value_of(self), *arguments)
    return use


def _reflected(function):
    def use(self, other):
        return function(other, value_of(self))
    return use


def _inplace(name, function):
    function = getattr(operator, f"i{name}", function)

    def use(self, other):
        return function(value_of(self), other)
    return use


def _of_coroutines(name, step):
    """send, throw and close are a coroutine's for a loop's own code, and the value's for any other."""
    def get(self):
        if not _is_asked_by_a_loop():
            return getattr(value_of(self), name)
        if _get_iterator(self) is None:
            _set_iterator(self, self.__await__())
        return types.MethodType(step, _get_iterator(self))
    return property(get)


def _send(iterator, value):
    return next(iterator) if value is None else iterator.send(value)


def _throw(iterator, *exc):
    return iterator.throw(*exc)


def _close(iterator):
    iterator.close()


def _complete():
    table = {name: _using(function) for name, function in (_USES | _BINARY).items()}
    for name, function in _BINARY.items():
        table[f"r{name}"] = _reflected(function)
        if name != "divmod":
            table[f"i{name}"] = _inplace(name, function)
    for name, method in table.items():
        setattr(NotAwaited, f"__{name}__", method)
    for name, step in (("send", _send), ("throw", _throw), ("close", _close)):
        setattr(NotAwaited, name, _of_coroutines(name, step))
    NotAwaited.__abstractmethods__ = frozenset()


_complete()


# --- json, whose encoder looks at the type itself ------------------------------------------------------

def plain(value, within=()):
    """Returns JSON's kinds of containers with values in the place of answers."""
    value = value_of(value)
    kind = type(value)
    if kind not in (dict, list, tuple) or id(value) in within:
        return value
    within = (*within, id(value))
    if kind is dict:
        return {value_of(key): plain(item, within) for key, item in value.items()}
    return [plain(item, within) for item in value]


def _teach(name):
    encode = getattr(json.JSONEncoder, name)

    def with_answers(self, o, *arguments, **options):
        return encode(self, plain(o) if _alive else o, *arguments, **options)
    with_answers.__name__, with_answers.__doc__ = name, encode.__doc__
    setattr(json.JSONEncoder, name, with_answers)


_teach("encode")
_teach("iterencode")

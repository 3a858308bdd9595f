"""Parses, compiles and runs one cell.

The last expression is the cell's value. Cells run in the real __main__ module,
so that pickle, dataclasses and typing find what they look for. Plain Python
takes the short way: one compile for a single expression, nothing imported.
Whatever plain Python refuses is offered to IPython once (magics, !commands).

User code shares the interpreter with this module, so what ordinary accidents
can break (sys.modules, builtins, the recursion limit, a trace function) is set
right before and after each cell, from private references.
"""

import ast
import builtins
import os
import sys
import types

import _carrel_host

from _carrel import (
    answers, awaiting, failure, figures, identity, render, reserve, shell_magics, sources, streams)

NOTHING = render.NOTHING
NO_VALUE = (0, "none", "", "", "", "", "", "", 0)

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_TREE = ast.PyCF_ONLY_AST
_FUTURES = 0
for _name in __import__("__future__").all_feature_names:
    _FUTURES |= getattr(__import__("__future__"), _name).compiler_flag
_CO_COROUTINE = 0x80
_LINE_CHARS_MAX = 512
# Enough for what runs around a cell, whatever limit the user's code set for itself.
_OWN_RECURSION_LIMIT = 1000

_main = sys.modules.get("__main__") or types.ModuleType("__main__")
_modules = sys.modules
_future_flags = 0
_last_shown = NOTHING
_names = {}
_user_recursion_limit = None
_user_trace = None
_user_profile = None

_gettrace, _settrace = sys.gettrace, sys.settrace
_getprofile, _setprofile = sys.getprofile, sys.setprofile
_getrecursionlimit, _setrecursionlimit = sys.getrecursionlimit, sys.setrecursionlimit
_getpid, _exit = os.getpid, os._exit
_session_pid = _carrel_host.session_pid


def main_module():
    """Returns the module whose namespace is the session's."""
    return _main


def run(source, empty_namespace, values=False):
    """Runs one cell; see run_cell() in the package for the answer."""
    reserve.hold()
    name = sources.add(source)
    streams.ensure()
    figures.begin_cell()
    module = _empty_module() if empty_namespace else _main
    if _modules.get("__main__") is not module or sys.modules is not _modules:
        _set_main(module)
    try:
        answer = _run_in(module, source, name, not empty_namespace, values)
    finally:
        if awaiting.waiting_loops:
            _end_calls()
        if empty_namespace:
            # Its namespace lives on for as long as a thread or a callback of the cell needs it.
            _set_main(_main)
    streams.flush()
    return answer


def _empty_module():
    module = types.ModuleType("__main__")
    module.__dict__.update(_names)
    return module


def _settle(failure):
    """Waits for the calls that the cell has not awaited, unless it was to end at once."""
    if failure is None or isinstance(failure, Exception):
        answers.settle()


def _end_calls():
    from _carrel import calls
    calls.end_cell()


def _set_main(module):
    _modules["__main__"] = module
    if sys.modules is not _modules:
        sys.modules["__main__"] = module
    # After sys.modules.clear(): what the import system itself stands on.
    for needed in (sys, builtins, os):
        _modules.setdefault(needed.__name__, needed)
    shell_magics.use_module(module)


def _run_in(module, source, name, keeps_last, values):
    namespace = module.__dict__
    if "__builtins__" not in namespace:
        namespace["__builtins__"] = builtins
    ran = False
    try:
        try:
            body, last = compile_cell(source, name)
        except MemoryError:
            if not reserve.spend():
                raise
            body, last = compile_cell(source, name)
        shell_magics.wanted_by(source)
        ran = True
        try:
            value = _execute(body, last, namespace, values)
        finally:
            if answers.unused:
                _settle(sys.exc_info()[1])
        if _getpid() != _session_pid():
            _leave_child(0)
        value = answers.value_of(value)
        if value is NOTHING:
            answer = NO_VALUE
        else:
            if keeps_last and value is not None:
                _remember(value, namespace)
            answer = render.value_answer(value) if values else render.answer(value)
    except BaseException as exc:
        if _getpid() != _session_pid():
            _fail_child(exc)
        answer = failure.outcome(exc, ran)
    return figures.end_cell(answer)


def _execute(body, last, namespace, values):
    """Runs the compiled cell; returns its value, or NOTHING.

    A caller that wants values has no use for a coroutine: it is awaited.
    """
    value = NOTHING
    flags = (0 if body is None else body.co_flags) | (0 if last is None else last.co_flags)
    _hand_over()
    try:
        if flags & _CO_COROUTINE:
            value = awaiting.run(_await_both(body, last, namespace, values))
        else:
            if body is not None:
                eval(body, namespace)
            if last is not None:
                value = eval(last, namespace)
                if values and type(value) is types.CoroutineType:
                    value = awaiting.run(value)
    finally:
        # Before any call: a trace function must not see ours.
        trace, profile = _gettrace(), _getprofile()
        if trace is not None:
            _settrace(None)
        if profile is not None:
            _setprofile(None)
        _take_back(trace, profile)
    return value


async def _await_both(body, last, namespace, values):
    """Runs a cell that awaits somewhere: all of it sees the running loop."""
    if body is not None:
        made = eval(body, namespace)
        if body.co_flags & _CO_COROUTINE:
            await made
    if last is None:
        return NOTHING
    value = eval(last, namespace)
    if last.co_flags & _CO_COROUTINE:
        value = await value
    kind = type(value)
    if kind is answers.NotAwaited or (values and kind is types.CoroutineType):
        value = await value
    return value


def _hand_over():
    """Gives the user's code the interpreter's settings as it last left them."""
    if _user_recursion_limit is not None:
        try:
            _setrecursionlimit(_user_recursion_limit)
        except RecursionError:
            pass
    if _user_trace is not None:
        _settrace(_user_trace)
    if _user_profile is not None:
        _setprofile(_user_profile)


def _take_back(trace, profile):
    """Keeps trace functions and a low recursion limit away from our own code."""
    global _user_trace, _user_profile, _user_recursion_limit
    _user_trace, _user_profile = trace, profile
    limit = _getrecursionlimit()
    if limit < _OWN_RECURSION_LIMIT:
        _user_recursion_limit = limit
        _setrecursionlimit(_OWN_RECURSION_LIMIT)
    else:
        _user_recursion_limit = None


def compile_cell(source, name):
    """Compiles a cell; returns (body, last), either of them None when there is none.

    Raises what the compiler raises, after IPython had its chance with the source.
    """
    flags = _AWAIT | _future_flags
    in_loop = identity.concerns(source)
    if len(source) <= _LINE_CHARS_MAX and "\n" not in source and not in_loop:
        try:
            return None, compile(source, name, "eval", flags, True)
        except SyntaxError:
            pass
        if ";" not in source:
            # One line that is no expression and holds no ";" cannot end in an expression.
            try:
                body = compile(source, name, "exec", flags, True)
                _keep_futures(body)
                return body, None
            except SyntaxError as exc:
                error = exc
            return _compile_magic(source, name, error)
    try:
        tree = compile(source, name, "exec", flags | _TREE, True)
    except SyntaxError as exc:
        error = exc
    else:
        return _compile_tree(identity.change(tree) if in_loop else tree, source, name)
    return _compile_magic(source, name, error)


def _compile_tree(tree, source, name):
    statements = tree.body
    value = None
    if statements and type(statements[-1]) is ast.Expr:
        last = statements[-1]
        if not _is_silenced(source, last):
            value = ast.Expression(last.value)
            statements.pop()
    body = None
    if statements:
        body = compile(tree, name, "exec", _AWAIT | _future_flags, True)
        _keep_futures(body)
    if value is not None:
        value = compile(value, name, "eval", _AWAIT | _future_flags, True)
    return body, value


def _is_silenced(source, statement):
    """Says whether a ";" follows the last expression: its value is then not shown."""
    if ";" not in source:
        return False
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rest = lines[statement.end_lineno - 1].encode("utf-8", "surrogatepass")
    rest = rest[statement.end_col_offset:].lstrip(b" \t\f)")
    return rest.startswith(b";")


def _compile_magic(source, name, error):
    """Compiles what IPython makes of a cell that is not plain Python, or raises error."""
    changed = shell_magics.transform(source)
    if changed is None or changed == source:
        raise error.with_traceback(None)
    sources.replace(name, changed)
    tree = compile(changed, name, "exec", _AWAIT | _TREE | _future_flags, True)
    return _compile_tree(
        identity.change(tree) if identity.concerns(changed) else tree, changed, name)


def _keep_futures(code):
    """Carries `from __future__ import …` over to the cells that follow."""
    global _future_flags
    _future_flags |= code.co_flags & _FUTURES


def _remember(value, namespace):
    """Sets `_`, unless the user's code has a `_` of its own."""
    global _last_shown
    if namespace.get("_", _last_shown) is _last_shown and not hasattr(builtins, "_"):
        namespace["_"] = _last_shown = value


def _leave_child(code):
    """Ends a process that the cell forked: only the session itself may answer."""
    streams.flush()
    _exit(code)


def _fail_child(exc):
    code = 1
    try:
        if isinstance(exc, SystemExit):
            code = failure.exit_code(exc)
        else:
            streams.note(failure.traceback_of(exc).rstrip("\n"))
    finally:
        _leave_child(code)


def offer(names):
    """Sets the names that every namespace begins with."""
    global _names
    _names = names
    _main.__dict__.update(names)


def forget():
    """Undoes what cells left in the prelude: for what is run before there is a user."""
    global _last_shown, _future_flags
    if _main.__dict__.get("_", NOTHING) is _last_shown:
        _main.__dict__.pop("_", None)
    _last_shown = NOTHING
    _future_flags = 0
    sources.forget()
    awaiting.forget()

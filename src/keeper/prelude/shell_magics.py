"""IPython in a session: magics, !commands, obj?, and its display machinery.

IPython is loaded only by a cell that plain Python refuses, or by user code that
imports it. Its shell works on the session's own namespace, keeps no history,
starts no thread, touches no file and no colour, and shows through our displays.
The shell's class is in ipython_shell, which needs IPython to be imported.
"""

import builtins
import sys

_shell = None
_failed = False
_module = None

# What a cell that only IPython understands holds, or begins with.
_MARKS = ("!", "%", "?")
_PROMPTS = (" ", "\t", ">>>", "In [")


def build():
    """Builds the shell, once. Returns it, or None where IPython is not to be had."""
    global _shell, _failed
    if _shell is not None or _failed:
        return _shell
    from _carrel import hooks
    hooks.done("IPython")
    try:
        from _carrel import ipython_shell
        _shell = ipython_shell.build(_current_module())
    except Exception:
        # Not installed, or of a version that we cannot build a shell with.
        _failed = True
        return None
    builtins.get_ipython = _shell.get_ipython
    return _shell


def wanted_by(source):
    """Builds the shell for a cell that names get_ipython, so that the builtin is there."""
    if _shell is None and not _failed and "get_ipython" in source:
        build()


def transform(source):
    """Returns what IPython makes of a cell that is not plain Python, or None."""
    if not (any(mark in source for mark in _MARKS) or source.lstrip("\n").startswith(_PROMPTS)):
        return None
    shell = build()
    if shell is None:
        return _dedented(source)
    try:
        changed = shell.transform_cell(source)
    except SyntaxError:
        return None
    shell.prepare_namespace(changed)
    return changed


def _dedented(source):
    """The one thing that can be done without IPython: a cell pasted with its indentation."""
    import textwrap
    return textwrap.dedent(source)


def use_module(module):
    """Makes the shell work in this __main__ module."""
    global _module
    _module = module
    if _shell is not None:
        _shell.use_module(module)


def _current_module():
    return _module or sys.modules["__main__"]


def text_formatter():
    """Returns the shell's text/plain formatter, or None while there is no shell."""
    return None if _shell is None else _shell.display_formatter.formatters["text/plain"]


def has_own_printers():
    """Says whether user code taught the shell to print some class in its own way."""
    return _shell is not None and _shell.has_own_printers()

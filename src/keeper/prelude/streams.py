"""stdin, stdout and stderr of a session, over descriptors 0, 1 and 2.

What user code puts in their place stays there from cell to cell, as in any
Python session, unless it can no longer be written to.
"""

import io
import sys

import _carrel_host

_stdout = _stderr = _stdin = None


def open_all():
    """Opens all three afresh. stdin is expected to be at its end already."""
    global _stdin, _stdout, _stderr
    _stdin = sys.stdin = sys.__stdin__ = _open(0, "r", "<stdin>")
    _stdout = sys.stdout = sys.__stdout__ = _open(1, "w", "<stdout>")
    _stderr = sys.stderr = sys.__stderr__ = _open(2, "w", "<stderr>")


def _open(fd, mode, name):
    try:
        raw = io.FileIO(fd, mode, closefd=False)
    except OSError:
        # User code closed the descriptor itself: Python's own answer to that is None.
        return None
    raw.name = name
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace",
                              line_buffering=(mode == "w"))
    stream.mode = mode
    return stream


def ensure():
    """Mends what user code left broken. Cheap when nothing is."""
    try:
        if (sys.stdout is _stdout and sys.stderr is _stderr and sys.stdin is _stdin
                and not _stdout.closed and not _stderr.closed and not _stdin.closed):
            return
    except AttributeError:
        pass
    _mend()


def _mend():
    global _stdin, _stdout, _stderr
    if not _usable(getattr(sys, "stdout", None), "write"):
        if not _usable(_stdout, "write"):
            _stdout = sys.__stdout__ = _open(1, "w", "<stdout>")
        sys.stdout = _stdout
    if not _usable(getattr(sys, "stderr", None), "write"):
        if not _usable(_stderr, "write"):
            _stderr = sys.__stderr__ = _open(2, "w", "<stderr>")
        sys.stderr = _stderr
    if not _usable(getattr(sys, "stdin", None), "readline"):
        if not _usable(_stdin, "readline"):
            _stdin = sys.__stdin__ = _open(0, "r", "<stdin>")
        sys.stdin = _stdin


def _usable(stream, method):
    try:
        return (stream is not None and callable(getattr(stream, method))
                and not getattr(stream, "closed", False))
    except Exception:
        return False


def flush():
    """Flushes both, and ours beneath when user code put others in their place."""
    out, err = getattr(sys, "stdout", None), getattr(sys, "stderr", None)
    _flush_one(out)
    _flush_one(err)
    if out is not _stdout:
        _flush_one(_stdout)
    if err is not _stderr:
        _flush_one(_stderr)


def _flush_one(stream):
    if stream is None:
        return
    try:
        stream.flush()
    except Exception:
        pass


def note_cut(**parts):
    """Tells the server what is left out: characters of the value's or the error's text, displays."""
    for what, count in parts.items():
        _carrel_host.cut(what, count)


def note(text):
    """Writes a remark of ours to stderr, as one line."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except Exception:
        pass

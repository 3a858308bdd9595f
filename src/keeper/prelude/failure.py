"""An exception as the caller sees it: name, value, traceback, limit, exit code.

The traceback has the layout of Python's own, with the user's source lines and
without the frames of the machinery that ran the cell. Every text is bounded and
can be encoded as UTF-8, whatever the exception's own methods do.
"""

import sys
import traceback

from _carrel import limits, packages, sources, streams

VALUE_CHARS_MAX = 64 * 1024
TRACEBACK_CHARS_MAX = 256 * 1024
# A longer stack keeps its inner end, where the error is.
FRAMES_MAX = 1000

# Frames that lead from the C side to the cell: ours, and the event loop's.
_LEADING = ("<_carrel", "/asyncio/", "/selectors.py")
# Between a magic in the cell and the code it runs.
_OF_MAGICS = ("/IPython/", "/traitlets/", "/decorator.py")

UNEXPLAINED = (1, "none", "", "", "SystemError", "the cell could not be answered",
               "SystemError: the cell could not be answered\n", "", 0)


def encodable(text):
    """Returns text without lone surrogates: they become their backslash escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()


def outcome(exc, ran=True):
    """Returns run_cell()'s answer for an exception that escaped the cell.

    ran is False when the cell did not compile: a MemoryError is then the parser's
    way to say "too deep", and not the session's memory limit.
    """
    status, code = 1, 0
    if isinstance(exc, SystemExit):
        status, code = 3, exit_code(exc)
    elif isinstance(exc, KeyboardInterrupt):
        status = 2
    limit = limit_of(exc) if ran else ""
    if isinstance(exc, ModuleNotFoundError):
        packages.explain(exc)
    return (status, "none", "", "", name_of(exc), value_of(exc),
            "" if status == 3 else traceback_of(exc), limit, code)


def limit_of(exc):
    try:
        return limits.of(exc)
    except Exception:
        return ""


def name_of(exc):
    """Returns the exception's class name, without its module."""
    try:
        return encodable(type.__getattribute__(type(exc), "__name__"))
    except Exception:
        return "Exception"


def value_of(exc):
    """Returns str(exc), bounded; a __str__ that raises gives a remark in its place."""
    try:
        text = str(exc)
        if type(text) is not str:
            text = str.__str__(text)
    except Exception:
        return "<exception str() failed>"
    if len(text) > VALUE_CHARS_MAX:
        streams.note_cut(error=len(text) - VALUE_CHARS_MAX)
        text = f"{text[:VALUE_CHARS_MAX]}… [cut: {len(text)} characters in all]"
    return encodable(text)


def describe(exc):
    """Returns one line: the class name and, if there is one, the value."""
    value = value_of(exc)
    return f"{name_of(exc)}: {value}" if value else name_of(exc)


def exit_code(exc):
    """Returns the code Python would exit with.

    A code that is not a number is a message, and goes to stderr as Python does it.
    """
    code = exc.code
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code) & 0xFF
    try:
        print(code, file=sys.stderr)
    except Exception:
        pass
    return 1


def traceback_of(exc):
    """Returns the traceback as text, ending in a newline. Never raises an Exception."""
    try:
        sources.restore()
        shown = traceback.TracebackException(
            type(exc), exc, exc.__traceback__, limit=_frame_limit(exc.__traceback__),
            compact=True)
        _strip(shown, set())
        text = "".join(shown.format(chain=True))
    except Exception:
        # User code may have broken what the traceback module stands on.
        text = _plain(exc)
    return encodable(_bounded(text))


def _frame_limit(tb):
    depth = 0
    while tb is not None and depth <= FRAMES_MAX:
        tb = tb.tb_next
        depth += 1
    return -FRAMES_MAX if depth > FRAMES_MAX else None


def _strip(shown, seen):
    """Drops our frames from `shown` and from all that hangs on it."""
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    stack = shown.stack
    stack[:] = _without_machinery(stack)
    if isinstance(getattr(shown, "lineno", None), (int, str)) and shown.text is None:
        _add_line(shown)
    _strip(shown.__cause__, seen)
    _strip(shown.__context__, seen)
    for part in shown.exceptions or ():
        _strip(part, seen)


def _without_machinery(stack):
    first = next((index for index, frame in enumerate(stack)
                  if frame.filename.startswith(sources.PREFIX)), None)
    if first is None:
        first = 0
        while first < len(stack) and _is_machinery(stack[first].filename):
            first += 1
    stack = _without_ours(stack[first:])
    if any(frame.name == "run_line_magic" or frame.name == "run_cell_magic" for frame in stack):
        stack = [frame for frame in stack
                 if not any(part in frame.filename for part in _OF_MAGICS)]
    return stack


def _without_ours(stack):
    """Drops our frames, and those of the event loop or thread by which we ran a skill."""
    kept = []
    after_ours = False
    for frame in stack:
        if frame.filename.startswith("<_carrel"):
            after_ours = True
        elif not (after_ours and _is_machinery(frame.filename)):
            after_ours = False
            kept.append(frame)
    return kept


def _is_machinery(filename):
    return any(part in filename for part in _LEADING)


def _add_line(shown):
    """Gives a SyntaxError its source line: the compiler has none when it starts from a tree."""
    if shown.exc_type is None or not issubclass(shown.exc_type, SyntaxError):
        return
    text = sources.line(shown.filename or "", int(shown.lineno))
    if text:
        shown.text = text


def _plain(exc):
    lines = ["Traceback (most recent call last):\n"]
    tb = exc.__traceback__
    while tb is not None and len(lines) < 64:
        code = tb.tb_frame.f_code
        if not _is_machinery(code.co_filename):
            lines.append(f'  File "{code.co_filename}", line {tb.tb_lineno}, in {code.co_name}\n')
            source = sources.line(code.co_filename, tb.tb_lineno).strip()
            if source:
                lines.append(f"    {source}\n")
        tb = tb.tb_next
    lines.append(describe(exc) + "\n")
    return "".join(lines)


def _bounded(text):
    if len(text) <= TRACEBACK_CHARS_MAX:
        return text
    half = TRACEBACK_CHARS_MAX // 2
    streams.note_cut(error=len(text) - 2 * half)
    return f"{text[:half]}\n… [cut: {len(text)} characters in all]\n{text[-half:]}"

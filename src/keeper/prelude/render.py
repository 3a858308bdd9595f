"""The type and the text of a cell's value.

The text is what a notebook shows as text/plain: IPython's pretty printer where
layout matters (long containers, sets, classes, functions), repr() where the two
agree, so that most cells never load IPython. Never longer than TEXT_BYTES_MAX.
"""

import math
import re

from _carrel import bundle, shell_magics, streams
from _carrel.failure import encodable

TEXT_BYTES_MAX = 1024 * 1024
# Past this many characters the pretty printer is stopped; until then it is only counted.
COUNTED_CHARS_MAX = 16 * 1024 * 1024
# Room for the remark that says a text was cut.
_MARK_BYTES_MAX = 128
WIDTH = 79
SEQUENCE_MAX = 1000
_SHORT_MAX = 40

_INT64_MIN, _INT64_MAX = -2**63, 2**63 - 1
# Python writes these, whatever the limit that user code has set for itself.
_PLAIN_BITS = 2000
_SCALARS = frozenset((int, float, bool, str, type(None)))


class _Nothing:
    __slots__ = ()


# Stands for "the cell has no value", which None does not.
NOTHING = _Nothing()


def answer(value):
    """Returns run_cell()'s answer for a value, after sending its displays.

    Raises what the value's own representation raises.
    """
    kind = type(value)
    if kind is int:
        return (0, "int", *_int(value), "", "", "", "", 0)
    if kind is str:
        return (0, "str", "", bounded(value), "", "", "", "", 0)
    if value is None:
        return (0, "null", "null", "None", "", "", "", "", 0)
    if kind is float:
        text = repr(value)
        return (0, "float", text if math.isfinite(value) else "null", text, "", "", "", "", 0)
    if kind is bool:
        return (0, "bool", "true" if value else "false", repr(value), "", "", "", "", 0)
    text = short_text(value)
    if text is None:
        text = bundle.display_value(value)
    if text is None:
        text = text_of(value)
    return (0, "other", "", text, "", "", "", "", 0)


def value_answer(value):
    """Returns run_cell()'s answer for a caller that wants the value as JSON, whatever its type.

    The text is left out where the JSON says the same.
    """
    from _carrel import values

    kind, text = "other", ""
    for own, name in _KINDS:
        if type(value) is own:
            kind = name
            break
    else:
        if short_text(value) is None:
            text = bundle.display_value(value) or ""
    return (0, kind, values.to_json(value), text, "", "", "", "", 0)


_KINDS = ((type(None), "null"), (bool, "bool"), (int, "int"), (float, "float"), (str, "str"))


def _int(value):
    """Returns (json_text, text) of an int of any size."""
    if _INT64_MIN <= value <= _INT64_MAX:
        text = repr(value)
        return text, text
    if value.bit_length() <= _PLAIN_BITS:
        return "", repr(value)
    from _carrel import digits
    if value.bit_length() <= 3 * TEXT_BYTES_MAX:
        # A digit is at least that many bits.
        return "", digits.text_of(value)
    leading, least = digits.leading_of(value)
    return "", leading + _cut_mark(least - 1, len(leading), True)


def short_text(value):
    """Returns repr(value) for a small builtin container of scalars, else None.

    For these, and only while they fit one line, repr() is what IPython prints.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        if len(value) > _SHORT_MAX:
            return None
        for item in value:
            if type(item) not in _SCALARS:
                return None
    elif kind is dict:
        if len(value) > _SHORT_MAX:
            return None
        for key, item in value.items():
            if type(key) not in _SCALARS or type(item) not in _SCALARS:
                return None
    else:
        return None
    text = repr(value)
    return encodable(text) if len(text) <= WIDTH else None


def text_of(value):
    """Returns the text/plain representation. Raises what the value's methods raise."""
    if repr_is_enough(type(value)):
        return bounded(repr(value))
    printer = _pretty_module()
    if printer is None:
        return bounded(_plain_pretty(value))
    stream = _BoundedText()
    try:
        _print_pretty(printer, value, stream)
    except _TooLong:
        pass
    return stream.text()


def repr_is_enough(kind):
    """Says whether IPython would print an object of this class with its plain repr().

    That is so when a class that defines __repr__ comes first among its bases, before any
    class IPython has a printer of its own for.
    """
    if shell_magics.has_own_printers():
        return False
    for cls in kind.__mro__:
        own = cls.__dict__
        if cls in _PRETTY_TYPES or "_repr_pretty_" in own:
            return False
        if cls.__module__ in ("collections", "types", "sys", "builtins"):
            return cls in _PLAIN_TYPES
        if cls is not object and "__repr__" in own:
            return True
    return False


# The printer's own way with these differs from repr(), …
_PRETTY_TYPES = frozenset((
    list, tuple, dict, set, frozenset, type, BaseException, super, slice, object,
    type(repr_is_enough), type(len), type(re.compile("")), type(vars(int)),
    type(NOTHING.__init__), type([].append)))
# … and with these it does not.
_PLAIN_TYPES = frozenset((
    bool, bytes, bytearray, complex, float, int, memoryview, range, str, type(Ellipsis)))


def _pretty_module():
    try:
        from IPython.lib import pretty
        return pretty
    except Exception:
        return None


def _print_pretty(pretty, value, stream):
    formatter = shell_magics.text_formatter()
    tables = {}
    if formatter is not None:
        tables = {"singleton_pprinters": formatter.singleton_printers,
                  "type_pprinters": formatter.type_printers,
                  "deferred_pprinters": formatter.deferred_printers}
    printer = pretty.RepresentationPrinter(
        stream, False, WIDTH, "\n", max_seq_length=SEQUENCE_MAX, **tables)
    printer.pretty(value)
    printer.flush()


def _plain_pretty(value):
    """The pretty printer's stand-in where IPython is not installed."""
    import itertools
    import pprint

    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > SEQUENCE_MAX:
        kind = type(value)
        items = value.items() if isinstance(value, dict) else value
        part = itertools.islice(items, SEQUENCE_MAX)
        shown = pprint.pformat(dict(part) if isinstance(value, dict) else list(part),
                               width=WIDTH + 1, sort_dicts=False)
        return f"{shown}\n… [{kind.__name__} cut: {len(value)} items in all]"
    return pprint.pformat(value, width=WIDTH + 1, sort_dicts=False)


class _TooLong(BaseException):
    """Stops the pretty printer. Not an Exception, so that no printer swallows it."""


class _BoundedText:
    """A stream that keeps TEXT_BYTES_MAX characters and counts the rest."""

    def __init__(self):
        self.parts = []
        self.kept = 0
        self.chars = 0
        self.stopped = False

    def write(self, text):
        self.chars += len(text)
        if self.kept < TEXT_BYTES_MAX:
            text = text[:TEXT_BYTES_MAX - self.kept + 1]
            self.parts.append(text)
            self.kept += len(text)
        elif self.chars > COUNTED_CHARS_MAX:
            self.stopped = True
            raise _TooLong

    def text(self):
        return bounded("".join(self.parts), self.chars, self.stopped)


def bounded(text, chars=None, more=False):
    """Returns text cut to TEXT_BYTES_MAX bytes of UTF-8, with a mark where it was cut.

    chars: the length before an earlier cut; more: that length is itself only a lower bound.
    """
    if type(text) is not str:
        text = str.__str__(text)
    chars = len(text) if chars is None else chars
    if len(text) * 4 <= TEXT_BYTES_MAX and chars == len(text):
        return encodable(text)
    data = text[:TEXT_BYTES_MAX + 1].encode("utf-8", "backslashreplace")
    if len(data) <= TEXT_BYTES_MAX and chars == len(text):
        return data.decode()
    kept = data[:TEXT_BYTES_MAX - _MARK_BYTES_MAX].decode("utf-8", "ignore")
    return kept + _cut_mark(chars, len(kept), more)


def _cut_mark(chars, kept, more):
    """Returns the remark behind a text that is cut, and tells how much is left out."""
    streams.note_cut(value=chars - kept)
    return f"… [cut: {'more than ' if more else ''}{chars} characters in all]"

"""The value of a cell as JSON, for callers that want values and not texts.

    None, bool, int, float, str    as they are
    dict, list, tuple, frozenset   element by element; keys that JSON does not know as their str()
    dataclass instances            objects
    everything else                its str()

JSON has no NaN, no infinities and no lone surrogates: the first two become the
texts "nan", "inf" and "-inf", the last the text of its escape. A value that is
nested deeper than DEPTH_MAX (or holds itself), or longer than CHARS_MAX as
JSON, is a text that says so.
"""

import dataclasses
import json
import math

from _carrel.answers import NotAwaited, value_of
from _carrel.failure import encodable

CHARS_MAX = 8 * 1024 * 1024 - 1024
DEPTH_MAX = 100
# Each element costs at least two characters.
_ELEMENTS_MAX = CHARS_MAX // 2
_TOO_LARGE = "larger than 8 MiB as JSON"

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False,
                            separators=(",", ":"))


class _NotShown(Exception):
    """Carries why the value is not shown."""


def to_json(value):
    """Returns JSON text. Raises what the value's own methods raise."""
    try:
        text = _encoder.encode(_Plain().of(value, 0))
        if len(text) <= CHARS_MAX // 4 or len(text.encode()) <= CHARS_MAX:
            return text
    except _NotShown as exc:
        return _encoder.encode(f"<{type(value).__name__}: {exc}>")
    except ValueError as exc:
        if "integer string conversion" not in str(exc):
            raise
        return _encoder.encode(f"<{type(value).__name__}: it holds an integer with too many digits>")
    return _encoder.encode(f"<{type(value).__name__}: {_TOO_LARGE}>")


class _Plain:
    """Turns a value into one that JSON has, counting what it makes."""

    def __init__(self):
        self.elements = 0
        self.chars = 0

    def of(self, value, depth):
        kind = type(value)
        if value is None or kind is bool or kind is int:
            return value
        if kind is float:
            return value if math.isfinite(value) else repr(value)
        if kind is str:
            return self._text(value)
        if kind is NotAwaited:
            return self.of(value_of(value), depth)
        if isinstance(value, dict):
            pairs = value.items()
        elif isinstance(value, (list, tuple, frozenset)):
            self._enter(len(value), depth)
            return [self.of(item, depth + 1) for item in value]
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            pairs = [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
        else:
            return self._other(value)
        self._enter(len(pairs), depth)
        return {self._key(key): self.of(item, depth + 1) for key, item in pairs}

    def _enter(self, count, depth):
        self.elements += count
        if self.elements > _ELEMENTS_MAX:
            raise _NotShown(_TOO_LARGE)
        if depth > DEPTH_MAX:
            raise _NotShown(f"nested deeper than {DEPTH_MAX}")

    def _text(self, text):
        self.chars += len(text)
        if self.chars > CHARS_MAX:
            raise _NotShown(_TOO_LARGE)
        return encodable(text)

    def _other(self, value):
        # Subclasses of int, float and str are what they are, enum members as json shows them.
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return self.of(float(value), 0)
        return self._text(str(value))

    def _key(self, key):
        if key is None or isinstance(key, bool):
            return {None: "null", True: "true", False: "false"}[key]
        return self._text(str(key))

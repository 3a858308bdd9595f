"""Rich representations: a value, or display()'s arguments, as MIME data.

A bundle is sent the moment it is made, in order with what is printed. A
representation that fails is left out; one larger than DATUM_BYTES_MAX is left
out with a remark on stderr.
"""

import base64
import re
import sys

import _carrel_host

from _carrel import streams
from _carrel.answers import value_of
from _carrel.failure import encodable

DATUM_BYTES_MAX = 16 * 1024 * 1024

_REPRS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
    ("_repr_javascript_", "application/javascript"),
    ("_repr_pdf_", "application/pdf"),
)

# Exact types that have no rich representation: most values, and not worth ten lookups.
_PLAIN = frozenset((list, tuple, dict, set, frozenset, bytes, bytearray, complex, range, int,
                    float, bool, str, type(None), type, type(len), type(lambda: None),
                    type(sys)))
# An object that claims to have this attribute claims to have any.
_CANARY = "_ipython_canary_method_should_not_exist_"
def display_value(value):
    """Sends the bundle of a cell's value and returns its text/plain.

    Returns None, with nothing sent, when the value has no rich representation.
    Raises what making its text/plain raises.
    """
    data = rich(value)
    if data is None:
        return None
    text = _text_of(value)
    if not data:
        return text
    data.setdefault("text/plain", text)
    data = _with_text(data)
    publish(data)
    text = data["text/plain"]
    return encodable(text) if type(text) is str else _text_of(value)


def rich(value, include=None, exclude=None):
    """Returns a value's rich representations, {} if it shows itself, None if it has none."""
    if type(value) in _PLAIN or isinstance(value, type):
        return None
    from _carrel import figures
    if figures.is_figure(value):
        return figures.show_value(value)
    if _has_any_attribute(value):
        return None
    shows_itself = _method(value, "_ipython_display_")
    if shows_itself is not None:
        try:
            shows_itself()
            return {}
        except Exception:
            pass
    data = {}
    for name, mime in _REPRS:
        method = _method(value, name)
        if method is not None:
            _take(data, mime, method)
    method = _method(value, "_repr_mimebundle_")
    if method is not None:
        _take_bundle(data, method, include, exclude)
    return data or None


def _has_any_attribute(value):
    try:
        return getattr(value, _CANARY, None) is not None
    except Exception:
        return True


def _method(value, name):
    try:
        method = getattr(value, name, None)
    except Exception:
        return None
    return method if callable(method) else None


def _take(data, mime, method):
    try:
        made = method()
    except Exception:
        return
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict):
        made = made[0]
    if made is not None:
        data[mime] = made


def _take_bundle(data, method, include, exclude):
    try:
        made = method(include=include, exclude=exclude)
        if isinstance(made, tuple):
            made = made[0]
        data.update(made or {})
    except Exception:
        pass


def publish(data):
    """Sends one bundle, {MIME type: str, bytes, or what JSON can carry}."""
    items = []
    for mime, datum in _with_text(data).items():
        if datum is None:
            continue
        try:
            encoded = _encoded(mime, datum)
        except Exception as exc:
            streams.note(f"display: {mime} left out: {type(exc).__name__}: {exc}")
            continue
        if len(encoded) > DATUM_BYTES_MAX:
            streams.note(f"display: {mime} of {len(encoded)} bytes left out: "
                         f"more than {DATUM_BYTES_MAX}")
            continue
        items.append((encodable(str(mime)), encoded))
    if items:
        streams.flush()
        try:
            _carrel_host.display(tuple(items))
        except OSError:
            # Nobody is listening any more: the session is about to end.
            pass


# What IPython's display objects say of themselves as text: nothing.
_SAYS_NOTHING = re.compile(r"<IPython\.core\.display\.\w+ object>")
_TEXTS = ("text/markdown", "text/html", "text/latex", "application/json")


def _with_text(data):
    """A bundle with a text of what it shows, for those who see nothing else."""
    text = data.get("text/plain")
    if text is not None and not (type(text) is str and _SAYS_NOTHING.fullmatch(text)):
        return data
    for mime in _TEXTS:
        datum = data.get(mime)
        if datum is None:
            continue
        try:
            text = _encoded(mime, datum).decode()
            if mime == "text/html":
                from _carrel import html_text
                text = html_text.of(text)
        except Exception:
            continue
        return {**data, "text/plain": text}
    return data


def _encoded(mime, datum):
    if isinstance(datum, (bytes, bytearray, memoryview)):
        return bytes(datum)
    if isinstance(datum, str):
        if _is_binary(mime):
            return base64.b64decode(datum)
        return datum.encode("utf-8", "backslashreplace")
    if mime == "application/json" or mime.endswith("+json"):
        return _json(datum)
    if isinstance(datum, (list, tuple)):
        # The notebook format allows text as a list of lines.
        return "".join(map(str, datum)).encode("utf-8", "backslashreplace")
    return str(datum).encode("utf-8", "backslashreplace")


def _is_binary(mime):
    if mime.startswith(("image/", "audio/", "video/")):
        return mime != "image/svg+xml"
    return mime == "application/pdf"


def _json(value):
    import json
    try:
        text = json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        # NaN and infinities: JSON has none, so they become null.
        text = json.dumps(json.loads(json.dumps(value, default=str),
                                     parse_constant=lambda name: None))
    return text.encode("utf-8", "backslashreplace")


def _text_of(value):
    from _carrel import render
    return render.text_of(value)


def display(*objs, include=None, exclude=None, metadata=None, transient=None, display_id=None,
            raw=False, clear=False, **kwargs):
    """Shows objects richly; takes what IPython's display() takes.

    metadata, transient, display_id and clear are accepted and have no effect.
    """
    for obj in map(value_of, objs):
        if raw:
            if not isinstance(obj, dict):
                raise TypeError(f"display(raw=True) takes dicts of MIME data, not {type(obj)!r}")
            publish(obj)
            continue
        data = rich(obj, include, exclude)
        if data == {}:
            continue
        data = dict(data or {})
        data.setdefault("text/plain", _text_of(obj))
        publish(_chosen(data, include, exclude))


def _chosen(data, include, exclude):
    if include:
        data = {mime: datum for mime, datum in data.items() if mime in include}
    if exclude:
        data = {mime: datum for mime, datum in data.items() if mime not in exclude}
    return data

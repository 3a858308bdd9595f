"""artifacts: what outlives the session, by name."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone

from _carrel.answers import value_of
from _carrel.calls import ask, wait_for, Call

DATA_BYTES_MAX = 128 * 1024 * 1024

_loads, _dumps = json.loads, json.dumps


@dataclass
class Artifact:
    """A stored artifact, without its data."""

    name: str
    path: str
    description: str
    metadata: dict = field(default_factory=dict)
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


def _artifact(record):
    if record is None:
        return None
    return Artifact(record["name"], record.get("path", ""), record.get("description") or "",
                    record.get("metadata") or {}, _moment(record.get("created_at")))


def _moment(text):
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _artifacts(records):
    return [_artifact(record) for record in records]


def _nothing(result):
    return None


def _encode(data):
    """Returns (type, bytes or ASCII text). What is neither bytes nor JSON's is its str()."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return "bytes", data
    if isinstance(data, (dict, list)):
        # NaN as JSON's reader in Python knows it, lone surrogates as escapes.
        return "json", _dumps(data, indent=2)
    text = data if isinstance(data, str) else str(data)
    return "text", text if text.isascii() else text.encode("utf-8", "surrogatepass")


def _decode(record, data):
    kind = record.get("type")
    if kind == "bytes":
        return data
    if isinstance(data, bytes):
        try:
            data = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return data
    return _loads(data) if kind == "json" else data


class Artifacts:
    """Data by name, kept for all sessions: save, load, get, list, exists, delete."""

    __slots__ = ("_blocking",)

    def __init__(self, blocking):
        self._blocking = blocking

    @property
    def path(self):
        """Where artifacts are kept."""
        return wait_for(Call("artifacts.path", {}))

    def save(self, name, data, description="", metadata=None):
        """Stores text, bytes, a dict or a list; anything else as its str()."""
        kind, content = _encode(value_of(data))
        size = content.nbytes if isinstance(content, memoryview) else len(content)
        if size > DATA_BYTES_MAX:
            raise ValueError(f"an artifact has at most {DATA_BYTES_MAX} bytes; this one has {size}")
        arguments = {"name": _name(name), "type": kind, "size": size,
                     "description": description, "metadata": metadata or {}}
        return self._ask("artifacts.save", arguments, _artifact, data=content)

    def load(self, name):
        """Returns what was stored, as it was. ArtifactNotFoundError when it is not there."""
        return self._ask("artifacts.load", {"name": _name(name)}, _decode, streams=True)

    def get(self, name):
        """Returns the Artifact, or None."""
        return self._ask("artifacts.get", {"name": _name(name)}, _artifact)

    def list(self):
        """Returns every Artifact."""
        return self._ask("artifacts.list", {}, _artifacts)

    def exists(self, name):
        return self._ask("artifacts.exists", {"name": _name(name)})

    def delete(self, name):
        """Deletes it; none of that name is no error."""
        return self._ask("artifacts.delete", {"name": _name(name)}, _nothing)

    def register(self, name, description, metadata=None):
        """Describes data that is in the store already."""
        arguments = {"name": _name(name), "description": description, "metadata": metadata or {}}
        return self._ask("artifacts.register", arguments, _artifact)

    def _ask(self, method, arguments, convert=None, **options):
        return ask(method, arguments, convert, blocking=self._blocking, **options)

    def __repr__(self):
        return "<artifacts: save, load, get, list, exists, delete, register>"


def _name(name):
    if not isinstance(name, str):
        raise TypeError(f"an artifact's name is a str, not {type(name).__name__}")
    return name

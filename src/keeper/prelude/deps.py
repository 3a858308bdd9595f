"""deps: the packages of the sessions of this space."""

import sys
from dataclasses import dataclass, field

import _carrel_host
from _carrel.calls import ask, wait_for, Call


@dataclass
class SyncResult:
    """What became of each package."""

    installed: set = field(default_factory=set)
    already_present: set = field(default_factory=set)
    failed: set = field(default_factory=set)
    reasons = {}  # why, of what has failed; no field, so that the rest is as it always was


def _synced(result):
    directory = result.get("directory")
    if directory:
        _carrel_host.show_packages(f"{directory}\n")
    reasons = result.get("reasons") or {}
    for package, reason in reasons.items():
        print(f"{package}: {reason}", file=sys.stderr)
    synced = SyncResult(*(set(result.get(key) or ()) for key in (
        "installed", "already_present", "failed")))
    synced.reasons = reasons
    return synced


class Deps:
    """Packages to import: add, list, remove, sync."""

    __slots__ = ("_blocking",)

    def __init__(self, blocking):
        self._blocking = blocking

    def add(self, package):
        """Installs a package now, and for later sessions. Returns a SyncResult."""
        return self._ask("deps.add", {"package": _requirement(package)}, _synced)

    def list(self):
        """Returns what is configured, as requirement lines."""
        return self._ask("deps.list", {})

    def remove(self, package):
        """Takes a package out of the configuration. Returns whether it was there."""
        return self._ask("deps.remove", {"package": _requirement(package)})

    def sync(self):
        """Installs what is configured. Returns a SyncResult."""
        return self._ask("deps.sync", {}, _synced)

    def _ask(self, method, arguments, convert=None):
        return ask(method, arguments, convert, blocking=self._blocking)

    def __getattr__(self, name):
        if name.startswith("_") and not name.startswith("__"):
            raise AttributeError(f"Cannot access internal attribute '{name}'.")
        raise AttributeError(f"'DepsNamespace' object has no attribute '{name}'")

    def __repr__(self):
        try:
            count = len(wait_for(Call("deps.list", {})))
        except Exception:
            return "<DepsNamespace>"
        return f"<DepsNamespace: {count} package(s) configured>"


def _requirement(package):
    if not isinstance(package, str):
        raise TypeError(f"a package is a str, not {type(package).__name__}")
    return package

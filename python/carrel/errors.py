"""What can go wrong between a program and its server.

Errors of the code that runs in a session are not here: they come back as ``ExecutionResult.error``.
Everything below is a ``CarrelError``, which is a ``RuntimeError``.
"""

from __future__ import annotations

from typing import Any, Sequence


class CarrelError(RuntimeError):
    """Something of this package failed; the message says what."""


class ConnectionFailed(CarrelError, ConnectionError):
    """The server cannot be reached, or went away before it had answered.

    A cell that was running then may have run in part or as a whole; it is never sent twice.
    """


class RequestTimeout(CarrelError, TimeoutError):
    """No answer within the time that was given. The connection is closed, which ends the cell."""


class ProtocolError(CarrelError):
    """The other side does not speak HTTP as it should, or sends more than is allowed."""


class ServerNotFound(CarrelError, FileNotFoundError):
    """There is no ``carrel`` program to start a private server with."""


class ServerStartError(CarrelError):
    """A private server was started and ended, or did not become ready; its own words are told."""


class ServerError(CarrelError):
    """The server refused a request.

    status: the HTTP status. detail: what it said, text, or a list of objects for a body that does
    not fit.
    """

    def __init__(self, status: int, detail: Any, text: str | None = None) -> None:
        super().__init__(text if text is not None else describe(status, detail))
        self.status = status
        self.detail = detail


class InvalidRequest(ServerError, ValueError):
    """A name, a source or an argument is not what it has to be (status 400 or 422)."""


class AuthenticationError(ServerError, PermissionError):
    """The token is missing, wrong, or not good for this (status 401 or 403)."""


class ArtifactNotFoundError(ServerError, LookupError):
    """There is no artifact of that name (status 404)."""


class RuntimeDepsDisabledError(ServerError):
    """The server does not let dependencies be changed while it runs (status 403)."""


class DependencyError(CarrelError):
    """Packages that were to be there from the start could not be installed.

    failed: their requirement lines.
    """

    def __init__(self, failed: Sequence[str]) -> None:
        super().__init__(f"could not install {', '.join(failed)}")
        self.failed = list(failed)


def describe(status: int, detail: Any) -> str:
    """One line of a refusal: the server's text, or of each field what is wrong with it."""
    if isinstance(detail, str) and detail:
        return f"{detail} (HTTP status {status})"
    if isinstance(detail, list):
        parts = []
        for item in detail:
            if isinstance(item, dict):
                where = ".".join(str(part) for part in item.get("loc", ()))
                parts.append(f"{where}: {item.get('msg', 'invalid')}")
        if parts:
            return f"{'; '.join(parts)} (HTTP status {status})"
    return f"HTTP status {status}"

"""Isolated Python sessions for code that agents write.

    from carrel import Session, FileStorage

    async with Session(storage=FileStorage("./data")) as session:
        result = await session.run("6 * 7")
        print(result.value)

Without a server's URL this starts a private ``carrel serve`` and stops it at the end;
``ContainerConfig(remote_url=…)`` in ``carrel.execution`` names one that runs. ``carrel.blocking``
has the same Session without ``await``. The standard library is all it needs.
"""

from .blocking import Session as SyncSession
from .client import SessionClient
from .errors import (ArtifactNotFoundError, AuthenticationError, CarrelError, ConnectionFailed,
                     DependencyError, InvalidRequest, ProtocolError, RequestTimeout,
                     RuntimeDepsDisabledError, ServerError, ServerNotFound, ServerStartError)
from .execution import ContainerConfig, ContainerExecutor
from .results import ExecuteResult, ExecutionResult, HealthResult, InfoResult, ResetResult
from .session import Session
from .storage import FileStorage, RedisStorage

__version__ = "0.1.0"

__all__ = [
    "ArtifactNotFoundError", "AuthenticationError", "CarrelError", "ConnectionFailed",
    "ContainerConfig", "ContainerExecutor", "DependencyError", "ExecuteResult", "ExecutionResult",
    "FileStorage", "HealthResult", "InfoResult", "InvalidRequest", "ProtocolError", "RedisStorage",
    "RequestTimeout", "ResetResult", "RuntimeDepsDisabledError", "ServerError", "ServerNotFound",
    "ServerStartError", "Session", "SessionClient", "SyncSession",
]

"""Where code runs: ``ContainerExecutor`` and its ``ContainerConfig``.

    executor = ContainerExecutor(ContainerConfig(timeout=60.0, memory_limit="512m"))
    async with Session(storage=FileStorage("./data"), executor=executor) as session:
        ...
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import ssl
import threading
import warnings
from typing import Any, Mapping, Sequence

from . import _server
from .storage import Storage

__all__ = ["Capability", "ContainerConfig", "ContainerExecutor", "memory_bytes", "cpu_cores"]

# Docker's: a quota is so many microseconds of each 100 ms.
CPU_PERIOD_US = 100_000
CPU_QUOTA_MIN_US = 1_000
MEMORY_BYTES_MIN = 16 << 20
EXECUTION_SECONDS_MAX = 86400
# A session lives as long as its Session object, so it does not end by being idle.
COOLDOWN_SECONDS = 604800
READY_SESSIONS = 2

_MEMORY = re.compile(r"([0-9]{1,15})(b|k|kb|m|mb|g|gb)?", re.IGNORECASE)
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30}


class Capability:
    """What an executor can do, for ``supports``."""

    TIMEOUT = "timeout"
    PROCESS_ISOLATION = "process_isolation"
    NETWORK_ISOLATION = "network_isolation"
    FILESYSTEM_ISOLATION = "filesystem_isolation"
    MEMORY_LIMIT = "memory_limit"
    CPU_LIMIT = "cpu_limit"
    RESET = "reset"
    DEPS_INSTALL = "deps_install"
    DEPS_UNINSTALL = "deps_uninstall"


def memory_bytes(limit: str | int) -> int:
    """Bytes of ``"512m"``, ``"1g"``, ``"64MB"`` or a number of bytes; k, m, g are powers of 1024.

    ValueError for anything else, and below 16 MiB.
    """
    match = _MEMORY.fullmatch(str(limit).strip())
    if match is None or isinstance(limit, bool):
        raise ValueError(f"memory_limit: a size such as '512m', not {limit!r}")
    size = int(match.group(1)) << _UNITS[(match.group(2) or "").lower()[:1]]
    if size < MEMORY_BYTES_MIN:
        raise ValueError(f"memory_limit: {limit!r} is less than a session needs (16m)")
    return size


def cpu_cores(quota: int | float) -> float:
    """Cores of a quota as Docker has it: microseconds of each 100 ms, so 50000 is half a core.

    ValueError below 1000.
    """
    if isinstance(quota, bool) or not isinstance(quota, (int, float)):
        raise ValueError(f"cpu_quota: a number of microseconds, not {quota!r}")
    if quota < CPU_QUOTA_MIN_US:
        raise ValueError(
            f"cpu_quota: {quota!r} is below 1000; it is microseconds of each 100 ms, so half a "
            "core is 50000")
    return quota / CPU_PERIOD_US


@dataclasses.dataclass
class ContainerConfig:
    """How code runs, and where.

    timeout: seconds a cell may take when ``run`` does not say; None: the server's default.
    allow_runtime_deps: whether code in a session may install packages. auth_token: the server's
    token; without a ``remote_url`` a fresh one is made when there is none. auth_disabled: taken for
    the name's sake: without a token none is sent to a remote server, and a private one always has
    one. remote_url: a server that runs already; what follows is then its own business, except
    ``deps``. ssl_context: for an https URL whose certificate the system does not know.

    deps, deps_file: requirement lines; installed by ``Session(sync_deps_on_start=True)``.
    tools_path: a directory of tool definitions, instead of the storage's own.
    network_disabled: sessions have no network, whatever is said here; False is answered with a
    warning. memory_limit: of one session, ``"512m"``; None: the server's default. cpu_quota:
    microseconds of each 100 ms, as in Docker (50000 is half a core); None: the server's default,
    one core. host, port: where the private server listens; port 0 is any free one.
    startup_timeout: seconds until the private server must be ready. environment: added to the
    private server's environment, not to a session's. preload: modules that every session has
    imported already; None: the server's default.

    ValueError for values that make no sense.
    """

    timeout: float | None = 30.0
    allow_runtime_deps: bool = True
    auth_token: str | None = None
    deps: Sequence[str] | None = None
    deps_file: str | os.PathLike[str] | None = None
    network_disabled: bool | None = None
    memory_limit: str | int | None = "512m"
    cpu_quota: int | float | None = None
    remote_url: str | None = None
    auth_disabled: bool = False
    tools_path: str | os.PathLike[str] | None = None
    host: str = "127.0.0.1"
    port: int = 0
    startup_timeout: float = 60.0
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    preload: Sequence[str] | None = None
    ssl_context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout <= EXECUTION_SECONDS_MAX:
            raise ValueError(f"timeout: seconds from more than 0 to {EXECUTION_SECONDS_MAX}")
        if isinstance(self.deps, str):
            raise ValueError("deps: a list of requirement lines, not one text")
        if self.auth_token is not None and not self.auth_token.strip():
            raise ValueError("auth_token: empty (is its environment variable set?)")
        if self.memory_limit is not None:
            memory_bytes(self.memory_limit)
        if self.cpu_quota is not None:
            cpu_cores(self.cpu_quota)
        if self.network_disabled is False and self.remote_url is None:
            warnings.warn("network_disabled=False: sessions have no way to the network yet, so "
                          "code in them reaches it through tools only", stacklevel=3)

    def requirements(self) -> list[str]:
        """The lines of deps and of deps_file, without blank ones and comments. OSError."""
        lines = list(self.deps or ())
        if self.deps_file is not None:
            with open(self.deps_file, encoding="utf-8") as file:
                lines += file.read().splitlines()
        stripped = (line.strip() for line in lines)
        return [line for line in stripped if line and not line.startswith("#")]

    def settings(self) -> dict[str, Any]:
        """The private server's configuration file, but for where it listens and keeps its data."""
        pool: dict[str, Any] = {
            "name": "default",
            "ready_sessions": READY_SESSIONS,
            "cooldown_seconds": COOLDOWN_SECONDS,
            "execution_seconds": EXECUTION_SECONDS_MAX,
        }
        if self.memory_limit is not None:
            pool["memory"] = memory_bytes(self.memory_limit)
        if self.cpu_quota is not None:
            pool["cpu"] = cpu_cores(self.cpu_quota)
        settings: dict[str, Any] = {"pools": [pool], "drain_seconds": 0}
        if self.preload is not None:
            settings["preload"] = list(self.preload)
        return settings

    def server_environment(self) -> dict[str, str]:
        """The private server's environment variables, but for those of the storage."""
        environment = {
            "ALLOW_RUNTIME_DEPS": "true" if self.allow_runtime_deps else "false",
            "MAX_EXECUTION_TIME": str(EXECUTION_SECONDS_MAX),
        }
        if self.timeout is not None:
            environment["DEFAULT_TIMEOUT"] = repr(float(self.timeout))
        requirements = self.requirements()
        if requirements:
            environment["CONTAINER_DEPS"] = ",".join(requirements)
        if self.tools_path is not None:
            environment["TOOLS_PATH"] = os.path.abspath(self.tools_path)
        environment.update(self.environment)
        return environment


class ContainerExecutor:
    """Gives sessions a server: the one at ``config.remote_url``, or a private one.

    Sessions with equal settings and storage share a private server; each has its own isolated
    Python all the same. It starts with the first session and stops with the last. A program that
    opens sessions one after the other keeps it in between by

        async with ContainerExecutor(config) as executor:
            async with Session(storage=storage, executor=executor) as session:
                ...
    """

    def __init__(self, config: ContainerConfig | None = None) -> None:
        self.config = config if config is not None else ContainerConfig()
        self._lock = threading.Lock()
        self._held: dict[_server.ServerSpec, _server.Lease] | None = None

    def supported_capabilities(self) -> set[str]:
        """The names in ``Capability`` that hold."""
        everywhere = {Capability.TIMEOUT, Capability.PROCESS_ISOLATION, Capability.RESET,
                      Capability.DEPS_INSTALL, Capability.DEPS_UNINSTALL}
        if self.config.remote_url is not None:
            return everywhere  # whose limits are its own
        return everywhere | {Capability.NETWORK_ISOLATION, Capability.FILESYSTEM_ISOLATION,
                             Capability.MEMORY_LIMIT, Capability.CPU_LIMIT}

    def supports(self, capability: str) -> bool:
        """Whether ``supported_capabilities`` has it."""
        return capability in self.supported_capabilities()

    def get_configured_deps(self) -> list[str]:
        """The requirement lines of the configuration."""
        return self.config.requirements()

    def server_spec(self, storage: Storage | None) -> _server.ServerSpec:
        """What a private server on this storage is started with."""
        environment: dict[str, str] = {}
        if storage is not None:
            environment.update(storage.server_environment())
        environment.update(self.config.server_environment())
        return _server.ServerSpec(
            settings=json.dumps(self.config.settings(), sort_keys=True),
            environment=tuple(sorted(environment.items())), host=self.config.host,
            port=self.config.port, token=self.config.auth_token,
            startup_seconds=self.config.startup_timeout)

    async def acquire(self, storage: Storage | None) -> _server.Lease | None:
        """A lease of the private server for a session; None when the server is a remote one.

        Raises ServerNotFound, ServerStartError, or OSError when the storage cannot be made.
        """
        if self.config.remote_url is not None:
            return None
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(None, self._acquire, storage)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            waiting.add_done_callback(_release_unwanted)
            raise

    def _acquire(self, storage: Storage | None) -> _server.Lease:
        if storage is not None:
            storage.prepare()
        spec = self.server_spec(storage)
        lease = _server.acquire(spec)
        with self._lock:
            if self._held is not None and spec not in self._held:
                self._held[spec] = _server.acquire(spec)
        return lease

    async def __aenter__(self) -> ContainerExecutor:
        self._held = {}
        return self

    async def __aexit__(self, *exception: object) -> None:
        with self._lock:
            held, self._held = self._held or {}, None
        for lease in held.values():
            await release(lease)


async def release(lease: _server.Lease) -> None:
    """Gives a lease back without blocking the event loop, even when the caller is cancelled."""
    loop = asyncio.get_running_loop()
    await asyncio.shield(loop.run_in_executor(None, lease.release))


def _release_unwanted(done: asyncio.Future[_server.Lease]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.get_loop().run_in_executor(None, done.result().release)
